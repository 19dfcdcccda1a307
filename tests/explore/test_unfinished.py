"""Weights of a training that has not ended: whoever looks at what they give is told so."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.content import photo
from vice.command import explore, segment, select
from vice.models import Prototypes, seeded_embedder
from vice.models.checkpoint import save_run
from vice.runtime.run_folder import MASKS_RECORD_NAME


@pytest.mark.parametrize(("epoch", "said"), [(1, "epoch 1 of 3"), (3, "")])
def test_pages_and_records_say_how_far_a_training_had_come(epoch, said, tmp_path, monkeypatch):
    images, run = tmp_path / "photos", tmp_path / "run"
    images.mkdir()
    for number in range(2):
        pixels = photo(np.random.default_rng(number), (32, 40))
        Image.fromarray(pixels).save(images / f"{number}.png")
    embedder = seeded_embedder(0, backbone="resnet18", decoder="fpn", dim=8)
    save_run(run, embedder, Prototypes(8, 3), {"epoch": epoch, "epochs": 3})
    for command, more in (
        (explore, ["--clusters", "2"]), (segment, []), (select, ["-n", "1", "--duplicates", "1"])
    ):  # fmt: skip
        out = tmp_path / command.__name__
        words = ["vice", str(run), str(images), *more, "-o", str(out), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        command.main()
    call = (tmp_path / explore.__name__ / "data" / "folder.js").read_text()
    facts = json.loads(call.partition("(")[2].rpartition(")")[0])
    masks = json.loads((tmp_path / segment.__name__ / MASKS_RECORD_NAME).read_text())
    selected = json.loads((tmp_path / select.__name__ / "selection.json").read_text())
    assert facts["model"]["unfinished"] == said
    assert masks.get("unfinished", "") == selected.get("unfinished", "") == said
