"""How fast signals change in networks at initialization, and the matrices that decide it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop.analysis import estimates
from gradprop.analysis.needs import need, table
from gradprop.components.initializers import draw_kernel
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

# The largest absolute slope of activation functions: gamma of Pascanu et al. 2013.
GAMMA: Mapping[str, float] = {"linear": 1.0, "relu": 1.0, "tanh": 1.0, "sigmoid": 0.25}
# Rates are fitted over these parts of the depth: far from the output, where the signal has passed
# the kernel many times, and without the first layers, where activations still change.
NEAREST, FARTHEST = 0.1, 0.5
LEAST_DEPTH = 4


@dataclass(frozen=True)
class Growth:
    """What one use of a matrix W does to a vector.

    Attributes
    ----------
    radius
        log10 of the spectral radius, the largest modulus of an eigenvalue: the growth of
        ``|W^t x|`` per use as t grows (Gelfand's formula).
    norm
        log10 of the largest singular value, the most that a single use can do.
    """

    radius: float
    norm: float


@lru_cache(maxsize=1024)
def growth(cell: Cell) -> Growth:
    """Return what the kernel of layer 2 does, which tied layers share; in float64."""
    import gradprop.training.backend  # noqa: F401  # loads Keras as training does

    kernel = draw_kernel(cell, 2, (cell.width, cell.width)).astype(np.float64)
    with np.errstate(divide="ignore"):
        return Growth(
            float(np.log10(np.abs(np.linalg.eigvals(kernel)).max())),
            float(np.log10(np.linalg.norm(kernel, 2))),
        )


def rates(tables: StudyTables) -> pd.DataFrame:
    """Measure how the back-propagated signal changes in networks that are not trained.

    Returns
    -------
    DataFrame
        One row per network with equal hidden layers: ``network`` (the cell), ``activation``,
        ``initializer`` (its label), ``depth``, ``width``, ``tied``, ``seed``; ``rate``, the slope
        of log10 RMS dC/dz, and ``forward_rate``, that of log10 RMS z, in decades per layer towards
        the input and the output. They are fitted by least squares over the layers whose signal, or
        activation, has passed between a half and nine tenths of the others. Of kernels that are
        tied also ``radius`` and ``bound``: log10 of the spectral radius, and of gamma times the
        largest singular value (`Growth`), NaN for others; ``gamma``, log10 of gamma (`GAMMA`).
    """
    alike = [c for c in tables.study.cells if not c.epochs and c.widths.name == "constant"]
    cells = [cell for cell in alike if cell.depth >= LEAST_DEPTH]
    need(cells, f"networks that are not trained of at least {LEAST_DEPTH} layers")
    rows = at_start(tables.layers)
    signal = table(rows, "layer", "cell", "signal_log10_rms")
    length = table(rows, "layer", "cell", "preactivation_log10_mean_square") / 2
    found = pd.DataFrame(
        {
            "network": cells,
            "activation": [cell.activation.label for cell in cells],
            "initializer": [cell.initializer.label for cell in cells],
            **{
                key: [getattr(cell, key) for cell in cells]
                for key in ("depth", "width", "tied", "seed")
            },
            "rate": -_slopes(signal, cells, NEAREST, FARTHEST),
            "forward_rate": _slopes(length, cells, 1 - FARTHEST, 1 - NEAREST),
        }
    )
    drawn = [growth(cell) if cell.tied else Growth(np.nan, np.nan) for cell in cells]
    gamma = np.array([math.log10(GAMMA.get(cell.activation.name, math.nan)) for cell in cells])
    return found.assign(
        radius=[one.radius for one in drawn],
        bound=[one.norm for one in drawn] + gamma,
        gamma=gamma,
    )


def _slopes(
    values: pd.DataFrame, cells: Sequence[Cell], first: float, last: float
) -> NDArray[np.float64]:
    """Fit lines through values (layer, cell) between two parts of the depth of every network."""
    found = np.full(len(cells), np.nan)
    for depth in {cell.depth for cell in cells}:
        places = [place for place, cell in enumerate(cells) if cell.depth == depth]
        layers = [n for n in range(1, depth + 1) if first * depth <= n <= last * depth]
        lines = values.reindex(layers, columns=[cells[place].id for place in places])
        found[places] = estimates.slopes(layers, lines.to_numpy())
    return found
