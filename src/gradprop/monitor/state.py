"""What a training step changes, and how it is set back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from tensorflow.python.eager import context
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable as ResourceVariable

from gradprop.monitor import layers

if TYPE_CHECKING:
    from gradprop.monitor.instruments import Instruments

Tensor = Any
_OF_KERAS = "global_seed_generator"
State = list[tuple[Any, Tensor]]  # variables of Keras or TensorFlow, and their values


@contextmanager
def unchanged(
    instruments: Instruments, optimizer: bool = True, further: Sequence[Any] = ()
) -> Iterator[State]:
    """Set every variable of a model back after the block: whatever a step changes.

    These are weights, running means, the states of random generators, of stateful recurrent layers,
    of metrics, TensorFlow's own variables, what is in `further` and those of optimizers: of the
    model's own one, unless it is left alone in the block (``optimizer=False``), and of all that it
    keeps besides. The block gets all of them with their values. Variables that are made in it get
    those that they began with.
    """
    model = instruments.model
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    applied = [one for one in instruments.optimizers if optimizer or one is not model.optimizer]
    of_optimizers = [variable for one in applied for variable in layers.kept_by(one)]
    variables = [*model.variables, *instruments.others, *metrics, *of_optimizers, *further]
    if model.run_eagerly:
        variables.append(tf.random.get_global_generator().state)
    once = {id(_variable(variable)): variable for variable in variables}.values()
    before = [(variable, read(variable)) for variable in once]
    made = instruments.met = []

    def note(make: Callable[..., Any], **given: Any) -> Any:
        variable = make(**given)
        if tf.executing_eagerly():
            made.append((variable, read(variable)))
        return variable

    try:
        with tf.variable_creator_scope(note), same_draws(model):
            yield before
    finally:
        set_back([*before, *made])
        known = {id(variable) for variable in metrics}
        for metric in model.metrics:  # Keras makes those that are compiled in the very first step
            if any(id(variable) not in known for variable in metric.variables):
                metric.reset_state()


@contextmanager
def same_draws(model: Any) -> Iterator[None]:
    """Set the generators of the process back after the block, so that the same is drawn again.

    Those of Python and NumPy, by which a layer of one's own may draw, that of `keras.random`, and
    where steps are not compiled, the seeds of TensorFlow's operations.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    of_keras = get_global_attribute(_OF_KERAS)  # made when it is first needed
    kept = [(of_keras.state, read(of_keras.state))] if of_keras is not None else []
    seeds = getattr(context.context(), "_rng", None)
    of_tensorflow = seeds and seeds.getstate()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        set_back(kept)
        set_global_attribute(_OF_KERAS, of_keras)
        if seeds and model.run_eagerly and seeds.getstate() != of_tensorflow:
            seeds.setstate(of_tensorflow)
            context.context().clear_kernel_cache()  # which go on where they were


def set_back(state: State) -> None:
    """Give variables the values that they had."""
    for variable, value in state:
        inner = _variable(variable)
        if isinstance(inner, ResourceVariable):
            tf.raw_ops.AssignVariableOp(resource=inner.handle, value=value)
        else:
            variable.assign(value)


def read(variable: Any) -> Tensor:
    """Return the value of a variable of Keras or of TensorFlow.

    Reading does not copy, and an update that would write into what is read copies first. The
    operation alone takes a tenth of the time of Keras's own ways, which a probe goes for every
    variable.
    """
    inner = _variable(variable)
    if not isinstance(inner, ResourceVariable):
        return tf.identity(inner)
    return tf.raw_ops.ReadVariableOp(resource=inner.handle, dtype=inner.dtype)


def _variable(variable: Any) -> Any:
    """Return TensorFlow's variable behind one of Keras, or itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable
