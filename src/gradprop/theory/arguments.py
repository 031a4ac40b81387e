"""Checks of the arguments of this package: one clear line for what no formula can take.

Every check passes what is right and fails on all else, so that NaN fails, too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def finite(**values: npt.ArrayLike) -> None:
    """Raise ValueError unless all values are finite."""
    for name, value in values.items():
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} must be finite, got {_shown(value)}")


def not_negative(**values: npt.ArrayLike) -> None:
    """Raise ValueError unless all values are finite and not negative."""
    for name, value in values.items():
        if not _within(value, 0.0):
            raise ValueError(f"{name} must be finite and not negative, got {_shown(value)}")


def positive(**values: npt.ArrayLike) -> None:
    """Raise ValueError unless all values are finite and positive."""
    for name, value in values.items():
        if not _within(value, math.ulp(0.0)):
            raise ValueError(f"{name} must be positive and finite, got {_shown(value)}")


def at_least(least: int, **counts: npt.ArrayLike) -> None:
    """Raise ValueError unless all counts are finite and at least `least`."""
    for name, count in counts.items():
        if not _within(count, least):
            raise ValueError(f"{name} must be at least {least}, got {_shown(count)}")


def valid_correlation(c: npt.ArrayLike) -> None:
    """Raise ValueError unless all correlations are within [-1, 1]."""
    if not np.all(np.abs(c) <= 1.0):
        raise ValueError(f"a correlation must be within [-1, 1], got {_shown(c)}")


def _shown(value: npt.ArrayLike) -> str:
    return str(np.asarray(value).tolist())


def _within(value: Any, least: float) -> bool:
    """Whether all entries are finite and at least `least`."""
    if isinstance(value, float):  # the most frequent, and quicker without NumPy
        return bool(least <= value < math.inf)
    array = np.asarray(value, dtype=np.float64)
    return bool(np.all((array >= least) & (array < math.inf)))
