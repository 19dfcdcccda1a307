"""MMSegmentation reads images the way the rest of ViCE does."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from vice.images import read_image


@TRANSFORMS.register_module()
class ViceLoadImage(BaseTransform):
    """Loads ``results["img_path"]`` with `vice.images.read_image`.

    Grey, 16-bit, CMYK, RGBA and EXIF-rotated files come out as in training and in
    ``vice.load(...)``. Adds ``img`` (uint8 (H, W, 3), BGR as MMSegmentation's transforms expect),
    ``img_shape`` and ``ori_shape``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads the file.

        Raises:
            ImageError: It cannot be read; the message names it.
        """
        image = np.ascontiguousarray(read_image(results["img_path"])[..., ::-1])
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results
