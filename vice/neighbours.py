"""Exact nearest neighbours by inner product, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

#: Queries and vectors whose inner products are held at once.
_QUERIES, _VECTORS = 256, 8192


def search_bytes() -> int:
    """Bytes that a search works on, beside the vectors, as a bound."""
    # Float32: the products of a block, and copies of its best with their numbers.
    return 3 * 4 * _QUERIES * _VECTORS


def nearest_neighbours(queries: Tensor, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k vectors with the greatest inner product with each query.

    Every query is compared with every vector: matrix products of blocks, the best of each block,
    and the best of those. (FAISS's flat search on the CPU is somewhat faster with a thousand
    queries, and many times slower with the fewer of a small image.)

    Args:
        queries: float32 (Q, D).
        vectors: float32 (M, D), on the same device.
        k: From 1 to M.

    Returns:
        Inner products float32 (Q, k), falling, and numbers of the vectors int64 (Q, k).

    Raises:
        ValueError: k out of range.
    """
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k is {k}; from 1 to the number of vectors, {len(vectors)}")
    pairs = [_in_blocks(piece, vectors, k) for piece in queries.split(_QUERIES)]
    products, indices = zip(*pairs, strict=True)
    return torch.cat(products), torch.cat(indices)


def _in_blocks(queries: Tensor, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(vectors), _VECTORS):
        products = queries @ vectors[start : start + _VECTORS].T
        values, places = products.topk(min(k, products.shape[1]))
        best, indices = torch.cat([best, values], 1), torch.cat([indices, places + start], 1)
        best, places = best.topk(min(k, best.shape[1]))
        indices = indices.gather(1, places)
    return best, indices
