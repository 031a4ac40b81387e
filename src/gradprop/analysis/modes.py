"""Strengths of the modes of deep linear networks."""

from __future__ import annotations

import math

from gradprop.components import datasets
from gradprop.spec import Cell


def time_unit(cell: Cell) -> float:
    """Return how much time of the theory a step of full-batch gradient descent takes.

    The theory's loss is half the squared error summed over outputs, the network's its mean over
    outputs: 2 / outputs times as much for a learning rate.
    """
    return 2 * cell.learning_rate / datasets.generate(cell.dataset).outputs


def start_strength(cell: Cell) -> float:
    """Return the strength u_0 from which theory says a mode grows; NaN if it says nothing.

    In a network of one hidden layer. Of multiples c of the identity that is c^2. Of independent
    weights of variance sigma^2, with a = W_1 u and b = W_2^T v of n entries each, what grows is
    |a + b|^2 / 4 (the difference decays), with the mean n sigma^2 / 2.
    """
    parameters = dict(cell.initializer.parameters)
    if cell.layer_initializers or parameters.get("mean"):
        return math.nan
    if cell.depth == 1 and cell.initializer.name == "identity":
        return float(parameters.get("gain", 1.0)) ** 2
    if cell.depth == 1 and cell.initializer.name == "normal":
        return 0.5 * cell.width * float(parameters.get("stddev", 0.01)) ** 2
    return math.nan
