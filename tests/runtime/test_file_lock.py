"""Locks of other systems, and none at all."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from vice.errors import UserError
from vice.runtime import file_lock
from vice.runtime.file_lock import try_lock
from vice.runtime.folder_lock import sole_writer


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(file_lock, "_warned", False)


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with path.open("a") as one, path.open("a") as two:
        assert try_lock(one.fileno()) and not try_lock(two.fileno())
        one.close()
        assert try_lock(two.fileno())


def test_the_locks_of_windows(monkeypatch, tmp_path):
    held = set()

    def locking(handle, mode, size):
        if held - {handle}:
            raise OSError(errno.EACCES, "Permission denied")
        held.add(handle)

    monkeypatch.setattr(file_lock, "fcntl", None)
    monkeypatch.setattr(file_lock, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with (tmp_path / "lock").open("a") as one, (tmp_path / "lock").open("a") as two:
        assert try_lock(one.fileno()) and not try_lock(two.fileno())
    held.add(-1)  # another process
    with (
        pytest.raises(UserError, match="another process is writing"),
        sole_writer(tmp_path, wait=0.0),
    ):
        pass


@pytest.mark.parametrize("kind", ["no module", "no support"])
def test_without_locks_it_is_said_once(monkeypatch, tmp_path, caplog, kind):
    def flock(handle, mode):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    fake = None if kind == "no module" else SimpleNamespace(flock=flock, LOCK_EX=2, LOCK_NB=4)
    monkeypatch.setattr(file_lock, "fcntl", fake)
    monkeypatch.setattr(file_lock, "msvcrt", None)
    for _ in range(3):
        with sole_writer(tmp_path):
            pass
    assert caplog.text.count("only one process writes") == 1
