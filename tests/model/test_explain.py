"""Explanations: the place of the colour on a photo, and the order of the photos."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import load_image
from crossatnet.model import explain as explain_module
from crossatnet.model.attention import CrossModalAttention
from crossatnet.model.explain import STRENGTH, attention_overlay, overlays
from crossatnet.model.framing import framed, part_of
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import Box
from crossatnet.report.explanation import COLUMNS, MOST, explain
from crossatnet.report.plots import CELL, GridRow, retrieval_grid
from crossatnet.system.errors import ImageError, UserError
from tiny_data import OUTLINES, draw

PEAK_COLOUR = 255 * np.array(matplotlib.colormaps["inferno"](1.0)[:3])


def make_network(heads: int) -> CrossATNet:
    """A network with random weights and, with heads, attention that is far from uniform; maps of 3 x 3."""
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=96, dimension=16, attention_heads=heads, code_lengths=(16,))).eval()
    network.backbone.load_imagenet_weights()
    if isinstance(network.pooler, CrossModalAttention):
        torch.nn.init.normal_(network.pooler.sketch_query.weight)
    network.name = "shapes"
    return network


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    return make_network(heads=8)


@pytest.fixture
def sketch(tmp_path: Path) -> Path:
    draw("star", "sketch", np.random.default_rng(0)).save(tmp_path / "sketch.png")
    return tmp_path / "sketch.png"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    for name in OUTLINES:
        draw(name, "photo", random).resize((96, 48)).save(tmp_path / f"{name}.png")
    return [tmp_path / f"{name}.png" for name in OUTLINES]


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def one_hot(shape: tuple[int, int], *peaks: tuple[int, int]) -> NDArray[np.float32]:
    """One map for each peak, with all attention at the peak."""
    attention = np.zeros((len(peaks), *shape), dtype=np.float32)
    for head, peak in enumerate(peaks):
        attention[(head, *peak)] = 1
    return attention


def changes(photo: Image.Image, attention: NDArray[np.float32]) -> NDArray[np.int64]:
    """The overlay's colours minus the photo's, (H, W, 3)."""
    return np.asarray(attention_overlay(photo, attention)).astype(int) - np.asarray(photo)


# The overlay of one photo


@pytest.mark.parametrize("heads", [1, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 5), (7, 7), (5, 2), (12, 12), (16, 16)])
def test_a_uniform_map_leaves_the_photo_as_it_is(heads: int, shape: tuple[int, int]) -> None:
    """In some of these sizes, heads of 1 / positions have a mean that is larger in the last bit."""
    uniform = np.full((heads, *shape), 1 / (shape[0] * shape[1]), dtype=np.float32)
    assert not changes(noise(64, 48), uniform).any()


def test_heads_that_share_the_map_evenly_leave_the_photo_as_it_is() -> None:
    assert not changes(noise(40, 40), one_hot((2, 2), (0, 0), (0, 1), (1, 0), (1, 1))).any()


@pytest.mark.parametrize("peak", [(0, 0), (1, 7), (3, 4), (5, 8), (5, 0)])
def test_a_peak_colours_just_its_region(peak: tuple[int, int]) -> None:
    """A photo of 6 x 9 cells, 20 pixels each; the peak's colour has faded out two cells further."""
    grey = Image.new("RGB", (180, 120), (100, 100, 100))
    changed = changes(grey, one_hot((6, 9), peak))
    row, column = 20 * peak[0] + 10, 20 * peak[1] + 10  # middle of the cell
    np.testing.assert_allclose(changed[row, column], STRENGTH * (PEAK_COLOUR - 100), atol=15)
    assert changed[row, column].min() > 0  # all channels are brighter
    brightest = np.unravel_index(changed.sum(2).argmax(), (120, 180))
    assert (brightest[0] // 20, brightest[1] // 20) == peak
    rows, columns = np.indices((120, 180))
    far = np.maximum(abs(rows - row), abs(columns - column)) > 50
    assert not changed[far].any()


def test_colour_is_the_mean_of_the_heads() -> None:
    """Two heads attend to each end, and no head to the middle."""
    changed = changes(noise(200, 40), one_hot((2, 10), (0, 0), (1, 0), (0, 9), (1, 9)))
    assert changed[:, :20].any()
    assert changed[:, 180:].any()
    assert not changed[:, 60:140].any()
    alone = changes(noise(200, 40), one_hot((2, 10), (0, 0), (1, 0)))
    np.testing.assert_array_equal(changed[:, :100], alone[:, :100])


def test_a_map_that_is_nearly_uniform_is_not_exaggerated() -> None:
    nearly = np.full((1, 4, 4), 1 / 16, dtype=np.float32)
    nearly[0, 1, 1], nearly[0, 2, 2] = 1.1 / 16, 0.9 / 16
    assert 0 < abs(changes(noise(64, 64), nearly)).max() <= 0.13 * STRENGTH * 255  # bicubic scaling overshoots a little


@pytest.mark.parametrize(("paper", "lowest", "highest"), [(0, 0, STRENGTH * 255), (255, (1 - STRENGTH) * 255, 255)])
def test_colours_do_not_wrap_around(paper: int, lowest: float, highest: float) -> None:
    random = np.random.default_rng(0)
    for shape in ((2, 2), (7, 7), (3, 11)):
        attention = random.dirichlet(np.full(shape[0] * shape[1], 0.1), size=4).reshape(4, *shape).astype(np.float32)
        shown = np.asarray(attention_overlay(Image.new("RGB", (90, 70), (paper,) * 3), attention))
        assert shown.min() >= lowest - 1
        assert shown.max() <= highest + 1


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 7), (64, 48), (3, 5)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (7, 7), (3, 5)])
def test_the_photos_size_is_kept(size: tuple[int, int], shape: tuple[int, int]) -> None:
    shown = attention_overlay(noise(*size), one_hot(shape, (0, 0)))
    assert (shown.size, shown.mode) == (size, "RGB")


