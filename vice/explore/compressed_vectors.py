"""Vectors in few 8-bit numbers: coordinates along main directions, and what that changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vice.models.concepts import Concepts

#: Most directions that are kept.
DIRECTIONS = 32
#: Greatest 8-bit number that is used; -128 is not, so that both signs reach equally far.
_TOP = 127


@dataclass(frozen=True, eq=False)
class Compression:
    """Orthogonal directions through the origin, and the step of the numbers along each.

    The directions are those of greatest second moment (a PCA without centering), so that inner
    products of vectors are, but for what is left out, those of their coordinates; a vector of
    coordinates ``c`` is ``directions @ c`` in the model's space.

    Attributes:
        directions: float32 (D, P), orthonormal columns.
        steps: float32 (P,), coordinates are whole multiples of these.
    """

    directions: Tensor
    steps: Tensor

    @classmethod
    def fit(cls, vectors: Tensor, most: int = DIRECTIONS) -> Compression:
        """Directions and steps of a sample.

        Args:
            vectors: (N, D).
            most: Most directions.
        """
        points = vectors.double()
        _, axes = torch.linalg.eigh(points.T @ points / len(points))
        directions = axes.flip(1)[:, :most]
        # Eigenvector sign is arbitrary: fix it, or files differ between machines.
        strongest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        directions = directions * strongest.sign()
        reach = (points @ directions).abs().amax(0)
        return cls(directions.float(), (reach / _TOP).clamp_min(1e-12).float())

    def encode(self, vectors: Tensor) -> np.ndarray:
        """int8 (N, P) of (N, D); what reaches farther than the sample is cut off."""
        steps = (vectors.float() @ self.directions / self.steps).round()
        return steps.clamp(-_TOP, _TOP).to(torch.int8).numpy()

    def decode(self, codes: np.ndarray) -> Tensor:
        """float32 (N, P) coordinates of (N, P) codes."""
        return torch.from_numpy(codes).float() * self.steps


@dataclass(frozen=True)
class Loss:
    """What compression changes, measured.

    Attributes:
        mean: Mean absolute difference of similarities: cosines, or distances as shares of the mean
            distance.
        most: Greatest of them.
        same: Share of vectors whose nearest concept is the same.
        pairs: How many pairs were compared.
    """

    mean: float
    most: float
    same: float
    pairs: int

    @classmethod
    def measure(
        cls, compression: Compression, vectors: Tensor, concepts: Concepts, *, spherical: bool
    ) -> Loss:
        """Compares vectors and the same after compression.

        Args:
            compression: Fitted to these or others.
            vectors: (N, D), in random order: each is compared with the next one.
            concepts: Unit vectors without bias, or points (`Concepts.euclidean`).
            spherical: Whether similarity is the cosine, else the Euclidean distance.
        """
        codes = compression.decode(compression.encode(vectors))
        exact, kept = (_similarity(each, spherical) for each in (vectors, codes))
        difference = (exact - kept).abs()
        if not spherical:
            difference = difference / exact.mean().clamp_min(1e-12)
        weights = concepts.vectors.float().cpu()
        bias = 0 if concepts.bias is None else concepts.bias.cpu()
        here = (vectors @ weights.T + bias).argmax(1)
        there = (codes @ (weights @ compression.directions).T + bias).argmax(1)
        same = float((here == there).float().mean())
        return cls(float(difference.mean()), float(difference.max()), same, len(exact))

    def said(self, directions: int, dim: int, *, spherical: bool) -> str:
        """A sentence of it."""
        what = "Cosines" if spherical else "Distances, as shares of their mean,"
        return (
            f"The page compares {directions} 8-bit numbers instead of {dim} of the model. {what} "
            f"differ by {self.mean:.2g} on average and {self.most:.2g} at most over {self.pairs} "
            f"pairs; {100 * self.same:.1f} % of the vectors have the same nearest concept. Masks "
            "are made with the exact vectors."
        )


def _similarity(vectors: Tensor, spherical: bool) -> Tensor:
    one, other = vectors[:-1], vectors[1:]
    if spherical:
        return torch.nn.functional.cosine_similarity(one, other, dim=1)
    return (one - other).norm(dim=1)
