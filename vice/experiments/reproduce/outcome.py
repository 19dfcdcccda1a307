"""What has come of a table and its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vice.experiments.reproduce.evaluations import Scores, result_folders
from vice.experiments.reproduce.plan import ReproducePlan
from vice.experiments.reproduce.tables import Experiment


@dataclass
class RowOutcome:
    """What has come of a row.

    Attributes:
        last: Scores of the last checkpoint, a seed each.
        chosen: Scores of the checkpoint that is chosen without labels, a seed each; empty of a
            seed of which it is not scored.
        epochs: Epochs of the chosen checkpoints, those that are the last included.
        same: Whether all chosen checkpoints are the last ones.
        seconds: What the trainings took by the clock, where it is known.
        run: Name of the first seed's run folder.
        label_free: What `vice.experiments.reproduce.label_free.last_scores` gives, a seed each.
        stability: What `vice.experiments.reproduce.label_free.stability` gives, a pair of seeds
            each.
        missing: Why there are no weights to score.
        passes: What `vice.experiments.reproduce.trainings.passes` counts, a seed each.
        results: Results directories of the last checkpoints.
        specs: What was scored there.
        curve: Epoch, from 1, to the scores of its checkpoint, a seed each.
        processor_seconds: What the trainings took of the processor, where it is known.
        precisions: What `vice.experiments.reproduce.trainings.computed_in` tells, a seed each.
    """

    last: list[Scores] = field(default_factory=list)
    chosen: list[Scores] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    same: bool = True
    seconds: list[float] = field(default_factory=list)
    run: str = ""
    label_free: list[dict[str, float]] = field(default_factory=list)
    stability: list[dict[str, Any]] = field(default_factory=list)
    missing: str = ""
    passes: list[tuple[int, int]] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    specs: list[str] = field(default_factory=list)
    curve: list[dict[int, Scores]] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    precisions: list[str] = field(default_factory=list)

    @property
    def compared(self) -> list[Scores]:
        """Scores of the chosen checkpoints; none unless those of all seeds are there."""
        return self.chosen if all(self.chosen) else []

    def take(
        self,
        scores: Scores,
        row: Experiment,
        spec: str,
        seed: int,
        folder: Path,
        plan: ReproducePlan,
    ) -> None:
        """Takes the scores that `evaluate` gave of a last checkpoint, and notes where they are."""
        self.last.append(scores)
        self.results += result_folders(row, spec, seed, folder, plan)
        self.specs.append(spec)


@dataclass
class Outcome:
    """What has come of a table.

    Attributes:
        rows: Name of the row to what has come of it.
        failures: A line for each row and seed that failed.
        waiting: A line for each that is in SLURM's hands.
        warnings: What the log was told of the whole table, each once however often it is written.
    """

    rows: dict[str, RowOutcome] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
