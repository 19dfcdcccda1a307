"""Photometric change of views: colour, blur, normalisation and mask noise, on CPU or GPU.

Parameters are drawn with NumPy (`Photometric.draw`), applying them is a pure function of images
and parameters: an image's result depends neither on its batch nor on the device's generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.normalize import _statistics
from vice.options import SHARE, list_of, number, option, whole
from vice.runtime.device import to_device
from vice.views.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    to_gray,
)
from vice.views.color import gaussian_blur as _gaussian_blur
from vice.views.color_bytes import change_colors, fill_noise

_STRENGTH = number(0, 100)
#: What is done to some images in place of which, given a number each.
Change = Callable[[Tensor, Tensor], Tensor]


_ADJUST: tuple[tuple[str, Change], ...] = (
    ("brightness", adjust_brightness),
    ("contrast", adjust_contrast),
    ("saturation", adjust_saturation),
    ("hue", adjust_hue),
)


@dataclass(frozen=True)
class PhotometricParams:
    """What happens to each of B images.

    Attributes:
        jitter: bool (B,); whether the four colour changes are applied.
        order: int8 (B, 4); which change comes first to last: 0 brightness, 1 contrast,
            2 saturation, 3 hue.
        brightness: float32 (B,); factor.
        contrast: float32 (B,); factor.
        saturation: float32 (B,); factor.
        hue: float32 (B,); shift as a share of the full circle.
        gray: bool (B,); whether the color is removed.
        blur: bool (B,); whether the image is blurred.
        sigma: float32 (B,); standard deviation of the blur in pixels.
        noise_seed: int64 (B,); seed of the mask noise.
    """

    jitter: np.ndarray
    order: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    saturation: np.ndarray
    hue: np.ndarray
    gray: np.ndarray
    blur: np.ndarray
    sigma: np.ndarray
    noise_seed: np.ndarray

    def __len__(self) -> int:
        return len(self.jitter)

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> PhotometricParams:
        """Parameters of some of the images."""
        return PhotometricParams(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def concatenate(parts: list[PhotometricParams]) -> PhotometricParams:
        """Parameters of several batches, one after the other."""
        names = [field.name for field in fields(PhotometricParams)]
        return PhotometricParams(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        )


@dataclass(eq=False)
class Photometric:
    """Random photometric change as in SimCLR, then ImageNet normalisation and mask noise.

    Each field below says what it is and is an argument by that name.

    Attributes:
        strengths: The four strengths of the color jitter, each times `strength`.

    Raises:
        UserError: A parameter is out of range.

    Source: ViCE (BMVC) section 3.2 with the settings of SimCLR.
    """

    _: KW_ONLY
    strength: float = option(1.0, _STRENGTH, "factor on all four strengths of the color jitter")
    brightness: float = option(
        0.8, _STRENGTH, "factors are drawn from 1 -+ strength x brightness, not below 0"
    )
    contrast: float = option(0.8, _STRENGTH, "as brightness")
    saturation: float = option(0.8, _STRENGTH, "as brightness")
    hue: float = option(
        0.2, _STRENGTH, "shifts are drawn from -+ strength x hue of the full circle, half at most"
    )
    jitter_probability: float = option(
        0.8, SHARE, "chance of a view to get the color jitter, in random order"
    )
    grey_probability: float = option(0.2, SHARE, "chance of a view to lose its color")
    blur_probability: float = option(0.5, SHARE, "chance of a view to be blurred")
    sigma: tuple[float, float] = option(
        (0.1, 2.0),
        list_of(number(1e-6, 1000), 2, 2),
        "least and greatest standard deviation of the blur, in pixels",
    )
    taps: int = option(17, whole(1, 999), "length of the blur's kernel in pixels, odd")
    strengths: dict[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.strengths = {
            name: self.strength * getattr(self, name)
            for name in ("brightness", "contrast", "saturation", "hue")
        }
        self.sigma = (float(self.sigma[0]), float(self.sigma[1]))
        self._check()

    def _check(self) -> None:
        for name in ("jitter_probability", "grey_probability", "blur_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"photometric: {name} {getattr(self, name)} must be in [0, 1]")
        for name, value in self.strengths.items():
            if value < 0 or (name == "hue" and value > 0.5):
                limit = " and at most 0.5" if name == "hue" else ""
                raise UserError(f"photometric: {name} x strength is {value}; at least 0{limit}")
        if not 0.0 < self.sigma[0] <= self.sigma[1]:
            raise UserError(f"photometric: sigma {self.sigma} must be (least, greatest), positive")
        if self.taps < 1 or self.taps % 2 == 0:
            raise UserError(f"photometric: taps {self.taps} must be odd and positive")

    @classmethod
    def identity(cls) -> Photometric:
        """Nothing but normalisation and mask noise, for photographs shown as they are."""
        return cls(jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)

    def draw(self, rng: np.random.Generator, count: int) -> PhotometricParams:
        """Draws what happens to `count` images; `rng` is the only source of randomness."""
        return PhotometricParams(
            jitter=rng.random(count) < self.jitter_probability,
            order=rng.permuted(np.array([0, 1, 2, 3] * count, np.int8).reshape(count, 4), axis=1),
            brightness=self._factor(rng, "brightness", count),
            contrast=self._factor(rng, "contrast", count),
            saturation=self._factor(rng, "saturation", count),
            hue=rng.uniform(-1.0, 1.0, count).astype(np.float32)
            * np.float32(self.strengths["hue"]),
            gray=rng.random(count) < self.grey_probability,
            blur=rng.random(count) < self.blur_probability,
            sigma=rng.uniform(*self.sigma, count).astype(np.float32),
            noise_seed=rng.integers(0, 2**63, count, dtype=np.int64),
        )

    def _factor(self, rng: np.random.Generator, name: str, count: int) -> np.ndarray:
        strength = self.strengths[name]
        return rng.uniform(max(0.0, 1.0 - strength), 1.0 + strength, count).astype(np.float32)

    def __call__(
        self, images: Tensor, params: PhotometricParams, noise: Tensor | None = None
    ) -> Tensor:
        """Applies drawn parameters.

        Args:
            images: uint8 (B, 3, h, w), RGB, on any device.
            params: Of B images.
            noise: bool (B, h, w), True where noise replaces the image; or None.

        Returns:
            float32 (B, 3, h, w): normalised with ImageNet mean and standard deviation, and
            uniform noise in [-1, 1) where `noise` is True.

        Raises:
            UserError: Shapes or dtypes do not fit.
        """
        _check_batch(images, params, noise)
        # Synchronization: only the number of masked pixels waits for a GPU, so it is asked first,
        # while the GPU has nothing else to do.
        masked = None if noise is None else noise.to(images.device).nonzero(as_tuple=True)
        out = images.float().div_(255.0)
        for change, index, values in _on_device(self._changes(params), out.device):
            out[index] = change(out[index], values)
        mean, std = _statistics(out.device)
        out.sub_(mean).div_(std)
        if masked is not None:
            _fill_noise(out, masked, params.noise_seed)
        return out

    def change_bytes(
        self, images: np.ndarray, params: PhotometricParams, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """The same on a CPU, in 8 bits: each color change, and noise, is rounded to a level.

        Args:
            images: uint8 (B, h, w, 3), RGB.
            params: Of B images.
            noise: bool (B, h, w), as in `__call__`.

        Returns:
            uint8 (B, h, w, 3), which `vice.normalize.normalize_bytes` brings to what `__call__`
            returns.

        Raises:
            UserError: Shapes or dtypes do not fit.
        """
        _check_bytes(images, params, noise)
        out = np.empty(images.shape, np.uint8)
        for index, image in enumerate(images):
            image = np.ascontiguousarray(image)  # what OpenCV takes
            out[index] = change_colors(image, params, index, self.taps)
            if noise is not None:
                fill_noise(out[index], noise[index], int(params.noise_seed[index]))
        return out

    def _changes(
        self, params: PhotometricParams
    ) -> Iterator[tuple[Change, np.ndarray, np.ndarray]]:
        """What is done in turn, to which images, with which number each."""
        for step in range(4):
            for position, (name, adjust) in enumerate(_ADJUST):
                group = params.jitter & (params.order[:, step] == position)
                yield adjust, group, getattr(params, name)
        yield (lambda part, _: to_gray(part).expand_as(part)), params.gray, params.sigma
        yield (lambda part, s: _gaussian_blur(part, s, self.taps)), params.blur, params.sigma


def _on_device(
    changes: Iterator[tuple[Change, np.ndarray, np.ndarray]], device: torch.device
) -> list[tuple[Change, Tensor, Tensor]]:
    """Changes of at least one image, with places and numbers of theirs, which travel together."""
    active = [
        (what, np.flatnonzero(who), values[who]) for what, who, values in changes if who.any()
    ]
    if not active:
        return []
    what, places, numbers = zip(*active, strict=True)
    sizes = [len(some) for some in places]
    index = to_device(np.concatenate(places), device).split(sizes)
    values = to_device(np.concatenate(numbers), device).split(sizes)
    return list(zip(what, index, values, strict=True))


def _fill_noise(out: Tensor, masked: tuple[Tensor, ...], seeds: np.ndarray) -> None:
    """Overwrites masked pixels of `out` (B, 3, h, w) with uniform noise in [-1, 1).

    A counter-based generator (splitmix64 of seed, pixel and channel): the same on every device,
    for any batch, and computed for masked pixels alone.
    """
    image, row, column = masked
    seed = to_device(seeds, out.device)[image]
    pixel = row * out.shape[3] + column
    for channel in range(out.shape[1]):
        bits = _splitmix64(seed, pixel * out.shape[1] + channel)
        out[image, channel, row, column] = bits.float() * 2.0**-23 - 1.0


def _splitmix64(seed: Tensor, counter: Tensor) -> Tensor:
    """Top 24 bits of the `counter`-th output of splitmix64; int64 in and out, wrapping."""
    state = seed + (counter + 1) * _signed(0x9E3779B97F4A7C15)
    state = (state ^ _shift(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift(state, 27)) * _signed(0x94D049BB133111EB)
    return _shift(state ^ _shift(state, 31), 40)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which torch shifts arithmetically."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def _check_batch(images: Tensor, params: PhotometricParams, noise: Tensor | None) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            f"photometric: images must be uint8 (B, 3, h, w), "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    _check_count(params, len(images))
    if noise is not None:
        expected = (images.shape[0], *images.shape[2:])
        _check_noise(expected, tuple(noise.shape), noise.dtype, noise.dtype == torch.bool)


def _check_bytes(images: np.ndarray, params: PhotometricParams, noise: np.ndarray | None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"photometric: images must be uint8 (B, h, w, 3), got {images.dtype} {images.shape}"
        )
    _check_count(params, len(images))
    if noise is not None:
        _check_noise(images.shape[:3], noise.shape, noise.dtype, noise.dtype == np.bool_)


def _check_count(params: PhotometricParams, count: int) -> None:
    if len(params) != count:
        raise UserError(f"photometric: {len(params)} parameters for {count} images")


def _check_noise(
    expected: tuple[int, ...], shape: tuple[int, ...], dtype: object, is_bool: bool
) -> None:
    if not is_bool or shape != expected:
        raise UserError(f"photometric: noise must be bool {expected}, got {dtype} {shape}")
