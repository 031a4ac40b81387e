"""Criteria: when evidence supports a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

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
