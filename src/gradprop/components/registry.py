"""Registries: everything about a component in one object, its parameters and bounds included.

The schema of a study (`gradprop.grid.schema`), the tables of the manual (`gradprop.manual`), theory
and training read the entries; nothing about a component is stated a second time.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from gradprop.errors import show
from gradprop.spec import Component, Scalar

INSTALLED = Path("<installed>")  # stands for the files of installed packages
LARGEST_SIZE = 100_000  # of a layer or an example, whatever the memory
LARGEST_COUNT = 10_000_000  # of examples
LARGEST_SEED = 2**32 - 1  # that NumPy's and scikit-learn's generators both take

_BOUNDS = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "above": ("more than", operator.gt),
    "below": ("less than", operator.lt),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a registry entry.

    Attributes
    ----------
    default
        Its value where none is given. Its type is the type of the parameter. Never change it: cells
        that leave the parameter out would keep their id.
    description
        What it is, in one sentence; of a text with a `pattern`, what is allowed.
    minimum, maximum
        The smallest and the largest number that is allowed.
    above, below
        Bounds that are not allowed themselves.
    choices
        The texts that are allowed, if they can be listed.
    pattern, longest
        A regular expression that a text has to match, and the most characters it may have.
    """

    default: Scalar
    description: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    longest: int | None = None

    @property
    def problem(self) -> str:
        """Why the default is not allowed; empty if it is."""
        value: Any = self.default  # whatever a user wrote
        if isinstance(value, str):
            fits = value in self.choices if self.choices else self._matches(value)
            return "" if fits else f"{show(value)} is not allowed by its own rules"
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            return f"{show(value)} is neither text nor a finite number nor true or false"
        for name, (words, holds) in _BOUNDS.items():
            bound = getattr(self, name)
            if bound is not None and not holds(value, bound):
                return f"{show(value)} is not allowed; allowed: {words} {show(bound)}"
        return ""

    def _matches(self, text: str) -> bool:
        short = self.longest is None or len(text) <= self.longest
        return short and (self.pattern is None or bool(re.search(self.pattern, text, re.ASCII)))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every entry of a registry has.

    Attributes
    ----------
    definition
        What it is, as a formula or in one sentence: the manual's words.
    source
        Where it comes from.
    parameters
        The parameters by name.
    code
        Digest of the code of an own component (`gradprop.components.own`), which is part of the ids
        of its cells; empty for those of the package.
    place
        File and line of an own component; empty for those of the package.
    """

    definition: str
    source: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    code: str = ""
    place: str = ""

    @cached_property
    def defaults(self) -> dict[str, Scalar]:
        """The default of every parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


E = TypeVar("E", bound=Entry)


class Registry(dict[str, E]):
    """Entries by name, in the order of the manual; own components follow.

    Attributes
    ----------
    owners
        For every own component the files that define it, with the digest of all they say of it.
    unnamed
        The entry that a mapping without a name stands for, if it has the parameter of that name.
    """

    def __init__(self, entries: Mapping[str, E], unnamed: str = "") -> None:
        super().__init__(entries)
        self.unnamed = unnamed
        self.owners: dict[str, dict[Path, str]] = {}

    def of_study(self, file: Path | None = None) -> dict[str, E]:
        """Return the entries that a study may name.

        Parameters
        ----------
        file
            The ``components.py`` of the study, resolved; of other studies' own components it knows
            nothing.
        """
        allowed = {file, INSTALLED}
        return {
            name: entry
            for name, entry in self.items()
            if name not in self.owners or not allowed.isdisjoint(self.owners[name])
        }

    def create(self, value: str | Mapping[str, Any]) -> Component:
        """Normalize a component as it stands in a study's YAML: a name, or name and parameters.

        Raises
        ------
        KeyError
            If the name or a parameter is unknown.
        """
        given = {"name": value} if isinstance(value, str) else dict(value)
        if self.unnamed in given:
            given = {"name": self.unnamed, **given}
        return Component.create(given, {given["name"]: self[given["name"]].defaults})

    def parameters_of(self, component: Component) -> dict[str, Any]:
        """Return the value of every parameter of a component, defaults included."""
        return {**self[component.name].defaults, **dict(component.parameters)}
