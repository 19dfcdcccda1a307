from __future__ import annotations

import logging

import pytest
import torch
import torchvision
from torch import nn

from vice.command.info import describe_model
from vice.errors import UserError
from vice.models.load import load_extractor
from vice.models.resnet_embedder import ResNetEmbedder, load_resnet


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


def plain(net, images):
    """Torchvision's own forward without its last two steps."""
    return nn.Sequential(*list(net.children())[:-2])(images)


@pytest.mark.parametrize("place", ["plain", "state_dict", "moco", "vissl"])
def test_weights_are_found_wherever_they_lie_and_give_the_same_features(
    resnet, place, tmp_path, caplog
):
    state = resnet.state_dict()
    contents = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "moco": {"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}},
        "vissl": {
            "classy_state_dict": {
                "base_model": {
                    "model": {"trunk": {f"_feature_blocks.{k}": v for k, v in state.items()}}
                }
            }
        },
    }
    torch.save(contents[place], tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO):
        embedder = load_extractor(str(tmp_path / "weights.pth"))
    assert "2 weights are not part of a ResNet: fc" in caplog.text
    assert embedder.weight_source["unused"] == 2
    same = ResNetEmbedder("resnet18", output_stride=32).eval()
    same.load_state_dict(embedder.state_dict())
    images = torch.randn(2, 3, 65, 97)
    torch.testing.assert_close(same(images), plain(resnet, images))
    assert embedder.dim == 512 and embedder(images).shape == (2, 512, 9, 13)
    assert not embedder.training


def test_the_trunk_of_vissl_itself(tmp_path):
    pytest.importorskip("vissl")
    from vissl.config import AttrDict
    from vissl.models.trunks.resnext import ResNeXt

    torch.manual_seed(0)
    options = {
        "DEPTH": 50, "WIDTH_MULTIPLIER": 1, "NORM": "BatchNorm", "GROUPS": 1, "ZERO_INIT_RESIDUAL":
        False, "WIDTH_PER_GROUP": 64, "LAYER4_STRIDE": 2, "STANDARDIZE_CONVOLUTIONS": False,
        "GROUPNORM_GROUPS": 32,
    }  # fmt: skip
    config = AttrDict(
        {
            "INPUT_TYPE": "rgb",
            "ACTIVATION_CHECKPOINTING": {
                "USE_ACTIVATION_CHECKPOINTING": False,
                "NUM_ACTIVATION_CHECKPOINTING_SPLITS": 1,
            },
            "TRUNK": {"RESNETS": options},
        }
    )
    trunk = ResNeXt(config, "resnet").eval()
    content = {"classy_state_dict": {"base_model": {"model": {"trunk": trunk.state_dict()}}}}
    torch.save(content, tmp_path / "model.torch")
    embedder = load_resnet(tmp_path / "model.torch", "resnet50")
    same = ResNetEmbedder("resnet50", output_stride=32).eval()
    same.load_state_dict(embedder.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = trunk(images, ["res5"])[0]
        torch.testing.assert_close(same(images), expected, atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_named(resnet, tmp_path, caplog):
    file = tmp_path / "w.pth"
    state = resnet.state_dict()
    torch.save(state, file)
    with pytest.raises(UserError, match="holds a resnet18, not a resnet50"):
        load_extractor(f"torchvision:resnet50@{file}")
    torch.save({k: v for k, v in state.items() if k != "layer3.1.conv2.weight"}, file)
    with pytest.raises(UserError, match=r"1 are missing.*layer3\.1\.conv2\.weight"):
        load_extractor(str(file))
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(UserError, match="no ResNet with torchvision's names"):
        load_extractor(str(file))
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4.1")}, file)
    with pytest.raises(UserError, match=r"\(2, 2, 2, 1\) blocks"):
        load_extractor(str(file))


def test_torchvision_by_name_reads_its_cache_or_says_what_to_do(resnet, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="ImageNet weights for resnet18"):
        load_extractor("torchvision:resnet18")
    with pytest.raises(UserError, match="ImageNet weights for resnet18"):
        load_extractor("imagenet:resnet18-fpn-16")
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(resnet.state_dict(), folder / url.rpartition("/")[2])
    found = load_extractor("torchvision:resnet18").features.stem[0].weight
    torch.testing.assert_close(found, resnet.conv1.weight)
    dense = load_extractor("imagenet:resnet18-fpn-16", seed=4)
    assert dense.dim == 16


def test_one_file_has_another_stride_by_timm_as_the_documents_say(tmp_path):
    pytest.importorskip("timm")
    file = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), file)
    specs = {str(file): 8, f"torchvision:resnet18@{file}": 8, f"timm:resnet18@{file}": 32}
    for spec, stride in specs.items():
        assert describe_model(spec)["stride"] == f"{stride} pixels"
        with torch.no_grad():
            dense = load_extractor(spec)(torch.zeros(1, 3, 64, 96))
        assert dense.shape[-2:] == (64 // stride, 96 // stride)
