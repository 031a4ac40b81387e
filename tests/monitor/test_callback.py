"""The monitor: it changes nothing, can be removed, and keeps what it recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradprop import Monitor
from gradprop.errors import GradpropError
from tests.long import long_but
from tests.monitor.networks import data, fitted, mlp, same

optimizers = keras.optimizers
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.Adam(0.01, global_clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "weight_decay": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "accumulation": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
    "loss_scale_factor": lambda: optimizers.SGD(0.1, loss_scale_factor=1024.0),
}


@pytest.mark.parametrize("optimizer", long_but(["adam", "weight_decay", "sgd"], OPTIMIZERS))
def test_the_weights_are_those_of_a_training_without_it(optimizer: str, tmp_path: Path) -> None:
    plain = fitted(mlp(optimizer=OPTIMIZERS[optimizer]()), [])
    monitor = Monitor(tmp_path / "run", schedule=2)
    watched = fitted(mlp(optimizer=OPTIMIZERS[optimizer]()), [monitor])
    assert same(plain, watched)
    assert list(monitor.steps["step"]) == [0, 2, 4, 6, 8, 10]
    assert monitor.steps["exact"].all()


PROGRAM = """
import sys, pathlib
from tests.monitor.networks import fitted, mlp, same
from gradprop import Monitor
for name in ("relu", "tanh"):
    plain = fitted(mlp(name, optimizer="adam"), [])
    watched = fitted(mlp(name, optimizer="adam"), [Monitor(pathlib.Path(sys.argv[1], name), 2)])
    print(same(plain, watched))
"""


def test_it_changes_nothing_in_a_process_that_fixes_nothing(tmp_path: Path) -> None:
    # With oneDNN and with Grappler's fused operations, as TensorFlow is by itself.
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]


def test_updates_are_what_the_optimizer_made_of_the_weights(tmp_path: Path) -> None:
    model = mlp(optimizer=optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.1))
    before = [np.array(layer.kernel.numpy()) for layer in model.layers if hasattr(layer, "kernel")]
    monitor = Monitor(tmp_path / "run", schedule=1)
    x, y = data()
    model.fit(x[:32], y[:32], verbose=0, callbacks=[monitor])
    after = [np.array(layer.kernel.numpy()) for layer in model.layers if hasattr(layer, "kernel")]
    expected = [
        np.log10(np.linalg.norm(b.astype(float) - a) / np.linalg.norm(a.astype(float)))
        for a, b in zip(before, after, strict=True)
    ]
    np.testing.assert_allclose(monitor.layers["log10_update_ratio"], expected, rtol=1e-6)


def test_the_model_is_as_before(tmp_path: Path) -> None:
    model, plain = mlp(), mlp()
    for one in (model, plain):
        one.make_train_function()
    before = model.train_function
    attributes = [set(vars(part)) for part in (*model._flatten_layers(), model.optimizer)]
    fitted(model, [Monitor(tmp_path / "run", schedule=1)])
    fitted(plain, [])
    expected = [set(vars(part)) for part in (*plain._flatten_layers(), plain.optimizer)]
    assert model.train_function is before
    assert [set(vars(p)) for p in (*model._flatten_layers(), model.optimizer)] == expected
    assert len(attributes) == len(expected)


class Failing(keras.callbacks.Callback):
    """Ends a training by an error."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == 2:
            raise KeyboardInterrupt


def test_the_model_is_as_before_after_an_error(tmp_path: Path) -> None:
    model = mlp()
    monitor = Monitor(tmp_path / "run", schedule=1)
    with pytest.raises(KeyboardInterrupt):
        fitted(model, [monitor, Failing()])
    assert "of_monitor" not in vars(model.train_function)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    assert "apply" not in vars(model.optimizer)
    assert list(monitor.steps["step"]) == [0, 1, 2]
    assert list(monitor.cells["status"]) == ["running"]


KILLED = """
import os, signal, sys
import keras
from tests.monitor.networks import fitted, mlp
from gradprop import Monitor
class Kill(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            os.kill(os.getpid(), signal.SIGKILL)
fitted(mlp(), [Monitor(sys.argv[1], 1), Kill()])
"""


def test_a_killed_run_keeps_what_was_recorded(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run"], capture_output=True)
    assert done.returncode < 0
    assert list(pd.read_parquet(tmp_path / "run" / "steps")["step"]) == [0, 1, 2]
    assert len(pd.read_parquet(tmp_path / "run" / "layers")) == 3 * 4


def test_a_resumed_training_goes_on_with_its_steps(tmp_path: Path) -> None:
    model = mlp(optimizer="adam")
    fitted(model, [Monitor(tmp_path / "run", "epochs")], epochs=2)
    monitor = Monitor(tmp_path / "run", "epochs", resume=True)
    fitted(model, [monitor], initial_epoch=2, epochs=4)
    assert list(monitor.steps["step"]) == [0, 4, 8, 12]
    assert list(monitor.steps["epoch"]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ("log", [0, 1, 2, 3, 4, 5, 6, 8, 10, 11]),
        (5, [0, 5, 10]),
        ("epochs", [0, 4, 8]),
        (lambda step: step in (7, 9), [7, 9]),
    ],
)
def test_schedules(schedule: Any, steps: list[int], tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "run", schedule, statistics="cheap")
    fitted(mlp(), [monitor])
    assert list(monitor.steps["step"]) == steps


