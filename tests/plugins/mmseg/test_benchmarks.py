"""The benchmarks in their real layouts, from the files on disk to a scored table."""

from __future__ import annotations

import json
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from tests.helpers import trees
from tests.helpers.forked import Forked
from vice.datasets import DATASETS, open_dataset
from vice.datasets.preparation import prepare
from vice.errors import UserError
from vice.evaluation.protocols import get_protocol
from vice.paths import config_root
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear

QUIET = {"log_level": "ERROR", "device": "cpu"}
FEW = {"kmeans_pixels": 2000}
PALETTE = trees.voc_colors()
STEPS = {"linear_iterations": 2, "linear_batch": 2}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """All benchmarks, prepared from small downloads."""
    trees.shrink(monkeypatch)
    downloads, root = tmp_path / "downloads", tmp_path / "data"
    trees.coco(downloads)
    trees.write_lists(downloads)
    trees.cityscapes(downloads, splits=("train", "val", "test", "train_extra"))
    trees.camvid(downloads)
    for name, folder in (("coco27", "coco"), ("cityscapes", "cityscapes"), ("camvid", "camvid")):
        prepare(name, root / folder, downloads)
    return root


def true_counts(data, name, split, geometry=lambda image: image):
    """Pixels of each class in the label files, through the published meaning of their values."""
    source = open_dataset(name, data)
    counts = np.zeros(len(source.classes), int)
    for pair in source.pairs(split):
        stored = np.asarray(geometry(Image.open(pair.label)))
        for value in np.unique(stored):
            index = source.label_set.lookup[value]
            if index != 255:
                counts[index] += (stored == value).sum()
    return counts.tolist()


@pytest.mark.parametrize("name", ["coco27", "cityscapes27", "cityscapes19", "camvid"])
def test_linear_scores_every_labelled_pixel_at_its_own_size(tiny, data, tmp_path, name):
    result = evaluate_linear(tiny, name, tmp_path / "out", data_root=data, changes=STEPS, **QUIET)
    assert result["protocol"]["changed"] == STEPS
    found = np.array(result["confusion"]).sum(1).tolist()
    assert found == true_counts(data, name, "val")
    assert result["dataset"]["label_set"] == ("camvid11" if name == "camvid" else name)
    assert (tmp_path / "out" / "confusion.png").is_file()
    assert (tmp_path / "out" / "samples.png").is_file()


@pytest.mark.parametrize("name", ["voc21", "ade150"])
def test_voc_and_ade20k_are_scored(tiny, tmp_path, monkeypatch, name):
    trees.shrink(monkeypatch)
    (trees.voc if name == "voc21" else trees.ade)(tmp_path / "downloads")
    root = tmp_path / "data" / DATASETS[name].folder
    prepare(name, root, tmp_path / "downloads")
    if name == "voc21":
        (file,) = (pair.label for pair in open_dataset(name, root.parent).pairs("val"))
        trees.palette_png(np.asarray(Image.open(file)).repeat(2, 0).repeat(2, 1), file, PALETTE)
    changes = {**STEPS, **({"fit_split": "trainaug"} if name == "voc21" else {})}
    result = evaluate_linear(
        tiny, name, tmp_path / "out", data_root=root.parent, changes=changes, **QUIET
    )
    counts, scale = true_counts(root.parent, name, "val"), 4 if name == "voc21" else 1
    assert np.array(result["confusion"]).sum(1).tolist() == [n // scale for n in counts]
    resized = {"fit": 0, "score": 1} if name == "voc21" else None
    assert result["dataset"].get("resized_labels") == resized
    assert "parts" not in result["linear"]


@pytest.mark.parametrize("protocol", ["picie2021", "stego2022", "vice2022_lowres"])
def test_square_protocols_score_the_central_square(tiny, data, tmp_path, protocol):
    result = evaluate_clusters(
        tiny, "coco27", tmp_path / "out", data_root=data, protocol=protocol, changes=FEW,
        clusters=[3, 30], **QUIET,
    )  # fmt: skip
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())

    def square(image):
        resized = tv.resize(image, 320, InterpolationMode.NEAREST)
        return tv.center_crop(resized, 320)

    found = np.array(counts["score"]["30"]).sum(0)
    if protocol == "vice2022_lowres":  # OpenCV's nearest pixel is another one
        assert found.sum() == pytest.approx(
            sum(true_counts(data, "coco27", "val", square)), rel=0.05
        )
    else:
        assert found.tolist() == true_counts(data, "coco27", "val", square)
    whole = result["clusters"]["30"]["hungarian"]
    assert list(whole["parts"]) == ["things12", "stuff15"]
    stuff = np.array(whole["mapping"]) >= 12
    right = [counts["score"]["30"][k][c] for k, c in enumerate(whole["mapping"]) if stuff[k]]
    among = np.array(counts["score"]["30"])[stuff][:, 12:].sum()
    assert whole["parts"]["stuff15"]["accuracy"] == pytest.approx(sum(right) / among)
    assert list(whole["parts"]["stuff15"]["iou_per_class"]) == result["classes"][12:]
    matchings = get_protocol(protocol, "coco27").matchings
    assert ("greedy" in result["clusters"]["30"]) == ("greedy" in matchings)
    assert bool(counts["fit"]) == ("greedy" in matchings)
    assert result["maps"] and (tmp_path / "out" / "confusion_30_hungarian.png").is_file()


