"""Axes of a grid: the values of a parameter, and the product of all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from gradprop.components import datasets
from gradprop.components import network as own_network
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import WIDTHS
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import (
    BIAS_INITIALIZERS,
    INITIALIZERS,
    of_layers,
)
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.components.network import NetworkFile
from gradprop.components.normalization import NORMALIZATIONS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.registry import Registry
from gradprop.components.schedules import SCHEDULES
from gradprop.probes import measurements, statistics
from gradprop.spec import Cell

REGISTRIES: dict[str, Registry[Any]] = {
    "activation": ACTIVATIONS,
    "dataset": DATASETS,
    "initializer": INITIALIZERS,
    "optimizer": OPTIMIZERS,
    "widths": WIDTHS,
    "normalization": NORMALIZATIONS,
    "clipping": CLIPPINGS,
    "schedule": SCHEDULES,
    "bias_initializer": BIAS_INITIALIZERS,
    "loss_scale": LOSS_SCALES,
}
# What a figure can select and be divided by: all but the digest of own components' code, which
# follows from these, and a study's own network, whose arguments have names of their own.
PARAMETERS = [f for f in fields(Cell) if f.name not in ("code", "network")]
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}


def expand(block: Mapping[str, Any], network: NetworkFile | None = None) -> Iterator[Cell]:
    """Yield the cells of one grid block: the product of its axes, the last key fastest.

    Parameters
    ----------
    block
        The axes.
    network
        What builds the study's networks, if it has that; its arguments are axes, too.
    """
    axes = {key: axis_values(key, value, network) for key, value in block.items()}
    axes["seed"] = axes.pop("seeds")
    for values in itertools.product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        if network:
            own = {name: given.pop(name) for name in network.arguments if name in given}
            given["network"] = network.component(own)
        cell = Cell(**given)
        code = " ".join(f"{kind}={code}" for kind, code in _codes(cell, network) if code)
        yield replace(cell, code=code) if code else cell


def _codes(cell: Cell, network: NetworkFile | None) -> Iterator[tuple[str, str]]:
    """Yield the digests of what a cell names that may be own, by kind.

    New kinds come last, which moves no id.
    """
    yield "dataset", datasets.facts(cell.dataset).code
    yield "initializer", INITIALIZERS[cell.initializer.name].code
    yield "activation", ACTIVATIONS[cell.activation.name].code
    yield "optimizer", OPTIMIZERS[cell.optimizer.name].code
    for name in statistics.own(cell.statistics):
        yield "statistic", statistics.STATISTICS[name].code
    for one in cell.layer_initializers:
        yield f"initializer {one.key}", INITIALIZERS[one.initializer.name].code
    yield own_network.NAME, network.code if network else ""


def axis_values(key: str, value: Any, network: NetworkFile | None = None) -> list[Any]:
    """Return the values of an axis, typed: a list is an axis, a scalar is fixed.

    ``{from: 1, to: 9, step: 2}`` is the list 1, 3, 5, 7, 9; ``seeds: 3`` is the list 0, 1, 2.
    Measurements and initializers of single layers are several components each.
    """
    if key == "measurements":
        return [measurements.canonical(value)]
    written = written_values(key, value)
    if network and key in network.arguments:
        return network.values(key, written)
    if key == "layer_initializers":
        return [of_layers(item) for item in written]
    if key in REGISTRIES:
        return [REGISTRIES[key].create(item) for item in written]
    kind = _TYPES[_field_type("seed" if key == "seeds" else key)]
    return [kind(item) for item in written]


def written_values(key: str, value: Any) -> Sequence[Any]:
    """Return the values of an axis as they are written; a range takes no memory.

    A list as a component's parameter multiplies out: ``{name: identity, gain: [0.5, 1.0]}`` are
    two initializers.
    """
    if key == "measurements":  # a list of what is measured together, not an axis
        return [value]
    if key == "seeds" and not isinstance(value, (list, Mapping)):
        return range(int(value))
    if isinstance(value, Mapping) and "from" in value:
        first, last, step = (int(value.get(name, 1)) for name in ("from", "to", "step"))
        return range(first, last + 1, step)
    items = value if isinstance(value, list) else [value]
    if key == "layer_initializers":
        return [layers for item in items for layers in _layers(item)]
    if key not in REGISTRIES:
        return items
    return [component for item in items for component in _components(item)]


def count_values(key: str, value: Any) -> int:
    """Return how many `written_values` there are, without making components of many parameters."""
    items = value if isinstance(value, list) else [value]
    if key == "layer_initializers":
        return sum(
            math.prod(len(one) for layer in item.values() for one in _lists(layer).values())
            for item in items
        )
    if key not in REGISTRIES:
        return len(written_values(key, value))
    return sum(math.prod(map(len, _lists(item).values())) for item in items)


def _components(item: Any) -> Iterator[Any]:
    """Yield the components of one entry of an axis."""
    if not isinstance(item, Mapping):
        yield item
        return
    lists = _lists(item)
    for values in itertools.product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _layers(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the initializers by layer of one entry of an axis, lists of parameters multiplied."""
    for components in itertools.product(*map(_components, item.values())):
        yield dict(zip(item, components, strict=True))


def _lists(item: Any) -> dict[str, list[Any]]:
    """Return the values that an entry of an axis gives to each of its keys."""
    if not isinstance(item, Mapping):
        return {}
    return {key: value if isinstance(value, list) else [value] for key, value in item.items()}


def _field_type(name: str) -> str:
    return next(str(f.type) for f in fields(Cell) if f.name == name)
