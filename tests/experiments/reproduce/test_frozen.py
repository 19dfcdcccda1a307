"""Frozen backbones under every protocol of the table, and those whose weights are not there."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision

from tests.plugins.mmseg.helpers import write_folder
from vice.errors import UserError
from vice.experiments.reproduce.plan import NoWeights, ReproducePlan, frozen_spec
from vice.experiments.reproduce.report import to_markdown
from vice.experiments.reproduce.runner import reproduce
from vice.experiments.reproduce.tables import Experiment, Scale, load_table

pytest.importorskip("mmseg")
timm = pytest.importorskip("timm")

#: The protocols stay what they are; a probe of two steps, and little to cluster.
FEW = Scale(
    "few",
    "a test",
    evaluate={
        "linear": {"changes": {"linear_iterations": 2, "linear_batch": 2}},
        "clusters": {"clusters": [3], "changes": {"kmeans_pixels": 2000, "objects_components": 1}},
        "retrieval": {"changes": {"retrieval_memory": 600}},
    },
)
RESNET, VIT, LATER, OWN = "ResNet-50, MoCo v2", "DINO ViT-S/16", "ResNet-50, SwAV", "CAPI ViT-L/14"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A labelled folder with a background."""
    root = tmp_path_factory.mktemp("data") / "photos"
    return write_folder(
        root, train=2, val=2, size=(64, 80), classes=("background", "green", "blue")
    )


@pytest.fixture
def plan(images, tmp_path):
    """Random weights of small networks, under the names that two rows have for theirs."""
    weights = tmp_path / "weights"
    weights.mkdir()
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), weights / "dino_vits16.pth")
    torch.save(torchvision.models.resnet18().state_dict(), weights / "moco_v2.pth.tar")
    return ReproducePlan(
        tmp_path / "out", FEW, datasets={"*": str(images)}, device="cpu", weights=weights
    )


def small(row: Experiment) -> Experiment:
    spec = {RESNET: "torchvision:resnet18", VIT: "timm:test_vit"}.get(row.name, row.spec)
    file = "moco_v2.pth" if row.name == RESNET else row.file
    # Each protocol on one of both is enough.
    kept = {k: v for k, v in row.evaluate.items() if row.name != RESNET or k == "objects"}
    return dataclasses.replace(row, spec=spec, file=file, evaluate=kept)


def test_rows_are_scored_under_all_protocols_or_say_that_there_are_no_weights(plan):
    table = load_table("frozen")
    rows = tuple(small(row) for row in table.rows if row.name in (RESNET, VIT, LATER, OWN))
    assert len(rows) == 4
    table = dataclasses.replace(table, rows=rows)
    found = reproduce(table, plan)
    assert found.failures == []
    objects = {"objects 3 hungarian_iou"}
    every = {"linear", "picie 3 hungarian", "stego 3 hungarian", *objects,
             "retrieval none", "retrieval hungarian_iou"}  # fmt: skip
    for name, expected in ((RESNET, objects), (VIT, every)):
        (scores,) = found.rows[name].last
        assert set(scores) >= expected
        assert all(0 <= figures["miou"] <= 1 for figures in scores.values())
        assert not found.rows[name].missing
    results = sorted((plan.out / "eval").glob("*/*/results.json"))
    assert len(results) == 6
    text = to_markdown(table, found, plan)
    # Notes name rows as well.
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    (missing,) = [line for line in lines if LATER in line]
    assert "| no weights |" in missing and "as swav.pth" in missing
    (own,) = [line for line in lines if OWN in line]
    assert "| no weights |" in own and "importable" in own
    assert sum("| retrieval hungarian_iou | 37.20 / - † |" in line for line in lines) == 1
    # What is done is read, also where the weights are gone.
    (plan.weights / "moco_v2.pth.tar").unlink()
    again = dataclasses.replace(plan, only_done=True)
    assert reproduce(dataclasses.replace(table, rows=rows[1:2]), again).failures == []


def test_a_file_is_taken_before_what_is_fetched(plan):
    rows = {row.name: row for row in load_table("frozen").rows}
    assert frozen_spec(rows[VIT], plan).endswith(".dino@" + str(plan.weights / "dino_vits16.pth"))
    assert frozen_spec(rows["DINO ViT-S/8"], plan) == "timm:vit_small_patch8_224.dino"
    with pytest.raises(NoWeights, match="swav.pth or .safetensors"):
        frozen_spec(rows[LATER], plan)
    assert frozen_spec(rows[OWN], plan) == "capi:embedder"


def test_a_fault_of_another_kind_stays_a_failure(plan, tmp_path):
    row = next(small(row) for row in load_table("frozen").rows if row.name == VIT)
    nowhere = dataclasses.replace(plan, datasets={"*": str(tmp_path / "nowhere")})
    table = dataclasses.replace(load_table("frozen"), rows=(row,))
    found = reproduce(table, nowhere)
    assert len(found.failures) == 1 and "nowhere" in found.failures[0]
    assert not found.rows[VIT].missing
    with pytest.raises(UserError, match="unknown"):
        load_table("frozzen")
