"""The correlation map of mean-field theory: how the angle between two inputs travels.

The correlation ``c^l`` of the pre-activations of two inputs follows a deterministic map. Its fixed
point at ``c = 1`` is stable in the ordered phase (``chi_1 < 1``: all inputs end up alike) and
unstable in the chaotic phase (nearby inputs part).

Sources: Poole et al. 2016 (NeurIPS, arXiv:1606.05340) for the map; Schoenholz et al. 2017 (ICLR,
arXiv:1611.01232) for the depth scale. Every function takes an `Activation` or its name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import optimize

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import at_least, not_negative, valid_correlation
from gradprop.theory.gaussian import pair_expectation
from gradprop.theory.length import (
    chi_1,
    depth_scale,
    length_fixed_point,
    length_map,
    length_trajectory,
    mean_square_activation,
    mean_square_slope_at_zero,
    slopes_at_infinity,
    slopes_at_zero,
)

__all__ = [
    "correlation_depth_scale",
    "correlation_fixed_point",
    "correlation_map",
    "correlation_map_slope",
    "correlation_trajectory",
    "covariance_map",
]

FloatArray = npt.NDArray[np.float64]

_EPS = 1e-14
# Of long trajectories: layers that are mapped one by one before any are interpolated, how many are
# interpolated at once, between how many points, in how many rounds at most, and how exactly.
_PLAIN, _LEAP, _LONGEST_LEAP = 256, 128, 2048
_NODES, _ROUNDS, _NOISE = 16, 8, 2e-15
_UNDERFLOW = 1e-290  # lengths below it have lost digits
# Beyond, an activation is a kinked line, or a step if it is bounded, to 11 digits.
_LARGEST = 1e22


def _homogeneous_pair(right: float, left: float, c: float) -> float:
    """Arc-cosine kernel: ``E[phi(u_a) phi(u_b)]`` for the two slopes and unit variances."""
    theta = math.acos(c)
    sine = math.sqrt((1.0 - c) * (1.0 + c))
    same = (sine + c * (math.pi - theta)) / (2.0 * math.pi)
    opposite = (sine - c * theta) / (2.0 * math.pi)
    return (right**2 + left**2) * same - 2.0 * right * left * opposite


def _homogeneous_slope_pair(right: float, left: float, c: float) -> float:
    """``E[phi'(u_a) phi'(u_b)]`` for slopes `right` and `left`."""
    fraction = math.acos(c) / (2.0 * math.pi)
    return (right**2 + left**2) * (0.5 - fraction) + 2.0 * right * left * fraction


def covariance_map(
    activation: ActivationLike,
    q_a: float,
    q_b: float,
    c: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
) -> float:
    """Covariance of the next layer's pre-activations for two inputs.

    ``q_ab' = sigma_w2 E[phi(u_a) phi(u_b)] + sigma_b2`` with ``Var u_a = q_a``, ``Var u_b = q_b``
    and ``Corr(u_a, u_b) = c``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q_a, q_b : float
        Mean squares of this layer's pre-activations for the two inputs.
    c : float
        Their correlation in this layer.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a length or a variance is negative, infinite or NaN, ``|c| > 1``, or the activation is
        unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340; for ReLU the closed form of Cho & Saul 2009 is used.
    """
    phi = activations.get(activation)
    not_negative(q_a=q_a, q_b=q_b, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    valid_correlation(c)
    return sigma_w2 * _mean_product(phi, q_a, q_b, c) + sigma_b2


def _mean_product(phi: Activation, q_a: float, q_b: float, c: float) -> float:
    """``E[phi(u_a) phi(u_b)]``."""
    if phi.homogeneous:
        return math.sqrt(q_a) * math.sqrt(q_b) * _homogeneous_pair(*slopes_at_zero(phi), c)
    if phi.integrals:
        return phi.integrals.product(0, q_a, q_b, c)
    if max(q_a, q_b) <= _LARGEST:
        return pair_expectation(
            phi.function, phi.function, q_a, q_b, c, phi.kinks, phi.linear_between_kinks
        )
    squares = [mean_square_activation(phi, q) for q in (q_a, q_b)]
    return math.sqrt(squares[0]) * math.sqrt(squares[1]) * _far_kernel(phi, c)[0]


def _far_kernel(phi: Activation, c: float) -> tuple[float, float]:
    """Limit for large lengths of the map of `c` without bias, and of its slope.

    A bounded activation acts as a step from one limit to the other, others act as lines with a
    kink at 0; the slope of the former is infinite at ``|c| = 1``.
    """
    right, left = slopes_at_infinity(phi)
    if right or left:
        whole = _homogeneous_pair(right, left, 1.0)
        pair, slope = _homogeneous_pair(right, left, c), _homogeneous_slope_pair(right, left, c)
        return pair / whole, slope / whole
    high, low = phi.function(np.array([1e150, -1e150]))
    whole = 0.5 * float(high**2 + low**2)
    fall = 0.5 * float(high - low) ** 2 / math.pi
    sine = math.sqrt((1.0 - c) * (1.0 + c))
    return 1.0 - fall * math.acos(c) / whole, fall / (sine * whole) if sine else math.inf


def correlation_map(
    activation: ActivationLike,
    c: float,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    q_b: float | None = None,
) -> float:
    """Correlation of the next layer's pre-activations for two inputs.

    ``c' = q_ab' / sqrt(V(q_a) V(q_b))`` with `covariance_map` and `length_map`. At ``q = q*`` this
    is the C-map, whose fixed point at ``c = 1`` has the slope ``chi_1``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    c : float
        Correlation in this layer.
    q : float
        Mean square of this layer's pre-activations for the first input; at 0 the limit from above
        is returned.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_b : float, optional
        The same for the second input; default: `q`.

    Returns
    -------
    float
        Within [-1, 1].

    Raises
    ------
    ValueError
        As `covariance_map`; also if both variances are 0, for then there is no signal.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    q_b = q if q_b is None else q_b
    valid_correlation(c)
    v_a = length_map(phi, q, sigma_w2, sigma_b2)
    v_b = v_a if q_b == q else length_map(phi, q_b, sigma_w2, sigma_b2)
    if max(v_a, v_b) == math.inf:
        raise ValueError(f"the lengths {q} and {q_b} overflow in the next layer")
    return _mapped(phi, c, (q, q_b), (v_a, v_b), sigma_w2, sigma_b2)


