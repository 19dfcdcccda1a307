"""The greatest of many bilinearly upsampled scores at each pixel, without upsampling all of them.

A pixel between four cells of the map has, of each channel, a weighted mean of four scores. A
channel that another one beats at all four cannot win at any pixel between them. Few channels are
left, one at many places, and only theirs are upsampled; where many are left, all places between
two rows are one product of matrices. What is found so differs from upsampling everything by
rounding alone, and where the two greatest are so near that rounding could matter, everything is
upsampled: the result is the same to the last pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vice.models.cell_argmax import argmax_of_cells
from vice.models.upsampling import (
    ColumnsBetween,
    RowsBetween,
    argmax_all,
    bands,
    columns_between,
)

#: Most bytes of upsampled scores that exist at a time.
MOST_UPSAMPLED = 2**27
#: Most bytes of upsampled scores on a CPU, whose cache then holds them: the same, a third sooner.
_CACHED = 2**21
#: Most bytes of scores of a band of cells.
_BAND = 2**25
#: Least number of channels, and of pixels for one of the map, for which sorting out pays.
_LEAST_CHANNELS, _LEAST_PIXELS = 8, 3


def argmax_upsampled(
    scores: Tensor, size: tuple[int, int], *, max_bytes: int = MOST_UPSAMPLED
) -> Tensor:
    """Argmax over the channels of a bilinearly upsampled score map, in bounded memory.

    Equals ``F.interpolate(scores, size, mode="bilinear").argmax(1)``: the upsampled scores of 256
    clusters on a 1024x2048 image would take 2 GiB at once.

    Args:
        scores: (B, K, h, w) float.
        size: (H, W) of the result.
        max_bytes: Most bytes of upsampled scores that exist at a time (at least one row does).

    Returns:
        int64 (B, H, W).
    """
    if tuple(scores.shape[2:]) == tuple(size):
        return scores.argmax(1)
    rows = torch.arange(size[0], device=scores.device)
    return argmax_rows(scores, RowsBetween.of(rows, scores, size[0]), size[1], max_bytes)


def argmax_rows(
    scores: Tensor,
    rows: RowsBetween,
    width: int | ColumnsBetween,
    max_bytes: int = MOST_UPSAMPLED,
) -> Tensor:
    """Argmax over the channels of some rows of an upsampled map, in bounded memory.

    Args:
        scores: (B, K, h, w) float.
        rows: R of them, in ascending order.
        width: Of the upsampled map, or some columns of it in ascending order.
        max_bytes: As in `argmax_upsampled`.

    Returns:
        int64 (B, R, W).
    """
    if scores.device.type == "cpu":
        max_bytes = min(max_bytes, _CACHED)
    channels, height, columns = scores.shape[1:]
    wide = width if isinstance(width, int) else len(width)
    pays = (
        scores.device.type == "cpu"
        and scores.dtype in (torch.float32, torch.float64)
        and channels >= _LEAST_CHANNELS
        and min(height, columns) > 1
        and len(rows) * wide >= _LEAST_PIXELS * height * columns
    )
    if not pays:
        return argmax_all(scores, rows, width, max_bytes)
    return torch.cat([_argmax_sorted_out(one[None], rows, width, max_bytes) for one in scores])


def _argmax_sorted_out(
    scores: Tensor, rows: RowsBetween, width: int | ColumnsBetween, max_bytes: int
) -> Tensor:
    """`argmax_all` of one image, (1, K, h, w), sorting channels out where that pays."""
    channels, height, columns = scores.shape[1:]
    if isinstance(width, int):
        wide, across = width, columns_between(scores, width)
    else:
        wide, across = len(width), (width.left, width.weights)
    largest = float(torch.stack(torch.aminmax(scores)).abs().max())
    if across is None or not largest < torch.finfo(scores.dtype).max / 16:
        return argmax_all(scores, rows, width, max_bytes)
    labels = torch.empty(1, len(rows), wide, dtype=torch.int64)
    cells = rows.above.clamp(max=height - 2)
    for band in bands(height - 1, _BAND // (channels * columns * scores.element_size())):
        inside = _range(cells, band)
        if inside.start == inside.stop:
            continue
        between = rows[inside]
        part = scores[0, :, band.start : band.stop + 1].contiguous()
        labels[0, inside], near = argmax_of_cells(
            part, between.from_row(band.start), across, largest
        )
        again = near.nonzero()[:, 0]
        if len(again):
            labels[:, again + inside.start] = argmax_all(scores, between[again], width, max_bytes)
    return labels


def _range(cells: Tensor, band: slice) -> slice:
    """Where ascending numbers of cells are inside a band."""
    ends = torch.searchsorted(cells, torch.tensor([band.start, band.stop]))
    return slice(*ends.tolist())
