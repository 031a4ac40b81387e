"""Figures draw what changed, from numbers that agree with the tables, degenerate ones included."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from gradprop import files, jobs, provenance, theory
from gradprop.components.datasets import write
from gradprop.figures import drawing, layers, lost, modes, style, training
from gradprop.figures.drawing import (
    KINDS,
    StudyTables,
    draw_figure,
    draw_study,
)
from gradprop.figures.layers import with_residuals
from gradprop.grid import loading, sharding
from gradprop.grid.schema import study_schema
from gradprop.prediction.data import data_likeness, prediction_on_data
from gradprop.prediction.networks import predict
from gradprop.results import tables
from gradprop.results.store import Store
from gradprop.spec import Study
from tests.long import long_but
from tests.reference import make_cell

GROUPS: dict[str, Any] = {"rows": "activation", "columns": "depth", "hue": "initializer"}
OPTIONS: dict[str, dict[str, Any]] = {
    "layer_profile": {"statistic": ["signal_log10_rms", "gradient_log10_rms"], **GROUPS},
    "layer_heatmap": {"statistic": "gradient_log10_rms", "rows": "depth", "columns": "initializer"},
    "learning_curves": {"statistic": "train_loss", **GROUPS},
    "slope": {"statistic": "signal_log10_rms", **GROUPS},
    "atlas": {
        "statistic": "final_train_accuracy",
        "columns": "activation",
        "hue": "initializer",
    },
    "steps_to_target": {"hue": "initializer"},
    "divergence": {"hue": "initializer"},
    "final_spread": {"statistic": "final_train_loss", **GROUPS},
    "decision_boundary": {"rows": "depth", "columns": "initializer"},
    "update_ratio": {"columns": "depth", "hue": "initializer"},
    "fluctuations": {"statistic": "preactivation_log10_mean_square", **GROUPS},
    "phase_diagram": {},
    "layer_curves": {
        "statistic": ["activation_q98", "activation_std"],
        "band": "activation_mean",
        "rows": "initializer",
        "columns": "depth",
    },
    "map_iteration": {"statistic": "preactivation_log10_mean_square"},
    "fixed_points": {},
    "fixed_point_distance": {},
    "circle": {},
    "curvature": {},
    "depth_scales": {},
    "trainability_map": {"statistic": "final_train_accuracy"},
    "singular_values": {**GROUPS},
    "spectral_variance": {"columns": "activation", "hue": "initializer"},
    "mean_length": {"hue": "initializer"},
    "length_spread": {"hue": "widths"},
    "learning_time": {
        "statistic": "train_accuracy",
        "level": 0.5,
        "against": ["depth", "reciprocal_widths"],
        "hue": "widths",
    },
    "modes": {"rows": "depth", "columns": "initializer", "hue": "activation"},
    "histograms": {
        "statistic": ["signal", "activation"],
        "rows": "initializer",
        "columns": "depth",
    },
    "layer_singular_values": {**GROUPS},
    "optimal_rate": {"statistic": "test_accuracy", "level": 0.5, "hue": "initializer"},
}
THEORY = {
    "kind": "layer_profile",
    "statistic": ["signal_log10_rms", "preactivation_log10_mean_square"],
    "theory": True,
    **GROUPS,
}
# These are of one depth.
OF_ONE_DEPTH = ("phase_diagram", "depth_scales", "map_iteration", "fixed_point_distance")
# For the kinds that draw measurements.
MEASURED = [
    {"name": "histograms", "bins": 9, "activation": 1.0, "signal": 0.5},
    "spectra",
    {"name": "trajectories", "inputs": 5},
    {"name": "curvature", "inputs": 3},
]
MECHANISM = ["product_output", "product_gradient", "float_limits", "random_products"]


def make_study(folder: Path, grid_block: Mapping[str, Any], **changes: Any) -> Study:
    """Train a small study; return it with one figure of every kind that fits."""
    kinds: Any = changes.pop("kinds", OPTIONS)
    content: dict[str, Any] = {
        "title": "T",
        "question": "Q?",
        "grid": {
            "dataset": {"name": "gaussian_mixture", "dimension": 4, "classes": 2, "examples": 40},
            "depth": [2, 3],
            "width": 5,
            "activation": "tanh",
            "initializer": ["he_normal", "zeros"],
            "learning_rate": 0.1,
            "batch_size": 8,
            "epochs": 1,
            "target_loss": 0.5,
            "seeds": 2,
            **grid_block,
        },
        "probes": 2,
        "measurements": MEASURED if {"histograms", "layer_singular_values"} & set(kinds) else [],
        "figures": {
            k: {"kind": k, "title": k, **(THEORY if k == "theory" else OPTIONS.get(k, {}))}
            for k in kinds
        },
        **changes,
    }
    depths: Any = content["grid"]["depth"]
    deepest = max(depths) if isinstance(depths, list) else depths
    for kind in set(OF_ONE_DEPTH) & set(kinds):
        content["figures"][kind]["select"] = {"depth": deepest}
    drawn: Any = content["grid"]["initializer"]
    for kind in {"learning_time", "length_spread"} & set(kinds) if isinstance(drawn, list) else ():
        content["figures"][kind]["select"] = {"initializer": drawn[0]}  # their lines are of widths
    study = loading.build_study("small", content, 1, "small.yaml")
    data = folder / "data.npz"
    write(study.cells[0].dataset, data)
    for shard in sharding.shards(study.cells).values():
        jobs.train_shard(shard, folder / "small", data, stack_size=8)
    return study


def test_kinds_are_those_of_the_schema() -> None:
    assert set(study_schema()["$defs"]["figure"]["properties"]["kind"]["enum"]) == set(KINDS)
    assert set(KINDS) == {*OPTIONS, *MECHANISM}


def test_only_what_changed_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "FORMATS", ("svg",))
    study = make_study(tmp_path, {}, kinds=["atlas", "divergence"])
    results, reports = tmp_path / "small", tmp_path / "reports"
    assert draw_study(study, results, reports) == ["atlas", "divergence"]
    assert draw_study(study, results, reports) == []
    edited = {**study.definition["content"]["figures"]}
    edited["atlas"] = {**edited["atlas"], "title": "Another"}
    again = loading.build_study(
        "small", {**study.definition["content"], "figures": edited}, 1, "small.yaml"
    )
    assert draw_study(again, results, reports) == ["atlas"]
    (reports / "figures/small/divergence.svg").unlink()
    assert draw_study(again, results, reports) == ["divergence"]
    source = inspect.getsource
    edited_modules = []

    def other(module: Any) -> str:
        return source(module) + ("# edited" if module in edited_modules else "")

    monkeypatch.setattr(inspect, "getsource", other)
    # Both are drawn by `training`, with helpers of `layers`; nothing of `modes` is in them.
    for module, drawn in (
        (style, True),
        (layers, True),
        (modes, False),
        (training, True),
    ):
        edited_modules.append(module)
        assert draw_study(again, results, reports) == (["atlas", "divergence"] if drawn else [])


def test_all_that_a_drawing_is_made_from_decides_whether_it_is_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packages, the theory and the caption; not the order of the options, nor `differs`."""
    monkeypatch.setattr(drawing, "FORMATS", ("svg",))
    study = make_study(tmp_path, {}, kinds=["atlas"])
    tables, reports, store = (
        StudyTables(study, tmp_path / "small"),
        tmp_path / "reports",
        Store(tmp_path / "drawings"),
    )
    options = dict(study.figures["atlas"])
    assert draw_figure(tables, "atlas", options, reports, store) == "drawn"
    backwards = dict(reversed(options.items()))
    assert draw_figure(tables, "atlas", backwards, reports, store) == drawing.UNCHANGED
    told = {**options, "differs": "The paper’s is wider."}  # by the report alone
    assert draw_figure(tables, "atlas", told, reports, store) == drawing.UNCHANGED
    for change in (
        lambda: monkeypatch.setattr(drawing, "version", lambda name: "0.0"),
        lambda: monkeypatch.setattr(provenance, "sources_digest", lambda modules: "another"),
        lambda: options.update(caption="Another."),
    ):
        change()
        assert draw_figure(tables, "atlas", options, reports, store) == "drawn"
        assert draw_figure(tables, "atlas", options, reports, store) == drawing.UNCHANGED
        assert len(store.entries("atlas-*")) == 1


