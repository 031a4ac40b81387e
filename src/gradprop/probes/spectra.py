"""Singular values of kernels and Jacobians, in float64 and beyond the range of float64.

A row vector h of a layer's inputs gives z = h W and phi(z); J_l = W_l diag(phi'(z_l)) is then the
(transposed) Jacobian of layer l at one example, and products of J_l are Jacobians of several
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn requires it

from gradprop.components.activations import Activation

Float64 = NDArray[np.float64]

MATRICES = ("kernel", "layer_jacobian", "hidden_jacobian", "input_output_jacobian")


class Spectrum(NamedTuple):
    """Singular values, the largest first."""

    log10: Float64  # -inf where a singular value is 0, NaN where an entry is not finite
    resolved: NDArray[np.bool_]  # whether it is above the rounding errors of the matrix


def spectrum(factors: Sequence[Float64]) -> Spectrum:
    """Return the singular values of a product of matrices.

    The product is scaled by powers of 2 as it grows, which rounds nothing: the Jacobian of a
    hundred layers leaves the range of float64. Singular values below
    ``factors * max(shape) * 2^-52`` times the largest one are made of rounding errors and marked as
    not resolved.
    """
    product, exponent = _scaled(factors[0])
    for factor in factors[1:]:
        matrix, more = _scaled(factor)
        with np.errstate(all="ignore"):  # NaN and infinity are data here
            product, rest = _scaled(product @ matrix)
        exponent += more + rest
    if not np.isfinite(product).all():
        undefined = np.full(min(product.shape), np.nan)
        return Spectrum(undefined, np.zeros(len(undefined), dtype=bool))
    values = np.linalg.svd(product, compute_uv=False)
    floor = len(factors) * max(product.shape) * np.finfo(np.float64).eps * values[0]
    with np.errstate(divide="ignore"):
        log10 = np.log10(values) + exponent * np.log10(2.0)
    return Spectrum(log10, values > floor)


def _scaled(matrix: Float64) -> tuple[Float64, int]:
    """Return m and e with matrix = m 2^e and a largest entry of m between 1/2 and 1."""
    largest = float(np.abs(matrix).max())
    if not np.isfinite(largest) or largest == 0:
        return matrix, 0
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(matrix, -exponent), exponent


def layer_jacobians(
    kernels: Sequence[NDArray[np.float32]],
    preactivations: Sequence[NDArray[np.float32]],
    functions: Sequence[Activation],
) -> list[Float64]:
    """Return J_l = W_l diag(phi'(z_l)) of layers 1 … depth at one example.

    Parameters
    ----------
    kernels
        Of layers 1 … depth, (fan_in, fan_out) each.
    preactivations
        z of these layers at the example, (units,) each.
    functions
        phi of these layers.
    """
    found = []
    for kernel, z, phi in zip(kernels, preactivations, functions, strict=True):
        finite = np.isfinite(z)
        slope = phi.derivative(np.where(finite, z, 0))
        found.append(kernel.astype(np.float64) * np.where(finite, slope, np.nan))
    return found


def spectra(
    kernels: Sequence[NDArray[np.float32]],
    preactivations: Sequence[NDArray[np.float32]],
    functions: Sequence[Activation],
    matrix: str,
) -> dict[str, NDArray[Any]]:
    """Return singular values of a network's kernels and Jacobians.

    Parameters
    ----------
    kernels
        Of layers 1 … depth + 1.
    preactivations
        z of these layers at a few examples, (examples, units) each.
    functions
        phi of the hidden layers.
    matrix
        One of `MATRICES`, or ``all``. ``kernel``: W_l of every layer. ``layer_jacobian``: J_l of
        every layer at every example; W of the linear output layer. ``hidden_jacobian``:
        J_2 … J_depth, dh_depth / dh_1 of the square stack of hidden layers; the identity for fewer
        than two.
        ``input_output_jacobian``: J_1 … J_depth W_(depth + 1), d outputs / d inputs. The end-to-end
        map W_1 … W_(depth + 1) of linear networks is the last of these; their Jacobians are
        the same at all examples.

    Returns
    -------
    dict
        Columns ``matrix``, ``layer`` (0 for a product of layers), ``example`` (0 for kernels),
        ``index`` (1 is the largest), ``log10_singular_value``, ``resolved``.
    """
    hidden, output = kernels[:-1], kernels[-1].astype(np.float64)
    found: list[tuple[str, int, int, list[Float64]]] = []
    for layer, kernel in enumerate(kernels, start=1):
        found.append(("kernel", layer, 0, [kernel.astype(np.float64)]))
    for example in range(len(preactivations[0])):
        at_example = [z[example] for z in preactivations[:-1]]
        jacobians = layer_jacobians(hidden, at_example, functions)
        for layer, jacobian in enumerate([*jacobians, output], start=1):
            found.append(("layer_jacobian", layer, example, [jacobian]))
        square = jacobians[1:] or [np.eye(len(output))]
        found.append(("hidden_jacobian", 0, example, square))
        found.append(("input_output_jacobian", 0, example, [*jacobians, output]))
    chosen = [item for item in found if matrix in (item[0], "all")]
    # With one thread: how a BLAS divides a product among threads would show in the bits.
    with threadpool_limits(1, user_api="blas"):
        values = [spectrum(factors) for *_, factors in chosen]
    sizes = [len(v.log10) for v in values]
    names, layers, examples, _ = zip(*chosen, strict=True)
    return {
        "matrix": np.repeat(np.array(names, dtype=object), sizes),
        "layer": np.repeat(layers, sizes),
        "example": np.repeat(examples, sizes),
        "index": np.concatenate([np.arange(1, size + 1) for size in sizes]),
        "log10_singular_value": np.concatenate([v.log10 for v in values]),
        "resolved": np.concatenate([v.resolved for v in values]),
    }
