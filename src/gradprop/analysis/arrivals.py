"""When a column of the steps first exceeds a level, and how that depends on depth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.lengths import series
from gradprop.analysis.needs import recorded
from gradprop.grid.selection import select
from gradprop.prediction.finite_width import reciprocal_widths
from gradprop.results.study_tables import Options, StudyTables

Float64 = npt.NDArray[np.float64]


def first_step(steps: pd.DataFrame, column: str, level: float) -> float:
    """Return the first probed step of a cell with more than `level`; infinite if there is none."""
    reached = steps.loc[steps[column] > level, "step"]
    return float(reached.min()) if len(reached) else math.inf


def probe_before(tables: StudyTables, step: float) -> float:
    """Return the last probe before a step: an arrival is known to lie between the two.

    NaN if the step is infinite or the first one.
    """
    steps = tables.steps["step"]
    return float(steps[steps < step].max()) if math.isfinite(step) else math.nan


def arrivals(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return when every selected cell that is trained arrives.

    Parameters
    ----------
    tables, options
        `statistic` is a column of the table of steps, `level` what it has to exceed, `hue` what
        tells lines apart and `columns`, which may be left out, panels.

    Returns
    -------
    DataFrame
        Columns: cell, panel, line, depth, reciprocal_widths (the sum over all hidden layers),
        learning_rate, seed, and steps: the first probed step above the level, infinite if there
        is none.
    """
    names = series(tables, options["hue"])
    panels = series(tables, options["columns"]) if "columns" in options else {}
    cells = [c for c in select(tables.study.cells, options.get("select", {})) if c.epochs]
    trained = tables.steps[tables.steps["cell"].isin({cell.id for cell in cells})]
    curves = dict(iter(trained.groupby("cell", sort=False)))
    return pd.DataFrame(
        [
            {
                "cell": cell.id,
                "panel": panels.get(cell.id, ""),
                "line": names[cell.id],
                "depth": cell.depth,
                "reciprocal_widths": reciprocal_widths(cell)[-1] if cell.depth else 0.0,
                "learning_rate": cell.learning_rate,
                "seed": cell.seed,
                "steps": first_step(curves[cell.id], options["statistic"], options["level"]),
            }
            for cell in cells
        ]
    )


def at_best_rate(found: pd.DataFrame) -> pd.DataFrame:
    """Keep, for every panel, line and depth, the arrivals at the best learning rate.

    That is the one with the smallest median over seeds of the steps; ties go to the smaller
    rate.
    """
    keys = ["panel", "line", "depth"]
    medians = recorded(found, *keys).groupby([*keys, "learning_rate"])["steps"].median()
    best = medians.unstack().idxmin(axis=1)
    # All infinite: pandas has no smallest, and any rate tells that.
    best = best.fillna(found["learning_rate"].min())
    chosen = best.loc[pd.MultiIndex.from_frame(found[keys])].to_numpy()
    return found[found["learning_rate"].to_numpy() == chosen]


def exponents(steps: pd.DataFrame, last: float) -> Float64:
    """Return the slope of ln steps over ln depth of every seed.

    Parameters
    ----------
    steps
        Rows seeds, columns depths.
    last
        The last step of training. Networks that never arrive count as arriving at it: the slope is
        then at least this.

    Returns
    -------
    ndarray
        One number per seed; NaN for a seed without a network of every depth, or with one depth.
    """
    with np.errstate(divide="ignore"):  # who has arrived at step 0 has no logarithm
        logs = np.log(steps.replace(math.inf, last).to_numpy(np.float64))
    return estimates.slopes(np.log(steps.columns.to_numpy(np.float64)), logs.T)
