"""The bibliography of a report: citations lead to entries, and entries back."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup

from gradprop.claims import Result
from gradprop.claims.references import CitationError, References
from gradprop.report.bibliography import Bibliography, Place

HERE, THERE = Place("study-a", "1 A"), Place("study-b", "2 B <i>")


@pytest.fixture
def bibliography(tmp_path: Path) -> Bibliography:
    path = tmp_path / "references.bib"
    entry = "@book{%s, author={%s}, title={T}, year=%d}\n"
    path.write_text(
        entry % ("b2000", "B", 2000) + entry % ("a2001", "{A <i>} and B", 2001)
        + entry % ("a1999", "{A <i>} and B", 1999) + entry % ("unused", "A", 1)
    )  # fmt: skip
    return Bibliography(References([path]))


def claim(cites: str, source: str = "") -> Result:
    return Result(
        "s", "i", "", "", "", source, "", "", "", 1, 1, 1, 1, 1, "supported", "", cites=cites
    )


def test_citations_lead_to_entries_and_back(bibliography: Bibliography) -> None:
    assert bibliography.cite("a2001", "section 2", where=THERE) == Markup(
        '<a href="#reference-a2001" id="cited-a2001.study-b">'
        "A &lt;i&gt; and B (2001, section 2)</a>"
    )
    assert bibliography.cite("a2001", "", where=THERE) == Markup(
        '<a href="#reference-a2001">A &lt;i&gt; and B (2001)</a>'
    )
    bibliography.cite("b2000", "", where=HERE)
    assert bibliography.source(claim("a1999: <p>; derived <here>; b2000")) == Markup(
        '<a href="#reference-a1999" id="cited-a1999.claims">A &lt;i&gt; and B 1999</a>, '
        "&lt;p&gt;; derived &lt;here&gt;; "
        '<a href="#reference-b2000" id="cited-b2000.claims">B 2000</a>'
    )
    found = [(anchor, entry.key, places) for anchor, entry, places in bibliography.entries()]
    assert found == [
        ("reference-a1999", "a1999", [("cited-a1999.claims", "Claims")]),
        ("reference-a2001", "a2001", [("cited-a2001.study-b", "2 B <i>")]),
        (
            "reference-b2000",
            "b2000",
            [("cited-b2000.claims", "Claims"), ("cited-b2000.study-a", "1 A")],
        ),
    ]


def test_what_a_text_cites_that_is_left_out_is_not_listed(bibliography: Bibliography) -> None:
    bibliography.cite("a2001", "", where=HERE)
    bibliography.cite("b2000", "", where=HERE)
    bibliography.cite("b2000", "", where=THERE)
    bibliography.forget(HERE)
    assert [(key.key, places) for _, key, places in bibliography.entries()] == [
        ("b2000", [("cited-b2000.study-b", "2 B <i>")])
    ]


def test_a_claim_without_keys_shows_its_source(bibliography: Bibliography) -> None:
    assert bibliography.source(claim("", "<this study>")) == "&lt;this study&gt;"


def test_an_unknown_key_names_the_closest(bibliography: Bibliography) -> None:
    with pytest.raises(CitationError, match=r"'a2002' is no key in .* Did you mean 'a2001'"):
        bibliography.cite("a2002", "", where=HERE)
