"""The chapter on precision: where a signal is lost, and what the claims make of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.precision import claims as precision
from tests.reference import make_cell


def made(last_signal: int) -> Any:
    """Return tables of a float16 network whose signal is 0 from a layer on towards the input."""
    cell = make_cell(
        dataset="digits", activation="tanh", depth=30, width=64, batch_size=64, use_bias=False,
        loss="output_sum", precision="float16", epochs=0,
        initializer={"name": "variance_scaling", "scale": 0.1},
    )  # fmt: skip
    layers = np.arange(1, 32)
    rows = pd.DataFrame(
        {
            "cell": cell.id,
            "step": 0,
            "layer": layers,
            precision.SIGNAL: np.where(layers > last_signal, -3.0, -np.inf),
            precision.LENGTH: np.where(layers < 16, -3.0, np.nan),
        }
    )
    return SimpleNamespace(layers=rows, study=SimpleNamespace(cells=[cell]))


def test_layers_are_counted_in_the_direction_of_propagation() -> None:
    (row,) = precision.first_lost(made(19)).to_dict("records")
    assert (row["signal_zero"], row["signal_infinite"]) == (19, 0)
    assert (row["length_zero"], row["length_infinite"]) == (0, 16)
    (whole,) = precision.first_lost(made(0)).to_dict("records")
    assert whole["signal_zero"] == 0


@pytest.mark.parametrize(("last", "near"), [(19, True), (20, True), (9, False)])
def test_the_layer_of_a_claim_is_compared_with_the_prediction(last: int, near: bool) -> None:
    (found,) = precision._where("signal_zero", "tanh")(made(last))
    assert (found.measured, found.predicted) == (last, 20)
    low, high = precision.TOLERANCE.accepted(found.predicted)
    assert (low <= found.measured <= high) == near
