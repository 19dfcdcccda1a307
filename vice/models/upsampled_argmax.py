"""The greatest of many bilinearly upsampled scores at each pixel, without upsampling all of them.

A pixel between four cells of the map has, of each channel, a weighted mean of four scores. Where a
channel's greatest of the four is below another's least, it cannot win at any pixel between them.
Few channels are left at most places, one at many; only theirs are upsampled. What is found so
differs from upsampling everything by rounding alone, and where the two greatest are so near that
rounding could matter, everything is upsampled: the result is the same to the last pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vice.models.upsampling import RowsBetween, argmax_all, bands

#: Most bytes of upsampled scores that exist at a time.
MOST_UPSAMPLED = 2**27
#: Most bytes of upsampled scores on a CPU, whose cache then holds them: the same, a third sooner.
_CACHED = 2**21
#: Rounding of one upsampled score, in units of the greatest score's last place: a product and sums
#: along each axis, here and there, of two scores. Half of it is what could come together.
_ROUNDING = 32
#: Least number of channels, and of pixels for one of the map, for which sorting out pays.
_LEAST_CHANNELS, _LEAST_PIXELS = 8, 3
#: Greatest share of channels that may be left over where what is left is upsampled.
_MOST_LEFT = 1 / 8


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
    scores: Tensor, rows: RowsBetween, width: int, max_bytes: int = MOST_UPSAMPLED
) -> Tensor:
    """Argmax over the channels of some rows of an upsampled map, in bounded memory.

    Args:
        scores: (B, K, h, w) float.
        rows: R of them, in ascending order.
        width: Of the upsampled map.
        max_bytes: As in `argmax_upsampled`.

    Returns:
        int64 (B, R, W).
    """
    if scores.device.type == "cpu":
        max_bytes = min(max_bytes, _CACHED)
    channels, height, columns = scores.shape[1:]
    pays = (
        scores.device.type == "cpu"
        and scores.dtype in (torch.float32, torch.float64)
        and channels >= _LEAST_CHANNELS
        and min(height, columns) > 1
        and len(rows) * width >= _LEAST_PIXELS * height * columns
    )
    if not pays:
        return argmax_all(scores, rows, width, max_bytes)
    return torch.cat([_argmax_sorted_out(one[None], rows, width, max_bytes) for one in scores])


def _argmax_sorted_out(scores: Tensor, rows: RowsBetween, width: int, max_bytes: int) -> Tensor:
    """`_argmax_all` of one image, (1, K, h, w), sorting channels out where that pays."""
    _, channels, height, columns = scores.shape
    least, greatest = (float(value) for value in torch.aminmax(scores))
    largest = max(abs(least), abs(greatest))
    kind = torch.finfo(scores.dtype)
    if not largest < kind.max / 16:
        return argmax_all(scores, rows, width, max_bytes)
    rounding = _ROUNDING * (kind.eps * largest + kind.tiny)
    columns_between = _columns_between(scores, width)
    if columns_between is None:
        return argmax_all(scores, rows, width, max_bytes)
    left, weights = columns_between
    labels = torch.empty(1, len(rows), width, dtype=torch.int64)
    row_bytes = channels * columns * scores.element_size()
    cells = rows.above.clamp(max=height - 2)
    for band in bands(height - 1, max_bytes // row_bytes):
        inside = _range(cells, band)
        if inside.start == inside.stop:
            continue
        part, between = scores[0, :, band.start : band.stop + 1], rows[inside]
        found = _between_cells(
            part, between.from_row(band.start), left, weights, rounding, 4 * largest + 1
        )
        if found is None:
            labels[:, inside] = argmax_all(scores, between, width, max_bytes)
            continue
        labels[0, inside], near = found
        again = near.nonzero()[:, 0]
        if len(again):
            labels[:, again + inside.start] = argmax_all(scores, between[again], width, max_bytes)
    return labels


def _range(cells: Tensor, band: slice) -> slice:
    """Where ascending numbers of cells are inside a band."""
    ends = torch.searchsorted(cells, torch.tensor([band.start, band.stop]))
    return slice(*ends.tolist())


def _columns_between(scores: Tensor, width: int) -> tuple[Tensor, Tensor] | None:
    """Columns left of each upsampled one, int64 (W,), and the weights of both sides, (W, 2).

    Weights are those that upsampling uses, to the bit: it is given ones in every third column.
    None where its kernels, one for each memory format, do not agree.
    """
    columns, index = scores.shape[3], torch.arange(width)
    third = torch.arange(columns) % 3
    probe = torch.stack([third == number for number in range(4)])[None, :, None].to(scores.dtype)
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


def _between_cells(
    scores: Tensor,
    rows: RowsBetween,
    left: Tensor,
    weights: Tensor,
    rounding: float,
    never: float,
) -> tuple[Tensor, Tensor] | None:
    """Argmax of some rows, and in which of them rounding could matter.

    Args:
        scores: (K, r + 1, w).
        rows: R of them, each between two of these.
        left: Column left of each pixel.
        weights: Of the columns left and right of it.
        rounding: Scores that differ by less could change places.
        never: Further below zero than any score.

    Returns:
        int64 (R, W) and bool (R,); None where too many channels are left over.
    """
    high, low = _extremes(scores)
    kept = high >= low.amax(0) - rounding
    number = kept.sum(0).flatten()
    total = int(number.sum())
    if total > _MOST_LEFT * kept.numel() + 2 * len(number):
        return None
    channel, cell = kept.flatten(1).nonzero().unbind(1)
    order = cell.argsort(stable=True)
    channel, starts = channel[order], number.cumsum(0) - number
    labels, across = channel[starts], scores.shape[2] - 1
    # The last row lies between the last two, with the whole weight on the lower.
    upper = rows.above.clamp(max=scores.shape[1] - 2)
    share = torch.where(rows.above == upper, rows.share[:, 0], 1)
    where = upper[:, None] * across + left
    found, near = labels[where], torch.zeros(where.shape[0], dtype=torch.bool)
    most, many = int(number.max()), number[where]
    least = 1
    while least < most:
        few = ((many > least) & (many <= 2 * least)).nonzero()
        at_once = max(1, _CACHED // (8 * least * scores.element_size()))
        for pixels in few.split(at_once) if len(few) else ():
            best, close = _best_of_few(
                scores, (channel, starts, number), where, pixels, share, weights, never, 2 * least
            )
            y, x = pixels.unbind(1)
            found[y, x] = best
            near[y[close <= rounding]] = True
        least *= 2
    return found, near


def _extremes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Greatest and least of the four corners of each cell, (K, r, w - 1) of (K, r + 1, w)."""
    one, other = scores[:, :, :-1], scores[:, :, 1:]
    high, low = torch.maximum(one, other), torch.minimum(one, other)
    return torch.maximum(high[:, :-1], high[:, 1:]), torch.minimum(low[:, :-1], low[:, 1:])


