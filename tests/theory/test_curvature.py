"""The image of a curve against quadrature in three dimensions, and against wide networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradprop.components.activations import ACTIVATIONS
from gradprop.theory import (
    chi_1,
    chi_2,
    curvature_fixed_point,
    curve_trajectory,
    length_fixed_point,
    length_trajectory,
    mean_field_state,
)

SIGMAS = [(1.69, 0.09), (6.25, 0.09), (16.0, 0.09)]  # of Poole et al. 2016


def next_square(activation: str, q: float, g: float, h: float) -> float:
    """``E[(phi''(z) v^2 + phi'(z) a)^2]`` by a product rule over three normal variables.

    ``Var z = q``, ``Var v = g``, ``Var a = h``, ``E[z a] = -g``, v independent of both.
    """
    phi = ACTIVATIONS[activation]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    x, y, u = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    z, v = math.sqrt(q) * x, math.sqrt(g) * u
    a = -g / math.sqrt(q) * x + math.sqrt(h - g**2 / q) * y
    square = (phi.second_derivative(z) * v**2 + phi.derivative(z) * a) ** 2
    return float(np.einsum("i,j,k,ijk->", weights, weights, weights, square))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "swish"])
@pytest.mark.parametrize(("q", "g", "h"), [(0.6, 0.6, 0.6), (0.3, 0.5, 4.0), (1.2, 0.1, 0.7)])
def test_one_layer_by_quadrature(activation: str, q: float, g: float, h: float) -> None:
    """All that is due to the correlation of z and z'' cancels; the constant is 3."""
    sigma_w2 = 1.7
    found = curve_trajectory(activation, q, g, math.sqrt(h) / g, 2, sigma_w2, 0.1)
    stretch = chi_1(activation, q, sigma_w2)
    expected = sigma_w2 * next_square(activation, q, g, h)
    assert found.expansion[1] == pytest.approx(stretch * g, rel=1e-12)
    assert (found.curvature[1] * found.expansion[1]) ** 2 == pytest.approx(expected, rel=1e-5)


def test_a_line_keeps_a_circle() -> None:
    """Linear networks scale a circle: kappa = 1 / sqrt(g), and the tangent turns once."""
    found = curve_trajectory("linear", 2.0, 2.0, 1 / math.sqrt(2.0), 6, 1.5, 0.3)
    np.testing.assert_allclose(found.expansion, 2.0 * 1.5 ** np.arange(6))
    np.testing.assert_allclose(found.curvature, 1 / np.sqrt(found.expansion))
    np.testing.assert_allclose(found.grassmannian_length, 2 * math.pi)


def test_kinks_make_corners() -> None:
    found = curve_trajectory("relu", 1.0, 1.0, 1.0, 3, 2.0)
    np.testing.assert_allclose(found.expansion, 1.0)
    assert np.isinf(found.curvature[1:]).all()


def test_what_stands_still_has_no_curvature() -> None:
    found = curve_trajectory("tanh", 1.0, 1.0, 1.0, 3, 0.0, 0.5)
    np.testing.assert_array_equal(found.expansion, [1.0, 0.0, 0.0])
    assert np.isnan(found.curvature[1:]).all()


@pytest.mark.parametrize("sigmas", SIGMAS, ids=str)
def test_where_iteration_ends(sigmas: tuple[float, float]) -> None:
    q = length_fixed_point("tanh", *sigmas)
    found = curve_trajectory("tanh", q, q, 1 / math.sqrt(q), 120, *sigmas)
    stretch = mean_field_state("tanh", *sigmas).chi_1
    np.testing.assert_allclose(found.expansion, q * stretch ** np.arange(120), rtol=1e-9)
    fixed = curvature_fixed_point("tanh", *sigmas)
    if stretch > 1:
        assert found.curvature[-1] == pytest.approx(fixed, rel=1e-12)
        growth = found.grassmannian_length[-1] / found.grassmannian_length[-2]
        assert growth == pytest.approx(math.sqrt(stretch))
        return
    assert fixed == math.inf
    # kappa^2 g gains 3 chi_2 / chi_1 g in every layer: a geometric series
    gained = 3 * chi_2("tanh", q, sigmas[0]) / stretch * q / (1 - stretch)
    end = 2 * math.pi * math.sqrt(1 + gained)
    assert found.grassmannian_length[-1] == pytest.approx(end, rel=1e-3)


def polygon(z: np.ndarray) -> tuple[float, float]:
    """Return mean squares over a closed curve of z' over units and of sqrt(units) kappa."""
    step = 2 * math.pi / len(z)
    after, before = np.roll(z, -1, axis=0), np.roll(z, 1, axis=0)
    first, second = (after - before) / (2 * step), (after - 2 * z + before) / step**2
    g, h, mixed = (
        np.mean(x * y, axis=1) for x, y in ((first,) * 2, (second,) * 2, (first, second))
    )
    return float(g.mean()), float((h / g**2 - mixed**2 / g**3).mean())


@pytest.mark.parametrize("sigmas", SIGMAS, ids=str)
def test_wide_networks_by_differences(sigmas: tuple[float, float]) -> None:
    """Nothing but z = W phi(z) + b in float64 at close angles; the first layer far from q*."""
    rng = np.random.default_rng(11)
    width, depth, nets, corners = 500, 5, 8, 600
    angles = 2 * math.pi * np.arange(corners) / corners
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = np.empty((nets, depth, 2))
    for net in range(nets):
        z = circle @ np.linalg.qr(rng.standard_normal((width, 2)))[0].T * math.sqrt(0.5 * width)
        for layer in range(depth):
            found[net, layer] = polygon(z)
            weights = rng.standard_normal((width, width)) * math.sqrt(sigmas[0] / width)
            z = np.tanh(z) @ weights + math.sqrt(sigmas[1]) * rng.standard_normal(width)
    theory = curve_trajectory("tanh", 0.5, 0.5, math.sqrt(2.0), depth, *sigmas)
    expected = np.stack([theory.expansion, theory.curvature**2], axis=1)
    ratio = found / expected
    error = ratio.std(axis=0, ddof=1) / math.sqrt(nets)
    np.testing.assert_allclose(ratio[:, 0], 1, rtol=1e-4)
    assert (np.abs(ratio.mean(axis=0) - 1) < 5 * error + 10 * depth / width).all()
    assert length_trajectory("tanh", 0.5, 2, *sigmas)[1] != pytest.approx(0.5, rel=0.05)
