"""Soft assignment of region vectors to prototypes, and how evenly these are used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vice.runtime.collectives import all_reduce_, world_size


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float = 0.05, iterations: int = 3, group: Any = None
) -> Tensor:
    """Sinkhorn-Knopp in the log domain, over all ranks (ViCE (BMVC) section 3.3; SwAV).

    Alternately scales the mass of each prototype to 1/K and that of each sample to 1/n, n being
    the true number of samples over all ranks, which may each hold a different number, or none.
    Working with logarithms, no prototype underflows to zero mass however far it is.

    Args:
        scores: (N, K) float, this rank's samples against all prototypes.
        epsilon: Entropy weight; smaller is sharper.
        iterations: Number of alternations.
        group: Process group; None is the default group.

    Returns:
        (N, K), float32 (float64 for float64 scores); each row sums to 1. No gradient.

    Raises:
        ValueError: ``scores`` is not two-dimensional, or epsilon or iterations is not positive.

    Example:
        All samples are nearer to prototype 0; half of the mass goes to prototype 1 all the same:

        >>> import torch
        >>> from vice.assignment import sinkhorn
        >>> scores = torch.tensor([[0.9, 0.1], [0.6, 0.1]], dtype=torch.float64)
        >>> sinkhorn(scores, iterations=20).round(decimals=2).tolist()
        [[0.95, 0.05], [0.05, 0.95]]
    """
    if scores.dim() != 2:
        raise ValueError(f"scores must be (N, K), not {tuple(scores.shape)}")
    if epsilon <= 0 or iterations < 1:
        raise ValueError(f"epsilon {epsilon} and iterations {iterations} must be positive")
    log_q = scores.detach().to(torch.float64 if scores.dtype == torch.float64 else torch.float32)
    log_q = log_q / epsilon
    for _ in range(iterations):
        # The shares 1/K and 1/n are constants over the table: they cancel in the next step, so each
        # column is scaled to 1 here, and neither enters.
        log_q = F.log_softmax(_scaled_columns(log_q, group), dim=1)
    return log_q.exp()


def _scaled_columns(values: Tensor, group: Any) -> Tensor:
    """Logarithms (N, K), the exponentials of each column summing to 1 over all ranks."""
    if world_size(group) > 1 or not len(values):
        return values - _global_logsumexp(values, group)
    # One operator for seven: between small ones threads wait for one another.
    return F.log_softmax(values, dim=0)


def _global_logsumexp(values: Tensor, group: Any) -> Tensor:
    """Log of the sum of exponentials over the samples of all ranks: (N, K) to (K,)."""
    top = values.new_full((values.shape[1],), -torch.inf)
    if values.shape[0]:
        top = values.amax(dim=0)
    top = all_reduce_(top, "max", group)
    # With no sample on any rank the maximum is -inf, and -inf minus -inf is not a number.
    top = top.clamp(min=torch.finfo(top.dtype).min)
    total = all_reduce_((values - top).exp().sum(dim=0), "sum", group)
    return top + total.log()


def entropy(shares: np.ndarray | Tensor) -> float:
    """Shannon entropy in nats.

    Args:
        shares: Probabilities, any shape; what is 0 adds nothing.
    """
    present = np.asarray(shares, np.float64)
    present = present[present > 0]
    return float(-(present * np.log(present)).sum())


def perplexity(shares: np.ndarray | Tensor) -> float:
    """Clusters in effective use: the exponential of the entropy.

    Args:
        shares: (K,), how much of all is in each.

    Returns:
        1 to K; 0 where all shares are 0.
    """
    return math.exp(entropy(shares)) if float(shares.sum()) > 0 else 0.0
