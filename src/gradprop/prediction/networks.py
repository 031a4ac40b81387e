"""What theory expects of a cell at initialization: lengths and back-propagated signals by layer.

The moments of a cell's own initializer, fan-in and fan-out of every layer taken exactly, go
through the length map (Poole et al. 2016) and back through ``Var(W) fan_out E[phi'(z)**2]``
(Schoenholz et al. 2017). Nothing measured enters.

A width of 64 is not infinite: the logarithm of a length is a random walk over the layers whose
drift and spread grow with the sum of reciprocal widths (Hanin and Nica 2020). What is predicted is
therefore mean and standard deviation of the *logarithm*, which is what a median over networks
shows, and not the logarithm of the expectation, which rare networks dominate.

Logarithms are natural inside this module and decimal in what it returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradprop import theory
from gradprop.components import activations
from gradprop.components.activations import ActivationLike
from gradprop.components.architecture import RESIDUALS, is_plain
from gradprop.components.initializers import (
    INITIALIZERS,
    Layer,
    bias_moments,
    initializer_of,
    layer_shapes,
)
from gradprop.components.integrals import exp_or_inf
from gradprop.prediction import minibatch
from gradprop.spec import Cell, Component

Float64 = NDArray[np.float64]
Shape = tuple[int, int]

# Beyond exp(±60) the logarithm of a moment is continued as a straight line: its fourth power
# would leave float64, and activation functions are power laws there.
LOG_RANGE = 60.0
# Layers that share one kernel are followed while depth^2 is at most this times the width.
TIED_SQUARES = 2.0
LARGEST_NOISE = 1.0  # of ln q, from one layer: beyond, the next order in 1/width is larger
MEMBERS = "function", "derivative"  # of an activation, by their order
EPSILON = np.finfo(np.float64).eps  # a smaller part of a sum is lost in it
# Nodes and weights of the three-point Gauss-Hermite rule for a standard normal variable.
NODES = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0])
WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0


def weight_moments(
    initializer: Component, shape: Shape, activation: ActivationLike
) -> tuple[float, float] | None:
    """Return mean and variance of an entry of a kernel.

    Parameters
    ----------
    initializer
        A component of `gradprop.components.initializers.INITIALIZERS`.
    shape
        (fan_in, fan_out) of the kernel.
    activation
        Activation function of the hidden layers.

    Returns
    -------
    tuple or None
        Dimensionless; None if the kernel is not random or scaled to data.
    """
    entry = INITIALIZERS[initializer.name]
    if entry.variance is None:
        return None
    layer, parameters = Layer(*shape, activation), INITIALIZERS.parameters_of(initializer)
    mean = entry.mean(layer, **parameters) if entry.mean else 0.0
    return float(mean), float(entry.variance(layer, **parameters))


def layer_moments(cell: Cell, shapes: Sequence[Shape]) -> list[tuple[float, float]] | None:
    """Return `weight_moments` of layers 1 … of these shapes; None if a layer has none."""
    found = [
        weight_moments(initializer_of(cell, layer), shape, cell.activation)
        for layer, shape in enumerate(shapes, start=1)
    ]
    known = [moments for moments in found if moments]
    return known if len(known) == len(found) else None


def layer_variances(cell: Cell, shapes: Sequence[Shape]) -> list[float] | None:
    """Return the variances of kernels of mean 0 and these shapes; None if a layer has none."""
    moments = layer_moments(cell, shapes)
    if moments is None or any(mean or not variance for mean, variance in moments):
        return None
    return [variance for _, variance in moments]


def weight_variance(
    initializer: Component, shape: Shape, activation: ActivationLike
) -> float | None:
    """Return the variance of an entry of a kernel of mean 0; None for others.

    Parameters and units are those of `weight_moments`.
    """
    moments = weight_moments(initializer, shape, activation)
    return moments[1] if moments and moments[0] == 0 else None


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation over networks, layers 1 … depth + 1, in decades.

    Attributes
    ----------
    length, length_sd
        Of log10 of the mean square of pre-activations, shape (depth + 1,).
    signal, signal_sd
        Of log10 of the RMS of dC/dz relative to that of the last hidden layer, where both are
        0, shape (depth + 1,).
    gradient, gradient_sd
        The same of dC/dW of a minibatch.
    lift
        What of `signal` and `gradient` is due to the mean over a minibatch: how far it lies above
        a single example, shape (depth + 1,).
    """

    length: Float64
    length_sd: Float64
    signal: Float64
    signal_sd: Float64
    gradient: Float64
    gradient_sd: Float64
    lift: Float64


