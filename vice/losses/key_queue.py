"""Queue of keys of past batches, the same on every rank, that others are told from (MoCo)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """Ring of unit vectors, random directions until batches have filled it.

    Every rank is to push the keys of all ranks, in one order: then all have the same queue. Nothing
    here waits for a GPU, though some keys may be absent.

    Args:
        length: Keys that it holds, K.
        dim: Their width D.

    Source: MoCo (He et al. 2020); MaskContrast (Van Gansbeke et al. 2021).
    """

    vectors: Tensor
    pushed: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(length, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return self.vectors.shape[0]

    @torch.no_grad()
    def scatter(self, seed: int) -> None:
        """Fills it with Gaussian vectors of unit length that depend on a seed alone."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(self.vectors.shape, generator=generator)
        self.vectors.copy_(F.normalize(drawn, dim=1))
        self.pushed.zero_()

    @torch.no_grad()
    def push(self, keys: Tensor, present: Tensor) -> None:
        """Overwrites the oldest vectors.

        Args:
            keys: (N, D).
            present: bool (N,), which of them there are; of more than fit, the last ones are kept.
        """
        length, dim = self.vectors.shape
        order = present.cumsum(0) - 1
        fits = present & (order >= order[-1:] + 1 - length)
        # Absent keys go to a row past the end, so that their number need not be known.
        place = torch.where(fits, (self.pushed + order) % length, length)
        table = torch.cat([self.vectors, self.vectors.new_zeros(1, dim)])
        table.index_copy_(0, place, keys.to(table))
        self.vectors.copy_(table[:length])
        self.pushed += order[-1] + 1
