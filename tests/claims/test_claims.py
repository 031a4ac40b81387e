"""Claims: intervals, criteria and verdicts; and controls that have to fail."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from config.studies.descent import claims as descent_claims
from config.studies.initializers import claims as initializer_claims
from config.studies.mechanism import claims as mechanism
from config.studies.ng2017 import claims as ng2017_claims
from config.studies.propagation import claims as propagation
from config.studies.trainability import claims as trainability
from gradprop import claims, cli
from gradprop.analysis.needs import NotMeasured
from gradprop.claims import (
    Above,
    Below,
    Between,
    Claim,
    Evidence,
    Within,
    exact,
    from_count,
    from_distribution,
    from_seeds,
)
from gradprop.claims.references import PASSAGE, References, citations
from gradprop.components import initializers
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.datasets import Dataset
from gradprop.results import manifests, products
from gradprop.spec import Cell, Component, Stack
from gradprop.training import loop
from gradprop.training.stopwatch import Stopwatch
from tests.reference import make_cell
from tests.workspace import ROOT

# The claims of the studies that these tests are about.
EVERY = [
    *initializer_claims.CLAIMS,
    *mechanism.CLAIMS,
    *propagation.CLAIMS,
    *trainability.CLAIMS,
    *descent_claims.CLAIMS,
    *ng2017_claims.CLAIMS,
]


def evidence(low: float, high: float, predicted: float = math.nan) -> Evidence:
    return Evidence("case", predicted, (low + high) / 2, low, high, networks=5)


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(0.95, 1.05, True), (0.9, 1.1, True), (0.89, 1.0, False), (1.0, 1.11, False), (0, 2, False)],
)
def test_within_needs_the_whole_interval(low: float, high: float, holds: bool) -> None:
    assert Within(absolute=0.1).holds(evidence(low, high, predicted=1.0)) is holds
    assert Within(relative=0.1).holds(evidence(-high, -low, predicted=-1.0)) is holds


def test_above_and_below() -> None:
    assert Above(0.5).holds(evidence(0.6, 0.9))
    assert not Above(0.5).holds(evidence(0.4, 0.9))
    assert Below(0.5).holds(evidence(0.1, 0.4))
    assert not Below(0.5).holds(evidence(0.1, 0.6))


def test_the_interval_over_seeds_against_scipy() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = from_seeds("case", values, predicted=3.0)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.90)
    assert (found.measured, found.networks) == (3.75, 4)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_intervals_of_seeds_hold_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    found = [from_seeds("", random.normal(1, 2, 5)) for _ in range(4000)]
    share = np.mean([item.low <= 1 <= item.high for item in found])
    assert abs(share - claims.CONFIDENCE) < 0.02


def test_the_interval_of_a_fraction_against_closed_forms() -> None:
    """All of n hits: the lower bound p solves p^n = 5 %."""
    found = from_count("case", [True] * 10, range(10))
    assert (found.measured, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.05**0.1)
    assert from_count("case", [], []).reason == claims.NO_NETWORKS


def test_networks_of_one_seed_count_once() -> None:
    """Three rates a seed are no three observations; a seed is a hit if all its networks are."""
    hits, seeds = [True, True, True, True, False, True], [0, 0, 0, 1, 1, 1]
    found = from_count("case", hits, seeds)
    assert (found.measured, found.networks) == (0.5, 2)
    many = from_count("case", [True] * 15, list(range(5)) * 3)
    assert many.networks == 5
    assert many.low == pytest.approx(0.05**0.2)


def test_the_interval_of_a_variance_holds_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    found = [claims.from_variance("", random.normal(5, 3, 12), expected=9.0) for _ in range(4000)]
    share = np.mean([item.low <= 1 <= item.high for item in found])
    assert abs(share - claims.CONFIDENCE) < 0.02
    assert np.mean([item.measured for item in found]) == pytest.approx(1.0, abs=0.03)
    assert claims.from_variance("", [1.0], 1.0).reason == "fewer than two networks"


def test_the_bootstrap_interval_of_a_mean_is_that_of_student() -> None:
    values = np.random.default_rng(3).normal(2, 1, size=(60, 2))
    found = claims.from_bootstrap("", values, lambda rows: float(rows[:, 0].mean()), predicted=2.0)
    expected = from_seeds("", values[:, 0])
    assert (found.measured, found.networks, found.predicted) == (expected.measured, 60, 2.0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert found.at(0.99).low < found.low
    assert claims.from_bootstrap("", values[:1], np.mean).reason == "fewer than two networks"


def test_a_bootstrap_of_infinite_values_has_an_infinite_bound() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, math.inf])

    def median(rows: Any) -> float:
        return float(np.quantile(rows, 0.5, method="higher"))

    found = claims.from_bootstrap("case", values, median)
    assert (found.measured, found.high) == (3.0, math.inf)
    claim = Claim("id", "statement", "", "", "", Below(5.0), lambda tables: [found])
    (result,) = claims.judge(claim, SimpleNamespace(study=SimpleNamespace(name="study")))  # type: ignore[arg-type]
    assert (result.verdict, result.high) == (claims.NOT_SUPPORTED, None)
    assert "∞]" in claims.text_table([result])
    assert claims.from_bootstrap("case", values[3:], median).reason


def holm_by_p_values(p: Any, level: float = 0.05) -> list[bool]:
    """Holm's procedure as he states it: reject in order of p while p <= level / (m - rejected)."""
    rejected = [False] * len(p)
    for step, n in enumerate(np.argsort(p)):
        if p[n] > level / (len(p) - step):
            break
        rejected[n] = True
    return rejected


