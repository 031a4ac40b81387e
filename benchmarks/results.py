"""The table of results: rows, CSV and text."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One number of the table: the median of all repetitions, with the extremes.

    Attributes
    ----------
    part
        Part of the benchmark that measured it.
    subject
        What was measured.
    case
        Depth, number of cells …; ``all`` for the whole work.
    quantity, unit
        What the number is.
    value, low, high
        Median, minimum and maximum of the repetitions.
    repetitions
        Their number.
    aim
        What it should be, for example ``>= 50``; empty if there is no aim.
    note
        How it was obtained, where that is not plain measurement.
    processor
        The machine.
    """

    part: str
    subject: str
    case: str
    quantity: str
    unit: str
    value: float
    low: float
    high: float
    repetitions: int
    aim: str = ""
    note: str = ""
    processor: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or nothing where there is no aim."""
        if not self.aim:
            return ""
        sign, limit = self.aim.split()
        good = self.value >= float(limit) if sign == ">=" else self.value <= float(limit)
        return "met" if good else "not met"


def row(
    part: str,
    subject: str,
    case: object,
    quantity: str,
    unit: str,
    values: Sequence[float],
    aim: str = "",
    note: str = "",
) -> Row:
    """Summarize the values of all repetitions in one row."""
    return Row(
        part=part,
        subject=subject,
        case=str(case),
        quantity=quantity,
        unit=unit,
        value=_round(statistics.median(values)),
        low=_round(min(values)),
        high=_round(max(values)),
        repetitions=len(values),
        aim=aim,
        note=note,
    )


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def read(path: Path) -> list[Row]:
    """Read a table; none is an empty one."""
    if not path.exists():
        return []
    kinds = {f.name: {"float": float, "int": int}.get(str(f.type), str) for f in fields(Row)}
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Row(**{key: kinds[key](value) for key, value in line.items() if key in kinds})
            for line in csv.DictReader(stream)
        ]


def write(rows: Iterable[Row], path: Path) -> None:
    """Write a table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [*(f.name for f in fields(Row)), "verdict"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(r), "verdict": r.verdict} for r in rows)


def text(rows: Sequence[Row]) -> str:
    """Return a table as aligned text, one block a part."""
    blocks = []
    for part in dict.fromkeys(r.part for r in rows):
        lines = [_columns(r) for r in rows if r.part == part]
        header = ("subject", "case", "quantity", "median", "min - max", "aim", "verdict", "note")
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in [header, *lines]
        ]
        blocks.append("\n".join([f"[{part}]", *shown]))
    return "\n\n".join(blocks)


def _columns(r: Row) -> tuple[str, ...]:
    value = f"{r.value:g} {r.unit}".strip()
    spread = f"{r.low:g} - {r.high:g}"
    return (r.subject, r.case, r.quantity, value, spread, r.aim, r.verdict, r.note)
