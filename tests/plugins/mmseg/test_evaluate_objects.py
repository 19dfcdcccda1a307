"""MaskContrast's clusters of objects, from images and masks to results."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vice.errors import UserError
from vice.evaluation.published import PROTOCOLS
from vice.experiments.repeat import repeat
from vice.models import load as extractors
from vice.models import seeded_embedder
from vice.models.checkpoint import save_run
from vice.normalize import normalize
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

from .helpers import COLORS, QUIET, TinyEmbedder

pytest.importorskip("sklearn")
FIELDS = {
    **PROTOCOLS["maskcontrast2021_held_out"],
    "size": (32, 32),
    "objects_components": 1,
    "objects_seeds": (1234, 1235),
}


class WithForeground(TinyEmbedder):
    """Finds whatever is not dark."""

    def foreground(self, images):
        return 8 * images.mean(1, keepdim=True)[..., ::2, ::2] + 8


@pytest.fixture
def scenes(tmp_path):
    """A square in one of two colors before a dark wall; its masks as files."""
    root, rng = tmp_path / "scenes", np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 6)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            label = np.zeros((40, 44), np.uint8)
            top, left = rng.integers(4, 16, 2)
            label[top : top + 18, left : left + 18] = 1 + i % 2
            noise = rng.normal(0, 5, (40, 44, 3))
            colors = np.array([[5, 5, 5], *COLORS[[0, 2]] + 40])
            image = np.clip(colors[label] + noise, 0, 255).astype(np.uint8)
            name = f"{split}{i}.png"
            Image.fromarray(image).save(root / "images" / split / name)
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray((label > 0).astype(np.uint8)).save(root / "masks" / name)
            label[0] = 255
            Image.fromarray(label).save(root / "labels" / split / name)
    (root / "classes.txt").write_text("background\nred\nblue\n")
    return root


@pytest.fixture
def with_foreground(monkeypatch):
    real = extractors.load_extractor

    def load(spec, *, seed=0, device="cpu"):
        if spec != "salient":
            return real(spec, seed=seed, device=device)
        return WithForeground().eval().requires_grad_(False)

    monkeypatch.setattr(extractors, "load_extractor", load)
    return "salient"


def test_objects_are_clustered_whoever_finds_the_foreground(
    with_foreground, tiny, scenes, tmp_path
):
    masks = str(scenes / "masks")
    for foreground, spec, given in (
        ("files", tiny, masks), ("label", tiny, None), ("model", with_foreground, None)
    ):  # fmt: skip
        out = tmp_path / foreground
        result = evaluate_clusters(
            spec, scenes, out, **QUIET, clusters=[3], masks=given,
            changes={**FIELDS, "foreground": foreground},
        )  # fmt: skip
        assert json.loads((out / "results.json").read_text()) == result
        entry = result["clusters"]["3"]
        assert entry["hungarian_iou"]["fitted_on"] == "val"
        assert entry["argmax_iou"]["fitted_on"] == "train"
        for name in ("hungarian_iou", "argmax_iou"):
            seeds = entry[name]["seeds"]
            assert [each["seed"] for each in seeds] == [1234, 1235]
            assert entry[name]["miou"] == np.mean([each["miou"] for each in seeds]) > 0.8
            low, high = entry[name]["interval"]["miou"]
            assert low <= entry[name]["miou"] <= high and entry[name]["interval"]["images"] == 6
        counts = np.array(json.loads((out / "counts.json").read_text())["score"]["3"])
        # Every labelled pixel is counted, in one of the background and two objects.
        assert counts.sum() == 6 * 39 * 44 and (counts.sum(1) > 0).all()
        assert result["objects"]["score"] == {"images": 6, "without_foreground": 0}
    assert repeat(tmp_path / "files", tmp_path / "again") == []


def test_the_saliency_of_a_checkpoint_is_scored_and_said_to_be_builtin(scenes, tmp_path):
    embedder = seeded_embedder(0, dim=4, stages=1, outputs={"saliency": 1}).eval()
    save_run(tmp_path / "run", embedder, meta={"foreground": "builtin saliency"})
    result = evaluate_clusters(
        str(tmp_path / "run"), scenes, tmp_path / "out", **QUIET, clusters=[3],
        changes={**FIELDS, "foreground": "model", "foreground_threshold": "probability"},
    )  # fmt: skip
    assert "builtin saliency" in json.dumps(result["model"])
    counts = np.array(json.loads((tmp_path / "out" / "counts.json").read_text())["score"]["3"])
    # What the output calls foreground: pixels above 0, brought to the label's size.
    expected = 0
    for path in sorted((scenes / "images" / "val").iterdir()):
        image = Image.open(path).resize((32, 32), Image.Resampling.BICUBIC)
        pixels = normalize(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
        with torch.no_grad():
            logits = F.interpolate(embedder.foreground(pixels), (32, 32), mode="bilinear")
        large = F.interpolate((logits > 0).float(), (40, 44), mode="nearest")
        expected += int(large[:, :, 1:].sum())
    assert abs(counts[1:].sum() - expected) < 0.03 * counts.sum()


def test_fitted_inside_the_scored_split_as_published(with_foreground, scenes, tmp_path):
    fields = {"fit_split": "val", "score_split": "val", "same_split": "published"}
    result = evaluate_clusters(
        with_foreground, scenes, tmp_path / "out", **QUIET, clusters=[2, 3],
        changes={**FIELDS, **fields, "foreground_threshold": "probability"},
    )  # fmt: skip
    assert "fitted inside the scored split" in result["protocol"]["title"]
    assert list(result["clusters"]) == ["2", "3"]
    assert result["clusters"]["3"]["hungarian_iou"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, "tiny has no foreground of its own"),
        ({"foreground": "files"}, {}, "foreground=files needs --masks"),
        ({"foreground": "label"}, {"masks": "x"}, "nothing else takes it"),
        ({"foreground": "files", "crop": 9}, {"masks": "x"}, "nothing may be cropped"),
        ({"foreground": "files"}, {"masks": "none"}, "none/val0.png: no mask of"),
        ({"foreground": "label"}, {"clusters": [1]}, "at least 2"),
        ({"foreground": "label", "clusters": "kmeans"}, {"masks": "x"}, "only clusters=objects"),
    ],
)
def test_bad_input_is_named(tiny, scenes, tmp_path, changes, options, message):
    arguments = {**QUIET, "clusters": [3], **options, "changes": {**FIELDS, **changes}}
    with pytest.raises(UserError, match=message):
        evaluate_clusters(tiny, scenes, tmp_path / "out", **arguments)
    (scenes / "classes.txt").write_text("wall\nred\nblue\n")
    if message == "at least 2":
        arguments["clusters"] = [3]
        with pytest.raises(UserError, match="but it is wall"):
            evaluate_clusters(tiny, scenes, tmp_path / "out", **arguments)


def test_a_mask_of_another_size_is_named(tiny, scenes, tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(scenes / "masks" / "val2.png")
    with pytest.raises(UserError, match=r"val2.png: a mask of shape \(3, 4\)"):
        evaluate_clusters(
            tiny, scenes, tmp_path / "out", **QUIET, clusters=[3],
            masks=str(scenes / "masks"), changes={**FIELDS, "foreground": "files"},
        )  # fmt: skip
    assert torch.is_grad_enabled()


def test_objects_that_nothing_tells_apart_are_warned_of(scenes, tmp_path, monkeypatch, caplog):
    class Constant(torch.nn.Module):
        dim = 4

        def forward(self, images):
            return torch.ones(len(images), 4, 8, 8)

    monkeypatch.setattr(extractors, "load_extractor", lambda spec, **options: Constant().eval())
    result = evaluate_clusters(
        "x", scenes, tmp_path / "out", device="cpu", log_level="ERROR", clusters=[3, 4],
        changes={**FIELDS, "foreground": "label"},
    )  # fmt: skip
    assert result["objects"]["fit"]["distinct_vectors"] == 1
    (line,) = [line for line in caplog.messages if "vectors are distinct" in line]
    assert "only 1 of 8 vectors are distinct, fewer than 3 clusters" in line
