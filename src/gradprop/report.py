"""Chapters to one HTML file: prose, inline figures, final results, provenance.

The file needs no network and no script. The same results give the same bytes: nothing in it
depends on the date, the machine that writes it or the order of a directory.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from gradprop import claims, config, diagnosis, files, manifests, products, provenance, tables
from gradprop import studies as prose
from gradprop.claims import Result
from gradprop.errors import GradpropError
from gradprop.spec import Cell, Study, digest

TEMPLATES = Path(__file__).parent / "templates"
GENERIC_CHAPTER = "chapter.html.j2"
COMMAND = "snakemake --cores 4"
PROSE_LEFT_OUT = (
    "The text of this chapter was written for the study as it is shipped. It is left out, because "
    "the study was changed."
)

CLAIM_FILES = (".json", "-verdicts.csv", "-alarms.csv")
STATUSES = ("ok", "diverged", "underflowed")
LONGEST_OPEN_TABLE = 12
MOST_NAMED_FILES = 3

# What always names a row of the final results; whatever else tells rows apart is added.
KEYS = ("dataset", "activation", "depth", "initializer")
PARAMETERS = tuple(f.name for f in fields(Cell) if f.name != "seed")
# Worth naming in the caption if all cells of a study share them.
SHARED = ("width", "epochs", "batch_size", "optimizer", "learning_rate")
ACCURACIES = ("final_train_accuracy", "final_test_accuracy")
LOSSES = ("final_train_loss", "final_test_loss")
DASH = "–"
UNTRAINED = (
    "The networks of this study were measured at initialization only: the shares of them that "
    "diverged or underflowed, and the smallest depth at which one did."
)
LABELS = {
    "dataset": "Data set",
    "final_train_accuracy": "Train accuracy",
    "final_test_accuracy": "Test accuracy",
    "final_train_loss": "Train loss",
    "final_test_loss": "Test loss",
}

Text: TypeAlias = str | Markup

_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
_LENGTH = r'\s{}="([\d.]+)([a-z]*)"'
# What may stand unescaped in a data URI; quotation marks, #, %, <, > and line ends may not.
_SAFE = " !$&'()*+,-./:;=?@[]^_`{|}~"
# Stands for a figure's number until the figure's place in the chapter is known.
_NUMBER = re.compile("\0(.+?)\0")


class ReportError(GradpropError):
    """The report can't be written; the message says what is missing and how to make it."""


class StudyChangedError(ReportError):
    """A study's own prose speaks of a number or a figure that the study does not have."""


# ------------------------------------------------------------------------------- formatting


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
    return _signed(f"{round(value):,}")


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


def _plain(value: Any) -> str:
    """Return a parameter's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _signed(f"{value:g}") if isinstance(value, float) else str(value)


def _label(column: str) -> str:
    return LABELS.get(column, column.replace("_", " ").capitalize())


def _slug(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", text.lower()).strip("-")


# ---------------------------------------------------------------------------------- figures


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
        manifests.require(products.figures(reports, study), reports / path)
    sidecar = reports / paths.pop("json")
    description = json.loads(sidecar.read_text(encoding="utf-8"))
    for key in ("title", "alt"):
        if not description.get(key):
            raise ReportError(f"{sidecar}: {key!r} is missing or empty")
    pictures = {ending: (reports / paths[ending]).read_bytes() for ending in ("svg", "png")}
    smaller = min(pictures, key=lambda ending: len(pictures[ending]))
    width, height = svg_size(pictures["svg"].decode("utf-8"), paths["svg"])
    return Figure(
        id=f"figure-{_slug(study.name)}.{_slug(name)}",
        title=description["title"].rstrip("."),
        caption=description.get("caption", ""),
        alt=description["alt"],
        source=data_uri(pictures[smaller], smaller),
        width=width,
        height=height,
        full_size=quote(paths[smaller]),
        links={ending: quote(path) for ending, path in paths.items()},
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


def _require_files(studies: Sequence[Study], reports: Path) -> None:
    """Raise one error that names what is missing and the command that makes it."""
    needed = [
        reports / path
        for study in studies
        for name in study.figures
        for path in figure_files(study, name).values()
    ]
    missing = [str(path) for path in needed if not path.exists()]
    if missing:
        shown, more = missing[:MOST_NAMED_FILES], len(missing) - MOST_NAMED_FILES
        names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        command = f"{COMMAND} {' '.join(shown)}" if more <= 0 else COMMAND
        raise ReportError(f"{names}: no such file; to make it: {command}")


# ----------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes
    ----------
    id, caption
        Anchor and description.
    columns
        For every column its heading and whether it holds numbers.
    rows
        The text of every cell.
    keys
        How many leading columns name the row.
    """

    id: str
    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Text]]
    keys: int = 1

    @property
    def is_long(self) -> bool:
        """Whether the table is better folded."""
        return len(self.rows) > LONGEST_OPEN_TABLE


