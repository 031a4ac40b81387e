"""Small Keras programs with at most one fault, which rules may be adapted to.

A program is an architecture on a data set, whose healthy form trains, and the one change that is
its fault. What of it is a label is said by its training (`benchmarks.faults.running`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from gradprop.training.backend import keras

EXAMPLES, BATCH, EPOCHS, WIDTH, FILTERS = 384, 64, 22, 48, 10
DATA = ("blobs", "waves", "digits", "images")
NONE = "none"
#: Of every fault the findings that name it. Weights that are too large explode, or saturate a
#: bounded function; both are what they do.
FAULTS: dict[str, frozenset[str]] = {
    "weights too small": frozenset({"vanishing"}),
    "weights too large": frozenset({"exploding", "saturated"}),
    "no normalization": frozenset({"vanishing"}),
    "dead units": frozenset({"dead"}),
    "saturated units": frozenset({"saturated"}),
    "constant weights": frozenset({"symmetric"}),
    "zero weights": frozenset({"symmetric"}),
    "learning rate too large": frozenset({"unstable"}),
    "learning rate too small": frozenset({"not learning"}),
    "inputs too large": frozenset({"input not scaled"}),
    "inputs too small": frozenset({"input not scaled"}),
    "targets too large": frozenset({"target not scaled"}),
    "wrong output": frozenset({"wrong output"}),
    "frozen layers": frozenset({"frozen", "not learning"}),
}
#: Initializer of kernels that keeps signals alive without a normalization.
GAINS = {"relu": 2.0, "tanh": 1.0, "selu": 1.0, "sigmoid": 1.0}
RATES = {"sgd": 0.05, "adam": 0.003}


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes
    ----------
    data
        ``blobs`` (five classes, 20 features), ``waves`` (regression, 8 features), ``digits`` (64
        features) or ``images`` (the same as 8 x 8 pixels, for a convolutional network).
    depth, activation, normalized
        Hidden layers, their function, and whether a batch normalization follows each of them.
    optimizer
        ``sgd`` or ``adam``.
    fault
        A key of `FAULTS`, or ``none``.
    seed
        Of the weights and the order of examples.
    """

    data: str
    depth: int
    activation: str
    normalized: bool
    optimizer: str
    fault: str = NONE
    seed: int = 0

    @property
    def name(self) -> str:
        """Its name, from all that makes it."""
        return "-".join(str(part).replace(" ", "_") for part in astuple(self))

    @property
    def is_held_out(self) -> bool:
        """Whether no threshold is chosen by it: of these programs all are for tuning."""
        return False

    @property
    def mended(self) -> Program:
        """The same program without its fault."""
        return replace(self, fault=NONE)

    @property
    def batch(self) -> int:
        """Examples of a minibatch."""
        return BATCH

    @property
    def epochs(self) -> int:
        """Epochs of the training."""
        return EPOCHS

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return inputs and targets, which are scaled unless that is the fault."""
        return data_of(self)

    def model(self) -> Any:
        """Return the compiled model."""
        return build(self)


def grid(sets: Sequence[str] = DATA) -> list[Program]:
    """Return all programs: every architecture healthy and with each fault that it can have."""
    programs: dict[Program, None] = {}
    for number, base in enumerate(_architectures()):
        if base.data not in sets:
            continue
        seeds = (0, 1) if number % 2 else (0,)
        programs |= dict.fromkeys(replace(base, seed=seed) for seed in seeds)
        programs |= dict.fromkeys(replace(base, fault=fault) for fault in _faults(base))
    return list(programs)


def _architectures() -> Iterator[Program]:
    for data in DATA:
        yield Program(data, 1, "sigmoid", False, "adam")
        for depth in (2, 4 if data == "images" else 6):
            for activation in ("relu", "tanh"):
                optimizer = "sgd" if (depth == 2) == (activation == "relu") else "adam"
                yield Program(data, depth, activation, False, optimizer)
        if data in ("waves", "digits"):
            yield Program(data, 4, "selu", False, "sgd")
        yield Program(data, 8, "sigmoid", True, "sgd")


def _faults(base: Program) -> Iterator[str]:
    """Yield the faults that an architecture can have."""
    if base.normalized:
        yield "no normalization"
        yield "frozen layers"
        return
    if base.depth >= 4:
        yield "weights too small"
        yield "weights too large"
    if base.activation == "relu":
        yield "dead units"
    if base.activation in ("tanh", "sigmoid"):
        yield "saturated units"
    yield "constant weights" if base.depth < 4 else "zero weights"
    if base.activation != "selu":
        yield "learning rate too large"
    if base.depth == 2:
        yield "learning rate too small"
    yield "inputs too large" if base.optimizer == "sgd" else "inputs too small"
    yield "wrong output"
    if base.data == "waves":
        yield "targets too large"


def data_of(program: Program) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return inputs and targets, which are scaled unless that is the fault."""
    random = np.random.default_rng(20)
    y: NDArray[Any]
    if program.data == "blobs":
        y = random.integers(0, 5, EXAMPLES)
        x = (random.normal(size=(5, 20)) * 1.2)[y] + random.normal(size=(EXAMPLES, 20))
    elif program.data == "waves":
        x = random.normal(size=(EXAMPLES, 8))
        y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * (x[:, 2] > 0) + 0.5 * np.tanh(x[:, 3])
        y = (y - y.mean()) / y.std()
    else:
        images, y = load_digits(return_X_y=True)
        x, y = images[:EXAMPLES], y[:EXAMPLES]
    x = (x - x.mean()) / x.std()
    x = x * {"inputs too large": 300.0, "inputs too small": 1e-3}.get(program.fault, 1.0)
    if program.data == "waves":
        y = (y * (3000.0 if program.fault == "targets too large" else 1.0)).astype("float32")
    shape = (-1, 8, 8, 1) if program.data == "images" else (EXAMPLES, x.shape[1])
    return x.astype("float32").reshape(shape), y


