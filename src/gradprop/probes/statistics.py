r"""What a probe measures: each statistic a small named function with formula and source.

A statistic maps a `LayerRecord` (one layer, all replicas) to one float64 per replica. All
arithmetic is in float64 on the float32 values of the network: a float32 sum of squares would
return exactly 0 at magnitudes of 1e-20 and infinity at 1e19, the range this package is about.
True zeros give ``-inf`` as a log10 and are counted; NaN and infinity are counted and make the
other statistics of that replica NaN or infinite.

A statistic of a `Sample` takes the entries (replicas, entries) and returns (replicas,); ranges in
the docstrings are those of finite entries. Magnitudes lie between float32's smallest, 10^-44.9, and
its largest, 10^38.6, times the constant factor of the sample. Sources are those in `STATISTICS`.

Every reduction runs over one contiguous row per replica, so that a replica's numbers do not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components import activations
from gradprop.components.registry import Entry, Registry
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

# Most entries of a layer whose quantiles are exact.
QUANTILE_SAMPLE = 512
# Most entries of a row that are summed at once.
BLOCK = 4096
# A variance below this part of the squared mean is computed in two passes; above, at most four of
# float64's sixteen digits cancel.
CANCELLATION = 1e-4
# Attributes of `LayerRecord` that are only there if a statistic needs them.
NEEDS = ("start", "minibatches")
# Minibatches besides the step's own that gradients are compared over.
MINIBATCHES = 4


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
    def _sums(self) -> tuple[Float64, Float64]:
        """Sums of the stored values and of their squares, in one pass."""
        pairs = [
            (np.vecdot(block, _ones(block.shape[1])), _squares(block))
            for block in _blocks(self.values)
        ]
        total, squares = (reduce(np.add, parts) for parts in zip(*pairs, strict=True))
        return total, squares

    @property
    def mean(self) -> Float64:
        """Arithmetic mean."""
        return self.scale * self._sums[0] / self.size

    @property
    def mean_square(self) -> Float64:
        """Mean of squares."""
        return self.scale**2 * self._sums[1] / self.size

    @cached_property
    def variance(self) -> Float64:
        """Mean squared deviation from the mean.

        The difference of mean square and squared mean, unless it is so small a part of them that
        digits would cancel: then the deviations are squared in a second pass.
        """
        mean = self._sums[0] / self.size
        variance = self._sums[1] / self.size - mean**2
        cancelled = variance < CANCELLATION * mean**2
        if cancelled.any():
            deviations = _blocks(self.values[cancelled], mean[cancelled, None])
            variance[cancelled] = reduce(np.add, map(_squares, deviations)) / self.size
        return self.scale**2 * variance

    @cached_property
    def fourth_moment(self) -> Float64:
        """Mean fourth power of the deviation from the mean; float64 holds that of any float32."""
        deviations = _blocks(self.values, (self.mean / self.scale)[:, None])
        squares = (np.square(block, out=block) for block in deviations)
        return self.scale**4 * reduce(np.add, map(_squares, squares)) / self.size

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Whether all entries are equal; a variance can miss 0 by the rounding of the mean."""
        return np.asarray((self.values == self.values[:, :1]).all(axis=1))

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
        return np.take(self.values, quantile_entries(self.size), axis=1)

    def quantile(self, probability: float) -> Float64:
        """Quantile of the values, linear interpolation (type 7 of Hyndman and Fan 1996).

        Of more than `QUANTILE_SAMPLE` entries, those of `quantile_entries` are taken; NaN if any
        entry is.
        """
        return self._unless_nan(_quantile(self._sorted, probability))

    def magnitude_quantile(self, probability: float) -> Float64:
        """Quantile of the absolute values, of the same entries as `quantile`."""
        return self._unless_nan(_quantile(self._sorted_magnitudes, probability))

    def _unless_nan(self, values: Float64) -> Float64:
        # The mean square is NaN where an entry is, in the sample or not.
        return np.where(np.isnan(self.mean_square), np.nan, self.scale * values)

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


def _squares(block: Float64) -> Float64:
    return np.vecdot(block, block)


@lru_cache
def _ones(columns: int) -> Float64:
    return np.ones(columns)


