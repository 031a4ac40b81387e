"""Every statistic of a layer against brute force in float64, one replica at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components.activations import ACTIVATIONS, SATURATION_LEVEL
from gradprop.probes.statistics import (
    ALWAYS,
    BLOCK,
    MINIBATCHES,
    PRESETS,
    QUANTILE_SAMPLE,
    STATISTICS,
    LayerRecord,
    Sample,
    canonical,
    measure,
    quantile_entries,
    recorded,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

BATCH_SIZE = 13.0  # scale of the signal

# Decades of magnitude: powers of ten that the entries of a replica are spread over.
RANGES = [(-30, 15), (-45, -38), (-30, -25), (-1, 1), (10, 15), (18, 19), (36, 38)]


def entries(
    rng: np.random.Generator, shape: tuple[int, ...], decades: tuple[float, float]
) -> Float32:
    values = rng.standard_normal(shape) * 10.0 ** rng.uniform(*decades, size=shape)
    return values.clip(-3e38, 3e38).astype(np.float32)


def spoil(values: Float32, *special: float) -> Float32:
    """Return a copy with some entries replaced by each of `special`."""
    flat = values.copy().ravel()
    for offset, value in enumerate(special):
        flat[offset :: 3 + len(special)] = value
    return flat.reshape(values.shape)


SPECIAL: dict[str, Callable[[Float32], Float32]] = {
    "zeros": lambda v: spoil(v, 0.0),
    "negative zeros": lambda v: spoil(v, -0.0),
    "infinity": lambda v: spoil(v, np.inf),
    "both infinities": lambda v: spoil(v, np.inf, -np.inf),
    "nan": lambda v: spoil(v, np.nan),
    "nan and infinity": lambda v: spoil(v, np.nan, -np.inf, 0.0),
    "only zeros": lambda v: np.zeros_like(v),
    "constant": lambda v: np.full_like(v, 0.1),
    "large constant": lambda v: np.full_like(v, -1e30),
    "only nan": lambda v: np.full_like(v, np.nan),
    "only infinity": lambda v: np.full_like(v, np.inf),
}


QUANTITIES = (
    *("gradient", "signal", "preactivation", "activation", "weight", "update", "bias_gradient"),
)


def make_record(seed: int = 0, sizes: tuple[int, int, int] = (9, 7, 11)) -> LayerRecord:
    """Return a record with one replica for every range and every special case."""
    rng = np.random.default_rng(seed)
    batch, units, fan_in = sizes
    arrays: dict[str, Sample] = {}
    for name in QUANTITIES:
        example = name in ("signal", "preactivation", "activation")
        rows_of_one = batch if example else 1 if name == "bias_gradient" else fan_in
        shape = (rows_of_one, units)
        rows = [entries(rng, shape, decades) for decades in RANGES]
        rows += [change(entries(rng, shape, (-2, 2))) for change in SPECIAL.values()]
        arrays[name] = Sample(np.stack(rows), scale=BATCH_SIZE if name == "signal" else 1.0)
    others = [beside(rng, arrays["gradient"]) for _ in range(MINIBATCHES)]
    start = beside(rng, arrays["weight"])
    return LayerRecord(**arrays, function="tanh", units=units, start=start, minibatches=others)


def beside(rng: np.random.Generator, sample: Sample) -> Sample:
    """Return values that differ a little: by 30 % in the rows of a range, else in a third."""
    rows = []
    for number, row in enumerate(sample.values):
        noise = (1 + 0.3 * rng.standard_normal(row.shape)).clip(0.1, 1.1)
        if number >= len(RANGES):
            noise[rng.random(row.shape) < 2 / 3] = 1
        rows.append((row * noise).clip(-3e38, 3e38) if number < len(RANGES) else row * noise)
    values = np.stack(rows).astype(np.float32)
    constant = CASES.index("constant")
    values[constant] = sample.values[constant]  # a replica whose minibatches all agree
    return Sample(values)


REPLICAS = len(RANGES) + len(SPECIAL)
CASES = [*map(str, RANGES), *SPECIAL]


def select(record: LayerRecord, replicas: list[int]) -> LayerRecord:
    samples: dict[str, Any] = {}
    for name in (*QUANTITIES, "start"):
        sample: Sample = getattr(record, name)
        samples[name] = Sample(sample.values[replicas], sample.scale)
    samples["minibatches"] = [Sample(other.values[replicas]) for other in record.minibatches]
    return replace(record, **samples)


# ------------------------------------------------------------------------------ brute force


def brute_sum(values: Float64) -> float:
    if np.isfinite(values).all():
        return math.fsum(values)
    return float(values.sum())


def brute_mean(values: Float64) -> float:
    return brute_sum(values) / len(values)


def brute_std(values: Float64) -> float:
    return math.sqrt(brute_mean((values - brute_mean(values)) ** 2))


def brute_norm(values: Float64) -> float:
    return math.sqrt(brute_sum(values**2))


def brute_quantile(probability: float) -> Callable[[Float64], float]:
    def quantile(values: Float64) -> float:
        if np.isfinite(values).all():
            return float(np.quantile(values, probability))
        if np.isnan(values).any():
            return math.nan
        ranked = np.sort(values)
        position = probability * (len(ranked) - 1)
        share, below = math.modf(position)
        low, high = ranked[int(below)], ranked[math.ceil(position)]
        return float(low if low == high else (1 - share) * low + share * high)

    return quantile


def brute_magnitude(probability: float) -> Callable[[Float64], float]:
    return lambda values: log10(brute_quantile(probability)(np.abs(values)))


def log10(value: float) -> float:
    return float(np.log10(np.float64(value)))


def count(test: Callable[[float], bool]) -> Callable[[Float64], float]:
    return lambda values: sum(test(float(value)) for value in values) / len(values)


def brute_kurtosis(values: Float64) -> float:
    if not np.isfinite(values).all() or len(set(values)) == 1:
        return math.nan
    squares = (values - brute_mean(values)) ** 2
    return brute_mean(squares**2) / brute_mean(squares) ** 2


Brute = tuple[str, Callable[[Float64], float]]

BRUTE: dict[str, Brute] = {
    "gradient_log10_norm": ("gradient", lambda v: log10(brute_norm(v))),
    "gradient_log10_rms": ("gradient", lambda v: log10(math.sqrt(brute_mean(v**2)))),
    "gradient_mean": ("gradient", brute_mean),
    "gradient_std": ("gradient", brute_std),
    "gradient_kurtosis": ("gradient", brute_kurtosis),
    "gradient_log10_q05": ("gradient", brute_magnitude(0.05)),
    "gradient_log10_q50": ("gradient", brute_magnitude(0.50)),
    "gradient_log10_q95": ("gradient", brute_magnitude(0.95)),
    "gradient_zero_fraction": ("gradient", count(lambda x: x == 0)),
    "gradient_nonfinite_fraction": ("gradient", count(lambda x: not math.isfinite(x))),
    "signal_log10_rms": ("signal", lambda v: log10(math.sqrt(brute_mean(v**2)))),
    "signal_log10_q05": ("signal", brute_magnitude(0.05)),
    "signal_log10_q50": ("signal", brute_magnitude(0.50)),
    "signal_log10_q95": ("signal", brute_magnitude(0.95)),
    "signal_zero_fraction": ("signal", count(lambda x: x == 0)),
    "signal_nonfinite_fraction": ("signal", count(lambda x: not math.isfinite(x))),
    "preactivation_mean": ("preactivation", brute_mean),
    "preactivation_std": ("preactivation", brute_std),
    "preactivation_log10_mean_square": ("preactivation", lambda v: log10(brute_mean(v**2))),
    "activation_mean": ("activation", brute_mean),
    "activation_std": ("activation", brute_std),
    "activation_log10_mean_square": ("activation", lambda v: log10(brute_mean(v**2))),
    "activation_q02": ("activation", brute_quantile(0.02)),
    "activation_q50": ("activation", brute_quantile(0.50)),
    "activation_q98": ("activation", brute_quantile(0.98)),
    "activation_nonfinite_fraction": ("activation", count(lambda x: not math.isfinite(x))),
    "weight_log10_norm": ("weight", lambda v: log10(brute_norm(v))),
    "bias_gradient_log10_norm": ("bias_gradient", lambda v: log10(brute_norm(v))),
    "bias_gradient_log10_rms": (
        "bias_gradient",
        lambda v: log10(math.sqrt(brute_mean(v**2))),
    ),
    "bias_gradient_zero_fraction": ("bias_gradient", count(lambda x: x == 0)),
    "bias_gradient_nonfinite_fraction": (
        "bias_gradient",
        count(lambda x: not math.isfinite(x)),
    ),
}
# Tested below, for they need more than one quantity.
OTHERS = {"saturated_fraction", "dead_fraction", "log10_update_ratio"}
COMPARISONS = {
    "preactivation_correlation",
    "activation_correlation",
    "gradient_cosine",
    "gradient_log10_snr",
    "log10_distance_from_start",
    "weight_gradient_log10_product",
}


def rows_of(sample: Sample) -> Float64:
    return sample.values.astype(np.float64) * sample.scale


def test_every_statistic_is_covered() -> None:
    assert BRUTE.keys() | OTHERS | COMPARISONS == STATISTICS.keys()
    assert all(statistic.definition for statistic in STATISTICS.values())
    sets = [set(PRESETS[name]) for name in ("cheap", "standard", "full")]
    assert set(ALWAYS) < sets[0] < sets[1] < sets[2] == STATISTICS.keys()


def test_a_layer_without_biases_has_no_gradient_of_them() -> None:
    record = replace(make_record(), bias_gradient=None)
    names = [name for name in STATISTICS if name.startswith("bias_gradient")]
    assert all(np.isnan(values).all() for values in measure(record, names).values())


def test_no_preset_but_full_needs_more_than_a_step() -> None:
    """The default costs neither memory for the start nor gradients of other minibatches."""
    assert {name for name in STATISTICS if STATISTICS[name].needs} < COMPARISONS
    assert not COMPARISONS & {*PRESETS["cheap"], *PRESETS["standard"]}


# The smaller is one block of a sum, and quantiles are of all entries; the larger is neither.
SIZES = [(9, 7, 11), (64, 65, 80)]


def test_sizes_have_one_and_several_blocks() -> None:
    (batch, units, fan_in), (many, most, more) = SIZES
    assert max(batch, fan_in) * units <= QUANTILE_SAMPLE < BLOCK < min(many, more) * most


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BRUTE)
@pytest.mark.parametrize("sizes", SIZES, ids=["small", "large"])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_brute_force(name: str, sizes: tuple[int, int, int], seed: int) -> None:
    quantity, brute = BRUTE[name]
    record = make_record(seed, sizes)
    rows = rows_of(getattr(record, quantity))
    if "_q" in name and rows.shape[1] > QUANTILE_SAMPLE:
        rows = rows[:, quantile_entries(rows.shape[1])]
    expected = np.array([brute(row) for row in rows])
    found = measure(record, [name])[name]
    assert found.dtype == (np.float64 if "log10" in name else np.float32)
    if "log10" in name:
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12, err_msg=f"{CASES}")
        return
    # A mean of both signs may be much smaller than its terms, and results are rounded to float32,
    # whose smallest number is 1.4e-45.
    terms = np.where(np.isfinite(rows), np.abs(rows), 0).mean(axis=1)
    allowed = 1e-6 * np.abs(expected) + 1e-13 * terms + 1e-45
    for case, value, exact_value, most in zip(CASES, found, expected, allowed, strict=True):
        if np.isfinite(exact_value):
            assert abs(float(value) - exact_value) <= most, case
        else:
            np.testing.assert_equal(value, np.float32(exact_value), case)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_update_ratio() -> None:
    record = make_record()
    updates, weights = rows_of(record.update), rows_of(record.weight)
    pairs = zip(updates, weights, strict=True)
    expected = [log10(brute_norm(u)) - log10(brute_norm(w)) for u, w in pairs]
    np.testing.assert_allclose(
        measure(record, ["log10_update_ratio"])["log10_update_ratio"], expected, rtol=1e-11
    )


# ------------------------------------------------------- statistics that compare, exactly


def exact(values: Float32) -> list[Fraction]:
    return [Fraction(float(value)) for value in values]


def inner(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def exact_cosine(a: Float32, b: Float32) -> float:
    """Return the cosine in rational arithmetic; NaN if there is none."""
    if not np.isfinite([a, b]).all() or not a.any() or not b.any():
        return math.nan
    x, y = exact(a), exact(b)
    square = inner(x, y) ** 2 / (inner(x, x) * inner(y, y))
    return math.copysign(math.sqrt(square), inner(x, y))


def exact_log10_snr(gradients: list[Float32]) -> float:
    """Return log10 SNR by sums over pairs: of g_j g_k for the signal, (g_j - g_k)^2 for noise."""
    if not np.isfinite(gradients).all():
        return math.nan
    pairs = list(combinations([exact(gradient) for gradient in gradients], 2))
    differences = [[x - y for x, y in zip(a, b, strict=True)] for a, b in pairs]
    noise = sum(inner(d, d) for d in differences) / (2 * len(pairs))
    signal = sum(inner(a, b) for a, b in pairs) / len(pairs)
    if not noise:
        return math.inf if signal else math.nan
    return 0.5 * math.log10(signal / noise) if signal > 0 else -math.inf


def brute_correlation(z: Float32) -> float:
    """Return the mean c of the pairs of examples (batch, units)."""
    pairs = [(z[k], z[k + 1]) for k in range(0, len(z) - 1, 2)]
    if not np.isfinite(pairs).all():
        return math.nan
    cosines = [exact_cosine(a, b) for a, b in pairs if a.any() and b.any()]
    return math.fsum(cosines) / len(cosines) if cosines else math.nan


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("quantity", ["preactivation", "activation"])
def test_correlation(quantity: str, seed: int) -> None:
    record = make_record(seed)
    sample: Sample = getattr(record, quantity)
    z = sample.values.reshape(REPLICAS, -1, record.units).copy()
    z[0, 1] = 0  # a pair without correlation
    z[1, :8:2] = 0  # no pair with one
    z[2, 8] = np.nan  # the example without a pair
    z[3, 5, 0] = np.nan  # one of four pairs
    z[4, 2, 1] = np.inf
    changed: Any = {quantity: Sample(z)}
    found = measure(replace(record, **changed), [f"{quantity}_correlation"])
    values = found[f"{quantity}_correlation"]
    assert np.isnan(values[: len(RANGES)]).tolist() == [
        False,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    np.testing.assert_allclose(values, [brute_correlation(rows) for rows in z], rtol=1e-6)


def test_correlation_by_hand() -> None:
    """Pairs with c of 1 (a multiple), 0, and -0.6; means are not subtracted."""
    z = np.array([[1, 1], [5e30, 5e30], [0, 1e-40], [3e38, 0], [3, 4], [-1, 0]], np.float32)
    record = replace(make_record(), preactivation=Sample(z[None]), units=2)
    found = measure(record, ["preactivation_correlation"])["preactivation_correlation"]
    np.testing.assert_allclose(found, [0.4 / 3], rtol=1e-6)
    alone = replace(record, preactivation=Sample(z[None, :1]))
    assert np.isnan(measure(alone, ["preactivation_correlation"])["preactivation_correlation"])


def test_kurtosis_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.standard_normal(100_000), rng.uniform(size=100_000)])
    values = np.concatenate([values * 1e-30, np.tile([[-1e15, 1e15]], (1, 50_000))])
    found = measure(
        replace(make_record(), gradient=Sample(values.astype(np.float32))), ["gradient_kurtosis"]
    )
    np.testing.assert_allclose(found["gradient_kurtosis"], [3, 1.8, 1], atol=0.06)
    one = Sample(np.eye(1, 100, dtype=np.float32))  # 1 and 99 zeros: p = 1 / 100
    outlier = measure(replace(make_record(), gradient=one), ["gradient_kurtosis"])
    expected = (1 - 3 * 0.01 * 0.99) / (0.01 * 0.99)
    np.testing.assert_allclose(outlier["gradient_kurtosis"], expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weight_gradient_product() -> None:
    record = make_record()
    found = measure(record, ["weight_gradient_log10_product"])["weight_gradient_log10_product"]
    pairs = zip(record.weight.values, record.gradient.values, strict=True)
    finite = 0
    for value, (w, g) in zip(found, pairs, strict=True):
        if not np.isfinite([w, g]).all():
            assert not np.isfinite(value)
            continue
        terms = [float(x * y) for x, y in zip(exact(w), exact(g), strict=True)]
        scale = math.fsum(map(abs, terms))
        assert 10**value == pytest.approx(abs(math.fsum(terms)), rel=1e-9, abs=1e-12 * scale)
        finite += 1
    assert finite > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_cosine(seed: int) -> None:
    record = make_record(seed)
    pairs = zip(record.gradient.values, record.minibatches[0].values, strict=True)
    expected = np.array([exact_cosine(a, b) for a, b in pairs])
    assert (np.abs(expected[: len(RANGES)]) < 1 - 1e-4).sum() >= 3
    found = measure(record, ["gradient_cosine"])["gradient_cosine"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{CASES}")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("independent", [False, True])
def test_signal_to_noise(seed: int, independent: bool) -> None:
    """Independent minibatches have no signal: about half of their estimates are not positive."""
    record = make_record(seed)
    if independent:
        others = [make_record(10 * seed + k).gradient for k in range(MINIBATCHES)]
        record = replace(record, minibatches=others)
    rows = zip(*(sample.values for sample in record.minibatches), strict=True)
    expected = np.array([exact_log10_snr(list(gradients)) for gradients in rows])
    assert expected[CASES.index("constant")] == np.inf
    assert np.isnan(expected[CASES.index("only zeros")])
    assert np.isneginf(expected[: len(RANGES)]).any() == independent
    found = measure(record, ["gradient_log10_snr"])["gradient_log10_snr"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11, err_msg=f"{CASES}")


def test_signal_to_noise_is_estimated_without_bias() -> None:
    """Of 20,000 replicas with a signal of norm 1 and a total variance of 4, at scale 1e-30."""
    rng = np.random.default_rng(0)
    mean = np.array([0.6, 0.8, 0, 0])
    draws = 1e-30 * (mean + rng.standard_normal((MINIBATCHES, 20_000, 4)))
    samples = [Sample(draw.astype(np.float32)) for draw in draws]
    record = replace(make_record(), gradient=samples[0], minibatches=samples)
    squares = 10 ** (2 * measure(record, ["gradient_log10_snr"])["gradient_log10_snr"])
    m = draws.mean(axis=0)
    noise = ((draws - m) ** 2).sum(axis=(0, 2)) / (MINIBATCHES - 1)
    signal = (m**2).sum(axis=1) - noise / MINIBATCHES
    assert noise.mean() == pytest.approx(4e-60, rel=0.02)
    assert signal.mean() == pytest.approx(1e-60, rel=0.05)
    np.testing.assert_allclose(squares, np.maximum(signal, 0) / noise, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_distance_from_start(seed: int) -> None:
    record = make_record(seed)
    assert record.start is not None
    weights, starts = record.weight.values.copy(), record.start.values.copy()
    # Opposite ends of float32's range: the difference is in float64's only.
    weights[0, 0], starts[0, 0] = 3e38, -3e38
    record = replace(record, weight=Sample(weights), start=Sample(starts))
    now, start = weights.astype(np.float64), starts.astype(np.float64)
    pairs = zip(now - start, start, strict=True)
    expected = np.array([log10(brute_norm(d)) - log10(brute_norm(w)) for d, w in pairs])
    found = measure(record, ["log10_distance_from_start"])["log10_distance_from_start"]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13, err_msg=f"{CASES}")
    assert expected[CASES.index("constant")] == -np.inf
    assert np.isnan(expected[CASES.index("only zeros")])


def test_distance_of_weights_that_start_at_zero() -> None:
    zeros, ones = np.zeros((2, 5), np.float32), np.ones((2, 5), np.float32)
    ones[0] = 0
    record = replace(make_record(), weight=Sample(ones), start=Sample(zeros))
    found = measure(record, ["log10_distance_from_start"])["log10_distance_from_start"]
    np.testing.assert_array_equal(found, [np.nan, np.inf])


# ------------------------------------------------------------------------ choice of statistics


def test_presets_keep_their_name() -> None:
    for name, members in PRESETS.items():
        assert canonical(name) == canonical(members) == canonical(members[::-1]) == name
        assert list(recorded(name)) == list(members)


def test_lists_have_one_text() -> None:
    chosen = ["dead_fraction", "gradient_kurtosis"]
    text = canonical(chosen)
    assert text == canonical(chosen[::-1]) == canonical([*chosen, *ALWAYS])
    assert text == (
        "gradient_log10_norm,gradient_kurtosis,signal_log10_rms,preactivation_log10_mean_square,"
        "dead_fraction"
    )
    assert recorded(text) == text.split(",")


def test_magnitudes_that_float32_sums_would_lose() -> None:
    """Squares of 1e-40 and 1e30 leave float32's range; their logarithms are exact here."""
    powers = np.array([-45, -40, -30, -20, 0, 19, 30, 38])
    values = np.repeat((10.0 ** powers.astype(np.float64)).astype(np.float32)[:, None], 4096, 1)
    record = replace(make_record(), gradient=Sample(values))
    found = measure(record, ["gradient_log10_rms", "gradient_log10_norm"])
    stored = np.log10(values[:, 0].astype(np.float64))  # 1e-45 and 1e-40 are subnormal
    np.testing.assert_allclose(found["gradient_log10_rms"], stored, atol=1e-13)
    np.testing.assert_allclose(found["gradient_log10_norm"], stored + 0.5 * np.log10(4096))


