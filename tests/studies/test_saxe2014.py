"""The chapter on deep linear learning, on gradient descent in NumPy and on made-up times."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from config.studies.saxe2014 import claims as saxe2014
from gradprop import claims, theory
from gradprop.analysis import modes
from gradprop.components import datasets
from gradprop.figures.drawing import KINDS
from tests.reference import make_cell

TEACHER = {"name": "whitened_teacher", "symmetric": True}
DESCENT: dict[str, Any] = {"dataset": TEACHER, "depth": 1, "width": 16, "learning_rate": 0.01}
STEPS = np.unique(np.geomspace(1, 6400, 60).round()).astype(int)
STARTS: dict[str, Any] = {
    "identity": {"name": "identity", "gain": math.sqrt(1e-3)},
    "normal": {"name": "normal", "stddev": 0.01},
}


def descend(task: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return diag(V^T W_2 W_1 U) at `STEPS`, of descent on the mean over outputs of squares."""
    v, _, u = np.linalg.svd(task)
    found, rate = [], 2 * 0.01 / len(task)
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            found.append(np.diag(v.T @ second @ first @ u.T)[:5])
        error = task - second @ first
        first, second = first + rate * second.T @ error, second + rate * error @ first.T
    return np.array(found)


def made_up(speed: float = 1.0, exponent: float = 0.0, gaussian: float = 1.0) -> Any:
    """Return tables of descent in NumPy, `speed` times as fast, and of times to learn."""
    data = datasets.generate(datasets.DATASETS.create(TEACHER))
    x, y = (part.astype(np.float64) for part in (data.x_train, data.y_train))
    task = y.T @ x / len(x)
    strengths = np.linalg.svd(task, compute_uv=False)[:5]
    random = np.random.default_rng(1)
    cells, learned, steps, spectra = [], [], [], []
    for name, seeds in (("identity", 1), ("normal", 8)):
        for seed in range(seeds):
            cell = make_cell(**DESCENT, activation="linear", initializer=STARTS[name], seed=seed)
            start = [math.sqrt(1e-3) * np.eye(16)] * 2
            if name == "normal":
                start = [0.01 * random.standard_normal((16, 16)) for _ in range(2)]
            values = descend(task, *start)
            cells.append(cell)
            for index in range(5):
                columns = {"step": STEPS / speed, "learned": values[:, index]}
                mode = {"cell": cell.id, "index": index + 1, "strength": strengths[index]}
                learned.append(pd.DataFrame(columns).assign(**mode))
    for name, power in (("variance_scaling", gaussian), ("orthogonal", exponent)):
        for depth in (4, 8, 16):
            for seed in range(6):
                for rate, factor in ((0.01, 3.0), (0.1, 1.0)):
                    cell = make_cell(
                        dataset="digits", depth=depth, seed=seed, learning_rate=rate,
                        activation="linear", initializer=name,
                    )  # fmt: skip
                    time = factor * 20 * (depth / 4) ** power * random.uniform(0.95, 1.05)
                    probes = np.arange(0, 400)
                    curve = {"step": probes, "train_accuracy": np.where(probes > time, 0.95, 0.1)}
                    cells.append(cell)
                    steps.append(pd.DataFrame(curve).assign(cell=cell.id))
    for name in ("variance_scaling", "orthogonal"):
        cell = make_cell(
            dataset="sphere", depth=51, activation="linear", initializer=name, epochs=0
        )
        cells.append(cell)
        values = np.linspace(0.5, -4, 10) if name == "variance_scaling" else np.zeros(10)
        rows = {"index": np.arange(1, 11), "log10_singular_value": values}
        spectra.append(pd.DataFrame(rows).assign(cell=cell.id, example=0, resolved=True))
    return SimpleNamespace(
        measurement={
            "modes": pd.concat(learned, ignore_index=True),
            "spectra": pd.concat(spectra, ignore_index=True),
        }.__getitem__,
        study=SimpleNamespace(name="saxe2014", cells=tuple(cells), names={}),
        cells=pd.DataFrame([{"cell": cell.id, **cell.columns()} for cell in cells]),
        steps=pd.concat(steps, ignore_index=True),
        diverged=lambda rows: pd.Series(False, index=rows.index),
    )


