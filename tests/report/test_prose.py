"""A chapter's text: Markdown, formulas, and values that stay text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from gradprop.report import prose
from gradprop.report.errors import ReportError, StudyChangedError
from gradprop.report.formatting import power

Render = Callable[..., str]
HOSTILE = [
    "<script>alert(1)</script>",
    "*x*",
    "__x__",
    "$x$",
    "$$x$$",
    "`x`",
    "[a](javascript:alert(1))",
    "[a](https://example.org)",
    "<https://example.org>",
    "![a](b.png)",
    "# x",
    "\n\n## x\n\n",
    "| a | b |\n| - | - |\n",
    "\\",
    "&lt;b&gt;",
    "{{ 1 + 1 }}",
    "\U000f0000",
]


def shown(text: str) -> str:
    """Return what a reader sees of HTML that has no tags."""
    assert "<" not in text
    return str(Markup(text).unescape())


@pytest.fixture
def render(tmp_path: Path) -> Render:
    def render(text: str, **values: Any) -> str:
        path = tmp_path / "chapter.md.j2"
        path.write_text(text, encoding="utf-8")
        functions: dict[str, Callable[..., Markup]] = {
            "figure": lambda name: prose.Block(Markup("<figure>{}</figure>").format(name)),
            "ref": lambda name: Markup('<a href="#{0}">{0}</a>').format(name),
        }
        return prose.render(path, values, functions)

    return render


def test_markdown_becomes_html(render: Render) -> None:
    text = """A *first* `b < c` paragraph
