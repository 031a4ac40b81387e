"""One look at a model: gradients and signals of a minibatch, without a step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from gradprop.errors import GradpropError, cut, one_line
from gradprop.monitor import recording
from gradprop.monitor.instruments import Instruments, Values, loss_scale, values_of
from gradprop.monitor.layers import has_own, has_own_step
from gradprop.monitor.state import unchanged

# Columns of the table that a `Probe` shows, by their heads.
_SHOWN = {
    "z rms": "preactivation_log10_mean_square",
    "h std": "activation_std",
    "dC/dz": "signal_log10_rms",
    "dC/dW": "gradient_log10_rms",
    "|W|": "weight_log10_norm",
    "dead": "dead_fraction",
    "saturated": "saturated_fraction",
}


# What TensorFlow says of a class label that is none.
_OUTSIDE = re.compile(r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)")


class ProbeError(GradpropError):
    """A model that cannot be looked at."""


@dataclass(frozen=True, repr=False)
class Probe:
    """What one minibatch shows of a model.

    Attributes
    ----------
    steps
        One row: the loss and the norm of all gradients; columns as in the workflow's table.
    layers
        One row per layer with weights, in the order of the calls: its ``name``, ``kind`` (class)
        and ``activation``, and the statistics.
    times
        One row per recurrent layer and time step: the size of dC/dx_t; empty without such layers.
    network
        One row per layer: what it is, ``fan_in`` and ``fan_out``, whether rules judge it.
    unmeasured
        What is not in the tables: ``layer`` (empty for all), ``what``, ``why``.
    origin
        Where something is NaN or infinite first; None if all is finite.
    """

    steps: pd.DataFrame
    layers: pd.DataFrame
    times: pd.DataFrame
    network: pd.DataFrame
    unmeasured: pd.DataFrame
    origin: recording.Origin | None

    def __repr__(self) -> str:
        """Return the layers one below the other; magnitudes as powers of ten (log10)."""
        shown = self.layers[["layer", "name", "kind", "activation"]].copy()
        for head, column in _SHOWN.items():
            if column in self.layers:
                half = 0.5 if head == "z rms" else 1.0
                shown[head] = (half * self.layers[column].astype(float)).map("{:.2f}".format)
        step = self.steps.iloc[0]
        lines = [
            f"loss {step['minibatch_loss']:.4g}, log10 norm of all gradients "
            f"{step['gradient_log10_norm']:.2f}; log10 of z rms, dC/dz, dC/dW and |W|:",
            shown.to_string(index=False),
        ]
        if self.origin is not None:
            layer, direction = self.origin
            place = f"the {direction} themselves" if self.origin.is_in_data else ""
            lines.append(f"NaN or infinite first in {place or f'layer {layer} ({direction})'}")
        lines += [
            f"not measured: {f'{note.layer} {note.what}'.strip()}: {note.why}"
            for note in self.unmeasured.itertuples()
        ]
        return "\n".join(lines)


def probe(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    statistics: str | Sequence[str] = "standard",
) -> Probe:
    """Look at the gradients of a model on one minibatch, without a step.

    The loss is the one that the model is compiled with. Layers compute as in training (dropout
    drops units, batch normalization uses the minibatch). Afterwards all variables are as before:
    weights, running means, the states of random generators and metrics.

    Parameters
    ----------
    model : keras.Model
        Built and compiled.
    x, y, sample_weight
        One minibatch, as ``model.train_on_batch`` takes it; or only `x`, a ``tf.data.Dataset`` or
        a generator of minibatches, whose first one is taken.
    statistics
        A preset (``cheap``, ``standard``, ``full``), or names of statistics and presets.

    Returns
    -------
    Probe
        Its ``repr`` shows the network layer by layer.

    Raises
    ------
    ProbeError
        If the model is not built or not compiled, or the data do not fit.

    Examples
    --------
    >>> import keras, numpy
    >>> import gradprop
    >>> layers = [keras.layers.Dense(16, "sigmoid") for _ in range(8)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x, y = numpy.random.default_rng(0).normal(size=(2, 32, 4))
    >>> seen = gradprop.probe(model, x, y[:, :1])
    >>> seen.layers["signal_log10_rms"].is_monotonic_increasing  # vanishes towards the input
    True
    """
    names, lacking = recording.chosen(statistics)
    check_model(model)
    _check_loss(model)
    instruments = Instruments(model)

    minibatch = _first_of(x) if y is None else (x, y, sample_weight)
    if y is None:
        _check_batched(model, minibatch[0])
    data = _tensors(minibatch)
    if data[1] is None:
        raise ProbeError("probe: y: there are no targets, which the loss needs")
    check_labels(model, data[1])
    with unchanged(instruments), instruments.attached():
        try:
            values = _looked(model, instruments, data)
        except Exception as error:
            explain_labels(error)
            reason = cut(one_line(str(error)), 300)
            raise ProbeError(
                f"probe: model {model.name!r} does not take these data: {reason}"
            ) from error
    trace = instruments.trace
    mean = mean_loss(model)
    rows = recording.layer_rows(trace, values, names, {}, mean)
    times = recording.time_rows(trace, values, mean)
    step = {
        "step": 0,
        "minibatch_loss": values.loss,
        "gradient_log10_norm": recording.gradient_log10_norm(trace, values),
        **recording.scales(model, trace, values),
    }
    notes = [*trace.unmeasured, *lacking]
    return Probe(
        pd.DataFrame([{"cell": model.name, **step}]),
        pd.DataFrame([{"cell": model.name, "step": 0, **row} for row in rows]),
        pd.DataFrame(
            [{"cell": model.name, "step": 0, **row} for row in times],
            columns=["cell", "step", *recording.TIMES],
        ),
        pd.DataFrame([{"cell": model.name, **row} for row in recording.network_rows(trace)]),
        recording.as_table(notes),
        recording.origin(trace, values, rows),
    )


def _looked(model: Any, instruments: Instruments, data: Any) -> Values:
    """Return what one minibatch computes.

    The loss is scaled as a step scales it, against underflow in float16. A scale that adapts itself
    may begin too large, and is made smaller as in the first steps of a training.
    """
    scale = 1.0 if model.optimizer is None else float(loss_scale(model.optimizer))
    adapts = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)

    def look(data: Any) -> None:
        inputs, targets, weights = data
        with tf.GradientTape() as tape:
            with_training = {"training": True} if model._call_has_training_arg else {}
            outputs = model(inputs, **with_training)
            loss = model.compute_loss(
                x=inputs, y=targets, y_pred=outputs, sample_weight=weights, training=True
            )
            loss *= tf.cast(scale, loss.dtype)
        variables = model.trainable_variables
        trace = instruments.trace
        trace.scale = scale
        trace.no_update = "a probe makes no step"
        found = tape.gradient(loss, variables)
        trace.gradients = {id(v): g for v, g in zip(variables, found, strict=True) if g is not None}

    while True:
        values = values_of(instruments.observed(look)(data), instruments.weights())
        finite = all(np.isfinite(gradient).all() for gradient in values.gradients.values())
        if finite or not adapts or scale <= 1 or values.has_bad_loss:
            return values
        scale /= 2


def _first_of(x: Any) -> Any:
    """Return the first minibatch of a data set or generator as inputs, targets, weights."""
    if not isinstance(x, tf.data.Dataset | Iterator):
        return x, None, None
    first = next(iter(x), None)
    if first is None:
        raise ProbeError("probe: x: no examples: the generator or data set yields no minibatch")
    parts = first if isinstance(first, tuple) else (first,)
    return (*parts, None, None)[:3]


def _check_batched(model: Any, inputs: Any) -> None:
    """Find out whether a data set yields minibatches, as far as a model has one shape of inputs."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or not hasattr(inputs, "shape"):
        return
    if len(inputs.shape) == len(shape) - 1:
        raise ProbeError(
            f"probe: x: single examples of shape {tuple(inputs.shape)} where minibatches are "
            "needed; allowed: a data set after its batch(...), or a generator of minibatches"
        )


def _tensors(data: Any) -> Any:
    """Return a minibatch as tensors; find out whether its parts have as many examples."""
    try:
        tensors = tf.nest.map_structure(lambda v: v if v is None else tf.convert_to_tensor(v), data)
    except (TypeError, ValueError) as error:
        raise ProbeError(f"probe: x, y: no arrays of numbers: {cut(str(error), 200)}") from None
    given = [t for t in tf.nest.flatten(tensors) if t is not None]
    if any(t.shape.rank == 0 for t in given):
        found = "lists of numbers" if isinstance(data[0], list | tuple) else "single numbers"
        raise ProbeError(
            f"probe: x, y: {found} where a minibatch of arrays is needed; allowed: arrays whose "
            "first axis is that of the examples, such as numpy.asarray(x), and a data set after "
            "its batch(...)"
        )
    sizes = [t.shape[0] for t in given]
    if not sizes or not all(sizes):
        raise ProbeError("probe: x, y: no examples; allowed: a minibatch of at least one")
    if len(set(sizes)) > 1:
        raise ProbeError(
            f"probe: x, y: the parts of the minibatch have {', '.join(map(str, sizes))} examples; "
            "allowed: one number for all"
        )
    return tensors


def check_model(model: Any, backends: Sequence[str] = ("tensorflow",)) -> None:
    """Find out whether a model can be looked at, where Keras computes with one of some backends.

    Raises
    ------
    ProbeError
        If it is no Keras model of such a backend, or not built, or not compiled. Whether it has a
        loss is not asked: a training may have one that is not compiled.
    """
    if keras.backend.backend() not in backends:
        allowed = " or ".join(f"KERAS_BACKEND={name}" for name in backends)
        raise ProbeError(f"Keras computes with {keras.backend.backend()!r}; allowed: {allowed}")
    if not isinstance(model, keras.Model):
        raise ProbeError(f"model: {type(model).__name__} is not allowed; allowed: a keras.Model")
    if not model.compiled:
        raise ProbeError(f"model {model.name!r} has no loss; call its compile(loss=...) before")
    # Keras calls a subclass built after build(shape), although its layers have no weights yet.
    lacking = [part for part in model._flatten_layers(include_self=False) if not part.built]
    is_built = model.built or has_own_step(model)  # which may call its parts alone
    if not is_built or (lacking and not model.weights):
        raise ProbeError(
            f"model {model.name!r} is not built: its weights have no shapes yet; give it an Input, "
            "or call it once on a minibatch"
        )


def check_labels(model: Any, targets: Any) -> None:
    """Find out whether class labels are those of the outputs.

    TensorFlow's own message has several lines and names an operation; on some devices there is
    none, and the loss is NaN.

    Parameters
    ----------
    model
        A compiled model. Nothing is asked of one whose only loss is not sparse categorical
        cross-entropy.
    targets
        Those of a minibatch.

    Raises
    ------
    ProbeError
        If a label is no whole number, or not one of 0 to n - 1, for n outputs, nor the class that
        the loss ignores.
    """
    loss, name = model.loss, "sparse_categorical_crossentropy"
    is_instance = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    if not is_instance and loss != name and loss is not getattr(keras.losses, name):
        return
    settings = {"axis": -1, "ignore_class": None} | (loss._fn_kwargs if is_instance else {})
    labels, shape = tf.nest.flatten(targets), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or not isinstance(shape[-1], int) or len(labels) != 1:
        return
    values, last = np.asarray(labels[0]), len(shape) - 1
    if values.ndim == last:
        values = values[..., None]
    # Keras itself tells of targets that are no labels.
    if values.shape[last:] != (1,) or settings["axis"] not in (-1, last):
        return
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return
    broken = values[values != np.trunc(values)]
    if broken.size:
        raise ProbeError(
            f"y: class label {broken.flat[0]:.4g} was found, which the loss takes for "
            f"{int(broken.flat[0])}; allowed: whole numbers from 0 to {shape[-1] - 1}"
        )
    found = np.unique(values.astype(np.int64))
    found = found[found != settings["ignore_class"]]
    if found.size and not 0 <= found[0] <= found[-1] < shape[-1]:
        raise _wrong_labels(int(found[0]), int(found[-1]), shape[-1])


def explain_labels(error: Exception) -> None:
    """Raise a `ProbeError` in place of what TensorFlow says of a label that is none.

    It knows of the outputs of models that `check_labels` does not.
    """
    if label := _OUTSIDE.search(str(error)):
        raise _wrong_labels(int(label[1]), int(label[1]), int(label[2])) from None


def _wrong_labels(least: int, largest: int, outputs: int) -> ProbeError:
    found = f"labels {least} to {largest} were" if least < largest else f"label {least} was"
    return ProbeError(
        f"y: class {found} found; allowed: 0 to {outputs - 1}, because the model has {outputs} "
        "outputs"
    )


def _check_loss(model: Any) -> None:
    """Find out whether a model has a loss that does not take a training step to compute.

    Raises
    ------
    ProbeError
        If its loss is neither compiled nor that of a ``compute_loss`` of its own: it is what layers
        add, or what its ``train_step`` computes.
    """
    if model._compile_loss is not None or has_own(model, "compute_loss"):
        return
    begin = f"probe: model {model.name!r} has no loss"
    watch = "let a gradprop.Monitor watch its fit"
    if has_own_step(model):
        raise ProbeError(
            f"{begin} but what its own train_step computes, which a probe does not make; {watch}, "
            "or compute the loss in compute_loss"
        )
    raise ProbeError(
        f"{begin} that is compiled, and a probe looks at no other, such as that of add_loss; call "
        f"its compile(loss=...) before, or {watch}"
    )


def mean_loss(model: Any) -> bool:
    """Tell whether the loss of a model is a mean over the minibatch; Keras's default is."""
    compiled = getattr(model, "_compile_loss", None)
    flat = getattr(compiled, "_flat_losses", None) or []
    kinds = {getattr(part.loss, "reduction", "mean") for part in flat}
    return not kinds or not kinds <= {"sum", None}
