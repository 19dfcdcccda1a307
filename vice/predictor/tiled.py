"""A network on an image of any size, a tile at a time, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.errors import UserError
from vice.models.embeddings import FiniteWatch
from vice.normalize import normalize
from vice.predictor.memory import FIXED, bytes_a_pixel, give_back
from vice.predictor.plan import Difference, Part, Plan, Tiling
from vice.predictor.precision import computed_in
from vice.predictor.reach import Layout, Network, Reach, find_reach, lay_out
from vice.predictor.resizing import (
    InWindow,
    Resize,
    Size,
    Untileable,
    resize_between,
    window_of,
)
from vice.predictor.tiles import Axis, Piece, Span, axes, between
from vice.predictor.transform import network_input

#: From rows and columns of an image to its pixels, uint8 (h, w, 3).
Read: TypeAlias = Callable[[Span, Span], np.ndarray]
#: Pixels of context where a network sees the whole image, and the share of a window it may take.
CONTEXT, _SHARE = 256, 4
#: Greatest difference of unit vectors that is rounding.
ROUNDING = 1e-4


class TiledNetwork:
    """A network that is computed in tiles.

    Args:
        network: Normalized images (1, 3, H, W) to (1, D, h, w).
        width: D.
        device: Where it computes.
        name: For messages.
        spherical: Whether only the direction of its vectors counts.
    """

    def __init__(
        self, network: Network, width: int, device: torch.device, name: str, spherical: bool = True
    ) -> None:
        self.network, self.width, self.device = network, width, device
        self.name, self.spherical = name, spherical
        self._watch = FiniteWatch()

    @cached_property
    def reach(self) -> Reach:
        """What its cells see.

        Raises:
            UserError: It cannot be computed in tiles.
        """
        try:
            return find_reach(self.network, self.device)
        except Untileable as error:
            raise self._refused(error) from error

    @cached_property
    def bytes_a_pixel(self) -> float:
        """Memory for each pixel of a tile."""
        cells = 0.0

        def run(pixels: Tensor) -> Tensor:
            nonlocal cells
            output = self.network(normalize(pixels))
            cells = output.shape[2] * output.shape[3] / (pixels.shape[2] * pixels.shape[3])
            return output

        taken = bytes_a_pixel(run, self.device)
        # Vectors of a tile: those of the network, a part of them, and that scaled.
        return taken + 12 * self.width * cells

    @cached_property
    def exact(self) -> bool:
        """Whether tiles with enough context equal the whole but for rounding; it is tried."""
        if not self.reach.bounded:
            return False
        step, seen = self.reach.stride, (self.reach.before or 0) + (self.reach.after or 0)
        for axis in (0, 1):
            lengths = [seen + 8 * step + 7, 2 * max(step, 32) + 5]
            size = (lengths[axis], lengths[1 - axis])
            noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
            if self._difference(noise, -(-max(size) // 2)).most > ROUNDING:
                return False
        return True

    def plan(self, size: Size, budget: int, *, exact: bool = False) -> Plan | None:
        """Tiles of an image of some size, H and W.

        Args:
            size: H and W.
            budget: Bytes beside the result.
            exact: Whether to refuse a network that sees more than a context covers.

        Returns:
            None where the whole image needs no more than that.

        Raises:
            UserError: Too little memory for a tile, or the network cannot be computed in tiles.
        """
        most = int(max(0, budget - FIXED) / self.bytes_a_pixel)
        if size[0] * size[1] <= most:
            return None
        if exact and not self.exact:
            raise UserError(
                f"{self.name} sees the whole image at each pixel, so tiles differ from it, and "
                "exact=True refuses that: give more memory, or leave exact out"
            )
        window = _window(size, most)
        context = max(self.reach.stride, min(CONTEXT, min(window) // _SHARE))
        layout = self._laid_out(size)
        both = axes(layout, self.reach, context)
        cores = [self._core(axis, length) for axis, length in zip(both, window, strict=True)]
        if not all(cores):
            raise self._too_little(both)
        return self._made(layout, both, (cores[0], cores[1]))

    def tiles(
        self, plan: Plan, read: Read, name: object = "the image", half: torch.dtype | None = None
    ) -> Iterator[Part]:
        """Computes one tile after the other.

        Args:
            plan: Of the image.
            read: Gives its pixels.
            name: What it is called, for messages.
            half: A type of 16 bits to compute in; what is said of the difference from the whole is
                of float32.

        Yields:
            Of each tile where it lies, and the cells that its pixels lie between.

        Raises:
            UserError: Vectors that are not finite.
        """
        for rows in plan.rows:
            for columns in plan.columns:
                give_back()
                dense = self._tile(plan.layout, rows, columns, read, half)
                self._watch.see_one(dense, str(name))
                yield Part(rows, columns, dense.float(), plan.layout.whole.size,
                           plan.layout.whole.grid)  # fmt: skip

    def measured(self, plan: Plan, read: Read) -> Plan:
        """The plan with the difference that tiles make: four, on a part as large as one window."""
        (height, width), window = plan.layout.whole.size, plan.tiling.window
        side = min(window[0], height), min(window[1], width)
        top, left = (height - side[0]) // 2, (width - side[1]) // 2
        part = np.ascontiguousarray(read((top, top + side[0]), (left, left + side[1])))
        difference = self._difference(part, -(-max(side) // 2), plan.tiling.context[0])
        return replace(plan, tiling=replace(plan.tiling, difference=difference))

    def _difference(self, pixels: np.ndarray, core: int, context: int = 0) -> Difference:
        """Of a picture in tiles of some core from the same as a whole."""
        size = (pixels.shape[0], pixels.shape[1])

        def read(rows: Span, columns: Span) -> np.ndarray:
            return pixels[slice(*rows), slice(*columns)]

        core = -(-core // self.reach.stride) * self.reach.stride
        layout = self._laid_out(size)
        plan = self._made(layout, axes(layout, self.reach, context), (core, core))
        whole = self._scaled(self.network(self._ready(pixels))[0].float())
        distances = [
            (self._scaled(part.grid[0]) - whole[:, part.rows.slice, part.columns.slice])
            .norm(dim=0)
            .flatten()
            for part in self.tiles(plan, read)
        ]
        each = torch.cat(distances)
        return Difference(float(each.mean()), float(each.max()), size)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=0) if self.spherical else vectors

    def _laid_out(self, size: Size) -> Layout:
        try:
            return lay_out(self.network, size, self.reach, self.device)
        except Untileable as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> UserError:
        return UserError(
            f"{self.name} cannot be computed in tiles: {error}; leave memory out, or shrink the "
            "image"
        )

    def _core(self, axis: Axis, window: int) -> int:
        if window >= axis.canvas:
            return axis.canvas
        step = self.reach.stride
        core = (window - axis.overhead) // step * step
        if core < step:
            return 0
        # Even tiles: a last one of a few rows would cost its context, too.
        return -(-axis.canvas // (-(-axis.canvas // core) * step)) * step

    def _too_little(self, both: tuple[Axis, Axis]) -> UserError:
        # Twice the context: with less, most of what is computed is thrown away.
        sides = [min(axis.canvas, 2 * axis.overhead) for axis in both]
        enough = math.ceil((FIXED + self.bytes_a_pixel * max(sides) ** 2) / 2**20)
        return UserError(
            f"{self.name} sees {max(axis.overhead for axis in both)} pixels around each, and needs "
            f"more memory for a tile: allow {enough}MiB or more"
        )

    def _made(self, layout: Layout, both: tuple[Axis, Axis], cores: Size) -> Plan:
        rows, columns = (axis.pieces(core) for axis, core in zip(both, cores, strict=True))
        window = tuple(
            max(piece.window[1] - piece.window[0] for piece in pieces) for pieces in (rows, columns)
        )
        context = (max(axis.before for axis in both), max(axis.after for axis in both))
        exact = self.reach.bounded
        tiling = Tiling((len(rows), len(columns)), (window[0], window[1]), context, exact)
        return Plan(layout, rows, columns, tiling)

    def _ready(self, pixels: np.ndarray) -> Tensor:
        return network_input(pixels[None], self.device)

    def _tile(
        self, layout: Layout, rows: Piece, columns: Piece, read: Read, half: torch.dtype | None
    ) -> Tensor:
        """Cells of the result that a tile sees, (1, D, h, w)."""
        window = (rows.window, columns.window)
        image = self._canvas(layout, window, read)
        step, cells = self.reach.stride, self.reach.cells
        steps = (window[0][0] // step, window[1][0] // step)
        inside: list[InWindow] = []
        for resize, (source, target) in zip(layout.whole.resizes, layout.starts, strict=True):
            still = source == (0, 0)
            start = (steps[0] * target[0], steps[1] * target[1])
            first = None if still else (steps[0] * source[0], steps[1] * source[1])
            inside.append((resize, first, start))
        try:
            with window_of(inside), computed_in(half, self.device):
                dense = self.network(image)
        except Untileable as error:
            raise self._refused(error) from error
        whole = layout.whole
        used = []
        for axis, piece in enumerate((rows, columns)):
            low, high = (cell - steps[axis] * cells for cell in piece.cells)
            if low < 0 or high > dense.shape[2 + axis]:
                raise self._refused(
                    Untileable("it gives fewer cells of a window than of the whole")
                )
            used.append(slice(low, high))
        dense = dense[:, :, used[0], used[1]]
        if whole.cells == whole.grid:
            return dense
        seen = [
            between(whole.grid[axis], whole.cells[axis])[slice(*piece.seen)].from_row(
                piece.cells[0]
            )
            for axis, piece in enumerate((rows, columns))
        ]
        return resize_between(dense, *seen)

    def _canvas(self, layout: Layout, window: tuple[Span, Span], read: Read) -> Tensor:
        """A window of what the network makes of the image first, normalized."""
        whole = layout.whole
        if whole.canvas == whole.size:
            return self._ready(read(*window))
        stretch = Resize(3, whole.size, whole.canvas, None, False, True)
        like = torch.empty(0, device=self.device)
        rows, columns = (
            stretch.between(axis, start, stop - start, like)
            for axis, (start, stop) in enumerate(window)
        )
        spans = [(int(each.above[0]), int(each.below[-1]) + 1) for each in (rows, columns)]
        pixels = self._ready(read(spans[0], spans[1]))
        return resize_between(pixels, rows.from_row(spans[0][0]), columns.from_row(spans[1][0]))


def _window(size: Size, most: int) -> Size:
    """Sides of a window of so many pixels, nearly square, none longer than the image."""
    side = math.isqrt(max(1, most))
    if size[0] <= side:
        return size[0], most // size[0]
    if size[1] <= side:
        return most // size[1], size[1]
    return side, side
