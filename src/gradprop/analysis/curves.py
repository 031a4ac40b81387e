"""Curvature of the image of a circle, layer by layer."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from gradprop.grid.selection import select
from gradprop.prediction.curves import NETWORK
from gradprop.prediction.mean_field import coordinates
from gradprop.results.study_tables import Options, StudyTables, at_start


def hidden_at_start(rows: pd.DataFrame, tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return the rows of hidden layers at initialization, with the coordinates of their cells."""
    cells = coordinates(select(tables.study.cells, options.get("select", {})))
    if rows.empty or cells.empty:
        return pd.DataFrame()
    rows = at_start(rows).merge(cells.dropna(subset=["sigma_w2"]), on="cell")
    return rows[(rows["layer"] >= 1) & (rows["layer"] <= rows["depth"])]


def measured_curves(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return length, expansion and curvature of the circle's image in every network and layer.

    Returns
    -------
    DataFrame
        `coordinates`, ``layer``, the ``length`` q and, as in `gradprop.theory.curvature`,
        ``expansion`` g, ``curvature`` (root of the mean of kappa^2) and ``grassmannian_length``
        (2 pi times the mean of kappa sqrt(g)); means over the circle. NaN where not finite.
    """
    rows = hidden_at_start(tables.measurement("curvature"), tables, options)
    if rows.empty:
        return rows
    logs = {name: rows[f"log10_{name}"] for name in ("mean_square", "expansion", "curvature")}
    with np.errstate(over="ignore"):
        values = {
            "length": 10 ** logs["mean_square"],
            "expansion": 10 ** logs["expansion"],
            "curvature": 10 ** (2 * logs["curvature"]),
            "grassmannian_length": 2 * math.pi * 10 ** (logs["curvature"] + logs["expansion"] / 2),
        }
    finite = {name: column.where(np.isfinite(column)) for name, column in values.items()}
    keys = ["cell", "seed", *NETWORK, "layer"]
    found = rows[keys].assign(**finite).groupby(keys, as_index=False, sort=False).mean()
    return found.assign(curvature=np.sqrt(found["curvature"]))
