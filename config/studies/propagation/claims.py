"""The numbers in the chapter on propagation at initialization, and its claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.names import name_of
from gradprop.analysis.needs import NotMeasured, networks, one_per_seed, recorded
from gradprop.analysis.slopes import FIRST_LAYERS, inner_layers, ln_mean_square
from gradprop.claims import (
    Above,
    Below,
    Between,
    Case,
    Claim,
    Evidence,
    Within,
    from_bootstrap,
    from_distribution,
    from_seeds,
    from_variance,
)
from gradprop.components.architecture import hidden_widths
from gradprop.components.initializers import layer_shapes
from gradprop.grid.selection import deepest
from gradprop.prediction.data import data_sizes, prediction_on_data
from gradprop.prediction.finite_width import architecture_name
from gradprop.prediction.mean_field import sigma_w2
from gradprop.prediction.networks import weight_variance
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

GLOROT = "glorot2010: section 4.2, equation 14, and figures 7 and 8"
GLOROT_SIGMOID = "glorot2010: section 3.1"
HE = "he2015: section 2.2"
NG_GRADIENTS = "ng2017: course 2, week 1, “Vanishing / exploding gradients”"
NG_WEIGHTS = "ng2017: course 2, week 1, “Weight initialization for deep networks”"
ROBERTS = (
    "roberts2022: chapter 5 (lengths of critical tanh networks fall as 1/(2l)); "
    "schoenholz2017: the factor χ₁ of a layer"
)
SCHOENHOLZ = "schoenholz2017: section on back-propagation"

DECADE = 2 * math.log(10)  # a decade of a root mean square, as ln of its mean square
LENGTH = "preactivation_log10_mean_square"
SIMILAR = 0.6  # decades of a mean square: a factor of two in scale


def _interior(
    tables: StudyTables, chosen: Callable[[Cell], bool]
) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield chosen networks with their inner layers (`inner_layers`) at initialization.

    Their weights are random; those that see a single example have claims of their own.
    """
    cells = {
        c.id: c
        for c in tables.study.cells
        if c.batch_size > 1 and chosen(c) and not math.isnan(sigma_w2(c))
    }
    rows = at_start(tables.layers)
    rows = rows[rows["cell"].isin(cells)]
    depths = rows["cell"].map({name: cell.depth for name, cell in cells.items()}).astype(float)
    for name, layers in rows[inner_layers(rows["layer"], depths)].groupby("cell", sort=False):
        yield cells[str(name)], layers


def _ln_slopes(
    tables: StudyTables, column: str, activation: str, use_bias: bool = False
) -> pd.DataFrame:
    """Fit, for every network of an activation, the slope over layers of ln of a mean square.

    `column` is as in `ln_mean_square`. The slope is per layer towards the input: where it is
    negative, signal or gradient vanishes.
    """
    rows = []
    for cell, layers in _interior(
        tables, lambda cell: (cell.activation.name, cell.use_bias) == (activation, use_bias)
    ):
        slope = -estimates.slope(layers["layer"], ln_mean_square(layers, column))
        rows.append((cell, cell.initializer.label, slope))
    return pd.DataFrame(rows, columns=["example", "initializer", "slope"])


def _sigma_w2(cell: Cell) -> float:
    """Return the variance of a hidden layer's weights times its fan-in."""
    found = sigma_w2(cell)
    if math.isnan(found):
        raise NotMeasured(f"{cell.initializer.label} is not random")
    return found


def _chi(cell: Cell) -> float:
    """Return chi_1 at the fixed point of the length, or at any length where it has none."""
    weights, biases = _sigma_w2(cell), float(np.float32(cell.bias_std)) ** 2
    if cell.activation.name == "relu":
        return theory.chi_1("relu", 1.0, weights)
    q = theory.length_fixed_point(cell.activation, weights, biases)
    return theory.chi_1(cell.activation, q, weights)


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
        slopes = _ln_slopes(tables, column, activation, use_bias)
        for name, rows in slopes.groupby("initializer", sort=False):
            predicted = predict(rows["example"].iloc[0])
            if predicted is not None:
                yield from_seeds(
                    Case(activation=activation, initializer=name), rows["slope"] / unit, predicted
                )

    return measure


