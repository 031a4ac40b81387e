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
from benchmarks.faults import held_out, programs
from benchmarks.faults.held_out import HeldOut
from benchmarks.faults.programs import NONE
from gradprop.inspection.runs import Run
from gradprop.training.backend import keras

Program = programs.Program | HeldOut
#: A score of 0 is that of guessing, of 1 that of no error. What lies between is dropped.
FAILED, TRAINED = 0.2, 0.7


def score(program: Program, model: Any) -> float:
    """Return how much of what guessing gets wrong the trained network gets right.

    Of classes (accuracy - share of the largest class) / (1 - that share), of a regression
    1 - sum of squared errors / that of the targets around their means; both on the training set,
    0 where outputs are not finite.
    """
    x, y = program.arrays()
    outputs = np.asarray(model(x), np.float64)
    if not np.isfinite(outputs).all():
        return 0.0
    if y.dtype.kind == "f":
        targets = y.astype(np.float64).reshape(outputs.shape)
        errors, spread = (outputs - targets) ** 2, (targets - targets.mean(axis=0)) ** 2
        return float(1 - errors.sum() / spread.sum())
    largest = np.bincount(y).max() / len(y)
    if outputs.shape[1] == 1:
        is_logit = model.layers[-1].activation is keras.activations.linear
        chosen = (outputs[:, 0] > (0.0 if is_logit else 0.5)).astype(int)
    else:
        chosen = outputs.argmax(axis=1)
    return float((np.mean(chosen == y) - largest) / (1 - largest))


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
        model = program.model()
        x, y = program.arrays()
        history = model.fit(
            x,
            y,
            batch_size=program.batch,
            epochs=program.epochs,
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


def grid(sets: Sequence[str] | None = None) -> list[Program]:
    """Return all programs on some data sets, those for tuning and those held out."""
    return [*programs.grid(sets or programs.DATA), *held_out.grid(sets)]


def labelled(folder: Path, chosen: Sequence[Program]) -> pd.DataFrame:
    """Train programs and label them.

    Returns
    -------
    DataFrame
        One row per program: ``name``, ``fault``, ``held_out``, ``score``, ``cpu``, ``label``.
    """
    found = {program: run(program, folder)[1] for program in chosen}
    scores = {program: float(outcome["score"]) for program, outcome in found.items()}
    rows = [
        {
            "name": program.name,
            "fault": program.fault,
            "held_out": program.is_held_out,
            "score": scores[program],
            "cpu": float(outcome["cpu"]),
            "label": label(program, scores[program], scores.get(program.mended, math.nan)),
        }
        for program, outcome in found.items()
    ]
    return pd.DataFrame(rows)
