"""The stacked program, one step at a time, against Keras and against NumPy in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import initializers
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import INITIALIZERS
from gradprop.spec import Cell, Stack
from gradprop.training import losses
from gradprop.training.stacking import StackedNetwork
from tests import keras_reference
from tests.reference import ROUNDING, Bounded, Optimizer, make_cell, run_step

import keras  # isort: skip
import tensorflow as tf  # isort: skip

Float32 = NDArray[np.float32]

SGD = "sgd"
MOMENTUM = {"name": "sgd", "momentum": 0.9}
ADAM = "adam"
STEPS = 2
SMALL = {"zeros", "constant", "normal", "uniform", "standard_heuristic", "pytorch_default", "lsuv"}


def all_initializers(rate: float = 0.05, **changes: Any) -> list[Cell]:
    """Return one cell for every initializer, each with its own step size and seed.

    Left out are initializers that have no gain for the activation, and those whose weights make
    exponentials overflow.
    """
    cells = [
        make_cell(
            initializer=name,
            learning_rate=rate / (1 + number % 3),
            seed=number,
            bias_std=0.1 * (number % 2),
            **changes,
        )
        for number, name in enumerate(INITIALIZERS)
    ]
    return [
        cell
        for cell in cells
        if initializers.conflict(cell) is None
        and (cell.activation.name != "exponential" or cell.initializer.name in SMALL)
    ]


def batches(dataset: Dataset, cells: Sequence[Cell]) -> Iterator[NDArray[np.int32]]:
    rng = np.random.default_rng(5)
    size = cells[0].batch_size
    while True:
        yield np.stack(
            [rng.choice(len(dataset.x_train), size, replace=False) for _ in cells]
        ).astype(np.int32)


class KerasStep(NamedTuple):
    """What Keras computes in one step."""

    losses: Any
    preactivations: list[Any]
    signals: list[Any]
    gradients: list[Any]


class KerasNetwork:
    """A plain `keras.Model` with its own autodiff."""

    def __init__(self, cells: Sequence[Cell], dataset: Dataset) -> None:
        self.model = keras_reference.build_model(cells[0], dataset)
        self.loss = losses.resolve_loss(cells[0], dataset)
        # What activation functions see: the last of Dense and normalization.
        self.names = {layer.name for layer in self.model.layers}
        numbers = range(1, cells[0].depth + 2)
        self.normalized = [n for n in numbers if f"normalization_{n}" in self.names]
        seen = [f"normalization_{n}" if n in self.normalized else f"layer_{n}" for n in numbers]
        outputs = [self.model.get_layer(name).output for name in seen]
        self.probe = keras.Model(self.model.inputs, outputs)
        self.step: Any = tf.function(self._step)

    @property
    def variables(self) -> list[Any]:
        """Return kernels, biases, scales and shifts of normalization, of branches, slopes."""
        layers = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense)]
        normalizations = [self.model.get_layer(f"normalization_{n}") for n in self.normalized]
        branches = [la for la in self.model.layers if isinstance(la, keras_reference.BranchScale)]
        return [
            *(layer.kernel for layer in layers),
            *(layer.bias for layer in layers if layer.use_bias),
            *(variable for layer in normalizations for variable in (layer.gamma, layer.beta)),
            *(layer.scale for layer in branches),
            *(la.alpha for la in self.model.layers if isinstance(la, keras.layers.PReLU)),
        ]

    def assign(self, values: Sequence[Float32]) -> None:
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(np.reshape(value, variable.shape))

    def losses(self, targets: Any, outputs: Any) -> Any:
        if self.loss == "output_sum":
            return keras.ops.sum(outputs, axis=-1)
        if self.loss == "mean_squared_error":
            hot = keras.ops.one_hot(targets, outputs.shape[-1]) if targets.ndim == 1 else targets
            return keras.losses.mean_squared_error(hot, outputs)
        if self.loss == "binary_cross_entropy":
            return keras.losses.binary_crossentropy(targets[:, None], outputs, from_logits=True)
        return keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

    def _step(self, x: Any, y: Any) -> KerasStep:
        """Run forward and backward, without an update."""
        with tf.GradientTape() as tape:
            found = self.probe(x, training=True)
            preactivations = found if isinstance(found, list) else [found]
            losses = self.losses(y, preactivations[-1])
            objective = keras.ops.mean(losses)
        variables = [variable.value for variable in self.variables]
        signals, gradients = tape.gradient(objective, [preactivations, variables])
        return KerasStep(losses, preactivations, signals, gradients)


class KerasUpdates:
    """Keras's own optimizers, one for all cells with the same step size."""

    def __init__(self, cells: Sequence[Cell], values: Sequence[Float32]) -> None:
        rates = [cell.learning_rate for cell in cells]
        self.groups = [np.flatnonzero(np.equal(rates, rate)) for rate in sorted(set(rates))]
        self.optimizers = [
            keras_reference.build_optimizer(cells[group[0]]) for group in self.groups
        ]
        self.variables = [[keras.Variable(v[group]) for v in values] for group in self.groups]

    def apply(self, values: Sequence[Float32], gradients: Sequence[Float32]) -> list[Float32]:
        """Return what the next step makes of the stacked `values`."""
        after = [np.full_like(value, np.nan) for value in values]
        for group, optimizer, variables in zip(
            self.groups, self.optimizers, self.variables, strict=True
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value[group])
            optimizer.apply([tf.constant(g[group]) for g in gradients], variables)
            for changed, variable in zip(after, variables, strict=True):
                changed[group] = variable
        return after


