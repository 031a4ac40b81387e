"""Whether own components leave a replica's bits alone, whatever stack it is in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components import activations
from gradprop.components.optimizers import OPTIMIZERS, create_update
from gradprop.errors import GradpropError
from gradprop.spec import Component, Stack
from gradprop.training.backend import tf
from gradprop.training.losses import Tensor, in_whole_packets

Float32 = NDArray[np.float32]
# From arrays of all replicas, which are their first axis, to what is computed of them.
Program = Callable[[Float32], list[Float32]]

LARGEST = 40  # replicas of the stack that others are compared with
SHAPES = ((13, 7), (64, 64), (5, 37))  # with and without whole vector registers
STEPS = 3

_UNREPEATABLE = "gives another result when called again (state or random numbers)"


def separated(stacks: Sequence[Stack]) -> list[Stack]:
    """Return stacks with those cells apart whose own activation or optimizer couples replicas.

    Raises
    ------
    gradprop.errors.GradpropError
        If an activation function is not element-wise, or an optimizer mixes networks.
    """
    return list(chain(*(_apart(stack) for stack in stacks)))


def _apart(stack: Stack) -> list[Stack]:
    cell = stack.first
    independent = [is_independent(cell.activation), has_independent_steps(cell.optimizer)]
    return [stack] if all(independent) else stack.chunks(1)


@cache
def is_independent(activation: Component) -> bool:
    """Tell whether a replica has the same bits alone and in stacks of 3 and of 40.

    Compared are values and derivatives, compiled as in training. Those of the package are known to
    be independent. A line is printed if bits differ.

    Raises
    ------
    gradprop.errors.GradpropError
        If the function is not element-wise, or not a function of its argument alone.
    """
    entry = activations.get(activation)
    if not entry.code or entry.tensors is None:
        return True
    what, program, draws = f"activation {activation.label!r}", _activation(entry.tensors), _draws()
    if not _is_repeatable(program, draws):
        raise GradpropError(f"{entry.place}: {what}: {_UNREPEATABLE}")
    if not all(_is_element_wise(program, z[:1]) for z in draws):
        problem = "not element-wise: other entries of a layer change where a value stands"
        raise GradpropError(f"{entry.place}: {what}: {problem}")
    return _keeps_bits(what, program, draws)


@cache
def has_independent_steps(optimizer: Component) -> bool:
    """Tell the same of the steps of an optimizer, and of the variable after them.

    Raises
    ------
    gradprop.errors.GradpropError
        If the steps of a network depend on the networks beside it or on their number, are others
        when they are computed again, or are never finite.
    """
    entry = OPTIMIZERS[optimizer.name]
    if not entry.code:
        return True
    what, program, draws = f"optimizer {optimizer.label!r}", _steps(optimizer), _draws(1 + STEPS)
    if problem := _problem_of_steps(program, draws):
        raise GradpropError(f"{entry.place}: {what}: {problem}")
    return _keeps_bits(what, program, draws)


def _problem_of_steps(program: Program, draws: Sequence[Float32]) -> str:
    if not _is_repeatable(program, draws):
        return _UNREPEATABLE
    if not any(_is_finite_somewhere(program, part) for z in draws for part in (z, np.abs(z))):
        return "returned NaN or infinity for finite gradients"
    if not all(_ignores_others(program, z[:3]) for z in draws):
        return "mixes networks: the first axis is theirs; reduce over the axes 1 and 2"
    if not all(_ignores_number(program, z[:2]) for z in draws):
        return "depends on how many networks train together (by their number or random numbers)"
    return ""


def _draws(*leading: int) -> list[Float32]:
    """Return random arrays (replicas, *leading, rows, columns)."""
    rng = np.random.default_rng(0)
    return [
        3 * rng.standard_normal((LARGEST, *leading, *shape)).astype(np.float32) for shape in SHAPES
    ]


def _activation(phi: Any) -> Program:
    """Return the program from z (replicas, batch, units) to phi(z) and phi'(z)."""

    @tf.function(autograph=False)
    def run(z: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = in_whole_packets(phi, z)
        return y, tape.gradient(y, z, unconnected_gradients="zero")

    return lambda z: [part.numpy() for part in run.get_concrete_function(_spec(z))(tf.constant(z))]


def _spec(z: Float32) -> Tensor:
    """Return what a program is traced for: one shape, and told so, lest TensorFlow warns."""
    return tf.TensorSpec(z.shape, tf.float32)


def _steps(optimizer: Component) -> Program:
    """Return the program from a variable and gradients to its changes and what becomes of it.

    They stand one after another on the second axis. Every replica has its own learning rate.
    """

    def run(z: Float32) -> list[Float32]:
        start, *gradients = np.moveaxis(z, 1, 0)
        rates = 0.01 * (1 + np.abs(start[:, :1, :1]))
        variable = tf.Variable(start)
        update = create_update(optimizer, [variable], rates)
        step = tf.function(lambda gradient: update([gradient])[0], autograph=False)
        traced = step.get_concrete_function(_spec(start))
        changes = [traced(tf.constant(gradient)).numpy() for gradient in gradients]
        return [np.stack(changes, axis=1), variable.numpy()]

    return run


def _is_element_wise(program: Program, z: Float32) -> bool:
    """Tell whether exchanging entries of a network, which trains twice, exchanges the results."""
    order = np.random.default_rng(1).permutation(z[0].size)

    def exchanged(array: Float32) -> Float32:
        return array.reshape(len(array), -1)[:, order].reshape(array.shape)

    twice = np.concatenate([z, z])
    pairs = zip(program(twice), program(exchanged(twice)), strict=True)
    return all(_are_close(exchanged(a), b) for a, b in pairs)


def _is_repeatable(program: Program, draws: Sequence[Float32]) -> bool:
    """Tell whether tracing the program anew, as for every stack, gives the same bits."""
    return all(
        a.tobytes() == b.tobytes()
        for z in draws
        for a, b in zip(program(z[:1]), program(z[:1]), strict=True)
    )


def _is_finite_somewhere(program: Program, z: Float32) -> bool:
    """Tell whether all first results of any replica are finite."""
    results = program(z)[0]
    return bool(np.isfinite(results).reshape(len(results), -1).all(axis=1).any())


def _ignores_others(program: Program, z: Float32) -> bool:
    """Tell whether each of three replicas has the same results beside either of the others."""
    found = {pair: program(z[[*pair]]) for pair in permutations(range(3), 2)}
    return all(
        _are_close(a[0], b[0])
        for (one, other), results in found.items()
        for a, b in zip(results, found[one, 3 - one - other], strict=True)
    )


def _ignores_number(program: Program, z: Float32) -> bool:
    """Tell whether the first of two replicas has the same results alone."""
    return all(_are_close(a[0], b[0]) for a, b in zip(program(z), program(z[:1]), strict=True))


def _are_close(a: Float32, b: Float32) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)


def _keeps_bits(what: str, program: Program, draws: Sequence[Float32]) -> bool:
    """Tell whether a replica has the same bits in every stack; print a line if not."""
    if all(_has_the_same_bits(program, z) for z in draws):
        return True
    print(
        f"gradprop: the {what} gives a network other bits in another stack; its networks are "
        "trained one by one, which takes longer",
        file=sys.stderr,
    )
    return False


def _has_the_same_bits(program: Program, z: Float32) -> bool:
    whole = program(z)
    for first in (0, 1, LARGEST - 1):
        three = [(first + number) % LARGEST for number in range(3)]
        for chosen in ([first, first], three):  # a cell that is alone is trained twice
            for expected, found in zip(whole, program(z[chosen]), strict=True):
                if expected[chosen].tobytes() != found.tobytes():
                    return False
    return True
