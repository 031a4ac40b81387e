"""How to start training (Hanin and Rolnick 2018): mean lengths, their spread, early training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.arrivals import arrivals, probe_before
from gradprop.analysis.lengths import log_lengths
from gradprop.analysis.needs import NotMeasured, at, need, recorded, table
from gradprop.claims import (
    Above,
    Below,
    Between,
    Case,
    Claim,
    Evidence,
    Within,
    exact,
    from_bootstrap,
    from_count,
    from_distribution,
    from_seeds,
    from_variance,
)
from gradprop.components import architecture
from gradprop.prediction.finite_width import architecture_name, length_law
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

# The networks whose law is compared with the normal one.
WIDE, DEEP = 30, 20
NARROW = 10
# Where the spread of architectures is compared: after all layers of some, after half of others.
SPREAD_DEPTH = 10
RARE = 0.05  # probabilities of death up to this would take more networks to tell
# Of widths at which the fitted formula for the gain is meant to hold.
FORMULA_WIDTH = 20
HE, XAVIER, DOUBLE = (
    "variance_scaling(scale=2.0)",
    "variance_scaling",
    "variance_scaling(scale=4.0)",
)
UNIFORM, TRUNCATED = (
    "he_uniform",
    "variance_scaling(distribution=truncated_normal, scale=1.5482)",
)
EARLY_ARRIVAL = {"statistic": "test_accuracy", "level": 0.2, "hue": "widths"}


def _starts(tables: StudyTables) -> dict[tuple[str, str, int], list[Cell]]:
    """Return the ReLU networks at initialization by initializer, architecture and depth."""
    found: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in tables.study.cells:
        if cell.depth and not cell.epochs and cell.activation.name == "relu":
            key = cell.initializer.label, architecture_name(cell), cell.depth
            found.setdefault(key, []).append(cell)
    return found


def _wide(tables: StudyTables) -> tuple[theory.LogNormalLaw, Float64]:
    """Return the exact law and the measured ln M_l of wide networks, (networks, layers)."""
    cells = at(_starts(tables), (HE, str(WIDE), DEEP))
    law = length_law(cells[0])
    if law is None:
        raise NotMeasured("the study has no ReLU networks whose law is known")
    return law[1], log_lengths(tables, cells)


# -------------------------------------------------------------------------------- log-normal law


def _law_mean(tables: StudyTables) -> Iterator[Evidence]:
    law, logs = _wide(tables)
    yield from_seeds(Case(f"{DEEP} layers", depth=DEEP), logs[:, -1], float(law.mean[-1]))


def _law_variance(tables: StudyTables) -> Iterator[Evidence]:
    law, logs = _wide(tables)
    yield from_variance(Case(f"{DEEP} layers", depth=DEEP), logs[:, -1], float(law.variance[-1]))


def _law_shape(tables: StudyTables) -> Iterator[Evidence]:
    law, logs = _wide(tables)
    normal = stats.norm(law.mean[-1], math.sqrt(law.variance[-1]))
    yield from_distribution(Case(f"{DEEP} layers", depth=DEEP), logs[:, -1], normal.cdf)


# --------------------------------------------------------------------------------- homogeneity


def product_spread(tables: StudyTables) -> pd.Series[float]:
    """Return, for every trained network, how far sum W dC/dW differs between its layers.

    The largest less the smallest of all layers over the largest, in magnitude and at
    initialization, where biases are zero.
    """
    trained = {cell.id for cell in tables.study.cells if cell.epochs}
    rows = at_start(recorded(tables.layers, "weight_gradient_log10_product"))
    rows = rows[rows["cell"].isin(trained)]
    decades = rows.groupby("cell", sort=False)["weight_gradient_log10_product"]
    return 1 - 10.0 ** (decades.min() - decades.max())


def _homogeneity(tables: StudyTables) -> Iterator[Evidence]:
    spread = product_spread(tables)
    yield exact(
        Case("largest of all networks", networks="all"), float(spread.max()), 0.0, len(spread)
    )


# --------------------------------------------------------------------------------------- drift


def _drifts(tables: StudyTables, names: tuple[str, ...]) -> Iterator[tuple[Cell, Float64]]:
    """Yield an example and what ln M gains a layer in networks of one width, a value per network.

    From the first to the last hidden layer: the first has another fan-in. Networks that are dead
    have no logarithm, and the exact drift is that of the others.
    """
    for (name, _, depth), cells in _starts(tables).items():
        if name in names and cells[0].widths.name == "constant" and depth == DEEP:
            logs = log_lengths(tables, cells)
            logs = logs[np.isfinite(logs[:, -1])]
            yield cells[0], (logs[:, -1] - logs[:, 0]) / (depth - 1)


def _he_drift(tables: StudyTables) -> Iterator[Evidence]:
    for cell, drifts in _drifts(tables, (HE,)):
        expected = theory.log_growth_mean(cell.width, 2.0, cell.activation)
        yield from_seeds(Case(width=cell.width), drifts, expected)


def _unbiased(tables: StudyTables) -> Iterator[Evidence]:
    for cell, drifts in _drifts(tables, ("sussillo_abbott", "lyapunov")):
        name = cell.initializer.name
        if name == "lyapunov" or cell.width >= FORMULA_WIDTH:
            yield from_seeds(Case(initializer=name, width=cell.width), drifts, 0.0)


# --------------------------------------------------------------------------------------- death


def _dead(tables: StudyTables) -> Iterator[Evidence]:
    """Count networks with a layer, of all, that has no active unit."""
    for (start, name, depth), cells in _starts(tables).items():
        expected = float(theory.dead_probability(architecture.hidden_widths(cells[0]))[-1])
        if start == HE and expected > RARE:
            dead = np.isneginf(log_lengths(tables, cells)[:, -1])
            found = from_count(
                Case(f"widths {name}", widths=name, depth=depth),
                dead,
                [cell.seed for cell in cells],
            )
            yield replace(found, predicted=expected)


# ----------------------------------------------------------------------- spread of architectures


def spreads(tables: StudyTables) -> tuple[list[str], Float64, Float64]:
    """Return names of architectures, the exact variances of ln M, and measured ln M.

    An architecture is a profile of widths after all of its layers, and also after half of them
    where these are `SPREAD_DEPTH`.

    Returns
    -------
    tuple
        Names and variances, one an architecture; and ln M, shape (seeds, architectures), NaN where
        a network is dead: the networks of a row have one seed.
    """
    names, expected, logs = [], [], []
    for (start, name, depth), cells in _starts(tables).items():
        law = length_law(cells[0])
        if start == HE and depth in (SPREAD_DEPTH, DEEP) and law is not None:
            lengths = log_lengths(tables, cells)
            for layers in sorted({SPREAD_DEPTH, depth}):
                names.append(f"{name}, {layers} layers")
                expected.append(law[1].variance[layers - 1])
                logs.append(lengths[:, layers - 1])
    common = min(map(len, need(logs, "architectures of 10 or 20 layers from He's initialization")))
    lengths = np.stack([values[:common] for values in logs], axis=1)
    return names, np.array(expected), np.where(np.isfinite(lengths), lengths, np.nan)


def weighted_slope(x: Float64, y: Float64) -> float:
    """Return the slope of a straight line through y over x, by least squares of weight 1 / x^2.

    The standard error of a variance is proportional to it. NaN where `estimates.slope` is.
    """
    if math.isnan(estimates.slope(x, y)):
        return math.nan
    return float(np.polyfit(x, y, 1, w=1 / x)[0])


def _spread_slope(tables: StudyTables) -> Iterator[Evidence]:
    names, expected, lengths = spreads(tables)

    def slope(logs: NDArray[Any]) -> float:
        return weighted_slope(expected, np.nanvar(logs, axis=0, ddof=1))

    yield from_bootstrap(Case(f"{len(names)} architectures", widths="all"), lengths, slope, 1.0)


def _spread_fit(tables: StudyTables) -> Iterator[Evidence]:
    names, expected, lengths = spreads(tables)

    def squared(logs: NDArray[Any]) -> float:
        return float(np.corrcoef(expected, np.nanvar(logs, axis=0, ddof=1))[0, 1] ** 2)

    yield from_bootstrap(Case(f"{len(names)} architectures", widths="all"), lengths, squared)


# ----------------------------------------------------------------------------- early training


def _early(tables: StudyTables) -> tuple[pd.DataFrame, pd.Series[float]]:
    """Return steps until a fifth is right, and sums of reciprocal widths.

    The first has a row per seed and a column per architecture and depth, the second a value per
    column.
    """
    found = arrivals(tables, {**EARLY_ARRIVAL, "select": {"initializer": HE}})
    keys = ["line", "depth"]
    steps = table(found, "seed", keys, "steps")
    return steps, found.groupby(keys)["reciprocal_widths"].first().loc[steps.columns]


def _medians(steps: NDArray[Any]) -> Float64:
    """Return the upper median over seeds, finite as long as more than half of them arrive."""
    return np.asarray(np.quantile(steps, 0.5, axis=0, method="higher"), dtype=np.float64)


def _early_order(tables: StudyTables) -> Iterator[Evidence]:
    """Correlate times with the sum, and compare that with their correlation with depth."""
    steps, sums_ = _early(tables)
    depths = steps.columns.get_level_values("depth")

    def by_sum(values: NDArray[Any]) -> float:
        return _rank(sums_, _medians(values))

    def over_depth(values: NDArray[Any]) -> float:
        return by_sum(values) - _rank(depths, _medians(values))

    yield from_bootstrap(Case("with the sum", correlation="sum"), steps.to_numpy(), by_sum)
    case = Case("with the sum, less that with depth", correlation="sum less depth")
    yield from_bootstrap(case, steps.to_numpy(), over_depth)


def _rank(x: Any, y: NDArray[Any]) -> float:
    """Return Spearman's rank correlation; NaN if all x or all y are the same."""
    constant = len(np.unique(x)) < 2 or len(np.unique(y)) < 2
    return math.nan if constant else float(stats.spearmanr(x, y).statistic)


