"""How the network of a run is computed where that is left to what is faster: decided once, kept."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from vice.errors import one_line
from vice.models import build_embedder
from vice.models.execution import AUTO, Execution
from vice.models.execution_probe import fastest
from vice.plugins.vissl.config.configure import write_config
from vice.plugins.vissl.dataset import ViceImages
from vice.runtime.rendezvous import Roster

logger = logging.getLogger(__name__)
#: Where rank 0 says what it has decided.
_KEY = "vice/execution"


def decide(config: Any, roster: Roster) -> None:
    """Sets what is still ``auto`` on every rank to what rank 0 finds to be faster, in place.

    Rank 0 takes steps of the network, from random weights, on a real batch, and writes what has
    come of it into the run's configuration.

    Args:
        config: VISSL's configuration, on every rank.
        roster: The ranks of the run.
    """
    group = config.MODEL.TRUNK.EXECUTION
    if not Execution(**group).undecided:
        return
    if roster.rank == 0:
        roster.note("trying how a step is faster")
        group.update(asdict(_try(config)))
        write_config(config)
        roster.store.set(_KEY, json.dumps(dict(group)))
    else:
        roster.store.wait([_KEY], roster.timeout)
        group.update(json.loads(roster.store.get(_KEY)))


def _try(config: Any) -> Execution:
    execution = Execution(**config.MODEL.TRUNK.EXECUTION)
    if config.MODEL.AMP_PARAMS.USE_AMP and execution.precision == AUTO:
        # Mixed precision of VISSL's own: it says already what is computed in which.
        execution = replace(execution, precision=None)
    choices = execution.choices()
    if len(choices) == 1:
        return choices[0]
    gpu = config.MACHINE.DEVICE == "gpu"
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    outputs = config.MODEL.TRUNK.get("OUTPUTS", None)
    options = {**config.MODEL.TRUNK.VICE, "weights": None}
    network = build_embedder(**options, outputs=dict(outputs) if outputs else None).to(device)
    try:
        batch = _batch(config, device)
    except Exception as error:
        # Catch-all: what a method needs for a batch may come with the training; and what is wrong
        # with the images is said where they are read for it.
        logger.warning(
            "the network is computed in %s: no other way was tried, since no batch could be made "
            "(%s)",
            choices[0],
            one_line(error),
        )
        return choices[0]
    best, seconds = fastest(network, batch, choices)
    plain = seconds[choices[0]]
    shares = ", ".join(
        f"{way} {seconds[way] / plain:.2f}" if isfinite(seconds[way]) else f"{way} much more"
        for way in choices[1:]
    )
    logger.info(
        "the network is computed in %s: tried here, a step takes, in units of %s: %s. The whole "
        "run is computed so (config.MODEL.TRUNK.EXECUTION)",
        best,
        choices[0],
        shares,
    )
    return best


def _batch(config: Any, device: torch.device) -> list[Tensor]:
    """The inputs of a step, of the first images."""
    images = ViceImages(config, str(config.DATA.TRAIN.DATA_PATHS[0]), "TRAIN", "", "")
    size = int(config.DATA.TRAIN.BATCHSIZE_PER_REPLICA)
    drawn = [images[number % len(images)][0].drawn for number in range(size)]
    return images.method.finish(images.method.collate(drawn), device).inputs
