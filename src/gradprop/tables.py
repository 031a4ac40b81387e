"""Reading and writing the result tables: ``<results>/<study>/<table>/<shard>.parquet``.

A table file carries the digest of the code and the checksum of the data that its rows were
computed with; rows of other code or other data count as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradprop import files
from gradprop.errors import GradpropError
from gradprop.grid import shards
from gradprop.spec import Study

# Rows of one cell are sorted by these keys, so that a file is a pure function of its cells.
TABLES: dict[str, list[str]] = {
    "cells": ["cell"],
    "steps": ["cell", "step"],
    "layers": ["cell", "step", "layer"],
}
RUNS = "runs"
_METADATA = b"gradprop"


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
    for table in TABLES:
        path = path_of(folder, table, shard)
        if not path.exists() or _origin(path) != dict(origin):
            return set()
        found.append(set(pq.read_table(path, columns=["cell"])["cell"].to_pylist()))
    return set.intersection(*found)


def add_rows(
    folder: Path, shard: str, rows: Mapping[str, Sequence[pd.DataFrame]], origin: Mapping[str, str]
) -> None:
    """Add the rows of newly trained cells to the tables of a shard.

    Rows of other origin and older rows of the same cells are replaced.
    """
    for table, keys in TABLES.items():
        path = path_of(folder, table, shard)
        new = pd.concat(rows[table], ignore_index=True)
        if path.exists() and _origin(path) == dict(origin):
            old = pd.read_parquet(path)
            new = pd.concat([old[~old["cell"].isin(set(new["cell"]))], new], ignore_index=True)
        _write(new.sort_values(keys, ignore_index=True), path, origin)


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
        ``cells``, ``steps``, ``layers`` or ``runs``.
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
    keys = [rows[key] for key in TABLES[table][1:]]
    position = rows["cell"].map(order)
    ranked = pd.concat([position, *keys], axis=1).sort_values(["cell", *TABLES[table][1:]]).index
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
