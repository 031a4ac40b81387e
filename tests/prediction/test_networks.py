"""Predictions for cells against closed forms, drawn kernels and simulated networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop import theory
from gradprop.components import activations, initializers
from gradprop.components.initializers import INITIALIZERS
from gradprop.prediction.networks import (
    LOG_RANGE,
    Prediction,
    predict,
    predict_structured,
    weight_variance,
)
from gradprop.spec import Cell, Component

Float64 = NDArray[np.float64]
HALVING = math.log10(2)
WIDE = 10**5  # nothing of a finite width is left at the precision of the comparison


def make_cell(initializer: str | Mapping[str, Any], **changes: Any) -> Cell:
    parameters: dict[str, Any] = {
        "dataset": Component("digits"),
        "depth": 12,
        "width": WIDE,
        "activation": "relu",
        "initializer": INITIALIZERS.create(initializer),
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 0,
        "seed": 0,
        **changes,
    }
    parameters["activation"] = Component.parse(parameters["activation"])
    return Cell(**parameters)


def predicted(cell: Cell, **sizes: Any) -> Prediction:
    found = predict(cell, **{"inputs": WIDE, "outputs": WIDE, **sizes})
    assert found is not None
    return found


@pytest.mark.parametrize("shape", [(300, 200), (150, 400)])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_variances_are_those_of_drawn_kernels(name: str, shape: tuple[int, int]) -> None:
    components = [Component(name)]
    if name == "variance_scaling":
        modes = ("fan_in", "fan_out", "fan_avg")
        components = [INITIALIZERS.create({"name": name, "mode": m, "scale": 3}) for m in modes]
    layer = initializers.Layer(*shape, "relu")
    for component in components:
        variance = weight_variance(component, shape, "relu")
        if not INITIALIZERS[name].random or INITIALIZERS[name].unit_variance:
            assert variance is None
            continue
        kernel = np.asarray(initializers.build(component, 1, layer)(shape, dtype="float32"))
        # relative standard error of a variance of 60,000 normal entries: 0.6 %
        assert variance == pytest.approx(np.mean(kernel.astype(float) ** 2), rel=0.03)


def test_every_random_initializer_has_a_variance() -> None:
    for name, entry in INITIALIZERS.items():
        predicted = entry.random and not entry.unit_variance
        assert (entry.variance is not None) == predicted, name
        assert bool(entry.unpredicted) == (not predicted), f"{name}: a variance, or why not"


@pytest.mark.parametrize("name", ["zeros", "ones", "constant", "identity"])
def test_constant_kernels_are_not_predicted(name: str) -> None:
    assert predict(make_cell(name), 64, 10) is None


def test_relu_keeps_its_length_from_he_and_halves_it_from_xavier() -> None:
    he = predicted(make_cell("he_normal"), input_mean_square=3.0)
    np.testing.assert_allclose(he.length, math.log10(6), atol=3e-4)
    np.testing.assert_allclose(he.signal, 0, atol=3e-4)
    xavier = predicted(make_cell("glorot_uniform"))
    np.testing.assert_allclose(xavier.length, -HALVING * np.arange(13), atol=3e-4)
    np.testing.assert_allclose(xavier.signal, HALVING / 2 * (np.arange(13) - 11), atol=3e-4)


def test_fans_of_the_first_and_the_last_layer() -> None:
    """Linear: q_l = q_(l-1) fan_in Var W, D_l = D_(l+1) fan_out Var W (Glorot and Bengio)."""
    cell = make_cell("glorot_normal", activation="linear", depth=2)
    found = predicted(cell, inputs=3 * WIDE, outputs=WIDE // 4, input_mean_square=1.0)
    gains = [2 * 3 / 4, 1, 2 / 1.25]
    np.testing.assert_allclose(found.length, np.log10(np.cumprod(gains)), atol=3e-4)
    output = -0.5 * math.log10(2 * 0.25 / 1.25)  # relative to layer 2
    np.testing.assert_allclose(found.signal, [0, 0, output], atol=3e-4)


def test_critical_tanh_follows_its_power_law() -> None:
    cell = make_cell("lecun_normal", activation="tanh", depth=400, width=10**7)
    found = predicted(cell, inputs=10**7)
    lengths = theory.length_trajectory("tanh", 1.0, 401, 1.0)
    np.testing.assert_allclose(found.length, np.log10(lengths), atol=1e-3)
    ratio = 10 ** (2 * (found.signal[199] - found.signal[399]))
    assert ratio == pytest.approx(200 / 400, rel=0.02)  # E[(delta^l)^2] ~ l, not exponential


@pytest.mark.parametrize("activation", ["sigmoid", "selu", "gelu", "sine(omega=3.0)"])
def test_infinite_width_is_the_mean_field(activation: str) -> None:
    cell = make_cell(
        {"name": "variance_scaling", "scale": 1.5}, activation=activation, bias_std=0.3
    )
    found = predicted(cell)
    profile = theory.signal_profile(activation, [WIDE] * 14, 1.5, 0.09)
    np.testing.assert_allclose(found.length, np.log10(profile.q), atol=1e-3)
    decades = (profile.log_delta - profile.log_delta[-2]) / (2 * math.log(10))
    np.testing.assert_allclose(found.signal, decades, atol=1e-3)
    without = predicted(replace(cell, use_bias=False))
    assert without.length[0] < found.length[0]


def test_biases_by_fan_in_have_the_variance_of_their_layer() -> None:
    """PyTorch's default as a whole, with an input of another size than the layers."""
    cell = make_cell(
        "pytorch_default", activation="tanh", bias_initializer=Component("fan_in_uniform"),
        width=300, depth=4,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    squares, signals = [], []
    for _ in range(30):
        h = rng.standard_normal(20)
        h /= math.sqrt(np.mean(h**2))
        kernels, z = [], []
        for n, m in initializers.layer_shapes(20, cell, 100):
            bound = 1 / math.sqrt(n)
            kernels.append(rng.uniform(-bound, bound, (n, m)))
            z.append(h @ kernels[-1] + rng.uniform(-bound, bound, m))
            h = np.tanh(z[-1])
        delta = [rng.standard_normal(100)]
        for kernel, inner in zip(kernels[:0:-1], z[-2::-1], strict=True):
            delta.insert(0, (kernel @ delta[0]) * (1 - np.tanh(inner) ** 2))
        squares.append([math.log10(np.mean(layer**2)) for layer in z])
        logs = np.array([math.log10(np.mean(layer**2)) / 2 for layer in delta])
        signals.append(logs - logs[3])
    found = predicted(cell, inputs=20, outputs=100)
    np.testing.assert_allclose(found.length, np.mean(squares, axis=0), atol=0.04)
    np.testing.assert_allclose(found.signal, np.mean(signals, axis=0), atol=0.04)
    # the bias of the last layers is more than a twentieth of what they pass on
    without = predicted(replace(cell, use_bias=False), inputs=20, outputs=100)
    assert found.length[-1] - without.length[-1] > 0.1


def test_relu_has_the_exact_law_of_finite_widths() -> None:
    cell = make_cell("he_normal", width=20, depth=8)
    found = predicted(cell, inputs=20, outputs=20)
    law = theory.gradient_law([20] * 9, 2.0)
    scale = 2 * math.log(10)
    np.testing.assert_allclose(found.signal[:8], (law.mean[:8] - law.mean[7]) / scale, atol=1e-12)
    spread = np.sqrt(law.variance[:8] - law.variance[7]) / scale
    np.testing.assert_allclose(found.signal_sd[:8], spread, atol=1e-12)


def test_lengths_beyond_the_range_of_floats() -> None:
    lost = predicted(make_cell({"name": "normal", "stddev": 1e-6}, activation="tanh", depth=300))
    np.testing.assert_allclose(np.diff(lost.length), math.log10(WIDE) - 12, atol=1e-4)
    grown = predicted(make_cell({"name": "normal", "stddev": 1e3}, activation="swish", depth=300))
    np.testing.assert_allclose(
        np.diff(grown.length)[10:], math.log10(WIDE) + 6 - HALVING, atol=1e-4
    )
    assert grown.length[-1] > 308 > LOG_RANGE / math.log(10)


def test_exponentials_are_predicted_while_their_lengths_scatter_little() -> None:
    """``E[phi^4] / E[phi^2]^2 = exp(4 q)``: at a length of 1 and 40 units it is more than 40."""
    small = {"name": "variance_scaling", "scale": 0.1}
    found = predicted(make_cell(small, activation="exponential", depth=8))
    trajectory = theory.length_trajectory("exponential", 0.1, 9, 0.1)
    np.testing.assert_allclose(found.length, np.log10(trajectory), atol=1e-3)
    for scale, width in ((1.0, 40), (1e6, 40), (1.0, WIDE)):
        large = {"name": "variance_scaling", "scale": scale}
        assert predict(make_cell(large, activation="exponential", width=width), 64, 10) is None


def test_no_hidden_layer() -> None:
    found = predicted(make_cell("lecun_normal", depth=0))
    np.testing.assert_allclose(found.length, [0], atol=3e-4)
    assert found.signal.tolist() == [0] and found.signal_sd.tolist() == [0]


def draw_kernels(
    cell: Cell, networks: int, shape: tuple[int, int], rng: np.random.Generator
) -> Float64:
    """Draw (networks, fan_in, fan_out) with normal or Haar-distributed orthogonal kernels."""
    if cell.initializer.name != "orthogonal":
        variance = weight_variance(cell.initializer, shape, cell.activation)
        assert variance is not None
        return math.sqrt(variance) * rng.standard_normal((networks, *shape))
    tall = rng.standard_normal((networks, max(shape), min(shape)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return q if shape[0] >= shape[1] else q.transpose(0, 2, 1)


def simulate(cell: Cell, sizes: tuple[int, int], networks: int) -> tuple[Float64, Float64]:
    """Return log10 length and log10 signal relative to the last hidden layer, by network."""
    rng, drops = np.random.default_rng(0), np.random.default_rng(1)
    phi = activations.get(cell.activation)
    h = rng.standard_normal((networks, 1, sizes[0]))
    h /= np.sqrt(np.mean(h**2, axis=2, keepdims=True))
    kernels, z, masks = [], [], []
    for shape in initializers.layer_shapes(sizes[0], cell, sizes[1]):
        kernels.append(draw_kernels(cell, networks, shape, rng))
        z.append(h @ kernels[-1])
        masks.append((drops.random(z[-1].shape) >= cell.dropout) / (1 - cell.dropout))
        h = phi.function(z[-1]) * masks[-1]
    delta = [rng.standard_normal((networks, 1, sizes[1]))]
    for kernel, inner, mask in zip(kernels[:0:-1], z[-2::-1], masks[-2::-1], strict=True):
        delta.insert(0, (delta[0] @ kernel.transpose(0, 2, 1)) * phi.derivative(inner) * mask)
    lengths, signals = (
        np.log10(np.stack([np.mean(layer**2, axis=(1, 2)) for layer in layers], axis=1))
        for layers in (z, delta)
    )
    return lengths, (signals - signals[:, [cell.depth - 1]]) / 2


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [
        ("tanh", "orthogonal"),
        ("relu", "glorot_normal"),
        ("sigmoid", "glorot_normal"),
        ("sine(omega=3.0)", "glorot_normal"),
        pytest.param("tanh", "glorot_normal", marks=pytest.mark.long),
        pytest.param("relu", "orthogonal", marks=pytest.mark.long),
        pytest.param("sigmoid", "orthogonal", marks=pytest.mark.long),
    ],
)
def test_simulated_wide_networks(activation: str, initializer: str) -> None:
    cell = make_cell(initializer, activation=activation, width=250, depth=5)
    lengths, signals = simulate(cell, (200, 100), 20)
    found = predicted(cell, inputs=200, outputs=100)
    np.testing.assert_allclose(found.length, lengths.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(found.signal, signals.mean(axis=0), atol=0.04)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("initializer", ["glorot_normal", "orthogonal"])
def test_simulated_narrow_networks_drift_and_spread(activation: str, initializer: str) -> None:
    cell = make_cell(initializer, activation=activation, width=32, depth=8)
    lengths, signals = simulate(cell, (32, 32), 1000)
    found = predicted(cell, inputs=32, outputs=32)
    for law, spread, sample in [
        (found.length, found.length_sd, lengths),
        (found.signal, found.signal_sd, signals),
    ]:
        error = sample.std(axis=0) / math.sqrt(len(sample))
        np.testing.assert_allclose(law, sample.mean(axis=0), atol=4 * error.max() + 0.02)
        np.testing.assert_allclose(spread, sample.std(axis=0), rtol=0.15, atol=0.005)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("initializer", ["he_normal", "orthogonal"])
def test_simulated_networks_with_dropout(activation: str, initializer: str) -> None:
    cell = make_cell(initializer, activation=activation, width=64, depth=6, dropout=0.2)
    lengths, signals = simulate(cell, (64, 64), 400)
    found = predicted(cell, inputs=64, outputs=64)
    for law, spread, sample in [
        (found.length, found.length_sd, lengths),
        (found.signal, found.signal_sd, signals),
    ]:
        error = sample.std(axis=0) / math.sqrt(len(sample))
        np.testing.assert_allclose(law, sample.mean(axis=0), atol=4 * error.max() + 0.02)
        np.testing.assert_allclose(spread, sample.std(axis=0), rtol=0.2, atol=0.005)
    without = predicted(replace(cell, dropout=0.0), inputs=64, outputs=64)
    assert abs(without.length[-1] - lengths.mean(axis=0)[-1]) > 0.1


# ------------------------------------------------------------ normalization, residual branches


def structured(**changes: Any) -> Prediction | None:
    base = {"initializer": {"name": "variance_scaling", "scale": 2.0}, "width": 300, "depth": 8}
    return predict_structured(make_cell(**{**base, **changes}), 20, 1.5)


def simulated_signals(activation: str, width: int, batch: int, depth: int) -> Float64:
    """Return log10 RMS by layer of dC/dz, z after batch normalization."""
    random = np.random.default_rng(4)
    phi = activations.get(activation)
    h = random.standard_normal((batch, width))
    kept = []
    for _ in range(depth):
        w = random.standard_normal((width, width)) * math.sqrt(2.0 / width)
        z = h @ w
        deviation = z.std(axis=0)
        normal = (z - z.mean(axis=0)) / deviation
        kept.append((w, normal, deviation))
        h = phi.function(normal)
    above = random.standard_normal((batch, width))  # dC/dh of the last hidden layer
    found = []
    for w, normal, deviation in reversed(kept):
        through = above * phi.derivative(normal)
        found.append(0.5 * math.log10(np.mean(through**2)))
        centred = through - through.mean(axis=0) - normal * (through * normal).mean(axis=0)
        above = centred / deviation @ w.T
    return np.array(found[::-1])


def test_signals_of_batch_normalized_networks() -> None:
    batch = {"normalization": Component("batch"), "batch_size": 400}
    found = structured(**batch)
    assert found is not None
    assert np.isnan(found.length).all() and np.isnan(found.signal_sd).all()
    assert math.isnan(found.signal[-1])  # the output layer is another matter
    signals = simulated_signals("relu", 400, 400, 8)
    np.testing.assert_allclose(found.signal[:-1], signals - signals[-1], atol=0.03)
    growth = 0.5 * math.log10(math.pi / (math.pi - 1))
    np.testing.assert_allclose(-np.diff(found.signal[:-1]), growth)
    linear = structured(**batch, activation="linear")
    assert linear is not None
    assert linear.signal[0] == pytest.approx(3.5 * math.log10(398 / 397))


@pytest.mark.parametrize(("residual", "branch"), [("plain", 1.0), ("scaled", 1 / 7)])
def test_lengths_of_rectified_branches(residual: str, branch: float) -> None:
    found = structured(residual=residual)
    assert found is not None
    assert np.isnan(found.signal).all()
    random = np.random.default_rng(7)
    networks, width = 15, 600
    squares = np.empty((networks, 9))
    for network in squares:
        z = math.sqrt(2 * 1.5) * random.standard_normal(width)  # variance 2/20, 20 inputs of 1.5
        h, network[0] = np.maximum(z, 0.0), np.mean(z**2)
        for layer in range(1, 9):
            z = random.standard_normal((width, width)) @ h * math.sqrt(2.0 / width)
            network[layer] = np.mean(z**2)
            h = h + math.sqrt(branch) * np.maximum(z, 0.0)
    np.testing.assert_allclose(found.length, np.log10(squares.mean(axis=0)), atol=0.05)


def test_nothing_is_predicted_of_other_structures() -> None:
    xavier = {"name": "variance_scaling", "scale": 1.0}
    batch = Component("batch")
    for changes in (
        {},
        {"residual": "rezero"},
        {"residual": "plain", "activation": "tanh"},
        {"residual": "plain", "initializer": xavier},
        {"residual": "plain", "normalization": batch},
        {"residual": "plain", "use_bias": True, "bias_std": 0.1},
        {"residual": "plain", "widths": Component.parse("alternating(other=10)")},
        {"normalization": Component("layer")},
        {"normalization": batch, "dropout": 0.1},
        {"residual": "plain", "dropout": 0.1},
    ):
        assert structured(**changes) is None
