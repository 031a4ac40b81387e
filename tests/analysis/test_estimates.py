"""Slopes, intervals and quartiles against scipy and NumPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradprop.analysis import estimates


def layers_table(values: dict[str, list[float]]) -> pd.DataFrame:
    """Return a table with one probe a cell and one value a layer."""
    return pd.DataFrame(
        [
            {"cell": cell, "step": 0, "layer": layer, "value": value}
            for cell, row in values.items()
            for layer, value in enumerate(row, start=1)
        ]
    )


def test_slopes_agree_with_a_regression_over_the_hidden_layers() -> None:
    rng = np.random.default_rng(1)
    rows = {"a": [*rng.normal(size=9), 99.0], "b": [*(-0.5 * np.arange(9)), -99.0]}
    slopes = estimates.layer_slopes(layers_table(rows), "value")
    expected = -stats.linregress(np.arange(1, 10), rows["a"][:-1]).slope
    assert slopes[("a", 0)] == pytest.approx(expected, rel=1e-12)
    assert slopes[("b", 0)] == pytest.approx(0.5)  # grows towards the input: positive


def test_slopes_leave_out_what_is_not_finite() -> None:
    rows = {"a": [-np.inf, 1.0, 2.0, 3.0, 0.0], "b": [-np.inf, np.nan, np.inf, 1.0, 0.0]}
    slopes = estimates.layer_slopes(layers_table(rows), "value")
    assert slopes[("a", 0)] == pytest.approx(-1.0)
    assert np.isnan(slopes[("b", 0)])


def test_mean_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).normal(3, 2, size=7)
    mean, low, high = estimates.mean_interval([*values, np.nan])
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), interval.low, interval.high))


def test_mean_interval_of_few_values() -> None:
    assert np.isnan(estimates.mean_interval([])).all()
    mean, low, high = estimates.mean_interval([4.0])
    assert mean == 4.0
    assert np.isnan([low, high]).all()


def test_quartiles_count_zeros_and_losses() -> None:
    rows = pd.DataFrame({"group": list("xxxxxyy"), "value": [1, 2, 3, -np.inf, np.nan, -np.inf, 7]})
    table = estimates.quartiles(rows, ["group"], "value").set_index("group")
    assert list(table.loc["x", ["median", "low", "high"]]) == [2, 1.5, 2.5]
    assert table["seeds"].tolist() == [3, 1]
    assert table["zero"].tolist() == [1, 1]
    assert table["lost"].tolist() == [1, 0]


def test_a_line_needs_two_places() -> None:
    assert estimates.slope([1, 2, 4], [3, 5, 9]) == pytest.approx(2)
    assert estimates.squared_residuals([1, 2, 4], [3, 5, 9]) == pytest.approx(0, abs=1e-20)
    assert estimates.squared_residuals([0, 1, 2], [0, 3, 0]) == pytest.approx(6)
    for x, y in (([1], [2]), ([1, 1], [2, 3]), ([1, 2], [2, np.inf]), ([], [])):
        assert np.isnan(estimates.slope(x, y))
        assert np.isnan(estimates.squared_residuals(x, y))


def test_a_power_law_is_told_from_an_exponential() -> None:
    layers = np.arange(1.0, 31.0)
    noise = np.random.default_rng(0).normal(0, 0.01, len(layers))
    assert estimates.power_law_advantage(layers, 2 * np.log(layers) + noise) > 1
    assert estimates.power_law_advantage(layers, -0.3 * layers + noise) < -1


def test_the_best_rate_has_the_smallest_mean_loss() -> None:
    cells = pd.DataFrame(
        [
            ("a", 0.1, 0, 1.0), ("a", 0.1, 1, 3.0), ("a", 0.3, 0, 0.1), ("a", 0.3, 1, np.inf),
            ("b", 0.1, 0, 2.0), ("b", 0.3, 0, 2.0),
        ],
        columns=["start", "learning_rate", "seed", "loss"],
    )  # fmt: skip
    chosen = estimates.at_smallest_loss(cells, ["start"])
    assert chosen["learning_rate"].tolist() == [0.1, 0.1, 0.1]  # a tie goes to the smaller
    assert chosen["start"].tolist() == ["a", "a", "b"]
