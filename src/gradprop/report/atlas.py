"""The report's atlas: of every trained network, its weight gradients by layer and step.

The page draws the maps itself (``templates/report.js``), and only those of the sheet that its
reader chooses. A sheet has the networks of one study, data set and activation function. Every value
is one byte: code c stands for log10 RMS dC/dW = low + quantum c, where low and quantum are those of
its network, so that its whole range fits whatever it spans; the three codes above `LAST` stand for
what has no logarithm.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from gradprop.analysis.names import names_of, words
from gradprop.probes.statistics import recorded
from gradprop.report.chapters import GRADIENT, Chapter
from gradprop.report.formatting import json_block, plain_text
from gradprop.report.formulas import typeset
from gradprop.report.tables import (
    ACCURACIES,
    LOSSES,
    PARAMETERS,
    SHARED,
    distinguishing,
    in_order,
)
from gradprop.results import tables
from gradprop.spec import Cell, as_text

LAST = 252
# Exactly zero; not finite, or after the step at which the network diverged; not recorded.
ZERO, DIVERGED, NOT_MEASURED = LAST + 1, LAST + 2, LAST + 3
# Signs of diagnoses, for maps that have no room for a word.
MARKS = {
    "vanishing": "V",
    "stable": "S",
    "exploding": "E",
    "dead": "D",
    "rounding": "R",
    "diverged": "×",
}
LARGEST = 2_000_000  # bytes of all networks
BESIDES = 250  # bytes of a network besides its codes, about
FINALS = (*LOSSES, *ACCURACIES)
# What a sheet has of every network, a list each.
COLUMNS = (
    *("cell", "depth", "seed", "row", "setting", "status", "start", "end"),
    *("low", "quantum", "middle", "probes", "losses", *FINALS),
)


def atlas_data(chapters: Sequence[Chapter], command: str) -> Markup | None:
    """Return all sheets, as JSON that can stand in a ``<script>`` element.

    Parameters
    ----------
    chapters
        The studies of the report.
    command
        What builds the report.

    Returns
    -------
    Markup or None
        ``sheets`` (`sheets_of`); ``marks``, signs and diagnoses; ``shown`` and ``trained``, how
        many networks the page has and how many there are; ``command``. None if no network was
        trained.
    """
    trained = {
        chapter.number: rows
        for chapter in chapters
        if len(rows := chapter.cells[chapter.cells["epochs"] > 0])
    }
    if not trained:
        return None
    shown = fitting(trained)
    data = {
        "sheets": [
            sheet
            for chapter in chapters
            if chapter.number in shown
            for sheet in sheets_of(chapter, shown[chapter.number])
        ],
        "marks": [(mark, diagnosis) for diagnosis, mark in MARKS.items()],
        "shown": sum(map(len, shown.values())),
        "trained": sum(map(len, trained.values())),
        "command": command,
    }
    return json_block(data)


def fitting(trained: dict[int, pd.DataFrame]) -> dict[int, pd.DataFrame]:
    """Keep as many networks as fit into `LARGEST` bytes: first seeds first.

    Parameters
    ----------
    trained
        Rows of the ``cells`` tables of studies, by the number of the study.

    Returns
    -------
    dict
        The rows that are kept, in their order; a study without any is left out.
    """
    sizes = {
        number: pd.DataFrame(
            {
                "rank": cells.groupby(distinguishing(cells), sort=False).cumcount(),
                "size": BESIDES + (cells["depth"] + 1) * (cells["probes"] + 1) * 4 / 3,
            }
        )
        for number, cells in trained.items()
    }
    by_rank = pd.concat(sizes).sort_values("rank", kind="stable")["size"]
    fits = by_rank.cumsum() <= LARGEST
    kept = {
        number: cells[fits.xs(number).reindex(cells.index)] for number, cells in trained.items()
    }
    return {number: cells for number, cells in kept.items() if len(cells)}


def sheets_of(chapter: Chapter, cells: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the sheets of a study, one for each of its data sets and activation functions.

    Parameters
    ----------
    chapter
        The study.
    cells
        Those rows of its ``cells`` table that are shown.

    Yields
    ------
    dict
        ``study``; ``name``, what the reader chooses it by; ``rows``, for each the initializer and
        what else tells it from other rows; ``settings``, parameters in words; ``probes``, lists of
        steps; ``networks``, by name of each of the `COLUMNS` its values, where ``row``, ``setting``
        and ``probes`` are places in those lists, ``start`` and ``end`` signs of diagnoses, and
        ``losses`` those of training at the probes; ``codes``, in base64 the codes of one network
        after the other, probe by probe and layer by layer.
    """
    study = chapter.study
    parts: list[pd.DataFrame | pd.Series[Any]] = [
        encoded(_gradients(chapter.layers, cells)),
        _losses(chapter),
        _marks(chapter.diagnoses),
    ]
    networks = cells.set_index("cell").join(parts).reset_index()
    called = names_of(study)
    for (dataset, activation), group in networks.groupby(["dataset", "activation"], sort=False):
        pairs = ("dataset", dataset), ("activation", activation)
        names = [_phrase(*pair, called) for pair in pairs]
        yield {
            "study": study.name,
            "name": f"{study.title}: {', '.join(names)}",
            **_sheet(group, called),
        }


