from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT
from vice.errors import UserError
from vice.runtime.files import (
    disk_errors,
    link,
    part_of,
    read_json,
    remove_dead_parts,
    replace_atomically,
    write_json,
)


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


def test_parts_of_processes_that_are_gone_are_removed_and_no_others(tmp_path):
    name = "import sys; from pathlib import Path; from vice.runtime.files import part_of; "
    code = f"{name} print(part_of(Path(sys.argv[1])).touch() or part_of(Path(sys.argv[1])).name)"
    gone = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.npy"], capture_output=True, text=True, cwd=ROOT
    )
    assert gone.returncode == 0, gone.stderr
    mine, foreign = part_of(tmp_path / "a.npy"), tmp_path / "a.npy.elsewhere-1.part"
    for path in (mine, foreign, tmp_path / "a.npy.part", tmp_path / "a.npy"):
        path.touch()
    assert (tmp_path / gone.stdout.strip()).exists()
    remove_dead_parts(tmp_path, "b")
    assert (tmp_path / gone.stdout.strip()).exists()
    remove_dead_parts(tmp_path, "a.npy")
    assert not (tmp_path / gone.stdout.strip()).exists() and len(list(tmp_path.iterdir())) == 4
    remove_dead_parts(tmp_path / "nowhere")


def test_a_link_takes_the_place_of_one_to_nowhere_and_of_its_like(tmp_path):
    aim, target = tmp_path / "aim", tmp_path / "target"
    aim.mkdir()
    target.symlink_to(tmp_path / "nowhere")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(link, target, aim).result()
    link(target, aim)
    assert target.resolve() == aim.resolve() and len(list(tmp_path.iterdir())) == 2
    taken = tmp_path / "taken"
    (taken / "within").mkdir(parents=True)
    with pytest.raises(UserError, match="taken"):
        link(taken, aim)
    assert (taken / "within").is_dir() and len(list(tmp_path.iterdir())) == 3
