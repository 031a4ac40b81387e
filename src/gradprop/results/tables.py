"""The result tables: ``<results>/<study>/<table>/<shard>.parquet``.

Finished stacks lie in a store, ``<results>/<study>/stacks/<shard>/``, each with the rows of its
cells for every table and with what they were computed with. The tables of a shard are put together
from it: they hold the cells of the grid, and their bytes are a function of these cells alone.
Stacks of other code or other data count as missing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import feather

from gradprop import errors, files
from gradprop.errors import GradpropError
from gradprop.grid.sharding import shards
from gradprop.probes.measurements import MEASUREMENTS, measured
from gradprop.results import manifests, products
from gradprop.results.store import Entry, Store
from gradprop.spec import Shard, Study

# The tables of every shard. Rows of one cell are sorted by these keys, so that a file is a pure
# function of its cells.
TABLES: dict[str, list[str]] = {
    "cells": ["cell"],
    "steps": ["cell", "step"],
    "layers": ["cell", "step", "layer"],
}
RUNS = "runs"
# Cells whose rows are sorted and written at once; a row group of a file.
PART = 1024
# Bytes of rows that wait in memory to be sorted by cell.
PIECE = 2**26
_NOTE = "stack.json"


class IncompleteError(GradpropError):
    """Cells of the grid have no rows yet."""


def keys_of(shard: Shard) -> dict[str, list[str]]:
    """Return the tables of a shard, those of its measurements included, and their keys."""
    names = measured(shard.stacks[0].first.measurements)
    return TABLES | {name: MEASUREMENTS[name].all_keys for name in names}


def path_of(folder: Path, table: str, shard: str) -> Path:
    """Return the file of a shard in a table of the study whose results are in `folder`."""
    return folder / table / f"{shard}.parquet"


def paths_of(folder: Path, study: Study) -> list[Path]:
    """Return the tables of a study that figures and claims are made from."""
    found = shards(study.cells).values()
    return [path_of(folder, table, shard.name) for shard in found for table in keys_of(shard)]


def runs_of(folder: Path, study: Study) -> list[Path]:
    """Return the tables that say what the networks of a study were trained with."""
    return [path_of(folder, RUNS, shard) for shard in shards(study.cells)]


def stacks_folder(folder: Path, shard: str) -> Path:
    """Return where the finished stacks of a shard lie."""
    return folder / "stacks" / shard


class FinishedStacks:
    """The stacks of a shard that were trained, by this job and by earlier ones.

    Parameters
    ----------
    folder
        Results of the study.
    shard
        The shard.
    origin
        Digests of code and data; stacks with others do not count.
    """

    def __init__(self, folder: Path, shard: Shard, origin: Mapping[str, str]) -> None:
        self.folder, self.shard, self.origin = folder, shard, dict(origin)
        self._store = Store(stacks_folder(folder, shard.name))
        for spool in self._store.folder.glob(".spool*"):
            shutil.rmtree(spool)
        files.remove_leftovers(self._store.folder)
        self._notes: dict[Entry, dict[str, Any]] = {}
        self._others: list[Entry] = []
        for entry in self._store.entries():
            note = json.loads(entry.read(_NOTE))
            if note["origin"] == self.origin:
                self._notes[entry] = note
            else:
                self._others.append(entry)

    @property
    def cells(self) -> set[str]:
        """Ids of the cells that need no training."""
        return {cell for note in self._notes.values() for cell in note["cells"]}

    @property
    def others(self) -> int:
        """How many stacks are of other code or other data."""
        return len(self._others)

    def add(self, rows: Mapping[str, pd.DataFrame], run: Mapping[str, Any]) -> None:
        """Keep the rows of a stack for every table, and what they were computed with."""
        ids = rows["cells"]["cell"].tolist()
        note = {"origin": self.origin, "cells": ids, "run": dict(run)}
        members = {f"{table}.arrow": _feather(rows[table]) for table in keys_of(self.shard)}
        entry = self._store.put(ids[0], {_NOTE: json.dumps(note).encode(), **members})
        self._notes[entry] = note

    def runs(self, cells: Set[str]) -> list[dict[str, Any]]:
        """Return the runs that the rows of these cells come from, with the cells of each."""
        return [
            {**self._notes[entry]["run"], "cells": json.dumps(sorted(ids))}
            for entry, ids in self._sources(cells).items()
        ]

    def write(self, cells: Set[str]) -> list[Path]:
        """Write the tables of these cells, each atomically; return their files."""
        sources, written = self._sources(cells), []
        with tempfile.TemporaryDirectory(prefix=".spool", dir=self._store.folder) as spool:
            for table, keys in keys_of(self.shard).items():
                path = path_of(self.folder, table, self.shard.name)
                sorter = _Sorter(keys, cells, Path(spool, table))
                for entry, ids in sources.items():
                    rows = feather.read_table(pa.BufferReader(entry.read(f"{table}.arrow")))
                    whole = len(ids) == len(self._notes[entry]["cells"])
                    sorter.add(rows if whole else rows.filter(pc.field("cell").isin(ids)))
                sorter.write(path)
                written.append(path)
        path = path_of(self.folder, RUNS, self.shard.name)
        _write(pd.DataFrame(self.runs(cells)), path)
        return [*written, path]

    def forget_others(self) -> None:
        """Remove the stacks of other code or other data."""
        while self._others:
            self._others.pop().path.unlink()

    def _sources(self, cells: Set[str]) -> dict[Entry, set[str]]:
        """Return from which stack the rows of which cells are taken; of several the first."""
        waiting, found = set(cells), {}
        for entry in sorted(self._notes, key=lambda entry: entry.path.name):
            if ids := waiting & set(self._notes[entry]["cells"]):
                found[entry] = ids
                waiting -= ids
        if waiting:
            raise IncompleteError(f"{self._store.folder}: {len(waiting)} cells are missing")
        return found


def _feather(rows: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    feather.write_feather(rows.reset_index(drop=True), sink, compression="lz4")
    content: bytes = sink.getvalue().to_pybytes()
    return content


class _Sorter:
    """Sorts the rows of one table on disk, however many there are.

    Rows are laid down in pieces of about `PIECE` bytes, each sorted by cell. The sorted cells are
    divided into parts of `PART`; what the pieces have of a part becomes a row group of the file,
    whose bytes are a function of its cells.
    """

    def __init__(self, keys: list[str], cells: Iterable[str], spool: Path) -> None:
        self.keys, self.spool = keys, spool
        self.first_of_parts = sorted(cells)[::PART]
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._pieces: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows; lay down those that wait as soon as they make a piece."""
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= PIECE:
            self._lay_down()

    def _lay_down(self) -> None:
        rows = pa.concat_tables(self._waiting, promote_options="default").sort_by("cell")
        self._waiting, self._bytes = [], 0
        path = Path(f"{self.spool}.{len(self._pieces):06d}.arrow")
        feather.write_feather(rows, path, compression="uncompressed")
        # Read from the disk, not from memory, when a part of it is needed.
        self._pieces.append(feather.read_table(path, memory_map=True))

    def write(self, path: Path) -> None:
        """Put the sorted parts together."""
        if self._waiting:
            self._lay_down()
        schema = pa.unify_schemas([piece.schema.remove_metadata() for piece in self._pieces])
        with files.replacing(path) as temporary, ExitStack() as stack:
            writer = None
            for part in self._parts():
                rows = part.to_pandas().sort_values(self.keys, ignore_index=True)
                table = pa.Table.from_pandas(
                    rows.reindex(columns=schema.names), schema, preserve_index=False
                )
                if writer is None:
                    first = table.schema
                    writer = stack.enter_context(
                        pq.ParquetWriter(temporary, first, compression="zstd")
                    )
                writer.write_table(table.replace_schema_metadata(first.metadata))

    def _parts(self) -> Iterator[pa.Table]:
        """Yield the rows of every part."""
        edges = [
            [*np.searchsorted(piece["cell"].to_numpy(), self.first_of_parts), len(piece)]
            for piece in self._pieces
        ]
        for part in range(len(self.first_of_parts)):
            slices = [
                piece.slice(edge[part], edge[part + 1] - edge[part])
                for piece, edge in zip(self._pieces, edges, strict=True)
            ]
            yield pa.concat_tables(filter(len, slices), promote_options="default")


