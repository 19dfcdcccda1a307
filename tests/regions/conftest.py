"""The ways in which regions are pooled on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vice.regions import compiled, pool
from vice.regions.compiled.shared_library import library


@pytest.fixture(scope="module", params=["compiled", "at once", "map by map"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """float32 by compiled C; without it small maps at once, and here also as larger ones are."""
    if request.param == "compiled" and library() is None:
        pytest.skip("no C compiler")
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "compiled":
            patch.setattr(compiled, "takes", lambda _: False)
        if request.param == "map by map":
            patch.setattr(pool, "fits", lambda *some: False)
            patch.setattr(pool, "representatives_fit", lambda *some: False)
        yield


@pytest.fixture(scope="module")
def plain() -> Iterator[None]:
    """As on a machine without a C compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "takes", lambda _: False)
        yield
