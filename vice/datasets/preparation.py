"""From the official archives to the folders that training and scoring read.

Images and label maps stay as published, by link where they lie unpacked already (only SBD's masks,
which are MATLAB files, are converted: `vice.datasets.voc_preparation`), and label values get their
meaning when they are read (`vice.datasets.label_sets`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vice.datasets import ade20k, curated, open_release
from vice.datasets.archives import Extract, in_threads, unpack
from vice.datasets.label_counts import count_labels
from vice.datasets.releases import RELEASES, SCORING, TRAINING, ReleasePart
from vice.datasets.split_files import name_some
from vice.datasets.voc import AUGMENTED
from vice.datasets.voc_preparation import check_lists, make_trainaug
from vice.errors import UserError
from vice.images.lists import Contents, announce
from vice.nearest import did_you_mean, near_path
from vice.runtime.files import link, make_folder, replace_atomically

logger = logging.getLogger(__name__)
#: Images of Cityscapes that PiCIE trains on, where they are there.
_UNLABELLED = ("leftImg8bit/test", "leftImg8bit/train_extra")
#: How a whole file of each kind ends, somewhere in its last bytes.
_TAIL = 1024
_ENDS = {".jpg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}


def prepare(
    name: str,
    root: Path,
    source: Path | None = None,
    *,
    lists: Path | None = None,
    purpose: str = SCORING,
    threads: int = 8,
) -> list[str]:
    """Puts a data set under ``root``, by links or out of its archives, and verifies it.

    What is in place and whole is kept, so a stopped call can be repeated. Parts that are found are
    prepared even when others are missing; all that is missing is named at the end.

    Args:
        name: One of ``RELEASES``.
        root: The data set's folder.
        source: Folder that holds the archives or what was unpacked from them; None looks in
            ``root``.
        lists: COCO only: folder with the curated lists, anywhere below it; None looks in
            ``source``.
        purpose: ``"training"`` needs the train images alone, ``"scoring"`` everything.
        threads: How many files are unpacked or verified at a time.

    Returns:
        A line about each part in place.

    Raises:
        UserError: Unknown name; or, after all else is done, what is missing, incomplete or
            corrupt.
    """
    if name not in RELEASES:
        near = did_you_mean(name, RELEASES, f"choose one of {', '.join(RELEASES)}")
        raise UserError(f"data set {name!r} is unknown{near}")
    for folder, option in ((source, "--source"), (lists, "--lists")):
        if folder is not None and not folder.is_dir():
            near = near_path(folder, "check the path")
            raise UserError(f"{option} {folder}: no such folder{near}")
    source = source or root
    _announce(name, source)
    wanted = (TRAINING,) if purpose == TRAINING else (TRAINING, SCORING)
    done: list[str] = []
    wrong: list[str] = []
    missing: list[ReleasePart] = []
    for part in RELEASES[name]:
        if purpose == TRAINING and part.purpose != TRAINING:
            continue
        try:
            if _place(part, root, source, threads):
                done.append(_verify(part, root / part.folder, threads))
            elif part.purpose in wanted:
                missing.append(part)
        except UserError as error:
            wrong.append(str(error))
    wrong = [*_how_to_get(missing, root, source), *wrong]
    if purpose != TRAINING:
        for step in _last_steps(name, root, source, lists or source, threads, whole=not wrong):
            try:
                done.append(step())
            except UserError as error:
                wrong.append(str(error))
    for line in done:
        logger.info("%s", line)
    if wrong:
        raise UserError("; ".join(wrong))
    return done


def _last_steps(
    name: str, root: Path, source: Path, lists: Path, threads: int, *, whole: bool
) -> list[Callable[[], str]]:
    """What is done once the parts of a release are in place; each gives a line about it."""
    if name == "coco27":
        return [partial(_place_list, split, root, lists) for split in curated.CURATED]
    if name == "cityscapes" and all((root / folder).is_dir() for folder in _UNLABELLED):
        return [partial(_list_unlabelled, root)]
    splits = {"voc21": ("train", "val"), "ade150": tuple(ade20k.SPLITS)}.get(name, ())
    if not whole or not splits:
        return []
    steps = [partial(_read_labels, name, root, split, threads) for split in splits]
    if name == "voc21":
        return [partial(check_lists, root), *steps, partial(make_trainaug, root, source, threads)]
    return [*steps]


def _read_labels(name: str, root: Path, split: str, threads: int) -> str:
    return count_labels(open_release(name, root), split, threads).line()


def _list_unlabelled(root: Path) -> str:
    """Writes the list of the images that PiCIE trains on."""
    target = curated.TRAINED_ON["cityscapes"]
    count = curated.write_image_list(root, _UNLABELLED, "_leftImg8bit.png", target)
    return f"{root / target}: {count} images of {' and '.join(_UNLABELLED)}"


def _announce(name: str, source: Path) -> None:
    """Says which of a release's archives, or of the folders out of them, lie in the source."""
    if not source.is_dir():
        return
    wanted = {part.archive for part in RELEASES[name]}
    wanted |= {Path(f).parts[0] for part in RELEASES[name] for f in (part.folder, *part.extracted)}
    if name == "voc21":
        wanted |= {AUGMENTED, f"{AUGMENTED}.zip"}
    contents = Contents(source, "archives and folders of the release")
    for entry in sorted(source.iterdir()):
        if entry.name in wanted:
            contents.used[entry.name] += 1
        elif entry.is_dir():
            contents.inner.append(entry.name)
        else:
            contents.take(entry.name, ())
    announce(contents)


