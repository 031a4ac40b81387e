"""Figures of mean-field theory: phase diagram, depth scales, and what they say of trainability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.maps import iteration
from gradprop.analysis.names import name_of
from gradprop.analysis.slopes import FIRST_LAYERS, log_growth
from gradprop.components import activations
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.grid.selection import select
from gradprop.prediction.mean_field import coordinates, state
from gradprop.results.study_tables import Options, StudyTables, at_start

# A correlation this close to its fixed point has come to rest, at the widths of these networks.
CORRELATION_FLOOR = 0.02
SCALES = {
    "xi_q": "length, $\\xi_q$",
    "xi_c": "correlation, $\\xi_c$",
    "xi_gradient": "gradient, $|1 / \\ln \\chi_1|$",
}
CURVE_POINTS = 161
LONGEST = 15.0  # of the lengths in a drawing of their map
# Of the depth scale of the correlation, on the trainability map.
MULTIPLES = (1, 6)


# ------------------------------------------------------------------------------- phase diagram


def prepare_phases(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Measured and predicted growth at every point of the plane, and the critical line.

    ``part`` is ``networks``, with the mean over seeds of `log_growth` and theory's ``ln chi_1``,
    or ``critical``, a point of the line ``chi_1 = 1``.
    """
    growth = log_growth(tables, options).dropna(subset=["sigma_w2"])
    if growth.empty:
        return growth
    keys = ["activation", "sigma_w2", "sigma_b2"]
    diverged = tables.diverged(growth.assign(step=0))
    points = estimates.means(growth, keys, "growth", diverged)
    points = points.rename(columns={"mean": "measured"})
    found = [state(*values) for values in points[keys].itertuples(index=False)]
    points = points.assign(part="networks", predicted=[math.log(s.chi_1) for s in found])
    lines = [
        critical_line(
            str(activation), np.linspace(0, 1.25 * (rows["sigma_b2"].max() or 0.1), 60) + 1e-6
        )
        for activation, rows in points.groupby("activation", sort=False)
    ]
    return pd.concat([points, *lines], ignore_index=True)


