"""Slow, plain float64 implementations written from the formulas, to compare the fast ones with."""

from __future__ import annotations

import numpy as np


def upsample(embedding: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear upsampling of (D, h, w), half-pixel centres, edges clamped (SPEC: no corners)."""
    depth, small_h, small_w = embedding.shape
    out = np.zeros((depth, height, width))
    for y in range(height):
        for x in range(width):
            sy = max((y + 0.5) * small_h / height - 0.5, 0.0)
            sx = max((x + 0.5) * small_w / width - 0.5, 0.0)
            y0, x0 = min(int(sy), small_h - 1), min(int(sx), small_w - 1)
            y1, x1 = min(y0 + 1, small_h - 1), min(x0 + 1, small_w - 1)
            fy, fx = sy - y0, sx - x0
            out[:, y, x] = (
                embedding[:, y0, x0] * (1 - fy) * (1 - fx)
                + embedding[:, y0, x1] * (1 - fy) * fx
                + embedding[:, y1, x0] * fy * (1 - fx)
                + embedding[:, y1, x1] * fy * fx
            )
    return out


def wave(shape: tuple[int, ...], factor: float, shift: float) -> np.ndarray:
    """sin(factor * i + shift) at flat index i, float64."""
    return np.sin(factor * np.arange(np.prod(shape)) + shift).reshape(shape)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.sqrt((vector**2).sum())), 1e-12)


def pool(embeddings: np.ndarray, regions: np.ndarray, mode: str) -> dict[tuple[int, int], tuple]:
    """{(map, id): (vector, count)} of SPEC section 5, one pixel at a time."""
    pooled: dict[tuple[int, int], tuple] = {}
    for number, (embedding, ids) in enumerate(zip(embeddings, regions, strict=True)):
        dense = upsample(embedding, *ids.shape)
        for y in range(ids.shape[0]):
            for x in range(ids.shape[1]):
                if ids[y, x] < 0:
                    continue
                pixel = unit(dense[:, y, x]) if mode == "pixel" else dense[:, y, x]
                key = (number, int(ids[y, x]))
                total, count = pooled.get(key, (np.zeros(len(pixel)), 0))
                pooled[key] = (total + pixel, count + 1)
    return {key: (total / count, count) for key, (total, count) in sorted(pooled.items())}


def representative(
    embeddings: np.ndarray,
    regions: np.ndarray,
    prototypes: np.ndarray,
    targets: dict[tuple[int, int], np.ndarray] | None = None,
) -> dict[tuple[int, int], tuple]:
    """{(map, id): (vector, coherence)}: the pixel with the best score, mean distance to it.

    Distances are those to ``targets`` where these are given.
    """
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for number, (embedding, ids) in enumerate(zip(embeddings, regions, strict=True)):
        dense = upsample(embedding, *ids.shape)
        for y in range(ids.shape[0]):
            for x in range(ids.shape[1]):
                if ids[y, x] >= 0:
                    found.setdefault((number, int(ids[y, x])), []).append(unit(dense[:, y, x]))
    out = {}
    for key, pixels in sorted(found.items()):
        best = max(pixels, key=lambda pixel: float((prototypes @ pixel).max()))
        target = best if targets is None else targets[key]
        distance = [float(np.sqrt(((pixel - target) ** 2).sum())) for pixel in pixels]
        out[key] = (best, float(np.mean(distance)))
    return out


def sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SPEC section 6, in the linear domain: rows are prototypes to 1/K, columns samples to 1/n."""
    samples, concepts = scores.shape
    q = np.exp(scores / epsilon - (scores / epsilon).max()).T
    q /= q.sum()
    for _ in range(iterations):
        for k in range(concepts):
            q[k] /= q[k].sum() * concepts
        for n in range(samples):
            q[:, n] /= q[:, n].sum() * samples
    return (q * samples).T


def log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


def swapped_loss(
    embeddings: np.ndarray,
    prototypes: np.ndarray,
    regions: np.ndarray,
    num_views: int,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    reduction: str = "image",
    mode: str = "pixel",
    queue: np.ndarray | None = None,
) -> float:
    """SPEC section 6 (P2 equation 3), looping over images, regions and views."""
    images = len(embeddings) // num_views
    pooled = pool(embeddings, regions, mode)
    vectors = {key: unit(vector) for key, (vector, _) in pooled.items()}
    mutual = [
        (n, i)
        for (number, i) in vectors
        if number < images
        for n in [number]
        if all((v * images + n, i) in vectors for v in range(num_views))
    ]
    rows = [prototypes @ vectors[n, i] for n, i in mutual]
    rows += [] if queue is None else [prototypes @ vector for vector in queue]
    if not mutual:
        return 0.0
    assignment = sinkhorn(np.array(rows), epsilon, iterations)
    per_image: dict[int, list[float]] = {}
    for row, (n, i) in enumerate(mutual):
        for v in range(1, num_views):
            scores = prototypes @ vectors[v * images + n, i]
            loss = -float(assignment[row] @ log_softmax(scores / temperature))
            per_image.setdefault(n, []).append(loss)
    if reduction == "image":
        return float(np.mean([np.mean(losses) for losses in per_image.values()]))
    return float(np.mean([loss for losses in per_image.values() for loss in losses]))