def _sum_over_blocks(function: Callable[..., Float64], samples: Sequence[Sample]) -> Float64:
    """Sum an element-wise function of samples of one size over their rows, in float64."""
    starts = range(0, samples[0].size, BLOCK)
    sums = (
        function(*(s.values[:, i : i + BLOCK].astype(np.float64) for s in samples)).sum(axis=1)
        for i in starts
    )
    return reduce(np.add, sums)


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
    bias_gradient
        dC/db of the minibatch loss, (replicas, 1, units); None without biases.
    start
        W at step 0; None unless a statistic needs it.
    minibatches
        dC/dW at the same W of `MINIBATCHES` other minibatches, drawn independently of each other;
        empty unless a statistic needs them.
    """

    gradient: Sample
    signal: Sample
    preactivation: Sample
    activation: Sample
    weight: Sample
    update: Sample
    function: str
    units: int
    bias_gradient: Sample | None = None
    start: Sample | None = None
    minibatches: Sequence[Sample] = ()

    @cached_property
    def saturated(self) -> NDArray[np.bool_]:
        """Where |phi'| is and stays at most 1 % of its maximum, (replicas, batch * units)."""
        low, high = activations.get(self.function).saturation
        z = self.preactivation.values
        saturated = np.zeros(z.shape, dtype=bool)
        if np.isfinite(low):  # an infinite bound is none, for infinite z too
            saturated |= z <= np.float32(low)
        if np.isfinite(high):
            saturated |= z >= np.float32(high)
        return saturated


def _log10(values: Float64) -> Float64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values)


@dataclass(frozen=True, kw_only=True)
class Statistic(Entry):
    """A column of the ``layers`` table; its definition is a formula.

    Attributes
    ----------
    compute
        From a layer's record to one number per replica.
    needs
        Which of `NEEDS` it reads, if any.
    """

    compute: Callable[[LayerRecord], Float64]
    needs: str = ""


def _of(quantity: str, measure: Callable[[Sample], Float64]) -> Callable[[LayerRecord], Float64]:
    return lambda record: measure(getattr(record, quantity))


def _of_biases(measure: Callable[[Sample], Float64]) -> Callable[[LayerRecord], Float64]:
    """Return a statistic of dC/db; NaN of layers without biases."""

    def compute(record: LayerRecord) -> Float64:
        if record.bias_gradient is None:
            return np.full(len(record.weight.values), np.nan)
        return measure(record.bias_gradient)

    return compute


def log10_norm(sample: Sample) -> Float64:
    """Return log10 of the Euclidean norm, sqrt(sum x^2).

    At least that of the largest magnitude, at most that plus log10 sqrt(entries); ``-inf`` if all
    entries are 0.
    """
    return 0.5 * _log10(sample.mean_square * sample.size)


def log10_rms(sample: Sample) -> Float64:
    """Return log10 of the root mean square, sqrt(mean x^2).

    At most that of the largest magnitude; ``-inf`` if all entries are 0.
    """
    return 0.5 * _log10(sample.mean_square)


def log10_mean_square(sample: Sample) -> Float64:
    """Return log10 of the mean square, mean x^2: twice `log10_rms`."""
    return _log10(sample.mean_square)


def mean(sample: Sample) -> Float64:
    """Return the arithmetic mean, between the smallest and the largest entry."""
    return sample.mean


def standard_deviation(sample: Sample) -> Float64:
    """Return the standard deviation, sqrt(mean (x - mean x)^2), at least 0."""
    return np.sqrt(sample.variance)


def kurtosis(sample: Sample) -> Float64:
    """Return the kurtosis, mean (x - mean x)^4 / (mean (x - mean x)^2)^2.

    At least 1 and at most the number of entries; 3 for a normal distribution (it is not the
    excess). NaN where all entries are equal or one is not finite.
    """
    return np.where(sample.is_constant, np.nan, sample.fourth_moment / sample.variance**2)


def zero_fraction(sample: Sample) -> Float64:
    """Return the fraction of entries that are exactly 0, in [0, 1]."""
    return sample.zero_fraction


def nonfinite_fraction(sample: Sample) -> Float64:
    """Return the fraction of entries that are NaN or infinite, in [0, 1]."""
    return sample.nonfinite_fraction


def quantile(probability: float) -> Callable[[Sample], Float64]:
    """Return the statistic 'quantile of the values at `probability`', in [0, 1].

    It lies between the smallest and the largest entry; `Sample.quantile` defines it.
    """
    return lambda sample: sample.quantile(probability)


def log10_magnitude_quantile(probability: float) -> Callable[[Sample], Float64]:
    """Return the statistic 'log10 of the quantile of |x| at `probability`', in [0, 1].

    At most that of the largest magnitude; ``-inf`` where the quantile is 0.
    """
    return lambda sample: _log10(sample.magnitude_quantile(probability))


