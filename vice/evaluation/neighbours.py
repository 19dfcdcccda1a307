"""Exact nearest neighbours by inner product, in bounded memory."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from vice.errors import UserError

#: Queries and vectors whose inner products are held at once.
_QUERIES, _VECTORS = 256, 8192
SEARCHES = ("faiss", "torch")


def choose_search(device: str | torch.device) -> str:
    """``"faiss"`` on the CPU where it is installed, else ``"torch"``: the faster of the two."""
    on_cpu = torch.device(device).type == "cpu"
    return "faiss" if on_cpu and importlib.util.find_spec("faiss") else "torch"


def search_bytes() -> int:
    """Bytes that a search works on, beside the vectors, as a bound."""
    # FAISS compares 4096 queries with 1024 vectors at a time.
    return 3 * 4 * max(_QUERIES * _VECTORS, 4096 * 1024)


def nearest_neighbours(
    queries: Tensor, vectors: Tensor, k: int, *, search: str = "torch"
) -> tuple[Tensor, Tensor]:
    """The k vectors with the greatest inner product with each query.

    Both searches compare every query with every vector, and agree up to ties and rounding.

    Args:
        queries: float32 (Q, D).
        vectors: float32 (M, D), on the same device.
        k: From 1 to M.
        search: ``"torch"``: matrix products and top-k of blocks, on any device; ``"faiss"``: its
            flat search on the CPU.

    Returns:
        Inner products float32 (Q, k), falling, and numbers of the vectors int64 (Q, k).

    Raises:
        UserError: FAISS is asked for and missing.
        ValueError: k out of range, or no such search.
    """
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k is {k}; from 1 to the number of vectors, {len(vectors)}")
    if search not in SEARCHES:
        raise ValueError(f"search is {search!r}; choose {', '.join(SEARCHES)}")
    if search == "faiss":
        return _with_faiss(queries, vectors, k)
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


def _with_faiss(queries: Tensor, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    try:
        import faiss
    except ImportError as error:
        raise UserError("search=faiss needs FAISS: pip install faiss-cpu") from error
    products, indices = faiss.knn(
        queries.contiguous().numpy(), vectors.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT
    )
    return torch.from_numpy(products), torch.from_numpy(indices)
