"""A chapter's text: Markdown with formulas in TeX, and Jinja expressions for what is computed.

What an expression puts in is text, whatever it holds: it can't become Markdown, HTML or TeX. For
each value a sign of Unicode's private use areas goes through Markdown in its place, and the value
takes this place afterwards, escaped.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape
from mdit_py_plugins.dollarmath import dollarmath_plugin

from gradprop import errors
from gradprop.errors import GradpropError
from gradprop.report.errors import ReportError, StudyChangedError
from gradprop.report.formatting import FILTERS, templates_of
from gradprop.report.formulas import FormulaError, mathml

LINKS = ("https://", "http://", "mailto:", "#")

_FIRST = 0xF0000
_SIGN = re.compile("[\U000f0000-\U0010fffd]")
_PLACE = re.compile(f"<p>({_SIGN.pattern})</p>|({_SIGN.pattern})")


class Numbers(SimpleNamespace):
    """The computed numbers of a chapter's prose."""


class _Missing(jinja2.StrictUndefined):
    """What a text names and nothing has; where it is used, that is a mistake."""

    @property
    def _undefined_message(self) -> str:
        name, numbers = str(self._undefined_name), self._undefined_obj
        if not isinstance(numbers, Numbers):
            return super()._undefined_message
        known = [*vars(numbers)]
        listed = errors.nearest(name, known) or "none"
        return (
            f"numbers has no {errors.show(name)}; it has {listed}{errors.suggestion(name, known)}"
        )


class Block(Markup):
    """HTML that stands between paragraphs, as a figure does."""


def render(
    path: Path, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Markup]]
) -> str:
    """Return a chapter's text as HTML.

    Parameters
    ----------
    path
        The chapter: Markdown (CommonMark with tables and ``$...$``) and Jinja. Its sections begin
        with ``##``; its title is the study's. HTML in it is text, and links lead to the web, to an
        address of mail or to an anchor of the page.
    values
        What its expressions can name.
    functions
        What they can call; the HTML that these return stays what it is.

    Raises
    ------
    StudyChangedError
        If it speaks of a number that the study, as it was changed, cannot have.
    ReportError
        If it is not well written; the message names file and line.
    """
    return _Chapter(path).render(values, functions)


