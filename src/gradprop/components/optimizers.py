"""Optimizers as element-wise updates of stacked variables, each replica with its own step size.

The arithmetic follows Keras's optimizers operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.spec import Component

Tensor = Any
Update = Callable[[Sequence[Tensor]], list[Tensor]]
Rates = NDArray[np.float32] | Any  # or a variable of TensorFlow


@dataclass(frozen=True, kw_only=True)
class Optimizer(Entry):
    """How gradients change the trained variables.

    Attributes
    ----------
    make
        From variables, learning rates and parameters to the update, as `create_update`.
    state
        What it keeps of every weight from step to step, by name.
    """

    make: Callable[..., Update]
    state: tuple[str, ...] = ()


class Weights(NamedTuple):
    """One trained variable of all networks of a stack, as an update rule sees it.

    Attributes
    ----------
    value
        The variable before the step, (networks, rows, columns): a kernel, or biases and others
        with one row.
    gradient
        The derivative of the loss by it, of the same shape, clipped if the study clips.
    rate
        The learning rate of every network, (networks, 1, 1).
    step
        The number of the step, from 1, in the format of the network.
    """

    value: Tensor
    gradient: Tensor
    rate: Tensor
    step: Tensor


def create_update(optimizer: Component, variables: Sequence[Tensor], rates: Rates) -> Update:
    """Return the function that applies gradients to `variables`.

    Parameters
    ----------
    optimizer
        Entry of `OPTIMIZERS`.
    variables
        Stacked variables, each (replicas, rows, columns).
    rates
        Learning rate of every replica, (replicas, 1, 1), or of all, (1, 1, 1), of the variables'
        type; of a variable each step takes the value that it has.

    Returns
    -------
    callable
        From the gradients to what it subtracted from the variables.
    """
    make = OPTIMIZERS[optimizer.name].make
    return make(variables, rates, **OPTIMIZERS.parameters_of(optimizer))


def following(
    rule: Callable[..., tuple[Tensor, ...]], state: Sequence[str] = ()
) -> Callable[..., Update]:
    """Return what makes the update of a rule for one variable: `Optimizer.make`.

    Parameters
    ----------
    rule
        From a `Weights`, and by name the state and the parameters, to what is subtracted from the
        variable and the new state.
    state
        Names of what is kept of every variable, in its shape and 0 before the first step.
    """

    def make(variables: Sequence[Tensor], rates: Rates, /, **given: Any) -> Update:
        import tensorflow as tf

        count = tf.Variable(0.0)
        kept = [[tf.Variable(tf.zeros_like(v)) for _ in state] for v in variables]

        def update(gradients: Sequence[Tensor]) -> list[Tensor]:
            rate = tf.convert_to_tensor(rates)
            step = tf.cast(count.assign_add(1.0), rate.dtype)
            changes = []
            for variable, gradient, memory in zip(variables, gradients, kept, strict=True):
                weights = Weights(variable.read_value(), gradient, rate, step)
                before = {n: v.read_value() for n, v in zip(state, memory, strict=True)}
                change, *after = rule(weights, **before, **given)
                for old, new in zip(memory, after, strict=True):
                    old.assign(new)
                variable.assign_sub(change)
                changes.append(change)
            return changes

        return update

    return make


def _sgd(
    variables: Sequence[Tensor],
    rates: Rates,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> Update:
    """Make Keras's SGD."""
    import tensorflow as tf

    velocities = [tf.Variable(tf.zeros_like(v)) for v in variables] if momentum else []

    def update(gradients: Sequence[Tensor]) -> list[Tensor]:
        rate = tf.convert_to_tensor(rates)
        changes = [g * rate for g in gradients]
        if momentum:  # velocities have the sign of Keras's, so that roundings are the same
            moved = [
                velocity.assign(momentum * velocity - change)
                for velocity, change in zip(velocities, changes, strict=True)
            ]
            if nesterov:
                moved = [momentum * v - change for v, change in zip(moved, changes, strict=True)]
            changes = [-velocity for velocity in moved]
        return _subtract(variables, changes, rate, weight_decay)

    return update


