"""How much of the disk a folder of results will take, from the first of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from vice.errors import UserError
from vice.runtime.amounts import in_words

logger = logging.getLogger(__name__)


class DiskEstimate:
    """Says once what all results will take, and refuses what the disk cannot take.

    Args:
        folder: Where they are written.
        images: How many images there are.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        self.images = images
        self.said = False

    def wrote(self, files: Iterable[Path | None]) -> None:
        """Takes the files of the first image that results are written of; later ones do not count.

        Args:
            files: Files, or folders of them; None for what was not written.

        Raises:
            UserError: So many do not fit.
        """
        if self.said:
            return
        self.said = True
        size = sum(_size(file) for file in files if file is not None)
        needed = size * self.images
        free = shutil.disk_usage(self.folder).free
        if self.images > 1:
            logger.info(
                "about %s for %d images, as the first one takes %s; %s are free",
                in_words(needed), self.images, in_words(size), in_words(free),
            )  # fmt: skip
        if needed - size > free:
            raise UserError(
                f"{self.images} images take about {in_words(needed)} in {self.folder}, where "
                f"{in_words(free)} are free: free some space, or choose another folder"
            )


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
