from __future__ import annotations

import torch

from vice.runtime.provenance import versions


def test_versions_names_what_is_installed():
    found = versions()
    assert torch.__version__.startswith(found["torch"])
    assert "python" in found and "vice" in found
    assert all(isinstance(value, str) and value for value in found.values())
