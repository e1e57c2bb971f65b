"""The report of an evaluation: its page end to end, and the numbers it adds by hand."""

import base64
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import Split
from crossatnet.evaluation.results import Results
from crossatnet.evaluation.zero_shot import ZeroShotTest
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet
from crossatnet.report.page import check_output, confusion, extremes, first_hits, report_checkpoint
from crossatnet.system.errors import UserError
from oracles import metrics as oracle
from tiny_data import SEEN, UNSEEN, write_tiny

HOSTILE = "<script>$alert$"
CLASS_SECTIONS = [
    "Score of each class",
    "The shared space",
    "Best queries",
    "Worst queries",
    "Confusion between classes",
]
SECTIONS = [*CLASS_SECTIONS, "Precision and recall", "Length of the hash codes", "What a sketch looks at"]


def make_report(folder: Path, pictures: int, heads: int = 8) -> tuple[str, Results]:
    """The page of a network that knows nothing, on two classes of which one has a hostile name."""
    write_tiny(folder / "data", pictures)
    catalog = read_catalog(folder / "data", "folder", quiet=True, classes=UNSEEN)
    items = [replace(item, class_name=HOSTILE) if item.class_name == UNSEEN[0] else item for item in catalog.items]
    catalog = replace(catalog, items=tuple(items))  # read from a folder, a name is letters and digits alone
    split = Split("tiny", SEEN, (HOSTILE, UNSEEN[1]))
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=64, dimension=16, attention_heads=heads, code_lengths=(64, 16))).eval()
    network.name = "shapes"
    provenance = Provenance(
        data="shapes",
        layout="folder",
        split="tiny",
        training_classes=SEEN,
        validation_classes=(),
        seed=5,
        epochs=1,
        validation_map=0.5,
    )
    path = folder / "new" / "page.html"
    results = report_checkpoint(
        {"shapes": network}, ZeroShotTest(folder, provenance, split, catalog), path, "crossatnet report <x>", True
    )
    return path.read_text(encoding="utf-8"), results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[str, Results]:
    return make_report(folder, pictures=3)


@pytest.fixture
def html(made: tuple[str, Results]) -> str:
    return made[0]


def test_the_page_has_every_section_and_every_row(html: str, made: tuple[str, Results]) -> None:
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert sorted(titles) == sorted(["Scores on unseen classes", *SECTIONS, "How to repeat it"])
    codes = [f"shapes, {bits} bits{way}" for bits in (64, 16) for way in ("", ", asymmetric")]
    assert [row.model for row in made[1].rows] == ["shapes", *codes]
    for row in made[1].rows:
        assert row.interval is not None
        assert f"<td>{row.model}</td>" in html
        assert f"<td>{row.metrics['mAP@all']:.3f}</td>" in html
        assert f"<td>{row.interval[0]:.3f} to {row.interval[1]:.3f}</td>" in html


def test_the_results_stand_beside_the_page(folder: Path, made: tuple[str, Results]) -> None:
    assert Results.model_validate_json((folder / "new" / "page.json").read_text()) == made[1]


def test_the_page_asks_nobody_and_its_pictures_have_texts(html: str) -> None:
    assert not re.search(r"""(src|href)=["']?(?!["']?data:)""", html)
    assert "@import" not in html
    assert "url(" not in html
    images = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="([^"]+)">', html)
    assert len(images) == html.count("<img") == len(SECTIONS)
    for encoded, _ in images:
        picture = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
        picture.load()
        assert picture.format == "PNG"


def test_every_picture_is_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[int] = []
    embed = CrossATNet.embed

    def counted(network: CrossATNet, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        embedded.append(len(pixels))
        return embed(network, pixels, modality)

    monkeypatch.setattr(CrossATNet, "embed", counted)
    make_report(tmp_path, pictures=1)
    assert sum(embedded) == 2 * len(UNSEEN)


def test_names_are_shown_and_not_run(html: str) -> None:
    assert "<script" not in html
    assert HOSTILE in unescape(html)
    assert "crossatnet report &lt;x&gt;" in html


def test_one_picture_a_class_has_no_figures_about_classes(tmp_path: Path) -> None:
    html, _ = make_report(tmp_path, pictures=1)
    assert not [title for title in CLASS_SECTIONS if f"<h2>{title}" in html]
    assert "<h2>Precision and recall</h2>" in html


def test_no_attention_no_maps(tmp_path: Path) -> None:
    html, _ = make_report(tmp_path, pictures=1, heads=0)
    assert "What a sketch looks at" not in html


def test_first_hits_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    query, gallery = (random.normal(size=(rows, 8)).astype(np.float32) for rows in (600, 9))  # several blocks
    gallery[5] = gallery[2]  # a tie, which keeps the gallery's order
    query, gallery = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (query, gallery))
    hits = first_hits(query, gallery, 4)
    assert hits.shape == (600, 4)
    for one, found in zip(query.tolist(), hits.tolist(), strict=True):
        assert found == oracle.ranking(one, gallery.tolist())[:4]
    assert first_hits(query, gallery, 20).shape == (600, 9)


def test_confusion_is_that_of_a_loop() -> None:
    random = np.random.default_rng(0)
    names = ["ant", "bee", "cat", "dog"]
    query_class = [*names, *random.choice(names[:3], 20).tolist()]
    hit_class = random.choice(names, (24, 5))
    shares = confusion(query_class, hit_class, names)
    for row, asked in enumerate(names):
        found = [name for wanted, hits in zip(query_class, hit_class, strict=True) if wanted == asked for name in hits]
        for column, name in enumerate(names):
            assert shares[row, column] == pytest.approx(found.count(name) / len(found))


def test_extremes_take_one_query_a_class() -> None:
    average_precision = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.7])
    classes = ["ant", "ant", "bee", "bee", "cat", "dog"]
    assert extremes(average_precision, classes, 3) == ([0, 2, 5], [3, 4, 5])
    assert extremes(average_precision, classes, 9) == ([0, 2, 5, 4], [3, 4, 5, 1])


def test_refuses_a_folder_and_what_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder; give the name of a page, such as .*report\.html, with -o"):
        check_output(tmp_path)
    with pytest.raises(UserError, match=r"report\.json: not the name of a page"):
        check_output(tmp_path / "report.json")
    check_output(tmp_path / "report.HTML")
