"""VISSL train step ``vice_train_step``: finishes the views on the device, then trains as usual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vissl.trainer.train_steps import register_train_step
from vissl.trainer.train_steps.standard_train_step import standard_train_step

from vice.photometric import Photometric
from vice.plugins.vissl.finite import undone_if_skipped
from vice.plugins.vissl.transforms import tuples


class FinishedViews:
    """An iterator over batches whose photometric change happens here.

    Workers then only decode images, find superpixels and cut views, and what travels to the
    device is a quarter as large. Batches that were changed by the workers pass as they are.

    Args:
        batches: Iterator with a length over what `vice.plugins.vissl.collator.vice_collator`
            makes.
        photometric: The change.
        device: Where it is computed.
    """

    def __init__(self, batches: Any, photometric: Photometric, device: torch.device) -> None:
        self.batches = batches
        self.photometric = photometric
        self.device = device
        #: Called when a batch has come and the work on it begins.
        self.after_reading: Callable[[], None] = lambda: None

    def __iter__(self) -> FinishedViews:
        return self

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def __next__(self) -> dict[str, Any]:
        batch = next(self.batches)
        self.after_reading()
        params = batch.pop("photometric", None)
        if params is not None:
            images = batch["data"][0].to(self.device, non_blocking=True)
            batch["data"] = [self.photometric(images, params, batch.pop("noise"))]
        return batch


@register_train_step("vice_train_step")
def vice_train_step(task: Any) -> Any:
    """VISSL's own step on finished views; nothing changes if it is not finite."""
    if not isinstance(task.data_iterator, FinishedViews):
        photometric = Photometric(**tuples(dict(task.config["VICE"]["PHOTOMETRIC"])))
        task.data_iterator = FinishedViews(task.data_iterator, photometric, task.device)
        task.data_iterator.after_reading = lambda: task.note("in the forward pass", task.iteration)
        task.copies = []
    with undone_if_skipped(task, task.copies):
        standard_train_step(task)
    return task
