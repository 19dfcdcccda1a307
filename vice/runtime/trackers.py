"""Trackers of experiments beside TensorBoard: Weights & Biases and MLflow, as writers of scalars.

A tracker is never worth a training: what goes wrong in one is told once, and ends it alone.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vice.errors import MissingPart, UserError
from vice.redaction import redact
from vice.runtime.files import read_json, write_json

logger = logging.getLogger(__name__)

#: In the run folder: the number that each tracker has given the run, by which it is found again.
IDS_NAME = "tracking.json"
#: By tracker: the module that it needs, and the package that brings it.
PACKAGES = {"wandb": ("wandb", "wandb"), "mlflow": ("mlflow", "mlflow-skinny")}


class Tracker(ABC):
    """Takes what TensorBoard's writer takes; scalars of one step are sent together.

    Args:
        folder: The run folder.
        target: What the user named: a project, or an address.
        config: The resolved configuration; secrets are left out.
    """

    name: str

    def __init__(self, folder: Path, target: str, config: Mapping[str, Any]) -> None:
        self._waiting: dict[str, float] = {}
        self._step = 0
        self._alive = True
        self._try(lambda: self._begin(folder, target, redact(config)))

    @abstractmethod
    def _begin(self, folder: Path, target: str, config: Mapping[str, Any]) -> None:
        """Begins a run, or goes on with the one that the folder names."""

    @abstractmethod
    def _send(self, values: dict[str, float], step: int) -> None:
        """Sends the scalars of a step."""

    @abstractmethod
    def _send_image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Sends a picture, uint8 (H, W, 3)."""

    @abstractmethod
    def _end(self) -> None:
        """Says that the run is done."""

    def add_scalar(self, name: str, value: Any, step: int) -> None:
        """Takes one number of a step."""
        if step != self._step:
            self.flush()
        self._step = int(step)
        self._waiting[name] = float(value)

    def add_image(
        self, name: str, picture: np.ndarray, step: int, dataformats: str = "HWC"
    ) -> None:
        """Takes a picture, uint8 (H, W, 3)."""
        if dataformats != "HWC":
            raise ValueError(f"pictures are HWC, not {dataformats}")
        self.flush()
        self._try(lambda: self._send_image(name, np.asarray(picture), int(step)))

    def flush(self) -> None:
        """Sends what waits."""
        values, self._waiting = self._waiting, {}
        if values:
            self._try(lambda: self._send(values, self._step))

    def close(self) -> None:
        """After the training."""
        self.flush()
        self._try(self._end)

    def _try(self, act: Callable[[], None]) -> None:
        if not self._alive:
            return
        # Global RNG: what a tracker draws must not change the training.
        state = random.getstate(), np.random.get_state()
        try:
            act()
        # Catch-all (network, disk, an account that has ended): hours of training are worth more.
        except Exception as error:
            self._alive = False
            logger.error(
                "%s: %s: %s. Training goes on without it", self.name, type(error).__name__, error
            )
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])


class WandbTracker(Tracker):
    """Weights & Biases; ``target`` is the project. WANDB_MODE=offline keeps it on the disk."""

    name = "wandb"

    def _begin(self, folder: Path, target: str, config: Mapping[str, Any]) -> None:
        import wandb

        number = _known(folder, self.name)
        self._run = wandb.init(
            project=target,
            name=folder.name,
            dir=str(folder),
            id=number,
            resume="allow" if number else None,
            config=dict(config),
        )
        _keep(folder, self.name, str(self._run.id))
        # Own step: that of W&B only grows, and a resumed run goes back to its last state.
        self._run.define_metric("*", step_metric="iteration")

    def _send(self, values: dict[str, float], step: int) -> None:
        self._run.log({"iteration": step, **values})

    def _send_image(self, name: str, picture: np.ndarray, step: int) -> None:
        import wandb

        self._run.log({"iteration": step, name: wandb.Image(Image.fromarray(picture))})

    def _end(self) -> None:
        self._run.finish()


class MlflowTracker(Tracker):
    """MLflow; ``target`` is its tracking URI, or a folder. The experiment is called ``vice``."""

    name = "mlflow"
    _EXPERIMENT = "vice"

    def _begin(self, folder: Path, target: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        address = target
        if "://" not in target:
            # MLflow wants this word for what is no server and no database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            address = Path(target).absolute().as_uri()
        self._client = MlflowClient(tracking_uri=address)
        self._id = _known(folder, self.name) or ""
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(self._EXPERIMENT)
        experiment = (
            known.experiment_id if known else self._client.create_experiment(self._EXPERIMENT)
        )
        self._id = self._client.create_run(experiment, run_name=folder.name).info.run_id
        _keep(folder, self.name, self._id)
        self._client.log_dict(self._id, dict(config), "train_config.json")

    def _send(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name.replace(" ", "_"), value, step=step)

    def _send_image(self, name: str, picture: np.ndarray, step: int) -> None:
        file = f"{name.replace('/', '_')}_{step}.png"
        self._client.log_image(self._id, picture, artifact_file=file)

    def _end(self) -> None:
        self._client.set_terminated(self._id)


TRACKERS: dict[str, type[Tracker]] = {each.name: each for each in (WandbTracker, MlflowTracker)}


def check_trackers(targets: Mapping[str, str | None]) -> None:
    """Sees whether the packages of wanted trackers are installed.

    Args:
        targets: Tracker to what the user named; None: it is not wanted.

    Raises:
        UserError: One is missing; says which command installs it.
    """
    for name, target in targets.items():
        module, package = PACKAGES[name]
        if target is not None and importlib.util.find_spec(module) is None:
            raise MissingPart(
                f"config.VICE.TRACKING.{name} needs {package}: pip install {package}", name=module
            )


def make_trackers(
    targets: Mapping[str, str | None], folder: Path, config: Mapping[str, Any]
) -> list[Tracker]:
    """The trackers that are wanted, with a run begun or gone on with.

    Args:
        targets: As in `check_trackers`.
        folder: The run folder.
        config: The resolved configuration.
    """
    return [
        TRACKERS[name](folder, target, config)
        for name, target in targets.items()
        if target is not None
    ]


def _known(folder: Path, name: str) -> str | None:
    path = folder / IDS_NAME
    if not path.exists():
        return None
    try:
        number = read_json(path, "it is made again").get(name)
    except UserError:
        return None
    return number if isinstance(number, str) else None


def _keep(folder: Path, name: str, number: str) -> None:
    path = folder / IDS_NAME
    known = {key: _known(folder, key) for key in PACKAGES}
    write_json(path, {**{key: value for key, value in known.items() if value}, name: number})
