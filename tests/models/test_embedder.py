"""Shapes, strides, dilation and seeds of the dense embedders."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from vice.errors import UserError
from vice.models import FPN, ResNetFeatures, build_embedder, seeded_embedder


@pytest.mark.parametrize("decoder", ["fpn", "deeplabv3plus"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (1, 1), (7, 130)])
def test_any_size_gives_stride_four(backbone, decoder, size):
    embedder = build_embedder(backbone, decoder, 9).eval()
    with torch.no_grad():
        out = embedder(torch.randn(2, 3, *size))
    assert out.shape == (2, 9, -(-size[0] // 4), -(-size[1] // 4))
    assert bool(torch.isfinite(out).all())
    assert (embedder.dim, embedder.stride) == (9, 4)


@pytest.mark.parametrize(
    ("stride", "sizes"), [(32, (16, 8, 4, 2)), (16, (16, 8, 4, 4)), (8, (16, 8, 8, 8))]
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_output_stride(name, stride, sizes):
    maps = ResNetFeatures(name, stride).eval()(torch.randn(1, 3, 64, 64))
    assert tuple(feature.shape[-1] for feature in maps) == sizes


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_is_torchvisions_for_bottlenecks(stride):
    ours = ResNetFeatures("resnet50", stride).eval()
    replaced = [False, stride == 8, True]
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=replaced).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(theirs, name).register_forward_hook(
            lambda _, __, out, name=name: expected.__setitem__(name, out)
        )
    for part in ("layer1", "layer2", "layer3", "layer4"):
        getattr(ours, part).load_state_dict(getattr(theirs, part).state_dict())
    ours.stem[0].load_state_dict(theirs.conv1.state_dict())
    with torch.no_grad():
        theirs(images)
        found = ours(images)
    for feature, name in zip(found, expected, strict=True):
        assert torch.allclose(feature, expected[name], atol=1e-5)


def test_fpn_adds_what_lies_above():
    fpn = FPN([2, 3], dim=4)
    fine, coarse = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 2, 2)
    up = nn.functional.interpolate(fpn.lateral[1](coarse), size=(4, 4), mode="bilinear")
    assert torch.allclose(fpn([fine, coarse]), fpn.lateral[0](fine) + up, atol=1e-6)


@pytest.mark.parametrize("decoder", ["fpn", "deeplabv3plus"])
def test_every_parameter_gets_a_gradient(decoder):
    embedder = build_embedder("resnet18", decoder, 4)
    embedder(torch.randn(2, 3, 64, 64)).pow(2).mean().backward()
    missing = [name for name, value in embedder.named_parameters() if value.grad is None]
    assert not missing


def test_seed_alone_decides_and_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    first = seeded_embedder(3, backbone="resnet18", decoder="fpn", dim=4)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(7)
    second = seeded_embedder(3, backbone="resnet18", decoder="fpn", dim=4)
    other = seeded_embedder(4, backbone="resnet18", decoder="fpn", dim=4)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.decoder.lateral[0].weight, other.decoder.lateral[0].weight)


def test_config_builds_the_same_architecture():
    embedder = build_embedder("resnet34", "deeplabv3plus", 5, output_stride=16, centre=True)
    assert embedder.config["centre"] and not list(embedder.centre.parameters())
    again = build_embedder(**embedder.config)
    again.load_state_dict(embedder.state_dict())
    small = build_embedder("resnet18", "fpn", 5, padding="replicate", stages=2)
    again = build_embedder(**small.config)
    again.load_state_dict(small.state_dict())
    assert again.config == small.config


@pytest.mark.parametrize(
    ("decoder", "stride"), [("fpn", 32), ("deeplabv3plus", 16), ("deeplabv3plus", 8)]
)
def test_replicated_borders_hide_the_place(decoder, stride):
    """What is the same everywhere in the image is the same everywhere in the embedding."""
    images = torch.ones(1, 3, 1, 1).expand(1, 3, 96, 64)
    spread = {}
    for padding in ("zeros", "replicate"):
        config = {"decoder": decoder, "output_stride": stride, "dim": 4, "padding": padding}
        embedder = seeded_embedder(0, backbone="resnet18", **config).eval()
        with torch.no_grad():
            out = embedder(images)
        assert out.shape == (1, 4, 24, 16)
        spread[padding] = float((out.amax((2, 3)) - out.amin((2, 3))).max())
    assert spread["replicate"] < 1e-5 < spread["zeros"]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_fewer_stages_are_the_first_ones_and_see_less(stages):
    full = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=4)
    part = build_embedder("resnet18", "fpn", 4, stages=stages).eval()
    wanted = part.state_dict().keys()
    part.load_state_dict({k: v for k, v in full.state_dict().items() if k in wanted})
    image = torch.randn(1, 3, 512, 512, requires_grad=True)
    out = part(image)
    assert out.shape == (1, 4, 128, 128)
    out[0, :, 64, 64].sum().backward()
    seen = image.grad.abs().amax((0, 1, 2)).nonzero()
    # Bilinear upsampling between the stages widens the bare backbone's field a little.
    field = (43, 99, 211, 435)[stages - 1]
    assert field <= int(seen.max() - seen.min()) + 1 <= 1.5 * field


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "mirror"}, "padding 'mirror' is unknown; choose one of zeros, replicate"),
        ({"stages": 5}, "stages must be 1 to 4, not 5"),
        ({"decoder": "deeplabv3plus", "stages": 2}, "needs all 4 stages"),
        ({"backbone": "vgg16"}, "backbone 'vgg16' is unknown"),
        ({"decoder": "unet"}, "decoder 'unet' is unknown"),
        ({"dim": 0}, "has 1 to 65,536 dimensions, not 0"),
        ({"dim": 10**16}, "has 1 to 65,536 dimensions"),
        ({"dim": 10**20}, "has 1 to 65,536 dimensions"),
        ({"output_stride": 16}, "output_stride 16 does not go with fpn"),
        ({"decoder": "deeplabv3plus", "output_stride": 4}, "output_stride must be 8, 16 or 32"),
        ({"weights": "moco"}, "backbone weights must be"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        build_embedder(**arguments)


def test_weights_that_cannot_be_fetched_name_the_remedy(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match="cannot fetch .* resnet18 .*weights=null"):
        build_embedder(weights="imagenet")
