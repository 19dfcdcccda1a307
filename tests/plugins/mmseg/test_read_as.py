"""Labelled images of many bands: described, and scored by the scale of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.datasets.described.test_layouts import NAMES, blocks
from tests.helpers.forked import ROOT, Forked
from tests.helpers.image_kinds import expected
from tests.helpers.tiffs import tiff
from vice.models.checkpoint import READING, load_embedder, save_run

BLACK, WHITE = (100.0, 150.0, 200.0), (3000.0, 3500.0, 3900.0)
SAID = {
    "samples": "uint16", "stored": 5, "bands": [4, 3, 2], "page": 1, "black": list(BLACK),
    "white": list(WHITE), "scale": "p1,p99", "images": 9,
}  # fmt: skip


def _write(root: Path, rng: np.random.Generator, *, scenes: bool) -> int:
    """Images of five bands, or what their scale makes of them; how many values are clipped."""
    clipped = 0
    for split in ("train", "val"):
        for number in range(3):
            labels = blocks(rng)
            samples = (labels[..., None] * 900 + rng.integers(0, 1900, (*labels.shape, 5))).astype(
                np.uint16
            )
            chosen = samples[..., [3, 2, 1]]
            clipped += int(((chosen < BLACK) | (chosen > WHITE)).sum()) * (split == "val")
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels.astype(np.uint8)).save(root / f"labels/{split}/{number}.png")
            image = root / "images" / split / f"{number}.tif"
            if scenes:
                image.write_bytes(tiff(samples, 2, extra=(0, 0)))
            else:
                Image.fromarray(expected(chosen, BLACK, WHITE)).save(image)
    (root / "classes.txt").write_text("\n".join(NAMES))
    return clipped


def test_scored_as_its_scale_says(tmp_path):
    run = tmp_path / "run"
    save_run(run, load_embedder("random:resnet18-fpn-8"), meta={READING: SAID})
    clipped = _write(tmp_path / "scenes", np.random.default_rng(0), scenes=True)
    _write(tmp_path / "plain", np.random.default_rng(0), scenes=False)
    tools = ROOT / "tools"
    command = [tools / "prepare_data.py", "folder", tmp_path / "scenes", "--show", "1"]
    refused = Forked(command).wait()
    assert refused.returncode == 2 and "give --read-as" in refused.stderr
    assert not (tmp_path / "scenes" / "dataset.yaml").exists()
    done = Forked([*command, "--read-as", run]).wait()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scenes" / "dataset.html").read_text().count("<img") == 2
    results = {}
    for name, more in (("scenes", ["--read-as", run]), ("plain", [])):
        command = [tools / "eval_cluster.py", "lab", "--dataset", tmp_path / name, *more]
        command += ["--out", tmp_path / f"{name}-out", "--clusters", "3", "--device", "cpu"]
        done = Forked(command).wait()
        assert done.returncode == 0, done.stderr
        results[name] = json.loads((tmp_path / f"{name}-out" / "results.json").read_text())
    assert results["scenes"]["clusters"] == results["plain"]["clusters"]
    content = results["scenes"]["content"]["score"]
    assert content["clipping"] == {"images": 3, "values": 3 * 24 * 32 * 3, "outside": clipped}
    assert "clipping" not in results["plain"]["content"]["score"]
