"""Networks that died, diverged or were never trained are counted, marked and told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gradprop.figures import lost, training
from gradprop.figures.drawing import KINDS, StudyTables
from gradprop.grid import loading
from gradprop.spec import Study
from gradprop.training import recording

SIGNAL, LENGTH = "signal_log10_rms", "activation_log10_mean_square"
DEPTH, PROBES = 4, (0, 1, 3, 10)
BAD_STEP = 3  # of networks that diverge
LINES = {"statistic": SIGNAL, "hue": "initializer"}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def study_of(seeds: int, **grid: Any) -> Study:
    block = {
        "dataset": "circles",
        "depth": DEPTH,
        "width": 8,
        "activation": "relu",
        "initializer": "he_normal",
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 1,
        "seeds": seeds,
        **grid,
    }
    content = {"title": "T", "question": "Q?", "grid": block}
    return loading.build_study("s", content, seeds, "s.yaml")


def tables_of(study: Study, fates: list[str]) -> StudyTables:
    """Return tables in which a network is ``ok``, ``dead``, ``diverged`` or ``untrained``.

    Dead ones have a signal of exactly 0; of diverged ones the loss is not finite from `BAD_STEP`
    on, and their signal is NaN or, behind a rectifier, 0.
    """
    random = np.random.default_rng(0)
    cells, steps, layers = [], [], []
    for cell, fate in zip(study.cells, fates, strict=True):
        diverged = fate == "diverged"
        final = np.nan if fate in ("diverged", "untrained") else random.uniform(0.1, 0.5)
        cells.append(
            {
                "cell": cell.id,
                **cell.columns(),
                "status": "diverged" if diverged else "ok",
                "first_bad_step": BAD_STEP if diverged else pd.NA,
                "first_bad_layer": 2 if diverged else pd.NA,
                **dict.fromkeys(("final_train_loss", "final_test_accuracy"), final),
                "steps_to_target": pd.NA if diverged else 5,
                "chance_accuracy": 0.1,
            }
        )
        for step in PROBES:
            bad = diverged and step >= BAD_STEP
            loss = np.nan if bad else random.uniform(0.1, 1.0)
            steps.append(
                {"cell": cell.id, "step": step, "train_loss": loss, "train_accuracy": 1 - loss}
            )
            for layer in range(1, DEPTH + 2):
                value = random.normal(-layer, 0.1)
                if fate == "dead" or (bad and layer == 1):
                    value = -np.inf if layer <= DEPTH else value
                elif bad:
                    value = np.nan
                names = (
                    SIGNAL,
                    "gradient_log10_rms",
                    "log10_update_ratio",
                    "activation_std",
                    LENGTH,
                )
                place = {"cell": cell.id, "step": step, "layer": layer}
                layers.append({**place, **dict.fromkeys(names, value)})
    tables = StudyTables(study, Path("none"))
    for name, rows in (("cells", cells), ("steps", steps), ("layers", layers)):
        tables.__dict__[name] = pd.DataFrame(rows)
    tables.__dict__["cells"] = tables.cells.astype(
        dict.fromkeys(("first_bad_step", "first_bad_layer", "steps_to_target"), "Int64")
    )
    return tables


def with_measurements(tables: StudyTables, fates: list[str]) -> StudyTables:
    """Return the tables with modes and singular values; of diverged networks they are NaN."""
    modes, spectra = [], []
    for cell, fate in zip(tables.study.cells, fates, strict=True):
        for step in PROBES:
            value = np.nan if fate == "diverged" and step >= BAD_STEP else 0.5
            place = {"cell": cell.id, "step": step, "index": 1}
            modes.append({**place, "strength": 1.0, "learned": value})
            for layer in range(2, DEPTH + 1):
                spectrum = {"matrix": "kernel", "layer": layer, "example": 0, "resolved": True}
                spectra.append({**place, **spectrum, "log10_singular_value": value})
    tables._measurements = {"modes": pd.DataFrame(modes), "spectra": pd.DataFrame(spectra)}
    return tables


def with_distributions(tables: StudyTables, fates: list[str]) -> StudyTables:
    """Return the tables with histograms, Jacobians and decisions at the end of training.

    Of diverged networks they are not finite; of ``rectified`` ones, which diverge as well, all
    values are 0, and of ``dead`` ones all singular values.
    """
    counts = {"diverged": [0, 0, 0, 0, 0, 4], "rectified": [0, 0, 4, 0, 0, 0]}
    singular = {"diverged": np.nan, "rectified": np.nan, "dead": -np.inf}
    edges = [-np.inf, -1.0, -1 / 3, 1 / 3, 1.0, np.inf]
    histograms, spectra, decisions = [], [], []
    for cell, fate in zip(tables.study.cells, fates, strict=True):
        place = {"cell": cell.id, "step": PROBES[-1]}
        for layer in range(1, DEPTH + 2):
            for number, count in enumerate(counts.get(fate, [0, 1, 2, 1, 0, 0])):
                bin_ = {
                    "bin": number - 1,
                    "low": edges[number],
                    "high": [*edges[1:], np.nan][number],
                }
                histograms.append(
                    {**place, "layer": layer, "quantity": "signal", **bin_, "count": count}
                )
        for example in range(2):
            for index, value in enumerate(np.log10([1.0, 0.5]), start=1):
                value = singular.get(fate, value)
                spectrum = {"matrix": "hidden_jacobian", "layer": 0, "example": example}
                spectra.append({**place, **spectrum, "index": index, "log10_singular_value": value})
        for x1, x2, output in product((-1.0, 1.0), (-1.0, 1.0), (0, 1)):
            value = np.inf if fate == "diverged" and x1 > 0 else x1 * output
            decisions.append({**place, "x1": x1, "x2": x2, "output": output, "value": value})
    tables._measurements = {
        "histograms": pd.DataFrame(histograms),
        "spectra": pd.DataFrame(spectra).assign(resolved=True),
        "decision": pd.DataFrame(decisions),
    }
    return tables


def marks(figure: Figure, state: str) -> list[tuple[float, float]]:
    """Return where the marks of a state stand, in parts of their panel's width and height."""
    found = []
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_gid() == state:
                places = line.get_transform().transform(line.get_xydata())
                shown = axes.transAxes.inverted().transform(places)
                every: Any = line.get_markevery()
                found += [tuple(shown[n]) for n in every or range(len(shown))]
    return found


