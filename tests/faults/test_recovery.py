"""After any failure and any damage, the plain command makes everything right again."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.workspace import ROOT, TINY, Workspace, small

pytestmark = pytest.mark.workflow

STUDY: dict[str, Any] = {
    **small(depth=[1, 3], initializer="he_normal", measurements=["spectra"]),
    "figures": {"curves": TINY["figures"]["curves"]},
}

# Runs at the start of every Python that finds it, and lets the steps named in FAILS fail.
SITE = """
import os
import signal
import sys

arguments = sys.orig_argv
if "gradprop.cli" in arguments and os.environ["FAILS"] in arguments:
    how = os.environ["HOW"]
    if how == "error":
        sys.exit("it fails")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.setitimer(signal.ITIMER_REAL, float(how))
"""


def products_of(workspace: Workspace) -> list[Path]:
    """Return all files of results and reports; a lock has no content."""
    found = [*workspace.folder.glob("results/**/*"), *workspace.folder.glob("reports/**/*")]
    return [path for path in found if path.is_file() and path.name != ".lock"]


def contents(workspace: Workspace) -> dict[str, bytes]:
    """Return all results and reports, but for what differs between two trainings of a cell.

    The report itself names the CPU time that they took.
    """
    skipped = ("runs", "stacks", "manifests", "drawings")
    return {
        str(path.relative_to(workspace.folder)): path.read_bytes()
        for path in products_of(workspace)
        if path.suffix != ".html" and not set(skipped) & set(path.parts)
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with a run that nothing disturbed, of two seeds for each network."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    workspace.write_study(with_seeds(2))
    workspace.build()
    return workspace


@pytest.fixture(scope="module")
def expected(undisturbed: Workspace) -> dict[str, bytes]:
    """Return what such a run gives."""
    return contents(undisturbed)


def with_seeds(seeds: int) -> dict[str, Any]:
    return {**STUDY, "grid": {**STUDY["grid"], "seeds": seeds}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with a finished run of one seed."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    workspace.write_study(with_seeds(1))
    workspace.build()
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """Return a workspace with a finished run of one seed, that asks for two."""
    found = copy_of(finished, tmp_path / "work")
    found.write_study(with_seeds(2))
    with let_steps_fail(found, tmp_path):
        yield found


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    found = Workspace(folder)
    shutil.copytree(workspace.folder, found.folder, dirs_exist_ok=True)
    return found


@contextmanager
def let_steps_fail(workspace: Workspace, folder: Path) -> Iterator[None]:
    """Let the jobs of a workspace look whether they are to fail."""
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SITE)
    workspace.python_path.append(folder / "site")
    yield
    workspace.python_path.pop()


def fail(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str, how: str, *arguments: str
) -> str:
    """Run with a step that fails; return what that said."""
    monkeypatch.setenv("FAILS", step)
    monkeypatch.setenv("HOW", how)
    failed = workspace.snakemake(*arguments)
    assert failed.returncode != 0 or "." in how, failed.stdout
    monkeypatch.setenv("FAILS", "nothing")
    return failed.stdout + failed.stderr


def test_the_plain_command_makes_good_a_killed_job_and_damaged_files(
    built: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cause by itself, and every kind of damage, is tried at greater length below."""
    built.build()  # another test may have trained more
    expected, page = contents(built), built.folder / "reports/index.html"
    kept, text = built.runs(), page.read_bytes()
    with let_steps_fail(built, tmp_path):
        said = fail(built, monkeypatch, "train", "killed", "--config", "seeds=3")
        assert re.search(r"FAILED: Study tiny: training .*; log: logs/tiny/train/.*\.log\n", said)
        assert "gradprop: a job failed; 2 of 7 are done." in said
        damage(built, "flipped", spare="stacks")
        said = built.build()
    assert "Traceback" not in said
    assert contents(built) == expected
    assert page.read_bytes() == text
    assert built.runs() == kept
    assert "all requested files are present" in built.build()


