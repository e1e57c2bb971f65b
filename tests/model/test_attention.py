"""Poolers against loops and by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from crossatnet.model.attention import KEY_CHANNELS, CrossModalAttention, MeanPooler, make_pooler
from crossatnet.system.errors import UserError
from oracles import attention as oracle

CHANNELS = 12
each_heads = pytest.mark.parametrize("heads", [1, 3, 4])
each_side = pytest.mark.parametrize("guided", [False, True], ids=["gallery", "guided"])


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention_with(heads: int, channels: int = CHANNELS, seed: int = 0) -> CrossModalAttention:
    """An attention that is not uniform: its queries are not zero, their initial value."""
    pooler = CrossModalAttention(channels, heads).double()
    with torch.no_grad():
        pooler.key.weight.copy_(noise(heads * KEY_CHANNELS, channels, seed=seed))
        pooler.gallery_query.copy_(noise(1, heads, KEY_CHANNELS, seed=seed + 1))
        pooler.sketch_query.weight.copy_(noise(heads * KEY_CHANNELS, channels, seed=seed + 2) / 4)
    return pooler


def looking_at_first_channel(sharpness: float) -> CrossModalAttention:
    """One head on two channels; with either query its logit at a position is `sharpness` times the first channel."""
    pooler = CrossModalAttention(2, 1)
    with torch.no_grad():
        for weights in (pooler.key.weight, pooler.sketch_query.weight):
            weights.zero_()
        pooler.key.weight[0, 0] = sharpness * KEY_CHANNELS**0.5
        pooler.gallery_query[0, 0, 0] = 1
        pooler.sketch_query.weight[0, 1] = 1  # a sketch's feature (any, 1) gives the same query
    return pooler


def test_mean_pooler_by_hand() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])  # (1, 2, 2, 2)
    pooled = MeanPooler()(feature_map)
    assert pooled.feature.tolist() == [[3.0, -1.0]]
    assert pooled.attention.tolist() == [[[[0.25, 0.25], [0.25, 0.25]]]]


def test_mean_pooler_ignores_where_things_are_and_who_asks() -> None:
    feature_map = noise(3, 5, 2, 4, seed=0)
    pooled = MeanPooler()(feature_map)
    assert (pooled.feature.shape, pooled.attention.shape) == ((3, 5), (3, 1, 2, 4))
    torch.testing.assert_close(MeanPooler()(feature_map.flip(2, 3)).feature, pooled.feature)
    torch.testing.assert_close(MeanPooler()(feature_map.transpose(2, 3)).feature, pooled.feature)
    assert torch.equal(MeanPooler()(feature_map, noise(3, 5, seed=1)).feature, pooled.feature)


@each_heads
@each_side
@pytest.mark.parametrize("seed", range(3))
def test_attention_equals_the_loop(heads: int, guided: bool, seed: int) -> None:
    pooler, feature_map, sketch = attention_with(heads, seed=10 * seed), noise(3, CHANNELS, 2, 4, seed=seed), None
    if guided:
        sketch = noise(3, CHANNELS, seed=seed + 100)
    pooled = pooler(feature_map, sketch)
    assert (pooled.feature.shape, pooled.attention.shape) == ((3, CHANNELS), (3, heads, 2, 4))
    for number in range(3):
        query = pooler.gallery_query[0].tolist()
        if sketch is not None:
            query = oracle.linear(pooler.sketch_query.weight.tolist(), sketch[number].tolist(), heads)
        feature, attention = oracle.attend(feature_map[number].tolist(), pooler.key.weight.tolist(), query)
        torch.testing.assert_close(pooled.feature[number], torch.tensor(feature, dtype=torch.float64))
        torch.testing.assert_close(pooled.attention[number], torch.tensor(attention, dtype=torch.float64))
    assert pooled.attention.std() > 0.01  # not a comparison of means


@each_heads
@pytest.mark.parametrize("seed", range(3))
def test_attention_starts_as_mean_pooling(heads: int, seed: int) -> None:
    torch.manual_seed(seed)
    pooler, feature_map = CrossModalAttention(CHANNELS, heads), noise(3, CHANNELS, 3, 2, seed=seed).float()
    expected = MeanPooler()(feature_map)
    for sketch in (None, 100 * noise(3, CHANNELS, seed=seed + 100).float()):
        pooled = pooler(feature_map, sketch)
        torch.testing.assert_close(pooled.feature, expected.feature)
        torch.testing.assert_close(pooled.attention, expected.attention.expand(-1, heads, -1, -1))


@each_side
def test_attention_leaves_its_start(guided: bool) -> None:
    """From zero, the queries get a gradient at once, and one step makes the map uneven."""
    torch.manual_seed(0)
    pooler = CrossModalAttention(CHANNELS, 3).double()
    feature_map, sketch = noise(3, CHANNELS, 2, 4, seed=0), noise(3, CHANNELS, seed=1) if guided else None
    pooler(feature_map, sketch).feature.square().sum().backward()
    with torch.no_grad():
        for weight in pooler.parameters():
            if weight.grad is not None:
                weight -= weight.grad / weight.grad.norm().clamp(min=1)
    assert pooler(feature_map, sketch).attention.detach().std() > 0.001


@each_heads
@each_side
def test_every_head_sums_to_one(heads: int, guided: bool) -> None:
    sketch = noise(2, CHANNELS, seed=1) if guided else None
    attention = attention_with(heads)(5 * noise(2, CHANNELS, 3, 5, seed=0), sketch).attention
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, heads, dtype=torch.float64))


def test_one_sketch_serves_all_maps() -> None:
    pooler, feature_map, sketch = attention_with(3), noise(4, CHANNELS, 2, 3, seed=0), noise(1, CHANNELS, seed=1)
    together = pooler(feature_map, sketch)
    for number in range(4):
        alone = pooler(feature_map[[number]], sketch)
        torch.testing.assert_close(together.feature[[number]], alone.feature)
        torch.testing.assert_close(together.attention[[number]], alone.attention)


def test_each_map_meets_its_own_sketch() -> None:
    pooler, sketches = attention_with(3), noise(4, CHANNELS, seed=1)
    pooled = pooler(noise(1, CHANNELS, 2, 3, seed=0).expand(4, -1, -1, -1), sketches)
    assert torch.pdist(pooled.attention.flatten(1)).min() > 0.01
    swapped = pooler(noise(1, CHANNELS, 2, 3, seed=0).expand(4, -1, -1, -1), sketches.flip(0))
    torch.testing.assert_close(swapped.feature, pooled.feature.flip(0))


def test_a_number_of_sketches_that_fits_neither_is_refused() -> None:
    with pytest.raises(RuntimeError, match="must match"):
        attention_with(3)(noise(4, CHANNELS, 2, 3, seed=0), noise(3, CHANNELS, seed=1))


@each_side
def test_moving_positions_moves_the_map_and_leaves_the_feature(guided: bool) -> None:
    pooler, feature_map = attention_with(3), noise(2, CHANNELS, 3, 4, seed=0)
    sketch = noise(2, CHANNELS, seed=1) if guided else None
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    moved_map = feature_map.flatten(2)[:, :, order].unflatten(2, (3, 4))
    pooled, moved = pooler(feature_map, sketch), pooler(moved_map, sketch)
    torch.testing.assert_close(moved.feature, pooled.feature)
    torch.testing.assert_close(moved.attention.flatten(2), pooled.attention.flatten(2)[:, :, order])
    assert not torch.allclose(moved.attention, pooled.attention)


@each_side
def test_what_all_positions_share_draws_no_attention(guided: bool) -> None:
    pooler, feature_map = attention_with(3), noise(2, CHANNELS, 3, 4, seed=0)
    sketch, shared = noise(2, CHANNELS, seed=1) if guided else None, 10 * noise(2, CHANNELS, seed=2)
    pooled, shifted = pooler(feature_map, sketch), pooler(feature_map + shared[:, :, None, None], sketch)
    torch.testing.assert_close(shifted.attention, pooled.attention)
    torch.testing.assert_close(shifted.feature, pooled.feature + shared)


@pytest.mark.parametrize("sketch", [None, torch.tensor([[7.0, 1.0]])], ids=["gallery", "guided"])
def test_attention_by_hand(sketch: Tensor | None) -> None:
    """Logits differ by log 3, so one position counts three times the other."""
    pooled = looking_at_first_channel(math.log(3))(torch.tensor([[[[0.0, 1.0]], [[8.0, 4.0]]]]), sketch)
    torch.testing.assert_close(pooled.attention, torch.tensor([[[[0.25, 0.75]]]]))
    torch.testing.assert_close(pooled.feature, torch.tensor([[0.75, 5.0]]))


@pytest.mark.parametrize("sketch", [None, torch.tensor([[0.0, 1.0]])], ids=["gallery", "guided"])
def test_the_position_that_wins_gives_its_values(sketch: Tensor | None) -> None:
    feature_map = torch.tensor([[[[0.0, 1.0], [3.0, 2.0]], [[5.0, 6.0], [-7.0, 8.0]]]])  # (1, 2, 2, 2)
    pooled = looking_at_first_channel(1000)(feature_map, sketch)
    assert pooled.attention.tolist() == [[[[0.0, 0.0], [1.0, 0.0]]]]
    assert pooled.feature.tolist() == [[3.0, -7.0]]


def test_a_sketch_that_asks_otherwise_looks_elsewhere() -> None:
    pooler = looking_at_first_channel(1000)
    feature_map = torch.tensor([[[[0.0, 1.0, 3.0]], [[5.0, 6.0, -7.0]]]])  # (1, 2, 1, 3)
    assert pooler(feature_map, torch.tensor([[0.0, -1.0]])).feature.tolist() == [[0.0, 5.0]]
    torch.testing.assert_close(pooler(feature_map, torch.tensor([[1.0, 0.0]])).feature, feature_map.mean((2, 3)))


def test_each_head_takes_its_own_channels_where_it_looks() -> None:
    """Head 0 attends where channel 0 is high and pools channels 0 and 1; head 1 attends by channel 3 and pools 2, 3."""
    pooler = CrossModalAttention(4, 2)
    with torch.no_grad():
        pooler.key.weight.zero_()
        pooler.key.weight[0, 0] = pooler.key.weight[KEY_CHANNELS, 3] = 1000
        pooler.gallery_query[0, :, 0] = KEY_CHANNELS**0.5
    feature_map = torch.tensor([[9.0, 0.0], [1.0, 2.0], [3.0, 4.0], [0.0, 9.0]])[None, :, None]  # (1, 4, 1, 2)
    pooled = pooler(feature_map)
    assert pooled.attention.tolist() == [[[[1.0, 0.0]], [[0.0, 1.0]]]]
    assert pooled.feature.tolist() == [[9.0, 1.0, 4.0, 9.0]]


def norms(pooler: nn.Module) -> dict[str, float | None]:
    return {name: None if w.grad is None else w.grad.norm().item() for name, w in pooler.named_parameters()}


@each_side
@pytest.mark.parametrize("part", ["feature", "attention"])
def test_gradients_reach_the_query_that_asked_and_the_key(guided: bool, part: str) -> None:
    pooler, sketch = attention_with(3), noise(3, CHANNELS, seed=1).requires_grad_()
    feature_map = noise(3, CHANNELS, 2, 4, seed=0).requires_grad_()
    getattr(pooler(feature_map, sketch if guided else None), part).square().sum().backward()
    reached = norms(pooler)
    asked, other = ("sketch_query.weight", "gallery_query") if guided else ("gallery_query", "sketch_query.weight")
    for name in (asked, "key.weight"):
        assert (reached[name] or 0) > 1e-3
    assert reached[other] is None
    assert feature_map.grad is not None
    assert feature_map.grad.norm() > 0
    assert (sketch.grad is not None) == guided


def test_gradients_equal_finite_differences() -> None:
    pooler = attention_with(2, channels=4)
    inputs = noise(2, 4, 1, 3, seed=0).requires_grad_(), noise(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: tuple(pooler(maps)), inputs[:1])
    assert torch.autograd.gradcheck(lambda maps, sketch: tuple(pooler(maps, sketch)), inputs)


@pytest.mark.parametrize("heads", [5, 8, 24])
def test_heads_that_do_not_divide_the_channels_are_refused(heads: int) -> None:
    with pytest.raises(UserError, match=rf"model\.attention_heads is {heads}: it must divide .* 12 channels"):
        make_pooler(CHANNELS, heads)


def test_no_heads_make_the_mean_pooler() -> None:
    pooler = make_pooler(CHANNELS, 0)
    assert isinstance(pooler, MeanPooler)
    assert not list(pooler.parameters())
    attention = make_pooler(CHANNELS, 3)
    assert isinstance(attention, CrossModalAttention)
    assert attention.heads == 3