def notes(figure: Figure) -> list[str]:
    return [t.get_text() for a in figure.axes for t in a.texts if t.get_gid() == lost.COUNTED]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def test_a_median_of_survivors_is_not_drawn() -> None:
    """Of 200 networks 185 have a signal of exactly 0: so has their median."""
    tables = tables_of(study_of(200), ["ok"] * 15 + ["dead"] * 185)
    kind, options = KINDS["layer_profile"], {**LINES, "theory": True, "residual": True}
    rows = kind.prepare(tables, options)
    inner = rows[(rows["layer"] <= DEPTH) & (rows["part"] == "value")]
    assert (inner["median"] == -np.inf).all()
    assert (inner[["networks", "finite", "zero"]] == [200, 15, 185]).all(axis=None)
    figure = kind.draw(rows, options)
    ((_, height),) = marks(figure, lost.ZERO)
    assert 0 < height < 0.1
    assert notes(figure) == ["15 of 200"]
    assert {"exactly 0", lost.COUNTED} < set(legend(figure)) and "theory" not in legend(figure)
    text = kind.describe(rows, options)
    assert "he_normal: 185 of 200 exactly 0" in text and "No line of theory is drawn" in text

    slopes = KINDS["slope"].prepare(tables, LINES)
    assert slopes["slope"].isna().all()
    assert slopes[["networks", "finite", "zero"]].values.tolist() == [[200, 15, 185]]
    figure = KINDS["slope"].draw(slopes, LINES)
    ((side, _),) = marks(figure, lost.ZERO)
    assert 0 < side < 0.1 and notes(figure) == ["15 of 200"]

    heat = KINDS["layer_heatmap"].prepare(tables, LINES)
    assert "80% exactly 0, 0% diverged" in KINDS["layer_heatmap"].describe(heat, LINES)