def test_two_processes_do_not_draw_the_same_study_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second waits, and finds every figure as it should be."""
    study = make_study(tmp_path, {}, kinds=["atlas"])
    results, reports = tmp_path / "small", tmp_path / "reports"
    with ThreadPoolExecutor(1) as other:
        with files.one_at_a_time(results / "drawings", "drawing"):
            waiting = other.submit(draw_study, study, results, reports)
            said = ""  # in however many pieces
            while "waiting for another process: drawing" not in said:
                said += capfd.readouterr().err
                assert not waiting.done()
                time.sleep(0.01)
            assert not reports.exists()
        assert waiting.result() == ["atlas"]


def test_atlas_of_panels_with_different_depths(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"depth": 1, "activation": ["tanh", "relu"]}, kinds=["atlas"])
    options = study.figures["atlas"]
    rows = KINDS["atlas"].prepare(StudyTables(study, tmp_path / "small"), options)
    extra = rows[rows["activation"] == "relu"].assign(depth=4)
    figure = KINDS["atlas"].draw(pd.concat([rows, extra]), options)
    for title, fields in (("tanh", 2), ("relu", 4)):
        (axes,) = (axes for axes in figure.axes if title in axes.get_title())
        assert len([text for text in axes.texts if text.get_text()]) == fields
        hatched = [part for part in axes.collections if part.get_gid() == lost.NOT_RUN]
        assert [np.ma.count(np.ma.asarray(part.get_array())) for part in hatched] == (
            [2] if fields == 2 else []
        )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["not run"]


def test_figures_divided_by_the_learning_rate(tmp_path: Path) -> None:
    """The table of steps has a column of that name, too."""
    kinds = ("learning_curves", "atlas")
    shown = {
        kind: {"kind": kind, "title": kind, **OPTIONS[kind], "columns": "learning_rate"}
        for kind in kinds
    }
    block = {"learning_rate": [0.1, 0.2], "depth": 2}
    again = make_study(tmp_path, block, kinds=kinds, figures=shown)
    reports = tmp_path / "reports"
    assert draw_study(again, tmp_path / "small", reports) == list(shown)
    rows = pd.read_csv(reports / "data/small/learning_curves.csv")
    assert set(rows["learning_rate"]) == {0.1, 0.2}


def test_a_matplotlibrc_changes_no_figure(tmp_path: Path) -> None:
    """All settings of Matplotlib are the same, whatever the user's file says."""
    path = tmp_path / "matplotlibrc"
    path.write_text(
        "font.size: 30\nlines.linewidth: 9\npath.sketch: 1, 100, 2\nsavefig.bbox: tight\n"
        "figure.constrained_layout.use: True\naxes.formatter.use_locale: True\nbackend: pdf\n"
    )
    code = "from gradprop.figures import style; print(sorted(style.mpl.rcParams.items()))"
    plain, own = (
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **more, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, {"MATPLOTLIBRC": str(path)})
    )
    assert "'lines.linewidth', 1.5" in plain
    assert own == plain


DEGENERATE: dict[str, dict[str, Any]] = {
    "usual": {},
    "one of everything": {"depth": 2, "initializer": "he_normal", "seeds": 1},
    "no hidden layer": {"depth": 0, "initializer": "he_normal"},
    "one hidden layer": {"depth": 1},
    "all zeros": {"initializer": "zeros"},
    "all diverged": {"initializer": {"name": "normal", "stddev": 1e30}, "activation": "relu"},
    "initialization only": {"epochs": 0},
    "one unit, one example": {"width": 1, "batch_size": 1},
    "regression": {"dataset": {"name": "linear_teacher", "dimension": 3, "examples": 40}},
}


