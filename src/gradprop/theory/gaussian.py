"""Expectations of functions of one or two Gaussian variables, to nearly full double precision.

Mean-field theory is made of integrals ``E[f(u)]`` and ``E[f(u_a) g(u_b)]``. Gauss-Hermite rules
are poor at kinks (ReLU's derivative is a step) and at large variances (``tanh(10 z)`` is nearly
one). The rules used here are:

* one variable: Gauss-Legendre on panels that end at the kinks, that are narrow where activation
  functions bend (around 0, growing by octaves) and at most about two standard deviations wide;
* two variables, no kinks, moderate variance: the trapezoidal rule, which converges geometrically
  for analytic functions;
* two variables, otherwise: the panel rule nested in itself, the inner panels following the kinks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["expectation", "pair_expectation"]

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_LIMIT = 9.5  # in standard deviations: the normal density there is 1e-20
_PANELS = 10  # equal panels over (-_LIMIT, _LIMIT), before any further split
_NODES = 16  # Gauss-Legendre nodes a panel
_TRAPEZOID_VARIANCE = 64.0  # beyond it the trapezoidal rule needs too many nodes
_ONE_SIDED = 1e-200  # stands for the limits to 0 from the left and from the right
_COLLINEAR = 1e-15  # 1 - |correlation| below which two variables are taken as multiples


def _density(z: FloatArray) -> FloatArray:
    """Return the standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi), dtype=np.float64)


@functools.cache
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the Gauss-Legendre rule on (-1, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)


def _octaves(std: float) -> FloatArray:
    """Return +-1, +-2, +-4, ... up to the integration limit, in units of `std`."""
    limit = _LIMIT * std
    if limit <= 1.0:
        return np.empty(0)
    octaves = 2.0 ** np.arange(math.ceil(math.log2(limit))) / std
    return np.concatenate([-octaves, octaves])


def _features(std: float, kinks: Sequence[float]) -> FloatArray:
    """Places, in units of `std`, where the panels must end besides the equal division."""
    return np.concatenate([[0.0], _octaves(std), np.asarray(kinks, dtype=np.float64) / std])