def _constant(tables: StudyTables) -> tuple[str, str]:
    """Return the names of the widest and the narrowest constant width that are trained."""
    widths = {c.width for c in tables.study.cells if c.epochs and c.widths.name == "constant"}
    need(widths, "trained networks of constant width")
    return str(max(widths)), str(min(widths))


def time_ratio(steps: pd.DataFrame, over: str, under: str) -> Callable[[NDArray[Any]], float]:
    """Return the statistic 'times of one architecture over those of another'.

    It is the geometric mean of the ratio of medians over seeds, over the depths of both.
    """
    places: dict[Any, int] = {key: number for number, key in enumerate(steps.columns)}
    depths = at(steps, over).columns.intersection(at(steps, under).columns)
    need(depths, f"depth of both {over} and {under}")
    above, below = ([places[name, depth] for depth in depths] for name in (over, under))

    def ratio(values: NDArray[Any]) -> float:
        medians = _medians(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.exp(np.mean(np.log(medians[above]) - np.log(medians[below]))))

    return ratio


def _equal_ratios(
    tables: StudyTables,
) -> Iterator[tuple[Case, NDArray[Any], Callable[[NDArray[Any]], float]]]:
    """Yield case, steps and ratio of times, of mixed widths over the constant of the same sum."""
    steps, sums_ = _early(tables)
    _, narrow = _constant(tables)
    for name in steps.columns.get_level_values("line").unique():
        pair = at(sums_, name).align(at(sums_, narrow), join="inner")
        if name != narrow and len(pair[0]) and np.allclose(*pair):
            case = Case(f"{name}, over {narrow}", widths=name, over=narrow)
            yield case, steps.to_numpy(), time_ratio(steps, name, narrow)


