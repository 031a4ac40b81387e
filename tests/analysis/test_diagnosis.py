"""Diagnoses against cases worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradprop.analysis import diagnosis
from gradprop.spec import Component
from tests.hand_made import changed, repeated, signals_of

LENGTH = "preactivation_log10_mean_square"
SIGNAL = "signal_log10_rms"


def ramp(depth: int, per_layer: float) -> list[float]:
    """Return a signal that changes by `per_layer` decades per layer towards the input."""
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
    (row,) = diagnosis.diagnoses(signals_of([signal])).to_dict("records")
    assert row["diagnosis"] == expected
    assert row["decades"] == pytest.approx(decades, nan_ok=True)


def test_the_interval_is_over_the_seeds_of_a_group() -> None:
    found = signals_of([ramp(6, slope) for slope in (-0.1, -0.2, -0.4, 3.0)])
    found.cells["initializer"] = ["x", "x", "x", "y"]
    table = diagnosis.diagnoses(found)
    assert table["slope"].tolist() == pytest.approx([-0.1, -0.2, -0.4, 3.0])
    interval = stats.ttest_1samp([-0.1, -0.2, -0.4], 0).confidence_interval(0.95)
    bounds = table[["mean_slope", "slope_low", "slope_high"]].to_numpy()
    assert bounds[:3] == pytest.approx(np.array([[-0.7 / 3, interval.low, interval.high]] * 3))
    assert table["seeds"].tolist() == [3, 3, 3, 1]
    assert np.isnan(bounds[3, 1:]).all()


def test_groups_do_not_depend_on_results() -> None:
    """Columns after the status are measured: two seeds never share them."""
    found = signals_of([ramp(4, -1), ramp(4, -2)])
    found.cells["final_test_loss"] = [0.1, np.nan]
    assert diagnosis.diagnoses(found)["seeds"].tolist() == [2, 2]


# --------------------------------------------------------------------- not finite, and since when


@pytest.mark.parametrize(
    ("changes", "loss", "place"),
    [
        # A forward overflow: what ReLU' makes of NaN is a signal of 0, which is not dead.
        ({2: {LENGTH: np.inf}, 3: {LENGTH: np.nan, SIGNAL: -np.inf}}, np.nan, ("forward", 2)),
        ({4: {LENGTH: np.nan}}, np.nan, ("forward", 4)),  # of the outputs alone
        ({}, np.inf, ("loss", 4)),  # of finite outputs: their squares overflow
        ({3: {SIGNAL: np.inf}, 2: {SIGNAL: np.nan}}, 1.0, ("backward", 3)),
        ({1: {"gradient_log10_norm": np.inf}}, 1.0, ("backward", 1)),
        ({3: {"weight_log10_norm": np.nan, LENGTH: np.nan}}, np.nan, ("update", 3)),
    ],
)
def test_the_pass_and_the_layer_in_which_a_network_diverged(
    changes: dict[int, dict[str, float]], loss: float, place: tuple[str, int]
) -> None:
    """At the second of three probes; the third, where everything is lost, says the same."""
    found = signals_of([ramp(3, -2)])
    repeated(found, [5, 9])
    for layer, values in changes.items():
        changed(found, layer, values, step=5)
    for layer in (1, 2, 3, 4):
        changed(found, layer, dict.fromkeys((SIGNAL, LENGTH), np.nan), step=9)
    found.steps["train_loss"] = [1.0, loss, np.nan]
    table = diagnosis.diagnoses(found)
    assert table["diagnosis"].tolist() == ["vanishing", "diverged", "diverged"]
    began = table[["diverged_at", "diverged_in", "diverged_layer"]]
    assert began[:1].isna().all(axis=None)
    assert [tuple(row) for row in began[1:].to_numpy()] == [(5, *place)] * 2


def test_a_network_that_diverged_between_probes() -> None:
    """The table of cells knows the step; no probe saw the pass."""
    found = signals_of([ramp(3, -1)])
    repeated(found, [9])
    for layer in (1, 2, 3, 4):
        changed(found, layer, {LENGTH: np.nan}, step=9)
    found.cells = found.cells.assign(first_bad_step=7, first_bad_layer=2)
    table = diagnosis.diagnoses(found)
    assert table["diverged_at"].isna().tolist() == [True, False]
    last = table.iloc[1]
    assert tuple(last[["diverged_at", "diverged_in", "diverged_layer"]]) == (7, "between probes", 2)


def test_networks_without_hidden_layers_diverge_too() -> None:
    found = signals_of([[], []])
    found.steps["train_loss"] = [1.0, np.inf]
    assert diagnosis.diagnoses(found)["diagnosis"].tolist() == ["stable", "diverged"]


# ------------------------------------------------------------------------------- the other pass


@pytest.mark.parametrize(
    ("lengths", "decades", "expected"),
    [
        (ramp(9, -0.41), 8 * 0.41, "exploding"),  # nine wide ReLU layers from N(0, 0.1^2)
        (ramp(9, -0.2), 1.6, "stable"),
        (ramp(9, 0.3), -2.4, "vanishing"),
        ([1.0, -np.inf, -np.inf], np.nan, "dead"),
        ([*(-8.0 * k for k in range(10)), -np.inf], 10 * -8, "vanishing"),  # below float32
        ([0.0, np.nan, np.nan], np.nan, "diverged"),
        ([5.0], 0.0, "stable"),
    ],
)
def test_lengths_by_hand(lengths: list[float], decades: float, expected: str) -> None:
    found = signals_of([[0.0] * len(lengths)])
    for layer, value in enumerate(lengths, start=1):
        changed(found, layer, {LENGTH: value})
    (row,) = diagnosis.diagnoses(found).to_dict("records")
    assert row["length"] == expected
    assert row["length_decades"] == pytest.approx(decades, nan_ok=True)


# ------------------------------------------------------------------------------------ rounding


@pytest.mark.parametrize(
    ("weight", "outputs", "changes", "expected"),
    [
        # 2 u n norm(W) RMS / sqrt(m), n = 10 and m = 8, times the slope of relu: 10^-6.4.
        (0.0, 0.0, {"activation": Component("relu")}, ["stable", "stable", "rounding"]),
        (-1.0, 2.0, {"activation": Component("relu")}, ["stable", "rounding", "rounding"]),
        (
            -1.0,
            -15.0,
            {"activation": Component("relu")},
            ["stable", "stable", "stable"],
        ),  # small, but real
        (0.0, 0.0, {"activation": Component("relu"), "residual": "rezero"}, ["stable"] * 3),
        (-np.inf, 0.0, {"activation": Component("relu")}, ["stable"] * 3),
    ],
)
def test_a_signal_that_is_no_more_than_rounding(
    weight: float, outputs: float, changes: dict[str, Any], expected: list[str]
) -> None:
    found = signals_of([[value] * 2 for value in (-5.0, -6.0, -7.0)], **changes)
    changed(found, 3, {"weight_log10_norm": weight, SIGNAL: outputs})
    assert diagnosis.diagnoses(found)["diagnosis"].tolist() == expected
    del found.layers["weight_log10_norm"]
    assert diagnosis.diagnoses(found)["diagnosis"].tolist() == ["stable"] * 3


@pytest.mark.parametrize(("length", "expected"), [(0.0, "rounding"), (3.0, "stable")])
def test_a_saturated_layer_is_small_and_not_rounding(length: float, expected: str) -> None:
    """tanh'(30) is 3.5e-26: what falls below the error of dC/dh there may be all real."""
    found = signals_of([[-8.0, -8.0]])
    changed(found, 3, {SIGNAL: 0.0})
    changed(found, 2, {LENGTH: length})
    assert diagnosis.diagnoses(found)["diagnosis"].tolist() == [expected]


