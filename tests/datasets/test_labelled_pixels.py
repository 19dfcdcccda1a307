from __future__ import annotations

import pytest

from vice.datasets.labelled_pixels import warn_single_class


@pytest.mark.parametrize(
    ("classes", "absent", "only", "said"),
    [
        (["sky"], {"score": []}, "sky", "any model scores 100 %"),
        (["sky"], {}, "sky", "any model scores 100 %"),
        (["sky"], {"score": ["sky"]}, None, None),
        (["sky", "road"], {"score": ["sky"]}, "road", "whatever says it always scores 100 %"),
        (["sky", "road"], {"score": None}, None, None),
        (["sky", "road"], {"score": [], "fit": ["sky"]}, None, None),
        (["sky", "road", "car"], {"score": ["sky"]}, None, None),
    ],
)
def test_a_single_class_is_warned_of(classes, absent, only, said, caplog):
    assert warn_single_class(classes, absent, "val") == only
    assert len(caplog.messages) == (said is not None)
    assert all(f"of one class alone, {only}: {said}" in line for line in caplog.messages)
