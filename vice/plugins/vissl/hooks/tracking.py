"""Weights & Biases and MLflow beside TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classy_vision.generic.distributed_util import is_primary

from vice.plugins.vissl.hooks.base import SilentHook
from vice.runtime.trackers import Tracker, make_trackers


class TrackingHook(SilentHook):
    """Holds the trackers that ``VICE.TRACKING`` asks for, on the first rank.

    Args:
        folder: The run folder.
        targets: Tracker to its target, None where it is not wanted.
        config: The resolved configuration.
    """

    def __init__(
        self, folder: str, targets: Mapping[str, str | None], config: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.targets = dict(targets)
        # Plain values: VISSL's have types that other libraries do not take.
        self.config = json.dumps(config, default=str)
        self.writers: list[Tracker] = []

    def on_start(self, task: Any) -> None:
        """Begins a run of each, or goes on with it."""
        if is_primary():
            self.writers = make_trackers(self.targets, self.folder, json.loads(self.config))

    def on_phase_end(self, task: Any) -> None:
        """After each epoch."""
        for writer in self.writers:
            writer.flush()

    def on_end(self, task: Any) -> None:
        """After the training."""
        for writer in self.writers:
            writer.close()
