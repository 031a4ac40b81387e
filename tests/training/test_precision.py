"""Networks in other formats, operation by operation: against NumPy, ml_dtypes and Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import activations
from gradprop.components.datasets import Dataset
from gradprop.components.precision import FORMATS, matmul
from gradprop.spec import Cell, Component, Stack
from gradprop.training.recording import underflowed
from gradprop.training.stacking import StackedNetwork
from tests import keras_reference
from tests.reference import Optimizer, make_cell
from tests.training.test_soundness import check_same, forty_cells, rows, train
from tests.training.test_stacking import batches, one

import keras  # isort: skip
import tensorflow as tf  # isort: skip

DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
SHORT = ["bfloat16", "float16"]
FIXED = {"name": "fixed", "factor": 1024.0}


def test_the_fields_move_no_id() -> None:
    assert Cell.__dataclass_fields__["precision"].default == "float32"
    assert make_cell().id == make_cell(precision="float32", loss_scale="none").id
    changed = [make_cell(precision="float16"), make_cell(loss_scale=FIXED)]
    assert len({cell.id for cell in [make_cell(), *changed]}) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_those_of_numpy(name: str) -> None:
    ours, theirs = FORMATS[name], ml_dtypes.finfo(DTYPES[name])
    assert ours.largest == float(theirs.max)
    assert ours.smallest_normal == float(theirs.smallest_normal)
    assert ours.smallest_subnormal == float(theirs.smallest_subnormal)
    assert ours.epsilon == float(theirs.eps)
    kept = tf.constant(ours.smallest, name) * tf.constant(1.0, name)
    lost = tf.constant(ours.smallest, name) * tf.constant(0.5, name)
    assert float(kept) == ours.smallest and float(lost) == 0


# ------------------------------------------------------------------- single operations


def spread_values(name: str, size: int = 20_000) -> NDArray[Any]:
    """Return numbers of all magnitudes of the format, without those it flushes to 0."""
    rng, known = np.random.default_rng(3), FORMATS[name]
    low, high = np.log10(known.smallest_subnormal), np.log10(known.largest)
    with np.errstate(over="ignore"):
        wide = rng.choice([-1, 1], size) * 10 ** rng.uniform(low - 1, high + 0.2, size)
        values: NDArray[Any] = wide.astype(np.float32).astype(DTYPES[name])
    return flushed(values, name)


def flushed(values: NDArray[Any], name: str) -> NDArray[Any]:
    small = np.abs(values.astype(np.float64)) < FORMATS[name].smallest
    return np.where(small, np.zeros_like(values), values)


def same(found: Any, expected: NDArray[Any]) -> None:
    """Compare bits, but for the sign of 0 and the kind of NaN."""
    np.testing.assert_array_equal(
        np.asarray(found).astype(np.float64), expected.astype(np.float64), strict=True
    )


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_arithmetic_is_rounded_to_nearest_even(name: str, compiled: bool) -> None:
    """In float64 and then rounded: for 11 and 8 digits float64 is exact or as good."""
    a = spread_values(name)
    b = np.roll(a, 7)
    operations = [("add", tf.add), ("subtract", tf.subtract), ("multiply", tf.multiply)]
    operations += [("divide", tf.divide)]
    for label, operation in operations:
        run = tf.function(operation) if compiled else operation
        with np.errstate(all="ignore"):
            exact = getattr(np, label)(a.astype(np.float64), b.astype(np.float64))
            expected = flushed(exact.astype(DTYPES[name]), name)
        found = np.asarray(run(tf.constant(a), tf.constant(b)))
        # A quotient or product that rounds up to the smallest normal number may be flushed first.
        border = np.abs(expected.astype(np.float64)) == FORMATS[name].smallest
        if not FORMATS[name].has_subnormals:
            found, expected = found[~border], expected[~border]
        same(found, expected)
    roots = np.sqrt(np.abs(a).astype(np.float64)).astype(DTYPES[name])
    same(tf.sqrt(tf.abs(tf.constant(a))), roots)


def test_casts_are_rounded_to_nearest_even() -> None:
    ties = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519.0, 65520.0, 2**-25, 1.5 * 2**-25, 2**-24])
    expected = np.array([1, 1 + 2**-9, 65504.0, np.inf, 0, 2**-24, 2**-24])
    same(tf.cast(tf.constant(ties, tf.float32), tf.float16), expected.astype(np.float16))
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38])
    expected = np.array([1, 1 + 2**-6, np.inf])
    same(tf.cast(tf.constant(ties, tf.float32), tf.bfloat16), expected.astype(DTYPES["bfloat16"]))


@pytest.mark.parametrize("name", SHORT)
def test_products_accumulate_in_float32_and_are_rounded_once(name: str) -> None:
    """4096 terms of 2^-12 on top of 1: each is lost in a sum of the format itself."""
    row = np.full((1, 1, 4097), 2.0**-12)
    row[..., 0] = 1
    values = tf.constant(row, name)
    found = matmul(values, tf.ones_like(values), transpose_b=True)
    assert found.dtype == name and np.asarray(found).item() == 2.0
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(DTYPES[name]) for shape in ((2, 5, 9), (2, 9, 4)))
    product = matmul(tf.constant(a), tf.constant(b))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = np.abs(np.asarray(product).astype(np.float64) - exact)
    unit = FORMATS[name].epsilon / 2
    assert (error <= unit * np.abs(exact) + 1e-5).all() and error.max() > 0


# --------------------------------------------------------------------- whole networks


class Simulation:
    """One network in NumPy: every array in the format, float32 where the module says so."""

    def __init__(self, cell: Cell, kernels: Sequence[Any], biases: Sequence[Any]) -> None:
        self.dtype = DTYPES[cell.precision]
        self.cell, self.phi = cell, activations.get(cell.activation)
        self.kernels = [np.asarray(k).astype(self.dtype) for k in kernels]
        self.biases = [np.asarray(b).astype(self.dtype) for b in biases]
        self.factor = float(dict(cell.loss_scale.parameters).get("factor", 1024.0))
        if cell.loss_scale.name == "none":
            self.factor = 1.0

    def round(self, values: Any) -> NDArray[Any]:
        return np.asarray(np.asarray(values, np.float32).astype(self.dtype))

    def product(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return self.round(a.astype(np.float32) @ b.astype(np.float32))

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return pre-activations, scaled signals and scaled gradients; make one step of SGD."""
        hidden, inputs, sums = self.round(x), [], []
        for index, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            inputs.append(hidden)
            z = self.round(self.product(hidden, kernel).astype(np.float32) + bias)
            sums.append(z)
            if index < self.cell.depth:
                hidden = self.round(self.phi.function(z))
        logits = sums[-1].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        signal = self.round((shares - np.eye(shares.shape[1])[y]) * self.factor / len(x))
        signals = [signal]
        for kernel, z in zip(self.kernels[:0:-1], sums[-2::-1], strict=True):
            back = self.product(signal, kernel.T)
            slopes = self.phi.derivative(z.astype(np.float64))
            signal = self.round(back.astype(np.float64) * slopes)
            signals.insert(0, signal)
        gradients = [self.product(h.T, d) for h, d in zip(inputs, signals, strict=True)]
        ones = np.ones((1, len(x)), self.dtype)
        bias_gradients = [self.product(ones, d) for d in signals]
        rate = np.asarray(self.cell.learning_rate).astype(self.dtype)
        for variables, found in ((self.kernels, gradients), (self.biases, bias_gradients)):
            for variable, gradient in zip(variables, found, strict=True):
                unscaled = self.round(gradient.astype(np.float32) / np.float32(self.factor))
                variable[...] = variable - unscaled * rate
        return sums, signals, gradients


