"""The network's public face against the same steps taken one by one."""

import copy
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import ImageError, Modality, load_image, prepare
from crossatnet.errors import UserError
from crossatnet.model.network import CrossATNet
from tiny_data import OUTLINES, draw

SIZE, DIMENSION = 64, 16


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=SIZE, dimension=DIMENSION)).eval()
    network.backbone.load_imagenet_weights()
    network.sketch_centre.copy_(torch.randn(320))
    network.photo_centre.copy_(torch.randn(320))
    network.hashing.mean.copy_(torch.randn(DIMENSION) / 10)
    return network


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [draw(name, "photo", random) for name in OUTLINES]


def step_by_step(network: CrossATNet, picture: Image.Image, modality: Modality) -> NDArray[np.float64]:
    """prepare -> backbone -> mean over the map -> minus the modality's centre -> projection -> unit length."""
    pixels = prepare(load_image(picture), modality, SIZE)
    with torch.inference_mode():
        feature_map = network.backbone(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]
    channels, height, width = feature_map.shape
    pooled = np.zeros(channels)
    for row in range(height):
        for column in range(width):
            pooled += feature_map[:, row, column].numpy() / (height * width)
    centre = {"sketch": network.sketch_centre, "photo": network.photo_centre}[modality].numpy()
    embedding = network.projection.weight.detach().numpy().astype(np.float64) @ (pooled - centre)
    return embedding / np.sqrt((embedding**2).sum())


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_encode_equals_the_steps_one_by_one(
    network: CrossATNet, pictures: list[Image.Image], modality: Modality
) -> None:
    embeddings = network.encode(pictures, modality)
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (len(pictures), network.dimension))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    expected = np.stack([step_by_step(network, picture, modality) for picture in pictures])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert np.abs(expected - expected[0]).max() > 0.1  # the pictures are told apart


def test_the_modalities_differ(network: CrossATNet, pictures: list[Image.Image]) -> None:
    sketches, photos = (network.encode(pictures, modality) for modality in ("sketch", "photo"))
    assert np.abs(sketches - photos).max() > 0.1


def test_takes_paths_bytes_pictures_and_arrays(
    network: CrossATNet, pictures: list[Image.Image], tmp_path: Path
) -> None:
    picture, path = pictures[0], tmp_path / "picture.png"
    picture.save(path)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    embeddings = network.encode([picture, path, str(path), buffer.getvalue(), np.asarray(picture)], "photo")
    assert np.array_equal(embeddings, embeddings[:1].repeat(5, 0))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_batch_size_does_not_matter(network: CrossATNet, pictures: list[Image.Image], batch_size: int) -> None:
    expected = network.encode(pictures, "sketch", batch_size=5)
    np.testing.assert_allclose(network.encode(pictures, "sketch", batch_size=batch_size), expected, atol=1e-5)


def test_nothing_gives_no_rows(network: CrossATNet) -> None:
    assert network.encode([], "photo").shape == (0, DIMENSION)
    assert network.encode([], "photo", bits=DIMENSION).shape == (0, DIMENSION // 8)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_names_a_bad_picture_and_goes_on(
    network: CrossATNet, pictures: list[Image.Image], tmp_path: Path, batch_size: int
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(b"not a picture")
    images = [pictures[0], broken, pictures[1], pictures[2], missing]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embeddings = network.encode(images, "photo", batch_size=batch_size)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert all(Path(warning.filename).name == Path(__file__).name for warning in caught)  # points at the caller
    assert messages[0].startswith(f"image 1 was left out: {broken}: not a picture")
    assert messages[1].startswith(f"image 4 was left out: {missing}: no such file")
    assert np.isnan(embeddings).all(1).tolist() == [False, True, False, False, True]
    np.testing.assert_allclose(embeddings[[0, 2, 3]], network.encode(pictures[:3], "photo"), atol=1e-5)


def test_raises_for_a_bad_picture_if_asked(network: CrossATNet, pictures: list[Image.Image], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.png: no such file"):
        network.encode([pictures[0], tmp_path / "missing.png"], "photo", errors="raise")


def test_bits_are_the_signs_about_the_mean(network: CrossATNet, pictures: list[Image.Image]) -> None:
    codes = network.encode(pictures, "photo", bits=DIMENSION)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(pictures), DIMENSION // 8))
    embeddings = network.encode(pictures, "photo")
    assert np.array_equal(codes, np.packbits(embeddings > network.hashing.mean.numpy(), axis=1))
    assert len(np.unique(codes, axis=0)) > 1
    assert np.array_equal(codes, network.hash(embeddings))


def test_the_code_of_a_bad_picture_is_zeros(network: CrossATNet, pictures: list[Image.Image]) -> None:
    with pytest.warns(UserWarning, match="image 0 was left out"):
        codes = network.encode([b"no picture", pictures[0]], "photo", bits=DIMENSION)
    assert codes[0].tolist() == [0, 0]
    assert np.array_equal(codes[1:], network.encode(pictures[:1], "photo", bits=DIMENSION))


def test_refuses_other_code_lengths(network: CrossATNet, pictures: list[Image.Image]) -> None:
    with pytest.raises(UserError, match="hash codes of 16 bits, not 64"):
        network.encode(pictures, "photo", bits=64)


def test_refuses_one_picture_in_place_of_a_list(network: CrossATNet, pictures: list[Image.Image]) -> None:
    for single in ("sketch.png", Path("sketch.png"), b"bytes", pictures[0]):
        with pytest.raises(UserError, match=r"encode\(\[picture\], ...\)"):
            network.encode(single, "sketch")  # type: ignore[arg-type]


def test_encoding_leaves_the_weights_alone(network: CrossATNet, pictures: list[Image.Image]) -> None:
    before = network.fingerprint
    network.encode(pictures, "photo")
    assert network.fingerprint == before


def test_dropout_acts_in_training_only(network: CrossATNet) -> None:
    feature_map = torch.randn(1, 320, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.embed_map(feature_map, "photo"), network.embed_map(feature_map, "photo"))
    training = copy.deepcopy(network).train()
    assert not torch.allclose(training.embed_map(feature_map, "photo"), training.embed_map(feature_map, "photo"))


def test_fingerprint_tells_networks_apart(network: CrossATNet) -> None:
    twin = copy.deepcopy(network)
    assert twin.fingerprint == network.fingerprint
    seen = {network.fingerprint}
    for tensor in (twin.projection.weight, twin.hashing.mean, twin.photo_centre, twin.backbone.stem[1].running_var):
        with torch.no_grad():
            tensor.flatten()[0] += 0.001
        assert twin.fingerprint not in seen
        seen.add(twin.fingerprint)
    other = CrossATNet(ModelConfig(image_size=SIZE, dimension=DIMENSION, fit_strokes=True))
    other.load_state_dict(network.state_dict())
    assert other.fingerprint not in seen


def test_what_a_name_or_place_says_is_not_in_the_fingerprint(network: CrossATNet) -> None:
    twin = copy.deepcopy(network)
    twin.name, twin.source = "another", "elsewhere"
    assert twin.fingerprint == network.fingerprint


@pytest.mark.parametrize("modality", ["sketchy", "Sketch", ""])
def test_a_misspelt_modality_is_refused(modality: str) -> None:
    network = CrossATNet(ModelConfig(image_size=32, dimension=8)).eval()
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="unknown modality"):
        network.encode([picture], modality)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown modality"):
        network(torch.zeros(1, 3, 32, 32), modality)
