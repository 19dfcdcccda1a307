"""Choosing a checkpoint without labels, by what each makes of images it was not trained on.

The rule: of the states at the ends of epochs, the one whose assignments of the same regions in two
views share the most normalised mutual information; of equals, the later. Loss and plain agreement
would not do, since both are best when every region falls to one prototype; mutual information is
then 0. Nothing here sees a label.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vice.agreement import adjusted_rand_index, contingency, normalized_mutual_information
from vice.assignment import sinkhorn
from vice.checkpoint import WEIGHTS_NAME, Checkpoint, load_checkpoint
from vice.errors import UserError
from vice.losses.swav import match_views, swapped_prediction
from vice.photometric import Photometric, PhotometricParams
from vice.predictor import Predictor
from vice.regions import NORMALIZE_MODES, pool_regions
from vice.superpixels import Superpixels
from vice.training import read_config
from vice.views import NoMutualRegions, Views, ViewSampler

logger = logging.getLogger(__name__)

RULE = (
    "highest normalised mutual information between the prototypes of the same regions in two views"
)
_EPOCH = re.compile(r"model_(?:final_checkpoint_)?phase(\d+)\.torch")
#: Regions of an image that are looked at, drawn at random; with 1-pixel regions it has 100,000.
_MOST_REGIONS = 512


@dataclass(frozen=True)
class LabelFreeScores:
    """What a checkpoint makes of two views of each image.

    Attributes:
        perplexity: Prototypes in effective use, 1 to K: exponential of the entropy of how often
            each is the best one of a region of the first view.
        loss_over_lnk: The training's loss between the two views, without a queue, over ln K.
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
class Choice:
    """The checkpoint that `choose_checkpoint` takes.

    Attributes:
        path: Its file; the run's exported weights where the last epoch is chosen.
        epoch: Its epoch, from 1; 0 where no state of an epoch is left.
        last: Whether it is the last epoch's.
        scores: File name to scores, in the order of the epochs.
    """

    path: Path
    epoch: int
    last: bool
    scores: Mapping[str, LabelFreeScores]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            "rule": RULE,
            "path": str(self.path),
            "epoch": self.epoch,
            "last": self.last,
            "scores": {name: dataclasses.asdict(found) for name, found in self.scores.items()},
        }


@dataclass(frozen=True)
class _Pair:
    """Two views of one image and how their colours are changed."""

    views: Views
    colours: PhotometricParams


def choose_checkpoint(
    run_dir: str | Path,
    images: Sequence[str | Path],
    seed: int = 0,
    *,
    device: str | torch.device = "cpu",
) -> Choice:
    """Scores every epoch's state of a run without labels, and chooses one by the module's rule.

    Args:
        run_dir: Folder of a finished run.
        images: Images that were not trained on; dozens are enough.
        seed: Seed of views and colours, which are the same for all checkpoints.
        device: Where to compute.

    Returns:
        The choice with all scores.

    Raises:
        UserError: No run there, no prototypes in it, or no image with mutual regions.
    """
    folder = Path(run_dir)
    found = ((_EPOCH.fullmatch(file.name), file) for file in folder.glob("model_*.torch"))
    epochs = sorted((int(match[1]) + 1, file) for match, file in found if match)
    settings = read_config(folder).get("VICE")
    if settings is None:
        raise UserError(f"{folder} holds no train_config.yaml: is it a run folder?")
    exported = folder / WEIGHTS_NAME
    candidates = epochs or [(0, exported)]
    pairs = _draw_pairs(images, settings, seed)
    scores = {}
    for _, file in candidates:
        checkpoint = load_checkpoint(file, device=device)
        scores[file.name] = _measure(checkpoint, pairs, settings, seed, device)
        logger.info("%s: %s", file, scores[file.name])
    epoch, best = max(
        candidates, key=lambda entry: (scores[entry[1].name].mutual_information, entry[0])
    )
    last = epoch == candidates[-1][0]
    return Choice(exported if last else best, epoch, last, scores)


def score_checkpoint(
    checkpoint: Checkpoint,
    images: Sequence[str | Path],
    settings: Mapping[str, Any],
    seed: int = 0,
    *,
    device: str | torch.device = "cpu",
) -> LabelFreeScores:
    """Label-free scores of one checkpoint.

    Args:
        checkpoint: With prototypes.
        images: Image files.
        settings: ``VICE`` of the run's ``train_config.yaml``: how views are made and compared.
        seed: Seed of views and colours.
        device: Where the checkpoint is.

    Returns:
        The scores.

    Raises:
        UserError: No prototypes, or no image with mutual regions.
    """
    return _measure(checkpoint, _draw_pairs(images, settings, seed), settings, seed, device)


