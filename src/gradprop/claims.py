"""Claims: falsifiable statements, judged by the result tables of a study.

A claim states its prediction and its criterion before anything is measured; the verdict is
computed. "Equal" is never concluded from a difference that is not significant: an interval has to
lie within a tolerance (two one-sided tests for equivalence, Schuirmann 1987). Where a claim has
several cases, the chance that any of them is supported wrongly is kept at 5 % (Holm 1979).

References
----------
D. J. Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach for
assessing the equivalence of average bioavailability", J. Pharmacokinetics and Biopharmaceutics 15,
657-680. S. Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
Journal of Statistics 6, 65-70. P. Massart 1990, "The tight constant in the Dvoretzky-Kiefer-
Wolfowitz inequality", Annals of Probability 18, 1269-1283. C. J. Clopper and E. S. Pearson 1934,
"The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26,
404-413.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gradprop import analysis, files
from gradprop.errors import GradpropError
from gradprop.figures.data import StudyTables

SUPPORTED, NOT_SUPPORTED, NOT_TESTED = "supported", "not supported", "not tested"
VERDICTS = (NOT_SUPPORTED, NOT_TESTED, SUPPORTED)  # the failing ones first

# Two-sided; each of its bounds is one of a one-sided test at the level of 5 %.
CONFIDENCE = 0.90

NO_NETWORKS = "the study has no such networks"


class ClaimError(GradpropError):
    """A file of verdicts is missing or says something else than the results."""


@dataclass(frozen=True)
class Evidence:
    """What one case of a claim is judged by.

    Attributes
    ----------
    case
        Which networks, or which part of the claim.
    predicted
        NaN if the claim predicts no number.
    measured, low, high
        Estimate and its interval; the same number three times if it is exact.
    networks
        How many independent networks (seeds) it rests on.
    reason
        Why there is no number, where there is none.
    interval
        From a confidence to the interval; None if there is no chance in it.
    confidence
        That of `low` and `high`.
    """

    case: str
    predicted: float
    measured: float
    low: float
    high: float
    networks: int
    reason: str = ""
    interval: Callable[[float], tuple[float, float]] | None = None
    confidence: float = CONFIDENCE

    def at(self, confidence: float) -> Evidence:
        """Return the same evidence with the interval of another confidence."""
        if self.interval is None:
            return self
        low, high = self.interval(confidence)
        return replace(self, low=low, high=high, confidence=confidence)


def exact(case: str, value: float, predicted: float, networks: int = 1) -> Evidence:
    """Return evidence without chance in it."""
    return Evidence(case, predicted, value, value, value, networks)


def from_interval(
    case: str,
    measured: float,
    interval: Callable[[float], tuple[float, float]],
    networks: int,
    predicted: float = math.nan,
) -> Evidence:
    """Return an estimate with its interval, given as a function of the confidence."""
    return Evidence(case, predicted, measured, *interval(CONFIDENCE), networks, interval=interval)


def from_seeds(case: str, values: npt.ArrayLike, predicted: float = math.nan) -> Evidence:
    """Return the mean over seeds with its t-interval.

    Parameters
    ----------
    case
        Which networks.
    values
        One number a seed: seeds are the unit of replication, layers and steps are not.
    predicted
        What theory says.
    """
    array = np.asarray(values, dtype=np.float64)
    if reason := _lost(array):
        return replace(untested(case, reason), predicted=predicted, networks=len(array))

    def interval(confidence: float) -> tuple[float, float]:
        return analysis.mean_interval(array, confidence)[1:]

    return from_interval(case, float(array.mean()), interval, len(array), predicted)


def from_layers(case: str, values: npt.ArrayLike, predicted: float) -> Evidence:
    """Return the mean over seeds where it is furthest from its prediction, of several layers.

    The interval is the smallest that contains the t-interval of every layer's mean, so that it
    meets a tolerance only if every layer does. That needs no more confidence than one layer: the
    chance that all of several intervals meet it wrongly is no larger than that of one (Berger
    1982).

    Parameters
    ----------
    case
        Which networks.
    values
        Shape (layers, seeds).
    predicted
        What theory says of all layers: one number.
    """
    array = np.asarray(values, dtype=np.float64)
    if reason := _lost(array.ravel()):
        return replace(untested(case, reason), predicted=predicted, networks=array.shape[-1])
    means = array.mean(axis=1)

    def interval(confidence: float) -> tuple[float, float]:
        bounds = np.array([analysis.mean_interval(row, confidence)[1:] for row in array])
        return float(bounds[:, 0].min()), float(bounds[:, 1].max())

    furthest = float(means[np.abs(means - predicted).argmax()])
    return from_interval(case, furthest, interval, array.shape[1], predicted)


def from_test(case: str, p_value: float, networks: int) -> Evidence:
    """Return the p-value of a one-sided test.

    With other cases in a family (see `holm`) it is multiplied by the number of those that wait.
    """
    if math.isnan(p_value):
        return replace(untested(case, "the test has no p-value here"), networks=networks)

    def adjusted(confidence: float) -> tuple[float, float]:
        p = min(1.0, p_value * (1 - CONFIDENCE) / (1 - confidence))
        return p, p

    return from_interval(case, p_value, adjusted, networks)


def from_variance(case: str, values: npt.ArrayLike, expected: float) -> Evidence:
    """Return the variance over networks divided by the expected one, which should be 1.

    Its interval is ``(n - 1) s^2 / chi^2``, exact for normal values.

    Parameters
    ----------
    case
        Which networks.
    values
        One number a network.
    expected
        The variance by theory.
    """
    array = np.asarray(values, dtype=np.float64)
    too_few = "fewer than two networks" if len(array) < 2 else ""
    if reason := _lost(array) or too_few or ("" if expected > 0 else "theory has no variance"):
        return replace(untested(case, reason), predicted=1.0, networks=len(array))
    freedom, ratio = len(array) - 1, float(array.var(ddof=1)) / expected

    def interval(confidence: float) -> tuple[float, float]:
        low, high = stats.chi2.interval(confidence, freedom)
        return float(freedom * ratio / high), float(freedom * ratio / low)

    return from_interval(case, ratio, interval, len(array), predicted=1.0)


def from_bootstrap(
    case: str,
    values: npt.NDArray[Any],
    statistic: Callable[[npt.NDArray[Any]], float],
    predicted: float = math.nan,
) -> Evidence:
    """Return a statistic of independent rows with its percentile interval (Efron 1979).

    Parameters
    ----------
    case
        Which networks.
    values
        Shape (networks or seeds, ...).
    statistic
        From such an array, with rows left out and others repeated, to a number.
    predicted
        What theory says.
    """
    if len(values) < 2:
        reason = "fewer than two networks" if len(values) else NO_NETWORKS
        return replace(untested(case, reason), predicted=predicted, networks=len(values))
    estimate, *resampled = analysis.bootstrap(values, statistic)
    if not math.isfinite(estimate) or np.isnan(resampled).any():
        reason = "there is no such number for these networks, or for a resample of them"
        return replace(untested(case, reason), predicted=predicted, networks=len(values))

    def interval(confidence: float) -> tuple[float, float]:
        """Return the values outside; between two, of which one is infinite, there is none."""
        low = np.quantile(resampled, (1 - confidence) / 2, method="lower")
        high = np.quantile(resampled, (1 + confidence) / 2, method="higher")
        return float(low), float(high)

    return from_interval(case, float(estimate), interval, len(values), predicted)


def from_distribution(case: str, values: npt.ArrayLike, cdf: Callable[[Any], Any]) -> Evidence:
    """Return how far the distribution of independent values is from an expected one.

    The largest distance between both distribution functions, Kolmogorov's statistic D, with the
    interval ``D ± sqrt(ln(2 / (1 - confidence)) / (2 n))``: it holds at every n, whatever the
    distribution (Massart 1990).

    Parameters
    ----------
    case
        Which networks.
    values
        One number a network.
    cdf
        The expected distribution function.
    """
    array = np.asarray(values, dtype=np.float64)
    if reason := _lost(array):
        return replace(untested(case, reason), predicted=0.0, networks=len(array))
    with np.errstate(invalid="ignore"):
        distance = float(stats.kstest(array, cdf).statistic)
    if math.isnan(distance):
        return untested(case, "theory has no such distribution")

    def interval(confidence: float) -> tuple[float, float]:
        half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * len(array)))
        return max(distance - half, 0.0), min(distance + half, 1.0)

    return from_interval(case, distance, interval, len(array), predicted=0.0)


def _lost(values: npt.NDArray[np.float64]) -> str:
    """Return why there is no estimate from these values, or nothing."""
    lost = int((~np.isfinite(values)).sum())
    if lost:
        return f"{lost} of {len(values)} values are not finite"
    return "" if len(values) else NO_NETWORKS


def from_count(case: str, hits: npt.ArrayLike, seeds: npt.ArrayLike) -> Evidence:
    """Return in what fraction of seeds all networks hit (interval: Clopper and Pearson 1934).

    Networks of one seed have the same data, and the same random numbers where their layers have the
    same shapes: they are one observation, and it is a hit if every one of them is.

    Parameters
    ----------
    case
        Which networks.
    hits
        Whether each network is a hit.
    seeds
        The seed of each network.
    """
    by_seed = pd.Series(np.asarray(hits, dtype=bool)).groupby(np.asarray(seeds)).all()
    if by_seed.empty:
        return untested(case, NO_NETWORKS)
    test = stats.binomtest(int(by_seed.sum()), len(by_seed))

    def interval(confidence: float) -> tuple[float, float]:
        bounds = test.proportion_ci(confidence)
        return float(bounds.low), float(bounds.high)

    return from_interval(case, float(by_seed.mean()), interval, len(by_seed))


def untested(case: str, reason: str) -> Evidence:
    """Return evidence that is missing, and why."""
    return Evidence(case, math.nan, math.nan, math.nan, math.nan, 0, reason)


class Criterion(Protocol):
    """When the evidence supports a claim."""

    @property
    def text(self) -> str:
        """The criterion in words."""

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""


@dataclass(frozen=True)
class Within:
    """The interval lies within a tolerance around the prediction."""

    absolute: float = 0.0
    relative: float = 0.0

    @property
    def text(self) -> str:
        """The criterion in words."""
        parts = [f"{self.absolute:g}"] if self.absolute else []
        parts += [f"{100 * self.relative:g} % of it"] if self.relative else []
        if not parts:
            return "equal to the prediction"
        return f"interval within ± {' or '.join(parts)} of the prediction"

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        tolerance = max(self.absolute, self.relative * abs(evidence.predicted))
        low, high = evidence.predicted - tolerance, evidence.predicted + tolerance
        return low <= evidence.low and evidence.high <= high


@dataclass(frozen=True)
class Above:
    """The whole interval lies above a bound."""

    bound: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval above {self.bound:g}"

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return evidence.low > self.bound


@dataclass(frozen=True)
class Below:
    """The whole interval lies below a bound."""

    bound: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval below {self.bound:g}"

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return evidence.high < self.bound


@dataclass(frozen=True)
class Between:
    """The whole interval lies between two bounds."""

    low: float
    high: float

    @property
    def text(self) -> str:
        """The criterion in words."""
        return f"interval between {self.low:g} and {self.high:g}"

    def holds(self, evidence: Evidence) -> bool:
        """Tell whether it is met."""
        return self.low < evidence.low and evidence.high < self.high


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
        Where it is made, with section or figure; several are separated by semicolons.
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
    quote
        The first source's own words, where it is tested sentence by sentence.
    """

    id: str
    statement: str
    source: str
    formula: str
    unit: str
    criterion: Criterion
    measure: Callable[[StudyTables], Iterable[Evidence]]
    note: str = ""
    quote: str = ""


