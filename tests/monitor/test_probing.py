"""The probe, against GradientTape on the same minibatch and against the stacked engine."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradprop
from gradprop import Monitor, probe
from gradprop.components.datasets import Dataset
from gradprop.errors import GradpropError
from gradprop.monitor import callback, probing
from gradprop.probes.statistics import STATISTICS
from gradprop.spec import Cell, Component, Stack
from gradprop.training.loop import minibatches, train
from gradprop.training.stopwatch import Stopwatch
from tests.keras_reference import build_model, build_optimizer
from tests.long import long_but
from tests.monitor.networks import data, mlp


def test_importing_gradprop_loads_no_tensorflow() -> None:
    code = "import gradprop, sys; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        _ = gradprop.prob


def test_gradients_and_signals_are_those_of_a_tape() -> None:
    model = keras.Sequential(
        [keras.Input((7,)), *(keras.layers.Dense(9, "tanh") for _ in range(3))]
    )
    model.compile(loss="mse")
    x, _ = data()
    y = np.ones((32, 9), np.float32)
    with tf.GradientTape(persistent=True) as tape:
        h, zs, hs = tf.constant(x[:32]), [], []
        for layer in model.layers:
            z = h @ layer.kernel.value + layer.bias.value
            tape.watch(z)
            h = tf.tanh(z)
            zs.append(z)
            hs.append(h)
        loss = tf.reduce_mean(tf.square(h - y))
    seen = probe(model, x[:32], y)
    signals = [32 * t.numpy().astype(float) for t in tape.gradient(loss, zs)]
    kernels = [layer.kernel.value for layer in model.layers]
    gradients = [t.numpy().astype(float) for t in tape.gradient(loss, kernels)]
    columns = {
        "signal_log10_rms": [np.log10(np.sqrt(np.mean(s**2))) for s in signals],
        "gradient_log10_norm": [np.log10(np.linalg.norm(g)) for g in gradients],
        "preactivation_std": [np.std(z.numpy().astype(float)) for z in zs],
        "activation_mean": [np.mean(h.numpy().astype(float)) for h in hs],
    }
    for column, expected in columns.items():
        np.testing.assert_allclose(seen.layers[column], expected, rtol=1e-5, atol=1e-7)
    assert seen.steps["minibatch_loss"].item() == pytest.approx(float(loss), rel=1e-6)
    total = np.log10(np.sqrt(sum(np.sum(g**2) for g in gradients)))
    assert seen.steps["gradient_log10_norm"].item() == pytest.approx(total, abs=1e-6)


def test_it_leaves_the_model_as_it_was() -> None:
    model = mlp()
    model.add(keras.layers.BatchNormalization())
    model.compile(loss="mse", optimizer="sgd", metrics=["mae"])
    x, _ = data()
    model.evaluate(x, np.ones((len(x), 3)), verbose=0)
    metrics = [v for metric in model.metrics for v in metric.variables]
    before = [np.array(v.numpy()) for v in (*model.variables, *metrics)]
    probe(model, x[:32], np.ones((32, 3)))
    for one, other in zip(before, (*model.variables, *metrics), strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_its_text_has_a_line_per_layer() -> None:
    x, y = data()
    text = repr(probe(mlp("relu"), x[:32], y[:32]))
    assert sum(" Dense " in line for line in text.splitlines()) == 4
    assert "not measured: update: a probe makes no step" in text


PROGRAM: dict[str, Any] = {
    "dataset": Component("gaussian_mixture"),
    "activation": Component("tanh"),
    "initializer": Component("glorot_uniform"),
    "depth": 4,
    "width": 9,
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 0.1,
    "seed": 3,
    "probes": 4,
    "statistics": "full",
}
NEXT_TO_STACKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation": Component("relu"), "initializer": Component("he_normal")},
    "batch": {"normalization": Component("batch")},
    "layer": {"normalization": Component("layer")},
    "residual": {"residual": "plain"},
    "scaled": {"residual": "scaled"},
    "adam": {"optimizer": Component("adam"), "learning_rate": 0.01},
}


@pytest.mark.parametrize("case", long_but(["plain", "batch", "adam"], NEXT_TO_STACKED))
def test_a_cell_gives_the_statistics_of_the_stacked_engine(
    case: str, blobs: Dataset, tmp_path: Path
) -> None:
    cell = Cell(**PROGRAM | NEXT_TO_STACKED[case])
    stack = Stack((cell,))
    (result,) = train([stack], blobs, Stopwatch(), "test")
    stacked = result.layers
    model = build_model(cell, blobs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(build_optimizer(cell), loss)
    draws = minibatches(stack, len(blobs.x_train))
    # The last probe of a cell takes one more minibatch.
    steps = cell.epochs * (len(blobs.x_train) // cell.batch_size) + 1

    def batches() -> Any:
        for _ in range(steps):
            chosen = next(draws)[0]
            yield blobs.x_train[chosen], blobs.y_train[chosen]

    monitor = Monitor(tmp_path / "run", schedule=1, statistics="full")
    model.fit(batches(), steps_per_epoch=steps, verbose=0, callbacks=[monitor], shuffle=False)
    rows = monitor.layers
    rows = rows[rows["kind"] == "Dense"].copy()
    rows["layer"] = rows.groupby("step").cumcount() + 1
    both = stacked.merge(rows, on=["step", "layer"], suffixes=("", "_keras"))
    assert len(both) == len(stacked)
    for name in (n for n, entry in STATISTICS.items() if entry.needs != "minibatches"):
        # Of a normalized layer W is orthogonal to dC/dW, and a bias in front of batch normalization
        # changes nothing: rounding is left.
        if name == "weight_gradient_log10_product" and cell.normalization.name != "none":
            continue
        if name.startswith("bias_gradient") and cell.normalization.name == "batch":
            continue
        np.testing.assert_allclose(
            both[f"{name}_keras"], both[name], rtol=1e-5, atol=2e-5, err_msg=name
        )


class Subclassed(keras.Model):
    """A model that does not say how many outputs it has."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs_of_it = keras.layers.Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.outputs_of_it(x)


