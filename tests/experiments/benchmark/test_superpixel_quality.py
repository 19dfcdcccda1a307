from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.evaluation.boundaries import (
    achievable_accuracy,
    boundaries,
    boundary_recall,
    overlaps,
    undersegmentation_error,
)
from vice.experiments.benchmark.superpixel_quality import quality


def brute(regions, truth, tolerance=2):
    """All three, pixel by pixel and set by set."""
    height, width = truth.shape
    right = wrong = 0
    for superpixel in np.unique(regions):
        inside = truth[regions == superpixel].tolist()
        counts = [inside.count(segment) for segment in set(inside)]
        right += max(counts)
        wrong += sum(min(count, len(inside) - count) for count in counts)

    def outline(labels):
        return [
            (y, x)
            for y in range(height)
            for x in range(width)
            if (x + 1 < width and labels[y, x] != labels[y, x + 1])
            or (y + 1 < height and labels[y, x] != labels[y + 1, x])
        ]

    found, wanted = outline(regions), outline(truth)
    near = [
        any(abs(y - v) <= tolerance and abs(x - u) <= tolerance for v, u in found)
        for y, x in wanted
    ]
    return right / truth.size, wrong / truth.size, sum(near) / len(near)


@pytest.mark.parametrize("seed", range(4))
def test_the_three_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    regions = np.kron(rng.integers(0, 9, (4, 5)) * 7, np.ones((4, 4), int))
    truth = np.kron(rng.integers(0, 3, (2, 4)), np.ones((8, 5), int))
    accuracy, error, recall = brute(regions, truth)
    assert achievable_accuracy(regions, truth) == pytest.approx(accuracy)
    assert undersegmentation_error(regions, truth) == pytest.approx(error)
    assert boundary_recall(regions, truth) == pytest.approx(recall)
    assert overlaps(regions, truth).sum() == truth.size


def test_extremes():
    truth = np.arange(64).reshape(8, 8) // 32
    assert (achievable_accuracy(truth, truth), undersegmentation_error(truth, truth)) == (1, 0)
    assert boundary_recall(truth, truth) == 1 and boundaries(truth).sum() == 8
    one = np.zeros_like(truth)
    assert (achievable_accuracy(one, truth), undersegmentation_error(one, truth)) == (0.5, 1)
    assert boundary_recall(one, truth) == 0 and boundary_recall(truth, one) == 1


def test_a_folder_with_several_annotators(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name / "val").mkdir(parents=True)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    Image.fromarray(image).save(tmp_path / "images" / "val" / "7.jpg", quality=95)
    halves, whole = image[..., 0] // 255, np.zeros((16, 16), np.uint8)
    for annotator, truth in enumerate((halves, whole)):
        Image.fromarray(truth).save(tmp_path / "labels" / "val" / f"7_{annotator}.png")
    found = quality(tmp_path, {"threshold": lambda x: (x[..., 0] > 127).astype(int)})
    assert found["threshold"] == {
        "boundary recall": 1.0, "achievable accuracy": 1.0, "undersegmentation": 0.0,
        "regions": 2.0,
    }  # fmt: skip
    (tmp_path / "labels" / "val" / "7_0.png").rename(tmp_path / "labels" / "val" / "8_0.png")
    (tmp_path / "labels" / "val" / "7_1.png").unlink()
    with pytest.raises(UserError, match="no 7_<annotator>"):
        quality(tmp_path, {})
    with pytest.raises(UserError, match="no images/val"):
        quality(tmp_path / "labels", {})
