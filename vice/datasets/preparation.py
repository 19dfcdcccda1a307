"""From the official archives to the folders that training reads."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vice.errors import UserError
from vice.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A folder of training images and the archive it comes from.

    Attributes:
        folder: Where the images lie below the root.
        archive: File name of the official archive.
        inside: Folder of the images inside the archive, and in its extracted form.
        images: Number of images in the official release.
        site: Where the archive is to be had.
    """

    folder: str
    archive: str
    inside: str
    images: int
    site: str


PARTS = {
    "coco27": Part("images/train2017", "train2017.zip", "train2017", 118_287, "cocodataset.org"),
    "cityscapes": Part(
        "leftImg8bit/train",
        "leftImg8bit_trainvaltest.zip",
        "leftImg8bit/train",
        2_975,
        "cityscapes-dataset.com",
    ),
}


def prepare(name: str, root: Path, source: Path | None = None) -> int:
    """Puts the training images of a data set under ``root``, by link or from the archive.

    Nothing is copied when ``source`` holds the extracted images: a link is made. An archive is
    unpacked file by file; files that are there already, whole, are kept, so that a stopped call
    can be repeated.

    Args:
        name: One of ``PARTS``.
        root: The data set's folder, ``config.VICE.DATASET.root`` plus its name.
        source: Folder that holds the archive or its extracted form; None looks in ``root``.

    Returns:
        Number of images in place.

    Raises:
        UserError: Unknown name, nothing found, a corrupt archive, or images missing afterwards.
    """
    if name not in PARTS:
        raise UserError(f"data set {name!r} is unknown; choose one of {', '.join(PARTS)}")
    part = PARTS[name]
    target = root / part.folder
    source = source or root
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
    archive = source / part.archive
    extracted = source / part.inside
    if archive.is_file():
        _unpack(archive, part.inside, target)
    elif not target.exists() and extracted.is_dir():
        os.symlink(extracted.resolve(), target, target_is_directory=True)
        logger.info("%s links to %s", target, extracted)
    elif not target.exists():
        raise UserError(
            f"neither {archive} nor {extracted} exists: download {part.archive} from {part.site} "
            "and name its folder with --source"
        )
    return _verify(part, target)


def _unpack(archive: Path, inside: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [
                item
                for item in opened.infolist()
                if item.filename.startswith(f"{inside}/") and not item.is_dir()
            ]
            for item in progress(members, len(members), f"unpacking {archive.name}"):
                file = target / item.filename[len(inside) + 1 :]
                if file.exists() and file.stat().st_size == item.file_size:
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name(f"{file.name}.part")
                with opened.open(item) as reader, part.open("wb") as writer:
                    shutil.copyfileobj(reader, writer)
                os.replace(part, file)
    except zipfile.BadZipFile as error:
        raise UserError(f"{archive} is corrupt ({error}); download it again") from error


def _verify(part: Part, target: Path) -> int:
    suffixes = {".jpg", ".png"}
    found = sum(file.suffix.lower() in suffixes for file in target.rglob("*"))
    if found < part.images:
        raise UserError(
            f"{target} holds {found} images, the official release has {part.images}: repeat the "
            f"call with the whole {part.archive}"
        )
    return found
