"""Mean-field coordinates and states of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd

from gradprop import theory
from gradprop.prediction.networks import weight_variance
from gradprop.spec import Cell


def sigma_w2(cell: Cell) -> float:
    """Return the weight variance of a hidden layer times its fan-in; NaN if it is not random."""
    variance = weight_variance(cell.initializer, (cell.width, cell.width), cell.activation)
    return math.nan if variance is None else cell.width * variance


def sigma_b2(cell: Cell) -> float:
    """Return the variance of the biases."""
    return cell.bias_std**2 if cell.use_bias else 0.0


@lru_cache(maxsize=4096)
def state(activation: str, weights: float, biases: float) -> theory.MeanField:
    """Return what mean-field theory says; `weights` and `biases` are variances."""
    return theory.mean_field_state(activation, weights, biases)


def coordinates(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row per cell with the coordinates of mean-field theory and its parameters."""
    return pd.DataFrame(
        [
            {
                "cell": cell.id,
                "activation": cell.activation,
                "sigma_w2": round(sigma_w2(cell), 12),
                "sigma_b2": round(sigma_b2(cell), 12),
                "width": cell.width,
                "depth": cell.depth,
                "seed": cell.seed,
            }
            for cell in cells
        ]
    )
