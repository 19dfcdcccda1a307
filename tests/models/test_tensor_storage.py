"""Views of a storage stay inside it."""

from __future__ import annotations

import pytest
import torch

from vice.models.tensor_storage import Storage


def storage(numel=6):
    return Storage(torch.float32, numel, bytearray(torch.arange(float(numel)).numpy().tobytes()))


def test_views():
    assert storage().view(1, (2, 2), (2, 1)).tolist() == [[1, 2], [3, 4]]
    assert storage().view(6, (0, 3), (3, 1)).shape == (0, 3)
    assert storage().view(5, (), ()) == 5
    assert storage().view(0, (12,), (1,), torch.int16).dtype == torch.int16


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (0, (2, 2), (5, 1)),
        (6, (), ()),
        (7, (0,), (1,)),
        (-1, (2,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
        (True, (2,), (1,)),
        (2**63, (0,), (1,)),
        (0, (2**62, 8), (0, 0)),
        (0, (10**9,), (0,)),
    ],
)
def test_what_reaches_outside(offset, size, stride):
    with pytest.raises(ValueError):
        storage().view(offset, size, stride)
