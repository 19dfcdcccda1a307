"""Mutual regions: the regions of a batch that every view of their image shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.regions.numbering import SPARSE, RegionIndex, index_regions


@dataclass(frozen=True)
class MutualRegions:
    """Mutual regions of M views of N images: those that are seen in every view.

    How many there are decides how large tensors will be, so finding them waits for the device.
    Done before the model's forward pass, it leaves nothing to wait for in the loss, whose kernels
    are then handed over while the GPU is still busy with the model.

    Attributes:
        numbered: All regions of the M * N maps, which are view-major (map = view * N + image).
        rows: (M, I) int64, numbers of the I mutual regions of all images, by image, then id;
            column i is the same region in every view.
        image: (I,) int64, image of each.
        counts: (N,) int64, how many each image has.
    """

    numbered: RegionIndex
    rows: Tensor
    image: Tensor
    counts: Tensor

    @classmethod
    def of(cls, regions: Tensor, num_views: int) -> MutualRegions:
        """Finds the regions of a batch.

        Args:
            regions: (M*N, h, w) integer, -1 outside mutual regions.
            num_views: M.

        Raises:
            ValueError: The number of maps is not a multiple of ``num_views``.
        """
        if regions.shape[0] % num_views:
            raise ValueError(f"{regions.shape[0]} maps are not a multiple of num_views={num_views}")
        numbered = index_regions(regions)
        num_images = regions.shape[0] // num_views
        image = numbered.index[:, 0] % num_images
        bound, ids = numbered.bound, numbered.index[:, 1]
        if bound > SPARSE:
            known, ids = torch.unique(ids, return_inverse=True)
            bound = len(known)
        key = image * bound + ids
        seen = torch.bincount(key, minlength=num_images * bound)
        rows = (seen[key] == num_views).nonzero().squeeze(1)
        # Sorted by (view, image, id), the rows that remain are M equal runs in the same order.
        rows = rows.reshape(num_views, -1)
        image = image[rows[0]]
        return cls(numbered, rows, image, torch.bincount(image, minlength=num_images))

    def mutual(self, values: Tensor) -> Tensor:
        """Values of the regions (R, ...) aligned over the views: (M, I, ...)."""
        return values.index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)

    def vectors(self, pooled: Tensor) -> Tensor:
        """Region vectors (R, D) aligned over the views, and of unit length: (M, I, D)."""
        return F.normalize(self.mutual(pooled), dim=-1)
