"""The study's own kind of figure: growth of the signal against the kernel that is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradprop.figures.kind import Kind
from gradprop.grid.kinds import Needs
from gradprop.grid.selection import select

if TYPE_CHECKING:  # what draws is imported late: planning a run reads this file, too
    import pandas as pd
    from matplotlib.figure import Figure

    from gradprop.results.study_tables import Options, StudyTables

AXES = {
    "radius": "log$_{10}$ of the spectral radius",
    "bound": "log$_{10}$ of γ × the largest singular value",
}
SHOWN = ("activation", "initializer", "width", "seed", *AXES, "rate")


def prepare(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Rate of the signal, spectral radius and bound of every network with a shared kernel."""
    from gradprop.analysis.names import names_of
    from gradprop.analysis.needs import need

    from .rates import rates

    chosen = select(tables.study.cells, options.get("select", {}))
    rows = rates(tables)
    rows = rows[rows["network"].isin(chosen) & rows["tied"]].reset_index(drop=True)
    need(rows, "networks with tied true")
    called = names_of(tables.study)
    for key in ("activation", "initializer"):
        rows[key] = rows[key].map(called[key])
    return rows[list(SHOWN)]


def draw(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw the rate against either logarithm, with the line on which both are equal."""
    from matplotlib.lines import Line2D

    from gradprop.figures import style

    looks = style.looks(rows["activation"], "activation", options)
    figure, panels = style.panels(len(AXES), height=3.4, sharey=True)
    finite = rows[np.isfinite(rows[[*AXES, "rate"]]).all(axis=1)]
    for axes, (column, label) in zip(panels, AXES.items(), strict=True):
        ends = [finite[column].min(), finite[column].max()]
        axes.plot(ends, ends, color="black", linestyle=style.DOTTED, linewidth=1)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.axvline(0, color="black", linewidth=0.6)
        for name, marks in finite.groupby("activation", sort=False):
            axes.plot(
                marks[column], marks["rate"], linestyle="none", marker=looks[name].marker,
                markersize=3.5, color=looks[name].colour, alpha=0.7, markeredgewidth=0,
            )  # fmt: skip
        axes.set(xlabel=label)
    handles = [
        Line2D([], [], linestyle="none", marker=look.marker, color=look.colour, label=str(name))
        for name, look in looks.items()
    ]
    handles.append(Line2D([], [], color="black", linestyle=style.DOTTED, label="equal"))
    return style.finish(figure, handles, xlabel="", ylabel="decades per layer towards the input")


def describe(rows: pd.DataFrame, options: Options) -> str:
    """Give the distances from the dotted lines, and count what could not be drawn."""
    known = rows[np.isfinite(rows[[*AXES, "rate"]]).all(axis=1)]
    if known.empty:
        return "Scatter plots without a finite rate."
    linear = known[known["activation"] == "linear"]
    text = (
        "Scatter plots of the growth of the signal, in decades per layer towards the input, "
        "against log10 of the spectral radius of the shared kernel and against log10 of γ times "
        f"its largest singular value, one mark for each of {len(known)} networks; growth ranges "
        f"from {known['rate'].min():.3g} to {known['rate'].max():.3g}, and exceeds the second by "
        f"at most {(known['rate'] - known['bound']).max():.2g}."
    )
    if len(linear):
        off = (linear["rate"] - linear["radius"]).abs().max()
        text += f" Linear networks are at most {off:.2g} from the first."
    lost = len(rows) - len(known)
    return text + (f" {lost} networks have no finite rate." if lost else "")


KINDS = {
    "growth_rates": Kind(
        prepare, draw, describe, Needs(shows=("initializer", "activation", "depth", "width"))
    )
}
