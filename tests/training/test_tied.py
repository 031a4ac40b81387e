"""One kernel in all hidden layers but the first: training, what is recorded, and theory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import activations, architecture, initializers
from gradprop.components.architecture import kernel_places
from gradprop.components.datasets import Dataset
from gradprop.grid import sharding
from gradprop.prediction import finite_width, fluctuations, spectra
from gradprop.prediction.data import unpredicted
from gradprop.prediction.networks import predict
from gradprop.spec import Cell, Component, Stack
from gradprop.training.stacking import StackedNetwork
from tests.keras_reference import build_optimizer
from tests.reference import make_cell
from tests.training.test_soundness import check_same, forty_cells, rows, train

import keras  # isort: skip

Float64 = NDArray[np.float64]


def tied(**changes: Any) -> Cell:
    return make_cell(**{"depth": 4, "tied": True, **changes})


def test_which_layer_uses_which_kernel() -> None:
    assert [kernel_places(tied(depth=depth)) for depth in range(5)] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 1, 2],
        [0, 1, 1, 1, 2],
    ]
    assert kernel_places(make_cell(depth=4)) == [0, 1, 2, 3, 4]


def test_the_kernel_is_that_of_layer_2() -> None:
    cell, other = tied(), make_cell(depth=4)
    kernels = [initializers.draw_kernel(cell, layer, (7, 7)) for layer in range(1, 6)]
    for layer, kernel in enumerate(kernels, start=1):
        own = initializers.draw_kernel(other, layer if layer in (1, 5) else 2, (7, 7))
        np.testing.assert_array_equal(kernel, own)
    drawn = initializers.draw_kernels([cell], [(7, 7)] * 5, np.zeros((1, 7), np.float32))
    np.testing.assert_array_equal([k[0] for k in drawn], kernels)
    assert len(sharding.stacks([cell, other])) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"widths": "alternating"},
            "tied: one kernel for all hidden layers needs hidden layers of one width",
        ),
        (
            {"layer_initializers": {"3": "zeros"}},
            "layer_initializers.3: tied layers share one kernel; allowed: first, last",
        ),
        (
            {"initializer": "lsuv"},
            "initializer: lsuv scales every kernel to its own layer, but tied layers share one",
        ),
        ({"layer_initializers": {"first": "zeros", "last": "zeros"}}, None),
        ({"depth": 2}, "tied: from depth 3 on hidden layers share a kernel, but depth is 2"),
    ],
)
def test_conflicts(changes: dict[str, Any], expected: str | None) -> None:
    cell = tied(**changes)
    assert (architecture.conflict(cell) or initializers.conflict(cell)) == expected


def keras_model(cell: Cell, kernels: list[Any], outputs: int) -> keras.Model:
    """One Dense layer that is called depth - 1 times, with these kernels."""
    inputs = keras.Input((kernels[0].shape[0],))
    shared = keras.layers.Dense(cell.width, use_bias=False)
    first = keras.layers.Dense(cell.width, use_bias=False)
    last = keras.layers.Dense(outputs, use_bias=False)
    h = keras.activations.get(cell.activation.name)(first(inputs))
    for _ in range(cell.depth - 1):
        h = keras.activations.get(cell.activation.name)(shared(h))
    model = keras.Model(inputs, last(h))
    for layer, kernel in zip((first, shared, last), kernels, strict=True):
        layer.kernel.assign(kernel)
    return model


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("sgd", {}),
        ({"name": "sgd", "momentum": 0.9}, {"clipping": {"name": "norm", "threshold": 0.1}}),
        ("sgd", {"clipping": {"name": "norm_by_variable", "threshold": 0.05}}),
        ("adam", {"learning_rate": 0.01}),
    ],
)
def test_training_is_that_of_a_dense_layer_used_several_times(
    optimizer: Any, changes: dict[str, Any], blobs: Dataset
) -> None:
    cells = [tied(optimizer=optimizer, use_bias=False, seed=seed, **changes) for seed in (0, 1)]
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    begin = [kernel.numpy().copy() for kernel in stack.kernels]
    rng = np.random.default_rng(0)
    batches = [
        np.stack([rng.choice(len(blobs.x_train), 13, replace=False) for _ in cells])
        for _ in range(8)
    ]
    for batch in batches:
        stack.step(batch.astype(np.int32))
    for replica, cell in enumerate(cells):
        model = keras_model(cell, [begin[i][replica] for i in (0, 1, 4)], blobs.outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(build_optimizer(cell), loss)
        for batch in batches:
            x, y = (values[batch[replica]] for values in (blobs.x_train, blobs.y_train))
            model.train_on_batch(x, y)
        for layer, weight in zip((0, 1, 4), model.get_weights(), strict=True):
            found = stack.kernels[layer].numpy()[replica]
            assert np.abs(found - begin[layer][replica]).max() > 0.01
            np.testing.assert_allclose(found, weight, rtol=0, atol=2e-5)
    assert stack.kernels[1] is stack.kernels[2] is stack.kernels[3]


def backpropagate(cell: Cell, weights: list[Float64], x: Float64, y: NDArray[Any]) -> list[Float64]:
    """Return the derivative of the mean cross-entropy by every use of a kernel, in float64."""
    phi = activations.get(cell.activation)
    h, z = [x], []
    for weight in weights:
        z.append(h[-1] @ weight)
        h.append(phi.function(z[-1]))
    p = np.exp(z[-1] - z[-1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    delta = p / len(y)
    gradients: list[Float64] = []
    for layer in range(len(weights) - 1, -1, -1):
        gradients.insert(0, h[layer].T @ delta)
        if layer:
            delta = delta @ weights[layer].T * phi.derivative(z[layer - 1])
    return gradients


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
def test_gradients_are_those_of_every_use_and_the_update_that_of_their_sum(
    epochs: int, blobs: Dataset
) -> None:
    cells = [tied(use_bias=False, seed=seed, epochs=epochs) for seed in range(3)]
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    batch = np.tile(np.arange(13, dtype=np.int32), (3, 1))
    before = [kernel.numpy().copy() for kernel in stack.kernels]
    record = stack.step(batch, probed=True).layers
    assert record is not None
    x, y = blobs.x_train[:13].astype(np.float64), blobs.y_train[:13]
    for replica, cell in enumerate(cells):
        weights = [kernel[replica].astype(np.float64) for kernel in before]
        exact = backpropagate(cell, weights, x, y)
        for found, gradient in zip(record.gradients, exact, strict=True):
            np.testing.assert_allclose(found[replica], gradient, atol=2e-7)
        summed = sum(np.asarray(g[replica]) for g in record.gradients[1:4])
        for layer in (1, 2, 3):
            update = np.asarray(record.updates[layer][replica])
            np.testing.assert_allclose(update, cell.learning_rate * summed, rtol=1e-5, atol=1e-8)
            np.testing.assert_array_equal(record.weights[layer][replica], before[1][replica])
        now = stack.kernels[1].numpy()[replica]
        np.testing.assert_allclose(now, before[1][replica] - update, atol=1e-7)


def test_the_norm_of_the_gradient_is_that_by_the_shared_kernel(blobs: Dataset) -> None:
    """The table of steps has the norm over kernels, that of layers the norms of the uses."""
    examples = len(blobs.x_train)
    cell = tied(use_bias=False, epochs=0, batch_size=examples)
    tables = train([cell], blobs).tables
    shapes = initializers.layer_shapes(blobs.x_train.shape[1], cell, blobs.outputs)
    weights = [
        initializers.draw_kernel(cell, layer, shape).astype(np.float64)
        for layer, shape in enumerate(shapes, start=1)
    ]
    exact = backpropagate(cell, weights, blobs.x_train.astype(np.float64), blobs.y_train)
    uses = [np.log10(np.linalg.norm(gradient)) for gradient in exact]
    np.testing.assert_allclose(tables["layers"]["gradient_log10_norm"], uses, atol=1e-5)
    squares = [np.sum(g**2) for g in (exact[0], exact[1] + exact[2] + exact[3], exact[4])]
    (found,) = tables["steps"]["gradient_log10_norm"]
    assert found == pytest.approx(np.log10(sum(squares)) / 2, abs=1e-5)
    assert abs(found - np.log10(sum(10 ** (2 * np.array(uses)))) / 2) > 0.01


@pytest.mark.parametrize(
    ("activation", "changes"),
    [
        ("tanh", {}),
        ("relu", {"optimizer": "adam", "clipping": "norm", "residual": "plain"}),
    ],
)
@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
def test_a_tied_cell_does_not_depend_on_its_stack(
    activation: str, changes: dict[str, Any], epochs: int, blobs: Dataset
) -> None:
    """In stacks of 1, 3 and 40."""
    cells = forty_cells(activation, **{"depth": 4, "tied": True, "epochs": epochs, **changes})
    assert all(initializers.conflict(cell) is None for cell in cells)
    together = rows(train(cells, blobs))
    assert len(together) == 40
    for some in ([cells[7]], [cells[39], cells[3], cells[16]]):
        check_same(rows(train(some, blobs)), together)


# ------------------------------------------------------------------------------------- theory


def simulate(cell: Cell, networks: int, orthogonal: bool) -> tuple[Float64, Float64]:
    """Return log10 length and log10 signal relative to the last hidden layer, by network."""
    rng = np.random.default_rng(0)
    phi, n = activations.get(cell.activation), cell.width
    lengths, signals = [], []
    for _ in range(networks):
        h = rng.standard_normal(n)
        h /= np.sqrt(np.mean(h**2))
        first, shared, last = (1.3 * rng.standard_normal((n, n)) / np.sqrt(n) for _ in range(3))
        if orthogonal:
            q, r = np.linalg.qr(shared)
            shared = 1.3 * q * np.sign(np.diag(r))
        kernels = [first, *[shared] * (cell.depth - 1), last]
        z = []
        for kernel in kernels:
            z.append(h @ kernel)
            h = phi.function(z[-1])
        delta = [rng.standard_normal(n)]
        for kernel, inner in zip(kernels[:0:-1], z[-2::-1], strict=True):
            delta.insert(0, (kernel @ delta[0]) * phi.derivative(inner))
        lengths.append([np.log10(np.mean(layer**2)) for layer in z])
        signals.append([np.log10(np.mean(layer**2)) / 2 for layer in delta])
    found = np.array(signals)
    return np.array(lengths), found - found[:, [cell.depth - 1]]


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_wide_networks_by_simulation(activation: str, orthogonal: bool) -> None:
    kernel = {"name": "variance_scaling", "scale": 1.69}
    layers = {"first": kernel, "last": kernel} if orthogonal else {}
    shared = {"name": "orthogonal", "gain": 1.3} if orthogonal else kernel
    cell = tied(
        initializer=shared, layer_initializers=layers, activation=activation, depth=8, width=200,
        use_bias=False,
    )  # fmt: skip
    lengths, signals = simulate(cell, 40, orthogonal)
    found = predict(cell, 200, 200)
    assert found is not None
    assert np.isnan(found.length_sd).all() and np.isnan(found.signal_sd).all()
    for law, sample in ((found.length, lengths), (found.signal, signals)):
        error = sample.std(axis=0) / np.sqrt(len(sample))
        assert (abs(law - sample.mean(axis=0)) < 4 * error + 0.04).all()


def test_what_theory_does_not_know_of_tied_kernels() -> None:
    cell = tied(initializer="variance_scaling", width=200, depth=8, use_bias=False)
    assert unpredicted(cell) == ""
    deep = replace(cell, depth=21)
    assert predict(deep, 7, 3) is None
    assert "powers of one matrix" in unpredicted(deep)
    shifted = Component("normal", (("mean", 0.1),))
    assert predict(replace(cell, initializer=shifted), 7, 3) is None
    assert "of mean 0 without dropout" in unpredicted(replace(cell, initializer=shifted))
    assert "plain networks" in unpredicted(replace(cell, normalization=Component("batch")))
    assert spectra.law(cell) is None and spectra.law(replace(cell, tied=False)) is not None
    assert np.isnan(fluctuations.expected_fluctuation(cell))
    rectified = replace(cell, activation=Component("relu"))
    assert finite_width.length_law(rectified) is None
    assert finite_width.length_law(replace(rectified, tied=False)) is not None