# What became of a sentence, by whether all or some of its cases are supported.
SENTENCES = {(True, True): "holds", (False, True): "holds in part", (False, False): "does not hold"}


def quotes_table(results: Sequence[Result]) -> Table:
    """Return what became of the sentences that claims quote, in the order of the results."""
    rows: list[list[Text]] = []
    for words in dict.fromkeys(result.quote for result in results if result.quote):
        quoted = [result for result in results if result.quote == words]
        source = quoted[0].source.split(";")[0]  # others say the same in their own words
        supported = [result.verdict == claims.SUPPORTED for result in quoted]
        tested = any(result.verdict != claims.NOT_TESTED for result in quoted)
        failing = [r for r in quoted if r.verdict == claims.NOT_SUPPORTED]
        rows.append(
            [
                Markup('“{}” <span class="below">{}</span>').format(words, source),
                SENTENCES[all(supported), any(supported)] if tested else claims.NOT_TESTED,
                f"{count(sum(supported))} of {count(len(quoted))}",
                " ".join(dict.fromkeys(result.note for result in failing if result.note)) or DASH,
            ]
        )
    return Table(
        id="sentences-table",
        caption=(
            "Sentence by sentence: how many of the cases that test it are supported, and why where "
            "some are not. The cases and their numbers are in the next table."
        ),
        columns=[
            ("What it says", False),
            ("Verdict", False),
            ("Cases", True),
            ("Why not in the others", False),
        ],
        rows=rows,
    )


def claims_tables(results: Sequence[Result]) -> tuple[Table, Table]:
    """Return the verdicts on claims, first those that are not supported, then those that are."""
    columns = ("Verdict", "Claim", "Networks", "Prediction, criterion", "Predicted", "Measured")
    headings = [(name, name in ("Predicted", "Measured")) for name in columns]
    failing = [result for result in claims.sort(results) if result.verdict != claims.SUPPORTED]
    supported = [result for result in results if result.verdict == claims.SUPPORTED]
    why = (
        "What is not supported or not tested. “Not supported” means that the interval does not "
        "meet the criterion that was fixed before: the claim may be wrong, or the networks too few "
        "or too small to tell."
    )
    how = (
        "Every claim with its source, the number that it predicts, what was measured (mean over "
        "networks with the interval it is judged by: 90 %, and wider where a claim has several "
        "cases, after Holm), and the criterion."
    )
    return (
        Table("claims-table", why, headings, _claim_rows(failing)),
        Table("supported-table", how, headings, _claim_rows(supported)),
    )


def _claim_rows(results: Sequence[Result]) -> list[list[Text]]:
    """Return one row a piece of evidence; what a claim says stands in its first row only."""
    rows = [_claim_row(result) for result in results]
    for row, result, before in zip(rows[1:], results[1:], results[:-1], strict=True):
        if (result.study, result.id, result.verdict) == (before.study, before.id, before.verdict):
            row[1] = row[3] = ""
    return rows


def _claim_row(result: Result) -> list[Text]:
    below = Markup('{} <span class="below">{}</span>')
    measured: Text = DASH if result.measured is None else sig(result.measured)
    if result.low is not None and result.high is not None and result.low != result.high:
        measured = below.format(measured, f"{sig(result.low)} to {sig(result.high)}")
    where = f"{result.case} ({plural(result.networks, 'network', 'networks')})"
    return [
        below.format(result.verdict, result.reason) if result.reason else result.verdict,
        below.format(" ".join(filter(None, (result.statement, result.note))), result.source),
        where if result.networks else result.case,
        below.format(below.format(result.formula, result.unit), result.criterion),
        DASH if result.predicted is None else sig(result.predicted),
        measured,
    ]


