"""Figures of the mechanism: products of many matrices, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.figures import style
from gradprop.figures.data import FigureError, Kind, Options, StudyTables
from gradprop.spec import Component
from gradprop.theory import log_growth_mean

FLOAT32 = np.finfo(np.float32)
LARGEST, SMALLEST = np.log10(float(FLOAT32.max)), np.log10(float(FLOAT32.tiny))
SHOWN_DEPTHS = (10, 50, 100)  # numbers of weight matrices in the panel over layers
DRAWN_NETWORKS = 25
NEAR = 0.5  # part of the way to a limit of float32, from which on the limit is drawn


def gain(label: str) -> float:
    """Return the c of W = c I, or of random W with E|W x|^2 = c^2 |x|^2; NaN for others."""
    component = Component.parse(label)
    parameters = dict(component.parameters)
    if component.name == "identity":
        return float(parameters.get("gain", 1.0))
    if component.name == "variance_scaling":
        return float(np.sqrt(float(parameters.get("scale", 1.0))))
    return float("nan")


def scaled_identities(tables: StudyTables) -> pd.DataFrame:
    """Measure outputs and gradients of linear networks W = c I against their closed forms.

    Returns
    -------
    DataFrame
        One row a network and layer: ``c``, ``matrices`` (L), ``layer``, and log10 of three
        ratios: ``output`` (RMS of the layer's output over that of the input; closed form
        ``c^layer``) and ``gradient`` (RMS of dC/dW over that of the network with c = 1;
        closed form ``c^(L-1)``).
    """
    cells = tables.cells[tables.cells["initializer"].str.match(r"identity\b")]
    cells = cells.assign(c=cells["initializer"].map(gain), matrices=cells["depth"] + 1)
    columns = ["cell", "layer", "preactivation_log10_mean_square", "gradient_log10_rms"]
    rows = tables.layers[columns].merge(cells[["cell", "c", "matrices", "seed"]], on="cell")
    unit = rows[rows["c"] == 1.0].rename(columns={"gradient_log10_rms": "unit_gradient"})
    if unit.empty:
        raise FigureError(
            "figures of the scaled identity compare with c = 1: the grid needs the initializer "
            "identity with gain 1"
        )
    # With W = I what comes out is what went in.
    inputs = unit.groupby("seed")["preactivation_log10_mean_square"].first() / 2
    keys = ["seed", "matrices", "layer"]
    rows = rows.merge(unit[[*keys, "unit_gradient"]], on=keys)
    return rows.assign(
        output=rows["preactivation_log10_mean_square"] / 2 - rows["seed"].map(inputs),
        gradient=rows["gradient_log10_rms"] - rows["unit_gradient"],
    )[["c", "matrices", "layer", "output", "gradient"]]


def prepare_output(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Ratio of output to input of every network, measured and c^L."""
    rows = scaled_identities(tables)
    last = rows[rows["layer"] == rows["matrices"]]
    return last.assign(closed_form=last["matrices"] * np.log10(last["c"]))[
        ["c", "matrices", "output", "closed_form"]
    ].rename(columns={"output": "measured"})


