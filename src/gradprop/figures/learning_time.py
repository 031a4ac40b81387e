"""Figures of the time to learn: steps until an accuracy, each line at its best learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from gradprop.analysis.arrivals import arrivals, at_best_rate
from gradprop.figures import lost, style
from gradprop.figures.finite_width import HORIZONTAL, legend_title
from gradprop.figures.kind import Kind
from gradprop.figures.layers import line_handles
from gradprop.results.study_tables import Options, StudyTables

# Where the marks of lines that never arrive stand, over the largest time: the first one and each
# next over the one before, on linear and on logarithmic axes.
NEVER = {"linear": (1.1, 1.09), "log": (1.8, 1.15)}
# Lines of equal times stand beside each other, by this part of the axis.
DODGE = 0.006
GUIDE_LINE: dict[str, Any] = {"color": "#808080", "linestyle": (0, (1, 2)), "linewidth": 1.0}


def prepare_learning_time(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of the steps to the level, by line and depth.

    Seeds that never got there count as infinitely slow.
    """
    found = arrivals(tables, options)
    if found.empty:
        return found
    rows = []
    for key, group in at_best_rate(found).groupby(["panel", "line", "depth"], sort=False):
        panel, line, depth = key
        low, median, high = np.quantile(group["steps"], [0.25, 0.5, 0.75], method="higher")
        rows.append(
            {
                **({options["columns"]: panel} if "columns" in options else {}),
                options["hue"]: line,
                "depth": depth,
                "reciprocal_widths": group["reciprocal_widths"].iloc[0],
                "learning_rate": group["learning_rate"].iloc[0],
                "median": median,
                "low": low,
                "high": high,
                "networks": len(group),
                "arrived": int(np.isfinite(group["steps"]).sum()),
                "arrives": bool(np.isfinite(median)),
            }
        )
    return pd.DataFrame(rows).sort_values(["depth"], kind="stable", ignore_index=True)


