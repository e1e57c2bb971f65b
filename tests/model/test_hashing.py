"""Hash codes against loops, numpy and by hand."""

import pytest
import torch
from torch import Tensor

from crossatnet.model.hashing import HashCodes
from crossatnet.system.errors import UserError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_bit_is_set_strictly_above_its_hyperplane() -> None:
    module = HashCodes(2, [16])
    weight, offset = torch.zeros(16, 2), torch.full((16,), 9.0)
    weight[0], weight[1] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    offset[:2] = torch.tensor([1.0, 3.0])
    module.set(16, weight, offset)
    bits = module(torch.tensor([[1.5, 1.0], [1.0, 2.5], [0.0, 3.0]]), 16)
    assert bits[:, :2].tolist() == [[True, False], [False, True], [False, False]]
    assert not bits[:, 2:].any()


def test_codes_equal_the_loop() -> None:
    module, embeddings = HashCodes(5, [16, 24]), normal(7, 5)
    for bits in module.lengths:
        module.set(bits, normal(bits, 5, seed=1), normal(bits, seed=2))
        weight, offset = module.get_buffer(f"weight_{bits}"), module.get_buffer(f"offset_{bits}")
        result = module(embeddings, bits)
        assert (result.shape, result.dtype) == ((7, bits), torch.bool)
        for row in range(7):
            for bit in range(bits):
                projected = sum(embeddings[row, d].item() * weight[bit, d].item() for d in range(5))
                assert result[row, bit].item() == (projected > offset[bit].item())


def test_lengths_are_kept_in_their_order() -> None:
    assert HashCodes(4, [64, 16, 512]).lengths == (64, 16, 512)


@pytest.mark.parametrize("bits", [16, 512])
def test_before_fitting_codes_tell_embeddings_apart_and_are_the_same_in_every_network(bits: int) -> None:
    embeddings = normal(50, 24)
    first, second = (HashCodes(24, lengths)(embeddings, bits) for lengths in ([16, 512], [bits]))
    assert torch.equal(first, second)
    assert len(first.unique(dim=0)) == 50
    assert 0.4 < first.float().mean() < 0.6


@pytest.mark.parametrize("bits", [0, 8, 20, 100, 520, -16])
def test_refuses_lengths_that_are_no_codes(bits: int) -> None:
    with pytest.raises(ValueError, match=f"a code of {bits} bits: give a multiple of 8 from 16 to 512"):
        HashCodes(4, [64, bits])


def test_names_the_lengths_it_has() -> None:
    module = HashCodes(4, [64, 128])
    module.check(128)
    message = "no hash codes of 32 bits; there are 64, 128"
    with pytest.raises(UserError, match=message):
        module.check(32)
    with pytest.raises(UserError, match=message):
        module(torch.zeros(1, 4), 32)
    with pytest.raises(UserError, match=message):
        module.set(32, torch.zeros(32, 4), torch.zeros(32))


@pytest.mark.parametrize(("weight", "offset"), [((4,), (16,)), ((16, 4), (1,)), ((16, 1), (16,))])
def test_refuses_hyperplanes_of_another_shape(weight: tuple[int, ...], offset: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of 16 bits is"):
        HashCodes(4, [16]).set(16, torch.zeros(weight), torch.zeros(offset))


def test_hyperplanes_are_saved_with_the_weights() -> None:
    module, twin, embeddings = HashCodes(8, [16, 32]), HashCodes(8, [16, 32]), normal(40, 8)
    for bits in module.lengths:
        module.set(bits, normal(bits, 8, seed=bits), normal(bits, seed=bits + 1))
    assert set(module.state_dict()) == {"weight_16", "offset_16", "weight_32", "offset_32"}
    assert not torch.equal(twin(embeddings, 32), module(embeddings, 32))
    twin.load_state_dict(module.state_dict())
    assert all(torch.equal(twin(embeddings, bits), module(embeddings, bits)) for bits in module.lengths)
    assert not list(module.parameters())  # no optimiser may change them


def test_an_embedding_that_is_missing_has_no_bit_set() -> None:
    assert not HashCodes(4, [16])(torch.full((1, 4), torch.nan), 16).any()
