"""How an image is computed in tiles, and what is made of each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vice.predictor.reach import Layout
from vice.predictor.resizing import Size
from vice.predictor.tiles import Piece


@dataclass(frozen=True)
class Difference:
    """How far vectors of tiles are from those of the whole, as Euclidean distances.

    Attributes:
        mean: Over all cells.
        most: At the worst one.
        size: Pixels (height, width) of the picture that both were computed of.
    """

    mean: float
    most: float
    size: Size


@dataclass(frozen=True)
class Tiling:
    """How an image was computed.

    Attributes:
        tiles: Number of tiles, rows and columns.
        window: Most pixels that the network was given at a time, height and width.
        context: Pixels around a tile that it was given besides, before and after.
        exact: Whether the context covers all that a cell sees, so that tiles equal the whole
            but for rounding.
        difference: Where it does not: what was measured on a part of the image.
    """

    tiles: Size
    window: Size
    context: Size
    exact: bool
    difference: Difference | None = None


@dataclass(frozen=True)
class Plan:
    """Tiles of an image.

    Attributes:
        layout: Sizes inside the network.
        rows: Tiles along the rows.
        columns: Tiles along the columns.
        tiling: What is said of it.
    """

    layout: Layout
    rows: list[Piece]
    columns: list[Piece]
    tiling: Tiling


@dataclass(frozen=True)
class Part:
    """What was computed of a tile.

    Attributes:
        rows: Where it lies along the rows.
        columns: Where it lies along the columns.
        dense: Cells ``seen``, (1, D, h, w), on the network's device.
        image: Size of the image.
        cells: Size of the whole result.
    """

    rows: Piece
    columns: Piece
    dense: Tensor
    image: Size
    cells: Size

    @property
    def shape(self) -> Size:
        """Rows and columns of its pixels."""
        rows, columns = self.rows.pixels, self.columns.pixels
        return rows[1] - rows[0], columns[1] - columns[0]

    @property
    def grid(self) -> Tensor:
        """The cells that are this tile's own, (1, D, h, w)."""
        top, left = self.rows.seen[0], self.columns.seen[0]
        return self.dense[
            :,
            :,
            self.rows.grid[0] - top : self.rows.grid[1] - top,
            self.columns.grid[0] - left : self.columns.grid[1] - left,
        ]
