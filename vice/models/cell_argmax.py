"""The greatest of the upsampled scores between the cells of a map.

Where few channels can be it they are sorted out; where many can, all are compared. See
`vice.models.upsampled_argmax`. A cell here is what lies between four neighbors of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vice.models.cell_slots import Slots
from vice.models.cell_winners import winners
from vice.models.upsampling import RowsBetween, bands

#: How far apart rounding can move two upsampled scores, here and where all is upsampled, in units
#: in the last place of the greatest score. Half a unit is lost at each step: there at most four (a
#: product and a sum along either axis), here five (a product of weights, of a score, three sums),
#: of both scores; that makes nine units, and weights that do not add up to one, two.
_ROUNDING = 12
#: The same where here float64 takes the place of float32: four units.
_ROUNDING_DOUBLE = 5
#: Greatest share of channels that may be left over where what is left is upsampled.
_MOST_LEFT = 1 / 4
#: Most bytes of upsampled scores that exist at a time.
_CACHED = 2**21


def argmax_of_cells(
    scores: Tensor, rows: RowsBetween, across: tuple[Tensor, Tensor], largest: float
) -> tuple[Tensor, Tensor]:
    """Argmax over the channels of some upsampled rows, and in which of them rounding could matter.

    Args:
        scores: (K, r + 1, w), contiguous.
        rows: R of them, each between two of these.
        across: What `vice.models.upsampling.columns_between` gives.
        largest: Greatest size of a score.

    Returns:
        int64 (R, W) and bool (R,).
    """
    height, columns = scores.shape[1:]
    left_over = _left_over(scores, largest)
    # The last row lies between the last two, with the whole weight on the lower.
    upper = rows.above.clamp(max=height - 2)
    below = torch.where(rows.above == upper, rows.share[:, 0], 1)
    down = Slots.of(upper, torch.stack([1 - below, below], 1), height - 1)
    right = Slots.of(across[0], across[1], columns)
    places = down.weights.shape[1] * right.weights.shape[1]
    if left_over is None:
        margin = float(rounding_of(scores, largest))
        winner, tied = winners(scores, down, right, margin)
        best, near = torch.from_numpy(winner).long(), torch.from_numpy(tied)
    else:
        best, near = _best_of_cells(scores, left_over, (down, right), largest)
    of_row = down.cell * (columns * places) + down.slot * right.weights.shape[1]
    where = of_row[:, None] + (right.cell * places + right.slot)
    found, close = best.flatten()[where], near.flatten()[where].nonzero()
    again = torch.zeros(len(upper), dtype=torch.bool)
    if left_over is None:
        again[close[:, 0]] = True
    elif len(close):
        y, x = close.unbind(1)
        cells = upper[y] * columns + across[0][x]
        weights = torch.stack([1 - below, below], 1)[y], across[1][x]
        label, open_ = _best_in_double(scores, left_over, cells, weights)
        found[y, x] = label
        again[y[open_]] = True
    return found, again


@dataclass(frozen=True)
class _LeftOver:
    """Channels that can win in each of the r * w cells; the last column of these has none.

    Attributes:
        channel: int64 (n,), those of all cells one after another.
        starts: int64 (cells,), where those of each begin.
        number: int64 (cells,), how many each has.
    """

    channel: Tensor
    starts: Tensor
    number: Tensor

    def of(self, cells: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Channels of some cells, (cells, most), and which of these there are."""
        offsets = torch.arange(most)
        index = (self.starts[cells, None] + offsets).clamp(max=len(self.channel) - 1)
        return self.channel[index], offsets < self.number[cells, None]