def test_picie_on_cityscapes_fits_without_labels_and_scores_val_and_train(tiny, data, tmp_path):
    options = {"data_root": data, "protocol": "picie2021", **QUIET}
    result = evaluate_clusters(
        tiny, "cityscapes27", tmp_path / "out", clusters=[5], changes=FEW, **options
    )
    assert result["dataset"]["images"] == {"fit": 4, "score": 4}
    assert result["dataset"]["splits"]["score"] == "val+train"
    with pytest.raises(UserError, match="no linear probe"):
        evaluate_linear(tiny, "cityscapes27", tmp_path / "linear", **options)


def test_fitted_on_one_data_set_and_scored_on_another(tiny, make_folder, data, tmp_path):
    """Domain generalisation: the probe is that of the first, the counts are of the second."""
    first, second = make_folder("first"), make_folder("second", seed=5)
    evaluate_linear(tiny, first, tmp_path / "one", changes=STEPS, **QUIET)
    result = evaluate_linear(
        tiny, second, tmp_path / "two", fit_dataset=first, changes=STEPS, **QUIET
    )
    one, two = (
        torch.load(tmp_path / name / "runner" / "iter_2.pth", weights_only=False)["state_dict"]
        for name in ("one", "two")
    )
    assert torch.equal(one["decode_head.conv_seg.weight"], two["decode_head.conv_seg.weight"])
    assert (result["dataset"]["fit_name"], result["dataset"]["name"]) == ("first", "second")
    labels = [Image.open(pair.label) for pair in open_dataset(second).pairs("val")]
    expected = [sum(int((np.asarray(m) == k).sum()) for m in labels) for k in range(4)]
    assert np.array(result["confusion"]).sum(1).tolist() == expected
    with pytest.raises(UserError, match="cityscapes19 and cityscapes27 have not the same classes"):
        evaluate_linear(
            tiny, "cityscapes27", tmp_path / "no", fit_dataset="cityscapes19", data_root=data,
            **QUIET,
        )  # fmt: skip


@pytest.mark.parametrize("name", sorted(p.stem for p in (config_root() / "mmseg").glob("*_*.py")))
def test_the_configs_say_what_the_protocols_say(name):
    from mmengine.config import Config

    from vice.evaluation.task import resolve_protocol
    from vice.plugins.mmseg.pipelines import optimizer, schedule

    config = Config.fromfile(config_root() / "mmseg" / f"{name}.py")
    kind, wanted = name.partition("_")[0], config.test_dataloader.dataset
    protocol = resolve_protocol(wanted.protocol, wanted.dataset)
    assert config.model.backbone.get("flip_average", False) == protocol.flip_average
    if kind in ("cluster", "retrieval"):
        return
    trained = config.train_dataloader.dataset
    assert (trained.dataset, trained.protocol) == (wanted.dataset, wanted.protocol)
    assert config.optim_wrapper.optimizer.to_dict() == optimizer(protocol)
    assert [step.to_dict() for step in config.param_scheduler] == schedule(protocol)
    assert config.train_cfg.max_iters == protocol.linear_iterations
    assert config.train_dataloader.batch_size == protocol.linear_batch
    if protocol.dataset != "folder":
        from vice.datasets.label_sets import label_set

        classes = label_set(DATASETS[protocol.dataset].labels).classes
        assert config.model.decode_head.num_classes == len(classes)


def test_mmsegmentations_own_tools_train_and_test(data, tmp_path):
    tools = Path(mmseg.__file__).parent / ".mim" / "tools"
    config = config_root() / "mmseg" / "linear_camvid.py"
    loaders = [f"{kind}_dataloader" for kind in ("train", "val", "test")]
    options = [
        "model.backbone.spec=random:resnet18-fpn-8", "model.decode_head.in_channels=8",
        "train_cfg.max_iters=3", "train_cfg.val_interval=3", "train_dataloader.batch_size=2",
        "default_hooks.checkpoint.interval=3", "env_cfg.dist_cfg.backend=gloo",
        *(f"{loader}.num_workers=0" for loader in loaders),
        *(f"{loader}.persistent_workers=False" for loader in loaders),
        *(f"{loader}.dataset.data_path={data}" for loader in loaders),
    ]  # fmt: skip
    work = ["--work-dir", str(tmp_path / "work"), "--cfg-options", *options]
    done = Forked([tools / "train.py", config, *work], cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr[-2000:]
    weights = str(tmp_path / "work" / "iter_3.pth")
    done = Forked([tools / "test.py", config, weights, *work], cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mIoU:" in done.stdout + done.stderr
