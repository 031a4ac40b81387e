"""Networks as tutorials have them: healthy ones are said to be so, and broken ones get the name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

import gradprop
from tests.long import long_but

Made = tuple[Any, Any, Any, dict[str, Any]]
SPARSE = "sparse_categorical_crossentropy"
HEALTHY = "healthy"


def digits(scale: float = 1 / 16) -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    return (x[:600] * scale).astype("float32"), y[:600]


def mlp(change: str) -> Made:
    """Classify digits by dense layers with dropout."""
    x, y = digits(1.0)
    kernel = {"zeros": "zeros", "ones": "ones"}.get(change, "glorot_uniform")
    scaling = layers.Rescaling(100.0 if change == "scale" else 1 / 16)
    model = keras.Sequential([keras.Input((64,)), scaling])
    for _ in range(2):
        model.add(layers.Dense(64, "relu", kernel_initializer=kernel))
        model.add(layers.Dropout(0.2))
    model.add(layers.Dense(10, None if change == "no softmax" else "softmax"))
    if change == "frozen":
        model.trainable = False
    rate = {"fast": 5.0, "slow": 1e-9}.get(change, 1e-3)
    kind = keras.optimizers.SGD if change == "scale" else keras.optimizers.Adam
    model.compile(kind(rate), SPARSE, metrics=["accuracy"])
    return model, x, y, {"epochs": 12}


def cnn(change: str) -> Made:
    """Classify images by convolutions with batch normalization and pooling."""
    x, y = digits()
    x = np.kron(x.reshape(-1, 8, 8, 1), np.ones((1, 3, 3, 1), "float32"))[:300]
    h = inputs = keras.Input((24, 24, 1))
    for filters in (8, 16, 32):
        bias = keras.initializers.Constant(-50.0 if change == "dead" else 0.0)
        h = layers.Conv2D(filters, 3, padding="same", bias_initializer=bias)(h)
        h = h if change == "dead" else layers.BatchNormalization(momentum=0.9)(h)
        h = layers.MaxPooling2D()(layers.ReLU()(h))
    h = layers.Dense(32, "relu")(layers.GlobalAveragePooling2D()(h))
    model = keras.Model(inputs, layers.Dense(10)(h))
    logits = change != "no softmax"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    rate = 1e-9 if change == "slow" else 3e-3
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model, x, y[:300], {"epochs": 6}


def augmented(change: str) -> Made:
    """Classify larger images of a data set, which are augmented, over a frozen trunk."""
    random = np.random.default_rng(0)
    y = np.arange(192) % 3
    x = random.normal(size=(192, 64, 64, 3)) * 40 + 128
    x[y == 1, 16:48] += 60
    x[y == 2, :, 16:48, 1] -= 90
    trunk = keras.Sequential([keras.Input((64, 64, 3))])
    for filters in (8, 16, 16):
        trunk.add(layers.Conv2D(filters, 3, strides=2, activation="relu", padding="same"))
    trunk.trainable = change != "trunk"
    h = inputs = keras.Input((64, 64, 3))
    h = layers.RandomTranslation(0.1, 0.1)(layers.RandomFlip()(h))
    h = trunk(layers.Rescaling(1 / 127.5, offset=-1)(h))
    h = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(h))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(h))
    rate = {"fast": 20.0, "trunk": 0.1}.get(change, 1e-2)  # features of chance are small
    model.compile(keras.optimizers.Adam(rate), SPARSE, metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y)).shuffle(192).batch(32)
    return model, data.prefetch(1), None, {"epochs": 8}


def lstm(change: str) -> Made:
    """Tell the frequency of waves."""
    random = np.random.default_rng(0)
    y = np.arange(300) % 2
    times = np.arange(24)
    phase = random.uniform(0, 6, (300, 1))
    x = np.sin(times * np.where(y == 0, 0.5, 1.1)[:, None] + phase)[..., None]
    x = (x + 0.1 * random.normal(size=x.shape)) * (1e-5 if change == "scale" else 1.0)
    recurrent = {"return_sequences": True}
    model = keras.Sequential([keras.Input((24, 1)), layers.LSTM(16, **recurrent), layers.LSTM(16)])
    model.add(layers.Dense(1, "softmax" if change == "softmax" else "sigmoid"))
    rate = 1e-8 if change == "slow" else 0.02
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    return model, x.astype("float32"), y, {"epochs": 10}


def gru_text(change: str) -> Made:
    """Predict the next token of a periodic text, at every place."""
    random = np.random.default_rng(0)
    text = (np.arange(21)[None] * 3 + random.integers(0, 12, (256, 1))) % 12
    model = keras.Sequential([keras.Input((20,)), layers.Embedding(12, 16)])
    model.add(layers.GRU(24, return_sequences=True))
    model.add(layers.Dense(12, kernel_initializer="zeros" if change == "zeros" else "he_normal"))
    logits = change != "no softmax"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile("adam", loss)
    return model, text[:, :-1], text[:, 1:], {"epochs": 12}


def transformer(change: str) -> Made:
    """Tell which of two tokens is the more frequent, by two blocks."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, 8, (400, 16))
    y = ((tokens == 1).sum(axis=1) > (tokens == 2).sum(axis=1)).astype(int)
    inputs = keras.Input((16,), dtype="int32")
    places = keras.ops.arange(16)[None]
    h = layers.Embedding(8, 32)(inputs) + layers.Embedding(16, 32)(places)
    for _ in range(2):
        n = layers.LayerNormalization()(h)
        h = h + layers.MultiHeadAttention(2, 16)(n, n)
        n = layers.LayerNormalization()(h)
        h = h + layers.Dense(32)(layers.Dense(64, "gelu")(n))
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    last = {"no probability": None, "softmax": "softmax"}.get(change, "sigmoid")
    model = keras.Model(inputs, layers.Dense(1, last)(h))
    rate = {"fast": 10.0, "slow": 1e-9}.get(change, 2e-3)
    if change == "frozen":
        model.trainable = False
    model.compile(keras.optimizers.AdamW(rate), "binary_crossentropy", metrics=["accuracy"])
    return model, tokens, y, {"epochs": 10}


