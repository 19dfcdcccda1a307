"""From a config and a task to a run of MMSegmentation inside this process."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from vice.datasets.labelled_folder import LabelledFolder, open_folder
from vice.errors import UserError
from vice.paths import config_root
from vice.plugins.mmseg.metric import CountMetric


@dataclass(frozen=True)
class Task:
    """What is scored on what; both kinds of evaluation share it.

    Attributes:
        spec: The embedder, as in `vice.extractors.load_extractor`.
        dataset_root: A data set in the labelled-folder layout.
        out_dir: Where results go.
        split_fit: Split that anything is fitted on.
        split_score: Split that scores are taken on.
        seed: Seed of everything random.
        device: ``"cpu"``, ``"cuda"`` and so on; None takes a GPU if there is one.
        workers: Data loading processes.
        log_level: Level of MMEngine's log on the terminal.
        max_maps: For how many images of the scored split predictions are written.
        options: Entries of the config to change, dotted name to value.
    """

    spec: str
    dataset_root: Path
    out_dir: Path
    split_fit: str = "train"
    split_score: str = "val"
    seed: int = 0
    device: str | None = None
    workers: int = 0
    log_level: str = "INFO"
    max_maps: int = 6
    options: dict[str, Any] = field(default_factory=dict)

    def folder(self) -> LabelledFolder:
        """The data set, after a look at every file of both splits.

        Raises:
            UserError: What is wrong with it, or one split for fitting and scoring.
        """
        if self.split_fit == self.split_score:
            raise UserError(
                f"fitting and scoring on one split ({self.split_fit}) measures memory, not "
                "generalisation: name two splits"
            )
        folder = open_folder(self.dataset_root)
        for split in (self.split_fit, self.split_score):
            folder.check(split)
        return folder


class DeviceRunner(Runner):
    """MMEngine's runner on the config's ``device`` (MMEngine itself always takes a GPU)."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Moves the model to the wanted device after what MMEngine does."""
        model = super().wrap_model(model_wrapper_cfg, model)
        device = self.cfg.get("device")
        return model if device is None else model.to(device)


def load_config(name: str, task: Task) -> Config:
    """Reads ``configs/mmseg/<name>.py`` and fills in the task.

    Args:
        name: Name of the experiment's config.
        task: What is scored on what.

    Returns:
        The config, without ``task.options`` (see `finish_config`).
    """
    config = Config.fromfile(config_root() / "mmseg" / f"{name}.py")
    config.work_dir = str(task.out_dir / "runner")
    config.log_level = task.log_level
    config.device = task.device
    config.randomness = {"seed": task.seed}
    # Draws only when MMSegmentation's own test tool asks it to, and warns when it may not.
    config.default_hooks.pop("visualization", None)
    config.model.backbone.update(spec=task.spec, seed=task.seed)
    splits = {"train": task.split_fit, "val": task.split_score, "test": task.split_score}
    for kind, split in splits.items():
        loader = config.get(f"{kind}_dataloader")
        if loader is not None:
            loader.update(num_workers=task.workers, persistent_workers=task.workers > 0)
            loader.dataset.update(data_root=str(task.dataset_root), split=split)
    return config


def finish_config(config: Config, task: Task) -> Config:
    """Applies ``task.options`` last, so that they win."""
    config.merge_from_dict(task.options)
    return config


def run(config: Config, *, train: bool) -> CountMetric:
    """Runs a config with MMEngine's runner: trains if asked, then tests.

    Args:
        config: A finished config whose test evaluator is one `CountMetric`.
        train: Whether to train first.

    Returns:
        The metric with its tables.
    """
    config = config.copy()
    # Two runners of one name would share their logger, message hub and visualizer.
    config.experiment_name = config.visualizer.name = f"vice_{time.time_ns()}"
    runner = DeviceRunner.from_cfg(config)
    if train:
        runner.train()
    runner.test()
    return runner.test_loop.evaluator.metrics[0]


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Gives back what MMEngine sets for the whole process.

    These are the start method of new processes, OpenCV's threads and the generators of the CPU.
    """
    import cv2
    import torch.multiprocessing as mp

    threads, method = cv2.getNumThreads(), mp.get_start_method(allow_none=True)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        cv2.setNumThreads(threads)
        mp.set_start_method(method, force=True)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
