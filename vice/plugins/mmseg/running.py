"""From a config and a task to a run of MMSegmentation inside this process."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from vice.errors import UserError
from vice.evaluation.dense_crf import check_crf
from vice.evaluation.task import Task
from vice.paths import config_root
from vice.plugins.mmseg.backbone import SharedEmbedder
from vice.plugins.mmseg.best_epoch import best_epoch_of
from vice.plugins.mmseg.fitted_weights import set_weights
from vice.plugins.mmseg.holding import RUNNER, holding
from vice.plugins.mmseg.metric import CountMetric
from vice.plugins.mmseg.pipelines import count_steps, optimizer, schedule
from vice.plugins.mmseg.runner import LAST_NAME, make_runner
from vice.plugins.mmseg.watching import training_of
from vice.runtime.collectives import on_first_rank, rank, wait_for_all, world_size

#: Third deviation of the harness of dense retrieval, see `vice.evaluation.protocols.Protocol`.
HARNESS_STD = 0.255


def load_config(name: str, task: Task) -> Config:
    """Reads ``configs/mmseg/<name>.py`` and fills in the task.

    Args:
        name: Name of the experiment's config.
        task: What is scored on what.

    Returns:
        The config, without ``task.options`` (see `finish_config`).
    """
    if task.protocol.upsample == "probabilities" and not name.startswith("cluster"):
        raise UserError(
            f"{task.protocol.name} scores the classes of the checkpoint's own head and nothing "
            "else: evaluate clusters, or take another protocol (or upsample=scores)"
        )
    config = Config.fromfile(config_root() / "mmseg" / f"{name}.py")
    config.work_dir = str(task.out_dir / RUNNER)
    config.log_level = task.log_level
    config.device = task.device
    config.launcher = "pytorch" if world_size() > 1 else "none"
    config.randomness = {"seed": task.seed}
    # Visualization hook: draws only when MMSegmentation's own test tool asks it to, else warns.
    config.default_hooks.pop("visualization", None)
    config.model.backbone.update(
        spec=task.spec, seed=task.seed, flip_average=task.protocol.flip_average
    )
    if task.protocol.features != "embedding":
        config.model.backbone.features = task.protocol.features
    if config.model.type == "EncoderDecoder":
        config.model.type = _segmentor(name, task)
    if task.protocol.std == "original":
        config.model.data_preprocessor.std[2] = 255 * HARNESS_STD
    for kind in ("train", "val", "test"):
        loader = config.get(f"{kind}_dataloader")
        if loader is not None:
            loader.update(num_workers=task.workers, persistent_workers=task.workers > 0)
            loader.dataset = dataset_config(task, "train" if kind == "train" else "score")
    return config


def _segmentor(name: str, task: Task) -> str:
    """What turns a head's scores into classes."""
    if task.protocol.crf == "dense" and not name.startswith("retrieval"):
        check_crf()
        return "CrfSegmentor"
    return "InputSizeSegmentor" if task.protocol.upsample == "input" else "EncoderDecoder"


def dataset_config(task: Task, role: str) -> dict[str, Any]:
    """Config of the data set in a role, see `vice.plugins.mmseg.dataset.ViceDataset`."""
    return {
        "type": "ViceDataset",
        "dataset": task.dataset if role == "score" else task.fit_dataset or task.dataset,
        "data_path": task.data_root,
        "protocol": dataclasses.asdict(task.protocol),
        "role": role,
        # Configs have plain values, and none of what is read as ever.
        **({} if task.reading is None else {"reading": task.reading.to_dict()}),
        "test_mode": role != "train",
    }


def set_probe(config: Config, task: Task, dim: int, num_classes: int, images: int) -> None:
    """Writes the protocol's linear head, optimizer, schedule and batch into a config.

    Args:
        config: Is changed.
        task: What is scored on what.
        dim: Width D of the embedding.
        num_classes: Number of classes.
        images: Number of train images, or of their crops.

    Raises:
        UserError: The batch does not divide over the ranks, or they cannot share what they train.
    """
    protocol = task.protocol
    config.model.decode_head.update(
        in_channels=dim,
        num_classes=num_classes,
        bottleneck=protocol.linear_bottleneck or None,
        upsample=protocol.upsample,
    )
    config.test_evaluator.update(max_samples=task.max_maps, per_image=True)
    # No validation: the scored split is looked at once, when training has ended.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    if protocol.linear_optimizer == "lbfgs":
        # The runner trains nothing: it is given the weights.
        config.train_dataloader = config.train_cfg = None
        config.optim_wrapper = config.param_scheduler = None
    else:
        _set_steps(config, task, images)


