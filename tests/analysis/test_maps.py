"""Distances from fixed points, of maps that are iterated here by brute force."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop.analysis.maps import fixed_point_distances
from tests.reference import make_cell

WEIGHTS, BIASES, DEPTH, SEEDS = 0.5, 0.05, 12, 4
NOISE = 1e-3  # of the length, from network to network


def iterate(q: float, c: float, depth: int) -> np.ndarray:
    """Return length and correlation in every layer, (depth, 2), by sums over a square grid."""
    z = np.linspace(-8, 8, 401)
    mass = np.exp(-(z**2) / 2)
    mass /= mass.sum()
    found = [(q, c)]
    for _ in range(depth - 1):
        u = math.sqrt(q) * z
        v = math.sqrt(q) * (c * z[:, None] + math.sqrt(1 - c * c) * z)
        product = WEIGHTS * (mass * np.tanh(u)) @ np.tanh(v) @ mass + BIASES
        q = float(WEIGHTS * mass @ np.tanh(u) ** 2 + BIASES)
        c = float(product) / q
        found.append((q, c))
    return np.array(found)


@pytest.fixture(scope="module")
def distances() -> pd.DataFrame:
    initializer = {"name": "variance_scaling", "scale": WEIGHTS}
    rows, cells = [], []
    for seed in range(SEEDS):
        cell = make_cell(
            activation="tanh", depth=DEPTH, initializer=initializer, bias_std=math.sqrt(BIASES),
            epochs=0, seed=seed,
        )  # fmt: skip
        cells.append(cell)
        for layer, (q, c) in enumerate(iterate(0.4, 0.1, DEPTH), start=1):
            length = q + NOISE * (seed - (SEEDS - 1) / 2)
            place: dict[str, Any] = {"cell": cell.id, "step": 0, "layer": layer}
            values = {"preactivation_log10_mean_square": math.log10(length)}
            rows.append({**place, **values, "preactivation_correlation": c})
    tables: Any = SimpleNamespace(
        study=SimpleNamespace(cells=tuple(cells)),
        layers=pd.DataFrame(rows),
        diverged=lambda rows: pd.Series(False, index=rows.index),
    )
    return fixed_point_distances(tables, {})


def test_distances_are_those_from_where_the_maps_end(distances: pd.DataFrame) -> None:
    q, c = iterate(0.4, 0.1, 60).T
    for name, values in (("length", q), ("correlation", c)):
        rows = distances[distances["quantity"] == name]
        expected = np.abs(values[:DEPTH] - values[-1])
        np.testing.assert_allclose(rows["distance"], expected, atol=1e-7)


def test_the_exponential_is_what_the_map_tends_to(distances: pd.DataFrame) -> None:
    for _, rows in distances.groupby("quantity"):
        ratio = (rows["distance"] / rows["predicted"]).to_numpy()
        slopes = np.diff(np.log(rows["predicted"]))
        assert slopes == pytest.approx(slopes[0])
        assert ratio[8] == pytest.approx(1, rel=0.02)  # and not yet in the first layer
        assert abs(ratio[0] - 1) > 0.1


def test_networks_are_at_rest_where_their_interval_has_the_fixed_point(
    distances: pd.DataFrame,
) -> None:
    length, correlation = (
        distances[distances["quantity"] == name] for name in ("length", "correlation")
    )
    # Of 4 values that are evenly spaced, t = 3.182 with 3 degrees of freedom.
    assert length["error"].iloc[3] == pytest.approx(3.182 * NOISE * math.sqrt(5 / 3) / 2, rel=1e-3)
    assert (length["moving"] == (length["distance"] > length["error"])).all()
    assert 0 < length["moving"].sum() < DEPTH
    assert correlation["moving"].all()
    assert (length["networks"] == SEEDS).all()
