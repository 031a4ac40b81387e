"""Activation functions that are given as Python functions, made known to the theory by numbers.

Theory asks an `Activation` for function, derivatives, kinks and what it does far from 0. Here all
of these are found from values of the function alone.

* Derivatives are central differences of step ``h = 1e-5 max(1, |z|)`` (second ones of the tenfold
  root of it), one-sided and of second order where a kink lies within reach. Their error is about
  ``h**2 |phi'''| / 6 + eps |phi| / h``, 1e-10 for functions of order 1.
* Kinks are where the slope still jumps over 5e-6; lines on both sides meet there.
* Beyond ``|z| = REACH`` the function is continued by a straight line, so that nothing overflows.

A function that returns float32 has an error of 1e-7 in its values, which such small steps would
make 1e-2 in slopes: it is evaluated with steps of 5e-3 there, and `slope_error` says what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gradprop import errors
from gradprop.components.activations import Activation
from gradprop.errors import GradpropError

__all__ = ["from_function", "slope_error"]

FloatArray = npt.NDArray[np.float64]

#: How far from 0 the function is asked for values.
REACH = 300.0
#: Largest slope of the straight line beyond: above it the function is none of linear growth.
STEEPEST = 100.0
_STEP = 1e-5  # near the third root of float64's precision, where both errors are alike
_COARSE_STEP = 5e-3  # the same of float32
_GRID = 1e-2  # of the search for kinks
_SEARCHED = 20.0  # in |z|: a Gaussian of standard deviation 2 does not come farther
_HALVINGS = 12  # of a cell of the grid, to 5e-6
_COARSE_HALVINGS = 4
_JUMP = 1e-3  # of the slope, relative to the steepest, from which on a kink is one


def from_function(function: Callable[[Any], Any], name: str) -> Activation:
    """Return what theory needs to know of a Python function, element by element.

    Parameters
    ----------
    function : callable
        Takes a float64 array (or a tensor, as ``keras.activations.mish`` does) and returns one of
        the same shape.
    name : str
        What it is called in messages.

    Returns
    -------
    Activation

    Raises
    ------
    GradpropError
        If it fails, returns another shape or numbers that are not finite, is constant, or grows
        faster than linearly.

    Examples
    --------
    >>> import numpy as np
    >>> cube_root = from_function(np.cbrt, "cube root")
    >>> float(cube_root.derivative(8.0).round(6))
    0.083333
    """
    values = _Values(function, name)
    kinks = _kinks(values)
    slope = _Slope(values, kinks)
    bends = _bend(values, kinks)
    return Activation(
        name=name,
        definition=name,
        source="a function of the user",
        function=values,
        derivative=slope,
        second_derivative=bends,
        homogeneous=_is_homogeneous(values),
        kinks=kinks,
    )


def slope_error(activation: Activation) -> float:
    """Return the error of E[phi'(z)^2], z standard normal, relative to it; 0 of exact derivatives.

    4/3 of the difference to what half the step gives, whose error is a quarter, and what rounding
    of the values may add to slopes of order 1.

    Examples
    --------
    >>> slope_error(from_function(np.tanh, "tanh")) < 1e-9
    True
    """
    if not isinstance(activation.derivative, _Slope):
        return 0.0
    from gradprop.theory import expectation

    def mean_square(slope: _Slope) -> float:
        return expectation(lambda u: slope(u) ** 2, 1.0, activation.kinks)

    given = activation.derivative
    square, finer = mean_square(given), mean_square(_Slope(given.values, given.kinks, 0.5))
    precision = np.finfo(np.float32 if given.values.single else np.float64).eps
    return abs(square - finer) / finer * 4 / 3 + float(precision) / given.values.step


class _Values:
    """The function on float64 arrays, continued by straight lines beyond `REACH`."""

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self.call, self.name = function, name
        ends = np.array([-REACH, -REACH + 1.0, REACH - 1.0, REACH])
        y, self.single = self._ask(ends)
        self.slopes = (float(y[1] - y[0]), float(y[3] - y[2]))
        self.ends = (float(y[0]), float(y[3]))
        grid = self._ask(np.linspace(-REACH, REACH, 6001))[0]
        if np.ptp(grid) == 0:
            raise self._error("is constant: no gradient passes it")
        if max(map(abs, self.slopes)) > STEEPEST:
            raise self._error("grows faster than linearly, and lengths have no law of their own")

    @property
    def step(self) -> float:
        """Of differences, relative to max(1, |z|)."""
        return _COARSE_STEP if self.single else _STEP

    def __call__(self, z: npt.ArrayLike) -> FloatArray:
        x = np.asarray(z, dtype=np.float64)
        inside = np.clip(x, -REACH, REACH)
        y = self._ask(inside)[0]
        beyond = x - inside
        with np.errstate(over="ignore"):
            return np.asarray(y + beyond * np.where(beyond < 0, *self.slopes), dtype=np.float64)

    def _ask(self, x: FloatArray) -> tuple[FloatArray, bool]:
        """Return values, and whether they are of less than double precision."""
        try:
            with np.errstate(all="ignore"):
                made = self.call(x.copy())
            exact = np.asarray(made)
            y = exact.astype(np.float64)
        except GradpropError:
            raise
        except Exception as error:
            raise self._error(f"fails on an array: {errors.describe(error)}") from error
        if y.shape != x.shape:
            raise self._error(f"makes the shape {y.shape} of {x.shape}; it has to be element-wise")
        if not np.isfinite(y).all():
            place = float(x[~np.isfinite(y)].flat[0])
            raise self._error(f"is {float(y[~np.isfinite(y)].flat[0])} at {place:g}")
        return y, exact.dtype.itemsize < 8

    def _error(self, problem: str) -> GradpropError:
        return GradpropError(f"advise: activation: {errors.cut(self.name)} {problem}")


class _Slope:
    """First derivative by differences that do not reach across a kink.

    Attributes
    ----------
    part
        Of the usual step.
    """

    def __init__(self, values: _Values, kinks: tuple[float, ...], part: float = 1.0) -> None:
        self.values, self.kinks, self.part = values, kinks, part

    def __call__(self, z: npt.ArrayLike) -> FloatArray:
        x = np.clip(np.asarray(z, dtype=np.float64), -REACH + 1.0, REACH - 1.0)
        h = self.part * self.values.step * np.maximum(1.0, np.abs(x))
        f = self.values
        slope = (f(x + h) - f(x - h)) / (2 * h)
        for kink in self.kinks:
            for side in (1.0, -1.0):  # h goes away from the kink
                near = (np.abs(x - kink) <= h) & ((x >= kink) if side > 0 else (x < kink))
                if near.any():
                    # 1e-7 clears a kink that is known to 1e-9
                    a, s = x[near] + side * 1e-7, side * h[near]
                    slope[near] = (-3 * f(a) + 4 * f(a + s) - f(a + 2 * s)) / (2 * s)
        return slope


def _bend(values: _Values, kinks: tuple[float, ...]) -> Callable[[npt.ArrayLike], FloatArray]:
    """Return the second derivative: the difference of slopes, one-sided beside kinks."""
    slope = _Slope(values, kinks)

    def second(z: npt.ArrayLike) -> FloatArray:
        x = np.clip(np.asarray(z, dtype=np.float64), -REACH + 2.0, REACH - 2.0)
        h = 10 * math.sqrt(values.step * _STEP) * np.maximum(1.0, np.abs(x))
        low, high = x - h, x + h
        for kink in kinks:
            low = np.where((x >= kink) & (low < kink), x, low)
            high = np.where((x < kink) & (high >= kink), x, high)
        return np.asarray((slope(high) - slope(low)) / (high - low), dtype=np.float64)

    return second


def _kinks(values: _Values) -> tuple[float, ...]:
    """Find where the slope jumps: in a cell of the grid whose halves never share the change."""
    x = np.arange(-_SEARCHED, _SEARCHED + _GRID / 2, _GRID) + _GRID / 3  # kinks of note in cells
    secants = np.diff(values(x)) / np.diff(x)
    change = np.abs(np.diff(secants))
    least = max(_JUMP * float(np.abs(secants).max()), 1e-12)
    finer = np.arange(x[0], x[-1] + _GRID / 8, _GRID / 4)
    changes = np.abs(np.diff(np.diff(values(finer)) / np.diff(finer)))
    # Where a function bends smoothly, the change over a quarter of the way is a quarter of it.
    sharpest = np.array([changes[4 * i : 4 * i + 7].max() for i in range(len(change))])
    found: list[float] = []
    for cell in np.flatnonzero((change > least) & (sharpest > 0.4 * change)):
        place = _narrow(values, float(x[cell]), float(x[cell + 2]), least)
        if place is not None and not any(abs(place - other) < _GRID for other in found):
            found.append(place)
    return tuple(found)


def _narrow(values: _Values, low: float, high: float, least: float) -> float | None:
    """Return the kink between two places, or None if the slope changes smoothly there."""

    def secant(a: float, b: float) -> float:
        y = values(np.array([a, b]))
        return float(y[1] - y[0]) / (b - a)

    for _ in range(_COARSE_HALVINGS if values.single else _HALVINGS):
        q = (high - low) / 4
        starts = [low, low + q, low + 2 * q]
        jumps = [abs(secant(a + q, a + 2 * q) - secant(a, a + q)) for a in starts]
        low = starts[int(np.argmax(jumps))]
        high = low + 2 * q
    width, middle = high - low, (low + high) / 2
    if abs(secant(middle, high) - secant(low, middle)) < least:  # it has fallen with the width
        return None
    before, after = secant(low - width, low), secant(high, high + width)
    if before == after:  # the function itself jumps
        return _rounded(middle)
    y = values(np.array([low, high]))  # where the lines on both sides meet
    meet = (float(y[1] - y[0]) + before * low - after * high) / (before - after)
    return _rounded(min(max(meet, low), high))


def _rounded(place: float) -> float:
    """Return 0 or a number of few digits if the place is one up to the error of the search."""
    short = round(place, 4)
    return short + 0.0 if abs(place - short) < 1e-5 else place


def _is_homogeneous(values: _Values) -> bool:
    """Tell whether ``phi(a z) = a phi(z)`` for positive a, up to the precision of the values."""
    z = np.array([-1.0, 1.0])
    close = 1e-6 if values.single else 1e-12
    return all(
        np.allclose(values(a * z), a * values(z), rtol=close, atol=0.0)
        for a in (1e-3, 0.1, 0.37, 3.0, 17.0, 200.0)
    )
