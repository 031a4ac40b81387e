"""Figures of singular values: of the Jacobian ``dh_depth / dh_1``, and of every single layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gradprop.analysis import estimates
from gradprop.analysis.spectra import LAYER_MATRICES, MATRIX, layer_means, moments
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.figures.layers import MEASURED_LINE, THEORY_LINE, line_handles
from gradprop.prediction.spectra import Law, common_law
from gradprop.results.study_tables import Options, StudyTables, at_step, groups

Float64 = npt.NDArray[np.float64]

# How the matrices of one layer are drawn.
LAYER_DASHES: dict[str, Any] = {"layer_jacobian": "solid", "kernel": (0, (1, 1))}
CONFIDENCE = 0.90
# What is drawn against the number of layers, on the axis and in words.
SPREAD = "relative_variance"
AGAINST_LAYERS = {
    SPREAD: ("relative variance of $s^2$", "Relative variance of the squared singular values"),
    "largest_singular_value": ("largest singular value", "Largest singular value"),
}
# Of a panel's histograms: bins, and their end over the largest value; points of the law's curve.
BINS, MARGIN, LAW_POINTS = 50, 1.2, 240


def _jacobians(tables: StudyTables, options: Options, columns: list[str]) -> pd.DataFrame:
    """Return the singular values of the selected cells of two or more hidden layers."""
    if tables.measurement("spectra").empty:
        return pd.DataFrame()
    rows = tables.measurement("spectra")[tables.measurement("spectra")["matrix"] == MATRIX]
    deep = {cell.id for cell in tables.study.cells if cell.depth > 1}
    return at_step(tables.join(rows[rows["cell"].isin(deep)], options, columns), options)


def prepare_singular_values(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Histograms of the singular values of all networks of a line, with the laws of wide ones.

    Values that are not told apart from rounding errors count as 0, in the first bin.

    Returns
    -------
    DataFrame
        The figure's groups, ``layers`` (one less than the depth), and by ``part``: ``networks``, a
        bin from ``low`` to ``high`` with its ``density``, the fraction of all values over the
        width; ``theory``, the density of the law at ``low`` = ``high``, infinite where all values
        are. ``zeros`` is the fraction of values that are 0. The columns of
        `gradprop.analysis.estimates.counts` take the largest singular value of each network;
        there is no density where more than half have none.
    """
    rows = _jacobians(tables, options, list(dict.fromkeys([*groups(options), "depth"])))
    if rows.empty:
        return rows
    singular = 10.0 ** rows["log10_singular_value"].astype(np.float64)
    rows = rows.assign(
        singular=singular.where(rows["resolved"] | singular.isna(), 0.0), layers=rows["depth"] - 1
    )
    cells = {cell.id: cell for cell in tables.study.cells}
    panel = [options[key] for key in ("rows", "columns") if key in options]
    keys = list(dict.fromkeys([*groups(options), "layers"]))
    parts = []
    for _, shown in rows.groupby(panel, sort=False) if panel else [((), rows)]:
        edges = _bins(shown["singular"])
        for key, line in shown.groupby(keys, sort=False):
            place: dict[str, Any] = dict(zip(keys, key, strict=True))
            histogram, zeros = _histogram(line["singular"], edges)
            parts.append(histogram.assign(part="networks", zeros=zeros, **place))
            shared = common_law(cells, line["cell"])
            if shared:
                parts.append(_law_curve(shared, edges).assign(part="theory", **place))
    networks = _largest(rows, keys)
    counts = estimates.counts(networks, keys, "largest", tables.diverged(networks)).reset_index()
    found = pd.concat(parts, ignore_index=True).merge(counts, on=keys)
    of_networks = found["part"] == "networks"
    found["density"] = found["density"].mask(of_networks & estimates.too_few(found))
    return found[[*keys, "part", "low", "high", "density", "zeros", *counts.columns[len(keys) :]]]


