"""The chapter on transient chaos, on networks simulated without any code of the package."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.poole2016 import claims as poole2016
from gradprop import claims, theory
from tests.reference import make_cell

DEPTH, BIAS_STD, NETWORKS = 20, 0.3, 16
CASES = ["weight deviation 1.3", "weight deviation 2.5", "weight deviation 4"]
# Distance of neighbouring angles, with which derivatives stay clear of rounding and truncation.
STEPS = {1.69: 1e-4, 6.25: 1e-6, 16.0: 1e-7}
DATA: dict[str, Any] = {
    "gaussian_mixture": {"name": "gaussian_mixture", "dimension": 256},
    "equicorrelated": {"name": "equicorrelated", "dimension": 256, "examples": 160},
}


def circle(angles: np.ndarray, features: int) -> np.ndarray:
    points = np.zeros((len(angles), features))
    points[:, 0], points[:, 1] = np.cos(angles), np.sin(angles)
    return np.sqrt(features) * points


def forward(x: np.ndarray, width: int, depth: int, weights: float, relu: bool, seed: int) -> Any:
    """Yield the pre-activations of a network with variances 1 / units of outputs."""
    random = np.random.default_rng(seed)
    h = x
    for _ in range(depth):
        kernel = random.standard_normal((h.shape[1], width)) * math.sqrt(weights / width)
        z = h @ kernel + (0 if relu else BIAS_STD) * random.standard_normal(width)
        yield z
        h = np.maximum(z, 0) if relu else np.tanh(z)


def pairs(start: str, seed: int) -> np.ndarray:
    """Return 32 inputs: independent, or of correlation 0.9 and a quarter of the mean square."""
    x = np.random.default_rng([9, seed]).standard_normal((32, 256))
    if start == "gaussian_mixture":
        return x
    rows = np.linalg.qr(np.concatenate([x, np.ones((1, 256))]).T)[0].T * np.sqrt(256 * 0.25)
    return math.sqrt(0.9) * rows[-1] + math.sqrt(0.1) * rows[:-1]


def pair_rows(cell: Any, layer: int, z: np.ndarray) -> pd.DataFrame:
    """Return what the table of layers says of pairs (0, 1), (2, 3), ..."""
    a, b = z[::2], z[1::2]
    c = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    values = {
        "preactivation_log10_mean_square": np.log10(np.mean(z**2)),
        "preactivation_correlation": c.mean(),
    }
    return pd.DataFrame([{"cell": cell.id, "step": 0, "layer": layer, **values}])


def curve_rows(cell: Any, layer: int, z: np.ndarray, step: float) -> pd.DataFrame:
    """Return the first two derivatives of the circle's image by central differences."""
    before, at, after = np.split(z, 3)
    first, second = (after - before) / (2 * step), (after - 2 * at + before) / step**2
    g, h, mixed = (
        np.mean(p * q, axis=1) for p, q in ((first, first), (second, second), (first, second))
    )
    kappa = np.sqrt(h / g**2 - mixed**2 / g**3)
    logs = {"mean_square": np.mean(at**2, axis=1), "expansion": g, "curvature": kappa}
    columns = {f"log10_{name}": np.log10(values) for name, values in logs.items()}
    place = {"cell": cell.id, "step": 0, "layer": layer, "input": range(len(at))}
    return pd.DataFrame({**place, **columns})


def edge_rows(cell: Any, layer: int, z: np.ndarray) -> pd.DataFrame:
    """Return the edges of the polygon through points of the circle."""
    edges = np.linalg.norm(np.roll(z, -1, axis=0) - z, axis=1)
    place = {"cell": cell.id, "step": 0, "layer": layer, "input": range(len(z))}
    return pd.DataFrame({**place, "log10_next_distance": np.log10(edges)})


def cell_of(start: str, weights: float, seed: int, **changes: Any) -> Any:
    """Return the cell that a simulated network stands for."""
    initializer = {"name": "variance_scaling", "scale": weights, "mode": "fan_out"}
    program = {"width": 256, "depth": DEPTH, "activation": "tanh", "bias_std": BIAS_STD, **changes}
    return make_cell(dataset=DATA[start], initializer=initializer, seed=seed, epochs=0, **program)


def simulate() -> Any:
    layers, curvature, trajectories, cells = [], [], [], []
    angles = 2 * np.pi * np.arange(12) / 12
    for weights, step in STEPS.items():
        close = circle(np.concatenate([angles - step, angles, angles + step]), 256)
        for seed in range(NETWORKS):  # the same networks, of inputs that are similar
            cell = cell_of("equicorrelated", weights, seed)
            cells.append(cell)
            x = np.concatenate([close, pairs("equicorrelated", seed)])
            for layer, z in enumerate(forward(x, 256, DEPTH, weights, False, seed), start=1):
                curvature.append(curve_rows(cell, layer, z[: len(close)], step))
                layers.append(pair_rows(cell, layer, z[len(close) :]))
        cell = cell_of("gaussian_mixture", weights, 0, width=512)
        cells.append(cell)
        x = np.concatenate([close, circle(2 * np.pi * np.arange(200) / 200, 256)])
        for layer, z in enumerate(forward(x, 512, DEPTH, weights, False, 0), start=1):
            curvature.append(curve_rows(cell, layer, z[: len(close)], step))
            trajectories.append(edge_rows(cell, layer, z[len(close) :]))
    relu: dict[str, Any] = {"activation": "relu", "depth": 12, "use_bias": False, "bias_std": 0.0}
    for seed in range(4):
        for weights, changes in (*((w, {}) for w in STEPS), (1.69, {"depth": 100}), (2.0, relu)):
            cell = cell_of("gaussian_mixture", weights, seed, **changes)
            cells.append(cell)
            x = pairs("gaussian_mixture", seed)
            passed = forward(x, 256, cell.depth, weights, cell.activation.name == "relu", seed)
            layers += [pair_rows(cell, layer, z) for layer, z in enumerate(passed, start=1)]
    return SimpleNamespace(
        study=SimpleNamespace(name="poole2016", cells=tuple(cells), names={}),
        layers=pd.concat(layers, ignore_index=True),
        measurement={
            "curvature": pd.concat(curvature, ignore_index=True),
            "trajectories": pd.concat(trajectories, ignore_index=True),
        }.__getitem__,
    )


