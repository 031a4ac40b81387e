"""Choosing cells of a study by their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradprop.grid.axes import COMPONENT_TYPES
from gradprop.spec import Cell, Component, Scalar


def select(cells: Sequence[Cell], wanted: Mapping[str, Any]) -> list[Cell]:
    """Return the cells whose parameters are among those wanted.

    Parameters
    ----------
    cells
        Cells of one study.
    wanted
        For cell parameters a value or a list of values; components by their label.
    """
    allowed = {key: wanted_values(key, value) for key, value in wanted.items()}
    return [
        cell for cell in cells if all(cell.column(key) in values for key, values in allowed.items())
    ]


def deepest(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of the largest depth among them: layers then mean the same in all."""
    depth = max((cell.depth for cell in cells), default=0)
    return [cell for cell in cells if cell.depth == depth]


def wanted_values(key: str, value: Any) -> dict[Scalar, Scalar]:
    """Return the values of a parameter that a figure selects, and how they are written there."""
    values = value if isinstance(value, list) else [value]
    return {canonical_label(v) if key in COMPONENT_TYPES else v: v for v in values}


def canonical_label(label: str) -> str:
    """Return a component's label without parameters at their default: normal(stddev=0.01)."""
    try:
        component = Component.parse(label)
    except ValueError:
        return label
    for create in COMPONENT_TYPES.values():
        try:
            return create(component.document()).label
        except (KeyError, ValueError, OverflowError):
            continue
    return label
