"""What folding notices of a network, and what it must leave alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from tests.models.folding_networks import distance, images, small
from vice.models import build_embedder
from vice.models.checkpoint import load_embedder, save_run
from vice.models.folding import Folding
from vice.models.key_encoder import KeyEncoder
from vice.models.plain import plain


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


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
