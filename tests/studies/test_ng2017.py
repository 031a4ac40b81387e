"""The chapter on the lecture's assignment: claims on made-up tables, and decision boundaries."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from config.studies.ng2017 import assignment
from config.studies.ng2017 import claims as ng2017
from gradprop import claims
from gradprop.components import datasets
from gradprop.figures.drawing import KINDS, StudyError, StudyTables
from gradprop.results import tables
from tests.figures.test_figures import make_study
from tests.reference import make_cell

SEEDS = 12
INITIALIZERS: dict[str, Any] = {
    "zeros": "zeros",
    "normal": {"name": "normal", "stddev": 10.0},
    "variance_scaling": {"name": "variance_scaling", "scale": 2.0},
}
ACCURACY = {"zeros": 0.5, "normal": 0.7, "variance_scaling": 0.95}
LOSS = {"zeros": np.log(2), "normal": 0.9, "variance_scaling": 0.1}


def made_up(error: float = 0.0, seeds: int = SEEDS, **changes: dict[str, float]) -> Any:
    """Return tables of trained networks with noise, and of W = c I with a relative error."""
    accuracy = ACCURACY | changes.get("accuracy", {})
    loss = LOSS | changes.get("loss", {})
    random = np.random.default_rng(1)
    cells, rows, layers = [], [], []
    for start, initializer in INITIALIZERS.items():
        for seed in range(seeds):
            cell = make_cell(initializer=initializer, seed=seed)
            noise = 0.0 if start == "zeros" else float(random.normal(0, 0.02))
            final = {f"final_{part}_accuracy": accuracy[start] + noise for part in ng2017.PARTS}
            final |= {f"final_{part}_loss": loss[start] - noise for part in ng2017.PARTS}
            cells.append(cell)
            rows.append({"cell": cell.id, **cell.columns(), **final})
    for c in (0.5, 1.0, 1.5):
        for depth in (0, 9, 29):
            initializer = {"name": "identity", "gain": c}
            cell = make_cell(initializer=initializer, depth=depth, epochs=0)
            cells.append(cell)
            rows.append({"cell": cell.id, **cell.columns()})
            for layer in range(1, depth + 2):
                wrong = np.log10(1 + error) if c != 1 and layer == depth + 1 else 0.0
                square = 2 * (0.3 + layer * np.log10(c) + wrong)
                layers.append((cell.id, layer, square, 0.0))
    frame = pd.DataFrame(rows).assign(status="ok", chance_accuracy=0.5)
    names = ["cell", "layer", "preactivation_log10_mean_square", "gradient_log10_rms"]
    return SimpleNamespace(
        study=SimpleNamespace(name="ng2017", cells=tuple(cells), names={}),
        cells=frame,
        layers=pd.DataFrame(layers, columns=names).assign(step=0),
        steps=pd.DataFrame({"step": [0, 3000]}),
    )


OWN = [claim for claim in ng2017.CLAIMS if claim.id.startswith("assignment-")]
MEASURED = [claim for claim in ng2017.CLAIMS if claim not in OWN]


def judged(made: Any) -> list[claims.Result]:
    return [row for claim in MEASURED for row in claims.judge(claim, made)]


def failing(made: Any) -> set[str]:
    return {row.id for row in judged(made) if row.verdict == claims.NOT_SUPPORTED}


def test_claims_hold_where_they_should() -> None:
    verdicts = judged(made_up())
    assert len(verdicts) == 3 + 2 + 2 + 2 + 2
    assert {row.verdict for row in verdicts} == {claims.SUPPORTED}
    numbers = ng2017.numbers(made_up())
    assert numbers["variance_scaling_train_accuracy"] == pytest.approx(0.95, abs=0.02)
    assert numbers["high_output"] == pytest.approx(1.5**30)
    assert numbers["seeds"] == SEEDS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"error": 1e-4}, {"powers"}),
        ({"accuracy": {"zeros": 0.51}}, {"zeros-accuracy"}),
        ({"loss": {"zeros": np.log(2) + 1e-5}}, {"zeros-cost"}),
        ({"accuracy": {"normal": 0.81}}, {"he-accuracy"}),
        ({"loss": {"variance_scaling": 0.8, "zeros": 0.75}}, {"he-cost", "zeros-cost"}),
    ],
)
def test_every_claim_can_fail(changes: dict[str, Any], expected: set[str]) -> None:
    assert failing(made_up(**changes)) == expected


def test_two_seeds_are_too_few_for_a_median() -> None:
    rows = {row.id: row for row in judged(made_up(seeds=2))}
    assert rows["he-accuracy"].verdict == claims.NOT_TESTED
    assert "too few seeds" in rows["he-accuracy"].reason


def test_diverged_networks_count_as_worst() -> None:
    made = made_up()
    large = made.cells["initializer"] == "normal(stddev=10.0)"
    made.cells.loc[large, "status"] = "diverged"
    assert (ng2017.finals(made, "final_train_accuracy")["normal"] == 0).all()
    assert np.isinf(ng2017.finals(made, "final_train_loss")["normal"]).all()
    assert failing(made) == set()


def test_interval_is_that_of_order_statistics() -> None:
    """Of 12 values, ranks 3 and 10: two binomial tails of at most 5 % (0.0193 each)."""
    values = pd.Series(np.random.default_rng(0).permutation(12.0 + np.arange(12)))
    evidence = ng2017.median_difference("case", values, pd.Series(np.zeros(12)))
    assert (evidence.measured, evidence.low, evidence.high) == (17.5, 14.0, 21.0)


# ------------------------------------------------------------------ the assignment's own networks


def test_the_assignments_networks_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the cost after large random numbers, which hangs on rounding errors."""
    found = [row for claim in OWN for row in claims.judge(claim, made_up())]
    assert len(found) == 6 + 3
    failed = [row for row in found if row.verdict != claims.SUPPORTED]
    assert [(row.id, row.case) for row in failed] == [("assignment-costs", "large random")]
    assert failed[0].measured == pytest.approx(failed[0].predicted, rel=1e-3)

    wrong = assignment.Outcome(0.07358, 0.99, 0.96)
    monkeypatch.setattr(assignment, "PRINTED", {"He": wrong})
    found = [row for claim in OWN for row in claims.judge(claim, made_up())]
    cases = [row.case for row in found if row.verdict == claims.NOT_SUPPORTED]
    assert cases == ["He, training set", "He"]


