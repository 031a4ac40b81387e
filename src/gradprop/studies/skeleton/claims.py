"""The claims of this study, judged by its tables, and the numbers in its prose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from gradprop.analysis import estimates, needs
from gradprop.claims import Case, Claim, Evidence, Within, from_seeds
from gradprop.prediction.networks import weight_variance
from gradprop.results.study_tables import StudyTables, at_start


def small_weights(tables: StudyTables) -> Iterator[tuple[Case, float, pd.Series[float]]]:
    """Yield, for each depth and width, the predicted rate and one measured rate per seed.

    Rates are decades per layer, towards the input. Near 0 tanh is the identity: a layer multiplies
    the signal by the square root of n Var(W).
    """
    rates = estimates.layer_slopes(at_start(tables.layers), "signal_log10_rms").droplevel("step")
    predicted = {
        cell.id: math.log10(cell.width * variance) / 2
        for cell in tables.study.cells
        if cell.initializer.name == "normal" and cell.activation.name == "tanh" and cell.depth > 2
        if (variance := weight_variance(cell.initializer, (cell.width, cell.width), "tanh"))
    }
    ids = tables.cells["cell"]
    cells = tables.cells.assign(rate=ids.map(rates), predicted=ids.map(predicted))
    small = cells[cells["predicted"].notna()]
    for (depth, width, start), alike in small.groupby(["depth", "width", "initializer"]):
        case = Case(initializer=start, depth=depth, width=width)
        yield case, alike["predicted"].iloc[0], needs.distinct(alike, "seed")["rate"]


def vanishing(tables: StudyTables) -> Iterator[Evidence]:
    """Compare both; every seed is one observation."""
    for case, predicted, measured in small_weights(tables):
        yield from_seeds(case, measured, predicted)


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
    """Compute the numbers in the prose: those of the deepest networks."""
    *_, (case, predicted, measured) = needs.need([*small_weights(tables)], "such networks")
    return {"networks": case.text, "predicted": predicted, "slope": float(measured.mean())}
