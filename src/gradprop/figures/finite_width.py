"""Figures of the lengths of signals in networks of finite width, at initialization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis.lengths import LENGTH, log_lengths, series
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.figures.layers import MEASURED_LINE, THEORY_LINE, line_handles
from gradprop.grid.selection import select
from gradprop.prediction.finite_width import length_law, reciprocal_widths
from gradprop.results.study_tables import Options, StudyTables
from gradprop.spec import Cell

Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.90
WIDTHS = "widths of the hidden layers"  # over a legend of architectures
HORIZONTAL = {"depth": "depth", "reciprocal_widths": "sum of reciprocal widths"}
TYPICAL_LINE = {**THEORY_LINE, "linestyle": (0, (1, 1.5))}


def _ensembles(tables: StudyTables, options: Options) -> dict[str, list[Cell]]:
    """Return the selected cells by the name of their line: of each line the deepest ones.

    The first layers of a deep network are a network, too.
    """
    names = series(tables, options["hue"])
    found: dict[str, list[Cell]] = {}
    for cell in select(tables.study.cells, options.get("select", {})):
        line = found.setdefault(names[cell.id], [])
        if line and cell.depth > line[0].depth:
            line.clear()
        if cell.depth > 0 and (not line or cell.depth == line[0].depth):
            line.append(cell)
    return {name: cells for name, cells in found.items() if cells}


def legend_title(names: pd.Series[str], hue: str) -> str | None:
    """Return the title of a legend of lines that `gradprop.analysis.lengths.series` named."""
    return WIDTHS if hue == "widths" else style.title_of_numbers(names, hue)


# ------------------------------------------------------------------------------------- mean length


def prepare_mean_length(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Mean and median over networks of M_l by layer, log10, with the theory of both."""
    hue: str = options["hue"]
    parts = []
    for name, cells in _ensembles(tables, options).items():
        logs = log_lengths(tables, cells)
        law = length_law(cells[0])
        unknown = np.full(cells[0].depth, np.nan)
        mean, typical = (law[0], law[1].mean) if law else (unknown, unknown)
        decades = {
            "mean": _log_mean(logs),
            "median": np.median(logs, axis=0),
            "predicted_mean": mean,
            "predicted_typical": typical,
        }
        columns = {key: value / math.log(10) for key, value in decades.items()}
        layers = np.arange(1, cells[0].depth + 1)
        parts.append(pd.DataFrame({hue: name, "layer": layers, **columns, **_counts(logs)}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _counts(logs: Float64) -> dict[str, Any]:
    """Count the networks, shape (networks, layers), and those without a finite logarithm."""
    finite, zero = np.isfinite(logs).sum(axis=0), (logs == -np.inf).sum(axis=0)
    others = len(logs) - finite - zero
    return {
        "networks": len(logs), "finite": finite, "zero": zero, "diverged": others, "missing": 0,
    }  # fmt: skip


def _log_mean(logs: Float64) -> Float64:
    """Return ln of the mean of exp(logs) over the rows, without leaving the range of floats."""
    largest = logs.max(axis=0)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.asarray(shift + np.log(np.exp(logs - shift).mean(axis=0)))


def draw_mean_length(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw log10 of the mean (full) and median (dotted) length against depth; theory in black."""
    hue: str = options["hue"]
    # Dashes tell mean and median.
    looks = style.looks(rows[hue], hue, options, dashed=False)
    figure, (axes,) = style.panels(1, height=3.6)
    for value, line in rows.groupby(hue, sort=False):
        for column, dashes in (("mean", "solid"), ("median", (0, (1, 1)))):
            shown = line[np.isfinite(line[column])]
            axes.plot(
                shown["layer"], shown[column], color=looks[value].colour, linestyle=dashes,
                linewidth=2.2,
            )  # fmt: skip
        axes.plot(line["layer"], line["predicted_mean"], **THEORY_LINE)
        axes.plot(line["layer"], line["predicted_typical"], **TYPICAL_LINE)
    lines = [
        lost.Line(line, "layer", looks[value].colour)
        for value, line in rows.groupby(hue, sort=False)
    ]
    style.powers_of_ten(axes.yaxis)
    lost.finish(axes, lines, LENGTH, bands=False)
    handles: list[Line2D] = line_handles(looks, dashed=False)
    handles += lost.handles([axes])
    grey: dict[str, Any] = {"color": "#4d4d4d", "linewidth": 2.2}
    handles += [
        Line2D([], [], label="mean over networks", **grey),
        Line2D([], [], label="median", linestyle=(0, (1, 1)), **grey),
    ]
    if rows["predicted_mean"].notna().any():
        handles.append(Line2D([], [], label="theory of the mean", **THEORY_LINE))
        handles.append(Line2D([], [], label="theory of a typical network", **TYPICAL_LINE))
    return style.finish(
        figure,
        handles,
        xlabel="depth d",
        ylabel="length M$_d$",
        legend_title=legend_title(rows[hue], hue),
    )


def describe_mean_length(rows: pd.DataFrame, options: Options) -> str:
    """Give mean and median in the last layer of every line."""
    last = rows[rows["layer"] == rows.groupby(options["hue"], sort=False)["layer"].transform("max")]
    ends = "; ".join(
        f"{row[options['hue']]}: mean {row['mean']:.2f} (theory {row['predicted_mean']:.2f}), "
        f"median {row['median']:.2f} (theory {row['predicted_typical']:.2f})"
        for _, row in last.iterrows()
    )
    return (
        f"log10 of the length of activations against depth. At the largest depth: {ends}."
        f"{lost.describe(rows, options['hue'])}"
    )


# ---------------------------------------------------------------------------------- spread of it


def prepare_length_spread(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Variance over networks of ln M_l by layer, with the sum of reciprocal widths and the theory.

    All lines end at the depth of the shallowest line. Networks in which a layer is dead have no
    logarithm and are left out from that layer on. The interval is that of the variance of normal
    values.
    """
    parts = []
    ensembles = _ensembles(tables, options)
    last = min((cells[0].depth for cells in ensembles.values()), default=0)
    for name, cells in ensembles.items():
        logs = log_lengths(tables, cells)
        counts = _counts(logs)
        logs, count = np.where(np.isfinite(logs), logs, np.nan), counts["finite"]
        low, high = scipy.stats.chi2.interval(CONFIDENCE, np.maximum(count - 1, 1))
        enough = count > 1
        variance = np.full(len(count), np.nan)
        variance[enough] = np.nanvar(logs[:, enough], axis=0, ddof=1)
        law = length_law(cells[0])
        depth = np.arange(1, cells[0].depth + 1)
        columns = {
            "depth": depth,
            "reciprocal_widths": reciprocal_widths(cells[0]),
            "variance": variance,
            "low": (count - 1) * variance / high,
            "high": (count - 1) * variance / low,
            "predicted": law[1].variance if law else np.nan,
            **counts,
        }
        rows = pd.DataFrame({"line": name, **columns})
        parts.append(rows[rows["depth"] <= last])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def draw_length_spread(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the variance against depth and against the sum of reciprocal widths, side by side."""
    names = rows["line"]
    looks = style.looks(names, options["hue"], options, dashed=False)
    figure, panels = style.panels(len(HORIZONTAL), height=3.4, sharey=True)
    for axes, (column, label) in zip(panels, HORIZONTAL.items(), strict=True):
        for name, line in rows.groupby("line", sort=False):
            axes.fill_between(
                line[column], line["low"], line["high"], color=looks[name].colour, alpha=0.15, lw=0
            )
            axes.plot(line[column], line["variance"], color=looks[name].colour, **MEASURED_LINE)
            axes.plot(line[column], line["predicted"], **THEORY_LINE)
        axes.set_xlabel(label)
    handles = line_handles(looks)
    if rows["predicted"].notna().any():
        handles.append(Line2D([], [], label="theory, exact", **THEORY_LINE))
    return style.finish(
        figure,
        handles,
        xlabel="",
        ylabel="variance of ln M$_d$ over networks",
        legend_title=legend_title(names, options["hue"]),
    )


def describe_length_spread(rows: pd.DataFrame, options: Options) -> str:
    """Give sum and variance in the last drawn layer of every line."""
    last = rows[rows["depth"] == rows["depth"].max()]
    ends = "; ".join(
        f"{row['line']}: {row['variance']:.3g} at a sum of {row['reciprocal_widths']:.3g} "
        f"(theory {row['predicted']:.3g})"
        for _, row in last.iterrows()
    )
    return (
        "Variance over networks of the logarithm of the length, against depth, where architectures "
        f"differ, and against the sum of reciprocal widths, where they come together. {ends}."
        f"{lost.describe(rows, 'line')}"
    )


KINDS = {
    "mean_length": Kind(prepare_mean_length, draw_mean_length, describe_mean_length),
    "length_spread": Kind(prepare_length_spread, draw_length_spread, describe_length_spread),
}
