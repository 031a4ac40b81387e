"""Figures as they are embedded in the report."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gradprop.report.differences import Differences, differences_of
from gradprop.report.errors import ReportError
from gradprop.report.formatting import slugify
from gradprop.results import manifests, products
from gradprop.spec import Study

_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_LENGTH = r'\s{}="([\d.]+)([a-z]*)"'
# What may stand unescaped in a data URI; quotation marks, #, %, <, > and line ends may not.
_SAFE = " !$&'()*+,-./:;=?@[]^_`{|}~"


@dataclass(frozen=True)
class Figure:
    """A figure as the report shows it.

    Attributes
    ----------
    id
        Anchor in the report.
    title, caption, alt
        Heading, explanation and alternative text.
    source
        Data URI of the SVG or the PNG, whichever file is smaller.
    width, height
        Size in CSS pixels.
    full_size
        Relative address of the embedded file.
    links
        Relative address of every format.
    differences
        How the figure differs from the published one, if that was said.
    """

    id: str
    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int
    full_size: str
    links: Mapping[str, str]
    differences: Differences | None


def figure_files(study: Study, name: str) -> dict[str, str]:
    """Return the files that belong to a figure, relative to the folder of the report."""
    paths = {ending: f"figures/{study.name}/{name}.{ending}" for ending in ("pdf", "svg", "png")}
    return paths | {ending: f"data/{study.name}/{name}.{ending}" for ending in ("csv", "json")}


def read_figure(study: Study, name: str, reports: Path) -> Figure:
    """Read a figure's picture and its description.

    Raises
    ------
    ReportError
        If the description lacks its title or alternative text.
    """
    paths = figure_files(study, name)
    for path in paths.values():
        manifests.require(products.figures(reports, study), reports / path, study.name)
    sidecar = reports / paths.pop("json")
    description = json.loads(sidecar.read_text(encoding="utf-8"))
    for key in ("title", "alt"):
        if not description.get(key):
            raise ReportError(f"{sidecar}: {key!r} is missing or empty")
    pictures = {ending: (reports / paths[ending]).read_bytes() for ending in ("svg", "png")}
    smaller = min(pictures, key=lambda ending: len(pictures[ending]))
    width, height = svg_size(pictures["svg"].decode("utf-8"), paths["svg"])
    return Figure(
        id=f"figure-{slugify(study.name)}.{slugify(name)}",
        title=description["title"].rstrip("."),
        caption=description.get("caption", ""),
        alt=description["alt"],
        source=data_uri(pictures[smaller], smaller),
        width=width,
        height=height,
        full_size=quote(paths[smaller]),
        links={ending: quote(path) for ending, path in paths.items()},
        differences=differences_of(study, study.figures[name]),
    )


def data_uri(content: bytes, ending: str) -> str:
    """Return a picture as a data URI.

    In an ``<img>`` an SVG runs no script and its ids clash with nothing. Of the two encodings
    of an SVG the shorter one is taken.
    """
    encoded = base64.b64encode(content).decode("ascii")
    if ending != "svg":
        return f"data:image/{ending};base64,{encoded}"
    # In XML a line end between or inside attributes means the same as a space.
    escaped = quote(content.decode("utf-8").replace("\r", "").replace("\n", " "), safe=_SAFE)
    body = f",{escaped}" if len(escaped) < len(encoded) else f";base64,{encoded}"
    return f"data:image/svg+xml{body}"


def svg_size(text: str, source: str) -> tuple[int, int]:
    """Return width and height of an SVG in CSS pixels.

    Raises
    ------
    ReportError
        If the picture does not say how large it is.
    """
    root = re.search(r"<svg\b[^>]*>", text)
    found = [re.search(_LENGTH.format(key), root[0] if root else "") for key in ("width", "height")]
    sizes = [float(match[1]) * _UNITS[match[2]] for match in found if match and match[2] in _UNITS]
    if len(sizes) != 2:
        raise ReportError(f"{source}: the SVG has no width and height in {', '.join(_UNITS)[2:]}")
    return round(sizes[0]), round(sizes[1])
