"""Real runs of the training command through unmodified VISSL."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers.canary import leaks
from tests.plugins.vissl.conftest import overrides, run_tool, write_images
from vice.models.checkpoint import load_checkpoint
from vice.runtime.health_log import read_health
from vice.runtime.preemption import LOADER_SECONDS

pytest.importorskip("vissl")


def test_a_run_leaves_everything_a_user_needs(trained):
    names = {path.name for path in trained.iterdir()}
    assert {
        "vice.safetensors",
        "vice.json",
        "architecture.json",
        "health.jsonl",
        "train_config.yaml",
        "images.json",
        "log.txt",
        "tb_logs",
    } <= names
    assert any(name.startswith("model_final_checkpoint") for name in names)
    assert "trained: " in (trained / "stdout.txt").read_text()


def test_the_terminal_shows_what_a_person_needs_and_the_log_has_the_rest(trained):
    lines = (trained / "stderr.txt").read_text().splitlines()
    assert 4 <= len(lines) <= 10, lines
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines
    assert sum("training: step 1 of 6, epoch 1 of 2, loss" in line for line in lines) == 1
    assert "training: step 6 of 6, done in" in lines[-1]
    assert (trained / "stdout.txt").read_text() == f"trained: {trained / 'vice.safetensors'}\n"
    log = (trained / "log.txt").read_text()
    for said in ("Training with config:", "Model is:", "training: step 1 of 6", "iter: 1;"):
        assert log.count(said) == 1


def test_no_secret_of_the_environment_is_in_any_file(trained):
    """The environment holds canaries (conftest.py); terminal and log are among the files."""
    assert leaks(trained) == []
    log = (trained / "log.txt").read_text()
    assert "OMP_NUM_THREADS:\t1" in log and "other variables are set and not logged" in log


def test_a_run_says_once_which_images_it_found(trained, images):
    count = len(list(images.iterdir()))
    found = json.loads((trained / "images.json").read_text())
    assert found["train"]["place"] == str(images) and found["train"]["files"] == count
    assert found["train"]["looked_at"] == count and found["held_out"] == []
    assert (trained / "stderr.txt").read_text().count(f"{images}: {count} images") == 1


def test_health_of_each_step(trained):
    records = read_health(trained)
    assert [record["iteration"] for record in records] == list(range(6))
    assert [record["epoch"] for record in records] == [0, 0, 0, 1, 1, 1]
    for record in records:
        assert np.isfinite(list(record.values())).all()
        assert record["regions_per_view"] >= 1
        assert 1 <= record["perplexity"] <= 6
        assert record["skipped_images"] == 0
    assert records[-1]["queue_length"] == 20
    assert "health: loss / ln K" in (trained / "log.txt").read_text()


def test_health_reaches_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tb_logs"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"Health/loss_over_lnk", "Health/perplexity", "Health/queue_age"} <= set(tags)
    assert len(events.Scalars("Health/loss")) == 6


def test_overrides_reach_the_run_and_nothing_is_left_to_resolve(trained):
    text = (trained / "train_config.yaml").read_text()
    assert "${" not in text
    config = yaml.safe_load(text)
    assert config["VICE"]["PROTOTYPES"]["num_prototypes"] == 6
    assert config["VICE"]["VIEWS"]["size"] == 48
    assert config["MODEL"]["TRUNK"]["VICE"]["dim"] == 8
    loaded = load_checkpoint(trained)
    assert loaded.embedder.dim == 8
    assert loaded.prototypes.weight.shape == (6, 8)
    assert loaded.meta["iteration"] == 6
    assert loaded.meta["versions"]["vissl"] == "0.1.6"


def test_loaded_model_is_the_trained_model(trained):
    """`vice.load` against VISSL's own model restored by VISSL's own code."""
    from vissl.config import AttrDict
    from vissl.models import build_model

    import vice.plugins.vissl
    from vice.models.plain import plain
    from vice.normalize import normalize

    config = AttrDict(yaml.safe_load((trained / "train_config.yaml").read_text()))
    (path,) = trained.glob("model_final_checkpoint*.torch")
    state = torch.load(path, map_location="cpu", weights_only=False)
    model = build_model(config.MODEL, config.OPTIMIZER)
    model.set_classy_state(state["classy_state_dict"]["base_model"])
    model.eval()
    image = np.random.default_rng(1).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    with torch.no_grad():
        batch = normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
        ((dense, prototypes),) = model(batch)
    dense = torch.nn.functional.interpolate(dense, size=(40, 52), mode="bilinear")
    expected = torch.nn.functional.normalize(dense, dim=1)[0]
    for source in (trained, path):
        predictor = vice.load(source, device="cpu")
        with plain():
            assert torch.allclose(predictor.embed(image), expected, atol=1e-6)
        assert torch.equal(predictor.checkpoint.prototypes.weight, prototypes)


def test_prototypes_are_frozen_first_and_always_unit_length(trained, images, tmp_path):
    weight = load_checkpoint(trained).prototypes.weight
    assert torch.allclose(weight.norm(dim=1), torch.ones(6), atol=1e-6)
    frozen = tmp_path / "frozen"
    done = run_tool(
        overrides(
            images,
            frozen,
            "config.VICE.PROTOTYPES.freeze_iterations=100",
            "config.OPTIMIZER.num_epochs=1",
        ),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first = load_checkpoint(sorted(trained.glob("model_phase0.torch"))[0]).prototypes.weight
    # Both runs start from the same seed: after three steps one has moved, the other has not.
    still = load_checkpoint(frozen).prototypes.weight
    assert not torch.equal(still, first)
    again = load_checkpoint(frozen / "model_final_checkpoint_phase0.torch").prototypes.weight
    assert torch.equal(again, still)


def test_an_interrupted_run_goes_on_and_ends_the_same(trained, images, tmp_path):
    resumed = tmp_path / "resumed"
    shutil.copytree(trained, resumed)
    for path in resumed.glob("model_final_checkpoint*"):
        path.unlink()
    for name in ("vice.safetensors", "checkpoint.torch"):
        (resumed / name).unlink()
    done = run_tool(overrides(images, resumed), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming from" in done.stderr
    assert [record["iteration"] for record in read_health(resumed)] == list(range(6))
    first, second = load_checkpoint(trained), load_checkpoint(resumed)
    for one, two in zip(
        first.embedder.state_dict().values(), second.embedder.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    assert torch.equal(first.prototypes.weight, second.prototypes.weight)
    done = run_tool(overrides(images, resumed), tmp_path)
    assert done.returncode == 0
    assert "is done already" in done.stderr
    assert done.stdout == f"trained: {resumed / 'vice.safetensors'}\n"
    # What other images would make is not what lies there.
    said = [(resumed / name).read_bytes() for name in ("images.json", "train_config.yaml")]
    other = write_images(tmp_path / "other", count=7)
    done = run_tool(overrides(other, resumed), tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert re.search(r"images was 6 images \(\w+\), is 7 images \(", done.stderr)
    assert said == [(resumed / name).read_bytes() for name in ("images.json", "train_config.yaml")]
    (resumed / "vice.safetensors").unlink()
    done = run_tool(overrides(images, resumed), tmp_path)
    assert done.returncode == 2 and "trained" not in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the training is done, but") and "model_final" in last


def test_views_finished_on_the_device_train_the_same_model(trained, images, tmp_path):
    out = tmp_path / "device"
    more = ["config.VICE.PHOTOMETRIC_ON=device", "config.VICE.SUPERPIXELS.cache_dir=null"]
    done = run_tool(overrides(images, out, *more), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    one, two = (load_file(folder / "vice.safetensors") for folder in (trained, out))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)
    config = yaml.safe_load((out / "train_config.yaml").read_text())
    assert config["VICE"]["PHOTOMETRIC_ON"] == "device"


def test_views_cut_on_the_device_give_the_same_losses(trained, images, tmp_path):
    out = tmp_path / "device"
    done = run_tool(overrides(images, out, "config.VICE.CUT_ON=device"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    config = yaml.safe_load((out / "train_config.yaml").read_text())
    assert (config["VICE"]["CUT_ON"], config["VICE"]["PHOTOMETRIC_ON"]) == ("device", "device")
    here, there = read_health(out), read_health(trained)
    for one, two in zip(here, there, strict=True):
        for name in ("regions_per_view", "skipped_images", "queue_length", "queue_age"):
            assert one[name] == two[name]
    # One level is 0.017 of a normalised colour's standard deviations, and few pixels are off.
    losses = [[record["loss"] for record in records] for records in (here, there)]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=2e-3)
    assert losses[0] == pytest.approx(losses[1], abs=2e-2)
    assert np.ptp(losses[1]) > 0.5


def test_two_spawned_processes_know_every_registered_name(images, tmp_path):
    out = tmp_path / "two"
    done = run_tool(
        overrides(
            images,
            out,
            "config.DISTRIBUTED.NUM_PROC_PER_NODE=2",
            "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1",
            "config.OPTIMIZER.name=vice_lars",
            "config.OPTIMIZER.num_epochs=1",
            "config.MODEL.TRUNK.NAME=vice_resnet_deeplabv3plus",
            "config.MODEL.TRUNK.VICE.stages=4",
            "config.VICE.VIEWS.num_views=3",
        ),
        tmp_path,
        real_spawn=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "2 processes, 2 images a step" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "times: the last" not in line]
    assert len(lines) <= 8 and all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines
    records = read_health(out)
    assert [record["iteration"] for record in records] == [0, 1, 2]
    # Two images of three views a step, on both ranks together.
    assert [record["views_trained"] for record in records] == [6, 6, 6]
    assert load_checkpoint(out).embedder.config["decoder"] == "deeplabv3plus"


def test_bad_images_are_skipped_counted_and_named_once(tmp_path):
    images = write_images(tmp_path / "images", count=5)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    out = tmp_path / "out"
    done = run_tool(overrides(images, out), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (out / "log.txt").read_text()
    named = [line for line in log.splitlines() if "skipped:" in line and "broken.png" in line]
    assert len(named) == 1
    assert read_health(out)[-1]["skipped_images"] == 1
    assert "1 images were skipped" in log


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_inside_a_run_are_one_line_and_exit_status_two(images, tmp_path, processes):
    out = tmp_path / "out"
    done = run_tool(
        overrides(
            images,
            out,
            "config.VICE.PROTOTYPES.num_prototypes=5000",
            f"config.DISTRIBUTED.NUM_PROC_PER_NODE={processes}",
            "config.DATA.TRAIN.BATCHSIZE_PER_REPLICA=1",
        ),
        tmp_path,
    )
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: 5000 prototypes but only")
    assert "config.VICE.PROTOTYPES.num_prototypes" in last
    # Nobody waits for the data loaders, which outlive a SIGTERM.
    assert time.time() - (out / "log.txt").stat().st_mtime < LOADER_SECONDS


def test_only_unreadable_images(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        (images / f"{number}.jpg").write_bytes(b"no image")
    done = run_tool(overrides(images, tmp_path / "out"), tmp_path)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert "4 of 4 images that were looked at cannot be trained on" in last and "0.jpg" in last
    assert not (tmp_path / "out" / "log.txt").exists(), "refused before any work"


def test_help_lists_the_configs(tmp_path):
    done = run_tool(["--help"], tmp_path)
    assert done.returncode == 0
    for name in ("vice/folder", "vice/demo", "vice/coco_highres", "vice/cityscapes_lowres"):
        assert name in done.stdout


def test_missing_data_names_path_and_command(tmp_path):
    done = run_tool(["config=vice/coco_highres"], tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert str(Path("data") / "coco" / "images" / "train2017") in last
    assert "python tools/prepare_data.py coco27" in last
    assert "Traceback" not in done.stderr