def _best_of_few(
    scores: Tensor,
    left_over: tuple[Tensor, Tensor, Tensor],
    where: Tensor,
    pixels: Tensor,
    share: Tensor,
    weights: Tensor,
    never: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    """The best channel of pixels with few of them, and by how much it is the best.

    Args:
        scores: (K, r + 1, w).
        left_over: Channels of all cells one after another; where those of each begin; how many.
        where: int64 (R, W), cell of each pixel.
        pixels: int64 (P, 2), row and column of each.
        share: (R,), of the row below.
        weights: (W, 2).
        never: As in `_between_cells`.
        most: Most channels of these pixels' cells.

    Returns:
        int64 (P,) and (P,).
    """
    channel, starts, number = left_over
    y, x = pixels.unbind(1)
    cells, of_pixel = where[y, x].unique(return_inverse=True)
    offsets = torch.arange(most)
    exists = offsets < number[cells, None]
    candidates = channel[(starts[cells, None] + offsets).clamp(max=len(channel) - 1)]
    columns = scores.shape[2]
    corner = (cells // (columns - 1)) * columns + cells % (columns - 1)
    flat = candidates * (scores.shape[1] * columns) + corner[:, None]
    beside = torch.tensor([0, 1, columns, columns + 1])
    values = scores.reshape(-1)[flat[:, :, None] + beside]
    values = values.masked_fill(~exists[:, :, None], -never)
    below, (first, second) = share[y], weights[x].unbind(1)
    above = 1 - below
    factors = torch.stack([above * first, above * second, below * first, below * second], 1)
    scored = torch.bmm(values[of_pixel], factors[:, :, None])[:, :, 0]
    best, index = scored.max(1)
    rest = scored.scatter(1, index[:, None], -never).amax(1)
    return candidates[of_pixel, index], best - rest
