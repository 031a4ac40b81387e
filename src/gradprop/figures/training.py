"""Figures over training: learning curves, time to a target, divergence, final accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis import estimates
from gradprop.analysis.accuracy import prepare_atlas
from gradprop.analysis.layers import hidden
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind, statistics
from gradprop.figures.layers import line_handles
from gradprop.results.study_tables import Options, StudyTables, groups

# Marks of groups of networks whose median never reaches a target: the marker and what it says.
UNREACHED = {
    "late": ("^", lost.LATE),
    lost.DIVERGED: (lost.MARKERS[lost.DIVERGED], lost.NAMES[lost.DIVERGED]),
}


def of_minibatches(options: Options) -> str:
    """Return what a caption says of results in training: of which minibatches they are."""
    name = options.get("statistic", "")
    if options.get("kind") == "steps_to_target":
        name = "train_loss"
    if name == "minibatch_loss":
        return "The loss is that of the step's own minibatch, before its update."
    if not isinstance(name, str) or not name.startswith("train_"):
        return ""
    what = style.label(name).capitalize()
    return f"{what} is the mean over the last ten minibatches, or as many as there were."


def _drawn(name: str) -> str:
    """Return what axis and alternative text call a column of ``steps``."""
    return style.label(name) + (" (last ten minibatches)" if name.startswith("train_") else "")


def prepare_curves(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of a column of ``steps``.

    The column is named in ``statistic``. With `time` there is a column of that name beside
    ``step``, iterations or epochs.
    """
    name: str = options["statistic"]
    rows = tables.join(tables.steps, options)
    if name.endswith("error"):
        rows[name] = 1 - rows[name.replace("error", "accuracy")]
    keys = [*groups(options), "step"]
    if "time" in options:
        rows[options["time"]] = _time(rows, tables, options["time"])
        keys.append(options["time"])
    return estimates.quartiles(rows, keys, name, tables.diverged(rows)).assign(statistic=name)


def _time(rows: pd.DataFrame, tables: StudyTables, unit: str) -> pd.Series[float]:
    """Return the step of every row in iterations, which steps are, or in epochs."""
    if unit == "iteration":
        return rows["step"]
    epochs = tables.cells.set_index("cell")["epochs"]
    steps = tables.steps.groupby("cell")["step"].max()
    return rows["step"] * rows["cell"].map(epochs / steps.where(steps > 0, 1))


def draw_curves(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the statistic against the step.

    Steps, and losses with them, have a logarithmic axis; with `time` all axes are linear.
    """
    hue: str = options["hue"]
    name: str = options["statistic"]
    time: str = options.get("time", "step")
    looks = style.looks(rows[hue], hue, options)
    facets = style.grid(rows, options.get("rows"), options.get("columns"))
    shown: list[tuple[Axes, list[lost.Line]]] = []
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        lines = {
            value: lost.Line(line, time, looks[value].colour)
            for value, line in panel.groupby(hue, sort=False)
        }
        for value, line in lines.items():
            line.draw(axes, linestyle=looks[value].dash)
        shown.append((axes, list(lines.values())))
        if time == "step":
            axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        if name.endswith("loss"):
            axes.set_yscale("log" if time == "step" else "linear")
            axes.set_ylim(*_loss_limits(rows, linear=time != "step"))
    for axes, all_lines in shown:
        if "log10" in name:
            style.powers_of_ten(axes.yaxis)
        lost.finish(axes, all_lines, name)
    return style.finish(
        facets.figure,
        [*line_handles(looks), *lost.handles(facets.axes.flat)],
        xlabel=time,
        ylabel=style.quantity(_drawn(name)).replace(" (", "\n("),
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def _loss_limits(rows: pd.DataFrame, *, linear: bool) -> tuple[float, float]:
    """Return limits that show learning; exploding losses leave the panel at the top."""
    finite = rows["median"][np.isfinite(rows["median"]) & (rows["median"] > 0)]
    if finite.empty:
        return 0.1, 10.0
    start = float(finite[rows["step"] == rows["step"].min()].median())
    if linear:
        return 0.0, 1.5 * start
    return max(float(finite.min()) / 1.3, start * 1e-4), min(float(finite.max()) * 1.3, start * 5)


def describe_curves(rows: pd.DataFrame, options: Options) -> str:
    """Give the median at the end for every hue value, and which networks are not in it."""
    hue: str = options["hue"]
    end = rows[rows["step"] == rows["step"].max()]
    finals = end.groupby(hue, sort=False)["median"].median()
    text = ", ".join(
        f"{value} {'none' if np.isnan(final) else f'{final:.3g}'}"
        for value, final in finals.items()
    )
    return (
        f"Line plots of {_drawn(options['statistic'])} against training "
        f"{options.get('time', 'step')}, one line for every {style.label(hue)}. Median over panels "
        f"at the last step: {text}.{lost.describe(rows, hue)}"
    )


def prepare_target(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over seeds of the steps to the target loss, by depth.

    Seeds that never got there count as infinitely slow, so that a median over seeds is
    defined as soon as more than half of them arrived.
    """
    cells = tables.select(options)
    steps = cells["steps_to_target"].astype("Float64").fillna(np.inf).astype(float)
    cells = cells.assign(steps=steps)
    rows = []
    keys = [*groups(options), "depth"]
    for values, group in cells.groupby(keys, sort=False):
        low, median, high = np.quantile(group["steps"], [0.25, 0.5, 0.75], method="higher")
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "target_loss": group["target_loss"].iloc[0],
                "median": median,
                "low": low,
                "high": high,
                "networks": len(group),
                "arrived": int(np.isfinite(group["steps"]).sum()),
                "diverged": int((group["status"] == "diverged").sum()),
            }
        )
    return pd.DataFrame(rows)


