"""Looks at the values of a configuration before anything is started."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.methods import build_method, frozen
from vice.models import build_embedder
from vice.models.foreign import read_tensors
from vice.options import LINE, Rule, one_of, require, whole
from vice.plugins.vissl.config.rules import RULES
from vice.plugins.vissl.option_keys import with_keys
from vice.plugins.vissl.trunks import DECODERS
from vice.runtime.files import check_folder
from vice.superpixels import Superpixels
from vice.views import ViewSampler
from vice.views.photometric import Photometric

#: Groups whose keys are arguments with defaults: one may be missing.
_ARGUMENTS = (
    "VICE.SUPERPIXELS",
    "VICE.VIEWS",
    "VICE.PHOTOMETRIC",
    "VICE.LOSS",
    "MODEL.TRUNK.VICE",
)
_BUILDERS: dict[str, Callable[..., Any]] = {
    "VICE.VIEWS": ViewSampler,
    "VICE.PHOTOMETRIC": Photometric,
    "VICE.SUPERPIXELS": Superpixels,
    "MODEL.TRUNK.VICE": build_embedder,
}
#: Arguments that the plugin gives by itself.
_OWN_ARGUMENTS = ("decoder", "group")
_FOLDERS = ("CHECKPOINT.DIR", "SLURM.LOG_FOLDER", "VICE.SUPERPIXELS.cache_dir")


def check_values(composed: DictConfig) -> None:
    """Makes sure that every value of a configuration can be trained with.

    Args:
        composed: What `vice.plugins.vissl.config.configure.compose` returns.

    Raises:
        UserError: Names the first key whose value has a wrong type, is out of range, or does not
            go with another one.
    """
    plain: Any = OmegaConf.to_container(composed.config, resolve=True)
    for group, rules in RULES.items():
        _check_group(group, _group(plain, group), rules)
    _check_together(plain)
    _check_built(plain)
    _check_slurm(plain["SLURM"])
    _check_initial_weights(plain["MODEL"])
    for key in _FOLDERS:
        group, _, name = key.rpartition(".")
        path = _group(plain, group).get(name)
        if path is not None:
            check_folder(f"config.{key}", path)
    nodes = plain["DISTRIBUTED"]["NUM_NODES"]
    require("node_id", composed.node_id, whole(0, nodes - 1))
    require("engine_name", composed.engine_name, one_of("vice_train", "train"))


def argument_keys() -> set[str]:
    """Every key that is an argument of what is built from its group, in a config or not."""
    return {
        f"config.{group}.{name}"
        for group, make in _BUILDERS.items()
        for name in inspect.signature(make).parameters
        if name not in _OWN_ARGUMENTS
    }


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
            require(f"{prefix}.{name}", values[name], rule)
        elif group not in _ARGUMENTS:
            raise UserError(f"{prefix}.{name} is missing: must be {rule.text}")


def _check_together(plain: dict[str, Any]) -> None:
    """Values that are right by themselves and do not go with one another."""
    sizes = plain["VICE"]["STANDARDIZE"]
    if sizes["min_side"] > sizes["max_side"]:
        raise UserError(
            f"config.VICE.STANDARDIZE.min_side={sizes['min_side']} must not exceed "
            f"config.VICE.STANDARDIZE.max_side={sizes['max_side']}"
        )
    if (plain["VICE"]["CUT_ON"], plain["VICE"]["PHOTOMETRIC_ON"]) == ("device", "workers"):
        raise UserError(
            "config.VICE.CUT_ON=device needs config.VICE.PHOTOMETRIC_ON=device or auto: workers "
            "cannot change the colours of views that are cut after them"
        )
    dim = plain["MODEL"]["TRUNK"]["VICE"].get("dim")
    wanted = plain["VICE"].get("PROTOTYPES", {}).get("dim", dim)
    if dim != wanted:
        raise UserError(
            f"config.MODEL.TRUNK.VICE.dim={dim!r} differs from config.VICE.PROTOTYPES.dim="
            f"{wanted}: set only the latter, the other follows it"
        )


def _check_built(plain: dict[str, Any]) -> None:
    """Builds what the options are for; on no device, so that it costs no memory."""
    method, trunk = plain["VICE"], plain["MODEL"]["TRUNK"]
    require("config.MODEL.TRUNK.NAME", trunk["NAME"], one_of(*DECODERS))
    embedder = {**trunk["VICE"], "decoder": DECODERS[trunk["NAME"]], "weights": None}
    arguments: dict[str, dict[str, Any]] = {
        "VICE.VIEWS": frozen(method["VIEWS"]),
        "VICE.PHOTOMETRIC": frozen(method["PHOTOMETRIC"]),
        "VICE.SUPERPIXELS": {**method["SUPERPIXELS"], "cache_dir": None},
        "MODEL.TRUNK.VICE": embedder,
    }
    for group, options in arguments.items():
        with _blamed(group), torch.device("meta"):
            _BUILDERS[group](**options)
    with _blamed("VICE"), torch.device("meta"):
        made = build_method({**method, "CUT_ON": "workers", "PHOTOMETRIC_ON": "workers"})
        made.head(int(trunk["VICE"]["dim"]))
        made.loss()


@contextmanager
def _blamed(group: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(f"config.{group}: {with_keys(error)}") from error


def _check_initial_weights(model: dict[str, Any]) -> None:
    """VISSL's own key for a file of weights; it is looked into before VISSL reads it."""
    file = (model.get("WEIGHTS_INIT") or {}).get("PARAMS_FILE")
    if file:
        # VISSL reads it as PyTorch does by default, which takes no foreign class either.
        read_tensors(str(file), strict=True)


def _check_slurm(slurm: dict[str, Any]) -> None:
    if slurm["USE_SLURM"] and not slurm["PARTITION"].strip():
        raise UserError("set config.SLURM.PARTITION to submit to SLURM")
    folder = slurm["LOG_FOLDER"]
    if slurm["USE_SLURM"] and (not LINE.holds(folder) or {"%", "\\"} & set(folder)):
        raise UserError(
            f"config.SLURM.LOG_FOLDER={folder}: SLURM gives % and \\ in names of logs a meaning of "
            "their own, and a line break ends them; name another folder"
        )
    if slurm["TIME_HOURS"] == slurm["TIME_MINUTES"] == 0:
        raise UserError(
            "config.SLURM.TIME_HOURS and config.SLURM.TIME_MINUTES are both 0: give the job time"
        )
    key, more = "config.SLURM.ADDITIONAL_PARAMETERS", slurm.get("ADDITIONAL_PARAMETERS")
    if not isinstance(more, dict):
        raise UserError(f"{key}={more!r}: must be a group of sbatch options, such as {{qos: high}}")
    for name, value in more.items():
        require(f"{key} option", str(name), Rule("letters, digits and -", _is_option))
        require(f"{key}.{name}", str(value), LINE)


def _is_option(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and name.isascii()
