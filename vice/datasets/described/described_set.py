"""A labelled data set that is read by its description."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vice.datasets import label_audit
from vice.datasets.described.coco_json import Annotations, read_annotations
from vice.datasets.described.description import (
    APPLY,
    NAME,
    SKIP,
    Description,
    Split,
    read_description,
)
from vice.datasets.described.pair_sizes import PairGeometry
from vice.datasets.described.stem_lists import listed_stems, names_of
from vice.datasets.described.stored_values import read_values, unpack
from vice.datasets.described.templates import STEM, base, find_files
from vice.datasets.label_files import Geometry, geometry
from vice.datasets.labelled_set import THREADS, ImageLabelPair, LabelledSet
from vice.datasets.split_files import check_partners
from vice.errors import UserError
from vice.images.lists import Contents
from vice.labels import IGNORE
from vice.runtime.progress import progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DescribedSet(LabelledSet):
    """A data set with a ``dataset.yaml``; get one with `open_described`.

    Attributes:
        description: What that says.
    """

    description: Description | None = None

    @property
    def said(self) -> Description:
        """The description, which every set has that was opened."""
        assert self.description is not None
        return self.description

    @property
    def upright(self) -> bool:
        """What ``exif`` says."""
        return self.said.exif == APPLY

    @property
    def digest(self) -> str:
        """Digest of what is read, for results."""
        return self.said.digest

    def splits(self) -> list[str]:
        """Those that are described, sorted."""
        return sorted(self.said.splits)

    def find(self, split: str, *, labels: bool) -> list[ImageLabelPair]:
        """Pairs of one split, sorted by stem."""
        images, maps = self._files(self._split(split), labels=labels)
        if not labels:
            return [ImageLabelPair(path, None) for path in images.values()]
        if self.said.unpaired != SKIP:
            check_partners(images, maps, self.root, "labels")
            check_partners(maps, images, self.root, "image")
        both = sorted(set(images) & set(maps))
        if not both:
            raise UserError(f"{self.root}: no image of {split} has labels; see {NAME}")
        return [ImageLabelPair(images[stem], maps[stem]) for stem in both]

    def count(self, split: str, *, labels: bool) -> list[Contents]:
        """What is read of one split, and what has no partner."""
        images, maps = self._files(self._split(split), labels=labels)
        counted = []
        for kind, files, partners in (("images", images, maps), ("labels", maps, images)):
            if not files:
                continue
            contents = Contents(self.root, f"{kind} of {split}")
            used = [path for stem, path in files.items() if not labels or stem in partners]
            for path in used:
                contents.used[path.suffix or "annotated"] += 1
            if len(used) < len(files):
                contents.ignored["without a partner"] = len(files) - len(used)
            contents.look(path for path in used if path.suffix)
            counted.append(contents)
        return counted

    def audit(self, split: str) -> int:
        """Reads label maps of a split: every value must be described, and two classes occur.

        Raises:
            UserError: Names the file or the split, and what is wrong.
        """
        files = [pair.label for pair in self.pairs(split) if pair.label is not None]
        chosen = files[: label_audit.MOST_READ]
        title = f"{self.name} {split}"
        with ThreadPoolExecutor(THREADS) as pool:
            looks = pool.map(lambda file: np.unique(self.read_classes(file)), chosen)
            seen = {
                int(v) for look in progress(looks, len(chosen), f"reading {title}") for v in look
            }
        if len(seen - {IGNORE}) < 2 <= len(self.classes):
            rest = files[label_audit.MOST_READ :]
            every = seen.union(*(np.unique(self.read_classes(file)).tolist() for file in rest))
            every -= {IGNORE}
            if len(every) < 2:
                named = ", ".join(self.classes[value] for value in sorted(every)) or "none"
                raise UserError(
                    f"{title}: of its {len(self.classes)} classes its {len(files)} labels hold "
                    f"{named}: see what {NAME} says of their values, or name another split"
                )
        return len(chosen)

    def read_classes(self, path: str | Path) -> np.ndarray:
        """Reads labels as class indices in their own size; see `read_label`."""
        path = Path(path)
        if path.parent.suffix == ".json":
            return self._read_drawn(path)
        values, colors = read_values(path, upright=self.upright, shown=self.said.colors)
        if values.size and colors != self.said.colors and (colors or values.max() > 0):
            # Gray of a color map: a file in which every color happens to be gray.
            if colors:
                raise UserError(f"{path}: holds colors, and {NAME} describes values of gray")
            values = values * 0x010101
        return self._mapped(values, path)

    def _mapped(self, values: np.ndarray, path: Path) -> np.ndarray:
        known = np.array(sorted(self.said.values), np.int64)
        classes = np.array([self.said.class_of(self.said.values[int(v)]) for v in known], np.uint8)
        place = np.searchsorted(known, values).clip(max=len(known) - 1)
        strange = known[place] != values
        if strange.any():
            value = int(values[strange][0])
            shown = f"the color {' '.join(map(str, unpack(value)))}" if self.said.colors else value
            raise UserError(
                f"{path}: holds {shown} ({100 * strange.mean():.2g} % of its pixels have values "
                f"that {NAME} does not know): add it there under values, as a class or as ignore"
            )
        return classes[place]

    def _read_drawn(self, path: Path) -> np.ndarray:
        notes = read_annotations(path.parent)
        drawn = notes.draw(_stem(path))
        classes = np.full(drawn.shape, self.said.class_of(self.said.unlabelled), np.uint8)
        classes[drawn == -2] = IGNORE
        inside = drawn >= 0
        classes[inside] = self._mapped(drawn[inside], path)
        return classes

    def _check_pair(self, pair: ImageLabelPair) -> bool:
        of_image = self.look(pair.image)
        if pair.label is None:
            return False
        found = PairGeometry(pair, of_image, self.label_geometry(pair.label))
        if len(set(found.sizes(self.said.exif))) > 1:
            raise UserError(found.said(self.said.exif))
        return False

    def label_geometry(self, label: Path) -> Geometry:
        """How the labels of an image lie: of a file by its header, of annotations as these say."""
        if label.parent.suffix == ".json":
            image = read_annotations(label.parent).images[_stem(label)]
            return Geometry((int(image["width"]), int(image["height"])), 1)
        return geometry(label)

    def files(self, split: str) -> list[list[Path]]:
        """Images and labels that fit the templates of a split, with a partner or without."""
        parts = self._split(split)
        return [list(files.values()) for files in self._files(replace(parts, list=None))]

    def _split(self, name: str) -> Split:
        if name not in self.said.splits:
            known = ", ".join(self.splits())
            raise UserError(f"{self.root}: no split {name!r}; {NAME} describes {known}")
        return self.said.splits[name]

    def _files(
        self, split: Split, *, labels: bool = True
    ) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and labels of a split by stem; those of its list, if it has one."""
        maps: dict[str, Path] = {}
        if STEM not in split.labels:
            notes = read_annotations(self.root / split.labels)
            maps = {stem: _drawn(notes, stem) for stem in notes.images}
        elif labels or base(split.labels) == base(split.images):
            maps = find_files(split.labels, self.root)
        images = find_files(split.images, self.root, frozenset(maps.values()))
        if split.list is not None:
            kept = listed_stems(self.root / split.list, names_of(self.root, [images, maps]))
            images = _only(images, kept)
            maps = _only(maps, kept)
        if not images:
            raise UserError(f"{self.root}: no image fits {split.images}, as {NAME} says")
        return images, maps if labels else {}


