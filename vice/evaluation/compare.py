"""Tables of many results, and a plain word where there can be none.

`vice.evaluation.scored_folders` reads them, and `vice.evaluation.comparison_page` shows the tables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.evaluation.content_checksums import by_settings
from vice.evaluation.protocols import hashed_fields
from vice.model_specs import names_code

logger = logging.getLogger(__name__)
#: Scores of a probe after the epoch that is best on the scored labels: key and name.
BEST_NAME, BEST_READOUT = "linear_best", "linear, best epoch"
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
    first: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    told: set[str] = set()
    for result in results:
        spec = str(result["spec"])
        if spec.startswith(_DRAWN) or not _digest(result):
            continue
        code = names_code(spec)
        twin = first.setdefault((spec, result["seed"] if code else None), result)
        if _digest(twin) != _digest(result):
            raise UserError(
                f"{spec} had other weights in {result.get('folder', '?')} than in "
                f"{twin.get('folder', '?')}, and they are no two seeds of one model: leave one "
                "out, or score each from a file of its own"
            )
        other = first.setdefault((spec,), result)
        if _digest(other) == _digest(result) or spec in told:
            continue
        told.add(spec)
        logger.warning(
            "%s had other weights in %s than in %s: they are taken for seeds of one model, which "
            "is right if its code draws them",
            spec, result.get("folder", "?"), other.get("folder", "?"),
        )  # fmt: skip


def _digest(result: Mapping[str, Any]) -> str:
    from vice.runtime.provenance import known_digest

    model = result.get("model")
    return (known_digest(model.get("digest")) or "") if isinstance(model, Mapping) else ""


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
    named = protocol_title(members)
    title = f"{settings['dataset']} {settings['splits.score']}, {settings['kind']}, {named}"
    if share := share_of_images(settings):
        title += f", {share}"
    # PyTorch takes seconds to import, and help of tools does without.
    from vice.scoring import mean_over

    return ComparisonTable(title, settings, list(columns), rows, mean_over(counted), cells)


def share_of_images(arguments: Mapping[str, Any]) -> str:
    """Which of the fitted split's images were fitted to; empty for all of them.

    Args:
        arguments: Of an evaluation.
    """
    share = arguments.get("fraction") or 1
    seed = arguments.get("subset_seed") or 0
    return f"{share:g} of its images (subset {seed})" if share != 1 else ""


def protocol_title(results: Sequence[Mapping[str, Any]]) -> str:
    """How the protocol of results of one way is called, as `Protocol.title` does.

    Args:
        results: Those of earlier versions have no title.
    """
    protocols = [result["protocol"] for result in results]
    titles = [protocol["title"] for protocol in protocols if protocol.get("title")]
    return titles[0] if titles else f"{protocols[0]['name']} ({protocols[0]['hash']})"


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
    digests = _digest(first), _digest(second)
    both = " and ".join(folders)
    if _folder(first) == _folder(second):
        where = f"{folders[0]} is named twice: name it once"
    elif all(digests) and digests[0] != digests[1]:
        where = f"{both} had other weights under one seed: leave one out"
    else:
        where = f"{both} cannot be told apart: name one of the two only"
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
