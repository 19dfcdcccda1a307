"""Files that grow on a disk that fills."""

from __future__ import annotations

import logging

from tests.hostile.full_disks import limit
from vice.runtime.patient_file import PatientFile, PatientStream


def test_what_does_not_fit_is_written_later_and_said_once(tmp_path, caplog):
    file = PatientFile(tmp_path / "a", b"begin\n")
    file.flush()
    with limit(10), caplog.at_level(logging.INFO):
        for line in (b"one\n", b"two\n", b"three\n"):
            file.add(line)
            file.flush()
    # Never half a line.
    assert (tmp_path / "a").read_bytes() == b"begin\none\n"
    file.flush()
    assert (tmp_path / "a").read_bytes() == b"begin\none\ntwo\nthree\n"
    said = [record.getMessage() for record in caplog.records]
    assert sum("File too large; training goes on" in text for text in said) == 1


def test_a_beginning_that_could_not_be_written_comes_first(tmp_path):
    (tmp_path / "a").write_bytes(b"earlier\nlater\n")
    with limit(2):
        file = PatientFile(tmp_path / "a", b"earlier\n")
        file.flush()
        file.add(b"new\n")
        file.flush()
    assert (tmp_path / "a").read_bytes() == b"earlier\nlater\n"
    file.flush()
    assert (tmp_path / "a").read_bytes() == b"earlier\nnew\n"


def test_a_stream_keeps_its_order(tmp_path):
    stream = PatientStream(tmp_path / "a", buffering=3)
    with limit(1):
        for text in ("one\n", "\udcdf\n"):
            stream.write(text)
    stream.close()
    assert (tmp_path / "a").read_text() == "one\n\\udcdf\n"
