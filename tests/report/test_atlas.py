"""What the report's atlas holds of trained networks, and what a browser makes of it."""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop.analysis.diagnosis import DIAGNOSES
from gradprop.report import atlas, page
from gradprop.report.chapters import read_chapter
from gradprop.spec import Component, Study
from tests import report_example
from tests.browser import OVERFLOW, open_page, visit
from tests.report_example import cells_table, layers_table, make_study, write_tree

STEPS = (0, 1, 9)


def data_of(root: Path, *studies: Study) -> dict[str, Any]:
    results, reports = write_tree(root, *studies)
    chapters = [
        read_chapter(study, number, results, reports) for number, study in enumerate(studies, 1)
    ]
    found: dict[str, Any] = json.loads(atlas.atlas_data(chapters, "make") or "{}")
    return found


def networks_of(sheet: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield every network of a sheet with its codes."""
    codes, start = b64decode(sheet["codes"]), 0
    for values in zip(*sheet["networks"].values(), strict=True):
        network = dict(zip(sheet["networks"], values, strict=True))
        end = start + len(sheet["probes"][network["probes"]]) * (network["depth"] + 1)
        yield network, codes[start:end]
        start = end
    assert start == len(codes)


def noisy(study: Study) -> pd.DataFrame:
    """Return gradients over many decades at three probes.

    Of the first network all are 0, of the second one all of step 0; of the third one is NaN and one
    infinite.
    """
    rows = pd.concat([layers_table(study).query("step == 0").assign(step=step) for step in STEPS])
    order = {cell.id: number for number, cell in enumerate(study.cells)}
    number = rows["cell"].map(order)
    rows = rows.assign(number=number).sort_values(["number", "step", "layer"], ignore_index=True)
    logs = np.random.default_rng(0).normal(size=len(rows)) * 10.0 ** (rows["number"] % 3 - 1)
    zero = (rows["number"] == 0) | ((rows["number"] == 1) & (rows["step"] == 0))
    rows["gradient_log10_rms"] = logs.mask(zero, -math.inf)
    third = rows.index[rows["number"] == 2]
    rows.loc[third[:2], "gradient_log10_rms"] = [math.nan, math.inf]
    return rows.drop(columns="number")


def with_tables(monkeypatch: pytest.MonkeyPatch, layers: pd.DataFrame, cells: pd.DataFrame) -> None:
    monkeypatch.setattr(report_example, "layers_table", lambda _: layers)
    monkeypatch.setattr(report_example, "cells_table", lambda _: cells)


def noisy_study(monkeypatch: pytest.MonkeyPatch) -> tuple[Study, pd.DataFrame, str]:
    """Return a study, its layers, and the id of the network that diverged at step 9."""
    study = make_study()
    rows, cells = noisy(study), cells_table(study)
    diverged = study.cells[4].id
    cells.loc[4, "status"], cells.loc[4, "first_bad_step"] = "diverged", 9
    rows.loc[(rows["cell"] == diverged) & (rows["step"] == 9), "gradient_log10_rms"] = -math.inf
    with_tables(monkeypatch, rows, cells)
    return study, rows, diverged


def test_codes_stand_for_the_gradients_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros, what is not finite, and what comes after divergence have codes of their own."""
    study, rows, diverged = noisy_study(monkeypatch)
    (sheet,) = data_of(tmp_path, study)["sheets"]
    found = {network["cell"]: (network, codes) for network, codes in networks_of(sheet)}
    assert [*found] == [cell.id for cell in study.cells]
    for cell, group in rows.groupby("cell", sort=False):
        network, codes = found[str(cell)]
        assert sheet["probes"][network["probes"]] == [*STEPS]
        for code, step, log in zip(
            codes, group["step"], group["gradient_log10_rms"].astype(float), strict=True
        ):
            if (cell == diverged and step == 9) or math.isnan(log) or log == math.inf:
                assert code == atlas.DIVERGED
            elif log == -math.inf:
                assert code == atlas.ZERO
            else:
                assert code <= atlas.LAST
                decoded = network["low"] + network["quantum"] * code
                assert abs(decoded - log) <= network["quantum"] / 2 + 3e-4
    zero, _ = found[study.cells[0].id]
    assert set(found[study.cells[0].id][1]) == {atlas.ZERO}
    assert zero["middle"] == 0


def test_changes_are_from_the_median_of_the_first_probe_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, rows, _ = noisy_study(monkeypatch)
    (sheet,) = data_of(tmp_path, study)["sheets"]
    for number, (network, _) in enumerate(networks_of(sheet)):
        step = 1 if number == 1 else 0  # of the second network all of step 0 are zero
        logs = rows[(rows["cell"] == network["cell"]) & (rows["step"] == step)]
        finite = logs["gradient_log10_rms"][np.isfinite(logs["gradient_log10_rms"])]
        expected = np.median(finite) if len(finite) else 0.0
        assert network["middle"] == pytest.approx(expected, abs=1e-4)


def test_a_gradient_that_is_not_recorded_has_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()
    signals = "gradient_log10_norm,signal_log10_rms,preactivation_log10_mean_square"
    bare = replace(study, cells=tuple(replace(cell, statistics=signals) for cell in study.cells))
    rows = layers_table(bare).drop(columns="gradient_log10_rms")
    monkeypatch.setattr(report_example, "layers_table", lambda _: rows)
    (sheet,) = data_of(tmp_path, bare)["sheets"]
    assert set(b64decode(sheet["codes"])) == {atlas.NOT_MEASURED}


def test_networks_are_told_in_words(tmp_path: Path) -> None:
    study = make_study("first", title="A study", depths=(2,), seeds=1)
    fast = tuple(replace(cell, learning_rate=0.1, use_bias=False) for cell in study.cells)
    relu = tuple(replace(cell, activation=Component("relu")) for cell in study.cells)
    names = {"initializer": {"normal(stddev=1.0)": "wide"}}
    study = replace(study, cells=(*fast, *study.cells, *relu), names=names)
    data = data_of(tmp_path, study, make_study("untrained", epochs=0))
    first, second = data["sheets"]
    assert [it["name"] for it in (first, second)] == [
        "A study: digits, tanh",
        "A study: digits, ReLU",
    ]
    assert first["rows"] == [
        ["zeros", "learning rate 0.01"],
        ["zeros", "learning rate 0.1"],
        ["wide", "learning rate 0.01"],
        ["wide", "learning rate 0.1"],
    ]
    assert second["rows"] == [["zeros", ""], ["wide", ""]]
    assert first["networks"]["row"] == [1, 3, 0, 2]
    assert first["settings"][first["networks"]["setting"][1]] == (
        "digits, width 64, tanh, wide, learning rate 0.1, batch size 64, epochs 10, "
        "optimizer SGD, use bias no"
    )
    assert second["settings"][1] == (
        "digits, width 64, ReLU, wide, learning rate 0.01, batch size 64, epochs 10, optimizer SGD"
    )


def test_every_diagnosis_has_a_sign() -> None:
    assert [*atlas.MARKS] == [*DIAGNOSES]
    assert len({*atlas.MARKS.values()}) == len(DIAGNOSES)


def test_networks_are_thinned_to_fit_first_seeds_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = make_study("first", depths=(2,), seeds=4), make_study("second", depths=(3,))
    every = data_of(tmp_path / "all", *studies)
    assert (every["shown"], every["trained"]) == (14, 14)
    monkeypatch.setattr(atlas, "LARGEST", 9 * (atlas.BESIDES + 60))
    few = data_of(tmp_path / "few", *studies)
    assert (few["shown"], few["trained"]) == (9, 14)
    assert [sheet["networks"]["seed"] for sheet in few["sheets"]] == [
        [0, 1, 2, 0, 1],
        [0, 1, 0, 1],
    ]


def test_without_trained_networks_there_is_no_atlas(tmp_path: Path) -> None:
    study = make_study(epochs=0)
    page.write_report([study], *write_tree(tmp_path, study), "Gradients")
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert "#atlas" not in html
    assert 'id="maps"' not in html


# ------------------------------------------------------------------------------ in the browser


@pytest.mark.browser
def test_the_page_decodes_what_the_table_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, rows, diverged = noisy_study(monkeypatch)
    page.write_report([study], *write_tree(tmp_path, study), "Gradients")
    with open_page() as browser:
        assert visit(browser, tmp_path / "reports/index.html") == []
        found = browser.evaluate(
            "gradprop.networksOf(JSON.parse(document.getElementById('atlas-data').textContent)"
            ".sheets[0]).map(it => [it.cell, it.quantum, gradprop.logsOf(it, it.codes)])"
        )
    assert [cell for cell, _, _ in found] == [cell.id for cell in study.cells]
    for cell, quantum, logs in found:
        of_cell = rows[rows["cell"] == cell]
        expected = of_cell["gradient_log10_rms"].replace(math.inf, math.nan)
        expected = expected.mask((of_cell["cell"] == diverged) & (of_cell["step"] == 9))
        np.testing.assert_allclose(logs, expected, rtol=0, atol=quantum / 2 + 3e-4)


def pixels_of(browser: Any, number: int) -> Any:
    """Return the colours of a map, from the top down, as rows of triples."""
    return browser.evaluate(
        "number => { const map = document.querySelectorAll('.sheet canvas')[number];"
        "const { data } = map.getContext('2d').getImageData(0, 0, map.width, map.height);"
        "return Array.from({ length: map.height }, (_, y) => Array.from({ length: map.width },"
        " (_, x) => [...data.slice(4 * (y * map.width + x), 4 * (y * map.width + x) + 3)])); }",
        number,
    )


@pytest.mark.browser
def test_maps_open_the_details_of_their_networks(tmp_path: Path) -> None:
    study = make_study(depths=(2, 5), seeds=2)
    relu = tuple(
        replace(cell, activation=Component("relu"), seed=cell.seed + 7) for cell in study.cells
    )
    many = tuple(replace(relu[0], seed=seed) for seed in range(6))
    study = replace(study, cells=(*study.cells, *relu, *many))
    results, reports = write_tree(tmp_path, study)
    page.write_report([study], results, reports, "Gradients", command="make it")
    with open_page() as browser:
        heard = visit(browser, reports / "index.html")
        place, maps = browser.locator("#maps"), browser.locator(".sheet button")
        bar = place.locator(".controls")
        assert place.locator("thead th").all_inner_texts() == ["Initializer", "Depth 2", "Depth 5"]
        assert place.locator("tbody th").all_inner_texts() == ["zeros", "normal, std 1"]
        assert (maps.count(), bar.get_by_label("Seed").is_visible()) == (8, False)

        # Layers upwards, probes to the right. Gradients gain a decade per layer at step 0.
        assert pixels_of(browser, 0) == [[[20, 20, 20]] * 2] * 3  # all zero
        top, middle, bottom = pixels_of(browser, 4)
        none = [245, 244, 240]
        assert middle[0] == none
        assert top[0][0] > top[0][2] > 0  # red: larger
        assert bottom[0][2] > bottom[0][0]  # blue: smaller
        assert top[1] == middle[1] == bottom[1]  # even after training

        # The keyboard: one stop for the tabulator, arrows from map to map, Enter.
        bar.get_by_label("Sheet").focus()
        browser.keyboard.press("Tab")
        assert maps.nth(0).evaluate("it => it === document.activeElement")
        for key, number in (
            ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowDown", 6), ("ArrowLeft", 5),
            ("ArrowUp", 1), ("ArrowUp", 1), ("ArrowDown", 5),
        ):  # fmt: skip
            browser.keyboard.press(key)
            assert maps.nth(number).evaluate("it => it === document.activeElement"), key
        assert place.locator("[tabindex='0']").count() == 1
        browser.keyboard.press("Enter")
        details = place.locator(".network")
        text = details.inner_text()
        diverged = next(
            cell for cell in study.cells
            if (cell.depth, cell.seed, cell.activation.name, cell.initializer.name)
            == (2, 1, "tanh", "normal")
        )  # fmt: skip
        assert diverged.id in text
        assert "normal, std 1, depth 2, seed 1" in text
        assert "stable at initialization, stable at the end" in text
        assert "make it study_example" in text
        assert "config/studies/example/study.yaml" in text
        loss, gradient = details.get_by_role("img").all()
        assert loss.get_attribute("aria-label") == (
            "Training loss by step: 1 at step 0, 1 at step 9."
        )
        assert gradient.get_attribute("aria-label") == (
            "Weight gradient by layer. Step 0: 10 in layer 1, 1,000 in the last. "
            "Step 9: 1 in layer 1, 1 in the last."
        )
        assert gradient.locator("circle").count() == 3

        # Another sheet, with too many seeds to stand side by side.
        bar.get_by_label("Sheet").select_option("An example: digits, ReLU")
        assert details.inner_text() == ""
        assert bar.get_by_label("Seed").locator("option").all_inner_texts() == [*"01234578"]
        assert maps.count() == 1
        bar.get_by_label("Seed").select_option("7")
        assert maps.count() == 4
        assert browser.evaluate(OVERFLOW) == []
        browser.emulate_media(media="print")
        assert not place.is_visible()
        assert heard == []
