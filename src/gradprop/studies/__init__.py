"""The studies' chapters: for each a module that computes what its prose says in numbers.

A study without a module here still gets a chapter: its question, its figures with their
captions, and its final results.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradprop.figures.data import StudyTables
from gradprop.spec import Study
from gradprop.studies import descent, initializers, mechanism

Numbers = dict[str, float | str]

CHAPTERS: dict[str, Callable[[StudyTables], Numbers]] = {
    "mechanism": mechanism.numbers,
    "descent": descent.numbers,
    "initializers": initializers.numbers,
}


def chapter_template(name: str) -> str | None:
    """Return the template of a study's prose, or None if it has none of its own."""
    return f"studies/{name}.html.j2" if name in CHAPTERS else None


def numbers(study: Study, results: Path) -> Numbers:
    """Compute the numbers in a study's prose from its result tables.

    Parameters
    ----------
    study
        The study.
    results
        Folder of its tables.
    """
    return CHAPTERS[study.name](StudyTables(study, results)) if study.name in CHAPTERS else {}
