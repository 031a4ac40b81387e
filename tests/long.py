"""Which cases of a test every run has, and which only `make test-all`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def long_but(short: Collection[str], cases: Iterable[str]) -> list[Any]:
    """Return the cases of a test; all but the short ones are for `make test-all`."""
    cases = list(cases)
    assert set(short) <= set(cases)
    return [case if case in short else pytest.param(case, marks=pytest.mark.long) for case in cases]
