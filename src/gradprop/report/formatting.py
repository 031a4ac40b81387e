"""Numbers, counts and labels as the report writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
from markupsafe import Markup

from gradprop.spec import canonical_json

DASH = "–"
LABELS = {
    "dataset": "Data set",
    "final_train_accuracy": "Train accuracy",
    "final_test_accuracy": "Test accuracy",
    "final_train_loss": "Train loss",
    "final_test_loss": "Test loss",
}


Text: TypeAlias = str | Markup


def json_block(data: Any) -> Markup:
    """Return data as JSON that can stand in a ``<script>`` element: no text in it ends this."""
    return Markup(canonical_json(data).replace("<", "\\u003c"))


def sig(value: float, digits: int = 3) -> Text:
    """Return `value` with `digits` significant digits: ``0.0123``, ``1,230``.

    Beyond 10^6 and below 10^-4 it is written as a power of ten.
    """
    if value == 0 or not math.isfinite(value):
        return _special(value)
    rounded = f"{float(value):.{digits - 1}e}"
    exponent = int(rounded.split("e")[1])
    if not -4 <= exponent < 6:
        return power(value, digits)
    return _signed(f"{float(rounded):,.{max(0, digits - 1 - exponent)}f}")


def power(value: float, digits: int = 2) -> Text:
    """Return `value` as a power of ten with `digits` significant digits: 1.2 × 10⁻⁴⁵."""
    if value == 0 or not math.isfinite(value):
        return _special(value)
    mantissa, exponent = f"{float(value):.{digits - 1}e}".split("e")
    text = "{}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10<sup>{}</sup>"
    return Markup(text).format(_signed(mantissa), _signed(str(int(exponent))))


def percent(value: float, digits: int = 0) -> str:
    """Return a fraction as a percentage with `digits` decimals: ``97.2 %``."""
    if not math.isfinite(value):
        return _special(value)
    return _signed(f"{100 * float(value):.{digits}f}") + "\N{NARROW NO-BREAK SPACE}%"


def count(value: float) -> str:
    """Return a whole number with separators of thousands: ``1,200``."""
    return _signed(f"{round(value):,}") if math.isfinite(value) else _special(value)


def plural(number: int, one: str, many: str) -> str:
    """Return a count with its noun: ``1 study``, ``3 studies``."""
    return f"{count(number)} {one if number == 1 else many}"


def span(bounds: tuple[int, int]) -> str:
    """Return a range of counts, or the count if there is but one: ``3 to 5``, ``3``."""
    return " to ".join(map(count, dict.fromkeys(bounds)))


def _special(value: float) -> str:
    if value == 0:
        return "0"
    return "undefined" if math.isnan(value) else "∞" if value > 0 else "−∞"


def _signed(text: str) -> str:
    return text.replace("-", "−")


def plain_text(value: Any) -> str:
    """Return a parameter's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _signed(f"{value:g}") if isinstance(value, float) else str(value)


def column_label(column: str) -> str:
    """Return the heading of a column of a table."""
    return LABELS.get(column, column.replace("_", " ").capitalize())


def slugify(text: str) -> str:
    """Return text as a part of an anchor."""
    return re.sub(r"[^\w-]+", "-", text.lower()).strip("-")


# What templates can write numbers with.
FILTERS = (sig, power, percent, count, plural, span)


def templates_of(folder: Path, finalize: Callable[[Any], str] | None = None) -> jinja2.Environment:
    """Return what renders the templates of a folder: values are escaped, numbers have `FILTERS`.

    Parameters
    ----------
    folder
        Where the templates lie.
    finalize
        What becomes of the value of an expression before it is put in.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in FILTERS}
    return environment
