"""Views of several images as one batch."""

from __future__ import annotations

import pytest

from vice.views import ViewSampler
from vice.views.batch import ViewBatches
from vice.views.photometric import Photometric


def test_workers_cannot_change_views_that_are_not_cut():
    with pytest.raises(ValueError, match="cut after them"):
        ViewBatches(ViewSampler(), Photometric(), cut_on="device", change_on="workers")
