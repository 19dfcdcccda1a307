"""``summary.csv``: a line for each image, kept on the disk while it grows.

Names stand in it as `vice.names.printable` shows them, and `vice.names.find_shown` finds the files.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vice.names import printable
from vice.runtime.files import disk_errors, replace_atomically

#: What stands before the shares, and the share of pixels whose concept was dropped.
_COLUMNS, _DROPPED = ("image", "mask", "height", "width"), "dropped"


def images_of_masks(path: Path) -> list[tuple[str, str]]:
    """Image and mask of each line of a table, as it shows them; none where there is no table.

    Raises:
        UserError: It cannot be read.
    """
    if not path.exists():
        return []
    with (
        disk_errors(path, any_os_error=True),
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        # By place: concepts may be called as these columns are.
        return [(row[0], row[1]) for row in list(csv.reader(file))[1:] if len(row) > 1]


class SummaryTable:
    """Takes lines, and writes the table when its block ends, however that ends.

    Nothing is written where there is no line.

    Args:
        path: The table.
        names: Of the concepts; one that another column is called gets " (concept)" behind it.
        void: Whether pixels may belong to none; their share stands last.
    """

    def __init__(self, path: Path, names: Sequence[str], *, void: bool) -> None:
        self.path = path
        last = [_DROPPED] * void
        self.titles = [*_COLUMNS, *_told_apart(names, (*_COLUMNS, *last)), *last]
        self.rows = 0

    def __enter__(self) -> SummaryTable:
        with disk_errors(self.path, any_os_error=True):
            # Without a name: nothing is left of a process that is killed.
            self._file = tempfile.TemporaryFile(
                "w+", encoding="utf-8", errors="surrogateescape", newline="", dir=self.path.parent
            )
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self.titles)
        return self

    def add(self, image: str, mask: Path, size: Sequence[int], shares: Sequence[Any]) -> None:
        """Adds a line.

        Args:
            image: Path of the image.
            mask: Name of its mask.
            size: (H, W).
            shares: Of the pixels, those of the concepts and, where there is one, the void's.
        """
        with disk_errors(self.path, any_os_error=True):
            names = printable(image), printable(str(mask))
            self._writer.writerow([*names, *size, *(f"{share:.6g}" for share in shares)])
        self.rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if self.rows:
                replace_atomically(self.path, self._copy)

    def _copy(self, new: str) -> None:
        self._file.seek(0)
        with open(new, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            shutil.copyfileobj(self._file, file)


def _told_apart(names: Sequence[str], others: Collection[str]) -> list[str]:
    """Titles of concepts, none of which is that of another column."""
    found = []
    for name in names:
        title = name
        while title in others or (title != name and title in names):
            title += " (concept)"
        found.append(title)
    return found
