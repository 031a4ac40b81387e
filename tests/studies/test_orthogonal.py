"""The chapter on orthogonal weights, on networks simulated without any code of the package."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.orthogonal import claims as orthogonal
from gradprop import claims
from gradprop.analysis import estimates
from tests.reference import make_cell

DEPTH, WIDTH, NETWORKS = 50, 64, 250


def simulate(kind: str) -> np.ndarray:
    """Return log10 mean squares of z in tanh networks, (networks, layers), in float64."""
    random = np.random.default_rng(3 if kind == "orthogonal" else 4)
    lengths = np.empty((NETWORKS, DEPTH))
    for network in range(NETWORKS):
        h = random.standard_normal(WIDTH)
        for layer in range(DEPTH):
            w = random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
            if kind == "orthogonal":
                q, r = np.linalg.qr(w)
                w = q * np.sign(np.diag(r))
            z = w @ h
            lengths[network, layer] = np.log10(np.mean(z**2))
            h = np.tanh(z)
    return lengths


@pytest.fixture(scope="module")
def lengths() -> dict[str, np.ndarray]:
    return {kind: simulate(kind) for kind in ("variance_scaling", "orthogonal")}


def tables_of(lengths: dict[str, np.ndarray]) -> Any:
    cells, parts = [], []
    for kind, values in lengths.items():
        for seed, row in enumerate(values):
            cell = make_cell(
                depth=DEPTH,
                width=WIDTH,
                activation="tanh",
                initializer=kind,
                use_bias=False,
                seed=seed,
                epochs=0,
            )
            cells.append(cell)
            layers = {"cell": cell.id, "step": 0, "layer": range(1, DEPTH + 1)}
            parts.append(pd.DataFrame({**layers, "preactivation_log10_mean_square": row}))
    study = SimpleNamespace(name="orthogonal", cells=tuple(cells), names={})
    return SimpleNamespace(study=study, layers=pd.concat(parts), cells=cells)


def verdicts(tables: Any) -> dict[str, str]:
    return {
        row.id: row.verdict for claim in orthogonal.CLAIMS for row in claims.judge(claim, tables)
    }


@pytest.mark.long
def test_claims_hold_for_networks_simulated_independently(lengths: dict[str, np.ndarray]) -> None:
    found = verdicts(tables_of(lengths))
    assert found["orthogonal-fluctuations"] == claims.SUPPORTED
    assert found["orthogonal-growth"] == claims.SUPPORTED
    numbers = orthogonal.numbers(tables_of(lengths))
    assert numbers["gaussian"] == pytest.approx(numbers["expected"], rel=0.35)


@pytest.mark.long
def test_gaussian_weights_do_not_pass_for_orthogonal_ones(lengths: dict[str, np.ndarray]) -> None:
    gaussian = lengths["variance_scaling"]
    found = verdicts(tables_of({"variance_scaling": gaussian, "orthogonal": gaussian[::-1]}))
    assert found["orthogonal-fluctuations"] == claims.NOT_SUPPORTED
    assert found["orthogonal-growth"] == claims.NOT_SUPPORTED


@pytest.mark.long
def test_lengths_that_do_not_fluctuate_are_not_gaussian(lengths: dict[str, np.ndarray]) -> None:
    tables = tables_of({**lengths, "variance_scaling": lengths["orthogonal"]})
    assert verdicts(tables)["gaussian-fluctuations"] == claims.NOT_SUPPORTED


def test_relative_variance_is_that_of_numpy() -> None:
    values = np.exp(np.random.default_rng(1).normal(size=(40, 3)))
    estimate, low, high = estimates.relative_variance(values)
    np.testing.assert_allclose(estimate, values.var(axis=0, ddof=1) / values.mean(axis=0) ** 2)
    assert (low < estimate).all() and (estimate < high).all()
    resampled = estimates.resampled_relative_variances(values)
    assert resampled.shape == (1 + estimates.RESAMPLES, 3)
    assert np.isnan(estimates.relative_variance(values[:1])).all()


def test_the_interval_covers_the_truth() -> None:
    """Of normal rows with mean 10 and standard deviation 1, in nine of ten samples."""
    random = np.random.default_rng(2)
    values = random.normal(10, 1, size=(100, 400))  # 400 samples of 100
    _, low, high = estimates.relative_variance(values)
    covered = np.mean((low <= 0.01) & (high >= 0.01))
    assert 0.80 < covered < 0.96


@pytest.mark.long
def test_networks_of_other_depths_are_not_counted(lengths: dict[str, np.ndarray]) -> None:
    def networks(tables: Any) -> list[int]:
        return [
            len(squares)
            for by_weights in orthogonal._ensembles(tables).values()
            for _, squares in by_weights.values()
        ]

    tables = tables_of(lengths)
    shallow = [replace(cell, depth=3) for cell in tables.cells]
    every = SimpleNamespace(name="orthogonal", cells=(*shallow, *tables.cells), names={})
    ids = {old.id: new.id for old, new in zip(tables.cells, shallow, strict=True)}
    rows = tables.layers[tables.layers["layer"] <= 3].replace({"cell": ids})
    mixed = SimpleNamespace(study=every, layers=pd.concat([rows, tables.layers]))
    assert networks(mixed) == networks(tables) == [NETWORKS, NETWORKS]