def test_the_map_is_stretched_as_the_photo_was() -> None:
    """Width and height each have their own scale: the network saw a square."""
    changed = changes(noise(240, 30), one_hot((3, 3), (2, 0))).any(2)
    rows, columns = np.nonzero(changed)
    assert rows.max() == 29
    assert columns.min() == 0
    assert 80 <= columns.max() < 200  # two cells of 80 beyond the middle of the first


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK"])
def test_photos_of_every_mode(mode: str) -> None:
    photo, attention = noise(30, 20, mode), one_hot((2, 3), (1, 1))
    assert attention_overlay(photo, attention) == attention_overlay(photo.convert("RGB"), attention)


@pytest.mark.parametrize("box", [(0.5, 0.25, 1.0, 1.0), (0.11, 0.2, 0.34, 0.5)])
def test_the_attention_to_a_part_lies_on_the_part(box: Box) -> None:
    photo, attention = noise(64, 40, "L"), one_hot((2, 2), (1, 1))
    found = attention_overlay(photo, attention, box)
    corner = int(box[0] * 64), int(box[1] * 40)
    part = attention_overlay(part_of(photo, box), attention)
    expected = photo.convert("RGB")
    expected.paste(part, corner)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    changed = np.argwhere((np.asarray(found) != np.asarray(photo.convert("RGB"))).any(2))
    assert changed.min(0).tolist() >= [corner[1], corner[0]]
    assert photo.mode == "L"


def test_a_part_of_a_picture_is_no_less_than_its_box() -> None:
    picture = noise(64, 40)
    assert part_of(picture, None) is picture
    assert part_of(picture, (0.5, 0.25, 1, 1)).tobytes() == picture.crop((32, 10, 64, 40)).tobytes()
    assert part_of(picture, (0.11, 0.26, 0.34, 0.51)).size == (22 - 7, 21 - 10)


