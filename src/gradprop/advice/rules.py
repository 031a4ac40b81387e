"""Rules that find in one network's measured tables what is wrong, layer by layer.

The tables are those of the workflow, of one network: ``layers`` (``step``, ``layer`` and columns of
`gradprop.probes.statistics.STATISTICS`), ``steps`` (``step``, ``train_loss``) and ``network``, one
row per layer: ``layer``, ``name``, ``fan_in``, ``fan_out`` (columns of the kernel) and
``activation``. The layer with the largest number is the output. A rule whose columns are missing or
NaN says nothing; NaN is a number that ceased to be finite only where the table says so
(``*_nonfinite_fraction``), or where it has no such column.

A monitor measures more than a study: ``weight_unit_spread`` and ``signal_unit_spread`` (how far the
units of a layer differ); in ``steps`` mean and standard deviation of inputs and targets, the range
of outputs, the losses of guessing and of the best constant output, and the penalty of every
minibatch (`train_loss` is then without it); in ``network`` at how many ``positions`` the
units of a layer are computed, and whether it is ``trainable``. Where they are, rules take them in
place of what they would infer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradprop import errors
from gradprop.advice.findings import FIRST_STEP, KERNEL, ONE_STEP, RATIO, Finding, Limits
from gradprop.analysis import estimates, rounding
from gradprop.analysis.alarms import ALARMS
from gradprop.analysis.diagnosis import GRADIENT, LENGTH, PASSES, SIGNAL, UNDERFLOW, WEIGHT
from gradprop.components import activations
from gradprop.components.activations import Activation
from gradprop.errors import GradpropError

__all__ = ["RULES", "Case", "forgetting"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One network's tables, as rules read them.

    Attributes
    ----------
    rows
        The ``layers`` table with the columns of ``network``; every statistic that is asked for is
        there, NaN if it was not measured.
    first
        The first row of the ``steps`` table.
    loss_of
        ``train_loss`` by step.
    penalty_of
        What of the whole loss ``train_loss`` leaves out, by step; empty if it is not known.
    bad_data
        By step, the share of ``input`` and ``target`` that is not finite, if the table has it.
    share_of
        ``train_loss`` over that of a network that knows nothing of its inputs, by step.
    rms_of
        Root mean square of ``input`` and ``target`` at the first step, sqrt(mean^2 + std^2), if the
        table has them; NaN where they have no scale, as tokens.
    """

    rows: pd.DataFrame
    first: pd.Series[Any]
    loss_of: pd.Series[float]
    penalty_of: pd.Series[float]
    bad_data: pd.DataFrame
    share_of: pd.Series[float]
    rms_of: dict[str, float]
    columns: frozenset[str]
    loss: str
    guessing_loss: float
    limits: Limits

    @classmethod
    def of(
        cls,
        layers: pd.DataFrame,
        steps: pd.DataFrame,
        network: pd.DataFrame,
        loss: str,
        guessing_loss: float | None,
        limits: Limits,
    ) -> Case:
        """Return what rules read of these tables.

        Parameters
        ----------
        layers, steps, network, loss, guessing_loss, limits
            As of `gradprop.advice.diagnosing.diagnose`.

        Raises
        ------
        GradpropError
            If a table lacks a column or rows, or holds several networks.
        """
        wanted = {
            "layers": (layers, ["step", "layer"]),
            "steps": (steps, ["step", "train_loss"]),
            "network": (network, ["layer", "name", "fan_in", "fan_out", "activation"]),
        }
        for name, (table, columns) in wanted.items():
            missing = [column for column in columns if column not in table]
            if missing or table.empty:
                problem = f"lacks the column {missing[0]}" if missing else "has no rows"
                raise GradpropError(f"diagnose: the table {name} {problem}")
        if layers.duplicated(["step", "layer"]).any():
            raise GradpropError("diagnose: the table layers has several networks; pass one")
        if loss not in (*LOSSES, "other"):
            allowed = errors.not_allowed(loss, [*LOSSES, "other"])
            raise GradpropError(f"diagnose: loss: {allowed}")
        if "loss_scale_overflowed" in steps:  # such a step is left out, and its scale made smaller
            made = steps.loc[~steps["loss_scale_overflowed"].astype(bool), "step"]
            layers = layers[layers["step"].isin(made)] if len(made) else layers
        optional = [n for n in ("positions", "trainable", "constrained") if n in network]
        known = network[["layer", "fan_in", "fan_out", "activation", *optional]]
        rows = layers.drop(columns=[c for c in known if c in layers and c != "layer"])
        rows = rows.merge(known, on="layer").sort_values(["step", "layer"], ignore_index=True)
        last = rows["layer"].max()
        if guessing_loss is None and loss == "cross_entropy":
            classes = int(network.set_index("layer")["fan_out"][last])
            guessing_loss = math.log(max(classes, 2))
        rows["cell"], rows["is_output"] = "network", rows["layer"] == last
        rows["entries"] = rows["fan_in"] * rows["fan_out"]
        positions = rows.get("positions", pd.Series(1, index=rows.index))
        rows["units"] = positions.clip(lower=1) * rows["fan_out"]
        by_step = steps.set_index("step").sort_index()
        losses = by_step["train_loss"]
        guess = math.nan if guessing_loss is None else guessing_loss
        shares = losses / _knowing_nothing(by_step, guess)
        rows["train_loss"], rows["guessing_loss"] = rows["step"].map(losses), guess
        for name in (*ASKED, *(alarm.statistic for alarm in ALARMS.values())):
            if name not in rows:
                rows[name] = np.nan
        first = steps.sort_values("step").iloc[0]
        rms = {
            name: math.hypot(
                float(first.get(f"{name}_mean", np.nan)), float(first.get(f"{name}_std", np.nan))
            )
            for name in ("input", "target")
            if f"{name}_std" in first
        }
        bad = steps.set_index("step")[[name for name in BAD_DATA if name in steps]]
        penalties = by_step.get("penalty", pd.Series(dtype=float)).astype(float)
        recorded = frozenset(layers.columns)
        return cls(rows, first, losses, penalties, bad, shares, rms, recorded, loss, guess, limits)

    @cached_property
    def probes(self) -> dict[int, pd.DataFrame]:
        """The rows of every step, by layer, before something ceased to be finite.

        What comes after means nothing. Where it was so at the first step, that step is left, whose
        finite layers may tell why.
        """
        first = min(self._every, default=0)
        end = self.nonfinite.step if self.nonfinite else math.inf
        return {step: rows for step, rows in self._every.items() if step < end or step == first}

    @cached_property
    def _every(self) -> dict[int, pd.DataFrame]:
        return {int(str(s)): rows.set_index("layer") for s, rows in self.rows.groupby("step")}

    @property
    def start(self) -> tuple[int, pd.DataFrame]:
        """The first step that was looked at, and its rows."""
        return next(iter(self.probes.items()))

    @property
    def ends(self) -> dict[int, pd.DataFrame]:
        """The first and the last step: what comes between may pass.

        Of a network whose loss has risen the first alone, because steps made the last. Of one that
        has learned well, too: signals that are lost when little is left to learn did no harm.
        """
        steps = list(self.probes)
        losses = self.loss_of
        rose = self.nonfinite or losses.iloc[-1] > self.limits.divergence * losses.iloc[0]
        chosen = steps[:1] if rose or self.fits else [steps[0], steps[-1]]
        return {step: self.probes[step] for step in chosen}

    @property
    def has_learned(self) -> bool | None:
        """Whether the last loss is below that of guessing; None of a single step, or unknown.

        Both are of one minibatch. A constant guess can't beat the variance of its targets, however
        few they are, so that a network that has learned nothing isn't taken for one that has. It
        has not learned either if it only knows which classes are frequent. Where the loss of
        guessing is unknown, the first loss stands for it.
        """
        shares = self.share_of
        if shares.isna().all():
            shares = self.loss_of / self.loss_of.iloc[0]
        if len(shares) < 2 or math.isnan(shares.iloc[-1]):
            return None
        return bool(shares.iloc[-1] < self.limits.progress)

    @property
    def is_flat(self) -> bool:
        """Whether half of the hidden layers, or more, begin with most units in flat tails."""
        hidden = self.start[1].iloc[:-1]
        bounded = np.array([self.has_flat_tails(layer) for layer in hidden.index], bool)
        flat = hidden["saturated_fraction"] > self.limits.saturated_units
        return bool(len(hidden)) and float((flat & bounded).mean()) >= 0.5

    def has_flat_tails(self, layer: int) -> bool:
        """Whether the activation function of a layer is flat on both sides."""
        phi = self.function(layer)
        return phi is not None and bool(np.isfinite(phi.saturation).all())

    @property
    def fits(self) -> bool:
        """Whether the last loss is far below that of guessing."""
        return len(self.loss_of) > 1 and bool(self.share_of.iloc[-1] < self.limits.fit)

    def function(self, layer: int) -> Activation | None:
        """Return the activation function of a layer if the registry knows it."""
        try:
            return activations.get(str(self.start[1].at[layer, "activation"]))
        except ValueError:
            return None

    def lost(self, rows: pd.DataFrame, column: str, fraction: str) -> pd.Series[bool]:
        """Tell of every layer whether a quantity is NaN or infinite."""
        if fraction in self.columns:
            return rows[fraction] > 0
        values = rows[column]
        if column not in self.columns:
            return pd.Series(False, index=rows.index)
        return values.isna() | (values == np.inf)

    @cached_property
    def nonfinite(self) -> Finding | None:
        """Where something was not finite first, in the order in which a step computes.

        Weights that are so already when a step begins became so in one before.
        """
        before = None
        for step, rows in self._every.items():
            update = self.lost(rows, WEIGHT, "weight_nonfinite_fraction")
            forward = self.lost(rows, LENGTH, "activation_nonfinite_fraction")
            backward = self.lost(rows, SIGNAL, "signal_nonfinite_fraction")
            backward |= self.lost(rows, GRADIENT, "gradient_nonfinite_fraction")
            unknown = self.loss_of.isna().all()  # as of a train_step that computes losses itself
            loss = not unknown and not math.isfinite(self.loss_of.get(step, 0.0))
            places = {
                "update": rows.index[update].min(),
                "forward": rows.index[forward].min(),
                "loss": rows.index.max() if loss else math.nan,
                "backward": rows.index[backward].max(),
            }
            for name in PASSES:
                if math.isnan(places[name]):
                    continue
                for column, share in self.bad_data.reindex([step]).iloc[0].items():
                    if share > 0:
                        what = BAD_DATA[str(column)]
                        text = f"share of the {what} themselves that is NaN or infinite"
                        says = f"{{percent:.3g}} % of the {what} are NaN or infinite"
                        return Finding(
                            "non-finite", step, None, share, 0, text, says=says, concerns=what
                        )
                count = int(update.sum() + forward.sum() + backward.sum() + loss)
                text = f"count of quantities that are not finite, {BEGINS[name]} first"
                says = f"NaN or infinity begins {BEGINS[name]}, and is found in "
                after = before if name == "update" else None
                place = int(places[name])
                return Finding(
                    "non-finite",
                    step,
                    place,
                    count,
                    0,
                    text,
                    after,
                    says + "{value:.0f} of the layers' quantities",
                )
            before = step
        return None

    @cached_property
    def symmetric(self) -> tuple[Finding, ...]:
        """Layers whose units have equal weights, before training."""
        step, rows = self.start
        return (*_never_differ(self), *_equal_units(self, step, rows))