def _only(files: dict[str, Path], stems: Collection[str]) -> dict[str, Path]:
    return {stem: path for stem, path in files.items() if stem in set(stems)}


def _drawn(notes: Annotations, stem: str) -> Path:
    """Stands for an image's annotations: a path below their file, which holds no files."""
    return notes.path / stem.replace("/", "\x1f")


def _stem(drawn: Path) -> str:
    """The stem that `_drawn` was given."""
    return drawn.name.replace("\x1f", "/")


def open_described(path: str | Path) -> DescribedSet:
    """Opens a data set by its description.

    Args:
        path: ``dataset.yaml``, or the folder that holds it.

    Raises:
        UserError: No such file, or it is not whole.
    """
    path = Path(path)
    file = path / NAME if path.is_dir() else path
    said = read_description(file)
    root = file.parent / said.root if said.root else file.parent
    if not root.is_dir():
        raise UserError(f"{root}: no such folder, and {file} says that the data set lies there")
    name = said.name or root.resolve().name
    return DescribedSet(root, said.classes, name=name, description=said)


def is_description(path: str | Path) -> bool:
    """Whether this is ``dataset.yaml``, or a folder with one."""
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    of_folder = os.path.isfile(os.path.join(path, NAME))
    return of_folder or (Path(path).suffix in (".yaml", ".yml") and os.path.isfile(path))


def ignores_exif(path: str | Path) -> bool:
    """Whether this is a described data set whose pixels are read as they are stored.

    Raises:
        UserError: Its description is not whole.
    """
    return is_description(path) and not open_described(path).upright