def test_true_zeros_are_minus_infinity_and_counted() -> None:
    record = replace(make_record(), gradient=Sample(np.zeros((2, 5), np.float32)))
    found = measure(record, ["gradient_log10_rms", "gradient_log10_q50", "gradient_zero_fraction"])
    assert (found["gradient_log10_rms"] == -np.inf).all()
    assert (found["gradient_log10_q50"] == -np.inf).all()
    assert (found["gradient_zero_fraction"] == 1).all()


def test_constant_rows_have_no_deviation() -> None:
    for size in (1, 7, 100, 10_007):
        sample = Sample(np.full((3, size), 0.1, np.float32))
        # float64 can miss the mean of equal numbers by a rounding.
        np.testing.assert_allclose(np.sqrt(sample.variance), 0, atol=1e-16)
        assert (sample.quantile(0.02) == np.float64(np.float32(0.1))).all()


def test_quantiles_beside_infinity() -> None:
    sample = Sample(np.array([[1, 2, np.inf], [-np.inf, 2, 3], [-np.inf, 0, np.inf]], np.float32))
    with np.errstate(invalid="ignore"):  # of the sum, as while recording
        np.testing.assert_array_equal(sample.quantile(0.5), [2, 2, 0])
        np.testing.assert_array_equal(sample.quantile(0.25), [1.5, -np.inf, -np.inf])
        np.testing.assert_array_equal(sample.quantile(0.75), [np.inf, 2.5, np.inf])


def test_quantiles_are_nan_where_an_entry_outside_the_sample_is() -> None:
    values = np.zeros((2, QUANTILE_SAMPLE + 1), np.float32)
    outside = set(range(values.shape[1])) - set(quantile_entries(values.shape[1]).tolist())
    values[1, outside.pop()] = np.nan
    for found in (Sample(values).quantile(0.5), Sample(values).magnitude_quantile(0.5)):
        np.testing.assert_array_equal(found, [0, np.nan])


def test_quantiles_of_many_entries_are_those_of_a_fixed_sample() -> None:
    size = QUANTILE_SAMPLE + 1
    chosen = quantile_entries(size)
    assert len(set(chosen.tolist())) == len(chosen) == QUANTILE_SAMPLE
    assert 0 <= chosen.min() <= chosen.max() < size
    values = entries(np.random.default_rng(0), (3, 64 * 64), (-2, 2))
    sample = Sample(values)
    for probability in (0.02, 0.05, 0.5, 0.95, 0.98):
        part = values[:, quantile_entries(64 * 64)].astype(np.float64)
        expected = np.quantile(part, probability, axis=1)
        np.testing.assert_allclose(sample.quantile(probability), expected, rtol=1e-12)
        expected = np.quantile(np.abs(part), probability, axis=1)
        found = sample.magnitude_quantile(probability)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        # Four standard errors of the share of all entries that lie below.
        below = (np.abs(values) <= found[:, None]).mean(axis=1)
        error = np.sqrt(probability * (1 - probability) / QUANTILE_SAMPLE)
        np.testing.assert_allclose(below, probability, atol=4 * error)


