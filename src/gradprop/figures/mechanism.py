"""Figures of the mechanism: products of many matrices, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis.mechanism import (
    LARGEST,
    PART_OF_LIMIT,
    SMALLEST,
    layer_spread,
    prepare_gradient,
    prepare_limits,
    prepare_output,
    prepare_random,
)
from gradprop.figures import style
from gradprop.figures.kind import Kind
from gradprop.results.study_tables import Options

SHOWN_DEPTHS = (10, 50, 100)  # numbers of weight matrices in the panel over layers


def draw_output(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw log10 of the ratio against L: lines are closed forms, dots are measured."""
    figure, axes = style.panels(1, height=4.0)
    _draw_against_depth(axes[0], rows)
    return style.finish(
        figure,
        _closed_form_handles(rows, "c$^L$"),
        xlabel="L, number of weight matrices",
        ylabel="RMS of output / RMS of input",
    )


def _draw_against_depth(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw closed forms as lines and measurements as dots, with the limits of float32 if near."""
    colours = style.colours(rows["c"])
    for edge, text in ((LARGEST, "float32 overflows"), (SMALLEST, "float32 underflows")):
        if (rows["closed_form"] / edge).max() < PART_OF_LIMIT:
            continue
        axes.axhline(edge, color="#808080", linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(2, edge + 0.8, text, fontsize=8.5, color="#606060")
    for c, line in rows.groupby("c"):
        axes.plot(line["matrices"], line["closed_form"], color=colours[c], linewidth=1.2)
        dots = line[np.isfinite(line["measured"]) & (line["matrices"] % 10 == 0)]
        axes.plot(dots["matrices"], dots["measured"], "o", markersize=3.4, color=colours[c])
    style.powers_of_ten(axes.yaxis)


def _closed_form_handles(rows: pd.DataFrame, formula: str) -> list[Line2D]:
    colours = style.colours(rows["c"])
    handles = [Line2D([], [], color=colours[c], label=f"c = {c}") for c in rows["c"].unique()]
    line = Line2D([], [], color="#4d4d4d", linewidth=1.2, label=f"closed form {formula}")
    dots = Line2D([], [], color="#4d4d4d", marker="o", linestyle="none", label="measured")
    return [*handles, line, dots]


def describe_output(rows: pd.DataFrame, options: Options) -> str:
    """Give the ratio at L = 100 for every c."""
    at = rows[rows["matrices"] == min(100, rows["matrices"].max())]
    text = ", ".join(f"c = {row.c}: {row.measured:.2f}" for row in at.itertuples())
    return (
        "Straight lines: log10 of the ratio of output to input of linear networks W = c I "
        f"against the number of matrices L. At L = {at['matrices'].iloc[0]}: {text}."
    )


def draw_gradient(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the gradient against depth, and, for some depths, against the layer: flat lines."""
    figure, axes = style.panels(2, height=3.8)
    edges = rows.groupby(["c", "matrices"], sort=False).agg(
        measured=("measured", "max"), closed_form=("closed_form", "first")
    )
    _draw_against_depth(axes[0], edges.reset_index())
    axes[0].set_xlabel("L, number of weight matrices")
    axes[0].set_title("Against the depth of the network: exponential")
    colours = style.colours(rows["c"])
    for (c, matrices), line in rows.groupby(["c", "matrices"]):
        if matrices in SHOWN_DEPTHS:
            axes[1].plot(line["layer"], line["measured"], color=colours[c], linewidth=1.4)
            text = f"L = {matrices}" if c in (rows["c"].min(), rows["c"].max()) else ""
            axes[1].text(matrices + 1.5, line["measured"].iloc[-1], text, fontsize=8, va="center")
    axes[1].set_xlim(0, max(SHOWN_DEPTHS) * 1.18)
    style.powers_of_ten(axes[1].yaxis)
    axes[1].set_xlabel("layer")
    axes[1].set_title("Against the layer, within one network: constant")
    return style.finish(
        figure,
        _closed_form_handles(rows, "c$^{L-1}$"),
        xlabel="",
        ylabel="RMS of dC/dW / that at c = 1",
    )


def describe_gradient(rows: pd.DataFrame, options: Options) -> str:
    """Say that the gradient depends on depth and not on the layer, with the measured spread."""
    largest = layer_spread(rows).max()
    return (
        "Left: log10 of the weight gradient of linear networks W = c I against the number of "
        "matrices L, straight lines. Right: the same against the layer for some L, horizontal "
        f"lines; the largest difference between two layers of one network is {largest:.1g} decades."
    )


def draw_limits(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the relative error against L; marks at the top are overflows and exact zeros."""
    colours = style.colours(rows["c"])
    quantities = list(dict.fromkeys(rows["quantity"]))
    figure, axes = style.panels(len(quantities), height=3.4, sharey=True)
    for panel, quantity in zip(axes, quantities, strict=True):
        part = rows[rows["quantity"] == quantity]
        panel.axhline(1e-5, color="#808080", linewidth=0.9, linestyle=(0, (2, 2)))
        for number, (c, line) in enumerate(part.groupby("c")):
            error = line["relative_error"].clip(lower=1e-9)
            panel.plot(line["matrices"], error, color=colours[c], linewidth=1.1)
            for state, marker in (("overflow", "x"), ("zero", "|")):
                lost = line[line["state"] == state]
                height = 10.0 * 1.9**number
                panel.plot(
                    lost["matrices"][::3],
                    np.full(len(lost), height)[::3],
                    marker,
                    markersize=4,
                    color=colours[c],
                )
        panel.set_yscale("log")
        panel.set_ylim(5e-10, max(1e3, 10.0 * 1.9 ** len(colours)))
        panel.set_title(quantity)
    handles = [Line2D([], [], color=colours[c], label=f"c = {c}") for c in colours]
    for state, marker, text in (("overflow", "x", "infinite or NaN"), ("zero", "|", "exactly 0")):
        if (rows["state"] == state).any():
            mark = Line2D([], [], color="#4d4d4d", marker=marker, linestyle="none", label=text)
            handles.append(mark)
    return style.finish(
        figure, handles, xlabel="L, number of weight matrices", ylabel="relative error"
    )


def describe_limits(rows: pd.DataFrame, options: Options) -> str:
    """Give the L at which each c leaves the range of float32."""
    lost = rows[rows["state"] != "ok"].groupby(["quantity", "c", "state"], as_index=False).min()
    text = "; ".join(
        f"{row.quantity}, c = {row.c}: {row.state} from L = {row.matrices}"
        for row in lost.itertuples()
    )
    return f"Relative error of float32 against the closed form, by L. {text}."


PALE = "#5B8DB8"  # thin lines of many networks, below the others
RANDOM_STYLES: dict[str, dict[str, Any]] = {
    "mean": {"color": style.VERMILLION, "linewidth": 1.6},
    "theory of the mean": {"color": style.VERMILLION, "linewidth": 1.2, "linestyle": (0, (4, 2))},
    "median": {"color": style.NAVY, "linewidth": 1.6},
    "theory of the typical": {"color": "#000000", "linewidth": 1.2, "linestyle": (0, (4, 2))},
}


def draw_random(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw single networks thin, their median and mean thick, the theory dashed."""
    values = sorted(rows["c"].unique())
    figure, axes = style.panels(len(values), height=2.8)
    for panel, c in zip(axes, values, strict=True):
        part = rows[rows["c"] == c]
        for _, line in part[part["kind"] == "network"].groupby("network"):
            panel.plot(line["layer"], line["log10_growth"], color=PALE, linewidth=0.5)
        for kind, look in RANDOM_STYLES.items():
            line = part[part["kind"] == kind]
            panel.plot(line["layer"], line["log10_growth"], **look)
        panel.set_title(f"c = {c:g}")
        style.powers_of_ten(panel.yaxis)
    handles = [Line2D([], [], color=PALE, linewidth=0.8, label="single networks")]
    handles += [Line2D([], [], label=kind, **look) for kind, look in RANDOM_STYLES.items()]
    handles += style.own_scales([axes])
    return style.finish(figure, handles, xlabel="layer", ylabel="squared length")


def describe_random(rows: pd.DataFrame, options: Options) -> str:
    """Give the growth of median and mean theory at the last layer."""
    last = rows[rows["layer"] == rows["layer"].max()]
    table = last[last["kind"] != "network"].pivot(index="c", columns="kind", values="log10_growth")
    text = "; ".join(
        f"c = {c:g}: median {row['median']:.1f}, theory of the mean {row['theory of the mean']:.1f}"
        for c, row in table.iterrows()
    )
    return (
        "log10 of the squared length of a signal in products of random two by two matrices, by "
        f"layer, at the last layer: {text} decades."
    )


KINDS = {
    "product_output": Kind(prepare_output, draw_output, describe_output),
    "product_gradient": Kind(prepare_gradient, draw_gradient, describe_gradient),
    "float_limits": Kind(prepare_limits, draw_limits, describe_limits),
    "random_products": Kind(prepare_random, draw_random, describe_random),
}
