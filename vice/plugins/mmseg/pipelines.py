"""From a protocol to a pipeline of MMSegmentation's transforms."""

from __future__ import annotations

from typing import Any

from vice.errors import UserError
from vice.evaluation.protocols import Protocol

ROLES = ("train", "fit", "score")
Step = dict[str, Any]


def build_pipeline(protocol: Protocol, role: str) -> list[Step]:
    """Transforms that an image and its label map go through.

    Args:
        protocol: The protocol.
        role: ``"train"``: the fitted split as the linear probe sees it; ``"fit"``: the same
            without anything random, for centroids and their classes; ``"score"``.

    Returns:
        Configs of MMSegmentation's transforms.
    """
    fitting = role != "score"
    crop = (protocol.fit_crop if fitting else 0) or protocol.crop
    # Order of transforms: a label map read after the image was resized stays as stored.
    together = protocol.score_at == "input" or role == "train" or protocol.fit_crops != "whole"
    geometry = [*_resize(protocol, fitting), *_pad(protocol), *_crop(crop)]
    if role == "train":
        geometry = [*_turn(protocol), *geometry]
    load = {"type": "ViceLoadLabels", "part": protocol.label_part}
    labels = [load] if protocol.fit_labels or not fitting else []
    steps: list[Step] = [{"type": "ViceLoadImage"}]
    if fitting and protocol.fit_crops == "five":
        steps += [*labels, {"type": "ViceFiveCrop", "ratio": protocol.fit_crop_ratio}, *geometry]
    else:
        steps += [*labels, *geometry] if together else [*geometry, *labels]
    if together:
        steps.append({"type": "ViceScoreAtInput"})
    if role == "train":
        steps += _augment(protocol)
    return [*steps, {"type": "PackSegInputs"}]


def build_fit_pipeline(protocol: Protocol) -> list[Step]:
    """Transforms of a fitted image whose label map is asked for at both of its sizes.

    The image is that of the roles ``"fit"`` and ``"train"``, which show the same one to a probe
    that is fitted to convergence. The sample has ``gt_sem_seg`` as in the role ``"fit"``, and
    ``gt_at_input`` as in the role ``"train"``.

    Args:
        protocol: That of a probe that is fitted to convergence.

    Raises:
        ValueError: It is trained by steps, on images that are changed at random.
    """
    if _augment(protocol):
        raise ValueError("a probe that is trained by steps sees its own images")
    fit, train = build_pipeline(protocol, "fit"), build_pipeline(protocol, "train")
    moved = protocol.resize != "none" or bool(protocol.fit_crop or protocol.crop)
    pack = {"type": "VicePackBoth", "reload": fit != train and moved, "part": protocol.label_part}
    return [*train[:-1], pack]


def optimizer(protocol: Protocol) -> dict[str, Any]:
    """The probe's optimizer, see `vice.evaluation.protocols.Protocol`."""
    if protocol.linear_optimizer == "adam":
        return {"type": "Adam", "lr": protocol.linear_lr}
    decay = protocol.linear_weight_decay
    return {"type": "SGD", "lr": protocol.linear_lr, "momentum": 0.9, "weight_decay": decay}


def count_steps(protocol: Protocol, images: int) -> tuple[int, int]:
    """Steps of the probe in all and in an epoch of whole batches; without epochs, the latter is 0.

    Args:
        protocol: The protocol.
        images: Number of train images.

    Raises:
        UserError: Fewer images than one batch.
    """
    if not protocol.linear_epochs:
        return protocol.linear_iterations, 0
    steps = images // protocol.linear_batch
    if not steps:
        raise UserError(
            f"{images} train images make no whole batch of {protocol.linear_batch}: lower "
            "linear_batch"
        )
    return protocol.linear_epochs * steps, steps


def schedule(protocol: Protocol, images: int = 0) -> list[dict[str, Any]]:
    """The probe's learning rate over its iterations.

    Args:
        protocol: The protocol.
        images: Number of train images, of which epochs are made.
    """
    if protocol.linear_optimizer == "adam":
        return []
    end, epoch = count_steps(protocol, images)
    if protocol.linear_schedule == "step":
        milestone = protocol.linear_step_epoch * epoch
        return [{"type": "MultiStepLR", "milestones": [milestone], "gamma": 0.1, "by_epoch": False}]
    return [
        {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "begin": 0, "end": end, "by_epoch": False}
    ]


def _resize(protocol: Protocol, fitting: bool) -> list[Step]:
    size = (protocol.fit_size if fitting else ()) or protocol.size
    if protocol.resize == "none":
        return []
    if protocol.resize == "factor":
        way = {"factor": protocol.resize_factor, "interpolation": protocol.interpolation}
        return [{"type": "ViceScale", **way}]
    if protocol.resize_library == "torchvision":
        side = size[0] if protocol.resize == "short" else tuple(size)
        return [{"type": "ViceResize", "size": side, "interpolation": protocol.interpolation}]
    step = {"type": "Resize", "interpolation": protocol.interpolation}
    if protocol.resize == "exact":
        return [{**step, "scale": (size[1], size[0]), "keep_ratio": False}]
    # Resize bounds: MMCV takes a longer and a shorter side; a longer side without end leaves
    # the shorter one to decide.
    scale = (10**6, size[0]) if protocol.resize == "short" else tuple(size)
    return [{**step, "scale": scale, "keep_ratio": True}]


def _pad(protocol: Protocol) -> list[Step]:
    return [{"type": "VicePad", "side": protocol.pad}] if protocol.pad else []


def _crop(side: int) -> list[Step]:
    return [{"type": "CenterCrop", "crop_size": (side, side)}] if side else []


def _turn(protocol: Protocol) -> list[Step]:
    if protocol.linear_optimizer == "lbfgs" or not (
        protocol.linear_rotation or protocol.linear_scale
    ):
        return []
    scale = protocol.linear_scale or (1.0, 1.0)
    return [{"type": "ViceTurn", "degrees": protocol.linear_rotation, "scale": tuple(scale)}]


def _augment(protocol: Protocol) -> list[Step]:
    steps: list[Step] = []
    if protocol.linear_optimizer == "lbfgs":
        return steps  # Each image is seen once.
    if protocol.linear_flip:
        steps.append({"type": "RandomFlip", "prob": 0.5})
    if protocol.linear_photometric:
        steps.append({"type": "PhotoMetricDistortion"})
    return steps
