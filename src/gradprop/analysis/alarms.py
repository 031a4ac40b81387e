"""Alarms: rules of thumb that a layer broke at a probe.

An alarm can only fire where the study records its statistic. Its bound is the threshold of the
same name (`gradprop.analysis.thresholds`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradprop.analysis.layers import kernel_shapes
from gradprop.analysis.thresholds import Thresholds
from gradprop.components import activations
from gradprop.prediction.data import guessing_loss
from gradprop.results.study_tables import StudyTables, at_start


@dataclass(frozen=True)
class Alarm:
    """A rule of thumb.

    Attributes
    ----------
    statistic
        Column of the ``layers`` or ``steps`` table.
    meaning
        What it says, with braces for the bound.
    value
        From rows of the ``layers`` table, joined with what `_joined` adds, to the numbers that are
        compared with the bound; NaN where the alarm can't fire.
    fires
        From such numbers and the bound to where it fires; never where they are NaN.
    least_batch
        Examples of a minibatch below which nothing is judged.
    """

    statistic: str
    meaning: str
    value: Callable[[pd.DataFrame], pd.Series[float]]
    fires: Callable[[pd.Series[float], float], pd.Series[bool]] = lambda values, most: values > most
    least_batch: int = 1

    def text(self, bound: float) -> str:
        """Return what the alarm says with this bound."""
        return self.meaning.format(f"{bound:g}")


def _update_ratio(rows: pd.DataFrame) -> pd.Series[float]:
    """Return log10 of the update-to-weight ratio of cells that are trained at all."""
    trained = (rows["epochs"] > 0) & (rows["learning_rate"] > 0)
    return rows["log10_update_ratio"].where(trained)


def _saturated(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the saturated fraction where phi is flat on both sides.

    Rectifiers are flat on one: half of their (example, unit) pairs are at any healthy start.
    """
    known = rows["activation"].unique()
    flat = {name for name in known if np.isfinite(activations.get(name).saturation).all()}
    return rows["saturated_fraction"].where(rows["activation"].isin(flat) & ~rows["is_output"])


