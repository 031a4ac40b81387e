"""The tables of the report: claims, diagnoses, final results."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from gradprop import claims
from gradprop.analysis import alarms, diagnosis
from gradprop.analysis.names import name_of, names_of
from gradprop.analysis.thresholds import Thresholds
from gradprop.claims import Result
from gradprop.report.bibliography import Bibliography
from gradprop.report.formatting import (
    DASH,
    Text,
    column_label,
    count,
    percent,
    plain_text,
    sig,
    slugify,
)
from gradprop.report.formulas import typeset
from gradprop.spec import Cell, Study, as_text

LONGEST_OPEN_TABLE = 12
# What always names a row of the final results; whatever else tells rows apart is added.
KEYS = ("dataset", "activation", "depth", "initializer")
PARAMETERS = tuple(f.name for f in fields(Cell) if f.name != "seed")
# Worth naming in the caption if all cells of a study share them.
SHARED = ("width", "epochs", "batch_size", "optimizer", "learning_rate")
# And these if they are not left at what they are by default.
DEFAULTS = {f.name: as_text(f.name, f.default) for f in fields(Cell)}
SHARED_CHANGES = (
    "schedule",
    "clipping",
    "normalization",
    "residual",
    "dropout",
    "precision",
    "loss_scale",
    "loss",
)
ACCURACIES = ("final_train_accuracy", "final_test_accuracy")
LOSSES = ("final_train_loss", "final_test_loss")
UNTRAINED = (
    "The networks of this study were measured at initialization only: the shares of them that "
    "diverged or underflowed, and the smallest depth at which one did."
)


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes
    ----------
    id, caption
        Anchor and description.
    columns
        For every column its heading and whether it holds numbers.
    rows
        The text of every cell.
    keys
        How many leading columns name the row.
    """

    id: str
    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Text]]
    keys: int = 1

    @property
    def is_long(self) -> bool:
        """Whether the table is better folded."""
        return len(self.rows) > LONGEST_OPEN_TABLE


# What became of a passage, by whether all or some of its cases are supported.
PASSAGES = {(True, True): "holds", (False, True): "holds in part", (False, False): "does not hold"}


def passages_table(results: Sequence[Result], bibliography: Bibliography) -> Table:
    """Return what became of the passages that claims test, in the order of the results."""
    rows: list[list[Text]] = []
    for passage in dict.fromkeys(result.passage for result in results if result.passage):
        tests = [result for result in results if result.passage == passage]
        first = tests[0].cites.split(";")[0]  # others say the same
        source = bibliography.source(replace(tests[0], cites=first))
        supported = [result.verdict == claims.SUPPORTED for result in tests]
        tested = any(result.verdict != claims.NOT_TESTED for result in tests)
        failing = [r for r in tests if r.verdict == claims.NOT_SUPPORTED]
        rows.append(
            [
                Markup('{} <span class="below">{}</span>').format(passage, source),
                PASSAGES[all(supported), any(supported)] if tested else claims.NOT_TESTED,
                f"{count(sum(supported))} of {count(len(tests))}",
                " ".join(dict.fromkeys(result.note for result in failing if result.note)) or DASH,
            ]
        )
    return Table(
        id="passages-table",
        caption=(
            "Passage by passage, in our words: how many of the cases that test it are supported, "
            "and why where some are not. The cases and their numbers follow, claim by claim."
        ),
        columns=[
            ("What it says", False),
            ("Verdict", False),
            ("Cases", True),
            ("Why not in the others", False),
        ],
        rows=rows,
    )


def final_results(cells: pd.DataFrame) -> pd.DataFrame:
    """Summarize the seeds of every configuration of a study.

    Parameters
    ----------
    cells
        The ``cells`` table.

    Returns
    -------
    pandas.DataFrame
        One row for each configuration, named by the `KEYS` and by what else tells them apart:
        number of seeds; medians of the final losses and accuracies over the seeds for
        which they are defined; shares of diverged and underflowed seeds. Texts are in the
        order in which the grid names them, numbers ascend. If no cell was trained, all depths
        share a row, with their range and the smallest depth of which a cell is not ok.
    """
    trained = cells["epochs"].any()
    keys = [key for key in distinguishing(cells) if trained or key != "depth"]
    marked = cells.assign(
        diverged=cells["status"] == "diverged",
        underflowed=cells["status"] == "underflowed",
        bad_depth=cells["depth"].where(cells["status"] != "ok"),
    )
    if trained:
        measured = {name: (name, "median") for name in (*ACCURACIES, *LOSSES)}
    else:
        measured = {"depth_min": ("depth", "min"), "depth_max": ("depth", "max")}
        measured["first_bad_depth"] = ("bad_depth", "min")
    shares = {name: (name, "mean") for name in ("diverged", "underflowed")}
    groups = marked.groupby(keys, sort=False)
    summary = groups.agg(seeds=("seed", "nunique"), **measured, **shares).reset_index()
    return in_order(summary, keys)


