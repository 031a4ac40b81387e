"""Tables of a study made by hand, for the tests of diagnoses and alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component, Study

ALIKE: dict[str, Any] = {
    "dataset": Component("digits"),
    "width": 8,
    "activation": Component("tanh"),
    "initializer": Component("he_normal"),
    "learning_rate": 0.1,
    "batch_size": 16,
    "epochs": 1,
}


def signals_of(
    signals: Sequence[Sequence[float]], diagnosis: Any = "standard", **parameters: Any
) -> StudyTables:
    """Return the tables of networks by the signal of every hidden layer; seeds are 0, 1, ...

    All else is unremarkable: lengths, norms and losses are 1 and the outputs' signal is three
    decades larger than that of the last hidden layer.
    """
    cells = [
        Cell(**{**ALIKE, **parameters}, depth=len(row), seed=seed)
        for seed, row in enumerate(signals)
    ]
    rows = []
    for cell, signal in zip(cells, signals, strict=True):
        ends = [value for value in signal if np.isfinite(value)]
        outputs = ends[-1] + 3 if ends else 0.0
        for layer, value in enumerate([*signal, outputs], start=1):
            rows.append(
                {"cell": cell.id, "step": 0, "layer": layer, "signal_log10_rms": float(value)}
            )
    layers = pd.DataFrame(rows).assign(
        gradient_log10_norm=0.0, preactivation_log10_mean_square=0.0, weight_log10_norm=0.0
    )
    return with_layers(cells, layers, diagnosis)


def with_layers(
    cells: Sequence[Cell], layers: pd.DataFrame, diagnosis: Any = "standard"
) -> StudyTables:
    """Return the tables of networks with these rows of layers and losses of 1."""
    definition = {"content": {"diagnosis": diagnosis}}
    found = StudyTables(Study("s", "", "", tuple(cells), definition=definition), Path())
    results = {"status": "ok", "first_bad_step": pd.NA, "first_bad_layer": pd.NA}
    found.cells = pd.DataFrame([{"cell": c.id, **c.columns(), **results} for c in cells])
    found.cells = found.cells.astype({"first_bad_step": "Int64", "first_bad_layer": "Int64"})
    found.layers = layers
    found.steps = layers[["cell", "step"]].drop_duplicates().assign(train_loss=1.0)
    return found


def changed(found: StudyTables, layer: int, values: Mapping[str, float], step: int = 0) -> None:
    """Change columns of one layer at one step, in all networks."""
    rows = (found.layers["layer"] == layer) & (found.layers["step"] == step)
    for column, value in values.items():
        found.layers.loc[rows, column] = value


def repeated(found: StudyTables, steps: Sequence[int]) -> None:
    """Let the networks have the same rows at further probes."""
    for name in ("layers", "steps"):
        rows = getattr(found, name)
        parts = [rows, *(rows.assign(step=step) for step in steps)]
        setattr(found, name, pd.concat(parts, ignore_index=True))
