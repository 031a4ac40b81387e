"""Figures of a circle of inputs on its way through the layers (Poole et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis.curves import hidden_at_start, measured_curves
from gradprop.analysis.maps import iteration
from gradprop.figures import style
from gradprop.figures.kind import Kind
from gradprop.prediction.curves import NETWORK, expected_curve
from gradprop.results.study_tables import Options, StudyTables

NEAR_OFFSETS = 0.5  # radians, the offsets of which single layers are compared with theory
QUANTITIES = {
    "curvature": "curvature $\\bar\\kappa$",
    "expansion": "expansion $\\bar g^E$",
    "grassmannian_length": "Grassmannian length $L^G$",
}


def _describe_lost(rows: pd.DataFrame) -> str:
    """Say how many networks have no finite value where most have none."""
    lacking = (rows["networks"] - rows["finite"]).max()
    if not lacking > 0:
        return ""
    return (
        f" In a layer up to {lacking:.0f} of {rows['networks'].max():.0f} networks are not finite."
    )


def _sigma(weights: float) -> str:
    return f"$\\sigma_w$ = {math.sqrt(weights):.3g}"


# ------------------------------------------------------------------------ the image of a circle


def shown_layers(depth: int) -> dict[str, list[int]]:
    """Return the layers whose images, and whose correlations, are drawn by themselves."""
    quarters = [max(1, depth * n // 4) for n in (1, 2, 3, 4)]
    return {"image": sorted({*quarters[:3]}), "autocorrelation": sorted({*quarters[:2], depth})}


def prepare_circle(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Project the circle's image in a few layers, and correlate its points in all of them.

    Returns
    -------
    DataFrame
        By ``part``, for every kind of network: ``image``, the points of the first seed's network in
        the layers of `shown_layers` with their angle, three principal components and ``share``, the
        fraction of the image's variance in these; ``autocorrelation``, for offsets from 0 to pi in
        all hidden layers, the mean over networks and inputs of the correlation of two of them
        and its standard deviation over networks, with the iterated map in some of them.
    """
    rows = hidden_at_start(tables.measurement("trajectories"), tables, options)
    if rows.empty:
        return rows
    rows = rows.assign(
        angle=2 * math.pi * rows["input"] / (rows["input"].max() + 1),
        length=10 ** rows["log10_mean_square"],
    )
    parts = []
    for _, group in rows.groupby(NETWORK, sort=False):
        parts += [_images(group), _autocorrelations(group)]
    return pd.concat(parts, ignore_index=True)


def _images(group: pd.DataFrame) -> pd.DataFrame:
    first = group[group["cell"] == group["cell"].iloc[0]]
    first = first[first["layer"].isin(shown_layers(int(first["depth"].iloc[0]))["image"])]
    squares = first[["pc1", "pc2", "pc3", "pc_rest"]] ** 2
    totals = squares.groupby(first["layer"]).sum()
    share = 1 - totals["pc_rest"] / totals.sum(axis=1)
    columns = [*NETWORK, "layer", "angle", "pc1", "pc2", "pc3"]
    return first[columns].assign(part="image", share=first["layer"].map(share))


def _autocorrelations(group: pd.DataFrame) -> pd.DataFrame:
    half = group[group["angle"] <= math.pi * (1 + 1e-9)].rename(columns={"angle": "offset"})
    table = half.groupby([*NETWORK, "layer", "offset"], as_index=False)["lag_correlation"]
    found = table.agg(["mean", "std", "count", "size"])
    found = found.rename(columns={"std": "sd", "count": "finite", "size": "networks"})
    found["predicted"] = _iterated(found, float(group.loc[group["layer"] == 1, "length"].mean()))
    return found.assign(part="autocorrelation")


def _iterated(found: pd.DataFrame, length: float) -> pd.Series[float]:
    """Return what the maps make of the first layer in the layers shown, for offsets that are near.

    `length` is the mean square in the first layer.
    """
    predicted = pd.Series(math.nan, index=found.index)
    activation, weights, biases, _, depth = found[NETWORK].iloc[0]
    near = found[(found["offset"] <= NEAR_OFFSETS) & found["mean"].notna()]
    for _, rows in near.groupby("offset"):
        start = {"length": length, "correlation": min(rows["mean"].iloc[0], 1.0)}
        means = pd.DataFrame(start, index=rows["layer"])
        predicted[rows.index] = iteration(activation, weights, biases, means).to_numpy()
    return predicted.where(found["layer"].isin(shown_layers(int(depth))["autocorrelation"]))


