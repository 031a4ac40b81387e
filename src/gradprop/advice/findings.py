"""What can be wrong with a network, and how it is said: findings, their bounds, the diagnosis.

Rules find it in measured tables (`gradprop.advice.rules`).
"""

from __future__ import annotations

import html
from dataclasses import dataclass, fields

import pandas as pd

from gradprop.analysis.thresholds import AUTOTRAINER, Thresholds, threshold

__all__ = ["HARMLESS", "HEALTHY", "KINDS", "Diagnosis", "Finding", "Group", "Limits"]

RATIO = "log10_update_ratio"
HEALTHY = "healthy"
#: Of a network of which no gradient of weights was measured.
NOT_JUDGED = "not judged"
#: What can be found. What was seen first is the diagnosis of the network, and of what was seen in
#: one step the first of these: causes stand before what they lead to.
KINDS = {
    "input not scaled": "inputs are far larger or smaller than 1",
    "target not scaled": "targets are far larger than what the network puts out",
    "wrong output": "the output cannot be what the loss compares it with",
    "frozen": "most weights are never changed",
    "symmetric": "units of a layer have equal weights, and never differ",
    "exploding": "signals grow from layer to layer",
    "non-finite": "something is NaN or infinite",
    "saturated": "units lie where their function is flat",
    "dead": "units answer no example, or no gradient at all arrives",
    "penalty too strong": "the penalty outweighs the loss of the data",
    "vanishing": "signals shrink from layer to layer",
    "unstable": "weights change too much in a step",
    "not learning": "weights hardly change",
    "initial loss": "the first loss is far from that of guessing",
    "logits misnamed": "the loss is told that probabilities are logits, which Keras corrects here",
}
#: What does no harm as it stands, and is the diagnosis only where nothing else was found.
HARMLESS = ("logits misnamed",)

# Those that a network can be said to be.
_ADJECTIVES = (
    "frozen",
    "symmetric",
    "exploding",
    "dead",
    "saturated",
    "vanishing",
    "unstable",
    "not learning",
)


@dataclass(frozen=True)
class Limits(Thresholds):
    """Bounds of the rules: those of studies, and what one network is judged by besides.

    Attributes
    ----------
    dead_units
        As in `Thresholds`; two standard errors of a fraction of one half are allowed besides,
        because half of the units of a healthy rectifier are silent where inputs have become alike.
    input_scale
        Factor by which the root mean square of inputs may differ from 1.
    target_scale
        Root mean square of targets above which they are not scaled.
    unstable
        Update-to-weight ratio, median over layers, above which a step is too large.
    over_time
        Factor by which the gradient of a recurrent kernel exceeds the largest that the same signal
        at every time step gives.
    penalty
        Penalty over the loss of the data above which a network is not expected to learn.
    divergence
        Factor by which the last loss may exceed the first.
    progress
        Share of the loss of guessing below which a network has learned something.
    fit
        Share of the loss of guessing below which a network has learned well: nothing that came
        about on the way has hindered it.
    frozen_layers
        Fraction of layers above which a network that learns nothing is frozen.
    enough_steps
        Steps after which a recurrent network is expected to have learned something.
    """

    dead_units: float = threshold(0.7, "fraction of silent units", f"{AUTOTRAINER}: dying ReLU")
    input_scale: float = threshold(
        10.0,
        "factor between the root mean square of inputs and 1",
        "LeCun et al. 1998, section 4.3, ask for 1; pixels from 0 to 255 have 100",
    )
    target_scale: float = threshold(
        10.0,
        "root mean square of targets",
        "outputs at initialization are of order 1 (LeCun et al. 1998, section 4.5)",
    )
    unstable: float = threshold(
        0.1, "median update-to-weight ratio", "ten times the usual bound (Karpathy, CS231n)"
    )
    over_time: float = threshold(
        1.0,
        "gradient of a recurrent kernel over the largest that signals give which do not grow",
        "the triangle inequality; weights that keep signals have a hundredth",
    )
    penalty: float = threshold(
        100.0,
        "first penalty over the first loss of the data",
        "networks of three layers were seen that learn at 39, and others that do not at 37",
    )
    divergence: float = threshold(3.0, "last loss over the first", "as of the initial loss")
    progress: float = threshold(
        0.95, "last loss over that of guessing", "one twentieth is more than minibatches scatter"
    )
    fit: float = threshold(
        0.5, "last loss over that of guessing", "half of what guessing gets wrong is explained"
    )
    frozen_layers: float = threshold(0.5, "fraction of layers that are frozen", "more than half")
    enough_steps: float = threshold(
        50,
        "steps before a recurrent network that has learned nothing is asked how far it looks back",
        "one epoch of 3,200 examples in minibatches of 64; a few steps teach no network anything",
    )


