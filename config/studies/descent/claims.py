"""The numbers in the chapter on gradient descent, and its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.needs import need, recorded, table
from gradprop.claims import Above, Case, Claim, Evidence, Within, exact, from_count, from_seeds
from gradprop.results.study_tables import StudyTables, at_start

NG_GRADIENTS = "ng2017: course 2, week 1, “Vanishing / exploding gradients”"

STARTS = ("vanishing", "balanced", "exploding")


def _mean_share(networks: pd.DataFrame, event: pd.Series[bool]) -> float:
    """Return the share of networks with an event, in the mean over kinds of network.

    A kind with more seeds counts no more than another.
    """
    kinds = [networks[name] for name in ("dataset", "activation", "depth", "initializer")]
    return float(event.groupby(kinds).mean().mean())


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute shares of networks that reached the target or diverged, and update ratios."""
    cells = tables.cells.assign(start=tables.cells["initializer"].str.split(" ").str[0])
    networks = need(cells[cells["activation"] != "linear"], "networks that are not linear")
    deepest = networks[networks["depth"] == networks["depth"].max()]
    deep = networks[networks["depth"] >= 10]
    found: dict[str, float | str] = {
        "deepest": int(networks["depth"].max()),
        "epochs": int(cells["epochs"].max()),
        "target": float(networks["target_loss"].max()),
    }
    for start in STARTS:
        chosen = deep[deep["start"] == start]
        found[f"{start}_arrived"] = _mean_share(chosen, chosen["steps_to_target"].notna())
        last = deepest[deepest["start"] == start]
        found[f"{start}_deepest"] = _mean_share(last, last["steps_to_target"].notna())
        for activation in ("tanh", "relu"):
            part = chosen[chosen["activation"] == activation]
            diverged = part["status"] == "diverged"
            found[f"{start}_{activation}_diverged"] = _mean_share(part, diverged)
    bad = cells.loc[cells["status"] == "diverged", "first_bad_step"]
    found["latest_divergence"] = float(bad.max()) if len(bad) else np.nan
    return found | _first_ratios(tables)


def _first_ratios(tables: StudyTables) -> dict[str, float | str]:
    """Median update-to-weight ratio at step 0 of the first hidden layer, digits, depth 20."""
    cells = tables.cells
    chosen = cells[(cells["dataset"] == "digits") & (cells["depth"] == 20)]
    layers = at_start(recorded(tables.layers, "log10_update_ratio"))
    rows = layers[layers["layer"] == 1]
    rows = rows.merge(chosen[["cell", "activation", "initializer"]], on="cell")
    rows["start"] = rows["initializer"].str.split(" ").str[0]
    medians = rows.groupby(["start", "activation"])["log10_update_ratio"].median()
    return {
        f"{start}_{activation}_ratio": 10.0 ** medians.get((start, activation), np.nan)
        for start in STARTS
        for activation in ("tanh", "relu")
    }


def _starts(tables: StudyTables) -> pd.DataFrame:
    """Return the cells with their initialization and what became of them.

    ``lost`` have a training loss that is not finite or ends above the initial one; ``kept`` not;
    ``late`` never reach the target; ``least_steps`` are those to the target, or all steps of
    their training, which is less than it would take.
    """
    steps = tables.steps
    cells = tables.cells.assign(start=tables.cells["initializer"].str.split(" ").str[0])
    first = cells["cell"].map(at_start(steps).set_index("cell")["train_loss"])
    arrival = cells["steps_to_target"].astype(float)
    kept = (cells["status"] != "diverged") & (cells["final_train_loss"].astype(float) <= first)
    return cells.assign(
        kept=kept,
        lost=~kept,
        late=arrival.isna(),
        steps_to_target=arrival,
        least_steps=arrival.fillna(cells["cell"].map(steps.groupby("cell")["step"].max())),
    )


