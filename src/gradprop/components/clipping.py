"""Clipping of the gradients that the optimizer sees, each replica's by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradprop.components.optimizers import Tensor, Update
from gradprop.components.precision import matmul
from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.spec import Component


@dataclass(frozen=True, kw_only=True)
class Clipping(Entry):
    """How gradients are clipped.

    Attributes
    ----------
    make
        From parameters to the function of the gradients, as `create_clip`.
    """

    make: Callable[..., Update]


def create_clip(clipping: Component) -> Update:
    """Return the function that clips the gradients of every replica by themselves.

    Parameters
    ----------
    clipping
        Entry of `CLIPPINGS`.

    Returns
    -------
    callable
        From the gradients of all variables, each (replicas, rows, columns), to those that the
        optimizer sees.
    """
    return CLIPPINGS[clipping.name].make(**CLIPPINGS.parameters_of(clipping))


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


def _clip_each_by_norm(threshold: float) -> Update:
    clip = _clip_by_norm(threshold)
    return lambda gradients: [clipped for g in gradients for clipped in clip([g])]


def _sum_of_squares(g: Tensor) -> Tensor:
    """Return (replicas, 1, 1) by products with ones, in an order no stack changes."""
    import tensorflow as tf

    rows = matmul(tf.ones_like(g[:, :, :1]), tf.square(g), transpose_a=True)
    return matmul(rows, tf.ones_like(rows), transpose_b=True)


def _clip_by_value(threshold: float) -> Update:
    import tensorflow as tf

    return lambda gradients: [tf.clip_by_value(g, -threshold, threshold) for g in gradients]


CLIPPINGS = Registry(
    {
        "none": Clipping(definition="g", source="plain gradient descent", make=lambda: list),
        "norm": Clipping(
            definition="g min(1, threshold / norm(g)), norm over all trained variables of the "
            "network",
            source="Pascanu et al. 2013; global_clipnorm of Keras",
            make=_clip_by_norm,
            parameters={
                "threshold": Parameter(
                    1.0, "Largest norm of the gradient of all trained variables.", above=0
                )
            },
        ),
        "norm_by_variable": Clipping(
            definition="g min(1, threshold / norm(g)), norm over one trained variable: a kernel, "
            "the biases of a layer",
            source="clipnorm of Keras",
            make=_clip_each_by_norm,
            parameters={
                "threshold": Parameter(
                    1.0, "Largest norm of the gradient of one trained variable.", above=0
                )
            },
        ),
        "value": Clipping(
            definition="every entry of g cut to [-threshold, threshold]",
            source="Mikolov 2012; clipvalue of Keras",
            make=_clip_by_value,
            parameters={"threshold": Parameter(1.0, "Largest magnitude of an entry.", above=0)},
        ),
    }
)
