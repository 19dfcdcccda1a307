"""Steps whose loss or gradient is not a number are skipped, counted, and bounded."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vice.errors import UserError
from vice.models.training_state import write_snapshot
from vice.plugins.vissl.hooks.base import SilentHook
from vice.runtime.collectives import rank

logger = logging.getLogger(__name__)


class NotFinite(Exception):
    """This step must leave no trace; raised on all ranks or on none."""


class FiniteHook(SilentHook):
    """Stops a step before a value that is not finite reaches the weights.

    The loss is averaged over the ranks, and gradients are, before they are looked at, so all
    ranks skip the same steps. Under a gradient scaler, gradients are the scaler's business: that
    float16 overflows now and then is how it finds its scale.

    Args:
        folder: Gets the batch when training gives up.
        most: Steps in a row that may be skipped.
    """

    def __init__(self, folder: str, most: int) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.most = most
        self.in_a_row = 0
        self.total = 0
        self.untrained = False
        self.parameters: list[torch.nn.Parameter] | None = None

    def on_start(self, task: Any) -> None:
        """Lets the training step tell of skipped steps."""
        task.finite = self
        self.untrained = int(task.iteration) == 0

    def on_loss_and_meter(self, task: Any) -> None:
        """Looks at the loss; VISSL has just averaged it and read its value."""
        if not math.isfinite(task.losses[-1]):
            raise NotFinite(f"the loss is {task.losses[-1]}")

    def on_backward(self, task: Any) -> None:
        """Looks at the gradients."""
        if task.amp_grad_scaler is not None:
            return
        # Once: walking the modules at each step takes longer than the norm of a small network.
        if self.parameters is None:
            self.parameters = [*task.base_model.parameters()]
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise NotFinite("a gradient is not finite")

    def on_update(self, task: Any) -> None:
        """A step was taken."""
        del task
        self.in_a_row, self.untrained = 0, False

    def on_phase_end(self, task: Any) -> None:
        """Refuses to export as trained what no step has changed.

        Raises:
            UserError: The training ends, and all its steps were skipped.
        """
        last = task.train_phase_idx == task.num_train_phases - 1
        if task.train and last and self.untrained and self.total:
            raise UserError(
                f"none of the {self.total} steps of this training was finite, so that nothing has "
                "been learnt: look at what log.txt says of them, and at the images and the loss"
            )

    def skip(self, task: Any, reason: str) -> None:
        """Counts a skipped step.

        Raises:
            UserError: Too many in a row; the batch is saved.
        """
        self.in_a_row += 1
        self.total += 1
        task.losses.pop()
        logger.warning(
            "step %d is skipped: %s (%d in a row, %d in all)",
            task.iteration,
            reason,
            self.in_a_row,
            self.total,
        )
        if self.in_a_row >= self.most:
            raise UserError(
                f"{reason} for {self.in_a_row} steps in a row, at iteration {task.iteration}; "
                f"{self._keep_batch(task)}. Lower the learning rate "
                "(config.VICE.SCHEDULE.base_lr) or warm up longer "
                "(config.VICE.SCHEDULE.warmup_epochs), or look at the batch; the same command goes "
                "on from the last checkpoint"
            )

    def _keep_batch(self, task: Any) -> str:
        """What has become of the batch; a full disk must not hide why training ends."""
        path = self.folder / f"nonfinite_rank{rank()}.torch"
        sample = {**task.last_batch.sample["method"], "input": task.last_batch.sample["input"]}
        batch = {name: value for name, value in sample.items() if torch.is_tensor(value)}
        try:
            write_snapshot(path, {"iteration": int(task.iteration), **batch})
        except UserError as error:
            return f"the last batch is not kept ({error})"
        return f"the last batch is kept in {path}"


@contextmanager
def undone_if_skipped(task: Any, kept: list[torch.Tensor]) -> Iterator[None]:
    """Puts back what a forward pass changes by itself, if the step in the block is skipped.

    These are the running statistics of the model and the loss's queue and counters.

    Args:
        task: VISSL's task.
        kept: Space for copies; filled at the first call, used again at each.
    """
    buffers = [*task.base_model.buffers(), *task.loss.buffers()]
    if not kept:
        kept.extend(torch.empty_like(buffer) for buffer in buffers)
    _copy(kept, buffers)
    try:
        yield
    except NotFinite as error:
        _copy(buffers, kept)
        task.finite.skip(task, str(error))


def _copy(into: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    # Together only what has one kind and place: of a mixture each would be copied by itself.
    kinds: dict[Any, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    for target, value in zip(into, values, strict=True):
        pair = kinds.setdefault((target.device, target.dtype), ([], []))
        pair[0].append(target)
        pair[1].append(value)
    for target, value in kinds.values():
        torch._foreach_copy_(target, value)
