"""What became of the signal of every network, in the words of practice: its diagnosis.

A diagnosis is about one probe, and looks at the forward and the backward pass:

* ``diverged``: something is NaN or infinite, a pre-activation, the loss, a back-propagated signal
  or a weight gradient. What comes after it means nothing: ReLU'(NaN) is 0 and would look dead;
* ``dead``: else, the back-propagated signal dC/dz is exactly zero in all examples and units of some
  hidden layer, so that this layer and those before it learn nothing, and not because the signal
  fell below the numbers that float32 can hold (`UNDERFLOW`): that is the end of vanishing;
* ``rounding``: else, the signal of the last hidden layer is no larger than the rounding error of
  the sum that it comes from (`gradprop.analysis.rounding`). In exact arithmetic it may be 0, as it
  is with equal weights of all outputs, and what the layers before make of it is noise;
* ``vanishing`` or ``exploding``: else, over the whole depth its root mean square, fitted by a
  straight line in log10, falls or rises by more than two decades on its way from the last
  hidden layer to the first (`gradprop.analysis.thresholds`: a study may say otherwise);
* ``stable``: else.

The total over the depth is judged, slope times (depth - 1), and not the slope or a magnitude: 0.1
decades per layer are harmless in 5 layers and ruin 50, and a gradient that is small in all layers
alike is a matter of the learning rate. With one hidden layer there is nothing to compare.

Beside it stands the same word for the length, the mean square of pre-activations, on its way from
the first hidden layer to the last. A signal that hardly changes may well end in outputs that are
far too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

from gradprop import files
from gradprop.analysis import alarms, estimates, rounding
from gradprop.analysis.layers import kernel_shapes
from gradprop.analysis.thresholds import Thresholds
from gradprop.components import activations
from gradprop.components.architecture import RESIDUALS
from gradprop.components.network import is_own
from gradprop.results.study_tables import StudyTables

DIAGNOSES = ("vanishing", "stable", "exploding", "dead", "rounding", "diverged")
# The words for the length that the report counts.
LENGTHS = ("vanishing", "exploding")
SIGNAL, GRADIENT = "signal_log10_rms", "gradient_log10_norm"
LENGTH, WEIGHT = "preactivation_log10_mean_square", "weight_log10_norm"
# Zeros are an underflow if the straight line from the last to the earliest layer without them, one
# layer further, is below this, log10: float32 ends at -38, and the gradients that it holds are
# those of a mean over a minibatch, 1 / batch size of a single example's.
UNDERFLOW = -35.0
# Of the intervals over seeds.
CONFIDENCE = 0.95
# Where something was not finite first, in the order in which a step computes.
PASSES = ("update", "forward", "loss", "backward")
BETWEEN = "between probes"

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class _Probes:
    """The rows of a study's layers by probe: what is asked of them is told a probe.

    Attributes
    ----------
    table
        ``cell`` and ``step`` of every probe, in the order of the rows.
    of_rows
        For every row the number of its probe.
    hidden
        For every row whether its layer is hidden.
    depth
        For every probe the number of hidden layers.
    """

    def __init__(self, layers: pd.DataFrame) -> None:
        self.rows = layers
        self.of_rows = layers.groupby(["cell", "step"], sort=False).ngroup().to_numpy()
        self.table = layers[["cell", "step"]].drop_duplicates(ignore_index=True)
        self.layer = layers["layer"].to_numpy()
        self.depth = self._reduce(np.maximum, np.ones(len(layers), dtype=bool), 0) - 1
        self.hidden = self.layer <= self.depth[self.of_rows]

    def any(self, mask: Bool) -> Bool:
        """Tell of every probe whether one of its rows is marked."""
        return np.bincount(self.of_rows, mask, minlength=len(self.table)) > 0

    def lowest(self, mask: Bool) -> Float64:
        """Return the lowest layer that is marked; NaN where none is."""
        return _finite_or_nan(self._reduce(np.minimum, mask, np.inf))

    def highest(self, mask: Bool) -> Float64:
        """Return the highest layer that is marked; NaN where none is."""
        return _finite_or_nan(self._reduce(np.maximum, mask, -np.inf))

    def at(self, layer: npt.ArrayLike, column: str) -> Float64:
        """Return a column of one layer of every probe."""
        chosen = self.layer == np.broadcast_to(layer, len(self.table))[self.of_rows]
        values = np.full(len(self.table), np.nan)
        values[self.of_rows[chosen]] = self.rows[column].to_numpy(np.float64)[chosen]
        return values

    def _reduce(self, function: np.ufunc, mask: Bool, initial: float) -> Float64:
        found = np.full(len(self.table), initial, dtype=np.float64)
        function.at(found, self.of_rows[mask], self.layer[mask])
        return found


def _finite_or_nan(values: Float64) -> Float64:
    return np.where(np.isfinite(values), values, np.nan)


def diagnoses(found: StudyTables) -> pd.DataFrame:
    """Judge the forward and the backward pass of every cell and probe.

    Parameters
    ----------
    found
        The tables of a study; networks that differ in nothing but their seed form a group.

    Returns
    -------
    DataFrame
        One row per cell and probe: ``cell``, ``step``; ``slope``, the signal's decades per layer
        towards the input (negative: vanishing; NaN with fewer than two finite layers);
        ``decades``, what is judged: slope times (depth - 1), 0 with fewer than two hidden layers,
        or what else the study compares; ``diagnosis``;
        of the group at this step ``seeds`` (networks with a slope), ``mean_slope``, ``slope_low``
        and ``slope_high``, its 95 % t-interval over the seeds; ``length_slope``, decades of mean
        z^2 per layer towards the output, ``length_decades`` and ``length``, the same for the
        length; of a network that has diverged ``diverged_at``, the step, ``diverged_in``, the pass
        (`PASSES`: ``update`` where weights were not finite before the step; `BETWEEN` where the
        loss was not finite before a probe saw anything), and ``diverged_layer``, its first layer in
        the order of the pass, where that began.
    """
    chosen, probes = Thresholds.of(found.study), _Probes(found.layers)
    table = probes.table.copy()
    began = _beginnings(found, probes)
    for name, statistic, sign in (("", SIGNAL, 1), ("length_", LENGTH, -1)):
        slope = sign * estimates.layer_slopes(found.layers, statistic).to_numpy()
        table[f"{name}slope"] = slope
        table[f"{name}decades"] = np.where(probes.depth > 1, slope * (probes.depth - 1), 0.0)
    first = SIGNAL
    if chosen.compares == "weight_gradients":
        first, last = GRADIENT, probes.at(probes.depth + 1, GRADIENT)
        with np.errstate(invalid="ignore"):  # zeros in both
            table["decades"] = probes.at(1, GRADIENT) - last
    table["diagnosis"] = np.select(
        [
            began["diverged_in"].notna(),
            _dead(probes, SIGNAL),
            _rounding(found, probes),
            (table["decades"] < np.log10(chosen.vanishing))
            & (probes.at(1, first) < np.log10(chosen.first_layer)),
            table["decades"] > np.log10(chosen.exploding),
        ],
        ["diverged", "dead", "rounding", "vanishing", "exploding"],
        "stable",
    )
    table["length"] = np.select(
        [
            probes.any(_is_lost(found.layers[LENGTH])),
            _dead(probes, LENGTH),
            table["length_decades"] < -np.log10(chosen.length),
            table["length_decades"] > np.log10(chosen.length),
        ],
        ["diverged", "dead", "vanishing", "exploding"],
        "stable",
    )
    over_seeds = _over_seeds(found.cells, table)
    length = table[["length_slope", "length_decades", "length"]]
    judged = table[["cell", "step", "slope", "decades", "diagnosis"]]
    return pd.concat([judged, over_seeds, length, began], axis=1)


def _is_lost(values: pd.Series[float]) -> Bool:
    """Tell which logarithms are those of NaN or infinite numbers."""
    return (values.isna() | (values == np.inf)).to_numpy()


def _beginnings(found: StudyTables, probes: _Probes) -> pd.DataFrame:
    """Tell of diverged probes when, where and in which pass their network ceased to be finite."""
    rows, index = found.layers, pd.MultiIndex.from_frame(probes.table)
    losses = found.steps.set_index(["cell", "step"])["train_loss"].reindex(index)
    weights = _is_lost(rows[WEIGHT]) if WEIGHT in rows else np.zeros(len(rows), dtype=bool)
    layers = pd.DataFrame(
        {
            "update": probes.lowest(weights),
            "forward": probes.lowest(_is_lost(rows[LENGTH])),
            "loss": np.where(np.isfinite(losses), np.nan, probes.depth + 1),
            "backward": probes.highest(_is_lost(rows[SIGNAL]) | _is_lost(rows[GRADIENT])),
        }
    )
    diverged = layers.notna().any(axis=1)
    bad = layers[diverged]
    seen = pd.DataFrame(
        {
            "cell": probes.table["cell"][diverged],
            "diverged_at": probes.table["step"][diverged].astype(float),
            "diverged_in": bad.notna().idxmax(axis=1).astype(object),
            "diverged_layer": bad.bfill(axis=1).iloc[:, 0],
        }
    )
    first = seen.sort_values("diverged_at").drop_duplicates("cell").set_index("cell")
    known = found.cells.set_index("cell")[["first_bad_step", "first_bad_layer"]].astype(float)
    known = known.reindex(first.index)
    before = known["first_bad_step"] < first["diverged_at"]
    first.loc[before, "diverged_in"] = BETWEEN
    for column, better in (
        ("diverged_at", "first_bad_step"),
        ("diverged_layer", "first_bad_layer"),
    ):
        first[column] = first[column].mask(before, known[better])
    began = first.reindex(probes.table["cell"]).reset_index(drop=True).where(diverged)
    return began.astype({"diverged_at": "Int64", "diverged_layer": "Int64"})


def _dead(probes: _Probes, statistic: str) -> Bool:
    """Tell where a hidden layer is exactly zero without having fallen below float32."""
    zero = (probes.rows[statistic] == -np.inf).to_numpy() & probes.hidden
    if not zero.any():
        return probes.any(zero)
    return probes.any(zero) & ~_underflows(probes, statistic)


def _underflows(probes: _Probes, statistic: str) -> Bool:
    """Tell of every probe whether a magnitude falls below what float32 can hold on its way."""
    values = probes.rows[statistic].to_numpy(np.float64)
    finite = probes.hidden & np.isfinite(values)
    lowest, highest = probes.lowest(finite), probes.highest(finite)
    ends, starts = probes.at(lowest, statistic), probes.at(highest, statistic)
    if statistic == LENGTH:  # the square of a magnitude, and on its way to the output
        ends, starts = starts / 2, ends / 2
    span = highest - lowest
    per_layer = (ends - starts) / np.where(span > 0, span, np.nan)
    return ends + per_layer < UNDERFLOW


def _rounding(found: StudyTables, probes: _Probes) -> Bool:
    """Tell where the signal of the last hidden layer is no more than rounding can make.

    Not told where the norm of weights is not recorded, of branches with a trained factor
    (rezero), which may be as small as it likes, and of networks that a study builds itself, which
    may do anything between the two layers.
    """
    table, cells = probes.table, {cell.id: cell for cell in found.study.cells}
    if WEIGHT not in found.layers or any(map(is_own, cells.values())):
        return np.zeros(len(table), dtype=bool)
    shapes = kernel_shapes(table.assign(layer=probes.depth + 1), found.study.cells)
    outputs = [probes.at(probes.depth + 1, name) for name in (WEIGHT, SIGNAL)]
    error = rounding.log10_error(shapes["fan_in"], shapes["units"], *outputs)
    signal, length = probes.at(probes.depth, SIGNAL), probes.at(probes.depth, LENGTH)
    functions = table["cell"].map({name: cell.activation for name, cell in cells.items()})
    slope = np.zeros(len(table))
    for function in functions.unique():
        chosen = (functions == function).to_numpy()
        slope[chosen] = rounding.least_slope(activations.get(function), length[chosen])
    trained = {name: RESIDUALS[cell.residual].trained for name, cell in cells.items()}
    told = ~table["cell"].map(trained).astype(bool)
    with np.errstate(divide="ignore"):
        error = error + np.log10(slope)
    return np.isfinite(signal) & (signal <= error) & told.to_numpy()


def _over_seeds(cells: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the t-interval of `estimates.mean_interval` for all groups at once."""
    groups = table["cell"].map(_groups(cells))
    by_group = table["slope"].groupby([groups, table["step"]], sort=False)
    seeds, mean = by_group.transform("count"), by_group.transform("mean")
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, (seeds - 1).where(seeds > 1))
    half = quantile * by_group.transform("std") / np.sqrt(seeds)
    bounds = {"mean_slope": mean, "slope_low": mean - half, "slope_high": mean + half}
    return pd.DataFrame({"seeds": seeds, **bounds})


