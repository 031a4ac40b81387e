"""Deep information propagation: the numbers in the chapter's prose, and its claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.maps import POINT, fixed_point_distances
from gradprop.analysis.needs import NotMeasured, first, need, networks, table
from gradprop.analysis.slopes import LAST_LAYERS, log_growth
from gradprop.claims import (
    Above,
    Between,
    Case,
    Claim,
    Evidence,
    Within,
    from_bootstrap,
    from_seeds,
)
from gradprop.prediction.mean_field import coordinates, sigma_b2, state
from gradprop.results.study_tables import StudyTables, at_start

PAPER = "schoenholz2017"
SWEEP = {"width": 128, "depth": 40}  # the networks at one bias variance
PLANE = {"width": 100}  # those of the phase diagram
TRAINED = {"width": 64}
# Near the edge of chaos the budget of steps ends training before the depth scale does.
BUDGET_LIMITED = (1.5, 2.1)
PHASES = ("ordered", "chaotic")
HALF = 0.5  # accuracy at which a depth counts as reached
POWER_LAW_FROM = 9
GROUPS = 10


def _rates(tables: StudyTables) -> pd.DataFrame:
    """Return growth of the signal for the networks of one bias variance, with theory's."""
    growth = log_growth(tables, {"select": SWEEP})
    expected = [
        math.log(state(row.activation, row.sigma_w2, row.sigma_b2).chi_1)
        for row in growth.itertuples()
    ]
    return growth.assign(expected=expected)


def _signal_rate(tables: StudyTables) -> Iterator[Evidence]:
    for weights, rows in _rates(tables).groupby("sigma_w2"):
        case = Case(f"variance {weights:g}/n", sigma_w2=weights)
        yield from_seeds(case, -rows["growth"], -rows["expected"].iloc[0])


def _regression(tables: StudyTables) -> pd.DataFrame:
    """Fit measured against predicted rates: one line per seed."""
    fits = []
    rates = _rates(tables)
    if rates["expected"].nunique() < 2:
        raise NotMeasured("the study has no networks of two rates")
    for _, rows in rates.groupby("seed"):
        line = stats.linregress(rows["expected"], rows["growth"])
        fits.append((line.slope, line.intercept))
    return pd.DataFrame(fits, columns=["slope", "intercept"])


def _rate_slope(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(rates="slope"), _regression(tables)["slope"], 1.0)


def _rate_intercept(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(rates="intercept"), _regression(tables)["intercept"], 0.0)


def _rate_fit(tables: StudyTables) -> Iterator[Evidence]:
    rates = _rates(tables)
    growth = table(rates, "seed", "sigma_w2", "growth")
    expected = rates.groupby("sigma_w2")["expected"].first()

    def squared(values: NDArray[np.float64]) -> float:
        return float(np.corrcoef(values.mean(axis=0), expected)[0, 1] ** 2)

    yield from_bootstrap(Case(rates="means over seeds"), growth.to_numpy(), squared)


def _phases(tables: StudyTables) -> Iterator[Evidence]:
    growth = log_growth(tables, {"select": PLANE})
    points = ["activation", "sigma_w2", "sigma_b2"]
    measured = table(growth, "seed", points, "growth")
    expected = np.array([state(*point).chi_1 - 1 for point in measured.columns])

    def share(values: NDArray[np.float64]) -> float:
        return float((np.sign(values.mean(axis=0)) == np.sign(expected)).mean())

    yield from_bootstrap(Case(points="points of the plane"), measured.to_numpy(), share)


def _critical_signals(tables: StudyTables) -> pd.DataFrame:
    """Return mean (dC/dz)^2 without biases: a row per layer inside, a column per network."""
    cells = coordinates(networks(tables.study.cells, use_bias=False))
    rows = at_start(tables.layers)
    rows = rows[rows["cell"].isin(cells["cell"])]
    last = int(cells["depth"].iloc[0]) - LAST_LAYERS
    signals = table(rows, "layer", "cell", "signal_log10_rms")
    return (2 * signals.loc[POWER_LAW_FROM:last]).rpow(10)


