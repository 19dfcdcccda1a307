"""One evaluation at a time writes into a folder of results, and leaves it whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from vice.evaluation.task import Task
from vice.runtime.collectives import on_first_rank
from vice.runtime.files import disk_errors
from vice.runtime.folder_lock import sole_writer
from vice.runtime.run_folder import LOCK_NAME

#: Folder of logs, which is held.
RUNNER = "runner"
#: What an evaluation holds until its results are written.
_until_written: ContextVar[ExitStack | None] = ContextVar("until_written", default=None)


def writes_results(evaluate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Lets an evaluation write whole results, or say in one message that it cannot.

    Whatever MMEngine, matplotlib or Pillow raise of a full disk names neither file nor remedy. What
    it holds by `hold`, no other evaluation writes into before these results are there.
    """

    @wraps(evaluate)
    def wrapped(
        spec: str, dataset: str | Path, out_dir: str | Path, **options: Any
    ) -> dict[str, Any]:
        with disk_errors(out_dir), ExitStack() as held:
            before = _until_written.set(held)
            try:
                return evaluate(spec, dataset, out_dir, **options)
            finally:
                _until_written.reset(before)

    return wrapped


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Holds the logs of results: until they are written where an evaluation asks for that."""
    with ExitStack() as block:
        held = _until_written.get() or block
        on_first_rank(lambda: held.enter_context(_held(folder)) and None)
        yield


def hold(task: Task) -> None:
    """`holding` for a task whose results other code writes; it ends with the evaluation's call."""
    if _until_written.get() is not None:
        with holding(task.out_dir / RUNNER):
            pass


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    is_new = not folder.parent.exists()
    with sole_writer(folder):
        try:
            yield
        except BaseException:
            # What has written nothing leaves nothing, and where something is no folder is removed.
            with suppress(OSError):
                if os.listdir(folder) == [LOCK_NAME]:
                    (folder / LOCK_NAME).unlink()
                    folder.rmdir()
                if is_new:
                    folder.parent.rmdir()
            raise