def test_steps_of_the_assignment_against_finite_differences() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 7)), random.integers(0, 2, (1, 7)).astype(float)
    kernels = [random.standard_normal(s) for s in ((4, 2), (3, 4), (1, 3))]
    biases = [random.standard_normal((len(kernel), 1)) for kernel in kernels]
    parameters = [*kernels, *biases]

    def cost() -> float:
        z = assignment._forward(kernels, biases, x)[-1]
        p = 1 / (1 + np.exp(-z))
        return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))

    slopes = []
    for values in parameters:
        for place in np.ndindex(values.shape):
            here = values[place]
            values[place] = here + 1e-6
            above = cost()
            values[place] = here - 1e-6
            slopes.append((above - cost()) / 2e-6)
            values[place] = here
    before = np.concatenate([values.ravel() for values in parameters])
    assignment._update(kernels, biases, assignment._forward(kernels, biases, x), y)
    after = np.concatenate([values.ravel() for values in (*kernels, *biases)])
    np.testing.assert_allclose((before - after) / assignment.RATE, slopes, rtol=1e-6, atol=1e-9)


# --------------------------------------------------------------------------- the data, the figure


def test_the_training_set_is_balanced() -> None:
    """Zeros stay at ln 2 exactly only if both classes are equally frequent."""
    component = datasets.DATASETS.create(
        {"name": "circles", "examples": 400, "test_fraction": 0.25}
    )
    dataset = datasets.generate(component)
    assert np.bincount(dataset.y_train).tolist() == [150, 150]
    assert np.bincount(dataset.y_test).tolist() == [50, 50]


CIRCLES: dict[str, Any] = {
    "dataset": {"name": "circles", "examples": 40},
    "depth": 2,
    "measurements": [{"name": "decision", "points": 7}],
}