def test_slopes_are_those_of_networks_with_all_layers() -> None:
    """But for those that left the range of float32: the layers before that tell their slope."""
    tables = tables_of(study_of(3), ["ok"] * 3)
    layers, cells = tables.layers, tables.cells
    first = (layers["layer"] == 1) & (layers["cell"] != cells["cell"][0])
    layers.loc[first, SIGNAL] = -np.inf
    cells.loc[1, "status"] = "underflowed"
    never = layers["cell"] == cells["cell"][2]  # and one that has zeros alone, from the start
    layers.loc[never & (layers["layer"] <= DEPTH), SIGNAL] = -np.inf
    cells.loc[2, "status"] = "underflowed"
    found = KINDS["slope"].prepare(tables, LINES).iloc[0]
    assert found[["networks", "finite", "zero"]].tolist() == [3, 2, 1]
    start = layers[(layers["step"] == 0) & (layers["layer"] <= DEPTH)]
    slopes = []
    for cell in cells["cell"].iloc[:2]:
        one = start[(start["cell"] == cell) & np.isfinite(start[SIGNAL])]
        slopes.append(-np.polyfit(one["layer"], one[SIGNAL], 1)[0])
    assert found["slope"] == pytest.approx(np.mean(slopes))


def test_a_curve_ends_where_most_networks_diverge() -> None:
    """Nine of twelve diverge: there is no median, and a mark at the upper edge says where."""
    tables = tables_of(study_of(12), ["ok"] * 3 + ["diverged"] * 9)
    kind, options = KINDS["learning_curves"], {"statistic": "train_loss", "hue": "initializer"}
    rows = kind.prepare(tables, options).set_index("step")
    assert np.isfinite(rows["median"].to_numpy()).tolist() == [True, True, False, False]
    assert rows[["networks", "finite", "diverged"]].to_numpy()[-1].tolist() == [12, 3, 9]
    start = tables.steps.loc[tables.steps["step"] == 0, "train_loss"]
    assert rows.loc[0, "median"] == np.median(start)
    figure = kind.draw(rows.reset_index(), options)
    assert notes(figure) == ["3 of 12"]
    ((x, y),) = marks(figure, lost.DIVERGED)
    (axes,) = figure.axes
    assert 0.9 < y < 1
    shown = axes.transAxes.inverted().transform(axes.transData.transform((BAD_STEP, 1)))
    assert x == pytest.approx(shown[0])
    text = kind.describe(rows.reset_index(), options)
    assert "he_normal none" in text and "he_normal: 9 of 12 diverged" in text


def test_a_diverged_accuracy_is_marked_below() -> None:
    tables = tables_of(study_of(3), ["ok", "diverged", "diverged"])
    options = {"statistic": "train_accuracy", "hue": "initializer"}
    kind = KINDS["learning_curves"]
    ((_, y),) = marks(kind.draw(kind.prepare(tables, options), options), lost.DIVERGED)
    assert 0 < y < 0.1


def test_few_lost_networks_move_the_median_and_are_noted() -> None:
    tables = tables_of(study_of(5), ["ok"] * 4 + ["diverged"])
    kind, options = KINDS["learning_curves"], {"statistic": "train_loss", "hue": "initializer"}
    rows = kind.prepare(tables, options)
    end = tables.steps.loc[tables.steps["step"] == 10, "train_loss"].fillna(np.inf)
    assert rows["median"].iloc[-1] == np.median(end)
    figure = kind.draw(rows, options)
    assert notes(figure) == ["4 of 5"]
    assert not marks(figure, lost.DIVERGED) and "diverged" not in legend(figure)


