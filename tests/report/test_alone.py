"""Claims and final results as pages of their own, for Snakemake's report."""

from __future__ import annotations

from pathlib import Path

from gradprop import claims
from gradprop.report import page
from gradprop.results import products
from tests.report_example import make_study, result, seal, write_tree


def test_claims_and_results_of_every_study_are_pages(tmp_path: Path) -> None:
    """With every case, those that are not supported first; whatever the texts hold."""
    study = make_study()
    results, reports = write_tree(tmp_path, study)
    path = reports / "claims/example.json"
    said = {"study": "example", "id": "a", "statement": "A <b> statement.", "source": "Us 2020"}
    cases = [
        result(verdict, case=f"case {number}", criterion="above 0", measured=0.25, **said)
        for number, verdict in enumerate([claims.SUPPORTED] * 4 + [claims.NOT_SUPPORTED])
    ]
    claims.write(cases, path)
    written = [path, *(reports / f"claims/example-{end}.csv" for end in ("diagnoses", "alarms"))]
    seal(products.claims(reports, study), written)
    page.write_report([study], results, reports, "Title", "other.html")
    found = (reports / "tables/other/example-claims.html").read_text()
    rows = found.split("<tr>")[2:]
    assert len(rows) == 5
    assert "case 4" in rows[0] and "not supported" in rows[0] and "above 0" in rows[0]
    assert all("A &lt;b&gt; statement." in row and "Us 2020" in row for row in rows)
    assert "href" not in found
    finals = (reports / "tables/other/example-results.html").read_text()
    report = (reports / "other.html").read_text()
    table = finals[finals.index("<table") : finals.index("</table>")]
    assert table in report
