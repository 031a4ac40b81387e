"""What to change in a network in which something was found: causes and remedies, from theory.

Theory speaks of dense layers (and of convolutions by their fan-in) without normalization and
residual connections. Where its numbers do not apply, a remedy says what it does without one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.advice.findings import RATIO, Finding
from gradprop.advice.initializations import DEEPEST, Initialization, advise
from gradprop.analysis.diagnosis import LENGTH, SIGNAL, WEIGHT
from gradprop.analysis.thresholds import MOST_DECADES
from gradprop.components import activations

__all__ = ["Remedy", "advice", "causes"]

#: log10 of the update-to-weight ratio of practice (Karpathy, CS231n).
USUAL_RATIO = -3.0


@dataclass(frozen=True)
class Remedy:
    """One change of a network.

    Attributes
    ----------
    kind : str
        What was found that it mends, one of `KINDS`.
    change, effect : str
        What to do, and what theory or the network's own numbers let expect of it.
    code : str
        The change in Keras.
    """

    kind: str
    change: str
    effect: str
    code: str


def causes(layers: pd.DataFrame, network: pd.DataFrame) -> pd.DataFrame:
    """Compare the weights of every layer, as they began, with what its activation needs.

    Parameters
    ----------
    layers, network : DataFrame
        As in `gradprop.advice.findings`.

    Returns
    -------
    DataFrame
        One row per hidden layer but the last whose activation the registry knows: ``layer``;
        ``sigma_w2``, the mean square of the weights that follow it times their fan-in; ``needed``,
        that for which ``chi_1 = 1`` at the measured length; ``chi_1``, predicted from both; and
        ``measured``, the factor of the sum of squares of dC/dz from the next layer to this.

    Examples
    --------
    >>> layers = pd.DataFrame({"step": 0, "layer": [1, 2, 3], "signal_log10_rms": [-0.3, 0.0, 0.0],
    ...     "weight_log10_norm": 0.0, "preactivation_log10_mean_square": 0.0})
    >>> network = pd.DataFrame({"layer": [1, 2, 3], "name": ["a", "b", "c"], "fan_in": 4,
    ...     "fan_out": 4, "activation": "relu"})
    >>> causes(layers, network).round(3).to_dict("records")
    [{'layer': 1, 'sigma_w2': 0.25, 'needed': 2.0, 'chi_1': 0.125, 'measured': 0.251}]
    """
    first = layers[layers["step"] == layers["step"].min()]
    known = network[["layer", "fan_in", "fan_out", "activation"]]
    columns = [c for c in (SIGNAL, LENGTH, WEIGHT) if c in first]
    rows = first[["layer", *columns]].merge(known, on="layer").sort_values("layer")
    found = []
    if {SIGNAL, LENGTH, WEIGHT} <= set(columns):
        records = rows.to_dict("records")
        for here, after in itertools.pairwise(records[:-1]):
            q = 10.0 ** here[LENGTH]
            try:
                needed = 1.0 / theory.chi_1(here["activation"], q, 1.0)
            except (ValueError, ZeroDivisionError):  # not of the registry; no slope
                continue
            sigma_w2 = 10.0 ** (2 * after[WEIGHT]) / after["fan_out"]
            units = here["fan_out"] / after["fan_out"]
            # E[delta_l^2] is (fan_out / fan_in) chi_1 times that of the next layer
            measured = units * 10.0 ** (2 * (here[SIGNAL] - after[SIGNAL]))
            found.append((here["layer"], sigma_w2, needed, sigma_w2 / needed, measured))
    names = ["layer", "sigma_w2", "needed", "chi_1", "measured"]
    return pd.DataFrame(found, columns=names)


def advice(
    findings: Sequence[Finding], layers: pd.DataFrame, network: pd.DataFrame
) -> tuple[Remedy, ...]:
    """Say what to change, what mends the cause first.

    Parameters
    ----------
    findings : sequence of Finding
        Of `gradprop.advice.findings.diagnose`.
    layers, network : DataFrame
        As there.

    Returns
    -------
    tuple of Remedy
        In the order of the findings; for one kind, the larger expected effect first. Every change
        stands there once. Empty for a healthy network.

    Examples
    --------
    >>> layers = pd.DataFrame({"step": 0, "layer": [1, 2], "log10_update_ratio": -5.0})
    >>> network = pd.DataFrame({"layer": [1, 2], "name": ["a", "b"], "fan_in": 4, "fan_out": 4,
    ...     "activation": "relu"})
    >>> slow = Finding("not learning", 0, None, -5.0, -4.0, "log10 of the update-to-weight ratio")
    >>> [remedy.change for remedy in advice([slow], layers, network)]
    ['Multiply the learning rate by 1e+02.']
    """
    first = {finding.kind: finding for finding in reversed(list(findings))}
    case = _Network.of(layers, network)
    given: dict[str, Remedy] = {}
    for kind in dict.fromkeys(finding.kind for finding in findings):
        for remedy in _REMEDIES[kind](first[kind], case):
            given.setdefault(remedy.change, remedy)
    return tuple(given.values())


@dataclass(frozen=True)
class _Network:
    """What remedies ask of a network.

    Attributes
    ----------
    activation
        The most frequent function of its hidden layers; empty if the registry does not know it.
    depth, width
        Hidden layers, and the median of their units.
    ratio
        Median over layers of log10 of the update-to-weight ratio at the first step; NaN if it was
        not measured.
    """

    activation: str
    depth: int
    width: int
    ratio: float

    @classmethod
    def of(cls, layers: pd.DataFrame, network: pd.DataFrame) -> _Network:
        hidden = network.sort_values("layer").iloc[:-1]
        name = str(hidden["activation"].mode().iloc[0]) if len(hidden) else ""
        try:
            activations.get(name)
        except ValueError:
            name = ""
        first = layers[layers["step"] == layers["step"].min()]
        ratios = first[RATIO] if RATIO in first else pd.Series(dtype=float)
        ratios = ratios[np.isfinite(ratios)]
        width = int(hidden["fan_out"].median()) if len(hidden) else 1
        ratio = float(ratios.median()) if len(ratios) else math.nan
        return cls(name, len(hidden), width, ratio)

    def recommended(self, activation: str) -> Initialization | None:
        """Return the initialization for an activation function in a network of this shape."""
        if not activation or not 2 <= self.depth <= DEEPEST:
            return None
        return advise(activation, self.depth, self.width).recommended


def _expected(best: Initialization, found: Finding) -> str:
    measured = ""
    if "dC/dz" in found.text and found.layer is None:
        measured = f", where {found.value:+.2g} were measured"
    return (
        f"gradients change by {best.signal_decades:+.2g} ± {best.signal_sd:.2g} decades over the "
        f"hidden layers{measured}, and lengths by {best.length_decades:+.2g}"
    )


def _initialize(found: Finding, case: _Network) -> Iterator[Remedy]:
    best = case.recommended(case.activation)
    if best:
        change = f"Draw the weights with gain {best.gain:.4g}, which {case.activation} needs."
        yield Remedy(found.kind, change, _expected(best, found), best.code)
    else:
        change = "Draw the weights with a variance of 2 / fan_in for rectifiers, else 1 / fan_in."
        code = "keras.layers.Dense(units, kernel_initializer=keras.initializers.HeNormal())"
        yield Remedy(found.kind, change, "lengths of rectifiers keep their mean", code)


def _signal(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield weights, another function and normalization, the best expectation first."""
    options: list[tuple[float, Remedy]] = []
    own = case.recommended(case.activation)
    for remedy in _initialize(found, case):
        far = max(abs(own.signal_decades), abs(own.length_decades)) if own else 0.0
        options.append((far, remedy))
    other = case.recommended("relu") if own and options[0][0] > MOST_DECADES / 2 else None
    if other and case.activation != "relu":
        change = f"Take ReLU in place of {case.activation}, with gain {other.gain:.4g}."
        far = max(abs(other.signal_decades), abs(other.length_decades))
        options.append((far, Remedy(found.kind, change, _expected(other, found), other.code)))
    if case.depth > 1:
        growth = None
        if case.activation and case.activation != "linear":
            growth = 0.5 * math.log10(theory.batch_norm_growth(case.activation))
        effect = "lengths are 1 in every layer"
        if growth is not None:
            effect += (
                f", and gradients grow by {growth:.2g} decades per layer towards the input, "
                f"{growth * (case.depth - 1):.2g} in all"
            )
        far = growth * (case.depth - 1) if growth is not None else MOST_DECADES
        change = "Normalize every hidden layer before its activation."
        code = "keras.layers.BatchNormalization()"
        options.append((far, Remedy(found.kind, change, effect, code)))
        # h + f(h) / sqrt(depth): mean squares grow by 1 + 1 / depth per layer, at most e-fold
        change = "Add the input of every hidden layer to its output, scaled by 1/sqrt(depth)."
        effect = "mean squares grow by at most a factor of e over the depth if branches keep them"
        code = f"h = h + layer(h) / {math.sqrt(case.depth):.3g}"
        options.append((0.5 * math.log10(math.e), Remedy(found.kind, change, effect, code)))
    for _, remedy in sorted(options, key=lambda option: option[0]):
        yield remedy


