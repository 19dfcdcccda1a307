"""MaskContrast inside VISSL: killed in training and export, resumed to the same bits, loaded."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("vissl")

import vice
from tests.helpers.kills import differences
from tests.plugins.vissl.conftest import write_images
from tests.plugins.vissl.test_clusterings import TINY, numbers_of, train
from vice.errors import UserError
from vice.losses.maskcontrast import MaskContrastLoss
from vice.losses.objects import Objects
from vice.models import seeded_embedder
from vice.models.checkpoint import load_checkpoint
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.hooks.finite import NotFinite, undone_if_skipped
from vice.runtime.health_log import read_health

SMALL = {
    **{key: value for key, value in TINY.items() if "METHOD" not in key},
    "VICE.METHOD.view_side": 48,
    "VICE.METHOD.queue_keys": 6,
    "VICE.METHOD.clusters": 2,
    "VICE.METHOD.pass_images": 2,
    "VICE.DATASET.min_images_per_epoch": 0,
    "MODEL.TRUNK.VICE.frozen": 1,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = write_images(tmp_path_factory.mktemp("images") / "images")
    (folder.parent / "masks").mkdir()
    for number in range(6):
        ids = np.zeros((80, 90), np.uint8)
        ids[10:60, 5 : 40 + number], ids[30:75, 50:85] = 3, 9
        Image.fromarray(ids).save(folder.parent / "masks" / f"{number}.png")
    return folder


def settings(images, **more):
    return {
        **SMALL,
        "VICE.METHOD.name": "tests.helpers.stopped_clusters:StoppedMaskContrast",
        "VICE.FOREGROUND.folder": images.parent / "masks",
        "VICE.FOREGROUND.objects": "connected",
        **more,
    }


def test_killed_in_training_and_export_it_ends_with_the_same_bits_and_is_loaded(images, tmp_path):
    (tmp_path / "stopped").mkdir()
    whole, out = tmp_path / "whole", tmp_path / "stopped" / "run"
    tiny = settings(images)
    assert train("maskcontrast_folder", images, whole, tiny=tiny) == 0, whole.with_suffix(
        ".log"
    ).read_text()[-3000:]
    stops = "epoch:0:SIGTERM epoch:1:SIGKILL export:1:SIGTERM"
    ended = [train("maskcontrast_folder", images, out, stops, tiny) for _ in range(4)]
    assert ended == [75, -9, 75, 0], out.with_suffix(".log").read_text()[-3000:]
    assert differences(whole, out) == []
    records = read_health(out)
    assert [record["iteration"] for record in records] == list(range(6))
    assert numbers_of(records) == numbers_of(read_health(whole))
    # A polynomial of the epoch, and keys of two objects of every image.
    assert [record["lr"] for record in records[2:4]] == pytest.approx([0.004, 0.004 * 0.5**0.9])
    assert records[0]["queue_filled"] == pytest.approx(4 / 6) and records[1]["queue_filled"] == 1
    predictor = vice.load(out, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    assert predictor.saliency(image).shape == (60, 50) and predictor.embed(image).shape[0] == 8
    assert set(predictor.segment(image).unique().tolist()) <= {0, 1}
    final = load_checkpoint(next(out.glob("model_final*")))
    assert torch.equal(final.concepts.vectors, predictor.checkpoint.concepts.vectors)
    # Before the clusters are known, a state has none.
    assert load_checkpoint(out / "model_phase0.torch").concepts is None
    assert predictor.checkpoint.meta["foreground"] == "masks from files"


def test_a_queue_that_batches_do_not_fill_evenly_is_refused_before_anything_starts(images):
    more = {"VICE.METHOD.queue_keys": 7, "VICE.FOREGROUND.objects": "one"}
    given = settings(images, **more, **{"VICE.METHOD.name": "maskcontrast"})
    overrides = [f"config.{key}={value}" for key, value in given.items()]
    with pytest.raises(UserError, match=r"queue of 7.*2 images.*METHOD\.queue_keys=8.*BATCHSIZE"):
        configure(
            ["config=vice/maskcontrast_folder", f"config.DATA.TRAIN.DATA_PATHS=[{images}]",
             *overrides]
        )  # fmt: skip


def test_a_step_that_is_not_finite_leaves_key_encoder_and_queue_as_they_were():
    embedder = seeded_embedder(0, backbone="resnet18", stages=1, dim=4, outputs={"saliency": 1})
    loss = MaskContrastLoss(4)
    loss.bind(embedder, lambda network, images: network(images))
    loss.queue.scatter(0)
    skipped: list[str] = []
    finite = SimpleNamespace(skip=lambda task, reason: skipped.append(reason))
    task = SimpleNamespace(base_model=embedder, loss=loss, finite=finite)
    before = {
        name: value.clone() for name, value in loss.state_dict().items() if "extra" not in name
    }
    shown = torch.zeros(2, 2, 32, 32).byte()
    shown[:, :, :9] = 1
    with undone_if_skipped(task, []):
        maps = embedder(torch.randn(2, 3, 32, 32), outputs=True)
        loss(maps[:, :4], maps[:, 4:], torch.randn(2, 3, 32, 32), Objects.of(*shown))
        changed = [
            name
            for name, value in before.items()
            if not torch.equal(loss.state_dict()[name], value)
        ]
        raise NotFinite("test")
    assert skipped == ["test"] and "queue.vectors" in changed
    assert any("running_mean" in name for name in changed)
    after = loss.state_dict()
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == []
