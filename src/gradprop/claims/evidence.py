"""Evidence: what one case of a claim is judged by, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

from gradprop.analysis import estimates
from gradprop.claims.cases import Case

# Two-sided; each of its bounds is one of a one-sided test at the level of 5 %.
CONFIDENCE = 0.90
NO_NETWORKS = "the study has no such networks"
NOT_PREDICTED = float("nan")  # told by its identity from a NaN that theory gives


@dataclass(frozen=True)
class Evidence:
    """What one case of a claim is judged by.

    Attributes
    ----------
    case
        Which networks, or which part of the claim; a text is its own id.
    predicted
        `NOT_PREDICTED` if the claim predicts no number; NaN if theory has none.
    measured, low, high
        Estimate and its interval; the same number three times if it is exact.
    networks
        How many independent networks (seeds) it rests on.
    reason
        Why there is no number, where there is none.
    interval
        From a confidence to the interval; None if there is no chance in it.
    confidence
        That of `low` and `high`.
    """

    case: Case | str
    predicted: float
    measured: float
    low: float
    high: float
    networks: int
    reason: str = ""
    interval: Callable[[float], tuple[float, float]] | None = None
    confidence: float = CONFIDENCE

    def at(self, confidence: float) -> Evidence:
        """Return the same evidence with the interval of another confidence."""
        if self.interval is None:
            return self
        low, high = self.interval(confidence)
        return replace(self, low=low, high=high, confidence=confidence)


def exact(case: Case | str, value: float, predicted: float, networks: int = 1) -> Evidence:
    """Return evidence without chance in it."""
    return Evidence(case, predicted, value, value, value, networks)


def from_interval(
    case: Case | str,
    measured: float,
    interval: Callable[[float], tuple[float, float]],
    networks: int,
    predicted: float = NOT_PREDICTED,
) -> Evidence:
    """Return an estimate with its interval, given as a function of the confidence."""
    return Evidence(case, predicted, measured, *interval(CONFIDENCE), networks, interval=interval)


def from_seeds(
    case: Case | str, values: npt.ArrayLike, predicted: float = NOT_PREDICTED
) -> Evidence:
    """Return the mean over seeds with its t-interval.

    Parameters
    ----------
    case
        Which networks.
    values
        One number per seed: seeds are the unit of replication, layers and steps are not.
    predicted
        What theory says.
    """
    array = _one_each(values, "seed")
    if reason := _lost(array):
        return replace(untested(case, reason), predicted=predicted, networks=len(array))

    def interval(confidence: float) -> tuple[float, float]:
        return estimates.mean_interval(array, confidence)[1:]

    return from_interval(case, float(array.mean()), interval, len(array), predicted)


def from_layers(case: Case | str, values: npt.ArrayLike, predicted: float) -> Evidence:
    """Return the mean over seeds where it is furthest from its prediction, of several layers.

    The interval is the smallest that contains the t-interval of every layer's mean, so that it
    meets a tolerance only if every layer does. That needs no more confidence than one layer: the
    chance that all of several intervals meet it wrongly is no larger than that of one (Berger
    1982).

    Parameters
    ----------
    case
        Which networks.
    values
        Shape (layers, seeds).
    predicted
        What theory says of all layers: one number.
    """
    array = np.asarray(values, dtype=np.float64)
    if reason := _lost(array.ravel()):
        return replace(untested(case, reason), predicted=predicted, networks=array.shape[-1])
    means = array.mean(axis=1)

    def interval(confidence: float) -> tuple[float, float]:
        bounds = np.array([estimates.mean_interval(row, confidence)[1:] for row in array])
        return float(bounds[:, 0].min()), float(bounds[:, 1].max())

    furthest = float(means[np.abs(means - predicted).argmax()])
    return from_interval(case, furthest, interval, array.shape[1], predicted)


def from_test(case: Case | str, p_value: float, networks: int) -> Evidence:
    """Return the p-value of a one-sided test.

    With other cases in a family (see `holm`) it is multiplied by the number of those that wait.
    """
    if math.isnan(p_value):
        return replace(untested(case, "the test has no p-value here"), networks=networks)

    def adjusted(confidence: float) -> tuple[float, float]:
        p = min(1.0, p_value * (1 - CONFIDENCE) / (1 - confidence))
        return p, p

    return from_interval(case, p_value, adjusted, networks)


def from_variance(case: Case | str, values: npt.ArrayLike, expected: float) -> Evidence:
    """Return the variance over networks divided by the expected one, which should be 1.

    Its interval is ``(n - 1) s^2 / chi^2``, exact for normal values.

    Parameters
    ----------
    case
        Which networks.
    values
        One number per network.
    expected
        The variance by theory.
    """
    array = _one_each(values, "network")
    too_few = "fewer than two networks" if len(array) < 2 else ""
    if reason := _lost(array) or too_few or ("" if expected > 0 else "theory has no variance"):
        return replace(untested(case, reason), predicted=1.0, networks=len(array))
    freedom, ratio = len(array) - 1, float(array.var(ddof=1)) / expected

    def interval(confidence: float) -> tuple[float, float]:
        low, high = scipy.stats.chi2.interval(confidence, freedom)
        return float(freedom * ratio / high), float(freedom * ratio / low)

    return from_interval(case, ratio, interval, len(array), predicted=1.0)


def from_bootstrap(
    case: Case | str,
    values: npt.NDArray[Any],
    statistic: Callable[[npt.NDArray[Any]], float],
    predicted: float = NOT_PREDICTED,
) -> Evidence:
    """Return a statistic of independent rows with its percentile interval (Efron 1979).

    Parameters
    ----------
    case
        Which networks.
    values
        Shape (networks or seeds, ...).
    statistic
        From such an array, with rows left out and others repeated, to a number.
    predicted
        What theory says.
    """
    if len(values) < 2:
        reason = "fewer than two networks" if len(values) else NO_NETWORKS
        return replace(untested(case, reason), predicted=predicted, networks=len(values))
    estimate, *resampled = estimates.bootstrap(values, statistic)
    if not math.isfinite(estimate) or np.isnan(resampled).any():
        reason = "there is no such number for these networks, or for a resample of them"
        return replace(untested(case, reason), predicted=predicted, networks=len(values))

    def interval(confidence: float) -> tuple[float, float]:
        """Return the values outside; between two, of which one is infinite, there is none."""
        low = np.quantile(resampled, (1 - confidence) / 2, method="lower")
        high = np.quantile(resampled, (1 + confidence) / 2, method="higher")
        return float(low), float(high)

    return from_interval(case, float(estimate), interval, len(values), predicted)


def from_distribution(
    case: Case | str, values: npt.ArrayLike, cdf: Callable[[Any], Any]
) -> Evidence:
    """Return how far the distribution of independent values is from an expected one.

    The largest distance between both distribution functions, Kolmogorov's statistic D, with the
    interval ``D ± sqrt(ln(2 / (1 - confidence)) / (2 n))``: it holds at every n, whatever the
    distribution (Massart 1990).

    Parameters
    ----------
    case
        Which networks.
    values
        One number per network.
    cdf
        The expected distribution function.
    """
    array = _one_each(values, "network")
    if reason := _lost(array):
        return replace(untested(case, reason), predicted=0.0, networks=len(array))
    with np.errstate(invalid="ignore"):
        distance = float(scipy.stats.kstest(array, cdf).statistic)
    if math.isnan(distance):
        return untested(case, "theory has no such distribution")

    def interval(confidence: float) -> tuple[float, float]:
        half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * len(array)))
        return max(distance - half, 0.0), min(distance + half, 1.0)

    return from_interval(case, distance, interval, len(array), predicted=0.0)


def _one_each(values: npt.ArrayLike, of: str) -> npt.NDArray[np.float64]:
    """Return one number per seed or network as an array."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values of the shape {array.shape}; allowed: one number per {of}")
    return array


