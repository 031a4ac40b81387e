"""Training jobs: only missing cells are trained, and what counts as missing."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradprop import jobs, provenance
from gradprop.components import datasets
from gradprop.grid import folders, sharding
from gradprop.results import tables
from gradprop.results.tables import TABLES, FinishedStacks
from gradprop.spec import Cell, Shard, Stack
from tests.reference import make_cell
from tests.workspace import ROOT

SOURCE = Path(provenance.__file__).parents[1]
DATA = {"name": "gaussian_mixture", "examples": 60, "classes": 3, "dimension": 5}

CELLS = [
    make_cell(seed=seed, initializer=initializer, depth=depth, width=5, batch_size=16)
    for depth, initializer, seed in (
        (1, "glorot_normal", 0),
        (1, "glorot_normal", 1),
        (1, "zeros", 0),
        (2, "glorot_normal", 0),
        (2, "he_normal", 3),
    )
]

Train = Callable[..., int]


def make_shard(cells: Sequence[Cell]) -> Shard:
    return Shard("shard", tuple(sharding.stacks(cells)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    datasets.write(datasets.DATASETS.create(DATA), path)
    return path


@pytest.fixture
def train(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return a job in this process that counts cells."""
    from gradprop.training import loop

    trained: list[Cell] = []
    train_all = loop.train

    def spy(stacks: list[Stack], *arguments: Any) -> Iterator[Any]:
        trained.extend(cell for stack in stacks for cell in stack.cells)
        return train_all(stacks, *arguments)

    monkeypatch.setattr(loop, "train", spy)

    def run(cells: Sequence[Cell], folder: str = "results", stack_size: int = 40) -> int:
        trained.clear()
        count = jobs.train_shard(make_shard(cells), tmp_path / folder, data, stack_size)
        assert count == len(trained) == len(set(trained) & set(cells))
        return count

    return run


def runs_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(tables.path_of(folder, tables.RUNS, "shard"))


def ids(cells: Sequence[Cell]) -> frozenset[str]:
    return frozenset(cell.id for cell in cells)


def python(*arguments: object) -> str:
    """Run a fresh interpreter; return what it prints."""
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(ROOT)])},
    )
    return run.stdout


def test_only_missing_cells_are_trained(train: Train) -> None:
    assert train(CELLS[:3]) == 3
    assert train(CELLS[:3]) == 0
    assert train(CELLS) == 2
    assert train(CELLS[::-1]) == 0
    assert train(CELLS[:2]) == 0  # removing some trains nothing
    assert train(CELLS) == 0  # and throws nothing away
    changed = [replace(CELLS[0], learning_rate=0.7), replace(CELLS[0], epochs=2)]
    assert train([*CELLS, *changed]) == 2
    same = replace(CELLS[0], learning_rate=0.1, probes=3, use_bias=True, loss="auto")
    assert train([same]) == 0


@pytest.mark.parametrize("stack_size", [1, 2])
def test_files_do_not_depend_on_runs_and_stacks(
    train: Train, stack_size: int, tmp_path: Path
) -> None:
    train(CELLS, "one run")
    train(CELLS[1:3], "two runs", stack_size=stack_size)
    train(CELLS[::-1], "two runs", stack_size=stack_size)
    for table in TABLES:
        paths = [tables.path_of(tmp_path / f, table, "shard") for f in ("one run", "two runs")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


class Killed(BaseException):
    """The end of a job."""


@pytest.mark.parametrize("stacks", [2, pytest.param(5, marks=pytest.mark.long)])
def test_a_job_goes_on_where_another_was_killed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacks: int
) -> None:
    """After some stacks, or after the last one and before the tables were written."""
    folders = [tmp_path / name for name in ("one run", "two runs")]
    train(CELLS, "one run")
    add = FinishedStacks.add

    def add_and_kill(finished: FinishedStacks, rows: Any, run: Any) -> None:
        add(finished, rows, run)
        if len(finished.cells) == stacks:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FinishedStacks, "add", add_and_kill)
        train(CELLS, "two runs", stack_size=1)
    assert {path.name for path in folders[1].iterdir()} == {"stacks"}
    assert train(CELLS, "two runs", stack_size=1) == len(CELLS) - stacks
    assert train(CELLS, "two runs") == 0
    for table in TABLES:
        paths = [tables.path_of(folder, table, "shard") for folder in folders]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    trained = [json.loads(cells) for cells in runs_of(folders[1])["cells"]]
    assert sorted(cell for cells in trained for cell in cells) == sorted(c.id for c in CELLS)
    assert {path.name for path in folders[1].iterdir()} == {*TABLES, "runs", "stacks", "manifests"}


@pytest.mark.parametrize("table", [*TABLES, tables.RUNS])
def test_a_lost_table_is_put_together_again(train: Train, tmp_path: Path, table: str) -> None:
    train(CELLS[:2])
    path = tables.path_of(tmp_path / "results", table, "shard")
    before = path.read_bytes()
    path.unlink()
    assert train(CELLS[:2]) == 0
    assert path.read_bytes() == before


