"""Slopes, intervals and quartiles against scipy and NumPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradprop.analysis import estimates


def layers_table(values: dict[str, list[float]]) -> pd.DataFrame:
    """Return a table with one probe per cell and one value per layer."""
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


def quartiles_of(values: list[float], name: str, lost: list[bool]) -> pd.Series[float]:
    rows = pd.DataFrame({"group": 0, name: values})
    return estimates.quartiles(rows, ["group"], name, pd.Series(lost)).iloc[0]


def test_quartiles_count_networks_and_rank_what_is_not_finite() -> None:
    """A zero is the smallest magnitude, a diverged network the largest."""
    values = [1.0, 2.0, 3.0, -np.inf, np.nan, np.nan, -np.inf]
    lost = [False] * 4 + [True, False, True]  # a zero after divergence is no zero
    found = quartiles_of(values, "signal_log10_rms", lost)
    ranked = [-np.inf, 1.0, 2.0, 3.0, np.inf, np.inf]
    expected = [np.quantile(ranked, q, method="inverted_cdf") for q in (0.25, 0.75)]
    assert found["median"] == 2.5
    assert [found["low"], found["high"]] == [1.25, np.inf] != expected
    counts = found[["networks", "finite", "zero", "diverged", "missing"]]
    assert counts.tolist() == [7, 3, 1, 2, 1]


def test_quartiles_of_finite_values_are_those_of_numpy() -> None:
    values = np.random.default_rng(3).normal(size=(4, 9))
    rows = pd.DataFrame({"group": np.repeat(np.arange(4), 9), "value": values.ravel()})
    table = estimates.quartiles(rows, ["group"], "value", pd.Series(False, index=rows.index))
    expected = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
    np.testing.assert_allclose(table[["low", "median", "high"]].T, expected, rtol=1e-14)
    assert (table[["networks", "finite"]] == 9).all(axis=None)


def test_the_median_of_mostly_dead_networks_is_zero() -> None:
    found = quartiles_of(
        [*np.linspace(0, 1, 15), *[-np.inf] * 185], "signal_log10_rms", [False] * 200
    )
    assert found["median"] == -np.inf
    assert found[["networks", "finite", "zero"]].tolist() == [200, 15, 185]


@pytest.mark.parametrize(
    ("name", "median"),
    [("test_loss", 5.0), ("test_accuracy", 3.0), ("test_error", 3.0), ("activation_mean", 4.0)],
)
def test_diverged_networks_are_the_worst(name: str, median: float) -> None:
    """Of seven, two diverged: they move medians of what has an order."""
    found = quartiles_of([2.0, 3.0, 4.0, 5.0, 6.0, np.nan, np.nan], name, [False] * 5 + [True] * 2)
    assert found["median"] == median


def test_means_are_those_of_most_networks_or_none() -> None:
    values = [1.0, 2.0, np.nan, 4.0, -np.inf, np.nan]
    rows = pd.DataFrame({"group": [0, 0, 0, 1, 1, 1], "value": values})
    table = estimates.means(rows, ["group"], "value", pd.Series([False] * 5 + [True]))
    np.testing.assert_array_equal(table["mean"], [1.5, np.nan])
    counts = table[["networks", "finite", "zero", "diverged", "missing"]]
    assert counts.to_numpy().tolist() == [[3, 2, 0, 0, 1], [3, 1, 1, 1, 0]]


@pytest.mark.parametrize("name", ["test_loss", "test_accuracy", "activation_mean"])
def test_there_is_no_median_where_most_networks_are_lost(name: str) -> None:
    lost = [False] * 3 + [True] * 9
    assert np.isnan(quartiles_of([0.1, 0.2, 0.3, *[np.nan] * 9], name, lost)["median"])
    for values in ([0.1, np.nan, np.nan], [np.nan]):  # not trained
        assert np.isnan(quartiles_of(values, name, [False] * len(values))["median"])


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


def test_scaled_copies_of_an_experiment_are_told_from_others() -> None:
    random = np.random.default_rng(0)
    first, other = random.normal(size=(2, 20))
    rounded = (first + 3).astype(np.float32)
    assert estimates.same_experiment(first, rounded)
    assert not estimates.same_experiment(first, 1.01 * first)
    assert not estimates.same_experiment(first, other)
    assert not estimates.same_experiment(first, first[:-1])
    assert not estimates.same_experiment([1.0], [2.0])
    assert not estimates.same_experiment([1.0, np.nan], [1.0, np.nan])