class _Chapter:
    """One rendering of a chapter: the signs in its text, and the HTML that each stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.html: list[Markup] = []

    def render(
        self, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Markup]]
    ) -> str:
        text = self._expand(values, {name: self._kept(f) for name, f in functions.items()})
        markdown = _Markdown()
        tokens = markdown.parse(text)
        self._check(tokens)
        return self._fill(markdown.renderer.render(tokens, markdown.options, {}))

    # ------------------------------------------------------------------------- expressions

    def _expand(self, values: Mapping[str, Any], functions: Mapping[str, Any]) -> str:
        """Return the Markdown that the expressions of the chapter give, with signs for values."""
        environment = templates_of(self.path.parent, finalize=self._put)
        environment.undefined = _Missing
        environment.filters |= {f.__name__: self._kept(f) for f in FILTERS}
        try:
            return environment.get_template(self.path.name).render(**values, **functions)
        except jinja2.TemplateSyntaxError as error:
            raise ReportError(self._told(error.message, error.lineno)) from None
        except jinja2.TemplateNotFound as error:
            raise ReportError(self._told(f"{error.name}: no such file")) from None
        except jinja2.UndefinedError as error:
            raise ReportError(self._told(error.message, self._line(error))) from error
        except GradpropError as error:
            kind = StudyChangedError if isinstance(error, StudyChangedError) else ReportError
            raise kind(self._told(str(error), self._line(error))) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {errors.cut(str(error), 200)}"
            raise ReportError(self._told(reason, self._line(error))) from error

    def _put(self, value: Any) -> str:
        """Return the sign for the value of an expression."""
        text = value.unescape() if isinstance(value, Markup) else str(value)
        sign = text.strip()
        return text if len(sign) == 1 and self._known(sign) else self._keep(escape(text))

    def _kept(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose HTML is kept as it is, with a sign in its place."""

        @functools.wraps(function)
        def keep(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            return self._keep(result) if isinstance(result, Markup) else result

        return keep

    def _keep(self, html: Markup) -> str:
        # A value may be put together from others, whose signs are then in it.
        inner = _SIGN.sub(lambda match: self._known(match[0]), html)
        self.html.append(type(html)(inner))
        sign = chr(_FIRST + len(self.html) - 1)
        return f"\n\n{sign}\n\n" if isinstance(html, Block) else sign

    def _known(self, sign: str) -> Markup:
        """Return what a sign stands for: nothing, if it is none of this chapter's."""
        number = ord(sign) - _FIRST
        return self.html[number] if 0 <= number < len(self.html) else Markup()

    # --------------------------------------------------------------------------- Markdown

    def _check(self, tokens: Sequence[Token]) -> None:
        """Convert the formulas, let sections stand below the title; refuse what can't be shown."""
        for number, token in enumerate(tokens):
            self._check(token.children or ())
            if token.type.startswith("math"):
                self._convert(token)
            elif token.type == "heading_open" and token.tag == "h1":
                title = tokens[number + 1].content
                self._refuse("a section begins with ##; the title is the study's", f"# {title}")
            elif token.type.startswith("heading"):
                token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
            elif token.type == "image":
                source = str(token.attrs["src"])
                self._refuse("pictures are placed with figure(name)", source)
            elif token.type == "link_open":
                address, title = str(token.attrs["href"]), str(token.attrs.get("title", ""))
                if not address.startswith(LINKS) or _SIGN.search(address + title):
                    allowed = f"a link begins with one of {', '.join(LINKS)} and holds no value"
                    self._refuse(f"{errors.show(address)}: {allowed}", address)

    def _convert(self, token: Token) -> None:
        tex = token.content.strip()
        try:
            token.content = mathml(tex, display=token.type != "math_inline")
        except FormulaError as error:
            self._refuse(f"${errors.cut(tex)}$: {error}", tex)

    def _refuse(self, message: str, piece: str) -> NoReturn:
        """Raise the error about a piece of the text, with its line if that can be found."""
        own = max(re.split(f"\n|{_SIGN.pattern}", piece), key=len)
        lines = self.path.read_text(encoding="utf-8").splitlines()
        found = (number for number, line in enumerate(lines, 1) if own in line)
        raise ReportError(self._told(message, next(found, None)))

    def _fill(self, html: str) -> str:
        """Return HTML with the values in place of their signs."""

        def value(match: re.Match[str]) -> str:
            known = self._known(match[1] or match[2])
            if isinstance(known, Block):
                return known
            return f"<p>{known}</p>" if match[1] else known

        return _PLACE.sub(value, html)

    # ----------------------------------------------------------------------------- errors

    def _told(self, message: str | None, line: int | None = None) -> str:
        place = f"line {line}: " if line else ""
        return f"{errors.cut_path(str(self.path))}: {place}{message}"

    def _line(self, error: BaseException) -> int | None:
        """Return the line of the chapter in which an expression failed."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == self.path]
        return lines[-1] if lines else None


class _Markdown(MarkdownIt):
    """CommonMark with tables and formulas; HTML is text."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "xhtmlOut": False})
        self.enable("table")
        dollarmath_plugin(
            self,
            allow_labels=False,
            allow_space=False,
            allow_digits=False,
            allow_blank_lines=False,
            double_inline=True,
        )
        # What may be wider than a phone can be scrolled there, with the keyboard as well.
        code = '<pre tabindex="0"><code>{}</code></pre>\n'
        for name, html, content in (
            ("math_inline", "{}", str),
            ("math_inline_double", "{}", str),
            ("math_block", '<div class="formula" tabindex="0">{}</div>\n', str),
            ("table_open", '<div class="table" tabindex="0">\n<table>\n', str),
            ("table_close", "</table>\n</div>\n", str),
            ("fence", code, escape),
            ("code_block", code, escape),
        ):
            self.add_render_rule(name, _shown(html, content))

    def normalizeLink(self, url: str) -> str:
        """Encode an address, but let the sign of a value be seen."""
        return url if _SIGN.search(url) else super().normalizeLink(url)

    def validateLink(self, url: str) -> bool:
        """Let all links through: they are looked at together, and a wrong one is an error."""
        return True


def _shown(html: str, content: Callable[[str], str]) -> Callable[..., str]:
    def show(_: object, tokens: Sequence[Token], index: int, *__: object) -> str:
        return html.format(content(tokens[index].content))

    return show