LOSSES = ("cross_entropy", "mean_squared_error")
#: Columns of ``steps``, and what they are about.
BAD_DATA = {"input_nonfinite_fraction": "inputs", "target_nonfinite_fraction": "targets"}
#: Where something is not finite first.
BEGINS = {
    "update": "in the weights",
    "forward": "in the forward pass",
    "loss": "in the loss",
    "backward": "in the backward pass",
}
MEAN, Z_MEAN = "activation_mean", "preactivation_mean"
ASKED = (SIGNAL, GRADIENT, LENGTH, WEIGHT, MEAN, Z_MEAN, "dead_fraction", "saturated_fraction")
Rule = Callable[[Case], Iterator[Finding]]


def _not_finite(case: Case) -> Iterator[Finding]:
    if case.nonfinite:
        yield case.nonfinite


def _scaling(case: Case) -> Iterator[Finding]:
    """Tell the scale of inputs and targets: as measured, or else from what the first step shows.

    Random weights of mean 0 give ``E[z^2] = Var(W) sum x^2``, so that ``E[x^2]`` is ``E[z^2]``
    times the units over ``|W|^2``. Outputs that know nothing of the targets give a squared error
    of ``E[y^2] + E[z^2]``. A network that learns well does so at whatever scale.
    """
    if case.fits:
        return
    step, rows = case.start
    first, last = rows.index.min(), rows.index.max()
    squares = 10 ** rows[LENGTH].astype(float)
    norm = 10 ** _at(rows, first, WEIGHT)
    bound = case.limits.input_scale
    rms = case.rms_of.get("input", math.nan)
    if "input" not in case.rms_of and norm > 0 and not case.symmetric:
        rms = math.sqrt(squares[first] * _at(rows, first, "fan_out")) / norm
    # Of inputs that are mostly 0, as one of many categories is, those that are not are of order 1.
    is_small = 0 < rms < 1 / bound and not float(case.first.get("input_largest", math.nan)) >= 1
    if bound < rms < math.inf or is_small:
        text = "root mean square of the inputs, as the first layer sees them"
        says = "the inputs, as the first layer sees them, have a root mean square of {value:.3g}"
        says += "; the bound is {bound:.3g}"
        side = bound if rms > bound else 1 / bound
        yield Finding("input not scaled", step, int(first), rms, side, text, says=says)
    is_squared = case.loss == "mean_squared_error"
    is_error = is_squared or bool(case.first.get("is_error", False))
    if is_error and case.limits.target_scale > 0:
        rest = case.rms_of.get("target", math.nan) ** 2
        if math.isnan(rest) and is_squared:
            rest = float(case.loss_of.get(step, math.nan)) - squares[last]
        if rest > case.limits.target_scale**2 and rest > squares[last]:
            text = "root mean square of the targets"
            says = "the targets have a root mean square of {value:.3g}; the bound is {bound:.3g}"
            scale = case.limits.target_scale
            yield Finding("target not scaled", step, None, math.sqrt(rest), scale, text, says=says)


