"""From a folder that `vice segment` wrote to the format of another program."""

from __future__ import annotations

import shutil
from pathlib import Path

from vice.errors import UserError
from vice.explore.mask_formats import FORMATS
from vice.explore.written_masks import open_written
from vice.runtime.files import disk_errors, make_folder
from vice.runtime.folder_lock import sole_writer


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
    check_empty(out)
    masks = open_written(source, least)
    # Beside its place: what is stopped leaves no folder that looks whole, and can be done again.
    out = out.absolute()
    part = out.with_name(f"{out.name}.part")
    with sole_writer(part), disk_errors(part, any_os_error=True):
        try:
            check_empty(out)
            shutil.rmtree(part / "made", ignore_errors=True)
            said = FORMATS[form](masks, part / "made")
            make_folder(out)
            for entry in (part / "made").iterdir():
                entry.rename(out / entry.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return said


def check_empty(out: Path) -> None:
    """Raises a `UserError` where a folder holds something."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another output folder")
