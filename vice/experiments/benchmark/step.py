"""A training step against the bare model, what each way to speed it up gives, and its profile."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vice.experiments.benchmark.data import block_regions
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.losses import DenseSwAVLoss, MutualRegions
from vice.models import Prototypes, build_embedder
from vice.models.execution import Execution
from vice.models.execution_probe import HOPELESS, glance

WAYS = ("channels_last", "bfloat16", "compiled")
#: Operators of the profile that are shown.
SHOWN = 10


def execution_of(ways: tuple[str, ...]) -> Execution:
    """How a network is computed in some of ``WAYS``."""
    return Execution(
        precision="bfloat16" if "bfloat16" in ways else None,
        channels_last="channels_last" in ways,
        compiled="compiled" in ways,
    )


@dataclass
class Setting:
    """One batch, the model and the loss.

    Attributes:
        ways: Those of ``WAYS`` that are taken.
        device: Where it is computed.
        small: Whether it is a small network on small views.
        region_vector: As in `vice.losses.DenseSwAVLoss`.
    """

    ways: tuple[str, ...]
    device: str
    small: bool
    region_vector: str = "pixel"

    def __post_init__(self) -> None:
        self.views, self.images, side = (2, 2, 96) if self.small else (5, 4, 400)
        if self.device == "cpu" and not self.small:
            # Batch size: the ratio is that of more images, which would take minutes a step.
            self.images = 1
        backbone, decoder = ("resnet18", "fpn") if self.small else ("resnet50", "deeplabv3plus")
        self.label = f"{backbone} + {decoder}, {' + '.join(self.ways) or 'float32'}"
        if self.region_vector != "pixel":
            self.label += f", {self.region_vector}"
        self.note = f"{self.views} views of {self.images} images of {side} pixels"
        self.execution = execution_of(self.ways)
        maps, device = self.views * self.images, self.device
        self.model = self.execution.prepare(build_embedder(backbone, decoder, 128).to(device))
        self.batch = torch.randn(maps, 3, side, side, device=device)
        if self.execution.channels_last:
            self.batch = self.batch.contiguous(memory_format=torch.channels_last)
        self.regions = block_regions(maps, side, 20, device).int()
        self.criterion = DenseSwAVLoss(
            self.views,
            128,
            128,
            queue_length=5000,
            queue_start=0,
            region_vector=self.region_vector,
        )
        self.criterion.to(device)
        self.prototypes = Prototypes(128, 128).to(device)

    def bare(self) -> None:
        """Forward and backward of the model alone."""
        output = self.execution.run(self.model, self.batch)
        self.model.zero_grad()
        output.backward(torch.ones_like(output))

    def whole(self) -> None:
        """Forward and backward with the loss, whose regions are found first."""
        batch = MutualRegions.of(self.regions, self.views)
        output = self.execution.run(self.model, self.batch)
        loss: Tensor = self.criterion(output, self.prototypes.weight, batch)
        self.model.zero_grad()
        loss.backward()

    def waits(self) -> int:
        """How often the host waits for the GPU in the loss, once its regions are found."""
        batch = MutualRegions.of(self.regions, self.views)
        output = self.execution.run(self.model, self.batch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self.criterion(output, self.prototypes.weight, batch).backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        # Warnings: switching it on warns too, that not all such operations are known.
        return sum("called a synchronizing" in str(warning.message) for warning in caught)


def step(device: str, *, small: bool) -> list[Measurement]:
    """A step at the paper's high-res setting, plain, with each way but compiling, and with both.

    On a CPU its full size, one image instead of four, is measured in both precisions; on a GPU
    representatives are measured as well, with both ways.

    A way that takes three times as long as the plain one for a small convolution is not taken:
    bfloat16 on a processor that does not multiply in it.

    Returns:
        For each the model alone, against the plain one, and with the loss, against the model; of
        the last what the optimizer takes, and on a GPU how often the loss waits for it.
    """
    from timm.optim import Lars

    choices: list[tuple[str, ...]] = [(), *((way,) for way in WAYS[:2]), WAYS[:2]]
    if device == "cpu" and not small:
        choices = [(), ("bfloat16",)]
    choices, hopeless = _worth_timing(choices, device)
    settings = [Setting(ways, device, small) for ways in choices]
    last = settings[-1]
    if device != "cpu":
        settings.append(Setting(choices[-1], device, small, "representative"))
    # Memory of weights whose gradients the step with the loss leaves.
    optimizer = Lars(
        [*last.model.parameters(), *last.prototypes.parameters()], lr=1e-6, momentum=0.9
    )
    rows = _in_turn(settings, {"LARS, a step": optimizer.step})
    if device != "cpu":
        for setting in settings[-2:]:
            waits = f"the host waits {setting.waits()} times once regions are found"
            rows.append(Measurement(f"the loss, {setting.region_vector}", 0.0, note=waits))
    return rows + hopeless


def _worth_timing(
    choices: list[tuple[str, ...]], device: str
) -> tuple[list[tuple[str, ...]], list[Measurement]]:
    """The ways that `vice.models.execution_probe` would try, and what is said of the others."""
    seconds = glance([execution_of(ways) for ways in choices], torch.device(device))
    plain, *_ = seconds.values()
    tried, left_out = [], []
    for ways, taken in zip(choices, seconds.values(), strict=True):
        if taken < HOPELESS * plain:
            tried.append(ways)
            continue
        name = f"{' + '.join(ways)}: a small convolution, and no more"
        left_out.append(Measurement(name, taken, "float32", taken / plain))
    return tried, left_out


def best_ways(device: str) -> tuple[str, ...]:
    """All of ``WAYS`` but compiling, as far as they are worth timing on a device."""
    choices, _ = _worth_timing([WAYS[:count] for count in range(3)], device)
    return choices[-1]


def compiled(device: str, *, small: bool) -> list[Measurement]:
    """The same of a compiled network, alone and with all other ways; on a GPU only."""
    if device == "cpu":
        note = "the generated C++ takes minutes to compile, and says nothing about a GPU"
        return [Measurement("skipped", 0.0, note=note)]
    return _in_turn([Setting(ways, device, small) for ways in ((), WAYS[2:], WAYS)], {})


def _in_turn(settings: list[Setting], more: dict[str, Callable[[], object]]) -> list[Measurement]:
    calls: dict[str, Callable[[], object]] = {}
    for setting in settings:
        calls[f"{setting.label}: model alone"] = setting.bare
        calls[f"{setting.label}: with the loss"] = setting.whole
    longest = 2 if settings[0].small else 4
    seconds = time_in_turn({**calls, **more}, device=settings[0].device, seconds=longest)
    rows, plain = [], next(iter(seconds.values()))
    for setting in settings:
        alone, whole = (f"{setting.label}: {what}" for what in ("model alone", "with the loss"))
        rows.append(
            Measurement(alone, seconds[alone], "float32", seconds[alone] / plain, setting.note)
        )
        ratio = seconds[whole] / seconds[alone]
        rows.append(Measurement(whole, seconds[whole], "model alone", ratio, setting.note))
    return rows + [
        Measurement(name, seconds[name], alone, seconds[name] / seconds[alone]) for name in more
    ]


def operators(device: str, *, small: bool) -> list[Measurement]:
    """The operators that take most of a step's time, without what they call."""
    setting = Setting(best_ways(device), device, small)
    setting.whole()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    with profile(activities=kinds) as recorded:
        setting.whole()
    name = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    # Kernel events of a GPU stand beside the operators that launched them.
    times = {
        entry.key: float(getattr(entry, name))
        for entry in recorded.key_averages()
        if entry.device_type == torch.autograd.DeviceType.CPU
    }
    total = sum(times.values())
    longest = sorted(times, key=lambda key: -times[key])[:SHOWN]
    return [
        Measurement(key, times[key] / 1e6, "step", times[key] / total, setting.label)
        for key in longest
    ]
