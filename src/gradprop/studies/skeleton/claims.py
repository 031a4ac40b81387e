"""The claims of this study, judged by its tables, and the numbers in its prose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from gradprop.analysis import estimates
from gradprop.claims import Case, Claim, Evidence, Within, from_seeds
from gradprop.results.study_tables import StudyTables, at_start

TOO_SMALL, WIDTH, STDDEV = "too small", 32, 0.01
# Near 0 tanh is the identity: a layer multiplies the signal by the square root of n Var(W).
PREDICTED = math.log10(math.sqrt(WIDTH) * STDDEV)


def slopes(tables: StudyTables) -> pd.Series[float]:
    """Return the decades per layer, towards the input, of every deep network with small weights."""
    cells = tables.cells[(tables.cells["initializer"] == TOO_SMALL) & (tables.cells["depth"] > 2)]
    start = at_start(tables.layers)
    return estimates.layer_slopes(start[start["cell"].isin(cells["cell"])], "signal_log10_rms")


def vanishing(tables: StudyTables) -> Iterator[Evidence]:
    """Compare them with the prediction; every seed is one observation."""
    yield from_seeds(Case(depth=10), slopes(tables), PREDICTED)


CLAIMS = [
    Claim(
        id="small-weights-vanish",
        statement="Weights that are too small make the signal vanish exponentially.",
        source="this study",
        formula="log10 sqrt(n Var(W)) per layer",
        unit="decades per layer",
        criterion=Within(0.1),
        measure=vanishing,
    )
]


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the prose."""
    return {"slope": float(slopes(tables).mean()), "predicted": PREDICTED}
