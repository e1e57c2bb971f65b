"""The two collections of a gallery on a Milvus server: their fields, and the descriptions that identify them."""

import json
from dataclasses import asdict
from typing import Any

from crossatnet.gallery.backend import STORED_FLOAT, MadeWith
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError

CODES, EMBEDDINGS = "crossatnet codes", "crossatnet embeddings"  # kinds of collections, kept in their descriptions
FORMAT = 1
SHARDS = 2  # so many nodes can write at once; searches use all nodes in any case
LONGEST_PATH, LONGEST_CLASS, HASH_LETTERS = 4096, 1024, 64  # bytes


def embeddings_name(address: Address) -> str:
    """The name of the collection of embeddings; the collection of codes has the gallery's own name."""
    return f"{address.name}_embeddings"


def create_codes(connection: Connection, collection: str, made_with: MadeWith) -> None:
    """Make the collection of codes and facts, empty and ready to be searched."""
    from pymilvus import DataType

    schema = _schema(CODES, made_with)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("code", DataType.BINARY_VECTOR, dim=made_with.code_bits)
    schema.add_field("embedding_id", DataType.INT64)
    schema.add_field("path", DataType.VARCHAR, max_length=LONGEST_PATH)
    schema.add_field("class_name", DataType.VARCHAR, max_length=LONGEST_CLASS)
    schema.add_field("content_hash", DataType.VARCHAR, max_length=HASH_LETTERS)
    for name in ("size", "mtime_ns", "width", "height", "added"):
        schema.add_field(name, DataType.INT64)
    _create_collection(connection, collection, schema, "code")


def create_embeddings(connection: Connection, collection: str, made_with: MadeWith) -> None:
    """Make the collection of embeddings: half-precision numbers, as the bits of a binary vector.

    Milvus 2.3 has no half-precision vectors. These bits are only read, never searched.
    """
    from pymilvus import DataType

    schema = _schema(EMBEDDINGS, made_with)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.BINARY_VECTOR, dim=8 * STORED_FLOAT.itemsize * made_with.dimension)
    _create_collection(connection, collection, schema, "embedding")


def _schema(part: str, made_with: MadeWith) -> Any:
    from pymilvus import MilvusClient

    description = json.dumps({"kind": part, "format": FORMAT, "checkpoint": asdict(made_with)})
    return MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=description)


def _create_collection(connection: Connection, collection: str, schema: Any, vector: str) -> None:
    from pymilvus import MilvusClient

    index = MilvusClient.prepare_index_params()
    index.add_index(vector, index_type="BIN_FLAT", metric_type="HAMMING")  # exact; Milvus loads none without index
    settings = {"schema": schema, "index_params": index, "consistency_level": "Strong", "num_shards": SHARDS}
    connection.call("create_collection", collection, **settings)


def read_made_with(connection: Connection, collection: str, part: str) -> MadeWith:
    """The model of a gallery's collection. Raises `UserError` if another program made it, or in another format."""
    try:
        description = parse_json(connection.call("describe_collection", collection)["description"])
        is_ours = description["kind"] == part
    except (ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{connection.address}: {collection} is not a gallery of crossatnet there; give another name")
    if description["format"] != FORMAT:
        raise UserError(
            f"{connection.address}: has format {description['format']}, this version reads {FORMAT};"
            " use the version that made it, or index under another name"
        )
    return MadeWith(**description["checkpoint"])
