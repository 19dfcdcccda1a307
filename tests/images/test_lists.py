"""What is found in a folder or a list is counted, and said once."""

from __future__ import annotations

import json
import logging
import os

import pytest

from vice.errors import UserError
from vice.images import list_images
from vice.images import lists as image_lists
from vice.images.lists import announce, fingerprint_list, survey


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.jpg", "sub/b.JPG", "sub/c.png", "1.NEF", "2.NEF", "notes.txt", "README",
                 ".hidden/d.png", "._a.jpg"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "empty.png").touch()
    (folder / "broken.png").symlink_to("gone.png")
    return folder


def test_everything_is_counted_by_suffix(photos):
    found = survey(photos)
    assert found.used == {".jpg": 1, ".JPG": 1, ".png": 3}
    assert found.ignored == {".NEF": 2, ".txt": 1, "without suffix": 1}
    assert found.hidden == 2
    assert found.unusable == {"empty files": 1, "broken links": 1}
    assert found.line() == (
        f"{photos}: 5 images (.png 3, .JPG 1, .jpg 1); ignored: .NEF 2, .txt 1, without suffix 1; "
        "2 hidden; among them: 1 broken link, 1 empty file"
    )
    assert json.loads(json.dumps(found.to_dict()))["files"] == len(list_images(photos))


def test_a_place_is_named_once(photos, caplog, monkeypatch):
    monkeypatch.setattr(image_lists, "_said", set())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            announce(survey(photos))
        (photos / "new.webp").write_bytes(b"x")
        announce(survey(photos))
    assert [".webp 1" in record.message for record in caplog.records] == [False, True]


def test_folders_that_cannot_be_listed(photos, monkeypatch):
    real = os.scandir

    def scandir(path):
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = survey(photos)
    assert found.unreadable == [f"{photos / 'sub'} (Permission denied)"]
    assert f"folders that cannot be read: {photos / 'sub'} (Permission denied)" in found.line()


def test_a_list_says_what_is_missing(photos):
    listing = photos / "list.txt"
    listing.write_text("a.jpg\nsub/c.png\ngone.png\nempty.png\n")
    assert survey(listing).line() == (
        f"{listing}: 4 images (.png 3, .jpg 1); among them: 1 missing, 1 empty file"
    )


def test_only_so_many_files_are_looked_at(photos, monkeypatch):
    monkeypatch.setattr(image_lists, "LOOKS", 3)
    found = survey(photos)
    assert found.looked_at == 3
    assert "among the first 3: 1 broken link" in found.line()


def test_nothing_usable_is_refused_with_what_is_there(photos):
    for path in (photos / "a.jpg", photos / "sub" / "b.JPG", photos / "sub" / "c.png"):
        path.unlink()
    with pytest.raises(UserError, match="none of its 2 images can be read: 1 broken link, 1 empt"):
        survey(photos)
    for path in (photos / "empty.png", photos / "broken.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"known suffixes: .* \(ignored: \.NEF 2, \.txt 1"):
        list_images(photos)


def test_names_that_are_no_text(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with open(os.fsencode(tmp_path) + b"/stra\xdfe.\xdf", "w"):
        pass
    found = survey(tmp_path)
    assert found.ignored == {"odd suffix": 1}
    found.unreadable = [os.fsdecode(b"stra\xdfe")]
    found.line().encode()
    json.dumps(found.to_dict()).encode()


def test_a_set_of_images_is_known_again_wherever_it_lies(photos):
    before = fingerprint_list(list_images(photos))
    moved = photos.rename(photos.with_name("moved"))
    assert fingerprint_list(list_images(moved)) == before and "images (" in before
    (moved / "a.jpg").write_bytes(b"xy")
    other_size = fingerprint_list(list_images(moved))
    (moved / "a.jpg").rename(moved / "z.jpg")
    other_name = fingerprint_list(list_images(moved))
    (moved / "z.jpg").unlink()
    assert len({before, other_size, other_name, fingerprint_list(list_images(moved))}) == 4


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_lists_of_other_systems(photos, encoding, tmp_path):
    (photos / "sub" / "e\u0301.png").write_bytes(b"x")
    text = "sub\\c.png\r\nsub\\\xe9.png\r\na.jpg\r\n"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (photos / "list.txt").write_bytes((mark + text).encode(encoding))
    found = survey(photos / "list.txt")
    assert list_images(photos / "list.txt") == [
        photos / "sub/c.png", photos / "sub/e\u0301.png", photos / "a.jpg"
    ]  # fmt: skip
    assert found.notes == ["2 paths with backslashes are read with slashes"]
    assert "2 paths with backslashes" in found.line() and found.to_dict()["notes"] == found.notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,mask,image\n1,m.png,sub/c.png\n2,m.png,a.jpg\n"),
        ("a.csv", '"sub/c.png";0\n"a.jpg";1\n'),
        ("a.tsv", "image\tx\nsub/c.png\t0\na.jpg\t1\n"),
        ("a.csv", "path\nsub/c.png\na.jpg\n"),
    ],
)
def test_tables_of_images(photos, name, text):
    (photos / name).write_text(text)
    assert list_images(photos / name) == [photos / "sub/c.png", photos / "a.jpg"]


def test_a_table_without_images_is_refused(photos):
    (photos / "a.csv").write_text("id,name\n1,sky\n")
    with pytest.raises(UserError, match="no column holds names of images"):
        list_images(photos / "a.csv")
