"""Dropout masks, by streams of every cell's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradprop.components.initializers import stream_seed
from gradprop.spec import Cell


class Masks:
    """Which units of the hidden layers are kept, step by step.

    Every hidden layer of a cell has a stream of its own, which depends on nothing but the cell's
    seed and the layer: not on the stack, on other layers, or on what is measured.

    Parameters
    ----------
    cells
        Of one stack, which share rate and batch size.
    widths
        Units of the hidden layers; a rate of 0 draws nothing.
    stream
        Name of the streams.
    """

    def __init__(self, cells: Sequence[Cell], widths: Sequence[int], stream: str) -> None:
        self.rate, self.batch_size = cells[0].dropout, cells[0].batch_size
        layers = list(enumerate(widths, start=1)) if self.rate else []
        self.streams = [
            (units, [np.random.default_rng(stream_seed(stream, c.seed, n)) for c in cells])
            for n, units in layers
        ]

    def draw(self) -> tuple[NDArray[np.bool_], ...]:
        """Return what the next step keeps, each unit with probability 1 - rate.

        Returns
        -------
        tuple of ndarray
            One (replicas, batch, units) per hidden layer; empty without dropout.
        """
        return tuple(
            np.stack([s.random((self.batch_size, units)) >= self.rate for s in streams])
            for units, streams in self.streams
        )
