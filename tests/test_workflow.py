"""Real runs of Snakemake on a tiny configuration, in a working directory of their own."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from gradprop import claims, provenance
from gradprop.components import datasets
from gradprop.results import tables
from gradprop.spec import Cell, Stack, digest
from gradprop.training.loop import minibatches
from tests import keras_reference
from tests.browser import check_report, open_page, visit
from tests.reference import run_step
from tests.workspace import ROOT, TINY, Workspace, finished, small

pytestmark = pytest.mark.workflow


def test_everything_is_there(built: Workspace) -> None:
    reports = built.folder / "reports"
    for figure in TINY["figures"]:
        for ending in ("svg", "pdf", "png"):
            assert (reports / f"figures/tiny/{figure}.{ending}").stat().st_size > 1000
        assert len(pd.read_csv(reports / f"data/tiny/{figure}.csv")) > 1
    assert len(tables.read(built.results, "cells", built.study())) == 16
    assert built.trained() == built.ids()
    for manifest in built.results.glob("manifests/*.json"):
        log = built.folder / f"logs/tiny/train/{manifest.stem}.log"
        assert re.search("cells (done in|are there)", log.read_text())


def test_claims_are_verified(built: Workspace) -> None:
    """A study without claims has none."""
    assert json.loads((built.folder / "reports/claims/tiny.json").read_text()) == []
    assert "0 supported, 0 not tested, 0 not supported" in built.build("verify")


def test_verify_fails_where_a_listed_claim_is_no_longer_supported(grown: Workspace) -> None:
    """Those that reports/reference/claims.json lists, of studies among those read."""
    listed = grown.project / "reports/reference/claims.json"
    listed.write_text(
        json.dumps({f"{study}/claim/case": claims.SUPPORTED for study in ("third", "tiny")})
    )
    result = grown.snakemake("verify")
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert "no longer supported:\n  tiny/claim/case" in said
    assert "third/claim/case" not in said


def test_the_title_is_text(built: Workspace) -> None:
    assert "Tiny &amp; &lt;b&gt;small" in (built.folder / "reports/index.html").read_text()


@pytest.mark.browser
def test_report_in_a_browser(built: Workspace) -> None:
    assert check_report(built.folder / "reports/index.html") == []


def test_second_run_does_nothing(built: Workspace) -> None:
    """But it says that a table came from another kind of processor."""
    path = next(built.results.glob("manifests/*.json"))
    manifest, written = json.loads(path.read_text()), path.stat().st_mtime_ns
    assert manifest["machines"] == [provenance.instructions()]
    other = {key: value for key, value in manifest.items() if key != "digest"}
    other["machines"] = ["x86_64 sse"]
    path.write_text(json.dumps({**other, "digest": digest(other)}))
    said = built.snakemake("-n").stderr
    assert "a processor with the instructions x86_64 sse; this one has" in said
    path.write_text(json.dumps(manifest))
    os.utime(path, ns=(written, written))
    assert "Nothing to be done" in built.build()


@pytest.mark.parametrize("options", [[], ["-n"]])
def test_a_target_that_does_not_exist_is_told_in_one_line(
    built: Workspace, options: list[str]
) -> None:
    result = built.snakemake("reports/nosuch.html", *options)
    assert result.returncode == 1
    (said,) = [line for line in result.stderr.splitlines() if not line.startswith("Using")]
    assert "'reports/nosuch.html'; allowed: reports/index.html, verify, study_tiny" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--list"],
        ["--lint", "--config", "studies=[tiny, mechanism]"],  # one that has files of its own
        ["-n", "--config", "seeds=2", "limits={cells: 500, hours: 2.5}"],
    ],
)
def test_snakemake_options(built: Workspace, arguments: list[str]) -> None:
    built.build(*arguments)


def test_snakemake_report(built: Workspace) -> None:
    """It has the report, and of every study its figures with their texts and facts, and tables."""
    built.build("--report", "report.html")
    with open_page() as page:
        heard = visit(page, built.folder / "report.html")
        found: Any = page.evaluate("({results, categories, workflow_desc})")
        # Every row of every category can be opened.
        for category in found["categories"]:
            page.get_by_text(category, exact=True).click()
            rows = page.locator("table tbody tr")
            assert rows.count() == len(found["categories"][category]["Other"])
            rows.last.locator("a").last.click()
            assert page.get_by_text("Description").is_visible()
            page.get_by_text("Results", exact=True).first.click()
        search = page.get_by_placeholder("Search...")
        search.fill("reports/figures")  # two, which differ in their quantity alone
        search.press("Enter")
        assert page.locator("table tbody tr").count() == 2
        assert not [line for line in heard if "tailwindcss.com" not in line]
    assert [*found["categories"]] == ["0 The report", "1 A {\N{WORD JOINER}tiny} study: all of it"]
    results = found["results"]
    figure = results["reports/figures/tiny/profile.svg"]
    shown = {name: text.replace("\N{WORD JOINER}", "") for name, text in figure["labels"].items()}
    assert shown == {
        "result": "Signal & gradient {{by}} <layer>_",
        "quantity": "RMS of dC/dz, RMS of dC/dW",
        "data set": "Gaussian mixture",
        "depth": "1 to 3",
    }
    told = json.loads((built.folder / "reports/data/tiny/profile.json").read_text())
    said = html.unescape(re.sub("<.*?>", "", figure["caption"]))
    assert told["title"] == TINY["figures"]["profile"]["title"]
    assert told["caption"] == TINY["figures"]["profile"]["caption"]
    for text in (told["title"], told["caption"], told["alt"], "data/tiny/profile.csv"):
        assert text in said
    for table, expected in {"claims": "Nothing is claimed", "results": "Medians over"}.items():
        entry = results[f"reports/tables/index/tiny-{table}.html"]
        assert entry["mime_type"] == "text/html"
        assert entry["caption"]
        page_of_table = built.folder / f"reports/tables/index/tiny-{table}.html"
        assert expected in page_of_table.read_text()
        assert check_report(page_of_table) == []
    assert "reports/index.html" in found["workflow_desc"]
    assert "problematic" not in found["workflow_desc"] + figure["caption"]


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
        model, optimizer = (
            keras_reference.build_model(cell, data),
            keras_reference.build_optimizer(cell),
        )
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


EDITED = {**TINY["figures"], "curves": {**TINY["figures"]["curves"], "title": "Another"}}


def test_an_edited_figure_trains_nothing(built: Workspace) -> None:
    built.write_study({**TINY, "figures": EDITED})
    said = built.build("-n")
    built.write_study(TINY)
    jobs = [f"Study tiny: {job}" for job in ("study", "figures", "claims")]
    assert sorted(said.splitlines()[-5:-1]) == sorted([*jobs, "Report reports/index.html"])
    assert said.splitlines()[-1] == (
        "This was a dry-run: 4 jobs would run, and nothing was changed."
    )


def test_a_dry_run_changes_nothing(built: Workspace) -> None:
    """It says what is damaged and would be made again, and leaves it for a real run."""
    damaged = built.folder / "reports/data/tiny/curves.csv"
    whole = damaged.read_bytes()
    damaged.write_text("damaged")
    definition = next((built.folder / "results/tiny").glob("study.*.json"))
    known = definition.read_bytes()
    definition.write_bytes(known + b" x")

    def state() -> dict[Path, tuple[int, bytes]]:
        places = (built.folder / name for name in ("results", "reports"))
        paths = [path for place in places for path in place.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    before = state()
    said = built.build("-n")
    assert state() == before
    damaged.write_bytes(whole)
    definition.write_bytes(known)
    for path in (damaged, definition):
        name = path.relative_to(built.folder)
        assert f"{name}: damaged or edited; it is made again" in said
    assert "\nStudy tiny: figures\n" in said
    assert "training" not in said
    assert "Nothing to be done" in built.build("-n")


@pytest.mark.long
def test_an_edited_figure_alone_is_redrawn(built: Workspace) -> None:
    def pictures() -> dict[str, bytes]:
        paths = (built.folder / "reports/figures/tiny").iterdir()
        return {path.name: path.read_bytes() for path in paths}

    before = pictures()
    built.write_study({**TINY, "figures": EDITED})
    said = built.build()
    # Claims are read off the tables again: they use the names that stand beside the figures.
    jobs = ["claims", "figures"]
    end = ["Report reports/index.html", "Everything is there"]
    assert sorted(finished(said)) == sorted([*(f"Study tiny: {job}" for job in jobs), *end])
    assert re.findall(r"\[tiny\] (\w+): drawn", said) == ["curves"]
    changed = {name for name, content in pictures().items() if content != before[name]}
    assert {Path(name).stem for name in changed} <= {"curves"}
    assert "Another" in (built.folder / "reports/index.html").read_text()


def test_a_new_seed_trains_only_new_cells(built: Workspace) -> None:
    before = tables.read(built.results, "layers", built.study())
    jobs = built.runs()
    assert len(jobs) == 16
    built.build("--until", "train", "--config", "seeds=3")
    assert len(built.trained()) == 24
    assert built.trained() == built.ids()
    assert {cell: job for cell, job in built.runs().items() if cell in jobs} == jobs
    after = tables.read(built.results, "layers", built.study())
    kept = after[after["cell"].isin(before["cell"])].reset_index(drop=True)
    order = ["cell", "step", "layer"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order, ignore_index=True),
        before.sort_values(order, ignore_index=True),
        check_exact=True,
    )


# ------------------------------------------------------------------------- what is trained anew


INITIALIZERS = ["he_normal", {"name": "normal", "stddev": 0.1}]
GROWN = small(depth=[1, 3], initializer=[*INITIALIZERS, "zeros"])

# The cells of GROWN: axes in another order, numbers written otherwise, defaults written out.
GROWN_IN_OTHER_WORDS = """
title: Small
question: What is missing?
probes: 3.0
statistics: standard
grid:
  initializer: [zeros, {stddev: 1.0e-1, name: normal}, he_normal]
  learning_rate: 1
  target_loss: 9.0e-1
  optimizer: {name: sgd, momentum: 0}
  loss: auto
  use_bias: true
  bias_std: 0
  epochs: 2.0
  batch_size: 13
  seeds: [0]
  activation: [tanh]
  width: 5.0
  depth: [3.0, 1]
  dataset: {examples: 40, classes: 3.0, dimension: 5, noise: 1, name: gaussian_mixture}
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace for a copy of the project, with cells that were trained in two runs."""
    project = tmp_path_factory.mktemp("project")
    for name in ("src", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", project)
    (project / "reports/reference").mkdir(parents=True)
    workspace = Workspace(tmp_path_factory.mktemp("grown"), project)

    workspace.write_study(small(initializer=INITIALIZERS))
    workspace.build("--until", "train", "--cores", "4")
    assert workspace.trained() == workspace.ids()
    assert len(workspace.ids()) == 2

    workspace.write_study(GROWN)
    workspace.write_study(small(initializer="zeros", seeds=2), "other")
    workspace.write_config("tiny", "other")
    workspace.build("--until", "train", "--cores", "4")
    return workspace


def test_a_new_depth_initializer_and_study_train_only_new_cells(grown: Workspace) -> None:
    assert len(grown.ids()) == 6
    assert grown.trained() == grown.ids()
    assert len(set(grown.runs().values())) == 2  # the jobs of both runs
    assert grown.trained("other") == grown.ids("other")


@pytest.fixture
def no_tensorflow(grown: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return the workspace, where importing TensorFlow fails a job."""
    (tmp_path / "tensorflow.py").write_text("raise ImportError('TensorFlow is not needed here')\n")
    monkeypatch.setattr(grown, "python_path", [tmp_path, *grown.python_path])
    return grown


