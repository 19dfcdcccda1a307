from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from vice.cli import run
from vice.errors import UserError


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.png: class 31: out of range")


def fail():
    raise UserError("x.png: broken;\n remove it")


def fail_in_worker():
    list(DataLoader(Broken(), num_workers=1))


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [
        (fail, 2, "error: x.png: broken; remove it\n"),
        (fail_in_worker, 2, "error: a.png: class 31: out of range\n"),
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
    ],
)
def test_exit_status_and_message(main, status, message, capfd):
    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == status
    assert capfd.readouterr().err == message


def test_ctrl_c_and_bugs():
    def stop():
        raise KeyboardInterrupt

    def bug():
        raise ValueError("a bug")

    with pytest.raises(SystemExit) as end:
        run(stop)
    assert end.value.code == 130
    with pytest.raises(ValueError, match="a bug"):
        run(bug)