def _equal_sums(tables: StudyTables) -> Iterator[Evidence]:
    """Compare how far times differ at equal sums with how far they do at unequal ones."""
    steps, _ = _early(tables)
    wide, narrow = _constant(tables)
    unequal = time_ratio(steps, narrow, wide)
    for case, values, equal in _equal_ratios(tables):

        def excess(chosen: NDArray[Any], equal: Callable[..., float] = equal) -> float:
            with np.errstate(divide="ignore", invalid="ignore"):
                return float(abs(np.log(equal(chosen))) - abs(np.log(unequal(chosen))))

        yield from_bootstrap(case, values, excess)


def _matched_depth(tables: StudyTables) -> Iterator[Evidence]:
    steps, _ = _early(tables)
    wide, narrow = _constant(tables)
    ratio = time_ratio(steps, narrow, wide)
    yield from_bootstrap(
        Case(f"width {narrow} over {wide}", widths=narrow, over=wide), steps.to_numpy(), ratio
    )


ROLNICK = "hanin-rolnick2018"
NICA = "hanin-nica2020; sussillo2014"

CLAIMS = (
    Claim(
        id="log-length-mean",
        statement=(
            "He's initialization keeps the mean length, but the logarithm of a typical one falls "
            "by an exact amount a layer."
        ),
        source=NICA,
        formula=f"mean of ln M_d = Σ m(n_l) at width {WIDE}",
        unit="",
        criterion=Within(0.15),
        measure=_law_mean,
    ),
    Claim(
        id="log-length-variance",
        statement=(
            "With He's initialization the variance over networks of the logarithm of the "
            "length is exactly known."
        ),
        source=NICA,
        formula=f"variance of ln M_d over Σ v(n_l) at width {WIDE}",
        unit="",
        criterion=Between(0.88, 1.12),
        measure=_law_variance,
    ),
    Claim(
        id="log-length-normal",
        statement=(
            "The logarithm of the length is nearly normal: its distribution function is "
            "nowhere further than 0.1 from that of the normal law."
        ),
        source=NICA,
        formula="largest distance of distribution functions from N(Σ m, Σ v) = 0",
        unit="probability",
        criterion=Within(0.1),
        measure=_law_shape,
        note="The law is normal in the limit alone: enough networks tell it from a normal one.",
    ),
    Claim(
        id="homogeneity",
        statement=(
            "In ReLU networks without biases the product of weights and their gradient is the same "
            "in every layer, whatever the widths."
        ),
        source="Euler's theorem on homogeneous functions; du2018",
        formula="(largest − smallest Σ W dC/dW over layers) / largest magnitude = 0",
        unit="",
        criterion=Below(1e-3),
        measure=_homogeneity,
        check=True,
    ),
    Claim(
        id="he-drift",
        statement="The narrower the network, the faster He's initialization loses the signal.",
        source=f"{NICA}; kogler2026",
        formula="gain of ln M a layer = m(n)",
        unit="per layer",
        criterion=Within(0.02),
        measure=_he_drift,
    ),
    Claim(
        id="unbiased-gain",
        statement="A gain that is slightly larger than He's removes the drift.",
        source="sussillo2014; kogler2026",
        formula="gain of ln M a layer = 0",
        unit="per layer",
        criterion=Within(0.02),
        measure=_unbiased,
        note=(
            "Sussillo and Abbott's formula is a fit; it is tested from a width of 20 on, and the "
            "exact gain below."
        ),
    ),
    Claim(
        id="born-dead",
        statement=(
            "Narrow ReLU networks are dead at initialization with an exactly known probability."
        ),
        source="lu2020: a bound for all inputs at once; exact for one input",
        formula="P(a hidden layer has no active unit) = 1 − Π (1 − 2^−n_l)",
        unit="share of networks",
        criterion=Within(relative=0.1),
        measure=_dead,
        note=(
            "An earlier form allowed 0.03 of all networks, which a probability of 0.02 could not "
            "miss."
        ),
    ),
    Claim(
        id="spread-by-sum",
        statement=(
            "The sum of reciprocal widths controls how far lengths spread over networks, for "
            "constant, alternating and tapering widths."
        ),
        source=f"{ROLNICK}; hanin2018",
        formula="slope of measured over exact variance of ln M = 1",
        unit="",
        criterion=Within(0.1),
        measure=_spread_slope,
    ),
    Claim(
        id="spread-fit",
        statement=(
            "The sum of reciprocal widths explains nearly all differences between architectures "
            "in how far lengths spread."
        ),
        source=f"{ROLNICK}; hanin2018",
        formula="R² of measured and exact variance of ln M",
        unit="",
        criterion=Above(0.97),
        measure=_spread_fit,
    ),
    Claim(
        id="early-training-order",
        statement=(
            "The larger the sum of reciprocal widths, the later training begins to work, and the "
            "sum orders the times better than depth does."
        ),
        source=f"{ROLNICK}: on early training",
        formula="Spearman's rank correlation of steps to 20 % with Σ 1/n; less that with depth",
        unit="",
        criterion=Above(0.0),
        measure=_early_order,
        note=(
            "The paper says which of the two decides and gives no number. An earlier form asked "
            "for a correlation above 0.8, and ranges of depth were tried until it had it."
        ),
    ),
    Claim(
        id="equal-sums",
        statement=(
            "Equally deep architectures with equal sums begin to learn at times that differ less "
            "than those of unequal sums."
        ),
        source=f"{ROLNICK}: on early training",
        formula=(
            "|ln ratio of median steps to 20 %| at equal sums, less that of the widest and the "
            "narrowest constant width; ratios are geometric means over depths"
        ),
        unit="",
        criterion=Below(0.0),
        measure=_equal_sums,
        note=(
            "In the paper times of equal sums coincide, and it gives no tolerance. An earlier "
            "form allowed a factor of two, which was ours, and was met by a hair."
        ),
    ),
    Claim(
        id="matched-depth",
        statement="Depth is not all: of two equally deep networks the narrow one learns later.",
        source=f"{ROLNICK}: on early training",
        formula="ratio of median steps to 20 %, geometric mean over depths",
        unit="ratio",
        criterion=Above(1.0),
        measure=_matched_depth,
    ),
)


