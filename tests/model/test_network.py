"""The network's public methods against the same steps one by one."""

import copy
import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from crossatnet.config import ModelConfig
from crossatnet.data.images import Modality, load_image, prepare
from crossatnet.model.attention import CrossModalAttention
from crossatnet.model.backbones.efficientnet import EfficientNetLite0
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.system.errors import ImageError, UserError
from crossatnet.training.hash_codes import itq
from oracles import attention as oracle
from tiny_data import OUTLINES, draw

SIZE, DIMENSION, HEADS, LENGTHS = 64, 16, 8, (16, 32, 24)


def make_network(heads: int = HEADS, shared_encoder: bool = True) -> CrossATNet:
    """A network whose centres, hyperplanes and, with heads, attention differ from their initial values."""
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=SIZE,
        dimension=DIMENSION,
        attention_heads=heads,
        code_lengths=LENGTHS,
        shared_encoder=shared_encoder,
    )
    network = CrossATNet(config).eval()
    for modality in ("sketch", "photo"):
        network.encoder(modality).load_state_dict(imagenet().state_dict())
    network.sketch_centre.copy_(torch.randn(320))
    network.photo_centre.copy_(torch.randn(320))
    for bits in LENGTHS:
        network.hashing.set(bits, *itq(torch.randn(100, DIMENSION), bits, seed=bits))
    if isinstance(network.pooler, CrossModalAttention):
        nn.init.normal_(network.pooler.gallery_query)
        nn.init.normal_(network.pooler.sketch_query.weight, std=0.05)
    return network


@cache
def imagenet() -> EfficientNetLite0:
    return EfficientNetLite0().load_imagenet_weights()


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    return make_network()


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "separate"])
def either(request: pytest.FixtureRequest) -> CrossATNet:
    """A network of each form; weights of their own for sketches differ from those for photos."""
    network = make_network(shared_encoder=request.param)
    for part in (network.sketch_backbone, network.sketch_projection):
        if part is not None:
            shake(part)
    return network


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [draw(name, "photo", random) for name in OUTLINES]


def shake(module: nn.Module) -> None:
    """Change every weight a little."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))


def pixels_of(network: CrossATNet, pictures: list[Image.Image], modality: Modality) -> NDArray[np.uint8]:
    return np.stack([network.preprocess(picture, modality) for picture in pictures])


@torch.inference_mode()
def map_of(network: CrossATNet, picture: Image.Image, modality: Modality) -> NDArray[np.float32]:
    pixels = prepare(load_image(picture), modality, SIZE)
    backbone = network.sketch_backbone if modality == "sketch" and network.sketch_backbone else network.backbone
    return backbone(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0].numpy()


def mean_over(feature_map: NDArray[np.float32]) -> NDArray[np.float64]:
    channels, height, width = feature_map.shape
    pooled = np.zeros(channels)
    for row in range(height):
        for column in range(width):
            pooled += feature_map[:, row, column] / (height * width)
    return pooled


def attended(
    network: CrossATNet, feature_map: NDArray[np.float32], query: list[list[float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Feature (C,) and attention (M, h, w), by loops."""
    assert isinstance(network.pooler, CrossModalAttention)
    feature, attention = oracle.attend(feature_map.tolist(), network.pooler.key.weight.tolist(), query)
    return np.array(feature), np.array(attention)


def finish(network: CrossATNet, pooled: NDArray[np.float64], modality: Modality) -> NDArray[np.float64]:
    """Minus the modality's centre -> projection -> unit length."""
    centre = {"sketch": network.sketch_centre, "photo": network.photo_centre}[modality].numpy()
    own = network.sketch_projection if modality == "sketch" and network.sketch_projection else network.projection
    embedding = own.weight.detach().numpy().astype(np.float64) @ (pooled - centre)
    return embedding / np.sqrt((embedding**2).sum())


