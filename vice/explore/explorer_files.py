"""The files of an explorer: the page, and data in scripts that a browser loads from a disk."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.explore.video_names import FRAMES
from vice.runtime.amounts import in_words
from vice.runtime.files import disk_errors, make_folder, write_json, write_text
from vice.runtime.run_folder import EXPLORER_RECORD_NAME, LOCK_NAME

INDEX, RECORD = "index.html", EXPLORER_RECORD_NAME
#: Longest sides of pictures: small ones for the grid, and what an opened image shows.
THUMB, PICTURE = 256, 960
#: About how many bytes a pixel of a JPEG takes.
_JPEG = 0.25
_PAGE = Path(__file__).parent / "page"
#: What lies in an explorer's folder before its record does.
_BEFORE = {FRAMES, LOCK_NAME}


class ExplorerFiles:
    """Writes an explorer into a folder; ``index.html`` comes last, so that what opens is whole.

    Args:
        out: A new or empty folder, or one with an explorer, which is made anew.

    Raises:
        UserError: The folder holds something else.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.data = out / "data"
        if out.exists() and not (out / RECORD).exists() and set(os.listdir(out)) - _BEFORE:
            raise UserError(f"{out} is not empty, and holds no explorer: choose another folder")

    def is_whole(self) -> bool:
        """Whether an explorer is there that was made to its end."""
        return (self.out / INDEX).is_file()

    def begin(self, images: int) -> None:
        """Makes the folder, and lets it be known for an explorer's.

        Args:
            images: How many are to come.

        Raises:
            UserError: The disk does not take it.
        """
        make_folder(self.out)
        write_json(self.out / RECORD, {"images": images})

    def holds(self, number: int, large: bool) -> bool:
        """Whether all files of an image are there.

        Args:
            number: Of the image.
            large: Whether it has a larger picture.
        """
        names = [f"maps/{number}.js", f"thumbs/{number}.jpg"] + [f"images/{number}.jpg"] * large
        return all((self.data / name).is_file() for name in names)

    def prepare(self, images: int, cells: int, directions: int, *, anew: bool = True) -> str:
        """Makes the folders, after a look at the disk.

        Args:
            images: How many are to come.
            cells: Of a dense map at most.
            directions: 8-bit numbers of each.
            anew: Whether what is there is removed.

        Returns:
            How much it will take at most, in words.

        Raises:
            UserError: There is too little space.
        """
        area = 0.75 * (THUMB**2 + PICTURE**2)
        needed = images * (cells * directions * 4 / 3 + area * _JPEG)
        (self.out / INDEX).unlink(missing_ok=True)
        if anew and self.data.exists():
            with disk_errors(self.data, any_os_error=True):
                shutil.rmtree(self.data)
        for name in ("maps", "thumbs", "images"):
            make_folder(self.data / name)
        free = shutil.disk_usage(self.out).free
        said = f"up to {in_words(needed)}"
        if needed > free:
            raise UserError(
                f"an explorer of {images} images takes {said} in {self.out}, where "
                f"{in_words(free)} are free: free some space, or choose another folder"
            )
        return said

    def write_map(self, number: int, grid: Sequence[int], codes: np.ndarray) -> None:
        """The dense map of an image.

        Args:
            number: Of the image.
            grid: Rows and columns.
            codes: int8 (rows * columns, P).
        """
        call = f'Explorer.loadMap({number},{grid[0]},{grid[1]},"{encoded(codes)}");\n'
        self._write(f"maps/{number}.js", call)

    def write_pictures(self, number: int, pixels: np.ndarray) -> bool:
        """The small picture of an image, and a larger one.

        Args:
            number: Of the image.
            pixels: uint8 RGB (H, W, 3).

        Returns:
            Whether there is a larger one: the small one shows small images whole.
        """
        image = Image.fromarray(pixels)
        large = max(image.size) > THUMB
        with disk_errors(self.data, any_os_error=True):
            if large:
                image.save(self.data / "images" / f"{number}.jpg", quality=85)
                image.thumbnail((THUMB, THUMB), Image.Resampling.BICUBIC)
            image.save(self.data / "thumbs" / f"{number}.jpg", quality=82)
        return large

    def finish(self, folder: dict[str, Any], regions: np.ndarray) -> Path:
        """Writes what the page loads first, and the page.

        Args:
            folder: What data/folder.js holds.
            regions: int8 (N, P), the regions of all images.

        Returns:
            The page.
        """
        self._write("folder.js", f"Explorer.loadFolder({json.dumps(folder)});\n")
        self._write("regions.js", f'Explorer.loadRegions("{encoded(regions)}");\n')
        make_folder(self.out / "page")
        with disk_errors(self.out, any_os_error=True):
            for file in sorted(_PAGE.iterdir()):
                if file.suffix in (".js", ".css"):
                    shutil.copyfile(file, self.out / "page" / file.name)
        write_text(self.out / INDEX, (_PAGE / INDEX).read_text(encoding="utf-8"))
        return self.out / INDEX

    def _write(self, name: str, text: str) -> None:
        # Not one by one to the disk: the page, which is written last, says that all is there.
        with disk_errors(self.data / name, any_os_error=True):
            (self.data / name).write_text(text, encoding="utf-8")


def encoded(values: np.ndarray) -> str:
    """Base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
