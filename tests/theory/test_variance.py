"""Layer-by-layer variances against the formulas of the papers and simulated networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradprop.components.activations import get
from gradprop.theory import chi_1, length_map, mean_field_state, sigma_w2_of_scaling, signal_profile


def test_scaling() -> None:
    assert sigma_w2_of_scaling(1.0, "fan_in", 7, 50) == 1.0
    assert sigma_w2_of_scaling(2.0, "fan_in", 7, 50) == 2.0
    assert sigma_w2_of_scaling(1.0, "fan_avg", 64, 100) == pytest.approx(2.0 * 64 / 164)
    assert sigma_w2_of_scaling(1.0, "fan_out", 64, 100) == pytest.approx(0.64)
    with pytest.raises(ValueError, match="unknown mode"):
        sigma_w2_of_scaling(1.0, "fan", 3, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fan_in must be at least 1"):
        sigma_w2_of_scaling(1.0, "fan_in", 0, 3)


def test_linear_regime_of_glorot_and_bengio() -> None:
    widths, variance = [30, 50, 20, 80, 10], np.array([0.02, 0.03, 0.01, 0.05])
    n = np.asarray(widths, dtype=float)
    profile = signal_profile("linear", widths, list(n[:-1] * variance), input_mean_square=1.7)
    # Var z^i = Var x prod n_k Var W^k; Var dC/ds^i = Var dC/ds^d prod n_{k+1} Var W^k
    np.testing.assert_allclose(profile.q, 1.7 * np.cumprod(n[:-1] * variance))
    back = np.cumprod((n[2:] * variance[1:])[::-1])[::-1]
    np.testing.assert_allclose(profile.delta_ratio(4), np.append(back, 1.0))
    weight = profile.delta_ratio(4) * np.concatenate([[1.7], profile.q[:-1]])
    np.testing.assert_allclose(profile.weight_gradient_ratio(4), weight / weight[-1])


def test_weight_gradients_of_equal_widths_hide_the_decay() -> None:
    profile = signal_profile("linear", [50] * 9, 1.0 / 3.0)
    np.testing.assert_allclose(profile.weight_gradient_ratio(1), 1.0)
    np.testing.assert_allclose(profile.delta_ratio(8)[0], 3.0**-7)


def test_standard_and_normalised_tanh() -> None:
    standard = signal_profile("tanh", [64] + [1000] * 5, 1.0 / 3.0)
    # measured at width 1000: 0.083, and a flat weight gradient in layers 2 to 5
    assert math.sqrt(standard.delta_ratio(5)[0]) == pytest.approx(0.0832, abs=1e-4)
    gradient = np.sqrt(standard.weight_gradient_ratio(5))[1:]
    assert gradient.max() / gradient.min() < 1.01
    first = sigma_w2_of_scaling(1.0, "fan_avg", 64, 1000)
    normalised = signal_profile("tanh", [64] + [1000] * 5, [first, 1.0, 1.0, 1.0, 1.0])
    assert math.sqrt(normalised.delta_ratio(5)[0]) == pytest.approx(0.735, abs=1e-3)


def test_rectifiers() -> None:
    he = signal_profile("relu", [40] * 31, 2.0)
    np.testing.assert_allclose(he.delta_ratio(30), 1.0)
    xavier = signal_profile("relu", [40] * 32, 1.0)
    assert math.sqrt(xavier.delta_ratio(31)[0]) == pytest.approx(3.1e-5, rel=0.02)  # 2**(-30/2)
    leaky = signal_profile("leaky_relu", [40] * 11, 2.0 / 1.04)
    np.testing.assert_allclose(leaky.delta_ratio(10), 1.0)


def test_vgg_example_of_he() -> None:
    # weights of standard deviation 0.01 where sqrt(2 / fan_out) is right, fan_out = 9 d
    widths = [9 * d for d in (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)]
    sigma_w2 = [1.0] + [n * 0.01**2 for n in widths[:-1]]
    loss = 1.0 / math.sqrt(signal_profile("relu", [9, *widths], sigma_w2).delta_ratio(10)[0])
    assert loss == pytest.approx(1.7e4, rel=0.02)


def test_fixed_point_gives_the_mean_field_rate() -> None:
    state = mean_field_state("tanh", 1.4, 0.05)
    profile = signal_profile("tanh", [100] * 81, 1.4, 0.05, input_mean_square=3.0)
    slope = np.diff(profile.log_delta)[40:]
    np.testing.assert_allclose(slope, -math.log(state.chi_1), rtol=1e-9)
    np.testing.assert_allclose(profile.q[40:], state.q_star, rtol=1e-9)
    assert profile.chi[0] == pytest.approx(chi_1("tanh", 1.4 * 3.0 + 0.05, 1.4))


def test_critical_tanh_is_a_power_law() -> None:
    profile = signal_profile("tanh", [100] * 2001, 1.0)
    layers = np.arange(1, 2001)
    tail = slice(199, None)
    fit = np.polyfit(np.log(layers[tail]), profile.log_delta[tail], 1)
    assert fit[0] == pytest.approx(1.0, abs=0.02)
    assert profile.q[-1] * 2 * 2000 == pytest.approx(1.0, abs=0.005)
    np.testing.assert_allclose(profile.weight_gradient_ratio(2000)[tail], 1.0, atol=0.01)


def test_selu_gradients_grow_at_stationary_lengths() -> None:
    profile = signal_profile("selu", [200] * 31, 1.0)
    np.testing.assert_allclose(profile.q, 1.0, rtol=1e-12)
    growth = math.exp(profile.log_delta[0] / 29.0)
    assert growth == pytest.approx(1.071575, abs=1e-6)


def test_depths_beyond_the_range_of_floats() -> None:
    sigmoid = signal_profile("sigmoid", [64] * 401, 1.0)
    assert sigmoid.log_delta[0] == pytest.approx(-2.8874 * 399, rel=1e-3)
    assert math.exp(sigmoid.log_delta[0]) == 0.0
    relu = signal_profile("relu", [64] * 2001, 4.0)
    assert relu.q[-1] == math.inf
    assert relu.log_delta[0] == pytest.approx(1999 * math.log(2.0))
    swish = signal_profile("swish", [64] * 2001, 4.0)
    assert swish.q[-1] == math.inf
    assert swish.log_delta[0] == pytest.approx(1999 * math.log(2.0), rel=0.01)


def test_no_weights_no_signal() -> None:
    profile = signal_profile("tanh", [4, 4, 4], 0.0)
    assert profile.q.tolist() == [0.0, 0.0]
    assert profile.log_delta.tolist() == [-math.inf, 0.0]


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "selu"])
def test_simulated_rectangular_networks(name: str) -> None:
    rng = np.random.default_rng(11)
    phi = get(name)
    widths, nets = [80, 300, 150, 400, 200], 60
    sigma_w2, sigma_b2 = [1.5, 0.8, 1.2, 1.0], [0.1, 0.0, 0.2, 0.05]
    x = rng.standard_normal(80)
    x *= math.sqrt(1.3 * 80) / float(np.linalg.norm(x))
    q, delta, gradient = (np.empty((nets, 4)) for _ in range(3))
    for net in range(nets):
        weights, z, h = [], [], [x]
        for layer in range(4):
            shape = (widths[layer + 1], widths[layer])
            weights.append(rng.standard_normal(shape) * math.sqrt(sigma_w2[layer] / shape[1]))
            bias = math.sqrt(sigma_b2[layer]) * rng.standard_normal(shape[0])
            z.append(weights[-1] @ h[-1] + bias)
            h.append(phi.function(z[-1]))
        d = rng.standard_normal(200)
        for layer in (3, 2, 1, 0):
            if layer < 3:
                d = phi.derivative(z[layer]) * (weights[layer + 1].T @ d)
            q[net, layer], delta[net, layer] = np.mean(z[layer] ** 2), np.mean(d**2)
            gradient[net, layer] = np.mean(d**2) * np.mean(h[layer] ** 2)
    profile = signal_profile(name, widths, sigma_w2, sigma_b2, input_mean_square=1.3)
    reference = profile.log_weight_gradient + math.log(profile.input_mean_square[-1])
    for sample, expected in (
        (q, profile.q),
        (delta, profile.delta_ratio(4)),
        (gradient, np.exp(reference)),
    ):
        error = sample.std(axis=0, ddof=1) / math.sqrt(nets)
        assert np.all(np.abs(sample.mean(axis=0) / expected - 1.0) < 5.0 * error / expected + 0.01)


def test_lengths_follow_the_length_map() -> None:
    profile = signal_profile("gelu", [10, 20, 30], [1.5, 2.0], [0.1, 0.2], input_mean_square=0.7)
    assert profile.q[0] == pytest.approx(1.5 * 0.7 + 0.1)
    assert profile.q[1] == pytest.approx(length_map("gelu", float(profile.q[0]), 2.0, 0.2))


def test_bad_arguments() -> None:
    for widths in ([], [3], [3, 0]):
        with pytest.raises(ValueError, match="widths"):
            signal_profile("relu", widths, 1.0)
    with pytest.raises(ValueError, match="one value or 2"):
        signal_profile("relu", [3, 3, 3], [1.0])
    with pytest.raises(ValueError, match="finite and not negative"):
        signal_profile("relu", [3, 3, 3], [1.0, math.nan])
    with pytest.raises(ValueError, match="input_mean_square"):
        signal_profile("relu", [3, 3, 3], 1.0, input_mean_square=-1.0)
    with pytest.raises(ValueError, match="layers go from 1 to 2"):
        signal_profile("relu", [3, 3, 3], 1.0).delta_ratio(0)
