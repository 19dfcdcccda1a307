from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.errors import UserError
from vice.evaluation.logistic import NEVER, TOLERANCE, fit_logistic

LogisticRegression = pytest.importorskip("sklearn.linear_model").LogisticRegression

L2 = 1e-3


def problem(count=3000, dim=6, classes=4, seed=0):
    """Correlated features of very different scales, far from zero; classes that overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    centers, mix = rng.normal(size=(classes, dim)), rng.normal(size=(dim, dim))
    mixed = (centers[labels] + rng.normal(size=(count, dim))) @ mix
    features = 10.0 ** np.arange(-2, dim - 2) * mixed + 5
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def standardised(features):
    values = features.double().numpy()
    return (values - values.mean(0)) / values.std(0)


def logits(fit, features):
    values = features.double() @ fit.weight.double().T + fit.bias.double()
    return (values - values.mean(1, keepdim=True)).numpy()


def test_equals_scikit_learn():
    features, labels = problem()
    fit = fit_logistic(features, labels, 4, l2=L2)
    oracle = LogisticRegression(C=1 / (L2 * len(labels)), tol=1e-10, max_iter=10**5)
    oracle.fit(standardised(features), labels.numpy())
    expected = oracle.decision_function(standardised(features))
    expected -= expected.mean(1, keepdims=True)
    assert fit.converged and fit.pixels == 3000
    np.testing.assert_allclose(logits(fit, features), expected, atol=2e-3)


def test_folded_weights_satisfy_the_optimality_condition():
    """Softmax minus one-hot, averaged against each standardised feature, plus l2 · w, is zero."""
    features, labels = problem(seed=1)
    fit = fit_logistic(features, labels, 4, l2=L2)
    p = np.exp(logits(fit, features))
    excess = p / p.sum(1, keepdims=True) - np.eye(4)[labels]
    weight = fit.weight.double().numpy() * features.double().numpy().std(0)
    gradient = excess.T @ standardised(features) / len(labels) + L2 * weight
    np.testing.assert_allclose(gradient, 0, atol=3e-5)
    np.testing.assert_allclose(excess.mean(0), 0, atol=1e-5)
    cross_entropy = -np.log((p / p.sum(1, keepdims=True))[np.arange(len(labels)), labels]).mean()
    assert fit.objective == pytest.approx(cross_entropy + L2 / 2 * (weight**2).sum(), abs=1e-5)


def test_scale_and_offset_of_a_feature_change_nothing():
    features, labels = problem()
    constant = torch.full((len(labels), 1), 0.3)
    other = torch.cat([features * 7 - 100, constant], 1)
    one, two = fit_logistic(features, labels, 4, l2=L2), fit_logistic(other, labels, 4, l2=L2)
    assert torch.equal(two.weight[:, 6], torch.zeros(4))
    np.testing.assert_allclose(logits(one, features), logits(two, other), atol=5e-3)


def test_a_class_without_a_sample_is_never_predicted():
    features, labels = problem(classes=3)
    wide = fit_logistic(features, 2 * labels, 6, l2=L2)
    plain = fit_logistic(features, labels, 3, l2=L2)
    assert torch.equal(wide.bias[1::2], torch.full((3,), NEVER))
    assert torch.equal(wide.weight[1::2], torch.zeros(3, 6))
    assert torch.equal(wide.weight[::2], plain.weight) and torch.equal(wide.bias[::2], plain.bias)
    alone = fit_logistic(features, torch.zeros(len(labels)), 2, l2=L2)
    assert alone.converged and alone.iterations == 0 and alone.bias.tolist() == [0, NEVER]


def test_more_features_than_samples_converge():
    features = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    fit = fit_logistic(features, torch.arange(40) % 3, 3, l2=1e-4)
    assert fit.converged and fit.gradient <= TOLERANCE
    assert torch.equal((features @ fit.weight.T + fit.bias).argmax(1), torch.arange(40) % 3)


def test_a_fit_that_was_cut_short_says_so(caplog):
    features, labels = problem()
    fit = fit_logistic(features, labels, 4, l2=L2, iterations=3)
    assert not fit.converged and fit.iterations == 3 and fit.gradient > TOLERANCE
    assert "has NOT converged: 3 iterations on 3000 pixels" in caplog.text


def test_what_is_not_finite_is_refused():
    features, labels = problem()
    features[5, 2] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        fit_logistic(features, labels, 4, l2=L2)
