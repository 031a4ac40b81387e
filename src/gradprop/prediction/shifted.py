"""What theory expects of a cell at initialization whose kernels or biases have a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradprop import theory
from gradprop.components.architecture import is_plain
from gradprop.components.initializers import bias_moments, layer_shapes
from gradprop.prediction.networks import Prediction, layer_moments
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

# The part of a mean square that may be left to chance or to sums of signals, which theory does not
# follow: it moves what is predicted by 0.04 decades at most.
NEGLIGIBLE = 0.1


def has_mean(cell: Cell) -> bool:
    """Tell whether all kernels have a distribution, and some, or biases, a mean that is not 0."""
    moments = layer_moments(cell, [(cell.width, cell.width)] * (cell.depth + 1))
    biased = bias_moments(cell, cell.width)[0] != 0
    return moments is not None and (biased or any(mean for mean, _ in moments))


def predict_shifted(
    cell: Cell, inputs: int, outputs: int, examples: Float64, output_sum: float
) -> Prediction | None:
    """Predict lengths and signals where kernels or biases have a mean (`theory.shifted_profile`).

    The mean of pre-activations depends on the sum of an example's inputs: mean squares are averaged
    over examples, as in the measurement.

    Parameters
    ----------
    cell
        Its initializer, activation, depth, widths and biases count.
    inputs, outputs
        Features of an example and units of the output layer.
    examples
        Mean and mean square of the entries of examples, (examples, 2).
    output_sum
        Of the loss, as `theory.shifted_profile` takes it; 1 if it is not known.

    Returns
    -------
    Prediction or None
        At infinite width, without standard deviations, and without weight gradients. A length is
        NaN where the wandering of the mean from network to network is more than `NEGLIGIBLE` of
        it; a signal where sums of signals make up more than that of it, or of that of the last
        hidden layer. None without a mean, for normalization and residual connections, for tied
        kernels and for those without a distribution.
    """
    shapes = layer_shapes(inputs, cell, outputs)
    known = layer_moments(cell, shapes)
    others = cell.tied or cell.dropout or not is_plain(cell)
    if known is None or others or not has_mean(cell):
        return None
    biases = [bias_moments(cell, fan_in) for fan_in, _ in shapes]
    profiles = [
        theory.shifted_profile(
            cell.activation,
            [inputs, *(fan_out for _, fan_out in shapes)],
            [fan_in * variance for (fan_in, _), (_, variance) in zip(shapes, known, strict=True)],
            [mean for mean, _ in known],
            [variance for _, variance in biases],
            [mean for mean, _ in biases],
            float(mean),
            float(square),
            output_sum,
        )
        for mean, square in examples
    ]
    unknown = np.full(len(shapes), np.nan)
    length, signal = _length(profiles), _signal(profiles, max(cell.depth - 1, 0))
    if np.isnan(length[: cell.depth]).any():
        signal = unknown
    return Prediction(length, unknown, signal, unknown, unknown, unknown, unknown)


def _length(profiles: Sequence[theory.ShiftedProfile]) -> Float64:
    """Return log10 of the mean square over examples; NaN where it is left to chance."""
    squares = np.mean([found.q for found in profiles], axis=0)
    wander = np.mean([found.wander for found in profiles], axis=0)
    certain = (squares > 0) & (wander <= NEGLIGIBLE * squares)
    return np.log10(squares, where=certain, out=np.full(len(squares), np.nan))


def _signal(profiles: Sequence[theory.ShiftedProfile], reference: int) -> Float64:
    """Return log10 of the RMS relative to that of layer `reference`; NaN where sums carry it."""
    logs = np.array([found.log_delta for found in profiles])
    largest = logs.max(axis=0)
    squares = np.exp(logs - largest)
    shares = np.array([found.sum_share for found in profiles])
    carried = (squares * shares).sum(axis=0) / squares.sum(axis=0)
    mean = largest + np.log(squares.mean(axis=0))
    known = carried <= NEGLIGIBLE
    decades = (mean - mean[reference]) / (2 * math.log(10))
    return np.where(known & known[reference], decades, np.nan)
