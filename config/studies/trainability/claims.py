"""Numbers and claims on trainability, each initialization at its best learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.names import in_words, names_in_text
from gradprop.analysis.needs import at, distinct, need, recorded, table
from gradprop.claims import (
    Above,
    Below,
    Case,
    Claim,
    Evidence,
    Within,
    exact,
    from_count,
    from_seeds,
)
from gradprop.grid.selection import select
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

GLOROT = "glorot2010: section 4.2, equation 14, and figures 7 and 8"
GLOROT_SIGMOID = "glorot2010: section 3.1"
GOODFELLOW = "goodfellow2016: section 8.4"
HE = "he2015: section 2.2"
HE_DEEP = "he2015: figure 3 (convolutional networks on ImageNet)"
NG_GRADIENTS = "ng2017: course 2, week 1, “Vanishing / exploding gradients”"
NG_SYMMETRY = "ng2017: course 1, week 3, “Random initialization”"
NG_WEIGHTS = "ng2017: course 2, week 1, “Weight initialization for deep networks”"

# The initialization that theory recommends for an activation.
CAREFUL = {"tanh": "glorot_normal", "relu": "he_normal"}
TINY = "normal"  # of standard deviation 0.01
EXPLODING, LARGE = "variance_scaling(scale=9.0)", "normal(stddev=1.0)"
HE_START, XAVIER = "he_normal", "glorot_normal"
DEPTH = 20  # of the comparison of all initializations
SHALLOW = 1
PARTED = 0.01  # of accuracy, from which on another rate than that of the smallest loss is named
EQUAL = 1e-5  # float32: spread of equal units over the size of their activations


def split_of(cell: Cell) -> int:
    """Return the seed by which a cell's data are split into a training and a test set."""
    return int(dict(cell.dataset.parameters).get("seed", 0))


def best_networks(
    tables: StudyTables, optimizer: str, *, over_splits: bool = False
) -> pd.DataFrame:
    """Return the networks at the best learning rate of every initialization.

    By the rule of `estimates.at_smallest_loss`. All are of one split of the data or, `over_splits`,
    each is of a split of its own, whose number is that of its seed.

    Returns
    -------
    DataFrame
        Columns ``activation``, ``depth``, ``start``, ``seed``, ``learning_rate``; ``accuracy``,
        the final one in training, of a diverged network 0; ``steps`` to the target loss, NaN if
        the network never got there; ``least_steps``, with all steps of its training in this
        case, which is less than it would take.
    """
    cells = _trained(tables, optimizer, over_splits=over_splits)
    return estimates.at_smallest_loss(cells, ["activation", "depth", "start"])


def parted(tables: StudyTables, optimizer: str) -> str:
    """Name the kinds of network that another rate would give a clearly higher accuracy.

    By `PARTED` or more in the mean over seeds, with both rates and accuracies.
    """
    kinds, found = ["activation", "depth", "initializer"], []
    for (activation, depth, start), cells in _trained(tables, optimizer).groupby(kinds, sort=False):
        rates = cells.groupby("learning_rate")["accuracy"].mean()
        chosen = float(estimates.at_smallest_loss(cells, kinds)["learning_rate"].iloc[0])
        best = float(rates.index.to_numpy()[int(rates.to_numpy().argmax())])
        if rates[best] - rates[chosen] >= PARTED:
            shares = " and ".join(
                f"{100 * rates[rate]:.0f}\u202f% at {rate:g}" for rate in (chosen, best)
            )
            found.append(f"{activation}, depth {depth}, {start} ({shares})")
    return "; ".join(found) or "none"


def at_the_edge(tables: StudyTables, optimizer: str) -> str:
    """Name the initializations whose best learning rate is an end of the grid."""
    rates = _trained(tables, optimizer).groupby(["activation", "depth"])["learning_rate"]
    ends = rates.agg(["min", "max"])
    best = best_networks(tables, optimizer).drop_duplicates(["activation", "depth", "start"])
    found = []
    for key, rows in best.groupby(["activation", "depth"], sort=False):
        edge = rows[rows["learning_rate"].isin(ends.loc[[key]].to_numpy().ravel())]
        if len(edge):
            activation, depth = key
            found.append(f"{activation}, depth {depth} ({', '.join(edge['initializer'])})")
    return "; ".join(found) or "none"


