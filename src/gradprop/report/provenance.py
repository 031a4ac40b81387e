"""Where and at what cost the results were computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from gradprop.report.chapters import STATUSES, Chapter
from gradprop.report.formatting import DASH, count, plural, sig, span
from gradprop.report.tables import Table
from gradprop.spec import digest


def environment_table(chapters: Sequence[Chapter]) -> Table:
    """Return the table of processors, packages and commits."""
    runs = pd.concat(
        [chapter.runs.assign(study=chapter.study.name) for chapter in chapters], ignore_index=True
    )
    runs["count"] = [len(json.loads(cells)) for cells in runs["cells"]]
    versions = pd.DataFrame([json.loads(text) for text in runs["versions"]])
    entries: dict[str, pd.Series[Any]] = {
        "Processor": runs["processor"],
        "Instruction sets": runs["instructions"],
        "Linear algebra": runs["linear_algebra"],
        "Cores": runs["cores"],
        "Threads of a job": runs["threads"],
        "Code digest": runs["code"],
        "Commit": runs["commit"],
        **{str(name): versions[name] for name in versions},
    }
    return Table(
        id="environment",
        caption=(
            "Where the results were computed. Where there are several values, not all networks "
            "were trained alike, and it is said which were trained with each; other instruction "
            "sets and other versions may give other last bits."
        ),
        columns=[("Item", False), ("Value", False)],
        rows=[[name, _distinct(values, runs)] for name, values in entries.items()],
    )


def _distinct(values: pd.Series[Any], runs: pd.DataFrame) -> str:
    """Return the different values of a column as text; of several, with their networks."""
    known = runs.assign(value=values)[values.notna() & (values != "")]
    groups = dict(iter(known.groupby("value")))
    if len(groups) < 2:
        return ", ".join(map(str, groups)) or "not recorded"
    return "; ".join(
        f"{value!s} ({plural(int(rows['count'].sum()), 'network', 'networks')} of "
        f"{', '.join(dict.fromkeys(rows['study']))})"
        for value, rows in groups.items()
    )


def effort_table(chapters: Sequence[Chapter]) -> Table:
    """Return the table of what each study cost."""
    headings = ("Cells", "Jobs", "CPU seconds", "Peak memory (MiB)")
    return Table(
        id="effort",
        caption="What the present results of each study cost, and the digest of its grid.",
        columns=[("Study", False), *((name, True) for name in headings), ("Grid digest", False)],
        rows=[
            [
                chapter.study.title,
                count(len(chapter.cells)),
                count(chapter.runs["job"].nunique()),
                sig(chapter.runs["cpu_seconds"].sum()),
                count(chapter.runs["peak_memory_mib"].max()) if len(chapter.runs) else DASH,
                digest([cell.id for cell in chapter.study.cells]),
            ]
            for chapter in chapters
        ],
    )


def overview_table(chapters: Sequence[Chapter]) -> Table:
    """Return the table of the studies and the status of their cells."""
    headings = ("Cells", "Ok", "Diverged", "Underflowed", "Seeds", "Figures")
    link = '<a href="#{}">{}</a> <span class="below">{}</span>'
    return Table(
        id="studies",
        caption="The studies, one chapter each, and what became of their cells.",
        columns=[("Study", False), *((name, True) for name in headings)],
        rows=[
            [
                Markup(link).format(chapter.id, chapter.study.title, chapter.study.question),
                *map(count, [len(chapter.cells), *chapter.status.values()]),
                span(chapter.seeds),
                count(len(chapter.placed)),
            ]
            for chapter in chapters
        ],
    )


def totals_of(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Return the numbers of the summary at the top and of the provenance."""
    fewest, most = zip(*(chapter.seeds for chapter in chapters), strict=True)
    return {
        "cells": sum(len(chapter.cells) for chapter in chapters),
        "jobs": sum(chapter.runs["job"].nunique() for chapter in chapters),
        "cpu_seconds": sum(chapter.runs["cpu_seconds"].sum() for chapter in chapters),
        "seeds": (min(fewest), max(most)),
        **{name: sum(chapter.status[name] for chapter in chapters) for name in STATUSES},
    }
