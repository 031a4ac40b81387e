"""Exact solutions of deep linear learning (Saxe et al. 2014): modes, and learning time by depth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from gradprop import theory
from gradprop.analysis import spectra
from gradprop.analysis.arrivals import arrivals, at_best_rate, exponents
from gradprop.analysis.modes import start_strength, time_unit
from gradprop.analysis.needs import at, need, networks, one_per_seed, recorded, table
from gradprop.claims import Above, Between, Case, Claim, Evidence, Within, exact, from_seeds
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

TIMES = {"statistic": "train_accuracy", "level": 0.9, "hue": "initializer"}
DECOUPLED, RANDOM = "identity", "normal"
GAUSSIAN, ORTHOGONAL = "variance_scaling", "orthogonal"
SELECT_ORTHOGONAL = {"dataset": "digits", "initializer": ORTHOGONAL}


def trajectories(
    tables: StudyTables, initializer: str
) -> Iterator[tuple[Cell, float, Float64, Float64]]:
    """Yield the modes of linear networks of one hidden layer.

    Each as cell, strength s, times in the units of theory, and what is learned at them. From a
    decoupled initialization all seeds are the same, and the first one is enough.
    """
    modes = recorded(tables.measurement("modes"), "cell")
    kind = initializer, "linear", 1
    chosen = one_per_seed(
        [c for c in tables.study.cells if (c.initializer.name, c.activation.name, c.depth) == kind]
    )
    for cell in chosen[:1] if initializer == DECOUPLED else chosen:
        rows = modes[modes["cell"] == cell.id].sort_values("step")
        for _, mode in rows.groupby("index"):
            times = time_unit(cell) * mode["step"].to_numpy(np.float64)
            s = float(mode["strength"].iloc[0])
            yield cell, s, times, mode["learned"].to_numpy(np.float64)


def half_time(times: Float64, learned: Float64, s: float) -> float:
    """Return when half of a mode is learned; infinite if it never is.

    Between the two probes ln(u / (s - u)) is interpolated, which grows linearly in the exact
    solution.
    """
    above = np.flatnonzero(learned >= s / 2)
    if not len(above):
        return math.inf
    if above[0] == 0:
        return float(times[0])
    pair = slice(above[0] - 1, above[0] + 1)
    share = np.clip(learned[pair] / s, 1e-12, 1 - 1e-12)
    return float(np.interp(0.0, np.log(share / (1 - share)), times[pair]))


def _mode(s: Any) -> Case:
    return Case(f"s = {s:.3g}", s=f"{s:.3g}")


def _exact_solution(tables: StudyTables) -> Iterator[Evidence]:
    """Give R² of the trajectory of every mode from a decoupled initialization."""
    for cell, s, times, learned in trajectories(tables, DECOUPLED):
        expected = theory.mode_strength(times, s, start_strength(cell))
        lost = np.sum((learned - expected) ** 2) / np.sum((learned - learned.mean()) ** 2)
        yield exact(_mode(s), float(1 - lost), math.nan)


def _half_times(tables: StudyTables) -> Iterator[Evidence]:
    for cell, s, times, learned in trajectories(tables, DECOUPLED):
        expected = theory.half_time(s, start_strength(cell))
        yield exact(_mode(s), half_time(times, learned, s) / expected, 1.0)


def fitted_start(strengths: Float64, halves: Float64) -> float:
    """Return the u_0 from which theory's half times are relatively nearest to measured ones."""

    def error(log_start: float) -> float:
        expected = [theory.half_time(s, math.exp(log_start)) for s in strengths]
        return float(np.sum((halves / expected - 1) ** 2))

    bounds = (math.log(1e-12), math.log(0.49 * strengths.min()))
    found = optimize.minimize_scalar(error, bounds=bounds, method="bounded")
    return math.exp(float(found.x))


def random_half_times(tables: StudyTables) -> pd.DataFrame:
    """Return half times from random weights over those of theory with one fitted u_0 per network.

    A row per network, a column per strength.
    """
    rows: dict[str, dict[float, float]] = {}
    for cell, s, times, learned in trajectories(tables, RANDOM):
        rows.setdefault(cell.id, {})[round(s, 6)] = half_time(times, learned, s)
    table = pd.DataFrame.from_dict(rows, orient="index")
    strengths = table.columns.to_numpy(np.float64)
    for name, halves in table.iterrows():
        if np.isfinite(halves).all():
            start = fitted_start(strengths, halves.to_numpy(np.float64))
            table.loc[name] = halves / [theory.half_time(s, start) for s in strengths]
    return table


def _random_start(tables: StudyTables) -> Iterator[Evidence]:
    for s, ratios in random_half_times(tables).items():
        yield from_seeds(_mode(s), ratios, 1.0)


# ----------------------------------------------------------------------- learning time by depth


def learning_times(tables: StudyTables) -> dict[str, pd.DataFrame]:
    """Return steps to learn at the best rate by initializer: rows seeds, columns depths."""
    labels = {cell.id: cell.initializer.name for cell in tables.study.cells}
    found = at_best_rate(arrivals(tables, {**TIMES, "select": {"dataset": "digits"}}))
    groups = found.groupby(found["cell"].map(labels))
    return {str(name): table(rows, "seed", "depth", "steps") for name, rows in groups}


