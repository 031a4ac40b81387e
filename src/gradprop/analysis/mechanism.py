"""The products of matrices of the first lecture: output and gradient against depth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop.analysis.needs import NotMeasured, distinct, need, recorded
from gradprop.results.study_tables import Options, StudyTables, at_start
from gradprop.spec import Component
from gradprop.theory import log_growth_mean

FLOAT32 = np.finfo(np.float32)


LARGEST, SMALLEST = np.log10(float(FLOAT32.max)), np.log10(float(FLOAT32.tiny))
DRAWN_NETWORKS = 25
PART_OF_LIMIT = 0.5  # part of the way to a limit of float32, from which on the limit is drawn


def gain(initializer: Component) -> float:
    """Return the c of W = c I, or of random W with E|W x|^2 = c^2 |x|^2; NaN for others."""
    parameters = dict(initializer.parameters)
    if initializer.name == "identity":
        return float(parameters.get("gain", 1.0))
    if initializer.name == "variance_scaling":
        return float(np.sqrt(float(parameters.get("scale", 1.0))))
    return float("nan")


def _started_from(tables: StudyTables, name: str) -> pd.DataFrame:
    """Return the rows of ``cells`` whose initializer has this name, with their `gain` as ``c``."""
    cells = [cell for cell in tables.study.cells if cell.initializer.name == name]
    need(cells, f"networks with initializer {name}")
    gains = {cell.id: gain(cell.initializer) for cell in cells}
    rows = tables.cells[tables.cells["cell"].isin(gains)]
    return rows.assign(c=rows["cell"].map(gains))


def scaled_identities(tables: StudyTables) -> pd.DataFrame:
    """Measure outputs and gradients of linear networks W = c I against their closed forms.

    Returns
    -------
    DataFrame
        One row per network and layer: ``c``, ``matrices`` (L), ``layer``, and log10 of three
        ratios: ``output`` (RMS of the layer's output over that of the input; closed form
        ``c^layer``) and ``gradient`` (RMS of dC/dW over that of the network with c = 1;
        closed form ``c^(L-1)``).
    """
    cells = _started_from(tables, "identity")
    cells = cells.assign(matrices=cells["depth"] + 1)
    columns = ["cell", "layer", "preactivation_log10_mean_square", "gradient_log10_rms"]
    rows = at_start(recorded(tables.layers, *columns))[columns].merge(
        cells[["cell", "c", "matrices", "seed"]], on="cell"
    )
    unit = rows[rows["c"] == 1.0].rename(columns={"gradient_log10_rms": "unit_gradient"})
    if unit.empty:
        raise NotMeasured("the study has no networks with initializer identity of gain 1")
    # With W = I what comes out is what went in.
    inputs = unit.groupby("seed")["preactivation_log10_mean_square"].first() / 2
    keys = ["seed", "matrices", "layer"]
    rows = rows.merge(distinct(unit, *keys)[[*keys, "unit_gradient"]], on=keys)
    return rows.assign(
        output=rows["preactivation_log10_mean_square"] / 2 - rows["seed"].map(inputs),
        gradient=rows["gradient_log10_rms"] - rows["unit_gradient"],
    )[["c", "matrices", "layer", "output", "gradient"]]


def prepare_output(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Ratio of output to input of every network, measured and c^L."""
    rows = scaled_identities(tables)
    last = rows[rows["layer"] == rows["matrices"]]
    return last.assign(closed_form=last["matrices"] * np.log10(last["c"]))[
        ["c", "matrices", "output", "closed_form"]
    ].rename(columns={"output": "measured"})


def prepare_gradient(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Gradient with respect to the weights of every layer, over that of c = 1."""
    rows = scaled_identities(tables).rename(columns={"gradient": "measured"})
    closed_form = (rows["matrices"] - 1) * np.log10(rows["c"])
    return rows.assign(closed_form=closed_form).drop(columns="output")


def layer_spread(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the largest difference between two layers of every network, in decades.

    Networks with a gradient that is zero or not finite are left out.
    """
    groups = rows.groupby(["c", "matrices"])["measured"]
    highest, lowest = groups.max(), groups.min()
    finite = np.isfinite(highest) & np.isfinite(lowest)
    return highest[finite] - lowest[finite]


def prepare_limits(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Relative error of output and gradient against the closed form; NaN where not finite.

    Of the gradients of a network, the one of the layer with the largest error is kept.
    """
    output = prepare_output(tables, options).assign(quantity="output")
    gradient = prepare_gradient(tables, options).assign(quantity="gradient, worst layer")
    rows = pd.concat([output, gradient], ignore_index=True)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(10 ** (rows["measured"] - rows["closed_form"]) - 1)
    state = np.select(
        [np.isneginf(rows["measured"]), ~np.isfinite(rows["measured"])], ["zero", "overflow"], "ok"
    )
    rows = rows.assign(relative_error=error.where(state == "ok"), state=state)
    severity = error.where(state == "ok", np.inf).fillna(np.inf)
    worst = severity.groupby([rows["quantity"], rows["c"], rows["matrices"]], sort=False).idxmax()
    return rows.loc[worst, ["quantity", "c", "matrices", "relative_error", "state"]]


def prepare_random(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Squared length by layer of random linear networks, relative to layer 1.

    ``kind`` says what a row is: ``network`` (one of a few networks), ``median`` or
    ``mean`` over all, ``theory of the mean`` (c^2 a layer) or ``theory of the typical``
    (exp m(n) a layer, m the mean logarithmic growth).
    """
    cells = _started_from(tables, "variance_scaling")
    columns = ["cell", "layer", "preactivation_log10_mean_square"]
    rows = at_start(tables.layers)[columns].merge(cells[["cell", "c", "seed", "width"]], on="cell")
    first = rows[rows["layer"] == 1].set_index("cell")["preactivation_log10_mean_square"]
    rows["log10_growth"] = rows["preactivation_log10_mean_square"] - rows["cell"].map(first)
    keep = ["kind", "c", "layer", "network", "log10_growth"]
    single = rows[rows["seed"] < DRAWN_NETWORKS].assign(kind="network", network=rows["seed"])
    groups = rows.groupby(["c", "layer"])["log10_growth"]
    median = groups.median().reset_index().assign(kind="median")
    mean = groups.agg(_log10_mean).reset_index().assign(kind="mean")
    typical = {
        c: log_growth_mean(int(rows["width"].iloc[0]), c**2) / np.log(10)
        for c in rows["c"].unique()
    }
    theory = median.assign(log10_growth=(median["layer"] - 1) * 2 * np.log10(median["c"]))
    drift = median.assign(log10_growth=(median["layer"] - 1) * median["c"].map(typical))
    parts = [
        single,
        median,
        mean,
        theory.assign(kind="theory of the mean"),
        drift.assign(kind="theory of the typical"),
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=keep)


def _log10_mean(values: pd.Series[float]) -> float:
    top = values.max()
    if not np.isfinite(top):  # all are zero, or the mean has left float32
        return float(top)
    return float(top + np.log10(np.mean(10 ** (values - top))))
