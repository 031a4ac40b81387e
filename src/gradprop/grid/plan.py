"""What a configuration needs, before anything is made: jobs, CPU time, memory and disk.

A training job's needs are sums of amounts (layers traced, products of the steps, entries that
probes read, rows written …), which follow from its cells alone, each times a constant that was
fitted to the ``runs`` tables of measured jobs.

The constants of time and memory are least-squares fits, relative and not negative, to 53 jobs on
two cores of an AMD EPYC under TensorFlow 2.21, time phase by phase: widths 2 to 1024, depths 1 to
249, stacks of 1 to 40, every measurement, and the default configuration with two seeds. For 50 of
these jobs the estimate of CPU time was off by a factor of 1.07 in the median and of 1.43 at worst,
that of memory by 1.03 and 1.14. With the same cores shared among several users the same jobs took
1.35 times as much CPU time.

Tables on disk were off by 1.1 and, where networks are much alike and compress well, 2.7. Finished
stacks, which are kept beside the tables, were measured for six jobs, all within 1.3. Data sets,
figures and the report are left out.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from gradprop import errors
from gradprop.components import architecture, datasets
from gradprop.components.network import is_own
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.grid import config, folders, loading, sharding
from gradprop.grid.folders import PROJECT
from gradprop.probes.measurements import measured, probe_steps, total_steps
from gradprop.probes.statistics import PRESETS, recorded
from gradprop.spec import Cell, Component, Shard, Study

Amounts = dict[str, float]

CONFIG = Path("config/config.yaml")
GIB = 2.0**30
WATCHING = 600e6  # bytes of the processes of Snakemake around a job on a cluster

# CPU seconds of one of each amount (`program_work`, `cell_work`; "job" once for every job).
SECONDS: Amounts = {
    "program": 0.12,
    "cell": 0.0016,
    "layer built": 0.00017,
    "weight initialized": 3.7e-08,
    "layer traced": 0.022,
    "layer run once": 0.001,
    "normalized layer traced": 0.075,
    "adaptive layer traced": 0.03,
    "weight traced": 2.3e-08,
    "step": 0.0013,
    "layer stepped": 2.5e-05,
    "product of a step": 1.5e-10,
    "entry of a step": 5.6e-09,
    "weight updated": 3.1e-09,
    "evaluation": 0.0062,
    "layer evaluated": 0.00032,
    "normalized layer evaluated": 0.0053,
    "product evaluated": 3.4e-11,
    "unit evaluated": 1.6e-09,
    "layer probed": 0.00061,
    "entry probed (cheap)": 8.7e-10,
    "entry probed (standard)": 2.2e-09,
    "entry probed (full)": 2.4e-08,
    "histograms": 1.5e-07,
    "spectra": 4e-10,
    "decision": 3.9e-10,
    "trajectories": 9.5e-10,
    "curvature": 5.6e-10,
    "modes": 5.1e-10,
    "row written": 1.7e-06,
    "job": 4.6,
}
# Of networks that a study builds itself (`own_work`), fitted to 29 convolutional ones of 5 to 50
# layers with 8 or 16 channels on images of 8 x 8, all within a factor of 1.3 but those that are not
# trained, of 2.5 (too much). How large their layers are is not known before they are built: those
# that take more than a millisecond per step take longer than estimated.
OWN_SECONDS: Amounts = {
    "network": 0.15,
    "layer built": 0.02,
    "layer traced": 0.04,
    "step": 0.002,
    "layer stepped": 0.0006,
    "layer evaluated": 0.001,
    "layer probed": 0.01,
    "row written": 1.7e-06,
}
OWN_LAYER = 9e6  # bytes of memory of each of their layers
# Bytes of memory of one of each amount (`memory_amounts`).
MEMORY: Amounts = {
    "data": 9.2,
    "layer": 360000.0,
    "rows": 370.0,
    "units (start)": 3.1,
    "units (trained)": 7.5,
    "weights (start)": 4.1,
    "weights (trained)": 9.1,
    "weights of before (start)": 3.2,
    "weights of before (trained)": 3.2,
    "job": 740000000.0,
}
# Bytes on disk of a job's files without rows; of a row, in its table and in its stack; for `layers`
# of a number.
FILES = 60_000.0
ROW: Amounts = {
    "cells": 60.0,
    "steps": 50.0,
    "number in layers": 11.5,
    "histograms": 36.0,
    "spectra": 18.0,
    "decision": 16.0,
    "trajectories": 90.0,
    "curvature": 22.0,
    "modes": 45.0,
}


@dataclass(frozen=True)
class Program:
    """The sizes of a cell that its needs follow from.

    Attributes
    ----------
    cell
        Any cell of a stack.
    units
        Of all layers, the input first and the output last.
    training, test
        Numbers of examples.
    steps, probes
        Numbers of optimizer steps and of recordings.
    """

    cell: Cell
    units: list[int]
    training: int
    test: int
    steps: int
    probes: int

    @classmethod
    def of(cls, cell: Cell) -> Program:
        """Return the sizes of a cell."""
        data = datasets.sizes(cell.dataset)
        outputs = architecture.output_units(cell, datasets.outputs(cell.dataset))
        units = [*architecture.hidden_widths(cell), outputs]
        steps = total_steps(cell, data.training)
        probes = len(probe_steps(steps, cell.probes))
        return cls(cell, [data.features, *units], data.training, data.test, steps, probes)

    @property
    def layers(self) -> int:
        """Number of layers, the output included."""
        return len(self.units) - 1

    @property
    def weights(self) -> int:
        """Entries of all kernels of a cell."""
        return sum(before * after for before, after in pairwise(self.units))

    @property
    def neurons(self) -> int:
        """Units of all layers but the input."""
        return sum(self.units[1:])

    @property
    def statistics(self) -> str:
        """The smallest preset that has all that is recorded."""
        names = {*recorded(self.cell.statistics)} & {*PRESETS["full"]}  # without own ones
        return next((name for name in PRESETS if names <= set(PRESETS[name])), "full")

    @property
    def measurements(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """How often each measurement is made, and its parameters."""
        times = {"start": 1, "end": 1, "both": min(2, self.probes), "probes": self.probes}
        chosen = measured(self.cell.measurements)
        return {name: (times[known["at"]], known) for name, known in chosen.items()}


def program_work(program: Program) -> Amounts:
    """Return the work that a stack of any size costs once."""
    cell, layers = program.cell, program.layers
    normalized = layers if cell.normalization.name != "none" else 0
    adaptive = layers if OPTIMIZERS[cell.optimizer.name].state else 0
    # A step with a probe and one without become graphs; one that stays alone runs as it is.
    graphs = 2 if program.steps else 0
    evaluations = program.probes * math.ceil(program.test / 512) + math.ceil(program.training / 512)
    return {
        "program": 1,
        "step": program.steps,
        "evaluation": evaluations if program.steps else 0,
        "layer built": layers,
        "layer traced": layers * graphs,
        "normalized layer traced": normalized * graphs,
        "adaptive layer traced": adaptive * graphs,
        "layer run once": 0 if program.steps else layers,
        "layer stepped": layers * program.steps,
        "layer evaluated": layers * evaluations if program.steps else 0,
        "normalized layer evaluated": normalized * evaluations if program.steps else 0,
        "layer probed": layers * program.probes,
    }


def cell_work(program: Program) -> Amounts:
    """Return the work of every cell of a stack."""
    cell, weights = program.cell, program.weights
    steps, batch = program.steps + 1, cell.batch_size
    entries = program.probes * 3 * (weights + batch * program.neurons)
    evaluated = program.probes * program.test + program.training if program.steps else 0
    updated = 1 + len(OPTIMIZERS[cell.optimizer.name].state)
    amounts: Amounts = {
        "weight initialized": weights,
        "weight traced": weights * (2 if program.steps else 1),
        "cell": 1,
        "product of a step": steps * batch * weights,
        "entry of a step": steps * batch * program.neurons,
        "weight updated": steps * updated * weights,
        "product evaluated": evaluated * weights,
        "unit evaluated": evaluated * program.neurons,
        f"entry probed ({program.statistics})": entries,
        "row written": sum(table_rows(program).values()),
    }
    for name, (times, known) in program.measurements.items():
        amounts[name] = times * _measured_work(name, known, program)
    return amounts


def own_work(program: Program) -> Amounts:
    """Return the work of a network that a study builds itself; its layers count, not their size."""
    layers = program.layers
    evaluations = program.probes * math.ceil(program.test / 512) + math.ceil(program.training / 512)
    return {
        "network": 1,
        "layer built": layers,
        "layer traced": layers if program.steps else 0,
        "step": program.steps,
        "layer stepped": layers * program.steps,
        "layer evaluated": layers * evaluations if program.steps else 0,
        "layer probed": layers * program.probes,
        "row written": sum(table_rows(program).values()),
    }


def _measured_work(name: str, known: Mapping[str, Any], program: Program) -> float:
    """Return the work of making a measurement of one cell once, in its own unit."""
    layers, weights, neurons = program.layers, program.weights, program.neurons
    if name == "histograms":
        return weights + 3 * program.cell.batch_size * neurons
    if name == "spectra":
        cubes = sum(min(pair) ** 2 * max(pair) for pair in pairwise(program.units))
        return cubes * (1 + 3 * known["examples"])
    if name == "decision":
        return float(known["points"] ** 2 * weights)
    if name == "trajectories":
        return known["inputs"] * (weights + known["inputs"] * neurons + 1000 * layers)
    if name == "curvature":
        return float(known["inputs"] * (weights + 100 * neurons))
    return float(program.training * weights)


def table_rows(program: Program) -> dict[str, int]:
    """Return the rows of a cell in every table."""
    rows = {"cells": 1, "steps": program.probes, "layers": program.probes * program.layers}
    for name, (times, known) in program.measurements.items():
        rows[name] = times * _measured_rows(name, known, program)
    return rows


def _measured_rows(name: str, known: Mapping[str, Any], program: Program) -> int:
    layers, units = program.layers, program.units
    if name == "histograms":
        return 4 * layers * int(known["bins"] + 3)
    if name == "spectra":
        examples = 1 if program.cell.activation.name == "linear" else known["examples"]
        values = sum(map(min, pairwise(units)))
        end = min(units)
        inner = min(units[1:-1]) if len(units) > 3 else units[-1]
        rows = {
            "kernel": values,
            "layer_jacobian": values * examples,
            "hidden_jacobian": inner * examples,
            "input_output_jacobian": end * examples,
        }
        return sum(rows.values()) if known["matrix"] == "all" else int(rows[known["matrix"]])
    if name == "decision":
        return int(known["points"] ** 2) * units[-1]
    if name in ("trajectories", "curvature"):
        return int(known["inputs"]) * (layers + 1)
    return min(units[0], units[-1])  # modes


def memory_amounts(program: Program, cells: int, programs: int) -> Amounts:
    """Return what the memory of a job is made of while it trains a stack.

    Parameters
    ----------
    program
        Of the stack.
    cells
        In it.
    programs
        That the job makes, one after another. Python finds late that one is no longer needed.
    """
    weights = 4.0 * cells * program.weights
    units = 4.0 * cells * program.cell.batch_size * program.neurons
    data = program.training + program.test
    kind = "trained" if program.steps else "start"
    return {
        f"weights ({kind})": weights,
        f"weights of before ({kind})": weights * math.log2(programs),
        f"units ({kind})": units,
        "layer": float(program.layers),
        "rows": float(cells * sum(table_rows(program).values())),
        "data": 4.0 * data * program.units[0],
    }


@dataclass(frozen=True)
class Need:
    """What a job, a study or all studies need: counts, CPU seconds, bytes; memory of one job."""

    cells: int = 0
    stacks: int = 0
    jobs: int = 0
    seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0

    def megabytes(self, attempt: int) -> int:
        """Return the memory to ask a cluster for, in MB; every attempt asks for as much again.

        The estimate was too low by a factor of 1.14 at worst. The processes of Snakemake that watch
        the job count as its memory, too.
        """
        return math.ceil(attempt * (1.25 * self.memory + WATCHING) / 1e6)

    def minutes(self, attempt: int) -> int:
        """Return the time to ask a cluster for; every attempt asks for as much again.

        The estimate was too low by a factor of 1.43 at worst; a cluster's cores may be three times
        as slow as those that it was fitted on, and a shared file system takes its time.
        """
        return math.ceil(attempt * (10 + 5 * self.seconds / 60))

    @property
    def analysis(self) -> Need:
        """What the figures or the claims of a study need that needs this for training.

        They read all tables: a process takes 250 to 350 MB without any, and a table takes many
        times the room that it has on disk.
        """
        return Need(seconds=120 + 2e-6 * self.disk, memory=8e8 + 20 * self.disk)

    def __add__(self, other: Need) -> Need:
        """Add up everything but memory, which is that of the larger job."""
        return Need(
            self.cells + other.cells,
            self.stacks + other.stacks,
            self.jobs + other.jobs,
            self.seconds + other.seconds,
            max(self.memory, other.memory),
            self.disk + other.disk,
        )


def job_need(shard: Shard, stack_size: int) -> Need:
    """Estimate what the training of a shard needs, nothing of it being there."""
    seconds, disk, memory, cells = SECONDS["job"], FILES, 0.0, 0
    programs = sum(math.ceil(len(stack.cells) / stack_size) for stack in shard.stacks)
    for stack in shard.stacks:
        program = Program.of(stack.first)
        disk += len(stack.cells) * _disk(program)
        cells += len(stack.cells)
        if is_own(stack.first):
            seconds += len(stack.cells) * _total(own_work(program), OWN_SECONDS)
            memory = max(memory, program.layers * OWN_LAYER)
            continue
        chunks = math.ceil(len(stack.cells) / stack_size)
        seconds += chunks * _total(program_work(program), SECONDS)
        seconds += len(stack.cells) * _total(cell_work(program), SECONDS)
        amounts = memory_amounts(program, min(len(stack.cells), stack_size), programs)
        memory = max(memory, _total(amounts, MEMORY))
    return Need(cells, len(shard.stacks), 1, seconds, MEMORY["job"] + memory, disk)


def _total(amounts: Amounts, prices: Amounts) -> float:
    return sum(amount * prices[name] for name, amount in amounts.items())


def _disk(program: Program) -> float:
    """Return the bytes of a cell's rows in all tables."""
    rows = table_rows(program)
    numbers = rows.pop("layers") * len(recorded(program.cell.statistics))
    return numbers * ROW["number in layers"] + _total({**rows}, ROW)


