"""Mean-field theory of dropout: two inputs, even equal ones, are not mapped alike.

After each hidden activation a unit is kept with probability ``1 - p`` and then divided by it, so
that ``h = phi(z) m / (1 - p)`` has the mean of ``phi(z)``. With masks ``m`` that are drawn for each
example, ``E[m^2] / (1 - p)^2 = 1 / (1 - p)``, but ``E[m_a m_b] / (1 - p)^2 = 1``:

    ``V(q) = sigma_w2 E[phi(u)^2] / (1 - p) + sigma_b2``
    ``c' = (sigma_w2 E[phi(u_a) phi(u_b)] + sigma_b2) / V(q)``

Lengths and back-propagated signals are those of a network without dropout whose weight variance is
divided by ``1 - p``. Correlations are not: ``c = 1`` is mapped below 1, so that there is no
ordered phase, no critical point, and no depth scale ``xi_c`` without bound.

Conventions as in `gradprop.theory`; ``rate`` is ``p``, 0 to below 1.

References
----------
Schoenholz et al. 2017 (ICLR, arXiv:1611.01232), section on dropout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy

from gradprop.components import activations
from gradprop.components.activations import ActivationLike
from gradprop.theory.arguments import not_negative, valid_correlation
from gradprop.theory.correlation import correlation_map, correlation_map_slope, covariance_map
from gradprop.theory.length import chi_1, depth_scale, length_fixed_point, length_map

__all__ = ["DropoutState", "dropout_correlation_map", "dropout_state"]

_FAR = 1e100  # stands for a length that grows without bound


@dataclass(frozen=True)
class DropoutState:
    """Fixed points and depth scale with dropout.

    Attributes
    ----------
    q_star : float
        Fixed point of the length map; 0 or infinite as that of `length_fixed_point`.
    chi_1 : float
        Growth of the mean square of the back-propagated signal per layer at ``q_star``:
        ``sigma_w2 E[phi'(u)^2] / (1 - p)``.
    c_star : float
        Correlation that any two inputs tend to; below 1 at every rate above 0.
    xi_c : float
        Depth scale of the correlation, ``-1 / ln(dc' / dc)`` at ``c_star``, in layers.
    """

    q_star: float
    chi_1: float
    c_star: float
    xi_c: float


def dropout_correlation_map(
    activation: ActivationLike,
    c: float,
    q: float,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    rate: float = 0.0,
) -> float:
    """Correlation of the next layer's pre-activations for two inputs of equal length.

    ``c' = (sigma_w2 E[phi(u_a) phi(u_b)] + sigma_b2) / (sigma_w2 E[phi(u)^2] / (1 - p) +
    sigma_b2)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    c : float
        Correlation in this layer.
    q : float
        Mean square of this layer's pre-activations for both inputs; at 0 the limit from above.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    rate : float, optional
        Share ``p`` of the units that are dropped.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `correlation_map`; also if `rate` is not in [0, 1).

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi, kept = activations.get(activation), _kept(rate)
    valid_correlation(c)
    if sigma_b2 == 0.0:  # also where lengths have underflowed
        return kept * correlation_map(phi, c, q, sigma_w2)
    after = length_map(phi, q, sigma_w2 / kept, sigma_b2)
    return covariance_map(phi, q, q, c, sigma_w2, sigma_b2) / after


def dropout_state(
    activation: ActivationLike,
    sigma_w2: float,
    sigma_b2: float = 0.0,
    rate: float = 0.0,
    q_start: float = 1.0,
) -> DropoutState:
    """Evaluate fixed points, ``chi_1`` and the depth scale of the correlation.

    The map of correlations has a power series with non-negative coefficients, hence is convex on
    [0, 1]; it is not negative at 0 and below 1 at 1, so that it has one fixed point, with a slope
    below 1.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance; the former is positive.
    rate : float
        Share ``p`` of the units that are dropped, above 0 (without dropout: `mean_field_state`).
    q_start : float, optional
        See `length_fixed_point`.

    Returns
    -------
    DropoutState

    Raises
    ------
    ValueError
        As `length_fixed_point`; also if `rate` is not in (0, 1) or `sigma_w2` is 0.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi, kept = activations.get(activation), _kept(rate)
    not_negative(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    if rate == 0.0 or sigma_w2 == 0.0:
        raise ValueError(f"rate and sigma_w2 must be positive, got {rate} and {sigma_w2}")
    q = length_fixed_point(phi, sigma_w2 / kept, sigma_b2, q_start)
    growth = chi_1(phi, q, sigma_w2 / kept)
    if math.isinf(q) and phi.integrals:
        return DropoutState(q, growth, 0.0, math.inf)

    # beside endless lengths biases are nothing
    length, biases = (q, sigma_b2) if math.isfinite(q) else (_FAR, 0.0)

    def excess(c: float) -> float:
        return dropout_correlation_map(phi, c, length, sigma_w2, biases, rate) - c

    c = float(scipy.optimize.brentq(excess, 0.0, 1.0, xtol=1e-15)) if excess(0.0) > 0.0 else 0.0
    # dc'/dc = sigma_w2 E[phi'(u_a) phi'(u_b)] q / V(q), of which V alone knows of dropout
    slope = correlation_map_slope(phi, c, length, sigma_w2, biases)
    if biases == 0.0:
        slope *= kept
    else:
        slope *= length_map(phi, length, sigma_w2, biases)
        slope /= length_map(phi, length, sigma_w2 / kept, biases)
    return DropoutState(q, growth, c, depth_scale(slope))


def _kept(rate: float) -> float:
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be at least 0 and less than 1, got {rate}")
    return 1.0 - rate
