"""The chapter on dynamical isometry, on networks simulated without any code of the package."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from config.studies.pennington2017 import claims as pennington2017
from gradprop import claims
from gradprop.analysis import spectra
from gradprop.figures.drawing import KINDS
from gradprop.spec import Cell
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


# Of learning time: sublinear, linear and faster, as in the paper.
EXPONENTS = {
    ("tanh", "orthogonal"): 0.4,
    ("tanh", "gaussian"): 1.0,
    ("relu", "orthogonal"): 1.1,
    ("relu", "gaussian"): 1.2,
}


def learners(exponents: dict[tuple[str, str], float]) -> tuple[list[Cell], pd.DataFrame]:
    """Return cells that are trained and their steps; times are a power of the depth."""
    random = np.random.default_rng(3)
    cells, steps = [], []
    for (activation, weights), exponent in exponents.items():
        for depth, seed, rate in itertools.product((4, 8, 16), range(6), (0.1, 0.2)):
            cell = make_cell(
                dataset="digits", depth=depth, width=32, activation=activation, seed=seed,
                initializer=initializer(activation, weights), learning_rate=rate,
            )  # fmt: skip
            time = 20 / rate * (depth / 4) ** exponent * random.uniform(0.95, 1.05)
            probes = np.arange(0, 1000, 2)
            curve = {"step": probes, "train_accuracy": np.where(probes > time, 0.95, 0.1)}
            cells.append(cell)
            steps.append(pd.DataFrame(curve).assign(cell=cell.id))
    return cells, pd.concat(steps, ignore_index=True)


def tables_of(values: Values, exponents: dict[tuple[str, str], float] = EXPONENTS) -> Any:
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
    trained, steps = learners(exponents)
    cells += trained
    study = SimpleNamespace(name="pennington2017", cells=tuple(cells), names={})

    def join(rows: pd.DataFrame, options: Any, columns: list[str]) -> pd.DataFrame:
        named = {
            cell.id: {"activation": cell.activation.name, "initializer": cell.initializer.name}
            | {"depth": cell.depth}
            for cell in cells
        }
        more = {name: rows["cell"].map(lambda c, n=name: named[c][n]) for name in columns}
        return rows.assign(**more)

    return SimpleNamespace(
        measurement={"spectra": pd.concat(parts, ignore_index=True)}.__getitem__,
        study=study,
        steps=steps,
        cells=pd.DataFrame([{"cell": cell.id, **cell.columns()} for cell in cells]),
        join=join,
        diverged=lambda rows: pd.Series(False, index=rows.index),
    )


def verdicts(tables: Any) -> dict[str, str]:
    return {
        f"{row.id}/{row.case}": row.verdict
        for claim in pennington2017.CLAIMS
        for row in claims.judge(claim, tables)
    }


@pytest.mark.long
def test_claims_hold_for_networks_simulated_independently(values: Values) -> None:
    """Those whose corrections of order L / N are small at a width of 64."""
    found = verdicts(tables_of(values))
    for pair in ("linear, Gaussian", "relu, orthogonal", "tanh, Gaussian"):
        assert found[f"spectral-variance/{pair}, L = 4"] == claims.SUPPORTED
    assert found["linear-isometry/linear, orthogonal, L = 4"] == claims.SUPPORTED
    for activation, weights in values:
        name = weights.replace("gaussian", "Gaussian")
        assert found[f"mean-square/{activation}, {name}, L = 4"] == claims.SUPPORTED
    times = [verdict for name, verdict in found.items() if "learning-time" in name]
    assert times == 4 * [claims.SUPPORTED]


@pytest.mark.long
def test_times_that_do_not_grow_as_claimed_are_told(values: Values) -> None:
    swapped = {key: 1.4 - exponent for key, exponent in EXPONENTS.items()}
    found = verdicts(tables_of({("linear", "orthogonal"): values["linear", "orthogonal"]}, swapped))
    times = [verdict for name, verdict in found.items() if "learning-time" in name]
    assert times == 4 * [claims.NOT_SUPPORTED]


@pytest.mark.long
def test_one_ensemble_does_not_pass_for_the_other(values: Values) -> None:
    swap = {"gaussian": "orthogonal", "orthogonal": "gaussian"}
    swapped = {(a, w): values[a, swap[w]] for a, w in values}
    found = verdicts(tables_of(swapped))
    of_spread = {v for key, v in found.items() if key.startswith(("spectral", "linear"))}
    assert of_spread == {claims.NOT_SUPPORTED}


@pytest.mark.long
def test_networks_off_criticality_are_told(values: Values) -> None:
    found = verdicts(tables_of({pair: 1.1 * s for pair, s in values.items()}))
    of_mean = {v for key, v in found.items() if key.startswith("mean-square")}
    assert of_mean == {claims.NOT_SUPPORTED}


@pytest.mark.long
def test_moments_are_those_of_numpy(values: Values) -> None:
    pair = ("relu", "gaussian")
    found = spectra.moments(tables_of({pair: values[pair]}).measurement("spectra"))
    squares = values[pair] ** 2
    np.testing.assert_allclose(found["mean_square"], squares.mean(axis=1))
    expected = squares.var(axis=1) / squares.mean(axis=1) ** 2
    np.testing.assert_allclose(found["relative_variance"], expected)
    np.testing.assert_allclose(found["largest_singular_value"], values[pair].max(axis=1))


@pytest.mark.long
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
    largest = {**options, "statistic": "largest_singular_value"}
    drawn = KINDS["spectral_variance"].prepare(tables, largest)
    edges = drawn.set_index(["activation", "initializer"])["predicted"]
    edge = (LAYERS + 1) ** (LAYERS + 1) / LAYERS**LAYERS
    assert edges["linear", "variance_scaling"] == pytest.approx(math.sqrt(edge))
    assert edges["linear", "orthogonal"] == 1
    for key in ("tanh", "tanh_gaussian"):
        ratio = float(numbers[f"{key}_largest"]) / float(numbers[f"{key}_edge"])
        assert 0.75 < ratio < 1.02
    mean = values["tanh", "orthogonal"].max(axis=1).mean()
    assert numbers["tanh_largest"] == pytest.approx(mean)
    assert numbers["along"] == pytest.approx((1 - 2 * Q_STAR) ** LAYERS, rel=0.01)
    assert numbers["smallest"] == pytest.approx(values["tanh", "orthogonal"].min(axis=1).mean())
    assert numbers["tanh_orthogonal_exponent"] == pytest.approx(0.4, abs=0.03)
    assert numbers["relu_gaussian_deep"] == pytest.approx(100 * 4**1.2, rel=0.07)
    assert numbers["relu_gaussian_arrived"] == 6


@pytest.mark.long
def test_histograms_have_the_laws_beside_them(values: Values) -> None:
    options = {"rows": "initializer", "columns": "activation", "hue": "depth"}
    kind = KINDS["singular_values"]
    rows = kind.prepare(tables_of(values), options)
    assert set(rows["layers"]) == {LAYERS}
    groups = rows.groupby(["activation", "initializer", "part"])
    for (activation, weights), networks in values.items():
        name = "orthogonal" if weights == "orthogonal" else "variance_scaling"
        bars = groups.get_group((activation, name, "networks"))
        law = groups.get_group((activation, name, "theory"))
        width = bars["high"] - bars["low"]
        assert (bars["density"] * width).sum() == pytest.approx(1)
        inside = (networks > bars["low"].iloc[5]) & (networks <= bars["high"].iloc[5])
        assert bars["density"].iloc[5] * width.iloc[5] == pytest.approx(inside.mean(), abs=1e-3)
        if (activation, weights) == ("linear", "orthogonal"):
            assert law[["low", "density"]].to_numpy().tolist() == [[1.0, np.inf]]
            continue
        bulk = bars[bars["low"] > (0.8 if weights == "orthogonal" else 0.3)]
        expected = np.interp((bulk["low"] + bulk["high"]) / 2, law["low"], law["density"])
        distance = (np.abs(bulk["density"] - expected) * width.loc[bulk.index]).sum()
        assert distance < 0.08, (activation, weights)
    relu = groups.get_group(("relu", "orthogonal", "networks"))
    assert relu["zeros"].iloc[0] == pytest.approx(
        np.mean(values["relu", "orthogonal"] < 1e-12), abs=0.01
    )
    figure = kind.draw(rows, {**options, "scale": "log"})
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert "% are 0" in kind.describe(rows, options)
    plt.close(figure)


@pytest.mark.long
def test_learning_times_have_a_panel_an_activation(values: Values) -> None:
    tables = tables_of({("linear", "orthogonal"): values["linear", "orthogonal"]})
    kind, options = KINDS["learning_time"], {**pennington2017.TIMES, "exponents": [0.5, 1]}
    rows = kind.prepare(tables, options)
    assert set(rows["activation"]) == {"tanh", "relu"}
    assert set(rows["learning_rate"]) == {0.2}
    figure = kind.draw(rows, options)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["tanh", "relu"]
    for axes in figure.axes:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        powers = [line for line in axes.lines if line.get_color() == "#808080"]
        data = [np.log(np.array(line.get_data(), dtype=np.float64)) for line in powers]
        slopes = [float(np.polyfit(x, y, 1)[0]) for x, y in data]
        assert slopes == pytest.approx([0.5, 1])
    assert "tanh, orthogonal(gain=" in kind.describe(rows, options)
    plt.close(figure)
    figure = kind.draw(rows, {k: v for k, v in options.items() if k != "exponents"})
    assert {axes.get_yscale() for axes in figure.axes} == {"linear"}
    plt.close(figure)
