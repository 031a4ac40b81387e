"""Singular values of the input-output Jacobian ``J = D_L W_L ... D_1 W_1`` of wide networks.

``s`` is a singular value of ``J``, ``s**2`` an eigenvalue of ``J J^T``. A network is dynamically
isometric if all singular values are close to 1: their mean square being 1 (criticality) is not
enough. Main source: Pennington, Schoenholz & Ganguli 2017 (NeurIPS, arXiv:1711.04735) and 2018
(AISTATS, arXiv:1802.09979), below "Pennington et al.".
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from gradprop.components import activations
from gradprop.components.activations import ActivationLike
from gradprop.theory.arguments import at_least, not_negative, positive
from gradprop.theory.gaussian import expectation, needs_quadrature, rule

__all__ = [
    "fuss_catalan_density",
    "fuss_catalan_moment",
    "has_dynamical_isometry",
    "jacobian_mean_square",
    "jacobian_relative_variance",
    "jacobian_variance",
    "layer_mean_singular_value",
    "linear_gaussian_edge",
    "linear_gaussian_relative_variance",
    "linear_gaussian_singular_density",
    "linear_orthogonal_singular_value",
    "mean_singular_value",
    "slope_moment",
]

FloatArray = npt.NDArray[np.float64]
Ensemble = Literal["gaussian", "orthogonal"]

#: First moment of the S-transform of ``W W^T`` that enters the variance of ``s**2``.
_S_1 = {"gaussian": -1.0, "orthogonal": 0.0}

_BISECTIONS = 60
_TINY = 1e-150  # stands for the limit of no variance


# ----------------------------------------------------------------------------- moments, any slope


def slope_moment(activation: ActivationLike, q: float, k: int) -> float:
    """Moment of squared slopes, ``mu_k = E[phi'(sqrt(q) z)**(2 k)]``, ``z ~ N(0, 1)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations.
    k : int
        Order, not negative.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is negative, infinite or NaN, or the activation is unknown.

    References
    ----------
    Pennington et al.
    """
    phi = activations.get(activation)
    not_negative(q=q)
    at_least(0, k=k)
    if phi.integrals:
        return phi.integrals.moment(1, 2 * k, q)
    return expectation(lambda u: phi.derivative(u) ** (2 * k), q, phi.kinks)


def jacobian_mean_square(
    activation: ActivationLike, q: float, sigma_w2: float, depth: int
) -> float:
    """Mean squared singular value ``m_1 = (sigma_w2 mu_1)**L = chi_1**L``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations, the same in every layer (``q*``).
    sigma_w2 : float
        Weight variance times fan-in; for orthogonal weights the squared gain.
    depth : int
        Number of layers ``L``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range or the activation is unknown.

    References
    ----------
    Pennington et al.
    """
    at_least(1, depth=depth)
    not_negative(sigma_w2=sigma_w2)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float_power(sigma_w2 * slope_moment(activation, q, 1), depth))


def jacobian_relative_variance(
    activation: ActivationLike, q: float, depth: int, ensemble: Ensemble
) -> float:
    """Variance of ``s**2`` over its squared mean: ``L (mu_2 / mu_1**2 - 1 - s_1)``.

    ``s_1`` is -1 for Gaussian and 0 for orthogonal weights. Linear: ``L`` and 0; ReLU: ``2 L`` and
    ``L``, so orthogonal ReLU networks are not isometric; tanh with orthogonal weights: tends to 0
    with ``q``. Square layers, infinite width (``L / n`` small).

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations, the same in every layer (``q*``).
    depth : int
        Number of layers ``L``.
    ensemble : {'gaussian', 'orthogonal'}
        Distribution of the weight matrices.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range, or the activation or the ensemble is unknown.

    References
    ----------
    Pennington et al.
    """
    at_least(1, depth=depth)
    if ensemble not in _S_1:
        raise ValueError(f"unknown ensemble {ensemble!r}; known are {', '.join(_S_1)}")
    spread = slope_moment(activation, q, 2) / slope_moment(activation, q, 1) ** 2
    return depth * (spread - 1.0 - _S_1[ensemble])


def jacobian_variance(
    activation: ActivationLike, q: float, sigma_w2: float, depth: int, ensemble: Ensemble
) -> float:
    """Variance of ``s**2``: ``(sigma_w2 mu_1)**(2 L) L (mu_2 / mu_1**2 - 1 - s_1)``.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations, the same in every layer (``q*``).
    sigma_w2 : float
        Weight variance times fan-in; for orthogonal weights the squared gain.
    depth : int
        Number of layers ``L``.
    ensemble : {'gaussian', 'orthogonal'}
        Distribution of the weight matrices.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `jacobian_relative_variance`.

    References
    ----------
    Pennington et al.
    """
    mean = jacobian_mean_square(activation, q, sigma_w2, depth)
    return mean**2 * jacobian_relative_variance(activation, q, depth, ensemble)


def has_dynamical_isometry(
    activation: ActivationLike,
    q: float,
    sigma_w2: float,
    depth: int,
    ensemble: Ensemble,
    tolerance: float = 0.1,
) -> bool:
    """Whether the squared singular values are 1 up to a tolerance.

    True if mean and standard deviation of ``s**2`` differ by at most `tolerance` from 1 and 0.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations, the same in every layer (``q*``).
    sigma_w2 : float
        Weight variance times fan-in; for orthogonal weights the squared gain.
    depth : int
        Number of layers ``L``.
    ensemble : {'gaussian', 'orthogonal'}
        Distribution of the weight matrices.
    tolerance : float, optional
        Allowed deviation.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        As `jacobian_relative_variance`.

    References
    ----------
    Saxe et al. 2014, arXiv:1312.6120 (the notion); Pennington et al. (the moments).
    """
    not_negative(tolerance=tolerance)
    mean = jacobian_mean_square(activation, q, sigma_w2, depth)
    variance = jacobian_variance(activation, q, sigma_w2, depth, ensemble)
    return abs(mean - 1.0) <= tolerance and variance <= tolerance**2


# --------------------------------------------------------------------------------- one layer


def mean_singular_value(sigma_w2: float) -> float:
    """Mean singular value of a large square Gaussian matrix, ``(8 / (3 pi)) sigma_w``.

    0.4901 for the "standard" initialization (``sigma_w2 = 1/3``) and 0.8488 for the normalised one
    (``sigma_w2 = 1``): the "0.5 and 0.8" of Glorot & Bengio. Slopes ``tanh' < 1`` reduce it.

    Parameters
    ----------
    sigma_w2 : float
        Entry variance times the number of columns.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `sigma_w2` is negative, infinite or NaN.

    References
    ----------
    Glorot & Bengio 2010 (the observation); mean of the quarter-circle law.
    """
    not_negative(sigma_w2=sigma_w2)
    return 8.0 / (3.0 * math.pi) * math.sqrt(sigma_w2)


def layer_mean_singular_value(activation: ActivationLike, q: float, sigma_w2: float) -> float:
    """Mean singular value of the Jacobian ``W diag(phi'(z))`` of one large square layer.

    With ``a = E[phi'(z)**2]``, ``b = phi'(z)**2 / a`` and ``w = y**2``, the integral over
    ``0 < y < 1`` of ``(4 / pi) sqrt(sigma_w2 a) (1 - w) sqrt(E[1 / d]) E[b / d**2]``,
    ``d = 1 - w + b w``. Slopes of 1 give `mean_singular_value`. For independent entries of any
    distribution.

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations.
    sigma_w2 : float
        Entry variance times the number of columns.

    Returns
    -------
    float
        Accurate to about 1e-8, relative.

    Raises
    ------
    ValueError
        If `q` or `sigma_w2` is negative, infinite or NaN, or the activation is unknown or has no
        quadrature (sine, exponential).

    Notes
    -----
    Let ``v = E[1 / (s**2 + t)]``. Marchenko and Pastur's equation for ``J J^T`` is
    ``t v = 1 - g(v)`` with ``g(v) = E[c v / (1 + c v)]``, ``c = sigma_w2 phi'(z)**2``. From
    ``s = (2 / pi) int s**2 / (s**2 + u**2) du`` and ``E[s**2 / (s**2 + t)] = g`` follows
    ``E[s] = (2 / pi) int sqrt(t) dg``, and ``w / (1 - w) = sigma_w2 a v`` maps ``v`` to (0, 1).

    References
    ----------
    Marchenko & Pastur 1967, Math. USSR Sbornik 1, 457-483; that slopes may depend on the weights:
    Pastur & Slavin 2020, arXiv:2011.11439. Glorot & Bengio 2010, section 4.2.2 (the observation).
    """
    not_negative(sigma_w2=sigma_w2)
    phi = activations.get(activation)
    needs_quadrature(phi)
    square = slope_moment(phi, q, 1)
    if square == 0.0:
        return 0.0
    std = 1.0 if phi.homogeneous else max(math.sqrt(q), _TINY)
    z, weights = rule(std, phi.kinks)
    b = phi.derivative(std * z) ** 2 / square

    def integrand(y: float) -> float:
        d = 1.0 - y * y + b * (y * y)
        return (1.0 - y * y) * math.sqrt(weights @ (1.0 / d)) * float(weights @ (b / d**2))

    integral = scipy.integrate.quad(integrand, 0.0, 1.0, epsrel=1e-9)[0]
    return 4.0 / math.pi * math.sqrt(sigma_w2 * square) * float(integral)


# ------------------------------------------------------------------------------- linear networks


def linear_orthogonal_singular_value(sigma_w2: float, depth: int) -> float:
    """Return ``sigma_w**L``, every singular value of a linear network with orthogonal weights.

    Parameters
    ----------
    sigma_w2 : float
        Squared gain of the orthogonal matrices.
    depth : int
        Number of layers ``L``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `sigma_w2` is negative, infinite or NaN.

    References
    ----------
    Saxe et al. 2014, arXiv:1312.6120.
    """
    at_least(1, depth=depth)
    not_negative(sigma_w2=sigma_w2)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float_power(math.sqrt(sigma_w2), depth))


def linear_gaussian_edge(depth: int, sigma_w2: float = 1.0) -> float:
    """Largest squared singular value of a product of large square Gaussian matrices.

    ``s_max**2 = sigma_w2**L (L + 1)**(L + 1) / L**L``, about ``e (L + 1/2)`` at criticality.

    Parameters
    ----------
    depth : int
        Number of factors ``L``.
    sigma_w2 : float, optional
        Entry variance times the number of columns.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `sigma_w2` is negative, infinite or NaN.

    References
    ----------
    Pennington et al.; edge of the Fuss-Catalan law.
    """
    at_least(1, depth=depth)
    not_negative(sigma_w2=sigma_w2)
    edge = (depth + 1.0) * math.exp(depth * math.log1p(1.0 / depth))
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float_power(sigma_w2, depth)) * edge


def fuss_catalan_moment(order: int, depth: int) -> float:
    """Moment of the Fuss-Catalan law, ``binom((L + 1) k, k) / (L k + 1)``.

    Parameters
    ----------
    order : int
        Order ``k``.
    depth : int
        Number of factors ``L``.

    Returns
    -------
    float
        ``E[(s**2)**k]``: 1, then 1, then ``L + 1`` ...; infinite where it would overflow.

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `order` is negative.

    References
    ----------
    Penson & Zyczkowski 2011, Phys. Rev. E 83, 061118.
    """
    at_least(1, depth=depth)
    at_least(0, order=order)
    try:
        return math.comb((depth + 1) * order, order) / (depth * order + 1)
    except OverflowError:
        return math.inf


def fuss_catalan_density(squared: npt.ArrayLike, depth: int) -> FloatArray:
    """Spectral density of ``J J^T`` for products of large square Gaussian matrices.

    With ``0 < t < pi / (L + 1)``,
    ``x = sin((L + 1) t)**(L + 1) / (sin(t) sin(L t)**L)`` and
    ``density = sin(t)**2 sin(L t)**(L - 1) / (pi sin((L + 1) t)**L)``.
    ``L = 1`` is the Marchenko-Pastur law of a square matrix. Near 0 the density diverges like
    ``x**(-L / (L + 1))``.

    Parameters
    ----------
    squared : array_like
        Squared singular values ``x``, in units of ``sigma_w2**L``.
    depth : int
        Number of factors ``L``.

    Returns
    -------
    ndarray of float64
        Of the shape of `squared`; 0 outside of ``0 < x < (L + 1)**(L + 1) / L**L``.

    Raises
    ------
    ValueError
        If `depth` is less than 1 or a squared singular value is NaN.

    References
    ----------
    Penson & Zyczkowski 2011, Phys. Rev. E 83, 061118 (the law); the parametrization is that of
    Biane and of Haagerup & Moeller 2013. Pennington et al. derive the law for linear networks.
    """
    at_least(1, depth=depth)
    x = np.asarray(squared, dtype=np.float64)
    if np.any(np.isnan(x)):
        raise ValueError("a squared singular value is NaN")
    inside = (x > 0.0) & (x < linear_gaussian_edge(depth))
    density = np.zeros(x.shape)
    density[inside] = np.exp(_log_fuss_catalan_density(np.log(x[inside]), depth))
    return density


def _log_fuss_catalan_density(log_x: FloatArray, depth: int) -> FloatArray:
    """Logarithm of the density at points of the support, given by their logarithms."""
    t = _fuss_catalan_angle(log_x, depth)
    logs = 2.0 * np.log(np.sin(t)) + (depth - 1) * np.log(np.sin(depth * t))
    return np.asarray(logs - depth * np.log(np.sin(_supplement(t, depth))) - math.log(math.pi))


def _supplement(t: FloatArray, depth: int) -> FloatArray:
    """``pi - (L + 1) t``, whose sine is that of ``(L + 1) t``."""
    return np.asarray(math.pi - (depth + 1) * t, dtype=np.float64)


def _log_fuss_catalan_point(t: FloatArray, depth: int) -> FloatArray:
    """``ln x(t)``: decreases from the logarithm of the edge to minus infinity."""
    log_rest = (depth + 1) * np.log(np.sin(_supplement(t, depth)))
    return np.asarray(log_rest - np.log(np.sin(t)) - depth * np.log(np.sin(depth * t)))


def _fuss_catalan_angle(log_x: FloatArray, depth: int) -> FloatArray:
    """Invert ``ln x(t)`` by bisection."""
    low = np.zeros(log_x.shape)
    high = np.full(log_x.shape, math.pi / (depth + 1))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = _log_fuss_catalan_point(middle, depth) > log_x
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(0.5 * (low + high), dtype=np.float64)


def linear_gaussian_singular_density(
    singular: npt.ArrayLike, depth: int, sigma_w2: float = 1.0
) -> FloatArray:
    """Density of singular values of products of large square Gaussian matrices.

    ``2 s f(s**2 / sigma_w2**L) / sigma_w2**L`` with the Fuss-Catalan density ``f``.

    Parameters
    ----------
    singular : array_like
        Singular values ``s``.
    depth : int
        Number of factors ``L``.
    sigma_w2 : float, optional
        Entry variance times the number of columns; positive.

    Returns
    -------
    ndarray of float64
        Of the shape of `singular`.

    Raises
    ------
    ValueError
        If `depth` is less than 1, `sigma_w2` is not positive, or a singular value is negative,
        infinite or NaN.

    References
    ----------
    Pennington et al.; see `fuss_catalan_density`.
    """
    at_least(1, depth=depth)
    positive(sigma_w2=sigma_w2)
    not_negative(singular=singular)
    s = np.asarray(singular, dtype=np.float64)
    with np.errstate(divide="ignore"):
        log_s = np.log(s)
    log_x = 2.0 * log_s - depth * math.log(sigma_w2)  # x itself may leave the range of floats
    inside = (s > 0.0) & (log_x < math.log(linear_gaussian_edge(depth)))
    density = np.zeros(s.shape)
    logs = log_x[inside] + _log_fuss_catalan_density(log_x[inside], depth) - log_s[inside]
    density[inside] = 2.0 * np.exp(logs)
    return density


def linear_gaussian_relative_variance(width: int, depth: int) -> float:
    """Relative variance of ``s**2`` for products of ``n x n`` real Gaussian matrices.

    ``a_L / b_L - 1`` with ``a_l = E[tr (J J^T)**2] / n`` and ``b_l = E[(tr J J^T)**2] / n**2``:
    ``a' = (1 + 1 / n) a + b``, ``b' = b + 2 a / n**2``, ``a_0 = b_0 = 1``. Tends to ``L`` as ``n``
    grows; a ratio of expectations over networks.

    Parameters
    ----------
    width : int
        Number of rows and columns ``n``.
    depth : int
        Number of factors ``L``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `width` or `depth` is less than 1.

    Notes
    -----
    From ``E[(g_i^T A g_j)**2]`` for the independent standard normal rows ``g_i`` of the next
    factor: ``tr A**2``, and ``(tr A)**2 + 2 tr A**2`` if ``i = j``.
    """
    at_least(1, depth=depth)
    at_least(1, width=width)
    ratio = 1.0  # a / b; the common growth cancels
    for _ in range(depth):
        ratio = ((1.0 + 1.0 / width) * ratio + 1.0) / (1.0 + 2.0 * ratio / width**2)
    return ratio - 1.0
