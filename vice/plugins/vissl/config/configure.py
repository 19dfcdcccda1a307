"""From command-line overrides to a complete, checked VISSL configuration."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from vissl.utils.hydra_config import convert_to_attrdict

from vice.errors import UserError
from vice.images import list_images, reading_of
from vice.images.survey import look_at_images
from vice.methods import Method, build_method
from vice.plugins.vissl.config.checks import check_values
from vice.plugins.vissl.config.compose import change_texts, compose_with_defaults
from vice.plugins.vissl.config.image_reading import set_reading
from vice.plugins.vissl.config.inputs import announce_data, check_data
from vice.plugins.vissl.config.machines import check_machines, choose_device, world
from vice.plugins.vissl.option_keys import spelled
from vice.plugins.vissl.resuming import keep_begun, keep_decided
from vice.plugins.vissl.schedules import NAME as POLY
from vice.plugins.vissl.slurm_step import join_step
from vice.redaction import redact
from vice.runtime.files import write_text
from vice.runtime.overrides import unescape
from vice.runtime.run_folder import CONFIG_NAME

logger = logging.getLogger(__name__)

#: The peak is scaled already, and every step has its rate.
_PLAIN = {"auto_lr_scaling": {"auto_scale": False}, "update_interval": "step"}


@spelled()
def configure(overrides: list[str]) -> tuple[Any, Any]:
    """Composes, completes and checks a configuration; nothing is written.

    Args:
        overrides: Hydra overrides, the first of them ``config=vice/NAME``.

    Returns:
        VISSL's arguments and configuration (``config.*``) as AttrDicts.

    Raises:
        UserError: An unknown config or key, a value out of range, missing data, or a machine
            that the configuration does not fit.
    """
    composed, filled = compose_with_defaults(overrides)
    config = composed.config
    check_values(composed)
    keep_begun(config, filled)
    keep_decided(config)
    check_data(config)
    choose_device(config)
    join_step(config)
    check_machines(config)
    if int(composed.node_id) == 0:
        announce_data(config)
    set_schedule(config)
    images = check_batches(config)
    method = _build(config)
    method.check_batch(int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config))
    set_reading(config)
    look_at_images(str(config.DATA.TRAIN.DATA_PATHS[0]), reading_of(config.VICE))
    _log_scale(config, images)
    _set_parts(config, method)
    try:
        args, attributes = convert_to_attrdict(composed, dump_config=False)
    except AssertionError as error:
        raise UserError(f"VISSL does not take this configuration: {error}") from error
    change_texts(args, lambda text: unescape(text) or text)
    return args, attributes


def _build(config: DictConfig) -> Method:
    settings: Any = OmegaConf.to_container(config.VICE)
    return build_method(settings)


def _set_parts(config: DictConfig, method: Method) -> None:
    """Tells VISSL of the method's head and outputs: how to build them, what is trained later."""
    # Head parameters: VISSL hands a head the model's configuration alone, and these.
    config.MODEL.HEAD.PARAMS = [["vice_method", {"settings": config.VICE}]]
    if method.outputs:
        config.MODEL.TRUNK.OUTPUTS = dict(method.outputs)
    if not config.MODEL.TEMP_FROZEN_PARAMS_ITER_MAP:
        later = method.trained_later()
        config.MODEL.TEMP_FROZEN_PARAMS_ITER_MAP = [
            [f"module.heads.0.{name}", steps] for name, steps in later.items()
        ]


def write_config(config: Any) -> None:
    """Writes ``train_config.yaml`` into the run folder, where VISSL's own tools look for it.

    Secrets in values are left out (`vice.redaction`).

    Args:
        config: What `configure` returns; the folder is there.

    Raises:
        UserError: The folder cannot be written.
    """
    # Data types: VISSL has turned their names into types by now.
    plain = json.dumps(redact(config), default=lambda value: str(value).removeprefix("torch."))
    text = yaml.safe_dump(json.loads(plain))
    write_text(Path(config.CHECKPOINT.DIR) / CONFIG_NAME, text)


def set_schedule(config: DictConfig) -> None:
    """Fills VISSL's learning-rate schedule from ``config.VICE.SCHEDULE`` (both papers).

    Linear warm-up to the peak, then cosine, each step; or a polynomial, each epoch. The peak
    follows the linear rule: base rate for ``base_images`` images a step. ``peak_lr`` sets it
    directly.

    Raises:
        UserError: The warm-up is not shorter than the training.
    """
    schedule = config.VICE.SCHEDULE
    images = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config)
    peak = schedule.peak_lr
    if peak is None:
        peak = float(schedule.base_lr) * images / int(schedule.base_images)
    schedule.peak_lr = peak
    epochs = int(config.OPTIMIZER.num_epochs)
    share = float(schedule.warmup_epochs) / epochs
    if schedule.shape != "poly" and not 0 <= share < 1:
        raise UserError(
            f"config.VICE.SCHEDULE.warmup_epochs={schedule.warmup_epochs} must be below "
            f"config.OPTIMIZER.num_epochs={epochs}"
        )
    config.OPTIMIZER.param_schedulers = {"lr": _rates(schedule, peak, epochs)}
    if schedule.head_peak_lr is not None:
        head = _rates(schedule, float(schedule.head_peak_lr), epochs)
        config.OPTIMIZER.param_schedulers.lr_head = head
        config.OPTIMIZER.head_optimizer_params.use_different_lr = True


def _rates(schedule: Any, peak: float, epochs: int) -> dict[str, Any]:
    """VISSL's description of a learning rate over the training."""
    if schedule.shape == "poly":
        poly = {"name": POLY, "base": peak, "power": float(schedule.power), "epochs": epochs}
        return {**poly, **_PLAIN}
    share = float(schedule.warmup_epochs) / epochs
    cosine = {"name": "cosine", "start_value": peak, "end_value": peak * float(schedule.final)}
    warmup = {"name": "linear", "start_value": peak * float(schedule.start), "end_value": peak}
    rate: dict[str, Any] = {**cosine, **_PLAIN}
    if share > 0:
        rate = {
            "name": "composite",
            "schedulers": [warmup, cosine],
            "interval_scaling": ["rescaled", "rescaled"],
            "lengths": [share, 1 - share],
            **_PLAIN,
        }
    return rate


def check_batches(config: DictConfig) -> int:
    """Makes sure an epoch holds at least one batch.

    Returns:
        Number of image files.

    Raises:
        UserError: No image, or fewer than a batch over all processes.
    """
    num_images = len(list_images(Path(str(config.DATA.TRAIN.DATA_PATHS[0]))))
    wanted = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config)
    least = int(config.VICE.DATASET.min_images_per_epoch)
    drops = bool(config.DATA.TRAIN.get("DROP_LAST", False))
    if drops and max(num_images, least) < wanted:
        raise UserError(
            f"{num_images} images do not fill a batch of {wanted}: lower "
            "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA, or repeat the images with "
            f"config.VICE.DATASET.min_images_per_epoch={wanted}"
        )
    return num_images


def _log_scale(config: DictConfig, images: int) -> None:
    logger.info(
        "%d images; method %s, %d processes, %d images a step, peak LR %.4g",
        images,
        config.VICE.METHOD.name,
        world(config),
        int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config),
        float(config.VICE.SCHEDULE.peak_lr),
    )
