"""Read-outs that share passes give what their own evaluations give, to the last bit."""

from __future__ import annotations

import json
import logging
import runpy
import shutil
import sys

import pytest
import torch

from tests.helpers.processes import ROOT, launch
from vice.errors import MissingPart, UserError
from vice.evaluation.evaluate_boundaries import evaluate_boundaries
from vice.evaluation.options import evaluation_parser, score_arguments
from vice.evaluation.own_tables import make_own_tables, own_sections
from vice.evaluation.protocols import get_protocol
from vice.evaluation.scored_folders import divide_folders
from vice.models import cell_counts
from vice.models.centroids import Centroids
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.evaluate_position import evaluate_position
from vice.plugins.mmseg.evaluate_retrieval import evaluate_retrieval
from vice.plugins.mmseg.score import score, sharing
from vice.plugins.mmseg.view_scores import remove_views

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


def all_protocols(**shown):
    """Those of all read-outs that can share passes."""
    retrieval = {"retrieval_memory": 60, "retrieval_matchings": ("none", "hungarian")}
    return {
        **protocols(**shown),
        "retrieval": get_protocol("native", **retrieval, **shown),
        "position": get_protocol("native", **LBFGS, **shown),
    }


def apart(spec, root, out, asked, **options):
    """The evaluations, each for itself."""
    evaluate_linear(spec, root, out / "linear", protocol=asked["linear"], **options)
    evaluate_clusters(
        spec, root, out / "clusters", protocol=asked["clusters"], clusters=CLUSTERS, **options
    )
    if "retrieval" in asked:
        evaluate_retrieval(spec, root, out / "retrieval", protocol=asked["retrieval"], **options)
        position = {"protocol": asked["position"], "clusters": (3,)}
        evaluate_position(spec, root, out / "position", **position, **options)


def read(folder):
    return json.loads((folder / "results.json").read_text())


def assert_same(together, alone):
    """Everything that is read out, down to the bits of weights, pictures and counts."""
    for kind in sorted(path.name for path in alone.iterdir()):
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


def test_counts_without_maps_are_those_of_the_maps(tiny, make_folder, tmp_path, monkeypatch):
    # Images of the tests are small; two of the four scored ones are kept with their maps.
    monkeypatch.setattr(cell_counts, "_LEAST_COLUMNS", 1)
    counted = []
    count = cell_counts.count_nearest

    def watched(*arguments, **of):
        counted.append(count(*arguments, **of))
        return counted[-1]

    monkeypatch.setattr("vice.plugins.mmseg.cluster_segmentor.count_nearest", watched)
    root, options = make_folder(train=5, val=4), {**QUIET, "max_maps": 2}
    score(tiny, root, tmp_path / "one", protocols=protocols(), clusters=CLUSTERS, **options)
    assert len(counted) == 5 + 2 and all(found is not None for found in counted)
    apart(tiny, root, tmp_path / "two", protocols(), **options)
    assert len(counted) == 5 + 2
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("shown", SHOWN)
def test_numbers_are_those_of_each_evaluation_for_itself(shown, tiny, make_folder, tmp_path):
    # Two sizes of label maps: where a read-out could take the wrong one, all of them are compared.
    every = shown == "labels as stored"
    asked = (all_protocols if every else protocols)(**SHOWN[shown])
    root = make_folder(train=5, val=4)
    numbers = {"clusters": CLUSTERS, "position_clusters": (3,)}
    found = score(tiny, root, tmp_path / "one", protocols=asked, **numbers, **QUIET)
    apart(tiny, root, tmp_path / "two", asked, **QUIET)
    assert list(found) == list(asked)
    assert_same(tmp_path / "one", tmp_path / "two")
    shared = ["clusters", "linear", *(["position", "retrieval"] if every else [])]
    for result in found.values():
        assert result["one_pass"]["passes"] == {"fit": 1, "score": 1}
        assert result["one_pass"]["readouts"] == shared
    if not every:
        return
    again = score_intervals_of(found["position"]["position"])
    assert all(low <= value <= high for value, (low, high) in again) and len(again) == 2 * 8
    places = [tmp_path / name / "position" for name in ("one", "two")]
    renamed = {**read(places[1]), "spec": "again"}
    (places[1] / "results.json").write_text(json.dumps(renamed))
    scores, differences = own_sections(make_own_tables(divide_folders(places)[1]))
    assert len(scores.head) == 2 + 2 * 8 and scores.lines[0][2:] == scores.lines[1][2:]
    (line,) = differences.lines
    assert line == ["again", *["+0.00 [+0.00, +0.00] (within)"] * 16]


def score_intervals_of(position):
    """Each score with its interval."""
    pairs = []
    for of in (position["before"], position["after"]):
        pairs += [(of["r2"][axis], of["r2_interval"][axis]) for axis in "xy"]
        for scores in (of["linear"], *of["clusters"]["3"].values()):
            pairs += [(scores[name], scores["interval"][name]) for name in ("miou", "accuracy")]
    return pairs


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
    with caplog.at_level(logging.INFO, "vice"):
        score(tiny, root, tmp_path / "one", protocols=asked, clusters=CLUSTERS, **QUIET)
    assert sum(calls) == 5 + 4
    assert "mapping clusters on train images: 5 done" in caplog.text
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
    assert sharing(all_protocols()) == ["clusters", "linear", "position", "retrieval"]
    assert sharing(all_protocols(flip_average=True)) == ["clusters", "retrieval"]
    squares = {**all_protocols(), "retrieval": get_protocol("hummingbird2023")}
    assert sharing(squares) == ["clusters", "linear", "position"]
    assert sharing({"retrieval": get_protocol("native")}) == []


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
    arguments += ["--position", 3, "--retrieval", "--retrieval-protocol", "native"]
    arguments += ["--set", "linear_optimizer=lbfgs", "linear_pixels=1500", "kmeans_pixels=3000"]
    arguments += ["retrieval_memory=60", "retrieval_matchings=none,hungarian"]
    one, two = tmp_path / "one", tmp_path / "two"
    numbers = {"clusters": CLUSTERS, "position_clusters": (3,)}
    score(spec, root, one, protocols=all_protocols(), **numbers, **QUIET)
    tool = [ROOT / "tools" / "score.py", spec, *arguments, "--out", two]
    first, second = launch(tool, 2)
    assert first.returncode == 0, first.stderr
    assert (second.returncode, second.stdout) == (0, "")
    assert first.stdout.count("mIoU / accuracy in %") == 3
    assert "position: after: R² x " in first.stdout
    for kind in all_protocols():
        assert read(two / kind)[kind] == read(one / kind)[kind]
        assert (two / kind / "per_image.npz").read_bytes() == (
            one / kind / "per_image.npz"
        ).read_bytes()