def _output(case: Case) -> Iterator[Finding]:
    """Find outputs that cannot be what the loss compares them with.

    Cross-entropy takes probabilities (softmax, sigmoid) or logits (linear), and which of them is
    told by its ``from_logits``; a softmax of one unit is 1; and a function with a bound never
    reaches targets beyond it. Where the loss is told that probabilities are logits, Keras may know
    better; then nothing is computed wrong.
    """
    step, rows = case.start
    last = int(rows.index.max())
    name, units = str(rows.at[last, "activation"]), _at(rows, last, "fan_out")

    def wrong(
        value: float, bound: float, text: str, says: str, concerns: str = "", kind: str = ""
    ) -> Finding:
        kind = kind or "wrong output"
        return Finding(kind, step, last, value, bound, text, says=says, concerns=concerns)

    misnamed = case.loss == "cross_entropy" and name in ("softmax", "sigmoid")
    misnamed &= case.first.get("from_logits") is not None and bool(case.first["from_logits"])
    if name == "softmax" and units == 1:
        says = "a softmax of one unit puts out 1, whatever its input is"
        yield wrong(units, 2, "units of the softmax", says, "function")
    elif name == SOFTMAX_TWICE:
        says = "a softmax is taken of the outputs of a softmax, which keeps them close together"
        yield wrong(2, 1, "number of softmax functions, by layers", says, "layers")
    elif misnamed and not case.first.get("recovers_logits", True):
        says = (
            f"the loss takes the outputs of a {name} for logits (from_logits is True), and applies "
            f"a second {name} to them"
        )
        yield wrong(2, 1, f"number of {name} functions, by from_logits", says, "loss")
    elif misnamed:
        says = (
            f"the loss is told that outputs of a {name} are logits (from_logits is True); Keras "
            f"corrects this with TensorFlow in float32, and applies a second {name} elsewhere"
        )
        text = f"number of {name} functions, by from_logits"
        yield wrong(2, 1, text, says, "loss", "logits misnamed")
    elif case.loss == "cross_entropy" and _outside(case.first, "target"):
        value, bound = _outside(case.first, "target") or (0.0, 0.0)
        text = "target that the loss takes for a probability"
        far = "below {bound:g}" if value < bound else "above {bound:g}"
        says = (
            "there are targets of {value:.3g}, " + far + "; the loss takes them for probabilities"
        )
        yield wrong(value, bound, text, says, "targets")
    elif case.loss == "cross_entropy" and _is_no_probability(case.first):
        value, bound = _outside(case.first, "output") or (0.0, 0.0)
        text = "output that the loss takes for a probability (from_logits is False)"
        far = "below {bound:g}" if value < bound else "above {bound:g}"
        says = "the loss takes {value:.3g}, " + far + ", for a probability (from_logits is False)"
        yield wrong(value, bound, text, says, "function")
    elif case.loss == "cross_entropy" and name in activations.ACTIVATIONS:
        if name not in ("linear", "sigmoid"):
            text = f"output functions ({name}) that give neither probabilities nor logits"
            says = f"outputs of {name} are neither probabilities nor logits"
            yield wrong(1, 0, text, says, "function")
    elif case.loss == "mean_squared_error" and name in _RANGES:
        yield from _out_of_range(case, name, wrong)


