"""Figures over layers: profiles, heat maps, slopes and update-to-weight ratios."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradprop.analysis import estimates
from gradprop.analysis.layers import hidden
from gradprop.components.initializers import INITIALIZERS
from gradprop.figures import style
from gradprop.figures.kind import Kind, statistics
from gradprop.grid.selection import select
from gradprop.prediction.data import prediction_on_data
from gradprop.results.study_tables import Options, StudyTables, at_step, groups
from gradprop.spec import Study

# Ratios above 10 or below 1e-11 leave the panel: what matters is the band around 1e-3.
UPDATE_RATIO_LIMITS = (-11, 2)
# The statistics that theory predicts, by the part of a `Prediction` that is their value.
PREDICTED = {
    "preactivation_log10_mean_square": "length",
    "signal_log10_rms": "signal",
    "gradient_log10_rms": "gradient",
}
MEASURED_LINE: dict[str, Any] = {"linewidth": 2.8, "alpha": 0.65}  # below the theory's
# Parts of a profile with residuals, and the heights of their panels.
VALUE, RESIDUAL = "value", "residual"
RESIDUAL_HEIGHTS = (1.0, 0.5)
THEORY_LINE: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 0.8}


def prepare_profile(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of statistics, by layer; with theory, what it predicts."""
    names = statistics(options)
    rows = at_step(tables.join(tables.layers, options), options)
    if all(name.startswith("activation") for name in names):
        rows = hidden(rows)  # the output layer has no activation function
    parts = [
        estimates.quartiles(rows, [*groups(options), "layer"], name).assign(statistic=name)
        for name in names
    ]
    profile = pd.concat(parts, ignore_index=True)
    if options.get("theory"):
        profile = add_theory(profile, tables, options)
    return with_residuals(profile) if options.get("residual") else profile


def add_theory(profile: pd.DataFrame, tables: StudyTables, options: Options) -> pd.DataFrame:
    """Add the columns ``predicted`` and ``predicted_sd``; NaN where theory has nothing to say.

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

    Layers where float32 lost some seeds, or theory has nothing to say, have no residual.
    """
    known = profile["predicted"].notna() & (profile["zero"] == 0) & (profile["lost"] == 0)
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
            values = [getattr(found, key, np.nan) for key in (part, f"{part}_sd")]
            numbers.append(np.column_stack([np.broadcast_to(v, layers) for v in values]))
    rows = pd.DataFrame(keys, columns=["cell", "layer", "statistic"])
    rows[["predicted", "predicted_sd"]] = np.concatenate(numbers)
    return tables.join(rows, options).drop(columns="cell")


def without_theory(study: Study, options: Options) -> str:
    """Return why theory draws no line for some initializers; nothing if it does for all."""
    if not options.get("theory"):
        return ""
    cells = select(study.cells, options.get("select", {}))
    names = dict.fromkeys(cell.initializer.name for cell in cells)
    reasons = {name: INITIALIZERS[name].unpredicted for name in names}
    missing = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    return f"Theory has no line for {', '.join(missing)}." if missing else ""


def layer_colours(rows: pd.DataFrame) -> dict[int, str]:
    """Return a colour for every layer, from dark at the input to light at the output."""
    layers = sorted(rows["layer"].unique())
    return dict(zip(layers, sns.color_palette("viridis", len(layers)).as_hex(), strict=True))


def draw_profile(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw statistics against the layer: line for the median, band for the quartiles."""
    hue: str = options["hue"]
    names = statistics(options)
    rows = rows.assign(panel=_panel_titles(rows, options.get("columns"), len(names) > 1))
    theory = "predicted" in rows
    colours = style.palette(rows[hue])
    # Dashes are the theory's if it is drawn, over wide lines whose colour is still seen.
    dashes = dict.fromkeys(colours, "solid") if theory else style.dashes(rows[hue])
    rows, row = _rows_of_panels(rows, options)
    facets = style.grid(
        rows,
        row,
        "panel",
        sharex="col",
        sharey="row" if len(names) == 1 else False,
        heights=RESIDUAL_HEIGHTS if options.get("residual") else (1.0,),
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False):
            _draw_line(axes, line, colours[value], dashes[value], theory)
        axes.set(xlabel="", ylabel="")
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        if names[0].endswith("_std"):
            axes.set_yscale("log")
    handles = line_handles(rows[hue], colours, dashes, absent=_exact_zeros(rows, hue))
    if theory:
        handles.append(Line2D([], [], label="theory", **THEORY_LINE))
    ylabel = style.label(names[0]) if len(names) == 1 else _shared_label(names)
    return style.finish(facets.figure, handles, xlabel="layer", ylabel=ylabel)


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


def _draw_line(axes: Axes, line: pd.DataFrame, colour: str, dashes: Any, theory: bool) -> None:
    """Draw one line, broken at layers whose median is zero and has no logarithm."""
    finite = np.isfinite(line["median"])
    line = line.assign(run=(~finite).cumsum())[finite]
    if line.empty:
        return
    look = {"color": colour, "linestyle": dashes, **(MEASURED_LINE if theory else {})}
    look |= {"marker": "o" if len(line) < 8 else None, "markersize": 3, "markeredgewidth": 0}
    for _, run in line.groupby("run"):
        axes.fill_between(run["layer"], run["low"], run["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(run["layer"], run["median"], **look)
    if theory:
        _draw_theory(axes, line)


def _draw_theory(axes: Axes, line: pd.DataFrame) -> None:
    """Draw the predicted line and one standard deviation around it, where something is measured."""
    centre, spread = line["predicted"], line["predicted_sd"]
    axes.fill_between(
        line["layer"], centre - spread, centre + spread, color="black", alpha=0.07, lw=0, zorder=1.5
    )
    axes.plot(line["layer"], centre, zorder=3, **THEORY_LINE)


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
    shared = ("log$_{10}$ RMS", "log$_{10}$", "")
    return next(text for text in shared if all(label.startswith(text) for label in labels))


def _value_titles(rows: pd.DataFrame, parameter: str | None) -> pd.Series[str]:
    """Return the value of a cell parameter in every row; numbers need its name before them."""
    if parameter is None:
        return pd.Series("", index=rows.index)
    numeric = pd.api.types.is_numeric_dtype(rows[parameter])
    return (f"{style.label(parameter)} " if numeric else "") + rows[parameter].astype(str)


def line_handles(
    values: pd.Series[Any],
    colours: dict[Any, str],
    dashes: dict[Any, Any],
    absent: Collection[Any] = (),
) -> list[Line2D]:
    """Return the legend entries of lines with a colour and a dash for every value.

    Values in `absent` have no line, because all they have to show is exactly zero.
    """
    notes = dict.fromkeys(absent, " (exactly 0)")
    return [
        Line2D([], [], color=colours[v], linestyle=dashes[v], label=f"{v}{notes.get(v, '')}")
        for v in values.unique()
    ]


def _exact_zeros(rows: pd.DataFrame, hue: str) -> set[Any]:
    """Return the hue values whose medians are nowhere finite."""
    finite = np.isfinite(rows["median"]).groupby(rows[hue]).any()
    return set(finite.index[~finite])


def describe_profile(rows: pd.DataFrame, options: Options) -> str:
    """Say what is plotted, the range, and what could not be drawn."""
    hue: str = options["hue"]
    names = " and ".join(_plain(name) for name in statistics(options))
    if options.get("residual"):
        rows = rows[rows["part"] == VALUE]
    finite = rows[np.isfinite(rows["median"])]
    text = (
        f"Line plots of {names} against layer, one panel for every "
        f"{_axes_text(options)}, one line for every {style.label(hue)}; medians range from "
        f"{finite['median'].min():.3g} to {finite['median'].max():.3g}."
    )
    zero = sorted(set(map(str, rows.loc[rows["zero"] > 0, hue])))
    lost = sorted(set(map(str, rows.loc[rows["lost"] > 0, hue])))
    if zero:
        text += f" Some values are exactly zero and not drawn: {', '.join(zero)}."
    if lost:
        text += f" Some values are not finite and not drawn: {', '.join(lost)}."
    return text + (_describe_residual(rows, options) if "predicted" in rows else "")


def _describe_residual(rows: pd.DataFrame, options: Options) -> str:
    """Give the largest distance between median and theory over the hidden layers.

    Layers where float32 lost some seeds are left out: the others have lost a part of their entries.
    """
    keys = [*groups(options), "statistic"]
    last = rows.groupby(keys, sort=False)["layer"].transform("max")
    whole = (rows["zero"] == 0) & (rows["lost"] == 0)
    inner = rows[(rows["layer"] < last) & whole].dropna(subset=["median", "predicted"])
    if inner.empty:
        return " Theory predicts none of these lines."
    residual = (inner["median"] - inner["predicted"]).abs()
    worst = inner.iloc[int(residual.argmax())]
    place = ", ".join(f"{style.label(key)} {worst[key]}" for key in groups(options))
    below = " Lower panels show the differences." if options.get("residual") else ""
    return (
        " Dashed lines are the theory; over the hidden layers its largest distance from a median "
        f"is {residual.max():.2g} decades ({place}, layer {worst['layer']}).{below}"
    )


def _plain(statistic: str) -> str:
    return style.label(statistic).replace("$_{10}$", "10")


def _axes_text(options: Options) -> str:
    names = [style.label(options[key]) for key in ("rows", "columns") if key in options]
    return " and ".join(names) or "statistic"


def prepare_heatmap(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median over seeds of a statistic, by layer and step."""
    rows = tables.join(tables.layers, options)
    return estimates.quartiles(rows, [*groups(options), "layer", "step"], options["statistic"])


def draw_heatmap(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw layers upwards, steps to the right, the median as colour; grey is not finite."""
    finite = rows["median"][np.isfinite(rows["median"])]
    low, high = finite.quantile(0.02), finite.quantile(0.98)
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.1)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        table = panel.pivot(index="layer", columns="step", values="median")
        table = table.where(np.isfinite(table))
        axes.set_facecolor("#d0d0d0")
        mesh = axes.pcolormesh(
            np.arange(len(table.columns) + 1),
            np.arange(len(table.index) + 1) + 0.5,
            table.to_numpy(),
            vmin=low,
            vmax=high,
            cmap="viridis",
            rasterized=True,
        )
        every = max(1, len(table.columns) // 5)
        axes.set_xticks(np.arange(len(table.columns))[::every] + 0.5, table.columns[::every])
        axes.grid(False)
    figure = style.finish(facets.figure, [], xlabel="step", ylabel="layer", right=0.9)
    bar = figure.colorbar(mesh, cax=figure.add_axes((0.92, 0.2, 0.015, 0.6)))
    bar.set_label(style.label(options["statistic"]))
    return figure


def describe_heatmap(rows: pd.DataFrame, options: Options) -> str:
    """Say what is plotted, the range and the share that is not finite."""
    finite = np.isfinite(rows["median"])
    return (
        f"Heat maps of the median {_plain(options['statistic'])} over layer and training step, "
        f"one panel for every {_axes_text(options)}; values range from "
        f"{rows['median'][finite].min():.3g} to {rows['median'][finite].max():.3g}; "
        f"{1 - finite.mean():.0%} of the fields are zero or not finite and grey."
    )


def prepare_slopes(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Slopes over layers in decades per layer: mean and 95 % t-interval over seeds."""
    names = statistics(options)
    keys = groups(options)
    rows = at_step(tables.join(tables.layers, options), options)
    found = []
    for name in names:
        slopes = estimates.layer_slopes(rows, name).reset_index()
        for values, group in tables.join(slopes, options).groupby(keys, sort=False):
            mean, low, high = estimates.mean_interval(group["slope"].to_numpy())
            found.append(
                {
                    **dict(zip(keys, values, strict=True)),
                    "statistic": name,
                    "slope": mean,
                    "low": low,
                    "high": high,
                    "seeds": int(np.isfinite(group["slope"]).sum()),
                }
            )
    return pd.DataFrame(found)


def draw_slopes(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw points with intervals: slope to the right, one line per hue value."""
    hue: str = options["hue"]
    order = list(dict.fromkeys(rows[hue]))
    rows = rows.assign(panel=rows["statistic"].map(style.label))
    marker_by: str | None = options.get("columns")
    shades = style.palette(rows[marker_by]) if marker_by else {None: style.COLOURS[0]}
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
            error = np.stack([part["slope"] - part["low"], part["high"] - part["slope"]])
            axes.errorbar(
                part["slope"],
                position,
                xerr=np.nan_to_num(error),
                fmt="o",
                markersize=3.2,
                linewidth=1.2,
                color=shades[value],
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(len(order) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", label=f"{value}")
        for value, colour in shades.items()
    ]
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
    return "Points with 95 % intervals of slopes over layers. " + "; ".join(parts) + "."


def prepare_update_ratio(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Update-to-weight ratio of the first and the last hidden layer, by step."""
    rows = hidden(tables.join(tables.layers, options))
    last = rows.groupby("cell", sort=False)["layer"].transform("max")
    rows = rows[(rows["layer"] == 1) | (rows["layer"] == last)]
    position = np.where(rows["layer"] == 1, "first hidden layer", "last hidden layer")
    rows = rows.assign(position=position)
    return estimates.quartiles(rows, [*groups(options), "position", "step"], "log10_update_ratio")


def draw_update_ratio(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw ratio against step; full line for the first hidden layer, dashed for the last."""
    hue: str = options["hue"]
    colours = style.palette(rows[hue])
    lines: dict[str, Any] = {"first hidden layer": "solid", "last hidden layer": (0, (4, 1.5))}
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.2)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        axes.axhspan(-4, -2, color="#f0f0f0", zorder=0)
        for (value, position), line in panel.groupby([hue, "position"], sort=False):
            axes.plot(line["step"], line["median"], color=colours[value], linestyle=lines[position])
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.set_ylim(*UPDATE_RATIO_LIMITS)
    handles = [Line2D([], [], color=colour, label=str(v)) for v, colour in colours.items()]
    handles += [
        Line2D([], [], color="#4d4d4d", linestyle=line, label=name) for name, line in lines.items()
    ]
    return style.finish(
        facets.figure, handles, xlabel="step", ylabel=style.label("log10_update_ratio")
    )


def describe_update_ratio(rows: pd.DataFrame, options: Options) -> str:
    """Give the medians of both layers at the first probe."""
    hue: str = options["hue"]
    start = rows[rows["step"] == rows["step"].min()]
    medians = start.groupby([hue, "position"], sort=False)["median"].median()
    parts = [f"{value}, {position}: {ratio:.2f}" for (value, position), ratio in medians.items()]
    return (
        "Line plots of log10 of the update-to-weight ratio against step for the first and the "
        f"last hidden layer, one panel for every {_axes_text(options)}. Medians at step 0: "
        + "; ".join(parts)
        + "."
    )


KINDS = {
    "layer_profile": Kind(prepare_profile, draw_profile, describe_profile),
    "layer_heatmap": Kind(prepare_heatmap, draw_heatmap, describe_heatmap),
    "slope": Kind(prepare_slopes, draw_slopes, describe_slopes),
    "update_ratio": Kind(prepare_update_ratio, draw_update_ratio, describe_update_ratio),
}
