"""Evaluation task: what is scored on what, and how."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vice.datasets import DATASETS, ImageLabelPair, LabelledSet, open_dataset
from vice.datasets.described.described_set import ignores_exif
from vice.datasets.labelled_pixels import require_labels
from vice.errors import UserError
from vice.evaluation.out_of_data import files_of, keep_out_of_data
from vice.evaluation.protocols import Protocol, default_protocol, from_dict, get_protocol
from vice.images import Reading
from vice.models.load import reading_as, require_weights, stored_reading
from vice.runtime.collectives import on_first_rank
from vice.runtime.device_names import check_device
from vice.runtime.own_folder import keep_others_from_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is scored on what; all kinds of evaluation share it.

    Attributes:
        spec: The embedder, as in `vice.models.load.load_extractor`.
        dataset: A benchmark's name or a folder, as in `vice.datasets.open_dataset`.
        out_dir: Where results go.
        protocol: How it is scored.
        data_root: Folder that holds the benchmarks' folders.
        fit_dataset: Data set that is fitted on instead, of the same classes; None: ``dataset``.
        seed: Seed of everything random.
        device: ``"cpu"``, ``"cuda"`` and so on; None takes a GPU if there is one.
        workers: Data loading processes.
        log_level: Level of MMEngine's log on the terminal; its file in ``runner/`` has all.
        max_maps: For how many images of the scored split predictions are written.
        options: Entries of the config to change, dotted name to value.
        read_as: A run that images are read as of; None: as the embedder says of itself.
    """

    spec: str
    dataset: str
    out_dir: Path
    protocol: Protocol
    data_root: str | None = None
    fit_dataset: str | None = None
    seed: int = 0
    device: str | None = None
    workers: int = 0
    log_level: str = "ERROR"
    max_maps: int = 6
    options: dict[str, Any] = field(default_factory=dict)
    read_as: str | None = None

    def open(self, *, fit_labels: bool = True) -> tuple[LabelledSet, LabelledSet]:
        """The data sets to fit on and to score, after a look at every file of both splits.

        Args:
            fit_labels: Whether labels of the fitted split are used; what they hold is looked at
                only then.

        Raises:
            UserError: What is wrong with one of them, different classes, or no such checkpoint.
        """
        require_weights(self.spec)
        score = self._opened(self.dataset)
        fit = self._opened(self.fit_dataset) if self.fit_dataset else score
        check_same_classes(fit, score)
        fitted = fit.pairs(self.protocol.fit_split, labels=self.protocol.fit_labels)
        keep_out_of_data(self.out_dir, fit.root, files_of(fitted))
        scored = score.pairs(self.protocol.score_split)
        keep_out_of_data(self.out_dir, score.root, files_of(scored))
        on_first_rank(lambda: self._check(fit, score, fit_labels))
        return fit, score

    @cached_property
    def reading(self) -> Reading | None:
        """How images are read: as those that the embedder was trained on; None as 8-bit RGB.

        Raises:
            UserError: It was trained on images that are read in another way than ``read_as`` says.
        """
        own = stored_reading(self.spec)
        if self.read_as is None:
            return own
        asked = reading_as(self.read_as)
        if own is not None and own != asked:
            raise UserError(
                f"{self.spec} was trained on images that are read in another way than those of "
                f"{self.read_as}: leave --read-as out"
            )
        return asked

    def _opened(self, dataset: str) -> LabelledSet:
        return replace(open_dataset(dataset, self.data_root), reading=self.reading)

    def _check(self, fit: LabelledSet, score: LabelledSet, fit_labels: bool) -> None:
        fit.check(self.protocol.fit_split, labels=self.protocol.fit_labels)
        score.check(self.protocol.score_split)
        if self.protocol.fit_labels and fit_labels:
            fit.audit(self.protocol.fit_split)
        score.audit(self.protocol.score_split)
        unused = self.unused_splits(score)
        if unused:
            logger.info(
                "%s: %s is scored; labels of %s are used for nothing (--split-score)",
                score.root, self.protocol.score_split, ", ".join(unused),
            )  # fmt: skip

    def unused_splits(self, score: LabelledSet) -> list[str]:
        """Labelled splits of a folder that nothing is fitted to or scored on.

        Of a benchmark none is named: the split that papers score is scored.

        Args:
            score: The data set that is scored.
        """
        if self.dataset in DATASETS:
            return []
        used = self.protocol.score_split.split("+")
        if not self.fit_dataset:
            used += self.protocol.fit_split.split("+")
        return [split for split in score.splits() if split not in used]

    def require_labels(
        self,
        sets: tuple[LabelledSet, LabelledSet],
        *,
        fit: bool,
        pairs: list[ImageLabelPair] | None = None,
    ) -> None:
        """Sees to it that both splits hold a labelled pixel, where labels are used.

        Args:
            sets: What `open` returns.
            fit: Whether labels of the fitted split are used.
            pairs: Images of that split that are fitted on; None: all.

        Raises:
            UserError: A split without one.
        """

        def check() -> None:
            protocol = self.protocol
            if fit:
                require_labels(sets[0], pairs or sets[0].pairs(protocol.fit_split), "fit on")
            require_labels(sets[1], sets[1].pairs(protocol.score_split), "score")

        on_first_rank(check)

    def arguments(self) -> dict[str, Any]:
        """All fields as `make_task` takes them, the protocol as a dict."""
        plain = dataclasses.asdict(self)
        return {key: value for key, value in plain.items() if key != "read_as" or value is not None}


