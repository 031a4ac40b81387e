"""The expected curvature of a circle's image in a cell's layers."""

from __future__ import annotations

import pandas as pd

from gradprop import theory

NETWORK = ["activation", "sigma_w2", "sigma_b2", "width", "depth"]


def expected_curve(rows: pd.DataFrame) -> theory.CurveTrajectory:
    """Iterate theory's maps from the first layer of `measured_curves` of one kind of network."""
    activation, weights, biases, _, depth = rows[NETWORK].iloc[0]
    first = rows[rows["layer"] == 1]
    length, expansion, curvature = (
        float(first[name].mean()) for name in ("length", "expansion", "curvature")
    )
    return theory.curve_trajectory(
        activation, length, expansion, curvature, int(depth), weights, biases
    )
