"""Arrays that processes keep together: bounded, shared by forks alone, lost with nobody's error."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from vice.runtime.kept_arrays import KeptArrays

KINDS = {"image": 3, "regions": 4}


def arrays(rng, side=20):
    image = rng.integers(0, 256, (side, side, 3), np.uint8)
    return image, rng.integers(-1, 90, (side, side)).astype(np.int32)


def never():
    raise AssertionError("made a second time")


def test_what_was_made_is_read_and_is_the_callers_own(rng):
    kept = KeptArrays(3, KINDS, 3 * 400 * 7)
    made = [arrays(rng) for _ in range(3)]
    for item in (2, 0, 1):
        assert kept.read("image", item) is None
        assert kept.get("image", item, lambda item=item: made[item][0]) is made[item][0]
        kept.write("regions", item, made[item][1])
    for item, (image, regions) in enumerate(made):
        found = kept.get("image", item, never)
        assert np.array_equal(found, image) and found.dtype == image.dtype
        found[:] = 0
        assert np.array_equal(kept.get("image", item, never), image)
        assert np.array_equal(kept.get("regions", item, never), regions)


def test_no_more_bytes_than_allowed(rng):
    image, regions = arrays(rng)
    for most in (0, 6, 3 * 400 * 7 - 1):
        kept = KeptArrays(3, KINDS, most)
        for item in range(3):
            kept.write("image", item, image)
            kept.write("regions", item, regions)
        assert kept.read("image", 0) is None
        if kept.file is not None:
            assert os.fstat(kept.file.fileno()).st_size <= most + 6 * 16
    # Smaller ones of the same set are kept beside those that do not fit.
    small = np.ascontiguousarray(image[:10])
    assert np.array_equal(kept.get("image", 1, lambda: small), small)
    assert np.array_equal(kept.read("image", 1), small)
    assert kept.write("image", 2, image.astype(np.float32)).dtype == np.float32
    assert kept.read("image", 2) is None


def test_forked_processes_share_it_and_others_keep_nothing(rng):
    kept = KeptArrays(1, KINDS, 10_000)
    image, _ = arrays(rng)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=kept.write, args=("image", 0, image))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert np.array_equal(kept.read("image", 0), image)
    other = pickle.loads(pickle.dumps(kept))
    assert other.read("image", 0) is None and other.get("image", 0, lambda: image) is image
    assert other.read("image", 0) is None


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_costs_nothing_but_time(rng, monkeypatch, caplog, short):
    kept = KeptArrays(2, KINDS, 10_000)
    image, _ = arrays(rng)
    kept.write("image", 0, image)

    def full(file, data, offset):
        if short:
            return len(data) - 1
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        assert kept.get("image", 1, lambda: image) is image
    assert kept.read("image", 1) is None
    assert caplog.text.count("nothing more is kept") == (not short)
