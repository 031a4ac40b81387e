"""What there is to measure in a Keras model: its layers, their weights and activation functions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradprop.components import activations
from gradprop.components.activations import Activation

# What Keras calls the weights that a layer's inputs are multiplied with, and those added.
_MATRICES = ("kernel", "depthwise_kernel", "embeddings", "gamma")
_SHIFTS = ("bias", "beta")
# Layers that normalize their inputs.
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
    keras.layers.RMSNormalization,
)
# Operations of a functional model that are activation functions; the name of the class in lower
# case is that of the function.
_OPERATIONS = (
    *("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "Selu", "Gelu", "Silu", "Softmax"),
    *("Mish", "LeakyRelu", "Relu6", "HardSigmoid", "HardSilu", "LogSoftmax"),
)
#: What a softmax of a softmax is called.
TWICE = "softmax of softmax"
_OTHER_NAMES = {"silu": "swish", "hard_silu": "hard_swish"}


@dataclass(frozen=True)
class Unmeasured:
    """Something of a layer that is not in the tables.

    Attributes
    ----------
    layer
        Its name; empty for all layers.
    what
        The quantity, in the words of the statistics.
    why
        The reason, a clause.
    """

    layer: str
    what: str
    why: str


@dataclass(frozen=True, eq=False)
class Weights:
    """One matrix of weights and what is added to its products.

    Attributes
    ----------
    name
        The layer's, with that of the matrix where the layer has several.
    matrix
        The variable W; None if the layer has none.
    shift
        The variable b; None if the layer has none.
    """

    name: str
    matrix: Any
    shift: Any = None


@dataclass(frozen=True, eq=False)
class Watched:
    """A layer that is called as a whole.

    Attributes
    ----------
    layer
        The Keras layer, or the operation of a functional model.
    name
        The names of the layers that it is in, the model's left out, and its own, with slashes.
    weights
        Its matrices of weights, the main one first; empty of a layer without weights.
    """

    layer: Any
    name: str
    weights: list[Weights] = field(default_factory=list)

    @property
    def is_recurrent(self) -> bool:
        """Whether it calls what it is made of in a loop over time."""
        return isinstance(self.layer, keras.layers.RNN)


def watched(model: Any) -> list[Watched]:
    """Return the layers of a built model whose calls are looked at, in the order of its tree."""
    found: dict[int, Watched] = {}
    for layer, name in _tree(model, ""):
        if id(layer) not in found:
            found[id(layer)] = Watched(layer, name, _weights_of(layer, name))
    for operation in _operations(model):
        found.setdefault(id(operation), Watched(operation, operation.name))
    return list(found.values())


def has_own(model: Any, method: str) -> bool:
    """Tell whether the class of a model has a method of its own in place of Keras's."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


def has_own_step(model: Any) -> bool:
    """Tell whether a model is trained by another ``train_step`` than Keras's."""
    return getattr(model.train_step, "__func__", None) is not keras.Model.train_step


def wrappers(model: Any) -> list[Any]:
    """Return the layers of a model that call another layer once for every time step."""
    parts = model._flatten_layers(include_self=False)
    return [part for part in parts if isinstance(part, keras.layers.TimeDistributed)]


def _tree(parent: Any, path: str) -> Iterator[tuple[Any, str]]:
    for layer in parent._layers:
        name = f"{path}{layer.name}"
        recurrent = isinstance(layer, keras.layers.RNN)
        if isinstance(layer, keras.layers.InputLayer | keras.metrics.Metric):
            continue
        if recurrent or not layer._layers or _own_variables(layer):
            yield layer, name
        if not recurrent:
            yield from _tree(layer, f"{name}/")


def _operations(model: Any) -> Iterator[Any]:
    """Yield the activation functions that a functional model calls without a layer."""
    for part in model._flatten_layers():
        for operation in getattr(part, "operations", []):
            if type(operation).__name__ in _OPERATIONS and not isinstance(
                operation, keras.layers.Layer
            ):
                yield operation


def _own_variables(layer: Any) -> list[Any]:
    return [*layer._trainable_variables]


def _weights_of(layer: Any, name: str) -> list[Weights]:
    recurrent = isinstance(layer, keras.layers.RNN)
    own = list(layer.trainable_variables or layer.weights) if recurrent else _own_variables(layer)
    if not own:
        return []
    shifts = [v for v in own if v.name in _SHIFTS]
    matrices = [v for v in own if v.name not in _SHIFTS] or [None]
    # The main matrix is first; a biased sum of several products has one bias.
    matrices.sort(key=lambda v: v is None or v.name not in _MATRICES)
    shift = shifts[0] if shifts else None
    main = Weights(name, matrices[0], shift)
    others = [Weights(f"{name}/{v.name}", v) for v in matrices[1:]]
    return [main, *others, *(Weights(f"{name}/{v.name}", v) for v in shifts[1:])]


def optimizers(model: Any) -> list[Any]:
    """Return the optimizer of a model and those that it keeps besides.

    Networks that are trained against each other have one each. Of one that scales the loss for
    another, the inner one is left out. With JAX the model's own makes all steps.
    """
    if keras.backend.backend() != "tensorflow":
        return [model.optimizer]
    parts = tf.train.TrackableView(model).descendants()
    found = [part for part in parts if isinstance(part, keras.optimizers.Optimizer)]
    inner = [getattr(optimizer, "inner_optimizer", None) for optimizer in found]
    found = [o for o in found if all(o is not other for other in (*inner, model.optimizer))]
    return [model.optimizer, *found] if model.optimizer else found


