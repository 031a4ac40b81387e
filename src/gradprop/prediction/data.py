"""Predictions that need the data: lengths of the inputs and their likeness."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradprop.components import datasets
from gradprop.components.architecture import is_plain
from gradprop.components.initializers import INITIALIZERS, initializer_of
from gradprop.prediction.minibatch import Likeness, likeness
from gradprop.prediction.networks import Prediction, predict, predict_structured, too_deep_to_tie
from gradprop.prediction.shifted import has_mean, predict_shifted
from gradprop.spec import Cell, Component

EXAMPLES = 40  # that stand for a training set in `data_examples`

# Why theory has no line, or not all of it, where the reason is not an initializer's.
SHIFTED = (
    "Where weights or biases have a mean, lengths and signals have a line as far as they are not "
    "left to chance and stay in the range of floats, and weight gradients have none"
)
TOO_DEEP = "powers of one matrix leave the laws of wide networks beyond depth^2 = 2 width"
BUILT = "code makes their layers, which theory cannot read"
TIED = "they are predicted of plain networks of mean 0 without dropout only"
DROPPED = "it is predicted of plain networks of mean 0 only"


@lru_cache(maxsize=4096)
def prediction_on_data(cell: Cell) -> Prediction | None:
    """Return what theory expects of a cell on its data set."""
    inputs, outputs, mean_square = data_sizes(cell.dataset)
    plain = predict(cell, inputs, outputs, mean_square, data_likeness(cell.dataset))
    if plain:
        return plain
    # The signals of a softmax add up to 0; of other losses the sum is not known beforehand.
    softmax = cell.loss == "auto" and datasets.sizes(cell.dataset).classes > 0
    shifted = predict_shifted(
        cell, inputs, outputs, data_examples(cell.dataset), output_sum=0.0 if softmax else 1.0
    )
    return shifted or predict_structured(cell, inputs, mean_square)


def unpredicted(cell: Cell) -> str:
    """Return why theory has no line for a cell, or not all of it; empty if it has."""
    if cell.network.name != "none":
        return BUILT
    if too_deep_to_tie(cell):
        return TOO_DEEP
    if cell.tied and (has_mean(cell) or cell.dropout or not is_plain(cell)):
        return TIED
    if cell.dropout and (has_mean(cell) or not is_plain(cell)):
        return DROPPED
    if has_mean(cell):
        return SHIFTED
    used = [initializer_of(cell, layer) for layer in range(1, cell.depth + 2)]
    reasons = (INITIALIZERS[initializer.name].unpredicted for initializer in used)
    return next(filter(None, reasons), "")


@lru_cache
def data_sizes(component: Component) -> tuple[int, int, float]:
    """Return the inputs, outputs and mean square of the inputs of a data set."""
    dataset = datasets.generate(component)
    square = float(np.mean(np.square(dataset.x_train, dtype=np.float64)))
    return dataset.x_train.shape[1], dataset.outputs, square


@lru_cache
def data_examples(component: Component) -> NDArray[np.float64]:
    """Return mean and mean square of the entries of some training examples, (examples, 2).

    Sorted by their means, the middle one of each of `EXAMPLES` equal parts of the training set.
    """
    x = datasets.generate(component).x_train.astype(np.float64)
    order = np.argsort(x.mean(axis=1), kind="stable")
    count = min(EXAMPLES, len(x))
    some = x[order[(2 * np.arange(count) + 1) * len(x) // (2 * count)]]
    return np.column_stack([some.mean(axis=1), np.square(some).mean(axis=1)])


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