# ---------------------------------------------------------------------------------- thresholds


def test_thresholds_of_a_study() -> None:
    signals = [ramp(4, -1), ramp(4, 0.5)]
    assert diagnosis.diagnoses(signals_of(signals))["diagnosis"].tolist() == [
        "vanishing",
        "stable",
    ]
    chosen = {"vanishing": 1e-4, "exploding": 20, "length": 2}
    found = signals_of(signals, chosen)
    for layer in (1, 2, 3, 4):
        changed(found, layer, {LENGTH: layer * 0.15})
    table = diagnosis.diagnoses(found)
    assert table["diagnosis"].tolist() == ["stable", "exploding"]
    assert table["length"].tolist() == ["exploding"] * 2  # by 10^0.45 > 2
    above = signals_of(signals, {"first_layer": 1e-4})
    assert diagnosis.diagnoses(above)["diagnosis"].tolist() == ["stable", "stable"]


@pytest.mark.parametrize(
    ("first", "outputs", "expected"),
    [
        (-4.1, -1.0, "vanishing"),
        (-4.1, -1.2, "stable"),  # a ratio of 10^-2.9
        (-3.9, 0.0, "stable"),  # the first layer's norm is not below 1e-4
        (1.8, 0.0, "stable"),
        (1.9, 0.0, "exploding"),  # 10^1.85 = 70
    ],
)
def test_thresholds_of_autotrainer(first: float, outputs: float, expected: str) -> None:
    """The norms of dC/dW of the first and of the output layer; not the signal in between."""
    found = signals_of([ramp(9, -3)], "autotrainer")
    changed(found, 1, {"gradient_log10_norm": first})
    changed(found, 10, {"gradient_log10_norm": outputs})
    (row,) = diagnosis.diagnoses(found).to_dict("records")
    assert (row["diagnosis"], row["slope"]) == (expected, pytest.approx(-3))
    assert row["decades"] == pytest.approx(first - outputs)


