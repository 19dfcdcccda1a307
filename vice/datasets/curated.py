"""The curated lists of COCO-Stuff27 (IIC, PiCIE): which images are trained on and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vice.datasets.labelled_set import list_checksum
from vice.errors import UserError
from vice.runtime.files import write_text

#: Name of both lists in the repositories of IIC, PiCIE and STEGO.
PUBLISHED_NAME = "Coco164kFull_Stuff_Coarse_7.txt"


@dataclass(frozen=True)
class CuratedList:
    """One of the two lists.

    Attributes:
        file: Where it lies below the data set's root, as PiCIE and STEGO have it.
        images: Number of ids.
        checksum: SHA-256 of the sorted ids, see `list_checksum`.
    """

    file: str
    images: int
    checksum: str


#: Images that other methods train on, a path a line, as `vice.datasets.preparation` writes them.
TRAINED_ON = {
    "coco27": "curated/train2017/images.txt",
    "cityscapes": "curated/test_train_extra.txt",
    "voc21": "curated/trainaug.txt",
}
CURATED = {
    "train": CuratedList(
        f"curated/train2017/{PUBLISHED_NAME}",
        49_629,
        "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9",
    ),
    "val": CuratedList(
        f"curated/val2017/{PUBLISHED_NAME}",
        2_175,
        "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655",
    ),
}


def parse_list(path: Path, split: str) -> list[str]:
    """Reads a list of ids and verifies that it is the published one.

    Args:
        path: The file, an id a line.
        split: ``"train"`` or ``"val"``.

    Returns:
        The ids, sorted.

    Raises:
        UserError: The file is missing or holds other ids.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such list; copy {CURATED[split].file} from the repository of PiCIE "
            "(janghyuncho/PiCIE) or IIC and call tools/prepare_data.py coco27 with --lists FOLDER"
        )
    ids, known = read_ids(path), CURATED[split]
    if not is_published(ids, split):
        raise UserError(
            f"{path}: {len(ids)} ids that are not the published {known.images} of {split}2017 "
            f"(their SHA-256 begins with {known.checksum[:12]}): copy the list again"
        )
    return ids


def read_ids(path: Path) -> list[str]:
    """The ids of a file, sorted."""
    return sorted(path.read_text(encoding="utf-8").split())


def is_published(ids: Sequence[str], split: str) -> bool:
    """Whether sorted ids are the published list."""
    return list_checksum(ids) == CURATED[split].checksum


def read_list(root: Path, split: str) -> list[str]:
    """The ids of a split of a prepared COCO folder, see `parse_list`."""
    return parse_list(root / CURATED[split].file, split)


def write_list(path: Path, ids: Sequence[str]) -> None:
    """Writes ids, one a line, all or none."""
    write_text(path, "".join(f"{name}\n" for name in ids))


def write_id_list(root: Path, split: str, ids: Sequence[str], target: str) -> None:
    """Writes the images of ids as a list to train on, relative to the list, all or none."""
    above = "../" * target.count("/")
    text = "".join(f"{above}images/{split}2017/{name}.jpg\n" for name in ids)
    write_text(root / target, text)


def write_image_list(root: Path, folders: Sequence[str], ending: str, target: str) -> int:
    """Writes the files of folders as a list to train on, relative to the list, all or none.

    Args:
        root: The data set's folder.
        folders: Below it, each searched with its subfolders.
        ending: How the names end.
        target: The list, below the data set's folder.

    Returns:
        How many there are.
    """
    files = [file for folder in folders for file in sorted((root / folder).rglob(f"*{ending}"))]
    above = "../" * target.count("/")
    names = [f"{above}{file.relative_to(root).as_posix()}\n" for file in files]
    write_text(root / target, "".join(names))
    return len(files)
