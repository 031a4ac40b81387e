"""Alarms against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop.analysis import alarms
from gradprop.components import datasets
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component
from tests.hand_made import ALIKE, with_layers

FINE = [0.0] * 4


def alarm_rows(
    columns: dict[str, Any], diagnosis: Any = "standard", **parameters: Any
) -> StudyTables:
    """Return two probes of a cell with three hidden layers; values by probe and layer."""
    cell = Cell(**{**ALIKE, **parameters}, depth=3, seed=0)
    places = [(step, layer) for step in (0, 7) for layer in (1, 2, 3, 4)]
    layers = pd.DataFrame(places, columns=["step", "layer"]).assign(cell=cell.id, **columns)
    return with_layers([cell], layers, diagnosis)


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
        # Kernels of 64 x 8, 8 x 8, 8 x 8 and 8 x 10 weights, 720 in all.
        ("gradient_zero_fraction", [1, 0, 0, 0, 1, 0, 0, 0],
         [("zero_gradients", 0, 1, 512 / 720)]),
        ("gradient_zero_fraction", [0, 1, 1, 1, 0.95, 0, 0, 0.2], []),  # 502.4 of 720
    ],
)  # fmt: skip
def test_alarms_by_hand(
    statistic: str, values: list[float], found: list[tuple[str, int, int, float]]
) -> None:
    tables = alarm_rows({statistic: np.array(values, float)})
    rows = alarms.fired(tables)
    columns = rows[["alarm", "step", "layer", "value"]]
    assert [tuple(row) for row in columns.to_numpy()] == [pytest.approx(row) for row in found]
    assert (rows["cell"] == tables.study.cells[0].id).all()


def test_rectifiers_may_be_flat_for_half_of_the_examples() -> None:
    assert len(alarms.fired(alarm_rows({"saturated_fraction": 0.6}))) == 1
    assert alarms.fired(alarm_rows({"saturated_fraction": 0.6}, activation=Component("relu"))).empty


@pytest.mark.parametrize("untrained", [{"epochs": 0}, {"learning_rate": 0.0}])
def test_networks_that_are_not_trained_have_no_updates(untrained: dict[str, float]) -> None:
    assert len(alarms.fired(alarm_rows({"log10_update_ratio": -9.0}))) == 1
    assert alarms.fired(alarm_rows({"log10_update_ratio": -9.0}, **untrained)).empty


DIGITS = datasets.generate(Component("digits"))
TEACHER = Component("linear_teacher")


@pytest.mark.parametrize(
    ("parameters", "guessed"),
    [
        ({}, math.log(10)),
        ({"dataset": Component("gaussian_mixture", (("classes", 3),))}, math.log(3)),
        ({"dataset": Component("circles"), "loss": "binary_cross_entropy"}, math.log(2)),
        ({"loss": "mean_squared_error"}, np.var(np.eye(10)[DIGITS.y_train], axis=0).mean()),
        ({"dataset": TEACHER}, np.var(datasets.generate(TEACHER).y_train, axis=0).mean()),
    ],
)
def test_a_loss_at_the_start_that_is_far_above_that_of_guessing(
    parameters: dict[str, Any], guessed: float
) -> None:
    """Of the last layer, once, and at the start: at step 7 the loss is even larger."""
    found = alarm_rows({}, **parameters)
    found.steps["train_loss"] = [2.9 * guessed, 90.0]
    assert alarms.fired(found).empty
    found.steps["train_loss"] = [37 * guessed, 90.0]
    (row,) = alarms.fired(found)[["alarm", "step", "layer", "value"]].to_numpy().tolist()
    assert row == ["initial_loss", 0, 4, pytest.approx(37)]


def test_a_sum_of_outputs_is_nothing_to_guess() -> None:
    found = alarm_rows({}, loss="output_sum")
    found.steps["train_loss"] = 1e9
    assert alarms.fired(found).empty


def test_a_minibatch_of_one_is_not_judged_where_one_example_tells_nothing() -> None:
    columns = {"dead_fraction": 0.9, "saturated_fraction": 0.9}
    for size, expected in ((1, ["saturated_units"]),
                           (2, ["dead_units", "saturated_units", "initial_loss"])):  # fmt: skip
        found = alarm_rows(columns, batch_size=size)
        found.steps["train_loss"] = 1e9
        assert alarms.fired(found)["alarm"].tolist() == expected
    assert alarms.not_judged(alarm_rows(columns, batch_size=2).cells) == {}
    silent = alarms.not_judged(alarm_rows(columns, batch_size=1).cells)
    assert silent == {"dead_units": 1, "initial_loss": 1}


@pytest.mark.parametrize(
    ("columns", "bounds"),
    [
        ({"log10_update_ratio": -9.0}, {"small_updates": 1e-10}),
        ({"log10_update_ratio": -1.0}, {"large_updates": 0.2}),
        ({"dead_fraction": 0.6}, {"dead_units": 0.7}),
        ({"saturated_fraction": 0.6}, {"saturated_units": 0.7}),
        ({"gradient_zero_fraction": 0.8}, {"zero_gradients": 0.9}),
        ({"activation_std": [1, 20, 1, 1, *[1] * 4]}, {"variance_ratio": 500}),
        ({}, {"initial_loss": 50}),
    ],
)
def test_every_bound_can_be_chosen(columns: dict[str, Any], bounds: dict[str, float]) -> None:
    (name,) = bounds
    for chosen, expected in (("standard", [name]), (bounds, [])):
        found = alarm_rows(columns, chosen)
        found.steps["train_loss"] = 100.0 if name == "initial_loss" else 1.0
        assert alarms.fired(found)["alarm"].tolist() == expected
