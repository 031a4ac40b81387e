"""Result tables: adding rows, finding finished cells, reading a study."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gradprop import tables
from gradprop.grid import shard_name
from gradprop.spec import Cell, Study
from gradprop.tables import TABLES
from tests.reference import make_cell

ORIGIN = {"code": "c0", "data": "d0"}
CELLS = [make_cell(seed=seed) for seed in range(6)]
SHARD = shard_name(CELLS[0])
Rows = dict[str, pd.DataFrame]


def make_rows(cells: Sequence[Cell], shift: float = 0.0) -> Rows:
    """Return rows as a training leaves them: two probes, three layers."""
    random = {cell: np.random.default_rng(cell.seed).standard_normal(8) + shift for cell in cells}
    steps, layers = [], []
    for cell in cells:
        for number, step in enumerate((0, 9)):
            steps.append({"cell": cell.id, "step": step, "train_loss": random[cell][number]})
            for layer in (1, 2, 3):
                value = np.float32(random[cell][2 + number * 3 + layer - 1])
                layers.append({"cell": cell.id, "step": step, "layer": layer, "std": value})
    table = pd.DataFrame([{"cell": cell.id, **cell.columns()} for cell in cells])
    first_bad = pd.Series([3 if cell.seed % 2 else None for cell in cells], dtype="Int64")
    return {
        "cells": table.assign(first_bad_step=first_bad, loss=np.nan),
        "steps": pd.DataFrame(steps),
        "layers": pd.DataFrame(layers),
    }


def add(
    folder: Path,
    *stacks: Sequence[Cell],
    shard: str = SHARD,
    origin: Any = ORIGIN,
    **options: Any,
) -> None:
    writer = tables.ShardWriter(folder, shard, origin)
    for stack in stacks:
        writer.add(make_rows(stack, **options))
    writer.commit()
    writer.forget()


def ids(cells: Sequence[Cell]) -> set[str]:
    return {cell.id for cell in cells}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def visible(folder: Path) -> dict[str, bytes]:
    return {path: found for path, found in contents(folder).items() if not path.startswith(".")}


def make_study(cells: Sequence[Cell]) -> Study:
    return Study("study", "title", "question", tuple(cells))


def test_nothing_is_finished_at_first(tmp_path: Path) -> None:
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == set()


def test_rows_of_several_stacks_are_written_together(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2], CELLS[2:5])
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS[:5])
    assert sorted(contents(tmp_path)) == [f"{table}/{SHARD}.parquet" for table in sorted(TABLES)]


def test_added_rows_join_those_that_are_there(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2])
    add(tmp_path, CELLS[2:4])
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS[:4])
    assert len(tables.read(tmp_path, "layers", make_study(CELLS))) == 4 * 2 * 3


@pytest.mark.parametrize("cells", [4, tables.PART])
@pytest.mark.parametrize("table", TABLES)
def test_the_bytes_are_a_function_of_the_cells(
    table: str, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, all at once, forwards, backwards, and some of them twice."""
    monkeypatch.setattr(tables, "PART", cells)
    orders = {
        "once": [CELLS],
        "backwards": [CELLS[::-1]],
        "single": [[cell] for cell in CELLS],
        "halves": [CELLS[3:], CELLS[:3]],
        "twice": [CELLS[1:4], CELLS],
    }
    found = set()
    for name, parts in orders.items():
        for part in parts:
            add(tmp_path / name, part)
        found.add(tables.path_of(tmp_path / name, table, SHARD).read_bytes())
    assert len(found) == 1
    file = pq.ParquetFile(tables.path_of(tmp_path / "once", table, SHARD))
    assert file.num_row_groups == -(-len(CELLS) // cells)


def test_stacks_may_have_other_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that a stack lacks is undefined in its rows, and keeps its type."""
    monkeypatch.setattr(tables, "PART", 1)
    writer = tables.ShardWriter(tmp_path, SHARD, ORIGIN)
    for number, stack in enumerate((CELLS[:2], CELLS[2:4])):
        rows = make_rows(stack)
        rows["layers"] = rows["layers"].rename(columns={"std": f"std_{number}"})
        writer.add(rows)
    writer.commit()
    layers = tables.read(tmp_path, "layers", make_study(CELLS))
    first = layers["cell"].isin(ids(CELLS[:2]))
    assert layers.loc[first, "std_0"].notna().all() and layers.loc[~first, "std_0"].isna().all()
    assert layers["std_0"].dtype == layers["std_1"].dtype == np.float32


def test_stacks_of_an_interrupted_job_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it writes the third stack: the tables are as before, two stacks wait."""
    add(tmp_path, CELLS[:1])
    before = contents(tmp_path)
    writer = tables.ShardWriter(tmp_path, SHARD, ORIGIN)
    writer.add(make_rows(CELLS[1:3]))
    writer.add(make_rows(CELLS[3:4]))
    lay_down, calls = tables._lay_down, []

    def interrupted(rows: pd.DataFrame, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        lay_down(rows, path)

    monkeypatch.setattr(tables, "_lay_down", interrupted)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: None)  # nor does it tidy up
    with pytest.raises(KeyboardInterrupt):
        writer.add(make_rows(CELLS[4:]))
    monkeypatch.undo()
    assert visible(tmp_path) == before

    resumed = tables.ShardWriter(tmp_path, SHARD, ORIGIN)
    assert resumed.waiting == ids(CELLS[1:4])
    resumed.add(make_rows(CELLS[4:]))
    assert resumed.waiting == ids(CELLS[1:])
    resumed.commit()
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS)
    # Killed again before it could forget them: they are written again, to the same bytes.
    again = tables.ShardWriter(tmp_path, SHARD, ORIGIN)
    assert again.waiting == ids(CELLS[1:])
    again.commit()
    again.forget()
    add(tmp_path / "once", CELLS)
    once = contents(tmp_path / "once")
    assert contents(tmp_path) == {**once, **{f"once/{path}": found for path, found in once.items()}}


