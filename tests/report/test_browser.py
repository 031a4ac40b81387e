"""The report in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradprop import claims
from gradprop.report import page
from tests.browser import check_accessibility, check_report
from tests.report_example import make_study, result, write_tree

pytestmark = pytest.mark.browser


def test_report_is_sound(tmp_path: Path) -> None:
    # Enough rows that the results are folded, and texts that are long or hostile.
    depths = tuple(range(1, 8))
    long = make_study("long", "A very " + "long " * 30 + "title", "x" * 300, depths=depths)
    hostile = make_study("hostile", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')
    results, reports = write_tree(tmp_path, long, hostile)
    page.write_report([long, hostile], results, reports, "A report & its <title>")
    assert check_report(reports / "index.html") == []


# All that a chapter can hold, wider than a phone.
CHAPTER = (
    r"""
## A heading and `code`

See {{ ref("small") }}, [the source](https://example.org) and $q^* = 1$.

$$ """
    + " + ".join(f"x_{{{n}}}" for n in range(40))
    + r""" = \frac{1}{2} $$

| """
    + " | ".join(f"a long heading {n}" for n in range(20))
    + """ |
|"""
    + " --- |" * 20
    + """
|"""
    + " 12 |" * 20
    + """

> A quotation.

```console
$ """
    + "wide " * 60
    + """
```

{{ figure("small") }}
"""
)


def test_report_has_no_barriers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chapter.md.j2").write_text(CHAPTER)
    written = make_study("written", depths=tuple(range(1, 8)))
    told = {**written.figures["small"], "differs": ["It has 1,000 units.", "It is wide."]}
    written = replace(written, folder=tmp_path, figures={**written.figures, "small": told})
    results, reports = write_tree(tmp_path, written, make_study("plain"))
    words = {"statement": "Gradients vanish.", "criterion": "within 10 %", "reason": "too few"}
    judged = [
        result(verdict, study="plain", id=f"claim-{number}", case=f"depth {case}", **words)
        for number, verdict in enumerate(
            (claims.SUPPORTED, claims.NOT_SUPPORTED, claims.NOT_TESTED)
        )
        for case in range(4)
    ]
    monkeypatch.setattr(claims, "read", lambda path: judged if path.stem == "plain" else [])
    page.write_report([written, make_study("plain")], results, reports, "A report")
    assert check_accessibility(reports / "index.html") == []


def test_barriers_are_found(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(
        """<!DOCTYPE html><html lang="en"><title>x</title><main><h1>x</h1>
        <meta name="color-scheme" content="light dark">
        <style>@media (prefers-color-scheme: dark) { p { color: #333; background: #222 } }
        @media (width < 400px) { pre { width: 9em; overflow: auto } }</style>
        <p>dark on dark<pre>wider than a phone, and no key scrolls it</pre>
        <details><summary>more</summary><img src="data:image/png;base64,AAAA"></details></main>"""
    )
    found = check_accessibility(page)
    for rule, cases in (
        ("color-contrast", 3),
        ("image-alt", 6),
        ("scrollable-region-focusable", 2),
    ):
        assert sum(f": {rule}: " in problem for problem in found) == cases, found
    assert all(problem.startswith("dark") for problem in found if "color-contrast" in problem)


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