on two lines, $\\chi_1 < 1$.
## Section
### Below
- [web](https://example.org/a?b=1&c=2), [here](#figure-x), <mailto:a@example.org>

$$
W x
$$

| a | b |
| - | - |
| 1 | 2 |
"""
    html = render(text)
    for expected in (
        "<p>A <em>first</em> <code>b &lt; c</code> paragraph\non two lines, <math display=",
        "<h3>Section</h3>",
        "<h4>Below</h4>",
        '<a href="https://example.org/a?b=1&amp;c=2">web</a>, <a href="#figure-x">here</a>',
        '<div class="formula" tabindex="0"><math display="block">',
        '<div class="table" tabindex="0">\n<table>\n<thead>',
    ):
        assert expected in html


def test_html_of_a_chapter_is_text(render: Render) -> None:
    assert render("a <b>c</b>\n\n<script>x</script>") == (
        "<p>a &lt;b&gt;c&lt;/b&gt;</p>\n<p>&lt;script&gt;x&lt;/script&gt;</p>\n"
    )


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_text(render: Render, value: str) -> None:
    """In a paragraph, a heading, emphasis, code, a table, a formula; whatever it went through."""
    macro = "{% macro same(x) %}{{ x }}{% endmacro %}"
    marks = {
        "{}": "<p>{}</p>\n",
        "## {}": "<h3>{}</h3>\n",
        "*a{}*": "<p><em>a{}</em></p>\n",
        "`{}`": "<p><code>{}</code></p>\n",
        "| {} |\n| - |": "<table>\n<thead>\n<tr>\n<th>{}</th>\n</tr>\n</thead>\n</table>\n",
        "$ x_{}$": "<p>$ x_{}$</p>\n",
        "$${}$$": "<math><mrow><mtext><span>{}</span></mtext></mrow></math>",
    }
    for expression in ("x", "x | e", "x | safe", "x ~ ''", "same(x)"):
        read = Markup(value).unescape() if expression == "x | safe" else value
        for mark, around in marks.items():
            html = render(macro + mark.replace("{}", f"{{{{ {expression} }}}}"), x=value)
            html = re.sub(r"</?div[^>]*>\n?|(?<=<math) display=\"\w+\"", "", html)
            before, after = around.split("{}")
            assert html.startswith(before)
            assert html.removesuffix("\n").endswith(after.removesuffix("\n"))
            text = html.removeprefix(before).removesuffix("\n").removesuffix(after.rstrip("\n"))
            assert shown(text) == read.replace("\U000f0000", "")


def test_what_functions_and_filters_return_is_html(render: Render) -> None:
    text = """{% set both = (x | power) ~ ", " ~ (x | power(1)) %}
See {{ ref("a&b") }}: {{ x | power }}; {{ both }}; $c = {{ x | power }}$.
{{ figure("<f>") }} after"""
    html = render(text, x=1e-20)
    number = "1.0\xa0×\xa010<sup>−20</sup>"
    assert power(1e-20) == number
    assert html == (
        f'<p>See <a href="#a&amp;b">a&amp;b</a>: {number}; {number}, 1\xa0×\xa010<sup>−20</sup>; '
        '<math display="inline"><mrow><mi>c</mi><mo>=</mo>'
        f"<mtext><span>{number}</span></mtext></mrow></math>.</p>\n<figure>&lt;f&gt;</figure>\n<p>after</p>\n"
    )


def test_a_chapter_may_include_others_and_loop(render: Render, tmp_path: Path) -> None:
    (tmp_path / "part.md").write_text("*{{ x }}*")
    text = """{% include "part.md" %}

| n |
| - |
{% for n in range(2) %}
| {{ n }} |
{% endfor %}
"""
    html = render(text, x="|")
    assert html.startswith("<p><em>|</em></p>")
    assert re.findall("<td>(.*?)</td>", html) == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\n{% if %}", "line 2: Expected an expression"),
        ("a\n\n{{ 1 / 0 }}", "line 3: ZeroDivisionError: division by zero"),
        ("a\n{{ 'x' | nofilter }}", "line 2: No filter named 'nofilter'"),
        ("{% include 'absent' %}", "absent: no such file"),
        ("a\nb $\\chi$ and $\\chj_1$", r"line 2: \$\\chj_1\$: the command \\chj is not known"),
        ("a\n\n$$\nx +\n{ y\n$$", r"line 4: \$x .*\$: its braces are not balanced"),
        ("a\n[x](javascript:alert)", "line 2: 'javascript:alert': a link begins with one of"),
        ("[x](file:///etc/passwd)", "line 1: 'file:///etc/passwd': a link begins with"),
        ("[x](other.html)", "line 1: 'other.html': a link begins with"),
        ("[x](https://{{ x }}/)", "line 1: .*and holds no value"),
        ('[x](#a "{{ x }}")', "line 1: .*and holds no value"),
        ("a\n![x](b.png)", "line 2: pictures are placed with figure"),
        ("## a\n# Title", "line 2: a section begins with ##; the title is the study's"),
    ],
)
def test_a_mistake_is_one_line(render: Render, text: str, problem: str) -> None:
    with pytest.raises(ReportError, match=f"chapter.md.j2: {problem}") as caught:
        render(text, x="a")
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, StudyChangedError)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("absent", "'absent' is undefined"),
        ("numbers.slop", "numbers has no 'slop'; it has slope, first. Did you mean 'slope'?"),
        ("numbers.slop | sig", "numbers has no 'slop'; it has slope, first. Did you mean 'slope'?"),
        ("numbers['x']", "numbers has no 'x'; it has slope, first"),
        ("'a'.b", "'str object' has no attribute 'b'"),
    ],
)
def test_a_name_that_nothing_has_is_a_mistake(
    render: Render, expression: str, problem: str
) -> None:
    with pytest.raises(ReportError, match=f"line 2: {re.escape(problem)}$") as caught:
        render(f"a\n{{{{ {expression} }}}}", numbers=prose.Numbers(slope=1.0, first=2.0))
    assert not isinstance(caught.value, StudyChangedError)


def test_a_name_can_be_asked_for(render: Render) -> None:
    text = "{% if numbers.slop is defined %}a{% else %}b{% endif %}"
    assert render(text, numbers=prose.Numbers(slope=1.0)) == "<p>b</p>\n"
