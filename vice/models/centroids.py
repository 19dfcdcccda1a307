"""Centroids of clusters: on disk, and as a 1x1 convolution."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.names import utf8_path
from vice.runtime.files import replace_atomically
from vice.runtime.provenance import digest_tensors

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
    """

    vectors: Tensor
    spherical: bool
    objective: list[float] = field(default_factory=list)
    seed: int = 0
    vectors_fitted: int | None = None
    distinct: int | None = None
    occupied: int | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def filters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the 1x1 convolution whose argmax is the nearest centroid.

        Returns:
            Weight (K, D, 1, 1) and bias (K,): the centroids themselves and no bias when
            spherical, else ``2 c`` and ``-|c|^2``.
        """
        weight = self.vectors[:, :, None, None]
        if self.spherical:
            return weight, None
        return 2 * weight, -self.vectors.square().sum(1)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Closeness of each embedding to each centroid; the greatest is the nearest.

        The scores are linear in the embedding (Euclidean: affine), so they can be computed at the
        stride of the model and upsampled bilinearly, which equals upsampling the embedding first.
        Spherical: the length of an embedding scales its scores and never changes the argmax.

        Args:
            embeddings: (B, D, h, w).

        Returns:
            (B, K, h, w), same dtype and device.

        Raises:
            UserError: The embedding is not as wide as the centroids.
        """
        if embeddings.shape[1] != self.vectors.shape[1]:
            raise UserError(
                f"the embedding has {embeddings.shape[1]} dimensions but the centroids have "
                f"{self.vectors.shape[1]}: they belong to another model"
            )
        weight, bias = (None if t is None else t.to(embeddings) for t in self.filters())
        return F.conv2d(embeddings, weight, bias)

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file; everything but the vectors goes to its metadata.

        Raises:
            UserError: The folder cannot be written or the disk is full.
        """
        from safetensors.torch import save

        meta = {
            "format": FORMAT,
            "spherical": json.dumps(self.spherical),
            "objective": json.dumps(self.objective),
            "seed": json.dumps(self.seed),
        }
        tensors = {"vectors": self.vectors.contiguous()}
        meta["sha256"] = _checksum(meta, tensors)
        data = save(tensors, metadata=meta)
        replace_atomically(Path(path), lambda new: Path(new).write_bytes(data))

    @classmethod
    def load(cls, path: str | Path) -> Centroids:
        """Reads what `save` wrote; nothing is unpickled.

        Raises:
            UserError: The file is missing, damaged, or was not written by `save`.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise UserError(f"{path}: no such centroid file; fit one with tools/eval_cluster.py")
        try:
            with utf8_path(path) as name, safe_open(name, framework="pt") as file:
                meta = file.metadata() or {}
                vectors = file.get_tensor("vectors") if meta.get("format") == FORMAT else None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read as centroids ({error})") from error
        if vectors is None:
            raise UserError(f"{path}: not a centroid file of ViCE (format {FORMAT})")
        # Files of earlier versions have no checksum.
        expected = _checksum(meta, {"vectors": vectors})
        if meta.get("sha256", expected) != expected:
            raise UserError(
                f"{path}: damaged, its checksum is not that of its content; fit it again"
            )
        if vectors.ndim != 2 or not len(vectors) or not _are_finite(vectors):
            raise UserError(f"{path}: holds no (K, D) table of finite numbers; fit it again")
        return cls(vectors=vectors, **_read_meta(meta, path))


def _checksum(meta: dict[str, str], tensors: dict[str, Tensor]) -> str:
    text = json.dumps({name: meta[name] for name in sorted(meta) if name != "sha256"})
    return digest_tensors(tensors, text)


def _are_finite(vectors: Tensor) -> bool:
    return vectors.is_floating_point() and bool(vectors.isfinite().all())


def _read_meta(meta: dict[str, str], path: str | Path) -> dict[str, Any]:
    kinds = {"spherical": bool, "objective": list, "seed": int}
    try:
        values = {name: json.loads(meta[name]) for name in kinds}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its header is not whole ({error}); fit it again") from error
    for name, kind in kinds.items():
        if type(values[name]) is not kind:
            raise UserError(f"{path}: its {name} is {values[name]!r}; fit it again")
    return values


def argmax_upsampled(scores: Tensor, size: tuple[int, int], *, max_bytes: int = 2**27) -> Tensor:
    """Argmax over the channels of a bilinearly upsampled score map, in bounded memory.

    Equals ``F.interpolate(scores, size, mode="bilinear").argmax(1)``, done in bands of rows: the
    upsampled scores of 256 clusters on a 1024x2048 image would take 2 GiB at once.

    Args:
        scores: (B, K, h, w) float.
        size: (H, W) of the result.
        max_bytes: Most bytes of upsampled scores that exist at a time (at least one row does).

    Returns:
        int64 (B, H, W).
    """
    height, width = size
    if tuple(scores.shape[2:]) == size:
        return scores.argmax(1)
    row_bytes = scores.shape[0] * scores.shape[1] * width * scores.element_size()
    band = max(1, min(height, max_bytes // row_bytes))
    labels = torch.empty(scores.shape[0], height, width, dtype=torch.int64, device=scores.device)
    for top in range(0, height, band):
        rows = torch.arange(top, min(top + band, height), device=scores.device)
        stretched = _upsample_rows(scores, rows, height)
        labels[:, rows] = F.interpolate(
            stretched, (len(rows), width), mode="bilinear", align_corners=False
        ).argmax(1)
    return labels


def _upsample_rows(scores: Tensor, rows: Tensor, height: int) -> Tensor:
    """Rows of the vertically upsampled map: (B, K, h, w) -> (B, K, len(rows), w)."""
    last = scores.shape[2] - 1
    place = ((rows.to(scores.dtype) + 0.5) * (scores.shape[2] / height) - 0.5).clamp(min=0)
    above = place.floor().long().clamp(max=last)
    below = (above + 1).clamp(max=last)
    share = (place - above)[:, None]
    return scores[:, :, above] * (1 - share) + scores[:, :, below] * share