def draw_output(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw log10 of the ratio against L: lines are closed forms, dots are measured."""
    figure, axes = style.panels(1, height=4.0)
    _draw_against_depth(axes[0], rows)
    return style.finish(
        figure,
        _closed_form_handles(rows, "c$^L$"),
        xlabel="L, number of weight matrices",
        ylabel="log$_{10}$ (RMS of output / RMS of input)",
    )


def _draw_against_depth(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw closed forms as lines and measurements as dots, with the limits of float32 if near."""
    colours = style.palette(rows["c"])
    for edge, text in ((LARGEST, "float32 overflows"), (SMALLEST, "float32 underflows")):
        if (rows["closed_form"] / edge).max() < NEAR:
            continue
        axes.axhline(edge, color="#808080", linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(2, edge + 0.8, text, fontsize=8.5, color="#606060")
    for c, line in rows.groupby("c"):
        axes.plot(line["matrices"], line["closed_form"], color=colours[c], linewidth=1.2)
        dots = line[np.isfinite(line["measured"]) & (line["matrices"] % 10 == 0)]
        axes.plot(dots["matrices"], dots["measured"], "o", markersize=3.4, color=colours[c])


def _closed_form_handles(rows: pd.DataFrame, formula: str) -> list[Line2D]:
    colours = style.palette(rows["c"])
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


def prepare_gradient(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Gradient with respect to the weights of every layer, over that of c = 1."""
    rows = scaled_identities(tables).rename(columns={"gradient": "measured"})
    closed_form = (rows["matrices"] - 1) * np.log10(rows["c"])
    return rows.assign(closed_form=closed_form).drop(columns="output")


def draw_gradient(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the gradient against depth, and, for some depths, against the layer: flat lines."""
    figure, axes = style.panels(2, height=3.8)
    edges = rows.groupby(["c", "matrices"], sort=False).agg(
        measured=("measured", "max"), closed_form=("closed_form", "first")
    )
    _draw_against_depth(axes[0], edges.reset_index())
    axes[0].set_xlabel("L, number of weight matrices")
    axes[0].set_title("Against the depth of the network: exponential")
    colours = style.palette(rows["c"])
    for (c, matrices), line in rows.groupby(["c", "matrices"]):
        if matrices in SHOWN_DEPTHS:
            axes[1].plot(line["layer"], line["measured"], color=colours[c], linewidth=1.4)
            text = f"L = {matrices}" if c in (rows["c"].min(), rows["c"].max()) else ""
            axes[1].text(matrices + 1.5, line["measured"].iloc[-1], text, fontsize=8, va="center")
    axes[1].set_xlim(0, max(SHOWN_DEPTHS) * 1.18)
    axes[1].set_xlabel("layer")
    axes[1].set_title("Against the layer, within one network: constant")
    return style.finish(
        figure,
        _closed_form_handles(rows, "c$^{L-1}$"),
        xlabel="",
        ylabel="log$_{10}$ RMS of dC/dW (c = 1: 0)",
    )


def layer_spread(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the largest difference between two layers of every network, in decades.

    Networks with a gradient that is zero or not finite are left out.
    """
    groups = rows.groupby(["c", "matrices"])["measured"]
    highest, lowest = groups.max(), groups.min()
    finite = np.isfinite(highest) & np.isfinite(lowest)
    return highest[finite] - lowest[finite]


def describe_gradient(rows: pd.DataFrame, options: Options) -> str:
    """Say that the gradient depends on depth and not on the layer, with the measured spread."""
    largest = layer_spread(rows).max()
    return (
        "Left: log10 of the weight gradient of linear networks W = c I against the number of "
        "matrices L, straight lines. Right: the same against the layer for some L, horizontal "
        f"lines; the largest difference between two layers of one network is {largest:.1g} decades."
    )


def prepare_limits(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Relative error of output and gradient against the closed form; NaN where not finite.

    Of the gradients of a network, the one of the layer with the largest error is kept.
    """
    output = prepare_output(tables, options).assign(quantity="output")
    gradient = prepare_gradient(tables, options).assign(quantity="gradient, worst layer")
    rows = pd.concat([output, gradient], ignore_index=True)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(10 ** (rows["measured"] - rows["closed_form"]) - 1)
    state = np.select(
        [np.isneginf(rows["measured"]), ~np.isfinite(rows["measured"])], ["zero", "overflow"], "ok"
    )
    rows = rows.assign(relative_error=error.where(state == "ok"), state=state)
    severity = error.where(state == "ok", np.inf).fillna(np.inf)
    worst = severity.groupby([rows["quantity"], rows["c"], rows["matrices"]], sort=False).idxmax()
    return rows.loc[worst, ["quantity", "c", "matrices", "relative_error", "state"]]


def draw_limits(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the relative error against L; marks at the top are overflows and exact zeros."""
    colours = style.palette(rows["c"])
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
        panel.set_ylim(5e-10, 1e3)
        panel.set_title(quantity)
    handles = [Line2D([], [], color=colours[c], label=f"c = {c}") for c in colours]
    for marker, text in (("x", "infinite or NaN"), ("|", "exactly zero")):
        handles.append(Line2D([], [], color="#4d4d4d", marker=marker, linestyle="none", label=text))
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


def prepare_random(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Squared length by layer of random linear networks, relative to layer 1.

    ``kind`` says what a row is: ``network`` (one of a few networks), ``median`` or
    ``mean`` over all, ``theory of the mean`` (c^2 a layer) or ``theory of the typical``
    (exp m(n) a layer, m the mean logarithmic growth).
    """
    cells = tables.cells[tables.cells["initializer"].str.startswith("variance_scaling")]
    cells = cells.assign(c=cells["initializer"].map(gain))
    rows = tables.layers[["cell", "layer", "preactivation_log10_mean_square"]].merge(
        cells[["cell", "c", "seed", "width"]], on="cell"
    )
    first = rows[rows["layer"] == 1].set_index("cell")["preactivation_log10_mean_square"]
    rows["log10_growth"] = rows["preactivation_log10_mean_square"] - rows["cell"].map(first)
    keep = ["kind", "c", "layer", "network", "log10_growth"]
    single = rows[rows["seed"] < DRAWN_NETWORKS].assign(kind="network", network=rows["seed"])
    groups = rows.groupby(["c", "layer"])["log10_growth"]
    median = groups.median().reset_index().assign(kind="median")
    mean = groups.agg(_log10_mean).reset_index().assign(kind="mean")
    typical = {
        c: log_growth_mean(int(rows["width"].iloc[0]), c**2) / np.log(10)
        for c in rows["c"].unique()
    }
    theory = median.assign(log10_growth=(median["layer"] - 1) * 2 * np.log10(median["c"]))
    drift = median.assign(log10_growth=(median["layer"] - 1) * median["c"].map(typical))
    parts = [
        single,
        median,
        mean,
        theory.assign(kind="theory of the mean"),
        drift.assign(kind="theory of the typical"),
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=keep)


def _log10_mean(values: pd.Series[float]) -> float:
    top = values.max()
    if not np.isfinite(top):  # all are zero, or the mean has left float32
        return float(top)
    return float(top + np.log10(np.mean(10 ** (values - top))))


RANDOM_STYLES: dict[str, dict[str, Any]] = {
    "mean": {"color": "#D55E00", "linewidth": 1.6},
    "theory of the mean": {"color": "#D55E00", "linewidth": 1.2, "linestyle": (0, (4, 2))},
    "median": {"color": "#0072B2", "linewidth": 1.6},
    "theory of the typical": {"color": "#000000", "linewidth": 1.2, "linestyle": (0, (4, 2))},
}


def draw_random(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw single networks thin, their median and mean thick, the theory dashed."""
    values = sorted(rows["c"].unique())
    figure, axes = style.panels(len(values), height=2.8)
    for panel, c in zip(axes, values, strict=True):
        part = rows[rows["c"] == c]
        for _, line in part[part["kind"] == "network"].groupby("network"):
            panel.plot(line["layer"], line["log10_growth"], color="#9ecae1", linewidth=0.5)
        for kind, look in RANDOM_STYLES.items():
            line = part[part["kind"] == kind]
            panel.plot(line["layer"], line["log10_growth"], **look)
        panel.set_title(f"c = {c:g}")
    handles = [Line2D([], [], color="#9ecae1", linewidth=0.8, label="single networks")]
    handles += [Line2D([], [], label=kind, **look) for kind, look in RANDOM_STYLES.items()]
    return style.finish(figure, handles, xlabel="layer", ylabel="log$_{10}$ of squared length")


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
