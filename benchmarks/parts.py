"""The parts of the benchmark: which jobs each runs, and what it makes of their times."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks import work
from benchmarks.process import Job, Usage, run_interleaved
from benchmarks.results import Row, row

GRADPROP, PROCESSES = "gradprop", "model.fit, one process per cell"
ONE_PROCESS, JAX = "model.fit, one process", "JAX vmap + jit"
COMPETITORS = "competitors"
RATE, RATIO = "cells per CPU-s", "CPU time over gradprop's"

# What is drawn of many cells: every kind that joins the largest tables.
FIGURES = {
    "profile": {
        "kind": "layer_profile",
        "title": "Signal",
        "statistic": "signal_log10_rms",
        "at": "start",
        "rows": "depth",
        "columns": "activation",
        "hue": "initializer",
    },
    "loss": {
        "kind": "learning_curves",
        "title": "Loss",
        "statistic": "train_loss",
        "rows": "depth",
        "columns": "activation",
        "hue": "initializer",
    },
}

Rounds = Sequence[Mapping[str, Usage]]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    repetitions
        Interleaved repetitions of every job.
    depths, seeds, epochs
        The reference work.
    real_cells
        Cells a depth that `model.fit` really trains.
    seeds_of_many
        For every study of many small cells its seeds; it has 24 cells for each seed.
    seeds_of_most
        The same, of studies that take so long that they run once.
    widths, deep
        Widths (at depth 20) and depths (at width 64) of which one step is timed.
    workflow
        What `snakemake --config` overrides in the cold run of the workflow.
    sets
        Data sets of the faulty and healthy programs that are diagnosed; all of them by default.
    monitored
        Networks that are trained with and without the monitor, and for how many steps.
    rounds
        Of an epoch without the monitor and one with a monitor that is not due.
    """

    repetitions: int = 3
    depths: tuple[int, ...] = (5, 20, 50)
    seeds: int = 5
    epochs: int = 10
    real_cells: int = 4
    seeds_of_many: tuple[int, ...] = (5, 50, 500)
    seeds_of_most: tuple[int, ...] = (4200,)
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    deep: tuple[int, ...] = (5, 20, 50, 100, 200, 500)
    workflow: tuple[str, ...] = ()
    sets: tuple[str, ...] | None = None
    monitored: tuple[tuple[str, int], ...] = (
        ("mlp", 2000),
        ("mlp", 5000),
        ("cnn", 2000),
        ("transformer", 2000),
    )
    rounds: int = 20


QUICK = Size(
    repetitions=1,
    depths=(5,),
    seeds=1,
    epochs=2,
    real_cells=1,
    seeds_of_many=(1,),
    seeds_of_most=(),
    widths=(64, 256),
    deep=(5, 50),
    workflow=("studies=[mechanism]",),
    sets=("blobs", "moons"),
    monitored=(("mlp", 100),),
    rounds=1,
)


def competitors(size: Size, data: str) -> list[Row]:
    """Cells per CPU second of gradprop and of what one would use instead."""
    block = work.reference(size.depths, size.seeds, size.epochs)
    jobs = {GRADPROP: Job("stacked.train_grid", {"block": block, "data": data})}
    for depth in size.depths:
        jobs |= _fit_jobs(block, depth, size.real_cells, data)
    if importlib.util.find_spec("jax"):
        arguments = {"block": block, "probed": _probed(block), "data": data}
        jobs[JAX] = Job("jax_grid.train_grid", arguments)
    else:
        print("JAX is not installed; to compare with it: pip install jax", flush=True)
    rounds = run_interleaved(jobs, size.repetitions)
    rows = _competitor_rows(rounds, size, len(work.expand(block)))
    return rows + _shares(COMPETITORS, "of which", [r[GRADPROP].result["phases"] for r in rounds])


