"""The collection of a gallery on a Milvus server: its fields, and the description that identifies it."""

import json
from dataclasses import asdict

from crossatnet.gallery.backend import MadeWith
from crossatnet.gallery.milvus.calls import Connection
from crossatnet.gallery.milvus.rows import embedding_letters
from crossatnet.gallery.milvus.table import LISTS, REGIONS
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError

KIND = "crossatnet codes"  # of collection, kept in its description
FORMAT = 2  # 1 kept embeddings in a collection of their own
REGIONS_FORMAT = 3  # with regions; another, as who knows nothing of them would take them for pictures
SHARDS = 2  # so many nodes can write at once; searches use all nodes in any case
LONGEST_PATH, LONGEST_CLASS, HASH_LETTERS = 4096, 1024, 64  # bytes


def create_collection(connection: Connection, collection: str, made_with: MadeWith) -> None:
    """Make the collection, empty and ready to be searched.

    Milvus 2.3 allows one vector field in a collection, and none of half precision. So the embedding, which is only
    read, is kept as text: Base64 of its half-precision numbers.

    Where regions are kept, each row names its whole picture by its id. A box is four bytes as one number.
    """
    from pymilvus import DataType, MilvusClient

    number = REGIONS_FORMAT if made_with.regions else FORMAT
    description = json.dumps({"kind": KIND, "format": number, "checkpoint": asdict(made_with)})
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("code", DataType.BINARY_VECTOR, dim=made_with.code_bits)
    schema.add_field("embedding", DataType.VARCHAR, max_length=embedding_letters(made_with.dimension))
    schema.add_field("path", DataType.VARCHAR, max_length=LONGEST_PATH)
    schema.add_field("class_name", DataType.VARCHAR, max_length=LONGEST_CLASS)
    schema.add_field("content_hash", DataType.VARCHAR, max_length=HASH_LETTERS)
    for name in ("size", "mtime_ns", "width", "height", "added", *["whole", "box"] * made_with.regions):
        schema.add_field(name, DataType.INT64)
    index = MilvusClient.prepare_index_params()
    index.add_index("code", index_type="BIN_IVF_FLAT", metric_type="HAMMING", params={"nlist": LISTS})
    settings = {"schema": schema, "index_params": index, "consistency_level": "Strong", "num_shards": SHARDS}
    connection.call("create_collection", collection, **settings)
    load_collection(connection, collection, made_with)


def load_collection(connection: Connection, collection: str, made_with: MadeWith) -> None:
    """Make a collection that is there ready to be searched; and whole, if the program was killed while making it."""
    if made_with.regions and not connection.call("has_partition", collection, REGIONS):
        connection.call("create_partition", collection, REGIONS)
    connection.call("load_collection", collection)


def read_made_with(connection: Connection, collection: str) -> MadeWith:
    """The model of a gallery's collection. Raises `UserError` if another program made it, or in another format."""
    try:
        description = parse_json(connection.call("describe_collection", collection)["description"])
        is_ours = description["kind"] == KIND
    except (ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{connection.address}: {collection} is not a gallery of crossatnet there; give another name")
    if description["format"] not in (FORMAT, REGIONS_FORMAT):
        raise UserError(
            f"{connection.address}: has format {description['format']}, this version reads {FORMAT} and"
            f" {REGIONS_FORMAT}; use the version that made it, or index under another name"
        )
    return MadeWith(**description["checkpoint"])
