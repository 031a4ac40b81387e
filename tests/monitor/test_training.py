"""Ways to train: what Keras's fit and compile can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradprop import Monitor, probe
from gradprop.errors import GradpropError
from tests.long import long_but
from tests.monitor.networks import data, fitted, mlp, same

L = keras.layers


def of_fit(x: Any, y: Any, kind: str) -> dict[str, Any]:
    """Return arguments of fit."""
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 96, 32)]
    if kind == "dataset":
        return {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(32)}
    if kind == "weighted dataset":
        weights = np.linspace(0, 2, len(x), dtype=np.float32)
        return {"x": tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(32)}
    if kind == "generator":
        return {"x": (batch for batch in batches * 3), "steps_per_epoch": 3, "shuffle": False}
    if kind == "class weights":
        return {"x": x, "y": y, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}
    return {"x": x, "y": y, "sample_weight": np.linspace(0, 2, len(x))}


KINDS = ("dataset", "weighted dataset", "generator", "class weights", "sample weights")


@pytest.mark.parametrize("kind", long_but(["dataset", "sample weights"], KINDS))
def test_data_of_every_kind(kind: str, tmp_path: Path) -> None:
    x, y = data()
    results = []
    monitor = Monitor(tmp_path / "run", schedule=2)
    for callbacks in ([], [monitor]):
        model = mlp(optimizer="adam")
        keras.utils.set_random_seed(2)
        model.fit(**of_fit(x, y, kind), epochs=2, verbose=0, callbacks=callbacks)
        results.append([np.array(v.numpy()) for v in model.variables])
    assert same(*results)
    assert list(monitor.steps["step"]) == list(range(0, 6 if kind == "generator" else 8, 2))
    assert np.isfinite(monitor.layers["signal_log10_rms"]).all()


def test_weights_of_examples_count_in_signals(tmp_path: Path) -> None:
    x, y = data()
    weights = np.zeros(32, np.float32)
    weights[:8] = 3
    model = mlp()
    model.layers[3].rate = 0.0
    some = probe(model, x[:8], y[:8]).layers
    weighted = probe(model, x[:32], y[:32], weights).layers
    # A quarter of the examples has three times the signal.
    expected = some["signal_log10_rms"] + np.log10(3 * np.sqrt(8 / 32))
    np.testing.assert_allclose(weighted["signal_log10_rms"], expected, atol=1e-6)


@pytest.mark.parametrize("eager", [True, False])
def test_signals_of_single_examples_whatever_the_reduction(eager: bool) -> None:
    x, y = data()
    rows = {}
    for reduction in ("sum", "sum_over_batch_size"):
        loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
        model = mlp(loss=loss, run_eagerly=eager)
        rows[reduction] = probe(model, x[:32], y[:32]).layers.drop(columns=["cell", "activation"])
    one, other = (rows[r]["signal_log10_rms"] for r in ("sum", "sum_over_batch_size"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    one, other = (rows[r]["gradient_log10_rms"] for r in ("sum", "sum_over_batch_size"))
    np.testing.assert_allclose(one - other, np.log10(32), atol=1e-5)


@pytest.mark.parametrize(
    "compiled",
    [
        {"steps_per_execution": 3},
        pytest.param({"jit_compile": True}, marks=pytest.mark.long),
        pytest.param({"jit_compile": True, "steps_per_execution": 2}, marks=pytest.mark.long),
        {"run_eagerly": True},
        {"auto_scale_loss": True},
    ],
)
def test_ways_to_compile(compiled: dict[str, Any], tmp_path: Path) -> None:
    plain = fitted(mlp(optimizer="adam", **compiled), [], epochs=2)
    monitor = Monitor(tmp_path / "run", schedule=3)
    watched = fitted(mlp(optimizer="adam", **compiled), [monitor], epochs=2)
    assert same(plain, watched)
    size = compiled.get("steps_per_execution", 1)
    # An epoch has four steps; the last of an execution is looked at.
    expected = {1: [0, 3, 6], 2: [1, 3, 7], 3: [2, 3, 6]}[size]
    assert list(monitor.steps["step"]) == expected
    assert np.isfinite(monitor.layers["log10_update_ratio"]).all()


class Precise:
    """Whatever is built inside has a dtype policy."""

    def __init__(self, policy: str) -> None:
        self.policy = policy

    def __enter__(self) -> None:
        keras.config.set_dtype_policy(self.policy)

    def __exit__(self, *error: Any) -> None:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "policy", long_but(["mixed_float16"], ["mixed_float16", "mixed_bfloat16", "float64"])
)
def test_values_of_another_precision(policy: str, tmp_path: Path) -> None:
    x, y = data()
    weights = mlp().get_weights()
    rows, results = {}, []
    for name in ("float32", policy):
        with Precise(name):
            for callbacks in ([], [Monitor(tmp_path / name, schedule=1)]):
                model = mlp(optimizer="sgd")
                model.layers[3].rate = 0.0
                model.set_weights(weights)
                model.fit(x[:32], y[:32], verbose=0, callbacks=callbacks)
                if name == policy:
                    results.append([np.array(v.numpy()) for v in model.variables])
        rows[name] = pd.read_parquet(tmp_path / name / "layers")
    assert same(*results)
    for column in ("signal_log10_rms", "gradient_log10_rms", "log10_update_ratio"):
        # Unscaled: the scale of mixed_float16 would add log10 2^15 = 4.5.
        np.testing.assert_allclose(rows[policy][column], rows["float32"][column], atol=0.02)


def test_a_loss_scale_that_overflows_is_told(tmp_path: Path) -> None:
    x, y = data()
    with Precise("mixed_float16"):
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(clipnorm=1.0), initial_scale=2.0**40
        )
        model = mlp(optimizer=optimizer)
        monitor = Monitor(tmp_path / "run", schedule=1)
        model.fit(x[:64], y[:64], verbose=0, callbacks=[monitor])
    assert list(monitor.steps["loss_scale"]) == [2.0**40, 2.0**39]
    assert monitor.steps["loss_scale_overflowed"].all() and monitor.steps["clips"].all()
    assert monitor.cells["status"].item() == "ok"  # such a step is left out, and no harm done
    assert np.isneginf(monitor.layers["log10_update_ratio"]).all()


def test_steps_that_a_loss_scale_leaves_out_are_no_fault(tmp_path: Path) -> None:
    """The scale begins too large, is halved a few times, and the network learns."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(160, 8)).astype(np.float32)
    monitor = Monitor(tmp_path / "run", schedule=1)
    with Precise("mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8,)), L.Dense(16, "relu"), L.Dense(1)])
        adam = keras.optimizers.Adam(0.01)
        model.compile(keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**18), "mse")
        target = x[:, :1] * x[:, 1:2] + x[:, 2:3]
        model.fit(x, target, epochs=8, verbose=0, callbacks=[monitor])
    assert monitor.steps["loss_scale_overflowed"].iloc[0]
    assert monitor.diagnose().kind == "healthy"