@dataclass(frozen=True)
class Plan:
    """The studies of a configuration, how they are divided into jobs, and what they need.

    Attributes
    ----------
    studies
        By name, in the order of the configuration.
    shards
        Of every study.
    jobs
        What the training job of every shard of every study needs.
    """

    studies: Mapping[str, Study]
    shards: Mapping[str, Mapping[str, Shard]]
    jobs: Mapping[str, Mapping[str, Need]]

    @cached_property
    def needs(self) -> dict[str, Need]:
        """What every study needs."""
        return {name: sum(jobs.values(), Need()) for name, jobs in self.jobs.items()}

    @property
    def total(self) -> Need:
        """What all studies need together."""
        return sum(self.needs.values(), Need())

    @property
    def datasets(self) -> dict[str, Component]:
        """The data sets of all studies, by the names of their files."""
        stacks = (s for shards in self.shards.values() for x in shards.values() for s in x.stacks)
        return {s.first.dataset.slug: s.first.dataset for s in stacks}


def load(
    document: Mapping[str, Any],
    source: str,
    project: Path = PROJECT,
    directory: Path = Path(),
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Read a configuration's studies and hold what they need against its limits.

    Parameters
    ----------
    document
        The configuration, overrides included.
    source
        Name of its file, for messages.
    project
        Where the delivered studies are.
    directory
        Where results are made; studies of the same name there come first.
    parts
        What `document` was merged from, as `gradprop.grid.loading.load_studies` takes it.

    Raises
    ------
    gradprop.errors.ConfigError
        If anything is wrong or more than a limit.
    """
    with sign_of_life("gradprop: reading the studies and estimating what they need"):
        studies = loading.load_studies(document, source, folders.roots(directory, project), parts)
        limits = loading.read_limits(document)
        shards = {name: sharding.shards(study.cells) for name, study in studies.items()}
        size = document.get("stack_size", 40)
        jobs = {}
        for name, found in shards.items():
            jobs[name] = {shard.name: job_need(shard, size) for shard in found.values()}
            _check_memory(jobs[name], limits["memory"], name, source)
        plan = Plan(studies, shards, jobs)
        hours = plan.total.seconds / 3600
        if hours > limits["hours"]:
            most = max(plan.needs, key=lambda name: plan.needs[name].seconds)
            raise errors.ConfigError(
                f"{source}: studies: about {_number(hours)} hours of CPU time for training, most "
                f"of it for {most!r}; allowed: {limits['hours']:g} (limits.hours in {source})"
            )
    return plan


def _check_memory(jobs: Mapping[str, Need], most: float, study: str, source: str) -> None:
    name = max(jobs, key=lambda name: jobs[name].memory)
    gib = jobs[name].memory / GIB
    if gib > most:
        raise errors.ConfigError(
            f"{source}: study {study!r}: about {_number(gib)} GiB of memory for the job {name}; "
            f"allowed: {most:g} (limits.memory in {source}); a smaller stack_size needs less"
        )


@contextmanager
def sign_of_life(what: str, interval: float = 2.0) -> Iterator[None]:
    """Print a line to standard error now and then while the block runs."""
    start, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(interval):
            print(f"{what}, {time.monotonic() - start:.0f} s so far", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read(
    files: Sequence[Path] = (), changes: Sequence[str] = (), directory: Path = Path()
) -> tuple[dict[str, Any], str]:
    """Read a configuration as Snakemake does: the directory's or the project's, then changes.

    Parameters
    ----------
    files
        Those of ``--configfile``, whose keys override.
    changes
        ``key=value`` each, as in ``--config``; values are YAML.
    directory
        Where results are made.

    Returns
    -------
    document, source
        The configuration and the name of its last file.
    """
    from snakemake.utils import update_config

    here = directory / CONFIG
    paths = [here if here.exists() else PROJECT / CONFIG, *files]
    document: dict[str, Any] = {}
    for path in paths:
        update_config(document, config.read_mapping(path))
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise errors.ConfigError(f"--config: {change!r} is not allowed; allowed: key=value")
        try:
            update_config(document, {key: yaml.safe_load(value)})
        except (yaml.YAMLError, ValueError):
            raise errors.ConfigError(f"--config: {key}: {errors.show(value)} is not YAML") from None
    return document, str(paths[-1])


def table(plan: Plan) -> str:
    """Return what every study needs, and all together, as a table of text."""
    head = ["study", "cells", "stacks", "jobs", "CPU time", "memory per job", "disk"]
    rows = [[name, *_texts(need)] for name, need in plan.needs.items()]
    rows = [head, *rows, ["total", *_texts(plan.total)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def summary(plan: Plan, jobs: Iterable[tuple[str, str]]) -> str:
    """Return what training needs, at most, in one line.

    Parameters
    ----------
    plan
        The studies.
    jobs
        Study and shard of the training jobs whose tables are not complete. They may find finished
        stacks, and train less.
    """
    need = sum((plan.jobs[study][shard] for study, shard in jobs), Need())
    every = _count(plan.total.cells, "cell")
    if not need.jobs:
        return f"nothing has to be trained: the tables of all {every} are there"
    _, _, _, seconds, memory, disk = _texts(need)
    part = every if need.cells == plan.total.cells else f"{need.cells:,} of {every}"
    return (
        f"{part} in {_count(need.jobs, 'training job')}: at most about {seconds} of CPU time, "
        f"{memory} of memory per job, {disk} on disk"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def _texts(need: Need) -> list[str]:
    counts = [f"{number:,}" for number in (need.cells, need.stacks, need.jobs)]
    return [*counts, duration(need.seconds), _size(need.memory), _size(need.disk)]


def duration(seconds: float) -> str:
    """Return a time in its largest fitting unit: an estimate, of two digits or whole numbers."""
    units = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
    unit, length = next((u for u in units if seconds >= 2 * u[1]), units[-1])
    return f"{_number(seconds / length)} {unit}"


def _size(size: float) -> str:
    return f"{_number(size / GIB)} GiB" if size >= GIB else f"{_number(size / 2**20)} MiB"


def _number(value: float) -> str:
    """Return two digits or whole numbers: an estimate."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
