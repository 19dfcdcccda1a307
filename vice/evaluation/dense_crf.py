"""Dense conditional random field: labels of pixels that are made to follow the image's edges.

Source: Krähenbühl and Koltun, NIPS 2011; the constants are those that MaskContrast and STEGO use.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from vice.errors import UserError

ITERATIONS = 10
#: Smoothness: deviation in pixels, weight.
GAUSSIAN = (1, 3)
#: Appearance: deviations in pixels and in color (0-255), weight.
BILATERAL = (67, 3, 4)


def check_crf() -> None:
    """Raises a `UserError` where the package that computes the field is missing."""
    if importlib.util.find_spec("pydensecrf") is None:
        raise UserError("crf=dense needs a package of its own: pip install pydensecrf2")


def refine(log_probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The most probable label of each pixel after mean-field inference.

    Args:
        log_probabilities: float32 (K, H, W), of each label by itself.
        image: uint8 (H, W, 3); the order of the channels does not matter.

    Returns:
        int64 (H, W).

    Raises:
        UserError: The package is missing.
    """
    check_crf()
    from pydensecrf.densecrf import DenseCRF2D

    labels, height, width = log_probabilities.shape
    field = DenseCRF2D(width, height, labels)
    energy = -log_probabilities.reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    field.addPairwiseGaussian(sxy=GAUSSIAN[0], compat=GAUSSIAN[1])
    field.addPairwiseBilateral(
        sxy=BILATERAL[0], srgb=BILATERAL[1], rgbim=np.ascontiguousarray(image), compat=BILATERAL[2]
    )
    refined = np.array(field.inference(ITERATIONS)).reshape(labels, height, width)
    return refined.argmax(0)
