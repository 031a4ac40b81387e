"""Structural choices: profiles by hand, and stacked networks against plain Keras models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from gradprop.components import initializers
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import (
    RESIDUALS,
    WIDTHS,
    conflict,
    decide,
    hidden_widths,
    skips,
)
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import layer_shapes
from gradprop.components.normalization import NORMALIZATIONS, BatchNormalization
from gradprop.components.registry import Registry
from gradprop.prediction import networks
from gradprop.probes import measurements
from gradprop.spec import Cell, Stack
from gradprop.training.stacking import StackedNetwork
from tests import keras_reference
from tests.reference import ROUNDING, make_cell
from tests.training.test_stacking import ADAM, MOMENTUM, SGD, KerasNetwork, Spied, batches, one

import keras  # isort: skip
import tensorflow as tf  # isort: skip

# ---------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("widths", "depth", "expected"),
    [
        ("constant", 3, [30, 30, 30]),
        ("alternating", 5, [30, 10, 30, 10, 30]),
        ({"name": "alternating", "other": 60}, 2, [30, 60]),
        ("halves", 4, [30, 30, 10, 10]),
        ("halves", 5, [30, 30, 30, 10, 10]),
        ({"name": "linear", "last": 10}, 5, [30, 25, 20, 15, 10]),
        ({"name": "linear", "last": 32}, 3, [30, 31, 32]),
        ("linear", 1, [30]),
        ({"name": "listed", "units": "30 7 200"}, 3, [30, 7, 200]),
    ],
)
def test_width_profiles(widths: Any, depth: int, expected: list[int]) -> None:
    cell = make_cell(width=30, widths=widths, depth=depth)
    assert hidden_widths(cell) == expected
    sizes = [5, *expected, 3]
    assert layer_shapes(5, cell, 3) == list(itertools.pairwise(sizes))
    assert conflict(cell) is None


@pytest.mark.parametrize("widths", sorted(set(WIDTHS) - {"listed"}))
def test_no_hidden_layer(widths: str) -> None:
    assert hidden_widths(make_cell(depth=0, widths=widths)) == []


def test_skips_lead_between_equal_hidden_layers() -> None:
    cell = make_cell(width=30, widths="halves", depth=5, residual="plain")
    assert skips(cell) == [False, True, True, False, True]
    assert skips(replace(cell, residual="none")) == [False] * 5
    assert skips(replace(cell, depth=0)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"depth": 2, "widths": {"name": "listed", "units": "7 7 7"}},
            "widths: 3 hidden layers are listed, but depth is 2",
        ),
        (
            {"depth": 2, "widths": {"name": "listed", "units": "8 7"}},
            "widths: the first listed layer has 8 units, but width is 7",
        ),
        (
            {"normalization": "batch", "batch_size": 1},
            "normalization: batch needs a batch_size of at least 2",
        ),
        (
            {"initializer": "lsuv", "residual": "plain"},
            "initializer: lsuv is for networks without normalization and residual connections",
        ),
        (
            {"initializer": "sussillo_abbott", "activation": "tanh"},
            "initializer: sussillo_abbott has no gain for the activation 'tanh'; it has for "
            "linear, relu",
        ),
    ],
)
def test_conflicts(changes: dict[str, Any], expected: str) -> None:
    cell = make_cell(**changes)
    assert (conflict(cell) or initializers.conflict(cell)) == expected


@pytest.mark.parametrize("name", ["spectra", "curvature"])
def test_conflict_of_derivatives_with_what_they_leave_out(name: str) -> None:
    for change in ({"normalization": "layer"}, {"residual": "scaled"}):
        assert measurements.conflict(make_cell(measurements=name, **change)) == (
            f"measurements: '{name}' is for networks without normalization and residual connections"
        )
        assert measurements.conflict(make_cell(measurements="trajectories", **change)) is None
    assert measurements.conflict(make_cell(measurements=name, clipping="norm")) is None


def test_defaults_leave_the_plain_network() -> None:
    plain = {f.name: f.default for f in fields(Cell)}
    for key, registry in REGISTRIES.items():
        default = plain[key] if isinstance(plain[key], str) else plain[key].name
        assert default == next(iter(registry))


REGISTRIES: dict[str, Registry[Any]] = {
    "widths": WIDTHS,
    "normalization": NORMALIZATIONS,
    "residual": RESIDUALS,
    "clipping": CLIPPINGS,
}


def test_theory_follows_the_profile_and_leaves_other_structures_alone() -> None:
    """The variance of ln q grows with the sum of reciprocal widths (linear, exact)."""
    base = {"activation": "linear", "depth": 4, "width": 30, "initializer": "lecun_normal"}
    constant = networks.predict(make_cell(**base), 30, 30)
    uneven = networks.predict(make_cell(**base, widths="alternating"), 30, 30)
    assert constant is not None and uneven is not None
    assert (uneven.length_sd[2:] > constant.length_sd[2:]).all()
    for change in ({"normalization": "batch"}, {"residual": "plain"}, {"initializer": "lsuv"}):
        assert networks.predict(make_cell(**{**base, **change}), 30, 30) is None


# ---------------------------------------------------------------------------- against Keras

STRUCTURES: dict[str, dict[str, Any]] = {
    "batch": {"normalization": "batch", "widths": "alternating"},
    "batch, small epsilon": {
        "normalization": {"name": "batch", "epsilon": 1e-6, "momentum": 0.7},
        "use_bias": False,
    },
    "layer": {"normalization": "layer", "widths": {"name": "linear", "last": 3}},
    "plain": {"residual": "plain", "widths": {"name": "listed", "units": "7 7 4 4"}, "depth": 4},
    "scaled": {"residual": "scaled", "clipping": {"name": "norm", "threshold": 0.05}, "depth": 4},
    "rezero": {"residual": "rezero", "normalization": "batch", "clipping": "norm"},
    "norm": {"clipping": {"name": "norm", "threshold": 0.02}},
    "norm by variable": {"clipping": {"name": "norm_by_variable", "threshold": 0.02}},
    "value": {"clipping": {"name": "value", "threshold": 0.01}, "residual": "rezero"},
    "layer and plain": {"normalization": "layer", "residual": "plain", "use_bias": False},
}
OPTIMIZERS = [SGD, MOMENTUM, ADAM]


# Of the mean over a minibatch of 13 examples, whose derivatives by the logits are at most 1.
TERM = 1 / 13


def check_as_near(
    measured: Sequence[ArrayLike], exact: Sequence[ArrayLike], plain: Sequence[ArrayLike]
) -> None:
    """Assert that `measured` is about as near to float64 as what Keras finds in float32."""
    for ours, right, theirs in zip(measured, exact, plain, strict=True):
        value = np.asarray(right)
        errors = [
            np.abs(np.reshape(np.asarray(found), value.shape) - value).max()
            for found in (ours, theirs)
        ]
        assert errors[0] <= 8 * errors[1] + 8 * ROUNDING * (np.abs(value).max() + TERM)


def double(cell: Cell, dataset: Dataset) -> KerasNetwork:
    """Return the Keras model with float64 arithmetic."""
    keras.config.set_dtype_policy("float64")
    try:
        return KerasNetwork([cell], dataset)
    finally:
        keras.config.set_dtype_policy("float32")


def clipped(cell: Cell, gradients: Sequence[Any]) -> list[Any]:
    """Return what Keras's optimizer makes of the gradients of one network."""
    return keras_reference.build_optimizer(cell)._clip_gradients(list(gradients))


