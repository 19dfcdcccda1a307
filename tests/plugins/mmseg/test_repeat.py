from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.canary import CANARIES, leaks
from tests.helpers.forked import ROOT, Forked
from tests.helpers.variations import variations
from vice.errors import UserError
from vice.experiments.repeat import repeat
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters
from vice.plugins.mmseg.evaluate_linear import evaluate_linear
from vice.plugins.mmseg.finetune import finetune

QUIET = {"log_level": "ERROR", "device": "cpu", "seed": 4}
STEPS = {"linear_iterations": 5, "linear_batch": 2, "kmeans_pixels": 900}
SPEC = "random:resnet18-fpn-8"
CASES = {
    "linear": (evaluate_linear, {"cache_bytes": 10**7}),
    "clusters": (evaluate_clusters, {"clusters": [2, 5]}),
    "finetune": (finetune, {"fraction": 0.5}),
}


@pytest.mark.parametrize("kind", variations(CASES, 3))
def test_a_results_directory_is_enough_to_take_it_again(make_folder, tmp_path, monkeypatch, kind):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    evaluate, options = CASES[kind]
    root = make_folder()
    old = evaluate(SPEC, root, tmp_path / "old", changes=STEPS, **options, **QUIET)
    assert repeat(tmp_path / "old", tmp_path / "new") == []
    new = json.loads((tmp_path / "new" / "results.json").read_text())
    for key in ("protocol", "dataset", "model", "classes", "seed"):
        assert new[key] == old[key]
    # It compares, and does not only say so.
    spoilt = json.loads((tmp_path / "old" / "results.json").read_text())
    entry = spoilt["clusters"]["5"]["greedy"] if kind == "clusters" else spoilt[kind]
    entry["accuracy"] += 0.001
    (tmp_path / "old" / "results.json").write_text(json.dumps(spoilt))
    (line,) = repeat(tmp_path / "old", tmp_path / "newer")
    assert "accuracy" in line
    assert leaks(tmp_path) == []


def test_other_images_weights_or_places_are_refused(make_folder, tmp_path):
    root = make_folder()
    evaluate_clusters(SPEC, root, tmp_path / "old", clusters=[2], changes=STEPS, **QUIET)
    with pytest.raises(UserError, match=r"weights of random:resnet18-fpn-9 is not that"):
        repeat(tmp_path / "old", tmp_path / "new", spec="random:resnet18-fpn-9")
    with pytest.raises(UserError, match="name another folder"):
        repeat(tmp_path / "old", tmp_path / "old")
    for kind, pixels in (("images", np.zeros((8, 8, 3))), ("labels", np.zeros((8, 8)))):
        Image.fromarray(pixels.astype(np.uint8)).save(root / kind / "train" / "extra.png")
    with pytest.raises(UserError, match="list of train images is not that of the result"):
        repeat(tmp_path / "old", tmp_path / "new")
    (root / "classes.txt").write_text("red\ngreen\nblue\nseen\n")
    with pytest.raises(UserError, match="classes is not that"):
        repeat(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("changed", ["images/val", "labels/val", "images/train", "labels/train"])
def test_images_and_labels_that_hold_something_else_are_named(make_folder, tmp_path, changed):
    root = make_folder()
    matchings = {**STEPS, "matchings": ("greedy",)}
    evaluate_clusters("lab", root, tmp_path / "old", clusters=[2], changes=matchings, **QUIET)
    file = sorted((root / changed).iterdir())[0]
    with Image.open(file) as image:
        Image.fromarray(np.asarray(image)[::-1].copy()).save(file)
    role = {"train": "fit", "val": "score"}[changed.partition("/")[2]]
    name = {"images": "pixels of images", "labels": "label files"}[changed.partition("/")[0]]
    first = repeat(tmp_path / "old", tmp_path / "new")[0]
    assert first.startswith(f"{name} ({role}) differ: ")


@pytest.mark.parametrize(
    "kind",
    ["linear", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("clusters", "finetune"))],
)
def test_weights_that_were_scored_in_the_end_are_compared(make_folder, tmp_path, monkeypatch, kind):
    """Code may give others than those that were verified; here scores do not show it."""
    (tmp_path / "wavering.py").write_text(
        "import torch\n"
        "from vice.models.lab import LabEmbedder\n"
        "CALLS, FIRST = [], 99\n"
        "def make():\n"
        "    CALLS.append(1)\n"
        "    module = LabEmbedder()\n"
        "    module.unused = torch.nn.Parameter(torch.tensor([float(len(CALLS) > FIRST)]))\n"
        "    return module\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    evaluate, options = CASES[kind]
    evaluate("wavering:make", make_folder(), tmp_path / "old", changes=STEPS, **options, **QUIET)
    module = sys.modules.pop("wavering")
    monkeypatch.setitem(sys.modules, "wavering", module)
    module.FIRST = len(module.CALLS) + 1
    (line,) = repeat(tmp_path / "old", tmp_path / "new", trust=True)
    assert line.startswith("weights differ: ") and " then, " in line


def test_code_that_a_result_names_runs_with_consent_only(make_folder, tmp_path, monkeypatch):
    root = make_folder()
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "named_by_result.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from vice.models.lab import LabEmbedder as make\n"
    )
    evaluate_clusters("lab", root, tmp_path / "old", clusters=[2], changes=STEPS, **QUIET)
    file = tmp_path / "old" / "results.json"
    sound = file.read_text()
    evil = json.loads(sound)
    evil["arguments"]["spec"] = "named_by_result:make"
    file.write_text(json.dumps(evil))
    with pytest.raises(UserError, match="names code that would run: named_by_result:make.*--trust"):
        repeat(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "ran").exists()
    # Another embedder from the command line: nothing of the result's runs.
    assert repeat(tmp_path / "old", tmp_path / "new", spec="lab") == []
    assert not (tmp_path / "ran").exists()
    assert repeat(tmp_path / "old", tmp_path / "newer", trust=True) == []
    assert (tmp_path / "ran").exists()
    for options in ({"model.backbone.type": "subprocess.Popen"}, {"custom_imports": ["x"]}):
        file.write_text(json.dumps(_with(sound, options=options)))
        with pytest.raises(UserError, match="names code that would run: options="):
            repeat(tmp_path / "old", tmp_path / "newest")
    for more in ({"hook": "os.system"}, {"spec": 3}, {"protocol": "native"}):
        file.write_text(json.dumps(_with(sound, **more)))
        with pytest.raises(UserError, match="does not say what the evaluation was called with"):
            repeat(tmp_path / "old", tmp_path / "newest")


def _with(text, **arguments):
    result = json.loads(text)
    result["arguments"].update(arguments)
    return result


def test_command_line(make_folder, tmp_path):
    root = make_folder()
    evaluate_clusters("lab", root, tmp_path / "old", clusters=[3], changes=STEPS, **QUIET)

    command = [ROOT / "tools" / "repeat.py", tmp_path / "old", "--out"]
    first = [sys.executable, *command, tmp_path / "new"]
    done = subprocess.run(first, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all scores of" in done.stdout.splitlines()[-1]
    done = Forked([*command, tmp_path / "old"]).wait()
    assert done.returncode == 2 and "Traceback" not in done.stderr