def _mapped(
    phi: Activation,
    c: float,
    lengths: tuple[float, float],
    following: tuple[float, float],
    sigma_w2: float,
    sigma_b2: float,
) -> float:
    """Correlation in the next layer, where the lengths are `following`."""
    if min(following) > _UNDERFLOW:
        covariance = sigma_w2 * _mean_product(phi, *lengths, c) + sigma_b2
        v_a, v_b = following
        return min(max(covariance / (math.sqrt(v_a) * math.sqrt(v_b)), -1.0), 1.0)
    if sigma_w2 == 0.0:
        raise ValueError("with sigma_w2 = sigma_b2 = 0 there is no signal to correlate")
    # phi(0) = 0 and no bias: towards q = 0 any activation is homogeneous
    slopes = slopes_at_zero(phi)
    return _homogeneous_pair(*slopes, c) / mean_square_slope_at_zero(phi)


def correlation_map_slope(
    activation: ActivationLike, c: float, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """Differentiate the correlation map for two inputs of equal length.

    ``dc'/dc = sigma_w2 E[phi'(u_a) phi'(u_b)] q / V(q)``; the last factor is 1 at ``q*``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    c : float
        Correlation in this layer.
    q : float
        Mean square of this layer's pre-activations for both inputs; at 0 the limit from above is
        returned.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `correlation_map`.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi = activations.get(activation)
    valid_correlation(c)
    v = length_map(phi, q, sigma_w2, sigma_b2)
    if v == 0.0 and sigma_w2 == 0.0:
        raise ValueError("with sigma_w2 = sigma_b2 = 0 there is no signal to correlate")
    if v <= _UNDERFLOW:
        return _homogeneous_slope_pair(*slopes_at_zero(phi), c) / mean_square_slope_at_zero(phi)
    return sigma_w2 * _mean_slope_product(phi, q, c) * (q / v)


def _mean_slope_product(phi: Activation, q: float, c: float) -> float:
    """``E[phi'(u_a) phi'(u_b)]`` for two inputs of equal length."""
    if phi.homogeneous:
        return _homogeneous_slope_pair(*slopes_at_zero(phi), c)
    if phi.integrals:
        return phi.integrals.product(1, q, q, c)
    if c == 1.0:
        return chi_1(phi, q, 1.0)
    if q <= _LARGEST or c == -1.0:
        return pair_expectation(
            phi.derivative, phi.derivative, q, q, c, phi.kinks, phi.linear_between_kinks
        )
    return _far_kernel(phi, c)[1] * mean_square_activation(phi, q) / q


def correlation_trajectory(
    activation: ActivationLike,
    c_1: float,
    depth: int,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    q_a: float = 1.0,
    q_b: float | None = None,
) -> FloatArray:
    """Correlations of two inputs in layers 1 to `depth`, the lengths evolving along with them.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    c_1 : float
        Correlation of the pre-activations of layer 1.
    depth : int
        Number of layers, at least 1.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_a, q_b : float, optional
        Mean squares of layer 1's pre-activations for the two inputs; `q_b` defaults to `q_a`.

    Returns
    -------
    ndarray of float64, shape (depth,)
        ``c^1 ... c^depth``; NaN from the layer on where a length would overflow.

    Raises
    ------
    ValueError
        As `correlation_map`; also if `depth` is less than 1.

    Notes
    -----
    The first `_PLAIN` layers are mapped one by one. Later ones, where the correlation changes
    slowly, are interpolated between a few (`_leap`), to about 1e-11.
    """
    phi = activations.get(activation)
    valid_correlation(c_1)
    at_least(1, depth=depth)
    of_a = length_trajectory(phi, q_a, depth, sigma_w2, sigma_b2)
    of_b = of_a if q_b in (None, q_a) else length_trajectory(phi, q_b, depth, sigma_w2, sigma_b2)
    finite = np.isfinite(of_a) & np.isfinite(of_b)
    pairs = list(zip(of_a[finite].tolist(), of_b[finite].tolist(), strict=True))

    def step(layer: int, c: float) -> float:
        return _mapped(phi, c, pairs[layer], pairs[layer + 1], sigma_w2, sigma_b2)

    found, count = [c_1], _LEAP
    while len(found) < len(pairs):
        layer, rest = len(found) - 1, len(pairs) - len(found)
        leap = None
        if len(found) >= _PLAIN and rest >= _LEAP:
            leap = _leap(step, layer, found[-1] - found[-2], found[-1], min(count, rest))
        if leap is not None:
            found += leap
            count = min(2 * count, _LONGEST_LEAP)
            continue
        for number in range(layer, layer + min(_LEAP, rest)):
            found.append(step(number, found[-1]))
        count = _LEAP
    return np.array(found + [math.nan] * (depth - len(found)))


def _leap(
    step: Callable[[int, float], float], layer: int, gain: float, c: float, count: int
) -> list[float] | None:
    """Correlations of the next `count` layers from those of a few; None if they change too fast.

    What the correlation gains from layer to layer is a polynomial of the layer. It is determined by
    its values in Chebyshev points, which have to be those of the map at the correlations to
    which all gains add up (Newton's method with secants), and is compared with the map in between.

    Parameters
    ----------
    step
        From a layer and its correlation to that of the next layer.
    layer, gain, c
        The last layer that is known, what it gained over the one before, and its correlation.
    count
        How many layers are wanted, at least `_LEAP`.
    """
    nodes, sums = _quadrature(count)

    def gains_at(path: FloatArray) -> FloatArray:
        return np.array([step(layer + n, at) - at for n, at in zip(nodes, path, strict=True)])

    # To begin with, gains depend on the correlation alone, as between the last two layers.
    inner, first = sums[nodes], step(layer, c) - c
    path, found = np.full(_NODES, c), np.full(_NODES, first)
    slopes = np.full(_NODES, (first - gain) / gain if gain else 0.0)
    for _ in range(_ROUNDS):
        equations = np.eye(_NODES) - slopes[:, None] * inner
        gains = np.linalg.solve(equations, found - slopes * (path - c))
        following = np.clip(c + inner @ gains, -1.0, 1.0)
        after = gains_at(following)
        if np.abs(after - gains).max() <= _NOISE:
            break
        moved = following != path
        slopes[moved] = (after - found)[moved] / (following - path)[moved]
        path, found = following, after
    else:
        return None
    whole = np.clip(c + sums @ gains, -1.0, 1.0)
    between = [(n + m) // 2 for n, m in pairwise(nodes)][:: _NODES // 4]
    if any(abs(step(layer + n, whole[n]) - whole[n + 1]) > _NOISE for n in between):
        return None
    leap: list[float] = whole[1:].tolist()
    return leap


@functools.lru_cache(maxsize=16)
def _quadrature(count: int) -> tuple[list[int], FloatArray]:
    """Chebyshev points among `count` layers, and the sums of a polynomial from its values there.

    Returns
    -------
    nodes : list of int
    sums : ndarray
        Shape (count + 1, nodes): times the values, sums over the first 0, 1, ... `count` layers.
    """
    angles = np.linspace(0.0, math.pi, _NODES)
    nodes = np.rint(0.5 * (count - 1) * (1.0 - np.cos(angles))).astype(int)
    vandermonde = np.polynomial.chebyshev.chebvander(np.linspace(-1.0, 1.0, count), _NODES - 1)
    interpolation = np.linalg.solve(vandermonde[nodes].T, vandermonde.T).T
    sums = np.concatenate([np.zeros((1, _NODES)), np.cumsum(interpolation, axis=0)])
    return nodes.tolist(), sums


def correlation_fixed_point(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    q_start: float = 1.0,
    c_start: float = 0.5,
) -> float:
    """Correlation ``c*`` that any two inputs tend to.

    1 in the ordered phase; below 1 in the chaotic phase. The correlation map has a power series
    with non-negative coefficients, hence is convex on [0, 1]: the fixed point below 1 is unique.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_start : float, optional
        See `length_fixed_point`.
    c_start : float, optional
        Returned where the map leaves every correlation as it is: linear networks without bias,
        and networks whose signal dies out (``q* = 0``) where the activation is differentiable.

    Returns
    -------
    float
        ``c*``; 1 if lengths grow without bound, where activations are kinked lines, unless the
        line has no kink; 0 where they grow exponentially.

    Raises
    ------
    ValueError
        As `length_fixed_point`; also if both variances are 0.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi = activations.get(activation)
    valid_correlation(c_start)
    q = length_fixed_point(phi, sigma_w2, sigma_b2, q_start)
    return correlation_limit(phi, sigma_w2, sigma_b2, q, c_start)


def correlation_limit(
    phi: Activation, sigma_w2: float, sigma_b2: float, q: float, c_start: float
) -> float:
    """``c*`` for a known fixed point `q` of the length map."""
    if sigma_w2 == 0.0 and sigma_b2 == 0.0:
        raise ValueError("with sigma_w2 = sigma_b2 = 0 there is no signal to correlate")
    if phi.homogeneous or q == 0.0:
        return _homogeneous_limit(slopes_at_zero(phi), sigma_w2, sigma_b2, c_start)
    if math.isinf(q) and phi.integrals:
        return phi.integrals.far_correlation()
    if math.isinf(q):
        return _homogeneous_limit(slopes_at_infinity(phi), sigma_w2, sigma_b2, c_start)
    if chi_1(phi, q, sigma_w2) <= 1.0:
        return 1.0

    def excess(c: float) -> float:
        return correlation_map(phi, c, q, sigma_w2, sigma_b2) - c

    # convex, 0 at c = 1 with a positive slope, not negative at 0: below 0 in between
    if excess(0.0) <= _EPS:
        return 0.0
    low, distance = 0.0, 0.5
    while excess(1.0 - distance) >= 0.0:
        low, distance = 1.0 - distance, 0.5 * distance
        if distance < 1e-10:
            return 1.0
    return float(optimize.brentq(excess, low, 1.0 - distance, xtol=1e-14, rtol=1e-14))


def _homogeneous_limit(
    slopes: tuple[float, float], sigma_w2: float, sigma_b2: float, c_start: float
) -> float:
    """``c*`` where the activation acts as a (piecewise) linear function."""
    right, left = slopes
    if right != left:
        return 1.0  # angles shrink at a kink, with or without a bias, at any gain
    bias_matters = sigma_b2 > 0.0 and sigma_w2 * right**2 <= 1.0 + _EPS
    return 1.0 if bias_matters else c_start


def correlation_depth_scale(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Count the layers over which two inputs' correlation forgets where it started.

    ``xi_c = -1 / ln(sigma_w2 E[phi'(u_a) phi'(u_b)])`` at ``q*`` and ``c*``; ``-1 / ln chi_1`` in
    the ordered phase. Networks are trainable up to a small multiple of it; the factor of about 6
    that is often quoted depends on the training budget.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_start : float, optional
        See `length_fixed_point`.

    Returns
    -------
    float
        In layers; infinite if the correlation does not converge exponentially, as at criticality,
        for ReLU without bias, and where lengths grow without bound.

    Raises
    ------
    ValueError
        As `correlation_fixed_point`.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi = activations.get(activation)
    q = length_fixed_point(phi, sigma_w2, sigma_b2, q_start)
    c = correlation_limit(phi, sigma_w2, sigma_b2, q, 0.5)
    return correlation_scale(phi, sigma_w2, sigma_b2, q, c)


def correlation_scale(
    phi: Activation, sigma_w2: float, sigma_b2: float, q: float, c: float
) -> float:
    """``xi_c`` for known fixed points."""
    if q == 0.0 or math.isinf(q) or (phi.homogeneous and sigma_b2 == 0.0):
        return math.inf
    return depth_scale(
        chi_1(phi, q, sigma_w2)
        if c == 1.0
        else correlation_map_slope(phi, c, q, sigma_w2, sigma_b2)
    )
