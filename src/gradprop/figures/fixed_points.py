"""Figures of the fixed points of mean-field theory: where they are, and how layers approach them.

The maps are after Poole et al. 2016, the distances by layer after Schoenholz et al. 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.maps import fixed_point_distances
from gradprop.analysis.slopes import log_growth
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.figures.mean_field import critical_line
from gradprop.grid.selection import select
from gradprop.prediction.mean_field import coordinates
from gradprop.results.study_tables import Options, StudyTables, at_start

MAPS = {"q_star": "length $q^*$", "c_star": "correlation $c^*$", "chi_1": "slope $\\chi_1$"}
DISTANCES = {
    "length": "length, $|q^{\\,l} - q^*|$",
    "correlation": "correlation, $|c^{\\,l} - c^*|$",
}
SIGNS = {"q_star": "q", "c_star": "c", "chi_1": "chi_1"}
# The plane of the authors' code (github.com/ganguli-lab/deepchaos), in standard deviations; it is
# extended to networks outside of it.
LIGHTEST, HEAVIEST, STRONGEST, FIELDS = 1.0, 5.0, 4.0, 31
# Without biases the ordered phase keeps nothing, and has no correlation: the map's lower edge.
LEAST_BIAS = 1e-3
EDGE: dict[str, Any] = {
    "color": "black",
    "linewidth": 1.2,
    "path_effects": [withStroke(linewidth=2.6, foreground="white")],
}
_PLANE = ["sigma_w2", "sigma_b2"]


# ----------------------------------------------------------------------------- maps of the plane


def prepare_maps(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Compute fixed points and the slope chi_1 over the plane of both standard deviations.

    Returns
    -------
    DataFrame
        ``quantity`` (a key of `MAPS`), ``sigma_w``, ``sigma_b`` and ``value`` by ``part``:
        ``theory``, the points of a grid; ``critical``, the line chi_1 = 1, without a quantity;
        ``networks``, means over the deepest networks of a point: of the mean square and the
        correlation in their last hidden layer, and of exp(`log_growth`), with what theory says of
        the fixed point (``predicted``) and the columns of `gradprop.analysis.estimates.counts`.
    """
    cells = coordinates(select(tables.study.cells, options.get("select", {})))
    cells = cells[cells["depth"] > 0].dropna(subset=["sigma_w2"])
    if cells.empty:
        return cells
    cells = cells[cells["depth"] == cells.groupby(_PLANE)["depth"].transform("max")]
    activation = str(cells["activation"].iloc[0])
    points = _measured(tables, options, cells)
    grid = _theory(activation, points)
    edge = critical_line(activation, grid["sigma_b"].unique() ** 2)
    edge = pd.DataFrame({name: np.sqrt(edge[f"{name}2"]) for name in ("sigma_w", "sigma_b")})
    parts = {"theory": grid, "critical": edge, "networks": points}
    return pd.concat([rows.assign(part=part) for part, rows in parts.items()], ignore_index=True)


