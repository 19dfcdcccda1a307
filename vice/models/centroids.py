"""Centroids that k-means has fitted, and their file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vice.errors import UserError
from vice.models.concepts import Concepts
from vice.models.own_files import (
    CHECKSUM,
    checksum,
    first_not_finite,
    is_damaged,
    read_safetensors,
    write_safetensors,
)
from vice.nearest import near_path
from vice.paths import from_home
from vice.runtime.provenance import known_digest

FORMAT = "vice-centroids-1"


@dataclass(frozen=True)
class Centroids:
    """The result of k-means.

    Attributes:
        vectors: float32 (K, D); unit length when spherical.
        spherical: Whether the nearest centroid is the one with the greatest inner product (True)
            or the least Euclidean distance (False).
        objective: k-means objective after each iteration, as FAISS reports it: the sum of inner
            products (spherical, rising) or of squared distances (falling).
        seed: Seed they were fitted with.
        vectors_fitted: How many vectors they were fitted to; this and the next two are known
            after fitting alone and stand in no file.
        distinct: How many of these differ by more than a thousandth of the greatest entry.
        occupied: How many clusters have at least one of them.
        beyond_memory: How many more vectors there were that the memory limit had no room for; in
            no file either.
        unit_dot: Whether the nearest centroid is instead the one with the greatest inner product
            with a pixel's unit vector, the centroids keeping their length (PiCIE).
        weights: Digest of the model to whose embeddings they were fitted, as
            `vice.runtime.provenance.digest` has it; None where that is not known, as in files of
            earlier versions.
    """

    vectors: Tensor
    spherical: bool
    objective: list[float] = field(default_factory=list)
    seed: int = 0
    vectors_fitted: int | None = None
    distinct: int | None = None
    occupied: int | None = None
    unit_dot: bool = False
    weights: str | None = None
    beyond_memory: int = 0

    def __len__(self) -> int:
        return len(self.vectors)

    def concepts(self) -> Concepts:
        """What pixels are compared with."""
        if self.unit_dot:
            # Zero bias: with a bias, vectors are scaled to unit length before they are compared.
            bias = self.vectors.new_zeros(len(self))
            return Concepts(self.vectors, bias, name="centroids")
        if self.spherical:
            return Concepts(self.vectors, name="centroids")
        return Concepts.euclidean(self.vectors, name="centroids")

    def of_model(self, weights: str) -> Centroids:
        """The same centroids, with the digest of the model to whose embeddings they were fitted."""
        return replace(self, weights=weights)

    def may_be_of(self, weights: str) -> bool:
        """Whether they were fitted to embeddings of a model, or of one that is not known."""
        return known_digest(self.weights) in (None, weights)

    def require_model(self, weights: str, model: str) -> None:
        """Refuses embeddings of another model than they were fitted to, if that is known.

        Args:
            weights: Digest of the model whose embeddings they are to be compared with.
            model: Its name.

        Raises:
            UserError: It is another model.
        """
        if not self.may_be_of(weights):
            raise UserError(
                f"the concepts were fitted to embeddings of another model, and mean nothing in "
                f"{model}: give that model, or fit them again"
            )

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file; everything but the vectors goes to its metadata.

        Raises:
            UserError: The folder cannot be written or the disk is full.
        """
        meta = {
            "format": FORMAT,
            "spherical": json.dumps(self.spherical),
            "objective": json.dumps(self.objective),
            "seed": json.dumps(self.seed),
        }
        if self.unit_dot:
            meta["unit_dot"] = json.dumps(True)
        if self.weights is not None:
            meta["weights"] = json.dumps(self.weights)
        tensors = {"vectors": self.vectors}
        meta[CHECKSUM] = checksum(meta, tensors)
        write_safetensors(from_home(path), tensors, meta)

    @classmethod
    def load(cls, path: str | Path) -> Centroids:
        """Reads what `save` wrote; nothing is unpickled.

        Raises:
            UserError: The file is missing, damaged, or was not written by `save`.
        """
        path = from_home(path)
        if not path.is_file():
            near = near_path(path, "fit one with tools/eval_cluster.py")
            raise UserError(f"{path}: no such centroid file{near}")
        meta, tensors = read_safetensors(path)
        vectors = tensors.get("vectors") if meta.get("format") == FORMAT else None
        if vectors is None:
            raise UserError(f"{path}: not a centroid file of ViCE (format {FORMAT})")
        if is_damaged(meta, tensors):
            raise UserError(
                f"{path}: damaged, its checksum is not that of its content; fit it again"
            )
        whole = vectors.is_floating_point() and first_not_finite(tensors) is None
        if vectors.ndim != 2 or not len(vectors) or not whole:
            raise UserError(f"{path}: holds no (K, D) table of finite numbers; fit it again")
        return cls(vectors=vectors, **_read_meta(meta, path))


def _read_meta(meta: dict[str, str], path: str | Path) -> dict[str, Any]:
    kinds: dict[str, Any] = {"spherical": bool, "objective": list, "seed": int, "unit_dot": bool}
    kinds |= {"weights": str} if "weights" in meta else {}
    try:
        # Files of earlier versions do not say.
        said = {"unit_dot": "false", **meta}
        values = {name: json.loads(said[name]) for name in kinds}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its header is not whole ({error}); fit it again") from error
    for name, kind in kinds.items():
        if type(values[name]) is not kind:
            raise UserError(f"{path}: its {name} is {values[name]!r}; fit it again")
    return values
