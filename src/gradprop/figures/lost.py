"""Networks without a value: marks at the edges of panels, notes, fields of heat maps, text.

`gradprop.analysis.estimates.quartiles` counts them for every point of a line and every field of a
heat map; here is how they are shown, in all kinds of figures alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gradprop.analysis import estimates

# What a point or field is if it has no median: what most of its networks without a value are.
ZERO, DIVERGED, MISSING = "zero", "diverged", "missing"
NAMES = {ZERO: "exactly 0", DIVERGED: "diverged", MISSING: "without a value"}
MARKERS = {ZERO: "v", DIVERGED: "x", MISSING: "|"}
# Fields of heat maps: colours that the scale does not have, and a hatch to tell them in grey.
NOT_RUN = "not run"
FIELDS = {
    ZERO: ("#ffffff", "...."),
    DIVERGED: ("#f6c5af", "////"),
    MISSING: ("#d0d0d0", ""),
    NOT_RUN: ("#ffffff", "\\\\"),
}
HATCH = "#808080"
# In parts of the height of a panel: where marks stand, how far those of the next line are, and how
# far notes keep from each other, over their height in points.
EDGE, STAGGER, NOTE = 0.03, 0.045, 8.0
PAPER = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "linewidth": 0}  # behind notes
MOST_NOTES = 4  # in a panel, of the lines that lack most networks
# Of a mark or a note: x in data, y in parts of the panel's height.
Place = tuple[float, float]
LATE = "at most half arrive within the run"
ARRIVED = "n of m: n of m networks arrive"
COUNTED = "n of m: n of m networks have a finite value"


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes
    ----------
    rows
        Rows of `quartiles`, from left to right.
    x, colour
        Column of the horizontal axis, and the line's colour.
    """

    rows: pd.DataFrame
    x: str
    colour: str

    def draw(self, axes: Axes, *, bands: bool = True, **look: Any) -> None:
        """Draw median and quartiles where they are finite; the line is broken elsewhere."""
        x, median = self.rows[self.x].to_numpy(), self.rows["median"].to_numpy(np.float64)
        quartiles = [self.rows[name].to_numpy(np.float64) for name in ("low", "high") if bands]
        # Infinite ones are drawn by `finish`, when the limits are known.
        ends = [np.where(np.isfinite(quartile), quartile, median) for quartile in quartiles]
        # The panel is as wide as the line, where it has no median as well.
        axes.update_datalim(np.column_stack([x, x]), updatey=False)
        if not np.isfinite(median).any():
            axes.autoscale_view(scaley=False)  # what is drawn asks for it by itself
        for part in np.ma.clump_unmasked(np.ma.masked_invalid(median)):
            if bands:
                fill(axes, x[part], *(end[part] for end in ends), color=self.colour, alpha=0.2)
            axes.plot(x[part], median[part], color=self.colour, **look)


def fill(axes: Axes, x: NDArray[Any], low: NDArray[Any], high: NDArray[Any], **look: Any) -> None:
    """Draw a band; the limits of its panel are found when they are needed, and not before it."""
    before = axes.get_autoscalex_on(), axes.get_autoscaley_on()
    axes.set_autoscale_on(False)
    axes.fill_between(x, low, high, lw=0, **look)
    axes.set_autoscalex_on(before[0])
    axes.set_autoscaley_on(before[1])


def states(rows: pd.DataFrame, *, positive: bool = False) -> pd.Series[str]:
    """Return what a row of `quartiles` is that has no finite median; empty if it has one.

    On a logarithmic axis, `positive`, a median of 0 is none either.
    """
    median = rows["median"].to_numpy(np.float64)
    zero = (median == -np.inf) | (positive & (median <= 0))
    lost = np.where(rows["diverged"] >= rows["missing"], DIVERGED, MISSING)
    found = np.select([zero, np.isfinite(median)], [ZERO, ""], lost)
    return pd.Series(found, index=rows.index, dtype=str)