@pytest.mark.filterwarnings("error:.*:RuntimeWarning")
@pytest.mark.parametrize("name", long_but(["all diverged"], DEGENERATE))
def test_every_kind_draws_degenerate_studies(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "FORMATS", ("svg",))
    every = [*OPTIONS, "theory"]
    study = make_study(tmp_path, DEGENERATE[name], kinds=every)
    assert draw_study(study, tmp_path / "small", tmp_path / "reports") == every
    for figure in every:
        assert (tmp_path / f"reports/figures/small/{figure}.svg").stat().st_size > 1000


def test_profile_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"initializer": "he_normal", "seeds": 3})
    results = tmp_path / "small"
    options = study.figures["layer_profile"]
    rows = KINDS["layer_profile"].prepare(StudyTables(study, results), options)
    layers, cells = (tables.read(results, name, study) for name in ("layers", "cells"))
    deep = set(cells.loc[cells["depth"] == 3, "cell"])
    chosen = layers[layers["cell"].isin(deep) & (layers["step"] == 0) & (layers["layer"] == 2)]
    row = rows[
        (rows["depth"] == 3) & (rows["layer"] == 2) & (rows["statistic"] == "signal_log10_rms")
    ]
    assert row["median"].item() == np.median(chosen["signal_log10_rms"])
    assert row["networks"].item() == row["finite"].item() == 3


def test_a_panel_without_networks_stays_empty(tmp_path: Path) -> None:
    """Where rows and columns meet that no block of the grid has together."""
    block = {"activation": ["tanh", "relu"], "epochs": 0, "initializer": "he_normal"}
    study = make_study(tmp_path, block, kinds=["layer_profile"])
    kind, options = KINDS["layer_profile"], study.figures["layer_profile"]
    one = {**options, "statistic": "signal_log10_rms"}
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), one)
    rows = rows[(rows["activation"] == "tanh") | (rows["depth"] == 2)]
    lines = [len(axes.lines) > 0 for axes in kind.draw(rows, one).axes]
    assert sorted(lines) == [False, True, True, True]
    assert kind.describe(rows, one)


def test_theory_is_drawn_over_the_measurement(tmp_path: Path) -> None:
    block = {"width": 128, "depth": 3, "epochs": 0, "activation": "relu", "seeds": 4}
    study = make_study(tmp_path, block, kinds=["theory"])
    kind, options = KINDS["layer_profile"], study.figures["theory"]
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), options)
    zeros = rows["initializer"] == "zeros"
    assert rows.loc[zeros, "predicted"].isna().all()
    lines = rows[~zeros].set_index(["statistic", "layer"])
    signal, length = (lines.loc[name] for name in options["statistic"])
    assert signal["predicted"][3] == signal["median"][3]  # set to it at the last hidden layer
    assert signal["predicted_sd"][3] == 0
    assert signal["predicted_sd"][1] > signal["predicted_sd"][2] > 0
    alike = data_likeness(study.cells[0].dataset)
    expected = predict(study.cells[0], inputs=4, outputs=2, alike=alike)  # inputs: mean square 1
    assert expected is not None
    np.testing.assert_allclose(length["predicted"], expected.length, atol=1e-6)
    np.testing.assert_allclose(np.diff(signal["predicted"]), np.diff(expected.signal), atol=1e-6)
    residual = (lines["median"] - lines["predicted"]).abs().drop(4, level="layer")
    assert residual.max() < 0.2
    assert f"is {residual.max():.2g} decades" in kind.describe(rows, options)
    assert np.isnan(length["predicted_lift"]).all()
    np.testing.assert_array_equal(signal["predicted_lift"], expected.lift)
    assert (
        signal["predicted_lift"][1] > signal["predicted_lift"][2] > signal["predicted_lift"][3] == 0
    )
    assert "minibatch" not in kind.describe(rows, options)  # too little to be worth a sentence
    lifted = rows.assign(predicted_lift=10 * rows["predicted_lift"])
    sentence = f"up to {10 * expected.lift[0]:.2g} decades above a typical single example"
    assert sentence in kind.describe(lifted, options)
    drawn = kind.draw(rows, options)
    black = [line for axes in drawn.axes for line in axes.lines if line.get_color() == "black"]
    shown = [line for line in black if np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any()]
    assert len(shown) == 2  # he_normal, one in each panel
    plt.close(drawn)


def test_residuals_are_drawn_below_what_was_measured(tmp_path: Path) -> None:
    block = {"width": 128, "depth": 3, "epochs": 0, "activation": "relu", "seeds": 4}
    study = make_study(tmp_path, {**block, "initializer": "he_normal"}, kinds=["theory"])
    kind, options = KINDS["layer_profile"], {**study.figures["theory"], "residual": True}
    tables = StudyTables(study, tmp_path / "small")
    rows = kind.prepare(tables, study.figures["theory"])
    both = kind.prepare(tables, options)
    above, below = (both[both["part"] == part] for part in ("value", "residual"))
    pd.testing.assert_frame_equal(above[rows.columns], rows)
    for column in ("median", "low", "high"):
        np.testing.assert_allclose(below[column], rows[column] - rows["predicted"])
    np.testing.assert_array_equal(below["predicted"], 0.0)
    np.testing.assert_array_equal(below["predicted_sd"], rows["predicted_sd"])
    assert kind.describe(both, options).startswith(kind.describe(rows, study.figures["theory"]))
    assert "Lower panels show the differences" in kind.describe(both, options)

    figure = kind.draw(both, options)
    upper, lower = figure.axes[:2], figure.axes[2:]  # lengths and signals
    assert len(lower) == 2
    for measured, residual in zip(upper, lower, strict=True):
        assert residual.get_position().height < 0.6 * measured.get_position().height
        assert max(np.abs(residual.get_ylim())) < 1
    drawn = {np.asarray(line.get_ydata()).tobytes() for axes in lower for line in axes.lines}
    for _, line in below.groupby("statistic"):
        assert line["median"].to_numpy().tobytes() in drawn
    plt.close(figure)


