"""Iterated maps of length and correlation, layer by layer, and how far from rest they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.grid.selection import select
from gradprop.prediction.mean_field import coordinates, state
from gradprop.results.study_tables import Options, StudyTables, at_start

POINT = ["activation", "sigma_w2", "sigma_b2"]
# Of the first distance from a fixed point, what the iteration keeps clear of rounding.
CLEAR = 1e-6


def iteration(
    activation: str, weights: float, biases: float, means: pd.DataFrame
) -> pd.Series[float]:
    """Iterate theory's maps from the first layer of `means` on.

    Parameters
    ----------
    activation, weights, biases
        Activation function, weight variance times fan-in, and bias variance.
    means
        By layer, the measured ``length`` and, if it is wanted, ``correlation``.

    Returns
    -------
    Series
        The correlation in every layer if `means` has it, else the length; NaN if the first layer's
        are not finite.
    """
    depth, first = len(means), means.iloc[0]
    if not np.isfinite(first.astype(float)).all():
        return pd.Series(np.nan, index=means.index)
    if "correlation" in means:
        found = theory.correlation_trajectory(
            activation, float(first["correlation"]), depth, weights, biases, float(first["length"])
        )
    else:
        found = theory.length_trajectory(activation, float(first["length"]), depth, weights, biases)
    return pd.Series(found, index=means.index)


def fixed_point_distances(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Measure how far mean length and correlation are from their fixed points at initialization.

    Returns
    -------
    DataFrame
        For every point of the plane of both variances, ``quantity`` (length, correlation) and
        hidden layer: ``distance``, between the mean over networks and theory's fixed point;
        ``error``, half the width of the mean's 95 % t-interval; ``moving``, whether the distance
        has been above the error in all layers up to this one; ``predicted``, the exponential of
        theory's depth scale that the map tends to when it is iterated from the first layer on
        (NaN where there is none); and the columns of `gradprop.analysis.estimates.counts`.
    """
    cells = coordinates(select(tables.study.cells, options.get("select", {})))
    cells = cells[cells["depth"] > 1].dropna(subset=["sigma_w2"])
    rows = at_start(tables.layers).merge(cells, on="cell")
    rows = rows[rows["layer"] <= rows["depth"]]
    rows = rows.assign(
        length=10 ** rows["preactivation_log10_mean_square"],
        correlation=rows.get("preactivation_correlation", np.nan),
    )
    diverged = tables.diverged(rows)
    parts = [
        part
        for _, group in rows.groupby(POINT, sort=False)
        for part in _distances(group, diverged[group.index])
    ]
    return pd.concat(parts, ignore_index=True) if parts else cells


def _distances(group: pd.DataFrame, diverged: pd.Series[bool]) -> list[pd.DataFrame]:
    """Return the rows of `fixed_point_distances` for the networks of one point."""
    activation, weights, biases = group[POINT].iloc[0]
    rest = state(activation, weights, biases)
    parts, means = [], pd.DataFrame()
    for name, fixed, scale in (
        ("length", rest.q_star, rest.xi_q),
        ("correlation", rest.c_star, rest.xi_c),
    ):
        found = estimates.means(group, ["layer"], name, diverged).set_index("layer")
        means[name] = found.pop("mean")
        intervals = group.groupby("layer")[name].apply(estimates.mean_interval)
        error = intervals.map(lambda interval: interval[2] - interval[0])
        distance = (means[name] - fixed).abs()
        moving = (np.isfinite(distance) & ~(distance <= error)).cummin()
        iterated = (iteration(activation, weights, biases, means) - fixed).abs()
        parts.append(
            found.assign(
                activation=activation,
                sigma_w2=weights,
                sigma_b2=biases,
                quantity=name,
                distance=distance,
                error=error,
                moving=moving,
                predicted=_exponential(iterated, scale),
            ).reset_index()
        )
    return parts


def _exponential(distance: pd.Series[float], scale: float) -> pd.Series[float]:
    """Return the exponential of a depth scale through the last distance clear of rounding."""
    clear = distance[distance > CLEAR * distance.iloc[0]]
    if clear.empty or not 0 < scale < np.inf:
        return distance * np.nan
    return clear.iloc[-1] * np.exp((clear.index[-1] - distance.index.to_series()) / scale)
