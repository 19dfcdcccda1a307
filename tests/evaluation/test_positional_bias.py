"""The probe of position against least squares of NumPy, on vectors that say it and that do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vice.errors import UserError
from vice.evaluation.position_scores import PixelSample, ReadOuts, measure_bias
from vice.evaluation.positional_bias import fit_eraser, fit_position


def made(rng, count, encoded, dim=6, mix_seed=0):
    """Positions, and vectors in whose rotated axes the named ones say x and y exactly."""
    positions = rng.random((count, 2))
    inner = rng.normal(size=(count, dim))
    for place, axis in enumerate(encoded):
        inner[:, place] = 3 * positions[:, "xy".index(axis)] + 5
    mix, _ = np.linalg.qr(np.random.default_rng(mix_seed).normal(size=(dim, dim)))
    return torch.from_numpy(inner @ mix).float(), torch.from_numpy(positions).float()


@pytest.mark.parametrize("encoded", ["", "x", "y", "xy"])
def test_what_is_encoded_is_found_and_then_gone(rng, encoded):
    fit, score = made(rng, 4000, encoded), made(rng, 3000, encoded)
    found = fit_position(*fit).r2(*score)
    eraser = fit_eraser(*fit)
    rest = [(eraser.erase(vectors), places) for vectors, places in (fit, score)]
    left = fit_position(*rest[0]).r2(*rest[1])
    for axis in "xy":
        assert found[axis] == pytest.approx(float(axis in encoded), abs=0.01)
        assert left[axis] == pytest.approx(0, abs=0.01)
    assert eraser.correlations == pytest.approx([1.0] * len(encoded), abs=1e-4)
    # A uniform number times 3 has the variance 3/4, each of the others 1.
    share = 0.75 * len(encoded) / (6 - 0.25 * len(encoded))
    assert eraser.variance_share == pytest.approx(share, rel=0.05)


def test_equals_least_squares_of_numpy(rng):
    """Correlated features of different scales, far from zero."""
    vectors, positions = rng.normal(size=(500, 5)), rng.random((500, 2))
    vectors = (vectors @ rng.normal(size=(5, 5)) + positions @ rng.normal(size=(2, 5))) * [
        1, 10, 0.1, 1, 100
    ] + 7  # fmt: skip
    design = np.c_[vectors, np.ones(500)]
    solution, *_ = np.linalg.lstsq(design, positions, rcond=None)
    rest = positions - design @ solution
    expected = 1 - (rest**2).sum(0) / ((positions - positions.mean(0)) ** 2).sum(0)
    tensors = torch.from_numpy(vectors), torch.from_numpy(positions)
    probe = fit_position(*tensors, ridge=1e-12)
    np.testing.assert_allclose(probe.weight.numpy(), solution[:-1], rtol=1e-6)
    np.testing.assert_allclose(probe.bias.numpy(), solution[-1], rtol=1e-6)
    np.testing.assert_allclose(list(probe.r2(*tensors).values()), expected, rtol=1e-6)
    assert fit_position(*tensors).r2(*tensors)["x"] == pytest.approx(expected[0], abs=1e-4)


def test_nothing_linear_in_the_position_remains_of_the_fitted_sample(rng):
    vectors, positions = made(rng, 700, "xy")
    vectors[:, 3] += 5 * positions[:, 0] ** 2 - positions[:, 1]
    vectors, positions = (
        vectors.double() * torch.tensor([1, 10, 0.1, 1, 100, 1]),
        positions.double(),
    )
    eraser = fit_eraser(vectors, positions)
    rest = eraser.erase(vectors)
    spread = vectors.std(0)
    covariance = (rest - rest.mean(0)).T @ (positions - positions.mean(0)) / 700
    assert float((covariance / spread[:, None]).abs().max()) < 1e-9
    for value in fit_position(rest, positions).r2(rest, positions).values():
        assert value == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(eraser.erase(rest), rest)
    torch.testing.assert_close(rest.mean(0), vectors.mean(0))
    lost = vectors.var(0).sum() - rest.var(0).sum()
    assert eraser.variance_share == pytest.approx(float(lost / vectors.var(0).sum()))
    # No change that leaves nothing is smaller: the orthogonal one takes more of the vectors.
    span, _ = torch.linalg.qr((vectors - vectors.mean(0)).T @ (positions - positions.mean(0)))
    other = vectors - (vectors - vectors.mean(0)) @ span @ span.T
    assert (rest - vectors).norm() <= (other - vectors).norm()


def test_chance_takes_nothing_out_whatever_varies_most(rng):
    vectors, positions = made(rng, 2000, "")
    scaled = vectors * torch.tensor([100.0, 1, 1, 1, 1, 0.01])
    eraser = fit_eraser(scaled, positions)
    assert eraser.correlations == () and eraser.variance_share == 0
    assert torch.equal(eraser.erase(scaled), scaled)


def test_constant_vectors_say_nothing(rng):
    positions = torch.from_numpy(rng.random((50, 2)))
    constant = torch.full((50, 3), 0.1)
    eraser = fit_eraser(constant, positions)
    assert eraser.correlations == () and eraser.variance_share == 0
    assert torch.equal(eraser.erase(constant), constant)
    found = fit_position(constant, positions).r2(constant, positions)
    assert found == {"x": pytest.approx(0), "y": pytest.approx(0)}
    same = torch.full((50, 2), 0.5)
    assert fit_position(constant, same).r2(constant, same) == {"x": None, "y": None}


def test_vectors_must_be_finite():
    with pytest.raises(UserError, match="not finite"):
        fit_position(torch.tensor([[1.0], [float("nan")]]), torch.zeros(2, 2))


@pytest.mark.parametrize("of_position", [True, False])
def test_scores_fall_only_where_position_alone_tells_the_classes(rng, of_position):
    """Classes are the halves of the images, or a feature that knows no place."""
    samples = []
    for count in (3000, 2000):
        positions = torch.from_numpy(rng.random((count, 2))).float()
        coin = torch.from_numpy(rng.integers(0, 2, count))
        labels = (positions[:, 0] > 0.5).long() if of_position else coin
        signs = 4.0 * coin if not of_position else 4.0 * labels
        noise = torch.from_numpy(rng.normal(size=(count, 2))).float() * 0.1
        samples.append(PixelSample(torch.cat([signs[:, None], noise], 1), positions, labels))
    asked = ReadOuts(("left", "right"), clusters=(2,), spherical=False)
    found = measure_bias(*samples, asked)
    before, after = found["before"], found["after"]
    assert before["r2"]["x"] == pytest.approx(0.75 if of_position else 0, abs=0.02)
    assert after["r2"]["x"] == pytest.approx(0, abs=0.02)
    for scores in (before["linear"], before["clusters"]["2"]["hungarian"]):
        assert scores["accuracy"] == 1
    for scores in (after["linear"], *after["clusters"]["2"].values()):
        assert scores["accuracy"] < 0.6 if of_position else scores["accuracy"] == 1
    assert found["pixels"] == {"fit": 3000, "score": 2000}
    assert found["removed"]["directions"] == int(of_position)
