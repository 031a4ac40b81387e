"""Claims and how they are judged; several cases of one are a family."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradprop import errors
from gradprop.analysis.needs import NotMeasured, unrecorded_refused
from gradprop.claims.cases import Case
from gradprop.claims.criteria import Criterion
from gradprop.claims.evidence import CONFIDENCE, NO_NETWORKS, NOT_PREDICTED, Evidence, untested
from gradprop.claims.verdicts import NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Result
from gradprop.results.study_tables import StudyTables


@dataclass(frozen=True)
class Claim:
    """A statement about a study's networks.

    Attributes
    ----------
    id
        Unique within the study.
    statement
        In plain words.
    source
        Where it is made: keys of references, each with the place after a colon, and words
        (`gradprop.claims.references.citations`): ``he2015: section 2.2; hanin2018; derived here``.
    formula
        What is predicted.
    unit
        Of prediction and measurement.
    criterion
        When it is supported; each piece of evidence gets a verdict of its own.
    measure
        From the study's tables to the evidence.
    note
        Where the claim holds only in part, why; or how its criterion came about.
    passage
        Where the first reference is tested passage by passage: the name of the passage, whose
        words are the entry's field ``passage-<name>``.
    check
        Whether this is a check of the instrument: an identity, or a comparison that cannot come out
        otherwise. It tells whether the measurement is right, nothing about networks, and is counted
        apart.
    """

    id: str
    statement: str
    source: str
    formula: str
    unit: str
    criterion: Criterion
    measure: Callable[[StudyTables], Iterable[Evidence]]
    note: str = ""
    passage: str = ""
    check: bool = False

    def __post_init__(self) -> None:
        for name in ("id", "statement"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(
                    f"Claim: {name}: {errors.show(value)} is not allowed; allowed: text"
                )
        if not hasattr(self.criterion, "accepted"):
            problem = f"{errors.show(self.criterion)} is not allowed"
            allowed = "Within, Above, Below, Between"
            raise ValueError(f"Claim: criterion: {problem}; allowed: {allowed}")
        if not callable(self.measure):
            raise ValueError(
                f"Claim: measure: {errors.show(self.measure)} is not allowed; allowed: a function"
            )


def judge(claim: Claim, tables: StudyTables) -> list[Result]:
    """Measure and judge one claim; without networks to test it on it is not tested.

    A study may be changed in any way that its schema allows. Where that leaves a claim without what
    it compares (`NotMeasured`), or without a statistic or a measurement that it reads, the cases
    that were measured before are judged, and the others are not tested. Any other exception is a
    mistake in the claim's code, and is not caught.

    Raises
    ------
    ValueError
        If two cases have one id.
    TypeError
        If it measures something else than evidence, or predicts nothing to compare with.
    """
    evidence: list[Evidence] = []
    try:
        with unrecorded_refused(tables.study):
            found: Any = claim.measure(tables)
            if found is None or isinstance(found, Evidence):
                what = "nothing" if found is None else "a single Evidence"
                raise TypeError(f"its measure returns {what}; write yield, or return a list")
            for item in found:
                evidence.append(item)
    except NotMeasured as lacking:
        evidence.append(untested("", str(lacking)))
    for item in evidence:
        if not isinstance(item, Evidence):
            raise TypeError(f"its measure gives {errors.show(item)}; allowed: Evidence")
        if item.predicted is NOT_PREDICTED and math.isnan(sum(claim.criterion.accepted(math.nan))):
            problem = f"the criterion is an {claim.criterion.text}, and nothing is predicted"
            raise TypeError(f"case {str(item.case)!r}: {problem}; give the evidence `predicted`")
    judged = holm(claim.criterion, evidence or [untested("", NO_NETWORKS)])
    results = [_result(claim, tables.study.name, item) for item in judged]
    ids = Counter(result.case_id for result in results)
    if twice := [name for name, number in ids.items() if number > 1]:
        raise ValueError(f"two cases have the id {twice[0]!r}")
    return results


def holm(criterion: Criterion, evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return evidence with the intervals by which a family of cases is judged.

    The step-down procedure of Holm (1979) by intervals: of m cases that wait, those are supported
    whose interval meets the criterion at the one-sided level of 5 % / m; then the others get the
    level of the smaller m, until none is supported any more. The chance to support any case
    wrongly is at most 5 %, however the cases depend on each other. A single case keeps its 90 %
    interval; cases without chance or without a number are no part of the family.
    """
    judged = list(evidence)
    waiting = [n for n, item in enumerate(judged) if item.interval and not math.isnan(item.low)]
    while waiting:
        confidence = 1 - (1 - CONFIDENCE) / len(waiting)
        for n in waiting:
            judged[n] = judged[n].at(confidence)
        failed = [n for n in waiting if not criterion.holds(judged[n])]
        if len(failed) == len(waiting):
            break
        waiting = failed
    return judged


def _result(claim: Claim, study: str, evidence: Evidence) -> Result:
    if math.isnan(evidence.low) or math.isnan(evidence.high):
        verdict = NOT_TESTED
        evidence = replace(evidence, reason=evidence.reason or "fewer than two networks")
    elif any(map(math.isnan, claim.criterion.accepted(evidence.predicted))):
        verdict = NOT_TESTED
        evidence = replace(evidence, reason=evidence.reason or "theory predicts no number")
    else:
        verdict = SUPPORTED if claim.criterion.holds(evidence) else NOT_SUPPORTED
    numbers = {name: _number(getattr(evidence, name)) for name in _NUMBERS}
    least, most = claim.criterion.accepted(evidence.predicted)
    case = evidence.case if isinstance(evidence.case, Case) else Case(evidence.case)
    return Result(
        study=study,
        id=claim.id,
        case=case.text,
        case_id=case.id,
        statement=claim.statement,
        source=claim.source,
        formula=claim.formula,
        unit=claim.unit,
        criterion=claim.criterion.text,
        networks=evidence.networks,
        verdict=verdict,
        reason=evidence.reason,
        confidence=evidence.confidence,
        note=claim.note,
        passage=claim.passage,
        cites=claim.source,
        check=claim.check,
        least=_number(least),
        most=_number(most),
        **numbers,
    )


_NUMBERS = ("predicted", "measured", "low", "high")


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
