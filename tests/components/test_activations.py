"""The activation functions against brute force and against Keras itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize

from gradprop.components.activations import ACTIVATIONS, SATURATION_LEVEL, Activation, get

FloatArray = npt.NDArray[np.float64]

LABELS = [
    *ACTIVATIONS,
    *(f"leaky_relu(slope={slope})" for slope in (0.0, 0.01, 1.0)),
    *(f"elu(alpha={alpha})" for alpha in (0.005, 0.5, 3.0)),
    "prelu(slope=0.0)",
    *(f"sine(omega={omega})" for omega in (0.25, 3.0)),
]
EVERY = pytest.mark.parametrize("activation", [get(label) for label in LABELS], ids=LABELS)
GRID = np.concatenate([np.linspace(-12.0, 12.0, 1203), [-30.0, -1e-3, 1e-3, 30.0]])


def _central_difference(
    activation: Activation, order: int, z: FloatArray, step: float = 2e-3
) -> FloatArray:
    """Sixth-order central difference of phi (order 0) or phi' (order 1)."""
    f = activation.function if order == 0 else activation.derivative
    total = np.zeros_like(z)
    for k, weight in ((1, 0.75), (2, -0.15), (3, 1.0 / 60.0)):
        total += weight * (f(z + k * step) - f(z - k * step))
    return total / step


def _smooth_part(activation: Activation) -> FloatArray:
    """Grid points whose stencil of a central difference reaches over no kink."""
    keep = np.ones(GRID.shape, dtype=bool)
    for kink in activation.kinks:
        keep &= np.abs(GRID - kink) > 0.0065
    return np.asarray(GRID[keep], dtype=np.float64)


def test_entries_say_what_they_are() -> None:
    assert all(name == activation.name for name, activation in ACTIVATIONS.items())
    assert all(a.definition and a.source for a in ACTIVATIONS.values())


def test_get() -> None:
    assert get("gelu") is ACTIVATIONS["gelu"]
    assert get(ACTIVATIONS["relu"]) is ACTIVATIONS["relu"]
    with pytest.raises(ValueError, match="unknown activation 'cosine'; known are linear, tanh"):
        get("cosine")


@pytest.mark.parametrize("given", [None, 3, np.tanh])
def test_what_is_no_activation_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^activation .+ is not allowed; allowed: the label of"):
        get(given)


def test_parameters_make_another_function() -> None:
    steep = get("elu(alpha=2.0)")
    assert steep.name == "elu(alpha=2.0)"
    assert float(steep.function(-1.0)) == pytest.approx(2 * math.expm1(-1.0), rel=1e-15)
    assert get("elu(alpha=1.0)") is ACTIVATIONS["elu"]
    with pytest.raises(ValueError, match=r"unknown activation 'relu\(slope=0.1\)'"):
        get("relu(slope=0.1)")


@EVERY
@pytest.mark.parametrize("order", [0, 1])
def test_derivatives_match_central_differences(activation: Activation, order: int) -> None:
    z = _smooth_part(activation)
    exact = (activation.derivative, activation.second_derivative)[order](z)
    np.testing.assert_allclose(
        exact, _central_difference(activation, order, z), rtol=1e-9, atol=3e-12
    )


@EVERY
def test_functions_keep_shape_and_return_float64(activation: Activation) -> None:
    for f in (activation.function, activation.derivative, activation.second_derivative):
        assert f(0.3).shape == ()
        assert f([1, 2, 3]).shape == (3,)
        out = f(np.zeros((2, 0, 3), dtype=np.float32))
        assert out.shape == (2, 0, 3)
        assert out.dtype == np.float64


@EVERY
@pytest.mark.filterwarnings("error")
def test_no_overflow_far_out(activation: Activation) -> None:
    z = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for f in (activation.function, activation.derivative, activation.second_derivative):
            assert np.all(np.isfinite(f(z)))


@EVERY
def test_results_do_not_alias_the_input(activation: Activation) -> None:
    z = np.array([0.5, 1.0])
    activation.function(z)[0] = 7.0
    assert z[0] == 0.5


def test_tails_keep_relative_accuracy() -> None:
    tanh, sigmoid = ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"]
    assert float(tanh.derivative(30.0)) == pytest.approx(4.0 * math.exp(-60.0), rel=1e-14)
    assert float(sigmoid.derivative(50.0)) == pytest.approx(math.exp(-50.0), rel=1e-14)
    gelu, swish = ACTIVATIONS["gelu"], ACTIVATIONS["swish"]
    z = -20.0
    # Mills' ratio: gelu(z) = -density(z) (1 - 1/z**2 + 3/z**4 - 15/z**6 ...)
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    series = 1.0 - z**-2 + 3.0 * z**-4 - 15.0 * z**-6
    assert float(gelu.function(z)) == pytest.approx(-density * series, rel=1e-8)
    assert float(swish.function(-40.0)) == pytest.approx(-40.0 * math.exp(-40.0), rel=1e-14)


