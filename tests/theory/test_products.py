"""Products of matrices: exact moments of log-growth, gains, Lyapunov exponents."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from gradprop.components import gains
from gradprop.theory import (
    expected_square_norm,
    log_growth_mean,
    log_growth_variance,
    lyapunov_spectrum,
    mean_typical_gap,
    scaled_identity_delta,
    scaled_identity_output,
    scaled_identity_weight_gradient,
    sussillo_abbott_gain,
    unbiased_gain,
)

# n, m(n) at sigma_w2 = 2, v(n) for ReLU
RELU_TABLE = [
    (10, -0.30746, 0.86673),
    (15, -0.19002, 0.45977),
    (20, -0.13719, 0.31176),
    (30, -0.08840, 0.19115),
    (32, -0.08254, 0.17750),
    (50, -0.05174, 0.10817),
    (64, -0.04011, 0.08300),
    (100, -0.02542, 0.05194),
    (128, -0.01979, 0.04023),
    (256, -0.00983, 0.01982),
]


def test_scaled_identity() -> None:
    assert scaled_identity_output(1.5, 3) == 1.5**3
    assert scaled_identity_output(0.5, 150) == 0.5**150
    assert scaled_identity_output(1.5, 4000) == math.inf
    assert scaled_identity_weight_gradient(1.5, 3) == 1.5**2
    assert scaled_identity_delta(0.5, 10, 10) == 1.0
    assert scaled_identity_delta(0.5, 10, 1) == 0.5**9
    assert scaled_identity_delta(-1.0, 4, 1) == -1.0
    with pytest.raises(ValueError, match="depth"):
        scaled_identity_output(1.5, 0)
    with pytest.raises(ValueError, match="layers go from 1 to 3"):
        scaled_identity_delta(1.5, 3, 4)


def test_scaled_identity_by_back_propagation() -> None:
    rng = np.random.default_rng(0)
    c, depth = 1.3, 7
    x, g = rng.standard_normal(5), rng.standard_normal(5)
    h = [x]
    for _ in range(depth):
        h.append(c * h[-1])
    np.testing.assert_allclose(h[-1], scaled_identity_output(c, depth) * x)
    d = g
    for layer in range(depth, 0, -1):
        np.testing.assert_allclose(d, scaled_identity_delta(c, depth, layer) * g)
        gradient = scaled_identity_weight_gradient(c, depth) * np.outer(g, x)
        np.testing.assert_allclose(np.outer(d, h[layer - 1]), gradient)
        d = c * d


@pytest.mark.parametrize(("width", "mean", "variance"), RELU_TABLE)
def test_relu_table(width: int, mean: float, variance: float) -> None:
    assert log_growth_mean(width, 2.0, "relu") == pytest.approx(mean, abs=6e-6)
    assert log_growth_variance(width, "relu") == pytest.approx(variance, abs=6e-6)


def test_relu_moments_by_direct_summation() -> None:
    width = 12
    k = np.arange(1, width + 1)
    p = stats.binom.pmf(k, width, 0.5) / (1.0 - 0.5**width)
    first, second = [], []
    for active in k:  # moments of ln chi-squared by integration of its density
        chi2 = stats.chi2(active)
        moments = [
            integrate.quad(
                lambda y, e=e, law=chi2: y**e * math.exp(law.logpdf(math.exp(y)) + y), -60, 6
            )[0]
            for e in (1, 2)
        ]
        first.append(moments[0] - math.log(width))
        second.append(moments[1] - 2.0 * math.log(width) * moments[0] + math.log(width) ** 2)
    mean = float(p @ np.asarray(first))
    assert log_growth_mean(width, 1.0, "relu") == pytest.approx(mean, rel=1e-6)
    variance = float(p @ np.asarray(second)) - mean**2
    assert log_growth_variance(width, "relu") == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
@pytest.mark.parametrize("width", [3, 25])
def test_log_growth_by_simulation(activation: str, width: int) -> None:
    rng = np.random.default_rng(1)
    samples = 200_000
    left = {"linear": 1.0, "relu": 0.0, "leaky_relu": 0.2}[activation]
    g = rng.standard_normal((samples, width))
    growth = np.mean(np.where(g > 0.0, g, left * g) ** 2, axis=1)
    logs = np.log(growth[growth > 0.0])
    mean, variance = float(logs.mean()), float(logs.var())
    error = math.sqrt(variance / logs.size)
    assert abs(mean - log_growth_mean(width, 1.0, activation)) < 5.0 * error
    fourth = float(np.mean((logs - mean) ** 4))
    error = math.sqrt((fourth - variance**2) / logs.size)
    assert abs(variance - log_growth_variance(width, activation)) < 5.0 * error


def test_laplace_transform_agrees_with_the_special_cases() -> None:
    for width in (1, 4, 60, 5000):
        linear = gains._log_moments_linear(width, 1.0)
        both = gains._log_moments_two_slopes(width, 1.0, 1.0)
        np.testing.assert_allclose(both, linear, rtol=1e-10)
    relu = gains._log_moments_relu(300, 1.0)
    np.testing.assert_allclose(gains._log_moments_two_slopes(300, 1.0, 1e-9), relu, rtol=1e-9)


def test_leading_orders_at_large_width() -> None:
    n = 4000
    cases = (("linear", 1.0, 2.0), ("relu", 2.5, 5.0))
    for activation, drift, spread in cases:
        assert n * mean_typical_gap(n, activation) == pytest.approx(drift, rel=2e-3)
        assert n * log_growth_variance(n, activation) == pytest.approx(spread, rel=2e-3)
    # (A - 1) / n with A = 6 (1 + a**4) / (1 + a**2)**2
    excess = 6.0 * (1.0 + 0.2**4) / (1.0 + 0.2**2) ** 2 - 1.0
    assert n * log_growth_variance(n, "leaky_relu") == pytest.approx(excess, rel=2e-3)


def test_expected_square_norm() -> None:
    assert expected_square_norm(1.5, 3) == 1.5**3
    assert expected_square_norm(2.0, 500, "relu") == 1.0
    assert expected_square_norm(2.0, 2, "leaky_relu") == pytest.approx(1.04**2)
    assert expected_square_norm(3.0, 5000) == math.inf
    rng = np.random.default_rng(2)
    x = np.full((40_000, 4), 0.5)
    for _ in range(3):
        x = np.einsum("sij,sj->si", rng.standard_normal((40_000, 4, 4)) * math.sqrt(1.2 / 4), x)
    square = np.sum(x**2, axis=1)
    error = float(square.std()) / math.sqrt(square.size)
    assert abs(float(square.mean()) - expected_square_norm(1.2, 3)) < 5.0 * error


def test_gains() -> None:
    for width, formula in ((10, 1.6561), (20, 1.5140), (50, 1.4503), (100, 1.4317)):
        assert sussillo_abbott_gain(width) == pytest.approx(formula, abs=6e-5)
        assert unbiased_gain(width) == pytest.approx(formula, rel=0.007)
        mean = log_growth_mean(width, 2.0, "relu")
        assert unbiased_gain(width) == pytest.approx(math.sqrt(2.0) * math.exp(-0.5 * mean))
    assert sussillo_abbott_gain(3) == sussillo_abbott_gain(6)
    assert sussillo_abbott_gain(50, "linear") == pytest.approx(
        unbiased_gain(50, "linear"), rel=1e-4
    )
    every = ("linear", "relu", "leaky_relu")
    for activation in every:
        gain = unbiased_gain(30, activation)
        assert log_growth_mean(30, gain**2, activation) == pytest.approx(0.0, abs=1e-14)
    with pytest.raises(ValueError, match="linear and relu"):
        sussillo_abbott_gain(10, "tanh")
    with pytest.raises(ValueError, match="width"):
        sussillo_abbott_gain(0)


def test_lyapunov_spectrum() -> None:
    exponents = lyapunov_spectrum(6, 1.4)
    assert 2.0 * exponents[0] == pytest.approx(log_growth_mean(6, 1.4, "linear"))
    # sum of all exponents: E ln|det W|
    rng = np.random.default_rng(3)
    matrices = rng.standard_normal((20_000, 6, 6)) * math.sqrt(1.4 / 6)
    logs = np.linalg.slogdet(matrices)[1]
    error = float(logs.std()) / math.sqrt(logs.size)
    assert abs(float(logs.mean()) - float(exponents.sum())) < 5.0 * error
    # each of them, by repeated QR of 100 products of 300 matrices
    total = np.zeros((100, 6))
    q = np.broadcast_to(np.eye(6), (100, 6, 6))
    for _ in range(300):
        q, r = np.linalg.qr(rng.standard_normal((100, 6, 6)) * math.sqrt(1.4 / 6) @ q)
        total += np.log(np.abs(np.diagonal(r, axis1=1, axis2=2)))
    rates = total / 300.0
    error_each = rates.std(axis=0, ddof=1) / 10.0
    assert np.all(np.abs(rates.mean(axis=0) - exponents) < 5.0 * error_each)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="not homogeneous"):
        log_growth_mean(10, 1.0, "tanh")
    with pytest.raises(ValueError, match="width"):
        log_growth_variance(0)
    with pytest.raises(ValueError, match="sigma_w2"):
        log_growth_mean(10, 0.0)
    with pytest.raises(ValueError, match="sigma_w2"):
        lyapunov_spectrum(10, 0.0)
    with pytest.raises(ValueError, match="depth"):
        expected_square_norm(1.0, 0)
