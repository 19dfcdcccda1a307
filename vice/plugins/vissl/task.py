"""VISSL task ``vice_task``: VISSL's self-supervised task, with the parts of a method."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from classy_vision.optim.classy_optimizer import OptionsView
from classy_vision.tasks import register_task
from vissl.trainer.train_task import SelfSupervisionTask

from vice.errors import UserError
from vice.methods import Batch, build_method
from vice.plugins.vissl.lasting_workers import draw_seed, lasting
from vice.plugins.vissl.loss import MethodLoss
from vice.plugins.vissl.optimizer import fuse_on_cpu
from vice.plugins.vissl.pass_count import PassCount


@register_task("vice_task")
class ViceTask(SelfSupervisionTask):
    """Builds the loss of the method, and has it finish the batches.

    Args:
        config: VISSL's configuration; ``config.VICE`` says which method.

    Attributes:
        method: The method.
        note: Given what this rank is doing, and at which iteration.
        copies: Space for what a step that is not finite would change.
        passes: Counts what goes through the embedder; None where it is compiled.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.method = build_method(config["VICE"])
        self.note: Callable[[str, int], None] = lambda doing, iteration: None
        self.copies: list[torch.Tensor] = []
        self.passes: PassCount | None = None
        self.data_iterator: Any = None
        self._started: set[str] = set()

    def _build_optimizer(self) -> Any:
        optimizer = super()._build_optimizer()
        optimizer.options_view = EmbedderRate(optimizer)
        return optimizer

    def prepare_optimizer(self) -> None:
        """As VISSL's, and fused where that helps."""
        super().prepare_optimizer()
        fuse_on_cpu(self.optimizer.optimizer, self.device)

    def _build_loss(self) -> MethodLoss:
        loss, trunk = self.method.loss(), self.base_model.trunk
        if not trunk.execution.compiled:
            self.passes = PassCount()
            self.passes.watch(trunk.embedder)
        self.method.bind(loss, trunk.embedder, trunk.execution.run)
        return MethodLoss(loss)

    def build_dataloaders(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As VISSL's, whose processes last, and let a network on the same cores go first."""
        loaders = super().build_dataloaders(*args, **kwargs)
        on_cores = self.device.type == "cpu"
        return {phase: lasting(loader, give_way=on_cores) for phase, loader in loaders.items()}

    def recreate_data_iterator(self, phase_type: str, *args: Any, **kwargs: Any) -> None:
        """As VISSL's, over finished batches."""
        loader = self.dataloaders[phase_type]
        if loader.num_workers and phase_type in self._started:
            draw_seed()
        self._started.add(phase_type)
        # Garbage collection: VISSL collects before each epoch, and what there was before the first
        # stays. Frozen, it is not gone through, nor written to, which forked processes would copy.
        if not gc.get_freeze_count():
            gc.freeze()
        super().recreate_data_iterator(phase_type, *args, **kwargs)
        self.data_iterator = FinishedBatches(self, self.data_iterator)

    def end_batches(self) -> None:
        """Lets go of the processes that load data, which have been ended."""
        self.data_iterator = None
        self.dataloaders: dict[str, Any] = {}


class EmbedderRate(OptionsView):
    """What VISSL's hooks read of an optimizer: one learning rate, also where a head has its own."""

    @property
    def lr(self) -> float:
        """The embedder's."""
        return float(self.optimizer.optimizer.param_groups[0]["lr"])


class FinishedBatches:
    """An iterator over batches that are finished here, before the model is busy with them.

    Args:
        task: Its method finishes them on its device, and its loss is shown each.
        batches: Iterator with a length over what `vice.plugins.vissl.collator.vice_collator`
            makes.
    """

    def __init__(self, task: ViceTask, batches: Any) -> None:
        self.task = task
        self.batches = batches

    def __iter__(self) -> FinishedBatches:
        return self

    def __len__(self) -> int:
        return len(self.batches)

    def __next__(self) -> dict[str, Any]:
        item: dict[str, Any] = next(self.batches)
        self.task.note("in the forward pass", self.task.iteration)
        batch = self.task.method.finish(item["method"], self.task.device)
        _check_batch(type(self.task.method).__qualname__, batch)
        self.task.base_loss.batch = batch
        # Forward passes: VISSL gives each of a list its own (SINGLE_PASS_EVERY_CROP).
        item["data"] = batch.inputs if len(batch.inputs) == 1 else [batch.inputs]
        return item


def _check_batch(method: str, batch: Any) -> None:
    """Refuses what no network can be called with, by the name of the method that has made it."""
    if not isinstance(batch, Batch):
        raise UserError(
            f"{method}.finish() returned a {type(batch).__name__}, but must return a "
            "vice.methods.Batch"
        )
    inputs = batch.inputs
    right = (
        isinstance(inputs, list | tuple)
        and len(inputs) > 0
        and all(isinstance(each, torch.Tensor) for each in inputs)
        and all(each.is_floating_point() and each.ndim == 4 for each in inputs)
        and all(len(each) and each.shape[1] == 3 for each in inputs)
        and len({each.shape[1:] for each in inputs}) == 1
    )
    if not right:
        shown = inputs if isinstance(inputs, list | tuple) else [inputs]
        found = ", ".join(
            f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}"
            if isinstance(each, torch.Tensor)
            else type(each).__name__
            for each in shown
        )
        raise UserError(
            f"{method}.finish() returned a batch of {found or 'no inputs'}, but must return "
            "floating-point (B, 3, h, w), several of one size"
        )