class Spied(StackedNetwork):
    """A stack whose last gradients, of all trained variables, can be looked at."""

    def __init__(self, stack: Stack, dataset: Dataset) -> None:
        super().__init__(stack, dataset)
        self.variables = self.kernels + self.biases + self.structure
        self.seen = [tf.Variable(tf.zeros_like(variable)) for variable in self.variables]
        update = self._update

        def spy(gradients: Sequence[Any]) -> list[Any]:
            for seen, gradient in zip(self.seen, gradients, strict=True):
                seen.assign(gradient)
            return update(gradients)

        self._update = spy

    def values(self) -> list[Float32]:
        """Return copies of all trained variables."""
        return [variable.numpy().copy() for variable in self.variables]


def one(arrays: Sequence[Any], replica: int) -> list[Float32]:
    """Return the arrays of one replica, biases without their middle axis."""
    return [
        value[0] if len(value) == 1 else value
        for value in (np.asarray(array[replica]) for array in arrays)
    ]


def check_all(bounds: Sequence[Bounded], measured: Sequence[Any], scale: float = 1) -> None:
    for bound, value in zip(bounds, measured, strict=True):
        bound.check(scale * np.asarray(value))


def compare_steps(cells: Sequence[Cell], dataset: Dataset) -> None:
    """Step the stack, and from the same weights a Keras model of each cell and float64."""
    stack = Spied(Stack(tuple(cells)), dataset)
    plain = KerasNetwork(cells, dataset)
    plain_updates = KerasUpdates(cells, stack.values())
    exact_optimizers = [Optimizer(cell) for cell in cells]
    layers, batch_size = cells[0].depth + 1, cells[0].batch_size
    for _, examples in zip(range(STEPS), batches(dataset, cells), strict=False):
        before = stack.values()
        step = stack.step(examples, probed=True)
        record = step.layers
        assert record is not None
        after = stack.values()
        # Updates are compared for the same gradients: Adam divides by their size, so that
        # one rounding of a gradient that is almost zero is a whole step.
        seen = [gradient.numpy() for gradient in stack.seen]
        plain_after = plain_updates.apply(before, seen)
        for r, cell in enumerate(cells):
            x, y = dataset.x_train[examples[r]], dataset.y_train[examples[r]]
            weights, gradients = one(before, r), one(seen, r)
            exact = run_step(weights[:layers], weights[layers:], cell.activation, plain.loss, x, y)

            check_all([exact.losses], [step.losses[r]])
            check_all(exact.preactivations, one(record.preactivations, r))
            check_all(exact.activations, one(record.activations, r))
            check_all(exact.signals, one(record.signals, r), batch_size)
            exact_gradients = exact.gradients + exact.bias_gradients[: len(weights) - layers]
            check_all(exact_gradients, gradients)

            plain.assign(weights)
            keras_step = plain.step(tf.constant(x), tf.constant(y))
            check_all([exact.losses], [keras_step.losses])
            check_all(exact.preactivations, keras_step.preactivations)
            check_all(exact.signals, keras_step.signals, batch_size)
            check_all(exact_gradients, keras_step.gradients)

            changes = exact_optimizers[r].changes(gradients)
            updates = one(record.updates, r)
            check_all(changes[:layers], [-u for u in updates])
            np.testing.assert_array_equal(record.gradients[0][r], gradients[0])
            for old, change, new, theirs in zip(
                weights, changes, one(after, r), one(plain_after, r), strict=True
            ):
                largest = np.abs(old) + np.abs(change.value)
                Bounded(old + change.value, change.error + ROUNDING * largest).check(new)
                np.testing.assert_allclose(new, theirs, rtol=0, atol=4 * ROUNDING * largest.max())
            for old, update, new in zip(weights[:layers], updates, one(after, r), strict=False):
                np.testing.assert_array_equal(old - update, new)


