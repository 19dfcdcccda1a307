from __future__ import annotations

import json
import logging
import shutil

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
