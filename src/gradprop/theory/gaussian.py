"""Expectations of functions of one or two Gaussian variables, to nearly full double precision.

Mean-field theory is made of integrals ``E[f(u)]`` and ``E[f(u_a) g(u_b)]``. Gauss-Hermite rules
are poor at kinks (ReLU's derivative is a step) and at large variances (``tanh(10 z)`` is nearly
one). The rules used here are all Gauss-Legendre on panels that end at the kinks and are narrow
where activation functions bend, which is around 0:

* one variable: panels that grow by octaves from there, up to about two standard deviations;
* two variables, no kink but at 0: where the second, given the first, cannot reach 0, it needs few
  Gauss-Hermite nodes. In the strip where it can, the density bends on a far coarser scale than the
  functions, which become part of the weights of a coarse rule (product integration). So the number
  of nodes hardly depends on variances and correlation, +-1 included;
* two variables, kinks elsewhere: the rule of one variable nested in itself, the inner panels
  following the kinks; between which linear functions have inner integrals of a closed form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from gradprop.components.activations import Activation
from gradprop.theory.arguments import not_negative, valid_correlation

__all__ = ["expectation", "pair_expectation", "shifted_expectation"]

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_LIMIT = 9.5  # in standard deviations: the normal density there is 1e-20
_PANELS = 10  # equal panels over (-_LIMIT, _LIMIT), before any further split
_NODES = 16  # Gauss-Legendre nodes a panel
_RATIO = 3.0  # of the ends of a graded panel
# Panels to one side of 0 in a strip: functions are part of the weights in the first. The first
# variable goes as far as _LIMIT, the second by _LIMIT farther.
_STRIP = (0.0, 1.0, 3.0, 6.0, _LIMIT, 13.0, 16.0, 2.0 * _LIMIT)
_FIRST = _NODES * _STRIP.index(_LIMIT)  # nodes of the first variable, to one side
_FLAT = -4  # log2 of a standard deviation within whose reach nothing bends
_ONE_SIDED = 1e-200  # stands for the limits to 0 from the left and from the right
_HUGE_RATIO = 1e15  # of a mean to a standard deviation, which is lost in it
_COLLINEAR = 1e-15  # 1 - |correlation| below which two variables are taken as multiples


def needs_quadrature(phi: Activation) -> None:
    """Insist on a function that these rules are for.

    Raises
    ------
    ValueError
        If it oscillates or grows exponentially: of those only closed forms are known.
    """
    if phi.integrals:
        raise ValueError(f"{phi.name} has Gaussian integrals in closed form only, not this one")


def _density(z: FloatArray) -> FloatArray:
    """Return the standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi), dtype=np.float64)


@functools.cache
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the Gauss-Legendre rule on (-1, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)


