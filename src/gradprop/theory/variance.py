"""Variance propagation, forward and backward, layer by layer through any width profile.

The networks are ``z^l = W^l h^{l-1} + b^l``, ``h^l = phi(z^l)``, ``h^0 = x``, with
``W^l_ij ~ (0, sigma_w2_l / n_{l-1})`` independent of each other and of the data. The formulas are
exact for infinite widths; for homogeneous activations without bias the expectations are exact at
every width. They generalise Glorot & Bengio 2010 (linear regime: use ``"linear"``) and He et al.
2015 (the factor 1/2 of ReLU, ``(1 + a**2) / 2`` of leaky ReLU).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import at_least, not_negative
from gradprop.theory.length import chi_1, length_map

__all__ = ["SignalProfile", "sigma_w2_of_scaling", "signal_profile"]

FloatArray = npt.NDArray[np.float64]
FanMode = Literal["fan_in", "fan_out", "fan_avg"]

_OVERFLOW = 1e300  # a length beyond it is reported as infinite


def sigma_w2_of_scaling(scale: float, mode: FanMode, fan_in: int, fan_out: int) -> float:
    """``sigma_w2 = fan_in Var W`` of a variance-scaling initializer.

    ``Var W = scale / fan`` with the fan that `mode` names. LeCun: (1, fan_in); Glorot:
    (1, fan_avg); He: (2, fan_in); the "standard" ``U[-1/sqrt(n), 1/sqrt(n)]``: (1/3, fan_in).

    Parameters
    ----------
    scale : float
        Numerator of the variance.
    mode : {'fan_in', 'fan_out', 'fan_avg'}
        Denominator of the variance.
    fan_in, fan_out : int
        Widths before and after the weights.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a width is less than 1, `scale` is negative or `mode` is unknown.

    References
    ----------
    Glorot & Bengio 2010 (AISTATS); He et al. 2015, arXiv:1502.01852.
    """
    at_least(1, fan_in=fan_in, fan_out=fan_out)
    not_negative(scale=scale)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": 0.5 * (fan_in + fan_out)}
    if mode not in fans:
        raise ValueError(f"unknown mode {mode!r}; known are {', '.join(fans)}")
    return scale * fan_in / fans[mode]


@dataclass(frozen=True)
class SignalProfile:
    """Expected mean squares in layers 1 to D; entry ``l - 1`` of an array belongs to layer ``l``.

    Logarithms are natural, and of mean squares (not of root mean squares), so that products over
    hundreds of layers neither underflow nor overflow.

    Attributes
    ----------
    q : ndarray of float64, shape (D,)
        ``E[(z^l)**2]``; infinite from the layer on where it would overflow.
    input_mean_square : ndarray of float64, shape (D,)
        ``E[(h^{l-1})**2]``: what enters layer ``l``.
    chi : ndarray of float64, shape (D - 1,)
        ``sigma_w2_{l+1} E[phi'(z^l)**2]``, the step from layer ``l + 1`` back to layer ``l``
        without the change of width.
    log_delta : ndarray of float64, shape (D,)
        ``ln(E[(delta^l)**2] / E[(delta^D)**2])`` with ``delta^l = dC/dz^l`` of a single example.
    log_weight_gradient : ndarray of float64, shape (D,)
        ``ln(E[(dC/dW^l)**2] / E[(dC/dW^D)**2])`` of a single example; not finite where ``q`` has
        left the range of floats.
    """

    q: FloatArray
    input_mean_square: FloatArray
    chi: FloatArray
    log_delta: FloatArray
    log_weight_gradient: FloatArray

    def delta_ratio(self, reference: int) -> FloatArray:
        """``E[(delta^l)**2] / E[(delta^reference)**2]`` for every layer ``l``.

        Parameters
        ----------
        reference : int
            A layer, 1 to D.

        Returns
        -------
        ndarray of float64, shape (D,)

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        return _ratio(self.log_delta, reference)

    def weight_gradient_ratio(self, reference: int) -> FloatArray:
        """``E[(dC/dW^l)**2] / E[(dC/dW^reference)**2]`` for every layer ``l``.

        Parameters
        ----------
        reference : int
            A layer, 1 to D.

        Returns
        -------
        ndarray of float64, shape (D,)

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        return _ratio(self.log_weight_gradient, reference)


def _ratio(logs: FloatArray, reference: int) -> FloatArray:
    if not 1 <= reference <= logs.size:
        raise ValueError(f"layers go from 1 to {logs.size}, got {reference}")
    return np.asarray(np.exp(logs - logs[reference - 1]), dtype=np.float64)


def signal_profile(
    activation: ActivationLike,
    widths: Sequence[int],
    sigma_w2: float | Sequence[float],
    sigma_b2: float | Sequence[float] = 0.0,
    input_mean_square: float = 1.0,
) -> SignalProfile:
    """Propagate mean squares forward and backward through layers 1 to D.

    Forward: ``q^1 = sigma_w2_1 E[x**2] + sigma_b2_1``,
    ``q^{l+1} = sigma_w2_{l+1} E[phi(sqrt(q^l) z)**2] + sigma_b2_{l+1}``.
    Backward: ``E[(delta^l)**2] = (n_{l+1} / n_l) chi^l E[(delta^{l+1})**2]``,
    ``chi^l = sigma_w2_{l+1} E[phi'(sqrt(q^l) z)**2]``.
    Weights: ``E[(dC/dW^l)**2] = E[(delta^l)**2] E[(h^{l-1})**2]``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function of layers 1 to D - 1; that of layer D plays no role.
    widths : sequence of int, length D + 1
        ``n_0`` (input) to ``n_D``. To include the output layer, append its width.
    sigma_w2, sigma_b2 : float or sequence of float, length D
        Weight variance times fan-in (``n_{l-1}``), and bias variance, for all layers or each.
    input_mean_square : float, optional
        ``E[x**2]`` per input feature, ``|x|**2 / n_0``.

    Returns
    -------
    SignalProfile

    Raises
    ------
    ValueError
        If there are fewer than two widths, a width is less than 1, a sequence has not length D, a
        variance is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Glorot & Bengio 2010 (AISTATS); He et al. 2015, arXiv:1502.01852; Poole et al. 2016,
    arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    phi = activations.get(activation)
    if len(widths) < 2:
        raise ValueError(f"need at least two widths, got {list(widths)}")
    at_least(1, widths=widths)
    depth = len(widths) - 1
    weights = _per_layer(sigma_w2, depth, "sigma_w2")
    biases = _per_layer(sigma_b2, depth, "sigma_b2")
    not_negative(input_mean_square=input_mean_square)
    q, incoming = _forward(phi, weights, biases, input_mean_square)
    slope = functools.cache(lambda length: chi_1(phi, length, 1.0))  # many lengths are one q*
    chi = weights[1:] * np.array([slope(float(length)) for length in q[:-1]])
    log_delta = _backward(chi, np.asarray(widths[1:], dtype=np.float64))
    log_gradient = log_delta + _log(incoming)
    with np.errstate(invalid="ignore"):  # without any signal every ratio is undefined: NaN
        log_gradient = log_gradient - log_gradient[-1]
    return SignalProfile(q, incoming, chi, log_delta, log_gradient)


def _per_layer(values: float | Sequence[float], depth: int, name: str) -> FloatArray:
    """One value for each layer."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        array = np.full(depth, array)
    if array.shape != (depth,):
        raise ValueError(f"{name} must have one value or {depth}, got shape {array.shape}")
    not_negative(**{name: array})
    return array


def _forward(
    phi: Activation, weights: FloatArray, biases: FloatArray, input_mean_square: float
) -> tuple[FloatArray, FloatArray]:
    """``q^l`` and ``E[(h^{l-1})**2]`` for layers 1 to D."""
    q, incoming = np.empty(weights.size), np.empty(weights.size)
    square = functools.cache(lambda length: length_map(phi, length, 1.0))
    mean_square = input_mean_square
    for i in range(weights.size):
        incoming[i] = mean_square
        length = float(weights[i]) * mean_square + float(biases[i])
        q[i] = length if length < _OVERFLOW else math.inf
        # only unbounded activations let q overflow, and their h overflows with it
        mean_square = square(float(q[i])) if math.isfinite(q[i]) else math.inf
    return q, incoming


def _backward(chi: FloatArray, widths: FloatArray) -> FloatArray:
    """``ln(E[(delta^l)**2] / E[(delta^D)**2])`` for layers 1 to D of the given widths."""
    steps = _log(chi) + np.log(widths[1:] / widths[:-1])
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])


def _log(values: FloatArray) -> FloatArray:
    """Natural logarithm, minus infinity at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values), dtype=np.float64)
