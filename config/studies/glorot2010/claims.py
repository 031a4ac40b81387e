"""The difficulty of training deep networks: the numbers in the chapter's prose, and its claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from gradprop import theory
from gradprop.analysis import spectra
from gradprop.analysis.arrivals import arrivals, at_best_rate, first_step
from gradprop.analysis.needs import NotMeasured, at, need, networks, one_per_seed, recorded, table
from gradprop.analysis.slopes import log_slopes
from gradprop.claims import (
    Above,
    Below,
    Between,
    Case,
    Claim,
    Evidence,
    Within,
    from_seeds,
    from_test,
)
from gradprop.components import datasets
from gradprop.grid.selection import deepest, select
from gradprop.prediction.data import prediction_on_data
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell

PAPER = "glorot2010"
STANDARD, NORMALIZED = "standard_heuristic", "glorot_uniform"
STARTS = {STANDARD: "standard", NORMALIZED: "normalized"}
PLAIN = ("tanh", "softsign")  # whose plateaus are short
WIDTH = 100  # of the networks that are trained
DIGITS = {"dataset": "digits"}
OTHER_DATA = {"clusters": "gaussian_mixture", "spirals": "spirals"}  # as the prose calls them
START = {"batch_size": 300}  # the networks that are only measured at initialization
HALF = 0.5  # training accuracy that ends a plateau
ARRIVED = 0.9  # test accuracy whose time is compared
PLATEAU_RATE = 0.3
FIGURE_RATE = 0.1  # of the networks whose layers are drawn through training


def _tanh_start(tables: StudyTables, start: str) -> tuple[Cell, pd.DataFrame]:
    """Return an example and the rows of ``layers`` of the deepest tanh networks at step 0."""
    wanted = {**START, "width": WIDTH, "activation": "tanh", "initializer": start}
    chosen = one_per_seed(deepest(networks(tables.study.cells, **wanted)))
    return chosen[0], tables.layers[tables.layers["cell"].isin({cell.id for cell in chosen})]


def _by_layer(rows: pd.DataFrame, statistic: str) -> pd.DataFrame:
    return table(rows, "cell", "layer", statistic)


def _signal_ratio(tables: StudyTables) -> Iterator[Evidence]:
    """Divide the RMS of dC/dz in layer 1 by that in the last hidden layer."""
    cell, rows = _tanh_start(tables, STANDARD)
    signal = _by_layer(rows, "signal_log10_rms")
    law = prediction_on_data(cell)
    if law is None or not cell.depth:
        raise NotMeasured("theory says nothing of these networks")
    ratio = 10 ** (signal[1] - signal[cell.depth])
    yield from_seeds(
        Case("standard initialization", initializer=STANDARD), ratio, float(10 ** law.signal[0])
    )


def _weight_gradient_ratio(tables: StudyTables) -> Iterator[Evidence]:
    """Divide the largest by the smallest std of dC/dW over hidden layers 2 to the last.

    Of the means over networks: a ratio of extremes of one network is never less than 1.
    """
    cell, rows = _tanh_start(tables, STANDARD)
    gradient = _by_layer(rows, "gradient_std").loc[:, 2 : cell.depth]
    need(gradient.columns, "hidden layers after the first in these networks")
    networks = len(gradient)

    def ratio(chosen: np.ndarray) -> float:
        means = gradient.to_numpy()[chosen].mean(axis=0)
        return float(means.max() / means.min())

    whole = np.arange(networks)
    left_out = np.array([ratio(np.delete(whole, i)) for i in whole])
    # Jackknife (Efron and Stein 1981).
    error = math.sqrt((networks - 1) / networks * float(((left_out - left_out.mean()) ** 2).sum()))
    half = float(stats.t.ppf(0.95, networks - 1)) * error
    found = ratio(whole)
    yield Evidence(
        Case("standard initialization", initializer=STANDARD),
        1.0,
        found,
        found - half,
        found + half,
        networks,
    )


def _layer_means(tables: StudyTables, matrix: str, start: str) -> pd.DataFrame:
    """Return the mean over square layers of their mean singular values, a row per network.

    Columns ``width``, ``mean`` and ``predicted``.
    """
    rows = recorded(tables.measurement("spectra"), "matrix")
    rows = rows[rows["matrix"] == matrix]
    measured = set(rows["cell"])
    chosen = select(tables.study.cells, {"initializer": start})
    cells = [cell for cell in chosen if cell.id in measured]
    need(cells, f"networks with initializer {start} and singular values of {matrix}")
    means = spectra.layer_means(rows[rows["cell"].isin({cell.id for cell in cells})], cells)
    networks = means.groupby("cell", sort=False)[["mean", "predicted"]].mean()
    return networks.join(tables.cells.set_index("cell")["width"])


def _singular_values(
    tables: StudyTables, matrix: str, starts: dict[str, str]
) -> Iterator[Evidence]:
    """Take the mean over the square hidden layers of every network, width by width."""
    for start, name in starts.items():
        for width, rows in _layer_means(tables, matrix, start).groupby("width"):
            case = Case(f"{name} initialization, width {width}", initializer=start, width=width)
            yield from_seeds(case, rows["mean"], float(rows["predicted"].median()))


def _sigmoid_rate(tables: StudyTables, statistic: str) -> Evidence:
    """Fit how ln of the mean square of a gradient changes per layer towards the input."""
    slopes = log_slopes(tables, {"select": {**START, "activation": "sigmoid"}}, statistic)
    fixed = theory.length_fixed_point("sigmoid", 1.0)
    return from_seeds(
        Case("Glorot", initializer="glorot_normal"),
        -slopes["slope"],
        math.log(theory.chi_1("sigmoid", fixed, 1.0)),
    )


def _sigmoid_rates(statistic: str) -> Claim:
    name = "back-propagated signal" if statistic.startswith("signal") else "weight gradient"
    return Claim(
        id=f"sigmoid-{name.split()[0].split('-')[0]}-rate",
        statement=(
            f"In sigmoid networks the {name} vanishes exponentially, even with Glorot's "
            f"initialization."
        ),
        source=f"{PAPER}: section 3.1; schoenholz2017",
        formula="slope of ln mean square towards the input = ln χ₁",
        unit="per layer",
        criterion=Within(0.0, 0.03),
        measure=lambda tables: [_sigmoid_rate(tables, statistic)],
    )


def _plateau_epochs(tables: StudyTables) -> pd.DataFrame:
    """Return epochs until half of the training set is right: a row per seed, a column per depth."""
    wanted = {"activation": "sigmoid", "learning_rate": PLATEAU_RATE, "initializer": STANDARD}
    rows = []
    for cell in (c for c in select(tables.study.cells, wanted) if c.epochs):
        steps = tables.steps[tables.steps["cell"] == cell.id]
        per_epoch = steps["step"].max() / cell.epochs
        epochs = first_step(steps, "train_accuracy", HALF) / per_epoch
        rows.append({"depth": cell.depth, "seed": cell.seed, "epochs": epochs})
    return table(pd.DataFrame(rows), "seed", "depth", "epochs")


def _shallow_plateau(tables: StudyTables) -> Iterator[Evidence]:
    epochs = _plateau_epochs(tables)
    for depth in (1, 2, 3):
        yield from_seeds(Case(depth=depth), at(epochs, depth))


def _depth_four(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(depth=4), at(_plateau_epochs(tables), 4))


def _depth_five(tables: StudyTables) -> Iterator[Evidence]:
    """Take the best training accuracy of the whole training: none reaches one half."""
    wanted = {"activation": "sigmoid", "learning_rate": PLATEAU_RATE, "depth": 5}
    chosen = {cell.id for cell in select(tables.study.cells, wanted)}
    steps = tables.steps[tables.steps["cell"].isin(chosen)]
    yield from_seeds(Case(depth=5), steps.groupby("cell")["train_accuracy"].max())


def _trend(tables: StudyTables) -> Iterator[Evidence]:
    """Test times against depth for a trend within seeds, by Page's L (Page 1963)."""
    epochs = _plateau_epochs(tables).dropna()
    if len(epochs) < 2 or epochs.shape[1] < 3:
        raise NotMeasured("the study has no two seeds of three depths")
    p_value = float(stats.page_trend_test(epochs.sort_index(axis=1).to_numpy()).pvalue)
    yield from_test(Case("depths 1 to 5", depths="all"), p_value, len(epochs))