# Every optimizer and some activation functions in every run, every pair of them in the long ones.
OPTIMIZERS = {"sgd": SGD, "momentum": MOMENTUM, "adam": ADAM}
# What is trained besides kernels and biases is compared in test_architecture.py.
LABELS = [name for name in ACTIVATIONS if name != "prelu"]
LABELS += ["leaky_relu(slope=0.01)", "elu(alpha=3.0)"]
PROGRAMS = pytest.mark.parametrize(
    ("activation", "optimizer"),
    [
        pytest.param(activation, optimizer, marks=[] if a % 3 == o and a < 6 else pytest.mark.long)
        for a, activation in enumerate(LABELS)
        for o, optimizer in enumerate(OPTIMIZERS.values())
    ],
)


@PROGRAMS
def test_steps_of_every_initializer(activation: str, optimizer: Any, blobs: Dataset) -> None:
    compare_steps(all_initializers(activation=activation, optimizer=optimizer), blobs)


@pytest.mark.parametrize(
    ("loss", "use_bias", "activation"),
    [
        ("auto", True, "gelu"),
        ("output_sum", False, "linear"),
        pytest.param("auto", False, "linear", marks=pytest.mark.long),
        pytest.param("output_sum", True, "gelu", marks=pytest.mark.long),
    ],
)
def test_regression(loss: str, use_bias: bool, activation: str, teacher: Dataset) -> None:
    changes = {"activation": activation, "loss": loss, "use_bias": use_bias, "depth": 3}
    cells = all_initializers(1e-4, dataset="linear_teacher", **changes)
    compare_steps(cells, teacher)


@pytest.mark.parametrize("loss", ["auto", "output_sum", "mean_squared_error"])
def test_classification_without_biases(loss: str, blobs: Dataset) -> None:
    compare_steps(all_initializers(loss=loss, use_bias=False, depth=1), blobs)


def test_two_classes_with_one_output(pair: Dataset) -> None:
    cells = all_initializers(loss="binary_cross_entropy", depth=2)
    assert StackedNetwork(Stack(tuple(cells)), pair).predict(pair.x_test).shape[-1] == 1
    compare_steps(cells, pair)


@pytest.mark.parametrize("z", [-80.0, -20.0, -1.0, 0.0, 1.0, 20.0, 80.0])
@pytest.mark.parametrize("label", [0, 1])
def test_binary_cross_entropy_keeps_its_digits(z: float, label: int) -> None:
    """In float32 as in float64, where the sigmoid itself is 0 or 1."""
    found = losses.LOSSES["binary_cross_entropy"](
        tf.constant([[label]]), tf.constant([[[z]]], dtype=tf.float32)
    )
    np.testing.assert_allclose(found, [[np.logaddexp(0, -z if label else z)]], rtol=1e-6)


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
def test_both_ways_of_running_the_program(epochs: int, blobs: Dataset) -> None:
    compare_steps(all_initializers(epochs=epochs, activation="swish", width=9), blobs)


