"""Read-outs that share passes give what their own evaluations give, to the last bit."""

from __future__ import annotations

import json
import logging
import runpy
import sys

import pytest
import torch

from tests.helpers.processes import ROOT, launch
from vice.errors import UserError
from vice.evaluation.options import evaluation_parser, score_arguments
from vice.evaluation.protocols import get_protocol
from vice.models.centroids import Centroids
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.score import score, sharing

from .helpers import QUIET

CLUSTERS = (3, 5)
LBFGS = {"linear_optimizer": "lbfgs", "linear_pixels": 1500}
SHOWN = {
    "own size": {"upsample": "classes"},
    "labels as stored": {"resize": "short", "size": (24,), "crop": 24},
    "five crops": {"fit_crops": "five", "score_at": "input", "resize": "exact", "size": (20, 28)},
}


@pytest.fixture(autouse=True)
def plain_pictures(monkeypatch):
    """Confusion matrices are written as numbers: drawing them takes longer than all the rest."""

    def write(matrix, classes, path, title):
        path.write_bytes(matrix.tobytes())
        return path

    monkeypatch.setattr("vice.plugins.mmseg.results.plot_confusion", write)


def protocols(**shown):
    return {
        "linear": get_protocol("native", **LBFGS, **shown),
        "clusters": get_protocol("native", kmeans_pixels=3000, **shown),
    }


def apart(spec, root, out, asked, **options):
    """The two evaluations, each for itself."""
    evaluate_linear(spec, root, out / "linear", protocol=asked["linear"], **options)
    evaluate_clusters(
        spec, root, out / "clusters", protocol=asked["clusters"], clusters=CLUSTERS, **options
    )


def read(folder):
    return json.loads((folder / "results.json").read_text())


