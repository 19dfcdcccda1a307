"""Passes over a folder that are stopped: what is kept, that they go on, and come to the same."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from tests.helpers.content import photo
from tests.helpers.forked import Forked
from vice.command import explore, segment, select
from vice.explore.build_explorer import build_explorer
from vice.explore.fitted_concepts import fit_concepts
from vice.explore.kept_pass import UNFINISHED, KeptPass, PassStopped
from vice.predictor import Predictor
from vice.runtime.preemption import Preempted


@pytest.fixture(scope="module")
def predictor():
    return vice.load("lab", device="cpu")


@pytest.fixture
def images(tmp_path, rng):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(photo(rng, (30 + number, 40))).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"")
    return sorted(folder.iterdir())


@pytest.fixture
def embedded(monkeypatch):
    """Names of the images that are embedded, one after the other."""
    names, real = [], Predictor.embed

    def embed(predictor, image, *arguments, **more):
        names.append(str(getattr(image, "name", image)).rpartition("/")[2])
        return real(predictor, image, *arguments, **more)

    monkeypatch.setattr(Predictor, "embed", embed)
    return names


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def after(asked):
    """Asks to stop from so many questions on."""
    left = iter(range(asked))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("command", [segment, explore, select])
def test_what_was_passed_over_is_said_whoever_has_read_it(
    command, images, tmp_path, monkeypatch, capsys
):
    """By the call that goes on, too, of images that the one before it has read."""
    frames = [Image.fromarray(np.full((24, 24, 3), 60 * k, np.uint8)) for k in range(3)]
    for name in ("0.gif", "9.gif"):
        frames[0].save(images[0].parent / name, save_all=True, append_images=frames[1:])
    words = ["vice", "lab", str(images[0].parent), "--out", str(tmp_path / "out")]
    words += ["-n", "2"] if command is select else ["--clusters", "2"]
    real, left = Predictor.given, iter(range(12 if command is segment else 5))

    def given(predictor, image, *arguments):
        if isinstance(image, type(images[0])) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(predictor, image, *arguments)

    monkeypatch.setattr(sys, "argv", words)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "given", given)
        with pytest.raises(Preempted):
            command.main()
    capsys.readouterr()
    command.main()
    assert "images read: only the first frame or page is used (2)" in capsys.readouterr().out


# Seven images are asked for in the sample, and six that can be read once more.
@pytest.mark.parametrize("asked", [3, 7, 10, 12])
def test_an_explorer_that_is_stopped_goes_on_to_the_same_files(
    asked, predictor, images, tmp_path, embedded
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    build_explorer(predictor, images, whole, clusters=3)
    assert not (whole / UNFINISHED).exists()
    embedded.clear()
    with pytest.raises(PassStopped) as stop:
        build_explorer(predictor, images, out, clusters=3, stopped=after(asked))
    assert stop.value.done == max(asked - 7, 0)
    assert not (out / "index.html").exists()
    build_explorer(predictor, images, out, clusters=3)
    assert sorted(embedded) == [f"{number}.png" for number in range(6)]
    assert content(out) == content(whole)


@pytest.mark.parametrize("change", ["image", "seed", "file", "damage"])
def test_what_has_changed_is_made_anew(change, predictor, images, tmp_path, embedded):
    out, seed = tmp_path / "out", 0
    with pytest.raises(PassStopped):
        build_explorer(predictor, images, out, clusters=3, stopped=after(10))
    if change == "image":
        Image.fromarray(np.full((30, 40, 3), 9, np.uint8)).save(images[0])
    elif change == "seed":
        seed = 1
    elif change == "file":
        (out / "data" / "thumbs" / "1.jpg").unlink()
    else:
        for file in (out / UNFINISHED).glob("image-*.npz"):
            file.write_bytes(file.read_bytes()[:-30])
    build_explorer(predictor, images, out, clusters=3, seed=seed)
    build_explorer(predictor, images, tmp_path / "whole", clusters=3, seed=seed)
    assert content(out) == content(tmp_path / "whole")


def test_concepts_that_are_fitted_go_on(predictor, images, tmp_path, embedded):
    whole = fit_concepts(predictor, images, 3, seed=2)
    embedded.clear()
    kept = KeptPass.of(tmp_path, predictor, images, 2)
    with pytest.raises(PassStopped):
        fit_concepts(predictor, images, 3, seed=2, kept=kept, stopped=after(4))
    kept = KeptPass.of(tmp_path, predictor, images, 2)
    assert torch.equal(fit_concepts(predictor, images, 3, seed=2, kept=kept).vectors, whole.vectors)
    assert len([name for name in embedded if name != "broken.png"]) == 6


@pytest.mark.parametrize("command", [explore, segment, select])
def test_a_signal_while_images_are_embedded(command, images, tmp_path, monkeypatch, embedded):
    out, real = tmp_path / "out", Predictor.embed

    def embed(*arguments, **more):
        if len(embedded) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **more)

    monkeypatch.setattr(Predictor, "embed", embed)
    words = ["vice", "lab", str(images[0].parent), "--out", str(out), "--device", "cpu"]
    more = ["-n", "2"] if command is select else ["--clusters", "2"]
    monkeypatch.setattr(sys, "argv", [*words, *more])
    said = f"stopped by SIGTERM after . of 7 images: what .* stays in {out}, and the same command"
    with pytest.raises(Preempted, match=said):
        command.main()
    assert (out / UNFINISHED).exists()
    command.main()
    assert not (out / UNFINISHED).exists()
    assert len([name for name in embedded if name != "broken.png"]) == 6


KILLED = """
import os, signal, sys
from vice.command import explore, segment
from vice.explore.kept_pass import KeptPass
from vice.explore.mask_way import MaskWay

owner, name = {"explore": (KeptPass, "save"), "segment": (MaskWay, "write")}[sys.argv[1]]
real, calls, last = getattr(owner, name), [], int(sys.argv[2])


def killing(*arguments, **more):
    calls.append(None)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)


setattr(owner, name, killing)
command = {"explore": explore, "segment": segment}[sys.argv[1]]
sys.argv[1:3] = []
command.main()
"""


@pytest.mark.parametrize(("command", "calls"), [("explore", 9), ("segment", 4)])
def test_what_is_killed_goes_on_to_the_same_files(command, calls, images, tmp_path):
    script, outs = tmp_path / "killed.py", [tmp_path / "out", tmp_path / "whole"]
    script.write_text(KILLED)
    words = [command, str(calls), "lab", images[0].parent, "--clusters", "2", "--device", "cpu"]
    killed = Forked([script, *words, "--out", outs[0]], OMP_NUM_THREADS="1").wait()
    assert killed.returncode == -signal.SIGKILL
    assert not (outs[0] / "index.html").exists() and not (outs[0] / "summary.csv").exists()
    words[1] = "0"
    if command == "segment":
        (outs[0] / "masks" / "0.png1a2b.part").write_bytes(b"half")
    for out in outs:
        done = Forked([script, *words, "--out", out], OMP_NUM_THREADS="1").wait()
        assert done.returncode == 0, done.stderr
    assert content(outs[0]) == content(outs[1])