@pytest.fixture(scope="module")
def tables() -> Any:
    return made_up()


def failing(tables: Any) -> set[str]:
    found = [row for claim in saxe2014.CLAIMS for row in claims.judge(claim, tables)]
    assert {row.verdict for row in found} <= {claims.SUPPORTED, claims.NOT_SUPPORTED}
    return {row.id for row in found if row.verdict == claims.NOT_SUPPORTED}


def test_claims_hold_for_descent_without_the_package(tables: Any) -> None:
    assert failing(tables) == set()
    numbers = saxe2014.numbers(tables)
    assert numbers["fastest"] == pytest.approx(theory.half_time(3, 1e-3), rel=0.01)
    assert numbers["slowest"] == pytest.approx(theory.half_time(0.6, 1e-3), rel=0.01)
    assert numbers["orthogonal_deep"] == pytest.approx(20, abs=2)
    assert (numbers["matrices"], numbers["below"]) == (50, 0.4)


def test_what_should_fail_fails() -> None:
    """Five percent too fast; orthogonal networks that slow down, Gaussian ones that do not."""
    found = failing(made_up(speed=1.05, exponent=0.4, gaussian=-0.1))
    assert found >= {"trajectories", "half-times", "orthogonal-depth", "gaussian-depth"}


def test_half_times_of_an_exact_solution() -> None:
    times = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    learned = theory.mode_strength(times, 1.5, 0.01)
    assert saxe2014.half_time(times, learned, 1.5) == pytest.approx(theory.half_time(1.5, 0.01))
    assert saxe2014.half_time(times, 0.1 * learned, 1.5) == math.inf
    assert saxe2014.half_time(times[3:], learned[3:], 1.5) == 4


def test_the_fitted_start_is_found() -> None:
    strengths = np.array([3.0, 2.0, 0.6])
    halves = np.array([theory.half_time(s, 2e-4) for s in strengths])
    assert saxe2014.fitted_start(strengths, halves) == pytest.approx(2e-4, rel=1e-3)


def test_the_strength_of_random_starts_is_that_of_what_grows() -> None:
    """|W_1 u + W_2^T v|^2 / 4, the mean over many draws; and c^2 of multiples of the identity."""
    cell = make_cell(**DESCENT, initializer={"name": "normal", "stddev": 0.2})
    a, b = 0.2 * np.random.default_rng(0).standard_normal((2, 20_000, 16))
    expected = np.mean(np.sum((a + b) ** 2, axis=1)) / 4
    assert modes.start_strength(cell) == pytest.approx(expected, rel=0.01)
    assert modes.start_strength(make_cell(**DESCENT, initializer=STARTS["identity"])) == (
        pytest.approx(1e-3)
    )
    assert math.isnan(modes.start_strength(make_cell(**DESCENT, initializer="orthogonal")))


def test_the_figure_has_the_exact_solution(tables: Any) -> None:
    def join(rows: pd.DataFrame, options: Any) -> pd.DataFrame:
        return rows.merge(tables.cells[["cell", "initializer", "activation"]], on="cell")

    options = {"columns": "initializer", "hue": "activation"}
    rows = KINDS["modes"].prepare(SimpleNamespace(**vars(tables), join=join), options)  # type: ignore[arg-type]
    decoupled = rows[rows["initializer"].str.startswith("identity")]
    np.testing.assert_allclose(decoupled["median"], decoupled["predicted"], atol=0.02)
    assert set(rows["index"]) == {1, 2, 3, 4, 5}
    assert rows["time"].max() == pytest.approx(6400 * 0.02 / 16)
    figure = KINDS["modes"].draw(rows, options)
    for axes in figure.axes:  # a line and a dashed one a mode, with its name
        assert len(axes.lines) == 10
        assert [text.get_text() for text in axes.texts] == [
            f"s = {s:.3g}" for s in sorted(rows["strength"].unique())
        ]
    plt.close(figure)
