"""Real runs of Snakemake on a tiny configuration, in a working directory of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml

from gradprop import datasets, grid, networks, tables
from gradprop.spec import Cell, Stack, Study
from gradprop.training import minibatches
from tests.browser import check_report
from tests.reference import run_step

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parent.parent

TINY: dict[str, Any] = {
    "title": "A tiny study",
    "question": "Does everything work?",
    "training": {"learning_rate": 0.1, "batch_size": 13, "epochs": 2, "target_loss": 0.9},
    "probes": 3,
    "grid": {
        "dataset": {"name": "gaussian_mixture", "dimension": 5, "classes": 3, "examples": 70},
        "depth": [1, 3],
        "width": 6,
        "activation": ["tanh", "relu"],
        "initializer": ["he_normal", {"name": "normal", "stddev": 0.3}],
    },
    "figures": {
        "profile": {
            "kind": "layer_profile",
            "title": "Signal & gradient <by layer>",
            "statistic": ["signal_log10_rms", "gradient_log10_rms"],
            "columns": "depth",
            "hue": "initializer",
            "select": {"activation": "tanh"},
        },
        "map": {
            "kind": "layer_heatmap",
            "title": "Gradients",
            "statistic": "gradient_log10_rms",
            "rows": "activation",
            "columns": "initializer",
            "select": {"depth": 3},
        },
        "curves": {
            "kind": "learning_curves",
            "title": "Loss",
            "statistic": "train_loss",
            "rows": "activation",
            "columns": "depth",
            "hue": "initializer",
        },
        "slopes": {
            "kind": "slope",
            "title": "Slopes",
            "statistic": "signal_log10_rms",
            "hue": "initializer",
            "rows": "activation",
            "columns": "depth",
        },
        "atlas": {
            "kind": "atlas",
            "title": "Atlas",
            "statistic": "final_train_accuracy",
            "columns": "activation",
            "hue": "initializer",
        },
        "time": {
            "kind": "steps_to_target",
            "title": "T",
            "rows": "activation",
            "hue": "initializer",
        },
        "diverged": {
            "kind": "divergence",
            "title": "D",
            "rows": "activation",
            "hue": "initializer",
        },
        "ratio": {
            "kind": "update_ratio",
            "title": "R",
            "columns": "activation",
            "hue": "initializer",
            "select": {"depth": 3},
        },
    },
}


class Workspace:
    """A working directory with a configuration of its own, for the workflow of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config/studies").mkdir(parents=True)
        config = {
            "studies": ["tiny"],
            "seeds": 2,
            "stack_size": 3,
            "report": {"title": "Tiny & <b>small</b>"},
        }
        (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
        self.write_study(TINY)

    def write_study(self, content: dict[str, Any]) -> None:
        """Write the study's file."""
        text = yaml.safe_dump(content, sort_keys=False)
        (self.folder / "config/studies/tiny.yaml").write_text(text)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in this directory."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(self.folder), "--cores", "2", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def build(self, *arguments: str) -> str:
        """Run Snakemake, which must succeed; return what it said."""
        result = self.snakemake(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    @property
    def results(self) -> Path:
        """Return the folder of the study's tables."""
        return self.folder / "results/tiny"

    def study(self) -> Study:
        """Return the study as the jobs saw it."""
        return grid.read_study(self.results / "study.json")

    def trained(self) -> list[int]:
        """Return the number of cells of every training job so far that trained any."""
        runs = tables.read(self.results, "runs", self.study())
        return [len(json.loads(cells)) for cells in runs["cells"]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace in which the workflow has run once."""
    workspace = Workspace(tmp_path_factory.mktemp("workflow"))
    workspace.build()
    return workspace


def test_everything_is_there(built: Workspace) -> None:
    reports = built.folder / "reports"
    for figure in TINY["figures"]:
        for ending in ("svg", "pdf", "png"):
            assert (reports / f"figures/tiny/{figure}.{ending}").stat().st_size > 1000
        assert len(pd.read_csv(reports / f"data/tiny/{figure}.csv")) > 1
    assert len(tables.read(built.results, "cells", built.study())) == 16
    assert sum(built.trained()) == 16
    log = (built.folder / "logs/tiny/train").glob("*.log")
    assert all("cells done in" in path.read_text() for path in log)


def test_claims_are_verified(built: Workspace) -> None:
    """A study without claims has none; `verify` compares what there is, every time."""
    assert json.loads((built.folder / "reports/claims/tiny.json").read_text()) == []
    for _ in range(2):
        assert "0 supported, 0 not tested, 0 not supported" in built.build("verify")


def test_report_in_a_browser(built: Workspace) -> None:
    assert check_report(built.folder / "reports/index.html") == []
    assert "Tiny &amp; &lt;b&gt;small" in (built.folder / "reports/index.html").read_text()


def test_second_run_does_nothing(built: Workspace) -> None:
    assert "Nothing to be done" in built.build()


def test_same_results_give_the_same_report(built: Workspace) -> None:
    reports = built.folder / "reports"
    paths = [reports / "index.html", *sorted((reports / "figures/tiny").iterdir())]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    built.build()
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("arguments", [["-n"], ["--list"], ["--lint"], ["--config", "seeds=2"]])
def test_snakemake_options(built: Workspace, arguments: list[str]) -> None:
    built.build(*arguments)


def test_snakemake_report(built: Workspace) -> None:
    built.build("--report", "report.zip")
    names = zipfile.ZipFile(built.folder / "report.zip").namelist()
    assert any(name.endswith(".html") for name in names)


def cells_of(workspace: Workspace) -> Iterator[tuple[Cell, datasets.Dataset]]:
    """Yield the cells of the study with their data set."""
    for cell in workspace.study().cells:
        yield cell, datasets.read(workspace.folder / f"results/data/{cell.dataset.slug}.npz")


def test_tables_agree_with_plain_keras_and_float64(built: Workspace) -> None:
    """Train every cell again with plain Keras; brute-force its statistics in float64."""
    layers = tables.read(built.results, "layers", built.study()).set_index(["cell", "step"])
    steps = tables.read(built.results, "steps", built.study()).set_index(["cell", "step"])
    for cell, data in cells_of(built):
        probed = steps.loc[cell.id].index.tolist()
        model, optimizer = networks.build_model(cell, data), networks.build_optimizer(cell)
        batches = minibatches(Stack((cell,)), len(data.x_train))
        for step in range(max(probed) + 1):
            chosen = next(batches)[0]
            x, y = data.x_train[chosen], data.y_train[chosen]
            if step in probed:
                compare(model, cell, x, y, layers.loc[[(cell.id, step)]])
                accuracy = np.mean(model.predict(data.x_test, verbose=0).argmax(1) == data.y_test)
                assert steps.loc[(cell.id, step), "test_accuracy"] == pytest.approx(accuracy)
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x))
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def compare(
    model: keras.Sequential, cell: Cell, x: np.ndarray, y: np.ndarray, rows: pd.DataFrame
) -> None:
    """Compare a probe's rows with a float64 pass through the weights of the Keras model."""
    weights = model.get_weights()
    exact = run_step(weights[::2], weights[1::2], cell.activation, "cross_entropy", x, y)
    for layer, row in enumerate(rows.itertuples()):
        gradient, signal = exact.gradients[layer].value, exact.signals[layer].value
        activation = exact.activations[layer].value
        expected = {
            "gradient_log10_rms": np.log10(np.sqrt(np.mean(gradient**2))),
            "gradient_log10_norm": np.log10(np.linalg.norm(gradient)),
            "gradient_mean": gradient.mean(),
            "gradient_std": gradient.std(),
            "signal_log10_rms": np.log10(np.sqrt(np.mean(signal**2))),
            "activation_mean": activation.mean(),
            "activation_std": activation.std(),
            "activation_q98": np.quantile(activation, 0.98),
            "weight_log10_norm": np.log10(np.linalg.norm(weights[2 * layer])),
            "log10_update_ratio": np.log10(
                cell.learning_rate * np.linalg.norm(gradient) / np.linalg.norm(weights[2 * layer])
            ),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, rel=2e-4, abs=2e-5), name


def test_a_new_seed_trains_only_new_cells(built: Workspace) -> None:
    before = tables.read(built.results, "layers", built.study())
    assert sum(built.trained()) == 16
    built.build("--config", "seeds=3")
    assert sum(built.trained()) == 24
    after = tables.read(built.results, "layers", built.study())
    kept = after[after["cell"].isin(before["cell"])].reset_index(drop=True)
    order = ["cell", "step", "layer"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order, ignore_index=True), before.sort_values(order, ignore_index=True)
    )


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("activation", "tnah", ["tiny.yaml", "grid.activation", "'tnah'", "tanh", "Did you mean"]),
        ("depth", "three", ["tiny.yaml", "grid.depth", "'three'"]),
        ("dpeth", 3, ["tiny.yaml", "grid.dpeth", "Did you mean 'depth'"]),
    ],
)
def test_a_wrong_study_gets_one_clear_message(
    tmp_path: Path, key: str, value: Any, parts: list[str]
) -> None:
    workspace = Workspace(tmp_path)
    workspace.write_study({**TINY, "grid": {**TINY["grid"], key: value}})
    result = workspace.snakemake()
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert all(part in said for part in parts), said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()
