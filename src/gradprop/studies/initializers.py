"""The numbers in the chapter on initializers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop import analysis
from gradprop.figures.data import StudyTables, at_step
from gradprop.figures.training import prepare_atlas


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
        found[f"{activation}_{initializer}_accuracy"] = _accuracy(
            digits, activation, initializer, depth
        )
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


def _accuracy(cells: pd.DataFrame, activation: str, initializer: str, depth: int) -> float:
    """Median final training accuracy over the seeds of one configuration."""
    chosen = cells[
        (cells["activation"] == activation)
        & (cells["initializer"] == initializer)
        & (cells["depth"] == depth)
    ]
    return float(chosen["final_train_accuracy"].median())