@dataclass(frozen=True)
class Result:
    """A row of ``reports/claims/<study>.json``: a claim, one piece of evidence, its verdict."""

    study: str
    id: str
    case: str
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
    quote: str = ""

    @property
    def key(self) -> str:
        """The name by which a verdict is listed."""
        return f"{self.study}/{self.id}/{self.case}"


def judge(claim: Claim, tables: StudyTables) -> list[Result]:
    """Measure and judge one claim; without networks to test it on it is not tested.

    A study may be changed in any way that its schema allows. Where that leaves a claim without what
    it compares, this is its result, with the reason, and other claims are judged all the same.
    """
    try:
        evidence = list(claim.measure(tables))
    except (KeyError, IndexError):
        evidence = []
    except Exception as error:
        logging.getLogger(__name__).exception("%s/%s", tables.study.name, claim.id)
        evidence = [untested("", f"cannot be measured in this study: {error}")]
    judged = holm(claim.criterion, evidence or [untested("", NO_NETWORKS)])
    return [_result(claim, tables.study.name, item) for item in judged]


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
    else:
        verdict = SUPPORTED if claim.criterion.holds(evidence) else NOT_SUPPORTED
    numbers = {name: _number(getattr(evidence, name)) for name in _NUMBERS}
    return Result(
        study=study,
        id=claim.id,
        case=evidence.case,
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
        quote=claim.quote,
        **numbers,
    )


_NUMBERS = ("predicted", "measured", "low", "high")


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def write(results: Sequence[Result], path: Path) -> None:
    """Write verdicts as JSON, a row a line."""
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
    """Return results with the failing ones first."""
    return sorted(results, key=lambda result: VERDICTS.index(result.verdict))


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
    """Return verdicts as text for a terminal, the failing ones first."""
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
        lines.append(f"{result.verdict:14} {result.key}: {number} {result.unit}{why}".rstrip())
    return "\n".join(lines)


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Return how many results have each verdict."""
    verdicts: list[Any] = [result.verdict for result in results]
    return {verdict: verdicts.count(verdict) for verdict in reversed(VERDICTS)}