@pytest.mark.parametrize(
    ("statistic", "values"),
    [("final_train_loss", np.inf), ("final_test_accuracy", 0.0)],
)
def test_a_spread_shows_networks_that_diverged(statistic: str, values: float) -> None:
    tables = tables_of(study_of(6), ["ok"] * 4 + ["diverged"] * 2)
    kind, options = KINDS["final_spread"], {"statistic": statistic, "hue": "initializer"}
    rows = kind.prepare(tables, options)
    assert rows["state"].tolist() == [""] * 4 + ["diverged"] * 2
    figure = kind.draw(rows, options)
    ((x, _),) = marks(figure, lost.DIVERGED)
    assert 0 < x < 0.1 if statistic.endswith("accuracy") else 0.9 < x < 1
    assert [text.get_text() for text in figure.axes[0].texts] == ["2"]
    expected = np.median(np.array(rows["value"].fillna(values)))
    bar = figure.axes[0].lines[1]
    assert np.asarray(bar.get_xdata()).tolist() == [expected] * 2
    assert "6 networks, 2 of them diverged" in kind.describe(rows, options)
    most = kind.describe(
        kind.prepare(tables_of(study_of(3), ["ok", *["diverged"] * 2]), options), options
    )
    assert "he_normal no median" in most


@pytest.mark.parametrize("least", [0.5, 1e-14])
def test_losses_of_many_decades_have_powers_of_ten(least: float) -> None:
    study, kind = study_of(2), KINDS["final_spread"]
    options = {"statistic": "final_train_loss", "hue": "initializer"}
    rows = kind.prepare(tables_of(study, ["ok"] * 2), options).assign(value=[least, 200.0])
    figure = kind.draw(rows, options)
    figure.draw_without_rendering()
    texts = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert any("10^{" in text for text in texts) == (least < 0.5)


def test_untrained_networks_are_not_called_diverged() -> None:
    tables = tables_of(study_of(2), ["untrained"] * 2)
    options = {"statistic": "final_train_loss", "hue": "initializer"}
    kind = KINDS["final_spread"]
    text = kind.describe(kind.prepare(tables, options), options)
    assert "2 of them without a value" in text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("layer_profile", {**LINES, "at": "end"}),
        ("slope", {**LINES, "at": "end"}),
        ("update_ratio", {"hue": "initializer"}),
        ("learning_curves", {"statistic": "train_loss", "hue": "initializer"}),
        ("layer_curves", {"statistic": "activation_std", "columns": "initializer"}),
        ("final_spread", {"statistic": "final_train_loss", "hue": "initializer"}),
        ("steps_to_target", {"hue": "initializer"}),
        ("modes", {"hue": "initializer"}),
        ("layer_singular_values", {"hue": "initializer", "at": "end"}),
    ],
)
@pytest.mark.parametrize("fate", ["diverged", "dead"])
def test_what_the_legend_names_is_inside_the_axes(
    name: str, options: dict[str, Any], fate: str
) -> None:
    """Of ten lines the last one is lost altogether."""
    scales = [{"name": "variance_scaling", "scale": float(n)} for n in range(1, 11)]
    fates = ["ok"] * 9 + [fate]
    study = study_of(1, initializer=scales, measurements=["spectra"])
    tables = with_measurements(tables_of(study, fates), fates)
    kind = KINDS[name]
    figure = kind.draw(kind.prepare(tables, options), options)
    for state, text in lost.NAMES.items():
        found = marks(figure, state)
        assert (text in legend(figure)) == bool(found)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in found)
    if fate == "diverged":
        assert marks(figure, lost.DIVERGED)


DISTRIBUTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "histograms": (["diverged", "rectified"], {"statistic": "signal"}),
    "singular_values": (["diverged"], {}),
    "decision_boundary": (["diverged"], {}),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_count_networks(name: str) -> None:
    """They are those of networks with a value, if these are half or more."""
    bad, options = DISTRIBUTIONS[name]
    options = {**options, "at": "end"}
    kind = KINDS[name]
    drawn = {"histograms": "density", "singular_values": "density", "decision_boundary": "share"}
    shown = {}
    for lost_ones in (0, 2, 3):
        fates = [bad[n % len(bad)] for n in range(lost_ones)] + ["ok"] * (5 - lost_ones)
        status = ["diverged" if fate != "ok" else "ok" for fate in fates]
        tables = with_distributions(tables_of(study_of(5), status), fates)
        rows = kind.prepare(tables, options)
        assert (rows[["networks", "finite", "diverged"]] == [5, 5 - lost_ones, lost_ones]).all(
            axis=None
        )
        measured = rows[rows["part"] == "networks"] if "part" in rows else rows
        shown[lost_ones] = measured[drawn[name]].dropna().tolist()
        figure, text = kind.draw(rows, options), kind.describe(rows, options)
        found = marks(figure, lost.DIVERGED)
        assert notes(figure) == ([] if lost_ones == 0 else [f"{5 - lost_ones} of 5"])
        assert bool(found) == ("diverged" in legend(figure)) == (lost_ones == 3)
        assert all(0 < x < 1 and 0.9 < y < 1 for x, y in found)
        assert (f"{lost_ones} of 5 diverged" in text) == (lost_ones > 0)
    assert shown[0] and shown[2] == pytest.approx(shown[0])
    assert not shown[3]