def test_a_layer_that_float32_lost_has_no_residual() -> None:
    profile = pd.DataFrame(
        {"median": [1.0, 2.0, 3.0, 4.0], "low": 0.5, "high": 5.0, "predicted": [1, 1, 1, np.nan]}
        | {"predicted_sd": 0.1, "networks": 3, "finite": [3, 2, 1, 3]}
    )
    below = with_residuals(profile).iloc[4:]
    assert below["median"].tolist() == pytest.approx([0, *[math.nan] * 3], nan_ok=True)
    assert below["high"].tolist() == pytest.approx([4, *[math.nan] * 3], nan_ok=True)


def test_nothing_is_predicted_of_constant_kernels(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"initializer": "zeros"}, kinds=["theory"])
    kind, options = KINDS["layer_profile"], study.figures["theory"]
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), options)
    assert "No line of theory is drawn" in kind.describe(rows, options)


def test_mechanism_follows_its_closed_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "FORMATS", ("svg",))
    identities = [{"name": "identity", "gain": c} for c in (0.5, 1.0, 1.5)]
    random = [{"name": "variance_scaling", "scale": c} for c in (0.25, 1.0)]
    block = {
        "dataset": {"name": "linear_teacher", "dimension": 2, "outputs": 2, "examples": 40},
        "width": 2,
        "depth": [0, 3, 9],
        "activation": "linear",
        "initializer": random,
        "epochs": 0,
        "loss": "output_sum",
        "seeds": 1,
        "use_bias": False,
    }
    powers = [kind for kind in MECHANISM if kind != "random_products"]
    study = make_study(tmp_path, {**block, "initializer": identities}, kinds=powers)
    rows = KINDS["product_gradient"].prepare(StudyTables(study, tmp_path / "small"), {})
    np.testing.assert_allclose(rows["measured"], rows["closed_form"], atol=1e-6)
    output = KINDS["product_output"].prepare(StudyTables(study, tmp_path / "small"), {})
    assert output.set_index(["c", "matrices"])["measured"][1.5, 10] == pytest.approx(
        10 * np.log10(1.5), rel=1e-6
    )
    assert draw_study(study, tmp_path / "small", tmp_path / "reports") == powers
    limits = pd.read_csv(tmp_path / "reports/data/small/float_limits.csv")
    assert (limits["relative_error"] < 1e-5).all()
    chance = tmp_path / "chance"
    study = make_study(chance, {**block, "depth": 9}, kinds=["random_products"])
    assert draw_study(study, chance / "small", chance / "reports") == ["random_products"]


@pytest.mark.parametrize(("time", "end"), [("iteration", 8), ("epoch", 2)])
def test_learning_curves_on_linear_axes(tmp_path: Path, time: str, end: int) -> None:
    study = make_study(tmp_path, {"epochs": 2, "depth": 2}, kinds=["learning_curves"])
    kind, options = KINDS["learning_curves"], {**study.figures["learning_curves"], "time": time}
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), options)
    steps = rows["step"].max()
    assert rows[time].max() == end
    np.testing.assert_allclose(rows[time] / end, rows["step"] / steps)
    figure = kind.draw(rows, options)
    for axes in figure.axes:
        assert axes.get_xscale() == axes.get_yscale() == "linear"
        assert axes.get_ylim()[0] == 0
        ends = [np.asarray(line.get_xdata())[-1] for line in axes.lines]
        assert ends == [end] * len(ends) and ends
    assert figure.get_supxlabel() == time
    assert f"against training {time}" in kind.describe(rows, options)
    plt.close(figure)


def test_labels_are_in_the_middle_of_the_panels(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"initializer": "he_normal"}, kinds=["learning_curves"])
    kind, options = KINDS["learning_curves"], study.figures["learning_curves"]
    figure = kind.draw(kind.prepare(StudyTables(study, tmp_path / "small"), options), options)
    panels = [axes.get_position() for axes in figure.axes]
    low, high = min(panel.y0 for panel in panels), max(panel.y1 for panel in panels)
    left, right = min(panel.x0 for panel in panels), max(panel.x1 for panel in panels)
    texts = {text.get_text(): text.get_position() for text in figure.texts}
    (loss,) = (name for name in texts if name.startswith("training loss"))
    assert texts[loss][1] == pytest.approx((low + high) / 2)
    assert texts["step"][0] == pytest.approx((left + right) / 2)
    plt.close(figure)


def test_names_of_numbers_have_a_sequence_of_colours() -> None:
    numbers = style.looks(["σ_w² = 0.5", "σ_w² = 1e-3", "σ_w² = 4"])
    assert list(numbers.values()) == list(style.looks([0.5, 1e-3, 4]).values())
    assert [look.colour for look in numbers.values()] == style.sequence(3)
    names = style.looks(["He, variance 2/n", "σ_w² = 0.5"])
    assert [look.colour for look in names.values()] == style.COLOURS[:2]


def test_limits_of_floats_are_drawn_where_they_are_near() -> None:
    def texts(matrices: int) -> list[str]:
        rows = pd.DataFrame(
            {"c": [0.5, 0.5, 1.5, 1.5], "matrices": [1, matrices] * 2, "measured": np.nan}
        )
        rows["closed_form"] = rows["matrices"] * np.log10(rows["c"])
        figure = KINDS["product_output"].draw(rows, {})
        found = [text.get_text() for text in figure.axes[0].texts]
        plt.close(figure)
        return found

    assert texts(50) == []
    assert texts(80) == ["float32 underflows"]
    assert texts(200) == ["float32 overflows", "float32 underflows"]


