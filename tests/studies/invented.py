"""Invented result tables for any grid: small, quick to make, and of the right shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradprop.probes import statistics
from gradprop.probes.measurements import measured
from gradprop.results.study_tables import COMPONENTS, StudyTables
from gradprop.spec import Cell, Study

PROBES = (0, 1, 7, 60)  # of trained networks
SINGULAR_VALUES, INPUTS, MODES = 3, 4, 2


def invent(study: Study, seed: int = 0) -> StudyTables:
    """Return tables of random numbers; one in twenty trained networks has diverged."""
    random = np.random.default_rng(seed)
    tables = StudyTables(study, Path())
    tables.cells = _cells(study, random)
    tables.steps = _steps(study.cells, random)
    tables.layers = _layers(study.cells, random)
    for name, rows in _MEASUREMENTS.items():
        cells = [cell for cell in study.cells if name in measured(cell.measurements)]
        tables._measurements[name] = rows(cells, random) if cells else pd.DataFrame()
    return tables


def only(tables: StudyTables, cells: Iterable[Cell]) -> StudyTables:
    """Return the tables of the same study with fewer cells."""
    kept = tuple(cells)
    ids = {cell.id for cell in kept}
    found = StudyTables(replace(tables.study, cells=kept), Path())
    for name in ("cells", "steps", "layers"):
        rows = getattr(tables, name)
        setattr(found, name, rows[rows["cell"].isin(ids)])
    for name, rows in tables._measurements.items():
        left = rows[rows["cell"].isin(ids)] if len(rows) else rows
        found._measurements[name] = left if len(left) else pd.DataFrame()
    return found


def _cells(study: Study, random: np.random.Generator) -> pd.DataFrame:
    rows = []
    for cell in study.cells:
        lost = bool(cell.epochs) and random.uniform() < 0.05
        known = bool(cell.epochs) and not lost
        loss, accuracy = random.uniform(0.1, 2, 2), random.uniform(0.1, 1, 2)
        arrived = known and random.uniform() < 0.7
        rows.append(
            {
                "cell": cell.id,
                **cell.columns(),
                "status": "diverged" if lost else "ok",
                "first_bad_step": 3 if lost else None,
                "first_bad_layer": 1 if lost else None,
                "final_train_loss": loss[0] if known else np.nan,
                "final_test_loss": loss[1] if known else np.nan,
                "final_train_accuracy": accuracy[0] if known else np.nan,
                "final_test_accuracy": accuracy[1] if known else np.nan,
                "steps_to_target": int(random.integers(1, PROBES[-1])) if arrived else None,
                "chance_accuracy": 0.1,
            }
        )
    integers = dict.fromkeys(("first_bad_step", "first_bad_layer", "steps_to_target"), "Int64")
    cells = pd.DataFrame(rows).astype(integers)
    for column in COMPONENTS:
        cells[column] = cells[column].replace(dict(study.names.get(column, {})))
    return cells


def _probes(cell: Cell) -> tuple[int, ...]:
    return PROBES if cell.epochs else PROBES[:1]


def _steps(cells: Sequence[Cell], random: np.random.Generator) -> pd.DataFrame:
    places = [(cell.id, step) for cell in cells for step in _probes(cell)]
    rows = pd.DataFrame(places, columns=["cell", "step"])
    for name in ("train_loss", "minibatch_loss", "test_loss", "train_accuracy", "test_accuracy"):
        rows[name] = random.uniform(0, 1, len(rows))
    # A stream of its own: the other tables stay those that they were. Larger than any layer's.
    rows["gradient_log10_norm"] = np.random.default_rng(1).normal(3, 0.3, len(rows))
    return rows


def _layers(cells: Sequence[Cell], random: np.random.Generator) -> pd.DataFrame:
    places = [
        (cell.id, step, layer)
        for cell in cells
        for step in _probes(cell)
        for layer in range(1, cell.depth + 2)
    ]
    rows = pd.DataFrame(places, columns=["cell", "step", "layer"])
    for name in statistics.STATISTICS:
        values = random.normal(0, 0.3, len(rows))
        rows[name] = values if "log10" in name else np.abs(values)
    return rows


def _spectra(cells: Sequence[Cell], random: np.random.Generator) -> pd.DataFrame:
    matrices = ("hidden_jacobian", "layer_jacobian", "kernel")
    places = [
        (cell.id, 0, matrix, layer, 0, index)
        for cell in cells
        for matrix in matrices
        for layer in range(2, 2 + max(cell.depth - 1, 1))
        for index in range(1, SINGULAR_VALUES + 1)
        if matrix != "hidden_jacobian" or layer == 2
    ]
    keys = ["cell", "step", "matrix", "layer", "example", "index"]
    return _with(places, keys, {"log10_singular_value": 0.2}, random).assign(resolved=True)


def _modes(cells: Sequence[Cell], random: np.random.Generator) -> pd.DataFrame:
    places = [
        (cell.id, step, index, 1.0 / index)
        for cell in cells
        for step in _probes(cell)
        for index in range(1, MODES + 1)
    ]
    rows = pd.DataFrame(places, columns=["cell", "step", "index", "strength"])
    share = (rows["step"] + 0.01) / (PROBES[-1] + 1)
    return rows.assign(learned=rows["strength"] * share * random.uniform(0.9, 1, len(rows)))


def _curves(cells: Sequence[Cell], random: np.random.Generator) -> pd.DataFrame:
    places = [
        (cell.id, 0, layer, point)
        for cell in cells
        for layer in range(cell.depth + 2)
        for point in range(INPUTS)
    ]
    names = ("log10_mean_square", "log10_expansion", "log10_curvature", "log10_next_distance")
    spreads = dict.fromkeys(names, 0.1)
    return _with(places, ["cell", "step", "layer", "input"], spreads, random)


def _with(
    places: Sequence[tuple[Any, ...]],
    keys: list[str],
    spreads: dict[str, float],
    random: np.random.Generator,
) -> pd.DataFrame:
    rows = pd.DataFrame(places, columns=keys)
    return rows.assign(
        **{name: random.normal(0, spread, len(rows)) for name, spread in spreads.items()}
    )


_MEASUREMENTS = {
    "spectra": _spectra,
    "modes": _modes,
    "curvature": _curves,
    "trajectories": _curves,
}
