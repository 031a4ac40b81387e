"""Transient chaos: the numbers in the chapter's prose, and its claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.curves import measured_curves
from gradprop.analysis.maps import iteration
from gradprop.analysis.needs import NotMeasured, first, need, networks, recorded, table
from gradprop.analysis.slopes import FIRST_LAYERS
from gradprop.claims import Case, Claim, Evidence, Within, from_layers, from_seeds
from gradprop.prediction.curves import expected_curve
from gradprop.prediction.mean_field import coordinates, state
from gradprop.results.study_tables import StudyTables, at_start

Item = TypeVar("Item")

PAPER = "poole2016"
INDEPENDENT, SIMILAR = "gaussian_mixture", "equicorrelated"  # how inputs start
WIDTH, WIDE = 256, 512
RESOLVED = 0.95  # of the length of a curve, what a polygon that follows it has
NAMES = ("low", "middle", "high")  # of the weight deviations, in the prose


def _correlations(
    tables: StudyTables, activation: str, inputs: str = INDEPENDENT
) -> Iterator[tuple[float, float, pd.DataFrame, pd.Series]]:
    """Yield both variances, correlations (a row per layer, a column per network) and the iteration.

    Shallower networks come first.
    """
    chosen = [
        cell
        for cell in tables.study.cells
        if (cell.activation.name, cell.dataset.name, cell.width) == (activation, inputs, WIDTH)
    ]
    need(chosen, f"{activation} networks of width {WIDTH} on {inputs}")
    rows = at_start(tables.layers).merge(coordinates(chosen), on="cell")
    rows = rows[rows["layer"] <= rows["depth"]]
    for _, group in rows.groupby(["depth", "sigma_w2"]):
        weights, biases = (float(group[name].iloc[0]) for name in ("sigma_w2", "sigma_b2"))
        measured = table(group, "layer", "cell", "preactivation_correlation")
        lengths = table(group, "layer", "cell", "preactivation_log10_mean_square")
        means = pd.DataFrame(
            {"length": (10**lengths).mean(axis=1), "correlation": measured.mean(axis=1)}
        )
        yield weights, biases, measured, iteration(activation, weights, biases, means)


def _case(weights: float, biases: float, text: str = "", **parameters: object) -> Case:
    """Return the case of tanh networks with these variances and what else tells it from others."""
    deviations = {"sigma_w": math.sqrt(weights), "sigma_b": math.sqrt(biases)}
    phase = state("tanh", weights, biases).phase
    text = f"weight deviation {deviations['sigma_w']:g}, {phase}{text}"
    return Case(text, **deviations, **parameters)


def _trajectory(tables: StudyTables) -> Iterator[Evidence]:
    """Give the deviation of the mean over networks from the iteration."""
    for inputs in (INDEPENDENT, SIMILAR):
        for weights, biases, measured, expected in _correlations(tables, "tanh", inputs):
            depth = len(measured)
            text = f", depth {depth}{', similar inputs' if inputs == SIMILAR else ''}"
            case = _case(weights, biases, text, depth=depth, inputs=inputs)
            yield from_layers(case, measured.sub(expected, axis=0), 0.0)


def _fixed_point(tables: StudyTables) -> Iterator[Evidence]:
    """Take the deepest networks of every weight variance."""
    deepest = {
        (weights, biases): measured.iloc[-1]
        for weights, biases, measured, _ in _correlations(tables, "tanh")
    }
    for (weights, biases), values in deepest.items():
        yield from_seeds(_case(weights, biases), values, state("tanh", weights, biases).c_star)


def _relu(tables: StudyTables) -> Iterator[Evidence]:
    for weights, _, measured, expected in _correlations(tables, "relu"):
        # In the first layer correlations may be too near to 0 for a ratio of 1 - c to say much.
        ratios = (1 - measured).div(1 - expected, axis=0).iloc[1:]
        depth = len(measured)
        yield from_layers(Case(f"depth {depth}", depth=depth, sigma_w2=weights), ratios, 1.0)


def _curves(
    tables: StudyTables, width: int = WIDTH
) -> Iterator[tuple[Case, float, pd.DataFrame, theory.CurveTrajectory]]:
    """Yield the case, ln chi_1, the curves in a row per network and layer, and the iteration."""
    curves = recorded(measured_curves(tables, {"select": {"width": width}}))
    for _, rows in curves.groupby("sigma_w2"):
        weights, biases = (float(rows[name].iloc[0]) for name in ("sigma_w2", "sigma_b2"))
        growth = math.log(state("tanh", weights, biases).chi_1)
        yield _case(weights, biases), growth, rows, expected_curve(rows)


def _slopes(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """Return by how much ln of a quantity grows a layer, where the length has converged."""
    late = table(rows, "layer", "seed", quantity).loc[FIRST_LAYERS:]
    slopes = estimates.slopes(late.index, np.log(late.to_numpy()))
    return pd.Series(slopes, index=late.columns)


def _expansion(tables: StudyTables) -> Iterator[Evidence]:
    for case, growth, rows, _ in _curves(tables):
        yield from_seeds(case, _slopes(rows, "expansion"), growth)


def _curvature(tables: StudyTables) -> Iterator[Evidence]:
    """Give the mean over networks over the iteration."""
    for case, _, rows, expected in _curves(tables):
        measured = table(rows, "layer", "seed", "curvature")
        yield from_layers(case, measured.div(expected.curvature, axis=0), 1.0)


def _grassmannian(tables: StudyTables) -> Iterator[Evidence]:
    for case, _, rows, expected in _curves(tables):
        layers = np.arange(FIRST_LAYERS, len(expected.expansion) + 1)
        late = np.log(expected.grassmannian_length[FIRST_LAYERS - 1 :])
        slopes = _slopes(rows, "grassmannian_length")
        yield from_seeds(case, slopes, estimates.slope(layers, late))


CLAIMS = [
    Claim(
        id="correlation-trajectory",
        statement="The correlation of two inputs follows the correlation map through the layers.",
        source=f"{PAPER}: figure 2",
        formula="mean correlation − iterated map = 0, in every layer",
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
        source=f"{PAPER}: section 3 and figure 2",
        formula="mean correlation in the last layer = c*",
        unit="correlation",
        criterion=Within(0.03),
        measure=_fixed_point,
    ),
    Claim(
        id="circle-length",
        statement=(
            "The image of a circle shrinks from layer to layer in the ordered phase and grows in "
            "the chaotic one, at the rate of gradients."
        ),
        source=f"{PAPER}: equation 8 and figure 4",
        formula=f"slope of ln ḡ over layers {FIRST_LAYERS} to the last = ln χ₁",
        unit="per layer",
        criterion=Within(0.015, 0.05),
        measure=_expansion,
    ),
    Claim(
        id="curvature",
        statement=(
            "The curvature of the image follows its map: it keeps growing in the ordered phase "
            "and comes to a fixed point in the chaotic one."
        ),
        source=f"{PAPER}: equation 8 and figure 4",
        formula="mean κ̄ over the iteration of κ̄² → 3 χ₂ / χ₁² + κ̄² / χ₁ = 1, in every layer",
        unit="ratio",
        criterion=Within(relative=0.1),
        measure=_curvature,
        note=(
            "Theory is that of infinite width. Curvature is divided by what a layer stretches, "
            "which at finite width differs from network to network: the mean of a reciprocal is "
            "above the reciprocal of the mean. In the ordered phase, where old curvature is kept, "
            "the excess adds up over the layers. The chapter compares two widths."
        ),
    ),
    Claim(
        id="grassmannian-length",
        statement=(
            "The tangent of the image turns more and more in the chaotic phase, exponentially with "
            "depth, and hardly more in the ordered one."
        ),
        source=f"{PAPER}: section 4 and figure 4",
        formula=f"slope of ln L_G over layers {FIRST_LAYERS} to the last = that of 2π κ̄ √ḡ",
        unit="per layer",
        criterion=Within(0.015, 0.05),
        measure=_grassmannian,
    ),
    Claim(
        id="relu-correlation",
        statement="From He's initialization correlations in ReLU networks follow the exact map.",
        source="hayou2019: section 3",
        formula="mean of 1 − c over that of the iterated map = 1, in every layer after the first",
        unit="ratio",
        criterion=Within(relative=0.1),
        measure=_relu,
        note=(
            "At this depth 1 − c differs much from network to network. What the interval of few "
            "networks leaves open does not count as agreement."
        ),
    ),
]


def _named(cases: Sequence[Item]) -> Iterator[tuple[str, Item]]:
    """Yield the cases of three weight deviations, the small ones first, with their names."""
    if len(cases) != len(NAMES):
        raise NotMeasured(f"the study has {len(cases)} weight variances in place of {len(NAMES)}")
    return zip(NAMES, cases, strict=True)


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute fixed points, phases and distances that the prose names."""
    found: dict[str, float | str] = {"width": WIDTH, "wide": WIDE}
    cases = list(_correlations(tables, "tanh"))
    similar = list(_correlations(tables, "tanh", SIMILAR))
    deepest = {weights: (biases, measured) for weights, biases, measured, _ in cases}
    for name, (weights, (biases, measured)) in _named(sorted(deepest.items())):
        theory_says = state("tanh", weights, biases)
        found |= {
            f"{name}_depth": len(measured),
            f"{name}_sigma": math.sqrt(weights),
            f"{name}_chi": theory_says.chi_1,
            f"{name}_c_star": theory_says.c_star,
            f"{name}_correlation": float(measured.iloc[-1].mean()),
        }
    for name, (_, _, measured, _) in _named(similar):
        found[f"{name}_similar_first"] = float(measured.iloc[0].mean())
        found[f"{name}_similar_last"] = float(measured.iloc[-1].mean())
    found["largest"] = max(
        float(np.abs(measured.mean(axis=1) - expected).max())
        for _, _, measured, expected in [*cases, *similar]
    )
    found["sigma_b"] = math.sqrt(cases[0][1])
    found["furthest_length"] = _furthest_length(tables)
    found["relu_ratio"] = first(_relu(tables), "ReLU networks").measured
    _, _, measured, expected = first(_correlations(tables, "relu"), "ReLU networks")
    found["relu_measured"] = float(1 - measured.iloc[-1].mean())
    found["relu_expected"] = float(1 - expected.iloc[-1])
    found["relu_networks"] = measured.shape[1]
    found["depth"] = len(measured)
    return found | _curve_numbers(tables) | _polygon_numbers(tables)


