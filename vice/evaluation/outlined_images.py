"""Images whose outlines people drew: where they lie."""

from __future__ import annotations

from pathlib import Path

from vice.errors import UserError
from vice.images import list_images
from vice.nearest import near_path


def require_images(folder: str | Path, split: str) -> list[Path]:
    """The images of a split of a folder of annotations.

    Raises:
        UserError: There is no such split, or it has no image.
    """
    folder = Path(folder)
    home = folder / "images" / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder{near_path(folder, 'check the path')}")
    if not home.is_dir():
        splits = sorted(path.name for path in home.parent.glob("*") if path.is_dir())
        found = f"; its splits are {', '.join(splits)}" if splits else ""
        raise UserError(f"{folder}: no folder images/{split}{found}")
    return list_images(home)