def _shares(part: str, case: str, seconds: Sequence[Mapping[str, float]]) -> list[Row]:
    """Return where gradprop's CPU time goes, the largest item first."""
    shares = {
        phase: [100 * phases[phase] / sum(phases.values()) for phases in seconds]
        for phase in seconds[0]
    }
    return [
        row(part, GRADPROP, case, phase, "% of CPU", values)
        for phase, values in sorted(shares.items(), key=lambda item: -fmean(item[1]))
    ]


def _probed(block: Mapping[str, Any]) -> list[int]:
    """Return the steps of the probes; TensorFlow is imported here, not in JAX's process."""
    from gradprop.training import loop

    cell = work.expand(block)[0]
    return loop.probe_steps(loop.total_steps(cell, work.EXAMPLES), cell.probes)


def _fit_jobs(block: Mapping[str, Any], depth: int, count: int, data: str) -> dict[str, Job]:
    """Return the jobs that train `count` cells of a depth, evenly taken from its grid."""
    one_depth = {**block, "depth": depth}
    total = len(work.expand(one_depth))
    chosen = [int((number + 0.5) * total / count) for number in range(count)]
    task, shared = "model_fit.train_cells", {"block": one_depth, "data": data}
    jobs = {
        f"{PROCESSES}, depth {depth}, cell {cell}": Job(task, {**shared, "chosen": [cell]})
        for cell in chosen
    }
    return {**jobs, f"{ONE_PROCESS}, depth {depth}": Job(task, {**shared, "chosen": chosen})}


def _competitor_rows(rounds: Rounds, size: Size, cells: int) -> list[Row]:
    depths = [str(depth) for depth in size.depths]
    rounds_of_seconds = [_cpu_seconds(usages, depths, cells) for usages in rounds]
    extrapolated = f"extrapolated from {size.real_cells} real cells per depth"
    aims = {PROCESSES: ">= 50", ONE_PROCESS: ">= 8", JAX: ">= 1"}
    rows = []
    for subject in rounds_of_seconds[0]:
        note = extrapolated if subject in (PROCESSES, ONE_PROCESS) else "all cells"
        for case in (*depths, "all"):
            count = cells if case == "all" else cells // len(depths)
            rates = [count / seconds[subject][case] for seconds in rounds_of_seconds]
            rows.append(row(COMPETITORS, subject, case, RATE, "", rates, note=note))
            if subject != GRADPROP:
                ratios = [s[subject][case] / s[GRADPROP][case] for s in rounds_of_seconds]
                aim = aims[subject] if case == "all" else ""
                rows.append(row(COMPETITORS, subject, case, RATIO, "x", ratios, aim, note))
    return rows


def _cpu_seconds(
    usages: Mapping[str, Usage], depths: Sequence[str], cells: int
) -> dict[str, dict[str, float]]:
    """Return for every competitor the CPU seconds of the whole grid, by depth and of ``all``.

    A depth of gradprop or JAX lacks the import, which belongs to no depth; ``all`` has it.
    """
    spent: dict[str, dict[str, float]] = {}
    for subject in (GRADPROP, JAX):
        if subject in usages:
            usage = usages[subject]
            spent[subject] = {**usage.result["seconds"], "all": usage.cpu}
    spent |= {PROCESSES: {}, ONE_PROCESS: {}}
    for depth in depths:
        prefix = f"{PROCESSES}, depth {depth},"
        real = [usage.cpu for name, usage in usages.items() if name.startswith(prefix)]
        inside = usages[f"{ONE_PROCESS}, depth {depth}"].result["seconds"]
        spent[PROCESSES][depth] = cells / len(depths) * fmean(real)
        spent[ONE_PROCESS][depth] = cells / len(depths) * fmean(inside)
    for subject in (PROCESSES, ONE_PROCESS):
        spent[subject]["all"] = sum(spent[subject].values())
    return spent


