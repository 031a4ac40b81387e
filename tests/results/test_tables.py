"""Result tables: adding rows, finding finished cells, reading a study."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from gradprop.grid.sharding import shard_name
from gradprop.results import manifests, tables
from gradprop.results.tables import TABLES, FinishedStacks
from gradprop.spec import Cell, Shard, Stack, Study
from tests.reference import make_cell

ORIGIN = {"code": "c0", "data": "d0"}
CELLS = [make_cell(seed=seed) for seed in range(6)]
SHARD = shard_name(CELLS[0])
STACKS = (Stack(tuple(CELLS)),)
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


RUN = {"job": "a", "processor": "p", "instructions": "i"}


def finished(
    folder: Path, shard: str = SHARD, origin: Mapping[str, str] = ORIGIN
) -> FinishedStacks:
    return FinishedStacks(folder, Shard(shard, STACKS), origin)


def add(
    folder: Path,
    *stacks: Sequence[Cell],
    cells: Sequence[Cell] = (),
    shard: str = SHARD,
    origin: Mapping[str, str] = ORIGIN,
    **options: Any,
) -> None:
    """Train stacks, as it were, and write the tables of `cells`, or of all that are finished."""
    kept = finished(folder, shard, origin)
    for stack in stacks:
        kept.add(make_rows(stack, **options), RUN)
    made = kept.write(ids(cells) or kept.cells)
    manifests.write(folder / f"manifests/{shard}.0123456789ab.json", made)
    kept.forget_others()


def ids(cells: Sequence[Cell]) -> set[str]:
    return {cell.id for cell in cells}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def written(folder: Path) -> dict[str, bytes]:
    """Return the tables alone, without runs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for table in TABLES
        for path in folder.glob(f"{table}/*.parquet")
    }


def make_study(cells: Sequence[Cell]) -> Study:
    return Study("study", "title", "question", tuple(cells))


def test_nothing_is_finished_at_first(tmp_path: Path) -> None:
    assert finished(tmp_path).cells == set()


def test_rows_of_several_stacks_are_written_together(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2], CELLS[2:5])
    assert finished(tmp_path).cells == ids(CELLS[:5])
    assert sorted(written(tmp_path)) == [f"{table}/{SHARD}.parquet" for table in sorted(TABLES)]


def test_added_rows_join_those_that_are_there(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:2])
    add(tmp_path, CELLS[2:4])
    assert finished(tmp_path).cells == ids(CELLS[:4])
    assert len(tables.read(tmp_path, "layers", make_study(CELLS[:4]))) == 4 * 2 * 3


