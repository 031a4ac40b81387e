"""The expected fluctuations between networks of finite width."""

from __future__ import annotations

import numpy as np

from gradprop import theory
from gradprop.components.initializers import initializer_of
from gradprop.spec import Cell


def expected_fluctuation(cell: Cell) -> np.ndarray | float:
    """Return the relative variance of lengths, to leading order in 1/width, in layers 1 … depth.

    For tanh networks with Gaussian weights of variance 1/fan-in and no bias
    (`gradprop.theory.critical_tanh_fluctuation`); NaN for others.
    """
    used = {initializer_of(cell, layer).label for layer in range(1, cell.depth + 1)}
    gaussian = used == {"variance_scaling"} and not cell.tied
    plain = not cell.use_bias and not cell.dropout
    if gaussian and cell.activation.name == "tanh" and plain:
        return theory.critical_tanh_fluctuation([cell.width] * cell.depth)
    return np.nan