@pytest.mark.long
@pytest.mark.parametrize("step", ["define", "data", "train", "figures", "claims", "report"])
@pytest.mark.parametrize("how", ["error", "killed", "1.5", "3.0"])
def test_a_failed_job_is_done_again(
    workspace: Workspace,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    how: str,
) -> None:
    if step == "data":  # the data set does not grow
        shutil.rmtree(workspace.folder / "results/data")
    fail(workspace, monkeypatch, step, how)
    kept = workspace.runs() if list(workspace.results.glob("runs/*")) else {}
    said = workspace.build()
    assert contents(workspace) == expected
    if step != "define":
        assert "all requested files are present" in workspace.build(), said
    assert {cell: job for cell, job in workspace.runs().items() if cell in kept} == kept


@pytest.mark.long
@pytest.mark.parametrize("number", range(50))
def test_a_job_that_is_killed_at_a_random_moment(
    workspace: Workspace,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    chance = random.Random(number)
    step = chance.choice(["train", "figures", "claims", "report"])
    fail(workspace, monkeypatch, step, f"{chance.uniform(0.2, 6):.3f}")
    workspace.build()
    assert contents(workspace) == expected


def damaged(content: bytes, how: str) -> bytes | None:
    """Return what is left of a file; None if it is gone."""
    middle = len(content) // 2
    return {
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "truncated": content[:middle],
        "emptied": b"",
        "foreign": b"{}",
        "gone": None,
    }[how]


def leave_temporary_files(workspace: Workspace) -> None:
    """Leave what a killed job leaves that was about to rename what it had written."""
    for path in ("results/tiny/layers/.some.123.parquet", "reports/figures/tiny/.curves.99.svg"):
        (workspace.folder / path).write_bytes(b"half a file")


def damage(workspace: Workspace, how: str, spare: str = "") -> None:
    """Damage every file of results and reports, but for those in the folder to spare."""
    paths = [path for path in products_of(workspace) if spare not in path.parts]
    assert {path.suffix for path in paths} >= {".parquet", ".npz", ".svg", ".json", ".csv", ".html"}
    for path in paths:
        left = damaged(path.read_bytes(), how)
        path.unlink() if left is None else path.write_bytes(left)
    leave_temporary_files(workspace)


@pytest.mark.long
@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "foreign", "gone"])
@pytest.mark.parametrize("more", [False, True])
def test_no_damaged_file_is_used(
    request: pytest.FixtureRequest, tmp_path: Path, expected: dict[str, bytes], how: str, more: bool
) -> None:
    """Every file of results and reports at once, while the grid grows or not."""
    start = request.getfixturevalue("finished" if more else "undisturbed")
    workspace = copy_of(start, tmp_path / "work")
    workspace.write_study(with_seeds(2))
    damage(workspace, how)
    said = workspace.build()
    assert "Traceback" not in said
    assert contents(workspace) == expected  # the temporary files are gone, too
    assert "all requested files are present" in workspace.build()


@pytest.mark.long
@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "foreign", "gone"])
def test_a_damaged_file_of_each_kind_is_named_and_made_again(
    undisturbed: Workspace, tmp_path: Path, expected: dict[str, bytes], how: str
) -> None:
    workspace = copy_of(undisturbed, tmp_path / "work")
    kinds = {(path.parent.name, path.suffix): path for path in products_of(workspace)}
    for path in kinds.values():
        if not {"stacks", "drawings"} & set(path.parts) and not path.name.startswith(
            ("study.", "grid.")
        ):
            left = damaged(path.read_bytes(), how)
            path.unlink() if left is None else path.write_bytes(left)
            said = workspace.build()
            name = str(path.relative_to(workspace.folder))
            assert how == "gone" or re.search(f"gradprop: {re.escape(name)}: (damaged|gone)", said)
            assert contents(workspace) == expected, name


@pytest.mark.long
def test_a_training_job_is_killed_at_every_change_of_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.every_change", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([f"{ROOT}/src", str(ROOT)])}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["changes"] > 20
    assert found["tables"] >= 3
    assert found["wrong"] == []
