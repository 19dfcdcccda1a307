"""VISSL task ``vice_task``: VISSL's self-supervised task, with the parts of a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from classy_vision.optim.classy_optimizer import OptionsView
from classy_vision.tasks import register_task
from vissl.trainer.train_task import SelfSupervisionTask

from vice.methods import build_method
from vice.plugins.vissl.loss import MethodLoss
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

    def _build_optimizer(self) -> Any:
        optimizer = super()._build_optimizer()
        optimizer.options_view = EmbedderRate(optimizer)
        return optimizer

    def _build_loss(self) -> MethodLoss:
        loss, trunk = self.method.loss(), self.base_model.trunk
        if not trunk.execution.compiled:
            self.passes = PassCount()
            self.passes.watch(trunk.embedder)
        self.method.bind(loss, trunk.embedder, trunk.execution.run)
        return MethodLoss(loss)

    def recreate_data_iterator(self, *args: Any, **kwargs: Any) -> None:
        """As VISSL's, over finished batches."""
        super().recreate_data_iterator(*args, **kwargs)
        self.data_iterator = FinishedBatches(self, self.data_iterator)


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
        self.task.base_loss.batch = batch
        # Forward passes: VISSL gives each of a list its own (SINGLE_PASS_EVERY_CROP).
        item["data"] = batch.inputs if len(batch.inputs) == 1 else [batch.inputs]
        return item
