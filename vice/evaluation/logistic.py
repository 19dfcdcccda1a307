"""Multinomial logistic regression, fitted until its gradient vanishes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vice.errors import UserError
from vice.parts import package

#: Largest entry of the gradient, see `fit_logistic`, at which a fit counts as converged.
TOLERANCE = 1e-5
#: Bias of a class that the sample does not hold: no other logit is as low.
NEVER = -1e4
_ROWS = 2**16
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogisticFit:
    """A linear classifier and how it was found.

    Attributes:
        weight: float32 (C, D), on the features as they were given.
        bias: float32 (C,).
        pixels: Number of samples N.
        iterations: Iterations of L-BFGS.
        converged: Whether the gradient came down to ``TOLERANCE``.
        gradient: Its largest entry, by absolute value.
        objective: What was minimised, see `fit_logistic`.
    """

    weight: Tensor
    bias: Tensor
    pixels: int
    iterations: int
    converged: bool
    gradient: float
    objective: float

    def describe(self) -> dict[str, Any]:
        """All but the classifier itself."""
        return {f.name: getattr(self, f.name) for f in fields(self)[2:]}


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    l2: float,
    iterations: int = 12_000,
    device: torch.device | str = "cpu",
) -> LogisticFit:
    """Minimises mean cross-entropy + l2 / 2 · Σ w² by L-BFGS, in full batches.

    w are the weights on standardised features (mean 0 and deviation 1 over the sample; a constant
    feature gets the weight 0). The biases are free. The result is folded back, so that it takes
    features as they were given. In scikit-learn's terms, C = 1 / (l2 · N).

    The search runs along the principal axes of the standardised features, each scaled to about the
    same curvature. That moves no minimum, it is only reached sooner; the gradient that has to
    vanish is the one in these coordinates.

    A class without a sample is never predicted: weights 0, bias ``NEVER``.

    Args:
        features: Floating point (N, D); computed with in float32.
        labels: Integer (N,), class of each.
        num_classes: Number of classes C.
        l2: Weight of the penalty, above 0.
        iterations: Most iterations; a fit that they do not suffice for says so.
        device: Where the gradient is computed.

    Returns:
        The classifier, on the CPU.

    Raises:
        UserError: Features, or a solution, that are not finite.
    """
    minimize = package("scipy.optimize").minimize

    if not torch.isfinite(features).all():
        raise UserError("the probe cannot be fitted: embeddings of the fitted split are not finite")
    present, targets = labels.long().unique(return_inverse=True)
    mean, axes, scales = _coordinates(features, len(present), l2)
    problem = _Problem(features, targets, mean, axes, l2 * scales, len(present), device)
    solution = minimize(
        problem,
        np.zeros(len(present) * (features.shape[1] + 1)),
        jac=True,
        method="L-BFGS-B",
        # Stopping criterion is the gradient: the objective changes little long before it is small.
        options={"maxiter": iterations, "maxfun": 10 * iterations, "gtol": TOLERANCE, "ftol": 0},
    )
    weight, bias = _fold(torch.from_numpy(solution.x).view(len(present), -1), mean, axes)
    full = torch.zeros(num_classes, features.shape[1]), torch.full((num_classes,), NEVER)
    full[0][present], full[1][present] = weight.float(), bias.float()
    gradient = float(np.abs(solution.jac).max())
    if (
        not (torch.isfinite(full[0]).all() and torch.isfinite(full[1]).all())
        or not np.isfinite([gradient, solution.fun]).all()
    ):
        raise UserError("the probe cannot be fitted: the embeddings have too large numbers")
    fit = LogisticFit(
        *full,
        pixels=len(features),
        iterations=int(solution.nit),
        converged=gradient <= TOLERANCE,
        gradient=gradient,
        objective=float(solution.fun),
    )
    _log(fit, str(solution.message))
    return fit


def _coordinates(features: Tensor, num_classes: int, l2: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,) of the features, axes (D, D) that map centred features, penalty of each (D,)."""
    mean = features.mean(0, dtype=torch.float64)
    moment = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for rows in features.split(_ROWS):
        centered = rows.double() - mean
        moment += centered.T @ centered
    moment /= len(features)
    deviation = moment.diagonal().sqrt()
    # Constant features vary by rounding alone.
    varies = deviation > 1e-6 * mean.abs()
    inverse = torch.where(varies, 1 / deviation, 0.0)
    values, vectors = torch.linalg.eigh(inverse[:, None] * moment * inverse)
    # Curvature of the cross-entropy is about that of uniform guesses, value / classes.
    scale = 1 / (values.clamp(min=0) + num_classes * l2)
    return mean, inverse[:, None] * vectors * scale.sqrt(), scale


def _fold(solution: Tensor, mean: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """From (C, D + 1), weights in the fit's coordinates beside biases, to those on features."""
    weight = solution[:, :-1] @ axes.T
    return weight, solution[:, -1] - weight @ mean


class _Problem:
    """Objective and gradient at flat float64 weights and biases, as SciPy asks for them."""

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        mean: Tensor,
        axes: Tensor,
        penalty: Tensor,
        num_classes: int,
        device: torch.device | str,
    ) -> None:
        parts = [
            ((rows.double() - mean) @ axes).float().to(device) for rows in features.split(_ROWS)
        ]
        self._parts = list(zip(parts, targets.to(device).split(_ROWS), strict=True))
        self._penalty, self._classes, self._count = penalty.numpy(), num_classes, len(features)
        self._device = device

    @torch.no_grad()
    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.from_numpy(flat).view(self._classes, -1).to(self._device)
        weight, bias = values[:, :-1].float(), values[:, -1]
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        slope = torch.zeros_like(values)
        for rows, targets in self._parts:
            # Mixed precision: products are float32; sums that cancel near the minimum are float64.
            log_p = ((rows @ weight.T).double() + bias).log_softmax(1)
            loss -= log_p.gather(1, targets[:, None]).sum()
            excess = log_p.exp_()
            excess.scatter_add_(1, targets[:, None], -excess.new_ones(len(targets), 1))
            slope[:, :-1] += excess.float().T @ rows
            slope[:, -1] += excess.sum(0)
        gradient = (slope / self._count).cpu().numpy()
        weights = flat.reshape(self._classes, -1)[:, :-1]
        gradient[:, :-1] += self._penalty * weights
        return loss.item() / self._count + (self._penalty * weights**2).sum() / 2, gradient.ravel()


def _log(fit: LogisticFit, reason: str) -> None:
    summary = (
        f"{fit.iterations} iterations on {fit.pixels} pixels, largest entry of the gradient "
        f"{fit.gradient:.1e}"
    )
    if fit.converged:
        logger.info("the probe has converged: %s", summary)
    else:
        logger.warning("the probe has NOT converged: %s (%s)", summary, reason)
