"""Whether a result holds what tables are made of, and nothing else in its place.

Somebody may have changed ``results.json`` since it was written, or cut it off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.evaluation.compare import readouts, settings_of
from vice.evaluation.own_readouts import (
    MASK_NAMES,
    OUTLINE_NAMES,
    WHEN,
    is_share,
    named_scores,
    own_settings,
    own_title,
    position_readouts,
)

#: What reading a result that is not whole raises.
LACKING = (AttributeError, KeyError, TypeError, ValueError, IndexError)
_METRICS = ("miou", "accuracy")
_ROLES = ("fit", "score")
_AXES = ("x", "y")


def check_whole(result: Mapping[str, Any], file: Path) -> None:
    """Refuses a result under a protocol that lacks what a table takes from it.

    Args:
        result: What the file holds, of a kind of `vice.evaluation.protocol_effects.KINDS`.
        file: Its ``results.json``, for the message.

    Raises:
        UserError: It lacks a part, or holds something else in its place.
    """
    try:
        _check_described(result)
        _check_protocol(result)
        _check_readouts(result)
    except LACKING as error:
        raise _not_whole(file, error) from error


def check_own(result: Mapping[str, Any], file: Path) -> None:
    """`check_whole` of a result of one's own kind: the positional bias, outlines or named masks.

    Args:
        result: With ``spec`` and ``seed``, which stand for the source of masks.
        file: As there.

    Raises:
        UserError: As there.
    """
    try:
        own_settings(result)
        own_title([result])
        if result["kind"] == "position":
            _check_described(result)
            _check_protocol(result)
            _check_position(result)
        else:
            _check_sums(result)
        for name, (value, _) in named_scores(result).items():
            _check_score(name, value, share=is_share(name))
    except LACKING as error:
        raise _not_whole(file, error) from error


def mapping_of(scores: Mapping[str, Any], clusters: int, classes: int) -> list[int]:
    """The class of each cluster that a result holds beside its scores.

    Args:
        scores: Of a matching.
        clusters: Number of clusters K.
        classes: Number of classes C.

    Returns:
        K whole numbers in [0, C).

    Raises:
        ValueError: There is something else in its place.
    """
    mapping: Any = scores["mapping"]
    if not isinstance(mapping, list) or len(mapping) != clusters:
        raise ValueError(f"the mapping is none of {clusters} clusters")
    for value in mapping:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < classes:
            raise ValueError(f"the mapping holds {value!r}, which is none of {classes} classes")
    return mapping


def _not_whole(file: Path, error: Exception) -> UserError:
    return UserError(
        f"{file} lacks a part that an evaluation writes ({brief(error)}); evaluate again"
    )


def _check_described(result: Mapping[str, Any]) -> None:
    """What was scored on what."""
    settings_of(result)
    _check(result, "spec", str)
    _check(result, "seed", int)
    _check(result, "arguments", dict)
    _check_names("classes", result["classes"])
    data = result["dataset"]
    _check(data, "name", str)
    _check(data, "fit_name", str)
    for part, kind in (("splits", str), ("images", int), ("list_checksums", str)):
        for role in _ROLES:
            _check(data[part], role, kind)


def _check_protocol(result: Mapping[str, Any]) -> None:
    protocol = result["protocol"]
    for name in ("name", "hash"):
        _check(protocol, name, str)
    # Results of earlier versions have no title.
    if "title" in protocol:
        _check(protocol, "title", str)
    _check(protocol, "fields", dict)
    asked = {"clusters": "matchings", "retrieval": "retrieval_matchings"}.get(result["kind"])
    if asked is not None:
        _check_names(asked, protocol["fields"][asked])


def _check_readouts(result: Mapping[str, Any]) -> None:
    found = readouts(result)
    if not found:
        raise ValueError(f"{result['kind']} holds no score")
    for name, of in found.items():
        for metric in _METRICS:
            _check_score(f"{metric} of {name}", of[metric])
        _check_interval(name, of.get("interval"), _METRICS)
        ious = of.get("iou_per_class") or {}
        for value in ious.values() if isinstance(ious, dict) else ious:
            if value is not None and not _is_number(value):
                raise ValueError(f"iou_per_class of {name} holds what is no number")
        if of.get("classes_in_mean") is not None:
            _check(of, "classes_in_mean", int)


def _check_position(result: Mapping[str, Any]) -> None:
    """Both halves hold the numbers of clusters that were asked for, and R² along both axes."""
    asked = [str(number) for number in result["arguments"]["clusters"]]
    held = []
    for when in WHEN:
        of = result["position"][when]
        if {*of["clusters"]} != {*asked} or {*of["r2"]} != {*_AXES}:
            raise ValueError(f"position {when} holds other read-outs than were asked for")
        if not all(of["clusters"].values()):
            raise ValueError(f"position {when} holds clusters without a score")
        _check_interval(f"position {when}", of.get("r2_interval"), _AXES)
        found = dict(position_readouts(of))
        for name, scores in found.items():
            _check_interval(f"{name} {when}", scores.get("interval"), _METRICS)
        held.append({*found})
    if held[0] != held[1]:
        raise ValueError("position before and after hold different read-outs")


def _check_sums(result: Mapping[str, Any]) -> None:
    """Outlines and masks, whose scores follow from sums over images."""
    _check(result, "spec", str)
    _check(result, "seed", int)
    for name, kind in (("name", str), ("split", str), ("images", int), ("list_checksum", str)):
        _check(result["dataset"], name, kind)
    if result["kind"] == "masks":
        _check_names("classes", result["classes"])
        _check_interval("masks", result["masks"].get("interval"), MASK_NAMES)
        return
    _check(result["concepts"], "number", int)
    _check(result["concepts"], "from", str)
    if not _is_number(result["tolerance"]):
        raise ValueError(f"tolerance is {result['tolerance']!r}")
    _check_interval("outlines", result["boundaries"].get("interval"), OUTLINE_NAMES)


def _check(of: Mapping[str, Any], name: str, kind: type) -> None:
    """Raises a ValueError where an entry is of another type; a bool is no number."""
    value = of[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}")


def _check_names(name: str, value: Any) -> None:
    if not (isinstance(value, list) and value and all(isinstance(each, str) for each in value)):
        raise ValueError(f"{name} is {value!r}")


def _check_score(name: str, value: Any, *, share: bool = True) -> None:
    if value is None:
        return
    if not _is_number(value) or (share and not 0 <= value <= 1):
        raise ValueError(f"{name} is {value!r}, which is no score")


def _check_interval(name: str, of: Any, scores: Iterable[str]) -> None:
    """Of a single image, and of earlier versions, there is none."""
    for score in scores if of is not None else ():
        ends = of[score]
        pair = isinstance(ends, list | tuple) and len(ends) == 2 and all(map(_is_number, ends))
        if ends is not None and not pair:
            raise ValueError(f"the interval of {name} is {ends!r}")


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max
