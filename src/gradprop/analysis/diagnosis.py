"""What became of the gradient of every network, in the words of practice: diagnoses and alarms.

A diagnosis is about the back-propagated signal dC/dz of the hidden layers at one probe:

* ``diverged``: NaN or infinite in some layer;
* ``dead``: else, exactly zero in all examples and units of some layer, so that this layer and those
  before it learn nothing, and not because the signal fell below the numbers that float32 can hold
  (`UNDERFLOW`): that is the end of vanishing;
* ``vanishing`` or ``exploding``: else, over the whole depth its root mean square, fitted by a
  straight line in log10, falls or rises by more than `MOST_DECADES` on its way from the last
  hidden layer to the first;
* ``stable``: else.

The total over the depth is judged, slope times (depth - 1), and not the slope or a magnitude: 0.1
decades per layer are harmless in 5 layers and ruin 50, and a gradient that is small in all layers
alike is a matter of the learning rate. With one hidden layer there is nothing to compare.

An alarm is a rule of thumb that a layer broke at a probe (`ALARMS`). It can only fire where the
study records its statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from gradprop import files
from gradprop.analysis import estimates
from gradprop.analysis.layers import hidden
from gradprop.components.activations import ACTIVATIONS

DIAGNOSES = ("vanishing", "stable", "exploding", "dead", "diverged")
STATISTIC = "signal_log10_rms"
# As wide as the usual band of the update-to-weight ratio: beyond, no one learning rate keeps the
# updates of both the first and the last layer within it.
MOST_DECADES = 2.0
# Zeros are an underflow if the straight line from the last to the earliest layer without them, one
# layer further, is below this, log10: float32 ends at -38, and the gradients that it holds are
# those of a mean over a minibatch, 1 / batch size of a single example's.
UNDERFLOW = -35.0
# log10 of the usual band of the update-to-weight ratio, 1e-4 … 1e-2, around the 1e-3 of practice
# (Karpathy, CS231n, "Babysitting the learning process").
UPDATE_BAND = (-4.0, -2.0)
# Of the intervals over seeds.
CONFIDENCE = 0.95
# More than half of a layer's units.
MOST_UNITS = 0.5
# Factor of the variance of activations between a hidden layer and the first, in decades. Glorot
# and Bengio 2010, eq. 8, ask for 1; this is one decade of the standard deviation.
VARIANCE_DECADES = 2.0


def diagnoses(cells: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Judge the back-propagated signal of every cell and probe.

    Parameters
    ----------
    cells
        The ``cells`` table; networks that differ in nothing but their seed form a group.
    layers
        The ``layers`` table.

    Returns
    -------
    DataFrame
        One row per cell and probe: ``cell``, ``step``; ``slope``, the signal's decades per layer
        towards the input (negative: vanishing; NaN with fewer than two finite layers);
        ``decades``, slope times (depth - 1), 0 with fewer than two hidden layers; ``diagnosis``;
        and of the group at this step ``seeds`` (networks with a slope), ``mean_slope``,
        ``slope_low`` and ``slope_high``, its 95 % t-interval over the seeds.
    """
    rows = hidden(layers)
    keys = [rows["cell"], rows["step"]]
    zero = (rows[STATISTIC] == -np.inf).groupby(keys).any() & ~_underflows(rows)
    bad = (rows[STATISTIC].isna() | (rows[STATISTIC] == np.inf)).groupby(keys).any()
    table = estimates.layer_slopes(layers, STATISTIC).reset_index()
    index = pd.MultiIndex.from_frame(table[["cell", "step"]])
    depth = table["cell"].map(cells.set_index("cell")["depth"])
    table["decades"] = (table["slope"] * (depth - 1)).where(depth > 1, 0.0)
    table["diagnosis"] = np.select(
        [
            bad.reindex(index, fill_value=False).to_numpy(),
            zero.reindex(index, fill_value=False).to_numpy(),
            table["decades"] < -MOST_DECADES,
            table["decades"] > MOST_DECADES,
        ],
        ["diverged", "dead", "vanishing", "exploding"],
        "stable",
    )
    groups = table["cell"].map(_groups(cells))
    by_group = table["slope"].groupby([groups, table["step"]], sort=False)
    seeds, mean = by_group.transform("count"), by_group.transform("mean")
    # The t-interval of `estimates.mean_interval`, for all groups at once.
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, (seeds - 1).where(seeds > 1))
    half = quantile * by_group.transform("std") / np.sqrt(seeds)
    return table.assign(seeds=seeds, mean_slope=mean, slope_low=mean - half, slope_high=mean + half)


