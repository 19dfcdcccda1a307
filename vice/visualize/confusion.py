"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vice.names import printable
from vice.runtime.files import make_folder, replace_atomically

#: Characters of a class's name that are shown.
_LONGEST = 40
#: Pixels of the picture to an inch.
_DPI = 110


def plot_confusion(
    confusion: np.ndarray, classes: Sequence[str], path: str | Path, title: str = ""
) -> Path:
    """Draws a confusion matrix; each row shows how the pixels of one class were predicted.

    Args:
        confusion: Integers (C, C), rows are true classes and columns predicted ones.
        classes: Their names.
        path: PNG to write; its folder is made.
        title: Heading.

    Returns:
        The path.

    Raises:
        ValueError: Not a square matrix of as many rows as names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of shape {matrix.shape} for {len(classes)} classes")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(100 * matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    side = 2.5 + 0.32 * len(classes)
    figure = Figure(figsize=(side, side), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    ticks = range(len(classes))
    # Tick labels: a name has the room of one.
    shown = map(printable, classes)
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in shown]
    axes.set_xticks(ticks, names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    # Mathtext: names may hold what matplotlib would read as a formula.
    axes.set_title("\n".join(map(printable, title.split("\n"))), fontsize=10, parse_math=False)
    for row, column in zip(*np.nonzero(shares >= 1), strict=True):
        share = shares[row, column]
        ink = "white" if share > 55 else "black"
        number = axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=ink)
        number.set_fontsize(6)
        # Layout: numbers lie inside the axes, and measuring each takes most of the time.
        number.set_in_layout(False)
    figure.colorbar(picture, ax=axes, shrink=0.6, label="% of the class's pixels")
    path = Path(path)
    make_folder(path.parent)
    # Drawn once: matplotlib's own way to a file draws all of it twice, to lay it out before.
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    replace_atomically(path, lambda new: Image.fromarray(pixels).save(new, format="png"))
    return path
