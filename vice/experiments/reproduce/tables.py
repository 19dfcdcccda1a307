"""The papers' experiments as data: a file a table under ``configs/tables``, composed from parts.

A *part* says some of ``name``, ``config`` (of training), ``train`` (Hydra overrides),
``trained_on`` (data set), ``evaluate`` (name of an evaluation to its arguments; the name is its
``kind`` where that is not said, and stands before the read-outs of clusters where it is), ``kinds``
(which evaluations are kept), ``spec`` (an embedder in place of a training), ``untrained``,
``initial``, ``file`` and ``fetched`` (weights of a frozen embedder, see `Experiment`),
``published`` (read-out to the papers' figures, in percent) and ``source``; ``use`` names parts of
``_base/parts.yaml`` that come before it. A row is the table's ``base`` followed by a part of
``rows``, or by one of each of the lists of ``axes``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vice.errors import UserError
from vice.nearest import did_you_mean
from vice.parts import check_packages, check_part, lacking
from vice.paths import config_root

#: Keys of a part that an experiment has as they are.
_PLAIN = ("trained_on", "spec", "file", "fetched", "untrained", "initial", "source")
KINDS = ("linear", "clusters", "retrieval", "finetune", "timing")


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: Its line in the table.
        config: Config of the training; None where nothing is trained.
        shared: Overrides that come with shared parts; a scale may replace them.
        own: Overrides that make the row what it is; they win over a scale's.
        trained_on: Name of the data set that is trained on.
        spec: What is evaluated in place of a training's result.
        file: Name, without suffix, that a file of its weights has in the plan's folder of weights;
            empty where it needs none.
        fetched: Whether it can be had without that file. One that cannot be had at all has a row
            that says so, and is no failure.
        untrained: Whether only the config counts, for timings.
        initial: Whether the training's network is evaluated with random weights.
        evaluate: Name of the evaluation to its arguments; ``kind`` is one of ``KINDS``.
        published: Read-out to the papers' figures, in percent; ``training`` to a time as text.
        source: Where those stand.
    """

    name: str
    config: str | None = None
    shared: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    trained_on: str = ""
    spec: str | None = None
    file: str = ""
    fetched: bool = True
    untrained: bool = False
    initial: bool = False
    evaluate: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class PaperTable:
    """One table or figure of the papers.

    Attributes:
        name: Name of its file.
        title: What it compares.
        source: Where it stands in the papers.
        about: What a reader has to know.
        baseline: Row that the others' differences are taken to; empty for none.
        rows: The experiments.
    """

    name: str
    title: str
    source: str
    about: str
    baseline: str
    rows: tuple[Experiment, ...]


@dataclass(frozen=True)
class Scale:
    """How large an experiment is made, see ``configs/tables/_base/scales.yaml``.

    Attributes:
        name: Its name.
        about: What it is for.
        factors: Key of the training to the factor on what a row says.
        train: Overrides in place of what rows share.
        evaluate: Kind of evaluation to arguments that are changed.
        images: Most images that are trained on; 0 for all.
        held_out: Most images that a checkpoint is chosen by.
        finetuned: Embedder that fine-tuning from ImageNet starts from; empty for the row's.
    """

    name: str
    about: str
    factors: Mapping[str, float] = field(default_factory=dict)
    train: tuple[str, ...] = ()
    evaluate: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: int = 0
    held_out: int = 64
    finetuned: str = ""


def check_needs(rows: Sequence[Experiment]) -> None:
    """Sees whether what trains and scores rows is installed: they take days.

    Raises:
        MissingPart: Something is not; says which command installs it.
    """
    kinds = {arguments["kind"] for row in rows for arguments in row.evaluate.values()}
    if any(map(is_trained, rows)):
        check_part("training")
    if kinds - {"timing"}:
        check_part("scoring")
    if "clusters" in kinds:
        check_packages("faiss")


def is_trained(row: Experiment) -> bool:
    """Whether a row runs, and with a config of training; one that is only timed has one as well."""
    return row.config is not None and bool(row.evaluate)


def table_names() -> list[str]:
    """Names of all tables."""
    return sorted(file.stem for file in _folder().glob("*.yaml"))


def load_table(name: str) -> PaperTable:
    """Reads a table.

    Args:
        name: One of `table_names`.

    Returns:
        The table, its rows composed.

    Raises:
        UserError: No such table, or its file is not as the module's text says.
    """
    file = _folder() / f"{name}.yaml"
    if name not in table_names():
        near = did_you_mean(name, table_names(), f"choose one of {', '.join(table_names())}")
        raise UserError(f"table {name!r} is unknown{near}")
    content = _read(file)
    parts = _read(_folder() / "_base" / "parts.yaml")
    known = {"title", "source", "about", "base", "baseline", "rows", "axes", "published"}
    _check_keys(content, known, file)
    base = _compose(content.get("base") or {}, parts, file)
    axes = content.get("axes") or [content.get("rows")]
    if not all(axes):
        raise UserError(f"{file}: give rows, or axes")
    published = content.get("published") or {}
    rows = [_row(base, chosen, parts, published, file) for chosen in itertools.product(*axes)]
    names = [row.name for row in rows]
    missing = {*published, content.get("baseline") or names[0]} - set(names)
    if missing or len(set(names)) < len(names):
        raise UserError(f"{file}: rows must have different names, and {sorted(missing)} are none")
    return PaperTable(
        name,
        content["title"],
        content.get("source", ""),
        content.get("about", ""),
        content.get("baseline", ""),
        tuple(rows),
    )