def _furthest_length(tables: StudyTables) -> float:
    """Return by which part of it a mean length in the last layer is off its fixed point at most."""
    chosen = networks(tables.study.cells, activation="tanh", width=WIDTH)
    cells = coordinates([cell for cell in chosen if cell.dataset.name == INDEPENDENT])
    last = at_start(tables.layers).merge(cells, on="cell").query("layer == depth")
    lengths = 10 ** last["preactivation_log10_mean_square"]
    groups = last.assign(length=lengths).groupby(["sigma_w2", "sigma_b2", "depth"])["length"]
    return max(
        abs(length / state("tanh", weights, biases).q_star - 1)
        for weights, biases, _, length in groups.mean().reset_index().to_numpy().tolist()
    )


def _curve_numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute what the prose says of length and curvature, in networks of two widths."""
    found: dict[str, float | str] = {}
    for name, (_, _, rows, _) in _named(list(_curves(tables))):
        last = rows[rows["layer"] == rows["depth"]]
        weights, biases = (float(rows[column].iloc[0]) for column in ("sigma_w2", "sigma_b2"))
        found |= {
            f"{name}_factor": math.exp(_slopes(rows, "expansion").mean() / 2),
            f"{name}_curvature": float(last["curvature"].mean()),
            f"{name}_fixed_curvature": theory.curvature_fixed_point("tanh", weights, biases),
            f"{name}_turns": float(last["grassmannian_length"].mean() / (2 * math.pi)),
        }
        found["last_layer"] = int(rows["depth"].iloc[0])
    for width, ending in ((WIDTH, ""), (WIDE, "_wide")):
        _, _, rows, expected = first(_curves(tables, width), f"curves at width {width}")
        last = rows[rows["layer"] == rows["depth"]]
        found[f"excess{ending}"] = float(last["curvature"].mean() / expected.curvature[-1] - 1)
        found[f"networks{ending}"] = len(last)
    return found


def _polygon_numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute up to which layer the polygon through the drawn points is as long as the image."""
    keys = ["sigma_w2", "layer"]
    cells = coordinates(networks(tables.study.cells, width=WIDE))
    paths = recorded(tables.measurement("trajectories"), "input")
    hidden = recorded(cells.merge(paths, on="cell").query("1 <= layer <= depth"))
    edges = hidden.assign(value=10 ** hidden["log10_next_distance"]).groupby(keys)["value"].mean()
    points = int(hidden["input"].max()) + 1
    circles = recorded(tables.measurement("curvature"), "log10_expansion")
    exact_curves = cells.merge(circles, on="cell").query("1 <= layer <= depth")
    speeds = np.sqrt(WIDE * 10 ** exact_curves["log10_expansion"])
    lengths = 2 * math.pi * exact_curves.assign(value=speeds).groupby(keys)["value"].mean()
    share = (points * edges / lengths).unstack()
    found: dict[str, float | str] = {"points": points, "resolved": RESOLVED}
    for name, (_, row) in _named(list(share.iterrows())):
        short = row.index[row < RESOLVED]
        found[f"{name}_resolved"] = int(short[0] - 1 if len(short) else row.index[-1])
    return found
