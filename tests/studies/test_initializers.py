"""The chapter on initializers: no network is left out of a case."""

from __future__ import annotations

import math
from typing import Any

import pytest

from config.studies.initializers import claims as initializers
from gradprop.spec import Component
from tests.hand_made import signals_of


def test_a_case_of_which_some_signals_are_lost_is_not_tested() -> None:
    kept, lost = [19.0 - layer for layer in range(20)], [math.nan] * 20
    start: dict[str, Any] = {"activation": Component("relu"), "initializer": Component("normal")}
    measure = initializers._signal_decades({"relu": ("normal",)})
    some, none = measure(signals_of([kept, kept, lost], **start))
    assert (some.reason, some.networks) == ("1 of 3 values are not finite", 3)
    assert math.isnan(some.low) and none.networks == 0
    whole, _ = measure(signals_of([kept, kept, kept], **start))
    assert whole.measured == pytest.approx(19)
    assert whole.networks == 3
    gone, _ = measure(signals_of([lost, lost], **start))
    assert (gone.measured, gone.networks) == (math.inf, 2)
