"""The JSON of requests and answers. Numbers must be numbers: "24" is not 24."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossatnet.gallery import Ranking
from crossatnet.server.settings import (
    DEEPEST_HIT,
    LARGEST_COORDINATE,
    MOST_CLASSES,
    MOST_HITS,
    MOST_POINTS,
    MOST_STROKES,
)

Coordinate = Annotated[float, Field(strict=True, ge=-LARGEST_COORDINATE, le=LARGEST_COORDINATE, allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]
Stroke = Annotated[list[Point], Field(min_length=1, max_length=MOST_POINTS)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_HITS)]
Offset = Annotated[int, Field(strict=True, ge=0, le=DEEPEST_HIT)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
HOUSE: list[list[tuple[float, float]]] = [
    [(20, 50), (20, 90), (80, 90), (80, 50), (20, 50)],
    [(12, 56), (50, 15), (88, 56)],
    [(44, 90), (44, 66), (58, 66), (58, 90)],
]


class Input(BaseModel):
    """The JSON that a client sends; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class Drawn(Input):
    """A drawing as strokes."""

    strokes: Annotated[
        list[Stroke],
        Field(
            min_length=1,
            max_length=MOST_STROKES,
            description="Each a list of points (x, y) in any unit, y growing downwards. One point is a dot.",
            examples=[HOUSE],
        ),
    ]

    @model_validator(mode="after")
    def _bounded(self) -> "Drawn":
        if sum(len(stroke) for stroke in self.strokes) > MOST_POINTS:
            raise ValueError(f"more than {MOST_POINTS:,} points in all; leave some out")
        return self


class StrokesQuery(Drawn):
    """A search by strokes."""

    k: Count = 24
    offset: Offset = 0
    ranking: Ranking = "float"
    class_names: Annotated[list[ClassName], Field(max_length=MOST_CLASSES, description="Only of these classes.")] = []


class HitAnswer(BaseModel):
    """One picture found, with the addresses of its thumbnail and of the picture itself."""

    id: Annotated[str, Field(description="64-bit integer, as text.", examples=["123"])]
    score: Annotated[
        float,
        Field(
            description="`float`: cosine, -1..1. `code`: share of equal bits, 0..1. `guided`: mean of two cosines.",
            examples=[0.53],
        ),
    ]
    class_name: Annotated[str | None, Field(examples=["owl"])]
    file_name: Annotated[str, Field(examples=["owl.jpg"])]
    width: int
    height: int
    thumbnail: Annotated[str, Field(examples=["/api/v1/galleries/birds/items/123/thumbnail?v=5f2e9c01"])]
    image: Annotated[str, Field(examples=["/api/v1/galleries/birds/items/123/image?v=5f2e9c01"])]


class Milliseconds(BaseModel):
    """Where the time went: `network` draws and embeds the query, `total` counts from the request to the answer."""

    network: float
    search: float
    total: float


class SearchAnswer(BaseModel):
    """A page of hits, best first. `pictures` is how many the gallery holds; `next_offset` null ends it."""

    hits: list[HitAnswer]
    offset: int
    k: int
    pictures: int
    next_offset: int | None
    milliseconds: Milliseconds


class ItemAnswer(BaseModel):
    """The facts of a picture. `size` in bytes, `added` in ISO 8601."""

    id: str
    class_name: str | None
    file_name: str
    size: int
    width: int
    height: int
    added: str
    thumbnail: str
    image: str


class GalleryAnswer(BaseModel):
    """A gallery. `guided`: it allows this ranking; `uploads`: it accepts pictures."""

    name: Annotated[str, Field(description="The gallery's name in addresses.", examples=["birds"])]
    title: str
    pictures: int
    checkpoint: str
    guided: bool
    code_bits: int
    uploads: bool
    credits: str | None


class GalleriesAnswer(BaseModel):
    """All galleries that are served; the first is the default."""

    galleries: list[GalleryAnswer]


class GalleryStatistics(GalleryAnswer):
    """A gallery with its statistics; `bytes` is null if the gallery is on a Milvus server."""

    dimension: int
    fingerprint: str
    thumbnail_side: int
    bytes: int | None
    class_counts: dict[str, int]


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Ready(BaseModel):
    """Every gallery answers."""

    status: Literal["ready"] = "ready"


class ErrorFacts(BaseModel):
    """`code` for programs, `message` for people: what was wrong, where, and what to do next."""

    code: Annotated[str, Field(examples=["not_found"])]
    message: Annotated[str, Field(examples=["no gallery named 'bird'; there are: birds, demo"])]


class ErrorAnswer(BaseModel):
    """The one form of all errors."""

    error: ErrorFacts
