"""The programs that no rule was adapted to: other networks, data and training than the first ones.

They are written as people write them: Keras's own initializers, rates and batch sizes, dropout,
normalizations, skips, pooling, logits. Each has at most one fault, as in
`benchmarks.faults.programs`. All of them are held out, by the prefix of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.faults.programs import NONE
from gradprop.training.backend import keras

PREFIX = "new"
EXAMPLES = 400
ADAPTIVE = ("adam", "adamw", "adamax", "nadam", "rmsprop")


@dataclass(frozen=True)
class Architecture:
    """A network on a data set, and how it is trained; its healthy form trains.

    Attributes
    ----------
    data
        ``moons`` (two classes), ``rings`` (three), ``clusters`` (four), ``surface`` (regression),
        ``pair`` (regression, two outputs), ``digits`` (64 features), ``pixels`` (8 x 8 x 1),
        ``rows`` (8 steps of 8 channels) or ``ink`` (regression on 8 x 8 x 1).
    widths
        Units or filters of the hidden layers.
    activation, kernel
        Of the hidden layers; the initializer in Keras's words.
    optimizer, rate, batch, epochs
        Of the training.
    faults
        Faults that it can have.
    norm
        ``batch`` or ``layer``, before the activation; or nothing.
    skips
        Whether every hidden layer of equal width has a skip.
    dropout
        Rate after every hidden layer.
    pool
        Whether convolutions are followed by pooling.
    is_global
        Whether pooling over all places replaces flattening.
    logits
        Whether outputs are logits.
    """

    data: str
    widths: tuple[int, ...]
    activation: str
    kernel: str
    optimizer: str
    rate: float
    batch: int
    epochs: int
    faults: tuple[str, ...]
    norm: str = ""
    skips: bool = False
    dropout: float = 0.0
    pool: bool = False
    is_global: bool = False
    logits: bool = False


GLOROT, HE, NORMAL = "glorot_uniform", "he_normal", "random_normal"
SMALL, LARGE, BARE = "weights too small", "weights too large", "no normalization"
DEAD, FLAT, EQUAL, ZERO = "dead units", "saturated units", "constant weights", "zero weights"
FAST, SLOW = "learning rate too large", "learning rate too small"
BIG, TINY, FAR = "inputs too large", "inputs too small", "targets too large"
OUTPUT, FROZEN = "wrong output", "frozen layers"

A = Architecture
ARCHITECTURES: dict[str, Architecture] = {
    "moons": A(
        "moons", (24, 12), "relu", GLOROT, "adam", 0.01, 32, 16, (DEAD, FAST, SLOW, OUTPUT, FROZEN)
    ),
    "moons_sigmoid": A(
        "moons", (32,), "sigmoid", GLOROT, "nadam", 0.05, 50, 20, (FLAT, TINY, OUTPUT), logits=True
    ),
    "rings": A(
        "rings", (40, 40, 20), "tanh", GLOROT, "rmsprop", 0.003, 25, 16, (FLAT, ZERO, TINY, OUTPUT)
    ),
    "clusters_elu": A(
        "clusters", (64, 32, 16), "elu", GLOROT, "adam", 0.003, 40, 14, (EQUAL, SLOW)
    ),
    "clusters_deep": A(
        "clusters", (36,) * 7, "relu", HE, "momentum", 0.01, 20, 14, (SMALL, LARGE, DEAD, FAST, BIG)
    ),
    "clusters_selu": A(
        "clusters", (30,) * 5, "selu", "lecun_normal", "adamax", 0.01, 32, 14,
        (LARGE, ZERO, FAST, FROZEN),
    ),
    "digits_dropout": A(
        "digits", (128, 64), "relu", GLOROT, "adam", 0.002, 32, 14,
        (DEAD, EQUAL, SLOW, TINY), dropout=0.2,
    ),
    "digits_tanh": A(
        "digits", (40,) * 6, "tanh", "glorot_normal", "momentum", 0.02, 25, 16,
        (FLAT, SMALL, LARGE, ZERO, SLOW, BIG),
    ),
    "digits_transformer_like": A(
        "digits", (40,) * 4, "gelu", GLOROT, "adamw", 0.003, 50, 16, (FAST, SLOW, FROZEN),
        norm="layer", skips=True,
    ),
    "digits_normalized": A(
        "digits", (32,) * 9, "relu", NORMAL, "momentum", 0.02, 32, 16, (BARE, FROZEN), norm="batch"
    ),
    "digits_normalized_tanh": A(
        "digits", (44,) * 6, "tanh", NORMAL, "sgd", 0.1, 25, 16, (BARE, SLOW), norm="batch"
    ),
    "clusters_normalized": A(
        "clusters", (28,) * 7, "sigmoid", GLOROT, "adam", 0.003, 40, 20, (BARE,),
        norm="batch",
    ),
    "surface_swish": A(
        "surface", (64,) * 3, "swish", GLOROT, "adam", 0.005, 32, 20, (FAR, FAST, BIG, OUTPUT)
    ),
    "surface_tanh": A(
        "surface", (24, 24), "tanh", GLOROT, "rmsprop", 0.005, 20, 20, (FAR, FLAT, SLOW, TINY)
    ),
    "surface_leaky": A(
        "surface", (32,) * 5, "leaky_relu", HE, "nadam", 0.002, 40, 20, (FAR, LARGE, EQUAL, FROZEN)
    ),
    "surface_normalized": A(
        "surface", (30,) * 8, "tanh", NORMAL, "momentum", 0.01, 25, 20, (BARE, FAR), norm="batch"
    ),
    "pair_relu": A(
        "pair", (40,) * 4, "relu", HE, "adam", 0.003, 32, 16, (FAR, DEAD, ZERO, OUTPUT)
    ),
    "pair_skips": A(
        "pair", (32,) * 4, "elu", GLOROT, "adam", 0.003, 25, 16, (FAR, FAST, FROZEN, BIG),
        skips=True,
    ),
    "pixels_plain": A(
        "pixels", (16, 32), "relu", GLOROT, "adam", 0.005, 40, 14, (DEAD, FAST, SLOW, OUTPUT),
        pool=True, logits=True,
    ),
    "pixels_normalized": A(
        "pixels", (12, 16, 24), "relu", GLOROT, "momentum", 0.05, 32, 16, (FROZEN, SLOW),
        norm="batch", is_global=True,
    ),
    "pixels_residual": A(
        "pixels", (12,) * 5, "relu", HE, "adam", 0.005, 40, 14, (FROZEN,), norm="batch",
        skips=True, is_global=True,
    ),
    "pixels_deep": A(
        "pixels", (12,) * 6, "relu", HE, "momentum", 0.01, 25, 14, (SMALL, LARGE, DEAD, ZERO, BIG)
    ),
    "pixels_tanh": A(
        "pixels", (10,) * 5, "tanh", GLOROT, "adam", 0.002, 40, 14, (SMALL, LARGE, FLAT, EQUAL)
    ),
    "pixels_sigmoid": A(
        "pixels", (12,) * 6, "sigmoid", GLOROT, "momentum", 0.05, 25, 16, (BARE,), norm="batch"
    ),
    "rows_elu": A(
        "rows", (24, 24), "elu", GLOROT, "rmsprop", 0.003, 32, 14, (ZERO, EQUAL, TINY, OUTPUT),
        dropout=0.1,
    ),
    "rows_deep": A(
        "rows", (20,) * 5, "tanh", GLOROT, "momentum", 0.02, 25, 16, (SMALL, FLAT, BIG, EQUAL)
    ),
    "ink": A(
        "ink", (12, 24), "relu", GLOROT, "adam", 0.003, 40, 16, (FAR, FAST, TINY, OUTPUT), pool=True
    ),
    "surface_deep": A(
        "surface", (28,) * 8, "relu", HE, "momentum", 0.01, 32, 20, (SMALL, LARGE, DEAD, EQUAL)
    ),
}  # fmt: skip
REGRESSION = ("surface", "pair", "ink")
CLASSES = {"moons": 1, "rings": 3, "clusters": 4, "digits": 10, "pixels": 10, "rows": 10}


@dataclass(frozen=True)
class HeldOut:
    """One program that is held out.

    Attributes
    ----------
    base
        A key of `ARCHITECTURES`.
    fault
        A key of `benchmarks.faults.programs.FAULTS`, or ``none``.
    seed
        Of the weights and the order of examples.
    """

    base: str
    fault: str = NONE
    seed: int = 0
    architecture: Architecture = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", ARCHITECTURES[self.base])

    @property
    def name(self) -> str:
        """Its name, from all that makes it."""
        return f"{PREFIX}-{self.base}-{self.fault.replace(' ', '_')}-{self.seed}"

    @property
    def is_held_out(self) -> bool:
        """Whether no rule is adapted to it."""
        return self.name.startswith(PREFIX)

    @property
    def mended(self) -> HeldOut:
        """The same program without its fault."""
        return replace(self, fault=NONE)

    @property
    def batch(self) -> int:
        """Examples of a minibatch."""
        return self.architecture.batch

    @property
    def epochs(self) -> int:
        """Epochs of the training."""
        return self.architecture.epochs

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return inputs and targets, which are scaled unless that is the fault."""
        x, y = _data(self.architecture.data)
        # Large ones are those of another unit with an offset, as of a temperature in kelvin.
        x = {BIG: lambda v: 400.0 * v + 250.0, TINY: lambda v: v * 5e-4}.get(self.fault, _same)(x)
        if self.architecture.data in REGRESSION:
            y = (y * 1e6 + 3e6 if self.fault == FAR else y).astype("float32")
        return x.astype("float32"), y

    def model(self) -> Any:
        """Return the compiled model."""
        keras.utils.set_random_seed(100 + self.seed)
        inputs = keras.Input(self.arrays()[0].shape[1:])
        outputs = _outputs(self, _hidden(self, inputs))
        model = keras.Model(inputs, outputs)
        if self.fault == FROZEN:
            # of deep networks all but the first
            for layer in model.layers[2 if len(self.architecture.widths) > 5 else 0 :]:
                layer.trainable = False
        a = self.architecture
        if a.data in REGRESSION:
            model.compile(_optimizer(self), "mse")
            return model
        kinds = keras.losses.BinaryCrossentropy, keras.losses.SparseCategoricalCrossentropy
        kind = kinds[CLASSES[a.data] > 1]
        model.compile(_optimizer(self), kind(from_logits=a.logits), metrics=["accuracy"])
        return model


