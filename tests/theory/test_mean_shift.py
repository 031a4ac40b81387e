"""Kernels and biases with a mean: closed forms of linear networks, and simulated networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gradprop import theory
from gradprop.components import activations
from gradprop.components.activations import ACTIVATIONS

Float64 = npt.NDArray[np.float64]


def profile(activation: str, widths: list[int], **given: Any) -> theory.ShiftedProfile:
    layers = len(widths) - 1
    one: dict[str, float] = {"sigma_w2": 1.0, "weight_mean": 0.0, "sigma_b2": 0.0, "bias_mean": 0.0}
    sequences: dict[str, Any] = {
        key: [given.pop(key, value)] * layers for key, value in one.items()
    }
    inputs: dict[str, Any] = {"input_mean": 0.0, "input_mean_square": 1.0, **given}
    return theory.shifted_profile(activation, widths, **sequences, **inputs)


@pytest.mark.parametrize("activation", ["tanh", "relu", "selu", "sigmoid"])
def test_without_means_it_is_the_length_map(activation: str) -> None:
    found = profile(activation, [30, 50, 50, 20], sigma_w2=1.7, sigma_b2=0.1)
    plain = theory.signal_profile(activation, [30, 50, 50, 20], 1.7, 0.1)
    np.testing.assert_allclose(found.q, plain.q, rtol=1e-8)
    np.testing.assert_allclose(found.log_delta, plain.log_delta, rtol=1e-8)
    assert (found.mean == 0).all() and (found.wander == 0).all() and (found.sum_share == 0).all()


def test_the_direction_of_ones_in_a_linear_network() -> None:
    """It is multiplied by n mu in each layer, and the rest by the scale of the normal part."""
    n, mu = 50, 0.03
    found = profile("linear", [n] * 7, sigma_w2=0.5, weight_mean=mu, input_mean=0.4)
    np.testing.assert_allclose(found.mean, 0.4 * (n * mu) ** np.arange(1, 7), rtol=1e-12)
    v, m = 0.5, n * mu * 0.4
    for layer in range(1, 6):
        v, m = 0.5 * (v + m**2), n * mu * m
        assert found.variance[layer] == pytest.approx(v, rel=1e-12)


def test_expected_squares_of_linear_networks_by_simulation() -> None:
    """Exact at any width: E[m^2] + v forward, and back whatever the sum of the signals is."""
    rng = np.random.default_rng(0)
    n, mu, s2, depth, networks = 12, 0.12, 0.6, 4, 200_000
    x = rng.standard_normal(n) + 0.5
    z = np.broadcast_to(x, (networks, n))
    delta = np.ones((networks, n))
    squares, signals = [], []
    for _ in range(depth):
        kernel = mu + math.sqrt(s2 / n) * rng.standard_normal((networks, n, n))
        z = np.einsum("kij,kj->ki", kernel, z)
        squares.append(np.mean(z**2))
        signals.append(np.mean(delta**2))
        delta = np.einsum("kij,ki->kj", kernel, delta)
    found = profile(
        "linear", [n] * (depth + 1), sigma_w2=s2, weight_mean=mu,
        input_mean=float(x.mean()), input_mean_square=float(np.mean(x**2)), output_sum=1.0,
    )  # fmt: skip
    # E[q] has the wandering mean in it; v of later layers, too, which is not part of the fields.
    carried = np.array([0.0, 0.0, s2 * found.wander[1], 0.0])
    expected = found.q + found.wander + carried
    np.testing.assert_allclose(squares[:3], expected[:3], rtol=0.02)
    np.testing.assert_allclose(signals[::-1], np.exp(found.log_delta), rtol=0.03)


def simulate(
    activation: str, n: int, depth: int, networks: int, **law: float
) -> tuple[float, Float64, Float64, Float64]:
    """Return the mean of the input; means, variances and log signals by network and layer."""
    rng = np.random.default_rng(1)
    phi = activations.get(activation)
    fields = np.empty((3, networks, depth))
    x = rng.standard_normal(n) + law["input_mean"]
    x *= math.sqrt(1.0 / np.mean(x**2))
    for network in range(networks):
        h, kernels, z = x, [], []
        for _ in range(depth):
            normal = math.sqrt(law["sigma_w2"] / n) * rng.standard_normal((n, n))
            kernels.append(normal + law["weight_mean"])
            bias = law["bias_mean"] + math.sqrt(law["sigma_b2"]) * rng.standard_normal(n)
            z.append(kernels[-1] @ h + bias)
            h = phi.function(z[-1])
        delta = rng.standard_normal(n)
        delta -= delta.mean()
        for layer in range(depth - 1, -1, -1):
            fields[:, network, layer] = z[layer].mean(), z[layer].var(), np.mean(delta**2)
            if layer:
                delta = (kernels[layer].T @ delta) * phi.derivative(z[layer - 1])
    fields[2] = np.log(fields[2] / fields[2, :, -1:])
    return float(x.mean()), fields[0], fields[1], fields[2]


@pytest.mark.parametrize(
    ("activation", "weight_mean", "bias_mean"),
    [
        ("relu", 0.0015, 0.0),
        ("relu", -0.002, 0.3),
        ("tanh", 0.002, 0.4),
        ("sigmoid", -0.003, 0.0),
        ("gelu", 0.0, -0.5),
    ],
)
def test_wide_networks_by_simulation(activation: str, weight_mean: float, bias_mean: float) -> None:
    """The mean itself, the variance around it, and signals as long as their sums are small."""
    n, depth, networks = 500, 5, 12
    law = {"sigma_w2": 1.5, "weight_mean": weight_mean, "sigma_b2": 0.04, "bias_mean": bias_mean}
    start, means, variances, signals = simulate(
        activation, n, depth, networks, input_mean=0.5, **law
    )
    found = profile(activation, [n] * (depth + 1), **law, input_mean=start)
    error = 4 * np.sqrt((found.wander + found.variance / n) / networks)
    assert (abs(means.mean(axis=0) - found.mean) < error).all()
    np.testing.assert_allclose(variances.mean(axis=0), found.variance, rtol=0.12)
    assert found.sum_share.max() < 0.05
    np.testing.assert_allclose(signals.mean(axis=0), found.log_delta, atol=0.15)


def test_means_wander_from_network_to_network() -> None:
    n, networks = 200, 300
    law = {"sigma_w2": 1.0, "weight_mean": 0.006, "sigma_b2": 0.0, "bias_mean": 0.0}
    start, means, _, _ = simulate("tanh", n, 4, networks, input_mean=0.0, **law)
    found = profile("tanh", [n] * 5, **law, input_mean=start)
    # relative standard error of a variance of 300 values: 8 %; the first layer has that of 1/n
    np.testing.assert_allclose(
        means.var(axis=0)[1:], found.wander[1:] + found.variance[1:] / n, rtol=0.3
    )


def test_fields_that_leave_the_range_of_floats() -> None:
    found = profile("linear", [100] * 81, weight_mean=1.0, input_mean=1.0)
    assert np.isfinite(found.mean[:20]).all() and np.isnan(found.mean[-1])
    assert np.isnan(found.log_delta).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_w2": -1.0}, "sigma_w2 must be finite and not negative"),
        ({"weight_mean": math.inf}, "weight_mean must be finite"),
        ({"input_mean": math.nan}, "input_mean must be finite"),
    ],
)
def test_wrong_arguments(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile("tanh", [3, 3], **change)


@pytest.mark.parametrize("mean", [0.1, 3.0, -3.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_profile_ends_where_numbers_do(name: str, mean: float) -> None:
    """Of any activation function and at any depth: no error, and nothing after a layer without."""
    for depth in (3, 40):
        law = theory.shifted_profile(
            name, [64] * (depth + 1), [2.0] * depth, [mean] * depth, [0.1] * depth, [0.0] * depth,
            0.3, 1.0,
        )  # fmt: skip
        known = np.isfinite(law.variance)
        assert known[0]
        assert not np.diff(known.astype(int)).max(initial=0) > 0
