"""STEGO inside VISSL, on a ViT: killed in search and steps, resumed to the same bits, loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import write_images
from tests.plugins.vissl.test_clusterings import TINY, numbers_of, train

pytest.importorskip("vissl")
pytest.importorskip("timm")

import vice
from vice.errors import UserError
from vice.methods.neighbor_table import FILE, read_table
from vice.models.checkpoint import load_checkpoint
from vice.plugins.vissl.config.configure import configure
from vice.runtime.health_log import read_health

#: A run of seconds: two epochs of three steps with two crops of 32 pixels, four tokens each.
SMALL = {
    **{key: value for key, value in TINY.items() if "METHOD" not in key},
    "VICE.METHOD.name": "tests.helpers.stopped_stego:StoppedSTEGO",
    "VICE.METHOD.crop_side": 32,
    "VICE.METHOD.points": 3,
    "VICE.METHOD.clusters": 4,
    "VICE.METHOD.pass_images": 2,
    "VICE.DATASET.min_images_per_epoch": 0,
    "MODEL.TRUNK.VICE.backbone": "timm:test_vit",
    "MODEL.TRUNK.VICE.stages": 4,
    # Workers read what was made before they began.
    "DATA.NUM_DATALOADER_WORKERS": 1,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images")


def test_killed_in_its_search_and_its_steps_it_ends_with_the_same_bits_and_is_loaded(
    images, tmp_path
):
    (tmp_path / "stopped").mkdir()
    whole, out = tmp_path / "whole", tmp_path / "stopped" / "run"
    assert train("stego_folder", images, whole, tiny=SMALL) == 0, whole.with_suffix(
        ".log"
    ).read_text()[-3000:]
    stops = "neighbors:-1:SIGTERM epoch:0:SIGTERM epoch:1:SIGKILL"
    ended = [train("stego_folder", images, out, stops, SMALL) for _ in range(4)]
    assert ended == [75, 75, -9, 0], out.with_suffix(".log").read_text()[-3000:]
    assert differences(whole, out) == []
    records = read_health(out)
    assert [record["iteration"] for record in records] == list(range(6))
    assert numbers_of(records) == numbers_of(read_health(whole))
    table = read_table(whole)
    assert np.array_equal(table, read_table(out)) and table.shape == (30, 30)
    assert table[:, 0].tolist() == list(range(30))

    # The backbone stays; projection and probes have moved, each at its own rate.
    first, last = (torch.load(next(whole.glob(name)), weights_only=True)["classy_state_dict"]
                   for name in ("model_phase0*", "model_final*"))  # fmt: skip
    trunk, head = (last["base_model"]["model"][part] for part in ("trunk", "heads"))
    before = first["base_model"]["model"]["trunk"]
    moved = {name for name in trunk if not torch.equal(trunk[name], before[name])}
    assert moved and all(".decoder." in f".{name}" for name in moved)
    groups = {
        len(group["params"]): group["lr"] for group in last["optimizer"]["optim"]["param_groups"]
    }
    assert groups[6] == pytest.approx(5e-4) and groups[1] == pytest.approx(5e-3)
    # Exports and states hold the directions of the probe's clusters.
    expected = F.normalize(head["0.probe.weight"], dim=1)
    for file in (out, next(out.glob("model_final*"))):
        found = load_checkpoint(file).required_directions()
        torch.testing.assert_close(found.vectors, expected)
    assert json.loads((whole / "vice.json").read_text())["embedder"]["decoder"] == "projection"
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    predictor = vice.load(out, device="cpu")
    assert predictor.embed(image).shape == (8, 60, 50)
    labels = predictor.segment(image)
    assert labels.shape == (60, 50) and 0 <= int(labels.min()) <= int(labels.max()) < 4


def test_a_backbone_that_would_change_is_refused_before_anything_starts(images, tmp_path):
    given = {**SMALL, "VICE.METHOD.name": "stego", "MODEL.TRUNK.VICE.frozen": "false",
             "CHECKPOINT.DIR": tmp_path / "run"}  # fmt: skip
    overrides = [f"config.{key}={value}" for key, value in given.items()]
    with pytest.raises(UserError, match=r"frozen=False: the method stego .*frozen=true"):
        configure(
            ["config=vice/stego_folder", f"config.DATA.TRAIN.DATA_PATHS=[{images}]", *overrides]
        )
    assert not (tmp_path / "run" / FILE).exists()