def _place(part: ReleasePart, root: Path, source: Path, threads: int) -> bool:
    """Makes a part's folder; False where nothing to make it of is found."""
    target, archive = root / part.folder, source / part.archive
    if not target.is_symlink() and archive.is_file():
        unpack(Extract(archive, part.inside, part.ending, target), threads)
    elif part.copied or not target.exists():
        for unpacked in (source / folder for folder in part.extracted):
            if next(unpacked.glob(f"**/*{part.ending}"), None) is not None:
                make_folder(target.parent)
                if part.copied:
                    _copy(unpacked, target, part.ending)
                else:
                    link(target, unpacked.resolve())
                    logger.info("%s links to %s", target, unpacked)
                break
    return target.is_dir()


def _copy(folder: Path, target: Path, ending: str) -> None:
    make_folder(target)
    for file in sorted(folder.glob(f"*{ending}")):
        there = target / file.name
        if not there.is_file() or there.read_bytes() != file.read_bytes():
            replace_atomically(there, partial(shutil.copyfile, file))


def _how_to_get(missing: Sequence[ReleasePart], root: Path, source: Path) -> list[str]:
    """A sentence for each site that archives are to be had from."""
    sentences = []
    for site in dict.fromkeys(part.site for part in missing):
        parts = [part for part in missing if part.site == site]
        archives = list(dict.fromkeys(part.archive for part in parts))
        folders = ", ".join(part.folder for part in parts)
        sentences.append(
            f"{root} lacks {folders}: download {', '.join(archives)} from {site} into {source} "
            "(or name with --source the folder that holds them or what was unpacked from them)"
        )
    return sentences


def _verify(part: ReleasePart, target: Path, threads: int) -> str:
    """Counts the files of a part and looks whether each is whole.

    Returns:
        A line about it.

    Raises:
        UserError: Files are missing or cut off.
    """
    files = sorted(target.glob(f"**/*{part.ending}"))
    whole = in_threads(_is_whole, files, f"verifying {part.folder}", threads)
    broken = [file for file, good in zip(files, whole, strict=True) if not good]
    if broken:
        raise UserError(
            f"{len(broken)} files of {target} are cut off: {name_some(broken)}; delete them and "
            f"repeat the call with the whole {part.archive}"
        )
    if len(files) < part.files:
        raise UserError(
            f"{target} holds {len(files)} files *{part.ending}, the official release has "
            f"{part.files}: repeat the call with the whole {part.archive}"
        )
    return f"{target}: {len(files)} files"


def _is_whole(file: Path) -> bool:
    """Whether a file ends as its format says; a download or a copy that stopped does not."""
    end = _ENDS.get(file.suffix, b"")
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        # Trailing bytes: some writers add zeros or notes of their own behind the end.
        opened.seek(max(0, size - _TAIL))
        return size > 0 and end in opened.read()


def _place_list(split: str, root: Path, folder: Path) -> str:
    """Finds a curated list by its content, writes it where scoring reads it, and checks it.

    Raises:
        UserError: It is nowhere below the folder, or the list in place is not the published one.
    """
    known = curated.CURATED[split]
    target = root / known.file
    if not target.is_file():
        for file in sorted(folder.glob(f"**/*{curated.PUBLISHED_NAME}")):
            ids = curated.read_ids(file)
            if curated.is_published(ids, split):
                curated.write_list(target, ids)
                break
    ids = curated.read_list(root, split)
    lost = [name for name in ids if not (root / "images" / f"{split}2017" / f"{name}.jpg").exists()]
    if lost:
        raise UserError(f"{len(lost)} listed images of {split}2017 are missing: {name_some(lost)}")
    if split == "train":
        curated.write_id_list(root, split, ids, curated.TRAINED_ON["coco27"])
    return f"{target}: {len(ids)} ids, SHA-256 {known.checksum[:12]}"