def _out_of_range(case: Case, name: str, wrong: Callable[..., Finding]) -> Iterator[Finding]:
    """Find targets that a function with a bound cannot reach."""
    low, high = _RANGES[name]
    mean, std = (float(case.first.get(f"target_{part}", math.nan)) for part in ("mean", "std"))
    lowest, largest = mean - std, float(case.first.get("target_largest", math.nan))
    if lowest < low and not float(case.first.get("target_least", -math.inf)) >= low:
        text = f"mean of the targets less their standard deviation, where {name} puts out more"
        says = (
            "the mean of the targets less their standard deviation is {value:.3g}, and "
            f"{name} puts out {{bound:g}} or more"
        )
        yield wrong(lowest, low, text, says)
    elif largest > high:
        text = f"largest target, where {name} puts out less"
        says = f"the largest target is {{value:.3g}}, and {name} puts out {{bound:g}} or less"
        yield wrong(largest, high, text, says)


def _is_no_probability(first: pd.Series[Any]) -> bool:
    """Tell whether a loss takes outputs for probabilities of which one is below 0 or above 1."""
    if first.get("from_logits") is None or bool(first["from_logits"]):
        return False
    return _outside(first, "output") is not None


def _outside(first: pd.Series[Any], name: str) -> tuple[float, float] | None:
    """Return the output or target farthest below 0 or above 1, and this bound; None if none is."""
    least, most = (float(first.get(f"{name}_{end}", math.nan)) for end in ("least", "largest"))
    slack = 1e-6  # rounding of a softmax
    if least < -slack:
        return least, 0.0
    return (most, 1.0) if most > 1 + slack else None


#: A softmax of a softmax, as a monitor calls it.
SOFTMAX_TWICE = "softmax of softmax"
#: Least and largest output of functions with a bound.
_RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "softsign": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
}