def finish(axes: Axes, lines: Sequence[Line], statistic: str, *, bands: bool = True) -> None:
    """Show what of a panel's lines is not finite; the panel's limits have to be final.

    At the upper edge stand diverged networks, at the lower one exact zeros (and diverged
    accuracies, whose worst is 0); quartiles that are infinite reach the edge. A note at the mark,
    or at the end of a line without one, says how many networks have a finite value, where it is
    some and not all.
    """
    bottom, top = axes.get_ylim()
    marks = []
    for number, line in enumerate(lines):
        if bands:
            _open_bands(axes, line, bottom, top)
        marks.append(_mark_edges(axes, line, number, statistic))
    axes.set_ylim(bottom, top)
    places = [
        found[0] if found else _end(axes, line) for line, found in zip(lines, marks, strict=True)
    ]
    _write_notes(axes, lines, places)


def _open_bands(axes: Axes, line: Line, bottom: float, top: float) -> None:
    """Fill from the median to the edge of the panel where a quartile is infinite."""
    x, median = line.rows[line.x].to_numpy(), line.rows["median"].to_numpy(np.float64)
    finite = np.isfinite(median)
    for name, edge in (("low", bottom), ("high", top)):
        infinite = np.isinf(line.rows[name].to_numpy(np.float64))[finite]
        if infinite.any():
            axes.fill_between(
                x[finite], median[finite], edge, where=infinite.tolist(), color=line.colour,
                alpha=0.2, lw=0,
            )  # fmt: skip


def _mark_edges(axes: Axes, line: Line, number: int, statistic: str) -> list[Place]:
    """Draw, for every stretch of a line without a median, its course along the edge and a mark.

    The mark stands where the stretch meets the line, or in its middle if it meets none. The places
    of notes at the marks are returned.
    """
    places: list[Place] = []
    found = states(line.rows, positive=axes.get_yscale() == "log")
    if (found == "").all():
        return places
    for _, run in found.groupby((found != found.shift()).cumsum()):
        state = run.iloc[0]
        if not state:
            continue
        low = state == ZERO or (state == DIVERGED and estimates.counted_as(statistic) == 0)
        height = EDGE + STAGGER * number if low else 1 - EDGE - STAGGER * number
        before, after = run.index[0] != found.index[0], run.index[-1] != found.index[-1]
        at = 0 if before else len(run) - 1 if after else len(run) // 2
        note = height if low else height - _note_height(axes)  # above and below the edges
        places.append((float(line.rows.loc[run.index[at], line.x]), note))
        axes.plot(
            line.rows.loc[run.index, line.x],
            np.full(len(run), height),
            MARKERS[state] + "-",
            color=line.colour, transform=axes.get_xaxis_transform(), clip_on=False,
            markevery=[at],
            markersize=5, linewidth=0.5, gid=state,
        )  # fmt: skip
    return places


def mark_points(axes: Axes, x: pd.Series[float], y: pd.Series[float], rows: pd.DataFrame) -> None:
    """Mark the points of a plane that have no median or mean.

    Parameters
    ----------
    axes
        The panel.
    x, y
        Where the points are.
    rows
        With the columns ``median`` and those of `counts`.
    """
    found = states(rows)
    for state, marker in MARKERS.items():
        chosen = found == state
        if chosen.any():
            axes.plot(
                x[chosen], y[chosen], marker, color="black", markersize=6, zorder=4, gid=state
            )


def mark_sides(axes: Axes, rows: pd.DataFrame, height: pd.Series[float], colour: str) -> None:
    """Mark the rows of a panel whose mean is missing: zeros at the left edge, others at the right.

    Beside them, and where some networks have no value, stands "n of m".

    Parameters
    ----------
    axes
        The panel.
    rows
        With the columns of `gradprop.analysis.estimates.counts` and ``slope``.
    height
        Where each row stands, in data.
    colour
        Of the marks.
    """
    place = axes.get_yaxis_transform()
    for y, (_, row) in zip(height, rows.iterrows(), strict=True):
        most = _most(row)
        left = most == ZERO
        if np.isnan(row["slope"]):
            axes.plot(
                0.02 if left else 0.98, y, MARKERS[most], color=colour, transform=place,
                markersize=4, gid=most,
            )  # fmt: skip
        if 0 < row["finite"] < row["networks"]:
            axes.text(
                0.05 if left else 0.95, y, f"{row['finite']:.0f} of {row['networks']:.0f}",
                transform=place, ha="left" if left else "right", va="center", fontsize=7,
                color=colour, gid=COUNTED,
            )  # fmt: skip


