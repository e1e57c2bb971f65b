"""The head that proposes boxes, with the maps that it takes."""

import pytest
import torch
from torch import Tensor

from crossatnet.model.backbones.efficientnet import EfficientNetLite0
from crossatnet.model.proposals import RARE, SMALL, Proposer


@pytest.fixture(scope="module")
def proposer() -> Proposer:
    torch.manual_seed(0)
    return Proposer(EfficientNetLite0()).eval()


def maps(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    finer = torch.randn(count, 112, height, width, generator=generator)
    return finer, torch.randn(count, 320, -(-height // 2), -(-width // 2), generator=generator)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (6, 6), (7, 5), (16, 14)])
@torch.inference_mode()
def test_each_position_proposes_whatever_the_maps_sides_are(proposer: Proposer, height: int, width: int) -> None:
    assert proposer(*maps(2, height, width)).shape == (2, 5, height, width)


@torch.inference_mode()
def test_proposals_depend_on_no_other_photo(proposer: Proposer) -> None:
    finer, coarser = maps(3, 6, 6)
    together = proposer(finer, coarser)
    torch.testing.assert_close(proposer(finer[1:2], coarser[1:2]), together[1:2], atol=1e-5, rtol=0)
    torch.testing.assert_close(proposer(finer.flip(0), coarser.flip(0)).flip(0), together, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_both_maps_count_where_they_are(proposer: Proposer) -> None:
    finer, coarser = maps(1, 32, 32)
    before = proposer(finer, coarser)
    for changed in (0, 1):
        given = [finer.clone(), coarser.clone()]
        given[changed][:, :, 0, 0] += 5
        differ = (proposer(*given) - before).abs().amax((0, 1)) > 1e-5  # (H, W)
        assert differ[0, 0]
        assert not differ[12:, :].any()  # two blocks look at four positions around, and one of the coarser map is two
        assert not differ[:, 12:].any()


@torch.inference_mode()
def test_at_first_things_are_rare_and_small(proposer: Proposer) -> None:
    numbers = proposer(torch.zeros(1, 112, 4, 4), torch.zeros(1, 320, 2, 2))
    assert numbers[0, :, 0, 0].tolist() == [RARE, *[SMALL] * 4]
