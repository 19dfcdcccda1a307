"""From command-line overrides to a complete, checked VISSL configuration."""

from __future__ import annotations

import difflib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from vissl.utils.hydra_config import compose_hydra_configuration, convert_to_attrdict

from vice.errors import UserError
from vice.images import list_images
from vice.paths import experiment_names
from vice.plugins.vissl.config.checks import argument_keys, check_values
from vice.plugins.vissl.config.inputs import announce_data, check_data, look_at_images
from vice.plugins.vissl.config.interpolations import check_interpolations
from vice.plugins.vissl.config.machines import check_machines, choose_device, world
from vice.plugins.vissl.config.path_overrides import absolute_paths, literal_paths
from vice.plugins.vissl.option_keys import spelled
from vice.plugins.vissl.slurm_step import join_step
from vice.redaction import redact
from vice.runtime.files import write_text
from vice.runtime.overrides import escape, unescape
from vice.runtime.run_folder import CONFIG_NAME

logger = logging.getLogger(__name__)


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
    composed = compose(overrides)
    config = composed.config
    check_values(composed)
    check_data(config)
    choose_device(config)
    join_step(config)
    check_machines(config)
    if int(composed.node_id) == 0:
        announce_data(config)
    set_schedule(config)
    images = check_batches(config)
    look_at_images(str(config.DATA.TRAIN.DATA_PATHS[0]))
    _log_scale(config, images)
    # VISSL hands a head the configuration of the model alone, and what stands here.
    config.MODEL.HEAD.PARAMS = [["vice_method", {"settings": config.VICE}]]
    try:
        args, attributes = convert_to_attrdict(composed, dump_config=False)
    except AssertionError as error:
        raise UserError(f"VISSL does not take this configuration: {error}") from error
    _change_texts(args, lambda text: unescape(text) or text)
    return args, attributes


def write_config(config: Any) -> None:
    """Writes ``train_config.yaml`` into the run folder, where VISSL's own tools look for it.

    Secrets in values are left out (`vice.redaction`).

    Args:
        config: What `configure` returns; the folder is there.

    Raises:
        UserError: The folder cannot be written.
    """
    # VISSL has turned names of data types into types by now.
    plain = json.dumps(redact(config), default=lambda value: str(value).removeprefix("torch."))
    text = yaml.safe_dump(json.loads(plain))
    write_text(Path(config.CHECKPOINT.DIR) / CONFIG_NAME, text)


def compose(overrides: list[str]) -> DictConfig:
    """Composes overrides into a configuration without interpolations or unknown keys.

    Paths are read by `vice.plugins.vissl.config.path_overrides`; options that have a default and
    stand in no config can be set as those that do.

    Raises:
        UserError: What Hydra or OmegaConf object to, in one message with the nearest valid key.
    """
    _refuse_moved(overrides)
    overrides = literal_paths(overrides)
    _check_form(overrides)
    try:
        composed = _compose(overrides)
        check_interpolations(composed)
        composed = _resolved(composed)
    # Hydra means some of its ValueErrors for the user.
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_explain(error, overrides)) from error
    if "VICE" not in composed.config:
        raise UserError(
            f"{' '.join(overrides)} is not a ViCE config: it has no config.VICE; choose one of "
            f"{', '.join(experiment_names())}"
        )
    # VISSL reads keys that it fills in later; from here on new keys are its own business.
    OmegaConf.set_struct(composed, False)
    return composed


def _check_form(overrides: list[str]) -> None:
    """Refuses what is no override at all, and says which of several values of one key counts."""
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            meant = f"config={text}" if text in experiment_names() else "KEY=VALUE"
            raise UserError(f"{text}: must be {meant}; this command takes overrides only")
    values: dict[str, list[str]] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        values.setdefault(key.lstrip("+~"), []).append(value)
    for key, given in values.items():
        if len(given) > 1:
            shown = redact({key: given[-1]})[key]
            logger.warning("%s is given %d times: the last, %s, counts", key, len(given), shown)


def _refuse_moved(overrides: list[str]) -> None:
    """Keys of earlier versions that say again what stands under ``config.VICE``."""
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        name = key.removeprefix("config.LOSS.vice_dense_swav.")
        if name != key:
            groups = {"num_views": "VIEWS", "num_prototypes": "PROTOTYPES", "dim": "PROTOTYPES"}
            raise UserError(
                f"{text}: set config.VICE.{groups.get(name, 'LOSS')}.{name}={value} instead, the "
                "only place where this option stands"
            )