def _underflows(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell of every cell and probe whether its signal falls below what float32 can hold.

    `rows` are those of the hidden layers.
    """
    keys = ["cell", "step"]
    finite = rows[np.isfinite(rows[STATISTIC])].sort_values("layer").groupby(keys)
    ends = finite[["layer", STATISTIC]].agg(["first", "last"])
    span = ends["layer", "last"] - ends["layer", "first"]
    gain = (ends[STATISTIC, "last"] - ends[STATISTIC, "first"]) / span.where(span > 0)
    below = ends[STATISTIC, "first"] - gain  # one layer nearer to the input
    index = pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    return (below < UNDERFLOW).reindex(index, fill_value=False)


def _groups(cells: pd.DataFrame) -> pd.Series[int]:
    """Return a number for every cell that it shares with those that differ in the seed alone."""
    results = cells.columns.get_loc("status") if "status" in cells else len(cells.columns)
    parameters = [name for name in cells.columns[:results] if name not in ("cell", "seed")]
    numbers = cells.groupby(parameters, sort=False, dropna=False).ngroup()
    return pd.Series(numbers.to_numpy(), index=cells["cell"])


@dataclass(frozen=True)
class Alarm:
    """A rule of thumb.

    Attributes
    ----------
    statistic
        Column of the ``layers`` table.
    fires
        From the statistic's values in rows of that table, joined with the cells' parameters, to
        where the alarm fires; never where they are NaN.
    meaning
        What it says.
    value
        From the rows to the numbers that are compared with the threshold; None for the
        statistic itself.
    """

    statistic: str
    fires: Callable[[pd.Series[float]], pd.Series[bool]]
    meaning: str
    value: Callable[[pd.DataFrame], pd.Series[float]] | None = None


def _update_ratio(rows: pd.DataFrame) -> pd.Series[float]:
    """Return log10 of the update-to-weight ratio of cells that are trained at all."""
    trained = (rows["epochs"] > 0) & (rows["learning_rate"] > 0)
    return rows["log10_update_ratio"].where(trained)


def _saturated(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the saturated fraction where phi is flat on both sides.

    Rectifiers are flat on one: half of their (example, unit) pairs are at any healthy start.
    """
    flat = {name for name, phi in ACTIVATIONS.items() if np.isfinite(phi.saturation).all()}
    return rows["saturated_fraction"].where(rows["activation"].isin(flat) & ~rows["is_output"])


def _dead(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["dead_fraction"].where(~rows["is_output"])


def _variance_decades(rows: pd.DataFrame) -> pd.Series[float]:
    """Return log10 of the activations' variance over that of the first hidden layer."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log10 = 2 * np.log10(rows["activation_std"].to_numpy(np.float64))
    variance = pd.Series(log10, index=rows.index)
    of_first = variance.where(rows["layer"] == 1)
    first = of_first.groupby([rows["cell"], rows["step"]]).transform("max")
    return (variance - first).where(~rows["is_output"])


ALARMS: dict[str, Alarm] = {
    "small_updates": Alarm(
        "log10_update_ratio",
        lambda ratio: ratio < UPDATE_BAND[0],
        "update-to-weight ratio below 10⁻⁴",
        _update_ratio,
    ),
    "large_updates": Alarm(
        "log10_update_ratio",
        lambda ratio: ratio > UPDATE_BAND[1],
        "update-to-weight ratio above 10⁻²",
        _update_ratio,
    ),
    "dead_units": Alarm(
        "dead_fraction",
        lambda fraction: fraction > MOST_UNITS,
        "more than half of a hidden layer's units saturated for every example",
        _dead,
    ),
    "saturated_units": Alarm(
        "saturated_fraction",
        lambda fraction: fraction > MOST_UNITS,
        "more than half of a hidden layer's outputs in the tails of a two-sided function",
        _saturated,
    ),
    "variance_ratio": Alarm(
        "activation_std",
        lambda decades: decades.abs() > VARIANCE_DECADES,
        "variance of a hidden layer's activations beyond a factor of 100 from the first layer's",
        _variance_decades,
    ),
}


def alarms(cells: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Find the first probe and layer at which every alarm fired in every cell.

    Returns
    -------
    DataFrame
        One row per cell and alarm that fired: ``cell``, ``alarm``, ``step`` of the first probe at
        which it did, the lowest ``layer`` that did then, and the ``value`` there: log10 of the
        update-to-weight ratio, a fraction, or decades of variance.
    """
    last = layers.groupby("cell", sort=False)["layer"].transform("max")
    joined = layers.assign(is_output=layers["layer"] == last).merge(
        cells[["cell", "epochs", "learning_rate", "activation"]], on="cell", how="left"
    )
    found = [pd.DataFrame({"cell": [], "alarm": [], "step": [], "layer": [], "value": []})]
    for name, alarm in ALARMS.items():
        if alarm.statistic not in joined:
            continue
        values = alarm.value(joined) if alarm.value else joined[alarm.statistic]
        fired = joined.assign(alarm=name, value=values.astype(np.float64))[alarm.fires(values)]
        first = fired.sort_values(["step", "layer"], kind="stable").drop_duplicates("cell")
        if len(first):
            found.append(first[["cell", "alarm", "step", "layer", "value"]])
    table = pd.concat(found[1:] or found, ignore_index=True)
    order = {cell: number for number, cell in enumerate(cells["cell"])}
    return table.sort_values("cell", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def counts(cells: pd.DataFrame, found: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Count the cells of every diagnosis at their first and last probe.

    Parameters
    ----------
    cells
        The ``cells`` table.
    found
        What `diagnoses` returned.
    by
        Parameters that divide the cells.

    Returns
    -------
    DataFrame
        One row per combination of `by` and ``probe`` (``start``, or ``end`` where a cell has more
        than one probe), one column for each diagnosis.
    """
    steps = found.groupby("cell")["step"]
    start, end = steps.transform("min"), steps.transform("max")
    parts = [
        found[found["step"] == start].assign(probe="start"),
        found[(found["step"] == end) & (end > start)].assign(probe="end"),
    ]
    named = pd.concat(parts).merge(cells[["cell", *by]], on="cell")
    columns = {name: named["diagnosis"] == name for name in DIAGNOSES}
    keys = [named[name] for name in (*by, "probe")]
    return pd.DataFrame(columns).groupby(keys, sort=False).sum().reset_index()


def alarm_counts(cells: pd.DataFrame, fired: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count the cells in which every alarm fired.

    Parameters
    ----------
    cells
        The ``cells`` table.
    fired
        What `alarms` returned.
    by
        Parameter that divides the cells.

    Returns
    -------
    DataFrame
        One row per alarm and value of `by` where it fired at all, in the order of `ALARMS` and of
        the cells: ``alarm``, `by`, ``fired`` (cells), ``networks`` (all cells of this value), and
        medians over the cells in which it fired of ``step`` and ``layer``.
    """
    keys = ["alarm", by]
    groups = fired.merge(cells[["cell", by]], on="cell").groupby(keys, sort=False)
    table = groups[["step", "layer"]].median().assign(fired=groups.size()).reset_index()
    table["networks"] = table[by].map(cells[by].value_counts())
    ranks = {"alarm": list(ALARMS), by: list(dict.fromkeys(cells[by]))}
    order = pd.concat([table[key].map(ranks[key].index) for key in keys], axis=1)
    return table.loc[order.sort_values(keys).index].reset_index(drop=True)


def write(cells: pd.DataFrame, layers: pd.DataFrame, claims: Path) -> list[Path]:
    """Write the diagnoses and alarms of a study beside its file of claims; return their files."""
    written = []
    for name, function in (("diagnoses", diagnoses), ("alarms", alarms)):
        text = function(cells, layers).to_csv(
            index=False, lineterminator="\n", float_format="%.6g", na_rep="nan"
        )
        written.append(claims.with_name(f"{claims.stem}-{name}.csv"))
        files.write_text(written[-1], text)
    return written
