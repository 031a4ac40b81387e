"""Laws of the singular values of deep Jacobians against closed forms, moments and simulation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from gradprop.components import activations
from gradprop.theory import (
    critical_point,
    free_probability,
    jacobian_largest_singular_value,
    jacobian_mean_square,
    jacobian_relative_variance,
    jacobian_singular_density,
    linear_gaussian_edge,
    linear_gaussian_singular_density,
)

FloatArray = npt.NDArray[np.float64]
Ensemble = Literal["gaussian", "orthogonal"]
SMALL = (0.0161224, 1.0315088094227514)  # q* and sigma_w2 on the critical line


@pytest.mark.parametrize("depth", [1, 2, 5, 16, 50])
@pytest.mark.parametrize("sigma_w2", [1.0, 1.3])
def test_linear_networks_follow_fuss_and_catalan(depth: int, sigma_w2: float) -> None:
    edge = math.sqrt(linear_gaussian_edge(depth, sigma_w2))
    s = np.concatenate([np.geomspace(1e-3, 0.1, 20), np.linspace(0.11, 0.999, 60)]) * edge
    found = jacobian_singular_density(s, "linear", 1.0, sigma_w2, depth, "gaussian")
    np.testing.assert_allclose(
        found, linear_gaussian_singular_density(s, depth, sigma_w2), rtol=1e-8
    )
    outside = jacobian_singular_density([1.01 * edge], "linear", 1.0, sigma_w2, depth, "gaussian")
    np.testing.assert_allclose(outside, 0.0, atol=1e-8)


def test_one_relu_layer() -> None:
    """``W D`` with half of the columns: Marchenko and Pastur's law of ratio 1/2."""
    s = np.linspace(0.05, 2.5, 200)
    low, high = (2.0 * (1.0 + sign * math.sqrt(0.5)) ** 2 for sign in (-1, 1))
    x = s**2  # sigma_w2 = 2: rows over columns 2, entries of variance 2 / n
    inside = np.maximum((x - low) * (high - x), 0.0)
    expected = np.sqrt(inside) / (2.0 * math.pi * 2.0 * x) * 2.0 * s
    found = jacobian_singular_density(s, "relu", 1.0, 2.0, 1, "gaussian")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_two_orthogonal_relu_layers() -> None:
    """``s^2 / 4`` is the squared cosine of the angles of two planes of half the dimension."""
    s = np.linspace(0.05, 1.95, 60)
    found = jacobian_singular_density(s, "relu", 1.0, 2.0, 2, "orthogonal")
    np.testing.assert_allclose(found, 1.0 / (math.pi * np.sqrt(4.0 - s**2)), rtol=1e-8)


def test_the_largest_singular_value_is_the_edge_in_closed_form() -> None:
    for depth in (1, 2, 16, 100):
        edge = math.sqrt(linear_gaussian_edge(depth, 1.1))
        found = jacobian_largest_singular_value("linear", 1.0, 1.1, depth, "gaussian")
        assert found == pytest.approx(edge, rel=1e-9)
    one = jacobian_largest_singular_value("relu", 1.0, 2.0, 1, "gaussian")
    assert one == pytest.approx(math.sqrt(2.0) * (1.0 + math.sqrt(0.5)), rel=1e-9)
    two = jacobian_largest_singular_value("relu", 1.0, 2.0, 2, "orthogonal")
    assert two == pytest.approx(2.0, rel=1e-6)
    assert jacobian_largest_singular_value("linear", 1.0, 1.21, 3, "orthogonal") == (
        pytest.approx(1.1**3)
    )
    assert jacobian_largest_singular_value("tanh", 0.3, 1.21, 1, "orthogonal") == pytest.approx(1.1)


