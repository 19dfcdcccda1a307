"""Pictures and held-out scores: what they hold, and that training is the same with and without."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import overrides, run_tool, write_images

pytest.importorskip("vissl")

from tests.helpers.methods import vice_method
from vice.evaluation.checkpoint_selection import score_checkpoint
from vice.images import list_images
from vice.models import Prototypes, seeded_embedder
from vice.models.checkpoint import load_checkpoint
from vice.plugins.vissl.hooks.watching import PicturesHook, evaluating
from vice.runtime.health_log import read_health
from vice.runtime.preemption import Notice
from vice.runtime.rng_state import get_random_state
from vice.runtime.run_folder import HELD_OUT_NAME

SCORES = {"perplexity", "loss_over_lnk", "agreement", "cosine", "mutual_information", "regions"}


def events_of(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tb_logs"))
    events.Reload()
    return events


def pixels(source):
    return np.asarray(Image.open(source))


def test_pictures_of_each_epoch_are_files_and_in_tensorboard(trained):
    found = events_of(trained).Images("Pictures/embedding")
    assert [event.step for event in found] == [2, 5]
    sent = [pixels(io.BytesIO(event.encoded_image_string)) for event in found]
    names = sorted(path.name for path in (trained / "pictures").iterdir())
    assert names == ["epoch_1.png", "epoch_2.png"]
    drawn = [pixels(trained / "pictures" / name) for name in names]
    for picture, lossy in zip(drawn, sent, strict=True):
        assert lossy.shape == picture.shape
        assert (
            np.abs(lossy.astype(int) - picture).mean() < 6 < np.abs(lossy - picture.mean()).mean()
        )
    # Four rows of 80 x 90 pixels; image and regions stay, embedding and prototypes change.
    first, second = drawn
    assert first.shape == (26 + 4 * 86, 6 + 4 * 96, 3)
    np.testing.assert_array_equal(first[:, :198], second[:, :198])
    assert (first[26:106, 198:288] != second[26:106, 198:288]).any()
    files = [
        pixels(path) for path in list_images(yaml_of(trained)["DATA"]["TRAIN"]["DATA_PATHS"][0])
    ]
    for row in range(4):
        shown = first[26 + 86 * row : 106 + 86 * row, 6:96]
        assert any(np.array_equal(shown, image) for image in files)


def yaml_of(run):
    return yaml.safe_load((run / "train_config.yaml").read_text())


def test_training_is_the_same_with_scores_and_without_pictures(trained, images, tmp_path):
    held_out, out = write_images(tmp_path / "held out", count=3), tmp_path / "out"
    (held_out / "broken.png").write_bytes(b"no image")
    wanted = [f"config.VICE.HEALTH.held_out_paths=['{held_out}']"]
    done = run_tool(overrides(images, out, "config.VICE.HEALTH.pictures=0", *wanted), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert differences(trained, out) == []
    assert not (out / "pictures").exists()
    assert (out / "log.txt").read_text().count("left out of the label-free") == 1

    records = read_health(out / HELD_OUT_NAME)
    assert [(record["epoch"], record["iteration"]) for record in records] == [(0, 2), (1, 5)]
    states = ("model_phase0.torch", "model_final_checkpoint_phase1.torch")
    for record, state in zip(records, states, strict=True):
        files = list_images(held_out)
        scores = score_checkpoint(load_checkpoint(out / state), files, yaml_of(out)["VICE"])
        assert {name: record[name] for name in SCORES} == pytest.approx(vars(scores), rel=1e-5)
    events = events_of(out)
    for name in SCORES:
        found = [(event.step, event.value) for event in events.Scalars(f"HeldOut/{name}")]
        assert found == [(r["iteration"], pytest.approx(r[name])) for r in records]

    # Resumed after the first epoch, with other things to look at: one line an epoch.
    for path in (*out.glob("model_final*"), out / "checkpoint.torch", out / "vice.safetensors"):
        path.unlink()
    again = ["config.VICE.HEALTH.pictures=1", "config.VICE.HEALTH.held_out=2", *wanted]
    done = run_tool(overrides(images, out, *again), tmp_path)
    assert done.returncode == 0 and "resuming from" in done.stderr, done.stderr[-3000:]
    assert differences(trained, out) == []
    resumed = read_health(out / HELD_OUT_NAME)
    assert [record["iteration"] for record in resumed] == [2, 5] and resumed[0] == records[0]
    assert [path.name for path in (out / "pictures").iterdir()] == ["epoch_2.png"]


def task_of(paths):
    """What the hook asks of VISSL's task."""
    embedder = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=8, stages=1, centre=True)
    heads = [SimpleNamespace(prototypes=Prototypes(8, 5))]
    model = SimpleNamespace(trunk=SimpleNamespace(embedder=embedder), heads=heads)
    source = SimpleNamespace(paths=[str(path) for path in paths])
    return SimpleNamespace(
        datasets={"train": SimpleNamespace(data_objs=[source])},
        config={"SEED_VALUE": 3, "VICE": {}},
        device=torch.device("cpu"),
        method=vice_method(),
        base_model=model,
        hooks=[],
        train=True,
        train_phase_idx=0,
        iteration=4,
    )


def test_pictures_leave_no_trace_and_fail_alone(tmp_path, caplog):
    paths = list_images(write_images(tmp_path / "images", count=3))
    paths[1].write_bytes(b"no image")
    task = task_of(paths)
    embedder = task.base_model.trunk.embedder
    embedder.decoder.eval()
    modes = [module.training for module in embedder.modules()]
    tensors = {name: value.clone() for name, value in embedder.state_dict().items()}
    randomness = get_random_state(torch.device("cpu"))
    hook = PicturesHook(str(tmp_path), 4, {"method": "grid", "region_size": 10}, Notice())
    hook.folder.mkdir()
    (hook.folder / "epoch_1.png123.part").write_bytes(b"half")
    hook.on_start(task)
    hook.on_phase_end(task)
    assert [path.name for path in hook.folder.iterdir()] == ["epoch_1.png"]
    assert pixels(hook.folder / "epoch_1.png").shape == (26 + 2 * 86, 6 + 4 * 96, 3)
    assert caplog.text.count("left out of the pictures") == 1
    assert modes == [module.training for module in embedder.modules()] and len(set(modes)) == 2
    assert all(torch.equal(tensors[k], value) for k, value in embedder.state_dict().items())
    now = get_random_state(torch.device("cpu"))
    assert all(torch.equal(value, now[name]) for name, value in randomness.items())
    assert torch.is_grad_enabled()

    with torch.no_grad():
        next(embedder.parameters()).fill_(float("nan"))
    task.train_phase_idx = 1
    hook.on_phase_end(task)
    hook.on_phase_end(task)
    assert caplog.text.count("not finite") == 1
    assert len(list(hook.folder.iterdir())) == 1
    assert modes == [module.training for module in embedder.modules()]


def test_a_process_that_was_asked_to_stop_draws_nothing(tmp_path):
    task = task_of(list_images(write_images(tmp_path / "images", count=1)))
    notice = Notice()
    hook = PicturesHook(str(tmp_path), 1, {"method": "grid", "region_size": 10}, notice)
    hook.on_start(task)
    notice.signal_number = 15
    hook.on_phase_end(task)
    assert not hook.folder.exists()


def test_modes_come_back_after_an_error():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval())
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        raise RuntimeError
    assert [module.training for module in model.modules()] == [True, True, False]
