"""What the value of each key of a configuration must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from classy_vision.optim import OPTIMIZER_REGISTRY

from vice.losses.swav import REDUCTIONS, REGION_VECTORS
from vice.superpixels import METHODS


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words and as a function."""

    text: str
    holds: Callable[[Any], bool]


def whole(least: int, most: int) -> Rule:
    """A whole number in a range, its ends included."""
    text = f"a whole number from {least} to {most}"
    return Rule(text, lambda value: type(value) is int and least <= value <= most)


def _number(least: float, most: float) -> Rule:
    def holds(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and least <= value <= most

    return Rule(f"a number from {least:g} to {most:g}", holds)


def one_of(*names: str) -> Rule:
    """One of a few names."""
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


def _is_address(value: Any) -> bool:
    host, _, port = str(value).rpartition(":")
    return bool(host.strip()) and port.isdecimal() and 0 < int(port) < 2**16


_FLAG = Rule("true or false", lambda value: type(value) is bool)
_NULL = Rule("null", lambda value: value is None)
_AUTO = Rule("auto", lambda value: value == "auto")
# A line break would end the comment line of a SLURM script and run what follows it.
LINE = Rule("one line of text", lambda v: isinstance(v, str) and not set(v) & set("\n\r\0"))
_PATH = Rule("a path", lambda v: isinstance(v, str) and bool(v.strip()) and "\0" not in v)
_SHARE = _number(0, 1)
_STEPS = whole(0, 10**9)
_SIDE = whole(1, 2**14)
_POSITIVE = _number(1e-6, 1e6)

_LOSS = {
    "temperature": _number(1e-4, 100),
    "epsilon": _number(1e-4, 100),
    "iterations": whole(1, 1000),
    "queue_length": whole(0, 10**6),
    "queue_start": _STEPS,
    "reduction": one_of(*REDUCTIONS),
    "region_vector": one_of(*REGION_VECTORS),
    "align_corners": _FLAG,
}
_SIZES = {
    "num_views": whole(2, 1000),
    "num_prototypes": whole(1, 10**6),
    "dim": whole(1, 2**16),
}

#: Group of keys to its keys and their rules.
RULES: dict[str, dict[str, Rule]] = {
    "VICE": {
        **dict.fromkeys(("PHOTOMETRIC_ON", "CUT_ON"), one_of("auto", "workers", "device")),
        "TIMEOUT_MINUTES": _number(0.01, 1e5),
        "MAX_NONFINITE_STEPS": whole(1, 10**6),
        "KEEP_CHECKPOINTS": whole(1, 10**6),
        "STOP_NOTICE_SECONDS": whole(0, 10**5),
    },
    "VICE.DATASET": {"min_images_per_epoch": _STEPS, "prepare": _either(LINE, _NULL)},
    "VICE.STANDARDIZE": {
        "mode": one_of("highres", "lowres", "none"),
        "min_side": _SIDE,
        "max_side": whole(1, 2**16),
        "square": _SIDE,
    },
    "VICE.SUPERPIXELS": {
        "method": one_of(*METHODS),
        "region_size": whole(1, 1000),
        "ruler": _POSITIVE,
        "iterations": whole(1, 1000),
        "scale": _POSITIVE,
        "sigma": _number(0, 1000),
        "min_size": whole(1, 10**9),
        "compactness": _number(0, 1e6),
        "folder": _either(_PATH, _NULL),
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
        "max_tries": whole(1, 10**4),
    },
    "VICE.PHOTOMETRIC": {
        **dict.fromkeys(
            ("strength", "brightness", "contrast", "saturation", "hue"), _number(0, 100)
        ),
        **dict.fromkeys(("jitter_probability", "grey_probability", "blur_probability"), _SHARE),
        "sigma": _list_of(_number(1e-6, 1000), 2, 2),
        "taps": whole(1, 999),
    },
    "VICE.PROTOTYPES": {
        "num_prototypes": _SIZES["num_prototypes"],
        "dim": _SIZES["dim"],
        "freeze_iterations": _STEPS,
    },
    "VICE.LOSS": _LOSS,
    "VICE.SCHEDULE": {
        "base_lr": _number(0, 1e4),
        "base_images": whole(1, 10**9),
        "peak_lr": _either(_number(0, 1e4), _NULL),
        "start": _SHARE,
        "final": _SHARE,
        "warmup_epochs": _number(0, 1e6),
    },
    "VICE.HEALTH": {
        "pictures": whole(0, 4),
        "held_out_paths": _list_of(_PATH, 0, 16),
        # Their views are kept in memory.
        "held_out": whole(0, 256),
    },
    "LOSS.vice_dense_swav": {**_LOSS, **_SIZES},
    "MODEL.TRUNK.VICE": {
        "dim": _SIZES["dim"],
        "weights": _either(one_of("imagenet"), _NULL, _PATH),
        "frozen": _FLAG,
        "align_corners": _FLAG,
        "centre": _FLAG,
        "stages": whole(1, 4),
        "output_stride": _either(whole(8, 32), _NULL),
    },
    "MODEL.TRUNK.EXECUTION": {
        "precision": _either(one_of("bfloat16"), _NULL),
        "channels_last": _FLAG,
        "compiled": _FLAG,
    },
    "DATA": {"NUM_DATALOADER_WORKERS": whole(0, 1024)},
    "DATA.TRAIN": {"BATCHSIZE_PER_REPLICA": whole(1, 10**6)},
    "OPTIMIZER": {
        "name": Rule(
            "the name of an optimizer such as vice_lars, adamw or sgd",
            lambda value: isinstance(value, str) and value in OPTIMIZER_REGISTRY,
        ),
        "num_epochs": whole(1, 10**6),
        "momentum": _SHARE,
        "weight_decay": _number(0, 1e3),
    },
    "DISTRIBUTED": {
        "NUM_NODES": whole(1, 10**4),
        "NUM_PROC_PER_NODE": _either(whole(1, 1024), _AUTO),
        "BACKEND": one_of("auto", "nccl", "gloo"),
        "INIT_METHOD": one_of("tcp"),
        "RUN_ID": _either(_AUTO, Rule("HOST:PORT of the first node", _is_address)),
    },
    "MACHINE": {"DEVICE": one_of("auto", "cpu", "gpu", "mps")},
    "CHECKPOINT": {
        "DIR": _PATH,
        "AUTO_RESUME": _FLAG,
        "CHECKPOINT_FREQUENCY": whole(1, 10**6),
        "CHECKPOINT_ITER_FREQUENCY": whole(-1, 10**9),
    },
    "SLURM": {
        "USE_SLURM": _FLAG,
        **dict.fromkeys(("NAME", "COMMENT", "PARTITION", "CONSTRAINT", "ACCOUNT", "QOS"), LINE),
        "LOG_FOLDER": _PATH,
        "TIME_HOURS": whole(0, 10**5),
        "TIME_MINUTES": whole(0, 10**7),
        "MEM_GB": whole(1, 10**6),
        "NUM_CPU_PER_PROC": whole(1, 10**4),
        "PORT_ID": _either(whole(1, 65535), _AUTO),
    },
    "": {
        "SEED_VALUE": whole(0, 2**32 - 1),
        "LOG_FREQUENCY": whole(1, 10**9),
        "MULTI_PROCESSING_METHOD": one_of("auto", "fork", "forkserver", "spawn"),
    },
}