def _sheet(networks: pd.DataFrame, called: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return what is drawn of the networks of a sheet."""
    keys = [k for k in distinguishing(networks) if k not in ("dataset", "activation", "depth")]
    rows = in_order(networks[keys].drop_duplicates(), keys)
    places = networks[keys].merge(rows.reset_index(names="row"), on=keys)["row"]
    settings, texts = pd.factorize(pd.Series(_settings(networks, called)))
    probes, steps = pd.factorize(networks["steps"])
    shown = networks.assign(row=places.to_numpy(), setting=settings, probes=probes)
    finals = {name: [*map(_short, networks[name])] for name in FINALS}
    return {
        "rows": [
            [_phrase(keys[0], first, called), _phrases(keys[1:], rest, called)]
            for first, *rest in rows.itertuples(index=False)
        ],
        "settings": [*texts],
        "probes": [*steps],
        "networks": {name: shown[name].tolist() for name in COLUMNS} | finals,
        "codes": base64.b64encode(b"".join(networks["codes"])).decode("ascii"),
    }


# ---------------------------------------------------------------------------------- gradients


def _gradients(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the gradients of networks by step and layer, with what says why there is none."""
    rows = rows[rows["cell"].isin(cells["cell"])]
    of_cells = cells.set_index("cell")
    measured = of_cells["statistics"].map(lambda chosen: GRADIENT in recorded(chosen))
    ends = of_cells["first_bad_step"].astype("Float64").where(of_cells["status"] == "diverged")
    return rows.assign(
        measured=rows["cell"].map(measured).astype(bool),
        diverged=rows["step"] >= rows["cell"].map(ends).astype(float).fillna(np.inf),
    )


def encoded(rows: pd.DataFrame) -> pd.DataFrame:
    """Encode the gradients of networks, one byte each.

    Parameters
    ----------
    rows
        By cell, step and layer, in this order: log10 RMS dC/dW (`GRADIENT`); whether it was
        ``measured``; whether the network has ``diverged`` by then.

    Returns
    -------
    DataFrame
        By cell: ``codes``; ``low`` and ``quantum``; ``middle``, the median over the layers that
        have a logarithm at the first probe where one has, which is step 0 but for gradients that
        are all zero there.
    """
    finite = rows[np.isfinite(rows[GRADIENT]) & ~rows["diverged"]]
    groups = finite.groupby("cell", sort=False)
    low, high = groups[GRADIENT].min(), groups[GRADIENT].max()
    first = finite[finite["step"] == groups["step"].transform("min")]
    scales = pd.DataFrame(
        {
            "low": low.round(4),
            "quantum": ((high - low) / LAST).round(6).clip(lower=1e-6),
            "middle": first.groupby("cell", sort=False)[GRADIENT].median().round(4),
        }
    )
    counted = rows.groupby("cell", sort=False).size()
    scales, sizes = scales.reindex(counted.index, fill_value=0.0), counted.to_numpy()
    codes = _codes(
        rows, *(np.repeat(scales[name].to_numpy(), sizes) for name in ("low", "quantum"))
    )
    pieces = np.split(codes, np.cumsum(sizes)[:-1])
    return scales.assign(codes=[piece.tobytes() for piece in pieces])


def _codes(
    rows: pd.DataFrame, low: npt.NDArray[np.float64], quantum: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    """Return the code of every row; ``low`` and ``quantum`` are those of its network."""
    logs = rows[GRADIENT].to_numpy(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.clip(np.rint((logs - low) / quantum), 0, LAST)
    missing, diverged = ~rows["measured"].to_numpy(bool), rows["diverged"].to_numpy(bool)
    lost = diverged | np.isnan(logs) | (logs == np.inf)
    states = [NOT_MEASURED, DIVERGED, ZERO]
    return np.select([missing, lost, logs == -np.inf], states, values).astype(np.uint8)


# ------------------------------------------------------------------------ losses and diagnoses


def _losses(chapter: Chapter) -> pd.DataFrame:
    """Return of every cell the ``steps`` of its probes and its ``losses`` of training there."""
    columns = ["cell", "step", "train_loss"]
    rows = tables.read(chapter.results, "steps", chapter.study, columns)
    groups = rows.groupby("cell", sort=False)
    losses = {cell: [*map(_short, values)] for cell, values in groups["train_loss"]}
    return pd.DataFrame({"steps": groups["step"].agg(tuple), "losses": losses})


def _marks(found: pd.DataFrame) -> pd.DataFrame:
    """Return of every cell the signs of its diagnoses at the first and at the last probe."""
    marks = found["diagnosis"].map(MARKS).groupby(found["cell"], sort=False)
    return pd.DataFrame({"start": marks.first(), "end": marks.last()})


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if np.isfinite(value) else None


# ----------------------------------------------------------------------------------- in words


def _settings(networks: pd.DataFrame, called: dict[str, dict[str, str]]) -> list[str]:
    """Return the parameters of networks in words, but for depth, seed and unused defaults."""
    usual = {f.name: as_text(f.name, f.default) for f in fields(Cell) if f.default is not MISSING}
    names = [
        name
        for name in PARAMETERS
        if name in networks
        and name != "depth"
        and (name in SHARED or (networks[name] != usual.get(name)).any())
    ]
    rows = [*networks[names].itertuples(index=False, name=None)]
    texts = {row: _phrases(names, row, called) for row in dict.fromkeys(rows)}  # seeds share them
    return [texts[row] for row in rows]


def _phrases(names: Sequence[str], values: Sequence[Any], called: dict[str, dict[str, str]]) -> str:
    pairs = zip(names, values, strict=True)
    return ", ".join(_phrase(name, value, called) for name, value in pairs)


def _phrase(name: str, value: Any, called: dict[str, dict[str, str]]) -> str:
    """Return a parameter in words: ``learning rate 0.03``; of an initializer its name alone."""
    text = typeset(called.get(name, {}).get(value, plain_text(value))).striptags()
    return text if name in ("dataset", "activation", "initializer") else f"{words(name)} {text}"