def _top_layer(tables: StudyTables) -> Iterator[Evidence]:
    """Give the smallest mean activation of the top hidden layer while depth 5 is on its plateau."""
    wanted = {"activation": "sigmoid", "learning_rate": PLATEAU_RATE, "depth": 5}
    chosen = {cell.id for cell in select(tables.study.cells, wanted)}
    layers = recorded(tables.layers, "activation_mean")
    rows = layers[layers["cell"].isin(chosen) & (layers["layer"] == 5)]
    yield from_seeds(Case(depth=5, layer=5), rows.groupby("cell")["activation_mean"].min())


def arrival_steps(tables: StudyTables, activation: str) -> pd.DataFrame:
    """Return steps to a test accuracy of 90 % in networks of five layers, by seed and start.

    Each at the rate that `figures.learning_time.at_best_rate` chooses; networks that never
    arrive count as infinitely slow.
    """
    starts = [STANDARD, NORMALIZED]
    wanted = {**DIGITS, "activation": activation, "initializer": starts, "depth": 5}
    options = {"statistic": "test_accuracy", "level": ARRIVED, "hue": "initializer"}
    found = arrivals(tables, {**options, "select": wanted})
    labels = {cell.id: cell.initializer.label for cell in tables.study.cells}
    best = at_best_rate(found.assign(line=recorded(found)["cell"].map(labels)))
    return table(best, "seed", "line", "steps")


