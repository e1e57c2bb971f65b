"""Hash codes: embeddings as packed bits, with one hyperplane for each bit.

Shapes: `B` batch, `D` the shared space, `R` bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crossatnet.model.interface import check_code_length

SHORTEST, LONGEST = 16, 512


class HashCodes(nn.Module):
    """Codes of several lengths from one embedding: a bit says on which side of its hyperplane the embedding lies.

    Until `set` is called, hyperplanes are random ones through the origin (Charikar, 2002), the same in every network.

    Example:
        >>> import torch
        >>> from crossatnet.model.hashing import HashCodes
        >>> codes = HashCodes(8, lengths=(16, 64))
        >>> codes.set(16, torch.randn(16, 8), torch.zeros(16))
        >>> codes.check(16)
        >>> codes.forward(torch.randn(3, 8), 16).shape
        torch.Size([3, 16])
    """

    def __init__(self, dimension: int, lengths: Sequence[int]) -> None:
        super().__init__()
        for bits in lengths:
            if bits % 8 or not SHORTEST <= bits <= LONGEST:
                raise ValueError(f"a code of {bits} bits: give a multiple of 8 from {SHORTEST} to {LONGEST}")
            generator = torch.Generator().manual_seed(bits)
            self.register_buffer(f"weight_{bits}", torch.randn(bits, dimension, generator=generator))
            self.register_buffer(f"offset_{bits}", torch.zeros(bits))
        self._lengths = tuple(lengths)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Code lengths in bits, in the order they were given."""
        return self._lengths

    def check(self, bits: int) -> None:
        """Raise `UserError` for a length that is not among `lengths`."""
        check_code_length(bits, self._lengths)

    def set(self, bits: int, weight: Tensor, offset: Tensor) -> None:
        """Take the hyperplanes of one length: weight (bits, D) and offset (bits,)."""
        self.check(bits)
        for name, values in (("weight", weight), ("offset", offset)):
            buffer = self.get_buffer(f"{name}_{bits}")
            if buffer.shape != values.shape:  # `copy_` would broadcast it
                raise ValueError(f"{name} of {bits} bits is {tuple(buffer.shape)}, not {tuple(values.shape)}")
            buffer.copy_(values)

    def forward(self, embeddings: Tensor, bits: int) -> Tensor:
        """Embeddings (B, D) -> codes (B, bits), bool. Raises `UserError` for a length that is not among `lengths`."""
        self.check(bits)
        weight, offset = self.get_buffer(f"weight_{bits}"), self.get_buffer(f"offset_{bits}")
        return embeddings @ weight.T > offset  # (B, bits)
