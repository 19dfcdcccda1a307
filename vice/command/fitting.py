"""Concepts that ``vice segment --clusters`` fits once for a folder, by one of its processes."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vice.command.inputs import Stops, given_concepts, kept_in
from vice.errors import UserError
from vice.names import printable
from vice.runtime.run_folder import MASKS_RECORD_NAME

if TYPE_CHECKING:
    from vice.explore.named_concepts import NamedConcepts
    from vice.predictor import Predictor

logger = logging.getLogger(__name__)
#: Fitted concepts, beside the masks.
CONCEPTS_NAME = "concepts.safetensors"
#: Seconds between two looks at what another process fits.
_PAUSE = 0.5


def fitted_concepts(
    args: argparse.Namespace, predictor: Predictor, images: list[Path], stops: Stops
) -> NamedConcepts:
    """The concepts of a folder: those that were fitted, or are now.

    Processes that share a folder by parts fit them to all of its images, not to their own: one
    does, and the others wait for it, so that all have the same.

    Args:
        args: With ``out``, ``clusters``, ``seed`` and ``part``.
        predictor: The model.
        images: All of the folder.
        stops: Whether to stop.

    Raises:
        UserError: Others were fitted there, or they cannot be fitted.
        Preempted: It was asked to stop.
    """
    from vice.models.centroids import Centroids
    from vice.runtime.folder_lock import sole_writer, writer_if_free

    path = args.out / CONCEPTS_NAME
    if not path.exists() and (args.out / MASKS_RECORD_NAME).exists():
        raise _others(args.out, "masks by other concepts")
    said, were_there = False, path.exists()
    while not path.exists():
        if args.part is None:
            with sole_writer(args.out):
                if not path.exists():
                    _fit(args, predictor, images, stops, path)
            break
        with writer_if_free(args.out) as free:
            if free and not path.exists():
                _fit(args, predictor, images, stops, path)
        if not free:
            if not said:
                logger.info("waiting for another part, which fits the concepts of all images")
            said = True
            if stops():
                stops.stop(0, len(images), "nothing was begun")
            time.sleep(_PAUSE)
    fitted = Centroids.load(path)
    if not fitted.may_be_of(predictor.weights):
        raise _others(args.out, "concepts of another model")
    for asked, found, what in (
        (args.clusters, len(fitted), f"{len(fitted)} concepts"),
        (args.seed, fitted.seed, f"concepts fitted with --seed {fitted.seed}"),
    ):
        if asked != found:
            raise UserError(
                f"{printable(str(path))} holds {what}, not {asked}: choose another output folder"
            )
    if were_there:
        logger.info("the concepts of %s, which an earlier call has fitted, are used", path)
    return given_concepts(path, predictor)


def _others(folder: Path, what: str) -> UserError:
    name = printable(str(folder))
    return UserError(f"{name} holds {what}: delete it, or choose another output folder")


def _fit(
    args: argparse.Namespace, predictor: Predictor, images: list[Path], stops: Stops, path: Path
) -> None:
    from vice.explore.fitted_concepts import fit_concepts
    from vice.explore.kept_pass import KeptPass, PassStopped

    kept = KeptPass.of(args.out, predictor, images, args.seed)
    try:
        fitted = fit_concepts(
            predictor,
            images,
            args.clusters,
            seed=args.seed,
            memory=args.memory,
            kept=kept,
            stopped=stops,
        )
    except PassStopped as stop:
        stops.stop(stop.done, len(images), kept_in(args.out))
    fitted.save(path)
    kept.forget()
