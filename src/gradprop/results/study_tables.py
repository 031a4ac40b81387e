"""The tables of a study as figures and claims read them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradprop import errors
from gradprop.errors import GradpropError
from gradprop.grid.selection import select
from gradprop.probes.measurements import MEASUREMENTS, measured
from gradprop.results import tables
from gradprop.spec import Cell, Study

Options = Mapping[str, Any]


# Parameters of a cell that are components of a registry.
COMPONENTS = [f.name for f in fields(Cell) if f.type == "Component"]


class StudyError(GradpropError):
    """A study lacks what a figure or a claim compares with; the message says what it needs."""


class StudyTables:
    """The result tables of a study, read when first used.

    Parameters
    ----------
    study
        Its grid decides which rows are read, its `names` how components are called.
    results
        Folder of the study's tables.
    """

    def __init__(self, study: Study, results: Path) -> None:
        self.study, self._results = study, results
        self._measurements: dict[str, pd.DataFrame] = {}

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Table ``cells``, with the study's names in place of labels."""
        cells = tables.read(self._results, "cells", self.study)
        for column, named in self.study.names.items():
            cells[column] = cells[column].replace(dict(named))
        return cells

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Table ``steps``."""
        return tables.read(self._results, "steps", self.study)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Table ``layers``."""
        return tables.read(self._results, "layers", self.study)

    def measurement(self, name: str) -> pd.DataFrame:
        """Return the table of a measurement; empty if the study does not make it.

        Raises
        ------
        ValueError
            If there is no such measurement.
        """
        if name not in MEASUREMENTS:
            raise ValueError(f"measurement {errors.not_allowed(name, list(MEASUREMENTS))}")
        if name not in self._measurements:
            made = any(name in measured(cell.measurements) for cell in self.study.cells)
            empty = pd.DataFrame(columns=pd.Index([], name=name))
            self._measurements[name] = (
                tables.read(self._results, name, self.study) if made else empty
            )
        return self._measurements[name]

    def select(self, options: Options) -> pd.DataFrame:
        """Return the rows of ``cells`` that the option ``select`` keeps."""
        chosen = {cell.id for cell in select(self.study.cells, options.get("select", {}))}
        return self.cells[self.cells["cell"].isin(chosen)]

    def diverged(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Tell, for every row of a table, whether its network has diverged by then.

        That is from the first step on whose loss is not finite; of a network of which only the
        last evaluation is not, always. A table without steps speaks of the end.
        """
        if rows.empty:
            return pd.Series(False, index=rows.index)
        cells = self.cells.set_index("cell")
        first = cells["first_bad_step"].astype("Float64").fillna(0).astype(float)
        first = first.where(cells["status"] == "diverged", np.inf)
        return rows["cell"].map(first) <= rows.get("step", sys.maxsize)

    def join(
        self, rows: pd.DataFrame, options: Options, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return the `rows` of the selected cells, with parameters of their cells as columns."""
        wanted = list(columns) if columns is not None else groups(options)
        cells = self.select(options)[["cell", *dict.fromkeys(wanted)]]
        # The table of steps has the learning rate, too.
        rows = rows.drop(columns=[name for name in wanted if name in rows])
        return rows.merge(cells, on="cell", how="inner")


def at_start(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the probe before the first step of every cell: networks at initialization."""
    return rows[rows["step"] == 0]


def groups(options: Options) -> list[str]:
    """Return the cell parameters by which a figure is divided: rows, columns and hue."""
    return [options[key] for key in ("rows", "columns", "hue") if key in options]


def at_step(rows: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Keep the first or last probe of every cell, as the option ``at`` says (start or end)."""
    steps = rows.groupby("cell", sort=False)["step"]
    edge = steps.transform("max" if options.get("at") == "end" else "min")
    return rows[rows["step"] == edge]
