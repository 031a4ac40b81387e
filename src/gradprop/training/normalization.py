"""Batch and layer normalization of stacked pre-activations, each replica by itself.

Means, and the spreading of a row over examples, are products with ones: forward and backward they
are matrix products of one replica, whose arithmetic does not depend on the size of the stack. That
of sums over axes, and of the gradients of broadcasting, would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradprop.components import architecture
from gradprop.spec import Component
from gradprop.training.backend import tf

Tensor = Any


class Moments(NamedTuple):
    """Mean and (biased) variance that pre-activations were normalized with."""

    mean: Tensor  # (replicas, 1, units)
    variance: Tensor  # (replicas, 1, units)


def spread(row: Tensor, like: Tensor) -> Tensor:
    """Repeat `row` (replicas, 1, units) for every example of `like` (replicas, batch, ...)."""
    return tf.matmul(tf.ones_like(like[:, :, :1]), row)


class _Normalization:
    """The trained scale (gamma) and shift (beta) of one layer."""

    def __init__(self, replicas: int, units: int, epsilon: float) -> None:
        self.epsilon = epsilon
        self.scale = tf.Variable(tf.ones((replicas, 1, units)))
        self.shift = tf.Variable(tf.zeros((replicas, 1, units)))

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Return normalized pre-activations and the moments to follow, if there are any."""
        raise NotImplementedError

    def follow(self, moments: Moments | None) -> None:
        """Let running means follow the moments of a training step."""


class BatchNormalization(_Normalization):
    """Statistics of every unit over the minibatch; running means of them outside training."""

    def __init__(self, replicas: int, units: int, epsilon: float, momentum: float) -> None:
        super().__init__(replicas, units, epsilon)
        self.momentum = momentum
        self.running = Moments(
            tf.Variable(tf.zeros_like(self.scale)), tf.Variable(tf.ones_like(self.scale))
        )

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Normalize z (replicas, batch, units)."""
        mean, variance = self.running
        if training:
            mean = _mean_over_batch(z)
        centred = z - spread(mean, z)
        if training:
            variance = _mean_over_batch(tf.square(centred))
        factor = self.scale * _reciprocal_root(variance + self.epsilon)
        normalized = centred * spread(factor, z) + spread(self.shift, z)
        return normalized, Moments(mean, variance) if training else None

    def follow(self, moments: Moments | None) -> None:
        """Let the running means follow the moments of a training step."""
        assert moments is not None
        for running, new in zip(self.running, moments, strict=True):
            running.assign(running * self.momentum + new * (1 - self.momentum))


class LayerNormalization(_Normalization):
    """Statistics of every example over the units of the layer."""

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Normalize z (replicas, batch, units)."""
        centred = z - _mean_over_units(z)
        factor = _reciprocal_root(_mean_over_units(tf.square(centred)) + self.epsilon)
        return centred * factor * spread(self.scale, z) + spread(self.shift, z), None


@tf.custom_gradient
def _reciprocal_root(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return 1 / sqrt(x) by operations that round correctly, forward and backward.

    TensorFlow's rsqrt and its gradient of sqrt use other approximations in whole vector registers
    than at the end of an array.
    """
    y = 1 / tf.sqrt(x)
    return y, lambda upstream: -0.5 * upstream * y * y * y


def _mean_over_batch(z: Tensor) -> Tensor:
    return tf.matmul(tf.ones_like(z[:, :, :1]), z, transpose_a=True) / z.shape[1]


def _mean_over_units(z: Tensor) -> Tensor:
    """Return the mean of every example, repeated for every unit."""
    ones = tf.ones_like(z[:, :1, :])
    return tf.matmul(tf.matmul(z, ones, transpose_b=True) / z.shape[2], ones)


def create_layers(
    component: Component, replicas: int, widths: Sequence[int]
) -> Sequence[BatchNormalization | LayerNormalization]:
    """Return the normalization of every hidden layer; nothing for networks without."""
    if component.name == "none":
        return []
    kind = {"batch": BatchNormalization, "layer": LayerNormalization}[component.name]
    given = architecture.NORMALIZATIONS.parameters_of(component)
    return [kind(replicas, units, **given) for units in widths]
