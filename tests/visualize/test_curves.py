from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.visualize import curves
from vice.visualize.curves import plot_curves


def records(count: int = 20, num_prototypes: int = 32) -> list[dict]:
    return [
        {
            "iteration": 5 * i,
            "loss": 3.5 / (1 + i / 10),
            "loss_over_lnk": 3.5 / (1 + i / 10) / math.log(num_prototypes),
            "perplexity": 30.0 - i,
            "regions_per_view": 12.5,
            "discarded_share": 0.4,
            "queue_age": None,
            "lr": 0.1,
        }
        for i in range(count)
    ]


def test_png_is_written_the_same_twice(tmp_path: Path) -> None:
    one = plot_curves(records(), tmp_path / "pictures" / "a.png").read_bytes()
    two = plot_curves(records(), tmp_path / "b.png").read_bytes()
    assert one == two
    assert np.asarray(Image.open(tmp_path / "b.png").convert("RGB")).std() > 5


def test_curves_hold_the_records_and_ln_k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), original(self, *a, **k))
    )
    plot_curves(records(), tmp_path / "a.png")
    (figure,) = figures
    shown = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.lines}
    assert len(shown) == len(curves._PANELS)
    loss, chance = shown["loss"].lines
    np.testing.assert_allclose(loss.get_ydata(), [r["loss"] for r in records()])
    np.testing.assert_allclose(loss.get_xdata(), [r["iteration"] for r in records()])
    np.testing.assert_allclose(chance.get_ydata(), math.log(32))


def test_gaps_are_left_out(tmp_path: Path) -> None:
    some = records(4)
    some[1]["loss"], some[2]["loss"] = None, float("nan")
    some[0]["loss_over_lnk"] = float("nan")
    assert curves._series(some, "loss") == ([0, 15], [some[0]["loss"], some[3]["loss"]])
    assert plot_curves(some, tmp_path / "a.png").stat().st_size > 0
    assert plot_curves(some[:1], tmp_path / "b.png").stat().st_size > 0
    with pytest.raises(UserError, match="hold no loss"):
        plot_curves([{"iteration": 1}], tmp_path / "c.png")


def test_what_another_method_measures_has_a_panel(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    real = Axes.set_title
    monkeypatch.setattr(
        Axes, "set_title", lambda self, text, **kw: titles.append(text) or real(self, text, **kw)
    )
    other = [{"iteration": i, "loss": 1.0, "label_change": i / 3, "seen_images": 2} for i in (0, 1)]
    plot_curves(other, tmp_path / "a.png")
    assert titles == ["loss", "label change"]