def select_rows(table: PaperTable, patterns: Sequence[str]) -> PaperTable:
    """The rows of a table whose names match one of some patterns, and its baseline.

    Args:
        table: The table.
        patterns: As the shell has them; none for all rows.

    Returns:
        The smaller table.

    Raises:
        UserError: A pattern that no row matches.
    """
    for pattern in patterns:
        if not any(fnmatch(row.name, pattern) for row in table.rows):
            names = [row.name for row in table.rows]
            near = did_you_mean(pattern, names, f"there are: {'; '.join(names)}")
            raise UserError(f"--row {pattern!r}: no such row in {table.name}{near}")
    kept = [
        row for row in table.rows if row.name == table.baseline or _is_named(row.name, patterns)
    ]
    return replace(table, rows=tuple(kept))


def comes_along(table: PaperTable, patterns: Sequence[str]) -> str:
    """The row that `select_rows` keeps for the others to be compared with, and nobody named.

    Args:
        table: The table.
        patterns: As in `select_rows`.

    Returns:
        Its name; empty if there is none, or nothing is evaluated of it.
    """
    for row in table.rows:
        if row.name == table.baseline and row.evaluate and not _is_named(row.name, patterns):
            return row.name
    return ""


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)


def select_readouts(table: PaperTable, labels: Sequence[str]) -> PaperTable:
    """A table whose rows are evaluated in some of the ways that they say.

    Args:
        table: The table.
        labels: Names of evaluations; none for all.

    Returns:
        The same rows.

    Raises:
        UserError: A name that no row has.
    """
    known = list(dict.fromkeys(label for row in table.rows for label in row.evaluate))
    for label in labels:
        if label not in known:
            near = did_you_mean(label, known) or f", but {', '.join(known)}"
            raise UserError(f"--readout {label}: no row of {table.name} is evaluated so{near}")
    kept = [
        replace(row, evaluate={name: of for name, of in row.evaluate.items() if name in labels})
        for row in table.rows
    ]
    return replace(table, rows=tuple(kept)) if labels else table


def load_scale(name: str) -> Scale:
    """Reads a scale: ``tiny``, ``small``, ``quick`` or ``full``.

    Raises:
        UserError: No such scale.
    """
    scales = _read(_folder() / "_base" / "scales.yaml")
    if name not in scales:
        near = did_you_mean(name, scales, f"choose one of {', '.join(scales)}")
        raise UserError(f"scale {name!r} is unknown{near}")
    options = dict(scales[name])
    before = scales[options.pop("train_as")]["train"] if "train_as" in options else []
    train = tuple(last_of_each([*before, *options.pop("train", [])]))
    return Scale(name=name, train=train, **options)


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested groups put together; where both have a value, the second's."""
    merged = dict(first)
    for key, value in second.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def key_of(override: str) -> str:
    """The key that a Hydra override sets."""
    return override.partition("=")[0].lstrip("+")


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """The last override of each key, where it stood; in the place of one that adds, it adds."""
    kept: dict[str, str] = {}
    for override in overrides:
        adds = kept.pop(key_of(override), "").startswith("+")
        kept[key_of(override)] = f"+{override.lstrip('+')}" if adds else override
    return list(kept.values())


def _row(
    base: Mapping[str, Any],
    chosen: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Any],
    published: Mapping[str, Any],
    file: Path,
) -> Experiment:
    overrides = [override for part in chosen for override in part.get("train", ())]
    whole: dict[str, Any] = dict(base)
    for part in chosen:
        whole = _join(whole, _compose({**part, "train": []}, parts, file))
    name = ", ".join(part["name"] for part in chosen)
    kinds = whole.get("kinds", KINDS)
    evaluations = {
        label: {**arguments, "kind": arguments.get("kind", label)}
        for label, arguments in (whole.get("evaluate") or {}).items()
    }
    return Experiment(
        name,
        whole.get("config"),
        tuple(whole.get("train", ())),
        tuple(overrides),
        evaluate={
            label: arguments
            for label, arguments in evaluations.items()
            if arguments["kind"] in kinds
        },
        published={**whole.get("published", {}), **published.get(name, {})},
        **{key: whole[key] for key in _PLAIN if key in whole},
    )


def _compose(part: Mapping[str, Any], parts: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A part with what it uses, shared overrides before its own."""
    known = {"name", "config", "train", "evaluate", "kinds", "use", "published"}
    _check_keys(part, known | {*_PLAIN}, file)
    used = part.get("use", [])
    whole: dict[str, Any] = {}
    for name in [used] if isinstance(used, str) else used:
        if name not in parts:
            raise UserError(f"{file}: part {name!r} is not in _base/parts.yaml")
        whole = _join(whole, _compose(parts[name], parts, file))
    return _join(whole, {key: value for key, value in part.items() if key != "use"})


def _join(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    train = [*first.get("train", ()), *second.get("train", ())]
    return {**merge(first, second), "train": train}


def _check_keys(content: Mapping[str, Any], known: set[str], file: Path) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        near = did_you_mean(unknown[0], known, f"choose of {sorted(known)}")
        raise UserError(f"{file}: key {unknown[0]!r} is unknown{near}")


def _folder() -> Path:
    return config_root() / "tables"


def _read(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise lacking("training", error) from error

    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content