def _trained(tables: StudyTables, optimizer: str, *, over_splits: bool = False) -> pd.DataFrame:
    """Return the networks that an optimizer trained on minibatches, at all rates."""
    chosen = {
        cell.id: cell.initializer.label
        for cell in tables.study.cells
        if cell.optimizer.name == optimizer
        and cell.batch_size > 1
        and split_of(cell) == (cell.seed if over_splits else 0)
    }
    cells = training_outcomes(tables.cells[tables.cells["cell"].isin(chosen)])
    steps = cells["steps_to_target"].astype(float)
    return cells.assign(
        start=cells["cell"].map(chosen),
        steps=steps,
        least_steps=steps.fillna(cells["cell"].map(tables.steps.groupby("cell")["step"].max())),
    )


def _gaps(
    optimizer: str, pairs: dict[str, tuple[str, int, str, str]], *, over_splits: bool = False
) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of differences in accuracy between two initializations, seed by seed.

    `pairs` holds for every case an activation, a depth and two initializations. `over_splits` every
    seed has a split of the data of its own.
    """

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        best = best_networks(tables, optimizer, over_splits=over_splits)
        for text, (activation, depth, better, worse) in pairs.items():
            rows = best[(best["activation"] == activation) & (best["depth"] == depth)]
            more, less = _pairs(rows, "accuracy", better, worse)
            need(more.index[over_splits:], "such networks on several splits of the data")
            case = Case(text, activation=activation, depth=depth, initializer=better, over=worse)
            yield from_seeds(case, more - less)

    return measure


def _pairs(
    rows: pd.DataFrame, value: str, first: str, second: str
) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return a value of the networks of two initializations by seed, where both have it."""
    by_start = distinct(rows, "start", "seed").set_index(["start", "seed"])[value]
    return at(by_start, first).align(at(by_start, second), join="inner")


CARE = {
    f"{activation}, {careful} − {naive}": (activation, DEPTH, careful, naive)
    for activation, careful in CAREFUL.items()
    for naive in (TINY, EXPLODING)
}
DEEP_CARE = {
    f"{activation}, {careful} − {TINY}, depth 50": (activation, 50, careful, TINY)
    for activation, careful in CAREFUL.items()
}
SHALLOW_CARE = {
    f"{activation}, depth {SHALLOW}": (activation, SHALLOW, careful, TINY)
    for activation, careful in CAREFUL.items()
}
HE_AND_XAVIER = {
    "relu": ("relu", DEPTH, HE_START, XAVIER),
    "relu, depth 50": ("relu", 50, HE_START, XAVIER),
}


def _wait(
    best: pd.DataFrame, activation: str, depth: int, slow: str, fast: str, steps: str
) -> pd.Series[float]:
    """Return log2 of the steps to the target of the slow initialization over those of the fast one.

    `steps` is the column for the slow one: ``steps``, or ``least_steps`` for a lower bound.
    """
    rows = best[(best["activation"] == activation) & (best["depth"] == depth)]
    rows = rows.assign(steps=rows["steps"].where(rows["start"] == fast, rows[steps]))
    longer, shorter = _pairs(rows, "steps", slow, fast)
    return (longer / shorter).map(np.log2)


def _xavier_waits(best: pd.DataFrame, depth: int, steps: str = "least_steps") -> pd.Series[float]:
    return _wait(best, "relu", depth, XAVIER, HE_START, steps)


def _waits(tables: StudyTables) -> Iterator[Evidence]:
    best = best_networks(tables, "sgd")
    for depth in WAITING_DEPTHS:
        yield from_seeds(Case(activation="relu", depth=depth), _xavier_waits(best, depth))


def _tanh_waits(tables: StudyTables) -> Iterator[Evidence]:
    for optimizer, depth in (("sgd", SHALLOW), ("sgd", DEPTH), ("adam", DEPTH)):
        best = best_networks(tables, optimizer)
        waits = _wait(best, "tanh", depth, HE_START, XAVIER, "least_steps")
        yield from_seeds(Case(activation="tanh", optimizer=optimizer, depth=depth), waits)


