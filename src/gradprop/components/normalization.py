"""Batch and layer normalization of stacked pre-activations, each replica by itself.

Means, and the spreading of a row over examples, are products with ones: forward and backward they
are matrix products of one replica, whose arithmetic does not depend on the size of the stack. That
of sums over axes, and of the gradients of broadcasting, would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradprop.components.precision import matmul
from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.spec import Component

Tensor = Any


class Moments(NamedTuple):
    """Mean and (biased) variance that pre-activations were normalized with."""

    mean: Tensor  # (replicas, 1, units)
    variance: Tensor  # (replicas, 1, units)


def spread(row: Tensor, like: Tensor) -> Tensor:
    """Repeat `row` (replicas, 1, units) for every example of `like` (replicas, batch, ...)."""
    import tensorflow as tf

    return matmul(tf.ones_like(like[:, :, :1]), row)


class Normalizer:
    """The normalization of one layer, with its trained scale (gamma) and shift (beta)."""

    def __init__(self, replicas: int, units: int, dtype: str, epsilon: float) -> None:
        import tensorflow as tf

        self.epsilon = epsilon
        self.scale = tf.Variable(tf.ones((replicas, 1, units), dtype))
        self.shift = tf.Variable(tf.zeros((replicas, 1, units), dtype))

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Return normalized pre-activations and the moments to follow, if there are any."""
        raise NotImplementedError

    def follow(self, moments: Moments | None) -> None:
        """Let running means follow the moments of a training step."""


class BatchNormalization(Normalizer):
    """Statistics of every unit over the minibatch; running means of them outside training."""

    def __init__(
        self, replicas: int, units: int, dtype: str, epsilon: float, momentum: float
    ) -> None:
        import tensorflow as tf

        super().__init__(replicas, units, dtype, epsilon)
        self.momentum = momentum
        self.running = Moments(
            tf.Variable(tf.zeros_like(self.scale)), tf.Variable(tf.ones_like(self.scale))
        )

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Normalize z (replicas, batch, units)."""
        import tensorflow as tf

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


class LayerNormalization(Normalizer):
    """Statistics of every example over the units of the layer."""

    def __call__(self, z: Tensor, training: bool) -> tuple[Tensor, Moments | None]:
        """Normalize z (replicas, batch, units)."""
        import tensorflow as tf

        centred = z - _mean_over_units(z)
        factor = _reciprocal_root(_mean_over_units(tf.square(centred)) + self.epsilon)
        return centred * factor * spread(self.scale, z) + spread(self.shift, z), None


def _reciprocal_root(x: Tensor) -> Tensor:
    """Return 1 / sqrt(x) by operations that round correctly, forward and backward.

    TensorFlow's rsqrt and its gradient of sqrt use other approximations in whole vector registers
    than at the end of an array.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def root(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        y = 1 / tf.sqrt(x)
        return y, lambda upstream: -0.5 * upstream * y * y * y

    return root(x)


def _mean_over_batch(z: Tensor) -> Tensor:
    import tensorflow as tf

    return matmul(tf.ones_like(z[:, :, :1]), z, transpose_a=True) / z.shape[1]


def _mean_over_units(z: Tensor) -> Tensor:
    """Return the mean of every example, repeated for every unit."""
    import tensorflow as tf

    ones = tf.ones_like(z[:, :1, :])
    return matmul(matmul(z, ones, transpose_b=True) / z.shape[2], ones)


@dataclass(frozen=True, kw_only=True)
class Normalization(Entry):
    """What is done to the pre-activations of hidden layers.

    Attributes
    ----------
    layer
        From replicas, units, format and parameters to the normalization of a layer; None for
        nothing.
    """

    layer: Callable[..., Normalizer] | None = None


def _epsilon() -> Parameter:
    return Parameter(1e-3, "Added to the variance.", above=0)


NORMALIZATIONS = Registry(
    {
        "none": Normalization(definition="z = W h + b", source="the plain network"),
        "batch": Normalization(
            layer=BatchNormalization,
            definition="z = gamma (u - mean u) / sqrt(var u + epsilon) + beta, u = W h + b, mean "
            "and variance of a unit over the minibatch; on test and training sets after steps "
            "those of running means: running <- momentum running + (1 - momentum) minibatch, from "
            "0 and 1",
            source="Ioffe and Szegedy 2015; keras.layers.BatchNormalization",
            parameters={
                "epsilon": _epsilon(),
                "momentum": Parameter(
                    0.99, "Share of the running means that a step keeps.", minimum=0, maximum=1
                ),
            },
        ),
        "layer": Normalization(
            layer=LayerNormalization,
            definition="the same with mean and variance of an example over the units of the layer",
            source="Ba et al. 2016; keras.layers.LayerNormalization",
            parameters={"epsilon": _epsilon()},
        ),
    }
)


def create_layers(
    component: Component, replicas: int, widths: Sequence[int], dtype: str
) -> Sequence[Normalizer]:
    """Return the normalization of every hidden layer; nothing for networks without."""
    layer = NORMALIZATIONS[component.name].layer
    given = NORMALIZATIONS.parameters_of(component)
    return [layer(replicas, units, dtype, **given) for units in widths] if layer else []
