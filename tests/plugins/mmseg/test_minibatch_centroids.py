"""PiCIE's own clusters through the whole evaluation, against the same steps taken by hand."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from vice.minibatch_kmeans import MiniBatchKMeans
from vice.models.centroids import Centroids
from vice.normalize import normalize
from vice.plugins.mmseg.evaluate_clusters import evaluate_clusters

from .helpers import QUIET, TinyEmbedder

MINIBATCH = {
    "clusters": "minibatch",
    "kmeans_pixels": 0,
    "minibatch_images": 2,
    "minibatch_init": 2,
    "matchings": ("hungarian",),
}


def unit_vectors(path):
    pixels = np.array(Image.open(path)).transpose(2, 0, 1)
    with torch.no_grad():
        return torch.nn.functional.normalize(
            TinyEmbedder(seed=5).eval()(normalize(torch.from_numpy(pixels)[None])), dim=1
        )


def test_centroids_and_clusters_are_those_made_by_hand(tiny, make_folder, tmp_path):
    # Seven images: the last group is smaller than the others, and moves the centroids, too.
    root, out = make_folder(train=7, val=2), tmp_path / "out"
    result = evaluate_clusters(
        tiny, root, out, **QUIET, clusters=[3], changes=MINIBATCH, max_maps=2, seed=5
    )
    kmeans = MiniBatchKMeans(
        3, 8, init_groups=2, init_maps=4, init_points=None, seed=5, scratch=tmp_path
    )
    files = sorted((root / "images" / "train").iterdir())
    order = np.random.default_rng(5).permutation(7).tolist()
    for start in range(0, 7, 2):
        for image in order[start : start + 2]:
            kmeans.add(unit_vectors(files[image]), [image])
        kmeans.end_group()
    kmeans.finish()
    centroids = Centroids.load(out / "centroids_3.safetensors")
    assert centroids.unit_dot and not centroids.spherical
    torch.testing.assert_close(centroids.vectors, kmeans.centroids, atol=1e-4, rtol=0)
    assert result["clusters"]["3"]["kmeans"]["vectors"] == round(float(kmeans.counts.sum()))
    for path in sorted((root / "images" / "val").iterdir()):
        unit = unit_vectors(path)
        scores = torch.einsum("kd,bdhw->bkhw", kmeans.centroids, unit)
        size = Image.open(path).size[::-1]
        large = torch.nn.functional.interpolate(scores, size, mode="bilinear")
        mapping = torch.tensor(result["clusters"]["3"]["hungarian"]["mapping"])
        written = np.asarray(Image.open(out / "maps" / "clusters_3" / f"{path.stem}.png"))
        assert (mapping[large.argmax(1)[0]].numpy() == written).mean() > 0.995
