"""How a figure differs from the published one that it regenerates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradprop.analysis.names import names_of
from gradprop.components import datasets
from gradprop.components.architecture import hidden_widths
from gradprop.grid.loading import needs_of
from gradprop.grid.selection import drawn
from gradprop.probes.measurements import total_steps
from gradprop.report.formatting import count, plural
from gradprop.spec import Cell, Study

MOST_LISTED = 3


@dataclass(frozen=True)
class Differences:
    """What the box under a figure says.

    Attributes
    ----------
    sentences
        What the study's file says of the published figure; none if nobody compared them.
    here
        The networks and data of this one, computed from the grid.
    """

    sentences: Sequence[str]
    here: str


def differences_of(study: Study, options: Mapping[str, Any]) -> Differences | None:
    """Return how a figure with these options differs from its source, None if it has none."""
    said = options.get("differs", [])
    if not said and "source" not in options:
        return None
    cells = drawn(study.cells, options, needs_of(options["kind"], study.folder))
    sentences = said if isinstance(said, list) else [said]
    return Differences(sentences, networks_and_data(cells, names_of(study)["dataset"]))


def networks_and_data(cells: Sequence[Cell], names: Mapping[str, str]) -> str:
    """Return how many networks of which sizes there are, what they learn from, and how long.

    Parameters
    ----------
    cells
        The networks.
    names
        What their data sets are called, by label.

    Returns
    -------
    str
        "10 networks with 4 and 5 hidden layers of 100 units, trained for 21,450 steps; minibatches
        of 10 from digits (1,437 training examples)."
    """
    examples = {cell.dataset: datasets.sizes(cell.dataset).training for cell in cells}
    layers = _amounts((cell.depth for cell in cells), "hidden layer")
    units = {number for cell in cells for number in hidden_widths(cell)}
    layers += f" of {_amounts(units, 'unit')}" if units else ""
    steps = {total_steps(cell, examples[cell.dataset]) for cell in cells}
    trained = f"trained for {_amounts(steps, 'step')}" if any(steps) else "untrained"
    sizes = _listed(cell.batch_size for cell in cells)
    data = " and ".join(
        f"{names.get(dataset.label, dataset.label)} ({_amounts([number], 'training example')})"
        for dataset, number in examples.items()
    )
    networks = plural(len(cells), "network", "networks")
    return f"{networks} with {layers}, {trained}; minibatches of {sizes} from {data}."


def _amounts(numbers: Iterable[int], noun: str) -> str:
    distinct = set(numbers)
    return f"{_listed(distinct)} {noun}{'' if distinct == {1} else 's'}"


def _listed(numbers: Iterable[int]) -> str:
    """Return numbers in order: "3", "3, 5 and 9", or "3 to 50" if they are more than a few."""
    *first, last = sorted(set(numbers))
    if len(first) >= MOST_LISTED:
        return f"{count(first[0])} to {count(last)}"
    return " and ".join(filter(None, [", ".join(map(count, first)), count(last)]))
