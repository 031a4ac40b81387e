"""Ranges of formats against what NumPy and ml_dtypes make of normal numbers and of networks."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gradprop.components import datasets
from gradprop.components.initializers import draw_kernel, layer_shapes
from gradprop.prediction.formats import lost_layers
from gradprop.theory import formats
from tests.reference import make_cell

DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def test_thresholds_are_where_numpy_rounds_to_zero_and_infinity() -> None:
    assert formats.underflow_threshold("float16") == 2.0**-25
    assert formats.overflow_threshold("float16") == 65520.0
    for name, dtype in DTYPES.items():
        edge = formats.overflow_threshold(name)
        inside = np.nextafter(np.float32(edge), np.float32(0))
        with np.errstate(over="ignore"):
            assert np.isinf(np.float32(edge).astype(dtype))
            assert np.isfinite(inside.astype(dtype))
    with np.errstate(under="ignore"):
        assert np.float64(2.0**-25).astype(np.float16) == 0
        assert np.float64(2.0**-25 * 1.001).astype(np.float16) == 2.0**-24


@pytest.mark.parametrize("log10_rms", [-9.0, -8.0, -7.0, -6.0, 4.0, 4.6, 5.0, 6.0])
def test_fractions_of_normal_numbers(log10_rms: float) -> None:
    """200,000 draws: a standard error of 0.0011."""
    draws = np.random.default_rng(1).standard_normal(200_000) * 10**log10_rms
    with np.errstate(over="ignore"):
        rounded = draws.astype(np.float16)
    zero, infinite = (rounded == 0).mean(), np.isinf(rounded).mean()
    assert formats.zero_probability(log10_rms, "float16") == pytest.approx(zero, abs=0.005)
    assert formats.infinite_probability(log10_rms, "float16") == pytest.approx(infinite, abs=0.005)


def test_first_layers_beyond_the_range() -> None:
    falling, rising = np.arange(0, -12, -1.0), np.arange(0, 12, 1.0)
    assert formats.first_beyond(falling, "float16", 100) == (8, None)  # 2^-25 is 10^-7.53
    assert formats.first_beyond(rising, "float16", 1) == (None, 5)
    assert formats.first_beyond(rising, "float16", 10_000) == (None, 5)
    assert formats.first_beyond([4.3], "float16", 10_000) == (None, 0)  # 3.3 sigma
    assert formats.first_beyond([4.3], "float16", 10) == (None, None)
    assert formats.first_beyond(falling, "bfloat16", 100) == (None, None)
    assert formats.first_beyond(falling + 6, "float16", 100) == (None, 0)  # infinite, never 0


@pytest.mark.parametrize("factor", [1.0, 1024.0])
@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_a_simulated_network_loses_its_signal_where_predicted(scale: float, factor: float) -> None:
    """Tanh in NumPy's float16, without any code of the training; within a decade of its decay."""
    fixed = {"name": "fixed", "factor": factor}
    cell = make_cell(
        dataset="digits", activation="tanh", depth=40, width=64, batch_size=64, use_bias=False,
        loss="output_sum", precision="float16", initializer={"name": "variance_scaling",
        "scale": scale}, loss_scale=fixed,
    )  # fmt: skip
    data = datasets.generate(cell.dataset)
    shapes = layer_shapes(data.x_train.shape[1], cell, data.outputs)
    kernels = [draw_kernel(cell, n, s).astype(np.float16) for n, s in enumerate(shapes, start=1)]
    hidden, slopes, zero_at = data.x_train[:64].astype(np.float16), [], 0
    for layer, kernel in enumerate(kernels[:-1], start=1):
        z = (hidden.astype(np.float32) @ kernel.astype(np.float32)).astype(np.float16)
        zero_at = zero_at or (layer if not z.any() else 0)
        hidden = np.tanh(z.astype(np.float32)).astype(np.float16)
        slopes.append(1 - hidden.astype(np.float32) ** 2)
    signal = np.full((64, data.outputs), factor / 64, np.float16)
    lost_at = 0
    for layer in range(cell.depth, 0, -1):
        back = signal.astype(np.float32) @ kernels[layer].astype(np.float32).T
        signal = (back.astype(np.float16) * slopes[layer - 1]).astype(np.float16)
        lost_at = lost_at or (layer if not signal.any() else 0)
    predicted = lost_layers(cell)
    assert predicted is not None
    assert predicted.length_infinite == predicted.signal_infinite == 0
    decade = -1 / (0.5 * np.log10(scale))  # in layers
    assert abs(predicted.signal_zero - lost_at) <= decade and lost_at > 0
    assert abs(predicted.length_zero - zero_at) <= decade and zero_at > 0