def efficiency(size: Size, data: str) -> list[Row]:
    """FLOP rate of the training loop at depth 20, width 64 as a share of a large sgemm's."""
    block = work.reference([20], size.seeds, size.epochs)
    results = _results(Job("stacked.efficiency", {"block": block, "data": data}), size)
    names = {"sgemm": "sgemm 1024", "step": "training step", "loop": "training loop"}
    rows = []
    for key, name in names.items():
        rates = [result[key] for result in results]
        rows.append(row("efficiency", name, "depth 20", "FLOP rate", "GFLOP/CPU-s", rates))
    for key in ("step", "loop"):
        shares = [100 * result[key] / result["sgemm"] for result in results]
        aim = ">= 50" if key == "loop" else ""
        rows.append(row("efficiency", names[key], "depth 20", "share of sgemm", "%", shares, aim))
    return rows


def _results(job: Job, size: Size) -> list[dict[str, Any]]:
    rounds = run_interleaved({job.task: job}, size.repetitions)
    return [usages[job.task].result for usages in rounds]


def overhead(size: Size, data: str) -> list[Row]:
    """CPU time that probes add to the training loop (tracing left out on both sides)."""
    block = work.reference(size.depths, size.seeds, size.epochs)
    results = _results(Job("stacked.overhead", {"block": block, "data": data}), size)
    by_depth = [result["seconds"] for result in results]
    cases = {str(depth): [seconds[str(depth)] for seconds in by_depth] for depth in size.depths}
    cases["all"] = [_sum_depths(seconds) for seconds in by_depth]
    rows = []
    for case, measured in cases.items():
        final = case == "all"
        # The loss on the whole test set at every step is no statistic of a layer: no aim there.
        rows += _overhead_rows("default", case, measured, ("<= 10", "<= 10") if final else ("", ""))
        rows += _overhead_rows("every step", case, measured, ("", "<= 25") if final else ("", ""))
    return rows + _probe_rows(size, data)


def _probe_rows(size: Size, data: str) -> list[Row]:
    """Take one probe at depth 20 apart, in parts of a training step."""
    block = {**work.reference([20], 5, 1), "activation": "tanh"}
    results = _results(Job("stacked.probe", {"block": block, "data": data}), size)
    case, quantity, unit = "one probe, depth 20", "added by", "% of a step"
    kept = [100 * r["kept tensors"] / r["step"] for r in results]
    rows = [row("overhead", "kept tensors", case, quantity, unit, kept)]
    for preset, seconds in results[0]["statistics"].items():
        for name in seconds:
            values = [100 * r["statistics"][preset][name] / r["step"] for r in results]
            rows.append(row("overhead", f"{preset}: {name}", case, quantity, unit, values))
    return rows


def _overhead_rows(
    variant: str, case: str, measured: Sequence[Any], aims: tuple[str, str]
) -> list[Row]:
    subject = {"default": "default probes", "every step": "cheap set at every step"}[variant]
    whole, statistics = [], []
    for variants in measured:
        without, with_probes = variants["without"]["loop"], variants[variant]
        whole.append(100 * (with_probes["loop"] / without - 1))
        statistics.append(100 * ((with_probes["loop"] - with_probes["evaluate"]) / without - 1))
    return [
        row("overhead", subject, case, "added, with test loss", "% of CPU", whole, aims[0]),
        row("overhead", subject, case, "added by statistics", "% of CPU", statistics, aims[1]),
    ]


