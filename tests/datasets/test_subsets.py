from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from vice.datasets.labelled_set import list_checksum
from vice.datasets.subsets import take_subset


def test_subsets_are_nested_reproducible_and_of_the_published_sizes():
    names = [f"{i:012d}" for i in range(49_629)]
    sizes = {0.001: 49, 0.01: 496, 0.05: 2481, 0.1: 4962, 0.5: 24814, 1.0: 49629}
    last: frozenset[str] = frozenset()
    for fraction, size in sizes.items():
        found = take_subset(names, fraction, 0)
        assert len(found) == size and last <= found
        last = found
    shuffled = list(np.random.default_rng(0).permutation(names))
    assert take_subset(shuffled, 0.01, 0) == take_subset(names, 0.01, 0)
    assert take_subset(names, 0.01, 1) != take_subset(names, 0.01, 0)
    assert sorted(take_subset(["a", "b", "c", "d"], 0.5, 0)) == ["a", "d"]
    assert len(take_subset(["a"], 0.001, 0)) == 1


ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT.parent / "shared" / "data" / "coco_lists"


@pytest.mark.skipif(not LISTS.is_dir(), reason="the curated lists are not beside the checkout")
def test_the_published_subsets_of_coco():
    (file,) = LISTS.glob("train2017_*")
    ids = file.read_text().split()
    text = (ROOT / "docs" / "protocols.md").read_text()
    rows = re.findall(r"\| (0\.\d+) \| ([\d,]+) \| (\w+) \| (\w+) \| (\w+) \|", text)
    assert len(rows) == 5
    for fraction, count, *checksums in rows:
        for seed, checksum in enumerate(checksums):
            chosen = sorted(take_subset(ids, float(fraction), seed))
            assert f"{len(chosen):,}" == count and list_checksum(chosen).startswith(checksum)
