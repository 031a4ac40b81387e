r"""What a probe measures: each statistic a small named function with formula and source.

A statistic maps a `LayerRecord` (one layer, all replicas) to one float64 per replica. All
arithmetic is in float64 on the float32 values of the network: a float32 sum of squares would
return exactly 0 at magnitudes of 1e-20 and infinity at 1e19, the range this package is about.
True zeros give ``-inf`` as a log10 and are counted; NaN and infinity are counted and make the
other statistics of that replica NaN or infinite.

Every reduction runs over one contiguous row per replica, so that a replica's numbers do not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.activations import ACTIVATIONS

Float64 = NDArray[np.float64]

# Most entries of a layer whose quantiles are exact.
QUANTILE_SAMPLE = 512
# Most entries of a row that are summed at once.
BLOCK = 4096


class Sample:
    """The entries of one quantity in one layer, a row per replica.

    Parameters
    ----------
    values
        Shape (replicas, ...), float32.
    scale
        Constant factor that turns stored values into the quantity; applied to results.
    """

    def __init__(self, values: NDArray[np.float32], scale: float = 1.0) -> None:
        self.values = np.ascontiguousarray(values).reshape(len(values), -1)
        self.scale = scale

    @property
    def size(self) -> int:
        """Entries per replica."""
        return self.values.shape[1]

    @cached_property
    def mean(self) -> Float64:
        """Arithmetic mean."""
        sums = (block.sum(axis=1) for block in _blocks(self.values))
        return self.scale * reduce(np.add, sums) / self.size

    @cached_property
    def mean_square(self) -> Float64:
        """Mean of squares."""
        squares = (np.vecdot(block, block) for block in _blocks(self.values))
        return self.scale**2 * reduce(np.add, squares) / self.size

    @cached_property
    def variance(self) -> Float64:
        """Mean squared deviation from the mean (two passes: no cancellation)."""
        deviations = _blocks(self.values, (self.mean / self.scale)[:, None])
        squares = (np.vecdot(block, block) for block in deviations)
        return self.scale**2 * reduce(np.add, squares) / self.size

    @cached_property
    def _sorted(self) -> NDArray[np.float32]:
        return np.sort(self._quantile_sample, axis=1)

    @cached_property
    def _sorted_magnitudes(self) -> NDArray[np.float32]:
        return np.sort(np.abs(self._quantile_sample), axis=1)

    @property
    def _quantile_sample(self) -> NDArray[np.float32]:
        if self.size <= QUANTILE_SAMPLE:
            return self.values
        return self.values[:, quantile_entries(self.size)]

    def quantile(self, probability: float) -> Float64:
        """Quantile of the values, linear interpolation (type 7 of Hyndman and Fan 1996).

        Of more than `QUANTILE_SAMPLE` entries, those of `quantile_entries` are taken.
        """
        return self.scale * _quantile(self._sorted, probability)

    def magnitude_quantile(self, probability: float) -> Float64:
        """Quantile of the absolute values, of the same entries as `quantile`."""
        return self.scale * _quantile(self._sorted_magnitudes, probability)

    @cached_property
    def zero_fraction(self) -> Float64:
        """Fraction of entries that are exactly 0."""
        return 1 - np.count_nonzero(self.values, axis=1) / self.size

    @cached_property
    def nonfinite_fraction(self) -> Float64:
        """Fraction of entries that are NaN or infinite."""
        if np.isfinite(self.mean_square).all():  # squares of float32 do not overflow in float64
            return np.zeros(len(self.values))
        return self.fraction(~np.isfinite(self.values))

    def fraction(self, mask: NDArray[np.bool_]) -> Float64:
        """Fraction of true entries of `mask`, which has the shape of the values."""
        return np.count_nonzero(mask, axis=1) / self.size


def _blocks(values: NDArray[np.float32], subtracted: Float64 | None = None) -> Iterator[Float64]:
    """Yield blocks of columns in float64, one after another in the same memory.

    Scalar products of whole rows would not do: a BLAS divides rows longer than 10,000 among
    threads, and the bits would depend on their number. Fresh memory would take longer to get
    than to fill.
    """
    memory = _scratch(len(values), BLOCK)
    for start in range(0, values.shape[1], BLOCK):
        part = values[:, start : start + BLOCK]
        block = memory[:, : part.shape[1]]
        np.copyto(block, part)
        if subtracted is not None:
            block -= subtracted
        yield block


@lru_cache(maxsize=2)
def _scratch(rows: int, columns: int) -> Float64:
    return np.empty((rows, columns))


@lru_cache
def quantile_entries(size: int) -> NDArray[np.intp]:
    """Return the `QUANTILE_SAMPLE` of `size` entries that quantiles are taken of.

    Sorting all entries would take longer than a training step. A fixed random choice is the same
    for every replica; the standard error of a quantile's probability p is
    ``sqrt(p (1 - p) / QUANTILE_SAMPLE)``, 0.022 at the median.
    """
    chosen = np.random.default_rng(0).choice(size, QUANTILE_SAMPLE, replace=False)
    return np.sort(chosen)


def _quantile(rows: NDArray[np.float32], probability: float) -> Float64:
    """Interpolate in sorted rows; NaN sorts last, so a row that ends in NaN gives NaN."""
    position = probability * (rows.shape[1] - 1)
    below = int(position)
    above = min(below + 1, rows.shape[1] - 1)
    low, high = rows[:, below].astype(np.float64), rows[:, above].astype(np.float64)
    share = position - below
    # Not low + share * (high - low), which is NaN at a quantile beside an infinite value.
    between = (1 - share) * low + share * high if share else low
    values = np.where(low == high, low, between)
    return np.where(np.isnan(rows[:, -1]), np.nan, values)


@dataclass(frozen=True)
class LayerRecord:
    """What one probe sees of one layer, for all replicas of a stack.

    Attributes
    ----------
    gradient
        dC/dW of the minibatch loss, (replicas, fan_in, fan_out).
    signal
        dC/dz of single examples (the loss of an example, not averaged over the minibatch),
        (replicas, batch, units).
    preactivation, activation
        z and phi(z), (replicas, batch, units).
    weight
        W before the update, (replicas, fan_in, fan_out).
    update
        Change of W by the optimizer in this step, (replicas, fan_in, fan_out).
    function
        Name of phi; ``linear`` for the output layer.
    units
        Width of the layer.
    """

    gradient: Sample
    signal: Sample
    preactivation: Sample
    activation: Sample
    weight: Sample
    update: Sample
    function: str
    units: int

    @cached_property
    def saturated(self) -> NDArray[np.bool_]:
        """Where |phi'| is and stays at most 1 % of its maximum, (replicas, batch * units)."""
        low, high = ACTIVATIONS[self.function].saturation
        z = self.preactivation.values
        if np.isinf(low) and np.isinf(high):
            return np.zeros(z.shape, dtype=bool)
        return (z <= np.float32(low)) | (z >= np.float32(high))


