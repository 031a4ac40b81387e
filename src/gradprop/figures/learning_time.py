"""Figures of the time to learn: steps until an accuracy, each line at its best learning rate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from gradprop.figures import style
from gradprop.figures.data import Kind, Options, StudyTables
from gradprop.figures.finite_width import HORIZONTAL, reciprocal_widths, series
from gradprop.figures.layers import line_handles
from gradprop.grid import select

# Where the marks of lines that never arrive stand, over the largest time.
NEVER, SPACING = 1.8, 1.15
# Lines of equal times stand beside each other, by this part of the axis.
DODGE = 0.006


def first_step(steps: pd.DataFrame, column: str, level: float) -> float:
    """Return the first probed step of a cell with more than `level`; infinite if there is none."""
    reached = steps.loc[steps[column] > level, "step"]
    return float(reached.min()) if len(reached) else math.inf


def arrivals(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return when every selected cell that is trained arrives.

    Parameters
    ----------
    tables, options
        `statistic` is a column of the table of steps, `level` what it has to exceed, `hue` what
        tells lines apart.

    Returns
    -------
    DataFrame
        Columns: cell, line, depth, reciprocal_widths (the sum over all hidden layers),
        learning_rate, seed, and steps: the first probed step above the level, infinite if there
        is none.
    """
    names = series(tables, options["hue"])
    cells = [c for c in select(tables.study.cells, options.get("select", {})) if c.epochs]
    trained = tables.steps[tables.steps["cell"].isin({cell.id for cell in cells})]
    curves = dict(iter(trained.groupby("cell", sort=False)))
    return pd.DataFrame(
        [
            {
                "cell": cell.id,
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
    """Keep, for every line and depth, the arrivals at the best learning rate.

    That is the one with the smallest median over seeds of the steps; ties go to the smaller
    rate.
    """
    keys = ["line", "depth"]
    medians = found.groupby([*keys, "learning_rate"])["steps"].median()
    best = medians.unstack().idxmin(axis=1)
    # All infinite: pandas has no smallest, and any rate tells that.
    best = best.fillna(found["learning_rate"].min())
    chosen = best.loc[pd.MultiIndex.from_frame(found[keys])].to_numpy()
    return found[found["learning_rate"].to_numpy() == chosen]


def prepare_learning_time(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of the steps to the level, by line and depth.

    Seeds that never got there count as infinitely slow.
    """
    found = arrivals(tables, options)
    if found.empty:
        return found
    rows = []
    for (line, depth), group in at_best_rate(found).groupby(["line", "depth"], sort=False):
        low, median, high = np.quantile(group["steps"], [0.25, 0.5, 0.75], method="higher")
        rows.append(
            {
                options["hue"]: line,
                "depth": depth,
                "reciprocal_widths": group["reciprocal_widths"].iloc[0],
                "learning_rate": group["learning_rate"].iloc[0],
                "median": median,
                "low": low,
                "high": high,
                "seeds": len(group),
                "arrived": int(np.isfinite(group["steps"]).sum()),
                "arrives": bool(np.isfinite(median)),
            }
        )
    return pd.DataFrame(rows).sort_values(["depth"], kind="stable", ignore_index=True)


def draw_learning_time(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw steps, logarithmic, against what `against` lists; triangles at the top are never."""
    against = options.get("against", ["depth"])
    figure, panels = style.panels(len(against), height=3.2, sharey=True)
    for axes, column in zip(panels, against, strict=True):
        _draw_times(axes, rows, column, options["hue"])
        axes.set_xlabel(HORIZONTAL[column])
        if column == "depth":
            _tick_depths(axes, rows)
    return style.finish(figure, _handles(rows, options), xlabel="", ylabel=_label(options))


def draw_optimal_rate(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw steps (left) and the learning rates that make them fewest (right), all logarithmic."""
    hue: str = options["hue"]
    colours, dashes = style.palette(rows[hue]), style.dashes(rows[hue])
    figure, (left, right) = style.panels(2, height=3.2)
    _draw_times(left, rows, "depth", hue)
    arrived = rows[np.isfinite(rows["median"])]
    for value, line in arrived.groupby(hue, sort=False):
        right.plot(
            line["depth"], line["learning_rate"], color=colours[value], linestyle=dashes[value],
            marker="o", markersize=4,
        )  # fmt: skip
    depths = sorted(rows["depth"].unique())
    for axes, label in ((left, _label(options)), (right, "best learning rate")):
        axes.set_ylabel(label)
        if depths[0] > 0 and not arrived.empty:
            axes.set(xscale="log", yscale="log", xlim=(0.85 * depths[0], 1.18 * depths[-1]))
            _plain_numbers(axes)
        _tick_depths(axes, rows)
    return style.finish(figure, _handles(rows, options), xlabel="depth", ylabel="")


def _draw_times(axes: Axes, rows: pd.DataFrame, column: str, hue: str) -> None:
    colours, dashes = style.palette(rows[hue]), style.dashes(rows[hue])
    ends = rows[["median", "high"]].to_numpy(np.float64)
    never = NEVER * max([1.0, *ends[np.isfinite(ends)]])
    lines = list(rows.groupby(hue, sort=False))
    dodge = DODGE * float(rows[column].max() - rows[column].min())
    for number, (value, line) in enumerate(lines):
        line = line.sort_values(column)
        line = line.assign(place=line[column] + dodge * (number - (len(lines) - 1) / 2))
        shown, lost = (line[line["arrives"] == arrives] for arrives in (True, False))
        top = shown["high"].where(np.isfinite(shown["high"]), never)
        axes.errorbar(
            shown["place"],
            shown["median"].clip(lower=1),
            yerr=[shown["median"] - shown["low"], top - shown["median"]],
            color=colours[value],
            linestyle=dashes[value],
            marker="o",
            markersize=4,
            elinewidth=0.8,
        )
        height = never * SPACING**number  # one above the other
        axes.plot(lost["place"], np.full(len(lost), height), "^", color=colours[value])
    axes.set_yscale("log")
    _plain_numbers(axes)


def _tick_depths(axes: Axes, rows: pd.DataFrame) -> None:
    depths = sorted(rows["depth"].unique())
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _handles(rows: pd.DataFrame, options: Options) -> list[Line2D]:
    hue: str = options["hue"]
    names = rows[hue]
    handles = line_handles(names, style.palette(names), style.dashes(names))
    if not rows["arrives"].all():
        mark = Line2D([], [], color="#4d4d4d", marker="^", linestyle="none", label="never")
        handles.append(mark)
    return handles


def _label(options: Options) -> str:
    return f"steps to {options['level']:.0%} {style.label(options['statistic'])}"


def describe_learning_time(rows: pd.DataFrame, options: Options) -> str:
    """Give the median of every line at the smallest and the largest depth."""
    parts = []
    for value, line in rows.groupby(options["hue"], sort=False):
        ends = (line.iloc[0], line.iloc[-1])
        texts = [
            f"{end['median']:.0f} at depth {end['depth']}"
            if end["arrives"]
            else f"never at depth {end['depth']}"
            for end in ends
        ]
        parts.append(f"{value}: {', '.join(dict.fromkeys(texts))}")
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
