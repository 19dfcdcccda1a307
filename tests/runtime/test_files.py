from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vice.errors import UserError
from vice.runtime.files import disk_errors, read_json, replace_atomically, write_json


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


def test_json_comes_back_as_it_was(tmp_path):
    content = {"b": [1, 2.5, None], "a": "\udcff/ä"}
    write_json(tmp_path / "new" / "a.json", content)
    assert read_json(tmp_path / "new" / "a.json", "") == content
    assert (tmp_path / "new" / "a.json").read_text() == (
        '{\n "b": [\n  1,\n  2.5,\n  null\n ],\n "a": "\\udcff/\\u00e4"\n}\n'
    )
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "new" / "a.json", float("nan"), allow_nan=False)
    assert read_json(tmp_path / "new" / "a.json", "") == content


@pytest.mark.parametrize(
    "data", [b"", b'{"a": 1', b"\xff\xfe\xfa", b"[" * 100_000, b"{} {}", b"[]"]
)
def test_what_is_no_json_is_named_in_one_line(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match=r"^[^\n]*a\.json is broken \([^\n]+\); make it again$"):
        read_json(tmp_path / "a.json", "make it again")


def test_json_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.json cannot be read \(No such .*\); look$"):
        read_json(tmp_path / "gone.json", "look")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path, "look")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        read_json(tmp_path / "pipe", "look")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or"),
        (errno.EROFS, "make it writable or"),
        (errno.EISDIR, "move away what lies in its place or"),
        (errno.EFBIG, "ulimit"),
        (errno.EIO, "look at the disk or"),
    ],
)
def test_the_remedy_is_that_of_the_reason(number, remedy):
    with pytest.raises(UserError) as raised, disk_errors("x", any_os_error=True):
        raise OSError(number, os.strerror(number), "folder/file")
    assert str(raised.value).startswith(f"cannot write folder/file: {os.strerror(number)}; ")
    assert remedy in str(raised.value) and str(raised.value).endswith("choose another folder")


@pytest.mark.parametrize("proc", [True, False])
def test_threads_that_write_leave_the_umask_alone(proc, tmp_path, monkeypatch):
    """It belongs to the process: what one thread sets, another one would restore."""
    if not proc:
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: "none of it")
    before = os.umask(0o027)
    try:
        paths = [tmp_path / str(number) for number in range(200)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: replace_atomically(path, lambda new: None), paths))
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
