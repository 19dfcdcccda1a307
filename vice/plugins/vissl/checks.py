"""What each key of a configuration may hold; values are looked at before anything is started."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from classy_vision.optim import OPTIMIZER_REGISTRY
from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.files import check_folder
from vice.losses.swav import REDUCTIONS, REGION_VECTORS, DenseSwAVLoss
from vice.models import build_embedder
from vice.photometric import Photometric
from vice.plugins.vissl.transforms import tuples
from vice.plugins.vissl.trunks import ResNetDeepLabV3PlusTrunk, ResNetFPNTrunk
from vice.superpixels import Superpixels
from vice.views import ViewSampler


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words and as a function."""

    text: str
    holds: Callable[[Any], bool]


def _whole(least: int, most: int) -> Rule:
    text = f"a whole number from {least} to {most}"
    return Rule(text, lambda value: type(value) is int and least <= value <= most)


def _number(least: float, most: float) -> Rule:
    def holds(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and least <= value <= most

    return Rule(f"a number from {least:g} to {most:g}", holds)


def _one_of(*names: str) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def _list_of(rule: Rule, least: int, most: int) -> Rule:
    def holds(value: Any) -> bool:
        return (
            isinstance(value, list) and least <= len(value) <= most and all(map(rule.holds, value))
        )

    length = f"{least}" if least == most else f"{least} or more"
    return Rule(f"a list of length {length}, each {rule.text}", holds)


def _either(*rules: Rule) -> Rule:
    text = ", or ".join(rule.text for rule in rules)
    return Rule(text, lambda value: any(rule.holds(value) for rule in rules))


_FLAG = Rule("true or false", lambda value: type(value) is bool)
_NULL = Rule("null", lambda value: value is None)
_AUTO = Rule("auto", lambda value: value == "auto")
# A line break would end the comment line of a SLURM script and run what follows it.
_LINE = Rule("one line of text", lambda v: isinstance(v, str) and not set(v) & set("\n\r\0"))
_PATH = Rule("a path", lambda v: _LINE.holds(v) and bool(v.strip()))
_SHARE = _number(0, 1)
_STEPS = _whole(0, 10**9)
_SIDE = _whole(1, 2**14)
_POSITIVE = _number(1e-6, 1e6)

_LOSS = {
    "temperature": _number(1e-4, 100),
    "epsilon": _number(1e-4, 100),
    "iterations": _whole(1, 1000),
    "queue_length": _whole(0, 10**6),
    "queue_start": _STEPS,
    "reduction": _one_of(*REDUCTIONS),
    "region_vector": _one_of(*REGION_VECTORS),
    "align_corners": _FLAG,
}
_SIZES = {
    "num_views": _whole(2, 1000),
    "num_prototypes": _whole(1, 10**6),
    "dim": _whole(1, 2**16),
}

#: Group of keys to its keys and their rules.
RULES: dict[str, dict[str, Rule]] = {
    "VICE.DATASET": {"min_images_per_epoch": _STEPS, "prepare": _either(_LINE, _NULL)},
    "VICE.STANDARDIZE": {
        "mode": _one_of("highres", "lowres", "none"),
        "min_side": _SIDE,
        "max_side": _whole(1, 2**16),
        "square": _SIDE,
    },
    "VICE.SUPERPIXELS": {
        "method": _one_of("slic", "grid", "pixel"),
        "region_size": _whole(1, 1000),
        "ruler": _POSITIVE,
        "iterations": _whole(1, 1000),
        "cache_dir": _either(_PATH, _NULL),
    },
    "VICE.VIEWS": {
        "num_views": _SIZES["num_views"],
        "size": _either(_SIDE, _list_of(_SIDE, 2, 2)),
        "scale": _list_of(_POSITIVE, 2, 2),
        "mask_intensity": _SHARE,
        "preserve_ratio": _SHARE,
        "flip_probability": _SHARE,
        "resolution_probability": _SHARE,
        "resolution_ratios": _list_of(_POSITIVE, 2, 1000),
        "canny_low": _number(0, 1e6),
        "canny_high": _number(0, 1e6),
        "edge_floor": _POSITIVE,
        "max_tries": _whole(1, 10**4),
    },
    "VICE.PHOTOMETRIC": {
        **dict.fromkeys(
            ("strength", "brightness", "contrast", "saturation", "hue"), _number(0, 100)
        ),
        **dict.fromkeys(("jitter_probability", "grey_probability", "blur_probability"), _SHARE),
        "sigma": _list_of(_number(1e-6, 1000), 2, 2),
        "taps": _whole(1, 999),
    },
    "VICE.PROTOTYPES": {
        "num_prototypes": _SIZES["num_prototypes"],
        "dim": _SIZES["dim"],
        "freeze_iterations": _STEPS,
    },
    "VICE.LOSS": _LOSS,
    "VICE.SCHEDULE": {
        "base_lr": _number(0, 1e4),
        "base_images": _whole(1, 10**9),
        "peak_lr": _either(_number(0, 1e4), _NULL),
        "start": _SHARE,
        "final": _SHARE,
        "warmup_epochs": _number(0, 1e6),
    },
    "LOSS.vice_dense_swav": {**_LOSS, **_SIZES},
    "MODEL.TRUNK.VICE": {
        "dim": _SIZES["dim"],
        "weights": _either(_one_of("imagenet"), _NULL),
        "align_corners": _FLAG,
        "centre": _FLAG,
        "stages": _whole(1, 4),
        "output_stride": _either(_whole(8, 32), _NULL),
    },
    "DATA": {"NUM_DATALOADER_WORKERS": _whole(0, 1024)},
    "DATA.TRAIN": {"BATCHSIZE_PER_REPLICA": _whole(1, 10**6)},
    "OPTIMIZER": {
        "name": Rule(
            "the name of an optimizer such as vice_lars, adamw or sgd",
            lambda value: isinstance(value, str) and value in OPTIMIZER_REGISTRY,
        ),
        "num_epochs": _whole(1, 10**6),
        "momentum": _SHARE,
        "weight_decay": _number(0, 1e3),
    },
    "DISTRIBUTED": {
        "NUM_NODES": _whole(1, 10**4),
        "NUM_PROC_PER_NODE": _either(_whole(1, 1024), _AUTO),
        "BACKEND": _one_of("auto", "nccl", "gloo", "mpi"),
    },
    "MACHINE": {"DEVICE": _one_of("auto", "cpu", "gpu")},
    "CHECKPOINT": {
        "DIR": _PATH,
        "AUTO_RESUME": _FLAG,
        "CHECKPOINT_FREQUENCY": _whole(1, 10**6),
        "CHECKPOINT_ITER_FREQUENCY": _whole(-1, 10**9),
    },
    "SLURM": {
        "USE_SLURM": _FLAG,
        **dict.fromkeys(("NAME", "COMMENT", "PARTITION", "CONSTRAINT"), _LINE),
        "LOG_FOLDER": _PATH,
        "TIME_HOURS": _whole(0, 10**5),
        "TIME_MINUTES": _whole(0, 10**7),
        "MEM_GB": _whole(1, 10**6),
        "NUM_CPU_PER_PROC": _whole(1, 10**4),
        "PORT_ID": _whole(1, 65535),
    },
    "": {
        "SEED_VALUE": _whole(0, 2**32 - 1),
        "LOG_FREQUENCY": _whole(1, 10**9),
        "MULTI_PROCESSING_METHOD": _one_of("auto", "fork", "forkserver", "spawn"),
    },
}
_TRUNKS = {
    "vice_resnet_fpn": ResNetFPNTrunk.decoder,
    "vice_resnet_deeplabv3plus": ResNetDeepLabV3PlusTrunk.decoder,
}
#: Groups whose keys are arguments with defaults: one may be missing.
_ARGUMENTS = (
    "VICE.SUPERPIXELS",
    "VICE.VIEWS",
    "VICE.PHOTOMETRIC",
    "VICE.LOSS",
    "LOSS.vice_dense_swav",
    "MODEL.TRUNK.VICE",
)
_FOLDERS = ("CHECKPOINT.DIR", "SLURM.LOG_FOLDER", "VICE.SUPERPIXELS.cache_dir")


def check_values(composed: DictConfig) -> None:
    """Makes sure that every value of a configuration can be trained with.

    Args:
        composed: What `vice.plugins.vissl.configure.compose` returns.

    Raises:
        UserError: Names the first key whose value has a wrong type, is out of range, or does not
            go with another one.
    """
    plain: Any = OmegaConf.to_container(composed.config)
    for group, rules in RULES.items():
        _check_group(group, _group(plain, group), rules)
    _check_together(plain)
    _check_built(plain)
    _check_slurm(plain["SLURM"])
    for key in _FOLDERS:
        group, _, name = key.rpartition(".")
        path = _group(plain, group).get(name)
        if path is not None:
            check_folder(f"config.{key}", path)
    nodes = plain["DISTRIBUTED"]["NUM_NODES"]
    _require("node_id", composed.node_id, _whole(0, nodes - 1))
    _require("engine_name", composed.engine_name, _one_of("train"))


def _group(plain: Any, name: str) -> dict[str, Any]:
    node = plain
    for part in filter(None, name.split(".")):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, dict):
        raise UserError(f"config.{name} is {node!r}, but must be a group of keys")
    return node


