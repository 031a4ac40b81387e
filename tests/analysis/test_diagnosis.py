"""Verdicts and alarms against cases worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradprop.analysis import diagnosis


def study(signals: dict[str, list[float]], **columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tables of cells and layers: a signal for every hidden layer, an output layer."""
    cells = pd.DataFrame(
        [
            {
                "cell": cell,
                "depth": len(row),
                "activation": "tanh",
                "learning_rate": 0.1,
                "epochs": 1,
                "seed": number,
                "status": "ok",
            }
            for number, (cell, row) in enumerate(signals.items())
        ]
    ).assign(**columns)
    layers = pd.DataFrame(
        [
            {"cell": cell, "step": 0, "layer": layer, "signal_log10_rms": value}
            for cell, row in signals.items()
            for layer, value in enumerate([*row, 50.0], start=1)
        ]
    )
    return cells, layers


def ramp(depth: int, per_layer: float) -> list[float]:
    """Return a signal that changes by `per_layer` decades a layer towards the input."""
    return [per_layer * (depth - layer) for layer in range(1, depth + 1)]


@pytest.mark.parametrize(
    ("signal", "decades", "expected"),
    [
        (ramp(50, -0.1), -4.9, "vanishing"),
        (ramp(5, -0.1), -0.4, "stable"),  # the same slope
        (ramp(5, -0.49), -1.96, "stable"),
        (ramp(5, -0.51), -2.04, "vanishing"),
        (ramp(5, 0.51), 2.04, "exploding"),
        (ramp(30, 0.05), 1.45, "stable"),
        ([-20.0] * 8, 0.0, "stable"),  # small alike in all layers
        ([-3.0], 0.0, "stable"),
        ([], 0.0, "stable"),
        ([-np.inf, -np.inf, -3, -3], 0.0, "dead"),
        ([-np.inf] * 4, np.nan, "dead"),
        ([-np.inf], 0.0, "dead"),
        ([-np.inf, -np.inf, *ramp(9, -4)], 4 * -10, "vanishing"),  # below float32, not dead
        ([-np.inf, -np.inf, *ramp(9, -3)], 3 * -10, "dead"),
        ([-np.inf, -36.0], np.nan, "dead"),  # nothing tells that it fell
        ([np.nan, 2.0, 1.0], -1.0 * -2, "diverged"),
        ([np.inf, -np.inf, 1.0], np.nan, "diverged"),
        ([np.nan], 0.0, "diverged"),
    ],
)
def test_diagnoses_by_hand(signal: list[float], decades: float, expected: str) -> None:
    (row,) = diagnosis.diagnoses(*study({"a": signal})).to_dict("records")
    assert row["diagnosis"] == expected
    assert row["decades"] == pytest.approx(decades, nan_ok=True)


def test_the_interval_is_over_the_seeds_of_a_group() -> None:
    slopes = {"a": -0.1, "b": -0.2, "c": -0.4, "d": 3.0}
    cells, layers = study({cell: ramp(6, slope) for cell, slope in slopes.items()})
    cells["initializer"] = ["x", "x", "x", "y"]
    cells = cells[["cell", "initializer", *(c for c in cells if c not in ("cell", "initializer"))]]
    table = diagnosis.diagnoses(cells, layers).set_index("cell")
    assert table["slope"].to_dict() == pytest.approx(slopes)
    interval = stats.ttest_1samp([-0.1, -0.2, -0.4], 0).confidence_interval(0.95)
    found = table[["mean_slope", "slope_low", "slope_high"]].to_numpy()
    assert found[:3] == pytest.approx(np.array([[-0.7 / 3, interval.low, interval.high]] * 3))
    assert table["seeds"].tolist() == [3, 3, 3, 1]
    assert np.isnan(found[3, 1:]).all()


def test_groups_do_not_depend_on_results() -> None:
    """Columns after the status are measured: two seeds never share them."""
    cells, layers = study({"a": ramp(4, -1), "b": ramp(4, -2)})
    cells["final_test_loss"] = [0.1, np.nan]
    assert diagnosis.diagnoses(cells, layers)["seeds"].tolist() == [2, 2]


