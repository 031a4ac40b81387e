"""The same grid in JAX: `vmap` over the cells of a stack, `jit`, one call a step.

JAX is no dependency of the project; this module is imported only where it is installed. Its
processes import no TensorFlow: kernels of the same variance are drawn with NumPy.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import work
from gradprop.components import datasets
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import layer_shapes
from gradprop.grid import sharding
from gradprop.spec import Cell, Component, Stack

jax: Any = importlib.import_module("jax")
jnp: Any = importlib.import_module("jax.numpy")

Array = Any
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def train_grid(
    block: Mapping[str, Any], probed: Sequence[int], data: str, repetition: int
) -> dict[str, Any]:
    """Train all cells of a grid block, probing at the steps `probed`, the last after all others.

    Returns
    -------
    dict
        CPU seconds by depth, compilation included.
    """
    dataset = datasets.read(Path(data))
    seconds: dict[str, float] = {}
    for stack in sharding.stacks(work.expand(block)):
        for chunk in stack.chunks(40):
            start = time.process_time()
            train_stack(chunk, dataset, probed)
            depth = str(chunk.first.depth)
            seconds[depth] = seconds.get(depth, 0.0) + time.process_time() - start
    return {"seconds": seconds}


def train_stack(stack: Stack, dataset: Dataset, probed: Sequence[int]) -> list[Mapping[str, Any]]:
    """Train a stack; return what its probes measured."""
    cell = stack.first
    program = Program(cell, dataset)
    parameters = draw_parameters(stack)
    rates = jnp.array([c.learning_rate for c in stack.cells], dtype=jnp.float32)
    rows: list[Mapping[str, Any]] = []
    batches = minibatches(stack, len(dataset.x_train))
    for step, batch in zip(range(max(probed) + 1), batches, strict=False):
        if step not in probed:
            parameters, losses = program.step(parameters, rates, batch)
            continue
        test = program.evaluate(parameters, dataset.x_test, dataset.y_test)
        if step == max(probed):
            program.evaluate(parameters, dataset.x_train, dataset.y_train)
        before = parameters
        parameters, losses, arrays = program.probe(before, rates, batch)
        gradients, signals, zs, activations, updates = (
            [np.asarray(array) for array in group] for group in arrays
        )
        weights = [np.asarray(kernel) for kernel, _ in before]
        layers = work.statistics(cell, gradients, signals, zs, activations, weights, updates)
        rows.append(
            {"step": step, "loss": np.asarray(losses), "test": np.asarray(test), "layers": layers}
        )
    return rows


class Program:
    """The compiled functions of one stack."""

    def __init__(self, cell: Cell, dataset: Dataset) -> None:
        self.activation = ACTIVATIONS[cell.activation]
        x, y = jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train)

        def step(parameters: Array, rate: Array, batch: Array) -> Array:
            gradients, losses = jax.grad(self._objective, has_aux=True)(
                parameters, x[batch], y[batch]
            )
            return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), losses

        def probe(parameters: Array, rate: Array, batch: Array) -> Array:
            inputs, targets = x[batch], y[batch]
            # Zeros added to the pre-activations: the gradient with respect to them is dC/dz.
            zeros = [jnp.zeros((len(batch), bias.shape[-1])) for _, bias in parameters]
            (gradients, signals), (losses, zs, activations) = jax.grad(
                self._observed, argnums=(0, 1), has_aux=True
            )(parameters, zeros, inputs, targets)
            changes = jax.tree.map(lambda g: rate * g, gradients)
            after = jax.tree.map(lambda p, c: p - c, parameters, changes)
            kernels, updates = [g for g, _ in gradients], [c for c, _ in changes]
            return after, losses, (kernels, signals, zs, activations, updates)

        def evaluate(parameters: Array, inputs: Array, targets: Array) -> Array:
            return self._objective(parameters, inputs, targets)[0]

        self.step = jax.jit(jax.vmap(step), donate_argnums=0)
        self.probe = jax.jit(jax.vmap(probe))
        self.evaluate = jax.jit(jax.vmap(evaluate, in_axes=(0, None, None)))

    def _objective(self, parameters: Array, inputs: Array, targets: Array) -> Array:
        hidden = inputs
        for kernel, bias in parameters[:-1]:
            hidden = self.activation(hidden @ kernel + bias)
        kernel, bias = parameters[-1]
        losses = _losses(hidden @ kernel + bias, targets)
        return losses.mean(), losses

    def _observed(self, parameters: Array, zeros: Array, inputs: Array, targets: Array) -> Array:
        hidden, zs, activations = inputs, [], []
        for number, (kernel, bias) in enumerate(parameters, start=1):
            z = hidden @ kernel + bias + zeros[number - 1]
            hidden = self.activation(z) if number < len(parameters) else z
            zs.append(z)
            activations.append(hidden)
        losses = _losses(hidden, targets)
        return losses.mean(), (losses, zs, activations)


def _losses(outputs: Array, targets: Array) -> Array:
    logs = jax.nn.log_softmax(outputs)
    return -jnp.take_along_axis(logs, targets[:, None], axis=1)[:, 0]


def minibatches(stack: Stack, examples: int) -> Iterator[NDArray[np.int32]]:
    """Yield the examples of one step after another, (replicas, batch), without end."""
    size = stack.first.batch_size
    streams = [np.random.default_rng(cell.seed) for cell in stack.cells]
    while True:
        order = np.stack([stream.permutation(examples) for stream in streams]).astype(np.int32)
        for start in range(0, examples - size + 1, size):
            yield order[:, start : start + size]


def draw_parameters(stack: Stack) -> list[tuple[Array, Array]]:
    """Draw kernels and zero biases of all layers, with a leading replica axis."""
    streams = [np.random.default_rng(cell.seed) for cell in stack.cells]
    parameters = []
    for fan_in, fan_out in layer_shapes(work.INPUTS, stack.first, work.OUTPUTS):
        kernels = [
            draw_kernel(cell.initializer, fan_in, fan_out, stream)
            for cell, stream in zip(stack.cells, streams, strict=True)
        ]
        bias = np.zeros((len(kernels), 1, fan_out), dtype=np.float32)
        parameters.append((jnp.asarray(np.stack(kernels)), jnp.asarray(bias)))
    return parameters


def draw_kernel(
    initializer: Component, fan_in: int, fan_out: int, stream: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a kernel of the initializer's variance (or an orthogonal one)."""
    values = stream.standard_normal((fan_in, fan_out), dtype=np.float32)
    if initializer.name == "orthogonal":
        q = np.linalg.qr(values if fan_in >= fan_out else values.T)[0]
        return np.ascontiguousarray(q if fan_in >= fan_out else q.T)
    variances = {
        "zeros": 0.0,
        "normal": float(dict(initializer.parameters).get("stddev", 0.01)) ** 2,
        "standard_heuristic": 1 / (3 * fan_in),
        "glorot_normal": 2 / (fan_in + fan_out),
        "glorot_uniform": 2 / (fan_in + fan_out),
        "he_normal": 2 / fan_in,
    }
    return values * np.float32(variances[initializer.name] ** 0.5)