def test_outlines_of_all_clusters_are_those_of_their_files(make_folder, tmp_path):
    root, out, spec = make_folder(train=4, val=3), tmp_path / "one", "random:resnet18-fpn-8"
    people = tmp_path / "people"
    shutil.copytree(root / "images" / "val", people / "images" / "val")
    (people / "labels" / "val").mkdir(parents=True)
    for path in (root / "labels" / "val").iterdir():
        shutil.copy(path, people / "labels" / "val" / f"{path.stem}_anna.png")
    asked = {"clusters": get_protocol("native", kmeans_pixels=2000)}
    options = {"protocols": asked, "clusters": CLUSTERS, **QUIET}
    found = score(spec, root, out, boundaries=people, **options)["boundaries"]
    for k in CLUSTERS:
        file = out / "clusters" / f"centroids_{k}.safetensors"
        alone = evaluate_boundaries(
            spec, people, tmp_path / str(k), centroids=file, device=QUIET["device"]
        )
        own = ("seconds", "versions")
        assert read(out / "boundaries" / str(k)) == found[str(k)]
        assert {n: v for n, v in found[str(k)].items() if n not in own} == {
            n: v for n, v in alone.items() if n not in own
        }
        (table,) = make_own_tables(divide_folders([tmp_path / str(k)])[1])
        assert own_sections([table])[0].lines[0][0] == spec
    assert found["3"]["boundaries"] != found["5"]["boundaries"]
    with pytest.raises(UserError, match="no folder images/val"):
        score(spec, root, out, boundaries=tmp_path, **options)
    with pytest.raises(UserError, match="holds no prototypes"):
        score(spec, root, out, boundaries=people, protocols={}, **QUIET)


def arguments_of(kinds, *texts):
    parser = evaluation_parser("", "")
    return score_arguments(parser.parse_args(["lab", "--dataset", "d", *texts]), kinds)


def test_what_needs_k_means_is_refused_before_data_are_looked_at(
    make_folder, tmp_path, monkeypatch
):
    root, native = make_folder(), protocols()
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(
        "vice.plugins.mmseg.content.look_at_images", lambda *_, **__: pytest.fail("looked")
    )
    out = tmp_path / "out"
    for call in (
        lambda: score("lab", root, out, protocols=native, clusters=[2]),
        lambda: score("lab", root, out, protocols=native, clusters=[2], position_clusters=[2]),
        lambda: evaluate_clusters("lab", root, out, clusters=[2]),
        lambda: evaluate_position("lab", root, out, clusters=[2]),
    ):
        with pytest.raises(MissingPart, match="k-means needs FAISS"):
            call()
    with pytest.raises(UserError, match=r"clusters \[\]: give one or more"):
        score("lab", root, out, protocols=native)
    assert not out.exists()


def test_each_kind_gets_the_fields_that_are_its_own():
    texts = ["--set", "linear_optimizer=lbfgs", "kmeans_pixels=9", "resize=short", "size=24"]
    asked = arguments_of(["linear", "clusters", "retrieval", "position"], *texts)["protocols"]
    shown = {"resize": "short", "size": (24,)}
    assert asked["linear"] == get_protocol("native", linear_optimizer="lbfgs", **shown)
    assert asked["clusters"] == get_protocol("native", kmeans_pixels=9, **shown)
    assert asked["retrieval"] == get_protocol("hummingbird2023")
    assert asked["position"] == asked["linear"]
    steps = arguments_of(["linear", "position"], "--set", "linear_lr=0.1")["protocols"]
    assert steps["linear"] == get_protocol("native", linear_lr=0.1)
    assert steps["position"] == get_protocol("native", linear_optimizer="lbfgs")
    texts = ["lab", "--dataset", "d", "--set", "resize=short", "size=24"]
    parsed = evaluation_parser("", "").parse_args(texts)
    own = score_arguments(parsed, ["clusters", "retrieval"], "native")["protocols"]
    assert own["retrieval"] == get_protocol("native", **shown)
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


@pytest.mark.parametrize(
    ("written", "stays"),
    [
        ({"spec": "run", "dataset": "set", "scores": {}}, True),
        ({"spec": "other", "dataset": "set", "scores": {}}, False),
        ({"spec": "run", "dataset": "another", "scores": {}}, False),
        # Earlier versions did not say.
        ({"clusters": 3, "scores": {}}, False),
        (None, None),
    ],
)
def test_scores_without_labels_of_another_model_do_not_stay(tmp_path, caplog, written, stays):
    file = tmp_path / "label_free.json"
    if written is not None:
        file.write_text(json.dumps(written))
    remove_views(tmp_path, "run", "set")
    assert file.exists() == bool(stays)
    assert ("label_free.json is removed: it is of" in caplog.text) == (stays is False)
