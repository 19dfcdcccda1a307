from __future__ import annotations

import copy

import pytest
import torch
from mmseg.registry import MODELS

from vice.errors import UserError
from vice.plugins.mmseg.backbone import share_embedder

from .helpers import TinyEmbedder


def test_is_the_embedder(tiny):
    backbone = MODELS.build({"type": "ViceBackbone", "spec": "tiny", "seed": 3})
    images = torch.randn(2, 3, 33, 46)
    (found,) = backbone(images)
    assert torch.equal(found, TinyEmbedder(seed=3).eval()(images))
    assert backbone.dim == 8 and backbone.spherical


def test_is_a_real_checkpoint(run_dir):
    from vice.models.checkpoint import load_embedder

    backbone = MODELS.build({"type": "ViceBackbone", "spec": str(run_dir)})
    images = torch.randn(1, 3, 40, 36)
    with torch.no_grad():
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


def test_flip_average_is_the_mean_over_the_mirror_image_but_not_in_training():
    embedder = TinyEmbedder().eval()
    backbone = MODELS.build({"type": "ViceBackbone", "embedder": embedder, "flip_average": True})
    images = torch.randn(2, 3, 32, 48)
    mirrored = embedder(images.flip(3)).flip(3)
    torch.testing.assert_close(backbone.eval()(images)[0], (embedder(images) + mirrored) / 2)
    torch.testing.assert_close(backbone.train()(images)[0], embedder(images))


def test_unfrozen_it_learns_and_trains_its_normalisation():
    embedder = TinyEmbedder()
    backbone = MODELS.build({"type": "ViceBackbone", "embedder": embedder, "frozen": False})
    backbone.train()
    before = embedder.norm.running_mean.clone()
    (found,) = backbone(torch.randn(4, 3, 32, 32) + 1)
    found.square().mean().backward()
    assert embedder.conv.weight.grad.abs().sum() > 0
    assert not torch.equal(embedder.norm.running_mean, before)
    with pytest.raises(ValueError, match="cannot be kept"):
        MODELS.build(
            {"type": "ViceBackbone", "embedder": embedder, "frozen": False, "cache_bytes": 1}
        )


def test_one_loading_serves_all_backbones_that_mean_it(tiny, monkeypatch):
    from vice.models import load as extractors

    load, calls = extractors.load_extractor, []
    monkeypatch.setattr(
        extractors, "load_extractor", lambda *a, **k: calls.append(a) or load(*a, **k)
    )
    config = {"type": "ViceBackbone", "spec": tiny, "cache_bytes": 10**6}
    images = torch.randn(1, 3, 16, 16)
    shared = share_embedder(tiny, 0, 10**6)
    one, two = (MODELS.build(shared.hand_to(config)) for _ in range(2))
    assert one.embedder is two.embedder is shared.embedder and len(calls) == 1
    one(images)
    used = shared.embed.used_bytes
    two(images)
    assert used == shared.embed.used_bytes > 0
    assert MODELS.build(config).embedder is not shared.embedder and len(calls) == 2
    others = ({"seed": 1}, {"cache_bytes": 0}, {"spec": "lab"}, {"type": "ResNet"},
              {"frozen": False})  # fmt: skip
    for change in others:
        assert shared.hand_to({**config, **change}) == {**config, **change}


def test_mirror_images_of_another_size_cannot_be_averaged():
    class Cropping(torch.nn.Module):
        dim = 3

        def forward(self, images):
            return images[..., : 2 + int(images[0, 0, 0, 0] > 0), :]

    images = torch.zeros(1, 3, 4, 8)
    images[..., 0] = 1
    backbone = MODELS.build(
        {"type": "ViceBackbone", "embedder": Cropping(), "flip_average": True}
    ).eval()
    backbone.watch.names = ("a.png",)
    with pytest.raises(UserError, match=r"a\.png: .*3, 8\), and .*2, 8\) for the mirror"):
        backbone(images)
