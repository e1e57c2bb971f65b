"""The file that tells how sure hits are: read, refused, or passed over."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossatnet.model.checkpoint import CONFIDENCE, WEIGHTS, weights_hash
from crossatnet.model.confidence import Confidence, read_confidence
from crossatnet.system.errors import UserError

FITTED = {"intercept": -4, "score": 6, "outstanding": 0.5, "sure": 0.7, "fitted_on": "a test"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    return tmp_path


def write(folder: Path, **changes: object) -> None:
    content = {"format": 1, "weights": weights_hash(folder), **FITTED, **changes}
    (folder / CONFIDENCE).write_text(json.dumps(content), encoding="utf-8")


def test_chances_grow_with_the_score_and_with_what_stands_out(folder: Path) -> None:
    write(folder)
    found = read_confidence(folder)
    assert found is not None
    scores, crowd, few = np.array([0.9, 0.5, 0.1]), np.array([0.6, 0.7, 0.8]), np.array([-0.1, 0.0, 0.1])
    among_few = found.chances(scores, few)
    assert (np.diff(among_few) < 0).all()
    assert (found.chances(scores, crowd) < among_few).all()
    z = (0.5 - np.mean(few)) / np.std(few)
    assert among_few[1] == pytest.approx(1 / (1 + np.exp(-(-4 + 6 * 0.5 + 0.5 * z))))


def test_equal_pictures_and_huge_scores_give_finite_chances(folder: Path) -> None:
    write(folder)
    found = read_confidence(folder)
    assert found is not None
    chances = found.chances(np.array([1.0, -1.0]), np.zeros(3))
    assert chances == pytest.approx([1, 0])


def test_a_fit_for_other_weights_does_not_count(folder: Path) -> None:
    write(folder)
    (folder / WEIGHTS).write_bytes(b"other weights")
    assert read_confidence(folder) is None
    (folder / CONFIDENCE).unlink()
    assert read_confidence(folder) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "newer than this version reads"),
        ({"score": -1}, "damaged"),
        ({"score": float("nan")}, "damaged"),
        ({"sure": 0}, "damaged"),
        ({"more": 1}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused_by_name(folder: Path, changes: dict[str, object], words: str) -> None:
    write(folder, **changes)
    with pytest.raises(UserError, match=words) as caught:
        read_confidence(folder)
    assert CONFIDENCE in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_fit_is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIDENCE).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_confidence(folder)


def test_a_confidence_says_what_it_was_fitted_on() -> None:
    assert Confidence(weights="", **FITTED).fitted_on == "a test"  # type: ignore[arg-type]
