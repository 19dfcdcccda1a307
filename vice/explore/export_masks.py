"""From a folder that `vice segment` wrote to the format of another program."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.explore.mask_formats import FORMATS, Masks
from vice.explore.segment_folder import MASKS, RECORD, SUMMARY
from vice.runtime.files import read_json

_REMEDY = "run vice segment again"


def export_masks(source: Path, out: Path, form: str, *, least: int = 1) -> str:
    """Writes the masks of a folder in another format.

    Args:
        source: What `vice segment` was given as ``--out``.
        out: A new folder.
        form: A key of `vice.explore.mask_formats.FORMATS`.
        least: Connected parts of fewer pixels are given to what lies around them.

    Returns:
        What was written, for the user.

    Raises:
        UserError: No masks there, the output folder holds something, or a package is missing.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another output folder")
    record = read_json(source / RECORD, _REMEDY) if (source / RECORD).exists() else {}
    names, table = record.get("names"), source / SUMMARY
    if not isinstance(names, list) or not table.is_file():
        raise UserError(f"{source} holds no finished masks of vice segment: {_REMEDY}")
    with table.open(encoding="utf-8", newline="") as file:
        # By place: concepts may be called as these columns are.
        rows = list(csv.reader(file))[1:]
    images, files = ([row[column] for row in rows] for column in (0, 1))
    colors = record.get("colors")
    if colors is not None:
        colors = np.array(colors, np.uint8)
    masks = Masks(source / MASKS, files, images, names, least, colors, record.get("void"))
    return FORMATS[form](masks, out)