def grid(sets: Sequence[str] | None = None) -> list[HeldOut]:
    """Return all programs; of every architecture two healthy ones, and one with each fault."""
    programs = []
    for base, a in ARCHITECTURES.items():
        if sets is None or a.data in sets:
            programs += [HeldOut(base, seed=seed) for seed in (0, 1)]
            programs += [HeldOut(base, fault) for fault in a.faults]
    return programs


def _same(values: Any) -> Any:
    return values


@cache
def _data(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(7)
    n = EXAMPLES
    y: NDArray[Any]
    if name == "moons":
        y, angle = np.arange(n) % 2, random.uniform(0, np.pi, n)
        x = np.stack([np.cos(angle) + y, np.sin(angle) * (1 - 2 * y) + 0.4 * y], axis=1)
        x += 0.1 * random.normal(size=x.shape)
    elif name == "rings":
        y, angle = np.arange(n) % 3, random.uniform(0, 2 * np.pi, n)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.4 + y)[:, None]
        x += 0.12 * random.normal(size=x.shape)
    elif name == "clusters":  # two clusters a class
        y = np.arange(n) % 4
        centres = 1.3 * random.normal(size=(2, 4, 12))
        x = centres[random.integers(0, 2, n), y] + random.normal(size=(n, 12))
    elif name == "surface":  # Friedman 1991, of which five features matter
        x = random.uniform(size=(n, 10))
        y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
        y += 10 * x[:, 3] + 5 * x[:, 4]
    elif name == "pair":
        x = random.normal(size=(n, 6))
        y = np.stack([x[:, 0] * x[:, 1] + x[:, 2], np.abs(x[:, 3]) - x[:, 4]], axis=1)
    else:
        images, y = load_digits(return_X_y=True)
        x, y = images[-n:] / 16.0, y[-n:]
        shape = {"pixels": (n, 8, 8, 1), "rows": (n, 8, 8), "ink": (n, 8, 8, 1)}.get(name, (n, 64))
        if name == "ink":  # how far right the ink lies, and how much of it there is
            columns = x.reshape(n, 8, 8).sum(axis=1)
            y = columns @ np.arange(8) / columns.sum(axis=1) + 0.1 * columns.sum(axis=1)
        return x.reshape(shape), (y - y.mean()) / y.std() if name == "ink" else y
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    if name in REGRESSION:
        y = (y - y.mean(axis=0)) / y.std(axis=0)
    return x, y


