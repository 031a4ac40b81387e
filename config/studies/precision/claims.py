"""The numbers in the chapter on precision, and its claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from gradprop.analysis import estimates
from gradprop.analysis.needs import need, recorded
from gradprop.claims import Above, Case, Claim, Evidence, Within, from_count, from_seeds
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.prediction.formats import lost_layers
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

SCALING = "micikevicius2018: section 3.2 (loss scaling)"
SIGNAL, LENGTH = "signal_log10_rms", "preactivation_log10_mean_square"


def _values(tables: StudyTables, column: str) -> Iterator[tuple[Cell, pd.Series[float]]]:
    """Yield every network with a statistic by layer at initialization."""
    rows = at_start(recorded(tables.layers, column))
    by_cell = dict(iter(rows.groupby("cell", sort=False)))
    for cell in tables.study.cells:
        if cell.id in by_cell:
            yield cell, by_cell[cell.id].set_index("layer")[column].sort_index()


def _first(layers: pd.Index[int], backward: bool) -> int:
    """Return the layer at which a loss begins in the direction of propagation; 0 for none."""
    return int(layers.max() if backward else layers.min()) if len(layers) else 0


def first_lost(tables: StudyTables) -> pd.DataFrame:
    """Return a row per network: where signals and pre-activations are lost first, and prediction.

    Lost is what is 0 in all examples and units of a layer, or not finite in one of them.
    """
    lengths = {cell.id: values for cell, values in _values(tables, LENGTH)}
    found = []
    for cell, signal in _values(tables, SIGNAL):
        length, predicted = lengths[cell.id], lost_layers(cell)
        found.append(
            {
                "cell": cell,
                "seed": cell.seed,
                "activation": cell.activation.label,
                "initializer": cell.initializer.label,
                "precision": cell.precision,
                "loss_scale": cell.loss_scale.label,
                "scale": float(LOSS_SCALES.parameters_of(cell.loss_scale).get("factor", 1.0)),
                "signal_zero": _first(signal.index[np.isneginf(signal)], backward=True),
                "signal_infinite": _first(
                    signal.index[~np.isfinite(signal) & ~np.isneginf(signal)], backward=True
                ),
                "length_zero": _first(length.index[np.isneginf(length)], backward=False),
                "length_infinite": _first(
                    length.index[~np.isfinite(length) & ~np.isneginf(length)], backward=False
                ),
                "predicted": predicted,
            }
        )
    return pd.DataFrame(need(found, "networks at initialization"))


def _where(event: str, activation: str) -> Callable[[StudyTables], Iterator[Evidence]]:
    """Return the measure of the layer of an event in float16, where it is predicted."""

    def measure(tables: StudyTables) -> Iterator[Evidence]:
        networks = first_lost(tables)
        chosen = networks[
            (networks["activation"] == activation) & (networks["precision"] == "float16")
        ]
        for (initializer, scale), rows in chosen.groupby(["initializer", "loss_scale"], sort=False):
            predicted = rows["predicted"].iloc[0]
            if predicted is not None and getattr(predicted, event):
                case = Case(
                    f"{activation}, {initializer}, loss scale {rows['scale'].iloc[0]:,.0f}",
                    activation=activation,
                    initializer=initializer,
                    loss_scale=scale,
                )
                yield from_seeds(case, rows[event], getattr(predicted, event))

    return measure


def _layers_per_decade(tables: StudyTables) -> Iterator[Evidence]:
    """Fit, seed by seed, the layer of the first zero over log10 of the loss scale."""
    networks = first_lost(tables)
    chosen = networks[
        (networks["activation"] == "tanh")
        & (networks["precision"] == "float16")
        & (networks["signal_infinite"] == 0)
    ]
    slopes = [
        -estimates.slope(np.log10(rows["scale"]), rows["signal_zero"])
        for _, rows in chosen.groupby("seed", sort=False)
        if rows["scale"].nunique() > 1
    ]
    # In linear layers, as small pre-activations make of tanh, one is worth sqrt(0.1).
    yield from_seeds(Case(activation="tanh", precision="float16"), slopes, 2.0)


def _kept(tables: StudyTables) -> Iterator[Evidence]:
    """Count networks of 8 exponent bits that lose a signal exactly where float32 does."""
    networks = first_lost(tables)
    plain = networks[networks["loss_scale"] == "none"]
    short, long = (plain[plain["precision"] == name] for name in ("bfloat16", "float32"))
    twins = short["cell"].map(lambda cell: replace(cell, precision="float32"))
    both = short.assign(cell=twins).merge(long, on="cell", suffixes=("", "_long"))
    events = ["signal_zero", "signal_infinite", "length_zero", "length_infinite"]
    others = both[[f"{event}_long" for event in events]]
    both["same"] = (both[events].to_numpy() == others.to_numpy()).all(axis=1)
    for (activation, initializer), rows in both.groupby(["activation", "initializer"], sort=False):
        case = Case(activation=activation, initializer=initializer)
        yield from_count(case, rows["same"], rows["seed"])


def _not_saved(tables: StudyTables) -> Iterator[Evidence]:
    """Count ReLU networks whose first signal is lost in float16 with a loss scale."""
    networks = first_lost(tables)
    chosen = networks[(networks["activation"] == "relu") & (networks["precision"] == "float16")]
    scaled = chosen[chosen["scale"] > 1]
    for initializer, rows in scaled.groupby("initializer", sort=False):
        lost = (rows["signal_zero"] > 0) | (rows["signal_infinite"] > 0)
        yield from_count(Case(activation="relu", initializer=initializer), lost, rows["seed"])


def numbers(tables: StudyTables) -> dict[str, float]:
    """Compute the layers that the prose names: medians over seeds."""
    networks = first_lost(tables)
    tanh = networks[(networks["activation"] == "tanh") & (networks["precision"] == "float16")]
    by_scale = tanh.groupby("scale")["signal_zero"].median()
    relu = networks[(networks["activation"] == "relu") & (networks["precision"] == "float16")]
    return {
        "unscaled_zero": float(by_scale.get(1.0, np.nan)),
        "scaled_zero": float(by_scale.get(32768.0, np.nan)),
        "forward_zero": float(relu.loc[relu["length_zero"] > 0, "length_zero"].median()),
        "forward_infinite": float(
            relu.loc[relu["length_infinite"] > 0, "length_infinite"].median()
        ),
    }


# Fixed before the first measurement: one layer is worth about half a decade, and what is left of a
# signal below the smallest number is gone within a decade.
TOLERANCE = Within(absolute=2.0)
CLAIMS = [
    Claim(
        id="signal-is-zero-where-predicted",
        statement=(
            "In float16 a vanishing signal becomes exactly 0 in the layer in which its predicted "
            "size, times the loss scale over the batch size, falls below half the smallest number."
        ),
        source=SCALING,
        formula="first layer, from the output, with dC/dz = 0 in all examples and units",
        unit="layer",
        criterion=TOLERANCE,
        measure=_where("signal_zero", "tanh"),
    ),
    Claim(
        id="scale-saves-layers",
        statement=(
            "A loss scale saves as many layers as the signal has decades per layer in it: every "
            "factor of ten keeps the signal for two more layers."
        ),
        source=SCALING,
        formula="slope of the first layer that is 0 over log10 of the loss scale",
        unit="layers per decade",
        criterion=Within(relative=0.15),
        measure=_layers_per_decade,
    ),
    Claim(
        id="signal-is-infinite-where-predicted",
        statement=(
            "A loss scale that makes the signal at the output larger than 65,504 makes it infinite "
            "there: no scale holds a range that is wider than the format's."
        ),
        source=SCALING,
        formula="first layer, from the output, with an infinite dC/dz",
        unit="layer",
        criterion=TOLERANCE,
        measure=_where("signal_infinite", "tanh"),
    ),
    Claim(
        id="forward-is-zero-where-predicted",
        statement=(
            "Pre-activations of vanishing ReLU networks become exactly 0 in float16 where their "
            "predicted size leaves the format, whatever the loss scale."
        ),
        source=SCALING,
        formula="first layer with z = 0 in all examples and units",
        unit="layer",
        criterion=TOLERANCE,
        measure=_where("length_zero", "relu"),
    ),
    Claim(
        id="forward-is-infinite-where-predicted",
        statement=(
            "Pre-activations of exploding ReLU networks become infinite in float16 where their "
            "predicted size leaves the format, whatever the loss scale."
        ),
        source=SCALING,
        formula="first layer with an infinite z",
        unit="layer",
        criterion=TOLERANCE,
        measure=_where("length_infinite", "relu"),
    ),
    Claim(
        id="scale-does-not-save-forward",
        statement="Where the pass forward leaves float16, a loss scale does not save the gradient.",
        source=SCALING,
        formula="fraction of seeds whose signal is 0 or not finite in a layer, at S = 32,768",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_not_saved,
    ),
    Claim(
        id="bfloat16-has-the-range-of-float32",
        statement="bfloat16 loses signals and pre-activations in no other layer than float32 does.",
        source="kalamkar2019: section 2",
        formula="fraction of seeds that lose nothing, or the same in the same layers",
        unit="of seeds",
        criterion=Above(0.5),
        measure=_kept,
    ),
]
