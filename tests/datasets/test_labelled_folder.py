from __future__ import annotations

import pytest
from PIL import Image

from vice.datasets.labelled_folder import open_folder
from vice.errors import UserError


def write(root, kind, split, name, size=(6, 4), mode="RGB", **options):
    folder = root / kind / split
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size)
    image.save(folder / name, **options)


@pytest.fixture
def root(tmp_path):
    for split, names in (("train", "bca"), ("val", "x")):
        for name in names:
            write(tmp_path, "images", split, f"{name}.jpg")
            write(tmp_path, "labels", split, f"{name}.png", mode="L")
    (tmp_path / "classes.txt").write_text("sky\ngrey road \n\n")
    return tmp_path


def test_reads_the_layout(root):
    write(root, "images", "train", "d.PNG")
    write(root, "labels", "train", "d.png", mode="P")
    (root / "images" / "train" / "notes.txt").write_text("not an image")
    folder = open_folder(root)
    assert folder.classes == ("sky", "grey road")
    assert folder.splits() == ["train", "val"]
    pairs = folder.check("train")
    assert [pair.image.name for pair in pairs] == ["a.jpg", "b.jpg", "c.jpg", "d.PNG"]
    assert all(pair.label == root / "labels/train" / f"{pair.image.stem}.png" for pair in pairs)


def test_numbers_in_front_of_the_names_are_indices(root):
    (root / "classes.txt").write_text("1 grey road\n0 sky\n255 void\n")
    assert open_folder(root).classes == ("sky", "grey road")
    (root / "classes.txt").write_text("2nd floor\n1 roof\n")
    assert open_folder(root).classes == ("2nd floor", "1 roof")


def test_an_image_turned_by_exif_matches_its_upright_label(root):
    exif = Image.Exif()
    exif[274] = 6
    write(root, "images", "val", "turned.jpg", size=(6, 4), exif=exif)
    write(root, "labels", "val", "turned.png", size=(4, 6), mode="L")
    assert len(open_folder(root).check("val")) == 2


def break_class_file(root, text):
    (root / "classes.txt").write_text(text)


BROKEN = {
    "no partner": (lambda r: (r / "labels/train/b.png").unlink(), r"no label map for b\.jpg"),
    "no image": (lambda r: (r / "images/train/b.jpg").unlink(), r"no image for b\.png"),
    "no split": (lambda r: (r / "images/train").rename(r / "gone"), r"splits .*train, val"),
    "twins": (lambda r: write(r, "images", "train", "a.png"), "share one stem"),
    "empty": (lambda r: [p.unlink() for p in (r / "images/train").iterdir()], "no files ending"),
    "size": (lambda r: write(r, "labels", "train", "a.png", (5, 4), "L"), "5x4 .*6x4"),
    "colour": (lambda r: write(r, "labels", "train", "a.png", mode="RGB"), "'RGB'"),
    "deep": (lambda r: write(r, "labels", "train", "a.png", mode="I;16"), "8-bit grey"),
    "text": (lambda r: (r / "images/train/a.jpg").write_text("hi"), r"a\.jpg: cannot be read"),
    "no classes": (
        lambda r: (r / "classes.txt").unlink(),
        r"classes\.txt: no such file.* holds images, labels",
    ),
    "blank classes": (lambda r: break_class_file(r, "\n\n"), "empty"),
    "gap": (lambda r: break_class_file(r, "a\n\nb"), "line 2 is empty"),
    "twice": (lambda r: break_class_file(r, "a\nb\na"), "'a' stands there twice"),
    "numbers": (lambda r: break_class_file(r, "0 a\n2 b"), "not 0, 1, 2"),
    "many": (lambda r: break_class_file(r, "\n".join(map(str, range(256)))), "256 classes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named(root, case):
    spoil, message = BROKEN[case]
    spoil(root)
    with pytest.raises(UserError, match=message):
        open_folder(root).check("train")


#: Labels that `vice prepare folder` takes, and how they are written.
DESCRIBABLE = {
    "16-bit": ("png", {"mode": "I;16"}),
    "1-bit": ("png", {"mode": "1"}),
    "RGB": ("png", {"mode": "RGB"}),
    "RGB with transparency": ("png", {"mode": "RGBA"}),
    "LA": ("png", {"mode": "LA"}),
    "TIFF": ("tif", {"mode": "L"}),
    "TIFF, 16-bit": ("tiff", {"mode": "I;16"}),
    "BMP": ("bmp", {"mode": "L"}),
}


@pytest.mark.parametrize("all_of_them", [False, True])
@pytest.mark.parametrize("case", DESCRIBABLE)
def test_labels_that_a_description_takes_are_refused_with_its_name(root, case, all_of_them):
    suffix, options = DESCRIBABLE[case]
    for file in list((root / "labels" / "train").iterdir())[: None if all_of_them else 1]:
        file.unlink()
        write(root, "labels", "train", f"{file.stem}.{suffix}", **options)
    with pytest.raises(UserError, match="let vice prepare folder describe the set"):
        open_folder(root).check("train")


@pytest.mark.parametrize("mode", ["F", "CMYK"])
def test_labels_that_no_description_takes_are_refused_without_it(root, mode):
    write(root, "labels", "train", "a.tif", mode=mode)
    (root / "labels" / "train" / "a.tif").rename(root / "labels" / "train" / "a.png")
    with pytest.raises(UserError, match="pixel format") as error:
        open_folder(root).check("train")
    assert "prepare folder" not in str(error.value)


def test_other_layouts_are_refused_with_what_takes_them(root):
    (root / "labels" / "train" / "x").mkdir()
    for file in (root / "labels" / "train").glob("*.png"):
        file.rename(root / "labels" / "train" / "x" / file.name)
    with pytest.raises(UserError, match="lie in folders below.* let vice prepare folder"):
        open_folder(root).check("train")
    (root / "classes.txt").unlink()
    with pytest.raises(UserError, match="of another layout, let vice prepare folder"):
        open_folder(root)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such data set"):
        open_folder(tmp_path / "nowhere")
