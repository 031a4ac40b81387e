"""What claims and numbers need of a study, and how they refuse where a changed study lacks it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from gradprop import errors
from gradprop.errors import CodeError, GradpropError
from gradprop.grid.selection import select
from gradprop.probes import statistics
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.spec import Cell, Study

Found = TypeVar("Found", bound=Sized)
Item = TypeVar("Item")


class NotMeasured(Exception):
    """A study lacks what a claim or a number is about; the message says what.

    A study may be changed in any way that its schema allows, so that this is a result, and no
    mistake of the user's: a claim is not tested then, and a chapter's prose is left out. Every
    other exception of a claim is a mistake in its code.
    """


@contextmanager
def failures_placed(
    study: Study, file: str, what: str, code: Callable[..., object] | None = None
) -> Iterator[None]:
    """Name the place where a study's own code fails; what is no mistake of it is told as it is.

    Parameters
    ----------
    study, file
        The study, and the file of its folder whose code runs.
    what
        What the code was run for.
    code
        The function that was run: its line is told where none of it was at work.

    Raises
    ------
    gradprop.errors.CodeError
        If it fails; the message names file and line.
    """
    try:
        yield
    except (GradpropError, MemoryError, NotMeasured, OSError):
        raise
    except (Exception, SystemExit) as error:
        path = (study.folder or Path()) / file
        place = errors.place_in_code(error, path)
        if place == str(path) and (body := getattr(code, "__code__", None)):
            place = f"{path.with_name(Path(body.co_filename).name)}:{body.co_firstlineno}"
        lacking = _Lacking.of(error)
        problem = lacking.text if lacking else errors.describe(error)
        raise CodeError(f"{place}: study {study.name}, {what}: {problem}") from error


@contextmanager
def unrecorded_refused(study: Study) -> Iterator[None]:
    """Refuse where code reads a column that a study would have if it recorded more.

    Raises
    ------
    NotMeasured
        The message names the key that records it.
    """
    try:
        yield
    except KeyError as error:
        lacking = _Lacking.of(error)
        if lacking and (reason := lacking.reason(study)):
            raise NotMeasured(reason) from error
        raise


_ADD = "add it to the key {} of its study.yaml"
# Methods of data frames that look up columns by their names.
_LOOKUPS = ("__getitem__", "_get_label_or_level_values", "groupby", "pivot", "set_index")


class _Lacking(NamedTuple):
    """A column that code asked a table for, and the table, which lacks it."""

    column: str
    rows: pd.DataFrame

    @classmethod
    def of(cls, error: BaseException) -> _Lacking | None:
        """Return what an error of pandas is about; None if it is about something else."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for frame in reversed(frames if isinstance(error, KeyError) else []):
            rows = frame.f_locals.get("self")
            if isinstance(rows, pd.DataFrame) and frame.f_code.co_name in _LOOKUPS:
                asked = re.findall(r"(?:^|\[)'([^']*)'", str(error))
                lacking = [name for name in asked if name not in rows.columns]
                return cls(lacking[0], rows) if lacking and rows.columns.nlevels == 1 else None
        return None

    @property
    def text(self) -> str:
        """The mistake, with the columns that there are."""
        columns = errors.nearest(self.column, list(self.rows.columns))
        return f"the table has no column {errors.show(self.column)}; it has {columns or 'none'}"

    def reason(self, study: Study) -> str:
        """Return what the study does not record, and the key that does; nothing if it is not that.

        The table of a measurement that is not made has no columns, but its name as their name.
        """
        name = self.rows.columns.name
        if name in MEASUREMENTS and self.rows.columns.empty:
            return f"the study does not make the measurement {name}; {_ADD.format('measurements')}"
        chosen = {cell.statistics for cell in study.cells}
        recorded = {name for one in chosen for name in statistics.recorded(one)}
        if self.column in statistics.STATISTICS and self.column not in recorded:
            return f"the study does not record {self.column}; {_ADD.format('statistics')}"
        return ""


def need(found: Found, what: str) -> Found:
    """Return what was found of the networks or rows `what`, unless that is nothing."""
    if len(found) == 0:
        raise NotMeasured(f"the study has no {what}")
    return found


def first(found: Iterable[Item], what: str) -> Item:
    """Return the first of what was found."""
    for item in found:
        return item
    raise NotMeasured(f"the study has no {what}")


def networks(cells: Sequence[Cell], **wanted: Any) -> list[Cell]:
    """Return the cells with these parameters (`select`), of which there has to be one."""
    return need(select(cells, wanted), f"networks with {_listing(wanted.items())}")


def one_per_seed(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Return networks that are compared seed by seed, of which no two may have one seed."""
    if len({cell.seed for cell in cells}) < len(cells):
        raise NotMeasured("the study has several such networks of one seed")
    return cells


def recorded(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return rows of a table, of which there has to be one, with these columns."""
    need(rows, "such networks")
    if lacking := [name for name in columns if name not in rows]:
        raise NotMeasured(f"the study does not record {', '.join(lacking)}")
    return rows


def distinct(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return rows of which no two agree in all keys: nobody could say which is compared."""
    if recorded(rows, *keys).duplicated([*keys]).any():
        raise NotMeasured(f"the study has several networks of one {', '.join(keys)}")
    return rows


def table(
    rows: pd.DataFrame, index: str | list[str], columns: str | list[str], values: str
) -> pd.DataFrame:
    """Return `values` as a table: a row per value of `index`, a column per value of `columns`."""
    keys = [*_names(index), *_names(columns)]
    return distinct(recorded(rows, values), *keys).pivot(
        index=index, columns=columns, values=values
    )


def at(found: Any, key: Hashable) -> Any:
    """Return the column of a table, the entries of a series or the value of a mapping at `key`."""
    labels = found.index if isinstance(found, pd.Series) else found.keys()
    if key not in labels:
        keys = key if isinstance(key, tuple) else (key,)
        names = [name or "" for name in getattr(labels, "names", [""] * len(keys))]
        wanted = zip(names, keys, strict=False)  # a key may leave the last levels open
        raise NotMeasured(f"the study has no networks with {_listing(wanted)}")
    return found[key]


def _names(columns: str | list[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else columns


def _listing(pairs: Iterable[tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {value}".strip() for name, value in pairs)
