"""Hooks of a ViCE run, and the hook generator that adds them to VISSL's own."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from classy_vision.generic.distributed_util import is_primary
from classy_vision.hooks import ClassyHook
from vissl.hooks.log_hooks import LogLossMetricsCheckpointHook

import vice.plugins.vissl  # noqa: F401  (registers everything in a spawned worker)
from vice.errors import UserError
from vice.images import reading_of
from vice.images.content import Content
from vice.methods.signs import HealthMonitor, Measure
from vice.models.checkpoint import READING, save_run
from vice.models.concepts import UNIT
from vice.names import name_bytes
from vice.options import options_of
from vice.plugins.vissl.hooks.base import SilentHook, concepts_of, embedder_of, writers_of
from vice.plugins.vissl.hooks.default import default_hooks
from vice.plugins.vissl.hooks.finite import FiniteHook
from vice.plugins.vissl.hooks.method import LastExportHook, MethodHook
from vice.plugins.vissl.hooks.saving import SaveHook
from vice.plugins.vissl.hooks.telling import ProgressHook
from vice.plugins.vissl.hooks.tracking import TrackingHook
from vice.plugins.vissl.hooks.watching import watch_hooks
from vice.plugins.vissl.option_keys import KEYS
from vice.plugins.vissl.resuming import settings_of
from vice.runtime.files import write_text
from vice.runtime.health_log import HealthLog
from vice.runtime.preemption import Notice
from vice.runtime.provenance import versions
from vice.runtime.rendezvous import Roster
from vice.runtime.run_folder import ARCHITECTURE_NAME, LOG_NAME

logger = logging.getLogger(__name__)


class HealthHook(SilentHook):
    """Logs the health of each step: to ``health.jsonl``, TensorBoard and the log.

    Args:
        folder: The run folder.
        log_every: Steps between two lines of the log.
    """

    def __init__(self, folder: str, log_every: int) -> None:
        super().__init__()
        self.folder = folder
        self.log_every = log_every
        self.skipped: set[str] = set()
        self.content = Content()
        self.log: HealthLog | None = None
        self.monitor: HealthMonitor | None = None

    def on_start(self, task: Any) -> None:
        """Opens the files, at the iteration that training starts from."""
        method = task.method
        method_keys = {name: f"config.VICE.METHOD.{name}" for name in options_of(method.Options)}
        self.monitor = HealthMonitor(method.signs(), method.measures, keys={**KEYS, **method_keys})
        if is_primary():
            self.log = HealthLog(self.folder, task.iteration)

    def on_update(self, task: Any) -> None:
        """Writes the record of the step that has just been taken."""
        self._name_skipped(task.last_batch.sample.get("skipped", []))
        self.content.add(task.last_batch.sample.get("content", []))
        if self.log is None or self.monitor is None:
            return
        record = {
            "iteration": task.iteration,
            "epoch": task.train_phase_idx,
            "lr": _learning_rate(task),
            "skipped_images": len(self.skipped),
            **self.content.record(),
            **(task.passes.take() if task.passes else {}),
            **task.loss.health,
        }
        _check_measured(task.method.measures, record)
        self.log.write(record)
        self._to_writers(task, record)
        if task.iteration % self.log_every == 0:
            logger.info("health: %s", _in_words(task.method.measures, record))
        for alarm in self.monitor.update(record):
            logger.warning("ALARM: %s", alarm)

    def on_phase_start(self, task: Any) -> None:
        """Forgets what was computed to look at the model, which is no part of the training."""
        if task.passes:
            task.passes.take()

    def on_phase_end(self, task: Any) -> None:
        """Says after the first epoch what its images hold."""
        if self.log is not None:
            self.content.warn()

    def on_end(self, task: Any) -> None:
        """Counts the images that were left out."""
        if self.skipped and is_primary():
            logger.warning(
                "%d images were skipped beside %d that were used; each is named in %s",
                len(self.skipped), self.content.record()["seen_images"], LOG_NAME,
            )  # fmt: skip

    def _name_skipped(self, reasons: list[str]) -> None:
        for reason in reasons:
            if reason not in self.skipped:
                self.skipped.add(reason)
                logger.warning("skipped: %s", reason)

    @staticmethod
    def _to_writers(task: Any, record: dict[str, float]) -> None:
        for writer in writers_of(task):
            for name, value in record.items():
                writer.add_scalar(f"Health/{name}", value, task.iteration)


class ExportHook(SilentHook):
    """Writes what `vice.load` reads: the architecture at the start, weights after each epoch.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.architecture = ""

    def on_start(self, task: Any) -> None:
        """Describes the model, so that VISSL's own checkpoints can be loaded as well."""
        if is_primary():
            card: dict[str, Any] = {"embedder": embedder_of(task).config, "meta": _meta(task)}
            concepts = concepts_of(task)
            if concepts is not None and concepts.space != UNIT:
                card["space"] = concepts.space
            self.architecture = json.dumps(card, indent=2, sort_keys=True) + "\n"
            self._try(self._describe, must=False)

    def on_phase_end(self, task: Any) -> None:
        """Exports embedder and prototypes.

        Raises:
            UserError: The last export cannot be written; earlier ones may be missed.
        """
        if not (is_primary() and task.train):
            return
        if self.architecture:
            self._try(self._describe, must=False)
        model = (embedder_of(task), concepts_of(task), _meta(task))
        last = task.train_phase_idx == task.num_train_phases - 1
        self._try(lambda: save_run(self.folder, *model), must=last)

    def _describe(self) -> None:
        write_text(Path(self.folder) / ARCHITECTURE_NAME, self.architecture)
        self.architecture = ""

    @staticmethod
    def _try(write: Callable[[], object], *, must: bool) -> None:
        try:
            write()
        except UserError as error:
            if must:
                raise
            logger.error("%s. Training goes on and tries again after the epoch", error)


