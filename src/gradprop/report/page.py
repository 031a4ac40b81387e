"""The report: one self-contained file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gradprop import claims, files, provenance
from gradprop.analysis.names import names_in_text
from gradprop.claims.references import References
from gradprop.errors import COMMAND
from gradprop.grid import folders, loading
from gradprop.report import alone, claim_rows
from gradprop.report.atlas import atlas_data
from gradprop.report.bibliography import Bibliography
from gradprop.report.chapters import TEMPLATES, Chapter, read_chapter
from gradprop.report.errors import ReportError
from gradprop.report.explorer import explorer_data
from gradprop.report.formatting import templates_of
from gradprop.report.formulas import mathml
from gradprop.report.pictures import figure_files
from gradprop.report.provenance import effort_table, environment_table, overview_table, totals_of
from gradprop.report.tables import (
    Table,
    alarm_table,
    csv_uri,
    diagnosis_table,
    final_results,
    passages_table,
    results_table,
)
from gradprop.results import manifests, products, tables
from gradprop.spec import Study

CLAIM_FILES = (".json", "-diagnoses.csv", "-alarms.csv", "-numbers.json")
MOST_NAMED_FILES = 3


def _require_files(studies: Sequence[Study], reports: Path, command: str) -> None:
    """Raise one error that names what is missing and the command that makes it."""
    needed = [
        reports / path
        for study in studies
        for name in study.figures
        for path in figure_files(study, name).values()
    ]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        shown, more = missing[:MOST_NAMED_FILES], len(missing) - MOST_NAMED_FILES
        names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        command = f"{command} {' '.join(shown)}" if more <= 0 else command
        raise ReportError(f"{names}: no such file; to make it: {command}")


def write_report(
    studies: Sequence[Study],
    results: Path,
    reports: Path,
    title: str,
    name: str = "index.html",
    command: str = COMMAND,
) -> None:
    """Write the report: one self-contained file, atomically.

    Parameters
    ----------
    studies
        The studies, in the order of their chapters.
    results
        Folder with the result tables of every study.
    reports
        Folder with the figures and the plotted numbers; the report is written into it.
    title
        Title of the report.
    name
        Name of its file.
    command
        What builds it again.

    Raises
    ------
    ReportError
        If a file is missing or a chapter's template can't be used.
    """
    _require_files(studies, reports, command)
    read = manifests.checksums(p for study in studies for p in _sources(study, results, reports))
    environment = templates_of(TEMPLATES)
    chapters = [
        read_chapter(study, number, results, reports) for number, study in enumerate(studies, 1)
    ]
    bibliography = Bibliography(References(_references(studies)))
    for chapter in chapters:
        chapter.render(environment, bibliography)
    verdicts = [verdict for study in studies for verdict in _verdicts(study, reports)]
    stated = _counts_and_passages(verdicts, bibliography)
    summaries = [final_results(chapter.cells) for chapter in chapters]
    final = [
        results_table(chapter.study, chapter.cells, summary)
        for chapter, summary in zip(chapters, summaries, strict=True)
    ]
    claimed = claim_rows.entries(
        verdicts, bibliography, {study.name: names_in_text(study) for study in studies}
    )
    look = _style_and_script()
    html = environment.get_template("report.html.j2").render(
        title=title,
        **look,
        mathml=mathml,
        explorer=explorer_data(chapters),
        atlas=atlas_data(chapters, command),
        chapters=chapters,
        opening=next((chapter.opening for chapter in chapters if chapter.opening), None),
        results=[
            (table, csv_uri(summary), _diagnoses(chapter))
            for table, chapter, summary in zip(final, chapters, summaries, strict=True)
        ],
        totals=totals_of(chapters),
        overview=overview_table(chapters),
        **stated,
        claimed=claimed,
        references=bibliography.entries(),  # all that cite have done so
        environment_table=environment_table(chapters),
        effort_table=effort_table(chapters),
        command=command,
        takes_seeds=_takes_seeds(studies[0]),
        target=_example_target(chapters, reports),
    )
    files.write_text(reports / name, html)
    pages = _tables_alone(studies, final, claimed, reports / "tables" / Path(name).stem)
    alone.write(environment, look["style"], pages)
    manifests.write(
        products.report(reports, studies, name, title, command),
        made=[reports / name, *pages],
        inputs=read,
        modules=provenance.REPORT_MODULES,
    )


def _counts_and_passages(
    verdicts: Sequence[claims.Result], bibliography: Bibliography
) -> dict[str, Any]:
    """Return what the template takes of all verdicts: counts, and passages that were tested."""
    tested = any(verdict.passage for verdict in verdicts)
    return {
        "verdicts": claims.counts(verdicts),
        "checks": claims.counts(verdicts, check=True),
        "passages_table": passages_table(verdicts, bibliography) if tested else None,
    }


def _tables_alone(
    studies: Sequence[Study],
    final: Sequence[Table],
    claimed: Mapping[str, Sequence[claim_rows.Entry]],
    folder: Path,
) -> dict[Path, Table]:
    """Return the tables of Snakemake's own report, a page each: final results and claims."""
    pages = {}
    for study, table in zip(studies, final, strict=True):
        pages[folder / f"{study.name}-results.html"] = table
        pages[folder / f"{study.name}-claims.html"] = alone.claims_table(
            study, claimed.get(study.name, [])
        )
    return pages


def _verdicts(study: Study, reports: Path) -> list[claims.Result]:
    """Return the verdicts on the claims of a study, from a file that its manifest vouches for."""
    path = reports / "claims" / f"{study.name}.json"
    manifests.require(products.claims(reports, study), path, study.name)
    return claims.read(path)


def _style_and_script() -> dict[str, Markup]:
    """Return what the page has of both, the digest by which its policy lets the script run, too.

    That is the SHA-256 in base64, as a content-security policy names it.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"style": Markup(style), "script": Markup(script), "script_digest": Markup(digest)}


def _sources(study: Study, results: Path, reports: Path) -> list[Path]:
    """Return the files that the chapter of a study is made from."""
    claimed = [reports / "claims" / f"{study.name}{end}" for end in CLAIM_FILES]
    drawn = [
        reports / path for name in study.figures for path in figure_files(study, name).values()
    ]
    folder = results / study.name
    read = [*tables.paths_of(folder, study), *tables.runs_of(folder, study)]
    own = folders.own_files(study.folder, *folders.OF_CHAPTER)
    return [*claimed, *drawn, *read, *own, *folders.reference_files(study.folder)]


def _references(studies: Sequence[Study]) -> list[Path]:
    """Return the files of references of all studies, each once."""
    paths = (path for study in studies for path in folders.reference_files(study.folder))
    return list(dict.fromkeys(paths))


def _diagnoses(chapter: Chapter) -> dict[str, Table]:
    """Return the tables of diagnoses and alarms, if any fired, by what their summary says."""
    known = (chapter.id, chapter.study, chapter.cells)
    found = {
        "Vanishing, stable, exploding": diagnosis_table(*known, chapter.diagnoses),
        "Alarms": alarm_table(*known, chapter.alarms),
    }
    return {summary: table for summary, table in found.items() if table.rows}


def _takes_seeds(study: Study) -> bool:
    """Tell whether a study has as many seeds as the configuration says."""
    return loading.takes_seeds({"grid": {}, **study.definition.get("content", {})})


def _example_target(chapters: Sequence[Chapter], reports: Path) -> str | None:
    """Return a figure's file, to show how one figure is made."""
    drawn = (figure.links["svg"] for chapter in chapters for figure in chapter.figures.values())
    example = next(drawn, None)
    return example and f"{reports.name}/{example}"
