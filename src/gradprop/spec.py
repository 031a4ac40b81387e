"""The vocabulary as frozen dataclasses, and the canonical identity of a cell.

A *cell* is one network trained once. Its id is a hash of everything that its rows in the result
tables depend on, so that a finished cell never has to be trained again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias

# Raised by hand when the meaning of results changes although no parameter did.
NUMERICS = 1

LARGEST_INTEGER = 2**63 - 1  # what the columns of tables hold
LARGEST_NUMBER = 3.4028234663852886e38  # of float32, and its smallest with all digits
SMALLEST_NUMBER = 1.1754943508222875e-38

# Columns of the tables beside parameters and statistics, in their order: those that name a row,
# what became of a cell, what a probe sees of the whole network, and the sizes of a layer's kernel.
KEYS = ("cell", "step", "layer")
OUTCOMES = (
    *("status", "first_bad_step", "first_bad_layer", "final_train_loss", "final_test_loss"),
    *("final_train_accuracy", "final_test_accuracy", "steps_to_target", "chance_accuracy"),
)
OF_STEP = (
    *("train_loss", "minibatch_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("gradient_log10_norm", "learning_rate"),
)
SIZES = ("fan_in", "units")

Scalar: TypeAlias = bool | int | float | str
Names: TypeAlias = Mapping[str, Mapping[str, str]]

# Between the labels of several components that are one value of a parameter.
SEPARATORS = {"measurements": " + ", "layer_initializers": "; "}

_NEXT = re.compile(r", (?=\w+=)")  # a text may hold commas
_LABEL = re.compile(r"(?P<name>\w+)(?:\((?P<parameters>.*)\))?")


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no white space and shortest round-trip floats.

    Raises
    ------
    ValueError
        If a number is NaN or infinite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, digits: int = 12) -> str:
    """Return the first `digits` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]


