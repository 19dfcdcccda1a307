"""Folded batch normalization against the plain network, and what must leave it alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vice.models import build_embedder
from vice.models.checkpoint import load_embedder, save_run
from vice.models.folding import Folding
from vice.models.key_encoder import KeyEncoder
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


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and weights of normalizations that no identity has, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.5, 2, generator=generator)
                    module.bias.normal_(0, 0.3, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def small() -> nn.Sequential:
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 1)
    return stirred(nn.Sequential(*layers))


def images(count: int = 2, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(7))


def distance(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


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


def set_data(network: nn.Module) -> None:
    network[1].weight.data.mul_(2)


def set_in_place(network: nn.Module) -> None:
    with torch.no_grad():
        network[0].weight[1, 1, 1, 1] += 1


def set_statistics(network: nn.Module) -> None:
    network[1].running_var.mul_(3)


def new_parameter(network: nn.Module) -> None:
    network[1].bias = nn.Parameter(network[1].bias.detach() + 1)


def new_module(network: nn.Module) -> None:
    network[2] = nn.GELU()


def new_last_weight(network: nn.Module) -> None:
    network[3].weight = nn.Parameter(-network[3].weight.detach())


def load(network: nn.Module) -> None:
    network.load_state_dict({k: v + 1 for k, v in network.state_dict().items()}, assign=True)


def train_a_step(network: nn.Module) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    with torch.enable_grad():
        network(images()).square().sum().backward()
    optimizer.step()


def see_images(network: nn.Module) -> None:
    network.train()
    network(images() + 3)
    network.eval()


def other_stride(network: nn.Module) -> None:
    network[0].stride = (2, 2)


def other_epsilon(network: nn.Module) -> None:
    network[1].eps = 10.0


def set_a_channel_by_numpy(network: nn.Module) -> None:
    network[1].weight.detach().numpy()[5] = 9


def other_bound(network: nn.Module) -> None:
    network[2].max_val = 0.5


def other_class(network: nn.Module) -> None:
    network[2].__class__ = nn.SiLU


def other_forward(network: nn.Module) -> None:
    network[2].forward = torch.sin


CHANGED = [
    set_a_channel_by_numpy, other_bound, other_class, other_forward,
    set_data, set_in_place, set_statistics, new_parameter, new_module, new_last_weight, load,
    train_a_step, see_images, other_stride, other_epsilon,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGED, ids=lambda change: change.__name__)
def test_a_changed_network_is_folded_anew(change: Callable[[nn.Module], None]) -> None:
    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        before = folding(network, given)
        change(network)
        found, wanted = folding(network, given), network(given)
    assert found.shape != before.shape or distance(found, before) > 1e-3
    assert distance(found, wanted) < 1e-5


def test_hooks_see_every_call() -> None:
    network, folding, given, seen = small(), Folding(), images(), []
    with torch.no_grad():
        folding(network, given)
        for register in ("register_forward_hook", "register_forward_pre_hook"):
            handle = getattr(network[1], register)(lambda *_: seen.append(1))
            folding(network, given)
            handle.remove()
        assert len(seen) == 2
        assert folding.of(network, given) is not network


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_left_alone(dtype: torch.dtype) -> None:
    network = small().to(dtype)
    with torch.no_grad():
        assert Folding().of(network, images().to(dtype)) is network
        assert Folding().of(network, images()) is network or dtype == torch.float64


def test_gradients_training_and_weights_without_versions_are_left_alone() -> None:
    network, given = small(), images()
    assert Folding().of(network, given) is network
    with torch.no_grad():
        assert Folding().of(network.train(), given) is network
        network.eval()[1].train()
        assert Folding().of(network, given) is network
    with torch.inference_mode():
        made_there = small()
        assert Folding().of(made_there, given) is made_there


def test_networks_made_for_inference_are_folded_there_and_serve_elsewhere() -> None:
    network, folding, given = small(), Folding(), images()
    with torch.inference_mode():
        assert folding.of(network, given) is not network
    with torch.no_grad():
        assert distance(folding(network, given), network(given)) < 1e-5


def test_traces_are_those_of_the_plain_network() -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.folding = small(), Folding()

        def forward(self, given: Tensor) -> Tensor:
            found: Tensor = self.folding(self.network, given)
            return found

    called, given = Called().eval(), images()
    with torch.no_grad():
        called(given)
        traced = torch.jit.trace(called, given)
        exported = torch.export.export(called, (given,))
    assert "batch_norm" in str(traced.inlined_graph)
    assert any("batch_norm" in str(node.target) for node in exported.graph.nodes)


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


def test_only_backbones_that_nothing_trains_are_folded(tmp_path: Path) -> None:
    trained = build_embedder("resnet18", "fpn", 16)
    save_run(tmp_path, trained)
    frozen = build_embedder("resnet18", "fpn", 16, frozen=True)
    encoder = KeyEncoder()
    encoder.bind(frozen, lambda network, images: network(images))
    assert not trained.constant and frozen.constant and copy.deepcopy(frozen).constant
    assert not encoder.network.constant and load_embedder(str(tmp_path)).constant
    assert load_embedder("random:resnet18-fpn-16").constant
    with torch.no_grad():
        for embedder in (trained, frozen, encoder.network):
            embedder.eval()(images(1, 64))
            assert bool(embedder._folding._known) == embedder.constant


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_come_out_again(value: float) -> None:
    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        folding(network, given)
        given[1, 2, 3, 4] = value
        wanted, found = network(given), folding(network, given)
    torch.testing.assert_close(found, wanted, equal_nan=True)


def test_modes_meet_the_network_as_it_is() -> None:
    class Norms(TorchFunctionMode):
        seen = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.seen += func is F.batch_norm
            return func(*args, **(kwargs or {}))

    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        for _ in range(2):
            with Norms() as norms_seen:
                folding(network, given)
            assert norms_seen.seen == 1
            folding(network, given)
    counted = []
    with torch.no_grad():
        for call in (network, lambda images: folding(network, images)):
            with FlopCounterMode(display=False) as counter:
                call(given)
            counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


def test_transforms_go_through_the_plain_network() -> None:
    network, folding = small(), Folding()
    given, along = images(), torch.ones(2, 3, 32, 32)

    def call(values: Tensor) -> Tensor:
        found: Tensor = folding(network, values)
        return found

    with torch.no_grad():
        folding(network, given)
        many = torch.vmap(call)(given[:, None])[:, 0]
        torch.testing.assert_close(many, network(given))
        found = torch.func.jvp(call, (given,), (along,))[1]
        assert torch.equal(found, torch.func.jvp(network, (given,), (along,))[1])
        with forward_ad.dual_level():
            found = forward_ad.unpack_dual(call(forward_ad.make_dual(given, along))).tangent
            wanted = forward_ad.unpack_dual(network(forward_ad.make_dual(given, along))).tangent
    assert found is not None and torch.equal(found, wanted)


def test_threads_share_one_folded_network() -> None:
    network, folding, given = small(), Folding(), images()

    def call(_: int) -> float:
        with torch.no_grad():
            return distance(folding(network, given), network(given))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(call, range(64))) < 1e-5


def test_another_network_in_its_place_is_another_one() -> None:
    one = load_embedder("random:resnet18-fpn-16", seed=0)
    other = load_embedder("random:resnet18-fpn-16", seed=1)
    with torch.no_grad():
        one(images(1, 64))
        one.backbone = other.backbone
        found = one(images(1, 64))
        with plain():
            assert distance(found, one(images(1, 64))) < 1e-5


def test_a_loaded_embedder_that_is_trained_is_not_folded() -> None:
    embedder = load_embedder("random:resnet18-fpn-16")
    assert embedder.constant and not embedder.train().constant
    assert not embedder.eval().constant


def test_hooks_of_all_modules_see_every_call() -> None:
    network, folding, given, seen = small(), Folding(), images(), []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        with torch.no_grad():
            folding(network, given)
    finally:
        handle.remove()
    assert seen.count(nn.BatchNorm2d) == 1 and len(seen) == 5


def test_float16_and_buffers_are_left_alone() -> None:
    class Counts(nn.Sequential):
        def forward(self, given: Tensor) -> Tensor:
            self.seen += 1
            found: Tensor = super().forward(given)
            return found

    network = Counts(*small())
    network.register_buffer("seen", torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        Folding().of(network.eval(), images())
        assert int(network.seen) == 0
        with torch.autocast("cpu", torch.float16):
            assert Folding().of(network, images()) is network


def test_folding_draws_no_random_numbers() -> None:
    network, given = small(), images()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    with torch.no_grad():
        Folding()(network, given)
    assert torch.equal(torch.rand(3), wanted)
