"""What a real run does when something goes wrong: it names it, and loses nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vice
from tests.helpers.forked import Forked
from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import overrides, run_tool
from vice.experiments.train import quote
from vice.models.training_state import LINK_NAME
from vice.paths import tool
from vice.runtime.health_log import read_health

pytest.importorskip("vissl")

TOOL = tool("run_distributed.py")
TWO = ("config.DISTRIBUTED.NUM_PROC_PER_NODE=2", "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1")


def run_faulty(harms, arguments, **options):
    command = ["-m", "tests.plugins.vissl.faulty", harms, *arguments]
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return Forked(command, **environment, **options).wait()


def test_a_step_that_is_not_finite_is_skipped_and_counted(images, tmp_path):
    """Harm on one rank of two: both skip, and the model stays whole."""
    out = tmp_path / "out"
    done = run_faulty("loss:1:2,gradient:1:4", overrides(images, out, *TWO))
    assert done.returncode == 0, done.stderr[-3000:]
    for step, reason, before in ((2, "the loss is nan", 0), (4, "a gradient is not finite", 1)):
        said = rf"step {step} is skipped: {reason} \(1 in a row, {before + 1} in all\)"
        # Both ranks say it in the log, and one of them on the terminal.
        assert len(re.findall(said, (out / "log.txt").read_text())) == 2
        assert len(re.findall(said, done.stderr)) == 1
    assert [record["iteration"] for record in read_health(out)] == [0, 1, 3, 5]
    assert all(value.isfinite().all() for value in load_file(out / "vice.safetensors").values())


def test_a_skipped_step_leaves_no_trace_but_its_place(images, tmp_path):
    """With the learning rate at zero, only running statistics and the queue could show it."""
    still = ("config.VICE.SCHEDULE.peak_lr=0.0", "config.OPTIMIZER.num_epochs=1")
    run_faulty("loss:0:2", overrides(images, tmp_path / "skipped", *still))
    run_faulty("none:0:2", overrides(images, tmp_path / "whole", *still))
    skipped, whole = (
        torch.load(next((tmp_path / name).glob("model_final*")), weights_only=True)
        for name in ("skipped", "whole")
    )
    trunk = skipped["classy_state_dict"]["base_model"]["model"]["trunk"]
    expected = whole["classy_state_dict"]["base_model"]["model"]["trunk"]
    counters = [name for name in trunk if name.endswith("num_batches_tracked")]
    assert counters
    assert {int(trunk[name]) for name in counters} == {2}
    assert {int(expected[name]) for name in counters} == {3}
    assert int(skipped["loss"]["criterion.queue.clock"]) == 2
    assert skipped["loss"]["criterion.queue.vectors"].isfinite().all()


def test_too_many_such_steps_end_the_run_with_the_batch_kept(images, tmp_path):
    out = tmp_path / "out"
    more = ("config.VICE.MAX_NONFINITE_STEPS=3", "config.OPTIMIZER.num_epochs=3")
    done = run_faulty("loss:0:1-9", overrides(images, out, *more))
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the loss is nan for 3 steps in a row, at iteration 3;")
    assert "config.VICE.SCHEDULE.base_lr" in last
    batch = torch.load(out / "nonfinite_rank0.torch", weights_only=True)
    assert batch["iteration"] == 3
    assert batch["input"].shape == (4, 3, 48, 48)
    assert (out / "model_phase0.torch").exists()


def test_a_rank_that_raises_is_the_one_that_is_shown(images, tmp_path):
    done = run_faulty("raise:1:2", overrides(images, tmp_path / "out", *TWO))
    assert done.returncode == 1
    assert "ValueError: harm on purpose" in done.stderr
    # The other rank's error only follows from this one, and says so in the log.
    assert done.stderr.rstrip().endswith("ValueError: harm on purpose")
    other = "this rank ends because another failed first: rank 1 on "
    assert other in (tmp_path / "out" / "log.txt").read_text()
    assert other not in done.stdout + done.stderr


def test_what_a_spawned_process_refuses_is_one_line_whatever_class_it_is_of(images, tmp_path):
    done = run_faulty("refuse:0:1", overrides(images, tmp_path / "out", *TWO))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert errors == ["error: odd.tif: nothing says what its bands mean; write RGB"]
    assert "Traceback" not in done.stderr


def test_a_rank_that_hangs_is_named(images, tmp_path):
    more = ("config.VICE.TIMEOUT_MINUTES=0.15",)
    # Nothing but a kill ends it.
    done = run_faulty("hang:1:2", overrides(images, tmp_path / "out", *TWO, *more), GRACE="2")
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert "rank 0 on" in last and "no longer hears from the others" in last
    assert re.search(r"first: rank 1 on \S+: in the forward pass at iteration 2 for \d+ s", last), (
        last
    )


def test_files_that_run_out_end_a_training_that_says_so(images, tmp_path):
    """Batches are then lost on their way, for which a training would wait for ever."""
    more = ("config.DATA.NUM_DATALOADER_WORKERS=2", "config.VICE.DATASET.min_images_per_epoch=64")
    command = [str(TOOL), *overrides(images, tmp_path / "out", *more)]
    limited = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", sys.executable, *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(limited, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.count("data loading ran out of open files (") == 1
    assert "ulimit -n" in last and "config.DATA.NUM_DATALOADER_WORKERS" in last


@pytest.mark.parametrize(
    "harms", ["abort:1:0", pytest.param("abort:0:0,abort:1:0", marks=pytest.mark.slow)]
)
def test_a_rank_that_aborts_after_its_work_has_done_it(images, tmp_path, harms):
    done = run_faulty(harms, overrides(images, tmp_path / "out", *TWO), real_spawn=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "vice.safetensors").is_file()


def test_a_rank_that_aborts_after_it_was_stopped_is_saved(images, tmp_path):
    """As when another one has left before its connections are taken down."""
    command = overrides(images, tmp_path / "out", *TWO)
    done = run_faulty("stop:0:2,abort:1:0", command, real_spawn=True)
    assert done.returncode == 75, done.stderr[-3000:]
    assert "stopped, and saved: the same command goes on" in done.stderr
    assert run_faulty("none:0:0", command).returncode == 0
    health = read_health(tmp_path / "out")
    assert [record["iteration"] for record in health] == list(range(6))


def test_a_full_disk_costs_no_training(trained, images, tmp_path):
    """The limit lets the exported weights pass, and no state of training."""
    out = tmp_path / "out"
    unfinished(trained, out)
    before = (out / "model_phase0.torch").read_bytes()
    more = ("config.CHECKPOINT.CHECKPOINT_ITER_FREQUENCY=1",)
    done = run_faulty("none:0:0", overrides(images, out, *more), file_bytes=1_000_000)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: cannot write") and "free some space" in last
    assert "Training goes on and tries again" in done.stderr
    assert (out / "model_phase0.torch").read_bytes() == before
    assert not list(out.glob("*.part"))
    done = run_tool(overrides(images, out), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert differences(trained, out) == []


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_real_disk_that_fills_ends_nothing_before_the_last_files(
    trained, images, small_disk, monkeypatch
):
    """No space from the second step on: for log, health, TensorBoard, pictures, export, state."""
    ballast, out = small_disk / "ballast", small_disk / "out"
    monkeypatch.setenv("BALLAST", str(ballast))
    done = run_faulty("fill:0:1", overrides(images, out))
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"error: cannot write {out}/vice.safetensors: No space left on device; free some space or "
        "choose another folder"
    )
    for name in ("vice.safetensors", "pictures/epoch_1.png", "tb_logs/events", "model_phase0"):
        assert f"cannot write {out}/{name}" in done.stderr, done.stderr[-3000:]
    ballast.unlink()
    done = run_tool(overrides(images, out), small_disk)
    assert done.returncode == 0, done.stderr[-3000:]
    assert differences(trained, out) == []
    assert [record["iteration"] for record in read_health(out)] == list(range(6))


def test_odd_names_and_a_run_folder_that_is_not_utf_8(trained, images, tmp_path):
    """The same images under names of which most end something that encodes them."""
    names = [b"0stra\xdfe", b"1a\nb", b"2\x1b[31m", b"3'q\"", "4照片".encode(), b"5 $a$b_{,=}"]
    photos = tmp_path / os.fsdecode(b"photos\xe4")
    photos.mkdir()
    for name, path in zip(names, sorted(images.iterdir()), strict=True):
        shutil.copy(path, photos / f"{os.fsdecode(name)}.png")
    out = tmp_path / os.fsdecode(b"out\xfc")
    arguments = overrides(Path(quote(photos)), Path(quote(out)))
    done = run_tool(arguments, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stdout + done.stderr
    for found in (out, out / "vice.safetensors", next(out.glob("model_final*"))):
        assert vice.load(found).embed(np.zeros((9, 9, 3), np.uint8)).shape[0] == 8
    assert differences(trained, out.rename(tmp_path / "plain")) == []


def test_resuming_takes_the_newest_whole_state_whatever_the_link_says(trained, images, tmp_path):
    out = tmp_path / "out"
    unfinished(trained, out)
    half = (out / "model_phase0.torch").read_bytes()[:-1000]
    (out / "model_iteration5.torch").write_bytes(half)
    (out / LINK_NAME).symlink_to("model_iteration5.torch")
    done = run_tool(overrides(images, out), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "set aside as model_iteration5.torch.broken" in done.stderr
    assert (out / "model_iteration5.torch.broken").read_bytes() == half
    assert differences(trained, out) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("config.VICE.VIEWS.size=64", "VICE.VIEWS.size was 48, is 64"),
        ("config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=3", "images a step was 2, is 3"),
        ("config.CHECKPOINT.AUTO_RESUME=false", "holds checkpoints of an earlier run"),
    ],
)
def test_a_run_is_not_mixed_with_another(trained, images, tmp_path, change, message):
    out = tmp_path / "out"
    unfinished(trained, out)
    kept = {path.name: path.read_bytes() for path in out.glob("model*.torch")}
    done = run_tool(overrides(images, out, change), tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert message in last and "another config.CHECKPOINT.DIR" in last
    assert {path.name: path.read_bytes() for path in out.glob("model*.torch")} == kept


def unfinished(trained, out):
    """A copy of a finished run as it was after its first epoch."""
    shutil.copytree(trained, out, symlinks=True)
    for path in out.glob("model_final_checkpoint*"):
        path.unlink()
    for name in ("vice.safetensors", LINK_NAME):
        (out / name).unlink()
