"""Claims: intervals, criteria and verdicts; and controls that have to fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradprop import claims, cli, initializers, studies, training
from gradprop.claims import Above, Below, Claim, Evidence, Within, exact, from_count, from_seeds
from gradprop.datasets import Dataset
from gradprop.spec import Cell, Component, Stack
from gradprop.studies import mechanism, propagation
from tests.reference import make_cell


def evidence(low: float, high: float, predicted: float = math.nan) -> Evidence:
    return Evidence("case", predicted, (low + high) / 2, low, high, networks=5)


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(0.95, 1.05, True), (0.9, 1.1, True), (0.89, 1.0, False), (1.0, 1.11, False), (0, 2, False)],
)
def test_within_needs_the_whole_interval(low: float, high: float, holds: bool) -> None:
    assert Within(absolute=0.1).holds(evidence(low, high, predicted=1.0)) is holds
    assert Within(relative=0.1).holds(evidence(-high, -low, predicted=-1.0)) is holds


def test_above_and_below() -> None:
    assert Above(0.5).holds(evidence(0.6, 0.9))
    assert not Above(0.5).holds(evidence(0.4, 0.9))
    assert Below(0.5).holds(evidence(0.1, 0.4))
    assert not Below(0.5).holds(evidence(0.1, 0.6))


def test_the_interval_over_seeds_against_scipy() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = from_seeds("case", values, predicted=3.0)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.90)
    assert (found.measured, found.networks) == (3.75, 4)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_intervals_of_seeds_hold_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    found = [from_seeds("", random.normal(1, 2, 5)) for _ in range(4000)]
    share = np.mean([item.low <= 1 <= item.high for item in found])
    assert abs(share - claims.CONFIDENCE) < 0.02


def test_the_interval_of_a_fraction_against_closed_forms() -> None:
    """All of n hits: the lower bound p solves p^n = 5 %."""
    found = from_count("case", [True] * 10)
    assert (found.measured, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.05**0.1)
    assert from_count("case", []).reason == claims.NO_NETWORKS


def test_the_interval_of_a_variance_holds_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    found = [claims.from_variance("", random.normal(5, 3, 12), expected=9.0) for _ in range(4000)]
    share = np.mean([item.low <= 1 <= item.high for item in found])
    assert abs(share - claims.CONFIDENCE) < 0.02
    assert np.mean([item.measured for item in found]) == pytest.approx(1.0, abs=0.03)
    assert claims.from_variance("", [1.0], 1.0).reason == "fewer than two networks"


def holm_by_p_values(p: Any, level: float = 0.05) -> list[bool]:
    """Holm's procedure as he states it: reject in order of p while p <= level / (m - rejected)."""
    rejected = [False] * len(p)
    for step, n in enumerate(np.argsort(p)):
        if p[n] > level / (len(p) - step):
            break
        rejected[n] = True
    return rejected


@pytest.mark.parametrize("criterion", [Above(0.0), Below(0.0), Within(absolute=0.7)])
def test_holm_against_p_values(criterion: Any) -> None:
    """The p-value of a one-sided t-test; for equivalence, the larger one of two (TOST)."""
    random = np.random.default_rng(2)
    supported = 0
    for _ in range(200):
        samples = [random.normal(random.normal(0, 0.5), 1, 20) for _ in range(6)]
        lower, upper = (-0.7, 0.7) if isinstance(criterion, Within) else (0.0, 0.0)
        above = np.array(
            [stats.ttest_1samp(x, lower, alternative="greater").pvalue for x in samples]
        )
        below = np.array([stats.ttest_1samp(x, upper, alternative="less").pvalue for x in samples])
        p = {Above: above, Below: below, Within: np.maximum(above, below)}[type(criterion)]
        judged = claims.holm(criterion, [from_seeds("", x, 0.0) for x in samples])
        assert [criterion.holds(item) for item in judged] == holm_by_p_values(p)
        supported += sum(holm_by_p_values(p))
    assert 50 < supported < 1150


def test_holm_rarely_supports_anything_wrongly() -> None:
    random = np.random.default_rng(3)
    families = [[from_seeds("", random.normal(0, 1, 5)) for _ in range(8)] for _ in range(500)]
    wrong = [any(map(Above(0.0).holds, claims.holm(Above(0.0), f))) for f in families]
    each = [any(map(Above(0.0).holds, f)) for f in families]
    assert np.mean(wrong) < 0.08  # 5 % and three standard errors
    assert np.mean(each) > 0.25  # one in three without the correction


