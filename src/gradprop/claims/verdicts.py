"""Verdicts: written, read back, listed and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradprop import files
from gradprop.claims.evidence import CONFIDENCE
from gradprop.errors import GradpropError

SUPPORTED, NOT_SUPPORTED, NOT_TESTED = "supported", "not supported", "not tested"
VERDICTS = (NOT_SUPPORTED, NOT_TESTED, SUPPORTED)  # the failing ones first


class ClaimError(GradpropError):
    """A file of verdicts is missing or says something else than the results."""


@dataclass(frozen=True)
class Result:
    """A row of ``reports/claims/<study>.json``: a claim, one piece of evidence, its verdict.

    Its source is for readers; `cites` has the same with the keys of references. The criterion
    accepts intervals between `least` and `most`; None where there is no such bound. `check` marks a
    check of the instrument.
    """

    study: str
    id: str
    case: str
    case_id: str
    statement: str
    source: str
    formula: str
    unit: str
    criterion: str
    predicted: float | None
    measured: float | None
    low: float | None
    high: float | None
    networks: int
    verdict: str
    reason: str
    confidence: float = CONFIDENCE
    note: str = ""
    passage: str = ""
    cites: str = ""
    least: float | None = None
    most: float | None = None
    check: bool = False

    @property
    def key(self) -> str:
        """The name by which a verdict is listed."""
        return f"{self.study}/{self.id}/{self.case_id}"


def write(results: Sequence[Result], path: Path) -> None:
    """Write verdicts as JSON, a row per line."""
    rows = ",\n".join(json.dumps(vars(result), ensure_ascii=False) for result in results)
    files.write_text(path, f"[\n{rows}\n]\n")


def read(path: Path) -> list[Result]:
    """Read verdicts back.

    Raises
    ------
    ClaimError
        If the file holds something else.
    gradprop.files.FileError
        If it cannot be read.
    """
    try:
        return [Result(**row) for row in files.read_json(path, list)]
    except TypeError as error:
        raise ClaimError(f"{path}: not a list of verdicts ({error})") from None


def read_listed(path: Path) -> dict[str, str]:
    """Read the listed verdicts, by the key of their result.

    Raises
    ------
    ClaimError
        If the file holds something else.
    gradprop.files.FileError
        If it cannot be read.
    """
    listed: dict[str, str] = files.read_json(path, dict)
    for key, verdict in listed.items():
        if verdict not in VERDICTS:
            raise ClaimError(f"{path}: {key}: {verdict!r} is not one of: {', '.join(VERDICTS)}")
    return listed


def sort(results: Iterable[Result]) -> list[Result]:
    """Return results with the failing ones first, checks of the instrument after all claims."""
    return sorted(results, key=lambda result: (result.check, VERDICTS.index(result.verdict)))


def broken(
    results: Iterable[Result], listed: Mapping[str, str], studies: Iterable[str]
) -> list[str]:
    """Return the claims that are listed as supported and, by these results, no longer are.

    Parameters
    ----------
    results
        The verdicts now.
    listed
        Verdicts by the key of their result.
    studies
        Those whose files were read, with or without results: a listed claim of one of them counts
        as broken if it is gone.
    """
    now = {result.key: result.verdict for result in results}
    read_studies = {key.split("/")[0] for key in now} | set(studies)
    return [
        key
        for key, verdict in listed.items()
        if verdict == SUPPORTED
        and key.split("/")[0] in read_studies
        and now.get(key, NOT_TESTED) != SUPPORTED
    ]


def text_table(results: Iterable[Result]) -> str:
    """Return verdicts as text for a terminal, in the order of `sort`."""
    lines = []
    for result in sort(results):
        number = "–" if result.measured is None else f"{result.measured:.6g}"
        if result.low != result.high:
            bounds = (
                "∞" if bound is None else f"{bound:.4g}" for bound in (result.low, result.high)
            )
            number += f" [{', '.join(bounds)}]"
        if result.predicted is not None:
            number += f", predicted {result.predicted:.6g}"
        why = f" ({result.reason})" if result.reason else ""
        name = f"check {result.key}" if result.check else result.key
        lines.append(f"{result.verdict:14} {name}: {number} {result.unit}{why}".rstrip())
    return "\n".join(lines)


def counts(results: Iterable[Result], check: bool = False) -> dict[str, int]:
    """Return how many claims have each verdict; or how many checks of the instrument."""
    verdicts: list[Any] = [result.verdict for result in results if result.check == check]
    return {verdict: verdicts.count(verdict) for verdict in reversed(VERDICTS)}
