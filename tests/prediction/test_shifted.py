"""Predictions where weights have a mean, against simulated networks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import activations, datasets, initializers
from gradprop.prediction import data, mean_field, shifted
from gradprop.prediction.data import prediction_on_data, unpredicted
from gradprop.prediction.networks import Prediction, predict, weight_moments, weight_variance
from gradprop.spec import Cell, Component
from tests.reference import make_cell

Float64 = NDArray[np.float64]


def simulate(cell: Cell, networks: int) -> tuple[Float64, Float64]:
    """Return log10 length and signal of minibatches of the training set, by network and layer."""
    rng = np.random.default_rng(0)
    dataset = datasets.generate(cell.dataset)
    phi = activations.get(cell.activation)
    shapes = initializers.layer_shapes(dataset.x_train.shape[1], cell, dataset.outputs)
    lengths, signals = [], []
    for _ in range(networks):
        chosen = rng.choice(len(dataset.x_train), 32, replace=False)
        h, kernels, z = dataset.x_train[chosen].astype(np.float64), [], []
        for shape in shapes:
            moments = weight_moments(cell.initializer, shape, cell.activation)
            assert moments is not None
            kernels.append(moments[0] + math.sqrt(moments[1]) * rng.standard_normal(shape))
            z.append(h @ kernels[-1] + initializers.bias_moments(cell, shape[0])[0])
            h = phi.function(z[-1])
        p = np.exp(z[-1] - z[-1].max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(32), dataset.y_train[chosen]] -= 1
        delta = [p]
        for kernel, inner in zip(kernels[:0:-1], z[-2::-1], strict=True):
            delta.insert(0, (delta[0] @ kernel.T) * phi.derivative(inner))
        lengths.append([math.log10(np.mean(layer**2)) for layer in z])
        signals.append([math.log10(np.mean(layer**2)) / 2 for layer in delta])
    found = np.array(signals)
    return np.array(lengths), found - found[:, [max(cell.depth - 1, 0)]]


def digits(mean: float, stddev: float = 0.08, **changes: Any) -> Cell:
    given = {"dataset": "digits", "width": 200, "depth": 5, "activation": "relu", **changes}
    kernel = {"name": "normal", "stddev": stddev, "mean": mean}
    return make_cell(initializer=kernel, **given)


def predicted(cell: Cell) -> Prediction:
    found = prediction_on_data(cell)
    assert found is not None
    return found


def check_lengths(found: Prediction, lengths: Float64) -> None:
    """Compare medians; the ten units of the output layer are far from infinite width."""
    measured = np.median(lengths, axis=0)
    np.testing.assert_allclose(found.length[:-1], measured[:-1], atol=0.06)
    assert abs(found.length[-1] - measured[-1]) < 0.2


@pytest.mark.parametrize(("activation", "mean"), [("relu", 0.003), ("sigmoid", -0.005)])
def test_simulated_networks(activation: str, mean: float) -> None:
    cell = digits(mean, activation=activation)
    lengths, signals = simulate(cell, 30)
    found = predicted(cell)
    assert np.isfinite(found.length).all() and np.isnan(found.gradient).all()
    check_lengths(found, lengths)
    known = np.isfinite(found.signal)
    assert known[-2:].all()
    np.testing.assert_allclose(found.signal[known], np.median(signals, axis=0)[known], atol=0.08)
    # without the mean the prediction is another one
    plain = predicted(digits(0.0, activation=activation))
    assert abs(plain.length - found.length).max() > 0.2


@pytest.mark.parametrize(("activation", "value"), [("relu", 0.4), ("tanh", -0.8)])
def test_constant_biases(activation: str, value: float) -> None:
    """The mean is the same in all networks: nothing is left to chance."""
    law = {"name": "constant", "value": value}
    cell = digits(0.0, stddev=0.1, activation=activation, bias_initializer=law)
    lengths, signals = simulate(cell, 30)
    found = predicted(cell)
    check_lengths(found, lengths)
    np.testing.assert_allclose(found.signal, np.median(signals, axis=0), atol=0.06)
    assert abs(predicted(replace(cell, use_bias=False)).length - found.length).max() > 0.1
    assert math.isnan(mean_field.sigma_w2(cell)) and mean_field.sigma_b2(cell) == 0


def test_a_mean_that_grows_without_limit() -> None:
    """In linear networks the direction of ones grows by n mu = 4 a layer, back as well as forth."""
    cell = digits(0.02, stddev=0.05, activation="linear", depth=8)
    found = predicted(cell)
    lengths, _ = simulate(cell, 20)
    np.testing.assert_allclose(found.length[3:], np.median(lengths, axis=0)[3:], atol=0.12)
    np.testing.assert_allclose(np.diff(found.length)[3:], 2 * math.log10(4), atol=0.02)
    assert np.isnan(found.signal[:5]).all()  # sums of signals have taken over


def test_what_is_left_to_chance_is_not_predicted() -> None:
    """Here the mean grows from the little that chance gives to each network."""
    changes: dict[str, Any] = {"dataset": "gaussian_mixture", "activation": "linear", "depth": 6}
    cell = digits(0.02, stddev=0.2, **changes)
    found = predicted(cell)
    assert np.isfinite(found.length[0])
    assert np.isnan(found.length[4:]).all() and np.isnan(found.signal).all()
    lengths, _ = simulate(cell, 30)
    assert lengths[:, 4:].std(axis=0).min() > 0.05
    assert np.isfinite(predicted(digits(0.0, stddev=0.05, **changes)).signal).all()


def test_theory_that_knows_no_mean_is_silent() -> None:
    cell = digits(0.01)
    assert weight_moments(cell.initializer, (3, 4), "relu") == (0.01, 0.08**2)
    assert weight_variance(cell.initializer, (3, 4), "relu") is None
    assert predict(cell, 64, 10) is None
    assert math.isnan(mean_field.sigma_w2(cell))
    assert "have a mean" in unpredicted(cell)
    assert unpredicted(digits(0.0)) == ""
    examples = data.data_examples(cell.dataset)
    none = digits(0.01, normalization="layer"), digits(0.0)
    assert all(shifted.predict_shifted(c, 64, 10, examples, 1.0) is None for c in none)


@pytest.mark.parametrize(
    ("activation", "depth"), [("exponential", 3), ("exponential", 40), ("sine(omega=30.0)", 40)]
)
def test_lengths_end_where_they_leave_the_range_of_floats(activation: str, depth: int) -> None:
    cell = digits(0.1, stddev=0.3, activation=activation, depth=depth, width=6)
    found = predicted(cell)
    assert len(found.length) == depth + 1 and np.isfinite(found.length[0])
    assert activation != "exponential" or np.isnan(found.length[-1])
    assert "range of floats" in unpredicted(cell)


def test_examples_stand_for_the_training_set() -> None:
    examples = data.data_examples(Component("digits"))
    x = datasets.generate(Component("digits")).x_train
    assert examples.shape == (data.EXAMPLES, 2)
    assert examples[:, 1].mean() == pytest.approx(np.mean(np.square(x)), rel=0.1)
    assert np.mean(examples[:, 0] ** 2) == pytest.approx(np.mean(x.mean(axis=1) ** 2), rel=0.05)
