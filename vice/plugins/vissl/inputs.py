"""What a training reads from disk: its images, and the weights and region maps it is given."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.files import replace_atomically
from vice.image_lists import announce, list_images, survey


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


#: File in the run folder that says what `announce_data` says.
FOUND_NAME = "images.json"


def announce_data(config: Any) -> dict[str, Any]:
    """Says which images a training finds, and what it leaves out; of each place once.

    Args:
        config: ``config.*``, its paths absolute.

    Returns:
        What was found, for JSON: ``train``, and ``held_out`` with an entry a path.

    Raises:
        UserError: A path holds no image that can be read.
    """
    health = config.VICE.HEALTH
    held_out = [str(path) for path in health.held_out_paths] if health.held_out else []
    contents = [survey(path) for path in (str(config.DATA.TRAIN.DATA_PATHS[0]), *held_out)]
    for found in contents:
        announce(found)
    train, *others = (found.to_dict() for found in contents)
    return {"train": train, "held_out": others}


def write_found(config: Any) -> None:
    """Writes what `announce_data` returns into the run folder, as ``images.json``."""
    text = json.dumps(announce_data(config), indent=1) + "\n"
    path = Path(config.CHECKPOINT.DIR) / FOUND_NAME
    replace_atomically(path, lambda new: Path(new).write_text(text, encoding="utf-8"))


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
