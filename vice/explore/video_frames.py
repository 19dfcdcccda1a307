"""Video files: their frames as images, and how much masks change from one to the next."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vice.errors import UserError
from vice.explore.mask_files import mask_names, read_mask
from vice.names import printable
from vice.runtime.amounts import in_words
from vice.runtime.files import disk_errors, make_folder, read_json, write_json
from vice.runtime.folder_lock import sole_writer
from vice.runtime.progress import progress
from vice.runtime.provenance import digest_file

logger = logging.getLogger(__name__)
RECORD = "video.json"
_QUALITY = 95


def extract_frames(video: Path, folder: Path) -> list[Path]:
    """Writes the frames of a video as JPEG, ``000000.jpg`` and so on, unless they are there.

    Args:
        video: A file that OpenCV can decode.
        folder: Of this video alone; made if missing.

    Returns:
        The frames, in their order.

    Raises:
        UserError: It cannot be decoded, or the disk does not take its frames.
    """
    try:
        source = digest_file(video)
    except OSError as error:
        raise UserError(f"{video}: {error.strerror}; check the path") from error
    # Another process may want the same video: it waits, and finds its frames.
    with sole_writer(folder.parent, math.inf):
        return _known(folder, source) or _decode(video, folder, source)


def _known(folder: Path, source: str) -> list[Path]:
    """The frames that are there, of this very video; else none."""
    record = folder / RECORD
    if not record.exists():
        return []
    known = read_json(record, "delete it")
    frames = [_frame(folder, number) for number in range(int(known.get("frames", 0)))]
    return frames if known.get("source") == source and all(map(Path.exists, frames)) else []


def _decode(video: Path, folder: Path, source: str) -> list[Path]:
    if folder.exists():
        with disk_errors(folder, any_os_error=True):
            shutil.rmtree(folder)
    make_folder(folder)
    capture = cv2.VideoCapture(str(video))
    try:
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        frames = _write(_decoded(capture), folder, max(expected, 0), video)
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    if not frames:
        raise UserError(f"{video}: no frame of it can be decoded; convert it, for example to .mp4")
    if len(frames) < expected:
        logger.warning(
            "%s: %d of the %d frames that it names can be decoded",
            printable(str(video)), len(frames), expected,
        )  # fmt: skip
    write_json(
        folder / RECORD, {"source": source, "frames": len(frames), "frames_per_second": rate}
    )
    return frames


def _decoded(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield np.ascontiguousarray(frame[..., ::-1])


def _write(frames: Iterator[np.ndarray], folder: Path, expected: int, video: Path) -> list[Path]:
    written: list[Path] = []
    label = f"decoding {printable(video.name)}"
    with disk_errors(folder, any_os_error=True):
        for frame in progress(frames, expected or None, label):
            path = _frame(folder, len(written))
            Image.fromarray(frame).save(path, quality=_QUALITY)
            written.append(path)
            if len(written) == 1:
                _check_disk(path.stat().st_size * expected, folder)
    return written


def _check_disk(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the frames take about {in_words(needed)} in {folder}, where "
            f"{in_words(free)} are free: free some space, or choose another output folder"
        )


def _frame(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jpg"


@dataclass(frozen=True)
class Change:
    """How much the masks of a video change.

    Attributes:
        frames: How many have a mask.
        mean: Mean share of the pixels whose concept is another one in the next frame.
        most: Greatest such share.
    """

    frames: int
    mean: float
    most: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"frames": self.frames, "changed_mean": self.mean, "changed_most": self.most}


def mask_changes(frames: Sequence[Path], images: Sequence[Path], masks: Path) -> Change:
    """Compares the mask of each frame with that of the next.

    Args:
        frames: Of a video, in their order.
        images: All that masks were made of together, the frames among them.
        masks: Folder of the masks.
    """
    names = dict(zip(images, mask_names(images), strict=True))
    shares, before, count = [], None, 0
    for frame in frames:
        path = masks / names[frame]
        if not path.exists():
            before = None
            continue
        labels = read_mask(path)
        count += 1
        if before is not None and before.shape == labels.shape:
            shares.append(float((labels != before).mean()))
        before = labels
    return Change(count, float(np.mean(shares)) if shares else 0.0, max(shares, default=0.0))
