"""IIC that sends its process a signal, once each, at moments named ``PLACE:EPOCH:SIGNAL``."""

from __future__ import annotations

from typing import Any

from tests.helpers.stopped_clusters import stop
from vice.methods.iic import IIC


class StoppedIIC(IIC):
    """``step`` is in the middle of an epoch, ``export`` before the last export."""

    steps = 0

    def before_epoch(self, context: Any) -> None:
        super().before_epoch(context)
        self.steps = 0

    def after_step(self, context: Any) -> None:
        super().after_step(context)
        self.steps += 1
        if self.steps == 2:
            stop("step", context.epoch)

    def before_export(self, context: Any) -> None:
        stop("export", context.epoch)
        super().before_export(context)
        context.check()