def test_other_data_is_other_work(train: Train, data: Path) -> None:
    train(CELLS[:2])
    data.unlink()
    datasets.write(datasets.DATASETS.create({**DATA, "noise": 2.0}), data)
    assert train(CELLS[:2]) == 2


def test_other_code_is_other_work(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    train(CELLS[:2])
    monkeypatch.setattr(provenance, "code_digest", lambda modules: "another")
    assert train(CELLS[:1]) == 1
    assert train(CELLS[:2]) == 1


def test_a_run_is_noted(train: Train, tmp_path: Path) -> None:
    train(CELLS[:3], stack_size=2)
    train(CELLS[:4])
    train(CELLS[:4])
    runs = runs_of(tmp_path / "results")
    trained = {frozenset(json.loads(cells)) for cells in runs["cells"]}
    assert trained == {ids(CELLS[:2]), ids(CELLS[2:3]), ids(CELLS[3:4])}
    assert set(json.loads(runs["versions"][0])) == {"python", *provenance.PACKAGES}
    phases = {phase for seconds in runs["phase_seconds"] for phase in json.loads(seconds)}
    assert {"import", "build", "train", "write"} <= phases
    assert (runs["code"] == provenance.code_digest()).all()
    assert (runs["cpu_seconds"] > 0).all()
    assert (runs["instructions"] == provenance.instructions()).all()
    assert runs["job"].nunique() == 1  # both trainings were of this process
    assert (runs["peak_memory_mib"] > 1).all()


def train_elsewhere(cells: Sequence[Cell], folder: Path, data: Path) -> tuple[int, set[str]]:
    """Run the job in a process of its own; return how many it trained and what it imported."""
    code = """
import json, pickle, sys
from pathlib import Path
from gradprop import jobs
from gradprop.grid import sharding
from gradprop.spec import Shard

cells = pickle.loads(bytes.fromhex(sys.argv[1]))
shard = Shard("shard", tuple(sharding.stacks(cells)))
trained = jobs.train_shard(shard, Path(sys.argv[2]), Path(sys.argv[3]), 40)
print(json.dumps([trained, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    trained, modules = json.loads(python("-c", code, pickle.dumps(cells).hex(), folder, data))
    assert "gradprop" in modules
    return trained, set(modules)


def test_tensorflow_is_not_imported_when_nothing_is_missing(
    train: Train, tmp_path: Path, data: Path
) -> None:
    train(CELLS[:2])
    trained, modules = train_elsewhere(CELLS[:2], tmp_path / "results", data)
    assert trained == 0
    assert not {"tensorflow", "keras"} & modules


def test_tensorflow_is_not_imported_for_what_a_killed_job_had_trained(
    train: Train, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(finished: FinishedStacks, cells: Set[str]) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FinishedStacks, "write", kill)
        train(CELLS[:2])
    trained, modules = train_elsewhere(CELLS[:2], tmp_path / "results", data)
    assert trained == 0
    assert not {"tensorflow", "keras"} & modules
    assert train(CELLS[:2]) == 0
    (cells,) = runs_of(tmp_path / "results")["cells"]
    assert set(json.loads(cells)) == {cell.id for cell in CELLS[:2]}


# ------------------------------------------------------------------------------------- code


def test_numeric_modules_are_those_that_training_imports() -> None:
    code = "import sys, gradprop.training.loop; print(*sys.modules)"
    loaded = {
        name.split(".")[1] for name in python("-c", code).split() if name.startswith("gradprop.")
    }
    assert loaded - {"errors"} == set(provenance.NUMERIC_MODULES)


def imported(module: str) -> set[str]:
    """Return the gradprop modules that a module imports anywhere, in functions too.

    Of a sub-package, those that all of its modules import; its own are left out.
    """
    found: set[str] = set()
    for path in map(Path, provenance.module_paths((module,))):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "relative imports are not followed"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            found |= {name.split(".")[1] for name in names if name.startswith("gradprop.")}
    return found - {module, "__version__"}


def closure(modules: Sequence[str], end: Set[str] = frozenset()) -> set[str]:
    """Return modules and all that they import; those of `end` are not followed."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        found |= waiting
        waiting = {m for module in waiting - end for m in imported(module)} - found
    return found


def test_numeric_modules_import_no_other_even_late() -> None:
    assert closure(("training",)) == {*provenance.NUMERIC_MODULES, "errors"}


def test_own_networks_depend_on_all_that_their_training_imports() -> None:
    assert closure(("networks",)) == {*provenance.NETWORK_MODULES, "errors"}


# What changes no cell, figure or text: words of errors, where results come from, threads.
NEUTRAL = {"errors", "provenance", "threads"}


@pytest.mark.parametrize(
    "modules",
    [provenance.FIGURE_MODULES, provenance.CLAIM_MODULES, provenance.REPORT_MODULES],
    ids=["figures", "claims", "report"],
)
def test_modules_of_figures_claims_and_report(modules: tuple[str, ...]) -> None:
    """What the steps import is in their manifest, or in that of the tables that they read."""
    listed = {name.split("/")[0] for name in modules}
    reached = closure(sorted(listed), end=set(provenance.NUMERIC_MODULES))
    assert reached - set(provenance.NUMERIC_MODULES) - NEUTRAL == listed - NEUTRAL


def test_an_edit_of_prose_judges_nothing_again() -> None:
    chapters = set(folders.roots()[1].glob(f"*/{folders.CHAPTER}"))
    assert len(chapters) == 18
    for chapter in chapters:
        assert chapter not in folders.own_files(chapter.parent, folders.CLAIMS)
        assert chapter in folders.own_files(chapter.parent, *folders.OF_CHAPTER)
    templates = set(provenance.PACKAGE.rglob("*.html.j2"))
    assert len(templates) > 1
    assert not templates & set(map(Path, provenance.module_paths(provenance.CLAIM_MODULES)))
    assert templates <= set(map(Path, provenance.module_paths(provenance.REPORT_MODULES)))


def copy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "package"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    return copy


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package, of which the digest is taken from now on."""
    return copy_package(tmp_path, monkeypatch)


def edit(path: Path, pattern: str, replacement: str) -> None:
    before = path.read_text(encoding="utf-8")
    after, changes = re.subn(pattern, replacement, before, count=1, flags=re.DOTALL)
    assert changes == 1
    assert after != before
    path.write_text(after, encoding="utf-8")


def test_the_digest_does_not_depend_on_the_place(tmp_path: Path) -> None:
    original = provenance.code_digest()
    assert re.fullmatch("[0-9a-f]{12}", original)
    with pytest.MonkeyPatch.context() as patch:
        copy_package(tmp_path, patch)
        assert provenance.code_digest() == original


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"\n\n\ndef ", "\n\n\n# A new comment.\ndef "),
        (r'^r?""".*?"""', '"""Another docstring of the module."""'),
        (r'"""Return the arithmetic mean, [^"]*"""', '"""Give the mean."""'),
        (r"\n\n\ndef ", "\n\n\n\n\ndef "),
    ],
    ids=["comment", "module docstring", "function docstring", "blank lines"],
)
def test_the_digest_ignores_comments_and_docstrings(
    pattern: str, replacement: str, package: Path
) -> None:
    before = provenance.code_digest()
    edit(package / "probes/statistics.py", pattern, replacement)
    assert provenance.code_digest() == before