def mark_panel(axes: Axes, rows: pd.DataFrame, colours: Sequence[str]) -> None:
    """Mark what is not drawn because too few networks have values, side by side at an edge.

    For histograms and regions, which have no place where a median would be. The limits of the
    horizontal axis, which is linear, have to be final.

    Parameters
    ----------
    axes
        The panel.
    rows
        A row with the columns of `gradprop.analysis.estimates.counts` for all that it shows.
    colours
        Of the rows.
    """
    left, right = axes.get_xlim()
    lines, places = [], []
    for number, colour in enumerate(colours):
        line = Line(rows.iloc[[number]], "", colour)
        x = left + (number + 0.5) / len(rows) * (right - left)
        places.append((x, 1 - EDGE - _note_height(axes)))
        lines.append(line)
        if estimates.too_few(line.rows).item():
            most = _most(line.rows.iloc[0])
            axes.plot(
                x, EDGE if most == ZERO else 1 - EDGE, MARKERS[most], color=colour, markersize=5,
                transform=axes.get_xaxis_transform(), clip_on=False, gid=most,
            )  # fmt: skip
    axes.set_xlim(left, right)
    _write_notes(axes, lines, places)


def _most(row: pd.Series[Any]) -> str:
    """Return what most of the networks without a finite value are."""
    return max((ZERO, DIVERGED, MISSING), key=lambda state: row[state])


def note_arrived(
    axes: Axes, x: pd.Series[float], height: float, rows: pd.DataFrame, colour: str
) -> None:
    """Write "n of m" above the marks of groups some of whose networks arrive after all.

    Parameters
    ----------
    axes
        The panel.
    x, height
        Where the marks stand, in data.
    rows
        With the columns ``arrived`` and ``networks``.
    colour
        Of the marks.
    """
    for place, arrived, networks in zip(x, rows["arrived"], rows["networks"], strict=True):
        if arrived:
            axes.annotate(
                f"{arrived} of {networks}", (place, height), (0, 5), textcoords="offset points",
                ha="center", fontsize=7, color=colour, gid=ARRIVED,
            )  # fmt: skip


def arrived_handles(axes: Iterable[Axes]) -> list[Line2D]:
    """Return the legend entry of the notes of `note_arrived`, if a panel has one."""
    noted = any(text.get_gid() == ARRIVED for panel in axes for text in panel.texts)
    return [Line2D([], [], linestyle="none", label=ARRIVED)] if noted else []


def _write_notes(axes: Axes, lines: Sequence[Line], places: Sequence[Place]) -> None:
    """Write "n of m" at those lines that lack most networks, one above the other."""
    notes = [
        (*_fewest(line), place, line.colour) for line, place in zip(lines, places, strict=True)
    ]
    partial = sorted((note for note in notes if note[1]), key=lambda note: note[0] / note[1])
    if len({note[:2] for note in partial}) == 1:  # one note speaks for all
        partial = partial[:1]
    free, gap = 0.0, _note_height(axes)
    upwards = sorted(partial[:MOST_NOTES], key=lambda note: note[2][1])
    for number, (n, m, (x, y), colour) in enumerate(upwards):
        # Above the last one, with room for the others below the upper edge.
        free = min(max(y, free), 1 - EDGE - gap * (len(upwards) - number))
        axes.annotate(
            f"{n} of {m}", (x, free), (0, 2), xycoords=axes.get_xaxis_transform(),
            textcoords="offset points", ha="right" if _is_right(axes, x) else "left",
            fontsize=7, color=colour, gid=COUNTED, bbox=PAPER,
        )  # fmt: skip
        free += gap


