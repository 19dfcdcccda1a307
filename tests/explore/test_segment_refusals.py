"""What `vice segment`, `explore` and `select` refuse, before anything is written or computed."""

from __future__ import annotations

import os
import re
import sys

import pytest
from PIL import Image

import vice
from tests.explore.conftest import files, ran
from tests.helpers.content import photo
from vice.command import explore, export, fitting, segment, select
from vice.errors import UserError
from vice.explore.fitted_concepts import fit_concepts
from vice.explore.segment_folder import segment_folder
from vice.explore.written_masks import open_written
from vice.images.lists import survey
from vice.models.building import seeded_embedder
from vice.models.centroids import Centroids
from vice.models.checkpoint import save_run
from vice.models.concepts import Concepts


def test_no_masks_of_two_kinds_in_a_folder(folder, predictor, concepts, tmp_path):
    images, out = sorted(folder.glob("*.png")), tmp_path / "out"
    segment_folder(predictor, images, out, concepts, names=["a", "b", "c"])
    others = Concepts.euclidean(concepts.vectors + 1)
    for changed, what in (
        ({"names": ["a", "b", "d"]}, "names"),
        ({"concepts": others}, "concepts"),
    ):
        wanted = {"concepts": concepts, "names": ["a", "b", "c"]} | changed
        with pytest.raises(UserError, match=f"holds masks by other {what}: delete it"):
            segment_folder(predictor, images, out, **wanted)
    (out / "segmentation.json").unlink()
    with pytest.raises(UserError, match="masks holds something else"):
        segment_folder(predictor, images, out, concepts)


@pytest.mark.parametrize("name", ["summary.csv", "overlays", "embeddings", "segmentation.json"])
def test_nothing_of_somebody_else_is_written_over(folder, predictor, concepts, tmp_path, name):
    (tmp_path / name).write_text('{"precious": 1}')
    with pytest.raises(UserError, match=r"holds (something else|masks by another model)"):
        segment_folder(predictor, sorted(folder.glob("*.png")), tmp_path, concepts)
    assert (tmp_path / name).read_text() == '{"precious": 1}'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lab"], "lab has no concepts of its own: give --clusters or --concepts"),
        (["lab", "--clusters", "100000"], None),
        (["random:resnet18-fpn-8", "--concepts", "FITTED"], "has 8: they were fitted with another"),
        (["lab", "--clusters", "3", "--out-again"], "holds 2 concepts, not 3"),
    ],
)
def test_what_the_command_refuses(words, message, folder, predictor, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    fitted = fit_concepts(predictor, sorted(folder.glob("*.png")), 2)
    out.mkdir()
    fitted.save(out / "concepts.safetensors")
    words = [str(out / "concepts.safetensors") if word == "FITTED" else word for word in words]
    target = out if "--out-again" in words else tmp_path / "new"
    words = [word for word in words if word != "--out-again"]
    error = SystemExit if message is None else UserError
    with pytest.raises(error, match=message):
        ran(monkeypatch, capsys, words[0], folder, *words[1:], "-o", target)


@pytest.mark.parametrize("command", [segment, explore, export])
def test_concepts_of_another_model_of_the_same_width_are_refused(
    command, folder, tmp_path, monkeypatch
):
    for seed, name in enumerate(("mine", "other")):
        save_run(tmp_path / name, seeded_embedder(seed, backbone="resnet18", decoder="fpn", dim=3))
    mine = vice.load(tmp_path / "mine", device="cpu")
    images, file = sorted(folder.glob("*.png")), tmp_path / "fitted.safetensors"
    fitted = fit_concepts(mine, images, 2)
    fitted.save(file)
    assert mine.segment(images[0], concepts=fitted).shape == (33, 20)
    other = vice.load(tmp_path / "other", device="cpu")
    with pytest.raises(UserError, match="were fitted to embeddings of another model"):
        other.segment(images[0], concepts=Centroids.load(file))
    given = [] if command is export else [str(folder)]
    words = ["vice", str(tmp_path / "other"), *given, "--concepts", str(file)]
    words += ["--out", str(tmp_path / "out"), *(["--to", "torchscript"] * (command is export))]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UserError, match=r"fitted.safetensors: .* mean nothing in .*other"):
        command.main()
    assert not (tmp_path / "out").exists()


def test_concepts_that_another_model_has_left_are_not_taken(folder, tmp_path, monkeypatch, capsys):
    """As of a run that was trained again into its folder, before the first mask was written."""
    run, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    for seed in range(2):
        save_run(run, seeded_embedder(seed, backbone="resnet18", decoder="fpn", dim=3))
        if not seed:
            model = vice.load(run, device="cpu")
            fit_concepts(model, sorted(folder.glob("*.png")), 2).save(out / "concepts.safetensors")
    with pytest.raises(UserError, match="out holds concepts of another model: delete it, or"):
        ran(monkeypatch, capsys, run, folder, "--clusters", "2", "-o", out)