def test_quantiles_of_few_entries_are_exact() -> None:
    values = entries(np.random.default_rng(0), (2, QUANTILE_SAMPLE), (-2, 2))
    expected = np.quantile(values.astype(np.float64), 0.3, axis=1)
    np.testing.assert_allclose(Sample(values).quantile(0.3), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 64.0, 0.3])
def test_scale_multiplies_the_quantity(scale: float) -> None:
    values = entries(np.random.default_rng(0), (4, 33), (-1, 1))
    sample, scaled = Sample(values, scale), Sample(values).values.astype(np.float64) * scale
    for found, expected in [
        (sample.mean, scaled.mean(axis=1)),
        (sample.mean_square, (scaled**2).mean(axis=1)),
        (sample.variance, scaled.var(axis=1)),
        (sample.fourth_moment, ((scaled.T - scaled.mean(axis=1)) ** 4).mean(axis=0)),
        (sample.quantile(0.3), np.quantile(scaled, 0.3, axis=1)),
        (sample.magnitude_quantile(0.3), np.quantile(np.abs(scaled), 0.3, axis=1)),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-12)


# ---------------------------------------------------------------------- saturation and death


def slopes_beyond(function: str, z: Float64) -> Float64:
    """Return the largest |phi'| from z outwards, in units of the largest of all.

    The slope of the exponential has no largest: that at 0 is taken.
    """
    derivative = ACTIVATIONS[function].derivative
    outwards = z[..., None] + np.sign(z)[..., None] * np.linspace(0, 20, 801)
    everywhere = np.linspace(-20, 20, 400_001) if function != "exponential" else np.zeros(1)
    largest = float(np.abs(derivative(everywhere)).max())
    beyond: Float64 = np.abs(derivative(outwards)).max(axis=-1)
    return beyond / largest


