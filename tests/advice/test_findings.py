"""Findings, causes and remedies: tables made by hand, and networks of the stacked engine."""

from __future__ import annotations

import dataclasses
import doctest
import math
import re
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop import theory
from gradprop.advice import (
    Finding,
    Limits,
    advice,
    advise,
    causes,
    diagnose,
    diagnosing,
    findings,
    remedies,
)
from gradprop.components import datasets
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.initializers import layer_shapes
from gradprop.errors import GradpropError
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component
from tests.training.test_diagnoses import tables_of

DEPTH, WIDTH, CLASSES = 6, 64, 10


def network_of(activation: str = "tanh", depth: int = DEPTH, width: int = WIDTH) -> pd.DataFrame:
    rows = [(f"dense_{i}", width, width, activation) for i in range(1, depth + 1)]
    rows.append(("outputs", width, CLASSES, "linear"))
    table = pd.DataFrame(rows, columns=["name", "fan_in", "fan_out", "activation"])
    return table.assign(layer=range(1, depth + 2))


def tables(
    activation: str = "tanh", losses: tuple[float, ...] = (2.3, 1.0), **columns: Any
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return tables of a healthy network, with other values of some columns, one per layer."""
    network = network_of(activation)
    norm = 0.5 * np.log10(network["fan_out"].to_numpy(float))  # sigma_w2 = 1
    layers = pd.concat(
        [
            pd.DataFrame(
                {
                    "layer": network["layer"],
                    "signal_log10_rms": -2.0,
                    "gradient_log10_norm": -1.0,
                    "preactivation_log10_mean_square": 0.0,
                    "preactivation_mean": 0.001,
                    "activation_mean": 0.01,
                    "activation_std": 0.6,
                    "weight_log10_norm": norm,
                    "log10_update_ratio": -3.0,
                    "dead_fraction": 0.0,
                    "saturated_fraction": 0.0,
                    "gradient_zero_fraction": 0.0,
                    **columns,
                }
            ).assign(step=step)
            for step in range(len(losses))
        ],
        ignore_index=True,
    )
    steps = pd.DataFrame({"step": range(len(losses)), "train_loss": losses})
    return layers, steps, network


HALF = 0.5 * math.log10(64)
CASES: dict[str, tuple[dict[str, Any], str, int | None, float]] = {
    "healthy": ({}, "healthy", None, math.nan),
    "backward": ({"signal_log10_rms": [-6, -5, -4, -3, -2, -1, 0]}, "vanishing", None, -5.0),
    "less than two decades": (
        {"signal_log10_rms": [-1.9, -1.6, -1.2, -0.8, -0.4, 0, 0]},
        "healthy", None, math.nan,
    ),
    "growing": ({"signal_log10_rms": [4, 3, 2, 1, 0, -1, 0]}, "exploding", None, 5.0),
    "a length that the loss feels": (
        {"losses": (40.0, 9.0), "preactivation_log10_mean_square": [0, 1, 2, 3, 4, 5, 5]},
        "exploding", None, 5.0,
    ),
    "a length that it does not": (
        {"preactivation_log10_mean_square": [0, 1, 2, 3, 4, 5, 0]}, "healthy", None, math.nan,
    ),
    "no gradient": (
        {"activation": "relu", "signal_log10_rms": [-np.inf] * 3 + [-2.0] * 4}, "dead", 3, 0.0,
    ),
    "a way round a branch of zeros": (
        {"activation": "relu", "signal_log10_rms": [-2.0, -np.inf, -np.inf, *[-2.0] * 4]},
        "healthy", None, math.nan,
    ),
    "no gradient, by underflow": (
        {"signal_log10_rms": [-np.inf, -np.inf, -36, -30, -24, -18, -16]},
        "vanishing", None, -30.0,
    ),
    "silent units": (
        {"activation": "relu", "dead_fraction": [0, 0.5, 0.95, 0, 0, 0, 0]}, "dead", 3, 0.95,
    ),
    "half of them, by likeness": (
        {"activation": "relu", "dead_fraction": [0.5, 0.6, 0.6, 0.75, 0.6, 0.6, 1]},
        "healthy", None, math.nan,
    ),
    "flat units": ({"saturated_fraction": [0, 0.8, 0.2, 0, 0, 0, 1]}, "saturated", 2, 0.8),
    "a rectifier is flat on one side": (
        {"activation": "relu", "saturated_fraction": 0.6}, "healthy", None, math.nan,
    ),
    "equal weights": (
        {"preactivation_mean": [0.3, *[0.01 * 8] * 5, 0.3]}, "symmetric", 2, 1.0,
    ),
    "weights of zero": (
        {"weight_log10_norm": [HALF, HALF, -np.inf, HALF, HALF, HALF, 0.5],
         "signal_log10_rms": [-np.inf] * 2 + [-2.0] * 5}, "symmetric", 3, 1.0,
    ),
    "an output layer of zeros moves": (
        {"weight_log10_norm": [HALF] * 6 + [-np.inf], "signal_log10_rms": [-np.inf] * 6 + [-1.0]},
        "healthy", None, math.nan,
    ),
    "large inputs": (
        {"preactivation_log10_mean_square": [4.0, *[0.0] * 6], "losses": (2.3, 2.2)},
        "input not scaled", 1, 100.0,
    ),
    "small inputs": (
        {"preactivation_log10_mean_square": [-4.0, *[0.0] * 6], "losses": (2.3, 2.2)},
        "input not scaled", 1, 0.01,
    ),
    "large inputs of a network that learns well": (
        {"preactivation_log10_mean_square": [4.0, *[0.0] * 6]}, "healthy", None, math.nan,
    ),
    "a loss that was large for a while": (
        {"losses": (2.3, 230.0, 2.3)}, "unstable", None, 100.0,
    ),
    "a loss that was large for a while, and made up for": (
        {"losses": (2.3, 230.0, 1.9)}, "healthy", None, math.nan,
    ),
    "large steps": (
        {"log10_update_ratio": -0.5, "losses": (2.3, 2.3)}, "unstable", None, -0.5,
    ),
    "large steps that learn": ({"log10_update_ratio": -0.5}, "healthy", None, math.nan),
    "lengths that shrink a little, and nothing learned": (
        {"losses": (2.3, 2.29), "preactivation_log10_mean_square": [0, -1, -1, -2, -3, -3, -3]},
        "vanishing", None, -22 / 35 * 5,
    ),
    "lengths that shrink a little": (
        {"preactivation_log10_mean_square": [0, -1, -1, -2, -3, -3, -3]},
        "healthy", None, math.nan,
    ),
    "a rising loss": ({"losses": (2.3, 2.0, 23.0)}, "unstable", None, 10.0),
    "small steps": ({"log10_update_ratio": -5.5}, "not learning", None, -5.5),
    "one layer with small steps": (
        {"log10_update_ratio": [-5.5, *[-3.0] * 6]}, "healthy", None, math.nan,
    ),
    "a training that goes on from another": (
        {"losses": (0.01, 0.08)}, "healthy", None, math.nan,
    ),
    "a first loss": ({"losses": (23.0, 2.3)}, "initial loss", None, 23.0 / math.log(10)),
    "a first loss that is made up for": ({"losses": (23.0, 2.0)}, "healthy", None, math.nan),
    "forward": (
        {"preactivation_log10_mean_square": [0, 0, np.inf, np.nan, np.nan, np.nan, np.nan],
         "signal_log10_rms": np.nan, "losses": (math.nan, math.nan)}, "non-finite", 3, math.nan,
    ),
    "backward pass": (
        {"signal_log10_rms": [np.nan, np.nan, np.inf, 5, 5, 5, 0]}, "non-finite", 3, math.nan,
    ),
    "weights": (
        {"weight_log10_norm": [0, np.nan, 0, 0, 0, 0, 0],
         "preactivation_log10_mean_square": [0, *[np.nan] * 6]}, "non-finite", 2, math.nan,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("flat", "kind"), [([0.9] * 6 + [0], "saturated"), ([0] * 4 + [0.9, 0.9, 0], "exploding")]
)
def test_flat_units_stand_before_what_the_others_let_grow(flat: list[float], kind: str) -> None:
    growing = [4, 3, 2, 1, 0, -1, 0]
    found = diagnose(*tables(signal_log10_rms=growing, saturated_fraction=flat))
    assert found.kind == kind
    assert {f.kind for f in found.findings} == {"saturated", "exploding"}
    relu = tables("relu", signal_log10_rms=growing, saturated_fraction=flat)
    assert diagnose(*relu).kind == "exploding"  # whose units are flat on one side


@pytest.mark.parametrize("case", CASES)
def test_every_finding_is_a_clause(case: str) -> None:
    for group in diagnose(*tables(**CASES[case][0])).groups:
        found = group.worst
        assert found.says != Finding.says
        assert not re.search(r"[{}]|, *$|\bis (1|0), |decades of", found.clause), found.clause
        assert found.clause in str(group)


@pytest.mark.parametrize("case", CASES)
def test_findings_by_hand(case: str) -> None:
    changes, kind, layer, value = CASES[case]
    found = diagnose(*tables(**changes))
    assert found.kind == kind, found
    assert (kind == "healthy") == (not found.findings)
    if found.findings:
        first = found.findings[0]
        step = {"a rising loss": 2, "a loss that was large for a while": 1}.get(case, 0)
        assert (first.kind, first.layer, first.step) == (kind, layer, step)
        assert math.isnan(value) or first.value == pytest.approx(value)
        assert kind in repr(found)
        assert set(found.layers["diagnosis"]) <= {"healthy", *findings.KINDS}
        if layer:
            assert found.layers["diagnosis"][layer - 1] == kind


def test_what_ended_in_nan_is_named_by_its_cause() -> None:
    layers, steps, network = tables(losses=(2.3, math.nan, math.nan))
    after = layers["step"] > 0
    rising = pd.Series(layers["layer"].map(lambda layer: 8.0 - layer)).where(~after)
    found = diagnose(layers.assign(signal_log10_rms=rising), steps, network)
    assert [found.kind, found.findings[-1].kind] == ["exploding", "non-finite"]
    assert (found.findings[-1].step, found.findings[-1].layer) == (1, 7)  # the loss, at the output
    silent = layers.assign(dead_fraction=after.astype(float), saturated_fraction=1.0 * after)
    hidden = network["layer"] < network["layer"].max()
    rectified = network.assign(activation=network["activation"].mask(hidden, "relu"))
    (only,) = diagnose(silent, steps, rectified).findings
    assert (only.kind, only.step) == ("non-finite", 1)


def test_a_gradient_that_arrives_later_was_not_lost() -> None:
    layers, steps, network = tables("relu", signal_log10_rms=[-np.inf] * 3 + [-2.0] * 4)
    assert diagnose(layers, steps, network).kind == "dead"
    arrives = layers["signal_log10_rms"].mask(layers["step"] == 1, -2.0)
    assert diagnose(layers.assign(signal_log10_rms=arrives), steps, network).kind == "healthy"


@pytest.mark.parametrize(("last", "constant", "kind"), [
    (0.1, 0.3, "healthy"), (0.299, 0.3, "dead"), (0.299, math.nan, "healthy"),
])  # fmt: skip
def test_who_knows_the_frequent_class_alone_has_not_learned(
    last: float, constant: float, kind: str
) -> None:
    layers, steps, network = tables("relu", losses=(2.3, last))
    late = layers["step"] == 1
    layers.loc[late & (layers["layer"] == 3), "dead_fraction"] = 0.99
    steps = steps.assign(guessing_loss=math.log(CLASSES), constant_loss=constant)
    assert diagnose(layers, steps, network).kind == kind


def test_inputs_that_are_mostly_zero_are_not_small() -> None:
    layers, steps, network = tables(losses=(2.3, 2.2))
    small = steps.assign(input_mean=0.003, input_std=0.058, input_largest=0.2)
    assert diagnose(layers, small, network).kind == "input not scaled"
    rare = steps.assign(input_mean=0.003, input_std=0.058, input_largest=1.0)
    assert diagnose(layers, rare, network).kind == "healthy"


def test_targets_of_other_errors_are_judged_by_their_scale() -> None:
    layers, steps, network = tables(losses=(5000.0, 4900.0))
    steps = steps.assign(target_mean=5000.0, target_std=300.0)
    found = diagnose(layers, steps.assign(is_error=True), network, loss="other")
    assert found.kind == "target not scaled" and found.findings[0].value > 5000
    assert diagnose(layers, steps.assign(is_error=False), network, loss="other").kind == "healthy"


@pytest.mark.parametrize(("least", "largest", "words"), [
    (1.0, 2.0, "targets of 2, above 1"), (-1.0, 1.0, "targets of -1, below 0"), (0.0, 1.0, ""),
])  # fmt: skip
def test_probabilities_lie_between_zero_and_one(least: float, largest: float, words: str) -> None:
    layers, steps, network = tables()
    steps = steps.assign(target_least=least, target_largest=largest)
    found = diagnose(layers, steps, network)
    assert found.kind == ("wrong output" if words else "healthy")
    assert words in str(found)
    if words:
        (remedy, *_) = advice(found.findings, layers, network, steps)
        y = np.array([least, largest])
        scope = {"y": y}
        exec(remedy.code, scope)
        assert scope["y"].tolist() == [0, 1]


def test_a_network_without_loss_and_gradients_is_not_judged() -> None:
    layers, steps, network = tables(losses=(math.nan, math.nan))
    bare = layers[["step", "layer", "weight_log10_norm"]]
    unknown: dict[str, Any] = {
        f"{name}_nonfinite_fraction": math.nan for name in ("signal", "gradient")
    }
    found = diagnose(bare.assign(**unknown), steps, network, loss="other")
    assert found.kind == "not judged" and "not judged" in found.sentence
    assert set(found.layers["diagnosis"]) == {"not judged"}
    layers, steps, network = tables(gradient_log10_norm=math.nan, **unknown)
    assert diagnose(layers, steps, network).kind == "not judged"


def test_the_layers_that_lost_the_signal_are_named() -> None:
    layers, steps, network = tables(signal_log10_rms=[-6, -5, -4, -3, -2, -1, 0])
    found = diagnose(layers, steps, network)
    lost = ["vanishing"] * 3 + ["healthy"] * 4  # -3 and -4 are three and two decades off -1
    assert found.layers["diagnosis"].tolist() == lost
    strict = diagnose(layers, steps, network, limits=Limits(vanishing=10**-1.5))
    assert strict.layers["diagnosis"].tolist() == ["vanishing"] * 4 + ["healthy"] * 3


def test_what_was_not_measured_is_not_judged() -> None:
    layers, steps, network = tables()
    bare = layers[["step", "layer", "signal_log10_rms"]]
    assert diagnose(bare, steps, network).kind == "healthy"
    unknown = layers.assign(
        signal_log10_rms=np.nan, signal_nonfinite_fraction=np.nan, gradient_nonfinite_fraction=0.0
    )
    assert diagnose(unknown, steps, network.assign(activation="mine")).kind == "healthy"


def test_targets_are_told_from_a_squared_error() -> None:
    layers, _, network = tables()
    steps = pd.DataFrame({"step": [0, 1], "train_loss": [40_001.0, 30_000.0]})
    found = diagnose(layers, steps, network, loss="mean_squared_error")
    assert found.kind == "target not scaled"
    assert found.findings[0].value == pytest.approx(200)
    scaled = steps.assign(train_loss=[2.0, 1.0])
    assert diagnose(layers, scaled, network, loss="mean_squared_error").kind == "healthy"


@pytest.mark.parametrize(
    ("losses", "penalties", "bound"),
    [
        ((2.3,), (270.0,), 100.0),  # one look, and no step
        ((2.3,), (90.0,), None),  # of such networks some learn
        ((2.3, 2.3), (270.0, 60.0), 100.0),
        ((2.3, 2.3), (5.0, 0.1), 1.0),  # the weights followed the penalty alone
        ((2.3, 2.3), (5.0, 2.0), None),
        ((2.3, 2.3), (1.0, 0.01), None),  # smaller than the loss of the data
        ((2.3, 2.3), (270.0, 240.0), None),  # it changes as little as the weights do
        ((2.3, 1.0), (270.0, 1.0), None),  # learns in spite of it
    ],
)
def test_a_penalty_is_judged_by_what_it_left_to_learn(
    losses: tuple[float, ...], penalties: tuple[float, ...], bound: float | None
) -> None:
    layers, steps, network = tables(losses=losses)
    found = diagnose(layers, steps.assign(penalty=penalties), network)
    assert found.kind == ("penalty too strong" if bound else "healthy")
    assert [f.threshold for f in found.findings] == ([bound] if bound else [])
    assert [f.value for f in found.findings] == ([penalties[0] / losses[0]] if bound else [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: (t[0].drop(columns="layer"), t[1], t[2]), "layers lacks the column layer"),
        (lambda t: (t[0], t[1][:0], t[2]), "steps has no rows"),
        (lambda t: (pd.concat([t[0], t[0]]), t[1], t[2]), "several networks"),
        (lambda t: (*t, "hinge"), "loss: 'hinge' is not allowed; allowed: cross_entropy"),
    ],
)
def test_tables_that_are_none_are_told(change: Any, words: str) -> None:
    with pytest.raises(GradpropError, match=words):
        diagnose(*change(tables()))


def network_table(cell: Cell) -> pd.DataFrame:
    data = datasets.generate(cell.dataset)
    shapes = layer_shapes(data.x_train.shape[1], cell, data.outputs)
    names = [cell.activation.label] * cell.depth + ["linear"]
    rows = [(i, f"d{i}", *s, n) for i, (s, n) in enumerate(zip(shapes, names, strict=True), 1)]
    return pd.DataFrame(rows, columns=["layer", "name", "fan_in", "fan_out", "activation"])


def judged(found: StudyTables) -> list[findings.Diagnosis]:
    return [
        diagnose(of(found.layers, c), of(found.steps, c), network_table(c))
        for c in found.study.cells
    ]


def of(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    return table[table["cell"] == cell.id]


def initial(*names: Component, **shared: Any) -> StudyTables:
    return tables_of(Component("digits"), *({"initializer": n} for n in names), **shared)


def constant(name: str, **parameters: float) -> Component:
    return Component(name, tuple(parameters.items()))


def test_networks_of_the_engine_at_initialization() -> None:
    names = [constant("constant", value=0.1), Component("zeros"), Component("he_normal")]
    names += [Component("normal"), constant("variance_scaling", scale=20.0)]
    found = judged(initial(*names, depth=10, width=64, activation=Component("relu")))
    kinds = [each.kind for each in found]
    assert kinds == ["symmetric", "symmetric", "healthy", "vanishing", "exploding"]
    (sigmoid,) = judged(
        initial(Component("glorot_uniform"), depth=10, width=64, activation=Component("sigmoid"))
    )
    assert sigmoid.kind == "vanishing"


def test_less_than_two_decades_can_ruin_a_network() -> None:
    """Weights N(0, 0.1^2), nine ReLU layers of 512: the signal keeps, and the loss does not."""
    tables_ = initial(
        constant("normal", stddev=0.1), depth=9, width=512, activation=Component("relu")
    )
    (found,) = judged(tables_)
    assert tables_.steps["train_loss"].iloc[0] > 30
    kinds = {finding.kind for finding in found.findings}
    assert found.kind == "exploding"
    assert "initial loss" in kinds
    rows = causes(tables_.layers, network_table(tables_.study.cells[0]))
    assert rows["sigma_w2"].to_numpy() == pytest.approx(512 * 0.01, rel=0.02)
    assert rows["chi_1"].to_numpy() == pytest.approx(2.56, rel=0.02)
    # a minibatch of one network at a finite width
    assert np.exp(np.log(rows["measured"]).mean()) == pytest.approx(2.56, rel=0.1)


def test_training_that_fails_by_its_steps() -> None:
    rates = [5.0, 1e-6, 0.05]
    found = judged(
        tables_of(
            Component("digits"),
            *({"learning_rate": rate} for rate in rates),
            initializer=Component("he_normal"), depth=4, width=32,
            activation=Component("relu"), epochs=2,
        )
    )  # fmt: skip
    assert found[0].kind in ("non-finite", "unstable")
    assert [each.kind for each in found[1:]] == ["not learning", "healthy"]


def test_the_weights_that_are_advised_mend_the_network() -> None:
    broken = initial(Component("normal"), depth=20, width=64, activation=Component("tanh"))
    cell = broken.study.cells[0]
    (found,) = judged(broken)
    assert found.kind == "vanishing"
    given = advice(found.findings, broken.layers, network_table(cell))
    (weights,) = [r for r in given if r.change.startswith("Draw the weights")]
    best = advise("tanh", 20, 64).recommended
    assert weights.code == best.code
    assert f"{best.signal_decades:+.2g}" in weights.effect
    mended = initial(
        constant("variance_scaling", scale=best.sigma_w2),
        depth=20,
        width=64,
        activation=Component("tanh"),
    )
    (healthy,) = judged(mended)
    assert healthy.kind == "healthy"
    rows = mended.layers.set_index("layer")["signal_log10_rms"]
    measured = rows[1] - rows[20]
    assert abs(measured - best.signal_decades) < 4 * best.signal_sd


@pytest.mark.parametrize("kind", findings.KINDS)
def test_every_finding_has_a_remedy_that_is_code(kind: str) -> None:
    for activation in ("relu", "sigmoid", "mine"):
        layers, _, network = tables(activation)
        finding = Finding(kind, 0, None, -4.5 if kind == "not learning" else 30.0, 1.0, "x")
        given = advice([finding], layers.assign(log10_update_ratio=-4.5), network)
        assert given
        for remedy in given:
            compile(remedy.code, "remedy", "exec")
            assert remedy.kind == kind
            assert remedy.change.endswith(".")
            assert remedy.effect
    assert advice([], layers, network) == ()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_advice_on_what_was_measured_never_raises(activation: str) -> None:
    """Theory has no number for some functions, at some lengths; the network was measured."""
    layers, _, network = tables(activation, log10_update_ratio=-4.5)
    for kind in findings.KINDS:
        found = [Finding(kind, 0, layer, -4.5, 1.0, "x") for layer in (None, 2)]
        for remedy in advice(found, layers, network):
            compile(remedy.code, "remedy", "exec")
    for length in (-300.0, 0.0, 3.0, 6.0, 300.0, math.inf, math.nan):
        found_causes = causes(layers.assign(preactivation_log10_mean_square=length), network)
        assert np.isfinite(found_causes["chi_1"].astype(float)).all()
        assert (found_causes["needed"] > 0).all()


def test_what_a_network_has_is_not_advised() -> None:
    norm = 0.5 * np.log10(2 * np.array([*[WIDTH] * DEPTH, CLASSES]))  # sigma_w2 = 2
    layers, _, network = tables("relu", weight_log10_norm=norm)

    def changes(kind: str, first: dict[str, Any] | None = None, **columns: Any) -> str:
        finding = Finding(kind, 1, None, 30.0, 1.0, "x")
        steps = pd.DataFrame([first or {}])
        given = advice([finding], layers, network.assign(**columns), steps)
        return " ".join(remedy.change for remedy in given)

    assert "Draw" not in changes("exploding") + changes("dead") + changes("initial loss")
    assert "Draw" in changes("symmetric")  # equal weights may have that variance, too
    assert "Draw" in changes("exploding", activation="tanh")
    assert "Normalize" in changes("exploding") and "Add" in changes("exploding")
    assert "Normalize" not in changes("exploding", extra="normalization")
    assert "Add" not in changes("exploding", extra=["", "skip"] * 3 + [""])
    assert "Clip" in changes("unstable") and "Clip" not in changes("unstable", {"clips": True})
    for factor in (0.5, 1.2, 2.0):  # one layer of another variance, and all of another
        other = norm + 0.5 * np.log10(factor)
        for layer in (slice(None), 2):
            norms = norm.copy()
            norms[layer] = other[layer]
            layers = layers.assign(weight_log10_norm=[*norms] * 2)
            assert "Draw" in changes("exploding")
    layers = layers.assign(weight_log10_norm=[*norm[:-1], -np.inf] * 2)
    assert "weights 0" not in changes("initial loss")


@pytest.mark.parametrize("draw", ["he_normal", "he_uniform", "orthogonal"])
def test_weights_as_advised_are_told_from_others(draw: str) -> None:
    """Variances of random weights of few entries scatter; of one network in 50 at most."""
    finding = Finding("exploding", 0, None, 5.0, 2.0, "x")
    rng, missed = np.random.default_rng(0), 0
    for _ in range(50):
        shapes = [(7, 16), *[(16, 16)] * 5]
        norms = []
        for shape in shapes:
            if draw == "orthogonal":
                norms.append(0.5 * math.log10(2 * 16))
            else:
                uniform = rng.uniform(-math.sqrt(3), math.sqrt(3), shape)
                unit = rng.normal(size=shape) if draw == "he_normal" else uniform
                norms.append(math.log10(np.linalg.norm(unit * math.sqrt(2 / shape[0]))))
        layers, _, network = tables("relu", weight_log10_norm=[*norms, 0.5])
        network = network.assign(fan_in=[7, *[16] * 6], fan_out=[16] * 6 + [CLASSES])
        given = advice([finding], layers, network)
        missed += any("Draw" in remedy.change for remedy in given)
    assert missed <= 1


def test_biases_that_silence_units_are_advised_against_first() -> None:
    layers, _, network = tables("relu", bias_mean=-10.0, preactivation_std=0.8)
    finding = Finding("dead", 0, 1, 1.0, 0.8, "x")
    first, *others = advice([finding], layers, network)
    assert first.change == "Begin with biases of 0." and "-10" in first.effect
    assert 'bias_initializer="zeros"' in first.code and others
    for bias, spread in ((-0.1, 0.8), (10.0, 0.8), (math.nan, 0.8), (-10.0, 20.0)):
        other = layers.assign(bias_mean=bias, preactivation_std=spread)
        assert "biases" not in advice([finding], other, network)[0].change
    flat = Finding("saturated", 0, 1, 1.0, 0.5, "x")  # on either side
    assert "biases" in advice([flat], layers.assign(bias_mean=10.0), network)[0].change


def test_what_began_between_two_probes_is_said_so() -> None:
    layers, _, network = tables(losses=(2.3, 2.0, math.nan))
    layers["step"] *= 10
    steps = pd.DataFrame({"step": [0, 10, 20], "train_loss": [2.3, 2.0, math.nan]})
    bad = layers["weight_log10_norm"].mask(layers["step"] == 20)
    found = diagnose(layers.assign(weight_log10_norm=bad), steps, network)
    assert found.sentence == (
        "Non-finite: something is NaN or infinite, which began between step 10 and step 20 in "
        "layer 1 (dense_1)."
    )
    assert "(layer 1, between step 10 and step 20)" in repr(found)
    (at_once,) = diagnose(layers, steps, network).findings  # the weights were right until then
    assert (at_once.step, at_once.after) == (20, None)


@pytest.mark.parametrize("name", ["input", "target"])
def test_data_that_are_not_finite_are_the_origin(name: str) -> None:
    layers, steps, network = tables(losses=(math.nan, math.nan))
    steps[f"{name}_nonfinite_fraction"] = 0.25
    bad = layers.assign(preactivation_log10_mean_square=np.nan, signal_log10_rms=np.nan)
    found = diagnose(bad, steps, network)
    (finding,) = found.findings
    assert (finding.layer, finding.value, finding.step) == (None, 0.25, 0)
    assert f"the {name}s themselves hold NaN or infinite values" in found.sentence
    (remedy,) = advice(found.findings, bad, network)
    assert remedy.code.startswith("x =" if name == "input" else "y =")
    masked = steps.assign(train_loss=1.0)  # layers may be made for such data
    assert diagnose(layers, masked, network).kind == "healthy"


def test_remedies_have_numbers_of_theory() -> None:
    layers, steps, network = tables("sigmoid", signal_log10_rms=[-6, -5, -4, -3, -2, -1, 0])
    given = advice(diagnose(layers, steps, network).findings, layers, network)
    (normal,) = [r for r in given if "Normalize" in r.change]
    growth = 0.5 * math.log10(theory.batch_norm_growth("sigmoid"))
    assert f"{growth:.2g} decades per layer" in normal.effect
    assert any("ReLU" in r.change for r in given) == (
        max(abs(advise("sigmoid", DEPTH, WIDTH).recommended.signal_decades), 0) > 1
    )
    slow, steps, network = tables(log10_update_ratio=-5.0)
    (faster,) = advice(diagnose(slow, steps, network).findings, slow, network)
    assert faster.change == "Multiply the learning rate by 1e+02."
    slow, steps, network = tables(log10_update_ratio=-9.0)  # and nothing else is wrong
    (faster,) = advice(diagnose(slow, steps, network).findings, slow, network)
    assert faster.change == "Multiply the learning rate by 1e+06."


def test_bounds_have_sources() -> None:
    for bound in dataclasses.fields(Limits):
        assert bound.metadata["definition"]
        assert bound.metadata["source"]


def test_a_bound_that_is_not_that_of_the_kind_names_its_own_source() -> None:
    usual = findings.Finding("exploding", 0, None, 3.0, 2.0, "decades of |dC/dz|")
    of_length = findings.Finding("exploding", 0, None, 5.0, 4.0, "decades", bound_by="length")
    # Without the marks of code that the manual has.
    sources = {f.name: f.metadata["source"].replace("`", "") for f in dataclasses.fields(Limits)}
    assert (usual.source, of_length.source) == (sources["exploding"], sources["length"])
    assert usual.source != of_length.source


@pytest.mark.parametrize("module", [diagnosing, remedies])
def test_examples_in_docstrings(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_what_is_said_of_several_layers_is_one_line() -> None:
    found = findings.Diagnosis(
        "vanishing",
        tuple(
            findings.Finding("vanishing", step, layer, value, -2.0, "decades")
            for step, layer, value in ((0, None, -9.0), (3, 1, -8.0), (0, 2, -5.0), (4, 5, -3.0))
        ),
        pd.DataFrame({"layer": [1, 2], "name": ["a", "b"], "diagnosis": "vanishing"}),
    )
    assert repr(found).splitlines() == [
        "vanishing",
        "* vanishing (network, step 0): decades is -9, and the bound is -2",
        "* vanishing (layers 1 to 2, 5, from step 0 on): worst in layer 1, where decades is -8, "
        "and the bound is -2",
    ]
    assert found._repr_html_().count("<li>") == 2


def test_what_was_seen_first_is_the_diagnosis() -> None:
    """A step that is too large, and the units that are dead after it."""
    layers, steps, network = tables(losses=(2.3, 2.4, 2.4), log10_update_ratio=1.0)
    hidden = network["layer"] < network["layer"].max()
    rectified = network.assign(activation=network["activation"].mask(hidden, "relu"))
    after = layers["step"] > 0
    found = diagnose(layers.assign(dead_fraction=after.astype(float)), steps, rectified)
    assert [group.worst.kind for group in found.groups] == ["unstable", "dead"]
    assert advice(found.findings, layers, rectified)[0].kind == "unstable"


def test_updates_of_exactly_nothing_are_no_learning() -> None:
    layers, steps, network = tables(log10_update_ratio=-np.inf, losses=(2.3, 2.3))
    found = diagnose(layers, steps, network)
    assert (found.kind, found.findings[0].value) == ("not learning", -np.inf)
    some = layers["log10_update_ratio"].mask(layers["layer"] > 2, -3.0)  # the first two are frozen
    assert diagnose(layers.assign(log10_update_ratio=some), steps, network).kind == "healthy"


@pytest.mark.parametrize(
    ("activation", "loss", "target", "right"),
    [
        ("relu", "cross_entropy", {}, False),
        ("linear", "cross_entropy", {}, True),
        ("softmax", "cross_entropy", {}, True),
        ("relu", "mean_squared_error", {"mean": -1.0, "std": 0.5, "largest": 2.0}, False),
        ("relu", "mean_squared_error", {"mean": 1.0, "std": 0.5, "largest": 2.0}, True),
        (
            "sigmoid",
            "mean_squared_error",
            {"mean": 0.3, "std": 0.4, "largest": 1, "least": 0},
            True,
        ),
        ("sigmoid", "mean_squared_error", {"mean": 0.3, "std": 0.4, "largest": 1}, False),
        ("tanh", "mean_squared_error", {"mean": 0.0, "std": 0.5, "largest": 2.0}, False),
        ("tanh", "mean_squared_error", {"mean": 0.0, "std": 0.5, "largest": 0.9}, True),
    ],
)
def test_an_output_that_the_loss_cannot_use(
    activation: str, loss: str, target: dict[str, float], right: bool
) -> None:
    layers, steps, network = tables()
    last = network["layer"] == network["layer"].max()
    network = network.assign(activation=network["activation"].mask(last, activation))
    steps = steps.assign(**{f"target_{name}": value for name, value in target.items()})
    found = diagnose(layers, steps, network, loss=loss, guessing_loss=2.3)
    assert (found.kind != "wrong output") == right, found


@pytest.mark.parametrize(
    ("known", "least", "largest", "right"),
    [
        (False, -0.5, 2.0, False),
        (False, 0.1, 1.2, False),
        (False, 0.0, 1.0, True),
        (True, -0.5, 2.0, True),
        (None, -0.5, 2.0, True),
        (False, math.nan, math.nan, True),
    ],
)
def test_outputs_that_are_no_probabilities(
    known: bool | None, least: float, largest: float, right: bool
) -> None:
    """Linear outputs are logits, and a loss that isn't told so takes the logarithm of them."""
    layers, steps, network = tables()
    steps = steps.assign(from_logits=known, output_least=least, output_largest=largest)
    found = diagnose(layers, steps, network)
    assert (found.kind == "healthy") == right
    if not right:
        (only,) = found.findings
        assert (only.kind, only.layer) == ("wrong output", DEPTH + 1)
        assert only.value == (least if least < 0 else largest)


@pytest.mark.parametrize(
    ("frozen", "losses", "kind"),
    [
        (range(2, 8), (2.3, 2.3), "frozen"),
        (range(1, 8), (2.3, 2.3), "frozen"),
        (range(1, 8), (2.3,), "frozen"),  # whatever a step would be, it changes nothing
        (range(1, 7), (2.3,), "healthy"),  # a probe makes no step: the output may learn
        (range(1, 7), (2.3, 0.3), "healthy"),  # features under a trained output
        (range(1, 4), (2.3, 2.3), "healthy"),
    ],
)
def test_frozen_layers_stand_before_what_they_lead_to(
    frozen: range, losses: tuple[float, ...], kind: str
) -> None:
    signal = [-6, -5, -4, -3, -2, -1, 0] if kind == "frozen" else -2.0
    layers, steps, network = tables(losses=losses, signal_log10_rms=signal)
    found = diagnose(layers, steps, network.assign(trainable=~network["layer"].isin(frozen)))
    assert found.kind == kind
    if kind == "frozen":
        assert found.findings[0].value == pytest.approx(len(frozen) / 7)
        assert {f.layer for f in found.findings if f.kind == "frozen"} == {None, *frozen}
        (first, *_) = advice(found.findings, layers, network)
        assert "trainable = True" in first.code


def test_a_constraint_may_move_weights_far_in_the_first_step() -> None:
    """It projects them, whatever the learning rate is; in later steps it moves them back alone."""
    for ratios, kind in (((0.0, -3.0), "healthy"), ((0.0, -0.5), "unstable")):
        layers, steps, network = tables(losses=(2.3, 2.3))
        layers["log10_update_ratio"] = layers["step"].map(dict(enumerate(ratios)))
        assert diagnose(layers, steps, network).kind == "unstable"
        assert diagnose(layers, steps, network.assign(constrained=True)).kind == kind


def test_a_minibatch_is_compared_with_guessing_on_itself() -> None:
    """A minibatch of small variance has a small loss although nothing is learned."""
    layers, steps, network = tables(losses=(1.1, 0.8), log10_update_ratio=-0.5)
    found = diagnose(layers, steps, network, "mean_squared_error", 1.0)
    assert found.kind == "healthy"
    steps = steps.assign(guessing_loss=[1.0, 0.78])
    assert diagnose(layers, steps, network, "mean_squared_error", 1.0).kind == "unstable"


def test_what_becomes_flat_while_a_network_learns_well_is_no_fault() -> None:
    for last, kind in ((0.4, "healthy"), (1.9, "saturated")):
        layers, steps, network = tables(losses=(2.3, 2.0, last))
        late = layers.assign(saturated_fraction=0.9 * (layers["step"] > 0))
        assert diagnose(late, steps, network).kind == kind
        early = layers.assign(saturated_fraction=0.9)
        assert diagnose(early, steps, network).kind == "saturated"


def test_signals_of_layers_of_any_size_are_compared_by_their_norms() -> None:
    """|dC/dz_l|^2 = chi_1 |dC/dz_(l+1)|^2: with 1e4 times as many places RMS is 100 times less."""
    places = [256**2, 256**2, 128**2, 64**2, 16**2, 1, 1]
    rms = [-2.0 - 0.5 * math.log10(number) for number in places]
    layers, steps, network = tables(losses=(2.3,), signal_log10_rms=rms)
    assert diagnose(layers, steps, network).kind == "vanishing"
    assert diagnose(layers, steps, network.assign(positions=places)).kind == "healthy"
    lost = layers["signal_log10_rms"] + np.tile([-5.0, -4, -3, -2, -1, 0, 0], 1)
    found = diagnose(layers.assign(signal_log10_rms=lost), steps, network.assign(positions=places))
    assert found.findings[0].value == pytest.approx(-5.0)


def test_a_loss_that_is_unknown_is_not_judged() -> None:
    """The train_step of a GAN computes its own losses, which Keras never sees."""
    assert diagnose(*tables(losses=(math.nan, math.nan)), "other").kind == "healthy"
    assert diagnose(*tables(losses=(2.3, math.nan)), "other").kind == "non-finite"


def test_a_loss_without_that_of_guessing_is_compared_with_the_first() -> None:
    for losses, kind in (((5.0, 1.0), "healthy"), ((5.0, 5.0), "unstable")):
        assert diagnose(*tables(losses=losses, log10_update_ratio=-0.5), "other").kind == kind


@pytest.mark.parametrize(
    ("equal", "last", "kind"),
    [
        (5, 2.3, "symmetric"),
        (5, 1.9, "healthy"),  # a residual network whose branches begin with 0
        (2, 2.3, "healthy"),
    ],
)
def test_units_that_begin_equal_and_do_not_help_by_parting(
    equal: int, last: float, kind: str
) -> None:
    layers, steps, network = tables(losses=(2.3, last))
    spread = 0.9 * ((layers["layer"] > equal) | (layers["step"] > 0))
    layers = layers.assign(weight_unit_spread=spread, signal_unit_spread=0.5)  # masks of a dropout
    found = diagnose(layers, steps, network)
    assert found.kind == kind
    assert {f.layer for f in found.findings} == (set(range(1, 6)) if kind != "healthy" else set())