def _dead(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["dead_fraction"].where(~rows["is_output"])


def _zero_gradients(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the fraction of exact zeros among all weight gradients of a network."""
    keys = [rows["cell"], rows["step"]]
    zeros = (rows["gradient_zero_fraction"] * rows["entries"]).groupby(keys, sort=False)
    entries = rows["entries"].groupby(keys, sort=False)
    return zeros.transform("sum") / entries.transform("sum")


def _variance_decades(rows: pd.DataFrame) -> pd.Series[float]:
    """Return log10 of the activations' variance over that of the first hidden layer."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log10 = 2 * np.log10(rows["activation_std"].to_numpy(np.float64))
    variance = pd.Series(log10, index=rows.index)
    of_first = variance.where(rows["layer"] == 1)
    first = of_first.groupby([rows["cell"], rows["step"]]).transform("max")
    return (variance - first).where(~rows["is_output"])


def _initial_loss(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the loss of the first minibatch over that of guessing, in rows of the outputs."""
    at_outputs = rows["is_output"] & (rows["step"] == 0)
    return (rows["train_loss"] / rows["guessing_loss"]).where(at_outputs)


ALARMS: dict[str, Alarm] = {
    "small_updates": Alarm(
        "log10_update_ratio",
        "update-to-weight ratio below {}",
        _update_ratio,
        lambda log10, least: log10 < np.log10(least),
    ),
    "large_updates": Alarm(
        "log10_update_ratio",
        "update-to-weight ratio above {}",
        _update_ratio,
        lambda log10, most: log10 > np.log10(most),
    ),
    "dead_units": Alarm(
        "dead_fraction",
        "more than {} of a hidden layer's units saturated for every example of the minibatch "
        "(not judged in a minibatch of one)",
        _dead,
        least_batch=2,
    ),
    "saturated_units": Alarm(
        "saturated_fraction",
        "more than {} of a hidden layer's outputs in the tails of a two-sided function",
        _saturated,
    ),
    "zero_gradients": Alarm(
        "gradient_zero_fraction",
        "at least {} of the weight gradients of all layers together exactly zero",
        _zero_gradients,
        lambda fraction, least: fraction >= least,
    ),
    "variance_ratio": Alarm(
        "activation_std",
        "variance of a hidden layer's activations beyond a factor of {} from the first layer's",
        _variance_decades,
        lambda decades, most: decades.abs() > np.log10(most),
    ),
    "initial_loss": Alarm(
        "train_loss",
        "loss before the first step more than {} times that of guessing: ln of the number of "
        "classes, or the variance of the targets (not judged in a minibatch of one)",
        _initial_loss,
        least_batch=2,
    ),
}


def fired(found: StudyTables) -> pd.DataFrame:
    """Find the first probe and layer at which every alarm fired in every cell.

    Returns
    -------
    DataFrame
        One row per cell and alarm that fired: ``cell``, ``alarm``, ``step`` of the first probe at
        which it did, the lowest ``layer`` that did then (of `zero_gradients`, which speaks of all
        layers, 1), and the ``value`` there: log10 of the update-to-weight ratio, a fraction,
        decades of variance, or a ratio of losses.
    """
    chosen, rows = Thresholds.of(found.study), _joined(found)
    parts = [pd.DataFrame({"cell": [], "alarm": [], "step": [], "layer": [], "value": []})]
    for name, alarm in ALARMS.items():
        if alarm.statistic not in rows:
            continue
        judged = rows["batch_size"] >= alarm.least_batch
        values = alarm.value(rows).astype(np.float64).where(judged)
        places = rows.loc[alarm.fires(values, getattr(chosen, name)), ["cell", "step", "layer"]]
        first = places.sort_values(["step", "layer"], kind="stable").drop_duplicates("cell")
        if len(first):
            parts.append(first.assign(alarm=name, value=values)[list(parts[0])])
    table = pd.concat(parts[1:] or parts, ignore_index=True)
    order = {cell: number for number, cell in enumerate(found.cells["cell"])}
    return table.sort_values("cell", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def _joined(found: StudyTables) -> pd.DataFrame:
    """Return the rows of the layers with parameters of their cells and what rules compare with.

    ``entries`` of the kernel; in rows of step 0 the ``train_loss``; ``guessing_loss``.
    """
    cells = found.study.cells
    columns = ["epochs", "learning_rate", "activation", "batch_size", "depth"]
    parameters = pd.DataFrame(
        [[getattr(c, name) for name in columns] for c in cells],
        columns=columns,
        index=[c.id for c in cells],
    )
    parameters["guessing_loss"] = [guessing_loss(c) for c in cells]
    start = at_start(found.steps)
    parameters["train_loss"] = start.set_index("cell")["train_loss"]
    wanted = {alarm.statistic for alarm in ALARMS.values()} & set(found.layers)
    shape = {"fan_in", "units"} & set(found.layers)  # of networks that the study builds itself
    rows = found.layers[["cell", "step", "layer", *sorted(wanted | shape)]].copy()
    places = parameters.index.get_indexer(pd.Index(rows["cell"]))
    for name in parameters:
        rows[name] = parameters[name].to_numpy()[places]
    rows["is_output"] = rows["layer"] > rows["depth"]
    rows["entries"] = kernel_shapes(rows, cells).prod(axis=1)
    return rows


def not_judged(cells: pd.DataFrame) -> dict[str, int]:
    """Return of alarms that are silent on small minibatches for how many cells they are."""
    small = {name: (cells["batch_size"] < a.least_batch).sum() for name, a in ALARMS.items()}
    return {name: int(number) for name, number in small.items() if number}


def counts(cells: pd.DataFrame, found: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count the cells in which every alarm fired.

    Parameters
    ----------
    cells
        The ``cells`` table.
    found
        What `fired` returned.
    by
        Parameter that divides the cells.

    Returns
    -------
    DataFrame
        One row per alarm and value of `by` where it fired at all, in the order of `ALARMS` and of
        the cells: ``alarm``, `by`, ``fired`` (cells), ``networks`` (all cells of this value), and
        medians over the cells in which it fired of ``step`` and ``layer``.
    """
    values = found["cell"].map(cells.set_index("cell")[by]).rename(by)
    groups = found[["step", "layer"]].groupby([found["alarm"], values], sort=False)
    table = groups.median().assign(fired=groups.size()).reset_index()
    table["networks"] = table[by].map(cells[by].value_counts())
    ranks = {"alarm": list(ALARMS), by: list(dict.fromkeys(cells[by]))}
    order = pd.concat([table[key].map(ranks[key].index) for key in ("alarm", by)], axis=1)
    return table.loc[order.sort_values(["alarm", by]).index].reset_index(drop=True)
