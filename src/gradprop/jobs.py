"""The jobs that come before figures: making data sets, training the missing cells of a shard."""

from __future__ import annotations

import json
import os
import resource
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradprop import files, provenance, threads
from gradprop.components import datasets
from gradprop.components.datasets import Dataset
from gradprop.components.network import is_own
from gradprop.results import manifests, products, tables
from gradprop.results.tables import FinishedStacks
from gradprop.spec import Component, Shard, Stack
from gradprop.training import environment
from gradprop.training.stopwatch import Stopwatch

if TYPE_CHECKING:  # it brings TensorFlow with it
    from gradprop.training.recording import StackResult

# Tells the stacks of one job from those of another.
_JOB = uuid.uuid4().hex[:12]


def make_dataset(component: Component, path: Path) -> Dataset:
    """Write a data set, ``<results>/data/<dataset>.npz``, and its manifest."""
    dataset = datasets.write(component, path)
    manifests.write(
        products.dataset(path.parent, component),
        made=[path],
        modules=provenance.DATASET_MODULES,
        code=provenance.code_digest(provenance.DATASET_MODULES),
    )
    return dataset


def train_shard(shard: Shard, folder: Path, data: Path, stack_size: int) -> int:
    """Train the cells of a shard that its finished stacks lack, and write its tables.

    Every stack is kept as soon as it is trained, so that a job that is killed loses no other.
    TensorFlow is imported only if cells remain.

    Parameters
    ----------
    shard
        Its cells.
    folder
        Results of the study.
    data
        File of the data set.
    stack_size
        Most cells trained together.

    Returns
    -------
    int
        Number of cells trained.
    """
    with files.one_at_a_time(tables.stacks_folder(folder, shard.name), f"training {shard.name}"):
        return _train_missing(shard, folder, data, stack_size)


def _train_missing(shard: Shard, folder: Path, data: Path, stack_size: int) -> int:
    read = manifests.checksums([data])
    dataset = datasets.read(data)
    modules = _modules(shard)
    origin = {"code": provenance.code_digest(modules), "data": dataset.checksum}
    cells = {cell.id for cell in shard.cells}
    finished = tables.FinishedStacks(folder, shard, origin)
    missing = cells - finished.cells
    threads.keep_to_one()
    _say(shard, cells, missing, finished)
    if missing:
        clock, run = Clock(), describe_run(shard.name, origin["code"])
        stacks = [c for stack in shard.stacks for c in stack.only(missing).chunks(stack_size)]
        for result in _train(shard, stacks, dataset, clock.stopwatch):
            run |= clock.lap()
            with clock.stopwatch.phase("write"):  # which the next stack's lap has
                finished.add(result.tables, run)
    written = finished.write(cells)
    manifests.write(
        products.tables(folder, shard),
        made=written,
        inputs=read,
        modules=modules,
        code=origin["code"],
        machines={run["instructions"] for run in finished.runs(cells)},
    )
    finished.forget_others()
    return len(missing)


def _modules(shard: Shard) -> tuple[str, ...]:
    """Return the modules that the numbers of a shard depend on."""
    own = is_own(shard.stacks[0].first)
    return provenance.NETWORK_MODULES if own else provenance.NUMERIC_MODULES


def _say(shard: Shard, cells: set[str], missing: set[str], finished: FinishedStacks) -> None:
    """Say what is there, what is not, and what was computed elsewhere."""

    def say(text: str) -> None:
        print(f"[{shard.name}] {text}", file=sys.stderr)

    if not missing:
        say(f"all {len(cells)} cells are there")
    elif len(missing) < len(cells):
        say(f"{len(cells) - len(missing)} of {len(cells)} cells are there")
    if finished.others:
        say(f"{finished.others} stacks of other code or other data are left out")
    here = provenance.instructions()
    for there in {run["instructions"] for run in finished.runs(cells - missing)} - {here}:
        say(
            f"some cells were trained with the instructions {there}; here they are {here}: "
            "the same training may give other bits here"
        )


def _train(
    shard: Shard, stacks: list[Stack], dataset: Dataset, stopwatch: Stopwatch
) -> Iterator[StackResult]:
    own = is_own(stacks[0].first)
    with stopwatch.phase("import"):
        from gradprop.training import loop

        if own:
            from gradprop import networks
    threads.keep_to_one()  # the libraries that came with the import
    if own:
        yield from networks.train(shard, stacks, dataset, stopwatch)
    else:
        yield from loop.train(stacks, dataset, stopwatch, shard.name)


class Clock:
    """What a job has used since its last stack, seconds in total and by phase."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()
        self._wall: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._total = 0.0

    def lap(self) -> dict[str, Any]:
        """Return what was not returned yet; at first all that the process took before."""
        usage, before = resource.getrusage(resource.RUSAGE_SELF), self._total
        self._total = usage.ru_utime + usage.ru_stime
        wall, self._wall = self._wall, dict(self.stopwatch.seconds)
        cpu, self._cpu = self._cpu, dict(self.stopwatch.cpu_seconds)
        return {
            "cpu_seconds": self._total - before,
            "phase_seconds": _since(wall, self._wall),
            "phase_cpu_seconds": _since(cpu, self._cpu),
            "peak_memory_mib": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20,
        }


def _since(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    new = {phase: round(value - before.get(phase, 0.0), 3) for phase, value in now.items()}
    return json.dumps(new)


def describe_run(shard: str, code: str) -> dict[str, Any]:
    """Return what may differ between two trainings of the same stack, but for what they used.

    Parameters
    ----------
    shard
        Its name.
    code
        Digest of the code.
    """
    return {
        "shard": shard,
        "job": _JOB,
        "threads": environment.THREADS,
        "processor": provenance.processor(),
        "instructions": provenance.instructions(),
        "linear_algebra": provenance.linear_algebra(),
        "cores": os.cpu_count(),
        "versions": json.dumps(provenance.versions()),
        "code": code,
        "commit": provenance.commit(),
    }
