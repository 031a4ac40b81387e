"""Figures of the singular values of the Jacobian ``dh_depth / dh_1`` of the hidden layers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradprop import activations, analysis, theory
from gradprop.figures import mean_field, style
from gradprop.figures.data import Kind, Options, StudyTables, at_step, groups
from gradprop.figures.layers import THEORY_LINE, line_handles
from gradprop.spec import Cell
from gradprop.theory.jacobian import Ensemble

Float64 = npt.NDArray[np.float64]

MATRIX = "hidden_jacobian"
CONFIDENCE = 0.90
# Smaller singular values than this are left out of the drawing, not of the numbers.
SMALLEST = 1e-4
# Of the grid on which the law of singular values is integrated. A fraction of about
# s^(2 / (L + 1)) is smaller than s: 1.5 decades a factor hold all but a thousandth.
LAW_POINTS, LAW_DECADES = 4000, 1.5


class Law(NamedTuple):
    """What theory needs to know of a cell's Jacobian."""

    activation: str
    q: float  # mean square of the pre-activations; any positive number where it has no influence
    sigma_w2: float
    layers: int  # L
    ensemble: Ensemble

    @property
    def mean_square(self) -> float:
        """Mean squared singular value, ``chi^L``."""
        return theory.jacobian_mean_square(self.activation, self.q, self.sigma_w2, self.layers)

    @property
    def relative_variance(self) -> float:
        """Variance of squared singular values over their squared mean."""
        return theory.jacobian_relative_variance(
            self.activation, self.q, self.layers, self.ensemble
        )

    def log10_quantiles(self, ranks: Float64) -> Float64:
        """Return log10 of the singular value that a fraction `ranks` exceeds.

        Known for linear networks, NaN for others.
        """
        if self.activation != "linear":
            return np.full(ranks.shape, np.nan)
        scale = 0.5 * self.layers * math.log10(self.sigma_w2)
        if self.ensemble == "orthogonal":
            return np.full(ranks.shape, scale)
        edge = 0.5 * math.log10(theory.linear_gaussian_edge(self.layers))
        log10_s = np.linspace(edge, edge - LAW_DECADES * (self.layers + 1), LAW_POINTS)
        s = 10.0**log10_s
        weight = theory.linear_gaussian_singular_density(s, self.layers) * s * math.log(10)
        steps = 0.5 * (weight[1:] + weight[:-1]) * -np.diff(log10_s)
        return np.interp(ranks, np.concatenate([[0.0], np.cumsum(steps)]), log10_s) + scale


def law(cell: Cell) -> Law | None:
    """Return the law of wide networks like this cell; None if there is none.

    The length of the pre-activations is taken to be at its fixed point. Slopes of homogeneous
    activations do not depend on it.
    """
    sigma_w2 = mean_field.sigma_w2(cell)
    if cell.depth < 2 or not 0 < sigma_w2 < math.inf:
        return None
    q = 1.0
    if not activations.get(cell.activation).homogeneous:
        q = mean_field.state(cell.activation, sigma_w2, mean_field.sigma_b2(cell)).q_star
    if not math.isfinite(q):
        return None
    ensemble: Ensemble = "orthogonal" if cell.initializer.name == "orthogonal" else "gaussian"
    return Law(cell.activation, q, sigma_w2, cell.depth - 1, ensemble)


def common_law(cells: dict[str, Cell], ids: pd.Series[Any]) -> Law | None:
    """Return the law that all these cells share, if they do."""
    laws = {law(cells[name]) for name in ids.unique()}
    return laws.pop() if len(laws) == 1 else None


def _jacobians(tables: StudyTables, options: Options, columns: list[str]) -> pd.DataFrame:
    """Return the singular values of the selected cells of two or more hidden layers."""
    if tables.spectra.empty:
        return pd.DataFrame()
    rows = tables.spectra[tables.spectra["matrix"] == MATRIX]
    deep = {cell.id for cell in tables.study.cells if cell.depth > 1}
    return at_step(tables.join(rows[rows["cell"].isin(deep)], options, columns), options)