def kept_by(optimizer: Any) -> list[Any]:
    """Return the variables of an optimizer, and those of a class of one's own that are its own."""
    own = [getattr(part, "state", part) for part in vars(optimizer).values()]
    return [*optimizer.variables, *(v for v in own if isinstance(v, tf.Variable | keras.Variable))]


def kinds_of_optimizers() -> list[Any]:
    """Return the classes of optimizers, somebody's own included, that define ``apply``."""
    (base,) = (kind for kind in keras.optimizers.Optimizer.__mro__ if "apply" in kind.__dict__)
    found: list[Any] = []
    waiting = [base]
    while waiting:
        kind = waiting.pop()
        waiting += [below for below in kind.__subclasses__() if below not in (*found, *waiting)]
        if "apply" in kind.__dict__ and kind not in found:
            found.append(kind)
    return found


def others(model: Any) -> list[Any]:
    """Return the variables that Keras does not count among a model's, and a step may change.

    Those that stateful recurrent layers keep, and those of TensorFlow and of generators that the
    model, a layer, or an optimizer has.
    """
    layers = [part for part in model._flatten_layers() if isinstance(part, keras.layers.RNN)]
    kept = [tf.nest.flatten(part.states) for part in layers if part.stateful and part.built]
    known = {id(v) for group in (model, *optimizers(model)) for v in group.variables}
    parts = tf.train.TrackableView(model).descendants()
    kinds = (tf.Variable, keras.Variable)
    own = [part for part in parts if isinstance(part, kinds) and id(part) not in known]
    return [*own, *(variable for group in kept for variable in group if variable is not None)]


def is_of_keras(part: Any) -> bool:
    """Tell whether a layer, or an optimizer, is of a class of Keras itself."""
    return type(part).__module__.startswith("keras.")


def may_be_activation(layer: Any, inputs: Sequence[Any], outputs: Any) -> bool:
    """Tell whether a layer without weights may apply a function to every number that it gets.

    A `Lambda`, or a class of one's own without layers inside, that keeps the shape of its input.
    """
    is_own = isinstance(layer, keras.layers.Lambda) or not is_of_keras(layer)
    shapes = [x.shape.as_list() for x in inputs if tf.is_tensor(x)]
    return is_own and not layer._layers and outputs.shape.as_list() in shapes


def is_activation(layer: Any) -> bool:
    """Tell whether a layer, or an operation of a functional model, is an activation function."""
    if not isinstance(layer, keras.layers.Layer):
        return True  # no other operation is watched
    return type(layer) in _activation_layers()


@cache
def _activation_layers() -> set[type]:
    names = ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax")
    return {getattr(keras.layers, name) for name in names}


def function_of(layer: Any) -> Activation | str:
    """Return the activation function that a layer applies, as far as its saturation is known.

    Returns
    -------
    Activation or str
        An entry of the registry or, for another function that acts element by element, one that is
        made of it; the name of any other function.
    """
    kind = type(layer).__name__
    if kind == "LeakyReLU":
        return activations.get(f"leaky_relu(slope={layer.negative_slope:g})")
    if kind == "ELU":
        return activations.get("elu" if layer.alpha == 1 else f"elu(alpha={layer.alpha:g})")
    if kind == "ReLU":
        plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
        return activations.get("relu") if plain else _searched(layer, "relu with parameters")
    if kind in ("PReLU", "Softmax"):
        return kind.lower()
    if not isinstance(layer, keras.layers.Layer):
        return _registered(_snake(kind)) or _searched(layer, _snake(kind))
    return function_named(getattr(layer, "activation", None))


def function_named(function: Any) -> Activation | str:
    """Return what `function_of` does, of a function that Keras accepts as an activation."""
    if function is None:
        return activations.get("linear")
    if isinstance(function, keras.layers.Layer):
        return function_of(function)
    name = getattr(function, "__name__", type(function).__name__)
    known, found = _registered(name), _searched(function, name)
    if known is None or getattr(keras.activations, name, None) is function:
        return known or found
    # A function may have the name of another one.
    z = np.linspace(-3, 3, 7)
    if isinstance(found, str) or not np.allclose(found.function(z), known.function(z), atol=1e-6):
        return (
            f"another {name}" if isinstance(found, str) else replace(found, name=f"another {name}")
        )
    return known


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _registered(name: str) -> Activation | None:
    name = _OTHER_NAMES.get(name, name)
    if name == "leaky_relu":
        slope = inspect.signature(keras.activations.leaky_relu).parameters["negative_slope"].default
        return activations.get(f"leaky_relu(slope={slope:g})")
    return activations.ACTIVATIONS.get(name)


def _searched(function: Any, name: str) -> Activation | str:
    """Make an activation function of one that acts element by element; else return its name."""
    if name in ("softmax", "log_softmax"):
        return name

    def slope(z: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        at = tf.constant(np.asarray(z, dtype=np.float32))
        with tf.GradientTape() as tape:
            tape.watch(at)
            values = function(at)
        return np.asarray(tape.gradient(values, at), dtype=np.float64)

    line = np.linspace(-3, 3, 7, dtype=np.float32)
    try:
        with tf.init_scope():
            row, column = (
                np.asarray(function(tf.constant(z))) for z in (line[None], line[:, None])
            )
            if row.shape != (1, 7) or not np.array_equal(row.ravel(), column.ravel()):
                return name
            tails = activations.find_saturation(slope)
    except Exception:
        # Somebody's function may want other shapes; its saturation then remains unknown.
        return name
    return Activation(
        name=name,
        definition="a function of the model",
        source="the model",
        function=lambda z: np.asarray(function(tf.constant(z, tf.float32)), dtype=np.float64),
        derivative=slope,
        second_derivative=lambda z: np.full(np.shape(z), np.nan),
        tails=tails,
        homogeneous=False,
    )
