"""Delta-orthogonal kernels, and the singular values of a convolution."""

import numpy as np

from gradprop.components import Layer, Parameter, initializer
from gradprop.probes import NetworkLayer, statistic

SIDE = 8  # of the images


@initializer(
    parameters={"gain": Parameter(1.0, "Factor of the orthogonal matrix.", above=0)},
    definition="zero but at the centre, which is gain * Q, Q Haar-distributed with orthonormal "
    "rows or columns",
    source="Xiao et al. 2018, arXiv:1806.05393, algorithm 2",
)
def delta_orthogonal(layer: Layer, rng: np.random.Generator, gain: float) -> np.ndarray:
    """Return a kernel that is an orthogonal matrix at its centre and zero elsewhere."""
    inputs, units = layer.fan_in // layer.places, layer.fan_out
    q, r = np.linalg.qr(rng.standard_normal((max(inputs, units), min(inputs, units))))
    q *= np.sign(np.diag(r))  # Haar-distributed
    kernel = np.zeros((layer.places, inputs, units))
    kernel[layer.places // 2] = gain * (q if inputs >= units else q.T)
    return kernel.reshape(layer.fan_in, units)


def singular_values(layer: NetworkLayer) -> np.ndarray:
    """Return the singular values of a convolution of 3 x 3 that wraps around images of 8 x 8.

    Waves are its eigenvectors in space: of each of the 64 it makes a matrix of channels, whose
    singular values are those of the convolution. The output layer has those of its matrix; it has
    64 rows for every channel, which nine places never have.
    """
    rows, units = layer.weight.shape
    if rows % SIDE**2 == 0:
        return np.linalg.svd(layer.weight, compute_uv=False)
    kernel = layer.weight.reshape(3, 3, rows // 9, units)
    return np.linalg.svd(np.fft.fft2(kernel, (SIDE, SIDE), axes=(0, 1)), compute_uv=False)


@statistic()
def weight_log10_largest_singular(layer: NetworkLayer) -> float:
    """log10 of the largest singular value of the linear map of a layer, without a border"""
    return np.log10(singular_values(layer).max())


@statistic()
def weight_log10_smallest_singular(layer: NetworkLayer) -> float:
    """log10 of the smallest singular value of the linear map of a layer, without a border"""
    return np.log10(singular_values(layer).min())
