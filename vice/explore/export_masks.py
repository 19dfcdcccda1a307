"""From a folder that `vice segment` wrote to the format of another program."""

from __future__ import annotations

from pathlib import Path

from vice.errors import UserError
from vice.explore.mask_formats import FORMATS
from vice.explore.written_masks import open_written


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
    return FORMATS[form](open_written(source, least), out)