def critical_line(activation: str, biases: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Return the edge of chaos at these bias variances; without rows if there is none."""
    try:
        if activations.get(activation).homogeneous:  # chi_1 is the same at all lengths
            weights = np.full(len(biases), theory.critical_point(activation).sigma_w2)
        else:
            weights = theory.critical_line(activation, biases)
    except ValueError:
        biases = weights = np.empty(0)
    return pd.DataFrame(
        {"part": "critical", "activation": activation, "sigma_w2": weights, "sigma_b2": biases}
    )


def draw_phases(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw weight variance to the right, bias variance upwards, the critical line between phases.

    The colour of a dot is the measured growth: blue vanishes, red explodes, theory's colour is
    that of the ring around it.
    """
    rows = rows.assign(activation=rows["activation"].map(name_of))
    facets = style.grid(rows, None, "activation", height=3.4)
    dots = rows[rows["part"] == "networks"]
    limit = float(np.nanquantile(np.abs(dots["predicted"]), 0.8))  # the edge matters most
    scale: dict[str, Any] = {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        line, dot = (panel[panel["part"] == part] for part in ("critical", "networks"))
        right, top = 1.08 * dot["sigma_w2"].max(), 1.2 * (dot["sigma_b2"].max() or 0.1)
        axes.fill_betweenx(line["sigma_b2"], 0, line["sigma_w2"], color="#3b4cc0", alpha=0.1, lw=0)
        axes.fill_betweenx(
            line["sigma_b2"], line["sigma_w2"], right, color="#b40426", alpha=0.1, lw=0
        )
        axes.plot(line["sigma_w2"], line["sigma_b2"], color="black", linewidth=1.6)
        for value, size in (("predicted", 190), ("measured", 70)):
            marks = axes.scatter(
                dot["sigma_w2"], dot["sigma_b2"], c=dot[value], s=size, linewidths=0.4,
                edgecolors="white", zorder=3, clip_on=False, **scale,
            )  # fmt: skip
        measured = dot.rename(columns={"measured": "median"})
        lost.mark_points(axes, dot["sigma_w2"], dot["sigma_b2"], measured)
        axes.text(0.01, 0.99, "ordered, $\\chi_1 < 1$", transform=axes.transAxes, va="top")
        axes.text(
            0.99, 0.99, "chaotic, $\\chi_1 > 1$", transform=axes.transAxes, ha="right", va="top"
        )
        axes.set(xlim=(0, right), ylim=(0, top), xlabel="", ylabel="")
    handles = [
        Line2D([], [], color="black", linewidth=1.6, label="$\\chi_1 = 1$, theory"),
        *lost.handles(facets.axes.flat),
    ]
    figure = style.finish(
        facets.figure, handles, xlabel="weight variance $\\sigma_w^2$",
        ylabel="bias variance $\\sigma_b^2$", right=style.BAR,
    )  # fmt: skip
    style.colour_bar(figure, marks, "ln $\\chi_1$: dot measured, ring theory", extend="both")
    return figure


def describe_phases(rows: pd.DataFrame, options: Options) -> str:
    """Count the points on the side that theory says, and give the largest difference."""
    points = rows[rows["part"] == "networks"]
    dots = points.dropna(subset=["measured"])
    right = np.sign(dots["measured"]) == np.sign(dots["predicted"])
    worst = (dots["measured"] - dots["predicted"]).abs().max()
    return (
        "Phase diagram over weight and bias variance with the critical line of mean-field theory. "
        f"At {int(right.sum())} of {len(dots)} points the measured signal vanishes or explodes as "
        f"theory says; the largest difference of ln chi_1 is {worst:.2g} per layer."
        f"{lost.describe(points)}"
    )


# -------------------------------------------------------------------------------- depth scales


def prepare_scales(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Depth scales over the weight variance: theory's curves, and those measured in networks.

    ``measured`` is the mean over seeds (its t-interval ``low``, ``high``): of the gradient
    ``1 / |growth|`` (`log_growth`), of the correlation minus the reciprocal slope of
    ``ln |c - c*|`` over the layers before it has come to rest. It is NaN where the interval has no
    upper end or more than half of the ``networks`` have no ``finite`` rate.
    """
    growth = log_growth(tables, options).dropna(subset=["sigma_w2"])
    if growth.empty:
        return growth
    rates = pd.concat(
        [
            growth.assign(scale="xi_gradient", rate=growth["growth"].abs()),
            growth.assign(scale="xi_c", rate=_correlation_rates(tables, growth)),
        ]
    )
    keys = ["scale", "sigma_b2", "sigma_w2"]
    dots = []
    for values, group in rates.groupby(keys, sort=False):
        mean, low, high = estimates.mean_interval(group["rate"].to_numpy())
        finite = int(np.isfinite(group["rate"]).sum())
        known = 2 * finite >= len(group) and np.isfinite(low) and low > 0
        scale = [1 / mean, 1 / high, 1 / low] if known else [math.nan] * 3
        dots.append([*values, "networks", *scale, len(group), finite])
    names = [*keys, "part", "layers", "low", "high", "networks", "finite"]
    lines = dict.fromkeys(zip(growth["activation"], growth["sigma_b2"], strict=True))
    curves = [row for line in lines for row in _scale_curves(*line, growth["sigma_w2"])]
    parts = [pd.DataFrame(rows, columns=names) for rows in (dots, curves) if rows]
    return pd.concat(parts, ignore_index=True)


def _correlation_rates(tables: StudyTables, cells: pd.DataFrame) -> pd.Series[float]:
    """Return by how much ln |c - c*| falls per layer, for every row of `cells`."""
    column = "preactivation_correlation"
    layers = at_start(tables.layers)
    if column not in layers:
        return pd.Series(math.nan, index=cells.index)
    profiles = {name: rows.set_index("layer")[column] for name, rows in layers.groupby("cell")}

    def rate(cell: Any) -> float:
        fixed = state(cell.activation, cell.sigma_w2, cell.sigma_b2).c_star
        distance = (profiles[cell.cell].loc[FIRST_LAYERS // 2 : cell.depth] - fixed).abs()
        resting = distance.index[distance < CORRELATION_FLOOR]
        moving = distance.loc[: resting[0] - 1] if len(resting) else distance
        return -estimates.slope(moving.index, np.log(moving)) if len(moving) > 3 else math.nan

    return pd.Series([rate(cell) for cell in cells.itertuples()], index=cells.index)


def _scale_curves(
    activation: str, biases: float, weights: pd.Series[float]
) -> list[dict[str, Any]]:
    values = np.linspace(0.9 * weights.min(), 1.05 * weights.max(), CURVE_POINTS)
    rows = []
    for value in values:
        found = state(activation, float(value), biases)
        for scale in ("xi_c", "xi_q", "xi_gradient"):
            layers = abs(getattr(found, scale))
            place = {"scale": scale, "sigma_b2": biases, "sigma_w2": value}
            rows.append({**place, "part": "theory", "layers": layers})
    return rows


def draw_scales(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw depth scales, logarithmic, against the weight variance; dots are networks."""
    colours = style.colours(rows["sigma_b2"])
    figure, panels = style.panels(3, height=2.9, sharey=True)
    for axes, (scale, title) in zip(panels, SCALES.items(), strict=True):
        for (value, part), line in rows[rows["scale"] == scale].groupby(
            ["sigma_b2", "part"], sort=False
        ):
            line = line[np.isfinite(line["layers"])]
            if part == "theory":
                axes.plot(line["sigma_w2"], line["layers"], color=colours[value])
                continue
            error = np.stack([line["layers"] - line["low"], line["high"] - line["layers"]])
            axes.errorbar(
                line["sigma_w2"], line["layers"], yerr=error, fmt="o", markersize=4,
                linewidth=1, color=colours[value], markeredgecolor="white",
            )  # fmt: skip
        axes.set(title=title, yscale="log", ylim=(0.5, 500))
    handles = [
        Line2D([], [], color=colour, label=f"$\\sigma_b^2$ = {value:g}")
        for value, colour in colours.items()
    ]
    handles.append(Line2D([], [], color="#4d4d4d", marker="o", linestyle="none", label="networks"))
    handles.append(Line2D([], [], color="#4d4d4d", label="theory"))
    return style.finish(
        figure, handles, xlabel="weight variance $\\sigma_w^2$", ylabel="depth scale (layers)"
    )


def describe_scales(rows: pd.DataFrame, options: Options) -> str:
    """Say how far measured scales are from theory's, in the middle and at most."""
    parts = []
    dots = rows[rows["part"] == "networks"]
    for scale, points in dots.groupby("scale", sort=False):
        group = points.dropna(subset=["layers"])
        curve = rows[(rows["part"] == "theory") & (rows["scale"] == scale)]
        expected = np.interp(group["sigma_w2"], curve["sigma_w2"], curve["layers"])
        ratio = np.median(group["layers"] / expected) if len(group) else math.nan
        none = f", {len(points) - len(group)} have none" if len(group) < len(points) else ""
        parts.append(
            f"{SCALES[str(scale)].split(',')[0]} measured over theory {ratio:.3g} "
            f"(median of {len(group)} points{none})"
        )
    return "Depth scales against weight variance, theory as curves. " + "; ".join(parts) + "."


# -------------------------------------------------------------------------------- trainability


def prepare_trainability(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Mean final accuracy over seeds by weight variance and depth, with the depth scale xi_c.

    A diverged network counts as an accuracy of 0.
    """
    cells = coordinates(select(tables.study.cells, options.get("select", {})))
    cells = cells[cells["depth"] > 0].merge(
        tables.cells[["cell", "status", options["statistic"]]], on="cell"
    )
    name: str = options["statistic"]
    diverged = cells["status"] == "diverged"
    final = cells[name].astype(float).mask(diverged)
    cells = cells.assign(final=final, accuracy=final.mask(diverged, 0.0))
    keys = ["activation", "sigma_w2", "sigma_b2", "depth"]
    rows = cells.groupby(keys)[["accuracy"]].mean()
    rows = rows.join(estimates.counts(cells, keys, "final", diverged)).reset_index()
    return rows.assign(xi_c=[_xi_c(*place) for place in rows[keys[:3]].itertuples(index=False)])


def _xi_c(activation: str, weights: float, biases: float) -> float:
    """Return the depth scale of the correlation; NaN if all weights and biases are 0."""
    return state(activation, weights, biases).xi_c if weights or biases else math.nan


def draw_trainability(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw depth over the weight variance, the accuracy as colour, multiples of xi_c as lines.

    Activations and bias variances have a panel each.
    """
    maps = list(rows.groupby(["activation", "sigma_b2"], sort=False))
    figure, panels = style.panels(len(maps), height=3.6)
    if len(maps) == 1:
        figure.set_size_inches(0.72 * style.width(), 3.6)
    multiples = dict(zip(options.get("multiples", MULTIPLES), style.DASHES, strict=False))
    for axes, (_, panel) in zip(panels, maps, strict=True):
        activation, biases = panel["activation"].iloc[0], float(panel["sigma_b2"].iloc[0])
        table = panel.pivot(index="depth", columns="sigma_w2", values="accuracy")
        x, y = _edges(table.columns.to_numpy(float)), table.index.to_numpy(float)
        edges = np.exp(_edges(np.log(y)))
        mesh = axes.pcolormesh(
            x, edges, table.to_numpy(float), vmin=0, vmax=1, cmap="inferno", rasterized=True
        )
        measured = panel.assign(
            median=panel["accuracy"].mask(2 * panel["diverged"] > panel["networks"])
        )
        state = measured.assign(state=lost.states(measured))
        lost.draw_fields(
            axes, x, edges, state.pivot(index="depth", columns="sigma_w2", values="state")
        )
        values = np.linspace(max(x[0], 0.0), x[-1], CURVE_POINTS)
        scales = np.array([_xi_c(activation, float(v), biases) for v in values])
        for multiple, dash in multiples.items():
            axes.plot(values, multiple * scales, color="white", linestyle=dash, linewidth=1.8)
        axes.set(yscale="log", xlim=x[[0, -1]], ylim=edges[[0, -1]])
        if len(maps) > 1:
            axes.set_title(f"{name_of(activation)}, $\\sigma_b^2$ = {biases:g}")
        axes.set_yticks(y, [f"{depth:g}" for depth in y])
        axes.minorticks_off()
        axes.grid(False)
    handles: list[Artist] = [
        Line2D([], [], color="#4d4d4d", linestyle=dash, label=f"{multiple:g} $\\xi_c$, theory")
        for multiple, dash in multiples.items()
    ]
    handles += lost.field_handles(panels)
    figure = style.finish(
        figure,
        handles,
        xlabel="weight variance $\\sigma_w^2$",
        ylabel="depth L",
        right=style.BAR,
    )
    style.colour_bar(figure, mesh, style.label(options["statistic"]))
    return figure


def _edges(centres: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the edges of fields around increasing centres."""
    if len(centres) == 1:
        half = 0.5 * max(1.0, abs(centres[0]))
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2
    ends = [2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]]
    return np.concatenate([ends[:1], middle, ends[1:]])


def describe_trainability(rows: pd.DataFrame, options: Options) -> str:
    """Give the deepest network that trains at every weight variance."""
    trained = rows[rows["accuracy"] > 0.5].groupby("sigma_w2")["depth"].max()
    deepest = ", ".join(f"{weights:g}: {depth}" for weights, depth in trained.items())
    return (
        f"Heat map of the mean {style.label(options['statistic'])} over weight variance and depth "
        f"with multiples of the depth scale of the correlation. Largest depth above one half, by "
        f"weight variance: {deepest or 'none'}.{lost.describe(rows)}"
    )


# ------------------------------------------------------------------------------- map iteration


def prepare_map(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Length or correlation from layer to layer at initialization, measured and by theory.

    Returns
    -------
    DataFrame
        For every activation, weight variance and data set (``start``), by ``part``:
        ``networks``, the mean over seeds of the statistic in a layer (``value``) and in the next
        (``next``), with the columns of `gradprop.analysis.estimates.counts`; ``iteration``, what
        theory's map makes of the first layer's measured mean; ``map``, the map itself, of
        correlations at the fixed point of the length.
    """
    cells = coordinates(select(tables.study.cells, options.get("select", {})))
    cells = cells[cells["depth"] > 1].dropna(subset=["sigma_w2"])
    if cells.empty:
        return cells
    cells = cells.merge(tables.cells[["cell", "dataset"]].rename(columns={"dataset": "start"}))
    values = at_start(tables.layers).merge(cells, on="cell")
    values = values[values["layer"] <= values["depth"]]
    for name in ("preactivation_log10_mean_square", options["statistic"]):
        values[_quantity(name)] = 10 ** values[name] if "log10" in name else values[name]
    keys = ["activation", "sigma_w2", "sigma_b2", "start"]
    quantity, diverged = _quantity(options["statistic"]), tables.diverged(values)
    parts = []
    for _, group in values.groupby(keys, sort=False):
        found = {
            name: estimates.means(group, ["layer"], name, diverged[group.index]).set_index("layer")
            for name in ("length", quantity)
        }
        means = pd.DataFrame({name: table["mean"] for name, table in found.items()})
        place = {name: group[name].iloc[0] for name in keys}
        for part, rows in _map_parts(place, means, quantity).items():
            if part == "networks":
                rows = rows.join(found[quantity].drop(columns="mean"), on="layer")
            parts.append(rows.assign(part=part, **place))
    joined = pd.concat(parts, ignore_index=True)
    return joined[joined["value"].notna() | (joined["part"] == "networks")]


def _quantity(statistic: str) -> str:
    return "correlation" if statistic.endswith("correlation") else "length"


def _map_parts(
    place: Mapping[str, Any], means: pd.DataFrame, quantity: str
) -> dict[str, pd.DataFrame]:
    """Return the parts of `prepare_map` for one kind of network."""
    name, weights, biases, _ = place.values()
    measured = means[quantity]
    parts = {"networks": pd.DataFrame({"value": measured, "next": measured.shift(-1)})}
    length = float(means["length"].iloc[0])
    if math.isfinite(length) and math.isfinite(measured.iloc[0]):
        parts["iteration"] = pd.DataFrame({"value": iteration(name, weights, biases, means)})
    if quantity == "length":
        grid = np.linspace(0, LONGEST, CURVE_POINTS)
        image = [theory.length_map(name, float(q), weights, biases) for q in grid]
    else:
        fixed = state(name, weights, biases).q_star
        grid = np.linspace(0, 1, CURVE_POINTS)
        fixed = fixed if 0 < fixed < math.inf else 1.0
        image = [theory.correlation_map(name, float(c), fixed, weights, biases) for c in grid]
    parts["map"] = pd.DataFrame({"value": grid, "next": image})
    layered = {part: rows.rename_axis("layer").reset_index() for part, rows in parts.items()}
    return {**layered, "map": parts["map"]}


def draw_map(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the map with the identity on the left, its iteration over the layers on the right."""
    quantity = _quantity(options["statistic"])
    sign = "c" if quantity == "correlation" else "q"
    colours = style.colours(rows["sigma_w2"])
    figure, (left, right) = style.panels(2, height=3.2)
    top = 1.0 if quantity == "correlation" else LONGEST
    left.plot([0, top], [0, top], color="#909090", linewidth=0.8)
    measured = []
    for (weights, part, _), line in rows.groupby(["sigma_w2", "part", "start"], sort=False):
        colour = colours[weights]
        if part == "map":
            left.plot(line["value"], line["next"], color=colour)
        elif part == "iteration":
            right.plot(line["layer"], line["value"], color=colour)
        else:
            left.plot(line["value"], line["next"], ".", color=colour, markersize=6)
            measured.append(lost.Line(line.rename(columns={"value": "median"}), "layer", colour))
            measured[-1].draw(right, bands=False, marker=".", markersize=6, linestyle="none")
    left.set(
        xlim=(0, top), ylim=(0, top * (1.02 if top == 1 else 1)),
        xlabel=f"${sign}^{{\\,l-1}}$", ylabel=f"${sign}^{{\\,l}}$", title=f"{quantity} map",
    )  # fmt: skip
    right.set(xlabel="layer $l$", ylabel=f"${sign}^{{\\,l}}$", title="iteration")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    if quantity == "length":
        right.set_ylim(0, 1.2 * top)
    lost.finish(right, measured, options["statistic"], bands=False)
    handles = [
        Line2D([], [], color=colour, label=f"$\\sigma_w$ = {math.sqrt(value):.3g}")
        for value, colour in colours.items()
    ]
    handles.append(Line2D([], [], color="#4d4d4d", marker=".", linestyle="none", label="networks"))
    handles.append(Line2D([], [], color="#4d4d4d", label="theory"))
    handles += lost.handles([right])
    return style.finish(figure, handles, xlabel="", ylabel="")


def describe_map(rows: pd.DataFrame, options: Options) -> str:
    """Give the largest distance between networks and the iterated map."""
    keys = ["sigma_w2", "sigma_b2", "activation", "start", "layer"]
    measured, expected = (
        rows[rows["part"] == part].set_index(keys)["value"] for part in ("networks", "iteration")
    )
    worst = (measured - expected).abs().max()
    networks = rows[rows["part"] == "networks"]
    return (
        f"Left, theory's {_quantity(options['statistic'])} map for every weight variance with dots "
        "of networks, a layer against the layer before; right, its iteration through the layers. "
        "The largest distance between the networks' mean and the iteration is "
        f"{'none' if np.isnan(worst) else f'{worst:.2g}'}.{lost.describe(networks, 'sigma_w2')}"
    )


KINDS = {
    "phase_diagram": Kind(prepare_phases, draw_phases, describe_phases),
    "depth_scales": Kind(prepare_scales, draw_scales, describe_scales),
    "map_iteration": Kind(prepare_map, draw_map, describe_map),
    "trainability_map": Kind(prepare_trainability, draw_trainability, describe_trainability),
}
