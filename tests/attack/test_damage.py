"""Damage of a gallery, of one row or one bit: it is named, left out and mended, and never answered in silence."""

import contextlib
import logging
import os
import random
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from crossatnet.data.images import Modality, load_image
from crossatnet.gallery import Gallery
from crossatnet.gallery.ingest import folder as folder_module
from crossatnet.gallery.sqlite.checking import Embed, check, repair
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import Thumbnails, thumbnail
from crossatnet.system.errors import ImageError, UserError
from gallery.fake_model import FakeModel
from server.serving import picture

FLIPS = int(os.environ.get("ATTACK_FLIPS", "150"))
PICTURES = 24


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A closed gallery of pictures in two classes, with thumbnails."""
    for number in range(PICTURES):
        path = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        gallery.add_folder(tmp_path / "pictures")
    return tmp_path / "my.gallery"


def answers(place: Path) -> list[object]:
    """What a user may see of a gallery."""
    with Gallery.open(place, FakeModel()) as gallery:
        hits = [gallery.search(picture(number), 5) for number in (1, 5, 9)]
        stored = gallery.store.pictures([hit.id for hit in hits[0]])
        filtered = [hit.path for hit in gallery.search(picture(3), PICTURES, filter=_only("cat"))]
        return [hits, stored, filtered, gallery.store.classes(), len(gallery), len(hits[0])]


def _only(name: str):  # type: ignore[no-untyped-def]
    from crossatnet.gallery import Filter

    return Filter(class_names=(name,))


def embed_into(copy: Path) -> Embed:
    def embed(path: Path, class_name: str | None) -> None:
        with Gallery.open(copy, FakeModel()) as gallery:
            gallery.add_picture(path, class_name)

    return embed


CHANGES = {
    "an embedding of another length": "UPDATE items SET embedding = x'0011' WHERE id = 5",
    "a code of another length": "UPDATE items SET code = x'00' WHERE id = 5",
    "text in place of an embedding": "UPDATE items SET embedding = 'owl' WHERE id = 5",
    "a number in place of a code": "UPDATE items SET code = 12 WHERE id = 5",
    "another embedding": "UPDATE items SET embedding = (SELECT embedding FROM items WHERE id = 6) WHERE id = 5",
    "an embedding of NaN": f"UPDATE items SET embedding = x'{'007e' * 16}' WHERE id = 5",
    "another path": "UPDATE items SET path = path || 'x' WHERE id = 5",
    "another class": "UPDATE items SET class_name = 'dug' WHERE id = 5",
    "a size of text": "UPDATE items SET size = 'many' WHERE id = 5",
    "another content": "UPDATE items SET content_hash = 'abc' WHERE id = 5",
    "another checksum": "UPDATE items SET checksum = 12345 WHERE id = 5",
}


def changed(place: Path, *statements: str) -> None:
    with closing(sqlite3.connect(place)) as connection:
        connection.create_function("row_sum", -1, lambda *_: None)
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("is_old", [False, True])
def test_a_damaged_row_is_left_out_named_and_made_again(
    place: Path, change: str, is_old: bool, caplog: pytest.LogCaptureFixture
) -> None:
    truth = answers(place)
    if is_old:  # a row of an older version has no checksum: only what cannot be a row is noticed
        if not any(part in change for part in ("x'00", "'owl'", "= 12 ", "007e", "'many'")):
            return  # not to be noticed without a checksum
        changed(place, "UPDATE items SET checksum = NULL")
    changed(place, change)
    with caplog.at_level(logging.WARNING), Gallery.open(place, FakeModel()) as gallery:
        hits = gallery.search(picture(4), PICTURES)  # the picture of row 5 among them
        assert len(hits) == PICTURES - 1
        assert 5 not in [hit.id for hit in hits]
        gallery.search(picture(4), PICTURES)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "5 (" in line
    assert "--repair" in line
    findings = check(place)
    assert [fault.id for fault in findings.faults] == [5]
    assert findings.rows == PICTURES - 1
    lost = repair(place, embed_into)[1]
    if "path" in change:
        assert [fault.id for fault in lost] == [5]  # nobody knows which file it was; the next index run finds it
        return
    assert lost == ()
    assert check(place).are_none
    mended = answers(place)
    if "class_name" not in change:
        assert [paths_of(hits) for hits in mended[0]] == [paths_of(hits) for hits in truth[0]]  # type: ignore[attr-defined]


def paths_of(hits: Sequence[object]) -> list[str]:
    return [hit.path for hit in hits]  # type: ignore[attr-defined]


def test_a_whole_gallery_is_left_as_it_is(place: Path) -> None:
    before = place.read_bytes()
    assert check(place).are_none
    assert repair(place, embed_into) == (check(place), ())
    assert place.read_bytes() == before


def test_what_cannot_be_opened_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no gallery " * 999, encoding="utf-8")
    for name in ("text", "none"):
        with pytest.raises(UserError):
            check(tmp_path / name)


def test_damaged_pages_are_mended_as_far_as_they_can_be(place: Path, tmp_path: Path) -> None:
    content = bytearray(place.read_bytes())
    random.seed(3)
    pages = len(content) // 4096
    for page in random.sample(range(8, pages), pages // 6):
        content[page * 4096 : page * 4096 + 200] = bytes(200)
    place.write_bytes(content)
    try:
        assert not check(place).are_none
    except UserError:
        return  # not to be opened at all, and said so
    repair(place, embed_into)
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.add_folder(tmp_path / "pictures")
        assert len(gallery) == PICTURES
    assert check(place).are_none


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.mark.attack
def test_no_flipped_bit_changes_an_answer_in_silence(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth, content, chance = answers(place), place.read_bytes(), random.Random(int(os.environ.get("ATTACK_SEED", "1")))
    counts = {"as before": 0, "refused": 0, "named": 0}
    silent = []
    for number in range(FLIPS):
        one = tmp_path / "one.gallery"
        one.write_bytes(flipped(content, chance))
        caplog.clear()
        try:
            with caplog.at_level(logging.WARNING):
                found = answers(one)
        except UserError:
            counts["refused"] += 1
        else:
            if repr(found) == repr(truth):
                counts["as before"] += 1
            elif caplog.records:
                counts["named"] += 1
            else:
                silent.append((number, [a for a, b in zip(found, truth, strict=True) if repr(a) != repr(b)]))
        for file in tmp_path.glob("one.gallery*"):
            file.unlink()
    print(f"{FLIPS} flips: {counts}, silent {len(silent)}")
    assert not silent, silent[:3]


@pytest.mark.attack
def test_flips_of_the_side_file_change_no_answer(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossatnet.gallery.sqlite.present.UNFLUSHED", 5)
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.store.flush()
    truth, side = answers(place), place.with_name(place.name + "-index")
    content, chance = side.read_bytes(), random.Random(2)
    for _ in range(FLIPS):
        side.write_bytes(flipped(content, chance))
        assert repr(answers(place)) == repr(truth)


def test_two_first_runs_at_once_count_each_picture_once(tmp_path: Path) -> None:
    """Both runs begin before the other has stored anything; together they say how many pictures there are."""
    for number in range(PICTURES):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    Gallery.create(tmp_path / "my.gallery", FakeModel()).close()
    met = threading.Barrier(2)

    class Slow(FakeModel):
        def hash(self, embeddings: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            with contextlib.suppress(threading.BrokenBarrierError):
                met.wait(5)
            return super().hash(embeddings)

    def run(_: int) -> tuple[int, int]:
        with Gallery.open(tmp_path / "my.gallery", Slow()) as gallery:
            summary = gallery.add_folder(tmp_path)
            return summary.added, summary.unchanged

    with ThreadPoolExecutor(2) as pool:
        counted = [*pool.map(run, range(2))]
    assert sum(added for added, _ in counted) == PICTURES
    assert all(added + unchanged == PICTURES for added, unchanged in counted)


def test_embeddings_that_are_not_finite_are_not_stored(tmp_path: Path) -> None:
    class Broken(FakeModel):
        def embed(self, pixels: np.ndarray, modality: Modality) -> np.ndarray:  # type: ignore[type-arg]
            made = super().embed(pixels, modality)
            made[0] = (np.nan, np.inf, *made[0][2:])
            return made

    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    with Gallery.create(tmp_path / "my.gallery", Broken()) as gallery:
        summary = gallery.add_folder(tmp_path)
        assert (summary.added, len(summary.skipped), len(gallery)) == (2, 1, 2)
        assert "NaN or infinite" in summary.skipped[0][1]
        facts = gallery.store.pictures([1])[1].facts
        with pytest.raises(UserError, match="NaN or infinite"):
            gallery.store.put([facts], np.zeros((1, 8), np.uint8), np.full((1, 16), np.nan, np.float32))


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the file's place after the folder was listed."""
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    listed = folder_module.list_pictures

    def then_a_pipe(*arguments: object) -> object:
        found = listed(*arguments)  # type: ignore[arg-type]
        (tmp_path / "1.png").unlink(missing_ok=True)
        os.mkfifo(tmp_path / "1.png")
        return found

    monkeypatch.setattr(folder_module, "list_pictures", then_a_pipe)
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        summary = gallery.add_folder(tmp_path)
    assert (summary.added, [path for path, _ in summary.skipped]) == (2, [str(tmp_path / "1.png")])
    assert "pipe" in summary.skipped[0][1]
    with pytest.raises(ImageError, match="pipe"):
        load_image(tmp_path / "1.png")


def test_a_forged_thumbnail_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(picture(1))
    with Gallery.create(tmp_path / "my.gallery", FakeModel(), thumbnail_side=64) as gallery:
        gallery.add_folder(tmp_path / "pictures")
        for forged in (b"<html>owl</html>", b"\xff\xd8<script>", b""):
            gallery.store._file._connection.execute("UPDATE thumbnails SET jpeg = ?", (forged,))  # type: ignore[attr-defined]
            sent = thumbnail(Served("my", "my", gallery), gallery.store.pictures([1])[1], Thumbnails())
            assert load_image(sent).size == (80, 60)