def _measured(tables: StudyTables, options: Options, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the means over networks at every point, by quantity."""
    last = at_start(tables.layers).merge(cells, on="cell")
    last = last[last["layer"] == last["depth"]]
    growth = log_growth(tables, options).set_index("cell")["growth"]
    found = last.assign(
        q_star=10 ** last["preactivation_log10_mean_square"],
        c_star=last.get("preactivation_correlation", np.nan),
        chi_1=np.exp(last["cell"].map(growth)),
        sigma_w=np.sqrt(last["sigma_w2"]),
        sigma_b=np.sqrt(last["sigma_b2"]),
    )
    diverged, keys = tables.diverged(found), ["sigma_w", "sigma_b"]
    points = pd.concat(
        [
            estimates.means(found, keys, name, diverged)
            .rename(columns={"mean": "value"})
            .assign(quantity=name)
            for name in MAPS
        ],
        ignore_index=True,
    )
    activation = str(cells["activation"].iloc[0])
    places = points[[*keys, "quantity"]].itertuples(index=False)
    return points.assign(predicted=[_expected(activation, w, b)[name] for w, b, name in places])


def _theory(activation: str, points: pd.DataFrame) -> pd.DataFrame:
    """Return the quantities on a grid over the plane."""
    weights, biases = points["sigma_w"], points["sigma_b"]
    rows = [
        (name, sigma_w, sigma_b, value)
        for sigma_w in np.linspace(
            min(LIGHTEST, weights.min()), max(HEAVIEST, weights.max()), FIELDS
        )
        for sigma_b in np.linspace(LEAST_BIAS, max(STRONGEST, biases.max()), FIELDS)
        for name, value in _expected(activation, sigma_w, sigma_b).items()
    ]
    return pd.DataFrame(rows, columns=["quantity", "sigma_w", "sigma_b", "value"])


def _expected(activation: str, sigma_w: float, sigma_b: float) -> dict[str, float]:
    """Return both fixed points and chi_1."""
    weights, biases = float(sigma_w) ** 2, max(float(sigma_b), LEAST_BIAS) ** 2
    length = theory.length_fixed_point(activation, weights, biases)
    return {
        "q_star": length,
        "c_star": theory.correlation_fixed_point(activation, weights, biases),
        "chi_1": theory.chi_1(activation, length, weights),
    }


def draw_maps(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the bias deviation to the right, the weight deviation upwards, the value as colour.

    The line is chi_1 = 1. A dot has the colour of what networks measure.
    """
    figure, panels = style.panels(len(MAPS), height=2.6, sharey=True)
    edge = rows[rows["part"] == "critical"]
    fields = {
        name: table.pivot(index="sigma_w", columns="sigma_b", values="value")
        for name, table in rows[rows["part"] == "theory"].groupby("quantity")
    }
    for axes, (name, title) in zip(panels, MAPS.items(), strict=True):
        x, y = fields[name].columns.to_numpy(), fields[name].index.to_numpy()
        scale: dict[str, Any] = {"cmap": "viridis", "vmin": 0.0, "vmax": _top(fields[name])}
        values = np.ma.masked_invalid(fields[name])
        mesh = axes.pcolormesh(x, y, values, shading="gouraud", rasterized=True, **scale)
        axes.plot(edge["sigma_b"], edge["sigma_w"], **EDGE)
        dots = rows[(rows["part"] == "networks") & (rows["quantity"] == name)]
        axes.scatter(
            dots["sigma_b"], dots["sigma_w"], c=dots["value"], s=48, linewidths=1.0,
            edgecolors="white", zorder=3, **scale,
        )  # fmt: skip
        measured = dots.rename(columns={"value": "median"})
        lost.mark_points(axes, dots["sigma_b"], dots["sigma_w"], measured)
        figure.colorbar(mesh, ax=axes, location="top", pad=0.04, label=title)
        axes.set(xlim=(0, x[-1]), ylim=y[[0, -1]])
        axes.grid(False)
    handles = [
        Line2D([], [], label="$\\chi_1 = 1$, theory", **EDGE),
        Line2D([], [], color="#4d4d4d", marker="o", markersize=6, linestyle="none",
               label="networks, in the colour of their value"),
        *lost.handles(panels),
    ]  # fmt: skip
    return style.finish(
        figure, handles, xlabel="bias deviation $\\sigma_b$", ylabel="weight deviation $\\sigma_w$"
    )


def _top(values: pd.DataFrame) -> float:
    """Return the upper end of the colours: the largest finite value."""
    return float(np.nanmax(values.where(np.isfinite(values)), initial=0.0)) or 1.0


def describe_maps(rows: pd.DataFrame, options: Options) -> str:
    """Say where the phases are, and how far networks are from their fixed points."""
    points = rows[rows["part"] == "networks"]
    worst = (points["value"] - points["predicted"]).abs().groupby(points["quantity"]).max()
    distances = [
        f"{sign} by at most {worst[name]:.2g}"
        for name, sign in SIGNS.items()
        if np.isfinite(worst[name])
    ]
    edge = rows[rows["part"] == "critical"]
    line = "There is no line of chi_1 = 1."
    if len(edge):
        first, last = edge.iloc[0], edge.iloc[-1]
        line = (
            f"The line chi_1 = 1 goes from sigma_w = {first['sigma_w']:.2g} at sigma_b = "
            f"{first['sigma_b']:.2g} to sigma_w = {last['sigma_w']:.2g} at {last['sigma_b']:.2g}."
        )
    places = len(points[["sigma_w", "sigma_b"]].drop_duplicates())
    return (
        "Maps of the fixed points of length and correlation and of the slope chi_1 over the "
        f"plane of weight and bias deviations. {line} At {places} of its points networks "
        f"differ from theory: {', '.join(distances) or 'none is measured'}."
        f"{lost.describe(points, 'quantity')}"
    )


# ------------------------------------------------------------------------ the way to a fixed point


def draw_distances(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw distances against the layer, logarithmic: dots are networks, pale ones at rest."""
    colours = style.colours(rows["sigma_w2"])
    figure, panels = style.panels(len(DISTANCES), height=3.0)
    for axes, (quantity, title) in zip(panels, DISTANCES.items(), strict=True):
        shown = rows[(rows["quantity"] == quantity) & (rows["distance"] > 0)]
        shown = shown[np.isfinite(shown["distance"])]
        for (weights, _), line in shown.groupby(_PLANE, sort=False):
            look: dict[str, Any] = {"color": colours[weights]}
            for part, opacity in ((line[line["moving"]], 1.0), (line[~line["moving"]], 0.25)):
                axes.plot(part["layer"], part["distance"], ".", alpha=opacity, **look)
            axes.plot(line["layer"], line["predicted"], linewidth=1.0, **look)
        axes.set(title=title, yscale="log" if len(shown) else "linear")
        moving = shown[shown["moving"]]
        if len(moving):
            last = min(1.5 * moving["layer"].max() + 1, shown["layer"].max() + 1)
            low, high = moving["distance"].min(), moving["distance"].max()
            axes.set(xlim=(0, last), ylim=(0.3 * low, 2 * high))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [
        Line2D([], [], color=colour, label=f"{value:g}") for value, colour in colours.items()
    ]
    grey: dict[str, Any] = {"color": "#4d4d4d", "linestyle": "none", "marker": "."}
    handles += [
        Line2D([], [], label="networks", **grey),
        Line2D([], [], alpha=0.25, label="networks, at rest", **grey),
        Line2D([], [], color="#4d4d4d", linewidth=1.0, label="theory"),
    ]
    return style.finish(
        figure, handles, xlabel="layer $l$", ylabel="distance",
        legend_title="weight variance $\\sigma_w^2$",
    )  # fmt: skip


def describe_distances(rows: pd.DataFrame, options: Options) -> str:
    """Say when every quantity has come to rest, and how far it is from theory until then."""
    parts = [
        f"the mean {quantity} {_rest(group)}"
        for quantity, group in rows.groupby("quantity", sort=False)
    ]
    return (
        "Distance of mean length and mean correlation from their fixed points against the layer, "
        "logarithmic, with the exponentials of theory's depth scales: "
        f"{'; '.join(parts)}.{lost.describe(rows, 'quantity')}"
    )


def _rest(rows: pd.DataFrame) -> str:
    """Say until which layer a quantity moves, and how far it is from theory until then."""
    moving = rows[rows["moving"]]
    if moving.empty:
        return "is nowhere told apart from its fixed point"
    layers = moving.groupby(_PLANE)["layer"].max()
    ratio = (moving["distance"] / moving["predicted"]).median()
    return (
        "is told apart from its fixed point until layer "
        f"{' to '.join(map(str, sorted({layers.min(), layers.max()})))}, depending on the weights, "
        f"at {ratio:.2g} times the exponential (median)"
    )


KINDS = {
    "fixed_point_distance": Kind(fixed_point_distances, draw_distances, describe_distances),
    "fixed_points": Kind(prepare_maps, draw_maps, describe_maps),
}
