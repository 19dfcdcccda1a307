"""Images whose outlines people drew: where they lie."""

from __future__ import annotations

import logging
from pathlib import Path

from vice.datasets.label_files import check_same_size, geometry
from vice.datasets.split_files import name_some
from vice.errors import UserError
from vice.images import list_images
from vice.images.lists import announce, survey
from vice.nearest import near_path

logger = logging.getLogger(__name__)


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


def require_annotations(folder: str | Path, split: str) -> None:
    """Says what lies in a split, each image of which must have annotations, by names and sizes.

    Raises:
        UserError: An image has none or one of another size, or as of `require_images`.
    """
    images = require_images(folder, split)
    announce(survey(Path(folder, "images", split)))
    home = Path(folder, "labels", split)
    drawn = annotation_files(folder, split)
    stems = {path.stem for path in images}
    if missing := sorted(stems - set(drawn)):
        raise UserError(
            f"{home}: no NAME_ANNOTATOR.png, the map of segments that a person drew, of "
            f"{name_some(missing)}: add them, or take these images out (labels of classes are "
            "scored by vice score)"
        )
    for path in images:
        for file in drawn[path.stem]:
            _check_size(path, file)
    if others := [file.name for stem in sorted(set(drawn) - stems) for file in drawn[stem]]:
        logger.warning(
            "%s: %d files are of no image of %s, and left out: %s",
            home, len(others), split, name_some(others),
        )  # fmt: skip


def annotation_files(folder: str | Path, split: str) -> dict[str, list[Path]]:
    """Stem of each image that somebody drew outlines of to the files of them, by name."""
    drawn: dict[str, list[Path]] = {}
    for file in sorted(Path(folder, "labels", split).glob("*.png")):
        drawn.setdefault(file.stem.rpartition("_")[0], []).append(file)
    return drawn


def _check_size(image: Path, annotation: Path) -> None:
    try:
        size, drawn = (geometry(path).upright for path in (image, annotation))
    except UserError:
        # Whoever reads it says what is wrong with it.
        return
    check_same_size(image, annotation, size, drawn)
