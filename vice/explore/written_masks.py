"""The output folder of `vice segment`, opened again."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePath

import numpy as np

from vice.datasets.split_files import name_some
from vice.errors import UserError
from vice.explore.mask_files import read_mask
from vice.explore.mask_formats import Masks
from vice.explore.mask_way import MASKS
from vice.explore.segment_folder import LEFT, RECORD, SUMMARY
from vice.explore.summary_table import images_of_masks
from vice.names import find_shown, printable
from vice.nearest import near_path
from vice.runtime.files import read_json

logger = logging.getLogger(__name__)
_REMEDY = "run vice segment again"


def open_written(source: Path, least: int = 1) -> Masks:
    """Finds the masks of a folder, and what they hold.

    Args:
        source: What `vice segment` was given as ``--out``.
        least: As in `vice.explore.mask_formats.Masks`.

    Raises:
        UserError: There are no finished masks.
    """
    if not os.path.isdir(source):
        near = near_path(source, "give what vice segment had as --out")
        raise UserError(f"{source}: no such folder{near}")
    record = read_json(source / RECORD, _REMEDY) if (source / RECORD).exists() else {}
    names, table = record.get("names"), source / SUMMARY
    if not isinstance(names, list) or not table.is_file():
        raise UserError(f"{source} holds no finished masks of vice segment: {_REMEDY}")
    if record.get(LEFT):
        logger.warning(
            "%s lacks the masks of %s images, which vice segment was stopped before: the same "
            "command goes on",
            printable(str(source)),
            record[LEFT],
        )
    rows = images_of_masks(table)
    images = [find_shown(image) for image, _ in rows]
    places = (find_shown(str(source / MASKS / file)) for _, file in rows)
    files = [os.path.relpath(place, source / MASKS) for place in places]
    there = {str(path.relative_to(source / MASKS)) for path in (source / MASKS).rglob("*.png")}
    if others := sorted(there - set(files)):
        logger.warning(
            "%s: %d masks are in no line of %s, and left out: %s",
            printable(str(source)), len(others), SUMMARY, name_some(others),
        )  # fmt: skip
    colors = record.get("colors")
    if colors is not None:
        colors = np.array(colors, np.uint8)
    return Masks(source / MASKS, files, images, names, least, colors, record.get("void"))


class MasksByImage:
    """Finds the mask of an image.

    An image is known by its path; where the masks were made from another folder, on another machine
    say, by the end of the path that both share: its folder's name and its own.

    Args:
        masks: The masks.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self._by_path: dict[str, str] = {}
        self._by_end: dict[tuple[str, ...], list[str]] = {}
        for image, file in zip(masks.images, masks.files, strict=True):
            # The image may be elsewhere by now, and the table shows names otherwise.
            shown = printable(image)
            self._by_path[os.path.abspath(shown)] = file
            self._by_end.setdefault(PurePath(shown).parts[-2:], []).append(file)

    def read(self, image: Path) -> np.ndarray:
        """The mask of an image, (H, W) int64.

        Raises:
            UserError: There is none, there are several, or it cannot be read.
        """
        path = printable(os.path.abspath(image))
        found = self._by_path.get(path)
        if found is None:
            ends = self._by_end.get(PurePath(path).parts[-2:], [])
            if len(ends) != 1:
                what = f"{len(ends)} masks that could be of" if ends else "no mask of"
                raise UserError(
                    f"{self.masks.folder.parent}: {what} {path}; run vice segment over the images "
                    "of this split alone"
                )
            found = ends[0]
        return read_mask(self.masks.folder / found)
