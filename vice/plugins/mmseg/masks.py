"""Foreground masks from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vice.errors import UserError


def read_mask(folder: Path, sample: Any) -> Tensor:
    """The mask of an image.

    Args:
        folder: Holds ``<stem of the image>.png``, of one channel; 0 is background, whatever else
            is foreground.
        sample: The image's `SegDataSample`, before it was resized ``ori_shape`` large.

    Returns:
        bool (H, W).

    Raises:
        UserError: The file is missing, broken, or of another size than its image.
    """
    path = folder / f"{Path(sample.img_path).stem}.png"
    try:
        with Image.open(path) as image:
            mask = np.array(image)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: no mask of {sample.img_path} can be read ({error})") from error
    height, width = sample.ori_shape[:2]
    if mask.shape != (height, width):
        raise UserError(
            f"{path}: a mask of shape {mask.shape}, but its image has {height} x {width} pixels"
        )
    return torch.from_numpy(mask != 0)
