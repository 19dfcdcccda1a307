"""Where results are found in folders of any shape."""

from __future__ import annotations

import itertools

import pytest

from vice.runtime.result_folders import folders_within, result_folders

#: Folders that may hold results, to the number of levels that it takes to find them.
PLACES = {
    ".": 0, "linear": 1, "boundaries/5": 1, "boundaries": 1, "a/linear": 2, "a/boundaries/5": 2,
    "maps": None, "runner": None, "maps/linear": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "names", [names for number in range(4) for names in itertools.combinations(PLACES, number)]
)
def test_all_results_are_found_and_nothing_else(names, tmp_path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "results.json").touch()
    for levels in range(3):
        wanted = {n for n in names if PLACES[n] is not None and PLACES[n] <= levels}
        found = result_folders(tmp_path, levels)
        assert {place.relative_to(tmp_path).as_posix() for place in found} == wanted
        assert len(found) == len(wanted)


def test_links_that_lead_back_come_to_an_end(tmp_path):
    (tmp_path / "results.json").touch()
    for name in ("linear", "boundaries"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    assert len(result_folders(tmp_path, 2)) < 30
    assert list(folders_within(tmp_path / "none", 2)) == [tmp_path / "none"]
    (tmp_path / "file").touch()
    assert result_folders(tmp_path / "file") == []