def test_cases_without_chance_are_no_part_of_the_family() -> None:
    family = [exact("a", 1.0, 1.0), from_seeds("b", [1.0, 2.0, 3.0]), from_seeds("c", [math.nan])]
    assert claims.holm(Above(0.0), family) == family


def claim_of(items: Callable[[Any], list[Evidence]], criterion: Any = None) -> Claim:
    return Claim("id", "statement", "source", "formula", "m", criterion or Within(0.1), items)


def judge(items: list[Evidence]) -> list[claims.Result]:
    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    return claims.judge(claim_of(lambda _: items), tables)


def test_verdicts() -> None:
    found = judge(
        [
            exact("right", 1.05, 1.0),
            exact("wrong", 1.2, 1.0),
            from_seeds("lost", [1.0, math.nan], 1.0),
            from_seeds("lonely", [1.0], 1.0),
        ]
    )
    assert [row.verdict for row in found] == [
        claims.SUPPORTED,
        claims.NOT_SUPPORTED,
        claims.NOT_TESTED,
        claims.NOT_TESTED,
    ]
    assert found[2].reason == "1 of 2 values are not finite"
    assert found[3].reason == "fewer than two networks"
    assert claims.sort(found)[0].key == "study/id/wrong"


def test_a_study_that_lacks_the_networks_leaves_the_claim_untested() -> None:
    def lacking(_: Any) -> list[Evidence]:
        return [{}["tanh"]]  # type: ignore[index]

    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    for items in (lacking, lambda _: []):
        (found,) = claims.judge(claim_of(items), tables)
        assert (found.verdict, found.reason) == (claims.NOT_TESTED, claims.NO_NETWORKS)


def test_files_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, listed = tmp_path / "study.json", tmp_path / "listed.json"
    found = judge([exact("right", 1.0, 1.0), exact("wrong", 2.0, 1.0)])
    claims.write(found, path)
    assert claims.read(path) == found
    listed.write_text("{}")
    assert cli.main(["verify", str(path), "--listed", str(listed), "--update"]) == 0
    assert json.loads(listed.read_text())["study/id/wrong"] == claims.NOT_SUPPORTED
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 0

    claims.write([replace(found[0], verdict=claims.NOT_SUPPORTED), found[1]], path)
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 1
    assert "no longer supported: study/id/right" in capsys.readouterr().err
    claims.write([found[1]], path)
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 1
    assert cli.main(["verify", str(tmp_path / "none.json"), "--listed", str(listed)]) == 1


def test_ids_are_unique() -> None:
    for name, items in studies.CLAIMS.items():
        ids = [claim.id for claim in items]
        assert len(set(ids)) == len(ids), name


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_homogeneity_fails_for_other_functions(activation: str) -> None:
    assert mechanism.homogeneity_spread(activation, seed=1) < 1e-12


# ------------------------------------------------------------ measured networks, and controls


def tables_of(cells: list[Cell], dataset: Dataset) -> Any:
    """Return the tables of networks that were only measured at initialization."""
    watch = training.Stopwatch()
    (result,) = training.train([Stack(tuple(cells))], dataset, watch, "test")
    study = SimpleNamespace(name="propagation", cells=tuple(cells), names={})
    return SimpleNamespace(study=study, cells=result.cells, layers=result.layers)


def relu_cells(initializer: Any, count: int = 60, **parameters: Any) -> list[Cell]:
    shape = {"depth": 30, "width": 100, "activation": "relu", "epochs": 0, "use_bias": False}
    shape |= parameters
    return [make_cell(initializer=initializer, seed=n, **shape) for n in range(count)]


def verdicts(claim_id: str, tables: Any) -> dict[str, str]:
    (claim,) = [c for c in propagation.CLAIMS if c.id == claim_id]
    return {row.case: row.verdict for row in claims.judge(claim, tables)}


def relabelled(cells: list[Cell], tables: Any, initializer: Any) -> Any:
    """Return the tables with networks that claim to have been drawn by another initializer."""
    component = initializers.create(initializer)
    named = {cell.id: replace(cell, initializer=component) for cell in cells}
    layers = tables.layers.assign(cell=[named[c].id for c in tables.layers["cell"]])
    study = SimpleNamespace(name="propagation", cells=tuple(named.values()), names={})
    return SimpleNamespace(study=study, layers=layers)