def draw_circle(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw a row for every weight variance: images, correlations by offset in all layers, in a few.

    An image has the colour of the angle and its share of the variance beside it.
    """
    kinds = list(rows.groupby(NETWORK, sort=False))
    layers = shown_layers(int(rows["depth"].max()))
    count = len(layers["image"])
    height = 1.75 * len(kinds) + 1.0
    figure = plt.figure(figsize=(style.width(), height))
    places = figure.add_gridspec(  # an empty column lies left of each of the last two
        len(kinds), count + 4, width_ratios=[*[1.0] * count, 0.08, 1.12, 0.3, 1.12], left=0.02,
        right=0.985, top=1 - 0.35 / height, bottom=0.78 / height, wspace=0.1, hspace=0.16,
    )  # fmt: skip
    colours = style.colours(layers["autocorrelation"])
    for number, (_, kind) in enumerate(kinds):
        images, correlations = (kind[kind["part"] == part] for part in ("image", "autocorrelation"))
        shown = shown_layers(int(kind["depth"].iloc[0]))["image"]
        for place, layer in enumerate(shown):
            axes = figure.add_subplot(places[number, place], projection="3d")
            image = images[images["layer"] == layer]
            _draw_image(axes, image, _sigma(kind["sigma_w2"].iloc[0]) if place == 0 else "")
            axes.set_title(f"layer {layer}" if number == 0 else "", pad=9)
        map_axes, line_axes = (figure.add_subplot(places[number, count + n]) for n in (1, 3))
        _draw_map(map_axes, correlations)
        _draw_lines(line_axes, correlations, colours)
        sns.despine(ax=line_axes)
        top, bottom = number == 0, number == len(kinds) - 1
        for axes, title in ((map_axes, "autocorrelation"), (line_axes, "near the offset 0")):
            offset = "offset $\\Delta\\theta$" if bottom else ""
            axes.set(title=title if top else "", xlabel=offset)
            axes.tick_params(labelbottom=bottom)
    handles = [
        Line2D([], [], color=colour, label=f"layer {layer}") for layer, colour in colours.items()
    ]
    handles.append(Line2D([], [], color="#4d4d4d", marker=".", linestyle="none", label="networks"))
    handles.append(Line2D([], [], color="#4d4d4d", label="theory"))
    figure.legend(handles=handles, loc="lower right", ncols=len(handles), frameon=False)
    return figure


def _draw_image(axes: Any, image: pd.DataFrame, name: str) -> None:
    """Draw the closed curve in three dimensions, as large in every panel."""
    points = image[["pc1", "pc2", "pc3"]].to_numpy()
    points = points / (np.nanmax(np.abs(points), initial=0.0) or 1.0)
    closed = np.concatenate([points, points[:1]])
    axes.plot(*closed.T, color="black", linewidth=0.5, alpha=0.4)
    colours = sns.color_palette("hls", len(points))
    axes.scatter(*points.T, c=colours, s=5, linewidths=0, depthshade=False, rasterized=True)
    axes.view_init(30, -160)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.3)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_ticks([-1, 0, 1], labels=[])
        axis.set_pane_color("#f4f4f4")
    axes.text2D(0.98, 0.98, f"{100 * image['share'].iloc[0]:.0f} %", transform=axes.transAxes,
                ha="right", va="top", fontsize=9)  # fmt: skip
    axes.text2D(-0.06, 0.5, name, transform=axes.transAxes, rotation=90, va="center", ha="center")


def _draw_map(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the mean correlation over offset and layer, the offset in both directions."""
    table = rows.pivot(index="layer", columns="offset", values="mean")
    offsets = table.columns.to_numpy(float)
    inner = slice(-2 if np.isclose(offsets[-1], math.pi) else -1, 0, -1)
    both = np.concatenate([-offsets[inner], offsets])
    values = np.concatenate([table.to_numpy()[:, inner], table.to_numpy()], axis=1)
    mesh = axes.pcolormesh(
        both, table.index.to_numpy(float), values, vmin=-1, vmax=1, cmap="RdBu_r",
        shading="nearest", rasterized=True,
    )  # fmt: skip
    axes.set(xlim=(-math.pi, math.pi), ylabel="layer")
    axes.set_xticks([-math.pi, 0, math.pi], labels=["$-\\pi$", "0", "$\\pi$"])
    axes.grid(False)
    axes.figure.colorbar(mesh, ax=axes, ticks=(-1, 0, 1), fraction=0.08, pad=0.04)


def _draw_lines(axes: Axes, rows: pd.DataFrame, colours: dict[Any, str]) -> None:
    """Draw correlations near the offset 0: dots with one standard deviation, theory as lines."""
    near = rows[rows["offset"] <= NEAR_OFFSETS]
    for layer, line in near.groupby("layer"):
        if layer not in colours:
            continue
        x = np.concatenate([-line["offset"].to_numpy()[::-1], line["offset"]])
        mean, sd, predicted = (
            np.concatenate([line[name].to_numpy()[::-1], line[name]])
            for name in ("mean", "sd", "predicted")
        )
        colour = colours[layer]
        axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, mean, ".", color=colour, markersize=3)
        axes.plot(x, predicted, color=colour, linewidth=1.0)
    axes.set(xlim=(-NEAR_OFFSETS, NEAR_OFFSETS), ylim=(0, 1.05), ylabel="correlation $c$")
    axes.set_xticks([-0.4, -0.2, 0, 0.2, 0.4])


