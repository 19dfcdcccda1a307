"""Networks of timm under the dense embedder, against timm itself."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import vice
from vice.errors import UserError
from vice.models import ProgressiveUpsampling, build_embedder, seeded_embedder
from vice.models.checkpoint import load_checkpoint, load_embedder, save_run
from vice.models.load import load_extractor
from vice.models.timm_backbones import timm_features

timm = pytest.importorskip("timm")
CNN, VIT = "timm:convnext_atto", "timm:vit_tiny_patch16_224"
DECODERS = {
    CNN: "fpn",
    "timm:resnet10t": "fpn",
    "timm:mobilenetv3_small_050": "fpn",
    VIT: "pup",
    "timm:vit_small_patch14_dinov2": "pup",
    "timm:vit_small_patch16_dinov3": "pup",
    "timm:vit_small_patch8_224.dino": "pup",
}


def tiny(backbone: str, **more):
    return seeded_embedder(0, backbone=backbone, decoder="auto", dim=6, **more)


def own_normalization(picture, net):
    """What timm feeds a model, and what ViCE gives it, of an RGB picture in [0, 1]."""
    ours = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs = (torch.tensor(net.pretrained_cfg[key]) for key in ("mean", "std"))
    pairs = ((m.view(3, 1, 1), s.view(3, 1, 1)) for m, s in (tuple(theirs), ours))
    return [(picture - mean) / std for mean, std in pairs]


@pytest.mark.parametrize("backbone", DECODERS)
def test_any_size_gives_stride_four_and_every_parameter_a_gradient(backbone):
    embedder = tiny(backbone)
    assert embedder.config["decoder"] == DECODERS[backbone]
    assert embedder.training and embedder.backbone.training
    for size in ((64, 48), (65, 97), (7, 130)):
        out = embedder(torch.randn(2, 3, *size))
        assert out.shape == (2, 6, -(-size[0] // 4), -(-size[1] // 4))
    out.pow(2).mean().backward()
    # Distributed training ends at the first parameter that has none.
    missing = [name for name, value in embedder.named_parameters() if value.grad is None]
    assert not missing


@pytest.mark.parametrize("backbone", [CNN, "timm:resnet10t"])
def test_pyramid_is_timms_own(backbone):
    name = backbone.removeprefix("timm:")
    ours = timm_features(name).eval()
    full = timm.create_model(name, num_classes=0)
    full.load_state_dict(ours.net.state_dict(), strict=False)
    theirs = timm.create_model(name, features_only=True).eval()
    strides = theirs.feature_info.reduction()
    # Both lists have the same layers in the same order; only the separators differ.
    state = {key.replace(".", "_"): value for key, value in ours.net.state_dict().items()}
    theirs.load_state_dict({k: state[k.replace(".", "_")] for k in theirs.state_dict()})
    picture = torch.rand(1, 3, 64, 96)
    their_input, our_input = own_normalization(picture, ours.net)
    with torch.no_grad():
        expected = theirs(their_input)
        found = ours(our_input)
    assert [f.shape[-1] for f in found] == [24, 12, 6, 3]
    wanted = [f for f, stride in zip(expected, strides, strict=True) if stride >= 4]
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert ours.channels == tuple(f.shape[1] for f in wanted)
    fewer = timm_features(name, stages=2).eval()
    assert fewer.channels == ours.channels[:2]
    assert len(list(fewer.parameters())) < len(list(ours.parameters()))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "regnety_002", "resnet10t"])
def test_synchronised_batch_norm_is_the_same_network(name):
    """PyTorch's conversion, against timm's features of the very same weights."""
    ours, theirs = (tiny(f"timm:{name}").backbone.eval() for _ in range(2))
    full = timm.create_model(name, features_only=True).eval()
    for value, wanted in zip(full.state_dict().values(), ours.state_dict().values(), strict=False):
        assert value.shape == wanted.shape
        value.copy_(wanted)
    picture = torch.rand(2, 3, 64, 64)
    their_input, our_input = own_normalization(picture, ours.net)
    with torch.no_grad():
        expected = full(their_input)[-4:]
        for module in (theirs, nn.SyncBatchNorm.convert_sync_batchnorm(ours)):
            for one, two in zip(module(our_input), expected, strict=True):
                torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 224), ("vit_small_patch16_dinov3", 64)]
)
def test_tokens_are_timms_own(name, side):
    ours = timm_features(name).eval()
    theirs = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(ours.net.state_dict(), strict=False)
    their_input, our_input = own_normalization(torch.rand(1, 3, side, side), theirs)
    with torch.no_grad():
        tokens = theirs.forward_features(their_input)[:, theirs.num_prefix_tokens :]
        (found,) = ours(our_input)
    expected = tokens.transpose(1, 2).reshape(found.shape)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_upsampling_step_is_the_formula():
    decoder = ProgressiveUpsampling([5], 3, patch=8).double().eval()
    (step,) = decoder.steps
    norm = step.refine[1]
    nn.init.normal_(norm.running_mean)
    features = torch.randn(1, 5, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        found = decoder([features])[0].numpy()
        up = nn.functional.interpolate(decoder.project(features), scale_factor=2, mode="bilinear")
    up = up[0].numpy()
    padded = np.pad(up, ((0, 0), (1, 1), (1, 1)))
    kernel, mix = (step.refine[i].weight.detach().numpy() for i in (0, 3))
    hidden = np.zeros_like(up)
    for channel, row, column in np.ndindex(*up.shape):
        window = padded[channel, row : row + 3, column : column + 3]
        hidden[channel, row, column] = (window * kernel[channel, 0]).sum()
    mean = norm.running_mean.numpy()[:, None, None]
    hidden = np.maximum((hidden - mean) / np.sqrt(1 + norm.eps), 0)
    added = np.einsum("oc,chw->ohw", mix[:, :, 0, 0], hidden)
    bias = step.refine[3].bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(found, up + added + bias, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet10t", "regnety_002", "repvgg_a0", "densenet121"]
)
def test_first_stages_are_frozen_by_number(name, count):
    """Autograd as the oracle: a map has a gradient where anything that made it has one."""
    embedder = build_embedder(f"timm:{name}", dim=4, frozen=count).train()
    before = {key: value.clone() for key, value in embedder.backbone.named_buffers()}
    maps = embedder.backbone(torch.randn(2, 3, 64, 64))
    assert [each.requires_grad for each in maps] == [place >= count for place in range(4)]
    moved = {
        key.removesuffix(".running_mean")
        for key, value in embedder.backbone.named_buffers()
        if key.endswith("running_mean") and not torch.equal(value, before[key])
    }
    modules = dict(embedder.backbone.named_modules())
    trained = {
        key
        for key, module in modules.items()
        if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad
    }
    assert moved == trained and bool(trained) == (count < 4)


def test_a_transformer_has_no_stages_to_freeze():
    with pytest.raises(UserError, match="TimmTransformer has no stages to freeze by number"):
        build_embedder(VIT, decoder="auto", dim=4, frozen=2)


@pytest.mark.parametrize(("patch", "steps"), [(4, 0), (8, 1), (14, 2), (16, 2), (32, 3)])
def test_upsampling_steps_follow_the_patch(patch, steps):
    assert len(ProgressiveUpsampling([2], 3, patch=patch).steps) == steps


@pytest.mark.parametrize("backbone", ["timm:resnet10t", VIT, "resnet18"])
def test_frozen_backbones_stay_as_they_are(backbone):
    embedder = tiny(backbone, frozen=True)
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embedder.train()
    assert embedder.training and embedder.decoder.training
    assert not any(module.training for module in embedder.backbone.modules())
    optimizer = torch.optim.AdamW(embedder.parameters(), weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        embedder(torch.randn(2, 3, 40, 56)).square().mean().backward()
        optimizer.step()
    changed = [k for k, v in embedder.state_dict().items() if not torch.equal(v, before[k])]
    assert changed and all(name.startswith("decoder.") for name in changed)
    parameters = [name for name, value in embedder.named_parameters() if value.requires_grad]
    assert parameters and set(parameters) <= set(changed)


@pytest.mark.parametrize("backbone", ["timm:mobilenetv3_small_050", CNN, VIT])
def test_checkpoints_need_no_download(backbone, tmp_path, monkeypatch):
    embedder = tiny(backbone, frozen=True, centre=True).eval()

    def refuse(*args, **kwargs):
        raise AssertionError("asked for weights that the checkpoint has")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    save_run(tmp_path, embedder, None, {"seed": 1})
    loaded = load_checkpoint(tmp_path).embedder
    assert loaded.config == embedder.config and "weights" not in loaded.config
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    images = torch.randn(1, 3, 37, 50)
    with torch.no_grad():
        expected = embedder(images)
        for module in (loaded, load_extractor(str(tmp_path))):
            assert torch.equal(module(images), expected)
        assert not torch.equal(load_embedder(f"random:{tmp_path}", seed=7)(images), expected)
    assert vice.load(tmp_path, device="cpu").embed(image).shape == (6, 37, 50)
    # What was frozen in one training can be tuned in the next.
    assert loaded.requires_grad_(True).train().backbone.training


@pytest.mark.parametrize("wrap", ["plain", "dino", "lightning", "safetensors"])
def test_local_weights(wrap, tmp_path, caplog):
    torch.manual_seed(5)
    source = timm.create_model("vit_tiny_patch16_224", num_classes=3).state_dict()
    file = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(source, file)
    else:
        teacher = {f"module.backbone.{key}": value for key, value in source.items()}
        teacher["module.head.mlp.weight"] = torch.zeros(2, 2)
        content = {
            "plain": source,
            "dino": {"epoch": 3, "student": {}, "teacher": teacher},
            "lightning": {"state_dict": {f"module.{k}": v for k, v in source.items()}},
        }[wrap]
        torch.save(content, file)
    with caplog.at_level(logging.INFO):
        embedder = build_embedder(VIT, "auto", 4, weights=str(file))
    found = embedder.backbone.net.state_dict()
    assert set(found) == set(source) - {"head.weight", "head.bias"}
    assert all(torch.equal(value, source[key]) for key, value in found.items())
    assert "2 weights are not part of timm:vit_tiny_patch16_224: head" in caplog.text


@pytest.mark.parametrize("family", ["pyramid", "other pyramid", "vit"])
def test_a_name_that_another_network_is_given_meanwhile(family, monkeypatch):
    """As in a notebook, where a model that is edited is registered again."""

    def register(make):
        def own_net(pretrained=False, **options):
            options.pop("pretrained_cfg", None)
            options.pop("pretrained_cfg_overlay", None)
            options.pop("cache_dir", None)
            return make(**options)

        monkeypatch.setitem(timm.models._registry._model_entrypoints, "own_net", own_net)

    register(lambda **options: timm.create_model("test_convnext", **options))
    before = build_embedder("timm:own_net", "auto", 4).eval()
    second = {"pyramid": "test_convnext2", "other pyramid": "test_resnet", "vit": "test_vit"}
    register(lambda **options: timm.create_model(second[family], **options))
    after = build_embedder("timm:own_net", "auto", 4).eval()
    expected = build_embedder(f"timm:{second[family]}", "auto", 4)
    assert after.backbone.channels == expected.backbone.channels != before.backbone.channels
    assert type(after.backbone) is type(expected.backbone)
    assert after(torch.zeros(1, 3, 64, 96)).shape[1] == 4


def test_position_embeddings_of_another_size_are_resampled(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64).state_dict()
    source["pos_embed"] = torch.ones_like(source["pos_embed"]) * 3
    torch.save(source, tmp_path / "w.pth")
    net = build_embedder(VIT, "auto", 4, weights=str(tmp_path / "w.pth")).backbone.net
    assert net.pos_embed.shape == (1, 197, 192)
    torch.testing.assert_close(net.pos_embed, torch.full((1, 197, 192), 3.0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "1 are missing and 0 have another shape, for example blocks.3.mlp.fc1.weight"),
        ("shape", "0 are missing and 1 have another shape, for example norm.bias 7, not 192"),
        ("whole", "0 are missing and 12 have whole numbers, for example .*fc1.weight int8"),
        ("nan", "norm.bias holds values that are not finite"),
        ("other", "w.pth: it holds no weights of timm:vit_tiny_patch16_224, .*conv1"),
        ("text", "w.pth holds no weights: it is text"),
        ("empty", "w.pth: there are no weights in it"),
        ("gone", "w.pth does not exist"),
    ],
)
def test_local_weights_that_do_not_fit(damage, message, tmp_path):
    file = tmp_path / "w.pth"
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    if damage == "missing":
        del state["blocks.3.mlp.fc1.weight"]
    elif damage == "shape":
        state["norm.bias"] = torch.zeros(7)
    elif damage == "whole":
        for name in [name for name in state if name.endswith("fc1.weight")]:
            state[name] = state[name].to(torch.int8)
    elif damage == "nan":
        state["norm.bias"] = state["norm.bias"] * float("nan")
    elif damage == "other":
        state = timm.create_model("resnet10t", num_classes=0).state_dict()
    torch.save({} if damage == "empty" else state, file)
    if damage == "text":
        file.write_text("weights")
    elif damage == "gone":
        file.unlink()
    # Both ways to name a file read it alike.
    with pytest.raises(UserError, match=message):
        build_embedder(VIT, "auto", 4, weights=str(file))
    if damage != "gone":
        with pytest.raises(UserError, match=message):
            load_extractor(f"timm:vit_tiny_patch16_224@{file}")


def test_files_without_counters_of_batches(tmp_path):
    source = timm.create_model("resnet10t", num_classes=0).state_dict()
    source = {key: value for key, value in source.items() if "num_batches" not in key}
    torch.save(source, tmp_path / "w.pth")
    net = load_extractor(f"timm:resnet10t@{tmp_path / 'w.pth'}").net
    assert all(torch.equal(net.state_dict()[key], value) for key, value in source.items())


def test_a_resnets_local_weights(tmp_path):
    source = build_embedder("resnet18", "fpn", 4)
    state = {
        key.replace("stem.0.", "conv1.").replace("stem.1.", "bn1."): value
        for key, value in source.backbone.state_dict().items()
    }
    torch.save(state, tmp_path / "resnet.pth")
    found = build_embedder("resnet18", "fpn", 4, weights=str(tmp_path / "resnet.pth"), stages=2)
    wanted = source.backbone.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in found.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "timm:resnet1"}, "timm has no model 'resnet1'; did you mean"),
        ({"backbone": VIT, "decoder": "fpn"}, "fpn does not go with timm:vit_tiny.*: use pup"),
        ({"backbone": CNN, "decoder": "pup"}, "pup does not go with timm:conv.*: use fpn"),
        ({"backbone": CNN, "decoder": "deeplabv3plus"}, "does not go with .*: use fpn"),
        ({"backbone": VIT, "stages": 2}, "set stages=4"),
        ({"backbone": CNN, "stages": 5}, "stages must be 1 to 4, not 5"),
        ({"backbone": CNN, "output_stride": 8}, "output_stride 8 cannot be had"),
        ({"backbone": "timm:mixer_s16_224"}, "gives no feature map"),
        ({"backbone": "resnet18", "decoder": "pup"}, "pup is a decoder of ViTs"),
        ({"backbone": "resnet18", "weights": "gone.pth"}, "a file that exists .*, not 'gone.pth'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        build_embedder(**{"decoder": "auto", "dim": 4, **arguments})


def test_a_file_of_a_narrower_model_is_told_by_what_differs(tmp_path):
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    torch.save(state, tmp_path / "tiny.pth")
    with pytest.raises(UserError, match=r"192, not .*384.*another architecture"):
        load_extractor(f"timm:vit_small_patch16_224@{tmp_path}/tiny.pth")
