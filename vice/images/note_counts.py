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
        images: Note, as of `vice.images.pixel_formats.Decoded.notes`, to the number of images.
    """

    images: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, notes: Iterable[str]) -> None:
        """Counts what was noted of an image."""
        with self._lock:
            self.images.update(notes)

    def describe(self) -> dict[str, int]:
        """The counts, for a file."""
        return dict(self.images.most_common())

    def __str__(self) -> str:
        said = [f"{note} ({count})" for note, count in self.images.most_common()]
        return "; ".join(said)
