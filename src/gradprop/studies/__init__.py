"""The studies' chapters: for each a module with the numbers in its prose and its claims.

A study without a module here still gets a chapter: its question, its figures with their
captions, and its final results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradprop import claims, provenance
from gradprop.analysis import diagnosis
from gradprop.claims import Claim, Result
from gradprop.results import manifests, products, tables
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Study
from gradprop.studies import (
    descent,
    glorot2010,
    hanin2018,
    he2015,
    initializers,
    mechanism,
    ng2017,
    orthogonal,
    pennington2017,
    poole2016,
    propagation,
    remedies,
    saxe2014,
    schoenholz2017,
    trainability,
)

TEMPLATES = Path(__file__).parent / "chapters"

Numbers = dict[str, float | str]

CHAPTERS: dict[str, Callable[[StudyTables], Numbers]] = {
    "mechanism": mechanism.numbers,
    "descent": descent.numbers,
    "initializers": initializers.numbers,
    "propagation": propagation.numbers,
    "trainability": trainability.numbers,
    "glorot2010": glorot2010.numbers,
    "orthogonal": orthogonal.numbers,
    "he2015": he2015.numbers,
    "poole2016": poole2016.numbers,
    "schoenholz2017": schoenholz2017.numbers,
    "pennington2017": pennington2017.numbers,
    "ng2017": ng2017.numbers,
    "hanin2018": hanin2018.numbers,
    "saxe2014": saxe2014.numbers,
    "remedies": remedies.numbers,
}

CLAIMS: dict[str, Sequence[Claim]] = {
    "mechanism": mechanism.CLAIMS,
    "descent": descent.CLAIMS,
    "initializers": initializers.CLAIMS,
    "propagation": propagation.CLAIMS,
    "trainability": trainability.CLAIMS,
    "glorot2010": glorot2010.CLAIMS,
    "orthogonal": orthogonal.CLAIMS,
    "he2015": he2015.CLAIMS,
    "poole2016": poole2016.CLAIMS,
    "schoenholz2017": schoenholz2017.CLAIMS,
    "pennington2017": pennington2017.CLAIMS,
    "ng2017": ng2017.CLAIMS,
    "hanin2018": hanin2018.CLAIMS,
    "saxe2014": saxe2014.CLAIMS,
    "remedies": remedies.CLAIMS,
}


def judge_study(study: Study, results: Path, reports: Path) -> None:
    """Judge the claims and the networks of a study, and write the manifest of what was found.

    Parameters
    ----------
    study
        The study.
    results
        Folder of its tables.
    reports
        Folder that gets ``claims/``.
    """
    read = manifests.checksums(tables.paths_of(results, study))
    found, path = StudyTables(study, results), reports / "claims" / f"{study.name}.json"
    claims.write(judge(found), path)
    written = diagnosis.write(found.cells, found.layers, path)
    manifests.write(
        products.claims(reports, study),
        made=[path, *written],
        inputs=read,
        modules=provenance.CLAIM_MODULES,
    )


def judge(found: StudyTables) -> list[Result]:
    """Judge the claims of a study by its result tables."""
    chosen = CLAIMS.get(found.study.name, [])
    return [row for claim in chosen for row in claims.judge(claim, found)]


def chapter_template(name: str) -> str | None:
    """Return the template of a study's prose in `TEMPLATES`, or None if it has none of its own."""
    return f"{name}.html.j2" if name in CHAPTERS else None


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
