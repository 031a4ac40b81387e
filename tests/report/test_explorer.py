"""What the report's explorer offers, and its theory in a real browser against that in Python."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop import theory
from gradprop.components import own
from gradprop.components.activations import ACTIVATIONS
from gradprop.report import explorer, page
from gradprop.report.chapters import read_chapter
from gradprop.spec import Component, Study
from tests import report_example
from tests.browser import OVERFLOW, open_page, visit
from tests.report_example import layers_table, make_study, write_tree

NOISE = np.random.default_rng(0)
OWN_ACTIVATION = '''
"""An activation of the study's own."""

import numpy as np

from gradprop.components.own import activation


@activation(derivative=np.cos, saturation=(-np.inf, np.inf))
def wave(z):
    """Sine."""
    return np.sin(z)
'''


def data_of(root: Path, *studies: Study) -> dict[str, Any]:
    results, reports = write_tree(root, *studies)
    chapters = [
        read_chapter(study, number, results, reports) for number, study in enumerate(studies, 1)
    ]
    found: dict[str, Any] = json.loads(explorer.explorer_data(chapters))
    return found


def noisy(study: Study) -> pd.DataFrame:
    """Return layers with other values for every seed; the signal of one is exactly 0."""
    rows = layers_table(study)
    for name in explorer.STATISTICS.values():
        rows[name] = NOISE.normal(size=len(rows))
    of_first = rows["cell"].isin({cell.id for cell in study.cells if cell.seed == 0})
    rows.loc[of_first & (rows["layer"] == 1), "signal_log10_rms"] = -math.inf
    return rows


def test_measured_networks_are_medians_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that diverged count as infinite, zeros as the smallest; constant kernels are none."""
    study = replace(make_study(seeds=5), names={"initializer": {"normal(stddev=1.0)": "wide"}})
    rows = noisy(study)
    monkeypatch.setattr(report_example, "layers_table", lambda _: rows)
    found = data_of(tmp_path, study)["networks"]
    assert [(it["depth"], it["initializer"], it["id"]) for it in found] == [
        (2, "wide", "normal"),
        (5, "wide", "normal"),
    ]
    start = rows[rows["step"] == 0].set_index(["cell", "layer"])
    for network in found:
        assert network["sigma_w2"] == 64.0  # 64 units, weights of variance 1
        assert (network["seeds"], network["chapter"]) == (5, 1)
        cells = [
            cell.id
            for cell in study.cells
            if cell.depth == network["depth"] and cell.initializer.name == "normal"
        ]
        for name, column in explorer.STATISTICS.items():
            values = start.loc[cells, column].unstack()[list(range(1, network["depth"] + 1))]
            medians = np.median(values.to_numpy(), axis=0)
            assert network[name] == [round(float(value), 2) for value in medians]


def test_a_seed_that_studies_share_counts_once(tmp_path: Path) -> None:
    first = make_study("first", depths=(2,), seeds=2)
    other = make_study("other", depths=(2, 3), seeds=3, epochs=0)
    found = data_of(tmp_path, first, other)["networks"]
    assert [(it["chapter"], it["depth"], it["seeds"]) for it in found] == [(1, 2, 3), (2, 3, 3)]
    assert found[1]["signal"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "changed",
    [
        {"residual": "plain"},
        {"normalization": Component("batch")},
        {"depth": 201},
        {"widths": Component("linear", (("last", 5),))},
        {"initializer": Component("ones")},
    ],
)
def test_other_networks_are_not_compared(tmp_path: Path, changed: dict[str, Any]) -> None:
    study = make_study(depths=(2,))
    study = replace(study, cells=tuple(replace(cell, **changed) for cell in study.cells[3:]))
    assert data_of(tmp_path, study)["networks"] == []


def test_initializers_have_the_variance_of_every_width_and_activation(tmp_path: Path) -> None:
    data = data_of(tmp_path, make_study())
    found = {it["id"]: it["sigma_w2"] for it in data["initializers"]}
    for activation in ACTIVATIONS:
        assert found["he_normal"][activation] == pytest.approx([2.0] * len(data["widths"]))
        expected = [1e-4 * width for width in data["widths"]]
        assert found["normal"][activation] == pytest.approx(expected)
    assert set(found["lyapunov"]) == {"linear", "relu", "leaky_relu"}
    assert not {"zeros", "identity", "lsuv"} & set(found)


def test_measured_networks_are_thinned_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(depths=tuple(range(1, 13)))
    every = data_of(tmp_path / "all", study)
    assert (len(every["networks"]), every["thinned"]) == (12, 1)
    monkeypatch.setattr(explorer, "LARGEST", 1000)
    few = data_of(tmp_path / "few", study)
    assert few["networks"] == every["networks"][:: few["thinned"]]
    assert len(json.dumps(few["networks"], separators=(",", ":"))) <= 1100


def test_own_activations_are_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "components.py"
    file.write_text(OWN_ACTIVATION)
    own.load_file(file)
    try:
        study = make_study(depths=(2,))
        waves = tuple(replace(cell, activation=Component("wave")) for cell in study.cells)
        data = data_of(tmp_path, replace(study, cells=waves))
    finally:
        own.forget(file)
    assert data["own"] == ["wave"]
    assert "wave" not in data["activations"]
    assert data["networks"] == []


# ------------------------------------------------------------------------------ in the browser

# Weight variance, bias variance and depth: ordered, critical and chaotic, tiny and huge.
SETTINGS = [
    (0.001, 0.0, 3),
    (0.1, 0.005, 50),
    (0.5, 0.0, 40),
    (1.0, 0.0, 200),
    (1.0, 0.05, 200),
    (1.3, 0.3, 100),
    (1.762, 0.05, 100),
    (1.99, 0.0, 200),
    (2.0, 0.0, 200),
    (2.5, 0.0, 200),
    (4.0, 1.0, 200),
    (25.0, 0.0, 200),
    (50.0, 0.1, 30),
]


@pytest.mark.browser
def test_the_theory_of_the_page_is_that_of_the_package(tmp_path: Path) -> None:
    study = make_study()
    page.write_report([study], *write_tree(tmp_path, study), "Gradients")
    with open_page() as browser:
        assert visit(browser, tmp_path / "reports/index.html") == []
        names = browser.evaluate("gradprop.activations")
        assert set(ACTIVATIONS) >= set(names) >= {"linear", "tanh", "sigmoid", "relu", "selu"}
        cases = [(name, *setting) for name in names for setting in SETTINGS]
        found = browser.evaluate("cases => cases.map(given => gradprop.propagate(...given))", cases)
        vanished = browser.evaluate("gradprop.propagate('relu', 0.02, 0, 200).length")
    # Every ReLU layer multiplies by 0.01, down to the smallest number that the page tells from 0.
    assert vanished[:145] == pytest.approx([0.02 * 0.01**n for n in range(145)], rel=1e-6)
    assert vanished[150:] == [0.0] * 50
    for (name, weights, biases, depth), of_page in zip(cases, found, strict=True):
        case = f"{name}, {weights}, {biases}"
        profile = theory.signal_profile(name, [64] * (depth + 1), weights, biases)
        assert of_page["length"] == pytest.approx(profile.q.tolist(), rel=1e-6), case
        assert of_page["chi"] == pytest.approx(profile.chi.tolist(), rel=1e-6), case
        signal = profile.log_delta / (2 * math.log(10))
        assert of_page["signal"] == pytest.approx(signal.tolist(), rel=1e-6, abs=1e-6), case
        state = theory.mean_field_state(name, weights, biases, weights + biases)
        assert of_page["phase"] == state.phase, case
        assert of_page["chi1"] == pytest.approx(state.chi_1, rel=1e-6), case
        if (name, weights, biases) == ("relu6", 2.0, 0.0):
            # Small lengths fall by less than a rounding in any number of layers: any is a limit.
            for q in (of_page["limit"], state.q_star):
                assert theory.length_map(name, q, weights) == pytest.approx(q, rel=1e-13)
            continue
        assert of_page["limit"] == pytest.approx(state.q_star, rel=1e-6), case


@pytest.mark.browser
def test_the_explorer_draws_and_says_what_is_chosen(tmp_path: Path) -> None:
    study = make_study(depths=(2, 20))
    page.write_report([study], *write_tree(tmp_path, study), "Gradients")
    with open_page() as browser:
        heard = visit(browser, tmp_path / "reports/index.html")
        place = browser.locator("#explorer")
        offered = place.get_by_label("Activation").locator("option").all()
        names = browser.evaluate("gradprop.activations")
        assert [option.get_attribute("value") for option in offered] == sorted(names)
        assert "No network of this report can be compared" in place.inner_text()  # all are tanh
        assert place.locator("circle").count() == 0

        # He normal weights keep the mean square of ReLU networks.
        place.get_by_label("Initializer").select_option("he_normal")
        assert "χ₁ = 1. This is critical" in place.inner_text()
        assert "From layer 1 to layer 50, the length keeps its size." in place.inner_text()
        length, signal = place.get_by_role("img").all()
        assert length.get_attribute("aria-label") == (
            "Length by layer. Theory: 2 in layer 1, 2 in layer 50."
        )

        # Twice the standard deviation: two bits, 0.602 decades, in each of 19 steps.
        place.get_by_label("Gain").fill("2")
        place.get_by_label("Depth").fill("20")
        text = place.inner_text()
        assert "2: weight variance times fan-in 8" in text
        assert "This is the chaotic phase" in text
        assert "the length gains 11 decades in all, 0.6 per layer on average." in text
        assert "the signal gains 5.7 decades in all, 0.3 per layer on average." in text
        assert "Pre-activations stay within the range of float32." in text
        place.get_by_label("Depth").fill("200")  # 0.301 (l - 1) + 0.45 > 38.53 from l = 128 on
        assert "Pre-activations leave the range of float32 in layer 128." in place.inner_text()
        assert "A signal of 1 in layer 200 leaves this range in layer 72." in place.inner_text()

        # The nearest of the measured networks, and what differs.
        place.get_by_label("Activation").select_option("tanh")
        place.get_by_label("Depth").fill("15")
        text = place.inner_text()
        assert "normal, std 1, tanh, 20 layers of 64 units, on digits" in text
        assert (
            "What differs: the weight variance times the fan-in is 64 and not 8, "
            "the depth is 20 and not 15." in text
        )
        assert place.locator("circle").count() == 2 * 20
        assert "Measured: 1 in layer 1, 1 in layer 20." in (
            length.get_attribute("aria-label") or ""
        )
        # The example gains a decade in each layer; the signal is that over the last layer's.
        assert "Measured: 1.0 × 10⁻¹⁹ in layer 1, 1 in layer 20." in (
            signal.get_attribute("aria-label") or ""
        ).replace("\N{NO-BREAK SPACE}", " ")
        place.get_by_role("link", name="chapter 1").click()
        assert browser.url.endswith("#study-example")

        # An initializer that is not defined for the activation gives way to another.
        place.get_by_label("Activation").select_option("relu")
        place.get_by_label("Initializer").select_option("lyapunov")
        place.get_by_label("Activation").select_option("tanh")
        assert place.get_by_label("Initializer").input_value() == "normal"
        assert place.locator("option[value=lyapunov]").is_disabled()

        place.get_by_label("Depth").fill("1")
        assert "From layer" not in place.inner_text()
        assert browser.evaluate(OVERFLOW) == []
        browser.emulate_media(media="print")
        assert not place.is_visible()
        assert heard == []
