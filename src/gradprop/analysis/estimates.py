"""Numbers derived from the result tables: slopes over layers and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

Float64 = npt.NDArray[np.float64]

# Of a bootstrap interval.
RESAMPLES = 1000
# Of a quantile that lies between two values.
_METHODS: Final[tuple[Literal["lower", "linear", "higher"], ...]] = ("lower", "linear", "higher")


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the slope of the straight line of least squares.

    NaN if there are fewer than two different x, or some y is not finite.
    """
    points, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(np.unique(points)) < 2 or not np.isfinite(values).all():
        return np.nan
    return float(np.polyfit(points, values, 1)[0])


def slopes(x: npt.ArrayLike, y: npt.ArrayLike) -> Float64:
    """Return the slopes of the lines of least squares through the columns of `y` over `x`.

    Parameters
    ----------
    x
        Shape (points,).
    y
        Shape (points, lines).

    Returns
    -------
    ndarray
        Shape (lines,); NaN as in `slope`.
    """
    points, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found = np.full(values.shape[1], np.nan)
    finite = np.isfinite(values).all(axis=0)
    if len(np.unique(points)) > 1 and finite.any():
        found[finite] = np.polyfit(points, values[:, finite], 1)[0]
    return found


def squared_residuals(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the sum of squared residuals of that line; NaN with fewer than three points."""
    points, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(np.unique(points)) < 3 or not np.isfinite(values).all():
        return np.nan
    return float(np.polyfit(points, values, 1, full=True)[1].item())


def power_law_advantage(x: npt.ArrayLike, ln_y: npt.ArrayLike) -> float:
    """Return ln of the squared residuals of an exponential over those of a power law.

    Both are straight lines of least squares, through ``ln_y`` over x and over ln x, so that the
    number of points times this is the difference of their AIC (Akaike 1974).
    """
    exponential, power = squared_residuals(x, ln_y), squared_residuals(np.log(x), ln_y)
    return float(np.log(exponential / power))


def at_smallest_loss(cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Keep, of every kind of network, those at its best learning rate.

    The rule, fixed before measuring: the rate with the smallest mean over seeds of the final
    training loss; ties go to the smaller rate.

    Parameters
    ----------
    cells
        With the columns `by`, ``learning_rate`` and ``loss``, infinite for a diverged network.
    by
        Columns that tell the kinds of network apart.
    """
    kinds = [cells[column] for column in by]
    loss = cells.groupby([*by, "learning_rate"])["loss"].transform("mean")
    best = cells["learning_rate"].where(loss == loss.groupby(kinds).transform("min"))
    return cells[best == best.groupby(kinds).transform("min")]


def same_experiment(first: npt.ArrayLike, second: npt.ArrayLike) -> bool:
    """Tell whether two quantities of the same seeds differ by one number, the same for all seeds.

    Then they are one experiment: in networks without biases whose layers are homogeneous, a scale
    of the weights multiplies every length by its power, and the random numbers stay the same.

    Parameters
    ----------
    first, second
        One value per seed, in the same order of seeds.

    Returns
    -------
    bool
        Whether differences spread over seeds less than a thousandth as far as the values do, which
        leaves room for rounding to float32; False for fewer than two seeds.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or len(a) < 2:
        return False
    return bool(np.ptp(a - b) < 1e-3 * np.ptp(a))


def layer_slopes(layers: pd.DataFrame, statistic: str) -> pd.Series[float]:
    """Fit the slope of a log10 statistic over the hidden layers of every cell and probe.

    Ordinary least squares over layers 1 … depth of the finite values; the output layer, whose
    shape differs, is left out.

    Parameters
    ----------
    layers
        Rows of the ``layers`` table.
    statistic
        One of its log10 columns.

    Returns
    -------
    Series
        Decades per layer travelled from the output towards the input, so that a negative
        slope means vanishing; indexed by cell and step. NaN with fewer than two finite values.
    """
    last = layers.groupby(["cell", "step"], sort=False)["layer"].transform("max")
    rows = layers.loc[layers["layer"] < last, ["cell", "step", "layer", statistic]]
    rows = rows[np.isfinite(rows[statistic])]
    groups = rows.groupby(["cell", "step"], sort=False)
    x = rows["layer"] - groups["layer"].transform("mean")
    y = rows[statistic] - groups[statistic].transform("mean")
    keys = [rows["cell"], rows["step"]]
    products = (x * y).groupby(keys, sort=False).sum()
    squares = (x * x).groupby(keys, sort=False).sum()
    slopes = -products / squares.where(squares > 0)
    index = pd.MultiIndex.from_frame(layers[["cell", "step"]].drop_duplicates())
    return slopes.reindex(index).rename("slope")


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of independent values and its t-interval.

    Parameters
    ----------
    values
        One finite number per seed (seeds are the unit of replication, layers are not).
    confidence
        Probability that the interval covers the expectation of normal values.

    Returns
    -------
    mean, low, high
        The bounds are NaN for fewer than two values.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return np.nan, np.nan, np.nan
    mean = float(finite.mean())
    if len(finite) < 2:
        return mean, np.nan, np.nan
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(finite) - 1) * scipy.stats.sem(finite)
    return mean, mean - float(half), mean + float(half)


def relative_variance(
    values: npt.ArrayLike, confidence: float = 0.90
) -> tuple[Float64, Float64, Float64]:
    """Return variance over squared mean of independent rows, with bootstrap intervals.

    Parameters
    ----------
    values
        Shape (networks, columns), positive.
    confidence
        Of the percentile interval (Efron 1979) over `RESAMPLES` resamples of the rows, drawn
        from a fixed seed: the same values give the same interval.

    Returns
    -------
    estimate, low, high
        Shape (columns,) each; NaN for fewer than two networks.
    """
    estimate, *resampled = resampled_relative_variances(values)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return estimate, low, high


def resampled_relative_variances(values: npt.ArrayLike) -> Float64:
    """Return variance over squared mean of the rows, and of `RESAMPLES` resamples of them.

    Parameters
    ----------
    values
        Shape (networks, columns), not negative.

    Returns
    -------
    ndarray
        Shape (1 + `RESAMPLES`, columns), the rows as they are first; the variance is unbiased.
        NaN for fewer than two networks, and in columns that are 0 or not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    array = np.where(np.isfinite(array).all(axis=0) & array.any(axis=0), array, np.nan)
    if count < 2:
        return np.full((1 + RESAMPLES, array.shape[1]), np.nan)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), draws])
    # Deviations from 1 after division by the mean: no cancellation that matters.
    deviations = array / array.mean(axis=0) - 1
    mean = weights @ deviations / count
    square = weights @ np.square(deviations) / count
    variance: Float64 = (square - np.square(mean)) * count / (count - 1)
    with np.errstate(invalid="ignore"):  # a resample may be of zeros alone
        return np.asarray(variance / np.square(1 + mean))


