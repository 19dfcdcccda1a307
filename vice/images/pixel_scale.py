"""Which stored value is white: what a file states, or what its samples leave no doubt about."""

from __future__ import annotations

import numpy as np

REMEDY = (
    "convert the images to 8 bits with a stated scale, the same for all of them, or train with "
    "--scale"
)
FULL = 65535
#: Samples of 16 bits that stay below this need no more than 15 bits.
_HALF = 32768
#: 16 grey levels of 8 bits.
_DARK = 4096


class UnclearPixels(ValueError):
    """Pixels that could only be read by guessing; the message says why, and the remedy."""


def white_of_16_bit(samples: np.ndarray, stated_bits: int | None = None) -> int:
    """The stored value that means white.

    16 bits are mostly a container: cameras, microscopes and satellites leave 10, 12 or 14 bits in
    it, and dividing those by 257 makes a handful of grey levels of them. So white is 65535 only
    where samples reach the upper half of the range and are not almost all (99.9 %) in the
    lowest sixteenth. A file that says how many bits are meant is believed if its samples agree.

    Args:
        samples: Unsigned colour samples of one image, any shape.
        stated_bits: Significant bits that the file states (chunk sBIT of PNG), 1 to 16. PNG asks
            writers to scale such samples up to 16 bits; those that do not are told by their values.

    Returns:
        White.

    Raises:
        UnclearPixels: Neither the file nor its samples say.
    """
    high = int(samples.max())
    # Black level: 0 on every scale.
    if high == 0:
        return FULL
    if stated_bits is not None and stated_bits < 16:
        return _white_of_stated(samples, high, stated_bits)
    if high >= _HALF and _largest_but_few(samples) >= _DARK:
        return FULL
    rest = " but for one in a thousand" if high >= _HALF else ""
    shown = _largest_but_few(samples) if high >= _HALF else high
    raise UnclearPixels(
        f"its 16-bit samples end at {shown}{rest}, and nothing states how many of the 16 bits are "
        f"meant ({_least_bits(shown)} would hold them): {REMEDY}"
    )


def _white_of_stated(samples: np.ndarray, high: int, bits: int) -> int:
    most = 2**bits - 1
    wide = samples.astype(np.int64)
    scaled = np.rint(wide * most / FULL) * FULL / most
    shifted = wide >> (16 - bits) << (16 - bits)
    if (np.abs(scaled - wide) <= 1).all() or (shifted == wide).all():
        return FULL
    if high <= most:
        return most
    raise UnclearPixels(
        f"it states {bits} significant bits, but its samples (up to {high}) are no {bits}-bit "
        f"values, neither as they are nor scaled to 16 bits: {REMEDY}"
    )


def _largest_but_few(samples: np.ndarray) -> int:
    """The value that one sample in a thousand exceeds."""
    counts = np.bincount(samples.ravel().astype(np.int64), minlength=1)
    return int(np.searchsorted(np.cumsum(counts), 0.999 * samples.size))


def _least_bits(value: int) -> int:
    return max(1, int(value).bit_length())


def scaled(samples: np.ndarray, white: float) -> np.ndarray:
    """Samples in [0, white] to uint8, rounded.

    Raises:
        UnclearPixels: A sample beyond white.
    """
    if samples.max() > white:
        raise UnclearPixels(
            f"its samples reach {samples.max():g}, beyond the white of {white:g} that it states: "
            f"{REMEDY}"
        )
    return np.rint(samples * (255.0 / white)).astype(np.uint8)


def scaled_float(samples: np.ndarray) -> np.ndarray:
    """Floating-point samples to uint8, where black is 0 and white is 1 beyond doubt.

    Args:
        samples: Floating point, any shape.

    Returns:
        uint8 of the same shape.

    Raises:
        UnclearPixels: Samples that are not finite, not in [0, 1], or all in the lower half of it.
    """
    broken = samples.size - int(np.isfinite(samples).sum())
    if broken:
        share = "all" if broken == samples.size else f"{broken} of {samples.size}"
        raise UnclearPixels(f"{share} of its samples are NaN or infinite: fill them, then {REMEDY}")
    low, high = float(samples.min()), float(samples.max())
    if low < 0 or high > 1 or 0 < high < 0.5:
        raise UnclearPixels(
            f"its floating-point samples lie in [{low:g}, {high:g}], and only a range of [0, 1] "
            f"that is made use of says which values are black and white: {REMEDY}"
        )
    return scaled(samples.astype(np.float64), 1.0)


def check_scaled_16_bit(pixels: np.ndarray) -> None:
    """Makes sure of samples that a decoder has divided by 257 already; see `white_of_16_bit`.

    Args:
        pixels: uint8, any shape.

    Raises:
        UnclearPixels: They need not have been samples of 16 bits.
    """
    # Quantization thresholds: the least sample that is rounded to each level.
    white_of_16_bit(np.maximum(pixels.astype(np.int64) * 257 - 128, 0))
