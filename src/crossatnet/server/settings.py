"""What a server is started with, and the limits it keeps."""

from dataclasses import dataclass
from pathlib import Path

from crossatnet.system.threads import cores

# What one request may ask for
MOST_HITS = 200  # of one page
DEEPEST_HIT = 10_000  # offset and page together
MOST_CLASSES = 100  # in a condition
MOST_STROKES, MOST_POINTS = 2_000, 20_000
LARGEST_COORDINATE = 1e6
STROKES_BYTES = 1_000_000
PICTURE_BYTES = 20_000_000
UPLOAD_PIXELS = 40_000_000
LOGIN_BYTES = 10_000
BODY_SECONDS = 30.0  # from its first byte to its last
JOB_SECONDS = 30.0  # from its place in the queue to the answer

# How much is done at once, in each worker
SEARCHES_WAITING = 64
PICTURES_AT_ONCE, PICTURES_WAITING = 2, 256  # a page of hits asks for as many thumbnails
RETRY_AFTER = 1  # seconds

# Sides of pictures, in pixels
THUMBNAIL_SIDE, EXPLANATION_SIDE, IMAGE_SIDE = 256, 640, 2048
THUMBNAILS_KEPT = 4_000  # of some 10 kB, in memory

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """A gallery to serve: its file or address, what to call it (its own name if empty), and whose pictures it shows."""

    place: str
    title: str = ""
    credits: str | None = None


@dataclass(frozen=True)
class Settings:
    """What `crossatnet serve` was told. `token` None asks for none; `uploads` None allows none."""

    places: tuple[Place, ...]
    host: str = LOOPBACK[0]
    port: int = 8000
    token: str | None = None
    uploads: Path | None = None
    checkpoint: str | None = None
    workers: int = 1
    searches: int = 0  # at once in each worker; 0 for as many as there are cores for it
    access_log: bool = True

    @property
    def searches_at_once(self) -> int:
        """How many searches one worker does at the same time, each on one core."""
        return self.searches or max(1, cores() // self.workers)

    def __repr__(self) -> str:
        """Without the token, so that no log or traceback shows it."""
        return f"Settings({', '.join(place.place for place in self.places)} at {self.host}:{self.port})"