def bootstrap(values: npt.NDArray[Any], statistic: Callable[[npt.NDArray[Any]], float]) -> Float64:
    """Return a statistic of independent rows, and of `RESAMPLES` resamples of them.

    Parameters
    ----------
    values
        Shape (networks or seeds, ...): what is drawn together stands in a row.
    statistic
        From such an array, with rows left out and others repeated, to a number.

    Returns
    -------
    ndarray
        Shape (1 + `RESAMPLES`,), the rows as they are first (Efron 1979); drawn from a fixed
        seed: the same values give the same numbers.
    """
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    found = [statistic(values), *(statistic(values[rows]) for rows in draws)]
    return np.array(found, dtype=np.float64)


def counted_as(statistic: str) -> float:
    """Return what a diverged network counts as in quantiles of a statistic over networks.

    That is the worst value: 0 of an accuracy, 1 of an error, infinity of a loss and of a magnitude
    or its logarithm. NaN of a statistic without such an order (a mean, a fraction, a correlation,
    a signal-to-noise ratio): the network is left out.
    """
    if statistic.endswith(("accuracy", "error")):
        return float(statistic.endswith("error"))
    has_order = "log10" in statistic or statistic.endswith(("loss", "std"))
    return math.inf if has_order and "snr" not in statistic else math.nan