def describe_circle(rows: pd.DataFrame, options: Options) -> str:
    """Give the shares of variance, and the largest distance of the correlations from theory."""
    images = rows[rows["part"] == "image"].drop_duplicates(["sigma_w2", "layer"])
    shares = [
        f"sigma_w {math.sqrt(row['sigma_w2']):.3g}, layer {row['layer']}: {row['share']:.0%}"
        for _, row in images.iterrows()
    ]
    worst = (rows["mean"] - rows["predicted"]).abs().max()
    return (
        "A circle's image on three principal components, coloured by angle, with the share of "
        f"variance in these: {'; '.join(shares)}. Beside them the correlation of two points of the "
        "circle by the offset of their angles and the layer; the largest distance of its mean "
        f"from the iterated map is {worst:.2g}.{_describe_lost(rows)}"
    )


# ------------------------------------------------------------------------- length and curvature


def prepare_curvature(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Mean and standard deviation over networks of `measured_curves`, with `expected_curve`."""
    curves = measured_curves(tables, options)
    parts = []
    for _, rows in curves.groupby(NETWORK, sort=False) if len(curves) else []:
        layers = rows.groupby([*NETWORK, "layer"], as_index=False)
        known = rows.loc[rows["layer"] == 1, [*QUANTITIES]].gt(0).to_numpy().all()
        expected = expected_curve(rows) if known else None
        for quantity in QUANTITIES:
            table = layers[quantity].agg(["mean", "std", "count", "size"])
            table = table.rename(columns={"std": "sd", "count": "finite", "size": "networks"})
            predicted = math.nan if expected is None else getattr(expected, quantity)
            parts.append(table.assign(quantity=quantity, predicted=predicted))
    return pd.concat(parts, ignore_index=True) if parts else curves


def draw_curvature(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw curvature, expansion and Grassmannian length against the layer, logarithmic.

    Dots are means over networks with one standard deviation, lines theory.
    """
    colours = style.colours(rows["sigma_w2"])
    figure, panels = style.panels(3, height=2.9)
    for axes, (quantity, title) in zip(panels, QUANTITIES.items(), strict=True):
        chosen = rows[(rows["quantity"] == quantity) & (rows["mean"] > 0)]
        for (weights, *_), line in chosen.groupby(NETWORK[1:], sort=False):
            colour = colours[weights]
            low = (line["mean"] - line["sd"]).clip(lower=1e-3 * line["mean"])
            axes.fill_between(
                line["layer"], low, line["mean"] + line["sd"], color=colour, alpha=0.2, linewidth=0
            )
            axes.plot(line["layer"], line["mean"], ".", color=colour, markersize=6)
            axes.plot(line["layer"], line["predicted"], color=colour, linewidth=1.2)
        axes.set(title=title, yscale="linear" if chosen.empty else "log")
    handles = [
        Line2D([], [], color=colour, label=_sigma(weights)) for weights, colour in colours.items()
    ]
    handles.append(Line2D([], [], color="#4d4d4d", marker=".", linestyle="none", label="networks"))
    handles.append(Line2D([], [], color="#4d4d4d", label="theory"))
    return style.finish(figure, handles, xlabel="layer", ylabel="")


def describe_curvature(rows: pd.DataFrame, options: Options) -> str:
    """Give every quantity in the last layer, measured and by theory."""
    last = rows[rows["layer"] == rows["depth"]]
    ends = [
        f"sigma_w {math.sqrt(row['sigma_w2']):.3g}: {row['quantity'].replace('_', ' ')} "
        f"{row['mean']:.3g}, theory {row['predicted']:.3g}"
        for _, row in last.iterrows()
    ]
    return (
        "Curvature, expansion and Grassmannian length of a circle's image against the layer, with "
        f"theory. In the last layer: {'; '.join(ends)}.{_describe_lost(rows)}"
    )


KINDS = {
    "circle": Kind(prepare_circle, draw_circle, describe_circle),
    "curvature": Kind(prepare_curvature, draw_curvature, describe_curvature),
}