def _care_is_faster(tables: StudyTables) -> Iterator[Evidence]:
    best = best_networks(tables, "sgd")
    for activation, careful in CAREFUL.items():
        waits = _wait(best, activation, DEPTH, TINY, careful, "least_steps")
        yield from_seeds(Case(activation=activation, depth=DEPTH), waits)


def _large_waits(tables: StudyTables) -> Iterator[Evidence]:
    best = best_networks(tables, "sgd")
    for activation in ("tanh", "sigmoid"):
        waits = _wait(best, activation, SHALLOW, LARGE, XAVIER, "least_steps")
        yield from_seeds(Case(activation=activation, depth=SHALLOW), waits)


def _sigmoid(tables: StudyTables) -> Iterator[Evidence]:
    best = best_networks(tables, "sgd")
    rows = best[(best["activation"] == "sigmoid") & (best["depth"] == DEPTH)]
    case = Case(activation="sigmoid", depth=DEPTH)
    yield from_seeds(case, rows.set_index("seed")["accuracy"])


def _less_of_an_issue(tables: StudyTables) -> Iterator[Evidence]:
    """Compare what large weights cost tanh with what they cost relu, seed by seed."""
    best = best_networks(tables, "sgd")
    for depth, start in ((SHALLOW, LARGE), (DEPTH, EXPLODING)):
        costs = {}
        for activation, careful in CAREFUL.items():
            rows = best[(best["activation"] == activation) & (best["depth"] == depth)]
            more, less = _pairs(rows, "accuracy", careful, start)
            costs[activation] = more - less
        yield from_seeds(Case(depth=depth, initializer=start), costs["tanh"] - costs["relu"])


def _wait_grows(tables: StudyTables) -> Iterator[Evidence]:
    """Compare the smallest with the largest depth.

    Counting too few steps at the largest depth makes the growth too small; at the smallest, all
    networks have to arrive.
    """
    best, (low, *_, high) = best_networks(tables, "sgd"), WAITING_DEPTHS
    growth = _xavier_waits(best, high) - _xavier_waits(best, low, "steps")
    case = Case(f"relu, depth {low} to {high}", activation="relu", depths="all")
    yield from_seeds(case, growth / np.log2(high / low))


def _stuck(tables: StudyTables) -> Iterator[Evidence]:
    """Count the seeds whose deep networks from tiny weights all end near their initial loss."""
    first = at_start(tables.steps).set_index("cell")["train_loss"]
    for optimizer in ("sgd", "adam"):
        cells = _trained(tables, optimizer)
        cells = cells[(cells["start"] == TINY) & (cells["depth"] == DEPTH)]
        for activation, rows in cells.groupby("activation", sort=False):
            stuck = rows["loss"] > STUCK * rows["cell"].map(first)
            case = Case(activation=activation, optimizer=optimizer, depth=DEPTH)
            yield from_count(case, stuck, rows["seed"])


def _spread_over_units(tables: StudyTables) -> Iterator[Evidence]:
    """Yield the largest spread over the units of a hidden layer, for constant initializations.

    In a minibatch of one example, the standard deviation of activations is over units alone.
    """
    for case, cells, rows in _constant_starts(tables):
        hidden = recorded(rows, "activation_mean", "activation_std")
        mean, spread = hidden["activation_mean"], hidden["activation_std"]
        size = (mean**2 + spread**2) ** 0.5
        spread = (spread / size.where(size > 0)).fillna(0.0)
        yield exact(case, float(spread.max()), 0.0, cells)


def _moved(tables: StudyTables) -> Iterator[Evidence]:
    """Yield how far training moved the norm of the weights of hidden layers, the most."""
    for case, cells, hidden in _constant_starts(tables):
        norms = 10 ** table(hidden, ["cell", "layer"], "step", "weight_log10_norm")
        change = (norms.iloc[:, -1] - norms.iloc[:, 0]).abs().max()
        yield exact(case, float(change), np.nan, cells)


