"""Mean-field theory in summary: phases, and the edge of chaos between them.

`gradprop.theory.length` and `gradprop.theory.correlation` have the maps and their conventions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import not_negative
from gradprop.theory.correlation import correlation_limit, correlation_scale
from gradprop.theory.length import (
    HUGE,
    chi_1,
    depth_scale,
    length_fixed_point,
    length_map_slope,
    mean_square_slope_at_infinity,
    mean_square_slope_at_zero,
    slope_beyond_limit,
    square_beyond_limit,
)

__all__ = ["CriticalPoint", "MeanField", "critical_line", "critical_point", "mean_field_state"]

FloatArray = npt.NDArray[np.float64]
Phase = Literal["ordered", "critical", "chaotic"]

_CRITICAL = 1e-9  # |chi_1 - 1| up to which a phase is called critical


@dataclass(frozen=True)
class MeanField:
    """What mean-field theory says of an activation with given weight and bias variances.

    Attributes
    ----------
    activation : str
        Name of the activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_star : float
        Fixed point of the length map, see `length_fixed_point`.
    chi_1 : float
        Growth of the mean square of the back-propagated signal per layer at ``q_star``.
    c_star : float
        Fixed point of the correlation map, see `correlation_fixed_point`; where the map keeps
        every correlation there is none to tell, and this is 0.5, from which it starts.
    xi_q, xi_c : float
        Depth scales of length and correlation, in layers.
    phase : {'ordered', 'critical', 'chaotic'}
        Whether ``chi_1`` is below, at or above 1.
    """

    activation: str
    sigma_w2: float
    sigma_b2: float
    q_star: float
    chi_1: float
    c_star: float
    xi_q: float
    xi_c: float
    phase: Phase

    @property
    def xi_gradient(self) -> float:
        """``-1 / ln chi_1`` in layers: positive for vanishing, negative for exploding gradients."""
        if self.phase == "critical":
            return math.inf
        return -1.0 / math.log(self.chi_1) if self.chi_1 > 0.0 else 0.0

    @property
    def decades_per_layer(self) -> float:
        """Change of log10 of the RMS back-propagated signal per layer towards the input."""
        return 0.5 * math.log10(self.chi_1) if self.chi_1 > 0.0 else -math.inf


def mean_field_state(
    activation: ActivationLike, sigma_w2: float, sigma_b2: float = 0.0, q_start: float = 1.0
) -> MeanField:
    """Evaluate fixed points, ``chi_1``, depth scales and phase in one go.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance; not both 0.
    q_start : float, optional
        See `length_fixed_point`.

    Returns
    -------
    MeanField

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
    chi = chi_1(phi, q, sigma_w2)
    c = correlation_limit(phi, sigma_w2, sigma_b2, q, 0.5)
    return MeanField(
        activation=phi.name,
        sigma_w2=sigma_w2,
        sigma_b2=sigma_b2,
        q_star=q,
        chi_1=chi,
        c_star=c,
        xi_q=math.inf if math.isinf(q) else depth_scale(length_map_slope(phi, q, sigma_w2)),
        xi_c=correlation_scale(phi, sigma_w2, sigma_b2, q, c),
        phase=_phase(chi),
    )


def _phase(chi: float) -> Phase:
    if abs(chi - 1.0) <= _CRITICAL:
        return "critical"
    return "ordered" if chi < 1.0 else "chaotic"


# ---------------------------------------------------------------------------------- criticality


@dataclass(frozen=True)
class CriticalPoint:
    """A point of the critical line ``chi_1 = 1`` (edge of chaos).

    Attributes
    ----------
    sigma_w2, sigma_b2 : float
        Weight variance times fan-in, and bias variance.
    q_star : float
        The length at which ``chi_1 = 1``; a fixed point of the length map.
    """

    sigma_w2: float
    sigma_b2: float
    q_star: float


def critical_point(activation: ActivationLike, sigma_b2: float = 0.0) -> CriticalPoint:
    """Weight variance at which ``chi_1 = 1`` for a given bias variance.

    At a fixed point ``q`` criticality means ``sigma_w2 = 1 / E[phi'(u)**2]``, hence
    ``sigma_b2 = q - E[phi(u)**2] / E[phi'(u)**2]``, ``u ~ N(0, q)``, which is solved for ``q``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_b2 : float, optional
        Bias variance.

    Returns
    -------
    CriticalPoint
        For a homogeneous activation, which is critical at every length, with ``q_star = 1``. The
        fixed point need not be stable: for GELU and swish at small `sigma_b2` it is not
        (``length_map_slope`` exceeds 1).

    Raises
    ------
    ValueError
        If no weight variance is critical (homogeneous activations with a bias), if `sigma_b2` is
        negative, infinite or NaN, or if the activation is unknown.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232; for GELU and swish Roberts, Yaida & Hanin 2022, "The
    Principles of Deep Learning Theory", arXiv:2106.10165.
    """
    phi = activations.get(activation)
    not_negative(sigma_b2=sigma_b2)
    if sigma_b2 == 0.0 and float(phi.function(0.0)) == 0.0:
        # towards q = 0 the activation is homogeneous
        sigma_w2 = 1.0 / mean_square_slope_at_zero(phi)
        return CriticalPoint(sigma_w2, 0.0, 1.0 if phi.homogeneous else 0.0)
    if phi.homogeneous:
        raise ValueError(f"{phi.name} is critical only without bias, got sigma_b2 = {sigma_b2}")

    def excess(q: float) -> float:
        return _critical_bias(phi, q) - sigma_b2

    high = max(1.0, sigma_b2)
    while excess(high) < 0.0:
        high *= 4.0
        if high > HUGE:
            raise ValueError(f"{phi.name} has no critical point with sigma_b2 = {sigma_b2}")
    # below q = sigma_b2 the bias alone is more than the length
    q = float(scipy.optimize.brentq(excess, sigma_b2, high, xtol=1e-300, rtol=1e-14))
    return CriticalPoint(1.0 / chi_1(phi, q, 1.0), sigma_b2, q)


def _critical_bias(phi: Activation, q: float) -> float:
    """Bias variance for which the length `q` is a fixed point with ``chi_1 = 1``.

    ``(q E[phi'**2] - E[phi**2]) / E[phi'**2]``, of which what both tend to far from 0 cancels.
    """
    slope = slope_beyond_limit(phi, q)
    difference = q * slope - square_beyond_limit(phi, q)
    return difference / (mean_square_slope_at_infinity(phi) + slope)


def critical_line(activation: ActivationLike, sigma_b2s: Iterable[float]) -> FloatArray:
    """Critical weight variances for several bias variances: the edge of chaos.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    sigma_b2s : iterable of float
        Bias variances.

    Returns
    -------
    ndarray of float64
        ``sigma_w2`` (not its root) for each bias variance.

    Raises
    ------
    ValueError
        As `critical_point`.

    References
    ----------
    Schoenholz et al. 2017, arXiv:1611.01232.
    """
    return np.array([critical_point(activation, b).sigma_w2 for b in sigma_b2s], dtype=np.float64)