def _speed(tables: StudyTables) -> Iterator[Evidence]:
    """Give the one-sided p-value of Wilcoxon's test of pairs: is the normalized one faster?"""
    for activation in PLAIN:
        steps = arrival_steps(tables, activation)
        normalized, standard = at(steps, NORMALIZED), at(steps, STANDARD)
        if len(steps) < 2:
            raise NotMeasured("the study has no two seeds of these networks")
        later = (normalized - standard).mask(normalized == standard, 0.0)  # neither arrives: a tie
        if not later.any():
            raise NotMeasured("in no seed one of the two is faster")
        faster = stats.wilcoxon(later, alternative="less")
        yield from_test(Case(activation=activation), float(faster.pvalue), len(steps))


def _sigmoid_stalls(tables: StudyTables) -> Iterator[Evidence]:
    for start, name in STARTS.items():
        yield from_seeds(Case(name, initializer=start), 1 - _final_errors(tables, "sigmoid", start))


def gradient_ratios(tables: StudyTables, start: str) -> pd.Series[float]:
    """Return how far the weight gradients of layers differ in training, a number per tanh network.

    The largest over the smallest std of dC/dW of the hidden layers 2 to 5, the geometric mean over
    the probes after the start.
    """
    wanted = {**DIGITS, "activation": "tanh", "initializer": start, "depth": 5}
    cells = one_per_seed(networks(tables.study.cells, **wanted, learning_rate=FIGURE_RATE))
    seeds, layers = {cell.id: cell.seed for cell in cells}, recorded(tables.layers, "gradient_std")
    rows = layers[layers["cell"].isin(seeds) & (layers["step"] > 0)]
    logs = np.log(rows[rows["layer"].between(2, 5)].set_index(["cell", "step"])["gradient_std"])
    probes = logs.groupby(["cell", "step"])
    spreads = (probes.max() - probes.min()).groupby("cell").mean()
    return np.exp(spreads).rename(seeds)


