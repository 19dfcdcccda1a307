"""A user of VISSL reads keys, wherever an error of the core leaves the plugin."""

from __future__ import annotations

import pytest

from tests.plugins.vissl.conftest import overrides
from vice.errors import OptionError, UserError
from vice.plugins.vissl.config.configure import configure
from vice.plugins.vissl.launcher import run_here
from vice.plugins.vissl.option_keys import spelled, with_keys


def test_only_errors_that_name_arguments_change():
    error = ValueError("{num_prototypes}")
    assert with_keys(error) is error
    with pytest.raises(UserError, match="^set config.VICE.PROTOTYPES.num_prototypes$"), spelled():
        raise OptionError("set {num_prototypes}")
    with pytest.raises(ValueError, match="^{num_prototypes}$"), spelled():
        raise error


def test_every_way_out_of_the_plugin_says_keys(images, tmp_path, monkeypatch):
    from vice.plugins.vissl.engine import ViceEngine

    with pytest.raises(UserError, match=r"config\.VICE\.SUPERPIXELS\.folder=FOLDER"):
        configure(overrides(images, tmp_path, "config.VICE.SUPERPIXELS.method=files"))
    _, config = configure(overrides(images, tmp_path / "run"))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(UserError, match=r"config\.DISTRIBUTED\.RUN_ID=HOST:PORT \(on SLURM"):
        ViceEngine().run_engine(config, "127.0.0.1:port", "", str(tmp_path))
    (tmp_path / "file").write_text("")
    config.CHECKPOINT.DIR = str(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"config\.CHECKPOINT\.DIR=.*file.run cannot be used"):
        run_here(config, 0)