def _critical(tables: StudyTables, statistic: Callable[..., float], predicted: float) -> Evidence:
    """Compute a statistic of layers and ln of the mean signal, group of networks by group.

    Theory speaks of the expectation over networks. The logarithm of a single network's signal is
    lower on average, by half its variance, which grows with the distance from the output: its
    slope would be too steep. Groups are independent, so that their mean has a t-interval.
    """
    signals = _critical_signals(tables)
    layers = signals.index.to_numpy(np.float64)
    count = min(GROUPS, signals.shape[1])
    groups = np.array_split(signals.to_numpy(), count, axis=1)
    values = [statistic(layers, np.log(group.mean(axis=1))) for group in groups]
    case = Case(f"variance 1/n, no biases, {count} groups of networks", sigma_w2=1.0, sigma_b2=0.0)
    return from_seeds(case, values, predicted)


def _power(layers: NDArray[np.float64], ln_signal: NDArray[np.float64]) -> float:
    return estimates.slope(np.log(layers), ln_signal)


def _akaike_advantage(layers: NDArray[np.float64], ln_signal: NDArray[np.float64]) -> float:
    """Return AIC of an exponential less that of a power law, least squares of the logarithm."""
    return len(layers) * estimates.power_law_advantage(layers, ln_signal)


def _exponent(tables: StudyTables) -> Iterator[Evidence]:
    yield _critical(tables, _power, 1.0)


def _power_over_exponential(tables: StudyTables) -> Iterator[Evidence]:
    yield _critical(tables, _akaike_advantage, math.nan)


def reached_depths(tables: StudyTables) -> pd.DataFrame:
    """Find the depth at which the training accuracy falls through one half.

    Interpolated linearly in the logarithm of the depth, between the last depth above one half and
    the next.

    Returns
    -------
    DataFrame
        A row per weight variance and seed: ``depth`` (NaN if it lies outside of the grid), theory's
        ``xi_c``, and ``phase``. Weight variances near the edge of chaos (`BUDGET_LIMITED`) are
        left out.
    """
    trained = need([c for c in tables.study.cells if c.epochs], "trained networks")
    cells = coordinates(trained).merge(
        tables.cells[["cell", "status", "final_train_loss", "final_train_accuracy"]], on="cell"
    )
    low, high = BUDGET_LIMITED
    cells = cells[(cells["sigma_w2"] <= low) | (cells["sigma_w2"] >= high)]
    rows = []
    groups = training_outcomes(cells).groupby(["activation", "sigma_w2", "sigma_b2", "seed"])
    for key, group in groups:
        found = state(*key[:3])
        depth = _crossing(group.sort_values("depth"))
        rows.append((key[1], key[3], depth, found.xi_c, found.phase))
    return pd.DataFrame(rows, columns=["sigma_w2", "seed", "depth", "xi_c", "phase"])


def _crossing(rows: pd.DataFrame) -> float:
    above = rows["accuracy"].to_numpy() > HALF
    if not above.any() or above[-1]:
        return math.nan
    last = int(np.flatnonzero(above)[-1])
    pair = rows.iloc[[last + 1, last]]
    return float(np.exp(np.interp(HALF, pair["accuracy"], np.log(pair["depth"]))))


def _by_seed(tables: StudyTables) -> Iterator[pd.DataFrame]:
    for _, rows in reached_depths(tables).groupby("seed"):
        yield rows


def _depth_exponent(tables: StudyTables) -> Iterator[Evidence]:
    slopes = []
    for rows in _by_seed(tables):
        ordered = rows[rows["phase"] == "ordered"]
        slopes.append(estimates.slope(np.log(ordered["xi_c"]), np.log(ordered["depth"])))
    yield from_seeds(Case("ordered phase", phase="ordered"), slopes, 1.0)


