"""Trunks in torchvision and timm, loaded as the command says, against the model."""

from __future__ import annotations

import json
import sys

import pytest
import safetensors.torch
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from vice.command import export as command
from vice.errors import UserError
from vice.export.trunks import timm_trunk, torchvision_trunk
from vice.export.write_trunk import write_trunk
from vice.models import seeded_embedder
from vice.models.checkpoint import Checkpoint
from vice.models.lab import LabEmbedder
from vice.normalize import normalize
from vice.predictor import Predictor


def model(backbone="resnet18", decoder="fpn", **config) -> Predictor:
    embedder = seeded_embedder(0, backbone=backbone, decoder=decoder, dim=4, **config).eval()
    # Statistics of a new network are zeros and ones, whatever they are called.
    torch.manual_seed(1)
    for name, value in embedder.named_buffers():
        if "running_mean" in name:
            value.uniform_(-0.1, 0.1)
        elif "running_var" in name:
            value.uniform_(0.5, 1.5)
    return Predictor(Checkpoint(embedder.requires_grad_(False)), "cpu", "a model")


def loaded(predictor, trunk, folder, **libraries):
    """The library's network, by the lines that are shown, and what it takes."""
    made = write_trunk(predictor, folder, trunk)
    assert made.difference < 1e-4
    names = {"torch": torch, "safetensors": safetensors, **libraries}
    for line in made.lines:
        exec(line.replace(made.file, str(folder / made.file)), names)
    names["network"].eval()
    return names["network"], made


@torch.no_grad()
def test_torchvision_computes_the_same(tmp_path):
    predictor, images = model("resnet50", "deeplabv3plus", output_stride=16), pictures()
    trunk = torchvision_trunk(predictor.embedder)
    network, made = loaded(predictor, trunk, tmp_path, torchvision=torchvision)
    assert made.missing == ["fc."] and "[False, False, True]" in made.lines[0]
    wanted = predictor.embedder.backbone(normalize(images))[-1]
    layers = create_feature_extractor(network, ["layer4"])
    torch.testing.assert_close(layers(normalize(images))["layer4"], wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_timm_computes_the_same_of_a_resnet_of_fewer_stages(tmp_path):
    timm = pytest.importorskip("timm")
    predictor, images = model(stages=3), pictures()
    network, made = loaded(predictor, timm_trunk(predictor.embedder), tmp_path, timm=timm)
    assert made.missing == ["layer4."]
    wanted = predictor.embedder.backbone(normalize(images))
    found = network.forward_intermediates(
        normalize(images), indices=[1, 2, 3], intermediates_only=True
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
@torch.no_grad()
def test_a_model_of_timm_is_itself_again(name, tmp_path):
    """Also one whose normalizations ViCE has parted from their activations."""
    timm = pytest.importorskip("timm")
    predictor = model(f"timm:{name}", "auto")
    trunk = timm_trunk(predictor.embedder)
    network, _ = loaded(predictor, trunk, tmp_path, timm=timm)
    images = pictures(64, 96)
    wanted = predictor.embedder.backbone(normalize(images))[-1]
    found = network.forward_intermediates(
        trunk.normalized(images), intermediates_only=True, norm=name == "test_vit"
    )
    found = [each for each in found if each.shape == wanted.shape][-1]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    said = json.loads((tmp_path / "export.json").read_text())
    assert str(timm.get_pretrained_cfg(name).mean) in said["input"]


@pytest.mark.parametrize(
    ("config", "to", "why"),
    [
        ({"padding": "replicate"}, torchvision_trunk, "pad with zeros.*mmseg, onnx or torchscript"),
        ({"padding": "replicate"}, timm_trunk, "pad with zeros"),
        ({"decoder": "deeplabv3plus"}, torchvision_trunk, "no resnet18 of output stride 8"),
        ({"decoder": "deeplabv3plus"}, timm_trunk, "no resnet18 of output stride 8"),
        ({"backbone": "timm:test_vit", "decoder": "auto"}, torchvision_trunk, "a model of timm"),
        ({"backbone": "net10a", "decoder": "none", "dim": 512}, timm_trunk, "net10a is no ResNet"),
    ],
)
def test_what_a_library_does_not_have_is_said_in_a_line(config, to, why):
    pytest.importorskip("timm")
    with torch.device("meta"):
        embedder = seeded_embedder(0, **({"backbone": "resnet18", "dim": 4} | config))
    with pytest.raises(UserError, match=why) as said:
        to(embedder)
    assert "\n" not in str(said.value) and "export to" in str(said.value)


def test_other_networks_have_no_trunk():
    with pytest.raises(UserError, match="LabEmbedder is no ResNet and no model of timm"):
        torchvision_trunk(LabEmbedder())


def test_a_network_that_computes_something_else_is_refused(tmp_path):
    predictor = model()
    trunk = torchvision_trunk(predictor.embedder)
    tensors = dict(trunk.tensors) | {"bn1.running_mean": trunk.tensors["bn1.running_mean"] + 0.1}
    assert write_trunk(predictor, tmp_path / "right", trunk).difference < 1e-4
    wrong = type(trunk)(trunk.call, trunk.build, tensors, trunk.maps)
    with pytest.raises(UserError, match="computes other maps"):
        write_trunk(predictor, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, capsys, monkeypatch, run_dir):
    words = ["vice export", str(run_dir), "--to", "torchvision", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    said = capsys.readouterr().out
    assert "network = torchvision.models.resnet18(weights=None)" in said and "fc." in said
    monkeypatch.setattr(sys, "argv", [*words, "--normalized"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2


def pictures(height=70, width=90):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3))
