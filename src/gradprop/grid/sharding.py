"""Stacks and shards: which cells are trained together, and in which job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from gradprop.probes import measurements
from gradprop.spec import REPLICA_FIELDS, Cell, Scalar, Shard, Stack, digest


def stacks(cells: Sequence[Cell]) -> list[Stack]:
    """Group cells that differ in nothing but what may differ between replicas."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    shared = attrgetter(*(f.name for f in fields(Cell) if f.name not in REPLICA_FIELDS))
    for cell in cells:
        groups.setdefault(shared(cell), []).append(cell)
    return [Stack(tuple(group)) for group in groups.values()]


def shard_name(cell: Cell) -> str:
    """Return the name of the shard that a cell belongs to.

    Depths share a shard up to 32, from 33 to 64, from 65 to 128 and so on: deep networks, which
    take long, are trained in parallel, and shallow ones do not pay the import of TensorFlow for
    every depth. Networks that are only measured at initialization share one shard. At the end
    stand the tables of its measurements, if there are any.
    """
    span = "start"
    if cell.epochs:
        most = max(32, 1 << (cell.depth - 1).bit_length())
        span = f"depth{most // 2 + 1 if most > 32 else 0}to{most}"
    parts = [cell.dataset.slug, f"width{cell.width}", span]
    return "-".join([*parts, *measurements.measured(cell.measurements)])


def shards(cells: Sequence[Cell]) -> dict[str, Shard]:
    """Group cells into shards: one job and one file per table each."""
    groups: dict[str, list[Stack]] = {}
    for stack in stacks(cells):
        groups.setdefault(shard_name(stack.first), []).append(stack)
    return {name: Shard(name, tuple(group)) for name, group in groups.items()}


def shard_digest(shard: Shard) -> str:
    """Return a digest of the cells of a shard."""
    return digest([[s.first.id, [_differences(cell) for cell in s.cells]] for s in shard.stacks])


def _differences(cell: Cell) -> list[Scalar]:
    """Return what may tell a cell from others of its stack.

    Fields that came later are named, and only where they have not their default: digests of studies
    without them stay as they were.
    """
    first = [cell.column(name) for name in REPLICA_FIELDS[:5]]
    later = [
        f"{name}={cell.column(name)}"
        for name in REPLICA_FIELDS[6:]
        if getattr(cell, name) != Cell.__dataclass_fields__[name].default
    ]
    return [*first, *([cell.code] if cell.code else []), *later]
