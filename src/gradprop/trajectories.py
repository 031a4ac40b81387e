"""What becomes of a curve of inputs from layer to layer, as in Poole et al. 2016."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn requires it

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
    with threadpool_limits(1, user_api="blas"):
        left, values, _ = np.linalg.svd((points - points.mean(axis=0)) / scale, full_matrices=False)
    count = min(COMPONENTS, len(values))
    found = np.zeros((len(points), COMPONENTS))
    found[:, :count] = scale * left[:, :count] * values[:count]
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
    count = len(points)
    following = np.roll(points, -1, axis=0)
    edges = following - points
    turned = np.clip(cosine(edges, np.roll(edges, 1, axis=0)), -1, 1)
    lags = [cosine(points, np.roll(points, -lag, axis=0)).mean() for lag in range(count)]
    return {
        "log10_mean_square": np.log10(np.square(points).mean(axis=1)),
        "log10_next_distance": 0.5 * np.log10(np.square(edges).sum(axis=1)),
        "turning_angle": np.arccos(turned),
        "first_correlation": cosine(points, points[:1]),
        "next_correlation": cosine(points, following),
        "lag_correlation": np.array(lags),
    }


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
        (`principal_components`) and those of `curve`.
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
            parts.append(columns | curve(points))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
