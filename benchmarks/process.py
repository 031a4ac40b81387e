"""Measured jobs: each in its own process, on one thread, with the CPU time of all it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.work import ROOT

# One thread for every library that might start more; TensorFlow is told by the tasks themselves.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # as in the workflow's jobs; for all competitors
}


@dataclass(frozen=True)
class Job:
    """A task of a module of this package, ``module.function``, and its arguments."""

    task: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """What a job used and what it returned.

    Attributes
    ----------
    cpu, wall
        Seconds; CPU seconds are user and system time of the job and its children.
    peak
        Largest resident memory in MiB.
    result
        What the task returned.
    """

    cpu: float
    wall: float
    peak: float
    result: dict[str, Any]


class JobError(Exception):
    """A measured job failed; the message holds the end of what it printed."""


def run(job: Job) -> Usage:
    """Run a job in a fresh process and wait for it.

    Raises
    ------
    JobError
        If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder) / "result.json", Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.worker", job.task, str(output)]
        start = time.perf_counter()
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, json.dumps(job.arguments)],
                stdout=stream,
                stderr=stream,
                cwd=ROOT,
                env=_environment(),
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise JobError(f"{job.task} failed:\n{log.read_text()[-2000:]}")
        result = json.loads(output.read_text())
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(
        cpu=usage.ru_utime + usage.ru_stime,
        wall=time.perf_counter() - start,
        peak=usage.ru_maxrss * unit / 2**20,
        result=result,
    )


def run_interleaved(jobs: Mapping[str, Job], repetitions: int) -> list[dict[str, Usage]]:
    """Run A B C, A B C, …: what slows the machine for a while slows every competitor.

    Returns
    -------
    list of dict
        For every repetition the usage of every job.
    """
    rounds = []
    for repetition in range(1, repetitions + 1):
        usages = {}
        for name, job in jobs.items():
            arguments = {**job.arguments, "repetition": repetition}
            usages[name] = run(Job(job.task, arguments))
            print(
                f"  repetition {repetition}/{repetitions}, {name}: {usages[name].cpu:.1f} CPU-s,"
                f" {usages[name].wall:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        rounds.append(usages)
    return rounds


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **ENVIRONMENT}