def make_task(
    spec: str,
    dataset: str | Path,
    out_dir: str | Path,
    *,
    protocol: Protocol | str | Mapping[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **fields: Any,
) -> Task:
    """A task from what a user names.

    Args:
        spec: See `Task`.
        dataset: See `Task`.
        out_dir: See `Task`.
        protocol: As in `resolve_protocol`.
        changes: As in `resolve_protocol`.
        **fields: Further fields of `Task`.

    Returns:
        The task.

    Raises:
        UserError: An unknown protocol, fields that do not go together, no such device, or a folder
            that holds something else than results of one evaluation.
    """
    keep_others_from_results(Path(out_dir))
    resolved = resolve_protocol(protocol, dataset, changes)
    resolved = _with_exif(resolved, dataset, fields.get("fit_dataset") or dataset)
    for name in ("data_root", "fit_dataset"):
        fields[name] = None if fields.get(name) is None else str(fields[name])
    if fields.get("device") is not None:
        check_device(fields["device"])
    return Task(spec, str(dataset), Path(out_dir), resolved, **fields)


def _with_exif(protocol: Protocol, score: str | Path, fit: str | Path) -> Protocol:
    """A protocol that says whether described data sets leave EXIF orientations alone.

    Raises:
        UserError: It says something else than the data sets.
    """
    of_score, of_fit = ignores_exif(score), ignores_exif(fit)
    found = "layout"
    if of_score or of_fit:
        found = "ignore" if of_score and of_fit else "score_ignore" if of_score else "fit_ignore"
    if protocol.exif not in ("layout", found):
        raise UserError(
            f"exif={protocol.exif}, but the data sets say {found}: it follows from their "
            "dataset.yaml (exif: apply or ignore); change it there, and leave it out here"
        )
    return dataclasses.replace(protocol, exif=found)


def resolve_protocol(
    protocol: Protocol | str | Mapping[str, Any] | None,
    dataset: str | Path,
    changes: Mapping[str, Any] | None = None,
) -> Protocol:
    """The protocol that is meant.

    Args:
        protocol: Itself, its name, or all its fields as a file has them; None takes the data set's
            default.
        dataset: A benchmark's name or a folder.
        changes: Fields to set otherwise.

    Returns:
        The protocol.

    Raises:
        UserError: An unknown protocol, or fields that do not go together.
    """
    if isinstance(protocol, Protocol):
        return dataclasses.replace(protocol, **changes) if changes else protocol
    if isinstance(protocol, Mapping):
        return from_dict({**protocol, **(changes or {})})
    kind = str(dataset) if str(dataset) in DATASETS else "folder"
    return get_protocol(protocol or default_protocol(kind), kind, **(changes or {}))


def check_same_classes(fit: LabelledSet, score: LabelledSet) -> None:
    """Raises a `UserError` where two data sets have not the same classes in the same order."""
    if fit.classes != score.classes:
        raise UserError(
            f"{fit.name} and {score.name} have not the same classes ({len(fit.classes)} and "
            f"{len(score.classes)}): what is fitted on one can only be scored on the other if "
            "both use one label set"
        )
