"""Distribution of the singular values of deep Jacobians, by free probability.

``J = D_L W_L ... D_1 W_1`` with independent square matrices ``W_l`` and diagonal slopes ``D_l`` of
wide networks. Main source: Pennington, Schoenholz & Ganguli 2017 (NeurIPS, arXiv:1711.04735).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from gradprop.components import activations
from gradprop.components.activations import Activation, ActivationLike
from gradprop.theory.arguments import at_least, positive
from gradprop.theory.jacobian import Ensemble

__all__ = ["jacobian_largest_singular_value", "jacobian_singular_density"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

_FIRST_ANGLE = 1e-3  # of w with the negative axis
_ROTATIONS = 48  # steps from the negative to the positive real axis
_NEWTON_STEPS = 30
_BISECTIONS = 40
_LOG_RANGE = 200.0  # of the logarithm of the parameter on the negative axis
# Of the path on which slopes are integrated: panels in standard deviations, nodes a panel, the
# largest angle, and from how many standard deviations on values of d may turn negative.
_PANELS = np.array([0.0, 0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 9.0, 11.0])
_NODES = 12
_LARGEST_ANGLE = math.pi / 8
_NEGLIGIBLE = 8.0
# phi' = height / cosh(rate z)**2, as height and rate.
_SECH_SLOPES = {"tanh": (1.0, 1.0), "sigmoid": (0.25, 0.5)}
_TOWARDS = 0.9  # of the way to the real axis that a step may go
_CONVERGED = 1e-10  # relative step of Newton's method
_EDGE_RANGE = (-30.0, 30.0)  # of the logarithm of w / d - 1, d the largest squared slope
_ACCEPTED = 1e-6  # error of ln z beyond which the density is unknown


class _Product(NamedTuple):
    """The law of ``J J^T``: slopes, their probabilities, and how layers are multiplied."""

    squares: ComplexArray
    probabilities: ComplexArray
    log_sigma_w2: float
    layers: int
    orthogonal: bool

    @property
    def has_density(self) -> bool:
        """Whether singular values are spread: not those of one layer, or of equal slopes."""
        same = len(self.squares) == 1 == self.probabilities[0]
        return not (self.orthogonal and (self.layers == 1 or same))

    def moments(self, w: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Return ``m(w) = E[d / (w - d)]``, d the squared slope, and its derivative."""
        inverse = 1.0 / (w[:, None] - self.squares)
        weighted = inverse * (self.squares * self.probabilities)
        return weighted.sum(axis=1), -(weighted * inverse).sum(axis=1)

    def log_z(self, w: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """Return ``m(w)``, ``ln z(w)`` up to a multiple of 2 pi i, and its derivative."""
        m, slope = self.moments(w)
        power = self.layers
        value: ComplexArray = np.log1p(m) - np.log(m)
        value = value + power * (self.log_sigma_w2 + np.log(m * w))
        derivative = slope * (1.0 / (1.0 + m) - 1.0 / m + power / m) + power / w
        if self.orthogonal:
            value -= power * np.log1p(m)
            derivative -= power * slope / (1.0 + m)
        return m, value, derivative


def jacobian_singular_density(
    singular: npt.ArrayLike,
    activation: ActivationLike,
    q: float,
    sigma_w2: float,
    depth: int,
    ensemble: Ensemble,
) -> FloatArray:
    """Density of the singular values of a wide network's Jacobian.

    The S-transform of ``J J^T`` is the product of those of all ``W W^T`` and ``D^2``. With the
    squared slope ``d = phi'(sqrt(q) z)**2``, ``z ~ N(0, 1)``, and ``m(w) = E[d / (w - d)]``,

        ``S_D = (1 + m) / (m w)``, ``S_W = 1 / (sigma_w2 (1 + m))`` (Gaussian) or ``1 / sigma_w2``,
        ``z = (1 + m) / (m (S_D S_W)**L)``,

    a curve in ``w`` on which ``m`` is the moment generating function of ``J J^T`` at ``z``. It is
    followed from ``z = -s**2``, where all is real, half a turn to ``z = s**2``; there ``s**2`` has
    the density ``-Im m / (pi s**2)``.

    Parameters
    ----------
    singular : array_like
        Singular values ``s``, positive.
    activation : Activation, Component or str
        The activation function.
    q : float
        Mean square of the pre-activations, the same in every layer (``q*``); positive.
    sigma_w2 : float
        Weight variance times fan-in; for orthogonal weights the squared gain. Positive.
    depth : int
        Number of layers ``L``.
    ensemble : {'gaussian', 'orthogonal'}
        Distribution of the weight matrices.

    Returns
    -------
    ndarray of float64
        Of the shape of `singular`; 0 outside of the support. The integral is the fraction of
        singular values that are not 0: 1/2 for ReLU. NaN where the curve was lost.

    Raises
    ------
    ValueError
        If an argument is out of range, the ensemble is unknown, the activation is none of tanh,
        sigmoid and the homogeneous ones, or the law has no density: orthogonal weights with a
        single layer or with slopes that are all the same.

    References
    ----------
    Pennington et al., sections 2.2 and 3; Voiculescu 1987 (the S-transform).
    """
    law = _product(activation, q, sigma_w2, depth, ensemble)
    if not law.has_density:
        raise ValueError("the law has no density")
    s = np.asarray(singular, dtype=np.float64)
    positive(singular=s)
    squares = s.ravel() ** 2
    m = _follow(law, np.log(squares))
    density = np.maximum(-m.imag, 0.0) / (math.pi * squares)
    return np.asarray((2.0 * s.ravel() * density).reshape(s.shape), dtype=np.float64)


def jacobian_largest_singular_value(
    activation: ActivationLike, q: float, sigma_w2: float, depth: int, ensemble: Ensemble
) -> float:
    """Return the largest singular value of a wide network's Jacobian, the edge of its law.

    Its square is the least ``z(w)`` of `jacobian_singular_density` for real ``w`` above all squared
    slopes ``d``: there ``z`` falls from infinity to the edge as ``w`` decreases, and turns. Where
    the law has no density, it is ``(sigma_w2 max d)**L``.

    Parameters
    ----------
    activation, q, sigma_w2, depth, ensemble
        As in `jacobian_singular_density`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range, the ensemble is unknown, or the activation is none of tanh,
        sigmoid and the homogeneous ones.

    References
    ----------
    Pennington et al., section 2.3 (the edge of linear networks); Voiculescu 1987.
    """
    law = _product(activation, q, sigma_w2, depth, ensemble)
    slopes = activations.get(activation).derivative(np.array([-1.0, 0.0, 1.0]))
    largest = float(np.max(slopes**2))
    if not law.has_density:
        return math.exp(0.5 * depth * (law.log_sigma_w2 + math.log(largest)))

    def log_z(x: float) -> float:
        w = np.array([largest * (1.0 + math.exp(x))], dtype=np.complex128)
        return float(law.log_z(w)[1][0].real)

    found = scipy.optimize.minimize_scalar(log_z, bounds=_EDGE_RANGE, method="bounded")
    return math.exp(0.5 * float(found.fun))


def _product(
    activation: ActivationLike, q: float, sigma_w2: float, depth: int, ensemble: Ensemble
) -> _Product:
    if ensemble not in ("gaussian", "orthogonal"):
        raise ValueError(f"unknown ensemble {ensemble!r}; known are gaussian, orthogonal")
    at_least(1, depth=depth)
    positive(sigma_w2=sigma_w2, q=q)
    squares, probabilities = _squared_slopes(activations.get(activation), q)
    orthogonal = ensemble == "orthogonal"
    return _Product(squares, probabilities, math.log(sigma_w2), depth, orthogonal)


def _squared_slopes(phi: Activation, q: float) -> tuple[ComplexArray, ComplexArray]:
    """Return values of ``d`` that are not 0, and weights, with which ``E[f(d)]`` is a sum.

    Of homogeneous functions these are the two slopes. Of tanh and sigmoid the integral over ``z``
    runs along ``x exp(i t)`` instead of x, ``x > 0``: the function is even and ``d`` falls with x,
    so that for w in the upper half plane the pole of ``d / (w - d)`` is below the real axis, and
    the sum is good even if w is next to it.
    """
    if phi.homogeneous:
        slopes = phi.derivative(np.array([-1.0, 1.0])) ** 2
        squares, places = np.unique(slopes, return_inverse=True)
        probabilities = np.bincount(places) / len(slopes)
        positive = squares > 0.0
        return (
            squares[positive].astype(np.complex128),
            probabilities[positive].astype(np.complex128),
        )
    if phi.name not in _SECH_SLOPES:
        known = ", ".join(_SECH_SLOPES)
        raise ValueError(f"only known for homogeneous functions, {known}; got {phi.name}")
    height, rate = _SECH_SLOPES[phi.name]
    rate *= math.sqrt(q)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(_PANELS)[:, None]
    x = (_PANELS[:-1, None] + half * (nodes + 1.0)).ravel()
    # d is negative where the imaginary part of rate z is pi / 4
    angle = min(_LARGEST_ANGLE, math.atan(0.25 * math.pi / (_NEGLIGIBLE * rate)))
    z: ComplexArray = np.exp(1j * angle) * x.astype(np.complex128)
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    probabilities = 2.0 * density * np.exp(1j * angle) * (half * weights).ravel()
    decay = np.exp(-rate * z)  # 1 / cosh without overflow
    return np.asarray(height**2 * (2.0 * decay / (1.0 + decay**2)) ** 4), np.asarray(probabilities)


def _follow(law: _Product, log_squares: FloatArray) -> ComplexArray:
    """Return ``m`` at ``z = s**2 + i0``; NaN where Newton's method did not converge."""
    with np.errstate(all="ignore"):  # far below the bulk m is -1 within rounding
        w = _start(law, log_squares)
        for part in np.linspace(1.0, 0.0, _ROTATIONS + 1)[1:]:
            # small angles in small steps: the edges of the support are near there
            w = _newton(law, w, log_squares + 1j * math.pi * part**2)
        m, value, _ = law.log_z(w)
    # the image of the upper half plane under m is in the lower one
    good = (np.abs(_wrapped(value - log_squares)) <= _ACCEPTED) & (m.imag <= _ACCEPTED)
    return np.where(good, m, np.nan)


def _start(law: _Product, log_squares: FloatArray) -> ComplexArray:
    """Return w next to the ``w < 0`` with ``z(w) = -s**2``, by bisection: ``|z|`` grows with it."""
    low = np.full(log_squares.shape, -_LOG_RANGE)
    high = -low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        value = law.log_z(-np.exp(middle).astype(np.complex128))[1].real
        above = value > log_squares
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray(np.exp(0.5 * (low + high) + 1j * (math.pi - _FIRST_ANGLE)))


def _newton(law: _Product, w: ComplexArray, target: ComplexArray) -> ComplexArray:
    """Solve ``ln z(w) = target``, never leaving the upper half of the plane."""
    w = w.copy()
    moving = np.arange(len(w))
    for _ in range(_NEWTON_STEPS):
        _, value, slope = law.log_z(w[moving])
        step = _wrapped(value - target[moving]) / slope
        most = _TOWARDS * w.imag[moving]  # a step that would go below the real axis is shortened
        part = np.divide(most, step.imag, where=step.imag > most, out=np.ones(len(step)))
        w[moving] -= part * step
        moving = moving[np.abs(step) > _CONVERGED * np.abs(w[moving])]
        if not len(moving):
            break
    return w


def _wrapped(difference: ComplexArray) -> ComplexArray:
    """Return a difference of logarithms with the imaginary part from -pi to pi."""
    turns = np.round(difference.imag / (2.0 * math.pi))
    return np.asarray(difference - 2j * math.pi * turns, dtype=np.complex128)
