"""Figures of what networks learn of the modes of a regression task (Saxe et al. 2014)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.modes import start_strength, time_unit
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.figures.layers import MEASURED_LINE, THEORY_LINE, line_handles
from gradprop.results.study_tables import Options, StudyTables, groups

Float64 = npt.NDArray[np.float64]


def prepare_modes(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of the learned part of every mode, with the exact solution.

    Time is in the units of theory, the reciprocal of the learning rate.
    """
    if tables.measurement("modes").empty:
        return tables.measurement("modes")
    rows = tables.join(tables.measurement("modes"), options)
    if rows.empty:
        return rows
    cells = {cell.id: cell for cell in tables.study.cells}
    units = {name: time_unit(cells[name]) for name in rows["cell"].unique()}
    starts = {name: start_strength(cells[name]) for name in units}
    rows = rows.assign(time=rows["step"] * rows["cell"].map(units), start=rows["cell"].map(starts))
    keys = [*groups(options), "index", "strength", "time"]
    table = estimates.quartiles(rows, keys, "learned", tables.diverged(rows))
    # No key of the groups: theory does not know it of all networks.
    table = table.merge(rows.groupby(keys)["start"].first().reset_index(), on=keys)
    predicted = [
        float(theory.mode_strength(time, s, u_0)) if 0 < u_0 < s else math.nan
        for s, u_0, time in zip(table["strength"], table["start"], table["time"], strict=True)
    ]
    return table.assign(predicted=predicted)


def draw_modes(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the learned strength of every mode against time; the exact solution is dashed."""
    hue: str = options["hue"]
    looks = style.looks(rows[hue], hue, options)
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=3.4)
    shown: list[tuple[Axes, list[lost.Line]]] = []
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        lines = []
        for (value, _), line in panel.groupby([hue, "index"], sort=False):
            lines.append(lost.Line(line, "time", looks[value].colour))
            lines[-1].draw(axes, linestyle=looks[value].dash, **MEASURED_LINE)
        for s, line in panel.drop_duplicates(["index", "time"]).groupby("strength"):
            axes.plot(line["time"], line["predicted"], **THEORY_LINE)
            axes.annotate(
                f"s = {s:.3g}", (line["time"].max(), s), (0, 3), textcoords="offset points",
                ha="right", fontsize=8.5, color="#404040",
            )  # fmt: skip
        axes.set(xlabel="", ylabel="")
        shown.append((axes, lines))
    for axes, lines in shown:
        lost.finish(axes, lines, "learned")
    handles = [*line_handles(looks), *lost.handles(facets.axes.flat)]
    if rows["predicted"].notna().any():
        handles.append(Line2D([], [], label="exact solution of linear networks", **THEORY_LINE))
    return style.finish(
        facets.figure,
        handles,
        legend_title=style.title_of_numbers(rows[hue], hue),
        xlabel="time t / τ, steps times learning rate",
        ylabel="mode strength",
    )


def describe_modes(rows: pd.DataFrame, options: Options) -> str:
    """Give for every panel the strengths at the end."""
    last = rows[rows["time"] == rows["time"].max()]
    keys = groups(options)
    ends = [
        f"{', '.join(str(row[key]) for key in keys)} mode {row['index']}: {row['median']:.3g} of "
        f"{row['strength']:.3g}"
        for _, row in last.iterrows()
    ]
    return (
        f"Learned strength of modes against time. At the end: {'; '.join(ends)}."
        f"{lost.describe(rows, options['hue'])}"
    )


KINDS = {"modes": Kind(prepare_modes, draw_modes, describe_modes)}
