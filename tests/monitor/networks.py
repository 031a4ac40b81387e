"""Small Keras networks to look at, and data for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

L = keras.layers
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


def data(shape: tuple[int, ...] = (7,), examples: int = 120) -> Arrays:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(examples, *shape)).astype(np.float32)
    return x, draws.integers(0, 3, examples)


def mlp(activation: str = "tanh", **compiled: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    hidden = [L.Dense(11, activation) for _ in range(3)]
    model = keras.Sequential([keras.Input((7,)), *hidden, L.Dropout(0.2), L.Dense(3, "softmax")])
    model.compile(
        **{"optimizer": "sgd", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
        | compiled
    )
    return model


def fitted(model: keras.Model, callbacks: list[Any], **given: Any) -> list[NDArray[Any]]:
    """Train a model on minibatches of 32, the last one of an epoch smaller; return its weights."""
    x, y = data(tuple(model.input_shape[1:]))
    keras.utils.set_random_seed(2)
    model.fit(x, y, **{"epochs": 3, "verbose": 0, "callbacks": callbacks} | given)
    return [np.array(v.numpy()) for v in (*model.variables, *model.optimizer.variables)]


def same(one: list[Any], other: list[Any]) -> bool:
    """Tell whether two lists of weights are the same bits."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
