"""The report as a file: what it says, what it escapes, what it refuses."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import Markup, escape

from gradprop import claims
from gradprop.analysis.thresholds import Thresholds
from gradprop.claims.references import References
from gradprop.errors import CodeError, GradpropError
from gradprop.report import chapters, claim_rows, formatting, pictures, tables
from gradprop.report.bibliography import Bibliography
from gradprop.report.differences import networks_and_data
from gradprop.report.errors import ReportError
from gradprop.report.formatting import count, percent, power, sig
from gradprop.report.page import write_report
from gradprop.report.tables import final_results
from gradprop.results import products
from gradprop.spec import Component, Study
from tests.report_example import (
    cells_table,
    make_study,
    result,
    seal,
    write_figures,
    write_tree,
)

VOID = {"meta", "link", "img", "br", "hr", "col", "input", "wbr"}
HOSTILE = "<script>alert(\"x\")</script> & 'quoted'"


class Document(HTMLParser):
    """Collects what the tests ask for, and insists on balanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open_tags):
            self.rows[-1][-1] += data

    def values(self, tag: str, attribute: str) -> list[str]:
        found = (attributes.get(attribute) for name, attributes in self.tags if name == tag)
        return [value for value in found if value is not None]


def write(root: Path, *studies: Study, title: str = "Gradients") -> str:
    results, reports = write_tree(root, *studies)
    write_report(studies, results, reports, title)
    return (reports / "index.html").read_text(encoding="utf-8")


def with_prose(folder: Path, text: str, numbers: str = "{}") -> Study:
    """Return a study with the chapter `text`, whose numbers are the value of an expression."""
    (folder / "chapter.md.j2").write_text(text)
    (folder / "claims.py").write_text(f"def numbers(tables):\n    return {numbers}\n")
    return replace(make_study(), folder=folder)


# ------------------------------------------------------------------------------- formatting


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0123456, 3, "0.0123"),
        (1234.5, 3, "1,230"),
        (9.996, 3, "10.0"),
        (-0.5, 2, "−0.50"),
        (999_999, 3, "1.00\xa0×\xa010<sup>6</sup>"),
        (1.234e-45, 2, "1.2\xa0×\xa010<sup>−45</sup>"),
        (0, 3, "0"),
        (float("nan"), 3, "undefined"),
        (float("-inf"), 3, "−∞"),
    ],
)
def test_significant_digits(value: float, digits: int, expected: str) -> None:
    assert sig(value, digits) == expected


def test_other_formats() -> None:
    assert power(1.23e-45) == Markup("1.2\xa0×\xa010<sup>−45</sup>")
    assert power(-123_456, 3) == "−1.23\xa0×\xa010<sup>5</sup>"
    assert percent(0.9723, 1) == "97.2\u202f%"
    assert percent(1) == "100\u202f%"
    assert count(1_234_567.0) == "1,234,567"
    assert formatting.plural(1, "study", "studies") == "1 study"


# ------------------------------------------------------------------------------- the report


def test_report_is_well_formed_and_self_contained(tmp_path: Path) -> None:
    html = write(tmp_path, make_study(), make_study("second"))
    document = Document(html)
    names = [tag for tag, _ in document.tags]
    assert names.count("h1") == names.count("main") == names.count("nav") == 1
    assert not {"iframe", "object", "embed"} & set(names)
    loaded = document.values("img", "src") + document.values("link", "href")
    assert all(address.startswith("data:image/") for address in loaded)
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face", style)