def _largest(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return log10 of the ``largest`` singular value of every network, NaN if one is not finite."""
    found = rows.groupby(["cell", "step", *keys], sort=False)["log10_singular_value"]
    largest = found.max().mask(found.apply(lambda values: values.isna().any()))
    return largest.rename("largest").reset_index()


def _bins(singular: pd.Series[float]) -> Float64:
    """Return the edges of bins from 0 to above the largest finite value, if any is above 0."""
    largest = singular[np.isfinite(singular)].max()
    return np.linspace(0.0, MARGIN * largest if largest > 0.0 else 1.0, BINS + 1)


def _histogram(singular: pd.Series[float], edges: Float64) -> tuple[pd.DataFrame, float]:
    """Return the density of finite values in every bin, and the fraction of zeros."""
    values = singular[np.isfinite(singular)].to_numpy(np.float64)
    counts, _ = np.histogram(values, edges)
    density = counts / max(len(values), 1) / np.diff(edges)
    zero = float(np.mean(values == 0.0)) if len(values) else math.nan
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "density": density}), zero


def _law_curve(shared: Law, edges: Float64) -> pd.DataFrame:
    if shared.relative_variance == 0:  # all values are the same
        value = math.sqrt(shared.mean_square)
        return pd.DataFrame({"low": [value], "high": [value], "density": [math.inf]})
    places = np.linspace(0.0, edges[-1], LAW_POINTS + 1)[1:]
    return pd.DataFrame({"low": places, "high": places, "density": shared.density(places)})


def draw_singular_values(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw histograms of singular values, filled if there is one in a panel; theory is dashed."""
    # Panels and colours are named after the number of layers of which the Jacobian is.
    row, column, hue = (
        "layers" if options.get(key) == "depth" else options.get(key)
        for key in ("rows", "columns", "hue")
    )
    looks = style.looks(rows[hue], hue, options, dashed=False) if hue else {}
    scale = options.get("scale", "linear")
    facets = style.grid(rows, row, column, height=2.2, sharex=False, sharey=False)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False) if hue else [(None, panel)]:
            bars = line[line["part"] == "networks"]
            edges = [*bars["low"], bars["high"].iloc[-1]]
            axes.stairs(
                bars["density"], edges, linewidth=1.4, fill=hue is None,
                color=looks[value].colour if hue else style.BLUE,
                alpha=0.45 if hue is None else 1.0,
            )  # fmt: skip
        for _, curve in panel[panel["part"] == "theory"].groupby("layers"):
            _draw_law(axes, curve)
        axes.set(yscale=scale, xlim=(0, edges[-1]), xlabel="", ylabel="")
        _limit_density(axes, panel, scale)
        lines = panel.drop_duplicates(hue) if hue else panel[:1]
        colours = [looks[value].colour for value in lines[hue]] if hue else ["black"]
        lost.mark_panel(axes, lines, colours)
    handles: list[Artist] = []
    if hue:
        before = "L = " if hue == "layers" else ""
        handles += line_handles({f"{before}{value}": look for value, look in looks.items()})
    else:
        handles.append(Patch(color=style.BLUE, alpha=0.45, label="networks"))
    if (rows["part"] == "theory").any():
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    handles += lost.handles(facets.axes.flat)
    handles += style.own_scales(facets.axes)
    return style.finish(facets.figure, handles, xlabel="singular value s", ylabel="density")


def _draw_law(axes: Axes, curve: pd.DataFrame) -> None:
    if np.isinf(curve["density"]).any():
        axes.axvline(curve["low"].iloc[0], **THEORY_LINE)
        return
    shown = curve[curve["density"] > 0.0]
    axes.plot(shown["low"], shown["density"], **THEORY_LINE)


def _limit_density(axes: Axes, panel: pd.DataFrame, scale: str) -> None:
    """Show all bars: what theory says near 0, where its density is infinite, leaves the panel."""
    bars = panel.loc[panel["part"] == "networks", "density"]
    if scale == "log" and (bars > 0.0).any():
        axes.set_ylim(min(0.7 * bars[bars > 0.0].min(), bars.max() / 1000), 1.5 * bars.max())
    elif bars.max() > 0.0:
        axes.set_ylim(0.0, 1.1 * bars.max())


