"""Criteria: when evidence supports a claim."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Protocol

from gradprop import errors
from gradprop.claims.evidence import Evidence


class Criterion(Protocol):
    """When the evidence supports a claim."""

    @property
    def text(self) -> str:
        """The criterion in words."""

    def accepted(self, predicted: float) -> tuple[float, float]:
        """Return the bounds between which an interval has to lie."""

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""


@dataclass(frozen=True)
class Within:
    """The interval lies within a tolerance around the prediction."""

    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        for name, tolerance in vars(self).items():
            if not (_is_finite(tolerance) and tolerance >= 0):
                problem = f"{errors.show(tolerance)} is not allowed; allowed: 0 and more"
                raise ValueError(f"Within: {name}: {problem}")

    @property
    def text(self) -> str:
        """The criterion in words."""
        parts = [f"{self.absolute:g}"] if self.absolute else []
        parts += [f"{100 * self.relative:g} % of it"] if self.relative else []
        if not parts:
            return "equal to the prediction"
        return f"interval within ± {' or '.join(parts)} of the prediction"

    def accepted(self, predicted: float) -> tuple[float, float]:
        """Return the bounds between which an interval has to lie."""
        tolerance = max(self.absolute, self.relative * abs(predicted))
        return predicted - tolerance, predicted + tolerance

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        low, high = self.accepted(evidence.predicted)
        return low <= evidence.low and evidence.high <= high


@dataclass(frozen=True)
class Above:
    """The whole interval lies above a bound."""

    bound: float

    def __post_init__(self) -> None:
        _check_bounds(self)

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval above {self.bound:g}"

    def accepted(self, predicted: float) -> tuple[float, float]:
        """Return the bounds between which an interval has to lie."""
        return self.bound, math.inf

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return evidence.low > self.bound


@dataclass(frozen=True)
class Below:
    """The whole interval lies below a bound."""

    bound: float

    def __post_init__(self) -> None:
        _check_bounds(self)

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval below {self.bound:g}"

    def accepted(self, predicted: float) -> tuple[float, float]:
        """Return the bounds between which an interval has to lie."""
        return -math.inf, self.bound

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return evidence.high < self.bound


@dataclass(frozen=True)
class Between:
    """The whole interval lies between two bounds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self)
        if self.low >= self.high:
            raise ValueError(f"Between: nothing lies between {self.low:g} and {self.high:g}")

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval between {self.low:g} and {self.high:g}"

    def accepted(self, predicted: float) -> tuple[float, float]:
        """Return the bounds between which an interval has to lie."""
        return self.low, self.high

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return self.low < evidence.low and evidence.high < self.high


def _check_bounds(criterion: Above | Below | Between) -> None:
    for name, bound in vars(criterion).items():
        if not _is_finite(bound):
            problem = f"{errors.show(bound)} is not allowed; allowed: a finite number"
            raise ValueError(f"{type(criterion).__name__}: {name}: {problem}")


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)
