"""A kind of figure: what it prepares, draws and describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradprop.grid.kinds import Needs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gradprop.results.study_tables import Options, StudyTables


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes
    ----------
    prepare
        From tables and options to the plotted numbers, one tidy row a mark.
    draw
        From those numbers alone to a figure. Components that divide it have names in place of
        labels there (`gradprop.analysis.names`); the option ``components`` has them by name.
    describe
        From those numbers to the alternative text.
    needs
        What a study's own kind needs of the grid. What those of the package need stands in
        `gradprop.grid.kinds`, which is read without loading Matplotlib.
    """

    prepare: Callable[[StudyTables, Options], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Options], Figure]
    describe: Callable[[pd.DataFrame, Options], str]
    needs: Needs = field(default_factory=Needs)


def statistics(options: Options) -> list[str]:
    """Return the option ``statistic`` as a list."""
    value = options["statistic"]
    return value if isinstance(value, list) else [value]