@pytest.mark.parametrize("depth", [2, 16])
@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(
    ("activation", "q", "sigma_w2"), [("tanh", *SMALL), ("tanh", 1.0, 2.0), ("relu", 1.0, 2.0)]
)
def test_the_density_ends_at_the_largest_singular_value(
    activation: str, q: float, sigma_w2: float, ensemble: Ensemble, depth: int
) -> None:
    edge = jacobian_largest_singular_value(activation, q, sigma_w2, depth, ensemble)
    s = np.array([1.0 - 1e-4, 1.0 + 1e-4]) * edge
    inside, outside = jacobian_singular_density(s, activation, q, sigma_w2, depth, ensemble)
    assert inside > 1e-5 > 1e-7 > outside


def _integrals(
    activation: str, q: float, sigma_w2: float, depth: int, ensemble: Ensemble, top: float
) -> tuple[float, float, float]:
    """Return the moments of order 0, 2 and 4, by panels that end where the density does."""
    edge = _edge(activation, q, sigma_w2, depth, ensemble, top)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    # s = edge (1 - (1 - t)^2) near the edge, whose density has a square root there
    edges = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 30)])
    half = 0.5 * np.diff(edges)[:, None]
    t = (edges[:-1, None] + half * (nodes + 1.0)).ravel()
    s = edge * (1.0 - (1.0 - t) ** 2)
    measure = (half * weights).ravel() * 2.0 * (1.0 - t) * edge
    density = jacobian_singular_density(s, activation, q, sigma_w2, depth, ensemble)
    density = np.nan_to_num(density)  # unknown far below the bulk
    zeroth, second, fourth = (float(np.sum(measure * density * s**k)) for k in (0, 2, 4))
    return zeroth, second, fourth


def _edge(
    activation: str, q: float, sigma_w2: float, depth: int, ensemble: Ensemble, top: float
) -> float:
    """Return where the density ends, by bisection between a large and a typical value."""
    low, high = 1.0, top
    for _ in range(50):
        middle = 0.5 * (low + high)
        found = jacobian_singular_density([middle], activation, q, sigma_w2, depth, ensemble)
        low, high = (middle, high) if found[0] > 1e-7 else (low, middle)
    return high


CASES = [
    ("relu", (1.0, 2.0), "gaussian", 0.5, 20.0),
    ("relu", (1.0, 2.0), "orthogonal", 0.5, 12.0),
    ("leaky_relu", (1.0, 2.0 / 1.04), "orthogonal", 1.0, 12.0),
    ("tanh", SMALL, "gaussian", 1.0, 14.0),
    ("tanh", SMALL, "orthogonal", 1.0, 2.0),
    ("tanh", (0.57005, 1.76095), "orthogonal", 1.0, 6.0),
]