def _signal_slope(cell: Cell) -> float | None:
    """Return ln chi_1; None where the signal is critical, and no exponential of the layer.

    Relu is: its mean square does not depend on the length.
    """
    chi = _chi(cell)
    critical = math.isclose(chi, 1) and cell.activation.name != "relu"
    return None if critical else math.log(chi)


def _dashed_slope(cell: Cell) -> float | None:
    """Return the slope of ln mean square that the dashed line of a figure has in these layers.

    The line begins at the length of the inputs; ln chi_1 is its slope where lengths have settled.
    """
    hidden = pd.Series(range(1, cell.depth + 1))
    layers = hidden[inner_layers(hidden, pd.Series(cell.depth, hidden.index))].to_numpy()
    line = prediction_on_data(replace(cell, seed=0))
    if line is None:
        return None
    return -2 * math.log(10) * estimates.slope(layers, line.signal[layers - 1])


def _signal_rates(activation: str, use_bias: bool) -> Callable[[StudyTables], Iterator[Evidence]]:
    return _slopes_over_layers("signal_log10_rms", activation, _signal_slope, use_bias)


def _signal_rate(activation: str, use_bias: bool) -> Claim:
    tolerance = Within(0.03, 0.05) if activation == "relu" else Within(0.015, 0.05)
    return Claim(
        id=f"signal-rate-{activation}{'-bias' if use_bias else ''}",
        statement=(
            f"In {name_of(activation)} networks {'with' if use_bias else 'without'} biases the "
            "logarithm of the back-propagated signal's mean square changes in proportion to the "
            "layer, at the rate of mean-field theory."
        ),
        source=SCHOENHOLZ if activation != "relu" else HE,
        formula="slope of ln mean (dC/dz)² towards the input = ln χ₁",
        unit="per layer",
        criterion=tolerance,
        measure=_signal_rates(activation, use_bias),
    )


def _critical_signals(tables: StudyTables) -> Iterator[tuple[Cell, pd.Series[float]]]:
    """Yield tanh networks initialized as Glorot's, with ln mean (dC/dz)^2 of inner layers."""
    for cell, layers in _interior(
        tables,
        lambda cell: (cell.activation.name, cell.initializer.name) == ("tanh", "glorot_normal"),
    ):
        yield cell, ln_mean_square(layers.set_index("layer"), "signal_log10_rms")


