"""Mean-field coordinates and states of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd

from gradprop import theory
from gradprop.components.activations import ActivationLike
from gradprop.components.initializers import bias_moments, initializer_of
from gradprop.prediction.networks import weight_variance
from gradprop.spec import Cell


def sigma_w2(cell: Cell) -> float:
    """Return the weight variance of hidden layers times their fan-in.

    NaN if their kernels are not random, they or the biases have a mean, or they differ in their
    variance; the first layer may have another one. NaN of a study's own networks, too.
    """
    if cell.network.name != "none":
        return math.nan
    shape = cell.width, cell.width
    layers = range(2, cell.depth + 1) if cell.depth > 1 else [1]
    used = {initializer_of(cell, layer) for layer in layers}
    variances = {weight_variance(initializer, shape, cell.activation) for initializer in used}
    variance = variances.pop()
    biased = bias_moments(cell, cell.width)[0] != 0
    return math.nan if variance is None or variances or biased else cell.width * variance


def sigma_b2(cell: Cell) -> float:
    """Return the variance of the biases of hidden layers."""
    return bias_moments(cell, cell.width)[1]


@lru_cache(maxsize=4096)
def state(activation: ActivationLike, weights: float, biases: float) -> theory.MeanField:
    """Return what mean-field theory says; `weights` and `biases` are variances."""
    return theory.mean_field_state(activation, weights, biases)


def coordinates(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row per cell with the coordinates of mean-field theory and its parameters."""
    return pd.DataFrame(
        [
            {
                "cell": cell.id,
                "activation": cell.activation.label,
                "sigma_w2": round(sigma_w2(cell), 12),
                "sigma_b2": round(sigma_b2(cell), 12),
                "width": cell.width,
                "depth": cell.depth,
                "seed": cell.seed,
            }
            for cell in cells
        ]
    )
