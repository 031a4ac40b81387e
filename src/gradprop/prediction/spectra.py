"""The law of the singular values of a cell's input-output Jacobian."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradprop import theory
from gradprop.components import activations, architecture, datasets
from gradprop.components.activations import ActivationLike
from gradprop.components.initializers import hidden_initializer, initializer_of
from gradprop.prediction import mean_field
from gradprop.prediction.networks import predict, weight_variance
from gradprop.probes.measurements import measured
from gradprop.spec import Cell, Component
from gradprop.theory.jacobian import Ensemble

Float64 = npt.NDArray[np.float64]


class Law(NamedTuple):
    """What theory needs to know of a cell's Jacobian."""

    activation: Component
    q: float  # mean square of the pre-activations; any positive number where it has no influence
    sigma_w2: float
    layers: int  # L
    ensemble: Ensemble

    @property
    def mean_square(self) -> float:
        """Mean squared singular value, ``chi^L``."""
        return theory.jacobian_mean_square(self.activation, self.q, self.sigma_w2, self.layers)

    @property
    def relative_variance(self) -> float:
        """Variance of squared singular values over their squared mean."""
        return theory.jacobian_relative_variance(
            self.activation, self.q, self.layers, self.ensemble
        )

    @property
    def largest_singular_value(self) -> float:
        """Edge of the law; NaN if it is not known."""
        try:
            return theory.jacobian_largest_singular_value(
                self.activation, self.q, self.sigma_w2, self.layers, self.ensemble
            )
        except ValueError:
            return math.nan

    def density(self, singular: Float64) -> Float64:
        """Return the density of singular values; NaN if it is not known, or all are the same."""
        try:
            return theory.jacobian_singular_density(
                singular, self.activation, self.q, self.sigma_w2, self.layers, self.ensemble
            )
        except ValueError:
            return np.full(singular.shape, np.nan)


def law(cell: Cell) -> Law | None:
    """Return the law of wide networks like this cell; None if there is none.

    The length of the pre-activations is taken to be at its fixed point. Slopes of homogeneous
    activations do not depend on it.
    """
    sigma_w2 = mean_field.sigma_w2(cell)
    initializer = hidden_initializer(cell)
    if cell.tied or cell.depth < 2 or initializer is None or not 0 < sigma_w2 < math.inf:
        return None
    q = 1.0
    if not activations.get(cell.activation).homogeneous:
        q = mean_field.state(cell.activation, sigma_w2, mean_field.sigma_b2(cell)).q_star
    if not math.isfinite(q):
        return None
    ensemble: Ensemble = "orthogonal" if initializer.name == "orthogonal" else "gaussian"
    return Law(cell.activation, q, sigma_w2, cell.depth - 1, ensemble)


def common_law(cells: dict[str, Cell], ids: pd.Series[Any]) -> Law | None:
    """Return the law that all these cells share, if they do."""
    laws = {law(cells[name]) for name in ids.unique()}
    return laws.pop() if len(laws) == 1 else None


@lru_cache(maxsize=1024)
def expected_layer_means(cell: Cell) -> dict[tuple[str, int], float]:
    """Return what theory expects of the mean singular values of square hidden layers.

    Of large layers with independent weights at the lengths of pre-activations that
    `gradprop.prediction` gives for the examples which the network is measured at; NaN for other
    networks. By matrix and layer.
    """
    widths = architecture.hidden_widths(cell)
    square = [n for n in range(2, cell.depth + 1) if widths[n - 1] == widths[n - 2]]
    dataset = datasets.generate(cell.dataset)
    count = measured(cell.measurements)["spectra"]["examples"]
    lengths, without = [], replace(cell, dropout=0.0)  # spectra are measured outside training
    for example in np.square(dataset.x_train[:count], dtype=np.float64):
        found = predict(without, len(example), dataset.outputs, float(example.mean()))
        lengths.append(np.full(cell.depth + 1, np.nan) if found is None else found.length)
    means: dict[tuple[str, int], float] = {}
    for layer in square:
        units = widths[layer - 1]
        initializer = initializer_of(cell, layer)
        variance = weight_variance(initializer, (units, units), cell.activation)
        independent = variance and initializer.name != "orthogonal"
        sigma_w2 = units * variance if variance and independent else math.nan
        jacobians = [_jacobian_mean(cell.activation, z[layer - 1], sigma_w2) for z in lengths]
        means["kernel", layer] = theory.mean_singular_value(sigma_w2) if sigma_w2 > 0 else math.nan
        means["layer_jacobian", layer] = float(np.mean(jacobians))
    return means


def _jacobian_mean(activation: ActivationLike, log10_length: float, sigma_w2: float) -> float:
    """Return the mean singular value of W diag(phi'(z)); NaN if no law is known."""
    phi = activations.get(activation)
    if phi.integrals:
        return math.nan
    q = 1.0 if phi.homogeneous else float(np.power(10.0, log10_length))
    if math.isnan(sigma_w2) or not math.isfinite(log10_length) or not math.isfinite(q):
        return math.nan
    return theory.layer_mean_singular_value(activation, q, sigma_w2)