@pytest.mark.parametrize("criterion", [Above(0.0), Below(0.0), Within(absolute=0.7)])
def test_holm_against_p_values(criterion: Any) -> None:
    """The p-value of a one-sided t-test; for equivalence, the larger one of two (TOST)."""
    random = np.random.default_rng(2)
    supported = 0
    for _ in range(60):
        samples = random.normal(random.normal(0, 0.5, 6), 1, (20, 6)).T
        lower, upper = (-0.7, 0.7) if isinstance(criterion, Within) else (0.0, 0.0)
        above = stats.ttest_1samp(samples, lower, axis=1, alternative="greater").pvalue
        below = stats.ttest_1samp(samples, upper, axis=1, alternative="less").pvalue
        p = {Above: above, Below: below, Within: np.maximum(above, below)}[type(criterion)]
        judged = claims.holm(criterion, [from_seeds("", x, 0.0) for x in samples])
        assert [criterion.holds(item) for item in judged] == holm_by_p_values(p)
        supported += sum(holm_by_p_values(p))
    assert 15 < supported < 345


def test_holm_rarely_supports_anything_wrongly() -> None:
    random = np.random.default_rng(3)
    families = [[from_seeds("", random.normal(0, 1, 5)) for _ in range(8)] for _ in range(200)]
    wrong = [any(map(Above(0.0).holds, claims.holm(Above(0.0), f))) for f in families]
    each = [any(map(Above(0.0).holds, f)) for f in families]
    assert np.mean(wrong) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean(each) > 0.25  # one in three without the correction


def test_distance_of_distributions() -> None:
    """Kolmogorov's statistic, and Massart's bound, which covers the true distance."""
    random = np.random.default_rng(0)
    found = from_distribution("case", random.normal(size=300), stats.norm.cdf)
    assert 0 < found.measured < 0.1
    assert found.low == 0
    assert found.high == pytest.approx(found.measured + math.sqrt(math.log(20) / 600))
    half = found.at(0.95).high - found.measured
    assert 2 * math.exp(-2 * 300 * half**2) == pytest.approx(0.05)
    # N(0.5, 1) is 0.197 from N(0, 1): the difference of their distribution functions at 1/4.
    true = stats.norm.cdf(0.25) - stats.norm.cdf(-0.25)
    samples = [random.normal(0.5, 1, 50) for _ in range(300)]
    covered = [
        e.low <= true <= e.high for e in (from_distribution("", x, stats.norm.cdf) for x in samples)
    ]
    assert np.mean(covered) > 0.9
    assert from_distribution("", [1.0, math.nan], stats.norm.cdf).reason
    assert from_distribution("", [], stats.norm.cdf).reason == claims.NO_NETWORKS


def test_cases_without_chance_are_no_part_of_the_family() -> None:
    # With a prediction: from Python 3.13 on a copy that holds NaN is not equal to its original.
    alone = from_seeds("b", [1.0, 2.0, 3.0], predicted=2.0)
    family = [exact("a", 1.0, 1.0), alone, from_seeds("c", [math.nan])]
    assert claims.holm(Above(0.0), family) == family


def claim_of(items: Callable[[Any], Iterable[Evidence]], criterion: Any = None) -> Claim:
    return Claim("id", "statement", "source", "formula", "m", criterion or Within(0.1), items)


def judge(items: list[Evidence]) -> list[claims.Result]:
    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    return claims.judge(claim_of(lambda _: items), tables)


def test_verdicts() -> None:
    found = judge(
        [
            exact("right", 1.05, 1.0),
            exact("wrong", 1.2, 1.0),
            from_seeds("lost", [1.0, math.nan], 1.0),
            from_seeds("lonely", [1.0], 1.0),
        ]
    )
    assert [row.verdict for row in found] == [
        claims.SUPPORTED,
        claims.NOT_SUPPORTED,
        claims.NOT_TESTED,
        claims.NOT_TESTED,
    ]
    assert found[2].reason == "1 of 2 values are not finite"
    assert found[3].reason == "fewer than two networks"
    assert claims.sort(found)[0].key == "study/id/wrong"


def test_a_criterion_of_the_prediction_needs_one() -> None:
    """What theory leaves open is not tested; a prediction that was forgotten is a mistake."""
    (result,) = judge([from_seeds("open", [1.0, 2.0], float("nan"))])
    assert (result.verdict, result.reason) == (claims.NOT_TESTED, "theory predicts no number")
    told = "case 'a': the criterion is an interval within ± 0.1 of the prediction, and nothing is"
    for values in ([1.0, 2.0, 3.0], [math.nan]):
        with pytest.raises(TypeError, match=told):
            judge([from_seeds("right", [1.0, 1.0], 1.0), from_seeds("a", values)])
    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    for criterion in (Above(0.5), Below(2.0), Between(0.5, 2.0)):
        found = claims.judge(
            claim_of(lambda _: [from_seeds("a", [1.0, 1.1, 1.2])], criterion), tables
        )
        assert [row.verdict for row in found] == [claims.SUPPORTED]


@pytest.mark.parametrize(
    "estimate",
    [
        from_seeds,
        lambda case, values: from_distribution(case, values, stats.norm.cdf),
        lambda case, values: claims.from_variance(case, values, 1.0),
    ],
)
@pytest.mark.parametrize("values", [1.0, np.ones((3, 2)), np.ones((3, 1))])
def test_an_estimate_takes_one_number_each(estimate: Any, values: Any) -> None:
    with pytest.raises(ValueError, match=r"values of the shape \(.*\); allowed: one number per"):
        estimate("case", values)


