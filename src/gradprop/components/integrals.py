"""Gaussian integrals of activation functions that quadrature cannot reach, in closed form.

The rules of `gradprop.theory.gaussian` are for functions that bend around 0 and are lines, or
constant, far from it. A sine bends everywhere, and the square of an exponential has its weight
where a normal density has none.

Everywhere ``u ~ N(0, q)``; ``u_a`` and ``u_b`` have the variances ``q_a`` and ``q_b`` and the
correlation ``c``. The derivative of order 0 is the function itself. Values are dimensionless.

Sources: the moment generating and the characteristic function of the normal distribution,
``E[exp(t u)] = exp(t^2 q / 2)`` and ``E[cos(t u)] = exp(-t^2 q / 2)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

_LIMIT: Final = 9.5  # in standard deviations: the normal density there is 1e-20
_NODES: Final = 401  # of the trapezoidal rule over (-_LIMIT, _LIMIT)
_LARGEST_EXPONENT: Final = 709.0


def exp_or_inf(x: float) -> float:
    """Return ``exp(x)``, infinity where it would overflow."""
    return math.exp(x) if x < _LARGEST_EXPONENT else math.inf


class GaussianIntegrals(Protocol):
    """What theory needs of an activation function ``phi`` under normal distributions."""

    def mean(self, q: float) -> float:
        """Return ``E[phi(u)]``."""

    def moment(self, order: int, power: int, q: float) -> float:
        """Return ``E[f(u)^power]``, `f` the derivative of that order; `power` is even."""

    def log_moment(self, order: int, power: int, q: float) -> float:
        """Return the natural logarithm of `moment`, also where that would overflow."""

    def product(self, order: int, q_a: float, q_b: float, c: float) -> float:
        """Return ``E[f(u_a) f(u_b)]``, `f` the derivative of that order."""

    def square_slope(self, q: float) -> float:
        """Return ``d E[phi(u)^2] / dq``."""

    def slope_square_agreement(self, q: float, c: float) -> float:
        """Return ``E[phi'(u_a)^2 phi'(u_b)^2] / E[phi'(u)^2]^2`` for equal variances."""

    def far_correlation(self) -> float:
        """Return the limit of ``E[phi(u_a) phi(u_b)] / E[phi(u)^2]``, c < 1, as q grows."""

    def far_slope_square(self) -> float:
        """Return the limit of ``E[phi'(u)^2]`` as q grows."""


@dataclass(frozen=True)
class ExponentialIntegrals:
    """Of ``phi = exp``, which is its own derivative: ``E[exp(k u)] = exp(k^2 q / 2)``.

    Infinite where a value would overflow.
    """

    def mean(self, q: float) -> float:
        """Return ``exp(q / 2)``."""
        return exp_or_inf(0.5 * q)

    def moment(self, order: int, power: int, q: float) -> float:
        """Return ``exp(power^2 q / 2)``."""
        return exp_or_inf(self.log_moment(order, power, q))

    def log_moment(self, order: int, power: int, q: float) -> float:
        """Return ``power^2 q / 2``."""
        return 0.5 * power**2 * q

    def product(self, order: int, q_a: float, q_b: float, c: float) -> float:
        """Return ``exp((q_a + q_b) / 2 + c sqrt(q_a q_b))``."""
        return exp_or_inf(0.5 * (q_a + q_b) + c * math.sqrt(q_a) * math.sqrt(q_b))

    def square_slope(self, q: float) -> float:
        """Return ``2 exp(2 q)``."""
        return 2.0 * exp_or_inf(2.0 * q)

    def slope_square_agreement(self, q: float, c: float) -> float:
        """Return ``exp(4 c q)``."""
        return exp_or_inf(4.0 * c * q)

    def far_correlation(self) -> float:
        """Return 0: ``exp(-(1 - c) q)`` vanishes."""
        return 0.0

    def far_slope_square(self) -> float:
        """Return infinity."""
        return math.inf


@dataclass(frozen=True)
class SineIntegrals:
    """Of ``phi(z) = sin(omega z)``, whose derivatives are sines and cosines.

    ``E[sin(omega u)^2] = (1 - exp(-2 x)) / 2`` and ``E[cos(omega u)^2] = (1 + exp(-2 x)) / 2``
    with ``x = omega^2 q``.
    """

    omega: float

    def mean(self, q: float) -> float:
        """Return 0: a sine is odd."""
        return 0.0

    def moment(self, order: int, power: int, q: float) -> float:
        """Return a closed form of squares, and the trapezoidal rule of higher powers.

        The rule is exact to rounding, since the integrand is entire and has no frequency above
        `power` times 9.5: with a longer standard deviation, every phase is equally likely.
        """
        x, scale = self.omega**2 * q, self.omega ** (order * power)
        if power == 2:
            return (
                scale * 0.5 * (-math.expm1(-2.0 * x) if _is_sine(order) else 1 + math.exp(-2 * x))
            )
        z = np.linspace(-_LIMIT, _LIMIT, _NODES)
        weights = np.exp(-0.5 * z * z)
        phase = min(math.sqrt(x), _LIMIT) * z
        values = (np.sin(phase) if _is_sine(order) else np.cos(phase)) ** power
        return scale * float(weights @ values / weights.sum())

    def log_moment(self, order: int, power: int, q: float) -> float:
        """Return the logarithm of `moment`, minus infinity at 0."""
        moment = self.moment(order, power, q)
        return math.log(moment) if moment else -math.inf

    def product(self, order: int, q_a: float, q_b: float, c: float) -> float:
        """Return ``(E[cos(omega (u_a - u_b))] -+ E[cos(omega (u_a + u_b))]) / 2``.

        The lower sign is that of cosines.
        """
        a, b = self.omega * math.sqrt(q_a), self.omega * math.sqrt(q_b)
        apart = math.exp(-0.5 * (a - b) ** 2 - a * b * (1.0 - abs(c)))
        both = 2.0 * a * b * abs(c)
        scale = 0.5 * self.omega ** (2 * order) * apart
        if _is_sine(order):
            return -math.copysign(scale, c) * math.expm1(-both)
        return scale * (1.0 + math.exp(-both))

    def square_slope(self, q: float) -> float:
        """Return ``omega^2 exp(-2 omega^2 q)``."""
        return self.omega**2 * math.exp(-2.0 * self.omega**2 * q)

    def slope_square_agreement(self, q: float, c: float) -> float:
        """Return the ratio for ``cos^2 = (1 + cos(2 omega u)) / 2``."""
        x = self.omega**2 * q
        doubled = SineIntegrals(2.0 * self.omega).product(1, q, q, c) / (2.0 * self.omega) ** 2
        mean = math.exp(-2.0 * x)
        return (1.0 + 2.0 * mean + doubled) / (1.0 + mean) ** 2

    def far_correlation(self) -> float:
        """Return 0: all phases are equally likely."""
        return 0.0

    def far_slope_square(self) -> float:
        """Return ``omega^2 / 2``."""
        return 0.5 * self.omega**2


def _is_sine(order: int) -> bool:
    """Tell whether that derivative of a sine is one, up to its sign, and no cosine."""
    return order % 2 == 0
