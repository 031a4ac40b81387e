"""Delving deep into rectifiers: the numbers in the chapter's prose, and its claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.needs import at, first, need, networks, table
from gradprop.analysis.slopes import log_growth, log_slopes
from gradprop.claims import Above, Below, Case, Claim, Evidence, Within, from_seeds
from gradprop.prediction.mean_field import sigma_w2
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell

PAPER = "he2015"
START = {"width": 128, "activation": ["relu", "leaky_relu"]}  # rectifiers at initialization
STARTS = ("glorot_normal", "he_normal")
SHALLOW, MODERATE, DEEP = 10, 22, 30


def _cases(rows: pd.DataFrame) -> Iterator[tuple[Case, str, float, pd.DataFrame]]:
    """Yield every initialization with its deepest networks: other depths have the same seeds."""
    for _, group in rows.groupby(["activation", "sigma_w2"], sort=False):
        activation, scale = group["activation"].iloc[0], float(group["sigma_w2"].iloc[0])
        deepest = group[group["depth"] == group["depth"].max()]
        text, sigma_w2 = f"{activation}, variance {scale:.4g}/n", f"{scale:.4g}"
        case = Case(text, activation=activation, sigma_w2=sigma_w2)
        yield case, activation, scale, deepest


def _signal_rate(tables: StudyTables) -> Iterator[Evidence]:
    for case, activation, scale, rows in _cases(log_growth(tables, {"select": START})):
        yield from_seeds(case, rows["growth"], math.log(theory.chi_1(activation, 1.0, scale)))


def _length_rate(tables: StudyTables) -> Iterator[Evidence]:
    lengths = log_slopes(tables, {"select": START}, "preactivation_log10_mean_square")
    widths = (cell.width for cell in tables.study.cells if not cell.epochs)
    width = first(widths, "networks at initialization")
    seen: list[pd.Series[float]] = []
    for case, activation, scale, rows in sorted(_cases(lengths), key=_distance_from_balance):
        slopes = rows.sort_values("seed")["slope"]
        if not any(estimates.same_experiment(slopes, other) for other in seen):
            yield from_seeds(case, slopes, theory.log_growth_mean(width, scale, activation))
            seen.append(slopes)


def _distance_from_balance(case: tuple[Case, str, float, pd.DataFrame]) -> float:
    _, activation, scale, _ = case
    return abs(math.log(theory.chi_1(activation, 1.0, scale)))


def best_networks(tables: StudyTables, optimizer: str, activation: str = "relu") -> pd.DataFrame:
    """Return the networks at the best learning rate of every initialization and depth.

    By the rule of `estimates.at_smallest_loss`.

    Returns
    -------
    DataFrame
        Columns ``depth``, ``start``, ``seed``, ``learning_rate`` and ``accuracy``, the final one in
        training, of a diverged network 0.
    """
    starts = {cell.id: cell.initializer.name for cell in tables.study.cells}
    optimizers = {cell.id: cell.optimizer.name for cell in tables.study.cells}
    cells = tables.cells.assign(
        start=tables.cells["cell"].map(starts), rule=tables.cells["cell"].map(optimizers)
    )
    trained = (cells["epochs"] > 0) & (cells["activation"] == activation)
    cells = training_outcomes(cells[trained & (cells["rule"] == optimizer)])
    return estimates.at_smallest_loss(cells, ["depth", "start"])


def best_accuracies(tables: StudyTables, optimizer: str, activation: str = "relu") -> pd.DataFrame:
    """Return final training accuracies of `best_networks`: a row per seed, by depth and start."""
    cells = best_networks(tables, optimizer, activation)
    return table(cells, "seed", ["depth", "start"], "accuracy")


def _accuracy(start: str, depth: int) -> Callable[[StudyTables], Iterator[Evidence]]:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        accuracies = at(best_accuracies(tables, "sgd"), (depth, start))
        yield from_seeds(Case(initializer=start, depth=depth), accuracies)

    return measure


def _shallow(tables: StudyTables) -> Iterator[Evidence]:
    for start in STARTS:
        yield from _accuracy(start, SHALLOW)(tables)


def _difference(tables: StudyTables) -> Iterator[Evidence]:
    """Compare both initializations seed by seed: these share the order of examples."""
    accuracies = best_accuracies(tables, "sgd")
    xavier, he = (at(accuracies, (DEEP, start)) for start in STARTS)
    yield from_seeds(Case(depth=DEEP), he - xavier)


CLAIMS = [
    Claim(
        id="signal-rate",
        statement=(
            "A rectifier layer multiplies the mean square of the back-propagated signal by half of "
            "its weight variance times the fan-out, 1 + a² times that with a slope a below zero; "
            "He's initialization is the one that keeps it."
        ),
        source=f"{PAPER}: section 2.2",
        formula="slope of ln mean (dC/dz)² towards the input = ln(σ_w² (1 + a²) / 2)",
        unit="per layer",
        criterion=Within(0.03),
        measure=_signal_rate,
        note="Networks of all variances share their random numbers: the cases are not independent.",
    ),
    Claim(
        id="length-rate",
        statement=(
            "Forward, a rectifier layer multiplies the mean square by the same factor as "
            "backward, but for a drift of typical networks at finite width."
        ),
        source=f"{PAPER}: section 2.2; hanin-nica2020",
        formula="slope of ln mean z² over layers = ln(σ_w²/n) + ln 2 + E ψ(K/2) for ReLU",
        unit="per layer",
        criterion=Within(0.03),
        measure=_length_rate,
        note=(
            "Other variances of the same random numbers multiply lengths by exact powers and would "
            "say the same once more: of each activation and distribution the variance nearest to "
            "the balanced one is judged."
        ),
    ),
    Claim(
        id="glorot-stalls",
        statement=(
            "With SGD a ReLU network of 30 layers does not learn from Glorot's initialization."
        ),
        source=f"{PAPER}: figure 3",
        formula="final training accuracy at the rate of least loss",
        unit="accuracy",
        criterion=Below(0.25),
        measure=_accuracy("glorot_normal", DEEP),
    ),
    Claim(
        id="he-learns",
        statement="With SGD a ReLU network of 30 layers learns from He's initialization.",
        source=f"{PAPER}: figure 3",
        formula="final training accuracy at the rate of least loss",
        unit="accuracy",
        criterion=Above(0.8),
        measure=_accuracy("he_normal", DEEP),
    ),
    Claim(
        id="he-over-glorot",
        statement=(
            "With 30 layers and SGD the difference between He's and Glorot's initialization is "
            "not chance."
        ),
        source=f"{PAPER}: figure 3",
        formula="final training accuracy, He − Glorot, seed by seed, rates of least loss",
        unit="accuracy",
        criterion=Above(0.0),
        measure=_difference,
    ),
    Claim(
        id="shallow-both-learn",
        statement=(
            "With ten layers ReLU networks learn from Glorot's and from He's initialization."
        ),
        source=f"{PAPER}: section 2.2",
        formula="final training accuracy at the rate of least loss",
        unit="accuracy",
        criterion=Above(0.95),
        measure=_shallow,
    ),
]


def _rates(cells: Sequence[Cell], optimizer: str, activation: str) -> str:
    """Return the learning rates from which such networks get their best."""
    kind = optimizer, activation
    rates = {c.learning_rate for c in cells if (c.optimizer.name, c.activation.name) == kind}
    return ", ".join(f"{rate:g}" for rate in sorted(rates))


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute what the prose says of training."""
    sgd, adam = (best_accuracies(tables, rule).mean() for rule in ("sgd", "adam"))
    leaky = best_accuracies(tables, "sgd", "leaky_relu").mean()
    trained = need([cell for cell in tables.study.cells if cell.epochs], "trained networks")
    xavier = networks(trained, initializer=STARTS[0])[0]
    wide = max(cell.width for cell in tables.study.cells)
    best = best_networks(tables, "sgd").groupby(["depth", "start"])["learning_rate"].first()
    found: dict[str, float | str] = {
        "width": trained[0].width,
        "steps": int(tables.steps["step"].max()),
        "rates": _rates(trained, "sgd", "relu"),
        "leaky_rates": _rates(trained, "sgd", "leaky_relu"),
        "adam_rates": _rates(trained, "adam", "relu"),
        "beta_power": math.sqrt(sigma_w2(xavier) / 2) ** DEEP,
        "wide": wide,
        "drift": theory.log_growth_mean(wide, 2.0, "relu"),
    }
    for start in STARTS:
        for depth in (SHALLOW, MODERATE, DEEP):
            found[f"{start}_{depth}"] = float(sgd.get((depth, start), math.nan))
            found[f"{start}_{depth}_rate"] = float(best.get((depth, start), math.nan))
            found[f"adam_{start}_{depth}"] = float(adam.get((depth, start), math.nan))
            found[f"leaky_{start}_{depth}"] = float(leaky.get((depth, start), math.nan))
    return found
