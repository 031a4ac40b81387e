"""Chapters: a study's prose with its figures and numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from gradprop import errors
from gradprop import studies as prose
from gradprop.errors import GradpropError
from gradprop.report.errors import ReportError, StudyChangedError
from gradprop.report.formatting import slugify
from gradprop.report.pictures import Figure, read_figure
from gradprop.report.tables import distinguishing
from gradprop.results import tables
from gradprop.spec import Study

TEMPLATES = Path(__file__).parent / "templates"
GENERIC_CHAPTER = "chapter.html.j2"
PROSE_LEFT_OUT = (
    "The text of this chapter was written for the study as it is shipped. It is left out, because "
    "the study was changed."
)


STATUSES = ("ok", "diverged", "underflowed")
# Stands for a figure's number until the figure's place in the chapter is known.
_NUMBER = re.compile("\0(.+?)\0")


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

    def figure_number(self, name: str) -> str:
        """Return a number such as ``2.3``."""
        return f"{self.number}.{self.placed.index(name) + 1}"

    def render(self, environment: jinja2.Environment, results: Path) -> None:
        """Fill the body: the study's own prose if it has any, the generic chapter if not.

        Prose speaks of the study as it is shipped. If the study was changed so that a number or
        a figure in it is gone, the generic chapter takes its place and says so.
        """
        own = prose.chapter_template(self.study)
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
            raise ReportError(f"{error}: no such template of a chapter") from None
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
            raise StudyChangedError(str(errors.unknown("figure", name, allowed, source)))
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
        slug = slugify(heading.striptags())
        taken[slug] = taken.get(slug, 0) + 1
        suffix = f"-{taken[slug]}" if taken[slug] > 1 else ""
        return Markup(
            '<h{0} id="{1}">{2} <a class="anchor" href="#{1}" aria-label="Link to {3}">#</a></h{0}>'
        ).format(
            level,
            f"section-{slugify(study.name)}.{slug}{suffix}",
            heading,
            heading.striptags(),
        )

    return Markup(re.sub(r"<h([34])>(.*?)</h\1>", anchored, text, flags=re.DOTALL))


def read_chapter(study: Study, number: int, results: Path, reports: Path) -> Chapter:
    """Read what a study's chapter is made from."""
    cells = tables.read(results / study.name, "cells", study)
    return Chapter(
        study=study,
        number=number,
        cells=cells,
        runs=tables.read(results / study.name, tables.RUNS, study),
        available={name: read_figure(study, name, reports) for name in study.figures},
    )
