"""TensorBoard's event files, written so that a full disk costs no training.

TensorBoard's own writer works in a thread, which ends with the first error and takes the training
with it at the next record.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from vice.files import append

logger = logging.getLogger(__name__)
#: Bytes that may wait for a disk to take them again; more are lost.
MOST_WAITING = 64 * 2**20


class EventFile:
    """One event file; stands in for TensorBoard's ``EventFileWriter``.

    Records that the disk does not take wait, and are tried again with the next flush.

    Args:
        folder: Where it lies; made with the first record that is written.
        flush_seconds: Longest time that records wait for a flush.
    """

    def __init__(self, folder: str, flush_seconds: float) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self.path = Path(folder) / f"{name}.{time.time_ns() % 10**9}"
        self.flush_seconds = flush_seconds
        self._buffer = io.BytesIO()
        self._records = RecordWriter(self._buffer)
        self._flushed = time.monotonic()
        self._silent, self._lost = False, 0
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def get_logdir(self) -> str:
        """The folder."""
        return str(self.path.parent)

    def add_event(self, event: Event) -> None:
        """Adds a record."""
        if self._buffer.tell() > MOST_WAITING:
            self._lost += 1
            return
        self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed > self.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Tries to bring all records to the disk."""
        self._flushed = time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append(self.path, self._buffer.getvalue())
        except OSError as error:
            if not self._silent:
                logger.error("cannot write %s: %s. Training goes on and tries again",
                             self.path, error)  # fmt: skip
            self._silent = True
            return
        self._buffer.seek(0)
        self._buffer.truncate()
        if self._silent:
            logger.info("%s is written again; %d records are lost", self.path, self._lost)
        self._silent, self._lost = False, 0

    close = reopen = flush


class _PatientFileWriter(FileWriter):
    def __init__(self, folder: str, flush_seconds: float) -> None:
        self.event_writer = EventFile(folder, flush_seconds)


class EventLog(SummaryWriter):
    """PyTorch's ``SummaryWriter`` on an `EventFile`.

    Args:
        folder: Where the event file lies.
        flush_seconds: Longest time that records wait for a flush.
    """

    def __init__(self, folder: str, flush_seconds: float) -> None:
        super().__init__(log_dir=folder, flush_secs=int(flush_seconds))

    file_writer: Any
    all_writers: Any

    def _get_file_writer(self) -> Any:
        if self.file_writer is None:
            self.file_writer = _PatientFileWriter(self.log_dir, self.flush_secs)
            self.all_writers = {self.file_writer.get_logdir(): self.file_writer}
        return self.file_writer
