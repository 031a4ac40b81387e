"""Laws of lengths and gradients at finite width against simulated networks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from gradprop.theory import (
    critical_tanh_fluctuation,
    dead_probability,
    gradient_fluctuation,
    gradient_law,
    length_fluctuation,
    length_law,
    log_growth_mean,
    reciprocal_width_sum,
)

FloatArray = npt.NDArray[np.float64]


def _simulate(
    widths: list[int], sigma_w2: float, left: float, nets: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Mean squares of h^l and delta^l, shape (nets, L), of one fixed input of mean square 1."""
    rng = np.random.default_rng(seed)
    h = np.ones((nets, widths[0]))
    weights, slopes, lengths = [], [], []
    for fan_in, width in itertools.pairwise(widths):
        w = rng.standard_normal((nets, width, fan_in)) * math.sqrt(sigma_w2 / fan_in)
        z = np.einsum("sij,sj->si", w, h)
        slopes.append(np.where(z > 0.0, 1.0, left))
        h = z * slopes[-1]
        weights.append(w)
        lengths.append(np.mean(h**2, axis=1))
    error = rng.standard_normal((nets, widths[-1]))
    # an isotropic error before the last slopes: delta^L itself then has a random length
    d = slopes[-1] * error
    deltas = [np.mean(d**2, axis=1)]
    for w, slope in zip(weights[:0:-1], slopes[-2::-1], strict=True):
        d = slope * np.einsum("sij,si->sj", w, d)
        deltas.append(np.mean(d**2, axis=1))
    return np.stack(lengths, axis=1), np.stack(deltas[::-1], axis=1)


def _check_moments(logs: FloatArray, mean: float, variance: float) -> None:
    """Sample mean and variance within five standard errors."""
    center, spread = float(logs.mean()), float(logs.var())
    assert abs(center - mean) < 5.0 * math.sqrt(spread / logs.size)
    fourth = float(np.mean((logs - center) ** 4))
    assert abs(spread - variance) < 5.0 * math.sqrt((fourth - spread**2) / logs.size)


def test_exact_values_of_the_log_law() -> None:
    for widths, mean, variance in (
        ([20] * 20, -2.744, 6.235),
        ([32] * 32, -2.641, 5.680),
        ([10] * 10, None, 8.67),
        ([15] * 20, None, 9.2),
        ([30, 10] * 10, None, 10.6),
        ([30] * 10 + [10] * 10, None, 10.6),
        ([10] * 10 + [30] * 10, None, 10.6),
    ):
        law = length_law(widths, 2.0)
        assert law.variance[-1] == pytest.approx(variance, rel=5e-3)
        if mean is not None:
            assert law.mean[-1] == pytest.approx(mean, abs=6e-4)
    assert reciprocal_width_sum([15] * 20) == pytest.approx(reciprocal_width_sum([30, 10] * 10))


def test_moment_ratios() -> None:
    assert length_fluctuation([20] * 20)[-1] + 1.0 == pytest.approx(86.7, abs=0.05)
    assert length_fluctuation([20] * 40)[-1] + 1.0 == pytest.approx(7523, abs=1)
    assert length_fluctuation([1000] * 10)[-1] == pytest.approx(5.0 * 10 / 1000, rel=0.03)
    assert length_fluctuation([1000] * 10, "linear")[-1] == pytest.approx(0.02, rel=0.02)
    assert gradient_fluctuation([100, 100], "linear") == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("activation", "left", "sigma_w2"),
    [("relu", 0.0, 2.0), ("leaky_relu", 0.2, 1.7), ("linear", 1.0, 1.1)],
)
def test_lengths_and_gradients_follow_their_laws(
    activation: str, left: float, sigma_w2: float
) -> None:
    widths = [9, 14, 20, 12, 25, 16]
    lengths, deltas = _simulate(widths, sigma_w2, left, 8000, seed=5)
    alive = lengths[:, -1] > 0.0
    assert alive.sum() > 7900
    lengths, deltas = lengths[alive], deltas[alive]
    law = length_law(widths[1:], sigma_w2, activation)
    for layer in (0, 2, 4):
        _check_moments(np.log(lengths[:, layer]), law.mean[layer], law.variance[layer])
    law = gradient_law(widths[1:], sigma_w2, activation)
    for layer in (0, 2, 3):
        ratio = np.log(deltas[:, layer] / deltas[:, 4])
        _check_moments(ratio, law.mean[layer], law.variance[layer])
    assert (law.mean[4], law.variance[4]) == (0.0, 0.0)


