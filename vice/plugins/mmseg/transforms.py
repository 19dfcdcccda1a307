"""MMSegmentation reads images and label maps the way the rest of ViCE does."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from vice.datasets.label_sets import ALL, keep_part
from vice.images import read_image, resize
from vice.images.five_crops import five_crop_box
from vice.images.read import Interpolation
from vice.labels import IGNORE


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
        reading = None if data is None else data.reading
        pixels = read_image(results["img_path"], upright=upright, reading=reading)
        image = np.ascontiguousarray(pixels[..., ::-1])
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class ViceLoadLabels(BaseTransform):
    """Loads ``results["seg_map_path"]`` as class indices, by the data set's label set.

    Adds ``gt_seg_map`` (uint8 (H, W), 255 = ignore).

    Args:
        part: Part of the classes whose labels count, see `vice.datasets.label_sets.keep_part`.
    """

    def __init__(self, part: str = ALL) -> None:
        self.part = part

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads the file.

        Raises:
            UserError: It cannot be read, holds a value that is no class, or is not of the size
                of its image.
        """
        size = tuple(results["ori_shape"])
        data = results["vice_dataset"]
        labels = data.read_label(results["seg_map_path"], size)
        results["gt_seg_map"] = keep_part(labels, data.classes, self.part)
        results["seg_fields"].append("gt_seg_map")
        return results


@TRANSFORMS.register_module()
class ViceResize(BaseTransform):
    """Resizes as torchvision does images of Pillow, to the pixel; label maps to the nearest pixel.

    MMCV rounds the longer side where torchvision cuts it off, and so samples other pixels.

    Args:
        size: The shorter side, or (height, width).
        interpolation: Of the image: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.
    """

    def __init__(self, size: int | tuple[int, int], interpolation: str) -> None:
        self.size = size if isinstance(size, int) else list(size)
        self.interpolation = InterpolationMode(interpolation)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes the image and, if it is loaded, the label map."""
        for key in ("img", *results["seg_fields"]):
            mode = self.interpolation if key == "img" else InterpolationMode.NEAREST
            resized = tv.resize(Image.fromarray(results[key]), self.size, mode)
            results[key] = np.array(resized)
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class ViceScale(BaseTransform):
    """Multiplies both sides of an image by a factor, as IIC's training does.

    Args:
        factor: Sides are rounded, and at least 1.
        interpolation: Of the image, ``"bilinear"``, ``"bicubic"`` or ``"nearest"``; a label map
            takes the nearest pixel.
    """

    def __init__(self, factor: float, interpolation: Interpolation) -> None:
        self.factor, self.interpolation = factor, interpolation

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes the image and, if it is loaded, the label map."""
        height, width = (max(1, round(side * self.factor)) for side in results["img"].shape[:2])
        for key in ("img", *results["seg_fields"]):
            way: Interpolation = self.interpolation if key == "img" else "nearest"
            results[key] = np.ascontiguousarray(resize(results[key], height, width, way))
        results["img_shape"] = (height, width)
        return results


@TRANSFORMS.register_module()
class VicePad(BaseTransform):
    """Puts black around an image that is too small, on both sides alike; it is not labelled.

    Args:
        side: Least height and width.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pads the image and, if it is loaded, the label map."""
        missing = [max(0, self.side - length) for length in results["img"].shape[:2]]
        around = [(each // 2, each - each // 2) for each in missing]
        results["img"] = np.pad(results["img"], [*around, (0, 0)])
        for key in results["seg_fields"]:
            results[key] = np.pad(results[key], around, constant_values=IGNORE)
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class ViceFiveCrop(BaseTransform):
    """Cuts one of five crops: the four corners and the centre, as torchvision's ``five_crop``.

    ``results["crop"]`` says which: 0 top left, 1 top right, 2 bottom left, 3 bottom right, 4 the
    centre.

    Args:
        ratio: Sides of a crop as a share of the image's.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cuts the image and, if it is loaded, the label map."""
        height, width = results["img"].shape[:2]
        top, left, tall, wide = five_crop_box(height, width, results["crop"], self.ratio)
        for key in ("img", *results["seg_fields"]):
            results[key] = results[key][top : top + tall, left : left + wide]
        results["img_shape"] = (tall, wide)
        return results


@TRANSFORMS.register_module()
class VicePackBoth(PackSegInputs):
    """Packs an image with its label map at the size of the input and as stored.

    Beside what `PackSegInputs` gives, the sample gets ``gt_at_input``, int64 (1, h, w).

    Args:
        reload: Whether the label map is stored at another size than it has by now: ``gt_sem_seg``
            is then read anew, and ``ori_shape`` its size.
        part: As of `ViceLoadLabels`.
    """

    def __init__(self, *, reload: bool, part: str = ALL) -> None:
        super().__init__()
        self.reload, self.part = reload, part

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Packs."""
        at_input = results["gt_seg_map"]
        if self.reload:
            # Its size was compared with the image's when it was read first.
            data = results["vice_dataset"]
            labels = keep_part(data.read_label(results["seg_map_path"]), data.classes, self.part)
            results = {**results, "gt_seg_map": labels, "ori_shape": labels.shape}
        packed = super().transform(results)
        data = torch.from_numpy(at_input[None].astype(np.int64))
        packed["data_samples"].gt_at_input = PixelData(data=data)
        return packed


@TRANSFORMS.register_module()
class ViceTurn(BaseTransform):
    """Turns and scales an image about its center at random; its size stays.

    The image is sampled bicubically and black where nothing is left of it; its label map is
    sampled to the nearest pixel and of class 0 there, as MaskContrast does.

    Args:
        degrees: Greatest angle to either side.
        scale: Least and greatest factor.
    """

    def __init__(self, degrees: float, scale: tuple[float, float]) -> None:
        self.degrees, self.scale = degrees, scale

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draws an angle and a factor, and turns image and label map alike."""
        height, width = results["img"].shape[:2]
        angle = np.random.uniform(-self.degrees, self.degrees)
        factor = np.random.uniform(*self.scale)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, factor)
        for key in ("img", *results["seg_fields"]):
            flags = cv2.INTER_CUBIC if key == "img" else cv2.INTER_NEAREST
            results[key] = cv2.warpAffine(results[key], matrix, (width, height), flags=flags)
        return results


@TRANSFORMS.register_module()
class ViceScoreAtInput(BaseTransform):
    """Declares the resized and cropped image the original, so that predictions stay at its size."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sets ``ori_shape``."""
        results["ori_shape"] = results["img_shape"] = results["img"].shape[:2]
        return results
