"""What theory says of an activation function at a depth and a width: which weights keep its signal.

Nothing is measured here. `gradprop.theory` has the mean-field quantities, `gradprop.prediction` the
laws at finite width.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import scipy

from gradprop import errors, theory
from gradprop.advice.functions import from_function, slope_error
from gradprop.analysis.thresholds import MOST_DECADES
from gradprop.components import activations
from gradprop.components.activations import ACTIVATIONS, Activation, ActivationLike
from gradprop.components.initializers import INITIALIZERS
from gradprop.components.registry import LARGEST_SIZE, Registry
from gradprop.errors import GradpropError
from gradprop.grid import config, schema
from gradprop.prediction.networks import predict, weight_variance
from gradprop.spec import Cell, Component

__all__ = ["Initialization", "InitializationAdvice", "advise", "gaussian", "unit_sigma_w2"]

#: Most hidden layers that are asked about.
DEEPEST = 1000
#: Depth scales of the correlation up to which networks were trained (Schoenholz et al. 2017).
DEPTH_SCALES = 6.0
# Of the search for balanced weights: sigma_w^2 from 1/20 (a hundredth of what a rectifier needs is
# never best) to 1000 (the sigmoid needs 103).
_SMALLEST, _LARGEST, _POINTS = 0.05, 1000.0, 50
_SAME = 1e-6  # relative difference up to which two gains are one
# Gains that torch.nn.init.calculate_gain returns, by Keras's names.
_TORCH: dict[str, Callable[[Activation], float]] = {
    "linear": lambda phi: 1.0,
    "sigmoid": lambda phi: 1.0,
    "tanh": lambda phi: 5.0 / 3.0,
    "relu": lambda phi: math.sqrt(2.0),
    "leaky_relu": lambda phi: math.sqrt(2.0 / (1.0 + float(phi.derivative(-1.0)) ** 2)),
    "selu": lambda phi: 0.75,
}
# The usual ones, with what Keras calls them.
_USUAL = {
    "Glorot, Keras's default": ("glorot_uniform", "keras.initializers.GlorotUniform()"),
    "He": ("he_normal", "keras.initializers.HeNormal()"),
    "LeCun": ("lecun_normal", "keras.initializers.LecunNormal()"),
    "orthogonal": ("orthogonal", "keras.initializers.Orthogonal()"),
    "PyTorch's default": (
        "pytorch_default",
        'keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")',
    ),
}
_KERAS_CLASSES = {  # those whose parameters have Keras's names
    "glorot_normal": "GlorotNormal",
    "glorot_uniform": "GlorotUniform",
    "he_normal": "HeNormal",
    "he_uniform": "HeUniform",
    "lecun_normal": "LecunNormal",
    "lecun_uniform": "LecunUniform",
    "orthogonal": "Orthogonal",
    "variance_scaling": "VarianceScaling",
}


@dataclass(frozen=True)
class Initialization:
    """What theory expects of one initialization; logarithms are decimal, of root mean squares.

    Attributes
    ----------
    initialization : str
        What it is called; several names where several rules agree.
    gain, sigma_w2 : float
        Weights of standard deviation ``gain / sqrt(fan_in)``; ``sigma_w2`` is its square.
    q_star : float
        Mean square of pre-activations that lengths tend to (`theory.length_fixed_point`).
    chi_1 : float
        Factor per layer of the mean square of dC/dz at ``q_star``, towards the input.
    decades_per_layer : float
        ``log10(chi_1) / 2``: negative where gradients vanish.
    depth_scale : float
        Layers over which two inputs lose their difference or their likeness
        (`theory.correlation_depth_scale`); infinite at criticality and where the decay is none
        of exponentials.
    trainable_depth : float
        The smaller of `DEPTH_SCALES` depth scales and of the layers in which dC/dz changes by
        `MOST_DECADES` decades.
    signal_decades, signal_sd : float
        log10 of RMS dC/dz of the first hidden layer over that of the last: mean and standard
        deviation over networks of this depth and width.
    length_decades : float
        log10 of the root mean square of pre-activations of the last hidden layer over that of the
        first, mean over networks.
    activation_std : float
        Standard deviation of the activations of the last hidden layer at infinite width.
    code : str
        The layer in Keras.
    """

    initialization: str
    gain: float
    sigma_w2: float
    q_star: float
    chi_1: float
    decades_per_layer: float
    depth_scale: float
    trainable_depth: float
    signal_decades: float
    signal_sd: float
    length_decades: float
    activation_std: float
    code: str


@dataclass(frozen=True)
class InitializationAdvice:
    """What `advise` returns: it prints itself, and notebooks show it as a table.

    Attributes
    ----------
    activation : str
        Label of the activation function, or the name of the function.
    depth, width : int
        Hidden layers and their units.
    rows : tuple of Initialization
        The recommended initialization first.
    notes : tuple of str
        What the answers differ in, in sentences.
    error : float
        Relative error of E[phi'(z)^2], which ``chi_1`` is proportional to; 0 where derivatives are
        exact.
    """

    activation: str
    depth: int
    width: int
    rows: tuple[Initialization, ...]
    notes: tuple[str, ...]
    error: float

    @property
    def recommended(self) -> Initialization:
        """The initialization that changes signal and length least over this depth."""
        return self.rows[0]

    @property
    def table(self) -> pd.DataFrame:
        """One row per initialization, a column for each attribute of `Initialization`."""
        names = [field.name for field in fields(Initialization)]
        return pd.DataFrame(
            [[getattr(row, name) for name in names] for row in self.rows], columns=names
        )

    @property
    def title(self) -> str:
        """What is asked, in a line."""
        return f"{self.activation}, {self.depth} hidden layers of {self.width} units"

    def document(self) -> dict[str, Any]:
        """Return plain data for JSON, in which an infinite number is null."""
        rows = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in record.items()
            }
            for record in self.table.to_dict("records")
        ]
        return {
            "activation": self.activation,
            "depth": self.depth,
            "width": self.width,
            "error": self.error,
            "notes": list(self.notes),
            "initializations": rows,
        }

    def __repr__(self) -> str:
        numbers = self._shown.to_string(index=False)
        code = "\n".join(f"# {row.initialization}\n{row.code}" for row in self.rows)
        notes = "\n".join(f"* {note}" for note in self.notes)
        return f"{self.title}\n\n{numbers}\n\n{notes}\n\n{code}"

    def _repr_html_(self) -> str:
        numbers = self._shown.to_html(index=False, escape=True, border=0)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        code = "\n".join(f"# {row.initialization}\n{row.code}" for row in self.rows)
        return (
            f"<p><b>{html.escape(self.title)}</b></p>"
            f'<div style="overflow-x: auto">{numbers}</div><ul>{notes}</ul>'
            f'<pre tabindex="0" style="overflow-x: auto">{html.escape(code)}</pre>'
        )

    @property
    def _shown(self) -> pd.DataFrame:
        table = self.table.drop(columns="code")
        return table.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)


def advise(
    activation: str | Callable[[Any], Any] = "relu",
    depth: int = 20,
    width: int = 64,
    initializer: str | None = None,
) -> InitializationAdvice:
    """Say from theory which initialization an activation function needs, and what others do.

    For fully connected layers of one width without normalization, residual connections and biases,
    and inputs of mean square 1.

    Parameters
    ----------
    activation : str or callable, optional
        Label of the registry, with parameters in parentheses where they are not the defaults, or a
        function of arrays or tensors, element by element.
    depth, width : int, optional
        Hidden layers (2 to 1000) and their units.
    initializer : str, optional
        Label of an initializer that is asked about besides the usual ones.

    Returns
    -------
    InitializationAdvice
        Its first row is recommended: the Gaussian weights for which the larger of two changes over
        the depth is the smallest, that of RMS dC/dz and that of the root mean square of
        pre-activations, both in a typical network of this width (means of logarithms). If a rule
        that has a name is worse by less than one network differs from another, it is taken.

    Raises
    ------
    GradpropError
        If an argument is not allowed; the message says which are.

    Notes
    -----
    "Edge of chaos" is ``chi_1 = 1`` at the fixed point of the length (Schoenholz et al. 2017,
    arXiv:1611.01232), "unit length" has the fixed point ``q* = 1`` (Klambauer et al. 2017,
    arXiv:1706.02515; for rectifiers, He et al. 2015), and "PyTorch's gain" is the one that
    ``torch.nn.init.calculate_gain`` returns.

    Examples
    --------
    >>> import gradprop
    >>> found = gradprop.advise(activation="relu", depth=50, width=128)
    >>> round(found.recommended.sigma_w2, 6)
    2.0
    >>> he = found.table.set_index("initialization").loc["He"]
    >>> round(float(he["chi_1"]), 6)
    1.0
    """
    _check_size("depth", depth, 2, DEEPEST)
    _check_size("width", width, 1, LARGEST_SIZE)
    named = None if callable(activation) else _component(ACTIVATIONS, activation, "activation")
    phi = activations.get(named) if named else _from_callable(activation)
    given = None if initializer is None else _initializer(initializer, phi)
    code = _in_keras(named) if named else phi.name if phi.name.isidentifier() else "your_function"
    with _entered(phi, named) as component:
        look = _Look(phi, component, depth, width, code)
        ruled = [look.at(rule, value) for rule, value in _rules(look).items()]
        asked = [] if given is None else [look.of(given, f"yours, {given.label}", _code(given))]
        usual = [look.of(Component(name), title, code) for title, (name, code) in _USUAL.items()]
    error = slope_error(phi)
    notes = [*_notes(ruled, look)]
    if error:
        notes.append(f"chi_1 of this function is found by differences, to {error:.0e} of itself.")
    rows = (*ruled, *asked, *usual)
    return InitializationAdvice(phi.name, depth, width, rows, tuple(notes), error)


# ------------------------------------------------------------------------------------- arguments


def _check_size(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        allowed = f"allowed: a whole number from {least} to {most}"
        raise GradpropError(f"advise: {name}: {errors.show(value)} is not allowed; {allowed}")


def _from_callable(given: Any) -> Activation:
    name = getattr(given, "__name__", type(given).__name__)
    return from_function(given, "your function" if name == "<lambda>" else str(name))


def _component(registry: Registry[Any], label: Any, key: str) -> Component:
    """Return a component of a registry by its label, after a look at its parameters."""
    source = f"advise: {key}"
    if not isinstance(label, str):
        raise GradpropError(f"{source}: {errors.show(label)} is no label")
    try:
        component = Component.parse(label)
    except ValueError as error:
        raise GradpropError(f"{source}: {errors.cut(label)}: {error}") from error
    if component.name not in registry:
        raise errors.unknown(key, component.name, list(registry), "advise")
    entry = registry[component.name]
    parameters = schema.parameters_schema(entry)
    config.validate(dict(component.parameters), parameters, f"{source}: {component.name}")
    found: Component = registry.create(component.document())
    return found


def _initializer(label: Any, phi: Activation) -> Component:
    component = _component(INITIALIZERS, label, "initializer")
    entry = INITIALIZERS[component.name]
    problem = ""
    if entry.variance is None:
        problem = f"theory says nothing of {component.label}: {entry.unpredicted}"
    elif entry.activations and phi.name.partition("(")[0] not in entry.activations:
        names = ", ".join(entry.activations)
        problem = f"{component.label} has no gain for {phi.name}; it has for {names}"
    if problem:
        raise GradpropError(f"advise: initializer: {problem}")
    return component


def _in_keras(component: Component) -> str:
    """Return an activation function of the registry in Keras code."""
    if component.name == "prelu":
        slope = ACTIVATIONS.parameters_of(component)["slope"]
        start = f"keras.initializers.Constant({slope!r})"
        return f"keras.layers.PReLU(alpha_initializer={start})"
    if not component.parameters:
        return "keras.ops.sin" if component.name == "sine" else f'"{component.name}"'
    ((_, value),) = component.parameters
    if component.name == "sine":
        return f"lambda z: keras.ops.sin({value!r} * z)"
    layer = {"leaky_relu": "LeakyReLU(negative_slope", "elu": "ELU(alpha"}[component.name]
    return f"keras.layers.{layer}={value!r})"


def spelled(label: str) -> str:
    """Return the activation function of the registry that has this label in Keras code."""
    return _in_keras(Component.parse(label))


def _code(initializer: Component) -> str:
    """Return a Keras initializer; of kinds that Keras lacks, one with the same variance."""
    given = ", ".join(f"{name}={value!r}" for name, value in initializer.parameters)
    if initializer.name in _KERAS_CLASSES:
        return f"keras.initializers.{_KERAS_CLASSES[initializer.name]}({given})"
    return ""


_numbers = itertools.count(1)


@contextmanager
def _entered(phi: Activation, named: Component | None) -> Iterator[Component]:
    """Let a function be a component for as long as predictions, which are of cells, are made."""
    if named:
        yield named
        return
    name = f"function-{next(_numbers)}"  # of its own, because moments are cached by it
    ACTIVATIONS[name] = phi
    try:
        yield Component(name)
    finally:
        del ACTIVATIONS[name]


# ----------------------------------------------------------------------------------------- rules


def unit_sigma_w2(activation: ActivationLike) -> float:
    """Return ``sigma_w2 = 1 / E[phi(z)**2]``, z standard normal: ``q = 1`` is a fixed point.

    1 for SELU (Klambauer et al. 2017), 2 for ReLU (He et al. 2015).

    Parameters
    ----------
    activation : Activation, Component or str
        The activation function.

    Returns
    -------
    float

    Examples
    --------
    >>> round(unit_sigma_w2("selu"), 9)
    1.0
    """
    return 1.0 / theory.length_map(activation, 1.0, 1.0)


def _rules(look: _Look) -> dict[str, float]:
    """Return ``sigma_w2`` by rule, the recommended first; rules that agree share a row.

    A rule that has a name is recommended where the balanced weights are better by less than one
    network differs from another.
    """
    found = {"unit length": unit_sigma_w2(look.phi)}
    with suppress(ValueError):  # softplus has no critical point without biases
        found["edge of chaos"] = theory.critical_point(look.phi).sigma_w2
    name = look.phi.name.partition("(")[0]
    if name in _TORCH:
        found["PyTorch's gain"] = _TORCH[name](look.phi) ** 2
    best = look.balanced()
    least, spread = look.worst(best)
    named = min(found.values(), key=lambda value: look.worst(value)[0])
    if look.worst(named)[0] - least < spread:
        best = next(v for v in found.values() if math.isclose(v, named, rel_tol=_SAME))
    rules: dict[str, float] = {}
    for value in (best, *found.values()):
        if any(math.isclose(value, other, rel_tol=_SAME) for other in rules.values()):
            continue
        names = [n for n, other in found.items() if math.isclose(value, other, rel_tol=_SAME)]
        title = ", ".join(names) or "balanced"
        rules[title if rules else f"recommended ({title})"] = value
    return rules


@dataclass(frozen=True)
class _Look:
    """What rows are made for: a function, at a depth and a width."""

    phi: Activation
    component: Component
    depth: int
    width: int
    spelled: str

    def at(self, title: str, sigma_w2: float) -> Initialization:
        """Return the row of Gaussian weights of this variance."""
        return self.of(_scaled(sigma_w2), title, gaussian(sigma_w2))

    def balanced(self) -> float:
        """Return the ``sigma_w2`` for which signal and length change least over the depth.

        What is minimized is the larger of two magnitudes, `signal_decades` and `length_decades`.
        For homogeneous functions that is the square of `gains.unbiased_gain`, at which both are 0.
        It is looked for around the best of `_POINTS` variances at infinite width; narrow layers
        need larger ones, up to twice as large.
        """
        grid = np.geomspace(_SMALLEST, _LARGEST, _POINTS)
        at = int(np.argmin([_worst_at_infinite_width(self.phi, self.depth, s) for s in grid]))
        near = grid[max(at - 1, 0) : at + 5]
        best = int(np.argmin([self.worst(float(s))[0] for s in near]))
        ends = near[max(best - 1, 0)], near[min(best + 1, len(near) - 1)]
        found = scipy.optimize.minimize_scalar(
            lambda log: self.worst(math.exp(log))[0],
            bounds=(math.log(ends[0]), math.log(ends[1])),
            method="bounded",
            options={"xatol": 1e-5},
        )
        return math.exp(float(found.x))

    def worst(self, sigma_w2: float) -> tuple[float, float]:
        """Return by how many decades signal or length change, and what networks differ by."""
        signal, length, spread = self._expected(_scaled(sigma_w2))
        return max(abs(signal), abs(length)), spread

    def _expected(self, initializer: Component) -> tuple[float, float, float]:
        """Return decades of signal and length over the depth, and the spread of the signal."""
        cell = Cell(
            dataset=Component("circles"),  # nothing is asked of it
            depth=self.depth,
            width=self.width,
            activation=self.component,
            initializer=initializer,
            learning_rate=0.1,
            batch_size=1,
            epochs=0,
            seed=0,
        )
        expected = predict(cell, inputs=self.width, outputs=self.width)
        if expected is None:
            raise GradpropError(
                f"advise: activation: {self.phi.name} grows faster than linearly, and lengths of "
                "its networks have no law of their own"
            )
        length = float(expected.length[self.depth - 1] - expected.length[0]) / 2
        return float(expected.signal[0]), length, float(expected.signal_sd[0])

    def of(self, initializer: Component, title: str, code: str) -> Initialization:
        """Return the row of an initializer."""
        variance = weight_variance(initializer, (self.width, self.width), self.component)
        assert variance is not None
        sigma_w2 = variance * self.width
        state = theory.mean_field_state(self.phi, sigma_w2)
        signal, length, spread = self._expected(initializer)
        return Initialization(
            initialization=title,
            gain=math.sqrt(sigma_w2),
            sigma_w2=sigma_w2,
            q_star=state.q_star,
            chi_1=state.chi_1,
            decades_per_layer=state.decades_per_layer,
            depth_scale=state.xi_c,
            trainable_depth=_trainable_depth(state),
            signal_decades=signal,
            signal_sd=spread,
            length_decades=length,
            activation_std=_activation_std(self.phi, self.depth, sigma_w2),
            code=f"keras.layers.Dense({self.width}, activation={self.spelled}, "
            f"kernel_initializer={code or gaussian(sigma_w2)})",
        )


def _worst_at_infinite_width(phi: Activation, depth: int, sigma_w2: float) -> float:
    """Return the larger change of signal and length, in decades; infinite where one is lost."""
    profile = theory.signal_profile(phi, [1] * (depth + 1), sigma_w2)
    with np.errstate(divide="ignore", invalid="ignore"):
        length = 0.5 * float(np.log10(profile.q[-1] / profile.q[0]))
    signal = float(profile.log_delta[0]) / (2 * math.log(10))
    worst = max(abs(signal), abs(length))
    return worst if math.isfinite(worst) else math.inf


def _scaled(sigma_w2: float) -> Component:
    return INITIALIZERS.create({"name": "variance_scaling", "scale": sigma_w2})


def gaussian(sigma_w2: float, mode: str = "fan_in") -> str:
    """Return a Keras initializer of Gaussian weights with this variance times a fan."""
    return (
        f'keras.initializers.VarianceScaling({sigma_w2:.10g}, mode="{mode}", '
        'distribution="untruncated_normal")'
    )


def _trainable_depth(state: theory.MeanField) -> float:
    decades = abs(state.decades_per_layer)
    by_signal = MOST_DECADES / decades if decades > 0 else math.inf
    return min(DEPTH_SCALES * state.xi_c, by_signal)


def _activation_std(phi: Activation, depth: int, sigma_w2: float) -> float:
    """Return the standard deviation of the last hidden layer, ``sqrt(E[h**2] - E[h]**2)``."""
    q = float(theory.signal_profile(phi, [1] * (depth + 1), sigma_w2).q[-1])
    if not math.isfinite(q):
        return math.inf
    mean = theory.expectation(phi.function, q, phi.kinks)
    return math.sqrt(max(theory.length_map(phi, q, 1.0) - mean**2, 0.0))


def _notes(ruled: Sequence[Initialization], look: _Look) -> Iterator[str]:
    """Say what every rule is right about, and what a function cannot be helped with."""
    for row in ruled:
        far = abs(row.decades_per_layer)
        trend = "grow" if row.decades_per_layer > 0 else "shrink"
        signal = f"{trend} by {far:.4f} decades per layer" if far >= 5e-5 else "keep their size"
        yield (
            f"{row.initialization}: with gain {row.gain:.4g} gradients {signal} where lengths have "
            f"settled (chi_1 = {row.chi_1:.4f}, q* = {row.q_star:.4g}). From the last of "
            f"{look.depth} layers to the first, those of a network change by "
            f"{row.signal_decades:+.2f} ± {row.signal_sd:.2f} decades, and activations end at a "
            f"standard deviation of {row.activation_std:.2g}."
        )
    best, name = ruled[0], look.phi.name
    if max(abs(best.signal_decades), abs(best.length_decades)) > MOST_DECADES:
        yield (
            f"No variance of the weights keeps both gradients and lengths of {name} over "
            f"{look.depth} layers within {MOST_DECADES:g} decades. Another activation function, "
            "fewer layers, normalization or residual connections do."
        )
    if best.signal_sd > MOST_DECADES / 2:
        yield (
            f"At width {look.width} networks differ by more than the weights can balance; wider "
            "layers differ less."
        )
    saturated = 0.0 if look.phi.homogeneous else _saturated(look.phi, best.q_star)
    if saturated > 0.5:
        yield (
            f"At the recommended weights {100 * saturated:.0f} % of the pre-activations lie where "
            f"{name} is flat."
        )


def _saturated(phi: Activation, q: float) -> float:
    """Return the probability that ``z ~ N(0, q)`` lies in the flat tails of phi."""
    if not 0 < q < math.inf:
        return 0.0
    low, high = phi.saturation
    root = math.sqrt(q)
    return float(scipy.special.ndtr(low / root) + scipy.special.ndtr(-high / root))
