"""Why a network that overflows can look alive in stock Keras, as the manual says."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys

import pytest

# Fourteen layers of ReLU from N(0, 10000^2): the loss in a compiled graph, without the fused
# operation (eagerly), and in NumPy and float64.
PROGRAM = """
import json
import keras
import numpy as np

draws = np.random.default_rng(0)
x, labels = draws.standard_normal((32, 16)).astype("float32"), draws.integers(0, 10, 32)
hidden = [keras.layers.Dense(16, "relu") for _ in range(14)]
model = keras.Sequential([keras.Input((16,)), *hidden, keras.layers.Dense(10)])
weights = [1e4 * draws.standard_normal(w.shape) if w.ndim == 2 else w for w in model.get_weights()]
model.set_weights(weights)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
losses = {}
for name, eager in (("graph", False), ("eager", True)):
    model.compile(loss=loss, run_eagerly=eager, jit_compile=False)
    losses[name] = model.evaluate(x, labels, 32, verbose=0)
logits = x.astype("float64")
for kernel in weights[:-2:2]:
    logits = np.maximum(logits @ kernel, 0.0)
logits = logits @ weights[-2]
logits -= logits.max(axis=1, keepdims=True)
own = logits[np.arange(32), labels]
losses["float64"] = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - own))
print(json.dumps(losses))
"""


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the operations are those of oneDNN")
def test_fused_relu_turns_nan_into_zero() -> None:
    stock, here = losses_of(PROGRAM), losses_of(f"import gradprop.training.backend\n{PROGRAM}")
    assert stock["float64"] > 1e60
    assert math.isnan(stock["eager"])
    assert stock["graph"] == pytest.approx(math.log(10), abs=1e-5)  # all outputs are 0: guessing
    assert math.isnan(here["graph"])


def losses_of(program: str) -> dict[str, float]:
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "KERAS_BACKEND": "tensorflow"}
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
