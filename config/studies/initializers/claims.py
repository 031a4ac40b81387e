"""The numbers in the chapter on initializers, and its claims."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.accuracy import prepare_atlas, training_outcomes
from gradprop.analysis.names import in_words, names_in_text
from gradprop.analysis.needs import at, need, recorded
from gradprop.analysis.thresholds import MOST_DECADES
from gradprop.claims import Above, Below, Case, Claim, Evidence, Within, exact, from_seeds
from gradprop.results.study_tables import StudyTables, at_start, at_step
from gradprop.spec import Cell

EULER = "Euler's theorem on homogeneous functions; du2018: its consequence for training"
GLOROT_SIGMOID = "glorot2010: section 3.1"
GOODFELLOW = "goodfellow2016: section 8.4"
NG_GRADIENTS = "ng2017: course 2, week 1, “Vanishing / exploding gradients”"
NG_SYMMETRY = "ng2017: course 1, week 3, “Random initialization”"
NG_WEIGHTS = "ng2017: course 2, week 1, “Weight initialization for deep networks”"


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute slopes in decades per layer and final accuracies."""
    digits = need(tables.cells[tables.cells["dataset"] == "digits"], "networks on digits")
    slopes = _slopes(tables, digits)
    deep = int(digits["depth"].max())
    atlas = prepare_atlas(
        tables,
        {"statistic": "final_train_accuracy", "rows": "dataset", "columns": "activation",
         "hue": "initializer"},
    )  # fmt: skip
    found: dict[str, float | str] = {
        "cells": len(tables.cells),
        "deep": deep,
        "untrainable": float((atlas["untrainable"] > 0.5).mean()),
        "diverged": float((atlas["diverged"] > 0.5).mean()),
    }
    for activation, initializer in (
        ("relu", "he_normal"),
        ("relu", "glorot_normal"),
        ("tanh", "glorot_normal"),
        ("tanh", "standard_heuristic"),
        ("sigmoid", "glorot_normal"),
    ):
        for kind in ("signal", "gradient"):
            found[f"{activation}_{initializer}_{kind}"] = slopes.get(
                (activation, initializer, kind), np.nan
            )
    for activation, initializer, depth in (
        ("relu", "he_normal", 20),
        ("relu", "glorot_normal", 20),
        ("tanh", "orthogonal", deep),
        ("tanh", "glorot_normal", deep),
        ("tanh", "standard_heuristic", deep),
    ):
        accuracies = _final_accuracies(tables, activation, initializer, depth)
        found[f"{activation}_{initializer}_accuracy"] = float(accuracies.median())
    sigmoid = digits[(digits["activation"] == "sigmoid") & (digits["depth"] == 20)]
    medians = sigmoid.groupby("initializer")["final_train_accuracy"].median().dropna()
    need(medians, "sigmoid networks of depth 20 on digits that end with an accuracy")
    found["sigmoid_best"] = in_words(str(medians.idxmax()), names_in_text(tables.study))
    found["sigmoid_best_accuracy"] = float(medians.max())
    return found