@pytest.mark.parametrize("depth", [4, pytest.param(9, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("activation", "point", "ensemble", "mass", "top"),
    [*CASES[:4], *(pytest.param(*case, marks=pytest.mark.long) for case in CASES[4:])],
)
def test_moments(
    activation: str,
    point: tuple[float, float],
    ensemble: Ensemble,
    mass: float,
    top: float,
    depth: int,
) -> None:
    zeroth, second, fourth = _integrals(activation, *point, depth, ensemble, top)
    # s^(2 / (L + 1)) of the values are below s: the smallest ones are not integrated
    assert zeroth == pytest.approx(mass, rel=0.05)
    assert second == pytest.approx(jacobian_mean_square(activation, *point, depth), rel=2e-3)
    variance = jacobian_relative_variance(activation, point[0], depth, ensemble)
    assert fourth / second**2 - 1 == pytest.approx(variance, rel=4e-3)


def _simulated(
    rng: np.random.Generator, activation: str, point: tuple[float, float], ensemble: Ensemble
) -> FloatArray:
    """Return the singular values of products of four layers of 400 units."""
    n, layers = 400, 4
    phi = activations.get(activation)
    jacobian = np.eye(n)
    for _ in range(layers):
        weights = rng.standard_normal((n, n)) / math.sqrt(n)
        if ensemble == "orthogonal":
            orthogonal, triangle = np.linalg.qr(weights)
            weights = orthogonal * np.sign(np.diag(triangle))
        slopes = phi.derivative(math.sqrt(point[0]) * rng.standard_normal(n))
        jacobian = slopes[:, None] * (math.sqrt(point[1]) * weights @ jacobian)
    return np.asarray(np.linalg.svd(jacobian, compute_uv=False), dtype=np.float64)


@pytest.mark.parametrize(
    ("activation", "point", "ensemble"),
    [
        pytest.param(*case[:3], marks=[] if case in CASES[:4:3] else pytest.mark.long)
        for case in CASES
        if case[0] != "leaky_relu"
    ],
)
def test_simulation(activation: str, point: tuple[float, float], ensemble: Ensemble) -> None:
    rng = np.random.default_rng(5)
    s = np.concatenate([_simulated(rng, activation, point, ensemble) for _ in range(3)])
    places = np.quantile(s[s > 1e-6], [0.2, 0.35, 0.5, 0.65, 0.8])
    fine = np.linspace(places[0], places[-1], 2001)
    density = jacobian_singular_density(fine, activation, *point, 4, ensemble)
    cumulated = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulated *= fine[1] - fine[0]
    measured = [(s <= place).mean() - (s <= places[0]).mean() for place in places[1:]]
    np.testing.assert_allclose(np.interp(places[1:], fine, cumulated), measured, atol=0.008)


def test_ensembles_differ() -> None:
    """The law of one ensemble is not that of the other, and not that of another depth."""
    s = np.linspace(0.5, 1.0, 11)
    laws = {
        (ensemble, depth): jacobian_singular_density(s, "relu", 1.0, 2.0, depth, ensemble)
        for ensemble in ("gaussian", "orthogonal")
        for depth in (4, 5)
    }
    reference = laws.pop(("gaussian", 4))
    assert all(np.abs(law / reference - 1).max() > 0.1 for law in laws.values())


def test_nodes_and_steps_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    s = np.linspace(0.3, 1.2, 41)
    found = jacobian_singular_density(s, "tanh", *SMALL, 4, "orthogonal")
    critical = critical_point("tanh", 0.05)
    wide = jacobian_singular_density(s, "tanh", critical.q_star, critical.sigma_w2, 4, "orthogonal")
    monkeypatch.setattr(free_probability, "_NODES", 30)
    monkeypatch.setattr(free_probability, "_ROTATIONS", 150)
    again = jacobian_singular_density(s, "tanh", *SMALL, 4, "orthogonal")
    np.testing.assert_allclose(found, again, rtol=1e-7, atol=1e-8)
    again = jacobian_singular_density(
        s, "tanh", critical.q_star, critical.sigma_w2, 4, "orthogonal"
    )
    np.testing.assert_allclose(wide, again, rtol=1e-7, atol=1e-8)


def test_shape_is_kept_and_arguments_are_checked() -> None:
    assert jacobian_singular_density(0.5, "relu", 1.0, 2.0, 3, "gaussian").shape == ()
    assert jacobian_singular_density([[0.5, 1]], "relu", 1.0, 2.0, 3, "gaussian").shape == (1, 2)
    for arguments in (
        ([0.0], "relu", 1.0, 2.0, 3, "gaussian"),
        ([1.0], "relu", 0.0, 2.0, 3, "gaussian"),
        ([1.0], "relu", 1.0, 0.0, 3, "gaussian"),
        ([1.0], "relu", 1.0, 2.0, 0, "gaussian"),
        ([1.0], "relu", 1.0, 2.0, 3, "unitary"),
        ([1.0], "gelu", 1.0, 2.0, 3, "gaussian"),
        ([1.0], "linear", 1.0, 1.0, 3, "orthogonal"),
        ([1.0], "tanh", 1.0, 1.0, 1, "orthogonal"),
    ):
        with pytest.raises(ValueError):
            jacobian_singular_density(*arguments)
