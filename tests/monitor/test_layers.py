"""Kinds of layers and models: gradients against GradientTape, and what is said not to be there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradprop import Monitor, probe
from gradprop.monitor import layers
from tests.long import long_but
from tests.monitor.networks import same

L = keras.layers
Tensors = Any


def sequential(shape: tuple[int, ...], *parts: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *parts])


def transformer() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    h = L.Embedding(11, 8)(inputs)
    attended = L.MultiHeadAttention(2, 4, name="attention")(h, h)
    h = L.LayerNormalization()(L.Add()([h, attended]))
    fed = L.Dense(8)(L.Dense(16, "gelu")(h))
    h = L.LayerNormalization()(L.Add()([h, fed]))
    return keras.Model(inputs, L.Dense(3, name="out")(L.GlobalAveragePooling1D()(h)))


def resnet() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    h = L.Conv2D(4, 3, padding="same", name="stem")(inputs)
    branch = L.Conv2D(4, 3, padding="same", use_bias=False, name="one")(h)
    branch = L.ReLU()(L.BatchNormalization(name="normalized")(branch))
    branch = L.Conv2D(4, 3, padding="same", name="two")(branch)
    h = L.ReLU(name="joined")(L.Add()([h, branch]))
    return keras.Model(inputs, L.Dense(3, name="out")(L.Flatten()(h)))


def shared() -> keras.Model:
    one, two = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    dense = L.Dense(5, "tanh", name="shared")
    h = L.Concatenate()([dense(one), dense(two)])
    return keras.Model([one, two], [L.Dense(3, name="left")(h), L.Dense(2, name="right")(h)])


class Doubled(keras.layers.Layer):
    """A layer of one's own, with weights of its own and a layer inside."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.inner = L.Dense(4, "relu", name="inner")

    def build(self, shape: Any) -> None:
        self.gate = self.add_weight(shape=(4, 4), name="gate")
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(self.inner(inputs), self.gate)


