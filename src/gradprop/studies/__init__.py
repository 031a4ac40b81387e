"""What lies in a study's folder besides its YAML: claims, the numbers of its prose, its chapter.

All of it is optional. A study without claims has none, and one without prose still gets a chapter:
its question, its figures with their captions, and its final results.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gradprop import claims, errors, files, provenance
from gradprop.analysis import diagnosis
from gradprop.analysis.needs import NotMeasured, failures_placed, unrecorded_refused
from gradprop.claims import Claim, Result
from gradprop.claims.references import CitationError, References
from gradprop.errors import ConfigError
from gradprop.grid import config, folders, schema
from gradprop.results import manifests, products, tables
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Study

SKELETON = Path(__file__).parent / "skeleton"

Numbers = dict[str, Any]  # numbers, texts, and lists and dicts of them
LACKING = "lacking"  # in the file of numbers: why there are none


def create(name: str, directory: Path = Path()) -> Path:
    """Write the folder of a small study, to begin one's own with.

    Parameters
    ----------
    name
        The study's.
    directory
        The working directory, whose ``config/studies`` gets the folder.

    Raises
    ------
    gradprop.errors.ConfigError
        If there is a study of this name, or it can be none.
    """
    names = schema.config_schema()["properties"]["studies"]
    config.validate(name, names["items"], "new-study")
    for parent in folders.roots(directory):
        if os.path.lexists(parent / name):
            raise ConfigError(f"{parent / name}: exists; choose another name")
    folder = folders.roots(directory)[0] / name
    shutil.copytree(SKELETON, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def own_code(study: Study) -> ModuleType | None:
    """Return the module ``claims.py`` of a study, None if it has none.

    Raises
    ------
    gradprop.errors.ConfigError
        If it cannot be imported, or holds neither ``CLAIMS`` nor ``numbers``.
    """
    path = study.folder and study.folder / folders.CLAIMS
    if not path or not path.exists():
        return None
    module = folders.load(path)
    if not {"CLAIMS", "numbers"} & vars(module).keys():
        raise ConfigError(f"{path}: holds neither CLAIMS, a list of Claim, nor numbers(tables)")
    return module


def claims_of(study: Study) -> Sequence[Claim]:
    """Return the claims about a study."""
    found = getattr(own_code(study), "CLAIMS", ())
    where = f"{study.folder}/{folders.CLAIMS}: CLAIMS"
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, Claim) for one in found):
        raise ConfigError(f"{where}: {errors.show(found)} is not allowed; allowed: a list of Claim")
    ids = Counter(claim.id for claim in found)
    if twice := [name for name, number in ids.items() if number > 1]:
        raise ConfigError(f"{where}: two claims have the id {twice[0]!r}")
    return found


def judge_study(study: Study, results: Path, reports: Path) -> None:
    """Judge the claims and the networks of a study and compute the numbers of its prose.

    The manifest of what was found is written last.

    Parameters
    ----------
    study
        The study.
    results
        Folder of its tables.
    reports
        Folder that gets ``claims/``.
    """
    read = manifests.checksums(
        [
            *tables.paths_of(results, study),
            *folders.own_files(study.folder, folders.CLAIMS, folders.COMPONENTS),
            *folders.reference_files(study.folder),
        ]
    )
    found, path = StudyTables(study, results), reports / "claims" / f"{study.name}.json"
    claims.write(judge(found), path)
    written = diagnosis.write(found, path)
    manifests.write(
        products.claims(reports, study),
        made=[path, *written, write_numbers(found, path)],
        inputs=read,
        modules=provenance.CLAIM_MODULES,
    )


def judge(found: StudyTables) -> list[Result]:
    """Judge the claims of a study by its result tables.

    Raises
    ------
    gradprop.claims.references.CitationError
        If a claim cites what is in no file of references.
    gradprop.errors.CodeError
        If the code of a claim fails.
    """
    references = References(folders.reference_files(found.study.folder))
    said = [(claim, *_said(claim, found.study, references)) for claim in claims_of(found.study)]
    results: list[Result] = []
    for claim, source, passage in said:
        with failures_placed(found.study, folders.CLAIMS, f"claim {claim.id}", claim.measure):
            judged = claims.judge(claim, found)
        results += [replace(row, source=source, passage=passage) for row in judged]
    return results


def _said(claim: Claim, study: Study, references: References) -> tuple[str, str]:
    """Return the source of a claim for readers, and what it says there."""
    try:
        source = references.text(claim.source)
        return source, claim.passage and references.passage(claim.passage, claim.source)
    except CitationError as error:
        where = f"{study.folder}/{folders.CLAIMS}: source of claim {claim.id!r}"
        raise CitationError(f"{where}: {error}") from error


def numbers(found: StudyTables) -> Numbers:
    """Compute the numbers in a study's prose from its result tables.

    Raises
    ------
    gradprop.analysis.needs.NotMeasured
        If the study, as it was changed, lacks what a number is about.
    gradprop.errors.CodeError
        If the code of a number fails, or gives no numbers by name.
    """
    study = found.study
    compute = getattr(own_code(study), "numbers", None)
    with failures_placed(study, folders.CLAIMS, "numbers", compute), unrecorded_refused(study):
        made = compute(found) if compute else {}
        if not isinstance(made, dict) or not all(isinstance(name, str) for name in made):
            raise TypeError(f"returned {errors.show(made)}; allowed: a dict of values by name")
        return {_plain(name, name): _plain(name, value) for name, value in made.items()}


def _plain(name: str, value: Any) -> Any:
    """Return a value of prose in a type that JSON keeps as it is."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(name, one) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_plain(name, key): _plain(name, one) for key, one in value.items()}
    if isinstance(value, str) and (code := errors.unprintable(value)):
        raise TypeError(f"{name!r} has the character {code}, which is not allowed")
    if isinstance(value, int | float | str):
        return value
    shown = "nothing" if value is None else errors.show(value)
    allowed = "a number or a text, or a list or dict of them"
    raise TypeError(f"{name!r} is {shown}; allowed: {allowed}")


def numbers_path(judged: Path) -> Path:
    """Return the file of the numbers of a study's prose, beside that of its claims."""
    return judged.with_name(f"{judged.stem}-numbers.json")


def write_numbers(found: StudyTables, judged: Path) -> Path:
    """Write the numbers of a study's prose, or why they cannot be measured; return their file."""
    try:
        content: dict[str, Any] = {"numbers": numbers(found)}
    except NotMeasured as error:
        content = {LACKING: str(error)}
    path = numbers_path(judged)
    files.write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return path


def read_numbers(study: Study, judged: Path) -> Numbers:
    """Return what `write_numbers` wrote.

    Raises
    ------
    gradprop.analysis.needs.NotMeasured
        If the numbers could not be measured.
    gradprop.errors.GradpropError
        If the file is not what the job wrote that judged the study as it is defined now.
    """
    path = numbers_path(judged)
    manifests.require(products.claims(judged.parent.parent, study), path, study.name)
    content = files.read_json(path, dict)
    if LACKING in content:
        raise NotMeasured(content[LACKING])
    made: Numbers = content["numbers"]
    return made
