"""Poolers, by hand."""

import torch

from crossatnet.model.attention import MeanPooler


def test_mean_pooler_by_hand() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])  # (1, 2, 2, 2)
    assert MeanPooler()(feature_map).tolist() == [[3.0, -1.0]]


def test_mean_pooler_ignores_where_things_are() -> None:
    feature_map = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(0))
    pooled = MeanPooler()(feature_map)
    assert pooled.shape == (3, 5)
    torch.testing.assert_close(MeanPooler()(feature_map.flip(2, 3)), pooled)
    torch.testing.assert_close(MeanPooler()(feature_map.transpose(2, 3)), pooled)
