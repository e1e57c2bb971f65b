"""The score of any other model: from a file of its embeddings or hash codes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from crossatnet.evaluation.embedding_files import EmbeddingFile, file_hash, read_embeddings
from crossatnet.evaluation.protocol import SEED
from crossatnet.evaluation.results import (
    DEFINITIONS,
    INSTANCE_DEFINITIONS,
    Level,
    Results,
    Row,
    machine,
    score,
    score_instances_of,
)
from crossatnet.system.errors import UserError


def evaluate_embeddings(path: Path, at: Sequence[int] = (100, 200), level: Level = "class") -> Results:
    """Score a file of embeddings or codes of any model, as `read_embeddings` takes it.

    The file does not name its data. So `data` is a hash of the classes of queries and gallery, and only files with the
    same task can be compared. With `level` "instance" the file also has `query_instance` and `gallery_instance`, the
    name of the very thing that each row shows. Raises `UserError` for a file that cannot be scored.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.embeddings import evaluate_embeddings
        >>> file = tmp_path / "mine.npz"
        >>> np.savez(file, query=np.eye(2), query_class=["cat", "dog"], gallery=np.eye(2), gallery_class=["cat", "dog"])
        >>> evaluate_embeddings(file, at=(1,)).rows[0].metrics
        {'mAP@all': 1.0, 'P@1': 1.0}
    """
    return evaluate_file(read_embeddings(path), at, level)


def evaluate_file(file: EmbeddingFile, at: Sequence[int] = (100, 200), level: Level = "class") -> Results:
    """As `evaluate_embeddings`, of what was read."""
    path = file.path
    dimension = file.query.shape[1] * (8 if file.query.dtype == np.uint8 else 1)
    lists = file.instance_lists if level == "instance" else []
    try:
        if level == "instance":
            row: Row = score_instances_of(path.stem, dimension, file.query, file.gallery, lists)[0]
        else:
            row = score(path.stem, dimension, file.query, file.gallery, file.task, at)[0]
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Results(
        checkpoint=path.name,
        fingerprint=file_hash(path),
        data=f"classes {file.task_hash[:16]}",
        split="as in the file",
        direction="query->gallery",
        setting="as in the file",
        level=level,
        queries=len(file.query),
        gallery=len(file.gallery),
        classes=len(row.per_class),
        unusable=[],
        duplicates=[],
        definitions=INSTANCE_DEFINITIONS if level == "instance" else DEFINITIONS,
        rows=[row],
        seed=SEED,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )
