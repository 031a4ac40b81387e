"""The layers of a study's networks: which are hidden, and the shapes of their kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradprop.components import datasets, initializers
from gradprop.spec import SIZES, Cell


def hidden(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out the output layer of every network."""
    return rows[rows["layer"] < rows.groupby("cell", sort=False)["layer"].transform("max")]


def kernel_shapes(rows: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return ``fan_in`` and ``units`` of the layer of every row.

    Parameters
    ----------
    rows
        With the columns ``cell`` and ``layer``; of networks that a study builds itself, with the
        two columns that are asked for.
    cells
        All cells that have rows.
    """
    if SIZES[0] in rows:
        return rows[[*SIZES]]
    starts: dict[object, int] = {}
    of_cells: dict[str, int] = {}
    shapes: list[tuple[int, int]] = []
    for cell in cells:
        architecture = (cell.dataset, cell.widths, cell.width, cell.depth)
        if architecture not in starts:
            starts[architecture] = len(shapes)
            inputs, outputs = datasets.sizes(cell.dataset).features, datasets.outputs(cell.dataset)
            shapes += initializers.layer_shapes(inputs, cell, outputs)
        of_cells[cell.id] = starts[architecture]
    places = rows["cell"].map(of_cells) + rows["layer"] - 1
    return pd.DataFrame(
        np.array(shapes, dtype=np.float64)[places.to_numpy(int)],
        columns=[*SIZES],
        index=rows.index,
    )
