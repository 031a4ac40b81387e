"""Tables as pages of their own, for Snakemake's report: claims and final results of every study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from gradprop import files
from gradprop.report.claim_rows import Entry
from gradprop.report.formatting import Text, slugify
from gradprop.report.tables import Table
from gradprop.spec import Study


def claims_table(study: Study, claimed: Sequence[Entry]) -> Table:
    """Return the claims of a study, one row per case, those that are not supported first."""
    rows: list[list[Text]] = [
        [
            Markup('{} <span class="below">{}</span>').format(
                entry.first.statement, entry.first.source
            ),
            case.text or "all networks",
            case.verdict,
            case.measured,
            case.predicted,
            entry.first.criterion,
        ]
        for entry in claimed
        for case in (*entry.shown, *entry.folded)
    ]
    names = ("Claim", "Case", "Verdict", "Measured", "Predicted", "Criterion")
    return Table(
        id=f"claims-{slugify(study.name)}",
        caption=(
            f"What is claimed about the study “{study.title}”, and what came out; intervals stand "
            "in brackets. The statements are ours, each with the place where it is made."
            if rows
            else f"Nothing is claimed about the study “{study.title}”."
        ),
        columns=[(name, name in ("Measured", "Predicted")) for name in names],
        rows=rows,
    )


def write(environment: jinja2.Environment, style: Markup, tables: dict[Path, Table]) -> None:
    """Write tables by their paths, each as a page without links to anywhere."""
    template = environment.get_template("alone.html.j2")
    for path, table in tables.items():
        files.write_text(path, template.render(style=style, table=table))
