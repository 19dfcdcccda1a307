"""The examples in the docstrings of what other people call first: each is there, and is true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vice"
#: Public names whose docstrings show a call and its value.
DOORS = (
    "vice:load",
    "vice:Predictor.embed",
    "vice:Predictor.segment",
    "vice.superpixels:slic",
    "vice.superpixels:grid",
    "vice.views:ViewSampler",
    "vice.regions:pool_regions",
    "vice.assignment:sinkhorn",
    "vice.losses:DenseSwAVLoss",
    "vice.scoring:CountTable",
    "vice.scoring:CountTable.restricted",
    "vice.clustering:fit_kmeans",
    "vice.minibatch_kmeans:MiniBatchKMeans",
    "vice.losses.picie:automatic_shares",
    "vice.views.feature_crop:crop_box",
    "vice.models:Concepts",
    "vice.methods:find_method",
    "vice.nearest:did_you_mean",
    "vice.runtime.amounts:in_words",
    "vice.options:option",
    "vice.explore.mask_files:mask_names",
    "vice.explore.named_concepts:model_title",
    "vice.explore.select_images:cover",
    "vice.explore.specks:remove_specks",
    "vice.datasets.described.templates:stem_of",
    "vice.command.train:overrides",
    "vice.export.write:export_graph",
    "vice.models.strides:steps",
)


def found(door: str) -> Any:
    module, _, name = door.partition(":")
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("door", DOORS)
def test_the_example_of_a_door(door):
    if door.endswith("fit_kmeans"):
        pytest.importorskip("faiss")
    # No names but those that the example imports: it runs where it is pasted.
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(found(door), door.replace(":", "."), globs={})
    assert any(example.want for example in test.examples), f"{door} shows no value"
    told: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert result.failed == 0, "".join(told)


def test_no_other_example_stands_in_the_package():
    # It would run nowhere: what it needs is a place in the list.
    listed = "".join(found(door).__doc__ for door in DOORS)
    everywhere = [file.read_text("utf-8") for file in PACKAGE.rglob("*.py")]
    assert sum(text.count(">>> ") for text in everywhere) == listed.count(">>> ") > len(DOORS)
