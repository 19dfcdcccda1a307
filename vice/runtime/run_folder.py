"""Names of the files of a run folder, and its resolved configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.runtime.regular_file import open_regular

WEIGHTS_NAME = "vice.safetensors"


CARD_NAME = "vice.json"


#: The architecture of a run, written beside VISSL's checkpoints when training starts.
ARCHITECTURE_NAME = "architecture.json"


HEALTH_NAME = "health.jsonl"


#: Label-free scores on images that are not trained on, a line an epoch.
HELD_OUT_NAME = "held_out.jsonl"


#: Held by the process that writes states, whatever has become of the one that started it.
LOCK_NAME = ".lock"


#: Held by the process that was started, from before it looks for a state to go on from.
LAUNCH_LOCK_NAME = ".launch.lock"


PICTURES_NAME = "pictures"


RESULTS_NAME = "results.json"


def read_config(run_dir: Path) -> dict[str, Any]:
    """The resolved configuration of a run; empty where there is none yet.

    Only plain YAML is read: no tag makes an object, and no ``${...}`` is looked up.

    Raises:
        UserError: It is not whole, or no plain YAML.
    """
    import yaml

    path = run_dir / "train_config.yaml"
    if not path.exists():
        return {}
    remedy = "training writes it at its start: copy it from the run folder"
    try:
        with open_regular(path) as file:
            found = yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not whole ({brief(error)}); {remedy}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no configuration; {remedy}")
    return found
