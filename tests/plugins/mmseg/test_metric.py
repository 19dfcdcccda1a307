from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from tests.helpers.processes import run_processes
from vice.errors import UserError
from vice.plugins.mmseg import CountMetric
from vice.scoring import CountTable

CLASSES = ["a", "b", "c"]


def sample(index, k=None):
    """One image of its own size; `k` clusters in a second set."""
    rng = np.random.default_rng(index)
    size = (6 + index, 5)
    label = torch.from_numpy(rng.integers(0, 3, size))
    pred = torch.where(torch.from_numpy(rng.random(size) < 0.6), label, 1)
    label[0] = 255
    found = {
        "gt_sem_seg": {"data": label[None]},
        "pred_sem_seg": {"data": pred[None]},
        "img_path": f"x/{index:02d}.jpg",
        "seg_map_path": f"y/{index:02d}.png",
    }
    if k:
        clusters = torch.from_numpy(rng.integers(0, k, size))
        found["pred_clusters"] = {"data": torch.stack([pred, clusters])}
    return found


def scores(metric, size, rank=0, ranks=1):
    """Deals images to ranks in turn and repeats the first ones, as `DefaultSampler` does."""
    metric.dataset_meta = {"classes": CLASSES}
    rounds = -(-size // ranks)
    for place in range(rounds):
        index = (place * ranks + rank) % size
        metric.process({}, [sample(index, 4 if metric.num_clusters else None)])
    return metric.evaluate(size)


def rank_scores(rank, ranks, sizes):
    found = {}
    for size in sizes:
        metric = CountMetric([3, 4], per_image=True)
        found[size] = scores(metric, size, rank, ranks), metric.image_tables
    return found


def test_classes_equal_scikit_learn_and_mmsegmentations_own_metric():
    from mmseg.evaluation import IoUMetric

    found = scores(CountMetric(), 7)
    own = IoUMetric()
    own.dataset_meta = {"classes": CLASSES}
    own.process({}, [sample(i) for i in range(7)])
    theirs = own.evaluate(7)
    assert found["mIoU"] == pytest.approx(theirs["mIoU"], abs=0.006)
    assert found["aAcc"] == pytest.approx(theirs["aAcc"], abs=0.006)
    kept = [
        (s["gt_sem_seg"]["data"][0, 1:].flatten(), s["pred_sem_seg"]["data"][0, 1:].flatten())
        for s in map(sample, range(7))
    ]
    label, pred = (torch.cat(part).numpy() for part in zip(*kept, strict=True))
    iou = jaccard_score(label, pred, average=None)
    assert [found[f"IoU/{c}"] for c in CLASSES] == pytest.approx((100 * iou).tolist())


def test_clusters_report_each_set_and_both_matchings():
    metric = CountMetric([3, 4], mappings=[[0, 1, 2], [0, 1, 2, 2]])
    found = scores(metric, 5)
    for i, k in enumerate((3, 4)):
        table = metric.tables[i]
        assert found[f"k{k}/mIoU"] == pytest.approx(100 * table.miou(metric.mappings[i]))
        assert found[f"k{k}/hungarian/aAcc"] == pytest.approx(
            100 * table.accuracy(table.hungarian())
        )
    assert found["k3/mIoU"] == pytest.approx(scores(CountMetric(), 5)["mIoU"])


def test_two_ranks_equal_one_and_repeated_images_count_once():
    sizes = [7, 8, 1]
    (one,) = run_processes(rank_scores, 1, sizes)
    two = run_processes(rank_scores, 2, sizes)
    for found in two:
        for size in sizes:
            assert found[size][0] == pytest.approx(one[size][0], nan_ok=True)
    for size in sizes:
        assert two[1][size][1] == []
        for first, second in zip(one[size][1], two[0][size][1], strict=True):
            assert (first.num_clusters, first.images) == (second.num_clusters, size)
            for part in ("starts", "cells", "counts"):
                np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_counts_of_single_images_are_kept_in_order():
    metric = CountMetric([3, 4], per_image=True)
    scores(metric, 5)
    for table, images in zip(metric.tables, metric.image_tables, strict=True):
        assert torch.equal(images.total().counts, table.counts)
    clusters = metric.image_tables[1]
    for i in range(5):
        given, table = sample(i, 4), CountTable(4, 3)
        table.update(given["pred_clusters"]["data"][1], given["gt_sem_seg"]["data"][0])
        part = slice(*clusters.starts[i : i + 2].tolist())
        flat = np.zeros(12, int)
        flat[clusters.cells[part]] = clusters.counts[part]
        assert flat.reshape(4, 3).tolist() == table.counts.tolist()
    again = CountMetric()
    scores(again, 5)
    assert again.image_tables == []


def test_state_starts_afresh_after_each_evaluation():
    metric = CountMetric(prefix="p")
    first, second = scores(metric, 4), scores(metric, 4)
    assert first == second and set(first) >= {"p/mIoU", "p/aAcc"}
    assert int(metric.tables[0].counts.sum()) == sum(5 * (5 + i) for i in range(4))


def test_the_first_images_are_kept_for_pictures():
    metric = CountMetric([3, 4], max_samples=2)
    metric.dataset_meta = {"classes": CLASSES}
    image = torch.arange(3)[:, None, None].expand(3, 5, 5)
    for i in range(4):
        metric.process({"inputs": [image]}, [sample(i, 4)])
    assert [kept.name for kept in metric.samples] == ["00", "01"]
    kept, given = metric.samples[1], sample(1, 4)
    np.testing.assert_array_equal(kept.image[0, 0], [2, 1, 0])
    np.testing.assert_array_equal(kept.label, given["gt_sem_seg"]["data"][0])
    for i in range(2):
        np.testing.assert_array_equal(kept.predictions[i], given["pred_clusters"]["data"][i])


def test_a_wrong_value_is_named_with_its_file():
    metric = CountMetric()
    metric.dataset_meta = {"classes": CLASSES[:2]}
    with pytest.raises(UserError, match=r"y/00\.png: .*value 2 is out of range"):
        metric.process({}, [sample(0)])


def test_of_a_sole_class_every_pixel_is_of_it():
    """MMSegmentation takes its score for a yes or a no, as a float."""
    from mmseg.models.segmentors.base import BaseSegmentor
    from mmseg.structures import SegDataSample

    class Segmentor(BaseSegmentor):
        """Its way from scores to classes alone."""

        class decode_head:
            threshold = 0.3

        align_corners = False
        encode_decode = extract_feat = loss = predict = _forward = None

    meta = {"ori_shape": (3, 4), "img_path": "a.png", "seg_map_path": "b.png"}
    (found,) = Segmentor().postprocess_result(
        torch.linspace(-4, 4, 12).view(1, 1, 3, 4), [SegDataSample(metainfo=meta)]
    )
    label = torch.zeros(1, 3, 4, dtype=torch.int64)
    label[0, 0] = 255
    metric = CountMetric()
    metric.dataset_meta = {"classes": ["all"]}
    metric.process({}, [{**meta, **found.to_dict(), "gt_sem_seg": {"data": label}}])
    assert found.pred_sem_seg.data.dtype == torch.float32
    assert metric.evaluate(1)["mIoU"] == 100
    assert metric.tables[0].counts.tolist() == [[8]]
