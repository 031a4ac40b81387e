"""Drawing the figures of a study: which are due, their files, and what is kept of them."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradprop import errors, files, provenance
from gradprop.analysis.names import names_of
from gradprop.analysis.needs import NotMeasured, failures_placed
from gradprop.errors import ConfigError
from gradprop.figures import (
    curves,
    decision,
    ensembles,
    finite_width,
    fixed_points,
    histograms,
    layers,
    learning_time,
    mean_field,
    mechanism,
    modes,
    sidecar,
    spectra,
    style,
    training,
)
from gradprop.figures.kind import Kind
from gradprop.grid import folders
from gradprop.results import manifests, products, tables
from gradprop.results.store import Store
from gradprop.results.study_tables import Options, StudyError, StudyTables, groups
from gradprop.spec import Study, as_text, canonical_json
from gradprop.threads import keep_to_one

__all__ = [
    "FORMATS",
    "KINDS",
    "StudyError",
    "StudyTables",
    "draw_alone",
    "draw_figure",
    "draw_study",
]

KINDS: dict[str, Kind] = {
    **mechanism.KINDS,
    **layers.KINDS,
    **training.KINDS,
    **ensembles.KINDS,
    **mean_field.KINDS,
    **fixed_points.KINDS,
    **curves.KINDS,
    **spectra.KINDS,
    **decision.KINDS,
    **finite_width.KINDS,
    **learning_time.KINDS,
    **modes.KINDS,
    **histograms.KINDS,
}
FORMATS = ("svg", "pdf", "png")
UNCHANGED = "unchanged"
NARROWEST_PANEL = 1.3  # inches, in which the labels of a panel do not run into the next one's
# Modules outside this package that figures take curves and captions from.
DRAWN_WITH = (
    *("analysis", "figures/drawing", "figures/sidecar", "prediction"),
    *("results/study_tables", "theory"),
)
Made = TypeVar("Made")
NOTHING = "No network of this study has what this figure shows."


def draw_study(study: Study, results: Path, reports: Path) -> list[str]:
    """Draw the figures of a study and write their manifest.

    What was drawn is kept in ``<results>/drawings``: a figure is drawn anew only if its numbers,
    its options or the code that draws it changed.

    Parameters
    ----------
    study
        Its `figures` say what to draw.
    results
        Folder of the study's result tables.
    reports
        Folder that gets ``figures/<study>/`` and ``data/<study>/``.

    Returns
    -------
    list of str
        The figures whose files were written.
    """
    keep_to_one()
    own = folders.own_files(study.folder, folders.FIGURES, folders.COMPONENTS)
    sources = [*tables.paths_of(results, study), *own, *folders.styles()]
    read, store = manifests.checksums(sources), results / "drawings"
    with files.one_at_a_time(store, f"drawing the figures of {study.name}"):
        written = _draw_all(study, results, reports)
    manifests.write(
        products.figures(reports, study),
        made=[p for name in study.figures for p in paths_of(reports, study.name, name).values()],
        inputs=read,
        modules=provenance.FIGURE_MODULES,
    )
    return written


def draw_alone(
    study: Study, results: Path, reports: Path, name: str, ending: str, width: float | None
) -> Path:
    """Draw one figure in a format and a width; the report's files stay as they are.

    Parameters
    ----------
    study, results, reports
        As in `draw_study`.
    name
        Of the figure.
    ending
        Of the file, one of `FORMATS`.
    width
        In inches; that of the style if None. Text keeps its size.

    Returns
    -------
    Path
        The file, beside the report's figures.

    Raises
    ------
    gradprop.errors.ConfigError
        If the study has no such figure, or it has too many panels for the width.
    """
    if name not in study.figures:
        raise errors.unknown("figure", name, list(study.figures), f"study {study.name!r}")
    width = width or style.width()
    kind = _kind(study, name, study.figures[name]["kind"])
    rows = _rows(kind, StudyTables(study, results), study.figures[name])
    rows, options = _with_names(rows, study, study.figures[name])
    with mpl.rc_context({"figure.figsize": (width, width)}):
        figure = style.note(NOTHING) if rows.empty else kind.draw(rows, options)
    panels = max((_columns(axes) for axes in figure.axes), default=1)
    if width < min(panels * NARROWEST_PANEL, style.width()):
        problem = f"{panels} panels side by side; the least width is {panels * NARROWEST_PANEL:g}in"
        raise ConfigError(f"--width: {width:g}in: figure {name!r} has {problem}")
    path = reports / "figures" / study.name / f"{name}-{width:.4g}in.{ending}"
    style.save(figure, [path])
    return path


def _columns(axes: Axes) -> int:
    """Return how many panels the grid has side by side that an axes belongs to."""
    place = axes.get_subplotspec()
    return place.get_gridspec().ncols if place else 1


def kinds_of(study: Study) -> dict[str, Kind]:
    """Return all kinds of figures that a study can have: those of the package and its own.

    Raises
    ------
    gradprop.errors.ConfigError
        If an own kind is none, or has the name of one of the package.
    """
    own = folders.own_kinds(study.folder)
    for name, kind in own.items():
        if name in KINDS or not isinstance(kind, Kind):
            problem = "is a kind of the package" if name in KINDS else "is not a Kind"
            raise ConfigError(f"{study.folder}/{folders.FIGURES}: KINDS: {name!r} {problem}")
    return {**KINDS, **{name: _guarded(study, name, kind) for name, kind in own.items()}}


def _kind(study: Study, figure: str, kind: str) -> Kind:
    known = kinds_of(study)
    if kind not in known:  # it was when the workflow began: `figures.py` changed since
        source = f"{study.folder}/{folders.STUDY}"
        raise errors.unknown(f"figures.{figure}.kind", kind, list(known), source)
    return known[kind]


def _guarded(study: Study, name: str, kind: Kind) -> Kind:
    """Return an own kind whose mistakes are told with their place."""

    def guarded(part: str, function: Callable[..., Made], made: type[Made]) -> Callable[..., Made]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Made:
            with failures_placed(study, folders.FIGURES, f"{part} of kind {name}"):
                found = function(*arguments)
                if not isinstance(found, made):
                    raise TypeError(f"returned {errors.show(found)}; allowed: a {made.__name__}")
            return found

        return call

    return replace(
        kind,
        prepare=guarded("prepare", kind.prepare, pd.DataFrame),
        draw=guarded("draw", kind.draw, Figure),
        describe=guarded("describe", kind.describe, str),
    )


def paths_of(reports: Path, study: str, figure: str) -> dict[str, Path]:
    """Return the files of a figure by their ending."""
    pictures = reports / "figures" / study
    numbers = reports / "data" / study
    return {
        **{ending: pictures / f"{figure}.{ending}" for ending in FORMATS},
        **{ending: numbers / f"{figure}.{ending}" for ending in ("csv", "json", "rst")},
    }


def _draw_all(study: Study, results: Path, reports: Path) -> list[str]:
    found, store, written = StudyTables(study, results), Store(results / "drawings"), []
    for name, options in study.figures.items():
        did = draw_figure(found, name, options, reports, store)
        print(f"[{study.name}] {name}: {did}", file=sys.stderr)
        written += [] if did == UNCHANGED else [name]
    return written


def draw_figure(
    found: StudyTables, name: str, options: Mapping[str, Any], reports: Path, store: Store
) -> str:
    """Write the files of one figure; tell what was done.

    Parameters
    ----------
    found
        The study's tables.
    name, options
        The figure.
    reports
        Folder of the figures.
    store
        Where drawings are kept; older ones of this figure are removed from it.
    """
    kind = _kind(found.study, name, options["kind"])
    rows, facts = _rows(kind, found, options), sidecar.facts(found.study, options)
    numbers = rows.to_csv(index=False, lineterminator="\n")
    rows, options = _with_names(rows, found.study, options)
    paths = paths_of(reports, found.study.name, name)
    key = f"{name}-{_key(kind, {**options, 'facts': facts}, numbers)}"
    kept = [entry for entry in store.entries(f"{name}-*") if entry.key == key]
    if kept:
        contents = {ending: kept[0].read(ending) for ending in paths}
        lost = [ending for ending, path in paths.items() if _content(path) != contents[ending]]
        for ending in lost:
            with files.replacing(paths[ending]) as temporary:
                temporary.write_bytes(contents[ending])
        return "as drawn before" if lost else UNCHANGED
    figure = style.note(NOTHING) if rows.empty else kind.draw(rows, options)
    text = {
        "title": options["title"],
        "caption": _caption(found.study, options),
        "alt": NOTHING if rows.empty else kind.describe(rows, options),
    }
    style.save(figure, [paths[ending] for ending in FORMATS])
    files.write_text(paths["csv"], numbers)
    sidecar.write(paths, text, facts)
    for older in store.entries(f"{name}-*"):
        older.path.unlink()
    store.put(key, {ending: path.read_bytes() for ending, path in paths.items()})
    return "drawn"


def _rows(kind: Kind, found: StudyTables, options: Options) -> pd.DataFrame:
    """Return the plotted numbers; none if the study has not measured them."""
    try:
        return kind.prepare(found, options)
    except NotMeasured:
        return pd.DataFrame()


def _with_names(
    rows: pd.DataFrame, study: Study, options: Options
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return what is drawn: with names instead of labels, and components by name in `options`.

    The numbers that are written beside the figure keep the labels that a study's YAML has.
    """
    called = {key: of for key, of in names_of(study).items() if key in groups(options)}
    for key, of_labels in called.items():
        for column in {key, "line"} & set(rows):
            rows = rows.assign(**{column: rows[column].replace(of_labels)})
    found = {key: dict.fromkeys(cell.value(key) for cell in study.cells) for key in called}
    components = {  # of several of one name, the first
        key: {called[key][as_text(key, one)]: one for one in reversed(values)}
        for key, values in found.items()
    }
    return rows, {**options, "components": components}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _caption(study: Study, options: Mapping[str, Any]) -> str:
    """Return the caption, after the published figure that this one regenerates."""
    source = f"After {options['source']}." if "source" in options else ""
    missing = layers.without_theory(study, options)
    single = layers.of_single_examples(study, options)
    minibatches = training.of_minibatches(options)
    parts = [source, options.get("caption", ""), missing, single, minibatches]
    return " ".join(filter(None, parts))


