"""The three networks of the lecture's assignment on initialization, to the digit.

They are no cells of a grid: their streams of random numbers, their layers of 10 and 5 units with
one sigmoid, and their inputs are the assignment's own. Each is trained here in NumPy, in float64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZES = (2, 10, 5, 1)
RATE = 0.01
ITERATIONS = 15_000
LAST_PRINTED = 14_000  # the assignment prints the cost of every thousandth iteration
# What normal numbers are multiplied with, by the fan-in.
STARTS = {"zeros": lambda n: 0.0, "large random": lambda n: 10.0, "He": lambda n: (2 / n) ** 0.5}


class Outcome(NamedTuple):
    """What the assignment prints of a network."""

    cost: float  # nats, on the training set, before the update of iteration `LAST_PRINTED`
    train_accuracy: float
    test_accuracy: float


# As copies of the assignment's notebook show it.
PRINTED = {
    "zeros": Outcome(0.6931471805599453, 0.5, 0.5),
    "large random": Outcome(0.3827489017191917, 0.83, 0.86),
    "He": Outcome(0.07357895962677366, 0.99333333333333, 0.96),
}


def _circles(points: int, seed: int) -> tuple[Array, Array]:
    """Return points (2, points) of scikit-learn's make_circles and their classes (1, points)."""
    from sklearn.datasets import make_circles

    x, y = make_circles(n_samples=points, noise=0.05, random_state=seed)
    return x.T, y[None].astype(np.float64)


def _forward(kernels: list[Array], biases: list[Array], x: Array) -> list[Array]:
    """Return the inputs, the activations of the hidden layers and the logits."""
    values = [x]
    for kernel, bias in zip(kernels, biases, strict=True):
        z = kernel @ values[-1] + bias
        values.append(np.maximum(z, 0) if len(values) < len(kernels) else z)
    return values


def _update(kernels: list[Array], biases: list[Array], values: list[Array], y: Array) -> None:
    """Make one step of gradient descent on the mean cross-entropy, in place."""
    signal = (1 / (1 + np.exp(-values[-1])) - y) / y.shape[1]
    for layer in reversed(range(len(kernels))):
        kernel, before = kernels[layer], values[layer]
        gradients = signal @ before.T, signal.sum(axis=1, keepdims=True)
        signal = (kernel.T @ signal) * (before > 0)
        kernels[layer] = kernel - RATE * gradients[0]
        biases[layer] = biases[layer] - RATE * gradients[1]


@lru_cache
def train(start: str) -> Outcome:
    """Train a network of the assignment, by gradient descent on all of its 300 points.

    Parameters
    ----------
    start
        Key of `STARTS`.
    """
    random = np.random.RandomState(3)
    shapes = list(zip(SIZES[1:], SIZES[:-1], strict=True))
    kernels = [random.standard_normal(shape) * STARTS[start](shape[1]) for shape in shapes]
    biases = [np.zeros((fan_out, 1)) for fan_out, _ in shapes]
    x, y = _circles(300, seed=1)
    cost = np.nan
    for iteration in range(ITERATIONS):
        values = _forward(kernels, biases, x)
        if iteration == LAST_PRINTED:
            cost = float(np.mean(np.logaddexp(0, values[-1]) - y * values[-1]))
        _update(kernels, biases, values, y)
    accuracies = [
        float(np.mean((_forward(kernels, biases, inputs)[-1] > 0) == classes))
        for inputs, classes in ((x, y), _circles(100, seed=2))
    ]
    return Outcome(cost, *accuracies)
