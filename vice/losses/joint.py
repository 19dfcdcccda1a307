"""The joint of two class maps at all displacements, by FFT cross-correlation (IIC)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vice.precision import full_precision

#: Most bytes of each of the two spectra that exist at a time; at least one image's does.
_SPECTRUM = 2**27
#: About how many bytes of products of spectra exist at a time; at least one column's do.
_PRODUCTS = 2**23
#: Images transformed at a time on a CPU, whose cache holds what they are brought into order from.
_CACHED = 4


def displaced_joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    """Co-occurrence of the classes of two maps at each displacement of one against the other.

        J[dy, dx, i, j] = sum over n, y, x of
            first[n, i, y + dy - T, x + dx - T] * second[n, j, y, x],

    ``first`` being zero outside. By the correlation theorem that is the inverse Fourier transform
    of the products of the two spectra, summed over the images before it is transformed back, of
    which the small displacements alone are computed. Sums of a million terms are none for half
    precision; other inputs than float64 are computed in float32.

    Beside its arguments and their gradients it holds at most 128 MiB (or one image) of each of the
    two spectra, both ways, and on the way there, with L about H + T, K * K * (2 T + 1) * L / 2
    complex numbers.

    Args:
        first: (N, K, H, W) floating point.
        second: (N, M, H, W), same dtype and device.
        displacement: T, in pixels.

    Returns:
        (2 T + 1, 2 T + 1, K, M) float32 (of float64: float64), differentiable once in both.

    Raises:
        ValueError: Shapes that do not go together, or a negative displacement.
    """
    if first.ndim != 4 or second.ndim != 4 or displacement < 0:
        raise ValueError(f"{first.ndim} and {second.ndim} axes, displacement {displacement}")
    if (first.shape[0], first.shape[2:]) != (second.shape[0], second.shape[2:]):
        raise ValueError(f"maps {tuple(first.shape)} and {tuple(second.shape)}")
    with torch.autocast(first.device.type, enabled=False):
        wide = [full_precision(each) for each in (first, second)]
        joint: Tensor = _Joint.apply(*wide, displacement)
    return joint


class _Joint(torch.autograd.Function):
    """`displaced_joint`; the way back convolves with the gradient in the same way."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, displacement: int) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.displacement = displacement
        size = _size(first, displacement)
        back = _Back(first, second, size, displacement)
        scratch: dict[str, Tensor] = {}
        for images in _groups(first, second, size):
            one = _spectrum(first[images], size, scratch, "first")
            two = _spectrum(second[images], size, scratch, "second", conj=True)
            back.add(one, two)
        return back.joint()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        first, second = ctx.saved_tensors
        size = _size(first, ctx.displacement)
        kernel = _Kernel(gradient, size, ctx.displacement)
        found = [torch.empty_like(each) for each in (first, second)]
        scratch: dict[str, Tensor] = {}
        for images in _groups(first, second, size):
            one = _spectrum(first[images], size, scratch, "first", conj=True)
            two = _spectrum(second[images], size, scratch, "second")
            kernel.convolve(one, two)
            if ctx.needs_input_grad[0]:
                _invert(one, size, found[0][images])
            if ctx.needs_input_grad[1]:
                # Real maps: the conjugate of a spectrum's conjugate is the spectrum.
                _invert(two.conj(), size, found[1][images])
        wanted = ctx.needs_input_grad
        return found[0] if wanted[0] else None, found[1] if wanted[1] else None, None


def _size(maps: Tensor, displacement: int) -> tuple[int, int]:
    """Rows and columns of the transforms: zeros keep the two ends of a displacement apart."""
    sides = (max(side + displacement, 2 * displacement + 1) for side in maps.shape[2:])
    rows, columns = (_quick(side) for side in sides)
    return rows, columns