def distinguishing(cells: pd.DataFrame) -> list[str]:
    """Return the parameters that name a row of the final results.

    A parameter that follows from the others (a width that each data set has its own of) is
    left out, but for those of the optimizer.
    """
    keys = list(KEYS)
    for name in PARAMETERS:
        if name in keys or name not in cells or cells[name].nunique() == 1:
            continue
        splits = len(cells[[*keys, name]].drop_duplicates()) > len(cells[keys].drop_duplicates())
        if splits or name in ("optimizer", "learning_rate"):
            keys.append(name)
    return keys


def in_order(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Sort rows by these columns: numbers ascend, texts come as they first appear."""
    ranks = pd.concat([_ranks(rows[key]) for key in keys], axis=1)
    return rows.loc[ranks.sort_values([*keys]).index].reset_index(drop=True)


def _ranks(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return what a column is sorted by: numbers themselves, texts by first appearance."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    return pd.Series(pd.factorize(values)[0], index=values.index, name=values.name)


def diagnosis_table(
    chapter_id: str, study: Study, cells: pd.DataFrame, found: pd.DataFrame
) -> Table:
    """Return how many networks of a study have which diagnosis, by initializer and depth.

    Parameters
    ----------
    chapter_id
        Of the study's chapter.
    study
        The study.
    cells
        Its ``cells`` table.
    found
        Its diagnoses, as `gradprop.analysis.diagnosis.write` writes them.
    """
    numbers = diagnosis.counts(cells, found, ["initializer", "depth"])
    numbers = numbers.sort_values("depth", kind="stable")
    order, called = list(dict.fromkeys(cells["initializer"])), names_of(study)["initializer"]
    numbers = numbers.sort_values("initializer", key=lambda c: c.map(order.index), kind="stable")
    rows: dict[tuple[str, int], list[list[int]]] = {}
    for initializer, depth, _, *networks in numbers.itertuples(index=False, name=None):
        rows.setdefault((initializer, depth), []).append(networks)
    return Table(
        id=f"diagnoses-{chapter_id}",
        caption=diagnoses_caption(Thresholds.of(study)),
        columns=[
            ("Initializer", False),
            ("Depth", True),
            *((name.capitalize(), True) for name in diagnosis.DIAGNOSES),
            *((f"Length {name}", True) for name in diagnosis.LENGTHS),
        ],
        rows=[
            [
                _named(initializer, called),
                count(depth),
                *(
                    " → ".join(map(count, numbers)) if any(numbers) else DASH
                    for numbers in zip(*probes, strict=True)
                ),
            ]
            for (initializer, depth), probes in rows.items()
        ],
        keys=2,
    )


def diagnoses_caption(chosen: Thresholds) -> str:
    """Return what the table of diagnoses shows, with the study's thresholds."""
    compared = {
        "signal": "back-propagated signal of the first hidden layer over that of the last, by a "
        "straight line in log10",
        "weight_gradients": "norm of the first layer's weight gradient over that of the outputs",
    }[chosen.compares]
    small = f" and {chosen.first_layer:g} in the first layer" if chosen.is_absolute else ""
    return (
        f"How many networks have which diagnosis. It rests on the {compared}: below "
        f"{chosen.vanishing:g}{small} (vanishing) or above {chosen.exploding:g} (exploding). The "
        "signal may also be exactly zero in some layer without having fallen below float32 on the "
        "way (dead), or no larger than the rounding error of the sum that it comes from "
        "(rounding); and something in the forward or the backward pass, the loss included, may "
        "not be finite (diverged). The length, the mean square of pre-activations, vanishes or "
        f"explodes if it changes by more than a factor of {chosen.length:g} from the first hidden "
        "layer to the last. Trained networks have two diagnoses, at initialization → at the end."
    )


def _middle(value: float) -> str:
    """Return the median of whole numbers, not negative: ``1,200`` or ``2.5``."""
    return f"{value:,.1f}".removesuffix(".0")


def alarm_table(chapter_id: str, study: Study, cells: pd.DataFrame, found: pd.DataFrame) -> Table:
    """Return how often which alarm fired in a study, by initializer, and when and where first.

    Parameters
    ----------
    chapter_id
        Of the study's chapter.
    study
        The study.
    cells
        Its ``cells`` table.
    found
        Its alarms, as `gradprop.analysis.diagnosis.write` writes them.
    """
    chosen = Thresholds.of(study)
    numbers = alarms.counts(cells, found, "initializer")
    texts = {name: alarm.text(getattr(chosen, name)) for name, alarm in alarms.ALARMS.items()}
    rows, called = numbers.itertuples(index=False, name=None), names_of(study)["initializer"]
    explained = set()

    def named(alarm: str) -> Text:
        """Return what an alarm is called, and what it says where it stands for the first time."""
        if alarm in explained:
            return column_label(alarm)
        explained.add(alarm)
        below = Markup('{} <span class="below">{}</span>')
        return below.format(column_label(alarm), texts[alarm])

    return Table(
        id=f"alarms-{chapter_id}",
        caption=(
            "Rules of thumb that networks broke: how many did, and medians over them of the first "
            "step at which it was seen and of the lowest layer then."
        ),
        columns=[
            ("Alarm", False),
            ("Initializer", False),
            *((name, True) for name in ("Networks", "First step", "Layer")),
        ],
        rows=[
            *(
                [
                    named(alarm),
                    _named(initializer, called),
                    f"{count(fired)} of {count(networks)}",
                    _middle(step),
                    _middle(layer),
                ]
                for alarm, initializer, step, layer, fired, networks in rows
            ),
            *(
                [
                    named(alarm),
                    DASH,
                    f"not judged in {count(number)} of {count(len(cells))}",
                    DASH,
                    DASH,
                ]
                for alarm, number in alarms.not_judged(cells).items()
            ),
        ],
        keys=2,
    )


def results_table(study: Study, cells: pd.DataFrame, summary: pd.DataFrame) -> Table:
    """Return the table of a study's final results, of trained or of untrained networks."""
    keys = [name for name in summary.columns if name in PARAMETERS]
    called = names_of(study)
    columns = [
        (column_label(key), pd.api.types.is_any_real_numeric_dtype(summary[key])) for key in keys
    ]
    trained = "depth" in keys
    measured = _trained_columns(summary) if trained else _untrained_columns(summary)
    columns += [(name, True) for name in measured]
    rows = zip(
        *([_named(value, called.get(key, {})) for value in summary[key]] for key in keys),
        strict=True,
    )
    return Table(
        id=f"results-{slugify(study.name)}",
        caption=_results_caption(cells) if trained else UNTRAINED,
        columns=columns,
        rows=[
            [*names, *rest]
            for names, rest in zip(rows, zip(*measured.values(), strict=True), strict=True)
        ],
        keys=len(keys),
    )


def _trained_columns(summary: pd.DataFrame) -> dict[str, list[Text]]:
    """Return heading and texts of the columns of results."""
    shown = [name for name in ACCURACIES if summary[name].notna().any()]
    regression = summary[ACCURACIES[0]].isna() & summary[LOSSES[0]].notna()
    shown += LOSSES if regression.any() else ()
    finals = {
        column_label(name): [_final(value, name in ACCURACIES) for value in summary[name]]
        for name in shown
    }
    return {"Seeds": [*map(count, summary["seeds"])], **finals, **_shares(summary)}


def _untrained_columns(summary: pd.DataFrame) -> dict[str, list[Text]]:
    """Return the same for cells that were measured at initialization only."""
    ranges = zip(summary["depth_min"], summary["depth_max"], strict=True)
    return {
        "Depths": [f"{low}" if low == high else f"{low} to {high}" for low, high in ranges],
        "Seeds": [*map(count, summary["seeds"])],
        **_shares(summary),
        "First depth not ok": [
            DASH if math.isnan(depth) else count(depth) for depth in summary["first_bad_depth"]
        ],
    }


def _shares(summary: pd.DataFrame) -> dict[str, list[Text]]:
    return {
        column_label(name): [*map(percent, summary[name])] for name in ("diverged", "underflowed")
    }


def _named(value: Any, called: Mapping[str, str]) -> Text:
    """Return a parameter's value; of a component its name, and below what a study names so."""
    if value not in called:
        return plain_text(value)
    name, plain = called[value], name_of(value)
    if name == plain:
        return name
    return Markup('{} <span class="below">{}</span>').format(typeset(name), plain)


def _final(value: float, is_accuracy: bool) -> Text:
    if math.isnan(value):
        return DASH
    return percent(value, 1) if is_accuracy else sig(value)


def _results_caption(cells: pd.DataFrame) -> str:
    common = {
        name: cells[name].iloc[0]
        for name in (*SHARED, *SHARED_CHANGES)
        if name in cells and cells[name].nunique() == 1
    }
    settings = [
        f"{name.replace('_', ' ')} {_setting(value)}"
        for name, value in common.items()
        if name in SHARED or value != DEFAULTS[name]
    ]
    shared = f" Common to all rows: {', '.join(settings)}." if settings else ""
    return (
        "Medians over the seeds whose result is finite, and the shares of all seeds that "
        f"diverged or underflowed; a dash where no seed has a finite result.{shared}"
    )


def _setting(value: Any) -> str:
    return name_of(value) if isinstance(value, str) else plain_text(value)


def csv_uri(summary: pd.DataFrame) -> str:
    """Return a table as the address of a CSV file that the page itself holds."""
    content = summary.to_csv(index=False, lineterminator="\n").encode()
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode('ascii')}"