SATURATION = ("saturated_fraction", "dead_fraction")


def with_preactivations(function: str, z: Float32) -> LayerRecord:
    sample = Sample(z)
    return replace(
        make_record(), preactivation=sample, activation=sample, function=function, units=z.shape[-1]
    )


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_saturated_and_dead(function: str) -> None:
    """A third of the units is saturated for all examples, if the function saturates at all."""
    rng = np.random.default_rng(3)
    z = rng.uniform(-15, 15, size=(6, 10, 12)).astype(np.float32)
    z[:, :, :4] = -14.0 - rng.uniform(0, 1, size=(6, 10, 4))
    level = slopes_beyond(function, z.astype(np.float64))
    assert (np.abs(level / SATURATION_LEVEL - 1) > 1e-6).all()  # none on the border
    saturated = level <= SATURATION_LEVEL
    found = measure(with_preactivations(function, z), ["saturated_fraction", "dead_fraction"])
    np.testing.assert_allclose(found["saturated_fraction"], saturated.mean(axis=(1, 2)), rtol=1e-6)
    dead = saturated.all(axis=1).mean(axis=1)
    np.testing.assert_allclose(found["dead_fraction"], dead, rtol=1e-6)
    saturates = (saturated[:, :, :4]).all()
    assert (found["dead_fraction"] > (0.3 if saturates else -1)).all()
    assert saturates or (found["dead_fraction"] == 0).all()


