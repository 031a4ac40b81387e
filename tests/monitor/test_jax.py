"""Where Keras computes with JAX the gradients that its optimizer gets are recorded."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import math, sys
import keras, numpy as np
import gradprop

x = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
y = np.arange(80) % 3

def trained(*callbacks):
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(16, "relu", kernel_regularizer="l2"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=3, batch_size=32, verbose=0, callbacks=callbacks)
    return [v.numpy() for v in model.trainable_variables]

RATE = 0.1
monitor = gradprop.Monitor(sys.argv[1])
pairs = zip(trained(), trained(monitor), strict=True)
assert all(np.array_equal(a, b) for a, b in pairs)
assert list(monitor.steps["step"]) == [0, 1, 2, 3, 4, 5, 6, 8]
assert set(monitor.steps["learning_rate"].round(6)) == {RATE}
rows = monitor.layers
kept = monitor.steps.iloc[0]
assert abs(kept["minibatch_loss"] - kept["penalty"] - math.log(3)) < 1
squares = 10 ** (2 * rows["weight_log10_norm"][0])
assert math.isclose(kept["penalty"], 0.01 * squares, rel_tol=1e-5), kept["penalty"]
change = rows["log10_update_ratio"] + rows["weight_log10_norm"]  # |update| = rate |dC/dW|
assert np.allclose(change, rows["gradient_log10_norm"] + math.log10(RATE), atol=1e-4), rows
assert rows["signal_log10_rms"].isna().all()
notes = monitor.unmeasured.groupby("layer")["why"].size()
assert list(notes.drop("", errors="ignore")) == [1, 1], notes
assert monitor.diagnose().kind == "healthy"
monitor.report(sys.argv[1] + ".html")
try:
    gradprop.probe(keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]), x, y)
except gradprop.errors.GradpropError as error:
    assert "allowed: KERAS_BACKEND=tensorflow" in str(error)
    print("as expected")
"""


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed; to have it: pip install jax",
)
def test_gradients_of_jax_are_those_of_its_updates(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("as expected\n")


def test_other_backends_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from gradprop.monitor import Monitor
    from gradprop.monitor.probing import ProbeError

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    monitor = Monitor(tmp_path / "run")
    monitor.set_model(model)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ProbeError, match=r"KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax$"):
        monitor.on_train_begin()
