"""Event files of TensorBoard, written so that a full disk costs no training.

TensorBoard's own writer works in a thread, which ends with the first error and takes the training
with it at the next record.
"""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from vice.runtime.patient_file import PatientFile


class EventFile:
    """One event file; stands in for TensorBoard's ``EventFileWriter``.

    Args:
        folder: Where it lies.
        flush_seconds: Longest time that records wait for a flush.
    """

    def __init__(self, folder: str, flush_seconds: float) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = PatientFile(Path(folder) / f"{name}.{time.time_ns() % 10**9}")
        self.flush_seconds = flush_seconds
        self._flushed = time.monotonic()
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def get_logdir(self) -> str:
        """The folder."""
        return str(self._file.path.parent)

    def add_event(self, event: Event) -> None:
        """Adds a record."""
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.add(record.getvalue())
        if time.monotonic() - self._flushed > self.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Tries to bring all records to the disk."""
        self._flushed = time.monotonic()
        self._file.flush()

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

    def add_image(
        self,
        tag: str,
        pixels: Any,
        step: int,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Adds an image: as JPEG if it is uint8 (H, W, 3), else as PyTorch's writer does.

        A record's checksum is computed in Python, a byte at a time: as PNG a sheet of photographs
        takes as long as a step of a small training.

        Args:
            tag: Its name.
            pixels: As ``dataformats`` says.
            step: Number of the step.
            walltime: Seconds since 1970, if not now.
            dataformats: The order of the axes.
        """
        if dataformats != "HWC" or getattr(pixels, "dtype", None) != np.uint8:
            super().add_image(tag, pixels, step, walltime, dataformats)
            return
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=80, subsampling=0)
        height, width = pixels.shape[:2]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=file.getvalue()
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._get_file_writer().add_summary(summary, step, walltime)
