"""What folded networks give, against the plain ones."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.variations import variations
from tests.models.folding_networks import distance, images, norms, small, stirred
from vice.models import build_embedder
from vice.models.folding import Folding
from vice.models.plain import plain

BACKBONES = [
    "resnet18",
    "resnet50",
    "timm:tf_efficientnet_lite0",
    "timm:resnet18.a1_in1k",
    "timm:mobilenetv3_small_100.lamb_in1k",
    "timm:regnety_002.pycls_in1k",
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_the_same_maps(name: str, channels_last: bool) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network = stirred(build_embedder(name, "fpn", 16)).backbone
    given = images(2, 96)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        given = given.contiguous(memory_format=torch.channels_last)
    wanted = copy.deepcopy(network).double()(given.double())
    with torch.no_grad():
        folded = Folding().of(network, given)
        found, stock = folded(given), network(given)
    assert norms(folded) == 0 < norms(network)
    for one, other, exact in zip(found, stock, wanted, strict=True):
        assert distance(one, exact) < max(1e-5, 5 * distance(other, exact))
        assert one.stride() == other.stride()
        assert one.dtype == other.dtype


@pytest.mark.parametrize("name", ["resnet18", "timm:tf_efficientnet_lite0"])
def test_bfloat16_is_about_as_far_from_float64_as_the_plain_network(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network = stirred(build_embedder(name, "fpn", 16)).backbone
    given = images(4, 96)
    wanted = copy.deepcopy(network).double()(given.double())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        folded = Folding().of(network, given)
        found, stock = folded(given), network(given)
    for one, other, exact in zip(found, stock, wanted, strict=True):
        assert one.dtype == other.dtype
        assert distance(one, exact) < 2 * distance(other, exact)


def test_an_embedder_is_folded_where_no_gradient_is_asked_for() -> None:
    embedder = stirred(build_embedder("resnet18", "fpn", 16))
    embedder.constant = True
    given = images(2, 64)
    stock = embedder(given).detach()
    with torch.no_grad():
        folded = embedder(given)
        with plain():
            assert torch.equal(embedder(given), stock)
        assert not torch.equal(folded, stock)
        assert distance(folded, stock) < 1e-5


def test_a_frozen_backbone_is_folded_in_training_and_the_rest_gets_its_gradient() -> None:
    embedder = stirred(build_embedder("resnet18", "fpn", 16, frozen=True)).train()
    given = images(2, 64)
    results = []
    for context in (plain, torch.enable_grad):
        embedder.zero_grad()
        with context():
            embedder(given).square().sum().backward()
        results.append([p.grad.clone() for p in embedder.decoder.parameters()])
        assert all(p.grad is None for p in embedder.backbone.parameters())
    for stock, folded in zip(*results, strict=True):
        assert distance(folded, stock) < 1e-4


def test_state_and_copies_hold_nothing_of_it() -> None:
    embedder = stirred(build_embedder("resnet18", "fpn", 16))
    embedder.constant = True
    before = {key: value.clone() for key, value in embedder.state_dict().items()}
    modules = [name for name, _ in embedder.named_modules()]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        embedder(images())
    after = embedder.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {value.dtype for value in after.values()} == {v.dtype for v in before.values()}
    assert [name for name, _ in embedder.named_modules()] == modules
    for twin in (copy.deepcopy(embedder), pickle.loads(pickle.dumps(embedder))):
        assert not twin._folding._known


def test_networks_made_for_inference_are_folded_there_and_serve_elsewhere() -> None:
    network, folding, given = small(), Folding(), images()
    with torch.inference_mode():
        assert folding.of(network, given) is not network
    with torch.no_grad():
        assert distance(folding(network, given), network(given)) < 1e-5


class Twice(nn.Module):
    """A normalization of what is also added, and one that is called twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.norm, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, given: Tensor) -> Tensor:
        found = self.conv(given)
        if self.kind == "added":
            return found + self.norm(found)
        if self.kind == "norm twice":
            return self.norm(given) + self.norm(found)
        if self.kind == "convolution twice":
            return self.norm(found) + self.conv(-given)
        if self.kind == "changed between":
            return self.norm(found.mul_(2).add_(1))
        if self.kind == "changed before the activation":
            return self.act(self.norm(found).add_(given))
        return F.relu(self.norm(torch.sin(found)))