def _set_steps(config: Config, task: Task, images: int) -> None:
    protocol, ranks = task.protocol, world_size()
    if protocol.linear_batch % ranks:
        raise UserError(
            f"a batch of {protocol.linear_batch} images cannot be shared evenly by {ranks} "
            "processes: start a number of processes that divides it, or change --batch-size "
            "(linear_batch of the protocol)"
        )
    if protocol.linear_bottleneck:
        check_batch_norm(task)
    end, epoch = count_steps(protocol, images)
    config.train_cfg.update(max_iters=end, val_interval=end)
    config.optim_wrapper.optimizer = optimizer(protocol)
    config.param_scheduler = schedule(protocol, images)
    config.default_hooks.checkpoint.interval = end
    config.train_dataloader.batch_size = protocol.linear_batch // ranks
    if epoch:
        config.train_dataloader.sampler.batch = protocol.linear_batch


def check_batch_norm(task: Task) -> None:
    """Raises a `UserError` where the ranks cannot share the statistics of a batch normalisation."""
    if world_size() > 1 and (task.device or get_device()) == "cpu":
        raise UserError(
            "a batch normalisation that is trained cannot be shared by several processes on the "
            "CPU: use GPUs, or one process"
        )


def finish_config(config: Config, task: Task) -> Config:
    """Applies ``task.options`` last, so that they win."""
    config.merge_from_dict(task.options)
    return config


def run(
    config: Config,
    shared: SharedEmbedder | None,
    *,
    train: bool,
    weights: Mapping[str, Tensor] | None = None,
    keep: bool = True,
) -> CountMetric:
    """Runs a config with MMEngine's runner: trains if asked, then tests.

    Args:
        config: A finished config whose test evaluator is one `CountMetric`.
        shared: Handed to the model's backbone if that means it; None: it loads its own.
        train: Whether to train first.
        weights: Parameters of the model to set instead, by name; the model is then saved as
            ``fitted.pth`` (see `vice.plugins.mmseg.fitted_weights.set_weights`).
        keep: Whether the runner's files are kept; False where another run is to come.

    Returns:
        The metric with its tables; its ``training`` says what a training has seen, and
        ``best_epoch`` which epoch was the best, where that was asked for.

    Raises:
        UserError: Numbers that are not finite, or no labelled pixel that could be scored.
    """
    config = config.copy()
    # Global registries: two runners of one name share logger, message hub and visualizer.
    config.experiment_name = config.visualizer.name = f"vice_{time.time_ns()}"
    with _staged(config, keep):
        runner = make_runner(config, shared)
        if train:
            runner.train()
        if weights is not None:
            set_weights(runner, weights)
        runner.test()
        metric = runner.test_loop.evaluator.metrics[0]
        check_counted(metric, config.test_dataloader.dataset)
    metric.training = training_of(runner.hooks)
    metric.best_epoch = best_epoch_of(runner.hooks)
    return metric


@contextmanager
def _staged(config: Config, keep: bool) -> Iterator[None]:
    """Lets a runner write beside its folder, which gets the files when it has succeeded.

    What an earlier evaluation left there is lost to none that fails, and one beside this waits.
    """
    final = Path(config.work_dir)
    staging = final.with_name(f"{final.name}.part")
    with holding(final):
        on_first_rank(lambda: shutil.rmtree(staging, ignore_errors=True))
        config.work_dir = str(staging)
        try:
            yield
            # Logs: those of the other ranks are written there, too.
            wait_for_all()
            if not keep:
                on_first_rank(lambda: shutil.rmtree(staging))
        except BaseException:
            # Interrupts: also what a Ctrl-C has kept from being removed.
            if rank() == 0:
                shutil.rmtree(staging, ignore_errors=True)
            raise
        if keep:
            on_first_rank(lambda: _move_into(staging, final))


def _move_into(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name == LAST_NAME:
            # Absolute path: it holds that of the weights.
            before, after = (os.fsencode(str(path)) for path in (source, target))
            entry.write_bytes(entry.read_bytes().replace(before, after))
        if entry.is_dir():
            # Replacing: of folders only an empty one can be.
            shutil.rmtree(target / entry.name, ignore_errors=True)
        os.replace(entry, target / entry.name)
    source.rmdir()


def check_counted(metric: CountMetric, data: Mapping[str, Any]) -> None:
    """Raises a `UserError` where no pixel of a data set was counted."""
    if not any(int(table.counts.sum()) for table in metric.tables):
        raise UserError(
            f"{data['dataset']}: no labelled pixel is left to count in the images of role "
            f"{data['role']!r}: all are ignored, or outside the crop of the protocol"
        )


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
