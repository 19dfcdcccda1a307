"""What a training reads from disk: its images, and the weights and region maps it is given."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.images import list_images
from vice.images.lists import announce, survey
from vice.model_specs import other_form, split_key
from vice.models.weight_files import holds_weights
from vice.nearest import near_path
from vice.runtime.files import write_json
from vice.runtime.overrides import shell_word
from vice.runtime.run_folder import FOUND_NAME
from vice.runtime.trackers import check_trackers

logger = logging.getLogger(__name__)


def check_data(config: DictConfig) -> None:
    """Makes sure that what training reads is there.

    Args:
        config: ``config.*`` with absolute paths, as `vice.plugins.vissl.config.compose.compose`
            has it: workers and SLURM nodes may start elsewhere.

    Raises:
        UserError: No path of images is given, or a path is missing; names it and the remedy.
    """
    paths = config.DATA.TRAIN.DATA_PATHS
    hint = config.VICE.DATASET.get("prepare")
    remedy = "give the folder of your images"
    if hint:
        remedy = f"prepare it with: {_pasteable(str(hint))}"
    key = "config.DATA.TRAIN.DATA_PATHS"
    if not OmegaConf.is_list(paths) or len(paths) != 1 or not isinstance(paths[0], str):
        raise UserError(
            f"{key} must be a list with one path, a folder or a file of paths, such as "
            f'"{key}=[path/to/photos]" (vice train: --images path/to/photos)'
        )
    # Path length: os.path has an answer for names too long for the disk, too; Path raises.
    if not os.path.exists(paths[0]):
        raise UserError(f"{key}: {paths[0]} does not exist{near_path(paths[0], remedy)}")
    _check_folder(key, Path(paths[0]), Path(str(config.CHECKPOINT.DIR)))
    _check_held_out(config.VICE.HEALTH)
    check_trackers(config.VICE.TRACKING)
    _check_weights(config.MODEL.TRUNK.VICE)


def _check_folder(key: str, images: Path, run: Path) -> None:
    """Refuses a folder in which lies, or will lie, what is no photograph."""
    if not images.is_dir():
        return
    if all((images / name).is_dir() for name in ("images", "labels")):
        raise UserError(
            f"{key}: {images} is a labelled folder, whose label maps would be trained on as "
            f"images: give {images / 'images'}, or a split in it"
        )
    try:
        inside = run.resolve().relative_to(images.resolve()).parts
    except ValueError:
        return
    # Hidden folders are not looked into.
    if not any(part.startswith(".") for part in inside):
        raise UserError(
            f"config.CHECKPOINT.DIR: {run} lies in the folder of images {images}, where the "
            "pictures of the run would be taken for images: choose a folder outside of it (of "
            "vice train and the demo: --out)"
        )


def _pasteable(hint: str) -> str:
    """The hint with its folder, which may hold any character, as one word of a shell."""
    parts = re.fullmatch(r"(.*? --root )(.+)( --for \w+)", hint)
    return f"{parts[1]}{shell_word(parts[2])}{parts[3]}" if parts else hint


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
    for content in contents:
        announce(content)
    train, *others = (content.to_dict() for content in contents)
    return {"train": train, "held_out": others}


def write_contents(config: Any) -> None:
    """Writes what `announce_data` returns into the run folder, as ``images.json``."""
    write_json(Path(config.CHECKPOINT.DIR) / FOUND_NAME, announce_data(config))


def _check_held_out(health: DictConfig) -> None:
    if not health.held_out:
        return
    for path in health.held_out_paths:
        try:
            list_images(path)
        except UserError as error:
            raise UserError(f"config.VICE.HEALTH.held_out_paths: {error}") from error


def _check_weights(trunk: DictConfig) -> None:
    weights = trunk.get("weights")
    if weights in (None, "imagenet"):
        return
    file, _ = split_key(str(weights))
    if not holds_weights(file):
        raise UserError(
            f"config.MODEL.TRUNK.VICE.weights: {weights} is no file"
            + (other_form(file) or near_path(file, "give a file of weights, imagenet or null"))
        )