def test_networks_whose_singular_values_are_all_0_are_shown() -> None:
    tables = with_distributions(tables_of(study_of(2), ["dead"] * 2), ["dead"] * 2)
    kind, options = KINDS["singular_values"], {"at": "end"}
    rows = kind.prepare(tables, options)
    assert (rows[["networks", "zero"]] == 2).all(axis=None)
    bars = rows[rows["part"] == "networks"]
    assert bars["density"].iloc[0] > 0 and not bars["density"].iloc[1:].any()
    assert "100% are 0" in kind.describe(rows, options)


@pytest.mark.parametrize(
    "statistic", ["preactivation_log10_mean_square", "preactivation_correlation"]
)
def test_the_means_of_a_map_count_networks(statistic: str) -> None:
    scaled = {"name": "variance_scaling", "scale": 2.0}
    tables = tables_of(study_of(5, initializer=scaled, activation="tanh"), ["ok"] * 5)
    layers = tables.layers
    values = np.random.default_rng(0).uniform(0.1, 0.9, len(layers))
    layers["preactivation_log10_mean_square"] = layers["preactivation_correlation"] = values
    ids = [cell.id for cell in tables.study.cells]
    layers.loc[layers["cell"].isin(ids[:2]) & (layers["layer"] == 2), statistic] = np.nan
    layers.loc[layers["cell"].isin(ids[:3]) & (layers["layer"] == 3), statistic] = np.nan
    kind, options = KINDS["map_iteration"], {"statistic": statistic}
    rows = kind.prepare(tables, options)
    networks = rows[rows["part"] == "networks"].set_index("layer")
    assert networks[["networks", "finite", "missing"]].to_numpy().tolist() == [
        [5, 5, 0], [5, 3, 2], [5, 2, 3], [5, 5, 0]
    ]  # fmt: skip
    at = layers[(layers["step"] == 0) & (layers["layer"] == 2)][statistic].dropna()
    mean = (10**at if "log10" in statistic else at).mean()
    assert networks.loc[2, "value"] == pytest.approx(mean)
    assert networks["value"].isna().tolist() == [False, False, True, False]
    figure = kind.draw(rows, options)
    assert len(marks(figure, lost.MISSING)) == 1 and notes(figure) == ["2 of 5"]
    assert "3 of 5 without a value" in kind.describe(rows, options)


def test_fields_without_a_value_tell_why() -> None:
    rows = pd.DataFrame(
        {
            "layer": [1, 1, 2, 2],
            "step": [0, 1, 0, 1],
            "median": [-np.inf, np.nan, np.nan, 2.0],
            "networks": 4,
            "finite": [1, 1, 1, 4],
            "zero": [3, 0, 0, 0],
            "diverged": [0, 3, 0, 0],
            "missing": [0, 0, 3, 0],
        }
    )
    assert lost.states(rows).tolist() == [lost.ZERO, lost.DIVERGED, lost.MISSING, ""]
    figure = KINDS["layer_heatmap"].draw(rows, {"statistic": SIGNAL})
    drawn = {c.get_gid(): c for c in figure.axes[0].collections if c.get_gid()}
    assert set(drawn) == set(lost.NAMES)
    looks = {(str(c.get_facecolor()), c.get_hatch()) for c in drawn.values()}
    assert len(looks) == 3
    assert legend(figure) == list(lost.NAMES.values())