@EVERY
def test_saturation_is_where_the_slope_falls_below_one_percent(activation: Activation) -> None:
    low, high = activation.saturation
    # the supremum of selu's slope is its limit at 0 from the left
    z = np.append(np.linspace(-200.0, 200.0, 400_001), -1e-300)
    slope = np.abs(activation.derivative(z))
    # the slope of the exponential has no maximum: its own at 0 is taken
    largest = 1.0 if activation.name == "exponential" else float(slope.max())
    limit = SATURATION_LEVEL * largest
    saturated = (z <= low) | (z >= high)
    assert np.all(slope[saturated] <= limit * (1.0 + 1e-6))
    # tight: just inside the interval the slope is above the limit
    for bound, inside in ((low, 1e-4), (high, -1e-4)):
        if math.isfinite(bound):
            assert abs(float(activation.derivative(bound + inside))) > limit
    if activation.name in ("linear", "leaky_relu", "prelu"):
        assert (low, high) == (-math.inf, math.inf)
    if activation.name in ("tanh", "sigmoid", "softsign"):
        assert low == -high


@pytest.mark.parametrize("name", ["gelu", "swish", "mish"])
def test_saturation_of_the_humps_recomputed(name: str) -> None:
    activation = ACTIVATIONS[name]

    def scalar(z: float) -> float:
        return float(activation.derivative(z))

    def curvature(z: float) -> float:
        return float(activation.second_derivative(z))

    peak = optimize.brentq(curvature, 0.5, 5.0, xtol=1e-14)
    trough = optimize.brentq(curvature, -5.0, -0.5, xtol=1e-14)
    level = SATURATION_LEVEL * scalar(peak)
    root = optimize.brentq(lambda z: scalar(z) + level, -40.0, trough, xtol=1e-14)
    assert activation.saturation[0] == pytest.approx(root, rel=1e-12)
    assert activation.saturation[1] == math.inf


def test_functions_that_are_linear_between_their_kinks() -> None:
    found = {name for name, one in ACTIVATIONS.items() if one.linear_between_kinks}
    assert found == {"linear", "relu", "leaky_relu", "prelu", "relu6"}


def test_saturation_values() -> None:
    assert ACTIVATIONS["softsign"].saturation[1] == pytest.approx(9.0)
    assert ACTIVATIONS["relu"].saturation == (0.0, math.inf)
    assert ACTIVATIONS["tanh"].saturation[1] == pytest.approx(math.acosh(10.0))
    assert ACTIVATIONS["sigmoid"].saturation[1] == pytest.approx(2.0 * math.acosh(10.0))
    for name in ("elu", "selu"):
        assert ACTIVATIONS[name].saturation[0] == pytest.approx(math.log(0.01))
        assert ACTIVATIONS[name].saturation[1] == math.inf


@EVERY
def test_homogeneity_flag(activation: Activation) -> None:
    z = np.linspace(-3.0, 3.0, 61)
    scaled = activation.function(2.5 * z)
    same = np.allclose(scaled, 2.5 * activation.function(z), rtol=1e-12, atol=1e-12)
    assert bool(same) is activation.homogeneous


@EVERY
def test_smooth_away_from_the_declared_kinks(activation: Activation) -> None:
    step = 1e-7
    z = np.linspace(-5.0, 5.0, 100_001)
    for f in (activation.function, activation.derivative, activation.second_derivative):
        jumps = np.abs(f(z + step) - f(z - step)) > 1e-5 * (1.0 + np.abs(f(z)))
        assert {float(round(x, 3)) + 0.0 for x in z[jumps]} <= set(activation.kinks)


@EVERY
def test_same_as_keras(activation: Activation) -> None:
    import keras
    import tensorflow as tf

    assert keras.backend.backend() == "tensorflow"
    z32 = np.linspace(-12.0, 12.0, 2403).astype(np.float32)
    z32[np.abs(z32) < 1e-6] = 0.0
    assert 0.0 in z32  # the derivative at the kink is a convention: it is compared too
    x = tf.constant(z32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.identity((activation.tensors or keras.activations.get(activation.name))(x))
    slope = tape.gradient(y, x)
    # a few float32 roundings at values of order 1; of sin(3 z) at phases of 36
    rounding = 1e-5 if activation.name == "sine(omega=3.0)" else 2e-6
    np.testing.assert_allclose(activation.function(z32), y.numpy(), rtol=2e-6, atol=rounding)
    np.testing.assert_allclose(activation.derivative(z32), slope.numpy(), rtol=2e-6, atol=rounding)
