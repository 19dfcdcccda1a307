"""How many images something was passed over or converted in, while they were read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class NoteCounts:
    """Counts over images; may be counted by several threads.

    Attributes:
        images: Name of an image to its notes, as of `vice.images.pixel_formats.Decoded.notes`;
            those without any are left out.
    """

    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, image: object, notes: Iterable[str]) -> None:
        """Counts what was noted of an image, however often it is read."""
        if found := tuple(notes):
            with self._lock:
                self.images[str(image)] = found

    def of(self, image: object) -> tuple[str, ...]:
        """What was noted of an image."""
        return self.images.get(str(image), ())

    def describe(self) -> dict[str, int]:
        """Each note and its number of images, for a file."""
        return dict(Counter(note for each in self.images.values() for note in each).most_common())

    def __str__(self) -> str:
        return "; ".join(f"{note} ({count})" for note, count in self.describe().items())
