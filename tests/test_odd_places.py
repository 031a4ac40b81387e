"""Folders with odd names: all works there, or is refused in one line; no name is executed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import ROOT, TINY, Workspace, environment_in, small

FINE = ["a b", "ä", "'", "a 'b", "[y]", "&", ";", "-x", "#", "%", "(x)", "*", "~", ","]
REFUSED = ["a:b", '"', "$HOME", "`touch x`", "$(touch x)", "$(shell touch x)", "{x}", "\\"]
# A clone in it is refused by the Makefile; the workflow minds only the braces.
ODD = "-x/a b'ä\"$HOME;`touch x`[y]&:(#%"


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the Makefile in a folder, where it must change nothing."""
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    before = sorted(folder.parent.rglob("*"))
    command = ["make", "--no-print-directory", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert sorted(folder.parent.rglob("*")) == before
    return result


@pytest.mark.parametrize("name", FINE)
def test_make_works_in_a_folder(tmp_path: Path, name: str) -> None:
    result = make(tmp_path / name, "help")
    assert result.returncode == 0
    assert "make test" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("name", FINE)
def test_no_command_of_make_holds_the_name_of_the_folder(tmp_path: Path, name: str) -> None:
    """What a recipe takes from the shell is not parsed again."""
    result = make(tmp_path / name, "--dry-run", "all", "test")
    assert result.returncode == 0
    assert str(tmp_path) not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("name", REFUSED)
def test_make_refuses_a_folder_in_one_line(tmp_path: Path, name: str) -> None:
    result = make(tmp_path / name, "--dry-run")
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "gradprop: the folder's path may not hold" in line
    assert str(tmp_path / name) in line


def copy_project(folder: Path) -> Path:
    """Copy what the workflow needs of the project."""
    for name in ("src", "workflow", "reports/reference"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


@pytest.mark.long
@pytest.mark.workflow
def test_every_rule_works_in_an_odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / ODD / "work", copy_project(tmp_path / ODD / "project"))
    figures = {"curves": TINY["figures"]["curves"]}
    workspace.write_study({**small(initializer="he_normal"), "figures": figures})
    python = environment_in(tmp_path / ODD.replace(":", "{x}"))
    monkeypatch.setattr(sys, "executable", str(python))
    workspace.build("all", "verify")
    assert (workspace.folder / "reports/index.html").exists()
    assert not list(tmp_path.rglob("x"))


@pytest.mark.workflow
@pytest.mark.workflow
@pytest.mark.parametrize("command", ["snakemake", "gradprop.cli"])
def test_too_little_address_space_is_one_line(tmp_path: Path, command: str) -> None:
    """With 500 MB OpenBLAS would wait for more without end."""
    workspace = Workspace(tmp_path)
    line, environment = workspace.command("-n")
    if command == "gradprop.cli":
        line = [line[0], "-m", command, "plan"]
    limited = ["bash", "-c", f"ulimit -v 500000; exec {shlex.join(line)}"]
    result = subprocess.run(limited, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    said = (result.stdout + result.stderr).strip().splitlines()[-1]
    assert said == (
        "gradprop: ulimit -v 500000: too little memory for TensorFlow; allowed: 3145728 and more, "
        "or unlimited"
    )


def test_braces_in_the_path_of_the_project_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", copy_project(tmp_path / "{x}"))
    result = workspace.snakemake()
    assert result.returncode == 1
    last = (result.stdout + result.stderr).splitlines()[-1]
    assert "Snakemake takes braces in a path for a wildcard" in last