def _never_differ(case: Case) -> Iterator[Finding]:
    """Find layers whose units have equal weights and get equal dC/dz, at the first and last probe.

    Their gradients and so their updates are equal: they stay one unit. Units of equal weights alone
    part in the first step, as those behind a layer of zeros do, or by the chance of a dropout.
    Where most layers begin with equal units, and nothing is learned, this parting did not help.
    """
    if "weight_unit_spread" not in case.columns:
        return
    step, start = case.start
    spread = start["weight_unit_spread"].iloc[:-1].astype(float)
    if case.has_learned is False and (spread < EQUAL).mean() > 0.5:
        for layer, value in spread[spread < EQUAL].items():
            text = "spread of weights over units, relative to their root mean square"
            says = "weights of different units differ by {value:.2g} of their root mean square; "
            says += "the bound is {bound:g}"
            place = int(str(layer))
            yield Finding("symmetric", step, place, float(value), EQUAL, text, says=says)
        return
    for layer in start.index[:-1]:
        spreads = [
            _at(rows, layer, f"{quantity}_unit_spread")
            for rows in case.ends.values()
            for quantity in ("weight", "signal")
        ]
        if max(spreads) < EQUAL and not any(map(math.isnan, spreads)):
            if _at(start, layer, WEIGHT) == -np.inf:
                yield _of_zeros(step, layer)
                continue
            text = "spread of weights and dC/dz over units, relative to their root mean square"
            says = "weights and dC/dz of different units differ by {value:.2g} of their root mean "
            says += "square at most; the bound is {bound:g}"
            yield Finding("symmetric", step, int(layer), max(spreads), EQUAL, text, says=says)


def _of_zeros(step: int, layer: int) -> Finding:
    text = "share of its weights that are 0"
    return Finding("symmetric", step, int(layer), 1.0, 1.0, text, says="all weights are 0")


def _equal_units(case: Case, step: int, rows: pd.DataFrame) -> Iterator[Finding]:
    """Find kernels whose entries are all alike.

    All entries 0: no norm. All equal: ``mean z = |W| sqrt(fan_in / units) mean h`` up to the sign,
    which by Cauchy and Schwarz holds of no other kernel where h is the same in all units. Equal
    output weights: dC/dz of the last hidden layer is no more than rounding
    (`gradprop.analysis.rounding`).
    """
    last = rows.index.max()
    inferred = [] if "weight_unit_spread" in case.columns else list(rows.index[:-1])
    for layer in inferred:
        if _at(rows, layer, WEIGHT) == -np.inf:
            yield _of_zeros(step, layer)
    for before, layer in itertools.pairwise(inferred):
        norm = 10.0 ** _at(rows, layer, WEIGHT)
        shape = _at(rows, layer, "fan_in") / _at(rows, layer, "fan_out")
        equal = norm * math.sqrt(shape) * abs(_at(rows, before, MEAN))
        if equal > 0 and abs(abs(_at(rows, layer, Z_MEAN)) / equal - 1) < EQUAL:
            share = abs(_at(rows, layer, Z_MEAN)) / equal
            text = "mean z over that of equal weights"
            says = "the mean of z is that of equal weights, which no other weights have"
            yield Finding("symmetric", step, int(layer), share, 1.0, text, says=says)
    if len(rows) < 2 or case.loss != "cross_entropy":
        return
    hidden = rows.index[-2]
    phi = case.function(hidden)
    numbers = [_at(rows, last, name) for name in (WEIGHT, SIGNAL)]
    if phi is None or not np.isfinite([*numbers, _at(rows, hidden, LENGTH)]).all():
        return
    m, n = (_at(rows, last, name) for name in ("fan_in", "fan_out"))
    error = rounding.log10_error(m, n, *(np.array([number]) for number in numbers))
    slope = rounding.least_slope(phi, np.array([_at(rows, hidden, LENGTH)]))
    with np.errstate(divide="ignore"):
        bound = float((error + np.log10(slope))[0])
    signal = _at(rows, hidden, SIGNAL)
    if math.isfinite(signal) and signal <= bound:
        text = "log10 RMS dC/dz of the last hidden layer, which rounding alone makes"
        says = "the root mean square of dC/dz is {power:.2g}, and rounding alone makes "
        says += "{power_bound:.2g}"
        yield Finding("symmetric", step, int(hidden), signal, bound, text, says=says)


#: Relative difference up to which a mean is that of equal weights: float32, over 1e4 entries.
EQUAL = 1e-4


def _symmetry(case: Case) -> Iterator[Finding]:
    yield from case.symmetric


def _silence(case: Case) -> Iterator[Finding]:
    """Find layers of which no gradient comes back, and those most of whose units are silent.

    What becomes flat while a network learns well is sure of its answers.
    """
    if case.symmetric:
        return
    seen: set[tuple[str, int]] = set()
    for step, rows in list(case.probes.items())[: 1 if case.fits else None]:
        hidden = rows.iloc[:-1]
        values = hidden[SIGNAL]
        finite = values[np.isfinite(values)]
        if (values == -np.inf).any() and not _underflows(finite) and not _will_move(case, step):
            layer = int(values.index[values == -np.inf].max())
            if ("dead", 0) not in seen:
                seen |= {("dead", 0), ("dead", layer)}
                text = "RMS dC/dz, in every example and unit"
                says = "dC/dz is 0 in every example and unit"
                yield Finding("dead", step, layer, 0.0, 0.0, text, says=says)
        for layer in hidden.index:
            phi = case.function(layer)
            if phi is None:
                continue
            two_sided = case.has_flat_tails(layer)
            kind = "saturated" if two_sided else "dead"
            column = "saturated_fraction" if two_sided else "dead_fraction"
            bound = case.limits.saturated_units
            if not two_sided:
                chance = 1 / math.sqrt(_at(rows, layer, "fan_out"))
                bound = min(case.limits.dead_units + chance, 1 - 1e-9)
            value = _at(rows, layer, column)
            if value > bound and (kind, layer) not in seen:
                seen.add((kind, int(layer)))
                text = "fraction of its units' values in the flat tails of the activation"
                says = (
                    "{percent:.0f} % of the units' values lie in the flat tails of the activation"
                )
                if not two_sided:
                    text = "fraction of its units that no example of the minibatch reaches"
                    says = "no example of the minibatch reaches {percent:.0f} % of the units"
                says += "; the bound is {percent_bound:.0f} %"
                yield Finding(kind, step, int(layer), value, bound, text, says=says)


