"""The settings of a server, and its limits."""

from dataclasses import dataclass
from pathlib import Path

from crossatnet.system.consistency import Consistency
from crossatnet.system.recall import RECALL
from crossatnet.system.threads import cores

# # Limits of one request
MOST_HITS = 200  # on one page
DEEPEST_HIT = 10_000  # offset and page together
MOST_CLASSES, MOST_TAGS = 100, 20  # in one condition
MOST_COPIES = 100  # named with one hit
MOST_GALLERIES = 20  # searched as one
MOST_SELECTED = 500  # pictures in one archive
ARCHIVE_BYTES = 4_000_000_000  # of the pictures in it
MOST_PLACES = 500  # folders listed at once
MOST_STROKES, MOST_POINTS = 2_000, 20_000
LARGEST_COORDINATE = 1e6
STROKES_BYTES = 1_000_000
PICTURE_BYTES = 20_000_000
BODIES_BYTES = 150_000_000  # of all bodies at once, in each worker
UPLOAD_PIXELS = 40_000_000
LOGIN_BYTES = 10_000
BODY_SECONDS = 30.0  # from the first byte of a body to the last
JOB_SECONDS = 30.0  # from the queue to the answer

# # Work at the same time, in each worker
SEARCHES_WAITING = 64
PICTURES_AT_ONCE, PICTURES_WAITING = 2, 256  # so many, as a page of hits asks for all its thumbnails at once
DECODING_AT_ONCE, DECODING_WAITING = 4, 32  # pictures that were sent, while they are read
DECODERS = 2  # processes of a server that read what may take long; each worker has one at least
DECODER_SECONDS, DECODER_BYTES = 5, 600_000_000  # of processor time and memory, for one picture
PIXELS_IN_WORKER = 2_000_000  # plain pictures of so few pixels are read in the worker itself
RETRY_AFTER = 1  # seconds

# Sides of pictures, in pixels
THUMBNAIL_SIDE, EXPLANATION_SIDE, IMAGE_SIDE = 256, 640, 2048
THUMBNAILS_KEPT = 4_000  # in memory, about 10 kB each

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """A gallery to serve: its file or address, its title (its own name if empty), and the credits of its pictures."""

    place: str
    title: str = ""
    credits: str | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of `crossatnet serve`. `token` None: requests need no token; `uploads` None: no uploads."""

    places: tuple[Place, ...]
    host: str = LOOPBACK[0]
    port: int = 8000
    token: str | None = None
    uploads: Path | None = None
    checkpoint: str | None = None
    folders: tuple[Path, ...] = ()  # in and below these, folders may be added; resolved
    embedder: str | None = None  # MODULE:OBJECT, which each worker imports
    consistency: Consistency = "session"  # of galleries on a Milvus server
    recall: float = RECALL  # of large galleries
    workers: int = 1
    searches: int = 0  # at once in each worker; 0: one for each core of its share
    access_log: bool = True
    behind_proxy: bool = False  # believe X-Forwarded-For and -Proto of this machine

    @property
    def searches_at_once(self) -> int:
        """How many searches one worker does at the same time, each on one core."""
        return self.searches or max(1, cores() // self.workers)

    def __repr__(self) -> str:
        """Without the token, so that no log or traceback shows it."""
        return f"Settings({', '.join(place.place for place in self.places)} at {self.host}:{self.port})"