@pytest.fixture(scope="module")
def tables() -> Any:
    return simulate()


@pytest.fixture(scope="module")
def numbers(tables: Any) -> dict[str, Any]:
    return poole2016.numbers(tables)


def judged(tables: Any) -> dict[tuple[str, str], claims.Result]:
    found = [row for claim in poole2016.CLAIMS for row in claims.judge(claim, tables)]
    return {(row.id, row.case.split(",")[0]): row for row in found}


@pytest.mark.long
def test_curves_of_networks_simulated_independently(tables: Any) -> None:
    found = judged(tables)
    assert claims.NOT_TESTED not in {row.verdict for row in found.values()}
    for case in CASES:
        for name in ("circle-length", "grassmannian-length"):
            assert found[name, case].verdict == claims.SUPPORTED, (name, case)
        row = found["curvature", case]
        assert row.measured is not None and row.predicted is not None
        # Finite width adds to it: what the layers lose together to reciprocals of means.
        assert 0.95 < row.measured / row.predicted < (1.4 if case == CASES[0] else 1.15)


@pytest.mark.long
def test_what_should_fail_fails(tables: Any) -> None:
    """Images that grow by 3 % more a layer, and bend by 30 % more."""
    wrong = tables.measurement("curvature").copy()
    wrong["log10_expansion"] += 2 * np.log10(1.03) * wrong["layer"]
    wrong["log10_curvature"] += np.log10(1.3) * (wrong["layer"] > 1)
    measured = {"curvature": wrong, "trajectories": tables.measurement("trajectories")}
    found = judged(SimpleNamespace(**{**vars(tables), "measurement": measured.__getitem__}))
    for case in CASES:
        for name in ("circle-length", "grassmannian-length", "curvature"):
            assert found[name, case].verdict == claims.NOT_SUPPORTED, (name, case)


@pytest.mark.long
def test_numbers_of_the_prose(numbers: dict[str, Any]) -> None:
    assert numbers["low_c_star"] == 1 and numbers["low_depth"] == 100
    assert numbers["high_correlation"] == pytest.approx(numbers["high_c_star"], abs=0.1)
    assert numbers["high_similar_first"] == pytest.approx(0.9, abs=0.01)
    assert numbers["high_similar_last"] < 0.15 < 0.9 < numbers["low_similar_last"]
    assert numbers["high_factor"] == pytest.approx(math.sqrt(numbers["high_chi"]), rel=0.02)
    assert numbers["high_curvature"] == pytest.approx(numbers["high_fixed_curvature"], rel=0.15)
    assert numbers["high_turns"] > numbers["middle_turns"] > 10 * numbers["low_turns"]
    assert (numbers["networks"], numbers["networks_wide"]) == (NETWORKS, 1)
    assert numbers["points"] == 200
    assert numbers["sigma_b"] == pytest.approx(BIAS_STD)
    assert 0 < numbers["furthest_length"] < 0.1  # four networks of 256 units


def test_how_far_a_polygon_follows_the_image(numbers: dict[str, Any]) -> None:
    """A chord is sqrt(2 q (1 - c)) long, c of the iterated map; the arc is dt sqrt(g)."""
    dt = 2 * math.pi / numbers["points"]
    for name, weights in zip(("low", "middle", "high"), STEPS, strict=True):
        stretched = weights / 2  # 256 features, 512 units
        q, c = stretched + 0.09, (stretched * math.cos(dt) + 0.09) / (stretched + 0.09)
        lengths = theory.length_trajectory("tanh", q, DEPTH, weights, 0.09)
        correlations = theory.correlation_trajectory("tanh", c, DEPTH, weights, 0.09, q)
        image = theory.curve_trajectory("tanh", q, stretched, 1.0, DEPTH, weights, 0.09)
        share = np.sqrt(2 * lengths * (1 - correlations) / image.expansion) / dt
        assert share[0] == pytest.approx(1, rel=1e-3)
        expected = int(np.sum(share >= 0.95))
        # A layer takes 1 to 4 % away there, the length of a single network is as uncertain.
        assert numbers[f"{name}_resolved"] == pytest.approx(expected, abs=2)
    assert numbers["low_resolved"] == DEPTH > numbers["middle_resolved"]
