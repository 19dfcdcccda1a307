"""The file of an epoch's labels: whole or not there, and full disks are errors."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from vice.errors import UserError
from vice.labels import IGNORE
from vice.methods.label_maps import LabelWriter, read_labels

SHAPE = (5, 1, 2, 3, 3)
CPU = torch.device("cpu")


def labels_of(images: list[int]) -> torch.Tensor:
    return torch.stack([torch.full(SHAPE[1:], image, dtype=torch.uint8) for image in images])


def test_maps_come_in_any_order_and_those_that_never_come_are_ignored(tmp_path):
    path = tmp_path / "labels.npy"
    path.write_bytes(b"of an epoch before")
    writer = LabelWriter(path, SHAPE, 2, CPU)
    writer.add([3, 0], labels_of([3, 0]))
    writer.add([], torch.zeros(0, *SHAPE[1:], dtype=torch.uint8))
    assert read_labels(path, SHAPE) is None and path.read_bytes() == b"of an epoch before"
    writer.add([4], labels_of([4]))
    writer.finish()
    found = read_labels(path, SHAPE)
    assert found is not None and found.dtype == np.uint8
    for image in range(5):
        assert (found[image] == (image if image in (0, 3, 4) else IGNORE)).all()
    assert [file.name for file in tmp_path.iterdir()] == ["labels.npy"]
    assert read_labels(path, (6, *SHAPE[1:])) is None
    assert read_labels(tmp_path / "nothing.npy", SHAPE) is None


def test_what_is_given_up_leaves_the_file_before_and_nothing_else(tmp_path):
    path = tmp_path / "labels.npy"
    path.write_bytes(b"of an epoch before")
    writer = LabelWriter(path, SHAPE, 2, CPU)
    writer.add([1], labels_of([1]))
    writer.give_up()
    assert path.read_bytes() == b"of an epoch before"
    assert [file.name for file in tmp_path.iterdir()] == ["labels.npy"]


def test_a_full_disk_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    writer = LabelWriter(tmp_path / "labels.npy", SHAPE, 2, CPU)

    def full(image, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_put", full)
    # What is added is written while the device computes what comes next.
    writer.add([1], labels_of([1]))
    with pytest.raises(UserError, match=r"cannot write .*labels.npy: No space left"):
        writer.add([2], labels_of([2]))
