"""What a loss is for a network that knows nothing, against Keras and brute force."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from gradprop.monitor.guessing import entropy, guesses, loss_of

RNG = np.random.default_rng(3)
N, K = 40, 4
CLASSES = RNG.choice(K, N, p=[0.7, 0.2, 0.1, 0.0])
WEIGHTS = RNG.uniform(0.5, 3.0, N)
TARGETS = 50 + 7 * RNG.standard_normal((N, 2))


def compiled(loss: Any, outputs: int, labels: Any) -> keras.Model:
    """Return a model whose loss has been called, as it has in a step."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs)])
    model.compile(loss=loss)
    model.compute_loss(y=labels, y_pred=np.zeros((len(labels), outputs), np.float32))
    return model


def best_constant(loss: Any, labels: Any, weights: Any, outputs: int, start: float = 0.0) -> float:
    """Return the least loss of Keras over constant outputs, by brute force."""

    def of(constant: Any) -> float:
        predicted = np.broadcast_to(np.float32(constant), (len(labels), outputs))
        return float(loss(labels, predicted, sample_weight=weights))

    first = np.full(outputs, start)
    found = scipy.optimize.minimize(of, first, method="Nelder-Mead", options={"maxiter": 4000})
    return float(found.fun)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("kind", ["sparse", "categorical", "binary"])
def test_no_constant_output_has_a_lower_cross_entropy(
    kind: str, weights: Any, reduction: str
) -> None:
    given = {"from_logits": True, "reduction": reduction}
    loss, labels, outputs = {
        "sparse": (keras.losses.SparseCategoricalCrossentropy(**given), CLASSES, K),
        "categorical": (keras.losses.CategoricalCrossentropy(**given), np.eye(K)[CLASSES], K),
        "binary": (keras.losses.BinaryCrossentropy(**given), (CLASSES > 0)[:, None] * 1.0, 1),
    }[kind]
    found = guesses(compiled(loss, outputs, labels), labels, weights, outputs)
    least = best_constant(loss, labels, weights, outputs)
    zero = np.zeros((N, outputs), np.float32)
    assert found.guessing == pytest.approx(float(loss(labels, zero, sample_weight=weights)), 1e-5)
    total = 1.0 if weights is None else float(np.mean(weights))
    scale = {"sum": N * total, "sum_over_batch_size": total}.get(reduction, 1.0)
    met = 2 if kind == "binary" else len(np.unique(CLASSES))
    expected = least + scale * (met - 1) / (2 * N)  # what few rows lack on average
    assert found.constant == pytest.approx(expected, rel=2e-3)
    assert found.constant < found.guessing


@pytest.mark.parametrize(
    ("loss", "exact"),
    [
        (keras.losses.MeanSquaredError(), True),
        (keras.losses.MeanAbsoluteError(), True),
        (keras.losses.Huber(delta=2.0), False),
        (keras.losses.LogCosh(), False),
    ],
)
def test_errors_are_compared_with_the_best_constant(loss: Any, exact: bool) -> None:
    found = guesses(compiled(loss, 2, TARGETS), TARGETS, None, 2)
    least = best_constant(loss, TARGETS, None, 2, start=50.0)
    assert found.guessing == found.constant
    assert found.constant == pytest.approx(least, rel=1e-4 if exact else 0.02)


def test_the_entropy_is_that_of_scipy_and_right_on_average_of_few_rows() -> None:
    shares = np.array([0.5, 0.3, 0.2, 0.0])
    many = 10**9
    assert entropy(shares, many) == pytest.approx(scipy.stats.entropy(shares), abs=1e-8)
    binary = np.array([0.1, 1.0])
    expected = scipy.stats.entropy([0.1, 0.9]) / 2
    assert entropy(binary, many, is_binary=True) == pytest.approx(expected, abs=1e-8)
    draws = RNG.multinomial(64, shares, 4000) / 64
    mean = np.mean([entropy(one, 64) for one in draws])
    assert mean == pytest.approx(scipy.stats.entropy(shares), abs=0.005)
    assert entropy(np.full(4, 0.25), 1) == pytest.approx(math.log(4))


def test_nothing_is_told_of_labels_that_are_unknown_or_none() -> None:
    sparse = compiled(keras.losses.SparseCategoricalCrossentropy(from_logits=True), K, CLASSES)
    for labels in (None, CLASSES - 1, CLASSES + K, np.array([])):
        found = guesses(sparse, labels, None, K)
        assert found.guessing == pytest.approx(math.log(K)) and math.isnan(found.constant)
    signs = 2.0 * (CLASSES > 0)[:, None] - 1
    binary = compiled(keras.losses.BinaryCrossentropy(), 1, signs)
    assert math.isnan(guesses(binary, signs, None, 1).constant)
    own = compiled(lambda y, p: keras.ops.mean(keras.ops.abs(y - p)), 2, TARGETS)
    assert loss_of(own) == "other"
    assert np.isnan(guesses(own, TARGETS, None, 2)).all()