@cache
def _quick(least: int) -> int:
    """The least multiple of 8 from here on that has no prime factor above 5."""
    length = -(-least // 8) * 8
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 8


def _groups(first: Tensor, second: Tensor, size: tuple[int, int]) -> Iterator[slice]:
    """Images whose spectra exist at a time."""
    channels = max(first.shape[1], second.shape[1], 1)
    one = 2 * first.element_size() * channels * size[0] * (size[1] // 2 + 1)
    # As many groups as it takes, all about as large.
    groups = -(-len(first) // max(1, _SPECTRUM // one))
    step = -(-len(first) // max(1, groups))
    for start in range(0, len(first), step):
        yield slice(start, min(start + step, len(first)))


def _spectrum(
    maps: Tensor,
    size: tuple[int, int],
    scratch: dict[str, Tensor],
    name: str,
    *,
    conj: bool = False,
) -> Tensor:
    """Half spectrum of real maps (n, K, H, W): complex (columns * rows, n, K).

    Scratch: memory that is new to the process takes longer to get than to fill.
    """
    if name not in scratch:
        frequencies = size[0] * (size[1] // 2 + 1)
        kind = torch.complex128 if maps.dtype == torch.float64 else torch.complex64
        shape = (frequencies, *maps.shape[:2])
        scratch[name] = torch.empty(shape, dtype=kind, device=maps.device)
    found = scratch[name][:, : len(maps)]
    step = _CACHED if maps.device.type == "cpu" else len(maps)
    for start in range(0, len(maps), step):
        part = torch.fft.rfft2(maps[start : start + step], s=size)
        ordered = part.mT.flatten(2).permute(2, 0, 1)
        found[:, start : start + step] = ordered.conj() if conj else ordered
    return found


def _invert(spectrum: Tensor, size: tuple[int, int], into: Tensor) -> None:
    """Writes the upper left of the maps (n, K, H, W) that have a half spectrum."""
    height, width = into.shape[2:]
    step = _CACHED if into.device.type == "cpu" else len(into)
    for start in range(0, len(into), step):
        part = spectrum[:, start : start + step].permute(1, 2, 0).unflatten(2, (-1, size[0]))
        maps = torch.fft.irfft2(part.mT, s=size)
        into[start : start + step] = maps[:, :, :height, :width]


class _Back:
    """The way back from products of spectra to small displacements, some columns at a time.

    Down a column first: neither the products of all frequencies nor what they come to elsewhere
    ever exist.

    Args:
        first: (N, K, H, W).
        second: (N, M, H, W).
        size: Rows and columns of the transforms.
        displacement: T.
    """

    def __init__(
        self, first: Tensor, second: Tensor, size: tuple[int, int], displacement: int
    ) -> None:
        self.size, self.displacement = size, displacement
        self.classes = first.shape[1], second.shape[1]
        down, self.along = _waves(first, size, displacement)
        self.waves = _halves(down, displacement)
        numbers = 2 * self.classes[0] * self.classes[1]
        self.sums = first.new_zeros(size[1] // 2 + 1, 2 * displacement + 1, numbers)

    def add(self, one: Tensor, two: Tensor) -> None:
        """Adds images by their spectra, (frequencies, n, K) and the conjugate (.., n, M)."""
        for columns in _columns(self.size, self.classes, self.sums.element_size()):
            part = slice(columns.start * self.size[0], columns.stop * self.size[0])
            product = torch.bmm(one[part].mT, two[part])
            lines = torch.view_as_real(product).view(-1, self.size[0], self.sums.shape[2])
            self.sums[columns].baddbmm_(self.waves.expand(len(lines), -1, -1), lines)

    def joint(self) -> Tensor:
        """Of all that was added, (2T + 1, 2T + 1, K, M)."""
        sums = torch.view_as_complex(self.sums.unflatten(2, (-1, 2))).transpose(0, 1)
        even, odd = sums.split([self.displacement + 1, self.displacement])
        lines = torch.cat([(even[1:] - 1j * odd).flip(0), even[:1], even[1:] + 1j * odd])
        # Half spectrum: the columns between the first and the middle one stand for two each.
        weights = torch.full_like(self.along.real[0], 2.0)
        weights[0] = weights[-1] = 1.0
        along = torch.cat([self.along.real * weights, -self.along.imag * weights], 1)
        joint = along @ torch.cat([lines.real, lines.imag], 1)
        return joint.div_(self.size[0] * self.size[1]).unflatten(2, self.classes)


class _Kernel:
    """Values at small displacements as a kernel; some columns of its half spectrum at a time.

    Args:
        gradient: (2T + 1, 2T + 1, K, M), the values.
        size: Rows and columns of the transforms.
        displacement: T.
    """

    def __init__(self, gradient: Tensor, size: tuple[int, int], displacement: int) -> None:
        self.size, self.classes = size, (gradient.shape[2], gradient.shape[3])
        down, along = _waves(gradient, size, displacement)
        self.waves = _halves(down, displacement)
        self.cosines, self.sines = along.real.mT.contiguous(), along.imag.mT.contiguous()
        values = gradient.flatten(2)
        before, after = values[:displacement].flip(0), values[displacement + 1 :]
        self.even = torch.cat([values[displacement : displacement + 1], after + before])
        self.odd = after - before

    def convolve(self, one: Tensor, two: Tensor) -> None:
        """Each of two spectra becomes that of the other's maps convolved with the kernel, in place.

        Args:
            one: (frequencies, n, K), the conjugate, as its result is.
            two: (frequencies, n, M).
        """
        for columns in _columns(self.size, self.classes, self.even.element_size()):
            part = slice(columns.start * self.size[0], columns.stop * self.size[0])
            kernel = self._columns(columns)
            first = torch.bmm(two[part], kernel.mT)
            two[part] = torch.bmm(one[part], kernel)
            one[part] = first

    def _columns(self, columns: slice) -> Tensor:
        """Columns of the half spectrum, (columns * rows, K, M)."""
        cosines, sines = self.cosines[columns], self.sines[columns]
        lines = torch.cat(
            [
                torch.stack([cosines @ self.even, -(sines @ self.even)], -1),
                torch.stack([-(sines @ self.odd), -(cosines @ self.odd)], -1),
            ]
        )
        waves = self.waves.mT.expand(len(cosines), -1, -1)
        spectrum = torch.bmm(waves, lines.transpose(0, 1).flatten(2))
        return torch.view_as_complex(spectrum.view(-1, *self.classes, 2))


def _columns(size: tuple[int, int], classes: tuple[int, int], itemsize: int) -> Iterator[slice]:
    """Columns of the half spectrum whose products exist at a time."""
    column = 2 * itemsize * size[0] * classes[0] * classes[1]
    step, count = max(1, _PRODUCTS // max(1, column)), size[1] // 2 + 1
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _halves(down: Tensor, displacement: int) -> Tensor:
    """Cosines of the displacements from 0 on, then sines of those from 1 on: (2T + 1, rows).

    Symmetry: a displacement and its opposite share them, and they are real.
    """
    return torch.cat([down.real[displacement:], down.imag[displacement + 1 :]])


def _waves(like: Tensor, size: tuple[int, int], displacement: int) -> tuple[Tensor, Tensor]:
    """exp(2 pi i w d / L) of displacements d and frequencies w: (2T + 1, rows), (.., columns)."""
    lags = torch.arange(-displacement, displacement + 1, device=like.device)
    kind = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    found = []
    for length, count in ((size[0], size[0]), (size[1], size[1] // 2 + 1)):
        frequencies = torch.arange(count, device=like.device)
        # Whole turns are taken off while the numbers are whole.
        turns = (lags[:, None] * frequencies).remainder(length).double() * (2 * math.pi / length)
        found.append(torch.polar(torch.ones_like(turns), turns).to(kind))
    return found[0], found[1]
