"""What the fields of a protocol may be, and which go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vice.errors import UserError

if TYPE_CHECKING:
    from vice.evaluation.protocols import Protocol

_CHOICES = {
    "fit_crops": ("whole", "five"),
    "resize": ("none", "short", "within", "exact", "factor"),
    "interpolation": ("bilinear", "bicubic", "nearest"),
    "resize_library": ("torchvision", "opencv"),
    "score_at": ("original", "input"),
    "std": ("imagenet", "original"),
    "upsample": ("scores", "input", "classes", "probabilities"),
    "features": ("embedding", "decoder"),
    "crf": ("none", "dense"),
    "linear_schedule": ("poly", "step"),
    "miou_over": ("present", "all"),
    "matchings": ("greedy", "hungarian", "argmax_iou", "hungarian_iou"),
    "linear_optimizer": ("sgd", "adam", "lbfgs"),
    "same_split": ("off", "published"),
    "clusters": ("kmeans", "minibatch", "objects", "own"),
    "foreground": ("model", "files", "label"),
    "foreground_threshold": ("logit", "probability"),
    "retrieval_grid": ("native", "patch"),
    "retrieval_ignored": ("left_out", "class0"),
    "exif": ("layout", "ignore", "fit_ignore", "score_ignore"),
    "retrieval_matchings": ("none", "hungarian", "hungarian_iou"),
}
_AT_LEAST_ONE = (
    "minibatch_images",
    "minibatch_init",
    "objects_components",
    "objects_batch",
    "kmeans_iterations",
    "linear_iterations",
    "linear_batch",
    "linear_pixels",
    "retrieval_memory",
    "retrieval_neighbours",
)
_BETWEEN = {
    "size": (1, 2**16),
    "fit_size": (1, 2**16),
    "crop": (0, 2**16),
    "fit_crop": (0, 2**16),
    "fit_crop_ratio": (1e-3, 1),
    "linear_lr": (0, 1e6),
    "linear_bottleneck": (0, 2**16),
    "linear_l2": (1e-12, 1e6),
    "linear_epochs": (0, 10**6),
    "linear_step_epoch": (1, 10**6),
    "linear_weight_decay": (0, 1e6),
    "linear_rotation": (0, 180),
    "linear_scale": (1e-3, 1e3),
    "retrieval_temperature": (1e-6, 1e6),
    "retrieval_patch": (1, 2**16),
    "objects_seeds": (0, 2**32 - 1),
    "resize_factor": (1e-2, 1e2),
    "pad": (0, 2**16),
}
_DIFFERENT = ("matchings", "retrieval_matchings", "objects_seeds")
#: Protocols that name a paper's own way of finding the foreground.
_MODEL_ALONE = "maskcontrast2021_kmeans"
_SIZES = {"none": 0, "factor": 0, "short": 1, "within": 2, "exact": 2}


def check_protocol(protocol: Protocol) -> None:
    """Refuses fields that are not allowed, by themselves or together.

    Raises:
        UserError: It names the field.
    """
    _check_values(protocol)
    for field in ("fit_split", "score_split"):
        _check_split(field, getattr(protocol, field))
    _check_sizes(protocol)
    _check_probe(protocol)
    if protocol.kmeans_pixels < (0 if protocol.clusters == "minibatch" else 1):
        raise UserError(f"protocol: kmeans_pixels is {protocol.kmeans_pixels}; at least 1")
    _check_overlap(protocol)
    if protocol.name == _MODEL_ALONE and protocol.foreground != "model":
        raise UserError(
            f"{_MODEL_ALONE} has its foreground from the model that is scored; with foreground="
            f"{protocol.foreground} take maskcontrast2021_held_out, which bears its own name"
        )


def _check_probe(protocol: Protocol) -> None:
    if protocol.crf == "dense" and protocol.upsample == "classes":
        raise UserError("protocol: crf=dense refines scores: set upsample=scores")
    if protocol.upsample == "probabilities" and protocol.clusters != "own":
        raise UserError(
            "protocol: upsample=probabilities is of the checkpoint's own classes: set "
            "clusters=own, or upsample=scores"
        )
    if protocol.linear_optimizer == "lbfgs" and protocol.linear_bottleneck:
        raise UserError(
            "protocol: linear_optimizer=lbfgs fits the plain probe alone: set "
            "linear_bottleneck=0, or linear_optimizer=sgd"
        )
    if protocol.linear_schedule == "step" and not protocol.linear_epochs:
        raise UserError("protocol: linear_schedule=step counts epochs: set linear_epochs")
    scale = protocol.linear_scale
    if scale and (len(scale) != 2 or scale[0] > scale[1]):
        raise UserError(f"protocol: linear_scale is {scale}; the least and the greatest factor")


def _check_overlap(protocol: Protocol) -> None:
    same = set(protocol.fit_split.split("+")) & set(protocol.score_split.split("+"))
    if same and protocol.same_split == "off":
        raise UserError(
            f"fitting and scoring on one split ({protocol.score_split}) measures memory, not "
            "generalisation: name two splits (or say same_split=published, to repeat a paper that "
            "did)"
        )
    if protocol.same_split == "published" and not same:
        raise UserError(
            f"same_split=published, but nothing is fitted inside {protocol.score_split}: leave it "
            "out"
        )


def _check_values(protocol: Protocol) -> None:
    for field, known in _CHOICES.items():
        value = getattr(protocol, field)
        wrong = [v for v in (value if isinstance(value, tuple) else [value]) if v not in known]
        if wrong:
            raise UserError(f"protocol: {field} is {wrong[0]!r}; choose {', '.join(known)}")
    for field in _AT_LEAST_ONE:
        if getattr(protocol, field) < 1:
            raise UserError(f"protocol: {field} is {getattr(protocol, field)}; at least 1")
    for field, (least, most) in _BETWEEN.items():
        value = getattr(protocol, field)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(type(v) in (int, float) and least <= v <= most for v in numbers):
            raise UserError(f"protocol: {field} is {value}; from {least:g} to {most:g}")
    for field in _DIFFERENT:
        value = getattr(protocol, field)
        if not value or len(set(value)) < len(value):
            raise UserError(f"protocol: {field} is {value}; one or more different ones")


def _check_sizes(protocol: Protocol) -> None:
    resize, size, fit_size = protocol.resize, protocol.size, protocol.fit_size
    if len(size) != _SIZES[resize]:
        raise UserError(
            f"protocol: resize={resize} needs {_SIZES[resize]} numbers in size, not {len(size)}"
        )
    if fit_size and resize != "none" and len(fit_size) != len(size):
        raise UserError(
            f"protocol: resize={resize} needs {len(size)} numbers in fit_size, not {len(fit_size)}"
        )
    if resize in ("within", "factor") and protocol.resize_library == "torchvision":
        raise UserError(f"protocol: resize={resize} needs resize_library=opencv")
    if protocol.pad and protocol.score_at != "input":
        raise UserError(
            f"protocol: pad={protocol.pad} puts pixels around the image that no label map has: set "
            "score_at=input"
        )


def _check_split(field: str, value: str) -> None:
    for name in value.split("+"):
        if not name.strip() or name in (".", "..") or set(name) & set("/\\\0"):
            raise UserError(
                f"protocol: {field} is {value!r}; the name of a split, or several joined with +"
            )