def _kernel(program: HeldOut) -> Any:
    """Return the initializer of a kernel; every layer has its own, so that they differ."""
    kinds: dict[str, Callable[[], Any]] = {
        EQUAL: lambda: keras.initializers.Constant(0.1),
        ZERO: keras.initializers.Zeros,
        SMALL: lambda: keras.initializers.RandomNormal(stddev=0.01),
        LARGE: lambda: keras.initializers.RandomNormal(stddev=1.0),
    }
    made = kinds.get(program.fault)
    return made() if made else keras.initializers.get(program.architecture.kernel)


def _hidden(program: HeldOut, h: Any) -> Any:
    a, layers = program.architecture, keras.layers
    bias = {DEAD: -20.0, FLAT: 10.0}.get(program.fault, 0.0)
    for number, width in enumerate(a.widths):
        arguments = {
            "kernel_initializer": _kernel(program),
            "bias_initializer": keras.initializers.Constant(bias),
            "use_bias": a.norm != "batch" or program.fault == BARE,
        }
        before = h
        if a.data in ("pixels", "ink"):
            h = layers.Conv2D(width, 3, padding="same", **arguments)(h)
        elif a.data == "rows":
            h = layers.Conv1D(width, 3, padding="same", **arguments)(h)
        else:
            h = layers.Dense(width, **arguments)(h)
        if a.norm and program.fault != BARE:
            kinds = {
                "batch": lambda: layers.BatchNormalization(momentum=0.9),
                "layer": layers.LayerNormalization,
            }
            h = kinds[a.norm]()(h)
        h = layers.Activation(a.activation)(h)
        if a.skips and before.shape == h.shape:
            h = layers.Add()([before, h])
        if a.pool and number == 0:
            h = layers.MaxPooling2D()(h)
        if a.dropout:
            h = layers.Dropout(a.dropout, seed=number)(h)
    if a.is_global:
        return layers.GlobalAveragePooling2D()(h)
    return layers.Flatten()(h) if len(h.shape) > 2 else h