def step_by_step(network: CrossATNet, picture: Image.Image, modality: Modality) -> NDArray[np.float64]:
    """prepare -> backbone -> a sketch's mean over the map, a photo's attention by the gallery's query -> `finish`."""
    feature_map = map_of(network, picture, modality)
    if modality == "sketch" or not isinstance(network.pooler, CrossModalAttention):
        return finish(network, mean_over(feature_map), modality)
    pooled, _ = attended(network, feature_map, network.pooler.gallery_query[0].tolist())
    return finish(network, pooled, modality)


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_encode_equals_the_steps_one_by_one(
    either: CrossATNet, pictures: list[Image.Image], modality: Modality
) -> None:
    embeddings = either.encode(pictures, modality)
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (len(pictures), either.dimension))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    expected = np.stack([step_by_step(either, picture, modality) for picture in pictures])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert np.abs(expected - expected[0]).max() > 0.1  # the pictures have different embeddings


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_without_attention_both_modalities_are_pooled_by_their_mean(
    pictures: list[Image.Image], modality: Modality
) -> None:
    network = make_network(heads=0)
    assert not network.has_attention
    expected = [finish(network, mean_over(map_of(network, picture, modality)), modality) for picture in pictures]
    np.testing.assert_allclose(network.encode(pictures, modality), expected, atol=1e-5)


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_a_fresh_network_embeds_as_without_attention(pictures: list[Image.Image], modality: Modality) -> None:
    """The attention starts as mean pooling, so a pretrained backbone gives the same embeddings as before."""
    plain = make_network(heads=0)
    fresh = CrossATNet(plain.config.model_copy(update={"attention_heads": HEADS})).eval()
    fresh.load_state_dict(plain.state_dict(), strict=False)
    assert fresh.has_attention
    np.testing.assert_allclose(fresh.encode(pictures, modality), plain.encode(pictures, modality), atol=1e-6)


def test_forward_and_the_parts_it_is_made_of_agree(either: CrossATNet, pictures: list[Image.Image]) -> None:
    for modality in MODALITIES:
        pixels = pixels_of(either, pictures, modality)
        prepared = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with torch.inference_mode():
            feature_map = either.encoder(modality)(prepared)
            pooled = either.pool(feature_map, modality)
            embeddings = either(prepared, modality)
            assert torch.equal(either.embed_map(feature_map, modality), embeddings)
            assert torch.equal(either.embed_pooled(pooled.feature, modality), embeddings)
        assert pooled.attention.shape == (len(pictures), 1 if modality == "sketch" else HEADS, 2, 2)
        assert np.array_equal(either.embed(pixels, modality), embeddings.numpy())


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
    assert network.encode([], "photo", bits=32).shape == (0, 4)


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


@pytest.mark.parametrize("bits", LENGTHS)
def test_encode_gives_codes_of_every_length(network: CrossATNet, pictures: list[Image.Image], bits: int) -> None:
    codes = network.encode(pictures, "photo", bits=bits)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(pictures), bits // 8))
    embeddings = network.encode(pictures, "photo")
    assert np.array_equal(codes, np.packbits(network.hashing(torch.from_numpy(embeddings), bits).numpy(), axis=1))
    assert np.array_equal(codes, network.hash(embeddings, bits))
    assert len(np.unique(codes, axis=0)) > 1


def test_codes_are_of_the_longest_length_by_default(network: CrossATNet, pictures: list[Image.Image]) -> None:
    embeddings = network.encode(pictures, "photo")
    assert network.code_bits == max(LENGTHS) == 32
    assert np.array_equal(network.hash(embeddings), network.hash(embeddings, 32))


