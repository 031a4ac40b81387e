"""The numbers in the chapter on initializers, and its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gradprop import analysis
from gradprop.claims import Above, Below, Claim, Evidence, Within, exact, from_seeds
from gradprop.figures.data import StudyTables, at_step
from gradprop.figures.training import prepare_atlas
from gradprop.studies.sources import (
    GLOROT,
    GLOROT_SIGMOID,
    GOODFELLOW,
    HE,
    HE_DEEP,
    NG_SYMMETRY,
    NG_WEIGHTS,
)


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute slopes in decades per layer and final accuracies."""
    digits = tables.cells[tables.cells["dataset"] == "digits"]
    slopes = _slopes(tables, digits)
    deep = int(digits["depth"].max())
    atlas = prepare_atlas(
        tables,
        {"statistic": "final_train_accuracy", "rows": "dataset", "columns": "activation",
         "hue": "initializer"},
    )  # fmt: skip
    found: dict[str, float | str] = {
        "cells": len(tables.cells),
        "deep": deep,
        "untrainable": float((atlas["untrainable"] > 0.5).mean()),
        "diverged": float((atlas["diverged"] > 0.5).mean()),
    }
    for activation, initializer in (
        ("relu", "he_normal"),
        ("relu", "glorot_normal"),
        ("tanh", "glorot_normal"),
        ("tanh", "standard_heuristic"),
        ("sigmoid", "glorot_normal"),
    ):
        for kind in ("signal", "gradient"):
            found[f"{activation}_{initializer}_{kind}"] = slopes.get(
                (activation, initializer, kind), np.nan
            )
    for activation, initializer, depth in (
        ("relu", "he_normal", 20),
        ("relu", "glorot_normal", 20),
        ("tanh", "orthogonal", deep),
        ("tanh", "glorot_normal", deep),
        ("tanh", "standard_heuristic", deep),
    ):
        accuracies = _final_accuracies(tables, activation, initializer, depth)
        found[f"{activation}_{initializer}_accuracy"] = float(accuracies.median())
    sigmoid = digits[(digits["activation"] == "sigmoid") & (digits["depth"] == 20)]
    medians = sigmoid.groupby("initializer")["final_train_accuracy"].median()
    found["sigmoid_best"] = str(medians.idxmax())
    found["sigmoid_best_accuracy"] = float(medians.max())
    return found


def _slopes(tables: StudyTables, cells: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Mean slope at initialization over the seeds of the deepest networks."""
    chosen = cells[cells["depth"] == cells["depth"].max()]
    rows = at_step(tables.layers[tables.layers["cell"].isin(chosen["cell"])], {"at": "start"})
    found: dict[tuple[str, str, str], float] = {}
    for kind in ("signal", "gradient"):
        slopes = analysis.layer_slopes(rows, f"{kind}_log10_rms").reset_index()
        slopes = slopes.merge(chosen[["cell", "activation", "initializer"]], on="cell")
        means = slopes.groupby(["activation", "initializer"], as_index=False)["slope"].mean()
        for row in means.itertuples():
            found[str(row.activation), str(row.initializer), kind] = float(row.slope)
    return found


# The start that theory recommends for an activation.
CAREFUL = {"tanh": "glorot_normal", "relu": "he_normal"}
TINY = "normal"  # of standard deviation 0.01
DEEP = (20, 50)


def _symmetry(tables: StudyTables) -> Iterator[Evidence]:
    """Count hidden layers whose weights are not all exactly zero, over all probes."""
    for activation in ("tanh", "relu"):
        chosen = [
            cell.id
            for cell in tables.study.cells
            if cell.initializer.name == "zeros" and cell.activation == activation
        ]
        rows = tables.layers[tables.layers["cell"].isin(chosen)]
        depths = rows.groupby("cell")["layer"].transform("max")
        hidden = rows[rows["layer"] < depths]
        if len(hidden):
            moved = float((hidden["weight_log10_norm"] > -np.inf).mean())
            yield exact(activation, moved, 0.0, len(chosen))


def _final_accuracies(
    tables: StudyTables, activation: str, label: str, depth: int
) -> pd.Series[float]:
    """Return the final training accuracies on digits by seed; diverged networks count as 0."""
    names = {cell.id: cell for cell in tables.study.cells}
    cells = tables.cells.set_index("cell")
    chosen = [
        (cell.seed, cells.loc[cell_id, "final_train_accuracy"])
        for cell_id, cell in names.items()
        if (cell.dataset.name, cell.activation, cell.initializer.label, cell.depth)
        == ("digits", activation, label, depth)
    ]
    return pd.Series(dict(chosen), dtype=float).fillna(0.0)


def _gaps(pairs: dict[str, tuple[str, str]]) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of differences in accuracy between two starts, by activation."""

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        for activation, (better, worse) in pairs.items():
            for depth in DEEP:
                gap = _final_accuracies(tables, activation, better, depth)
                gap -= _final_accuracies(tables, activation, worse, depth)
                if len(gap):
                    yield from_seeds(f"{activation}, depth {depth}", gap)

    return measure


def _sigmoid(tables: StudyTables) -> Iterator[Evidence]:
    for depth in DEEP:
        values = _final_accuracies(tables, "sigmoid", "glorot_normal", depth)
        if len(values):
            yield from_seeds(f"sigmoid, depth {depth}", values)


CLAIMS = [
    Claim(
        id="zeros-stay-symmetric",
        statement="A start from zeros never breaks symmetry: hidden weights stay exactly zero.",
        source=f"{NG_SYMMETRY}; {GOODFELLOW}",
        formula="fraction of hidden layers and probes with a weight other than 0 = 0",
        unit="",
        criterion=Within(0.0),
        measure=_symmetry,
    ),
    Claim(
        id="care-makes-depth-trainable",
        statement=(
            "A careful start (Xavier for tanh, He for relu) makes deep networks trainable that a "
            "small fixed scale leaves untrained, at the learning rate of this study."
        ),
        source=f"{NG_WEIGHTS} (a “partial solution”); {GLOROT}; {HE}",
        formula="final training accuracy, careful − N(0, 0.01²)",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps({activation: (best, TINY) for activation, best in CAREFUL.items()}),
        note=(
            "Where it does not hold: networks of depth 50 and width 64 are so deep for their "
            "width that lengths spread over decades from He's start, too. The source speaks of a "
            "partial solution."
        ),
    ),
    Claim(
        id="he-over-xavier",
        statement="Deep relu networks learn from He's start and stall from Xavier's, with SGD.",
        source=HE_DEEP,
        formula="final training accuracy, He − Xavier",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps({"relu": ("he_normal", "glorot_normal")}),
        note=(
            "Where it does not hold: at depth 50 and width 64 He's start can stall, too; the "
            "study of trainability compares the two at the best learning rate of each."
        ),
    ),
    Claim(
        id="sigmoid-stalls",
        statement="Deep sigmoid networks do not learn, even from Xavier's start.",
        source=GLOROT_SIGMOID,
        formula="final training accuracy near chance",
        unit="accuracy",
        criterion=Below(0.2),
        measure=_sigmoid,
    ),
]