KINDS = [
    "added", "norm twice", "convolution twice", "changed between",
    "changed before the activation", "apart",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_looks_like_a_pair_is_right(kind: str) -> None:
    torch.manual_seed(0)
    network, given = stirred(Twice(kind)), images()
    with torch.no_grad():
        assert distance(Folding()(network, given), network(given)) < 1e-5


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "options", [{}, {"groups": 3}, {"dilation": 2}, {"stride": 2, "bias": False}]
)
def test_every_kind_of_convolution(mode: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, padding=1, padding_mode=mode, **options)
    network = stirred(nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU()))
    given = images(3, 21)
    with torch.no_grad():
        folded = Folding().of(network, given)
        assert norms(folded) == 0
        assert distance(folded(given), network(given)) < 1e-5


class Copies(TorchDispatchMode):
    """Notes the shapes of what is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.padded: list[torch.Size] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "pad" in str(func):
            self.padded.append(args[0].shape)
        return func(*args, **(kwargs or {}))


KERNELS, STRIDES = (1, 2, 3, 4, 5, (3, 5), (7, 2)), (1, 2, 3, (2, 1))


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "activation"),
    variations(product(KERNELS, STRIDES, (1, 6), (nn.ReLU, nn.ReLU6, nn.SiLU, None)), 5),
)
def test_padding_that_is_wider_behind_the_image(kernel, stride, groups, activation) -> None:
    layers = pytest.importorskip("timm.layers")
    conv = layers.Conv2dSame(6, 12, kernel, stride, groups=groups)
    following = [] if activation is None else [activation()]
    network = stirred(nn.Sequential(nn.Conv2d(3, 6, 1), conv, nn.BatchNorm2d(12), *following))
    exact = copy.deepcopy(network).double()
    for size in ((64, 64), (63, 64), (64, 61), (9, 8), (5, 7), (2, 3), (1, 1)):
        given = torch.randn(2, 3, *size)
        with torch.no_grad():
            folded = Folding().of(network, given)
            with Copies() as copies:
                found = folded(given)
            assert norms(folded) == 0
            assert distance(found, exact(given.double())) < 1e-5
        assert not any(shape[0] == 2 for shape in copies.padded), size


def test_a_padding_of_its_own_stays() -> None:
    layers = pytest.importorskip("timm.layers")
    conv = layers.Conv2dSame(4, 4, 3, 2, dilation=2)
    network = stirred(nn.Sequential(nn.Conv2d(3, 4, 1), conv, nn.BatchNorm2d(4), nn.ReLU()))
    for size in (64, 33, 8):
        given = torch.randn(2, 3, size, size)
        with torch.no_grad():
            found = Folding()(network, given)
        assert distance(found, copy.deepcopy(network).double()(given.double())) < 1e-5


def test_normalization_without_statistics_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    with torch.no_grad():
        assert Folding().of(network, images()) is network


def test_what_cannot_be_copied_or_takes_no_small_image_is_left_alone() -> None:
    class Large(nn.Sequential):
        def forward(self, given: Tensor) -> Tensor:
            if given.shape[-1] < 100:
                raise ValueError("too small")
            found: Tensor = super().forward(given)
            return found

    network = Large(*small())
    given = images(1, 128)
    with torch.no_grad():
        assert distance(Folding()(network.eval(), given), network(given)) == 0


def test_what_it_returns_does_not_depend_on_earlier_calls() -> None:
    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        for _ in range(5):
            network[0].weight.mul_(1.1)
            assert torch.equal(folding(network, given), Folding()(network, given))
            assert folding.of(network, given) is not network


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_come_out_again(value: float) -> None:
    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        folding(network, given)
        given[1, 2, 3, 4] = value
        wanted, found = network(given), folding(network, given)
    torch.testing.assert_close(found, wanted, equal_nan=True)


def test_threads_share_one_folded_network() -> None:
    network, folding, given = small(), Folding(), images()

    def call(_: int) -> float:
        with torch.no_grad():
            return distance(folding(network, given), network(given))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(call, range(64))) < 1e-5


def test_folding_draws_no_random_numbers() -> None:
    network, given = small(), images()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    with torch.no_grad():
        Folding()(network, given)
    assert torch.equal(torch.rand(3), wanted)