def compare_steps(cells: Sequence[Cell], dataset: Dataset, steps: int = 3) -> None:
    stack = Spied(Stack(tuple(cells)), dataset)
    rng = np.random.default_rng(3)
    for variable in stack.structure:  # away from the special values of the start
        variable.assign_add(rng.uniform(0.2, 0.4, variable.shape).astype(np.float32))
    plains = [KerasNetwork([cell], dataset) for cell in cells]
    doubles = [double(cell, dataset) for cell in cells]
    updates = [
        keras_reference.build_optimizer(replace(cell, clipping=PLAIN.clipping)) for cell in cells
    ]
    variables: list[Any] = [None] * len(cells)
    for _, examples in zip(range(steps), batches(dataset, cells), strict=False):
        before = stack.values()
        step = stack.step(examples, probed=True)
        record = step.layers
        assert record is not None
        after, seen = stack.values(), [gradient.numpy() for gradient in stack.seen]
        for r, cell in enumerate(cells):
            x, y = dataset.x_train[examples[r]], dataset.y_train[examples[r]]
            values = one(before, r)
            for network in (plains[r], doubles[r]):
                network.assign(values)
            found = plains[r]._step(tf.constant(x), tf.constant(y))
            target = y.astype(np.float64) if y.dtype == np.float32 else y
            exact = doubles[r]._step(tf.constant(x.astype(np.float64)), tf.constant(target))
            check_as_near([step.losses[r]], [exact.losses], [found.losses])
            check_as_near(one(record.preactivations, r), exact.preactivations, found.preactivations)
            check_as_near(one(record.signals, r), exact.signals, found.signals)
            layers = cell.depth + 1
            check_as_near(
                one(record.gradients, r), exact.gradients[:layers], found.gradients[:layers]
            )
            check_as_near(
                one(seen, r), clipped(cell, exact.gradients), clipped(cell, found.gradients)
            )
            # Keras's optimizer on the same gradients
            if variables[r] is None:
                variables[r] = [keras.Variable(value) for value in values]
            for variable, value in zip(variables[r], values, strict=True):
                variable.assign(value)
            updates[r].apply([tf.constant(g) for g in one(seen, r)], variables[r])
            for new, theirs, old in zip(one(after, r), variables[r], values, strict=True):
                scale = max(np.abs(old).max(), np.abs(new).max())
                np.testing.assert_allclose(new, theirs, rtol=0, atol=4 * ROUNDING * scale)
            for old, update, new in zip(
                values[:layers], one(record.updates, r), one(after, r), strict=False
            ):
                np.testing.assert_array_equal(old - update, new)
    outputs = stack.predict(dataset.x_test)  # with the running means of all steps
    for r in range(len(cells)):
        for network in (plains[r], doubles[r]):
            network.assign(one(stack.values(), r))
        x = dataset.x_test
        found, exact = plains[r].model(x), doubles[r].model(x.astype(np.float64))
        check_as_near([outputs[r]], [exact], [found])