def _check_group(group: str, values: dict[str, Any], rules: dict[str, Rule]) -> None:
    prefix = ".".join(filter(None, ("config", group)))
    for name, rule in rules.items():
        if name in values:
            _require(f"{prefix}.{name}", values[name], rule)
        elif group not in _ARGUMENTS:
            raise UserError(f"{prefix}.{name} is missing: must be {rule.text}")


def _require(key: str, value: Any, rule: Rule) -> None:
    if not rule.holds(value):
        raise UserError(f"{key}={value!r}: must be {rule.text}")


def _check_together(plain: dict[str, Any]) -> None:
    """Values that are right by themselves and do not go with one another."""
    sizes = plain["VICE"]["STANDARDIZE"]
    if sizes["min_side"] > sizes["max_side"]:
        raise UserError(
            f"config.VICE.STANDARDIZE.min_side={sizes['min_side']} must not exceed "
            f"config.VICE.STANDARDIZE.max_side={sizes['max_side']}"
        )
    wanted = {**plain["VICE"]["PROTOTYPES"], "num_views": plain["VICE"]["VIEWS"]["num_views"]}
    for key, name, value in _repeated(plain):
        if value != wanted[name]:
            source = "VIEWS" if name == "num_views" else "PROTOTYPES"
            raise UserError(
                f"{key}={value!r} differs from config.VICE.{source}.{name}={wanted[name]}: set "
                "only the latter, the others follow it"
            )


