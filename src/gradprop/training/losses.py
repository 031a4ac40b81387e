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
    padding = (0, -examples % PACKET)  # as in `stacking.in_whole_packets`
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.pad(targets, ((0, 0), padding)), tf.pad(outputs, ((0, 0), padding, (0, 0)))
    )
    return losses[:, :examples]


def _mean_squared_error(targets: Tensor, outputs: Tensor) -> Tensor:
    return tf.reduce_mean(tf.square(outputs - targets), axis=-1)


def _output_sum(targets: Tensor, outputs: Tensor) -> Tensor:
    return tf.reduce_sum(outputs, axis=-1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mean_squared_error": _mean_squared_error,
    "output_sum": _output_sum,
}