PLAIN = make_cell()


def place_of(activation: str, structure: str) -> int:
    """Return a number that differs between neighbours of either kind."""
    return list(ACTIVATIONS).index(activation) + list(STRUCTURES).index(structure)


# Some of them in every run: every second structure, and every second activation function.
# Exponentials overflow where running means or skips let them grow, and make a rounding any size:
# they are compared with their bounds of error in test_stacking.py. Of the sine of layers that are
# normalized over three units, Keras's own error is once so small that ours is nine times as large.
PAIRS = [
    pytest.param(*pair, marks=[] if place_of(*pair) % 18 == 0 else pytest.mark.long)
    for pair in itertools.product(ACTIVATIONS, STRUCTURES)
    if pair[0] != "exponential" and pair != ("sine", "layer")
]


@pytest.mark.parametrize(("activation", "structure"), PAIRS)
def test_steps_of_every_structure(activation: str, structure: str, blobs: Dataset) -> None:
    """Over the structures, every activation function meets every optimizer."""
    place = place_of(activation, structure)
    cells = [
        make_cell(
            activation=activation,
            optimizer=OPTIMIZERS[place % 3],
            initializer=initializer,
            learning_rate=rate,
            seed=number,
            **{"depth": 3, **STRUCTURES[structure]},
        )
        for number, (initializer, rate) in enumerate([("he_normal", 0.1), ("orthogonal", 0.03)])
    ]
    compare_steps(cells, blobs, steps=2)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_prelu_trains_as_keras_does(slope: float, blobs: Dataset) -> None:
    """Weights, biases and slopes after 20 steps, from the same ones by Keras's own training."""
    name = f"prelu(slope={slope})"
    cells = [
        make_cell(activation=name, seed=seed, depth=3, initializer="he_normal") for seed in (0, 1)
    ]
    stack = Spied(Stack(tuple(cells)), blobs)
    plains = [KerasNetwork([cell], blobs) for cell in cells]
    for r, plain in enumerate(plains):
        for ours, theirs in zip(one(stack.values(), r), plain.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        plain.model.compile(keras_reference.build_optimizer(cells[r]), loss)
    for _, examples in zip(range(20), batches(blobs, cells), strict=False):
        stack.step(examples)
        for r, plain in enumerate(plains):
            plain.model.train_on_batch(blobs.x_train[examples[r]], blobs.y_train[examples[r]])
    for r, plain in enumerate(plains):
        for ours, theirs in zip(one(stack.values(), r), plain.variables, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)
        assert len(stack.structure) == 3
        assert all(np.std(slopes[r]) > 0.01 for slopes in stack.structure)


def test_derivatives_are_those_of_the_trained_slopes(blobs: Dataset) -> None:
    """What spectra and curvature use follows the slopes that the network has."""
    cells = [make_cell(activation="prelu", seed=seed, depth=3) for seed in range(3)]
    network = StackedNetwork(Stack(tuple(cells)), blobs)
    for _, examples in zip(range(20), batches(blobs, cells), strict=False):
        network.step(examples)
    preactivations, outputs = network.layers(blobs.x_test)
    for r in range(3):
        for phi, z, h in zip(network.functions(r), preactivations, outputs, strict=False):
            np.testing.assert_allclose(phi.function(z[r]), h[r], rtol=1e-6)
            np.testing.assert_allclose(phi.derivative(z[r]) * z[r], h[r], rtol=1e-6)
            assert np.std(phi.derivative(np.full(z.shape[2], -1.0))) > 0.01


def test_steps_of_regression(teacher: Dataset) -> None:
    changes = {"dataset": "linear_teacher", "normalization": "batch", "residual": "plain"}
    cells = [make_cell(seed=seed, depth=3, **changes) for seed in range(3)]
    compare_steps(cells, teacher)


# ----------------------------------------------------------------------------- normalization


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_batch_normalization_at_initialization(epochs: int, epsilon: float, blobs: Dataset) -> None:
    """A step normalizes with its minibatch; what is predicted is the plain network's."""
    named = {"name": "batch", "epsilon": epsilon}
    cell = make_cell(epochs=epochs, normalization=named, depth=2, use_bias=False)
    plain = replace(cell, normalization=PLAIN.normalization)
    normal, without = (StackedNetwork(Stack((c,)), blobs) for c in (cell, plain))
    expected = without.predict(blobs.x_test)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        normal.predict(blobs.x_test), expected, rtol=0, atol=3 * epsilon * scale
    )
    examples = np.arange(13, dtype=np.int32)[None]
    layers = normal.step(examples, probed=True).layers
    assert layers is not None
    hidden = blobs.x_train[:13].astype(np.float64)
    for z, kernel in zip(layers.preactivations[:2], layers.weights, strict=False):
        u = hidden @ np.asarray(kernel[0])
        found = (u - u.mean(axis=0)) / np.sqrt(u.var(axis=0) + epsilon)
        np.testing.assert_allclose(z[0], found, atol=2e-5)
        hidden = np.tanh(found)


