"""What a network's cells see: its strides, its receptive field, and what it resizes.

Nothing is known of a network beforehand; all is found by running it on small images. Pixels that
are not a number make all cells that see them not a number, whatever the weights are: so the
receptive field shows exactly, with all that convolutions, pools, interpolation and normalization
over space add to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vice.predictor.resizing import Recorder, Resize, Size, Untileable

Network: TypeAlias = Callable[[Tensor], Tensor]
#: Lengths of the strips on which a receptive field is looked for, in pixels; beyond the half of the
#: last one it counts as the whole image.
LENGTHS = (512, 1024, 2048, 4096)
#: Sides of strips across, and of images that only show sizes, in pixels.
_SIDE = 64
#: Greatest stride that is believed.
_MOST_STRIDE = 256


@dataclass(frozen=True)
class Traced:
    """What a network does to an image of some size.

    Attributes:
        size: Of the image.
        canvas: Of what it makes of the image before all else: the same, or a whole number of
            patches.
        resizes: Of maps inside, but for those to and from the canvas.
        cells: Rows and columns of what it gives, before a last resizing from the canvas.
        grid: The same, after it.
        maps: Of convolutions and pools.
    """

    size: Size
    canvas: Size
    resizes: tuple[Resize, ...]
    cells: Size
    grid: Size
    maps: tuple[Size, ...]
    output: Tensor


@dataclass(frozen=True)
class Reach:
    """What the cells of a network see.

    Attributes:
        stride: Pixels, rows and columns alike, by which an image can be moved so that all maps move
            by whole cells.
        cells: Cells of the output in so many pixels.
        before: Pixels that a cell sees above and left of the first pixel of its place, rounded up
            to the stride; None for the whole image.
        after: The same below and right of its place.
    """

    stride: int
    cells: int
    before: int | None
    after: int | None

    @property
    def bounded(self) -> bool:
        """Whether cells see less than the whole image."""
        return self.before is not None


def trace(
    network: Network, size: Size, device: torch.device, image: Tensor | None = None
) -> Traced:
    """Runs a network on an image and sorts out what it resizes.

    Args:
        network: Normalized images (1, 3, H, W) to (1, D, h, w).
        size: H and W.
        device: Where it computes.
        image: The image; None takes zeros.
    """
    given = torch.zeros(1, 3, *size, device=device) if image is None else image
    with Recorder() as recorder:
        output = network(given)
    resizes = [resize for resize in recorder.resizes if not resize.idle]
    canvas = size
    if resizes and resizes[0].source == size and resizes[0].channels == 3:
        canvas = resizes.pop(0).target
    grid = cells = (int(output.shape[2]), int(output.shape[3]))
    # A last resizing that only undoes the canvas: within a window there is none.
    last = resizes[-1] if resizes else None
    if last and canvas != size and last.target == grid and last.channels == output.shape[1]:
        near = all(abs(math.log2(last.target[i] / last.source[i])) < 0.9 for i in (0, 1))
        if near and last.bilinear and not last.aligned:
            cells = last.source
            resizes.pop()
    return Traced(size, canvas, tuple(resizes), cells, grid, tuple(recorder.maps), output)


def find_reach(network: Network, device: torch.device) -> Reach:
    """Strides and receptive field of a network.

    Raises:
        Untileable: Its output does not grow with the image by whole cells.
    """
    stride, cells = _stride(network, device)
    for length in LENGTHS:
        length = -(-length // (4 * stride)) * 4 * stride
        found = [_seen(network, device, length, axis, stride, cells) for axis in (0, 1)]
        if found[0] is not None and found[1] is not None:
            before, after = (max(pair) for pair in zip(*found, strict=True))
            return Reach(stride, cells, before, after)
        if not _ends(network, device, 4 * length, stride):
            break
    return Reach(stride, cells, None, None)


def _ends(network: Network, device: torch.device, length: int, stride: int) -> bool:
    """Whether a strip has cells in its farther half that do not see its very first rows."""
    image = torch.zeros(1, 3, length, _across(stride), device=device)
    image[:, :, :stride] = math.nan
    rows = network(image).isnan().any(1)[0].any(1)
    return not bool(rows[len(rows) // 2 : -(len(rows) // 4)].all())


def _across(stride: int) -> int:
    """Side of a strip, in pixels."""
    return -(-_SIDE // stride) * stride


def _stride(network: Network, device: torch.device) -> tuple[int, int]:
    """Pixels that move all maps by whole cells, and cells of the output in as many."""
    found = trace(network, (8 * _SIDE, _SIDE), device)
    # The ratio is nearly whole: some convolutions have no border.
    ratios = {max(1, round(found.canvas[0] / rows)) for rows, _ in found.maps if 8 * rows > 16}
    ratios.add(max(1, round(found.canvas[0] / found.cells[0])))
    stride = math.lcm(*ratios)
    if stride > _MOST_STRIDE:
        raise Untileable(f"its maps have strides of {sorted(ratios)} pixels")
    least = -(-_SIDE // stride) * stride
    sides = (least + stride, least + 2 * stride)
    small, large = (trace(network, (side, side), device) for side in sides)
    if small.canvas != small.size or large.canvas != large.size:
        raise Untileable(f"it scales images of {sides} pixels, multiples of its stride {stride}")
    cells = large.cells[0] - small.cells[0]
    if cells < 1 or large.cells[1] - small.cells[1] != cells:
        raise Untileable("what it gives does not grow with the image")
    return stride, cells


def _seen(
    network: Network, device: torch.device, length: int, axis: int, stride: int, cells: int
) -> tuple[int, int] | None:
    """Pixels that cells see before and after their place along an axis; None if beyond a strip."""
    across = _across(stride)
    image = torch.zeros(1, 3, *((length, across) if axis == 0 else (across, length)), device=device)
    quarter = length // 4
    first, last = quarter // stride * stride, (length - quarter) // stride * stride
    for start, count in ((0, first), (last, length - last)):
        image.narrow(2 + axis, start, count).fill_(math.nan)
    blind = network(image).isnan().any(1)[0].any(1 - axis).nonzero()[:, 0]
    # From the middle outwards: what is put around a map sees nothing at all.
    middle = length // stride * cells // 2
    if middle in blind:
        return None
    low = int(blind[blind < middle].max()) + 1
    high = int(blind[blind > middle].min())
    before = low * stride / cells - first
    after = last - high * stride / cells
    return tuple(max(0, math.ceil(each / stride) * stride) for each in (before, after))  # type: ignore[return-value]


@dataclass(frozen=True)
class Layout:
    """Sizes of all that a network makes of an image of any size, without running it on that.

    Attributes:
        whole: As `trace` would give it, but for the output.
        small: What it was found by, an image some steps smaller.
        starts: Of each resizing, cells of its source and of its target in one step (row, column).
    """

    whole: Traced
    small: Traced
    starts: tuple[tuple[Size, Size], ...]


def lay_out(network: Network, size: Size, reach: Reach, device: torch.device) -> Layout:
    """Sizes for an image: they grow by the same number of cells with each step of the stride.

    Raises:
        Untileable: They do not, or what is resized changes with the image's size.
    """
    step = reach.stride
    least = -(-_SIDE // step)
    # At most the whole image: steps may be negative then, and hold all the same.
    residues = tuple(length % step + least * step for length in size)
    height, width = residues
    small = trace(network, (height, width), device)
    more = trace(network, (height + step, width + step), device)
    steps = tuple((size[axis] - residues[axis]) // step for axis in (0, 1))
    if len(small.resizes) != len(more.resizes) or _cells(small, more) != reach.cells:
        raise Untileable("what it resizes changes with the size of the image")
    resizes, starts = [], []
    for one, other in zip(small.resizes, more.resizes, strict=True):
        source = (other.source[0] - one.source[0], other.source[1] - one.source[1])
        target = (other.target[0] - one.target[0], other.target[1] - one.target[1])
        resizes.append(one.at(_grown(one.source, source, steps), _grown(one.target, target, steps)))
        starts.append((source, target))
    growth = (reach.cells, reach.cells)
    final = (more.grid[0] - small.grid[0], more.grid[1] - small.grid[1])
    whole = Traced(
        size,
        _grown(small.canvas, (step, step), steps),
        tuple(resizes),
        _grown(small.cells, growth, steps),
        _grown(small.grid, final, steps),
        (),
        small.output,
    )
    return Layout(whole, small, tuple(starts))


def _cells(small: Traced, more: Traced) -> int:
    rows, columns = (more.cells[axis] - small.cells[axis] for axis in (0, 1))
    return rows if rows == columns else 0


def _grown(size: Size, step: Size, steps: tuple[int, ...]) -> Size:
    return (size[0] + step[0] * steps[0], size[1] + step[1] * steps[1])
