"""What a finite width adds to mean-field theory: fluctuations, their laws, and death.

Squared lengths ``M_l = |h^l|**2 / n_l`` and mean squares of back-propagated signals
``D_l = |delta^l|**2 / n_l`` of bias-free networks with Gaussian weights and homogeneous activations
are products of independent factors (see `gradprop.theory.products`), so their logarithms are close
to normal, with means and variances that add up over the layers. What matters is the sum of
reciprocal widths ``beta = sum_l 1 / n_l``, roughly depth over width.

Test logarithms, not moments: the moment ratios below are right but dominated by networks so rare
that a sample of thousands does not contain them once ``5 beta`` exceeds about 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from gradprop.components import activations
from gradprop.components.activations import ActivationLike
from gradprop.components.gains import log_growth_mean, log_growth_variance
from gradprop.theory.arguments import at_least, positive

__all__ = [
    "LogNormalLaw",
    "critical_tanh_fluctuation",
    "dead_probability",
    "gradient_fluctuation",
    "gradient_law",
    "length_fluctuation",
    "length_law",
    "reciprocal_width_sum",
]

FloatArray = npt.NDArray[np.float64]


def _checked(widths: Sequence[int]) -> FloatArray:
    """Widths as floats."""
    array = np.asarray(widths, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"need a sequence of widths, got {widths}")
    at_least(1, widths=array)
    return array


def _slope_moments(activation: ActivationLike) -> tuple[float, float]:
    """``E[phi'**2]`` and ``E[phi'**4]`` of a homogeneous activation."""
    phi = activations.get(activation)
    if not phi.homogeneous:
        raise ValueError(f"{phi.name} is not homogeneous: its fluctuations depend on the length")
    slopes = phi.derivative(np.array([1.0, -1.0]))
    return float(np.mean(slopes**2)), float(np.mean(slopes**4))


def reciprocal_width_sum(widths: Sequence[int]) -> float:
    """``beta = sum_l 1 / n_l`` over the hidden layers.

    Parameters
    ----------
    widths : sequence of int
        Widths of the hidden layers.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no width or one is less than 1.

    References
    ----------
    Hanin & Rolnick 2018, arXiv:1803.01719; Hanin 2018, arXiv:1801.03744.
    """
    return float(np.sum(1.0 / _checked(widths)))


# ------------------------------------------------------------------------------ relative variances


def length_fluctuation(widths: Sequence[int], activation: ActivationLike = "relu") -> FloatArray:
    """Relative variance of squared lengths over networks, ``E[M_l**2] / E[M_l]**2 - 1``.

    ``prod_{k <= l} (1 + (A - 1) / n_k) - 1`` with ``A = E[phi**4] / E[phi**2]**2`` over a standard
    normal: ``A - 1`` is 2 for linear, 5 for ReLU. To leading order ``5 l / n`` and ``2 l / n``.
    Exact for Gaussian weights without bias.

    Parameters
    ----------
    widths : sequence of int
        Widths ``n_1 ... n_L`` of the hidden layers.
    activation : Activation, Component or str, optional
        Activation of every layer, homogeneous: linear, relu, leaky_relu.

    Returns
    -------
    ndarray of float64, shape (L,)
        For layers 1 to L.

    Raises
    ------
    ValueError
        If there is no width, one is less than 1, or the activation is not homogeneous.

    References
    ----------
    Hanin & Rolnick 2018, arXiv:1803.01719; Roberts, Yaida & Hanin 2022, arXiv:2106.10165.
    """
    second, fourth = _slope_moments(activation)
    kurtosis = 3.0 * fourth / second**2
    growth = np.log1p((kurtosis - 1.0) / _checked(widths))
    with np.errstate(over="ignore"):
        return np.asarray(np.expm1(np.cumsum(growth)), dtype=np.float64)


def gradient_fluctuation(widths: Sequence[int], activation: ActivationLike = "relu") -> float:
    """Relative variance of ``|J^T u|**2`` over networks, ``E[|J^T u|**4] / E[|J^T u|**2]**2 - 1``.

    ``prod_{l=1}^{L} (1 + 3 (A - 1) / (n_l + 2)) (1 + 2 / n_{l-1}) - 1`` with
    ``A = E[phi'**4] / E[phi'**2]**2`` (2 for ReLU), for the input-output Jacobian
    ``J = D_L W_L ... D_1 W_1`` and a unit vector ``u`` in a random direction, uniform over the
    sphere. Exact for Gaussian weights without bias.

    Parameters
    ----------
    widths : sequence of int, length L + 1
        ``n_0`` (input) to ``n_L``.
    activation : Activation, Component or str, optional
        Activation of layers 1 to L, homogeneous: linear, relu, leaky_relu.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are fewer than two widths, one is less than 1, or the activation is not
        homogeneous.

    Notes
    -----
    Derived from two facts: the fourth moments of a uniform unit vector of ``n`` entries are
    ``3 / (n (n + 2))`` and ``1 / (n (n + 2))``; and in law the slopes on the diagonals ``D_l`` are
    independent of the weights (Hanin & Nica 2020), because Gaussian rows are symmetric.

    References
    ----------
    Hanin 2018, arXiv:1801.03744; Hanin & Nica 2020, arXiv:1812.05994 (the setting).
    """
    n = _checked(widths)
    if n.size < 2:
        raise ValueError(f"need at least two widths, got {list(widths)}")
    second, fourth = _slope_moments(activation)
    excess = fourth / second**2 - 1.0
    logs = np.log1p(3.0 * excess / (n[1:] + 2.0)) + np.log1p(2.0 / n[:-1])
    with np.errstate(over="ignore"):
        return float(np.expm1(np.sum(logs)))


def critical_tanh_fluctuation(widths: Sequence[int]) -> FloatArray:
    """Relative variance of squared lengths of tanh networks at ``sigma_w2 = 1``, ``sigma_b2 = 0``.

    ``(2 / l**2) sum_{k <= l} k**2 / n_k``, which tends to ``(2 / 3) l / n`` for equal widths: each
    layer adds ``2 / n_l``, and what is there shrinks by the factor ``1 - 2 / l`` because short
    signals shrink less. Leading order in ``1 / n``, asymptotic in ``l``; Gaussian weights (with
    orthogonal ones fluctuations do not grow with depth).

    Parameters
    ----------
    widths : sequence of int
        Widths ``n_1 ... n_L`` of the hidden layers.

    Returns
    -------
    ndarray of float64, shape (L,)
        For layers 1 to L.

    Raises
    ------
    ValueError
        If there is no width or one is less than 1.

    References
    ----------
    Roberts, Yaida & Hanin 2022, arXiv:2106.10165 (equal widths); Day, Kahn & Roberts 2023,
    arXiv:2310.07765 (orthogonal weights).
    """
    n = _checked(widths)
    layer = np.arange(1.0, n.size + 1.0)
    return np.asarray(2.0 * np.cumsum(layer**2 / n) / layer**2, dtype=np.float64)


# --------------------------------------------------------------------------------------- log laws


@dataclass(frozen=True)
class LogNormalLaw:
    """Normal approximation of the natural logarithm of a product of independent factors.

    Attributes
    ----------
    mean, variance : ndarray of float64, shape (L,)
        Exact mean and variance of the logarithm in layers 1 to L.
    """

    mean: FloatArray
    variance: FloatArray

    def quantiles(self, probabilities: npt.ArrayLike) -> FloatArray:
        """Quantiles of the logarithm: the reference band of a figure.

        Parameters
        ----------
        probabilities : array_like, shape (P,)
            Between 0 and 1.

        Returns
        -------
        ndarray of float64, shape (L, P)

        Raises
        ------
        ValueError
            If a probability is not between 0 and 1.
        """
        p = np.atleast_1d(np.asarray(probabilities, dtype=np.float64))
        if not np.all((p > 0.0) & (p < 1.0)):
            raise ValueError("probabilities must be between 0 and 1")
        spread = np.sqrt(self.variance)[:, None] * special.ndtri(p)[None, :]
        return np.asarray(self.mean[:, None] + spread, dtype=np.float64)


def _weight_variances(sigma_w2: float | Sequence[float], depth: int) -> FloatArray:
    """One weight variance for each layer."""
    array = np.asarray(sigma_w2, dtype=np.float64)
    if array.ndim == 0:
        array = np.full(depth, array)
    if array.shape != (depth,):
        raise ValueError(f"sigma_w2 must have one value or {depth}, got shape {array.shape}")
    positive(sigma_w2=array)
    return array


def length_law(
    widths: Sequence[int],
    sigma_w2: float | Sequence[float],
    activation: ActivationLike = "relu",
    start: float = 1.0,
) -> LogNormalLaw:
    """Law of ``ln M_l`` over networks, ``M_l = |h^l|**2 / n_l``.

    Mean ``ln M_0 + sum_{k <= l} m(n_k)``, variance ``sum_{k <= l} v(n_k)`` with the exact `m` and
    `v` of `log_growth_mean` and `log_growth_variance`; He, to leading order, ``-5 beta / 2`` and
    ``5 beta``. Given that the signal survives; Gaussian weights without bias.

    Parameters
    ----------
    widths : sequence of int
        Widths ``n_1 ... n_L`` of the hidden layers.
    sigma_w2 : float or sequence of float, length L
        Weight variance times fan-in, for all layers or for each.
    activation : Activation, Component or str, optional
        Activation of every layer, homogeneous: linear, relu, leaky_relu.
    start : float, optional
        ``M_0 = |x|**2 / n_0``, positive.

    Returns
    -------
    LogNormalLaw
        For layers 1 to L.

    Raises
    ------
    ValueError
        If there is no width, one is less than 1, a variance or `start` is not positive, or the
        activation is not homogeneous.

    References
    ----------
    Hanin & Nica 2020, arXiv:1812.05994; Sussillo & Abbott 2014, arXiv:1412.6558.
    """
    n = [int(width) for width in _checked(widths)]
    positive(start=start)
    variances = _weight_variances(sigma_w2, len(n))
    pairs = zip(n, variances, strict=True)
    drift = [log_growth_mean(width, float(s), activation) for width, s in pairs]
    spread = [log_growth_variance(width, activation) for width in n]
    return LogNormalLaw(
        np.asarray(math.log(start) + np.cumsum(drift), dtype=np.float64),
        np.asarray(np.cumsum(spread), dtype=np.float64),
    )


def gradient_law(
    widths: Sequence[int],
    sigma_w2: float | Sequence[float],
    activation: ActivationLike = "relu",
) -> LogNormalLaw:
    """Law of ``ln(D_l / D_L)`` over networks, ``D_l = |delta^l|**2 / n_l`` of a single example.

    Given ``delta^{l+1}``, ``|delta^l|**2 / |delta^{l+1}|**2`` is distributed as
    ``(sigma_w2_{l+1} / n_l) sum_i phi'(g_i)**2 g_i**2`` with ``n_l`` standard normal ``g_i``: the
    same law as that of lengths at width ``n_l``. Hence mean
    ``sum_{k=l}^{L-1} [m(n_k) + ln(n_{k+1} / n_k)]`` and variance ``sum_{k=l}^{L-1} v(n_k)``.

    Parameters
    ----------
    widths : sequence of int
        Widths ``n_1 ... n_L`` of the hidden layers.
    sigma_w2 : float or sequence of float, length L
        Weight variance times fan-in, for all layers or for each; that of layer 1 plays no role.
    activation : Activation, Component or str, optional
        Activation of every layer, homogeneous: linear, relu, leaky_relu.

    Returns
    -------
    LogNormalLaw
        For layers 1 to L; 0 and 0 for layer L.

    Raises
    ------
    ValueError
        As `length_law`.

    Notes
    -----
    Exact up to the normal approximation: by the symmetry of Gaussian weights, slopes and weights
    are independent in the law of ``J^T u`` (Hanin & Nica 2020), and a Gaussian matrix turns every
    vector into an isotropic one.

    References
    ----------
    Hanin & Nica 2020 (CMP 376, arXiv:1812.05994).
    """
    n = [int(width) for width in _checked(widths)]
    variances = _weight_variances(sigma_w2, len(n))
    drift = [
        log_growth_mean(n[k], float(variances[k + 1]), activation) + math.log(n[k + 1] / n[k])
        for k in range(len(n) - 1)
    ]
    spread = [log_growth_variance(width, activation) for width in n[:-1]]
    return LogNormalLaw(_sum_to_the_end(drift), _sum_to_the_end(spread))


def _sum_to_the_end(steps: Sequence[float]) -> FloatArray:
    """``sum_{k >= l} steps_k`` for each ``l``, and 0 after the last."""
    backward = np.cumsum(np.asarray(steps, dtype=np.float64)[::-1])[::-1]
    return np.concatenate([backward, [0.0]])


# ------------------------------------------------------------------------------------------ death


def dead_probability(widths: Sequence[int]) -> FloatArray:
    """Probability that a ReLU network is dead for a given input from the start.

    ``P(h^l = 0) = 1 - prod_{k <= l} (1 - 2**-n_k)`` for bias-free layers with symmetric continuous
    weights: each unit of a living layer's successor is inactive with probability 1/2.

    Parameters
    ----------
    widths : sequence of int
        Widths ``n_1 ... n_L`` of the hidden layers.

    Returns
    -------
    ndarray of float64, shape (L,)
        For layers 1 to L; accurate also where it is tiny.

    Raises
    ------
    ValueError
        If there is no width or one is less than 1.

    References
    ----------
    Lu, Shin, Su & Karniadakis 2020, arXiv:1903.06733 (there as a bound for all inputs at once).
    """
    survival = np.cumsum(np.log1p(-np.exp2(-_checked(widths))))
    return np.asarray(-np.expm1(survival), dtype=np.float64)
