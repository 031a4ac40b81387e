"""Layers and optimizer of a model in Keras code, with what is to be changed.

What the model has is read from its table of settings (`gradprop.inspection.settings`).
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradprop.advice.initializations import gaussian

__all__ = ["GATES", "RECOMPILE", "Inputs", "Layer", "Optimizer", "layers_of"]

#: How many kernels the recurrent layers of vectors have side by side.
GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
_RECURRENT = (*GATES, "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
# Arguments that a layer cannot do without stand first, without their names.
_POSITIONAL = ("units", "filters", "kernel_size", "output_dim")
# The arguments of schedules that are rates; others are steps, powers and fractions of these.
_RATES = ("initial_learning_rate", "end_learning_rate", "warmup_target", "values")
#: Where a polynomial decay of Keras ends by default.
_USUAL_END = 1e-4
# The factors of Keras's regularizers, with their defaults.
_FACTORS = {
    "L1": {"l1": 0.01},
    "L2": {"l2": 0.01},
    "L1L2": {"l1": 0.0, "l2": 0.0},
    "OrthogonalRegularizer": {"factor": 0.01},
}


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes
    ----------
    class_name
        Its class in `keras.layers`, or the one there that its class is derived from; empty if there
        is none.
    arguments
        What it was made with, in code, but for defaults; None where there is no code.
    own
        The name of its class if that is somebody's own.
    function
        The activation function that acts on its outputs, in code; None where there is no code.
    called
        What this function is, in words, where there is no code.
    """

    class_name: str
    arguments: Mapping[str, str | None]
    own: str = ""
    function: str | None = '"linear"'
    called: str = "that of this layer"

    @property
    def is_recurrent(self) -> bool:
        """Whether it has a state from step to step."""
        return self.class_name in _RECURRENT

    def code(self, **changes: str | None) -> str:
        """Return the layer with other values of some arguments, None for those to leave out.

        An argument without code is ``your_<argument>``, and a comment says what that is. Of a layer
        that is none of Keras only the changes are known, one per line.
        """
        if not self.class_name:
            of = f"  # of your {self.own}" if self.own else ""
            return "\n".join(f"{name} = {text}{of}" for name, text in changes.items() if text)
        given = {**self.arguments, **changes}
        # A long initializer stands at the end, and the function before it.
        last = [name for name in ("activation", *changes) if name in given]
        order = [*(name for name in given if name not in last), *dict.fromkeys(last)]
        unknown = [name for name in order if given[name] is None and name not in changes]
        given |= {name: f"your_{name}" for name in unknown}
        shown = [
            str(given[name]) if name in _POSITIONAL else f"{name}={given[name]}"
            for name in order
            if given[name] is not None
        ]
        notes = [f"{self.own} is your {self.class_name}"] if self.own else []
        notes += [self._whose(name) for name in unknown]
        comment = f"  # {', '.join(notes)}" if notes else ""
        return f"{self.own or f'keras.layers.{self.class_name}'}({', '.join(shown)}){comment}"

    @property
    def activation(self) -> str:
        """The layer that applies its activation function, in code."""
        if self.function is not None:
            return f"keras.layers.Activation({self.function})"
        return f"keras.layers.Activation(your_activation)  # {self._whose('activation')}"

    @property
    def penalties(self) -> dict[str, str | None]:
        """Its regularizers, in code; None where there is no code."""
        return {n: code for n, code in self.arguments.items() if n.endswith("_regularizer")}

    def lightened(self, divisor: float) -> str | None:
        """Return the layer with smaller factors of its penalties; None if one is not known."""
        changes = {name: _divided(code, divisor) for name, code in self.penalties.items()}
        return None if None in changes.values() or not self.class_name else self.code(**changes)

    def _whose(self, name: str) -> str:
        return f"your_{name} is {self.called if name == 'activation' else 'that of this layer'}"

    def drawn(self, sigma_w2: float) -> dict[str, str]:
        """Return the arguments that draw its weights: their variance times fan-in is `sigma_w2`.

        Keras counts the fans of two kinds of layers otherwise: a transposed convolution sums over
        as many channels as its kernel has on the last axis, at one place of the kernel in
        ``strides``; a depthwise one over places alone. For both the number is in what Keras calls
        ``fan_out`` (``kernel_size * channels`` and ``kernel_size * depth_multiplier``).
        """
        if self.class_name.startswith(("Depthwise", "Separable")):
            share = float(self._number("depth_multiplier"))
            if self.class_name.startswith("Depthwise"):
                return {"depthwise_initializer": gaussian(sigma_w2 * share, "fan_out")}
            # No function stands between the two kernels: the first one keeps the length.
            return {
                "depthwise_initializer": gaussian(share, "fan_out"),
                "pointwise_initializer": gaussian(sigma_w2),
            }
        if self.class_name.endswith("Transpose"):
            return {"kernel_initializer": gaussian(sigma_w2 * self.spread, "fan_out")}
        return {"kernel_initializer": gaussian(sigma_w2)}

    def share(self, sigma_w2: float) -> float:
        """Return the mean square times fan-in, over `sigma_w2`, of the weights so drawn.

        Of the kernel that is measured: of a separable convolution that of the first one. The fan-in
        is that of a table ``network``, which counts the whole kernel of a transposed convolution.
        """
        return 1 / sigma_w2 if self.class_name.startswith("Separable") else float(self.spread)

    @property
    def spread(self) -> int:
        """Places of the output for one of the input: the strides of a transposed convolution."""
        if not self.class_name.endswith("Transpose"):
            return 1
        strides, axes = self._number("strides"), int(self.class_name[len("Conv")])
        return int(math.prod(strides)) if isinstance(strides, list) else int(strides**axes)

    def zeros(self) -> dict[str, str]:
        """Return the arguments that begin with weights 0."""
        return dict.fromkeys(self.drawn(1.0), '"zeros"')

    def _number(self, name: str) -> Any:
        return ast.literal_eval(self.arguments.get(name) or "1")