def build(program: Program) -> Any:
    """Return the compiled model."""
    keras.utils.set_random_seed(program.seed)
    frozen = program.fault == "frozen layers"
    width = FILTERS if program.data == "images" else WIDTH
    layers: list[Any] = [keras.Input(data_of(program)[0].shape[1:])]
    for _ in range(program.depth):
        layers += _hidden(program, width)
    if program.data == "images":
        layers.append(keras.layers.Flatten())
    layers.append(_output(program))
    model = keras.Sequential(layers)
    if frozen:
        for layer in model.layers[1:]:
            layer.trainable = False
    rate = RATES[program.optimizer]
    rate *= {"learning rate too large": 300.0, "learning rate too small": 1e-5}.get(
        program.fault, 1.0
    )
    kind = keras.optimizers.SGD if program.optimizer == "sgd" else keras.optimizers.Adam
    is_regression = program.data == "waves"
    loss = "mean_squared_error" if is_regression else "sparse_categorical_crossentropy"
    metrics = [] if is_regression else ["accuracy"]
    model.compile(kind(rate), loss, metrics=metrics)
    return model


def _hidden(program: Program, width: int) -> list[Any]:
    """Return one hidden layer, with its normalization if it has one."""
    bias = {"dead units": -30.0, "saturated units": 12.0}.get(program.fault, 0.0)
    arguments = {
        "activation": program.activation,
        "kernel_initializer": _kernel(program, GAINS[program.activation]),
        "bias_initializer": keras.initializers.Constant(bias),
    }
    if program.data == "images":
        hidden = keras.layers.Conv2D(width, 3, padding="same", **arguments)
    else:
        hidden = keras.layers.Dense(width, **arguments)
    if program.normalized and program.fault != "no normalization":
        return [hidden, keras.layers.BatchNormalization(momentum=0.9)]
    return [hidden]


def _kernel(program: Program, gain: float) -> Any:
    """Return the initializer of a kernel; every layer has its own, so that they differ."""
    if program.fault == "constant weights":
        return keras.initializers.Constant(0.05)
    if program.fault == "zero weights":
        return "zeros"
    factor = {"weights too small": 0.1, "weights too large": 6.0}.get(program.fault, 1.0)
    return keras.initializers.VarianceScaling(gain * factor**2, "fan_in", "untruncated_normal")


def _output(program: Program) -> Any:
    """Return the output layer: of a wrong one the loss cannot become small."""
    wrong = program.fault == "wrong output"
    if program.data == "waves":
        units, activation = 1, "softmax" if wrong else "linear"
    else:
        units, activation = {"blobs": 5}.get(program.data, 10), "relu" if wrong else "softmax"
    return keras.layers.Dense(units, activation, kernel_initializer=_kernel(program, 1.0))