def _slopes(tables: StudyTables, cells: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Mean slope at initialization over the seeds of the deepest networks."""
    chosen = cells[cells["depth"] == cells["depth"].max()]
    rows = at_step(tables.layers[tables.layers["cell"].isin(chosen["cell"])], {"at": "start"})
    found: dict[tuple[str, str, str], float] = {}
    for kind in ("signal", "gradient"):
        statistic = f"{kind}_log10_rms"
        slopes = estimates.layer_slopes(recorded(rows, statistic), statistic).reset_index()
        slopes = slopes.merge(chosen[["cell", "activation", "initializer"]], on="cell")
        means = slopes.groupby(["activation", "initializer"], as_index=False)["slope"].mean()
        for row in means.itertuples():
            found[str(row.activation), str(row.initializer), kind] = float(row.slope)
    return found


# The initialization that theory recommends for an activation.
CAREFUL = {"tanh": "glorot_normal", "relu": "he_normal"}
XAVIER = "glorot_normal"
TINY = "normal"  # of standard deviation 0.01
LARGE = "normal(stddev=1.0)"
SHALLOW, DEEP = 2, (20, 50)


def _symmetry(tables: StudyTables) -> Iterator[Evidence]:
    """Count hidden layers whose weights are not all exactly zero, over all probes."""
    for activation in ("tanh", "relu"):
        chosen = [
            cell.id
            for cell in tables.study.cells
            if cell.initializer.name == "zeros" and cell.activation.name == activation
        ]
        rows = tables.layers[tables.layers["cell"].isin(chosen)]
        depths = rows.groupby("cell")["layer"].transform("max")
        hidden = rows[rows["layer"] < depths]
        if len(hidden):
            moved = float(
                (recorded(hidden, "weight_log10_norm")["weight_log10_norm"] > -np.inf).mean()
            )
            yield exact(Case(activation=activation), moved, 0.0, len(chosen))


def _final_accuracies(
    tables: StudyTables, activation: str, label: str, depth: int
) -> pd.Series[float]:
    """Return the final training accuracies on digits by seed; diverged networks count as 0."""
    chosen = {c.id for c in _digits(tables, activation, (label,)) if c.depth == depth}
    cells = training_outcomes(tables.cells[tables.cells["cell"].isin(chosen)])
    accuracies: pd.Series[float] = cells.set_index("seed")["accuracy"]
    return accuracies


def _digits(tables: StudyTables, activation: str, starts: tuple[str, ...]) -> list[Cell]:
    """Return the networks on digits with one of some initializations."""
    return [
        cell
        for cell in tables.study.cells
        if (cell.dataset.name, cell.activation.name) == ("digits", activation)
        and cell.initializer.label in starts
    ]


def _signal_decades(
    starts: dict[str, tuple[str, ...]],
) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of by how many decades the signal of deep networks changes.

    `starts` holds those of every activation. If the signal of all networks of a case is
    exactly zero, or not finite, in all hidden layers, the change is infinite; of some, there is no
    mean, and the case is not tested.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        layers = at_start(tables.layers)
        slopes = estimates.layer_slopes(layers, "signal_log10_rms").droplevel("step")
        for activation, labels in starts.items():
            for label, depth in itertools.product(labels, DEEP):
                cells = [c.id for c in _digits(tables, activation, (label,)) if c.depth == depth]
                decades = (slopes.loc[cells] * (depth - 1)).abs()
                case = Case(activation=activation, initializer=label, depth=depth)
                if cells and decades.isna().all():
                    yield exact(case, np.inf, np.nan, len(cells))
                else:
                    yield from_seeds(case, decades)

    return measure


def _saturation(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the saturated fraction of the hidden layers of two initializations, seed by seed."""
    rows = at_start(recorded(tables.layers, "saturated_fraction")).set_index("cell")
    for activation in ("tanh", "sigmoid"):
        found = {
            (cell.seed, label): rows.loc[cell.id].query("layer <= @cell.depth")
            for label in (XAVIER, LARGE)
            for cell in _digits(tables, activation, (label,))
            if cell.depth == SHALLOW
        }
        if found:
            means = {key: part["saturated_fraction"].mean() for key, part in found.items()}
            table = pd.Series(means).unstack()
            yield from_seeds(
                Case(activation=activation, depth=SHALLOW), at(table, LARGE) - at(table, XAVIER)
            )


def _update_gains(tables: StudyTables, activation: str, start: str) -> pd.DataFrame:
    """Fit the slope over hidden layers, towards the input, of log10 (update over weight).

    One row per seed, one column per probe.
    """
    cells = {c.id for c in _digits(tables, activation, (start,)) if c.depth == DEEP[0]}
    layers = recorded(tables.layers, "log10_update_ratio")
    what = f"networks on digits with activation {activation}, initializer {start}, depth {DEEP[0]}"
    rows = need(layers[layers["cell"].isin(cells)], what)
    return estimates.layer_slopes(rows, "log10_update_ratio").unstack()


def _movement(tables: StudyTables) -> Iterator[Evidence]:
    """Yield the first step's gain, for which there is a prediction, and the mean of later ones."""
    for activation, start, variance in (("sigmoid", XAVIER, 1.0), ("relu", "he_normal", 2.0)):
        gains = _update_gains(tables, activation, start)
        chi = theory.mean_field_state(activation, variance).chi_1
        predicted = np.log10(chi) / 2 if activation == "sigmoid" else 0.0
        first, later = (
            Case(activation=activation, initializer=start, steps=steps)
            for steps in ("first step", "later")
        )
        yield from_seeds(first, at(gains, 0), predicted)
        yield from_seeds(later, gains.drop(columns=0).mean(axis=1))


def _relu_movement(tables: StudyTables) -> Iterator[Evidence]:
    gains = _update_gains(tables, "relu", "he_normal")
    yield from_seeds(Case(steps="first step"), at(gains, 0), 0.0)


CLAIMS = [
    Claim(
        id="zeros-stay-symmetric",
        statement=(
            "Initialization with zeros never breaks symmetry: hidden weights stay exactly zero."
        ),
        source=f"{NG_SYMMETRY}; {GOODFELLOW}",
        formula="fraction of hidden layers and probes with a weight other than 0 = 0",
        unit="",
        criterion=Within(0.0),
        measure=_symmetry,
        passage="symmetric",
        check=True,
    ),
    Claim(
        id="fixed-scales-lose-the-signal",
        statement=(
            "Deep networks whose weights have one fixed scale, 0.01 or 1, do not start stable: "
            "over the depth the back-propagated signal vanishes, explodes or is lost altogether."
        ),
        source=NG_GRADIENTS,
        formula="decades, up or down, by which RMS dC/dz changes over the hidden layers",
        unit="decades",
        criterion=Above(MOST_DECADES),
        measure=_signal_decades(dict.fromkeys(("tanh", "relu", "sigmoid"), (TINY, LARGE))),
        note=(
            "Where no number is given, the signal leaves the range of float32 in every layer; if "
            "only some networks of a case lose it so, the case is not tested. "
            "Where it does not hold: a sigmoid is so flat that weights of standard deviation 1, "
            "large for the other two, come near what its signal needs at this width."
        ),
        passage="slopes",
    ),
    Claim(
        id="careful-starts-are-stable",
        statement=(
            "From variance 1/n (tanh, sigmoid) or 2/n (ReLU) the back-propagated signal of a deep "
            "network changes by less than two decades."
        ),
        source=NG_WEIGHTS,
        formula="decades, up or down, by which RMS dC/dz changes over the hidden layers",
        unit="decades",
        criterion=Below(MOST_DECADES),
        measure=_signal_decades(
            {phi: (start,) for phi, start in {**CAREFUL, "sigmoid": XAVIER}.items()}
        ),
        note=(
            "It holds in part: for tanh and ReLU. The slope of a sigmoid is at most ¼, and no "
            "moderate variance of the weights makes up for it."
        ),
        passage="reasonably-deep",
    ),
    Claim(
        id="large-weights-saturate",
        statement=(
            "Large weights saturate the units of tanh and sigmoid networks at initialization."
        ),
        source=NG_SYMMETRY,
        formula="saturated fraction of hidden units, N(0, 1) − Glorot",
        unit="of units and examples",
        criterion=Above(0.25),
        measure=_saturation,
        passage="too-large",
    ),
    Claim(
        id="early-layers-move-least",
        statement="Early layers move least.",
        source=f"{NG_GRADIENTS}, as it is often read; {GLOROT_SIGMOID}; {EULER}",
        formula="slope of log10 (update over weight) towards the input",
        unit="decades per layer",
        criterion=Below(-0.05),
        measure=_movement,
        note=(
            "It holds in part: where activations saturate, as in sigmoid networks, whose weight "
            "gradients themselves vanish towards the input. In ReLU networks the first step moves "
            "all layers about alike, as the next claim says."
        ),
    ),
    Claim(
        id="relu-layers-move-alike",
        statement=(
            "The first step from He's initialization moves all layers of a ReLU network alike."
        ),
        source=EULER,
        formula="slope of log10 (update over weight) towards the input = 0",
        unit="decades per layer",
        criterion=Within(0.05),
        measure=_relu_movement,
        note="As far from 0 as the claim before this one asks for, at the least.",
    ),
]
