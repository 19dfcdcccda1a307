"""Training curves from the health records of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from vice.errors import UserError
from vice.parts import package
from vice.runtime.files import make_folder, replace_atomically

Record = dict[str, Any]
#: Adds to a panel's axes what helps to read it.
Note = Callable[[Any, Sequence[Record]], None]
#: What a record holds besides, and nobody reads from a curve.
_ASIDE = {
    "iteration",
    "epoch",
    "queue_length",
    "queue_age",
    "skipped_images",
    "seen_images",
    "flat_share",
    "different_share",
    "views_trained",
    "views_forward_only",
}


def plot_curves(records: Sequence[Record], path: str | Path, *, columns: int = 3) -> Path:
    """Draws loss, loss / ln K, prototype use, regions, share of discarded pixels and learning rate.

    A quantity that no record holds leaves its panel out of the picture; one that another method
    measures has a panel under its own name.

    Args:
        records: What `vice.runtime.health_log.read_health` returns.
        path: The PNG to write.
        columns: Panels beside one another; 1 for narrow screens.

    Returns:
        The path.

    Raises:
        UserError: No record holds any of these quantities.
    """
    canvas, figures = package("matplotlib.backends.backend_agg"), package("matplotlib.figure")

    panels = [
        (title, note, series)
        for key, title, note in (*_PANELS, *_others(records))
        if (series := _series(records, key))[0]
    ]
    if not panels:
        raise UserError("the health records hold no loss and no other quantity to plot")
    rows = math.ceil(len(panels) / columns)
    figure = figures.Figure(figsize=(3.5 * columns, 2.7 * rows), dpi=110, layout="constrained")
    canvas.FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, note, (steps, values)) in zip(grid.flat, panels, strict=False):
        _panel(axes, title, steps, values)
        note(axes, records)
    path = Path(path)
    make_folder(path.parent)
    # Metadata: without the version of matplotlib in the file, equal curves are equal bytes.
    replace_atomically(
        path, lambda new: figure.savefig(new, format="png", metadata={"Software": None})
    )
    return path


def _others(records: Sequence[Record]) -> list[tuple[str, str, Note]]:
    """Panels of what this module knows nothing of."""
    known = _ASIDE | {key for key, _, _ in _PANELS}
    names = dict.fromkeys(key for record in records for key in record if key not in known)
    return [(name, name.replace("_", " "), _nothing) for name in names]


def _series(records: Iterable[Record], key: str) -> tuple[list[float], list[float]]:
    """The finite values of one quantity and the steps they belong to."""
    steps, values = [], []
    for index, record in enumerate(records):
        value = record.get(key)
        if _is_number(value):
            steps.append(float(record.get("iteration", index)))
            values.append(float(value))
    return steps, values


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _panel(axes: Any, title: str, steps: list[float], values: list[float]) -> None:
    axes.plot(steps, values, color="#1f6fb2", linewidth=1.3, marker="." if len(steps) < 3 else None)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel("iteration", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _chance(axes: Any, records: Sequence[Record]) -> None:
    """Marks ln K, the loss of a model that gives all K prototypes the same score."""
    for record in records:
        loss, ratio = record.get("loss"), record.get("loss_over_lnk")
        if _is_number(loss) and _is_number(ratio) and ratio and loss:
            level = loss / ratio
            _mark(axes, level, f"ln K = {level:.2f} (chance)")
            return


def _one(axes: Any, records: Sequence[Record]) -> None:
    _mark(axes, 1.0, "chance")


def _mark(axes: Any, level: float, label: str) -> None:
    axes.axhline(level, color="#b2441f", linewidth=1, linestyle="--", label=label)
    axes.legend(fontsize=7, loc="best", frameon=False)


def _from_zero(axes: Any, records: Sequence[Record]) -> None:
    highest = max(axes.lines[0].get_ydata())
    axes.set_ylim(0, 1.1 * highest if highest > 0 else 1)


def _nothing(axes: Any, records: Sequence[Record]) -> None:
    return


_PANELS: tuple[tuple[str, str, Note], ...] = (
    ("loss", "loss", _chance),
    ("loss_over_lnk", "loss / ln K", _one),
    ("perplexity", "perplexity: prototypes in use", _from_zero),
    ("regions_per_view", "mutual regions per view", _from_zero),
    ("discarded_share", "share of pixels in no mutual region", _from_zero),
    ("lr", "learning rate", _nothing),
)
