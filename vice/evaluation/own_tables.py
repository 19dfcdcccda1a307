"""Tables of the positional bias, outlines and named masks, with paired differences of their rows.

A row is an embedder, or a folder of masks; results of one way (same images and classes, protocol or
tolerance, numbers of clusters) share a table.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vice.errors import UserError, brief
from vice.evaluation.compare import check_one_model, row_of
from vice.evaluation.comparison_page import Section
from vice.evaluation.content_checksums import by_settings, content_of
from vice.evaluation.image_counts import load_image_sums, load_image_tables
from vice.evaluation.image_sums import resampled_sums
from vice.evaluation.intervals import (
    LEVEL,
    MATCHED_ANEW,
    RESAMPLES,
    resampled_mapping,
    resampled_scores,
)
from vice.evaluation.mask_scores import MASK_SUMS, mask_scores
from vice.evaluation.outline_sums import OUTLINE_SUMS, OUTLINES, outline_scores
from vice.evaluation.own_readouts import (
    MASK_NAMES,
    METRICS,
    OUTLINE_NAMES,
    WHEN,
    is_share,
    named_scores,
    own_settings,
    own_title,
    position_readouts,
)
from vice.evaluation.paired import RowScore, difference, row_score, shown_difference
from vice.evaluation.position_counts import R2, R2_SUMS, r2_scores
from vice.evaluation.whole_results import LACKING, check_own, mapping_of
from vice.names import printable
from vice.runtime.run_folder import PER_IMAGE_NAME, RESULTS_NAME


@dataclass(frozen=True)
class OwnTable:
    """Results of one kind that were taken in the same way.

    Attributes:
        title: Data set, split and kind.
        images: Number of scored images.
        rows: Embedder to its results, one a seed.
    """

    title: str
    images: int
    rows: Mapping[str, Sequence[Mapping[str, Any]]]


def make_own_tables(
    results: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None
) -> list[OwnTable]:
    """Groups such results by how they were taken; only the seed may differ inside a row.

    Args:
        results: With ``folder``, the results directory.
        names: As in `vice.evaluation.compare.make_tables`.

    Raises:
        UserError: The same embedder, seed and settings twice, or a result that is not whole.
    """
    settled = []
    for result in results:
        check_own(result, Path(result.get("folder", "?")) / RESULTS_NAME)
        settled.append((own_settings(result), result))
    tables = []
    for settings, members in by_settings(settled):
        check_one_model(members)
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for result in members:
            row = rows.setdefault(row_of(result["spec"], names or {}), [])
            twice = [r for r in row if (r["spec"], r["seed"]) == (result["spec"], result["seed"])]
            if twice:
                raise UserError(
                    f"{result['spec']} with seed {result['seed']} is there twice "
                    f"({result['kind']}): name {twice[0]['folder']} or {result['folder']} only"
                )
            row.append(result)
        tables.append(OwnTable(own_title(members), settings["images"], rows))
    return _told_apart(tables)


def _told_apart(tables: Sequence[OwnTable]) -> list[OwnTable]:
    """Tables of which those of one title say what their images and labels held."""
    titles = Counter(table.title for table in tables)
    found = []
    for table in tables:
        first = next(iter(table.rows.values()))[0]
        content = "".join(f", {name} {value}" for name, value in content_of(first).items())
        more = content if titles[table.title] > 1 else ""
        found.append(replace(table, title=table.title + more))
    return found


def own_sections(tables: Sequence[OwnTable], against: str | None = None) -> list[Section]:
    """The tables as they are shown, each followed by the differences to one of its rows.

    Args:
        tables: What `make_own_tables` returns.
        against: Row that others are compared with; the first of a table that has no such row.

    Raises:
        UserError: Counts of images that are missing or are not those of their result.
    """
    sections = []
    for table in tables:
        scores = {row: [named_scores(result) for result in of] for row, of in table.rows.items()}
        names = list(dict.fromkeys(name for of in scores.values() for each in of for name in each))
        lines = [
            [row, str(len(of)), *(_shown(name, [each.get(name) for each in of]) for name in names)]
            for row, of in scores.items()
        ]
        besides = "" if all(map(is_share, names)) else " (R² as it is)"
        unit = f"in %{besides}, with {100 * LEVEL:.0f} % intervals over images"
        sections.append(Section(table.title, unit, ["embedder", "seeds", *names], lines))
        if len(table.rows) > 1:
            sections.append(_differences(table, names, against))
    return sections


def _differences(table: OwnTable, names: Sequence[str], against: str | None) -> Section:
    reference = next(iter(table.rows))
    if against is not None and against in table.rows:
        reference = against
    base = _row_scores(table.rows[reference])
    lines = []
    for row, results in table.rows.items():
        if row == reference:
            continue
        own = _row_scores(results)
        cells = [
            shown_difference(difference(own[name], base[name]))
            if name in own and name in base
            else "-"
            for name in names
        ]
        lines.append([row, *cells])
    besides = "" if all(map(is_share, names)) else " (R² in hundredths)"
    return Section(
        f"Differences in {table.title}: each row less {printable(reference)}",
        f"in points{besides}, with {100 * LEVEL:.0f} % intervals over the same "
        f"{RESAMPLES:,} resamples of the {table.images} scored images; a difference whose interval "
        "holds 0 lies within chance",
        ["embedder", *names],
        lines,
    )


def _row_scores(results: Sequence[Mapping[str, Any]]) -> dict[str, RowScore]:
    """Means over the seeds of a row: name to the score and its resampled values."""
    drawn, scores = [_resample(result) for result in results], [named_scores(r) for r in results]
    return {
        name: row_score(name, [of[name][0] for of in scores], [each[name] for each in drawn])
        for name in drawn[0]
        if all(name in each for each in drawn)
    }


def _resample(result: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every score of a result by its name, in the resamples."""
    path = Path(result["folder"]) / PER_IMAGE_NAME
    try:
        if result["kind"] == "position":
            return _resample_position(result, path)
        return _resample_sums(result, path)
    except UserError:
        raise
    except LACKING as error:
        raise _not_whole(result, error) from error


