"""Many images: read ahead by a bounded number, in order, and equal sizes together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vice.errors import UserError
from vice.images import list_images

_THREADS = 2


def sources(images: Any) -> Iterable[Any]:
    """Images of a folder or a list of paths, of a batch (B, ...), or of anything iterable.

    Raises:
        UserError: It is one image, or the folder has none.
    """
    if isinstance(images, str | Path):
        return list_images(images)
    if hasattr(images, "getexif") or getattr(images, "ndim", 4) < 4:
        raise UserError("one image was given where several are expected: give [image]")
    return images


def batches(
    images: Iterable[Any],
    most: int,
    read: Callable[[Any], np.ndarray],
    unread: dict[str, str] | None,
) -> Iterator[tuple[list[Any], np.ndarray]]:
    """Consecutive images of one size, at most so many at a time, uint8 (B, H, W, 3).

    Args:
        images: As `vice.Predictor.embed` takes one.
        most: In a batch; twice as many are read ahead.
        read: An image to its pixels, uint8 (H, W, 3); called from other threads.
        unread: Takes images that cannot be read, with the reason; None raises it.

    Yields:
        The names (a path, or the number of an image that has none) and the pixels.

    Raises:
        UserError: An image cannot be read, and ``unread`` is None.
    """
    names: list[Any] = []
    group: list[np.ndarray] = []
    for name, pixels in _read(images, 2 * most, read, unread):
        if group and (pixels.shape != group[0].shape or len(group) == most):
            yield names, np.stack(group)
            names, group = [], []
        names.append(name)
        group.append(pixels)
    if group:
        yield names, np.stack(group)


def _read(
    images: Iterable[Any],
    ahead: int,
    read: Callable[[Any], np.ndarray],
    unread: dict[str, str] | None,
) -> Iterator[tuple[Any, np.ndarray]]:
    waiting: deque[tuple[Any, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for number, image in enumerate(images):
                name = image if isinstance(image, str | Path) else number
                waiting.append((name, pool.submit(read, image)))
                if len(waiting) >= ahead:
                    yield from _one(waiting, unread)
            while waiting:
                yield from _one(waiting, unread)
        finally:
            for _, future in waiting:
                future.cancel()


def _one(
    waiting: deque[tuple[Any, Future[np.ndarray]]], unread: dict[str, str] | None
) -> Iterator[tuple[Any, np.ndarray]]:
    name, future = waiting.popleft()
    try:
        pixels = future.result()
    except UserError as error:
        if unread is None:
            raise
        unread[str(name)] = str(error)
        return
    yield name, pixels
