"""What the images of both splits hold, before an evaluation works with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from vice.datasets import ImageLabelPair, LabelledSet
from vice.errors import UserError
from vice.evaluation.content_checksums import checksums
from vice.evaluation.task import Task
from vice.images import Reading
from vice.images.fingerprints import count_shared
from vice.images.survey import Survey, content_warnings, survey_images
from vice.plugins.mmseg.holding import hold
from vice.runtime.collectives import on_first_rank
from vice.runtime.step_meter import StepMeter

logger = logging.getLogger(__name__)


def check_data(
    task: Task, meter: StepMeter, *, fit_labels: bool = True
) -> tuple[tuple[LabelledSet, LabelledSet], dict[str, Any]]:
    """Opens both data sets and looks at their labels and images, as a step of the meter.

    Args:
        task: What is scored on what.
        meter: Gets the step.
        fit_labels: Whether labels of the fitted split are used.

    Returns:
        The data sets to fit on and to score; and what `look_at_images` gives.

    Raises:
        UserError: As of `Task.open`, `Task.require_labels` and `look_at_images`.
    """
    with meter.step("check data"):
        sets = task.open(fit_labels=fit_labels)
        task.require_labels(sets, fit=fit_labels)
        content = look_at_images(task, sets)
    # Nothing is written before; a mistake leaves no folder behind.
    hold(task)
    return sets, content


def look_at_images(
    task: Task,
    sets: tuple[LabelledSet, LabelledSet],
    fitted: Sequence[ImageLabelPair] | None = None,
) -> dict[str, Any]:
    """Reads all images of both splits once, says what they hold, and which are in both.

    Args:
        task: What is scored on what.
        sets: Data sets that are fitted on and scored.
        fitted: The pairs that are fitted on, if not all of the split.

    Returns:
        For ``results.json``: ``fit`` and ``score``, each with formats, ranges, flat images, exact
        and near duplicates, and `vice.evaluation.content_checksums.checksums`; and ``shared``: how
        many scored images are among the fitted ones, exactly and nearly
        (`vice.images.fingerprints`).

    Raises:
        UserError: The first image that cannot be used.
    """
    return on_first_rank(lambda: _look(task, sets, fitted))


def _look(
    task: Task, sets: tuple[LabelledSet, LabelledSet], fitted: Sequence[ImageLabelPair] | None
) -> dict[str, Any]:
    protocol = task.protocol
    if fitted is None:
        fitted = sets[0].pairs(protocol.fit_split, labels=protocol.fit_labels)
    pairs = {"fit": fitted, "score": sets[1].pairs(protocol.score_split)}
    splits = {"fit": protocol.fit_split, "score": protocol.score_split}
    names = {role: f"{data.name} {splits[role]}" for role, data in zip(pairs, sets, strict=True)}
    surveys = {
        role: _survey(names[role], [each.image for each in pairs[role]], task.reading)
        for role in pairs
    }
    same, near = count_shared(surveys["score"].prints, surveys["fit"].prints)
    if same or near:
        logger.warning(
            "%d of %d scored images (%s) are among those that are fitted on (%s), and %d more "
            "have a near duplicate there: scores are better than on new images",
            same, surveys["score"].looked, names["score"], names["fit"], near,
        )  # fmt: skip
    labels = {role: [each.label for each in of if each.label] for role, of in pairs.items()}
    return {
        **{
            role: {**each.describe(), **checksums(each, labels[role])}
            for role, each in surveys.items()
        },
        "shared": {"exact": same, "near": near},
    }


def _survey(name: str, images: Sequence[Any], reading: Reading | None) -> Survey:
    survey = survey_images(images, f"looking at {name} images", reading=reading)
    if survey.refused:
        raise UserError(
            f"{survey.refused[0]} ({len(survey.refused)} of {survey.looked} images of {name} "
            "cannot be used)"
        )
    logger.info("%s: %s", name, survey)
    duplicates = survey.duplicates()
    if duplicates.flat or duplicates.repeated or duplicates.near:
        logger.warning(
            "%s: of %d images, %d are of one colour, %d equal others and %d are near duplicates",
            name, duplicates.images, duplicates.flat, duplicates.repeated, duplicates.near,
        )  # fmt: skip
    for warning in content_warnings(duplicates, scored=True):
        logger.warning("%s: %s", name, warning)
    return survey