def check_all_cells_are_there(workspace: Workspace, cells: int) -> None:
    """Run the training jobs, which must find all cells of the first study in its tables."""
    said = workspace.build("--until", "train")
    assert any("training" in job for job in finished(said))
    assert f"all {cells} cells are there" in said
    assert len(workspace.trained()) == cells
    assert len(tables.read(workspace.results, "cells", workspace.study())) == cells


def test_touched_files_run_no_job(no_tensorflow: Workspace) -> None:
    no_tensorflow.write_study(GROWN)
    no_tensorflow.build("--until", "train")
    sources = [*no_tensorflow.project.rglob("*.*"), *no_tensorflow.folder.rglob("config/**/*.yaml")]
    made = [path for path in no_tensorflow.folder.rglob("results/**/*") if path.is_file()]
    for path in [*sources, *made]:
        path.touch()
    assert finished(no_tensorflow.build("--until", "train")) == []


def test_an_edited_docstring_trains_nothing(no_tensorflow: Workspace) -> None:
    no_tensorflow.write_study(GROWN)
    path = no_tensorflow.project / "src/gradprop/probes/statistics.py"
    path.write_text(path.read_text().replace('"""', '"""Edited. ', 1))
    assert finished(no_tensorflow.build("--until", "train")) == []
    assert len(tables.read(no_tensorflow.results, "cells", no_tensorflow.study())) == 6