def _outputs(program: HeldOut, h: Any) -> Any:
    """Apply the output layer: of a wrong one the loss cannot become small."""
    a, wrong = program.architecture, program.fault == OUTPUT
    units = {"pair": 2}.get(a.data, CLASSES.get(a.data, 1))
    if a.data in REGRESSION:
        function = "softmax" if wrong else "linear"
    elif units == 1:
        function = "softmax" if wrong else ("linear" if a.logits else "sigmoid")
    else:
        right = "linear" if a.logits else "softmax"
        # what is said to be logits, and is not negative; or to be probabilities, and is not
        function = ("relu" if a.logits else "linear") if wrong else right
    return keras.layers.Dense(units, function, kernel_initializer=_kernel(program))(h)


def _optimizer(program: HeldOut) -> Any:
    a, kinds = program.architecture, keras.optimizers
    factor = {FAST: 1000.0 if a.optimizer in ADAPTIVE else 300.0, SLOW: 1e-5}
    rate = a.rate * factor.get(program.fault, 1.0)
    made: dict[str, Callable[[], Any]] = {
        "sgd": lambda: kinds.SGD(rate),
        "momentum": lambda: kinds.SGD(rate, momentum=0.9, nesterov=True),
        "adam": lambda: kinds.Adam(rate),
        "adamw": lambda: kinds.AdamW(rate),
        "adamax": lambda: kinds.Adamax(rate),
        "nadam": lambda: kinds.Nadam(rate),
        "rmsprop": lambda: kinds.RMSprop(rate),
    }
    return made[a.optimizer]()
