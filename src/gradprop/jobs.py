"""What the workflow's training jobs do: find the missing cells of a shard and train them."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradprop import datasets, provenance, tables
from gradprop.datasets import Dataset
from gradprop.spec import Shard, Stack, digest
from gradprop.stopwatch import Stopwatch
from gradprop.threads import limit

if TYPE_CHECKING:  # it brings TensorFlow with it
    from gradprop.recording import StackResult


def train_shard(shard: Shard, folder: Path, data: Path, threads: int, stack_size: int) -> int:
    """Train the cells of a shard that its tables lack.

    The stacks that a killed job had completed are not trained again: this job writes their rows.
    TensorFlow is imported only if cells remain.

    Parameters
    ----------
    shard
        Its cells.
    folder
        Results of the study.
    data
        File of the data set.
    threads
        Threads that the job may use.
    stack_size
        Most cells trained together.

    Returns
    -------
    int
        Number of cells trained.
    """
    dataset = datasets.read(data)
    origin = {"code": provenance.code_digest(), "data": dataset.checksum}
    missing = {cell.id for cell in shard.cells} - tables.finished_cells(folder, shard.name, origin)
    writer = tables.ShardWriter(folder, shard.name, origin)
    interrupted = writer.waiting
    if not missing | interrupted:
        print(f"[{shard.name}] all {len(shard.cells)} cells are there", file=sys.stderr)
        if not tables.path_of(folder, tables.RUNS, shard.name).exists():  # somebody removed it
            tables.add_run(folder, shard.name, describe_run(shard, set(), threads, {}, {}))
        return 0
    if interrupted:
        print(f"[{shard.name}] {len(interrupted)} cells from an interrupted job", file=sys.stderr)
    missing -= interrupted
    stopwatch = Stopwatch()
    limit(threads)
    stacks = [chunk for stack in shard.stacks for chunk in stack.only(missing).chunks(stack_size)]
    for result in _train(stacks, dataset, stopwatch, shard.name, threads) if stacks else ():
        with stopwatch.phase("write"):
            writer.add(result.tables)
    with stopwatch.phase("write"):
        writer.commit()
    phases = stopwatch.seconds, stopwatch.cpu_seconds
    tables.add_run(folder, shard.name, describe_run(shard, missing | interrupted, threads, *phases))
    writer.forget()
    return len(missing)


def _train(
    stacks: list[Stack], dataset: Dataset, stopwatch: Stopwatch, label: str, threads: int
) -> Iterator[StackResult]:
    with stopwatch.phase("import"):
        from gradprop import stacking, training

    stacking.set_threads(threads)
    limit(threads)  # the libraries that came with the import
    yield from training.train(stacks, dataset, stopwatch, label)


def describe_run(
    shard: Shard,
    written: set[str],
    threads: int,
    seconds: Mapping[str, float],
    cpu_seconds: Mapping[str, float],
) -> dict[str, object]:
    """Return the row of the ``runs`` table: what may differ between two runs of the same cells.

    Parameters
    ----------
    shard
        Its cells.
    written
        Ids of the cells whose rows this job wrote.
    threads
        Threads that it was allowed.
    seconds, cpu_seconds
        Wall and CPU seconds by phase.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "shard": shard.name,
        "cells": json.dumps(sorted(written)),
        "threads": threads,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "phase_seconds": _rounded(seconds),
        "phase_cpu_seconds": _rounded(cpu_seconds),
        "peak_memory_mib": usage.ru_maxrss * unit / 2**20,
        "processor": provenance.processor(),
        "cores": os.cpu_count(),
        "versions": json.dumps(provenance.versions()),
        "code": provenance.code_digest(),
        "commit": provenance.commit(),
        "config": digest([cell.id for cell in shard.cells]),
    }


def _rounded(seconds: Mapping[str, float]) -> str:
    return json.dumps({phase: round(value, 3) for phase, value in seconds.items()})
