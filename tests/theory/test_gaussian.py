"""Gaussian integrals against adaptive quadrature and closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, special

from gradprop.components.activations import ACTIVATIONS, Activation
from gradprop.theory import expectation, pair_expectation, shifted_expectation
from gradprop.theory import gaussian as module

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

# All that quadrature is for; the others have closed forms (test_integrals.py).
QUADRATURE = [activation for activation in ACTIVATIONS.values() if not activation.integrals]
EVERY = pytest.mark.parametrize("activation", QUADRATURE, ids=lambda a: a.name)


def _step(u: FloatArray) -> FloatArray:
    return np.asarray(np.where(u > 0.0, 1.0, 0.0))


def _adaptive(f: Function, variance: float, kinks: tuple[float, ...]) -> float:
    """Adaptive quadrature in pieces that end where activation functions bend."""
    std = math.sqrt(variance)
    cuts = {-12.0, 0.0, 12.0} | {kink / std for kink in kinks}
    cuts |= {sign * u / std for u in (0.5, 1.5, 4.0, 10.0, 30.0) for sign in (-1, 1)}
    points = sorted(x for x in cuts if abs(x) <= 12.0)

    def integrand(z: float) -> float:
        value = float(f(np.asarray(std * z)))
        return value * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    return sum(
        integrate.quad(integrand, a, b, epsabs=1e-14, epsrel=1e-12, limit=400)[0]
        for a, b in itertools.pairwise(points)
    )


@EVERY
@pytest.mark.parametrize("variance", [1e-6, 0.2, 3.0, 1e4])
def test_one_variable_against_adaptive_quadrature(activation: Activation, variance: float) -> None:
    f, d, dd = activation.function, activation.derivative, activation.second_derivative
    for integrand in (lambda u: f(u) ** 2, lambda u: d(u) ** 2, lambda u: dd(u) ** 2):
        exact = _adaptive(integrand, variance, activation.kinks)
        assert expectation(integrand, variance, activation.kinks) == pytest.approx(
            exact, rel=1e-11, abs=1e-14
        )


@EVERY
@pytest.mark.parametrize(("mean", "variance"), [(0.7, 0.2), (-3.0, 5.0), (40.0, 900.0)])
def test_a_shifted_variable_against_adaptive_quadrature(
    activation: Activation, mean: float, variance: float
) -> None:
    std = math.sqrt(variance)
    bends = [*activation.kinks, *(sign * u for u in (0, 0.5, 1.5, 4, 10, 30) for sign in (-1, 1))]
    cuts = {-12.0, *(x for u in bends if abs(x := (u - mean) / std) < 12), 12.0}
    for f in (activation.function, lambda u: activation.derivative(u) ** 2):

        def integrand(z: float, f: Function = f) -> float:
            return float(f(np.asarray(mean + std * z))) * math.exp(-0.5 * z * z)

        exact = sum(
            integrate.quad(integrand, a, b, epsabs=1e-14, epsrel=1e-12, limit=400)[0]
            for a, b in itertools.pairwise(sorted(cuts))
        ) / math.sqrt(2 * math.pi)
        found = shifted_expectation(f, mean, variance, activation.kinks)
        assert found == pytest.approx(exact, rel=1e-10, abs=1e-12)


def test_a_shifted_variable_without_variance_and_without_mean() -> None:
    assert shifted_expectation(np.tanh, 0.5, 0.0) == math.tanh(0.5)
    assert shifted_expectation(np.tanh, 1.0, 1e-200) == math.tanh(1.0)
    assert shifted_expectation(np.square, 0.0, 3.0) == expectation(np.square, 3.0)
    with pytest.raises(ValueError, match="variance must be finite and not negative"):
        shifted_expectation(np.tanh, 1.0, -1.0)


@pytest.mark.parametrize("variance", [1e-300, 1e-8, 1.0, 1e100])
def test_moments_at_extreme_variances(variance: float) -> None:
    assert expectation(np.ones_like, variance) == pytest.approx(1.0, rel=1e-14)
    assert expectation(lambda u: u * u, variance) == pytest.approx(variance, rel=1e-13)
    scaled = expectation(lambda u: (u / math.sqrt(variance)) ** 4, variance)
    assert scaled == pytest.approx(3.0, rel=1e-12)


def test_variance_zero_is_the_limit() -> None:
    assert expectation(np.cos, 0.0) == 1.0
    assert expectation(_step, 0.0, (0.0,)) == 0.5
    assert pair_expectation(np.cos, _step, 0.0, 2.0, 0.3, (0.0,)) == pytest.approx(0.5)
    assert pair_expectation(_step, np.cos, 1.0, 0.0, 0.3, (0.0,)) == pytest.approx(0.5)


@pytest.mark.parametrize("c", [-1.0, -0.999999, -0.7, 0.0, 0.3, 0.99, 1.0 - 1e-9, 1.0])
def test_pairs_against_arcsine_and_arccosine_laws(c: float) -> None:
    qa, qb = 2.0, 0.5
    angle = math.acos(c)
    orthant = pair_expectation(_step, _step, qa, qb, c, (0.0,))
    assert orthant == pytest.approx((math.pi - angle) / (2.0 * math.pi), abs=1e-11)
    relu = ACTIVATIONS["relu"].function
    kernel = (math.sqrt((1.0 - c) * (1.0 + c)) + c * (math.pi - angle)) / (2.0 * math.pi)
    assert pair_expectation(relu, relu, qa, qb, c, (0.0,)) == pytest.approx(kernel, abs=1e-11)
    erf = pair_expectation(special.erf, special.erf, qa, qb, c)
    ratio = 2.0 * c * math.sqrt(qa * qb) / math.sqrt((1.0 + 2.0 * qa) * (1.0 + 2.0 * qb))
    assert erf == pytest.approx(2.0 / math.pi * math.asin(ratio), abs=1e-12)


def test_pairs_of_polynomials() -> None:
    c, qa, qb = 0.4, 1.7, 0.6
    cubic = pair_expectation(lambda u: u**3, lambda u: u**3, qa, qb, c)
    assert cubic == pytest.approx((qa * qb) ** 1.5 * (9.0 * c + 6.0 * c**3), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "variance", "c"),
    [("elu", 1.3, 0.6), ("selu", 0.4, -0.5), ("softsign", 5.0, 0.9), ("gelu", 2.0, 0.8)],
)
def test_pairs_against_adaptive_quadrature(name: str, variance: float, c: float) -> None:
    activation = ACTIVATIONS[name]
    f, rest, std = activation.function, math.sqrt(1.0 - c * c), math.sqrt(variance)

    def integrand(y: float, x: float) -> float:
        value = float(f(std * x)) * float(f(std * (c * x + rest * y)))
        return value * math.exp(-0.5 * (x * x + y * y)) / (2.0 * math.pi)

    total = 0.0
    for x_low, x_high in ((-9.0, 0.0), (0.0, 9.0)):
        for side in (-1.0, 1.0):  # the inner range ends at the kink, where c x + rest y = 0

            def edge(x: float) -> float:
                return float(np.clip(-c * x / rest, -9.0, 9.0))

            low, high = (-9.0, edge) if side < 0.0 else (edge, 9.0)
            total += integrate.dblquad(
                integrand, x_low, x_high, low, high, epsabs=1e-10, epsrel=1e-10
            )[0]
    value = pair_expectation(f, f, variance, variance, c, activation.kinks)
    assert value == pytest.approx(total, abs=1e-9)


@EVERY
@pytest.mark.parametrize(("qa", "qb"), [(0.05, 0.05), (1.5, 1.5), (0.3, 20.0)])
def test_pairs_obey_price_theorem(activation: Activation, qa: float, qb: float) -> None:
    # d/dc E[f f] = sqrt(qa qb) E[f' f'], from E[f]**2-like at c = 0 to the single integral at 1
    f, d, kinks = activation.function, activation.derivative, activation.kinks
    nodes, weights = np.polynomial.legendre.leggauss(24)
    angles = 0.25 * math.pi * (nodes + 1.0)  # c = sin(angle): E[f' f'] is smooth in the angle
    slopes = [pair_expectation(d, d, qa, qb, float(np.sin(a)), kinks) for a in angles]
    rise = 0.25 * math.pi * float(weights @ (np.cos(angles) * np.asarray(slopes)))
    end = expectation(lambda u: f(math.sqrt(qa / qb) * u) * f(u), qb, kinks)
    start = expectation(f, qa, kinks) * expectation(f, qb, kinks)
    assert pair_expectation(f, f, qa, qb, 0.0, kinks) == pytest.approx(start, rel=1e-10, abs=1e-13)
    assert pair_expectation(f, f, qa, qb, 1.0, kinks) == pytest.approx(end, rel=1e-10)
    assert start + math.sqrt(qa * qb) * rise == pytest.approx(end, rel=2e-9)


def square_of(f: Function, variance: float, kinks: Sequence[float] = ()) -> float:
    """Return E[f(u)^2]; a kink at 0 needs no mention."""
    return expectation(lambda u: f(u) ** 2, variance, kinks)


@pytest.mark.parametrize(
    "activation", [a for a in QUADRATURE if not any(a.kinks)], ids=lambda a: a.name
)
@pytest.mark.parametrize("stds", [(1e-3, 1e-3), (0.5, 0.5), (8.0, 8.0), (0.1, 300.0)], ids=str)
def test_both_rules_for_pairs_agree(activation: Activation, stds: tuple[float, float]) -> None:
    for f in (activation.function, activation.derivative):
        for c in (-0.9, 0.2, 1.0 - 1e-6):
            strip = module._at_any_angle(f, f, *stds, c)
            nested = module._nested(f, f, *stds, c, (0.0,), linear=False)
            scale = math.sqrt(square_of(f, stds[0] ** 2) * square_of(f, stds[1] ** 2))
            assert strip == pytest.approx(nested, rel=1e-12, abs=1e-12 * scale)


def _hard_tanh(u: FloatArray) -> FloatArray:
    return np.asarray(2.0 + np.clip(u, -1.0, 1.0) - 0.3 * u)


@pytest.mark.parametrize(
    ("f", "kinks"),
    [
        (ACTIVATIONS["relu6"].function, (0.0, 6.0)),
        (ACTIVATIONS["relu6"].derivative, (0.0, 6.0)),
        (_hard_tanh, (-1.0, 1.0)),
    ],
    ids=["relu6", "its slope", "bounded and linear"],
)
@pytest.mark.parametrize("stds", [(0.01, 0.01), (1.7, 1.7), (1.0, 40.0), (1e3, 1e3)], ids=str)
def test_pairs_of_piecewise_linear_functions(
    f: Function, kinks: tuple[float, ...], stds: tuple[float, float]
) -> None:
    """The inner integral in closed form is that of the panels."""
    variances = stds[0] ** 2, stds[1] ** 2
    for c in (-1 + 1e-9, -0.5, 0.0, 0.3, 0.999, 1 - 1e-10):
        size = pair_expectation(
            lambda u: np.abs(f(u)), lambda u: np.abs(f(u)), *variances, c, kinks
        )
        expected = pair_expectation(f, f, *variances, c, kinks)
        found = pair_expectation(f, f, *variances, c, kinks, linear=True)
        assert found == pytest.approx(expected, rel=0, abs=2e-13 * size)


@EVERY
@pytest.mark.parametrize("std", [1e-3, 0.5, 8.0, 1e6])
def test_pairs_end_in_one_variable(activation: Activation, std: float) -> None:
    for f in (activation.function, activation.derivative):
        square = square_of(f, std**2, activation.kinks)
        pair = pair_expectation(f, f, std**2, std**2, 1.0, activation.kinks)
        assert pair == pytest.approx(square, rel=1e-13)
        mirrored = module._collinear(f, f, std, -std, activation.kinks)
        pair = pair_expectation(f, f, std**2, std**2, -1.0, activation.kinks)
        assert pair == pytest.approx(mirrored, rel=1e-12, abs=1e-13 * square)


@pytest.mark.parametrize("q", [1e-12, 1.0, 1e4, 1e9, 1e15, 1e21])
@pytest.mark.parametrize("c", [-0.999, -0.3, 0.0, 0.6, 1.0 - 1e-9, 1.0 - 1e-13])
def test_pairs_at_any_scale_against_closed_forms(q: float, c: float) -> None:
    det = (1.0 + 2.0 * q * (1.0 - c)) * (1.0 + 2.0 * q * (1.0 + c))
    value = pair_expectation(special.erf, special.erf, q, q, c)
    law = 2.0 / math.pi * math.atan2(2.0 * q * c, math.sqrt(det))  # an arc sine with all digits
    assert value == pytest.approx(law, rel=1e-12, abs=1e-13)

    def bell(u: FloatArray) -> FloatArray:
        return np.exp(-np.square(u))

    # 1 / sqrt(det(1 + 2 C)), C the covariance
    value = pair_expectation(bell, bell, q, q, c)
    assert value == pytest.approx(det**-0.5, rel=1e-12, abs=0.0)


def smoothed_elu(mean: FloatArray, std: float) -> FloatArray:
    """``E[elu(mean + std z)]`` in closed form."""
    shifted = (mean + std**2) / std
    # exp(mean + std**2 / 2) Phi(-shifted), of which the first factor overflows on the right
    right = (
        0.5 * np.exp(-0.5 * (mean / std) ** 2) * special.erfcx(np.maximum(shifted, 0.0) / 2**0.5)
    )
    left = np.exp(np.minimum(mean + 0.5 * std**2, 0.0)) * special.ndtr(-shifted)
    line = mean * special.ndtr(mean / std)
    line += std * np.exp(-0.5 * (mean / std) ** 2) / math.sqrt(2.0 * math.pi)
    return line + np.where(shifted > 0.0, right, left) - special.ndtr(-mean / std)


@pytest.mark.parametrize("variance", [0.01, 1.0, 700.0, 1e6, 1e12, 1e18])
@pytest.mark.parametrize("c", [-0.9999, -0.4, 0.02, 0.6, 0.97, 0.9998, 1.0 - 1e-9])
def test_pairs_of_elu_against_a_single_integral(variance: float, c: float) -> None:
    """The inner expectation is known; the outer one has panels of half an octave here."""
    elu, std, rest = ACTIVATIONS["elu"].function, math.sqrt(variance), math.sqrt(1.0 - c * c)
    edges = np.append(0.0, 10.0 * 2.0 ** (-0.5 * np.arange(2.0 * math.log2(1e3 * std / rest) + 9)))
    edges.sort()
    nodes, weights = np.polynomial.legendre.leggauss(40)
    half = 0.5 * np.diff(edges)[:, None]
    z = (edges[:-1, None] + half * (1.0 + nodes)).ravel()
    w = (half * weights).ravel() * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    expected = sum(
        float(w @ (elu(side * std * z) * smoothed_elu(side * std * c * z, std * rest)))
        for side in (1.0, -1.0)
    )
    scale = expectation(lambda u: elu(u) ** 2, variance)
    assert pair_expectation(elu, elu, variance, variance, c, (0.0,)) == pytest.approx(
        expected, rel=1e-12, abs=1e-13 * scale
    )


@pytest.mark.parametrize("variances", [(1.0, 1.0), (1e6, 1e6), (1e20, 1e20), (0.1, 1e6)], ids=str)
@pytest.mark.parametrize("c", [0.0, 0.95, 1.0 - 1e-9])
def test_pairs_take_few_values_at_any_scale(variances: tuple[float, float], c: float) -> None:
    counted: list[int] = []

    def f(u: FloatArray) -> FloatArray:
        counted.append(u.size)
        return np.tanh(u)

    pair_expectation(f, f, *variances, c)
    assert sum(counted) < 20_000


def test_bad_arguments() -> None:
    for variance in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="variance"):
            expectation(np.cos, variance)
    for c in (1.0001, math.nan):
        with pytest.raises(ValueError, match="correlation"):
            pair_expectation(np.cos, np.cos, 1.0, 1.0, c)
