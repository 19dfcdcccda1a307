from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vice.errors import UserError
from vice.images import read_image
from vice.plugins.mmseg import ViceLoadImage


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_reads_as_the_rest_of_vice_but_bgr(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).convert(mode).save(path)
    results = ViceLoadImage()({"img_path": str(path)})
    np.testing.assert_array_equal(results["img"][..., ::-1], read_image(path))
    assert results["img_shape"] == results["ori_shape"] == (5, 7)
    assert results["img"].flags.c_contiguous


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.jpg"):
        ViceLoadImage()({"img_path": str(tmp_path / "a.jpg")})