def assert_same(together, alone):
    """Everything that is read out, down to the bits of weights, pictures and counts."""
    for kind in ("linear", "clusters"):
        first, second = read(together / kind), read(alone / kind)
        assert first["protocol"]["hash"] == second["protocol"]["hash"]
        own = ("steps", "seconds", "arguments", "config", "one_pass")
        for part in second.keys() - set(own):
            assert first[part] == second[part], part
        known = {k: v for k, v in second["arguments"].items() if k != "out_dir"}
        assert {k: v for k, v in first["arguments"].items() if k != "out_dir"} == known
        for file in sorted((alone / kind).rglob("*")):
            name = file.relative_to(alone / kind)
            if file.suffix in (".npz", ".png") or file.name in ("counts.json", "mapping_3.json"):
                assert (together / kind / name).read_bytes() == file.read_bytes(), name
    for k in CLUSTERS:
        vectors = [
            Centroids.load(folder / "clusters" / f"centroids_{k}.safetensors").vectors
            for folder in (together, alone)
        ]
        assert torch.equal(*vectors)
    states = [
        torch.load(folder / "linear" / "runner" / "fitted.pth", weights_only=False)["state_dict"]
        for folder in (together, alone)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize("shown", SHOWN)
def test_numbers_are_those_of_each_evaluation_for_itself(shown, tiny, make_folder, tmp_path):
    root, asked = make_folder(train=5, val=4), protocols(**SHOWN[shown])
    found = score(tiny, root, tmp_path / "one", protocols=asked, clusters=CLUSTERS, **QUIET)
    apart(tiny, root, tmp_path / "two", asked, **QUIET)
    assert list(found) == ["linear", "clusters"]
    assert_same(tmp_path / "one", tmp_path / "two")
    for result in found.values():
        assert result["one_pass"]["passes"] == {"fit": 1, "score": 1}
        assert result["one_pass"]["readouts"] == ["clusters", "linear"]


def count_calls(monkeypatch, embedder_class):
    calls, forward = [], embedder_class.forward

    def counted(self, images):
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(embedder_class, "forward", counted)
    return calls


def test_each_image_is_embedded_once_or_without_memory_the_fitted_ones_twice(
    tiny, make_folder, tmp_path, monkeypatch, caplog
):
    from .helpers import TinyEmbedder

    root, asked = make_folder(train=5, val=4), protocols()
    calls = count_calls(monkeypatch, TinyEmbedder)
    score(tiny, root, tmp_path / "one", protocols=asked, clusters=CLUSTERS, **QUIET)
    assert sum(calls) == 5 + 4
    calls.clear()
    little = {"memory_limit": 20_000, "protocols": asked, "clusters": CLUSTERS}
    with caplog.at_level(logging.WARNING, "vice"):
        found = score(tiny, root, tmp_path / "two", **little, **QUIET)
    assert sum(calls) == 2 * 5 + 4 and "it is embedded twice" in caplog.text
    assert found["clusters"]["one_pass"]["passes"] == {"fit": 2, "score": 1}
    assert_same(tmp_path / "two", tmp_path / "one")
    calls.clear()
    hungarian = {"clusters": get_protocol("native", matchings=("hungarian",), kmeans_pixels=3000)}
    score(tiny, root, tmp_path / "three", **{**little, "protocols": hungarian}, **QUIET)
    assert sum(calls) == 5 + 4


def test_what_trains_by_steps_or_flips_keeps_its_own_passes(tiny, make_folder, tmp_path):
    root = make_folder(train=5, val=4)
    steps = {"linear_iterations": 10, "linear_batch": 2}
    asked = {**protocols(), "linear": get_protocol("native", **steps)}
    assert sharing(asked) == ["clusters"]
    found = score(tiny, root, tmp_path / "one", protocols=asked, clusters=CLUSTERS, **QUIET)
    alone = evaluate_linear(tiny, root, tmp_path / "two", protocol=asked["linear"], **QUIET)
    assert found["linear"]["linear"] == alone["linear"] and "one_pass" not in found["linear"]
    assert found["clusters"]["one_pass"]["readouts"] == ["clusters"]
    assert sharing(protocols(flip_average=True)) == ["clusters"]
    assert sharing({**protocols(), "linear": protocols(crop=24)["linear"]}) == ["clusters"]
    assert sharing(protocols()) == ["clusters", "linear"]
    other = {**protocols(), "clusters": get_protocol("native", clusters="minibatch")}
    assert sharing(other) == sharing({"linear": protocols()["linear"]}) == ["linear"]


def test_views_of_scored_images_are_compared_by_the_first_clusters(make_folder, tmp_path):
    root, spec = make_folder(train=4, val=3), "random:resnet18-fpn-8"
    asked = {"clusters": get_protocol("native", kmeans_pixels=2000)}
    options = {"protocols": asked, "clusters": CLUSTERS, "label_free": True, **QUIET}
    found = score(spec, root, tmp_path / "one", **options)["label_free"]
    assert json.loads((tmp_path / "one" / "label_free.json").read_text()) == found
    assert (found["clusters"], found["images"]) == (3, 3)
    assert 1 <= found["scores"]["perplexity"] <= 3 and 0 <= found["scores"]["agreement"] <= 1
    lab = score("lab", root, tmp_path / "two", **options)["label_free"]
    assert lab["scores"] == {} and "by distance" in lab["skipped"]


def test_two_processes_give_what_one_gives(make_folder, tmp_path):
    root, spec = make_folder(train=5, val=3), "random:resnet18-fpn-8"
    arguments = ["--dataset", root, "--linear", "--clusters", *CLUSTERS, "--device", "cpu"]
    arguments += ["--set", "linear_optimizer=lbfgs", "linear_pixels=1500", "kmeans_pixels=3000"]
    one, two = tmp_path / "one", tmp_path / "two"
    score(spec, root, one, protocols=protocols(), clusters=CLUSTERS, **QUIET)
    tool = [ROOT / "tools" / "score.py", spec, *arguments, "--out", two]
    first, second = launch(tool, 2)
    assert first.returncode == 0, first.stderr
    assert (second.returncode, second.stdout) == (0, "")
    assert first.stdout.count("mIoU / accuracy in %") == 2
    for kind in ("linear", "clusters"):
        assert read(two / kind)[kind] == read(one / kind)[kind]
        assert (two / kind / "per_image.npz").read_bytes() == (
            one / kind / "per_image.npz"
        ).read_bytes()


def arguments_of(kinds, *texts):
    parser = evaluation_parser("", "")
    return score_arguments(parser.parse_args(["lab", "--dataset", "d", *texts]), kinds)


def test_each_kind_gets_the_fields_that_are_its_own():
    texts = ["--set", "linear_optimizer=lbfgs", "kmeans_pixels=9", "resize=short", "size=24"]
    asked = arguments_of(["linear", "clusters", "retrieval"], *texts)["protocols"]
    shown = {"resize": "short", "size": (24,)}
    assert asked["linear"] == get_protocol("native", linear_optimizer="lbfgs", **shown)
    assert asked["clusters"] == get_protocol("native", kmeans_pixels=9, **shown)
    assert asked["retrieval"] == get_protocol("hummingbird2023")
    with pytest.raises(UserError, match="kmeans_pixels=9 would change the protocol's hash"):
        arguments_of(["linear"], "--set", "kmeans_pixels=9")


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "give --linear, --clusters"), (["--linear", "--label-free"], "give --clusters too")],
)
def test_nothing_to_read_out_is_refused(texts, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["score.py", "lab", "--dataset", "d", *texts])
    with pytest.raises(UserError, match=message):
        runpy.run_path(str(ROOT / "tools" / "score.py"))["main"]()