class Subclassed(keras.Model):
    """A model of one's own: an activation function that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(6, name="first")
        self.blocks = [L.Dense(6, "elu", name=f"block_{i}") for i in range(2)]
        self.out = L.Dense(3, name="out")

    def call(self, inputs: Any) -> Any:
        h = tf.nn.relu(self.first(inputs))
        for block in self.blocks:
            h = block(h)
        return self.out(h)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    return model


def frozen() -> keras.Model:
    first, middle = L.Dense(5, "tanh", name="first"), L.Dense(5, "tanh", name="middle")
    model = sequential((4,), first, middle, L.Dense(3, name="out"))
    first.trainable = False
    return model


def stopped() -> keras.Model:
    inputs = keras.Input((4,))
    h = L.Dense(5, "tanh", name="first")(inputs)
    kept = L.Dense(5, "tanh", name="kept")(inputs)
    h = L.Add()([keras.ops.stop_gradient(h), kept])
    return keras.Model(inputs, L.Dense(3, name="out")(h))


def operations() -> keras.Model:
    inputs = keras.Input((4,))
    h = keras.ops.relu(L.Dense(5, name="dense")(inputs))
    return keras.Model(inputs, L.Dense(3, name="out")(h))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "conv1d": lambda: sequential(
        (8, 2), L.Conv1D(3, 3, activation="relu"), L.Flatten(), L.Dense(3)
    ),
    "conv2d": lambda: sequential(
        (6, 6, 2),
        L.Conv2D(3, 3, name="conv2d"),
        L.LeakyReLU(negative_slope=0.3),
        L.Flatten(),
        L.Dense(3),
    ),
    "conv3d": lambda: sequential((4, 4, 4, 2), L.Conv3D(3, 2), L.Flatten(), L.Dense(3)),
    "depthwise": lambda: sequential(
        (6, 6, 2), L.DepthwiseConv2D(3, activation="elu"), L.Flatten(), L.Dense(3)
    ),
    "separable": lambda: sequential((6, 6, 2), L.SeparableConv2D(3, 3), L.Flatten(), L.Dense(3)),
    "transposed": lambda: sequential(
        (4, 4, 2), L.Conv2DTranspose(3, 3, activation="tanh"), L.Flatten(), L.Dense(3)
    ),
    "transposed 1d": lambda: sequential(
        (4, 2), L.Conv1DTranspose(3, 3, activation="tanh"), L.Flatten(), L.Dense(3)
    ),
    "group": lambda: sequential(
        (4, 4, 2), L.Conv2D(4, 3), L.GroupNormalization(2), L.ReLU(), L.Flatten(), L.Dense(3)
    ),
    "lstm": lambda: sequential((5, 3), L.LSTM(4, return_sequences=True), L.GRU(4), L.Dense(3)),
    "simple rnn": lambda: sequential((5, 3), L.Bidirectional(L.SimpleRNN(4)), L.Dense(3)),
    "distributed": lambda: sequential(
        (5, 3), L.TimeDistributed(L.Dense(4, "relu")), L.Flatten(), L.Dense(3)
    ),
    "nested": lambda: sequential((4,), sequential((4,), L.Dense(5, "relu")), L.Dense(3)),
    "prelu": lambda: sequential((4,), L.Dense(5), L.PReLU(), L.Dense(3)),
    "custom": lambda: sequential((4,), Doubled(name="doubled"), L.Dense(3, name="out")),
    "transformer": transformer,
    "resnet": resnet,
    "shared": shared,
    "subclassed": subclassed,
    "frozen": frozen,
    "operations": operations,
    "stopped": stopped,
}


def made(name: str) -> tuple[keras.Model, Any, Any]:
    """Return a model, compiled, with 24 examples."""
    keras.utils.set_random_seed(3)
    model = MODELS[name]()
    draws = np.random.default_rng(0)

    def inputs(tensor: Any) -> Any:
        shape = (24, *tensor.shape[1:])
        if "int" in tensor.dtype:
            return draws.integers(0, 11, shape).astype(np.int32)
        return draws.normal(size=shape).astype(np.float32)

    def targets(tensor: Any) -> Any:
        return draws.normal(size=(24, *tensor.shape[1:])).astype(np.float32)

    if isinstance(model, Subclassed):
        x, y = draws.normal(size=(2, 24, 4)).astype(np.float32)
        y = y[:, :3]
    else:
        x = keras.tree.map_structure(inputs, model.inputs)
        y = keras.tree.map_structure(targets, model.outputs)
        x, y = (part[0] if len(part) == 1 else part for part in (x, y))
    model.compile("adam", "mse" if not isinstance(y, list) else ["mse"] * len(y))
    return model, x, y


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_a_tape(name: str) -> None:
    model, x, y = made(name)
    seen = probe(model, x, y)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    expected = {
        id(v): np.log10(np.linalg.norm(tf.convert_to_tensor(g).numpy().astype(np.float64)))
        for v, g in zip(variables, gradients, strict=True)
        if g is not None
    }
    matrices = {
        w.name: id(w.matrix)
        for one in layers.watched(model)
        for w in one.weights
        if w.matrix is not None and id(w.matrix) in expected
    }
    rows = seen.layers.drop_duplicates("name").set_index("name")
    for row, variable in matrices.items():
        assert rows.loc[row, "gradient_log10_norm"] == pytest.approx(expected[variable], abs=1e-5)
    # Every variable is a matrix of a row or added to its products.
    shifts = {id(w.shift) for one in layers.watched(model) for w in one.weights}
    assert set(expected) <= {*matrices.values(), *shifts}
    assert seen.steps["minibatch_loss"].item() == pytest.approx(float(loss), rel=1e-5)
    told = set(seen.unmeasured["layer"])
    whole = seen.layers.set_index("name")["signal_log10_rms"].dropna()
    further = {w.name for one in layers.watched(model) for w in one.weights[1:]}
    assert set(rows.index) <= {*whole.index, *told, *further}


@pytest.mark.parametrize("name", long_but(["conv2d", "lstm", "resnet", "transformer"], MODELS))
def test_training_is_the_same_with_the_monitor(name: str, tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [Monitor(tmp_path / "run", schedule=2)]):
        model, x, y = made(name)
        keras.utils.set_random_seed(4)
        model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=callbacks, shuffle=False)
        results.append(
            [np.array(v.numpy()) for v in (*model.variables, *model.optimizer.variables)]
        )
    assert same(*results)
    steps = pd.read_parquet(tmp_path / "run" / "steps")
    assert list(steps["step"]) == [0, 2]
    assert steps["exact"].all()


def row_of(name: str, layer: str) -> Any:
    model, x, y = made(name)
    seen = probe(model, x, y)
    return seen.layers.set_index("name").loc[layer], seen


def test_an_activation_layer_belongs_to_the_layer_before_it() -> None:
    row, _ = row_of("conv2d", "conv2d")
    assert row["activation"] == "leaky_relu(slope=0.3)"
    assert row["preactivation_std"] > row["activation_std"]


def test_what_an_own_layer_applies_is_not_known() -> None:
    """Theory is silent about it, and it has no flat tails that are known."""
    x, y = np.ones((8, 4), "float32"), np.zeros(8, int)
    model = sequential((4,), Doubled(name="doubled"), L.Dense(5, name="dense"), L.Dense(3))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = probe(model, x, y)
    rows = seen.layers.set_index("name")
    assert rows["activation"].tolist() == ["unknown", "relu", "linear", "linear"]
    assert math.isnan(rows.loc["doubled", "saturated_fraction"])
    followed = sequential((4,), Doubled(name="doubled"), L.Activation("tanh"), L.Dense(3))
    followed.compile(loss=model.loss)
    assert probe(followed, x, y).layers.set_index("name").loc["doubled", "activation"] == "tanh"


class Rectified(keras.layers.Layer):
    """An activation function of one's own, as a layer."""

    def call(self, inputs: Any) -> Any:
        return tf.nn.relu(inputs)


