"""Transient chaos: the numbers in the chapter's prose, and its claims."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradprop.claims import Below, Claim, Evidence, Within, exact, from_seeds
from gradprop.figures.data import StudyTables
from gradprop.figures.mean_field import coordinates, iteration, state

PAPER = "Poole et al. 2016"
MIDDLE = "dimension=256"  # of the data sets, the one whose pairs of inputs are followed


def _correlations(
    tables: StudyTables, activation: str
) -> Iterator[tuple[float, float, pd.DataFrame, pd.Series]]:
    """Yield both variances, correlations (a row a layer, a column a network) and the iteration.

    Shallower networks come first.
    """
    chosen = [
        cell
        for cell in tables.study.cells
        if cell.activation == activation and MIDDLE in cell.dataset.label
    ]
    rows = tables.layers.merge(coordinates(chosen), on="cell")
    rows = rows[rows["layer"] <= rows["depth"]]
    for _, group in rows.groupby(["depth", "sigma_w2"]):
        weights, biases = (float(group[name].iloc[0]) for name in ("sigma_w2", "sigma_b2"))
        measured = group.pivot(index="layer", columns="cell", values="preactivation_correlation")
        lengths = group.pivot(
            index="layer", columns="cell", values="preactivation_log10_mean_square"
        )
        means = pd.DataFrame(
            {"length": (10**lengths).mean(axis=1), "correlation": measured.mean(axis=1)}
        )
        yield weights, biases, measured, iteration(activation, weights, biases, means)


def _case(weights: float, biases: float) -> str:
    found = state("tanh", weights, biases)
    return f"σ_w = {math.sqrt(weights):g}, {found.phase}"


def _trajectory(tables: StudyTables) -> Iterator[Evidence]:
    """Take the layer in which the mean over networks is furthest from the iteration."""
    for weights, biases, measured, expected in _correlations(tables, "tanh"):
        worst = int(np.argmax((measured.mean(axis=1) - expected).abs()))
        predicted = float(expected.iloc[worst])
        case = f"{_case(weights, biases)}, depth {len(measured)}"
        yield from_seeds(case, measured.iloc[worst], predicted)


def _fixed_point(tables: StudyTables) -> Iterator[Evidence]:
    """Take the deepest networks of every weight variance."""
    deepest = {
        (weights, biases): measured.iloc[-1]
        for weights, biases, measured, _ in _correlations(tables, "tanh")
    }
    for (weights, biases), values in deepest.items():
        yield from_seeds(_case(weights, biases), values, state("tanh", weights, biases).c_star)


def _relu(tables: StudyTables) -> Iterator[Evidence]:
    for _, _, measured, expected in _correlations(tables, "relu"):
        error = measured.sem(axis=1)
        distance = ((measured.mean(axis=1) - expected).abs() / error).iloc[1:]
        yield exact("largest over layers", float(distance.max()), math.nan, measured.shape[1])


CLAIMS = [
    Claim(
        id="correlation-trajectory",
        statement="The correlation of two inputs follows the correlation map through the layers.",
        source=f"{PAPER}, figure 2",
        formula="mean correlation in the layer of the largest difference = iterated map",
        unit="correlation",
        criterion=Within(0.03),
        measure=_trajectory,
    ),
    Claim(
        id="correlation-fixed-point",
        statement=(
            "In the ordered phase inputs become alike (c* = 1); in the chaotic phase they stay "
            "apart at the fixed point of the map."
        ),
        source=f"{PAPER}, section 3 and figure 2",
        formula="mean correlation in the last layer = c*",
        unit="correlation",
        criterion=Within(0.03),
        measure=_fixed_point,
    ),
    Claim(
        id="relu-correlation",
        statement="From He's start correlations in relu networks follow the exact map.",
        source="Hayou, Doucet and Rousseau 2019, section 3",
        formula="distance of 1 − c from the iterated map, in standard errors",
        unit="standard errors",
        criterion=Below(3.0),
        measure=_relu,
    ),
]


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute fixed points, phases and distances that the prose names."""
    found: dict[str, float | str] = {"width": int(tables.cells["width"].max())}
    names = ("low", "middle", "high")
    cases = list(_correlations(tables, "tanh"))
    deepest = {weights: (biases, measured) for weights, biases, measured, _ in cases}
    for name, (weights, (biases, measured)) in zip(names, sorted(deepest.items()), strict=True):
        theory = state("tanh", weights, biases)
        found |= {
            f"{name}_depth": len(measured),
            f"{name}_sigma": math.sqrt(weights),
            f"{name}_chi": theory.chi_1,
            f"{name}_c_star": theory.c_star,
            f"{name}_correlation": float(measured.iloc[-1].mean()),
        }
    found["largest"] = max(
        float(np.abs(measured.mean(axis=1) - expected).max()) for _, _, measured, expected in cases
    )
    relu = next(_relu(tables))
    found["relu_distance"] = relu.measured
    _, _, measured, expected = next(_correlations(tables, "relu"))
    found["relu_measured"] = float(1 - measured.iloc[-1].mean())
    found["relu_expected"] = float(1 - expected.iloc[-1])
    found["networks"] = measured.shape[1]
    found["depth"] = len(measured)
    return found
