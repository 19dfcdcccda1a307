"""How many values of images lie outside of the scale that is stated for them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Clipping:
    """Counts over images that are read by a scale; may be counted by several threads.

    Attributes:
        images: How many images were read.
        values: How many values they have, of the bands that are read.
        outside: How many of these are below black, above white or no number, and are clipped.
    """

    images: int = 0
    values: int = 0
    outside: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, outside: int, values: int) -> None:
        """Counts an image."""
        with self._lock:
            self.images += 1
            self.outside += outside
            self.values += values

    @property
    def share(self) -> float:
        """Share of the values that are clipped."""
        return self.outside / max(1, self.values)

    def describe(self) -> dict[str, int]:
        """The counts by name, for a file."""
        return {"images": self.images, "values": self.values, "outside": self.outside}

    def __str__(self) -> str:
        return (
            f"{self.outside} of {self.values} values of {self.images} images "
            f"({100 * self.share:.2g} %) lie outside of the scale and are clipped"
        )
