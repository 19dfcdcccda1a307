"""Two commands at work on one output folder: one waits, or says in one line who is at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.content import photo
from tests.helpers.processes import ROOT

#: What a command may say that gives up; nothing else ends one.
REFUSALS = ("another process is writing into", "is not empty", "is another list", "holds ")


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, a video, and masks of them."""
    folder, rng = tmp_path_factory.mktemp("two"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(6):
        image = Image.fromarray(photo(rng, (64, 80)))
        image.save(folder / "photos" / f"{number}.png")
    film = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(40):
        film.write(photo(rng, (48, 64)))
    film.release()
    command = [sys.executable, "-m", "vice", "segment", "lab", "photos", "--clusters", "3"]
    done = subprocess.run(
        [*command, "--out", "masks"], cwd=folder, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


MASKS, PAGE = "masks/5.png", "index.html"
SEGMENT = (["segment", "lab", "photos", "--clusters", "3"], MASKS)
EXPLORE = (["explore", "lab", "photos", "--clusters", "3"], PAGE)
FILM = ["film.avi", "--clusters", "3"]
#: What each of both does into one folder, and a file that is there if it succeeds.
RACES = {
    "segment": (SEGMENT, SEGMENT),
    "segment and explore": (SEGMENT, EXPLORE),
    "explore": (EXPLORE, EXPLORE),
    "select": ((["select", "lab", "photos", "-n", "3"], "selected.txt"),) * 2,
    "segment a film": ((["segment", "lab", *FILM], "summary.csv"),) * 2,
    "explore a film": ((["explore", "lab", *FILM], PAGE),) * 2,
    "png": ((["export-masks", "masks", "--to", "png"], "5.png"),) * 2,
    "coco": ((["export-masks", "masks", "--to", "coco"], "annotations.json"),) * 2,
}


def test_they_end_whole_or_say_why(folder):
    delays, races = (0.0, 0.02, 0.3), []
    for name, ((one, _), (two, _)) in RACES.items():
        for delay in delays:
            out = ["--out", f"{name} {delay}"]
            races.append([(0.0, [*one, *out]), (delay, [*two, *out])])
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.at_once"], cwd=folder, env=environment(),
        input=json.dumps(races), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ends = iter(json.loads(done.stdout.splitlines()[-1]))
    for name, both in RACES.items():
        for delay in delays:
            race, out = next(ends), folder / f"{name} {delay}"
            assert 0 in [status for status, _ in race], (name, race)
            for (status, said), (_, file) in zip(race, both, strict=True):
                assert "Traceback" not in said, (name, said)
                if status == 0:
                    assert (out / file).is_file(), name
                    continue
                (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
                assert status == 2 and any(text in error for text in REFUSALS), (name, said)
                assert " with folder" not in error, error
            assert not list(folder.rglob("*.part")), name
