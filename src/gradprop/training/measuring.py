"""Measurements of a stack while it is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gradprop.components.datasets import Dataset
from gradprop.probes.measurements import (
    MEASUREMENTS,
    SCHEDULES,
    Columns,
    Network,
    Subject,
    measured,
)
from gradprop.probes.statistics import LayerRecord
from gradprop.spec import Cell


class Measurer:
    """Makes the measurements of a stack at its probes.

    Parameters
    ----------
    cells
        The cells of the stack.
    network
        Their networks.
    dataset
        What they are trained on.
    last
        The last step.
    """

    def __init__(
        self, cells: Sequence[Cell], network: Network, dataset: Dataset, last: int
    ) -> None:
        self.cells, self.last = cells, last
        self.subject = Subject(cells[0], network, dataset)
        self.chosen = measured(cells[0].measurements)
        self.parts: dict[str, list[pd.DataFrame]] = defaultdict(list)

    def before_step(self, step: int) -> None:
        """Measure the networks of a probe."""
        for name, parameters in self._due(step, of_layers=False):
            replicas = MEASUREMENTS[name].measure(self.subject, **parameters)
            for cell, columns in zip(self.cells, replicas, strict=True):
                self._add(name, cell, {"step": step}, columns)

    def observe(self, step: int, layer: int, record: LayerRecord) -> None:
        """Measure what a probed step computed in a layer."""
        for name, parameters in self._due(step, of_layers=True):
            for replica, cell in enumerate(self.cells):
                columns = MEASUREMENTS[name].measure(record, replica, **parameters)
                self._add(name, cell, {"step": step, "layer": layer}, columns)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the rows of every measurement."""
        return {name: pd.concat(parts, ignore_index=True) for name, parts in self.parts.items()}

    def _due(self, step: int, of_layers: bool) -> list[tuple[str, dict[str, Any]]]:
        return [
            (name, {key: value for key, value in parameters.items() if key != "at"})
            for name, parameters in self.chosen.items()
            if MEASUREMENTS[name].of_layers == of_layers
            and SCHEDULES[parameters["at"]](step, self.last)
        ]

    def _add(self, name: str, cell: Cell, place: Mapping[str, int], columns: Columns) -> None:
        rows = pd.DataFrame({"cell": cell.id, **place, **columns})
        self.parts[name].append(rows)
