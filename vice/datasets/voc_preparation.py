"""PASCAL VOC's lists, and its split trainaug out of the masks of SBD."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vice.datasets import open_release
from vice.datasets.archives import Extract, in_threads, unpack
from vice.datasets.curated import TRAINED_ON
from vice.datasets.label_counts import count_labels
from vice.datasets.label_sets import label_set
from vice.datasets.releases import SBD
from vice.datasets.split_files import name_some
from vice.datasets.voc import (
    AUGMENTED,
    IMAGES,
    OFFICIAL,
    SPLITS,
    list_path,
    palette,
    read_ids,
    read_split,
)
from vice.errors import UserError
from vice.runtime.files import link, make_folder, replace_atomically, write_text


def check_lists(root: Path) -> str:
    """Looks at the official lists: how long they are, and that trainval is train and val.

    Args:
        root: The data set's folder.

    Returns:
        A line about them.

    Raises:
        UserError: A list is missing or not the official one.
    """
    lists = {name: read_split(root, name) for name in ("train", "val", "trainval")}
    if sorted(lists["train"] + lists["val"]) != lists["trainval"]:
        raise UserError(
            f"{list_path(root, 'trainval')}: not the ids of train.txt and val.txt together, as in "
            "the release; unpack its lists again"
        )
    counts = ", ".join(f"{name} {len(ids)}" for name, ids in lists.items())
    return f"{list_path(root, 'train').parent}: ids of {counts}"


def make_trainaug(root: Path, source: Path, threads: int) -> str:
    """Makes list and masks of trainaug: train and all that SBD has labelled, without val.

    Masks of a ``SegmentationClassAug`` that was handed around are taken as they are. Without one,
    images of train have their official mask, and the others that of SBD's ``cls/<id>.mat``.

    Args:
        root: The data set's folder; its parts are in place.
        source: Folder of ``SegmentationClassAug`` or ``SegmentationClassAug.zip``, if any.
        threads: How many files are written or read at a time.

    Returns:
        A line about it, with how many masks of SBD have pixels of 255; they differ between the
        versions that are handed around. Or that it was left out, for want of SBD.

    Raises:
        UserError: SBD is not whole, scipy is missing, or a mask is wrong.
    """
    given = _given(root, source, threads)
    mats = {file.stem: file for file in (root / SBD.folder).glob("*.mat")}
    if not given and not mats:
        return (
            f"voc21 trainaug is left out: {source} holds neither {AUGMENTED}, {AUGMENTED}.zip nor "
            f"SBD ({SBD.archive}, from {SBD.site})"
        )
    train = set(read_split(root, "train"))
    ids = sorted((train | set(given) | set(mats)) - set(read_split(root, "val")))
    _check_ids(root, ids)
    official = {name: root / OFFICIAL / f"{name}.png" for name in train}
    _fill(root / AUGMENTED, ids, given, official, mats, threads)
    path = list_path(root, "trainaug")
    if not path.is_file():
        write_text(path, "".join(f"{name}\n" for name in ids))
    # What is trained on: files, not ids.
    images = "".join(f"../{IMAGES}/{name}.jpg\n" for name in ids)
    write_text(root / TRAINED_ON["voc21"], images)
    counts = count_labels(open_release("voc21", root), "trainaug", threads)
    beside = len(ids) - len(train)
    return (
        f"{counts.line()}; of the {beside} masks of SBD beside train, "
        f"{len(counts.ignoring - train)} have pixels of 255"
    )


def read_sbd(file: Path) -> np.ndarray:
    """Reads the mask of a file of SBD.

    Args:
        file: ``cls/<id>.mat``, whose ``GTcls.Segmentation`` holds class indices.

    Returns:
        uint8 (H, W).

    Raises:
        UserError: scipy is missing, or the file is broken or holds something else.
    """
    loadmat = _loadmat(file)
    try:
        mask = np.asarray(loadmat(str(file))["GTcls"][0, 0]["Segmentation"])
    # Catch-all: the reader meets broken bytes with almost any exception.
    except Exception as error:
        raise UserError(
            f"{file}: no GTcls.Segmentation can be read from it ({error}); unpack {SBD.archive} "
            "again"
        ) from error
    if mask.ndim != 2 or mask.dtype.kind not in "ui" or mask.size == 0 or mask.max() > 255:
        raise UserError(
            f"{file}: GTcls.Segmentation is {mask.dtype} {mask.shape} and no map of 8-bit class "
            f"indices; unpack {SBD.archive} again"
        )
    mask = mask.astype(np.uint8)
    label_set("voc21").apply(mask, file)
    return mask


def _loadmat(file: Path) -> Callable[[str], dict[str, Any]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(
            f"{file}: masks of SBD are MATLAB files, which scipy reads, and it is not installed: "
            f"install scipy, or give a folder {AUGMENTED}"
        ) from error
    return loadmat


def _given(root: Path, source: Path, threads: int) -> dict[str, Path]:
    """Masks of trainaug that are there already, in place or in the source, by id."""
    target, archive = root / AUGMENTED, source / f"{AUGMENTED}.zip"
    if archive.is_file() and not target.is_symlink():
        unpack(Extract(archive, AUGMENTED, ".png", target), threads)
    found: dict[str, Path] = {}
    places = [source / above / AUGMENTED for above in ("", "VOC2012", "VOCdevkit/VOC2012")]
    for folder in (*places, target):
        found |= {file.stem: file for file in folder.glob("[!.]*.png") if file.is_file()}
    return found


def _check_ids(root: Path, ids: list[str]) -> None:
    known = SPLITS["trainaug"].images
    if len(ids) != known:
        raise UserError(
            f"train and SBD without val are {len(ids)} images, but trainaug has {known}: "
            f"{root / SBD.folder} or {AUGMENTED} is not whole, or holds images of another set"
        )
    path = list_path(root, "trainaug")
    if path.is_file() and read_ids(path) != ids:
        raise UserError(
            f"{path}: not the {known} ids of train and SBD without val; remove it and repeat the "
            "call, which writes it"
        )


def _fill(
    target: Path,
    ids: list[str],
    given: Mapping[str, Path],
    official: Mapping[str, Path],
    mats: Mapping[str, Path],
    threads: int,
) -> None:
    """Puts the masks that are not in place yet there."""
    missing = [name for name in ids if not (target / f"{name}.png").is_file()]
    lost = [name for name in missing if not {name} & (given.keys() | official.keys() | mats.keys())]
    if lost:
        raise UserError(f"{target}: no mask of SBD for {name_some(lost)}")
    if missing and target.is_symlink():
        raise UserError(
            f"{target} is a link to a folder that lacks {len(missing)} masks, such as "
            f"{missing[0]}.png: remove the link and repeat the call"
        )
    make_folder(target)
    if set(missing) & (mats.keys() - given.keys() - official.keys()):
        _loadmat(target)

    def put(name: str) -> None:
        file = target / f"{name}.png"
        if name in given:
            link(file, given[name].resolve())
        elif name in official:
            replace_atomically(file, lambda new: shutil.copyfile(official[name], new))
        else:
            image = Image.fromarray(read_sbd(mats[name]))
            image.putpalette([value for color in palette() for value in color])
            replace_atomically(file, lambda new: image.save(new, "PNG"))

    in_threads(put, missing, f"writing {target}", threads)
