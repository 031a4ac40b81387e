"""What the reader of the report can choose from: activations, initializers, measured networks.

The page evaluates mean-field theory itself (``templates/report.js``, by the definitions of
`gradprop.theory.variance`). What it can't know stands here: the weight variances of initializers,
and what networks of this report measured at initialization.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from gradprop.analysis import estimates
from gradprop.analysis.names import name_of, names_of, words
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import is_plain
from gradprop.components.initializers import INITIALIZERS
from gradprop.prediction.mean_field import sigma_b2, sigma_w2
from gradprop.prediction.networks import weight_variance
from gradprop.report.chapters import LENGTH, SIGNAL, Chapter
from gradprop.report.formatting import json_block
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell, Component, canonical_json

WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
DEEPEST = 200  # hidden layers that can be chosen
# Columns that every study records.
STATISTICS = {"length": LENGTH, "signal": SIGNAL}
DECIMALS = 2  # of a decade: less than a pixel of the picture
LARGEST = 1_000_000  # bytes of measured networks
# What tells networks apart before the first step, besides their seed.
PARAMETERS = ("activation", "depth", "width", "loss", "batch_size")
KEY = [*PARAMETERS, "initializer", "dataset", "sigma_w2", "sigma_b2"]


def explorer_data(chapters: Sequence[Chapter]) -> Markup:
    """Return all that can be chosen, as JSON that can stand in a ``<script>`` element.

    Parameters
    ----------
    chapters
        The studies of the report.

    Returns
    -------
    Markup
        ``activations``, names by id; ``widths``; ``deepest``; ``initializers``, for each its id and
        name and, by activation, ``sigma_w2`` of hidden layers at each of the widths;
        ``networks``, one for each configuration (`measured_networks`); ``thinned``, of how many
        configurations that was one, if all take more than `LARGEST` bytes; ``chapters``, anchors
        in order; ``own``, activations of the studies that have no definition in the page.
    """
    used = dict.fromkeys(
        cell.activation.label for chapter in chapters for cell in chapter.study.cells
    )
    networks = measured_networks(chapters)
    thinned = math.ceil(len(canonical_json(networks)) / LARGEST)
    data = {
        "activations": {name: words(name) for name in ACTIVATIONS if not _is_own(name)},
        "widths": WIDTHS,
        "deepest": DEEPEST,
        "initializers": [*_initializers()],
        "networks": networks[::thinned],
        "thinned": thinned,
        "chapters": [chapter.id for chapter in chapters],
        "own": [name for name in used if _is_own(name)],
    }
    return json_block(data)


def _is_own(activation: str) -> bool:
    return activation in ACTIVATIONS.owners


def _initializers() -> Iterator[dict[str, Any]]:
    """Yield the initializers of the package whose kernels have a variance."""
    for name, entry in INITIALIZERS.items():
        if entry.variance is None or name in INITIALIZERS.owners:
            continue
        component = Component(name)
        yield {
            "id": name,
            "name": name_of(component.label),
            "sigma_w2": {
                activation: [
                    width * (weight_variance(component, (width, width), activation) or 0.0)
                    for width in WIDTHS
                ]
                for activation in entry.activations or ACTIVATIONS
                if not _is_own(activation)
            },
        }


def measured_networks(chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """Return medians over seeds of what was measured at initialization, by configuration.

    Networks whose layers have one width and one initializer, normal biases or none, no
    normalization or residual connections, random kernels of known variance and an activation of
    the package. A seed that several studies share counts once, and belongs to the first of them.

    Returns
    -------
    list of dict
        `KEY`, with components as readers call them; ``id``, the initializer's; ``chapter``, the
        number of the first study; ``seeds``; and by hidden layer ``length`` (log10 of the mean
        square of pre-activations) and ``signal`` (log10 of the RMS of dC/dz). None where a median
        is not finite.
    """
    frames = [frame for chapter in chapters if len(frame := _rows(chapter))]
    if not frames:
        return []
    rows = pd.concat(frames, ignore_index=True).drop_duplicates([*KEY, "seed", "layer"])
    by = [*KEY, "layer"]
    seeds = rows.groupby(KEY, sort=False)["seed"].nunique().rename("seeds").reset_index()
    layers = rows[[*by, "id", "chapter"]].drop_duplicates(by).merge(seeds, on=KEY)
    for name, column in STATISTICS.items():
        found = estimates.quartiles(rows, by, column, rows["diverged"])[[*by, "median"]]
        layers = layers.merge(found.rename(columns={"median": name}), on=by)
    return [
        dict(zip(KEY, key, strict=True))
        | {"id": str(group["id"].iloc[0])}
        | {name: int(group[name].iloc[0]) for name in ("seeds", "chapter")}
        | {name: _rounded(group.sort_values("layer")[name]) for name in STATISTICS}
        for key, group in layers.groupby(KEY, sort=False)
    ]


def _rounded(values: pd.Series[float]) -> list[float | None]:
    return [round(value, DECIMALS) if np.isfinite(value) else None for value in values]


def _rows(chapter: Chapter) -> pd.DataFrame:
    """Return the hidden layers of a study's networks at initialization, with what tells these."""
    study = chapter.study
    called = names_of(study)
    cells = pd.DataFrame(
        [
            {"cell": cell.id, **{name: cell.column(name) for name in (*PARAMETERS, "seed")}}
            | {"sigma_w2": float(f"{sigma_w2(cell):.6g}"), "sigma_b2": sigma_b2(cell)}
            | {name: called[name][str(cell.column(name))] for name in ("initializer", "dataset")}
            | {"id": cell.initializer.name, "chapter": chapter.number}
            for cell in study.cells
            if _can_be_compared(cell)
        ]
    )
    if cells.empty:
        return cells
    rows = at_start(chapter.layers)[["cell", "step", "layer", *STATISTICS.values()]]
    found = StudyTables(study, chapter.results)
    rows = rows.assign(diverged=found.diverged(rows)).merge(cells, on="cell")
    return rows[rows["layer"] <= rows["depth"]]


def _can_be_compared(cell: Cell) -> bool:
    return (
        is_plain(cell)
        and not (cell.tied or cell.layer_initializers)
        and cell.bias_initializer.name == "normal"
        and not cell.dropout
        and cell.precision == "float32"
        and cell.widths.name == "constant"
        and 1 <= cell.depth <= DEEPEST
        and not _is_own(cell.activation.name)
        and sigma_w2(cell) > 0  # of kernels that are not random it is NaN
    )
