"""Figures of the distributions of activations and gradients, layer by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis import estimates
from gradprop.analysis.layers import hidden
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind, statistics
from gradprop.results.study_tables import Options, StudyTables, groups

# A density this many times those beside it is a peak of one bin.
PEAK = 2.0
# What the quantities of the measurement `histograms` are called above a panel.
QUANTITIES = {
    "activation": "activation",
    "preactivation": "pre-activation z",
    "signal": "back-propagated gradient dC/dz",
    "gradient": "weight gradient dC/dW",
}


def prepare_histograms(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Densities of the values of all networks of a panel together, by hidden layer and bin.

    The configuration is refused unless these networks have the same bins (`gradprop.grid`).

    Returns
    -------
    DataFrame
        One row per bin: the panel's parameters, ``quantity``, ``layer``, ``low`` and ``high`` (the
        ends of the bin), ``density`` (the fraction of all values that it holds over its width),
        ``outside`` (the fraction of values in no bin) and the columns of
        `gradprop.analysis.estimates.counts`. The values are those of networks in which all of the
        layer are finite; there is no density where more than half have others.
    """
    if tables.measurement("histograms").empty:
        return tables.measurement("histograms")
    rows = hidden(tables.join(tables.measurement("histograms"), options))
    rows = rows[rows["quantity"].isin(statistics(options)) & _at(rows, tables, options)]
    order = rows["quantity"].map(statistics(options).index)
    rows = rows.loc[order.sort_values(kind="stable").index]
    keys = [*groups(options), "quantity", "layer"]
    rows = rows.assign(lost=_lost(rows, tables.diverged(rows)))
    pooled = (
        rows.assign(count=rows["count"].mask(rows["lost"], 0))
        .groupby([*keys, "bin"], sort=False, as_index=False)
        .agg(low=("low", "first"), high=("high", "first"), count=("count", "sum"))
        .merge(_networks(rows, keys, tables), on=keys)
    )
    lines = pooled.groupby(keys, sort=False)
    total = lines["count"].transform("sum")
    last = lines["bin"].transform("max") - 2  # above the bins are what is too large and not finite
    inside = pooled["bin"].between(0, last)
    width = pooled["high"] - pooled["low"]
    pooled["density"] = (pooled["count"] / total / width).mask(estimates.too_few(pooled))
    held = pooled["count"].where(inside, 0)
    pooled["outside"] = 1 - held.groupby([pooled[key] for key in keys]).transform("sum") / total
    return pooled.loc[inside].drop(columns=["bin", "count"]).reset_index(drop=True)


def _lost(rows: pd.DataFrame, diverged: pd.Series[bool]) -> pd.Series[bool]:
    """Tell, for every row, whether its network has values in this layer that are not finite.

    Behind a rectifier all gradients of a diverged network may be 0 instead: in one bin.
    """
    lines = rows.groupby(["cell", "quantity", "layer"], sort=False)
    count, last = rows["count"], lines["bin"].transform("max")
    not_finite = count.where(rows["bin"] == last, 0) > 0
    in_one_bin = diverged & (count == lines["count"].transform("sum"))
    keys = [rows[name] for name in ("cell", "quantity", "layer")]
    return (not_finite | in_one_bin).groupby(keys, sort=False).transform("any")


def _networks(rows: pd.DataFrame, keys: list[str], tables: StudyTables) -> pd.DataFrame:
    """Count the networks of every layer, and those of them that are lost."""
    once = rows[rows["bin"] == -1]  # a row for every network, quantity and layer
    value = once["lost"].map({True: np.nan, False: 0.0})
    counted = once.assign(value=value)
    return estimates.counts(counted, keys, "value", tables.diverged(counted)).reset_index()


def _at(rows: pd.DataFrame, tables: StudyTables, options: Options) -> pd.Series[bool]:
    """Tell which rows are of the first or the last step of their network."""
    last = tables.steps.groupby("cell")["step"].max()
    return rows["step"] == (rows["cell"].map(last) if options.get("at") == "end" else 0)


def draw_histograms(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw densities as one outline per layer; a column of panels for every quantity."""
    colours = style.colours(rows["layer"])
    rows = rows.assign(panel=_panel_titles(rows, options))
    facets = style.grid(rows, options.get("rows"), "panel", height=2.2, sharex="col", sharey=False)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for layer, line in panel.groupby("layer"):
            edges = [*line["low"], line["high"].iloc[-1]]
            axes.stairs(line["density"], edges, baseline=None, color=colours[layer], linewidth=1.3)
        axes.set(ylim=(0, 1.05 * _top(panel)), xlabel="", ylabel="")
        axes.locator_params(axis="x", nbins=5)  # small numbers are long
        layers = panel.drop_duplicates("layer")
        lost.mark_panel(axes, layers, [colours[layer] for layer in layers["layer"]])
    handles = [
        Line2D([], [], color=colour, label=f"layer {layer}") for layer, colour in colours.items()
    ]
    handles += lost.handles(facets.axes.flat)
    return style.finish(facets.figure, handles, xlabel="value", ylabel="density")


def _top(panel: pd.DataFrame) -> float:
    """Return the highest density, that of a peak of a single bin cut to the bins beside it.

    Such a peak is one value that many entries have, as a gradient of 0 where inputs are always 0;
    its height depends on the width of the bins.
    """
    highest = 0.0
    for _, line in panel.groupby("layer"):
        density = line["density"].fillna(0.0)
        beside = np.maximum(density.shift(1, fill_value=0.0), density.shift(-1, fill_value=0.0))
        highest = max(highest, density.where(density <= PEAK * beside, beside).max())
    return highest or panel["density"].fillna(0.0).max() or 1.0


def _panel_titles(rows: pd.DataFrame, options: Options) -> pd.Series[str]:
    """Return the quantity of every row, and its value of the option `columns`."""
    quantity = rows["quantity"].map(QUANTITIES)
    column: str | None = options.get("columns")
    if column is None:
        return quantity
    value = rows[column].astype(str)
    return quantity + ", " + value if rows["quantity"].nunique() > 1 else value


def describe_histograms(rows: pd.DataFrame, options: Options) -> str:
    """Give the highest density of the first and the last layer of every panel."""
    keys = [*groups(options), "quantity"]
    parts = []
    for key, panel in rows.groupby(keys, sort=False):
        peaks = panel.groupby("layer")["density"].max()
        place = ", ".join([*map(str, key[:-1]), QUANTITIES[str(key[-1])]])
        parts.append(
            f"{place}: {_height(peaks.iloc[0])} in layer {peaks.index[0]}, "
            f"{_height(peaks.iloc[-1])} in layer {peaks.index[-1]}"
        )
    text = (
        "Histograms of the values in every hidden layer, over all networks together. Highest "
        f"density: {'; '.join(parts)}."
    )
    outside = rows["outside"].max()
    if outside >= 0.0005:
        text += f" Up to {outside:.1%} of values are outside."
    return text + lost.describe(rows, "layer")


def _height(density: float) -> str:
    return "none" if np.isnan(density) else f"{density:.3g}"


KINDS = {"histograms": Kind(prepare_histograms, draw_histograms, describe_histograms)}
