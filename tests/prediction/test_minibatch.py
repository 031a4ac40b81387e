"""How far the gradients of a minibatch agree: closed forms, all pairs, simulated networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import activations, datasets
from gradprop.components.datasets import Dataset
from gradprop.prediction.minibatch import Likeness, _output_agreement, likeness, log_agreement
from gradprop.prediction.networks import predict
from gradprop.spec import Cell
from tests.prediction.test_networks import make_cell

Float64 = NDArray[np.float64]
CLASSES = 4


def blobs(examples: int, features: int) -> Dataset:
    """Return classes around random means, of a mean square of about 1."""
    random = np.random.default_rng(1)
    labels = np.arange(examples) % CLASSES
    means = random.normal(size=(CLASSES, features))
    x = (0.6 * means[labels] + 0.8 * random.normal(size=(examples, features))).astype(np.float32)
    return Dataset("classification", x, labels.astype(np.int32), x, labels, CLASSES, "")


def test_likeness_against_all_pairs() -> None:
    data = blobs(50, 7)
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for a, b in itertools.combinations(range(50), 2):
        x, y = data.x_train[a].astype(float), data.x_train[b].astype(float)
        cosine = float(x @ y / math.sqrt((x @ x) * (y @ y)))
        cosines[bool(data.y_train[a] == data.y_train[b])].append(cosine)
    found = likeness(data)
    assert found is not None
    assert (found.same, found.other) == pytest.approx(
        (np.mean(cosines[True]), np.mean(cosines[False])), rel=1e-6
    )
    assert found.classes == CLASSES


def test_a_regression_has_no_classes() -> None:
    teacher = datasets.DATASETS.create({"name": "linear_teacher", "examples": 40})
    assert likeness(datasets.generate(teacher)) is None


@pytest.mark.parametrize("q", [0.0, 1e-12])
def test_errors_of_uniform_outputs(q: float) -> None:
    """With p = 1/K errors of one class are equal, and those of two have the cosine -1/(K - 1)."""
    assert _output_agreement(q, 0.3, True, CLASSES) == pytest.approx(1.0, abs=1e-5)
    assert _output_agreement(q, 0.3, False, CLASSES) == pytest.approx(-1 / (CLASSES - 1), abs=1e-5)


@pytest.mark.parametrize("c", [0.0, 0.7, 1.0])
def test_errors_of_normal_outputs_by_simulation(c: float) -> None:
    random, q, draws = np.random.default_rng(5), 1.7, 40_000
    common, own, other = random.normal(size=(3, draws, CLASSES))
    outputs = [np.sqrt(q) * (np.sqrt(c) * common + np.sqrt(1 - c) * z) for z in (own, other)]
    p = [np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in outputs]
    for same, labels in ((True, (0, 0)), (False, (0, 1))):
        a, b = (share - np.eye(CLASSES)[label] for share, label in zip(p, labels, strict=True))
        expected = (a * b).sum(axis=1).mean() / (a * a).sum(axis=1).mean()
        assert _output_agreement(q, c, same, CLASSES) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("c", [0.0, 0.7, 1.0])
def test_errors_of_one_sigmoid_output_by_simulation(c: float) -> None:
    """Both labels are as likely, and independent of the output."""
    random, q, draws = np.random.default_rng(6), 1.7, 400_000
    common, own, other = random.normal(size=(3, draws))
    outputs = [np.sqrt(q) * (np.sqrt(c) * common + np.sqrt(1 - c) * z) for z in (own, other)]
    first = random.integers(2, size=draws)
    for same, second in ((True, first), (False, 1 - first)):
        a, b = (1 / (1 + np.exp(-z)) - y for z, y in zip(outputs, (first, second), strict=True))
        expected = (a * b).mean() / (a * a).mean()
        found = _output_agreement(q, c, same, 2, "binary_cross_entropy")
        assert found == pytest.approx(expected, abs=0.01)


def test_agreement_of_linear_networks_in_closed_form() -> None:
    """Correlations of inputs stay, signals of a sum of outputs agree: A is the same everywhere."""
    alike, lengths = Likeness(0.5, -0.1, CLASSES), np.full(6, 2.0)
    found = log_agreement(alike, 8, "linear", lengths, np.ones(6), "output_sum")
    pairs = 0.5 / CLASSES - 0.1 * (1 - 1 / CLASSES)
    assert np.exp(found) == pytest.approx((1 + 7 * pairs) / 8)
    alone = log_agreement(alike, 1, "tanh", lengths, np.ones(6), "auto")
    assert np.exp(alone) == pytest.approx(1.0)


def test_common_biases_make_examples_alike() -> None:
    alike = Likeness(0.0, 0.0, CLASSES)
    found = log_agreement(alike, 8, "linear", np.ones(3), np.full(3, 0.25), "output_sum")
    entering = np.array([0.0, 0.75, 0.25 * 0.75 + 0.75])
    assert np.exp(found) == pytest.approx((1 + 7 * entering) / 8)


def mean_squares(data: Dataset, cell: Any, scale: float, bias_std: float) -> Float64:
    """Return log10 of mean (dC/dW)^2 by layer, a mean over wide networks in NumPy."""
    phi, random, found = activations.get(cell.activation), np.random.default_rng(2), []
    drops = np.random.default_rng(4)
    for _ in range(20):
        rows = random.choice(len(data.x_train), cell.batch_size, replace=False)
        h, labels = data.x_train[rows].astype(float), data.y_train[rows]
        sizes = [h.shape[1], *[cell.width] * cell.depth, CLASSES]
        weights = [
            random.normal(0, math.sqrt(scale / n), (n, m)) for n, m in itertools.pairwise(sizes)
        ]
        entering, outputs, masks = [], [], []
        for weight in weights:
            entering.append(h)
            outputs.append(h @ weight + random.normal(0, bias_std, weight.shape[1]))
            masks.append((drops.random(outputs[-1].shape) >= cell.dropout) / (1 - cell.dropout))
            h = phi.function(outputs[-1]) * masks[-1]
        p = np.exp(outputs[-1]) / np.exp(outputs[-1]).sum(axis=1, keepdims=True)
        delta = p - np.eye(CLASSES)[labels]
        squares = []
        for layer in reversed(range(len(weights))):
            gradient = entering[layer].T @ delta / cell.batch_size
            squares.append(np.mean(gradient**2))
            if layer:
                delta = (delta @ weights[layer].T) * phi.derivative(outputs[layer - 1])
                delta = delta * masks[layer - 1]
        found.append(squares[::-1])
    return np.asarray(np.log10(np.mean(found, axis=0)))


@pytest.mark.parametrize(
    ("activation", "scale", "bias_std", "dropout"),
    [
        ("tanh", 1.4, 0.3, 0.0),
        ("relu", 1.0, 0.1, 0.0),
        ("tanh", 1.4, 0.3, 0.2),
        pytest.param("tanh", 0.6, 0.0, 0.0, marks=pytest.mark.long),
        pytest.param("sigmoid", 1.0, 0.0, 0.0, marks=pytest.mark.long),
    ],
)
def test_weight_gradients_of_simulated_networks(
    activation: str, scale: float, bias_std: float, dropout: float
) -> None:
    data = blobs(200, 300)
    cell = make_cell(
        {"name": "variance_scaling", "scale": scale},
        activation=activation, depth=5, width=400, batch_size=24, bias_std=bias_std,
        dropout=dropout,
    )  # fmt: skip
    measured = mean_squares(data, cell, scale, bias_std) / 2
    square = float(np.mean(np.square(data.x_train, dtype=np.float64)))
    law = predict(cell, 300, CLASSES, square, likeness(data))
    assert law is not None
    reference = cell.depth - 1
    np.testing.assert_allclose(law.gradient, measured - measured[reference], atol=0.06)


def simulated_signals(data: Dataset, cell: Cell, scale: float, networks: int) -> Float64:
    """Return log10 RMS of dC/dz over a minibatch, relative to the last hidden layer, by network."""
    phi, random = activations.get(cell.activation), np.random.default_rng(3)
    chosen = [random.permutation(len(data.x_train))[: cell.batch_size] for _ in range(networks)]
    h, labels = data.x_train[np.array(chosen)].astype(float), data.y_train[np.array(chosen)]
    sizes = [h.shape[2], *[cell.width] * cell.depth, CLASSES]
    weights, outputs, masks, drops = [], [], [], np.random.default_rng(4)
    for n, m in itertools.pairwise(sizes):
        weights.append(random.normal(0, math.sqrt(scale / n), (networks, n, m)))
        outputs.append(h @ weights[-1] + random.normal(0, cell.bias_std, (networks, 1, m)))
        masks.append((drops.random(outputs[-1].shape) >= cell.dropout) / (1 - cell.dropout))
        h = phi.function(outputs[-1]) * masks[-1]
    p = np.exp(outputs[-1] - outputs[-1].max(axis=2, keepdims=True))
    deltas = [p / p.sum(axis=2, keepdims=True) - np.eye(CLASSES)[labels]]
    for weight, z, mask in zip(weights[:0:-1], outputs[-2::-1], masks[-2::-1], strict=True):
        deltas.insert(0, deltas[0] @ weight.transpose(0, 2, 1) * phi.derivative(z) * mask)
    squares = np.stack([np.mean(delta**2, axis=(1, 2)) for delta in deltas], axis=1)
    return np.log10(squares / squares[:, [cell.depth - 1]]) / 2


@pytest.mark.parametrize(
    ("activation", "scale", "bias_std", "dropout"),
    [
        ("tanh", 3.0, 0.2, 0.0),
        ("tanh", 0.7, 0.2, 0.0),
        ("relu", 2.0, 0.0, 0.0),
        ("tanh", 1.8, 0.2, 0.2),
        ("relu", 1.6, 0.0, 0.2),
    ],
)
def test_signals_of_simulated_minibatches(
    activation: str, scale: float, bias_std: float, dropout: float
) -> None:
    """One example drifts and spreads more: chaotic tanh by 0.24 and 0.15 decades here."""
    data, networks = blobs(200, 40), 300
    cell = make_cell(
        {"name": "variance_scaling", "scale": scale},
        activation=activation, depth=12, width=40, batch_size=16, bias_std=bias_std,
        dropout=dropout,
    )  # fmt: skip
    sample = simulated_signals(data, cell, scale, networks)
    square = float(np.mean(np.square(data.x_train, dtype=np.float64)))
    law = predict(cell, 40, CLASSES, square, likeness(data))
    single = predict(cell, 40, CLASSES, square)
    assert law is not None and single is not None
    mean, spread = sample.mean(axis=0), sample.std(axis=0)
    error = 4 * spread.max() / math.sqrt(networks) + 0.01
    np.testing.assert_allclose(law.signal, mean, atol=error)
    np.testing.assert_allclose(law.signal_sd, spread, rtol=0.25, atol=0.01)
    np.testing.assert_allclose(law.signal - law.lift, single.signal, atol=1e-12)
    assert single.signal_sd[0] > 1.4 * spread[0]


def test_a_minibatch_of_one_is_a_single_example() -> None:
    cell = make_cell({"name": "variance_scaling", "scale": 3.0}, depth=12, width=40, batch_size=1)
    alone, single = predict(cell, 40, 4, 1.0, Likeness(0.5, 0.1, 4)), predict(cell, 40, 4)
    assert alone is not None and single is not None
    np.testing.assert_allclose(alone.signal, single.signal, rtol=1e-12)
    np.testing.assert_allclose(alone.signal_sd, single.signal_sd, rtol=1e-12)


def test_of_squared_errors_of_classes_no_weight_gradient_is_predicted() -> None:
    """As of a regression; the signal of a single example is."""
    cell = make_cell({"name": "variance_scaling", "scale": 0.9}, depth=9, width=40, batch_size=32)
    cell = replace(cell, loss="mean_squared_error")
    found, single = predict(cell, 40, 4, 1.0, Likeness(0.5, 0.1, 4)), predict(cell, 40, 4)
    assert found is not None and single is not None
    assert np.isnan(found.gradient).all()
    np.testing.assert_array_equal(found.signal, single.signal)


def test_examples_that_are_one_are_a_single_example() -> None:
    cell = make_cell({"name": "variance_scaling", "scale": 0.9}, depth=9, width=40, batch_size=32)
    cell = replace(cell, loss="output_sum")
    alone, single = predict(cell, 40, 4, 1.0, Likeness(1.0, 1.0, 4)), predict(cell, 40, 4)
    assert alone is not None and single is not None
    np.testing.assert_allclose(alone.signal, single.signal, atol=1e-9)
    np.testing.assert_allclose(alone.signal_sd, single.signal_sd, rtol=1e-8)


@pytest.mark.parametrize(("scale", "bias_std"), [(0.5, 0.22), (0.8, 0.3), (1.0, 0.0)])
def test_spread_of_what_enters_a_layer_by_simulation(scale: float, bias_std: float) -> None:
    """Biases are no part of the mean square M that enters, and make it no less uncertain."""
    width, depth, networks = 128, 6, 400
    cell = make_cell(
        {"name": "variance_scaling", "scale": scale},
        activation="tanh", depth=depth, width=width, batch_size=24, bias_std=bias_std,
    )  # fmt: skip
    law = predict(cell, width, CLASSES, 1.0, likeness(blobs(200, width)))
    assert law is not None
    random, logs = np.random.default_rng(0), []
    for _ in range(networks):
        h = random.normal(size=width)
        h, entering = h / np.sqrt(np.mean(h * h)), []
        for _ in range(depth + 1):
            entering.append(np.log10(np.mean(h * h)) / 2)
            weight = random.normal(0, math.sqrt(scale / width), (width, width))
            h = np.tanh(weight @ h + random.normal(0, bias_std, width))
        logs.append(np.array(entering) - entering[depth - 1])
    spread = np.sqrt(np.square(law.gradient_sd) - np.square(law.signal_sd))
    np.testing.assert_allclose(spread, np.std(logs, axis=0), rtol=0.15, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_next_to_nothing_but_biases(activation: str) -> None:
    """Weights so small that float64 does not see their part of a length give finite numbers."""
    cell = make_cell(
        {"name": "variance_scaling", "scale": 1e-20},
        activation=activation, depth=5, width=400, batch_size=24, bias_std=0.3,
    )  # fmt: skip
    law = predict(cell, 300, CLASSES, 1.0, likeness(blobs(200, 300)))
    assert law is not None
    assert np.isfinite(law.gradient).all() and np.isfinite(law.gradient_sd).all()