def _note_height(axes: Axes) -> float:
    """Return the height of a note in parts of the panel's."""
    figure: Any = axes.figure
    return NOTE / 72 / (axes.get_position().height * figure.get_figheight())


def _fewest(line: Line) -> tuple[int, int]:
    """Return how many networks have a finite value where fewest of some do, and of how many.

    (0, 0) if all have one or, wherever any lacks it, none does.
    """
    finite, networks = (line.rows[name].to_numpy(np.float64) for name in ("finite", "networks"))
    some = (finite > 0) & (finite < networks)
    if not some.any():
        return 0, 0
    worst = np.where(some, finite, np.inf) / networks
    return int(finite[worst.argmin()]), int(networks[worst.argmin()])


def _end(axes: Axes, line: Line) -> Place:
    """Return where a line ends."""
    rows = line.rows[np.isfinite(line.rows["median"])]
    x, y = float(rows[line.x].iloc[-1]), float(rows["median"].iloc[-1])
    place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[1]
    return x, float(np.clip(place, 0.0, 1.0))


def _is_right(axes: Axes, x: float) -> bool:
    return bool(axes.transAxes.inverted().transform(axes.transData.transform((x, 1.0)))[0] > 0.3)


def handles(axes: Iterable[Axes]) -> list[Line2D]:
    """Return the legend entries of the marks and notes in the panels of a figure."""
    panels = list(axes)
    marked = {line.get_gid() for panel in panels for line in panel.lines}
    found = [
        Line2D([], [], color="#4d4d4d", marker=marker, linestyle="none", label=NAMES[state])
        for state, marker in MARKERS.items()
        if state in marked
    ]
    if any(text.get_gid() == COUNTED for panel in panels for text in panel.texts):
        found.append(Line2D([], [], linestyle="none", label=COUNTED))
    return found


# ---------------------------------------------------------------------------------- heat maps


def draw_fields(axes: Axes, x: Any, y: Any, state: pd.DataFrame) -> None:
    """Fill the fields of a heat map that have no value, each state in its own way.

    Parameters
    ----------
    axes
        The panel, with the other fields drawn.
    x, y
        Edges of columns and rows.
    state
        `states` of the fields; NaN or `NOT_RUN` where the grid has no networks.
    """
    for name, (colour, hatch) in FIELDS.items():
        chosen = (state == name).to_numpy()
        if not chosen.any():
            continue
        axes.pcolor(
            x, y, np.ma.masked_where(~chosen, np.ones(chosen.shape)), cmap=ListedColormap([colour]),
            hatch=hatch, edgecolors=HATCH, linewidths=0, gid=name,
        )  # fmt: skip


def field_handles(axes: Iterable[Axes]) -> list[Patch]:
    """Return the legend entries of the fields that `draw_fields` filled."""
    drawn = {collection.get_gid() for panel in axes for collection in panel.collections}
    return [
        Patch(
            facecolor=colour,
            edgecolor=HATCH,
            hatch=hatch,
            linewidth=0.4,
            label=NAMES.get(state, state),
        )
        for state, (colour, hatch) in FIELDS.items()
        if state in drawn
    ]


# ------------------------------------------------------------------------------ alternative text


def describe(rows: pd.DataFrame, by: str | None = None) -> str:
    """Count the networks without a value, for every value of `by` where they are most.

    Empty if all have one; otherwise a sentence with a space before it.
    """
    parts = []
    for value, group in rows.groupby(by, sort=False) if by else [("", rows)]:
        counts = []
        for state in (ZERO, DIVERGED, MISSING):
            share = group[state] / group["networks"]
            if share.max() > 0:
                worst = group.iloc[int(share.argmax())]
                counts.append(f"{worst[state]:.0f} of {worst['networks']:.0f} {NAMES[state]}")
        if counts:
            parts.append(f"{value}: {', '.join(counts)}" if by else ", ".join(counts))
    return (
        f" Networks that lack a finite value, where most do: {'; '.join(parts)}." if parts else ""
    )
