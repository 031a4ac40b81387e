"""What becomes of a curve of inputs from layer to layer, as in Poole et al. 2016."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn requires it

from gradprop.components.activations import Activation

Float64 = NDArray[np.float64]

COMPONENTS = 3


def circle(inputs: int, features: int) -> NDArray[np.float32]:
    """Return points of the circle sqrt(features) (e_1 cos t + e_2 sin t), (inputs, features).

    Its radius makes the mean square of an input's entries 1, as in the data sets on average.
    """
    angle = 2 * np.pi * np.arange(inputs) / inputs
    points = np.zeros((inputs, features))
    points[:, 0], points[:, 1] = np.cos(angle), np.sin(angle)
    return (np.sqrt(features) * points).astype(np.float32)


def principal_components(points: Float64) -> Float64:
    """Return the coordinates of points along their three leading principal components.

    Parameters
    ----------
    points
        Shape (points, dimensions).

    Returns
    -------
    ndarray
        Shape (points, 3), relative to the mean; 0 beyond the dimensions, NaN if an entry is not
        finite. The coordinate of largest magnitude is positive in every component.
    """
    if not np.isfinite(points).all():
        return np.full((len(points), COMPONENTS), np.nan)
    scale = np.abs(points).max() or 1.0
    centred = (points - points.mean(axis=0)) / scale
    # The leading eigenvectors of the smaller of both products: a tenth of the time of all
    # singular values.
    few = len(points) <= points.shape[1]
    with threadpool_limits(1, user_api="blas"):
        square = centred @ centred.T if few else centred.T @ centred
        count = min(COMPONENTS, len(square))
        chosen = (len(square) - count, len(square) - 1)
        values, vectors = scipy.linalg.eigh(square, subset_by_index=chosen, check_finite=False)
        along = vectors * np.sqrt(np.maximum(values, 0)) if few else centred @ vectors
    found = np.zeros((len(points), COMPONENTS))
    found[:, :count] = scale * along[:, ::-1]
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
    return found * np.where(largest < 0, -1.0, 1.0)


def cosine(a: Float64, b: Float64) -> Float64:
    """Return sum a b / sqrt(sum a^2 sum b^2) over the last axis; NaN where one vector is 0."""
    lengths = np.sqrt(np.square(a).sum(axis=-1)) * np.sqrt(np.square(b).sum(axis=-1))
    product: Float64 = (a * b).sum(axis=-1) / lengths
    return product


def curve(points: Float64) -> dict[str, Float64]:
    """Return lengths, angles and correlations of a closed polygon.

    Parameters
    ----------
    points
        Its corners, (points, dimensions); the last one is followed by the first.

    Returns
    -------
    dict
        For every point: ``log10_mean_square`` of its entries (the length q of mean-field theory);
        ``log10_next_distance`` to the next point; ``turning_angle`` between the edges before and
        after it, in radians (divided by the length of an edge it is the curvature of a
        smooth curve); ``first_correlation`` with the first point; ``next_correlation`` with the
        next one; ``lag_correlation``, the mean of the correlations of all pairs of points that
        are as far apart in the order as this point and the first. A correlation is the
        cosine, without subtracting a mean: c of mean-field theory. NaN where it is not defined.
    """
    following = np.roll(points, -1, axis=0)
    edges = following - points
    turned = np.clip(cosine(edges, np.roll(edges, 1, axis=0)), -1, 1)
    return {
        "log10_mean_square": np.log10(np.square(points).mean(axis=1)),
        "log10_next_distance": 0.5 * np.log10(np.square(edges).sum(axis=1)),
        "turning_angle": np.arccos(turned),
        "first_correlation": cosine(points, points[:1]),
        "next_correlation": cosine(points, following),
        "lag_correlation": _lag_correlations(points),
    }


def _lag_correlations(points: Float64) -> Float64:
    """Return the mean correlation of all pairs that are 0, 1, 2, ... places apart.

    A circular autocorrelation, by way of the power spectrum (Wiener and Khinchin).
    """
    directions = points / np.sqrt(np.square(points).sum(axis=1, keepdims=True))
    spectrum = np.fft.rfft(directions, axis=0)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=1)
    lags: Float64 = np.fft.irfft(power, n=len(points)) / len(points)
    return lags


def trajectories(layers: list[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Follow inputs through the layers.

    Parameters
    ----------
    layers
        Inputs of the network, then what layers 1 … depth + 1 make of them: (inputs, units) each.

    Returns
    -------
    dict
        Columns ``layer`` (0 is the input), ``input``, ``pc1``, ``pc2``, ``pc3``
        (`principal_components`), ``pc_rest``, the distance from the space of these three, and
        those of `curve`.
    """
    parts = []
    with np.errstate(all="ignore"):
        for layer, values in enumerate(layers):
            points = values.astype(np.float64)
            columns: dict[str, NDArray[Any]] = {
                "layer": np.full(len(points), layer),
                "input": np.arange(len(points)),
            }
            projected = principal_components(points)
            columns |= {f"pc{number + 1}": projected[:, number] for number in range(COMPONENTS)}
            outside = np.square(points - points.mean(axis=0)).sum(axis=1)
            outside -= np.square(projected).sum(axis=1)
            columns["pc_rest"] = np.sqrt(np.maximum(outside, 0))
            parts.append(columns | curve(points))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def curvature(
    points: NDArray[np.float32],
    kernels: Sequence[NDArray[np.float32]],
    preactivations: Sequence[NDArray[np.float32]],
    functions: Sequence[Activation],
) -> dict[str, NDArray[Any]]:
    """Follow the first two derivatives of a circle's image z(t) by its angle t.

    With z' and z'' of a layer those of the next are (phi'(z) z') W and (phi''(z) z'^2 +
    phi'(z) z'') W, exact where a polygon through the points is not: in a chaotic network the image
    soon bends between any two of them. At a kink phi'' is what the activation says it is.

    Parameters
    ----------
    points
        Those of `circle`, (inputs, features).
    kernels
        Of layers 1 … depth + 1.
    preactivations
        z of these layers at the points, (inputs, units) each.
    functions
        phi of the hidden layers.

    Returns
    -------
    dict
        Columns ``layer`` (0 is the input), ``input``, ``log10_mean_square`` of z,
        ``log10_expansion``, of the mean g of z'^2 over units, and ``log10_curvature``, of
        sqrt(units) times the curvature kappa of the image: with both so scaled a circle of mean
        square q has g = q and curvature 1 / sqrt(q) in any number of dimensions. A curvature is
        NaN where the image stands still (g = 0), infinite or 0 beyond the range of float64.
    """
    # x' is x turned by a right angle, x'' = -x.
    first, second = np.zeros(points.shape), -points.astype(np.float64)
    first[:, 0], first[:, 1] = -points[:, 1], points[:, 0]
    log10_expansion = np.zeros(len(points))
    parts = []
    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        for layer, values in enumerate([points, *preactivations]):
            if layer > 1:
                phi, z = functions[layer - 2], preactivations[layer - 2]
                first, second = _through_activation(phi, z, first, second)
            if layer > 0:
                both = np.concatenate([first, second]) @ kernels[layer - 1].astype(np.float64)
                first, second = both[: len(points)], both[len(points) :]
            speed = np.sqrt(np.square(first).mean(axis=1, keepdims=True))
            first, second = _by_length(first, second, speed)
            log10_expansion = log10_expansion + 2 * np.log10(speed[:, 0])
            bend = np.hypot.reduce(second, axis=1) / np.sqrt(second.shape[1])
            bend = np.where(speed[:, 0] == 0, np.nan, bend)
            parts.append(
                {
                    "layer": np.full(len(points), layer),
                    "input": np.arange(len(points)),
                    "log10_mean_square": np.log10(
                        np.square(values.astype(np.float64)).mean(axis=1)
                    ),
                    "log10_expansion": log10_expansion,
                    "log10_curvature": np.log10(bend),
                }
            )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _through_activation(
    phi: Activation, z: NDArray[np.float32], first: Float64, second: Float64
) -> tuple[Float64, Float64]:
    """Return the first two derivatives of phi(z), given those of z."""
    finite = np.isfinite(z)
    at = np.where(finite, z, 0)
    slope = np.where(finite, phi.derivative(at), np.nan)
    return slope * first, phi.second_derivative(at) * first**2 + slope * second


def _by_length(first: Float64, second: Float64, speed: Float64) -> tuple[Float64, Float64]:
    """Return the derivatives by the length along the image, so scaled that z'^2 has the mean 1.

    z'' is then orthogonal to z' and as long as the curvature; no layer leaves the range of float64.
    """
    moving = np.where(speed == 0, 1, speed)
    tangent, normal = first / moving, second / moving**2
    return tangent, normal - (normal * tangent).mean(axis=1, keepdims=True) * tangent
