"""VISSL's keys that are no options here: what a training is built on, and what it does not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from vice.errors import UserError
from vice.paths import config_root
from vice.plugins.vissl.config.known import vissl_defaults

_SCORING = "training does not score; tools/score.py scores what it saves"
_METHOD = "config.VICE.METHOD.name says which method is trained"
_VIEWS = "config.VICE.VIEWS and config.VICE.PHOTOMETRIC say how views are made"
_NETWORK = "config.MODEL.TRUNK.VICE says which network is trained"
_PATHS = "config.DATA.TRAIN.DATA_PATHS names a folder, or a text file that lists images"
_PLACE = "config.CHECKPOINT.DIR says where everything of a run lies"
_PARTS = "training is built on it"
_WHOLE = "each process has the whole network; methods' losses and states are not made for parts"

#: By key or group of keys, what to set instead, or why not.
FIXED = {
    "TEST_ONLY": _SCORING,
    "TEST_MODEL": _SCORING,
    "TEST_EVERY_NUM_EPOCH": _SCORING,
    "METERS": _SCORING,
    "DATA.TEST": _SCORING,
    "SVM": _SCORING,
    "EXTRACT_FEATURES": _SCORING,
    "CLUSTERFIT": _SCORING,
    "IMG_RETRIEVAL": _SCORING,
    "NEAREST_NEIGHBOR": _SCORING,
    "MODEL.FEATURE_EVAL_SETTINGS": _SCORING,
    "DATA.TRAIN.TRANSFORMS": _VIEWS,
    "DATA.TRAIN": _PATHS,
    "TRAINER": _METHOD,
    "LOSS": _METHOD,
    "MODEL.HEAD": _METHOD,
    "MODEL.MULTI_INPUT_HEAD_MAPPING": _METHOD,
    "MODEL.SINGLE_PASS_EVERY_CROP": _METHOD,
    "MODEL.BASE_MODEL_NAME": _PARTS,
    "MODEL.INPUT_TYPE": _PARTS,
    "MODEL.SHARDED_DDP_SETUP": _WHOLE,
    "MODEL.FSDP_CONFIG": _WHOLE,
    "MODEL.TRUNK.RESNETS": _NETWORK,
    "MODEL.TRUNK.EFFICIENT_NETS": _NETWORK,
    "MODEL.TRUNK.REGNET": _NETWORK,
    "MODEL.TRUNK.VISION_TRANSFORMERS": _NETWORK,
    "MODEL.TRUNK.XCIT": _NETWORK,
    "MODEL.TRUNK.CONVIT": _NETWORK,
    "OPTIMIZER.use_larc": "config.OPTIMIZER.name=vice_lars is that, and needs no apex",
    "OPTIMIZER.head_optimizer_params.use_different_lr": (
        "config.VICE.SCHEDULE.head_peak_lr gives a method's own parts another rate"
    ),
    "OPTIMIZER.param_schedulers": "config.VICE.SCHEDULE says how the learning rate runs",
    "HOOKS.TENSORBOARD_SETUP.LOG_DIR": _PLACE,
    "HOOKS.TENSORBOARD_SETUP.EXPERIMENT_LOG_DIR": _PLACE,
    "CHECKPOINT.BACKEND": _PARTS,
    "CHECKPOINT.APPEND_DISTR_RUN_ID": _PLACE,
}
#: Options all the same, each checked where it is used.
_OPTIONS = frozenset(
    {"DATA.TRAIN.DATA_PATHS", "DATA.TRAIN.BATCHSIZE_PER_REPLICA", "DATA.TRAIN.DROP_LAST"}
)


def check_fixed(plain: Mapping[str, Any]) -> None:
    """Refuses other values for keys that a training does not read, or could not do with another.

    Args:
        plain: ``config.*``, as it was composed.

    Raises:
        UserError: Names the first such key, and what to set instead.
    """
    base = _base()
    for group, instead in FIXED.items():
        for key, value in _differing(_at(plain, group), _at(base, group), group):
            if key not in _OPTIONS:
                raise UserError(f"config.{key}={value!r}: leave it out: {instead}")


@lru_cache(maxsize=1)
def _base() -> Mapping[str, Any]:
    file = config_root() / "config" / "vice" / "_base" / "training.yaml"
    merged = OmegaConf.merge({"config": dict(vissl_defaults())}, OmegaConf.load(file))
    plain: Any = OmegaConf.to_container(merged, resolve=False)
    found: Mapping[str, Any] = plain["config"]
    return found


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _differing(value: Any, usual: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Keys of a group's values that are other than usual; of a group that it is not, its own."""
    if isinstance(usual, Mapping) and usual and isinstance(value, Mapping):
        for name in usual:
            yield from _differing(value.get(name), usual[name], f"{key}.{name}")
    elif value != usual:
        yield key, value