def test_nothing_is_trained_for_cells_removed_added_again_or_said_in_other_words(
    no_tensorflow: Workspace,
) -> None:
    no_tensorflow.write_study(small(depth=[1, 3], initializer=INITIALIZERS))
    check_all_cells_are_there(no_tensorflow, 4)
    no_tensorflow.write_study(GROWN_IN_OTHER_WORDS)
    check_all_cells_are_there(no_tensorflow, 6)


def rows(workspace: Workspace) -> dict[str, str]:
    """Return all digits of every row in every table of results, by the tables' files."""
    folder = workspace.folder / "results"
    paths = [path for table in tables.TABLES for path in folder.glob(f"*/{table}/*.parquet")]
    return {str(path): repr(pq.read_table(path).to_pydict()) for path in paths}


def test_edited_code_trains_everything_to_the_same_bits_on_one_core_in_one_run(
    grown: Workspace,
) -> None:
    grown.write_study(GROWN)
    before, jobs = rows(grown), {study: grown.runs(study) for study in ("tiny", "other")}
    assert len(before) == 6
    path = grown.project / "src/gradprop/probes/statistics.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    grown.build("--until", "train", "--cores", "1")
    for study, old in jobs.items():
        assert grown.runs(study).keys() == old.keys()
        assert not set(grown.runs(study).values()) & set(old.values())
    assert rows(grown) == before