def test_masks_of_other_images_are_not_written_over(
    folder, predictor, concepts, tmp_path, rng, caplog
):
    out, other = tmp_path / "out", tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    Image.fromarray(photo(rng, (30, 30))).save(other / "b.png")
    Image.fromarray(photo(rng, (30, 30))).save(other / "new.png")
    mine, before = sorted(folder.rglob("*.*g")), {}
    segment_folder(predictor, mine, out, concepts)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    with pytest.raises(UserError, match=r"masks/b.png is of another image, .*photos/b.png, and"):
        segment_folder(predictor, sorted(other.rglob("*.png")), out, concepts)
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    # Moved, changed in its place, and beside others.
    moved = folder.rename(tmp_path / "moved")
    Image.fromarray(photo(rng, (31, 31))).save(moved / "b.png")
    again = segment_folder(predictor, [moved / "a.jpg", moved / "inner" / "a.png"], out, concepts)
    assert (again.done, again.reused) == (2, 2)
    assert "masks of 1 other images, of an earlier call, stay there" in caplog.text
    caplog.clear()
    segment_folder(predictor, [moved / "a.jpg", other / "new.png"], tmp_path / "all", concepts)
    open_written(out)
    assert "1 masks are in no line of summary.csv, and left out: b.png" in caplog.text


@pytest.mark.parametrize(
    "record", ["explorer.json", "selection.json", "train_config.yaml", "segmentation.json"]
)
@pytest.mark.parametrize("command", [segment, select])
def test_no_two_commands_write_into_a_folder(command, record, folder, tmp_path, monkeypatch):
    own = "segmentation.json" if command is segment else "selection.json"
    out = tmp_path / "out"
    out.mkdir()
    (out / record).write_text("{}")
    monkeypatch.setattr(vice, "load", lambda *_, **__: pytest.fail("a model is loaded"))
    words = ["vice", "lab", str(folder), "--out", str(out)] + ["-n", "2"] * (command is select)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(pytest.fail.Exception if record == own else UserError) as error:
        command.main()
    assert record == own or re.search(r"holds .* \(.*\): choose another", str(error.value))
    assert os.listdir(out) == [record]


def test_too_little_memory_is_said_while_concepts_are_fitted(folder, tmp_path, monkeypatch, capsys):
    words = ("--clusters", 2, "--memory", 1, "-o", tmp_path / "out")
    with pytest.raises(
        UserError, match=r"none of 3 images .*a.jpg: decoding it takes .*; give more"
    ):
        ran(monkeypatch, capsys, "lab", folder, *words)
    assert not (tmp_path / "out" / "concepts.safetensors").exists()


def test_fitting_is_refused_before_it_takes_time(folder, predictor, concepts, tmp_path, monkeypatch,
                                                 capsys):  # fmt: skip
    out = tmp_path / "out"
    segment_folder(predictor, sorted(folder.glob("*.png")), out, concepts)
    monkeypatch.setattr(fitting, "_fit", lambda *_: pytest.fail("concepts are fitted"))
    with pytest.raises(UserError, match="holds masks by other concepts"):
        ran(monkeypatch, capsys, "lab", folder, "--clusters", 2, "-o", out)


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("command", [segment, select, explore])
def test_output_that_holds_the_images_is_refused(command, above, folder, monkeypatch):
    before = files(folder)
    out = folder.parent if above else folder
    more = ["-n", "2"] if command is select else []
    words = ["vice", "lab", str(folder), *more, "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(
        UserError, match="all 3 images lie in this output folder; choose one beside"
    ):
        command.main()
    assert files(folder) == before


def test_what_was_written_is_not_taken_for_photographs(folder, tmp_path, monkeypatch, capsys):
    """Masks and an explorer below the images: by the call that writes them, and by others."""
    monkeypatch.setattr(sys, "argv", ["vice", "lab", str(folder), "--clusters", "2", "--out",
                                      str(folder / "explorer"), "--device", "cpu"])  # fmt: skip
    explore.main()
    for _ in range(2):
        said = ran(monkeypatch, capsys, "lab", folder, "--clusters", 2, "-o", folder / "masks")
        assert "3 masks of 2 concepts" in said
    found = survey(folder)
    assert found.used.total() == 3
    assert found.inner == ["explorer (written by ViCE)", "masks (written by ViCE)"]
    assert "folders not looked into: explorer (written by ViCE), masks" in found.line()
    # Named itself, a folder is what it is.
    assert survey(folder / "masks").used.total() == 6


def test_concepts_that_cannot_be_meant(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.txt").write_text("sky")
    (tmp_path / "bare.json").write_text('{"format": "vice-concepts-1", "concepts": []}')
    for name, message in (
        ("notes.txt", "concepts are a concepts.json of vice explore, or the concepts.safetensors"),
        ("nowhere.json", "nowhere.json: no such file; the page that vice explore wrote"),
        ("bare.json", "does not say of which model its concepts are"),
    ):
        with pytest.raises(UserError, match=message):
            ran(monkeypatch, capsys, "lab", folder, "--concepts", tmp_path / name, "-o",
                tmp_path / "out")  # fmt: skip
