"""Methods that send their process a signal, once each, at moments named ``PLACE:EPOCH:SIGNAL``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from vice.methods.maskcontrast import MaskContrast
from vice.methods.picie import PiCIE


def stop(place: str, epoch: int) -> None:
    for moment in os.environ.get("STOPS", "").split():
        done = Path(os.environ["DONE"]) / moment.replace(":", "-")
        if moment.split(":")[:2] == [place, str(epoch)] and not done.exists():
            done.touch()
            os.kill(os.getpid(), getattr(signal, moment.split(":")[2]))


class Stopping:
    """In the second part of the passes of ``places``, before an epoch, and of the last one."""

    steps = 0
    places: tuple[str, ...] = ()

    def before_epoch(self, context: Any) -> None:
        self._stopping(context, self.places, super().before_epoch)

    def before_export(self, context: Any) -> None:
        self._stopping(context, ("export",), super().before_export)

    def after_step(self, context: Any) -> None:
        super().after_step(context)
        self.steps += 1
        if self.steps == 2:
            stop("epoch", context.epoch)

    @staticmethod
    def _stopping(context: Any, places: tuple[str, ...], work: Any) -> None:
        real, names = context.run, iter(places)

        def run(*arguments: Any) -> Any:
            place = next(names)
            for number, part in enumerate(real(*arguments)):
                if number == 1:
                    stop(place, context.epoch)
                yield part

        context.run = run
        try:
            work(context)
        finally:
            del context.run


class StoppedPiCIE(Stopping, PiCIE):
    """With a pass for each view, ``kmeans`` is in the second one."""

    places = ("", "kmeans", "labels")


class StoppedMaskContrast(Stopping, MaskContrast):
    """Nothing happens before an epoch."""
