"""What a monitor tells rules beside statistics: fans, scales of data, how far units differ."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradprop.advice import diagnose
from gradprop.monitor import probe
from gradprop.monitor.recording import fans, unit_spread
from tests.monitor.networks import L, data, mlp

LAYERS = {
    "dense": (L.Dense(5), (7,)),
    "conv": (L.Conv2D(5, 3), (9, 9, 4)),
    "grouped": (L.Conv2D(6, 3, groups=2), (9, 9, 4)),
    "conv1d": (L.Conv1D(5, 3), (9, 4)),
    "transposed": (L.Conv2DTranspose(5, 3), (9, 9, 4)),
    "depthwise": (L.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4)),
    "einsum": (L.EinsumDense("abc,cde->abde", (None, 3, 5)), (9, 4)),
    "reversed": (L.EinsumDense("abde,dec->abc", (None, 7)), (9, 3, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fan_in_is_the_number_of_weights_that_reach_a_unit(name: str) -> None:
    layer, shape = LAYERS[name]
    x = tf.ones((1, *shape))
    layer(x)
    (kernel, *_) = layer.trainable_variables
    with tf.GradientTape() as tape:
        z = layer(x)
        one = tf.reshape(z, (-1, z.shape[-1]))[tf.size(z) // z.shape[-1] // 2, 0]
        unit = z[0, 4, 0, 0] if name == "einsum" else one
    reached = int(tf.math.count_nonzero(tape.gradient(unit, kernel.value)))
    fan_in, fan_out = fans(layer, kernel)
    assert fan_in == reached
    assert fan_in * fan_out == np.prod(kernel.shape)


def test_an_embedding_takes_one_row_and_a_vector_one_entry() -> None:
    layer = L.Embedding(11, 4)
    layer(tf.zeros((1, 2), tf.int32))
    assert fans(layer, layer.embeddings) == (1, 44)
    normalization = L.LayerNormalization()
    normalization(tf.ones((2, 6)))
    assert fans(normalization, normalization.gamma) == (1, 6)
    assert fans(normalization, None) == (0, 0)


def test_rules_judge_the_layers_on_the_way_and_know_what_else_acts_on_them() -> None:
    inputs = keras.Input((6, 6, 2))
    h = L.Conv2D(4, 3, padding="same", name="first")(inputs)
    h = L.ReLU()(L.BatchNormalization(name="norm")(h))
    h = L.Add()([h, L.Conv2D(4, 3, padding="same", activation="tanh", name="branch")(h)])
    model = keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(h)))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data((6, 6, 2), 16)
    network = probe(model, x, y).network
    assert list(network["name"]) == ["first", "norm", "branch", "last"]
    assert list(network["judged"]) == [True, False, True, True]
    assert list(network["extra"]) == ["normalization", "", "skip", ""]
    assert list(network["fan_in"]) == [18, 1, 36, 144]
    assert list(network["activation"]) == ["relu", "linear", "tanh", "linear"]


def test_the_scale_of_data_is_that_of_numpy() -> None:
    x, _ = data()
    x = 3 + 2 * x[:32]
    y = np.stack([100 + x[:, 0], 5 * x[:, 1]], axis=1)
    model = keras.Sequential([keras.Input((7,)), L.Dense(4), L.Dense(2)])
    model.compile(loss="mse")
    (row,) = probe(model, x, y).steps.to_dict("records")
    for name, values in (("input", x), ("target", y)):
        exact = values.astype(np.float64)
        found = [row[f"{name}_{column}"] for column in ("mean", "std", "largest")]
        np.testing.assert_allclose(found, [exact.mean(), exact.std(), abs(exact).max()], rtol=1e-12)
    assert row["loss"] == "mean_squared_error"
    best = np.mean((y.astype(float) - y.mean(axis=0, dtype=float)) ** 2)
    assert row["guessing_loss"] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "kind", "guess"),
    [
        ("sparse_categorical_crossentropy", 3, "cross_entropy", math.log(3)),
        ("binary_crossentropy", 1, "cross_entropy", math.log(2)),
        (keras.losses.BinaryCrossentropy(), 4, "cross_entropy", math.log(2)),
        ("mae", 1, "other", math.nan),
    ],
)
def test_the_loss_is_compared_with_that_of_guessing(
    loss: Any, outputs: int, kind: str, guess: float
) -> None:
    model = keras.Sequential([keras.Input((7,)), L.Dense(outputs, "sigmoid")])
    model.compile(loss=loss)
    x, y = data(examples=8)
    targets = y if outputs == 3 else np.ones((8, outputs), np.float32)
    (row,) = probe(model, x, targets).steps.to_dict("records")
    assert row["loss"] == kind
    assert row["guessing_loss"] == pytest.approx(guess, nan_ok=True)


class Adding(keras.layers.Layer):  # type: ignore[misc]
    """Hands its inputs on, and adds their mean square to the loss."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(0.3 * keras.ops.mean(inputs**2))
        return inputs


class Owning(keras.Model):  # type: ignore[misc]
    """Has a method of its own for Keras's loss, penalties included."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


class Sparing(keras.Model):  # type: ignore[misc]
    """Leaves penalties out of its loss."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, **_: Any) -> Any:
        return keras.ops.mean((y - y_pred) ** 2)