def wrong(value: Any) -> Any:
    """Return a value of another type than those that are allowed."""
    return value


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Within(-0.1), "Within: absolute: -0.1 is not allowed; allowed: 0 and more"),
        (lambda: Within(relative=math.nan), "Within: relative: nan is not allowed"),
        (lambda: Within(wrong("0.1")), "Within: absolute: '0.1' is not allowed"),
        (lambda: Above(math.inf), "Above: bound: inf is not allowed; allowed: a finite number"),
        (lambda: Below(wrong(None)), "Below: bound: nothing is not allowed"),
        (lambda: Between(1.0, math.nan), "Between: high: nan is not allowed"),
        (lambda: Between(1.0, 1.0), "Between: nothing lies between 1 and 1"),
        (lambda: replace(claim_of(list), id=""), "Claim: id: '' is not allowed; allowed: text"),
        (lambda: replace(claim_of(list), statement=" "), "Claim: statement: ' ' is not allowed"),
        (
            lambda: replace(claim_of(list), criterion=wrong(0.1)),
            "Claim: criterion: 0.1 is not allowed",
        ),
        (lambda: replace(claim_of(list), measure=wrong([])), "Claim: measure: [] is not allowed"),
    ],
)
def test_what_no_claim_can_be_is_refused_where_it_is_written(
    make: Callable[[], Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        make()


def test_a_study_that_lacks_the_networks_leaves_the_claim_untested() -> None:
    """Cases that were measured before are judged all the same."""

    def lacking(_: Any) -> Iterator[Evidence]:
        yield exact("right", 1.0, 1.0)
        raise NotMeasured("the study has no networks with depth 20")

    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    right, found = claims.judge(claim_of(lacking), tables)
    assert (right.verdict, right.case) == (claims.SUPPORTED, "right")
    assert (found.verdict, found.case) == (claims.NOT_TESTED, "")
    assert found.reason == "the study has no networks with depth 20"
    (found,) = claims.judge(claim_of(lambda _: []), tables)
    assert (found.verdict, found.reason) == (claims.NOT_TESTED, claims.NO_NETWORKS)


def test_ids_of_cases_and_what_readers_are_told() -> None:
    case = claims.Case(activation="tanh", initializer="normal(a=1, b=2)", depth=20, gain=0.5)
    assert case.text == "tanh, normal(a=1, b=2), depth 20, gain 0.5"
    assert case.id == "activation=tanh,initializer=normal(a=1,b=2),depth=20,gain=0.5"
    reworded = claims.Case("twenty layers", depth=20)
    assert (reworded.text, reworded.id) == ("twenty layers", "depth=20")
    assert claims.Case("twenty layers").id == "twenty_layers"
    (found,) = judge([exact(reworded, 1.0, 1.0)])
    assert (found.case, found.key) == ("twenty layers", "study/id/depth=20")


def test_two_cases_of_one_id_are_refused() -> None:
    cases = [claims.Case("one", depth=20), claims.Case("another", depth=20)]
    with pytest.raises(ValueError, match=r"^two cases have the id 'depth=20'$"):
        judge([exact(case, 1.0, 1.0) for case in cases])


def test_what_is_no_evidence_is_refused() -> None:
    items: Any = [exact("right", 1.0, 1.0), 3]
    with pytest.raises(TypeError, match=r"^its measure gives 3; allowed: Evidence$"):
        judge(items)


@pytest.mark.parametrize("error", [IndexError, KeyError, TypeError, ValueError])
def test_other_exceptions_of_a_claim_are_not_caught(error: type[Exception]) -> None:
    def failing(_: Any) -> list[Evidence]:
        raise error

    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    with pytest.raises(error):
        claims.judge(claim_of(failing), tables)


def seal(path: Path) -> None:
    """Write the manifest of a file of claims, as the job does that wrote it."""
    folder = path.parent.parent / products.FOLDER / "claims"
    manifests.write(manifests.path_of(folder, path.stem, "0123456789ab"), [path])


def test_files_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, listed = tmp_path / "claims/study.json", tmp_path / "listed.json"
    found = judge([exact("right", 1.0, 1.0), exact("wrong", 2.0, 1.0)])
    claims.write(found, path)
    seal(path)
    assert claims.read(path) == found
    listed.write_text('{"study/gone/": "supported", "other/id/": "supported"}')
    assert cli.main(["verify", str(path), "--listed", str(listed), "--update"]) == 0
    assert json.loads(listed.read_text()) == {
        "other/id/": claims.SUPPORTED,
        "study/id/right": claims.SUPPORTED,
        "study/id/wrong": claims.NOT_SUPPORTED,
    }
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 0

    claims.write([replace(found[0], verdict=claims.NOT_SUPPORTED), found[1]], path)
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 1
    assert f"{path}: damaged or edited" in capsys.readouterr().err
    seal(path)
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 1
    assert "no longer supported:\n  study/id/right" in capsys.readouterr().err
    for left in ([found[1]], []):
        claims.write(left, path)
        seal(path)
        assert cli.main(["verify", str(path), "--listed", str(listed)]) == 1
        assert "study/id/right" in capsys.readouterr().err


def test_checks_of_the_instrument_are_counted_and_listed_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = judge([exact("right", 1.0, 1.0), exact("wrong", 2.0, 1.0)])
    assert not any(result.check for result in found)
    identity = replace(claim_of(lambda _: [exact("", 1.0, 1.0)]), id="identity", check=True)
    tables: Any = SimpleNamespace(study=SimpleNamespace(name="study"))
    (checked,) = claims.judge(identity, tables)
    assert checked.check
    results = [checked, *found]
    assert claims.counts(results) == {"supported": 1, "not tested": 0, "not supported": 1}
    assert claims.counts(results, check=True)["supported"] == 1
    path, listed = tmp_path / "claims/study.json", tmp_path / "listed.json"
    claims.write(results, path)
    seal(path)
    listed.write_text("{}")
    assert cli.main(["verify", str(path), "--listed", str(listed)]) == 0
    *lines, judged, instrument = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "not supported  study/id/wrong",
        "supported      study/id/right",
        "supported      check study/identity/",
    ]
    assert judged == "claims: 1 supported, 0 not tested, 1 not supported"
    assert instrument == "checks of the instrument: 1 supported, 0 not tested, 0 not supported"


@pytest.mark.parametrize(
    ("verdicts", "listed", "message"),
    [
        (None, "{}", "study.json: no such file"),
        ("[", "{}", "study.json: not valid JSON"),
        ("{}", "{}", "study.json: not a list"),
        ('["a"]', "{}", "study.json: not a list of verdicts"),
        ('[{"id": "a"}]', "{}", "study.json: not a list of verdicts"),
        ("[]", None, "listed.json: no such file"),
        ("[]", "[]", "listed.json: not an object"),
        ("[]", '{"study/a/": "suported"}', "study/a/: 'suported' is not one of: not supported"),
    ],
)
def test_files_that_cannot_be_verified_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verdicts: str | None,
    listed: str | None,
    message: str,
) -> None:
    paths = [tmp_path / "claims/study.json", tmp_path / "listed.json"]
    paths[0].parent.mkdir()
    for path, text in zip(paths, (verdicts, listed), strict=True):
        if text is not None:
            path.write_text(text)
    if verdicts is not None:
        seal(paths[0])
    assert cli.main(["verify", str(paths[0]), "--listed", str(paths[1])]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_homogeneity_holds_for_other_random_numbers(activation: str) -> None:
    assert mechanism.homogeneity_spread(activation, seed=1) < 1e-9


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu", "gelu"])
def test_homogeneity_fails_for_other_functions(activation: str) -> None:
    assert mechanism.homogeneity_spread(activation) > 1e-2


@pytest.mark.parametrize("slope", [Fraction(1), Fraction(0), Fraction(1, 5)])
def test_homogeneity_in_exact_arithmetic(slope: Any) -> None:
    """The products of all layers are one fraction, whatever their widths; none is zero."""
    random, one = np.random.default_rng(0), slope - slope + 1

    def fractions(*shape: int) -> Any:
        whole = random.integers(-20, 21, shape)
        return np.vectorize(lambda n: Fraction(int(n), 7), otypes=[object])(whole)

    def leaky(z: Any) -> Any:
        return np.where(z > 0, z, slope * z)

    def slopes(z: Any) -> Any:
        return np.where(z > 0, one, slope)

    weights = [fractions(*shape) for shape in ((3, 5), (5, 4), (4, 6), (6, 2))]
    gradients = mechanism.kernel_gradients(weights, fractions(4, 3), fractions(4, 2), leaky, slopes)
    products = {(w * g).sum() for w, g in zip(weights, gradients, strict=True)}
    assert len(products) == 1 and products != {0}


def test_gradients_of_kernels_against_differences() -> None:
    random, phi = np.random.default_rng(0), ACTIVATIONS["tanh"]
    weights = [random.normal(size=shape) for shape in ((3, 5), (5, 2))]
    inputs, targets = random.normal(size=(4, 3)), random.normal(size=(4, 2))

    def cost(layer: int, step: float) -> float:
        moved = [w.copy() for w in weights]
        moved[layer][1, 1] += step
        return 0.5 * float(((np.tanh(np.tanh(inputs @ moved[0]) @ moved[1]) - targets) ** 2).sum())

    found = mechanism.kernel_gradients(weights, inputs, targets, phi.function, phi.derivative)
    for layer in (0, 1):
        numeric = (cost(layer, 1e-6) - cost(layer, -1e-6)) / 2e-6
        assert found[layer][1, 1] == pytest.approx(numeric, rel=1e-7)


# ------------------------------------------------------------ measured networks, and controls


def tables_of(cells: list[Cell], dataset: Dataset) -> Any:
    """Return the tables of networks that were only measured at initialization."""
    watch = Stopwatch()
    (result,) = loop.train([Stack(tuple(cells))], dataset, watch, "test")
    study = SimpleNamespace(name="propagation", cells=tuple(cells), names={})
    return SimpleNamespace(
        study=study, cells=result.cells, layers=result.layers, steps=result.steps
    )


def relu_cells(initializer: Any, count: int = 60, **parameters: Any) -> list[Cell]:
    shape = {"depth": 30, "width": 100, "activation": "relu", "epochs": 0, "use_bias": False}
    shape |= parameters
    return [make_cell(initializer=initializer, seed=n, **shape) for n in range(count)]


def verdicts(claim_id: str, tables: Any) -> dict[str, str]:
    (claim,) = [one for one in EVERY if one.id == claim_id]
    return {row.case: row.verdict for row in claims.judge(claim, tables)}


def relabelled(cells: list[Cell], tables: Any, initializer: Any) -> Any:
    """Return the tables with networks that claim to have been drawn by another initializer."""
    component = initializers.INITIALIZERS.create(initializer)
    named = {cell.id: replace(cell, initializer=component) for cell in cells}
    layers = tables.layers.assign(cell=[named[c].id for c in tables.layers["cell"]])
    study = SimpleNamespace(name="propagation", cells=tuple(named.values()), names={})
    return SimpleNamespace(study=study, layers=layers)


def test_he_is_balanced_and_a_forgotten_factor_two_is_found(blobs: Dataset) -> None:
    cells = relu_cells("he_normal")
    tables = tables_of(cells, blobs)
    assert verdicts("signal-rate-relu", tables) == {"relu, he_normal": claims.SUPPORTED}
    forgotten = relabelled(cells, tables, "glorot_normal")
    assert verdicts("signal-rate-relu", forgotten) == {"relu, glorot_normal": claims.NOT_SUPPORTED}


def test_a_truncated_normal_without_correction_is_not_he(blobs: Dataset) -> None:
    """Cut at two standard deviations, a normal has 0.774 of its variance."""
    variance = stats.truncnorm(-2, 2).var()
    he = {"name": "variance_scaling", "scale": 2 * variance}
    for claim, cells in (
        ("signal-rate-relu", relu_cells(he)),
        ("relu-typical-length", relu_cells(he, batch_size=1)),
    ):
        tables = relabelled(cells, tables_of(cells, blobs), "he_normal")
        assert verdicts(claim, tables) == {"relu, he_normal": claims.NOT_SUPPORTED}


def test_weight_gradients_do_not_pass_for_signals(blobs: Dataset) -> None:
    cells = relu_cells("glorot_normal")
    tables = tables_of(cells, blobs)
    assert verdicts("signal-rate-relu", tables) == {"relu, glorot_normal": claims.SUPPORTED}
    tables.layers["signal_log10_rms"] = tables.layers["gradient_log10_rms"]
    assert verdicts("signal-rate-relu", tables) == {"relu, glorot_normal": claims.NOT_SUPPORTED}


def test_one_kernel_for_all_layers_is_found(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that share their weights do not fluctuate as independent ones do."""
    cells = relu_cells({"name": "variance_scaling", "scale": 2.0}, 300, batch_size=1, width=40)
    case = "relu, variance_scaling(scale=2.0)"
    tables = tables_of(cells, blobs)
    for claim in ("relu-spread", "relu-spread-per-layer", "relu-typical-length"):
        assert verdicts(claim, tables) == {case: claims.SUPPORTED}
    monkeypatch.setattr(initializers, "kernel_seed", lambda cell, layer: cell.seed)
    assert verdicts("relu-spread", tables_of(cells, blobs)) == {case: claims.NOT_SUPPORTED}


def test_signals_of_shared_kernels_and_weight_gradients_are_not_signals(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"batch_size": 1, "width": 40, "depth": 10, "loss": "output_sum"}
    cells = relu_cells(HE_GAUSSIAN, 600, **shape)
    tables, case = tables_of(cells, blobs), "widths 40"
    assert verdicts("relu-typical-signal", tables) == {case: claims.SUPPORTED}
    assert verdicts("relu-signal-spread", tables) == {case: claims.SUPPORTED}
    assert set(verdicts("relu-log-normal", tables).values()) == {claims.SUPPORTED}

    monkeypatch.setattr(initializers, "kernel_seed", lambda cell, layer: cell.seed)
    shared = tables_of(cells, blobs)
    assert verdicts("relu-signal-spread", shared) == {case: claims.NOT_SUPPORTED}
    assert set(verdicts("relu-log-normal", shared).values()) == {claims.NOT_SUPPORTED}
    tables.layers["signal_log10_rms"] = tables.layers["gradient_log10_rms"]
    assert verdicts("relu-signal-spread", tables) == {case: claims.NOT_SUPPORTED}


HE_GAUSSIAN = {"name": "variance_scaling", "scale": 2.0}
IN_TURN, HALVES = ({"name": name, "other": 24} for name in ("alternating", "halves"))


def profiles(*shapes: tuple[int, Any]) -> list[Cell]:
    changes = {"batch_size": 1, "depth": 10, "loss": "output_sum"}
    return [
        cell
        for width, widths in shapes
        for cell in relu_cells(HE_GAUSSIAN, 1000, width=width, widths=widths, **changes)
    ]


def tables_of_each(cells: list[Cell], dataset: Dataset) -> Any:
    """Return the tables of networks of different shapes."""
    shapes = dict.fromkeys((cell.width, cell.widths) for cell in cells)
    parts = [
        tables_of([c for c in cells if (c.width, c.widths) == shape], dataset) for shape in shapes
    ]
    study = SimpleNamespace(name="propagation", cells=tuple(cells), names={})
    return SimpleNamespace(study=study, layers=pd.concat([part.layers for part in parts]))


def test_a_claim_on_layers_needs_every_layer() -> None:
    """The layer of the largest deviation is exact; another is nearer, but too uncertain."""
    layers = np.array([[0.02, 0.02, 0.02], [-0.06, 0.0, 0.06]])
    found = claims.from_layers("", layers, 0.0)
    assert found.measured == pytest.approx(0.02)
    low, high = stats.t.interval(0.9, 2, 0.0, stats.sem(layers[1]))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert not claims.Within(0.03).holds(found)
    assert claims.Within(0.03).holds(claims.from_layers("", layers[:1], 0.0))
    lost = claims.from_layers("", [[0.0, np.nan]], 0.0)
    assert lost.reason and math.isnan(lost.low)


def test_p_values_are_judged_as_a_family() -> None:
    """Holm: 0.02 and 0.03 pass together, 0.03 and 0.04 do not; a single 0.04 does."""

    def passed(*values: float) -> list[bool]:
        tests = [claims.from_test("", p, 10) for p in values]
        return [criterion.holds(found) for found in claims.holm(criterion, tests)]

    criterion = claims.Below(0.05)
    assert passed(0.04) == [True]
    assert passed(0.02, 0.03) == [True, True]
    assert passed(0.03, 0.04) == [False, False]
    assert passed(0.01, 0.2) == [True, False]
    assert claims.from_test("", math.nan, 10).reason


@pytest.mark.long
def test_equal_sums_of_reciprocal_widths_are_told_from_others(blobs: Dataset) -> None:
    right = tables_of_each(profiles((32, "constant"), (48, IN_TURN), (48, HALVES)), blobs)
    assert set(verdicts("relu-equal-sums", right).values()) == {claims.SUPPORTED}
    assert len(verdicts("relu-spread-by-widths", right)) == 3
    assert set(verdicts("relu-spread-by-widths", right).values()) == {claims.SUPPORTED}
    wrong = tables_of_each(profiles((24, "constant"), (48, IN_TURN)), blobs)
    assert set(verdicts("relu-equal-sums", wrong).values()) == {claims.NOT_SUPPORTED}


@pytest.mark.parametrize("widths", [[5, 5, 5], [9, 4, 9, 4], [3, 12]])
def test_variance_of_ratios_of_lengths_by_simulation(widths: list[int]) -> None:
    """Gaussian relu networks, those with a dead layer left out, of which few are this wide."""
    random = np.random.default_rng(0)
    h, lengths = np.ones((100_000, 1)), []
    for fan_in, fan_out in itertools.pairwise([1, *widths]):
        z = np.einsum("ni,nij->nj", h, random.standard_normal((len(h), fan_in, fan_out)))
        lengths.append((z**2).sum(axis=1))
        h = np.maximum(z, 0)
    with np.errstate(divide="ignore"):
        logs = np.log(lengths[-1] / lengths[0])
    alive = np.isfinite(logs)
    expected = propagation.ratio_variance(widths)
    # of widths this small the exact law is conditional on survival layer by layer
    assert logs[alive].var() == pytest.approx(expected, rel=0.03)


def test_weights_that_are_not_gaussian_fluctuate_otherwise(blobs: Dataset) -> None:
    """In narrow networks the weights' own law tells: the kurtosis of a uniform is 9/5, not 3."""
    shape = {"batch_size": 1, "width": 16, "depth": 10}
    he = {"name": "uniform", "limit": math.sqrt(3 * 2 / 16)}
    cells = relu_cells(he, count=300, **shape)
    tables = relabelled(cells, tables_of(cells, blobs), {"name": "variance_scaling", "scale": 2.0})
    (row,) = verdicts("relu-spread-per-layer", tables).values()
    assert row == claims.NOT_SUPPORTED


def test_early_layers_are_told_from_all_layers(blobs: Dataset) -> None:
    cells = relu_cells("glorot_normal", 20)
    sigmoid = [replace(cell, activation=Component("sigmoid")) for cell in cells]
    found = [tables_of(group, blobs) for group in (cells, sigmoid)]
    study = SimpleNamespace(name="propagation", cells=(*cells, *sigmoid), names={})
    layers = pd.concat([tables.layers for tables in found])
    assert verdicts("early-layers-above-all", SimpleNamespace(study=study, layers=layers)) == {
        "relu, glorot_normal": claims.NOT_SUPPORTED,
        "sigmoid, glorot_normal": claims.SUPPORTED,
    }


def test_movement_of_early_layers_by_hand() -> None:
    """Half a decade per layer in sigmoid networks, none in relu ones, at two probes."""
    tables = []
    for activation, start, gain in (("sigmoid", "glorot_normal", 0.5), ("relu", "he_normal", 0.0)):
        for seed in range(3):
            cell = make_cell(
                dataset="digits", depth=20, activation=activation, initializer=start, seed=seed
            )
            places = [(cell.id, step, layer) for step in (0, 5) for layer in range(1, 22)]
            rows = pd.DataFrame(places, columns=["cell", "step", "layer"])
            rows["log10_update_ratio"] = gain * rows["layer"] - 9 + 0.01 * seed * rows["layer"]
            tables.append((cell, rows))
    study = SimpleNamespace(name="initializers", cells=tuple(cell for cell, _ in tables))
    layers = pd.concat([rows for _, rows in tables])
    table: Any = SimpleNamespace(study=study, layers=layers)
    found = verdicts("early-layers-move-least", table)
    assert {case.split(",")[0] for case, v in found.items() if v == claims.SUPPORTED} == {"sigmoid"}
    assert list(found.values()).count(claims.SUPPORTED) == 2
    evidence = list(initializer_claims._movement(table))
    assert evidence[0].predicted == pytest.approx(-0.627, abs=1e-3)
    assert evidence[0].measured == pytest.approx(-0.51)


def test_a_start_is_called_stable_by_its_signal() -> None:
    """Of networks that lose 0.2 decades per layer, and that lose none."""
    parts = []
    for activation, start, loss in (
        ("tanh", "glorot_normal", 0.0),
        ("relu", "he_normal", 0.0),
        ("sigmoid", "glorot_normal", 0.2),
        ("tanh", "normal", 0.2),
        ("relu", "normal", 0.0),
        ("sigmoid", "normal", 0.2),
        ("sigmoid", "normal", -math.inf),
    ):
        for seed in range(10):
            depth = 50 if math.isinf(loss) else 20
            shape = {"depth": depth, "activation": activation, "initializer": start, "seed": seed}
            cell = make_cell(dataset="digits", **shape)
            rows = pd.DataFrame({"cell": cell.id, "step": 0, "layer": range(1, depth + 2)})
            parts.append((cell, rows.assign(signal_log10_rms=loss * rows["layer"])))
    networks = [cell for cell, _ in parts]
    tables = SimpleNamespace(
        study=SimpleNamespace(name="initializers", cells=tuple(networks)),
        cells=pd.DataFrame([{"cell": c.id, **c.columns()} for c in networks]),
        layers=pd.concat([rows for _, rows in parts]),
    )
    yes, no = claims.SUPPORTED, claims.NOT_SUPPORTED
    stable = verdicts("careful-starts-are-stable", tables)
    assert {case.split(",")[0]: v for case, v in stable.items() if case.endswith("20")} == {
        "tanh": yes, "relu": yes, "sigmoid": no
    }  # fmt: skip
    lost = verdicts("fixed-scales-lose-the-signal", tables)
    assert {case: v for case, v in lost.items() if v != claims.NOT_TESTED} == {
        "tanh, normal, depth 20": yes,
        "relu, normal, depth 20": no,
        "sigmoid, normal, depth 20": yes,
        "sigmoid, normal, depth 50": yes,  # no signal left in any layer
    }


def test_every_passage_of_the_lecture_is_a_claim() -> None:
    """Its passages are fields of its entry, and the claims that test them cite it first."""
    lecture = References([ROOT / "config/references.bib"]).find("ng2017")
    tested = {claim.passage: claim for claim in EVERY if claim.passage}
    assert {f"{PASSAGE}{name}" for name in tested} == {
        field for field in lecture.fields if field.startswith(PASSAGE)
    }
    assert all(citations(claim.source)[0].key == lecture.key for claim in tested.values())


def test_slopes_of_a_table_by_hand() -> None:
    cell = make_cell(depth=30, activation="tanh", epochs=0)
    layers = pd.DataFrame({"cell": cell.id, "step": 0, "layer": range(1, 32)})
    layers["signal_log10_rms"] = 0.25 * layers["layer"] - 7
    tables: Any = SimpleNamespace(study=SimpleNamespace(cells=(cell,)), layers=layers)
    (slope,) = propagation._ln_slopes(tables, "signal_log10_rms", "tanh", use_bias=True)["slope"]
    assert slope == pytest.approx(-0.25 * 2 * math.log(10))
    assert propagation._sigma_w2(
        replace(cell, initializer=Component("he_normal"))
    ) == pytest.approx(2)


# ------------------------------------------------------------------------------ trained networks


def one_example_a_step(initializer: Any) -> list[Cell]:
    shape = {"depth": 3, "width": 9, "batch_size": 1, "epochs": 1, "learning_rate": 0.05}
    return [make_cell(initializer=initializer, activation="tanh", seed=n, **shape) for n in (0, 1)]


def test_constant_starts_stay_symmetric_and_random_ones_do_not(blobs: Dataset) -> None:
    constant = {"name": "constant", "value": 0.1}
    cells = one_example_a_step(constant)
    tables, case = tables_of(cells, blobs), "tanh, constant"
    assert verdicts("constant-start-keeps-symmetry", tables) == {case: claims.SUPPORTED}
    assert verdicts("constant-start-learns-all-the-same", tables) == {case: claims.SUPPORTED}

    cells = one_example_a_step("glorot_normal")
    tables = relabelled(cells, tables_of(cells, blobs), constant)
    assert verdicts("constant-start-keeps-symmetry", tables) == {case: claims.NOT_SUPPORTED}

    tables = tables_of(one_example_a_step("zeros"), blobs)
    assert verdicts("constant-start-keeps-symmetry", tables) == {"tanh, zeros": claims.SUPPORTED}
    assert verdicts("constant-start-learns-all-the-same", tables) == {
        "tanh, zeros": claims.NOT_SUPPORTED
    }


def race(steps: dict[tuple[str, int, float], Any]) -> Any:
    """Return tables of relu networks with given steps to the target, by start, depth and rate.

    The final loss is 1 over the steps to the target; without any, the network diverged if it
    was given NaN, and is still where it started if it was given None.
    """
    cells, rows = [], []
    for (start, depth, rate), taken in steps.items():
        for seed in range(3):
            shape = {"depth": depth, "activation": "relu", "learning_rate": rate, "seed": seed}
            cells.append(make_cell(initializer=start, **shape))
            arrived = taken is not None and not math.isnan(taken)
            rows.append(
                {"cell": cells[-1].id, **shape, "batch_size": cells[-1].batch_size}
                | {"steps_to_target": taken * 2**seed if arrived else None}
                | {"final_train_loss": 1 / taken if arrived else math.nan if taken else 2.0}
                | {"final_train_accuracy": 0.5}
                | {"status": "ok" if arrived or taken is None else "diverged"}
            )
    table = pd.DataFrame(rows)
    study = SimpleNamespace(name="trainability", cells=tuple(cells), names={})
    trained = pd.DataFrame({"cell": table["cell"], "step": 200, "train_loss": 2.0})
    return SimpleNamespace(study=study, cells=table, steps=trained)


def test_waiting_at_the_best_rates_by_hand() -> None:
    tables = race(
        {
            ("he_normal", 5, 0.1): 10, ("he_normal", 5, 0.3): math.nan,
            ("glorot_normal", 5, 0.1): 10, ("glorot_normal", 5, 0.3): 20,
            ("he_normal", 10, 0.1): 10, ("glorot_normal", 10, 0.1): 40,
            ("he_normal", 20, 0.1): 10, ("glorot_normal", 20, 0.1): None,
        }
    )  # fmt: skip
    best = trainability.best_networks(tables, "sgd")
    rates = best.groupby(["start", "depth"])["learning_rate"].first()
    assert rates["he_normal", 5] == 0.1
    assert rates["glorot_normal", 5] == 0.3
    found = {str(row.case): row.measured for row in trainability._waits(tables)}
    # 200 steps against 10, 20 and 40: at least 20, 10 and 5 times as long
    assert found == pytest.approx(
        {"relu, depth 5": 1, "relu, depth 10": 2, "relu, depth 20": math.log2(10)}
    )
    (growth,) = trainability._wait_grows(tables)
    assert growth.measured == pytest.approx((math.log2(10) - 1) / 2)


def split_networks(he: dict[int, float]) -> Any:
    """Return tables of deep relu networks: five seeds of split 0, and seed n of split n.

    `he` has the accuracy from He's initialization by split; small weights reach 0.1.
    """
    pairs = [(0, seed) for seed in range(5)] + [(split, split) for split in he if split]
    cells, rows = [], []
    for split, seed in pairs:
        for label, accuracy in (("he_normal", he[split] + 0.01 * seed), ("normal", 0.1)):
            shape = {"depth": 20, "activation": "relu", "learning_rate": 0.1, "seed": seed}
            data = {"name": "digits", "seed": split}
            cells.append(make_cell(initializer=label, dataset=data, **shape))
            final = {"final_train_accuracy": accuracy, "final_train_loss": 1 - accuracy}
            row = {"cell": cells[-1].id, **shape, "batch_size": 13, "initializer": label, **final}
            rows.append({**row, "status": "ok", "steps_to_target": None})
    table = pd.DataFrame(rows)
    study = SimpleNamespace(name="trainability", cells=tuple(cells), names={})
    steps = pd.DataFrame({"cell": table["cell"], "step": 200})
    return SimpleNamespace(study=study, cells=table, steps=steps)


def test_accuracies_over_splits_take_a_split_for_every_seed() -> None:
    """Networks of the first split alone decide the other claims."""
    claim, case = "sgd-needs-care-over-splits", "relu"
    tables = split_networks({0: 0.8, 1: 0.85, 2: 0.75})
    assert verdicts(claim, tables) == {case: claims.SUPPORTED}
    (one,) = (c for c in trainability.CLAIMS if c.id == claim)
    (found,) = one.measure(tables)
    assert found.networks == 3
    assert found.measured == pytest.approx(np.mean([0.8, 0.86, 0.77]) - 0.1)
    other = split_networks({0: 0.8, 1: 0.85, 2: 0.2})
    assert verdicts(claim, other) == {case: claims.NOT_SUPPORTED}
    best = trainability.best_networks(other, "sgd")
    assert sorted(best.loc[best["start"] == "he_normal", "seed"]) == [0, 1, 2, 3, 4]
    assert set(verdicts(claim, split_networks({0: 0.8})).values()) == {claims.NOT_TESTED}


def test_networks_whose_least_loss_is_not_the_best_accuracy_are_named() -> None:
    tables = race(
        {("he_normal", depth, rate): round(100 * rate) for depth in (5, 10) for rate in (0.1, 0.3)}
    )
    accurate = (tables.cells["depth"] == 5) & (tables.cells["learning_rate"] == 0.1)
    tables.cells["final_train_accuracy"] = np.where(accurate, 0.6, 0.5)
    tables.cells["initializer"] = "He"
    found = trainability.parted(tables, "sgd").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert found == "relu, depth 5, He (50 % at 0.3 and 60 % at 0.1)"
    tables.cells["final_train_accuracy"] = 0.5
    assert trainability.parted(tables, "sgd") == "none"


def test_first_gradients_of_half_the_identity_halve_with_every_layer(teacher: Dataset) -> None:
    shape = {
        "dataset": {"name": "linear_teacher", "dimension": 7, "outputs": 5},
        "initializer": {"name": "identity", "gain": 0.5},
        "activation": "linear",
        "epochs": 0,
    }
    stacks = [
        [make_cell(depth=depth, seed=seed, **shape) for seed in (0, 1, 2)] for depth in (8, 16, 24)
    ]
    parts = [tables_of(cells, teacher) for cells in stacks]
    cells, layers, steps = (
        pd.concat([getattr(part, name) for part in parts]) for name in ("cells", "layers", "steps")
    )
    tables = SimpleNamespace(
        study=SimpleNamespace(name="descent"),
        cells=cells.assign(initializer="vanishing (0.5)"),
        layers=layers,
        steps=steps,
    )
    assert set(verdicts("tiny-steps", tables).values()) == {claims.SUPPORTED}
    tables.layers["gradient_log10_rms"] *= 1.25
    assert set(verdicts("tiny-steps", tables).values()) == {claims.NOT_SUPPORTED}
