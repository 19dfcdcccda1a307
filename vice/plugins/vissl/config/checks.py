"""Looks at the values of a configuration before anything is started."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from classy_vision.optim import build_optimizer
from omegaconf import DictConfig, OmegaConf

from vice.errors import UserError
from vice.methods import build_method, check_made
from vice.models import build_embedder
from vice.models.foreign import read_tensors
from vice.models.uninitialized import Uninitialized
from vice.options import (
    LINE,
    Group,
    Rule,
    check,
    check_options,
    make,
    one_of,
    options_of,
    require,
    whole,
)
from vice.plugins.vissl.config.fixed import check_fixed
from vice.plugins.vissl.config.known import check_kinds, check_known, check_whole
from vice.plugins.vissl.config.options import VISSL
from vice.plugins.vissl.config.schema import group_at, groups, inner_groups, method_of, methods_with
from vice.plugins.vissl.option_keys import with_keys
from vice.runtime.files import check_folder

_FOLDERS = (
    "CHECKPOINT.DIR",
    "SLURM.LOG_FOLDER",
    "VICE.SUPERPIXELS.cache_dir",
    "VICE.FOREGROUND.cache_dir",
    "VICE.METHOD.cache_dir",
)


def check_values(composed: DictConfig) -> None:
    """Makes sure that every value of a configuration can be trained with.

    Args:
        composed: What `vice.plugins.vissl.config.compose.compose` returns.

    Raises:
        UserError: Names the first key whose value has a wrong type, is out of range, or does not
            go with another one.
    """
    plain: Any = OmegaConf.to_container(composed.config, resolve=True)
    check_whole(plain)
    check_known(plain)
    check_kinds(plain)
    composed.config.OPTIMIZER = plain["OPTIMIZER"]
    check_fixed(plain)
    method_groups = groups(method_of(composed.config))
    for prefix, group in {**method_groups, **VISSL}.items():
        key = ".".join(filter(None, ("config", prefix)))
        _refuse_others_options(prefix, group_at(plain, prefix), group, composed.config)
        check(
            group,
            group_at(plain, prefix),
            key,
            inner_groups(prefix, method_groups),
            others=prefix in VISSL,
        )
    _check_together(plain)
    _check_built(plain, method_groups)
    _check_optimizer(plain["OPTIMIZER"])
    _check_slurm(plain["SLURM"])
    _check_initial_weights(plain["MODEL"])
    for key in _FOLDERS:
        above, _, name = key.rpartition(".")
        # Optional groups: not every method has regions.
        exists = above in method_groups or not above.startswith("VICE.")
        path = group_at(plain, above).get(name) if exists else None
        if path is not None:
            check_folder(f"config.{key}", path)
    nodes = plain["DISTRIBUTED"]["NUM_NODES"]
    require("node_id", composed.node_id, whole(0, nodes - 1))
    require("engine_name", composed.engine_name, one_of("vice_train", "train"))


def check_names(config: DictConfig) -> None:
    """Makes sure that every key of a configuration is one, whatever its value.

    Args:
        config: ``config.*``.

    Raises:
        UserError: Names the first that is not, and the nearest one.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    check_known(plain)
    method_groups = groups(method_of(config))
    for prefix, group in method_groups.items():
        values = group_at(plain, prefix)
        _refuse_others_options(prefix, values, group, config)
        inner = inner_groups(prefix, method_groups)
        check_options(group, values, f"config.{prefix}", inner)


def _refuse_others_options(
    prefix: str, values: Mapping[str, Any], group: Group, config: DictConfig
) -> None:
    """Says whose options they are, where those of a group are other methods'."""
    for name in values:
        whose = [] if name in options_of(group) else methods_with(prefix, str(name))
        if whose:
            raise UserError(
                f"config.{prefix}.{name}={values[name]!r}: the method {method_of(config)} has "
                f"no such option, but {' and '.join(whose)}; leave it out, or set "
                f"config.VICE.METHOD.name={whose[0]}"
            )


def _check_together(plain: dict[str, Any]) -> None:
    """Values that are right by themselves and do not go with one another."""
    bands = plain["VICE"]["DATASET"]["bands"]
    if len(bands) == 2:
        raise UserError(f"config.VICE.DATASET.bands={bands}: give one for gray, or three for color")
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


def _check_built(plain: dict[str, Any], method_groups: Mapping[str, Group]) -> None:
    """Builds what the options are for; on no device, so that it costs no memory."""
    trunk = plain["MODEL"]["TRUNK"]["VICE"]
    for prefix, group in method_groups.items():
        if isinstance(group, type):
            values = {name: group_at(plain, prefix)[name] for name in options_of(group)}
            # Side effects: a folder is made by the run itself.
            values |= {"cache_dir": None} if "cache_dir" in values else {}
            with _blamed(prefix):
                make(group, values)
    with _blamed("MODEL.TRUNK.VICE"):
        build_embedder(**{**trunk, "weights": None})
    with _blamed("VICE"):
        made = build_method({**plain["VICE"], "CUT_ON": "workers", "PHOTOMETRIC_ON": "workers"})
        head, loss = made.head(int(trunk["dim"])), made.loss()
    check_made(made, head, loss)
    if made.frozen and trunk["frozen"] is not True:
        raise UserError(
            f"config.MODEL.TRUNK.VICE.frozen={trunk['frozen']}: the method "
            f"{plain['VICE']['METHOD']['name']} learns from a backbone that stays as it is; set "
            "config.MODEL.TRUNK.VICE.frozen=true"
        )


def _check_optimizer(options: dict[str, Any]) -> None:
    """Builds the optimizer for one parameter; those of VISSL check what they are given."""
    if options["use_zero"]:
        return
    options = {**copy.deepcopy(options), "lr": 0.1}
    with _blamed("OPTIMIZER"):
        try:
            parameter = torch.nn.Parameter(torch.zeros(1))
            build_optimizer(options).prepare([{"params": [parameter], "lr": 0.1}])
        # What its parts assert, and modules that they would need.
        except (AssertionError, AttributeError, ImportError, LookupError, RuntimeError) as error:
            raise ValueError(str(error) or type(error).__name__) from error


@contextmanager
def _blamed(group: str) -> Iterator[None]:
    try:
        with torch.device("meta"), Uninitialized():
            yield
    except (TypeError, ValueError) as error:
        raise UserError(f"config.{group}: {with_keys(error)}") from error


def _check_initial_weights(model: dict[str, Any]) -> None:
    """VISSL's own key for a file of weights; it is looked into before VISSL reads it."""
    file = (model.get("WEIGHTS_INIT") or {}).get("PARAMS_FILE")
    if file:
        # Strict: VISSL reads it as PyTorch does by default, which takes no foreign class either.
        read_tensors(str(file), strict=True)


def _check_slurm(slurm: dict[str, Any]) -> None:
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
    key = "config.SLURM.ADDITIONAL_PARAMETERS"
    for name, value in slurm["ADDITIONAL_PARAMETERS"].items():
        require(f"{key} option", str(name), Rule("letters, digits and -", _is_option))
        require(f"{key}.{name}", value if isinstance(value, dict | list) else str(value), LINE)


def _is_option(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and name.isascii()