def _will_move(case: Case, step: int) -> bool:
    """Tell whether no gradient arrives for now only, at the last layer of which none comes back.

    It arrived at a later probe; or the layer in front of it has weights of 0 and a gradient, and
    moves first; or layers behind it have a gradient, which comes on another way, as around a
    residual branch that begins as 0.
    """
    rows = case.probes[step]
    signals = rows[SIGNAL].astype(float)
    layer = signals.iloc[:-1].index[signals.iloc[:-1] == -np.inf].max()
    later = [other[SIGNAL].get(layer, np.nan) for at, other in case.probes.items() if at > step]
    if np.isfinite(later).any() or np.isfinite(signals[signals.index < layer]).any():
        return True
    front = rows.index[rows.index > layer].min()
    is_last = front == rows.index.max()
    return rows.at[front, WEIGHT] == -np.inf and (is_last or bool(np.isfinite(signals[front])))


def _knowing_nothing(by_step: pd.DataFrame, guess: float) -> pd.Series[float]:
    """Return by step the loss of a network that knows nothing of its inputs.

    That of guessing, or of the best constant output where it is lower on average over minibatches:
    a minibatch may by chance have one class alone.
    """
    plain = pd.Series(guess, index=by_step.index)
    guessing = by_step.get("guessing_loss", plain).astype(float)
    if "constant_loss" not in by_step or by_step["constant_loss"].isna().all():
        return guessing
    constant = float(by_step["constant_loss"].astype(float).mean())
    return guessing.clip(upper=constant) if constant > 0 else guessing * np.nan


def _at(rows: pd.DataFrame, layer: int, column: str) -> float:
    return float(rows[column].to_numpy(np.float64)[rows.index.get_loc(layer)])


def _underflows(finite: pd.Series[float]) -> bool:
    """Tell whether a line through log10 magnitudes by layer falls below float32 one layer on."""
    if len(finite) < 2:
        return bool(len(finite)) and float(finite.iloc[0]) < UNDERFLOW
    span = finite.index[-1] - finite.index[0]
    per_layer = (finite.iloc[0] - finite.iloc[-1]) / span
    return bool(finite.iloc[0] + per_layer < UNDERFLOW)


def _trends(case: Case) -> Iterator[Finding]:
    """Find signals that shrink or grow over the hidden layers, backward and forward.

    Backward the straight line through log10 |dC/dz| of an example is judged, which is the RMS of
    studies where layers are equally large: ``|dC/dz_l|^2 = chi_1 |dC/dz_(l+1)|^2`` holds for any
    sizes, and RMS does not, of wide layers before narrow ones or of many places before few.
    What becomes of training decides about lengths. They may grow as long as the first loss does not
    suffer, or the network learns nevertheless. They may shrink by twice the decades, which are
    those of a square, unless training has not made the loss smaller.
    """
    limits, found = case.limits, set[tuple[str, str]]()
    suffers = not (_initial_ratio(case) <= limits.initial_loss) and not case.has_learned
    for step, rows in case.ends.items():
        hidden = rows.iloc[:-1]
        if len(hidden) < 2 or case.symmetric:
            continue
        span = hidden.index[-1] - hidden.index[0]
        with np.errstate(divide="ignore"):
            norms = hidden[SIGNAL] + 0.5 * np.log10(hidden["units"].astype(float))
        rows = rows.assign(**{SIGNAL: norms.reindex(rows.index)})
        hidden = rows.iloc[:-1]
        as_table = rows.reset_index().assign(step=step)
        backward = float(estimates.layer_slopes(as_table, SIGNAL).iloc[0]) * span
        forward = -float(estimates.layer_slopes(as_table, LENGTH).iloc[0]) * span
        low, high = math.log10(limits.vanishing), math.log10(limits.exploding)
        most = math.log10(limits.length)
        least = -most if case.has_learned is False else -2 * most
        for kind, fires, column, total, bound in (
            ("vanishing", backward < low, SIGNAL, backward, low),
            ("exploding", backward > high, SIGNAL, backward, high),
            ("vanishing", forward < least, LENGTH, forward, least),
            ("exploding", forward > most and suffers, LENGTH, forward, most),
        ):
            if not fires or (kind, column) in found:
                continue
            found.add((kind, column))
            what, reference = ("|dC/dz|", "last") if column == SIGNAL else ("mean z^2", "first")
            over = f"decades of {what} over the hidden layers"
            trend = "shrinks" if kind == "vanishing" else "grows"
            end = "inputs" if column == SIGNAL else "outputs"
            says = f"{what} {trend} by {{size:.3g}} decades towards the {end}; the bound is "
            limit = "length" if column == LENGTH else ""
            says += "{limit:.3g}"
            concerns = "signal" if column == SIGNAL else ""
            yield Finding(
                kind, step, None, total, bound, over, None, says, bound_by=limit, concerns=concerns
            )
            values = hidden[column] - hidden[column].iloc[-1 if column == SIGNAL else 0]
            beyond = values[values < bound] if kind == "vanishing" else values[values > bound]
            own = f"decades of {what} from the {reference} hidden layer"
            side = "below" if kind == "vanishing" else "above"
            says = f"{what} is {{size:.3g}} decades {side} the {reference} hidden layer; "
            says += "the bound is {limit:.3g}"
            for layer, value in beyond.items():
                words = f"{what} is below what float32 holds" if value == -np.inf else says
                number = int(str(layer))
                yield Finding(
                    kind, step, number, float(value), bound, own, says=words, bound_by=limit
                )


