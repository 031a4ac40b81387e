"""The numbers in the chapter on propagation at initialization, and its claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.claims import Above, Claim, Evidence, Within, from_seeds, from_variance
from gradprop.figures.data import StudyTables
from gradprop.prediction import weight_variance
from gradprop.spec import Cell
from gradprop.studies.sources import (
    EULER,
    GLOROT,
    GLOROT_SIGMOID,
    HANIN_NICA,
    HE,
    KOGLER,
    NG_GRADIENTS,
    ROBERTS,
    SCHOENHOLZ,
)

# Left out at the input, where the length still converges, and at the output.
FIRST_LAYERS, LAST_LAYERS = 10, 2
DECADE = 2 * math.log(10)  # a decade of a root mean square, as ln of its mean square


def _interior(
    tables: StudyTables, first: int = FIRST_LAYERS
) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield every network with its layers from `first` on at initialization, without the last.

    Those that see a single example have claims of their own.
    """
    cells = {cell.id: cell for cell in tables.study.cells}
    for name, layers in tables.layers[tables.layers["step"] == 0].groupby("cell", sort=False):
        cell = cells[str(name)]
        if cell.batch_size > 1:
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
    variance = weight_variance(cell.initializer, (cell.width, cell.width), cell.activation)
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


def _signal_rates(activation: str, use_bias: bool) -> Callable[[StudyTables], Iterator[Evidence]]:
    return _slopes_over_layers("signal_log10_rms", activation, _signal_slope, use_bias)


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
        measure=_signal_rates(activation, use_bias),
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


def _gradient_slope(cell: Cell) -> float | None:
    """Return what the weight gradient gains, in decades, from a layer to the next.

    In homogeneous and in linear networks the signal falls towards the input as the activations
    do towards the output; the activations of sigmoid networks keep their size. None for tanh
    where it is not nearly linear.
    """
    if cell.activation == "sigmoid":
        return -math.log10(_chi(cell)) / 2
    linear = cell.activation == "relu" or cell.initializer.name == "standard_heuristic"
    return 0.0 if linear else None


