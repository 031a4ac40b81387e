"""The numbers in the chapter on recurrence, and its claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop import theory
from gradprop.analysis import estimates
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.names import name_of
from gradprop.analysis.needs import at, distinct, need, recorded
from gradprop.claims import (
    Above,
    Below,
    Case,
    Claim,
    Evidence,
    Within,
    from_bootstrap,
    from_seeds,
)
from gradprop.results.study_tables import StudyTables, at_start

from .rates import rates

Float64 = NDArray[np.float64]

GAUSSIAN, UNIT = "variance_scaling", "variance_scaling"  # a name; the label of variance 1/n
HE = "variance_scaling(scale=2.0)"
HALF, FOUR = "variance_scaling(scale=0.5)", "variance_scaling(scale=4.0)"
PASCANU = "pascanu2013: section on exploding and vanishing gradients"
GELFAND = "Gelfand's formula for the spectral radius"
ROUNDING = 1e-4  # decades per layer: a signal that grows by less is kept


def _tied(tables: StudyTables, tied: bool = True) -> pd.DataFrame:
    """Return the rates of the networks whose kernels are tied, or of the others."""
    found = rates(tables)
    return need(found[found["tied"] == tied], f"networks with tied {str(tied).lower()}")


def _kinds(rows: pd.DataFrame) -> Iterator[tuple[Case, pd.DataFrame]]:
    """Yield networks that differ in their seeds alone; of each kind the deepest ones."""
    keys = ["activation", "initializer", "width"]
    for (activation, initializer, width), alike in rows.groupby(keys, sort=False):
        deepest = distinct(alike[alike["depth"] == alike["depth"].max()], "seed")
        yield (
            Case(activation=activation, initializer=initializer, width=width),
            deepest.set_index("seed"),
        )


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep Gaussian kernels, and of linear networks those of variance 1/n.

    Linear networks of other variances are the same networks times a factor per layer.
    """
    gaussian = rows["initializer"].str.split("(").str[0] == GAUSSIAN
    return rows[gaussian & ((rows["activation"] != "linear") | (rows["initializer"] == UNIT))]