@dataclass(frozen=True)
class _Lengths:
    """Law of ``y_l = ln q_l``: mean, variance, and ``slope_l = d y_{l+1} / d y_l``."""

    mean: Float64
    variance: Float64
    slope: Float64


def predict(
    cell: Cell,
    inputs: int,
    outputs: int,
    input_mean_square: float = 1.0,
    alike: minibatch.Likeness | None = None,
) -> Prediction | None:
    """Predict lengths, back-propagated signals and weight gradients of a cell at initialization.

    Forward, ``q_1 = fan_in Var(W_1) E[x^2] + Var(b_1)``,
    ``q_{l+1} = fan_in Var(W_{l+1}) M_l + Var(b_{l+1})`` with ``M_l = mean phi(z_l)^2``; backward,
    ``D_l = Var(W_{l+1}) fan_out_{l+1} E[phi'(z_l)^2] D_{l+1}`` for the mean square ``D_l`` of
    dC/dz. At width ``n_l`` the logarithms of ``M_l`` and ``D_l`` get a drift ``-r / (2 n_l)`` and
    a variance ``r / n_l`` a layer, with ``r = E[phi^4] / E[phi^2]^2 - 1`` forward and
    ``r = 3 E[phi'^4] / E[phi'^2]^2 - 1`` backward; of homogeneous functions the exact law is
    taken. Dropout divides ``M_l``, ``E[phi'(z_l)^2]`` and both ratios of fourth moments by the
    probability of being kept, and is treated to leading order in 1/width. The mean
    square of dC/dW_l is ``D_l M_(l-1)`` times the agreement of the minibatch's
    examples (`gradprop.prediction.minibatch`). Spread of ``q_l`` reaches all later layers through
    the slope of the length map, and the signal through ``E[phi'(z_l)^2]``.

    Parameters
    ----------
    cell
        Its initializers, activation, depth, widths and biases count; the seed does not.
    inputs, outputs
        Features of an example and units of the output layer.
    input_mean_square
        ``E[x^2]`` of an entry of an example.
    alike
        How alike the examples of a minibatch are. Without it, weight gradients are NaN, and
        signals those of a single example.

    Returns
    -------
    Prediction or None
        None if kernels are not random, have no variance or are scaled to data, if they or biases
        have a mean (`gradprop.prediction.shifted`), for networks with normalization or residual
        connections, for tied kernels with dropout, and where the logarithm of a length scatters so
        much that its expansion in 1/width says nothing (exponential, above a length of about
        ln(width) / 4).

    Notes
    -----
    Lengths are those of a single example; signals, too, without `alike`. Their mean square over a
    minibatch spreads less, and is larger where examples have lost their likeness, as in networks
    with ``chi_1 > 1``: the few with the largest signals make it up
    (`gradprop.prediction.minibatch`). Left out are the correlation, within a layer, of
    ``phi(z)^2`` with ``phi'(z)^2``, and what the spread of lengths between examples does to
    signals. Orthogonal kernels keep norms, which lowers ``r`` (`_spread`).

    Tied kernels follow the same maps at infinite width: a matrix of independent entries, or an
    orthogonal one, does to a new vector what another one would do (gradient independence, Yang
    2019, holds because signals come from an output layer of its own). Powers of one matrix part
    with that law where depth^2 is not small against the width (`TIED_SQUARES`), and scatter more:
    there are no standard deviations.

    References
    ----------
    Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; He et al. 2015,
    arXiv:1502.01852; Hanin and Nica 2020, arXiv:1812.05994; Roberts, Yaida and Hanin 2022,
    arXiv:2106.10165 (leading order in depth over width); Yang 2019, arXiv:1902.04760 (tied).
    """
    if not is_plain(cell) or too_deep_to_tie(cell) or (cell.tied and cell.dropout):
        return None
    shapes = layer_shapes(inputs, cell, outputs)
    known = layer_variances(cell, shapes)
    if known is None or not input_mean_square > 0:
        return None
    gains = [fan_in * variance for (fan_in, _), variance in zip(shapes, known, strict=True)]
    biases = [bias_moments(cell, fan_in) for fan_in, _ in shapes]
    if any(mean for mean, _ in biases):
        return None
    noises = [variance for _, variance in biases]
    lengths = _forward(cell, shapes, gains, noises, input_mean_square)
    if lengths is None:
        return None
    length, length_variance = _measured_length(cell, shapes, lengths)
    if cell.loss == "mean_squared_error":
        # The errors contain the outputs, which go back through the weights they came by.
        alike = None
    shares = _shares(noises, lengths)
    signal, signal_variance = _backward(cell, shapes, known, lengths)
    lift = np.zeros(len(shapes))
    if alike is not None:
        lift, variance = _minibatch_signal(cell, shapes, lengths, shares, alike)
        signal, signal_variance = signal + lift, np.maximum(signal_variance + variance, 0.0)
    gradient, gradient_variance = _weight_gradient(cell, gains, lengths, shares, signal, alike)
    if cell.tied:  # how these networks scatter is not that of independent kernels
        length_variance, signal_variance = (np.full(len(shapes), np.nan) for _ in range(2))
    decade = math.log(10)
    return Prediction(
        length / decade,
        np.sqrt(length_variance) / decade,
        signal / (2 * decade),  # a root mean square has half the logarithm
        np.sqrt(signal_variance) / (2 * decade),
        gradient / (2 * decade),
        np.sqrt(signal_variance + gradient_variance) / (2 * decade),
        lift / (2 * decade),
    )


