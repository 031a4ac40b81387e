"""The claims on trainability at each start's best learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop.claims import Above, Below, Claim, Evidence, from_seeds
from gradprop.figures.data import StudyTables

CAREFUL = {"tanh": "glorot_normal", "relu": "he_normal"}
NAIVE = ("normal", "variance_scaling(scale=9.0)")


def best_accuracies(
    tables: StudyTables, optimizer: str
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return final training accuracies by seed at the best learning rate of every start.

    The rule, fixed before measuring: the rate with the smallest mean over seeds of the final
    training loss, a diverged network counting as infinite; ties go to the smaller rate. An
    accuracy of a diverged network counts as 0.

    Returns
    -------
    dict
        For activation and initializer one accuracy a seed.
    """
    components = {c.id: (c.initializer.label, c.optimizer.name) for c in tables.study.cells}
    cells = tables.cells.copy()
    cells["start"] = [components[name][0] for name in cells["cell"]]
    cells = cells[[components[name][1] == optimizer for name in cells["cell"]]]
    cells["loss"] = cells["final_train_loss"].astype(float).fillna(np.inf)
    cells["accuracy"] = cells["final_train_accuracy"].astype(float).fillna(0.0)
    losses = cells.groupby(["activation", "start", "learning_rate"])["loss"].mean().unstack()
    best = losses.idxmin(axis=1)
    keys = pd.MultiIndex.from_frame(cells[["activation", "start"]])
    chosen = cells[cells["learning_rate"].to_numpy() == best.loc[keys].to_numpy()]
    return {
        (str(activation), str(start)): rows.sort_values("seed")["accuracy"].to_numpy(np.float64)
        for (activation, start), rows in chosen.groupby(["activation", "start"])
    }


def _gain(optimizer: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        best = best_accuracies(tables, optimizer)
        for activation, careful in CAREFUL.items():
            for naive in NAIVE:
                gain = best[activation, careful] - best[activation, naive]
                yield from_seeds(f"{activation}, {careful} − {naive}", gain)

    return measure


def _he_and_xavier(optimizer: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        best = best_accuracies(tables, optimizer)
        gap = best["relu", "he_normal"] - best["relu", "glorot_normal"]
        yield from_seeds("relu", gap)

    return measure


CLAIMS = [
    Claim(
        id="sgd-needs-care",
        statement=(
            "With SGD a careful start trains a deep network that naive starts leave untrained, "
            "each at its best learning rate."
        ),
        source="Glorot and Bengio 2010; He et al. 2015",
        formula="final training accuracy, careful − naive, best rates",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gain("sgd"),
    ),
    Claim(
        id="adam-needs-care",
        statement="With Adam it does so, too.",
        source="the common advice that initialization matters whatever the optimizer",
        formula="final training accuracy, careful − naive, best rates",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gain("adam"),
    ),
    Claim(
        id="sgd-he-over-xavier",
        statement="With SGD a relu network of depth 20 learns clearly better from He's start.",
        source="He et al. 2015, figure 3",
        formula="final training accuracy, He − Xavier, best rates",
        unit="accuracy",
        criterion=Above(0.05),
        measure=_he_and_xavier("sgd"),
    ),
    Claim(
        id="adam-he-like-xavier",
        statement="With Adam the advantage of He's start over Xavier's is less than five points.",
        source="a contrast to He et al. 2015, who use SGD",
        formula="final training accuracy, He − Xavier, best rates",
        unit="accuracy",
        criterion=Below(0.05),
        measure=_he_and_xavier("adam"),
    ),
]