def _gradients_stay_alike(tables: StudyTables) -> Iterator[Evidence]:
    standard, normalized = (gradient_ratios(tables, start) for start in (STANDARD, NORMALIZED))
    yield from_seeds(Case("tanh, layers 2 to 5", activation="tanh"), standard / normalized)


def _final_errors(
    tables: StudyTables, activation: str, start: str, dataset: str = "digits"
) -> pd.Series[float]:
    """Return the final test errors of networks of five layers by seed, at the rate 0.1."""
    wanted = {"dataset": dataset, "activation": activation, "initializer": start, "depth": 5}
    chosen = one_per_seed(networks(tables.study.cells, **wanted, learning_rate=FIGURE_RATE))
    cells = {cell.id for cell in chosen}
    rows = tables.cells[tables.cells["cell"].isin(cells)].set_index("seed")
    return 1 - rows["final_test_accuracy"].astype(float)


def _final_difference(tables: StudyTables) -> Iterator[Evidence]:
    """Compare final test errors at the learning rate 0.1, in points."""
    for activation in PLAIN:
        standard, normalized = (
            _final_errors(tables, activation, start) for start in (STANDARD, NORMALIZED)
        )
        yield from_seeds(Case(activation=activation), 100 * (standard - normalized))


CLAIMS = [
    Claim(
        id="signal-vanishes",
        statement=(
            "With the standard initialization of tanh networks the back-propagated signal vanishes."
        ),
        source=f"{PAPER}: figure 7",
        formula="RMS of dC/dz in layer 1 over that in layer 5 = mean-field theory",
        unit="ratio",
        criterion=Within(0.0, 0.2),
        measure=_signal_ratio,
    ),
    Claim(
        id="weight-gradient-flat",
        statement=(
            "With the standard initialization of tanh networks the gradient with respect to the "
            "weights is the same in all layers."
        ),
        source=f"{PAPER}: figure 8",
        formula="largest over smallest std of dC/dW, hidden layers 2 to 5",
        unit="ratio",
        criterion=Below(1.15),
        measure=_weight_gradient_ratio,
    ),
    Claim(
        id="singular-values-weights",
        statement="Singular values of the weights of a layer have the mean of the quarter circle.",
        source=f"{PAPER}: section 4.2.2; marchenko1967",
        formula="mean singular value of W = 8/(3π) √(n Var W), layers 2 to 5",
        unit="",
        criterion=Within(0.0, 0.01),
        measure=lambda tables: _singular_values(tables, "kernel", STARTS),
    ),
    Claim(
        id="singular-values-standard",
        statement=(
            "The mean singular value of the Jacobian of a tanh layer is around 0.5 with the "
            "standard initialization."
        ),
        source=f"{PAPER}: section 4.2.2",
        formula="mean singular value of W diag(φ'(z)), layers 2 to 5",
        unit="",
        criterion=Between(0.45, 0.50),
        measure=lambda tables: _singular_values(
            tables, "layer_jacobian", {STANDARD: STARTS[STANDARD]}
        ),
    ),
    Claim(
        id="singular-values-normalized",
        statement=(
            "The mean singular value of the Jacobian of a tanh layer is around 0.8 with the "
            "normalized initialization."
        ),
        source=f"{PAPER}: section 4.2.2",
        formula="mean singular value of W diag(φ'(z)), layers 2 to 5",
        unit="",
        criterion=Between(0.77, 0.85),
        measure=lambda tables: _singular_values(
            tables, "layer_jacobian", {NORMALIZED: STARTS[NORMALIZED]}
        ),
        note=(
            "Var W = 2 / (n + m) of the first layer, with 64 inputs, makes its pre-activations the "
            "larger the fewer units there are: in narrow networks tanh saturates more than in the "
            "paper's, whose layers have about as many units as inputs."
        ),
    ),
    Claim(
        id="singular-values-slopes",
        statement=(
            "What tanh takes away from the singular values of the weights follows from mean-field"
            " theory."
        ),
        source="pastur2020; poole2016",
        formula="mean singular value of W diag(φ'(z)) = that of Marchenko and Pastur's equation",
        unit="",
        criterion=Within(0.0, 0.02),
        measure=lambda tables: _singular_values(tables, "layer_jacobian", STARTS),
        note=(
            "The tolerance was set to twice the reciprocal of the smaller width before measuring: "
            "corrections to the limit of wide layers are of that order."
        ),
    ),
    _sigmoid_rates("signal_log10_rms"),
    _sigmoid_rates("gradient_log10_rms"),
    Claim(
        id="plateau-shallow",
        statement="Sigmoid networks with up to three hidden layers leave their plateau early.",
        source=f"{PAPER}: section 3.1 and figure 2",
        formula=f"epochs to a training accuracy above {HALF:g}",
        unit="epochs",
        criterion=Below(25.0),
        measure=_shallow_plateau,
    ),
    Claim(
        id="plateau-depth-four",
        statement=(
            "Sigmoid networks with four hidden layers leave their plateau between epochs 30 and "
            "120; in the paper, around epoch 100, when the top layer desaturates."
        ),
        source=f"{PAPER}: section 3.1 and figure 2",
        formula=f"epochs to a training accuracy above {HALF:g}",
        unit="epochs",
        criterion=Between(30.0, 120.0),
        measure=_depth_four,
    ),
    Claim(
        id="plateau-depth-five",
        statement="Sigmoid networks with five hidden layers never leave their plateau.",
        source=f"{PAPER}: section 3.1",
        formula="largest training accuracy in 150 epochs",
        unit="accuracy",
        criterion=Below(HALF),
        measure=_depth_five,
    ),
    Claim(
        id="plateau-trend",
        statement="The deeper a sigmoid network, the longer its plateau.",
        source=f"{PAPER}: section 3.1",
        formula="one-sided p of Page's test of epochs against depth, seed by seed",
        unit="p",
        criterion=Below(0.05),
        measure=_trend,
    ),
    Claim(
        id="top-layer-saturates",
        statement=(
            "On the plateau of sigmoid networks the activations of the top hidden layer fall to 0."
        ),
        source=f"{PAPER}: section 3.1 and figure 2",
        formula="smallest mean activation of the top layer",
        unit="activation",
        criterion=Below(0.1),
        measure=_top_layer,
    ),
    Claim(
        id="gradients-stay-alike",
        statement=(
            "Through training the normalized initialization keeps the weight gradients of the "
            "layers more alike than the standard one."
        ),
        source=f"{PAPER}: figure 9",
        formula=(
            "largest over smallest std of dC/dW over hidden layers 2 to 5, a mean over probes: "
            "standard over normalized"
        ),
        unit="ratio",
        criterion=Above(1.0),
        measure=_gradients_stay_alike,
        note=(
            "The paper's networks are ten times as wide and are trained for longer, on larger "
            "pictures."
        ),
    ),
    Claim(
        id="normalized-is-faster",
        statement="The normalized initialization makes training faster.",
        source=f"{PAPER}: figures 11 and 12",
        formula=f"one-sided p of Wilcoxon's test of steps to a test accuracy above {ARRIVED:g}",
        unit="p",
        criterion=Below(0.05),
        measure=_speed,
    ),
    Claim(
        id="sigmoid-stalls",
        statement="Sigmoid networks with five hidden layers do not learn in that time.",
        source=f"{PAPER}: section 3.1 and table 1",
        formula="final test accuracy at the learning rate 0.1",
        unit="accuracy",
        criterion=Below(0.2),
        measure=_sigmoid_stalls,
    ),
]


