"""What to change in a network in which something was found: causes and remedies, from theory.

Theory speaks of dense layers (and of convolutions by their fan-in) without normalization and
residual connections. Where its numbers do not apply, a remedy says what it does without one.
What a network already has, by its tables, is not advised.

Code runs as it stands where Keras is imported and ``model`` is the network, with ``x`` and ``y``
the arrays that it is trained on. Layers in it are those of the model, with their own arguments,
where its settings were recorded; else they are dense.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.advice.findings import RATIO, Finding
from gradprop.advice.initializations import DEEPEST, Initialization, advise, spelled
from gradprop.advice.keras_code import GATES, RECOMPILE, Inputs, Layer, Optimizer, layers_of
from gradprop.analysis.diagnosis import LENGTH, SIGNAL, WEIGHT
from gradprop.analysis.thresholds import MOST_DECADES
from gradprop.components import activations
from gradprop.errors import GradpropError

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
        The change in Keras: what stands in the model's definition in place of what is there, or
        statements about ``model``, ``x`` or ``y``.
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
        As in `gradprop.advice.rules`.

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
            if not 0 < needed < math.inf:  # the function overflows at this length
                continue
            sigma_w2 = 10.0 ** (2 * after[WEIGHT]) / after["fan_out"]
            units = here["fan_out"] / after["fan_out"]
            # E[delta_l^2] is (fan_out / fan_in) chi_1 times that of the next layer
            measured = units * 10.0 ** (2 * (here[SIGNAL] - after[SIGNAL]))
            found.append((here["layer"], sigma_w2, needed, sigma_w2 / needed, measured))
    names = ["layer", "sigma_w2", "needed", "chi_1", "measured"]
    return pd.DataFrame(found, columns=names)


def advice(
    findings: Sequence[Finding],
    layers: pd.DataFrame,
    network: pd.DataFrame,
    steps: pd.DataFrame | None = None,
    settings: pd.DataFrame | None = None,
) -> tuple[Remedy, ...]:
    """Say what to change, what mends the cause first.

    Parameters
    ----------
    findings : sequence of Finding
        Of `gradprop.advice.diagnosing.diagnose`.
    layers, network : DataFrame
        As there.
    steps : DataFrame, optional
        As there; where it is given, clipping that the optimizer does already is not advised, and
        mean and standard deviation of a minibatch's inputs and targets are told.
    settings : DataFrame, optional
        How layers and optimizer were defined (`gradprop.inspection.settings`).

    Returns
    -------
    tuple of Remedy
        In the order of the findings; for one kind, the larger expected effect first. Every change
        stands there once, and none that the network has. Empty for a healthy network.

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
    first_row = pd.Series(dtype=object) if steps is None else steps.iloc[0]
    known = pd.DataFrame() if settings is None else settings
    case = _Network.of(layers, network, first_row, known)
    case = replace(case, has_signal=set(first) == {"not learning"})
    given: dict[str, Remedy] = {}
    for kind in dict.fromkeys(finding.kind for finding in findings):
        for remedy in _REMEDIES[kind](first[kind], case.around(first[kind].layer)):
            given.setdefault(remedy.change, remedy)
    return tuple(given.values())


