"""How fast signals change in networks at initialization, and the matrices that decide it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.needs import need, recorded
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
    cells = {c.id: c for c in tables.study.cells if not c.epochs and c.depth >= LEAST_DEPTH}
    cells = {name: c for name, c in cells.items() if c.widths.name == "constant"}
    need(cells, f"networks that are not trained of at least {LEAST_DEPTH} layers")
    columns = ("signal_log10_rms", "preactivation_log10_mean_square")
    rows = recorded(at_start(tables.layers), *columns)
    rows = rows[rows["cell"].isin(cells)]
    found = []
    for name, layers in rows.groupby("cell", sort=False):
        cell = cells[str(name)]
        back = layers[layers["layer"].between(NEAREST * cell.depth, FARTHEST * cell.depth)]
        there = layers[
            layers["layer"].between((1 - FARTHEST) * cell.depth, (1 - NEAREST) * cell.depth)
        ]
        drawn = growth(cell) if cell.tied else Growth(np.nan, np.nan)
        gamma = math.log10(GAMMA.get(cell.activation, math.nan))
        found.append(
            {
                "network": cell,
                "activation": cell.activation,
                "initializer": cell.initializer.label,
                **{key: getattr(cell, key) for key in ("depth", "width", "tied", "seed")},
                "rate": -estimates.slope(back["layer"], back["signal_log10_rms"]),
                "forward_rate": estimates.slope(
                    there["layer"], there["preactivation_log10_mean_square"] / 2
                ),
                "radius": drawn.radius,
                "bound": drawn.norm + gamma,
                "gamma": gamma,
            }
        )
    return pd.DataFrame(need(found, "such networks"))