def _key(kind: Kind, options: Mapping[str, Any], numbers: str) -> str:
    """Return a digest of all that a drawing depends on."""
    drawn = {key: value for key, value in options.items() if key != "differs"}  # the report's
    drawn["components"] = {
        key: {name: as_text(key, one) for name, one in named.items()}
        for key, named in options["components"].items()
    }
    total = hashlib.sha256(canonical_json(drawn).encode())
    others = provenance.sources_digest(DRAWN_WITH)
    packages = [f"{name} {version(name)}" for name in ("matplotlib", "numpy", "seaborn")]
    settings = str(sorted(mpl.rcParams.items()))
    for part in (numbers, others, settings, *packages, *_drawing_code(kind.draw.__module__)):
        total.update(part.encode())
    return total.hexdigest()[:16]


def _drawing_code(module: str) -> list[str]:
    """Return the source of a module, and of those beside it and in this room that it imports."""
    sources: dict[str, str] = {}
    rooms = (f"{__package__}.", module.rpartition(".")[0] + ".")
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in sources or not name.startswith(rooms) or name not in sys.modules:
            continue
        sources[name] = inspect.getsource(sys.modules[name])
        waiting += _imported(name.rpartition(".")[0], sources[name])
    return [sources[name] for name in sorted(sources)]


@functools.cache  # the figures of a study are drawn by few modules
def _imported(room: str, source: str) -> tuple[str, ...]:
    """Return the names that a module's source imports something from, or may import."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            beside = [room] if node.level else []  # from . import helper
            module = ".".join([*beside, *filter(None, [node.module])])
            found += [module, *(f"{module}.{n.name}" for n in node.names)]
    return tuple(found)
