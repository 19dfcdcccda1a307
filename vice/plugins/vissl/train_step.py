"""VISSL train step ``vice_train_step``: finishes the views on the device, then trains as usual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vissl.trainer.train_steps import register_train_step
from vissl.trainer.train_steps.standard_train_step import standard_train_step

from vice.plugins.vissl.hooks.finite import undone_if_skipped
from vice.plugins.vissl.transforms import tuples
from vice.views.crop_resize import cut_views
from vice.views.photometric import Photometric


class FinishedViews:
    """An iterator over batches whose views are cut and changed here.

    Workers then only decode images, find superpixels and draw where views lie, or cut them as
    well, and what travels to the device is a quarter as large or less. Batches that were changed
    by the workers pass as they are.

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
        #: Given the region maps of each batch.
        self.prepare: Callable[[Tensor], None] = lambda regions: None

    def __iter__(self) -> FinishedViews:
        return self

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def __next__(self) -> dict[str, Any]:
        batch = next(self.batches)
        self.after_reading()
        self.prepare(batch["label"][0])
        params = batch.pop("photometric", None)
        if params is not None:
            images = self._cut(batch)
            batch["data"] = [self.photometric(images, params, batch.pop("noise"))]
        return batch

    def _cut(self, batch: dict[str, Any]) -> Tensor:
        """The views of all images, view-major: uint8 (M*N, 3, h, w)."""
        # VISSL has moved them already where it trains on a GPU, whole images as well.
        found = [image.to(self.device, non_blocking=True) for image in batch["data"]]
        if "boxes" not in batch:
            return found[0]
        size = tuple(batch["label"][0].shape[-2:])
        where = zip(found, batch.pop("boxes"), batch.pop("flipped"), strict=True)
        return torch.stack([cut_views(*views, size) for views in where], dim=1).flatten(0, 1)


@register_train_step("vice_train_step")
def vice_train_step(task: Any) -> Any:
    """VISSL's own step on finished views; nothing changes if it is not finite."""
    if not isinstance(task.data_iterator, FinishedViews):
        photometric = Photometric(**tuples(dict(task.config["VICE"]["PHOTOMETRIC"])))
        task.data_iterator = FinishedViews(task.data_iterator, photometric, task.device)
        task.data_iterator.after_reading = lambda: task.note("in the forward pass", task.iteration)
        task.data_iterator.prepare = task.loss.prepare
        task.copies = []
    with undone_if_skipped(task, task.copies):
        standard_train_step(task)
    return task