def saturated_fraction(record: LayerRecord) -> Float64:
    """Return the fraction, in [0, 1], of (example, unit) pairs in the flat tails of phi.

    There |phi'| is at most 1 % of its maximum from z outwards (the slope of gelu and swish is
    also small in a short interval around their minimum, which does not count).
    """
    return record.activation.fraction(record.saturated)


def dead_fraction(record: LayerRecord) -> Float64:
    """Return the fraction of units, in [0, 1], that every example of the minibatch saturates."""
    shape = (len(record.saturated), -1, record.units)
    return record.saturated.reshape(shape).all(axis=1).mean(axis=1)


def log10_update_ratio(record: LayerRecord) -> Float64:
    """Return log10 of the update-to-weight ratio, norm(change of W) / norm(W).

    ``-inf`` without a change, ``inf`` if W is 0, NaN for both.
    """
    with np.errstate(invalid="ignore"):
        return log10_norm(record.update) - log10_norm(record.weight)


def _correlation(quantity: str) -> Callable[[LayerRecord], Float64]:
    """Return the statistic 'correlation of a pair of inputs' of pre-activations or activations."""
    return lambda record: correlation(getattr(record, quantity), record.units)


def correlation(sample: Sample, units: int) -> Float64:
    """Return c of mean-field theory, averaged over the pairs of examples (0, 1), (2, 3), ...

    c of examples a and b is sum z_a z_b / sqrt(sum z_a^2 sum z_b^2) over the units of a layer, in
    [-1, 1]; the mean is not subtracted. The last of an odd number of examples has no pair. A pair
    with an example that is zero in all units has no c and is left out of the average; NaN where
    no pair has one or an entry of a pair is not finite.
    """
    z = sample.values.reshape(len(sample.values), -1, units)
    pairs = z.shape[1] // 2
    a, b = (z[:, first : 2 * pairs : 2].astype(np.float64) for first in (0, 1))
    product, square_a, square_b = ((x * y).sum(axis=2) for x, y in ((a, b), (a, a), (b, b)))
    defined = square_a * square_b != 0  # true for NaN, which must not be left out
    c = np.where(defined, product / np.sqrt(square_a * square_b), 0)
    return c.sum(axis=1) / np.count_nonzero(defined, axis=1)


def weight_gradient_log10_product(record: LayerRecord) -> Float64:
    """Return log10 of |sum W dC/dW|, over the entries of a kernel.

    By Euler's theorem on homogeneous functions it is the same in all layers of a network without
    biases whose activation function is homogeneous (linear, relu, leaky_relu): each kernel
    scales the outputs, and the loss does not know which one did. ``-inf`` where the sum is 0.
    """
    return _log10(np.abs(_sum_over_blocks(np.multiply, (record.weight, record.gradient))))


def log10_distance_from_start(record: LayerRecord) -> Float64:
    """Return log10 of norm(W - W_0) / norm(W_0), W_0 the weights of step 0.

    ``-inf`` while the weights are those of the start. Weights that start at 0 have no relative
    distance: NaN until they move and ``inf`` from then on.
    """
    assert record.start is not None
    samples = (record.weight, record.start)
    moved = _sum_over_blocks(lambda now, start: np.square(now - start), samples)
    return 0.5 * _log10(moved) - log10_norm(record.start)


def gradient_cosine(record: LayerRecord) -> Float64:
    """Return the cosine of dC/dW of two successive minibatches at the same weights.

    The one is the minibatch of the step, the other the first of the record's other minibatches:
    sum g h / sqrt(sum g^2 sum h^2), in [-1, 1]. NaN where a gradient is 0 or not finite.
    """
    one, other = record.gradient, record.minibatches[0]
    product = _sum_over_blocks(np.multiply, (one, other))
    return product / np.sqrt(one.mean_square * other.mean_square * one.size**2)


def gradient_log10_snr(record: LayerRecord) -> Float64:
    """Return log10 of the signal-to-noise ratio of dC/dW over minibatches, norm(E g) / sqrt(V).

    V is the trace of the covariance of the gradient g of one minibatch. Both are estimated from
    the record's K other minibatches with mean m: V by S = sum_k |g_k - m|^2 / (K - 1) and
    norm(E g)^2 by |m|^2 - S / K, without bias. An estimate of at most 0, a signal lost in the
    noise, gives ``-inf``; gradients without noise give ``inf``, none at all NaN.
    """
    count = len(record.minibatches)
    noise = _sum_over_blocks(_squared_deviations, record.minibatches) / (count - 1)
    signal = _sum_over_blocks(_squared_mean, record.minibatches) - noise / count
    return 0.5 * (_log10(np.maximum(signal, 0)) - _log10(noise))