def test_regions_are_majorities_of_the_measured_outputs(tmp_path: Path) -> None:
    block = {**CIRCLES, "initializer": {"name": "variance_scaling", "scale": 2.0}, "seeds": 3}
    study = make_study(tmp_path, block, kinds=["decision_boundary"])
    kind, options = KINDS["decision_boundary"], study.figures["decision_boundary"]
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), options)
    outputs = tables.read(tmp_path / "small", "decision", study)
    ordered = outputs.sort_values(["cell", "row", "column", "output"])["value"]
    logits = ordered.to_numpy().reshape(3, 7 * 7, 2)
    votes = (logits[..., 1] > logits[..., 0]).sum(axis=0)
    region = rows[rows["mark"] == "region"].sort_values(["x2", "x1"])
    assert region["label"].tolist() == (votes >= 2).astype(int).tolist()
    assert region["share"].tolist() == pytest.approx(np.maximum(votes, 3 - votes) / 3)
    points = rows[rows["mark"] == "point"]
    data = datasets.generate(study.cells[0].dataset)
    np.testing.assert_array_equal(points[["x1", "x2"]].to_numpy(np.float32), data.x_train)
    np.testing.assert_array_equal(points["label"].to_numpy(int), data.y_train)
    drawn = kind.draw(rows, options)
    pixels = np.asarray(drawn.axes[0].images[0].get_array())
    alpha = pixels[..., 3].ravel()
    np.testing.assert_allclose(alpha, 0.35 * region["share"])
    plt.close(drawn)
    first = (votes < 2).mean()
    assert f"class 0 {first:.0%}" in kind.describe(rows, options) or first == 0


@pytest.mark.filterwarnings("error:.*:RuntimeWarning")
@pytest.mark.parametrize("initializer", ["zeros", {"name": "normal", "stddev": 1e30}])
def test_boundaries_of_degenerate_networks(tmp_path: Path, initializer: Any) -> None:
    block = {**CIRCLES, "initializer": initializer, "activation": "relu", "seeds": 1}
    study = make_study(tmp_path, block, kinds=["decision_boundary", "final_spread"])
    found = StudyTables(study, tmp_path / "small")
    for name, kind in ((n, KINDS[n]) for n in study.figures):
        rows = kind.prepare(found, study.figures[name])
        diverged = initializer != "zeros"
        if name == "final_spread":
            assert list(rows["state"] == "diverged") == [diverged]
            continue
        assert (rows["mark"] == "region").any() != diverged
        plt.close(kind.draw(rows, study.figures[name]))
        assert kind.describe(rows, study.figures[name])


def test_a_panel_shows_one_data_set(tmp_path: Path) -> None:
    data = [{"name": "circles", "examples": 40, "noise": noise} for noise in (0.0, 0.1)]
    study = SimpleNamespace(
        cells=tuple(make_cell(dataset=value, measurements="decision") for value in data)
    )
    ids = [cell.id for cell in study.cells]
    place = {"step": 0, "row": 0, "column": 0, "output": 0, "x1": 0.0, "x2": 0.0, "value": 0.0}

    def join(rows: pd.DataFrame, *_: Any) -> pd.DataFrame:
        return rows

    mixed: Any = SimpleNamespace(
        study=study,
        measurement={"decision": pd.DataFrame({"cell": ids, **place})}.__getitem__,
        join=join,
    )
    with pytest.raises(StudyError, match="shows one data set"):
        KINDS["decision_boundary"].prepare(mixed, {})


def test_spread_shows_the_final_result_of_every_network(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"seeds": 3, "depth": 2}, kinds=["final_spread"])
    found = StudyTables(study, tmp_path / "small")
    kind, options = KINDS["final_spread"], study.figures["final_spread"]
    rows = kind.prepare(found, options)
    assert rows["value"].tolist() == found.cells["final_train_loss"].tolist()
    spread = pd.DataFrame({**rows.iloc[:6].to_dict("list"), "value": [1e-2, 2e-2, 5e-2, 1, 2, 9]})
    drawn = kind.draw(spread, options)
    assert drawn.axes[0].get_xscale() == "log"
    dots = [line for line in drawn.axes[0].lines if line.get_marker() not in ("", "None")]
    assert [float(x) for line in dots for x in np.asarray(line.get_xdata())] == [*spread["value"]]
    plt.close(drawn)
    assert "he_normal 0.02 (0.01 to 0.05, 3 networks)" in kind.describe(spread, options)
