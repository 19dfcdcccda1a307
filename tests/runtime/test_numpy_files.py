"""NumPy's files: numbers only, and no more of them than are expected."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from vice.errors import UserError
from vice.runtime.numpy_files import open_npz, read_npy


def test_numbers(tmp_path, rng):
    values = rng.integers(0, 9, (20, 30))
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", regions=values)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), values)
    with open_npz(tmp_path / "a.npz", values.nbytes) as arrays:
        assert np.array_equal(arrays["regions"], values)


def test_what_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "large.npz", regions=np.zeros((2**12, 2**10)))
    with (
        pytest.raises(ValueError, match="would unpack to"),
        open_npz(tmp_path / "large.npz", 1000),
    ):
        pass
    with zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("regions.npy", b"0" * 100)
    with (
        pytest.raises(ValueError, match="packed in a way"),
        open_npz(tmp_path / "lzma.npz", 1000),
    ):
        pass
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npy(tmp_path / "objects.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(UserError, match="no regular file"):
        read_npy(tmp_path / "pipe.npy")
