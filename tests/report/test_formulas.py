"""TeX becomes MathML, or one line says why not."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from gradprop.report.formulas import FormulaError, mathml, typeset


@pytest.mark.parametrize(
    ("tex", "inside"),
    [
        (r"\chi_1", "<msub><mi>χ</mi><mn>1</mn></msub>"),
        (r"\sigma_w^2 n", "<msubsup><mi>σ</mi><mi>w</mi><mn>2</mn></msubsup><mi>n</mi>"),
        ("a/b", '<mi>a</mi><mo lspace="0" rspace="0">/</mo><mi>b</mi>'),
        (r"\frac{1}{2}", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        (r"\text{a < b & c}", "<mtext>a\xa0&lt;\xa0b\xa0&amp;\xa0c</mtext>"),
        ("a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
        ("\U000f0001^L", "<msup><mtext><span>\U000f0001</span></mtext><mi>L</mi></msup>"),
    ],
)
def test_tex_becomes_mathml(tex: str, inside: str) -> None:
    assert mathml(tex) == f'<math display="inline"><mrow>{inside}</mrow></math>'
    assert mathml(tex, display=True) == f'<math display="block"><mrow>{inside}</mrow></math>'


@pytest.mark.parametrize(
    ("tex", "problem"),
    [
        ("", "not TeX: no available tokens"),
        ("x_", "not TeX: missing super script or subscript"),
        ("a_b_c", "not TeX: double subscripts"),
        (r"\frac{1", "its braces are not balanced"),
        (r"\frac{1}", "lacks a part"),
        (r"\left(", "not TeX: "),
        (r"\begin{x}", "not TeX: "),
        (r"\unknown x", r"the command \\unknown is not known"),
        (r"\href{javascript:alert(1)}{x}", "'href' can't be set"),
        (r"\style{background:url(x)}{x}", "'style' can't be set"),
        (r"\class{note}{x}", "'class' can't be set"),
        (r"\color{red}{x}", "'mathcolor' can't be set"),
        (r"\boxed{x}", "<menclose> of MathML is not supported"),
    ],
)
def test_what_is_no_formula_is_refused(tex: str, problem: str) -> None:
    with pytest.raises(FormulaError, match=problem):
        mathml(tex)


def test_text_of_a_formula_cannot_become_html() -> None:
    found = mathml(r"\text{<script>alert(1)</script>}")
    tags = {element.tag for element in ElementTree.fromstring(found).iter()}
    assert tags == {"math", "mrow", "mtext"}


MATH = '<math display="inline"><mrow><msub><mi>σ</mi><mi>w</mi></msub></mrow></math>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("He & <b>", "He &amp; &lt;b&gt;"),
        (r"<i> $\sigma_w$, $\sigma_w$", f"&lt;i&gt; {MATH}, {MATH}"),
        (r"\$5 and \$6", "$5 and $6"),
        ("$5 & more", "$5 &amp; more"),
        (r"$\AA < x$", r"$\AA &lt; x$"),
    ],
)
def test_formulas_between_dollar_signs_of_a_name(text: str, html: str) -> None:
    assert typeset(text) == html