EXTREME = [1e-45, 1e-30, 1e-3, 1e3, 1e15, 3e38]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", ACTIVATIONS)
def test_saturation_at_all_magnitudes(function: str) -> None:
    """Of both signs, down to minus infinity, which is as flat as what comes before; never NaN."""
    z = np.array([*EXTREME, *(-value for value in EXTREME), -np.inf, np.nan], np.float32)
    finite = np.nan_to_num(z.astype(np.float64), neginf=-1e15)
    flat = (slopes_beyond(function, finite) <= SATURATION_LEVEL) & ~np.isnan(z)
    for value, saturated in zip(z, flat, strict=True):
        record = with_preactivations(function, np.full((1, 3, 2), value, np.float32))
        found = measure(record, SATURATION)
        assert [float(found[name][0]) for name in SATURATION] == [saturated, saturated], value
    together = measure(with_preactivations(function, z.reshape(1, 1, -1)), SATURATION)
    for name in SATURATION:
        assert together[name] == pytest.approx(flat.mean(), rel=1e-6)


@pytest.mark.parametrize("function", ["relu", "elu", "selu", "gelu", "swish"])
def test_an_exploded_rectifier_is_not_saturated(function: str) -> None:
    found = measure(
        with_preactivations(function, np.full((1, 2, 3), np.inf, np.float32)), SATURATION
    )
    assert found["saturated_fraction"] == found["dead_fraction"] == 0


