from __future__ import annotations

import pytest

from tests.hostile.class_files import BAD, GOOD
from vice.datasets.class_names import read_class_names
from vice.datasets.label_sets import label_set, label_set_names
from vice.errors import UserError


@pytest.mark.parametrize("text", [text for written in BAD.values() for text in written.texts])
def test_whatever_would_shift_names_is_refused(tmp_path, text):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"classes\.txt: ") as error:
        read_class_names(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", GOOD.texts)
def test_names_stay_as_they_are_written(tmp_path, text):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    if all(line.split()[0] == str(number) for number, line in enumerate(lines[:2])):
        lines = [line.split(maxsplit=1)[-1] for line in lines if line.split()[0] != "255"]
    assert list(read_class_names(path)) == lines


def test_names_of_all_label_sets(tmp_path):
    path = tmp_path / "classes.txt"
    for name in label_set_names():
        path.write_text("\n".join(label_set(name).classes))
        assert read_class_names(path) == label_set(name).classes
