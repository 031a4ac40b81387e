"""The maps of networks with dropout against closed forms and against simulated layers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradprop import theory
from gradprop.components.activations import get
from gradprop.theory import dropout_correlation_map, dropout_state

CASES = [
    ("tanh", 1.7, 0.05, 0.1),
    ("tanh", 0.6, 0.0, 0.3),
    ("relu", 1.5, 0.1, 0.2),
    ("relu", 2.0, 0.0, 0.5),
    ("linear", 0.5, 0.2, 0.4),
    ("gelu", 2.0, 0.0, 0.1),
    ("sine(omega=2.0)", 1.0, 0.1, 0.25),
    ("sigmoid", 1.0, 0.0, 0.1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_inputs_through_simulated_layers(case: tuple[str, float, float, float]) -> None:
    """Sums over many units in float64, from the map's own lengths, layer by layer."""
    name, weights, biases, rate = case
    phi, rng = get(name), np.random.default_rng(0)
    q, c, units = 0.7, 0.9, 400_000
    for _ in range(4):
        u = rng.standard_normal((2, units))
        u[1] = c * u[0] + math.sqrt(1 - c * c) * u[1]
        h = phi.function(math.sqrt(q) * u)
        h = np.where(rng.random(h.shape) >= rate, h / (1 - rate), 0.0)
        moments = weights * h @ h.T / units + biases
        after = theory.length_map(name, q, weights / (1 - rate), biases)
        assert np.diag(moments) == pytest.approx([after, after], rel=0.02)
        mapped = dropout_correlation_map(name, c, q, weights, biases, rate)
        assert mapped == pytest.approx(moments[0, 1] / after, abs=0.01)
        slopes = np.square(phi.derivative(math.sqrt(q) * u[0]) / (1 - rate))
        slopes = slopes * (rng.random(units) >= rate)
        growth = theory.chi_1(name, q, weights / (1 - rate))
        assert weights * slopes.mean() == pytest.approx(growth, rel=0.02)
        q, c = after, mapped


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_fixed_point_is_where_iteration_ends(case: tuple[str, float, float, float]) -> None:
    name, weights, biases, rate = case
    state = dropout_state(name, weights, biases, rate)
    q = theory.length_fixed_point(name, weights / (1 - rate), biases)
    assert state.q_star == q
    length, biases = (q, biases) if math.isfinite(q) else (1e40, 0.0)
    for c in (0.0, 0.999):
        for _ in range(400):
            c = dropout_correlation_map(name, c, length, weights, biases, rate)
        assert c == pytest.approx(state.c_star, abs=1e-9)
    assert 0.0 <= state.c_star < 1.0
    step = 1e-5
    up, down = (
        dropout_correlation_map(name, state.c_star + s, length, weights, biases, rate)
        for s in (step, -step)
    )
    slope = (up - down) / (2 * step)
    assert state.xi_c == pytest.approx(-1 / math.log(slope), rel=1e-4)


def test_closed_forms_of_linear_networks() -> None:
    """``q* = b / (1 - w / (1 - p))``; ``c* q* = w c* q* + b``, and the slope is w."""
    weights, biases, rate = 0.5, 0.2, 0.3
    state = dropout_state("linear", weights, biases, rate)
    q = biases / (1 - weights / (1 - rate))
    assert state.q_star == pytest.approx(q)
    assert state.chi_1 == pytest.approx(weights / (1 - rate))
    assert state.c_star == pytest.approx(biases / (q * (1 - weights)))
    assert state.xi_c == pytest.approx(-1 / math.log(weights))


def test_no_critical_point_survives() -> None:
    """On the critical line of tanh xi_c has no bound; with dropout it has, at every rate."""
    point = theory.critical_point("tanh", 0.05)
    assert theory.correlation_depth_scale("tanh", point.sigma_w2, 0.05) > 1e6
    scales = [
        dropout_state("tanh", point.sigma_w2, 0.05, rate).xi_c for rate in (0.3, 0.1, 1e-2, 1e-3)
    ]
    assert scales == sorted(scales)
    assert scales[1] < 10
    along = [dropout_state("tanh", w, 0.05, 0.01).xi_c for w in np.linspace(1.0, 3.0, 21)]
    assert max(along) < 40
    for weights in (0.5, 1.0, 1.76, 2.5):
        assert dropout_correlation_map("tanh", 1.0, 0.5, weights, 0.05, 0.1) < 1.0
        assert dropout_correlation_map("tanh", 1.0, 0.5, weights, 0.05) == pytest.approx(1.0)


def test_relu_without_bias() -> None:
    """The kernel of ReLU times 1 - p, at any length, and chi_1 of the divided variance."""
    for c in (-0.5, 0.0, 0.7, 1.0):
        mapped = dropout_correlation_map("relu", c, 3.0, 1.1, 0.0, 0.2)
        assert mapped == pytest.approx(0.8 * float(theory.relu_correlation_map(c)))
    assert dropout_state("relu", 1.6, 0.0, 0.2).chi_1 == pytest.approx(1.0)
    grown = dropout_state("exponential", 1.0, 0.0, 0.2)
    assert (grown.q_star, grown.c_star) == (math.inf, 0.0)


def test_wrong_arguments() -> None:
    for rate in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="rate must be at least 0 and less than 1"):
            dropout_correlation_map("tanh", 0.5, 1.0, 1.0, 0.1, rate)
    with pytest.raises(ValueError, match="must be positive"):
        dropout_state("tanh", 1.0, 0.1, 0.0)
    with pytest.raises(ValueError, match="must be positive"):
        dropout_state("tanh", 0.0, 0.1, 0.5)
