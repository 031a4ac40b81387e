"""Length and correlation maps, depth scales and critical lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, special

from gradprop.components.activations import ACTIVATIONS, Activation
from gradprop.theory import (
    chi_1,
    chi_2,
    correlation,
    correlation_depth_scale,
    correlation_fixed_point,
    correlation_map,
    correlation_map_slope,
    correlation_trajectory,
    covariance_map,
    critical_line,
    critical_point,
    length_depth_scale,
    length_fixed_point,
    length_map,
    length_map_slope,
    length_trajectory,
    mean_field_state,
    pair_expectation,
)

EVERY = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
# All that are (kinked) lines far from 0; the others are those of test_integrals.py.
LINES = pytest.mark.parametrize(
    "activation", [a for a in ACTIVATIONS.values() if not a.integrals], ids=lambda a: a.name
)
CURVED = pytest.mark.parametrize(
    "activation", [a for a in ACTIVATIONS.values() if not a.homogeneous], ids=lambda a: a.name
)

ERF = Activation(
    name="erf",
    definition="erf z",
    function=lambda z: np.asarray(special.erf(np.asarray(z, dtype=np.float64))),
    derivative=lambda z: 2.0 / math.sqrt(math.pi) * np.exp(-np.square(z)),
    second_derivative=lambda z: -4.0 / math.sqrt(math.pi) * np.asarray(z) * np.exp(-np.square(z)),
    tails=(-math.inf, math.inf),
    homogeneous=False,
    source="closed forms of all its Gaussian integrals are known (Williams 1997)",
)

# tanh, sigma_b2 = 0.05: sigma_w2, q*, chi_1, c*, xi_q, xi_c, log10(chi_1) / 2
TANH_TABLE = [
    (0.5, 0.08758, 0.43199, 1.0, 1.009, 1.191, -0.1823),
    (0.8, 0.13808, 0.64684, 1.0, 1.514, 2.295, -0.0946),
    (1.0, 0.19359, 0.75903, 1.0, 1.748, 3.627, -0.0599),
    (1.4, 0.36488, 0.91103, 1.0, 1.740, 10.73, -0.0202),
    (1.76, 0.56946, 0.99980, 1.0, 1.522, 4.9e3, 0.0),
    (2.0, 0.72176, 1.04767, 0.74408, 1.388, 25.2, 0.0101),
    (2.5, 1.06396, 1.13352, 0.44680, 1.180, 11.80, 0.0272),
    (3.0, 1.42801, 1.20893, 0.29932, 1.041, 9.051, 0.0412),
    (4.0, 2.19549, 1.34240, 0.16506, 0.873, 6.980, 0.0639),
]


@pytest.mark.parametrize("row", TANH_TABLE, ids=lambda row: f"sigma_w2={row[0]}")
def test_tanh_table(row: tuple[float, ...]) -> None:
    sigma_w2, q, chi, c, xi_q, xi_c, decades = row
    state = mean_field_state("tanh", sigma_w2, 0.05)
    assert state.q_star == pytest.approx(q, abs=6e-6)
    assert state.chi_1 == pytest.approx(chi, abs=6e-6)
    assert state.c_star == pytest.approx(c, abs=6e-6)
    assert state.xi_q == pytest.approx(xi_q, abs=6e-4)
    assert state.xi_c == pytest.approx(xi_c, rel=3e-3)
    assert state.decades_per_layer == pytest.approx(decades, abs=6e-5)
    assert state.phase == ("ordered" if chi < 1.0 else "chaotic")
    assert state.xi_gradient == pytest.approx(-1.0 / math.log(state.chi_1))
    assert length_depth_scale("tanh", sigma_w2, 0.05) == state.xi_q
    assert correlation_depth_scale("tanh", sigma_w2, 0.05) == state.xi_c
    assert correlation_fixed_point("tanh", sigma_w2, 0.05) == state.c_star


def test_tanh_critical_line() -> None:
    bias = [0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
    expected = [1.18919, 1.42421, 1.76095, 1.98607, 2.28515, 2.50513, 2.84317, 3.44321]
    np.testing.assert_allclose(critical_line("tanh", bias), expected, atol=6e-6)
    point = critical_point("tanh", 0.05)
    assert math.sqrt(point.sigma_w2) == pytest.approx(1.32701, abs=6e-6)
    assert point.q_star == pytest.approx(0.57005, abs=6e-6)
    assert mean_field_state("tanh", point.sigma_w2, 0.05).phase == "critical"
    assert mean_field_state("tanh", point.sigma_w2, 0.05).xi_gradient == math.inf


def adaptive_moment(f: Callable[[float], float], q: float) -> float:
    """Return E[f(z)^2] for z ~ N(0, q) by adaptive quadrature."""

    def integrand(u: float) -> float:
        return f(math.sqrt(q) * u) ** 2 * math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

    return 2 * float(integrate.quad(integrand, 0, 12, epsabs=0, epsrel=1e-13, limit=200)[0])


@pytest.mark.parametrize("sigma_b2", [0.001, 0.05, 0.3, 1.0])
def test_tanh_critical_line_by_adaptive_quadrature_and_bisection(sigma_b2: float) -> None:
    """Solved anew: at length q, chi_1 = 1 fixes sigma_w^2; q is where the length map stands."""

    def variance(q: float) -> float:
        return 1 / adaptive_moment(lambda z: 1 / math.cosh(z) ** 2, q)

    def growth(q: float) -> float:
        return variance(q) * adaptive_moment(math.tanh, q) + sigma_b2 - q

    q = optimize.brentq(growth, 1e-4, 10, xtol=1e-13, rtol=1e-13)
    point = critical_point("tanh", sigma_b2)
    assert point.q_star == pytest.approx(q, rel=1e-9)
    assert point.sigma_w2 == pytest.approx(variance(q), rel=1e-9)
    assert mean_field_state("tanh", variance(q), sigma_b2).chi_1 == pytest.approx(1, abs=1e-8)


def test_sigmoid() -> None:
    state = mean_field_state("sigmoid", 1.0)
    assert state.q_star == pytest.approx(0.26469, abs=6e-6)
    assert state.chi_1 == pytest.approx(0.055721, abs=6e-7)
    assert math.sqrt(state.chi_1) == pytest.approx(0.23605, abs=6e-6)
    assert state.decades_per_layer == pytest.approx(-0.6270, abs=6e-5)
    assert -math.log(state.chi_1) == pytest.approx(2.8874, abs=6e-5)
    assert mean_field_state("sigmoid", 16.0).chi_1 == pytest.approx(0.399, abs=6e-4)
    assert critical_point("sigmoid").sigma_w2 > 100.0  # no moderate gain makes it critical


def test_half_stable_points_of_gelu_and_swish() -> None:
    for name, sigma_w2, sigma_b2, q in (
        ("gelu", 1.98305826, 0.17292238, 3.56155),
        ("swish", 1.98800468, 0.55514314, 14.32017),
    ):
        assert length_map(name, q, sigma_w2, sigma_b2) == pytest.approx(q, rel=2e-7)
        assert chi_1(name, q, sigma_w2) == pytest.approx(1.0, abs=2e-7)
        assert length_map_slope(name, q, sigma_w2) == pytest.approx(1.0, abs=2e-7)
        point = critical_point(name, sigma_b2)
        assert point.sigma_w2 == pytest.approx(sigma_w2, abs=2e-8)
        assert point.q_star == pytest.approx(q, rel=1e-5)


@pytest.mark.parametrize("q", [1e-4, 0.3, 2.0, 300.0])
def test_erf_closed_forms(q: float) -> None:
    sigma_w2, sigma_b2, c = 1.7, 0.2, 0.35
    scale = 2.0 / math.pi * sigma_w2
    length = scale * math.asin(2.0 * q / (1.0 + 2.0 * q)) + sigma_b2
    assert length_map(ERF, q, sigma_w2, sigma_b2) == pytest.approx(length, rel=1e-12)
    pair = scale * math.asin(2.0 * q * c / (1.0 + 2.0 * q)) + sigma_b2
    assert covariance_map(ERF, q, q, c, sigma_w2, sigma_b2) == pytest.approx(pair, rel=1e-11)
    assert correlation_map(ERF, c, q, sigma_w2, sigma_b2) == pytest.approx(pair / length, rel=1e-11)
    chi = 2.0 * scale / math.sqrt(1.0 + 4.0 * q)
    assert chi_1(ERF, q, sigma_w2) == pytest.approx(chi, rel=1e-12)
    # E[phi''**2] = (16 / pi) E[u**2 exp(-2 u**2)]
    curvature = 16.0 / math.pi * q * (1.0 + 4.0 * q) ** -1.5
    assert chi_2(ERF, q, sigma_w2) == pytest.approx(sigma_w2 * curvature, rel=1e-11)
    slope = scale * 2.0 / ((1.0 + 2.0 * q) * math.sqrt(1.0 + 4.0 * q))
    assert length_map_slope(ERF, q, sigma_w2) == pytest.approx(slope, rel=1e-11)
    product = 2.0 * scale / math.sqrt((1.0 + 2.0 * q) ** 2 - (2.0 * q * c) ** 2)
    expected = product * q / length
    assert correlation_map_slope(ERF, c, q, sigma_w2, sigma_b2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu"])
@pytest.mark.parametrize("q", [1e-310, 1e-3, 1.0, 1e200])
def test_homogeneous_maps_hold_at_any_scale(name: str, q: float) -> None:
    factor = {"linear": 1.0, "relu": 0.5, "leaky_relu": 0.52}[name]
    assert length_map(name, q, 1.5) == pytest.approx(1.5 * factor * q, rel=1e-12)
    assert chi_1(name, q, 1.5) == pytest.approx(1.5 * factor, rel=1e-14)
    assert length_map_slope(name, q, 1.5) == chi_1(name, q, 1.5)


def test_relu_facts() -> None:
    assert critical_point("relu").sigma_w2 == 2.0
    assert critical_point("leaky_relu").sigma_w2 == pytest.approx(2.0 / 1.04)
    with pytest.raises(ValueError, match="critical only without bias"):
        critical_point("relu", 0.1)
    assert length_fixed_point("relu", 2.0, q_start=3.0) == 3.0
    assert length_fixed_point("relu", 2.0, 0.1) == math.inf
    assert length_fixed_point("relu", 3.0) == math.inf
    assert length_fixed_point("relu", 1.0, 0.1) == pytest.approx(0.2)
    assert length_fixed_point("relu", 1.0) == 0.0
    assert chi_1("relu", math.inf, 3.0) == 1.5
    for name in ("relu", "leaky_relu", "selu"):
        assert chi_2(name, 1.0, 1.0) == math.inf
    assert chi_2("relu", 1.0, 0.0) == 0.0
    assert chi_2("elu", 1.0, 1.0) < 1.0
    state = mean_field_state("relu", 2.0)
    assert (state.c_star, state.phase, state.xi_c) == (1.0, "critical", math.inf)


def test_linear_networks_keep_correlations() -> None:
    assert correlation_map("linear", 0.3, 2.0, 1.7) == pytest.approx(0.3)
    assert correlation_fixed_point("linear", 1.0, c_start=0.3) == 0.3
    assert correlation_fixed_point("linear", 0.5, 0.1) == 1.0
    assert correlation_depth_scale("linear", 0.5, 0.1) == pytest.approx(-1.0 / math.log(0.5))


def test_dying_and_exploding_signals() -> None:
    assert length_fixed_point("tanh", 1.0) == 0.0  # by a power law, which a plain loop never ends
    assert length_fixed_point("tanh", 0.9) == 0.0
    assert length_fixed_point("softsign", 1.0) == 0.0
    assert length_fixed_point("gelu", 2.0) == 0.0
    assert length_fixed_point("gelu", 2.4, q_start=2.0) == math.inf
    assert length_fixed_point("elu", 2.0) == math.inf  # q grows like l**2
    state = mean_field_state("gelu", 2.4, q_start=2.0)
    assert state.chi_1 == pytest.approx(1.2)
    assert (state.c_star, state.xi_c, state.xi_q) == (1.0, math.inf, math.inf)
    assert mean_field_state("tanh", 0.0, 0.1).chi_1 == 0.0
    assert mean_field_state("tanh", 0.0, 0.1).xi_gradient == 0.0
    assert mean_field_state("tanh", 0.0, 0.1).decades_per_layer == -math.inf
    with pytest.raises(ValueError, match="no signal"):
        mean_field_state("tanh", 0.0, 0.0)
    with pytest.raises(ValueError, match="no signal"):
        correlation_map("tanh", 0.5, 1.0, 0.0)


@CURVED
@pytest.mark.parametrize("sigmas", [(0.6, 0.1), (1.3, 0.02), (1.6, 0.3)], ids=str)
def test_fixed_points_are_where_iteration_ends(
    activation: Activation, sigmas: tuple[float, float]
) -> None:
    q_star = length_fixed_point(activation, *sigmas)
    path = length_trajectory(activation, 1.0, 1200, *sigmas)
    if math.isinf(q_star):
        assert path[-1] > 1e6
        return
    assert path[-1] == pytest.approx(q_star, rel=1e-9)
    assert length_map(activation, q_star, *sigmas) == pytest.approx(q_star, rel=1e-12)


@CURVED
def test_slopes_of_the_maps_match_differences(activation: Activation) -> None:
    q, c, step, sigmas = 0.8, 0.45, 1e-4, (1.4, 0.1)
    up, down = (length_map(activation, q + s, *sigmas) for s in (step, -step))
    numeric = (up - down) / (2.0 * step)
    assert length_map_slope(activation, q, 1.4) == pytest.approx(numeric, rel=1e-7)
    up, down = (correlation_map(activation, c + s, q, *sigmas) for s in (step, -step))
    numeric = (up - down) / (2.0 * step)
    assert correlation_map_slope(activation, c, q, *sigmas) == pytest.approx(numeric, rel=1e-6)


@EVERY
def test_slope_at_perfect_correlation_is_chi_1(activation: Activation) -> None:
    q, sigma_w2, sigma_b2 = 0.9, 1.2, 0.15
    v = length_map(activation, q, sigma_w2, sigma_b2)
    expected = chi_1(activation, q, sigma_w2) * q / v
    slope = correlation_map_slope(activation, 1.0, q, sigma_w2, sigma_b2)
    assert slope == pytest.approx(expected, rel=1e-10)
    assert correlation_map(activation, 1.0, q, sigma_w2, sigma_b2) == pytest.approx(1.0, rel=1e-12)


@EVERY
def test_limits_at_zero_length(activation: Activation) -> None:
    if activation.name == "sigmoid":
        return  # phi(0) is not 0: the length is never 0
    tiny = 1e-12
    assert chi_1(activation, 0.0, 1.3) == pytest.approx(chi_1(activation, tiny, 1.3), rel=1e-5)
    slope = length_map_slope(activation, 0.0, 1.3)
    assert slope == pytest.approx(length_map_slope(activation, tiny, 1.3), rel=1e-5)
    c = correlation_map(activation, 0.4, 0.0, 1.3)
    assert c == pytest.approx(correlation_map(activation, 0.4, tiny, 1.3), rel=1e-5)
    slope = correlation_map_slope(activation, 0.4, 0.0, 1.3)
    assert slope == pytest.approx(correlation_map_slope(activation, 0.4, tiny, 1.3), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2", "layer"),
    [
        ("tanh", 2.5, 0.05, 46),
        ("tanh", 1.4, 0.05, 46),
        ("gelu", 1.5, 0.1, 20),
        ("relu", 1.5, 0.2, 46),
    ],
)
def test_correlation_trajectory_ends_at_the_fixed_point(
    name: str, sigma_w2: float, sigma_b2: float, layer: int
) -> None:
    expected = correlation_fixed_point(name, sigma_w2, sigma_b2)
    path = correlation_trajectory(name, 0.1, 250, sigma_w2, sigma_b2, q_a=0.4, q_b=2.0)
    assert path[0] == 0.1
    assert path[-1] == pytest.approx(expected, abs=1e-8)
    # the approach is exponential with the depth scale xi_c, where the excess is above rounding
    excess = np.abs(path - expected)[[layer - 1, layer + 9]]
    rate = math.log(excess[0] / excess[1]) / 10.0
    scale = correlation_depth_scale(name, sigma_w2, sigma_b2)
    assert 1.0 / rate == pytest.approx(scale, rel=0.02)


def test_chaotic_fixed_points_of_other_activations() -> None:
    assert correlation_fixed_point("tanh", 2.0) == 0.0  # odd, no bias: exactly uncorrelated
    c = correlation_fixed_point("selu", 1.0, 0.1)
    q = length_fixed_point("selu", 1.0, 0.1)
    assert 0.98 < c < 0.995
    assert correlation_map("selu", c, q, 1.0, 0.1) == pytest.approx(c, abs=1e-12)
    assert correlation_map_slope("selu", c, q, 1.0, 0.1) < 1.0


def test_correlations_of_vanished_signals_stay_defined() -> None:
    path = correlation_trajectory("relu", 0.2, 1300, 1.0)
    assert np.all(np.diff(path) > 0.0)
    assert 1.0 - path[-1] == pytest.approx(9.0 * math.pi**2 / (2.0 * 1300**2), rel=0.05)


def test_infinitely_wide_networks_by_simulation() -> None:
    rng = np.random.default_rng(7)
    width, depth, nets, sigma_w2, sigma_b2 = 500, 8, 12, 2.5, 0.05
    pairs = np.empty((nets, depth, 3))
    for net in range(nets):
        z = np.linalg.cholesky(np.array([[0.5, 0.3], [0.3, 2.0]])) @ rng.standard_normal((2, width))
        # start from exact second moments, so that only the propagation is random
        z = np.linalg.cholesky(np.array([[0.5, 0.3], [0.3, 2.0]])) @ np.linalg.solve(
            np.linalg.cholesky(z @ z.T / width), z
        )
        for layer in range(depth):
            moments = z @ z.T / width
            pairs[net, layer] = moments[0, 0], moments[1, 1], moments[0, 1]
            weights = rng.standard_normal((width, width)) * math.sqrt(sigma_w2 / width)
            z = np.tanh(z) @ weights.T + math.sqrt(sigma_b2) * rng.standard_normal(width)
    q_a = length_trajectory("tanh", 0.5, depth, sigma_w2, sigma_b2)
    q_b = length_trajectory("tanh", 2.0, depth, sigma_w2, sigma_b2)
    c = correlation_trajectory("tanh", 0.3, depth, sigma_w2, sigma_b2, 0.5, 2.0)
    expected = np.stack([q_a, q_b, c * np.sqrt(q_a * q_b)], axis=-1)
    error = pairs.std(axis=0, ddof=1) / math.sqrt(nets)
    deviation = np.abs(pairs.mean(axis=0) - expected)
    assert np.all(deviation[0] < 1e-12)
    assert np.all(deviation < 5.0 * error + 0.01)  # 0.01: O(1 / width) bias


# ----------------------------------------------------------------------------------- the edges


def erf_length(q: float) -> float:
    """E[erf(u)^2] for u ~ N(0, q); the arc tangent has digits where the arc sine loses them."""
    return 2.0 / math.pi * math.atan2(2.0 * q, math.sqrt(1.0 + 4.0 * q))


@pytest.mark.parametrize(
    ("sigma_w2", "sigma_b2"),
    [(3.0, 0.0), (3.0, 2e12), (1e4, 1.0), (2e12, 0.0), (2e12, 1e12), (1e30, 1e29)],
)
def test_bounded_activations_at_any_variance(sigma_w2: float, sigma_b2: float) -> None:
    """All Gaussian integrals of erf are known; its fixed points are found anew by bisection."""
    state = mean_field_state(ERF, sigma_w2, sigma_b2)
    most = sigma_w2 + sigma_b2

    def length(q: float) -> float:
        return sigma_w2 * erf_length(q) + sigma_b2 - q

    q = optimize.brentq(length, 1e-3 * most, 2.0 * most, xtol=1e-300, rtol=1e-15)
    assert state.q_star == pytest.approx(q, rel=1e-12)
    chi = 4.0 / math.pi * sigma_w2 / math.sqrt(1.0 + 4.0 * q)
    assert state.chi_1 == pytest.approx(chi, rel=1e-11)
    assert state.phase == ("ordered" if chi < 1.0 else "chaotic")

    def correlation(c: float) -> float:
        kernel = math.asin(2.0 * q * c / (1.0 + 2.0 * q)) * 2.0 / math.pi
        return (sigma_w2 * kernel + sigma_b2) / q - c

    c = 1.0
    if chi > 1.0:
        c = 0.0 if sigma_b2 == 0.0 else optimize.brentq(correlation, 0.0, 1.0 - 1e-9, xtol=1e-15)
    assert state.c_star == pytest.approx(c, abs=1e-10)
    slope = 4.0 / math.pi * sigma_w2
    slope /= math.sqrt((1.0 + 2.0 * q * (1.0 - c)) * (1.0 + 2.0 * q * (1.0 + c)))
    assert state.xi_c == pytest.approx(-1.0 / math.log(slope), rel=1e-8)
    slope = 4.0 / math.pi * sigma_w2 / ((1.0 + 2.0 * q) * math.sqrt(1.0 + 4.0 * q))
    assert state.xi_q == pytest.approx(-1.0 / math.log(slope), rel=1e-9)


def test_saturated_tanh_networks_are_chaotic() -> None:
    """To leading order in 1 / sqrt(q), of integrals of sech^2 and sech^4: 2 and 4/3."""
    state = mean_field_state("tanh", 2e12)
    density = 1.0 / math.sqrt(2.0 * math.pi * 2e12)
    assert state.q_star == pytest.approx(2e12 * (1.0 - 2.0 * density), rel=1e-11)
    assert state.chi_1 == pytest.approx(2e12 * 4.0 / 3.0 * density, rel=1e-6)
    assert (state.phase, state.c_star) == ("chaotic", 0.0)
    state = mean_field_state("tanh", 4.0, 2e12)
    assert state.q_star == pytest.approx(2e12 + 4.0, rel=1e-14)
    assert (state.phase, state.c_star) == ("ordered", 1.0)


@LINES
@pytest.mark.parametrize(
    ("sigma_w2", "sigma_b2"), [(0.5, 1e30), (2.0, 0.0), (2.0, 1e13), (1e30, 0.0)]
)
def test_lengths_grow_without_bound_only_where_slopes_let_them(
    activation: Activation, sigma_w2: float, sigma_b2: float
) -> None:
    """Far from 0 an activation is a kinked line, and the length map one of slope sigma_w2 kappa."""
    far = activation.derivative([-1e9, 1e9])
    growth = sigma_w2 * float(np.mean(far**2))
    state = mean_field_state(activation, sigma_w2, sigma_b2)
    if state.q_star == 0.0:
        assert sigma_b2 == 0.0
        assert length_map_slope(activation, 0.0, sigma_w2) <= 1.0
    elif math.isinf(state.q_star):
        assert growth >= 1.0
        kinked = far[0] != far[1]
        assert state.c_star == (1.0 if kinked else 0.5)
        assert state.xi_c == state.xi_q == math.inf
    else:
        image = length_map(activation, state.q_star, sigma_w2, sigma_b2)
        assert image == pytest.approx(state.q_star, rel=1e-12)
        # critical homogeneous activations keep any length
        assert growth < 1.0 or (activation.homogeneous and sigma_b2 == 0.0)
    assert 0.0 <= state.c_star <= 1.0
    assert state.xi_c >= 0.0


@pytest.mark.parametrize(("name", "sigma_w2"), [("elu", 2.0), ("gelu", 2.0), ("swish", 2.0)])
def test_lengths_without_a_fixed_point_beyond_rounding(name: str, sigma_w2: float) -> None:
    # V(q) - q tends to sigma_b2 (elu: + 1), which a length of 1e30 has no digits for
    assert length_fixed_point(name, sigma_w2, 1e13) == math.inf
    assert length_fixed_point(name, sigma_w2 * (1.0 - 1e-9), 1e13) == pytest.approx(1e22, rel=1e-6)


@EVERY
@pytest.mark.parametrize("q", [0.0, 1e-300, 1e-40, 1e-20, 1e-9, 1e-4, 0.3, 0.999, 1.0, 30.0, 1e8])
def test_slope_of_the_length_map_at_any_length(activation: Activation, q: float) -> None:
    """By Price's theorem 2 V'(q) = E[(phi^2)''], here a central difference of phi^2 in float64."""
    if q >= 0.3:
        step = 1e-4 * q
        sides = (length_map(activation, q + s, 1.0) for s in (step, -step))
        numeric = (next(sides) - next(sides)) / (2.0 * step)
        scale = length_map(activation, q, 1.0) / q
        slope = length_map_slope(activation, q, 1.0)
        assert math.isinf(scale) == math.isinf(slope)
        curved = 1e-5 if activation.name == "exponential" else 0.0  # of the central difference
        assert math.isinf(slope) or slope == pytest.approx(numeric, rel=curved, abs=1e-7 * scale)
        return
    limits = {
        **dict.fromkeys(("linear", "tanh", "softsign"), 1.0),
        "sigmoid": 1.0 / 16.0,
        "relu": 0.5,
        "leaky_relu": 0.52,
        "elu": 1.0,
        "selu": 1.0507009873554805**2 * (1.0 + 1.6732632423543772**2) / 2.0,
        "gelu": 0.25,
        "swish": 0.25,
    }
    left, middle, right = activation.function([-1e-4, 0.0, 1e-4]) ** 2
    difference = (left - 2.0 * middle + right) / 2e-8
    limit, rounding = limits.get(activation.name, difference), 1e-12
    if activation.name not in limits:
        rounding = 1e-3  # of the difference
    assert difference == pytest.approx(limit, rel=1e-3)
    assert length_map_slope(activation, q, 1.0) == pytest.approx(
        limit, rel=8.0 * math.sqrt(q) + rounding
    )


def test_point_masses_of_second_derivatives_count() -> None:
    """A step of the slope where the function is not 0: phi = max(u, -1) + 2, kink at -1."""
    bent = Activation(
        name="bent",
        definition="max(z, -1) + 2",
        function=lambda z: np.maximum(np.asarray(z, dtype=np.float64), -1.0) + 2.0,
        derivative=lambda z: np.where(np.asarray(z) > -1.0, 1.0, 0.0),
        second_derivative=lambda z: np.zeros_like(np.asarray(z, dtype=np.float64)),
        tails=(-1.0, math.inf),
        homogeneous=False,
        source="test",
        kinks=(-1.0,),
    )
    for q in (0.2, 0.9):
        step = 1e-4
        numeric = (length_map(bent, q + step, 1.3) - length_map(bent, q - step, 1.3)) / (2 * step)
        assert length_map_slope(bent, q, 1.3) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("sigma_b2", [1e-12, 1.0, 1e8, 1e13, 1e30])
@pytest.mark.parametrize("name", ["tanh", "softsign", "elu", "gelu"])
def test_every_bias_has_a_critical_point(name: str, sigma_b2: float) -> None:
    point = critical_point(name, sigma_b2)
    assert chi_1(name, point.q_star, point.sigma_w2) == pytest.approx(1.0, rel=1e-12)
    image = length_map(name, point.q_star, point.sigma_w2, sigma_b2)
    assert image == pytest.approx(point.q_star, rel=1e-9)


def test_trajectories_of_any_depth() -> None:
    growth = 1.5 * 1.0507009873554805**2
    lengths = length_trajectory("selu", 1e25, 10_000, 3.0)
    np.testing.assert_allclose(lengths[:99], 1e25 * growth ** np.arange(99), rtol=1e-11)
    assert lengths[-1] == math.inf  # beyond the largest float, without an error
    path = correlation_trajectory("selu", 0.1, 10_000, 3.0, q_a=1e25)
    assert np.array_equal(np.isfinite(path), np.isfinite(lengths))
    relu = correlation_trajectory("relu", 0.1, 1000, 3.0)
    np.testing.assert_allclose(path[:1000], relu, rtol=1e-11)  # selu from afar
    lengths = length_trajectory("tanh", 1.0, 10_000, 1.0)
    assert lengths[-1] == pytest.approx(0.5 / 10_000, rel=2e-3)
    path = correlation_trajectory("tanh", 0.1, 10_000, 1.4, 0.05)
    assert path[-1] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2", "q_b"),
    [
        ("selu", 1.812, 0.0, 1.0),  # lengths grow slowly, and without bound
        ("selu", 1.812, 0.0, 3.0),
        ("selu", 1.82, 0.0, 1.0),
        ("elu", 2.0, 0.0, 1.0),
        ("swish", 3.0, 0.0, 1.0),
        ("gelu", 2.0, 0.01, 1.0),
        ("tanh", 1.0, 0.0, 3.0),  # a power law
        ("tanh", 1.02, 0.0, 1.0),  # chaotic, and slow
    ],
)
def test_long_trajectories_are_those_of_the_map(
    name: str, sigma_w2: float, sigma_b2: float, q_b: float
) -> None:
    """Layer by layer, and from far fewer evaluations than there are layers."""
    depth = 600
    path = correlation_trajectory(name, 0.1, depth, sigma_w2, sigma_b2, q_b=q_b)
    lengths = zip(
        length_trajectory(name, 1.0, depth, sigma_w2, sigma_b2),
        length_trajectory(name, q_b, depth, sigma_w2, sigma_b2),
        strict=True,
    )
    c, expected = 0.1, []
    for q_a, other in lengths:
        expected.append(c)
        c = correlation_map(name, c, float(q_a), sigma_w2, sigma_b2, float(other))
    np.testing.assert_array_equal(path[:257], expected[:257])
    np.testing.assert_allclose(path, expected, rtol=1e-10)


def test_a_long_trajectory_takes_few_integrals(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[float] = []

    def pair(*arguments: Any) -> float:
        counted.append(1.0)
        return pair_expectation(*arguments)

    monkeypatch.setattr(correlation, "pair_expectation", pair)
    path = correlation_trajectory("selu", 0.1, 10_000, 1.812)
    assert len(path) == 10_000 and 0.99 < path[-1] <= 1.0
    assert len(counted) < 2000


@pytest.mark.parametrize("name", ["tanh", "softsign", "elu", "gelu", "swish"])
def test_curvature_at_large_lengths(name: str) -> None:
    """What bends around 0 only: an integral over the line times the density there."""
    phi = ACTIVATIONS[name].second_derivative
    sides = [
        integrate.quad(lambda u: float(phi(u)) ** 2, *ends)[0]
        for ends in ((-math.inf, 0.0), (0.0, math.inf))
    ]
    for q in (1e30, 1e60, 1e307):
        expected = sum(sides) / math.sqrt(2.0 * math.pi) / math.sqrt(q)
        assert chi_2(name, q, 1.0) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softsign", "selu", "gelu"])
def test_maps_go_over_into_their_limit_for_large_lengths(name: str) -> None:
    for c in (-0.4, 0.7):
        below, above = (correlation_map(name, c, q, 2.0) for q in (9.9e21, 1.1e22))
        assert above == pytest.approx(below, abs=1e-9)
        below, above = (correlation_map_slope(name, c, q, 2.0) for q in (9.9e21, 1.1e22))
        assert above == pytest.approx(below, rel=2e-9)  # softsign comes in like ln(q) / sqrt(q)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unknown activation"):
        length_map("cosine", 1.0, 1.0)
    for sigma in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma_w2"):
            length_map("tanh", 1.0, sigma)
        with pytest.raises(ValueError, match="sigma_b2"):
            critical_point("tanh", sigma)
    for name in ("tanh", "relu"):
        with pytest.raises(ValueError, match="q must"):
            length_map(name, -1.0, 1.0)
        with pytest.raises(ValueError, match="q must"):
            chi_1(name, -1.0, 1.0)
        with pytest.raises(ValueError, match="correlation"):
            correlation_map(name, 1.5, 1.0, 1.0)
        with pytest.raises(ValueError, match="correlation"):
            correlation_map_slope(name, 1.5, 1.0, 1.0)
    with pytest.raises(ValueError, match="depth"):
        length_trajectory("tanh", 1.0, 0, 1.0)
