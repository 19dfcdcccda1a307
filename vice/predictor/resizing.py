"""Bilinear resizing inside a network: what it is for a whole image, and the same within a window.

Networks bring their maps to each other's size. Where an image's sides are no multiples of the
network's stride, the ratio of two maps is no whole number, and it stretches the map over the whole
image: a part of the image, resized by itself, would give other numbers. Within a window, maps are
resized by the positions that they have in the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vice.models.upsampling import RowsBetween

Size: TypeAlias = tuple[int, int]


class Untileable(Exception):
    """A network that resizes its maps in a way that a window cannot follow."""


@dataclass(frozen=True)
class Resize:
    """A resizing of maps.

    Attributes:
        channels: Of the maps.
        source: Rows and columns before.
        target: Rows and columns after.
        scale: What was asked for instead of a size, rows and columns; None for a size.
        aligned: Whether the corners of both were aligned.
        bilinear: False for all other ways, which are followed at whole ratios only.
    """

    channels: int
    source: Size
    target: Size
    scale: tuple[float, float] | None
    aligned: bool
    bilinear: bool

    @property
    def idle(self) -> bool:
        """Whether nothing was resized."""
        return self.source == self.target

    def at(self, source: Size, target: Size) -> Resize:
        """The same between maps of other sizes."""
        return Resize(self.channels, source, target, self.scale, self.aligned, self.bilinear)

    def ratio(self, axis: int) -> float:
        """Pixels of the source for one of the target."""
        if self.aligned:
            return (self.source[axis] - 1) / max(1, self.target[axis] - 1)
        if self.scale is not None:
            return 1 / self.scale[axis]
        return self.source[axis] / self.target[axis]

    def between(self, axis: int, first: int, count: int, like: Tensor) -> RowsBetween:
        """Rows (axis 0) or columns of the source that those of the target lie between.

        Args:
            axis: 0 for rows, 1 for columns.
            first: The first one of the target.
            count: How many.
            like: A map, for its dtype and device.
        """
        index = torch.arange(first, first + count, device=like.device).to(like.dtype)
        if self.aligned:
            position = index * self.ratio(axis)
        else:
            position = ((index + 0.5) * self.ratio(axis) - 0.5).clamp(min=0)
        last = self.source[axis] - 1
        above = position.floor().long().clamp(max=last)
        return RowsBetween(above, (above + 1).clamp(max=last), (position - above)[:, None])


def resize_between(maps: Tensor, rows: RowsBetween, columns: RowsBetween) -> Tensor:
    """Maps (B, C, h, w) to those that lie between their rows and columns, (B, C, R, W)."""
    down = rows.share.to(maps)
    maps = maps[:, :, rows.above] * (1 - down) + maps[:, :, rows.below] * down
    right = columns.share[:, 0].to(maps)
    return maps[..., columns.above] * (1 - right) + maps[..., columns.below] * right


def clamped(between: RowsBetween, first: int, count: int) -> RowsBetween:
    """The same in a window of the source; what lies beyond it is taken from its border."""
    inside = between.from_row(first)
    return RowsBetween(
        inside.above.clamp(0, count - 1), inside.below.clamp(0, count - 1), inside.share
    )


def _asked(maps: Tensor, options: dict[str, Any]) -> Resize:
    """What a call of `torch.nn.functional.interpolate` asks for."""
    source = (int(maps.shape[2]), int(maps.shape[3]))
    size, factor = options.get("size"), options.get("scale_factor")
    scale: tuple[float, float] | None = None
    if size is not None:
        pair = (size, size) if isinstance(size, int) else tuple(size)
        target = (int(pair[0]), int(pair[1]))
    else:
        pair = tuple(factor) if isinstance(factor, list | tuple) else (factor, factor)
        scale = (float(pair[0]), float(pair[1]))
        target = (int(source[0] * scale[0]), int(source[1] * scale[1]))
        if options.get("recompute_scale_factor"):
            scale = None
    bilinear = options.get("mode", "nearest") == "bilinear" and not options.get("antialias")
    return Resize(
        int(maps.shape[1]), source, target, scale, bool(options.get("align_corners")), bilinear
    )


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    options = {**dict(zip(names, args, strict=False)), **kwargs}
    return options.pop("input"), options


class Recorder(TorchFunctionMode):
    """Keeps what a network resizes, and how large the maps of its convolutions and pools are.

    Attributes:
        resizes: In the order in which they happened.
        maps: Rows and columns of maps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.resizes: list[Resize] = []
        self.maps: list[Size] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.interpolate and result.ndim == 4:
            self.resizes.append(_asked(*_named(args, kwargs)))
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and result.ndim == 4 and ("conv" in name or "pool" in name):
            self.maps.append((int(result.shape[2]), int(result.shape[3])))
        return result


#: A resizing in the whole image, and where a window starts in its source and target (row, column);
#: no start for maps that are no part of the image, such as a transformer's positions.
InWindow: TypeAlias = tuple[Resize, Size | None, Size]


class _Window(TorchFunctionMode):
    def __init__(self, wholes: Iterator[InWindow]) -> None:
        super().__init__()
        self._wholes = wholes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.interpolate:
            return func(*args, **kwargs)
        maps, options = _named(args, kwargs)
        if maps.ndim != 4 or (here := _asked(maps, options)).idle:
            return func(*args, **kwargs)
        left = next(self._wholes, None)
        if left is None or left[0].channels != here.channels:
            raise Untileable("it resizes other maps in a window than in the whole image")
        whole, first, start = left
        if first is None:
            return func(*args, **kwargs)
        plain = all(
            not whole.aligned and _whole(whole, axis, first, start) for axis in (0, 1)
        ) and (whole.scale is not None or _same_ratio(whole, here))
        if plain:
            return func(*args, **kwargs)
        if not whole.bilinear:
            raise Untileable("it resizes maps to a ratio that is no whole number, not bilinearly")
        axes = [
            clamped(
                whole.between(axis, start[axis], here.target[axis], maps),
                first[axis],
                here.source[axis],
            )
            for axis in (0, 1)
        ]
        return resize_between(maps, *axes)


def _whole(resize: Resize, axis: int, first: Size, start: Size) -> bool:
    """Whether a window's start in the target lies where that in the source does."""
    return start[axis] * resize.ratio(axis) == first[axis]


def _same_ratio(whole: Resize, here: Resize) -> bool:
    return all(whole.ratio(axis) == here.ratio(axis) for axis in (0, 1))


@contextmanager
def window_of(wholes: Sequence[InWindow]) -> Iterator[None]:
    """Within it, a network that is given a window of an image resizes as in the whole one.

    Args:
        wholes: The resizings in their order.

    Raises:
        Untileable: The network resizes other maps, or more or fewer.
    """
    left = iter(wholes)
    with _Window(left):
        yield
    if next(left, None) is not None:
        raise Untileable("it resizes fewer maps in a window than in the whole image")