def _log10(values: Float64) -> Float64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values)


@dataclass(frozen=True)
class Statistic:
    """A column of the ``layers`` table.

    Attributes
    ----------
    compute
        From a layer's record to one number a replica.
    definition
        Formula, with its unit where it has one.
    source
        Where the statistic is introduced or used.
    """

    compute: Callable[[LayerRecord], Float64]
    definition: str
    source: str


def _of(quantity: str, measure: Callable[[Sample], Float64]) -> Callable[[LayerRecord], Float64]:
    return lambda record: measure(getattr(record, quantity))


def log10_norm(sample: Sample) -> Float64:
    """Return log10 of the Euclidean norm, sqrt(sum x^2)."""
    return 0.5 * _log10(sample.mean_square * sample.size)


def log10_rms(sample: Sample) -> Float64:
    """Return log10 of the root mean square, sqrt(mean x^2)."""
    return 0.5 * _log10(sample.mean_square)


def log10_mean_square(sample: Sample) -> Float64:
    """Return log10 of the mean square, mean x^2."""
    return _log10(sample.mean_square)


def mean(sample: Sample) -> Float64:
    """Return the arithmetic mean."""
    return sample.mean


def standard_deviation(sample: Sample) -> Float64:
    """Return the standard deviation, sqrt(mean (x - mean x)^2)."""
    return np.sqrt(sample.variance)


