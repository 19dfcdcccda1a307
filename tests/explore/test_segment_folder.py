"""Masks of a folder: files, table, going on, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vice
from tests.explore.conftest import files, ran
from tests.helpers.content import photo
from tests.helpers.forked import Forked
from vice.command import explore, fitting, segment, select
from vice.errors import UserError
from vice.explore.export_masks import export_masks
from vice.explore.fitted_concepts import fit_concepts
from vice.explore.mask_files import mask_names, read_mask, write_mask
from vice.explore.mask_way import MaskWay
from vice.explore.named_concepts import DROPPED, NamedConcepts
from vice.explore.segment_folder import segment_folder
from vice.explore.written_masks import MasksByImage, open_written
from vice.models.centroids import Centroids
from vice.models.concepts import Concepts
from vice.runtime.folder_lock import writer_if_free
from vice.runtime.preemption import Preempted
from vice.visualize.maps import colorize, palette


def test_masks_are_what_the_predictor_says(folder, predictor, concepts, tmp_path):
    images = sorted(folder.rglob("*.*g"))
    out = tmp_path / "out"
    found = segment_folder(predictor, images, out, concepts, names=["black", "gray, dark", "white"])
    assert (found.done, found.reused, found.unread) == (3, 0, {})
    assert [f for f in files(out) if not f.startswith(".")] == [
        "masks/a.png", "masks/b.png", "masks/inner/a.png",
        "overlays/a.jpg", "overlays/b.jpg", "overlays/inner/a.jpg",
        "segmentation.json", "summary.csv",
    ]  # fmt: skip
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.zeros(3)
    for image, row in zip(images, rows, strict=True):
        labels = predictor.segment(image, concepts).numpy()
        with Image.open(out / "masks" / row["mask"]) as mask:
            assert mask.mode == "P"
            assert (np.asarray(mask) == labels).all()
            assert (np.asarray(mask.convert("RGB")) == colorize(labels, 3, ignore=None)).all()
        assert [int(row["height"]), int(row["width"])] == list(labels.shape)
        shares = [float(row[name]) for name in ("black", "gray, dark", "white")]
        assert shares == pytest.approx([(labels == k).mean() for k in range(3)], abs=1e-6)
        pixels += [(labels == k).sum() for k in range(3)]
    assert found.shares == pytest.approx(pixels / pixels.sum())


def test_goes_on_where_it_was(folder, predictor, concepts, tmp_path):
    images, out = sorted(folder.rglob("*.*g")), tmp_path / "out"
    segment_folder(predictor, images[:1], out, concepts)
    table = (out / "summary.csv").read_bytes()
    assert segment_folder(predictor, images[:1], out, concepts).reused == 1
    assert (out / "summary.csv").read_bytes() == table
    undisturbed = tmp_path / "undisturbed"
    segment_folder(predictor, images, undisturbed, concepts)
    segment_folder(predictor, images, out, concepts)
    mask, picture = undisturbed / "masks" / "b.png", undisturbed / "overlays" / "inner" / "a.jpg"
    wanted = {file: (undisturbed / file).read_bytes() for file in files(undisturbed)}
    mask.write_bytes(mask.read_bytes()[:50])
    picture.unlink()
    found = segment_folder(predictor, images, undisturbed, concepts)
    assert found.reused == 1
    assert {file: (undisturbed / file).read_bytes() for file in files(undisturbed)} == wanted


@pytest.mark.parametrize("broken", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_what_cannot_be_read_is_counted_and_named(broken, folder, predictor, concepts, tmp_path):
    (folder / "c.jpg").write_bytes(broken)
    images = sorted(folder.rglob("*.*g"))
    found = segment_folder(predictor, images, tmp_path / "out", concepts, overlays=False)
    assert found.done == 3 and [Path(name).name for name in found.unread] == ["c.jpg"]
    assert not (tmp_path / "out" / "overlays").exists()
    assert "c.png" not in (tmp_path / "out" / "summary.csv").read_text()
    with pytest.raises(UserError, match=r"none of 1 images could be segmented: .*c\.jpg"):
        segment_folder(predictor, [folder / "c.jpg"], tmp_path / "other", concepts)
    # A folder without a mask holds masks of nothing, and takes others.
    others = Concepts.euclidean(torch.tensor([[0.0, 0, 0], [90, 0, 0]]))
    assert segment_folder(predictor, images, tmp_path / "other", others).done == 3


def test_no_two_images_share_a_mask(tmp_path):
    names = ["a.jpg", "a.png", "A.tif", "b", "b.png", "d/a.jpg", "d.x/y", "d.x/y.jpg", "ü.jpg"]
    masks = mask_names([tmp_path / name for name in names])
    assert len({str(mask).casefold() for mask in masks}) == len(names)
    assert all(mask.suffix == ".png" for mask in masks)
    assert masks[5] == Path("d/a.png") and masks[0] == Path("a.jpg.png")
    assert mask_names([tmp_path / "deep" / "a.jpg"]) == [Path("a.png")]
    with pytest.raises(UserError, match=r"a\.jpg and A\.JPG would get one mask, A\.JPG\.png"):
        mask_names([tmp_path / name for name in ("a.jpg", "A.JPG")])


ODD = (os.fsdecode(b"byte\xff.png"), "new\nline.png", "tab\t.png", "back\\nslash.png", "ü😀.png")


def test_odd_file_names_lead_from_the_table_back_to_the_files(predictor, concepts, tmp_path, rng):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ODD:
        Image.fromarray(photo(rng, (24, 32))).save(photos / name)
    images = sorted(photos.iterdir())
    for reused in (0, len(ODD)):
        assert segment_folder(predictor, images, out, concepts).reused == reused
    # A table that every program reads, with a line for each.
    lines = (out / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(ODD)
    masks = open_written(out)
    assert [Path(image) for image in masks.images] == images
    assert sorted(masks.files) == sorted(ODD)
    for image in images:
        assert MasksByImage(masks).read(image).shape == (24, 32)
    assert export_masks(out, tmp_path / "51", "fiftyone") == "5 masks, 5 images"
    said = "images are named as they were given; names of 1 are no UTF-8"
    assert said in export_masks(out, tmp_path / "coco", "coco")
    assert said in export_masks(out, tmp_path / "studio", "labelstudio")
    tasks = json.loads((tmp_path / "studio" / "tasks.json").read_text())
    assert [Path(each["data"]["image"]) for each in tasks] == images
    named = json.loads((tmp_path / "coco" / "annotations.json").read_text())["images"]
    assert [Path(each["file_name"]) for each in named] == images
    with pytest.raises(UserError, match="CVAT's format cannot hold the file name"):
        export_masks(out, tmp_path / "cvat", "cvat")


def test_titles_of_the_table_are_all_different(predictor, tmp_path, rng):
    Image.fromarray(photo(rng, (24, 32))).save(tmp_path / "a.png")
    names = ["image", "dropped", "mask", "mask (concept)", "sky"]
    vectors = Concepts.euclidean(torch.eye(6, 3) * 50 + torch.arange(6)[:, None])
    grouped = NamedConcepts(vectors, np.array([0, 1, 2, 3, 4, DROPPED]), names)
    single = NamedConcepts.single(vectors, [*names, "a"])
    for concepts, last in ((grouped, ["dropped"]), (single, [])):
        out = tmp_path / f"out{len(last)}"
        segment_folder(vice.load("lab", device="cpu"), [tmp_path / "a.png"], out, concepts)
        with (out / "summary.csv").open(newline="") as file:
            titles = next(csv.reader(file))
        assert titles[:4] == ["image", "mask", "height", "width"]
        assert len(set(titles)) == len(titles)
        of_concepts = titles[4 : len(titles) - len(last)]
        assert [title.split(" (concept)")[0] for title in of_concepts[:3]] == names[:3]
        assert titles[len(titles) - len(last) :] == last
        assert ("dropped (concept)" in titles) is bool(last)


@pytest.mark.parametrize("count", [1, 2, 256, 257, 65536])
def test_masks_of_any_number_of_concepts(count, tmp_path, rng):
    labels = rng.integers(0, count, (7, 5))
    labels[0, :2] = 0, count - 1
    write_mask(labels, count, tmp_path / "x" / "m.png")
    assert (read_mask(tmp_path / "x" / "m.png") == labels).all()
    with Image.open(tmp_path / "x" / "m.png") as image:
        assert (image.mode == "P") == (count <= 256)
        if count <= 256:
            assert image.getpalette()[: 3 * count] == palette(count).ravel().tolist()
    with pytest.raises(ValueError, match="65537 concepts"):
        write_mask(labels, 65537, tmp_path / "m.png")


def test_fitted_concepts_are_those_of_the_folder(tmp_path, predictor):
    """Two flat colors: whatever the sample, their Lab values are the centroids."""
    for number, level in enumerate((20, 200)):
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    images = sorted(tmp_path.glob("*.png"))
    fitted = fit_concepts(predictor, images, 2, seed=3)
    wanted = sorted(float(predictor.embed(image)[0, 0, 0]) for image in images[:2])
    assert sorted(fitted.vectors[:, 0].tolist()) == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(UserError, match="none of 1 images"):
        fit_concepts(predictor, images[2:], 2)


def test_threads_change_nothing(folder, predictor, concepts, tmp_path):
    (folder / "c.jpg").write_bytes(b"no image")
    images = sorted(folder.rglob("*.*g"))
    outs = [tmp_path / f"{workers}" for workers in (0, 1, 5)]
    for workers, out in zip((0, 1, 5), outs, strict=True):
        segment_folder(predictor, images, out, concepts, workers=workers)
    for name in files(outs[0]):
        if name != ".lock":
            assert len({(out / name).read_bytes() for out in outs}) == 1, name


def test_processes_share_a_folder_by_parts(folder, predictor, concepts, tmp_path):
    for number in range(4):
        shutil.copy(folder / "b.png", folder / f"more-{number}.png")
    (folder / "c.jpg").write_bytes(b"no image")
    images, whole, out = sorted(folder.rglob("*.*g")), tmp_path / "whole", tmp_path / "out"
    segment_folder(predictor, images, whole, concepts)
    fitted, script = tmp_path / "concepts.safetensors", tmp_path / "segment.py"
    Centroids(concepts.vectors, spherical=False).save(fitted)
    script.write_text("from vice.command import segment\nsegment.main()\n")
    words = ("lab", folder, "--concepts", fitted, "-o", out, "--device", "cpu", "--part")
    running = [Forked([script, *words, f"{k}/3"], OMP_NUM_THREADS="1") for k in (1, 2, 3)]
    said = [each.wait() for each in running]
    assert [each.returncode for each in said] == [0, 0, 0], said
    assert [each.stdout.split()[0] for each in said] == ["3", "3", "1"]
    assert "not read: 1" in said[2].stdout
    tables = [(out / "parts" / f"{k}-of-3" / "summary.csv").read_text() for k in (1, 2, 3)]
    assert sum(len(table.splitlines()) - 1 for table in tables) == 7
    assert not (out / "summary.csv").exists()
    found = segment_folder(predictor, images, out, concepts)
    assert (found.done, found.reused) == (7, 7)
    for name in files(whole):
        if name != ".lock" and name != "segmentation.json":
            assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    with pytest.raises(UserError, match="part 9 of 9 has no image: there are 8"):
        segment_folder(predictor, images, out, concepts, part=(9, 9))


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/2/3", "-1/2"])
def test_parts_are_numbered_from_one(text, folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        ran(monkeypatch, capsys, "lab", folder, f"--part={text}", "-o", tmp_path / "out")
    assert "is not K/N with K from 1 to N" in capsys.readouterr().err


def test_parts_have_the_concepts_of_the_whole_folder(folder, tmp_path, monkeypatch, capsys):
    whole, out, script = tmp_path / "whole", tmp_path / "out", tmp_path / "segment.py"
    words = ("lab", folder, "--clusters", 2, "--seed", 3, "--device", "cpu", "-o")
    ran(monkeypatch, capsys, *words, whole)
    script.write_text("from vice.command import segment\nsegment.main()\n")
    running = [
        Forked([script, *words, out, "--part", f"{k}/2"], OMP_NUM_THREADS="1") for k in (1, 2)
    ]
    said = [each.wait() for each in running]
    assert [each.returncode for each in said] == [0, 0], said
    assert "masks of 2 concepts" in ran(monkeypatch, capsys, *words, out)
    for name in files(whole):
        # The concepts' own header comes in any order; the record has their digest.
        if name not in (".lock", fitting.CONCEPTS_NAME):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    for change, message in (
        ("--seed", "fitted with --seed 3, not 4"),
        ("--clusters", "2 concepts, not 4"),
    ):
        other = [
            4 if before == change else word
            for before, word in zip(("", *words[:-1]), words, strict=True)
        ]
        with pytest.raises(UserError, match=message):
            ran(monkeypatch, capsys, *other, out, "--part", "1/2")


def test_a_part_waits_for_the_one_that_fits_the_concepts(folder, tmp_path, monkeypatch, capsys):
    out, held = tmp_path / "out", []
    lock = writer_if_free(out)
    assert lock.__enter__()

    def done(seconds):
        """The other part has been stopped before it was through: its place is free."""
        held.append(seconds)
        if len(held) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(fitting.time, "sleep", done)
    words = ("lab", folder, "--clusters", 2, "--device", "cpu", "-o", out, "--part", "2/2")
    assert "masks of 2 concepts" in ran(monkeypatch, capsys, *words)
    assert len(held) == 2 and (out / fitting.CONCEPTS_NAME).exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", ["asked", "interrupted"])
def test_what_is_stopped_leaves_a_table_and_goes_on(
    way, workers, folder, predictor, concepts, tmp_path, caplog
):
    for number in range(9):
        shutil.copy(folder / "b.png", folder / f"more-{number}.png")
    images, out, asked = sorted(folder.rglob("*.*g")), tmp_path / "out", []

    def stopped():
        asked.append(None)
        if way == "interrupted" and len(asked) == 5:
            raise KeyboardInterrupt
        return len(asked) >= 5

    if way == "asked":
        found = segment_folder(predictor, images, out, concepts, workers=workers, stopped=stopped)
        assert (found.done, found.left) == (4, 8)
    else:
        with pytest.raises(KeyboardInterrupt):
            segment_folder(predictor, images, out, concepts, workers=workers, stopped=stopped)
    done = len((out / "summary.csv").read_text().splitlines()) - 1
    assert done == 4 or (way == "interrupted" and 4 - workers - 1 <= done <= 4)
    assert json.loads((out / "segmentation.json").read_text())["left"] == 12 - done
    assert len(open_written(out).files) == done and f"lacks the masks of {12 - done}" in caplog.text
    whole = tmp_path / "whole"
    segment_folder(predictor, images, whole, concepts)
    assert segment_folder(predictor, images, out, concepts).reused >= done
    for name in ("summary.csv", "segmentation.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_images_are_held_a_few_at_a_time(folder, predictor, concepts, tmp_path, monkeypatch):
    held, most = set(), []

    def read(way, pair):
        made = real(way, pair)
        held.add(made.target)
        most.append(len(held))
        return made

    def write(way, made):
        done = really(way, made)
        held.discard(done.target)
        assert done.given is done.labels is done.dense is None
        return done

    real, really = MaskWay.read, MaskWay.write
    monkeypatch.setattr(MaskWay, "read", read)
    monkeypatch.setattr(MaskWay, "write", write)
    for number in range(30):
        shutil.copy(folder / "b.png", folder / f"more-{number}.png")
    images = sorted(folder.rglob("*.*g"))
    segment_folder(predictor, images, tmp_path / "out", concepts, workers=3)
    assert len(most) == 33 and max(most) <= 2 * 3 + 2


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_command_where_it_can_go_on(
    signal_name, folder, tmp_path, monkeypatch, capsys
):
    for number in range(5):
        shutil.copy(folder / "b.png", folder / f"more-{number}.png")
    words, real, seen = (
        ("lab", folder, "--clusters", 2, "-o", tmp_path / "out"),
        MaskWay.segment,
        [],
    )

    def segment_and_signal(way, image):
        seen.append(image.target)
        if len(seen) == 3:
            os.kill(os.getpid(), number)
        return real(way, image)

    monkeypatch.setattr(MaskWay, "segment", segment_and_signal)
    # A shell's background jobs ignore Ctrl-C, and what is ignored stays so.
    number = getattr(signal, signal_name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(Preempted, match=f"stopped by {signal_name} after 3 of 8") as end:
            ran(monkeypatch, capsys, *words)
    finally:
        signal.signal(number, before)
    assert end.value.code == 75
    table = (tmp_path / "out" / "summary.csv").read_text()
    assert len(table.splitlines()) == 4
    monkeypatch.setattr(MaskWay, "segment", real)
    monkeypatch.setattr(sys, "argv", [])
    assert "8 masks of 2 concepts" in (said := ran(monkeypatch, capsys, *words))
    assert "(3 were there)" in said


def test_the_command(folder, run_dir, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    said = ran(monkeypatch, capsys, run_dir, folder, folder / "a.jpg", "-o", out)
    assert said.startswith(f"3 masks of 6 concepts in {out}\nmost common: ")
    own = vice.load(run_dir).segment(folder / "a.jpg").numpy()
    assert (read_mask(out / "masks" / "a.png") == own).all()
    (folder / "broken.png").write_bytes(b"")
    fitted = tmp_path / "fitted"
    said = ran(monkeypatch, capsys, "lab", folder, "--clusters", 4, "-o", fitted, "--no-overlays")
    assert "3 masks of 4 concepts" in said and "\nnot read: 1 images\n" in said
    again = ran(monkeypatch, capsys, "lab", folder, "--clusters", 4, "-o", fitted, "--no-overlays")
    assert "(3 were there)" in again
    more = ran(monkeypatch, capsys, "lab", folder, "--concepts", fitted / "concepts.safetensors",
               "-o", tmp_path / "more")  # fmt: skip
    assert "3 masks of 4 concepts" in more
    for name in os.listdir(fitted / "masks"):
        if name.endswith(".png"):
            ours, theirs = fitted / "masks" / name, tmp_path / "more" / "masks" / name
            assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("part", [1, 2])
def test_parts_know_of_one_another(part, folder, predictor, concepts, tmp_path, caplog):
    images = sorted(folder.rglob("*.*g"))
    segment_folder(predictor, images, tmp_path / "out", concepts)
    segment_folder(predictor, images, tmp_path / "out", concepts, part=(part, 2))
    assert "other images" not in caplog.text


@pytest.mark.parametrize("command", [segment, select, explore])
def test_what_was_passed_over_in_images_is_said(
    command, folder, tmp_path, monkeypatch, capsys, rng
):
    frames = [Image.fromarray(photo(rng, (24, 24))) for _ in range(3)]
    for name in ("film.gif", "film.webp", "film.png"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    frames[0].convert("CMYK").save(folder / "print.jpg")
    frames[0].save(folder / "wide.png", icc_profile=b"Display P3")
    more = ["-n", "2"] if command is select else ["--clusters", "2"]
    words = ["vice", "lab", str(folder), *more, "--out", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    said = capsys.readouterr().out
    assert "only the first frame or page is used (3)" in said
    assert "CMYK is converted without a profile (1)" in said
    assert "a colour profile other than sRGB is not applied (1)" in said