def test_running_means_follow_steps_only(blobs: Dataset) -> None:
    named = {"name": "batch", "momentum": 0.5}
    stack = StackedNetwork(Stack((make_cell(normalization=named, use_bias=False),)), blobs)
    layer = stack._normalizations[0]
    assert isinstance(layer, BatchNormalization)
    running = layer.running
    examples = np.arange(13, dtype=np.int32)[None]
    stack.gradients(examples)
    stack.predict(blobs.x_test)
    assert (running.mean.numpy() == 0).all() and (running.variance.numpy() == 1).all()
    u = blobs.x_train[:13].astype(np.float64) @ stack.kernels[0].numpy()[0]
    stack.step(examples)
    np.testing.assert_allclose(running.mean[0, 0], u.mean(axis=0) / 2, atol=1e-6)
    np.testing.assert_allclose(running.variance[0, 0], (1 + u.var(axis=0)) / 2, atol=1e-6)


# -------------------------------------------------------------------- residual connections


@pytest.mark.parametrize("residual", sorted(set(RESIDUALS) - {"none"}))
def test_residual_networks_by_hand(residual: str, blobs: Dataset) -> None:
    cell = make_cell(residual=residual, depth=5)
    stack = StackedNetwork(Stack((cell,)), blobs)
    layers = stack.step(np.arange(13, dtype=np.int32)[None], probed=True).layers
    assert layers is not None
    factor = {"plain": 1.0, "scaled": 0.5, "rezero": 0.0}[residual]  # four connections
    hidden = blobs.x_train[:13].astype(np.float64)
    for number, (kernel, h) in enumerate(zip(layers.weights, layers.activations, strict=True)):
        z = hidden @ np.asarray(kernel[0])
        branch = np.tanh(z) if number < 5 else z
        hidden = hidden + factor * branch if 0 < number < 5 else branch
        np.testing.assert_allclose(h[0], hidden, atol=1e-5)
    moved = [scale.numpy() != 0 for scale in stack.branch_scales if scale is not None]
    assert len(moved) == (4 if residual == "rezero" else 0)
    assert all(scale.all() for scale in moved)


