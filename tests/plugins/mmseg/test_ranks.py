"""Evaluations on two real processes give what one gives."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.processes import ROOT, free_ports, launch
from vice.errors import UserError
from vice.models.centroids import Centroids
from vice.plugins.mmseg import NumberedSampler, running
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.finetune import finetune

from .helpers import QUIET

SPEC = "random:resnet18-fpn-8"


@pytest.fixture
def uneven(make_folder):
    """An odd number of images of each split; some have hardly a labelled pixel."""
    root = make_folder(train=5, val=3)
    for split in ("train", "val"):
        for path in sorted((root / "labels" / split).iterdir())[1::2]:
            label = np.asarray(Image.open(path)).copy()
            label[4:] = 255
            Image.fromarray(label).save(path)
    return root


def tool(name, *arguments):
    return [ROOT / "tools" / name, SPEC, *arguments, "--device", "cpu"]


def read(folder):
    return json.loads((folder / "results.json").read_text())


def assert_same_clusters(one, two, clusters):
    """Every count, score, centroid and picture of two results directories is the same."""
    first, second = read(one), read(two)
    for part in ("clusters", "dataset", "model", "maps", "samples", "pictures"):
        assert first[part] == second[part]
    for k in clusters:
        name = f"centroids_{k}.safetensors"
        vectors = [Centroids.load(folder / name).vectors for folder in (one, two)]
        assert torch.equal(*vectors)
    files = ["counts.json", *(f"mapping_{k}.json" for k in clusters), *first["maps"]]
    for name in [*files, "samples.png", "per_image.npz"]:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_clusters_under_torchrun_equal_one_process(uneven, tmp_path):
    one, two, clusters = tmp_path / "one", tmp_path / "two", (2, 5)
    changes = {"kmeans_pixels": 2000}
    evaluate_clusters(SPEC, uneven, one, clusters=clusters, changes=changes, **QUIET)
    arguments = ("--dataset", uneven, "--out", two, "--pixels", 2000, "--clusters", *clusters)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    torchrun += [f"--master-port={free_ports(1)[0]}"]
    (done,) = launch([*torchrun, *tool("eval_cluster.py", *arguments)], 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mIoU / accuracy in %") == 1
    assert_same_clusters(one, two, clusters)
    assert (read(one)["ranks"], read(two)["ranks"]) == (1, 2)
    assert len(read(one)["maps"]) == 2 * 3


def test_linear_probe_on_two_processes_equals_one(uneven, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    changes = {"linear_iterations": 30, "linear_batch": 4}
    evaluate_linear(SPEC, uneven, one, changes=changes, workers=1, **QUIET)
    arguments = ("--dataset", uneven, "--out", two, "--iterations", 30, "--batch-size", 4)
    first, second = launch(tool("eval_linear.py", *arguments), 2)
    assert first.returncode == 0, first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    weights = [
        torch.load(folder / "runner" / "iter_30.pth", weights_only=False)["state_dict"]
        for folder in (one, two)
    ]
    for name in ("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"):
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-6, rtol=1e-5)
    counts = [np.array(read(folder)["confusion"]) for folder in (one, two)]
    assert counts[0].sum() == counts[1].sum()
    assert np.abs(counts[0] - counts[1]).sum() <= 0.002 * counts[0].sum()
    assert read(two)["linear"]["miou"] == pytest.approx(read(one)["linear"]["miou"], abs=2e-3)


def test_converged_probe_on_two_processes_equals_one(uneven, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    changes = {"linear_optimizer": "lbfgs", "linear_pixels": 1500}
    evaluate_linear(SPEC, uneven, one, changes=changes, **QUIET)
    fields = [f"{name}={value}" for name, value in changes.items()]
    arguments = ("--dataset", uneven, "--out", two, "--set", *fields)
    first, second = launch(tool("eval_linear.py", *arguments), 2)
    assert first.returncode == 0, first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert read(two)["probe"] == read(one)["probe"] and read(one)["probe"]["converged"]
    assert read(two)["confusion"] == read(one)["confusion"]
    states = [
        torch.load(folder / "runner" / "fitted.pth", weights_only=False)["state_dict"]
        for folder in (one, two)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


def test_a_batch_that_ranks_cannot_share_is_told_once(make_folder, tmp_path):
    arguments = ("--dataset", make_folder(), "--out", tmp_path / "out", "--batch-size", 3)
    done = launch(tool("eval_linear.py", *arguments), 2)
    assert [process.returncode for process in done] == [2, 2]
    errors = [line for p in done for line in p.stderr.splitlines() if line.startswith("error")]
    assert errors == [
        "error: a batch of 3 images cannot be shared evenly by 2 processes: start a number of "
        "processes that divides it, or change --batch-size (linear_batch of the protocol)"
    ]
    assert not (tmp_path / "out" / "results.json").exists()


def test_trained_batch_normalisation_needs_gpus_or_one_process(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    monkeypatch.setattr(running, "world_size", lambda: 2)
    changes = {"linear_bottleneck": 3}
    with pytest.raises(UserError, match="several processes on the CPU: use GPUs, or one process"):
        evaluate_linear(SPEC, root, tmp_path / "out", changes=changes, **QUIET)
    with pytest.raises(UserError, match="several processes on the CPU: use GPUs, or one process"):
        finetune(SPEC, root, tmp_path / "out", **QUIET)


def test_an_endless_sampler_goes_on_where_it_stopped():
    whole = NumberedSampler(range(5), seed=3)
    expected = list(islice(whole, 14))
    later = NumberedSampler(range(5), seed=3)
    later.skip(6)
    assert list(islice(later, 8)) == expected[6:]
    assert sorted(draw.image for draw in expected[:5]) == list(range(5))
    assert len({draw.seed for draw in expected}) == 14
