"""Whether own activation functions leave a replica's bits alone, whatever stack it is in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components.activations import ACTIVATIONS
from gradprop.errors import GradpropError
from gradprop.spec import Stack
from gradprop.training.backend import tf
from gradprop.training.losses import Tensor
from gradprop.training.stacking import in_whole_packets

LARGEST = 40  # replicas of the stack that others are compared with
SHAPES = ((13, 7), (64, 64), (5, 37))  # (batch, units), with and without whole vector registers


def separated(stacks: Sequence[Stack]) -> list[Stack]:
    """Return stacks with those cells apart whose activation function couples replicas.

    Raises
    ------
    gradprop.errors.GradpropError
        If an activation function is not element-wise.
    """
    return list(chain(*(_apart(stack) for stack in stacks)))


def _apart(stack: Stack) -> list[Stack]:
    name = stack.first.activation
    if ACTIVATIONS[name].tensors is None or is_independent(name):
        return [stack]
    return stack.chunks(1)


@cache
def is_independent(name: str) -> bool:
    """Tell whether a replica has the same bits alone and in stacks of 3 and of 40.

    Compared are values and derivatives, compiled as in training, at shapes that fill whole vector
    registers and at others. A line is printed if they differ.

    Raises
    ------
    gradprop.errors.GradpropError
        If the function is not element-wise.
    """
    rng = np.random.default_rng(0)
    both = _compiled(ACTIVATIONS[name].tensors)
    draws = [3 * rng.standard_normal((LARGEST, *shape)).astype(np.float32) for shape in SHAPES]
    if not all(_is_element_wise(both, z[:1]) for z in draws):
        file = next(iter(ACTIVATIONS.owners[name]), "")
        raise GradpropError(
            f"{file}: activation {name!r}: not element-wise: other entries of a layer change "
            "where a value stands"
        )
    if all(_has_the_same_bits(both, z) for z in draws):
        return True
    print(
        f"gradprop: the activation {name!r} gives a network other bits in another stack; its "
        "networks are trained one by one, which takes longer",
        file=sys.stderr,
    )
    return False


def _compiled(phi: Any) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return the function from z (replicas, batch, units) to phi(z) and phi'(z), as trained."""

    @tf.function(autograph=False)
    def run(z: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = in_whole_packets(phi, z)
        return y, tape.gradient(y, z, unconnected_gradients="zero")

    return lambda z: [part.numpy() for part in run(tf.constant(z))]


def _is_element_wise(both: Any, z: NDArray[np.float32]) -> bool:
    """Tell whether exchanging entries of a network, which trains twice, exchanges the results."""
    order = np.random.default_rng(1).permutation(z[0].size)

    def exchanged(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array.reshape(len(array), -1)[:, order].reshape(array.shape)

    twice = np.concatenate([z, z])
    pairs = zip(both(twice), both(exchanged(twice)), strict=True)
    return all(np.allclose(exchanged(a), b, rtol=1e-4, atol=1e-6) for a, b in pairs)


def _has_the_same_bits(both: Any, z: NDArray[np.float32]) -> bool:
    whole = both(z)
    for replica in (0, 1, LARGEST - 1):
        others = np.roll(z, -replica, axis=0)
        for stack in (others[[0, 0]], others[:3]):  # a cell that is alone is trained twice
            for expected, found in zip(whole, both(stack), strict=True):
                if expected[replica].tobytes() != found[0].tobytes():
                    return False
    return True