@pytest.mark.parametrize("change", [{"code": "c1"}, {"data": "d1"}])
def test_waiting_stacks_of_other_origin_are_thrown_away(
    change: dict[str, str], tmp_path: Path
) -> None:
    tables.ShardWriter(tmp_path, SHARD, ORIGIN).add(make_rows(CELLS[:2]))
    other = tables.ShardWriter(tmp_path, SHARD, {**ORIGIN, **change})
    assert other.waiting == set()
    assert contents(tmp_path) == {}


def test_rows_of_a_cell_are_replaced(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:3])
    add(tmp_path, CELLS[1:2], shift=100.0)
    steps = tables.read(tmp_path, "steps", make_study(CELLS))
    assert len(steps) == 3 * 2
    shifted = steps.groupby("cell")["train_loss"].min() > 50
    assert {str(cell) for cell in shifted[shifted].index} == ids(CELLS[1:2])


@pytest.mark.parametrize("change", [{"code": "c1"}, {"data": "d1"}])
def test_rows_of_other_origin_do_not_count_and_are_dropped(
    change: dict[str, str], tmp_path: Path
) -> None:
    other = {**ORIGIN, **change}
    add(tmp_path, CELLS[:3])
    assert tables.finished_cells(tmp_path, SHARD, other) == set()
    add(tmp_path, CELLS[3:5], origin=other)
    assert tables.finished_cells(tmp_path, SHARD, other) == ids(CELLS[3:5])
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == set()
    assert set(tables.read(tmp_path, "cells", make_study(CELLS))["cell"]) == ids(CELLS[3:5])


def test_the_order_of_the_origin_does_not_matter(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:1])
    backwards = dict(reversed(ORIGIN.items()))
    assert tables.finished_cells(tmp_path, SHARD, backwards) == ids(CELLS[:1])
    add(tmp_path, CELLS[1:2], origin=backwards)
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS[:2])


@pytest.mark.parametrize("table", TABLES)
def test_a_cell_is_finished_when_it_is_in_every_table(table: str, tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2])
    tables.path_of(tmp_path, table, SHARD).unlink()
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == set()
    add(tmp_path, CELLS[:1])
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS[:1])


def test_an_interrupted_write_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second table is not replaced; the new cells are found to be missing, and wait."""
    add(tmp_path, CELLS[:2])
    before = contents(tmp_path)
    replace, calls = Path.replace, []

    def interrupted(path: Path, target: Path) -> Path:
        calls.extend([path] if path.suffix == ".parquet" else [])
        if len(calls) == 2:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add(tmp_path, CELLS[2:4])
    after = visible(tmp_path)
    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in before) == 1
    assert tables.finished_cells(tmp_path, SHARD, ORIGIN) == ids(CELLS[:2])
    monkeypatch.setattr(Path, "replace", replace)
    resumed = tables.ShardWriter(tmp_path, SHARD, ORIGIN)
    assert resumed.waiting == ids(CELLS[2:4])
    resumed.commit()
    resumed.forget()
    add(tmp_path / "once", CELLS[:4])
    once = contents(tmp_path / "once")
    assert {name: contents(tmp_path)[name] for name in once} == once


def test_values_survive(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2])
    expected = make_rows(CELLS[:2])
    for table, keys in TABLES.items():
        found = tables.read(tmp_path, table, make_study(CELLS[:2]))
        rows = expected[table]
        pd.testing.assert_frame_equal(
            found.sort_values(keys, ignore_index=True), rows.sort_values(keys, ignore_index=True)
        )
        assert found.dtypes.equals(rows.dtypes)
    assert tables.read(tmp_path, "layers", make_study(CELLS[:2]))["std"].dtype == np.float32


def test_files_that_are_no_shard_of_the_study_are_not_read(tmp_path: Path) -> None:
    add(tmp_path, CELLS)
    add(tmp_path, CELLS[:3], shard="left-from-before")
    assert len(tables.read(tmp_path, "cells", make_study(CELLS))) == len(CELLS)


def test_a_study_is_read_in_the_order_of_its_grid(tmp_path: Path) -> None:
    order = [CELLS[number] for number in (4, 0, 5, 2)]
    add(tmp_path, CELLS[:3])
    add(tmp_path, CELLS[3:])
    assert tables.read(tmp_path, "cells", make_study(order))["cell"].tolist() == [
        cell.id for cell in order
    ]
    layers = tables.read(tmp_path, "layers", make_study(order))
    keys = list(layers[["cell", "step", "layer"]].itertuples(index=False, name=None))
    assert keys == [(c.id, step, layer) for c in order for step in (0, 9) for layer in (1, 2, 3)]
    assert layers.index.tolist() == list(range(len(layers)))


def test_cells_that_left_the_grid_stay_in_the_files(tmp_path: Path) -> None:
    add(tmp_path, CELLS)
    before = contents(tmp_path)
    assert len(tables.read(tmp_path, "cells", make_study(CELLS[:2]))) == 2
    assert len(tables.read(tmp_path, "cells", make_study(CELLS))) == 6
    assert contents(tmp_path) == before


def test_runs_are_appended(tmp_path: Path) -> None:
    for number in range(3):
        tables.add_run(tmp_path, SHARD, {"threads": number, "versions": "{}"})
    runs = tables.read(tmp_path, tables.RUNS, make_study(CELLS))
    assert runs["threads"].tolist() == [0, 1, 2]
