"""Initializers: every registry entry against its formula, and the independence of layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma

from gradprop.components import activations, initializers
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import (
    INITIALIZERS,
    bias_moments,
    draw_bias,
    draw_kernel,
    kernel_seed,
    stream_seed,
)
from gradprop.theory import unbiased_gain
from tests.reference import make_cell

Kernel = NDArray[np.float32]
Moments = Callable[[int, int], tuple[float, float]]

EVERY = pytest.mark.parametrize("name", INITIALIZERS)
RANDOM = pytest.mark.parametrize("name", [n for n in INITIALIZERS if INITIALIZERS[n].random])

# Mean and variance of an entry of a kernel with fan-in n and fan-out m.
MOMENTS: dict[str, Moments] = {
    "zeros": lambda n, m: (0, 0),
    "ones": lambda n, m: (1, 0),
    "constant": lambda n, m: (0.1, 0),
    "identity": lambda n, m: (1 / max(n, m), 1 / max(n, m) - 1 / max(n, m) ** 2),
    "normal": lambda n, m: (0, 0.01**2),
    "uniform": lambda n, m: (0, 0.05**2 / 3),
    "standard_heuristic": lambda n, m: (0, 1 / (3 * n)),
    "lecun_normal": lambda n, m: (0, 1 / n),
    "lecun_uniform": lambda n, m: (0, 1 / n),
    "glorot_normal": lambda n, m: (0, 2 / (n + m)),
    "glorot_uniform": lambda n, m: (0, 2 / (n + m)),
    "he_normal": lambda n, m: (0, 2 / n),
    "he_uniform": lambda n, m: (0, 2 / n),
    "orthogonal": lambda n, m: (0, 1 / max(n, m)),
    "pytorch_default": lambda n, m: (0, 1 / (3 * n)),
    "variance_scaling": lambda n, m: (0, 1 / n),
    # of the linear network, made for 400 or 150 units
    "sussillo_abbott": lambda n, m: (0, math.exp(1 / n) / n),
    "lyapunov": lambda n, m: (0, math.exp(-digamma(m / 2)) * m / 2 / n),
    "lsuv": lambda n, m: (0, 1 / max(n, m)),  # before its scaling to data
}

# Half the width of the uniform distributions.
LIMITS: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda n, m: 0.05,
    "standard_heuristic": lambda n, m: 1 / math.sqrt(n),
    "lecun_uniform": lambda n, m: math.sqrt(3 / n),
    "glorot_uniform": lambda n, m: math.sqrt(6 / (n + m)),
    "he_uniform": lambda n, m: math.sqrt(6 / n),
    # torch.nn.init.kaiming_uniform_: gain * sqrt(3 / fan_in), gain = sqrt(2 / (1 + a^2))
    "pytorch_default": lambda n, m: math.sqrt(2 / (1 + math.sqrt(5) ** 2)) * math.sqrt(3 / n),
}


def draw(
    initializer: Any, shape: tuple[int, int] = (7, 7), layer: int = 2, seed: int = 0
) -> Kernel:
    cell = make_cell(initializer=initializer, seed=seed, activation="linear")
    return draw_kernel(cell, layer, shape)


def check_moments(kernel: Kernel, mean: float, variance: float) -> None:
    """Compare with five standard errors of a normal sample (uniform ones have smaller)."""
    values = kernel.astype(np.float64)
    assert abs(values.mean() - mean) <= 5 * math.sqrt(variance / values.size) + 1e-7
    assert abs(values.var() - variance) <= 5 * math.sqrt(2 / values.size) * variance + 1e-12


@EVERY
@pytest.mark.parametrize("shape", [(400, 150), (150, 400)])
@pytest.mark.parametrize("seed", [0, 1])
def test_mean_and_variance(name: str, shape: tuple[int, int], seed: int) -> None:
    kernel = draw(name, shape, seed=seed)
    assert kernel.shape == shape
    assert kernel.dtype == np.float32
    check_moments(kernel, *MOMENTS[name](*shape))


def test_the_registry_is_covered() -> None:
    assert set(MOMENTS) == set(INITIALIZERS)
    assert all(entry.definition and entry.source for entry in INITIALIZERS.values())


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("shape", [(400, 150), (150, 400)])
def test_uniform_distributions_fill_their_range(name: str, shape: tuple[int, int]) -> None:
    limit = LIMITS[name](*shape)
    largest = np.abs(draw(name, shape)).max()
    assert 0.999 * limit < largest <= limit * (1 + 1e-6)


@pytest.mark.parametrize("name", ["lecun_normal", "glorot_normal", "he_normal"])
def test_normal_variance_scaling_is_truncated_at_two_deviations(name: str) -> None:
    n, m = 400, 150
    deviation = math.sqrt(MOMENTS[name](n, m)[1]) / 0.87962566103423978
    largest = np.abs(draw(name, (n, m))).max()
    assert 1.99 * deviation < largest <= 2 * deviation * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(40, 40), (60, 25), (25, 60)])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal(shape: tuple[int, int], gain: float) -> None:
    kernel = draw({"name": "orthogonal", "gain": gain}, shape).astype(np.float64)
    tall = kernel if shape[0] >= shape[1] else kernel.T
    np.testing.assert_allclose(tall.T @ tall, gain**2 * np.eye(min(shape)), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (3, 5)])
@pytest.mark.parametrize("gain", [1.0, -0.5])
def test_identity(shape: tuple[int, int], gain: float) -> None:
    kernel = draw({"name": "identity", "gain": gain}, shape)
    np.testing.assert_array_equal(kernel, gain * np.eye(*shape))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(mode: str, distribution: str) -> None:
    n, m = 400, 150
    parameters = {"scale": 3.0, "mode": mode, "distribution": distribution}
    fan = {"fan_in": n, "fan_out": m, "fan_avg": (n + m) / 2}[mode]
    check_moments(draw({"name": "variance_scaling", **parameters}, (n, m)), 0, 3.0 / fan)


def test_parameters_of_scale() -> None:
    check_moments(draw({"name": "normal", "stddev": 2.0}, (400, 150)), 0, 4.0)
    check_moments(draw({"name": "uniform", "limit": 3.0}, (400, 150)), 0, 3.0)
    assert (draw({"name": "constant", "value": -2.5}) == -2.5).all()


def test_a_mean_moves_the_same_draws() -> None:
    check_moments(draw({"name": "normal", "stddev": 2.0, "mean": 0.7}, (400, 150)), 0.7, 4.0)
    check_moments(draw({"name": "uniform", "limit": 3.0, "mean": -2.0}, (400, 150)), -2.0, 3.0)
    for name, scale in (("normal", "stddev"), ("uniform", "limit")):
        shifted, plain = (draw({"name": name, scale: 0.5, **mean}) for mean in ({"mean": 3.0}, {}))
        np.testing.assert_allclose(shifted - 3, plain, atol=1e-6)
    high = draw({"name": "uniform", "limit": 1.5, "mean": 0.5}, (400, 150))  # U(-1, 2)
    assert -1 <= high.min() < -0.999 and 1.999 < high.max() <= 2


def test_pytorch_default_is_the_standard_heuristic() -> None:
    np.testing.assert_array_equal(draw("pytorch_default"), draw("standard_heuristic"))


# --------------------------------------------------------------------------- random streams


@RANDOM
def test_layers_never_share_a_kernel(name: str, blobs: Dataset) -> None:
    from tests import keras_reference

    cell = make_cell(initializer=name, depth=6, activation="linear")
    drawn = [draw_kernel(cell, layer, (7, 7)) for layer in range(1, 8)]
    model = keras_reference.build_model(cell, blobs)
    built = [model.get_layer(f"layer_{layer}").kernel.numpy() for layer in range(1, 7)]
    for kernels in (drawn, built):
        assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


@RANDOM
@pytest.mark.parametrize("field", ["seed", "depth", "width"])
def test_other_cells_have_other_kernels(name: str, field: str) -> None:
    changes = [{field: value, "activation": "linear"} for value in (3, 4, 5)]
    cells = [make_cell(initializer=name, **change) for change in changes]
    kernels = [draw_kernel(cell, 2, (7, 7)) for cell in cells]
    assert len({kernel.tobytes() for kernel in kernels}) == 3


@EVERY
@pytest.mark.parametrize("seeds", [2, 60], ids=["one by one", "traced"])
def test_kernels_of_a_stack_are_those_of_its_cells(name: str, seeds: int) -> None:
    """Drawn by separate calls of the Keras initializer, or by one program for all seeds."""
    program: dict[str, Any] = {"depth": 2, "activation": "linear"}
    cells = [make_cell(initializer=name, seed=seed, **program) for seed in range(seeds)]
    cells.insert(1, make_cell(initializer={"name": "normal", "stddev": 0.3}, **program))
    shapes = [(5, 7), (7, 7), (7, 3)]
    inputs = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    drawn = initializers.draw_kernels(cells, shapes, inputs)
    assert [array.shape for array in drawn] == [(seeds + 1, *shape) for shape in shapes]
    for layer, (kernels, shape) in enumerate(zip(drawn, shapes, strict=True), start=1):
        expected = [draw_kernel(cell, layer, shape) for cell in cells]
        if name == "lsuv":  # up to a factor a kernel
            alone = [initializers.draw_kernels([cell], shapes, inputs) for cell in cells]
            np.testing.assert_array_equal(kernels, [found[layer - 1][0] for found in alone])
            factors = [
                kernel[0, 0] / before[0, 0]
                for kernel, before in zip(kernels, expected, strict=True)
            ]
            kernels = kernels / np.array(factors)[:, None, None]
            np.testing.assert_allclose(kernels, expected, rtol=1e-5)
        else:
            np.testing.assert_array_equal(kernels, expected)


@EVERY
def test_a_cell_always_has_the_same_kernels(name: str) -> None:
    first = draw(name, (7, 5), seed=3).copy()
    draw(name, (7, 5), seed=4)
    np.testing.assert_array_equal(draw(name, (7, 5), seed=3), first)
    unrelated = {"learning_rate": 0.3, "batch_size": 3, "epochs": 9, "activation": "relu"}
    if name in ("sussillo_abbott", "lyapunov"):  # their gain depends on the activation function
        unrelated["activation"] = "linear"
    other = make_cell(initializer=name, seed=3, **unrelated)
    np.testing.assert_array_equal(draw_kernel(other, 2, (7, 5)), first)


@pytest.mark.parametrize("name", [n for n in INITIALIZERS if not INITIALIZERS[n].random])
def test_what_is_not_random_is_the_same_everywhere(name: str) -> None:
    np.testing.assert_array_equal(draw(name, layer=1, seed=0), draw(name, layer=2, seed=9))


KERAS: dict[str, tuple[str, dict[str, Any]]] = {
    "normal": ("RandomNormal", {"mean": 0.0, "stddev": 0.01}),
    "uniform": ("RandomUniform", {"minval": -0.05, "maxval": 0.05}),
    "lecun_normal": ("LecunNormal", {}),
    "lecun_uniform": ("LecunUniform", {}),
    "glorot_normal": ("GlorotNormal", {}),
    "glorot_uniform": ("GlorotUniform", {}),
    "he_normal": ("HeNormal", {}),
    "he_uniform": ("HeUniform", {}),
    "orthogonal": ("Orthogonal", {"gain": 1.0}),
    "variance_scaling": (
        "VarianceScaling",
        {"scale": 1.0, "mode": "fan_in", "distribution": "untruncated_normal"},
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_the_same_as_a_direct_call_of_keras(name: str) -> None:
    import keras

    class_name, parameters = KERAS[name]
    seed = kernel_seed(make_cell(initializer=name), 2)
    direct = getattr(keras.initializers, class_name)(seed=seed, **parameters)((9, 4))
    np.testing.assert_array_equal(draw(name, (9, 4)), np.asarray(direct))


def test_scales_of_one_distribution_start_in_the_same_direction() -> None:
    small, large = draw("normal"), draw({"name": "normal", "stddev": 1.0})
    np.testing.assert_allclose(100 * small, large, rtol=1e-6)


def test_streams_differ_by_every_part() -> None:
    seeds = [stream_seed(*parts) for parts in (("a", 1), ("a", 2), ("b", 1), ("a", 1, 1), ("a1",))]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    # SHA-256 of "kernel/0", first four bytes, shifted: a stream must never move.
    assert stream_seed("kernel", 0) == 1_115_363_088


def test_biases() -> None:
    cell = make_cell(bias_std=2.0)
    bias = draw_bias(cell, 1, (3, 10_000))
    check_moments(bias, 0, 4.0)
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, draw_bias(cell, 1, (3, 10_000)))
    assert not np.array_equal(bias, draw_bias(cell, 2, (3, 10_000)))
    assert not np.array_equal(bias, draw_bias(make_cell(bias_std=2.0, seed=1), 1, (3, 10_000)))
    assert (draw_bias(make_cell(), 1, (3, 5)) == 0).all()


@pytest.mark.parametrize("n", [3, 400])
def test_biases_by_fan_in(n: int) -> None:
    """torch.nn.Linear: bound = 1 / sqrt(fan_in), bias ~ U(-bound, bound)."""
    cell = make_cell(bias_initializer="fan_in_uniform")
    bias = draw_bias(cell, 2, (n, 10_000))
    assert bias.dtype == np.float32 and bias.shape == (10_000,)
    check_moments(bias, 0, 1 / (3 * n))
    assert 0.999 / math.sqrt(n) < np.abs(bias).max() <= np.float32(1 / math.sqrt(n))
    # of a uniform distribution: the largest distance of the empirical law, at the 1 % level
    uniform = np.sort(bias.astype(np.float64) * math.sqrt(n) + 1) / 2
    assert np.abs(uniform - (np.arange(10_000) + 0.5) / 10_000).max() < 1.63 / math.sqrt(10_000)
    assert bias_moments(cell, n) == (0.0, 1 / (3 * n))
    other = draw_bias(make_cell(bias_initializer="fan_in_uniform", seed=1), 2, (n, 10_000))
    assert abs(np.corrcoef(bias, other)[0, 1]) < 0.05


def test_pytorch_as_a_whole() -> None:
    """Kernels and biases of one layer have one distribution, and are independent."""
    cell = make_cell(initializer="pytorch_default", bias_initializer="fan_in_uniform")
    kernel, bias = draw_kernel(cell, 2, (64, 300)), draw_bias(cell, 2, (64, 300))
    for values in (kernel, bias):
        assert 0.98 / 8 < np.abs(values).max() <= 1 / 8
    assert bias.var() == pytest.approx(kernel.var(), rel=0.15)
    assert abs(np.corrcoef(kernel[0], bias)[0, 1]) < 0.25


def test_constant_biases() -> None:
    cell = make_cell(bias_initializer={"name": "constant", "value": -0.3})
    assert (draw_bias(cell, 1, (7, 5)) == np.float32(-0.3)).all()
    assert bias_moments(cell, 7) == (-0.3, 0.0)
    assert bias_moments(make_cell(bias_std=0.2), 7) == (0.0, 0.2**2)
    none = make_cell(bias_initializer="constant", use_bias=False)
    assert bias_moments(none, 7) == (0.0, 0.0)


def test_the_scale_of_biases_is_said_once() -> None:
    cell = make_cell(bias_initializer="fan_in_uniform", bias_std=0.1)
    assert initializers.conflict(cell) == (
        "bias_std: biases of fan_in_uniform are not normal; allowed: 0, or bias_initializer: normal"
    )
    assert initializers.conflict(make_cell(bias_std=0.1)) is None


def test_replicas_may_have_other_biases() -> None:
    from gradprop.grid import sharding

    cells = [make_cell(), make_cell(bias_initializer="fan_in_uniform")]
    assert len(sharding.stacks(cells)) == 1
    assert cells[0].id == make_cell(bias_initializer="normal").id != cells[1].id


# ------------------------------------------------------- gains without drift, and scaling to data


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("sussillo_abbott", "relu"),
        ("lyapunov", "relu"),
        ("lyapunov", "leaky_relu"),
    ],
)
def test_gains_of_an_activation(name: str, activation: str) -> None:
    n, m = 400, 150
    cell = make_cell(initializer=name, activation=activation)
    gain = {
        "sussillo_abbott": math.sqrt(2) * math.exp(1.2 / (n - 2.4)),
        "lyapunov": unbiased_gain(m, activation),
    }[name]
    check_moments(draw_kernel(cell, 2, (n, m)), 0, gain**2 / n)


def test_the_lyapunov_gain_leaves_lengths_without_drift() -> None:
    """Monte Carlo: the mean of ln M over networks of 10 units stays at 0; that of He's falls."""
    rng = np.random.default_rng(0)
    growth = {}
    for name in ("lyapunov", "sussillo_abbott", "he_normal"):
        cell = make_cell(initializer=name, activation="relu")
        entries = np.concatenate(
            [draw_kernel(cell, layer, (10, 10)).ravel() for layer in range(1, 301)]
        )
        deviation = math.sqrt(np.mean(entries.astype(np.float64) ** 2))
        outputs = np.maximum(rng.normal(0, deviation * math.sqrt(10), (100_000, 10)), 0)
        squares = np.mean(outputs**2, axis=1)
        growth[name] = np.log(squares[squares > 0]).mean()
    assert abs(growth["lyapunov"]) < 0.03  # five standard errors of the draws and of the kernels
    assert abs(growth["sussillo_abbott"]) < 0.03 + 0.02  # the fit is 0.6 % off, ln of a square
    assert growth["he_normal"] < -0.2


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softsign"])
def test_lsuv_has_unit_variance(activation: str, use_bias: bool, blobs: Dataset) -> None:
    """Of W h, whatever h is: biases of layers before included."""
    cell = make_cell(
        initializer="lsuv", activation=activation, depth=5, bias_std=0.5, use_bias=use_bias
    )
    shapes = initializers.layer_shapes(7, cell, 3)
    kernels = initializers.draw_kernels([cell], shapes, blobs.x_train)
    hidden = blobs.x_train.astype(np.float64)  # all of them: fewer than 256
    for number, (kernel,) in enumerate(kernels, start=1):
        z = hidden @ kernel
        assert z.var() == pytest.approx(1, abs=1e-6)
        bias = draw_bias(cell, number, kernel.shape) if use_bias else 0
        hidden = activations.get(activation).function(z + bias)


def test_lsuv_examples_and_silent_layers(blobs: Dataset) -> None:
    shapes = [(7, 4), (4, 3)]
    few, many = (make_cell(initializer={"name": "lsuv", "examples": n}, depth=1) for n in (5, 256))
    scaled = [initializers.draw_kernels([c], shapes, blobs.x_train)[0][0] for c in (few, many)]
    assert np.ptp(scaled[0] / scaled[1]) < 1e-5
    assert not np.allclose(scaled[0], scaled[1], rtol=1e-3)
    silent = initializers.draw_kernels([many], shapes, np.zeros((9, 7), np.float32))
    for layer, (kernel,) in enumerate(silent, start=1):
        np.testing.assert_array_equal(kernel, draw_kernel(many, layer, shapes[layer - 1]))