def _lost(values: npt.NDArray[np.float64]) -> str:
    """Return why there is no estimate from these values, or nothing."""
    lost = int((~np.isfinite(values)).sum())
    if lost:
        return f"{lost} of {len(values)} values are not finite"
    return "" if len(values) else NO_NETWORKS


def from_count(case: Case | str, hits: npt.ArrayLike, seeds: npt.ArrayLike) -> Evidence:
    """Return in what fraction of seeds all networks hit (interval: Clopper and Pearson 1934).

    Networks of one seed have the same data, and the same random numbers where their layers have the
    same shapes: they are one observation, and it is a hit if every one of them is.

    Parameters
    ----------
    case
        Which networks.
    hits
        Whether each network is a hit.
    seeds
        The seed of each network.
    """
    by_seed = pd.Series(np.asarray(hits, dtype=bool)).groupby(np.asarray(seeds)).all()
    if by_seed.empty:
        return untested(case, NO_NETWORKS)
    test = scipy.stats.binomtest(int(by_seed.sum()), len(by_seed))

    def interval(confidence: float) -> tuple[float, float]:
        bounds = test.proportion_ci(confidence)
        return float(bounds.low), float(bounds.high)

    return from_interval(case, float(by_seed.mean()), interval, len(by_seed))


def untested(case: Case | str, reason: str) -> Evidence:
    """Return evidence that is missing, and why."""
    return Evidence(case, math.nan, math.nan, math.nan, math.nan, 0, reason)
