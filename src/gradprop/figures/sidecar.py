"""What is written beside a figure: its texts and facts, and the same for Snakemake's own report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradprop import files
from gradprop.analysis.names import words
from gradprop.figures import style
from gradprop.grid.loading import needs_of
from gradprop.grid.selection import drawn
from gradprop.spec import Study


def facts(study: Study, options: Mapping[str, Any]) -> dict[str, str]:
    """Return what a figure is of, in few words: its quantity, its data sets and its depths.

    Parameters
    ----------
    study
        The figure's.
    options
        Of the figure. One without a statistic is of what its kind is called.
    """
    asked = options.get("statistic") or options["kind"]
    names = [asked] if isinstance(asked, str) else asked
    cells = drawn(study.cells, options, needs_of(options["kind"], study.folder))
    datasets = dict.fromkeys(words(cell.dataset.name) for cell in cells)
    depths = sorted({cell.depth for cell in cells})
    return {
        "quantity": ", ".join(style.quantity(style.label(name)) for name in names),
        "data set": ", ".join(datasets),
        "depth": " to ".join(map(str, dict.fromkeys([*depths[:1], *depths[-1:]]))),
    }


def write(paths: Mapping[str, Path], texts: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Write the texts and the facts of a figure as JSON and, for Snakemake's report, as RST.

    Parameters
    ----------
    paths
        The files of the figure by their ending.
    texts
        Its ``title``, ``caption`` and alternative text, ``alt``.
    known
        Its `facts`.
    """
    content = {**texts, "facts": known}
    files.write_text(paths["json"], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    title, caption, alt = (_literal(texts[key]) for key in ("title", "caption", "alt"))
    numbers = "/".join(paths["csv"].parts[-3:])
    paragraphs = [f"**{title}**", caption, alt, f"The plotted numbers: {_literal(numbers)}"]
    files.write_text(paths["rst"], "\n\n".join(filter(None, paragraphs)) + "\n")


def _literal(text: str) -> str:
    """Return a text on one line of RST, no sign of which is markup, nor a template's of Jinja."""
    return re.sub(r"[^\w\s]|_", r"\\\g<0>", " ".join(text.split())).replace("{", "{{ '{' }}")
