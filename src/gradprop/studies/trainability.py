"""The claims on trainability at each start's best learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop.claims import Above, Below, Claim, Evidence, from_seeds
from gradprop.figures.data import StudyTables
from gradprop.studies.initializers import CAREFUL, TINY

NAIVE = (TINY, "variance_scaling(scale=9.0)")


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


def _gaps(
    optimizer: str, pairs: dict[str, tuple[str, str, str]]
) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of differences in accuracy between two starts, seed by seed.

    `pairs` holds for every case an activation and two initializers.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        best = best_accuracies(tables, optimizer)
        for case, (activation, better, worse) in pairs.items():
            yield from_seeds(case, best[activation, better] - best[activation, worse])

    return measure


CARE = {
    f"{activation}, {careful} − {naive}": (activation, careful, naive)
    for activation, careful in CAREFUL.items()
    for naive in NAIVE
}
HE_AND_XAVIER = {"relu": ("relu", "he_normal", "glorot_normal")}
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
        measure=_gaps("sgd", CARE),
    ),
    Claim(
        id="adam-needs-care",
        statement="With Adam it does so, too.",
        source="the common advice that initialization matters whatever the optimizer",
        formula="final training accuracy, careful − naive, best rates",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps("adam", CARE),
    ),
    Claim(
        id="sgd-he-over-xavier",
        statement="With SGD a relu network of depth 20 learns clearly better from He's start.",
        source="He et al. 2015, figure 3",
        formula="final training accuracy, He − Xavier, best rates",
        unit="accuracy",
        criterion=Above(0.05),
        measure=_gaps("sgd", HE_AND_XAVIER),
    ),
    Claim(
        id="adam-he-like-xavier",
        statement="With Adam the advantage of He's start over Xavier's is less than five points.",
        source="a contrast to He et al. 2015, who use SGD",
        formula="final training accuracy, He − Xavier, best rates",
        unit="accuracy",
        criterion=Below(0.05),
        measure=_gaps("adam", HE_AND_XAVIER),
    ),
]