def _quantiles_at_end(tables: StudyTables, activation: str) -> pd.Series[float]:
    """Return the 98 % quantile of activations after training, the median over seeds, by layer."""
    wanted = {**DIGITS, "activation": activation, "initializer": STANDARD, "depth": 5}
    chosen = select(tables.study.cells, {**wanted, "learning_rate": FIGURE_RATE})
    cells = {cell.id for cell in chosen}
    layers = recorded(tables.layers, "activation_q98")
    rows = layers[layers["cell"].isin(cells)]
    rows = rows[rows["step"] == rows["step"].max()]
    return rows.groupby("layer")["activation_q98"].median()


def _layer_numbers(tables: StudyTables) -> dict[str, float | str]:
    """Return mean singular values of weights and, narrow and wide, of Jacobians, by start."""
    found: dict[str, float | str] = {}
    for start, name in STARTS.items():
        found[f"weights_{name}"] = float(_layer_means(tables, "kernel", start)["mean"].mean())
        jacobians = _layer_means(tables, "layer_jacobian", start).groupby("width").mean()
        for place, width in (("narrow", jacobians.index.min()), ("wide", jacobians.index.max())):
            found[f"{place}_{name}"] = float(jacobians["mean"][width])
            found[f"{place}_{name}_theory"] = float(jacobians["predicted"][width])
    return found


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute what the prose says of ratios, singular values, plateaus and times."""
    plateau = _plateau_epochs(tables).median()
    trained = need([cell for cell in tables.study.cells if cell.epochs], "trained networks")
    learning_rates = sorted(
        {cell.learning_rate for cell in trained if cell.activation.name == "tanh"}
    )
    rates = [_sigmoid_rate(tables, f"{name}_log10_rms") for name in ("signal", "gradient")]
    found: dict[str, float | str] = {
        "width": WIDTH,
        "wide": max(cell.width for cell in tables.study.cells),
        "inputs": datasets.generate(trained[0].dataset).x_train.shape[1],
        "batch": trained[0].batch_size,
        "trained": len(trained),
        "rates": ", ".join(f"{rate:g}" for rate in learning_rates),
        "short": max(cell.epochs for cell in networks(trained, activation="tanh")),
        "ratio": next(_signal_ratio(tables)).measured,
        "ratio_theory": next(_signal_ratio(tables)).predicted,
        "flat": next(_weight_gradient_ratio(tables)).measured,
        "figure_rate": FIGURE_RATE,
        "alike_standard": float(gradient_ratios(tables, STANDARD).mean()),
        "alike_normalized": float(gradient_ratios(tables, NORMALIZED).mean()),
        "top": next(_top_layer(tables)).measured,
        "rate": PLATEAU_RATE,
        "epochs": max(cell.epochs for cell in tables.study.cells),
        **{f"plateau_{depth}": float(at(plateau, depth)) for depth in (1, 2, 3, 4)},
        "stuck": next(_depth_five(tables)).measured,
        **_layer_numbers(tables),
        "sigmoid_depth": max(cell.depth for cell in tables.study.cells),
        "sigmoid_signal": math.exp(rates[0].measured / 2),
        "sigmoid_gradient": math.exp(rates[1].measured / 2),
        "sigmoid_theory": math.exp(rates[0].predicted / 2),
    }
    for activation in PLAIN:
        for layer, quantile in _quantiles_at_end(tables, activation).items():
            found[f"{activation}_quantile_{layer}"] = quantile
        steps = arrival_steps(tables, activation).median()
        found[f"{activation}_standard"] = float(at(steps, STANDARD))
        found[f"{activation}_normalized"] = float(at(steps, NORMALIZED))
    for activation, evidence in zip(PLAIN, _final_difference(tables), strict=True):
        found[f"{activation}_gain"] = evidence.measured
        found[f"{activation}_low"] = evidence.low
        found[f"{activation}_high"] = evidence.high
    for name, dataset in OTHER_DATA.items():
        for activation, (start, called) in itertools.product(PLAIN, STARTS.items()):
            errors = _final_errors(tables, activation, start, dataset)
            found[f"{name}_{activation}_{called}"] = float(errors.median())
    return found