def final_results(cells: pd.DataFrame) -> pd.DataFrame:
    """Summarize the seeds of every configuration of a study.

    Parameters
    ----------
    cells
        The ``cells`` table.

    Returns
    -------
    pandas.DataFrame
        One row for each configuration, named by the `KEYS` and by what else tells them apart:
        number of seeds; medians of the final losses and accuracies over the seeds for
        which they are defined; shares of diverged and underflowed seeds. Texts are in the
        order in which the grid names them, numbers ascend. If no cell was trained, all depths
        share a row, with their range and the smallest depth of which a cell is not ok.
    """
    trained = cells["epochs"].any()
    keys = [key for key in _distinguishing(cells) if trained or key != "depth"]
    marked = cells.assign(
        diverged=cells["status"] == "diverged",
        underflowed=cells["status"] == "underflowed",
        bad_depth=cells["depth"].where(cells["status"] != "ok"),
    )
    if trained:
        measured = {name: (name, "median") for name in (*ACCURACIES, *LOSSES)}
    else:
        measured = {"depth_min": ("depth", "min"), "depth_max": ("depth", "max")}
        measured["first_bad_depth"] = ("bad_depth", "min")
    shares = {name: (name, "mean") for name in ("diverged", "underflowed")}
    groups = marked.groupby(keys, sort=False)
    summary = groups.agg(seeds=("seed", "nunique"), **measured, **shares).reset_index()
    ranks = pd.concat([_ranks(summary[key]) for key in keys], axis=1)
    return summary.loc[ranks.sort_values(keys).index].reset_index(drop=True)


def _distinguishing(cells: pd.DataFrame) -> list[str]:
    """Return the parameters that name a row of the final results.

    A parameter that follows from the others (a width that each data set has its own of) is
    left out, but for those of the optimizer.
    """
    keys = list(KEYS)
    for name in PARAMETERS:
        if name in keys or name not in cells or cells[name].nunique() == 1:
            continue
        splits = len(cells[[*keys, name]].drop_duplicates()) > len(cells[keys].drop_duplicates())
        if splits or name in ("optimizer", "learning_rate"):
            keys.append(name)
    return keys


