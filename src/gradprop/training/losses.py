"""Loss functions of stacked networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradprop.components.datasets import Dataset
from gradprop.spec import Cell
from gradprop.training.backend import tf

Tensor = Any  # TensorFlow publishes no type stubs

# Entries of the widest vector registers (16 float32 of AVX-512).
PACKET = 16


def resolve_loss(cell: Cell, dataset: Dataset) -> str:
    """Return the cell's loss, with ``auto`` replaced by what the data set's task calls for."""
    if cell.loss != "auto":
        return cell.loss
    return "cross_entropy" if dataset.task == "classification" else "mean_squared_error"


def _cross_entropy(targets: Tensor, outputs: Tensor) -> Tensor:
    examples = outputs.shape[1]
    padding = (0, -examples % PACKET)  # as in `in_whole_packets`
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.pad(targets, ((0, 0), padding)), tf.pad(outputs, ((0, 0), padding, (0, 0)))
    )
    return losses[:, :examples]


def _binary_cross_entropy(targets: Tensor, outputs: Tensor) -> Tensor:
    """Return -ln sigmoid(z) of examples of class 1, -ln (1 - sigmoid(z)) of class 0."""
    signs = 1.0 - 2.0 * tf.cast(targets, outputs.dtype)[..., None]
    return in_whole_packets(tf.nn.softplus, signs * outputs)[..., 0]


def _mean_squared_error(targets: Tensor, outputs: Tensor) -> Tensor:
    if targets.dtype.is_integer:
        targets = tf.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
    return tf.reduce_mean(tf.square(outputs - targets), axis=-1)


def _output_sum(targets: Tensor, outputs: Tensor) -> Tensor:
    return tf.reduce_sum(outputs, axis=-1)


def in_whole_packets(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Apply an element-wise function to z (replicas, batch, units), padded if need be.

    TensorFlow computes exp, log and erf of whole vector registers with other approximations than
    of the entries left over at the end of an array. Which entries are left over would depend on
    the number of replicas if a replica did not fill whole registers.
    """
    entries = z.shape[1] * z.shape[2]
    padding = -entries % PACKET
    if not padding:
        return function(z)
    flat = tf.pad(tf.reshape(z, (-1, entries)), ((0, 0), (0, padding)))
    return tf.reshape(function(flat)[:, :entries], z.shape)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mean_squared_error": _mean_squared_error,
    "output_sum": _output_sum,
}
