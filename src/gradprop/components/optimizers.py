"""Optimizers as element-wise updates of stacked variables, each replica with its own step size.

The arithmetic follows Keras's optimizers operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components import architecture
from gradprop.spec import Component, Scalar

Tensor = Any
Update = Callable[[Sequence[Tensor]], list[Tensor]]

# Names and parameters as in keras.optimizers, with Keras's defaults.
OPTIMIZERS: dict[str, Mapping[str, Scalar]] = {
    "sgd": {"momentum": 0.0},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
}


def create(value: str | Mapping[str, Any]) -> Component:
    """Normalize an optimizer as it stands in a study's YAML."""
    return Component.create(value, OPTIMIZERS)


def parameters(optimizer: Component) -> dict[str, Any]:
    """Return all parameters of an optimizer, defaults included."""
    return {**OPTIMIZERS[optimizer.name], **dict(optimizer.parameters)}


def create_update(
    optimizer: Component, variables: Sequence[Tensor], rates: NDArray[np.float32]
) -> Update:
    """Return the function that applies gradients to `variables`.

    Parameters
    ----------
    optimizer
        Entry of `OPTIMIZERS`.
    variables
        Stacked variables, each (replicas, rows, columns).
    rates
        Learning rate of every replica, (replicas, 1, 1).

    Returns
    -------
    callable
        From the gradients to what it subtracted from the variables.
    """
    makers: dict[str, Callable[..., Update]] = {"sgd": _sgd, "adam": _adam}
    return makers[optimizer.name](variables, rates, **parameters(optimizer))


def create_clip(clipping: Component) -> Update:
    """Return the function that clips the gradients of every replica by themselves.

    Parameters
    ----------
    clipping
        Entry of `gradprop.components.architecture.CLIPPINGS`.

    Returns
    -------
    callable
        From the gradients of all variables, each (replicas, rows, columns), to those that the
        optimizer sees.
    """
    makers: dict[str, Callable[..., Update]] = {
        "none": lambda: list,
        "norm": _clip_by_norm,
        "value": _clip_by_value,
    }
    return makers[clipping.name](**architecture.parameters(clipping, architecture.CLIPPINGS))


def _clip_by_norm(threshold: float) -> Update:
    import tensorflow as tf

    def clip(gradients: Sequence[Tensor]) -> list[Tensor]:
        # Squares of the entries themselves would overflow at 2e19, where clipping is needed most.
        peaks = [tf.reduce_max(tf.abs(g), axis=(1, 2), keepdims=True) for g in gradients]
        largest = tf.reduce_max(peaks, axis=0)
        unit = tf.where(largest > 0, largest, 1.0)
        norm = tf.sqrt(tf.add_n([_sum_of_squares(g / unit) for g in gradients]))  # in units
        factor = threshold / norm
        # A norm of NaN is not within the threshold: it makes all gradients NaN, as in Keras.
        within = unit * norm <= threshold
        return [tf.where(within, g, g / unit * factor) for g in gradients]

    return clip


def _sum_of_squares(g: Tensor) -> Tensor:
    """Return (replicas, 1, 1) by products with ones, in an order no stack changes."""
    import tensorflow as tf

    rows = tf.matmul(tf.ones_like(g[:, :, :1]), tf.square(g), transpose_a=True)
    return tf.matmul(rows, tf.ones_like(rows), transpose_b=True)


def _clip_by_value(threshold: float) -> Update:
    import tensorflow as tf

    return lambda gradients: [tf.clip_by_value(g, -threshold, threshold) for g in gradients]


def _sgd(variables: Sequence[Tensor], rates: NDArray[np.float32], momentum: float) -> Update:
    """Make Keras's SGD (Polyak 1964): v <- momentum v - rate g;  w <- w + v."""
    import tensorflow as tf

    rate = tf.constant(rates)
    velocities = [tf.Variable(tf.zeros_like(v)) for v in variables] if momentum else []

    def update(gradients: Sequence[Tensor]) -> list[Tensor]:
        changes = [g * rate for g in gradients]
        if momentum:  # velocities have the sign of Keras's, so that roundings are the same
            changes = [
                -velocity.assign(momentum * velocity - change)
                for velocity, change in zip(velocities, changes, strict=True)
            ]
        for variable, change in zip(variables, changes, strict=True):
            variable.assign_sub(change)
        return changes

    return update


def _adam(
    variables: Sequence[Tensor],
    rates: NDArray[np.float32],
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> Update:
    """Adam as in Keras (Kingma and Ba 2015, the efficient form at the end of section 2).

    m <- m + (g - m)(1 - beta_1);  v <- v + (g^2 - v)(1 - beta_2);
    w <- w - rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon).
    """
    import tensorflow as tf

    rate = tf.constant(rates)
    count = tf.Variable(0.0)
    first = [tf.Variable(tf.zeros_like(v)) for v in variables]
    second = [tf.Variable(tf.zeros_like(v)) for v in variables]

    def update(gradients: Sequence[Tensor]) -> list[Tensor]:
        step = count.assign_add(1.0)
        alpha = rate * tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        changes = []
        for variable, g, m, v in zip(variables, gradients, first, second, strict=True):
            m.assign_add((g - m) * (1 - beta_1))
            v.assign_add((tf.square(g) - v) * (1 - beta_2))
            change = (m * alpha) / (tf.sqrt(v) + epsilon)
            variable.assign_sub(change)
            changes.append(change)
        return changes

    return update