def draw_target(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw steps against depth; at the top edge stand groups that are late or diverged."""
    hue: str = options["hue"]
    depths = sorted(rows["depth"].unique())
    rows = rows.assign(position=rows["depth"].map(depths.index))
    looks = style.looks(rows[hue], hue, options)
    finite = rows["median"][np.isfinite(rows["median"])]
    never = 3 * max(finite.max() if len(finite) else 1, 1)
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.2)
    order = {value: number for number, value in enumerate(rows[hue].unique())}
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        axes.axhspan(never / 1.6, never * 1.6, color="#f0f0f0", zorder=0)
        for value, line in panel.groupby(hue, sort=False):
            line = line.sort_values("position")
            shown = line[np.isfinite(line["median"])]
            error = [shown["median"] - shown["low"], shown["high"] - shown["median"]]
            axes.errorbar(
                shown["position"],
                shown["median"].clip(lower=1),
                yerr=[np.nan_to_num(part, posinf=0) for part in error],
                color=looks[value].colour,
                linestyle=looks[value].dash,
                marker=looks[value].marker,
                markersize=3.5,
            )
            missing = line[~np.isfinite(line["median"])]
            diverged = missing["diverged"] * 2 > missing["networks"]
            shift = min(0.12, 0.7 / len(order)) * (order[value] - (len(order) - 1) / 2)
            for mask, gid in ((~diverged, "late"), (diverged, lost.DIVERGED)):
                if mask.any():
                    axes.plot(
                        missing["position"][mask] + shift,
                        np.full(int(mask.sum()), never),
                        UNREACHED[gid][0],
                        color=looks[value].colour,
                        markersize=5,
                        gid=gid,
                    )
            lost.note_arrived(
                axes, missing["position"] + shift, never, missing, looks[value].colour
            )
        axes.set_yscale("log")
        axes.set_xticks(range(len(depths)), depths)
        axes.set_xlim(-0.4, len(depths) - 0.6)
    handles = line_handles(looks, markers=True)
    drawn = {line.get_gid() for axes in facets.axes.flat for line in axes.lines}
    for gid, (marker, text) in UNREACHED.items():
        if gid in drawn:
            mark = Line2D([], [], color="#4d4d4d", marker=marker, linestyle="none", label=text)
            handles.append(mark)
    handles += lost.arrived_handles(facets.axes.flat)
    return style.finish(
        facets.figure,
        handles,
        xlabel="depth",
        ylabel="steps to target loss",
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_target(rows: pd.DataFrame, options: Options) -> str:
    """Count for every hue value the groups that reached the target."""
    hue: str = options["hue"]
    counts = rows.groupby(hue, sort=False)[["arrived", "diverged", "networks"]].sum()
    text = "; ".join(
        f"{value}: {row.arrived} of {row.networks}"
        + (f", {row.diverged} diverged" if row.diverged else "")
        for value, row in counts.iterrows()
    )
    return (
        "Median number of steps to the target training loss against depth. Networks that reached "
        f"it: {text}."
    )


def prepare_divergence(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Fraction of seeds that diverged, by depth, with step and layer of the first NaN."""
    keys = [*groups(options), "depth"]
    cells = tables.select(options)
    rows = cells.assign(diverged=cells["status"] == "diverged").groupby(keys, sort=False)
    return rows.agg(
        networks=("cell", "size"),
        diverged=("diverged", "mean"),
        first_bad_step=("first_bad_step", "median"),
        first_bad_layer=("first_bad_layer", "median"),
    ).reset_index()


def draw_divergence(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw bars of the diverged fraction over depth; the text gives step and layer."""
    hue: str = options["hue"]
    # Bars have no dash.
    looks = style.looks(rows[hue], hue, options, dashed=False)
    colours = {value: look.colour for value, look in looks.items()}
    depths = sorted(rows["depth"].unique())
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.1)
    width = 0.8 / len(colours)
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for number, value in enumerate(colours):
            part = panel[panel[hue] == value]
            position = part["depth"].map(depths.index) + (number - (len(colours) - 1) / 2) * width
            axes.bar(position, part["diverged"], width, color=colours[value], linewidth=0)
            for x, row in zip(position, part.itertuples(), strict=True):
                if row.diverged > 0:
                    text = f"step {row.first_bad_step:.0f}, layer {row.first_bad_layer:.0f}"
                    axes.text(
                        x,
                        0.03,
                        text,
                        rotation=90,
                        ha="center",
                        va="bottom",
                        fontsize=7.5,
                        color="white",
                    )
        axes.set_xticks(range(len(depths)), depths)
        axes.set_ylim(0, 1.03)
        axes.grid(False, axis="x")
        if not panel["diverged"].any():
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#606060")
    handles = [
        Line2D([], [], color=c, marker="s", linestyle="none", label=str(v))
        for v, c in colours.items()
    ]
    return style.finish(
        facets.figure,
        handles,
        xlabel="depth",
        ylabel="fraction diverged",
        legend_title=style.title_of_numbers(rows[hue], hue),
    )


def describe_divergence(rows: pd.DataFrame, options: Options) -> str:
    """List where anything diverged."""
    hue: str = options["hue"]
    share = rows.groupby(hue, sort=False)["diverged"].mean()
    text = ", ".join(f"{value} {fraction:.0%}" for value, fraction in share.items())
    return f"Bars of the fraction of seeds that became NaN or infinite, by depth. Overall: {text}."


def draw_atlas(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw depth against hue value as a heat map.

    'x' is diverged, '–' untrainable, '?' not measured; hatched fields are not in the panel's grid.
    """
    hue: str = options["hue"]
    order, depths = list(dict.fromkeys(rows[hue])), sorted(rows["depth"].unique())
    facets = style.grid(
        rows,
        options.get("rows"),
        options.get("columns"),
        height=max(0.55 + 0.25 * len(order), 1.9 if "rows" in options else 0.0),
        sharey=False,
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        medians = panel.pivot(index=hue, columns="depth", values="median")
        marks = _marks(panel, hue, order, depths)
        sns.heatmap(
            medians.reindex(index=order, columns=depths),
            ax=axes,
            vmin=0,
            vmax=1,
            cmap="cividis",
            cbar=False,
            xticklabels=depths,
            yticklabels=order if key[1] == 0 else False,
            annot=marks,
            fmt="",
            annot_kws={"fontsize": 8.5},
            linewidths=0.8,
        )
        x, y = (np.arange(len(found) + 1) for found in (depths, order))
        lost.draw_fields(axes, x, y, marks.where(marks != "", lost.NOT_RUN))
        axes.set(xlabel="", ylabel="")
        axes.tick_params(length=0, rotation=0)
    handles = lost.field_handles(facets.axes.flat)
    return style.finish(facets.figure, handles, xlabel="depth", ylabel="")


def _marks(panel: pd.DataFrame, hue: str, order: list[Any], depths: list[int]) -> pd.DataFrame:
    """Return the text of every field: the median in percent, or why there is none."""
    text = panel["median"].map("{:.0%}".format).str.rstrip("%").replace("nan", "?")
    text = text.mask(panel["untrainable"] > 0.5, "–").mask(panel["diverged"] > 0.5, "x")
    marks = panel.assign(text=text).pivot(index=hue, columns="depth", values="text")
    return marks.reindex(index=order, columns=depths, fill_value="").fillna("")


def describe_atlas(rows: pd.DataFrame, options: Options) -> str:
    """Count trained, untrainable and diverged fields; name the best hue value at largest depth."""
    deepest = rows[rows["depth"] == rows["depth"].max()]
    best = deepest.sort_values("median", na_position="first").iloc[-1]
    diverged, untrainable = ((rows[key] > 0.5).sum() for key in ("diverged", "untrainable"))
    return (
        f"Heat maps of the median {style.label(options['statistic'])} over depth and "
        f"{style.label(options['hue'])}. Of {len(rows)} fields {diverged} "
        f"diverged and {untrainable} are untrainable; best at depth "
        f"{best['depth']}: {best[options['hue']]} with {best['median']:.0%}."
    )


def prepare_layer_curves(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median over seeds of statistics of hidden layers, by epoch; ``band`` is another one's."""
    rows = hidden(tables.join(tables.layers, options))
    rows = rows.assign(epoch=_time(rows, tables, "epoch"))
    keys = [*groups(options), "layer", "epoch"]
    diverged = tables.diverged(rows)
    parts = [
        estimates.quartiles(rows, keys, name, diverged).assign(statistic=name)
        for name in statistics(options)
    ]
    curves = pd.concat(parts, ignore_index=True)
    if "band" in options:
        spread = estimates.quartiles(rows, keys, options["band"], diverged)[[*keys, "median"]]
        curves = curves.merge(spread.rename(columns={"median": "band"}), on=keys, how="left")
    return curves


def draw_layer_curves(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw statistics against the epoch, a colour per layer, a dash per statistic."""
    names = statistics(options)
    colours = style.colours(rows["layer"])
    order = (style.DASHES[0], style.DASHES[2], style.DASHES[1], style.DASHES[3])
    dashes: dict[str, Any] = dict(zip(names, order, strict=False))
    facets = style.grid(rows, options.get("rows"), options.get("columns"), height=2.2, sharex="col")
    shown: list[tuple[Axes, list[lost.Line]]] = []
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        lines = []
        for (layer, name), line in panel.groupby(["layer", "statistic"], sort=False):
            lines.append(lost.Line(line, "epoch", colours[layer]))
            lines[-1].draw(axes, bands=False, linestyle=dashes[name], lw=1.3)
            if "band" in rows:
                line = line[np.isfinite(line["median"])]
                low, high = line["median"] - line["band"], line["median"] + line["band"]
                axes.fill_between(line["epoch"], low, high, color=colours[layer], alpha=0.12, lw=0)
        if names[0].startswith("gradient_std"):
            axes.set_yscale("log")
        axes.set_xlim(left=0)
        shown.append((axes, lines))
    for axes, all_lines in shown:
        if "log10" in names[0]:
            style.powers_of_ten(axes.yaxis)
        lost.finish(axes, all_lines, names[0], bands=False)
    handles = [
        Line2D([], [], color=colour, label=f"layer {layer}") for layer, colour in colours.items()
    ]
    if len(names) > 1:
        handles += [
            Line2D([], [], color="#4d4d4d", linestyle=dashes[name], label=style.label(name))
            for name in names
        ]
    handles += lost.handles(facets.axes.flat)
    ylabel = style.quantity(style.label(names[0])) if len(names) == 1 else "activation"
    return style.finish(facets.figure, handles, xlabel="epoch", ylabel=ylabel)


def describe_layer_curves(rows: pd.DataFrame, options: Options) -> str:
    """Give the medians of first and last layer at the end, over panels."""
    end = rows[rows["epoch"] == rows["epoch"].max()]
    edges = sorted({int(rows["layer"].min()), int(rows["layer"].max())})
    parts = [
        f"{style.label(str(name))} in layer {layer} "
        f"{group.loc[group['layer'] == layer, 'median'].median():.3g}"
        for name, group in end.groupby("statistic", sort=False)
        for layer in edges
    ]
    return (
        "Line plots of statistics of every hidden layer against the epoch. Median over panels at "
        f"the last one: {', '.join(parts)}.{lost.describe(rows)}"
    )


def prepare_spread(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Return a final result of every network, and what became of those without one.

    ``state`` is empty, ``diverged`` or ``missing``, which has not been trained; the value is NaN
    then.
    """
    name: str = options["statistic"]
    cells = tables.select(options)
    diverged = cells["status"] == "diverged"
    value = cells[name].astype(float).mask(diverged)
    value = value.where(np.isfinite(value))
    lost_as = np.where(diverged | np.isinf(cells[name].astype(float)), lost.DIVERGED, lost.MISSING)
    columns = list(dict.fromkeys([*groups(options), "seed"]))
    return cells[columns].assign(value=value, state=np.where(value.notna(), "", lost_as))


def draw_spread(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw a dot for every network, a row of dots for every hue value, and a bar at its median.

    Diverged networks stand at the edge of the worst values, with their number, and count in the
    median; there is no bar where most networks have no value.
    """
    hue: str = options["hue"]
    name: str = options["statistic"]
    looks = style.looks(rows[hue], hue, options, dashed=False)
    low, high = float(rows["value"].min()), float(rows["value"].max())
    facets = style.grid(
        rows, options.get("rows"), options.get("columns"), height=0.6 + 0.35 * len(looks)
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for place, (value, look) in enumerate(looks.items()):
            colour = look.colour
            networks = panel[panel[hue] == value]
            dots, median = networks["value"].dropna(), _median(networks, name)
            axes.plot(dots, [place] * len(dots), look.marker, color=colour, alpha=0.5, markersize=5)
            if np.isfinite(median):
                axes.plot([median] * 2, [place - 0.35, place + 0.35], color=colour)
            _mark_lost(axes, networks["state"], place, colour, left=name.endswith("accuracy"))
        axes.set_yticks(range(len(looks)), [str(value) for value in looks])
        axes.set_ylim(len(looks) - 0.5, -0.5)
        axes.set(xlabel="", ylabel="")
        if name.endswith("loss") and 0 < 3 * low < high:
            axes.set_xscale("log")
            if high < 1e5 * low:
                style.plain_ticks(axes.xaxis, (1, 2, 5) if high < 100 * low else (1,))
        axes.margins(x=0.12)
    return style.finish(
        facets.figure,
        lost.handles(facets.axes.flat),
        xlabel=style.label(name),
        ylabel=style.title_of_numbers(rows[hue], hue) or "",
    )


def _median(networks: pd.DataFrame, statistic: str) -> float:
    """Return the median that `estimates.quartiles` says; NaN if there is none."""
    if networks.empty:
        return np.nan
    diverged = networks["state"] == lost.DIVERGED
    renamed = networks.rename(columns={"value": statistic}).assign(all=0)
    table = estimates.quartiles(renamed, ["all"], statistic, diverged)
    return float(table["median"].item())


def _mark_lost(axes: Axes, state: pd.Series[str], place: int, colour: str, *, left: bool) -> None:
    """Mark diverged networks, and those without a value, at an edge, with their numbers."""
    for name, x in ((lost.DIVERGED, 0.02 if left else 0.98), (lost.MISSING, 0.5)):
        count = int((state == name).sum())
        if count:
            transform = axes.get_yaxis_transform()
            axes.plot(x, place, lost.MARKERS[name], color=colour, transform=transform, gid=name)
            axes.annotate(
                f"{count}", (x, place), (6 if left else -6, 0), xycoords=transform,
                textcoords="offset points", ha="left" if left else "right", va="center",
                fontsize=7.5, color=colour,
            )  # fmt: skip


def describe_spread(rows: pd.DataFrame, options: Options) -> str:
    """Give median, smallest and largest value for every hue value, and who has none."""
    name, hue = options["statistic"], options["hue"]
    parts = []
    for value, networks in rows.groupby(hue, sort=False):
        dots, median = networks["value"].dropna(), _median(networks, name)
        text = "no median" if np.isnan(median) else f"{median:.3g}"
        span = f"{dots.min():.3g} to {dots.max():.3g}, " if len(dots) else ""
        counts = [f"{len(networks)} networks"]
        for state in (lost.DIVERGED, lost.MISSING):
            if count := int((networks["state"] == state).sum()):
                counts.append(f"{count} of them {lost.NAMES[state]}")
        parts.append(f"{value} {text} ({span}{', '.join(counts)})")
    return (
        f"A dot for the {style.label(name)} of every network. Median and range: {'; '.join(parts)}."
    )


KINDS = {
    "layer_curves": Kind(prepare_layer_curves, draw_layer_curves, describe_layer_curves),
    "learning_curves": Kind(prepare_curves, draw_curves, describe_curves),
    "steps_to_target": Kind(prepare_target, draw_target, describe_target),
    "divergence": Kind(prepare_divergence, draw_divergence, describe_divergence),
    "atlas": Kind(prepare_atlas, draw_atlas, describe_atlas),
    "final_spread": Kind(prepare_spread, draw_spread, describe_spread),
}