def _share(start: str, event: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of the fraction of seeds whose deep network has an event.

    Multiples of the identity are the same for every seed: their networks are counted without an
    interval.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        cells = _starts(tables)
        deep = cells[(cells["depth"] == DEEP) & (cells["start"] == start)]
        for (activation, dataset), rows in deep.groupby(["activation", "dataset"], sort=False):
            case = Case(start=start, activation=activation, dataset=dataset, depth=DEEP)
            if activation == "linear":
                yield exact(case, float(rows[event].mean()), np.nan, len(rows))
            elif dataset == COUNTED_ON:
                yield from_count(case, rows[event], rows["seed"])

    return measure


def _slow(tables: StudyTables) -> Iterator[Evidence]:
    """Compare steps to the target, seed by seed, where all balanced networks got there.

    Of both data sets' networks of a depth: they share their seeds.
    """
    cells = _starts(tables)
    for (activation, depth), rows in cells.groupby(["activation", "depth"], sort=False):
        if not {"balanced", "vanishing"} <= set(rows["start"]):
            continue
        keys = ["seed", "dataset"]
        balanced = table(rows, keys, "start", "steps_to_target")["balanced"]
        vanishing = table(rows, keys, "start", "least_steps")["vanishing"]
        waits = (vanishing / balanced).map(np.log2).dropna()
        if (balanced > 0).all() and len(waits):
            yield from_seeds(Case(activation=activation, depth=depth), waits.groupby("seed").mean())


def _first_steps(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the slope over depth of the first gradient, a mean over the hidden layers of log10 RMS.

    Plain descent's first step is this gradient times the learning rate.
    """
    cells = _starts(tables)
    cells = need(cells[cells["start"] == "vanishing"], "networks that start vanishing")
    cells = cells.set_index("cell")
    rows = at_start(recorded(tables.layers, "gradient_log10_rms"))
    rows = rows[rows["cell"].isin(cells.index)]
    hidden = rows[rows["layer"] <= rows["cell"].map(cells["depth"])]
    sizes = hidden.groupby("cell")["gradient_log10_rms"].mean()
    cells = cells.assign(size=sizes)
    for (activation, dataset), part in cells.groupby(["activation", "dataset"], sort=False):
        by_seed = table(part, "depth", "seed", "size")
        by_seed = by_seed.dropna(axis="columns")  # seeds that some depths alone have
        slopes = [estimates.slope(by_seed.index, sizes) for _, sizes in by_seed.items()]
        yield from_seeds(Case(activation=activation, dataset=dataset), slopes, np.log10(VANISHING))


DEEP = 20
COUNTED_ON = "digits"
ONE_RATE = (
    "At the one learning rate of this study; the study of trainability gives each initialization "
    "the best of several."
)
VANISHING = 0.5  # times the balanced scale
CLAIMS = [
    Claim(
        id="exploding-diverges",
        statement="Descent from exploding initializations diverges or ends above its initial loss.",
        source=NG_GRADIENTS,
        formula=(
            "fraction of seeds: a training loss that is not finite or ends above its initial value"
        ),
        unit="of seeds",
        criterion=Above(0.5),
        measure=_share("exploding", "lost"),
        note=(
            f"{ONE_RATE} Where it does not hold: tanh is bounded, so that the outputs of its "
            "networks cannot explode, and their loss stays finite."
        ),
        passage="difficult",
    ),
    Claim(
        id="balanced-does-not",
        statement=(
            "Descent from balanced initializations ends at or below its initial loss, at the same "
            "rate."
        ),
        source=NG_GRADIENTS,
        formula="fraction of seeds: a finite training loss that ends at or below its initial value",
        unit="of seeds",
        criterion=Above(0.8),
        measure=_share("balanced", "kept"),
        note=ONE_RATE,
    ),
    Claim(
        id="tiny-steps",
        statement=(
            "Where weights are half the balanced scale, descent moves by tiny amounts: the first "
            "gradient is halved by every layer that the network is deeper."
        ),
        source=NG_GRADIENTS,
        formula="slope over depth of log10 RMS dC/dW, a mean over the hidden layers = log10 ½",
        unit="decades per layer",
        criterion=Within(relative=0.1),
        measure=_first_steps,
        passage="tiny-steps",
    ),
    Claim(
        id="vanishing-is-slow",
        statement=(
            "Vanishing initializations take more steps to the target loss than balanced ones: "
            "training takes very long."
        ),
        source=NG_GRADIENTS,
        formula=(
            "log2(steps of the vanishing initialization / steps of the balanced initialization)"
        ),
        unit="doublings",
        criterion=Above(0.0),
        measure=_slow,
        note=(
            f"{ONE_RATE} At all depths at which the balanced initialization always gets there. A "
            "network that never does counts with all the steps of its training, so that the ratio "
            "is at least the one given: of the vanishing initializations, only shallow ones get "
            "there."
        ),
        passage="long-time",
    ),
    Claim(
        id="vanishing-never-arrives",
        statement="In deep networks vanishing initializations do not reach the target loss at all.",
        source=NG_GRADIENTS,
        formula="fraction of seeds whose network never reaches the target",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_share("vanishing", "late"),
        note=ONE_RATE,
        passage="long-time",
    ),
]
