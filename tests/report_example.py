"""A small invented tree of results and figures, for the tests of the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradprop import claims, studies
from gradprop.analysis import diagnosis
from gradprop.grid.sharding import shards
from gradprop.results import manifests, products, tables
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component, Study

VERSIONS = {"python": "3.11.7", "tensorflow": "2.21.0", "keras": "3.15.1"}


def make_study(
    name: str = "example",
    title: str = "An example",
    question: str = "How does the scale of the weights change the gradient?",
    figures: tuple[str, ...] = ("small", "wide"),
    dataset: str = "digits",
    depths: tuple[int, ...] = (2, 5),
    seeds: int = 3,
    epochs: int = 10,
) -> Study:
    """Return a study with two initializers."""
    cells = tuple(
        Cell(
            dataset=Component(dataset),
            depth=depth,
            width=64,
            activation=Component("tanh"),
            initializer=initializer,
            learning_rate=0.01,
            batch_size=64,
            epochs=epochs,
            seed=seed,
        )
        for depth in depths
        for initializer in (Component("zeros"), Component("normal", (("stddev", 1.0),)))
        for seed in range(seeds)
    )
    options = {figure: {"kind": "line", "title": figure, "caption": ""} for figure in figures}
    return Study(name, title, question, cells, options)


def cells_table(study: Study) -> pd.DataFrame:
    """Return invented results; the last seed of every configuration has diverged."""
    rng = np.random.default_rng(0)
    last = max(cell.seed for cell in study.cells)
    classification = study.cells[0].dataset.name != "linear_teacher"
    rows = []
    for cell in study.cells:
        bad = cell.seed == last and cell.initializer.name == "normal"
        loss, accuracy = rng.uniform(0.1, 2, 2), rng.uniform(0.5, 1, 2)
        if bad or not cell.epochs:
            loss = np.full(2, np.nan)
        if bad or not (cell.epochs and classification):
            accuracy = np.full(2, np.nan)
        rows.append(
            {
                "cell": cell.id,
                **cell.columns(),
                "status": "diverged" if bad else "ok",
                "first_bad_step": pd.NA,
                "first_bad_layer": pd.NA,
                "final_train_loss": loss[0],
                "final_test_loss": loss[1],
                "final_train_accuracy": accuracy[0],
                "final_test_accuracy": accuracy[1],
            }
        )
    return pd.DataFrame(rows).astype({"first_bad_step": "Int64", "first_bad_layer": "Int64"})


def layers_table(study: Study) -> pd.DataFrame:
    """Return signals that lose a decade per layer at the start and are even after training."""
    rows = pd.DataFrame(
        [
            {"cell": cell.id, "step": step, "layer": layer, "signal_log10_rms": slope * layer}
            for cell in study.cells
            for step, slope in [(0, 1.0), *([(9, 0.0)] if cell.epochs else [])]
            for layer in range(1, cell.depth + 2)
        ]
    )
    zeros = rows["cell"].isin(
        {cell.id for cell in study.cells if cell.initializer == Component("zeros")}
    )
    return rows.assign(
        gradient_log10_norm=0.0,
        gradient_log10_rms=rows["signal_log10_rms"].mask(zeros, -np.inf),
        preactivation_log10_mean_square=0.0,
    )


def steps_table(study: Study) -> pd.DataFrame:
    """Return losses of 1 at the probes."""
    return layers_table(study)[["cell", "step"]].drop_duplicates().assign(train_loss=1.0)


def example_tables(study: Study) -> StudyTables:
    """Return the invented tables of a study."""
    known = tuple(replace(cell, dataset=Component("digits")) for cell in study.cells)
    for twin, cell in zip(known, study.cells, strict=True):  # an invented data set has no sizes
        vars(twin)["id"] = cell.id
    found = StudyTables(replace(study, cells=known), Path())
    found.cells, found.layers = cells_table(study), layers_table(study)
    found.steps = steps_table(study)
    return found


def runs_table(study: Study) -> pd.DataFrame:
    """Return two runs: the first trained all cells but one, the second that one."""
    common = {
        "shard": "a",
        "instructions": "x86_64 avx2",
        "linear_algebra": "openblas Haswell",
        "threads": 2,
        "phase_seconds": "{}",
        "peak_memory_mib": 812.4,
        "processor": "Invented CPU <2 GHz>",
        "cores": 2,
        "versions": json.dumps(VERSIONS),
        "config": "0123456789ab",
    }
    ids = [cell.id for cell in study.cells]
    return pd.DataFrame(
        [
            {**common, "cells": json.dumps(ids[1:]), "cpu_seconds": 30.0, "code": "a" * 12}
            | {"commit": "", "job": "0123"},
            {**common, "cells": json.dumps(ids[:1]), "cpu_seconds": 4.5, "code": "b" * 12}
            | {"commit": "1234567", "job": "4567"},
        ]
    )


def write_results(study: Study, results: Path) -> None:
    """Write the tables that the report reads, one file of all cells for each shard."""
    folder = results / study.name
    frames = {name: pd.DataFrame({"cell": []}) for name in tables.TABLES}
    frames |= {"cells": cells_table(study), "layers": layers_table(study)}
    frames["steps"] = steps_table(study)
    frames["runs"] = runs_table(study)
    for number, shard in enumerate(shards(study.cells).values()):
        paths = []
        for table, rows in frames.items():
            paths.append(tables.path_of(folder, table, shard.name))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            (rows if number == 0 else rows[:0]).to_parquet(paths[-1])
        manifests.write(products.tables(folder, shard), paths)


def result(verdict: str, passage: str = "", **changes: Any) -> claims.Result:
    """Return a verdict whose texts are empty and whose numbers are 1, but for `changes`."""
    texts = (
        "study",
        "id",
        "case",
        "case_id",
        "statement",
        "source",
        "formula",
        "unit",
        "criterion",
    )
    numbers = dict.fromkeys(("predicted", "measured", "low", "high", "networks"), 1)
    given: dict[str, Any] = {**dict.fromkeys([*texts, "reason"], ""), **numbers, **changes}
    return claims.Result(verdict=verdict, passage=passage, **given)


@cache
def draw(name: str) -> dict[str, bytes]:
    """Draw a figure, few lines or (`wide`) a dense cloud of points; return its files."""
    wide = name == "wide"
    figure = Figure(figsize=(10, 4) if wide else (6, 4))
    axes = figure.subplots()
    axes.plot(
        *np.random.default_rng(0).normal(size=(2, 20_000 if wide else 20)), "." if wide else "-"
    )
    axes.set(xlabel="layer", ylabel="log10 RMS of the gradient")
    pictures = {}
    for ending in ("svg", "png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, dpi=100 if wide else 300)
        pictures[ending] = buffer.getvalue()
    return pictures


def write_figures(
    study: Study, reports: Path, description: Mapping[str, Any] | None = None
) -> None:
    """Write the files of every figure of a study."""
    folder, data = reports / "figures" / study.name, reports / "data" / study.name
    for path in (folder, data):
        path.mkdir(parents=True, exist_ok=True)
    for name in study.figures:
        for ending, content in draw(name).items():
            (folder / f"{name}.{ending}").write_bytes(content)
        (data / f"{name}.csv").write_text("layer,rms\n1,0.5\n")
        text = {"title": f"Title of {name}", "caption": "Median over seeds.", "alt": f"Alt {name}"}
        (data / f"{name}.json").write_text(json.dumps({**text, **(description or {})}))
    seal(products.figures(reports, study), folder.iterdir(), data.iterdir())


def seal(manifest: Path, *made: Iterable[Path]) -> None:
    """Write the manifest of files, as the job does that wrote them."""
    manifests.write(manifest, sorted(chain(*made)))


def write_tree(root: Path, *chapters: Study) -> tuple[Path, Path]:
    """Write results and figures of studies; return the folders of results and of reports."""
    for study in chapters:
        write_results(study, root / "results")
        write_figures(study, root / "reports")
        path = root / "reports/claims" / f"{study.name}.json"
        claims.write([], path)
        written = diagnosis.write(example_tables(study), path)
        tables_of_study = StudyTables(study, root / "results" / study.name)
        made = [path, *written, studies.write_numbers(tables_of_study, path)]
        seal(products.claims(root / "reports", study), made)
    return root / "results", root / "reports"
