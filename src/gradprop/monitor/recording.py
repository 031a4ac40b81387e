"""The rows that a probed step becomes, and the folder that keeps them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gradprop import files
from gradprop.components.activations import Activation
from gradprop.errors import GradpropError, not_allowed, show
from gradprop.monitor.guessing import CROSS_ENTROPIES, ERRORS, guesses, loss_of
from gradprop.monitor.instruments import UNKNOWN, Call, Trace, Values
from gradprop.monitor.layers import NORMALIZATIONS, Unmeasured, Weights
from gradprop.probes.statistics import (
    PRESETS,
    STATISTICS,
    LayerRecord,
    Sample,
    canonical,
    measure,
    recorded,
)

# Statistics of pairs of examples: there a unit is an entry of what the layer makes of one example.
_OF_PAIRS = ("preactivation_correlation", "activation_correlation")
# What else than the quantity that a statistic's name begins with it is made of.
_MADE_OF = {
    "saturated_fraction": ("preactivation", "function"),
    "dead_fraction": ("preactivation", "function"),
    "log10_update_ratio": ("update", "weight"),
    "log10_distance_from_start": ("start", "weight"),
    "weight_gradient_log10_product": ("gradient", "weight"),
}
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_QUANTITIES = ("gradient", "signal", "preactivation", "activation", "weight")
# What rules need whatever statistics were chosen: a NaN has to be told from what was not measured.
_COUNTS = tuple(
    f"{quantity}_nonfinite_fraction" for quantity in ("gradient", "signal", "activation")
)
# Names that end so are those of files; a folder may well be called lr0.1.
_OF_FILES = {
    *(".csv", ".h5", ".hdf5", ".htm", ".html", ".ipynb", ".json", ".keras", ".log", ".md", ".npy"),
    *(".npz", ".parquet", ".pdf", ".png", ".py", ".svg", ".tsv", ".txt", ".xlsx", ".yaml", ".yml"),
}
# Most entries of layers that are measured together.
_TOGETHER = 2**16
_NOTHING = Sample(np.zeros((1, 1), dtype=np.float32))

Rows = dict[str, Any]


class RecordingError(GradpropError):
    """Rows cannot be recorded as asked."""


class Origin(NamedTuple):
    """Where something first became NaN or infinite in a step.

    Attributes
    ----------
    layer
        Number of the layer; 0 if unknown.
    direction
        ``inputs`` or ``targets`` (the data themselves, and no layer), ``forward``, ``backward``,
        ``weights`` (they already were when the step began) or ``unknown`` (the step was not
        probed).
    """

    layer: int
    direction: str

    @property
    def is_in_data(self) -> bool:
        """Whether the minibatch was not finite before any layer saw it."""
        return self.direction in ("inputs", "targets")


def chosen(statistics: str | Sequence[str]) -> tuple[list[str], list[Unmeasured]]:
    """Return the names that a choice of statistics stands for, and what of it cannot be had.

    Raises
    ------
    RecordingError
        If a name is neither a statistic nor a preset.
    """
    given = [statistics] if isinstance(statistics, str) else list(statistics)
    for name in given:
        if name not in STATISTICS and name not in PRESETS:
            problem = not_allowed(name, [*PRESETS, *STATISTICS])
            raise RecordingError(f"statistics: {problem}")
    names = list(dict.fromkeys([*recorded(canonical(given)), *_COUNTS]))
    lacking = [name for name in names if STATISTICS[name].needs == "minibatches"]
    why = "the training has no gradients of other minibatches at the same weights"
    return (
        [name for name in names if name not in lacking],
        [Unmeasured("", name, why) for name in lacking],
    )


def layer_rows(
    trace: Trace,
    values: Values,
    names: Sequence[str],
    start: dict[int, NDArray[Any]],
    mean_loss: bool,
) -> list[Rows]:
    """Return one row per call of a layer, and one per further matrix of weights of a layer.

    Parameters
    ----------
    trace, values
        What the step met, and its values.
    names
        Statistics.
    start
        The weights at the first step, by `id` of the variable.
    mean_loss
        Whether the loss is a mean over the minibatch: signals of single examples are then
        dC/dz times the number of examples.
    """
    rows: list[Rows] = []
    seen: list[tuple[LayerRecord, set[str]]] = []
    share = (values.examples if mean_loss else 1) / values.scale
    for index, call in enumerate(trace.calls):
        z = _units_last(values.preactivations.get(index), call)
        activation = _units_last(values.activations.get(index), call)
        signal = _units_last(values.signals.get(index), call)
        for number, weights in enumerate(call.watched.weights):
            own = number == 0
            record, has = _record(
                _sample(z if own else None),
                _sample(activation if own else None),
                _sample(signal if own else None, share),
                weights,
                values,
                start,
            )
            function = call.function if isinstance(call.function, Activation) else "linear"
            units = z.shape[-1] if own and z is not None and z.ndim > 1 else 1
            # A statistic asks the registry, which takes an entry for its name as well.
            record = replace(record, function=function, units=units)  # type: ignore[arg-type]
            if isinstance(call.function, Activation) or (call.is_open and call.function != UNKNOWN):
                has.add("function")
            keys: Rows = {
                "layer": len(rows) + 1,
                "name": call.name if own else weights.name,
                "kind": type(call.watched.layer).__name__,
                "activation": _name(call) if own else "",
            }
            spreads = _spreads(call, weights, values, signal) if own else (math.nan, math.nan)
            further: Rows = {
                "weight_nonfinite_fraction": _bad_fraction(values, weights),
                "weight_unit_spread": spreads[0],
                "signal_unit_spread": spreads[1],
                "bias_mean": _bias_mean(values, weights),
                **dict.fromkeys(OVER_TIME, math.nan),
            }
            if own and call.watched.is_recurrent:
                further |= _over_time(trace, values, index, mean_loss)
            seen.append((record, has))
            rows.append(keys | dict.fromkeys(names) | further)
    for row, measured in zip(rows, _measured(seen, names, values.examples), strict=True):
        row.update(measured)
    return rows


def network_rows(trace: Trace) -> list[Rows]:
    """Return one row for every one that `layer_rows` returns: what the layer is.

    Columns beside ``layer``, ``name``, ``kind`` and ``activation``: ``fan_in`` and ``fan_out`` of
    its matrix (`fans`; 0 without one), whose product is the number of its entries; ``positions``,
    at how many places of an example every unit is computed (0 if unknown); ``extra``, what
    acts on the layer besides its activation function (``normalization``, ``skip``, ``recurrence``
    or nothing); ``trainable``, whether its matrix is not frozen; ``constrained``, whether Keras
    projects it after every step; and ``judged``, whether it is the matrix of a layer on the way
    from the inputs to the outputs, which rules about layers speak of. Left out are factors of
    normalizations, projections inside an attention, matrices besides a layer's main one, and
    embeddings unless the network has no other layers.
    """
    found: list[Rows] = []
    main = [(c.watched.layer, c.watched.weights[0].matrix) for c in trace.calls]
    alone = not any(_is_judged(layer, matrix) for layer, matrix in main)
    for call in trace.calls:
        for number, weights in enumerate(call.watched.weights):
            own = number == 0
            fan_in, fan_out = fans(call.watched.layer, weights.matrix)
            row: Rows = {
                "layer": len(found) + 1,
                "name": call.name if own else weights.name,
                "kind": type(call.watched.layer).__name__,
                "activation": _name(call) if own else "",
                "fan_in": fan_in,
                "fan_out": fan_out,
                "positions": _positions(call) if own else 0,
                "extra": call.extra,
                "trainable": _is_trained(call.watched.layer, weights.matrix),
                "constrained": getattr(weights.matrix, "constraint", None) is not None,
                "judged": own and _is_judged(call.watched.layer, weights.matrix, alone),
            }
            found.append(row)
    return found


def _is_trained(layer: Any, matrix: Any) -> bool:
    """Tell whether a matrix learns, or a product of two that is added to it does (LoRA)."""
    if matrix is None or matrix.trainable:
        return True
    return bool(getattr(layer, "lora_enabled", False) and layer.trainable)


def _positions(call: Call) -> int:
    if call.z is None:
        return 0
    shape = list(call.z.shape[1:])
    if getattr(call.watched.layer, "data_format", None) == "channels_first":
        shape = [*shape[1:], shape[0]]
    return 0 if None in shape else math.prod(shape[:-1])


def _is_judged(layer: Any, matrix: Any, alone: bool = False) -> bool:
    """Tell whether rules judge the matrix of a layer; embeddings only where they are alone."""
    if isinstance(layer, keras.layers.Embedding):
        return alone
    others = (*NORMALIZATIONS, keras.layers.EinsumDense)
    return matrix is not None and len(matrix.shape) > 1 and not isinstance(layer, others)


def fans(layer: Any, matrix: Any) -> tuple[int, int]:
    """Return how many entries of a matrix a unit sums over, and how many sets of them there are.

    Of a kernel of shape (..., inputs, units) those are the product of all axes but the last, and
    the last. A transposed convolution has its units on the axis before the last, a depthwise one
    (..., channels, multiplier) sums over space alone, an einsum over the axes that its output
    lacks, and an embedding takes one row.
    """
    if matrix is None:
        return 0, 0
    shape, size = tuple(matrix.shape), math.prod(matrix.shape)
    units = shape[-1] if shape else 1
    if isinstance(layer, _TRANSPOSED):
        units = shape[-2]
    elif isinstance(layer, _DEPTHWISE) or matrix.name == "depthwise_kernel":
        units = shape[-2] * shape[-1]
    elif isinstance(layer, keras.layers.EinsumDense):
        _, kernel, output = re.split(",|->", layer.equation)
        pairs = zip(kernel.replace("...", ""), shape, strict=False)
        units = math.prod(length for axis, length in pairs if axis in output)
    elif isinstance(layer, keras.layers.Embedding):
        units = size
    return size // max(units, 1), units


def _spreads(
    call: Call, weights: Weights, values: Values, signal: NDArray[Any] | None
) -> tuple[float, float]:
    """Return how far the units of a layer differ in their weights and in dC/dz (`unit_spread`).

    Units that agree in both get equal updates: they never differ. NaN where units have weights
    of inputs of their own (depthwise) or are more than one axis of the kernel.
    """
    layer, kernel = call.watched.layer, values.before.get(id(weights.matrix))
    if kernel is None or signal is None or weights.matrix.name != "kernel" or kernel.ndim < 2:
        return math.nan, math.nan
    if isinstance(layer, _TRANSPOSED):
        kernel = np.moveaxis(kernel, -2, -1)
    if signal.shape[-1] != kernel.shape[-1]:
        return math.nan, math.nan
    return unit_spread(kernel), unit_spread(signal)


#: Columns of recurrent layers (`_over_time`).
OVER_TIME = (
    *("recurrent_singular_value", "recurrent_backward_growth", "recurrent_forward_growth"),
    "recurrent_signal_decades",
)


def _over_time(trace: Trace, values: Values, index: int, mean_loss: bool) -> Rows:
    """Return what the recurrent kernel U (n x n of each gate) does over the T time steps.

    ``recurrent_singular_value``: the largest singular value of U, of the gates the largest. Below 1
    the signals of a simple recurrent layer can only shrink, above 1 they may grow (Pascanu et al.
    2013, arXiv:1211.5063, section 2.1).

    ``recurrent_backward_growth``: log10 of ``|dC/dU| / (T |h| sum_t |dC/dh_t|)``, with Euclidean
    norms of single examples, root mean squares over examples, and the sum over the outputs that the
    loss depends on. As ``dC/dU = sum_t h_(t-1) (dC/dz_t)^T``, a simple recurrent layer with
    ``|phi'| <= 1`` whose signals do not grow from step to step is at 0 or below by the triangle
    inequality, and far below in practice; so are gates, which take parts of dC/dh. The sum is taken
    at its most, ``sqrt(outputs)`` times the norm of all. ``|h|`` is that of the outputs, but no
    less than what one step of the inputs gives a bounded function.

    ``recurrent_forward_growth``: log10 of the mean square of the outputs over that of ``W x`` of
    one time step, ``E[x^2] |W|^2 / units``, which holds of random weights.

    ``recurrent_signal_decades``: log10 of the root mean square of dC/dx_1 over that of dC/dx_T, the
    derivatives by the inputs of the first and the last time step that has any (`Values.times`).
    What the first input does to the loss passes the kernel T - 1 times, and
    ``dC/dx_t = W^T dC/dz_t`` shrinks or grows with it. Minus infinity if the first is exactly 0.

    NaN of what was not measured, and but for the last one of convolutional kernels, of a stack of
    cells and of a shared layer.
    """
    call = trace.calls[index]
    kernels = [w.matrix for w in call.watched.weights if w.matrix.name == "recurrent_kernel"]
    found: Rows = dict.fromkeys(OVER_TIME, math.nan)
    sizes = values.times.get(index, np.zeros(0))
    sizes = sizes[~np.isnan(sizes)]  # a step in which all examples are masked is none
    if sizes.any():
        with np.errstate(divide="ignore"):
            found["recurrent_signal_decades"] = float(np.log10(sizes[0] / sizes[sizes != 0][-1]))
    if len(kernels) != 1 or len(kernels[0].shape) != 2 or id(kernels[0]) not in values.before:
        return found
    u = values.before[id(kernels[0])].astype(np.float64)
    gates = np.split(u, u.shape[1] // len(u), axis=1)
    if not np.isfinite(u).all():
        return found
    found["recurrent_singular_value"] = max(float(np.linalg.norm(gate, 2)) for gate in gates)
    h, signal = values.activations.get(index), values.signals.get(index)
    gradient = values.gradients.get(id(kernels[0]))
    w = values.before.get(id(call.watched.weights[0].matrix))
    calls = sum(other.watched is call.watched for other in trace.calls)
    if h is None or w is None or index not in values.sequences or calls > 1:
        return found
    steps, square = values.sequences[index].astype(np.float64)
    with np.errstate(all="ignore"):  # zeros, NaN and infinity are data here
        alone = square * np.sum(w.astype(np.float64) ** 2) / w.shape[-1]
        output = np.mean(h.astype(np.float64) ** 2)
        found["recurrent_forward_growth"] = float(np.log10(output / alone))
        if signal is None or gradient is None:
            return found
        share = (values.examples if mean_loss else 1) / values.scale
        outputs = signal.size / values.examples / len(u)
        of_one = share * np.sqrt(np.sum(signal.astype(np.float64) ** 2) / values.examples)
        length = np.sqrt(len(u) * max(output, min(alone, 1.0)))
        most = steps * length * np.sqrt(outputs) * of_one
        norm = share / values.examples * np.linalg.norm(gradient.astype(np.float64))
        found["recurrent_backward_growth"] = float(np.log10(norm / most))
    return found


#: Columns of `time_rows`.
TIMES = ("layer", "name", "time", "input_signal_log10_rms")


def time_rows(trace: Trace, values: Values, mean_loss: bool) -> list[Rows]:
    """Return one row per recurrent layer and time step: how large dC/dx_t is.

    ``time`` counts from 1, in the order in which the layer takes the steps (backwards, if it goes
    so); ``input_signal_log10_rms`` is log10 of ``sqrt(E[(dC/dx_t)^2])`` over the entries of the
    inputs of single examples, which for the minibatch's loss is times the number of examples; NaN
    where all examples are masked. `trace`, `values` and `mean_loss` are those of `layer_rows`, as
    is the number of a layer.
    """
    share = (values.examples if mean_loss else 1) / values.scale
    rows: list[Rows] = []
    layer = 1
    for index, call in enumerate(trace.calls):
        sizes = values.times.get(index, np.zeros(0))
        with np.errstate(divide="ignore"):  # an exact 0 is data
            logs = np.log10(share * sizes)
        rows += [
            dict(zip(TIMES, (layer, call.name, time, float(log)), strict=True))
            for time, log in enumerate(logs, start=1)
        ]
        layer += len(call.watched.weights)
    return rows


def unit_spread(values: NDArray[Any]) -> float:
    """Return how far units, on the last axis, differ: sqrt(E[(v - mean over units)^2] / E[v^2]).

    Between 0, of equal units (of zeros, too), and 1, of units whose mean is 0. NaN for a single
    unit, and where a value is not finite.
    """
    units = values.shape[-1]
    if units < 2:
        return math.nan
    v = values.reshape(-1, units).astype(np.float64)
    size = float(np.einsum("eu,eu->", v, v))
    if not (math.isfinite(size) or np.isfinite(v).all()):
        return math.nan
    # The mean of equal numbers may miss them by its rounding.
    if size == 0.0 or (values == values[..., :1]).all():
        return 0.0
    v -= np.einsum("eu->e", v)[:, None] / units
    return math.sqrt(float(np.einsum("eu,eu->", v, v)) / size)


def _bad_fraction(values: Values, weights: Weights) -> float:
    """Return the fraction of weights that are NaN or infinite before the step; NaN if unknown."""
    before = values.before.get(id(weights.matrix))
    return math.nan if before is None or not before.size else float(np.mean(~np.isfinite(before)))


def _bias_mean(values: Values, weights: Weights) -> float:
    """Return the mean of the bias before the step; NaN without one."""
    before = values.before.get(id(weights.shift))
    return math.nan if before is None or not before.size else float(np.mean(before))


def scales(model: Any, trace: Trace, values: Values) -> Rows:
    """Return what the loss of a step is to be compared with, and the scale of its data.

    Columns: ``loss`` (``cross_entropy``, ``mean_squared_error`` or ``other``), ``from_logits``
    (whether a cross-entropy takes the outputs for logits; nothing where it is another loss, or
    unknown), ``recovers_logits`` (whether Keras goes back to the logits of a softmax or sigmoid, by
    which it corrects a ``from_logits`` that is not so), ``guessing_loss`` and
    ``constant_loss`` (`gradprop.monitor.guessing`), ``is_error`` (whether the loss is in the units
    of the targets, or of their squares), ``penalty`` (what of the loss is no matter of the data:
    weight penalties and what layers add by ``add_loss``), and mean, standard deviation and largest
    magnitude of what the first layer with weights gets (``input_mean``, ``input_std``,
    ``input_largest``) and of the targets (``target_mean`` ...); the smallest target
    (``target_least``) and the range of the
    outputs (``output_least``, ``output_largest``). NaN of whole numbers, such as tokens and class
    indices, and where several outputs have targets of their own. ``input_nonfinite_fraction`` and
    ``target_nonfinite_fraction`` are of the minibatch itself, before any layer; ``clips`` tells
    whether the optimizer clips gradients.
    """
    kind = loss_of(model)
    shape = getattr(model, "output_shape", None) or (None,)
    classes = shape[-1] if isinstance(shape[-1], int) else _last_units(trace)
    guessing, constant = guesses(model, values.labels, values.weights, classes)
    named = kind if kind == "mean_squared_error" else "other"
    named = "cross_entropy" if kind in CROSS_ENTROPIES else named
    found: Rows = {"loss": named, "from_logits": _from_logits(model)}
    found |= {"guessing_loss": guessing, "constant_loss": constant, "is_error": kind in ERRORS}
    found |= {"recovers_logits": values.recovers_logits, "penalty": values.penalty}
    for name, moments in (("input", values.inputs), ("target", values.targets)):
        for column, value in zip(("mean", "std", "largest"), moments[:3], strict=True):
            found[f"{name}_{column}"] = float(value)
    found["input_nonfinite_fraction"] = values.bad_inputs
    found["target_nonfinite_fraction"] = values.bad_targets
    # Bounds of one that scales the loss have no effect: it hands the gradients on.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    found["clips"] = any(
        getattr(optimizer, bound, None) for bound in ("clipnorm", "clipvalue", "global_clipnorm")
    )
    found["target_least"] = float(values.targets[4])
    if kind == "binary_crossentropy" and values.labels is not None and values.labels.size:
        found["target_least"] = float(values.labels.min())
        found["target_largest"] = float(values.labels.max())
    found["output_least"], found["output_largest"] = map(float, values.outputs)
    return found


def _last_units(trace: Trace) -> int:
    layers = [call.watched for call in trace.calls]
    return fans(layers[-1].layer, layers[-1].weights[0].matrix)[1] if layers else 0


def _from_logits(model: Any) -> bool | None:
    """Tell whether the one cross-entropy of a model takes outputs for logits; None if unknown.

    A loss that is compiled by its name, or is a function, takes them for probabilities.
    """
    if loss_of(model) not in CROSS_ENTROPIES:
        return None
    given = getattr(model._compile_loss._flat_losses[0].loss, "_fn_kwargs", {})
    return bool(given.get("from_logits", False))


def _name(call: Call) -> str:
    return call.function.name if isinstance(call.function, Activation) else call.function


def _units_last(values: NDArray[Any] | None, call: Call) -> NDArray[Any] | None:
    """Return values with the axis of units last, where a convolution has the channels first."""
    if values is None or values.ndim < 3:
        return values
    if getattr(call.watched.layer, "data_format", None) == "channels_first":
        return np.moveaxis(values, 1, -1)
    return values


def _sample(values: NDArray[Any] | None, scale: float = 1.0) -> Sample | None:
    """Return a sample of one replica; nothing of nothing."""
    return None if values is None or not values.size else Sample(values[None], scale)


def _record(
    preactivation: Sample | None,
    activation: Sample | None,
    signal: Sample | None,
    weights: Weights,
    values: Values,
    start: dict[int, NDArray[Any]],
) -> tuple[LayerRecord, set[str]]:
    """Return what a probe sees of one layer, and the names of what there is of it."""
    matrix, shift = id(weights.matrix), id(weights.shift)
    before, after = values.before.get(matrix), values.after.get(matrix)
    change = after - before if after is not None and before is not None else None
    parts: dict[str, Any] = {
        "preactivation": preactivation,
        "activation": activation,
        "signal": signal,
        "gradient": _sample(values.gradients.get(matrix), 1 / values.scale),
        "weight": _sample(before),
        "update": _sample(change),
        "start": _sample(start.get(matrix)),
    }
    has = {name for name, part in parts.items() if part is not None}
    filled: dict[str, Any] = {name: part or _NOTHING for name, part in parts.items()}
    record = LayerRecord(
        **filled,
        bias_gradient=_sample(values.gradients.get(shift), 1 / values.scale),
        function="linear",
        units=1,
    )
    return record, has


def _measured(
    seen: Sequence[tuple[LayerRecord, set[str]]], names: Sequence[str], examples: int
) -> list[Rows]:
    """Return the statistics of all layers; NaN where what they are made of is missing.

    Layers of equal shapes are the replicas of one record: the time of small layers is that of
    calls, and a replica's numbers do not depend on its neighbours.
    """
    alike: dict[Any, list[int]] = {}
    for position, (record, has) in enumerate(seen):
        alike.setdefault(_shape(record, has, position), []).append(position)
    found: dict[int, Rows] = {}
    for positions in alike.values():
        record = _stacked([seen[position][0] for position in positions])
        possible = [name for name in names if _needed(name) <= seen[positions[0]][1]]
        values = measure(record, [name for name in possible if name not in _OF_PAIRS])
        for name in (name for name in possible if name in _OF_PAIRS):
            sample = getattr(record, name.split("_")[0])
            values |= measure(replace(record, units=max(sample.size // examples, 1)), [name])
        for replica, position in enumerate(positions):
            found[position] = {n: values[n][replica] if n in values else np.nan for n in names}
    return [found[position] for position in range(len(seen))]


def _samples(record: LayerRecord) -> dict[str, Sample]:
    parts = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: part for name, part in parts.items() if isinstance(part, Sample)}


def _shape(record: LayerRecord, has: set[str], position: int) -> Any:
    """Return what layers have in common that are measured together; large ones are by themselves.

    Copies of theirs would take more time than the calls.
    """
    samples = _samples(record)
    if max(sample.size for sample in samples.values()) > _TOGETHER:
        return position
    shapes = [(n, s.values.dtype.str, s.size, s.scale) for n, s in samples.items()]
    return id(record.function), record.units, frozenset(has), *shapes


def _stacked(records: Sequence[LayerRecord]) -> LayerRecord:
    """Return one record whose replicas are those of all records."""
    if len(records) == 1:
        return records[0]
    parts = [_samples(record) for record in records]
    stacked: dict[str, Any] = {
        name: Sample(np.concatenate([part[name].values for part in parts]), first.scale)
        for name, first in parts[0].items()
    }
    return replace(records[0], **stacked)


def _needed(name: str) -> set[str]:
    if name in _MADE_OF:
        return set(_MADE_OF[name])
    return {quantity for quantity in _QUANTITIES if name.startswith(f"{quantity}_")}


def gradient_log10_norm(trace: Trace, values: Values) -> float:
    """Return log10 of the norm of dC/dW of all matrices, sqrt(sum (dC/dW)^2).

    Every matrix counts once, in however many calls it is used; biases are left out, as in the
    workflow. ``-inf`` if all entries are 0, NaN without gradients.
    """
    matrices = dict.fromkeys(id(w.matrix) for c in trace.calls for w in c.watched.weights)
    samples = [_sample(values.gradients[m]) for m in matrices if m in values.gradients]
    with np.errstate(all="ignore"):  # NaN and infinity are data here
        sizes = [s.mean_square[0] * s.size for s in samples if s is not None]
        if not sizes:
            return math.nan
        return float(0.5 * np.log10(np.sum(sizes)) - np.log10(values.scale))


def origin(trace: Trace, values: Values, rows: Sequence[Rows]) -> Origin | None:
    """Find out where something became NaN or infinite in a step; None if all is finite.

    Data that are not finite are the origin of what layers make of them. Otherwise forward counts
    before backward, and there the layers from the first to the last; backward they are followed
    from the last to the first. A loss that is not finite although every layer is has overflowed
    itself: the last layer counts.
    """
    found = _first_layer(trace, values, rows)
    if found is None:  # layers may be made for such data, and mask them
        return None
    for name, share in (("inputs", values.bad_inputs), ("targets", values.bad_targets)):
        if share > 0:
            return Origin(0, name)
    return found


def _first_layer(trace: Trace, values: Values, rows: Sequence[Rows]) -> Origin | None:
    numbers = {row["name"]: row["layer"] for row in rows}
    calls = list(enumerate(trace.calls))
    for _, call in calls:
        for weights in call.watched.weights:
            if not _is_finite(values.before.get(id(weights.matrix))):
                return Origin(numbers[call.name], "weights")
    for index, call in calls:
        kept = (values.preactivations.get(index), values.activations.get(index))
        if not all(map(_is_finite, kept)):
            return Origin(numbers[call.name], "forward")
    if calls and values.has_bad_loss:
        return Origin(numbers[calls[-1][1].name], "forward")
    for index, call in reversed(calls):
        weights_of = call.watched.weights
        gradients = (values.gradients.get(id(v)) for w in weights_of for v in (w.matrix, w.shift))
        if not _is_finite(values.signals.get(index)) or not all(map(_is_finite, gradients)):
            return Origin(numbers[call.name], "backward")
    return None


def _is_finite(values: NDArray[Any] | None) -> bool:
    return values is None or bool(np.isfinite(values).all())


class Folder:
    """A run's tables: ``<folder>/<table>/*.parquet``, each a file per probe.

    ``pandas.read_parquet("<folder>/layers")`` is the whole table. Every file appears complete or
    not at all, so that a run that is killed keeps what it had recorded.

    Parameters
    ----------
    path
        Made if it is not there.
    resume
        Whether it may hold the rows of an earlier training, which further rows then follow.

    Raises
    ------
    RecordingError
        If it is a file, or has the name of one, or there is something in it, and `resume` is not
        set.
    """

    def __init__(self, path: str | Path, resume: bool) -> None:
        if not isinstance(path, str | Path):
            raise RecordingError(f"folder: {show(path)} is not allowed; allowed: a new folder")
        self.path = path = Path(path)
        if path.exists() and not path.is_dir():
            raise RecordingError(f"{path}: not a folder; allowed: a new folder for the tables")
        if not path.exists() and path.suffix.lower() in _OF_FILES:
            raise RecordingError(
                f"{path}: the name of a file; allowed: a new folder for the tables, such as "
                f"{path.with_suffix('')} (the report is written by report({path.name!r}))"
            )
        if path.is_dir() and any(path.iterdir()):
            if not resume:
                raise RecordingError(
                    f"{path}: the folder exists and is not empty; allowed: a new folder, or "
                    "resume=True to go on with its tables"
                )
            files.remove_leftovers(path)

    def write(self, table: str, name: str, rows: pd.DataFrame | Sequence[Rows]) -> None:
        """Write rows as a file of a table; replace the file if it is there."""
        if isinstance(rows, pd.DataFrame):
            arrow = pa.Table.from_pandas(rows, preserve_index=False)
        else:  # those of a probe, by a way that takes a third of the time
            columns = {key: [row[key] for row in rows] for key in rows[0]}
            arrow = pa.table({key: _column(values) for key, values in columns.items()})
        with files.replacing(self.path / table / f"{name}.parquet") as temporary:
            # So few rows are not worth the making of a compressor for every column.
            pq.write_table(arrow, temporary, compression="none", use_dictionary=False)

    def read(self, table: str) -> pd.DataFrame:
        """Return a table; empty if nothing was recorded."""
        paths = sorted((self.path / table).glob("*.parquet"))
        if not paths:
            return pd.DataFrame()
        return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _column(values: list[Any]) -> Any:
    """Return a column in the narrowest precision that holds all of its numbers."""
    return np.array(values) if isinstance(values[0], float | np.floating) else values


def as_table(notes: Iterable[Unmeasured]) -> pd.DataFrame:
    """Return what is not measured as a table with the columns layer, what, why."""
    return pd.DataFrame([asdict(note) for note in notes], columns=["layer", "what", "why"])
