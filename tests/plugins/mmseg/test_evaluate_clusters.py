from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vice.errors import UserError
from vice.evaluation.image_counts import load_image_tables
from vice.evaluation.intervals import resampled_mapping, score_intervals
from vice.evaluation.results import plain
from vice.models import load as extractors
from vice.models.centroids import Centroids
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.runtime.provenance import digest
from vice.scoring import CountTable

from .helpers import CLUSTERS, rescore


def test_clusters_are_found_and_leave_evidence(tiny, make_folder, tmp_path):
    root, out = make_folder(), tmp_path / "out"
    result = evaluate_clusters(tiny, root, out, **CLUSTERS, max_maps=99)
    assert list(result["clusters"]) == ["2", "4", "9"]
    nine = result["clusters"]["9"]
    assert nine["greedy"]["accuracy"] > 0.8 and nine["hungarian"]["accuracy"] > 0.3
    assert nine["greedy"]["fitted_on"] == "train" and nine["hungarian"]["fitted_on"] == "val"
    assert json.loads((out / "results.json").read_text()) == result
    counts = json.loads((out / "counts.json").read_text())
    weights = digest(extractors.load_extractor(tiny))
    assert {Centroids.load(file).weights for file in out.glob("*.safetensors")} == {weights}
    images = load_image_tables(out / "per_image.npz", {k: (int(k), 4) for k in counts["score"]}, 5)
    assert "intervals" in result["steps"]
    for k, entry in result["clusters"].items():
        fit, score = CountTable(int(k), 4), CountTable(int(k), 4)
        fit.counts[:] = torch.tensor(counts["fit"][k])
        score.counts[:] = torch.tensor(counts["score"][k])
        for kind, mapping in (("greedy", fit.greedy()), ("hungarian", score.hungarian())):
            assert entry[kind]["mapping"] == mapping.tolist()
            assert entry[kind]["miou"] == pytest.approx(score.miou(mapping))
            # Only the matching that sees the scored labels is taken anew in each resample.
            again = {kind: resampled_mapping(kind, mapping)}
            assert plain(score_intervals(images[k], again)[kind]) == entry[kind]["interval"]
        assert torch.equal(images[k].total().counts, score.counts)
        assert json.loads((out / f"mapping_{k}.json").read_text()) == fit.greedy().tolist()
        table = rescore(root, out / "maps" / f"clusters_{k}", 4)
        assert table.accuracy(table.identity()) == pytest.approx(entry["greedy"]["accuracy"])


