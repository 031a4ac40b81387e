"""How well programs are diagnosed: one half of the suite, by gradprop and by others' rules."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.faults import running
from benchmarks.faults.programs import FAULTS, NONE
from benchmarks.faults.rivals import RIVALS
from gradprop import threads

GRADPROP = "gradprop"


def judged(labels: pd.DataFrame, folder: Path, held_out: bool) -> pd.DataFrame:
    """Diagnose the labelled programs of one half.

    Parameters
    ----------
    labels
        What `running.labelled` returns.
    folder
        Where the runs are kept.
    held_out
        Which half.

    Returns
    -------
    DataFrame
        One row per program and rule: ``name``, ``label``, ``rule``, the ``first`` finding
        (``healthy`` if there is none), ``named`` (whether the first names the fault), and
        ``among`` (whether one of the findings does).
    """
    half = labels[(labels["held_out"] == held_out) & ~labels["label"].str.startswith("dropped")]
    by_name = {program.name: program for program in running.grid()}
    rows = []
    for name, label in zip(half["name"], half["label"], strict=True):
        run, outcome = running.run(by_name[name], folder)
        diagnosis = run.diagnosis
        kinds = {GRADPROP: tuple(dict.fromkeys(f.kind for f in diagnosis.findings))}
        kinds |= {rule: find(run, outcome) for rule, find in RIVALS.items()}
        for rule, found in kinds.items():
            right = FAULTS.get(label, frozenset())
            named, among = bool(right & set(found[:1])), bool(right & set(found))
            first = found[0] if found else "healthy"
            rows.append((name, label, rule, first, named, among))
    return pd.DataFrame(rows, columns=["name", "label", "rule", "first", "named", "among"])


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return of every rule, in percent, what it gets right.

    Returns
    -------
    DataFrame
        One row per rule: ``faulty`` and ``healthy`` (programs); of the faulty those that are
        ``named`` by the first finding, ``among`` the findings, and ``detected`` (anything found);
        of the healthy ``false_alarms``.
    """
    rows = []
    for rule, group in table.groupby("rule", sort=False):
        faulty, healthy = group[group["label"] != NONE], group[group["label"] == NONE]
        rows.append(
            {
                "rule": rule,
                "faulty": len(faulty),
                "healthy": len(healthy),
                "named": 100 * faulty["named"].mean(),
                "among": 100 * faulty["among"].mean(),
                "detected": 100 * (faulty["first"] != "healthy").mean(),
                "false_alarms": 100 * (healthy["first"] != "healthy").mean(),
            }
        )
    return pd.DataFrame(rows)


def confusion(table: pd.DataFrame, rule: str = GRADPROP) -> pd.DataFrame:
    """Count programs by label (rows) and first finding of a rule (columns)."""
    chosen = table[table["rule"] == rule]
    return pd.crosstab(chosen["label"], chosen["first"])


def measure(
    sets: Sequence[str] | None = None, folder: str | None = None, **_: Any
) -> dict[str, Any]:
    """Run the suite on one thread.

    Parameters
    ----------
    sets
        Data sets of the programs; all by default.
    folder
        Where runs are kept, and taken from; by default nowhere.

    Returns
    -------
    dict
        ``programs``, ``dropped`` (counts by reason), ``cpu`` (seconds of training), and ``halves``:
        of ``tuning`` and ``held out`` the rows of `shares` and, of gradprop, of `confusion`.
    """
    threads.keep_to_one()
    with tempfile.TemporaryDirectory() as own:
        place = Path(folder or own)
        place.mkdir(parents=True, exist_ok=True)
        labels = running.labelled(place, running.grid(sets))
        halves = {}
        for name, held_out in (("tuning", False), ("held out", True)):
            table = judged(labels, place, held_out)
            counts = confusion(table).to_dict("index")
            halves[name] = {"shares": shares(table).to_dict("records"), "confusion": counts}
    reasons = labels["label"][labels["label"].str.startswith("dropped")].value_counts()
    counted = {str(reason): int(count) for reason, count in reasons.items()}
    cpu = float(labels["cpu"].sum())
    return {"programs": len(labels), "dropped": counted, "cpu": cpu, "halves": halves}