def _resample_sums(result: Mapping[str, Any], path: Path) -> dict[str, np.ndarray]:
    """Of scores that follow from sums of the images."""
    if result["kind"] == "boundaries":
        name, width, scorer, titles = OUTLINES, len(OUTLINE_SUMS), outline_scores, OUTLINE_NAMES
    else:
        name, width, scorer, titles = MASK_SUMS, 3 * len(result["classes"]), mask_scores, MASK_NAMES
    sums = load_image_sums(path, name, width, result["dataset"]["images"], 0)

    def shown(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {title: scores[name] for name, title in titles.items()}

    _agree(path, named_scores(result), shown(scorer(sums.sum(0)[None])))
    return shown(scorer(resampled_sums(sums)))


def _resample_position(result: Mapping[str, Any], path: Path) -> dict[str, np.ndarray]:
    classes, images = len(result["classes"]), result["dataset"]["images"]["score"]
    over = result["protocol"]["fields"].get("miou_over", "present")
    sizes = {"linear": classes}
    sizes |= {k: int(k) for k in result["position"]["before"]["clusters"]}
    shapes = {f"{when} {name}": (k, classes) for when in WHEN for name, k in sizes.items()}
    beside = len(WHEN) * (8 * len(R2_SUMS) * images + 128)
    tables = load_image_tables(path, shapes, images, beside)
    most = sum(images * (8 * k * c + 8) + 64 for k, c in shapes.values())
    found: dict[str, np.ndarray] = {}
    for when in WHEN:
        sums = load_image_sums(path, f"{when} {R2}", len(R2_SUMS), images, most)
        drawn = r2_scores(resampled_sums(sums))
        found |= {f"{when} r2 {axis}": values for axis, values in drawn.items()}
        for name, scores in position_readouts(result["position"][when]):
            size, _, matching = name.partition(" ")
            table = tables[f"{when} {size}"]
            held = mapping_of(scores, sizes[size], classes) if matching else None
            mapping = table.total().identity() if held is None else torch.tensor(held)
            given = {name: resampled_mapping(matching, mapping)}
            values = resampled_scores(table, given, over=over)[name]
            found |= {f"{when} {name} {METRICS[m]}": of for m, of in values.items()}
            if matching not in MATCHED_ANEW:
                accuracy = table.total().accuracy(mapping)
                said = {name: (scores["accuracy"], None)}
                _agree(path, said, {name: np.array([accuracy])})
    return found


def _agree(path: Path, said: Mapping[str, Any], again: Mapping[str, np.ndarray]) -> None:
    """Raises a `UserError` where counts of images do not give the scores of their result."""
    for name, values in again.items():
        value = said[name][0]
        if value is not None and not abs(value - float(values[0])) <= 1e-6:
            raise UserError(
                f"{path}: its counts give another score ({name}) than the results.json beside it; "
                "evaluate again"
            )


def _shown(name: str, scores: Sequence[Any]) -> str:
    """Mean over the seeds; of one alone with its interval, of several with their deviation."""
    known = [score for score in scores if score is not None and score[0] is not None]
    if not known:
        return "-"
    # Digits: those of the read-out's own line.
    times, digits = (100, 2) if is_share(name) else (1, 3)
    values = [times * value for value, _ in known]
    if len(known) > 1:
        return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
    low, high = (f"{times * end:.{digits}f}" for end in known[0][1] or (0, 0))
    return f"{values[0]:.{digits}f}" + ("" if known[0][1] is None else f" [{low}, {high}]")


def _not_whole(result: Mapping[str, Any], error: Exception) -> UserError:
    return UserError(
        f"{result.get('folder', '?')} lacks a part that an evaluation writes ({brief(error)}); "
        "evaluate again"
    )
