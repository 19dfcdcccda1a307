from __future__ import annotations

import pytest

from vice.errors import UserError
from vice.runtime.files import replace_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")

    def fail(name):
        with open(name, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        replace_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write .*missing/file: No such file"):
        replace_atomically(tmp_path / "missing" / "file", fail)
