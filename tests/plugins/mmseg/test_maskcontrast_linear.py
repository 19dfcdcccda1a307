"""MaskContrast's linear probe: its augmentation, epochs, schedule, features and predictions."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest
import torch
from mmengine.optim.scheduler import MultiStepLR
from mmseg.structures import SegDataSample
from torch import nn

from vice.errors import UserError
from vice.evaluation.compare import readouts
from vice.evaluation.image_counts import load_image_tables
from vice.evaluation.protocols import get_protocol
from vice.evaluation.published import PROTOCOLS
from vice.models import build_embedder
from vice.models.decoder_features import DecoderFeatures
from vice.plugins.mmseg import InputSizeSegmentor, NumberedSampler, ViceTurn
from vice.plugins.mmseg.best_epoch import BestEpochHook
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.pipelines import build_pipeline, count_steps, optimizer, schedule
from vice.scoring import CountTable

from .helpers import QUIET, TinyEmbedder, rescore

LINEAR = get_protocol("maskcontrast2021_linear")


def test_the_rate_falls_at_the_epoch_and_batches_are_whole():
    assert optimizer(LINEAR) == {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    assert count_steps(LINEAR, 10_582) == (60 * 661, 661)
    for epoch, protocol in ((26, LINEAR), (40, dataclasses.replace(LINEAR, linear_step_epoch=40))):
        (step,) = schedule(protocol, 35)
        assert step.pop("type") == "MultiStepLR"
        weights = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        rates, scheduler = [], MultiStepLR(weights, **step)
        for _ in range(60):
            rates.append(weights.param_groups[0]["lr"])
            for _ in range(2):
                weights.step()
                scheduler.step()
        assert rates == pytest.approx([0.1] * epoch + [0.01] * (60 - epoch))
    with pytest.raises(UserError, match="15 train images make no whole batch of 16"):
        count_steps(LINEAR, 15)
    assert count_steps(get_protocol("native"), 15) == (12_000, 0)


def test_each_epoch_leaves_out_what_makes_no_whole_batch():
    indices = iter(NumberedSampler(range(11), seed=3, batch=4))
    for _ in range(5):
        images = [next(indices).image for _ in range(8)]
        assert len(set(images)) == 8
    all_in_turn = iter(NumberedSampler(range(11), seed=3))
    passes = [[next(all_in_turn).image for _ in range(11)] for _ in range(2)]
    again = iter(NumberedSampler(range(11), seed=3, batch=4))
    assert [next(again).image for _ in range(16)] == passes[0][:8] + passes[1][:8]


def test_image_and_labels_are_turned_alike_and_bare_places_are_background():
    label = np.ones((41, 31), np.uint8)
    label[:20] = 2
    image = np.repeat(label[..., None] * 100, 3, 2)
    for seed in range(8):
        np.random.seed(seed)
        turn = ViceTurn(5.0, (0.75, 1.25))
        results = {"img": image, "gt_seg_map": label, "seg_fields": ["gt_seg_map"]}
        turned = turn.transform(results)
        assert turned["img"].shape == image.shape and turned["gt_seg_map"].shape == label.shape
        found = np.rint(turned["img"][..., 0] / 100)
        assert (found == turned["gt_seg_map"]).mean() > 0.93
        bare = turned["gt_seg_map"] == 0
        assert not bare.any() or turned["img"][bare].mean() < 60
    np.random.seed(0)
    results = {"img": image, "gt_seg_map": label, "seg_fields": ["gt_seg_map"]}
    half = ViceTurn(0.0, (0.5, 0.5)).transform(results)["gt_seg_map"]
    assert (half > 0).sum() == pytest.approx(41 * 31 / 4, rel=0.1) and half[0, 0] == 0


def test_images_are_turned_before_they_are_resized_and_in_training_alone():
    names = [step["type"] for step in build_pipeline(LINEAR, "train")]
    assert names == [
        "ViceLoadImage", "ViceLoadLabels", "ViceTurn", "Resize", "ViceScoreAtInput", "RandomFlip",
        "PackSegInputs",
    ]  # fmt: skip
    assert not {"ViceTurn"} & {step["type"] for step in build_pipeline(LINEAR, "score")}


def test_classes_are_decided_at_the_input_and_repeated():
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    sample = SegDataSample(metainfo={"ori_shape": (9, 11)})
    (done,) = InputSizeSegmentor.postprocess_result(types.SimpleNamespace(), logits, [sample])
    rows, columns = torch.arange(9) * 4 // 9, torch.arange(11) * 5 // 11
    assert torch.equal(done.pred_sem_seg.data[0], logits[0].argmax(0)[rows][:, columns])


def test_decoder_features_are_what_the_embedding_is_projected_from():
    torch.manual_seed(0)
    embedder = build_embedder("resnet18", "deeplabv3plus", 8).eval()
    images = torch.randn(1, 3, 33, 40)
    features = DecoderFeatures(embedder)
    with torch.no_grad():
        found = features(images)
        assert features.dim == found.shape[1] == 256
        projected = embedder.centre(embedder.decoder.project(found))
        torch.testing.assert_close(projected, embedder(images), atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="FPN has no features before a last projection"):
        DecoderFeatures(build_embedder("resnet18", "fpn", 8))
    with pytest.raises(UserError, match="TinyEmbedder has no such output"):
        DecoderFeatures(TinyEmbedder())


def test_the_protocol_runs_to_its_end(make_folder, tmp_path, monkeypatch):
    fields = {**PROTOCOLS["maskcontrast2021_linear"], "size": (32, 32), "linear_epochs": 6}
    fields |= {"linear_step_epoch": 5, "linear_batch": 4}
    root, out = make_folder(), tmp_path / "out"
    spec = "random:resnet18-deeplabv3plus-8"
    result = evaluate_linear(spec, root, out, **QUIET, changes=fields, max_maps=99)
    # Six images make one whole batch of four.
    assert result["probe"]["iterations"] == 6 and result["model"]["dim"] == 256
    table = rescore(root, out / "maps" / "linear", 4)
    assert table.miou(table.identity()) == pytest.approx(result["linear"]["miou"])
    best = result["linear_best"]
    assert best["epochs"] == 6 and best["chosen_on"] == "labels of val"
    assert best["miou"] >= result["linear"]["miou"] and best["interval"]["miou"]
    assert readouts(result) == {"linear": result["linear"], "linear, best epoch": best}
    images = result["dataset"]["images"]["score"]
    shapes = {"linear_best": (4, 4), "linear": (4, 4)}
    tables = load_image_tables(out / "per_image.npz", shapes, images)
    assert tables["linear"].total().counts.T.tolist() == result["confusion"]
    # A training that ends there, before the rate falls, and at which nobody looks on the way.
    assert 1 <= best["epoch"] <= 5
    fields |= {"linear_epochs": best["epoch"]}
    monkeypatch.setattr("vice.plugins.mmseg.evaluate_linear.watch_epochs", lambda *_: None)
    blind = evaluate_linear(spec, root, tmp_path / "blind", **QUIET, changes=fields)
    assert blind["linear"]["iou_per_class"] == best["iou_per_class"]
    assert tables["linear_best"].total().counts.T.tolist() == blind["confusion"]
    assert "linear_best" not in blind


def test_the_first_of_equally_good_epochs_is_kept():
    hook, found = BestEpochHook(steps=3), []
    for epoch, right in enumerate((5, 7, 7, 6), 1):
        table = CountTable(2, 2)
        table.counts = torch.tensor([[right, 9 - right], [0, 4]])
        metric = types.SimpleNamespace(tables=[table], image_tables=[])
        evaluator = types.SimpleNamespace(metrics=[metric])
        loop = types.SimpleNamespace(evaluator=evaluator)
        hook.after_val_epoch(types.SimpleNamespace(val_loop=loop, iter=3 * epoch))
        found.append((hook.best.epoch, hook.best.epochs, int(hook.best.table.counts[0, 0])))
    assert found == [(1, 1, 5), (2, 2, 7), (2, 3, 7), (2, 4, 7)]
