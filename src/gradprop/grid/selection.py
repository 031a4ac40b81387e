"""Choosing cells of a study by their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradprop.components.initializers import parse_layers
from gradprop.grid.axes import REGISTRIES
from gradprop.grid.kinds import Needs
from gradprop.probes import measurements
from gradprop.spec import SEPARATORS, Cell, Component, Names, Scalar


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


def drawn(cells: Sequence[Cell], options: Mapping[str, Any], needs: Needs) -> list[Cell]:
    """Return the cells that a figure with these options is of.

    Parameters
    ----------
    cells
        Cells of its study.
    options, needs
        The figure's, and what its kind needs.
    """
    found = select(cells, options.get("select", {}))
    if needs.initializer:  # these kinds select by themselves
        found = [cell for cell in cells if cell.initializer.name == needs.initializer.name]
    if needs.measurement:
        found = [c for c in found if needs.measurement in measurements.measured(c.measurements)]
    return found


def deepest(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of the largest depth among them: layers then mean the same in all."""
    depth = max((cell.depth for cell in cells), default=0)
    return [cell for cell in cells if cell.depth == depth]


def wanted_values(key: str, value: Any) -> dict[Scalar, Scalar]:
    """Return the values of a parameter that a figure selects, and how they are written there."""
    values = value if isinstance(value, list) else [value]
    labels = key in REGISTRIES or key == "layer_initializers"
    return {canonical_label(key, v) if labels else v: v for v in values}


def canonical_label(axis: str, label: str) -> str:
    """Return a component's label without parameters at their default: normal(stddev=0.01).

    Of initializers of single layers it is their text, empty for ``none``.
    """
    try:
        if axis == "layer_initializers":
            found = () if label == "none" else parse_layers(label)
            return SEPARATORS[axis].join(one.label for one in found)
        return REGISTRIES[axis].create(Component.parse(label).document()).label
    except (KeyError, ValueError, OverflowError):
        return label


def canonical_names(names: Names) -> Names:
    """Return a study's display names, by axis, with their labels in canonical form."""
    return {
        axis: {canonical_label(axis, label): name for label, name in named.items()}
        for axis, named in names.items()
    }


def with_labels(
    options: Mapping[str, Any], names: Names, cells: Sequence[Cell]
) -> Mapping[str, Any]:
    """Return a figure's options with labels for the display names that its `select` has.

    One name may stand for several labels; what is a label of a cell stays one.
    """
    wanted = dict(options.get("select", {}))
    for axis in wanted.keys() & names.keys():
        value, known = wanted[axis], {cell.column(axis) for cell in cells}
        chosen: list[Any] = []
        for item in value if isinstance(value, list) else [value]:
            called = [
                label for label, name in names[axis].items() if name == item and label in known
            ]
            is_label = canonical_label(axis, item) in known
            chosen += [item] if is_label or not called else called
        wanted[axis] = chosen
    return {**options, "select": wanted} if wanted else options