# -------------------------------------------------------------------------------------- tables


def test_counts() -> None:
    found = signals_of([ramp(9, -1), ramp(9, 0), ramp(4, 1)])
    repeated(found, [5])
    ids = found.cells["cell"]
    later = found.layers["step"] == 5
    found.layers.loc[later & (found.layers["cell"] == ids[1]), SIGNAL] = np.nan
    found.layers = found.layers[~later | (found.layers["cell"] != ids[2])]
    changed(found, 1, {LENGTH: 40.0}, step=5)
    table = diagnosis.counts(found.cells, diagnosis.diagnoses(found), ["depth"])
    lengths = ("length_vanishing", "length_exploding")
    assert tuple(table.columns) == ("depth", "probe", *diagnosis.DIAGNOSES, *lengths)
    assert sorted(table.itertuples(index=False, name=None)) == [
        (4, "start", 0, 0, 1, 0, 0, 0, 0, 0),
        (9, "end", 1, 0, 0, 0, 0, 1, 2, 0),
        (9, "start", 1, 1, 0, 0, 0, 0, 0, 0),
    ]


def test_files(tmp_path: Path) -> None:
    """They can be read again and divided by parameters, also where nothing was found."""
    found = signals_of([ramp(9, -1), [np.nan] * 3], initializer=Component("zeros"))
    diagnosis.write(found, tmp_path / "s.json")
    table = pd.read_csv(tmp_path / "s-diagnoses.csv")
    assert table["diagnosis"].tolist() == ["vanishing", "diverged"]
    assert table["slope"].tolist() == pytest.approx([-1, np.nan], nan_ok=True)
    assert table["diverged_layer"].tolist() == pytest.approx([np.nan, 3], nan_ok=True)
    parameters = list(found.study.cells[0].columns())
    assert list(table)[-len(parameters) :] == parameters
    assert table[["depth", "initializer"]].to_numpy().tolist() == [[9, "zeros"], [3, "zeros"]]
    assert list(pd.read_csv(tmp_path / "s-alarms.csv")) == [
        "cell", "alarm", "step", "layer", "value", *parameters,
    ]  # fmt: skip
