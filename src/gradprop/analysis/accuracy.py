"""What training came to: final losses and accuracies, and where training fails."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop.results.study_tables import Options, StudyTables, groups

# A network counts as untrainable if it does not beat the most frequent class by this much.
UNTRAINABLE_MARGIN = 0.05


def training_outcomes(cells: pd.DataFrame) -> pd.DataFrame:
    """Return trained cells with columns ``loss`` and ``accuracy``, the final ones in training.

    A network without a finite result, because it diverged or because its outputs overflow, has the
    worst of both, an infinite loss and an accuracy of 0: a mean or a median that left it out would
    speak of the survivors alone.

    Parameters
    ----------
    cells
        Rows of the ``cells`` table.
    """
    diverged = cells["status"] == "diverged"
    return cells.assign(
        loss=cells["final_train_loss"].astype(float).mask(diverged).fillna(np.inf),
        accuracy=cells["final_train_accuracy"].astype(float).mask(diverged).fillna(0.0),
    )


def prepare_atlas(tables: StudyTables, options: Options) -> pd.DataFrame:
    """Median final accuracy over seeds, with the shares of diverged and untrainable networks."""
    name: str = options["statistic"]
    keys = [*groups(options), "depth"]
    cells = tables.select(options)
    accuracy = cells[name].where(cells["status"] != "diverged", 0.0)
    chance = cells["chance_accuracy"] + UNTRAINABLE_MARGIN
    cells = cells.assign(
        value=accuracy,
        diverged=cells["status"] == "diverged",
        untrainable=(cells["status"] != "diverged") & (accuracy <= chance),
    )
    return (
        cells.groupby(keys, sort=False)
        .agg(
            seeds=("cell", "size"),
            median=("value", "median"),
            diverged=("diverged", "mean"),
            untrainable=("untrainable", "mean"),
        )
        .reset_index()
    )
