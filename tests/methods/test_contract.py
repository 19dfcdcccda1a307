"""What every method promises to whatever trains it, whichever it is."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vice
from tests.helpers.processes import run_processes
from tests.helpers.waiting import no_waiting
from vice.experiments.reproduce.step_time import NoiseSource
from vice.images import StandardSize
from vice.methods import METHODS, Method, build_method
from vice.models import seeded_embedder
from vice.models.checkpoint import save_run
from vice.normalize import denormalize
from vice.options import check, defaults, options_of
from vice.regions import pool as region_vectors
from vice.runtime.collectives import on_first_rank, rank, world_size

IMAGES, DIM = 4, 8
#: Sizes that make a step of milliseconds; the name of a group, and options by name.
CLUSTERS = {
    "image_side": 64,
    "view_side": 32,
    "clusters": 6,
    "kmeans_images": 2,
    "init_batches": 1,
    "kmeans_iterations": 4,
}
PAIRS = {
    "crop_side": 48,
    "image_scale": 1.5,
    "affine": True,
    "clusters": 4,
    "over_clusters": 6,
    "sub_heads": 2,
    "displacement": 2,
}
SMALL: dict[str, dict[str, Any]] = {
    "METHOD": {
        "picie": {**CLUSTERS, "over_clusters": 9},
        "mdc": CLUSTERS,
        "iic": PAIRS,
        "stego": {"crop_side": 32, "points": 4, "neighbors": 2, "clusters": 6},
        "maskcontrast": {"view_side": 32, "queue_keys": 8, "in_batch": "global", "clusters": 3},
    },
    "FOREGROUND": {"source": "builtin"},
    "VIEWS": {"num_views": 2, "size": 32},
    "PROTOTYPES": {"num_prototypes": 6, "dim": DIM},
    "LOSS": {"queue_length": 16, "queue_start": 1},
    "SUPERPIXELS": {"region_size": 12},
    "STANDARDIZE": {"mode": "none", "max_side": 48},
}
EVERY = pytest.mark.parametrize("name", sorted(METHODS))


def settings_of(name: str) -> dict[str, Any]:
    """Options of a method: those above, and its defaults."""
    made = METHODS[name]
    groups = {"STANDARDIZE": StandardSize, **made.sections}
    found: dict[str, Any] = {
        key: {**defaults(group), **SMALL.get(key, {})} for key, group in groups.items()
    }
    own = SMALL["METHOD"].get(name, {})
    found["METHOD"] = {"name": name, **defaults(made.Options), **own}
    return {**found, "CUT_ON": "workers", "PHOTOMETRIC_ON": "workers"}


class InProcess(SimpleNamespace):
    """A `vice.methods.Context` whose passes read here; a rank has a piece of each batch."""

    def run(self, read: Any, batch_size: int, order: Any = None) -> Iterator[list[tuple[int, Any]]]:
        indices = list(range(self.num_images)) if order is None else [int(index) for index in order]
        share = -(-batch_size // world_size())
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            own = batch[rank() * share : (rank() + 1) * share]
            yield [(index, read(self.source, index)) for index in own]

    def reset_optimizer(self, parameters: Any) -> None:
        self.reset = [*self.reset, *parameters]

    def check(self) -> None:
        pass


class Parts:
    """Everything that is trained, and a batch, from one seed, in the first epoch."""

    def __init__(self, name: str, images: range = range(IMAGES)) -> None:
        settings = settings_of(name)
        self.method: Method = build_method(settings)
        self.embedder = seeded_embedder(
            0, backbone="resnet18", decoder="fpn", dim=DIM, stages=1, centre=True,
            outputs=self.method.outputs, frozen=self.method.frozen,
        ).eval()  # fmt: skip
        torch.manual_seed(0)
        self.head, self.loss = self.method.head(DIM), self.method.loss()
        self.method.bind(self.loss, self.embedder, lambda network, images: network(images))
        source = NoiseSource(settings, IMAGES)
        # Gone with these parts; that of the first process serves all.
        self._files = tempfile.TemporaryDirectory()
        folder = on_first_rank(lambda: self._files.name)
        self.context: Any = InProcess(
            embedder=self.embedder, head=self.head, device=torch.device("cpu"), seed=0, epoch=0,
            num_images=IMAGES, images="noise", folder=Path(folder), source=source, reset=[],
        )  # fmt: skip
        source.folder = self.context.folder
        self.method.before_workers(self.context)
        self.method.before_training(self.context)
        self.method.before_epoch(self.context)
        samples = [
            self.method.sample(source, index, np.random.default_rng([7, index])) for index in images
        ]
        self.batch = self.method.finish(self.method.collate(samples), torch.device("cpu"))

    @property
    def parameters(self) -> list[nn.Parameter]:
        every = [*self.embedder.parameters(), *self.head.parameters()]
        return [each for each in every if each.requires_grad]

    def outputs(self) -> list[Any]:
        embeddings = torch.cat([self.embedder(each, outputs=True) for each in self.batch.inputs])
        found = self.head(embeddings)
        return found if isinstance(found, list) else [found]

    def value(self) -> torch.Tensor:
        found: torch.Tensor = self.loss(*self.outputs(), *self.batch.targets)
        return found

    def steps(self, count: int, optimizer: torch.optim.Optimizer) -> list[float]:
        values = []
        for _ in range(count):
            optimizer.zero_grad()
            value = self.value()
            value.backward()
            self.method.before_step(self.context)
            optimizer.step()
            self.method.after_step(self.context)
            values.append(float(value.detach()))
        return values


@EVERY
def test_the_loss_falls_on_a_fixed_batch(name):
    parts = Parts(name)
    # On a backbone that stays as it is there is little to train, and it bears larger steps.
    rate = 3e-2 if parts.method.frozen else 3e-3
    values = parts.steps(25, torch.optim.Adam(parts.parameters, rate))
    assert np.isfinite(values).all()
    assert np.mean(values[-5:]) < np.mean(values[:3]) - 0.05, values
    health = parts.loss.health
    assert health["loss"] == pytest.approx(values[-1], rel=1e-5)
    assert {each.name for each in parts.method.measures} <= set(health)
    assert all(type(value) is float for value in health.values())


@EVERY
def test_an_embedding_of_low_precision_is_learnt_from(name):
    # Queue: what a first call leaves, a second one is compared with.
    exact, parts = float(Parts(name).value().detach()), Parts(name)
    embeddings = torch.cat([parts.embedder(each, outputs=True) for each in parts.batch.inputs])
    # Execution: autocast ends with the network, and what comes after is given what it computed.
    found = parts.head(embeddings.bfloat16())
    value = parts.loss(*(found if isinstance(found, list) else [found]), *parts.batch.targets)
    value.backward()
    assert float(value.detach()) == pytest.approx(exact, rel=0.05)
    assert all(each.grad.isfinite().all() for each in parts.parameters if each.grad is not None)


def _gradients(rank: int, ranks: int, name: str) -> dict[str, list[float]]:
    """Loss and gradients of one rank's images, without a past: a queue is a rank's own.

    Of each tensor the length and its inner products with a few fixed vectors: whole gradients are
    more than a pipe holds.
    """
    mine = range(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
    parts = Parts(name, mine)
    parts.value().backward()
    named = [*parts.embedder.named_parameters(), *parts.head.named_parameters()]
    generator, found = torch.Generator().manual_seed(1), {"loss": [parts.loss.health["loss"]]}
    for key, value in named:
        directions = torch.randn(3, value.numel(), generator=generator)
        if value.grad is not None:
            found[key] = (directions @ value.grad.flatten()).tolist()
    return found


@EVERY
def test_two_processes_with_half_a_batch_each_are_one_with_the_whole(name):
    (whole,) = run_processes(_gradients, 1, name)
    one, two = run_processes(_gradients, 2, name)
    least = 3 if METHODS[name].frozen else 10
    assert set(whole) == set(one) == set(two) and len(whole) > least
    largest = max(abs(value) for values in whole.values() for value in values)
    for key, values in whole.items():
        mean = (np.array(one[key]) + np.array(two[key])) / 2
        np.testing.assert_allclose(mean, values, rtol=2e-3, atol=1e-5 * largest, err_msg=key)


@EVERY
def test_a_state_goes_on_to_the_same_bits(name):
    straight = Parts(name)
    optimizer = torch.optim.SGD(straight.parameters, 0.1, momentum=0.9)
    straight.steps(2, optimizer)
    straight.method.before_saving(straight.loss)
    modules = ("embedder", "head", "loss", "method")
    state = {each: copy.deepcopy(getattr(straight, each).state_dict()) for each in modules}
    momentum = copy.deepcopy(optimizer.state_dict())
    straight.steps(2, optimizer)
    resumed = Parts(name)
    for each in modules:
        getattr(resumed, each).load_state_dict(state[each])
    again = torch.optim.SGD(resumed.parameters, 0.1, momentum=0.9)
    again.load_state_dict(momentum)
    resumed.steps(2, again)
    for each in ("embedder", "head", "loss"):
        one, two = (getattr(parts, each).state_dict() for parts in (straight, resumed))
        assert [key for key in one if not same(one[key], two[key])] == []


def same(one: Any, two: Any) -> bool:
    return torch.equal(one, two) if torch.is_tensor(one) else one == two


@EVERY
def test_what_is_exported_is_what_is_loaded(name, tmp_path):
    parts = Parts(name)
    concepts = parts.method.concepts(parts.head)
    save_run(tmp_path, parts.embedder, concepts)
    loaded = vice.load(tmp_path, device="cpu")
    first = parts.batch.inputs[0][:1]
    image = (denormalize(first)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    pixels = vice.normalize.normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    with torch.no_grad():
        coarse = parts.embedder(pixels)
    expected = nn.functional.normalize(enlarged(coarse, image), dim=1)[0]
    torch.testing.assert_close(loaded.embed(image), expected, rtol=0, atol=1e-5)
    if concepts is not None:
        scores = torch.einsum("kd,dhw->khw", concepts.vectors, expected)
        if concepts.bias is not None:
            # With a bias vectors are of unit length at the model's stride.
            units = enlarged(nn.functional.normalize(coarse, dim=1), image)[0]
            scores = torch.einsum("kd,dhw->khw", concepts.vectors, units)
            scores += concepts.bias[:, None, None]
        best = scores.topk(2, dim=0).values
        clear = best[0] - best[1] > 1e-4
        assert float(clear.float().mean()) > 0.5
        assert bool((loaded.segment(image) == scores.argmax(0))[clear].all())


def enlarged(maps: torch.Tensor, image: np.ndarray) -> torch.Tensor:
    size = image.shape[:2]
    return nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)


@EVERY
def test_every_option_has_a_range_that_its_default_is_in(name):
    made = METHODS[name]
    for key, group in {"METHOD": made.Options, **made.sections}.items():
        known = options_of(group)
        assert dataclasses.is_dataclass(group)
        undeclared = {each.name for each in dataclasses.fields(group) if each.init} - set(known)
        assert undeclared == set(), f"{key}: options without a range"
        check(group, defaults(group), key)
        for option, each in known.items():
            assert each.meaning and each.rule.text, option
            assert not each.rule.holds(object()), f"{key}.{option} takes anything"


@EVERY
def test_nothing_in_the_loss_waits_for_the_device(name, monkeypatch):
    pytest.importorskip("triton")
    parts = Parts(name)
    # What is looked at once, at the first call, is looked at here.
    outputs = parts.outputs()
    parts.loss(*outputs, *parts.batch.targets)
    kernels = importlib.import_module("vice.regions.kernels")
    monkeypatch.setattr(region_vectors, "_kernels_for", lambda embeddings: kernels)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    recorded = importlib.import_module("vice.experiments.benchmark.kernels.launches").recorded
    loss, targets = parts.loss.to("meta"), on_meta(parts.batch).targets
    moved = [torch.empty_like(each, device="meta").requires_grad_() for each in outputs]
    with recorded():
        # What depends on sizes alone is worked out at the first call, and kept.
        loss(*moved, *targets)
        with no_waiting() as forward:
            value = loss(*moved, *targets)
        with no_waiting() as backward:
            value.backward()
    assert forward.calls > 5 and backward.calls > 2
    assert forward.carried == backward.carried == 0


def on_meta(value: Any) -> Any:
    """The same nest of tensors, on a device where reading a number fails."""
    if torch.is_tensor(value):
        return value.to("meta")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        return dataclasses.replace(value, **{n: on_meta(getattr(value, n)) for n in names})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(on_meta, value))
    if isinstance(value, list | tuple):
        return type(value)(map(on_meta, value))
    return value
