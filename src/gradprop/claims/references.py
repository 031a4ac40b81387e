"""References: what claims and chapters cite, by the keys of BibTeX files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradprop import errors
from gradprop.errors import GradpropError

REQUIRED = ("author", "title", "year")
VENUES = ("journal", "booktitle", "publisher", "school", "institution", "howpublished")
MOST_NAMED_AUTHORS = 3
LINKS = ("doi", "eprint", "url")  # no TeX
PASSAGE = "passage-"


class CitationError(GradpropError):
    """A file of references can't be read, or a key is not in it."""


class Citation(NamedTuple):
    """A piece of a source: a reference and the place in it, or words alone."""

    key: str
    place: str


def citations(source: str) -> list[Citation]:
    """Return the pieces of a source, as ``he2015: section 2.2; hanin2018; derived here``.

    They are separated by semicolons. A single word, alone or before a colon, is the key of a
    reference; other pieces are words that name none (their key is empty).
    """
    found = []
    for piece in filter(None, map(str.strip, source.split(";"))):
        key, _, place = map(str.strip, piece.partition(":"))
        found.append(Citation("", piece) if re.search(r"\s", key) else Citation(key, place))
    return found


@dataclass(frozen=True)
class Reference:
    """An entry of a file of references.

    Attributes
    ----------
    key, path
        Its key, and the file that has it.
    families, authors
        The authors' last names; all authors in full, as text.
    fields
        All of its fields by their names in small letters, in plain text.
    """

    key: str
    path: Path
    families: tuple[str, ...]
    authors: str
    fields: Mapping[str, str]

    @property
    def names(self) -> str:
        """The authors as they are cited: ``Hanin and Nica``, ``He et al.``."""
        if len(self.families) > MOST_NAMED_AUTHORS:
            return f"{self.families[0]} et al."
        return listing(self.families)

    @property
    def label(self) -> str:
        """Authors and year: ``Hanin and Nica 2020``."""
        return f"{self.names} {self.fields['year']}"

    @property
    def venue(self) -> str:
        """Where it appeared, as far as the entry says: ``Mathematics 1, 457–483``."""
        places = [self.fields[name] for name in (*VENUES, "series") if name in self.fields]
        volume = f" {self.fields['volume']}" if "volume" in self.fields else ""
        pages = f", {self.fields['pages']}" if "pages" in self.fields else ""
        return f"{', '.join(places)}{volume}{pages}"

    @property
    def link(self) -> tuple[str, str] | None:
        """What leads to it and its address: its DOI, else its number at arXiv, else its page."""
        if doi := self.fields.get("doi"):
            return f"doi:{doi}", f"https://doi.org/{doi}"
        if number := self.fields.get("eprint"):
            return f"arXiv:{number}", f"https://arxiv.org/abs/{number}"
        address = self.fields.get("url", "")
        return (address.partition("//")[2], address) if address else None


class References:
    """The entries of files of references, by key.

    Parameters
    ----------
    paths
        The files; those that do not exist have no entries.

    Raises
    ------
    CitationError
        If one can't be read, or two have different entries of one key.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = [path for path in paths if path.exists()]
        self.entries: dict[str, Reference] = {}
        for path in self.paths:
            for entry in _read(path):
                known = self.entries.setdefault(entry.key, entry)
                if known.fields != entry.fields:
                    where = f"{path}: key {entry.key!r}"
                    raise CitationError(f"{where}: {known.path} has another entry of this key")

    def find(self, key: str) -> Reference:
        """Return an entry.

        Raises
        ------
        CitationError
            If the key is not known; the message names the closest one.
        """
        if key not in self.entries:
            files = " and ".join(map(str, self.paths)) or "any file of references"
            close = errors.suggestion(key, [*self.entries])
            raise CitationError(f"{errors.show(key)} is no key in {files}{close}")
        return self.entries[key]

    def cited(self, source: str) -> list[tuple[Reference | None, str]]:
        """Return the pieces of a source: reference and place, or None and words.

        Raises
        ------
        CitationError
            If a key is not known, or words begin with a key whose colon was forgotten.
        """
        found = []
        for key, place in citations(source):
            first, _, rest = place.partition(" ")
            if not key and first.strip(",") in self.entries:
                wanted = errors.show(f"{first.strip(',')}: {rest}")
                raise CitationError(f"{errors.show(place)} is not allowed; write {wanted}")
            found.append((self.find(key) if key else None, place))
        return found

    def text(self, source: str) -> str:
        """Return a source for readers: ``He et al. 2015, section 2.2; Hanin 2018``."""
        pieces = (
            [reference.label if reference else "", place] for reference, place in self.cited(source)
        )
        return "; ".join(", ".join(filter(None, piece)) for piece in pieces)

    def passage(self, name: str, source: str) -> str:
        """Return what the first reference of a source says, in our words, by the passage's name."""
        references = [reference for reference, _ in self.cited(source) if reference]
        fields = references[0].fields if references else {}
        if f"{PASSAGE}{name}" not in fields:
            names = [field.removeprefix(PASSAGE) for field in fields if field.startswith(PASSAGE)]
            place = f"entry {references[0].key!r}" if references else "its source"
            close = errors.suggestion(name, names)
            raise CitationError(f"{place} has no passage {errors.show(name)}{close}")
        return fields[f"{PASSAGE}{name}"]


def listing(names: Iterable[str]) -> str:
    """Return names with commas, the last one after ``and``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _read(path: Path) -> Iterator[Reference]:
    """Yield the entries of a file."""
    from bibtexparser import middlewares  # which only this needs, and which takes long to import
    from bibtexparser.entrypoint import parse_string
    from pylatexenc.latex2text import LatexNodes2Text

    text = LatexNodes2Text()

    def plain(*tex: str) -> str:
        return " ".join(text.latex_to_text(" ".join(tex)).split())

    logging.getLogger("bibtexparser").setLevel(logging.CRITICAL)  # it would tell of faults twice
    try:
        library = parse_string(
            path.read_text(encoding="utf-8"),
            append_middleware=[
                middlewares.NormalizeFieldKeys(),
                middlewares.SeparateCoAuthors(),
                middlewares.SplitNameParts(),
            ],
        )
    except (OSError, UnicodeDecodeError) as error:
        raise CitationError(f"{path}: {errors.cut(str(error), 200)}") from None
    for block in library.failed_blocks:
        reason = str(block.error).partition(". Note")[0] or "an entry does not end"
        line = (block.start_line or 0) + 1
        raise CitationError(f"{path}: line {line}: {errors.cut(reason, 200)}")
    for entry in library.entries:
        where = f"{path}: line {(entry.start_line or 0) + 1}: entry {entry.key!r}"
        fields = {field.key: field.value for field in entry.fields}
        if lacking := [name for name in REQUIRED if not fields.get(name)]:
            raise CitationError(f"{where}: has no {lacking[0]}")
        people = fields.pop("author")
        if "url" in fields and not re.match("https?://", fields["url"]):
            raise CitationError(
                f"{where}: url: {errors.show(fields['url'])} does not begin with http"
            )
        yield Reference(
            entry.key,
            path,
            tuple(plain(*one.von, *one.last) for one in people),
            listing([plain(*one.first, *one.von, *one.last, *one.jr) for one in people]),
            {n: v.strip() if n in LINKS else plain(v) for n, v in fields.items()},
        )