class Rectifying(keras.layers.Dense):
    """A layer that goes on behind its activation function."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return tf.nn.relu(super().call(inputs))


def test_functions_that_are_not_seen_do_not_count_as_linear() -> None:
    x, y = np.ones((8, 4), "float32"), np.zeros(8, int)
    parts = [L.Dense(5), Rectified(), L.Dense(5), L.Lambda(tf.nn.relu), Rectifying(5), L.Dense(5)]
    model = sequential((4,), *parts, L.Dropout(0.1), L.Dense(3))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = probe(model, x, y)
    assert seen.layers["activation"].tolist() == [*3 * ["unknown"], "linear", "linear"]
    told = seen.unmeasured[seen.unmeasured["what"] == "saturated and dead units"]
    assert (
        len(told) == 3
        and told["why"].eq("what it applies to its pre-activations is not seen").all()
    )


def test_a_function_that_is_no_layer_is_found_in_a_functional_model() -> None:
    row, _ = row_of("operations", "dense")
    assert row["activation"] == "relu"
    assert row["activation_q02"] == 0


def test_a_skip_joins_before_the_activation_function() -> None:
    model, x, y = made("resnet")
    seen = probe(model, x, y).layers.set_index("name")
    parts = keras.Model(model.input, [layer.output for layer in model.layers])
    outputs = dict(
        zip((layer.name for layer in model.layers), parts(x, training=True), strict=True)
    )
    joined = outputs["joined"].numpy().astype(np.float64)
    assert seen.loc["two", "activation_mean"] == pytest.approx(joined.mean(), rel=1e-5)
    assert seen.loc["two", "saturated_fraction"] == pytest.approx((joined == 0).mean(), abs=1e-6)
    assert seen.loc["one", "activation"] == seen.loc["two", "activation"] == "relu"
    normalized = outputs["normalized"].numpy().astype(np.float64)
    assert seen.loc["one", "preactivation_std"] == pytest.approx(normalized.std(), rel=1e-5)


def test_the_signal_of_a_frozen_layer_is_measured() -> None:
    row, _ = row_of("frozen", "first")
    assert np.isfinite(row["signal_log10_rms"])
    assert np.isnan(row["gradient_log10_rms"])


def test_units_of_a_convolution_are_its_channels() -> None:
    model, x, y = made("conv1d")
    kernel = np.array(model.layers[0].kernel.numpy())
    kernel[..., 0] = 0
    model.layers[0].set_weights([kernel, np.array([-1.0, 0.0, 0.0])])
    row = probe(model, x, y).layers.iloc[0]
    assert row["dead_fraction"] == pytest.approx(1 / 3)


def test_a_shared_layer_has_a_row_per_call() -> None:
    model, x, y = made("shared")
    rows = probe(model, x, y).layers.set_index("name")
    assert sorted(rows.index) == ["left", "right", "shared", "shared#2"]
    assert rows.loc["shared", "gradient_log10_norm"] == rows.loc["shared#2", "gradient_log10_norm"]
    assert rows.loc["shared", "signal_log10_rms"] != rows.loc["shared#2", "signal_log10_rms"]


def over_time(wrapped: bool) -> keras.Model:
    """Return layers that act on every time step, in wrappers or by the last axis alone."""
    keras.utils.set_random_seed(3)

    def wrap(layer: Any) -> Any:
        return L.TimeDistributed(layer) if wrapped else layer

    again = L.Dense(5, "tanh", name="again")
    parts = [
        wrap(L.Dense(4, name="plain")),
        wrap(L.LayerNormalization(name="norm")),
        wrap(L.Activation("relu")),
        wrap(keras.Sequential([L.Dense(5, "elu", name="inner"), again, again])),
        wrap(L.Dense(4, name="open")),
        L.Activation("softplus"),
    ]
    model = sequential((6, 3), *parts, L.Flatten(), L.Dense(3, name="out"))
    model.compile("adam", "mse")
    return model


def test_a_layer_that_a_wrapper_calls_for_every_time_step_is_one() -> None:
    """Layers of the last axis are the same without a wrapper, and are called once there."""
    x = np.random.default_rng(0).normal(size=(24, 6, 3)).astype(np.float32)
    y = x[:, 0]
    seen, plain = (probe(over_time(wrapped), x, y) for wrapped in (True, False))
    names = seen.network["name"].str.split("/").str[-1]
    assert list(names) == list(plain.network["name"].str.split("/").str[-1])
    same_columns = ["activation", "fan_in", "fan_out", "positions", "extra", "judged"]
    assert seen.network[same_columns].equals(plain.network[same_columns])
    assert set(seen.network["positions"]) == {6, 1}
    numbers = seen.layers.select_dtypes("number").columns
    np.testing.assert_allclose(seen.layers[numbers], plain.layers[numbers], rtol=1e-4, atol=1e-5)
    for column in ("input_mean", "input_std"):
        assert seen.steps[column].item() == pytest.approx(plain.steps[column].item(), rel=1e-6)
    assert seen.unmeasured["why"].equals(plain.unmeasured["why"])


def test_an_encoder_whose_states_alone_are_used_learns_by_them() -> None:
    """Its output goes nowhere, but its kernel has a gradient."""
    tokens = keras.Input((6, 3))
    _, *states = L.LSTM(5, return_state=True, name="encoder")(tokens)
    outputs = L.LSTM(5, name="decoder")(tokens, initial_state=states)
    model = keras.Model(tokens, L.Dense(1)(outputs))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 6, 3)).astype(np.float32)
    seen = probe(model, x, x[:, 0, :1])
    notes = seen.unmeasured.set_index(["layer", "what"])["why"]
    assert notes["encoder", "signal"] == "the loss depends on it otherwise than by its output"
    assert np.isfinite(seen.layers["gradient_log10_norm"]).all()


@pytest.mark.parametrize(
    ("name", "layer", "what", "why"),
    [
        ("frozen", "first", "gradient", "its weights are frozen"),
        ("stopped", "first", "signal", "no gradient of the loss"),
        ("lstm", "lstm", "preactivation", "inside a loop"),
        ("subclassed", "first", "activation", "an operation that is no layer"),
        ("custom", "doubled", "activation", "of its own"),
        ("prelu", "dense", "saturated and dead units", "tails of 'prelu'"),
    ],
)
def test_what_is_not_measured_is_told(name: str, layer: str, what: str, why: str) -> None:
    model, x, y = made(name)
    notes = probe(model, x, y).unmeasured
    chosen = notes[notes["layer"].str.startswith(layer) & notes["what"].str.contains(what)]
    assert chosen["why"].str.contains(why).any()