def test_where_numbers_became_infinite(tmp_path: Path) -> None:
    model = mlp("relu", optimizer=optimizers.SGD(0.1))
    model.layers[1].kernel.assign(np.full((11, 11), 1e38, dtype=np.float32))
    monitor = Monitor(tmp_path / "run", schedule=1)
    fitted(model, [monitor], epochs=1)
    (cell,) = monitor.cells.itertuples()
    assert (cell.status, cell.first_bad_step, cell.first_bad_layer) == ("diverged", 0, 2)
    assert cell.first_bad_direction == "forward"


def test_where_gradients_became_infinite(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(11, use_bias=False) for _ in range(3)]
    model = keras.Sequential([keras.Input((7,)), *hidden, keras.layers.Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    small, large = np.full((7, 11), 1e-30), np.full((11, 11), 1e25)
    for layer, kernel in zip(model.layers, (small, large, large * 1e-20), strict=False):
        layer.kernel.assign(kernel)
    x, _ = data()
    monitor = Monitor(tmp_path / "run", schedule=1)
    model.fit(x[:32], np.full((32, 1), 1e8), verbose=0, callbacks=[monitor])
    (cell,) = monitor.cells.itertuples()
    assert (cell.first_bad_step, cell.first_bad_direction) == (0, "backward")
    rows = monitor.layers.set_index("layer")
    bad = rows[["signal_nonfinite_fraction", "gradient_nonfinite_fraction"]].max(axis=1) > 0
    assert cell.first_bad_layer == bad[bad].index.max()
    assert rows["activation_nonfinite_fraction"].max() == 0


def test_a_step_between_probes_is_told(tmp_path: Path) -> None:
    model = mlp("relu", optimizer=optimizers.SGD(1e30))
    monitor = Monitor(tmp_path / "run", schedule=lambda step: step == 0)
    fitted(model, [monitor])
    (cell,) = monitor.cells.itertuples()
    assert (cell.status, cell.first_bad_direction) == ("diverged", "unknown")
    assert cell.first_bad_step > 0
    assert len(monitor.steps) == 2


class Reconstruction(keras.layers.Layer):
    """Adds the squared error of a reconstruction to the loss."""

    def call(self, inputs: Any) -> Any:
        x, made = inputs
        self.add_loss(keras.ops.mean((x - made) ** 2))
        return made


def reconstructing() -> keras.Model:
    """Return a network whose whole loss is what a layer adds."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7,))
    made = keras.layers.Dense(7)(keras.layers.Dense(4, "tanh")(inputs))
    model = keras.Model(inputs, Reconstruction()([inputs, made]))
    model.compile("sgd")
    return model


def test_a_loss_that_is_not_compiled_stops_no_training(tmp_path: Path) -> None:
    x, _ = data()
    plain, watched = reconstructing(), reconstructing()
    plain.fit(x, verbose=0)
    first = float(np.mean((watched.predict(x, verbose=0) - x) ** 2))
    monitor = Monitor(tmp_path / "run")
    watched.fit(x, batch_size=len(x), shuffle=False, verbose=0, callbacks=[monitor])
    assert monitor.steps["minibatch_loss"].item() == pytest.approx(first, rel=1e-5)
    assert monitor.unmeasured["why"].str.contains("no loss is compiled").sum() == 1
    assert monitor.diagnose().kind == "healthy" and monitor.report().html
    watched = reconstructing()
    watched.fit(x, verbose=0, callbacks=[Monitor(tmp_path / "same")])
    assert same(plain.get_weights(), watched.get_weights())


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "file").touch()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"folder": tmp_path / "full"}, "exists and is not empty"),
        ({"folder": tmp_path / "file"}, "not a folder"),
        ({"folder": tmp_path / "a", "schedule": 0}, "schedule: 0 is not allowed"),
        ({"folder": tmp_path / "a", "schedule": "log10"}, "'log', 'epochs'"),
        ({"folder": tmp_path / "a", "statistics": "chep"}, "Did you mean 'cheap'"),
    ]
    for arguments, message in wrong:
        with pytest.raises(GradpropError, match=message) as raised:
            Monitor(**arguments)
        assert "\n" not in str(raised.value)


class Traced(keras.Model):
    """Counts how often it is traced; its call knows no difference between training and use."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.traced = keras.layers.Dense(3), 0

    def call(self, inputs: Any) -> Any:
        self.traced += tf.inside_function()
        return self.dense(inputs)


def test_a_monitor_adds_no_tracing(tmp_path: Path) -> None:
    """Without it the training step is traced once more, because metrics make variables."""
    x, y = data()
    traced, histories = [], []
    for callbacks in ([], [Monitor(tmp_path / "run")]):
        keras.utils.set_random_seed(1)
        model = Traced()
        model(x[:1])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(x[:64], y[:64], epochs=2, verbose=0, callbacks=callbacks)
        histories.append(model.history.history)
        traced.append(model.traced)
    assert traced[0] > 1
    assert traced[1] == traced[0]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    "given", [{}, {"validation_split": 0.3, "class_weight": {0: 1, 1: 2, 2: 1}}]
)
def test_the_history_is_that_of_a_training_without_it(given: Any, tmp_path: Path) -> None:
    """No minibatch counts twice in the metrics, the very first one included."""
    histories = []
    for callbacks in ([], [Monitor(tmp_path / "run")]):
        model = mlp()
        fitted(model, callbacks, epochs=2, **given)
        histories.append(model.history.history)
    assert histories[0] == histories[1]
