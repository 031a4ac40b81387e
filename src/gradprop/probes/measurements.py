"""Measurements that a study may ask for, besides statistics of layers: a table of results each.

A measurement maps what a stack is at a probe to the rows of one cell, in NumPy and replica by
replica: its numbers do not depend on the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn requires it

from gradprop.components import architecture, datasets
from gradprop.components.activations import Activation
from gradprop.components.datasets import Dataset
from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.errors import GradpropError
from gradprop.probes.histograms import histograms
from gradprop.probes.spectra import spectra
from gradprop.probes.trajectories import circle, curvature, trajectories
from gradprop.spec import Cell, Component

Columns = Mapping[str, NDArray[Any]]

# When a measurement is made, its parameter `at`: from a probe's step and the last step.
SCHEDULES: dict[str, Callable[[int, int], bool]] = {
    "start": lambda step, last: step == 0,
    "end": lambda step, last: step == last,
    "both": lambda step, last: step in (0, last),
    "probes": lambda step, last: True,
}


class ScheduleError(GradpropError):
    """A cell can't be trained as its schedule says."""


class MeasurementError(GradpropError):
    """A cell can't be measured as its study asks."""


def total_steps(cell: Cell, examples: int) -> int:
    """Return the number of optimizer steps of a cell on `examples` training examples.

    Raises
    ------
    ScheduleError
        If a minibatch is larger than the training set.
    """
    if cell.batch_size > examples:
        raise ScheduleError(
            f"batch_size {cell.batch_size} is larger than the training set of "
            f"{cell.dataset.label!r} ({examples} examples)"
        )
    return cell.epochs * (examples // cell.batch_size)


def probe_steps(steps: int, probes: int) -> list[int]:
    """Return step 0 and up to `probes` log-spaced steps from 1 to `steps`, the last included."""
    if steps == 0:
        return [0]
    spaced = np.geomspace(1, steps, probes) if probes > 1 else np.array([steps])
    return [0, *sorted({round(step) for step in spaced})]


class Network(Protocol):
    """The replicas of a stack, before the step of a probe."""

    @property
    def kernels(self) -> Sequence[Any]:
        """One tensor per layer, (replicas, fan_in, fan_out)."""

    def functions(self, replica: int) -> Sequence[Activation]:
        """Return the activation functions of the hidden layers, as they are trained."""

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs (replicas, examples, outputs) of inputs (examples, features)."""

    def layers(
        self, inputs: NDArray[np.float32]
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return pre-activations and activations of all layers, (replicas, examples, units)."""


class Subject(NamedTuple):
    """What a measurement of whole networks is made of."""

    cell: Cell  # the program of the stack
    network: Network
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class Measurement(Entry):
    """A table of results that a study may ask for.

    Its `definition` says what a row is. All measurements have the parameter `at`, which `measure`
    does not get.

    Attributes
    ----------
    measure
        Of networks: from a `Subject` and the parameters to the columns of every replica.
        Of layers: from a `LayerRecord`, the position of a replica and the parameters to the columns
        of this replica.
    keys
        Columns that, with the cell and the step, tell its rows apart.
    of_layers
        Whether it is made of the tensors of the training step, layer by layer, instead of the
        network before the step.
    """

    measure: Callable[..., Any]
    keys: Sequence[str]
    of_layers: bool = False

    @property
    def all_keys(self) -> list[str]:
        """The columns that the table is sorted by."""
        return ["cell", "step", *self.keys]


def _spectra(subject: Subject, *, matrix: str, examples: int) -> list[Columns]:
    """Take the first training examples; one for linear networks, where all give the same."""
    count = 1 if subject.cell.activation.name == "linear" else examples
    network = subject.network
    preactivations, _ = network.layers(subject.dataset.x_train[:count])
    kernels: list[NDArray[np.float32]] = [k.numpy() for k in subject.network.kernels]
    return [
        spectra(
            [k[r] for k in kernels], [z[r] for z in preactivations], network.functions(r), matrix
        )
        for r in range(len(kernels[0]))
    ]


def _decision(subject: Subject, *, points: int, margin: float) -> list[Columns]:
    """Ask for the outputs row by row of the grid, which bounds memory."""
    features = subject.dataset.x_train.shape[1]
    if features != 2:
        raise MeasurementError(
            f"the measurement 'decision' needs a data set in the plane; "
            f"{subject.cell.dataset.label!r} has {features} inputs"
        )
    half = (1 + margin) * float(np.abs(subject.dataset.x_train).max())
    axis = np.linspace(-half, half, points).astype(np.float32)
    rows = [np.stack([axis, np.full_like(axis, x2)], axis=1) for x2 in axis]
    outputs = np.stack([subject.network.predict(row) for row in rows], axis=1)
    shape = outputs.shape[1:]  # rows (x2), columns (x1), outputs
    row, column, output = (index.ravel() for index in np.indices(shape))
    places: Columns = {
        "row": row,
        "column": column,
        "output": output,
        "x1": axis[column],
        "x2": axis[row],
    }
    return [{**places, "value": replica.ravel()} for replica in outputs]


def _trajectories(subject: Subject, *, along: str, inputs: int, quantity: str) -> list[Columns]:
    """Follow the same inputs through all replicas."""
    points = _circle(subject, inputs) if along == "circle" else subject.dataset.x_train[:inputs]
    passed = subject.network.layers(np.ascontiguousarray(points))
    layers = passed[0 if quantity == "preactivation" else 1]
    return [trajectories([points, *(x[r] for x in layers)]) for r in range(len(layers[0]))]


def _curvature(subject: Subject, *, inputs: int) -> list[Columns]:
    """Take z from the network itself, and its derivatives from the kernels in float64."""
    points = _circle(subject, inputs)
    preactivations, _ = subject.network.layers(points)
    kernels: list[NDArray[np.float32]] = [k.numpy() for k in subject.network.kernels]
    functions = subject.network.functions
    return [
        curvature(points, [k[r] for k in kernels], [z[r] for z in preactivations], functions(r))
        for r in range(len(kernels[0]))
    ]


def _circle(subject: Subject, inputs: int) -> NDArray[np.float32]:
    features = subject.dataset.x_train.shape[1]
    if features < 2:
        raise MeasurementError("a measurement along a circle needs two inputs")
    return circle(inputs, features)


def _modes(subject: Subject) -> list[Columns]:
    """Take predictions of the whole training set; scalar products in float64 on one thread."""
    data = subject.dataset
    if data.task != "regression":
        raise MeasurementError(
            f"the measurement 'modes' needs a regression task; {subject.cell.dataset.label!r} "
            "is one of classification"
        )
    x, y = (part.astype(np.float64) for part in (data.x_train, data.y_train))
    with threadpool_limits(1, user_api="blas"):
        left, strengths, right = np.linalg.svd(y.T @ x / len(x), full_matrices=False)
        kept = strengths > np.sqrt(np.finfo(np.float32).eps) * strengths[0]
        outputs = subject.network.predict(data.x_train).astype(np.float64)
        learned = [
            np.diag(left.T @ (replica.T @ x / len(x)) @ right.T)[kept] for replica in outputs
        ]
    index = np.arange(1, kept.sum() + 1)
    return [{"index": index, "strength": strengths[kept], "learned": u} for u in learned]


def _at(default: str = "start") -> Parameter:
    return Parameter(
        default,
        "When to measure: at step 0, at the end of training, at both or at all probes.",
        choices=tuple(SCHEDULES),
    )


def _range_of(quantity: str) -> Parameter:
    return Parameter(0.0, f"The range of {quantity} in all layers; 0 means by `rms`.", minimum=0)


def _count(default: int, description: str, minimum: int = 1) -> Parameter:
    return Parameter(default, description, minimum=minimum, maximum=10_000)


MEASUREMENTS = Registry(
    {
        "histograms": Measurement(
            measure=histograms,
            keys=("layer", "quantity", "bin"),
            definition="counts of activation, preactivation, signal (dC/dz of single examples) and "
            "gradient (dC/dW) of the step's minibatch in equal bins from -range to range; bins -1 "
            "and `bins` hold what is below and above, bin `bins` + 1 what is not finite. The range "
            "is `rms` times the root mean square of the layer's values, or the parameter of the "
            "quantity's name where that is not 0",
            source="Glorot and Bengio 2010, figures 4, 6 and 7",
            parameters={
                "at": _at(),
                "bins": _count(100, "Number of bins from -range to range."),
                "rms": Parameter(
                    4.0,
                    "The range as a multiple of the root mean square of a layer's values.",
                    above=0,
                ),
                "activation": _range_of("phi(z)"),
                "preactivation": _range_of("z"),
                "signal": _range_of("dC/dz"),
                "gradient": _range_of("dC/dW"),
            },
            of_layers=True,
        ),
        "spectra": Measurement(
            measure=_spectra,
            keys=("matrix", "layer", "example", "index"),
            definition="singular values of W_l (kernel), of J_l = W_l diag(phi'(z_l)) "
            "(layer_jacobian), of J_2 ... J_depth (hidden_jacobian, dh_depth / dh_1) and of J_1 "
            "... J_depth W_(depth + 1) (input_output_jacobian; the end-to-end map of a linear "
            "network) at the first `examples` of the training set, log10, in float64; `resolved`: "
            "above the rounding errors",
            source="Saxe et al. 2014 (dynamical isometry); Pennington et al. 2017, section 2; "
            "Glorot and Bengio 2010, section 4.2.2",
            parameters={
                "at": _at(),
                "matrix": Parameter(
                    "all",
                    "Which matrices: every layer's kernel, every layer's Jacobian, the Jacobian of "
                    "the last hidden layer by the first, that of the outputs by the inputs, or "
                    "all.",
                    choices=(
                        "all",
                        "kernel",
                        "layer_jacobian",
                        "hidden_jacobian",
                        "input_output_jacobian",
                    ),
                ),
                "examples": _count(1, "Number of training examples at which Jacobians are taken."),
            },
        ),
        "decision": Measurement(
            measure=_decision,
            keys=("row", "column", "output"),
            definition="the outputs (logits or predictions) on a grid of `points` x `points` over "
            "the square (1 + `margin`) times as wide as the largest magnitude of a training input; "
            "data sets with two inputs",
            source="definition",
            parameters={
                "at": _at("end"),
                "points": _count(50, "Points of the grid along each of the two inputs.", 2),
                "margin": Parameter(
                    0.1,
                    "How far the grid reaches beyond the largest magnitude of a training input, as "
                    "a part of it.",
                    minimum=0,
                ),
            },
        ),
        "trajectories": Measurement(
            measure=_trajectories,
            keys=("layer", "input"),
            definition="inputs followed through the layers (0 is the input): their three leading "
            "principal components and the distance from these, log10 mean square, distance to the "
            "next input, turning angle of the closed polygon through them, correlations. `along` a "
            "circle through the plane of the first two features, of mean square 1, or along the "
            "first examples of the training set (data)",
            source="Poole et al. 2016, figure 3",
            parameters={
                "at": _at(),
                "along": Parameter(
                    "circle",
                    "A circle in the plane of the first two features, or the first examples of the "
                    "training set.",
                    choices=("circle", "data"),
                ),
                "inputs": _count(100, "Number of inputs.", 3),
                "quantity": Parameter(
                    "preactivation",
                    "What is followed, z or phi(z).",
                    choices=("preactivation", "activation"),
                ),
            },
        ),
        "curvature": Measurement(
            measure=_curvature,
            keys=("layer", "input"),
            definition="the image z(t) of a circle of inputs in every layer (0 is the input) from "
            "its exact derivatives by the angle t: log10 of the mean of (dz/dt)^2 over units and "
            "of sqrt(units) times the curvature, at evenly spaced angles; the circle is that of "
            "`trajectories`",
            source="Poole et al. 2016, section 4 and figure 4",
            parameters={"at": _at(), "inputs": _count(100, "Number of angles.", 3)},
        ),
        "modes": Measurement(
            measure=_modes,
            keys=("index",),
            definition="how much of every mode of a regression task the outputs have learned: with "
            "the singular value decomposition mean y x^T = sum s v u^T over the training set, "
            "`strength` is s and `learned` is v^T (mean f(x) x^T) u, the largest s first; modes of "
            "strength 0 are left out",
            source="Saxe et al. 2014, figure 3",
            parameters={"at": _at()},
        ),
    }
)


def canonical(chosen: Sequence[str | Mapping[str, Any]]) -> tuple[Component, ...]:
    """Return a choice of measurements in the one order that identities know.

    Parameters
    ----------
    chosen
        Names, or mappings of name and parameters, as they stand in a study's YAML.

    Raises
    ------
    MeasurementError
        If a measurement stands twice in the list: it has one table.
    """
    components = [MEASUREMENTS.create(value) for value in chosen]
    names = [component.name for component in components]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise MeasurementError(f"{twice!r} stands twice in the list")
    order = list(MEASUREMENTS)
    return tuple(sorted(components, key=lambda component: order.index(component.name)))


def measured(measurements: Sequence[Component]) -> dict[str, dict[str, Any]]:
    """Return all parameters of every measurement of a `canonical` choice, by its name."""
    return {c.name: MEASUREMENTS.parameters_of(c) for c in measurements}


def conflict(cell: Cell) -> str | None:
    """Return what is wrong with the measurements of this cell, as ``key: reason``."""
    chosen, data = measured(cell.measurements), datasets.sizes(cell.dataset)
    for name in ("spectra", "curvature"):
        if name in chosen and not architecture.is_plain(cell):
            return (
                f"measurements: {name!r} is for networks without normalization and residual "
                "connections"
            )
    if "decision" in chosen and data.features != 2:
        return (
            f"measurements: decision needs a data set in the plane; {cell.dataset.label!r} has "
            f"{data.features} inputs"
        )
    circles = "curvature" in chosen or chosen.get("trajectories", {}).get("along") == "circle"
    if circles and data.features < 2:
        return f"measurements: a circle needs two inputs; {cell.dataset.label!r} has one"
    if "modes" in chosen and data.classes:
        return (
            f"measurements: modes are those of regression tasks; {cell.dataset.label!r} is one of "
            "classification"
        )
    return None
