"""Class prototypes."""

import torch

from crossatnet.model.prototypes import FreePrototypes


def test_prototypes_are_unit_rows_of_the_weights() -> None:
    prototypes = FreePrototypes(3, 2)
    with torch.no_grad():
        prototypes.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.5, 0.0]]))
    torch.testing.assert_close(prototypes(), torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]))


def test_prototypes_start_apart_and_learn() -> None:
    torch.manual_seed(0)
    prototypes = FreePrototypes(20, 64)
    similarity = prototypes() @ prototypes().T - torch.eye(20)
    assert similarity.abs().max() < 0.6
    target = torch.nn.functional.normalize(torch.randn(20, 64), dim=1)
    before = (prototypes() * target).sum(1)
    (-before.sum()).backward()
    with torch.no_grad():
        prototypes.weight -= 0.1 * prototypes.weight.grad
    assert ((prototypes() * target).sum(1) > before).all()