def _gradient_slopes(activation: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    return _slopes_over_layers("gradient_log10_rms", activation, _gradient_slope, unit=DECADE)


def _early_layers(tables: StudyTables) -> Iterator[Evidence]:
    """Yield the slope of the weight gradient where the signal vanishes."""

    def predict(cell: Cell) -> float | None:
        return _gradient_slope(cell) if _chi(cell) < 1 else None

    for activation in ("relu", "tanh", "sigmoid"):
        yield from _slopes_over_layers("gradient_log10_rms", activation, predict, unit=DECADE)(
            tables
        )


def _growth_of_single_examples(
    tables: StudyTables, gaussian: bool = False
) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield, by initializer, what ln mean z^2 of one example gains from layer to layer.

    In a relu network the gains of different layers are independent, and for Gaussian weights
    their law is exact at every width. One row a network, depth - 1 columns.
    """
    cells = [c for c in tables.study.cells if c.batch_size == 1 and c.activation == "relu"]
    cells = [c for c in cells if not gaussian or c.initializer.name == "variance_scaling"]
    start = tables.layers[tables.layers["step"] == 0].set_index(["cell", "layer"])
    for label in dict.fromkeys(cell.initializer.label for cell in cells):
        chosen = [cell for cell in cells if cell.initializer.label == label]
        rows = start.loc[[cell.id for cell in chosen], "preactivation_log10_mean_square"]
        lengths = math.log(10) * rows.unstack().loc[:, 1 : chosen[0].depth]
        yield chosen[0], lengths.diff(axis=1).iloc[:, 1:]


def _typical_rate(tables: StudyTables, gaussian: bool = False) -> Iterator[Evidence]:
    for cell, growth in _growth_of_single_examples(tables, gaussian):
        drift = theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu")
        yield from_seeds(f"relu, {cell.initializer.label}", growth.mean(axis=1), drift)


def _spread(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the variance over networks of the growth over all layers with the exact one."""
    for cell, growth in _growth_of_single_examples(tables, gaussian=True):
        exact = growth.shape[1] * theory.log_growth_variance(cell.width, "relu")
        yield from_variance(f"relu, {cell.initializer.label}", growth.sum(axis=1), exact)


def _spread_per_layer(tables: StudyTables) -> Iterator[Evidence]:
    """Compare squared deviations from the exact drift, a mean over layers a network."""
    for cell, growth in _growth_of_single_examples(tables, gaussian=True):
        drift = theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu")
        squares = ((growth - drift) ** 2).mean(axis=1)
        exact = theory.log_growth_variance(cell.width, "relu")
        yield from_seeds(f"relu, {cell.initializer.label}", squares / exact, 1.0)


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute measured and predicted rates, in decades of the root mean square."""
    found: dict[str, float | str] = {
        "cells": len(tables.study.cells),
        "width": max(cell.width for cell in tables.study.cells),
        "depth": max(cell.depth for cell in tables.study.cells),
    }
    rates = list(_signal_rates("tanh", use_bias=True)(tables))
    measured = np.array([rate.measured for rate in rates] or [math.nan]) / DECADE
    predicted = np.array([rate.predicted for rate in rates] or [math.nan]) / DECADE
    found["tanh_error"] = float(np.abs(measured - predicted).max())
    found["tanh_slowest"], found["tanh_fastest"] = float(measured.min()), float(measured.max())
    for kind in ("signal", "gradient"):
        for activation, start in (
            ("relu", "glorot_normal"),
            ("tanh", "standard_heuristic"),
            ("sigmoid", "glorot_normal"),
        ):
            measure = _slopes_over_layers(
                f"{kind}_log10_rms", activation, lambda _: math.nan, unit=DECADE
            )
            rows = {row.case: row.measured for row in measure(tables)}
            found[f"{activation}_{kind}"] = rows.get(f"{activation}, {start}", math.nan)
    single = (
        ("exponent", _power_law),
        ("drift", partial(_typical_rate, gaussian=True)),
        ("spread", _spread),
    )
    for name, evidence in single:
        row = next(iter(evidence(tables)), None)
        found[name] = row.measured if row else math.nan
        found[f"{name}_predicted"] = row.predicted if row else math.nan
    return found


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
        source=ROBERTS,
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
        source=f"{HANIN_NICA} (the log-normal law); {KOGLER} (the exact drift); {HE}",
        formula="gain of ln |z|² a layer = ln(σ_w²/n) + ln 2 + E ψ(K/2), K ~ Bin(n, 1/2)",
        unit="per layer",
        criterion=Within(0.01),
        measure=_typical_rate,
        note=(
            "Measured on single examples, for which the law is exact; other scales of the same "
            "random numbers would say the same once more."
        ),
    ),
    Claim(
        id="relu-spread",
        statement=(
            "Lengths at finite width spread over networks with the exact variance, which grows "
            "in proportion to depth over width."
        ),
        source=f"{HANIN_NICA}; the sum is exact for Gaussian weights and one example",
        formula="Var ln (|z_L|²/|z₁|²) = Σ (E ψ₁(K/2) + Var ψ(K/2)), K ~ Bin(n, 1/2)",
        unit="measured over exact variance",
        criterion=Within(0.25),
        measure=_spread,
        note=(
            "An earlier form, from a hundred networks and minibatches of 64 examples, had to "
            "allow 50 %. The number of networks was chosen so that the interval of a variance "
            "(chi-square) is about half as wide as the tolerance, before it was measured. "
            "Layers that are not independent of each other would show here."
        ),
    ),
    Claim(
        id="relu-spread-per-layer",
        statement="Every single layer adds the exact variance to the logarithm of the length.",
        source=f"{HANIN_NICA}; exact for Gaussian weights and one example",
        formula="E (gain of ln |z|² − its exact mean)² = E ψ₁(K/2) + Var ψ(K/2)",
        unit="measured over exact variance",
        criterion=Within(0.05),
        measure=_spread_per_layer,
        note="Each network is as many tests as it has layers, so that a small error would show.",
    ),
    Claim(
        id="relu-weight-gradient-flat",
        statement=(
            "In bias-free relu networks the gradient with respect to the weights is the same in "
            "all layers, whatever the start: what vanishes is the back-propagated signal."
        ),
        source=EULER,
        formula="slope of log10 RMS dC/dW over layers = 0",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_gradient_slopes("relu"),
    ),
    Claim(
        id="standard-weight-gradient-flat",
        statement=(
            "The standard heuristic with tanh lets the back-propagated signal vanish, while the "
            "gradient with respect to the weights is flat."
        ),
        source=GLOROT,
        formula="slope of log10 RMS dC/dW over layers = 0",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_gradient_slopes("tanh"),
    ),
    Claim(
        id="sigmoid-weight-gradient",
        statement=(
            "In sigmoid networks the weight gradients themselves vanish exponentially towards the "
            "input, even with Xavier's start."
        ),
        source=f"{GLOROT_SIGMOID}; {SCHOENHOLZ}",
        formula="slope of log10 RMS dC/dW from input to output = −½ log10 χ₁",
        unit="decades per layer",
        criterion=Within(0.0, 0.03),
        measure=_gradient_slopes("sigmoid"),
    ),
    Claim(
        id="early-layers-above-all",
        statement=(
            "Where gradients vanish, those of the weights of early layers are exponentially "
            "smaller than those of late ones."
        ),
        source=f"{NG_GRADIENTS}, as it is often read",
        formula="gain of log10 RMS dC/dW a layer, from input to output",
        unit="decades per layer",
        criterion=Above(0.05),
        measure=_early_layers,
        note=(
            "It holds in part: for sigmoid networks. In bias-free relu networks, and in tanh "
            "networks whose signals are small, the forward signal shrinks as the backward one "
            "does, so that the gradients of all layers vanish together (Euler's theorem; Glorot "
            "and Bengio, equation 14). What is smaller at early layers is the back-propagated "
            "signal dC/dz."
        ),
    ),
]