@pytest.mark.parametrize("cells", [4, pytest.param(tables.PART, marks=pytest.mark.long)])
@pytest.mark.parametrize("table", TABLES)
def test_the_bytes_are_a_function_of_the_cells(
    table: str, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, all at once, forwards, backwards, some twice, and through the disk each."""
    monkeypatch.setattr(tables, "PART", cells)
    orders = {
        "once": [CELLS],
        "backwards": [CELLS[::-1]],
        "single": [[cell] for cell in CELLS],
        "halves": [CELLS[3:], CELLS[:3]],
        "twice": [CELLS[1:4], CELLS],
        "laid down": [[cell] for cell in CELLS],
    }
    found = set()
    for name, parts in orders.items():
        monkeypatch.setattr(tables, "PIECE", 1 if name == "laid down" else 2**26)
        for part in parts:
            add(tmp_path / name, part)
        found.add(tables.path_of(tmp_path / name, table, SHARD).read_bytes())
    assert len(found) == 1
    file = pq.ParquetFile(tables.path_of(tmp_path / "once", table, SHARD))
    assert file.num_row_groups == -(-len(CELLS) // cells)


def test_many_stacks_lie_on_the_disk_in_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as their bytes need: opening one for every stack and part took most of the time."""
    monkeypatch.setattr(tables, "PART", 1)
    laid_down = []
    write_feather = feather.write_feather

    def counting(rows: Any, path: Any, **options: Any) -> None:
        laid_down.append(path)
        write_feather(rows, path, **options)

    kept = finished(tmp_path)
    for cell in CELLS:
        kept.add(make_rows([cell]), RUN)
    monkeypatch.setattr(feather, "write_feather", counting)
    kept.write(ids(CELLS))
    assert len(laid_down) == len(TABLES)


@pytest.mark.parametrize("piece", [1, tables.PIECE])
def test_stacks_may_have_other_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """A column that a stack lacks is undefined in its rows, and keeps its type."""
    monkeypatch.setattr(tables, "PIECE", piece)
    monkeypatch.setattr(tables, "PART", 1)
    kept = finished(tmp_path)
    for number, stack in enumerate((CELLS[:2], CELLS[2:4])):
        rows = make_rows(stack)
        rows["layers"] = rows["layers"].rename(columns={"std": f"std_{number}"})
        kept.add(rows, RUN)
    kept.write(kept.cells)
    layers = pd.read_parquet(tables.path_of(tmp_path, "layers", SHARD))
    first = layers["cell"].isin(ids(CELLS[:2]))
    assert layers.loc[first, "std_0"].notna().all() and layers.loc[~first, "std_0"].isna().all()
    assert layers["std_0"].dtype == layers["std_1"].dtype == np.float32


def test_a_stack_is_kept_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it keeps the third stack: two are finished, nothing is left of the third."""
    kept = finished(tmp_path)
    kept.add(make_rows(CELLS[1:3]), RUN)
    kept.add(make_rows(CELLS[3:4]), RUN)
    before = contents(tmp_path)

    def interrupted(path: Path, target: Path) -> None:
        path.write_bytes(path.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # nor does it tidy up
    with pytest.raises(KeyboardInterrupt):
        kept.add(make_rows(CELLS[4:]), RUN)
    monkeypatch.undo()
    assert len(contents(tmp_path)) == len(before) + 1
    assert finished(tmp_path).cells == ids(CELLS[1:4])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", range(4))
def test_interrupted_tables_are_written_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Interrupted at any file that is renamed; the finished stacks are not touched."""
    add(tmp_path / "once", CELLS)
    kept = finished(tmp_path)
    kept.add(make_rows(CELLS[:4]), RUN)
    kept.add(make_rows(CELLS[4:]), RUN)
    replace, calls = Path.replace, itertools.count()

    def interrupted(path: Path, target: Path) -> Path:
        if next(calls) == call:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.write(ids(CELLS))
    monkeypatch.undo()
    assert finished(tmp_path).cells == ids(CELLS)
    finished(tmp_path).write(ids(CELLS))
    assert written(tmp_path) == written(tmp_path / "once")


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_stack_counts_as_lost_and_is_named(
    tmp_path: Path, damage: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    add(tmp_path, CELLS[:2], CELLS[2:])
    path = next(path for path in tmp_path.glob("stacks/*/*.zip") if CELLS[0].id in path.name)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(flipped if damage is None else damage)
    assert finished(tmp_path).cells == ids(CELLS[2:])
    assert f"{path}: damaged, and removed" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("change", [{"code": "c1"}, {"data": "d1"}])
def test_stacks_of_other_origin_do_not_count_and_are_dropped(
    change: dict[str, str], tmp_path: Path
) -> None:
    other = {**ORIGIN, **change}
    add(tmp_path, CELLS[:3])
    assert finished(tmp_path, origin=other).cells == set()
    assert finished(tmp_path, origin=other).others == 1
    add(tmp_path, CELLS[3:5], origin=other)
    assert finished(tmp_path, origin=other).cells == ids(CELLS[3:5])
    assert finished(tmp_path).cells == set()
    assert set(tables.read(tmp_path, "cells", make_study(CELLS[3:5]))["cell"]) == ids(CELLS[3:5])


def test_the_order_of_the_origin_does_not_matter(tmp_path: Path) -> None:
    add(tmp_path, CELLS[:1])
    backwards = dict(reversed(ORIGIN.items()))
    assert finished(tmp_path, origin=backwards).cells == ids(CELLS[:1])


def test_tables_have_the_cells_that_are_asked_for(tmp_path: Path) -> None:
    """Others stay in the store, and need no training if they are asked for again."""
    add(tmp_path, CELLS, cells=CELLS[1:4])
    for table in TABLES:
        rows = pd.read_parquet(tables.path_of(tmp_path, table, SHARD))
        assert set(rows["cell"]) == ids(CELLS[1:4])
    assert finished(tmp_path).cells == ids(CELLS)
    with pytest.raises(tables.IncompleteError, match="3 of 6 cells of the grid are missing"):
        tables.read(tmp_path, "layers", make_study(CELLS))


def test_cells_without_a_stack_are_not_written(tmp_path: Path) -> None:
    kept = finished(tmp_path)
    kept.add(make_rows(CELLS[:2]), RUN)
    with pytest.raises(tables.IncompleteError, match="1 cells are missing"):
        kept.write(ids(CELLS[:3]))
    assert written(tmp_path) == {}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "gone", "foreign"])