def _panel_rule(breakpoints: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and density-weighted weights for panels between `breakpoints` (last axis, sorted)."""
    nodes, weights = _legendre()
    half = 0.5 * np.diff(breakpoints, axis=-1)[..., None]
    middle = 0.5 * (breakpoints[..., 1:] + breakpoints[..., :-1])[..., None]
    z = middle + half * nodes
    w = half * weights * _density(z)
    flat = (*breakpoints.shape[:-1], -1)
    return z.reshape(flat), w.reshape(flat)


def _breakpoints(features: FloatArray) -> FloatArray:
    """Equal panels over the whole range, split further at the features inside it."""
    equal = np.linspace(-_LIMIT, _LIMIT, _PANELS + 1)
    return np.unique(np.concatenate([equal, features[np.abs(features) < _LIMIT]]))


def _at_zero(f: Function) -> float:
    """Mean of the two one-sided limits of ``f`` at 0: what ``E[f(u)]`` tends to."""
    return float(np.mean(f(np.array([-_ONE_SIDED, _ONE_SIDED]))))


def _check_variance(variance: float) -> None:
    if not 0.0 <= variance < math.inf:
        raise ValueError(f"a variance must be finite and not negative, got {variance}")


def expectation(f: Function, variance: float, kinks: Sequence[float] = ()) -> float:
    """Integrate a function of a centred Gaussian variable.

    The expectation ``E[f(u)]``, ``u ~ N(0, variance)``.

    Parameters
    ----------
    f : callable
        Elementwise function of a float64 array; piecewise smooth, of polynomial growth. As
        activation functions do, it may bend on a scale of 1 around 0, not on a much finer one.
    variance : float
        Variance of ``u``. At 0 the limit from above is returned, which for a function that
        jumps at 0 is the mean of its one-sided limits.
    kinks : sequence of float, optional
        Points where ``f`` or one of its derivatives jumps.

    Returns
    -------
    float
        Accurate to about 1e-13 relative to ``E[|f(u)|]`` for the activation functions of this
        package, their derivatives, and products of a few of these.

    Raises
    ------
    ValueError
        If `variance` is negative, infinite or NaN.
    """
    _check_variance(variance)
    if variance == 0.0:
        return _at_zero(f)
    std = math.sqrt(variance)
    z, w = _panel_rule(_breakpoints(_features(std, kinks)))
    return float(w @ f(std * z))


def pair_expectation(
    f: Function,
    g: Function,
    variance_a: float,
    variance_b: float,
    correlation: float,
    kinks: Sequence[float] = (),
) -> float:
    """Integrate a product of functions of two correlated centred Gaussian variables.

    The expectation ``E[f(u_a) g(u_b)]`` with ``Var u_a = variance_a``, ``Var u_b = variance_b`` and
    ``Corr(u_a, u_b) = correlation``.

    Parameters
    ----------
    f, g : callable
        Elementwise functions of a float64 array; piecewise smooth, of polynomial growth. If
        `kinks` is empty they are taken to be analytic in ``|Im z| < pi / 2``.
    variance_a, variance_b : float
        Variances of the two variables.
    correlation : float
        Their correlation, between -1 and 1.
    kinks : sequence of float, optional
        Points where ``f``, ``g`` or one of their derivatives jumps.

    Returns
    -------
    float
        Accurate to about 1e-11 relative to ``E[|f g|]``.

    Raises
    ------
    ValueError
        If a variance is negative, infinite or NaN, or the correlation is not within [-1, 1].
    """
    _check_variance(variance_a)
    _check_variance(variance_b)
    if not abs(correlation) <= 1.0:
        raise ValueError(f"a correlation must be within [-1, 1], got {correlation}")
    if variance_a == 0.0:
        return _at_zero(f) * expectation(g, variance_b, kinks)
    if variance_b == 0.0:
        return _at_zero(g) * expectation(f, variance_a, kinks)
    std_a, std_b = math.sqrt(variance_a), math.sqrt(variance_b)
    if 1.0 - abs(correlation) < _COLLINEAR:
        return _collinear(f, g, std_a, math.copysign(std_b, correlation), kinks)
    if not kinks and max(variance_a, variance_b) <= _TRAPEZOID_VARIANCE:
        return _trapezoid(f, g, std_a, std_b, correlation)
    return _nested(f, g, std_a, std_b, correlation, kinks)


def _collinear(
    f: Function, g: Function, std_a: float, std_b: float, kinks: Sequence[float]
) -> float:
    """``E[f(std_a z) g(std_b z)]``; a negative `std_b` stands for a correlation of -1."""
    mirrored = math.copysign(1.0, std_b) * _features(abs(std_b), kinks)
    features = np.concatenate([_features(std_a, kinks), mirrored])
    z, w = _panel_rule(_breakpoints(features))
    return float(w @ (f(std_a * z) * g(std_b * z)))


@functools.lru_cache(maxsize=64)
def _trapezoid_rule(half_count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and density-weighted weights of a trapezoidal rule with 2 half_count + 1 nodes."""
    z = np.linspace(-_LIMIT, _LIMIT, 2 * half_count + 1)
    return z, _density(z) * (_LIMIT / half_count)


def _trapezoid(f: Function, g: Function, std_a: float, std_b: float, correlation: float) -> float:
    """Tensor-product trapezoidal rule.

    With poles at a distance ``pi / (2 std)`` from the real axis its error is about
    ``exp(-pi**2 / (std * step))``, here 1e-17 after the growth of the density off the axis, and
    ``exp(-2 pi**2 / step**2)`` from the density.
    """
    step = min(0.4, 0.22 / max(std_a, std_b))
    z, w = _trapezoid_rule(math.ceil(_LIMIT / step))
    rest = math.sqrt((1.0 - correlation) * (1.0 + correlation))
    inner = g(std_b * (correlation * z[:, None] + rest * z[None, :])) @ w
    return float(w @ (f(std_a * z) * inner))


def _nested(
    f: Function, g: Function, std_a: float, std_b: float, correlation: float, kinks: Sequence[float]
) -> float:
    """Panel rule over ``u_a``, and for each of its nodes a panel rule over ``u_b`` given it."""
    rest = math.sqrt((1.0 - correlation) * (1.0 + correlation))
    outer_z, outer_w = _panel_rule(_breakpoints(_outer_features(std_a, std_b, correlation, kinks)))
    # Given z_a, u_b = std_b (correlation z_a + rest z_b): the features of g move with z_a. Those
    # that leave the range collapse into empty panels at its ends.
    moved = (_features(std_b, kinks)[None, :] - correlation * outer_z[:, None]) / rest
    equal = np.linspace(-_LIMIT, _LIMIT, _PANELS + 1)
    rows = np.broadcast_to(equal, (outer_z.size, equal.size))
    edges = np.sort(np.concatenate([rows, np.clip(moved, -_LIMIT, _LIMIT)], axis=1), axis=1)
    inner_z, inner_w = _panel_rule(edges)
    u_b = std_b * (correlation * outer_z[:, None] + rest * inner_z)
    inner = np.sum(inner_w * g(u_b), axis=1)
    return float(outer_w @ (f(std_a * outer_z) * inner))


def _outer_features(
    std_a: float, std_b: float, correlation: float, kinks: Sequence[float]
) -> FloatArray:
    """Features of ``f(u_a) E[g(u_b) | u_a]`` as a function of ``z_a = u_a / std_a``."""
    own = _features(std_a, kinks)
    if abs(correlation) < 1e-3:
        return own  # E[g | u_a] hardly bends over the whole range
    seen = _features(std_b, kinks) / correlation
    # The conditional expectation rounds the kinks of g off over this width; where that is less
    # than a panel, panels of that width are needed on both sides.
    width = math.sqrt((1.0 - correlation) * (1.0 + correlation)) / abs(correlation)
    if width > 1.0 or not kinks:
        return np.concatenate([own, seen])
    centres = np.asarray(kinks, dtype=np.float64) / (std_b * correlation)
    ladder = width * np.linspace(-_LIMIT, _LIMIT, _PANELS + 1)
    return np.concatenate([own, seen, (centres[:, None] + ladder[None, :]).ravel()])
