"""Figures of what classifiers of points in the plane decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop.analysis import estimates
from gradprop.components import architecture, datasets
from gradprop.figures import lost, style
from gradprop.figures.kind import Kind
from gradprop.results.study_tables import Options, StudyError, StudyTables, at_step, groups

# How strongly a region is coloured where all networks of a panel agree.
OPACITY = 0.35


def prepare_boundary(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Majority decisions on the grid of the measurement ``decision``, and the training points.

    A network decides for the class of its largest output; networks with an output that is not
    finite decide nothing. There are no regions where these are more than half.

    Returns
    -------
    DataFrame
        One row per place: the panel's parameters, ``mark`` (region or point), ``x1``, ``x2``,
        ``label`` (the class that most networks decide for, the smaller one in a tie; or the
        point's own class), ``share`` (of the networks that decide so; NaN for points) and, of the
        panel, the columns of `gradprop.analysis.estimates.counts`.
    """
    if tables.measurement("decision").empty:
        return pd.DataFrame()
    keys = groups(options)
    wanted = list(dict.fromkeys([*keys, "dataset"]))
    rows = at_step(tables.join(tables.measurement("decision"), options, wanted), options)
    components = {cell.id: cell.dataset for cell in tables.study.cells}
    parts = []
    for key, panel in _panels(rows, keys):
        shown = {components[cell] for cell in panel["cell"].unique()}
        if len(shown) > 1:
            raise StudyError(
                "a panel of the kind decision_boundary shows one data set: divide the figure by "
                "`dataset`, or `select` one"
            )
        dataset = datasets.generate(shown.pop())
        if dataset.task == "classification":
            counts = _networks(panel, tables)
            decisions = _decisions(panel)[: 0 if estimates.too_few(counts).item() else None]
            part = pd.concat([decisions, _points(dataset)], ignore_index=True)
            parts.append(part.assign(**key, **counts.iloc[0]))
    if not parts:
        return pd.DataFrame()
    columns = [*keys, "mark", "x1", "x2", "label", "share", *counts]
    return pd.concat(parts, ignore_index=True)[columns]


def _networks(panel: pd.DataFrame, tables: StudyTables) -> pd.DataFrame:
    """Count the networks of a panel, and those with an output that is not finite."""
    finite = np.isfinite(panel["value"]).groupby([panel["cell"], panel["step"]]).all()
    networks = finite.map({True: 0.0, False: np.nan}).rename("value").reset_index()
    return estimates.counts(networks.assign(panel=0), ["panel"], "value", tables.diverged(networks))


def _panels(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the parameters and the rows of every panel."""
    if not keys:
        yield {}, rows
        return
    found: Iterable[Any] = rows.groupby(keys, sort=False)
    for key, panel in found:
        yield dict(zip(keys, key, strict=True)), panel


def _decisions(panel: pd.DataFrame) -> pd.DataFrame:
    """Return the majority's decision at every place, in the order of the grid."""
    outputs = panel.pivot(index=["cell", "x2", "x1"], columns="output", values="value")
    finite = pd.Series(np.isfinite(outputs.to_numpy()).all(axis=1), index=outputs.index)
    outputs = outputs[finite.groupby("cell").transform("all")]
    decided = pd.Series(architecture.decide(outputs.to_numpy()), index=outputs.index)
    votes = pd.get_dummies(decided).groupby(["x2", "x1"]).mean()
    if votes.empty:
        return pd.DataFrame(columns=["mark", "x1", "x2", "label", "share"])
    table = pd.DataFrame({"label": votes.idxmax(axis=1), "share": votes.max(axis=1)})
    return table.reset_index().assign(mark="region")


def _points(dataset: datasets.Dataset) -> pd.DataFrame:
    x1, x2 = dataset.x_train.T
    return pd.DataFrame(
        {"mark": "point", "x1": x1, "x2": x2, "label": dataset.y_train, "share": np.nan}
    )


def draw_boundary(rows: pd.DataFrame, options: Options) -> Figure:
    """Colour the regions by class, the paler the fewer networks agree; points in full colour."""
    column: str | None = options.get("columns")
    panels = rows[column].nunique() if column else 1
    classes = [f"class {label}" for label in sorted(rows["label"].unique())]
    colours = {name: look.colour for name, look in style.looks(classes).items()}
    facets = style.grid(
        rows, options.get("rows"), column, height=min(0.9 * style.width() / max(panels, 2), 3.2)
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        _draw_regions(axes, panel[panel["mark"] == "region"], colours)
        for label, points in panel[panel["mark"] == "point"].groupby("label"):
            axes.plot(
                points["x1"],
                points["x2"],
                ".",
                color=colours[f"class {label}"],
                markersize=4,
                markeredgewidth=0,
            )
        axes.set(aspect="equal", xlabel="", ylabel="")
        axes.grid(visible=False)
        lost.mark_panel(axes, panel[:1], ["black"])
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", label=name)
        for name, colour in colours.items()
    ]
    handles += lost.handles(facets.axes.flat)
    return style.finish(facets.figure, handles, xlabel="$x_1$", ylabel="$x_2$")


def _draw_regions(axes: Axes, region: pd.DataFrame, colours: dict[Any, str]) -> None:
    if region.empty:
        return
    names = region["label"].map("class {}".format)
    pixels = np.array([mpl.colors.to_rgba(colours[name]) for name in names])
    pixels[:, 3] = OPACITY * region["share"].to_numpy(np.float64)
    x1, x2 = np.unique(region["x1"]), np.unique(region["x2"])
    half = (x1[1] - x1[0]) / 2
    axes.imshow(
        pixels.reshape(len(x2), len(x1), 4),
        origin="lower",
        extent=(x1[0] - half, x1[-1] + half, x2[0] - half, x2[-1] + half),
        interpolation="nearest",
    )


def describe_boundary(rows: pd.DataFrame, options: Options) -> str:
    """Give, for every panel, the part of the plane that each class gets."""
    regions = rows[rows["mark"] == "region"]
    parts = []
    for key, panel in _panels(regions, groups(options)):
        areas = panel["label"].value_counts(normalize=True).sort_index()
        text = ", ".join(f"class {label} {area:.0%}" for label, area in areas.items())
        names = ", ".join(f"{style.label(name)} {value}" for name, value in key.items())
        parts.append(f"{names}: {text}" if names else text)
    return (
        "Regions of the plane coloured by the class that networks decide for, with the training "
        f"points. Parts of the square: {'; '.join(parts) or 'none'}."
        f"{lost.describe(rows, options.get('columns', options.get('rows')))}"
    )


KINDS = {"decision_boundary": Kind(prepare_boundary, draw_boundary, describe_boundary)}
