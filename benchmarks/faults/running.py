"""Train the programs under a monitor, and say what happened: did they train?"""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import gradprop
from benchmarks.faults import programs
from benchmarks.faults.programs import NONE, Program
from gradprop.inspection.runs import Run
from gradprop.training.backend import keras

#: A score of 0 is that of guessing, of 1 that of no error. What lies between is dropped.
FAILED, TRAINED = 0.2, 0.7


def score(program: Program, model: Any) -> float:
    """Return how much of what guessing gets wrong the trained network gets right.

    Of classes (accuracy - share of the largest class) / (1 - that share), of a regression
    1 - mean squared error / variance of the targets; both on the training set, 0 where outputs are
    not finite.
    """
    x, y = programs.data_of(program)
    outputs = np.asarray(model(x), np.float64)
    if not np.isfinite(outputs).all():
        return 0.0
    if program.data == "waves":
        return float(1 - np.mean((outputs[:, 0] - y) ** 2) / np.var(y.astype(np.float64)))
    largest = np.bincount(y).max() / len(y)
    return float((np.mean(outputs.argmax(axis=1) == y) - largest) / (1 - largest))


def run(program: Program, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Train a program, or read what an earlier call has kept in the folder.

    Returns
    -------
    Run
        The monitor's tables.
    dict
        ``score``, ``cpu`` in seconds, and the accuracies of epochs (``accuracy``; none of a
        regression) and their losses (``loss``).
    """
    place, done = folder / program.name, folder / f"{program.name}.json"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_SELF)
        keras.backend.clear_session()
        model = programs.build(program)
        x, y = programs.data_of(program)
        history = model.fit(
            x,
            y,
            batch_size=programs.BATCH,
            epochs=programs.EPOCHS,
            verbose=0,
            callbacks=[gradprop.Monitor(place)],
        ).history
        outcome = {"score": score(program, model)}
        after = resource.getrusage(resource.RUSAGE_SELF)
        outcome["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        outcome |= {name: history.get(name, []) for name in ("loss", "accuracy")}
        done.write_text(json.dumps(outcome), encoding="utf-8")
    return Run.read(place), json.loads(done.read_text(encoding="utf-8"))


def label(program: Program, score: float, score_mended: float) -> str:
    """Return the label: the fault, ``none`` of a healthy program, or why it has no label."""
    if not score_mended > TRAINED:
        return "dropped: does not train when mended"
    if program.fault == NONE:
        return NONE
    return program.fault if score < FAILED else "dropped: trains in spite of its fault"


def labelled(folder: Path, sets: Sequence[str] = programs.DATA) -> pd.DataFrame:
    """Train the programs on some data sets and label them.

    Returns
    -------
    DataFrame
        One row per program: its fields, ``name``, ``held_out``, ``score``, ``cpu``, ``label``.
    """
    found = {program: run(program, folder)[1] for program in programs.grid(sets)}
    scores = {program: float(outcome["score"]) for program, outcome in found.items()}
    rows = [
        {
            **vars(program),
            "name": program.name,
            "held_out": program.is_held_out,
            "score": scores[program],
            "cpu": float(outcome["cpu"]),
            "label": label(program, scores[program], scores.get(program.mended, math.nan)),
        }
        for program, outcome in found.items()
    ]
    return pd.DataFrame(rows)