def _constant_starts(tables: StudyTables) -> Iterator[tuple[Case, int, pd.DataFrame]]:
    """Yield case, number of networks and rows of hidden layers of constant initializations."""
    cells = [
        c
        for c in tables.study.cells
        if c.initializer.name in ("zeros", "constant") and c.batch_size == 1
    ]
    for activation, label in dict.fromkeys(
        (c.activation.label, c.initializer.label) for c in cells
    ):
        alike = select(cells, {"activation": activation, "initializer": label})
        chosen = {cell.id: cell.depth for cell in alike}
        rows = tables.layers[tables.layers["cell"].isin(chosen)]
        hidden = rows[rows["layer"] <= rows["cell"].map(chosen)]
        case = Case(activation=activation, initializer=label)
        yield case, len(chosen), need(hidden, "hidden layers in these networks")


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute accuracies at the best learning rates, and the rates."""
    found: dict[str, float | str] = {"depth": DEPTH}
    called = names_in_text(tables.study)
    for optimizer in ("sgd", "adam"):
        best = best_networks(tables, optimizer)
        found[f"{optimizer}_edge"] = in_words(at_the_edge(tables, optimizer), called)
        found[f"{optimizer}_parted"] = in_words(parted(tables, optimizer), called)
        medians = best.groupby(["activation", "depth", "start"])["accuracy"].median()
        for activation, depth, start, name in (
            ("relu", DEPTH, HE_START, "relu_he"),
            ("relu", DEPTH, XAVIER, "relu_xavier"),
            ("relu", DEPTH, TINY, "relu_tiny"),
            ("tanh", DEPTH, XAVIER, "tanh_xavier"),
            ("tanh", DEPTH, TINY, "tanh_tiny"),
            ("relu", 50, HE_START, "relu_he_50"),
            ("relu", 50, XAVIER, "relu_xavier_50"),
        ):
            found[f"{optimizer}_{name}"] = float(medians.get((activation, depth, start), np.nan))
    over = best_networks(tables, "sgd", over_splits=True)
    over = over[(over["activation"] == "relu") & (over["depth"] == DEPTH)]
    for start, name in ((HE_START, "he"), (XAVIER, "glorot"), (TINY, "tiny")):
        found[f"splits_{name}"] = float(over.loc[over["start"] == start, "accuracy"].mean())
    found["splits"] = int(over.loc[over["start"] == HE_START, "seed"].nunique())
    return found | {"waits": waits(best_networks(tables, "sgd"))}


def waits(best: pd.DataFrame) -> str:
    """Say for every depth how many times as long ReLU networks take from Glorot's as from He's.

    Geometric means over seeds; where networks never arrive it is a lower bound, and is said to be.
    """
    found = []
    for depth in WAITING_DEPTHS:
        ratio = 2 ** float(_xavier_waits(best, depth).mean())
        chosen = (best["activation"] == "relu") & (best["depth"] == depth)
        slow = best.loc[chosen & (best["start"] == XAVIER), "steps"]
        late = int(slow.isna().sum())
        bound = "at least " if late else ""
        count = f" ({late} of {len(slow)} networks never arrive)" if late else ""
        found.append(f"{bound}{ratio:.3g} times at depth {depth}{count}")
    return f"{', '.join(found[:-1])} and {found[-1]}"


WAITING_DEPTHS = (5, 10, 20)
STUCK = 0.9  # of the initial loss: a network that ends below has left it
DEEP_AND_NARROW = (
    "Where it does not hold: ReLU networks of depth 50 and width 64 are so deep for their width "
    "that they learn little from He's initialization, too, within the steps that they have."
)
OVER_SPLITS = (
    "Each seed has its own split into training and test set, and the interval is over both. The "
    "other claims of this study are conditional on one split."
)
AT_LEAST = (
    "A network that never gets there counts with all the steps of its training, so that the ratio "
    "is at least the one given; where a case is not supported, training may have been too short."
)

CLAIMS = [
    Claim(
        id="sgd-needs-care",
        statement=(
            "With SGD a careful initialization trains a deep network that naive initializations "
            "leave untrained, each at its best learning rate."
        ),
        source=f"{NG_GRADIENTS}; {GLOROT}; {HE}",
        formula="final training accuracy, careful − naive, rates of least loss",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps("sgd", CARE | DEEP_CARE),
        note=DEEP_AND_NARROW,
        passage="partial-solution",
    ),
    Claim(
        id="sgd-needs-care-over-splits",
        statement=(
            "Over splits of the data, too, a careful initialization trains deep ReLU networks "
            "with SGD that naive ones leave untrained."
        ),
        source=f"{NG_GRADIENTS}; {HE}",
        formula="final training accuracy, careful − naive, rates of least loss, a split per seed",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps("sgd", {"relu": ("relu", DEPTH, HE_START, TINY)}, over_splits=True),
        note=OVER_SPLITS,
        passage="partial-solution",
    ),
    Claim(
        id="adam-needs-care",
        statement=(
            "With Adam, too, a careful initialization trains a deep network that naive "
            "initializations leave untrained."
        ),
        source=f"{NG_GRADIENTS}, which names no optimizer",
        formula="final training accuracy, careful − naive, rates of least loss",
        unit="accuracy",
        criterion=Above(0.25),
        measure=_gaps("adam", CARE | DEEP_CARE),
        passage="partial-solution",
    ),
    Claim(
        id="sgd-he-over-glorot",
        statement="With SGD a deep ReLU network learns clearly better from He's initialization.",
        source=f"{NG_WEIGHTS}; {HE_DEEP}",
        formula="final training accuracy, He − Glorot, rates of least loss",
        unit="accuracy",
        criterion=Above(0.05),
        measure=_gaps("sgd", HE_AND_XAVIER),
        note=DEEP_AND_NARROW,
        passage="two-over-n",
    ),
    Claim(
        id="sgd-he-over-glorot-over-splits",
        statement=(
            "Over splits of the data, too, a deep ReLU network learns clearly better from He's "
            "initialization with SGD."
        ),
        source=f"{NG_WEIGHTS}; {HE_DEEP}",
        formula="final training accuracy, He − Glorot, rates of least loss, a split per seed",
        unit="accuracy",
        criterion=Above(0.05),
        measure=_gaps("sgd", {"relu": ("relu", DEPTH, HE_START, XAVIER)}, over_splits=True),
        note=OVER_SPLITS,
        passage="two-over-n",
    ),
    Claim(
        id="sigmoid-stalls",
        statement="With SGD deep sigmoid networks do not learn, even from Glorot's initialization.",
        source=f"{GLOROT_SIGMOID}, of five hidden layers and the standard heuristic",
        formula="final training accuracy near chance, rates of least loss",
        unit="accuracy",
        criterion=Below(0.2),
        measure=_sigmoid,
    ),
    Claim(
        id="tanh-one-over-n",
        statement="Tanh networks learn faster from variance 1/n than from 2/n.",
        source=NG_WEIGHTS,
        formula="log2 (steps to the target loss from 2/n / steps from 1/n), rates of least loss",
        unit="doublings",
        criterion=Above(0.0),
        measure=_tanh_waits,
        note=(
            "Where it does not hold: from 1/n the back-propagated signal of a deep network falls "
            "as a power of the layer; from 2/n it grows, but slowly, because tanh is bounded. In "
            "20 layers the second is the smaller change, and steps are larger. With one hidden "
            "layer, or with Adam, the two cannot be told apart."
        ),
        passage="tanh-one",
    ),
    Claim(
        id="sgd-care-is-faster",
        statement=(
            "With SGD a careful initialization reaches the target loss in less than half the "
            "steps of weights of standard deviation 0.01."
        ),
        source=NG_WEIGHTS,
        formula=(
            "log2 (steps of the small initialization / steps of the careful one), rates of least "
            "loss"
        ),
        unit="doublings",
        criterion=Above(1.0),
        measure=_care_is_faster,
        note=AT_LEAST,
        passage="more-quickly",
    ),
    Claim(
        id="adam-he-like-glorot",
        statement=(
            "With Adam the advantage of He's initialization over Glorot's is less than five points."
        ),
        source=f"{HE_DEEP}, to which this is a contrast, with SGD",
        formula="final training accuracy, He − Glorot, rates of least loss",
        unit="accuracy",
        criterion=Below(0.05),
        measure=_gaps("adam", HE_AND_XAVIER),
        note=(
            "Adam divides a gradient by its own size, but adds ε = 1e-7 to that: gradients far "
            "below ε, as at depth 50 from Glorot's initialization, move nothing."
        ),
    ),
    Claim(
        id="sgd-glorot-waits",
        statement=(
            "Where signals vanish, descent takes longer to the target loss, each initialization "
            "at its best learning rate: small steps are not made good by a larger rate."
        ),
        source=NG_GRADIENTS,
        formula="log2 (steps from Glorot's initialization / steps from He's), ReLU, SGD",
        unit="doublings",
        criterion=Above(0.0),
        measure=_waits,
        note=AT_LEAST,
        passage="long-time",
    ),
    Claim(
        id="sgd-wait-grows-with-depth",
        statement=(
            "The ratio of the steps to the target loss from Glorot's initialization and from He's"
            " grows with depth."
        ),
        source=NG_GRADIENTS,
        formula="growth of log2 (ratio of steps) over log2 depth",
        unit="doublings a doubling of depth",
        criterion=Above(0.0),
        measure=_wait_grows,
        note="A lower bound for the same reason.",
        passage="long-time",
    ),
    Claim(
        id="tiny-weights-never-leave",
        statement=(
            "Deep networks initialized from N(0, 0.01²) end above nine tenths of their initial "
            "loss, at every learning rate of the grid."
        ),
        source=NG_SYMMETRY,
        formula=f"fraction of seeds whose networks all end above {STUCK:g} of the initial loss",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_stuck,
        passage="other-constant",
    ),
    Claim(
        id="small-weights-suit-shallow-networks",
        statement=(
            "In a network with one hidden layer weights of standard deviation 0.01 do as well as a "
            "careful initialization."
        ),
        source=NG_SYMMETRY,
        formula="final training accuracy, careful − N(0, 0.01²), rates of least loss",
        unit="accuracy",
        criterion=Below(0.05),
        measure=_gaps("sgd", SHALLOW_CARE),
        note=(
            "An earlier form, of networks with two hidden layers at one learning rate (0.03), was "
            "not supported: their first gradients are smaller by another factor of 0.01 √n."
        ),
        passage="few-layers",
    ),
    Claim(
        id="large-weights-slow-learning",
        statement="Shallow networks that start saturated take more steps to the target loss.",
        source=NG_SYMMETRY,
        formula=(
            "log2 (steps from N(0, 1) / steps from Glorot's initialization), rates of least loss"
        ),
        unit="doublings",
        criterion=Above(0.0),
        measure=_large_waits,
        note=AT_LEAST,
        passage="too-large",
    ),
    Claim(
        id="large-weights-cost-relu-less",
        statement="Large weights cost ReLU networks less than tanh networks.",
        source=NG_SYMMETRY,
        formula="final training accuracy, careful − large, rates of least loss: tanh less relu",
        unit="accuracy",
        criterion=Above(0.0),
        measure=_less_of_an_issue,
        note=(
            "Where it does not hold: ReLU units do not saturate, but nothing bounds the signals of "
            "deep ReLU networks, whose outputs, losses and steps are far too large from the first "
            "step on."
        ),
        passage="less-of-an-issue",
    ),
    Claim(
        id="constant-start-keeps-symmetry",
        statement=(
            "From a constant initialization the units of a hidden layer stay identical through "
            "training."
        ),
        source=f"{NG_SYMMETRY}; {GOODFELLOW}",
        formula="spread over units / root mean square of activations = 0, at all probes",
        unit="",
        criterion=Within(EQUAL),
        measure=_spread_over_units,
        passage="symmetric",
        check=True,
    ),
    Claim(
        id="constant-start-learns-all-the-same",
        statement=(
            "From a constant initialization the weights of hidden units do move; they move alike."
        ),
        source=f"{NG_SYMMETRY}; {GOODFELLOW}",
        formula="largest change of the norm of a hidden layer's weights",
        unit="",
        criterion=Above(1e-3),
        measure=_moved,
        note=(
            "It holds in part: from zeros the gradient of every hidden weight is exactly zero, "
            "and only the biases of the output layer are learnt."
        ),
    ),
]
