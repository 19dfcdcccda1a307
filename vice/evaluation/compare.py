"""Tables of many results directories, and a plain word where there can be none.

`vice.evaluation.comparison_page` shows them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.evaluation.content_checksums import by_settings
from vice.evaluation.protocol_effects import KINDS
from vice.evaluation.protocols import hashed_fields
from vice.model_specs import names_code
from vice.nearest import near_path
from vice.runtime.files import read_json
from vice.runtime.result_folders import LOGS_NAME, folders_within, has_results
from vice.runtime.run_folder import LOCK_NAME, RESULTS_NAME

logger = logging.getLogger(__name__)
#: Kinds of results that are no scores of an embedder under a protocol.
OF_THEIR_OWN = ("position", "boundaries", "masks")
#: Scores of a probe after the epoch that is best on the scored labels: key and name.
BEST_NAME, BEST_READOUT = "linear_best", "linear, best epoch"
#: Why a folder holds no results.
_STOPPED, _EMPTY = "its evaluation did not end", "it is empty"
#: How far down results are looked for: in folders of outputs of `vice score`.
_LEVELS = 2
#: Specs whose weights, or a part of them, are drawn by the seed.
_DRAWN = ("random:", "imagenet:")
#: Arguments that change a score and are in no protocol.
ASKED_FOR = ("fraction", "subset_seed", "backbone_lr_mult", "crop", "options")


@dataclass(frozen=True)
class ComparisonTable:
    """Results that were taken in the same way.

    Attributes:
        title: Data set, scored split and kind of evaluation.
        settings: What was the same for all, flat: dotted name to value.
        columns: Names of the read-outs.
        rows: Embedder to read-out to (mIoU, accuracy) of each seed, shares in [0, 1].
        mean: Over how many classes the mIoUs are means, see `vice.scoring.mean_over`.
        members: The results of each cell, in the order of its scores.
    """

    title: str
    settings: Mapping[str, Any]
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, list[tuple[float | None, float | None]]]]
    mean: str = ""
    members: Mapping[str, Mapping[str, list[Mapping[str, Any]]]] = field(default_factory=dict)

    @property
    def subject(self) -> tuple[str, str]:
        """Family of data set and kind of evaluation; only within one is comparing tempting."""
        return self.settings["dataset"].rstrip("0123456789"), self.settings["kind"]


def read_results(folders: Iterable[str | Path], *, whole: bool = True) -> list[dict[str, Any]]:
    """Reads ``results.json`` of each directory; ``folder`` is added, the directory itself.

    Args:
        folders: Results directories.
        whole: Whether all must be there that a table is made of.

    Raises:
        UserError: A directory without one, one that lacks something, or one that no evaluation of
            ViCE wrote.
    """
    results = []
    for folder in _ended(folders):
        file = folder / RESULTS_NAME
        if not file.is_file():
            raise UserError(f"{folder} holds no {RESULTS_NAME}: {_where(folder)}")
        result = read_json(file, "evaluate again")
        if result.get("kind") in OF_THEIR_OWN:
            raise UserError(
                f"{file} holds the read-out {result['kind']}, which is not taken under a protocol: "
                "leave its folder out"
            )
        if result.get("kind") not in KINDS:
            raise UserError(f"{file} was not written by an evaluation of ViCE")
        if "protocol" not in result:
            raise UserError(f"{file} names no protocol: it is of an older version; evaluate again")
        if whole:
            _check_whole(result, file)
        results.append({**result, "folder": str(folder)})
    kinds = Counter(result["kind"] for result in results)
    named = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    logger.info("results found: %d (%s)", len(results), named)
    return results


def spread(folders: Sequence[str | Path]) -> list[Path]:
    """All folders with results, in place of those that they lie in, such as score.py's.

    Those of a folder whose evaluation was stopped are among them, to be told of.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = [place for place in folders_within(folder, _LEVELS) if _is_shown(place)]
        found += inside or [folder]
    return found


