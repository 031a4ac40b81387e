"""Where magnitudes leave the range of a number format.

An entry of a layer's signal is taken as normal with mean 0 and the predicted root mean square. It
becomes exactly 0 if it is at most half the smallest number (a tie is rounded to even, to 0), or
below the smallest number in formats whose subnormal numbers are not kept; it becomes infinite from
halfway between the largest number and the next power of two on. Dimensionless; errors are those of
the error function in float64.

References
----------
IEEE 754-2019, sections 4.3.1 and 7.4 (rounding and overflow); Micikevicius et al. 2018,
arXiv:1710.03740, section 3.2 (gradients that float16 loses).
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from gradprop.components.precision import FORMATS, Format

__all__ = [
    "first_beyond",
    "infinite_probability",
    "overflow_threshold",
    "underflow_threshold",
    "zero_probability",
]

Float64 = NDArray[np.float64]


def underflow_threshold(name: str) -> float:
    """Return the magnitude below which a result of the format becomes 0."""
    known = FORMATS[name]
    return known.smallest / 2 if known.has_subnormals else known.smallest


def overflow_threshold(name: str) -> float:
    """Return the magnitude from which a result becomes infinite: 65,520 for float16."""
    known: Format = FORMATS[name]
    return known.largest + math.ldexp(known.epsilon, known.largest_exponent - 1)


def zero_probability(log10_rms: ArrayLike, name: str) -> Float64:
    """Return the fraction of normal entries of this root mean square that become 0."""
    ratio = 10.0 ** (math.log10(underflow_threshold(name)) - np.asarray(log10_rms, np.float64))
    return np.asarray(scipy.special.erf(ratio / math.sqrt(2)))


def infinite_probability(log10_rms: ArrayLike, name: str) -> Float64:
    """Return the fraction of normal entries of this root mean square that become infinite."""
    ratio = 10.0 ** (math.log10(overflow_threshold(name)) - np.asarray(log10_rms, np.float64))
    return np.asarray(scipy.special.erfc(ratio / math.sqrt(2)))


def first_beyond(log10_rms: ArrayLike, name: str, entries: int) -> tuple[int | None, int | None]:
    """Return where a quantity becomes 0 and where infinite on its way through the layers.

    0 from the first layer on whose root mean square is below `underflow_threshold`: in a signal
    that shrinks further, what is left of it follows before it would have lost another decade.
    Infinite from the first
    layer on that is expected to have at least half an infinite entry, because every entry of the
    next layer is a sum with it.

    Parameters
    ----------
    log10_rms
        By layer, in the direction of propagation.
    name
        The format.
    entries
        Numbers of a layer: examples times units.

    Returns
    -------
    tuple
        Positions from 0; None for what does not happen, or would only after the other.
    """
    sizes = np.asarray(log10_rms, np.float64)
    zero = np.flatnonzero(sizes < math.log10(underflow_threshold(name)))
    infinite = np.flatnonzero(entries * infinite_probability(sizes, name) >= 0.5)
    never = len(sizes)
    at_zero, at_infinity = (int(found[0]) if found.size else never for found in (zero, infinite))
    return (
        at_zero if at_zero < at_infinity else None,
        at_infinity if at_infinity < at_zero else None,
    )
