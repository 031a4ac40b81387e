"""Iterated maps of the correlation, layer by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop import theory


def iteration(
    activation: str, weights: float, biases: float, means: pd.DataFrame
) -> pd.Series[float]:
    """Iterate theory's maps from the first layer of `means` on.

    Parameters
    ----------
    activation, weights, biases
        Activation function, weight variance times fan-in, and bias variance.
    means
        By layer, the measured ``length`` and, if it is wanted, ``correlation``.

    Returns
    -------
    Series
        The correlation in every layer if `means` has it, else the length; NaN if the first layer's
        are not finite.
    """
    depth, first = len(means), means.iloc[0]
    if not np.isfinite(first.astype(float)).all():
        return pd.Series(np.nan, index=means.index)
    if "correlation" in means:
        found = theory.correlation_trajectory(
            activation, float(first["correlation"]), depth, weights, biases, float(first["length"])
        )
    else:
        found = theory.length_trajectory(activation, float(first["length"]), depth, weights, biases)
    return pd.Series(found, index=means.index)
