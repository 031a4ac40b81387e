"""Formulas: TeX becomes MathML, which browsers typeset without a script."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

from latex2mathml import converter
from markupsafe import Markup, escape

# How many children an element of MathML has; of the others any number.
CHILDREN = {
    "mfrac": 2,
    "mroot": 2,
    "msub": 2,
    "msup": 2,
    "munder": 2,
    "mover": 2,
    "msubsup": 3,
    "munderover": 3,
}
# What browsers draw (MathML Core) and what a formula needs of it: no links, styles or colours.
ELEMENTS = {
    *CHILDREN,
    *(
        "math",
        "mi",
        "mn",
        "mo",
        "mrow",
        "mspace",
        "msqrt",
        "mstyle",
        "mtable",
        "mtd",
        "mtext",
        "mtr",
    ),
}
ATTRIBUTES = {
    *("accent", "accentunder", "columnalign", "columnspacing", "depth", "display", "displaystyle"),
    *("fence", "form", "height", "linethickness", "lspace", "mathvariant", "maxsize", "minsize"),
    *("movablelimits", "rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "symmetric"),
    *("voffset", "width"),
}


class FormulaError(ValueError):
    """A formula is no TeX, or TeX that is not supported."""


def mathml(tex: str, display: bool = False) -> Markup:
    """Return a formula as MathML.

    Parts of Unicode's private use areas (as `gradprop.report.prose` has them for values) stay what
    they are, each in an ``mtext`` of its own.

    Parameters
    ----------
    tex
        The formula, without dollar signs.
    display
        Whether it stands on lines of its own.

    Raises
    ------
    FormulaError
        If it can't be read or would not be drawn; the message says why.
    """
    unescaped = re.sub(r"\\.", "", tex)
    if unescaped.count("{") != unescaped.count("}"):
        raise FormulaError("its braces are not balanced")
    try:
        formula = converter.Converter(display="block" if display else "inline")
        tree = formula.convert_to_element(tex)
    except Exception as error:  # the library's errors share no class
        words = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error"))
        raise FormulaError(f"not TeX: {words.lower()}") from None
    del tree.attrib["xmlns"]  # HTML knows the element
    for element in [*tree.iter()]:
        _check(element)
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def typeset(text: str) -> Markup:
    r"""Return a text with its formulas as MathML and everything else escaped.

    Parameters
    ----------
    text
        As Matplotlib takes it: formulas stand between dollar signs, and a plain one is ``\$``. A
        formula that Matplotlib draws and MathML lacks stays TeX.
    """
    parts = re.split(r"(?<!\\)\$", text)
    if len(parts) % 2 == 0:  # a formula without end is none
        return escape(text)
    pieces = (
        _formula(part) if number % 2 else escape(part.replace(r"\$", "$"))
        for number, part in enumerate(parts)
    )
    return Markup("").join(pieces)


def _formula(tex: str) -> Markup:
    try:
        return mathml(tex)
    except FormulaError:
        return escape(f"${tex}$")


def _check(element: ElementTree.Element) -> None:
    """Insist on what browsers draw; give the element its text as characters."""
    if element.tag not in ELEMENTS:
        raise FormulaError(f"<{element.tag}> of MathML is not supported")
    for name in element.attrib:
        if name not in ATTRIBUTES:
            raise FormulaError(f"{name!r} can't be set in a formula")
    if len(element) != CHILDREN.get(element.tag, len(element)):
        raise FormulaError("a fraction, root, subscript or superscript lacks a part")
    element.text = html.unescape(element.text or "")
    if element.text.startswith("\\") and element.tag != "mtext":
        raise FormulaError(f"the command {element.text} is not known")
    if element.text == "/":  # TeX sets no space around it
        element.attrib |= {"lspace": "0", "rspace": "0"}
    if re.fullmatch("[\U000f0000-\U0010fffd]", element.text):
        # A value may have tags, which browsers lay out well within HTML only.
        element.tag, value = "mtext", ElementTree.SubElement(element, "span")
        element.text, value.text = None, element.text
