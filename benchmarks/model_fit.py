"""What one would write with Keras: `model.fit` on one network, gradients by a callback."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import work
from gradprop.components import datasets
from gradprop.components.datasets import Dataset
from gradprop.spec import Cell
from gradprop.training import loop
from tests import keras_reference

Tensor = Any


def train_cells(
    block: Mapping[str, Any], chosen: Sequence[int], data: str, repetition: int
) -> dict[str, Any]:
    """Train the cells at the positions `chosen` of a grid block, one after another.

    Returns
    -------
    dict
        CPU seconds of every cell, without the import.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    dataset = datasets.read(Path(data))
    cells = work.expand(block)
    seconds = []
    for position in chosen:
        start = time.process_time()
        train_cell(cells[position], dataset)
        seconds.append(time.process_time() - start)
        keras.backend.clear_session()
    return {"seconds": seconds}


def train_cell(cell: Cell, dataset: Dataset) -> list[Mapping[str, Any]]:
    """Train a cell with `model.fit`; return what its probes measured."""
    count = len(dataset.x_train) // cell.batch_size * cell.batch_size
    steps = loop.total_steps(cell, len(dataset.x_train))
    model = keras_reference.build_model(cell, dataset)
    model.compile(
        optimizer=keras_reference.build_optimizer(cell),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    monitor = GradientMonitor(model, cell, dataset, loop.probe_steps(steps, cell.probes))
    model.fit(
        dataset.x_train[:count],
        dataset.y_train[:count],
        batch_size=cell.batch_size,
        epochs=cell.epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_begin=lambda batch, logs: monitor.before_step(),
                on_train_batch_end=lambda batch, logs: monitor.after_step(),
            )
        ],
    )
    monitor.finish()
    return monitor.rows


class GradientMonitor:
    """Computes gradients and statistics of all layers at the steps `probed`.

    A callback does not see the minibatch of `fit`; this one takes minibatches of its own. It
    runs eagerly, as such callbacks do: tracing would not pay for a dozen calls.
    """

    def __init__(
        self, model: keras.Model, cell: Cell, dataset: Dataset, probed: Sequence[int]
    ) -> None:
        self.model, self.cell, self.dataset = model, cell, dataset
        self.probed = set(probed)
        self.dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
        self.random = np.random.default_rng(cell.seed)
        self.step = 0
        self.rows: list[Mapping[str, Any]] = []
        self.seen: list[Tensor] = []

    def before_step(self) -> None:
        """Look at the network before the step of a probe."""
        if self.step in self.probed:
            self.test_loss = self._loss(self.dataset.x_test, self.dataset.y_test)
            self.weights = [layer.kernel.numpy() for layer in self.dense]
            self.seen = self._gradients()

    def after_step(self) -> None:
        """Add the change of the weights in the step and compute the statistics."""
        if self.step in self.probed:
            pairs = zip(self.weights, self.dense, strict=True)
            self._note([before - layer.kernel.numpy() for before, layer in pairs])
        self.step += 1

    def finish(self) -> None:
        """Probe once more after the last step; plain SGD's update is known without it."""
        self.before_step()
        self._note([self.cell.learning_rate * gradient for gradient in self.seen[0]])
        self._loss(self.dataset.x_train, self.dataset.y_train)

    def _note(self, updates: Sequence[Any]) -> None:
        def stacked(tensors: Sequence[Any]) -> list[Any]:
            return [np.asarray(tensor)[None] for tensor in tensors]

        gradients, signals, zs, activations = map(stacked, self.seen)
        layers = work.statistics(
            self.cell,
            gradients,
            signals,
            zs,
            activations,
            stacked(self.weights),
            stacked(updates),
        )
        self.rows.append({"step": self.step, "test_loss": self.test_loss, "layers": layers})

    def _loss(self, x: Any, y: Any) -> float:
        return float(tf.reduce_mean(_losses(y, self.model(x))))

    def _gradients(self) -> list[Tensor]:
        """Return weight gradients, signals, pre-activations and activations of all layers."""
        chosen = self.random.choice(len(self.dataset.x_train), self.cell.batch_size, replace=False)
        hidden = tf.constant(self.dataset.x_train[chosen])
        zs: list[Tensor] = []
        activations: list[Tensor] = []
        with tf.GradientTape() as tape:
            for layer in self.model.layers[1:]:  # the first stands for the inputs
                hidden = layer(hidden)
                (zs if isinstance(layer, keras.layers.Dense) else activations).append(hidden)
            loss = tf.reduce_mean(_losses(self.dataset.y_train[chosen], hidden))
        kernels = [layer.kernel.value for layer in self.dense]
        gradients, signals = tape.gradient(loss, [kernels, zs])
        return [gradients, signals, zs, [*activations, hidden]]


def _losses(targets: Any, outputs: Tensor) -> Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs)