VARIANCES = [{"name": "variance_scaling", "scale": scale} for scale in (0.5, 1.0, 3.0)]


def test_phases_and_depth_scales_agree_with_theory(tmp_path: Path) -> None:
    """Wide networks: signs and sizes of measured rates are those of mean-field theory."""
    block = {"width": 60, "depth": 20, "epochs": 0, "initializer": VARIANCES, "seeds": 3}
    kinds = ["phase_diagram", "depth_scales"]
    study = make_study(tmp_path, {**block, "bias_std": [0.2, 0.4]}, kinds=kinds)
    rows = KINDS["phase_diagram"].prepare(StudyTables(study, tmp_path / "small"), {})
    dots = rows[rows["part"] == "networks"]
    assert len(dots) == 6
    chi = [
        theory.mean_field_state("tanh", w, b).chi_1
        for w, b in zip(dots["sigma_w2"], dots["sigma_b2"], strict=True)
    ]
    np.testing.assert_allclose(dots["predicted"], np.log(chi))
    np.testing.assert_allclose(dots["measured"], dots["predicted"], atol=0.06)
    line = rows[rows["part"] == "critical"]
    edge = [
        theory.chi_1("tanh", theory.length_fixed_point("tanh", w, b), w)
        for w, b in zip(line["sigma_w2"], line["sigma_b2"], strict=True)
    ]
    np.testing.assert_allclose(edge, 1.0, atol=1e-6)
    scales = KINDS["depth_scales"].prepare(StudyTables(study, tmp_path / "small"), {})
    found = scales[(scales["part"] == "networks") & (scales["scale"] == "xi_gradient")].dropna()
    expected = [
        abs(theory.mean_field_state("tanh", w, b).xi_gradient)
        for w, b in zip(found["sigma_w2"], found["sigma_b2"], strict=True)
    ]
    assert len(found) >= 4
    assert np.median(found["layers"] / expected) == pytest.approx(1, abs=0.1)


def test_trainability_map_is_the_mean_over_seeds(tmp_path: Path) -> None:
    study = make_study(
        tmp_path, {"initializer": VARIANCES, "bias_std": 0.2}, kinds=["trainability_map"]
    )
    options = study.figures["trainability_map"]
    rows = KINDS["trainability_map"].prepare(StudyTables(study, tmp_path / "small"), options)
    cells = tables.read(tmp_path / "small", "cells", study)
    chosen = cells[(cells["initializer"] == "variance_scaling(scale=3.0)") & (cells["depth"] == 3)]
    row = rows[(rows["sigma_w2"] == 3.0) & (rows["depth"] == 3)]
    assert row["accuracy"].item() == pytest.approx(chosen["final_train_accuracy"].mean())
    assert row["xi_c"].item() == theory.mean_field_state("tanh", 3.0, 0.04).xi_c
    assert draw_study(study, tmp_path / "small", tmp_path / "reports") == ["trainability_map"]


def test_the_iteration_of_a_map_starts_at_the_first_layer(tmp_path: Path) -> None:
    block = {"width": 100, "depth": 6, "epochs": 0, "initializer": VARIANCES, "seeds": 8}
    study = make_study(
        tmp_path,
        {**block, "bias_std": 0.3},
        kinds=["map_iteration"],
        statistics=["preactivation_correlation"],
    )
    for statistic in ("preactivation_log10_mean_square", "preactivation_correlation"):
        options = {"statistic": statistic}
        rows = KINDS["map_iteration"].prepare(StudyTables(study, tmp_path / "small"), options)
        parts = {
            part: group.set_index(["sigma_w2", "layer"]) for part, group in rows.groupby("part")
        }
        measured, expected = (parts[name]["value"] for name in ("networks", "iteration"))
        np.testing.assert_allclose(measured.xs(1, level=1), expected.xs(1, level=1))
        np.testing.assert_allclose(measured, expected, atol=0.25)
        assert parts["networks"]["next"][1.0, 1] == measured[1.0, 2]
        curve = parts["map"].xs(1.0)
        if statistic == "preactivation_log10_mean_square":
            image = theory.length_map("tanh", curve["value"].iloc[7], 1.0, 0.09)
            assert curve["next"].iloc[7] == image


def test_the_maps_of_fixed_points_are_fixed_points(tmp_path: Path) -> None:
    """Theory's length maps to itself; deep and wide networks measure what the map says."""
    initializer = [{"name": "variance_scaling", "scale": scale} for scale in (0.5, 4.0)]
    block = {"width": 100, "epochs": 0, "initializer": initializer, "seeds": 4, "bias_std": 0.5}
    study = make_study(
        tmp_path,
        {**block, "depth": [3, 16]},
        kinds=["fixed_points"],
        statistics=["preactivation_correlation"],
    )
    rows = KINDS["fixed_points"].prepare(StudyTables(study, tmp_path / "small"), {})
    plane = rows[rows["part"] == "theory"].pivot(
        index=["sigma_w", "sigma_b"], columns="quantity", values="value"
    )
    z, density = np.linspace(-9, 9, 4001), 18 / 4000 / math.sqrt(2 * math.pi)
    for sigma_w, sigma_b, c, chi, q in plane.reset_index().iloc[::97].to_numpy():
        h, slope = np.tanh(math.sqrt(q) * z), np.cosh(math.sqrt(q) * z) ** -2.0
        mean = density * np.exp(-(z**2) / 2)
        assert sigma_w**2 * (mean @ h**2) + sigma_b**2 == pytest.approx(q, abs=1e-6)
        assert sigma_w**2 * (mean @ slope**2) == pytest.approx(chi, abs=1e-6)
        assert c == pytest.approx(1.0) if chi < 0.99 else 0 <= c <= 1
    edge = rows[rows["part"] == "critical"]
    assert edge["sigma_b"].max() == pytest.approx(4.0)
    dots = rows[rows["part"] == "networks"].set_index(["quantity", "sigma_w"])
    assert len(dots) == 6
    assert (dots["networks"] == 4).all()  # the deepest alone
    np.testing.assert_allclose(dots["value"], dots["predicted"], rtol=0.15)
    assert dots["predicted"]["q_star", 2.0] == theory.length_fixed_point("tanh", 4.0, 0.25)
    text = KINDS["fixed_points"].describe(rows, {})
    assert "sigma_w = 1 at sigma_b = 0.001 to sigma_w = 3 at 4" in text
    far = dots["value"]["q_star"] - dots["predicted"]["q_star"]
    assert f"q by at most {far.abs().max():.2g}" in text


