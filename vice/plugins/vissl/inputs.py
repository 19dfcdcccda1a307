"""What a training reads from disk: its images, and the weights and region maps it is given."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.image_survey import SAMPLE, content_warnings, survey_images
from vice.images import list_images

logger = logging.getLogger(__name__)


def check_data(config: DictConfig) -> None:
    """Makes sure that what training reads is there, and makes its paths absolute.

    Args:
        config: ``config.*``; its paths of images, weights and region maps, and that of the run
            folder, are changed in place.

    Raises:
        UserError: No path of images is given, or a path is missing; names it and the remedy.
    """
    paths = config.DATA.TRAIN.DATA_PATHS
    hint = config.VICE.DATASET.get("prepare")
    remedy = f"prepare it with: {hint}" if hint else "give the folder of your images"
    key = "config.DATA.TRAIN.DATA_PATHS"
    if not OmegaConf.is_list(paths) or len(paths) != 1:
        raise UserError(f"{key} must be a list with one path, such as \"{key}='[photos]'\"")
    path = Path(str(paths[0]))
    # os.path has an answer for names too long for the disk, too; Path raises.
    if not os.path.exists(path):
        raise UserError(f"{key}: {path.absolute()} does not exist; {remedy}")
    # Workers and SLURM nodes may start elsewhere.
    config.DATA.TRAIN.DATA_PATHS = [str(path.absolute())]
    config.CHECKPOINT.DIR = str(Path(str(config.CHECKPOINT.DIR)).absolute())
    _check_held_out(config.VICE.HEALTH)
    _check_weights(config.MODEL.TRUNK.VICE)
    superpixels = config.VICE.SUPERPIXELS
    if superpixels.get("folder") is not None:
        superpixels.folder = os.path.abspath(str(superpixels.folder))


def _check_held_out(health: DictConfig) -> None:
    if not health.held_out:
        return
    for path in health.held_out_paths:
        try:
            list_images(path)
        except UserError as error:
            raise UserError(f"config.VICE.HEALTH.held_out_paths: {error}") from error
    health.held_out_paths = [os.path.abspath(path) for path in health.held_out_paths]


def _check_weights(trunk: DictConfig) -> None:
    weights = trunk.get("weights")
    if weights in (None, "imagenet"):
        return
    if not os.path.isfile(str(weights)):
        raise UserError(
            f"config.MODEL.TRUNK.VICE.weights: {weights} is no file; give a file of weights, "
            "imagenet or null"
        )
    trunk.weights = os.path.abspath(str(weights))


def look_at_images(path: str | Path) -> None:
    """Says what a sample of the images to train on holds, and refuses what cannot be trained on.

    Args:
        path: Folder or list of images.

    Raises:
        UserError: More than half of the images that were looked at cannot be used.
    """
    survey = survey_images(list_images(path), most=SAMPLE)
    refused = survey.refused
    if 2 * len(refused) > survey.looked:
        raise UserError(
            f"{path}: {len(refused)} of {survey.looked} images that were looked at cannot be "
            f"trained on; the first is {refused[0]}"
        )
    logger.info("%s: %s", path, survey)
    if refused:
        logger.warning(
            "%d of %d images that were looked at cannot be used and will be skipped; the first is "
            "%s", len(refused), survey.looked, refused[0],
        )  # fmt: skip
    for warning in content_warnings(survey.duplicates()):
        logger.warning("ALARM: of those that were looked at, %s", warning)
