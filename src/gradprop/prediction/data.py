"""Predictions that need the data: lengths of the inputs and their likeness."""

from __future__ import annotations

import math
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


def has_minibatch_theory(cell: Cell) -> bool:
    """Tell whether `prediction_on_data` is of the mean over a minibatch, not of one example.

    For classes with cross-entropy, of a softmax or of one sigmoid, and for sums of their outputs.
    """
    return cell.loss != "mean_squared_error" and data_likeness(cell.dataset) is not None


def guessing_loss(cell: Cell) -> float:
    """Return the loss of guessing: of outputs that do not depend on the inputs.

    With cross-entropy and all classes equally likely that is ln of their number; with the mean
    squared error and the mean of the training targets (of classes, 1 at the label and 0 elsewhere)
    it is their variance, averaged over the outputs. NaN for a sum of outputs, which nothing is
    guessed for.
    """
    if cell.loss == "output_sum":
        return math.nan
    classes = datasets.sizes(cell.dataset).classes
    squared = cell.loss == "mean_squared_error" or not classes
    return _target_variance(cell.dataset) if squared else math.log(classes)


@lru_cache
def _target_variance(component: Component) -> float:
    dataset = datasets.generate(component)
    targets = dataset.y_train.astype(np.float64)
    if dataset.task == "classification":
        targets = np.eye(dataset.outputs)[dataset.y_train]
    return float(targets.var(axis=0).mean())


@lru_cache
def data_likeness(component: Component) -> Likeness | None:
    """Return how alike the examples of a data set are."""
    return likeness(datasets.generate(component))
