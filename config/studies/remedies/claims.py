"""Remedies besides the initialization: normalization, residual branches, clipping, SELU, LSUV."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.needs import at, need, networks, table
from gradprop.analysis.slopes import log_slopes
from gradprop.claims import (
    Above,
    Below,
    Case,
    Claim,
    Evidence,
    Within,
    exact,
    from_bootstrap,
    from_count,
    from_layers,
    from_seeds,
)
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

XAVIER, HE, EXPLODING = (
    "variance_scaling",
    "variance_scaling(scale=2.0)",
    "variance_scaling(scale=4.0)",
)
DEEP = 30
WIDE, NARROW = 128, 20
# Where a perturbed variance returns to 1: from the second layer to where it is lost in noise.
RETURN = slice(1, 9)


def _start(**wanted: Any) -> dict[str, Any]:
    """Return the options that select networks at initialization, plain ones unless told."""
    plain = {"normalization": "none", "residual": "none", "initializer": HE, "activation": "relu"}
    place = {"dataset": "digits", "depth": DEEP, "width": WIDE, "epochs": 0}
    return {"select": {**place, **plain, **wanted}}


def _slopes(tables: StudyTables, statistic: str, **wanted: Any) -> Float64:
    """Return the growth of ln of a mean square per layer forward, a value per network."""
    return log_slopes(tables, _start(**wanted), statistic)["slope"].to_numpy(np.float64)


def _norm_factors(tables: StudyTables, **wanted: Any) -> Float64:
    """Return by what the norm of the back-propagated signal is multiplied at a layer."""
    return np.asarray(np.exp(-_slopes(tables, "signal_log10_rms", **wanted) / 2))


# --------------------------------------------------------------------------------- normalization

BATCH = "batch(epsilon=1e-06)"


def _batch_relu(tables: StudyTables) -> Iterator[Evidence]:
    expected = math.sqrt(theory.batch_norm_growth("relu"))
    for start, scale in ((XAVIER, 1), (HE, 2), (EXPLODING, 4)):
        factors = _norm_factors(tables, normalization=BATCH, initializer=start)
        yield from_seeds(Case(f"relu, variance {scale}/n", initializer=start), factors, expected)


def _batch_linear(tables: StudyTables) -> Iterator[Evidence]:
    factors = _norm_factors(tables, normalization=BATCH, activation="linear")
    yield from_seeds(
        Case(activation="linear"), factors, math.sqrt(theory.linear_batch_norm_growth(WIDE))
    )


def _without(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(activation="relu"), _norm_factors(tables), 1.0)


# ------------------------------------------------------------------------------ residual branches


# Branches that keep the mean square of what they get: in linear networks they have mean zero.
BRANCHES = {
    "linear": {"activation": "linear", "initializer": XAVIER},
    "relu": {"activation": "relu", "initializer": HE},
}
FACTORS = {"plain": 1.0, "scaled": 1 / (DEEP - 1)}  # of the mean square of a branch


def _residual_signal(tables: StudyTables) -> Iterator[Evidence]:
    for name, wanted in BRANCHES.items():
        for residual, branch in FACTORS.items():
            slopes = -_slopes(tables, "signal_log10_rms", residual=residual, **wanted)
            yield from_seeds(Case(activation=name, residual=residual), slopes, math.log1p(branch))


def _residual_total(tables: StudyTables) -> Iterator[Evidence]:
    branches = DEEP - 1
    for name, wanted in BRANCHES.items():
        slopes = -_slopes(tables, "signal_log10_rms", residual="scaled", **wanted)
        yield from_seeds(
            Case(activation=name), branches * slopes, branches * math.log1p(1 / branches)
        )


def _residual_length(tables: StudyTables) -> Iterator[Evidence]:
    for residual, branch in FACTORS.items():
        lengths = _profiles(tables, "preactivation_log10_mean_square", residual=residual)
        total = math.log(10) * (lengths[:, DEEP - 1] - lengths[:, 1])
        # z_l sees h_(l-1)
        expected = np.log(theory.rectified_residual_length(DEEP - 1, branch))
        yield from_seeds(
            Case(residual=residual), total / (DEEP - 2), float(expected[-1]) / (DEEP - 2)
        )


def _zero_branches(tables: StudyTables) -> Iterator[Evidence]:
    lengths = _profiles(tables, "activation_log10_mean_square", residual="rezero")
    spread = np.ptp(lengths[:, :DEEP], axis=1)
    yield exact(Case("ReZero", residual="rezero"), float(spread.max()), 0.0, len(spread))


# ---------------------------------------------------------------------------- SELU, initializations


def _by_layer(tables: StudyTables, statistic: str, **wanted: Any) -> pd.DataFrame:
    """Return a statistic at initialization: a row per seed, a column per layer."""
    options = _start(**wanted)
    networks(tables.study.cells, **options["select"])
    rows = at_start(tables.join(tables.layers, options, ["seed"]))
    return table(rows, "seed", "layer", statistic)


def _profiles(tables: StudyTables, statistic: str, **wanted: Any) -> Float64:
    """Return a statistic at initialization, shape (networks, layers)."""
    return _by_layer(tables, statistic, **wanted).to_numpy(np.float64)


SELU = {"activation": "selu", "initializer": "lecun_normal"}
# Inputs of mean squares above and below 1.
LONG, SHORT = 1.5, 0.5
LONGER, SHORTER = (f"sphere(examples=160, q={square})" for square in (LONG, SHORT))


def return_rate(differences: NDArray[Any]) -> float:
    """Return by what a difference of variances is multiplied at a layer.

    Parameters
    ----------
    differences
        Of the mean squares of activations of the same networks on longer and shorter inputs,
        shape (networks, layers).
    """
    mean = differences.mean(axis=0)[RETURN]
    if not (mean > 0).all():
        return math.nan
    return float(np.exp(np.polyfit(np.arange(len(mean)), np.log(mean), 1)[0]))


def _selu_returns(tables: StudyTables) -> Iterator[Evidence]:
    long, short = (
        10 ** _by_layer(tables, "activation_log10_mean_square", dataset=dataset, **SELU)
        for dataset in (LONGER, SHORTER)
    )
    expected = float(theory.moment_map_jacobian("selu")[1, 1])
    differences = (long - short).dropna(how="all").to_numpy(np.float64)[:, :DEEP]
    yield from_bootstrap(
        Case("from both sides of 1", inputs="both"), differences, return_rate, expected
    )


def _selu_gradients(tables: StudyTables) -> Iterator[Evidence]:
    for square, dataset in ((LONG, LONGER), (SHORT, SHORTER)):
        factors = _norm_factors(tables, dataset=dataset, **SELU)
        case = Case(f"inputs of mean square {square}", dataset=dataset)
        yield from_seeds(case, factors, math.sqrt(theory.chi_1("selu", 1.0, 1.0)))


def _unit_variances(tables: StudyTables) -> Iterator[Evidence]:
    """Give the variance of z over units and a minibatch, layer by layer."""
    for activation in ("relu", "tanh"):
        deviations = _profiles(
            tables, "preactivation_std", initializer="lsuv", activation=activation
        )
        yield from_layers(Case(activation=activation), (deviations**2).T, 1.0)


def _drift(initializer: str) -> Callable[[StudyTables], Float64]:
    def measure(tables: StudyTables) -> Float64:
        lengths = _profiles(
            tables,
            "activation_log10_mean_square",
            dataset=LONGER,
            width=NARROW,
            initializer=initializer,
        )
        logs = math.log(10) * lengths[:, :DEEP]
        logs = logs[np.isfinite(logs[:, -1])]
        return np.asarray((logs[:, -1] - logs[:, 0]) / (DEEP - 1))

    return measure


def _he_drift(tables: StudyTables) -> Iterator[Evidence]:
    expected = theory.log_growth_mean(NARROW, 2.0, "relu")
    yield from_seeds(Case(width=NARROW), _drift(HE)(tables), expected)


def _unbiased(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(width=NARROW), _drift("sussillo_abbott")(tables), 0.0)


# ---------------------------------------------------------------------------------------- training

# What is trained from He's initialization unless told, and how the text calls it.
REMEDIES: dict[str, dict[str, str]] = {
    "Glorot": {"initializer": XAVIER},
    "He": {},
    "LSUV": {"initializer": "lsuv"},
    "Sussillo and Abbott": {"initializer": "sussillo_abbott"},
    "SELU": {"activation": "selu", "initializer": "lecun_normal"},
    "batch normalization": {"normalization": "batch"},
    "layer normalization": {"normalization": "layer"},
    "plain residual": {"residual": "plain"},
    "scaled residual": {"residual": "scaled"},
    "zero residual": {"residual": "rezero"},
    "exploding": {"initializer": EXPLODING},
    "exploding, clipped": {"initializer": EXPLODING, "clipping": "norm"},
    "Glorot, clipped": {"initializer": XAVIER, "clipping": "norm"},
}
PLAIN = {
    "activation": "relu",
    "initializer": HE,
    "normalization": "none",
    "residual": "none",
    "clipping": "none",
}


def _remedy(cell: Cell) -> str | None:
    columns = cell.columns()
    for name, changes in REMEDIES.items():
        if all(columns[key] == value for key, value in {**PLAIN, **changes}.items()):
            return name
    return None


def trained(tables: StudyTables) -> pd.DataFrame:
    """Return the trained networks with the column ``remedy`` and, if diverged, accuracy 0."""
    remedies = {cell.id: _remedy(cell) for cell in tables.study.cells if cell.epochs}
    cells = training_outcomes(tables.cells[tables.cells["cell"].isin(remedies)])
    return cells.assign(remedy=cells["cell"].map(remedies), diverged=cells["status"] == "diverged")


def best_accuracies(tables: StudyTables) -> pd.DataFrame:
    """Return final training accuracies, a row per seed, at the best learning rate of each remedy.

    By the rule of `estimates.at_smallest_loss`.

    Returns
    -------
    DataFrame
        Columns: depth and remedy; index: seed.
    """
    keys = ["depth", "remedy"]
    cells = estimates.at_smallest_loss(trained(tables), keys)
    return table(cells, "seed", keys, "accuracy")


HELPFUL = (
    "LSUV",
    "Sussillo and Abbott",
    "SELU",
    "batch normalization",
    "layer normalization",
    "plain residual",
    "scaled residual",
    "zero residual",
)


def _deepest(tables: StudyTables) -> pd.DataFrame:
    accuracies = best_accuracies(tables)
    depths = accuracies.columns.get_level_values("depth")
    found: pd.DataFrame = accuracies[depths.max()]
    return found


def _help(tables: StudyTables) -> Iterator[Evidence]:
    accuracies = _deepest(tables)
    for remedy in HELPFUL:
        yield from_seeds(Case(remedy=remedy), at(accuracies, remedy) - at(accuracies, "Glorot"))


def _share_diverged(remedy: str, diverged: bool) -> Callable[[StudyTables], Iterator[Evidence]]:
    def measure(tables: StudyTables) -> Iterator[Evidence]:
        cells = trained(tables)
        cells = cells[(cells["remedy"] == remedy) & (cells["depth"] == cells["depth"].max())]
        yield from_count(
            Case(f"{remedy}, all rates", remedy=remedy),
            cells["diverged"] == diverged,
            cells["seed"],
        )

    return measure


def _clipped_vanishing(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(Case(remedy="Glorot, clipped"), at(_deepest(tables), "Glorot, clipped"))


YANG = "yang2019"
RESIDUAL = "yang2017; de2020"
KLAMBAUER = "klambauer2017"
SUSSILLO = "sussillo2014"
PASCANU = "pascanu2013"


def clipped_ends(tables: StudyTables) -> dict[str, float]:
    """Return the range of losses and accuracies at which deep clipped networks end, of all rates.

    Of those that start with twice He's variance; a diverged network has an infinite loss and the
    accuracy 0.
    """
    cells = trained(tables)
    chosen = (cells["remedy"] == "exploding, clipped") & (cells["depth"] == cells["depth"].max())
    ends = need(cells[chosen], "deep networks that are clipped")[["loss", "accuracy"]]
    return {
        f"clipped_{name}_{value}": float(number)
        for name, values in (("min", ends.min()), ("max", ends.max()))
        for value, number in values.items()
    }


CLAIMS = (
    Claim(
        id="batch-norm-explodes",
        statement=(
            "With batch normalization the gradient of a deep ReLU network at initialization "
            "explodes, by the same factor for every variance of the weights."
        ),
        source=YANG,
        formula="norm of dC/dz, factor per layer = √(π / (π − 1)) = 1.2112",
        unit="per layer",
        criterion=Within(relative=0.02),
        measure=_batch_relu,
    ),
    Claim(
        id="batch-norm-linear",
        statement=(
            "In linear networks with batch normalization the gradient hardly grows: 1.21 is the "
            "factor of ReLU."
        ),
        source=YANG,
        formula="norm of dC/dz, factor per layer, near √((B − 2) / (B − 3))",
        unit="per layer",
        criterion=Below(1.03),
        measure=_batch_linear,
    ),
    Claim(
        id="he-without-normalization",
        statement="Without normalization He's initialization keeps the norm of the gradient.",
        source="he2015",
        formula="norm of dC/dz, factor per layer = 1",
        unit="per layer",
        criterion=Within(0.01),
        measure=_without,
    ),
    Claim(
        id="residual-signal",
        statement=(
            "Plain residual branches double the mean square of the back-propagated signal at every "
            "layer; divided by √L they multiply it by 1 + 1/L."
        ),
        source=RESIDUAL,
        formula="growth of ln mean (dC/dz)² a layer backward = ln 2, ln(1 + 1/L)",
        unit="per layer",
        criterion=Within(0.02),
        measure=_residual_signal,
        note=(
            "It assumes branches of mean zero and an error that does not depend on the signals. "
            "Outputs of rectifiers have a mean, along which errors are passed back, too."
        ),
    ),
    Claim(
        id="scaled-branches-bounded",
        statement=(
            "Residual branches divided by √L multiply the mean square of the signal less than "
            "tenfold over the whole depth."
        ),
        source=RESIDUAL,
        formula="growth of ln mean (dC/dz)² over all layers, by theory L ln(1 + 1/L), < ln 10",
        unit="natural logarithm",
        criterion=Below(math.log(10)),
        measure=_residual_total,
        note="Theory is of branches of mean zero: about e. Of rectified ones the mean adds up.",
    ),
    Claim(
        id="residual-length",
        statement=(
            "Forward, rectified branches add up their means, and lengths grow faster than by the "
            "2 and 1 + 1/L of branches with mean zero."
        ),
        source=f"{RESIDUAL}; with the mean, derived here",
        formula="q ← q (1 + b) + 2 m √(b q/π), m ← m + √(b q/π); b = 1, 1/L",
        unit="natural logarithm per layer",
        criterion=Within(0.05),
        measure=_residual_length,
    ),
    Claim(
        id="zero-branches-identity",
        statement="Branches that start at zero make every hidden layer pass on what it gets.",
        source="bachlechner2021",
        formula="largest less smallest log₁₀ mean h² over hidden layers = 0",
        unit="decades",
        criterion=Within(1e-6),
        measure=_zero_branches,
        check=True,
    ),
    Claim(
        id="selu-returns",
        statement="SELU brings variances back to 1.",
        source=KLAMBAUER,
        formula="rate a layer of a difference of variances = ∂ν′/∂ν at (0, 1) = 0.7826",
        unit="per layer",
        criterion=Within(0.03),
        measure=_selu_returns,
    ),
    Claim(
        id="selu-gradients-grow",
        statement="While the activations of SELU networks are stationary, their gradients grow.",
        source=f"{KLAMBAUER}; philipp2018",
        formula="norm of dC/dz, factor per layer = √χ₁",
        unit="per layer",
        criterion=Within(0.01),
        measure=_selu_gradients,
    ),
    Claim(
        id="lsuv-unit-variance",
        statement="LSUV starts every layer with pre-activations of unit variance.",
        source="mishkin2016",
        formula="variance of z over units and a minibatch = 1, in every layer",
        unit="",
        criterion=Within(0.1),
        measure=_unit_variances,
        note="The tolerance is the paper's, which stops within it on the minibatch it scales with.",
    ),
    Claim(
        id="he-drift",
        statement="At a finite width He's initialization loses the length of a typical network.",
        source=f"{SUSSILLO}; kogler2026",
        formula="gain of ln mean h² a layer = m(n)",
        unit="per layer",
        criterion=Within(0.02),
        measure=_he_drift,
    ),
    Claim(
        id="unbiased-gain",
        statement="Sussillo and Abbott's gain keeps the length of a typical network.",
        source=SUSSILLO,
        formula="gain of ln mean h² a layer = 0",
        unit="per layer",
        criterion=Within(0.02),
        measure=_unbiased,
    ),
    Claim(
        id="remedies-train",
        statement=(
            "Each remedy trains networks at a depth where ReLU networks do not learn from Glorot's "
            "initialization with SGD."
        ),
        source="the papers of each remedy",
        formula="final training accuracy − Glorot's, deepest networks, rates of least loss",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_help,
        note=(
            "A difference of 0.25 is more than chance, not a solved task. Plain residual "
            "branches double the signal at every layer: so deep, they ask for smaller rates."
        ),
    ),
    Claim(
        id="exploding-diverges",
        statement="From weights of twice He's variance the deepest networks diverge.",
        source=PASCANU,
        formula="fraction of seeds whose networks diverge at every rate",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_share_diverged("exploding", diverged=True),
    ),
    Claim(
        id="clipping-stops-divergence",
        statement=(
            "With the norm of the gradient clipped, losses stay finite at every rate, from "
            "weights of twice He's variance, too."
        ),
        source=PASCANU,
        formula="fraction of seeds whose networks diverge at no rate",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_share_diverged("exploding, clipped", diverged=False),
        note=(
            "A finite loss is not a small one. Whether these networks learn is not tested here: "
            "the chapter has the losses and accuracies at which they end."
        ),
    ),
    Claim(
        id="clipping-keeps-vanishing",
        statement=(
            "Clipping does nothing for gradients that vanish: from Glorot's initialization the "
            "deepest networks do not learn with it."
        ),
        source=PASCANU,
        formula="final training accuracy at the rate of least loss",
        unit="accuracy",
        criterion=Below(0.25),
        measure=_clipped_vanishing,
        note="Norms that never reach the bound are not clipped: the two trainings are one.",
        check=True,
    ),
)


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute what the prose says."""
    cells = need([cell for cell in tables.study.cells if cell.epochs], "trained networks")
    accuracies = _deepest(tables).mean()
    found: dict[str, float | str] = {
        "width": WIDE,
        "depth": DEEP,
        "guessing": math.log(10),
        "trained_width": cells[0].width,
        "trained_depth": max(cell.depth for cell in cells),
        "steps": int(tables.steps["step"].max()),
        "rates": ", ".join(f"{rate:g}" for rate in sorted({c.learning_rate for c in cells})),
        "batch_factor": float(_norm_factors(tables, normalization=BATCH).mean()),
        "layer_factor": float(_norm_factors(tables, normalization="layer").mean()),
        "selu_factor": float(_norm_factors(tables, dataset=LONGER, **SELU).mean()),
    }
    for (name, wanted), residual in itertools.product(BRANCHES.items(), FACTORS):
        backward = -_slopes(tables, "signal_log10_rms", residual=residual, **wanted)
        forward = _slopes(tables, "preactivation_log10_mean_square", residual=residual, **wanted)
        found[f"{name}_{residual}_backward"] = float(np.exp(backward.mean()))
        found[f"{name}_{residual}_forward"] = float(np.exp(forward.mean()))
    ends = trained(tables)
    deepest = ends[ends["depth"] == ends["depth"].max()]
    diverged = deepest.groupby("remedy")["diverged"].mean()
    for name in REMEDIES:
        key = name.lower().replace(",", "").replace(" ", "_")
        found[key], found[f"{key}_diverged"] = (
            float(at(accuracies, name)),
            float(at(diverged, name)),
        )
    clipped = deepest[deepest["remedy"] == "Glorot, clipped"]
    medians = clipped.groupby("learning_rate")["accuracy"].median()
    found["glorot_clipped_best"] = float(medians.max())
    return found | clipped_ends(tables)