def moments(values: pd.DataFrame) -> pd.DataFrame:
    """Return moments of the squared singular values of every cell.

    Parameters
    ----------
    values
        Rows of the table ``spectra``, of one matrix and one step.

    Returns
    -------
    DataFrame
        ``mean_square``, the mean of ``s^2``, and ``relative_variance``, its variance over the
        squared mean, of each matrix, then averaged over examples; indexed by cell. NaN if a value
        is not finite or all are 0.
    """
    found = []
    for (cell, _), group in values.groupby(["cell", "example"], sort=False):
        log10_s = group["log10_singular_value"].to_numpy(np.float64)
        largest = log10_s.max()
        if not np.isfinite(largest):
            found.append((cell, np.nan, np.nan))
            continue
        squares = 10.0 ** (2 * (log10_s - largest))  # beyond the range of float64 without it
        with np.errstate(over="ignore"):
            mean = squares.mean() * np.float64(10.0) ** (2 * largest)
        found.append((cell, mean, squares.var() / squares.mean() ** 2))
    table = pd.DataFrame(found, columns=["cell", "mean_square", "relative_variance"])
    return table.groupby("cell", sort=False).mean()


def prepare_singular_values(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median and quartiles over networks of the sorted singular values, with the exact laws.

    Their place is `rank`, the fraction of larger ones. Those that are not told apart from rounding
    errors count as 0; where half of the networks have a 0, there is no row.
    """
    rows = _jacobians(tables, options, groups(options))
    if rows.empty:
        return rows
    count = rows.groupby(["cell", "example"], sort=False)["index"].transform("max")
    lost = rows["log10_singular_value"].isna()
    values = rows["log10_singular_value"].where(rows["resolved"] | lost, -np.inf)
    rows = rows.assign(rank=(rows["index"] - 0.5) / count, log10_singular_value=values)
    table = analysis.quartiles(rows, [*groups(options), "rank"], "log10_singular_value")
    cells = {cell.id: cell for cell in tables.study.cells}
    laws = {
        key: common_law(cells, part["cell"])
        for key, part in rows.groupby(groups(options), sort=False)
    }
    parts = []
    for key, line in table.groupby(groups(options), sort=False):
        shared = laws[key]
        ranks = line["rank"].to_numpy(np.float64)
        predicted = shared.log10_quantiles(ranks) if shared else np.nan
        parts.append(line.assign(predicted=predicted))
    table = pd.concat(parts, ignore_index=True)
    return table[table["seeds"] > table["zero"] + table["lost"]]


def draw_singular_values(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw sorted singular values, logarithmic, against the fraction of larger ones."""
    hue: str = options["hue"]
    colours, dashes = style.palette(rows[hue]), style.dashes(rows[hue])
    facets = style.grid(
        rows, options.get("rows"), options.get("columns"), sharex=True, sharey="row"
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False):
            shown = line[line["median"] > math.log10(SMALLEST)]
            bounds = 10.0 ** shown[["low", "median", "high"]]
            axes.fill_between(
                shown["rank"], bounds["low"], bounds["high"], color=colours[value], alpha=0.2, lw=0
            )
            axes.plot(
                shown["rank"], bounds["median"], color=colours[value], linestyle=dashes[value]
            )
            known = line[line["predicted"] > math.log10(SMALLEST)]
            axes.plot(known["rank"], 10.0 ** known["predicted"], **THEORY_LINE)
        axes.set(yscale="log", xlabel="", ylabel="")
    handles = [
        *line_handles(rows[hue], colours, dashes),
        Line2D([], [], label="theory", **THEORY_LINE),
    ]
    return style.finish(
        facets.figure, handles, xlabel="fraction of larger ones", ylabel="singular value"
    )


def describe_singular_values(rows: pd.DataFrame, options: Options) -> str:
    """Give the largest and the middle singular value of every line."""
    parts = []
    for key, line in rows.groupby(groups(options), sort=False):
        ranks, medians = (line[name].to_numpy(np.float64) for name in ("rank", "median"))
        middle = np.abs(ranks - 0.5).argmin()
        parts.append(
            f"{', '.join(map(str, key))}: 10^{medians[0]:.2f} the largest, "
            f"10^{medians[middle]:.2f} at a fraction of {ranks[middle]:.2f}"
        )
    return (
        "Singular values on a logarithmic axis against the fraction of larger ones, median and "
        f"quartiles over networks. {'; '.join(parts)}."
    )


def prepare_spectral_variance(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Relative variance of squared singular values by number of layers, with the law."""
    keys = list(dict.fromkeys([*groups(options), "depth"]))
    rows = _jacobians(tables, options, keys)
    if rows.empty:
        return rows
    parameters = rows[["cell", *keys]].drop_duplicates().set_index("cell")
    values = moments(rows).join(parameters).reset_index()
    cells = {cell.id: cell for cell in tables.study.cells}
    found = []
    for key, networks in values.groupby(keys, sort=False):
        spread = networks["relative_variance"].dropna()
        if spread.empty:
            continue
        mean, low, high = analysis.mean_interval(spread, CONFIDENCE)
        shared = common_law(cells, networks["cell"])
        found.append(
            {
                **dict(zip(keys, key, strict=True)),
                "layers": cells[networks["cell"].iloc[0]].depth - 1,
                "relative_variance": mean,
                "low": low,
                "high": high,
                "predicted": shared.relative_variance if shared else np.nan,
                "networks": len(spread),
            }
        )
    return pd.DataFrame(found)


def draw_spectral_variance(rows: pd.DataFrame, options: Options) -> Figure:
    """Draw relative variances against the number of layers, both logarithmic."""
    hue: str = options["hue"]
    colours, dashes = style.palette(rows[hue]), style.dashes(rows[hue])
    facets = style.grid(
        rows, options.get("rows"), options.get("columns"), height=3.0, sharex=True, sharey=False
    )
    for key, panel in facets.facet_data():
        axes = facets.axes[key[0], key[1]]
        for value, line in panel.groupby(hue, sort=False):
            axes.fill_between(
                line["layers"], line["low"], line["high"], color=colours[value], alpha=0.2, lw=0
            )
            axes.plot(
                line["layers"],
                line["relative_variance"],
                color=colours[value],
                linestyle=dashes[value],
                marker="o",
            )
            known = line[line["predicted"] > 0]
            axes.plot(known["layers"], known["predicted"], **THEORY_LINE)
        axes.set(xlabel="", ylabel="")
        if (panel["relative_variance"] > 0).any():
            axes.set(xscale="log", yscale="log")
        layers = sorted(rows["layers"].unique())
        axes.set_xticks(layers, [str(number) for number in layers])
        axes.xaxis.minorticks_off()
    handles = [
        *line_handles(rows[hue], colours, dashes),
        Line2D([], [], label="theory", **THEORY_LINE),
    ]
    return style.finish(
        facets.figure, handles, xlabel="layers L", ylabel="relative variance of $s^2$"
    )


def describe_spectral_variance(rows: pd.DataFrame, options: Options) -> str:
    """Give the relative variance of the deepest networks of every line, and the law's."""
    last = rows[
        rows["layers"] == rows.groupby(groups(options), sort=False)["layers"].transform("max")
    ]
    ends = "; ".join(
        f"{', '.join(str(row[key]) for key in groups(options))}: {row['relative_variance']:.3g} "
        f"after {row['layers']} layers (theory {row['predicted']:.3g})"
        for _, row in last.iterrows()
    )
    return (
        "Relative variance of the squared singular values against the number of layers, on "
        f"logarithmic axes, with 90 % intervals. {ends}."
    )


KINDS = {
    "singular_values": Kind(
        prepare_singular_values, draw_singular_values, describe_singular_values
    ),
    "spectral_variance": Kind(
        prepare_spectral_variance, draw_spectral_variance, describe_spectral_variance
    ),
}
