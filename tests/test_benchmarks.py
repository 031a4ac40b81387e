"""The benchmark's bookkeeping; no timing is asserted anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figure, parts, process, results, work
from benchmarks.process import Job, Usage
from benchmarks.results import Row

SIZE = parts.Size(
    repetitions=2,
    depths=(2, 3),
    seeds=1,
    epochs=1,
    seeds_of_many=(1,),
    seeds_of_most=(),
    widths=(4, 8),
    deep=(2, 3),
)
TASKS: dict[str, dict[str, Any]] = {
    "stacked.train_grid": {
        "seconds": {"import": 1.0, "2": 2.0, "3": 4.0},
        "phases": {"import": 1.0, "train": 4.0},
    },
    "stacked.probe": {
        "step": 2.0,
        "kept tensors": 0.5,
        "statistics": {"cheap": {"gradient": 0.1}, "standard": {"gradient": 0.4}},
    },
    "cold.scale_workflow": {
        "cells": 24,
        "seconds": {"plan": 1.0, "train": 2.0, "draw": 3.0},
        "peak": 700.0,
    },
    "jax_grid.train_grid": {"seconds": {"2": 2.0, "3": 4.0}},
    "model_fit.train_cells": {"seconds": [1.0, 3.0]},
    "stacked.efficiency": {"sgemm": 80.0, "step": 50.0, "loop": 44.0},
    "stacked.scale": {
        "cells": 24,
        "seconds": {"plan": 1.0, "import": 1.0, "train": 1.0, "train again": 1.0, "read": 1.0},
    },
    "stacked.one_step": {"steps": [{"seconds": 2.0 * n, "gflop": 1.0 * n} for n in (1, 2, 3, 4)]},
    "faults.judging.measure": {
        "programs": 10,
        "dropped": {"dropped: trains in spite of its fault": 2},
        "cpu": 30.0,
        "halves": {
            half: {
                "shares": [
                    {
                        **{"rule": "gradprop", "faulty": 3, "healthy": 1, "named": named},
                        **{"among": 100.0, "detected": 100.0, "false_alarms": 0.0},
                    }
                ]
            }
            for half, named in (("tuning", 100.0), ("held out", 60.0))
        },
    },
    "monitored.measure": {
        "seconds": {"plain": 10.0, "default": 10.6, "eager": 12.8},
        "added": {"plain": 0.0, "default": 0.5, "eager": 3.0},
        "idle": [[1e-3, 1.01e-3], [1e-3, 1.03e-3], [1e-3, 0.99e-3]],
        "hooks": 5e-6,
        "probes": 33,
    },
    "cold.run_workflow": {"cells": 24, "seconds": {"train": 1.0}, "wall": 200.0, "again": 2.0},
    "stacked.overhead": {
        "seconds": {
            depth: {
                "without": {"loop": 10.0, "evaluate": 0.0},
                "default": {"loop": 11.0, "evaluate": 0.5},
                "every step": {"loop": 14.0, "evaluate": 2.0},
            }
            for depth in ("2", "3")
        }
    },
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Return the rows of all parts, from invented times."""

    def run(jobs: Mapping[str, Job], repetitions: int) -> list[dict[str, Usage]]:
        usages = {name: Usage(8.0, 8.0, 100.0, TASKS[job.task]) for name, job in jobs.items()}
        return [usages] * repetitions

    monkeypatch.setattr(parts, "run_interleaved", run)
    monkeypatch.setattr(parts, "_probed", lambda block: [0, 1])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    return [row for part in parts.PARTS.values() for row in part(SIZE, "")]


def find(rows: list[Row], subject: str, case: str, quantity: str) -> Row:
    (found,) = [r for r in rows if (r.subject, r.case, r.quantity) == (subject, case, quantity)]
    return found


def test_ratios_and_verdicts(measured: list[Row]) -> None:
    """32 cells in 8 s; `model.fit` needs 8 s a process and 2 s a cell inside."""
    assert find(measured, parts.GRADPROP, "all", parts.RATE).value == 4
    alone = find(measured, parts.PROCESSES, "all", parts.RATIO)
    assert (alone.value, alone.verdict) == (32, "not met")
    assert "extrapolated" in alone.note
    together = find(measured, parts.ONE_PROCESS, "all", parts.RATIO)
    assert (together.value, together.verdict) == (8, "met")
    assert find(measured, parts.ONE_PROCESS, "3", parts.RATIO).value == 8
    assert find(measured, parts.JAX, "all", parts.RATIO).verdict == "met"
    share = find(measured, "training loop", "depth 20", "share of sgemm")
    assert (share.value, share.verdict) == (55, "met")
    statistics = find(measured, "cheap set at every step", "all", "added by statistics")
    assert (statistics.value, statistics.verdict) == (20, "met")
    assert find(measured, "gradprop", "of which", "train").value == 80
    kept = find(measured, "kept tensors", "one probe, depth 20", "added by")
    assert (kept.value, kept.unit) == (25, "% of a step")
    assert find(measured, "standard: gradient", "one probe, depth 20", "added by").value == 20
    drawn = find(measured, "snakemake, figures and report", "24 cells", "whole time")
    assert drawn.value == 3
    assert find(measured, "deep", "all", "exponent of time over FLOP").value == 1
    named = find(measured, "gradprop", "held out", "faulty, named by the first finding")
    assert (named.value, named.verdict) == (60, "not met")
    default = find(measured, "monitor, default schedule", "mlp, 2000 steps", "added to model.fit")
    assert (default.value, default.verdict) == (5, "met")
    idle = find(measured, "monitor, step without a probe", "cnn, 2000 steps", "added to model.fit")
    assert (idle.value, idle.verdict) == (1, "met")
    hooks = find(measured, "monitor, step without a probe", "cnn, 2000 steps", "in its own code")
    assert hooks.value == 0.5


def test_table_and_figure(measured: list[Row], tmp_path: Path) -> None:
    table = tmp_path / "benchmark.csv"
    results.write(measured, table)
    assert results.read(table) == measured
    assert "[overhead]" in results.text(measured)
    for rows in (measured, [r for r in measured if r.part == "scale"]):  # one part may be alone
        figure.draw(rows, tmp_path / "benchmark.svg")
        assert (tmp_path / "benchmark.svg").stat().st_size > 1000


def test_flop_of_a_step() -> None:
    """Written out: 64 -> 64 -> 10, batch 64, no signal below layer 1."""
    (cell,) = work.expand(
        {**work.reference([1], 1, 1), "initializer": "zeros", "activation": "relu"}
    )
    assert work.step_flop(cell) == 2 * 64 * (2 * 64 * 64 + 3 * 64 * 10)


def test_failing_job_says_why() -> None:
    with pytest.raises(process.JobError, match="no_such_module"):
        process.run(Job("no_such_module.task", {}))


def test_job_is_measured() -> None:
    usage = process.run(Job("worker.probe", {"repetition": 1}))
    assert usage.result == {"repetition": 1}
    assert usage.cpu > 0 and usage.peak > 1
