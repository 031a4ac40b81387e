"""Final accuracy of every configuration, and where training fails."""

from __future__ import annotations

import pandas as pd

from gradprop.results.study_tables import Options, StudyTables, groups

# A network counts as untrainable if it does not beat the most frequent class by this much.
UNTRAINABLE_MARGIN = 0.05


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
