"""A multilayer perceptron in NumPy and float64: what the float32 programs are tested against.

Every quantity comes with a bound of the error that float32 arithmetic can make in it: one
rounding of the largest term of every sum, propagated to first order through the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gradprop.components import activations, optimizers
from gradprop.components.activations import ActivationLike
from gradprop.grid import axes
from gradprop.spec import Cell, Component

Float64 = NDArray[np.float64]

ROUNDING = 2.0**-23

# TensorFlow flushes numbers below 2^-126 to zero; a minibatch and a layer multiply them.
SMALLEST = 2.0**-120


def make_cell(**changes: Any) -> Cell:
    """Return a small cell.

    Components as they stand in a study's YAML, or by their labels; measurements also as they are.
    """
    values: dict[str, Any] = {
        "dataset": "gaussian_mixture",
        "depth": 2,
        "width": 7,
        "activation": "tanh",
        "initializer": "glorot_normal",
        "learning_rate": 0.1,
        "batch_size": 13,
        "epochs": 1,
        "seed": 0,
        "optimizer": "sgd",
        "probes": 3,
        **changes,
    }
    for key, value in values.items():
        if key in axes.REGISTRIES and isinstance(value, str) and "(" in value:
            value = Component.parse(value).document()
        if isinstance(value, tuple):
            continue
        if key == "measurements" and isinstance(value, str):
            value = [value]
        (values[key],) = axes.axis_values(key, value if key == "measurements" else [value])
    return Cell(**values)


@dataclass(frozen=True)
class Bounded:
    """An exact value and how far float32 arithmetic may be from it."""

    value: Float64
    error: Float64

    def check(self, measured: ArrayLike, roundings: float = 6) -> None:
        """Assert that `measured` is within `roundings` times the error."""
        actual = np.asarray(measured, dtype=np.float64)
        assert actual.shape == self.value.shape
        excess = (np.abs(actual - self.value) / (self.error + SMALLEST)).max()
        assert excess <= roundings, f"off by {excess:.3g} roundings"


@dataclass(frozen=True)
class Step:
    """One forward and backward pass; lists have one entry a layer."""

    losses: Bounded  # (batch,)
    preactivations: list[Bounded]  # (batch, units)
    activations: list[Bounded]  # (batch, units)
    signals: list[Bounded]  # (batch, units), of the loss of one example
    gradients: list[Bounded]  # (fan_in, fan_out), of the mean loss
    bias_gradients: list[Bounded]  # (fan_out,), of the mean loss


def loss_and_signal(loss: str, outputs: Bounded, targets: NDArray[Any]) -> tuple[Bounded, Bounded]:
    """Return the loss of every example and its derivative by the outputs."""
    z, error = outputs.value, outputs.error
    if loss == "output_sum":
        total = Bounded(z.sum(axis=1), (error + ROUNDING * np.abs(z)).sum(axis=1))
        return total, Bounded(np.ones_like(z), np.zeros_like(z))
    if loss == "binary_cross_entropy":
        y, p = targets[:, None], special.expit(z)
        # ln(1 + exp(-z)) or ln(1 + exp(z)), whose slopes are 1 or smaller.
        terms = np.where(y == 1, np.logaddexp(0, -z), np.logaddexp(0, z))[:, 0]
        bounds = error[:, 0] + ROUNDING * (np.abs(z[:, 0]) + terms)
        return Bounded(terms, bounds), Bounded(p - y, p * (1 - p) * error + ROUNDING)
    if loss == "mean_squared_error":
        if targets.ndim == 1:
            targets = np.eye(z.shape[1])[targets]
        difference = z - targets
        error = error + ROUNDING * (np.abs(z) + np.abs(targets))
        values = Bounded(
            (difference**2).mean(axis=1),
            (2 * np.abs(difference) * error + ROUNDING * difference**2).mean(axis=1),
        )
        return values, Bounded(2 * difference / z.shape[1], 2 * error / z.shape[1])
    assert loss == "cross_entropy"
    rows = np.arange(len(z))
    shifted = z - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    losses = np.log(total) - shifted[rows, targets]
    # The loss is a difference of two logits or smaller, plus a logarithm of order 1.
    largest = error.max(axis=1) + ROUNDING * np.abs(z).max(axis=1) + ROUNDING
    softmax = np.exp(shifted) / total[:, None]
    hot = np.zeros_like(z)
    hot[rows, targets] = 1
    signal_error = softmax * (2 * largest[:, None] + ROUNDING) + ROUNDING * hot
    return Bounded(losses, 2 * largest), Bounded(softmax - hot, signal_error)


def run_step(
    kernels: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    activation: ActivationLike,
    loss: str,
    inputs: ArrayLike,
    targets: NDArray[Any],
) -> Step:
    """Return everything that one step computes before the update; `biases` may be empty."""
    phi = activations.get(activation)
    weights = [np.asarray(kernel, dtype=np.float64) for kernel in kernels]
    depth = len(weights) - 1
    x = np.asarray(inputs, dtype=np.float64)
    layer_inputs = [Bounded(x, np.zeros_like(x))]
    preactivations: list[Bounded] = []
    for layer, weight in enumerate(weights):
        h = layer_inputs[-1]
        bias = np.asarray(biases[layer], dtype=np.float64) if biases else np.zeros(1)
        terms = np.abs(h.value) @ np.abs(weight) + np.abs(bias)
        z = Bounded(h.value @ weight + bias, h.error @ np.abs(weight) + ROUNDING * terms)
        preactivations.append(z)
        if layer < depth:
            value = phi.function(z.value)
            terms = np.abs(value)
            if phi.name.partition("(")[0] in ("elu", "selu"):  # exp(z) - 1 has terms of alpha
                terms = terms + 2 * max(float(phi.derivative(-1e-9)), 1.0) * (z.value < 0)
            error = np.abs(phi.derivative(z.value)) * z.error
            layer_inputs.append(Bounded(value, error + ROUNDING * terms))
    outputs = preactivations[-1]
    losses, signal = loss_and_signal(loss, outputs, targets)
    signals = [signal]
    for z, weight in zip(preactivations[-2::-1], weights[:0:-1], strict=True):
        above = signals[0]
        back = above.value @ weight.T
        back_error = above.error @ np.abs(weight).T
        back_error += ROUNDING * (np.abs(above.value) @ np.abs(weight).T)
        slope = phi.derivative(z.value)
        slope_error = np.abs(phi.second_derivative(z.value)) * z.error + ROUNDING
        error = np.abs(slope) * back_error + np.abs(back) * slope_error
        signals.insert(0, Bounded(back * slope, error))
    return Step(
        losses,
        preactivations,
        [*layer_inputs[1:], outputs],
        signals,
        [_mean_product(h, d) for h, d in zip(layer_inputs, signals, strict=True)],
        [_mean_product(_ones_like(d), d, ones=True) for d in signals],
    )


class Optimizer:
    """An optimizer in float64; its terms are what a sum of float32 numbers would round."""

    def __init__(self, cell: Cell) -> None:
        self.name, self.rate = cell.optimizer.name, cell.learning_rate
        self.parameters = optimizers.OPTIMIZERS.parameters_of(cell.optimizer)
        self.steps = 0
        self.first: list[Float64] = []
        self.first_terms: list[Float64] = []
        self.second: list[Float64] = []

    def changes(self, gradients: Sequence[ArrayLike]) -> list[Bounded]:
        """Return what the next step adds to the variables."""
        exact = [np.asarray(gradient, dtype=np.float64) for gradient in gradients]
        if not self.steps:
            self.first = [np.zeros_like(g) for g in exact]
            self.first_terms = [np.zeros_like(g) for g in exact]
            self.second = [np.zeros_like(g) for g in exact]
        self.steps += 1
        return [
            {"sgd": self._sgd, "adam": self._adam}[self.name](index, gradient)
            for index, gradient in enumerate(exact)
        ]

    def _sgd(self, index: int, gradient: Float64) -> Bounded:
        momentum = self.parameters["momentum"]
        self.first[index] = momentum * self.first[index] - self.rate * gradient
        terms = momentum * self.first_terms[index] + self.rate * np.abs(gradient)
        self.first_terms[index] = terms
        return Bounded(self.first[index], ROUNDING * terms)

    def _adam(self, index: int, gradient: Float64) -> Bounded:
        decay, slow_decay = self.parameters["beta_1"], self.parameters["beta_2"]
        self.first[index] = decay * self.first[index] + (1 - decay) * gradient
        terms = decay * self.first_terms[index] + (1 - decay) * np.abs(gradient)
        self.first_terms[index] = terms
        self.second[index] = slow_decay * self.second[index] + (1 - slow_decay) * gradient**2
        unbiased = 1 - slow_decay**self.steps
        factor = self.rate * np.sqrt(unbiased) / (1 - decay**self.steps)
        size = factor / (np.sqrt(self.second[index]) + self.parameters["epsilon"])
        # 1 - beta_2^t is a small difference of two numbers near 1.
        return Bounded(-size * self.first[index], (ROUNDING / unbiased) * size * terms)


def _ones_like(signal: Bounded) -> Bounded:
    ones = np.ones((len(signal.value), 1))
    return Bounded(ones, np.zeros_like(ones))


def _mean_product(h: Bounded, signal: Bounded, ones: bool = False) -> Bounded:
    batch = len(signal.value)
    magnitude, terms = np.abs(h.value), np.abs(signal.value)
    error = h.error.T @ terms + magnitude.T @ (signal.error + ROUNDING * terms)
    product = Bounded(h.value.T @ signal.value / batch, error / batch)
    return Bounded(product.value[0], product.error[0]) if ones else product
