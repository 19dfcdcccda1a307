"""``vice install``: what it says, what it would run, and what it does."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest

from vice.command import install
from vice.errors import UserError
from vice.paths import requirements

CORE = {"torch", "torchvision", "numpy", "pillow", "opencv-contrib-python-headless", "safetensors"}


def lines(part):
    text = (requirements("training").parent / f"{part}.txt").read_text()
    return {line for line in text.splitlines() if not line.startswith("#")}


def test_lists_are_parts_of_what_is_tested_and_leave_the_core_alone():
    whole = {line.partition(" ;")[0] for line in lines("runtime")}
    for part in install.PARTS:
        pinned = {line.partition(" ;")[0] for line in lines(part)}
        assert pinned <= whole
        names = {pin.partition("==")[0] for pin in pinned}
        assert not names & CORE and not any(name.startswith("nvidia") for name in names)
    together = {pin.partition("==")[0] for part in install.PARTS for pin in lines(part)}
    assert {"vissl", "onedl-mmsegmentation", "faiss-cpu", "setuptools"} <= together


def test_pins_of_this_machine(tmp_path):
    path = tmp_path / "part.txt"
    path.write_text(
        "# a list\n\n"
        f"pytest=={version('pytest')}\n"
        "hypothesis==0.1 ; python_version >= '3.0'\n"
        "no-such-package==2.0\n"
        "colorama==9 ; sys_platform == 'no-system'\n"
    )
    pins = install.read_pins(path)
    assert [pin.name for pin in pins] == ["pytest", "hypothesis", "no-such-package"]
    assert [pin.same for pin in pins] == [True, False, False]
    said = install.describe(pins)
    assert said.startswith("1 of 3 packages are there as they should be\n")
    assert "new (1): no-such-package 2.0" in said
    assert f"of another version (1): hypothesis {version('hypothesis')} to 0.1" in said


def wheel(folder, name):
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        code = "it = 'right'\n"
        file.writestr(f"{name}/__init__.py", code)
        file.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch==0.0.1\n",
        )
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{name}/__init__.py,,{len(code)}\n")


def test_installs_without_looking_at_dependencies(tmp_path, monkeypatch, capfd):
    """Real pip, a list and a wheel of our own, into a folder of its own."""
    wheel(tmp_path, "vice_made_up")
    path = tmp_path / "training.txt"
    path.write_text("vice_made_up==1.0\n")
    monkeypatch.setattr(install, "requirements", lambda part: path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.setattr(sys, "argv", ["vice install", "training"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="nothing was installed; --yes"):
        install.main()
    assert not (tmp_path / "site").exists()
    monkeypatch.setattr(sys, "argv", ["vice install", "training", "--yes"])
    assert install.main() == 0
    assert (tmp_path / "site" / "vice_made_up" / "__init__.py").exists()
    assert "new (1): vice_made_up 1.0" in capfd.readouterr().out
    path.write_text("vice_not_there==1.0\n")
    with pytest.raises(UserError, match="pip ended with status 1"):
        install.main()


def test_what_another_package_has_overwritten_is_put_back(tmp_path, monkeypatch, capfd):
    wheel(tmp_path, "vice_made_up")
    path, site = tmp_path / "training.txt", tmp_path / "site"
    path.write_text("vice_made_up==1.0\n")
    monkeypatch.setattr(install, "requirements", lambda part: path)
    monkeypatch.setattr(install, "OVERWRITTEN", {"vice_made_up": "another"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(site))
    monkeypatch.setattr(sys, "argv", ["vice install", "training", "--yes"])
    monkeypatch.syspath_prepend(str(site))
    assert install.main() == 0
    module = site / "vice_made_up" / "__init__.py"
    right = module.read_bytes()
    module.write_text("it = 'an older copy'\n")
    assert not install.read_pins(path)[0].same
    monkeypatch.setenv("PIP_UPGRADE", "1")  # pip leaves folders that are there, of a target alone
    assert install.main() == 0
    assert "overwritten, to be put back (1): vice_made_up by another" in capfd.readouterr().out
    assert module.read_bytes() == right and install.read_pins(path)[0].same


def test_without_pip(monkeypatch):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="no pip; install the lists .* uv pip install --no-deps"):
        install._pip()


def test_what_is_there_is_not_installed_again(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vice install", "training", "scoring"])
    monkeypatch.setattr(subprocess, "run", None)
    assert install.main() == 0
    assert "packages are there as they should be" in capsys.readouterr().out
