"""The length map of mean-field theory, and how fast signals and gradients grow.

Pre-activations ``z^l = W^l phi(z^{l-1}) + b^l`` with ``W_ij ~ (0, sigma_w2 / fan_in)`` and
``b_i ~ (0, sigma_b2)`` become Gaussian as the width grows. Their mean square ``q^l`` (length)
follows a deterministic map, and back-propagated signals grow by ``chi_1`` a layer.

Sources: Poole et al. 2016 (NeurIPS, arXiv:1606.05340) for the map; Schoenholz et al. 2017 (ICLR,
arXiv:1611.01232) for the depth scale and the gradients. Every function takes an `Activation` or
its name. Lengths are mean squares of pre-activations, dimensionless; depth scales are in layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize

from gradprop.components import activations
from gradprop.components.activations import Activation
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

DIVERGED = 1e12  # a length beyond which its map is taken to have no fixed point
_VANISHED = 1e-10  # a length below which a map with V(0) = 0, V'(0) <= 1 is taken to end at 0
_EPS = 1e-14


def check_sigmas(sigma_w2: float, sigma_b2: float = 0.0) -> None:
    if not 0.0 <= sigma_w2 < math.inf or not 0.0 <= sigma_b2 < math.inf:
        raise ValueError(
            f"sigma_w2 and sigma_b2 must be finite and not negative, got {sigma_w2} and {sigma_b2}"
        )


def slopes_at_zero(activation: Activation) -> tuple[float, float]:
    """Right and left slope at 0."""
    right, left = activation.derivative(np.array([1e-200, -1e-200]))
    return float(right), float(left)


def mean_square_slope_at_zero(activation: Activation) -> float:
    """``lim E[phi'(u)**2]`` as the variance of ``u`` tends to 0; for homogeneous ``phi``, always.

    1 for linear, 1/2 for ReLU (He et al. 2015), ``(1 + a**2) / 2`` for leaky ReLU of slope ``a``.
    """
    right, left = slopes_at_zero(activation)
    return 0.5 * (right**2 + left**2)


# --------------------------------------------------------------------------------- length map


def length_map(
    activation: Activation | str, q: float, sigma_w2: float, sigma_b2: float = 0.0
) -> float:
    """Mean square of the pre-activations of the next layer.

    ``V(q) = sigma_w2 E[phi(sqrt(q) z)**2] + sigma_b2``, ``z ~ N(0, 1)``.

    Parameters
    ----------
    activation : Activation or str
        The activation function.
    q : float
        Mean square of the pre-activations of this layer.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    check_sigmas(sigma_w2, sigma_b2)
    if phi.homogeneous and 0.0 <= q < math.inf:
        # exact, also where squares of single values would underflow
        mean_square = mean_square_slope_at_zero(phi) * q
    else:
        mean_square = expectation(lambda u: phi.function(u) ** 2, q, phi.kinks)
    return sigma_w2 * mean_square + sigma_b2


def length_map_slope(activation: Activation | str, q: float, sigma_w2: float) -> float:
    """Differentiate the length map.

    ``V'(q) = sigma_w2 E[phi(u) phi'(u) u] / q = chi_1 + sigma_w2 E[phi''(u) phi(u)]`` with
    ``u ~ N(0, q)`` (the second form by partial integration, with point masses of ``phi''``
    included).

    Parameters
    ----------
    activation : Activation or str
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
    check_sigmas(sigma_w2)
    if phi.homogeneous:
        return sigma_w2 * mean_square_slope_at_zero(phi)
    if q == 0.0:
        return sigma_w2 * expectation(
            lambda u: phi.derivative(u) ** 2 + phi.function(u) * phi.second_derivative(u), 0.0
        )
    product = expectation(lambda u: phi.function(u) * phi.derivative(u) * u, q, phi.kinks)
    return sigma_w2 * product / q


def length_trajectory(
    activation: Activation | str, q_1: float, depth: int, sigma_w2: float, sigma_b2: float = 0.0
) -> FloatArray:
    """Lengths of layers 1 to `depth` under the length map.

    Parameters
    ----------
    activation : Activation or str
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
        ``q^1 ... q^depth``.

    Raises
    ------
    ValueError
        If `depth` is less than 1, an argument is negative, infinite or NaN, or the activation is
        unknown.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    lengths = np.empty(depth)
    lengths[0] = q_1
    for layer in range(1, depth):
        lengths[layer] = length_map(activation, float(lengths[layer - 1]), sigma_w2, sigma_b2)
    return lengths


def length_fixed_point(
    activation: Activation | str, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Length that the length map tends to: ``q* = V(q*)``.

    Parameters
    ----------
    activation : Activation or str
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
    check_sigmas(sigma_w2, sigma_b2)
    if phi.homogeneous:
        return _homogeneous_fixed_point(phi, sigma_w2, sigma_b2, q_start)
    dies_at_zero = (
        length_map(phi, 0.0, sigma_w2, sigma_b2) == 0.0
        and length_map_slope(phi, 0.0, sigma_w2) <= 1.0 + _EPS
    )
    return _monotone_fixed_point(
        lambda q: length_map(phi, q, sigma_w2, sigma_b2), q_start, dies_at_zero
    )


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


def _monotone_fixed_point(v: Callable[[float], float], q_start: float, dies_at_zero: bool) -> float:
    """Limit of ``q -> v(q)`` for an increasing `v`.

    The plain iteration never passes a fixed point but takes for ever near a critical one. So two
    plain steps are extrapolated (Aitken); if that jumps over the fixed point, it is bracketed.
    """
    q = q_start
    for _ in range(1000):
        first = v(q)
        if abs(first - q) <= _EPS * first:
            return first
        second = v(first)
        if second > DIVERGED:
            return math.inf
        if dies_at_zero and second < _VANISHED:
            return 0.0
        candidate = _extrapolate(q, first, second)
        if (v(candidate) - candidate) * (first - q) < 0.0:
            low, high = sorted((second, candidate))
            if (v(second) - second) * (v(candidate) - candidate) >= 0.0:
                return second  # the plain steps have already arrived, up to rounding
            return float(optimize.brentq(lambda x: v(x) - x, low, high, xtol=1e-300, rtol=1e-14))
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
    activation: Activation | str, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> float:
    """Count the layers over which the length forgets where it started.

    ``xi_q = -1 / ln V'(q*)``.

    Parameters
    ----------
    activation : Activation or str
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


def chi_1(activation: Activation | str, q: float, sigma_w2: float) -> float:
    """Factor by which the mean square of the back-propagated signal changes in a layer.

    ``chi_1 = sigma_w2 E[phi'(sqrt(q) z)**2]``; at the fixed point ``q*`` also the slope of the
    correlation map at ``c = 1``. Below 1: ordered phase, vanishing gradients; above 1: chaotic
    phase, exploding gradients. For ReLU it is ``sigma_w2 / 2`` at every ``q``.

    Parameters
    ----------
    activation : Activation or str
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
    check_sigmas(sigma_w2)
    if math.isnan(q) or q < 0.0:
        raise ValueError(f"q must not be negative, got {q}")
    if phi.homogeneous:
        return sigma_w2 * mean_square_slope_at_zero(phi)
    if math.isinf(q):
        return sigma_w2 * float(np.mean(phi.derivative([-1e150, 1e150]) ** 2))
    return sigma_w2 * expectation(lambda u: phi.derivative(u) ** 2, q, phi.kinks)


def chi_2(activation: Activation | str, q: float, sigma_w2: float) -> float:
    """Curvature susceptibility ``chi_2 = sigma_w2 E[phi''(sqrt(q) z)**2]``.

    Parameters
    ----------
    activation : Activation or str
        The activation function.
    q : float
        Mean square of the pre-activations.
    sigma_w2 : float
        Weight variance times fan-in.

    Returns
    -------
    float
        Infinite where ``phi'`` jumps (ReLU, leaky ReLU, SELU): ``phi''`` then has a point mass.

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340.
    """
    phi = activations.get(activation)
    check_sigmas(sigma_w2)
    if sigma_w2 > 0.0 and slope_jumps(phi):
        return math.inf
    return sigma_w2 * expectation(lambda u: phi.second_derivative(u) ** 2, q, phi.kinks)


def slope_jumps(phi: Activation) -> bool:
    """Whether ``phi'`` is discontinuous at one of the kinks."""
    kinks = np.asarray(phi.kinks, dtype=np.float64)
    offset = 1e-9 * (1.0 + np.abs(kinks))
    jumps = np.abs(phi.derivative(kinks + offset) - phi.derivative(kinks - offset))
    return bool(np.any(jumps > 1e-6))