def too_deep_to_tie(cell: Cell) -> bool:
    """Tell whether the layers that share a kernel are too many for the laws of wide networks."""
    return cell.tied and cell.depth**2 > cell.width * TIED_SQUARES


def predict_structured(cell: Cell, inputs: int, input_mean_square: float) -> Prediction | None:
    """Predict what is known of networks with batch normalization or residual connections.

    Batch normalization: signals dC/dz, z as it is normalized, grow towards the input by
    `theory.batch_norm_growth` a layer, of linear networks by that of their minibatch. Residual
    branches of ReLU from weights of variance ``2 / n``: ``z_1`` has the mean square
    ``inputs Var(W_1) E[x^2]`` and ``z_l`` twice that of ``h_(l-1)``, which is
    `theory.rectified_residual_length`.

    Parameters
    ----------
    cell
        Its activation, normalization, residual connections, depth and initializer count.
    inputs
        Features of an example.
    input_mean_square
        ``E[x^2]`` of an entry of an example.

    Returns
    -------
    Prediction or None
        At infinite width, without standard deviations; NaN where nothing is known. None for other
        networks, and with dropout.
    """
    if cell.dropout or cell.network.name != "none":
        return None
    unknown = np.full(cell.depth + 1, np.nan)
    length, signal = unknown.copy(), unknown.copy()
    if cell.tied:
        return None
    hidden = layer_variances(cell, layer_shapes(inputs, cell, cell.width)[:-1])
    residual = RESIDUALS[cell.residual]
    if cell.normalization.name == "batch" and cell.residual == "none" and hidden:
        linear = cell.activation.name == "linear"
        growth = (
            theory.linear_batch_norm_growth(cell.batch_size)
            if linear
            else theory.batch_norm_growth(cell.activation)
        )
        signal[:-1] = 0.5 * math.log10(growth) * np.arange(cell.depth - 1, -1, -1)
    elif not residual.trained and cell.residual != "none" and _is_rectified(cell) and hidden:
        branch = 1.0 / residual.divisor(max(cell.depth - 1, 1))
        first = inputs * hidden[0] * input_mean_square
        lengths = first * theory.rectified_residual_length(cell.depth, branch)
        length = np.log10(np.append(first, lengths))
    else:
        return None
    return Prediction(length, unknown, signal, unknown, unknown, unknown, unknown)


