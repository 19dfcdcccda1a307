"""STEGO that sends its process a signal, once each, at moments named ``PLACE:EPOCH:SIGNAL``."""

from __future__ import annotations

from typing import Any

from tests.helpers.stopped_clusters import Stopping
from vice.methods.stego import STEGO


class StoppedSTEGO(Stopping, STEGO):
    """``neighbors`` is in the pass that looks for them, ``epoch`` in the middle of one."""

    def before_workers(self, context: Any) -> None:
        self._stopping(context, ("neighbors",), super().before_workers)
