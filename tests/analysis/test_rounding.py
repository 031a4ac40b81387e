"""The bound on rounding against float32 itself."""

from __future__ import annotations

import numpy as np
import pytest

from gradprop.analysis import rounding
from gradprop.components.activations import ACTIVATIONS


def softmax_derivative(
    outputs: int, examples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return dC/dz of equal logits in float32, for labels drawn at random, and the same exactly."""
    logits = np.repeat(rng.normal(size=(examples, 1)).astype(np.float32) * 9, outputs, axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely = powers / powers.sum(axis=1, keepdims=True)
    labels = np.eye(outputs, dtype=np.float32)[rng.integers(outputs, size=examples)]
    return likely - labels, np.full_like(labels, 1 / outputs, dtype=np.float64) - labels


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@pytest.mark.parametrize("outputs", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("units", [8, 64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1e-15])
def test_equal_weights_leave_rounding_and_others_a_signal(
    outputs: int, units: int, scale: float
) -> None:
    """Equal weights of all outputs cancel exactly; independent ones lie decades above the bound."""
    rng = np.random.default_rng(outputs)
    derivative, exact = softmax_derivative(outputs, 64, rng)
    rows = scale * rng.normal(size=(units, 1))
    for weights, is_noise in (
        (np.repeat(rows, outputs, axis=1), True),
        (scale * rng.normal(size=(units, outputs)), False),
    ):
        kernel = weights.astype(np.float32)
        signal = derivative @ kernel.T
        error = signal - exact @ kernel.T.astype(np.float64)
        norm = np.log10(np.linalg.norm(kernel.astype(np.float64)))
        bound = 10 ** rounding.log10_error(units, outputs, norm, np.log10(rms(derivative)))
        assert rms(error) <= bound
        assert (rms(signal) <= bound) == is_noise
        assert is_noise or rms(signal) > 1e3 * bound


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_the_slope_is_a_lower_bound(name: str, scale: float) -> None:
    """For normal z and for z that are all alike, on either side; zeros let nothing through."""
    phi = ACTIVATIONS[name]
    has_a_minimum = phi.derivative(np.linspace(-10, 0, 1001)).min() < 0  # its tail does not fall
    slack = 10 if has_a_minimum else 1
    normal = scale * np.random.default_rng(0).normal(size=10_000)
    for z in (normal, np.full(10, scale), np.full(10, -scale)):
        slope = rounding.least_slope(phi, np.array([2 * np.log10(rms(z))]))[0]
        slopes = phi.derivative(z)
        assert slope > 0
        assert not slopes.any() or slope <= slack * rms(slopes[slopes != 0])


def test_slopes_of_flat_tails() -> None:
    lengths = np.array([-np.inf, 0.0, 4.0, np.inf, np.nan])
    tanh = rounding.least_slope(ACTIVATIONS["tanh"], lengths)
    assert tanh[0] == pytest.approx(np.sqrt(1 - 1 / 16))
    assert tanh[1] == pytest.approx(np.sqrt(1 - 1.1**-2) / np.cosh(1.1) ** 2, rel=0.6)
    assert tanh[2] < 1e-90
    assert tanh[3] == 0
    assert tanh[4] == 0
    assert rounding.least_slope(ACTIVATIONS["relu"], lengths)[3] > 0.9