def test_distances_from_fixed_points_are_drawn_and_told(tmp_path: Path) -> None:
    block = {"width": 100, "depth": 8, "epochs": 0, "initializer": VARIANCES, "seeds": 4}
    study = make_study(
        tmp_path,
        {**block, "bias_std": 0.3},
        kinds=["fixed_point_distance"],
        statistics=["preactivation_correlation"],
    )
    kind = KINDS["fixed_point_distance"]
    rows = kind.prepare(StudyTables(study, tmp_path / "small"), {})
    length, correlation = kind.draw(rows, {}).axes
    moving = rows[(rows["quantity"] == "length") & (rows["sigma_w2"] == 0.5) & rows["moving"]]
    assert length.get_yscale() == correlation.get_yscale() == "log"
    np.testing.assert_array_equal(length.lines[0].get_ydata(), moving["distance"])
    last = rows[rows["moving"]].groupby(["quantity", "sigma_w2"])["layer"].max()["correlation"]
    assert f"until layer {last.min()} to {last.max()}" in kind.describe(rows, {})
    nowhere = rows.assign(moving=False)
    assert "the mean length is nowhere told apart" in kind.describe(nowhere, {})
    kind.draw(nowhere, {})


CIRCLE = [{"name": "trajectories", "inputs": 40}, {"name": "curvature", "inputs": 8}]


def test_the_image_of_a_circle_and_its_correlations(tmp_path: Path) -> None:
    block = {"width": 100, "depth": 8, "epochs": 0, "initializer": VARIANCES, "seeds": 6}
    study = make_study(tmp_path, {**block, "bias_std": 0.3}, kinds=["circle"], measurements=CIRCLE)
    results = tmp_path / "small"
    rows = KINDS["circle"].prepare(StudyTables(study, results), {})
    image = rows[rows["part"] == "image"]
    assert sorted(image["layer"].unique()) == [2, 4, 6]
    shares = image.drop_duplicates(["sigma_w2", "layer"]).set_index(["sigma_w2", "layer"])["share"]
    assert shares[0.5, 6] > shares[3.0, 6]  # the chaotic image fills more dimensions
    points = tables.read(results, "trajectories", study)
    first = points[(points["cell"] == study.cells[0].id) & (points["layer"] == 4)]
    shown = image[(image["sigma_w2"] == 0.5) & (image["layer"] == 4)]
    np.testing.assert_array_equal(shown["pc2"], first["pc2"])
    np.testing.assert_allclose(shown["angle"], 2 * np.pi * np.arange(40) / 40)
    correlations = rows[rows["part"] == "autocorrelation"]
    assert correlations["offset"].max() == pytest.approx(np.pi)
    assert (correlations["networks"] == 6).all()
    inside = [f"variance_scaling(scale={w})" for w in (0.5, 1.0, 3.0)]
    cells = tables.read(results, "cells", study).set_index("cell")["initializer"]
    chosen = points[(points["cell"].map(cells) == inside[2]) & (points["layer"] == 5)]
    expected = chosen[chosen["input"] == 7]["lag_correlation"].mean()
    place = correlations[(correlations["sigma_w2"] == 3.0) & (correlations["layer"] == 5)]
    assert place["mean"].iloc[7] == pytest.approx(expected)
    compared = correlations.dropna(subset=["predicted"])
    assert sorted(compared["layer"].unique()) == [2, 4, 8]
    assert compared["offset"].max() <= 0.5
    np.testing.assert_allclose(compared["mean"], compared["predicted"], atol=0.15)
    plt.close(KINDS["circle"].draw(rows, {}))


def test_length_and_curvature_of_the_image(tmp_path: Path) -> None:
    block = {"width": 100, "depth": 5, "epochs": 0, "initializer": VARIANCES, "seeds": 12}
    study = make_study(
        tmp_path, {**block, "bias_std": 0.3}, kinds=["curvature"], measurements=CIRCLE
    )
    results = tmp_path / "small"
    rows = KINDS["curvature"].prepare(StudyTables(study, results), {})
    assert len(rows) == 3 * 5 * 3
    first = rows[rows["layer"] == 1]
    np.testing.assert_allclose(first["predicted"], first["mean"], rtol=0.03)
    np.testing.assert_allclose(rows["mean"], rows["predicted"], rtol=0.2)
    table = tables.read(results, "curvature", study)
    cells = tables.read(results, "cells", study).set_index("cell")["initializer"]
    chosen = table[(table["cell"].map(cells) == "variance_scaling(scale=3.0)")]
    chosen = chosen[chosen["layer"] == 3]
    kappa, g = 10 ** chosen["log10_curvature"], 10 ** chosen["log10_expansion"]
    expected = {
        "curvature": np.sqrt((kappa**2).groupby(chosen["cell"]).mean()).mean(),
        "expansion": g.mean(),
        "grassmannian_length": 2 * np.pi * (kappa * np.sqrt(g)).mean(),
    }
    found = rows[(rows["sigma_w2"] == 3.0) & (rows["layer"] == 3)].set_index("quantity")["mean"]
    assert found.to_dict() == pytest.approx(expected)
    plt.close(KINDS["curvature"].draw(rows, {}))