def test_a_panel_has_few_notes() -> None:
    """Those of the lines that lack most; one if all lines say the same."""
    figure, axes = plt.subplots()
    base = pd.DataFrame({"layer": [1, 2], "low": 0.0, "high": 0.0, "networks": 9})
    base = base.assign(zero=0, diverged=0, missing=0)

    def lines(finite: list[int]) -> list[lost.Line]:
        return [
            lost.Line(base.assign(median=float(n), finite=n), "layer", f"C{number}")
            for number, n in enumerate(finite)
        ]

    all_ = lines([8, 3, 9, 7, 5, 1])
    for line in all_:
        line.draw(axes)
    lost.finish(axes, all_, SIGNAL)
    assert notes(figure) == ["1 of 9", "3 of 9", "5 of 9", "7 of 9"]
    places = [text.xy[1] for text in axes.texts]  # type: ignore[attr-defined]
    assert min(np.diff(places)) > 0 and max(places) < 1
    figure, axes = plt.subplots()
    gone = [lost.Line(line.rows.assign(median=np.nan, diverged=9), "layer", "C0") for line in all_]
    lost.finish(axes, gone, SIGNAL)
    places = [text.xy[1] for text in axes.texts]  # type: ignore[attr-defined]
    assert len(places) == 4 and min(np.diff(places)) > 0 and max(places) < 0.97
    figure, axes = plt.subplots()
    lost.finish(axes, lines([5, 5, 5]), SIGNAL)
    assert notes(figure) == ["5 of 9"]


def test_captions_and_axes_say_that_training_losses_are_means() -> None:
    """Of as many minibatches as training takes together; a test loss is of the whole set."""
    assert recording.SMOOTHING_STEPS == 10
    curves = {"kind": "learning_curves", "statistic": "train_loss", "hue": "initializer"}
    expected = "Training loss is the mean over the last ten minibatches, or as many as there were."
    assert training.of_minibatches(curves) == expected
    assert training.of_minibatches({"kind": "steps_to_target", "hue": "initializer"}) == expected
    assert training.of_minibatches({**curves, "statistic": "test_loss"}) == ""
    assert (
        training.of_minibatches({**curves, "kind": "atlas", "statistic": "final_train_accuracy"})
        == ""
    )
    kind, tables = KINDS["learning_curves"], tables_of(study_of(1), ["ok"])
    figure = kind.draw(kind.prepare(tables, curves), curves)
    assert figure.get_supylabel() == "training loss\n(last ten minibatches)"
    text = kind.describe(kind.prepare(tables, curves), curves)
    assert text.startswith("Line plots of training loss (last ten minibatches) against")


def test_the_loss_of_single_minibatches_is_drawn_as_such() -> None:
    """A problem that is solved in one step is seen to be: axis, caption, text and CSV agree."""
    options = {"kind": "learning_curves", "statistic": "minibatch_loss", "hue": "initializer"}
    kind, tables = KINDS["learning_curves"], tables_of(study_of(1), ["ok"])
    tables.steps["minibatch_loss"] = [4.0, 0.001, 0.001, 0.001]
    rows = kind.prepare(tables, options)
    assert rows["median"].tolist() == [4.0, 0.001, 0.001, 0.001]
    assert set(rows["statistic"]) == {"minibatch_loss"}
    figure = kind.draw(rows, options)
    assert figure.get_supylabel() == "loss of the minibatch"
    assert np.asarray(figure.axes[0].lines[0].get_ydata())[1] == 0.001
    assert kind.describe(rows, options).startswith("Line plots of loss of the minibatch against")
    expected = "The loss is that of the step's own minibatch, before its update."
    assert training.of_minibatches(options) == expected


