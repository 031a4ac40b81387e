"""A study may be changed in any way: what it then lacks is not measured, and nothing fails."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import yaml

from gradprop import claims, studies
from gradprop.analysis import estimates
from gradprop.analysis.needs import NotMeasured
from gradprop.grid import folders, loading
from gradprop.probes.statistics import ALWAYS, STATISTICS
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Cell, Component, Study
from tests.studies.invented import invent, only
from tests.workspace import ROOT

STUDIES = folders.names([ROOT / folders.STUDIES])
SEEDS = 2
SAMPLE = 1  # changes of each study that every run tries
OTHER: dict[str, Callable[[Cell], Any]] = {
    "seed": lambda cell: cell.seed + SEEDS,
    "learning_rate": lambda cell: 2 * cell.learning_rate + 0.5,
    "batch_size": lambda cell: cell.batch_size + 1,
    "epochs": lambda cell: cell.epochs + 1,
    "width": lambda cell: cell.width + 3,
    "depth": lambda cell: cell.depth + 1,
    "use_bias": lambda cell: not cell.use_bias,
    "dataset": lambda cell: Component("gaussian_mixture", (("examples", 150),)),
    "optimizer": lambda cell: Component("adam" if cell.optimizer.name == "sgd" else "sgd"),
    "activation": lambda cell: Component("tanh" if cell.activation.name == "relu" else "relu"),
}

Change = tuple[str, Callable[[StudyTables], StudyTables]]


def blocks_of(name: str) -> list[Study]:
    """Return the study with few seeds, and after it one study for every block of its grid."""
    folder = ROOT / folders.STUDIES / name
    content: dict[str, Any] = yaml.safe_load((folder / folders.STUDY).read_text())
    written = content["grid"] if isinstance(content["grid"], list) else [content["grid"]]
    grid = [{**block, "seeds": few(block.get("seeds", SEEDS))} for block in written]
    return [
        loading.build_study(name, {**content, "grid": part, "figures": {}}, SEEDS, name, folder)
        for part in [grid, *([block] for block in grid)]
    ]


def few(seeds: Any) -> Any:
    """Return at most `SEEDS` of the seeds of a block."""
    return min(seeds, SEEDS) if isinstance(seeds, int) else seeds[:SEEDS]


def cheap(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what does not depend on the tables, and most of the resampling."""
    monkeypatch.setattr(estimates, "RESAMPLES", 10)
    own = studies.own_code(study)
    if study.name == "mechanism":
        monkeypatch.setattr(own, "homogeneity_spread", lambda activation: 0.0)
    if study.name == "ng2017":
        assignment = vars(own)["assignment"]
        monkeypatch.setattr(assignment, "train", assignment.PRINTED.__getitem__)


def changes(study: Study, blocks: Sequence[Study]) -> Iterator[Change]:
    """Yield ways to change a study: parts that are removed, and axes that get other values."""
    for field in fields(Cell):
        found = dict.fromkeys(getattr(cell, field.name) for cell in study.cells)
        for value in found if len(found) > 1 else ():
            having = [cell for cell in study.cells if getattr(cell, field.name) == value]
            yield from with_and_without(study, having, f"{field.name} {value}")
    for number, block in enumerate(blocks if len(blocks) > 1 else ()):
        yield from with_and_without(study, block.cells, f"block {number}")
    for name, other in OTHER.items():
        changed = [replace(cell, **{name: other(cell)}) for cell in study.cells]
        yield f"another {name}", invented_anew(study, changed)
        yield f"{name} twice", invented_anew(study, [*study.cells, *changed])
    for statistic in sorted(STATISTICS.keys() - set(ALWAYS)):
        yield f"without {statistic}", with_layers(lambda rows, s=statistic: rows.drop(columns=s))
    logarithms = [name for name in STATISTICS if "log10" in name]
    for value, names in ((np.nan, STATISTICS), (-np.inf, logarithms)):
        lost = dict.fromkeys(names, value)
        yield f"all {value}", with_layers(lambda rows, lost=lost: rows.assign(**lost))
    yield "diverged", diverged


def with_and_without(study: Study, cells: Sequence[Cell], what: str) -> Iterator[Change]:
    chosen = set(cells)
    others = [cell for cell in study.cells if cell not in chosen]
    yield f"only {what}", lambda tables: only(tables, cells)
    yield f"without {what}", lambda tables: only(tables, others or cells)


def invented_anew(study: Study, cells: Sequence[Cell]) -> Callable[[StudyTables], StudyTables]:
    return lambda _: invent(replace(study, cells=tuple(dict.fromkeys(cells))))


def with_layers(edit: Callable[..., Any]) -> Callable[[StudyTables], StudyTables]:
    def change(tables: StudyTables) -> StudyTables:
        found = only(tables, tables.study.cells)
        found.layers = edit(found.layers)
        return found

    return change


def diverged(tables: StudyTables) -> StudyTables:
    found = only(tables, tables.study.cells)
    ends = [f"final_{part}_{end}" for part in ("train", "test") for end in ("loss", "accuracy")]
    lost = {"status": "diverged", "steps_to_target": None, **dict.fromkeys(ends, np.nan)}
    found.cells = found.cells.assign(**lost)
    return found


def check(tables: StudyTables) -> None:
    """Judge all claims and compute all numbers."""
    verdicts, study = studies.judge(tables), tables.study
    assert {row.id for row in verdicts} == {claim.id for claim in studies.claims_of(study)}
    assert [row for row in verdicts if row.verdict == claims.SUPPORTED and not row.networks] == []
    assert [row.key for row in verdicts if not re.fullmatch(r"\S+", row.key)] == []
    try:
        known = vars(studies.own_code(study))["numbers"](tables)
    except NotMeasured as lacking:
        assert str(lacking)
    else:
        assert named(study.name) <= known.keys()


def named(study: str) -> set[str]:
    """Return the numbers that the texts of a study name."""
    texts = [path.read_text() for path in (ROOT / folders.STUDIES / study).glob("*.md.j2")]
    return {number for text in texts for number in re.findall(r"\bnumbers\.(\w+)", text)}


@pytest.mark.parametrize("name", STUDIES)
def test_texts_name_numbers_that_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that names another one is a mistake, and there is no report."""
    study = blocks_of(name)[0]
    cheap(study, monkeypatch)
    known = vars(studies.own_code(study))["numbers"](invent(study))
    assert named(name) <= known.keys()


@pytest.mark.parametrize("name", STUDIES)
def test_a_changed_study_is_judged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, *blocks = blocks_of(name)
    cheap(study, monkeypatch)
    tables = invent(study)
    for _, change in random.Random(name).sample([*changes(study, blocks)], SAMPLE):
        check(change(tables))


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_changed_in_every_way_is_judged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, *blocks = blocks_of(name)
    cheap(study, monkeypatch)
    tables = invent(study)
    check(tables)
    for what, change in changes(study, blocks):
        try:
            check(change(tables))
        except Exception as error:
            raise AssertionError(f"{name}, {what}") from error