def _power_law(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the exponent of the signal's mean square over the layer number, and of theory's."""
    critical = list(_critical_signals(tables))
    if critical:
        cell, signal = critical[0]
        inputs, outputs, square = data_sizes(cell.dataset)
        shapes = layer_shapes(inputs, cell, outputs)
        variances = [
            fan_in * (weight_variance(cell.initializer, (fan_in, fan_out), "tanh") or 0.0)
            for fan_in, fan_out in shapes
        ]
        widths = [inputs, *(fan_out for _, fan_out in shapes)]
        law = theory.signal_profile("tanh", widths, variances, input_mean_square=square)
        exponents = [estimates.slope(np.log(ln.index), ln) for _, ln in critical]
        predicted = estimates.slope(np.log(signal.index), law.log_delta[signal.index - 1])
        yield from_seeds(Case(activation="tanh", initializer="glorot_normal"), exponents, predicted)


def _power_law_advantage(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the squared residuals of ln signal over the layer with those over its logarithm."""
    logs = [estimates.power_law_advantage(ln.index, ln) for _, ln in _critical_signals(tables)]
    yield from_seeds(Case(activation="tanh", initializer="glorot_normal"), logs)


def _gradient_slope(cell: Cell) -> float | None:
    """Return what the weight gradient gains, in decades, from a layer to the one before.

    In homogeneous and in linear networks the signal falls towards the input as the activations
    do towards the output; the activations of sigmoid networks keep their size. None for tanh
    where it is not nearly linear.
    """
    if cell.activation.name == "sigmoid":
        return math.log10(_chi(cell)) / 2
    linear = cell.activation.name == "relu" or cell.initializer.name == "standard_heuristic"
    return 0.0 if linear else None


def _gradient_slopes(activation: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    return _slopes_over_layers("gradient_log10_rms", activation, _gradient_slope, unit=DECADE)


def minibatch_gradients(tables: StudyTables) -> pd.DataFrame:
    """Return what weight gradients change by from the last hidden layer to the first.

    Returns
    -------
    DataFrame
        One row per kind of network that sees minibatches: ``activation``, ``use_bias``, and in
        decades ``measured``, the mean over seeds, and ``predicted``.
    """
    cells = [cell for cell in tables.study.cells if cell.batch_size > 1 and cell.depth]
    rows = recorded(tables.layers, "gradient_log10_rms")
    start = at_start(rows).set_index(["cell", "layer"])
    found = []
    for group in _groups(
        cells, lambda c: (c.activation.label, c.initializer.label, c.use_bias, c.depth)
    ):
        law, depth = prediction_on_data(replace(group[0], seed=0)), group[0].depth
        names = [cell.id for cell in group]
        first, last = (
            start.xs(layer, level="layer")["gradient_log10_rms"].loc[names] for layer in (1, depth)
        )
        predicted = math.nan if law is None else float(law.gradient[0])
        measured = float((first - last).mean())
        found.append((group[0].activation.label, group[0].use_bias, measured, predicted))
    return pd.DataFrame(found, columns=["activation", "use_bias", "measured", "predicted"])


def _early_layers(tables: StudyTables) -> Iterator[Evidence]:
    """Yield the slope of the weight gradient where the signal vanishes."""

    def predict(cell: Cell) -> float | None:
        return _gradient_slope(cell) if _chi(cell) < 1 else None

    for activation in ("relu", "tanh", "sigmoid"):
        yield from _slopes_over_layers("gradient_log10_rms", activation, predict, unit=DECADE)(
            tables
        )


def _single_examples(tables: StudyTables, of_sum: bool = False) -> Iterator[list[Cell]]:
    """Yield ReLU networks that see one example, those of one kind together.

    Those whose loss is a task's, or those whose loss is the sum of their outputs: the signal at
    the output of the latter does not depend on what comes forward. Of networks of several depths,
    which have the same seeds, the deepest.
    """
    cells = [
        cell
        for cell in tables.study.cells
        if (cell.batch_size, cell.activation.name, cell.loss == "output_sum") == (1, "relu", of_sum)
        and cell.depth > 1
    ]
    for group in _groups(cells, lambda cell: (cell.initializer.label, architecture_name(cell))):
        yield [*one_per_seed(deepest(group))]


def _groups(cells: Sequence[Cell], key: Callable[[Cell], Hashable]) -> list[list[Cell]]:
    """Return the cells in groups of an equal key, in the order of the first of each."""
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _by_widths(cell: Cell, text: str = "", **parameters: object) -> Case:
    """Return the case of ReLU networks of an architecture."""
    name = architecture_name(cell)
    told = {"initializer": cell.initializer.label, "widths": name, **parameters}
    return Case(text or f"widths {name}", **told)


def _by_start(cell: Cell) -> Case:
    return _by_widths(cell, f"relu, {cell.initializer.label}")


def _is_gaussian(cell: Cell) -> bool:
    return cell.initializer.name == "variance_scaling"


def _by_layer(tables: StudyTables, cells: list[Cell], column: str) -> pd.DataFrame:
    """Return the natural logarithm of a mean square at initialization, one row per network.

    The columns are the hidden layers; `column` is as in `ln_mean_square`.
    """
    rows = ln_mean_square(at_start(tables.layers).set_index(["cell", "layer"]), column)
    table = rows.loc[[cell.id for cell in cells]].unstack()
    hidden = list(range(1, cells[0].depth + 1))
    found: pd.DataFrame = table[hidden].loc[[cell.id for cell in cells]]
    return found


def _growth_of_single_examples(
    tables: StudyTables, gaussian: bool = False
) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield, by initializer, what ln mean z^2 of one example gains from layer to layer.

    In a ReLU network the gains of different layers are independent, and for Gaussian weights
    their law is exact at every width. One row per network, depth - 1 columns.
    """
    for cells in _single_examples(tables):
        if _is_gaussian(cells[0]) or not gaussian:
            lengths = _by_layer(tables, cells, LENGTH)
            yield cells[0], lengths.diff(axis=1).iloc[:, 1:]


def _typical_rate(tables: StudyTables, gaussian: bool = False) -> Iterator[Evidence]:
    """Yield initializations that are not another one, scaled: nearest to He's variance first."""
    seen: list[pd.Series[float]] = []
    found = list(_growth_of_single_examples(tables, gaussian))
    for cell, growth in sorted(found, key=lambda it: abs(math.log(_sigma_w2(it[0]) / 2))):
        drift = theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu")
        rates = growth.mean(axis=1)
        if not any(estimates.same_experiment(rates, other) for other in seen):
            yield from_seeds(_by_start(cell), rates, drift)
            seen.append(rates)


def _spread(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the variance over networks of the growth over all layers with the exact one."""
    for cell, growth in _growth_of_single_examples(tables, gaussian=True):
        exact = growth.shape[1] * theory.log_growth_variance(cell.width, "relu")
        yield from_variance(_by_start(cell), growth.sum(axis=1), exact)


def _spread_per_layer(tables: StudyTables) -> Iterator[Evidence]:
    """Compare squared deviations from the exact drift, a mean over layers a network."""
    for cell, growth in _growth_of_single_examples(tables, gaussian=True):
        drift = theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu")
        squares = ((growth - drift) ** 2).mean(axis=1)
        exact = theory.log_growth_variance(cell.width, "relu")
        yield from_seeds(_by_start(cell), squares / exact, 1.0)


def _signals(tables: StudyTables) -> Iterator[tuple[Cell, pd.Series[float], int, float, float]]:
    """Yield what ln mean (dC/dz)^2 of one example gains from the last to the first hidden layer.

    With an example, the number of steps, and the exact mean and variance.
    """
    for cells in _single_examples(tables, of_sum=True):
        table = _by_layer(tables, cells, "signal_log10_rms")
        law = theory.gradient_law(hidden_widths(cells[0]), _sigma_w2(cells[0]), "relu")
        gain = table[1] - table[cells[0].depth]
        yield cells[0], gain, cells[0].depth - 1, float(law.mean[0]), float(law.variance[0])


def _signal_drift(tables: StudyTables) -> Iterator[Evidence]:
    for cell, gain, steps, mean, _ in _signals(tables):
        yield from_seeds(_by_widths(cell), gain / steps, mean / steps)


def _signal_spread(tables: StudyTables) -> Iterator[Evidence]:
    for cell, gain, _, _, variance in _signals(tables):
        yield from_variance(_by_widths(cell), gain, variance)


def _normal_samples(tables: StudyTables) -> Iterator[tuple[Case, pd.Series[float], Any]]:
    """Yield case, logarithms of lengths or signals, and the normal law of exact moments."""
    for cell, growth in _growth_of_single_examples(tables, gaussian=True):
        steps = growth.shape[1]
        mean = steps * theory.log_growth_mean(cell.width, _sigma_w2(cell), "relu")
        variance = steps * theory.log_growth_variance(cell.width, "relu")
        normal = stats.norm(mean, math.sqrt(variance))
        case = _by_widths(cell, f"lengths, width {cell.width}", quantity="lengths")
        yield case, growth.sum(axis=1), normal
    for cell, gain, _, mean, variance in _signals(tables):
        normal = stats.norm(mean, math.sqrt(variance))
        case = _by_widths(cell, f"signals, widths {architecture_name(cell)}", quantity="signals")
        yield case, gain, normal


def _log_normal(tables: StudyTables) -> Iterator[Evidence]:
    for case, logs, normal in _normal_samples(tables):
        yield from_distribution(case, logs, normal.cdf)


def normality(tables: StudyTables) -> dict[str, float]:
    """Return the largest distance from the normal law, and the range of p-values against it.

    Kolmogorov and Smirnov's test, two-sided, of the law with exact mean and variance.
    """
    tests = [stats.kstest(logs, normal.cdf) for _, logs, normal in _normal_samples(tables)]
    p_values = [float(test.pvalue) for test in tests] or [math.nan]
    return {
        "normal_distance": max([float(test.statistic) for test in tests] or [math.nan]),
        "normal_least_p": min(p_values),
        "normal_most_p": max(p_values),
    }


def _log_ratios(tables: StudyTables) -> Iterator[tuple[Cell, pd.Series[float]]]:
    """Yield, by architecture, ln |z_L|^2 / |z_1|^2 of networks with equal sums."""
    for cells in _single_examples(tables, of_sum=True):
        lengths = _by_layer(tables, cells, LENGTH)
        ratio = lengths[cells[0].depth] - lengths[1]
        yield cells[0], ratio.set_axis([cell.seed for cell in cells])


def ratio_variance(widths: Sequence[int]) -> float:
    """Return the exact variance of ``ln |z_L|^2 / |z_1|^2`` over ReLU networks.

    ``|z_l|^2 / |z_(l-1)|^2`` is the product of the part of a squared length that relu keeps, B at
    width ``n_(l-1)``, and a chi-square of ``n_l`` degrees of freedom over ``n_l``, all independent;
    both together have the variance v of a ReLU layer if the widths are equal. Hence
    ``sum_(l < L) v(n_l)``, plus that of ln chi-square at ``n_L`` less that at ``n_1``.

    Parameters
    ----------
    widths
        ``n_1 ... n_L``; Gaussian weights, no biases, one example.
    """
    inner = sum(theory.log_growth_variance(width, "relu") for width in widths[:-1])
    last, first = (theory.log_growth_variance(widths[n], "linear") for n in (-1, 0))
    return inner + last - first


def _spread_by_widths(tables: StudyTables) -> Iterator[Evidence]:
    for cell, ratio in _log_ratios(tables):
        exact = ratio_variance(hidden_widths(cell))
        yield from_variance(_by_widths(cell), ratio, exact)


def _equal_sums(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the variance of mixed widths with that of a constant width of the same sum."""
    found = list(_log_ratios(tables))
    for (mixed, over), (constant, under) in itertools.product(found, found):
        start = mixed.initializer == constant.initializer
        if start and mixed.widths.name != "constant" and constant.widths.name == "constant":
            pair = pd.concat([over, under], axis=1).to_numpy(np.float64)
            name = architecture_name(constant)
            text = f"widths {architecture_name(mixed)}, over {name}"
            case = _by_widths(mixed, text, over=name)
            yield from_bootstrap(case, pair, _variance_ratio, 1.0)


def _variance_ratio(pair: NDArray[Any]) -> float:
    over, under = pair.var(axis=0, ddof=1)
    return float(over / under) if under > 0 else math.nan


def _scale(tables: StudyTables) -> Iterator[Evidence]:
    """Yield log10 of mean z^2 in the first and the last hidden layer; inputs have mean square 1."""
    start = at_start(recorded(tables.layers, LENGTH)).set_index(["cell", "layer"])[LENGTH]
    for activation, label in (("tanh", "glorot_normal"), ("relu", "variance_scaling(scale=2.0)")):
        wanted = {"activation": activation, "initializer": label, "use_bias": False}
        several = [cell for cell in tables.study.cells if cell.batch_size > 1 and cell.depth]
        cells = deepest(networks(several, **wanted))
        for layer in dict.fromkeys((1, cells[0].depth)):
            values = start.loc[[(cell.id, layer) for cell in cells]]
            yield from_seeds(
                Case(activation=activation, initializer=label, layer=layer), values, 0.0
            )


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
    lines = _slopes_over_layers("signal_log10_rms", "tanh", _dashed_slope, use_bias=True)
    gaps = [abs(row.measured - row.predicted) for row in lines(tables)] or [math.nan]
    found["tanh_dashed_error"] = max(gaps) / DECADE
    found["first"] = FIRST_LAYERS
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
            case = Case(activation=activation, initializer=start)
            found[f"{activation}_{kind}"] = rows.get(case, math.nan)
    single = (
        ("exponent", _power_law),
        ("drift", partial(_typical_rate, gaussian=True)),
        ("spread", _spread),
    )
    for name, evidence in single:
        row = next(iter(evidence(tables)), None)
        found[name] = row.measured if row else math.nan
        found[f"{name}_predicted"] = row.predicted if row else math.nan
    totals = minibatch_gradients(tables)
    errors = (totals["measured"] - totals["predicted"]).abs()
    sweep = totals["use_bias"]
    found |= {
        "least_total": float(totals.loc[sweep, "measured"].min()),
        "most_total": float(totals.loc[sweep, "measured"].max()),
        "total_error": float(errors[sweep].max()),
        "relu_total_error": float(errors[totals["activation"] == "relu"].max()),
        "sigmoid_total": float(totals.loc[totals["activation"] == "sigmoid", "measured"].min()),
        "sigmoid_total_error": float(errors[totals["activation"] == "sigmoid"].max()),
    }
    ratios = [row.measured for row in _equal_sums(tables)] or [math.nan]
    found |= {"least_ratio": min(ratios), "most_ratio": max(ratios)}
    return found | normality(tables)


CLAIMS = [
    _signal_rate("tanh", use_bias=True),
    _signal_rate("tanh", use_bias=False),
    _signal_rate("relu", use_bias=False),
    _signal_rate("sigmoid", use_bias=False),
    Claim(
        id="glorot-tanh-power-law",
        statement=(
            "Glorot's initialization is critical for tanh: the signal falls towards the input as "
            "a power of the layer, not exponentially."
        ),
        source=ROBERTS,
        formula=(
            "mean (dC/dz)² ∝ l¹ for large l; predicted is the exponent that mean-field theory has "
            "over the same layers"
        ),
        unit="exponent",
        criterion=Within(0.1),
        measure=_power_law,
        note=(
            "Theory is that of the mean square at infinite width. An earlier form predicted the "
            "asymptote, 1."
        ),
    ),
    Claim(
        id="glorot-tanh-not-exponential",
        statement=(
            "An exponential of the layer describes the signal of tanh networks from Glorot's "
            "initialization less well than a power."
        ),
        source=ROBERTS,
        formula=(
            "ln (squared residuals of a line through ln mean (dC/dz)² over l / the same over ln l)"
        ),
        unit="",
        criterion=Above(0.0),
        measure=_power_law_advantage,
        note=(
            "Both lines have two parameters: with the number of layers as a factor this is the "
            "difference of their AIC."
        ),
    ),
    Claim(
        id="relu-typical-length",
        statement=(
            "He's initialization keeps the mean square of ReLU activations on average over "
            "networks; a typical network drifts by an exact amount that depends on the width."
        ),
        source=f"hanin-nica2020: the log-normal law; kogler2026: the exact drift; {HE}",
        formula="gain of ln |z|² a layer = ln(σ_w²/n) + ln 2 + E ψ(K/2), K ~ Bin(n, 1/2)",
        unit="per layer",
        criterion=Within(0.01),
        measure=_typical_rate,
        note=(
            "Measured on single examples, for which the law is exact. Other scales of the same "
            "random numbers, as Glorot's, which halves the mean square at every layer, would say "
            "the same once more, and are left out."
        ),
    ),
    Claim(
        id="relu-spread",
        statement=(
            "Lengths at finite width spread over networks with the exact variance, which grows "
            "in proportion to depth over width."
        ),
        source="hanin-nica2020; the sum is exact for Gaussian weights and one example",
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
        source="hanin-nica2020; exact for Gaussian weights and one example",
        formula="E (gain of ln |z|² − its exact mean)² = E ψ₁(K/2) + Var ψ(K/2)",
        unit="measured over exact variance",
        criterion=Within(0.05),
        measure=_spread_per_layer,
        note="Each network is as many tests as it has layers, so that a small error would show.",
    ),
    Claim(
        id="relu-typical-signal",
        statement=(
            "The signal of a typical ReLU network drifts on its way back by the same exact amount "
            "a layer as its length does on its way forward."
        ),
        source="hanin-nica2020; exact for Gaussian weights and one example",
        formula="gain of ln mean (dC/dz)² a layer towards the input = mean of its exact law",
        unit="per layer",
        criterion=Within(0.02),
        measure=_signal_drift,
        note=(
            "Measured with the sum of the outputs for the loss. The law takes for granted that "
            "what enters at the output does not depend on the forward pass. The signal of a task's "
            "loss does, and falls more slowly: the networks of the claims on lengths show it."
        ),
    ),
    Claim(
        id="relu-signal-spread",
        statement=(
            "The logarithm of the signal of a ReLU network spreads over networks with the exact "
            "variance."
        ),
        source="hanin-nica2020; exact for Gaussian weights and one example",
        formula="Var ln (|dC/dz_1|²/|dC/dz_L|²) = Σ (E ψ₁(K/2) + Var ψ(K/2)), K ~ Bin(n, 1/2)",
        unit="measured over exact variance",
        criterion=Within(0.25),
        measure=_signal_spread,
    ),
    Claim(
        id="relu-log-normal",
        statement=(
            "Lengths and signals at finite width are nearly log-normal: the distribution function "
            "of the logarithm is nowhere further than 0.15 from that of the normal law with the "
            "exact mean and variance."
        ),
        source="hanin-nica2020",
        formula="largest distance of the logarithm's distribution function from the normal law's",
        unit="probability",
        criterion=Below(0.15),
        measure=_log_normal,
        note=(
            "The bound says how far a probability may be off, not that the law is exactly normal: "
            "it is so in the limit alone, and enough networks tell the difference. The chapter has "
            "the p-values of Kolmogorov and Smirnov's test."
        ),
    ),
    Claim(
        id="relu-spread-by-widths",
        statement="The exact variance holds for every order of wide and narrow layers.",
        source="hanin-rolnick2018; hanin-nica2020",
        formula="Var ln (|z_L|²/|z₁|²) over its exact value, a sum over layers",
        unit="measured over exact variance",
        criterion=Within(0.25),
        measure=_spread_by_widths,
    ),
    Claim(
        id="relu-equal-sums",
        statement=(
            "What matters is the sum of reciprocal widths: networks with equal sums spread alike."
        ),
        source="hanin-rolnick2018",
        formula="variance of ln (|z_L|²/|z₁|²), mixed over constant widths = 1",
        unit="ratio",
        criterion=Between(0.75, 1.33),
        measure=_equal_sums,
        note=(
            "To leading order in 1/n. The bounds exclude the variances of networks that are as "
            "wide or as narrow in all layers as the mixed ones are in half of them."
        ),
    ),
    Claim(
        id="similar-scale",
        statement=(
            "With variance 1/n for tanh and 2/n for ReLU the pre-activations keep the scale of the "
            "inputs, within a factor of two."
        ),
        source=NG_WEIGHTS,
        formula=f"log10 of mean z² in the first and the last hidden layer = 0 ± {SIMILAR:g}",
        unit="decades",
        criterion=Within(SIMILAR),
        measure=_scale,
        note=(
            "It holds in part: for one layer, and through many ReLU layers. Tanh shortens every "
            "signal a little; from variance 1/n its mean square falls as 1/(2l)."
        ),
        passage="similar-scale",
    ),
    Claim(
        id="relu-weight-gradient-flat",
        statement=(
            "In bias-free ReLU networks of equal widths and variances the gradient with respect to "
            "the weights is about the same in all hidden layers, from every initialization: what "
            "vanishes is the back-propagated signal."
        ),
        source=f"{HE}, one factor per layer, forwards and backwards",
        formula="slope of log10 RMS dC/dW towards the input = 0",
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
        formula="slope of log10 RMS dC/dW towards the input = 0",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_gradient_slopes("tanh"),
    ),
    Claim(
        id="sigmoid-weight-gradient",
        statement=(
            "In sigmoid networks the weight gradients themselves vanish exponentially towards the "
            "input, even with Glorot's initialization."
        ),
        source=f"{GLOROT_SIGMOID}; {SCHOENHOLZ}",
        formula="slope of log10 RMS dC/dW towards the input = ½ log10 χ₁",
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
        formula="slope of log10 RMS dC/dW towards the input",
        unit="decades per layer",
        criterion=Below(-0.05),
        measure=_early_layers,
        note=(
            "It holds in part: for sigmoid networks. In bias-free ReLU networks, and in tanh "
            "networks whose signals are small, the forward signal shrinks as the backward one "
            "does, so that the gradients of all layers vanish together (Euler's theorem; Glorot "
            "and Bengio, equation 14). What is smaller at early layers is the back-propagated "
            "signal dC/dz."
        ),
    ),
]