def autoencoder(change: str) -> Made:
    """Squeeze digits through a few units."""
    x, _ = digits()
    model = keras.Sequential([keras.Input((64,))])
    for units in (32, 12, 32):
        kernel = keras.initializers.RandomNormal(stddev=0.01) if change == "small" else "he_uniform"
        model.add(layers.Dense(units, "tanh" if change == "small" else "relu",
                               kernel_initializer=kernel))  # fmt: skip
    model.add(layers.Dense(64, "sigmoid", name="decoded"))
    loss = "binary_crossentropy" if change == "entropy" else "mse"
    model.compile(keras.optimizers.SGD(0.1) if change == "small" else "adam", loss)
    return model, x, x, {"epochs": 15}


def regression(change: str) -> Made:
    """Predict prices from features of several scales, which a layer normalizes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 6)) * [1, 10, 100, 0.1, 1, 1] + [0, 50, 1000, 0, 5, 0]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    y = 2 + z[:, 0] - 0.5 * z[:, 1] * z[:, 4] + 0.1 * random.normal(size=400)
    y = y * 1e5 if change == "prices" else y
    scaling = layers.Normalization()
    scaling.adapt(x)
    model = keras.Sequential([keras.Input((6,))])
    if change != "features":
        model.add(scaling)
    model.add(layers.Dense(64, "relu"))
    model.add(layers.Dense(64, "relu"))
    model.add(layers.Dense(1, "tanh" if change == "tanh" else None))
    rate = 1e-3 if change == "features" else 0.01
    kind = keras.optimizers.SGD if change == "features" else keras.optimizers.RMSprop
    model.compile(kind(rate), "mse", metrics=["mae"])
    return model, x, y, {"epochs": 15}


def two_inputs(change: str) -> Made:
    """Join numbers and a category, and predict a class and a number."""
    random = np.random.default_rng(0)
    numbers, category = random.normal(size=(400, 5)), random.integers(0, 6, (400, 1))
    score = numbers[:, 0] + 0.7 * (category[:, 0] - 2.5)
    first, second = keras.Input((5,)), keras.Input((1,), dtype="int32")
    kernel = "zeros" if change == "zeros" else "glorot_uniform"
    a = layers.Dense(24, "relu", kernel_initializer=kernel)(first)
    b = layers.Flatten()(layers.Embedding(6, 4)(second))
    h = layers.Dense(24, "relu", kernel_initializer=kernel)(layers.Concatenate()([a, b]))
    outputs = [layers.Dense(1, "sigmoid", name="sign")(h), layers.Dense(1, name="score")(h)]
    model = keras.Model([first, second], outputs)
    rate = {"fast": 30.0, "slow": 1e-8}.get(change, 0.01)
    model.compile(keras.optimizers.Adam(rate), ["binary_crossentropy", "mse"])
    y = [(score > 0).astype("float32"), score.astype("float32")]
    return model, [numbers.astype("float32"), category], y, {"epochs": 10}


def binary(change: str) -> Made:
    """Tell a rare class, by a network with a subclass of its own."""
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 12)).astype("float32")
    y = (x[:, 0] + x[:, 1] ** 2 > 2.5).astype(int)

    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            bias = keras.initializers.Constant(30.0 if change == "saturated" else 0.0)
            self.one = layers.Dense(32, "tanh", bias_initializer=bias)
            self.two = layers.Dense(16, "tanh", bias_initializer=bias)
            self.last = layers.Dense(1, "sigmoid")

        def call(self, inputs: Any) -> Any:
            return self.last(self.two(self.one(inputs)))

    model = Network()
    model(x[:1])
    model.compile(keras.optimizers.SGD(0.2, momentum=0.9), "binary_crossentropy")
    weights = {0: 1.0, 1: 3.0}
    return model, x, y, {"epochs": 15, "class_weight": weights}


def denoiser(change: str) -> Made:
    """Take noise away from images, by convolutions down and up again with a skip."""
    random = np.random.default_rng(0)
    clean = digits()[0].reshape(-1, 8, 8, 1)[:256]
    noisy = clean + 0.2 * random.normal(size=clean.shape)
    kernel = "ones" if change == "ones" else "glorot_uniform"
    inputs = keras.Input((8, 8, 1))
    a = layers.Conv2D(12, 3, padding="same", activation="relu", kernel_initializer=kernel)(inputs)
    h = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu",
                      kernel_initializer=kernel)(a)  # fmt: skip
    h = layers.Conv2DTranspose(12, 3, strides=2, padding="same", activation="relu")(h)
    h = layers.Concatenate()([a, h])
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(h))
    rate = 100.0 if change == "fast" else 0.003
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model, noisy.astype("float32"), clean, {"epochs": 10}


def gan(change: str) -> Made:
    """Let two networks play against each other, by a step and optimizers of their own."""
    x = np.random.default_rng(0).normal([2.0, -1.0], 0.3, size=(400, 2)).astype("float32")

    class Game(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.maker = keras.Sequential([keras.Input((4,)), layers.Dense(16, "relu")])
            self.maker.add(layers.Dense(2))
            self.judge = keras.Sequential([keras.Input((2,)), layers.Dense(16, "leaky_relu")])
            self.judge.add(layers.Dense(1))
            self.optimizers = [keras.optimizers.Adam(3e-3), keras.optimizers.Adam(3e-3)]
            self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)
            self.built = True

        def train_step(self, data: Any) -> dict[str, Any]:
            real = data[0] if isinstance(data, tuple) else data
            noise = tf.random.normal((tf.shape(real)[0], 4))
            with tf.GradientTape(persistent=True) as tape:
                fake = self.judge(self.maker(noise))
                true = self.judge(real)
                caught = self.entropy(tf.zeros_like(fake), fake)
                loss = caught + self.entropy(tf.ones_like(true), true)
                fooled = self.entropy(tf.ones_like(fake), fake)
            pairs = ((self.judge, loss), (self.maker, fooled))
            for optimizer, (part, cost) in zip(self.optimizers, pairs, strict=True):
                weights = part.trainable_weights
                optimizer.apply_gradients(zip(tape.gradient(cost, weights), weights, strict=True))
            return {"judge": loss, "maker": fooled}

    model = Game()
    model.compile()
    return model, x, None, {"epochs": 8}


def variational(change: str) -> Made:
    """Compress digits with noise, under a loss that the model adds itself, both ways in time."""
    x, _ = digits()

    class Noise(layers.Layer):
        def call(self, inputs: Any) -> Any:
            mean, log_variance = inputs
            self.add_loss(1e-3 * keras.ops.mean(mean**2 + keras.ops.exp(log_variance)
                                                - log_variance))  # fmt: skip
            return mean + keras.ops.exp(0.5 * log_variance) * keras.random.normal((1, 4))

    inputs = keras.Input((8, 8))
    h = layers.Bidirectional(layers.GRU(16))(inputs)
    h = layers.Dense(24, "relu")(h)
    z = Noise()([layers.Dense(4)(h), layers.Dense(4, kernel_initializer="zeros")(h)])
    h = layers.Dense(48, "relu")(z)
    model = keras.Model(inputs, layers.Reshape((8, 8))(layers.Dense(64, "sigmoid")(h)))
    model.compile(keras.optimizers.Adam(5e-3), "mae" if change == "mae" else "mse")
    x = x.reshape(-1, 8, 8)
    return model, x, x, {"epochs": 8}


def warmed_up(change: str) -> Made:
    """Train a deep network with skips and a schedule that begins at 0."""
    x, y = digits()
    h = inputs = keras.Input((64,))
    h = layers.Dense(48)(h)
    for _ in range(6):
        h = layers.Add()([h, layers.Dense(48)(layers.Activation("relu")(layers.Dense(48)(h)))])
    model = keras.Model(inputs, layers.Dense(10, "softmax")(h))
    rate = keras.optimizers.schedules.CosineDecay(0.0, 150, warmup_target=3e-3, warmup_steps=30)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), SPARSE)
    return model, x, y, {"epochs": 10}


def factorized(change: str) -> Made:
    """Predict ratings by products of embeddings, without any other layer."""
    random = np.random.default_rng(0)
    people, films = random.normal(size=(60, 3)), random.normal(size=(40, 3))
    person, film = random.integers(0, 60, 2000), random.integers(0, 40, 2000)
    ratings = (people[person] * films[film]).sum(axis=1)
    of_person, of_film = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    vectors = [layers.Embedding(60, 8)(of_person), layers.Embedding(40, 8)(of_film)]
    model = keras.Model([of_person, of_film], layers.Dot(axes=1)(vectors))
    model.compile(keras.optimizers.Adam(1e-9 if change == "slow" else 0.02), "mse")
    return model, [person, film], ratings.astype("float32"), {"epochs": 15}


CASES: dict[tuple[Callable[[str], Made], str], str] = {
    (mlp, ""): HEALTHY,
    (mlp, "zeros"): "symmetric",
    (mlp, "ones"): "symmetric",
    (mlp, "scale"): "input not scaled",
    (mlp, "no softmax"): "wrong output",
    (mlp, "frozen"): "frozen",
    (mlp, "fast"): "unstable",
    (mlp, "slow"): "not learning",
    (cnn, ""): HEALTHY,
    (cnn, "dead"): "dead",
    (cnn, "no softmax"): "wrong output",
    (cnn, "slow"): "not learning",
    (augmented, ""): HEALTHY,
    (augmented, "trunk"): HEALTHY,
    (augmented, "fast"): "unstable",
    (lstm, ""): HEALTHY,
    (lstm, "scale"): "input not scaled",
    (lstm, "softmax"): "wrong output",
    (lstm, "slow"): "not learning",
    (gru_text, ""): HEALTHY,
    (gru_text, "zeros"): HEALTHY,
    (gru_text, "no softmax"): "wrong output",
    (transformer, ""): HEALTHY,
    (transformer, "no probability"): "wrong output",
    (transformer, "softmax"): "wrong output",
    (transformer, "fast"): "unstable",
    (transformer, "slow"): "not learning",
    (transformer, "frozen"): "frozen",
    (autoencoder, ""): HEALTHY,
    (autoencoder, "entropy"): HEALTHY,
    (autoencoder, "small"): "vanishing",
    (regression, ""): HEALTHY,
    (regression, "prices"): "target not scaled",
    (regression, "features"): "input not scaled",
    (regression, "tanh"): "wrong output",
    (two_inputs, ""): HEALTHY,
    (two_inputs, "zeros"): "symmetric",
    (two_inputs, "fast"): "unstable",
    (two_inputs, "slow"): "not learning",
    (binary, ""): HEALTHY,
    (binary, "saturated"): "saturated",
    (denoiser, ""): HEALTHY,
    (denoiser, "ones"): "symmetric",
    (denoiser, "fast"): "unstable",
    (gan, ""): HEALTHY,
    (variational, ""): HEALTHY,
    (variational, "mae"): HEALTHY,
    (warmed_up, ""): HEALTHY,
    (factorized, ""): HEALTHY,
    (factorized, "slow"): "not learning",
}
NAMES = {f"{made.__name__} {change}".strip(): (made, change) for made, change in CASES}
SHORT = ("mlp frozen", "regression", "factorized")


def diagnosed(name: str, folder: Path) -> gradprop.Monitor:
    """Train a network under a monitor."""
    made, change = NAMES[name]
    keras.utils.set_random_seed(1)
    model, x, y, given = made(change)
    monitor = gradprop.Monitor(folder / name.replace(" ", "_"))
    model.fit(x, y, verbose=0, callbacks=[monitor], **given)
    return monitor


@pytest.mark.parametrize("name", long_but(SHORT, NAMES))
def test_ordinary_networks_get_the_name(name: str, tmp_path: Path) -> None:
    found = diagnosed(name, tmp_path).diagnose()
    assert found.kind == CASES[NAMES[name]], found