@pytest.mark.parametrize("precision", SHORT)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("loss_scale", ["none", FIXED], ids=["unscaled", "scaled"])
def test_a_step_is_that_of_a_simulation(
    precision: str, activation: str, loss_scale: Any, blobs: Dataset
) -> None:
    """Nearly all entries are equal to the bit; float32 sums in another order may tip a rounding."""
    cells = [
        make_cell(
            precision=precision, activation=activation, loss_scale=loss_scale, seed=seed, depth=3
        )
        for seed in range(2)
    ]
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    unit, equal = FORMATS[precision].epsilon, []
    for _, examples in zip(range(2), batches(blobs, cells), strict=False):
        kernels, biases = ([v.numpy() for v in g] for g in (network.kernels, network.biases))
        record = network.step(examples, probed=True).layers
        assert record is not None
        assert all(kernel.dtype == precision for kernel in network.kernels)
        for r, cell in enumerate(cells):
            simulated = Simulation(cell, [k[r] for k in kernels], [b[r, 0] for b in biases])
            x, y = blobs.x_train[examples[r]], blobs.y_train[examples[r]]
            sums, signals, gradients = simulated.step(x, y)
            groups = [
                (sums, record.preactivations, 1),
                (signals, record.signals, simulated.factor),
                (gradients, record.gradients, simulated.factor),
                (simulated.kernels, network.kernels, 1),
                (simulated.biases, [b[:, 0] for b in network.biases], 1),
            ]
            for expected, found, factor in groups:
                for ours, theirs in zip(one(found, r), expected, strict=True):
                    a, b = ours.astype(np.float64) * factor, theirs.astype(np.float64)
                    equal.append(np.mean(a == b))
                    np.testing.assert_allclose(a, b, rtol=0, atol=8 * unit * np.abs(b).max())
    assert np.mean(equal) > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", {"name": "sgd", "momentum": 0.9}, "rmsprop", "adam"])