@dataclass(frozen=True)
class _Network:
    """What remedies ask of a network, as it began.

    Attributes
    ----------
    activation
        The most frequent function of its hidden layers, of those that are not recurrent if there
        are any; empty if it is not known, or not to the registry.
    depth, width
        Hidden layers, and the median of their units.
    ratio
        Median over layers of log10 of the update-to-weight ratio at the first step; NaN if it was
        not measured.
    hidden
        The rows of its hidden layers, of both tables; in ``defined`` the `Layer` of each.
    layers, of_function
        The hidden layers that advice is about, one of each class: all, and those with `activation`.
    end
        The output layer.
    outputs, output
        Units and function of the output layer.
    output_norm
        log10 of the norm of the output layer's weights; NaN if it was not measured.
    first
        The first row of ``steps``.
    optimizer
        The optimizer.
    penalized
        The layers with penalties, or of which it is not known whether they have some.
    inputs
        The inputs, if there are several or their number is not known.
    names
        The names of the layers by their numbers.
    has_signal
        Whether nothing was found but that it does not learn: then its rate is what is wrong,
        however small it is.
    """

    activation: str
    depth: int
    width: int
    ratio: float
    hidden: pd.DataFrame
    layers: tuple[Layer, ...]
    of_function: tuple[Layer, ...]
    end: Layer
    outputs: int
    output: str
    output_norm: float
    first: pd.Series[Any]
    optimizer: Optimizer
    penalized: tuple[Layer, ...] = ()
    inputs: Inputs | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    has_signal: bool = False

    @classmethod
    def of(
        cls,
        layers: pd.DataFrame,
        network: pd.DataFrame,
        first_row: pd.Series[Any],
        settings: pd.DataFrame,
    ) -> _Network:
        first = layers[layers["step"] == layers["step"].min()]
        rows = network[[name for name in _OF_NETWORK if name in network]].sort_values("layer")
        measured = first.drop(columns=[name for name in rows if name in first and name != "layer"])
        rows = rows.merge(measured, on="layer", how="left")
        rows["defined"] = pd.Series(_defined(rows, settings), index=rows.index, dtype=object)
        rows["function"] = [
            _function(str(name), layer)
            for name, layer in zip(rows["activation"], rows["defined"], strict=True)
        ]
        hidden, output = rows.iloc[:-1], rows.iloc[-1]
        fed = hidden[[not layer.is_recurrent for layer in hidden["defined"]]]
        functions = (fed if len(fed) else hidden)["function"]
        function = next(filter(None, functions.mode()), "")  # a known one of those tied
        with_it = hidden.loc[functions.index[functions == function], "defined"]
        names = {row["layer"]: str(row.get("name", "")) for row in rows.to_dict("records")}
        ratios = first[RATIO] if RATIO in first else pd.Series(dtype=float)
        ratios = ratios[np.isfinite(ratios)]
        return cls(
            activation=function,
            depth=len(hidden),
            width=int(hidden["fan_out"].median()) if len(hidden) else 1,
            ratio=float(ratios.median()) if len(ratios) else math.nan,
            hidden=hidden,
            layers=_one_of_each(hidden["defined"]) if len(hidden) else (output["defined"],),
            of_function=_one_of_each(with_it),
            end=output["defined"],
            outputs=int(output["fan_out"]),
            output=str(output["activation"]),
            output_norm=float(output.get(WEIGHT, np.nan)),
            first=first_row,
            optimizer=Optimizer.of(settings),
            penalized=_penalized(
                layers_of(settings), zip(names.values(), rows["defined"], strict=True)
            ),
            inputs=Inputs.of(settings),
            names=names,
        )

    def around(self, layer: int | None) -> _Network:
        """Return the network as one hidden layer of it asks for; itself for any other layer."""
        found = self.hidden[self.hidden["layer"] == layer]
        if found.empty:
            return self
        own = tuple(found["defined"])
        name = str(found["function"].iloc[0])
        return replace(self, layers=own, of_function=own, activation=name)

    def recommended(self, activation: str) -> Initialization | None:
        """Return the initialization for an activation function in a network of this shape.

        None where theory has none: of functions that are not known or that grow faster than
        linearly, and of depths that it is not asked about.
        """
        if not activation or not 2 <= self.depth <= DEEPEST:
            return None
        return _recommended(activation, self.depth, self.width)

    def has_variance(self, sigma_w2: float) -> bool:
        """Tell whether weights of this variance times fan-in may be those of the hidden layers.

        The mean square of n random weights scatters by ``sqrt(2 / n)`` of itself if they are
        Gaussian, and less if they are uniform. Four such errors are allowed, of every layer and of
        all together, and 5 % besides, which change no gradient in a network that can be trained.
        """
        are_drawn = [not layer.is_recurrent for layer in self.hidden["defined"]]
        rows = self.hidden[are_drawn]
        if WEIGHT not in rows or rows.empty:
            return False
        units, entries = rows["fan_out"], rows["fan_in"] * rows["fan_out"]
        shares = [layer.share(sigma_w2) for layer in rows["defined"]]
        squares = 10.0 ** (2 * rows[WEIGHT].astype(float)) / shares
        ratios = pd.Series([*squares / units, squares.sum() / units.sum()]) / sigma_w2
        numbers = pd.Series([*entries, entries.sum()])
        return bool((abs(ratios - 1) <= 0.05 + 4 * np.sqrt(2 / numbers)).all())

    @property
    def is_normalized(self) -> bool:
        """Whether normalizations follow half of the hidden layers, as one does in many a block."""
        return "extra" in self.hidden and bool(
            (self.hidden["extra"] == "normalization").mean() >= 0.5
        )

    @property
    def has_skips(self) -> bool:
        """Whether skips join anywhere behind a hidden layer."""
        return "extra" in self.hidden and bool((self.hidden["extra"] == "skip").any())

    @property
    def stretch(self) -> float:
        """The singular value of a recurrent kernel farthest from 1; NaN if all keep signals."""
        if "recurrent_singular_value" not in self.hidden:
            return math.nan
        largest = self.hidden["recurrent_singular_value"].astype(float).dropna()
        far = [value for value in largest if not KEPT[0] <= value <= KEPT[1]]
        return max(far, key=lambda value: abs(value - 1), default=math.nan)

    @property
    def clips(self) -> bool:
        """Whether the optimizer clips gradients, as far as that is known."""
        known = self.optimizer.clips
        return bool(self.first.get("clips", False)) if known is None else known

    def shifts(self, kind: str) -> float:
        """Return the mean bias that silences, or flattens, units by itself; 0 if none does.

        It is farther from 0 than pre-activations scatter around their mean, in one layer at least.
        """
        if not {"bias_mean", "preactivation_std"} <= set(self.hidden):
            return 0.0
        bias, spread = (self.hidden[c].astype(float) for c in ("bias_mean", "preactivation_std"))
        at_fault = bias[(abs(bias) > spread) & ((bias < 0) | (kind != "dead"))]
        return float(at_fault.iloc[0]) if len(at_fault) else 0.0

    @property
    def is_recurrent(self) -> bool:
        """Whether advice is about recurrent layers alone, of which theory does not speak."""
        return all(layer.is_recurrent for layer in self.layers)

    def drawn(self, best: Initialization, activation: str | None = None) -> str:
        """Return layers with the weights of an initialization, and another function if given."""
        function = {} if activation is None else {"activation": spelled(activation)}
        return _lines(
            layer.code(**function, **layer.drawn(best.sigma_w2))
            for layer in (self.of_function if activation is None else self.layers)
            if not layer.is_recurrent
        )