def _is_rectified(cell: Cell) -> bool:
    """Tell whether layers are ReLU, of one width, with weights of variance 2/n after the first.

    And without biases.
    """
    later = layer_variances(cell, [(cell.width, cell.width)] * (cell.depth + 1))
    return (
        cell.activation.name == "relu"
        and cell.normalization.name == "none"
        and cell.widths.name == "constant"
        and bias_moments(cell, cell.width) == (0.0, 0.0)
        and later is not None
        and all(math.isclose(variance * cell.width, 2.0) for variance in later[1:])
    )


def _forward(
    cell: Cell,
    shapes: list[Shape],
    gains: list[float],
    biases: list[float],
    input_mean_square: float,
) -> _Lengths | None:
    """Carry mean and variance of ``ln q`` from layer to layer; `biases` are variances.

    None if they leave the expansion.
    """
    grows = activations.get(cell.activation).integrals is not None
    mean = [math.log(gains[0] * input_mean_square + biases[0])]
    variance, slope = [0.0], []
    steps = zip(shapes[:-1], gains[1:], biases[1:], strict=True)
    for layer, (shape, gain, bias) in enumerate(steps, start=1):
        square, spread, inner = _transport(_log_square(cell.activation), mean[-1], variance[-1])
        square -= math.log(1 - cell.dropout)  # E[h^2] = E[phi(z)^2] / (1 - dropout)
        drift, noise = _forward_noise(cell, layer, shape, mean[-1])
        if grows and noise > LARGEST_NOISE:
            return None
        moments = _transport(_affine(gain, bias), square + drift, spread + noise)
        mean.append(moments[0])
        variance.append(moments[1])
        slope.append(inner * moments[2])
    return _Lengths(np.array(mean), np.array(variance), np.array(slope))


def _affine(gain: float, bias: float) -> Callable[[float], float]:
    """Return ``y -> ln(gain exp(y) + bias)`` without leaving the range of floats."""
    log_bias = math.log(bias) if bias else -math.inf
    return lambda y: float(np.logaddexp(math.log(gain) + y, log_bias))


def _transport(
    f: Callable[[float], float], mean: float, variance: float
) -> tuple[float, float, float]:
    """Return mean, variance and linear slope of ``f(y)`` for normal ``y``, by three nodes."""
    if variance == 0.0:
        return f(mean), 0.0, 0.0
    values = np.array([f(mean + math.sqrt(variance) * node) for node in NODES])
    expected = float(WEIGHTS @ values)
    slope = float(WEIGHTS @ (NODES * values)) / math.sqrt(variance)
    return expected, float(WEIGHTS @ (values - expected) ** 2), slope


def _measured_length(cell: Cell, shapes: list[Shape], lengths: _Lengths) -> tuple[Float64, Float64]:
    """Return mean and variance of ``ln mean(z_l^2)``: `q_l` and a mean over `n_l` units."""
    noise = np.array(
        [_norm_noise(cell, layer, shape) for layer, shape in enumerate(shapes, start=1)]
    )
    return lengths.mean + noise[:, 0], lengths.variance + noise[:, 1]


def _norm_noise(cell: Cell, layer: int, shape: Shape) -> tuple[float, float]:
    """Return drift and variance of the logarithm of a mean of squared normal variables."""
    if cell.tied:
        return 0.0, 0.0
    if _is_orthogonal(cell, layer):
        return _leading(2 * (1 - _kept(shape)), shape[1])
    return _exact(shape[1], "linear")


def _is_orthogonal(cell: Cell, layer: int) -> bool:
    """Tell whether the kernel of `layer` keeps norms."""
    return initializer_of(cell, layer).name == "orthogonal"


def _forward_noise(cell: Cell, layer: int, shape: Shape, y: float) -> tuple[float, float]:
    """Return drift and variance that `layer` of `shape` adds to ``ln M``, for ``q = exp(y)``."""
    name, width = cell.activation, shape[1]
    if cell.tied:
        return 0.0, 0.0
    kept = _kept(shape) if _is_orthogonal(cell, layer) else 0.0
    if activations.get(name).homogeneous and not kept and not cell.dropout:
        return _exact(width, name)
    fourth = exp_or_inf(_log_moment(name, "function", 4, y) - 2 * _log_square(name)(y))
    ratio = fourth / (1 - cell.dropout) - 1
    return _leading(_spread(ratio, _elasticity(_log_square(name), y), kept), width)


