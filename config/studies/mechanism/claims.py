"""The numbers in the chapter on the mechanism, and its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop.analysis import estimates
from gradprop.analysis.mechanism import (
    FLOAT32,
    layer_spread,
    prepare_gradient,
    prepare_limits,
    prepare_output,
    prepare_random,
)
from gradprop.analysis.needs import NotMeasured, at, need, table
from gradprop.claims import Above, Case, Claim, Evidence, Within, exact, from_seeds
from gradprop.components.activations import ACTIVATIONS
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell
from gradprop.theory import log_growth_mean

EULER = "Euler's theorem on homogeneous functions; du2018: its consequence for training"
NG_GRADIENTS = "ng2017: course 2, week 1, “Vanishing / exploding gradients”"

Array = NDArray[Any]


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute outputs, gradients, errors and limits of the scaled identities."""
    output, gradient = prepare_output(tables, {}), prepare_gradient(tables, {})
    limits = prepare_limits(tables, {})
    exact = limits[(limits["state"] == "ok") & (limits["c"] != limits["c"].min())]
    spread = layer_spread(gradient)
    lost = limits[limits["state"] != "ok"].groupby(["quantity", "state"])["matrices"].min()
    low, high = float(output["c"].min()), float(output["c"].max())
    if not 0 < low < 1 < high:
        raise NotMeasured("the study has no multiples of the identity on both sides of 1")
    depth = min(100, int(output["matrices"].max()))
    outputs = output[output["matrices"] == depth].groupby("c")["measured"].first()
    last = prepare_random(tables, {}).query("kind in ('median', 'theory of the typical')")
    last = last[last["layer"] == last["layer"].max()]
    unit = last[np.isclose(last["c"], 1)].set_index("kind")["log10_growth"]
    return {
        "networks": len(spread),
        "low": low,
        "high": high,
        "depth": depth,
        "low_output": 10 ** float(at(outputs, low)),
        "high_output": 10 ** float(at(outputs, high)),
        "largest_error": float(exact["relative_error"].max()),
        "layer_spread": float(spread.max()),
        "overflow_power": int(np.log(float(FLOAT32.max)) // np.log(high)) + 1,
        "underflow_power": int(np.log2(float(FLOAT32.tiny)) // np.log2(low)) + 1,
        "measured_overflow": float(lost.get(("output", "overflow"), np.nan)),
        "measured_zero": float(lost.get(("output", "zero"), np.nan)),
        "steps": int(last["layer"].max()) - 1,
        "typical_growth": float(at(unit, "median")),
        "predicted_growth": float(at(unit, "theory of the typical")),
        "typical_factor": float(np.exp(log_growth_mean(2, 1.0))),
    }


def _normal_range(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the networks of which float32 holds all that is computed on the way, too.

    The ratios in `rows` are multiplied by inputs and divided by the size of the minibatch, which
    moves them by less than two decades.
    """
    low, high = np.log10(float(FLOAT32.tiny)) + 2, np.log10(float(FLOAT32.max)) - 2
    return rows[rows["measured"].between(low, high)]


def _power(
    prepare: Callable[[StudyTables, dict[str, str]], pd.DataFrame], quantity: str
) -> Callable[[StudyTables], Iterator[Evidence]]:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        measured = _normal_range(prepare(tables, {}))
        for c in map(float, measured["c"].unique()):
            rows = measured[measured["c"] == c]
            if c != 1:
                slope = estimates.slope(rows["matrices"], rows["measured"])
                yield exact(
                    Case(f"{quantity}, c = {c:g}", quantity=quantity, c=c),
                    slope,
                    float(np.log10(c)),
                    rows["matrices"].nunique(),
                )

    return measure


def _gradient_spread(tables: StudyTables) -> Iterator[Evidence]:
    spread = layer_spread(_normal_range(prepare_gradient(tables, {})))
    yield exact(
        Case("all networks", networks="all"), 10 ** float(spread.max()) - 1, 0.0, len(spread)
    )


def kernel_gradients(
    weights: Sequence[Array],
    inputs: Array,
    targets: Array,
    function: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
) -> list[Array]:
    """Return dC/dW of every layer of a network without biases, C half the squared error.

    `function` is that of every layer, the last one too. The arithmetic is that of the arrays:
    float64, or exact for arrays of fractions.
    """
    layers, preactivations, hidden = [], [], inputs
    for weight in weights:
        layers.append(hidden)
        preactivations.append(hidden @ weight)
        hidden = function(preactivations[-1])
    above, gradients = hidden - targets, []
    backwards = zip(weights[::-1], layers[::-1], preactivations[::-1], strict=True)
    for weight, below, z in backwards:
        signal = above * derivative(z)
        gradients.append(below.T @ signal)
        above = signal @ weight.T
    return gradients[::-1]


def homogeneity_spread(activation: str, seed: int = 0) -> float:
    """Return how far the scalar product of W and dC/dW differs between layers, in float64.

    The largest less the smallest of twelve layers of mixed scales over the largest magnitude; of
    step 0 and 100 steps of descent, of which each moves every kernel by a hundredth of its norm,
    the largest.
    """
    random, phi = np.random.default_rng(seed), ACTIVATIONS[activation]
    weights = [random.normal(0, random.uniform(0.1, 0.5), (20, 20)) for _ in range(12)]
    inputs, targets = random.normal(size=(2, 10, 20))
    spreads = []
    for _ in range(101):
        gradients = kernel_gradients(weights, inputs, targets, phi.function, phi.derivative)
        pairs = list(zip(weights, gradients, strict=True))
        products = [float((w * g).sum()) for w, g in pairs]
        spreads.append(np.ptp(products) / np.abs(products).max())
        weights = [w - 0.01 * np.linalg.norm(w) / np.linalg.norm(g) * g for w, g in pairs]
    return float(max(spreads))


def _homogeneity(tables: StudyTables) -> Iterator[Evidence]:
    for activation in ("linear", "relu", "leaky_relu"):
        yield exact(Case(activation=activation), homogeneity_spread(activation), 0.0)


def _growth_rates(tables: StudyTables) -> Iterator[tuple[float, pd.Series[float], float]]:
    """Yield variance, growth of ln |z|^2 per layer of every network, and its exact mean.

    Over the layers up to which float32 holds all networks of a variance.
    """
    lowest = 2 * np.log10(float(FLOAT32.tiny))
    for cells in _random_networks(tables):
        rows = at_start(tables.layers)
        rows = rows[rows["cell"].isin([cell.id for cell in cells])]
        lengths = table(rows, "layer", "cell", "preactivation_log10_mean_square")
        held = lengths.loc[((lengths > lowest) & np.isfinite(lengths)).all(axis=1).cummin()]
        need(held, "layers of which float32 holds all networks")
        rates = np.log(10) * (held.iloc[-1] - held.iloc[0]) / (held.index[-1] - held.index[0])
        scale = float(dict(cells[0].initializer.parameters).get("scale", 1.0))
        yield scale, rates, log_growth_mean(cells[0].width, scale)


def _typical_growth(tables: StudyTables) -> Iterator[Evidence]:
    for scale, rates, predicted in _growth_rates(tables):
        yield from_seeds(Case(f"c² = {scale:g}", scale=scale), rates, predicted)


def _a_little(tables: StudyTables) -> Iterator[Evidence]:
    """Yield the growth of ln |z| a layer in the direction of ln c."""
    output = _normal_range(prepare_output(tables, {}))
    for c in A_LITTLE_OFF:
        rows = output[np.isclose(output["c"], c)]
        growth = np.log(10) * estimates.slope(rows["matrices"], rows["measured"])
        yield exact(
            Case(f"W = {c:g} I", weights="identity", c=c),
            np.sign(c - 1) * growth,
            abs(np.log(c)),
            len(rows),
        )
    for scale, rates, predicted in _growth_rates(tables):
        for c in A_LITTLE_OFF:
            if np.isclose(scale, c**2):
                towards = np.sign(c - 1) / 2
                yield from_seeds(
                    Case(f"random, c = {c:g}", weights="random", c=c),
                    towards * rates,
                    towards * predicted,
                )


def _random_networks(tables: StudyTables) -> Iterator[list[Cell]]:
    """Yield the networks with random weights, those of one variance after another."""
    cells = [c for c in tables.study.cells if c.initializer.name == "variance_scaling"]
    for label in dict.fromkeys(cell.initializer.label for cell in cells):
        yield [cell for cell in cells if cell.initializer.label == label]


A_LITTLE_OFF = (0.9, 1.1)

CLAIMS = [
    Claim(
        id="output-power",
        statement=(
            "The output of a deep linear network explodes as 1.5ᴸ with W = 1.5 I and vanishes as "
            "0.5ᴸ with W = 0.5 I: with W = c I it is cᴸ times the input."
        ),
        source=f"{NG_GRADIENTS} (cᴸ⁻¹ there, where the last matrix is another one)",
        formula="slope of log10 |y| over L = log10 c",
        unit="decades per layer",
        criterion=Within(relative=1e-5),
        measure=_power(prepare_output, "output"),
        passage="powers",
        check=True,
    ),
    Claim(
        id="a-little-is-enough",
        statement=(
            "Weights a little larger than balanced ones let the signal of a deep linear network "
            "explode, weights a little smaller let it vanish."
        ),
        source=NG_GRADIENTS,
        formula="growth of ln |z| a layer, with the sign of ln c",
        unit="per layer",
        criterion=Above(0.0),
        measure=_a_little,
        note=(
            "It holds in part: for multiples of the identity, whatever the width. With random "
            "weights the mean square grows by c² per layer, but the logarithm of a typical length "
            "grows by less; in networks of two units it shrinks at c = 1.1."
        ),
        passage="a-little",
    ),
    Claim(
        id="gradient-power",
        statement=(
            "The gradients of a deep linear network with W = c I carry cᴸ⁻¹, with respect to "
            "every layer's weights."
        ),
        source=NG_GRADIENTS,
        formula="slope of log10 |dC/dW| over L = log10 c",
        unit="decades per layer",
        criterion=Within(relative=1e-5),
        measure=_power(prepare_gradient, "gradient"),
        passage="gradients-too",
        check=True,
    ),
    Claim(
        id="gradient-equal-over-layers",
        statement="Within one such network the weight gradient is the same in every layer.",
        source=EULER,
        formula="(largest − smallest) / largest over layers = 0",
        unit="",
        criterion=Within(1e-5),
        measure=_gradient_spread,
        check=True,
    ),
    Claim(
        id="homogeneity",
        statement=(
            "In bias-free networks of homogeneous layers the scalar product of W and dC/dW is "
            "the same for all layers, at any time of training."
        ),
        source=EULER,
        formula="largest relative spread over layers in 100 steps of descent = 0, in float64",
        unit="",
        criterion=Within(1e-9),
        measure=_homogeneity,
        check=True,
    ),
    Claim(
        id="typical-growth",
        statement=(
            "A typical product of random matrices grows more slowly than its mean square, by an "
            "exact amount."
        ),
        source="sussillo2014: the random walk; hanin-nica2020; the mean of ln χ²ₙ is exact",
        formula="mean ln growth of |z|² = ln c² + ψ(n/2) − ln(n/2), n = 2",
        unit="per layer",
        criterion=Within(0.1),
        measure=_typical_growth,
    ),
]