def counts(
    rows: pd.DataFrame, by: Sequence[str], value: str, diverged: pd.Series[bool]
) -> pd.DataFrame:
    """Count the networks of every group, and those of them without a finite value.

    Parameters
    ----------
    rows
        One row per network and group.
    by
        Columns that tell groups apart.
    value
        A column.
    diverged
        Tells, for every row, whether its network has diverged by then: what is not finite there,
        an exact zero included, is the mark of that.

    Returns
    -------
    DataFrame
        Indexed by `by`: ``networks``, and of them ``finite`` (with a finite value), ``zero``
        (``-inf``, the logarithm of an exact zero), ``diverged`` and ``missing`` (without a value
        for another reason: not trained, or not defined there).
    """
    kinds = _kinds_of_values(rows[value].astype(np.float64), diverged)
    return _count(kinds, [rows[name] for name in by])


def _count(kinds: pd.DataFrame, keys: list[pd.Series[Any]]) -> pd.DataFrame:
    return kinds.assign(networks=True)[["networks", *kinds]].groupby(keys, sort=False).sum()


def _kinds_of_values(values: pd.Series[float], diverged: pd.Series[bool]) -> pd.DataFrame:
    finite = np.isfinite(values)
    return pd.DataFrame(
        {
            "finite": finite,
            "zero": (values == -np.inf) & ~diverged,
            "diverged": ~finite & (diverged | (values == np.inf)),
            "missing": values.isna() & ~diverged,
        }
    )


def too_few(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell of which rows of `counts` more than half of the networks have no value."""
    return 2 * (rows["diverged"] + rows["missing"]) > rows["networks"]


def means(
    rows: pd.DataFrame, by: Sequence[str], value: str, diverged: pd.Series[bool]
) -> pd.DataFrame:
    """Return the mean over networks of the finite values of a column, for every group.

    A mean has no place for what is not finite: there is none where more than half of the networks
    have no finite value.

    Parameters
    ----------
    rows, by, value, diverged
        As for `counts`.

    Returns
    -------
    DataFrame
        Columns `by`, ``mean`` and those of `counts`.
    """
    values, keys = rows[value].astype(np.float64), [rows[name] for name in by]
    kinds = _kinds_of_values(values, diverged)
    table = _count(kinds, keys)
    mean = values.where(kinds["finite"]).groupby(keys, sort=False).mean()
    table.insert(0, "mean", mean.mask(2 * table["finite"] < table["networks"]))
    return table.reset_index()


def quartiles(
    rows: pd.DataFrame, by: Sequence[str], value: str, diverged: pd.Series[bool]
) -> pd.DataFrame:
    """Return median and quartiles over networks of a column, for every group, and what they lack.

    A zero whose logarithm is ``-inf`` is the smallest value, and a diverged network counts as
    `counted_as` says. There is no median where more than half of the networks have no value, or
    where it would be that of diverged ones.

    Parameters
    ----------
    rows, by, value, diverged
        As for `counts`.

    Returns
    -------
    DataFrame
        Columns `by`, ``median``, ``low`` (25 %), ``high`` (75 %), of type 7 (Hyndman and Fan 1996)
        and infinite where one of the two values between which they lie is; NaN where there is
        none; and those of `counts`.
    """
    names = ["median", "low", "high", "networks", "finite", "zero", "diverged", "missing"]
    if rows.empty:
        return pd.DataFrame(columns=[*by, *names])
    values, keys = rows[value].astype(np.float64), [rows[name] for name in by]
    kinds = _kinds_of_values(values, diverged)
    bounds = _quantiles(values.mask(kinds["diverged"], counted_as(value)), keys)
    table = bounds.join(_count(kinds, keys))
    table["median"] = table["median"].mask(too_few(table) | (table["median"] == np.inf))
    return table[names].reset_index()


def _quantiles(values: pd.Series[float], keys: list[pd.Series[Any]]) -> pd.DataFrame:
    """Return the quartiles of every group; values may be infinite, NaN are left out."""
    levels = {"low": 0.25, "median": 0.5, "high": 0.75}
    bounds = {
        method: values.groupby(keys, sort=False)
        .quantile(np.array([*levels.values()]), interpolation=method)
        .unstack()
        for method in _METHODS
    }
    found = {}
    for name, level in levels.items():
        lower, between, higher = (bounds[method][level] for method in _METHODS)
        # Between a finite and an infinite value nothing can be interpolated.
        found[name] = between.mask(lower == -np.inf, lower).mask(higher == np.inf, higher)
    return pd.DataFrame(found)