@pytest.mark.parametrize("precision", SHORT)
def test_updates_are_those_of_keras(precision: str, optimizer: Any, blobs: Dataset) -> None:
    """Keras's optimizer on variables of the format, given the same gradients."""
    cells = [
        make_cell(precision=precision, optimizer=optimizer, seed=seed, learning_rate=0.125)
        for seed in range(2)
    ]
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    theirs = [keras.Variable(k.numpy(), dtype=precision) for k in network.kernels]
    keras_optimizer = keras_reference.build_optimizer(cells[0])
    for _, examples in zip(range(3), batches(blobs, cells), strict=False):
        record = network.step(examples, probed=True).layers
        assert record is not None
        keras_optimizer.apply([tf.cast(g, precision) for g in record.gradients], theirs)
    for ours, variable in zip(network.kernels, theirs, strict=True):
        expected = variable.numpy().astype(np.float64)
        bound = 8 * FORMATS[precision].epsilon * np.abs(expected).max()
        np.testing.assert_allclose(ours.numpy().astype(np.float64), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("optimizer", ["sgd", {"name": "sgd", "momentum": 0.9}, "adam"])
def test_updates_of_float64_have_its_digits(optimizer: Any, blobs: Dataset) -> None:
    """Against NumPy: Keras takes parameters of optimizers in float32."""
    cells = [make_cell(precision="float64", optimizer=optimizer, seed=seed) for seed in range(2)]
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    exact = [Optimizer(cell) for cell in cells]
    for _, examples in zip(range(3), batches(blobs, cells), strict=False):
        record = network.step(examples, probed=True).layers
        assert record is not None
        for r, reference in enumerate(exact):
            changes = reference.changes([np.asarray(g[r]) for g in record.gradients])
            for update, change in zip(record.updates, changes, strict=True):
                np.testing.assert_allclose(-np.asarray(update[r]), change.value, rtol=1e-11)


def test_float64_has_the_digits_of_float64(blobs: Dataset) -> None:
    """Against a Keras model of float64 from the same float32 kernels."""
    cells = [make_cell(precision="float64", activation="tanh", depth=3, seed=s) for s in range(2)]
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    single = StackedNetwork(Stack(tuple(replace(c, precision="float32") for c in cells)), blobs)
    for ours, theirs in zip(network.kernels, single.kernels, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs))
    x, y = blobs.x_train[:13].astype(np.float64), blobs.y_train[:13]
    examples = np.tile(np.arange(13, dtype=np.int32), (2, 1))
    kernels = [k.numpy() for k in network.kernels]
    record = network.step(examples, probed=True).layers
    assert record is not None
    for r in range(2):
        hidden = tf.constant(x)
        variables = [tf.Variable(k[r]) for k in kernels]
        with tf.GradientTape() as tape:
            for kernel in variables[:-1]:
                hidden = tf.tanh(hidden @ kernel)
            losses = keras.losses.sparse_categorical_crossentropy(
                y, hidden @ variables[-1], from_logits=True
            )
            loss = tf.reduce_mean(losses)
        for ours, theirs in zip(record.gradients, tape.gradient(loss, variables), strict=True):
            np.testing.assert_allclose(ours[r], theirs, rtol=1e-11, atol=1e-14)


STRUCTURES: list[dict[str, Any]] = [
    {"activation": "tanh", "loss_scale": FIXED},
    {"activation": "prelu", "dropout": 0.2, "optimizer": "adam", "clipping": "norm"},
    {"activation": "relu", "normalization": "batch", "residual": "rezero", "depth": 3},
    {
        "activation": "gelu",
        "normalization": "layer",
        "residual": "scaled",
        "depth": 3,
        "tied": True,
    },
    {"activation": "softplus", "loss": "mean_squared_error", "loss_scale": "dynamic"},
]