def _depth_ratio(tables: StudyTables) -> Iterator[Evidence]:
    """Take the geometric mean over weight variances of depth over xi_c, phase by phase and seed."""
    reached = reached_depths(tables)
    reached["log_ratio"] = np.log(reached["depth"] / reached["xi_c"])
    for phase in PHASES:
        by_weights = table(reached[reached["phase"] == phase], "seed", "sigma_w2", "log_ratio")
        ratios = np.exp(by_weights.mean(axis=1, skipna=False))
        yield from_seeds(Case(f"{phase} phase", phase=phase), ratios)


def _depth_order(tables: StudyTables) -> Iterator[Evidence]:
    ranks = [
        stats.spearmanr(rows["depth"], rows["xi_c"]).statistic if len(rows) > 1 else math.nan
        for rows in _by_seed(tables)
    ]
    yield from_seeds(Case("both phases", phase="both"), ranks)


CLAIMS = [
    Claim(
        id="signal-rate",
        statement=(
            "In tanh networks the logarithm of the back-propagated signal's mean square changes in "
            "proportion to the layer, at the rate of mean-field theory, in both phases."
        ),
        source=f"{PAPER}: on gradients by layer",
        formula="slope of ln mean (dC/dz)² over layers = −ln χ₁",
        unit="per layer",
        criterion=Within(0.015, 0.05),
        measure=_signal_rate,
    ),
    Claim(
        id="signal-rate-slope",
        statement=(
            "Measured rates of the signal are proportional to predicted ones with a factor of 1."
        ),
        source=f"{PAPER}: on gradients by layer",
        formula="slope of measured over predicted ln χ₁ = 1",
        unit="",
        criterion=Within(0.05),
        measure=_rate_slope,
    ),
    Claim(
        id="signal-rate-intercept",
        statement="Where theory predicts no change of the signal, none is measured.",
        source=f"{PAPER}: on gradients by layer",
        formula="intercept of measured over predicted ln χ₁ = 0",
        unit="per layer",
        criterion=Within(0.01),
        measure=_rate_intercept,
    ),
    Claim(
        id="signal-rate-fit",
        statement="Theory explains nearly all differences between rates of the signal.",
        source=f"{PAPER}: on gradients by layer",
        formula="R² of measured and predicted ln χ₁",
        unit="",
        criterion=Above(0.99),
        measure=_rate_fit,
    ),
    Claim(
        id="phases",
        statement="Gradients vanish in the ordered phase and explode in the chaotic one.",
        source=f"{PAPER}: on the phase diagram and on gradients",
        formula="share of points of the plane where measured and predicted ln χ₁ have one sign",
        unit="",
        criterion=Above(0.9),
        measure=_phases,
    ),
    Claim(
        id="critical-exponent",
        statement=(
            "On the edge of chaos without biases the signal falls towards the input as a power of "
            "the layer."
        ),
        source="roberts2022: section 5.3; " + PAPER,
        formula="mean (dC/dz)² ∝ l¹",
        unit="exponent",
        criterion=Within(0.1),
        measure=_exponent,
    ),
    Claim(
        id="critical-power-law",
        statement=(
            "On the edge of chaos a power law describes the signal better than an exponential does."
        ),
        source="roberts2022: section 5.3; " + PAPER,
        formula="AIC of the exponential − AIC of the power law",
        unit="",
        criterion=Above(0.0),
        measure=_power_over_exponential,
    ),
    Claim(
        id="trainable-depth-exponent",
        statement=(
            "In the ordered phase the depth that can be trained is proportional to the depth scale "
            "of the correlation."
        ),
        source=f"{PAPER}: on trainability",
        formula="slope of ln depth over ln ξ_c = 1",
        unit="exponent",
        criterion=Within(0.2),
        measure=_depth_exponent,
    ),
    Claim(
        id="trainable-depth",
        statement="Networks can be trained up to 4 to 10 depth scales, in either phase.",
        source=f"{PAPER}: on trainability",
        formula="geometric mean of depth over ξ_c; about 6 in the paper",
        unit="depth over ξ_c",
        criterion=Between(4.0, 10.0),
        measure=_depth_ratio,
        note=(
            "The multiple depends on the number of steps, and the paper's is read off a map: this "
            "tests a range around 6, not the number. Weight variances from "
            f"{BUDGET_LIMITED[0]:g} to {BUDGET_LIMITED[1]:g}, at the edge of chaos, are left out, "
            "because the steps end training there before the depth scale does."
        ),
    ),
    Claim(
        id="trainable-depth-order",
        statement="The longer the depth scale, the deeper the networks that can be trained.",
        source=f"{PAPER}: on trainability",
        formula="Spearman's rank correlation of depth and ξ_c",
        unit="",
        criterion=Above(0.9),
        measure=_depth_order,
    ),
]


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute what the prose says of rates and depths."""
    rates = _rates(tables).groupby("sigma_w2")[["growth", "expected"]].mean()
    reached = reached_depths(tables)
    ratio = reached["depth"] / reached["xi_c"]
    means = ratio.groupby(reached["sigma_w2"]).mean()
    trained, steps = tables.cells[tables.cells["epochs"] > 0], tables.steps
    need(trained, "trained networks")
    critical = theory.critical_point("tanh", _trained_bias(tables))
    logs = ratio.map(lambda one: math.log(one) if one > 0 else math.nan)
    by_phase = logs.groupby(reached["phase"]).mean().map(math.exp)
    deepest = trained[trained["depth"] == trained["depth"].max()]
    accuracies = training_outcomes(deepest)["accuracy"]
    return {
        "ordered_ratio": float(by_phase.get("ordered", math.nan)),
        "chaotic_ratio": float(by_phase.get("chaotic", math.nan)),
        "deepest": int(trained["depth"].max()),
        "deepest_accuracy": float(accuracies.groupby(deepest["initializer"]).mean().max()),
        "critical": critical.sigma_w2,
        "largest_difference": float((rates["growth"] - rates["expected"]).abs().max()),
        "lowest_rate": float(rates["growth"].min()),
        "highest_rate": float(rates["growth"].max()),
        "ratio": float(np.exp(np.log(means).mean())),
        "lowest_ratio": float(means.min()),
        "highest_ratio": float(means.max()),
        "width": int(trained["width"].max()),
        "wide": int(tables.cells["width"].max()),
        "seeds": int(trained["seed"].nunique()),
        "steps": int(steps.loc[steps["cell"].isin(trained["cell"]), "step"].max()),
        "rate": float(trained["learning_rate"].iloc[0]),
        "budget_low": BUDGET_LIMITED[0],
        "budget_high": BUDGET_LIMITED[1],
        "order": next(_depth_order(tables)).measured,
        "exponent": next(_exponent(tables)).measured,
        **_approach(tables),
    }


def _approach(tables: StudyTables) -> dict[str, float | str]:
    """Compute until which layers networks are told apart from fixed points, and theory's factor.

    The factor is that of the correlation in the ordered phase, in the last of these layers.
    """
    rows = fixed_point_distances(tables, {"select": SWEEP})
    moving = rows[rows["moving"]]
    ends = need(moving, "lengths").groupby(["quantity", *POINT]).last().reset_index("quantity")
    lengths, correlations = (
        need(ends[ends["quantity"] == name], f"{name}s") for name in ("length", "correlation")
    )
    ordered = [state(*point).phase == "ordered" for point in correlations.index]
    first = moving[moving["quantity"] == "correlation"].groupby(POINT)["distance"].first()
    fallen = np.log10(first / correlations["distance"])[ordered]
    ratio = (correlations["distance"] / correlations["predicted"])[ordered]
    return {
        "length_first": int(lengths["layer"].min()),
        "length_last": int(lengths["layer"].max()),
        "fallen": float(fallen.max()),
        "least_factor": float(ratio.min()),
        "largest_factor": float(ratio.max()),
    }


def _trained_bias(tables: StudyTables) -> float:
    """Return the bias variance of the networks that are trained."""
    biases = (sigma_b2(cell) for cell in tables.study.cells if cell.epochs)
    return first(biases, "trained networks")
