"""MMSegmentation reads images and label maps the way the rest of ViCE does."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from vice.errors import UserError
from vice.images import read_image


@TRANSFORMS.register_module()
class ViceLoadImage(BaseTransform):
    """Loads ``results["img_path"]`` with `vice.images.read_image`.

    Grey, 16-bit, CMYK, RGBA and EXIF-rotated files come out as in training and in
    ``vice.load(...)``; of a benchmark's release, pixels stay in the order in which they are stored,
    as its labels are. Adds ``img`` (uint8 (H, W, 3), BGR as MMSegmentation's transforms expect),
    ``img_shape`` and ``ori_shape``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads the file.

        Raises:
            ImageError: It cannot be read; the message names it.
        """
        data = results.get("vice_dataset")
        upright = data is None or data.upright
        image = np.ascontiguousarray(read_image(results["img_path"], upright=upright)[..., ::-1])
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class ViceLoadLabels(BaseTransform):
    """Loads ``results["seg_map_path"]`` as class indices, by the data set's label set.

    Adds ``gt_seg_map`` (uint8 (H, W), 255 = ignore).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads the file.

        Raises:
            UserError: It cannot be read, holds a value that is no class, or is not of the size
                of its image.
        """
        path = results["seg_map_path"]
        labels = results["vice_dataset"].read_label(path)
        if labels.shape != tuple(results["ori_shape"]):
            raise UserError(
                f"{path}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image has "
                f"{results['ori_shape'][1]}x{results['ori_shape'][0]}; they must match"
            )
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
        return results
