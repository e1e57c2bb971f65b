"""The JSON of requests and answers. Numbers must be numbers: "24" is not 24."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossatnet.gallery import Ranking
from crossatnet.model.regions import Box
from crossatnet.server.settings import (
    DEEPEST_HIT,
    LARGEST_COORDINATE,
    MOST_CLASSES,
    MOST_GALLERIES,
    MOST_HITS,
    MOST_POINTS,
    MOST_SELECTED,
    MOST_STROKES,
    MOST_TAGS,
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


WORDS = "Only with all these words in path, class, tags or caption, also as beginnings of words."
FOLDER = "Only in a folder of this name, or of these names joined by slashes, wherever it is."
GROUPED = "Pictures that show the same count as one hit, with the others as its `copies`."
ALSO = "Search these galleries too, as if all were one; one checkpoint must have made them."


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


class Conditions(BaseModel):
    """What pictures may be found, and how copies of them are shown."""

    class_names: Annotated[list[ClassName], Field(max_length=MOST_CLASSES, description="Only of these classes.")] = []
    words: Annotated[str, Field(max_length=300, description=WORDS)] = ""
    tags: Annotated[list[ClassName], Field(max_length=MOST_TAGS, description="Only with all these tags.")] = []
    folder: Annotated[str, Field(max_length=1000, description=FOLDER)] = ""
    taken_since: Annotated[date | None, Field(description="Only taken on this day or later.")] = None
    taken_before: Annotated[date | None, Field(description="Only taken earlier than on this day.")] = None
    grouped: Annotated[bool, Field(description=GROUPED)] = False
    also: Annotated[list[ClassName], Field(max_length=MOST_GALLERIES, description=ALSO)] = []


class StrokesQuery(Drawn, Conditions):
    """A search by strokes."""

    k: Count = 24
    offset: Offset = 0
    ranking: Ranking = "float"


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
    gallery: Annotated[str, Field(description="The gallery that holds it.", examples=["birds"])]
    taken: Annotated[str | None, Field(description="By its camera's clock.", examples=["2019-07-14T10:22:33"])]
    gone: Annotated[bool, Field(description="Its file is not where it was: index its folder again.")]
    chance: Annotated[
        float | None,
        Field(description="That it shows the thing drawn, 0..1; null if unknown.", examples=[0.87]),
    ] = None
    sure: Annotated[bool | None, Field(description="Whether the chance is enough to say so; null if unknown.")] = None
    box: Annotated[
        Box | None,
        Field(
            description="The part it was found by: left, top, right, bottom as fractions of it; null: the whole.",
            examples=[(0.1, 0.4, 0.5, 0.9)],
        ),
    ] = None
    copies: Annotated[list["HitAnswer"], Field(description="Others that show the same; if `grouped`.")] = []


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
    reveals: Annotated[bool, Field(description="The server can show a picture's file in this machine's file manager.")]
    indexes: Annotated[bool, Field(description="Folders may be added to it.")]
    credits: str | None


class GalleriesAnswer(BaseModel):
    """All galleries that are served; the first is the default."""

    galleries: list[GalleryAnswer]


class GalleryStatistics(GalleryAnswer):
    """A gallery with its statistics; `bytes` is null if the gallery is on a Milvus server."""

    dimension: int
    fingerprint: str
    thumbnail_side: int
    regions: Annotated[bool, Field(description="Things are also found that are only a part of a picture.")]
    bytes: int | None
    class_counts: dict[str, int]


class PlaceAnswer(BaseModel):
    """Where a picture's file lies on the server's machine, and what is known of the photo."""

    path: str
    gone: bool
    taken: str | None
    camera: str
    has_place: Annotated[bool, Field(description="The file holds a position on Earth, which is not told.")]
    tags: list[str]
    caption: str
    rating: int | None


class SelectedItem(Input):
    """A picture by its gallery and id."""

    gallery: ClassName
    id: Annotated[str, Field(max_length=19)]


class Selection(Input):
    """Some pictures, in order."""

    items: Annotated[list[SelectedItem], Field(min_length=1, max_length=MOST_SELECTED)]


class PathsAnswer(BaseModel):
    """Where the files of some pictures lie, in order."""

    paths: list[str]


class FolderAnswer(BaseModel):
    """A folder as `folder` takes it, below the one that all folders share, and the pictures in it and below."""

    folder: str
    pictures: int


class FoldersAnswer(BaseModel):
    """The folders of a gallery, in order."""

    folders: list[FolderAnswer]


class FolderToIndex(Input):
    """A folder on the server's machine."""

    path: Annotated[str, Field(min_length=1, max_length=4000)]


class IndexingAnswer(BaseModel):
    """What becomes of the folder that is being added, or was added last; `path` null: none was."""

    path: str | None = None
    running: bool = False
    done: int = 0
    total: int = 0
    summary: Annotated[str | None, Field(description="What was done, once it is.")] = None
    error: str | None = None


class PlacesAnswer(BaseModel):
    """A folder on the server's machine that may be added, or null for the first choice, and those directly in it."""

    path: str | None
    parent: str | None
    folders: list[str]


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