def _over_time(case: Case) -> Iterator[Finding]:
    """Find recurrent layers whose signals grow from time step to time step.

    Backward, the gradient of the recurrent kernel tells (`gradprop.monitor.recording`): it is
    larger than what signals of one size at all time steps give. A network that learns well is not
    hindered by it. Forward, outputs are far larger than one time step alone makes them, and, as of
    lengths that grow from layer to layer, the first loss suffers.
    """
    limits, seen = case.limits, set[tuple[str, int]]()
    suffers = not (_initial_ratio(case) <= limits.initial_loss) and not case.has_learned
    if "recurrent_singular_value" not in case.columns:
        return
    backward = "{power:.2g} times what signals that do not grow from time step to time step give"
    forward = "the mean square of the outputs is {power:.2g} times that of one time step alone; "
    for column, text, limit, bound, fires, clause in (
        (
            "recurrent_backward_growth",
            KERNEL,
            "over_time",
            math.log10(limits.over_time),
            not case.fits,
            f"|dC/dU| of the recurrent kernel is {backward} at most; ",
        ),
        (
            "recurrent_forward_growth",
            ONE_STEP,
            "length",
            math.log10(limits.length),
            suffers,
            f"{forward}the bound is {{power_bound:.2g}}, and ",
        ),
    ):
        for step, rows in case.ends.items() if fires else ():
            for layer in rows.index[rows[column].astype(float) > bound]:
                if (column, int(layer)) in seen:
                    continue
                seen.add((column, int(layer)))
                largest = _at(rows, layer, "recurrent_singular_value")
                says = f"{clause}the largest singular value of the kernel is {largest:.3g}"
                value = _at(rows, layer, column)
                yield Finding(
                    "exploding", step, int(layer), value, bound, text, says=says, bound_by=limit
                )


def forgetting(case: Case) -> Iterator[Finding]:
    """Find recurrent layers that the first time steps can teach nothing.

    The gates of an LSTM halve signals in every other step, and most sequences are learned from
    their ends: this is a cause only of a network that learns nothing, though it was trained for
    `Limits.enough_steps`, and has no other.
    """
    bound, seen = math.log10(case.limits.vanishing), set[int]()
    if case.has_learned is not False or "recurrent_signal_decades" not in case.columns:
        return
    if max(case.probes) < case.limits.enough_steps:
        return
    for step, rows in case.ends.items():
        for layer in rows.index[rows["recurrent_signal_decades"].astype(float) < bound]:
            if int(layer) in seen:
                continue
            seen.add(int(layer))
            value = _at(rows, layer, "recurrent_signal_decades")
            says = "|dC/dx| is {size:.3g} decades smaller at the first time step than at the last; "
            says += "the bound is {limit:.3g}"
            if value == -math.inf:
                says = "dC/dx of the first time step is exactly 0"
            yield Finding("vanishing", step, int(layer), value, bound, FIRST_STEP, says=says)


def _initial_ratio(case: Case) -> float:
    """Return the first loss over that of guessing; NaN where either is unknown."""
    return float(case.loss_of.get(case.start[0], math.nan)) / case.guessing_loss


def _first_loss(case: Case) -> Iterator[Finding]:
    """Compare the first loss with that of guessing, unless training has made up for it."""
    if case.has_learned:
        return
    alarm, bound = ALARMS["initial_loss"], case.limits.initial_loss
    values = alarm.value(case.rows)
    for place in case.rows.index[alarm.fires(values, bound)]:
        says = "the first loss is {value:.3g} times that of guessing; the bound is {bound:.3g}"
        ratio = float(values[place])
        yield Finding("initial loss", 0, None, ratio, bound, "loss over guessing", says=says)


