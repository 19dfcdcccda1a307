"""How often the nearest concept of a pixel met each class, without the map of all pixels.

The scores of K concepts are upsampled bilinearly, and the greatest at a pixel counts with the
pixel's class, as in `vice.models.upsampled_argmax`. Where one concept is the greatest at all four
corners of a cell it is so at every pixel between them, and the classes of all of them are added at
once. Elsewhere a concept can only win if it comes up to one of the leaders at one corner. Where few
do, theirs alone are upsampled; of concepts that lie close together many do, and all are
(`vice.models.cell_winners`). What rounding could decide is decided as there, so that counts are
the same to the last pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vice.models.cell_argmax import rounding_of
from vice.models.cell_grid import CellLabels, Grid, grid_of
from vice.models.cell_winners import winners
from vice.models.upsampling import argmax_all

#: Least number of pixels for one of the map, and of columns of the image. Of narrower ones PyTorch
#: upsamples few rows by another kernel than many, and rounding might not be the same.
_LEAST_PIXELS, _LEAST_COLUMNS = 3, 128
#: Greatest share of all scores that may come up to a leader where candidates are sorted out, and
#: number that always may.
_MOST_CANDIDATES, _FEW = 1 / 40, 2**15
#: Most bytes of upsampled scores that exist at a time where rounding could decide.
_CACHED = 2**21


def count_nearest(maps: Sequence[Tensor], labels: Tensor, classes: int) -> list[Tensor] | None:
    """Counts the concept of greatest upsampled score at each pixel, by the pixel's class.

    Args:
        maps: Scores of one image by several sets of concepts, each (K, h, w).
        labels: Integer (H, W), in 0..C-1, or 255 for "ignore".
        classes: Number of classes C.

    Returns:
        For each set int64 (K, C), what a `vice.scoring.CountTable` counts of `argmax_upsampled`.
        None where that would not be quicker, or may not be the same, or would not count at all:
        off the CPU, small images, numbers too large or not finite, labels that are no class.
    """
    size, map_size = _two(labels), _two(maps[0])
    height, width = map_size
    pays = (
        all(scores.device.type == "cpu" and scores.dtype == torch.float32 for scores in maps)
        and labels.device.type == "cpu"
        and min(height, width) > 1
        and size[1] >= _LEAST_COLUMNS
        and size[0] * size[1] >= _LEAST_PIXELS * height * width
    )
    grid = grid_of(map_size, size, torch.float32) if pays else None
    known = None if grid is None else CellLabels.of(labels, classes, grid)
    if grid is None or known is None:
        return None
    sets = []
    for scores in maps:
        found = _Candidates.of(scores, known.labelled, grid)
        if found is None:
            return None
        sets.append(found)
    few = [each for each in sets if isinstance(each, _Candidates)]
    of_few = iter(_count(few, known, grid, classes + 1) if few else ())
    return [
        (each.count(known, grid, classes + 1) if isinstance(each, _Crowd) else next(of_few))[:, :-1]
        for each in sets
    ]


def _two(values: Tensor) -> tuple[int, int]:
    return int(values.shape[-2]), int(values.shape[-1])


@dataclass(frozen=True)
class _Candidates:
    """Who can win in each cell with a label that counts.

    Attributes:
        scores: (K, h, w).
        margin: How far apart rounding can move two upsampled scores.
        closed: int64 (M,), cells in which one concept wins.
        leaders: int64 (M,), which.
        cell: int64 (T,), cell of each candidate in the others, ascending.
        channel: int64 (T,), which concept it is, ascending within its cell.
    """

    scores: Tensor
    margin: float
    closed: Tensor
    leaders: Tensor
    cell: np.ndarray
    channel: np.ndarray

    @classmethod
    def of(cls, scores: Tensor, labelled: np.ndarray, grid: Grid) -> _Candidates | _Crowd | None:
        """A crowd where there are many; None where numbers are too large."""
        flat = scores.flatten(1)
        best = flat.amax(0)
        largest = max(float(best.max()), -float(flat.amin()))
        # NaN: comes through both, and is not below anything.
        if not largest < torch.finfo(scores.dtype).max / 16:
            return None
        margin = float(rounding_of(scores, largest))
        leader, agree = _leaders(flat, best - margin, grid)
        inner = len(agree)
        closed = np.flatnonzero(agree & labelled[:inner])
        open_cells = np.flatnonzero(~agree & labelled[:inner])
        bounds = _bounds(flat.numpy(), leader, open_cells, grid) - np.float32(margin)
        found = _candidates(flat, open_cells, bounds, grid)
        if found is None:
            return _Crowd(scores, margin)
        return cls(
            scores,
            margin,
            torch.from_numpy(closed),
            torch.from_numpy(leader[closed]),
            *found,
        )

    def corners(self, grid: Grid) -> np.ndarray:
        """Scores of the candidates at the corners of their cells, (T, 4)."""
        flat = self.scores.flatten(1).numpy()
        found: np.ndarray = flat[self.channel[:, None], self.cell[:, None] + grid.corners]
        return found


@dataclass(frozen=True)
class _Crowd:
    """Concepts of which many can win in many cells.

    Attributes:
        scores: (K, h, w).
        margin: How far apart rounding can move two upsampled scores.
    """

    scores: Tensor
    margin: float

    def count(self, labels: CellLabels, grid: Grid, columns: int) -> Tensor:
        """Counts in all cells with a label that counts, (K, C + 1)."""
        best, near = winners(self.scores, grid.down, grid.right, self.margin)
        cells = np.flatnonzero(labels.labelled)
        found = _Pixels.of(best[cells], near[cells], cells, labels, grid)
        again = np.flatnonzero(found.doubtful)
        if len(again):
            pixel = found.pixel[again]
            found.winner[again] = _decide(self.scores, self._rivals(pixel, grid), pixel, grid)
        return found.count(len(self.scores), columns)

    def _rivals(self, pixels: np.ndarray, grid: Grid) -> np.ndarray:
        """Concepts that are the best, but for rounding, at one of the pixels, ascending."""
        y, x = (torch.from_numpy(each) for each in np.divmod(pixels, len(grid.right.cell)))
        cell = grid.cell[torch.from_numpy(pixels)]
        down = grid.down.weights[grid.down.cell[y], grid.down.slot[y]]
        right = grid.right.weights[grid.right.cell[x], grid.right.slot[x]]
        weights = (down[:, :, None] * right[:, None, :]).flatten(1)
        flat, corners = self.scores.flatten(1), torch.from_numpy(grid.corners)
        found = torch.zeros(len(flat), dtype=torch.bool)
        for part in torch.arange(len(pixels)).split(max(1, _CACHED // (16 * len(flat)))):
            values = (flat[:, cell[part, None] + corners] * weights[part]).sum(2)
            found |= (values >= values.amax(0) - self.margin).any(1)
            if found.all():
                break
        return np.flatnonzero(found.numpy())


def _leaders(flat: Tensor, least: Tensor, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The greatest channel at each corner, and whether it is that of all four of a cell.

    Args:
        flat: (K, h * w).
        least: (h * w,), what the greatest is above by the margin; another one may be, too.
        grid: The cells.

    Returns:
        int64 (h * w,), one of those above; and bool (h * w - w - 1,), False where another is.
    """
    count = flat.shape[1]
    where = np.flatnonzero((flat >= least).numpy())
    channel, corner = np.divmod(where, count)
    leader = np.zeros(count, np.int64)
    leader[corner] = channel
    alone = leader
    if len(where) > count:
        several = np.bincount(corner, minlength=count) > 1
        alone = np.where(several, -1 - np.arange(count), leader)
    inner = count - int(grid.corners[-1])
    first = alone[:inner]
    agree = np.ones(inner, bool)
    for offset in grid.corners[1:]:
        agree &= first == alone[offset : offset + inner]
    return leader, agree


