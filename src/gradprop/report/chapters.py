"""Chapters: a study's prose with its figures and numbers."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from gradprop import errors, studies
from gradprop.analysis.needs import NotMeasured
from gradprop.grid import folders
from gradprop.report import prose
from gradprop.report.bibliography import Bibliography, Place
from gradprop.report.errors import ReportError, StudyChangedError
from gradprop.report.formatting import slugify
from gradprop.report.pictures import Figure, read_figure
from gradprop.report.tables import distinguishing
from gradprop.results import manifests, products, tables
from gradprop.spec import Study

TEMPLATES = Path(__file__).parent / "templates"
PROSE_LEFT_OUT = (
    "A text of this chapter speaks of what the study, as it is now, does not have. It is left out."
)


STATUSES = ("ok", "diverged", "underflowed")
# What the page itself shows of layers, log10: of gradients, signals and lengths.
GRADIENT, SIGNAL = "gradient_log10_rms", "signal_log10_rms"
LENGTH = "preactivation_log10_mean_square"
# Stands for a figure's number until the figure's place in the chapter is known.
_NUMBER = re.compile("\0(.+?)\0")
_LINK = re.compile("</?a(?: [^>]*)?>")  # none can stand in another


@dataclass
class Chapter:
    """A study as a chapter.

    Attributes
    ----------
    study, number
        What it is about, and its place.
    results
        Folder of its tables.
    judged
        The file of its verdicts; beside it are those of its diagnoses and its alarms.
    cells, runs
        The study's cells, and the jobs that trained them.
    available
        Its figures by name.
    placed
        The names of the figures in the order of the text.
    body, opening
        Its text and figures; the words with which a report can open, empty if it has none.
    sections
        The headings of its sections by their ids.
    """

    study: Study
    number: int
    results: Path
    judged: Path
    cells: pd.DataFrame
    runs: pd.DataFrame
    available: dict[str, Figure]
    placed: list[str] = field(default_factory=list)
    body: Markup = field(default_factory=Markup)
    opening: Markup = field(default_factory=Markup)
    sections: dict[str, Markup] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Anchor of the chapter."""
        return f"study-{slugify(self.study.name)}"

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
        repeated = self.cells.groupby(list(distinguishing(self.cells)))["seed"].nunique()
        return int(repeated.min()), int(repeated.max())

    @functools.cached_property
    def layers(self) -> pd.DataFrame:
        """Gradients, signals and lengths by cell, step and layer, as far as they are recorded."""
        columns = ["cell", "step", "layer", GRADIENT, SIGNAL, LENGTH]
        found = tables.read(self.results, "layers", self.study, columns)
        return found.reindex(columns=columns)

    @functools.cached_property
    def diagnoses(self) -> pd.DataFrame:
        """The diagnoses of its networks, as `gradprop.analysis.diagnosis.write` wrote them."""
        return self._found("diagnoses")

    @functools.cached_property
    def alarms(self) -> pd.DataFrame:
        """The alarms that its networks set off, from the same place."""
        return self._found("alarms")

    def _found(self, kind: str) -> pd.DataFrame:
        path = self.judged.with_name(f"{self.study.name}-{kind}.csv")
        asked = products.claims(self.judged.parent.parent, self.study)
        manifests.require(asked, path, self.study.name)
        return pd.read_csv(path, dtype={"cell": str}, low_memory=False)

    def figure_number(self, name: str) -> str:
        """Return a number such as ``2.3``."""
        return f"{self.number}.{self.placed.index(name) + 1}"

    @property
    def place(self) -> Place:
        """The chapter as a place that cites."""
        return Place(self.id, f"{self.number} {self.study.title}")

    def render(self, environment: jinja2.Environment, bibliography: Bibliography) -> None:
        """Fill the body: the study's own prose if it has any, and the figures it does not place.

        Prose speaks of numbers. If the study was changed so that they cannot be measured, the prose
        is left out, and the chapter says so; the opening is a text by itself. Numbers and figures
        that there never were are mistakes.
        """
        place, refer, show = _helpers(self, environment)
        cite = functools.partial(bibliography.cite, where=self.place)
        numbers = functools.cache(self._numbers)
        try:
            text = self._prose(folders.CHAPTER, numbers, figure=place, ref=refer, cite=cite)
        except StudyChangedError as error:
            self.placed.clear()
            bibliography.forget(self.place)
            text = _left_out(error)
        try:
            self.opening = Markup(self._prose(folders.OPENING, numbers, picture=show))
        except StudyChangedError as error:
            text = _left_out(error) + text
        text += "".join(place(name) for name in self.available if name not in self.placed)
        text = _NUMBER.sub(lambda match: self.figure_number(match[1]), text)
        self.body, self.sections = _with_anchors(text, self.study)

    @property
    def contents(self) -> dict[str, Markup]:
        """What the table of contents lists by id: sections, or figures where there are none."""
        return self.sections or {
            figure.id: Markup('<span class="ordinal">{}</span>{}').format(number, figure.title)
            for number, figure in self.figures.items()
        }

    @property
    def main_figure(self) -> tuple[str, Figure] | None:
        """The first figure of the text with its number; the gallery shows it."""
        return next(iter(self.figures.items()), None)

    def _prose(
        self, name: str, numbers: Callable[[], prose.Numbers], **functions: Callable[..., Markup]
    ) -> str:
        """Return a text of the study as HTML, with its numbers; nothing if it has none."""
        path = self.study.folder and self.study.folder / name
        if not path or not path.exists():
            return ""
        return prose.render(path, {"study": self.study, "numbers": numbers()}, functions)

    def _numbers(self) -> prose.Numbers:
        try:
            return prose.Numbers(**studies.read_numbers(self.study, self.judged))
        except NotMeasured as lacking:
            raise StudyChangedError(f"its numbers: {lacking}") from lacking


