"""Crop, resize and mirror: views cut out of a whole image in PyTorch, as OpenCV would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.runtime.device import to_device

#: The cubic's free parameter; OpenCV's choice.
CUBIC_A = -0.75


@torch.no_grad()
def cut_views(
    image: Tensor, boxes: np.ndarray, flipped: np.ndarray, size: tuple[int, int]
) -> Tensor:
    """Crops of an image, each brought to one size, as `vice.images.resize` does on a CPU.

    A crop is ``rows @ crop @ columns``: two matrices of weights a view, both products for all
    views at once. An axis that shrinks is averaged over areas, one that grows is interpolated by
    the cubic, whose border repeats the crop's own edge; mirrored views have their columns'
    weights in reverse order.

    Args:
        image: uint8 (H, W, 3), on any device.
        boxes: Integers (M, 4); x0, y0, x1, y1 in image pixels, ends exclusive. On the host, so
            that the device is not waited for.
        flipped: bool (M,); views mirrored left to right.
        size: Height and width of the views, in pixels.

    Returns:
        uint8 (M, 3, h, w) on the image's device. None was more than one level from
        `vice.images.resize`. One level off were, in views of 100 pixels: 1 number in 2,000 where
        both axes shrink or both grow (OpenCV has 11 bits for the cubic's weights, and rounds
        some halves up and some to even), 1 in 70 where one shrinks and the other stays, and 2 in
        9 where one shrinks and the other grows, since OpenCV rounds between the two.

    Raises:
        UserError: Shapes, dtypes or boxes do not fit.
    """
    _check(image, boxes, flipped, size)
    device = image.device
    starts = to_device(boxes[:, :2].astype(np.int64), device)
    lengths = boxes[:, 2:].astype(np.int64) - boxes[:, :2]
    window = _window(image, starts, int(lengths[:, 1].max()), int(lengths[:, 0].max()))
    rows = axis_weights(lengths[:, 1], size[0], np.zeros_like(flipped), device)
    columns = axis_weights(lengths[:, 0], size[1], flipped, device)
    views, height, width, channels = window.shape
    with _exact_products(device):
        high = torch.bmm(rows, window.float().view(views, height, width * channels))
        high = high.view(views, size[0], width, channels).permute(0, 3, 1, 2)
        resized = torch.bmm(high.reshape(views, channels * size[0], width), columns.mT)
    # Rounding: halves go up, as in OpenCV's fixed-point arithmetic.
    return resized.add_(0.5).floor_().clamp_(0, 255).byte().view(views, channels, *size)


def axis_weights(
    lengths: np.ndarray, new_length: int, flipped: np.ndarray, device: torch.device | str = "cpu"
) -> Tensor:
    """Weight of each of a crop's pixels in each pixel of its view, along one axis.

    Args:
        lengths: int64 (M,); pixels of each crop along the axis.
        new_length: Pixels of the views.
        flipped: bool (M,); where the order of the view's pixels is reversed.
        device: Where the weights are made.

    Returns:
        float32 (M, new_length, L), L the greatest of the lengths; 0 beyond a crop's own length.
        Rows add up to 1.
    """
    order = np.tile(np.arange(new_length), (len(lengths), 1))
    order[flipped] = order[flipped, ::-1]
    new = to_device(order, device)[:, :, None]
    length = to_device(lengths, device)[:, None, None]
    old = torch.arange(int(lengths.max()), device=device)
    shrinks = length > new_length
    weights = torch.where(
        shrinks, _area(old, new, length, new_length), _cubic(old, new, length, new_length)
    )
    return weights.masked_fill_(old >= length, 0.0)


def _area(old: Tensor, new: Tensor, length: Tensor, new_length: int) -> Tensor:
    """Share of the new pixel's extent that each old pixel covers, from whole numbers."""
    end = torch.minimum((old + 1) * new_length, (new + 1) * length)
    start = torch.maximum(old * new_length, new * length)
    return (end - start).clamp_(min=0) / length


def _cubic(old: Tensor, new: Tensor, length: Tensor, new_length: int) -> Tensor:
    """Cubic convolution around the new pixel's centre; taps outside count for the edge pixel."""
    # Kernel distances follow from the fraction of the position: integers keep both exact.
    position = (2 * new + 1) * length - new_length
    base = position.div(2 * new_length, rounding_mode="floor")
    fraction = (position - base * 2 * new_length) / (2 * new_length)

    def at(index: Tensor) -> Tensor:
        return _kernel(fraction - (index - base))

    before = at(torch.full_like(base, -1)) + at(torch.full_like(base, -2))
    after = at(length) + at(length + 1)
    return at(old) + before * (old == 0) + after * (old == length - 1)


def _kernel(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, zero from a distance of 2 on."""
    x = distance.abs()
    near = ((CUBIC_A + 2) * x - (CUBIC_A + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * CUBIC_A - 4 * CUBIC_A
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def _window(image: Tensor, starts: Tensor, height: int, width: int) -> Tensor:
    """The pixels from each start on, (M, height, width, 3); the edge is repeated past the end."""
    x = starts[:, 0, None] + torch.arange(width, device=image.device)
    y = starts[:, 1, None] + torch.arange(height, device=image.device)
    y, x = y.clamp_(max=image.shape[0] - 1), x.clamp_(max=image.shape[1] - 1)
    return image[y[:, :, None], x[:, None, :]]


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Products in float32 whatever a training has chosen: TF32 and bfloat16 would be off."""
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    chosen = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, value in zip(backends, chosen, strict=True):
            backend.fp32_precision = value


def _check(image: Tensor, boxes: np.ndarray, flipped: np.ndarray, size: tuple[int, int]) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"cut_views: an image must be uint8 (H, W, 3), got {image.dtype} {tuple(image.shape)}"
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) == 0:
        raise UserError(f"cut_views: boxes must be (M, 4) with M at least 1, got {boxes.shape}")
    if flipped.shape != boxes.shape[:1] or flipped.dtype != bool:
        raise UserError(
            f"cut_views: flipped must be bool {boxes.shape[:1]}, got {flipped.dtype} "
            f"{flipped.shape}"
        )
    if min(size) < 1:
        raise UserError(f"cut_views: size {size} must be at least 1 pixel a side")
    height, width = image.shape[:2]
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
    if not inside or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise UserError(f"cut_views: boxes must hold a pixel and lie within {width} x {height}")
