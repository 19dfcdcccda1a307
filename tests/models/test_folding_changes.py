"""What folding notices of a network, and what it must leave alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from tests.models.folding_networks import distance, images, small, stirred
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


class Scaled(nn.Sequential):
    """A network whose result follows from attributes of all kinds."""

    factor: float | None = None

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.given, self.named, self.after = [[1.0]], {"gain": 1.0}, torch.abs
        self.factor = None

    def forward(self, given: Tensor) -> Tensor:
        factor = self.given[0][0] * self.named["gain"] * (self.factor or 1)
        found: Tensor = self.after(super().forward(given) * factor)
        return found * getattr(self, "more", 1)


def none_becomes_a_number(network: Scaled) -> None:
    network.factor = 3.0


def list_in_place(network: Scaled) -> None:
    network.given[0][0] = 3.0


def dictionary_in_place(network: Scaled) -> None:
    network.named["gain"] = 3.0


def other_function(network: Scaled) -> None:
    network.after = torch.sin


def new_attribute(network: Scaled) -> None:
    network.more = 3.0


ATTRIBUTES = [
    none_becomes_a_number, list_in_place, dictionary_in_place, other_function, new_attribute,
]  # fmt: skip
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


@pytest.mark.parametrize("change", ATTRIBUTES, ids=lambda change: change.__name__)
def test_attributes_of_any_kind_count(change: Callable[[Scaled], None]) -> None:
    network, folding, given = Scaled(*small()).eval(), Folding(), images()
    with torch.no_grad():
        before = folding(network, given)
        assert folding.of(network, given) is not network
        change(network)
        found, wanted = folding(network, given), network(given)
    assert distance(found, before) > 1e-3
    assert distance(found, wanted) < 1e-5


def share(network: nn.Module) -> None:
    network.share_memory()


def send(network: nn.Module) -> None:
    ForkingPickler.dumps(network)


@pytest.mark.parametrize("move", [share, send])
def test_what_moves_into_shared_memory_is_not_read_where_it_was(
    move: Callable[[nn.Module], None],
) -> None:
    # Large: memory of its own is given back to the system, and reading it would end the process.
    layers = nn.Conv2d(3, 512, 3), nn.BatchNorm2d(512), nn.ReLU(), nn.Conv2d(512, 512, 3)
    network, folding = stirred(nn.Sequential(*layers)), Folding()
    with torch.no_grad():
        wanted = folding(network, images(1, 16))
        move(network)
        assert distance(folding(network, images(1, 16)), wanted) < 1e-6


@pytest.mark.parametrize("bounds", [(0.0, 50.0), (0.0, 7.0), (-1.0, 6.0)])
def test_bounds_are_those_of_the_module(bounds: tuple[float, float]) -> None:
    network = small()
    network[2].min_val, network[2].max_val = bounds
    with torch.no_grad():
        given = 20 * images()
        assert distance(Folding()(network, given), network(given)) < 1e-5


def test_tensors_without_memory_leave_a_network_alone() -> None:
    sparse = small()
    sparse.register_buffer("adjacent", torch.eye(4).to_sparse())
    lazy = nn.Sequential(nn.LazyConv2d(8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    with torch.no_grad():
        assert Folding().of(sparse, images()) is sparse
        assert Folding()(lazy, images()).shape == (2, 8, 30, 30)
        assert distance(Folding()(lazy, images()), lazy(images())) < 1e-5


def test_what_is_no_number_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, folding, given = small(), Folding(), images()
    with torch.no_grad():
        network[0].weight.fill_(torch.nan)
        network[1].running_mean[0] = torch.nan
        folding(network, given)
        monkeypatch.setattr("vice.models.folding._fold", lambda *_: pytest.fail("folded again"))
        folding(network, given)


def test_a_network_that_draws_is_compared_with_draws_of_its_own() -> None:
    class Noisy(nn.Sequential):
        def forward(self, given: Tensor) -> Tensor:
            found: Tensor = super().forward(given)
            return found + torch.randn(found.shape)

    network, given = Noisy(*small()).eval(), images()
    with torch.no_grad():
        torch.manual_seed(1)
        wanted = network(given)
        torch.manual_seed(1)
        assert distance(Folding()(network, given), wanted) < 1e-5


def test_without_onednn_a_network_is_left_alone() -> None:
    network = small()
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        assert Folding().of(network, images()) is network


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
