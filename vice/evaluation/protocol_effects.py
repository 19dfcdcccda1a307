"""Protocol fields that an evaluation uses, so that none is changed in vain.

A hash covers every field. A field that is changed and without effect would give one score two
hashes, and results that compare would stand in two tables.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from vice.errors import UserError
from vice.evaluation.protocols import Protocol, get_protocol

KINDS = ("linear", "clusters", "finetune", "retrieval")
#: No table of comparison has this one.
POSITION = "position"
_MINIBATCH = ("minibatch_images", "minibatch_init")
_OBJECTS = (
    *("foreground", "foreground_threshold"),
    *("objects_components", "objects_batch", "objects_seeds"),
)
_PIXELS = ("kmeans_pixels", "kmeans_iterations")
_KMEANS = (*_PIXELS, "matchings", "clusters", *_MINIBATCH, *_OBJECTS)
_SCHEDULE = ("linear_epochs", "linear_schedule", "linear_step_epoch", "linear_weight_decay")
_STEPS = (
    *("linear_lr", "linear_batch", "linear_flip", "linear_photometric", "linear_bottleneck"),
    *("linear_rotation", "linear_scale"),
    *_SCHEDULE,
)
_SAMPLE = ("linear_pixels", "linear_l2")


#: Fields that say how something is read out, and not which images are shown.
KIND_FIELDS = frozenset(
    f.name
    for f in dataclasses.fields(Protocol)
    if f.name in _KMEANS or f.name.startswith(("linear_", "retrieval_"))
)


def changes_of_kind(kind: str, protocol: Protocol) -> dict[str, Any]:
    """Those changes of a protocol that an evaluation has an effect of, where kinds share options.

    Args:
        kind: One of ``KINDS``, or ``POSITION``.
        protocol: With the changes meant for any kind.

    Returns:
        Field to its value.
    """
    vain = without_effect(kind, protocol)
    return {k: v for k, v in protocol.changed().items() if k not in vain or k not in KIND_FIELDS}


def check_effects(kind: str, protocol: Protocol) -> None:
    """Refuses a protocol that differs from its published form in a field without effect.

    Args:
        kind: One of ``KINDS``, or ``POSITION``.
        protocol: The protocol.

    Raises:
        UserError: It names the field, and why it has no effect.
    """
    vain = without_effect(kind, protocol)
    for name, value in protocol.changed().items():
        if name in vain:
            published = getattr(get_protocol(protocol.name, protocol.dataset), name)
            raise UserError(
                f"{name}={_shown(value)} would change the protocol's hash and nothing else: "
                f"{vain[name]}; leave it out ({name}={_shown(published)})"
            )


def without_effect(kind: str, protocol: Protocol) -> dict[str, str]:
    """Fields that cannot change a result, given the others.

    Args:
        kind: One of ``KINDS``, or ``POSITION``.
        protocol: The protocol.

    Returns:
        Field to the reason.

    Raises:
        ValueError: No such kind.
    """
    if kind not in (*KINDS, POSITION):
        raise ValueError(f"evaluation {kind!r} is none of {', '.join((*KINDS, POSITION))}")
    return {**_of_kind(kind, protocol), **_of_sizes(kind, protocol), **_of_crf(kind, protocol)}


def _of_crf(kind: str, protocol: Protocol) -> dict[str, str]:
    if kind == "retrieval":
        return {"crf": "the retrieval evaluation refines nothing"}
    if kind == "clusters" and protocol.clusters == "objects":
        return {"crf": "clusters=objects refines nothing"}
    if protocol.crf == "dense":
        return {"upsample": "crf=dense decides at the size of the network's input"}
    return {}


def _of_kind(kind: str, protocol: Protocol) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if kind != "retrieval":
        reasons |= dict.fromkeys(_named("retrieval_"), f"the {kind} evaluation retrieves nothing")
    if kind in ("clusters", "retrieval"):
        reasons |= dict.fromkeys(_named("linear_"), f"{kind}: there is no probe")
    if kind != "clusters":
        reasons |= dict.fromkeys(_KMEANS, f"the {kind} evaluation has no clusters")
    if kind == POSITION:
        reasons |= dict.fromkeys(_KMEANS, "its clusters are of the probe's sample (linear_pixels)")
        del reasons["kmeans_iterations"]
    if kind == "retrieval":
        return reasons | _of_retrieval(protocol)
    if kind == "clusters":
        return reasons | _of_clusters(protocol)
    if protocol.linear_optimizer == "lbfgs":
        return reasons | dict.fromkeys(_STEPS, "linear_optimizer=lbfgs takes no steps over images")
    reasons |= dict.fromkeys(_SAMPLE, "only linear_optimizer=lbfgs draws a sample of pixels")
    if protocol.linear_optimizer == "adam":
        sgd_alone = ("linear_schedule", "linear_step_epoch", "linear_weight_decay")
        return _of_epochs(protocol, reasons | dict.fromkeys(sgd_alone, "adam has a constant rate"))
    if protocol.linear_schedule == "poly":
        reasons["linear_step_epoch"] = "linear_schedule=poly has no step"
    return _of_epochs(protocol, reasons)


def _of_epochs(protocol: Protocol, reasons: dict[str, str]) -> dict[str, str]:
    if protocol.linear_epochs:
        reasons["linear_iterations"] = "linear_epochs says how long the probe is trained"
    return reasons


def _of_clusters(protocol: Protocol) -> dict[str, str]:
    way = protocol.clusters
    reasons: dict[str, str] = {}
    if way != "minibatch":
        reasons |= dict.fromkeys(_MINIBATCH, f"clusters={way} has no groups of images")
    if way == "own":
        reasons |= dict.fromkeys(_PIXELS, "clusters=own fits nothing")
    if way != "objects":
        return reasons | dict.fromkeys(_OBJECTS, f"clusters={way} clusters pixels")
    reasons |= dict.fromkeys(_PIXELS, "clusters=objects has one vector an image")
    reasons["upsample"] = "clusters=objects decides for each object"
    if protocol.foreground != "model":
        reasons["foreground_threshold"] = f"foreground={protocol.foreground} is a mask"
    return reasons


def _of_retrieval(protocol: Protocol) -> dict[str, str]:
    if protocol.retrieval_grid == "native":
        return {"retrieval_patch": "with retrieval_grid=native each cell is a patch"}
    return {}


def _named(prefix: str) -> list[str]:
    return [f.name for f in dataclasses.fields(Protocol) if f.name.startswith(prefix)]


def _of_sizes(kind: str, protocol: Protocol) -> dict[str, str]:
    reasons = {}
    if protocol.fit_crops == "whole":
        reasons["fit_crop_ratio"] = "fit_crops=whole fits on whole images"
    if protocol.resize == "none":
        reason = "resize=none resizes nothing"
        reasons |= dict.fromkeys(("interpolation", "resize_library", "fit_size"), reason)
    elif protocol.resize == "factor":
        reasons["fit_size"] = "resize=factor has no sizes"
    elif protocol.fit_size == protocol.size:
        reasons["fit_size"] = "the fitted split has that size without it"
    if protocol.resize != "factor":
        reasons["resize_factor"] = f"resize={protocol.resize} has no factor"
    if protocol.fit_crop == protocol.crop:
        reasons["fit_crop"] = "the fitted split is cut to that size without it"
    # Resizing: a train image is always resized with its labels, and so is one of five crops.
    unaugmented = kind in ("clusters", "retrieval")
    fit_matters = unaugmented and protocol.fit_crop and protocol.fit_crops == "whole"
    moved = protocol.resize != "none" or protocol.crop or protocol.pad
    if not moved and not fit_matters:
        reasons["score_at"] = "images are scored at their own size"
    return reasons


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
