"""Predictions that need the data: lengths of the inputs and their likeness."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradprop.components import datasets
from gradprop.prediction.minibatch import Likeness, likeness
from gradprop.prediction.networks import Prediction, predict, predict_structured
from gradprop.spec import Cell, Component


@lru_cache(maxsize=4096)
def prediction_on_data(cell: Cell) -> Prediction | None:
    """Return what theory expects of a cell on its data set."""
    inputs, outputs, mean_square = data_sizes(cell.dataset)
    plain = predict(cell, inputs, outputs, mean_square, data_likeness(cell.dataset))
    return plain or predict_structured(cell, inputs, mean_square)


@lru_cache
def data_sizes(component: Component) -> tuple[int, int, float]:
    """Return the inputs, outputs and mean square of the inputs of a data set."""
    dataset = datasets.generate(component)
    square = float(np.mean(np.square(dataset.x_train, dtype=np.float64)))
    return dataset.x_train.shape[1], dataset.outputs, square


@lru_cache
def data_likeness(component: Component) -> Likeness | None:
    """Return how alike the examples of a data set are."""
    return likeness(datasets.generate(component))