def test_he_is_balanced_and_a_forgotten_factor_two_is_found(blobs: Dataset) -> None:
    cells = relu_cells("he_normal")
    tables = tables_of(cells, blobs)
    assert verdicts("signal-rate-relu", tables) == {"relu, he_normal": claims.SUPPORTED}
    forgotten = relabelled(cells, tables, "glorot_normal")
    assert verdicts("signal-rate-relu", forgotten) == {"relu, glorot_normal": claims.NOT_SUPPORTED}


def test_a_truncated_normal_without_correction_is_not_he(blobs: Dataset) -> None:
    """Cut at two standard deviations, a normal has 0.774 of its variance."""
    variance = stats.truncnorm(-2, 2).var()
    he = {"name": "variance_scaling", "scale": 2 * variance}
    for claim, cells in (
        ("signal-rate-relu", relu_cells(he)),
        ("relu-typical-length", relu_cells(he, batch_size=1)),
    ):
        tables = relabelled(cells, tables_of(cells, blobs), "he_normal")
        assert verdicts(claim, tables) == {"relu, he_normal": claims.NOT_SUPPORTED}


def test_weight_gradients_do_not_pass_for_signals(blobs: Dataset) -> None:
    cells = relu_cells("glorot_normal")
    tables = tables_of(cells, blobs)
    assert verdicts("signal-rate-relu", tables) == {"relu, glorot_normal": claims.SUPPORTED}
    tables.layers["signal_log10_rms"] = tables.layers["gradient_log10_rms"]
    assert verdicts("signal-rate-relu", tables) == {"relu, glorot_normal": claims.NOT_SUPPORTED}


def test_one_kernel_for_all_layers_is_found(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that share their weights do not fluctuate as independent ones do."""
    cells = relu_cells({"name": "variance_scaling", "scale": 2.0}, 300, batch_size=1, width=40)
    case = "relu, variance_scaling(scale=2.0)"
    tables = tables_of(cells, blobs)
    for claim in ("relu-spread", "relu-spread-per-layer", "relu-typical-length"):
        assert verdicts(claim, tables) == {case: claims.SUPPORTED}
    monkeypatch.setattr(initializers, "kernel_seed", lambda cell, layer: cell.seed)
    assert verdicts("relu-spread", tables_of(cells, blobs)) == {case: claims.NOT_SUPPORTED}


def test_weights_that_are_not_gaussian_fluctuate_otherwise(blobs: Dataset) -> None:
    """In narrow networks the weights' own law tells: the kurtosis of a uniform is 9/5, not 3."""
    shape = {"batch_size": 1, "width": 16, "depth": 10}
    he = {"name": "uniform", "limit": math.sqrt(3 * 2 / 16)}
    cells = relu_cells(he, count=300, **shape)
    tables = relabelled(cells, tables_of(cells, blobs), {"name": "variance_scaling", "scale": 2.0})
    (row,) = verdicts("relu-spread-per-layer", tables).values()
    assert row == claims.NOT_SUPPORTED


def test_early_layers_are_told_from_all_layers(blobs: Dataset) -> None:
    cells = relu_cells("glorot_normal", 20)
    sigmoid = [replace(cell, activation="sigmoid") for cell in cells]
    found = [tables_of(group, blobs) for group in (cells, sigmoid)]
    study = SimpleNamespace(name="propagation", cells=(*cells, *sigmoid), names={})
    layers = pd.concat([tables.layers for tables in found])
    assert verdicts("early-layers-above-all", SimpleNamespace(study=study, layers=layers)) == {
        "relu, glorot_normal": claims.NOT_SUPPORTED,
        "sigmoid, glorot_normal": claims.SUPPORTED,
    }


def test_slopes_of_a_table_by_hand() -> None:
    cell = make_cell(depth=30, activation="tanh", epochs=0)
    layers = pd.DataFrame({"cell": cell.id, "step": 0, "layer": range(1, 32)})
    layers["signal_log10_rms"] = 0.25 * layers["layer"] - 7
    tables: Any = SimpleNamespace(study=SimpleNamespace(cells=(cell,)), layers=layers)
    (slope,) = propagation._ln_slopes(tables, "signal_log10_rms")["slope"]
    assert slope == pytest.approx(0.25 * 2 * math.log(10))
    assert propagation._sigma_w2(
        replace(cell, initializer=Component("he_normal"))
    ) == pytest.approx(2)
