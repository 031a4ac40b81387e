"""The law of the length at finite width, of a cell."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gradprop import theory
from gradprop.components import architecture
from gradprop.components.initializers import bias_moments, layer_shapes
from gradprop.prediction.data import data_sizes
from gradprop.prediction.networks import layer_variances
from gradprop.spec import Cell

Float64 = npt.NDArray[np.float64]


def architecture_name(cell: Cell) -> str:
    """Return what the widths of a cell's hidden layers are called, whatever its depth."""
    profile = architecture.WIDTHS[cell.widths.name]
    return profile.label.format(width=cell.width, **architecture.WIDTHS.parameters_of(cell.widths))


def reciprocal_widths(cell: Cell) -> Float64:
    """Return the sums of the reciprocal widths of layers 1 to l, for l = 1 … depth."""
    return np.cumsum(1.0 / np.array(architecture.hidden_widths(cell), dtype=np.float64))


def length_law(cell: Cell) -> tuple[Float64, theory.LogNormalLaw] | None:
    """Return what theory says of M_l in layers 1 … depth.

    Returns
    -------
    tuple or None
        ln of the mean of M_l over networks, and the law of ln M_l; None without a law: activations
        that are not homogeneous, biases, weights that are not random or tied.
    """
    inputs, outputs, start = data_sizes(cell.dataset)
    shapes = layer_shapes(inputs, cell, outputs)[:-1]
    known = layer_variances(cell, shapes)
    biased = bias_moments(cell, cell.width) != (0.0, 0.0)
    plain = architecture.is_plain(cell) and not (biased or cell.tied or cell.dropout)
    if not known or not plain:
        return None
    gains = [fan_in * variance for (fan_in, _), variance in zip(shapes, known, strict=True)]
    try:
        factors = [theory.expected_square_norm(gain, 1, cell.activation) for gain in gains]
    except ValueError:  # the activation is not homogeneous
        return None
    law = theory.length_law([width for _, width in shapes], gains, cell.activation, start)
    return math.log(start) + np.cumsum(np.log(factors)), law
