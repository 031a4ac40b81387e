"""In which layers a network of a cell's precision is exactly 0 or infinite, by prediction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradprop.components.architecture import hidden_widths
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.prediction.data import prediction_on_data
from gradprop.spec import Cell
from gradprop.theory.formats import first_beyond


class LostLayers(NamedTuple):
    """Layers, from 1, at which something is lost first; 0 where it is not.

    Pre-activations are lost from this layer on towards the output, signals from it on towards the
    input.
    """

    length_zero: int
    length_infinite: int
    signal_zero: int
    signal_infinite: int


def lost_layers(cell: Cell) -> LostLayers | None:
    """Predict where pre-activations and signals leave the range of the cell's format.

    The sizes are those of exact arithmetic (`gradprop.prediction.networks.predict`). The loss is
    ``output_sum``, whose signal at the output is 1: in the format it is S / batch_size with the
    loss scale S, and every signal is that many times its derivative of a single example's loss.

    Returns
    -------
    LostLayers or None
        None where lengths or signals are not predicted, and for other losses.
    """
    predicted = prediction_on_data(cell)
    if predicted is None or cell.loss != "output_sum" or np.isnan(predicted.signal).any():
        return None
    given = LOSS_SCALES.parameters_of(cell.loss_scale)
    scale = given.get("factor", given.get("initial_scale", 1.0))
    signal = predicted.signal - predicted.signal[-1] + math.log10(scale / cell.batch_size)
    entries = cell.batch_size * max(hidden_widths(cell), default=1)
    lengths = first_beyond(predicted.length / 2, cell.precision, entries)
    signals = first_beyond(signal[::-1], cell.precision, entries)
    forward = [0 if place is None else place + 1 for place in lengths]
    backward = [0 if place is None else len(signal) - place for place in signals]
    return LostLayers(forward[0], forward[1], backward[0], backward[1])
