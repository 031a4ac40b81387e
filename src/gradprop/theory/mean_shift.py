"""Kernels and biases whose mean is not zero: the mean of pre-activations as a second field.

The networks are ``z^l = W^l h^{l-1} + b^l``, ``h^l = phi(z^l)``, ``h^0 = x``, with kernels
``W^l = sqrt(sigma_w2_l / n_{l-1}) G + mu_l 1 1^T``: normal entries, and a part of rank one that
maps the sum of what enters to the same number for all units. Given what enters, the pre-activations
of a layer are normal with a mean ``m`` that they share, and with the variance ``v``:

    ``m^1 = mu_1 sum_j x_j + beta_1``,  ``m^{l+1} = mu_{l+1} n_l E[phi(u)] + beta_{l+1}``,
    ``v^1 = sigma_w2_1 E[x^2] + sigma_b2_1``,  ``v^{l+1} = sigma_w2_{l+1} E[phi(u)^2] + sigma_b2``,

``u ~ N(m^l, v^l)``, ``beta`` the mean of the biases. In a linear network the direction of ones is
multiplied by ``n mu`` in each layer, whatever the scale of the normal part.

Back, with ``S = sum_i delta_i`` and ``D`` the mean square of ``delta = dC/dz``, entry j of
``W^T delta`` is normal of variance ``sigma_w2 n' D / n`` around ``mu S``, and

    ``n D^l = n E[phi'^2] (sigma_w2 n' D^{l+1} / n + mu^2 S^2)``.

``S`` itself is a sum over units:

    ``E[(S^l)^2] = (n mu E[phi'] S)^2 + E[phi'^2] sigma_w2 n' D^{l+1} + n mu^2 Var(phi') S^2``.

Two things bound what these laws can say of one network. ``m`` is a sum over n units: every layer
adds ``n mu^2 Var(phi)`` to its variance over networks, which the direction of ones amplifies.
And where ``S`` carries a notable share of a signal, signals are no longer those of independent
weights (``z`` and ``delta`` of a layer are correlated as soon as ``E[phi''] S`` is not zero). Both
are returned, so that who uses the profile knows where it ends.

The formulas follow from the mean-field argument of Poole et al. 2016, arXiv:1606.05340, and
Schoenholz et al. 2017, arXiv:1611.01232, with the mean kept; they are derived here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import at_least, finite, not_negative
from gradprop.theory.gaussian import shifted_expectation

__all__ = ["ShiftedProfile", "shifted_profile"]

FloatArray = npt.NDArray[np.float64]

_LARGEST = 1e60  # of a mean or a standard deviation, whose fourth powers are still floats
_DIGITS = 9  # of moments that are looked up again


@dataclass(frozen=True)
class ShiftedProfile:
    """Fields in layers 1 to D; entry ``l - 1`` of an array belongs to layer ``l``.

    Everything is dimensionless. NaN from the layer on where a field would leave the range of
    floats.

    Attributes
    ----------
    mean, variance : ndarray of float64, shape (D,)
        ``m`` and ``v``: of the pre-activations of a layer, over its units.
    wander : ndarray of float64, shape (D,)
        Variance of ``m`` over networks, to leading order in the reciprocal width.
    log_delta : ndarray of float64, shape (D,)
        ``ln(E[(delta^l)^2] / E[(delta^D)^2])`` with ``delta^l = dC/dz^l`` of a single example.
    sum_share : ndarray of float64, shape (D,)
        The part of ``E[(delta^l)^2]`` that came through the means of kernels: by sums of signals.
    """

    mean: FloatArray
    variance: FloatArray
    wander: FloatArray
    log_delta: FloatArray
    sum_share: FloatArray

    @property
    def q(self) -> FloatArray:
        """Mean square of the pre-activations, ``m^2 + v``."""
        return self.mean**2 + self.variance


def shifted_profile(
    activation: ActivationLike,
    widths: Sequence[int],
    sigma_w2: Sequence[float],
    weight_mean: Sequence[float],
    sigma_b2: Sequence[float],
    bias_mean: Sequence[float],
    input_mean: float,
    input_mean_square: float,
    output_sum: float = 0.0,
) -> ShiftedProfile:
    """Propagate mean and variance forward, and mean squares of signals back, layers 1 to D.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function of layers 1 to D - 1; that of layer D plays no role.
    widths : sequence of int, length D + 1
        ``n_0`` (input) to ``n_D``.
    sigma_w2, weight_mean : sequence of float, length D
        Weight variance times fan-in, and the mean of an entry of a kernel.
    sigma_b2, bias_mean : sequence of float, length D
        Variance and mean of the biases.
    input_mean, input_mean_square : float
        Mean and mean square of the entries of one example.
    output_sum : float, optional
        ``S^2 / (n_D^2 E[(delta^D)^2])`` at the output, 0 to 1: 1 where all outputs have the same
        signal, 0 where signals add up to nothing, as those of a softmax do.

    Returns
    -------
    ShiftedProfile

    Raises
    ------
    ValueError
        If there are fewer than two widths, a width is less than 1, a sequence has not length D, a
        variance is negative, anything is infinite or NaN, or the activation is unknown.
    """
    phi = activations.get(activation)
    if len(widths) < 2:
        raise ValueError(f"need at least two widths, got {list(widths)}")
    at_least(1, widths=widths)
    not_negative(sigma_w2=sigma_w2, sigma_b2=sigma_b2, output_sum=output_sum)
    not_negative(input_mean_square=input_mean_square)
    finite(weight_mean=weight_mean, bias_mean=bias_mean, input_mean=input_mean)
    layers = [
        _Layer(*row)
        for row in zip(
            widths[:-1], widths[1:], sigma_w2, weight_mean, sigma_b2, bias_mean, strict=True
        )
    ]
    look_up = functools.cache(functools.partial(_moments_of, phi))  # near a fixed point they repeat
    moments: list[_Moments] = []
    fields = np.full((3, len(layers)), np.nan)
    entering = _Moments(input_mean, input_mean_square, 0.0, 0.0)
    wander = 0.0
    for place, layer in enumerate(layers):
        mean = layer.fan_in * layer.weight_mean * entering.first + layer.bias_mean
        variance = layer.sigma_w2 * entering.second + layer.sigma_b2
        if place:
            slope = layer.fan_in * layer.weight_mean * entering.slope
            noise = layer.fan_in * layer.weight_mean**2 * entering.spread
            wander = slope * slope * wander + noise
        if not (variance + wander < _LARGEST**2 and abs(mean) < _LARGEST):  # infinite, or NaN
            break
        fields[:, place] = mean, variance, wander
        entering = look_up(_rounded(mean), _rounded(variance))
        if not all(map(math.isfinite, entering)):
            break
        moments.append(entering)
    log_delta, share = _backward(layers, moments, output_sum)
    return ShiftedProfile(fields[0], fields[1], fields[2], log_delta, share)


class _Layer(NamedTuple):
    """The law of a layer's kernel and biases."""

    fan_in: int
    fan_out: int
    sigma_w2: float
    weight_mean: float
    sigma_b2: float
    bias_mean: float