def _bounds(flat: np.ndarray, leader: np.ndarray, cells: np.ndarray, grid: Grid) -> np.ndarray:
    """Scores of a good leader of some cells at their corners, float32 (N, 4).

    Whoever is below it at all four is below it everywhere between them.
    """
    corners = cells[:, None] + grid.corners
    leaders = leader[corners]
    scores = flat[leaders[:, :, None], corners[:, None, :]]
    best: np.ndarray = scores[np.arange(len(cells)), scores.min(2).argmax(1)]
    return best


def _candidates(
    flat: Tensor, cells: np.ndarray, bounds: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cell and channel of all that come up to a bound at a corner of one of the cells.

    Args:
        flat: (K, h * w).
        cells: int64 (N,), ascending.
        bounds: float32 (N, 4), of each at its corners.
        grid: The cells.

    Returns:
        Cell and channel, int64 (T,); None where there are many.
    """
    channels, count = flat.shape
    of_cell = np.full((4, count), np.inf, np.float32)
    of_cell[:, cells] = bounds.T
    of_corner = of_cell[0].copy()
    for offset, bound in zip(grid.corners[1:], of_cell[1:], strict=True):
        np.minimum(of_corner[offset:], bound[:-offset], out=of_corner[offset:])
    where = np.flatnonzero((flat >= torch.from_numpy(of_corner)).numpy())
    if len(where) > max(_FEW, _MOST_CANDIDATES * flat.numel()):
        return None
    channel, corner = np.divmod(where, count)
    beside = corner[:, None] - grid.corners
    # A corner without a cell there: the last cell of a row is none, and has no bound.
    beside = np.where(beside < 0, count - 1, beside)
    up = flat.numpy().ravel()[where][:, None] >= of_cell[np.arange(4), beside]
    key = np.sort((beside * channels + channel[:, None])[up])
    key = key[np.diff(key, prepend=-1) > 0]
    cell, channel = np.divmod(key, channels)
    return cell, channel


def _count(
    sets: Sequence[_Candidates], labels: CellLabels, grid: Grid, columns: int
) -> list[Tensor]:
    """Counts in all cells with a label that counts, (K, C + 1) of each set."""
    number = [len(each.cell) for each in sets]
    bases = np.cumsum([0, *(len(each.scores) for each in sets)])
    of_set = np.repeat(np.arange(len(sets)), number)
    cell = np.concatenate([each.cell for each in sets])
    channel = (np.concatenate([each.channel for each in sets]) + bases[of_set]).astype(np.int32)
    key = of_set * (grid.map_size[0] * grid.map_size[1]) + cell
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    corners = np.concatenate([each.corners(grid) for each in sets])
    margins = np.array([each.margin for each in sets], np.float32)[of_set[starts]]
    best, near = _best(corners, channel, starts, cell[starts], margins, grid)
    found = _Pixels.of(best, near, cell[starts], labels, grid)
    for index, each in enumerate(sets) if found.doubtful.any() else ():
        again = np.flatnonzero(found.doubtful & (of_set[starts][found.row] == index))
        if len(again):
            pixel = found.pixel[again]
            few = np.unique(each.channel[np.isin(each.cell, grid.cell.numpy()[pixel])])
            found.winner[again] = _decide(each.scores, few, pixel, grid) + bases[index]
    table = found.count(bases[-1], columns)
    tables = list(table.split([len(each.scores) for each in sets]))
    for each, of_set_alone in zip(sets, tables, strict=True):
        of_set_alone.index_add_(0, each.leaders, labels.of_cells[each.closed])
    return tables


@dataclass(frozen=True)
class _Pixels:
    """The pixels in some cells, P of them.

    Attributes:
        winner: int32 (P,), the best concept.
        doubtful: bool (P,), whether rounding could decide that, and the label counts.
        label: int64 (P,).
        pixel: int64 (P,), their numbers in the image.
        row: int64 (P,), which of the cells they are in.
    """

    winner: np.ndarray
    doubtful: np.ndarray
    label: np.ndarray
    pixel: np.ndarray
    row: np.ndarray

    @classmethod
    def of(
        cls, best: np.ndarray, near: np.ndarray, cells: np.ndarray, labels: CellLabels, grid: Grid
    ) -> _Pixels:
        """From the best at each place of N cells, (N, places), and where another is as good."""
        first, count = grid.starts[cells], grid.starts[cells + 1] - grid.starts[cells]
        row = np.repeat(np.arange(len(cells)), count)
        ends = np.cumsum(count)
        by_cell = np.arange(len(row)) + (first - ends + count)[row]
        at = row * grid.places + grid.place[by_cell]
        pixel = grid.order[by_cell]
        label = labels.flat[pixel]
        ignored = labels.of_cells.shape[1] - 1
        return cls(best.ravel()[at], near.ravel()[at] & (label < ignored), label, pixel, row)

    def count(self, concepts: int, columns: int) -> Tensor:
        """How often each concept met each class, int64 (K, C + 1)."""
        counts = np.bincount(self.winner * columns + self.label, minlength=concepts * columns)
        return torch.from_numpy(counts.reshape(concepts, columns))


def _best(
    corners: np.ndarray,
    channel: np.ndarray,
    starts: np.ndarray,
    cells: np.ndarray,
    margins: np.ndarray,
    grid: Grid,
) -> tuple[np.ndarray, np.ndarray]:
    """The best candidate at each place of each cell, and whether another is as good to rounding.

    Args:
        corners: float32 (T, 4), scores of candidates.
        channel: int64 (T,), their numbers.
        starts: int64 (N,), where those of each cell begin.
        cells: int64 (N,).
        margins: float32 (N,), of each cell.
        grid: The cells.

    Returns:
        int32 (N, places) and bool (N, places).
    """
    number = np.diff(starts, append=len(channel))
    # Cells with many candidates come first: each further candidate is of fewer and fewer of them.
    order = np.argsort(-number, kind="stable")
    width = grid.map_size[1]
    down = grid.down.weights.numpy()[cells[order] // width]
    right = grid.right.weights.numpy()[cells[order] % width]
    shape = (len(cells), down.shape[1], right.shape[1])
    top, second = np.full((2, *shape), -np.inf, np.float32)
    best = np.zeros(shape, np.int32)
    for rank in range(int(number.max(initial=0))):
        left = int(np.searchsorted(-number[order], -rank))
        of = starts[order[:left]] + rank
        here, d, r = corners[of][:, :, None], down[:left], right[:left]
        sides = [here[:, side] * d[:, :, 0] + here[:, side + 2] * d[:, :, 1] for side in (0, 1)]
        value = sides[0][:, :, None] * r[:, None, :, 0]
        value += sides[1][:, :, None] * r[:, None, :, 1]
        greatest, runner_up = top[:left], second[:left]
        np.copyto(best[:left], channel[of][:, None, None], where=value > greatest)
        np.maximum(runner_up, np.minimum(value, greatest), out=runner_up)
        np.maximum(greatest, value, out=greatest)
    near = second >= top - margins[order][:, None, None]
    back = np.argsort(order)
    flat = (len(cells), grid.places)
    return best[back].reshape(flat), near[back].reshape(flat)


def _decide(scores: Tensor, few: np.ndarray, pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """The best of few concepts at pixels where rounding could decide, int64 (P,)."""
    width = len(grid.right.cell)
    rows, row = np.unique(pixels // width, return_inverse=True)
    of_few = scores[torch.from_numpy(few)][None]
    whole = argmax_all(of_few, grid.rows[torch.from_numpy(rows)], width, _CACHED)[0].numpy()
    return np.asarray(few[whole[row, pixels % width]])
