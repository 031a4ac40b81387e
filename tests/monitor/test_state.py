"""What a step changes besides weights: a training with a monitor is the one without, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradprop import Monitor
from gradprop.inspection.runs import RunError
from gradprop.monitor.layers import kinds_of_optimizers
from tests.long import long_but
from tests.monitor.networks import data, same

L = keras.layers


def net(*between: Any, loss: Any = None, optimizer: Any = "adam", **given: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), *between, L.Dense(3)])
    model.compile(optimizer, loss or logits(), **given)
    return model


def logits() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model: keras.Model, callbacks: list[Any], **given: Any) -> None:
    x, y = data((6,))
    model.fit(x, y, **{"epochs": 2, "verbose": 0, "callbacks": callbacks} | given)


def one_and_other(
    make: Callable[[], keras.Model], monitor: Monitor, train: Callable[..., None] = fit
) -> tuple[list[Any], list[Any]]:
    """Return the variables of a training without the monitor, and of the same with it."""
    results = []
    for callbacks in ([], [monitor]):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = make()
        train(model, callbacks)
        variables = [*model.variables, *model.optimizer.variables]
        results.append([np.array(v.numpy()) for v in variables])
    return results[0], results[1]


class Adding(keras.layers.Layer):
    """Adds what a function draws."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        super().__init__()
        self.draw = draw

    def call(self, x: Any) -> Any:
        return x + 0.1 * self.draw(x)


class Noisy(keras.optimizers.SGD):
    """Adds noise to gradients, from a generator and a count of its own."""

    def __init__(self) -> None:
        super().__init__(0.01)
        self.generator, self.count = keras.random.SeedGenerator(1), tf.Variable(0.0)

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        self.count.assign_add(1.0)
        drawn = [keras.random.normal(g.shape, seed=self.generator) for g in grads]
        noisy = [g + 0.01 * self.count * noise for g, noise in zip(grads, drawn, strict=True)]
        return super().apply(noisy, trainable_variables)


