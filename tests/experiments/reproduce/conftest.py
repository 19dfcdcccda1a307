from __future__ import annotations

import pytest

from tests.plugins.mmseg.helpers import write_folder


@pytest.fixture(scope="session")
def stripes(tmp_path_factory):
    """A small labelled folder of three classes."""
    root = tmp_path_factory.mktemp("data") / "stripes"
    return write_folder(root, train=6, val=4, size=(64, 80), classes=("red", "green", "blue"))
