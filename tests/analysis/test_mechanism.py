"""Multiples of the identity against their closed forms, in a table by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from gradprop.analysis import mechanism
from gradprop.analysis.needs import NotMeasured
from gradprop.spec import Component
from tests.reference import make_cell

RATIOS = (0.5, 1.0, 1.5)
INPUT, UNIT = 3.0, -2.0  # log10 of the input's mean square, of the gradient for c = 1


def tables_of(ratios: tuple[float, ...]) -> Any:
    """Return networks of three matrices W = c I, whose initializers have display names."""
    shape = {"depth": 2, "activation": "linear", "epochs": 0}
    starts = [{"name": "identity", "gain": c} for c in ratios]
    cells = [make_cell(initializer=start, **shape) for start in [*starts, "glorot_normal"]]
    rows = [
        {
            "cell": cell.id,
            "step": 0,
            "layer": layer,
            "preactivation_log10_mean_square": INPUT + 2 * layer * math.log10(c),
            "gradient_log10_rms": UNIT + 2 * math.log10(c),
        }
        for cell, c in zip(cells, [*ratios, 1.0], strict=True)
        for layer in (1, 2, 3)
    ]
    columns = [{"cell": cell.id, **cell.columns(), "initializer": "a name"} for cell in cells]
    return SimpleNamespace(
        study=SimpleNamespace(cells=tuple(cells)),
        cells=pd.DataFrame(columns),
        layers=pd.DataFrame(rows),
    )


def test_powers_are_found_whatever_the_initializers_are_called() -> None:
    tables = tables_of(RATIOS)
    output = mechanism.prepare_output(tables, {})
    assert output["c"].tolist() == list(RATIOS)
    assert output["measured"].tolist() == pytest.approx([3 * math.log10(c) for c in RATIOS])
    gradient = mechanism.prepare_gradient(tables, {})
    assert len(gradient) == 9
    assert gradient["measured"].to_numpy() == pytest.approx(gradient["closed_form"].to_numpy())


def test_without_the_identity_itself_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(NotMeasured, match="identity of gain 1"):
        mechanism.prepare_output(tables_of((0.5, 1.5)), {})


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        (Component("identity"), 1.0),
        (Component("identity", (("gain", 0.5),)), 0.5),
        (Component("variance_scaling", (("scale", 4.0),)), 2.0),
        (Component("he_normal"), math.nan),
    ],
)
def test_gains(initializer: Component, expected: float) -> None:
    assert mechanism.gain(initializer) == pytest.approx(expected, nan_ok=True)
