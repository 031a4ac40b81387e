"""Reading and writing the result tables: ``<results>/<study>/<table>/<shard>.parquet``.

A table file carries the digest of the code and the checksum of the data that its rows were
computed with; rows of other code or other data count as missing.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradprop import files
from gradprop.errors import GradpropError
from gradprop.grid import measured_tables, shards
from gradprop.measurements import MEASUREMENTS
from gradprop.spec import Study

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
_METADATA = b"gradprop"


def keys_of(shard: str) -> dict[str, list[str]]:
    """Return the tables of a shard, those of its measurements included, and their keys."""
    return TABLES | {name: MEASUREMENTS[name].all_keys for name in measured_tables(shard)}


def path_of(folder: Path, table: str, shard: str) -> Path:
    """Return the file of a shard in a table of the study whose results are in `folder`."""
    return folder / table / f"{shard}.parquet"


def finished_cells(folder: Path, shard: str, origin: Mapping[str, str]) -> set[str]:
    """Return the ids of the cells whose rows are in every table of a shard.

    Parameters
    ----------
    folder
        Results of the study.
    shard
        Name of the shard.
    origin
        Digests of code and data; rows with others do not count.
    """
    found = []
    for table in keys_of(shard):
        path = path_of(folder, table, shard)
        if not path.exists() or _origin(path) != dict(origin):
            return set()
        found.append(set(pq.read_table(path, columns=["cell"])["cell"].to_pylist()))
    return set.intersection(*found)


class ShardWriter:
    """Adds the rows of newly trained cells to the tables of a shard.

    Rows of other origin and older rows of the same cells are replaced. Until `commit`, the rows
    wait on disk: memory holds those of one stack or of `PART` cells, however many there are.

    Parameters
    ----------
    folder
        Results of the study.
    shard
        Name of the shard.
    cells
        Ids of all cells whose rows will be added.
    origin
        Digests of code and data.
    """

    def __init__(
        self, folder: Path, shard: str, cells: Set[str], origin: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._spool = tempfile.TemporaryDirectory(prefix=".", dir=folder)
        self._sorters = {
            table: _Sorter(
                path_of(folder, table, shard), keys, cells, origin, Path(self._spool.name, table)
            )
            for table, keys in keys_of(shard).items()
        }

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the rows that still wait."""
        self._spool.cleanup()

    def add(self, rows: Mapping[str, pd.DataFrame]) -> None:
        """Take the rows of a stack, for every table."""
        for table, sorter in self._sorters.items():
            sorter.add(rows[table])

    def commit(self) -> None:
        """Write the tables, one after another, each atomically."""
        for sorter in self._sorters.values():
            sorter.write()


class _Sorter:
    """Sorts the rows of one table file on disk.

    The sorted cells are divided into parts of `PART`; rows wait in one folder a part, and every
    part becomes a row group of the file. Its bytes are a function of its cells.
    """

    def __init__(
        self,
        path: Path,
        keys: list[str],
        added: Set[str],
        origin: Mapping[str, str],
        spool: Path,
    ) -> None:
        self.path, self.keys, self.origin, self.spool = path, keys, origin, spool
        kept = path.exists() and _origin(path) == dict(origin)
        old = set(pq.read_table(path, columns=["cell"])["cell"].to_pylist()) if kept else set()
        self.first_of_parts = sorted(old | added)[::PART]
        self.pieces = 0
        if kept:
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group).to_pandas()
                self.add(rows[~rows["cell"].isin(added)])

    def add(self, rows: pd.DataFrame) -> None:
        """Lay rows down in the folders of their parts."""
        parts = np.searchsorted(self.first_of_parts, rows["cell"].to_numpy(str), side="right")
        for part, piece in rows.groupby(parts):
            folder = self.spool / f"{part:06d}"
            folder.mkdir(parents=True, exist_ok=True)
            piece.reset_index(drop=True).to_feather(
                folder / f"{self.pieces:06d}.arrow", compression="uncompressed"
            )
            self.pieces += 1

    def write(self) -> None:
        """Put the sorted parts together."""
        pieces = sorted(self.spool.glob("*/*.arrow"))
        schemas = [pa.ipc.open_file(piece).schema.remove_metadata() for piece in pieces]
        schema = pa.unify_schemas(schemas)
        note = {_METADATA: json.dumps(dict(self.origin), sort_keys=True).encode()}
        with files.replacing(self.path) as temporary, ExitStack() as stack:
            writer = None
            for _, part in itertools.groupby(pieces, key=lambda piece: piece.parent):
                rows = pd.concat(map(pd.read_feather, part), ignore_index=True)
                rows = rows.sort_values(self.keys, ignore_index=True).reindex(columns=schema.names)
                table = pa.Table.from_pandas(rows, schema, preserve_index=False)
                if writer is None:
                    full = table.replace_schema_metadata({**table.schema.metadata, **note}).schema
                    writer = stack.enter_context(
                        pq.ParquetWriter(temporary, full, compression="zstd")
                    )
                writer.write_table(table.replace_schema_metadata(full.metadata))


def add_run(folder: Path, shard: str, run: Mapping[str, object]) -> None:
    """Append one row to the ``runs`` table of a shard."""
    path = path_of(folder, RUNS, shard)
    frames = [pd.read_parquet(path)] if path.exists() else []
    _write(pd.concat([*frames, pd.DataFrame([run])], ignore_index=True), path, {})


def read(folder: Path, table: str, study: Study) -> pd.DataFrame:
    """Read a whole table of a study, in the order of its grid.

    Rows of cells that are no longer in the grid stay in the files (nothing that was trained is
    thrown away) but are left out here.

    Parameters
    ----------
    folder
        Results of the study.
    table
        ``cells``, ``steps``, ``layers``, ``runs`` or a measurement.
    study
        Says which cells belong to the grid.

    Raises
    ------
    GradpropError
        If the study has no results.
    """
    paths = [path_of(folder, table, name) for name in shards(study.cells)]
    frames = [pd.read_parquet(path) for path in paths if path.exists()]
    if not frames:
        raise GradpropError(f"{folder / table}: no results; to make them: snakemake --cores 4")
    rows = pd.concat(frames, ignore_index=True)
    if table == RUNS:
        return rows
    order = {cell.id: number for number, cell in enumerate(study.cells)}
    rows = rows[rows["cell"].isin(order.keys())]
    names = (TABLES.get(table) or MEASUREMENTS[table].all_keys)[1:]
    keys = [rows[key] for key in names]
    position = rows["cell"].map(order)
    ranked = pd.concat([position, *keys], axis=1).sort_values(["cell", *names]).index
    return rows.loc[ranked].reset_index(drop=True)


def _origin(path: Path) -> dict[str, str]:
    metadata = pq.read_schema(path).metadata or {}
    origin: dict[str, str] = json.loads(metadata.get(_METADATA, b"{}"))
    return origin


def _write(rows: pd.DataFrame, path: Path, origin: Mapping[str, str]) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    note = {_METADATA: json.dumps(dict(origin), sort_keys=True).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **note})
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
