"""The tables of a study as figures and claims read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gradprop.errors import GradpropError
from gradprop.grid.selection import select
from gradprop.probes.measurements import measured
from gradprop.results import tables
from gradprop.spec import Cell, Study

Options = Mapping[str, Any]


# Columns that the study's `names` may give display names.
COMPONENTS = [f.name for f in fields(Cell) if f.type == "Component"]


class StudyError(GradpropError):
    """A figure can't be drawn from this study; the message says what it needs."""


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

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Table ``cells``, with the study's names for components."""
        cells = tables.read(self._results, "cells", self.study)
        for column in COMPONENTS:
            cells[column] = cells[column].replace(dict(self.study.names.get(column, {})))
        return cells

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Table ``steps``."""
        return tables.read(self._results, "steps", self.study)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Table ``layers``."""
        return tables.read(self._results, "layers", self.study)

    @cached_property
    def spectra(self) -> pd.DataFrame:
        """Table ``spectra``; empty if the study does not measure it."""
        return self._measurement("spectra")

    @cached_property
    def decision(self) -> pd.DataFrame:
        """Table ``decision``; empty if the study does not measure it."""
        return self._measurement("decision")

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """Table ``trajectories``; empty if the study does not measure it."""
        return self._measurement("trajectories")

    @cached_property
    def curvature(self) -> pd.DataFrame:
        """Table ``curvature``; empty if the study does not measure it."""
        return self._measurement("curvature")

    @cached_property
    def histograms(self) -> pd.DataFrame:
        """Table ``histograms``; empty if the study does not measure it."""
        return self._measurement("histograms")

    @cached_property
    def modes(self) -> pd.DataFrame:
        """Table ``modes``; empty if the study does not measure it."""
        return self._measurement("modes")

    def _measurement(self, name: str) -> pd.DataFrame:
        if not any(name in measured(cell.measurements) for cell in self.study.cells):
            return pd.DataFrame()
        return tables.read(self._results, name, self.study)

    def select(self, options: Options) -> pd.DataFrame:
        """Return the rows of ``cells`` that the option ``select`` keeps."""
        chosen = {cell.id for cell in select(self.study.cells, options.get("select", {}))}
        return self.cells[self.cells["cell"].isin(chosen)]

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