def _sum_depths(seconds: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    total: dict[str, dict[str, float]] = {}
    for variants in seconds.values():
        for variant, phases in variants.items():
            sums = total.setdefault(variant, {})
            for phase, value in phases.items():
                sums[phase] = sums.get(phase, 0.0) + value
    return total


def scale(size: Size, data: str) -> list[Row]:
    """Cost per cell, peak memory and planning time for up to 840 times the cells."""
    block = work.reference([2], 1, 1)
    axes = {"width": 8, "activation": ["tanh", "relu", "sigmoid"]}
    grid = {key: value for key, value in {**block, **axes}.items() if key != "seeds"}
    content = {"title": "Many cells", "question": "How much?", "grid": grid, "figures": FIGURES}
    jobs, workflows = {}, {}
    for seeds in (*size.seeds_of_many, *size.seeds_of_most):
        name, shared = f"{24 * seeds} cells", {"content": content, "seeds": seeds}
        jobs[name] = Job("stacked.scale", {**shared, "data": data})
        workflows[name] = Job("cold.scale_workflow", shared)
    often = list(jobs)[: len(size.seeds_of_many)]
    rounds = run_interleaved({name: jobs.pop(name) for name in often}, size.repetitions)
    (once,) = run_interleaved(jobs, 1)
    (whole,) = run_interleaved(workflows, 1)
    rows = [line for name in often for line in _scale_rows([usages[name] for usages in rounds])]
    rows += [line for name in once for line in _scale_rows([once[name]])]
    return rows + [line for name in whole for line in _scale_workflow_rows(whole[name])]


def _scale_workflow_rows(usage: Usage) -> list[Row]:
    names = {
        "plan": "snakemake --dry-run",
        "train": "snakemake --until train",
        "draw": "snakemake, figures and report",
    }
    case = f"{usage.result['cells']} cells"
    rows = [
        row("scale", name, case, "whole time", "CPU-s", [usage.result["seconds"][key]])
        for key, name in names.items()
    ]
    return [*rows, row("scale", "workflow", case, "peak memory", "MiB", [usage.result["peak"]])]


def _scale_rows(usages: Sequence[Usage]) -> list[Row]:
    cells = usages[0].result["cells"]
    seconds = [usage.result["seconds"] for usage in usages]
    names = {
        "train": "train and write",
        "plan": "expand grid, make shards",
        "train again": "nothing missing",
        "read": "read the layers",
    }
    rows = []
    for key, name in names.items():
        each = [1e3 * s[key] / cells for s in seconds]
        rows.append(row("scale", name, f"{cells} cells", "time per cell", "CPU-ms", each))
    peaks = [usage.peak for usage in usages]
    return [*rows, row("scale", "whole job", f"{cells} cells", "peak memory", "MiB", peaks)]


def step(size: Size, data: str) -> list[Row]:
    """CPU time of one training step against its FLOP, for wide and for deep networks."""
    block = {**work.reference([1], 1, 1), "activation": "tanh", "initializer": "he_normal"}
    networks = [{"width": width, "depth": 20, "replicas": 2} for width in size.widths]
    networks += [{"width": 64, "depth": depth, "replicas": 8} for depth in size.deep]
    arguments = {"networks": networks, "block": block, "data": data}
    results = [result["steps"] for result in _results(Job("stacked.one_step", arguments), size)]
    rows = []
    for position, network in enumerate(networks):
        steps = [steps[position] for steps in results]
        rows += _step_rows("wide" if position < len(size.widths) else "deep", network, steps)
    wide, deep = slice(len(size.widths)), slice(len(size.widths), None)
    for subject, part in (("wide", wide), ("deep", deep)):
        slopes = [_slope(steps[part]) for steps in results]
        quantity = "exponent of time over FLOP"
        rows.append(row("step", subject, "all", quantity, "", slopes, note="1 is linear"))
    return rows


def _step_rows(
    subject: str, network: Mapping[str, int], steps: Sequence[Mapping[str, float]]
) -> list[Row]:
    case = "width {width}, depth {depth}, {replicas} cells".format(**network)
    columns = {
        ("FLOP of a step", "GFLOP"): [s["gflop"] for s in steps],
        ("time of a step", "CPU-ms"): [1e3 * s["seconds"] for s in steps],
        ("FLOP rate", "GFLOP/CPU-s"): [s["gflop"] / s["seconds"] for s in steps],
    }
    return [
        row("step", subject, case, quantity, unit, values)
        for (quantity, unit), values in columns.items()
    ]


def _slope(steps: Sequence[Mapping[str, float]]) -> float:
    flop, seconds = (np.log([s[key] for s in steps]) for key in ("gflop", "seconds"))
    return float(np.polyfit(flop, seconds, 1)[0])


def workflow(size: Size, data: str) -> list[Row]:
    """Where the time of a cold run of the default configuration goes."""
    job = Job("cold.run_workflow", {"overrides": size.workflow})
    rounds = [usages["workflow"] for usages in run_interleaved({"workflow": job}, 1)]
    rows = [
        row(
            "workflow",
            "cold run",
            "all",
            "wall time",
            "s",
            [u.result["wall"] for u in rounds],
            "<= 300",
        )
    ]
    rows.append(row("workflow", "cells", "all", "trained", "", [u.result["cells"] for u in rounds]))
    for phase in rounds[0].result["seconds"]:
        seconds = [usage.result["seconds"][phase] for usage in rounds]
        rows.append(row("workflow", phase, "all", "CPU time", "CPU-s", seconds))
    again = [usage.result["again"] for usage in rounds]
    rows.append(row("workflow", "nothing to be done", "all", "wall time", "s", again, "<= 5"))
    return rows


def faults(size: Size, data: str) -> list[Row]:
    """Faults that are named, and false alarms, on a suite of small Keras programs; once."""
    (whole,) = run_interleaved({"suite": Job("faults.judging.measure", {"sets": size.sets})}, 1)
    result = whole["suite"].result
    rows = []
    for half, found in result["halves"].items():
        for line in found["shares"]:
            note = f"{line['faulty']} faulty, {line['healthy']} healthy"
            aimed = line["rule"] == GRADPROP and half == "held out"
            for key, quantity, aim in (
                ("named", "faulty, named by the first finding", ">= 95"),
                ("among", "faulty, named by a finding", ""),
                ("detected", "faulty, anything found", ""),
                ("false_alarms", "healthy, anything found", "<= 2"),
            ):
                aim = aim if aimed else ""
                rows.append(
                    row("faults", line["rule"], half, quantity, "%", [line[key]], aim, note)
                )
    for name in ("programs", "cpu"):
        unit = {"programs": "", "cpu": "CPU-s"}[name]
        rows.append(row("faults", "suite", "all", name, unit, [result[name]]))
    for reason, count in result["dropped"].items():
        rows.append(row("faults", "suite", "all", reason, "programs", [count]))
    return rows


def monitor(size: Size, data: str) -> list[Row]:
    """CPU time that a monitor adds to ``model.fit``, and what an eager callback adds to it."""
    jobs = {
        f"{network}, {steps} steps": Job(
            "monitored.measure", {"network": network, "steps": steps, "rounds": size.rounds}
        )
        for network, steps in size.monitored
    }
    rounds = run_interleaved(jobs, size.repetitions)
    return [
        line
        for case in jobs
        for line in _monitor_rows(case, [usages[case].result for usages in rounds])
    ]


def _monitor_rows(case: str, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    quantity, unit = "added to model.fit", "% of CPU"
    count = f"{results[0]['probes']} probes"
    subjects = {
        "default": ("monitor, default schedule", "<= 10", count),
        "eager": ("eager callback at the same steps", "", "norms of dC/dW and dC/db alone"),
    }
    rows = [row("monitor", "model.fit", case, "time", "CPU-s", [_plain(r) for r in results])]
    for key, (subject, aim, note) in subjects.items():
        added = [100 * r["added"][key] / _plain(r) for r in results]
        rows.append(row("monitor", subject, case, quantity, unit, added, aim, note))
    pairs = [100 * (b / a - 1) for result in results for a, b in result["idle"]]
    name, note = "monitor, step without a probe", "medians of epochs by turns"
    rows.append(row("monitor", name, case, quantity, unit, pairs, "<= 2", note))
    hooks = [100 * r["hooks"] / a for r in results for a, _ in r["idle"]]
    note = "two calls of the callback alone, timed in a loop"
    return [*rows, row("monitor", name, case, "in its own code", unit, hooks, "", note)]


def _plain(result: Mapping[str, Any]) -> float:
    return float(result["seconds"]["plain"])


PARTS: dict[str, Callable[[Size, str], list[Row]]] = {
    "competitors": competitors,
    "efficiency": efficiency,
    "overhead": overhead,
    "scale": scale,
    "step": step,
    "workflow": workflow,
    "faults": faults,
    "monitor": monitor,
}
