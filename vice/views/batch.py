"""Batches of views of images and their regions: drawn by workers, finished on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vice.normalize import normalize_bytes
from vice.views.crop_resize import cut_views
from vice.views.photometric import Photometric, PhotometricParams
from vice.views.sampler import Placement, Views, ViewSampler

Where = Literal["workers", "device"]


@dataclass
class DrawnViews:
    """The views of one image.

    Attributes:
        views: Where they lie; `Views` if they are cut.
        params: What is to happen to the colors of each.
        image: (H, W, 3) uint8, what the device is to cut them from; None if they are cut.
        changed: (M, h, w, 3) uint8 with changed colors; None where that is left to the device.
    """

    views: Placement
    params: PhotometricParams
    image: np.ndarray | None = None
    changed: np.ndarray | None = None


class ViewBatches:
    """Draws views, puts those of several images together, and finishes them on a device.

    What is drawn does not depend on where the work is done, so all give the same views up to
    rounding. What the device finishes travels to it as bytes: a quarter of the size or less.

    Args:
        sampler: Draws where views lie.
        photometric: Draws and makes the change of colors.
        cut_on: Whether workers cut the views out of the images, or the device does.
        change_on: Likewise for the change of colors.

    Raises:
        ValueError: Workers are to change the colors of views that are cut after them.
    """

    def __init__(
        self,
        sampler: ViewSampler,
        photometric: Photometric,
        *,
        cut_on: Where = "workers",
        change_on: Where = "workers",
    ) -> None:
        if (cut_on, change_on) == ("device", "workers"):
            raise ValueError("workers cannot change the colors of views that are cut after them")
        self.sampler = sampler
        self.photometric = photometric
        self.cut_on = cut_on
        self.change_on = change_on

    def draw(
        self,
        image: np.ndarray,
        regions: np.ndarray,
        rng: np.random.Generator,
        edges: np.ndarray | None = None,
    ) -> DrawnViews:
        """Views of one image, as far as a worker makes them.

        Args:
            image: (H, W, 3) uint8 RGB.
            regions: (H, W) integer ids.
            rng: All that is random comes from it.
            edges: As in `vice.views.ViewSampler.place`.

        Raises:
            NoMutualRegions: No draw of views had a region in common.
        """
        later = self.cut_on == "device"
        views = (self.sampler.place if later else self.sampler)(image, regions, rng, edges)
        drawn = DrawnViews(views, self.photometric.draw(rng, len(views)), image if later else None)
        if self.change_on == "workers" and isinstance(views, Views):
            drawn.changed = self.photometric.change_bytes(views.images, drawn.params, views.noise)
        return drawn

    def collate(self, samples: Sequence[DrawnViews]) -> dict[str, Any]:
        """N samples of M views each as one view-major batch (map = view * N + image).

        Returns:
            ``regions`` (M*N, h, w) int32, and ``images``: uint8 (M*N, h, w, 3), with changed
            colors; or (M*N, 3, h, w) with ``photometric`` and ``noise`` (bool (M*N, h, w)), which
            say what is to happen to them; or the N whole images, each uint8 (H, W, 3), with
            ``boxes`` (int32 (N, M, 4)) and ``flipped`` (bool (N, M)) on the host as well.
        """
        regions = np.stack([sample.views.regions for sample in samples], axis=1)
        batch: dict[str, Any] = {"regions": torch.from_numpy(regions).flatten(0, 1)}
        if self.change_on == "workers":
            changed = [sample.changed for sample in samples if sample.changed is not None]
            return {**batch, "images": torch.from_numpy(np.stack(changed, axis=1)).flatten(0, 1)}
        together = PhotometricParams.concatenate([sample.params for sample in samples])
        order = np.arange(len(together)).reshape(len(samples), -1).T.ravel()
        noise = np.stack([sample.views.noise for sample in samples], axis=1)
        batch["photometric"] = together[order]
        batch["noise"] = torch.from_numpy(noise).flatten(0, 1)
        cut = [sample.views.images for sample in samples if isinstance(sample.views, Views)]
        if cut:
            images = torch.from_numpy(np.stack(cut, axis=1)).flatten(0, 1)
            return {**batch, "images": images.permute(0, 3, 1, 2).contiguous()}
        whole = [np.ascontiguousarray(sample.image) for sample in samples]
        batch["images"] = [torch.from_numpy(image) for image in whole]
        for name in ("boxes", "flipped"):
            batch[name] = np.stack([getattr(sample.views, name) for sample in samples])
        return batch

    @torch.no_grad()
    def finish(self, collated: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cuts and changes what is left to do.

        Args:
            collated: What `collate` returns; its tensors may have been moved already.
            device: Where the work is done.

        Returns:
            Views (M*N, 3, h, w) float32 and their regions (M*N, h, w) int32, on the device.
        """
        regions = collated["regions"].to(device, non_blocking=True)
        if self.change_on == "workers":
            return normalize_bytes(collated["images"].to(device, non_blocking=True)), regions
        if self.cut_on == "device":
            size = tuple(regions.shape[-2:])
            parts = zip(collated["images"], collated["boxes"], collated["flipped"], strict=True)
            cut = [
                cut_views(image.to(device, non_blocking=True), boxes, flipped, size)
                for image, boxes, flipped in parts
            ]
            images = torch.stack(cut, dim=1).flatten(0, 1)
        else:
            images = collated["images"].to(device, non_blocking=True)
        params, noise = collated["photometric"], collated["noise"]
        if device.type == "cpu":
            # As workers do it: a model does not depend on which process of a CPU did the work.
            pixels = images.permute(0, 2, 3, 1).numpy()
            changed = self.photometric.change_bytes(pixels, params, noise.numpy())
            return normalize_bytes(torch.from_numpy(changed)), regions
        return self.photometric(images, params, noise), regions