def _left_over(scores: Tensor, largest: float) -> _LeftOver | None:
    """None where they are too many."""
    channels, height, columns = scores.shape
    cells, channel, total = [], [], 0
    for band in bands(height - 1, _CACHED // (channels * columns * scores.element_size())):
        part = scores[:, band.start : band.stop + 1]
        kept = _can_win(part.contiguous(), largest).t().contiguous().nonzero()
        total += len(kept)
        if total > _MOST_LEFT * channels * columns * band.stop:
            return None
        cells.append(kept[:, 0] + band.start * columns)
        channel.append(kept[:, 1])
    number = torch.bincount(torch.cat(cells), minlength=(height - 1) * columns)
    return _LeftOver(torch.cat(channel), number.cumsum(0) - number, number)


def _can_win(scores: Tensor, largest: float) -> Tensor:
    """Whether each channel can win somewhere in each cell but the last: (K, r * w - 1)."""
    _, height, columns = scores.shape
    # All cells in one piece, which is faster; what lies between the ends of rows is left out.
    corners = scores.flatten(1)
    cells = (height - 1) * columns - 1
    leader = corners[:, :cells].max(0).indices[None]
    margin = rounding_of(scores, largest)
    kept = torch.zeros(len(scores), cells, dtype=torch.bool)
    for corner in (0, 1, columns, columns + 1):
        values = corners[:, corner : corner + cells]
        # Beaten at all four corners, a channel is beaten everywhere between them.
        kept |= values >= values.gather(0, leader) - margin
    kept[:, columns - 1 :: columns] = False
    return kept


def rounding_of(scores: Tensor, largest: Any, units: int = _ROUNDING) -> Any:
    """How far apart rounding can move two upsampled scores, see ``_ROUNDING``."""
    kind = torch.finfo(scores.dtype)
    return units * (kind.eps * largest + kind.tiny)


def _best_of_cells(
    scores: Tensor, left_over: _LeftOver, slots: tuple[Slots, Slots], largest: float
) -> tuple[Tensor, Tensor]:
    """The best channel at each place of each cell, and where another is as good but for rounding.

    Returns:
        int64 (cells, places) and bool (cells, places).
    """
    down, right = slots
    columns = scores.shape[2]
    places = down.weights.shape[1] * right.weights.shape[1]
    number = left_over.number
    best = torch.zeros(len(number), places, dtype=torch.int64)
    near = torch.zeros(len(number), places, dtype=torch.bool)
    alone = number == 1
    best[alone] = left_over.channel[left_over.starts[alone], None]
    rounding, most, greatest = rounding_of(scores, largest), 2, int(number.max())
    while most < 2 * greatest:
        few = ((number > most // 2) & (number <= most)).nonzero()[:, 0]
        at_once = max(1, _CACHED // (most * places * scores.element_size()))
        for cells in few.split(at_once) if len(few) else ():
            channel, exists = left_over.of(cells, most)
            corners = _corners(scores, channel, cells).masked_fill(
                ~exists[:, :, None], -4 * largest
            )
            weights = _products(down.weights[cells // columns], right.weights[cells % columns])
            values = torch.bmm(corners, weights)
            close = (values >= values.amax(1, keepdim=True) - rounding).to(scores.dtype)
            # Where one alone is close, its number is the sum of the numbers of those that are.
            numbers = torch.stack([channel.to(scores.dtype), exists.to(scores.dtype)], 1)
            sums = torch.bmm(numbers, close)
            best[cells], near[cells] = sums[:, 0].long(), sums[:, 1] != 1
        most *= 2
    return best, near


def _corners(scores: Tensor, channel: Tensor, cells: Tensor) -> Tensor:
    """Scores of channels (N, n) at the corners of their cells, (N, n, 4)."""
    columns = scores.shape[2]
    first = channel * (scores.shape[1] * columns) + cells[:, None]
    beside = torch.tensor([0, 1, columns, columns + 1])
    return scores.flatten()[first[:, :, None] + beside]


def _products(down: Tensor, right: Tensor) -> Tensor:
    """Weights of the corners at each place, (N, 4, R * C), of those along both axes."""
    both = down.permute(0, 2, 1)[:, :, None, :, None] * right.permute(0, 2, 1)[:, None, :, None, :]
    return both.reshape(len(down), 4, -1)


def _best_in_double(
    scores: Tensor, left_over: _LeftOver, cells: Tensor, weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The best channel at some pixels, and whether another is as good but for rounding there.

    Args:
        scores: (K, r + 1, w).
        left_over: Channels of all cells.
        cells: int64 (P,), of each pixel.
        weights: (P, 2) each, of the rows and of the columns.

    Returns:
        int64 (P,) and bool (P,).
    """
    best, near = [], []
    most = int(left_over.number[cells].max())
    for part in torch.arange(len(cells)).split(max(1, _CACHED // (64 * most))):
        channel, exists = left_over.of(cells[part], most)
        corners = _corners(scores, channel, cells[part]).double()
        down, right = (each[part, None].double() for each in weights)
        values = (corners * _products(down, right)[:, :, 0][:, None]).sum(2)
        values = values.masked_fill(~exists, -torch.inf)
        top, index = values.max(1)
        largest = corners.abs().masked_fill(~exists[:, :, None], 0).amax((1, 2))
        units = _ROUNDING_DOUBLE if scores.dtype == torch.float32 else _ROUNDING
        margin = rounding_of(scores, largest, units)
        best.append(channel.gather(1, index[:, None])[:, 0])
        near.append((values >= (top - margin)[:, None]).sum(1) > 1)
    return torch.cat(best), torch.cat(near)
