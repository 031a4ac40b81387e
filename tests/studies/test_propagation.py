"""The chapter on propagation: what its claims say of the normal law, and how often they say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from config.studies.propagation import claims as propagation
from gradprop.claims import Case
from tests.reference import make_cell


def test_distance_and_p_values_are_those_of_the_empirical_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kolmogorov's D by brute force: the largest gap at a step of the distribution function."""
    normal = stats.norm()
    quantiles = normal.ppf((np.arange(200) + 0.5) / 200)
    samples = [pd.Series(quantiles + shift) for shift in (0.0, 0.5)]
    made = [(Case(name), sample, normal) for name, sample in zip("ab", samples, strict=True)]
    monkeypatch.setattr(propagation, "_normal_samples", lambda _: made)
    tables: Any = None
    found = propagation.normality(tables)
    steps = np.arange(201) / 200
    cdf = normal.cdf(np.sort(samples[1]))
    gap = max(np.abs(cdf - steps[1:]).max(), np.abs(cdf - steps[:-1]).max())
    assert found["normal_distance"] == pytest.approx(gap)
    assert found["normal_least_p"] < 1e-6 < 0.05 < found["normal_most_p"]


def test_a_start_that_is_another_one_scaled_is_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 6)))
    made = [
        (make_cell(initializer="glorot_normal", width=8), growth - np.log(2)),
        (make_cell(initializer="he_normal", width=8), growth),
    ]
    monkeypatch.setattr(propagation, "_growth_of_single_examples", lambda *_: made)
    tables: Any = None
    (found,) = propagation._typical_rate(tables)
    assert "he_normal" in str(found.case)
    assert found.measured == pytest.approx(growth.to_numpy().mean())


def test_the_slope_of_the_dashed_line_is_that_of_the_theory_of_the_figure() -> None:
    """A rectifier's mean square has no length to settle: its line is straight from the start."""
    doubled = {"name": "variance_scaling", "scale": 4.0}
    cell = make_cell(dataset="digits", activation="relu", depth=40, width=64, initializer=doubled,
                     use_bias=False)  # fmt: skip
    assert propagation._dashed_slope(cell) == pytest.approx(np.log(2), rel=0.03)
    assert propagation._signal_slope(cell) == pytest.approx(np.log(2))
