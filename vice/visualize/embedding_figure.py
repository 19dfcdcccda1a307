"""What a model makes of whole images: regions, embedding and nearest prototypes side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vice.models.concepts import Concepts
from vice.visualize.maps import colorize, pca_rgb, region_boundaries
from vice.visualize.sheets import contact_sheet

TITLES = ("image", "regions", "embedding", "prototypes")


def draw_embeddings(
    images: Sequence[np.ndarray],
    regions: Sequence[np.ndarray],
    embeddings: Sequence[np.ndarray],
    concepts: Concepts | np.ndarray,
) -> np.ndarray:
    """Draws a row for each image: the image, its regions, its embedding, its nearest prototypes.

    The three colours of the embedding are principal components of all the images together; a
    prototype has the same colour in all images, and in all sheets of as many prototypes.

    Args:
        images: uint8 RGB (H, W, 3), each of its own size.
        regions: Integer ids (H, W) of each.
        embeddings: Float (D, h, w) of each, with unit pixel vectors, at any scale.
        concepts: What pixels are compared with, or (K, D) unit vectors.

    Returns:
        uint8 RGB.

    Raises:
        ValueError: No image, sizes that do not go together, or an embedding that is not finite.
    """
    if not all(np.isfinite(embedding).all() for embedding in embeddings):
        raise ValueError("the embedding holds values that are not finite")
    compared = concepts if isinstance(concepts, Concepts) else Concepts(torch.as_tensor(concepts))
    rows = [
        [
            image,
            region_boundaries(image, ids),
            colors,
            colorize(nearest, len(compared), ignore=None),
        ]
        for image, ids, colors, nearest in zip(
            images,
            regions,
            pca_rgb(list(embeddings)),
            [nearest_concepts(embedding, compared) for embedding in embeddings],
            strict=True,
        )
    ]
    return contact_sheet(rows, TITLES)


def nearest_concepts(embedding: np.ndarray, concepts: Concepts) -> np.ndarray:
    """Number (h, w) of the concept that is nearest to each pixel of an embedding (D, h, w)."""
    dense = torch.from_numpy(np.ascontiguousarray(embedding))[None]
    return concepts.nearest_map(dense, embedding.shape[1:])[0].numpy()
