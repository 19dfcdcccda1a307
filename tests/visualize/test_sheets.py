from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vice.visualize import contact_sheet, save_png


def flat(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_each_picture_is_there_whole_and_in_its_place() -> None:
    rows = [[flat(20, 30, 10), flat(20, 10, 20)], [flat(20, 15, 30)]]
    sheet = contact_sheet(rows, gap=4)
    assert sheet.shape == (4 + 2 * 24, 4 + 34 + 14, 3)
    for value, size in ((10, 600), (20, 200), (30, 300)):
        assert (sheet == value).all(-1).sum() == size
    assert (sheet[4:24, 4:34] == 10).all() and (sheet[28:48, 4:19] == 30).all()


def test_pictures_of_other_sizes_get_one_height_and_keep_their_aspect() -> None:
    sheet = contact_sheet([[flat(40, 80, 10), flat(10, 10, 20)]], height=20)
    assert (sheet == 10).all(-1).sum() == 20 * 40
    assert (sheet == 20).all(-1).sum() == 20 * 20


def test_a_panorama_does_not_make_the_sheet_huge() -> None:
    sheet = contact_sheet([[flat(2, 400, 10)], [flat(90, 5, 20)]], height=90, gap=0)
    assert sheet.shape == (180, 360, 3)
    assert (sheet == 10).all(-1).sum() == 360 * 2 and (sheet == 20).all(-1).sum() == 450


def test_titles_are_drawn() -> None:
    rows = [[flat(60, 90, 255), flat(60, 90, 255)]]
    assert (contact_sheet(rows) == 255).all()
    assert (contact_sheet(rows, ["image", "truth"]) < 255).sum() > 50
    assert (contact_sheet(rows, row_titles=["fern.png"]) < 255).sum() > 50


def test_wrong_counts() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([[]])
    with pytest.raises(ValueError, match="1 titles for 2 columns"):
        contact_sheet([[flat(4, 4, 0), flat(4, 4, 0)]], ["a"])
    with pytest.raises(ValueError, match="2 titles for 1 rows"):
        contact_sheet([[flat(4, 4, 0)]], row_titles=["a", "b"])


def test_png_comes_back(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    path = save_png(picture, tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