def _clip(found: Finding, case: _Network) -> Iterator[Remedy]:
    effect = "no step is larger than the learning rate times 1, whatever the gradient"
    code = "keras.optimizers.SGD(learning_rate, clipnorm=1.0)"
    yield Remedy(found.kind, "Clip the norm of gradients.", effect, code)


def _slower(found: Finding, case: _Network) -> Iterator[Remedy]:
    wanted = USUAL_RATIO - case.ratio if math.isfinite(case.ratio) else -1.0
    yield _rate(found, min(wanted, -1.0))
    yield from _clip(found, case)


def _faster(found: Finding, case: _Network) -> Iterator[Remedy]:
    ratio = case.ratio if math.isfinite(case.ratio) else found.value
    if math.isfinite(ratio) and ratio > USUAL_RATIO - 4:  # beyond, a rate is not what is wrong
        yield _rate(found, USUAL_RATIO - ratio)


def _rate(found: Finding, decades: float) -> Remedy:
    factor = f"{10**decades:.2g}"
    return Remedy(
        found.kind,
        f"Multiply the learning rate by {factor}.",
        "the median update-to-weight ratio becomes about 1e-3 (of plain SGD it is in proportion)",
        f"model.optimizer.learning_rate = {factor} * model.optimizer.learning_rate",
    )


