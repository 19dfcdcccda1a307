"""The nearest of many centroids against a linear layer, and fitting them against FAISS."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vice.clustering import fit_kmeans
from vice.experiments.benchmark.timing import Measurement, time_in_turn
from vice.models.concepts import Concepts, argmax_upsampled

ITERATIONS = 20


@torch.no_grad()
def nearest(device: str, *, small: bool) -> list[Measurement]:
    """256 clusters of an image of Cityscapes' size against a linear layer of 256 classes."""
    height, width = (256, 512) if small else (1024, 2048)
    embedding = torch.randn(1, 128, height // 4, width // 4, device=device)
    concepts = Concepts(F.normalize(torch.randn(256, 128)))
    layer = torch.nn.Conv2d(128, 256, 1, bias=False).to(device)

    def linear() -> torch.Tensor:
        return argmax_upsampled(layer(embedding), (height, width))

    def whole() -> torch.Tensor:
        scores = F.interpolate(layer(embedding), (height, width), mode="bilinear")
        return scores.argmax(1)

    def clusters() -> torch.Tensor:
        return concepts.nearest_map(embedding, (height, width))

    calls = {"linear layer": linear, "256 clusters": clusters, "linear, all at once": whole}
    seconds = time_in_turn(calls, device=device)
    size = f"{height} x {width}"
    return [
        Measurement(name, taken, "linear layer", taken / seconds["linear layer"], size)
        for name, taken in seconds.items()
    ]


def kmeans(device: str, *, small: bool) -> list[Measurement]:
    """Fitting 256 clusters, against FAISS called with the same settings and as many vectors.

    FAISS computes on the GPU where it is built for that; else both use the CPU.
    """
    import faiss

    count, k, dim = (8_000, 64, 64) if small else (200_000, 256, 128)
    on_gpu = device != "cpu" and hasattr(faiss, "StandardGpuResources")
    # Overlapping blobs: centres to find, and no two ways of the same objective.
    centers = 2 * torch.randn(k, dim, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(count, dim) + centers[torch.randint(k, (count,))]
    vectors = F.normalize(vectors, dim=1)
    objectives: dict[str, float] = {}

    def ours() -> None:
        fitted = fit_kmeans(vectors, k, iterations=ITERATIONS, gpu=on_gpu)
        objectives["fit_kmeans"] = fitted.objective[-1]

    def theirs() -> None:
        plain = faiss.Kmeans(
            dim,
            k,
            niter=ITERATIONS,
            spherical=True,
            seed=0,
            max_points_per_centroid=count,
            gpu=on_gpu,
        )
        plain.train(vectors.numpy())
        objectives["faiss.Kmeans"] = float(plain.obj[-1])

    seconds = time_in_turn({"faiss.Kmeans": theirs, "fit_kmeans": ours}, device=device)
    best = objectives["faiss.Kmeans"]
    return [
        Measurement(
            name,
            taken,
            "faiss.Kmeans",
            taken / seconds["faiss.Kmeans"],
            f"{count:,} x {dim} to {k}, objective {objectives[name] / best:.5f} of FAISS's",
        )
        for name, taken in seconds.items()
    ]