@pytest.mark.parametrize("scale", [2.0**15, 2.0**40])
def test_a_probe_scales_the_loss_as_a_step_does(scale: float) -> None:
    """Signals of 1e-8 are 0 in float16, and those times 2^40 infinite; a training measures them."""
    x, y = data()
    small = {"kernel_initializer": keras.initializers.RandomNormal(stddev=2e-3)}
    seen = []
    for policy in ("float32", "mixed_float16"):
        with Precise(policy):
            keras.utils.set_random_seed(0)
            hidden = [L.Dense(32, **small) for _ in range(4)]
            model = keras.Sequential([keras.Input((x.shape[1],)), *hidden, L.Dense(3)])
            optimizer = keras.optimizers.SGD()
            if policy == "mixed_float16":
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer, loss)
            seen.append(probe(model, x[:32], y[:32]))
    plain, scaled = (one.layers["signal_log10_rms"].to_numpy() for one in seen)
    of_minibatch = plain.min() - np.log10(32)
    assert of_minibatch < np.log10(2.0**-24)  # nothing smaller is there in float16
    np.testing.assert_allclose(scaled, plain, atol=0.02)
    assert seen[1].origin is None


class OwnStep(keras.Model):
    """A model with a training step of its own."""

    def train_step(self, batch: Any) -> dict[str, Any]:
        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - tf.one_hot(y, 3)))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def test_a_training_step_of_its_own(tmp_path: Path) -> None:
    results = []
    monitor = Monitor(tmp_path / "run", schedule=1)
    for callbacks in ([], [monitor]):
        inner = mlp()
        model = OwnStep(inner.inputs, inner.outputs)
        model.compile("adam")
        results.append(fitted(model, callbacks, epochs=1))
    assert same(*results)
    assert np.isfinite(monitor.layers["gradient_log10_norm"]).all()
    assert monitor.steps["minibatch_loss"].isna().all()
    assert (monitor.unmeasured["what"] == "loss").any()


