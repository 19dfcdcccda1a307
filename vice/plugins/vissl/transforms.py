"""VISSL transforms ``vice_views``, ``vice_photometric``, and both with ``_later``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from classy_vision.dataset.transforms import ClassyTransform, register_transform
from torch import Tensor

from vice.errors import UserError
from vice.plugins.vissl.dataset import ImageSample
from vice.views import NoMutualRegions, Placement, Views, ViewSampler
from vice.views.photometric import Photometric, PhotometricParams


@dataclass
class ViewSample:
    """The views of one image, before or after the photometric change.

    Attributes:
        source: Where they came from; its rng goes on being used.
        views: What the sampler drew; `Views` if they are cut.
        images: (M, 3, h, w) float32 after the photometric change, else None.
        params: What is to happen to each view, where the change is left to the device.
    """

    source: ImageSample
    views: Placement
    images: Tensor | None = None
    params: PhotometricParams | None = None


@register_transform("vice_views")
class ViceViews(ClassyTransform):
    """`ImageSample` to `ViewSample`; images without mutual regions are replaced.

    Args:
        **options: Arguments of `vice.views.ViewSampler`.
    """

    def __init__(self, **options: Any) -> None:
        self.sampler = ViewSampler(**tuples(options))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ViceViews:
        """Built from a TRANSFORMS entry with the options under ``params``."""
        return cls(**config["params"])

    def __call__(self, sample: ImageSample) -> ViewSample:
        """Draws views.

        Raises:
            UserError: Too many images in a row have no mutual regions.
        """
        while True:
            try:
                return ViewSample(sample, self.draw(sample))
            except NoMutualRegions as error:
                sample = sample.redraw(str(error))

    def draw(self, sample: ImageSample) -> Placement:
        """Views of one image; raises `NoMutualRegions`."""
        return self.sampler(sample.image, sample.regions, sample.rng)


@register_transform("vice_views_later")
class ViceViewsLater(ViceViews):
    """Draws views and leaves it to the training step to cut them, on its device.

    The draws are those of ``vice_views``, so both give the same views up to rounding.
    """

    def draw(self, sample: ImageSample) -> Placement:
        """Views of one image without their pixels; raises `NoMutualRegions`."""
        return self.sampler.place(sample.image, sample.regions, sample.rng)


@register_transform("vice_photometric")
class VicePhotometric(ClassyTransform):
    """Colour change, blur, normalisation and mask noise, on the worker.

    Args:
        **options: Arguments of `vice.views.photometric.Photometric`.
    """

    def __init__(self, **options: Any) -> None:
        self.photometric = Photometric(**tuples(options))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VicePhotometric:
        """Built from a TRANSFORMS entry with the options under ``params``."""
        return cls(**config["params"])

    def __call__(self, sample: ViewSample) -> ViewSample:
        """Fills ``sample.images``.

        Raises:
            UserError: The views are not cut.
        """
        views = sample.views
        if not isinstance(views, Views):
            raise UserError(
                "vice_photometric has no pixels after vice_views_later: leave "
                "config.DATA.TRAIN.TRANSFORMS as it is and set config.VICE.CUT_ON=workers"
            )
        params = self.photometric.draw(sample.source.rng, len(views))
        images = torch.from_numpy(views.images).permute(0, 3, 1, 2)
        sample.images = self.photometric(images, params, torch.from_numpy(views.noise))
        return sample


@register_transform("vice_photometric_later")
class VicePhotometricLater(VicePhotometric):
    """Draws the photometric change and leaves it to the training step, on its device.

    The draws are those of ``vice_photometric``, and the mask noise does not depend on the device,
    so both give the same views up to rounding.
    """

    def __call__(self, sample: ViewSample) -> ViewSample:
        """Fills ``sample.params``."""
        sample.params = self.photometric.draw(sample.source.rng, len(sample.views))
        return sample


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a config as the samplers take them."""
    # Hydra knows lists only; the samplers' options are immutable tuples.
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name != "name"
    }
