"""Gaussian integrals in closed form against sums over fine grids, and the theory made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from gradprop import theory
from gradprop.components.activations import get
from gradprop.components.integrals import GaussianIntegrals
from gradprop.theory import length_fixed_point, mean_field_state

LABELS = ["exponential", "sine", "sine(omega=0.3)", "sine(omega=30.0)"]
EVERY = pytest.mark.parametrize("label", LABELS)
# Steps of 1/80 of a standard deviation: the trapezoidal rule resolves omega = 30 at q = 2.
Z = np.linspace(-20.0, 20.0, 3201)
WEIGHTS = np.exp(-0.5 * Z**2) / np.exp(-0.5 * Z**2).sum()


def integrals(label: str) -> GaussianIntegrals:
    found = get(label).integrals
    assert found is not None
    return found


@EVERY
@pytest.mark.parametrize("q", [1e-10, 0.02, 0.7, 2.0])
def test_one_variable(label: str, q: float) -> None:
    phi, u = get(label), math.sqrt(q) * Z
    found = integrals(label)
    assert found.mean(q) == pytest.approx(float(WEIGHTS @ phi.function(u)), rel=1e-12, abs=1e-14)
    for order, f in enumerate((phi.function, phi.derivative, phi.second_derivative)):
        for power in (2, 4, 6):
            exact = float(WEIGHTS @ f(u) ** power)
            assert found.moment(order, power, q) == pytest.approx(exact, rel=1e-11)
            assert found.log_moment(order, power, q) == pytest.approx(math.log(exact), abs=1e-10)
    step = 1e-4 * q
    rise = found.moment(0, 2, q + step) - found.moment(0, 2, q - step)
    scale = found.moment(0, 2, q) / q
    assert found.square_slope(q) == pytest.approx(rise / (2 * step), rel=1e-7, abs=1e-7 * scale)


@EVERY
@pytest.mark.parametrize("c", [-1.0, -0.4, 0.0, 0.8, 0.999, 1.0])
@pytest.mark.parametrize(("q_a", "q_b"), [(0.6, 0.6), (0.05, 1.5)])
def test_two_variables(label: str, c: float, q_a: float, q_b: float) -> None:
    phi, found = get(label), integrals(label)
    z, weights = Z[800:2401], WEIGHTS[800:2401]
    u_a = math.sqrt(q_a) * z[:, None]
    u_b = math.sqrt(q_b) * (c * z[:, None] + math.sqrt(1.0 - c * c) * z)
    grid = weights[:, None] * weights
    for order, f in enumerate((phi.function, phi.derivative)):
        exact = float((grid * f(u_a) * f(u_b)).sum())
        scale = math.sqrt(found.moment(order, 2, q_a) * found.moment(order, 2, q_b))
        assert found.product(order, q_a, q_b, c) == pytest.approx(
            exact, rel=1e-10, abs=1e-12 * scale
        )
    if q_a == q_b:
        both = float((grid * phi.derivative(u_a) ** 2 * phi.derivative(u_b) ** 2).sum())
        ratio = both / found.moment(1, 2, q_a) ** 2
        # the square of the exponential of two equal variables ends outside the grid
        assert found.slope_square_agreement(q_a, c) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("omega", [0.3, 1.0, 30.0])
def test_the_length_map_of_a_sine(omega: float) -> None:
    """``V = sigma_w2 (1 - exp(-2 omega^2 q)) / 2`` and ``chi_1`` with the other sign."""
    label = f"sine(omega={omega})"
    for q in (1e-12, 0.3, 5.0, 1e8):
        decay = math.expm1(-2 * omega**2 * q)
        assert theory.length_map(label, q, 1.7) == pytest.approx(-0.85 * decay, rel=1e-14)
        growth = 0.85 * omega**2 * (2 + decay)
        assert theory.chi_1(label, q, 1.7) == pytest.approx(growth, rel=1e-14)
    assert theory.chi_1(label, math.inf, 1.7) == pytest.approx(0.85 * omega**2)
    point = theory.critical_point(label, 0.0)
    assert point.sigma_w2 == pytest.approx(omega**-2)
    state = mean_field_state(label, 2 / omega**2, 0.1)
    assert theory.length_map(label, state.q_star, 2 / omega**2, 0.1) == pytest.approx(state.q_star)
    assert state.chi_1 == pytest.approx(1 + math.exp(-2 * omega**2 * state.q_star))


def test_lengths_of_the_exponential_leave_the_range_of_floats() -> None:
    """``V = sigma_w2 exp(2 q)``: two fixed points up to ``sigma_w2 = 1 / (2 e)``, then none."""
    for weights in (0.1, 0.18, 0.183):
        q = length_fixed_point("exponential", weights, 0.0, 0.1)
        # the lower one, where 2 q < 1: the principal branch of Lambert's function
        assert q == pytest.approx(-0.5 * special.lambertw(-2.0 * weights).real, rel=1e-12)
    state = mean_field_state("exponential", 0.185, 0.0, 0.1)
    assert (state.q_star, state.chi_1, state.c_star) == (math.inf, math.inf, 0.0)
    assert state.phase == "chaotic"
    lengths = theory.length_trajectory("exponential", 1.0, 6, 1.0)
    assert lengths[:2] == pytest.approx([1.0, math.exp(2.0)])
    assert np.isfinite(lengths).tolist() == [True, True, True, False, False, False]
    profile = theory.signal_profile("exponential", [8] * 7, 1.0)
    assert profile.q[-1] == math.inf
    # At length q, chi_1 = V - sigma_b2; critical at q = 1 + sigma_b2, an unstable fixed point.
    point = theory.critical_point("exponential", 0.2)
    assert (point.q_star, point.sigma_w2) == pytest.approx((1.2, math.exp(-2.4)))


def test_simulated_layers() -> None:
    """Wide random layers in float64 have the lengths and correlations of the maps."""
    rng = np.random.default_rng(3)
    units = 4000
    for label, weights in (("sine(omega=3.0)", 1.3), ("exponential", 0.15)):
        phi, c, q = get(label), 0.7, 0.4
        z = rng.normal(size=(2, units)) * math.sqrt(q)
        z[1] = c * z[0] + math.sqrt(1 - c * c) * z[1]
        h = phi.function(z)
        after = h @ (rng.normal(size=(units, units)) * math.sqrt(weights / units))
        expected = theory.length_map(label, q, weights)
        assert np.mean(after**2) == pytest.approx(expected, rel=0.08)
        found = float(after[0] @ after[1] / np.linalg.norm(after[0]) / np.linalg.norm(after[1]))
        assert found == pytest.approx(theory.correlation_map(label, c, q, weights), abs=0.05)


def test_what_needs_quadrature_says_so() -> None:
    message = "sine has Gaussian integrals in closed form only, not this one"
    with pytest.raises(ValueError, match=message):
        theory.moment_map("sine", 0.0, 1.0)
    with pytest.raises(ValueError, match=message):
        theory.moment_map_jacobian("sine")
    with pytest.raises(ValueError, match=message):
        theory.layer_mean_singular_value("sine", 1.0, 1.0)