def test_layer_curves_are_medians_over_seeds_of_hidden_layers(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"initializer": "he_normal", "depth": 3}, kinds=["layer_curves"])
    options = study.figures["layer_curves"]
    rows = KINDS["layer_curves"].prepare(StudyTables(study, tmp_path / "small"), options)
    assert sorted(rows["layer"].unique()) == [1, 2, 3]
    layers = tables.read(tmp_path / "small", "layers", study)
    assert sorted(rows["epoch"].unique()) == [0.0, 0.25, 1.0]
    chosen = layers[(layers["layer"] == 2) & (layers["step"] == layers["step"].max())]
    row = rows[(rows["layer"] == 2) & (rows["epoch"] == 1)].set_index("statistic")
    medians = chosen[["activation_q98", "activation_mean"]].astype(np.float64).median()
    assert row["median"]["activation_q98"] == pytest.approx(medians["activation_q98"], rel=1e-12)
    assert row["band"]["activation_std"] == pytest.approx(medians["activation_mean"], rel=1e-12)


def test_histograms_hold_the_values_of_all_networks_of_a_panel(tmp_path: Path) -> None:
    kinds = ["histograms"]
    study = make_study(tmp_path, {"initializer": "he_normal", "seeds": 3}, kinds=kinds)
    results, options = StudyTables(study, tmp_path / "small"), study.figures["histograms"]
    rows = KINDS["histograms"].prepare(results, options)
    assert list(rows["quantity"].unique()) == ["signal", "activation"]
    assert set(rows.loc[rows["depth"] == 3, "layer"]) == {1, 2, 3}
    assert set(rows["networks"]) == {3}
    keys = ["depth", "quantity", "layer"]
    lines = rows.assign(share=rows["density"] * (rows["high"] - rows["low"])).groupby(keys)
    np.testing.assert_allclose(lines["share"].sum() + lines["outside"].first(), 1)
    assert lines["outside"].first().min() >= 0
    cells = results.cells.set_index("cell")["depth"]
    histograms = results.measurement("histograms")
    counts = histograms.assign(depth=histograms["cell"].map(cells))
    place = (counts["depth"] == 3) & (counts["quantity"] == "signal") & (counts["layer"] == 2)
    counts = counts[place & (counts["step"] == 0)]
    values = 3 * 8 * 5  # networks, examples, units
    assert counts["count"].sum() == values
    inside = counts[counts["bin"].between(0, 8)].groupby("bin")["count"].sum()
    found = rows[(rows["depth"] == 3) & (rows["quantity"] == "signal") & (rows["layer"] == 2)]
    np.testing.assert_allclose(found["density"], inside / values / (2 * 0.5 / 9))
    np.testing.assert_allclose(found["low"], np.linspace(-0.5, 0.5, 10)[:-1])
    assert KINDS["histograms"].prepare(results, {**options, "at": "end"}).empty


def test_a_histogram_is_as_high_as_its_panel_but_for_a_peak_of_one_bin() -> None:
    smooth, peak = [0.0, 1.0, 2.0, 1.0, 0.0], [0.0, 0.5, 9.0, 0.5, 0.0]
    rows = pd.DataFrame(
        [
            {"quantity": "signal", "layer": n, "low": k, "high": k + 1, "density": density}
            for n, line in ((1, peak), (2, smooth))
            for k, density in enumerate(line)
        ]
    ).assign(outside=0.25, networks=1, finite=1, zero=0, diverged=0, missing=0)
    kind, options = KINDS["histograms"], {"statistic": "signal"}
    figure = kind.draw(rows, options)
    assert figure.axes[0].get_ylim() == pytest.approx((0, 2.1))
    plt.close(figure)
    text = kind.describe(rows, options)
    assert "dC/dz: 9 in layer 1, 2 in layer 2" in text and "Up to 25.0% of values" in text
    only = kind.draw(rows[rows["layer"] == 1].assign(density=[0.0, 0.0, 3.0, 0.0, 0.0]), options)
    assert only.axes[0].get_ylim() == pytest.approx((0, 3.15))
    plt.close(only)


def test_mean_singular_values_of_square_layers_and_their_theory(tmp_path: Path) -> None:
    block = {"width": 60, "depth": [1, 3], "epochs": 0, "seeds": 4}
    block["initializer"] = ["glorot_uniform", "orthogonal"]
    study = make_study(tmp_path, block, kinds=["layer_singular_values"])
    tables_ = StudyTables(study, tmp_path / "small")
    kind, options = KINDS["layer_singular_values"], study.figures["layer_singular_values"]
    rows = kind.prepare(tables_, options)
    assert set(rows["depth"]) == {3}
    assert sorted(zip(rows["matrix"], rows["layer"], strict=True))[::2] == [
        (matrix, layer) for matrix in ("kernel", "layer_jacobian") for layer in (2, 3)
    ]
    orthogonal = rows[rows["initializer"] == "orthogonal"]
    assert orthogonal["predicted"].isna().all()
    kernels = orthogonal[orthogonal["matrix"] == "kernel"]
    np.testing.assert_allclose(kernels["median"], 1, rtol=1e-6)
    uniform = rows[rows["initializer"] == "glorot_uniform"]
    np.testing.assert_allclose(uniform["median"], uniform["predicted"], rtol=0.06)
    jacobian = uniform["matrix"] == "layer_jacobian"
    np.testing.assert_allclose(uniform.loc[~jacobian, "predicted"], 8 / (3 * np.pi))
    assert (uniform.loc[jacobian, "predicted"] < 0.82).all()
    found = tables_.measurement("spectra").merge(tables_.cells[["cell", "depth", "initializer"]])
    found = found[(found["depth"] == 3) & (found["initializer"] == "glorot_uniform")]
    found = found[(found["matrix"] == "layer_jacobian") & (found["layer"] == 2)]
    means = (10.0 ** found["log10_singular_value"]).groupby(found["cell"]).mean()
    second = uniform[jacobian & (uniform["layer"] == 2)]
    assert second["median"].item() == pytest.approx(means.median())
    assert "theory 0.849 to 0.849" in kind.describe(rows, options)
    plt.close(kind.draw(rows, options))