def test_a_relu_at_zero_is_saturated() -> None:
    found = measure(with_preactivations("relu", np.zeros((1, 2, 3), np.float32)), list(OTHERS))
    assert found["saturated_fraction"] == found["dead_fraction"] == 1


def test_one_example_keeps_a_unit_alive() -> None:
    z = np.full((1, 5, 4), -1.0, np.float32)
    z[0, 2, 1] = 1.0
    found = measure(with_preactivations("relu", z), list(OTHERS))
    assert found["dead_fraction"] == np.float32(0.75)
    assert found["saturated_fraction"] == np.float32(0.95)


# --------------------------------------------------------------------------- independent rows


@pytest.mark.parametrize("sizes", [(9, 7, 11), (13, 37, 101), (64, 64, 64), (1, 103, 103)])
def test_rows_do_not_depend_on_their_neighbours(sizes: tuple[int, int, int]) -> None:
    """Bit for bit, in stacks of any size and order; the last size has rows over 8192 entries."""
    record = make_record(sizes=sizes)
    rng = np.random.default_rng(0)
    alone = [measure(select(record, [r]), PRESETS["full"]) for r in range(REPLICAS)]
    for size in (3, 25, 40):
        replicas = rng.integers(0, REPLICAS, size).tolist()
        found = measure(select(record, replicas), PRESETS["full"])
        for name, values in found.items():
            expected = np.concatenate([alone[r][name] for r in replicas])
            assert values.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("size", [1, 35, 4097, 8192, 8193, 20_001])
