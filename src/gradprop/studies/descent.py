"""The numbers in the chapter on gradient descent."""

from __future__ import annotations

import numpy as np

from gradprop.figures.data import StudyTables

STARTS = ("vanishing", "balanced", "exploding")


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute shares of networks that reached the target or diverged, and update ratios."""
    cells = tables.cells.assign(start=tables.cells["initializer"].str.split(" ").str[0])
    networks = cells[cells["activation"] != "linear"]
    deepest = networks[networks["depth"] == networks["depth"].max()]
    deep = networks[networks["depth"] >= 10]
    found: dict[str, float | str] = {
        "deepest": int(networks["depth"].max()),
        "epochs": int(cells["epochs"].max()),
        "target": float(networks["target_loss"].max()),
    }
    for start in STARTS:
        chosen = deep[deep["start"] == start]
        arrived = chosen["steps_to_target"].notna()
        found[f"{start}_arrived"] = float(arrived.mean())
        found[f"{start}_deepest"] = float(
            deepest.loc[deepest["start"] == start, "steps_to_target"].notna().mean()
        )
        for activation in ("tanh", "relu"):
            part = chosen[chosen["activation"] == activation]
            found[f"{start}_{activation}_diverged"] = float((part["status"] == "diverged").mean())
    bad = cells.loc[cells["status"] == "diverged", "first_bad_step"]
    found["latest_divergence"] = float(bad.max()) if len(bad) else np.nan
    return found | _first_ratios(tables)


def _first_ratios(tables: StudyTables) -> dict[str, float | str]:
    """Median update-to-weight ratio at step 0 of the first hidden layer, digits, depth 20."""
    cells = tables.cells
    chosen = cells[(cells["dataset"] == "digits") & (cells["depth"] == 20)]
    layers = tables.layers
    rows = layers[(layers["step"] == 0) & (layers["layer"] == 1)]
    rows = rows.merge(chosen[["cell", "activation", "initializer"]], on="cell")
    rows["start"] = rows["initializer"].str.split(" ").str[0]
    medians = rows.groupby(["start", "activation"], as_index=False)["log10_update_ratio"].median()
    return {
        f"{row.start}_{row.activation}_ratio": 10.0**row.log10_update_ratio
        for row in medians.itertuples()
    }
