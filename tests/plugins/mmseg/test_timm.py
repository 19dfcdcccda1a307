"""Checkpoints with networks of timm, scored and fine-tuned by their path."""

from __future__ import annotations

import pytest
import torch

from vice.models import Prototypes, seeded_embedder
from vice.models.checkpoint import load_checkpoint, save_run
from vice.plugins.mmseg.backbone import ViceBackbone
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

from .helpers import CLUSTERS

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = {"backbone": "timm:vit_tiny_patch16_224", "decoder": "auto", "dim": 6}
    save_run(folder, seeded_embedder(0, **config, frozen=True), Prototypes(6, 4), {})
    return folder


def test_clusters_of_a_vit(checkpoint, make_folder, tmp_path):
    result = evaluate_clusters(str(checkpoint), make_folder(), tmp_path / "out", **CLUSTERS)
    assert result["model"]["architecture"] == load_checkpoint(checkpoint).embedder.config
    assert all(0 <= entry["greedy"]["accuracy"] <= 1 for entry in result["clusters"].values())
    # Colours, even through random weights, tell these stripes apart.
    assert result["clusters"]["9"]["greedy"]["accuracy"] > 0.4


def test_what_was_frozen_in_training_is_fine_tuned(checkpoint):
    backbone = ViceBackbone(str(checkpoint), frozen=False).train()
    backbone(torch.randn(2, 3, 33, 47))[0].square().mean().backward()
    missing = [name for name, value in backbone.named_parameters() if value.grad is None]
    assert not missing
