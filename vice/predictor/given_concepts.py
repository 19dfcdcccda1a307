"""What a user gives as concepts, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError, brief
from vice.models.centroids import Centroids
from vice.models.concepts import Concepts

if TYPE_CHECKING:
    Vector: TypeAlias = Tensor | np.ndarray
    Vectors: TypeAlias = Vector | Sequence[Vector] | Mapping[str, Vector] | Concepts | Centroids


def given_concepts(concepts: Any, dim: int, *, spherical: bool, device: torch.device) -> Concepts:
    """Concepts of any kind that `vice.Predictor.segment` takes.

    Args:
        concepts: As there, not None.
        dim: Width D of the embedding.
        spherical: Whether only directions count.
        device: Where vectors are put.

    Raises:
        UserError: They are no (K, D) finite numbers.
    """
    if isinstance(concepts, Concepts | Centroids):
        _check(concepts.vectors, dim)
        return concepts.concepts() if isinstance(concepts, Centroids) else concepts
    vectors = _as_tensor(concepts, dim)
    _check(vectors, dim)
    vectors = vectors.to(device, torch.float32)
    if spherical and not vectors.norm(dim=1).all():
        raise UserError("one of the concepts is all zeros and has no direction; leave it out")
    return Concepts(F.normalize(vectors, dim=1)) if spherical else Concepts.euclidean(vectors)


def _as_tensor(concepts: Any, dim: int) -> Tensor:
    if isinstance(concepts, str | Path):
        raise UserError(
            f"concepts must be (K, {dim}) vectors, not the path {concepts}: read fitted ones with "
            "vice.models.centroids.Centroids.load; vice segment --concepts takes named ones, too"
        )
    vectors = list(concepts.values()) if isinstance(concepts, Mapping) else concepts
    if isinstance(vectors, list | tuple) and not len(vectors):
        raise UserError(f"concepts are empty: give at least one vector of {dim} numbers")
    try:
        if isinstance(vectors, list | tuple) and all(hasattr(each, "shape") for each in vectors):
            return torch.stack([torch.as_tensor(each).detach().cpu() for each in vectors])
        concepts = vectors
        return torch.as_tensor(concepts).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"concepts must be (K, {dim}) numbers, an array, a tensor or Centroids, and as many "
            f"numbers each ({brief(error)})"
        ) from error


def _check(vectors: Tensor, dim: int) -> None:
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != dim:
        raise UserError(
            f"concepts must be (K, {dim}), a vector a row as wide as the embedding, not "
            f"{tuple(vectors.shape)}"
        )
    if vectors.is_complex() or not vectors.isfinite().all():
        raise UserError(f"concepts must be (K, {dim}) finite real numbers")
