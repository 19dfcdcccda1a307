"""Further dense outputs of an embedder, frozen stages, and the decoder of DeepLabV3."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torchvision

import vice
from vice.errors import UserError
from vice.models import build_embedder, seeded_embedder
from vice.models.checkpoint import load_checkpoint, save_run

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("decoder", ["fpn", "deeplabv3plus", "deeplabv3"])
def test_an_output_is_linear_in_what_the_embedding_is_projected_from(decoder):
    options = {"backbone": "resnet18", "decoder": decoder, "dim": 5, "centre": True}
    embedder = seeded_embedder(0, **options, outputs={"saliency": 1}).eval()
    with torch.no_grad():
        joint = embedder(IMAGES, outputs=True)
        stride = 8 if decoder == "deeplabv3" else 4
        assert joint.shape == (2, 6, 64 // stride, 96 // stride) and embedder.stride == stride
        torch.testing.assert_close(joint[:, :5], embedder(IMAGES))
        torch.testing.assert_close(joint[:, 5:], embedder.foreground(IMAGES))
        if decoder != "fpn":
            weight = embedder.outputs["saliency"].weight
            fused = embedder.decoder_features(IMAGES)
            expected = torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], fused)
            torch.testing.assert_close(joint[:, 5:], expected, rtol=1e-4, atol=1e-5)
    assert not [name for name, _ in embedder.outputs.named_parameters() if "bias" in name]
    joint = embedder.train()(IMAGES, outputs=True)
    joint.square().sum().backward()
    assert [n for n, p in embedder.named_parameters() if p.grad is None] == []


def test_an_embedder_without_outputs_is_what_it_was(tmp_path):
    plain = seeded_embedder(0, dim=5, stages=1)
    assert "outputs" not in plain.config and not hasattr(plain, "foreground")
    assert not [name for name in plain.state_dict() if name.startswith("outputs")]
    torch.testing.assert_close(plain.eval()(IMAGES, outputs=True), plain(IMAGES))
    with pytest.raises(UserError, match="random:resnet18-fpn-8 has no saliency"):
        vice.load("random:resnet18-fpn-8", device="cpu").saliency(np.zeros((9, 9, 3), np.uint8))


def test_an_output_is_saved_and_loaded_with_the_embedder(tmp_path):
    embedder = seeded_embedder(0, dim=5, stages=1, outputs={"saliency": 1}).eval()
    save_run(tmp_path, embedder)
    loaded = load_checkpoint(tmp_path).embedder
    torch.testing.assert_close(loaded.foreground(IMAGES), embedder.foreground(IMAGES))
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    logits = vice.load(tmp_path, device="cpu").saliency(image)
    assert logits.shape == (33, 50) and logits.dtype == torch.float32
    assert float(logits.min()) < 0 < float(logits.max()) or float(logits.std()) > 0
    card = json.loads((tmp_path / "vice.json").read_text())
    assert card["embedder"]["outputs"] == {"saliency": 1}


@pytest.mark.parametrize("outputs", ["saliency", {"a.b": 1}, {"a": -1}, {"a": True}, {1: 1}])
def test_outputs_that_are_none_are_refused(outputs):
    with pytest.raises(UserError, match="outputs .* are no names"):
        build_embedder(outputs=outputs)


def test_the_first_stages_stay_as_they_are_in_evaluation_mode():
    embedder = seeded_embedder(0, backbone="resnet18", dim=4, frozen=2).train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embedder(IMAGES).sum().backward()
    torch.optim.SGD([p for p in embedder.parameters() if p.grad is not None], 0.1).step()
    after = embedder.state_dict()
    same = {n for n in before if torch.equal(before[n], after[n])}
    frozen = {n for n in before if n.startswith(("backbone.stem", "backbone.layer1",
                                                 "backbone.layer2"))}  # fmt: skip
    assert frozen and frozen <= same and not [n for n in same - frozen if "running_mean" in n]


def test_the_decoder_is_torchvisions_but_for_its_last_layer():
    embedder = seeded_embedder(0, backbone="resnet18", decoder="deeplabv3", dim=7).eval()
    theirs = torchvision.models.segmentation.deeplabv3.DeepLabHead(512, 7, (12, 24, 36)).eval()
    own = list(embedder.decoder.state_dict().values())
    names = list(theirs.state_dict())
    assert [tuple(value.shape) for value in own] == [
        tuple(value.shape) for value in theirs.state_dict().values()
    ]
    theirs.load_state_dict(dict(zip(names, own, strict=True)))
    features = embedder.backbone(IMAGES)
    torch.testing.assert_close(embedder.decoder(features), theirs(features[-1]))
