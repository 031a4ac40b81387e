"""The chapter on how to start training, on networks simulated without any code of the package."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.hanin2018 import claims as hanin2018
from gradprop import claims, theory
from gradprop.analysis import lengths
from gradprop.analysis.arrivals import arrivals, at_best_rate, first_step
from gradprop.components import architecture
from gradprop.figures.drawing import KINDS
from gradprop.prediction import finite_width
from tests.reference import make_cell

HE = {"name": "variance_scaling", "scale": 2.0}
SEEDS = 700
# Profile, width, depth, initializer, networks, of those at initialization.
STARTS: list[tuple[Any, int, int, Any, int]] = [
    ("constant", 30, 20, HE, 1500),
    ("constant", 30, 20, "sussillo_abbott", 300),
    ("constant", 10, 20, HE, 1500),
    ("constant", 10, 20, "lyapunov", 1500),
    ({"name": "alternating", "other": 10}, 30, 10, HE, SEEDS),
    ({"name": "halves", "other": 10}, 30, 10, HE, SEEDS),
    ({"name": "linear", "last": 10}, 30, 10, HE, SEEDS),
    ({"name": "halves", "other": 30}, 10, 10, HE, SEEDS),
    ({"name": "alternating", "other": 3}, 10, 6, HE, 3000),
]
TRAINED: list[tuple[Any, int]] = [
    ("constant", 30),
    ("constant", 15),
    ({"name": "alternating", "other": 10}, 30),
    ({"name": "halves", "other": 30}, 10),
]
DEPTHS, TIMES = (2, 4, 8, 16), [1, 2, 5, 10, 20, 50, 100, 200, 400]


def gain(cell: Any, fan_in: int, width: int) -> float:
    """Return the weight variance times the fan-in, by the formulas of the papers."""
    if cell.initializer.name == "sussillo_abbott":
        return 2 * np.exp(2.4 / (max(fan_in, 6) - 2.4))
    if cell.initializer.name == "lyapunov":
        return float(np.exp(-theory.log_growth_mean(width, 1.0, "relu")))
    return 2.0


def simulate(cell: Any, networks: int, factor: float) -> np.ndarray:
    """Return log10 M_l of ReLU networks of one example each, (networks, layers)."""
    random = np.random.default_rng([networks, cell.depth, len(cell.initializer.name)])
    h = random.standard_normal((networks, 64))
    h *= 8 / np.linalg.norm(h, axis=1, keepdims=True)
    found = []
    for width in architecture.hidden_widths(cell):
        scale = np.sqrt(factor * gain(cell, h.shape[1], width) / h.shape[1])
        kernels = scale * random.standard_normal((networks, h.shape[1], width), dtype=np.float32)
        h = np.maximum(np.einsum("nf,nfw->nw", h, kernels), 0)
        with np.errstate(divide="ignore"):
            found.append(np.log10(np.mean(h**2, axis=1)))
    return np.stack(found, axis=1)


def learned(cell: Any, by_sum: bool) -> list[float]:
    """Return a made-up test accuracy at every time: it passes 20 % at a time set by the widths."""
    beta = sum(1 / n for n in architecture.hidden_widths(cell))
    random = np.random.default_rng([cell.seed, cell.width, cell.depth])
    arrival = 60 * (beta if by_sum else cell.depth / 30) * np.exp(random.normal(0, 0.3))
    return [0.5 if time > arrival else 0.1 for time in TIMES]


def made_up(factor: float = 1.0, by_sum: bool = True, product_error: float = 0.0) -> Any:
    cells, layers, steps = [], [], []
    for widths, width, depth, initializer, networks in STARTS:
        shared: dict[str, Any] = {"widths": widths, "width": width, "depth": depth}
        shared |= {"dataset": "sphere", "activation": "relu", "use_bias": False, "epochs": 0}
        group = [make_cell(**shared, initializer=initializer, seed=s) for s in range(networks)]
        values = simulate(group[0], networks, factor)
        cells += group
        count = depth * networks
        rows = {
            "cell": np.repeat([cell.id for cell in group], depth),
            "step": np.zeros(count, int),
            "layer": np.tile(np.arange(1, depth + 1), networks),
            "activation_log10_mean_square": values.ravel(),
        }
        layers.append(pd.DataFrame(rows))
    for widths, width in TRAINED:
        for depth in DEPTHS:
            for seed in range(16):
                cell = make_cell(
                    dataset="digits", widths=widths, width=width, depth=depth, seed=seed,
                    activation="relu", initializer=HE,
                )  # fmt: skip
                cells.append(cell)
                product = np.log10(np.where(np.arange(depth + 1) == 1, 1 + product_error, 1.0))
                layer = np.arange(1, depth + 2)
                parts = {"layer": layer, "weight_gradient_log10_product": product}
                layers.append(pd.DataFrame(parts).assign(cell=cell.id, step=0))
                curve = {"step": TIMES, "test_accuracy": learned(cell, by_sum)}
                steps.append(pd.DataFrame(curve).assign(cell=cell.id))
    double = {"name": "variance_scaling", "scale": 4.0}
    truncated = {**double, "scale": 1.5482, "distribution": "truncated_normal"}
    for initializer, arrival in (
        ("variance_scaling", np.inf), (double, np.inf), ("he_uniform", 50), (truncated, 200)
    ):  # fmt: skip
        cell = make_cell(dataset="digits", width=30, depth=16, initializer=initializer)
        cells.append(cell)
        accuracy = np.where(np.array(TIMES) >= arrival, 0.5, 0.1)
        steps.append(pd.DataFrame({"step": TIMES}).assign(cell=cell.id, test_accuracy=accuracy))
    return SimpleNamespace(
        study=SimpleNamespace(name="hanin2018", cells=tuple(cells), names={}),
        cells=pd.DataFrame([{"cell": cell.id, **cell.columns()} for cell in cells]),
        layers=pd.concat(layers, ignore_index=True),
        steps=pd.concat(steps, ignore_index=True),
    )


@pytest.fixture(scope="module")
def tables() -> Any:
    return made_up()


def failing(tables: Any) -> set[str]:
    found = [row for claim in hanin2018.CLAIMS for row in claims.judge(claim, tables)]
    assert {row.verdict for row in found} <= {claims.SUPPORTED, claims.NOT_SUPPORTED}
    return {row.id for row in found if row.verdict == claims.NOT_SUPPORTED}


@pytest.mark.long
def test_claims_hold_for_networks_simulated_independently(tables: Any) -> None:
    assert failing(tables) == set()
    numbers = hanin2018.numbers(tables)
    assert numbers["median"] == pytest.approx(numbers["typical"], rel=0.2)
    assert (numbers["xavier_arrived"], numbers["xavier_networks"]) == (0, 1)
    assert (numbers["uniform_steps"], numbers["truncated_steps"]) == (50, 200)
    assert numbers["short"] == pytest.approx(0.423, abs=1e-3)  # table of the exact variance
    assert float(numbers["narrow_steps"]) > 1.5 * float(numbers["wide_steps"])
    for name in ("wide", "narrow"):  # arrivals lie between two probes, or in the middle of two
        before, after = float(numbers[f"{name}_before"]), float(numbers[f"{name}_steps"])
        assert before in TIMES and before < after <= min(time for time in TIMES if time > before)


@pytest.mark.long
def test_what_should_fail_fails() -> None:
    """Networks of 1.1 times the variance that learn by their depth and break the identity."""
    wrong = made_up(factor=1.1, by_sum=False, product_error=0.01)
    expected = {"log-length-mean", "log-length-normal", "he-drift", "unbiased-gain"}
    by_depth = {"matched-depth", "equal-sums", "early-training-order"}
    assert failing(wrong) == expected | {"homogeneity"} | by_depth


def test_shared_kernels_spread_too_far() -> None:
    """One matrix for all layers: the terms of the walk are not independent."""
    random = np.random.default_rng(2)
    kernels = random.standard_normal((300, 30, 30)) * np.sqrt(2 / 30)
    h = random.standard_normal((300, 30))
    for _ in range(20):
        h = np.maximum(np.einsum("nf,nfw->nw", h, kernels), 0)
    logs = np.log(np.mean(h**2, axis=1))
    exact = 20 * theory.log_growth_variance(30, "relu")
    found = claims.from_variance("", logs[np.isfinite(logs)], exact)
    criterion = next(c.criterion for c in hanin2018.CLAIMS if c.id == "log-length-variance")
    assert found.measured > 2 and not criterion.holds(found)


def test_weighted_slope_is_that_of_the_normal_equations() -> None:
    x = np.array([1.0, 2.0, 4.0])
    y = np.array([1.5, 1.9, 4.4])
    design = np.stack([x, np.ones(3)], axis=1) / x[:, None]
    expected = np.linalg.solve(design.T @ design, design.T @ (y / x))[0]
    assert hanin2018.weighted_slope(x, y) == pytest.approx(expected)
    assert hanin2018.weighted_slope(x, 3 * x + 1) == pytest.approx(3)


@pytest.mark.long
def test_figures_are_those_of_the_simulation(tables: Any) -> None:
    wanted = {"width": 30, "widths": "constant", "initializer": "variance_scaling(scale=2.0)"}
    start = {**wanted, "dataset": "sphere"}
    rows = KINDS["mean_length"].prepare(tables, {"hue": "initializer", "select": start})
    assert list(rows["layer"]) == list(range(1, 21))
    np.testing.assert_allclose(rows["predicted_mean"], 0, atol=1e-9)
    np.testing.assert_allclose(rows["mean"], 0, atol=0.15)
    np.testing.assert_allclose(rows["median"], rows["predicted_typical"], atol=0.06)
    spread = KINDS["length_spread"].prepare(
        tables, {"hue": "widths", "select": {**start, "width": [10, 30]}}
    )
    wide = spread[spread["line"] == "30"]
    np.testing.assert_allclose(wide["reciprocal_widths"], wide["depth"] / 30)
    np.testing.assert_allclose(wide["variance"], wide["predicted"], rtol=0.15)
    logs = lengths.log_lengths(tables, [c for c in tables.study.cells if c.width == 30][:1500])
    np.testing.assert_allclose(wide["variance"], logs.var(axis=0, ddof=1))
    assert list(spread.loc[spread["line"] == "10", "networks"]) == sorted(
        spread.loc[spread["line"] == "10", "networks"], reverse=True
    )


def test_times_are_those_at_the_best_rate() -> None:
    times = pd.DataFrame(
        [
            ("a", 2, rate, seed, steps)
            for rate, times in ((0.1, (4, 8, 9)), (0.3, (3, np.inf, np.inf)), (1.0, (8, 8, 8)))
            for seed, steps in enumerate(times)
        ]
        + [("b", 2, rate, 0, np.inf) for rate in (0.1, 0.3)],
        columns=["line", "depth", "learning_rate", "seed", "steps"],
    ).assign(panel="")
    best = at_best_rate(times)
    assert list(best.loc[best["line"] == "a", "steps"]) == [4, 8, 9]  # a tie of medians: 0.1
    assert list(best.loc[best["line"] == "b", "learning_rate"]) == [0.1]
    steps = pd.DataFrame({"step": [1, 5, 9], "accuracy": [0.1, 0.2, 0.3]})
    assert first_step(steps, "accuracy", 0.2) == 9
    assert first_step(steps, "accuracy", 0.5) == np.inf


@pytest.mark.long
def test_learning_time_of_made_up_networks(tables: Any) -> None:
    options = {"statistic": "test_accuracy", "level": 0.2, "hue": "widths"}
    chosen = {**options, "select": {"initializer": "variance_scaling(scale=2.0)"}}
    rows = KINDS["learning_time"].prepare(tables, chosen).set_index(["widths", "depth"])
    assert rows.loc[("15", 16), "reciprocal_widths"] == pytest.approx(16 / 15)
    found = arrivals(tables, chosen)
    steps = found.loc[(found["line"] == "15") & (found["depth"] == 16), "steps"]
    assert rows.loc[("15", 16), "median"] == np.sort(steps)[8]
    assert rows["arrives"].all()


@pytest.mark.parametrize("name", architecture.WIDTHS)
def test_every_profile_has_a_name(name: str) -> None:
    parameters = {"units": "7 3"} if name == "listed" else {}
    cell = make_cell(widths={"name": name, **parameters}, width=7)
    text = finite_width.architecture_name(cell)
    assert "7" in text and "{" not in text