def _squared_mean(*values: Float64) -> Float64:
    return np.square(reduce(np.add, values) / len(values))


def _squared_deviations(*values: Float64) -> Float64:
    mean = reduce(np.add, values) / len(values)
    return reduce(np.add, [np.square(value - mean) for value in values])


_DEFINITION = "definition"
_QUANTILE = "definition (quantiles of type 7, Hyndman and Fan 1996)"
_GRADIENT = "Glorot and Bengio 2010, eq. 7 and fig. 8"
_ACTIVATION = "Glorot and Bengio 2010, eq. 8 and figures 2 and 6"
_CORRELATION = "Poole et al. 2016 and Schoenholz et al. 2017: c of the correlation map"

STATISTICS = Registry(
    {
        "gradient_log10_norm": Statistic(
            compute=_of("gradient", log10_norm),
            definition="log10 sqrt(sum (dC/dW)^2)",
            source="Schoenholz et al. 2017, norms of the gradient by layer",
        ),
        "gradient_log10_rms": Statistic(
            compute=_of("gradient", log10_rms),
            definition="log10 sqrt(mean (dC/dW)^2)",
            source=_GRADIENT,
        ),
        "gradient_mean": Statistic(
            compute=_of("gradient", mean), definition="mean dC/dW", source=_GRADIENT
        ),
        "gradient_std": Statistic(
            compute=_of("gradient", standard_deviation),
            definition="standard deviation of dC/dW",
            source="Glorot and Bengio 2010, eq. 7 and fig. 9",
        ),
        "gradient_kurtosis": Statistic(
            compute=_of("gradient", kurtosis),
            definition="mean (x - mean x)^4 / variance^2 of x = dC/dW: 3 for a normal "
            "distribution, at least 1; NaN without variance",
            source="Pearson 1905 (beta_2)",
        ),
        "gradient_log10_q05": Statistic(
            compute=_of("gradient", log10_magnitude_quantile(0.05)),
            definition="log10 of the 5 % quantile of |dC/dW|",
            source=_QUANTILE,
        ),
        "gradient_log10_q50": Statistic(
            compute=_of("gradient", log10_magnitude_quantile(0.50)),
            definition="log10 of the median of |dC/dW|",
            source=_QUANTILE,
        ),
        "gradient_log10_q95": Statistic(
            compute=_of("gradient", log10_magnitude_quantile(0.95)),
            definition="log10 of the 95 % quantile of |dC/dW|",
            source=_QUANTILE,
        ),
        "gradient_zero_fraction": Statistic(
            compute=_of("gradient", zero_fraction),
            definition="fraction of dC/dW that is exactly 0",
            source=_DEFINITION,
        ),
        "gradient_nonfinite_fraction": Statistic(
            compute=_of("gradient", nonfinite_fraction),
            definition="fraction of dC/dW that is NaN or infinite",
            source=_DEFINITION,
        ),
        "gradient_cosine": Statistic(
            compute=gradient_cosine,
            definition="cosine of dC/dW of two successive minibatches at the same weights (the "
            "step's and an independent one), in [-1, 1]",
            source="Sankararaman et al. 2020 (gradient confusion); Fort et al. 2019 (stiffness)",
            needs="minibatches",
        ),
        "gradient_log10_snr": Statistic(
            compute=gradient_log10_snr,
            definition="log10 norm(E g) / sqrt(trace of Cov g), g = dC/dW of a minibatch, from "
            f"unbiased estimates of both squares over {MINIBATCHES} independent minibatches; -inf "
            "if that of norm(E g)^2 is at most 0",
            source="Shwartz-Ziv and Tishby 2017; estimates as in McCandlish et al. 2018, "
            "appendix A",
            needs="minibatches",
        ),
        "signal_log10_rms": Statistic(
            compute=_of("signal", log10_rms),
            definition="log10 sqrt(mean (dC/dz)^2) of single examples",
            source="Glorot and Bengio 2010, eq. 6 and fig. 7; Schoenholz et al. 2017: its mean "
            "square is multiplied by chi_1 per layer",
        ),
        "signal_log10_q05": Statistic(
            compute=_of("signal", log10_magnitude_quantile(0.05)),
            definition="log10 of the 5 % quantile of |dC/dz|",
            source=_QUANTILE,
        ),
        "signal_log10_q50": Statistic(
            compute=_of("signal", log10_magnitude_quantile(0.50)),
            definition="log10 of the median of |dC/dz|",
            source=_QUANTILE,
        ),
        "signal_log10_q95": Statistic(
            compute=_of("signal", log10_magnitude_quantile(0.95)),
            definition="log10 of the 95 % quantile of |dC/dz|",
            source=_QUANTILE,
        ),
        "signal_zero_fraction": Statistic(
            compute=_of("signal", zero_fraction),
            definition="fraction of dC/dz that is exactly 0",
            source=_DEFINITION,
        ),
        "signal_nonfinite_fraction": Statistic(
            compute=_of("signal", nonfinite_fraction),
            definition="fraction of dC/dz that is NaN or infinite",
            source=_DEFINITION,
        ),
        "preactivation_mean": Statistic(
            compute=_of("preactivation", mean), definition="mean z", source=_DEFINITION
        ),
        "preactivation_std": Statistic(
            compute=_of("preactivation", standard_deviation),
            definition="standard deviation of z",
            source="He et al. 2015, section 2.2: the root of Var[y_l]",
        ),
        "preactivation_log10_mean_square": Statistic(
            compute=_of("preactivation", log10_mean_square),
            definition="log10 mean z^2, the length q",
            source="Poole et al. 2016 and Schoenholz et al. 2017: q of the length map",
        ),
        "preactivation_correlation": Statistic(
            compute=_correlation("preactivation"),
            definition="mean c of examples (0, 1), (2, 3), ... of the minibatch, c = sum z_a z_b / "
            "sqrt(sum z_a^2 sum z_b^2), in [-1, 1]; pairs with a vector of 0 are left out",
            source=_CORRELATION,
        ),
        "activation_mean": Statistic(
            compute=_of("activation", mean), definition="mean phi(z)", source=_ACTIVATION
        ),
        "activation_std": Statistic(
            compute=_of("activation", standard_deviation),
            definition="standard deviation of phi(z)",
            source=_ACTIVATION,
        ),
        "activation_log10_mean_square": Statistic(
            compute=_of("activation", log10_mean_square),
            definition="log10 mean phi(z)^2",
            source="Hanin and Rolnick 2018: M_d, the normalized length of layer d",
        ),
        "activation_correlation": Statistic(
            compute=_correlation("activation"),
            definition="mean c of examples (0, 1), (2, 3), ... of the minibatch, h = phi(z), c = "
            "sum h_a h_b / sqrt(sum h_a^2 sum h_b^2), in [-1, 1]; pairs with a vector of 0 are "
            "left out",
            source=_CORRELATION,
        ),
        "activation_q02": Statistic(
            compute=_of("activation", quantile(0.02)),
            definition="2 % quantile of phi(z)",
            source="Glorot and Bengio 2010, fig. 3",
        ),
        "activation_q50": Statistic(
            compute=_of("activation", quantile(0.50)),
            definition="median of phi(z)",
            source=_ACTIVATION,
        ),
        "activation_q98": Statistic(
            compute=_of("activation", quantile(0.98)),
            definition="98 % quantile of phi(z)",
            source="Glorot and Bengio 2010, fig. 3",
        ),
        "activation_nonfinite_fraction": Statistic(
            compute=_of("activation", nonfinite_fraction),
            definition="fraction of phi(z) that is NaN or infinite",
            source=_DEFINITION,
        ),
        "saturated_fraction": Statistic(
            compute=saturated_fraction,
            definition="fraction of (example, unit) pairs with |phi'| at most 1 % of its maximum "
            "from z outwards",
            source="Glorot and Bengio 2010, section 3",
        ),
        "dead_fraction": Statistic(
            compute=dead_fraction,
            definition="fraction of units saturated for every example of the minibatch",
            source="Lu et al. 2020, 'Dying ReLU and initialization'; here of a minibatch",
        ),
        "weight_log10_norm": Statistic(
            compute=_of("weight", log10_norm), definition="log10 sqrt(sum W^2)", source=_DEFINITION
        ),
        "log10_update_ratio": Statistic(
            compute=log10_update_ratio,
            definition="log10 norm(change of W in the step) / norm(W)",
            source="the update-to-weight ratio of practice (Karpathy, CS231n); about -3 is usual",
        ),
        "weight_gradient_log10_product": Statistic(
            compute=weight_gradient_log10_product,
            definition="log10 |sum W dC/dW|: the same in all layers of networks without biases "
            "whose activation is homogeneous",
            source="Euler's theorem on homogeneous functions; Du, Hu and Lee 2018",
        ),
        "log10_distance_from_start": Statistic(
            compute=log10_distance_from_start,
            definition="log10 norm(W - W_0) / norm(W_0), W_0 the weights of step 0: -inf until "
            "they move; NaN, then inf, where W_0 = 0",
            source="Chizat et al. 2019; Nagarajan and Kolter 2019",
            needs="start",
        ),
        "bias_gradient_log10_norm": Statistic(
            compute=_of_biases(log10_norm),
            definition="log10 sqrt(sum (dC/db)^2); NaN without biases",
            source=_DEFINITION,
        ),
        "bias_gradient_log10_rms": Statistic(
            compute=_of_biases(log10_rms),
            definition="log10 sqrt(mean (dC/db)^2), of the sum of dC/dz over the minibatch; NaN "
            "without biases",
            source=_DEFINITION,
        ),
        "bias_gradient_zero_fraction": Statistic(
            compute=_of_biases(zero_fraction),
            definition="fraction of dC/db that is exactly 0; NaN without biases",
            source=_DEFINITION,
        ),
        "bias_gradient_nonfinite_fraction": Statistic(
            compute=_of_biases(nonfinite_fraction),
            definition="fraction of dC/db that is NaN or infinite; NaN without biases",
            source=_DEFINITION,
        ),
    }
)

