"""Products of many matrices: why depth makes signals vanish or explode.

First the scaled identity, then random Gaussian matrices with or without a homogeneous activation
in between. Growth is that of *squared* norms throughout, logarithms are natural.

The mean of a random product says little about a typical one: ``E[|h^L|**2]`` is
``(sigma_w2 / 2)**L`` for ReLU, but ``ln |h^L|**2`` is a random walk whose drift is lower than
``L ln(sigma_w2 / 2)``. Given the previous layer, ``|h^l|**2 / |h^{l-1}|**2`` of a bias-free layer
of ``n`` Gaussian units does not depend on what came before. It is distributed as
``(sigma_w2 / n_{l-1}) sum_i phi(g_i)**2`` with ``n`` standard normal ``g_i``; per unit, as
``M_l = |h^l|**2 / n_l``, the fan-in cancels: ``M_l / M_{l-1} ~ (sigma_w2 / n) sum_i phi(g_i)**2``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from gradprop.components.activations import ActivationLike
from gradprop.components.gains import log_moments, slopes
from gradprop.theory.arguments import at_least, finite, not_negative, positive

__all__ = [
    "expected_square_norm",
    "lyapunov_spectrum",
    "mean_typical_gap",
    "scaled_identity_delta",
    "scaled_identity_output",
    "scaled_identity_weight_gradient",
]

FloatArray = npt.NDArray[np.float64]


# ------------------------------------------------------------------------------- scaled identity


def _power(base: float, exponent: int) -> float:
    """Power that overflows to infinity instead of raising."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float_power(base, exponent))


def scaled_identity_output(c: float, depth: int) -> float:
    """Output of a linear network of `depth` layers ``W = c I``, relative to its input.

    ``y = c**L x``: 1.5 explodes, 0.5 vanishes.

    Parameters
    ----------
    c : float
        The diagonal.
    depth : int
        Number of layers ``L``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `c` is not finite.

    References
    ----------
    The example of A. Ng, "Deep Learning Specialization", course 2, week 1, which writes the last
    layer apart: ``W^[L] c**(L - 1) x``.
    """
    finite(c=c)
    at_least(1, depth=depth)
    return _power(c, depth)


def scaled_identity_delta(c: float, depth: int, layer: int) -> float:
    """``dC/dz^l`` relative to ``dC/dz^L`` in a linear network of layers ``W = c I``.

    ``c**(L - l)``.

    Parameters
    ----------
    c : float
        The diagonal.
    depth : int
        Number of layers ``L``.
    layer : int
        Layer ``l``, 1 to `depth`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1, `layer` is not within 1 to `depth`, or `c` is not finite.
    """
    finite(c=c)
    at_least(1, depth=depth)
    if not 1 <= layer <= depth:
        raise ValueError(f"layers go from 1 to {depth}, got {layer}")
    return _power(c, depth - layer)


def scaled_identity_weight_gradient(c: float, depth: int) -> float:
    """``dC/dW^l`` in a linear network of layers ``W = c I``, relative to ``(dC/dy) x^T``.

    ``c**(L - 1)``, the same in every layer: ``l - 1`` factors come forward with the signal and
    ``L - l`` backward with the error.

    Parameters
    ----------
    c : float
        The diagonal.
    depth : int
        Number of layers ``L``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1 or `c` is not finite.
    """
    finite(c=c)
    at_least(1, depth=depth)
    return _power(c, depth - 1)


# ------------------------------------------------------------------------------- random products


def expected_square_norm(
    sigma_w2: float, depth: int, activation: ActivationLike = "linear"
) -> float:
    """Return the growth of the expected mean square per unit over `depth` random layers.

    ``(sigma_w2 kappa)**L`` with ``kappa = E[phi(z)**2]``: 1 for linear, 1/2 for ReLU,
    ``(1 + a**2) / 2`` for leaky ReLU. Exact at every width, for any independent entries of mean 0
    and variance ``sigma_w2 / fan_in`` (with an activation: symmetric entries).

    Parameters
    ----------
    sigma_w2 : float
        Weight variance times fan-in.
    depth : int
        Number of layers.
    activation : Activation, Component or str, optional
        Activation after every matrix, homogeneous: linear, relu, leaky_relu.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `depth` is less than 1, `sigma_w2` is negative, infinite or NaN, or the activation is
        not homogeneous.

    References
    ----------
    He et al. 2015, arXiv:1502.01852.
    """
    not_negative(sigma_w2=sigma_w2)
    at_least(1, depth=depth)
    right, left = slopes(activation)
    return _power(sigma_w2 * 0.5 * (right**2 + left**2), depth)


def mean_typical_gap(width: int, activation: ActivationLike = "linear") -> float:
    """Gap per layer between the log of the mean and the mean of the log of squared lengths.

    ``ln E[M_l / M_{l-1}] - E[ln(M_l / M_{l-1})] >= 0``: how much the expectation overstates a
    typical network; about ``1 / n`` (linear) or ``5 / (2 n)`` (ReLU) a layer.

    Parameters
    ----------
    width : int
        Number of units of the layer.
    activation : Activation, Component or str, optional
        Activation of the layer, homogeneous: linear, relu, leaky_relu.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `log_growth_variance`.

    References
    ----------
    As for `log_growth_mean`.
    """
    return math.log(expected_square_norm(1.0, 1, activation)) - log_moments(width, activation)[0]


def lyapunov_spectrum(width: int, sigma_w2: float = 1.0) -> FloatArray:
    """Lyapunov exponents of products of square Gaussian matrices.

    ``lambda_i = [ln(2 sigma_w2 / n) + psi((n - i + 1) / 2)] / 2``: the ``i``-th singular value of a
    product of ``L`` matrices grows like ``exp(lambda_i L)`` as ``L`` grows at a fixed width.

    Parameters
    ----------
    width : int
        Number of rows and columns ``n``.
    sigma_w2 : float, optional
        Entry variance times ``n``, positive.

    Returns
    -------
    ndarray of float64, shape (width,)
        Descending; natural logarithms of singular values (not squared) per layer.

    Raises
    ------
    ValueError
        If `width` is less than 1 or `sigma_w2` is not positive.

    References
    ----------
    C. M. Newman 1986, "The distribution of Lyapunov exponents: exact results for random matrices",
    Commun. Math. Phys. 103.
    """
    at_least(1, width=width)
    positive(sigma_w2=sigma_w2)
    rank = np.arange(width, 0, -1, dtype=np.float64)
    exponents = 0.5 * (math.log(2.0 * sigma_w2 / width) + special.digamma(0.5 * rank))
    return np.asarray(exponents, dtype=np.float64)


# -------------------------------------------------------------------------------- unbiased gains
