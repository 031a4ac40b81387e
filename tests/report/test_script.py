"""What the script adds to the report, in a real browser."""

from __future__ import annotations

import csv
import io
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from gradprop.report import page as report
from tests.browser import open_page, visit
from tests.report_example import make_study, write_tree

pytestmark = pytest.mark.browser

LONG, SHORT = "results-long", "results-short"


def write(folder: Path) -> Path:
    """Write a report of a study with long tables and of one with short ones."""
    named = {"initializer": {"zeros": 'with "quotes", and a comma'}}
    studies = (
        replace(make_study("long", depths=tuple(range(1, 13))), names=named),
        make_study("short"),
    )
    results, reports = write_tree(folder, *studies)
    report.write_report(studies, results, reports, "Gradients")
    return reports / "index.html"


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """Open the report with all details unfolded; insist that it complains of nothing."""
    with open_page() as page:
        heard = visit(page, write(folder))
        page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })")
        yield page
        assert heard == []


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def heading(page: Page, table: str, name: str) -> Locator:
    return page.locator(f"#{table} thead th", has_text=name)


def controls(page: Page, table: str) -> Locator:
    return page.locator(f".controls:has(+ .table > #{table})")


def saved(page: Page, table: str) -> tuple[str, str]:
    """Return name and content of what the page saves of a table."""
    with page.expect_download() as download:
        controls(page, table).get_by_role("button", name="Download as CSV").click()
    return download.value.suggested_filename, download.value.path().read_text(encoding="utf-8")


def test_tables_sort_by_click_and_by_key(tmp_path: Path) -> None:
    with opened(tmp_path) as page:
        depths = [str(depth) for depth in range(1, 13) for _ in range(2)]
        depth = heading(page, LONG, "Depth")
        assert column(page, LONG, 3) == depths
        depth.get_by_role("button").click()  # numbers, not texts: 2 before 10
        assert (column(page, LONG, 3), depth.get_attribute("aria-sort")) == (depths, "ascending")
        page.keyboard.press("Enter")
        assert column(page, LONG, 3) == depths[::-1]
        assert depth.get_attribute("aria-sort") == "descending"
        name = heading(page, LONG, "Initializer")
        name.get_by_role("button").focus()
        page.keyboard.press("Space")
        texts = column(page, LONG, 4)
        assert texts == sorted(texts)
        assert depth.get_attribute("aria-sort") is None
        page.keyboard.press("Space")
        page.keyboard.press("Space")  # back to the order of the report
        assert (column(page, LONG, 3), name.get_attribute("aria-sort")) == (depths, None)


VALUES = ["97.2 %", "1,230", "–", "1.00 × 10<sup>−7</sup>", "∞", "−3", "2 of 3", "undefined", "0"]
ASCENDING = ["−3", "0", "1.00 × 10−7", "2 of 3", "97.2 %", "1,230"]
LAST = ["–", "∞", "undefined"]


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    """Percentages, powers of ten and separators of thousands; what is not finite comes last."""
    path = write(tmp_path)
    html = path.read_text(encoding="utf-8")
    rows = "".join(f'<tr><th>x</th><td class="number">{value}</td></tr>' for value in VALUES)
    table = (
        '<div class="table"><table id="own"><thead><tr><th>Name</th><th class="number">Value'
        f"</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    path.write_text(html.replace("<main", f"{table}<main", 1), encoding="utf-8")
    with open_page() as page:
        assert visit(page, path) == []
        value = heading(page, "own", "Value").get_by_role("button")
        value.click()
        assert column(page, "own", 2) == ASCENDING + LAST
        value.click()
        assert column(page, "own", 2) == ASCENDING[::-1] + LAST


def test_long_tables_filter_and_count(tmp_path: Path) -> None:
    with opened(tmp_path) as page:
        shown = controls(page, LONG)
        field, count = shown.get_by_role("searchbox"), shown.get_by_role("status")
        assert count.inner_text() == "24 of 24 rows"
        field.fill("12 QUOTES")
        visible = page.locator(f"#{LONG} tbody tr:visible")
        assert count.inner_text() == "1 of 24 rows"
        assert [*visible.all_inner_texts()[0].split("\t")][:3] == ["digits", "tanh", "12"]
        heading(page, LONG, "Depth").get_by_role("button").click()
        assert visible.count() == 1  # a row that is filtered out stays so
        page.emulate_media(media="print")
        assert visible.count() == 24
        assert not shown.is_visible()
        page.emulate_media(media="screen")
        field.fill("")
        assert (count.inner_text(), visible.count()) == ("24 of 24 rows", 24)
        assert controls(page, SHORT).get_by_role("searchbox").count() == 0


def test_final_results_are_saved_with_all_digits(tmp_path: Path) -> None:
    """The rows that are shown, in their order, as they stand in the file that is linked."""
    with opened(tmp_path) as page:
        link = page.locator(f"a[data-table={LONG}]")
        address = link.get_attribute("href") or ""
        head, *lines = b64decode(address.partition(",")[2]).decode().splitlines(keepends=True)
        assert len(lines) == 24
        assert saved(page, LONG) == ("long-results.csv", head + "".join(lines))
        field = controls(page, LONG).get_by_role("searchbox")
        field.fill("quotes")
        heading(page, LONG, "Depth").get_by_role("button").click(click_count=2)
        zeros = [line for line in lines if ",zeros," in line]
        assert len(zeros) == 12
        assert saved(page, LONG) == ("long-results.csv", head + "".join(zeros[::-1]))
        field.fill("nothing has this")
        assert saved(page, LONG) == ("long-results.csv", head)


def test_other_tables_are_saved_as_they_are_shown(tmp_path: Path) -> None:
    with opened(tmp_path) as page:
        table = "diagnoses-study-long"
        heading(page, table, "Depth").get_by_role("button").click(click_count=2)
        controls(page, table).get_by_role("searchbox").fill("quotes")
        name, text = saved(page, table)
        assert name == f"{table}.csv"
        rows = list(csv.reader(io.StringIO(text)))
        cells: list[list[str]] = page.evaluate(
            "id => [...document.getElementById(id).rows].filter(row => !row.hidden)"
            ".map(row => [...row.cells].map(cell => cell.innerText.replace(/\\s+/g, ' ')))",
            table,
        )
        assert rows[0] == cells[0]
        assert [row[1:] for row in rows] == [row[1:] for row in cells]
        assert rows[0][:2] == ["Initializer", "Depth"]
        assert [row[:2] for row in rows[1:]] == [
            ['with "quotes", and a comma (zeros)', str(depth)] for depth in range(12, 0, -1)
        ]


def test_the_page_is_complete_without_scripts(tmp_path: Path) -> None:
    path = write(tmp_path)
    shown: dict[bool, Any] = {}
    for scripts in (False, True):
        with open_page(scripts) as page:
            assert visit(page, path) == []
            tables = page.locator(".table > table")
            shown[scripts] = [tables.nth(i).text_content() for i in range(tables.count())]
            assert (page.locator(":is(button, input, select)").count() > 0) == scripts
            assert page.locator("tbody tr[hidden]").count() == 0
            assert page.get_by_text("scripts are switched off").count() == (not scripts)
    assert [text.split() for text in shown[False]] == [text.split() for text in shown[True]]