@dataclass(frozen=True, order=True)
class Component:
    """A registry entry with its parameters: an initializer, a data set or an optimizer.

    Attributes
    ----------
    name
        Key in the registry.
    parameters
        The parameters that differ from the registry's defaults, sorted by name.
    """

    name: str
    parameters: tuple[tuple[str, Scalar], ...] = ()

    def __eq__(self, other: object) -> bool:
        """Compare with another component; never with a text, which would be unequal in silence."""
        if isinstance(other, str):
            raise TypeError(
                f"{self.label} is a component: compare its name or its label with texts"
            )
        if not isinstance(other, Component):
            return NotImplemented
        return (self.name, self.parameters) == (other.name, other.parameters)

    @classmethod
    def create(
        cls, value: str | Mapping[str, Any], defaults: Mapping[str, Mapping[str, Scalar]]
    ) -> Self:
        """Normalize `value`, a name or ``{name: …, parameter: …}``, against a registry.

        Parameters
        ----------
        value
            What stands in the study's YAML (already validated by the schema).
        defaults
            For every name of the registry, its parameters and their defaults. The type of
            the default is the type of the parameter, so that 1 and 1.0 are the same value.

        Raises
        ------
        KeyError
            If the name or a parameter is unknown.
        """
        given = {"name": value} if isinstance(value, str) else dict(value)
        name = given.pop("name")
        known = defaults[name]
        typed = {key: type(known[key])(item) for key, item in given.items()}
        kept = {key: item for key, item in typed.items() if item != known[key]}
        return cls(name, tuple(sorted(kept.items())))

    @classmethod
    def parse(cls, label: str) -> Self:
        """Return the component whose `label` this is (the inverse of `label`)."""
        match = _LABEL.fullmatch(label)
        pairs = match and [pair.split("=", 1) for pair in _NEXT.split(match[2] or "") if pair]
        if match is None or any(len(pair) != 2 for pair in pairs or []):
            raise ValueError("not a component's label: name or name(parameter=value, ...)")
        return cls(match["name"], tuple((key, _parse_scalar(text)) for key, text in pairs or []))

    @cached_property
    def label(self) -> str:
        """Readable, unique text: ``normal(stddev=0.01)``; the value in the result tables."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.parameters)})"

    @property
    def slug(self) -> str:
        """The label as a file name: letters, digits, points and underscores."""
        signs = self.label.replace("-", "m").replace("+", "p")
        return re.sub(r"[^\w.]+", "_", signs).strip("_")

    def document(self) -> dict[str, Scalar]:
        """Return the component as it would stand in a YAML file."""
        return {"name": self.name, **dict(self.parameters)}


@dataclass(frozen=True)
class LayerInitializer:
    """The initializer of a single layer.

    Attributes
    ----------
    key
        ``first``, ``last`` or the number of the layer.
    initializer
        Component of `gradprop.components.initializers.INITIALIZERS`.
    """

    key: str
    initializer: Component

    @property
    def label(self) -> str:
        """Readable, unique text: ``last: normal(stddev=0.01)``."""
        return f"{self.key}: {self.initializer.label}"


def _parse_scalar(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False}.get(text, text)
    return value if isinstance(value, (bool, int, float)) else text


@dataclass(frozen=True)
class Cell:
    """One network trained once: one point of a study's grid, its seed included.

    Fields with a default are left out of the identity while they have it; a new parameter with
    a default therefore moves no id. Never change a default: add a new field.

    Attributes
    ----------
    dataset, initializer, optimizer
        Components of the respective registries.
    depth
        Number of hidden layers; the output layer is layer depth + 1.
    width
        Units of every hidden layer; of the first one if `widths` is not constant.
    activation
        Component of `gradprop.components.activations.ACTIVATIONS`; the output layer is linear.
    learning_rate
        Step size of the optimizer.
    batch_size
        Examples in a minibatch; the incomplete last minibatch of an epoch is left out.
    epochs
        Passes over the training set; 0 measures at initialization only.
    seed
        Root of the cell's random streams (kernels of every layer, minibatch order).
    loss
        ``auto``: softmax cross-entropy for classification, mean squared error for
        regression; ``mean_squared_error``: of classes against 1 at the label and 0 elsewhere;
        ``binary_cross_entropy``: of two classes, with one sigmoid output; ``output_sum``: the sum
        of the outputs, whose back-propagated signal at the output is 1 (probes the input-output
        Jacobian).
    use_bias, bias_std
        Whether layers have (trained) biases, and the standard deviation of those that are normal at
        initialization.
    target_loss
        Training loss that ``steps_to_target`` waits for; 0 means none.
    probes
        Number of log-spaced probes after the one at step 0.
    statistics
        What the probes record: statistics and presets, joined by commas
        (`gradprop.probes.statistics.canonical`).
    measurements
        Tables that the probes make besides, in the order of `gradprop.probes.measurements`.
    widths, normalization, residual, clipping
        Structural choices in the registries of `gradprop.components.architecture`.
    schedule
        How the learning rate changes: a component of `gradprop.components.schedules`.
    layer_initializers
        Initializers of single layers, which take the place of `initializer` there, in the order of
        the layers (`gradprop.components.initializers.of_layers`).
    bias_initializer
        How biases begin: a component of `gradprop.components.initializers.BIAS_INITIALIZERS`.
    tied
        Whether hidden layers 2 … depth share one kernel, as the steps of a recurrent network do.
    dropout
        Probability with which a unit of a hidden layer is dropped in a training step, after its
        activation function; the others are divided by 1 - dropout.
    precision
        Format that the network computes in: an entry of `gradprop.components.precision.FORMATS`.
    loss_scale
        Factor of the loss during back-propagation: a component of
        `gradprop.components.loss_scaling.LOSS_SCALES`.
    code
        Digests of the own components that the cell names (`gradprop.components.own`) and of what
        builds its network; no column of tables, which have the id.
    network
        ``none``, or what the study's ``network.py`` builds (`gradprop.components.network`), with
        every parameter of its own, each of which is a column of tables, too.
    """

    dataset: Component
    depth: int
    width: int
    activation: Component
    initializer: Component
    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    optimizer: Component = Component("sgd")
    loss: str = "auto"
    use_bias: bool = True
    bias_std: float = 0.0
    target_loss: float = 0.0
    probes: int = 10
    statistics: str = "standard"
    measurements: tuple[Component, ...] = ()
    widths: Component = Component("constant")
    normalization: Component = Component("none")
    residual: str = "none"
    clipping: Component = Component("none")
    code: str = ""
    schedule: Component = Component("constant")
    layer_initializers: tuple[LayerInitializer, ...] = ()
    bias_initializer: Component = Component("normal")
    tied: bool = False
    dropout: float = 0.0
    precision: str = "float32"
    loss_scale: Component = Component("none")
    network: Component = Component("none")

    def __post_init__(self) -> None:
        """Turn whole numbers into floats where the parameter is one: 1 and 1.0 have one id.

        Raises
        ------
        TypeError
            If a component is given by its label.
        """
        for name, f in self.__dataclass_fields__.items():  # fields() would look at all anew
            if f.type == "float" and type(getattr(self, name)) is not float:
                object.__setattr__(self, name, float(getattr(self, name)))
            elif f.type == "Component" and not isinstance(getattr(self, name), Component):
                raise TypeError(f"{name}: {getattr(self, name)!r} is no Component")

    def document(self) -> dict[str, Any]:
        """Return every parameter as plain JSON data."""
        return {name: _plain(name, getattr(self, name)) for name in self.__dataclass_fields__}

    def columns(self) -> dict[str, Scalar]:
        """Return every parameter as one column of the ``cells`` table."""
        names = [name for name in self.__dataclass_fields__ if name != "code"]
        return {name: self.column(name) for name in names} | dict(self.network.parameters)

    def column(self, key: str) -> Scalar:
        """Return one parameter as it stands in the ``cells`` table."""
        return as_text(key, self.value(key))

    def value(self, key: str) -> Any:
        """Return one parameter; one that only the study's own network has, by its name."""
        for name, value in self.network.parameters:  # few, if any
            if name == key:
                return value
        return getattr(self, key)

    @cached_property
    def id(self) -> str:
        """12 hex digits of the SHA-256 over the canonical parameters and `NUMERICS`."""
        changed = {
            name: _plain(name, value)
            for name, f in self.__dataclass_fields__.items()
            if (value := getattr(self, name)) != f.default
        }
        return digest({"cell": changed, "numerics": NUMERICS})


