from __future__ import annotations

import numpy as np
import pytest

from vice.visualize import draw_embeddings, palette, pca_rgb

SIZES = ((32, 40), (20, 24))


@pytest.fixture
def parts(rng):
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    regions = [np.arange(width)[None] // 8 + np.zeros((height, 1), int) for height, width in SIZES]
    embeddings = [rng.normal(size=(5, *size)).astype(np.float32) for size in SIZES]
    embeddings = [e / np.linalg.norm(e, axis=0) for e in embeddings]
    prototypes = rng.normal(size=(7, 5)).astype(np.float32)
    return images, regions, embeddings, prototypes / np.linalg.norm(prototypes, axis=1)[:, None]


def test_the_first_row_holds_image_regions_embedding_and_prototypes(parts):
    images, regions, embeddings, prototypes = parts
    sheet = draw_embeddings(images, regions, embeddings, prototypes)
    # The tallest image is shown pixel by pixel, below the titles.
    cells = [sheet[26:58, 6 + 46 * k : 46 + 46 * k] for k in range(4)]
    np.testing.assert_array_equal(cells[0], images[0])
    borders = (cells[1] != images[0]).any(-1).all(0)
    np.testing.assert_array_equal(np.flatnonzero(borders), [7, 15, 23, 31])
    np.testing.assert_array_equal(cells[2], pca_rgb(embeddings)[0])
    colors = palette(7)
    for y, x in np.ndindex(SIZES[0]):
        distances = [np.linalg.norm(p - embeddings[0][:, y, x]) for p in prototypes]
        assert tuple(cells[3][y, x]) == tuple(colors[int(np.argmin(distances))])


def test_numbers_that_are_none_are_refused(parts):
    images, regions, embeddings, prototypes = parts
    embeddings[1][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        draw_embeddings(images, regions, embeddings, prototypes)
