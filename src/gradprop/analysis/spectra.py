"""Moments of the singular values that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from gradprop.prediction.spectra import expected_layer_means
from gradprop.spec import Cell

MATRIX = "hidden_jacobian"
# Matrices of one layer, and what they are called.
LAYER_MATRICES = {"layer_jacobian": "W diag(φ'(z))", "kernel": "W alone"}


def moments(values: pd.DataFrame) -> pd.DataFrame:
    """Return moments of the squared singular values of every cell.

    Parameters
    ----------
    values
        Rows of the table ``spectra``, of one matrix and one step.

    Returns
    -------
    DataFrame
        ``mean_square``, the mean of ``s^2``, ``relative_variance``, its variance over the squared
        mean, and ``largest_singular_value``, of each matrix, then averaged over examples; indexed
        by cell. NaN if a value is not finite or all are 0.
    """
    found = []
    for (cell, _), group in values.groupby(["cell", "example"], sort=False):
        log10_s = group["log10_singular_value"].to_numpy(np.float64)
        largest = log10_s.max()
        if not np.isfinite(largest):
            found.append((cell, np.nan, np.nan, np.nan))
            continue
        squares = 10.0 ** (2 * (log10_s - largest))  # beyond the range of float64 without it
        with np.errstate(over="ignore"):
            top = np.float64(10.0) ** largest
            mean = squares.mean() * top**2
        found.append((cell, mean, squares.var() / squares.mean() ** 2, top))
    names = ["cell", "mean_square", "relative_variance", "largest_singular_value"]
    table = pd.DataFrame(found, columns=names)
    return table.groupby("cell", sort=False).mean()


def layer_means(values: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return mean singular values of the square hidden layers of every network.

    Parameters
    ----------
    values
        Rows of the table ``spectra``, of one step of every network.
    cells
        The networks.

    Returns
    -------
    DataFrame
        ``cell``, ``matrix`` (``kernel`` or ``layer_jacobian``), ``layer``, ``mean``, over all
        singular values and examples (NaN if one is not finite), and ``predicted``, what theory
        expects of it at initialization (`expected_layer_means`).
    """
    rows = values[values["matrix"].isin(list(LAYER_MATRICES))]
    keys = ["cell", "step", "matrix", "layer"]
    singular = 10.0 ** rows["log10_singular_value"].astype(np.float64)
    by = [rows[key] for key in keys]
    means = singular.groupby(by, sort=False).mean()
    means = means.mask(singular.isna().groupby(by, sort=False).any())
    expected = [
        (cell.id, matrix, layer, predicted)
        for cell in cells
        for (matrix, layer), predicted in expected_layer_means(replace(cell, seed=0)).items()
    ]
    places = ["cell", "matrix", "layer"]
    table = means.rename("mean").reset_index()
    table = table.merge(pd.DataFrame(expected, columns=[*places, "predicted"]), on=places)
    table["predicted"] = table["predicted"].where(table["step"] == 0)
    return table.drop(columns="step")
