"""How images beyond 8-bit RGB are read, every number known: kept with a model, used everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vice.errors import UserError
from vice.images.pixel_formats import Decoded, UnclearPixels
from vice.images.stored_samples import Samples

#: Pixels that are scaled at a time: each takes sixteen bytes a band.
_AT_ONCE = 2**20
#: How many times the range of a scale most values lie above its black, and into how small a part of
#: it all of them fall, before images are taken for those of another bit depth.
_FAR, _NARROW = 4.0, 128.0
#: Rows and columns that the middle value of an image is looked for in.
_LOOKED_AT = 512


@dataclass(frozen=True)
class Reading:
    """How images are read, every number known; the same for training, scoring and prediction.

    Attributes:
        samples: Name of the type of their samples, for example ``"uint16"``.
        stored: How many bands a file has.
        bands: Which of them are read, from 1; empty for all, but for an alpha.
        page: Which page, from 1.
        black: Of each band that is read, the stored value that becomes 0.
        white: The stored value that becomes 255.
        scale: As it was asked for; None for samples of 8 bits as they are.
        images: How many images it was measured on.
    """

    samples: str
    stored: int
    bands: tuple[int, ...]
    page: int
    black: tuple[float, ...]
    white: tuple[float, ...]
    scale: str | None = None
    images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As it stands in files."""
        plain = asdict(self)
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()
        }

    @classmethod
    def of(cls, stored: Any, name: object = "the model") -> Reading:
        """A reading as it stands in a file.

        Raises:
            UserError: It is none.
        """
        try:
            reading = cls(
                str(np.dtype(stored["samples"]).name),
                int(stored["stored"]),
                tuple(map(int, stored["bands"])),
                int(stored["page"]),
                tuple(map(float, stored["black"])),
                tuple(map(float, stored["white"])),
                stored.get("scale"),
                int(stored.get("images", 0)),
            )
            pairs = list(zip(reading.black, reading.white, strict=True))
            sound = all(math.isfinite(w - b) and b < w for b, w in pairs) and len(pairs) in (1, 3)
            sound = sound and reading.page >= 1 and all(band >= 1 for band in reading.bands)
            if not sound or len(reading.bands) not in (0, len(pairs)):
                raise ValueError("numbers that do not go together")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{name}: what it says of how its images are read is damaged ({error}): copy it "
                "again"
            ) from error
        return reading

    def __str__(self) -> str:
        bands = ",".join(map(str, self.bands)) or "all"
        spans = "; ".join(
            f"{low:g} to {high:g}" for low, high in zip(self.black, self.white, strict=True)
        )
        page = "" if self.page == 1 else f", page {self.page}"
        asked = "" if self.scale is None else f" ({self.scale})"
        return (
            f"{_bands(self.stored)} of {self.samples}, of which {bands}{page}, black and white at "
            f"{spans}{asked}"
        )

    def check(self, samples: str, stored: int) -> None:
        """Refuses samples of another kind than those that it was measured on.

        Args:
            samples: Name of their type.
            stored: How many bands their file has.

        Raises:
            UnclearPixels: Another type of samples, or another number of bands.
        """
        if (samples, stored) != (self.samples, self.stored):
            raise UnclearPixels(
                f"it has {_bands(stored)} of {samples}, but the images that the scale "
                f"is of have {_bands(self.stored)} of {self.samples}: give images of that kind, or "
                "train with a scale of these"
            )

    def apply(self, samples: Samples) -> Decoded:
        """Makes 8-bit RGB of samples.

        A value v becomes round(255 (v - black) / (white - black)), at least 0 and at most 255;
        what is not a number becomes 0, and what an alpha leaves open becomes white.

        Args:
            samples: Of one page; values of the bands that are read.

        Raises:
            UnclearPixels: They are evidently of another kind (see `check`), or nearly all of their
                values lie far beyond the scale or in a small part of it.
        """
        self.check(samples.dtype, samples.stored)
        values = samples.values
        if values.shape[2] != len(self.black):
            raise UnclearPixels(f"it has {_bands(values.shape[2])} that are read, not "
                                f"{len(self.black)}")  # fmt: skip
        count = values.size
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not finite.size:
            raise UnclearPixels("all of its values are NaN or infinite: there is nothing to read")
        self._check_range(values)
        outside = self.outside(values)
        pixels = self.scaled(values)
        if samples.alpha is not None:
            share = samples.alpha[..., None]
            pixels = np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)
        form = f"{samples.stored}-band {samples.dtype}"
        notes = list(self._notes(samples, count - finite.size))
        return Decoded(
            np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels,
            form,
            (float(finite.min()), float(finite.max())),
            tuple(notes),
            outside,
            count,
        )

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Stored values (h, w, C) to uint8 of the same shape; see `apply`."""
        if values.dtype.itemsize <= 2 and values.dtype.kind in "ui":
            return self._by_table(values)
        scaled = np.empty(values.shape, np.uint8)
        rows = max(1, _AT_ONCE // max(1, values.shape[1]))
        for top in range(0, len(values), rows):
            scaled[top : top + rows] = self._levels(values[top : top + rows])
        return scaled

    def outside(self, values: np.ndarray) -> int:
        """How many values are below black, above white or not a number."""
        black, white = (np.asarray(each) for each in (self.black, self.white))
        inside = 0
        rows = max(1, _AT_ONCE // max(1, values.shape[1]))
        for top in range(0, len(values), rows):
            part = values[top : top + rows]
            inside += int(((part >= black) & (part <= white)).sum())
        return values.size - inside

    def _by_table(self, values: np.ndarray) -> np.ndarray:
        info = np.iinfo(values.dtype)
        every = np.arange(info.min, info.max + 1)
        table = self._levels(np.repeat(every[:, None], len(self.black), axis=1)[:, None])[:, 0]
        scaled = np.empty(values.shape, np.uint8)
        for band in range(values.shape[2]):
            scaled[..., band] = table[:, band][values[..., band].astype(np.int64) - info.min]
        return scaled

    def _levels(self, values: np.ndarray) -> np.ndarray:
        black, white = np.asarray(self.black), np.asarray(self.white)
        with np.errstate(invalid="ignore", over="ignore"):
            levels = np.rint((values.astype(np.float64) - black) * (255.0 / (white - black)))
        return np.nan_to_num(np.clip(levels, 0, 255), nan=0.0).astype(np.uint8)

    def _check_range(self, values: np.ndarray) -> None:
        """Refuses an image whose values cannot be of the scale."""
        if self.scale is None:
            return
        far, narrow = True, True
        for band, (black, white) in enumerate(zip(self.black, self.white, strict=True)):
            values_of_band = values[..., band]
            finite = values_of_band[np.isfinite(values_of_band)]
            # No data: the least value, such as the 0 around a satellite's swath, is no evidence.
            if not finite.size or finite.min() == finite.max():
                return
            steps = tuple(-(-side // _LOOKED_AT) for side in values_of_band.shape)
            part = values_of_band[:: steps[0], :: steps[1]]
            part = part[np.isfinite(part) & (part > finite.min())].astype(np.float64)
            far = far and part.size > 0 and np.median(part) > black + _FAR * (white - black)
            narrow = narrow and float(finite.max()) < black + (white - black) / _NARROW
        if far or narrow:
            finite = values[np.isfinite(values)]
            spans = ", ".join(
                f"{low:g} to {high:g}" for low, high in zip(self.black, self.white, strict=True)
            )
            raise UnclearPixels(
                f"its values from {finite.min():g} to {finite.max():g} do not fit the scale of "
                f"{spans}: they are of another bit depth or unit; give images of the kind that the "
                "scale is of, or train with a scale of these"
            )

    def _notes(self, samples: Samples, broken: int) -> Sequence[str]:
        notes = []
        if samples.pages > 1:
            notes.append(f"page {self.page} alone is read")
        if self.bands and samples.alpha_band is not None:
            notes.append("its alpha is not applied, since bands are chosen")
        if broken:
            notes.append("NaN and -infinity become black, +infinity white")
        return notes


def reading_of(settings: Mapping[str, Any]) -> Reading | None:
    """The reading of a training, from the settings of its run; None of 8-bit RGB."""
    measured = settings.get("DATASET", {}).get("measured")
    return None if measured is None else Reading.of(measured, "the settings of the training")


def _bands(count: int) -> str:
    return "one band" if count == 1 else f"{count} bands"