def test_legends_of_numbers_have_a_title() -> None:
    study = study_of(1, learning_rate=[0.1, 0.2])
    tables = tables_of(study, ["ok"] * 2)
    for name, options in (
        ("learning_curves", {"statistic": "train_loss"}),
        ("layer_profile", {"statistic": SIGNAL}),
        ("update_ratio", {}),
        ("steps_to_target", {}),
        ("divergence", {}),
        ("optimal_rate", {"statistic": "train_accuracy", "level": 0.1}),
    ):
        for hue, title in (("learning_rate", "learning rate"), ("initializer", "")):
            drawn = {**options, "hue": hue}
            figure = KINDS[name].draw(KINDS[name].prepare(tables, drawn), drawn)
            assert figure.legends[0].get_title().get_text() == title


def test_a_point_of_the_phase_diagram_without_most_networks_has_a_mark() -> None:
    scales = [{"name": "variance_scaling", "scale": scale} for scale in (1.0, 2.0)]
    study = study_of(3, initializer=scales, depth=DEPTH, activation="tanh")
    tables = tables_of(study, ["ok", "ok", "dead", "dead", "dead", "ok"])
    kind = KINDS["phase_diagram"]
    rows = kind.prepare(tables, {})
    points = rows[rows["part"] == "networks"]
    assert points[["networks", "finite", "missing"]].to_numpy().tolist() == [[3, 2, 1], [3, 1, 2]]
    assert np.isfinite(points["measured"].to_numpy()).tolist() == [True, False]
    assert len(marks(kind.draw(rows, {}), lost.MISSING)) == 1
    assert "2 of 3 without a value" in kind.describe(rows, {})


def test_fields_of_the_trainability_map_tell_divergence_from_an_accuracy_of_0() -> None:
    study = study_of(3, depth=[2, 4])
    tables = tables_of(study, ["ok", "ok", "diverged", "diverged", "diverged", "ok"])
    kind, options = KINDS["trainability_map"], {"statistic": "final_test_accuracy"}
    rows = kind.prepare(tables, options)
    final = tables.cells["final_test_accuracy"].fillna(0).to_numpy().reshape(2, 3)
    np.testing.assert_allclose(rows["accuracy"], final.mean(axis=1))
    assert rows[["networks", "finite", "diverged"]].to_numpy().tolist() == [[3, 2, 1], [3, 1, 2]]
    figure = kind.draw(rows, options)
    drawn = [c.get_gid() for c in figure.axes[0].collections if c.get_gid()]
    assert drawn == [lost.DIVERGED] and "diverged" in legend(figure)


def test_lengths_and_fluctuations_count_networks() -> None:
    tables = tables_of(study_of(5), ["ok"] * 3 + ["dead"] * 2)
    options = {"statistic": LENGTH, "hue": "initializer"}
    for name in ("mean_length", "length_spread"):
        rows = KINDS[name].prepare(tables, options)
        assert (rows[["networks", "finite", "zero"]] == [5, 3, 2]).all(axis=None)
        assert "2 of 5 exactly 0" in KINDS[name].describe(rows, options)
        assert (notes(KINDS[name].draw(rows, options)) == ["3 of 5"]) == (name == "mean_length")
    rows = KINDS["fluctuations"].prepare(tables, options)
    assert (rows[["networks", "finite"]] == 5).all(axis=None)  # a mean square of 0 is a value
    tables.layers.loc[0, LENGTH] = np.nan
    rows = KINDS["fluctuations"].prepare(tables, options)
    assert rows[["finite", "missing"]].to_numpy().tolist() == [[4, 1], *[[5, 0]] * (DEPTH - 1)]
    assert "1 of 5 without a value" in KINDS["fluctuations"].describe(rows, options)


def test_marks_of_many_products_beyond_float32_are_inside_the_axes() -> None:
    gains = [1.5 + n / 10 for n in range(12)]
    rows = pd.DataFrame(
        {"quantity": "output", "c": gains, "matrices": 3, "relative_error": np.nan, "state": state}
        for state in ("overflow", "zero")
    )
    rows = rows.explode("c", ignore_index=True).astype({"c": float})
    figure = KINDS["float_limits"].draw(rows, {})
    assert {"infinite or NaN", "exactly 0"} < set(legend(figure))
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_marker() in ("x", "|")]
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in drawn]
    assert len(drawn) == 24 and np.concatenate(heights).max() < axes.get_ylim()[1]
