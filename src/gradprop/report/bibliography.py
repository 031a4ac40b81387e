"""The bibliography: what a report cites, and where."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from gradprop.claims import Result
from gradprop.claims.references import Reference, References


@dataclass(frozen=True)
class Place:
    """A part of the report that cites.

    Attributes
    ----------
    id
        Its anchor.
    name
        What readers know it by.
    """

    id: str
    name: str


CLAIMS = Place("claims", "Claims")


class Bibliography:
    """The references that a report cites, with the places that do; it grows as they cite."""

    def __init__(self, references: References) -> None:
        self.references = references
        self._places: dict[str, dict[Place, None]] = {}

    def source(self, result: Result) -> Markup:
        """Return the source of a claim with links: ``He et al. 2015, section 2.2; Hanin 2018``."""
        pieces = []
        for reference, words in self.references.cited(result.cites):
            link = self._link(reference, reference.label, CLAIMS) if reference else ""
            pieces.append(Markup(", ").join(piece for piece in (link, words) if piece))
        return Markup("; ").join(pieces) if pieces else Markup.escape(result.source)

    def cite(self, key: str, place: str = "", *, where: Place) -> Markup:
        """Return a citation for a sentence: ``He et al. (2015, section 2.2)``."""
        reference = self.references.find(key)
        within = f"{reference.names} ({', '.join(filter(None, (reference.fields['year'], place)))})"
        return self._link(reference, within, where)

    def forget(self, where: Place) -> None:
        """Take back what a place cites, whose text is left out."""
        for places in self._places.values():
            places.pop(where, None)

    def entries(self) -> list[tuple[str, Reference, list[tuple[str, str]]]]:
        """Return anchors and references, by authors and year, with the places that cite them.

        Of a place there are the anchor of the first citation, and the name; the claims come first.
        """
        cited = [self.references.find(key) for key, places in self._places.items() if places]
        cited.sort(key=lambda entry: (*entry.families, entry.fields["year"], entry.key))
        return [
            (
                _anchor(entry.key),
                entry,
                [
                    (_citation(entry.key, place), place.name)
                    for place in sorted(self._places[entry.key], key=lambda one: one != CLAIMS)
                ],
            )
            for entry in cited
        ]

    def _link(self, reference: Reference, text: str, where: Place) -> Markup:
        places = self._places.setdefault(reference.key, {})
        first = where not in places
        places[where] = None
        name = Markup(' id="{}"').format(_citation(reference.key, where)) if first else ""
        return Markup('<a href="#{}"{}>{}</a>').format(_anchor(reference.key), name, text)


def _anchor(key: str) -> str:
    return f"reference-{key}"


def _citation(key: str, where: Place) -> str:
    return f"cited-{key}.{where.id}"