def _half_and_half(tables: StudyTables) -> list[str]:
    """Return the names, as in `spreads`, of profiles with as many wide layers as narrow ones."""
    halves = {WIDE: SPREAD_DEPTH // 2, NARROW: SPREAD_DEPTH // 2}
    return [
        f"{name}, {depth} layers"
        for (start, name, depth), cells in _starts(tables).items()
        if start == HE and Counter(architecture.hidden_widths(cells[0])) == halves
    ]


def _between_probes(tables: StudyTables, arrival: float) -> dict[str, float]:
    """Return the probe at which networks have arrived, and the one at which they had not yet."""
    return {"steps": float(arrival), "before": probe_before(tables, arrival)}


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    law, logs = _wide(tables)
    names, expected, lengths = spreads(tables)
    spread = dict(zip(names, np.nanvar(lengths, axis=0, ddof=1), strict=True))
    exact_spread = dict(zip(names, expected, strict=True))
    mixed = need(_half_and_half(tables), "architectures that are half wide and half narrow")
    steps, _ = _early(tables)
    medians = pd.Series(_medians(steps.to_numpy()), index=steps.columns)
    wide, narrow = _constant(tables)
    deepest = int(max(steps.columns.get_level_values("depth")))
    found: dict[str, float | str] = {
        "networks": sum(not cell.epochs for cell in tables.study.cells),
        "width": WIDE,
        "depth": DEEP,
        "median": float(np.exp(np.median(logs[:, -1]))),
        "typical": float(np.exp(law.mean[-1])),
        "drift": theory.log_growth_mean(WIDE, 2.0, "relu"),
        "narrow_drift": theory.log_growth_mean(NARROW, 2.0, "relu"),
        "layers": SPREAD_DEPTH,
        "wide_spread": at(spread, f"{WIDE}, {SPREAD_DEPTH} layers"),
        "narrow_spread": at(spread, f"{NARROW}, {SPREAD_DEPTH} layers"),
        "short": 1 - 5 / NARROW / theory.log_growth_variance(NARROW, "relu"),
        "least_mixed": min(spread[name] for name in mixed),
        "most_mixed": max(spread[name] for name in mixed),
        "exact_mixed": exact_spread[mixed[0]],
        "steps": int(tables.steps["step"].max()),
        "seeds": len(steps),
        "deepest": deepest,
        "wide": wide,
        "narrow": narrow,
        **{
            f"{name}_{key}": value
            for name, width in (("wide", wide), ("narrow", narrow))
            for key, value in _between_probes(tables, at(medians, (width, deepest))).items()
        },
        "rank": next(_early_order(tables)).measured,
        "depth_rank": _rank(medians.index.get_level_values("depth"), medians.to_numpy()),
        "matched": next(_matched_depth(tables)).measured,
    }
    ratios = [ratio(values) for _, values, ratio in _equal_ratios(tables)]
    equal = need(ratios, "architectures of equal sums")
    found |= {"least_equal": min(equal), "most_equal": max(equal)}
    options = {**EARLY_ARRIVAL, "hue": "initializer"}
    for name, label in (("xavier", XAVIER), ("double", DOUBLE)):
        times = recorded(arrivals(tables, {**options, "select": {"initializer": label}}))
        last = times.loc[times["depth"] == times["depth"].max(), "steps"]
        found[f"{name}_arrived"] = int(np.isfinite(last).sum())
        found[f"{name}_networks"] = len(last)
    for name, label in (("uniform", UNIFORM), ("truncated", TRUNCATED)):
        times = recorded(arrivals(tables, {**options, "select": {"initializer": label}}))
        last = times.loc[times["depth"] == times["depth"].max(), "steps"]
        found[f"{name}_steps"] = float(_medians(last.to_numpy()))
    return found
