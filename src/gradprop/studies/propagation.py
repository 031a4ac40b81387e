"""The claims on signal propagation at initialization, against mean-field theory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.claims import Claim, Evidence, Within, from_seeds
from gradprop.figures.data import StudyTables
from gradprop.spec import Cell

# Left out at the input, where the length still converges, and at the output.
FIRST_LAYERS, LAST_LAYERS = 10, 2

SCHOENHOLZ = "Schoenholz et al. 2017, section 4"
HE = "He et al. 2015, section 2.2"
GLOROT = "Glorot and Bengio 2010, section 4.2"


def _ln_slopes(tables: StudyTables, column: str, interior: bool = True) -> pd.DataFrame:
    """Fit, for every network, the slope over layers of ln of a mean square.

    `column` is log10 of a root mean square, or of a mean square if its name says so. The slope
    is per layer from input to output.
    """
    cells = {cell.id: cell for cell in tables.study.cells}
    factor = math.log(10) * (1 if "mean_square" in column else 2)
    rows = []
    for name, layers in tables.layers[tables.layers["step"] == 0].groupby("cell", sort=False):
        cell = cells[str(name)]
        first = FIRST_LAYERS if interior else 1
        kept = layers[layers["layer"].between(first, cell.depth - LAST_LAYERS)]
        values = factor * kept[column].to_numpy(np.float64)
        slope = np.polyfit(kept["layer"], values, 1)[0] if np.isfinite(values).all() else np.nan
        rows.append((cell, cell.activation, cell.use_bias, cell.initializer.label, slope))
    return pd.DataFrame(rows, columns=["example", "activation", "use_bias", "initializer", "slope"])


def weight_variance(cell: Cell) -> float:
    """Return the variance of a square layer's weights times its fan-in, sigma_w^2.

    Raises
    ------
    KeyError
        For an initializer that no claim is about.
    """
    if cell.initializer.name == "variance_scaling":
        return float(dict(cell.initializer.parameters).get("scale", 1.0))
    return {"standard_heuristic": 1 / 3, "glorot_normal": 1.0, "he_normal": 2.0}[
        cell.initializer.name
    ]


def _chi(cell: Cell) -> float:
    """Return chi_1 at the fixed point of the length, or at any length where it has none."""
    sigma_w2, sigma_b2 = weight_variance(cell), float(np.float32(cell.bias_std)) ** 2
    if cell.activation == "relu":
        return theory.chi_1("relu", 1.0, sigma_w2)
    q = theory.length_fixed_point(cell.activation, sigma_w2, sigma_b2)
    return theory.chi_1(cell.activation, q, sigma_w2)


def _by_initializer(
    slopes: pd.DataFrame, activation: str, use_bias: bool
) -> Iterator[tuple[str, Cell, pd.Series[float]]]:
    chosen = slopes[(slopes["activation"] == activation) & (slopes["use_bias"] == use_bias)]
    for name, rows in chosen.groupby("initializer", sort=False):
        yield f"{activation}, {name}", rows["example"].iloc[0], rows["slope"]


def _signal_rate(activation: str, use_bias: bool) -> Claim:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        slopes = _ln_slopes(tables, "signal_log10_rms")
        for case, cell, values in _by_initializer(slopes, activation, use_bias):
            if not math.isclose(_chi(cell), 1) or activation == "relu":
                yield from_seeds(case, values, -math.log(_chi(cell)))

    tolerance = Within(0.03, 0.05) if activation == "relu" else Within(0.015, 0.05)
    return Claim(
        id=f"signal-rate-{activation}{'-bias' if use_bias else ''}",
        statement=(
            f"In {activation} networks the logarithm of the back-propagated signal's mean square "
            "changes in proportion to the layer, at the rate of mean-field theory."
        ),
        source=SCHOENHOLZ if activation != "relu" else HE,
        formula="slope of ln mean (dC/dz)² over layers = −ln χ₁",
        unit="per layer",
        criterion=tolerance,
        measure=measure,
    )


def _typical_rate(tables: StudyTables) -> Iterator[Evidence]:
    slopes = _ln_slopes(tables, "preactivation_log10_mean_square")
    for case, cell, values in _by_initializer(slopes, "relu", use_bias=False):
        drift = theory.log_growth_mean(cell.width, weight_variance(cell), "relu")
        yield from_seeds(case, values, drift)


def _power_law(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the exponent of the signal's mean square over the layer number."""
    cells = {c.id: c for c in tables.study.cells}
    exponents = []
    for name, layers in tables.layers[tables.layers["step"] == 0].groupby("cell", sort=False):
        cell = cells[str(name)]
        if (cell.activation, cell.initializer.name) != ("tanh", "glorot_normal"):
            continue
        kept = layers[layers["layer"].between(FIRST_LAYERS - 1, cell.depth - LAST_LAYERS)]
        ln = 2 * math.log(10) * kept["signal_log10_rms"]
        exponents.append(np.polyfit(np.log(kept["layer"]), ln, 1)[0])
    if exponents:
        yield from_seeds("tanh, glorot_normal", exponents, 1.0)