class _Moments(NamedTuple):
    """Expectations of ``phi`` and its derivative for one normal variable."""

    first: float  # E[phi]
    second: float  # E[phi^2]
    slope: float  # E[phi']
    slope_square: float  # E[phi'^2]

    @property
    def spread(self) -> float:
        """Variance of ``phi``."""
        return max(self.second - self.first * self.first, 0.0)


def _moments_of(phi: Activation, mean: float, variance: float) -> _Moments:
    f, d = phi.function, phi.derivative
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows ends the profile
        first, second, slope, slope_square = (
            shifted_expectation(integrand, mean, variance, phi.kinks)
            for integrand in (f, lambda u: f(u) ** 2, d, lambda u: d(u) ** 2)
        )
    return _Moments(first, second, slope, slope_square)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}e}")


def _backward(
    layers: Sequence[_Layer], moments: Sequence[_Moments], output_sum: float
) -> tuple[FloatArray, FloatArray]:
    """Return ``ln(E[(delta^l)^2] / E[(delta^D)^2])`` and the share of sums; NaN without moments."""
    log_delta, share = np.full((2, len(layers)), np.nan)
    if len(moments) < len(layers) - 1:
        return log_delta, share
    log_delta[-1] = share[-1] = 0.0
    # S^2 in units of D, which may leave the range of floats
    sums = output_sum * layers[-1].fan_out ** 2
    for place in range(len(layers) - 2, -1, -1):
        above, here = layers[place + 1], moments[place]
        n = above.fan_in
        own = above.sigma_w2 * above.fan_out / n
        through_sum = above.weight_mean**2 * sums
        growth = here.slope_square * (own + through_sum)
        log_delta[place] = log_delta[place + 1] + (math.log(growth) if growth > 0 else -math.inf)
        if not growth > 0:
            break
        share[place] = (own * share[place + 1] + through_sum) / (own + through_sum)
        steepness = here.slope * here.slope
        uneven = max(here.slope_square - steepness, 0.0)
        kept = n * n * steepness * through_sum + n * uneven * through_sum
        sums = (kept + n * here.slope_square * own) / growth
    return log_delta, share