def _parameters(cells: pd.DataFrame) -> list[str]:
    """Return the columns of the ``cells`` table that are parameters and not results."""
    results = cells.columns.get_loc("status")
    return [name for name in cells.columns[:results] if name != "cell"]


def _groups(cells: pd.DataFrame) -> pd.Series[int]:
    """Return a number for every cell that it shares with those that differ in the seed alone."""
    parameters = [name for name in _parameters(cells) if name != "seed"]
    numbers = cells.groupby(parameters, sort=False, dropna=False).ngroup()
    return pd.Series(numbers.to_numpy(), index=cells["cell"])


def counts(cells: pd.DataFrame, judged: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Count the cells of every diagnosis at their first and last probe.

    Parameters
    ----------
    cells
        The ``cells`` table.
    judged
        What `diagnoses` returned.
    by
        Parameters that divide the cells.

    Returns
    -------
    DataFrame
        One row per combination of `by` and ``probe`` (``start``, or ``end`` where a cell has more
        than one probe), one column for each diagnosis and ``length_vanishing`` and
        ``length_exploding`` for the length.
    """
    steps = judged.groupby("cell")["step"]
    start, end = steps.transform("min"), steps.transform("max")
    parts = [
        judged[judged["step"] == start].assign(probe="start"),
        judged[(judged["step"] == end) & (end > start)].assign(probe="end"),
    ]
    both, named = pd.concat(parts, ignore_index=True), cells.set_index("cell")
    columns = {name: both["diagnosis"] == name for name in DIAGNOSES}
    columns |= {f"length_{name}": both["length"] == name for name in LENGTHS}
    keys = [both["cell"].map(named[name]).rename(name) for name in by]
    return pd.DataFrame(columns).groupby([*keys, both["probe"]], sort=False).sum().reset_index()


def write(found: StudyTables, claims: Path) -> list[Path]:
    """Write the diagnoses and alarms of a study beside its file of claims; return their files.

    Every row has the parameters of its cell, as the ``cells`` table has them.
    """
    parameters = found.cells[["cell", *_parameters(found.cells)]]
    written = []
    tables: dict[str, Any] = {"diagnoses": diagnoses(found), "alarms": alarms.fired(found)}
    for name, table in tables.items():
        text = table.merge(parameters, on="cell", how="left").to_csv(
            index=False, lineterminator="\n", float_format="%.6g", na_rep="nan"
        )
        written.append(claims.with_name(f"{claims.stem}-{name}.csv"))
        files.write_text(written[-1], text)
    return written
