"""Run folder: the names of its files, and its resolved configuration.

Beside these a run folder holds the states of the training, which VISSL names (see
`vice.models.training_state`), and TensorBoard's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.nearest import near_path
from vice.parts import package
from vice.redaction import redact_text
from vice.runtime.files import read_json, write_json
from vice.runtime.regular_file import open_regular

#: Weights and architecture of the last epoch that has ended, and a copy of its card for people.
WEIGHTS_NAME = "vice.safetensors"
CARD_NAME = "vice.json"
#: Of the states of the training.
STATE_SUFFIX = ".torch"
#: The architecture, written when training starts, for whoever loads a state of the training.
ARCHITECTURE_NAME = "architecture.json"
#: The resolved configuration, and what the training found in its folders of images.
CONFIG_NAME = "train_config.yaml"
FOUND_NAME = "images.json"
#: The overrides that it was last started with.
OVERRIDES_NAME = "overrides.json"
#: All lines of the first node; see `log_name` for others.
LOG_NAME = "log.txt"
#: Health of the training, a line a step.
HEALTH_NAME = "health.jsonl"
#: Label-free scores on images that are not trained on, a line an epoch.
HELD_OUT_NAME = "held_out.jsonl"
#: Folder with a sheet of pictures an epoch.
PICTURES_NAME = "pictures"
#: Held by the process that writes states, whatever has become of the one that started it.
LOCK_NAME = ".lock"
#: Held by the process that was started, from before it looks for a state to go on from.
LAUNCH_LOCK_NAME = ".launch.lock"
#: What an evaluation, or the demo, leaves in its own folder.
RESULTS_NAME = "results.json"
#: Beside it: the counts of each scored image.
PER_IMAGE_NAME = "per_image.npz"
#: What `vice segment`, `vice explore`, `vice select` and `vice export` say of their folders.
MASKS_RECORD_NAME = "segmentation.json"
EXPLORER_RECORD_NAME = "explorer.json"
SELECTION_RECORD_NAME = "selection.json"
EXPORT_RECORD_NAME = "export.json"
#: Kept by the reproduction of a paper's table: how long a run took, the checkpoint that was chosen
#: without labels, label-free scores of the last one, and agreement between seeds.
RECORD_NAME = "reproduce.json"
CHOICE_NAME = "choice.json"
SCORES_NAME = "label_free.json"
STABILITY_NAME = "stability.json"


def log_name(node: int) -> str:
    """Name of the log of a node, the first of which is 0."""
    return f"log_node{node}.txt" if node else LOG_NAME


def read_config(run_dir: Path) -> dict[str, Any]:
    """The resolved configuration of a run; empty where there is none yet.

    Only plain YAML is read: no tag makes an object, and no ``${...}`` is looked up.

    Raises:
        MissingPart: PyYAML is not installed.
        UserError: It is not whole, or no plain YAML.
    """
    path = run_dir / CONFIG_NAME
    if not path.exists():
        return {}
    yaml = package("yaml")
    remedy = "training writes it at its start: copy it from the run folder"
    try:
        with open_regular(path) as file:
            config = yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not whole ({brief(error)}); {remedy}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds no configuration; {remedy}")
    return config


def write_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Keeps what a run was started with; not if a secret is among it.

    Raises:
        UserError: The folder cannot be written.
    """
    path = run_dir / OVERRIDES_NAME
    if overrides and not any(redact_text(text) != text for text in overrides):
        write_json(path, list(overrides))
    else:
        path.unlink(missing_ok=True)


def read_overrides(run_dir: Path) -> list[str]:
    """What a run was last started with.

    Raises:
        UserError: The folder does not hold it.
    """
    path, remedy = run_dir / OVERRIDES_NAME, "repeat the command that the run was started with"
    if not path.is_file():
        if not run_dir.exists():
            near = near_path(run_dir, "check the path")
            raise UserError(f"{run_dir}: no such run folder{near}")
        why = "is no run folder" if not read_config(run_dir) else "does not hold its command"
        raise UserError(f"{run_dir} {why}: {remedy}, which goes on where it was")
    words = read_json(path, remedy, list)
    if not all(isinstance(word, str) for word in words):
        raise UserError(f"{path} holds no overrides: {remedy}")
    return words