def test_no_fit_sees_the_scored_labels(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    one = evaluate_clusters(tiny, root, tmp_path / "one", **CLUSTERS)
    poison(root, "val")
    two = evaluate_clusters(tiny, root, tmp_path / "two", **CLUSTERS)
    for k in ("2", "4", "9"):
        centroids = [
            Centroids.load(tmp_path / name / f"centroids_{k}.safetensors").vectors
            for name in ("one", "two")
        ]
        assert torch.equal(*centroids)
        mappings = [result["clusters"][k]["greedy"]["mapping"] for result in (one, two)]
        assert mappings[0] == mappings[1]
    assert two["clusters"]["9"]["greedy"]["accuracy"] < 0.2
    # The Hungarian matching is taken on the scored labels, and turns with them.
    assert two["clusters"]["9"]["hungarian"] != one["clusters"]["9"]["hungarian"]


def test_centroids_do_not_see_the_labels_at_all(tiny, make_folder, tmp_path, poison):
    root = make_folder()
    evaluate_clusters(tiny, root, tmp_path / "one", **CLUSTERS)
    poison(root, "train")
    evaluate_clusters(tiny, root, tmp_path / "two", **CLUSTERS)
    one, two = (
        Centroids.load(tmp_path / name / "centroids_4.safetensors") for name in ("one", "two")
    )
    assert torch.equal(one.vectors, two.vectors)


def test_lab_floor_is_euclidean_and_solves_colours(make_folder, tmp_path):
    out = tmp_path / "out"
    result = evaluate_clusters("lab", make_folder(), out, **CLUSTERS)
    assert result["model"]["spherical"] is False
    assert not Centroids.load(out / "centroids_9.safetensors").spherical
    assert result["clusters"]["9"]["greedy"]["accuracy"] > 0.9


def test_global_state_is_given_back(tiny, make_folder, tmp_path):
    import cv2
    import torch.multiprocessing as mp

    before = cv2.getNumThreads(), mp.get_start_method(allow_none=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate_clusters(tiny, make_folder(), tmp_path / "out", **{**CLUSTERS, "clusters": [2]})
    assert torch.equal(torch.rand(3), expected)
    assert (cv2.getNumThreads(), mp.get_start_method(allow_none=True)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"score_split": "train"}}, "two splits"),
        ({"changes": {"score_split": "test"}}, "no such folder"),
        ({"changes": {"fit_labels": False}}, "greedy matching needs labels"),
        ({"clusters": []}, "one or more"),
        ({"clusters": [3, 3]}, "different"),
        ({"clusters": [5000]}, "cannot make 5000 clusters"),
    ],
)
def test_bad_input_is_named(tiny, make_folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        evaluate_clusters(tiny, make_folder(), tmp_path / "out", **{**CLUSTERS, **options})


def test_images_of_both_splits_and_of_one_color_are_told(tiny, make_folder, tmp_path, caplog):
    root = make_folder()
    fitted, scored = (sorted((root / "images" / split).iterdir()) for split in ("train", "val"))
    shutil.copy(fitted[1], scored[1])
    Image.new("RGB", (45, 37), (9, 9, 9)).save(scored[2])
    with caplog.at_level(logging.INFO, "vice"):
        result = evaluate_clusters(tiny, root, tmp_path / "out", **CLUSTERS)
    content = result["content"]
    assert content["shared"]["exact"] == 1
    assert (content["fit"]["images"], content["score"]["images"]) == (6, 5)
    assert (content["fit"]["flat"], content["score"]["flat"]) == (0, 1)
    assert list(content["score"]["formats"]) == ["RGB, 8 bits"]
    assert "1 of 5 scored images" in caplog.text and "are among those" in caplog.text
    for k, entry in result["clusters"].items():
        fitted = entry["kmeans"]
        assert int(k) >= fitted["non_empty_clusters"] > 1
        assert fitted["vectors"] >= fitted["distinct_vectors"] > 100


class Constant(torch.nn.Module):
    """One vector everywhere."""

    dim = 4

    def forward(self, images):
        return images.new_ones(len(images), 4, 8, 8)


#: What is changed of the protocol, and what is said of an embedder that tells nothing apart.
COLLAPSED = {
    "kmeans": ({}, "only 1 of 900 vectors are distinct, fewer than 2 clusters: the embedding is"),
    "minibatch": (
        {"clusters": "minibatch", "minibatch_images": 2, "minibatch_init": 2},
        "clusters are not empty: the embedding may be nearly the same everywhere",
    ),
}


@pytest.mark.parametrize("kind", COLLAPSED)
def test_an_embedder_that_tells_nothing_apart_is_warned_of(
    make_folder, tmp_path, monkeypatch, caplog, kind
):
    monkeypatch.setattr(extractors, "load_extractor", lambda spec, **options: Constant().eval())
    changes, said = COLLAPSED[kind]
    result = evaluate_clusters(
        "x", make_folder(), tmp_path / "out", device="cpu", log_level="ERROR", clusters=[2, 5],
        changes={"kmeans_pixels": 900, **changes},
    )  # fmt: skip
    warned = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    warned = [line for line in warned if said in line]
    assert len(warned) == (1 if kind == "kmeans" else 2)
    for entry in result["clusters"].values():
        assert entry["kmeans"]["non_empty_clusters"] < 5
        assert entry["kmeans"]["distinct_vectors"] == (1 if kind == "kmeans" else None)


@pytest.mark.parametrize("evaluate", ["clusters", "linear", "retrieval"])
def test_a_set_of_one_class_is_warned_of(tiny, make_folder, tmp_path, caplog, evaluate):
    root = make_folder()
    (root / "classes.txt").write_text("thing\n")
    for file in (root / "labels").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(file)) // 255 * 255).save(file)
    kinds = {
        "clusters": (evaluate_clusters, {"clusters": [2], "changes": {"kmeans_pixels": 900}}),
        "linear": (evaluate_linear, {"changes": {"linear_iterations": 3, "linear_batch": 2}}),
        "retrieval": (evaluate_retrieval, {}),
    }
    function, options = kinds[evaluate]
    result = function(tiny, root, tmp_path / "out", device="cpu", log_level="ERROR", **options)
    assert result["only_class"] == "thing"
    (line,) = [line for line in caplog.messages if "one class alone" in line]
    assert "val has labelled pixels of one class alone, thing: any model scores 100 %" in line