def _lines(codes: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(filter(None, codes)))


def _registered(name: str) -> str:
    """Return a name that the registry of activation functions knows; empty for others."""
    try:
        activations.get(name)
    except ValueError:
        return ""
    return name


def _defined(rows: pd.DataFrame, settings: pd.DataFrame) -> list[Layer]:
    """Return the layer of every row, with its own function in code; dense where none is known."""
    known, found = layers_of(settings), []
    units = rows["fan_out"].iloc[:-1].median() if len(rows) > 1 else 1
    for number, row in enumerate(rows.to_dict("records"), start=1):
        layer = known.get(str(row.get("name", "")).partition("#")[0])
        if layer is None:
            given = row["fan_out"] if number == len(rows) else int(units)
            found.append(_usual(row, str(given)))
            continue
        arguments, kind = dict(layer.arguments), str(row.get("kind", layer.class_name))
        layer = replace(layer, own="" if kind == layer.class_name else kind)
        function = _in_code(layer, row)
        if "activation" in arguments:
            function = arguments["activation"] = arguments["activation"] or function
        called = _called(layer, row)
        found.append(replace(layer, arguments=arguments, function=function, called=called))
    return found


def _usual(row: dict[Any, Any], units: str) -> Layer:
    """Return the layer of a row of which no definition is known."""
    if row.get("kind") in GATES:
        return Layer(row["kind"], {"units": str(row["fan_out"] // GATES[row["kind"]])})
    layer = Layer("Dense", {"units": units})
    function = _in_code(layer, row)
    if row["activation"] == "linear":
        return layer
    given = {"units": units, "activation": function}
    return replace(layer, arguments=given, function=function, called=_called(layer, row))


def _in_code(layer: Layer, row: dict[Any, Any]) -> str | None:
    """Return the activation function of a row in code; None where there is none."""
    name = str(row["activation"])
    if name == "softmax":
        return '"softmax"'
    return spelled(name) if _function(name, layer) else None


def _called(layer: Layer, row: dict[Any, Any]) -> str:
    """Return in words what the function of a row is that has no code."""
    name = str(row["activation"])
    if layer.own and name == "linear":
        return f"what {layer.own} applies"
    return "the lambda of this layer" if name == "<lambda>" else f"the function {name}"


def _function(name: str, layer: Layer) -> str:
    """Return the registry's name of a layer's function; empty if the function is not known.

    A layer of somebody's own class may apply one inside, where only its outputs are seen.
    """
    return "" if layer.own and name == "linear" else _registered(name)


def _penalized(
    known: Mapping[str, Layer], judged: Iterable[tuple[str, Layer]]
) -> tuple[Layer, ...]:
    """Return the layers with penalties, and those of which it is not known whether they have some.

    Parameters
    ----------
    known
        All layers whose definitions were recorded.
    judged
        The names and layers of the network's rows, which know of functions and own classes.
    """
    made = {**known, **{name: layer for name, layer in judged if name in known}}
    return tuple(layer for layer in made.values() if layer.penalties or not layer.class_name)


def _one_of_each(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return of every class the layer that is there most often, in the order of the network."""
    found: dict[str, list[str]] = {}
    of: dict[str, Layer] = {}
    for layer in layers:
        code = layer.code()
        found.setdefault(layer.own or layer.class_name, []).append(code)
        of.setdefault(code, layer)
    return tuple(of[max(codes, key=codes.count)] for codes in found.values())


#: Largest singular values of a gate whose recurrent kernel counts as orthogonal. The gates of an
#: orthogonal kernel of several have somewhat less than 1.
KEPT = (0.5, 1.1)


@lru_cache  # of one network it is asked several times, and takes a tenth of a second
def _recommended(activation: str, depth: int, width: int) -> Initialization | None:
    """Return what theory recommends; None of a function that has no law of lengths."""
    try:
        return advise(activation, depth, width).recommended
    except GradpropError:  # as of an exponential, which grows faster than linearly
        return None


_OF_NETWORK = ("layer", "name", "kind", "fan_in", "fan_out", "activation", "extra")


def _expected(best: Initialization, found: Finding) -> str:
    measured = ""
    if found.concerns == "signal":
        measured = f", where {found.value:+.2g} were measured"
    return (
        f"gradients change by {best.signal_decades:+.2g} ± {best.signal_sd:.2g} decades over the "
        f"hidden layers{measured}, and lengths by {best.length_decades:+.2g}"
    )


def _initialize(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _initialize_recurrent(found, case)
    if case.is_recurrent or (found.kind != "symmetric" and case.has_variance(_needed(case))):
        return
    best = case.recommended(case.activation)
    if best:
        change = f"Draw the weights with gain {best.gain:.4g}, which {case.activation} needs."
        yield Remedy(found.kind, change, _expected(best, found), case.drawn(best))
    else:
        change = "Draw the weights with a variance of 2 / fan_in for rectifiers, else 1 / fan_in."
        code = _lines(
            layer.code(**layer.drawn(_needed(case)))
            for layer in case.layers
            if not layer.is_recurrent
        )
        yield Remedy(found.kind, change, "lengths of rectifiers keep their mean", code)


def _initialize_recurrent(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield the initialization that Keras has for recurrent layers, unless they have it."""
    names = {"kernel_initializer": None, "recurrent_initializer": '"orthogonal"'}
    is_asked = found.kind == "symmetric" or not math.isnan(case.stretch)
    others = [
        layer
        for layer in case.layers
        if layer.is_recurrent and (is_asked or set(names) & set(layer.arguments))
    ]
    if others:
        effect = "an orthogonal recurrent kernel keeps the length of the state from step to step"
        if not math.isnan(case.stretch):
            effect += f", where a singular value of {case.stretch:.3g} was measured"
        yield Remedy(
            found.kind,
            "Draw the weights of recurrent layers as Keras does by default.",
            effect,
            _lines(layer.code(**names) for layer in others),
        )


_RECTIFIERS = ("relu", "relu6", "leaky_relu")


def _needed(case: _Network) -> float:
    """Return the variance times fan-in that is advised."""
    best = case.recommended(case.activation)
    if best:
        return best.sigma_w2
    return 2.0 if case.activation in _RECTIFIERS else 1.0


def _signal(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield weights, another function, normalization and skips, the best expectation first."""
    if case.is_recurrent:
        yield from _steady(found, case)
        return
    options: list[tuple[float, Remedy]] = []
    own = case.recommended(case.activation)
    far = max(abs(own.signal_decades), abs(own.length_decades)) if own else 0.0
    options += [(far, remedy) for remedy in _initialize(found, case)]
    other = case.recommended("relu") if far > MOST_DECADES / 2 else None
    if other and case.activation != "relu" and not case.is_recurrent:
        change = f"Take ReLU in place of {case.activation}, with gain {other.gain:.4g}."
        far = max(abs(other.signal_decades), abs(other.length_decades))
        code = case.drawn(other, "relu")
        options.append((far, Remedy(found.kind, change, _expected(other, found), code)))
    options += [*_normalize(found, case), *_add_skips(found, case)]
    for _, remedy in sorted(options, key=lambda option: option[0]):
        yield remedy


def _steady(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield what keeps signals from growing, or shrinking, over time steps."""
    yield from _initialize_recurrent(found, case)
    if found.kind == "exploding":
        yield from _clip(found, case)
    simple = [layer for layer in case.layers if layer.class_name == "SimpleRNN"]
    if simple:
        change = "Take an LSTM or a GRU in place of the simple recurrent layer."
        effect = "their state is added to, so that signals pass time steps without every kernel"
        # Its function and its weights are those of an LSTM by default.
        own = dict.fromkeys(("activation", "kernel_initializer", "recurrent_initializer"))
        code = _lines(replace(layer, class_name="LSTM", own="").code(**own) for layer in simple)
        yield Remedy(found.kind, change, effect, code)
    yield from (remedy for _, remedy in _normalize(found, case))


def _normalize(found: Finding, case: _Network) -> Iterator[tuple[float, Remedy]]:
    """Yield the decades that are expected, and the remedy."""
    if case.depth < 2 or case.is_normalized:
        return
    if case.is_recurrent:
        change, effect = "Normalize the outputs of every recurrent layer.", "their lengths are 1"
        code = _lines(f"{layer.code()}\nkeras.layers.LayerNormalization()" for layer in case.layers)
        yield MOST_DECADES, Remedy(found.kind, change, effect, code)
        return
    effect, far = "lengths are 1 in every layer", MOST_DECADES
    if case.activation and case.activation != "linear":
        growth = 0.5 * math.log10(theory.batch_norm_growth(case.activation))
        far = growth * (case.depth - 1)
        effect += (
            f", and gradients grow by {growth:.2g} decades per layer towards the input, "
            f"{far:.2g} in all"
        )
    change = "Normalize every hidden layer before its activation."
    code = _lines(_normalized(layer) for layer in case.layers if not layer.is_recurrent)
    yield far, Remedy(found.kind, change, effect, code)


def _normalized(layer: Layer) -> str:
    """Return a layer, a normalization and the function of the layer in code."""
    axis = "axis=1" if layer.arguments.get("data_format") == '"channels_first"' else ""
    normalization = f"keras.layers.BatchNormalization({axis})"
    return _lines((layer.code(activation=None), normalization, layer.activation))


def _add_skips(found: Finding, case: _Network) -> Iterator[tuple[float, Remedy]]:
    """Yield the decades that are expected, and the remedy.

    Mean squares of h + f(h) / sqrt(depth) grow by 1 + 1 / depth per layer, at most e-fold.
    """
    if case.depth < 2 or case.has_skips:
        return
    change = "Add the input of every hidden layer to its output, scaled by 1/sqrt(depth)."
    effect = "mean squares grow by at most a factor of e over the depth if branches keep them"
    code = (
        "def residual(h, layer):  # in place of layer(h)\n"
        f"    return keras.layers.Add()([h, layer(h) / {math.sqrt(case.depth):.3g}])"
    )
    yield 0.5 * math.log10(math.e), Remedy(found.kind, change, effect, code)


def _clip(found: Finding, case: _Network) -> Iterator[Remedy]:
    if case.clips:
        return
    effect = (
        "the gradient of every variable has a norm of at most 1, so that a step of plain SGD is at "
        "most as long as the learning rate"
    )
    if case.optimizer.is_wrapped:
        effect += (
            ". The bound is one of unscaled gradients: the inner optimizer gets them, and clipping "
            "that is set on the outer one has no effect"
        )
    code = f"{case.optimizer.path}.clipnorm = 1.0\n{RECOMPILE}"
    yield Remedy(found.kind, "Clip the norm of gradients.", effect, code)


def _slower(found: Finding, case: _Network) -> Iterator[Remedy]:
    wanted = USUAL_RATIO - case.ratio if math.isfinite(case.ratio) else -1.0
    yield _rate(found, case, min(wanted, -1.0))
    yield from _clip(found, case)


def _faster(found: Finding, case: _Network) -> Iterator[Remedy]:
    ratio = case.ratio if math.isfinite(case.ratio) else found.value
    # Beyond four decades a rate is not what is wrong where the signal is.
    if math.isfinite(ratio) and (case.has_signal or ratio > USUAL_RATIO - 4):
        yield _rate(found, case, USUAL_RATIO - ratio)


def _rate(found: Finding, case: _Network, decades: float) -> Remedy:
    factor = f"{10**decades:.2g}"
    what = "learning rate" if case.optimizer.schedule is None else "rates of the schedule"
    return Remedy(
        found.kind,
        f"Multiply the {what} by {factor}.",
        "the median update-to-weight ratio becomes about 1e-3 (of plain SGD it is in proportion)",
        case.optimizer.multiplied(factor),
    )


def _scale_inputs(found: Finding, case: _Network) -> Iterator[Remedy]:
    effect = (
        f"their root mean square becomes about 1, where {found.value:.3g} was found"
        f"{_of_minibatch(case, 'input')}"
    )
    if found.value > 1:
        effect += f", and lengths of the first layer become {found.value**2:.2g} times smaller"
    code = (
        "normalization = keras.layers.Normalization()  # in front of the first layer\n"
        "normalization.adapt(x)  # mean and variance of all training data"
    )
    if case.inputs is not None:
        code = case.inputs.standardized(case.names.get(found.layer or 0, ""))
    yield Remedy(found.kind, "Standardize the inputs, in front of the first layer.", effect, code)


def _scale_targets(found: Finding, case: _Network) -> Iterator[Remedy]:
    effect = (
        f"the loss begins near 1, where outputs of 0 have a loss of {found.value**2:.3g}"
        f"{_of_minibatch(case, 'target')}"
    )
    code = (
        "mean, std = y.mean(axis=0), y.std(axis=0)  # of all training data\n"
        "std = std + (std == 0)  # a target that is constant is not divided by 0\n"
        "y = (y - mean) / std  # what the model predicts is then: outputs * std + mean"
    )
    yield Remedy(found.kind, "Standardize the targets.", effect, code)


def _of_minibatch(case: _Network, name: str) -> str:
    """Return what a number was measured on, with mean and standard deviation if known."""
    mean, std = (float(case.first.get(f"{name}_{part}", math.nan)) for part in ("mean", "std"))
    known = f" (mean {mean:.3g}, standard deviation {std:.3g})" if std > 0 else ""
    return f" in one minibatch{known}"


def _give_output(found: Finding, case: _Network) -> Iterator[Remedy]:
    if found.concerns == "targets":
        effect = "the loss is 0 at best; with other targets outputs grow without end to lower it"
        code = "y = (y - y.min()) / (y.max() - y.min())"
        yield Remedy(found.kind, "Give targets between 0 and 1.", effect, code)
        return
    function, change = "linear", "Let the outputs be linear."
    if found.concerns == "layers":
        function, change = (
            "softmax",
            "Leave out one softmax of two; this output layer has the other.",
        )
    elif found.concerns == "function":
        function, change = "sigmoid", "Let the output be the probability of a sigmoid."
        if case.outputs > 1:
            function, change = "softmax", "Let the outputs be the probabilities of a softmax."
    yield Remedy(
        found.kind,
        change,
        "the loss can become as small as the data allow; linear outputs for a cross-entropy are "
        "logits, which the loss has to be told (from_logits=True)",
        case.end.code(activation=f'"{function}"'),
    )


#: An optimizer keeps the variables that it was built for: another one of its kind takes its place.
COMPILE_AFRESH = (
    "optimizer = type(model.optimizer).from_config(model.optimizer.get_config())\n"
    "model.compile(optimizer, model.loss)  # and other arguments, such as metrics"
)


def _thaw(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield Remedy(
        found.kind,
        "Let the layers be trained.",
        "weights change; Keras takes the setting over when the model is compiled again",
        f"model.trainable = True\n{COMPILE_AFRESH}",
    )


def _lighten(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield a penalty that begins at a tenth of the loss of the data."""
    divisor = float(f"{10 * max(found.value, 1.0):.2g}")
    effect = (
        "it begins at a tenth of the loss of the data, so that what is learned decides about the "
        "weights; a penalty that a layer adds itself (add_loss) is divided in that layer"
    )
    made = [layer.lightened(divisor) for layer in case.penalized]
    code = _lines(code or "" for code in made)
    if not made or None in made:
        effect += (
            ". The layers keep the factor that they were made with: make them with the smaller one "
            "in a model that is saved, because a loaded model has the old factor again"
        )
        code = (
            "for variable in model.trainable_variables:\n"
            "    if variable.regularizer is not None:\n"
            "        strong = variable.regularizer\n"
            f"        variable.regularizer = lambda w, strong=strong: strong(w) / {divisor:g}\n"
            f"{COMPILE_AFRESH}"
        )
    change = f"Divide the factor of the penalty by {divisor:g}."
    yield Remedy(found.kind, change, effect, code)


def _break_symmetry(found: Finding, case: _Network) -> Iterator[Remedy]:
    for remedy in _initialize(found, case):
        change = remedy.change.removesuffix(".") + ", at random: units then differ."
        yield Remedy(remedy.kind, change, remedy.effect, remedy.code)


def _unshift(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield biases of 0 where the biases alone hold units in the tails of their function."""
    bias = case.shifts(found.kind)
    if bias:
        effect = f"pre-activations are then around 0, where biases of {bias:.3g} move them away"
        code = _lines(layer.code(bias_initializer='"zeros"') for layer in case.layers)
        yield Remedy(found.kind, "Begin with biases of 0.", effect, code)


def _revive(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _unshift(found, case)
    yield from _initialize(found, case)
    leaky = case.recommended("leaky_relu")
    if leaky and case.activation in ("relu", "relu6") and not case.is_recurrent:
        change = "Take leaky ReLU, whose units always let a gradient through."
        code = case.drawn(leaky, "leaky_relu")
        yield Remedy(found.kind, change, _expected(leaky, found), code)
    yield from (remedy for _, remedy in _normalize(found, case))


def _unsaturate(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _unshift(found, case)
    yield from _initialize(found, case)
    yield from (remedy for _, remedy in _normalize(found, case))


def _restart(found: Finding, case: _Network) -> Iterator[Remedy]:
    """Yield other data where they are at fault, and weights before any step, else smaller steps."""
    if found.is_in_data:
        name = "y" if found.concerns == "targets" else "x"
        yield Remedy(
            found.kind,
            f"Take what is NaN or infinite out of the {found.concerns}.",
            "what the layers compute is finite; this code puts 0 in its place, which may be worse "
            "than leaving such examples out",
            f"{name} = keras.ops.nan_to_num({name}, nan=0.0, posinf=0.0, neginf=0.0)",
        )
        return
    if found.step > 0:
        yield from _slower(found, case)
    yield from _initialize(found, case)
    yield from (remedy for _, remedy in _normalize(found, case))


def _first_loss(found: Finding, case: _Network) -> Iterator[Remedy]:
    yield from _initialize(found, case)
    if case.output_norm == -np.inf:
        return
    yield Remedy(
        found.kind,
        "Begin with an output layer of weights 0.",
        "the first loss is that of guessing; hidden layers move from the second step on",
        case.end.code(**case.end.zeros()),
    )


_REMEDIES = {
    "non-finite": _restart,
    "input not scaled": _scale_inputs,
    "target not scaled": _scale_targets,
    "wrong output": _give_output,
    "logits misnamed": _give_output,
    "frozen": _thaw,
    "symmetric": _break_symmetry,
    "dead": _revive,
    "saturated": _unsaturate,
    "penalty too strong": _lighten,
    "exploding": _signal,
    "vanishing": _signal,
    "unstable": _slower,
    "not learning": _faster,
    "initial loss": _first_loss,
}
