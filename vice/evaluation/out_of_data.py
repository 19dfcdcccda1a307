"""Results may not be written among the images and labels that they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vice.datasets import ImageLabelPair
from vice.errors import UserError
from vice.names import printable


def files_of(pairs: Iterable[ImageLabelPair]) -> Iterator[Path]:
    """Images and labels of a split."""
    for pair in pairs:
        yield from (file for file in (pair.image, pair.label) if file is not None)


def keep_out_of_data(out_dir: str | Path, root: str | Path, files: Iterable[Path]) -> None:
    """Refuses an output folder that images or labels are read from, or that holds such folders.

    Results have pictures, which would be taken for images or labels from then on.

    Args:
        out_dir: The output folder, which need not be there.
        root: Folder of the data set.
        files: Images and labels of a split of it.

    Raises:
        UserError: The folder is one with images or labels, lies in one, or holds them and lies in
            the data set, or is that.
    """
    out, root = Path(os.path.realpath(out_dir)), Path(os.path.realpath(root))
    for folder in {file.parent for file in files}:
        of_data = Path(os.path.realpath(folder))
        inside = out.is_relative_to(of_data)
        around = of_data.is_relative_to(out) and out.is_relative_to(root)
        if inside or around:
            raise UserError(
                f"{printable(str(out_dir))} is no place for results: images or labels are read "
                f"from {printable(str(folder))}, and pictures would be taken for them; choose "
                "another output folder"
            )
