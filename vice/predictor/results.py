"""What is made of a tile: vectors of its cells or pixels, or the concept of each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vice.models.concepts import Concepts
from vice.models.upsampled_argmax import argmax_rows
from vice.models.upsampling import ColumnsBetween, RowsBetween, bands, upsample_rows
from vice.predictor.plan import Part

#: Most bytes of what is upsampled at a time.
_BAND = 2**24
#: Rows of pixels that are labelled at a time at least: scores are sorted out cell by cell.
_LEAST_ROWS = 32


@dataclass(frozen=True)
class Tile:
    """A part of a result.

    Attributes:
        rows: Where it lies in the result along the rows.
        columns: Where it lies along the columns.
        values: (D, h, w) float32, or (h, w) int64, on the CPU.
    """

    rows: slice
    columns: slice
    values: Tensor


def scaled(dense: Tensor, spherical: bool) -> Tensor:
    """Vectors (1, D, h, w) at unit length if only directions count, in place."""
    if spherical:
        # The steps of `torch.nn.functional.normalize`, without a further map of this size.
        dense.div_(dense.norm(dim=1, keepdim=True).clamp_min_(1e-12))
    return dense


def native(part: Part, spherical: bool) -> Tile:
    """Vectors of a tile's cells."""
    values = scaled(part.grid.clone(), spherical)[0]
    return Tile(slice(*part.rows.grid), slice(*part.columns.grid), values.cpu())


def of_pixels(part: Part, spherical: bool) -> Iterator[Tile]:
    """Vectors of a tile's pixels, a band of rows at a time: all would be as large as the result."""
    if part.image == part.cells:
        yield native(part, spherical)
        return
    channels, (height, width) = part.dense.shape[1], part.shape
    rows, columns = _between(part)
    for band in bands(height, _BAND // (4 * channels * width)):
        values = scaled(upsample_rows(part.dense, rows[band], columns), spherical)[0].cpu()
        first = part.rows.pixels[0]
        place = slice(first + band.start, first + band.stop)
        yield Tile(place, slice(*part.columns.pixels), values)


def nearest(part: Part, concepts: Concepts) -> Tile:
    """The concept of each of a tile's pixels."""
    height, width = part.shape
    labels = torch.empty(height, width, dtype=torch.int64)
    band_rows = _BAND // (4 * len(concepts) * width)
    if part.image == part.cells:
        for band in bands(height, band_rows):
            labels[band] = concepts.scores(part.grid[:, :, band]).argmax(1)[0].cpu()
    else:
        rows, columns = _between(part)
        for band in bands(height, max(band_rows, _LEAST_ROWS)):
            between = rows[band]
            first, last = int(between.above[0]), int(between.below[-1])
            scores = concepts.scores(part.dense[:, :, first : last + 1])
            labels[band] = argmax_rows(scores, between.from_row(first), columns)[0].cpu()
    return Tile(slice(*part.rows.pixels), slice(*part.columns.pixels), labels)


def _between(part: Part) -> tuple[RowsBetween, int | ColumnsBetween]:
    """What a tile's pixels lie between of its cells; a number of columns if it has all of them."""
    index = torch.arange(*part.rows.pixels, device=part.dense.device)
    rows = RowsBetween.of(index, part.dense, part.image[0], part.cells[0])
    rows = rows.from_row(part.rows.seen[0])
    if part.columns.grid == (0, part.cells[1]):
        return rows, part.image[1]
    columns = ColumnsBetween.of(part.cells[1], part.image[1], part.dense)
    return rows, columns[slice(*part.columns.pixels)].from_column(part.columns.seen[0])


def whole(values: Tensor) -> Iterator[Tile]:
    """A result as one part."""
    yield Tile(slice(0, values.shape[-2]), slice(0, values.shape[-1]), values)
