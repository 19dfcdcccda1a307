"""What a user says of how images are read: a scale, bands and a page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vice.errors import UserError
from vice.options import NULL, Rule, either, list_of, option, whole

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LIMITS = re.compile(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*")
_PERCENTILES = re.compile(rf"\s*p({_NUMBER})\s*,\s*p({_NUMBER})\s*")


@dataclass(frozen=True)
class Scale:
    """What is black and what is white.

    Attributes:
        low: Stored value, or a percentile in [0, 100].
        high: The same of white.
        percentiles: Which of the two they are.
    """

    low: float
    high: float
    percentiles: bool

    @classmethod
    def of(cls, text: str) -> Scale:
        """A scale as it is written: ``"0,4095"`` or ``"p1,p99"``.

        Raises:
            UserError: It is neither.
        """
        for pattern, percentiles in ((_PERCENTILES, True), (_LIMITS, False)):
            match = pattern.fullmatch(text)
            if match is None:
                continue
            low, high = float(match[1]), float(match[2])
            inside = not percentiles or (low >= 0 and high <= 100)
            if low < high and inside and math.isfinite(high - low):
                return cls(low, high, percentiles)
        raise UserError(
            f"scale {text!r} is none: give black and white as stored values, such as 0,4095, or as "
            "percentiles of the images, such as p1,p99"
        )


def _is_scale(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(Scale.of(value))
    except UserError:
        return False


SCALE = Rule("BLACK,WHITE as stored values (0,4095) or percentiles (p1,p99)", _is_scale)


@dataclass(frozen=True)
class ImageReading:
    """Options: which of a file's samples are read, and which of their values are black and white.

    Without any, images are read as `vice.images.read_image` reads 8-bit RGB.
    """

    scale: str | None = option(
        None,
        either(SCALE, NULL),
        "stored values, or percentiles of the values of the images of the training, that become "
        "black and white; null: what the files state",
    )
    bands: tuple[int, ...] = option(
        (), list_of(whole(1, 65_535), 0, 3), "bands that are read as red, green and blue, or one "
        "as gray, from 1; empty: all of one or three"
    )  # fmt: skip
    page: int | None = option(
        None, either(whole(1, 65_536), NULL), "page of files that have several, from 1; null: the "
        "first one"
    )  # fmt: skip

    def __post_init__(self) -> None:
        if len(self.bands) not in (0, 1, 3):
            raise UserError(
                f"bands {','.join(map(str, self.bands))}: give one for gray, or three for red, "
                "green and blue"
            )
        if self.bands and min(self.bands) < 1:
            raise UserError("bands are counted from 1")

    @property
    def is_set(self) -> bool:
        """Whether it says anything."""
        return self != ImageReading()


def asked_reading(
    scale: str | None = None, bands: str | None = None, page: int | None = None
) -> ImageReading:
    """A reading as it is typed.

    Args:
        scale: ``"0,4095"`` or ``"p1,p99"``.
        bands: ``"4,3,2"`` or ``"4"``.
        page: From 1.

    Raises:
        UserError: One of them cannot be read.
    """
    if scale is not None:
        Scale.of(scale)
    if bands is not None and not re.fullmatch(r"\s*\d{1,5}\s*(,\s*\d{1,5}\s*)*", bands):
        raise UserError(f"bands {bands!r}: give their numbers from 1, such as 4,3,2")
    numbers = () if bands is None else tuple(map(int, bands.split(",")))
    return ImageReading(scale, numbers, page)