def test_a_sketch_looks_at_the_part_by_which_it_finds_a_photo(
    network: CrossATNet, sketch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = iter([(0.5, 0.0, 1.0, 0.5), None])
    monkeypatch.setattr(CrossATNet, "regions", True)
    monkeypatch.setattr(explain_module, "region_found", lambda *_: next(boxes))
    photo, drawn = noise(96, 96), network.preprocess(sketch, "sketch")
    similarity, shown = overlays(network, load_image(sketch), [photo.copy(), photo.copy()])
    parts = np.stack([network.shape(photo.crop((48, 0, 96, 48)), "photo"), network.shape(photo, "photo")])
    expected = network.guide(drawn, parts)
    np.testing.assert_allclose(similarity, expected.similarity, atol=1e-5)
    under = framed(attention_overlay(photo, expected.attention[0], (0.5, 0.0, 1.0, 0.5)), (0.5, 0.0, 1.0, 0.5))
    np.testing.assert_allclose(np.asarray(shown[0]).astype(int), np.asarray(under), atol=2)
    plain = attention_overlay(photo, expected.attention[1])
    np.testing.assert_allclose(np.asarray(shown[1]).astype(int), np.asarray(plain), atol=2)


def test_neither_the_photo_nor_the_map_is_changed() -> None:
    photo, attention = noise(30, 20), one_hot((2, 3), (1, 1))
    attention_overlay(photo, attention)
    assert photo == noise(30, 20)
    assert np.array_equal(attention, one_hot((2, 3), (1, 1)))


# A drawing and photos


def test_the_best_match_comes_first(
    network: CrossATNet, sketch: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[GridRow] = []

    def grid(rows: list[GridRow]) -> Image.Image:
        shown.extend(rows)
        return retrieval_grid(rows)

    monkeypatch.setattr("crossatnet.report.explanation.retrieval_grid", grid)
    picture = explain(network, sketch, photos)
    drawn = network.preprocess(sketch, "sketch")
    alone = {path: network.guide(drawn, network.preprocess(path, "photo")[None]) for path in photos}
    order = sorted(photos, key=lambda path: -alone[path].similarity[0])
    assert order != photos  # else the test would show nothing
    assert [len(row.cells) for row in shown] == [COLUMNS, len(photos) - COLUMNS]
    assert all(row.query == load_image(sketch) for row in shown)
    cells = [cell for row in shown for cell in row.cells]
    assert [float(cell.caption) for cell in cells] == pytest.approx(
        [alone[path].similarity[0] for path in order], abs=0.0051
    )
    assert not any(cell.is_right for cell in cells)
    for cell, path in zip(cells, order, strict=True):
        expected = np.asarray(attention_overlay(load_image(path), alone[path].attention[0])).astype(int)
        np.testing.assert_allclose(np.asarray(cell.picture), expected, atol=2)  # batches round differently
        assert (expected != np.asarray(load_image(path))).any()
    assert picture.width > (1 + COLUMNS) * CELL
    assert 2 * CELL < picture.height < 3 * CELL


def test_huge_photos_are_made_smaller_first(network: CrossATNet, sketch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overlay takes many bytes for each pixel, and the grid shows only thumbnails."""
    sizes = []

    def overlay(photo: Image.Image, attention: NDArray[np.float32], box: Box | None) -> Image.Image:
        sizes.append(photo.size)
        return attention_overlay(photo, attention, box)

    monkeypatch.setattr(explain_module, "attention_overlay", overlay)
    given = {"wide": (3000, 1500), "long": (7, 2000), "small": (40, 30)}
    for name, size in given.items():
        noise(*size).save(sketch.parent / f"{name}.png")
    explain(network, sketch, [sketch.parent / f"{name}.png" for name in given])
    assert sorted(sizes) == [(1, 2 * CELL), (40, 30), (2 * CELL, CELL)]


def test_refuses_a_network_without_attention(sketch: Path, photos: list[Path]) -> None:
    with pytest.raises(UserError, match="shapes has no attention to show; take another checkpoint"):
        explain(make_network(heads=0), sketch, photos)


def test_refuses_no_photos(network: CrossATNet, sketch: Path) -> None:
    with pytest.raises(UserError, match="no photos to look at: give at least one"):
        explain(network, sketch, [])


def test_refuses_more_photos_than_fit(network: CrossATNet, sketch: Path, photos: list[Path]) -> None:
    with pytest.raises(UserError, match=f"{MOST + 1} photos are more than fit a picture: give at most {MOST}"):
        explain(network, sketch, [photos[0]] * (MOST + 1))


def test_names_a_picture_that_cannot_be_read(network: CrossATNet, sketch: Path, photos: list[Path]) -> None:
    photos[3].write_text("not a picture")
    with pytest.raises(ImageError, match=f"{photos[3].name}: not a picture"):
        explain(network, sketch, photos)
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        explain(network, sketch.parent / "nowhere.png", photos[:1])
