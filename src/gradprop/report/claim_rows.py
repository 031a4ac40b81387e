"""Claims as the report shows them: one entry per claim, with its cases and a small plot of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from gradprop import claims
from gradprop.analysis.names import in_words
from gradprop.claims import Result
from gradprop.report.bibliography import Bibliography
from gradprop.report.formatting import DASH, Text, plural, sig, slugify
from gradprop.report.formulas import typeset

MOST_OPEN_CASES = 2
MOST_DIGITS = 8  # of numbers that differ, as float32 has them
# Of a plot, in CSS pixels; margins as a share of its range.
WIDTH, HEIGHT, MARGIN = 160.0, 18.0, 0.12


@dataclass(frozen=True)
class Case:
    """One piece of evidence of a claim.

    Attributes
    ----------
    verdict, reason
        What was found, and why there is no number.
    text
        Which networks, and how many.
    measured, predicted
        The numbers in words; the interval beside the measured one.
    plot
        The interval over what the criterion accepts, as SVG.
    """

    verdict: str
    reason: str
    text: Markup
    measured: Text
    predicted: Text
    plot: Markup


@dataclass(frozen=True)
class Entry:
    """One claim with its cases.

    Attributes
    ----------
    id, first
        Its anchor, and the result of its first case: what all its cases share.
    source
        Where the statement is made, with links.
    verdict
        That of all cases, or in how many the claim is supported.
    shown, folded
        Its cases: those that are not supported and a few others, and the rest.
    """

    id: str
    first: Result
    source: Text
    verdict: str
    shown: Sequence[Case]
    folded: Sequence[Case]


def entries(
    results: Sequence[Result], bibliography: Bibliography, names: Mapping[str, Mapping[str, str]]
) -> dict[str, list[Entry]]:
    """Return the claims of every study, by its name; those that are not supported first.

    Checks of the instrument come after all others. `names` are, by study, the names of components
    by their label.
    """
    found: dict[str, list[Entry]] = {}
    for (study, _), cases in groupby(results, key=lambda result: (result.study, result.id)):
        found.setdefault(study, []).append(_entry(list(cases), bibliography, names.get(study, {})))
    for claimed in found.values():
        claimed.sort(key=lambda entry: (entry.first.check, entry.verdict == claims.SUPPORTED))
    return found


def _entry(
    results: Sequence[Result], bibliography: Bibliography, names: Mapping[str, str]
) -> Entry:
    first = results[0]
    verdicts = [result.verdict for result in results]
    supported = verdicts.count(claims.SUPPORTED)
    verdict = verdicts[0]
    if len(set(verdicts)) > 1:
        verdict = f"supported in {supported} of {len(verdicts)}"
    ordered = [_case(result, names) for result in claims.sort(results)]
    failing = sum(case.verdict != claims.SUPPORTED for case in ordered)
    shown = max(failing, MOST_OPEN_CASES)
    if len(ordered) - shown == 1:  # one more takes less room than the line that unfolds it
        shown += 1
    return Entry(
        id=f"claim-{slugify(first.study)}.{slugify(first.id)}",
        first=first,
        source=bibliography.source(first),
        verdict=verdict,
        shown=ordered[:shown],
        folded=ordered[shown:],
    )


def _case(result: Result, names: Mapping[str, str]) -> Case:
    digits = _digits(result)
    measured: Text = DASH if result.measured is None else sig(result.measured, digits)
    if result.low is not None and result.high is not None and result.low != result.high:
        measured = Markup("{} [{}, {}]").format(measured, sig(result.low), sig(result.high))
    networks = plural(result.networks, "network", "networks")
    return Case(
        verdict=result.verdict,
        reason=result.reason,
        text=typeset(
            " · ".join(
                filter(None, [in_words(result.case, names), networks if result.networks else ""])
            )
        ),
        measured=measured,
        predicted=DASH if result.predicted is None else sig(result.predicted, digits),
        plot=plot(result),
    )


def _digits(result: Result) -> int:
    """Return how many digits show why a case is not supported: three, or as many as differ."""
    known = (result.measured, result.predicted)
    if result.verdict != claims.SUPPORTED and None not in known and known[0] != known[1]:
        for digits in range(3, MOST_DIGITS):
            if len({sig(number, digits) for number in known if number is not None}) > 1:
                return digits
    return 3


def plot(result: Result) -> Markup:
    """Draw the measured interval over the band that the criterion accepts, the prediction a tick.

    Empty where nothing was measured. A bound that is infinite lies at the edge.
    """
    if result.measured is None:
        return Markup()
    known = (result.measured, result.low, result.high, result.predicted)
    numbers = [n for n in (*known, result.least, result.most) if n is not None]
    low, high = min(numbers), max(numbers)
    pad = MARGIN * (high - low) or 1.0

    def x(value: float | None, edge: float) -> float:
        return edge if value is None else WIDTH * (value - low + pad) / (high - low + 2 * pad)

    start, end = x(result.least, 0.0), x(result.most, WIDTH)
    left, right = x(result.low, 0.0), x(result.high, WIDTH)
    middle = HEIGHT / 2
    tick = Markup('<path class="predicted" d="M{0:.1f} 2V{1:g}"/>')
    return Markup(
        '<svg class="interval" viewBox="0 0 {w:g} {h:g}" width="{w:g}" height="{h:g}" '
        'aria-hidden="true"><rect class="accepted" x="{start:.1f}" y="1" width="{band:.1f}" '
        'height="{inner:g}"/>{tick}<path class="measured" d="M{left:.1f} {m:g}H{right:.1f}"/>'
        '<circle class="measured" cx="{dot:.1f}" cy="{m:g}" r="3"/></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        m=middle,
        inner=HEIGHT - 2,
        start=start,
        band=max(end - start, 1.5),
        left=left,
        right=max(right, left),
        dot=x(result.measured, math.nan),
        tick="" if result.predicted is None else tick.format(x(result.predicted, 0.0), HEIGHT - 2),
    )
