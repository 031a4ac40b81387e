"""The report in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradprop.report import page
from tests.browser import check_report
from tests.report_example import make_study, write_tree

pytestmark = pytest.mark.browser


def test_report_is_sound(tmp_path: Path) -> None:
    # Enough rows that the results are folded, and texts that are long or hostile.
    depths = tuple(range(1, 8))
    long = make_study("long", "A very " + "long " * 30 + "title", "x" * 300, depths=depths)
    hostile = make_study("hostile", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')
    results, reports = write_tree(tmp_path, long, hostile)
    page.write_report([long, hostile], results, reports, "A report & its <title>")
    assert check_report(reports / "index.html") == []


def test_every_kind_of_problem_is_found(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(
        """<!DOCTYPE html><title>x</title><p id="a"><p id="a"><p style="width: 1000px">wide
        <img alt="broken" src="data:image/png;base64,AAAA"><img src="data:image/svg+xml,
        <svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>">
        <img alt="remote" src="https://example.invalid/x.png">
        <a href="#nowhere">x</a><a href="missing.csv">x</a><a href="index.html">x</a>
        <script>console.error("from the page"); undefined_function()</script>"""
    )
    problems = "\n".join(check_report(page))
    for expected in (
        'image "broken": not decoded',
        'image "": no alternative text',
        "id used twice: a",
        "link leads nowhere: #nowhere",
        "link leads nowhere: missing.csv",
        "390 px wide, but the page needs",
        "console: error: from the page",
        "console: Uncaught",
        "loads https://example.invalid/x.png",
    ):
        assert expected in problems
    assert "index.html" not in problems