class OwnStep(keras.Model):
    """Its optimizer is no attribute, and it is never called as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.part = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(3)])
        self.kept = {"optimizer": keras.optimizers.Adam(0.01)}

    @property
    def by(self) -> keras.optimizers.Optimizer:
        return self.kept["optimizer"]

    def train_step(self, batch: Any) -> dict[str, Any]:
        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.part(x) - tf.one_hot(y, 3)))
        variables = self.trainable_variables
        self.by.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


class Compiled(OwnStep):
    """Its training step is compiled by itself."""

    train_step = tf.function(OwnStep.train_step)


def weighted_loss() -> Callable[[Any, Any], Any]:
    """Return a loss that divides by its running mean."""
    mean = tf.Variable(1.0)

    def loss(y: Any, outputs: Any) -> Any:
        value = tf.reduce_mean(logits()(y, outputs))
        mean.assign(0.9 * mean + 0.1 * value)
        return value / mean

    return loss


def own(kind: type[keras.Model], **given: Any) -> keras.Model:
    model = kind()
    model.compile("sgd", **given)
    return model


def drawing(x: Any) -> Any:
    """Return a rectifier of random height."""
    return tf.nn.relu(x) * keras.random.uniform((), 0.8, 1.2)


def of_python(x: Any) -> float:
    return random.random()


def of_tensorflow(x: Any) -> Any:
    return tf.random.normal(tf.shape(x))


def of_keras(x: Any) -> Any:
    return keras.random.normal((1, 8))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "a loss with a variable": lambda: net(loss=weighted_loss()),
    "an optimizer with a generator": lambda: net(optimizer=Noisy()),
    "an optimizer with a generator, eagerly": lambda: net(optimizer=Noisy(), run_eagerly=True),
    "an activation that draws": lambda: net(L.Dense(8, drawing)),
    "Python's generator, eagerly": lambda: net(Adding(of_python), run_eagerly=True),
    "TensorFlow's seeds, eagerly": lambda: net(Adding(of_tensorflow), run_eagerly=True),
    "Keras's generator, eagerly": lambda: net(Adding(of_keras), run_eagerly=True),
    "an optimizer out of sight": lambda: own(OwnStep),
    "an optimizer out of sight, eagerly": lambda: own(OwnStep, run_eagerly=True),
    "a step that is compiled by itself": lambda: own(Compiled),
    "the same, eagerly": lambda: own(Compiled, run_eagerly=True),
}
SHORT = [
    "an optimizer with a generator",
    "an activation that draws",
    "TensorFlow's seeds, eagerly",
    "an optimizer out of sight, eagerly",
    "a step that is compiled by itself",
]


@pytest.mark.parametrize("name", long_but(SHORT, MODELS))
def test_the_training_is_that_without_a_monitor(name: str, tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "run", schedule=1)
    assert same(*one_and_other(MODELS[name], monitor))
    if name != "an activation that draws":  # which draws otherwise in a fused program
        assert monitor.steps["exact"].all()
    layers = monitor.layers
    assert np.isfinite(layers[["gradient_log10_norm", "log10_update_ratio"]]).all(axis=None)
    assert "no optimizer of the model made a step" not in set(monitor.unmeasured.get("why", ()))


def test_a_model_that_is_compiled_anew_between_two_trainings(tmp_path: Path) -> None:
    """Its new optimizer has made no step, and another layer learns; rows follow the others."""

    def twice(model: keras.Model, callbacks: list[Any]) -> None:
        fit(model, callbacks, epochs=1)
        model.layers[0].trainable = False
        model.compile(keras.optimizers.Adam(0.01), logits())
        fit(model, callbacks, epochs=1)

    monitor = Monitor(tmp_path / "run", schedule=1)
    assert same(*one_and_other(net, monitor, twice))
    assert list(monitor.steps["step"]) == list(range(8))
    by_layer = monitor.layers.groupby("layer")["gradient_log10_norm"].count()
    assert by_layer.to_dict() == {1: 4, 2: 8}
    assert list(monitor.unmeasured["why"]) == ["its weights are frozen"]


class Scaled(keras.optimizers.SGD):
    """Its ``apply`` has other arguments."""

    def apply(self, gradients: Any, variables: Any = None, *, scale: float = 1.0) -> Any:
        return super().apply([g * scale for g in gradients], variables)


@pytest.mark.parametrize(
    "apply",
    [
        lambda optimizer, g, v: optimizer.apply(g, iter(v)),
        lambda optimizer, g, v: optimizer.apply(gradients=g, variables=v, scale=0.5),
        lambda optimizer, g, v: optimizer.apply(g, scale=0.5) if optimizer.built else None,
    ],
)
def test_optimizers_are_called_as_the_model_calls_them(
    apply: Callable[..., Any], tmp_path: Path
) -> None:
    class Calling(keras.Sequential):
        def train_step(self, batch: Any) -> dict[str, Any]:
            x, y = batch
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            apply(
                self.optimizer,
                tape.gradient(loss, self.trainable_variables),
                self.trainable_variables,
            )
            return {"loss": loss}

    def make() -> keras.Model:
        model = Calling([keras.Input((6,)), L.Dense(3)])
        model.compile(Scaled(0.1), logits())
        model.optimizer.build(model.trainable_variables)
        return model

    monitor = Monitor(tmp_path / "run", schedule=1)
    assert same(*one_and_other(make, monitor))
    assert np.isfinite(monitor.layers["gradient_log10_norm"]).all()


def test_other_threads_train_as_without_monitors(tmp_path: Path) -> None:
    """Each has its own, and optimizers are as they were afterwards."""
    before = {kind: kind.apply for kind in kinds_of_optimizers()}

    def trained(monitored: set[int]) -> list[Any]:
        models = []
        for number in range(3):
            keras.utils.set_random_seed(number)
            models.append(net(run_eagerly=number == 2))
        monitors = {n: [Monitor(tmp_path / f"run{n}", schedule=1)] for n in monitored}
        threads = [
            Thread(target=fit, args=(model, monitors.get(n, [])), kwargs={"shuffle": False})
            for n, model in enumerate(models)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [np.array(v.numpy()) for model in models for v in model.variables]

    assert same(trained(set()), trained({0, 1}))
    assert {kind: kind.apply for kind in kinds_of_optimizers()} == before


def test_steps_whose_gradients_are_gathered_count(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "run", schedule=1)
    model = net(optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=3))
    for _ in range(2):
        fit(model, [monitor], epochs=1)
    assert list(monitor.steps["step"]) == list(range(8))


def test_an_interrupted_training_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    class Interrupting(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    model = net()
    with pytest.raises(KeyboardInterrupt):
        fit(model, [Monitor(tmp_path / "a", schedule=1), Interrupting()])
    monitor = Monitor(tmp_path / "b", schedule=1)
    fit(model, [monitor], epochs=1)
    assert len(monitor.steps) == 4


def test_a_step_that_counts_in_python_is_told(tmp_path: Path) -> None:
    class Counting(keras.Sequential):
        count = 0

        def train_step(self, batch: Any) -> Any:
            self.count += 1
            return super().train_step(batch) if self.count % 3 else {"loss": tf.constant(0.0)}

    model = Counting([keras.Input((6,)), L.Dense(3)])
    model.compile("sgd", logits(), run_eagerly=True)
    monitor = Monitor(tmp_path / "run", schedule=1)
    fit(model, [monitor])
    assert monitor.unmeasured["why"].str.contains("something that is no variable").any()


def test_layers_that_cannot_be_seen_are_told(tmp_path: Path) -> None:
    model = net()
    model.quantize("int8")
    model.compile("adam", logits())
    monitor = Monitor(tmp_path / "run", schedule=1)
    fit(model, [monitor])
    assert monitor.unmeasured["why"].str.contains("quantized weights").all()
    with pytest.raises(RunError, match="no layer could be seen"):
        monitor.diagnose()


def test_adapters_of_frozen_kernels_learn(tmp_path: Path) -> None:
    model = net()
    for layer in model.layers:
        layer.enable_lora(2)
    model.compile("adam", logits())
    monitor = Monitor(tmp_path / "run")
    fit(model, [monitor])
    assert monitor.network["trainable"].all()
