"""Progress of a run of MMSegmentation on the terminal; its whole log stands in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vice.runtime.progress import progress


@HOOKS.register_module()
class ProgressHook(Hook):
    """Says how many steps or images are done, and how long the others will take."""

    def __init__(self) -> None:
        self._steps: Iterator[int] = iter(())

    def before_train(self, runner: Runner) -> None:
        """Counts the steps."""
        self._count(runner, runner.max_iters, "training the head, steps")

    def before_test(self, runner: Runner) -> None:
        """Counts the images of this rank."""
        split = getattr(runner.test_dataloader.dataset, "split", "test")
        self._count(runner, len(runner.test_dataloader), f"predicting on {split} images")

    def _count(self, runner: Runner, total: int, label: str) -> None:
        self._steps = progress(range(total), total, label) if runner.rank == 0 else iter(())
        next(self._steps, None)

    def _after_iter(self, runner: Runner, *arguments: Any, **more: Any) -> None:
        next(self._steps, None)
