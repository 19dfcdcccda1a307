from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from vice.datasets.subsets import take_subset
from vice.errors import UserError
from vice.evaluation.compare import make_tables
from vice.evaluation.paired import pair_tables
from vice.evaluation.published import PROTOCOLS
from vice.evaluation.retrieval import count_labels, to_patches
from vice.evaluation.scored_folders import read_results
from vice.experiments.repeat import repeat
from vice.normalize import IMAGENET_MEAN, IMAGENET_STD
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval

from .helpers import QUIET, TinyEmbedder, rescore

SMALL = {**PROTOCOLS["hummingbird2023"], "size": (32, 32), "retrieval_patch": 8}
RETRIEVAL = {**QUIET, "changes": {**SMALL, "retrieval_memory": 60}}


def squashed(root, split, stem):
    """An image as the protocol wants it, and its label, both 32 x 32."""
    image = Image.open(root / "images" / split / f"{stem}.png")
    image = image.resize((32, 32), Image.Resampling.BILINEAR)
    label = Image.open(root / "labels" / split / f"{stem}.png")
    label = label.resize((32, 32), Image.Resampling.NEAREST)
    return np.asarray(image), torch.from_numpy(np.array(label))


def by_hand(root):
    """Predictions on the scored split when the memory holds every patch of the train images."""
    embedder = TinyEmbedder().eval()
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor([*IMAGENET_STD[:2], 0.255])

    def patches(pixels):
        with torch.no_grad():
            image = (torch.from_numpy(pixels.copy()) / 255 - mean) / std
            unit = to_patches(embedder(image.permute(2, 0, 1)[None].float()), (4, 4))[0]
        return unit.flatten(1).T.double()

    vectors, labels = [], []
    for path in sorted((root / "images" / "train").iterdir()):
        pixels, label = squashed(root, "train", path.stem)
        vectors.append(patches(pixels))
        labels.append(count_labels(label, (4, 4), 4, "class0").double() / 64)
    vectors, labels = torch.cat(vectors), torch.cat(labels)
    found = {}
    for path in sorted((root / "images" / "val").iterdir()):
        cosines = patches(squashed(root, "val", path.stem)[0]) @ vectors.T
        top, index = cosines.topk(30)
        soft = ((top / 0.02).softmax(1)[..., None] * labels[index]).sum(1)
        soft = soft.T.reshape(1, 4, 4, 4).float()
        large = torch.nn.functional.interpolate(soft, (32, 32), mode="bilinear")
        found[path.stem] = large.argmax(1)[0].numpy()
    return found


def test_predictions_are_those_made_by_hand(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    changes = {**RETRIEVAL["changes"], "retrieval_memory": 10**5}
    result = evaluate_retrieval(tiny, root, out, **QUIET, changes=changes, max_maps=99)
    assert json.loads((out / "results.json").read_text()) == result
    assert result["memory"]["vectors"] == 6 * 16 and result["memory"]["images_with_fewer"] == 6
    same = [
        (np.asarray(Image.open(out / "maps" / "retrieval" / f"{stem}.png")) == classes).mean()
        for stem, classes in by_hand(root).items()
    ]
    assert len(same) == 5 and min(same) > 0.995
    none, matched = (result["retrieval"][name] for name in ("none", "hungarian_iou"))
    assert none["accuracy"] > 0.8
    assert (none["fitted_on"], matched["fitted_on"]) == ("train", "val")
    assert matched["miou"] >= none["miou"] == pytest.approx(sum(none["iou_per_class"].values()) / 4)
    # The class that never occurs counts, too.
    assert none["iou_per_class"]["never seen"] == 0 and none["classes_in_mean"] == 4


def test_a_small_memory_on_a_subset_is_repeated_and_compared(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    few = {**RETRIEVAL, "fraction": 0.5, "subset_seed": 3}
    result = evaluate_retrieval(tiny, root, out, **few)
    names = sorted(take_subset([f"{i:02d}" for i in range(6)], 0.5, 3))
    assert (out / "subset.txt").read_text().split() == names
    assert result["memory"]["images"] == result["subset"]["images"] == 3
    # 60 vectors of 3 images of 16 patches are all of them.
    assert (result["memory"]["patches_of_each"], result["memory"]["vectors"]) == (20, 48)
    assert repeat(out, tmp_path / "again") == []
    (table,) = make_tables(read_results([out]))
    assert table.columns == ["retrieval none", "retrieval hungarian_iou"]
    assert table.settings["fraction"] == 0.5
    other = evaluate_retrieval("lab", make_folder("same"), tmp_path / "lab", **RETRIEVAL)
    for entry in other["retrieval"].values():
        for metric in ("miou", "accuracy"):
            low, high = entry["interval"][metric]
            assert low <= high and entry["interval"]["images"] == 5
    results = read_results([tmp_path / "lab", tmp_path / "lab"])
    results[1]["spec"] = "again"
    (pairing,) = pair_tables(make_tables(results))
    assert list(pairing.rows["again"]) == [f"retrieval {name}" for name in other["retrieval"]]
    for of in pairing.rows["again"].values():
        assert (of["miou"].value, of["miou"].low, of["miou"].high) == (0, 0, 0)


def test_the_scored_labels_are_seen_by_the_matching_alone(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    poison(root, "val")
    result = evaluate_retrieval(tiny, root, tmp_path / "out", **RETRIEVAL, max_maps=0)
    none, matched = (result["retrieval"][name] for name in ("none", "hungarian_iou"))
    assert none["accuracy"] < 0.2 < 0.7 < matched["accuracy"]


def test_images_at_their_own_size(tiny, make_folder, tmp_path, caplog):
    changes = {"retrieval_memory": 200}
    with caplog.at_level(logging.INFO, "vice"):
        result = evaluate_retrieval(
            tiny, make_folder(), tmp_path / "out", **QUIET, changes=changes, max_maps=99
        )
    assert list(result["retrieval"]) == ["none"]
    assert result["retrieval"]["none"]["accuracy"] > 0.8
    table = rescore(tmp_path / "stripes", tmp_path / "out" / "maps" / "retrieval", 4)
    assert table.miou(table.identity()) == pytest.approx(result["retrieval"]["none"]["miou"])
    assert result["retrieval"]["none"]["classes_in_mean"] == 3
    assert "memory: at most 33 patches of each of 6 images, 198 vectors" in caplog.text
    assert "searching 198 vectors for the neighbours of about" in caplog.text
    assert "left_out leaves them out" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_limit": 2**20}, "more than memory_limit, 1 MiB: give it .*--memory-gib 0.03"),
        ({"changes": {**SMALL, "retrieval_patch": 3}}, "8 x 8 cells cannot be shared .* 11 x 11"),
        ({"changes": {"fit_labels": False}}, "no labels to retrieve"),
        ({"fraction": 0.0}, "fraction 0.0 is not above 0"),
    ],
)
def test_bad_input_is_named(tiny, make_folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        evaluate_retrieval(tiny, make_folder(), tmp_path / "out", **{**RETRIEVAL, **options})
    assert not (tmp_path / "out").exists()
