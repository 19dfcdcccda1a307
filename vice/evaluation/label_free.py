"""Label-free scores: what a model makes of two views of images."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vice.assignment import perplexity, sinkhorn
from vice.errors import UserError
from vice.evaluation.agreement import contingency, normalized_mutual_information
from vice.images import ImageError, reading_of
from vice.losses import MutualRegions, swapped_prediction
from vice.losses.options import LossOptions
from vice.models.concepts import Concepts
from vice.models.embeddings import FiniteWatch
from vice.options import defaults
from vice.regions import NORMALIZE_MODES, pool_regions
from vice.superpixels import Superpixels
from vice.views import NoMutualRegions, Views, ViewSampler
from vice.views.photometric import Photometric, PhotometricParams

logger = logging.getLogger(__name__)

#: Regions of an image that are looked at, drawn at random; with 1-pixel regions it has 100,000.
_MOST_REGIONS = 512


@dataclass(frozen=True)
class LabelFreeScores:
    """What a model makes of two views of each image.

    Attributes:
        perplexity: Prototypes in effective use, 1 to K: exponential of the entropy of how often
            each is the best one of a region of the first view.
        loss_over_lnk: Swapped prediction between the two views, without a queue, over ln K. Where
            the training takes representatives, it is of the mean vectors here.
        agreement: Share of the regions whose best prototype is the same in both views, in [0, 1].
        cosine: Mean cosine between the vectors of the same region in both views.
        mutual_information: Normalised mutual information between the best prototypes in both
            views, in [0, 1]; 0 under collapse.
        regions: How many regions were compared.
    """

    perplexity: float
    loss_over_lnk: float
    agreement: float
    cosine: float
    mutual_information: float
    regions: int


@dataclass(frozen=True)
class ViewPair:
    """Two views of one image, their color changes, and its file."""

    views: Views
    colors: PhotometricParams
    name: str = "an image"


class HeldOutViews:
    """Two views of each of some images, drawn once, that any number of models are measured on.

    Args:
        images: Image files; those that cannot be read, or whose views share no region, are named
            in the log and left out.
        settings: ``VICE`` of a run's configuration: how views are made and compared. Where its
            method has no such options, the defaults hold.
        seed: Seed of views and colours.

    Attributes:
        pairs: The views, an entry an image.

    Raises:
        UserError: No image is left.
    """

    def __init__(
        self, images: Sequence[str | Path], settings: Mapping[str, Any], seed: int = 0
    ) -> None:
        loss = {**defaults(LossOptions), **settings.get("LOSS", {})}
        nothing: dict[str, Any] = {"VIEWS": {}, "PHOTOMETRIC": {}, "SUPERPIXELS": {}}
        self.settings = {**nothing, **settings, "LOSS": loss}
        self.seed = seed
        self.photometric = Photometric(**self.settings["PHOTOMETRIC"])
        self._watch = FiniteWatch()
        self.pairs = _draw_pairs(images, self.settings, seed, self.photometric)

    # inference_mode is out: the model may be one in training, and what a module keeps for its next
    # call must then be fit for a backward pass.
    @torch.no_grad()
    def measure(self, embedder: nn.Module, concepts: Concepts) -> LabelFreeScores:
        """Label-free scores of a model.

        Args:
            embedder: (B, 3, H, W) to (B, D, h, w), in evaluation mode.
            concepts: What unit vectors are compared with, on the embedder's device.

        Returns:
            The scores.

        Raises:
            UserError: An embedding that is not finite; it names the image.
        """
        region_vectors = []
        for number, pair in enumerate(self.pairs):
            vectors = self._region_vectors(embedder, pair, concepts.vectors.device)
            rng = np.random.default_rng([self.seed, number])
            kept = np.sort(rng.permutation(vectors.shape[1])[:_MOST_REGIONS])
            region_vectors.append(vectors[:, torch.from_numpy(kept).to(vectors.device)])
        vectors = torch.cat(region_vectors, dim=1)
        image = torch.cat(
            [torch.full((part.shape[1],), i) for i, part in enumerate(region_vectors)]
        )
        scores = vectors @ concepts.vectors.T
        if concepts.bias is not None:
            scores = scores + concepts.bias
        nearest = concepts.nearest(vectors.flatten(0, 1))
        best = nearest.view(2, -1).cpu().numpy()
        table = contingency(best[0], best[1], (len(concepts), len(concepts)))
        loss = _loss(scores, image.to(scores.device), len(self.pairs), self.settings["LOSS"])
        return LabelFreeScores(
            perplexity=perplexity(table.sum(1) / table.sum()),
            loss_over_lnk=loss / math.log(len(concepts)),
            agreement=float((best[0] == best[1]).mean()),
            cosine=float((vectors[0] * vectors[1]).sum(-1).mean()),
            mutual_information=normalized_mutual_information(table),
            regions=vectors.shape[1],
        )

    def _region_vectors(self, embedder: nn.Module, pair: ViewPair, device: torch.device) -> Tensor:
        """Unit vectors (2, I, D) of the mutual regions of one image."""
        loss = self.settings["LOSS"]
        pixels = torch.from_numpy(pair.views.images).permute(0, 3, 1, 2).to(device)
        noise = torch.from_numpy(pair.views.noise)
        embeddings = embedder(self.photometric(pixels, pair.colors, noise))
        self._watch.see_one(embeddings, pair.name)
        mode = loss["region_vector"]
        batch = MutualRegions.of(torch.from_numpy(pair.views.regions).to(device), 2)
        pooled = pool_regions(
            embeddings,
            batch.numbered,
            normalize=mode if mode in NORMALIZE_MODES else "pixel",
            align_corners=loss["align_corners"],
        )
        return batch.vectors(pooled.vectors)


def _draw_pairs(
    images: Sequence[str | Path],
    settings: Mapping[str, Any],
    seed: int,
    photometric: Photometric,
) -> list[ViewPair]:
    """Views as in training, but two an image."""
    sampler = ViewSampler(**{**settings["VIEWS"], "num_views": 2})
    superpixels = Superpixels(**{**settings["SUPERPIXELS"], "cache_dir": None})
    reading = reading_of(settings)
    pairs = []
    for number, path in enumerate(images):
        rng = np.random.default_rng([seed, number])
        try:
            image, regions = superpixels.read(path, reading, **settings["STANDARDIZE"])
            views = sampler(image, regions, rng)
        except NoMutualRegions as error:
            logger.info("%s is left out: %s", path, error)
        except ImageError as error:
            logger.warning("left out of the label-free scores: %s", error)
        else:
            pairs.append(ViewPair(views, photometric.draw(rng, 2), str(path)))
    if not pairs:
        raise UserError("no image whose two views share a region: give more, or larger, images")
    return pairs


def _loss(scores: Tensor, image: Tensor, images: int, settings: Mapping[str, Any]) -> float:
    assignment = sinkhorn(scores[0], settings["epsilon"], settings["iterations"])
    total = swapped_prediction(assignment, scores[1:], image, images, settings["temperature"])
    count = torch.bincount(image, minlength=images)
    return float((total[count > 0] / count[count > 0]).mean())