def zero_fraction(sample: Sample) -> Float64:
    """Return the fraction of entries that are exactly 0."""
    return sample.zero_fraction


def nonfinite_fraction(sample: Sample) -> Float64:
    """Return the fraction of entries that are NaN or infinite."""
    return sample.nonfinite_fraction


def quantile(probability: float) -> Callable[[Sample], Float64]:
    """Return the statistic 'quantile of the values at `probability`'."""
    return lambda sample: sample.quantile(probability)


def log10_magnitude_quantile(probability: float) -> Callable[[Sample], Float64]:
    """Return the statistic 'log10 of the quantile of |x| at `probability`'."""
    return lambda sample: _log10(sample.magnitude_quantile(probability))


def saturated_fraction(record: LayerRecord) -> Float64:
    """Return the fraction of (example, unit) pairs in the flat tails of phi.

    There |phi'| is at most 1 % of its maximum from z outwards (the slope of gelu and swish is
    also small in a short interval around their minimum, which does not count).
    """
    return record.activation.fraction(record.saturated)


def dead_fraction(record: LayerRecord) -> Float64:
    """Return the fraction of units that are saturated for every example of the minibatch."""
    shape = (len(record.saturated), -1, record.units)
    return record.saturated.reshape(shape).all(axis=1).mean(axis=1)


def log10_update_ratio(record: LayerRecord) -> Float64:
    """Return log10 of the update-to-weight ratio, norm(change of W) / norm(W)."""
    with np.errstate(invalid="ignore"):
        return log10_norm(record.update) - log10_norm(record.weight)


_GLOROT = "Glorot and Bengio 2010, figures 6 to 9"
_MEAN_FIELD = "Poole et al. 2016; Schoenholz et al. 2017"