def _backward_noise(cell: Cell, layer: int, shape: Shape, y: float) -> tuple[float, float]:
    """Return drift and variance that a step back through `layer` adds to ``ln D``."""
    name, width = cell.activation, shape[0]
    if cell.tied:
        return 0.0, 0.0
    kept = _kept(shape[::-1]) if _is_orthogonal(cell, layer) else 0.0
    if activations.get(name).homogeneous and not kept and not cell.dropout:
        return _exact(width, name)
    fourth = _log_moment(name, "derivative", 4, y)
    ratio = 3 * math.exp(fourth - 2 * _log_slope_square(name)(y)) / (1 - cell.dropout) - 1
    return _leading(_spread(ratio, 1.0, kept), width)


@lru_cache
def _exact(width: int, activation: ActivationLike) -> tuple[float, float]:
    """Return mean and variance of ``ln mean phi(g)^2`` less ``ln E[phi(g)^2]``."""
    expected = _log_square(activation)(0.0)
    drift = theory.log_growth_mean(width, 1.0, activation) - expected
    return drift, theory.log_growth_variance(width, activation)


def _leading(ratio: float, width: int) -> tuple[float, float]:
    """Return mean and variance of the logarithm of a mean of `width` terms, to order 1/width."""
    ratio = max(ratio, 0.0)
    return -ratio / (2 * width), ratio / width


def _spread(ratio: float, elasticity: float, kept: float) -> float:
    """Return the relative variance of a term, less what the norm of all terms explains.

    An orthogonal kernel keeps the norm of ``z``. The regression of ``f(z)`` on ``z^2`` explains
    ``2 (d ln E[f] / d ln q)^2`` of its relative variance; `kept` is the share of the norm that a
    rectangular kernel keeps.
    """
    return ratio - 2 * kept * elasticity**2


def _kept(shape: Shape) -> float:
    """Return the share of a vector's norm that an orthogonal map from n to m entries keeps."""
    return min(1.0, shape[1] / shape[0])


def _backward(
    cell: Cell, shapes: list[Shape], variances: list[float], lengths: _Lengths
) -> tuple[Float64, Float64]:
    """Return mean and variance of ``ln(D_l / D_reference)``, layers 1 … depth + 1."""
    log_slope = _log_slope_square(cell.activation)
    means, noises, weights = [], [], []
    pairs = zip(shapes[1:], variances[1:], lengths.mean, lengths.variance, strict=False)
    for layer, (shape, variance, y, spread) in enumerate(pairs, start=2):
        expected, _, weight = _transport(log_slope, float(y), float(spread))
        drift, noise = _backward_noise(cell, layer, shape, float(y))
        means.append(math.log(variance * shape[1]) + expected + drift - math.log(1 - cell.dropout))
        noises.append(noise)
        weights.append(weight)
    # ln D_l - ln D_{l+1} of layers l = 1 … depth, summed from the output
    logs = np.append(np.cumsum(np.array(means)[::-1])[::-1], 0.0)
    reference = max(cell.depth - 1, 0)
    covariance = _covariance(lengths)[:-1, :-1] * np.outer(weights, weights) + np.diag(noises)
    spans = [sorted((layer, reference)) for layer in range(len(shapes))]
    spreads = [covariance[low:high, low:high].sum() for low, high in spans]
    return logs - logs[reference], np.maximum(np.array(spreads), 0.0)


def _shares(biases: list[float], lengths: _Lengths) -> Float64:
    """Return the part of ``q_l`` that is not the variance of the bias."""
    if not any(biases):
        return np.ones(len(lengths.mean))
    with np.errstate(over="ignore", under="ignore"):
        return np.maximum(1 - np.array(biases) * np.exp(-lengths.mean), EPSILON)


