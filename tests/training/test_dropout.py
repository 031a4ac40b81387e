"""Dropout in training: masks, steps against Keras, and the guarantee of the bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradprop.components.datasets import Dataset
from gradprop.spec import Cell, Stack
from gradprop.training.dropout import Masks
from gradprop.training.stacking import StackedNetwork
from tests import keras_reference
from tests.reference import make_cell
from tests.training.test_soundness import check_same, forty_cells, rows, train
from tests.training.test_stacking import KerasNetwork, Spied, batches, one

import keras  # isort: skip
import tensorflow as tf  # isort: skip


def test_the_field_moves_no_id() -> None:
    assert make_cell().id == make_cell(dropout=0.0).id
    assert make_cell().id != make_cell(dropout=0.5).id
    assert Cell.__dataclass_fields__["dropout"].default == 0.0


def test_masks_depend_on_nothing_but_seed_layer_and_step() -> None:
    cells = [make_cell(dropout=0.3, seed=seed, batch_size=50) for seed in range(3)]
    together, alone = Masks(cells, [40, 60], "dropout"), Masks([cells[2]], [40, 90], "dropout")
    for _ in range(3):
        of_all, of_one = together.draw(), alone.draw()
        np.testing.assert_array_equal(of_all[0][2], of_one[0][0])
        assert [mask.shape for mask in of_all] == [(3, 50, 40), (3, 50, 60)]
        for mask in of_all:  # 6000 draws and more: a standard error of 0.6 %
            assert mask.mean() == pytest.approx(0.7, abs=0.03)
        # of two seeds, and of two layers, they agree by chance alone: 0.7^2 + 0.3^2
        assert (of_all[0][0] == of_all[0][1]).mean() == pytest.approx(0.58, abs=0.05)
        assert (of_all[0][0] == of_all[1][0][:, :40]).mean() == pytest.approx(0.58, abs=0.05)
    later = together.draw()[0]
    assert (later == of_all[0]).mean() == pytest.approx(0.58, abs=0.05)
    assert Masks([make_cell()], [40], "dropout").draw() == ()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_is_kept_is_scaled_as_keras_does(rate: float, blobs: Dataset) -> None:
    network = StackedNetwork(Stack((make_cell(dropout=rate, depth=1, width=64),)), blobs)
    x = tf.constant(blobs.x_train[None, :13])
    plain = network._run_forward(x, training=True).activations[0]
    theirs = keras.layers.Dropout(rate, seed=1)(plain, training=True)
    found = network._run_forward(x, training=True, masks=(theirs != 0,)).activations[0]
    np.testing.assert_array_equal(found, theirs)
    assert 0 < float(np.mean(found == 0)) < 1


STRUCTURES: list[dict[str, Any]] = [
    {"activation": "tanh"},
    {"activation": "prelu", "optimizer": "adam"},
    {"activation": "relu", "normalization": "batch", "residual": "plain"},
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s["activation"])
def test_steps_are_those_of_keras(structure: dict[str, Any], blobs: Dataset) -> None:
    """Weights after ten steps with the same masks, and predictions without any."""
    cells = [
        make_cell(depth=3, dropout=0.3, seed=seed, learning_rate=0.01, **structure)
        for seed in (0, 1)
    ]
    stack = Spied(Stack(tuple(cells)), blobs)
    masks = Masks(cells, [7] * 3, "dropout")
    plains = [KerasNetwork([cell], blobs) for cell in cells]
    optimizers = [keras_reference.build_optimizer(cell) for cell in cells]
    first = stack.values()
    for _, examples in zip(range(10), batches(blobs, cells), strict=False):
        fed = masks.draw()
        losses = stack.step(examples).losses
        for r, plain in enumerate(plains):
            for layer, mask in enumerate(fed, start=1):
                plain.model.get_layer(f"dropout_{layer}").mask = tf.constant(mask[r])
            x, y = blobs.x_train[examples[r]], blobs.y_train[examples[r]]
            found = plain._step(tf.constant(x), tf.constant(y))
            np.testing.assert_allclose(losses[r], found.losses, rtol=2e-3, atol=1e-5)
            optimizers[r].apply(found.gradients, plain.variables)
    for r, plain in enumerate(plains):
        for old, ours, theirs in zip(
            one(first, r), one(stack.values(), r), plain.variables, strict=True
        ):
            assert ours.ndim == 1 or np.abs(ours - old).max() > 1e-4
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        if "normalization" not in structure:  # whose running means the loop above leaves alone
            expected = plain.model(blobs.x_test, training=False)
            outputs = stack.predict(blobs.x_test)[r]
            np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"activation": "relu", "normalization": "batch", "residual": "rezero", "depth": 3},
    ],
    ids=["tanh", "structured"],
)
def test_a_cell_does_not_depend_on_its_stack(
    changes: dict[str, Any], epochs: int, blobs: Dataset, teacher: Dataset
) -> None:
    """In stacks of 1, 3 and 40, with all statistics."""
    cells = forty_cells(**changes, epochs=epochs, dropout=0.4)
    dataset = teacher if cells[0].dataset.name == "linear_teacher" else blobs
    together = rows(train(cells, dataset))
    for some in ([cells[7]], [cells[39], cells[3], cells[16]]):
        check_same(rows(train(some, dataset)), together)


def test_what_is_measured_draws_no_masks_of_the_training(blobs: Dataset) -> None:
    cells = [make_cell(dropout=0.4, seed=seed) for seed in range(3)]
    looked, plain = (StackedNetwork(Stack(tuple(cells)), blobs) for _ in range(2))
    some = batches(blobs, cells)
    for _ in range(3):
        examples = next(some)
        gradients = [looked.gradients(examples)[0].numpy() for _ in range(2)]
        assert (gradients[0] != gradients[1]).any()
        looked.predict(blobs.x_test)
        np.testing.assert_array_equal(looked.step(examples).losses, plain.step(examples).losses)