def _flat_weight_gradient(tables: StudyTables) -> Iterator[Evidence]:
    slopes = _ln_slopes(tables, "gradient_log10_rms")
    for case, _, values in _by_initializer(slopes, "relu", use_bias=False):
        yield from_seeds(case, values / (2 * math.log(10)), 0.0)


def _glorot_weight_gradient(tables: StudyTables) -> Iterator[Evidence]:
    slopes = _ln_slopes(tables, "gradient_log10_rms")
    for case, cell, values in _by_initializer(slopes, "tanh", use_bias=False):
        if cell.initializer.name == "standard_heuristic":
            yield from_seeds(case, values / (2 * math.log(10)), 0.0)


def _sigmoid_weight_gradient(tables: StudyTables) -> Iterator[Evidence]:
    slopes = _ln_slopes(tables, "gradient_log10_rms")
    for case, cell, values in _by_initializer(slopes, "sigmoid", use_bias=False):
        decades = values / (2 * math.log(10))
        yield from_seeds(case, decades, -math.log10(_chi(cell)) / 2)


def _spread(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the variance of ln(length) over networks with the exact one, as a ratio."""
    cells = {c.id: c for c in tables.study.cells}
    rows = tables.layers[tables.layers["step"] == 0]
    for label in dict.fromkeys(c.initializer.label for c in tables.study.cells):
        chosen = [
            c.id for c in cells.values() if c.activation == "relu" and c.initializer.label == label
        ]
        if label != "variance_scaling(scale=2.0)":
            continue  # Gaussian weights, for which the law is exact; other scales repeat the draws
        cell = cells[chosen[0]]
        part = rows[rows["cell"].isin(chosen)].set_index(["cell", "layer"])
        ln = math.log(10) * part["preactivation_log10_mean_square"].unstack()
        growth = ln[cell.depth] - ln[FIRST_LAYERS]
        exact = (cell.depth - FIRST_LAYERS) * theory.log_growth_variance(cell.width, "relu")
        squares = (growth - growth.mean()) ** 2 * len(growth) / (len(growth) - 1)
        yield from_seeds(f"relu, {label}", squares / exact, 1.0)


CLAIMS = [
    _signal_rate("tanh", use_bias=True),
    _signal_rate("tanh", use_bias=False),
    _signal_rate("relu", use_bias=False),
    _signal_rate("sigmoid", use_bias=False),
    Claim(
        id="xavier-tanh-power-law",
        statement=(
            "Xavier's start is critical for tanh: the signal falls towards the input as a power "
            "of the layer, not exponentially."
        ),
        source="Roberts, Yaida and Hanin 2022, section 5.3",
        formula="mean (dC/dz)² ∝ l¹",
        unit="exponent",
        criterion=Within(0.1),
        measure=_power_law,
    ),
    Claim(
        id="relu-typical-length",
        statement=(
            "He's start keeps the mean square of relu activations on average over networks; a "
            "typical network drifts by an exact amount that depends on the width. Xavier's "
            "start halves it at every layer."
        ),
        source="Hanin and Nica 2020; Kogler et al. 2026; " + HE,
        formula="slope of ln |z|² over layers = ln(σ_w²/n) + ln 2 + E ψ(K/2), K ~ Bin(n, 1/2)",
        unit="per layer",
        criterion=Within(0.01),
        measure=_typical_rate,
    ),
    Claim(
        id="relu-spread",
        statement="Lengths at finite width are log-normal with the exact variance.",
        source="Hanin and Nica 2020, theorem 1",
        formula="Var ln |z|² = Σ (E ψ₁(K/2) + Var ψ(K/2))",
        unit="measured over exact variance",
        criterion=Within(0.5),
        measure=_spread,
    ),
    Claim(
        id="relu-weight-gradient-flat",
        statement=(
            "In bias-free relu networks the gradient with respect to the weights is the same in "
            "all layers, whatever the start: what vanishes is the back-propagated signal."
        ),
        source="Euler's theorem on homogeneous functions",
        formula="slope of log10 RMS dC/dW over layers = 0",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_flat_weight_gradient,
    ),
    Claim(
        id="standard-weight-gradient-flat",
        statement=(
            "The standard heuristic with tanh lets the back-propagated signal vanish, while the "
            "gradient with respect to the weights is flat."
        ),
        source=GLOROT + ", figures 7 to 9",
        formula="slope of log10 RMS dC/dW over layers = 0",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_glorot_weight_gradient,
    ),
    Claim(
        id="sigmoid-weight-gradient",
        statement=(
            "In sigmoid networks the weight gradients themselves vanish exponentially towards the "
            "input, even with Xavier's start."
        ),
        source="Glorot and Bengio 2010, section 3; " + SCHOENHOLZ,
        formula="slope of log10 RMS dC/dW from input to output = −½ log10 χ₁",
        unit="decades per layer",
        criterion=Within(0.0, 0.03),
        measure=_sigmoid_weight_gradient,
    ),
]
