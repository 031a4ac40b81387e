"""ReLU angles, critical tanh, batch normalization and SELU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from gradprop.components.activations import get
from gradprop.theory import (
    batch_norm_growth,
    chi_1,
    correlation_map,
    critical_tanh_delta_ratio,
    critical_tanh_length,
    linear_batch_norm_growth,
    moment_map,
    moment_map_jacobian,
    relu_correlation_asymptote,
    relu_correlation_map,
    relu_gradient_correlation,
    signal_profile,
)


def test_relu_map_is_the_mean_field_map() -> None:
    c = np.linspace(-1.0, 1.0, 41)
    for name, slope in (("relu", 0.0), ("leaky_relu", 0.2), ("linear", 1.0)):
        expected = [correlation_map(name, float(x), 1.3, 1.7) for x in c]
        np.testing.assert_allclose(relu_correlation_map(c, slope), expected, atol=1e-15)
    np.testing.assert_allclose(relu_correlation_map(0.0), 1.0 / math.pi)
    with pytest.raises(ValueError, match="correlation"):
        relu_correlation_map([0.0, 1.1])


def test_relu_map_by_simulation() -> None:
    rng = np.random.default_rng(3)
    c, samples = 0.3, 400_000
    u = rng.standard_normal((2, samples))
    u[1] = c * u[0] + math.sqrt(1.0 - c * c) * u[1]
    products = 2.0 * np.prod(np.maximum(u, 0.0), axis=0)  # E[relu**2] = 1/2
    error = float(products.std()) / math.sqrt(samples)
    assert abs(float(products.mean()) - float(relu_correlation_map(c))) < 5.0 * error


def test_the_asymptote_is_slow() -> None:
    c, ratios = 0.0, {}
    for layer in range(1, 501):
        c = float(relu_correlation_map(c))
        ratios[layer] = (1.0 - c) / float(relu_correlation_asymptote(layer))
    for layer, ratio in ((10, 0.29), (20, 0.46), (50, 0.68), (100, 0.81), (500, 0.95)):
        assert ratios[layer] == pytest.approx(ratio, abs=0.006)


def test_gradient_correlation() -> None:
    correlation = relu_gradient_correlation(0.0, 400)
    assert correlation[0] == pytest.approx(0.5)
    for layer, expected in ((10, 0.034), (20, 0.0082), (100, 0.00014)):
        assert correlation[layer - 1] == pytest.approx(expected, rel=0.04)
    exponent = math.log(correlation[399] / correlation[199]) / math.log(400 / 200)
    assert exponent == pytest.approx(-3.0, abs=0.15)
    assert relu_gradient_correlation(1.0, 5).tolist() == [1.0] * 5
    with pytest.raises(ValueError, match="correlation"):
        relu_gradient_correlation(2.0, 3)


def test_gradient_correlation_by_simulation() -> None:
    rng = np.random.default_rng(4)
    width, depth, nets = 300, 4, 50
    overlap = np.empty(nets)
    for net in range(nets):
        h = np.linalg.qr(rng.standard_normal((width, 2)))[0].T  # two orthogonal unit inputs
        masks, weights = [], []
        for _ in range(depth):
            weights.append(rng.standard_normal((width, width)) * math.sqrt(2.0 / width))
            z = h @ weights[-1].T
            masks.append(z > 0.0)
            h = np.maximum(z, 0.0)
        d = np.tile(rng.standard_normal(width), (2, 1))
        for w, mask in zip(weights[::-1], masks[::-1], strict=True):
            d = (d * mask) @ w
        overlap[net] = d[0] @ d[1] / math.sqrt(float(d[0] @ d[0]) * float(d[1] @ d[1]))
    error = float(overlap.std(ddof=1)) / math.sqrt(nets)
    expected = float(relu_gradient_correlation(0.0, depth)[-1])
    assert abs(float(overlap.mean()) - expected) < 5.0 * error + 2.0 / width


def test_critical_tanh() -> None:
    profile = signal_profile("tanh", [10] * 1501, 1.0)
    assert profile.q[-1] == pytest.approx(float(critical_tanh_length(1500)), rel=0.005)
    expected = critical_tanh_delta_ratio(np.arange(1, 1501), 1500)
    np.testing.assert_allclose(profile.delta_ratio(1500)[500:], expected[500:], rtol=0.01)


def test_batch_norm_constants() -> None:
    assert batch_norm_growth("relu") == pytest.approx(math.pi / (math.pi - 1.0), rel=1e-12)
    assert batch_norm_growth("relu") == pytest.approx(1.46694, abs=6e-6)
    assert math.sqrt(batch_norm_growth("relu")) == pytest.approx(1.21117, abs=6e-6)
    assert batch_norm_growth("linear") == pytest.approx(1.0, rel=1e-12)
    assert math.sqrt(batch_norm_growth("tanh")) == pytest.approx(1.09, abs=0.01)
    for name in ("sigmoid", "softsign", "elu", "selu", "gelu", "swish", "leaky_relu"):
        assert batch_norm_growth(name) > 1.0
    assert linear_batch_norm_growth(128) == pytest.approx(126 / 125)
    with pytest.raises(ValueError, match="batch"):
        linear_batch_norm_growth(3)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("sigma_w2", [0.5, 3.0])
def test_batch_norm_by_simulation(name: str, sigma_w2: float) -> None:
    rng = np.random.default_rng(5)
    phi, width, depth = get(name), 256, 16
    h = rng.standard_normal((width, width))  # as many examples as units
    layers = []
    for _ in range(depth):
        weights = rng.standard_normal((width, width)) * math.sqrt(sigma_w2 / width)
        z = h @ weights
        spread = z.std(axis=0)
        y = (z - z.mean(axis=0)) / spread
        layers.append((weights, spread, y))
        h = phi.function(y)
    d = rng.standard_normal((width, width))
    logs = []
    for weights, spread, y in layers[::-1]:
        g = d * phi.derivative(y)
        g = (g - g.mean(axis=0) - y * np.mean(g * y, axis=0)) / spread
        d = g @ weights.T
        logs.append(math.log(float(np.mean(d**2))))
    growth = math.exp((logs[-4] - logs[4]) / (2.0 * (depth - 8)))
    # finite width and batch add about 1 % at 256
    assert growth == pytest.approx(math.sqrt(batch_norm_growth(name)), rel=0.02)


def test_selu_constants() -> None:
    mean, variance = moment_map("selu", 0.0, 1.0)
    assert mean == pytest.approx(0.0, abs=1e-14)
    assert variance == pytest.approx(1.0, rel=1e-13)
    jacobian = moment_map_jacobian("selu")
    np.testing.assert_allclose(jacobian, [[0.0, 0.0888348], [0.0, 0.7826479]], atol=6e-8)
    assert float(np.linalg.norm(jacobian, 2)) == pytest.approx(0.7877, abs=6e-5)
    assert chi_1("selu", 1.0, 1.0) == pytest.approx(1.07157, abs=6e-6)
    assert math.sqrt(chi_1("selu", 1.0, 1.0)) == pytest.approx(1.03517, abs=6e-6)


def test_selu_gradient_factor_in_closed_form() -> None:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    # E[exp(2 z); z < 0] = exp(2) Phi(-2)
    tail = alpha**2 * math.exp(2.0) * float(special.ndtr(-2.0))
    assert chi_1("selu", 1.0, 1.0) == pytest.approx(scale**2 * (0.5 + tail), rel=1e-13)


@pytest.mark.parametrize("name", ["selu", "tanh", "relu", "gelu"])
def test_moment_jacobian_matches_differences(name: str) -> None:
    point, step = np.array([0.3, 0.8]), 1e-4
    jacobian = moment_map_jacobian(name, 0.3, 0.8, 0.5, 1.2)
    for column in range(2):
        shift = np.zeros(2)
        shift[column] = step
        up, down = point + shift, point - shift
        high = np.array(moment_map(name, float(up[0]), float(up[1]), 0.5, 1.2))
        low = np.array(moment_map(name, float(down[0]), float(down[1]), 0.5, 1.2))
        np.testing.assert_allclose(jacobian[:, column], (high - low) / (2.0 * step), atol=1e-7)
    with pytest.raises(ValueError, match="positive"):
        moment_map_jacobian(name, variance=0.0)