@pytest.mark.parametrize(
    ("precision", "structure"),
    [
        pytest.param(
            precision,
            structure,
            marks=[] if precision == shown else pytest.mark.long,
            id=f"{precision}-{structure['activation']}",
        )
        for structure, shown in zip(
            STRUCTURES, ["float16", "float64", "bfloat16", "float16", "float16"], strict=True
        )
        for precision in ("float64", "bfloat16", "float16")
    ],
)
def test_a_cell_does_not_depend_on_its_stack(
    precision: str, structure: dict[str, Any], blobs: Dataset
) -> None:
    """In stacks of 1, 3 and 40, with all statistics."""
    program = {"optimizer": "sgd", "dataset": "gaussian_mixture", "width": 7, "batch_size": 13}
    cells = forty_cells(**{**program, **structure}, epochs=1, precision=precision)
    together = rows(train(cells, blobs))
    for some in ([cells[7]], [cells[39], cells[3], cells[16]]):
        check_same(rows(train(some, blobs)), together)


# ------------------------------------------------------------------------- loss scaling


def test_a_dynamic_scale_is_that_of_keras(blobs: Dataset) -> None:
    """Steps, skips and scales of the optimizer of Keras, each replica by itself."""
    scaling = {"name": "dynamic", "initial_scale": 2.0**17, "growth_steps": 3}
    optimizer = {"name": "sgd", "momentum": 0.9}
    cells = [
        make_cell(
            precision="float16", loss_scale=scaling, optimizer=optimizer, seed=seed,
            initializer={"name": "normal", "stddev": 0.2 + 0.3 * seed}, use_bias=False,
        )
        for seed in range(3)
    ]  # fmt: skip
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    theirs = [
        [keras.Variable(k[r].numpy(), dtype="float16") for k in network.kernels] for r in range(3)
    ]
    optimizers = [
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(cell.learning_rate, momentum=0.9), 2.0**17, 3
        )
        for cell in cells
    ]
    scales = []
    for _, examples in zip(range(12), batches(blobs, cells), strict=False):
        scales.append(network.loss_scales())
        record = network.step(examples, probed=True).layers
        assert record is not None
        for r, (variables, apply) in enumerate(zip(theirs, optimizers, strict=True)):
            if apply.built:
                assert float(apply.dynamic_scale) == scales[-1][r]
            scaled = [tf.cast(g[r] * scales[-1][r], tf.float16) for g in record.gradients]
            apply.apply(scaled, variables)
            for ours, variable in zip(network.kernels, variables, strict=True):
                same(ours[r], variable.numpy())
    scales_of = np.array(scales)
    assert (np.diff(scales_of, axis=0) < 0).any() and (np.diff(scales_of, axis=0) > 0).any()


@pytest.mark.parametrize("factor", [1024.0, 1000.0])
def test_scaling_float64_changes_nothing_but_roundings(factor: float, blobs: Dataset) -> None:
    cells = [make_cell(precision="float64", seed=seed) for seed in range(2)]
    scaling = Component("fixed", (("factor", factor),))
    networks = [
        StackedNetwork(Stack(tuple(replace(c, loss_scale=s) for c in cells)), blobs)
        for s in (Component("none"), scaling)
    ]
    for _, examples in zip(range(3), batches(blobs, cells), strict=False):
        plain, scaled = (network.step(examples, probed=True).layers for network in networks)
        assert plain is not None and scaled is not None
        for a, b in zip(plain.gradients + plain.signals, scaled.gradients + scaled.signals,
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


def test_what_float16_loses_is_said_to_have_underflowed(blobs: Dataset) -> None:
    """A vanishing signal is 0 from some layer on, later with a loss scale, never in float32."""
    weak = {"name": "variance_scaling", "scale": 0.01}
    first = {}
    for precision, scale in (("float16", "none"), ("float16", FIXED), ("float32", "none")):
        cells = [
            make_cell(
                precision=precision, loss_scale=scale, initializer=weak, depth=12, width=30,
                activation="linear", epochs=0, seed=seed,
            )
            for seed in range(2)
        ]  # fmt: skip
        result = train(cells, blobs)
        zero = result.layers[np.isneginf(result.layers["signal_log10_rms"])]
        first[precision, str(scale)] = zero["layer"].max() if len(zero) else 0
        expected = "ok" if precision == "float32" else "underflowed"
        assert result.cells["status"].tolist() == [expected] * 2
    lost = list(first.values())
    assert lost[0] > lost[1] > lost[2] == 0
    assert underflowed(np.array([[[-2.0], [-np.inf]]]), -1.0).tolist() == [True]
