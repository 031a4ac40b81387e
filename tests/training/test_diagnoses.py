"""Diagnoses of real networks that rounding, overflow and large weights once mislabelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gradprop.analysis import alarms, diagnosis
from gradprop.components import datasets
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component, Stack, Study
from gradprop.training import loop
from gradprop.training.stopwatch import Stopwatch


def tables_of(dataset: Component, *changes: dict[str, Any], **shared: Any) -> StudyTables:
    """Train one network for every mapping of `changes`, or measure it at initialization."""
    common: dict[str, Any] = {
        "learning_rate": 0.1,
        "batch_size": 64,
        "epochs": 0,
        "seed": 0,
        "use_bias": False,
    }
    cells = tuple(Cell(dataset=dataset, **{**common, **shared, **change}) for change in changes)
    data = datasets.generate(dataset)
    (result,) = loop.train([Stack(cells)], data, Stopwatch(), "test")
    found = StudyTables(Study("s", "", "", cells), Path())
    found.cells, found.steps, found.layers = result.cells, result.steps, result.layers
    return found


def test_equal_weights_leave_nothing_but_rounding() -> None:
    """dC/dh is 0 in algebra, and weights of 0.1 let the rest grow by 0.806 decades per layer."""
    starts = [Component("constant", (("value", 0.1),)), Component("ones"), Component("he_normal")]
    found = tables_of(
        Component("digits"),
        *({"initializer": start} for start in starts),
        depth=10,
        width=64,
        activation=Component("relu"),
    )
    assert diagnosis.diagnoses(found)["diagnosis"].tolist() == ["rounding", "rounding", "stable"]


def test_an_overflow_in_the_forward_pass_is_not_a_dead_signal() -> None:
    found = tables_of(
        Component("sphere"),
        *({"seed": seed} for seed in range(3)),
        depth=60,
        width=64,
        activation=Component("relu"),
        loss="output_sum",
        batch_size=32,
        initializer=Component("variance_scaling", (("scale", 41.26),)),
    )
    table = diagnosis.diagnoses(found)
    assert table["diagnosis"].tolist() == ["diverged"] * 3
    assert table["diverged_in"].tolist() == ["forward"] * 3
    assert table["diverged_layer"].tolist() == found.cells["first_bad_layer"].tolist()


def test_nine_wide_layers_start_far_from_guessing_with_a_signal_that_is_stable() -> None:
    """Mean z^2 grows by 512 / 2 / 100 per layer, 3.3 decades in all; the signal by half of that."""
    found = tables_of(
        Component("digits"),
        {"initializer": Component("normal", (("stddev", 0.1),))},
        {"initializer": Component("he_normal")},
        depth=9,
        width=512,
        activation=Component("relu"),
    )
    table = diagnosis.diagnoses(found)
    assert table["diagnosis"].tolist() == ["stable", "stable"]
    assert table["length"].tolist() == ["exploding", "stable"]
    fired = alarms.fired(found)
    loud = fired[fired["alarm"] == "initial_loss"]
    assert loud["cell"].tolist() == found.cells["cell"][:1].tolist()
    assert loud["value"].iloc[0] > 20


def test_a_network_without_hidden_layers_whose_loss_overflows() -> None:
    """The largest curvature is 1/8: rates above 16 diverge, at 20 the loss by 2.25 a step."""
    found = tables_of(
        Component("whitened_teacher"),
        *({"learning_rate": rate} for rate in (15.9, 20.0)),
        depth=0,
        width=16,
        activation=Component("linear"),
        initializer=Component("zeros"),
        batch_size=80,
        epochs=120,
    )
    table = diagnosis.diagnoses(found)
    last = table[table["step"] == table["step"].max()]
    assert last["diagnosis"].tolist() == ["stable", "diverged"]
    bad = found.cells["first_bad_step"][1]
    assert pd.isna(last["diverged_at"].iloc[0])
    assert last["diverged_at"].iloc[1] == bad
