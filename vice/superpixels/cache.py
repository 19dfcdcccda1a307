"""Superpixel cache: region maps on disk, keyed by the image's content and the parameters."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import uuid
import zipfile
import zlib
from pathlib import Path

import numpy as np

from vice.errors import UserError
from vice.runtime.files import disk_reason
from vice.runtime.numpy_files import open_npz

logger = logging.getLogger(__name__)
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    UserError,
)


class RegionCache:
    """A folder of compressed region maps that many processes may share.

    Args:
        folder: Where the maps lie; made if missing.
        parameters: Whatever, besides the image, decides the map; part of every key.

    Attributes:
        write_error: Why the last map that could not be written was not; empty if all were.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(self, folder: str | Path, parameters: str) -> None:
        self.folder = Path(folder)
        self.parameters = parameters
        self.write_error = ""
        self._reported: set[Path] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be made as superpixel cache ({error.strerror}); "
                "give a folder you may write to, or no cache folder at all"
            ) from error

    def path(self, image: np.ndarray) -> Path:
        """File that holds, or would hold, the map of this image."""
        key = hashlib.blake2b(digest_size=16)
        key.update(f"{self.parameters}|{image.shape}|{image.dtype}|".encode())
        key.update(np.ascontiguousarray(image).data)
        name = key.hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npz"

    def read(self, path: Path, shape: tuple[int, int]) -> np.ndarray | None:
        """Reads a map as int32 (H, W); None if it is not there, broken or of another image."""
        try:
            with open_npz(path, 4 * shape[0] * shape[1]) as archive:
                regions = archive["regions"]
                # Owner: files of earlier versions do not say it.
                key = str(archive["key"]) if "key" in archive else _key(path)
            if key != _key(path):
                raise ValueError(f"holds the map of image {key}")
            if regions.shape != shape or regions.dtype not in (np.uint16, np.int32):
                raise ValueError(f"holds {regions.dtype} {regions.shape}, not a map of {shape}")
            if regions.min(initial=0) < -1 or regions.max(initial=0) > 4 * regions.size + 65536:
                raise ValueError(f"holds ids {regions.min()}..{regions.max()}")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            # Removal: it is written anew right after this; where that fails, it is reported once.
            if path not in self._reported:
                # What the system refuses (no open file or memory is left) says nothing of the file.
                refused = isinstance(error, OSError) and error.errno is not None
                kind = "unreadable" if refused else "broken"
                logger.warning("%s: %s superpixel cache file (%s); recomputed", path, kind, error)
            self._reported.add(path)
            return None
        return regions.astype(np.int32)

    def write(self, path: Path, regions: np.ndarray) -> None:
        """Writes a map all at once: other processes see the whole file or none.

        A full or read-only disk is logged once and otherwise ignored: the map is in memory.
        """
        fits = regions.size == 0 or (regions.min() >= 0 and regions.max() <= 65535)
        # Not the tempfile module: its files are closed to other users, whatever the umask.
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        # In memory first: an archive that a full disk cuts short raises more than OSErrors.
        data = io.BytesIO()
        stored = regions.astype(np.uint16 if fits else np.int32)
        np.savez_compressed(data, regions=stored, key=np.array(_key(path)))
        try:
            path.parent.mkdir(exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(data.getbuffer())
            os.replace(temporary, path)
        except OSError as error:
            if not self.write_error:
                logger.warning("%s: superpixels are not cached (%s)", self.folder, error)
            self.write_error = disk_reason(error) or str(error)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _key(path: Path) -> str:
    return path.parent.name + path.stem