def draw_learning_time(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw steps against what `against` lists; triangles at the top are medians that never arrive.

    With `exponents` axes are logarithmic and dotted lines show powers of the depth.
    """
    hue: str = options["hue"]
    against = options.get("against", ["depth"])
    parts = list(rows.groupby(options["columns"], sort=False)) if "columns" in options else []
    parts = parts or [("", rows)]
    figure, panels = style.panels(len(parts) * len(against), height=3.2, sharey=True)
    places = [(title, part, column) for title, part in parts for column in against]
    for axes, (title, part, column) in zip(panels, places, strict=True):
        _draw_times(axes, part, column, options)
        axes.set(title=title, xlabel=HORIZONTAL[column])
        if "exponents" in options:
            _draw_powers(axes, part, column, options["exponents"])
        if column == "depth":
            _tick_depths(axes, part)
    return style.finish(
        figure,
        [*_handles(rows, options), *lost.arrived_handles(figure.axes)],
        xlabel="",
        ylabel=_label(options),
        legend_title=legend_title(rows[hue], hue),
    )


def draw_optimal_rate(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw steps (left) and the learning rates that make them fewest (right)."""
    hue: str = options["hue"]
    looks = style.looks(rows[hue], hue, options)
    figure, (left, right) = style.panels(2, height=3.2)
    _draw_times(left, rows, "depth", options)
    for value, line in rows[np.isfinite(rows["median"])].groupby(hue, sort=False):
        right.plot(
            line["depth"], line["learning_rate"], color=looks[value].colour,
            linestyle=looks[value].dash, marker=looks[value].marker, markersize=4,
        )  # fmt: skip
    right.set_ylim(bottom=0)
    for axes, label in ((left, _label(options)), (right, "best learning rate")):
        axes.set_ylabel(label)
        _tick_depths(axes, rows)
    return style.finish(
        figure,
        [*_handles(rows, options), *lost.arrived_handles(figure.axes)],
        xlabel="depth",
        ylabel="",
        legend_title=legend_title(rows[hue], hue),
    )


def _draw_times(axes: Axes, rows: pd.DataFrame, column: str, options: Options) -> None:
    hue: str = options["hue"]
    scale = "log" if "exponents" in options else "linear"
    first, next_one = NEVER[scale]
    looks = style.looks(rows[hue], hue, options)
    ends = rows[["median", "high"]].to_numpy(np.float64)
    never = first * max([1.0, *ends[np.isfinite(ends)]])
    lines = list(rows.groupby(hue, sort=False))
    dodge = DODGE * float(rows[column].max() - rows[column].min())
    for number, (value, line) in enumerate(lines):
        line = line.sort_values(column)
        line = line.assign(place=line[column] + dodge * (number - (len(lines) - 1) / 2))
        shown, late = (line[line["arrives"] == arrives] for arrives in (True, False))
        top = shown["high"].where(np.isfinite(shown["high"]), never)
        axes.errorbar(
            shown["place"],
            shown["median"].clip(lower=1),
            yerr=[shown["median"] - shown["low"], top - shown["median"]],
            color=looks[value].colour,
            linestyle=looks[value].dash,
            marker=looks[value].marker,
            markersize=4,
            elinewidth=0.8,
        )
        height = never * next_one**number  # one above the other
        axes.plot(late["place"], np.full(len(late), height), "^", color=looks[value].colour)
        lost.note_arrived(axes, late["place"], height, late, looks[value].colour)
    if scale == "linear":
        axes.set_ylim(bottom=0)
        return
    axes.set(xscale="log" if rows[column].min() > 0 else "linear", yscale="log")
    style.plain_ticks(axes.yaxis)


def _draw_powers(axes: Axes, rows: pd.DataFrame, column: str, exponents: Sequence[float]) -> None:
    """Draw powers of what is to the right, all from the smallest time at the left."""
    start = float(rows["median"].min())
    x = np.sort(rows[column].unique())
    if not math.isfinite(start) or x[0] <= 0:
        return
    for exponent in exponents:
        axes.plot(x, start * (x / x[0]) ** exponent, **GUIDE_LINE)
        axes.annotate(
            f"exponent {exponent:g}", (x[-1], start * (x[-1] / x[0]) ** exponent), (0, 3),
            textcoords="offset points", ha="right", fontsize=8.5, color="#606060",
        )  # fmt: skip


def _tick_depths(axes: Axes, rows: pd.DataFrame) -> None:
    depths = sorted(rows["depth"].unique())
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _handles(rows: pd.DataFrame, options: Options) -> list[Line2D]:
    hue: str = options["hue"]
    handles = line_handles(style.looks(rows[hue], hue, options), markers=True)
    if not rows["arrives"].all():
        mark = Line2D([], [], color="#4d4d4d", marker="^", linestyle="none", label=lost.LATE)
        handles.append(mark)
    return handles


def _label(options: Options) -> str:
    return f"steps to {options['level']:.0%} {style.label(options['statistic'])}"


def describe_learning_time(rows: pd.DataFrame, options: Options) -> str:
    """Give the median of every line at the smallest and the largest depth."""
    keys = [options[key] for key in ("columns", "hue") if key in options]
    parts = []
    for key, line in rows.groupby(keys, sort=False):
        ends = (line.iloc[0], line.iloc[-1])
        texts = [
            f"{end['median']:.0f} at depth {end['depth']}"
            if end["arrives"]
            else f"never at depth {end['depth']}"
            for end in ends
        ]
        parts.append(f"{', '.join(map(str, key))}: {', '.join(dict.fromkeys(texts))}")
    return f"Median and quartiles over seeds of {_label(options)}. {'; '.join(parts)}."


def describe_optimal_rate(rows: pd.DataFrame, options: Options) -> str:
    """Give the same, and the best learning rates."""
    rates = "; ".join(
        f"{value}: {', '.join(f'{rate:g}' for rate in line['learning_rate'])}"
        for value, line in rows.groupby(options["hue"], sort=False)
    )
    return f"{describe_learning_time(rows, options)} Best learning rates by depth: {rates}."


KINDS = {
    "learning_time": Kind(prepare_learning_time, draw_learning_time, describe_learning_time),
    "optimal_rate": Kind(prepare_learning_time, draw_optimal_rate, describe_optimal_rate),
}
