"""Figures over layers: profiles, heat maps, slopes and update-to-weight ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gradprop.analysis import estimates
from gradprop.analysis.layers import hidden
from gradprop.analysis.names import names_of
from gradprop.components import activations
from gradprop.components.architecture import is_plain
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind, statistics
from gradprop.grid.selection import select
from gradprop.prediction.data import (
    BUILT,
    DROPPED,
    SHIFTED,
    TIED,
    TOO_DEEP,
    has_minibatch_theory,
    prediction_on_data,
    unpredicted,
)
from gradprop.results.study_tables import Options, StudyTables, at_step, groups
from gradprop.spec import Cell, Study

# Ratios above 10 or below 1e-11 leave the panel: what matters is the band around 1e-3.
UPDATE_RATIO_LIMITS = (-11, 2)
# The statistics that theory predicts, by the part of a `Prediction` that is their value.
PREDICTED = {
    "preactivation_log10_mean_square": "length",
    "signal_log10_rms": "signal",
    "gradient_log10_rms": "gradient",
}
MEASURED_LINE: dict[str, Any] = {"linewidth": 3.0}  # below the theory's
# Parts of a profile with residuals, and the heights of their panels.
VALUE, RESIDUAL = "value", "residual"
RESIDUAL_HEIGHTS = (1.0, 0.5)
LEAST_LIFT = 0.01  # decades that are worth a sentence
# White around it: the theory is seen on every colour, the measurement on both sides of it.
THEORY_LINE: dict[str, Any] = {
    "color": "black",
    "linestyle": (0, (4, 2)),
    "linewidth": 0.9,
    "path_effects": [withStroke(linewidth=1.7, foreground="white")],
}


def prepare_profile(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of statistics, by layer; with theory, what it predicts."""
    names = statistics(options)
    rows = at_step(tables.join(tables.layers, options), options)
    if all(name.startswith("activation") for name in names):
        rows = hidden(rows)  # the output layer has no activation function
    parts = [
        estimates.quartiles(rows, [*groups(options), "layer"], name, tables.diverged(rows)).assign(
            statistic=name
        )
        for name in names
    ]
    profile = pd.concat(parts, ignore_index=True)
    if options.get("theory"):
        profile = add_theory(profile, tables, options)
    return with_residuals(profile) if options.get("residual") else profile


def add_theory(profile: pd.DataFrame, tables: StudyTables, options: Options) -> pd.DataFrame:
    """Add the columns ``predicted``, ``predicted_sd`` and ``predicted_lift``.

    They are NaN where theory has nothing to say. The last is the part of the first by which a
    mean over a minibatch lies above a single example.

    Theory gives the ratio of signals and gradients, not their size, which depends on the loss:
    what is predicted is shifted to the measured median at the last hidden layer.
    """
    keys = [*groups(options), "layer", "statistic"]
    expected = _predictions(tables, options).groupby(keys, sort=False).median()
    profile = profile.merge(expected.reset_index(), on=keys, how="left")
    lines = [profile[key] for key in keys if key != "layer"]
    last = profile["layer"].groupby(lines, sort=False).transform("max")
    reference = profile["layer"] == np.maximum(last - 1, 1)
    gap = (profile["median"] - profile["predicted"]).where(
        reference & np.isfinite(profile["median"])
    )
    shift = gap.groupby(lines, sort=False).transform("max")
    relative = profile["statistic"] != "preactivation_log10_mean_square"
    profile["predicted"] += shift.where(relative, 0.0)
    return profile