class OwnStep(Subclassed):
    """Computes its loss in the training step alone."""

    def train_step(self, data: Any) -> Any:
        return {"loss": tf.reduce_mean(self(data))}


def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    unbuilt.compile(loss="mse")

    class Named(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.last = keras.layers.Dense(3)

        def call(self, inputs: Any) -> Any:
            return self.last(inputs)

    subclass = Named()
    with pytest.warns(UserWarning, match="unbuilt state"):
        subclass.build((None, 7))  # of which Keras says that it is built
    subclass.compile(loss="mse")
    uncompiled = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    subclassed = Subclassed()
    subclassed.compile("sgd", "sparse_categorical_crossentropy")
    subclassed(x)
    adding = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3, activity_regularizer="l2")])
    adding.compile("sgd")
    stepping = OwnStep()
    stepping(x)
    stepping.compile("sgd")
    ignoring = mlp(loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    probe(ignoring, x[:32], np.where(y[:32] == 0, -1, y[:32]))
    wrong: list[tuple[Any, Any, Any, str]] = [
        (unbuilt, x, y, "is not built"),
        (subclass, x, y, "is not built"),
        (uncompiled, x, y, "has no loss"),
        (adding, x, y, "no loss that is compiled, and a probe looks at no other"),
        (adding, x, None, "no loss that is compiled, and a probe looks at no other"),
        (stepping, x, x, "no loss but what its own train_step computes"),
        (mlp(), x[:0], y[:0], "no examples"),
        (mlp(), x[:32].tolist(), y[:32].tolist(), "lists of numbers where a minibatch of arrays"),
        (mlp(), x[:32], y[:32].tolist(), "single numbers where a minibatch of arrays"),
        (mlp(), tf.data.Dataset.from_tensor_slices((x, y)), None, "after its batch"),
        (mlp(), tf.data.Dataset.from_tensor_slices((x, y[:, None])), None, "single examples of"),
        (mlp(), iter([]), None, "the generator or data set yields no minibatch"),
        (mlp(), x[:32], None, "there are no targets"),
        (mlp(), x[:32], y[:31], "32, 31 examples"),
        (mlp(), x[:32, :5], y[:32], "does not take these data"),
        (mlp(), x[:32], np.eye(3)[y[:32]], "does not take these data"),
        (mlp(), x[:32], y[:32].astype(str), "does not take these data"),
        (mlp(), x[:32], y[:32] + 7, "class labels 7 to 9 were found; allowed: 0 to 2, because"),
        (mlp(), x[:32], y[:32, None] - 1.0, "class labels -1 to 1 were found; allowed: 0 to 2"),
        (
            mlp(),
            x[:32],
            y[:32] * 0 + 0.5,
            "class label 0.5 was found, which the loss takes for 0; allowed: whole numbers from",
        ),
        (ignoring, x[:32], y[:32] - 2, "class labels -2 to 0 were found"),
        (subclassed, x[:32], y[:32] * 0 + 3, "class label 3 was found; allowed: 0 to 2"),
        ("model", x, y, "allowed: a keras.Model"),
    ]
    for model, inputs, targets, message in wrong:
        with pytest.raises(GradpropError, match=message) as raised:
            probe(model, inputs, targets)
        assert "\n" not in str(raised.value)
    for number, model in enumerate((mlp(), subclassed)):
        with pytest.raises(GradpropError, match=r"class label.* found; allowed: 0 to 2") as raised:
            model.fit(x, y * 0 + 3, verbose=0, callbacks=[Monitor(tmp_path / f"labels{number}")])
        assert "\n" not in str(raised.value)
    (tmp_path / "full/layers").mkdir(parents=True)
    for folder, message in (
        (tmp_path / "full", "the folder exists and is not empty; allowed: a new folder"),
        (tmp_path / "mine.html", "the name of a file; allowed: a new folder"),
        (str(tmp_path / "model.KERAS"), "the name of a file"),
        (3, "folder: 3 is not allowed"),
    ):
        with pytest.raises(GradpropError, match=message) as raised:
            Monitor(folder)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "mine.html").exists()
    Monitor(tmp_path / "lr0.1")
    model = mlp()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(GradpropError, match="with 'jax'; allowed: KERAS_BACKEND=tensorflow"):
        probe(model, x, y)


@pytest.mark.parametrize("module", [callback, probing])
def test_the_examples_are_right(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried and not failed