@pytest.mark.parametrize("table", [*TABLES, tables.RUNS])
def test_a_table_that_is_not_what_was_written_is_not_read(
    tmp_path: Path, table: str, damage: str
) -> None:
    add(tmp_path / "other", CELLS[:2])
    add(tmp_path, CELLS)
    path = tables.path_of(tmp_path, table, SHARD)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "truncated": content[:-20],
                "flipped": content[:60] + bytes([content[60] ^ 1]) + content[61:],
                "emptied": b"",
                "foreign": tables.path_of(tmp_path / "other", "cells", SHARD).read_bytes(),
            }[damage]
        )
    with pytest.raises(manifests.ManifestError) as e:
        tables.read(tmp_path, table, make_study(CELLS))
    again = f"made it again, e.g. snakemake --cores 4 --config 'studies=[{tmp_path.name}]'"
    assert str(e.value).startswith(f"{path}: ")
    assert str(e.value).endswith(f"; run the command that {again}")


def test_a_table_without_a_manifest_is_not_read(tmp_path: Path) -> None:
    add(tmp_path, CELLS)
    next((tmp_path / "manifests").iterdir()).unlink()
    with pytest.raises(manifests.ManifestError, match="no job has completed it"):
        tables.read(tmp_path, "cells", make_study(CELLS))


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


def test_columns_are_read_as_far_as_they_are_recorded(tmp_path: Path) -> None:
    add(tmp_path, CELLS)
    study = make_study(CELLS)
    found = tables.read(tmp_path, "layers", study, ["cell", "step", "layer", "nowhere"])
    every = tables.read(tmp_path, "layers", study)
    pd.testing.assert_frame_equal(found, every[["cell", "step", "layer"]])
    assert "std" in every


def test_cells_that_are_not_in_the_grid_are_left_out(tmp_path: Path) -> None:
    add(tmp_path, CELLS)
    before = contents(tmp_path)
    assert len(tables.read(tmp_path, "cells", make_study(CELLS[:2]))) == 2
    assert len(tables.read(tmp_path, "cells", make_study(CELLS))) == 6
    assert contents(tmp_path) == before


def test_runs_say_which_cells_they_trained(tmp_path: Path) -> None:
    kept = finished(tmp_path)
    for number, stack in enumerate((CELLS[:2], CELLS[2:5], CELLS[5:])):
        kept.add(make_rows(stack), {**RUN, "threads": number})
    kept.write(ids(CELLS[1:5]))
    runs = pd.read_parquet(tables.path_of(tmp_path, tables.RUNS, SHARD)).sort_values("threads")
    assert runs["threads"].tolist() == [0, 1]
    trained = [set(json.loads(cells)) for cells in runs["cells"]]
    assert trained == [ids(CELLS[1:2]), ids(CELLS[2:5])]