def read(
    folder: Path, table: str, study: Study, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table of a study, in the order of its grid.

    Rows of cells that are not in the grid of `study` are left out.

    Parameters
    ----------
    folder
        Results of the study.
    table
        ``cells``, ``steps``, ``layers``, ``runs`` or a measurement.
    study
        Says which cells belong to the grid.
    columns
        What is read of it, its keys included, as far as it is recorded; by default all.

    Raises
    ------
    gradprop.results.manifests.ManifestError
        If a file is missing or is not what its job wrote.
    IncompleteError
        If cells of the grid are missing.
    """
    found = {
        name: shard
        for name, shard in shards(study.cells).items()
        if table == RUNS or table in keys_of(shard)
    }
    frames = [_read_shard(folder, table, shard, columns) for shard in found.values()]
    rows = pd.concat(frames, ignore_index=True)
    if table == RUNS:
        return rows
    order = {cell.id: number for number, cell in enumerate(study.cells)}
    expected = {cell.id for shard in found.values() for cell in shard.cells}
    missing = len(expected - set(rows["cell"]))
    if missing:
        raise IncompleteError(
            f"{folder / table}: {missing} of {len(expected)} cells of the grid are missing; "
            f"{errors.how_to_make(study.name, again=False)}"
        )
    rows = rows[rows["cell"].isin(order.keys())]
    names = (TABLES.get(table) or MEASUREMENTS[table].all_keys)[1:]
    keys = [rows[key] for key in names]
    position = rows["cell"].map(order)
    ranked = pd.concat([position, *keys], axis=1).sort_values(["cell", *names]).index
    return rows.loc[ranked].reset_index(drop=True)


def _read_shard(
    folder: Path, table: str, shard: Shard, columns: Sequence[str] | None
) -> pd.DataFrame:
    path = path_of(folder, table, shard.name)
    # Of another grid it will do: rows are told by their cells.
    manifests.require(manifests.last_of(products.tables(folder, shard)), path, folder.name)
    if columns is not None:
        recorded = set(pq.read_schema(path).names)
        columns = [name for name in columns if name in recorded]
    return pd.read_parquet(path, columns=columns)


def _write(rows: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