#: Of kinds of findings, the field of `Limits` that bounds them, unless they say otherwise.
_FIELDS = {
    "input not scaled": "input_scale",
    "target not scaled": "target_scale",
    "exploding": "exploding",
    "dead": "dead_units",
    "saturated": "saturated_units",
    "vanishing": "vanishing",
    "unstable": "unstable",
    "not learning": "small_updates",
    "initial loss": "initial_loss",
    "frozen": "frozen_layers",
    "penalty too strong": "penalty",
}

#: What the numbers of recurrent layers are.
KERNEL = "log10 of |dC/dU| of the recurrent kernel over the most without growth"
ONE_STEP = "log10 of the mean square of outputs over that of one time step"
FIRST_STEP = "log10 of |dC/dx| at the first time step over that at the last"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    step, layer : int
        The first step at which it was seen, and the first layer there in the order of the pass; no
        layer (None) where it is about the whole network.
    value, threshold : float
        The number that it rests on, and the bound that this number passed.
    text : str
        What the number is.
    after : int or None
        The last step at which it was looked for and not there, if it began between two probes.
    says : str
        The finding as a clause, with places for ``value`` and ``bound``, for both in ``percent``
        and ``percent_bound``, their magnitudes ``size`` and ``limit``, and the powers of ten
        ``power`` and ``power_bound``.
    bound_by : str
        The field of `Limits` that has the bound, if it is another than that of the kind.
    concerns : str
        What is at fault, where remedies of a kind depend on it: ``inputs``, ``targets``,
        ``signal`` (dC/dz), or of a wrong output its ``function``, the ``loss`` that misnames it
        or another of the ``layers``.
    """

    kind: str
    step: int
    layer: int | None
    value: float
    threshold: float
    text: str
    after: int | None = None
    says: str = "{text} is {value:.3g}, and the bound is {bound:.3g}"
    bound_by: str = ""
    concerns: str = ""

    @property
    def clause(self) -> str:
        """What was found, in words."""
        value, bound = self.value, self.threshold
        return self.says.format(
            text=self.text,
            value=value,
            bound=bound,
            percent=100 * value,
            percent_bound=100 * bound,
            size=abs(value),
            limit=abs(bound),
            power=10.0 ** min(value, 300.0),
            power_bound=10.0 ** min(bound, 300.0),
        )

    @property
    def has_number(self) -> bool:
        """Whether the clause rests on a number, and not on what is or is not so."""
        return any(f"{{{name}" in self.says for name in ("value", "percent", "size", "power"))

    @property
    def is_in_data(self) -> bool:
        """Whether inputs or targets themselves are not finite."""
        return self.kind == "non-finite" and self.layer is None

    @property
    def is_over_time(self) -> bool:
        """Whether it is about what becomes of signals from time step to time step."""
        return self.text in (ONE_STEP, KERNEL, FIRST_STEP)

    @property
    def when(self) -> str:
        """The step, or those that it lies between."""
        if self.after is None:
            return f"step {self.step}"
        return f"between step {self.after} and step {self.step}"

    @property
    def source(self) -> str:
        """Where the bound comes from."""
        name = self.bound_by or _FIELDS.get(self.kind, "")
        for known in fields(Limits):
            if known.name == name:
                return str(known.metadata["source"]).replace("`", "")
        if self.kind == "logits misnamed":
            return "none is allowed"
        if self.kind == "wrong output":
            return "the range of the function" if "number of" not in self.text else "one is needed"
        return "none is allowed" if self.kind == "non-finite" else "rounding in float32"

    def __str__(self) -> str:
        place = "network" if self.layer is None else f"layer {self.layer}"
        return f"{self.kind} ({place}, {self.when}): {self.clause}"


@dataclass(frozen=True)
class Group:
    """Findings that say the same of several layers.

    Attributes
    ----------
    findings : tuple of Finding
        At least one; with several, each has a layer.
    """

    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The finding whose number is farthest beyond its bound."""
        return max(self.findings, key=lambda found: abs(found.value - found.threshold))

    @property
    def step(self) -> int:
        """The first step at which one of them was seen."""
        return min(found.step for found in self.findings)

    @property
    def layers(self) -> str:
        """The layers: ``1 to 5, 8``; ``network`` for a finding about the whole network."""
        numbers = sorted({found.layer for found in self.findings if found.layer is not None})
        starts = [n for n in numbers if n - 1 not in numbers]
        ends = [n for n in numbers if n + 1 not in numbers]
        spans = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)]
        return ", ".join(spans) or "network"

    def __str__(self) -> str:
        worst = self.worst
        if len(self.findings) == 1:
            return str(worst)
        where = f"{worst.kind} (layers {self.layers}, from step {self.step} on)"
        if len({found.clause for found in self.findings}) == 1:
            return f"{where}: {worst.clause}"
        return f"{where}: worst in layer {worst.layer}, where {worst.clause}"


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a network.

    Attributes
    ----------
    kind : str
        The kind that was seen first, ``healthy``, or ``not judged`` where no gradient of weights
        was measured.
    findings : tuple of Finding
        Kinds in the order in which they were seen, then that of `KINDS`; of a kind by steps and
        layers.
    layers : DataFrame
        One row per layer: ``layer``, ``name``, ``diagnosis``.
    """

    kind: str
    findings: tuple[Finding, ...]
    layers: pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join([self.kind, *(f"* {group}" for group in self.groups)])

    @property
    def groups(self) -> tuple[Group, ...]:
        """The findings, those together that say the same of several layers."""
        found: dict[tuple[str, bool, str], list[Finding]] = {}
        for finding in self.findings:
            key = finding.kind, finding.layer is None, finding.text
            found.setdefault(key, []).append(finding)
        return tuple(Group(tuple(same)) for same in found.values())

    @property
    def sentence(self) -> str:
        """The diagnosis in one sentence."""
        if self.kind == NOT_JUDGED:
            return "The network is not judged: no gradient of its weights could be measured."
        if not self.findings:
            return "The network is healthy: no rule found anything."
        of_kind = [finding for finding in self.findings if finding.kind == self.kind]
        first = next((finding for finding in of_kind if finding.layer is not None), of_kind[0])
        names = dict(zip(self.layers["layer"], self.layers["name"], strict=True))
        place = f" in layer {first.layer} ({names.get(first.layer, '?')})" if first.layer else ""
        when = f"first at {first.when}" if first.after is None else f"which began {first.when}"
        what = KINDS[self.kind]
        if first.is_in_data:
            what = f"the {first.concerns} themselves hold NaN or infinite values"
        if first.is_over_time:
            what = what.replace("layer to layer", "time step to time step")
        begin = "The network is " if self.kind in _ADJECTIVES else ""
        text = f"{begin}{self.kind}: {what}, {when}{place}."
        return text[0].upper() + text[1:]

    def _repr_html_(self) -> str:
        found = "".join(f"<li>{html.escape(str(group))}</li>" for group in self.groups)
        layers = self.layers.to_html(index=False, escape=True, border=0)
        table = f'<div style="overflow-x: auto">{layers}</div>'
        return f"<p><b>{html.escape(self.sentence)}</b></p><ul>{found}</ul>{table}"