def _radius(column: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of a rate less that of the spectral radius.

    Of linear networks, and of tanh networks all of which have a radius below 1: their activations
    vanish, so that they end as linear ones.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        for case, networks in _kinds(_drawn(_tied(tables))):
            name = networks["activation"].iloc[0]
            if name == "linear" or (name == "tanh" and (networks["radius"] < 0).all()):
                yield from_seeds(case, networks[column] - networks["radius"], 0.0)

    return measure


def _lyapunov(tables: StudyTables) -> Iterator[Evidence]:
    """Measure rates of linear networks with independent Gaussian kernels of variance 1/n."""
    rows = _drawn(_tied(tables, tied=False))
    for case, networks in _kinds(rows[rows["activation"] == "linear"]):
        width = int(networks["width"].iloc[0])
        predicted = theory.log_growth_mean(width, 1.0) / (2 * math.log(10))
        yield from_seeds(case, networks["rate"], predicted)


def _pairs(tables: StudyTables) -> Iterator[tuple[Case, pd.DataFrame]]:
    """Yield tied and independent kernels of one kind, seed by seed."""
    apart = {case.id: networks for case, networks in _kinds(_drawn(_tied(tables, tied=False)))}
    for case, networks in _kinds(_drawn(_tied(tables))):
        if case.id in apart:
            both = networks.merge(apart[case.id], on="seed", suffixes=("", "_apart"))
            if len(both) and (both["depth"] == both["depth_apart"]).all():
                yield case, both


def _faster(tables: StudyTables) -> Iterator[Evidence]:
    for case, both in _pairs(tables):
        yield from_seeds(case, both["rate"] - both["rate_apart"])


def _changes(tables: StudyTables) -> Iterator[tuple[Case, Float64]]:
    """Yield the signal's change from the last hidden layer to the first, (seeds, tied or not)."""
    signal = at_start(tables.layers).set_index(["cell", "layer"])["signal_log10_rms"]
    for case, both in _pairs(tables):
        pairs = zip(both["network"], both["network_apart"], strict=True)
        yield (
            case,
            np.array([[signal[c.id, 1] - signal[c.id, c.depth] for c in pair] for pair in pairs]),
        )


def _wider(tables: StudyTables) -> Iterator[Evidence]:
    for case, changes in _changes(tables):
        yield from_bootstrap(case, changes, _variance_ratio)


def _variance_ratio(changes: Float64) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        tied, apart = changes.var(axis=0, ddof=1)
        return float(tied / apart)


def _kept(tables: StudyTables) -> Iterator[Evidence]:
    """Measure rates of kernels that keep lengths; of ReLU networks, of the identity alone."""
    for case, networks in _kinds(_tied(tables)):
        kind = (networks["activation"].iloc[0], networks["initializer"].iloc[0])
        if kind in {("linear", "orthogonal"), ("linear", "identity"), ("relu", "identity")}:
            yield from_seeds(case, networks["rate"], 0.0)


def _small_norms(tables: StudyTables) -> Iterator[Evidence]:
    rows = _tied(tables)
    for case, networks in _kinds(rows[rows["bound"] < 0]):
        yield from_seeds(case, networks["rate"])


def _exploding(tables: StudyTables) -> Iterator[Evidence]:
    """Return the bound of networks whose signal explodes: by more than rounding errors."""
    rows = _tied(tables)
    for case, networks in _kinds(rows[rows["rate"] > ROUNDING]):
        yield from_seeds(case, networks["bound"])


def _between(tables: StudyTables) -> Iterator[Evidence]:
    """Measure rates where the largest singular value allows explosion and the radius is below 1."""
    rows = _tied(tables)
    rows = rows[(rows["bound"] > 0) & (rows["radius"] + rows["gamma"] < 0)]
    for case, networks in _kinds(rows):
        yield from_seeds(case, networks["rate"])


def _saturated(tables: StudyTables) -> Iterator[Evidence]:
    rows = _tied(tables)
    rows = rows[(rows["activation"] == "tanh") & (rows["radius"] > 0)]
    for case, networks in _kinds(_drawn(rows)):
        yield from_seeds(case, networks["rate"] - networks["radius"])


def _chaos(tables: StudyTables) -> Iterator[Evidence]:
    """Compare rates of tanh networks in the chaotic phase with those of independent kernels."""
    rows = _tied(tables)
    for case, networks in _kinds(_drawn(rows[rows["activation"] == "tanh"])):
        scale = float(dict(networks["network"].iloc[0].initializer.parameters).get("scale", 1.0))
        if scale > 1:
            chi = theory.chi_1("tanh", theory.length_fixed_point("tanh", scale, 0.0), scale)
            yield from_seeds(case, networks["rate"], math.log10(chi) / 2)


def _uses(tables: StudyTables) -> Iterator[tuple[Case, pd.DataFrame, list[Float64], Float64]]:
    """Yield tied networks of a kind, the norms of the parts of each gradient, and its own norm.

    The table of steps has the norm of all gradients, whose squares add up: without those of the
    input layer and the output layer it is that of the shared kernel's.
    """
    columns = ("cell", "layer", "gradient_log10_norm")
    norms = recorded(at_start(tables.layers), *columns).set_index(["cell", "layer"])
    total = recorded(at_start(tables.steps), "cell", "gradient_log10_norm").set_index("cell")
    for case, networks in _kinds(_tied(tables)):
        parts, sums = [], []
        for cell in networks["network"]:
            found = 10.0 ** norms.loc[cell.id, columns[-1]].sort_index().to_numpy(np.float64)
            own = 10.0 ** (2 * float(total.loc[cell.id, columns[-1]]))
            parts.append(found[1:-1])
            sums.append(math.sqrt(max(own - found[0] ** 2 - found[-1] ** 2, 0.0)))
        yield case, networks, parts, np.array(sums)


def _equal_uses(tables: StudyTables) -> Iterator[Evidence]:
    for case, networks, parts, sums in _uses(tables):
        if set(networks["initializer"]) == {"identity"}:
            yield from_seeds(case, sums / [part.sum() for part in parts], 1.0)


def _coherence(tables: StudyTables) -> Iterator[Evidence]:
    """Return |sum|^2 over the sum of squares: 1 if the parts were orthogonal to each other."""
    for case, networks, parts, sums in _uses(tables):
        orthogonal = networks["initializer"].iloc[0] == "orthogonal"
        if orthogonal or len(_drawn(networks)):
            yield from_seeds(case, sums**2 / [(part**2).sum() for part in parts])


def _same_size(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the slope of log10 norm over the middle half of the uses, towards the input."""
    for case, networks, parts, _ in _uses(tables):
        if networks["activation"].iloc[0] == "linear" and len(_drawn(networks)):
            count = len(parts[0])
            middle = slice(count // 4, count - count // 4)
            with np.errstate(divide="ignore"):
                logs = np.log10(np.array(parts)[:, middle])
            layers = np.arange(count)[middle]
            yield from_seeds(case, [-estimates.slope(layers, line) for line in logs], 0.0)


def _early_uses(tables: StudyTables) -> Iterator[Evidence]:
    """Return log10 of what the first half of the uses can add, at most, over the whole."""
    for case, networks, parts, sums in _uses(tables):
        if networks["activation"].iloc[0] == "sigmoid":
            early = np.array([part[: len(part) // 2].sum() for part in parts])
            with np.errstate(divide="ignore"):
                yield from_seeds(case, np.log10(early) - np.log10(sums))


def _learned(
    activation: str, keeps: str, draws: str
) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of accuracies from a kernel that keeps lengths, less those of another."""

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        cells = {
            cell.id: cell.initializer.label
            for cell in tables.study.cells
            if cell.epochs and cell.tied and cell.activation.name == activation
        }
        rows = training_outcomes(tables.cells[tables.cells["cell"].isin(cells)])
        rows = need(rows, f"trained {name_of(activation)} networks with tied kernels")
        rows = rows.assign(initializer=rows["cell"].map(cells))
        by_seed = distinct(rows, "initializer", "seed").pivot(
            index="seed", columns="initializer", values="accuracy"
        )
        gain = need((at(by_seed, keeps) - at(by_seed, draws)).dropna(), "pairs of one seed")
        yield from_seeds(Case(activation=activation), gain)

    return measure


def _kind(
    rows: pd.DataFrame, activation: str, initializer: str, width: int | None = None
) -> pd.DataFrame:
    """Return the networks of a kind, of the smallest width if none is given."""
    rows = rows[(rows["activation"] == activation) & (rows["initializer"] == initializer)]
    need(rows, f"such networks with activation {activation}, initializer {initializer}")
    return rows[rows["width"] == (width or rows["width"].min())]


def _accuracies(tables: StudyTables) -> dict[tuple[str, str], float]:
    """Return the mean final training accuracy of trained tied networks."""
    cells = {c.id: c for c in tables.study.cells if c.epochs and c.tied}
    rows = training_outcomes(tables.cells[tables.cells["cell"].isin(cells)])
    labels = rows["cell"].map({name: cell.initializer.label for name, cell in cells.items()})
    means = rows.groupby([rows["activation"], labels])["accuracy"].mean()
    return dict(zip(means.index.to_list(), means.to_numpy(), strict=True))


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    tied, apart = _tied(tables), _tied(tables, tied=False)
    one, many = _kind(tied, "linear", UNIT), _kind(apart, "linear", UNIT)
    low, middle, high = (_kind(tied, "tanh", label) for label in (HALF, UNIT, FOUR))
    between = _kind(tied, "linear", HALF)
    changes = {case.id: change for case, change in _changes(tables)}
    uses = {case.id: (parts, sums) for case, _, parts, sums in _uses(tables)}
    width = int(one["width"].iloc[0])

    def of(activation: str, initializer: str) -> tuple[list[Float64], Float64]:
        found: tuple[list[Float64], Float64] = at(
            uses, Case(activation=activation, initializer=initializer, width=width).id
        )
        return found

    def coherence(activation: str, initializer: str) -> float:
        parts, sums = of(activation, initializer)
        return float(np.mean(sums**2 / [(part**2).sum() for part in parts]))

    parts, sums = of("sigmoid", "variance_scaling(scale=2.25)")
    early = [part[: len(part) // 2].sum() for part in parts] / sums
    accuracies = _accuracies(tables)
    spread = at(changes, Case(activation="linear", initializer=UNIT, width=width).id).std(
        axis=0, ddof=1
    )
    return {
        "networks": len(tied) + len(apart),
        "depth": int(one["depth"].max()),
        "width": width,
        "uses": int(one["depth"].max()) - 1,
        "radius_low": 10 ** float(one["radius"].min()),
        "radius_mean": 10 ** float(one["radius"].mean()),
        "radius_high": 10 ** float(one["radius"].max()),
        "rate": float(one["rate"].mean()),
        "radius_rate": float(one["radius"].mean()),
        "error": float((one["rate"] - one["radius"]).abs().max()),
        "apart_rate": float(many["rate"].mean()),
        "lyapunov": theory.log_growth_mean(width, 1.0) / (2 * math.log(10)),
        "spread": float(spread[0]),
        "apart_spread": float(spread[1]),
        "between_norm": 10 ** float(between["bound"].mean()),
        "between_radius": 10 ** float(between["radius"].mean()),
        "between_rate": float(between["rate"].mean()),
        "tanh_low": float(low["rate"].mean()),
        "tanh_middle": float(middle["rate"].mean()),
        "tanh_high": float(high["rate"].mean()),
        "tanh_high_radius": float(high["radius"].mean()),
        "coherence": coherence("linear", UNIT),
        "orthogonal_coherence": coherence("linear", "orthogonal"),
        "early": float(np.mean(early)),
        "tanh_gaussian": at(accuracies, ("tanh", UNIT)),
        "tanh_orthogonal": at(accuracies, ("tanh", "orthogonal")),
        "relu_gaussian": at(accuracies, ("relu", HE)),
        "relu_identity": at(accuracies, ("relu", "identity")),
    }


CLAIMS = (
    Claim(
        id="spectral-radius",
        statement=(
            "Far from the output, the signal of a network that shares one Gaussian kernel changes "
            "at the rate of the spectral radius of the very kernel that was drawn; in tanh "
            "networks, too, if it is below 1."
        ),
        source=f"{PASCANU}, the linear case; {GELFAND}",
        formula="slope of log10 RMS dC/dz towards the input − log10 ρ(W) = 0",
        unit="decades per layer",
        criterion=Within(0.01),
        measure=_radius("rate"),
        note=(
            "The tolerance leaves room for eigenvalues near the largest one, which after t uses "
            "still add about 1/(2t) per use: 0.003 decades at t = 75."
        ),
    ),
    Claim(
        id="spectral-radius-forward",
        statement="Activations of such networks change at the same rate on their way forward.",
        source=f"{PASCANU}, the linear case; {GELFAND}",
        formula="slope of log10 RMS z towards the output − log10 ρ(W) = 0",
        unit="decades per layer",
        criterion=Within(0.01),
        measure=_radius("forward_rate"),
    ),
    Claim(
        id="lyapunov-exponent",
        statement=(
            "With a kernel of its own in every layer, the signal of the same linear networks "
            "changes at the Lyapunov exponent of products of independent matrices."
        ),
        source="sussillo2014: the random walk; hanin-nica2020; the mean of ln χ²ₙ is exact",
        formula="slope of log10 RMS dC/dz = [ψ(n/2) − ln(n/2)] / (2 ln 10)",
        unit="decades per layer",
        criterion=Within(0.005),
        measure=_lyapunov,
    ),
    Claim(
        id="grows-faster",
        statement=(
            "At the same variance, the signal grows faster through one kernel than through "
            "independent ones: the largest eigenvalue lies outside the circle that the others fill."
        ),
        source="derived here, for finite widths",
        formula="slope of log10 RMS dC/dz, tied − independent, seed by seed",
        unit="decades per layer",
        criterion=Above(0.0),
        measure=_faster,
    ),
    Claim(
        id="spreads-wider",
        statement=(
            "One draw decides for all layers: with a shared kernel, networks that differ in their "
            "seeds alone are further apart than with independent kernels."
        ),
        source="derived here",
        formula="variance over networks of log10 dC/dz, first less last layer: tied / independent",
        unit="ratio",
        criterion=Above(1.0),
        measure=_wider,
    ),
    Claim(
        id="lengths-are-kept",
        statement=(
            "Orthogonal kernels and the identity keep the signal of linear networks however often "
            "they are applied, and the identity that of ReLU networks."
        ),
        source="saxe2014: orthogonal initialization; le2015: the identity for ReLU",
        formula="slope of log10 RMS dC/dz = 0",
        unit="decades per layer",
        criterion=Within(1e-4),
        measure=_kept,
        check=True,
    ),
    Claim(
        id="small-norm-suffices",
        statement=(
            "If the largest singular value of the shared kernel is below 1/γ, where γ bounds the "
            "slope of the activation function, the gradient vanishes."
        ),
        source=PASCANU,
        formula="slope of log10 RMS dC/dz of networks with γ σ_max(W) < 1",
        unit="decades per layer",
        criterion=Below(0.0),
        measure=_small_norms,
        note="γ = 1 for tanh and ReLU, 1/4 for sigmoid. A step back multiplies by at most γ σ_max.",
        passage="sufficient",
        check=True,
    ),
    Claim(
        id="large-norm-is-necessary",
        statement=(
            "Where gradients explode, the largest singular value of the shared kernel is above 1/γ."
        ),
        source=PASCANU,
        formula="log10 of γ σ_max(W) of networks whose signal grows towards the input",
        unit="decades",
        criterion=Above(0.0),
        measure=_exploding,
        passage="necessary",
        check=True,
    ),
    Claim(
        id="large-norm-is-not-enough",
        statement=(
            "It is not sufficient: kernels whose largest singular value is above 1/γ and whose "
            "spectral radius is below it let the gradient vanish."
        ),
        source=f"{PASCANU}, which says necessary and no more",
        formula="slope of log10 RMS dC/dz of networks with ρ(W) < 1/γ < σ_max(W)",
        unit="decades per layer",
        criterion=Below(0.0),
        measure=_between,
        note=(
            "The radii of variance 1/n lie about 1: only few networks have one below, and hardly "
            "below, which is too little to tell."
        ),
    ),
    Claim(
        id="saturation-slows",
        statement=(
            "Where the spectral radius is above 1, the signal of tanh networks grows more slowly "
            "than it: units saturate."
        ),
        source="derived here",
        formula="slope of log10 RMS dC/dz − log10 ρ(W)",
        unit="decades per layer",
        criterion=Below(0.0),
        measure=_saturated,
    ),
    Claim(
        id="chaos-forgets",
        statement=(
            "In the chaotic phase, tanh networks with a shared kernel explode at the rate of those "
            "with independent kernels: activations forget where they came from."
        ),
        source="schoenholz2017: the factor χ₁ of a layer; derived here for tied kernels",
        formula="slope of log10 RMS dC/dz = ½ log10 χ₁",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_chaos,
    ),
    Claim(
        id="identity-uses",
        statement=(
            "The gradient of a shared identity is the sum of as many equal parts as it has uses."
        ),
        source=f"{PASCANU}, the gradient as a sum over steps",
        formula="norm of the sum / sum of the norms = 1",
        unit="ratio",
        criterion=Within(1e-3),
        measure=_equal_uses,
        check=True,
    ),
    Claim(
        id="uses-add-up",
        statement=(
            "The parts that single uses add to the gradient of a shared kernel reinforce each "
            "other: their sum is longer than that of orthogonal parts."
        ),
        source="derived here",
        formula="|Σ dC/dW_l|² / Σ |dC/dW_l|² over the uses",
        unit="ratio",
        criterion=Above(1.0),
        measure=_coherence,
        note=(
            "It holds in part: where many uses count. In sigmoid networks the last use decides, "
            "and in the chaotic phase of tanh networks the first ones: there is little to add."
        ),
    ),
    Claim(
        id="uses-count-alike",
        statement=(
            "In linear networks with a shared Gaussian kernel, all uses add parts of the same "
            "size, whether the signal vanishes or explodes."
        ),
        source="derived here",
        formula="slope of log10 norm dC/dW_l over the middle half of the uses = 0",
        unit="decades per layer",
        criterion=Within(0.005),
        measure=_same_size,
    ),
    Claim(
        id="late-uses-decide",
        statement=(
            "In sigmoid networks the gradient of a shared kernel comes from its last uses: the "
            "first half adds less than a hundredth."
        ),
        source=f"{PASCANU}, long-term components",
        formula="log10 of Σ norms over the first half of the uses / norm of the whole sum",
        unit="decades",
        criterion=Below(-2.0),
        measure=_early_uses,
    ),
    Claim(
        id="orthogonal-learns",
        statement="A shared tanh kernel learns better if it begins orthogonal than Gaussian.",
        source="saxe2014: orthogonal initialization",
        formula="final training accuracy, orthogonal − variance 1/n, seed by seed",
        unit="",
        criterion=Above(0.0),
        measure=_learned("tanh", "orthogonal", UNIT),
    ),
    Claim(
        id="identity-learns",
        statement="A shared ReLU kernel learns better if it begins as the identity than as He's.",
        source="le2015",
        formula="final training accuracy, identity − variance 2/n, seed by seed",
        unit="",
        criterion=Above(0.0),
        measure=_learned("relu", "identity", HE),
    ),
)