def test_only_the_script_of_the_report_may_run(tmp_path: Path) -> None:
    """Its digest is in the policy; nothing else may run, and nothing may be requested."""
    document = Document(html := write(tmp_path, make_study()))
    scripts = [attributes for tag, attributes in document.tags if tag == "script"]
    data = [{"type": "application/json", "id": f"{name}-data"} for name in ("explorer", "atlas")]
    assert scripts == [*data, {"type": "module"}]
    *_, text = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert text == (chapters.TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = dict(
        directive.split(" ", 1) for directive in document.values("meta", "content")[0].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [name for _, given in document.tags for name in given if name.startswith("on")]


def test_headings_descend_one_level_at_a_time(tmp_path: Path) -> None:
    tags = [tag for tag, _ in Document(write(tmp_path, make_study())).tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_links_lead_to_anchors_and_files(tmp_path: Path) -> None:
    document = Document(write(tmp_path, make_study()))
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = document.values("a", "href")
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    linked = {link for link in links if link[0] != "#" and not link.startswith("data:")}
    expected = {
        f"{folder}/example/{name}.{ending}"
        for name in ("small", "wide")
        for folder, ending in [*(("figures", e) for e in ("svg", "png", "pdf")), ("data", "csv")]
    }
    assert linked == expected
    assert all((tmp_path / "reports" / link).is_file() for link in linked)


def test_links_that_a_copy_of_the_page_lacks_are_marked(tmp_path: Path) -> None:
    html = write(tmp_path, make_study())
    outside = re.findall(r'<p[^>]*>(?:(?!</p>).)*href="(?:figures|data)/.*?</p>', html, re.DOTALL)
    assert len(outside) == 3  # two figures, and the list of tables
    assert all("beside this page" in paragraph for paragraph in outside)
    plates = re.findall(r'<a class="plate" href="figures/[^>]*>', html)
    assert len(plates) == 2 and all("beside this page" in plate for plate in plates)


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    study = make_study()
    first = write(tmp_path, study)
    write_report([study], tmp_path / "results", tmp_path / "reports", "Gradients")
    assert (tmp_path / "reports/index.html").read_text(encoding="utf-8") == first
    assert write(tmp_path / "elsewhere", study) == first


def test_every_text_is_escaped(tmp_path: Path) -> None:
    study = make_study("hostile", HOSTILE, HOSTILE, dataset=HOSTILE)
    results, reports = write_tree(tmp_path, study)
    write_figures(study, reports, dict.fromkeys(("title", "caption", "alt"), HOSTILE))
    write_report([study], results, reports, HOSTILE)
    document = Document((reports / "index.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in document.tags].count("script") == 3
    assert document.values("img", "alt") == [f"Figure 1.1: {HOSTILE}", HOSTILE, HOSTILE]
    assert [HOSTILE, "tanh", "2", "zeros"] in [row[:4] for row in document.rows]
    assert any(row[1:] == ["Invented CPU <2 GHz>"] for row in document.rows)


def test_summary_counts_cells_by_status(tmp_path: Path) -> None:
    html = write(tmp_path, make_study(), make_study("other", seeds=5))
    text = " ".join(re.sub(r"<[^>]*>", "", html).split())
    assert "32 cells in 2 studies" in text
    assert "28 ended in order, 4 diverged and 0 underflowed" in text
    assert "Each configuration has at least 3 and up to 5 random seeds." in text


# ---------------------------------------------------------------------------------- figures


def test_the_smaller_picture_is_embedded(tmp_path: Path) -> None:
    document = Document(write(tmp_path, make_study()))
    gallery, small, wide = document.values("img", "src")
    assert gallery == small
    assert small.startswith("data:image/svg+xml,")
    assert wide.startswith("data:image/png;base64,")
    assert document.values("img", "width") == ["576", "576", "960"]
    assert document.values("img", "height") == ["384", "384", "384"]
    plates = [a["href"] for tag, a in document.tags if a.get("class") == "plate"]
    assert plates == ["figures/example/small.svg", "figures/example/wide.png"]


def test_size_of_an_svg() -> None:
    assert pictures.svg_size('<svg width="72pt" height="2in">', "x") == (96, 192)
    assert pictures.svg_size('<svg\n width="10" stroke-width="3" height="5.6px">', "x") == (10, 6)
    with pytest.raises(ReportError, match=r"x\.svg: the SVG has no width and height"):
        pictures.svg_size('<svg width="100%" height="1in">', "x.svg")


def test_missing_figure_is_named_with_its_command(tmp_path: Path) -> None:
    study = make_study()
    results, reports = write_tree(tmp_path, study)
    missing = reports / "figures/example/wide.svg"
    missing.unlink()
    with pytest.raises(ReportError) as error:
        write_report([study], results, reports, "x")
    assert str(error.value) == (
        f"{missing}: no such file; to make it: snakemake --cores 4 {missing}"
    )
    assert not (reports / "index.html").exists()


@pytest.mark.parametrize(
    ("grid", "raise_"),
    [
        ({"depth": [2]}, "raise <code>seeds</code> in <code>config/config.yaml</code>, and run"),
        ([{"seeds": 3}, {"depth": [2]}], "raise <code>seeds</code> in <code>config/config.yaml"),
        ([{"seeds": 3}, {"seeds": [7]}], "raise the <code>seeds</code> there, and run"),
        ({"depth": [2], "seeds": 5}, "raise the <code>seeds</code> there, and run"),
    ],
)
def test_how_to_regenerate_names_where_the_seeds_of_the_study_are(
    tmp_path: Path, grid: Any, raise_: str
) -> None:
    study = replace(make_study(), definition={"content": {"grid": grid}})
    assert raise_ in write(tmp_path, study)


def test_how_to_regenerate_has_the_configuration_that_was_used(tmp_path: Path) -> None:
    study = make_study()
    results, reports = write_tree(tmp_path, study)
    command = "snakemake --config seeds=2 --cores 4"
    write_report([study], results, reports, "x", command=command)
    html = (reports / "index.html").read_text(encoding="utf-8")
    for target in ("", " study_example</code>", " reports/figures/example/small.svg</code>"):
        assert f"<code>{command}{target}" in html
    assert "config.yaml</code> (unless the command sets other seeds), and run" in html
    missing = reports / "figures/example/wide.svg"
    missing.unlink()
    with pytest.raises(ReportError, match=f"to make it: {command} {missing}"):
        write_report([study], results, reports, "x", command=command)


def test_missing_results_are_named(tmp_path: Path) -> None:
    study = make_study()
    results, reports = write_tree(tmp_path, study)
    larger = make_study(seeds=4)
    with pytest.raises(GradpropError, match="4 of 16 cells of the grid are missing"):
        write_report([larger], results, reports, "x")
    for path in (results / "example/cells").iterdir():
        path.unlink()
    with pytest.raises(GradpropError, match=r"cells/.*: no such file; .* snakemake --cores 4"):
        write_report([study], results, reports, "x")


def test_figure_without_alternative_text_is_refused(tmp_path: Path) -> None:
    study = make_study()
    results, reports = write_tree(tmp_path, study)
    write_figures(study, reports, {"alt": ""})
    with pytest.raises(ReportError, match=r"small\.json: 'alt' is missing or empty"):
        write_report([study], results, reports, "x")


# ----------------------------------------------------------------- differences of a figure


def test_a_box_says_how_a_figure_differs_from_the_original(tmp_path: Path) -> None:
    study = make_study()
    cells = (*study.cells, replace(study.cells[0], width=1200), replace(study.cells[0], epochs=0))
    told = {"differs": [HOSTILE, "It is wider."], "select": {"width": 64, "epochs": 10}}
    figures = {name: {**study.figures[name], **told} for name in ("small",)}
    html = write(tmp_path, replace(study, cells=cells, figures={**study.figures, **figures}))
    assert html.count("Differs from the original") == 1  # `wide` has no box
    box = html[html.index('<div class="differs"') :]
    box = box[: box.index("</div>")]
    assert re.findall("<li>(.*)</li>", box) == [escape(HOSTILE), "It is wider."]
    # 2 depths x 2 initializers x 3 seeds, and 22 minibatches of 64 of 1,437 examples an epoch.
    assert (
        "Here: 12 networks with 2 and 5 hidden layers of 64 units, trained for 220 steps; "
        "minibatches of 64 from digits (1,437 training examples)."
    ) in box


def test_a_figure_of_a_paper_that_nobody_compared_says_so(tmp_path: Path) -> None:
    study = make_study()
    told = {"small": {**study.figures["small"], "source": "Some 2011: a figure"}}
    html = write(tmp_path, replace(study, figures={**study.figures, **told}))
    box = html[html.index('<div class="differs"') :]
    box = box[: box.index("</div>")]
    assert "Not compared with the original in detail" in box and "Differs" not in html
    assert "Here: " in box and "minibatches of 64 from digits" in box and "<ul>" not in box


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [{}],
            "1 network with 2 hidden layers of 64 units, trained for 220 steps; minibatches of 64",
        ),
        (
            [{"depth": 1, "width": 1, "epochs": 0}],
            "1 hidden layer of 1 unit, untrained; minibatches",
        ),
        ([{"depth": 0}], "1 network with 0 hidden layers, trained for 220 steps"),
        (
            [{"depth": d} for d in (9, 3, 30)],
            "3 networks with 3, 9 and 30 hidden layers of 64 units",
        ),
        ([{"depth": d} for d in (9, 3, 30, 1000)], "4 networks with 3 to 1,000 hidden layers"),
        (
            [{"widths": Component("alternating")}, {"batch_size": 300, "epochs": 1}],
            "layers of 10 and 64 units, trained for 4 and 220 steps; minibatches of 64 and 300",
        ),
        (
            [{}, {"dataset": Component("circles")}],
            "from Digits! (1,437 training examples) and circles (320 training examples).",
        ),
    ],
)
def test_networks_and_data_of_a_figure(changes: list[dict[str, Any]], expected: str) -> None:
    first = make_study().cells[0]
    cells = [replace(first, **change) for change in changes]
    assert expected in networks_and_data(cells, {"digits": "Digits!"})


# ------------------------------------------------------------------------------------ prose


def test_own_prose_places_refers_and_formats(tmp_path: Path) -> None:
    text = """As {{ ref("small") }} shows, {{ numbers.factor | sig(3) }} becomes
{{ numbers.total | power }} ({{ numbers.where }}).
## What to *see*
{{ figure("wide") }}
## What to see"""
    numbers = """{"factor": 0.5, "total": 0.5**150, "where": "<b>"}"""
    html = write(tmp_path, with_prose(tmp_path, text, numbers))
    document = Document(html)
    # `small` is not placed: it comes at the end, and the text could refer to it before that.
    assert '<a href="#figure-example.small">Figure\xa01.2</a> shows, 0.500 becomes' in html
    assert "7.0\xa0×\xa010<sup>−46</sup> (&lt;b&gt;)" in html
    assert document.values("img", "alt") == [
        "Figure 1.1: Title of wide",
        "Alt wide",
        "Alt small",
    ]
    assert document.values("h3", "id") == [
        "section-example.what-to-see",
        "section-example.what-to-see-2",
        "final-study-example",
    ]
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert '<a href="#section-example.what-to-see">What to <em>see</em></a>' in contents
    assert '<a href="#section-example.what-to-see-2">What to see</a>' in contents
    assert "figure-example" not in contents


def test_contents_list_figures_where_a_chapter_has_no_sections(tmp_path: Path) -> None:
    html = write(tmp_path, with_prose(tmp_path, "Only a paragraph."))
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert contents.count('href="#figure-example.') == 2
    assert "Title of wide" in contents


def test_a_link_in_a_heading_is_none_in_the_contents(tmp_path: Path) -> None:
    html = write(tmp_path, with_prose(tmp_path, "## After [someone](https://example.org)"))
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert ">After someone</a>" in contents


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{ figure("small") }}{{ figure("small") }}', "figure 'small' is placed twice"),
        ("{% if %}", r"chapter\.md\.j2: line 1: "),
    ],
)
def test_mistakes_in_prose_are_clear_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        write(tmp_path, with_prose(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{ figure("wide") }}{{ figure("smal") }}', "figure: 'smal' is not .* mean 'small'"),
        ('{{ ref("x") }}', "figure: 'x' is not allowed; allowed: small, wide"),
        ("{{ numbers.absent | sig(3) }}", "numbers has no 'absent'; it has none"),
    ],
)
def test_prose_that_names_what_never_was_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    for name in ("chapter", "opening"):
        study = with_prose(tmp_path, "Own prose")
        text = text.replace("figure", "picture") if name == "opening" else text
        text = text.replace("ref(", "picture(") if name == "opening" else text
        (tmp_path / f"{name}.md.j2").write_text(f"Own prose\n\n{text}")
        with pytest.raises(ReportError, match=rf"{name}\.md\.j2: line 3: {message}"):
            write(tmp_path, study)
        (tmp_path / f"{name}.md.j2").write_text("")


