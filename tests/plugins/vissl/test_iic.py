"""IIC inside VISSL: killed with each head and at the export, resumed to the same bits, loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import write_images
from tests.plugins.vissl.test_clusterings import TINY, numbers_of, train

pytest.importorskip("vissl")

import vice
from vice.models.checkpoint import load_checkpoint
from vice.models.concepts import RAW
from vice.runtime.health_log import read_health

#: A run of seconds: an epoch with each head, of three steps with two pairs of 32 pixels.
PAIRS = {
    **{key: None for key in TINY if key.startswith("VICE.METHOD.")},
    "VICE.METHOD.name": "tests.helpers.stopped_pairs:StoppedIIC",
    "VICE.METHOD.clusters": 4,
    "VICE.METHOD.over_clusters": 6,
    "VICE.METHOD.crop_side": 32,
    "VICE.METHOD.image_scale": 1.0,
    "VICE.METHOD.affine": "true",
    "VICE.METHOD.displacement": 2,
    "VICE.STANDARDIZE.mode": "none",
    "MODEL.TRUNK.VICE.backbone": "resnet18",
    "MODEL.TRUNK.VICE.decoder": "none",
    "MODEL.TRUNK.VICE.dim": 128,
    "MODEL.TRUNK.VICE.stages": 2,
}


def heads_of(out, name):
    state = torch.load(next(out.glob(name)), weights_only=True)
    heads = state["classy_state_dict"]["base_model"]["model"]["heads"]
    return state["vice"], {key.partition(".")[2]: value for key, value in heads.items()}


def test_killed_with_each_head_and_at_the_export_it_ends_with_the_same_bits(tmp_path):
    images = write_images(tmp_path / "images")
    whole, out = tmp_path / "whole", tmp_path / "stopped" / "run"
    out.parent.mkdir()
    assert train("iic_folder", images, whole, **PAIRS) == 0, whole.with_suffix(".log").read_text()
    stops = "step:0:SIGTERM step:1:SIGKILL export:1:SIGTERM"
    ended = [train("iic_folder", images, out, stops, **PAIRS) for _ in range(4)]
    assert ended == [75, -9, 75, 0], out.with_suffix(".log").read_text()[-3000:]
    assert differences(whole, out) == []
    records = read_health(out)
    assert numbers_of(records) == numbers_of(read_health(whole))
    assert [(record["head"], record["iteration"]) for record in records] == [
        (0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)
    ]  # fmt: skip

    # The head that is idle stays where it is, although Adam has moved it before.
    method, first = heads_of(whole, "model_phase0*")
    _, last = heads_of(whole, "model_final*")
    assert torch.equal(first["over.0.weight"], last["over.0.weight"])
    assert not torch.equal(first["prototypes.weight"], last["prototypes.weight"])
    assert method["method"] == {"epoch": 0, "head": "A"}

    # Head B is what is exported, on embeddings as they are, of ordinary images.
    checkpoint = load_checkpoint(whole)
    concepts = checkpoint.required_concepts()
    assert concepts.space == RAW and concepts.bias is None
    assert torch.equal(concepts.vectors, last["prototypes.weight"])
    assert json.loads((whole / "architecture.json").read_text())["space"] == RAW
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    predictor = vice.load(whole, device="cpu")
    assert predictor.embed(image).shape == (128, 60, 50)
    labels = predictor.segment(image)
    assert labels.shape == (60, 50) and 0 <= int(labels.min()) <= int(labels.max()) < 4