def test_moments_by_simulation() -> None:
    widths = [20, 30, 25, 35]
    lengths, deltas = _simulate(widths, 2.0, 0.0, 8000, seed=6)
    for sample, expected in (
        (lengths[:, -1], float(length_fluctuation(widths[1:])[-1])),
        # delta^1 contains the slopes of layer 1 but not W_1: no factor for n_0. The error is
        # Gaussian instead of a unit vector, which adds a factor 1 + 2 / n_L.
        (
            deltas[:, 0],
            (1.0 + gradient_fluctuation(widths)) * (1 + 2 / 35) / (1 + 2 / 20) - 1.0,
        ),
    ):
        relative = (sample / sample.mean()) ** 2
        error = float(relative.std()) / math.sqrt(relative.size)
        assert abs(float(relative.mean()) - 1.0 - expected) < 5.0 * error


def test_bands() -> None:
    law = length_law([64] * 32, 2.0, start=2.0)
    band = law.quantiles([0.025, 0.5, 0.975])
    assert band.shape == (32, 3)
    np.testing.assert_allclose(band[:, 1], law.mean)
    width = 2.0 * 1.959964 * np.sqrt(law.variance)
    np.testing.assert_allclose(band[:, 2] - band[:, 0], width, rtol=1e-6)
    assert law.mean[0] == pytest.approx(math.log(2.0) + log_growth_mean(64, 2.0, "relu"))
    lengths, _ = _simulate([32] * 13, 2.0, 0.0, 1500, seed=8)
    final = length_law([32] * 12, 2.0)
    scores = (np.log(lengths[:, -1]) - final.mean[-1]) / math.sqrt(final.variance[-1])
    assert stats.kstest(scores, "norm").pvalue > 0.001
    low, high = final.quantiles([0.025, 0.975])[-1]
    logs = np.log(lengths[:, -1])
    share = float(np.mean((logs > low) & (logs < high)))
    assert abs(share - 0.95) < 5.0 * math.sqrt(0.95 * 0.05 / logs.size)


def test_weight_variances_by_layer() -> None:
    law = length_law([20, 30], [2.0, 3.0])
    expected = log_growth_mean(20, 2.0, "relu") + log_growth_mean(30, 3.0, "relu")
    assert law.mean[-1] == pytest.approx(expected)
    law = gradient_law([20, 30], [2.0, 3.0])
    assert law.mean[0] == pytest.approx(log_growth_mean(20, 3.0, "relu") + math.log(30 / 20))


def test_critical_tanh_fluctuations() -> None:
    prediction = critical_tanh_fluctuation([128] * 600)
    assert prediction[-1] == pytest.approx(2.0 / 3.0 * 600 / 128, rel=3e-3)
    # against simulation where l / n is small
    rng = np.random.default_rng(9)
    nets, width, depth = 900, 64, 12
    h = np.ones((nets, width))
    for _ in range(depth):
        w = rng.standard_normal((nets, width, width)) / math.sqrt(width)
        h = np.tanh(np.matmul(w, h[:, :, None])[:, :, 0])
    lengths = np.mean(h**2, axis=1)
    relative = float(lengths.var() / lengths.mean() ** 2)
    assert relative == pytest.approx(float(critical_tanh_fluctuation([width] * depth)[-1]), rel=0.2)


def test_dead_networks() -> None:
    assert dead_probability([5] * 10)[-1] == pytest.approx(0.2720, abs=6e-5)
    assert dead_probability([2] * 10)[-1] == pytest.approx(0.944, abs=6e-4)
    assert dead_probability([10] * 10)[-1] == pytest.approx(0.0097, abs=6e-5)
    assert dead_probability([200])[0] == pytest.approx(2.0**-200, rel=1e-12)
    lengths, _ = _simulate([3] * 7, 2.0, 0.0, 20_000, seed=10)
    for layer in (0, 5):
        expected = float(dead_probability([3] * 6)[layer])
        share = float(np.mean(lengths[:, layer] == 0.0))
        assert abs(share - expected) < 5.0 * math.sqrt(expected * (1.0 - expected) / 20_000)


def test_bad_arguments() -> None:
    for widths in ([], [0], [3, -1]):
        with pytest.raises(ValueError, match="widths"):
            reciprocal_width_sum(widths)
    with pytest.raises(ValueError, match="two widths"):
        gradient_fluctuation([3])
    with pytest.raises(ValueError, match="not homogeneous"):
        length_fluctuation([3], "tanh")
    with pytest.raises(ValueError, match="start"):
        length_law([3], 2.0, start=0.0)
    with pytest.raises(ValueError, match="one value or 2"):
        length_law([3, 3], [2.0])
    with pytest.raises(ValueError, match="probabilities"):
        length_law([3, 3], 2.0).quantiles([0.0])