@pytest.mark.parametrize("bias_std", [0.0, 0.5])
def test_a_replica_starts_as_the_keras_model_does(bias_std: float, blobs: Dataset) -> None:
    cells = [replace(cell, bias_std=bias_std) for cell in all_initializers()]
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    for r, cell in enumerate(cells):
        plain = KerasNetwork([cell], blobs)
        for ours, theirs in zip(one(stack.kernels + stack.biases, r), plain.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert all((np.asarray(b) != 0).all() == (bias_std > 0) for b in stack.biases)


def test_biases_start_as_the_formula_says(blobs: Dataset) -> None:
    laws = ["normal", "fan_in_uniform", {"name": "constant", "value": 0.2}]
    cells = [make_cell(bias_initializer=law) for law in laws]
    biases = StackedNetwork(Stack(tuple(cells)), blobs).biases
    for fan_in, bias in zip((7, 7, 7), biases, strict=True):
        normal, uniform, constant = bias.numpy()
        assert (normal == 0).all() and (constant == np.float32(0.2)).all()
        assert (uniform != 0).all() and np.abs(uniform).max() <= 1 / np.sqrt(fan_in)


def test_predictions_are_those_of_the_keras_model(blobs: Dataset) -> None:
    cells = all_initializers(activation="gelu")
    outputs = StackedNetwork(Stack(tuple(cells)), blobs).predict(blobs.x_test)
    assert outputs.shape == (len(cells), len(blobs.x_test), 3)
    for r, cell in enumerate(cells):
        expected = keras_reference.build_model(cell, blobs)(blobs.x_test)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(outputs[r], expected, rtol=0, atol=8 * ROUNDING * scale)


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
def test_weights_of_a_probe_are_those_before_the_step(epochs: int, blobs: Dataset) -> None:
    cells = all_initializers(epochs=epochs)
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    before = [kernel.numpy().copy() for kernel in stack.kernels]
    layers = stack.step(next(batches(blobs, cells)), probed=True).layers
    assert layers is not None
    stack.step(next(batches(blobs, cells)))
    for seen, kernel, now in zip(layers.weights, before, stack.kernels, strict=True):
        np.testing.assert_array_equal(seen.numpy(), kernel)
        assert (now.numpy() != kernel).any()


@PROGRAMS
def test_a_probe_does_not_change_the_step(activation: str, optimizer: Any, blobs: Dataset) -> None:
    """Plain steps and probed ones are two programs of the same arithmetic."""
    cells = all_initializers(activation=activation, optimizer=optimizer)
    plain, probed = (StackedNetwork(Stack(tuple(cells)), blobs) for _ in range(2))
    for _, examples in zip(range(20), batches(blobs, cells), strict=False):
        one_step, other = plain.step(examples), probed.step(examples, probed=True)
        assert one_step.layers is None
        np.testing.assert_array_equal(one_step.losses, other.losses)
        np.testing.assert_array_equal(one_step.outputs, other.outputs)
    for a, b in zip(plain.kernels + plain.biases, probed.kernels + probed.biases, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_learning_rates_are_those_of_the_cells(blobs: Dataset) -> None:
    """The replicas' losses are summed, not averaged: a step is as long as that of one cell."""
    rates = [0.01, 0.02, 0.4]
    cells = [make_cell(learning_rate=rate) for rate in rates]
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    record = stack.step(np.tile(np.arange(13, dtype=np.int32), (3, 1)), probed=True).layers
    assert record is not None
    for r, rate in enumerate(rates):
        for update, gradient in zip(record.updates, record.gradients, strict=True):
            np.testing.assert_array_equal(update[r], np.float32(rate) * gradient[0].numpy())


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
@pytest.mark.parametrize("activation", ["linear", "gelu"])
def test_gradients_without_a_step(activation: str, epochs: int, blobs: Dataset) -> None:
    """They are those that a step would use, and change neither weights nor the steps after."""
    cells = all_initializers(activation=activation, epochs=epochs, optimizer=MOMENTUM)
    looked, plain = (StackedNetwork(Stack(tuple(cells)), blobs) for _ in range(2))
    some = batches(blobs, cells)
    for _ in range(3):
        examples = next(some)
        looked.gradients(next(some))
        gradients = looked.gradients(examples)
        for network in (looked, plain):
            layers = network.step(examples, probed=True).layers
            assert layers is not None
            for found, expected in zip(gradients, layers.gradients, strict=True):
                np.testing.assert_array_equal(found, expected)
    for a, b in zip(looked.kernels + looked.biases, plain.kernels + plain.biases, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