STATISTICS: dict[str, Statistic] = {
    "gradient_log10_norm": Statistic(
        _of("gradient", log10_norm), "log10 sqrt(sum (dC/dW)^2)", "Schoenholz et al. 2017"
    ),
    "gradient_log10_rms": Statistic(
        _of("gradient", log10_rms), "log10 sqrt(mean (dC/dW)^2)", _GLOROT
    ),
    "gradient_mean": Statistic(_of("gradient", mean), "mean dC/dW", _GLOROT),
    "gradient_std": Statistic(
        _of("gradient", standard_deviation), "standard deviation of dC/dW", _GLOROT
    ),
    "gradient_log10_q05": Statistic(
        _of("gradient", log10_magnitude_quantile(0.05)), "log10 of the 5 % quantile of |dC/dW|", ""
    ),
    "gradient_log10_q50": Statistic(
        _of("gradient", log10_magnitude_quantile(0.50)), "log10 of the median of |dC/dW|", ""
    ),
    "gradient_log10_q95": Statistic(
        _of("gradient", log10_magnitude_quantile(0.95)),
        "log10 of the 95 % quantile of |dC/dW|",
        "",
    ),
    "gradient_zero_fraction": Statistic(
        _of("gradient", zero_fraction), "fraction of dC/dW that is exactly 0", ""
    ),
    "gradient_nonfinite_fraction": Statistic(
        _of("gradient", nonfinite_fraction), "fraction of dC/dW that is NaN or infinite", ""
    ),
    "signal_log10_rms": Statistic(
        _of("signal", log10_rms), "log10 sqrt(mean (dC/dz)^2) of single examples", _MEAN_FIELD
    ),
    "signal_log10_q05": Statistic(
        _of("signal", log10_magnitude_quantile(0.05)), "log10 of the 5 % quantile of |dC/dz|", ""
    ),
    "signal_log10_q50": Statistic(
        _of("signal", log10_magnitude_quantile(0.50)), "log10 of the median of |dC/dz|", ""
    ),
    "signal_log10_q95": Statistic(
        _of("signal", log10_magnitude_quantile(0.95)), "log10 of the 95 % quantile of |dC/dz|", ""
    ),
    "signal_zero_fraction": Statistic(
        _of("signal", zero_fraction), "fraction of dC/dz that is exactly 0", ""
    ),
    "signal_nonfinite_fraction": Statistic(
        _of("signal", nonfinite_fraction), "fraction of dC/dz that is NaN or infinite", ""
    ),
    "preactivation_mean": Statistic(_of("preactivation", mean), "mean z", _GLOROT),
    "preactivation_std": Statistic(
        _of("preactivation", standard_deviation), "standard deviation of z", _GLOROT
    ),
    "preactivation_log10_mean_square": Statistic(
        _of("preactivation", log10_mean_square), "log10 mean z^2, the length q", _MEAN_FIELD
    ),
    "activation_mean": Statistic(_of("activation", mean), "mean phi(z)", _GLOROT),
    "activation_std": Statistic(
        _of("activation", standard_deviation), "standard deviation of phi(z)", _GLOROT
    ),
    "activation_log10_mean_square": Statistic(
        _of("activation", log10_mean_square), "log10 mean phi(z)^2", "Hanin and Rolnick 2018"
    ),
    "activation_q02": Statistic(
        _of("activation", quantile(0.02)),
        "2 % quantile of phi(z)",
        "Glorot and Bengio 2010, fig. 3",
    ),
    "activation_q50": Statistic(_of("activation", quantile(0.50)), "median of phi(z)", _GLOROT),
    "activation_q98": Statistic(
        _of("activation", quantile(0.98)),
        "98 % quantile of phi(z)",
        "Glorot and Bengio 2010, fig. 3",
    ),
    "activation_nonfinite_fraction": Statistic(
        _of("activation", nonfinite_fraction), "fraction of phi(z) that is NaN or infinite", ""
    ),
    "saturated_fraction": Statistic(
        saturated_fraction,
        "fraction of (example, unit) pairs with |phi'| at most 1 % of its maximum from z outwards",
        "Glorot and Bengio 2010, section 3",
    ),
    "dead_fraction": Statistic(
        dead_fraction,
        "fraction of units saturated for every example of the minibatch",
        "Lu et al. 2020",
    ),
    "weight_log10_norm": Statistic(
        _of("weight", log10_norm), "log10 sqrt(sum W^2)", "Hanin and Rolnick 2018"
    ),
    "log10_update_ratio": Statistic(
        log10_update_ratio,
        "log10 norm(change of W in the step) / norm(W)",
        "the update-to-weight ratio of practice (Karpathy, CS231n); about -3 is usual",
    ),
}

PRESETS: dict[str, Sequence[str]] = {
    "cheap": [
        "gradient_log10_norm",
        "gradient_log10_rms",
        "gradient_nonfinite_fraction",
        "signal_log10_rms",
        "preactivation_log10_mean_square",
        "activation_mean",
        "activation_std",
        "weight_log10_norm",
        "log10_update_ratio",
    ],
    "standard": list(STATISTICS),
}


def measure(record: LayerRecord, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Compute the statistics `names` of one layer.

    Returns
    -------
    dict
        For every name one value a replica: float64 for logarithms (their relative error matters
        at 1e-5), float32 for the others.
    """
    with np.errstate(all="ignore"):  # NaN and infinity are data here
        values = {name: STATISTICS[name].compute(record) for name in names}
    return {
        name: value if "log10" in name else value.astype(np.float32)
        for name, value in values.items()
    }
