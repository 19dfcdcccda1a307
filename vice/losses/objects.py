"""Objects of a batch of two views: which pixels show one, and where the other view shows it too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vice.regions import index_regions
from vice.regions.numbering import RegionIndex
from vice.runtime.device import to_device


@dataclass(frozen=True)
class Objects:
    """Objects of B images, each seen by a query view and by a key view.

    Every image has M slots for its objects, so that tables are of one size whatever it shows. How
    many pixels and objects there are is found on the host, from its masks, before anything is sent
    to a GPU.

    Attributes:
        masks: uint8 (B, H, W), number of the object at each pixel of the query views, 0 for
            background.
        pixels: int32 (P,), places in ``masks.flatten()``, in scan order, of objects that the key
            views show too.
        counts: float32 (B * M,), how many of these pixels each slot has.
        keys: Objects of the key views.
        slots: int64 (R,), slot of each of them.
        present: bool (B * M,), slots that have a key.
        most: M.
        tries: float32 (2,), images of which views were drawn again, and images that others stand
            in for.
    """

    masks: Tensor
    pixels: Tensor
    counts: Tensor
    keys: RegionIndex
    slots: Tensor
    present: Tensor
    most: int
    tries: Tensor

    @classmethod
    def of(
        cls, queries: Tensor, keys: Tensor, most: int = 1, tries: Tensor | None = None
    ) -> Objects:
        """Finds them, on the host.

        Args:
            queries: uint8 (B, H, W), numbers from 1 to ``most``, 0 for background.
            keys: The same of the key views.
            most: M.
            tries: As in the class; None for none.
        """
        slots = len(queries) * most
        index = index_regions(keys.int() - 1, most)
        slot = index.index[:, 0] * most + index.index[:, 1]
        present = torch.zeros(slots, dtype=torch.bool).index_fill_(0, slot, True)
        numbers = queries.flatten(1).long()
        first = torch.arange(len(queries))[:, None] * most
        of_pixel = torch.where(numbers > 0, first + numbers - 1, slots).flatten()
        seen = torch.cat([present, torch.tensor([False])])[of_pixel]
        pixels = seen.nonzero()[:, 0]
        counts = torch.bincount(of_pixel[pixels], minlength=slots).float()
        tries = torch.zeros(2) if tries is None else tries
        return cls(queries, pixels.int(), counts, index, slot, present, most, tries)

    def to(self, device: torch.device) -> Objects:
        """The same on a device; the host goes on while it travels."""

        def sent(tensor: Tensor) -> Tensor:
            return to_device(tensor.numpy(), device)

        row, index, counts = map(sent, self.keys[:3])
        keys = self.keys._replace(row=row, index=index, counts=counts)
        names = ("masks", "pixels", "counts", "slots", "present", "tries")
        moved = {name: sent(getattr(self, name)) for name in names}
        return Objects(**moved, keys=keys, most=self.most)
