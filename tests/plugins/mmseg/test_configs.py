"""The configs as MMSegmentation's own train and test tools use them: file, overrides, runner."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from vice.paths import config_root
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.running import process_state_kept

EVALUATORS = [{"type": "CountMetric"}, {"type": "IoUMetric", "prefix": "own"}]


def load(name, root, work_dir, **options):
    config = Config.fromfile(config_root() / "mmseg" / f"{name}.py")
    for kind in ("train", "val", "test"):
        if config[f"{kind}_dataloader"] is not None:
            options[f"{kind}_dataloader.dataset.dataset"] = str(root)
            options[f"{kind}_dataloader.num_workers"] = 0
            options[f"{kind}_dataloader.persistent_workers"] = False
    config.merge_from_dict(
        {**options, "work_dir": str(work_dir), "log_level": "ERROR", "model.backbone.spec": "tiny"}
    )
    config.experiment_name = work_dir.name
    return config


def test_linear_trains_validates_and_tests(tiny, make_folder, tmp_path):
    options = {
        "model.decode_head.in_channels": 8,
        "model.decode_head.num_classes": 4,
        "train_cfg.max_iters": 30,
        "train_cfg.val_interval": 15,
        "param_scheduler": [{"type": "PolyLR", "eta_min": 1e-4, "end": 30, "by_epoch": False}],
        "train_dataloader.batch_size": 4,
        "val_evaluator": EVALUATORS,
        "test_evaluator": EVALUATORS,
    }
    with process_state_kept():
        runner = Runner.from_cfg(load("linear_folder", make_folder(), tmp_path / "w", **options))
        runner.train()
        found = runner.test()
    assert found["mIoU"] > 60
    assert found["mIoU"] == pytest.approx(found["own/mIoU"], abs=0.006)
    assert found["aAcc"] == pytest.approx(found["own/aAcc"], abs=0.006)


def test_the_schedule_is_the_papers():
    config = Config.fromfile(config_root() / "mmseg" / "linear_folder.py")
    assert config.optim_wrapper.optimizer.to_dict() == {
        "type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4,
    }  # fmt: skip
    (poly,) = config.param_scheduler
    assert (poly.type, poly.power, poly.eta_min, poly.end) == ("PolyLR", 0.9, 1e-4, 12000)
    assert config.train_cfg.max_iters == 12000 and config.train_dataloader.batch_size == 16
    assert config.model.test_cfg.mode == "whole"


def test_clusters_of_the_tool_are_tested_to_the_same_scores(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    result = evaluate_clusters(
        tiny,
        root,
        out,
        clusters=[9],
        changes={"kmeans_pixels": 2000},
        log_level="ERROR",
        device="cpu",
    )
    head = {"type": "ClusterHead", "centroids": str(out / "centroids_9.safetensors")}
    config = load("cluster_folder", root, tmp_path / "w")
    config.model.decode_head = [head]
    config.test_evaluator = {"type": "CountMetric", "num_clusters": [9]}
    with process_state_kept():
        clusters = Runner.from_cfg(config).test()
    hungarian = result["clusters"]["9"]["hungarian"]
    assert clusters["k9/hungarian/mIoU"] == pytest.approx(100 * hungarian["miou"])
    config = load("cluster_folder", root, tmp_path / "v")
    config.model.update(
        type="EncoderDecoder",
        decode_head={**head, "mapping": str(out / "mapping_9.json"), "num_classes": 4},
    )
    config.test_evaluator = EVALUATORS
    with process_state_kept():
        classes = Runner.from_cfg(config).test()
    greedy = result["clusters"]["9"]["greedy"]
    assert classes["mIoU"] == pytest.approx(100 * greedy["miou"], abs=0.2)
    assert classes["own/mIoU"] == pytest.approx(classes["mIoU"], abs=0.006)