@pytest.mark.parametrize("kind", [keras.Model, Owning, Sparing])
def test_the_penalty_is_what_the_model_adds_to_the_loss_of_the_data(kind: Any) -> None:
    x, _ = data(examples=16)
    y = x[:, :2]
    inputs = keras.Input((7,))
    h = L.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))(Adding()(inputs))
    model = kind(inputs, L.Dense(2, bias_regularizer="l1", bias_initializer="ones")(h))
    model.compile(loss="mse")
    (row,) = probe(model, x, y).steps.to_dict("records")
    of_data = float(np.mean((np.asarray(model(x)) - y) ** 2))
    kernel = np.asarray(model.layers[-2].kernel, np.float64)
    added = 0.5 * (kernel**2).sum() + 0.01 * 2 + 0.3 * (x.astype(float) ** 2).mean()
    assert row["penalty"] == pytest.approx(0.0 if kind is Sparing else added, rel=1e-5)
    assert row["minibatch_loss"] == pytest.approx(of_data + row["penalty"], rel=1e-5)


def test_a_loss_that_layers_add_alone_is_no_penalty() -> None:
    x, y = data(examples=16)
    inputs = keras.Input((7,))
    model = Owning(inputs, Adding()(L.Dense(2)(Adding()(inputs))))
    model.compile()
    (row,) = probe(model, x, y).steps.to_dict("records")
    assert row["penalty"] == 0
    assert row["minibatch_loss"] > 0


def test_tokens_and_normalized_inputs_have_no_scale() -> None:
    x, y = data(examples=8)
    for first, inputs in (
        (L.Embedding(9, 4), (abs(x) * 2).astype(int)),
        (L.LayerNormalization(), x),
    ):
        model = keras.Sequential([keras.Input((7,)), first, L.Flatten(), L.Dense(3, "softmax")])
        model.compile(loss="sparse_categorical_crossentropy")
        (row,) = probe(model, inputs, y).steps.to_dict("records")
        assert math.isnan(row["input_std"])


def test_units_differ_by_their_deviation_from_the_mean_over_units() -> None:
    v = np.random.default_rng(0).normal(1.0, 2.0, (50, 8)).astype(np.float32)
    deviation = v.astype(float) - v.mean(axis=1, dtype=float, keepdims=True)
    expected = np.sqrt((deviation**2).mean() / (v.astype(float) ** 2).mean())
    assert unit_spread(v) == pytest.approx(expected, rel=1e-12)
    assert unit_spread(np.repeat(v[:, :1], 8, axis=1)) == 0.0
    assert unit_spread(np.zeros((3, 4), np.float32)) == 0.0
    assert math.isnan(unit_spread(v[:, :1]))
    assert math.isnan(unit_spread(np.full((2, 2), np.nan, np.float32)))


def _judged(model: keras.Model, x: Any, y: Any) -> str:
    found = probe(model, x, y)
    steps = found.steps.assign(train_loss=found.steps["minibatch_loss"])
    network = found.network[found.network["judged"]]
    guess = float(steps["guessing_loss"].iloc[0])
    return diagnose(found.layers, steps, network, steps["loss"].iloc[0], guess).kind


def test_units_of_equal_weights_and_equal_signals_never_differ() -> None:
    x, y = data(examples=32)
    constant = keras.initializers.Constant(0.1)
    kinds = {}
    for name, (first, second, last) in {
        "all": (constant, constant, constant),
        "zeros": ("zeros", "zeros", "zeros"),
        "hidden": ("glorot_uniform", constant, constant),
        "last": ("glorot_uniform", "glorot_uniform", "zeros"),
        "none": ("glorot_uniform", "glorot_uniform", "glorot_uniform"),
    }.items():
        keras.utils.set_random_seed(0)
        inits = [*((11, "tanh", init) for init in (first, second)), (3, "softmax", last)]
        layers = [L.Dense(n, phi, kernel_initializer=init) for n, phi, init in inits]
        model = keras.Sequential([keras.Input((7,)), *layers])
        model.compile(loss="sparse_categorical_crossentropy")
        kinds[name] = _judged(model, x, y)
    assert kinds == dict.fromkeys(("all", "zeros", "hidden"), "symmetric") | dict.fromkeys(
        ("last", "none"), "healthy"
    )


def test_inputs_are_judged_as_the_first_layer_gets_them() -> None:
    x, y = data(examples=32)
    pixels = np.round(127 + 60 * x)
    assert _judged(mlp(), pixels, y) == "input not scaled"
    scaled = keras.Sequential([keras.Input((7,)), L.Rescaling(1 / 100, -1.27), *mlp().layers])
    scaled.compile(loss="sparse_categorical_crossentropy")
    assert _judged(scaled, pixels, y) == "healthy"


def test_the_numbers_of_what_is_not_finite_are_there_with_every_choice(tmp_path: Any) -> None:
    x, y = data(examples=32)
    model = mlp()
    model.layers[1].kernel.assign(np.full((11, 11), np.nan))
    rows = probe(model, x, y, statistics="cheap").layers
    assert list(rows["weight_nonfinite_fraction"]) == [0, 1, 0, 0]
    assert list(rows["activation_nonfinite_fraction"]) == [0, 1, 1, 1]
    assert isinstance(rows, pd.DataFrame)
    assert (rows["signal_nonfinite_fraction"] > 0).all()
