"""Checkpoint selection without labels, by what each makes of images it was not trained on.

The rule: of the states at the ends of epochs, the one whose assignments of the same regions in two
views share the most normalised mutual information; of equals, the later. Loss and plain agreement
would not do, since both are best when every region falls to one prototype; mutual information is
then 0. Nothing here sees a label.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vice.errors import UserError
from vice.evaluation.label_free import HeldOutViews, LabelFreeScores
from vice.models.checkpoint import Checkpoint, load_checkpoint
from vice.models.training_state import states_of_epochs
from vice.runtime.run_folder import CONFIG_NAME, WEIGHTS_NAME, read_config

logger = logging.getLogger(__name__)

RULE = (
    "highest normalised mutual information between the prototypes of the same regions in two views"
)


@dataclass(frozen=True)
class Choice:
    """The checkpoint that `choose_checkpoint` takes.

    Attributes:
        path: Its file; the run's exported weights where the last epoch is chosen.
        epoch: Its epoch, from 1; 0 where no state of an epoch is left.
        last: Whether it is the last epoch's.
        scores: File name to scores, in the order of the epochs.
    """

    path: Path
    epoch: int
    last: bool
    scores: Mapping[str, LabelFreeScores]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            "rule": RULE,
            "path": str(self.path),
            "epoch": self.epoch,
            "last": self.last,
            "scores": {name: dataclasses.asdict(scores) for name, scores in self.scores.items()},
        }


def choose_checkpoint(
    run_dir: str | Path,
    images: Sequence[str | Path],
    seed: int = 0,
    *,
    device: str | torch.device = "cpu",
) -> Choice:
    """Scores every epoch's state of a run without labels, and chooses one by the module's rule.

    Args:
        run_dir: Folder of a finished run.
        images: Images that were not trained on; dozens are enough.
        seed: Seed of views and colours, which are the same for all checkpoints.
        device: Where to compute.

    Returns:
        The choice with all scores.

    Raises:
        UserError: No run there, no prototypes in it, or no image with mutual regions.
    """
    folder = Path(run_dir)
    epochs = states_of_epochs(folder)
    settings = read_config(folder).get("VICE")
    if settings is None:
        raise UserError(f"{folder} holds no {CONFIG_NAME}: is it a run folder?")
    exported = folder / WEIGHTS_NAME
    candidates = epochs or [(0, exported)]
    views = HeldOutViews(images, settings, seed)
    scores = {}
    for _, file in candidates:
        checkpoint = load_checkpoint(file, device=device, of_epoch=True)
        if checkpoint.concepts is None and file != candidates[-1][1]:
            logger.info("%s: holds no prototypes yet, so it cannot be chosen", file)
            continue
        scores[file.name] = views.measure(checkpoint.embedder, checkpoint.required_directions())
        logger.info("%s: %s", file, scores[file.name])
    epoch, best = max(
        (entry for entry in candidates if entry[1].name in scores),
        key=lambda entry: (scores[entry[1].name].mutual_information, entry[0]),
    )
    last = epoch == candidates[-1][0]
    return Choice(exported if last else best, epoch, last, scores)


def score_checkpoint(
    checkpoint: Checkpoint,
    images: Sequence[str | Path],
    settings: Mapping[str, Any],
    seed: int = 0,
) -> LabelFreeScores:
    """Label-free scores of one checkpoint.

    Args:
        checkpoint: With prototypes.
        images: Image files.
        settings: ``VICE`` of the run's ``train_config.yaml``: how views are made and compared.
        seed: Seed of views and colours.

    Returns:
        The scores.

    Raises:
        UserError: No prototypes, or no image with mutual regions.
    """
    views = HeldOutViews(images, settings, seed)
    return views.measure(checkpoint.embedder, checkpoint.required_directions())
