"""The chapter on dynamical isometry, on networks simulated without any code of the package."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop import claims
from gradprop.figures import KINDS, spectra
from gradprop.studies import pennington2017
from tests.reference import make_cell

LAYERS, WIDTH, NETWORKS = 4, 64, 150
# Those of the study, for 128 units; q* is the same here, with inputs drawn at this length.
SIGMA_W2, BIAS_STD, Q_STAR = 1.0315088094227514, 0.002257432454385546, 0.016122421
SCALES = {"linear": 1.0, "relu": 2.0, "tanh": SIGMA_W2}
FUNCTIONS: dict[str, Any] = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
}
Values = dict[tuple[str, str], np.ndarray]


def simulate(activation: str, weights: str, seed: int) -> np.ndarray:
    """Return singular values of LAYERS square layers, (networks, units), largest first."""
    random = np.random.default_rng(seed)
    function, slope = FUNCTIONS[activation]
    bias_std = BIAS_STD if activation == "tanh" else 0.0
    found = np.empty((NETWORKS, WIDTH))
    for network in range(NETWORKS):
        z = random.standard_normal(WIDTH)
        h = function(z * math.sqrt(Q_STAR / np.mean(z**2)))
        jacobian = np.eye(WIDTH)
        for _ in range(LAYERS):
            w = random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
            if weights == "orthogonal":
                q, r = np.linalg.qr(w)
                w = q * np.sign(np.diag(r))
            w *= math.sqrt(SCALES[activation])
            z = w @ h + bias_std * random.standard_normal(WIDTH)
            h = function(z)
            jacobian = slope(z)[:, None] * (w @ jacobian)
        found[network] = np.linalg.svd(jacobian, compute_uv=False)
    return found


@pytest.fixture(scope="module")
def values() -> Values:
    pairs = [(a, w) for a in SCALES for w in ("gaussian", "orthogonal")]
    return {pair: simulate(*pair, seed) for seed, pair in enumerate(pairs)}


def initializer(activation: str, weights: str) -> dict[str, Any]:
    scale = SCALES[activation]
    if weights == "orthogonal":
        return {"name": "orthogonal", "gain": math.sqrt(scale)}
    return {"name": "variance_scaling", "scale": scale}


def tables_of(values: Values) -> Any:
    cells, parts = [], []
    for (activation, weights), networks in values.items():
        for seed, row in enumerate(networks):
            cell = make_cell(
                depth=LAYERS + 1,
                width=WIDTH,
                activation=activation,
                initializer=initializer(activation, weights),
                use_bias=activation == "tanh",
                bias_std=BIAS_STD if activation == "tanh" else 0.0,
                seed=seed,
                epochs=0,
            )
            cells.append(cell)
            with np.errstate(divide="ignore"):
                log10 = np.log10(row)
            columns = {"cell": cell.id, "step": 0, "matrix": "hidden_jacobian", "example": 0}
            index = range(1, WIDTH + 1)
            resolved = row > 1e-14 * row[0]
            rows = {"index": index, "log10_singular_value": log10, "resolved": resolved}
            parts.append(pd.DataFrame({**columns, **rows}))
    study = SimpleNamespace(name="pennington2017", cells=tuple(cells), names={})

    def join(rows: pd.DataFrame, options: Any, columns: list[str]) -> pd.DataFrame:
        named = {
            cell.id: {"activation": cell.activation, "initializer": cell.initializer.name}
            | {"depth": cell.depth}
            for cell in cells
        }
        more = {name: rows["cell"].map(lambda c, n=name: named[c][n]) for name in columns}
        return rows.assign(**more)

    return SimpleNamespace(study=study, spectra=pd.concat(parts, ignore_index=True), join=join)


def verdicts(tables: Any) -> dict[str, str]:
    return {
        f"{row.id}/{row.case}": row.verdict
        for claim in pennington2017.CLAIMS
        for row in claims.judge(claim, tables)
    }


def test_claims_hold_for_networks_simulated_independently(values: Values) -> None:
    """Those whose corrections of order L / N are small at a width of 64."""
    found = verdicts(tables_of(values))
    for pair in (("linear", "gaussian"), ("relu", "orthogonal"), ("tanh", "gaussian")):
        assert found[f"spectral-variance/{', '.join(pair)}, L = 4"] == claims.SUPPORTED
    assert found["linear-isometry/linear, orthogonal, L = 4"] == claims.SUPPORTED
    for activation, weights in values:
        assert found[f"mean-square/{activation}, {weights}, L = 4"] == claims.SUPPORTED


def test_one_ensemble_does_not_pass_for_the_other(values: Values) -> None:
    swap = {"gaussian": "orthogonal", "orthogonal": "gaussian"}
    swapped = {(a, w): values[a, swap[w]] for a, w in values}
    found = verdicts(tables_of(swapped))
    of_spread = {v for key, v in found.items() if not key.startswith("mean-square")}
    assert of_spread == {claims.NOT_SUPPORTED}


def test_networks_off_criticality_are_told(values: Values) -> None:
    found = verdicts(tables_of({pair: 1.1 * s for pair, s in values.items()}))
    of_mean = {v for key, v in found.items() if key.startswith("mean-square")}
    assert of_mean == {claims.NOT_SUPPORTED}


def test_moments_are_those_of_numpy(values: Values) -> None:
    pair = ("relu", "gaussian")
    found = spectra.moments(tables_of({pair: values[pair]}).spectra)
    squares = values[pair] ** 2
    np.testing.assert_allclose(found["mean_square"], squares.mean(axis=1))
    expected = squares.var(axis=1) / squares.mean(axis=1) ** 2
    np.testing.assert_allclose(found["relative_variance"], expected)


def test_numbers_and_figures_agree_with_the_simulation(values: Values) -> None:
    tables = tables_of(values)
    numbers = pennington2017.numbers(tables)
    assert numbers["relu"] == pytest.approx(LAYERS, rel=0.15)
    assert numbers["q"] == pytest.approx(Q_STAR, rel=1e-6)
    options = {"columns": "activation", "hue": "initializer"}
    rows = KINDS["spectral_variance"].prepare(tables, options)
    rows = rows.set_index(["activation", "initializer"])
    squares = values["tanh", "orthogonal"] ** 2
    expected = (squares.var(axis=1) / squares.mean(axis=1) ** 2).mean()
    found = rows.loc[("tanh", "orthogonal"), "relative_variance"]
    assert found == pytest.approx(expected)
    assert rows.loc[("linear", "variance_scaling"), "predicted"] == pytest.approx(LAYERS)
    rows = KINDS["singular_values"].prepare(tables, {**options, "rows": "depth"})
    keys = (rows["activation"] == "linear") & (rows["initializer"] == "variance_scaling")
    bulk = rows[keys & (rows["rank"] > 0.1) & (rows["rank"] < 0.6)]
    np.testing.assert_allclose(bulk["median"], bulk["predicted"], atol=0.08)
    expected = np.log10(np.median(values["linear", "gaussian"], axis=0))
    np.testing.assert_allclose(rows[keys]["median"], expected, atol=0.01)


@pytest.mark.parametrize("layers", [1, 4, 16])
def test_quantiles_give_the_moments_of_the_law(layers: int) -> None:
    """Mean 1 and mean square L + 1 of the squared singular values."""
    law = spectra.Law("linear", 1.0, 1.0, layers, "gaussian")
    edges = np.concatenate([[0.0], np.geomspace(1e-7, 1, 20001)])
    squares = 10.0 ** (2 * law.log10_quantiles((edges[1:] + edges[:-1]) / 2))
    assert squares @ np.diff(edges) == pytest.approx(1, rel=0.01)
    assert squares**2 @ np.diff(edges) == pytest.approx(layers + 1, rel=0.02)
