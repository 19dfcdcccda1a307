"""What the value of each key of a configuration must be."""

from __future__ import annotations

from typing import Any

from classy_vision.optim import OPTIMIZER_REGISTRY

from vice.losses.swav import REDUCTIONS, REGION_VECTORS
from vice.options import (
    AUTO,
    FLAG,
    LINE,
    NULL,
    PATH,
    SHARE,
    Rule,
    either,
    list_of,
    number,
    one_of,
    whole,
)
from vice.superpixels import METHODS


def _is_address(value: Any) -> bool:
    host, _, port = str(value).rpartition(":")
    return bool(host.strip()) and port.isdecimal() and 0 < int(port) < 2**16


_STEPS = whole(0, 10**9)
_SIDE = whole(1, 2**14)
_POSITIVE = number(1e-6, 1e6)

_LOSS = {
    "temperature": number(1e-4, 100),
    "epsilon": number(1e-4, 100),
    "iterations": whole(1, 1000),
    "queue_length": whole(0, 10**6),
    "queue_start": _STEPS,
    "reduction": one_of(*REDUCTIONS),
    "region_vector": one_of(*REGION_VECTORS),
    "align_corners": FLAG,
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
        "TIMEOUT_MINUTES": number(0.01, 1e5),
        "MAX_NONFINITE_STEPS": whole(1, 10**6),
        "KEEP_CHECKPOINTS": whole(1, 10**6),
        "STOP_NOTICE_SECONDS": whole(0, 10**5),
    },
    "VICE.DATASET": {"min_images_per_epoch": _STEPS, "prepare": either(LINE, NULL)},
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
        "sigma": number(0, 1000),
        "min_size": whole(1, 10**9),
        "compactness": number(0, 1e6),
        "folder": either(PATH, NULL),
        "cache_dir": either(PATH, NULL),
    },
    "VICE.VIEWS": {
        "num_views": _SIZES["num_views"],
        "size": either(_SIDE, list_of(_SIDE, 2, 2)),
        "scale": list_of(_POSITIVE, 2, 2),
        "mask_intensity": SHARE,
        "preserve_ratio": SHARE,
        "flip_probability": SHARE,
        "resolution_probability": SHARE,
        "resolution_ratios": list_of(_POSITIVE, 2, 1000),
        "canny_low": number(0, 1e6),
        "canny_high": number(0, 1e6),
        "edge_floor": _POSITIVE,
        "max_tries": whole(1, 10**4),
    },
    "VICE.PHOTOMETRIC": {
        **dict.fromkeys(
            ("strength", "brightness", "contrast", "saturation", "hue"), number(0, 100)
        ),
        **dict.fromkeys(("jitter_probability", "grey_probability", "blur_probability"), SHARE),
        "sigma": list_of(number(1e-6, 1000), 2, 2),
        "taps": whole(1, 999),
    },
    "VICE.PROTOTYPES": {
        "num_prototypes": _SIZES["num_prototypes"],
        "dim": _SIZES["dim"],
        "freeze_iterations": _STEPS,
    },
    "VICE.LOSS": _LOSS,
    "VICE.SCHEDULE": {
        "base_lr": number(0, 1e4),
        "base_images": whole(1, 10**9),
        "peak_lr": either(number(0, 1e4), NULL),
        "start": SHARE,
        "final": SHARE,
        "warmup_epochs": number(0, 1e6),
    },
    "VICE.HEALTH": {
        "pictures": whole(0, 4),
        "held_out_paths": list_of(PATH, 0, 16),
        # Their views are kept in memory.
        "held_out": whole(0, 256),
    },
    "MODEL.TRUNK.VICE": {
        "dim": _SIZES["dim"],
        "weights": either(one_of("imagenet"), NULL, PATH),
        "frozen": FLAG,
        "align_corners": FLAG,
        "centre": FLAG,
        "stages": whole(1, 4),
        "output_stride": either(whole(8, 32), NULL),
    },
    "MODEL.TRUNK.EXECUTION": {
        "precision": either(one_of("bfloat16"), NULL),
        "channels_last": FLAG,
        "compiled": FLAG,
    },
    "DATA": {"NUM_DATALOADER_WORKERS": whole(0, 1024)},
    "DATA.TRAIN": {"BATCHSIZE_PER_REPLICA": whole(1, 10**6)},
    "OPTIMIZER": {
        "name": Rule(
            "the name of an optimizer such as vice_lars, adamw or sgd",
            lambda value: isinstance(value, str) and value in OPTIMIZER_REGISTRY,
        ),
        "num_epochs": whole(1, 10**6),
        "momentum": SHARE,
        "weight_decay": number(0, 1e3),
    },
    "DISTRIBUTED": {
        "NUM_NODES": whole(1, 10**4),
        "NUM_PROC_PER_NODE": either(whole(1, 1024), AUTO),
        "BACKEND": one_of("auto", "nccl", "gloo"),
        "INIT_METHOD": one_of("tcp"),
        "RUN_ID": either(AUTO, Rule("HOST:PORT of the first node", _is_address)),
    },
    "MACHINE": {"DEVICE": one_of("auto", "cpu", "gpu", "mps")},
    "CHECKPOINT": {
        "DIR": PATH,
        "AUTO_RESUME": FLAG,
        "CHECKPOINT_FREQUENCY": whole(1, 10**6),
        "CHECKPOINT_ITER_FREQUENCY": whole(-1, 10**9),
    },
    "SLURM": {
        "USE_SLURM": FLAG,
        **dict.fromkeys(("NAME", "COMMENT", "PARTITION", "CONSTRAINT", "ACCOUNT", "QOS"), LINE),
        "LOG_FOLDER": PATH,
        "TIME_HOURS": whole(0, 10**5),
        "TIME_MINUTES": whole(0, 10**7),
        "MEM_GB": whole(1, 10**6),
        "NUM_CPU_PER_PROC": whole(1, 10**4),
        "PORT_ID": either(whole(1, 65535), AUTO),
    },
    "": {
        "SEED_VALUE": whole(0, 2**32 - 1),
        "LOG_FREQUENCY": whole(1, 10**9),
        "MULTI_PROCESSING_METHOD": one_of("auto", "fork", "forkserver", "spawn"),
    },
}
