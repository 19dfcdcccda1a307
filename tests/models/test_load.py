from __future__ import annotations

import sys

import pytest
import torch

from vice.errors import UserError
from vice.models.load import is_spherical, load_extractor

MODULE = """
import torch

def no_dim():
    return torch.nn.Conv2d(3, 7, 3, padding=1)

def number():
    return 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_embedder.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_embedder"
    sys.modules.pop("my_embedder", None)


def test_lab_and_checkpoints(run_dir):
    assert not is_spherical(load_extractor("lab"))
    for spec in (str(run_dir), f"random:{run_dir}", "random:resnet18-fpn-8"):
        module = load_extractor(spec)
        assert is_spherical(module) and not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_users_own_callable(user_module):
    module = load_extractor(f"{user_module}:no_dim", seed=3)
    again, other = (load_extractor(f"{user_module}:no_dim", seed=seed) for seed in (3, 4))
    assert module.dim == 7
    assert torch.equal(module.weight, again.weight) and not torch.equal(module.weight, other.weight)


@pytest.mark.parametrize(
    ("name", "dim", "stride"),
    [
        ("vit_tiny_patch16_224", 192, 16),
        ("vit_small_patch14_dinov2", 384, 14),
        ("resnet18", 512, 32),
    ],
)
def test_timm_models_of_any_image_size(name, dim, stride):
    pytest.importorskip("timm")
    module = load_extractor(f"random:timm:{name}")
    assert (module.dim, module.stride) == (dim, stride)
    with torch.no_grad():
        out = module(torch.randn(2, 3, 100, 75))
    assert out.shape == (2, dim, -(-100 // stride), -(-75 // stride))


def test_timm_weights_come_from_a_file_and_statistics_from_the_model(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=1000)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = load_extractor(f"timm:vit_tiny_patch16_224@{tmp_path / 'weights.pth'}")
    assert torch.equal(found.net.blocks[3].mlp.fc1.weight, model.blocks[3].mlp.fc1.weight)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    # Against timm itself on an image that it normalises its own way.
    picture = torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ours = (picture - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        tokens = model.eval().forward_features((picture - 0.5) / 0.5)[:, 1:]
        expected = tokens.transpose(1, 2).reshape(1, 192, 14, 14)
        torch.testing.assert_close(found(ours), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet1", "timm has no model 'resnet1'; did you mean resnet18"),
        ("timm:resnet18@nowhere.pth", "nowhere.pth does not exist"),
        ("random:timm:resnet18@x", "random weights need no file"),
        ("random:timm:mixer_s16_224", "gives no feature map"),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("vice.models.lab:nothing", "has no attribute 'nothing'"),
        ("my_embedder:number", "returned int, not a torch.nn.Module"),
        ("nowhere/at/all", "does not exist"),
    ],
)
def test_names_of_nothing(user_module, spec, message):
    with pytest.raises(UserError, match=message):
        load_extractor(spec)


def test_weights_that_cannot_be_fetched(monkeypatch):
    timm = pytest.importorskip("timm")

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(
        UserError, match=r"cannot load the weights of timm:resnet18 \(no route.*@FILE"
    ):
        load_extractor("timm:resnet18")
