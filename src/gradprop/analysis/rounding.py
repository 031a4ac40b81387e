"""How much of a back-propagated signal rounding alone can make.

The last hidden layer receives dC/dh = W dC/dz from the outputs, a sum of n products per unit, n the
number of outputs. In floating point such a sum of terms t has an error of at most gamma_n sum |t|,
gamma_n = n u / (1 - n u) with u = 2^-24 for float32 (Higham 2002, "Accuracy and Stability of
Numerical Algorithms", section 3.1), and with high probability of no more than a small multiple of
sqrt(n) u sum |t| (Higham and Mary 2019). By Cauchy and Schwarz the root mean square of sum |t|
over units and examples is at most

    norm(W) RMS(dC/dz) sqrt(n / m),

m the units of the hidden layer, norm(W) the Frobenius norm of W (m x n).

The bound is relative to what enters the layer: a signal of 1e-20 is real if the outputs have one of
a like size. A sum of independent terms is larger than `log10_error` by about 1 / (2 n u), six
decades for ten outputs. Only here is such a sum 0 by its structure: a softmax makes derivatives
that add up to 0, and equal weights of all outputs then cancel. Between hidden layers nothing
cancels by structure, and the bound may be far too large: in networks about to diverge a few
entries make up norm(W) and others the signal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradprop.components.activations import Activation

Float64 = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-24  # of float32
# The multiple of sqrt(n) u; rounding errors in the derivatives of a softmax are of the same size.
MULTIPLE = 2.0
# Multiples of the root mean square of z at which a slope is looked at.
REACHES = (1.1, 1.5, 2.0, 4.0)


def log10_error(
    units: npt.ArrayLike, outputs: npt.ArrayLike, weight_norm: Float64, signal: Float64
) -> Float64:
    """Return log10 of the root mean square of dC/dh that rounding can make.

    Parameters
    ----------
    units, outputs
        m and n.
    weight_norm, signal
        log10 of norm(W) and of RMS(dC/dz) of the outputs.
    """
    factor = MULTIPLE * UNIT_ROUNDOFF * np.asarray(outputs) / np.sqrt(units)
    return np.log10(factor) + weight_norm + signal


def least_slope(phi: Activation, length: Float64) -> Float64:
    """Return what the root mean square of phi'(z) is at least: signal and error are multiplied.

    By Chebyshev's inequality a part of at least 1 - 1/k^2 of all z lies within k times their root
    mean square; there phi' is at least what it is at one of the ends, because its tails fall
    monotonically. The best of the bounds for k in `REACHES` is taken. A rectifier's slope of
    exactly 0 does not count: what it holds back is 0 and no small number.

    Parameters
    ----------
    phi
        The activation function.
    length
        log10 of the mean square of z.
    """
    root = 10 ** (np.clip(length, -600, 600) / 2)
    bounds = []
    for reach in REACHES:
        ends = np.abs([phi.derivative(sign * reach * root) for sign in (-1.0, 1.0)])
        least = np.where(ends > 0, ends, np.inf).min(axis=0)
        bounds.append(np.sqrt(1 - reach**-2) * np.where(np.isinf(least), 0.0, least))
    return np.max(bounds, axis=0)
