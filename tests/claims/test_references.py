"""References: read from BibTeX, cited by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradprop.claims.references import Citation, CitationError, References, citations

ENTRIES = r"""
A comment, as BibTeX has them.
@article{goedel1931,
  author = {G{\"o}del, Kurt},
  title = {On {Undecidable} Propositions},
  year = 1931,
  journal = {Monatshefte}, volume = 38, pages = {173--198},
  doi = {10.1000/x},
  passage-complete = {There is no end
    to it.},
}
@book{two2020, AUTHOR = {von Neumann, John and Turing, Alan M.}, title = {Two}, year = {2020},
  publisher = {Press}, url = {https://example.org/a%20b}}
@misc{four2021, author = "A One and {Team of Two} and C Three and D Four",
  title = {Four}, year = {2021},
  eprint = {2101.00001}, checked = {abstract}}
"""


@pytest.fixture
def references(tmp_path: Path) -> References:
    path = tmp_path / "references.bib"
    path.write_text(ENTRIES, encoding="utf-8")
    return References([path, tmp_path / "absent.bib"])


def test_pieces_of_a_source() -> None:
    assert citations("he2015: figure 3, at left: above; hanin2018;  derived here ;") == [
        Citation("he2015", "figure 3, at left: above"),
        Citation("hanin2018", ""),
        Citation("", "derived here"),
    ]
    assert citations("") == []


def test_entries_are_read(references: References) -> None:
    goedel, two, four = references.entries.values()
    assert (goedel.label, goedel.authors) == ("Gödel 1931", "Kurt Gödel")
    assert goedel.fields["title"] == "On Undecidable Propositions"
    assert goedel.venue == "Monatshefte 38, 173–198"
    assert goedel.link == ("doi:10.1000/x", "https://doi.org/10.1000/x")
    assert (two.label, two.authors) == (
        "von Neumann and Turing 2020",
        "John von Neumann and Alan M. Turing",
    )
    assert (two.venue, two.link) == ("Press", ("example.org/a%20b", "https://example.org/a%20b"))
    assert four.label == "One et al. 2021"
    assert four.authors == "A One, Team of Two, C Three and D Four"
    assert four.link == ("arXiv:2101.00001", "https://arxiv.org/abs/2101.00001")


def test_a_source_becomes_text(references: References) -> None:
    source = "four2021: section 2; derived here; goedel1931"
    assert references.text(source) == "One et al. 2021, section 2; derived here; Gödel 1931"
    assert references.text("") == ""


def test_a_passage_belongs_to_the_first_reference(references: References) -> None:
    source = "goedel1931: theorem 6; two2020"
    assert references.passage("complete", source) == "There is no end to it."
    with pytest.raises(CitationError, match=r"'goedel1931' has no passage 'compleat'.*'complete'"):
        references.passage("compleat", source)
    with pytest.raises(CitationError, match="its source has no passage 'complete'"):
        references.passage("complete", "derived here")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("goedel1932", r"'goedel1932' is no key in .*references.bib. Did you mean 'goedel1931'\?"),
        ("goedel1931: 1; x: 2", "'x' is no key in .*references.bib$"),
        ("goedel1931, page 2", "'goedel1931, page 2' is not allowed; write 'goedel1931: page 2'"),
    ],
)
def test_a_wrong_source_is_one_line(references: References, source: str, problem: str) -> None:
    with pytest.raises(CitationError, match=problem) as caught:
        references.text(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@book{a, title={b}, year=1}", "line 1: entry 'a': has no author"),
        ("\n@book{a, author={b}, title={c}}", "line 2: entry 'a': has no year"),
        ("@book{a, author={b, c, d, e, f}, title={b}, year=1}", "line 1: Cannot split .* commas"),
        ("@book{a, author={b}, title={c}", "line 1: "),
        ("@book{a, author={b}, year=1, year=1, title={c}}", "line 1: Duplicate field .*'year'"),
        ("@book{a, title={b}}\n" * 2, "line 2: Duplicate entry key 'a'"),
        ("@book{a, author={b}, title={c}, year=1, url={javascript:x}}", ".*: url: 'javascript:x'"),
    ],
)
def test_a_wrong_file_is_one_line(
    tmp_path: Path, text: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "references.bib"
    path.write_text(text)
    with pytest.raises(CitationError, match=f"references.bib: {problem}") as caught:
        References([path])
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_the_files_of_a_study_and_of_the_project_are_read_together(tmp_path: Path) -> None:
    first, second = tmp_path / "first.bib", tmp_path / "second.bib"
    entry = "@book{%s, author={A}, title={%s}, year=2000}\n"
    first.write_text(entry % ("a", "T"))
    second.write_text(entry % ("a", "T") + entry % ("b", "U"))
    assert [*References([first, second]).entries] == ["a", "b"]
    second.write_text(entry % ("a", "other"))
    with pytest.raises(CitationError, match=r"second.bib: key 'a': .*first.bib has another entry"):
        References([first, second])