# Appended to a module: the job gets no further than its first stack.
KILLED = """
import os
import signal

_add = FinishedStacks.add


def _add_and_die(self, rows, run):
    _add(self, rows, run)
    os.kill(os.getpid(), signal.SIGKILL)


FinishedStacks.add = _add_and_die
"""


@pytest.mark.long
def test_a_killed_job_goes_on_where_it_was(grown: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, grown.project)
    workspace.write_study(small(depth=[1, 2], seeds=2, initializer="he_normal"))
    path = grown.project / "src/gradprop/results/tables.py"
    unharmed = path.read_text()
    path.write_text(unharmed + KILLED)
    assert workspace.snakemake("--until", "train").returncode == 1
    path.write_text(unharmed)
    assert workspace.trained() == []
    said = workspace.build("--until", "train")
    assert "2 of 4 cells are there" in said
    assert "training 2 cells" in said
    assert workspace.trained() == workspace.ids()
    assert finished(workspace.build("--until", "train")) == []


@pytest.mark.long
def test_measurements_are_tables_of_the_shards_that_ask_for_them(tmp_path: Path) -> None:
    """The cells that ask for none keep their files; adding a measurement trains its cells."""
    workspace = Workspace(tmp_path)
    block = small(initializer="he_normal")["grid"]
    measured = {**block, "depth": 2, "measurements": ["spectra", {"name": "histograms", "bins": 5}]}
    workspace.write_study({**small(), "grid": [block, measured]})
    workspace.build("reports/claims/tiny.json")
    names = {path.parent.name: path.stem for path in workspace.results.glob("*/*.parquet")}
    assert set(names) == {*tables.TABLES, "runs", "histograms", "spectra"}
    assert len({path.stem for path in workspace.results.glob("cells/*.parquet")}) == 2
    assert len({path.stem for path in workspace.results.glob("spectra/*.parquet")}) == 1
    assert names["spectra"] == names["histograms"]
    assert names["spectra"].endswith("-histograms-spectra")
    (cell,) = set(tables.read(workspace.results, "histograms", workspace.study())["cell"])
    assert [c.depth for c in workspace.study().cells if c.id == cell] == [2]
    assert workspace.trained() == workspace.ids()
    assert "Nothing to be done" in workspace.build("reports/claims/tiny.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("studies: [tiny\nseeds: 2\n", "line 2, column 6: not valid YAML: expected ',' or ']'"),
        ("", "the file is empty"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, text: str, expected: str) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "config/config.yaml").write_text(text)
    result = workspace.snakemake()
    assert result.returncode == 1
    assert f"config/config.yaml: {expected}" in (result.stdout + result.stderr).splitlines()[-1]


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        (
            "activation",
            "tnah",
            ["tiny/study", "grid.activation", "'tnah'", "tanh", "Did you mean"],
        ),
        ("depth", "three", ["tiny/study", "grid.depth", "'three'"]),
        ("dpeth", 3, ["tiny/study", "grid.dpeth", "Did you mean 'depth'"]),
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
