"""Results in which anything stands in place of anything: shown whole, or refused by name."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from tests.evaluation.damaged_results import KINDS, ODD, places, replaced
from vice.errors import UserError
from vice.evaluation import image_sums, intervals
from vice.evaluation.compare import make_tables
from vice.evaluation.comparison_page import to_html, to_markdown
from vice.evaluation.own_tables import make_own_tables, own_sections
from vice.evaluation.paired import pair_tables, pairing_sections
from vice.evaluation.scored_folders import divide_folders, read_results, spread

#: Cases of a kind that are looked at, of all places and values.
MOST = 120
#: Cases that are looked at whatever is drawn.
FIXED = (
    (("spec",), 5), (("seed",), "x"), (("classes",), {}), (("clusters",), {}), (("position",), {}),
    (("source",), []), (("protocol", "fields", "matchings"), []),
)  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Resamples are the same for all, and drawn once."""
    drawn = cache(intervals.draw_images)
    monkeypatch.setattr(intervals, "draw_images", drawn)
    monkeypatch.setattr(image_sums, "draw_images", drawn)


def compared(folder):
    """What ``vice compare`` shows of a folder."""
    folders, own = divide_folders(spread([folder]))
    results = read_results(folders) if folders or not own else []
    further = own_sections(make_own_tables(own))
    tables = make_tables(results) if results else []
    paired = [*(pairing_sections(pair_tables(tables)) if tables else []), *further]
    assert to_html(tables, paired)
    return to_markdown(tables, paired)


def rows_of(text):
    """Columns and cells of each row of the scores, without those of differences."""
    found = []
    for table in re.split(r"^\*\*", text, flags=re.M)[1:]:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        head, _, *body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        if head[1] == "seeds":
            found += [dict(zip(head[2:], cells[2:], strict=True)) for cells in body]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_stands_in_a_result_it_is_shown_whole_or_refused_by_name(
    kind, rng, tmp_path, quick
):
    for name in ("one", "two"):
        KINDS[kind](tmp_path / name, rng)
    file = tmp_path / "two" / "results.json"
    sound, whole = json.loads(file.read_text()), rows_of(compared(tmp_path))
    assert len(whole) == 2 and all("-" not in row.values() for row in whole)
    cases = [(place, odd) for place in places(sound) for odd in ODD]
    fixed = [(place, odd) for place, odd in FIXED if place in {each for each, _ in cases}]
    drawn = rng.choice(len(cases), min(MOST, len(cases)), replace=False)
    for place, odd in [*fixed, *(cases[i] for i in drawn)]:
        file.write_text(json.dumps(replaced(sound, place, odd)))
        try:
            shown = rows_of(compared(tmp_path))
        except UserError as error:
            assert str(tmp_path / "two") in str(error), (place, odd, error)
            assert "again" in str(error) or "not written by" in str(error), (place, odd, error)
            continue
        # A null score is one that there is none of.
        lacking = odd is None
        assert len(shown) == 2, (place, odd)
        for row in shown:
            assert row.keys() == whole[0].keys(), (place, odd)
            assert lacking or "-" not in row.values(), (place, odd)
            assert lacking or all("[" in cell for cell in row.values()), (place, odd)
