"""Results that are no scores under a protocol: the positional bias, outlines, named masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vice.evaluation.compare import protocol_title, settings_of
from vice.evaluation.options import percent

WHEN = ("before", "after")
METRICS = {"miou": "mIoU", "accuracy": "accuracy"}
#: Scores of outlines, in the order they are shown.
OUTLINE_NAMES = {
    "boundary_precision": "boundary precision",
    "boundary_recall": "boundary recall",
    "boundary_f": "boundary f",
    "achievable_accuracy": "achievable accuracy",
    "undersegmentation": "undersegmentation",
}
#: Scores of named masks, in the order they are shown.
MASK_NAMES = {"miou": "masks mIoU", "accuracy": "masks accuracy"}

_KINDS = {"position": "positional bias", "boundaries": "outlines", "masks": "named masks"}

#: A score, None where there is none, and its interval, None where there is none.
Score = tuple[float | None, tuple[float, float] | None]


def named_scores(result: Mapping[str, Any]) -> dict[str, Score]:
    """Every score of such a result by its name, with its interval.

    Args:
        result: What ``results.json`` holds, of kind ``"position"``, ``"boundaries"`` or
            ``"masks"``.
    """
    titles = {"boundaries": OUTLINE_NAMES, "masks": MASK_NAMES}.get(result["kind"])
    if titles is not None:
        found = result[result["kind"]]
        return {
            shown: _score(found[name], (found.get("interval") or {}).get(name))
            for name, shown in titles.items()
        }
    scores: dict[str, Score] = {}
    for when in WHEN:
        of = result["position"][when]
        spread = of.get("r2_interval") or {}
        for axis, value in of["r2"].items():
            scores[f"{when} r2 {axis}"] = _score(value, spread.get(axis))
        for name, found in position_readouts(of):
            spread = found.get("interval") or {}
            for metric, shown in METRICS.items():
                scores[f"{when} {name} {shown}"] = _score(found[metric], spread.get(metric))
    return scores


def own_settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same for all results of a table: kind, images, and what tells it apart."""
    kind, data = result["kind"], result["dataset"]
    if kind == "boundaries":
        concepts = {k: v for k, v in result["concepts"].items() if k not in ("file", "pixels")}
        return {
            "kind": kind,
            "images": data["images"],
            "data": [data["name"], data["split"], data["list_checksum"]],
            "concepts": concepts,
            "tolerance": result["tolerance"],
        }
    if kind == "masks":
        return {
            "kind": kind,
            "images": data["images"],
            "data": [data["name"], data["split"], data["list_checksum"]],
            "classes": result["classes"],
        }
    return {
        "kind": kind,
        "images": data["images"]["score"],
        "settings": settings_of(result),
        "clusters": list(result["arguments"]["clusters"]),
    }


def own_title(results: Sequence[Mapping[str, Any]]) -> str:
    """Data set, split and kind of a table, and how its results were taken.

    Args:
        results: Of one table.
    """
    result, data = results[0], results[0]["dataset"]
    kind = result["kind"]
    if kind == "position":
        return f"{data['name']} {data['splits']['score']}, {_KINDS[kind]}, " + protocol_title(
            results
        )
    title = f"{data['name']} {data['split']}, {_KINDS[kind]}"
    if kind == "masks":
        return title
    concepts = result["concepts"]
    return (
        f"{title}, {concepts['number']} concepts ({concepts['from']}), within "
        f"{result['tolerance']} px"
    )


def is_share(name: str) -> bool:
    """Whether a score of `named_scores` is a share, shown in %; R², which may be below 0, is none.

    Args:
        name: As `named_scores` calls it.
    """
    return not name.startswith(tuple(f"{when} r2 " for when in WHEN))


def position_readouts(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and scores of each read-out with or without position, for example ``27 greedy``."""
    yield "linear", found["linear"]
    for k, matchings in found["clusters"].items():
        for matching, scores in matchings.items():
            yield f"{k} {matching}", scores


def position_lines(found: Mapping[str, Any]) -> list[str]:
    """What a person reads of the positional bias, a line each for before and after.

    Args:
        found: ``position`` of ``results.json``.
    """
    lines = []
    for when in WHEN:
        of = found[when]
        spread = of.get("r2_interval") or {}
        r2 = ", ".join(
            f"{axis} {_plain(value)}{_ends(spread.get(axis))}" for axis, value in of["r2"].items()
        )
        clusters = "".join(
            f"; {k} clusters greedy {percent(matchings['greedy'])}, hungarian "
            f"{percent(matchings['hungarian'])}"
            for k, matchings in of["clusters"].items()
        )
        lines.append(f"{when}: R² {r2}; linear {percent(of['linear'])}{clusters}")
    return lines


def boundary_line(result: Mapping[str, Any]) -> str:
    """What a person reads of the scores of outlines."""
    # Lazy import: it loads PyTorch, which help does without.
    from vice.evaluation.intervals import interval_text

    found = result["boundaries"]
    spread = found.get("interval") or {}
    shown = ", ".join(
        f"{text} {'-' if found[name] is None else f'{100 * found[name]:.2f}'}"
        f"{interval_text(spread.get(name))}"
        for name, text in OUTLINE_NAMES.items()
    )
    return (
        f"{shown} (%, outlines within {result['tolerance']} pixels); {found['images']} images, "
        f"{result['concepts']['number']} concepts"
    )


def _score(value: float | None, interval: Any) -> Score:
    return value, None if interval is None else (interval[0], interval[1])


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ends(interval: Any) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
