"""Figures over an ensemble of networks that differ in nothing but their seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis import estimates
from gradprop.analysis.layers import hidden
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind, statistics
from gradprop.figures.layers import THEORY_LINE, line_handles
from gradprop.prediction.fluctuations import expected_fluctuation
from gradprop.results.study_tables import Options, StudyTables, at_step, groups


def prepare_fluctuations(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Relative variance over networks of a mean square, by layer, with what theory expects."""
    (name,) = statistics(options)
    rows = hidden(at_step(tables.join(tables.layers, options), options))
    with np.errstate(over="ignore"):
        squares = rows.assign(square=10.0 ** rows[name].astype(np.float64))
    keys = [*groups(options), "layer"]
    counts = estimates.counts(squares, keys, "square", tables.diverged(rows)).reset_index()
    examples = {cell.id: cell for cell in tables.study.cells}
    parts = []
    for key, networks in rows.groupby(groups(options), sort=False):
        values = networks.pivot(index="cell", columns="layer", values=name)
        with np.errstate(over="ignore"):  # infinity has no fluctuation
            mean_squares = 10.0 ** values.to_numpy(np.float64)
        estimate, low, high = estimates.relative_variance(mean_squares)
        parts.append(
            pd.DataFrame(
                {
                    **dict(zip(groups(options), key, strict=True)),
                    "layer": values.columns.to_numpy(),
                    "fluctuation": estimate,
                    "low": low,
                    "high": high,
                    "predicted": expected_fluctuation(examples[values.index[0]]),
                }
            )
        )
    return pd.concat(parts, ignore_index=True).merge(counts, on=keys) if parts else pd.DataFrame()


def draw_fluctuations(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw relative variances against the layer, both logarithmic, with 90 % intervals."""
    hue: str = options["hue"]
    looks = style.looks(rows[hue], hue, options)
    facets = style.grid(
        rows, options.get("rows"), options.get("columns"), height=3.2, sharex=True, sharey=True
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False):
            axes.fill_between(
                line["layer"], line["low"], line["high"], color=looks[value].colour, alpha=0.2, lw=0
            )
            axes.plot(
                line["layer"], line["fluctuation"], color=looks[value].colour,
                linestyle=looks[value].dash,
            )  # fmt: skip
            axes.plot(line["layer"], line["predicted"], **THEORY_LINE)
        axes.set(xscale="log", xlabel="", ylabel="")
        style.plain_ticks(axes.xaxis)
        if (rows["fluctuation"] > 0).any():
            axes.set_yscale("log")
    handles = line_handles(looks)
    if rows["predicted"].notna().any():
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    label = f"relative variance of {style.label(statistics(options)[0])}".replace("log$_{10}$ ", "")
    return style.finish(
        facets.figure,
        handles,
        xlabel="layer",
        ylabel=label,
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_fluctuations(rows: pd.DataFrame, options: Options) -> str:
    """Give the relative variance in the last layer of every line."""
    keys = groups(options)
    last = rows[rows["layer"] == rows.groupby(keys, sort=False)["layer"].transform("max")]
    ends = "; ".join(
        f"{', '.join(str(row[key]) for key in keys)}: {row['fluctuation']:.2g}"
        for _, row in last.iterrows()
    )
    return (
        "Relative variance over networks of a mean square against the layer, on logarithmic axes, "
        f"with 90 % intervals. In the last hidden layer: {ends}.{lost.describe(rows, keys[-1])}"
    )


KINDS = {
    "fluctuations": Kind(prepare_fluctuations, draw_fluctuations, describe_fluctuations),
}
