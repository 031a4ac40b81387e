"""A cell as a plain Keras model: the reference that stacked training must agree with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the notes about CUDA that TensorFlow's libraries write while they are loaded."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
with _quiet():
    import keras

from gradprop import initializers, optimizers  # noqa: E402
from gradprop.datasets import Dataset  # noqa: E402
from gradprop.spec import Cell  # noqa: E402


def resolve_loss(cell: Cell, dataset: Dataset) -> str:
    """Return the cell's loss, with ``auto`` replaced by what the data set's task calls for."""
    if cell.loss != "auto":
        return cell.loss
    return "cross_entropy" if dataset.task == "classification" else "mean_squared_error"


def build_model(cell: Cell, dataset: Dataset) -> keras.Sequential:
    """Build the multilayer perceptron of a cell, with the cell's kernels and biases.

    Returns
    -------
    keras.Sequential
        From inputs (batch, features) to logits or predictions (batch, outputs); a Dense layer
        and an Activation layer for every hidden layer, then a linear Dense layer.
    """
    shapes = initializers.layer_shapes(dataset.x_train.shape[1], cell, dataset.outputs)
    layers: list[keras.Layer] = [keras.Input((shapes[0][0],))]
    for number, (fan_in, fan_out) in enumerate(shapes, start=1):
        layers.append(
            keras.layers.Dense(
                fan_out,
                kernel_initializer=initializers.build(
                    cell.initializer, initializers.kernel_seed(cell, number), fan_in
                ),
                use_bias=cell.use_bias,
                name=f"layer_{number}",
            )
        )
        if number <= cell.depth:
            layers.append(keras.layers.Activation(cell.activation))
    model = keras.Sequential(layers)
    if cell.use_bias and cell.bias_std:
        for number, (_, fan_out) in enumerate(shapes, start=1):
            bias = initializers.draw_bias(cell, number, fan_out)
            model.get_layer(f"layer_{number}").bias.assign(bias)
    return model


def build_optimizer(cell: Cell) -> keras.Optimizer:
    """Build the Keras optimizer of a cell."""
    classes = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    return classes[cell.optimizer.name](
        learning_rate=cell.learning_rate, **optimizers.parameters(cell.optimizer)
    )