def test_the_first_study_with_an_opening_opens_the_report(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first = with_prose(folders[0], "No opening.")
    second = replace(with_prose(folders[1], "Own prose", "{'loss': 0.5}"), name="other")
    text = "{{ numbers.loss | percent }} are *lost*.\n\n{{ picture('wide') }}\n"
    (folders[1] / "opening.md.j2").write_text(text)
    html = write(tmp_path, first, second)
    header = html[html.index("<header>") : html.index("</header>")]
    assert "50\u202f% are <em>lost</em>." in header
    assert '<a class="plate" href="#figure-other.wide"><img src="data:image/png' in header
    gallery, chapters = (html.index(text) for text in ('id="gallery"', 'class="chapter"'))
    assert html.index("</header>") < gallery < chapters < html.index('id="provenance"')


def test_prose_whose_numbers_are_not_measured_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a study has no network any more of which its prose speaks."""
    lacking = "__import__('gradprop.claims').claims.need([], 'deep networks')"
    html = write(tmp_path, with_prose(tmp_path, "Own prose {{ figure('wide') }}", lacking))
    assert "Own prose" not in html
    assert "It is left out" in html
    assert "its numbers: the study has no deep networks" in html
    told = "its numbers: the study has no deep networks: this text is left out of the report"
    assert capsys.readouterr().err == f"gradprop: {told}\n"
    shown = ["Figure 1.1: Title of small", "Alt small", "Alt wide"]
    assert Document(html).values("img", "alt") == shown


@pytest.mark.parametrize("numbers", ["{}['absent']", "next(iter([]))", "float('x')"])
def test_numbers_that_fail_are_a_mistake_in_their_code(tmp_path: Path, numbers: str) -> None:
    with pytest.raises(CodeError, match=r"claims.py:\d+: study example, numbers: \w+"):
        write(tmp_path, with_prose(tmp_path, "Own prose", numbers))


@pytest.mark.parametrize("numbers", ["[1]", "None", "(pair for pair in ())", "{1: 2}"])
def test_numbers_are_values_by_name(tmp_path: Path, numbers: str) -> None:
    told = r"claims.py:1: study example, numbers: TypeError: returned .*; allowed: a dict"
    with pytest.raises(CodeError, match=told):
        write(tmp_path, with_prose(tmp_path, "Own prose", numbers))


def test_numbers_are_computed_once_for_chapter_and_opening(tmp_path: Path) -> None:
    study = with_prose(tmp_path, "{{ numbers.first }}", "{'first': __import__('time').time_ns()}")
    (tmp_path / "opening.md.j2").write_text("{{ numbers.first }}")
    computed = re.findall(r"<p>(\d{15,})</p>", write(tmp_path, study))
    assert len(computed) == 2
    assert len(set(computed)) == 1


# ----------------------------------------------------------------------------------- tables


def test_final_results_against_counting_by_hand() -> None:
    cells = cells_table(make_study())
    summary = final_results(cells)
    assert list(zip(summary["depth"], summary["initializer"], strict=True)) == [
        (depth, initializer) for depth in (2, 5) for initializer in ("zeros", "normal(stddev=1.0)")
    ]
    for row in summary.to_dict("records"):
        chosen = [
            cell
            for cell in cells.to_dict("records")
            if (cell["depth"], cell["initializer"]) == (row["depth"], row["initializer"])
        ]
        fine = sorted(c["final_test_accuracy"] for c in chosen if c["status"] == "ok")
        middle = fine[1] if len(fine) == 3 else (fine[0] + fine[1]) / 2
        assert row["seeds"] == 3
        assert row["final_test_accuracy"] == pytest.approx(middle)
        assert row["diverged"] == pytest.approx(1 - len(fine) / 3)
        assert row["underflowed"] == 0


def test_what_varies_becomes_a_key() -> None:
    cells = cells_table(make_study(depths=(2,)))
    cells["learning_rate"] = [0.1 if seed else 0.01 for seed in cells["seed"]]
    summary = final_results(cells)
    assert len(summary) == 4
    assert sorted(summary["learning_rate"].unique()) == [0.01, 0.1]
    assert summary["seeds"].tolist() == [1, 2, 1, 2]


def test_what_follows_from_other_keys_is_left_out() -> None:
    cells = cells_table(make_study())
    cells["width"] = 10 * cells["depth"]
    assert "width" not in final_results(cells)
    cells["width"] += cells["seed"]
    summary = final_results(cells)
    assert summary["width"].tolist() == [20, 21, 22] * 2 + [50, 51, 52] * 2


def test_results_table_shows_what_the_study_has(tmp_path: Path) -> None:
    shapes = (
        make_study("classes"),
        make_study("regression", dataset="linear_teacher"),
        make_study("deep", depths=tuple(range(1, 8))),
    )
    html = write(tmp_path, *shapes)
    headings = [row for row in Document(html).rows if row[:1] == ["Data set"]]
    assert [row[5:-2] for row in headings] == [
        ["Train accuracy", "Test accuracy"],
        ["Train loss", "Test loss"],
        ["Train accuracy", "Test accuracy"],
    ]
    summary = final_results(cells_table(shapes[0]))
    keys = ["digits", "tanh", "2", "zeros"]
    shown = next(row for row in Document(html).rows if row[:4] == keys)
    expected = f"{100 * summary['final_train_accuracy'][0]:.1f}\u202f%"
    assert shown[4:6] == ["3", expected]
    # Only the longest tables are folded, results and diagnoses of the last study.
    assert html.count("<details>") == 2
    assert "Show all 14 rows" in html


def test_depths_of_untrained_networks_share_a_row(tmp_path: Path) -> None:
    study = make_study("start", epochs=0, depths=tuple(range(1, 8)))
    cells = cells_table(study)
    cells["status"] = "ok"
    cells.loc[(cells["initializer"] != "zeros") & (cells["depth"] > 4), "status"] = "underflowed"
    summary = final_results(cells)
    assert summary["initializer"].tolist() == ["zeros", "normal(stddev=1.0)"]
    assert summary[["depth_min", "depth_max"]].to_numpy().tolist() == [[1, 7], [1, 7]]
    assert summary["underflowed"].tolist() == [0, pytest.approx(3 / 7)]
    assert summary["first_bad_depth"].tolist() == [pytest.approx(float("nan"), nan_ok=True), 5]

    rows = Document(write(tmp_path, study)).rows
    assert ["digits", "tanh", "zeros", "1 to 7", "3", "0\u202f%", "0\u202f%", "–"] in rows
    third = "33\u202f%"
    keys = ["digits", "tanh", "normal, std 1"]
    assert [*keys, "1 to 7", "3", third, "0\u202f%", "1"] in rows


def test_components_are_called_by_their_display_names(tmp_path: Path) -> None:
    study = replace(make_study(), names={"initializer": {"zeros": "nothing at all"}})
    rows = Document(write(tmp_path, study)).rows
    assert {row[3] for row in rows if row[0] == "digits"} == {
        "nothing at all zeros",
        "normal, std 1",
    }


def test_formulas_of_display_names_are_mathml_and_plain_in_csv(tmp_path: Path) -> None:
    study = replace(make_study(), names={"initializer": {"zeros": r"$\sigma_w = 0$ & <b>"}})
    html = write(tmp_path, study)
    shown = '<math display="inline"><mrow><msub><mi>σ</mi><mi>w</mi></msub>'
    assert html.count(f'<th scope="row">{shown}') >= 4  # final results and diagnoses
    assert r"\sigma_w" not in html
    assert html.count("</math> &amp; &lt;b&gt;") >= 4
    judged = result(claims.SUPPORTED, study="example", case="zeros, <i>")
    names = {"example": {"zeros": r"$\sigma_w = 0$"}}
    (entry,) = claim_rows.entries([judged], Bibliography(References([])), names)["example"]
    assert entry.shown[0].text.startswith(shown)
    assert "</math>, &lt;i&gt;" in entry.shown[0].text


# ------------------------------------------------------------------------------- provenance


def test_it_is_said_which_rows_came_from_where(tmp_path: Path) -> None:
    study, other = make_study(), make_study("other")
    rows = {row[0]: row[1:] for row in Document(write(tmp_path, study, other)).rows}
    assert rows["Code digest"] == [
        "aaaaaaaaaaaa (22 networks of example, other); bbbbbbbbbbbb (2 networks of example, other)"
    ]
    assert rows["Commit"] == ["1234567"]
    assert rows["Instruction sets"] == ["x86_64 avx2"]
    assert rows["tensorflow"] == ["2.21.0"]
    assert rows["An example"][:4] == ["12", "2", "34.5", "812"]


# ------------------------------------------------------------------------------------ style


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_contrasts_with_its_background() -> None:
    style = (chapters.TEMPLATES / "report.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", theme)) for theme in themes]
    checked = [theme for theme in colours if "paper" in theme]
    assert len(checked) == 2
    for theme in checked:
        for text in ("ink", "muted", "link"):
            for background in ("paper", "shade"):
                dark, light = sorted(_luminance(theme[name]) for name in (text, background))
                assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_diagnoses_by_initializer_and_depth(tmp_path: Path) -> None:
    """One decade per layer is little in two layers and much in five; even after training."""
    study = replace(make_study(), names={"initializer": {"zeros": HOSTILE}})
    html = write(tmp_path, study, make_study("start", epochs=0))
    rows = [row for row in Document(html).rows if len(row) == 10 and row[1] in ("2", "5")]
    trained = {(row[0].removesuffix(" zeros"), row[1]): row[2:] for row in rows[:4]}
    stable, dash = "3 → 3", formatting.DASH
    assert trained == {
        (HOSTILE, "2"): [dash, stable, *[dash] * 6],
        (HOSTILE, "5"): ["3 → 0", "0 → 3", *[dash] * 6],
        ("normal, std 1", "2"): [dash, stable, *[dash] * 6],
        ("normal, std 1", "5"): ["3 → 0", "0 → 3", *[dash] * 6],
    }
    assert [row[2:4] for row in rows[4:]] == [[dash, "3"], ["3", dash]] * 2
    (tmp_path / "reports/claims/start-diagnoses.csv").unlink()
    with pytest.raises(GradpropError, match=r"start-diagnoses.csv: no such file; .*=.start\]"):
        write_report(
            [make_study("start", epochs=0)], tmp_path / "results", tmp_path / "reports", "t"
        )


def test_diagnoses_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of a chapter and the atlas have the same."""
    read_csv, read = pd.read_csv, []

    def counted(path: Path, **options: Any) -> pd.DataFrame:
        read.append(path.name)
        return read_csv(path, **options)

    monkeypatch.setattr(pd, "read_csv", counted)
    write(tmp_path, make_study())
    assert sorted(read) == ["example-alarms.csv", "example-diagnoses.csv"]


def test_alarms_by_initializer(tmp_path: Path) -> None:
    """In the order of the rules and of the cells; nothing is shown where none fired."""
    study = replace(make_study(), names={"initializer": {"zeros": HOSTILE}})
    assert "Rules of thumb" not in write(tmp_path, study)
    zeros, normal = ([c.id for c in study.cells if c.initializer.name == n] for n in NAMES)
    fired = [
        (zeros[0], "variance_ratio", 0, 2), (normal[0], "small_updates", 9, 1),
        (normal[1], "small_updates", 0, 1), (zeros[1], "variance_ratio", 9, 3),
        (normal[2], "variance_ratio", 0, 2),
    ]  # fmt: skip
    alarms = pd.DataFrame(fired, columns=["cell", "alarm", "step", "layer"]).assign(value=1.0)
    judged = sorted((tmp_path / "reports/claims").glob("example*"))
    alarms.to_csv(tmp_path / "reports/claims/example-alarms.csv", index=False)
    with pytest.raises(GradpropError, match=r"example-alarms.csv: damaged or edited"):
        write_report([study], tmp_path / "results", tmp_path / "reports", "t")
    seal(products.claims(tmp_path / "reports", study), judged)
    write_report([study], tmp_path / "results", tmp_path / "reports", "t")
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    rows = [row for row in Document(html).rows if len(row) > 2 and row[-3].endswith(" of 6")]
    assert [row[1:] for row in rows] == [
        ["normal, std 1", "2 of 6", "4.5", "1"],
        [f"{HOSTILE} zeros", "2 of 6", "4.5", "2.5"],
        ["normal, std 1", "1 of 6", "0", "2"],
    ]
    assert rows[0][0] == "Small updates update-to-weight ratio below 0.0001"
    assert [len(row[0].split()) > 2 for row in rows[1:]] == [True, False], "said once"


def test_thresholds_are_said_and_silent_alarms_too(tmp_path: Path) -> None:
    content = {"diagnosis": {"vanishing": 1e-3, "small_updates": 2e-5}}
    study = replace(make_study(), definition={"content": content})
    study = replace(study, cells=tuple(replace(cell, batch_size=1) for cell in study.cells))
    html = write(tmp_path, study)
    assert "below 0.001 (vanishing) or above 100 (exploding)" in html
    silent = [row for row in Document(html).rows if "not judged in 12 of 12" in row]
    assert [row[0].split(" ")[0] for row in silent] == ["Dead", "Initial"]
    published = replace(study, definition={"content": {"diagnosis": "autotrainer"}})
    caption = tables.diagnoses_caption(Thresholds.of(published))
    assert "below 0.001 and 0.0001 in the first layer (vanishing) or above 70" in caption


NAMES = ("zeros", "normal")


def entries(*results: claims.Result) -> dict[str, list[claim_rows.Entry]]:
    return claim_rows.entries(results, Bibliography(References([])), {})


def test_what_is_not_supported_comes_first_and_is_never_folded() -> None:
    good, bad, open_ = claims.SUPPORTED, claims.NOT_SUPPORTED, claims.NOT_TESTED
    found = entries(
        result(good, id="holds"),
        *(result(good, id="mixed", case=f"good {n}") for n in range(9)),
        *(result(bad, id="mixed", case=f"bad {n}") for n in range(4)),
        result(open_, id="open"),
        result(good, study="other"),
    )
    assert list(found) == ["", "other"]
    mixed, unknown, holds = found[""]
    assert (mixed.verdict, unknown.verdict, holds.verdict) == ("supported in 9 of 13", open_, good)
    assert [case.verdict for case in mixed.shown] == [bad] * 4
    assert [case.verdict for case in mixed.folded] == [good] * 9


def test_checks_of_the_instrument_come_after_all_claims() -> None:
    found = entries(
        result(claims.NOT_SUPPORTED, id="check", check=True),
        result(claims.SUPPORTED, id="claim"),
    )[""]
    assert [entry.first.id for entry in found] == ["claim", "check"]


def test_the_report_counts_checks_of_the_instrument_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, heading = make_study(), "<h4>Checks of the instrument</h4>"
    judged = [
        result(claims.NOT_SUPPORTED, study=study.name, id="claim"),
        result(claims.SUPPORTED, study=study.name, id="identity", check=True),
    ]
    monkeypatch.setattr(claims, "read", lambda _: judged)
    html = write(tmp_path, study)
    assert "Of 1 case, 0 are supported, 1 is not, and 0 were not tested." in html
    assert "counted apart: of 1 case, 1 holds." in html
    claim, _, identity = html[html.index('<h2 id="claims">') :].partition(heading)
    assert f"<code>{study.name}/claim</code>" in claim
    assert f"<code>{study.name}/identity</code>" in identity
    judged.pop()
    assert heading not in write(tmp_path / "other", study)


@pytest.mark.parametrize(("cases", "shown"), [(1, 1), (2, 2), (3, 3), (4, 2)])
def test_one_case_alone_is_not_folded(cases: int, shown: int) -> None:
    (entry,) = entries(*(result(claims.SUPPORTED, case=str(n)) for n in range(cases)))[""]
    assert (len(entry.shown), len(entry.folded)) == (shown, cases - shown)


@pytest.mark.parametrize(
    ("verdict", "texts"),
    [
        (claims.NOT_SUPPORTED, ("0.38301", "0.38297")),
        (claims.SUPPORTED, ("0.383", "0.383")),
    ],
)
def test_digits_tell_why_a_case_is_not_supported(verdict: str, texts: tuple[str, str]) -> None:
    judged = replace(result(verdict), measured=0.383012, predicted=0.382974, low=None, high=None)
    ((entry,),) = entries(judged).values()
    (case,) = entry.shown
    assert (case.measured, case.predicted) == texts


def test_a_plot_has_interval_band_and_prediction_on_one_scale() -> None:
    """From 0 to 10 and 12 % more on both sides: 160 px are 12.4 units."""
    found = result(
        claims.SUPPORTED, measured=5.0, low=0.0, high=10.0, predicted=2.0, least=None, most=6.0
    )
    drawn = str(claim_rows.plot(found))

    def x(value: float) -> str:
        return f"{160 * (value + 1.2) / 12.4:.1f}"

    assert f'd="M{x(0)} 9H{x(10)}"' in drawn
    assert f'cx="{x(5)}"' in drawn
    assert f'd="M{x(2)} 2V16"' in drawn
    assert f'<rect class="accepted" x="0.0" y="1" width="{x(6)}"' in drawn
    assert claim_rows.plot(replace(found, measured=None)) == ""
    point = replace(found, measured=3.0, low=3.0, high=3.0, predicted=None, least=3.0, most=3.0)
    assert 'cx="80.0"' in str(claim_rows.plot(point))


def test_passages_hold_in_part_where_some_cases_fail() -> None:
    good, bad, open_ = claims.SUPPORTED, claims.NOT_SUPPORTED, claims.NOT_TESTED
    results = [
        result(good, "always", note="never shown"),
        result(good, "sometimes", id="a", note="not this"),
        result(bad, "sometimes", id="b", note="because"),
        result(bad, "sometimes", id="b", case="d", note="because"),
        result(bad, "never"),
        result(open_, "unknown"),
        result(open_, "nearly"),
        result(good, "nearly"),
        result(good),
    ]
    table = tables.passages_table(results, Bibliography(References([])))
    found = [(str(row[0]).split(" <")[0], *row[1:]) for row in table.rows]
    assert found == [
        ("always", "holds", "1 of 1", formatting.DASH),
        ("sometimes", "holds in part", "1 of 3", "because"),
        ("never", "does not hold", "0 of 1", formatting.DASH),
        ("unknown", "not tested", "0 of 1", formatting.DASH),
        ("nearly", "holds in part", "1 of 2", formatting.DASH),
    ]
    assert tables.passages_table([result(good)], Bibliography(References([]))).rows == []
