"""Names of devices at every door where one is named."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from vice.errors import UserError
from vice.evaluation.begin import begun
from vice.evaluation.options import evaluation_parser, task_arguments
from vice.runtime.device_names import check_device, check_device_name

ROOT = Path(__file__).resolve().parents[2]
ABSENT = pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs no Apple GPU")


def test_devices_that_are_there(run_dir):
    assert check_device("cpu") == torch.device("cpu")
    assert check_device(torch.device("cpu", 0)).type == "cpu"
    image = np.zeros((20, 24, 3), np.uint8)
    assert vice.load(run_dir, device=torch.device("cpu")).segment(image).shape == (20, 24)


@ABSENT
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mps", "no Apple GPU"),
        ("mps:0", "no Apple GPU"),
        ("meta", "no numbers"),
        ("quantum", "xpected"),
    ],
)
def test_devices_that_are_not(run_dir, name, reason):
    for call in (lambda: check_device(name), lambda: vice.load(run_dir, device=name)):
        with pytest.raises(UserError, match=f"device {name} cannot be used: .*{reason}") as error:
            call()
        assert "\n" not in str(error.value)


@ABSENT
def test_evaluations_name_the_option(tmp_path):
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("dark\n")
    parser = evaluation_parser("", "")
    assert "mps" in parser.format_help()
    args = parser.parse_args(["lab", "--dataset", str(tmp_path), "--device", "mps"])
    begin = begun(args, lambda: task_arguments(args, "linear"))
    with pytest.raises(UserError, match=r"--device mps cannot be used"), begin:
        raise AssertionError("an evaluation begins without its device")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "did you mean cuda"),
        ("CUDA", "did you mean cuda"),
        ("cuad:1", "did you mean cuda"),
        ("cuda:x", "it is one of"),
        ("cuda:", "it is one of"),
        ("my gpu", "it is one of"),
    ],
)
def test_names_of_no_device_are_refused_without_pytorch(name, said):
    with pytest.raises(UserError, match=f"--device {name} cannot be used: it is no device; {said}"):
        check_device_name(name, "--device")


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps", "xpu", "npu", "hpu", "meta"])
def test_names_that_pytorch_may_know_are_left_to_it(name):
    check_device_name(name)


@ABSENT
def test_a_device_of_apple_is_used_where_it_is(monkeypatch, run_dir):
    """The name goes through to PyTorch; a processor that is called so stands for the GPU."""
    real = torch.device

    class Named:
        def __new__(cls, name, *index):
            return real("cpu") if str(name).startswith("mps") else real(name, *index)

    monkeypatch.setattr(torch, "device", Named)
    assert check_device("mps").type == "cpu"


@ABSENT
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("benchmark.py", ["step"]), ("reproduce.py", ["photographs", "--dataset", "camvid"])],
)
def test_other_tools(monkeypatch, capsys, tool, arguments):
    monkeypatch.setattr(sys, "argv", [tool, *arguments, "--device", "mps"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: --device mps cannot be used")