def _helpers(
    chapter: Chapter, environment: jinja2.Environment
) -> tuple[Callable[[str], Markup], Callable[[str], Markup], Callable[[str], Markup]]:
    """Return what texts can call: ``figure(name)``, ``ref(name)``; openings ``picture(name)``."""

    def find(name: str) -> Figure:
        if name not in chapter.available:
            problem = errors.not_allowed(name, [*chapter.available])
            raise ReportError(f"figure: {problem}")
        return chapter.available[name]

    def figure(name: str) -> Markup:
        found = find(name)
        if name in chapter.placed:
            raise ReportError(f"figure {name!r} is placed twice")
        chapter.placed.append(name)
        number = chapter.figure_number(name)
        template = environment.get_template("figure.html.j2")
        return prose.Block(template.render(it=found, number=number))

    def ref(name: str) -> Markup:
        link = '<a href="#{}">Figure\N{NO-BREAK SPACE}{}</a>'
        return Markup(link).format(find(name).id, f"\0{name}\0")

    def picture(name: str) -> Markup:
        return prose.Block(environment.get_template("picture.html.j2").render(it=find(name)))

    return figure, ref, picture


def _left_out(reason: StudyChangedError) -> str:
    """Return the note that stands for a text, and say it where the run is watched."""
    print(f"gradprop: {reason}: this text is left out of the report", file=sys.stderr)
    return str(Markup('<p class="note">{} ({})</p>').format(PROSE_LEFT_OUT, reason))


def _with_anchors(text: str, study: Study) -> tuple[Markup, dict[str, Markup]]:
    """Give every ``<h3>`` and ``<h4>`` an id and a link to itself; return the former by id, too."""
    taken: dict[str, int] = {}
    sections = {}

    def anchored(match: re.Match[str]) -> str:
        level, heading = match[1], Markup(match[2])
        slug = slugify(heading.striptags())
        taken[slug] = taken.get(slug, 0) + 1
        suffix = f"-{taken[slug]}" if taken[slug] > 1 else ""
        anchor = f"section-{slugify(study.name)}.{slug}{suffix}"
        if level == "3":
            sections[anchor] = Markup(_LINK.sub("", heading))
        return Markup(
            '<h{0} id="{1}">{2} <a class="anchor" href="#{1}" aria-label="Link to {3}">#</a></h{0}>'
        ).format(
            level,
            anchor,
            heading,
            heading.striptags(),
        )

    body = Markup(re.sub(r"<h([34])>(.*?)</h\1>", anchored, text, flags=re.DOTALL))
    return body, sections


def read_chapter(study: Study, number: int, results: Path, reports: Path) -> Chapter:
    """Read what a study's chapter is made from."""
    folder = results / study.name
    return Chapter(
        study=study,
        number=number,
        results=folder,
        judged=reports / "claims" / f"{study.name}.json",
        cells=tables.read(folder, "cells", study),
        runs=tables.read(folder, tables.RUNS, study),
        available={name: read_figure(study, name, reports) for name in study.figures},
    )
