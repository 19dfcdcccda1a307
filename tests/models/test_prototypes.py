"""Prototypes stay on the unit sphere and score by inner product."""

from __future__ import annotations

import torch

from vice.models import Prototypes


def test_rows_are_unit_length_and_scores_are_inner_products():
    prototypes = Prototypes(5, 3)
    assert torch.allclose(prototypes.weight.norm(dim=1), torch.ones(3), atol=1e-6)
    with torch.no_grad():
        prototypes.weight.mul_(7)
    prototypes.normalize_()
    assert torch.allclose(prototypes.weight.norm(dim=1), torch.ones(3), atol=1e-6)
    vectors = torch.randn(4, 5)
    assert torch.allclose(prototypes(vectors), vectors @ prototypes.weight.t())
    assert prototypes.weight.requires_grad