def test_a_trainability_map_reaches_down_to_no_weights_at_all() -> None:
    """There, without biases, no signal has a depth scale."""
    rows = pd.DataFrame(
        {
            "activation": "tanh",
            "sigma_w2": [0.0, 3e-4],
            "sigma_b2": 0.0,
            "depth": 2,
            "accuracy": [0.1, 0.2],
            **{"networks": 1, "finite": 1, "zero": 0, "diverged": 0, "missing": 0},
        }
    )
    figure = KINDS["trainability_map"].draw(rows, {"statistic": "final_test_accuracy"})
    curve = np.asarray(figure.axes[0].lines[0].get_ydata())
    assert np.isnan(curve).tolist() == [True] + [False] * (len(curve) - 1)


@pytest.mark.parametrize(
    ("dataset", "loss", "alone"),
    [
        ("circles", "auto", False),
        ("circles", "output_sum", False),
        ("circles", "mean_squared_error", True),
        ("linear_teacher", "auto", True),
    ],
)
def test_the_caption_says_which_losses_have_theory_of_minibatches(
    dataset: str, loss: str, alone: bool
) -> None:
    block = {
        **{"dataset": dataset, "depth": 2, "width": 4, "activation": "tanh", "loss": loss},
        **{"initializer": "he_normal", "learning_rate": 0.1, "batch_size": 8, "epochs": 0},
    }
    options = {
        **{"kind": "layer_profile", "title": "A", "hue": "initializer", "theory": True},
        **{"statistic": "signal_log10_rms"},
    }
    content = {"title": "a", "question": "b", "grid": block, "figures": {"x": options}}
    study = loading.build_study("small", content, 1, "small")
    found = layers.of_single_examples(study, options)
    assert bool(found) == alone
    law = prediction_on_data(study.cells[0])
    assert law is not None
    assert alone == np.isnan(law.gradient).all()
    assert not alone or found.startswith("Of squared errors and regressions theory knows no means")
    for other in ({"theory": False}, {"statistic": "preactivation_log10_mean_square"}):
        assert layers.of_single_examples(study, options | other) == ""
    gradients = layers.of_single_examples(study, options | {"statistic": "gradient_log10_rms"})
    assert bool(gradients) == alone


def test_the_caption_says_why_theory_has_no_line() -> None:
    block = {
        **{"dataset": "circles", "depth": 2, "width": 4, "activation": "tanh"},
        **{"initializer": ["he_normal", "zeros", "lsuv"], "learning_rate": 0.1},
        **{"batch_size": 8, "epochs": 0},
    }
    options = {
        **{"kind": "layer_profile", "title": "A", "hue": "initializer", "theory": True},
        **{"statistic": "signal_log10_rms"},
    }
    content = {"title": "a", "question": "b", "grid": block, "figures": {"x": options}}
    study = loading.build_study("small", content, 1, "small")
    assert layers.without_theory(study, options) == (
        "Theory has no line for zeros (the kernels are constant and have no distribution to "
        "average over), LSUV (the kernels are scaled to data)."
    )
    few = {**options, "select": {"initializer": "he_normal"}}
    assert layers.without_theory(study, few) == ""
    normalized = {"initializer": ["he_normal", "zeros"], "dropout": 0.1, "normalization": "batch"}
    dropped = loading.build_study("small", content | {"grid": block | normalized}, 1, "small")
    assert layers.without_theory(dropped, few) == (
        "Theory has no line for dropout 0.1 (it is predicted of plain networks of mean 0 only)."
    )
    grown = loading.build_study(
        "small",
        content
        | {"grid": block | {"activation": ["tanh", "exponential"]}}
        | {"figures": {"x": options | {"columns": "activation"}}},
        1,
        "small",
    )
    assert layers.without_theory(grown, few) == (
        "Theory has no line for exponential (its lengths scatter too much between networks)."
    )
    assert layers.without_theory(study, {**options, "theory": False}) == ""


def test_panels_of_a_yes_or_no_parameter_are_titled_in_words() -> None:
    rows = pd.DataFrame({"tied": [True, False], "depth": [3, 4]})
    assert list(layers._value_titles(rows, "tied")) == ["shared kernel", "no shared kernel"]
    assert list(layers._value_titles(rows, "depth")) == ["depth 3", "depth 4"]


def test_networks_without_theory_for_one_reason_are_told_together() -> None:
    cells = [
        make_cell(initializer=name, depth=20, width=16, tied=True, use_bias=False)
        for name in ("he_normal", "orthogonal")
    ]
    assert layers.without_theory(Study("s", "", "", tuple(cells)), {"theory": True}) == (
        "Theory has no line for tied kernels at depth 20 and width 16 (powers of one matrix leave "
        "the laws of wide networks beyond depth^2 = 2 width)."
    )


def test_a_reason_without_theory_stands_once_with_what_it_is_about() -> None:
    mean = {"name": "constant", "value": 0.1}
    cells = [
        make_cell(initializer="orthogonal", depth=4, width=16, **changes)
        for changes in (
            {"tied": True, "dropout": 0.1},
            {"tied": True, "bias_initializer": mean},
            {"bias_initializer": mean},
            {"dropout": 0.1, "bias_initializer": mean},
            {"dropout": 0.2, "bias_initializer": mean},
        )
    ]
    assert layers.without_theory(Study("s", "", "", tuple(cells)), {"theory": True}) == (
        "Theory has no line for tied kernels (they are predicted of plain networks of mean 0 "
        "without dropout only), dropout 0.1, dropout 0.2 (it is predicted of plain networks of "
        "mean 0 only). Where weights or biases have a mean, lengths and signals have a line as far "
        "as they are not left to chance and stay in the range of floats, and weight gradients have "
        "none."
    )
    shifted = Study("s", "", "", tuple(cells[2:3]))
    assert "no line" not in layers.without_theory(shifted, {"theory": True})