def _slopes(tables: StudyTables, initializer: str) -> Float64:
    """Return the exponent of depth of every seed."""
    trained = {cell.id for cell in tables.study.cells if cell.dataset.name == "digits"}
    last = tables.steps.loc[tables.steps["cell"].isin(trained), "step"].max()
    return exponents(at(learning_times(tables), initializer), float(last))


def _orthogonal(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(initializer=ORTHOGONAL), _slopes(tables, ORTHOGONAL), 0.0)


def _gaussian(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case("scaled Gaussian", initializer=GAUSSIAN), _slopes(tables, GAUSSIAN))


SOURCE = "saxe2014"

CLAIMS = (
    Claim(
        id="trajectories",
        statement="From a decoupled initialization every mode is learned along the exact sigmoid.",
        source=f"{SOURCE}: figure 3",
        formula="R² of u(t) = s e / (e − 1 + s/u₀), e = exp(2st/τ)",
        unit="",
        criterion=Above(0.999),
        measure=_exact_solution,
    ),
    Claim(
        id="half-times",
        statement="The stronger a mode, the sooner it is learned, as 1/s up to a logarithm.",
        source=f"{SOURCE}: figure 3",
        formula="time to s/2 over (τ/2s) ln(s/u₀ − 1)",
        unit="",
        criterion=Within(0.01),
        measure=_half_times,
    ),
    Claim(
        id="random-start",
        statement=(
            "From small random weights the stronger a mode, the sooner it is learned, too, up to "
            "the strength that it starts from."
        ),
        source=f"{SOURCE}: figure 3",
        formula="time to s/2 over (τ/2s) ln(s/u₀ − 1), one fitted u₀ a network",
        unit="",
        criterion=Within(0.1),
        measure=_random_start,
    ),
    Claim(
        id="orthogonal-depth",
        statement=(
            "With orthogonal weights the learning time of linear networks does not depend on depth."
        ),
        source=f"{SOURCE}: figure 6 A",
        formula="slope of ln steps over ln depth at the best learning rate = 0",
        unit="exponent",
        criterion=Between(-0.15, 0.15),
        measure=_orthogonal,
        note=(
            "Times are few tens of steps, the accuracy is a mean over the last ten of them, and "
            "best learning rates are known to a factor of 1.8: a small slope may be theirs. More "
            "seeds do not take it away."
        ),
    ),
    Claim(
        id="gaussian-depth",
        statement=(
            "With scaled Gaussian weights the learning time of linear networks grows with depth."
        ),
        source=f"{SOURCE}: figure 6 A",
        formula="slope of ln steps over ln depth at the best learning rate > 0",
        unit="exponent",
        criterion=Above(0.0),
        measure=_gaussian,
        note="Networks that have not learned by the last step count with it: the slope is a bound.",
    ),
)


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    modes = need([*trajectories(tables, DECOUPLED)], "networks whose modes are decoupled")
    halves = [half_time(times, learned, s) for _, s, times, learned in modes]
    found: dict[str, float | str] = {"fastest": halves[0], "slowest": halves[-1]}
    found["strongest"], found["weakest"] = modes[0][1], modes[-1][1]
    ratios = random_half_times(tables)
    found["random_error"] = float((ratios.mean() - 1).abs().max())
    times_ = learning_times(tables)
    for name in (GAUSSIAN, ORTHOGONAL):
        steps = at(times_, name)
        median = steps.quantile(0.5, interpolation="higher")
        found[f"{name}_shallow"], found[f"{name}_deep"] = median.iloc[0], median.iloc[-1]
        found[f"{name}_arrived"] = int(np.isfinite(steps.iloc[:, -1]).sum())
    best = at_best_rate(arrivals(tables, {**TIMES, "select": SELECT_ORTHOGONAL}))
    rates = best.groupby("depth")["learning_rate"].first()
    for place, rate in (("shallow", rates.iloc[0]), ("deep", rates.iloc[-1])):
        found[f"orthogonal_{place}_rate"] = float(rate)
    found["shallow"], found["deep"] = (int(steps.columns[n]) for n in (0, -1))
    found["seeds"] = len(steps)
    found["width"] = networks(tables.study.cells, dataset="digits")[0].width
    found["slope"], found["gaussian_slope"] = (
        float(_slopes(tables, name).mean()) for name in (ORTHOGONAL, GAUSSIAN)
    )
    singular = recorded(tables.measurement("spectra"), "cell")
    moments = spectra.moments(singular)
    layers = {cell.id: cell.depth - 1 for cell in tables.study.cells}
    starts = {cell.id: cell.initializer.name for cell in tables.study.cells}
    gaussian = moments[moments.index.map(starts) == GAUSSIAN]
    need(gaussian, "Gaussian networks with singular values")
    deepest = gaussian.index.map(layers).max()
    found["matrices"] = int(deepest)
    chosen = gaussian.index[gaussian.index.map(layers) == deepest]
    rows = singular[singular["cell"].isin(chosen)]
    found["below"] = float((rows["log10_singular_value"] < -2).mean())
    found["largest"] = float(10 ** rows.loc[rows["index"] == 1, "log10_singular_value"].median())
    return found