# What takes extra memory, extra gradients or another pass: only `full` has it.
_ONLY_FULL = (
    "gradient_kurtosis",
    "gradient_cosine",
    "gradient_log10_snr",
    "preactivation_correlation",
    "activation_correlation",
    "weight_gradient_log10_product",
    "log10_distance_from_start",
    "bias_gradient_log10_norm",
    "bias_gradient_log10_rms",
    "bias_gradient_zero_fraction",
    "bias_gradient_nonfinite_fraction",
)

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
    "standard": [name for name in STATISTICS if name not in _ONLY_FULL],
    "full": list(STATISTICS),
}

# The norm of all gradients in the table of steps and the status of a cell are made from these.
ALWAYS = ("gradient_log10_norm", "signal_log10_rms", "preactivation_log10_mean_square")


def canonical(chosen: str | Sequence[str]) -> str:
    """Return the one text for a choice of statistics, which is part of a cell's identity.

    Parameters
    ----------
    chosen
        Name of a preset, or names of statistics and presets; the order does not matter, and
        `ALWAYS` are added.

    Returns
    -------
    str
        Names, joined by commas: a preset's, where one has the same statistics of the package, or
        theirs in the order of `STATISTICS`; then own ones in the order of the alphabet.
    """
    if isinstance(chosen, str):
        return chosen
    names = {*ALWAYS, *chain(*(PRESETS.get(name, [name]) for name in chosen))}
    own = sorted(name for name in names if STATISTICS[name].code)
    shipped = [name for name in STATISTICS if name in names.difference(own)]
    same = [preset for preset, members in PRESETS.items() if set(members) == set(shipped)]
    return ",".join([*(same[:1] or shipped), *own])


