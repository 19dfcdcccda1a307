"""Color jitter and blur of batches of float images, each image with its own parameter.

All take (B, 3, H, W) RGB in [0, 1] on any device and return the same; parameters are (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Weights of red, green and blue.
GRAY = (0.2989, 0.587, 0.114)  # ITU-R 601-2, rounded as torchvision does


def to_gray(images: Tensor) -> Tensor:
    """Luma of RGB images, (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    gray = red * GRAY[0]
    return gray.add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2]).unsqueeze(1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies by the factor; 0 is black, 1 the image."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0.0, 1.0)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with the mean grey of each image; 0 is that grey, 1 the image."""
    return _blend(images, to_gray(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with the grey image; 0 is grey, 1 the image."""
    return _blend(images, to_gray(images), factor)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (images * factor).add_(other * (1.0 - factor)).clamp_(0.0, 1.0)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue in HSV space by `shift` of the full circle, in [-0.5, 0.5]."""
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    sixths = _hue(images, value, chroma).add_(6.0 * shift.view(-1, 1, 1))
    # A channel falls from `value` to `value - chroma` over one sixth of the circle and rises again
    # over another; red, green and blue do so a third of the circle apart.
    out = torch.empty_like(images)
    for channel, offset in enumerate((5.0, 3.0, 1.0)):
        phase = (sixths + offset).remainder_(6.0)
        fall = torch.minimum(phase, 4.0 - phase).clamp_(0.0, 1.0)
        torch.addcmul(value, chroma, fall, value=-1.0, out=out[:, channel])
    return out


def _hue(images: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Hue in sixths of the circle, (B, H, W); 0 for greys."""
    red, green, blue = images.unbind(1)
    scale = chroma.clamp_min(1e-12).reciprocal_()
    from_red = (green - blue) * scale
    from_green = (blue - red) * scale + 2.0
    from_blue = (red - green) * scale + 4.0
    return torch.where(value == red, from_red, torch.where(value == green, from_green, from_blue))


def gaussian_blur(images: Tensor, sigma: Tensor, taps: int = 17) -> Tensor:
    """Blurs each image with its own Gaussian; borders are mirrored (without the border pixel).

    Args:
        images: float (B, C, H, W).
        sigma: float (B,), standard deviation in pixels.
        taps: Length of the kernel in pixels, odd.

    Returns:
        float (B, C, H, W).
    """
    offset = torch.arange(taps, device=images.device, dtype=images.dtype) - taps // 2
    kernel = torch.exp(-0.5 * (offset / sigma.to(images.dtype).view(-1, 1)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    batch, channels, height, width = images.shape
    weight = kernel.repeat_interleave(channels, dim=0)
    planes = images.reshape(1, batch * channels, height, width)
    for axis, length in ((2, height), (3, width)):
        index = _mirror(length, taps // 2, images.device)
        shape = (-1, 1, taps, 1) if axis == 2 else (-1, 1, 1, taps)
        padded = planes.index_select(axis, index)
        planes = torch.nn.functional.conv2d(padded, weight.view(shape), groups=batch * channels)
    return planes.reshape(batch, channels, height, width)


def _mirror(length: int, margin: int, device: torch.device) -> Tensor:
    """Indices of an axis mirrored on both ends, as often as a short axis needs."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(-margin, length + margin, device=device).remainder(period)
    return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)
