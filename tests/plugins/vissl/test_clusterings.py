"""PiCIE and MDC inside VISSL: killed in every phase, resumed to the same bits, and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.forked import Forked
from tests.helpers.kills import REPO, differences
from tests.plugins.vissl.conftest import write_images

pytest.importorskip("vissl")

import vice
from vice.models.checkpoint import load_checkpoint
from vice.runtime.health_log import read_health

#: A run of seconds: two epochs of three steps with two images of two 48-pixel views.
TINY = {
    "VICE.METHOD.clusters": 5,
    "VICE.METHOD.image_side": 96,
    "VICE.METHOD.view_side": 48,
    "VICE.METHOD.kmeans_images": 2,
    "VICE.METHOD.init_batches": 2,
    "VICE.METHOD.kmeans_iterations": 3,
    "VICE.METHOD.pass_images": 1,
    "VICE.HEALTH.pictures": 0,
    "MODEL.TRUNK.VICE.weights": "null",
    "MODEL.TRUNK.VICE.stages": 1,
    "MODEL.TRUNK.VICE.dim": 8,
    "DATA.TRAIN.BATCHSIZE_PER_REPLICA": 2,
    "DATA.NUM_DATALOADER_WORKERS": 0,
    "OPTIMIZER.num_epochs": 2,
    "CHECKPOINT.CHECKPOINT_ITER_FREQUENCY": 2,
    "MACHINE.DEVICE": "cpu",
}


def train(
    config: str,
    images: Path,
    out: Path,
    stops: str = "",
    tiny: Mapping[str, object] = TINY,
    **more: object,
) -> int:
    """Exit status of a training."""
    values = {
        **tiny,
        "CHECKPOINT.DIR": out,
        **{key.replace("__", "."): v for key, v in more.items()},
    }
    command = [
        REPO / "tools" / "run_distributed.py",
        f"config=vice/{config}",
        f"config.DATA.TRAIN.DATA_PATHS=[{images}]",
        *(f"config.{key}={value}" for key, value in values.items() if value is not None),
    ]
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = Forked(command, STOPS=stops, DONE=str(out.parent), **settings).wait()
    with open(out.with_suffix(".log"), "a") as log:
        log.write(done.stdout + done.stderr)
    return done.returncode


def numbers_of(records: list[dict[str, float]]) -> list[dict[str, float]]:
    """Without what is counted anew after each start."""
    counted = ("seen_images", "flat_share", "different_share")
    return [{k: v for k, v in record.items() if k not in counted} for record in records]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images")


def test_killed_in_kmeans_labels_training_and_export_it_ends_with_the_same_bits(images, tmp_path):
    stopped = {
        "VICE__METHOD__name": "tests.helpers.stopped_clusters:StoppedPiCIE",
        "VICE__METHOD__kmeans_bn": "train",
        "VICE__METHOD__over_clusters": 7,
    }
    (tmp_path / "stopped").mkdir()
    whole, out = tmp_path / "whole", tmp_path / "stopped" / "run"
    assert train("picie_folder", images, whole, **stopped) == 0, whole.with_suffix(
        ".log"
    ).read_text()
    stops = "kmeans:1:SIGTERM labels:1:SIGKILL epoch:1:SIGTERM export:1:SIGTERM"
    ended = [train("picie_folder", images, out, stops, **stopped) for _ in range(5)]
    assert ended == [75, -9, 75, 75, 0], out.with_suffix(".log").read_text()[-3000:]
    assert differences(whole, out) == []
    records = read_health(out)
    assert [record["iteration"] for record in records] == list(range(6))
    assert numbers_of(records) == numbers_of(read_health(whole))
    # Two views of 2 images a step; before an epoch k-means and labels take both views of all 6.
    assert [record["views_trained"] for record in records] == [4] * 6
    assert [record["views_forward_only"] for record in records[1:3]] == [0, 0]
    assert records[0]["views_forward_only"] == records[3]["views_forward_only"] == 24
    assert records[0]["labels_changed"] == 1 and 0 < records[-1]["labels_changed"] < 1
    assert (whole / "labels_1.npy").read_bytes() == (out / "labels_1.npy").read_bytes()
    assert np.load(out / "labels_1.npy").shape == (6, 2, 2, 12, 12)
    assert not list(out.glob("*.part"))


def test_mdc_is_exported_with_fresh_clusters_on_a_fresh_layer_of_every_epoch(images, tmp_path):
    out = tmp_path / "run"
    assert train("mdc_folder", images, out, OPTIMIZER__num_epochs=1) == 0, out.with_suffix(
        ".log"
    ).read_text()
    concepts = load_checkpoint(out).required_concepts()
    assert concepts.vectors.shape == (5, 8) and not concepts.bias.any()
    record = read_health(out)[-1]
    # Logits of a fresh layer are nothing, so that the first loss is ln K.
    assert read_health(out)[0]["loss"] == pytest.approx(np.log(5), abs=0.02)
    assert record["kmeans_share"] == 1 and 1 < record["clusters_in_use"] <= 5
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    labels = vice.load(out, device="cpu").segment(image)
    assert labels.shape == (60, 50) and 0 <= int(labels.min()) <= int(labels.max()) < 5