def _repeated(plain: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Where numbers of ``config.VICE`` stand again: key, name, value."""
    loss = plain["LOSS"]["vice_dense_swav"]
    for name in ("num_views", "num_prototypes", "dim"):
        yield f"config.LOSS.vice_dense_swav.{name}", name, loss.get(name)
    yield "config.MODEL.TRUNK.VICE.dim", "dim", plain["MODEL"]["TRUNK"]["VICE"].get("dim")


def _check_built(plain: dict[str, Any]) -> None:
    """Builds what the options are for; on no device, so that it costs no memory."""
    method, trunk = plain["VICE"], plain["MODEL"]["TRUNK"]
    _require("config.MODEL.TRUNK.NAME", trunk["NAME"], _one_of(*_TRUNKS))
    embedder = {**trunk["VICE"], "decoder": _TRUNKS[trunk["NAME"]], "weights": None}
    builds: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "VICE.VIEWS": (ViewSampler, tuples(method["VIEWS"])),
        "VICE.PHOTOMETRIC": (Photometric, tuples(method["PHOTOMETRIC"])),
        "VICE.SUPERPIXELS": (Superpixels, {**method["SUPERPIXELS"], "cache_dir": None}),
        "LOSS.vice_dense_swav": (DenseSwAVLoss, plain["LOSS"]["vice_dense_swav"]),
        "MODEL.TRUNK.VICE": (build_embedder, embedder),
    }
    for group, (make, options) in builds.items():
        try:
            with torch.device("meta"):
                make(**options)
        except (TypeError, ValueError) as error:
            raise UserError(f"config.{group}: {error}") from error


def _check_slurm(slurm: dict[str, Any]) -> None:
    if slurm["USE_SLURM"] and not slurm["PARTITION"].strip():
        raise UserError("set config.SLURM.PARTITION to submit to SLURM")
    if slurm["TIME_HOURS"] == slurm["TIME_MINUTES"] == 0:
        raise UserError(
            "config.SLURM.TIME_HOURS and config.SLURM.TIME_MINUTES are both 0: give the job time"
        )
    key, more = "config.SLURM.ADDITIONAL_PARAMETERS", slurm.get("ADDITIONAL_PARAMETERS")
    if not isinstance(more, dict):
        raise UserError(f"{key}={more!r}: must be a group of sbatch options, such as {{qos: high}}")
    for name, value in more.items():
        _require(f"{key} option", str(name), Rule("letters, digits and -", _is_option))
        _require(f"{key}.{name}", str(value), _LINE)


def _is_option(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and name.isascii()