def divide_folders(folders: Iterable[str | Path]) -> tuple[list[Path], list[dict[str, Any]]]:
    """Parts results directories: those of other tables, and results that get one here.

    Args:
        folders: Results directories.

    Returns:
        The folders that `read_results` is for, and what the others hold, with ``folder``.
    """
    rest, own = [], []
    for folder in _ended(folders):
        file = folder / RESULTS_NAME
        result = read_json(file, "evaluate again") if file.is_file() else {}
        if result.get("kind") in OF_THEIR_OWN:
            own.append({**_origin(result), **result, "folder": str(folder)})
        else:
            rest.append(folder)
    return rest, own


def _origin(result: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for the embedder and the seed of masks, which any way may have made."""
    if result["kind"] != "masks":
        return {}
    source = result.get("source") or {}
    parts = [str(source[name]) for name in ("masks", "names") if source.get(name)]
    return {"spec": " by ".join(parts) or "masks", "seed": 0}


def _ended(folders: Iterable[str | Path]) -> list[Path]:
    """Folders without those of stopped evaluations, which are told of; all, if there are no others.

    A folder without results is left to whoever reads it.
    """
    places = list(map(Path, folders))
    unfinished = {place: _unfinished(place) for place in places}
    if all(unfinished.values()):
        return places
    for place, why in unfinished.items():
        if why:
            logger.warning("left out: %s holds no %s: %s", place, RESULTS_NAME, why)
    return [place for place in places if not unfinished[place]]


def _unfinished(folder: Path) -> str:
    """Why a folder holds no results, if it looks like one that is to hold some; else nothing."""
    if has_results(folder):
        return ""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ""
    # Several read-outs: their folder has logs, too, and is not itself one of results.
    if {*names} & {*KINDS, *OF_THEIR_OWN}:
        return ""
    if any(name.partition(".")[0] == LOGS_NAME for name in names) or names == [LOCK_NAME]:
        return _STOPPED
    return "" if names else _EMPTY


def _is_shown(folder: Path) -> bool:
    """Whether a folder among others is one of results, or would be, had its evaluation ended."""
    why = _unfinished(folder)
    read_out = folder.name in (*KINDS, *OF_THEIR_OWN)
    return has_results(folder) or why == _STOPPED or (why == _EMPTY and read_out)


def _where(folder: Path) -> str:
    """What to name instead of a folder without results."""
    if why := _unfinished(folder):
        return f"{why}; name a folder that an evaluation has written"
    if folder.name == RESULTS_NAME and folder.is_file():
        return f"name its folder, {folder.parent}"
    inside = sorted(folder.glob(f"*/{RESULTS_NAME}")) if folder.is_dir() else []
    if inside:
        return f"name the folders in it, such as {inside[0].parent} ({len(inside)} hold results)"
    near = near_path(folder).removeprefix("; ")
    return near or "is it a results directory?"


def _check_whole(result: Mapping[str, Any], file: Path) -> None:
    """Refuses results that lack what a table takes from them, or hold scores that are none."""
    try:
        if not isinstance(settings_of(result)["dataset"], str):
            raise ValueError("its data set has no name")
        hash((result["spec"], result["seed"]))
        found = readouts(result)
        scores = [s[name] for s in found.values() for name in ("miou", "accuracy")]
        for name, of in found.items():
            _check_readout(name, of)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} lacks a part that an evaluation writes ({brief(error)}); evaluate again"
        ) from error
    wrong = [s for s in scores if s is not None and not (_is_number(s) and 0 <= s <= 1)]
    if wrong:
        raise UserError(f"{file} holds the score {wrong[0]!r}, which is none; evaluate again")


def _check_readout(name: Any, scores: Mapping[str, Any]) -> None:
    """Raises a ValueError for what is shown of a read-out and is not what an evaluation writes."""
    if not isinstance(name, str):
        raise ValueError(f"a matching is named {name!r}")
    ious = scores.get("iou_per_class") or {}
    values = ious.values() if isinstance(ious, dict) else ious
    if not all(value is None or _is_number(value) for value in values):
        raise ValueError(f"iou_per_class of {name} holds what is no number")
    for metric in ("miou", "accuracy"):
        ends = (scores.get("interval") or {}).get(metric)
        pair = isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
        if ends is not None and not pair:
            raise ValueError(f"the interval of {name} is {ends!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def make_tables(
    results: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None
) -> list[ComparisonTable]:
    """Groups results by how they were taken; only the seed may differ inside a cell.

    Protocol (by all its fields), lists of images, what images and labels hold, and classes must
    agree.

    Args:
        results: What `read_results` returns.
        names: Pattern of embedders, as the shell has them, to the name of their row; so runs that
            were trained with different seeds share one.

    Returns:
        A table for each way, in the order of their first result.

    Raises:
        UserError: The same embedder, seed and settings twice, or one embedder with different
            weights (it names both directories), or a pattern that no embedder matches.
    """
    specs = {result["spec"] for result in results}
    for pattern, name in (names or {}).items():
        if not any(_fits(spec, pattern) for spec in specs):
            there = ", ".join(sorted(specs))
            raise UserError(f"{name}={pattern}: no embedder has such a name; there are {there}")
    groups = by_settings([(settings_of(result), result) for result in results])
    for _, members in groups:
        check_one_model(members)
    return [_table(settings, members, names or {}) for settings, members in groups]


def check_one_model(results: Sequence[Mapping[str, Any]]) -> None:
    """Makes sure that results of one spec are of the same weights, unless its seed draws them.

    Args:
        results: Of one table.

    Raises:
        UserError: A file was another one when it was scored again; names both directories.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for result in results:
        spec = str(result["spec"])
        if spec.startswith(_DRAWN) or names_code(spec) or not _digest(result):
            continue
        other = first.setdefault(spec, result)
        if _digest(other) != _digest(result):
            raise UserError(
                f"{spec} had other weights in {result.get('folder', '?')} than in "
                f"{other.get('folder', '?')}, and they are no two seeds of one model: leave one "
                "out, or score each from a file of its own"
            )


def _digest(result: Mapping[str, Any]) -> str:
    model = result.get("model")
    return str(model.get("digest") or "") if isinstance(model, Mapping) else ""


def row_names(texts: Iterable[str]) -> dict[str, str]:
    """Pattern of embedders to the name of their row.

    Args:
        texts: ``NAME=PATTERN``.

    Raises:
        UserError: A text without ``=``, or one pattern for two rows.
    """
    names: dict[str, str] = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        if not name or not pattern:
            raise UserError(f"--row {text}: must be NAME=PATTERN, such as 'ViCE=outputs/seed*'")
        if pattern in names:
            raise UserError(f"--row {text}: {pattern} is in row {names[pattern]} already")
        names[pattern] = name
    return names


def differences(tables: Sequence[ComparisonTable]) -> list[str]:
    """Says which tables of the same data and kind of evaluation cannot be compared, and why.

    Returns:
        A sentence for each such pair.
    """
    sentences = []
    for i, first in enumerate(tables):
        for j, second in enumerate(tables[:i]):
            if first.subject != second.subject:
                continue
            names = sorted({*first.settings, *second.settings})
            unlike = [
                f"{name} ({second.settings.get(name)} against {first.settings.get(name)})"
                for name in names
                if name != "hash" and first.settings.get(name) != second.settings.get(name)
            ]
            unlike = unlike or ["the hash of the protocol, that is, the meaning of stored labels"]
            sentences.append(
                f"Table {j + 1} and table {i + 1} are not comparable, and not paired: "
                f"{', '.join(unlike)}."
            )
    return sentences


def settings_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What was the same for all results of a table, flat: dotted name to value."""
    data, arguments = result["dataset"], result["arguments"]
    flat: dict[str, Any] = {
        "kind": result["kind"],
        "dataset": data["name"],
        "fitted on": data["fit_name"],
        "classes": result["classes"],
        "protocol": result["protocol"]["name"],
        "hash": result["protocol"]["hash"],
    }
    fields = hashed_fields(result["protocol"]["fields"])
    flat |= {f"protocol.{name}": value for name, value in fields.items()}
    for part in ("splits", "images", "list_checksums"):
        flat |= {f"{part}.{name}": value for name, value in data[part].items()}
    if fewer := _fewer_vectors(result):
        flat["k-means vectors beyond the memory limit"] = fewer
    return flat | {name: arguments[name] for name in ASKED_FOR if arguments.get(name)}


def _fewer_vectors(result: Mapping[str, Any]) -> dict[str, int]:
    """How many vectors that the protocol asks for k-means has left out, by number of clusters."""
    clusters = result.get("clusters")
    fits = {k: of.get("kmeans", {}) for k, of in clusters.items()} if clusters else {}
    return {k: fit["beyond_memory"] for k, fit in fits.items() if fit.get("beyond_memory")}


def _table(
    settings: dict[str, Any], members: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> ComparisonTable:
    rows: dict[str, dict[str, list[tuple[float | None, float | None]]]] = {}
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    columns: dict[str, None] = {}
    seen: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    counted: list[Mapping[str, Any]] = []
    alike: dict[tuple[str, str], None] = {}
    for result in members:
        for name, scores in readouts(result).items():
            key = (result["spec"], result["seed"], name)
            if key in seen:
                if _folder(seen[key]) == _folder(result) or scores != readouts(seen[key])[name]:
                    raise UserError(_twice(seen[key], result, name))
                alike[str(result.get("folder")), str(seen[key].get("folder"))] = None
                continue
            seen[key] = result
            counted.append(scores)
            columns[name] = None
            row = row_of(result["spec"], names)
            cell = rows.setdefault(row, {}).setdefault(name, [])
            cell.append((scores["miou"], scores["accuracy"]))
            cells.setdefault(row, {}).setdefault(name, []).append(result)
    for folder, first in alike:
        logger.info("%s has the scores of %s once more: they are counted once", folder, first)
    protocol = members[0]["protocol"]
    # Results of earlier versions have no title.
    named = protocol.get("title") or f"{protocol['name']} ({protocol['hash']})"
    title = f"{settings['dataset']} {settings['splits.score']}, {settings['kind']}, {named}"
    # PyTorch takes seconds to import, and help of tools does without.
    from vice.scoring import mean_over

    return ComparisonTable(title, settings, list(columns), rows, mean_over(counted), cells)


def row_of(spec: str, names: Mapping[str, str]) -> str:
    """The row of an embedder, see `make_tables`."""
    return next((name for p, name in names.items() if _fits(spec, p)), spec)


def _fits(spec: str, pattern: str) -> bool:
    # Globbing: its characters, such as brackets, may be part of a name.
    return spec == pattern or fnmatch(spec, pattern)


def _folder(result: Mapping[str, Any]) -> Path:
    return Path(str(result.get("folder", "?"))).resolve()


def _twice(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> str:
    folders = [str(result.get("folder", "?")) for result in (first, second)]
    where = (
        f"{folders[0]} is named twice: name it once"
        if _folder(first) == _folder(second)
        else f"{folders[0]} and {folders[1]} cannot be told apart: name one of the two only"
    )
    return (
        f"{first['spec']} with seed {first['seed']} is there twice ({name}, "
        f"{first['dataset']['name']}): {where}"
    )


def readouts(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The scores of a result by read-out, for example ``linear`` or ``27 greedy``."""
    fields = result["protocol"]["fields"]
    if result["kind"] == "retrieval":
        return {f"retrieval {m}": result["retrieval"][m] for m in fields["retrieval_matchings"]}
    if result["kind"] != "clusters":
        best = {BEST_READOUT: result[BEST_NAME]} if BEST_NAME in result else {}
        return {result["kind"]: result[result["kind"]], **best}
    return {
        f"{k} {matching}": entry[matching]
        for k, entry in result["clusters"].items()
        for matching in fields["matchings"]
    }