# --------------------------------------------------------------------------------- clipping


def gradients_and_updates(stack: StackedNetwork) -> tuple[Any, Any]:
    layers = stack.step(
        np.tile(np.arange(13, dtype=np.int32), (stack.replicas, 1)), probed=True
    ).layers
    assert layers is not None
    return layers.gradients, layers.updates


def test_clipping_by_norm_is_of_each_replica(blobs: Dataset) -> None:
    """One network far over the threshold, one under it; rate 1."""
    named = {"name": "norm", "threshold": 0.5}
    program: dict[str, Any] = {"clipping": named, "learning_rate": 1.0, "use_bias": False}
    cells = [
        make_cell(initializer={"name": "normal", "stddev": s}, activation="linear", **program)
        for s in (3.0, 0.01)
    ]
    gradients, updates = gradients_and_updates(StackedNetwork(Stack(tuple(cells)), blobs))
    norms = [
        [np.sqrt(sum(np.sum(np.asarray(g[r], np.float64) ** 2) for g in group)) for r in (0, 1)]
        for group in (gradients, updates)
    ]
    assert norms[0][0] > 5 and norms[0][1] < 0.5
    assert norms[1][0] == pytest.approx(0.5, rel=1e-5)
    for gradient, update in zip(gradients, updates, strict=True):
        np.testing.assert_array_equal(gradient[1], update[1])
        ratio = 0.5 / norms[0][0]
        np.testing.assert_allclose(update[0], gradient[0] * ratio, rtol=1e-5, atol=1e-12)


def test_clipping_by_norm_of_gradients_whose_squares_overflow(blobs: Dataset) -> None:
    cell = make_cell(
        initializer={"name": "normal", "stddev": 1e10},
        activation="linear",
        clipping="norm",
        loss="output_sum",
        learning_rate=1.0,
        depth=2,
        use_bias=False,
    )
    gradients, updates = gradients_and_updates(StackedNetwork(Stack((cell,)), blobs))
    assert 1e19 < max(np.abs(g).max() for g in gradients) < np.inf
    exact = [np.asarray(g[0], np.float64) for g in gradients]
    norm = np.sqrt(sum(np.sum(g**2) for g in exact))
    for g, update in zip(exact, updates, strict=True):
        np.testing.assert_allclose(update[0], g / norm, rtol=1e-5, atol=1e-12)


def test_clipping_keeps_what_is_not_a_number() -> None:
    from gradprop.components.clipping import create_clip

    clip = create_clip(make_cell(clipping="norm").clipping)
    bad = tf.constant([[[np.nan, 1.0]], [[3.0, 4.0]], [[0.0, 0.0]], [[0.3, 0.4]]])
    (found,) = clip([bad])
    assert np.isnan(found[0]).all()
    expected = np.array([[[0.6, 0.8]], [[0, 0]], [[0.3, 0.4]]])
    np.testing.assert_allclose(found[1:], expected, rtol=1e-6)


def test_one_output_decides_between_two_classes() -> None:
    """By its sign, as two outputs 0 and z do by the larger."""
    z = np.array([[-2.0], [0.0], [1e-9], [3.0]])
    both = np.concatenate([np.zeros_like(z), z], axis=1)
    np.testing.assert_array_equal(decide(z), [0, 0, 1, 1])
    np.testing.assert_array_equal(decide(both), [0, 0, 1, 1])


def test_binary_cross_entropy_has_one_output() -> None:
    cell = make_cell(loss="binary_cross_entropy", depth=2, width=5)
    assert layer_shapes(7, cell, 2) == [(7, 5), (5, 5), (5, 1)]
    assert layer_shapes(7, make_cell(depth=1, width=5), 2) == [(7, 5), (5, 2)]