def alarm_rows(**columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two probes of a cell with three hidden layers; values by probe and layer."""
    cells, _ = study({"a": [0.0] * 3})
    places = [(step, layer) for step in (0, 7) for layer in (1, 2, 3, 4)]
    layers = pd.DataFrame(places, columns=["step", "layer"]).assign(cell="a", **columns)
    return cells, layers


FINE = [0.0] * 4


@pytest.mark.parametrize(
    ("statistic", "values", "found"),
    [
        ("log10_update_ratio", [-3, -3, -4, -2, -3, -3, -3, -3], []),
        ("log10_update_ratio", [-3, -3, -3, -3, -3, -5, -4.1, -3], [("small_updates", 7, 2, -5)]),
        ("log10_update_ratio", [-3, -3, -3, -1, -1, -3, -3, -3], [("large_updates", 0, 4, -1)]),
        ("log10_update_ratio", [-np.inf, np.nan, np.inf, *[-3] * 5],
         [("small_updates", 0, 1, -np.inf), ("large_updates", 0, 3, np.inf)]),
        ("dead_fraction", [0.5, 0.5, 0.5, 1, 0, 0, 0.51, 1], [("dead_units", 7, 3, 0.51)]),
        ("saturated_fraction", [0, 0.6, 0.7, 0, *FINE], [("saturated_units", 0, 2, 0.6)]),
        ("activation_std", [1, 0.5, 0.11, 9000, 1, 1, 9.9, 9000], []),
        ("activation_std", [1, 0.5, 0.01, 1, 1, 1, 1, 1], [("variance_ratio", 0, 3, -4)]),
        ("activation_std", [0.01, 1, 1, 1, 1, 1, 1, 1], [("variance_ratio", 0, 2, 4)]),
        ("activation_std", [1, 0, 1, 1, *[1] * 4], [("variance_ratio", 0, 2, -np.inf)]),
        ("activation_std", [0, 0, 0, 0, *[np.nan] * 4], []),
    ],
)  # fmt: skip
def test_alarms_by_hand(
    statistic: str, values: list[float], found: list[tuple[str, int, int, float]]
) -> None:
    rows = diagnosis.alarms(*alarm_rows(**{statistic: np.array(values, float)}))
    columns = rows[["alarm", "step", "layer", "value"]]
    assert [tuple(row) for row in columns.to_numpy()] == [pytest.approx(row) for row in found]
    assert (rows["cell"] == "a").all()


def test_rectifiers_may_be_flat_for_half_of_the_examples() -> None:
    cells, layers = alarm_rows(saturated_fraction=0.6)
    assert len(diagnosis.alarms(cells, layers)) == 1
    assert diagnosis.alarms(cells.assign(activation="relu"), layers).empty


@pytest.mark.parametrize("untrained", [{"epochs": 0}, {"learning_rate": 0.0}])
def test_networks_that_are_not_trained_have_no_updates(untrained: dict[str, float]) -> None:
    cells, layers = alarm_rows(log10_update_ratio=-9.0)
    assert len(diagnosis.alarms(cells, layers)) == 1
    assert diagnosis.alarms(cells.assign(**untrained), layers).empty


def test_counts() -> None:
    cells, layers = study({"a": ramp(9, -1), "b": ramp(9, 0), "c": ramp(4, 1)})
    after = layers.assign(step=5)
    after.loc[after["cell"] == "b", "signal_log10_rms"] = np.nan
    both = pd.concat([layers, after[after["cell"] != "c"]])
    judged = diagnosis.diagnoses(cells, both)
    table = diagnosis.counts(cells, judged, ["depth"])
    assert tuple(table.columns) == ("depth", "probe", *diagnosis.DIAGNOSES)
    assert sorted(table.itertuples(index=False, name=None)) == [
        (4, "start", 0, 0, 1, 0, 0),
        (9, "end", 1, 0, 0, 0, 1),
        (9, "start", 1, 1, 0, 0, 0),
    ]


def test_files(tmp_path: Path) -> None:
    """They can be read again, also where nothing was found."""
    cells, layers = study({"a": ramp(9, -1), "b": [np.nan] * 3})
    diagnosis.write(cells, layers, tmp_path / "s.json")
    found = pd.read_csv(tmp_path / "s-diagnoses.csv")
    assert found["diagnosis"].tolist() == ["vanishing", "diverged"]
    assert found["slope"].tolist() == pytest.approx([-1, np.nan], nan_ok=True)
    assert list(pd.read_csv(tmp_path / "s-alarms.csv")) == [
        "cell", "alarm", "step", "layer", "value",
    ]  # fmt: skip
