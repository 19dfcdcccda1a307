"""Prototypes: the K concepts that region vectors are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vice.models.concepts import Concepts

#: What messages call them.
NAME = "prototypes"


class Prototypes(nn.Linear):
    """K unit vectors; ``prototypes(z)`` are the scores s* = z* C of ViCE (BMVC) section 3.3.

    A bias-free linear layer, so that optimizers treat it as one. The rows are kept at unit
    length by calling `normalize_` after each update.

    Args:
        dim: Width D of the embedding.
        num_prototypes: Number of concepts K.
    """

    def __init__(self, dim: int, num_prototypes: int) -> None:
        super().__init__(dim, num_prototypes, bias=False)
        self.normalize_()

    @classmethod
    def of(cls, vectors: Tensor) -> Prototypes:
        """Prototypes that are not trained, of vectors (K, D) whose memory they share."""
        # Meta device: no memory is filled with random numbers first.
        with torch.device("meta"):
            made = cls(vectors.shape[1], vectors.shape[0])
        made.weight = nn.Parameter(vectors, requires_grad=False)
        return made

    def concepts(self) -> Concepts:
        """The same as concepts, which share the memory."""
        return Concepts(self.weight.detach(), name=NAME)

    @torch.no_grad()
    def normalize_(self) -> Prototypes:
        """Scales each prototype to unit length, in place."""
        self.weight.copy_(F.normalize(self.weight, dim=1))
        return self
