"""Archives: only what is wanted, only below its folder, whole or not at all."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from vice.datasets.archives import Extract, unpack
from vice.errors import UserError

MEMBERS = {"set/a.png": b"first", "set/b/c.png": b"second", "set/a.txt": b"no", "other/a.png": b""}


def pack(path, members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("set/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_what_is_wanted_is_written_once(tmp_path, name):
    target = tmp_path / "target"
    wanted = Extract(pack(tmp_path / name, MEMBERS), "set", ".png", target)
    unpack(wanted, 2)
    found = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*.*")}
    assert found == {"a.png": b"first", "b/c.png": b"second"}
    before = (target / "a.png").stat().st_mtime_ns
    (target / "b/c.png").write_bytes(b"sec")
    unpack(wanted, 2)
    assert (target / "a.png").stat().st_mtime_ns == before
    assert (target / "b/c.png").read_bytes() == b"second"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
@pytest.mark.parametrize("inside", ["set/../out.png", "set/b/../../../out.png", "set//etc/out.png"])
def test_nothing_is_written_outside(tmp_path, name, inside):
    archive = pack(tmp_path / name, {**MEMBERS, inside: b"escaped"})
    with pytest.raises(UserError, match=r"out\.png, which would be written outside of .*target"):
        unpack(Extract(archive, "set", ".png", tmp_path / "target"), 2)
    assert not list(tmp_path.rglob("out.png"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_half_an_archive_is_corrupt_and_leaves_no_half_file(tmp_path, name):
    archive = pack(tmp_path / name, {"set/a.png": bytes(range(256)) * 400})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 3])
    with pytest.raises(UserError, match=rf"{name} is corrupt \(.*\); download it again"):
        unpack(Extract(archive, "set", ".png", tmp_path / "target"), 2)
    assert not list((tmp_path / "target").glob("*"))