def test_the_digest_sees_code_in_every_module(package: Path) -> None:
    paths = list(provenance.module_paths(provenance.NUMERIC_MODULES))
    assert len(paths) > 20
    digest = provenance.code_digest()
    for path in map(Path, paths):
        assert path.is_relative_to(package)
        path.write_text(path.read_text(encoding="utf-8") + "\nADDED = 1\n", encoding="utf-8")
        before, digest = digest, provenance.code_digest()
        assert digest != before, path


def test_the_digest_sees_a_changed_number(package: Path) -> None:
    before = provenance.code_digest()
    edit(package / "training/recording.py", r"SMOOTHING_STEPS = \d+", "SMOOTHING_STEPS = 7")
    changed = provenance.code_digest()
    assert changed != before


def test_the_digest_ignores_what_decides_no_number(package: Path) -> None:
    before = provenance.code_digest()
    edit(package / "results/tables.py", r"\n\n\ndef ", "\n\n\nADDED = 1\n\n\ndef ")
    assert provenance.code_digest() == before


def test_modules_exist() -> None:
    paths: list[Any] = provenance.module_paths(provenance.NUMERIC_MODULES)
    assert len(paths) > len(provenance.NUMERIC_MODULES)
    assert all(Path(path).is_file() for path in paths)


@pytest.mark.long
def test_a_job_keeps_to_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow, NumPy, SciPy, scikit-learn and pyarrow.

    TensorFlow's operations run in the thread `tf_Compute`, for which the main thread waits.
    """
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        monkeypatch.delenv(name)
    data = tmp_path / "data.npz"
    datasets.write(datasets.DATASETS.create({"name": "gaussian_mixture", "dimension": 64}), data)
    measured = [{"name": "spectra", "at": "both"}, "trajectories"]
    program: dict[str, Any] = {"depth": 4, "width": 128, "batch_size": 64, "epochs": 12}
    start: dict[str, Any] = {"initializer": "lsuv", "measurements": measured}
    cells = [make_cell(seed=seed, **start, **program) for seed in range(6)]
    found = json.loads(python("-m", "tests.at_work", pickle.dumps(cells).hex(), tmp_path, data))
    assert found["arrow"] == 1
    assert len(found["pools"]) >= 2
    assert max(found["pools"]) == 1
    if sys.platform == "linux":
        assert set(found["training"]) == {"main", "tf_Compute"}
        assert found["product"] == ["main"]
