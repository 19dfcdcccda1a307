"""What memory says is enough is enough: peaks of a process of its own, beside the result."""

from __future__ import annotations

import os

import pytest
import torch

from vice.errors import UserError
from vice.experiments.benchmark.predictor import CLEAR, peak_memory
from vice.predictor.memory import bytes_a_pixel
from vice.runtime.amounts import in_words, to_bytes

LIMIT = 144 * 2**20
SIDES = (256, 448, 640, 832)
_MODULE = """import torch
from vice.models import build_embedder

def make():
    torch.manual_seed(0)
    return build_embedder("resnet18", dim={dim}, stages=1).eval()
"""


@pytest.mark.skipif(not os.access(CLEAR, os.W_OK), reason="peaks cannot be set back here")
@pytest.mark.parametrize(
    ("dim", "concepts"), [(8, 5), pytest.param(96, 200, marks=pytest.mark.slow)]
)
def test_peaks_of_a_process(tmp_path, monkeypatch, dim, concepts):
    (tmp_path / "shallow_network.py").write_text(_MODULE.format(dim=dim))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    rows = peak_memory("shallow_network:make", concepts, SIDES, [LIMIT])
    assert len(rows) == 2 * len(SIDES)
    for row in rows:
        assert row[3] <= LIMIT, row
    # Both ways occur, and something is used.
    assert {tuple(row[5]) == (1, 1) for row in rows} == {True, False}
    assert max(row[3] for row in rows) > LIMIT / 8


def test_amounts():
    assert to_bytes("2GiB") == to_bytes("2 g") == to_bytes(2**31) == 2**31
    assert to_bytes(" 1.5MB ") == 1_500_000 and to_bytes("7") == 7 and to_bytes(".5kib") == 512
    assert in_words(2**31) == "2 GiB" and in_words(1536) == "1.5 KiB"
    # Never a power of ten, nor 1,000 of what the next unit counts.
    for power in range(10, 60):
        for factor in (0.97, 0.9999, 1, 1.1, 1.9):
            words = in_words(factor * 2**power)
            value, unit = words.split()
            assert "e" not in value and (float(value.replace(",", "")) < 1000 or unit == "TiB")
            said = float(value.replace(",", "")) * 1024 ** (1 + "KMGT".index(unit[0]))
            assert said == pytest.approx(factor * 2**power, rel=0.006)
    with pytest.raises(UserError, match=r"^limit='2 apples' is no amount of memory"):
        to_bytes("2 apples", "limit")


def test_live_tensors_are_counted():
    """Two maps of 5 floats a pixel live at once, beside the image."""

    def call(image):
        wide = image.float()[:, :1].expand(-1, 5, -1, -1).contiguous()
        return wide + 1

    # uint8 image, its float copy (3), and two maps of 5.
    found = bytes_a_pixel(call, torch.device("cpu"))
    assert 3 + 40 <= found <= 1.3 * (3 + 12 + 40)