def as_text(key: str, value: Any) -> Any:
    """Return a parameter's value as it stands in the tables: components by their labels."""
    if isinstance(value, tuple):
        return SEPARATORS[key].join(part.label for part in value)
    return value.label if isinstance(value, Component) else value


def _plain(key: str, value: Any) -> Any:
    """Return a parameter's value as JSON data: a component with its parameters, by name.

    An activation function is a label there: ids are older than its parameters.
    """
    is_document = isinstance(value, Component) and key != "activation"
    return value.document() if is_document else as_text(key, value)


# What may differ between the replicas of one stack; everything else is the program's.
REPLICA_FIELDS = (
    *("initializer", "learning_rate", "seed", "bias_std", "target_loss", "code"),
    *("layer_initializers", "bias_initializer"),
)


@dataclass(frozen=True)
class Stack:
    """The cells of a study that share every shape and schedule, trained as one program."""

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        """The first cell: the place to read what all replicas share."""
        return self.cells[0]

    def chunks(self, size: int) -> list[Stack]:
        """Split into stacks of at most `size` cells, which bounds a job's memory."""
        return [Stack(self.cells[i : i + size]) for i in range(0, len(self.cells), size)]

    def only(self, ids: set[str]) -> Stack:
        """Return the stack without the cells whose id is not in `ids`."""
        return replace(self, cells=tuple(cell for cell in self.cells if cell.id in ids))


@dataclass(frozen=True)
class Shard:
    """The stacks that one job trains and whose rows one file per table holds.

    A shard has one data set, one width and, if its cells are trained, depths of one octave: its
    name depends on nothing else, so that new cells join existing files.
    """

    name: str
    stacks: tuple[Stack, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the shard, stack by stack."""
        return tuple(cell for stack in self.stacks for cell in stack.cells)


@dataclass(frozen=True)
class Study:
    """One question: a grid, its figures and its chapter of the report.

    Attributes
    ----------
    name
        Name of its folder.
    title, question
        Heading and opening sentence of the chapter.
    cells
        The grid, in the order of the file, without repetitions.
    figures
        For every figure its options.
    names
        What figures and report call components: by axis from label to display name.
    definition
        The plain data that the study was built from (`gradprop.grid.loading.build_study`).
    folder
        Where its file and all that it brings along lie (`gradprop.grid.folders`).
    """

    name: str
    title: str
    question: str
    cells: tuple[Cell, ...]
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)
