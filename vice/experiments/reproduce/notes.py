"""What stands under a reproduced table: how its figures were taken, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from vice.errors import UserError
from vice.evaluation.checkpoint_selection import RULE
from vice.evaluation.matchings import MATCHINGS
from vice.experiments.reproduce.evaluations import settings_of
from vice.experiments.reproduce.outcome import Outcome
from vice.experiments.reproduce.plan import ReproducePlan, frozen_spec, scaled_settings
from vice.experiments.reproduce.scored_images import scored_images
from vice.experiments.reproduce.tables import Experiment, PaperTable, is_trained
from vice.scoring import mean_over

#: Read-out of two seeds against one another.
STABILITY = "stability between seeds"


def notes(table: PaperTable, plan: ReproducePlan, outcome: Outcome) -> list[str]:
    """Lines under a table: what its figures are, of which images, and how they were taken."""
    lines = [
        "- mIoU / accuracy in %, mean ± standard deviation over seeds. No label has a say in which "
        f"checkpoint is scored: it is the last one, or that of the {RULE}, on images that were not "
        "trained on."
    ]
    if any(row.chosen and not row.compared for row in outcome.rows.values()):
        lines.append(
            "- Where an epoch is named without scores, that checkpoint is not scored (--last-only, "
            "or not yet)."
        )
    taken = [
        scores
        for row_outcome in outcome.rows.values()
        for scores in (*row_outcome.last, *row_outcome.chosen)
    ]
    if over := mean_over(entry for scores in taken for entry in scores.values()):
        lines.append(f"- mIoU: {over}; each results.json has its own number.")
    names = {name.rpartition(" ")[2] for scores in taken for name in scores}
    lines += [f"- {name}: {text}" for name, text in MATCHINGS.items() if name in names]
    if any(row_outcome.stability for row_outcome in outcome.rows.values()):
        lines.append(
            f"- {STABILITY}: adjusted Rand index and normalised mutual information between the "
            "nearest prototypes of all pixels of those images, in %, over pairs of last "
            "checkpoints."
        )
    if not plan.comparable():
        lines.append(
            "- † published for the papers' own setting and data: not comparable with the results "
            "beside it."
        )
    lines += scored_images(outcome)
    lines += [f"- scale {plan.scale.name}: {plan.scale.about}", *changes(table, plan)]
    return [*lines, *evaluated(table, plan)]


def changes(table: PaperTable, plan: ReproducePlan) -> list[str]:
    """What scale, data and overrides make of the papers' setting in a table's rows, a line each."""
    trained = [row for row in table.rows if is_trained(row)]
    lines = _trained(trained, plan)
    if plan.scale.images and any(not row.untrained for row in trained):
        lines.append(f"- training images: at most {plan.scale.images}")
    for row in table.rows:
        # Those with a file of weights name what they take themselves.
        if row.spec and row.evaluate and not row.file:
            spec = frozen_spec(row, plan)
            lines += [f"- {row.name}: {spec} in place of {row.spec}"] if spec != row.spec else []
    lines += [
        f"- data: {new} in place of {'all data sets' if old == '*' else old}"
        for old, new in plan.datasets.items()
    ]
    if plan.overrides:
        lines.append(f"- overrides: {', '.join(map(_short, plan.overrides))}")
    return lines


def evaluated(table: PaperTable, plan: ReproducePlan) -> list[str]:
    """With what a table's rows are evaluated, a line or more for each of their evaluations."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in table.rows:
        for label, said in row.evaluate.items():
            what = label if said["kind"] == label else f"{label} ({said['kind']})"
            used = settings_of(row, label, plan)
            found.setdefault(what, {})[row.name] = {
                name: f"{name}={value}" for name, value in used.items()
            }
    return [line for what, rows in found.items() for line in _by_rows(what, rows)]


def _trained(rows: Sequence[Experiment], plan: ReproducePlan) -> list[str]:
    """What the scale has a say in, as it came to be in the rows' trainings."""
    if not plan.scale.factors and not plan.scale.train:
        return []
    factors: dict[str, dict[str, str]] = {}
    values: dict[str, dict[str, str]] = {}
    for row in rows:
        # A row that cannot be composed is not trained, and says why.
        with suppress(UserError):
            applied, trained = scaled_settings(row, plan)
            factors[row.name] = {key: f"{_short(key)} {each:g}" for key, each in applied.items()}
            values[row.name] = {key: f"{_short(key)}={each}" for key, each in trained.items()}
    return [
        *_by_rows("factors on what the papers use", factors),
        *_by_rows("training", values),
    ]


def _by_rows(what: str, rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for what is alike in all rows, and one for each group of rows that differs.

    Args:
        what: What the lines begin with.
        rows: Name of a row to its settings by key, as they are shown.
    """
    first = next(iter(rows.values()), {})
    shared = {k: v for k, v in first.items() if all(of.get(k) == v for of in rows.values())}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, of in rows.items():
        groups.setdefault(tuple(v for k, v in of.items() if k not in shared), []).append(name)
    lines = [f"- {what}: {', '.join(shared.values())}"] if shared else []
    return lines + [
        f"- {what}, {'; '.join(map(repr, names))}: {', '.join(rest)}"
        for rest, names in groups.items()
        if rest
    ]


def _short(text: str) -> str:
    return text.replace("config.", "", 1)
