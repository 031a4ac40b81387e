"""Figures: one kind of figure a function pair, tidy numbers first, then the drawing of them.

A study's YAML names its figures and gives each a kind and options. The numbers are written as
CSV, the drawing as SVG, PDF and PNG, and title, caption and alternative text as JSON beside the
CSV; the report is made of these files alone.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from gradprop import files
from gradprop.figures import (
    curves,
    decision,
    ensembles,
    finite_width,
    histograms,
    layers,
    learning_time,
    mean_field,
    mechanism,
    modes,
    spectra,
    style,
    training,
)
from gradprop.figures.data import FigureError, Kind, StudyTables
from gradprop.spec import Study, canonical_json
from gradprop.threads import limit

__all__ = ["FORMATS", "KINDS", "FigureError", "StudyTables", "draw_figure", "draw_study"]

KINDS: dict[str, Kind] = {
    **mechanism.KINDS,
    **layers.KINDS,
    **training.KINDS,
    **ensembles.KINDS,
    **mean_field.KINDS,
    **curves.KINDS,
    **spectra.KINDS,
    **decision.KINDS,
    **finite_width.KINDS,
    **learning_time.KINDS,
    **modes.KINDS,
    **histograms.KINDS,
}
FORMATS = ("svg", "pdf", "png")
NOTHING = "No network of this study has what this figure shows."


def draw_study(study: Study, results: Path, reports: Path, processes: int = 1) -> list[str]:
    """Draw the figures of a study whose numbers, options or drawing code changed.

    Parameters
    ----------
    study
        Its `figures` say what to draw.
    results
        Folder of the study's result tables.
    reports
        Folder that gets ``figures/<study>/`` and ``data/<study>/``.
    processes
        How many processes share the work.

    Returns
    -------
    list of str
        The figures that were drawn.
    """
    names = list(study.figures)
    shares = [names[first::processes] for first in range(min(processes, len(names)))]
    if len(shares) < 2:
        return _draw_some(study, results, reports, names)
    with ProcessPoolExecutor(len(shares), initializer=limit, initargs=(1,)) as pool:
        return list(chain(*pool.map(partial(_draw_some, study, results, reports), shares)))


def _draw_some(study: Study, results: Path, reports: Path, names: Sequence[str]) -> list[str]:
    tables = StudyTables(study, results)
    drawn = []
    for name in names:
        changed = draw_figure(tables, name, study.figures[name], reports)
        print(f"[{study.name}] {name}: {'drawn' if changed else 'unchanged'}", file=sys.stderr)
        drawn += [name] if changed else []
    return drawn


def draw_figure(tables: StudyTables, name: str, options: Mapping[str, Any], reports: Path) -> bool:
    """Draw one figure if it changed; tell whether it did."""
    kind = KINDS[options["kind"]]
    rows = kind.prepare(tables, options)
    numbers = rows.to_csv(index=False, lineterminator="\n")
    data = reports / "data" / tables.study.name / name
    pictures = [reports / "figures" / tables.study.name / f"{name}.{ending}" for ending in FORMATS]
    key = _key(kind, options, numbers)
    sidecar = data.with_suffix(".json")
    complete = all(path.exists() for path in [sidecar, data.with_suffix(".csv"), *pictures])
    if complete and json.loads(sidecar.read_text(encoding="utf-8"))["key"] == key:
        return False
    figure = style.note(NOTHING) if rows.empty else kind.draw(rows, options)
    style.save(figure, pictures)
    files.write_text(data.with_suffix(".csv"), numbers)
    text = {
        "title": options["title"],
        "caption": _caption(options),
        "alt": NOTHING if rows.empty else kind.describe(rows, options),
        "key": key,
    }
    files.write_text(sidecar, json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    return True


def _caption(options: Mapping[str, Any]) -> str:
    """Return the caption, after the published figure that this one regenerates."""
    source = f"After {options['source']}." if "source" in options else ""
    return " ".join(filter(None, [source, options.get("caption", "")]))


def _key(kind: Kind, options: Mapping[str, Any], numbers: str) -> str:
    """Return a digest of all that a drawing depends on."""
    total = hashlib.sha256(canonical_json(dict(options)).encode())
    for part in (numbers, *_drawing_code(kind.draw.__module__)):
        total.update(part.encode())
    return total.hexdigest()[:16]


def _drawing_code(module: str) -> list[str]:
    """Return the source of a module of this package and of those of the package it imports."""
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in sources or not name.startswith(f"{__name__}.") or name not in sys.modules:
            continue
        sources[name] = inspect.getsource(sys.modules[name])
        for node in ast.walk(ast.parse(sources[name])):
            if isinstance(node, ast.ImportFrom):
                waiting += [f"{node.module}", *(f"{node.module}.{n.name}" for n in node.names)]
    return [sources[name] for name in sorted(sources)]
