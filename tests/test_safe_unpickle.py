"""Hand-written pickles: what may be built, what stays inert, what is refused at no cost."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict, defaultdict

import pytest

from tests.hostile import scripts
from vice import safe_unpickle
from vice.pickled_values import Foreign, Inert
from vice.safe_unpickle import DataUnpickler


def read(data, **options):
    return DataUnpickler(io.BytesIO(data), **options).load()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_what_it_was(protocol):
    shared = [1]
    value = {
        "a": [1, -(2**70), 1.5, None, True, "ä\n"],
        ("t", 1): (1, (2, (3, 4))),
        "set": {1, 2},
        "frozen": frozenset([3]),
        "bytes": b"\xff\x00",
        "array": bytearray(b"ab"),
        "ordered": OrderedDict(x=1),
        "shared": (shared, shared),
    }
    found = read(pickle.dumps(value, protocol))
    if protocol < 4:
        # Before protocol 4 a frozen set is an object like any other.
        assert isinstance(found.pop("frozen"), Inert)
        value.pop("frozen")
    assert found == value
    assert found["shared"][0] is found["shared"][1]
    assert read(pickle.dumps(defaultdict(list, a=[1]), protocol)) == {"a": [1]}


@pytest.mark.parametrize("make", scripts._OPCODES)
def test_hostile_opcodes_run_nothing_and_take_no_time(tmp_path, make):
    (tmp_path / "script.pt").write_bytes(scripts.script())
    try:
        found = read(make(tmp_path))
    except ValueError:
        found = None
    assert not (tmp_path / scripts.MARKER).exists()
    if isinstance(found, dict):
        assert list(found.items()) == []  # the method is still its own


def test_functions_stay_inert_and_say_what_they_were(tmp_path):
    assert read(b"cos\nsystem\n.") == Foreign("os.system")
    record = read(pickle.dumps(os.stat_result(range(10)), 2))
    assert isinstance(record, Inert) and record.kind == "os.stat_result"
    with pytest.raises(ValueError, match=r"names os\.system"):
        read(b"cos\nsystem\n.", strict=True)


def test_steps_are_limited(monkeypatch):
    monkeypatch.setattr(safe_unpickle, "MAX_STEPS", 100)
    with pytest.raises(ValueError, match="more than 100 steps"):
        read(b"\x80\x02" + b"}" * 1000 + b".")