def cluster_stability(
    first: str | Path, second: str | Path, images: Sequence[str | Path]
) -> dict[str, float]:
    """How far two runs, of two seeds for example, cut the same images into the same clusters.

    Args:
        first: A run folder or checkpoint with prototypes.
        second: Another one.
        images: Image files; each pixel's cluster is its nearest prototype.

    Returns:
        ``adjusted_rand_index`` and ``normalized_mutual_information`` over all pixels.

    Raises:
        UserError: A checkpoint without prototypes, or an image that cannot be read.
    """
    predictors = [Predictor(load_checkpoint(path)) for path in (first, second)]
    sizes = tuple(len(_prototypes(predictor.checkpoint)) for predictor in predictors)
    table = np.zeros(sizes, np.int64)
    for image in images:
        maps = [predictor.segment(image).numpy() for predictor in predictors]
        table += contingency(maps[0], maps[1], (sizes[0], sizes[1]))
    return {
        "adjusted_rand_index": adjusted_rand_index(table),
        "normalized_mutual_information": normalized_mutual_information(table),
    }


def _draw_pairs(
    images: Sequence[str | Path], settings: Mapping[str, Any], seed: int
) -> list[_Pair]:
    """Views as in training, but two an image."""
    sampler = ViewSampler(**{**settings["VIEWS"], "num_views": 2})
    superpixels = Superpixels(**{**settings["SUPERPIXELS"], "cache_dir": None})
    photometric = Photometric(**settings["PHOTOMETRIC"])
    pairs = []
    for number, path in enumerate(images):
        rng = np.random.default_rng([seed, number])
        image, regions = superpixels.read(path, **settings["STANDARDIZE"])
        try:
            views = sampler(image, regions, rng)
        except NoMutualRegions as error:
            logger.info("%s is left out: %s", path, error)
            continue
        pairs.append(_Pair(views, photometric.draw(rng, 2)))
    if not pairs:
        raise UserError("no image whose two views share a region: give more, or larger, images")
    return pairs


@torch.inference_mode()
def _measure(
    checkpoint: Checkpoint,
    pairs: Sequence[_Pair],
    settings: Mapping[str, Any],
    seed: int,
    device: str | torch.device,
) -> LabelFreeScores:
    prototypes = _prototypes(checkpoint)
    photometric = Photometric(**settings["PHOTOMETRIC"])
    found = []
    for number, pair in enumerate(pairs):
        vectors = _region_vectors(checkpoint, pair, photometric, settings, device)
        rng = np.random.default_rng([seed, number])
        kept = np.sort(rng.permutation(vectors.shape[1])[:_MOST_REGIONS])
        found.append(vectors[:, torch.from_numpy(kept).to(vectors.device)])
    vectors = torch.cat(found, dim=1)
    image = torch.cat([torch.full((part.shape[1],), i) for i, part in enumerate(found)])
    scores = vectors @ prototypes.T
    best = scores.argmax(-1).cpu().numpy()
    table = contingency(best[0], best[1], (len(prototypes), len(prototypes)))
    shares = table.sum(1)[table.sum(1) > 0] / table.sum()
    return LabelFreeScores(
        perplexity=float(np.exp(-(shares * np.log(shares)).sum())),
        loss_over_lnk=_loss(scores, image.to(scores.device), len(pairs), settings["LOSS"])
        / math.log(len(prototypes)),
        agreement=float((best[0] == best[1]).mean()),
        cosine=float((vectors[0] * vectors[1]).sum(-1).mean()),
        mutual_information=normalized_mutual_information(table),
        regions=vectors.shape[1],
    )


def _region_vectors(
    checkpoint: Checkpoint,
    pair: _Pair,
    photometric: Photometric,
    settings: Mapping[str, Any],
    device: str | torch.device,
) -> Tensor:
    """Unit vectors (2, I, D) of the mutual regions of one image."""
    loss = settings["LOSS"]
    pixels = torch.from_numpy(pair.views.images).permute(0, 3, 1, 2).to(device)
    noise = torch.from_numpy(pair.views.noise)
    embeddings = checkpoint.embedder(photometric(pixels, pair.colours, noise))
    mode = loss["region_vector"]
    pooled = pool_regions(
        embeddings,
        torch.from_numpy(pair.views.regions).to(device),
        normalize=mode if mode in NORMALIZE_MODES else "pixel",
        align_corners=loss["align_corners"],
    )
    return match_views(pooled, 2, 1).vectors


def _loss(scores: Tensor, image: Tensor, images: int, settings: Mapping[str, Any]) -> float:
    assignment = sinkhorn(scores[0], settings["epsilon"], settings["iterations"])
    total, count = swapped_prediction(
        assignment, scores[1:], image, images, settings["temperature"]
    )
    return float((total[count > 0] / count[count > 0]).mean())


def _prototypes(checkpoint: Checkpoint) -> Tensor:
    if checkpoint.prototypes is None:
        raise UserError(
            f"{checkpoint.path} holds no prototypes: it cannot be scored without labels"
        )
    return checkpoint.prototypes.weight
