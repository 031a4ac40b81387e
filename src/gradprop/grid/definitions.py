"""Definitions: what a study's jobs build it again from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradprop import errors, files
from gradprop.errors import GradpropError
from gradprop.grid import config, folders
from gradprop.grid.loading import build_study
from gradprop.spec import Study, digest


def cell_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's definition without what its cells do not depend on."""
    presented = ("figures", "names", "diagnosis")
    content = {k: v for k, v in definition["content"].items() if k not in presented}
    return {**definition, "content": {**content, "title": "", "question": ""}}


def definition_path(folder: Path, study: Study, part: str) -> Path:
    """Return the file in a study's results that holds its definition.

    Parameters
    ----------
    folder
        Results of the study.
    study
        The study.
    part
        ``study`` for all of it, ``grid`` for what its cells depend on.
    """
    definition = study.definition if part == "study" else cell_definition(study.definition)
    return folder / f"{part}.{digest(definition)}.json"


def write_definition(source: Path, seeds: int, path: Path) -> None:
    """Write the definition of a study, from which its jobs build it again.

    Parameters
    ----------
    source
        The study's YAML file.
    seeds
        Number of seeds of a grid block that does not set its own.
    path
        ``study.json`` or ``grid.json`` in the study's results; with the digest of the definition
        before the ending it replaces those with another.

    Raises
    ------
    gradprop.errors.ConfigError
        If the file has another definition than the name says.
    """
    definition = {
        "name": source.absolute().parent.name,
        "content": config.read_mapping(source),
        "seeds": seeds,
    }
    part, *stated = path.name.split(".")[:-1]
    if part == "grid":
        definition = cell_definition(definition)
    if stated and stated != [digest(definition)]:
        raise errors.ConfigError(f"{source}: changed since the workflow was started; start again")
    for older in path.parent.glob(f"{part}.*.json") if stated else ():
        older.unlink()
    files.write_text(path, json.dumps(definition, indent=1) + "\n")


def is_damaged(path: Path) -> bool:
    """Tell whether a study's definition is there and not as it was written."""
    try:
        return path.exists() and not read_definition(path)
    except GradpropError:
        return True


def read_study(path: Path, folder: Path | None = None) -> Study:
    """Read a study back from the JSON file that holds its `Study.definition`.

    Parameters
    ----------
    path
        The file.
    folder
        Where the study lies; without it the study is looked for by its name.

    Raises
    ------
    gradprop.errors.ConfigError
        If the file holds something else, or something else than the digest in its name says.
    gradprop.files.FileError
        If it cannot be read.
    """
    definition = read_definition(path)
    try:
        folder = folder or folders.find(definition["name"], folders.roots(), str(path))
        return build_study(**definition, source=str(path), folder=folder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {errors.cut(str(error))}"
        raise errors.ConfigError(f"{path}: not the definition of a study ({problem})") from error


def read_definition(path: Path) -> dict[str, Any]:
    """Read what `write_definition` wrote; `read_study` builds the study that it defines."""
    definition = files.read_json(path, dict)
    if definition.keys() != {"name", "content", "seeds"}:
        raise errors.ConfigError(f"{path}: not the definition of a study")
    stated = path.name.split(".")[1:-1]
    if stated and stated != [digest(definition)]:
        raise errors.ConfigError(
            f"{path}: damaged or edited; delete it, and {errors.how_to_make(path.parent.name)}"
        )
    return definition
