"""Trainings by `model.fit` with and without the monitor, and with what is recommended instead."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradprop import Monitor
from gradprop.monitor import schedules

L = keras.layers
Network = tuple[keras.Model, Any, Any]
MINIBATCH = 64
BATCHES = 50  # minibatches of an epoch


def mlp() -> Network:
    """Return 20 dense layers, 19 of them of 64 units, for 64 inputs; and its data."""
    hidden = [L.Dense(64, "tanh") for _ in range(19)]
    model = keras.Sequential([keras.Input((64,)), *hidden, L.Dense(10, "softmax")])
    return _compiled(model, keras.optimizers.SGD(0.01), _draws().normal(size=(_count(), 64)))


def cnn() -> Network:
    """Return three convolutions of 16, 32 and 32 channels and a dense layer, for 32 x 32 x 3."""
    parts: list[Any] = [keras.Input((32, 32, 3))]
    for channels in (16, 32):
        parts += [L.Conv2D(channels, 3, padding="same", activation="relu"), L.MaxPooling2D()]
    parts += [L.Conv2D(32, 3, padding="same", activation="relu"), L.GlobalAveragePooling2D()]
    model = keras.Sequential([*parts, L.Dense(10, "softmax")])
    images = _draws().normal(size=(_count(), 32, 32, 3))
    return _compiled(model, keras.optimizers.Adam(1e-3), images)


def transformer() -> Network:
    """Return two blocks of attention (four heads of 8) and 64 relu units, for 32 tokens."""
    tokens = keras.Input((32,))
    h = L.Embedding(100, 32)(tokens)
    for _ in range(2):
        normal = L.LayerNormalization()(h)
        h = L.Add()([h, L.MultiHeadAttention(4, 8)(normal, normal)])
        inner = L.Dense(64, "relu")(L.LayerNormalization()(h))
        h = L.Add()([h, L.Dense(32)(inner)])
    outputs = L.Dense(10, "softmax")(L.GlobalAveragePooling1D()(h))
    model = keras.Model(tokens, outputs)
    examples = _draws().integers(0, 100, size=(_count(), 32))
    return _compiled(model, keras.optimizers.Adam(1e-3), examples)


NETWORKS: dict[str, Callable[[], Network]] = {"mlp": mlp, "cnn": cnn, "transformer": transformer}


def _draws() -> np.random.Generator:
    return np.random.default_rng(0)


def _count() -> int:
    return BATCHES * MINIBATCH


def _compiled(model: keras.Model, optimizer: Any, x: Any) -> Network:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    y = np.random.default_rng(1).integers(0, 10, len(x))
    return model, x.astype(np.float32), y


class EagerGradients(keras.callbacks.Callback):
    """The recipe of the web: gradients of a held minibatch by a tape, outside of the step.

    It knows the norm of dC/dW and of dC/db of every layer, not of the minibatch that is trained on,
    and nothing of signals, activations and updates.
    """

    def __init__(self, x: Any, y: Any, is_due: Callable[[int], bool]) -> None:
        super().__init__()
        self.x, self.y, self.is_due = tf.constant(x), tf.constant(y), is_due
        self.step = 0
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the norms at the steps that are due."""
        if self.is_due(self.step):
            with tf.GradientTape() as tape:
                outputs = self.model(self.x, training=True)
                loss = self.model.compute_loss(y=self.y, y_pred=outputs)
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.rows.append([float(tf.norm(tf.convert_to_tensor(g))) for g in gradients])
        self.step += 1


class Clock(keras.callbacks.Callback):
    """Notes the CPU time before every step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Note the time."""
        self.times.append(time.process_time())

    def on_train_end(self, logs: Any = None) -> None:
        """Note the time after the last step."""
        self.times.append(time.process_time())


def measure(network: str, steps: int, rounds: int, repetition: int) -> dict[str, Any]:
    """Train a network in all ways.

    Parameters
    ----------
    network
        One of `NETWORKS`.
    steps
        Of every whole training; a multiple of `BATCHES`.
    rounds
        Of an epoch without and an epoch with a monitor that has nothing to look at, by turns.
    repetition
        Decides which way is the first.

    Returns
    -------
    dict
        ``seconds``, CPU seconds of all steps of a ``fit``, tracing included, by the way of
        training; ``added``, how many more the probed steps alone take than the same steps of the
        plain training, which other load disturbs less;
        ``idle``, medians of the CPU seconds of a step without and with a monitor that is not due,
        of every round; ``hooks``, CPU seconds of the monitor's own code in such a step;
        ``probes``, how many the default schedule has.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ways = ["plain", "default", "eager"]
    turn = repetition % len(ways)
    clocks, due = {}, [0]
    _fit(NETWORKS[network](), [], 1)  # what TensorFlow does once in a process
    with tempfile.TemporaryDirectory() as folder:
        for way in ways[turn:] + ways[:turn]:
            made = NETWORKS[network]()
            monitor = Monitor(Path(folder) / way)
            callbacks = {"plain": [], "default": [monitor], "eager": [_eager(made, steps)]}[way]
            clocks[way] = Clock()
            _fit(made, [clocks[way], *callbacks], steps // BATCHES)
            if way == "default":
                due = list(monitor.steps["step"])
        idle, hooks = _idle(NETWORKS[network](), Path(folder) / "idle", rounds)
    each = {way: np.diff(clock.times) for way, clock in clocks.items()}
    return {
        "seconds": {way: float(np.sum(times)) for way, times in each.items()},
        "added": {
            way: float(np.sum(times[due] - each["plain"][due])) for way, times in each.items()
        },
        "idle": idle,
        "hooks": hooks,
        "probes": len(due),
    }


def _eager(made: Network, steps: int) -> EagerGradients:
    """Return the recipe for the steps of the default schedule."""
    _, x, y = made

    def is_due(step: int) -> bool:
        return schedules.log_spaced(schedules.Moment(step, is_last=step == steps - 1))

    return EagerGradients(x[:MINIBATCH], y[:MINIBATCH], is_due)


def _fit(made: Network, callbacks: list[Any], epochs: int) -> None:
    model, x, y = made
    model.fit(x, y, batch_size=MINIBATCH, epochs=epochs, verbose=0, callbacks=callbacks)


def _idle(made: Network, folder: Path, rounds: int) -> tuple[list[tuple[float, float]], float]:
    """Measure steps without and with a monitor that is never due, and the monitor's own code."""
    monitor = Monitor(folder, schedule=lambda step: False)
    _fit(made, [], 1)
    found = []
    for _ in range(rounds):
        clocks = Clock(), Clock()
        for clock, callbacks in zip(clocks, ([], [monitor]), strict=True):
            _fit(made, [clock, *callbacks], 1)
        without, with_it = (float(np.median(np.diff(clock.times))) for clock in clocks)
        found.append((without, with_it))
    calls, logs = 2000, {"accuracy": 0.1, "loss": 1.0}
    start = time.process_time()
    for _ in range(calls):
        monitor.on_train_batch_begin(1)
        monitor.on_train_batch_end(1, logs)
    return found, (time.process_time() - start) / calls
