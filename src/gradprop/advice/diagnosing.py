"""Judging one network by its measured tables: its diagnosis, and the alarms that it sets off."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop.advice.findings import HARMLESS, HEALTHY, KINDS, NOT_JUDGED, Diagnosis, Limits
from gradprop.advice.rules import RULES, Case, forgetting
from gradprop.analysis.alarms import ALARMS
from gradprop.analysis.diagnosis import GRADIENT, SIGNAL
from gradprop.components import activations

__all__ = ["alarms", "diagnose"]


def diagnose(
    layers: pd.DataFrame,
    steps: pd.DataFrame,
    network: pd.DataFrame,
    loss: str = "cross_entropy",
    guessing_loss: float | None = None,
    limits: Limits | None = None,
) -> Diagnosis:
    """Judge one network by its tables.

    Parameters
    ----------
    layers, steps, network : DataFrame
        See `gradprop.advice.rules`.
    loss : {'cross_entropy', 'mean_squared_error', 'other'}, optional
        What is minimized. Cross-entropy is compared with the logarithm of the number of classes,
        of a squared error the scale of the targets is told.
    guessing_loss : float, optional
        Loss of guessing, if it is another: of a squared error the variance of the targets.
    limits : Limits, optional
        Bounds.

    Returns
    -------
    Diagnosis

    Raises
    ------
    GradpropError
        If a table lacks a column or rows, or holds several networks.

    Examples
    --------
    >>> layers = pd.DataFrame({"step": 0, "layer": [1, 2, 3]})
    >>> layers["signal_log10_rms"] = [-5.0, -2.0, 0.0]
    >>> steps = pd.DataFrame({"step": [0], "train_loss": [2.3]})
    >>> network = pd.DataFrame({"layer": [1, 2, 3], "name": ["a", "b", "c"], "fan_in": 64,
    ...     "fan_out": [64, 64, 10], "activation": ["tanh", "tanh", "linear"]})
    >>> diagnose(layers, steps, network)
    vanishing
    * vanishing (network, step 0): |dC/dz| shrinks by 3 decades towards the inputs; the bound is 2
    * vanishing (layer 1, step 0): |dC/dz| is 3 decades below the last hidden layer; the bound is 2
    """
    case = Case.of(layers, steps, network, loss, guessing_loss, limits or Limits())
    order = list(KINDS)
    every = [finding for rule in RULES for finding in rule(case)]
    if all(finding.kind in HARMLESS for finding in every):
        every += forgetting(case)
    seen = {kind: min((f.step for f in every if f.kind == kind), default=0) for kind in order}
    if case.is_flat:  # the few units that are not flat may let gradients grow, and others learn
        order.remove("saturated")
        order.insert(order.index("exploding"), "saturated")
    found = sorted(
        every,
        key=lambda f: (
            (f.kind in HARMLESS, seen[f.kind], order.index(f.kind)),
            (f.step, -1 if f.layer is None else f.layer),
        ),
    )
    named = network.sort_values("layer")[["layer", "name"]].reset_index(drop=True)
    first = {f.layer: f.kind for f in reversed(found)}
    kinds = [first.get(layer, HEALTHY) for layer in named["layer"]]
    kind = found[0].kind if found else HEALTHY
    is_bare = case.rows[[SIGNAL, GRADIENT, "train_loss"]].isna().all(axis=None)
    learns_unseen = GRADIENT in case.columns and case.rows[GRADIENT].isna().all()
    if not found and (is_bare or learns_unseen):
        kind, kinds = NOT_JUDGED, [NOT_JUDGED] * len(named)
    return Diagnosis(kind, tuple(found), named.assign(diagnosis=kinds))


def alarms(
    layers: pd.DataFrame,
    steps: pd.DataFrame,
    network: pd.DataFrame,
    loss: str = "cross_entropy",
    guessing_loss: float | None = None,
    limits: Limits | None = None,
) -> pd.DataFrame:
    """Find where the rules of thumb of `gradprop.analysis.alarms` were broken first.

    Parameters
    ----------
    layers, steps, network, loss, guessing_loss, limits
        As of `diagnose`.

    Returns
    -------
    DataFrame
        One row per alarm that fired: ``alarm``, its ``meaning``, the first ``step`` and the lowest
        ``layer`` there, the ``value`` (`gradprop.analysis.alarms.fired`), and in how many
        ``layers`` and at how many ``probes`` it fired at all.

    Examples
    --------
    >>> layers = pd.DataFrame({"step": 0, "layer": [1, 2], "log10_update_ratio": [-5.0, -3.0]})
    >>> steps = pd.DataFrame({"step": [0], "train_loss": [2.3]})
    >>> network = pd.DataFrame({"layer": [1, 2], "name": ["a", "b"], "fan_in": 4, "fan_out": 4,
    ...     "activation": "relu"})
    >>> alarms(layers, steps, network)[["alarm", "step", "layer", "value"]].to_dict("records")
    [{'alarm': 'small_updates', 'step': 0, 'layer': 1, 'value': -5.0}]
    """
    case = Case.of(layers, steps, network, loss, guessing_loss, limits or Limits())
    known = case.rows["activation"].isin(list(activations.ACTIVATIONS))
    rows = case.rows.assign(
        place=case.rows["layer"],
        layer=case.rows["layer"].rank(method="dense").astype(int),
        activation=case.rows["activation"].where(known, "linear"),
        epochs=1,
        learning_rate=1.0,
    )
    found = []
    for name, alarm in ALARMS.items():
        bound = getattr(case.limits, name)
        values = alarm.value(rows).astype(np.float64)
        fired = rows.assign(value=values)[alarm.fires(values, bound)]
        if len(fired):
            first = fired.sort_values(["step", "place"], kind="stable").iloc[0]
            numbers = (fired["place"].nunique(), fired["step"].nunique())
            place = (int(first["step"]), int(first["place"]), float(first["value"]))
            found.append((name, alarm.text(bound), *place, *numbers))
    columns = ["alarm", "meaning", "step", "layer", "value", "layers", "probes"]
    return pd.DataFrame(found, columns=columns)
