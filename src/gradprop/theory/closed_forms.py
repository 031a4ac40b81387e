"""Special cases with a formula of their own: ReLU angles, critical tanh, batch norm, SELU."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gradprop.components import activations
from gradprop.components.activations import ActivationLike
from gradprop.theory.arguments import (
    at_least,
    finite,
    not_negative,
    positive,
    valid_correlation,
)
from gradprop.theory.gaussian import expectation, needs_quadrature

__all__ = [
    "batch_norm_growth",
    "critical_tanh_delta_ratio",
    "critical_tanh_length",
    "linear_batch_norm_growth",
    "moment_map",
    "moment_map_jacobian",
    "rectified_residual_length",
    "relu_correlation_asymptote",
    "relu_correlation_map",
    "relu_gradient_correlation",
]

FloatArray = npt.NDArray[np.float64]


# ------------------------------------------------------------------------------------ ReLU angles


def relu_correlation_map(c: npt.ArrayLike, slope: float = 0.0) -> FloatArray:
    """Correlation of two inputs after one wide (leaky) ReLU layer without bias.

    ``C(c) = c + (1 - a)**2 / (pi (1 + a**2)) (sqrt(1 - c**2) - c arccos c)``; for ReLU (``a = 0``)
    ``[sqrt(1 - c**2) + (pi - arccos c) c] / pi``. The weight variance plays no role.

    Parameters
    ----------
    c : array_like
        Correlation before the layer, within [-1, 1].
    slope : float, optional
        Slope ``a`` for negative arguments; 0 for ReLU.

    Returns
    -------
    ndarray of float64
        Of the shape of `c`.

    Raises
    ------
    ValueError
        If a correlation is not within [-1, 1] or `slope` is not finite.

    References
    ----------
    Cho & Saul 2009 (arc-cosine kernel); Hayou et al. 2019 (ICML); the leaky form is that of Zhang,
    Botev & Martens 2022 (ICLR).
    """
    c_array = np.asarray(c, dtype=np.float64)
    valid_correlation(c_array)
    finite(slope=slope)
    bend = np.sqrt((1.0 - c_array) * (1.0 + c_array)) - c_array * np.arccos(c_array)
    factor = (1.0 - slope) ** 2 / (math.pi * (1.0 + slope**2))
    return np.asarray(np.minimum(c_array + factor * bend, 1.0), dtype=np.float64)


def relu_correlation_asymptote(layer: npt.ArrayLike) -> FloatArray:
    """``1 - c^l -> 9 pi**2 / (2 l**2)`` for ReLU, that is an angle of ``3 pi / l``.

    Slow: from ``c = 0`` the true value is 0.29 of it at layer 10 and 0.95 at layer 500. Iterate
    `relu_correlation_map` where numbers matter.

    Parameters
    ----------
    layer : array_like
        Number of layers ``l`` passed.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError
        If a number of layers is less than 1.

    References
    ----------
    Hayou, Doucet & Rousseau 2019 (ICML).
    """
    at_least(1, layer=layer)
    layers = np.asarray(layer, dtype=np.float64)
    return np.asarray(4.5 * (math.pi / layers) ** 2, dtype=np.float64)


def relu_gradient_correlation(c: float, depth: int) -> FloatArray:
    """Correlation of the input gradients of two inputs after 1 ... `depth` wide ReLU layers.

    ``prod_l (1 - theta_l / pi)`` with the angles ``theta_l = arccos c^l`` of the pre-activations,
    ``c^1 = c``: the share of units active for one input that is active for the other too. It falls
    like ``l**-3``, not exponentially.

    Parameters
    ----------
    c : float
        Correlation of the two inputs.
    depth : int
        Number of layers.

    Returns
    -------
    ndarray of float64, shape (depth,)

    Raises
    ------
    ValueError
        If ``|c| > 1`` or `depth` is less than 1.

    Notes
    -----
    Follows from the independence of forward and backward weights at infinite width. Shattered
    gradients that decorrelate like ``2**-l`` (Balduzzi et al. 2017) assume that a unit is active
    for both inputs with probability 1/4, which holds in the first layer of orthogonal inputs only.
    """
    valid_correlation(c)
    at_least(1, depth=depth)
    correlations = np.empty(depth)
    current = c
    for layer in range(depth):
        correlations[layer] = current
        current = float(relu_correlation_map(current))
    return np.asarray(np.cumprod(1.0 - np.arccos(correlations) / math.pi), dtype=np.float64)


# --------------------------------------------------------------------------------- critical tanh


def critical_tanh_length(layer: npt.ArrayLike) -> FloatArray:
    """Asymptotic length of tanh networks at ``sigma_w2 = 1``, ``sigma_b2 = 0`` (Glorot).

    ``q^l -> 1 / (2 l)``: a power law, neither constant nor exponential.

    Parameters
    ----------
    layer : array_like
        Layer ``l``.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError
        If a layer is less than 1.

    References
    ----------
    Roberts, Yaida & Hanin 2022, arXiv:2106.10165; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    at_least(1, layer=layer)
    return np.asarray(0.5 / np.asarray(layer, dtype=np.float64), dtype=np.float64)


