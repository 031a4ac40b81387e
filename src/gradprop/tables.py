"""Reading and writing the result tables: ``<results>/<study>/<table>/<shard>.parquet``.

A table file carries the digest of the code and the checksum of the data that its rows were
computed with; rows of other code or other data count as missing.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path

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

    Rows of other origin and older rows of the same cells are replaced. Until `commit`, every stack
    waits in a folder of its own under ``<results>/<study>/.<shard>/``: memory holds the rows of one
    stack or of `PART` cells, and the stacks that a killed job had completed are found by the next.

    Parameters
    ----------
    folder
        Results of the study.
    shard
        Name of the shard.
    origin
        Digests of code and data; stacks with others that wait are thrown away.
    """

    def __init__(self, folder: Path, shard: str, origin: Mapping[str, str]) -> None:
        self.folder, self.shard, self.origin = folder, shard, dict(origin)
        self._waiting = folder / f".{shard}"
        self._note = self._waiting / "origin.json"
        if not self._note.exists() or json.loads(self._note.read_text("utf-8")) != self.origin:
            shutil.rmtree(self._waiting, ignore_errors=True)
        for half_written in self._waiting.glob(".*"):
            shutil.rmtree(half_written)
        self._stacks = sorted(path for path in self._waiting.glob("*") if path.is_dir())

    @property
    def waiting(self) -> set[str]:
        """Ids of the cells whose rows are complete but not in the tables yet."""
        columns = (pd.read_feather(stack / "cells.arrow", ["cell"]) for stack in self._stacks)
        return {str(cell) for column in columns for cell in column["cell"]}

    def add(self, rows: Mapping[str, pd.DataFrame]) -> None:
        """Take the rows of a stack, for every table; all of them are kept or none."""
        if not self._note.exists():
            files.write_text(self._note, json.dumps(self.origin))
        with tempfile.TemporaryDirectory(prefix=".", dir=self._waiting) as temporary:
            half_written = Path(temporary, "stack")
            half_written.mkdir()
            for table in keys_of(self.shard):
                _lay_down(rows[table], half_written / f"{table}.arrow")
            stack = self._waiting / rows["cells"]["cell"].iloc[0]
            half_written.rename(stack)
        self._stacks.append(stack)

    def commit(self) -> None:
        """Write the tables, one after another, each atomically."""
        added = self.waiting
        with tempfile.TemporaryDirectory(prefix=".", dir=self._waiting) as spool:
            for table, keys in keys_of(self.shard).items():
                path = path_of(self.folder, table, self.shard)
                sorter = _Sorter(path, keys, added, self.origin, Path(spool, table))
                for stack in self._stacks:
                    sorter.add(pd.read_feather(stack / f"{table}.arrow"))
                sorter.write()

    def forget(self) -> None:
        """Remove the stacks that waited; until then they can be committed again."""
        shutil.rmtree(self._waiting)
        self._stacks = []


def _lay_down(rows: pd.DataFrame, path: Path) -> None:
    rows.reset_index(drop=True).to_feather(path, compression="uncompressed")


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
            _lay_down(piece, folder / f"{self.pieces:06d}.arrow")
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
