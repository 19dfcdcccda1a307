"""Two commands at work on one output folder: one waits, or says in one line who is at it."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.content import photo
from tests.helpers.forked import ROOT, Forked

#: What a command may say that gives up; nothing else ends one.
REFUSALS = ("another process is writing into", "is not empty", "is another list", "holds ")


def vice(folder, *words):
    return Forked(["-m", "vice", *words], cwd=folder, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))


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
    done = vice(folder, "segment", "lab", "photos", "--clusters", "3", "--out", "masks").wait()
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


@pytest.mark.parametrize("delay", [0.0, 0.02, pytest.param(0.3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RACES)
def test_they_end_whole_or_say_why(name, delay, folder):
    both, out = RACES[name], f"{name} {delay}"
    running = []
    for words, _ in both:
        running.append(vice(folder, *words, "--out", out))
        time.sleep(delay)
    race = [each.wait() for each in running]
    assert 0 in [done.returncode for done in race], race
    for done, (_, file) in zip(race, both, strict=True):
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        if done.returncode == 0:
            assert (folder / out / file).is_file()
            continue
        (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2 and any(text in error for text in REFUSALS), said
        assert " with folder" not in error, error
    assert not list(folder.rglob("*.part"))