def _adam(
    variables: Sequence[Tensor],
    rates: Rates,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> Update:
    """Make Keras's Adam: the efficient form at the end of section 2 of its source."""
    import tensorflow as tf

    count = tf.Variable(0.0)
    first = [tf.Variable(tf.zeros_like(v)) for v in variables]
    second = [tf.Variable(tf.zeros_like(v)) for v in variables]

    def update(gradients: Sequence[Tensor]) -> list[Tensor]:
        rate = tf.convert_to_tensor(rates)
        step = tf.cast(count.assign_add(1.0), rate.dtype)
        first_power, second_power = (
            tf.pow(tf.constant(beta, rate.dtype), step) for beta in (beta_1, beta_2)
        )
        alpha = rate * tf.sqrt(1 - second_power) / (1 - first_power)
        changes = []
        for g, m, v in zip(gradients, first, second, strict=True):
            m.assign_add((g - m) * (1 - beta_1))
            v.assign_add((tf.square(g) - v) * (1 - beta_2))
            changes.append((m * alpha) / (tf.sqrt(v) + epsilon))
        return _subtract(variables, changes, rate, weight_decay)

    return update


def _rmsprop(
    variables: Sequence[Tensor],
    rates: Rates,
    rho: float,
    momentum: float,
    epsilon: float,
    weight_decay: float,
) -> Update:
    """Make Keras's RMSprop, which is not centred."""
    import tensorflow as tf

    squares = [tf.Variable(tf.zeros_like(v)) for v in variables]
    velocities = [tf.Variable(tf.zeros_like(v)) for v in variables] if momentum else []

    def update(gradients: Sequence[Tensor]) -> list[Tensor]:
        rate, changes = tf.convert_to_tensor(rates), []
        for g, square in zip(gradients, squares, strict=True):
            square.assign(rho * square + (1 - rho) * tf.square(g))
            changes.append(rate * g / tf.sqrt(square + epsilon))
        if momentum:
            changes = [
                velocity.assign(momentum * velocity + change)
                for velocity, change in zip(velocities, changes, strict=True)
            ]
        return _subtract(variables, changes, rate, weight_decay)

    return update


def _subtract(
    variables: Sequence[Tensor], changes: Sequence[Tensor], rate: Tensor, weight_decay: float
) -> list[Tensor]:
    """Subtract from variables, and of each its weight decay; return what was subtracted."""
    if weight_decay:
        share = rate * weight_decay
        changes = [c + v * share for v, c in zip(variables, changes, strict=True)]
    for variable, change in zip(variables, changes, strict=True):
        variable.assign_sub(change)
    return list(changes)


def _decay(default: float, description: str) -> Parameter:
    return Parameter(default, description, minimum=0, below=1)


def _adams(weight_decay: float) -> dict[str, Parameter]:
    return {
        "beta_1": _decay(0.9, "Decay of the mean of the gradients."),
        "beta_2": _decay(0.999, "Decay of the mean of the squared gradients."),
        "epsilon": Parameter(1e-7, "Added to the root of the mean squared gradient.", above=0),
        "weight_decay": _weight_decay(weight_decay),
    }


def _weight_decay(default: float) -> Parameter:
    return Parameter(
        default,
        "Share of every trained variable, times the learning rate, that a step subtracts besides.",
        minimum=0,
    )


# Names and parameters as in keras.optimizers, with Keras's defaults.
OPTIMIZERS = Registry(
    {
        "sgd": Optimizer(
            definition="stochastic gradient descent, with or without momentum: "
            "v <- momentum v - rate g; w <- w + v",
            source="Polyak 1964; Nesterov 1983; keras.optimizers.SGD",
            make=_sgd,
            parameters={
                "momentum": _decay(0.0, "Share of the last change that is added to the next."),
                "nesterov": Parameter(
                    False,
                    "Whether the step looks ahead: w <- w + momentum v - rate g.",
                ),
                "weight_decay": _weight_decay(0.0),
            },
        ),
        "adam": Optimizer(
            definition="m <- m + (g - m)(1 - beta_1); v <- v + (g^2 - v)(1 - beta_2); "
            "w <- w - rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)",
            source="Kingma and Ba 2015, the efficient form at the end of section 2; "
            "keras.optimizers.Adam",
            make=_adam,
            state=("mean", "mean_square"),
            parameters=_adams(weight_decay=0.0),
        ),
        "adamw": Optimizer(
            definition="adam with weight decay: w <- w - rate weight_decay w besides",
            source="Loshchilov and Hutter 2019; keras.optimizers.AdamW",
            make=_adam,
            state=("mean", "mean_square"),
            parameters=_adams(weight_decay=0.004),
        ),
        "rmsprop": Optimizer(
            definition="v <- rho v + (1 - rho) g^2; w <- w - rate g / sqrt(v + epsilon), with or "
            "without momentum",
            source="Tieleman and Hinton 2012; keras.optimizers.RMSprop",
            make=_rmsprop,
            state=("mean_square",),
            parameters={
                "rho": _decay(0.9, "Decay of the mean of the squared gradients."),
                "momentum": _decay(0.0, "Share of the last change that is added to the next."),
                "epsilon": Parameter(1e-7, "Added to the mean squared gradient.", above=0),
                "weight_decay": _weight_decay(0.0),
            },
        ),
    }
)