def critical_tanh_delta_ratio(layer: npt.ArrayLike, depth: int) -> FloatArray:
    """Asymptotic ``E[(delta^l)**2] / E[(delta^L)**2]`` of critical tanh networks.

    ``l / L``: since ``chi = 1 - 2 q^l = 1 - 1 / l``.

    Parameters
    ----------
    layer : array_like
        Layer ``l``.
    depth : int
        Last hidden layer ``L``.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError
        If a layer or `depth` is less than 1.

    References
    ----------
    Roberts, Yaida & Hanin 2022, arXiv:2106.10165; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    at_least(1, layer=layer, depth=depth)
    return np.asarray(np.asarray(layer, dtype=np.float64) / depth, dtype=np.float64)


# ------------------------------------------------------------------------------------ batch norm


def batch_norm_growth(activation: ActivationLike) -> float:
    """Growth of the mean square of the back-propagated signal per layer with batch norm.

    ``E[phi'(z)**2] / Var[phi(z)]``, ``z ~ N(0, 1)``, for wide layers and large batches, whatever
    the weight variance: normalisation divides by ``sigma_w2 Var[phi]`` what the weights multiply
    by ``sigma_w2 E[phi'**2]``. ``pi / (pi - 1)`` for ReLU, 1 for linear, and at least 1 for every
    activation (Poincare inequality). The norm grows by the square root.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function that follows the normalisation.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the activation is unknown.

    References
    ----------
    Yang et al. 2019 (ICLR, arXiv:1902.08129) for ReLU and linear; the general form is derived
    here.
    """
    phi = activations.get(activation)
    if phi.integrals:
        square, slope = (phi.integrals.moment(order, 2, 1.0) for order in (0, 1))
        return slope / (square - phi.integrals.mean(1.0) ** 2)
    slope = expectation(lambda z: phi.derivative(z) ** 2, 1.0, phi.kinks)
    mean = expectation(phi.function, 1.0, phi.kinks)
    return slope / expectation(lambda z: (phi.function(z) - mean) ** 2, 1.0, phi.kinks)


def linear_batch_norm_growth(batch_size: int) -> float:
    """Per-layer growth of the mean square of gradients in deep linear batch-normalised networks.

    ``(B - 2) / (B - 3)``: even without any non-linearity there is some growth at a finite batch.

    Parameters
    ----------
    batch_size : int
        Examples in a batch, more than 3.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the batch is too small.

    References
    ----------
    Yang et al. 2019 (ICLR, arXiv:1902.08129).
    """
    at_least(4, batch_size=batch_size)
    return (batch_size - 2) / (batch_size - 3)


# ------------------------------------------------------------------------------------------ SELU


def moment_map(
    activation: ActivationLike,
    mean: float,
    variance: float,
    omega: float = 0.0,
    tau: float = 1.0,
) -> tuple[float, float]:
    """Mean and variance of activations after one layer.

    ``(E[phi(z)], Var[phi(z)])`` with ``z ~ N(mean * omega, variance * tau)``. For SELU with LeCun
    initialization, ``omega = 0`` and ``tau = 1``, (0, 1) is a fixed point.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    mean, variance : float
        Moments of the activations that enter the layer.
    omega, tau : float, optional
        Sum of a unit's weights, and of their squares.

    Returns
    -------
    tuple of float
        Mean and variance.

    Raises
    ------
    ValueError
        If `mean` or `omega` is not finite, `variance` or `tau` is negative, infinite or NaN, or
        the activation is unknown or has no quadrature (sine, exponential).

    References
    ----------
    Klambauer et al. 2017 (NeurIPS, arXiv:1706.02515).
    """
    phi = activations.get(activation)
    needs_quadrature(phi)
    finite(mean=mean, omega=omega)
    not_negative(variance=variance, tau=tau)
    shift = mean * omega
    kinks = tuple(kink - shift for kink in phi.kinks)
    first = expectation(lambda u: phi.function(u + shift), variance * tau, kinks)
    second = expectation(lambda u: (phi.function(u + shift) - first) ** 2, variance * tau, kinks)
    return first, second


def moment_map_jacobian(
    activation: ActivationLike,
    mean: float = 0.0,
    variance: float = 1.0,
    omega: float = 0.0,
    tau: float = 1.0,
) -> FloatArray:
    """Jacobian of `moment_map` with respect to mean and variance.

    For SELU at (0, 1) it is ``[[0, 0.088834], [0, 0.782648]]``: a perturbed variance returns to 1
    by a factor of 0.78 per layer.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    mean, variance : float, optional
        Moments of the activations that enter the layer; the variance must be positive.
    omega, tau : float, optional
        Sum of a unit's weights, and of their squares; `tau` must be positive.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        Rows: new mean and variance; columns: derivatives by old mean and variance.

    Raises
    ------
    ValueError
        If `mean` or `omega` is not finite, `variance` or `tau` is not positive and finite, or the
        activation is unknown or has no quadrature (sine, exponential).

    References
    ----------
    Klambauer et al. 2017 (NeurIPS, arXiv:1706.02515).
    """
    phi = activations.get(activation)
    needs_quadrature(phi)
    finite(mean=mean, omega=omega)
    positive(variance=variance, tau=tau)
    spread, shift = variance * tau, mean * omega
    kinks = tuple(kink - shift for kink in phi.kinks)
    first, _ = moment_map(phi, mean, variance, omega, tau)

    # d/d(variance) E[f(shift + u)] = E[f'(shift + u) u] / (2 variance)
    def slope(u: FloatArray) -> FloatArray:
        return phi.derivative(u + shift)

    def square_slope(u: FloatArray) -> FloatArray:
        return 2.0 * (phi.function(u + shift) - first) * phi.derivative(u + shift)

    by_mean = [omega * expectation(f, spread, kinks) for f in (slope, square_slope)]
    by_variance = [
        expectation(lambda u, f=f: f(u) * u, spread, kinks) / (2.0 * variance)  # type: ignore[misc]
        for f in (slope, square_slope)
    ]
    return np.array([by_mean, by_variance], dtype=np.float64).T


# ------------------------------------------------------------------------------ residual networks


def rectified_residual_length(depth: int, branch: float = 1.0) -> FloatArray:
    """Mean square of ``h_l = h_(l-1) + sqrt(branch) relu(W_l h_(l-1))`` at infinite width.

    The weights have the variance 2/n and ``h_1 = relu(z_1)``. A rectified branch is never negative,
    so that its mean adds up and the length grows faster than by ``1 + branch`` a layer: with
    ``q = E[h**2]``, ``m = E[h]`` and ``s = E[relu(z)] = sqrt(q / pi)``,
    ``q <- q + 2 sqrt(branch) m s + branch q`` and ``m <- m + sqrt(branch) s``.

    Parameters
    ----------
    depth : int
        Layers, at least 1.
    branch : float, optional
        What multiplies the mean square of a branch.

    Returns
    -------
    ndarray, shape (depth,)
        ``q_1 ... q_depth`` relative to ``q_1``.

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `branch` is negative, infinite or NaN.

    References
    ----------
    The variance of residual networks: De & Smith 2020 (arXiv:2002.10444), whose branches have mean
    zero and grow by ``1 + branch``; with the mean, derived here.
    """
    at_least(1, depth=depth)
    not_negative(branch=branch)
    # h_1 = relu(z_1) with z_1 ~ N(0, 2 q_1): its mean square is q_1, its mean sqrt(q_1 / pi).
    square, mean = 1.0, math.sqrt(1 / math.pi)
    found = [square]
    for _ in range(depth - 1):
        added = math.sqrt(branch * square / math.pi)
        square, mean = square * (1 + branch) + 2 * mean * added, mean + added
        found.append(square)
    return np.array(found)