@pytest.mark.parametrize("bits", LENGTHS)
def test_the_code_of_a_bad_picture_is_zeros(network: CrossATNet, pictures: list[Image.Image], bits: int) -> None:
    with pytest.warns(UserWarning, match="image 0 was left out"):
        codes = network.encode([b"no picture", pictures[0]], "photo", bits=bits)
    assert codes[0].tolist() == [0] * (bits // 8)
    assert np.array_equal(codes[1:], network.encode(pictures[:1], "photo", bits=bits))


@pytest.mark.parametrize("bits", [64, 8, 1, -16])
def test_refuses_other_code_lengths_and_names_its_own(
    network: CrossATNet, pictures: list[Image.Image], bits: int
) -> None:
    with pytest.raises(UserError, match=f"{bits}") as caught:
        network.encode(pictures, "photo", bits=bits)
    assert all(str(length) in str(caught.value) for length in LENGTHS)


def test_refuses_a_code_length_before_reading_any_picture(network: CrossATNet) -> None:
    with pytest.raises(UserError, match="64"):
        network.encode([b"no picture"], "photo", bits=64, errors="raise")


@pytest.mark.parametrize("bits", [0, 64])
def test_hash_refuses_other_code_lengths_too(network: CrossATNet, bits: int) -> None:
    with pytest.raises(UserError, match=f"{bits}"):
        network.hash(np.zeros((1, DIMENSION), np.float32), bits)


# A sketch that guides


def test_guide_equals_the_steps_one_by_one(either: CrossATNet, pictures: list[Image.Image]) -> None:
    """The query is the sketch's centred pooled feature; a photo's guided feature is embedded like any photo's."""
    guided = either.guide(either.preprocess(pictures[2], "sketch"), pixels_of(either, pictures, "photo"))
    assert (guided.similarity.dtype, guided.similarity.shape) == (np.float32, (len(pictures),))
    assert (guided.attention.dtype, guided.attention.shape) == (np.float32, (len(pictures), HEADS, 2, 2))
    assert isinstance(either.pooler, CrossModalAttention)
    sketch = mean_over(map_of(either, pictures[2], "sketch"))
    asking = (sketch - either.sketch_centre.numpy()).tolist()
    query = oracle.linear(either.pooler.sketch_query.weight.tolist(), asking, HEADS)
    embedding = finish(either, sketch, "sketch")
    for number, picture in enumerate(pictures):
        pooled, attention = attended(either, map_of(either, picture, "photo"), query)
        np.testing.assert_allclose(guided.attention[number], attention, atol=1e-4)
        assert guided.similarity[number] == pytest.approx(embedding @ finish(either, pooled, "photo"), abs=1e-4)
    assert guided.attention.std() > 0.01
    np.testing.assert_allclose(guided.attention.sum((2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("heads", [HEADS, 0])
def test_at_its_start_guiding_gives_the_plain_cosine(pictures: list[Image.Image], heads: int) -> None:
    network = CrossATNet(make_network().config.model_copy(update={"attention_heads": heads})).eval()
    network.load_state_dict(make_network(heads=0).state_dict(), strict=False)
    sketch, photos = network.preprocess(pictures[2], "sketch"), pixels_of(network, pictures, "photo")
    guided = network.guide(sketch, photos)
    plain = network.embed(photos, "photo") @ network.embed(sketch[None], "sketch")[0]
    np.testing.assert_allclose(guided.similarity, plain, atol=1e-6)
    assert guided.attention.shape == (len(pictures), heads or 1, 2, 2)
    np.testing.assert_allclose(guided.attention, 0.25, atol=1e-6)


def test_another_sketch_looks_elsewhere(network: CrossATNet, pictures: list[Image.Image]) -> None:
    photos = pixels_of(network, pictures, "photo")
    first, second = (network.guide(network.preprocess(pictures[number], "sketch"), photos) for number in (0, 5))
    assert np.abs(first.attention - second.attention).max() > 0.01
    assert np.abs(first.similarity - second.similarity).max() > 0.01


def test_guiding_takes_every_photo_by_itself(network: CrossATNet, pictures: list[Image.Image]) -> None:
    sketch, photos = network.preprocess(pictures[2], "sketch"), pixels_of(network, pictures, "photo")
    together = network.guide(sketch, photos)
    for number in range(len(photos)):
        alone = network.guide(sketch, photos[[number]])
        np.testing.assert_allclose(together.similarity[[number]], alone.similarity, atol=1e-5)
        np.testing.assert_allclose(together.attention[[number]], alone.attention, atol=1e-5)


def test_a_gallery_does_not_depend_on_the_sketchs_query(pictures: list[Image.Image]) -> None:
    network = make_network()
    before = network.encode(pictures, "photo")
    assert isinstance(network.pooler, CrossModalAttention)
    shake(network.pooler.sketch_query)
    assert np.array_equal(network.encode(pictures, "photo"), before)


# Weights of their own for sketches


def test_separate_backbones_start_equal_and_are_not_the_same(pictures: list[Image.Image]) -> None:
    torch.manual_seed(0)
    network = CrossATNet(make_network(shared_encoder=False).config).eval()
    pixels = pixels_of(network, pictures, "photo")
    np.testing.assert_allclose(network.embed(pixels, "sketch"), network.embed(pixels, "photo"), atol=1e-6)
    for ours, theirs in ((network.sketch_backbone, network.backbone), (network.sketch_projection, network.projection)):
        assert ours is not None
        for first, second in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(first, second)
            assert first.data_ptr() != second.data_ptr()


def parts(network: CrossATNet) -> dict[str, nn.Module | None]:
    return {
        "sketch backbone": network.sketch_backbone,
        "sketch projection": network.sketch_projection,
        "photo backbone": network.backbone,
        "photo projection": network.projection,
    }


@pytest.mark.parametrize("part", ["sketch backbone", "sketch projection", "photo backbone", "photo projection"])
def test_separate_weights_move_their_own_modality_alone(pictures: list[Image.Image], part: str) -> None:
    network = make_network(shared_encoder=False)
    before = {modality: network.encode(pictures, modality) for modality in MODALITIES}
    changed = parts(network)[part]
    assert changed is not None
    shake(changed)
    for modality in MODALITIES:
        same = np.array_equal(network.encode(pictures, modality), before[modality])
        assert same == (not part.startswith(modality))


def test_a_shared_encoder_has_no_weights_for_sketches(network: CrossATNet) -> None:
    assert network.encoder("sketch") is network.encoder("photo")
    assert network.projector("sketch") is network.projector("photo")
    sketchs_own = {name for name in network.state_dict() if name.startswith("sketch")}
    assert sketchs_own == {"sketch_centre"}


def test_a_state_dictionary_brings_a_network_back(either: CrossATNet, pictures: list[Image.Image]) -> None:
    buffer = io.BytesIO()
    torch.save(either.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(1)
    again = CrossATNet(either.config).eval()
    assert again.fingerprint != either.fingerprint
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert again.fingerprint == either.fingerprint
    for modality in MODALITIES:
        assert np.array_equal(again.encode(pictures, modality), either.encode(pictures, modality))
        for bits in LENGTHS:
            codes = again.encode(pictures, modality, bits=bits)
            assert np.array_equal(codes, either.encode(pictures, modality, bits=bits))
    sketch, photos = either.preprocess(pictures[0], "sketch"), pixels_of(either, pictures, "photo")
    assert np.array_equal(again.guide(sketch, photos).similarity, either.guide(sketch, photos).similarity)


def test_a_state_dictionary_of_the_other_form_is_refused() -> None:
    shared, separate = make_network(), make_network(shared_encoder=False)
    with pytest.raises(RuntimeError, match="Missing"):
        separate.load_state_dict(shared.state_dict())
    with pytest.raises(RuntimeError, match="Unexpected"):
        shared.load_state_dict(separate.state_dict())


def test_heads_that_do_not_divide_the_backbones_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.attention_heads is 7: it must divide .* 320 channels"):
        CrossATNet(ModelConfig(attention_heads=7))


# Threads


@pytest.mark.parametrize("what", ["embed", "guide"])
def test_two_threads_at_once_get_what_one_gets(network: CrossATNet, pictures: list[Image.Image], what: str) -> None:
    sketches, photos = (pixels_of(network, pictures, modality) for modality in MODALITIES)

    def embed(number: int) -> NDArray[np.float32]:
        modality = MODALITIES[number % 2]
        return network.embed((sketches, photos)[number % 2][number % 4 : number % 4 + 3], modality)

    def guide(number: int) -> NDArray[np.float32]:
        return network.guide(sketches[number % len(sketches)], photos[:3]).similarity

    task: Callable[[int], NDArray[np.float32]] = {"embed": embed, "guide": guide}[what]
    serial = [task(number) for number in range(8)]
    with ThreadPoolExecutor(2) as pool:
        for ours, expected in zip(pool.map(task, range(8)), serial, strict=True):
            assert np.array_equal(ours, expected)


# # What it refuses, and what it does not change


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
    training = copy.deepcopy(network).train()
    for modality in MODALITIES:
        assert torch.equal(network.embed_map(feature_map, modality), network.embed_map(feature_map, modality))
        assert not torch.allclose(training.embed_map(feature_map, modality), training.embed_map(feature_map, modality))


def test_fingerprint_tells_networks_apart(either: CrossATNet) -> None:
    twin = copy.deepcopy(either)
    assert twin.fingerprint == either.fingerprint
    seen = {either.fingerprint}
    parts = [twin.projection, twin.pooler, twin.hashing, twin.sketch_projection]
    tensors = [tensor for part in parts if part is not None for tensor in part.state_dict().values()]
    for tensor in (*tensors, twin.photo_centre, twin.sketch_centre, *list(twin.backbone.buffers())[:1]):
        tensor.flatten()[0] += 0.001
        assert twin.fingerprint not in seen
        seen.add(twin.fingerprint)
    other = CrossATNet(either.config.model_copy(update={"fit_strokes": True}))
    other.load_state_dict(either.state_dict())
    assert other.fingerprint not in seen


def test_what_a_name_or_place_says_is_not_in_the_fingerprint(network: CrossATNet) -> None:
    twin = copy.deepcopy(network)
    twin.name, twin.source = "another", "elsewhere"
    assert twin.fingerprint == network.fingerprint


TAKE_A_MODALITY: dict[str, Callable[[CrossATNet, Modality], object]] = {
    "encode": lambda network, modality: network.encode([np.zeros((8, 8, 3), np.uint8)], modality),
    "preprocess": lambda network, modality: network.preprocess(np.zeros((8, 8, 3), np.uint8), modality),
    "embed": lambda network, modality: network.embed(np.zeros((1, 32, 32, 3), np.uint8), modality),
    "forward": lambda network, modality: network(torch.zeros(1, 3, 32, 32), modality),
    "pool": lambda network, modality: network.pool(torch.zeros(1, 320, 2, 2), modality),
    "embed_map": lambda network, modality: network.embed_map(torch.zeros(1, 320, 2, 2), modality),
    "embed_pooled": lambda network, modality: network.embed_pooled(torch.zeros(1, 320), modality),
    "encoder": lambda network, modality: network.encoder(modality),
    "projector": lambda network, modality: network.projector(modality),
    "centre": lambda network, modality: network.centre(modality),
}


@pytest.mark.parametrize("call", TAKE_A_MODALITY)
@pytest.mark.parametrize("modality", ["sketchy", "Sketch", ""])
def test_a_misspelt_modality_is_refused(network: CrossATNet, call: str, modality: Modality) -> None:
    with pytest.raises(UserError, match="unknown modality"):
        TAKE_A_MODALITY[call](network, modality)


# Sketches normalised by statistics of their own


@pytest.fixture
def adapted() -> CrossATNet:
    """One with random statistics for sketches."""
    network = CrossATNet(ModelConfig(image_size=64, dimension=16, code_lengths=(16,), sketch_statistics=0.5)).eval()
    for norm in network.encoder("sketch").modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return network


def test_own_statistics_share_every_weight_and_no_statistic(adapted: CrossATNet) -> None:
    photo, sketch = adapted.encoder("photo"), adapted.encoder("sketch")
    for (name, weight), other in zip(photo.named_parameters(), sketch.parameters(), strict=True):
        assert weight is other, name
    pairs = zip(photo.named_buffers(), sketch.buffers(), strict=True)
    assert all(mine is not other for (_, mine), other in pairs)
    assert adapted.projector("sketch") is adapted.projector("photo")
    copied = copy.deepcopy(adapted)
    assert copied.encoder("sketch").chain()[1].depthwise[0].weight is copied.backbone.chain()[1].depthwise[0].weight


def test_own_statistics_change_sketches_alone(adapted: CrossATNet, pictures: list[Image.Image]) -> None:
    plain = CrossATNet(adapted.config.model_copy(update={"sketch_statistics": 0.0})).eval()
    plain.load_state_dict({name: tensor for name, tensor in adapted.state_dict().items() if "sketch_b" not in name})
    assert np.array_equal(adapted.encode(pictures, "photo"), plain.encode(pictures, "photo"))
    assert np.abs(adapted.encode(pictures, "sketch") - plain.encode(pictures, "sketch")).max() > 0.01


def test_shared_weights_are_stored_once_and_come_back(adapted: CrossATNet, pictures: list[Image.Image]) -> None:
    state = adapted.distinct_state()
    assert {name for name in state if name.startswith("sketch_backbone.")} == {
        f"sketch_backbone.{name}" for name, _ in adapted.backbone.named_buffers()
    }
    other = CrossATNet(adapted.config).eval()
    other.load_distinct_state(state)
    for modality in MODALITIES:
        assert np.array_equal(other.encode(pictures, modality), adapted.encode(pictures, modality))
    with pytest.raises(RuntimeError, match="running_var"):
        other.load_distinct_state({name: state[name] for name in state if "stem.1.running_var" not in name})


# Photos of another side, and sketches mirrored


def test_photos_can_be_larger_after_training(pictures: list[Image.Image]) -> None:
    config = ModelConfig(image_size=64, dimension=16, code_lengths=(16,))
    small, large = CrossATNet(config).eval(), CrossATNet(config.model_copy(update={"photo_size": 96})).eval()
    large.load_state_dict(small.state_dict())
    assert large.preprocess(pictures[0], "photo").shape == (96, 96, 3)
    assert large.preprocess(pictures[0], "sketch").shape == (64, 64, 3)
    assert np.array_equal(large.encode(pictures, "sketch"), small.encode(pictures, "sketch"))
    expected = small.embed(np.stack([prepare(picture, "photo", 96, False) for picture in pictures]), "photo")
    np.testing.assert_allclose(large.encode(pictures, "photo"), expected, atol=1e-5)
    sketch, photo = large.preprocess(pictures[0], "sketch"), large.preprocess(pictures[1], "photo")
    assert large.guide(sketch, photo[None]).attention.shape[2:] == (3, 3)


def test_a_sketch_and_its_mirror_image_can_be_one(pictures: list[Image.Image]) -> None:
    config = ModelConfig(image_size=64, dimension=16, code_lengths=(16,))
    plain, both = CrossATNet(config).eval(), CrossATNet(config.model_copy(update={"mirror_sketches": True})).eval()
    both.load_state_dict(plain.state_dict())
    pixels = np.stack([both.preprocess(picture, "sketch") for picture in pictures])
    one, other = plain.embed(pixels, "sketch"), plain.embed(pixels[:, :, ::-1].copy(), "sketch")
    mean = (one + other) / 2
    embedded = both.embed(pixels, "sketch")
    np.testing.assert_allclose(embedded, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(both.embed(pixels[:, :, ::-1].copy(), "sketch"), embedded, atol=1e-5)
    assert np.abs(one - other).max() > 0.01
    assert np.array_equal(both.embed(pixels, "photo"), plain.embed(pixels, "photo"))