def _composite(breakpoints: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights for panels between `breakpoints` (last axis, sorted).

    Returns
    -------
    tuple of two ndarrays
        Of the shape of `breakpoints` but for the last axis, which has all nodes.
    """
    nodes, weights = _legendre()
    half = 0.5 * np.diff(breakpoints, axis=-1)[..., None]
    middle = 0.5 * (breakpoints[..., 1:] + breakpoints[..., :-1])[..., None]
    flat = (*breakpoints.shape[:-1], -1)
    return (middle + half * nodes).reshape(flat), (half * weights).reshape(flat)


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
    z, w = _composite(breakpoints)
    return z, w * _density(z)


def _breakpoints(features: FloatArray) -> FloatArray:
    """Equal panels over the whole range, split further at the features inside it."""
    equal = np.linspace(-_LIMIT, _LIMIT, _PANELS + 1)
    return np.unique(np.concatenate([equal, features[np.abs(features) < _LIMIT]]))


@functools.lru_cache(maxsize=128)
def _rule_around_zero(exponent: int) -> tuple[FloatArray, FloatArray]:
    """Rule for functions that bend around 0 only, for standard deviations of about 2^exponent."""
    return _panel_rule(_breakpoints(_features(2.0**exponent, ())))


def rule(std: float, kinks: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of a rule for functions that bend around 0 and at the kinks.

    Nodes are in units of `std`; the density of a standard normal variable is in the weights.
    """
    if any(kinks):
        return _panel_rule(_breakpoints(_features(std, kinks)))
    return _rule_around_zero(_exponent(std))


def _exponent(std: float) -> int:
    """Power of 2 next to `std`, and a small one for all that are smaller."""
    return max(round(math.log2(std)), _FLAT)


def _at_zero(f: Function) -> float:
    """Mean of the two one-sided limits of ``f`` at 0: what ``E[f(u)]`` tends to."""
    return float(np.mean(f(np.array([-_ONE_SIDED, _ONE_SIDED]))))


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
    not_negative(variance=variance)
    if variance == 0.0:
        return _at_zero(f)
    std = math.sqrt(variance)
    z, w = rule(std, kinks)
    return float(w @ f(std * z))


def shifted_expectation(
    f: Function, mean: float, variance: float, kinks: Sequence[float] = ()
) -> float:
    """Integrate a function of a Gaussian variable: ``E[f(u)]``, ``u ~ N(mean, variance)``.

    Parameters
    ----------
    f : callable
        As for `expectation`; it bends around 0, which may be far from the mean.
    mean, variance : float
        Moments of ``u``. At variance 0 this is ``f(mean)``.
    kinks : sequence of float, optional
        Points where ``f`` or one of its derivatives jumps.

    Returns
    -------
    float
        Accurate to about 1e-12 relative to ``E[|f(u)|]`` for the activation functions of this
        package, their derivatives, and products of two of these.

    Raises
    ------
    ValueError
        If `variance` is negative, infinite or NaN.
    """
    if mean == 0.0:
        return expectation(f, variance, kinks)
    not_negative(variance=variance)
    std = math.sqrt(variance)
    if abs(mean) > _HUGE_RATIO * std:  # also without any variance
        return float(f(np.array([mean]))[0])
    # Panels are graded around the place where the function bends.
    octaves = 2.0 ** np.arange(
        _FLAT, max(math.ceil(math.log2(_LIMIT * std + abs(mean))), _FLAT) + 1
    )
    bends = np.concatenate([-octaves, [0.0], octaves, np.asarray(kinks, dtype=np.float64)])
    z, w = _panel_rule(_breakpoints((bends - mean) / std))
    return float(w @ f(mean + std * z))


def pair_expectation(
    f: Function,
    g: Function,
    variance_a: float,
    variance_b: float,
    correlation: float,
    kinks: Sequence[float] = (),
    linear: bool = False,
) -> float:
    """Integrate a product of functions of two correlated centred Gaussian variables.

    The expectation ``E[f(u_a) g(u_b)]`` with ``Var u_a = variance_a``, ``Var u_b = variance_b`` and
    ``Corr(u_a, u_b) = correlation``.

    Parameters
    ----------
    f, g : callable
        Elementwise functions of a float64 array, as for `expectation`.
    variance_a, variance_b : float
        Variances of the two variables.
    correlation : float
        Their correlation, between -1 and 1.
    kinks : sequence of float, optional
        Points where ``f``, ``g`` or one of their derivatives jumps.
    linear : bool, optional
        Whether ``g`` is linear between the kinks, which makes the integral cheaper where a kink
        is not at 0.

    Returns
    -------
    float
        Accurate relative to ``E[|f g|]``: to about 1e-13 without kinks but at 0, else 1e-11.

    Raises
    ------
    ValueError
        If a variance is negative, infinite or NaN, or the correlation is not within [-1, 1].
    """
    not_negative(variance_a=variance_a, variance_b=variance_b)
    valid_correlation(correlation)
    if variance_a == 0.0:
        return _at_zero(f) * expectation(g, variance_b, kinks)
    if variance_b == 0.0:
        return _at_zero(g) * expectation(f, variance_a, kinks)
    std_a, std_b = math.sqrt(variance_a), math.sqrt(variance_b)
    if not any(kinks):
        return _at_any_angle(f, g, std_a, std_b, correlation)
    if 1.0 - abs(correlation) < _COLLINEAR:
        return _collinear(f, g, std_a, math.copysign(std_b, correlation), kinks)
    return _nested(f, g, std_a, std_b, correlation, kinks, linear)


def _at_any_angle(
    f: Function, g: Function, std_a: float, std_b: float, correlation: float
) -> float:
    """Rule for functions that are smooth on either side of 0, at any correlation.

    With ``x`` and ``z`` independent, ``u_a = std_a x``, ``u_b = std_b (correlation x + rest z)``.
    Where ``u_b = 0``, the density is that of ``x / rest``: it vanishes for ``|x| > _LIMIT rest``.
    """
    rest = math.sqrt((1.0 - correlation) * (1.0 + correlation))
    outside = _outside_strip(f, g, std_a, std_b, correlation, rest)
    return outside + (_strip(f, g, std_a, std_b, correlation, rest) if rest else 0.0)


def _outside_strip(
    f: Function, g: Function, std_a: float, std_b: float, correlation: float, rest: float
) -> float:
    """Integrate over ``|x| > _LIMIT rest``, where ``g`` is smooth within the reach of ``z``."""
    start = _LIMIT * rest
    equal = np.linspace(0.0, _LIMIT, 4)
    ends = np.append(_graded(2.0 ** -_exponent(max(std_a, std_b)), equal[1]), equal[2:])
    x, w = _panel_rule(np.append(start, ends[ends > start]))
    x, w = np.concatenate([x, -x]), np.concatenate([w, w])
    z, w_z = _hermite()
    inner = g(std_b * (correlation * x[:, None] + rest * z)) @ w_z
    return float((w * f(std_a * x)) @ inner)


def _strip(
    f: Function, g: Function, std_a: float, std_b: float, correlation: float, rest: float
) -> float:
    """Integrate over ``|x| < _LIMIT rest``, in units of `rest`.

    In these units the density is that of a normal ``y`` of variance 1 around ``correlation x``,
    times one of ``x``: it bends on a scale of 1, however narrow the strip is.
    """
    of_f = _strip_weights(f, std_a * rest)
    of_g = of_f if f is g and std_a == std_b else _strip_weights(g, std_b * rest)
    y = _strip_rule(_FLAT)[0]
    x = y[:_FIRST]
    of_f = of_f[:, :_FIRST] * np.exp(-0.5 * (rest * x) ** 2)
    same, opposite = (
        np.exp(-0.5 * (side * y - correlation * x[:, None]) ** 2) for side in (1.0, -1.0)
    )
    total = np.sum((of_f @ same) * of_g + (of_f @ opposite) * of_g[::-1])
    return float(total) * rest / (2.0 * math.pi)


def _strip_weights(f: Function, std: float) -> FloatArray:
    """Weights, to the right and to the left of 0, of a rule for ``f(std y)`` times the density.

    Returns
    -------
    ndarray
        Shape (2, nodes).
    """
    y, w, fine, product = _strip_rule(_exponent(std))
    sides = np.array([[std], [-std]])
    first = f(sides * fine) @ product
    return np.concatenate([first, w[_NODES:] * f(sides * y[_NODES:])], axis=1)


@functools.lru_cache(maxsize=128)
def _strip_rule(exponent: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Rule for one side of a strip that is about 2^exponent wide.

    Returns
    -------
    nodes, weights : ndarray
    fine : ndarray
        Nodes in the first panel where a function may bend on a scale of 2^-exponent.
    product : ndarray
        Shape (fine, nodes a panel). From the function's values there: its integrals with the
        polynomials that are 1 in one of the panel's nodes and 0 in the others.
    """
    nodes, weights = _composite(np.array(_STRIP))
    fine, w = _composite(_graded(2.0**-exponent, 1.0))
    degrees = np.arange(_NODES)
    # Legendre polynomials are orthogonal in the sums over the nodes, too.
    coarse = np.polynomial.legendre.legvander(_legendre()[0], _NODES - 1) * (degrees + 0.5)
    polynomials = np.polynomial.legendre.legvander(2.0 * fine - 1.0, _NODES - 1) @ coarse.T
    return nodes, weights, fine, w[:, None] * polynomials * _legendre()[1]


@functools.cache
def _hermite() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of the Gauss-Hermite rule for a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / math.sqrt(2.0 * math.pi)


def _graded(scale: float, end: float) -> FloatArray:
    """Return ends of growing panels from 0 to `end`; the first is at most `scale` wide."""
    if scale >= end:
        return np.array([0.0, end])
    inner = scale * _RATIO ** np.arange(math.ceil(math.log(end / scale, _RATIO)))
    return np.concatenate([[0.0], inner, [end]])


def _collinear(
    f: Function, g: Function, std_a: float, std_b: float, kinks: Sequence[float]
) -> float:
    """``E[f(std_a z) g(std_b z)]``; a negative `std_b` stands for a correlation of -1."""
    mirrored = math.copysign(1.0, std_b) * _features(abs(std_b), kinks)
    features = np.concatenate([_features(std_a, kinks), mirrored])
    z, w = _panel_rule(_breakpoints(features))
    return float(w @ (f(std_a * z) * g(std_b * z)))


def _nested(
    f: Function,
    g: Function,
    std_a: float,
    std_b: float,
    correlation: float,
    kinks: Sequence[float],
    linear: bool,
) -> float:
    """Panel rule over ``u_a``, and for each of its nodes the expectation of ``g(u_b)`` given it."""
    rest = math.sqrt((1.0 - correlation) * (1.0 + correlation))
    z, w = _panel_rule(_breakpoints(_outer_features(std_a, std_b, correlation, kinks)))
    if linear:
        inner = _of_segments(g, std_b * correlation * z, std_b * rest, kinks)
    else:
        inner = _of_panels(g, z, std_b, correlation, rest, kinks)
    return float(w @ (f(std_a * z) * inner))


def _of_segments(g: Function, means: FloatArray, std: float, kinks: Sequence[float]) -> FloatArray:
    """Return ``E[g(u)]``, ``u ~ N(mean, std^2)``, for every mean; `g` is linear between the kinks.

    From ``a`` to ``b``, whose standardized values are A and B, ``g(u) = p + r u`` contributes
    ``(p + r mean) (Phi(B) - Phi(A)) - r std (phi(B) - phi(A))``.
    """
    ends = np.array([-math.inf, *sorted(kinks), math.inf])
    # Two points of every segment tell its line.
    low = np.where(np.isfinite(ends[:-1]), ends[:-1], ends[1:] - 4.0)
    width = np.where(np.isfinite(ends[1:]), ends[1:], low + 4.0) - low
    first, second = g(low + 0.25 * width), g(low + 0.75 * width)
    rises = (second - first) / (0.5 * width)
    values = first - 0.25 * width * rises  # at `low`, a kink where there is one
    standard = (ends - means[:, None]) / std
    # Differences in the upper tail are taken in the lower one, where they are not rounded off.
    upper = standard[:, :-1] > 0.0
    below, above = (np.where(upper, -part, part) for part in (standard[:, :-1], standard[:, 1:]))
    shares = np.abs(ndtr(above) - ndtr(below))
    densities = np.diff(_density(standard))
    lines = values + rises * (means[:, None] - low)
    return np.asarray(np.sum(lines * shares - rises * std * densities, axis=1))


def _of_panels(
    g: Function,
    outer_z: FloatArray,
    std_b: float,
    correlation: float,
    rest: float,
    kinks: Sequence[float],
) -> FloatArray:
    """Return the expectation of ``g(u_b)`` given every ``u_a`` by a panel rule of its own."""
    # Given z_a, u_b = std_b (correlation z_a + rest z_b): the features of g move with z_a. Those
    # that leave the range collapse into empty panels at its ends.
    moved = (_features(std_b, kinks)[None, :] - correlation * outer_z[:, None]) / rest
    equal = np.linspace(-_LIMIT, _LIMIT, _PANELS + 1)
    rows = np.broadcast_to(equal, (outer_z.size, equal.size))
    edges = np.sort(np.concatenate([rows, np.clip(moved, -_LIMIT, _LIMIT)], axis=1), axis=1)
    inner_z, inner_w = _panel_rule(edges)
    u_b = std_b * (correlation * outer_z[:, None] + rest * inner_z)
    return np.asarray(np.sum(inner_w * g(u_b), axis=1))


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