def recorded(statistics: str) -> list[str]:
    """Return the names that a `canonical` choice of statistics stands for."""
    return list(chain(*(PRESETS.get(name, [name]) for name in statistics.split(","))))


def conflict(cell: Cell) -> str | None:
    """Return what is wrong with the statistics of this cell, as ``key: reason``."""
    if cell.network.name == "none":
        return None
    names = recorded(cell.statistics)
    lacking = [name for name in names if STATISTICS[name].needs == "minibatches"]
    if not lacking:
        return None
    return (
        f"statistics: {', '.join(lacking)}: needs gradients of other minibatches at the same "
        "weights, which networks of network.py have not; allowed: others"
    )


def own(statistics: str) -> list[str]:
    """Return the names of the own ones in a `canonical` choice of statistics."""
    return [n for n in statistics.split(",") if n in STATISTICS and STATISTICS[n].code]


def measure(record: LayerRecord, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Compute the statistics `names` of one layer.

    Returns
    -------
    dict
        For every name one value per replica: float64 for logarithms (their relative error matters
        at 1e-5), float32 for the others.
    """
    with np.errstate(all="ignore"):  # NaN and infinity are data here
        values = {name: STATISTICS[name].compute(record) for name in names}
    return {
        name: value if "log10" in name else value.astype(np.float32)
        for name, value in values.items()
    }