class RosterHook(SilentHook):
    """Notes what this rank does, for the others to read when it does not come back.

    Args:
        roster: Of the run; None for a process on its own.
    """

    def __init__(self, roster: Roster | None) -> None:
        super().__init__()
        self.roster = roster

    def on_start(self, task: Any) -> None:
        """Lets the training step write notes as well."""
        task.note = self.note

    def on_phase_start(self, task: Any) -> None:
        """Before the first images of an epoch."""
        self.note("reading images", task.iteration)

    def on_forward(self, task: Any) -> None:
        """After the model."""
        self.note("in the loss", task.iteration)

    def on_loss_and_meter(self, task: Any) -> None:
        """After the loss."""
        self.note("in the backward pass", task.iteration)

    def on_step(self, task: Any) -> None:
        """Before the next images."""
        self.note("reading images", task.iteration)

    def on_phase_end(self, task: Any) -> None:
        """Between epochs, where one rank writes files."""
        self.note("ending an epoch", task.iteration)

    def note(self, doing: str, iteration: int) -> None:
        """Writes a note, if there is anybody to read it."""
        if self.roster is not None and self.roster.ranks > 1:
            self.roster.note(doing, int(iteration))


def vice_hooks(
    cfg: Any, roster: Roster | None = None, notice: Notice | None = None, begun: Any = None
) -> list[ClassyHook]:
    """VISSL's default hooks and those of ViCE; the saving of VISSL's is replaced.

    Args:
        cfg: VISSL's configuration.
        roster: The ranks of the run.
        notice: Whether this process was asked to stop.
        begun: Told that there is something to save, if another process has started this one.

    Returns:
        The hooks in the order they run. What is saved comes after what makes a step complete:
        the health record, the export, pictures and held-out scores; what the method does after a
        step and before an epoch comes last, since states are saved at other moments.
    """
    folder, saving = str(cfg.CHECKPOINT.DIR), cfg.CHECKPOINT
    notice = notice or Notice()
    # Truth value: a shared number of zero counts as false.
    notice.begun = notice.begun if begun is None else begun
    default = default_hooks(cfg)
    saver = SaveHook(
        folder,
        int(saving.CHECKPOINT_ITER_FREQUENCY),
        int(saving.CHECKPOINT_FREQUENCY),
        int(cfg.VICE.KEEP_CHECKPOINTS),
        roster,
        notice,
        # I/O: they list the images, and the first rank alone saves them.
        settings_of(cfg) if roster is None or roster.rank == 0 else {},
    )
    return [
        RosterHook(roster),
        TrackingHook(folder, cfg.VICE.TRACKING, cfg),
        FiniteHook(folder, int(cfg.VICE.MAX_NONFINITE_STEPS)),
        HealthHook(folder, max(int(cfg.LOG_FREQUENCY), 1)),
        ProgressHook(folder, LOG_NAME),
        LastExportHook(saver),
        ExportHook(folder),
        *watch_hooks(cfg, notice),
        *[hook for hook in default if not isinstance(hook, LogLossMetricsCheckpointHook)],
        saver,
        MethodHook(saver),
    ]


def _check_measured(measures: Sequence[Measure], record: Mapping[str, Any]) -> None:
    """Refuses a method whose loss does not say what the method measures."""
    missing = [each.name for each in measures if each.name not in record]
    if missing:
        raise UserError(
            f"the method measures {', '.join(missing)}, which its loss's health does not hold: "
            "let it say so, or take it out of measures"
        )


def _in_words(measures: Sequence[Measure], record: Mapping[str, Any]) -> str:
    return ", ".join(f"{each.text} {record[each.name]:{each.form}}" for each in measures)


def _learning_rate(task: Any) -> float:
    rate = task.optimizer.options_view.lr
    return float(max(rate) if isinstance(rate, (list, set)) else rate)


def _meta(task: Any) -> dict[str, Any]:
    """Provenance: what a result needs to be traced back to."""
    paths = [path for source in task.datasets["train"].data_objs for path in source.paths]
    names = name_bytes("\n".join(paths))
    source = embedder_of(task).weight_source
    reading = reading_of(task.config["VICE"])
    return {
        **({READING: reading.to_dict()} if reading else {}),
        **({"weights": source} if source else {}),
        **task.method.provenance(),
        "iteration": int(task.iteration),
        "epoch": int(task.train_phase_idx) + 1,
        "epochs": int(task.config["OPTIMIZER"]["num_epochs"]),
        "seed": int(task.config["SEED_VALUE"]),
        "images": len(paths),
        "image_list_sha256": hashlib.sha256(names).hexdigest(),
        "versions": versions(),
    }