def _updates(case: Case) -> Iterator[Finding]:
    """Judge steps: too small at all probes, or too large at one where nothing is learned.

    Layers whose update is exactly 0 do not count (they may be frozen), unless all are so. Nor does
    the first step of weights with a constraint, which moves them where they have to be. A loss
    that has risen in between counts, too, where nothing is learned: what follows is the aftermath.
    """
    known = case.rows[case.rows[RATIO] < np.inf]
    known = known[known["step"].isin(case.probes)]
    if "constrained" in known:
        known = known[~known["constrained"].astype(bool) | (known["step"] != case.start[0])]
    finite = known[np.isfinite(known[RATIO])]
    by_step = (
        finite.groupby("step")[RATIO].median().reindex(known["step"].unique(), fill_value=-np.inf)
    )
    limits = case.limits
    least, most = math.log10(limits.small_updates), math.log10(limits.unstable)
    text = "log10 of the update-to-weight ratio, median over layers"
    says = "the update-to-weight ratio, the median over layers, is {power:.2g}; the bound is "
    says += "{power_bound:.2g}"
    if len(by_step) and (by_step < least).all():
        step = int(by_step.index[0])
        ratio = float(by_step.max())
        yield Finding("not learning", step, None, ratio, least, text, says=says)
        at_first = finite[finite["step"] == step]
        for _, row in at_first[at_first[RATIO] < least].iterrows():
            layer, text = int(row["layer"]), "log10 of its update-to-weight ratio"
            own = "the update-to-weight ratio is {power:.2g}; the bound is {power_bound:.2g}"
            yield Finding("not learning", step, layer, row[RATIO], least, text, says=own)
    large = by_step[by_step > most]
    if len(large) and not case.has_learned:
        step, ratio = int(large.index[0]), float(large.iloc[0])
        yield Finding("unstable", step, None, ratio, most, text, says=says)
    losses = case.loss_of[np.isfinite(case.loss_of)]
    if len(losses) > 1 and losses.iloc[0] > 0:
        peak = losses.iloc[-1] if case.has_learned else losses.max()
        above = losses[losses > limits.divergence * losses.iloc[0]]
        if peak > limits.divergence * losses.iloc[0] and not case.fits:  # it may go on with another
            what = "last loss" if peak == losses.iloc[-1] else "largest loss"
            step, rise = int(above.index[0]), float(peak / losses.iloc[0])
            text = f"{what} over the first"
            says = f"the {what} is {{value:.3g}} times the first; the bound is {{bound:.3g}}"
            yield Finding(
                "unstable",
                step,
                None,
                rise,
                limits.divergence,
                text,
                says=says,
                bound_by="divergence",
            )


def _penalized(case: Case) -> Iterator[Finding]:
    """Find penalties that outweigh the loss of the data, and leave nothing to learn.

    Of two networks with one penalty one may learn, and the other may not: it depends on how steep
    the loss of the data is. So a network that has made steps without learning is judged by what
    became of its penalty. If this lost nine tenths, the weights followed it alone. Where it is
    hardly another one, it is not what keeps the network from learning.
    """
    penalties = case.penalty_of
    first = float(penalties.iloc[0]) if len(penalties) else math.nan
    ratio = first / float(case.loss_of.iloc[0]) if case.loss_of.iloc[0] > 0 else math.nan
    bound = case.limits.penalty
    if case.has_learned or not ratio > 1:
        return
    if len(penalties) > 1:
        rest = float(penalties.iloc[-1]) / first
        if 0.5 < rest < 2:
            return
        bound = 1.0 if rest < 0.1 else bound
    if ratio > bound:
        text = "first penalty over the first loss of the data"
        says = (
            "the penalty begins at {value:.3g} times the loss of the data; the bound is {bound:g}"
        )
        yield Finding("penalty too strong", case.start[0], None, ratio, bound, text, says=says)


def _frozen(case: Case) -> Iterator[Finding]:
    """Find networks that learn nothing, and most of whose layers are not trainable.

    Frozen layers under trained ones are usual, and learn something; a probe that makes no step
    can't tell, unless all are frozen.
    """
    step, rows = case.start
    if "trainable" not in rows or case.has_learned:
        return
    frozen = ~rows["trainable"].astype(bool)
    if len(case.loss_of) < 2 and not frozen.all():
        return
    share, bound = float(frozen.mean()), case.limits.frozen_layers
    if share > bound:
        text, says = (
            "fraction of layers that are frozen",
            "{percent:.0f} % of the layers are frozen",
        )
        says += "; the bound is {percent_bound:.0f} %"
        yield Finding("frozen", step, None, share, bound, text, says=says)
        for layer in rows.index[frozen]:
            says = "the weights are not trainable"
            yield Finding("frozen", step, int(layer), 1.0, 0.0, "frozen weights", says=says)


RULES: tuple[Rule, ...] = (
    _not_finite,
    _scaling,
    _output,
    _frozen,
    _symmetry,
    _silence,
    _penalized,
    _trends,
    _over_time,
    _updates,
    _first_loss,
)
