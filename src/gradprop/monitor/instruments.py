"""What a training step of a Keras model computes, read off while it computes it.

Nothing of the model is replaced for good. While a probed step runs (or is traced), the layers'
``call`` and ``activation``, the optimizer's ``apply`` and the model's ``compute_loss`` are wrapped
by attributes of the instances, which hide those of their classes and are deleted afterwards.
A pre-activation passes through an identity with a gradient of its own, which hands dC/dz on
unchanged and keeps it. So the step computes what it would compute without the instruments, up to
rounding: TensorFlow may fuse operations only where nobody looks in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager import record

from gradprop.components import activations
from gradprop.components.activations import Activation
from gradprop.monitor import layers
from gradprop.monitor.layers import Unmeasured, Watched
from gradprop.monitor.state import State, read, same_draws

#: What a layer of its own kind applies, until an activation layer follows.
UNKNOWN = "unknown"
#: What recurrent layers apply: functions of gates, in every time step.
RECURRENT = "recurrent"
#: What of a recurrent layer a table of its own has.
BY_TIME = "dC/dx by time step"

Tensor = Any
# Classes of optimizers are instrumented by one thread at a time, and put back in order.
_ATTACHING = threading.RLock()


@dataclass(eq=False)
class Call:
    """One call of a layer with weights in a step.

    The calls that a wrapper makes of it, one for every time step, are one (`Instruments._wrapped`).

    Attributes
    ----------
    watched
        The layer.
    number
        1 for the first call of the layer in the step; a shared layer has several.
    z
        The pre-activation: what the activation function is applied to, normalized where a
        normalization follows the layer, and with the skip added where one joins before it.
    activation
        What the layer hands on: phi(z), with the skip added where one joins behind it.
    signal
        dC/dz of the minibatch loss.
    function
        phi: an entry of the registry, or the name of a function whose tails are not known.
    """

    watched: Watched
    number: int
    z: Tensor = None
    activation: Tensor = None
    signal: Tensor = None
    function: Activation | str = "linear"
    is_open: bool = True  # no activation function was applied yet
    where: tuple[int, ...] = ()  # what of it dC/dz is read at, one tap for every time step
    extra: str = ""  # what else acts on it: a normalization, a skip, recurrence
    sequence: Tensor = None  # of a recurrent layer: time steps, mean square of the inputs
    entry: int = 0  # of a recurrent layer: the tap of its inputs
    mask: Tensor = None  # of a recurrent layer: which time steps of which examples it takes

    @property
    def name(self) -> str:
        """Name of the layer, with the number of the call from the second on."""
        return self.watched.name if self.number == 1 else f"{self.watched.name}#{self.number}"


@dataclass
class Values:
    """A probed step in NumPy, by the position of a call or of a variable.

    Attributes
    ----------
    preactivations, activations, signals
        By the position in `Trace.calls`; those that could not be had are not there.
    sequences
        By the same position, of recurrent layers: how many time steps their inputs have, and the
        mean square of an entry of these.
    times
        By the same position, of recurrent layers: ``sqrt(E[(dC/dx_t)^2])`` for the inputs x_t of
        every time step, over entries and the examples that are not masked there, in the order in
        which the layer takes them; NaN where all are masked.
    gradients, before, after
        dC/dW, and the weights before and after the step, by `id` of the Keras variable.
    loss
        The loss that was minimized, NaN if the model computes none through ``compute_loss``.
    has_loss
        Whether it does.
    penalty
        What of the loss is no matter of the data: the sum of weight penalties and of what layers
        add by ``add_loss``. 0 of a model whose only loss this is.
    scale
        What a loss scaling multiplied the loss, and so signals and gradients, with.
    examples
        Size of the minibatch.
    inputs, targets
        Moments of what the first layer with weights gets, and of the targets (`moments`).
    bad_inputs, bad_targets
        Fractions of the inputs and the targets of the step that are NaN or infinite.
    outputs
        The smallest and the largest output that the loss gets; NaN of several outputs.
    labels, weights
        The targets and the sample weights that the loss gets, None where it gets several or none.
    recovers_logits
        Whether Keras's losses go back to what the softmax or sigmoid of the outputs was taken of,
        whatever they are told of logits: with TensorFlow, in the precision of the loss.
    is_exact
        Whether the rehearsed step led to the same weights as the step itself, bit for bit.
    """

    preactivations: dict[int, NDArray[Any]]
    activations: dict[int, NDArray[Any]]
    signals: dict[int, NDArray[Any]]
    sequences: dict[int, NDArray[Any]]
    times: dict[int, NDArray[Any]]
    gradients: dict[int, NDArray[Any]]
    before: dict[int, NDArray[Any]]
    after: dict[int, NDArray[Any]]
    loss: float
    has_loss: bool
    scale: float
    examples: int
    inputs: NDArray[Any]
    targets: NDArray[Any]
    bad_inputs: float
    bad_targets: float
    outputs: NDArray[Any]
    penalty: float = 0.0
    recovers_logits: bool = False
    is_exact: bool = True
    labels: NDArray[Any] | None = None
    weights: NDArray[Any] | None = None

    @property
    def has_bad_loss(self) -> bool:
        """Whether the loss is known and not finite."""
        return self.has_loss and not np.isfinite(self.loss)


@dataclass
class Trace:
    """What the instruments met in one pass through a step, and the tensors that they keep."""

    calls: list[Call] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)
    gradients: dict[int, Tensor] = field(default_factory=dict)
    applies: bool = True  # whether gradients are handed on to the optimizer
    given: list[Tensor | None] = field(default_factory=list)  # what it would get
    no_update: str = "no optimizer of the model made a step"  # empty if one did
    optimizers: list[Any] = field(default_factory=list)  # those that made one, each once
    loss: Tensor = None
    penalty: Tensor = 0.0
    scale: Tensor = 1.0
    inputs: Tensor = None
    targets: Tensor = None  # of fractions
    labels: Tensor = None  # of whole numbers
    weights: Tensor = None
    bad_inputs: Tensor = 0.0
    bad_targets: Tensor = 0.0
    outputs: Tensor = None
    recovers_logits: bool = False
    graph: Any = None
    # Of tensors, by `id`: whose they are, and the tensor, so that no other gets the same id.
    owners: dict[int, tuple[Call, Tensor]] = field(default_factory=dict)
    taps: dict[int, Tensor] = field(default_factory=dict)
    running: list[Call] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)  # what layers and the loss get, by `id`

    def lacks(self, layer: str, what: str, why: str) -> None:
        """Note that something is not measured."""
        note = Unmeasured(layer, what, why)
        if note not in self.unmeasured:
            self.unmeasured.append(note)

    def tensors(self, examples: Tensor) -> dict[str, Any]:
        """Return all that is kept, as a nest of tensors that a compiled function can return."""
        groups: dict[str, dict[int, Tensor]] = {
            "preactivations": {i: c.z for i, c in enumerate(self.calls)},
            "activations": {i: c.activation for i, c in enumerate(self.calls)},
            "signals": {i: self.signal_of(c) for i, c in enumerate(self.calls)},
            "sequences": {i: c.sequence for i, c in enumerate(self.calls)},
            "times": {i: self.times_of(c) for i, c in enumerate(self.calls)},
            "gradients": self.gradients,
            "data": dict(
                enumerate((self.inputs, self.targets, self.outputs, self.labels, self.weights))
            ),
        }
        kept: dict[str, Any] = {
            name: {str(key): _plain(t) for key, t in group.items() if t is not None}
            for name, group in groups.items()
        }
        loss = np.nan if self.loss is None else self.loss
        return kept | {
            "loss": tf.cast(loss, tf.float32),
            "has_loss": tf.constant(self.loss is not None),
            "recovers_logits": tf.constant(self.recovers_logits),
            "penalty": tf.cast(self.penalty, tf.float32),
            "scale": tf.cast(self.scale, tf.float32),
            "examples": examples,
            "bad_inputs": tf.cast(self.bad_inputs, tf.float64),
            "bad_targets": tf.cast(self.bad_targets, tf.float64),
            "given": self.given,
        }

    def signal_of(self, call: Call) -> Tensor | None:
        """Return dC/dz of a call; None if no gradient comes to it, or to one of its time steps."""
        found = [self.taps.get(place) for place in call.where]
        if not found or any(signal is None for signal in found):
            return None
        return found[0] if len(found) == 1 else _over_time(call, found)

    def times_of(self, call: Call) -> Tensor | None:
        """Return the root mean square of dC/dx of every time step (`Values.times`)."""
        signal = self.taps.get(call.entry)
        if signal is None:
            return None
        x = tf.cast(signal, tf.float64)
        squares = tf.reduce_mean(x * x, axis=[*range(2, len(x.shape))])
        taken = tf.ones_like(squares) if call.mask is None else tf.cast(call.mask, tf.float64)
        sizes = tf.sqrt(tf.reduce_sum(squares * taken, 0) / tf.reduce_sum(taken, 0))
        return tf.reverse(sizes, [0]) if call.watched.layer.go_backwards else sizes

    def merge(self, calls: Sequence[Call]) -> None:
        """Let calls of one layer, one for every time step, be one: the first of them."""
        first, *others = calls
        for name in ("z", "activation"):
            parts = [getattr(call, name) for call in calls]
            known = all(part is not None for part in parts)
            setattr(first, name, _over_time(first, parts) if known else None)
        first.where = tuple(place for call in calls for place in call.where)
        if first.entry:
            why = "a wrapper calls it for every time step of its own"
            self.lacks(first.name, BY_TIME, why)
            first.entry = 0
        gone = {call.name for call in others}
        self.calls = [call for call in self.calls if call not in others]
        self.unmeasured = [note for note in self.unmeasured if note.layer not in gone]
        for key, (owner, tensor) in list(self.owners.items()):
            if owner in others:
                self.owners[key] = first, tensor

    def is_inside(self, tensor: Tensor) -> bool:
        """Tell whether a tensor belongs to the step itself and not to a loop or branch in it."""
        return tensor is None or getattr(tensor, "graph", None) is self.graph


def _over_time(call: Call, parts: Sequence[Tensor]) -> Tensor:
    """Return values of time steps as one tensor: time follows examples, or channels after them."""
    is_channels_first = getattr(call.watched.layer, "data_format", None) == "channels_first"
    return tf.stack(parts, axis=2 if is_channels_first else 1)


def values_of(tensors: dict[str, Any], before: dict[int, NDArray[Any]]) -> Values:
    """Return what a probed step handed out (`Trace.tensors`) in NumPy, with its first weights."""

    def group(name: str) -> dict[int, NDArray[Any]]:
        return {int(key): np.asarray(tensor) for key, tensor in tensors[name].items()}

    data = group("data")
    return Values(
        preactivations=group("preactivations"),
        activations=group("activations"),
        signals=group("signals"),
        sequences=group("sequences"),
        times=group("times"),
        gradients=group("gradients"),
        before=before,
        after={},
        loss=float(tensors["loss"]),
        has_loss=bool(tensors["has_loss"]),
        penalty=float(tensors["penalty"]),
        recovers_logits=bool(tensors["recovers_logits"]),
        scale=float(tensors["scale"]),
        examples=int(tensors["examples"]),
        inputs=moments(data.get(0)),
        targets=moments(data.get(1)),
        outputs=extremes(data.get(2)),
        bad_inputs=float(tensors["bad_inputs"]),
        bad_targets=float(tensors["bad_targets"]),
        labels=data.get(1, data.get(3)),
        weights=data.get(4),
    )


def moments(values: NDArray[Any] | None) -> NDArray[Any]:
    """Return mean, standard deviation, largest magnitude, variance of a column, smallest entry.

    In float64, over all entries x of a minibatch: E[x], sqrt(E[(x - E[x])^2]), max |x|; and for
    every column (all axes but the first) the variance over the examples, averaged over columns,
    which is the squared error of the best constant guess; min x. NaN without values.
    """
    if values is None or not values.size:
        return np.full(5, np.nan)
    x = values.astype(np.float64)
    with np.errstate(all="ignore"):  # NaN and infinity are data here
        found = [x.mean(), x.std(), np.abs(x).max(), x.var(axis=0).mean(), x.min()]
    return np.array(found)


def extremes(values: NDArray[Any] | None) -> NDArray[Any]:
    """Return the smallest and the largest entry; NaN without values."""
    if values is None or not values.size:
        return np.full(2, np.nan)
    return np.array([values.min(), values.max()], dtype=np.float64)


def nonfinite_fraction(values: Any) -> Tensor:
    """Return which fraction of the numbers of a nest of tensors is NaN or infinite; 0 of none."""
    numbers = [t for t in tf.nest.flatten(values) if isinstance(t, tf.Tensor)]
    numbers = [t for t in numbers if t.dtype.is_floating]
    bad = [tf.math.count_nonzero(~tf.math.is_finite(t), dtype=tf.float64) for t in numbers]
    sizes = [tf.cast(tf.size(t), tf.float64) for t in numbers]
    return tf.math.divide_no_nan(tf.add_n(bad), tf.add_n(sizes)) if numbers else 0.0


def _plain(tensor: Tensor) -> Tensor:
    """Return a dense tensor of at least single precision."""
    dense = tf.convert_to_tensor(tensor)
    return dense if dense.dtype in (tf.float32, tf.float64) else tf.cast(dense, tf.float32)


class Instruments:
    """The instruments on one model.

    Attributes
    ----------
    trace
        Of the step that was traced, or computed eagerly, last.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.watched = layers.watched(model)
        self.wrappers = layers.wrappers(model)
        with same_draws(model):  # functions are tried out
            self.functions = {id(w.layer): layers.function_of(w.layer) for w in self.watched}
        self.optimizers, self.others = layers.optimizers(model), layers.others(model)
        self.met: State = []  # of optimizers that were met in an eager step
        self.trace = Trace()
        self._applying = False

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attach the instruments for as long as the block lasts."""
        with ExitStack() as stack:
            stack.enter_context(_ATTACHING)
            for watched in self.watched:
                stack.enter_context(hidden(watched.layer, "call", self._call(watched)))
                if watched.weights and not watched.is_recurrent:
                    self._attach_to_activation(stack, watched)
            for wrapper in self.wrappers:
                stack.enter_context(hidden(wrapper, "call", self._wrapped(wrapper)))
            for part in self.model._flatten_layers():
                if hasattr(part.call, "python_function"):  # compiled by itself
                    stack.enter_context(hidden(part, "call", part.call.python_function))
            for kind in layers.kinds_of_optimizers():
                stack.enter_context(replaced(kind, "apply", self._apply(kind.apply)))
            stack.enter_context(hidden(self.model, "compute_loss", self._loss()))
            stack.enter_context(
                hidden(self.model, "_aggregate_additional_loss", self._additional_loss())
            )
            yield

    def observed(self, step: Callable[[Any], Any], applies: bool = True) -> Callable[[Any], Any]:
        """Return a training step that hands out what it computed (`Trace.tensors`).

        Parameters
        ----------
        step
            The training step.
        applies
            Whether its optimizer applies the gradients; otherwise they are among what is handed
            out, ``given``.
        """

        def probed(data: Any) -> Any:
            self.trace = trace = Trace(applies=applies)
            leaves = [x for x in tf.nest.flatten(data) if tf.is_tensor(x)]
            trace.graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
            parts = data if isinstance(data, tuple | list) else (data,)
            trace.bad_inputs = nonfinite_fraction(parts[0])
            trace.bad_targets = nonfinite_fraction(parts[1:2])
            step(data)
            self._conclude(trace)
            return trace.tensors(tf.shape(leaves[0])[0])

        return probed

    def weights(self) -> dict[int, NDArray[Any]]:
        """Return matrices and biases of all layers, by `id` of the Keras variable."""
        found = [v for one in self.watched for w in one.weights for v in (w.matrix, w.shift)]
        return {id(v): np.asarray(read(v)) for v in found if v is not None}

    def _call(self, watched: Watched) -> Callable[..., Any]:
        original = watched.layer.call

        def call(*args: Any, **kwargs: Any) -> Any:
            trace = self.trace
            inputs = tf.nest.flatten((args, kwargs))
            trace.taken.update(map(id, inputs))
            if not watched.weights:
                outputs = original(*args, **kwargs)
                self._follow(watched, inputs, outputs)
                return outputs
            if not trace.calls:
                trace.inputs = self._scaled(watched, inputs)
            before = sum(c.watched is watched for c in trace.calls)
            call = Call(watched, before + 1)
            if watched.is_recurrent:
                call.extra, call.sequence = "recurrence", self._sequence(inputs)
                call.function = RECURRENT
                args, kwargs = self._enter(call, args, kwargs)
            trace.calls.append(call)
            trace.running.append(call)
            try:
                outputs = original(*args, **kwargs)
            finally:
                trace.running.pop()
            outputs = self._leave(call, outputs)
            if isinstance(watched.layer, layers.NORMALIZATIONS):
                self._normalized(inputs, outputs, call)
            elif layers.is_activation(watched.layer):
                self._follow(watched, inputs, outputs)
            return outputs

        return call

    def _wrapped(self, wrapper: Any) -> Callable[..., Any]:
        """Return a wrapper's ``call``, whose calls of a layer for every time step are one call.

        A layer that is called several times within one time step is as many.
        """
        original, layer = wrapper.call, wrapper.layer
        watched = next((w for w in self.watched if w.layer is layer), None)

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            trace = self.trace
            trace.taken.add(id(inputs))
            before = len(trace.calls)
            outputs = original(inputs, *args, **kwargs)
            of_layer: dict[int, list[Call]] = {}
            for made in trace.calls[before:]:
                of_layer.setdefault(id(made.watched), []).append(made)
            for calls in of_layer.values():
                within = len(calls) // inputs.shape[1]
                for number in range(within):
                    trace.merge(calls[number::within])
            if watched is not None:
                self._stands_for(watched, before, inputs, outputs)
            return outputs

        return call

    def _stands_for(self, watched: Watched, before: int, inputs: Tensor, outputs: Tensor) -> None:
        """Let what a wrapper gets and hands on count as its layer's, which saw time steps."""
        made = self.trace.calls[before:]
        if made:
            self._own(made[0], outputs)
            if before == 0:
                self.trace.inputs = self._scaled(watched, [inputs])
        if made and isinstance(watched.layer, layers.NORMALIZATIONS):
            self._normalized([inputs], outputs, made[0])
        elif layers.is_activation(watched.layer):
            self._follow(watched, [inputs], outputs)

    def _scaled(self, watched: Watched, inputs: Sequence[Any]) -> Tensor:
        """Return what the first layer with weights gets, if its scale matters to that layer."""
        numbers = [x for x in inputs if isinstance(x, tf.Tensor) and x.dtype.is_floating]
        if isinstance(watched.layer, (*layers.NORMALIZATIONS, keras.layers.Embedding)):
            return None
        return numbers[0] if numbers and self.trace.is_inside(numbers[0]) else None

    def _sequence(self, inputs: Sequence[Any]) -> Tensor:
        """Return the number of time steps and the mean square of what a recurrent layer gets."""
        found = [x for x in inputs if isinstance(x, tf.Tensor) and x.dtype.is_floating]
        if not found or len(found[0].shape) < 3 or not self.trace.is_inside(found[0]):
            return None
        numbers = tf.cast(found[0], tf.float32)
        return tf.stack([tf.cast(tf.shape(numbers)[1], tf.float32), tf.reduce_mean(numbers**2)])

    def _enter(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Tap the inputs of a recurrent layer, the first of its arguments."""
        inputs: Any = args[0] if args else kwargs.get("sequences")
        if call.sequence is None or not tf.is_tensor(inputs) or not inputs.dtype.is_floating:
            self.trace.lacks(call.name, BY_TIME, "its inputs are no sequence of fractions")
            return args, kwargs
        mask = tf.nest.flatten(kwargs.get("mask", args[2] if len(args) > 2 else None))[0]
        call.mask = mask if tf.is_tensor(mask) and self.trace.is_inside(mask) else None
        # No gradient comes to what depends on no weight, as data do, unless one stands beside it.
        weight = tf.convert_to_tensor(call.watched.weights[0].matrix.value)
        tapped, call.entry = self._tap(inputs, weight)
        return (tapped, *args[1:]), {k: v for k, v in kwargs.items() if k != "sequences"}

    def _attach_to_activation(self, stack: ExitStack, watched: Watched) -> None:
        layer = watched.layer
        original = layer.__dict__.get("activation")
        if not callable(original) or isinstance(original, keras.layers.Layer):
            return

        def activation(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            running = self.trace.running
            call = running[-1] if running and running[-1].watched is watched else None
            if call is None or call.z is not None or not self.trace.is_inside(z):
                return original(z, *args, **kwargs)
            call.z = z = self._tap_signal(call, z)
            call.activation = original(z, *args, **kwargs)
            call.function = self.functions[id(layer)]
            call.is_open = call.function == activations.get("linear")
            return call.activation

        stack.enter_context(hidden(layer, "activation", activation))

    def _leave(self, call: Call, outputs: Any) -> Any:
        """Keep what a layer with weights hands on; tap it where no activation function was met."""
        parts = outputs if isinstance(outputs, list | tuple) else [outputs]
        first = parts[0]
        if not tf.is_tensor(first) or not first.dtype.is_floating:
            self.trace.lacks(call.name, "activation, signal", "its output is no tensor of numbers")
            return outputs
        if not self.trace.is_inside(first):
            self.trace.lacks(call.name, "activation, signal", "it is called inside a loop")
            self.trace.calls.remove(call)
            return outputs
        if call.z is None:
            call.z = call.activation = first = self._tap_signal(call, first)
            if call.watched.is_recurrent:
                call.is_open = False
                why = "the gates are computed inside a loop; its output stands for them"
                self.trace.lacks(call.name, "preactivation of every time step", why)
            elif not layers.is_of_keras(call.watched.layer):
                call.function = UNKNOWN
                why = "a layer of its own kind; its output stands for its pre-activation, too"
                self.trace.lacks(call.name, "preactivation, activation function", why)
        elif call.activation is not first:
            call.activation = first  # the layer goes on behind its activation function
            if not layers.is_of_keras(call.watched.layer):
                call.function, call.is_open = UNKNOWN, False
        self._own(call, first)
        if parts is not outputs:
            return first
        return type(outputs)([first, *parts[1:]])

    def _tap_signal(self, call: Call, tensor: Tensor) -> Tensor:
        """Return a tensor unchanged; keep the gradient by it as the signal of a call."""
        tapped, place = self._tap(tensor)
        call.where = (place,)
        return tapped

    def _tap(self, tensor: Tensor, *beside: Tensor) -> tuple[Tensor, int]:
        """Return a tensor unchanged, and where in `Trace.taps` the gradient by it is kept.

        Gradients are computed of a tensor that depends on trained variables, or one `beside` it.
        """
        trace = self.trace
        place = len(trace.taps) + 1
        trace.taps[place] = None

        def backward(signal: Tensor) -> list[Tensor]:
            if trace.is_inside(signal):
                trace.taps[place] = signal
            return [signal, *(None for _ in beside)]

        # As `tf.custom_gradient` does, which takes ten times as long to trace.
        with record.stop_recording():
            tapped = tf.identity(tensor)
        record.record_operation("Tap", [tapped], [tensor, *beside], backward)
        mask = getattr(tensor, "_keras_mask", None)
        if mask is not None:
            tapped._keras_mask = mask
        return tapped, place

    def _own(self, call: Call, tensor: Tensor) -> None:
        self.trace.owners[id(tensor)] = call, tensor

    def _owner(self, inputs: Sequence[Any]) -> Call | None:
        """Return the latest call that one of these tensors is the output of."""
        owners = [self.trace.owners[id(t)][0] for t in inputs if id(t) in self.trace.owners]
        return max(owners, key=self.trace.calls.index, default=None)

    def _follow(self, watched: Watched, inputs: Sequence[Any], outputs: Any) -> None:
        """Let what a layer without weights makes of a layer's output count as that layer's."""
        owner = self._owner(inputs)
        if owner is None or not tf.is_tensor(outputs):
            return
        if layers.is_activation(watched.layer) and owner.is_open:
            owner.z, owner.activation = owner.activation, outputs
            owner.function = self.functions[id(watched.layer)]
            owner.is_open = False
        elif self.functions[id(watched.layer)] == owner.function == "softmax":
            owner.activation, owner.function = outputs, layers.TWICE
        elif isinstance(watched.layer, keras.layers.Add):
            owner.activation, owner.extra = outputs, "skip"
        elif owner.is_open and layers.may_be_activation(watched.layer, inputs, outputs):
            owner.z, owner.activation = owner.activation, outputs
            owner.function, owner.is_open = UNKNOWN, False
        elif not isinstance(watched.layer, keras.layers.Rescaling):
            return
        self._own(owner, outputs)

    def _normalized(self, inputs: Sequence[Any], outputs: Tensor, call: Call) -> None:
        """Let the output of a normalization be the pre-activation of the layer before it."""
        owner = self._owner([t for t in inputs if t is not outputs])
        if owner is None or owner is call or not owner.is_open:
            return
        owner.z = owner.activation = call.z
        owner.where, owner.extra = call.where, "normalization"
        call.is_open, call.function = False, activations.get("linear")
        self._own(owner, outputs)

    def _apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method ``apply`` of a class of optimizers, which keeps what it gets.

        A model may have its optimizers anywhere. One that calls another one's is the one that
        counts.
        """
        thread = threading.get_ident()  # others may train models of their own

        def apply(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if self._applying or threading.get_ident() != thread:
                return original(optimizer, *args, **kwargs)
            # Read here and once more, by methods whose arguments may have other names and follow.
            args = tuple(list(v) if isinstance(v, Iterator) else v for v in args)
            kwargs = {k: list(v) if isinstance(v, Iterator) else v for k, v in kwargs.items()}
            grads, variables = [
                *(v for v in (*args, *kwargs.values()) if isinstance(v, list | tuple)),
                optimizer._trainable_variables,
            ][:2]
            self._meet(optimizer)
            trace = self.trace
            trace.scale = loss_scale(optimizer)
            for variable, gradient in zip(variables, grads, strict=False):
                if gradient is not None and trace.is_inside(gradient):
                    trace.gradients[id(variable)] = gradient
            trace.no_update = ""
            if all(optimizer is not other for other in trace.optimizers):
                trace.optimizers.append(optimizer)
            if not trace.applies:
                trace.given = list(grads)
                return None
            self._applying = True
            try:
                return original(optimizer, *args, **kwargs)
            finally:
                self._applying = False

        return apply

    def _meet(self, optimizer: Any) -> None:
        """Note the variables of an optimizer that is no attribute of the model."""
        if all(optimizer is not other for other in self.optimizers):
            self.optimizers.append(optimizer)
            if tf.executing_eagerly():
                self.met += [(kept, read(kept)) for kept in layers.kept_by(optimizer)]

    def _loss(self) -> Callable[..., Any]:
        original = self.model.compute_loss

        def compute_loss(*args: Any, **kwargs: Any) -> Tensor:
            self.trace.taken.update(map(id, tf.nest.flatten((args, kwargs))))
            targets = tf.nest.flatten(kwargs.get("y", args[1] if len(args) > 1 else None))
            if len(targets) == 1 and isinstance(targets[0], tf.Tensor):
                is_floating = targets[0].dtype.is_floating
                setattr(self.trace, "targets" if is_floating else "labels", targets[0])
            weights = tf.nest.flatten(kwargs.get("sample_weight", args[3] if len(args) > 3 else ()))
            if len(weights) == 1 and tf.is_tensor(weights[0]):
                self.trace.weights = weights[0]
            outputs = tf.nest.flatten(kwargs.get("y_pred", args[2] if len(args) > 2 else None))
            if len(outputs) == 1 and tf.is_tensor(outputs[0]) and outputs[0].dtype.is_floating:
                self.trace.outputs = outputs[0]
                of_loss = tf.as_dtype(keras.config.floatx())  # a cast is another tensor
                knows = hasattr(outputs[0], "_keras_logits")
                self.trace.recovers_logits = knows and outputs[0].dtype == of_loss
            self.trace.penalty = 0.0
            self.trace.loss = loss = original(*args, **kwargs)
            return loss

        return compute_loss

    def _additional_loss(self) -> Callable[..., Any]:
        original = self.model._aggregate_additional_loss

        def aggregate(loss: Tensor) -> Tensor:
            added = original(loss)
            if self.model._compile_loss is not None:
                self.trace.penalty += added
            return added

        return aggregate

    def _conclude(self, trace: Trace) -> None:
        """Say what is missing of the step."""
        for name in ("inputs", "targets", "labels", "weights", "outputs"):
            if not trace.is_inside(getattr(trace, name)):  # of a function compiled by itself
                setattr(trace, name, None)
        if trace.loss is None or not trace.is_inside(trace.loss):
            trace.loss, trace.penalty = None, 0.0
            trace.lacks("", "loss", "the model's own train_step does not use compute_loss")
        elif self.model._compile_loss is None and not layers.has_own(self.model, "compute_loss"):
            why = "no loss is compiled: the loss of a minibatch is what layers add to it"
            trace.lacks("", "loss of the data, penalty", why)
        if trace.no_update:
            trace.lacks("", "update", trace.no_update)
        if sum(map(_scales, trace.optimizers)) > 1:
            why = "several optimizers scale the loss, and all values are divided by the last scale"
            trace.lacks("", "unscaled values", why)
        called = {id(call.watched) for call in trace.calls}
        for watched in self.watched:
            if watched.weights and id(watched) not in called:
                why = "Keras does not call it in the step, or not where it can be seen"
                if getattr(watched.layer, "quantization_mode", None):
                    why = "it computes with quantized weights, in a method of its own"
                trace.lacks(watched.name, "activation, signal", why)
        for call in trace.calls:
            self._conclude_call(trace, call)

    def _conclude_call(self, trace: Trace, call: Call) -> None:
        if trace.signal_of(call) is None:
            matrices = (w.matrix for w in call.watched.weights if w.matrix is not None)
            learns = any(id(matrix) in trace.gradients for matrix in matrices)
            why = "no gradient of the loss comes to it"
            if learns:  # an encoder whose states go on, for one
                why = "the loss depends on it otherwise than by its output"
            trace.lacks(call.name, "signal", why)
        if isinstance(call.function, str) and not call.is_open:
            why = f"the tails of {call.function!r} are not known"
            if call.function in (UNKNOWN, RECURRENT):
                why = "what it applies to its pre-activations is not seen"
            trace.lacks(call.name, "saturated and dead units", why)
        if call.is_open and not self._is_taken(trace, call):
            why = "its output goes to an operation that is no layer; it counts as linear"
            trace.lacks(call.name, "activation", why)
        for weights in call.watched.weights:
            if weights.matrix is not None and id(weights.matrix) not in trace.gradients:
                why = "its weights are frozen" if not weights.matrix.trainable else "it gets none"
                trace.lacks(weights.name, "gradient", why)

    def _is_taken(self, trace: Trace, call: Call) -> bool:
        owned = (key for key, (owner, _) in trace.owners.items() if owner is call)
        return any(key in trace.taken for key in owned)


def _scales(optimizer: Any) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or bool(
        optimizer.loss_scale_factor
    )


def loss_scale(optimizer: Any) -> Tensor:
    """Return what the loss was multiplied with against underflow."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return tf.identity(scale.value) if optimizer.built else scale
    return optimizer.loss_scale_factor or 1.0


@contextmanager
def replaced(kind: type, name: str, method: Any) -> Iterator[None]:
    """Replace a method that a class defines for as long as the block lasts."""
    before = kind.__dict__[name]
    setattr(kind, name, method)
    try:
        yield
    finally:
        setattr(kind, name, before)


@contextmanager
def hidden(thing: Any, name: str, attribute: Any) -> Iterator[None]:
    """Hide an attribute of an object behind another one.

    It is written past ``__setattr__``, which Keras uses to find out what belongs to a layer.
    """
    missing = object()
    before = thing.__dict__.get(name, missing)
    thing.__dict__[name] = attribute
    try:
        yield
    finally:
        if before is missing:
            del thing.__dict__[name]
        else:
            thing.__dict__[name] = before