class Adversaries(keras.Model):
    """Two networks with an optimizer each, trained against each other."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = keras.Sequential([keras.Input((4,)), L.Dense(8, "relu"), L.Dense(6)])
        self.judge = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(1)])
        self.of_maker, self.of_judge = keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.02)
        self.made = tf.Variable(0)

    def call(self, x: Any) -> Any:
        return self.judge(x)

    def train_step(self, batch: Any) -> dict[str, Any]:
        noise = tf.random.normal((tf.shape(batch[0])[0], 4))
        if self.run_eagerly:  # where such numbers are those of the whole process
            noise = batch[0][:, :4]
        with tf.GradientTape(persistent=True) as tape:
            of_made, of_true = self.judge(self.maker(noise)), self.judge(batch[0])
            loss = -tf.reduce_mean(of_made) * tf.cast(self.made + 1, tf.float32)
            other = tf.reduce_mean(of_made) - tf.reduce_mean(of_true)
        self.made.assign_add(1)
        for optimizer, part, value in (
            (self.of_maker, self.maker, loss),
            (self.of_judge, self.judge, other),
        ):
            gradients = tape.gradient(value, part.trainable_variables)
            optimizer.apply_gradients(zip(gradients, part.trainable_variables, strict=True))
        return {"loss": tf.cast(self.made, tf.float32) ** 3}  # of one of them, and rising


@pytest.mark.parametrize("eager", [False, True])
def test_networks_that_are_trained_against_each_other(eager: bool, tmp_path: Path) -> None:
    """Their optimizers are not the model's own, and a variable of TensorFlow's is none of Keras."""
    x, y = data()
    results = []
    monitor = Monitor(tmp_path / "run", schedule=1)
    for callbacks in ([], [monitor]):
        keras.utils.set_random_seed(0)
        model = Adversaries()
        model.compile("sgd", run_eagerly=eager)
        model(x[:2, :6])
        for _ in range(2):
            model.fit(x[:, :6], y, epochs=1, verbose=0, callbacks=callbacks)
        variables = [*model.weights, *model.of_maker.variables, *model.of_judge.variables]
        results.append([*(np.array(v.numpy()) for v in variables), model.made.numpy()])
    assert same(*results)
    assert list(monitor.steps["step"]) == list(range(8))
    assert monitor.steps["learning_rate"].isna().all() and (monitor.steps["optimizers"] == 2).all()
    assert not any("loss" in finding.text for finding in monitor.diagnose().findings)
    assert monitor.steps["exact"].all()
    of_calls = ~monitor.layers["name"].str.contains("#")
    assert np.isfinite(monitor.layers.loc[of_calls, "gradient_log10_norm"]).all()
    assert np.isfinite(monitor.layers.loc[of_calls, "log10_update_ratio"]).all()


def of_numpy(x: Any) -> Any:
    return tf.constant(np.random.normal(size=(1, 8)), tf.float32)  # noqa: NPY002


DRAWS: dict[str, tuple[bool, Callable[[Any], Any]]] = {
    "Keras's own generator": (False, lambda x: keras.random.normal((1, 8))),
    "TensorFlow's own seeds": (False, lambda x: tf.random.normal(tf.shape(x))),
    "TensorFlow's own generator": (
        False,
        lambda x: tf.random.get_global_generator().normal(tf.shape(x)),
    ),
    "the same, eagerly": (True, lambda x: tf.random.get_global_generator().normal(tf.shape(x))),
    "NumPy's, eagerly": (True, of_numpy),
    "NumPy's, from a program": (
        False,
        lambda x: tf.ensure_shape(tf.numpy_function(of_numpy, [x], tf.float32), (1, 8)),
    ),
}


@pytest.mark.parametrize("name", long_but(["Keras's own generator", "NumPy's, eagerly"], DRAWS))
def test_what_a_layer_draws_from_generators_of_the_process(name: str, tmp_path: Path) -> None:
    """A rehearsal draws, and the step itself draws the same again."""
    eager, draw = DRAWS[name]

    class Noisy(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + 0.1 * draw(x)

    results = []
    for callbacks in ([], [Monitor(tmp_path / "run", schedule=2)]):
        keras.utils.set_random_seed(0)
        tf.random.get_global_generator().reset_from_seed(0)
        model = keras.Sequential([L.Dense(8, "relu"), Noisy(), L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eager)
        model.build((None, data()[0].shape[1]))
        results.append(fitted(model, callbacks))
    assert same(*results)


def test_layers_that_change_their_weights_when_they_are_called(tmp_path: Path) -> None:
    x, y = data()
    results = []
    monitor = Monitor(tmp_path / "run", schedule=2)
    for callbacks in ([], [monitor]):
        keras.utils.set_random_seed(3)
        norm = L.SpectralNormalization(L.Dense(8, "relu"))
        model = keras.Sequential([keras.Input(x.shape[1:]), norm, L.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, y.astype("float32"), verbose=0, callbacks=callbacks)
        results.append([np.array(v.numpy()) for v in model.variables])
    assert same(*results)
    assert monitor.steps["exact"].all()


def test_a_model_whose_training_is_distributed_is_refused(tmp_path: Path) -> None:
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = mlp()
    with pytest.raises(GradpropError, match="a strategy that distributes its training"):
        fitted(model, [Monitor(tmp_path / "run")])


def test_a_probe_takes_the_first_minibatch_of_a_data_set() -> None:
    x, y = data()
    model = mlp()
    model.layers[3].rate = 0.0
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    expected = probe(model, x[:32], y[:32]).layers
    for given in (batches, iter(batches)):
        pd.testing.assert_frame_equal(probe(model, given).layers, expected)


def test_a_generator_without_minibatches_is_told() -> None:
    def nothing() -> Iterator[Any]:
        yield from ()

    with pytest.raises(GradpropError, match="no examples"):
        probe(mlp(), nothing())


def test_two_monitors_are_refused(tmp_path: Path) -> None:
    monitors = [Monitor(tmp_path / name, schedule=1) for name in "ab"]
    with pytest.raises(GradpropError, match="two monitors"):
        fitted(mlp(), monitors)