def _scale_inputs(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield Remedy(
        found.kind,
        "Standardize the inputs.",
        f"their root mean square becomes 1, where {found.value:.3g} was found, and lengths of the "
        f"first layer are {found.value**2:.2g} times smaller" if found.value > 1 else
        f"their root mean square becomes 1, where {found.value:.3g} was found",
        "scaling = keras.layers.Normalization()\nscaling.adapt(x)",
    )  # fmt: skip


def _scale_targets(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield Remedy(
        found.kind,
        "Standardize the targets.",
        f"the loss begins near 1, where {found.value**2:.3g} was found",
        "y = (y - y.mean(axis=0)) / y.std(axis=0)",
    )


def _give_output(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield Remedy(
        found.kind,
        "Let the outputs be linear, or a softmax for the classes of a cross-entropy.",
        "the loss can become as small as the data allow; linear outputs for a cross-entropy are "
        "logits, which the loss has to be told (from_logits=True)",
        'keras.layers.Dense(outputs, activation="linear")  # or "softmax"',
    )


def _thaw(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield Remedy(
        found.kind,
        "Let the layers be trained.",
        "weights change; Keras takes the setting over when the model is compiled again",
        "model.trainable = True\nmodel.compile(optimizer, loss)",
    )


def _break_symmetry(found: Finding, case: _Network) -> Iterator[Remedy]:
    for remedy in _initialize(found, case):
        change = remedy.change.removesuffix(".") + ", at random: units then differ."
        yield Remedy(remedy.kind, change, remedy.effect, remedy.code)


def _revive(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _initialize(found, case)
    leaky = case.recommended("leaky_relu")
    if leaky and case.activation in ("relu", "relu6"):
        change = "Take leaky ReLU, whose units always let a gradient through."
        yield Remedy(found.kind, change, _expected(leaky, found), leaky.code)


def _restart(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield weights where it began before any step, and else smaller steps."""
    if found.step > 0:
        yield from _slower(found, case)
    yield from _initialize(found, case)


def _first_loss(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _initialize(found, case)
    yield Remedy(
        found.kind,
        "Begin with an output layer of weights 0.",
        "the first loss is that of guessing; hidden layers move from the second step on",
        'keras.layers.Dense(outputs, kernel_initializer="zeros")',
    )


_REMEDIES = {
    "non-finite": _restart,
    "input not scaled": _scale_inputs,
    "target not scaled": _scale_targets,
    "wrong output": _give_output,
    "frozen": _thaw,
    "symmetric": _break_symmetry,
    "dead": _revive,
    "saturated": _initialize,
    "exploding": _signal,
    "vanishing": _signal,
    "unstable": _slower,
    "not learning": _faster,
    "initial loss": _first_loss,
}