def with_residuals(profile: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``part``, and rows with what is measured less what is predicted.

    Layers where some networks lack a value, or theory has nothing to say, have no residual.
    """
    known = profile["predicted"].notna() & (profile["finite"] == profile["networks"])
    columns = ["median", "low", "high", "predicted"]
    left = profile[columns].sub(profile["predicted"], axis=0).where(known)
    below = profile.assign(part=RESIDUAL, **left)
    return pd.concat([profile.assign(part=VALUE), below], ignore_index=True)


def _predictions(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return what theory expects of every selected cell, by layer and statistic."""
    keys, numbers = [], []
    for cell in select(tables.study.cells, options.get("select", {})):
        found = prediction_on_data(replace(cell, seed=0))
        layers = cell.depth + 1
        for name in statistics(options):
            part = PREDICTED[name]
            keys += [(cell.id, layer, name) for layer in range(1, layers + 1)]
            lift = "lift" if part in ("signal", "gradient") else ""
            values = [getattr(found, key, np.nan) for key in (part, f"{part}_sd", lift)]
            numbers.append(np.column_stack([np.broadcast_to(v, layers) for v in values]))
    rows = pd.DataFrame(keys, columns=["cell", "layer", "statistic"])
    rows[["predicted", "predicted_sd", "predicted_lift"]] = np.concatenate(numbers)
    return tables.join(rows, options).drop(columns="cell")


def without_theory(study: Study, options: Options) -> str:
    """Return why theory draws no line for some networks; nothing if it does for all.

    Every reason stands once, after what it is about: an initializer, tied kernels or dropout.
    """
    if not options.get("theory"):
        return ""
    called = names_of(study)["initializer"]
    cells = select(study.cells, options.get("select", {}))
    reasons = {cell: unpredicted(replace(cell, seed=0)) for cell in cells}
    by_reason: dict[str, dict[str, None]] = {}
    for cell, reason in reasons.items():
        if reason and reason != SHIFTED:
            name = _unlike(cell, reason) or called[cell.initializer.label]
            by_reason.setdefault(reason, {})[name] = None
    missing = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    scattered = _scattered(study, [cell for cell, reason in reasons.items() if not reason])
    lacking = ", ".join([*missing, *scattered])
    sentences = [f"Theory has no line for {lacking}."] if lacking else []
    if SHIFTED in reasons.values():
        sentences.append(f"{SHIFTED}.")
    return " ".join(sentences)


def _unlike(cell: Cell, reason: str) -> str:
    """Return what theory does not know of a cell; empty if that is its initializer."""
    if reason == TOO_DEEP:
        return f"tied kernels at depth {cell.depth} and width {cell.width}"
    if reason == BUILT:
        return "networks of network.py"
    if reason == DROPPED:
        return f"dropout {cell.dropout:g}"
    return "tied kernels" if reason == TIED else ""


def of_single_examples(study: Study, options: Options) -> str:
    """Return for which losses theory leaves the mean over a minibatch out; nothing if for none."""
    if not options.get("theory") or "statistic" not in options:
        return ""
    shown = {PREDICTED.get(name) for name in statistics(options)}
    cells = select(study.cells, options.get("select", {}))
    alone = any(is_plain(c) and not has_minibatch_theory(c) for c in cells)
    sentences = {
        "signal": "Of squared errors and regressions theory knows no means over minibatches: its "
        "lines are those of single examples, and what is measured may lie above them.",
        "gradient": "Weight gradients of squared errors and of regressions have no theory.",
    }
    return " ".join(text for part, text in sentences.items() if alone and part in shown)


def _scattered(study: Study, cells: Sequence[Cell]) -> list[str]:
    """Return the activations whose lengths scatter too much for the expansion in 1/width."""
    called = names_of(study)["activation"]
    grow = [c for c in cells if is_plain(c) and activations.get(c.activation).integrals]
    names = dict.fromkeys(
        called[c.activation.label] for c in grow if prediction_on_data(replace(c, seed=0)) is None
    )
    return [f"{name} (its lengths scatter too much between networks)" for name in names]


def draw_profile(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw statistics against the layer: line for the median, band for the quartiles."""
    hue: str = options["hue"]
    names = statistics(options)
    rows = rows.assign(panel=_panel_titles(rows, options.get("columns"), len(names) > 1))
    # Dashes are the theory's if it is drawn, over wide lines whose colour is still seen.
    theory = "predicted" in rows
    looks = style.looks(rows[hue], hue, options, dashed=not theory)
    rows, row = _rows_of_panels(rows, options)
    shared = _shared_label(names)
    facets = style.grid(
        rows,
        row,
        "panel",
        sharex="col",
        sharey="row" if len(names) == 1 or "RMS" in shared else False,
        heights=RESIDUAL_HEIGHTS if options.get("residual") else (1.0,),
    )
    shown: list[tuple[Axes, list[lost.Line], str]] = []
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        lines = [
            lost.Line(line, "layer", looks[value].colour)
            for value, line in panel.groupby(hue, sort=False)
        ]
        for value, line in zip(panel[hue].unique(), lines, strict=True):
            _draw_line(axes, line, looks[value], theory)
        has_values = "part" not in panel or (panel["part"] == VALUE).any()
        if lines and has_values:  # rows and columns may meet where the grid has no networks
            shown.append((axes, lines, panel["statistic"].iloc[0]))
        axes.set(xlabel="", ylabel="")
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        if names[0].endswith("_std"):
            axes.set_yscale("log", nonpositive="mask")
    for axes, lines, name in shown:
        if "log10" in name:
            style.powers_of_ten(axes.yaxis)
        lost.finish(axes, lines, name)
    handles = [*line_handles(looks), *lost.handles(facets.axes.flat)]
    if theory and rows["predicted"].notna().any():
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    if options.get("residual"):
        what = "Δ: less theory" if options.get("rows") else "less theory: measured over it"
        handles.append(Line2D([], [], linestyle="none", label=f"{what}, in decades"))
    handles += style.own_scales(facets.axes)
    return style.finish(
        facets.figure,
        handles,
        xlabel="layer",
        ylabel=style.quantity(shared),
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def _rows_of_panels(rows: pd.DataFrame, options: Options) -> tuple[pd.DataFrame, str | None]:
    """Return the numbers with their row of panels, and the column that has it, if any.

    With residuals, every row has a lower one below it.
    """
    row: str | None = options.get("rows")
    if not options.get("residual"):
        return rows, row
    names = _value_titles(rows, row)
    below = "Δ " + names if row else pd.Series("less theory", index=rows.index)
    titles = names.where(rows["part"] != RESIDUAL, below)
    pairs = zip(names, below, strict=True)
    order = dict.fromkeys(title for pair in dict.fromkeys(pairs) for title in pair)
    return rows.assign(panel_row=pd.Categorical(titles, list(order))), "panel_row"


def _draw_line(axes: Axes, line: lost.Line, look: style.Look, theory: bool) -> None:
    """Draw one line; with theory where something is measured."""
    finite = line.rows[np.isfinite(line.rows["median"])]
    marker = look.marker if len(finite) < 8 else None
    drawn = {"linestyle": look.dash, "marker": marker, "markersize": 3.5, "markeredgewidth": 0}
    line.draw(axes, **drawn, **(MEASURED_LINE if theory else {}))
    if theory and len(finite):
        _draw_theory(axes, finite)


def _draw_theory(axes: Axes, line: pd.DataFrame) -> None:
    """Draw the predicted line and one standard deviation around it."""
    x, centre, spread = (line[name].to_numpy() for name in ("layer", "predicted", "predicted_sd"))
    lost.fill(axes, x, centre - spread, centre + spread, color="black", alpha=0.07, zorder=1.5)
    axes.plot(x, centre, zorder=3, **THEORY_LINE)


def _panel_titles(rows: pd.DataFrame, column: str | None, several: bool) -> pd.Series[str]:
    """Return the title of the panel of every row: its column value and, if several, statistic."""
    titles = _value_titles(rows, column)
    if several:
        shared = _shared_label(rows["statistic"].unique())
        quantity = rows["statistic"].map(
            lambda name: style.label(name).removeprefix(shared).removeprefix(" of").strip()
        )
        titles = quantity.where(titles == "", quantity + ", " + titles)
    return titles


def _shared_label(names: Iterable[str]) -> str:
    """Return what the labels of several statistics have in common, for the axis."""
    labels = [style.label(name) for name in names]
    if len(labels) == 1:
        return labels[0]
    shared = ("log$_{10}$ RMS", "log$_{10}$", "")
    return next(text for text in shared if all(label.startswith(text) for label in labels))


def _value_titles(rows: pd.DataFrame, parameter: str | None) -> pd.Series[str]:
    """Return the value of a cell parameter in every row; numbers need its name before them."""
    if parameter is None:
        return pd.Series("", index=rows.index)
    if pd.api.types.is_bool_dtype(rows[parameter]):
        return rows[parameter].map(lambda has: ("" if has else "no ") + style.label(parameter))
    numeric = pd.api.types.is_numeric_dtype(rows[parameter])
    return (f"{style.label(parameter)} " if numeric else "") + rows[parameter].astype(str)


def line_handles(
    looks: Mapping[Any, style.Look], *, dashed: bool = True, markers: bool = False
) -> list[Line2D]:
    """Return the legend entries of lines, which have these looks, in part or in all."""
    return [
        Line2D(
            [], [], color=look.colour, linestyle=look.dash if dashed else "solid",
            marker=look.marker if markers else None, markersize=4, label=str(value),
        )
        for value, look in looks.items()
    ]  # fmt: skip


def describe_profile(rows: pd.DataFrame, options: Options) -> str:
    """Say what is plotted, the range, and what could not be drawn."""
    hue: str = options["hue"]
    names = " and ".join(_plain(name) for name in statistics(options))
    if options.get("residual"):
        rows = rows[rows["part"] == VALUE]
    text = (
        f"Line plots of {names} against layer, one panel for every "
        f"{_axes_text(options)}, one line for every {style.label(hue)}; "
        f"{_range_of_medians(rows)}."
    )
    text += lost.describe(rows, hue)
    return text + (_describe_residual(rows, options) if "predicted" in rows else "")


def _range_of_medians(rows: pd.DataFrame) -> str:
    finite = rows["median"][np.isfinite(rows["median"])]
    if finite.empty:
        return "there is no finite median"
    return f"medians range from {finite.min():.3g} to {finite.max():.3g}"


def _describe_residual(rows: pd.DataFrame, options: Options) -> str:
    """Give the largest distance between median and theory over the hidden layers.

    Layers where some networks lack a value are left out: the others have lost a part of their
    entries.
    """
    drawn = np.isfinite(rows["median"]) & rows["predicted"].notna()
    if not drawn.any():
        return " No line of theory is drawn."
    keys = [*groups(options), "statistic"]
    last = rows.groupby(keys, sort=False)["layer"].transform("max")
    inner = rows[(rows["layer"] < last) & drawn & (rows["finite"] == rows["networks"])]
    if inner.empty:
        return " Dashed lines are the theory; in no hidden layer have all networks a value."
    residual = (inner["median"] - inner["predicted"]).abs()
    worst = inner.iloc[int(residual.argmax())]
    place = ", ".join(f"{style.label(key)} {worst[key]}" for key in groups(options))
    below = " Lower panels show the differences." if options.get("residual") else ""
    return (
        " Dashed lines are the theory; over the hidden layers its largest distance from a median "
        f"is {residual.max():.2g} decades ({place}, layer {worst['layer']})."
        f"{_describe_lift(inner)}{below}"
    )


def _describe_lift(rows: pd.DataFrame) -> str:
    """Say how much of the theory is due to the mean over the examples of a minibatch."""
    lift = rows["predicted_lift"].max()
    if not lift >= LEAST_LIFT:
        return ""
    return (
        " The mean square over the examples of a minibatch, to which large signals contribute "
        f"most, lies up to {lift:.2g} decades above a typical single example, and the theory "
        "includes this."
    )


def _plain(statistic: str) -> str:
    return style.label(statistic).replace("$_{10}$", "10")


def _axes_text(options: Options) -> str:
    names = [style.label(options[key]) for key in ("rows", "columns") if key in options]
    return " and ".join(names) or "statistic"


def prepare_heatmap(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median over seeds of a statistic, by layer and step."""
    rows = tables.join(tables.layers, options)
    keys = [*groups(options), "layer", "step"]
    return estimates.quartiles(rows, keys, options["statistic"], tables.diverged(rows))


def draw_heatmap(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw layers upwards, steps to the right, the median as colour; hatched where there is none.

    Exact zeros, diverged networks and those without a value are told apart.
    """
    rows = rows.assign(state=lost.states(rows))
    finite = rows["median"][rows["state"] == ""]
    low, high = finite.quantile(0.02), finite.quantile(0.98)
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.1)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        medians, state = (
            panel.pivot(index="layer", columns="step", values=name) for name in ("median", "state")
        )
        x, y = np.arange(len(medians.columns) + 1), np.arange(len(medians.index) + 1) + 0.5
        mesh = axes.pcolormesh(
            x, y, medians.where(state == "").to_numpy(), vmin=low, vmax=high, cmap="viridis",
            rasterized=True,
        )  # fmt: skip
        lost.draw_fields(axes, x, y, state)
        every = max(1, len(medians.columns) // 5)
        axes.set_xticks(x[:-1:every] + 0.5, medians.columns[::every])
        axes.grid(False)
    handles = lost.field_handles(facets.axes.flat)
    figure = style.finish(facets.figure, handles, xlabel="step", ylabel="layer", right=style.BAR)
    name = options["statistic"]
    bar = style.colour_bar(figure, mesh, style.quantity(style.label(name)))
    if "log10" in name:
        style.powers_of_ten(bar.yaxis)
    return figure


def describe_heatmap(rows: pd.DataFrame, options: Options) -> str:
    """Say what is plotted, the range and how many fields have no median, and why."""
    state = lost.states(rows)
    counts = [f"{(state == name).mean():.0%} {text}" for name, text in lost.NAMES.items()]
    return (
        f"Heat maps of the median {_plain(options['statistic'])} over layer and training step, "
        f"one panel for every {_axes_text(options)}; {_range_of_medians(rows)}. "
        f"Of the fields are {', '.join(counts)}.{lost.describe(rows, _hue(options))}"
    )


def _hue(options: Options) -> str | None:
    """Return the last parameter that divides a figure, if any does."""
    return groups(options)[-1] if groups(options) else None


def prepare_slopes(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Slopes over layers in decades per layer: mean and 95 % t-interval over networks.

    A network in which a hidden layer is exactly zero or not finite has no slope, unless it fell
    below the range of float32 on its way: then the layers before that tell its slope. There is no
    mean where more than half of the networks have no slope.
    """
    rows = at_step(tables.join(tables.layers, options), options)
    keys, parts = groups(options), []
    for name in statistics(options):
        slopes = tables.join(_slopes_of_networks(tables, rows, name), options)
        means = [
            estimates.mean_interval(group["slope"].to_numpy())
            for _, group in slopes.groupby(keys, sort=False)
        ]
        table = estimates.counts(slopes, keys, "slope", tables.diverged(slopes)).reset_index()
        enough = 2 * table["finite"] >= table["networks"]
        for column, values in zip(("slope", "low", "high"), zip(*means, strict=True), strict=True):
            table[column] = pd.Series(values).where(enough)
        parts.append(table.assign(statistic=name))
    return pd.concat(parts, ignore_index=True)


def _slopes_of_networks(tables: StudyTables, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the slope of every network: -inf if a layer is exactly zero, NaN if it has none."""
    layers = hidden(rows)
    zero = layers.loc[layers[name] == -np.inf, "cell"]
    bad = layers.loc[layers[name].isna() | (layers[name] == np.inf), "cell"]
    cells = tables.cells
    below = cells.loc[cells["status"] == "underflowed", "cell"]
    slopes = estimates.layer_slopes(rows, name).reset_index()
    cell = slopes["cell"]
    told = cell.isin(below) & slopes["slope"].notna()
    slopes["slope"] = slopes["slope"].mask(cell.isin(zero) & ~told, -np.inf)
    slopes["slope"] = slopes["slope"].mask(cell.isin(bad))
    return slopes


def draw_slopes(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw points with intervals: slope to the right, one line per hue value."""
    hue: str = options["hue"]
    order = list(dict.fromkeys(rows[hue]))
    rows = rows.assign(panel=rows["statistic"].map(style.label))
    marker_by: str | None = options.get("columns")
    shades = (
        style.looks(rows[marker_by], marker_by, options)
        if marker_by
        else {None: style.Look(style.BLUE)}
    )
    facets = style.grid(
        rows, options.get("rows"), "panel", height=0.5 + 0.24 * len(order), sharex=False
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        axes.axvline(0, color="black", linewidth=0.8)
        parts = panel.groupby(marker_by, sort=False) if marker_by else [(None, panel)]
        for number, (value, part) in enumerate(parts):
            offset = (number - (len(shades) - 1) / 2) * 0.7 / len(shades)
            position = part[hue].map(order.index) + offset
            lost.mark_sides(axes, part, position, shades[value].colour)
            error = np.stack([part["slope"] - part["low"], part["high"] - part["slope"]])
            axes.errorbar(
                part["slope"],
                position,
                xerr=np.nan_to_num(error),
                fmt=shades[value].marker,
                markersize=3.2,
                linewidth=1.2,
                color=shades[value].colour,
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(len(order) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", label=f"{value}")
        for value, look in shades.items()
        if marker_by
    ]
    handles += [*lost.handles(facets.axes.flat), *style.own_scales(facets.axes, "x")]
    return style.finish(
        facets.figure,
        handles,
        xlabel="decades per layer towards the input",
        ylabel="",
        legend_title=style.label(marker_by) if marker_by else None,
    )


def describe_slopes(rows: pd.DataFrame, options: Options) -> str:
    """Name the steepest and the flattest slope of every statistic."""
    hue: str = options["hue"]
    parts = []
    for name, group in rows.dropna(subset=["slope"]).groupby("statistic", sort=False):
        group = group.sort_values("slope")
        low, high = group.iloc[0], group.iloc[-1]
        parts.append(
            f"{_plain(str(name))}: from {low['slope']:.3g} ({low[hue]}) to {high['slope']:.3g} "
            f"({high[hue]}) decades per layer"
        )
    text = "; ".join(parts) or "there are none"
    return f"Points with 95 % intervals of slopes over layers. {text}.{lost.describe(rows, hue)}"


def prepare_update_ratio(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Update-to-weight ratio of the first and the last hidden layer, by step."""
    rows = hidden(tables.join(tables.layers, options))
    last = rows.groupby("cell", sort=False)["layer"].transform("max")
    rows = rows[(rows["layer"] == 1) | (rows["layer"] == last)]
    position = np.where(rows["layer"] == 1, "first hidden layer", "last hidden layer")
    rows = rows.assign(position=position)
    keys = [*groups(options), "position", "step"]
    return estimates.quartiles(rows, keys, "log10_update_ratio", tables.diverged(rows))


def draw_update_ratio(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw ratio against step; full line for the first hidden layer, dashed for the last."""
    hue: str = options["hue"]
    # Dashes tell the layers, so that colours alone tell the lines.
    looks = style.looks(rows[hue], hue, options, dashed=False)
    lines: dict[str, Any] = {"first hidden layer": "solid", "last hidden layer": (0, (4, 1.5))}
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.2)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        axes.axhspan(-4, -2, color="#f0f0f0", zorder=0)
        shown = []
        for (value, position), line in panel.groupby([hue, "position"], sort=False):
            shown.append(lost.Line(line, "step", looks[value].colour))
            shown[-1].draw(axes, bands=False, linestyle=lines[position])
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.set_ylim(*UPDATE_RATIO_LIMITS)
        style.powers_of_ten(axes.yaxis)
        lost.finish(axes, shown, "log10_update_ratio", bands=False)
    handles = line_handles(looks, dashed=False)
    handles += [
        Line2D([], [], color="#4d4d4d", linestyle=line, label=name) for name, line in lines.items()
    ]
    return style.finish(
        facets.figure,
        [*handles, *lost.handles(facets.axes.flat)],
        xlabel="step",
        ylabel=style.quantity(style.label("log10_update_ratio")),
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_update_ratio(rows: pd.DataFrame, options: Options) -> str:
    """Give the medians of both layers at the first probe."""
    hue: str = options["hue"]
    start = rows[rows["step"] == rows["step"].min()]
    start = start[np.isfinite(start["median"])]
    medians = start.groupby([hue, "position"], sort=False)["median"].median()
    parts = [f"{value}, {position}: {ratio:.2f}" for (value, position), ratio in medians.items()]
    return (
        "Line plots of log10 of the update-to-weight ratio against step for the first and the "
        f"last hidden layer, one panel for every {_axes_text(options)}. Medians at step 0: "
        + ("; ".join(parts) or "none")
        + f".{lost.describe(rows, hue)}"
    )


KINDS = {
    "layer_profile": Kind(prepare_profile, draw_profile, describe_profile),
    "layer_heatmap": Kind(prepare_heatmap, draw_heatmap, describe_heatmap),
    "slope": Kind(prepare_slopes, draw_slopes, describe_slopes),
    "update_ratio": Kind(prepare_update_ratio, draw_update_ratio, describe_update_ratio),
}
