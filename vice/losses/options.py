"""Options of the dense SwAV loss and of its prototypes."""

from __future__ import annotations

from dataclasses import dataclass

from vice.losses.swav import REDUCTIONS, REGION_VECTORS
from vice.options import FLAG, STEPS, number, one_of, option, whole
from vice.regions import COHERENCE_GRADIENTS


@dataclass(frozen=True)
class LossOptions:
    """Options of `vice.losses.DenseSwAVLoss`, but for its sizes."""

    temperature: float = option(0.1, number(1e-4, 100), "temperature of the predictions, tau")
    epsilon: float = option(0.05, number(1e-4, 100), "weight of the entropy in Sinkhorn-Knopp")
    iterations: int = option(3, whole(1, 1000), "alternations of Sinkhorn-Knopp")
    queue_length: int = option(0, whole(0, 10**6), "vectors in the queue of each rank; 0 for none")
    queue_start: int = option(313, STEPS, "first step whose assignment uses the queue")
    reduction: str = option(
        "image",
        one_of(*REDUCTIONS),
        "mean over an image's regions, then over images (image, the papers), or over all regions "
        "(region, the authors' release)",
    )
    region_vector: str = option(
        "pixel",
        one_of(*REGION_VECTORS),
        "what is scaled to unit length: pixels (the papers), regions, or representatives with a "
        "loss of coherence (the authors' configs)",
    )
    coherence_gradient: str = option(
        "constant",
        one_of(*COHERENCE_GRADIENTS),
        "what a representative is to the gradient of the coherence: a constant (the authors' "
        "criterion), or a pixel that it goes through as well; counts with representatives only",
    )
    align_corners: bool = option(
        False, FLAG, "how embeddings are upsampled to the size of the views"
    )


@dataclass(frozen=True)
class PrototypeOptions:
    """Number and width of the prototypes, and how long they stay as they are."""

    num_prototypes: int = option(128, whole(1, 10**6), "prototypes, K")
    dim: int = option(128, whole(1, 2**16), "width of the embedding and the prototypes, D")
    freeze_iterations: int = option(313, STEPS, "first steps in which prototypes are not trained")