def layers_of(settings: pd.DataFrame) -> dict[str, Layer]:
    """Return the layers of a table of settings by their names."""
    return {
        row["layer"]: Layer(row["class_name"], json.loads(row["arguments"]))
        for row in settings.to_dict("records")
        if row["layer"] and row["class_name"] != INPUT
    }


def _divided(code: str | None, divisor: float) -> str | None:
    """Return a regularizer of Keras with smaller factors; None of any other."""
    call = ast.parse(code or "None", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    factors = _FACTORS.get(call.func.attr)
    if factors is None:
        return None
    given = {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    smaller = {name: given.get(name, usual) / divisor for name, usual in factors.items()}
    shown = {name: _rounded(value) for name, value in smaller.items() if value}
    shown |= {name: repr(value) for name, value in given.items() if name not in factors}
    arguments = ", ".join(f"{name}={text}" for name, text in shown.items())
    return f"keras.regularizers.{call.func.attr}({arguments})"


#: The class of the rows of a table of settings that are inputs.
INPUT = "InputLayer"


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model that has several, or whose number is not known.

    Attributes
    ----------
    places
        Of every input by its name, in code: its key in a dict of inputs, or its number in a list.
    feeds
        By the same names, the layers with weights that get what is made of this input alone.
    """

    places: Mapping[str, str]
    feeds: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, settings: pd.DataFrame) -> Inputs | None:
        """Return those of a table of settings; None of a model with a single one."""
        rows = settings[settings["class_name"] == INPUT].to_dict("records") if len(settings) else []
        if not rows:
            return None
        given = {row["layer"]: json.loads(row["arguments"]) for row in rows}
        places = {name: row["place"] for name, row in given.items() if "place" in row}
        return cls(places, {name: given[name]["feeds"] for name in places})

    def standardized(self, layer: str) -> str:
        """Return the statements that make a normalization of what a layer gets, or of every input.

        Keras takes the inputs of one model as a dict by their names or as a list.
        """
        found = [name for name, layers in self.feeds.items() if layer in layers]
        if len(found) != 1:
            return (
                "def standardized(values):\n"
                "    normalization = keras.layers.Normalization()\n"
                "    normalization.adapt(values)  # mean and variance of all training data\n"
                "    return normalization\n\n"
                "# of every input one, which stands behind it\n"
                "normalizations = keras.tree.map_structure(standardized, x)"
            )
        (name,) = found
        number = list(self.places).index(name)
        place = self.places[name]
        key = json.dumps(name) if place == str(number) else place
        return (
            f"normalization = keras.layers.Normalization()  # behind the input {json.dumps(name)}\n"
            f"values = x[{key}] if isinstance(x, dict) else x[{number}]\n"
            "normalization.adapt(values)  # mean and variance of all training data"
        )


@dataclass(frozen=True)
class Optimizer:
    """The optimizer of a model.

    Attributes
    ----------
    path
        Where the one is that makes the steps, in code.
    clips
        Whether it clips gradients; None if that is unknown.
    schedule
        Class of what its learning rate follows, as in the table of settings; None for a number.
    arguments
        Of the schedule, in code.
    """

    path: str = "model.optimizer"
    clips: bool | None = None
    schedule: str | None = None
    arguments: Mapping[str, str] | None = None

    @classmethod
    def of(cls, settings: pd.DataFrame) -> Optimizer:
        """Return that of a table of settings; a plain one, of which nothing is known, of none."""
        rows = settings[settings["layer"] == ""].to_dict("records") if len(settings) else []
        if not rows:
            return cls()
        wraps = rows[0]["class_name"] == "LossScaleOptimizer"
        own, *rates = rows[1:] if wraps else rows
        path = "model.optimizer.inner_optimizer" if wraps else "model.optimizer"
        clips = bool(json.loads(own["arguments"]))
        if not rates:
            return cls(path, clips)
        return cls(path, clips, rates[0]["class_name"], json.loads(rates[0]["arguments"]))

    @property
    def is_wrapped(self) -> bool:
        """Whether another one, which scales the loss, hands it the gradients."""
        return self.path != "model.optimizer"

    def multiplied(self, factor: str) -> str:
        """Return the statements that multiply its learning rate."""
        if self.schedule is None:
            return f"model.optimizer.learning_rate = {factor} * model.optimizer.learning_rate"
        return f"{self._multiplied(float(factor))}\n{RECOMPILE}"

    def _multiplied(self, factor: float) -> str:
        known = self.arguments or {}
        if self.schedule and set(_RATES) & set(known) and None not in known.values():
            given = {
                name: _times(text, factor) if name in _RATES else text
                for name, text in known.items()
            }
            if (end := known.get("end_learning_rate")) and float(end) == _USUAL_END:
                # Nobody chose it: it grows with no rate, and does not exceed the initial one.
                ends = _USUAL_END * min(factor, 1.0), float(given["initial_learning_rate"])
                given["end_learning_rate"] = _rounded(min(ends))
            shown = ", ".join(f"{name}={text}" for name, text in given.items())
            schedule = f"keras.optimizers.schedules.{self.schedule}({shown})"
            return f"model.optimizer.learning_rate = {schedule}"
        if self.schedule == "function":
            return (
                f"rate = {self.path}._learning_rate  # your function\n"
                f"model.optimizer.learning_rate = lambda: {factor:g} * rate()"
            )
        return (
            "class Scaled(keras.optimizers.schedules.LearningRateSchedule):\n"
            "    def __init__(self, schedule):\n"
            "        self.schedule = schedule\n\n"
            "    def __call__(self, step):\n"
            f"        return {factor:g} * self.schedule(step)\n\n"
            "    def get_config(self):\n"
            '        return {"schedule": self.schedule}\n\n'
            f"model.optimizer.learning_rate = Scaled({self.path}._learning_rate)  # your schedule"
        )


#: A step that was compiled goes on as it was.
RECOMPILE = "model.compile(model.optimizer, model.loss)  # and other arguments, such as metrics"


def _times(text: str, factor: float) -> str:
    value = ast.literal_eval(text)
    if isinstance(value, list):
        return f"[{', '.join(_rounded(factor * each) for each in value)}]"
    return _rounded(factor * value)


def _rounded(number: float) -> str:
    """Return a number of four digits in code; never a whole one, whose type schedules keep."""
    return repr(float(f"{number:.4g}"))