def _minibatch_signal(
    cell: Cell,
    shapes: list[Shape],
    lengths: _Lengths,
    shares: Float64,
    alike: minibatch.Likeness,
) -> tuple[Float64, Float64]:
    """Return what a minibatch adds to mean and variance of ``ln(D_l / D_reference)``."""
    later = list(enumerate(shapes[1:], start=2))
    noises = np.array(
        [
            _backward_noise(cell, layer, shape, float(y))[1]
            for (layer, shape), y in zip(later, lengths.mean, strict=False)
        ]
    )
    kept = np.array(
        [_kept(shape[::-1]) if _is_orthogonal(cell, layer) else 0.0 for layer, shape in later]
    )
    with np.errstate(over="ignore", under="ignore"):
        q = np.exp(lengths.mean)
    variances = minibatch.log_signal_variance(
        alike, cell.batch_size, cell.activation, q, shares, cell.loss, noises, kept, cell.dropout
    )
    reference = max(cell.depth - 1, 0)
    lift, variance = np.zeros(len(shapes)), np.zeros(len(shapes))
    for layer in range(len(shapes)):
        of_one, of_all = variances(slice(*sorted((layer, reference))))
        lift[layer] = 0.5 * (of_one - of_all) * np.sign(reference - layer)
        variance[layer] = of_all - of_one
    return lift, variance


def _weight_gradient(
    cell: Cell,
    gains: list[float],
    lengths: _Lengths,
    shares: Float64,
    signal: Float64,
    alike: minibatch.Likeness | None,
) -> tuple[Float64, Float64]:
    """Return the mean of ``ln D_l M_(l-1) A_l`` over that of the last hidden layer.

    And what ``M`` adds to the variance of the signal, as if both were independent.
    """
    with np.errstate(over="ignore", under="ignore"):
        q = np.exp(lengths.mean)
    entering = lengths.mean + np.log(shares) - np.log(gains)
    logs = np.full(len(q), np.nan)
    if alike is not None:
        logs = minibatch.log_agreement(
            alike, cell.batch_size, cell.activation, q, shares, cell.loss, cell.dropout
        )
    reference = max(cell.depth - 1, 0)
    means = signal + entering + logs
    # ln M = ln (q - bias) + constant: a change of ln q is one of ln M divided by its share of q.
    covariance = _covariance(lengths) / np.outer(shares, shares)
    variances = np.diag(covariance)
    spread = variances + variances[reference] - 2 * covariance[reference]
    return means - means[reference], np.maximum(spread, 0.0)


def _covariance(lengths: _Lengths) -> Float64:
    """Return the covariance of ``ln q`` between layers: ``Var(y_i) prod slope`` for i <= j."""
    count = len(lengths.mean)
    matrix = np.zeros((count, count))
    for i in range(count):
        responses = np.cumprod(np.append(1.0, lengths.slope[i:]))
        matrix[i, i:] = matrix[i:, i] = lengths.variance[i] * responses
    return matrix


def _log_square(activation: ActivationLike) -> Callable[[float], float]:
    """Return ``y -> ln E[phi(z)^2]`` for ``z ~ N(0, exp(y))``."""
    return lambda y: _log_moment(activation, "function", 2, y)


def _log_slope_square(activation: ActivationLike) -> Callable[[float], float]:
    """Return ``y -> ln E[phi'(z)^2]`` for ``z ~ N(0, exp(y))``."""
    return lambda y: _log_moment(activation, "derivative", 2, y)


def _elasticity(f: Callable[[float], float], y: float, step: float = 1e-3) -> float:
    """Return the derivative of `f` at `y` by central difference."""
    return (f(y + step) - f(y - step)) / (2 * step)


@lru_cache(maxsize=100_000)
def _log_moment(activation: ActivationLike, member: str, power: int, y: float) -> float:
    """Return ``ln E[f(z)^power]``, f a `member` of the activation, ``z ~ N(0, exp(y))``."""
    if abs(y) > LOG_RANGE:
        edge = math.copysign(LOG_RANGE, y)
        ends = [_log_moment(activation, member, power, edge * share) for share in (1.0, 0.9)]
        return ends[0] + (ends[0] - ends[1]) * (abs(y) / LOG_RANGE - 1) / 0.1
    phi = activations.get(activation)
    if phi.integrals:
        return phi.integrals.log_moment(MEMBERS.index(member), power, math.exp(y))
    f = getattr(phi, member)
    return math.log(theory.expectation(lambda u: f(u) ** power, math.exp(y), phi.kinks))
