"""Logarithms of the lengths of activations in many networks."""

from __future__ import annotations

import math

import numpy as np

from gradprop.analysis.estimates import Float64
from gradprop.analysis.needs import table
from gradprop.prediction.finite_width import architecture_name
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

LENGTH = "activation_log10_mean_square"


def series(tables: StudyTables, hue: str) -> dict[str, str]:
    """Return what the line of every cell is called.

    It is the value of the parameter `hue`; of a width profile, which says nothing without the
    width, it is the name of the architecture.
    """
    if hue == "widths":
        return {cell.id: architecture_name(cell) for cell in tables.study.cells}
    return dict(zip(tables.cells["cell"], tables.cells[hue].astype(str), strict=True))


def log_lengths(tables: StudyTables, cells: list[Cell]) -> Float64:
    """Return ln M_l, M_l = mean phi(z_l)^2, of cells of one depth at initialization.

    Returns
    -------
    ndarray
        Shape (cells, depth); -inf in a layer whose units are all inactive.
    """
    rows = at_start(tables.layers)
    rows = rows[rows["cell"].isin({cell.id for cell in cells})]
    by_layer = table(rows, "cell", "layer", LENGTH)
    hidden = list(range(1, cells[0].depth + 1))
    values = by_layer.loc[[cell.id for cell in cells], hidden].to_numpy(np.float64)
    return math.log(10) * values
