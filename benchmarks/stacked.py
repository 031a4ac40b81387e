"""Tasks that measure gradprop itself. Each runs in a process of its own (`benchmarks.worker`)."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from benchmarks import work
from gradprop import jobs
from gradprop.components import datasets
from gradprop.components.datasets import Dataset
from gradprop.grid import loading, sharding
from gradprop.probes.statistics import PRESETS, measure
from gradprop.results import tables
from gradprop.spec import Cell, Stack, digest
from gradprop.training.stopwatch import Stopwatch

STACK_SIZE = 40
Phases = dict[str, float]


def _cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def train_grid(block: Mapping[str, Any], data: str, repetition: int) -> dict[str, Any]:
    """Train a grid as the workflow's jobs do, import and tables included.

    Returns
    -------
    dict
        CPU seconds of the import and, for every depth, of its shard; and, of all shards together,
        by phase.
    """
    start = time.process_time()
    from gradprop.training import loop  # noqa: F401  (what the first shard would import)

    seconds = {"import": time.process_time() - start}
    with tempfile.TemporaryDirectory() as folder:
        for depth in block["depth"]:
            (shard,) = sharding.shards(work.expand({**block, "depth": depth})).values()
            seconds[str(depth)] = _cpu(
                lambda shard=shard: jobs.train_shard(  # type: ignore[misc]
                    shard, Path(folder), Path(data), stack_size=STACK_SIZE
                )
            )
        runs = [pd.read_parquet(path) for path in Path(folder).glob("runs/*.parquet")]
    phases: Phases = {"import": seconds["import"]}
    for text in pd.concat(runs)["phase_cpu_seconds"]:
        _add(phases, json.loads(text))
    return {"seconds": seconds, "phases": phases}


def _train_stack(stack: Stack, dataset: Dataset) -> Phases:
    """Train a stack; return the CPU seconds of its phases and ``loop``, the training loop.

    The loop is everything but the construction and the steps that trace the programs.
    """
    stopwatch = Stopwatch()
    total = _cpu(lambda: list(_quiet_train([stack], dataset, stopwatch)))
    phases = {"train": 0.0, "probe": 0.0, "evaluate": 0.0, **stopwatch.cpu_seconds}
    return {**phases, "loop": total - phases["build"] - phases["trace"]}


def _quiet_train(stacks: list[Stack], dataset: Dataset, stopwatch: Any) -> Iterator[object]:
    from gradprop.training import loop

    return loop.train(stacks, dataset, stopwatch, "benchmark")


def efficiency(block: Mapping[str, Any], data: str, repetition: int) -> dict[str, Any]:
    """Compare the FLOP rate of the training loop with that of a large sgemm, on one thread.

    Returns
    -------
    dict
        GFLOP per CPU second: ``sgemm``; ``step``, inside the training step; ``loop``, everything
        between two probes (minibatches, losses and accuracies included).
    """
    from gradprop.training import loop

    dataset = datasets.read(Path(data))
    rates = [_sgemm_rate()]
    work_done, seconds = 0.0, {"train": 0.0, "loop": 0.0}
    for stack in sharding.stacks(work.expand(block)):
        for chunk in stack.chunks(STACK_SIZE):
            phases = _train_stack(chunk, dataset)
            steps = loop.total_steps(chunk.first, len(dataset.x_train))
            work_done += 1e-9 * steps * len(chunk.cells) * work.step_flop(chunk.first)
            seconds["train"] += phases["train"]
            seconds["loop"] += phases["loop"] - phases["probe"] - phases["evaluate"]
            rates.append(_sgemm_rate())
    return {
        "sgemm": statistics.median(rates),
        "step": work_done / seconds["train"],
        "loop": work_done / seconds["loop"],
    }


def _sgemm_rate(size: int = 1024, repetitions: int = 20) -> float:
    import tensorflow as tf

    a, b = tf.random.normal((size, size)), tf.random.normal((size, size))
    tf.matmul(a, b)
    seconds = _cpu(lambda: [tf.matmul(a, b).numpy() for _ in range(repetitions)])
    return 2e-9 * size**3 * repetitions / seconds


def overhead(block: Mapping[str, Any], data: str, repetition: int) -> dict[str, Any]:
    """Train stacks without probes, at the default probes, and with the cheap set at every step.

    Returns
    -------
    dict
        For every depth and variant the CPU seconds of the phases, both activations together.
    """
    dataset = datasets.read(Path(data))
    # geomspace to many more probes than steps, rounded, is every step.
    every = {"statistics": "cheap", "probes": 100_000}
    variants: dict[str, dict[str, Any]] = {"without": {}, "default": {}, "every step": every}
    names = list(variants)
    names = names[repetition % 3 :] + names[: repetition % 3]  # no variant is always the first
    seconds: dict[str, dict[str, Phases]] = {}
    for depth in block["depth"]:
        times: dict[str, Phases] = {name: {} for name in variants}
        for name in names:
            cells = work.expand({**block, "depth": depth, **variants[name]})
            for stack in sharding.stacks(cells):
                with _no_probes() if name == "without" else ExitStack():
                    _add(times[name], _train_stack(stack, dataset))
        seconds[str(depth)] = times
    return {"seconds": seconds}


def probe(block: Mapping[str, Any], data: str, repetition: int) -> dict[str, Any]:
    """Take one probe of a stack apart.

    Returns
    -------
    dict
        CPU seconds of a step without a probe; of what a probed step takes more (its tensors are
        kept); and, for every preset and quantity, of the quantity's statistics in all layers.
    """
    from gradprop.training import loop, recording, stacking

    dataset = datasets.read(Path(data))
    (stack,) = sharding.stacks(work.expand(block))
    network = stacking.StackedNetwork(stack, dataset)
    batches = loop.minibatches(stack, len(dataset.x_train))
    plain = _typical(lambda: network.step(next(batches)))
    probed = _typical(lambda: network.step(next(batches), True))
    tensors = network.step(next(batches), True).layers
    assert tensors is not None
    seconds: dict[str, dict[str, float]] = {}
    for preset in ("cheap", "standard"):
        by_quantity: dict[str, list[str]] = {}
        for name in PRESETS[preset]:
            by_quantity.setdefault(name.removeprefix("log10_").split("_")[0], []).append(name)
        seconds[preset] = {
            quantity: _typical(
                lambda names=names: [  # type: ignore[misc]
                    measure(record, names)
                    for record in recording.layer_records(tensors, stack.first)
                ]
            )
            for quantity, names in by_quantity.items()
        }
    return {"step": plain, "kept tensors": probed - plain, "statistics": seconds}


def _typical(call: Callable[[], object], repetitions: int = 9) -> float:
    """Return the median of the CPU seconds of calls, of which the first does not count."""
    call()
    return statistics.median(_cpu(call) for _ in range(repetitions))


def _add(total: Phases, phases: Phases) -> None:
    for name, value in phases.items():
        total[name] = total.get(name, 0.0) + value


@contextmanager
def _no_probes() -> Iterator[None]:
    """Let training run without a single probe, which no configuration can ask for.

    The product always probes step 0; so the list of probes is emptied here, in the benchmark's
    process alone, and the tables, which would lack their rows, are not made.
    """
    from gradprop.training import loop, recording

    with (
        mock.patch.object(loop, "probe_steps", lambda steps, probes: []),
        mock.patch.object(recording.Recorder, "result", lambda recorder: None),
    ):
        yield


def scale(content: Mapping[str, Any], seeds: int, data: str, repetition: int) -> dict[str, Any]:
    """Expand, shard and train a study of many small cells.

    Returns
    -------
    dict
        Number of cells, and CPU seconds to expand the grid and make shards with their digests
        (what every start of the workflow computes), to train, to find that nothing is missing
        and to read the table of layers back.
    """
    start = time.process_time()
    study = loading.build_study("scale", content, seeds, source="benchmarks")
    shards = sharding.shards(study.cells)
    for shard in shards.values():
        digest(sorted(cell.id for cell in shard.cells))
    seconds = {"plan": time.process_time() - start}
    start = time.process_time()
    from gradprop.training import loop  # noqa: F401

    seconds["import"] = time.process_time() - start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def train() -> None:
            for shard in shards.values():
                jobs.train_shard(shard, folder, Path(data), stack_size=STACK_SIZE)

        seconds["train"] = _cpu(train)
        seconds["train again"] = _cpu(train)
        seconds["read"] = _cpu(lambda: tables.read(folder, "layers", study))
    return {"cells": len(study.cells), "seconds": seconds}


def one_step(
    networks: Sequence[Mapping[str, int]], block: Mapping[str, Any], data: str, repetition: int
) -> dict[str, Any]:
    """Time one training step of networks of other widths and depths.

    Parameters
    ----------
    networks
        For every network ``width``, ``depth`` and ``replicas``.
    block
        All other parameters.
    data
        File of the data set.
    repetition
        Ignored.

    Returns
    -------
    dict
        For every network, CPU seconds and GFLOP of a step.
    """
    dataset = datasets.read(Path(data))
    steps = []
    for network in networks:
        shape = {"width": network["width"], "depth": network["depth"]}
        cells = work.expand({**block, **shape, "seeds": network["replicas"]})
        steps.append(_time_step(cells, dataset))
    return {"steps": steps}


def _time_step(cells: Sequence[Cell], dataset: Dataset) -> dict[str, float]:
    from gradprop.training import loop, stacking

    stack = Stack(tuple(cells))
    network = stacking.StackedNetwork(stack, dataset)
    batch = next(loop.minibatches(stack, len(dataset.x_train)))

    def step() -> None:
        network.step(batch).losses.numpy()

    step()
    once = _cpu(step)  # also warms up
    count = min(50, max(3, round(0.5 / max(once, 1e-4))))
    seconds = statistics.median(_cpu(step) for _ in range(count))
    return {"seconds": seconds, "gflop": 1e-9 * len(cells) * work.step_flop(cells[0])}
