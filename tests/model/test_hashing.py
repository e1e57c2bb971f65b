"""Hash codes against numpy and by hand."""

import numpy as np
import torch

from crossatnet.model.hashing import SignHash, pack


def test_a_bit_is_set_strictly_above_the_training_mean() -> None:
    hashing = SignHash(2)
    hashing.fit(torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]]))
    assert hashing.mean.tolist() == [1.0, 3.0]
    bits = hashing(torch.tensor([[1.5, 2.9], [1.0, 3.0], [0.9, 3.1]]))
    assert bits.tolist() == [[True, False], [False, False], [False, True]]


def test_bits_are_balanced_on_what_they_were_fitted_to() -> None:
    embeddings = torch.randn(400, 8, generator=torch.Generator().manual_seed(0)) + torch.arange(8.0)
    hashing = SignHash(8)
    assert hashing(embeddings).float().mean(0)[-1] > 0.99  # without fitting, an offset decides the bit
    hashing.fit(embeddings)
    share = hashing(embeddings).float().mean(0)
    assert ((share > 0.4) & (share < 0.6)).all()


def test_packs_the_first_bit_highest() -> None:
    bits = torch.zeros(2, 16, dtype=torch.bool)
    bits[0, [0, 7]] = True
    bits[1, 14] = True
    codes = pack(bits)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0b10000001, 0], [0, 0b00000010]]


def test_unpackbits_is_the_inverse() -> None:
    bits = torch.rand(20, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    assert np.array_equal(np.unpackbits(pack(bits), axis=1), bits.numpy())


def test_thresholds_are_saved_with_the_weights() -> None:
    assert set(SignHash(4).state_dict()) == {"mean"}
