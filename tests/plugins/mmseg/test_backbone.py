from __future__ import annotations

import copy

import pytest
import torch
from mmseg.registry import MODELS

from .helpers import TinyEmbedder


def test_is_the_embedder(tiny):
    backbone = MODELS.build({"type": "ViceBackbone", "spec": "tiny", "seed": 3})
    images = torch.randn(2, 3, 33, 46)
    (found,) = backbone(images)
    assert torch.equal(found, TinyEmbedder(seed=3).eval()(images))
    assert backbone.dim == 8 and backbone.spherical


def test_is_a_real_checkpoint(run_dir):
    from vice.checkpoint import load_embedder

    backbone = MODELS.build({"type": "ViceBackbone", "spec": str(run_dir)})
    images = torch.randn(1, 3, 40, 36)
    assert torch.equal(backbone(images)[0], load_embedder(str(run_dir))(images))


def test_lab_is_euclidean():
    backbone = MODELS.build({"type": "ViceBackbone", "spec": "lab"})
    assert backbone.dim == 3 and not backbone.spherical


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_stays_frozen_whatever_the_trainer_does(cache_bytes):
    embedder = TinyEmbedder()
    backbone = MODELS.build(
        {"type": "ViceBackbone", "embedder": embedder, "cache_bytes": cache_bytes}
    )
    state = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    backbone.train()
    images = (torch.randn(4, 3, 32, 32) * 5 + 2).requires_grad_()
    (found,) = backbone(images)
    assert not found.requires_grad and not any(p.requires_grad for p in backbone.parameters())
    assert backbone.training and not any(m.training for m in embedder.modules())
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert len(state) == len(embedder.state_dict())


def test_spec_or_embedder_but_not_both():
    with pytest.raises(ValueError, match="either"):
        MODELS.build({"type": "ViceBackbone"})
