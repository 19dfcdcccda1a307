"""Rows of bilinearly upsampled score maps, a band at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


class RowsBetween:
    """Rows of an upsampled map: each lies between two of the map it is made of.

    Args:
        above: int64 (R,), the row above each.
        below: int64 (R,), the row below each.
        share: (R, 1), of the row below.
    """

    def __init__(self, above: Tensor, below: Tensor, share: Tensor) -> None:
        self.above, self.below, self.share = above, below, share

    @classmethod
    def of(
        cls, rows: Tensor, scores: Tensor, height: int, source: int | None = None
    ) -> RowsBetween:
        """Rows of a map upsampled to a height.

        Args:
            rows: int64 (R,), their numbers.
            scores: What is upsampled, for its dtype, and its height where that is not given.
            height: Of the upsampled map.
            source: Height of the map that is upsampled.
        """
        source = source or scores.shape[2]
        position = ((rows.to(scores.dtype) + 0.5) * (source / height) - 0.5).clamp(min=0)
        above = position.floor().long().clamp(max=source - 1)
        below = (above + 1).clamp(max=source - 1)
        return cls(above, below, (position - above)[:, None])

    def __len__(self) -> int:
        return len(self.above)

    def __getitem__(self, rows: slice | Tensor) -> RowsBetween:
        return RowsBetween(self.above[rows], self.below[rows], self.share[rows])

    def from_row(self, first: int) -> RowsBetween:
        """The same rows of a map without the first so many."""
        return RowsBetween(self.above - first, self.below - first, self.share)


class ColumnsBetween:
    """Columns of an upsampled map: each lies between two of the map it is made of.

    Args:
        left: int64 (W,), the column left of each; the other one is its neighbor.
        weights: (W, 2), of both.
    """

    def __init__(self, left: Tensor, weights: Tensor) -> None:
        self.left, self.weights = left, weights

    @classmethod
    def of(cls, columns: int, width: int, like: Tensor) -> ColumnsBetween:
        """All columns of a map of two columns at least, upsampled to a width.

        Args:
            columns: Of the map.
            width: Of the upsampled one.
            like: Scores, for their dtype and device.
        """
        exact = _columns_between(columns, width, like) if like.device.type == "cpu" else None
        if exact is not None:
            return cls(*exact)
        index = torch.arange(width, device=like.device)
        between = RowsBetween.of(index, like, width, columns)
        left = between.above.clamp(max=columns - 2)
        share = torch.where(between.above == left, between.share[:, 0], 1)
        return cls(left, torch.stack([1 - share, share], 1))

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, columns: slice) -> ColumnsBetween:
        return ColumnsBetween(self.left[columns], self.weights[columns])

    def from_column(self, first: int) -> ColumnsBetween:
        """The same columns of a map without the first so many."""
        return ColumnsBetween(self.left - first, self.weights)


def argmax_all(
    scores: Tensor, rows: RowsBetween, width: int | ColumnsBetween, max_bytes: int
) -> Tensor:
    """Argmax over the channels of some rows of an upsampled map, in bands of rows.

    Args:
        scores: (B, K, h, w) float.
        rows: R of them.
        width: Of the upsampled map, or some columns of it.
        max_bytes: Most bytes of upsampled scores that exist at a time (at least one row does).

    Returns:
        int64 (B, R, W).
    """
    wide = width if isinstance(width, int) else len(width)
    labels = torch.empty(scores.shape[0], len(rows), wide, dtype=torch.int64, device=scores.device)
    row_bytes = scores.shape[0] * scores.shape[1] * wide * scores.element_size()
    for band in bands(len(rows), max_bytes // row_bytes):
        labels[:, band] = upsample_rows(scores, rows[band], width).argmax(1)
    return labels


def bands(height: int, most: int) -> Iterator[slice]:
    """Numbers of rows, at most so many at a time but one at least."""
    band = max(1, min(height, most))
    for top in range(0, height, band):
        yield slice(top, min(top + band, height))


def upsample_rows(scores: Tensor, rows: RowsBetween, width: int | ColumnsBetween) -> Tensor:
    """Some rows of an upsampled map.

    Args:
        scores: (B, K, h, w) float.
        rows: R of them.
        width: Of the upsampled map, or some columns of it.

    Returns:
        (B, K, R, W).
    """
    share = rows.share
    between = scores[:, :, rows.above] * (1 - share) + scores[:, :, rows.below] * share
    if isinstance(width, int):
        return F.interpolate(between, (len(rows), width), mode="bilinear", align_corners=False)
    left, right = between[..., width.left], between[..., width.left + 1]
    return left.mul_(width.weights[:, 0]).addcmul_(right, width.weights[:, 1])


def columns_between(scores: Tensor, width: int) -> tuple[Tensor, Tensor] | None:
    """Columns left of each upsampled one, int64 (W,), and the weights of both sides, (W, 2).

    Weights are those that upsampling uses, to the bit: it is given ones in every third column.
    None where its kernels, one for each memory format, do not agree.
    """
    return _columns_between(scores.shape[3], width, scores)


def _columns_between(columns: int, width: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
    index = torch.arange(width)
    third = torch.arange(columns) % 3
    probe = torch.stack([third == number for number in range(4)])[None, :, None].to(like.dtype)
    found, other = (
        F.interpolate(each, (1, width), mode="bilinear", align_corners=False)[0, :3, 0]
        for each in (probe, probe.contiguous(memory_format=torch.channels_last))
    )
    if not torch.equal(found, other):
        return None
    position = (index.double() + 0.5) * (columns / width) - 0.5
    nearest = position.floor().long().clamp(0, columns - 2)
    left = nearest.clone()
    # Rounding: upsampling may lie on the other side of a column. The third of the columns that has
    # no weight tells.
    for step in (-1, 1):
        beside = (nearest + step).clamp(0, columns - 2)
        astray = (found[(left + 2) % 3, index] != 0) & (found[(beside + 2) % 3, index] == 0)
        left = torch.where(astray, beside, left)
    if (found[(left + 2) % 3, index] != 0).any():
        return None
    return left, torch.stack([found[left % 3, index], found[(left + 1) % 3, index]], 1)
