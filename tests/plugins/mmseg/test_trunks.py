"""Trunks in MMSegmentation's own backbones, loaded as the command says, against the model."""

from __future__ import annotations

import pytest
import torch

from tests.export.test_trunks import model, pictures
from vice.errors import UserError
from vice.export.write_trunk import write_trunk
from vice.models import seeded_embedder
from vice.normalize import normalize

pytest.importorskip("mmseg")

from vice.plugins.mmseg.trunks import mmseg_trunk


def loaded(predictor, folder):
    import mmseg.registry
    from mmengine.registry import DefaultScope

    trunk = mmseg_trunk(predictor.embedder)
    made = write_trunk(predictor, folder, trunk)
    names = {"torch": torch, "mmseg": mmseg}
    with DefaultScope.overwrite_default_scope("mmseg"):
        for line in made.lines:
            exec(line.replace(made.file, str(folder / made.file)), names)
    assert made.missing == []
    names["network"].eval()
    return names["network"], trunk


@pytest.mark.parametrize(
    "config",
    [
        {"padding": "replicate", "stages": 2},  # what the demo trains
        {"backbone": "resnet50", "decoder": "deeplabv3plus"},
    ],
)
@torch.no_grad()
def test_resnets(config, tmp_path):
    predictor, images = model(**config), pictures()
    network, _ = loaded(predictor, tmp_path)
    wanted, found = predictor.embedder.backbone(normalize(images)), network(normalize(images))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_plain_vit(tmp_path):
    pytest.importorskip("timm")
    predictor = model("timm:vit_tiny_patch16_224", "auto")
    network, trunk = loaded(predictor, tmp_path)
    images = pictures(224, 224)[:1]
    wanted = predictor.embedder.backbone(normalize(images))[-1]
    found = network(trunk.normalized(images))[-1]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"backbone": "resnet18", "decoder": "deeplabv3"}, "no resnet18 of output stride 8"),
        ({"backbone": "timm:vit_small_patch14_dinov2"}, "has no vit_small_patch14_dinov2"),
        ({"backbone": "timm:test_convnext"}, "has no test_convnext"),
    ],
)
def test_what_it_does_not_have(config, why):
    pytest.importorskip("timm")
    with torch.device("meta"):
        embedder = seeded_embedder(0, **({"decoder": "auto", "dim": 4} | config))
    with pytest.raises(UserError, match=why):
        mmseg_trunk(embedder)