def _ranks(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return what a column is sorted by: numbers themselves, texts by first appearance."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    return pd.Series(pd.factorize(values)[0], index=values.index, name=values.name)


def verdict_table(chapter_id: str, study: Study, cells: pd.DataFrame, path: Path) -> Table:
    """Return how many networks of a study have which verdict, by initializer and depth.

    Parameters
    ----------
    chapter_id
        Of the study's chapter.
    study
        The study.
    cells
        Its ``cells`` table.
    path
        The file of verdicts that `gradprop.diagnosis.write` made.
    """
    judged = pd.read_csv(path, dtype={"cell": str})
    numbers = diagnosis.counts(cells, judged, ["initializer", "depth"])
    numbers = numbers.sort_values("depth", kind="stable")
    order = list(dict.fromkeys(cells["initializer"]))
    numbers = numbers.sort_values("initializer", key=lambda c: c.map(order.index), kind="stable")
    rows: dict[tuple[str, int], list[list[int]]] = {}
    for initializer, depth, _, *found in numbers.itertuples(index=False, name=None):
        rows.setdefault((initializer, depth), []).append(found)
    return Table(
        id=f"verdicts-{chapter_id}",
        caption=(
            "How many networks have which verdict on the back-propagated signal of their hidden "
            "layers: more than two decades lost (vanishing) or won (exploding) on the way from "
            "the last hidden layer to the first, exactly zero in some layer without having "
            "fallen below float32 on the way (dead), or not finite (diverged). Of trained "
            "networks at the start → at the end."
        ),
        columns=[
            ("Initializer", False),
            ("Depth", True),
            *((name.capitalize(), True) for name in diagnosis.VERDICTS),
        ],
        rows=[
            [
                _named(initializer, study.names),
                count(depth),
                *(
                    " → ".join(map(count, numbers)) if any(numbers) else DASH
                    for numbers in zip(*probes, strict=True)
                ),
            ]
            for (initializer, depth), probes in rows.items()
        ],
        keys=2,
    )


def alarm_table(chapter_id: str, study: Study, cells: pd.DataFrame, path: Path) -> Table:
    """Return how often which alarm fired in a study, by initializer, and when and where first.

    Parameters
    ----------
    chapter_id
        Of the study's chapter.
    study
        The study.
    cells
        Its ``cells`` table.
    path
        The file of alarms that `gradprop.diagnosis.write` made.
    """
    numbers = diagnosis.alarm_counts(cells, pd.read_csv(path, dtype={"cell": str}), "initializer")
    rows = numbers.itertuples(index=False, name=None)
    below = Markup('{} <span class="below">{}</span>')
    return Table(
        id=f"alarms-{chapter_id}",
        caption=(
            "Rules of thumb that networks broke: how many did, and medians over them of the first "
            "step at which it was seen and of the lowest layer then."
        ),
        columns=[
            ("Alarm", False),
            ("Initializer", False),
            *((name, True) for name in ("Networks", "First step", "Layer")),
        ],
        rows=[
            [
                below.format(_label(alarm), diagnosis.ALARMS[alarm].meaning),
                _named(initializer, study.names),
                f"{count(fired)} of {count(networks)}",
                sig(step),
                sig(layer),
            ]
            for alarm, initializer, step, layer, fired, networks in rows
        ],
        keys=2,
    )


def _results_table(study: Study, cells: pd.DataFrame, summary: pd.DataFrame) -> Table:
    keys = [name for name in summary.columns if name in PARAMETERS]
    columns = [(_label(key), pd.api.types.is_any_real_numeric_dtype(summary[key])) for key in keys]
    trained = "depth" in keys
    measured = _trained_columns(summary) if trained else _untrained_columns(summary)
    columns += [(name, True) for name in measured]
    rows = zip(
        *([_named(value, study.names) for value in summary[key]] for key in keys), strict=True
    )
    return Table(
        id=f"results-{_slug(study.name)}",
        caption=_results_caption(cells) if trained else UNTRAINED,
        columns=columns,
        rows=[
            [*names, *rest]
            for names, rest in zip(rows, zip(*measured.values(), strict=True), strict=True)
        ],
        keys=len(keys),
    )


def _trained_columns(summary: pd.DataFrame) -> dict[str, list[Text]]:
    """Return heading and texts of the columns of results."""
    shown = [name for name in ACCURACIES if summary[name].notna().any()]
    regression = summary[ACCURACIES[0]].isna() & summary[LOSSES[0]].notna()
    shown += LOSSES if regression.any() else ()
    finals = {
        _label(name): [_final(value, name in ACCURACIES) for value in summary[name]]
        for name in shown
    }
    return {"Seeds": [*map(count, summary["seeds"])], **finals, **_shares(summary)}


def _untrained_columns(summary: pd.DataFrame) -> dict[str, list[Text]]:
    """Return the same for cells that were measured at initialization only."""
    ranges = zip(summary["depth_min"], summary["depth_max"], strict=True)
    return {
        "Depths": [f"{low}" if low == high else f"{low} to {high}" for low, high in ranges],
        "Seeds": [*map(count, summary["seeds"])],
        **_shares(summary),
        "First depth not ok": [
            DASH if math.isnan(depth) else count(depth) for depth in summary["first_bad_depth"]
        ],
    }


def _shares(summary: pd.DataFrame) -> dict[str, list[Text]]:
    return {_label(name): [*map(percent, summary[name])] for name in ("diverged", "underflowed")}


def _named(value: Any, names: Mapping[str, str]) -> Text:
    """Return a parameter's value; a component with a display name has its label below."""
    if value not in names:
        return _plain(value)
    return Markup('{} <span class="below">{}</span>').format(names[value], value)


def _final(value: float, is_accuracy: bool) -> Text:
    if math.isnan(value):
        return DASH
    return percent(value, 1) if is_accuracy else sig(value)


def _results_caption(cells: pd.DataFrame) -> str:
    settings = [
        f"{name.replace('_', ' ')} {_plain(cells[name].iloc[0])}"
        for name in SHARED
        if cells[name].nunique() == 1
    ]
    common = f" Common to all rows: {', '.join(settings)}." if settings else ""
    return (
        "Medians over the seeds whose result is finite, and the shares of all seeds that "
        f"diverged or underflowed; a dash where no seed has a finite result.{common}"
    )


# --------------------------------------------------------------------------------- chapters


@dataclass
class Chapter:
    """A study as a chapter.

    Attributes
    ----------
    study, number
        What it is about, and its place.
    cells, runs
        The study's cells, and the jobs that trained them.
    available
        Its figures by name.
    placed
        The names of the figures in the order of the text.
    """

    study: Study
    number: int
    cells: pd.DataFrame
    runs: pd.DataFrame
    available: dict[str, Figure]
    placed: list[str] = field(default_factory=list)
    body: Markup = field(default_factory=Markup)

    @property
    def id(self) -> str:
        """Anchor of the chapter."""
        return f"study-{_slug(self.study.name)}"

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by number, in the order of the text."""
        return {self.figure_number(name): self.available[name] for name in self.placed}

    @property
    def status(self) -> dict[str, int]:
        """How many cells have which status."""
        return {name: int((self.cells["status"] == name).sum()) for name in STATUSES}

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds of a configuration."""
        repeated = self.cells.groupby(list(_distinguishing(self.cells)))["seed"].nunique()
        return int(repeated.min()), int(repeated.max())

    def figure_number(self, name: str) -> str:
        """Return a number such as ``2.3``."""
        return f"{self.number}.{self.placed.index(name) + 1}"

    def render(self, environment: jinja2.Environment, results: Path) -> None:
        """Fill the body: the study's own prose if it has any, the generic chapter if not.

        Prose speaks of the study as it is shipped. If the study was changed so that a number or
        a figure in it is gone, the generic chapter takes its place and says so.
        """
        own = prose.chapter_template(self.study.name)
        try:
            text = self._fill(environment, own or GENERIC_CHAPTER, results)
        except StudyChangedError as error:
            self.placed.clear()
            note = Markup('<p class="note">{} ({})</p>').format(PROSE_LEFT_OUT, error)
            text = str(note) + self._fill(environment, GENERIC_CHAPTER, results)
        place = _helpers(self, environment, GENERIC_CHAPTER)[0]
        text += "".join(place(name) for name in self.available if name not in self.placed)
        text = _NUMBER.sub(lambda match: self.figure_number(match[1]), text)
        self.body = _with_anchors(text, self.study)

    def _fill(self, environment: jinja2.Environment, source: str, results: Path) -> str:
        """Render one template, with the numbers of the study's prose unless it is generic."""
        numbers = {}
        if source != GENERIC_CHAPTER:
            try:
                numbers = prose.numbers(self.study, results / self.study.name)
            except (GradpropError, LookupError, StopIteration, TypeError, ValueError) as error:
                raise StudyChangedError(f"its numbers: {error}") from error
        place, refer = _helpers(self, environment, source)
        try:
            return environment.get_template(source).render(
                study=self.study, numbers=Numbers(**numbers), figure=place, ref=refer
            )
        except jinja2.TemplateNotFound as error:
            raise ReportError(f"{TEMPLATES / str(error)}: no such file") from None
        except jinja2.UndefinedError as error:
            raise StudyChangedError(f"{source}: {error.message}") from error
        except jinja2.TemplateError as error:
            raise ReportError(f"{source}: {error.message}") from error


class Numbers(SimpleNamespace):
    """The computed numbers of a chapter's prose."""


def _helpers(chapter: Chapter, environment: jinja2.Environment, source: str) -> tuple[Any, Any]:
    """Return what a chapter's template can call: ``figure(name)`` and ``ref(name)``."""

    def find(name: str) -> Figure:
        if name not in chapter.available:
            allowed = [*chapter.available]
            raise StudyChangedError(str(config.unknown("figure", name, allowed, source)))
        return chapter.available[name]

    def place(name: str) -> Markup:
        found = find(name)
        if name in chapter.placed:
            raise ReportError(f"{source}: figure {name!r} is placed twice")
        chapter.placed.append(name)
        number = chapter.figure_number(name)
        return Markup(environment.get_template("figure.html.j2").render(it=found, number=number))

    def refer(name: str) -> Markup:
        link = '<a href="#{}">Figure\N{NO-BREAK SPACE}{}</a>'
        return Markup(link).format(find(name).id, f"\0{name}\0")

    return place, refer


def _with_anchors(text: str, study: Study) -> Markup:
    """Give every ``<h3>`` and ``<h4>`` an id and a link to itself."""
    taken: dict[str, int] = {}

    def anchored(match: re.Match[str]) -> str:
        level, heading = match[1], Markup(match[2])
        slug = _slug(heading.striptags())
        taken[slug] = taken.get(slug, 0) + 1
        suffix = f"-{taken[slug]}" if taken[slug] > 1 else ""
        return Markup(
            '<h{0} id="{1}">{2} <a class="anchor" href="#{1}" aria-label="Link to {3}">#</a></h{0}>'
        ).format(
            level,
            f"section-{_slug(study.name)}.{slug}{suffix}",
            heading,
            heading.striptags(),
        )

    return Markup(re.sub(r"<h([34])>(.*?)</h\1>", anchored, text, flags=re.DOTALL))


def _read_chapter(study: Study, number: int, results: Path, reports: Path) -> Chapter:
    cells = tables.read(results / study.name, "cells", study)
    return Chapter(
        study=study,
        number=number,
        cells=cells,
        runs=tables.read(results / study.name, tables.RUNS, study),
        available={name: read_figure(study, name, reports) for name in study.figures},
    )


# ------------------------------------------------------------------------------- provenance


def _environment_table(chapters: Sequence[Chapter]) -> Table:
    runs = pd.concat(
        [chapter.runs.assign(study=chapter.study.name) for chapter in chapters], ignore_index=True
    )
    runs["count"] = [len(json.loads(cells)) for cells in runs["cells"]]
    versions = pd.DataFrame([json.loads(text) for text in runs["versions"]])
    entries: dict[str, pd.Series[Any]] = {
        "Processor": runs["processor"],
        "Instruction sets": runs["instructions"],
        "Linear algebra": runs["linear_algebra"],
        "Cores": runs["cores"],
        "Threads of a job": runs["threads"],
        "Code digest": runs["code"],
        "Commit": runs["commit"],
        **{str(name): versions[name] for name in versions},
    }
    return Table(
        id="environment",
        caption=(
            "Where the results were computed. Where there are several values, not all networks "
            "were trained alike, and it is said which were trained with each; other instruction "
            "sets and other versions may give other last bits."
        ),
        columns=[("Item", False), ("Value", False)],
        rows=[[name, _distinct(values, runs)] for name, values in entries.items()],
    )


def _distinct(values: pd.Series[Any], runs: pd.DataFrame) -> str:
    """Return the different values of a column as text; of several, with their networks."""
    known = runs.assign(value=values)[values.notna() & (values != "")]
    groups = dict(iter(known.groupby("value")))
    if len(groups) < 2:
        return ", ".join(map(str, groups)) or "not recorded"
    return "; ".join(
        f"{value!s} ({plural(int(rows['count'].sum()), 'network', 'networks')} of "
        f"{', '.join(dict.fromkeys(rows['study']))})"
        for value, rows in groups.items()
    )


def _effort_table(chapters: Sequence[Chapter]) -> Table:
    headings = ("Cells", "Jobs", "CPU seconds", "Peak memory (MiB)")
    return Table(
        id="effort",
        caption="What the present results of each study cost, and the digest of its grid.",
        columns=[("Study", False), *((name, True) for name in headings), ("Grid digest", False)],
        rows=[
            [
                chapter.study.title,
                count(len(chapter.cells)),
                count(chapter.runs["job"].nunique()),
                sig(chapter.runs["cpu_seconds"].sum()),
                count(chapter.runs["peak_memory_mib"].max()) if len(chapter.runs) else DASH,
                digest([cell.id for cell in chapter.study.cells]),
            ]
            for chapter in chapters
        ],
    )


def _overview_table(chapters: Sequence[Chapter]) -> Table:
    headings = ("Cells", "Ok", "Diverged", "Underflowed", "Seeds", "Figures")
    link = '<a href="#{}">{}</a> <span class="below">{}</span>'
    return Table(
        id="studies",
        caption="The studies, one chapter each, and what became of their cells.",
        columns=[("Study", False), *((name, True) for name in headings)],
        rows=[
            [
                Markup(link).format(chapter.id, chapter.study.title, chapter.study.question),
                *map(count, [len(chapter.cells), *chapter.status.values()]),
                span(chapter.seeds),
                count(len(chapter.placed)),
            ]
            for chapter in chapters
        ],
    )


# ------------------------------------------------------------------------------- the report


def write_report(
    studies: Sequence[Study],
    results: Path,
    reports: Path,
    title: str,
    name: str = "index.html",
    command: str = COMMAND,
) -> None:
    """Write the report: one self-contained file, atomically.

    Parameters
    ----------
    studies
        The studies, in the order of their chapters.
    results
        Folder with the result tables of every study.
    reports
        Folder with the figures and the plotted numbers; the report is written into it.
    title
        Title of the report.
    name
        Name of its file.
    command
        What builds it again.

    Raises
    ------
    ReportError
        If a file is missing or a chapter's template can't be used.
    """
    _require_files(studies, reports)
    read = manifests.checksums(p for study in studies for p in _sources(study, results, reports))
    environment = _environment()
    chapters = [
        _read_chapter(study, number, results, reports) for number, study in enumerate(studies, 1)
    ]
    for chapter in chapters:
        chapter.render(environment, results)
    judged = [reports / "claims" / f"{study.name}.json" for study in studies]
    for study, path in zip(studies, judged, strict=True):
        manifests.require(products.claims(reports, study), path)
    verdicts = [verdict for path in judged for verdict in claims.read(path)]
    summaries = [final_results(chapter.cells) for chapter in chapters]
    html = environment.get_template("report.html.j2").render(
        title=title,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        chapters=chapters,
        results=[
            (
                _results_table(chapter.study, chapter.cells, summary),
                _csv_uri(summary),
                _diagnoses(chapter, reports),
            )
            for chapter, summary in zip(chapters, summaries, strict=True)
        ],
        totals=_totals(chapters),
        overview=_overview_table(chapters),
        verdicts=claims.counts(verdicts),
        quotes_table=quotes_table(verdicts) if any(v.quote for v in verdicts) else None,
        claims_tables=claims_tables(verdicts) if verdicts else None,
        environment_table=_environment_table(chapters),
        effort_table=_effort_table(chapters),
        command=command,
        target=_example_target(chapters, reports),
    )
    files.write_text(reports / name, html)
    manifests.write(
        products.report(reports, studies, name, title, command),
        made=[reports / name],
        inputs=read,
        modules=provenance.REPORT_MODULES,
    )


def _sources(study: Study, results: Path, reports: Path) -> list[Path]:
    """Return the files that the chapter of a study is made from."""
    claimed = [reports / "claims" / f"{study.name}{end}" for end in CLAIM_FILES]
    drawn = [
        reports / path for name in study.figures for path in figure_files(study, name).values()
    ]
    folder = results / study.name
    return [*claimed, *drawn, *tables.paths_of(folder, study), *tables.runs_of(folder, study)]


def _diagnoses(chapter: Chapter, reports: Path) -> dict[str, Table]:
    """Return the tables of verdicts and alarms, if any fired, by what their summary says."""
    found = {}
    for kind, summary, build in (
        ("verdicts", "Vanishing, stable, exploding", verdict_table),
        ("alarms", "Alarms", alarm_table),
    ):
        path = reports / "claims" / f"{chapter.study.name}-{kind}.csv"
        manifests.require(products.claims(reports, chapter.study), path)
        found[summary] = build(chapter.id, chapter.study, chapter.cells, path)
    return {summary: table for summary, table in found.items() if table.rows}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (sig, power, percent, count, plural, span)}
    return environment


def _totals(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Return the numbers of the summary at the top and of the provenance."""
    fewest, most = zip(*(chapter.seeds for chapter in chapters), strict=True)
    return {
        "cells": sum(len(chapter.cells) for chapter in chapters),
        "jobs": sum(chapter.runs["job"].nunique() for chapter in chapters),
        "cpu_seconds": sum(chapter.runs["cpu_seconds"].sum() for chapter in chapters),
        "seeds": (min(fewest), max(most)),
        **{name: sum(chapter.status[name] for chapter in chapters) for name in STATUSES},
    }


def _csv_uri(summary: pd.DataFrame) -> str:
    content = summary.to_csv(index=False, lineterminator="\n").encode()
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode('ascii')}"


def _example_target(chapters: Sequence[Chapter], reports: Path) -> str | None:
    """Return a figure's file, to show how one figure is made."""
    drawn = (figure.links["svg"] for chapter in chapters for figure in chapter.figures.values())
    example = next(drawn, None)
    return example and f"{reports.name}/{example}"
