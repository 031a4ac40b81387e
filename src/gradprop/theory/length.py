"""The length map of mean-field theory, and how fast signals and gradients grow.

Pre-activations ``z^l = W^l phi(z^{l-1}) + b^l`` with ``W_ij ~ (0, sigma_w2 / fan_in)`` and
``b_i ~ (0, sigma_b2)`` become Gaussian as the width grows. Their mean square ``q^l`` (length)
follows a deterministic map, and back-propagated signals grow by ``chi_1`` a layer.

Sources: Poole et al. 2016 (NeurIPS, arXiv:1606.05340) for the map; Schoenholz et al. 2017 (ICLR,
arXiv:1611.01232) for the depth scale and the gradients. Every function takes an `Activation` or
its name. Lengths are mean squares of pre-activations, dimensionless; depth scales are in layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import at_least, not_negative
from gradprop.theory.gaussian import expectation

__all__ = [
    "chi_1",
    "chi_2",
    "length_depth_scale",
    "length_fixed_point",
    "length_map",
    "length_map_slope",
    "length_trajectory",
]

FloatArray = npt.NDArray[np.float64]
State = TypeVar("State", bound=Hashable)

HUGE = 1e300  # a length beyond which nothing is computed any more
_STRIDE = 1.1  # exponent by which lengths beyond _FAR grow in a search
_FAR = 1e12  # a length beyond which V(q) - q is computed without cancellation
_ENDLESS = 1e40  # a length beyond which a mean square is that of the limit of phi to all digits
_VANISHED = 1e-10  # a length below which a map with V(0) = 0, V'(0) <= 1 is taken to end at 0
_FLAT = 1e-100  # a slope below which an activation has come to its limit
_EPS = 1e-14


def slopes_at_zero(activation: Activation) -> tuple[float, float]:
    """Right and left slope at 0."""
    right, left = activation.derivative(np.array([1e-200, -1e-200]))
    return float(right), float(left)


def slopes_at_infinity(activation: Activation) -> tuple[float, float]:
    """Slope far to the right and far to the left; 0 where there is no line to tend to."""
    if activation.integrals:
        return 0.0, 0.0
    right, left = activation.derivative(np.array([1e150, -1e150]))
    return float(right) if abs(right) > _FLAT else 0.0, float(left) if abs(left) > _FLAT else 0.0


def mean_square_slope_at_zero(activation: Activation) -> float:
    """``lim E[phi'(u)**2]`` as the variance of ``u`` tends to 0; for homogeneous ``phi``, always.

    1 for linear, 1/2 for ReLU (He et al. 2015), ``(1 + a**2) / 2`` for leaky ReLU of slope ``a``.
    """
    return _mean_square(slopes_at_zero(activation))


def mean_square_slope_at_infinity(activation: Activation) -> float:
    """``lim E[phi'(u)**2]`` as the variance of ``u`` grows: 0 for bounded ``phi``."""
    return _mean_square(slopes_at_infinity(activation))


def _mean_square(slopes: tuple[float, float]) -> float:
    return 0.5 * (slopes[0] ** 2 + slopes[1] ** 2)


def square_beyond_limit(phi: Activation, q: float) -> float:
    """``E[phi(u)**2] - E[a(u)**2]``, ``u ~ N(0, q)``, with what ``phi`` tends to far from 0.

    ``a(u)`` is ``u`` times the slope at infinity of its side. The difference is taken before the
    expectation, so that it keeps its digits where it is far smaller than both.
    """
    if phi.integrals:
        return phi.integrals.moment(0, 2, q)
    right, left = slopes_at_infinity(phi)

    def difference(u: FloatArray) -> FloatArray:
        return phi.function(u) ** 2 - (np.where(u > 0.0, right, left) * u) ** 2

    return expectation(difference, q, phi.kinks)


def slope_beyond_limit(phi: Activation, q: float) -> float:
    """``E[phi'(u)**2] - E[a'(u)**2]`` for ``u ~ N(0, q)``, see `square_beyond_limit`."""
    if phi.integrals:
        return phi.integrals.moment(1, 2, q)
    right, left = slopes_at_infinity(phi)

    def difference(u: FloatArray) -> FloatArray:
        return phi.derivative(u) ** 2 - np.where(u > 0.0, right, left) ** 2

    return expectation(difference, q, phi.kinks)


# --------------------------------------------------------------------------------- length map


def length_map(
    activation: ActivationLike, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """Mean square of the pre-activations of the next layer.

    ``V(q) = sigma_w2 E[phi(sqrt(q) z)**2] + sigma_b2``, ``z ~ N(0, 1)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations of this layer.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.

    Returns
    -------
    float
        Infinite where it would overflow.

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    not_negative(q=q, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    return sigma_w2 * mean_square_activation(phi, q) + sigma_b2


def mean_square_activation(phi: Activation, q: float) -> float:
    """``E[phi(u)**2]`` for ``u ~ N(0, q)``."""
    if phi.homogeneous:
        # exact, also where squares of single values would underflow
        return mean_square_slope_at_zero(phi) * q
    if phi.integrals:
        return phi.integrals.moment(0, 2, q)
    if q > _ENDLESS and any(slopes_at_infinity(phi)):
        return mean_square_slope_at_infinity(phi) * q  # also where squares would overflow
    return expectation(lambda u: phi.function(u) ** 2, min(q, _ENDLESS), phi.kinks)


def length_map_slope(activation: ActivationLike, q: float, sigma_w2: float) -> float:
    """Differentiate the length map.

    ``V'(q) = sigma_w2 E[phi(u) phi'(u) u] / q = chi_1 + sigma_w2 E[phi''(u) phi(u)]`` with
    ``u ~ N(0, q)`` (the second form by partial integration, with point masses of ``phi''``
    included). The first is taken for large lengths and the second for small ones, since both
    cancel at the other end.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations; at 0 the limit from above is returned.
    sigma_w2 : float
        Weight variance times fan-in.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232 (the second form).
    """
    phi = activations.get(activation)
    not_negative(q=q, sigma_w2=sigma_w2)
    if phi.homogeneous:
        return sigma_w2 * mean_square_slope_at_zero(phi)
    if phi.integrals:
        return sigma_w2 * phi.integrals.square_slope(q)
    if q < 1.0:
        smooth = expectation(
            lambda u: phi.derivative(u) ** 2 + phi.function(u) * phi.second_derivative(u),
            q,
            phi.kinks,
        )
        return sigma_w2 * (smooth + _point_masses(phi, q))
    # phi(u) u / q does not overflow
    scaled = expectation(lambda u: (phi.function(u) / q) * u * phi.derivative(u), q, phi.kinks)
    return sigma_w2 * scaled


def _point_masses(phi: Activation, q: float) -> float:
    """Return the part of ``E[phi''(u) phi(u)]`` that is due to jumps of ``phi'``."""
    kinks = np.asarray(phi.kinks, dtype=np.float64)
    weighted = phi.function(kinks) * _jumps(phi)
    if q == 0.0 or not np.any(weighted):
        return 0.0
    return float(weighted @ np.exp(-0.5 * kinks**2 / q)) / math.sqrt(2.0 * math.pi * q)


def length_trajectory(
    activation: ActivationLike, q_1: float, depth: int, sigma_w2: float, sigma_b2: float = 0.0
) -> FloatArray:
    """Lengths of layers 1 to `depth` under the length map.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q_1 : float
        Mean square of the pre-activations of layer 1.
    depth : int
        Number of layers, at least 1.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.

    Returns
    -------
    ndarray of float64, shape (depth,)
        ``q^1 ... q^depth``; infinite from the layer on where it would overflow.

    Raises
    ------
    ValueError
        If `depth` is less than 1, an argument is negative, infinite or NaN, or the activation is
        unknown.
    """
    phi = activations.get(activation)
    at_least(1, depth=depth)
    not_negative(q_1=q_1, sigma_w2=sigma_w2, sigma_b2=sigma_b2)

    def following(q: float) -> float:
        if math.isinf(q):
            return q
        return sigma_w2 * mean_square_activation(phi, q) + sigma_b2

    return np.array(iterate(following, q_1, depth), dtype=np.float64)


def iterate(step: Callable[[State], State], start: State, count: int) -> list[State]:
    """Return `start` and what `step` makes of it again and again, `count` states in all.

    A state that was there before, as happens next to a fixed point, repeats all that came after it.
    """
    states, seen = [start], {start: 0}
    while len(states) < count:
        state = step(states[-1])
        if state in seen:
            cycle = itertools.cycle(states[seen[state] :])
            states += itertools.islice(cycle, count - len(states))
        else:
            seen[state] = len(states)
            states.append(state)
    return states


def length_fixed_point(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Length that the length map tends to: ``q* = V(q*)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_start : float, optional
        Where the iteration starts. It matters if there are several fixed points, as for a
        critical homogeneous activation, for which every length is one.

    Returns
    -------
    float
        ``q*``; 0 if the signal dies out (also by a power law, as for tanh at ``sigma_w2 = 1``,
        ``sigma_b2 = 0``), infinity if it grows without bound.

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.
    ArithmeticError
        If the search does not settle, which no activation of this package is known to cause.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    not_negative(sigma_w2=sigma_w2, sigma_b2=sigma_b2, q_start=q_start)
    if phi.homogeneous:
        return _homogeneous_fixed_point(phi, sigma_w2, sigma_b2, q_start)
    dies_at_zero = (
        length_map(phi, 0.0, sigma_w2, sigma_b2) == 0.0
        and length_map_slope(phi, 0.0, sigma_w2) <= 1.0 + _EPS
    )
    beyond = sigma_w2 * mean_square_slope_at_infinity(phi) - 1.0

    def excess(q: float) -> float:
        return beyond * q + sigma_w2 * square_beyond_limit(phi, q) + sigma_b2

    start = _far_fixed_point(excess, q_start)
    if start > _FAR:
        return start
    return _monotone_fixed_point(
        lambda q: length_map(phi, q, sigma_w2, sigma_b2), excess, start, dies_at_zero
    )


def _far_fixed_point(excess: Callable[[float], float], q: float) -> float:
    """Limit from a length `q` on if it is beyond `_FAR`, else what is left to be searched from.

    `excess` is ``V(q) - q``. Beyond `_FAR` activations are nearly lines, and it is quadratic in
    ``sqrt(q)``: two fixed points would have to be rather near each other to fall into one stride.
    """
    if q <= _FAR:
        return q
    q = min(q, HUGE)
    rising = excess(q) > 0.0
    while q > _FAR and not (rising and q >= HUGE):
        other = min(q, HUGE ** (1.0 / _STRIDE)) ** _STRIDE if rising else q ** (1.0 / _STRIDE)
        if (excess(other) > 0.0) != rising:
            low, high = sorted((q, other))
            return float(scipy.optimize.brentq(excess, low, high, xtol=1e-300, rtol=1e-14))
        q = other
    return math.inf if rising else q


def _homogeneous_fixed_point(
    phi: Activation, sigma_w2: float, sigma_b2: float, q_start: float
) -> float:
    """Solve the affine map ``q -> slope q + sigma_b2``."""
    slope = sigma_w2 * mean_square_slope_at_zero(phi)
    if abs(slope - 1.0) <= _EPS:
        return q_start if sigma_b2 == 0.0 else math.inf
    if slope > 1.0:
        return math.inf if max(sigma_b2, q_start) > 0.0 else 0.0
    return sigma_b2 / (1.0 - slope)


def _monotone_fixed_point(
    v: Callable[[float], float], excess: Callable[[float], float], q_start: float, dies: bool
) -> float:
    """Limit of ``q -> v(q)`` for an increasing `v`.

    The plain iteration never passes a fixed point but takes for ever near a critical one. So two
    plain steps are extrapolated (Aitken); if that jumps over the fixed point, it is bracketed.
    """
    q = q_start
    for _ in range(1000):
        first = v(q)
        if math.isinf(first):
            return first
        if abs(first - q) <= _EPS * first:
            creeps = excess(first) > 0.01 * abs(excess(0.25 * first))  # on, by less than a digit
            return _far_fixed_point(excess, 2.0 * _FAR) if creeps else first
        second = v(first)
        if second > _FAR:
            return _far_fixed_point(excess, second)
        if dies and second < _VANISHED:
            return 0.0
        candidate = _extrapolate(q, first, second)
        if (v(candidate) - candidate) * (first - q) < 0.0:
            low, high = sorted((second, candidate))
            if (v(second) - second) * (v(candidate) - candidate) >= 0.0:
                return second  # the plain steps have already arrived, up to rounding
            return float(
                scipy.optimize.brentq(lambda x: v(x) - x, low, high, xtol=1e-300, rtol=1e-14)
            )
        q = candidate
    raise ArithmeticError(f"the length map does not settle, last length {q}")


def _extrapolate(q: float, first: float, second: float) -> float:
    """Aitken's estimate of the limit, kept within a factor of 2 of the last plain step.

    Where the steps do not shrink there is no estimate, and the length moves on by a tenth.
    """
    step, ratio = second - first, (second - first) / (first - q)
    if 0.0 <= ratio < 1.0:
        limit = second + step * ratio / (1.0 - ratio)
        return min(max(limit, 0.5 * second), 2.0 * second)
    return second * (1.1 if step > 0.0 else 1.0 / 1.1)


def length_depth_scale(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Count the layers over which the length forgets where it started.

    ``xi_q = -1 / ln V'(q*)``.

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
        In layers; infinite if the length does not converge exponentially.

    Raises
    ------
    ValueError
        As `length_fixed_point`.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    q = length_fixed_point(activation, sigma_w2, sigma_b2, q_start)
    return math.inf if math.isinf(q) else depth_scale(length_map_slope(activation, q, sigma_w2))


def depth_scale(slope: float) -> float:
    """Depth scale of a perturbation that is multiplied by `slope` in each layer."""
    if slope == 0.0:
        return 0.0
    return math.inf if abs(slope) >= 1.0 - _EPS else -1.0 / math.log(abs(slope))


# ------------------------------------------------------------------------------------ gradients


def chi_1(activation: ActivationLike, q: float, sigma_w2: float) -> float:
    """Factor by which the mean square of the back-propagated signal changes in a layer.

    ``chi_1 = sigma_w2 E[phi'(sqrt(q) z)**2]``; at the fixed point ``q*`` also the slope of the
    correlation map at ``c = 1``. Below 1: ordered phase, vanishing gradients; above 1: chaotic
    phase, exploding gradients. For ReLU it is ``sigma_w2 / 2`` at every ``q``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations; may be 0 or infinite, meaning the limit.
    sigma_w2 : float
        Weight variance times fan-in.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is negative or NaN, or the activation is unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi = activations.get(activation)
    not_negative(sigma_w2=sigma_w2)
    _check_limit(q)
    return sigma_w2 * mean_square_slope(phi, q)


def mean_square_slope(phi: Activation, q: float) -> float:
    """``E[phi'(u)**2]`` for ``u ~ N(0, q)``."""
    if phi.homogeneous:
        return mean_square_slope_at_zero(phi)
    if phi.integrals:
        at_infinity = phi.integrals.far_slope_square
        return at_infinity() if math.isinf(q) else phi.integrals.moment(1, 2, q)
    if math.isinf(q) or (q > _ENDLESS and any(slopes_at_infinity(phi))):
        return mean_square_slope_at_infinity(phi)
    return expectation(lambda u: phi.derivative(u) ** 2, q, phi.kinks)


def chi_2(activation: ActivationLike, q: float, sigma_w2: float) -> float:
    """Curvature susceptibility ``chi_2 = sigma_w2 E[phi''(sqrt(q) z)**2]``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations; may be 0 or infinite, meaning the limit.
    sigma_w2 : float
        Weight variance times fan-in.

    Returns
    -------
    float
        Infinite where ``phi'`` jumps (ReLU, leaky ReLU, SELU): ``phi''`` then has a point mass.

    Raises
    ------
    ValueError
        If an argument is negative or NaN, or the activation is unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    not_negative(sigma_w2=sigma_w2)
    _check_limit(q)
    if sigma_w2 > 0.0 and np.any(_jumps(phi)):
        return math.inf
    if phi.integrals:
        return sigma_w2 * phi.integrals.moment(2, 2, q)
    if math.isinf(q):
        return sigma_w2 * float(np.mean(phi.second_derivative([-1e150, 1e150]) ** 2))
    # far out phi bends no more: the density at 0 is all that changes, like 1 / sqrt(q)
    near = min(q, _ENDLESS)
    bend = expectation(lambda u: phi.second_derivative(u) ** 2, near, phi.kinks)
    return sigma_w2 * bend * (math.sqrt(near / q) if q > near else 1.0)


def _check_limit(q: float) -> None:
    if not q >= 0.0:
        raise ValueError(f"q must not be negative, got {q}")


def _jumps(phi: Activation) -> FloatArray:
    """Return by how much ``phi'`` jumps at each of the kinks."""
    kinks = np.asarray(phi.kinks, dtype=np.float64)
    offset = 1e-9 * (1.0 + np.abs(kinks))
    jumps = phi.derivative(kinks + offset) - phi.derivative(kinks - offset)
    return np.where(np.abs(jumps) > 1e-6, jumps, 0.0)
