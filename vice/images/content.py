"""Whether the images that a training sees hold anything, and not all the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from vice.images.fingerprints import Fingerprint, count_duplicates
from vice.images.survey import content_warnings

logger = logging.getLogger(__name__)

#: Images whose fingerprints are kept; half a kilobyte each.
MOST_KEPT = 250_000


class Content:
    """Counts images of one colour and repetitions while they come; memory is bounded.

    Only the images of this process are seen: of several ranks, each sees its share.
    """

    def __init__(self) -> None:
        self._prints: dict[int, Fingerprint] = {}
        self._exact: set[int] = set()
        self._flat = 0
        self._warned = False

    def add(self, content: Iterable[tuple[int, Fingerprint]]) -> None:
        """Takes images in.

        Args:
            content: Position in the list of images and fingerprint; a position that came before
                is passed over.
        """
        for position, fingerprint in content:
            if position in self._prints or len(self._prints) >= MOST_KEPT:
                continue
            self._prints[position] = fingerprint
            self._exact.add(fingerprint.exact)
            self._flat += fingerprint.flat

    def record(self) -> dict[str, float]:
        """``seen_images``, and of these ``flat_share`` (of one colour) and ``different_share``."""
        seen = len(self._prints)
        return {
            "seen_images": seen,
            "flat_share": self._flat / max(seen, 1),
            "different_share": len(self._exact) / seen if seen else 1.0,
        }

    def warn(self) -> None:
        """Logs once what the images that have come hold, and warns if it is too little."""
        if self._warned or not self._prints:
            return
        self._warned = True
        duplicates = count_duplicates(list(self._prints.values()))
        logger.info(
            "content: %d images seen, %d of one colour, %d equal to others, %d near duplicates",
            duplicates.images, duplicates.flat, duplicates.repeated, duplicates.near,
        )  # fmt: skip
        for warning in content_warnings(duplicates):
            logger.warning("ALARM: %s", warning)
