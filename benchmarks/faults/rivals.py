"""Rules that others publish, on the tables of a monitor.

AUTOTRAINER (Zhang et al., ICSE 2021; github.com/shiningrain/AUTOTRAINER, ``utils/monitor.py``)
compares gradients of the kernels: vanishing where the norm of the first over the last is below 1e-3
and the first below 1e-4, exploding above 70 or where something is not finite, dying ReLU where 70 %
of all entries of gradients are 0. Its program judges so only networks whose accuracy stays below
0.7 or never rises by 0.01 between epochs; both forms are offered.

DeepDiagnosis (Wardat et al., ICSE 2022; github.com/DeepDiagnosis/ICSE2022, its ``callbacks.py``)
has symptoms, of which these can be told from the tables: an activation function of the output that
misses the loss or the targets; NaN or infinity; rectifiers 70 % of whose outputs are 0 at the end;
tanh and sigmoid half of whose inputs are beyond 5; gradients whose mean magnitude is below 1e-7;
loss, and accuracy, that are constant over 5 and 20 epochs. The root mean square stands in for the
mean magnitude, and the tails of `gradprop.components.activations` for 5. Constant outputs,
weights and gradients of a layer are left out: the tables lack their means to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradprop.analysis.thresholds import PRESETS
from gradprop.inspection.runs import Run

BOUNDS = PRESETS["autotrainer"]
SATISFIED, RISE = 0.7, 0.01
DEAD, SATURATED, VANISHED = 0.7, 0.5, 1e-7
CONSTANT_LOSS, CONSTANT_ACCURACY = 5, 20


def autotrainer(run: Run, outcome: dict[str, Any]) -> tuple[str, ...]:
    """Return the first issue that the rules of gradients find, if any, without a condition."""
    layers = run.layers[run.layers["layer"].isin(run.judged["layer"])]
    bad = ("gradient_nonfinite_fraction", "weight_nonfinite_fraction")
    if any((layers[name] > 0).any() for name in bad) or not np.isfinite(outcome["loss"]).all():
        return ("exploding",)
    entries = run.judged.set_index("layer")[["fan_in", "fan_out"]].prod(axis=1)
    found: set[str] = set()
    for _, rows in layers.sort_values("layer").groupby("step"):
        norms = 10 ** rows["gradient_log10_norm"].to_numpy(float)
        sizes = rows["layer"].map(entries).to_numpy(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = norms[0] / norms[-1]
        if np.dot(rows["gradient_zero_fraction"], sizes) / sizes.sum() >= BOUNDS.zero_gradients:
            found.add("dead")
        if ratio > BOUNDS.exploding:
            found.add("exploding")
        if ratio < BOUNDS.vanishing and norms[0] < BOUNDS.first_layer:
            found.add("vanishing")
    return tuple(kind for kind in ("dead", "exploding", "vanishing") if kind in found)[:1]


def autotrainer_gated(run: Run, outcome: dict[str, Any]) -> tuple[str, ...]:
    """Return the same of networks that do not converge; a regression has no accuracy."""
    accuracy: Sequence[float] = outcome["accuracy"]
    if not accuracy:
        return autotrainer(run, outcome)
    rises = np.diff(accuracy).max(initial=0.0) >= RISE
    found = autotrainer(run, outcome)
    if max(accuracy) >= SATISFIED and rises:
        return found if not np.isfinite(outcome["loss"]).all() else ()
    return found or (() if rises else ("not converging",))


def deepdiagnosis(run: Run, outcome: dict[str, Any]) -> tuple[str, ...]:
    """Return the first symptom that is seen, in the order in which its program looks."""
    layers = run.layers[run.layers["layer"].isin(run.judged["layer"])]
    last = layers[layers["step"] == layers["step"].max()].sort_values("layer")
    losses, accuracy = outcome["loss"], outcome["accuracy"]
    gradients = layers["gradient_log10_rms"]
    symptoms = {
        "wrong output": _out_of_range(run),
        "non-finite": bool((layers.filter(like="nonfinite_fraction") > 0).to_numpy().any())
        or not np.isfinite(losses).all(),
        "dead": _any_tails(last.iloc[:-1], ("relu",), DEAD),
        "saturated": _any_tails(layers, ("sigmoid", "tanh"), SATURATED),
        "loss not decreasing": _is_constant(losses, CONSTANT_LOSS),
        "accuracy not increasing": _is_constant(accuracy, CONSTANT_ACCURACY),
        "vanishing": bool((gradients < math.log10(VANISHED)).any()),
    }
    return tuple(kind for kind, seen in symptoms.items() if seen)[:1]


def _out_of_range(run: Run) -> bool:
    output = str(run.judged["activation"].iloc[-1])
    first = run.steps.sort_values("step").iloc[0]
    if first["loss"] == "cross_entropy":
        return output in ("relu", "linear")
    low, high = {"sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf)}.get(
        output, (-math.inf, math.inf)
    )
    lowest = first["target_mean"] - first["target_std"]
    return bool(lowest < low or first["target_largest"] > high)


def _any_tails(rows: pd.DataFrame, functions: tuple[str, ...], bound: float) -> bool:
    chosen = rows[rows["activation"].isin(functions)]
    return bool((chosen["saturated_fraction"] >= bound).any())


def _is_constant(values: Sequence[float], count: int) -> bool:
    """Tell whether numbers of consecutive epochs, in blocks of `count`, are equal."""
    blocks = [values[i : i + count] for i in range(0, len(values) - count + 1, count)]
    return any(len(set(block)) == 1 for block in blocks)


RIVALS = {
    "AUTOTRAINER's rules": autotrainer,
    "AUTOTRAINER's rules, if it does not converge": autotrainer_gated,
    "DeepDiagnosis's symptoms": deepdiagnosis,
}