def test_sums_of_a_row_do_not_depend_on_their_neighbours(size: int) -> None:
    """In float64, before anything is rounded for the tables."""
    values = entries(np.random.default_rng(0), (40, size), (-2, 2))
    for name in ("mean", "mean_square", "variance", "fourth_moment"):
        together: Float64 = getattr(Sample(values), name)
        for replicas in ([0], [39], [17, 2, 30], [*range(15, 40)], [*range(40)][::-1]):
            found: Float64 = getattr(Sample(values[replicas]), name)
            assert found.tobytes() == together[replicas].tobytes(), (name, len(replicas))


@pytest.mark.parametrize("sizes", [(9, 7, 11), (1, 1, 20_001), (64, 63, 65), (5, 12_001, 1)])
@pytest.mark.parametrize("name", sorted(COMPARISONS | {"gradient_kurtosis"}))
def test_comparisons_of_a_row_do_not_depend_on_their_neighbours(
    name: str, sizes: tuple[int, int, int]
) -> None:
    """In float64, before anything is rounded for the tables."""
    record = make_record(sizes=sizes)
    with np.errstate(all="ignore"):
        together = STATISTICS[name].compute(record)
        for replicas in ([0], [3], [17], [5, 2, 9], [*range(REPLICAS)][::-1]):
            found = STATISTICS[name].compute(select(record, replicas))
            assert found.tobytes() == together[replicas].tobytes(), replicas


def test_only_what_is_asked_for_is_computed() -> None:
    nothing: Any = None
    record = replace(make_record(), weight=nothing)
    assert list(measure(record, ["gradient_mean"])) == ["gradient_mean"]


def test_a_variance_survives_a_large_mean_and_other_rows() -> None:
    """Digits that would cancel are kept; a row has the same bits beside others and alone."""
    random = np.random.default_rng(5)
    noise = random.standard_normal((6, 5000))
    offsets = np.array([0.0, 1.0, 30.0, 1e3, 1e5, -1e4])
    values = (offsets[:, None] + noise * [[1], [0.1], [1], [1], [0.5], [1e-2]]).astype(np.float32)
    found = Sample(values).variance
    expected = values.astype(np.longdouble).var(axis=1)
    np.testing.assert_allclose(found, expected.astype(np.float64), rtol=1e-11)
    for number, row in enumerate(values):
        assert Sample(row[None]).variance[0] == found[number]
