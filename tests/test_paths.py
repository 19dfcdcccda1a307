from __future__ import annotations

import pytest

from vice import paths
from vice.errors import UserError


def test_checkout_and_wheel(tmp_path, monkeypatch):
    package = tmp_path / "site" / "vice"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    with pytest.raises(UserError, match="no configs"):
        paths.config_root()
    (tmp_path / "site" / "configs").mkdir()
    assert paths.config_root() == tmp_path / "site" / "configs"
    (package / "configs").mkdir()
    assert paths.config_root() == package / "configs"


def test_this_checkout_has_the_configs_of_mmsegmentation():
    assert (paths.config_root() / "mmseg" / "linear_folder.py").is_file()
