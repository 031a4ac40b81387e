"""Moments and densities of Jacobian spectra against simulation and exact integrals."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, linalg, optimize

from gradprop.components.activations import get
from gradprop.theory import (
    chi_1,
    critical_point,
    fuss_catalan_density,
    fuss_catalan_moment,
    has_dynamical_isometry,
    jacobian_mean_square,
    jacobian_relative_variance,
    jacobian_variance,
    layer_mean_singular_value,
    length_fixed_point,
    linear_gaussian_edge,
    linear_gaussian_relative_variance,
    linear_gaussian_singular_density,
    linear_orthogonal_singular_value,
    mean_singular_value,
    slope_moment,
)

FloatArray = npt.NDArray[np.float64]
Ensemble = Literal["gaussian", "orthogonal"]


def _matrix(rng: np.random.Generator, n: int, ensemble: Ensemble) -> FloatArray:
    g = rng.standard_normal((n, n))
    if ensemble == "gaussian":
        return g / math.sqrt(n)
    q, r = np.linalg.qr(g)
    return np.asarray(q * np.sign(np.diag(r)))


def test_variances_at_criticality() -> None:
    for depth in (1, 4, 16):
        assert jacobian_relative_variance("linear", 1.0, depth, "gaussian") == pytest.approx(depth)
        assert jacobian_relative_variance("linear", 1.0, depth, "orthogonal") == pytest.approx(0.0)
        assert jacobian_relative_variance("relu", 1.0, depth, "gaussian") == pytest.approx(
            2 * depth
        )
        assert jacobian_relative_variance("relu", 1.0, depth, "orthogonal") == pytest.approx(depth)
        assert jacobian_relative_variance("tanh", 0.3, depth, "gaussian") > depth
    for q, expected in ((1 / 64, (0.007, 0.027, 0.108)), (0.25, (0.548, 2.19, 8.77))):
        for depth, value in zip((4, 16, 64), expected, strict=True):
            exact = jacobian_relative_variance("tanh", q, depth, "orthogonal")
            assert exact == pytest.approx(value, rel=5e-3, abs=5e-4)


def test_published_critical_points_of_tanh() -> None:
    for sigma_w2, sigma_b2, q in ((1.0306, 4.65e-6, 1 / 64), (1.3940, 0.00813, 0.25)):
        assert length_fixed_point("tanh", sigma_w2, sigma_b2) == pytest.approx(q, rel=2e-3)
        assert chi_1("tanh", q, sigma_w2) == pytest.approx(1.0, abs=1e-4)
        assert critical_point("tanh", sigma_b2).sigma_w2 == pytest.approx(sigma_w2, abs=1e-4)


def test_mean_square_is_a_power_of_chi() -> None:
    chi = chi_1("gelu", 0.7, 1.4)
    assert slope_moment("gelu", 0.7, 1) == pytest.approx(chi / 1.4)
    assert jacobian_mean_square("gelu", 0.7, 1.4, 5) == pytest.approx(chi**5)
    relative = jacobian_relative_variance("gelu", 0.7, 5, "gaussian")
    assert jacobian_variance("gelu", 0.7, 1.4, 5, "gaussian") == pytest.approx(chi**10 * relative)


def test_isometry() -> None:
    assert has_dynamical_isometry("linear", 1.0, 1.0, 100, "orthogonal")
    assert not has_dynamical_isometry("linear", 1.0, 1.0, 100, "gaussian")
    assert not has_dynamical_isometry("linear", 1.0, 1.01, 100, "orthogonal")
    assert not has_dynamical_isometry("relu", 1.0, 2.0, 2, "orthogonal")
    near = critical_point("tanh", 1e-9)
    assert has_dynamical_isometry("tanh", near.q_star, near.sigma_w2, 10, "orthogonal")
    assert not has_dynamical_isometry("tanh", near.q_star, near.sigma_w2, 10, "gaussian")


@pytest.mark.parametrize(
    ("name", "sigma_w2", "q", "ensemble"),
    [
        ("relu", 2.0, 1.0, "gaussian"),
        ("tanh", 1.394, 0.25, "orthogonal"),
        pytest.param("relu", 2.0, 1.0, "orthogonal", marks=pytest.mark.long),
        pytest.param("tanh", 1.394, 0.25, "gaussian", marks=pytest.mark.long),
    ],
)
def test_variance_law_by_simulation(
    name: str, sigma_w2: float, q: float, ensemble: Ensemble
) -> None:
    rng = np.random.default_rng(12)
    phi, n, depth, nets = get(name), 200, 4, 16
    sigma_b2 = 0.0 if name == "relu" else 0.00813
    ratios = np.empty(nets)
    for net in range(nets):
        z = rng.standard_normal(n)
        z *= math.sqrt(q * n) / float(np.linalg.norm(z))
        jacobian = np.eye(n)
        for layer in range(depth):
            w = _matrix(rng, n, ensemble) * math.sqrt(sigma_w2)
            if layer:
                z = w @ phi.function(z) + math.sqrt(sigma_b2) * rng.standard_normal(n)
            jacobian = phi.derivative(z)[:, None] * (w @ jacobian)
        squares = np.linalg.svd(jacobian, compute_uv=False) ** 2
        ratios[net] = squares.var() / squares.mean() ** 2
    expected = jacobian_relative_variance(name, q, depth, ensemble)
    error = float(ratios.std(ddof=1)) / math.sqrt(nets)
    # corrections of relative order depth / width = 2 %
    assert abs(float(ratios.mean()) - expected) < 5.0 * error + 0.04 * expected


def test_finite_linear_gaussian_recursion() -> None:
    rng = np.random.default_rng(13)
    n, depth, nets = 4, 3, 60_000
    jacobian = np.broadcast_to(np.eye(n), (nets, n, n))
    for _ in range(depth):
        jacobian = np.matmul(rng.standard_normal((nets, n, n)) / math.sqrt(n), jacobian)
    gram = np.matmul(jacobian, np.swapaxes(jacobian, 1, 2))
    a = np.sum(gram**2, axis=(1, 2)) / n
    b = np.trace(gram, axis1=1, axis2=2) ** 2 / n**2
    ratio = float(a.mean() / b.mean())
    residual = a - ratio * b
    error = float(residual.std()) / math.sqrt(nets) / float(b.mean())
    assert abs(ratio - 1.0 - linear_gaussian_relative_variance(n, depth)) < 5.0 * error
    assert linear_gaussian_relative_variance(100, 4) == pytest.approx(4.09, abs=0.01)
    assert linear_gaussian_relative_variance(10**6, 16) == pytest.approx(16.0, rel=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 32])
def test_fuss_catalan_moments(depth: int) -> None:
    edge = math.sqrt(linear_gaussian_edge(depth))
    # s = edge (1 - w**2)**(depth + 1) removes the singularities at 0 and at the edge
    nodes, weights = np.polynomial.legendre.leggauss(300)
    w = 0.5 * (nodes + 1.0)
    s = edge * (1.0 - w**2) ** (depth + 1)
    mass = weights * edge * (depth + 1) * (1.0 - w**2) ** depth * w
    density = linear_gaussian_singular_density(s, depth)
    for order in (0, 1, 2, 3):
        moment = float(np.sum(mass * density * s ** (2 * order)))
        assert moment == pytest.approx(fuss_catalan_moment(order, depth), rel=1e-9)
    variance = fuss_catalan_moment(2, depth) - fuss_catalan_moment(1, depth) ** 2
    assert variance == pytest.approx(jacobian_relative_variance("linear", 1.0, depth, "gaussian"))


def test_one_factor_is_marchenko_pastur() -> None:
    x = np.array([-1.0, 0.0, 1e-9, 0.3, 1.0, 3.9, 4.0, 5.0])
    inside = (x > 0.0) & (x < 4.0)
    expected = np.zeros(x.shape)
    expected[inside] = np.sqrt((4.0 - x[inside]) / x[inside]) / (2.0 * math.pi)
    np.testing.assert_allclose(fuss_catalan_density(x, 1), expected, rtol=1e-9)
    s = np.array([0.5, 1.5])
    quarter_circle = np.sqrt(4.0 - s**2) / math.pi
    np.testing.assert_allclose(linear_gaussian_singular_density(s, 1), quarter_circle)
    np.testing.assert_allclose(
        linear_gaussian_singular_density(3.0 * s, 1, 9.0), quarter_circle / 3.0
    )


def test_mean_singular_value() -> None:
    assert mean_singular_value(1.0 / 3.0) == pytest.approx(0.4901, abs=6e-5)
    assert mean_singular_value(1.0) == pytest.approx(0.8488, abs=6e-5)
    mean = integrate.quad(lambda s: s * float(linear_gaussian_singular_density(s, 1)), 0.0, 2.0)[0]
    assert mean == pytest.approx(mean_singular_value(1.0), rel=1e-6)
    rng = np.random.default_rng(14)
    measured = float(linalg.svdvals(_matrix(rng, 400, "gaussian")).mean())
    assert measured == pytest.approx(mean_singular_value(1.0), rel=0.01)


def test_mean_singular_value_of_a_layer_without_and_with_little_slope() -> None:
    assert layer_mean_singular_value("linear", 1.0, 1.0) == pytest.approx(8 / (3 * math.pi))
    linear = mean_singular_value(1 / 3)
    assert layer_mean_singular_value("tanh", 0.0, 1 / 3) == pytest.approx(linear)
    assert layer_mean_singular_value("leaky_relu", 1.0, 0.0) == 0.0
    by_length = [layer_mean_singular_value("tanh", q, 1.0) for q in (0.01, 0.1, 1.0, 10.0)]
    assert by_length == sorted(by_length, reverse=True)


def test_mean_singular_value_of_a_rectified_layer() -> None:
    """W with half of its columns: the Marchenko-Pastur law of a matrix twice as high as wide."""
    low, high = (1 - math.sqrt(0.5)) ** 2, (1 + math.sqrt(0.5)) ** 2

    def integrand(x: float) -> float:
        density = math.sqrt((high - x) * (x - low)) / (math.pi * x)
        return math.sqrt(x) * density

    half = integrate.quad(integrand, low, high)[0] / 2
    assert layer_mean_singular_value("relu", 0.7, 1.0) == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize("q", [0.05, 0.7, 20.0])
def test_mean_singular_value_of_a_layer_by_its_resolvent(q: float) -> None:
    """``E[s] = (2 / pi) int E[s**2 / (s**2 + u**2)] du``, the resolvent by root finding."""
    sigma_w2 = 0.6
    z = np.linspace(-9, 9, 2001)
    squares = sigma_w2 * get("tanh").derivative(math.sqrt(q) * z) ** 2
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()

    def share(v: float) -> float:
        return float(weights @ (squares * v / (1 + squares * v)))

    def integrand(log_u: float) -> float:
        def gap(log_v: float) -> float:
            return math.exp(2 * log_u + log_v) - 1 + share(math.exp(log_v))

        return share(math.exp(optimize.brentq(gap, -60, 200))) * math.exp(log_u)

    expected = 2 / math.pi * integrate.quad(integrand, -20, 20, limit=200)[0]
    assert layer_mean_singular_value("tanh", q, sigma_w2) == pytest.approx(expected, rel=1e-6)


def test_mean_singular_value_of_a_layer_by_simulation() -> None:
    """Uniform entries, and slopes at pre-activations that are made by these same weights."""
    rng = np.random.default_rng(16)
    n, sigma_w2, networks = 200, 1.5, 100
    limit = math.sqrt(3 * sigma_w2 / n)
    means = np.empty(networks)
    for network in range(networks):
        w, h = rng.uniform(-limit, limit, (n, n)), rng.choice([-1.0, 1.0], n)
        means[network] = linalg.svdvals(w * get("tanh").derivative(h @ w)).mean()
    error = float(means.std(ddof=1)) / math.sqrt(networks)
    expected = layer_mean_singular_value("tanh", sigma_w2, sigma_w2)
    assert error < 0.005 * expected
    assert abs(float(means.mean()) - expected) < 3 * error


def test_density_of_three_factors_by_simulation() -> None:
    rng = np.random.default_rng(15)
    n, depth = 200, 3
    jacobian = np.eye(n)
    for _ in range(depth):
        jacobian = _matrix(rng, n, "gaussian") @ jacobian
    singular = np.linalg.svd(jacobian, compute_uv=False)
    for low, high in ((0.0, 0.3), (0.3, 1.0), (1.0, 2.0), (2.0, 4.0)):
        share = float(np.mean((singular > low) & (singular <= high)))
        exact = integrate.quad(
            lambda s: float(linear_gaussian_singular_density(s, depth)), low, high
        )[0]
        # eigenvalues repel: their counts fluctuate by a few units only
        assert abs(share - exact) < 5.0 / n
    assert float(singular[0]) == pytest.approx(math.sqrt(linear_gaussian_edge(depth)), rel=0.05)


def test_edges() -> None:
    assert linear_gaussian_edge(1) == pytest.approx(4.0)
    assert linear_gaussian_edge(2) == pytest.approx(27.0 / 4.0)
    assert linear_gaussian_edge(2, 2.0) == pytest.approx(27.0)
    assert linear_gaussian_edge(500) == pytest.approx(math.e * 500.5, rel=1e-5)
    assert linear_orthogonal_singular_value(1.0, 50) == 1.0
    assert linear_orthogonal_singular_value(0.81, 3) == pytest.approx(0.9**3)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="depth"):
        jacobian_relative_variance("relu", 1.0, 0, "gaussian")
    with pytest.raises(ValueError, match="unknown ensemble"):
        jacobian_relative_variance("relu", 1.0, 1, "uniform")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma_w2"):
        mean_singular_value(-1.0)
    with pytest.raises(ValueError, match="sigma_w2"):
        layer_mean_singular_value("tanh", 1.0, math.inf)
    with pytest.raises(ValueError, match="sigma_w2"):
        linear_gaussian_singular_density(1.0, 1, 0.0)
    with pytest.raises(ValueError, match="order"):
        fuss_catalan_moment(-1, 1)
    with pytest.raises(ValueError, match="width"):
        linear_gaussian_relative_variance(0, 1)
