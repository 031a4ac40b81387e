"""The claims on signal propagation at initialization, against mean-field theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.claims import Claim, Evidence, Within, from_seeds
from gradprop.figures.data import StudyTables
from gradprop.prediction import weight_variance
from gradprop.spec import Cell

# Left out at the input, where the length still converges, and at the output.
FIRST_LAYERS, LAST_LAYERS = 10, 2
DECADE = 2 * math.log(10)  # a decade of a root mean square, as ln of its mean square

SCHOENHOLZ = "Schoenholz et al. 2017, section 4"
HE = "He et al. 2015, section 2.2"
GLOROT = "Glorot and Bengio 2010, section 4.2"


def _interior(
    tables: StudyTables, first: int = FIRST_LAYERS
) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield every network with its layers from `first` on at initialization, without the last."""
    cells = {cell.id: cell for cell in tables.study.cells}
    for name, layers in tables.layers[tables.layers["step"] == 0].groupby("cell", sort=False):
        cell = cells[str(name)]
        yield cell, layers[layers["layer"].between(first, cell.depth - LAST_LAYERS)]


def _ln_slopes(tables: StudyTables, column: str) -> pd.DataFrame:
    """Fit, for every network, the slope over layers of ln of a mean square.

    `column` is log10 of a root mean square, or of a mean square if its name says so. The slope
    is per layer from input to output.
    """
    factor = math.log(10) * (1 if "mean_square" in column else 2)
    rows = []
    for cell, layers in _interior(tables):
        values = factor * layers[column].to_numpy(np.float64)
        slope = np.polyfit(layers["layer"], values, 1)[0] if np.isfinite(values).all() else np.nan
        rows.append((cell, cell.activation, cell.use_bias, cell.initializer.label, slope))
    return pd.DataFrame(rows, columns=["example", "activation", "use_bias", "initializer", "slope"])


def _sigma_w2(cell: Cell) -> float:
    """Return the variance of a hidden layer's weights times its fan-in."""
    variance = weight_variance(cell.initializer, (cell.width, cell.width))
    if variance is None:
        raise KeyError(f"{cell.initializer.label} is not random")
    return variance * cell.width


def _chi(cell: Cell) -> float:
    """Return chi_1 at the fixed point of the length, or at any length where it has none."""
    sigma_w2, sigma_b2 = _sigma_w2(cell), float(np.float32(cell.bias_std)) ** 2
    if cell.activation == "relu":
        return theory.chi_1("relu", 1.0, sigma_w2)
    q = theory.length_fixed_point(cell.activation, sigma_w2, sigma_b2)
    return theory.chi_1(cell.activation, q, sigma_w2)


def _slopes_over_layers(
    column: str,
    activation: str,
    predict: Callable[[Cell], float | None],
    use_bias: bool = False,
    unit: float = 1.0,
) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of slopes of ln mean square, in multiples of `unit`, by initializer.

    Where `predict` returns None the initializer is left out.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        slopes = _ln_slopes(tables, column)
        chosen = slopes[(slopes["activation"] == activation) & (slopes["use_bias"] == use_bias)]
        for name, rows in chosen.groupby("initializer", sort=False):
            predicted = predict(rows["example"].iloc[0])
            if predicted is not None:
                yield from_seeds(f"{activation}, {name}", rows["slope"] / unit, predicted)

    return measure


def _signal_slope(cell: Cell) -> float | None:
    """Return -ln chi_1; None where the signal is critical, and no exponential of the layer.

    Relu is: its mean square does not depend on the length.
    """
    chi = _chi(cell)
    critical = math.isclose(chi, 1) and cell.activation != "relu"
    return None if critical else -math.log(chi)


def _signal_rate(activation: str, use_bias: bool) -> Claim:
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
        measure=_slopes_over_layers("signal_log10_rms", activation, _signal_slope, use_bias),
    )


def _power_law(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the exponent of the signal's mean square over the layer number."""
    exponents = []
    for cell, layers in _interior(tables, FIRST_LAYERS - 1):
        if (cell.activation, cell.initializer.name) == ("tanh", "glorot_normal"):
            ln = 2 * math.log(10) * layers["signal_log10_rms"]
            exponents.append(np.polyfit(np.log(layers["layer"]), ln, 1)[0])
    if exponents:
        yield from_seeds("tanh, glorot_normal", exponents, 1.0)


def _spread(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the variance of ln(length) over networks with the exact one, as a ratio."""
    label = "variance_scaling(scale=2.0)"  # Gaussian, for which the law is exact
    cells = [
        c for c in tables.study.cells if (c.activation, c.initializer.label) == ("relu", label)
    ]
    rows = tables.layers[tables.layers["step"] == 0]
    part = rows[rows["cell"].isin([c.id for c in cells])].set_index(["cell", "layer"])
    ln = math.log(10) * part["preactivation_log10_mean_square"].unstack()
    growth = ln[cells[0].depth] - ln[FIRST_LAYERS]
    exact = (cells[0].depth - FIRST_LAYERS) * theory.log_growth_variance(cells[0].width, "relu")
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
        measure=_slopes_over_layers(
            "preactivation_log10_mean_square",
            "relu",
            lambda cell: theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu"),
        ),
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
        measure=_slopes_over_layers("gradient_log10_rms", "relu", lambda _: 0.0, unit=DECADE),
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
        measure=_slopes_over_layers(
            "gradient_log10_rms",
            "tanh",
            lambda cell: 0.0 if cell.initializer.name == "standard_heuristic" else None,
            unit=DECADE,
        ),
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
        measure=_slopes_over_layers(
            "gradient_log10_rms",
            "sigmoid",
            lambda cell: -math.log10(_chi(cell)) / 2,
            unit=DECADE,
        ),
    ),
]