def describe_singular_values(rows: pd.DataFrame, options: Options) -> str:
    """Give the largest singular value of every line, and how many are 0."""
    keys = list(dict.fromkeys([*groups(options), "layers"]))
    networks = rows[rows["part"] == "networks"]
    parts = []
    for key, line in networks[networks["density"] > 0.0].groupby(keys, sort=False):
        places = [f"{k if k != 'layers' else 'L ='} {v}" for k, v in zip(keys, key, strict=True)]
        zeros = line["zeros"].iloc[0]
        parts.append(
            f"{', '.join(places)}: up to {line['high'].max():.2g}"
            + (f", {zeros:.0%} are 0" if zeros > 0.005 else "")
        )
    return (
        "Histograms of singular values with the laws of wide networks as dashed lines. "
        f"{'; '.join(parts) or 'No network has any'}.{lost.describe(networks, keys[-2:][0])}"
    )


def prepare_spectral_variance(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Mean over networks of the `statistic` by number of layers, with the law."""
    name = options.get("statistic", SPREAD)
    keys = list(dict.fromkeys([*groups(options), "depth"]))
    rows = _jacobians(tables, options, keys)
    if rows.empty:
        return rows
    parameters = rows[["cell", *keys]].drop_duplicates().set_index("cell")
    values = moments(rows).join(parameters).reset_index()
    cells = {cell.id: cell for cell in tables.study.cells}
    found, steps = [], rows[["cell", "step"]].drop_duplicates()
    for key, networks in values.groupby(keys, sort=False):
        spread = networks[name].dropna()
        bad = tables.diverged(networks.merge(steps, on="cell")).sum()
        few = 2 * len(spread) < len(networks)
        mean, low, high = estimates.mean_interval([] if few else spread, CONFIDENCE)
        shared = common_law(cells, networks["cell"])
        found.append(
            {
                **dict(zip(keys, key, strict=True)),
                "layers": cells[networks["cell"].iloc[0]].depth - 1,
                name: mean,
                "low": low,
                "high": high,
                "predicted": getattr(shared, name) if shared else np.nan,
                "networks": len(networks),
                "finite": len(spread),
                "zero": 0,
                "diverged": min(int(bad), len(networks) - len(spread)),
                "missing": max(0, len(networks) - len(spread) - int(bad)),
            }
        )
    return pd.DataFrame(found)


def draw_spectral_variance(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the statistic against the number of layers, both logarithmic."""
    name = options.get("statistic", SPREAD)
    hue: str = options["hue"]
    looks = style.looks(rows[hue], hue, options)
    facets = style.grid(
        rows, options.get("rows"), options.get("columns"), height=3.0, sharey=name != SPREAD
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False):
            axes.fill_between(
                line["layers"],
                line["low"],
                line["high"],
                color=looks[value].colour,
                alpha=0.2,
                lw=0,
            )
            axes.plot(
                line["layers"],
                line[name],
                color=looks[value].colour,
                linestyle=looks[value].dash,
                marker=looks[value].marker,
            )
            known = line[line["predicted"] > 0]
            axes.plot(known["layers"], known["predicted"], **THEORY_LINE)
        axes.set(xlabel="", ylabel="")
        positive = panel.loc[panel[name] > 0, name]
        if not positive.empty:
            axes.set(xscale="log", yscale="log")
            if positive.max() < 100 * positive.min():
                style.plain_ticks(axes.yaxis)
        layers = sorted(rows["layers"].unique())
        axes.set_xticks(layers, [str(number) for number in layers])
        axes.xaxis.minorticks_off()
    handles = line_handles(looks, markers=True)
    if (rows["predicted"] > 0).any():
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    handles += style.own_scales(facets.axes)
    return style.finish(
        facets.figure,
        handles,
        xlabel="layers L",
        ylabel=AGAINST_LAYERS[name][0],
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_spectral_variance(rows: pd.DataFrame, options: Options) -> str:
    """Give the value of the deepest networks of every line, and the law's."""
    name = options.get("statistic", SPREAD)
    last = rows[
        rows["layers"] == rows.groupby(groups(options), sort=False)["layers"].transform("max")
    ]
    ends = "; ".join(
        f"{', '.join(str(row[key]) for key in groups(options))}: {row[name]:.3g} "
        f"after {row['layers']} layers (theory {row['predicted']:.3g})"
        for _, row in last.iterrows()
    )
    return (
        f"{AGAINST_LAYERS[name][1]} against the number of layers, on logarithmic axes, with 90 % "
        f"intervals. {ends}.{lost.describe(rows, options['hue'])}"
    )


def prepare_layer_singular_values(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over networks of the mean singular value of every square layer."""
    if tables.measurement("spectra").empty:
        return tables.measurement("spectra")
    rows = at_step(tables.join(tables.measurement("spectra"), options, []), options)
    cells = {cell.id: cell for cell in tables.study.cells}
    means = layer_means(rows, [cells[name] for name in rows["cell"].unique()])
    means = tables.join(means, options)
    keys = [*groups(options), "matrix", "layer"]
    at_work = means.assign(step=means["cell"].map(rows.groupby("cell")["step"].first()))
    table = estimates.quartiles(means, keys, "mean", tables.diverged(at_work))
    expected = means.groupby(keys, sort=False)["predicted"].median()
    return table.merge(expected.reset_index(), on=keys) if len(table) else table


def draw_layer_singular_values(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw mean singular values against the layer, dotted those of the weights alone."""
    hue: str = options["hue"]
    # Dashes tell the matrices.
    looks = style.looks(rows[hue], hue, options, dashed=False)
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.6)
    shown: list[tuple[Axes, list[lost.Line]]] = []
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        lines = []
        for (value, matrix), line in panel.groupby([hue, "matrix"], sort=False):
            lines.append(lost.Line(line, "layer", looks[value].colour))
            look = {"linestyle": LAYER_DASHES[matrix], "marker": looks[value].marker}
            lines[-1].draw(axes, **look, markersize=4, **MEASURED_LINE)
            axes.plot(line["layer"], line["predicted"], **THEORY_LINE)
        axes.set(ylim=(0, None), xticks=sorted(rows["layer"].unique()), xlabel="", ylabel="")
        shown.append((axes, lines))
    for axes, lines in shown:
        lost.finish(axes, lines, "mean")
    handles = line_handles(looks, dashed=False, markers=True)
    for matrix in rows["matrix"].unique():
        name = LAYER_MATRICES[matrix]
        handles.append(Line2D([], [], color="#4d4d4d", linestyle=LAYER_DASHES[matrix], label=name))
    handles += lost.handles(facets.axes.flat)
    if rows["predicted"].notna().any():
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    return style.finish(
        facets.figure,
        handles,
        xlabel="layer",
        ylabel="mean singular value",
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_layer_singular_values(rows: pd.DataFrame, options: Options) -> str:
    """Give the range over layers of every line, and the theory's."""
    parts = []
    for key, line in rows.groupby([*groups(options), "matrix"], sort=False):
        low, high = line["median"].min(), line["median"].max()
        names = [*map(str, key[:-1]), LAYER_MATRICES[str(key[-1])]]
        text = f"{', '.join(names)}: {low:.3f} to {high:.3f}"
        if line["predicted"].notna().all():
            text += f" (theory {line['predicted'].min():.3f} to {line['predicted'].max():.3f})"
        parts.append(text)
    return (
        "Mean singular values of the square hidden layers against the layer, median and quartiles "
        f"over networks. {'; '.join(parts)}.{lost.describe(rows, options['hue'])}"
    )


KINDS = {
    "layer_singular_values": Kind(
        prepare_layer_singular_values,
        draw_layer_singular_values,
        describe_layer_singular_values,
    ),
    "singular_values": Kind(
        prepare_singular_values, draw_singular_values, describe_singular_values
    ),
    "spectral_variance": Kind(
        prepare_spectral_variance, draw_spectral_variance, describe_spectral_variance
    ),
}