def _compose(overrides: list[str]) -> DictConfig:
    known = argument_keys()
    keys = [text.partition("=")[0].lstrip("+") for text in overrides]
    overrides = [
        f"++{text.lstrip('+')}" if key in known else text
        for key, text in zip(keys, overrides, strict=True)
    ]
    with warnings.catch_warnings():
        # VISSL names no Hydra version whose defaults it wants; those of 1.1 are right for it.
        warnings.filterwarnings("ignore", message="(?s).*version_base")
        return compose_hydra_configuration(overrides)


def _resolved(composed: DictConfig) -> DictConfig:
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    absolute_paths(plain)
    # A path that holds ${...} is no interpolation when it is read again.
    _change_texts(plain, escape)
    resolved = OmegaConf.create(plain)
    OmegaConf.set_struct(resolved, True)
    return resolved


def _change_texts(node: Any, change: Callable[[str], str]) -> None:
    """Changes every text of nested groups and lists in place."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str):
            node[key] = change(value)
        elif isinstance(value, dict | list):
            _change_texts(value, change)


def _explain(error: Exception, overrides: list[str]) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = ". ".join(line for line in lines if not line.startswith("Available options"))
    name = next((text for text in overrides if text.startswith("config=")), None)
    if name is None or "Could not find 'config" in text or "Could not load 'config" in text:
        known = ", ".join(experiment_names())
        wanted = f"{name.removeprefix('config=')!r} is no config" if name else "no config is named"
        return f"{wanted}; add config=NAME with NAME one of {known}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        new = re.search(r"full_key: (.+)\.(\w+)$", str(error.__cause__), re.M)
        if new and new.group(1) == key:
            return f"{key} has no key {new.group(2)!r} yet: add it with +{key}.{new.group(2)}=VALUE"
        return f"config key {key!r} does not exist{_nearest(key, name)}"
    said = [override for override in overrides if "${" in override]
    if said and isinstance(error, InterpolationResolutionError):
        return f"{text}; check the ${{...}} of {' '.join(said)}"
    return text


def _nearest(key: str, name: str) -> str:
    try:
        known = list(_keys(_compose([name])))
    except (HydraException, OmegaConfBaseException):
        return ""
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        full = f"{prefix}{name}"
        yield full
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            yield from _keys(child, f"{full}.")


def set_schedule(config: DictConfig) -> None:
    """Fills VISSL's learning-rate schedule from ``config.VICE.SCHEDULE`` (both papers).

    Linear warm-up to the peak, then cosine, each step. The peak follows the linear rule: base
    rate for ``base_images`` images a step. ``peak_lr`` sets it directly.

    Raises:
        UserError: The warm-up is not shorter than the training.
    """
    schedule = config.VICE.SCHEDULE
    images = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config)
    peak = schedule.peak_lr
    if peak is None:
        peak = float(schedule.base_lr) * images / int(schedule.base_images)
    epochs = int(config.OPTIMIZER.num_epochs)
    share = float(schedule.warmup_epochs) / epochs
    if not 0 <= share < 1:
        raise UserError(
            f"config.VICE.SCHEDULE.warmup_epochs={schedule.warmup_epochs} must be below "
            f"config.OPTIMIZER.num_epochs={epochs}"
        )
    cosine = {"name": "cosine", "start_value": peak, "end_value": peak * float(schedule.final)}
    warmup = {"name": "linear", "start_value": peak * float(schedule.start), "end_value": peak}
    common = {"auto_lr_scaling": {"auto_scale": False}, "update_interval": "step"}
    rate: dict[str, Any] = {**cosine, **common}
    if share > 0:
        rate = {
            "name": "composite",
            "schedulers": [warmup, cosine],
            "interval_scaling": ["rescaled", "rescaled"],
            "lengths": [share, 1 - share],
            **common,
        }
    config.OPTIMIZER.param_schedulers = {"lr": rate}
    schedule.peak_lr = peak


def check_batches(config: DictConfig) -> int:
    """Makes sure an epoch holds at least one batch.

    Returns:
        Number of image files.

    Raises:
        UserError: No image, or fewer than a batch over all processes.
    """
    found = len(list_images(Path(str(config.DATA.TRAIN.DATA_PATHS[0]))))
    wanted = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config)
    least = int(config.VICE.DATASET.min_images_per_epoch)
    if max(found, least) < wanted:
        raise UserError(
            f"{found} images do not fill a batch of {wanted}: lower "
            "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA, or repeat the images with "
            f"config.VICE.DATASET.min_images_per_epoch={wanted}"
        )
    return found


def _log_scale(config: DictConfig, images: int) -> None:
    logger.info(
        "%d images; method %s, %d processes, %d images a step, peak LR %.4g",
        images,
        config.VICE.METHOD.name,
        world(config),
        int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA) * world(config),
        float(config.VICE.SCHEDULE.peak_lr),
    )
