"""The workflow from nothing to the report, as `snakemake --cores 4` runs it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.work import ROOT


def run_workflow(overrides: Sequence[str], repetition: int) -> dict[str, Any]:
    """Build the report in a new folder; then ask for it again.

    Returns
    -------
    dict
        Number of cells; CPU seconds of the phases of all training jobs (``write`` is that of the
        tables), and of figures, report and Snakemake together; wall seconds of the run and of
        the next one, which finds that nothing is to be done.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--quiet", "all"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--directory", folder, *(["--config", *overrides] if overrides else [])]
        start, wall = _children_seconds(), time.perf_counter()
        subprocess.run(command, check=True, env=_all_threads())
        total, wall = _children_seconds() - start, time.perf_counter() - wall
        runs = pd.concat([pd.read_parquet(path) for path in Path(folder).glob("results/*/runs")])
        start = time.perf_counter()
        subprocess.run(command, check=True, env=_all_threads())
        again = time.perf_counter() - start
    seconds: Counter[str] = Counter()
    for phases in runs["phase_cpu_seconds"]:
        seconds.update(json.loads(phases))
    seconds["start of Python and the rest of training jobs"] = runs["cpu_seconds"].sum() - sum(
        seconds.values()
    )
    seconds["figures, report, Snakemake"] = total - runs["cpu_seconds"].sum()
    cells = sum(len(json.loads(cells)) for cells in runs["cells"])
    ordered = dict(seconds.most_common())
    return {"cells": cells, "seconds": ordered, "wall": wall, "again": again}


def scale_workflow(content: Mapping[str, Any], seeds: int, repetition: int) -> dict[str, Any]:
    """Plan a study, train it, then draw its figures and the report.

    Returns
    -------
    dict
        Number of cells; CPU seconds of each of the three; the largest memory of any process, in
        MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config"
        (config / "studies/many").mkdir(parents=True)
        (config / "studies/many/study.yaml").write_text(yaml.safe_dump(dict(content)))
        (config / "config.yaml").write_text(yaml.safe_dump({"studies": ["many"], "seeds": seeds}))
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", folder]
        seconds = {
            "plan": _run(["--dry-run"], command),
            "train": _run(["--until", "train"], command),
            "draw": _run([], command),
        }
        runs = pd.concat([pd.read_parquet(path) for path in Path(folder).glob("results/*/runs")])
    cells = sum(len(json.loads(cells)) for cells in runs["cells"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"cells": cells, "seconds": seconds, "peak": peak}


def _run(options: Sequence[str], command: Sequence[str]) -> float:
    """Run a command; return its CPU seconds."""
    start = _children_seconds()
    subprocess.run([*command, *options], check=True, env=_all_threads())
    return _children_seconds() - start


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _all_threads() -> dict[str, str]:
    """Return an environment without the limits that other benchmarks run under."""
    return {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
