"""What cannot be is refused before PyTorch, VISSL and MMSegmentation are imported.

All command lines run in one interpreter that cannot import them.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.heard import HEARD
from vice.paths import EMPTY

#: Specs in which a variable of a shell was not set.
EMPTY_SPECS = (
    "' '", ":", "timm:", "timm:@file", "timm:resnet18@", "timm:resnet18@file#", "'timm:resnet18@ '",
    "random:", "random:timm:", "random:timm:resnet18@", "random:-fpn-8", "random:resnet18--8",
    "random:resnet18-fpn-", "imagenet:", "imagenet:timm:-fpn-8", "torchvision:",
    "torchvision:@file", "torchvision:resnet50@", "torchvision:resnet50@file#", "file#", "RUN#",
    ":make", "some_module:", "some.module:",
)  # fmt: skip
#: What is said of specs of another form.
OTHER_FORMS = {
    "did you mean lab?": "Lab LAB labs",
    "did you mean file?": "fil",
    "here code:make, with its folder in PYTHONPATH": "code.make code.py:make",
    "here code:CALLABLE, with its folder": "code.py",
    "here code:make, with the folder nets in PYTHONPATH": "nets/code.py:make nets/code:make",
    "here json.decoder:JSONDecoder": "json.decoder.JSONDecoder",
    "it is an address: download it first": "https://a.org/b.pth s3://a/b random:https://a.org/b "
    "timm:resnet18@https://a.org/b torchvision:resnet18@https://a.org/b",
    "give a run folder or a file": "json.pth no.such nothing",
    "no state of a training": "random:photos",
}
#: Command lines that name something that is not there, or a number that cannot be, with a part of
#: what is said about it. ``RUN`` is a run folder, ``SET`` a labelled folder.
REFUSED = {
    "trian": "did you mean vice train?",
    "train --images photos --out mine": "mine/train_config.yaml holds something else",
    "export RUN --to onnx -o mine": "mine/export.json holds something else",
    "export RUN --to torchscript -o mine2": "mine2/model.torchscript holds something else",
    "export RUN --to torchscript -o graphs": "holds an export to another format (onnx)",
    "export RUN --to timm -o trunk": "holds an export to another format (torchvision)",
    "score lab --dataset SET --linear --out one": "one holds the results of one evaluation",
    "score lab --dataset SET --linear --out outlined": "boundaries holds the results of one eval",
    "eval-linear lab --dataset SET --out several": "results of several evaluations (linear/results",
    "eval-position lab --dataset SET --out several": "several evaluations (linear/results.json)",
    "eval-boundaries lab --dataset SET --out several": "several evaluations (linear/results.json)",
    "score-masks photos --dataset SET --out several": "several evaluations (linear/results.json)",
    "repeat one --out several": "results of several evaluations (linear/results.json)",
    "eval-linear lab --dataset SET --out SET/images/train": "is no place for results",
    "score lab --dataset SET --clusters 2 --out SET": "is no place for results",
    "score-masks photos --dataset SET --out SET/labels/val": "is no place for results",
    "eval-linear lab --dataset SET --out demo": "demo/results.json holds something else",
    "score lab --dataset SET --clusters 2 --out mine": "clusters/results.json holds something else",
    "demo --out mine": "mine/results.json holds something else",
    "eval-linear lab --dataset SET --out mine": "mine/results.json holds something else",
    "score-masks photos --dataset SET --out mine": "mine/results.json holds something else",
    "train foldr": "no config 'foldr'; did you mean folder?",
    "train folder --epochs 4": "arguments: --epochs 4; options of a config are KEY=VALUE",
    "reproduce main --epochs 4": "arguments: --epochs 4; options of a config are KEY=VALUE",
    "demo --epochs=4": "--epochs=4; options of a config are KEY=VALUE",
    "cache-superpixels config=vice/folder --cells=4": "options of a config are KEY=VALUE",
    "train --images fotos": "fotos: no such folder or image list; did you mean photos?",
    "train --images photos --out file": "--out=file:",
    "train --resume --out outputs/rum": "no such run folder; did you mean outputs/run?",
    "cache-superpixels config=vice/foldr": "did you mean vice/folder?",
    "cache-superpixels config=vice/folder --shard 4/4": "the last is 3",
    "segment outputs/rum photos -o m": "does not exist; did you mean outputs/run?",
    "segment outputs photos -o m": "no run folder; did you mean outputs/run?",
    "segment tim:resnet18 photos -o m": "did you mean timm:resnet18?",
    "segment timm:resnet18@fil photos -o m": "did you mean file?",
    "segment torchvision:resnet5 photos -o m": "did you mean resnet50",
    "segment random:resnet18-fpm-8 photos -o m": "did you mean fpn?",
    **{f"segment {spec} photos -o m": EMPTY for spec in EMPTY_SPECS},
    **{
        f"{line} --dataset SET --out m": EMPTY
        for line in ("eval-linear timm:resnet18@", "score file# --linear")
    },
    **{
        f"segment {spec} photos -o m": said
        for said, specs in OTHER_FORMS.items()
        for spec in specs.split()
    },
    "segment RUN fotos -o m": "did you mean photos?",
    "segment RUN photos -o file": "--out=file:",
    "segment RUN photos -o m --concepts concept.json": "did you mean concepts.json?",
    "segment RUN photos -o m --concepts x/y.json": "the page that vice explore wrote",
    "segment RUN photos -o m --concepts file": "concepts are a concepts.json",
    "segment RUN photos -o m --seed 3": "--seed is of fitted concepts: give --clusters",
    "segment RUN photos -o m --seed 3 --concepts file": "--seed is of fitted concepts",
    "segment RUN photos -o m --part 5/4": "5/4 is not K/N",
    "segment RUN photos -o m --memory lots": "--memory='lots' is no amount",
    "segment RUN photos -o m --device gpu": "did you mean cuda?",
    "segment RUN photos --otu m": "did you mean --out?",
    "segment RUN photos -o m --embeddings npy": "did you mean npz?",
    "explore outputs/rum photos -o m": "did you mean outputs/run?",
    "explore RUN photos -o SET": "holds no explorer",
    "select RUN photos -n 0 -o m": "0 is not from 1",
    "select outputs/rum photos -n 3 -o m": "did you mean outputs/run?",
    "info outputs/rum": "did you mean outputs/run?",
    "export outputs/rum --to onnx -o m": "did you mean outputs/run?",
    "export RUN --to onnx -o file": "--out=file:",
    "export RUN --to onnx -o m --concepts concept.json": "did you mean concepts.json?",
    "export-masks phots --to coco -o m": "did you mean photos?",
    "segment RUN photos -o photos": "lie in this output folder",
    "score lab --dataset SET --clusters": "--clusters: give one number of clusters or more",
    "score outputs/rum --dataset SET --linear": "did you mean outputs/run?",
    "score RUN --dataset sett --linear": "did you mean set?",
    "score RUN --dataset coco72 --linear": "did you mean coco27?",
    "score RUN --dataset SET --linear --out file": "--out=file:",
    "score RUN --dataset SET --linear --split-score vall": "no such folder; did you mean val?",
    "score RUN --dataset SET --linear --set upsampel=x": "did you mean upsample?",
    "score RUN --dataset SET --linear --read-as outputs/rum": "did you mean outputs/run?",
    "score RUN --dataset SET --boundaries sett": "did you mean set?",
    "score RUN --dataset SET --clusters 0": "0 is not from 1",
    "eval-linear outputs/rum --dataset SET": "did you mean outputs/run?",
    "eval-linear RUN --dataset SET --batch-size 0": "linear_batch is 0",
    "eval-cluster RUN --dataset SET --masks phots": "did you mean photos?",
    "eval-retrieval RUN --dataset SET --fraction 2": "fraction 2.0",
    "eval-position RUN --dataset sett": "did you mean set?",
    "eval-boundaries RUN --dataset sett": "did you mean set?",
    "eval-boundaries RUN --dataset SET --split vall": "its splits are train, val",
    "finetune RUN --dataset SET --fraction 0": "fraction 0.0",
    "finetune RUN --dataset SET --images phots": "did you mean photos?",
    "score-masks phots --dataset SET": "did you mean photos?",
    "score-masks photos --dataset SET --names concept.json": "did you mean concepts.json?",
    "compare outptus": "did you mean outputs?",
    "compare RUN --out table.txt": "ends in .md or .html",
    "compare photos": "photos holds no results.json",
    "compare outputs": "outputs holds no results.json",
    "compare empty": "empty holds no results.json: it is empty",
    "compare stopped": "stopped holds no results.json: its evaluation did not end",
    "repeat outputs --out mine": "mine/results.json holds something else",
    "repeat outputs/rum --out m": "did you mean outputs/run?",
    "reproduce mian": "did you mean main?",
    "reproduce main --scale tny": "did you mean tiny?",
    "reproduce main --dataset coco27=sett": "/set?",
    "reproduce main nonsense": "error: nonsense: overrides of trainings must be KEY=VALUE; quote",
    "reproduce main config.LOG_FREQUENCY=1 scratch": "a call runs one table",
    "reproduce main config.SEED_VALUE=3": "--seeds says how many",
    "reproduce main ++config.CHECKPOINT.DIR=x": "--out says where runs go",
    "reproduce main --part 0/4": "0/4 is not K/N",
    "reproduce main --part 1/4 --pictures 6": "ask the call without --part",
    "benchmark poling": "did you mean pooling?",
    "benchmark pooling --images fotos": "did you mean photos?",
    "demo --images fotos": "did you mean photos?",
    "demo --out file": "--out=file:",
    "prepare coco72 --root data": "did you mean coco27?",
    "prepare folder fotos": "did you mean photos?",
    "install trainning": "did you mean training?",
}
#: Runs each command line, and prints its status and what it said.
PROGRAM = f"""
import sys
for name in ("torch", "vissl", "mmseg", "mmengine"):
    sys.modules[name] = None
{HEARD}
for words in json.loads(sys.argv[1]):
    print(heard(words))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "outputs" / "run").mkdir(parents=True)
    (place / "outputs" / "run" / "vice.safetensors").touch()
    for name in ("file", "concepts.json", "code.py"):
        (place / name).write_text("{}")
    taken = ("train_config.yaml", "export.json", "results.json", "clusters/results.json")
    for name in (*(f"mine/{each}" for each in taken), "mine2/model.torchscript"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("precious")
    for name in ("graphs", "empty", "stopped/runner"):
        (place / name).mkdir(parents=True)
    (place / "graphs" / "export.json").write_text('{"digest": "0", "format": "onnx"}')
    (place / "trunk").mkdir()
    record = '{"digest": "0", "network_there": "torchvision.models.resnet18(weights=None)"}'
    (place / "trunk" / "export.json").write_text(record)
    for name in ("one", "outlined/boundaries", "several/linear"):
        (place / name).mkdir(parents=True)
        (place / name / "results.json").write_text('{"kind": "linear"}')
    (place / "demo").mkdir()
    (place / "demo" / "results.json").write_text('{"training": {}, "versions": {}}')
    gray = Image.fromarray(np.zeros((8, 8), np.uint8))
    folders = [f"set/{kind}/{split}" for kind in ("images", "labels") for split in ("train", "val")]
    for folder in ("photos", *folders):
        (place / folder).mkdir(parents=True)
        gray.save(place / folder / "a.png")
    (place / "set" / "classes.txt").write_text("dark\n")
    lines = [
        shlex.split(line.replace("RUN", "outputs/run").replace("SET", "set")) for line in REFUSED
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines)],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(REFUSED, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("line", REFUSED)
def test_a_mistake_is_refused_at_once_with_its_remedy(line, refusals):
    status, said = refusals[line]
    assert status == 2, said
    assert "left out" not in said
    last = said.strip().splitlines()[-1]
    assert "error: " in last and REFUSED[line] in last
