"""The folder of a study: found by looking, its modules imported, mistakes told in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gradprop.errors import ConfigError
from gradprop.grid import folders


def study(parent: Path, name: str, **modules: str) -> Path:
    """Write the folder of a study with these modules."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / folders.STUDY).write_text("title: x\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def test_the_first_folder_that_has_a_study_counts(tmp_path: Path) -> None:
    here, project = tmp_path / "here", tmp_path / "project"
    study(project, "both"), study(project, "theirs")
    assert folders.find("both", [here, project], "config.yaml") == project / "both"
    mine = study(here, "both")
    assert folders.find("both", [here, project], "config.yaml") == mine
    assert folders.names([here, project]) == ["both", "theirs"]


def test_a_study_that_is_nowhere(tmp_path: Path) -> None:
    study(tmp_path, "mechanism")
    with pytest.raises(ConfigError) as caught:
        folders.find("mechanisms", [tmp_path], "config.yaml")
    expected = "'mechanisms' is not allowed; allowed: mechanism. Did you mean 'mechanism'?"
    assert str(caught.value) == f"config.yaml: studies: {expected}"


def test_a_study_in_the_old_form_is_told_how_to_move(tmp_path: Path) -> None:
    """Even where the project has a study of this name: the old file would be ignored in silence."""
    here, project = tmp_path / "here", tmp_path / "project"
    study(project, "descent")
    here.mkdir()
    (here / "descent.yaml").write_text("title: mine\n")
    with pytest.raises(ConfigError) as caught:
        folders.find("descent", [here, project], "config.yaml")
    old, new = here / "descent.yaml", here / "descent"
    command = f"mkdir {new} && mv {old} {new}/study.yaml"
    assert str(caught.value) == f"{old}: a study is a folder now; to move it: {command}"


def test_modules_import_each_other_and_leave_no_byte_code(tmp_path: Path) -> None:
    before = sys.dont_write_bytecode
    one = study(
        tmp_path, "one", claims="from . import helper\nvalue = helper.value", helper="value=1"
    )
    two = study(tmp_path / "elsewhere", "one", claims="from .helper import value", helper="value=2")
    assert folders.load(one / "claims.py").value == 1
    assert folders.load(two / "claims.py").value == 2  # of the same name, in another place
    assert not [*tmp_path.rglob("__pycache__")]
    assert sys.dont_write_bytecode is before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import json\nvalue = 1 +\n", ":2: SyntaxError: invalid syntax"),
        ("\n\nimport nosuch\n", ":3: ModuleNotFoundError: No module named 'nosuch'"),
        ("def f():\n    return {}['a']\nf()\n", ":2: KeyError: 'a'"),
        ("import json\njson.loads('{')\n", ":2: JSONDecodeError: Expecting property name"),
        ("raise SystemExit(3)\n", ":1: SystemExit: 3"),
    ],
)
def test_an_error_in_a_module_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = study(tmp_path, "one", claims=text) / "claims.py"
    with pytest.raises(ConfigError) as caught:
        folders.load(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_in_a_helping_module_names_that(tmp_path: Path) -> None:
    folder = study(tmp_path, "one", claims="from . import helper", helper="\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"one/helper\.py:2: ZeroDivisionError"):
        folders.load(folder / "claims.py")


def test_files_that_are_not_there_yet_are_named_too(tmp_path: Path) -> None:
    folder = study(tmp_path, "one", claims="", figures="", helper="")
    assert folders.own_files(folder, folders.CHAPTER) == [
        folder / "chapter.md.j2",
        folder / "helper.py",
    ]
    assert folders.own_files(None, folders.CHAPTER) == []


@pytest.mark.parametrize("text", ["", "KINDS = [1]", "KINDS = {1: 2}"])
def test_kinds_of_figures_have_names(tmp_path: Path, text: str) -> None:
    folder = study(tmp_path, "one", figures=text)
    with pytest.raises(ConfigError, match=r"figures\.py: has no KINDS"):
        folders.own_kinds(folder)
