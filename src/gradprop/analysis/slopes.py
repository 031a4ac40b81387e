"""How fast a signal grows or shrinks from layer to layer: slopes of ln mean square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.needs import networks, recorded
from gradprop.prediction.mean_field import coordinates
from gradprop.results.study_tables import Options, StudyTables, at_start

# Left out at the input, where the length still converges, and at the output.
FIRST_LAYERS, LAST_LAYERS = 8, 2


def inner_layers(layers: pd.Series[int], depths: pd.Series[Any]) -> pd.Series[bool]:
    """Tell which layers slopes are fitted over, given the depth of each one's network.

    From `FIRST_LAYERS` on, or from a quarter of the depth if that is less, without the last
    `LAST_LAYERS` hidden ones.
    """
    first = np.minimum(FIRST_LAYERS, np.maximum(depths // 4, 1))
    return (layers >= first) & (layers <= depths - LAST_LAYERS)


def ln_mean_square(rows: pd.DataFrame, statistic: str) -> pd.Series[float]:
    """Return the natural logarithm of a mean square, of every row of the table ``layers``.

    Parameters
    ----------
    rows
        Rows of the table.
    statistic
        A column with log10 of a root mean square or, if its name says so, of a mean square.
    """
    factor = math.log(10) * (1 if "mean_square" in statistic else 2)
    found: pd.Series[float] = factor * recorded(rows, statistic)[statistic]
    return found


def log_slopes(tables: StudyTables, options: Options, statistic: str) -> pd.DataFrame:
    """Fit how the logarithm of a mean square changes at initialization, for every selected cell.

    Parameters
    ----------
    tables, options
        The study, and which of its cells are selected.
    statistic
        As in `ln_mean_square`.

    Returns
    -------
    DataFrame
        `coordinates` and ``slope``: the least-squares slope over the interior layers of ln of the
        mean square, per layer from input to output. NaN if a layer is not finite or fewer than
        two layers are left.
    """
    cells = coordinates(networks(tables.study.cells, **options.get("select", {})))
    rows = at_start(tables.layers)
    rows = rows.assign(ln=ln_mean_square(rows, statistic)).merge(
        cells[["cell", "depth"]], on="cell"
    )
    rows = rows[inner_layers(rows["layer"], rows["depth"])]
    slopes = {
        name: estimates.slope(group["layer"], group["ln"])
        for name, group in rows.groupby("cell", sort=False)
    }
    return cells.assign(slope=cells["cell"].map(slopes).astype(float))


def log_growth(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Measure how the back-propagated signal grows towards the input, for every selected cell.

    Returns
    -------
    DataFrame
        `coordinates` and ``growth``, minus the slope of ln mean (dC/dz)^2 (`log_slopes`), which
        theory says is ``ln chi_1``.
    """
    slopes = log_slopes(tables, options, "signal_log10_rms")
    return slopes.assign(growth=-slopes["slope"]).drop(columns="slope")
