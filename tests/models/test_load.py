from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

import vice
from vice.errors import UserError, exits_are_errors
from vice.models.embeddings import CheckedEmbedder
from vice.models.load import is_spherical, load_extractor
from vice.paths import EMPTY
from vice.runtime.preemption import Preempted

MODULE = """
import torch

def no_dim():
    return torch.nn.Conv2d(3, 7, 3, padding=1)

def number():
    return 3
"""
#: What modules may do with random numbers while they are imported.
DRAWING = {
    "nothing": "",
    "numbers": "DRAWN = torch.rand(3)",
    "a network": "OTHER = torch.nn.Linear(2, 2)",
    "a seed": "torch.manual_seed(77)",
}


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


@pytest.mark.parametrize("drawing", DRAWING)
def test_what_a_module_draws_at_import_changes_no_weights(tmp_path, monkeypatch, drawing):
    """It is imported once, and called each time."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "drawing.py").write_text(f"{MODULE}\n{DRAWING[drawing]}\n")
    found = [load_extractor("drawing:no_dim", seed=3)]
    # In another process it is imported anew, whatever was drawn there before.
    before = torch.random.get_rng_state()
    found.append(load_extractor("drawing:no_dim", seed=3))
    sys.modules.pop("drawing")
    torch.rand(5)
    found.append(load_extractor("drawing:no_dim", seed=3))
    sys.modules.pop("drawing")
    assert all(torch.equal(found[0].weight, each.weight) for each in found)
    torch.random.set_rng_state(before)
    load_extractor("drawing:no_dim", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    sys.modules.pop("drawing")


def test_a_network_that_is_made_at_import_follows_from_the_seed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import torch\nNET = torch.nn.Conv2d(3, 7, 3, padding=1)\ndef make():\n    return NET\n"
    (tmp_path / "early.py").write_text(text)
    found = []
    for _ in range(2):
        found.append(load_extractor("early:make", seed=3).weight)
        sys.modules.pop("early")
    assert torch.equal(*found)


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


#: Where a user's code may call sys.exit.
LEAVING = {
    "imported": "sys.exit({0})",
    "looked for": "def __getattr__(name):\n    sys.exit({0})",
    "made": "def make():\n    sys.exit({0})",
    "tried": "class make(torch.nn.Module):\n    def forward(self, images):\n        sys.exit({0})",
}


@pytest.mark.parametrize("status", ["", "0", "4", "'enough'"])
@pytest.mark.parametrize("when", LEAVING)
def test_a_users_code_that_ends_the_process_is_an_error(tmp_path, monkeypatch, when, status):
    text = f"import sys\nimport torch\n{LEAVING[when].format(status)}\n"
    (tmp_path / "leaving.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    said = re.escape(f"leaving:make has called sys.exit({status})")
    with pytest.raises(UserError, match=said):
        load_extractor("leaving:make")
    sys.modules.pop("leaving", None)


def test_an_embedder_that_ends_the_process_while_it_is_scored():
    class Leaving(torch.nn.Module):
        dim = 3

        def forward(self, images):
            sys.exit(0)

    with pytest.raises(UserError, match=r"the embedder \(Leaving\) has called sys\.exit\(0\)"):
        CheckedEmbedder(Leaving())(torch.zeros(1, 3, 8, 8))


def test_a_stop_of_ours_is_no_error():
    with pytest.raises(Preempted), exits_are_errors("x"):
        raise Preempted("stopped")


def test_weights_that_cannot_be_fetched(monkeypatch):
    timm = pytest.importorskip("timm")

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(
        UserError, match=r"cannot load the weights of timm:resnet18 \(no route.*@FILE"
    ):
        load_extractor("timm:resnet18")


@pytest.mark.parametrize(
    "spec",
    [
        "", " ", "timm:", "timm:@FILE", "timm:resnet18@", "timm:resnet18@FILE#", "random:",
        "random:timm:", "random:timm:resnet18@", "random:resnet18--8", "imagenet:", "torchvision:",
        "torchvision:@FILE", "torchvision:resnet18@", "torchvision:resnet18@FILE#", "FILE#",
        "FILE# ", ":make", "my_embedder:",
    ],
)  # fmt: skip
def test_an_empty_part_is_not_taken_for_one_that_is_left_out(user_module, tmp_path, spec):
    """Such as that of a shell variable that is not set, which would mean downloaded weights."""
    torch.save({"teacher": {}, "student": {}}, tmp_path / "w.pth")
    spec = spec.replace("FILE", str(tmp_path / "w.pth"))
    for load in (load_extractor, vice.load):
        with pytest.raises(UserError, match=EMPTY):
            load(spec)


@pytest.mark.parametrize("name", ["w#.pth", "w#", "a@b", "a:", ":b", "x-y-"])
def test_signs_in_names_of_files_are_no_empty_parts(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), name)
    for spec in (name, f"torchvision:resnet18@{name}"):
        assert torch.equal(
            load_extractor(spec).features.layer1[0].conv1.weight, net.layer1[0].conv1.weight
        )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images):
        return self.convolution(images)


class CastsItself(nn.Module):
    dim = 8

    def __init__(self):
        super().__init__()
        self.net = Net().half()

    def forward(self, images):
        return self.net(images.half())


def exported():
    free = torch.export.Dim.AUTO
    given = torch.zeros(2, 3, 224, 224)
    program = torch.export.export(
        Net().eval(), (given,), dynamic_shapes=({0: free, 2: free, 3: free},)
    )
    return program.module()


#: What a callable may return that is not, or not all, Python in float32.
FORMS = {
    "scripted": lambda: torch.jit.script(Net()),
    "traced": lambda: torch.jit.trace(Net().eval(), torch.zeros(1, 3, 64, 64)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(Net().eval())),
    "exported": exported,
    "graph": lambda: torch.fx.symbolic_trace(Net()),
    "float16": lambda: Net().half(),
    "bfloat16": lambda: Net().bfloat16(),
    "float64": lambda: Net().double(),
    "casts itself": CastsItself,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_callable_may_return_a_module_of_any_form(monkeypatch, form):
    monkeypatch.setitem(sys.modules, "forms", SimpleNamespace(make=FORMS[form]))
    module = load_extractor("forms:make", seed=1)
    assert module.dim == 8 and not any(each.requires_grad for each in module.parameters())
    images = torch.randn(2, 3, 32, 48)
    # Whoever scores it asks for modes, too.
    for mode in (True, False):
        found = module.train(mode).requires_grad_(False)(images).float()
    torch.manual_seed(1)
    wanted = Net()(images)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    if form in ("scripted", "traced", "exported", "graph"):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([nn.Conv2d(3, 8, 4, stride=4)], "4 pixels"),
        ([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)], None),
        ([nn.AdaptiveAvgPool2d((7, 14))], None),
        ([nn.Flatten(), nn.Unflatten(1, (3, 10, 10))], None),
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten(0)], None),
    ],
)
def test_a_stride_that_nobody_says_is_looked_at(monkeypatch, layers, said):
    from vice.command.info import describe_model

    net = nn.Sequential(*layers)
    net.dim = 3
    monkeypatch.setitem(sys.modules, "unsaid", SimpleNamespace(make=lambda: net))
    assert describe_model("unsaid:make").get("stride") == said


@pytest.mark.parametrize("inside", ["", "def make():\n    "])
def test_a_package_that_code_imports_is_named(tmp_path, monkeypatch, inside):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wants.py").write_text(f"{inside}import not_there.at_all\n")
    with pytest.raises(UserError, match=r"^wants:make: its code imports not_there,"):
        load_extractor("wants:make")
    with pytest.raises(UserError, match="its folder in PYTHONPATH"):
        load_extractor("wantz:make")
    sys.modules.pop("wants", None)


def test_a_mistake_inside_a_callable_is_its_own():
    def wrong():
        return Net(3)

    sys.modules["mistaken"] = SimpleNamespace(make=wrong, asks=lambda size: Net())
    with pytest.raises(TypeError, match="positional") as raised:
        load_extractor("mistaken:make")
    assert getattr(raised.value, "__notes__", [""])[0] in ("", "while mistaken:make was called")
    with pytest.raises(UserError, match="cannot be called without arguments"):
        load_extractor("mistaken:asks")
    del sys.modules["mistaken"]
