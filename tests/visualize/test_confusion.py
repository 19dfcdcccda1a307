from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vice.visualize import plot_confusion


def test_rows_are_shares_of_the_true_class(tmp_path):
    classes = ["sky", "road", "never seen"]
    diagonal = np.diag([10, 2000, 0])
    good = plot_confusion(diagonal, classes, tmp_path / "deep" / "good.png", "one title")
    bad = plot_confusion(np.roll(diagonal, 1, 1), classes, tmp_path / "bad.png")
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in (good, bad)]
    assert pictures[0].ndim == 3 and not np.array_equal(pictures[0][:400], pictures[1][:400])
    # A row of 10 pixels is as dark as one of 2,000.
    same = plot_confusion(np.diag([1, 1, 0]), classes, tmp_path / "same.png", "one title")
    np.testing.assert_array_equal(np.asarray(Image.open(same).convert("RGB")), pictures[0])


def test_a_matrix_of_another_size(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 2 classes"):
        plot_confusion(np.ones((2, 3)), ["a", "b"], tmp_path / "x.png")
