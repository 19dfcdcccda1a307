"""What a pass over images has made of each, kept until it ends: a pass that is stopped goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vice._version import __version__
from vice.errors import UserError
from vice.predictor import Predictor
from vice.runtime.files import disk_errors, make_folder, read_json, replace_atomically, write_json
from vice.runtime.provenance import digest_file

logger = logging.getLogger(__name__)
#: Folder of what is kept, and what says what it was made by.
UNFINISHED, _MADE_BY = "unfinished", "made_by.json"
_SOURCE, _NOTES = "source", "notes"


class PassStopped(Exception):
    """A pass ends before it is through, because it was asked to.

    Attributes:
        done: Images that the same call need not embed again.
    """

    def __init__(self, done: int) -> None:
        super().__init__(f"stopped after {done} images")
        self.done = done


class KeptPass:
    """Arrays of single images in a folder, which what was made otherwise does not share.

    Args:
        folder: Made if missing; emptied if it holds what another call has made.
        made_by: What the arrays follow from, but for the images; what JSON can hold.
        predictor: Whose notes of an image are kept with its arrays, and counted again with them.
        images: Paths.
    """

    def __init__(
        self,
        folder: Path,
        made_by: Mapping[str, Any],
        predictor: Predictor,
        images: Sequence[Path],
    ) -> None:
        self.folder, self.predictor, self.images = folder, predictor, images
        self.reused = 0
        said = json.loads(json.dumps(made_by))
        with contextlib.suppress(UserError):
            if read_json(folder / _MADE_BY, "begin anew") == said:
                return
        self.forget()
        make_folder(folder)
        write_json(folder / _MADE_BY, said)

    @classmethod
    def of(
        cls, out: Path, predictor: Predictor, images: Sequence[Path], seed: int, **more: Any
    ) -> KeptPass:
        """That of a model over images, below the folder of its results.

        Args:
            out: The folder.
            predictor: The model.
            images: Paths.
            seed: Of what is drawn.
            **more: What the arrays follow from besides.
        """
        made_by = {
            "version": __version__,
            "weights": predictor.weights,
            "reading": repr(predictor.reading),
            "images": [str(image) for image in images],
            "seed": seed,
            **more,
        }
        return cls(out / UNFINISHED, made_by, predictor, images)

    def load(self, kind: str, number: int, source: str) -> dict[str, np.ndarray] | None:
        """The arrays of an image, or None where none of it are kept.

        Args:
            kind: What they are.
            number: Of the image.
            source: What tells the image from others, and what else they follow from; empty where
                the image cannot be read.
        """
        try:
            with np.load(self.folder / f"{kind}-{number}.npz") as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        if not source or str(arrays.pop(_SOURCE, "")) != source:
            return None
        self.reused += 1
        self.predictor.notes.add(self.images[number], arrays.pop(_NOTES, np.array([])).tolist())
        return arrays

    def names(self, kind: str) -> list[str]:
        """What is kept under names that begin so."""
        return sorted(file.stem for file in self.folder.glob(f"{kind}-*.npz"))

    def save(self, kind: str, number: int, source: str, **arrays: np.ndarray) -> None:
        """Keeps the arrays of an image.

        Raises:
            UserError: The disk does not take them.
        """
        said = {_SOURCE: np.array(source)}
        if notes := self.predictor.notes.of(self.images[number]):
            said[_NOTES] = np.array(notes)

        def write(new: str) -> None:
            with open(new, "wb") as file:
                np.savez(file, **said, **arrays)  # type: ignore[arg-type]

        replace_atomically(self.folder / f"{kind}-{number}.npz", write)

    def forget(self) -> None:
        """Removes all, once it is no longer needed."""
        if self.folder.exists():
            with disk_errors(self.folder, any_os_error=True):
                shutil.rmtree(self.folder)


def source_of(image: Path) -> str:
    """What tells an image file from others; empty of one that cannot be read."""
    try:
        return digest_file(image)[:16]
    except (OSError, UserError):
        return ""
