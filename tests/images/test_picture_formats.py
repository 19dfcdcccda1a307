"""Pictures of known formats are read, programs that are called so are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from vice.images import ImageError, read_image
from vice.images.picture_formats import open_picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_pictures(tmp_path, kind):
    Image.fromarray(np.full((8, 9, 3), 200, np.uint8)).save(tmp_path / "any.name", kind)
    with open_picture(tmp_path / "any.name") as image:
        assert image.format == kind and image.size == (9, 8)


def test_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: pytest.fail("ran"))
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "EPS")
    (tmp_path / "photo.jpg").write_bytes(data.getvalue())
    with pytest.raises(ImageError, match=r"photo\.jpg"):
        read_image(tmp_path / "photo.jpg")
