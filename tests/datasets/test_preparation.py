"""Data preparation on small archives of the official layout."""

from __future__ import annotations

import dataclasses
import zipfile

import pytest

from vice.datasets import preparation
from vice.datasets.preparation import PARTS, prepare
from vice.errors import UserError


@pytest.fixture(params=sorted(PARTS))
def small(request, monkeypatch):
    """A data set whose official release has three images."""
    part = dataclasses.replace(PARTS[request.param], images=3)
    monkeypatch.setitem(preparation.PARTS, request.param, part)
    return request.param, part


def write_archive(path, part, images=3):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "not an image")
        for number in range(images):
            archive.writestr(f"{part.inside}/city/{number}.jpg", bytes([number] * 50))


def test_archive_is_unpacked_and_repeating_keeps_whole_files(small, tmp_path):
    name, part = small
    (tmp_path / "downloads").mkdir()
    write_archive(tmp_path / "downloads" / part.archive, part)
    root = tmp_path / "root"
    assert prepare(name, root, tmp_path / "downloads") == 3
    files = sorted((root / part.folder).rglob("*.jpg"))
    assert [file.read_bytes() for file in files] == [bytes([n] * 50) for n in range(3)]
    before = files[0].stat().st_mtime_ns
    files[1].write_bytes(b"cut short")
    assert prepare(name, root, tmp_path / "downloads") == 3
    assert files[0].stat().st_mtime_ns == before
    assert files[1].read_bytes() == bytes([1] * 50)
    assert not list(root.rglob("*.part"))


def test_extracted_images_are_linked(small, tmp_path):
    name, part = small
    extracted = tmp_path / "downloads" / part.inside
    extracted.mkdir(parents=True)
    for number in range(3):
        (extracted / f"{number}.png").write_bytes(b"x")
    root = tmp_path / "root"
    assert prepare(name, root, tmp_path / "downloads") == 3
    assert (root / part.folder).is_symlink()
    assert prepare(name, root) == 3


def test_nothing_there(small, tmp_path):
    name, part = small
    with pytest.raises(UserError, match=f"download {part.archive} from .* --source"):
        prepare(name, tmp_path / "root", tmp_path)


def test_images_missing(small, tmp_path):
    name, part = small
    write_archive(tmp_path / part.archive, part, images=2)
    with pytest.raises(UserError, match="holds 2 images, the official release has 3"):
        prepare(name, tmp_path / "root", tmp_path)


def test_corrupt_archive(small, tmp_path):
    name, part = small
    write_archive(tmp_path / part.archive, part)
    content = bytearray((tmp_path / part.archive).read_bytes())
    (tmp_path / part.archive).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is corrupt"):
        prepare(name, tmp_path / "root", tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(UserError, match="data set 'ade20k' is unknown; choose one of"):
        prepare("ade20k", tmp_path)
