"""Every statistic of a layer against brute force in float64, one replica at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.activations import ACTIVATIONS, SATURATION_LEVEL
from gradprop.statistics import (
    PRESETS,
    QUANTILE_SAMPLE,
    STATISTICS,
    LayerRecord,
    Sample,
    measure,
    quantile_entries,
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


def make_record(seed: int = 0, sizes: tuple[int, int, int] = (9, 7, 11)) -> LayerRecord:
    """Return a record with one replica for every range and every special case."""
    rng = np.random.default_rng(seed)
    batch, units, fan_in = sizes
    arrays: dict[str, Sample] = {}
    for name in ("gradient", "signal", "preactivation", "activation", "weight", "update"):
        example = name in ("signal", "preactivation", "activation")
        shape = (batch, units) if example else (fan_in, units)
        rows = [entries(rng, shape, decades) for decades in RANGES]
        rows += [change(entries(rng, shape, (-2, 2))) for change in SPECIAL.values()]
        arrays[name] = Sample(np.stack(rows), scale=BATCH_SIZE if name == "signal" else 1.0)
    return LayerRecord(**arrays, function="tanh", units=units)


REPLICAS = len(RANGES) + len(SPECIAL)
CASES = [*map(str, RANGES), *SPECIAL]


def select(record: LayerRecord, replicas: list[int]) -> LayerRecord:
    names = ("gradient", "signal", "preactivation", "activation", "weight", "update")
    samples: dict[str, Any] = {}
    for name in names:
        sample: Sample = getattr(record, name)
        samples[name] = Sample(sample.values[replicas], sample.scale)
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


Brute = tuple[str, Callable[[Float64], float]]

BRUTE: dict[str, Brute] = {
    "gradient_log10_norm": ("gradient", lambda v: log10(brute_norm(v))),
    "gradient_log10_rms": ("gradient", lambda v: log10(math.sqrt(brute_mean(v**2)))),
    "gradient_mean": ("gradient", brute_mean),
    "gradient_std": ("gradient", brute_std),
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
}
# Tested below, for they need more than one quantity.
OTHERS = {"saturated_fraction", "dead_fraction", "log10_update_ratio"}


def rows_of(sample: Sample) -> Float64:
    return sample.values.astype(np.float64) * sample.scale


def test_every_statistic_is_covered() -> None:
    assert BRUTE.keys() | OTHERS == STATISTICS.keys()
    assert all(statistic.definition for statistic in STATISTICS.values())
    assert set(PRESETS["cheap"]) < set(PRESETS["standard"]) == STATISTICS.keys()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BRUTE)
@pytest.mark.parametrize("seed", [0, 1])
def test_against_brute_force(name: str, seed: int) -> None:
    quantity, brute = BRUTE[name]
    record = make_record(seed)
    expected = np.array([brute(row) for row in rows_of(getattr(record, quantity))])
    values = measure(record, [name])[name]
    exact = values.dtype == np.float64
    assert exact == ("log10" in name)
    if not exact:
        expected = expected.astype(np.float32)
    np.testing.assert_allclose(
        values,
        expected,
        # A mean of both signs may be much smaller than its terms, hence the second term.
        rtol=1e-11 if exact else 1e-6,
        atol=1e-12,
        err_msg=f"{name}: {CASES}",
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_update_ratio() -> None:
    record = make_record()
    updates, weights = rows_of(record.update), rows_of(record.weight)
    pairs = zip(updates, weights, strict=True)
    expected = [log10(brute_norm(u)) - log10(brute_norm(w)) for u, w in pairs]
    np.testing.assert_allclose(
        measure(record, ["log10_update_ratio"])["log10_update_ratio"], expected, rtol=1e-11
    )


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
    np.testing.assert_array_equal(sample.quantile(0.5), [2, 2, 0])
    np.testing.assert_array_equal(sample.quantile(0.25), [1.5, -np.inf, -np.inf])
    np.testing.assert_array_equal(sample.quantile(0.75), [np.inf, 2.5, np.inf])


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
        (sample.quantile(0.3), np.quantile(scaled, 0.3, axis=1)),
        (sample.magnitude_quantile(0.3), np.quantile(np.abs(scaled), 0.3, axis=1)),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-12)


# ---------------------------------------------------------------------- saturation and death


def slopes_beyond(function: str, z: Float64) -> Float64:
    """Return the largest |phi'| from z outwards, in units of the largest of all."""
    derivative = ACTIVATIONS[function].derivative
    outwards = z[..., None] + np.sign(z)[..., None] * np.linspace(0, 20, 801)
    largest = float(np.abs(derivative(np.linspace(-20, 20, 400_001))).max())
    beyond: Float64 = np.abs(derivative(outwards)).max(axis=-1)
    return beyond / largest


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
    never = function in ("linear", "leaky_relu")
    assert (found["dead_fraction"] == 0).all() if never else (found["dead_fraction"] > 0.3).all()


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
    alone = [measure(select(record, [r]), PRESETS["standard"]) for r in range(REPLICAS)]
    for size in (3, 25, 40):
        replicas = rng.integers(0, REPLICAS, size).tolist()
        found = measure(select(record, replicas), PRESETS["standard"])
        for name, values in found.items():
            expected = np.concatenate([alone[r][name] for r in replicas])
            assert values.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("size", [1, 35, 4097, 8192, 8193, 20_001])
def test_sums_of_a_row_do_not_depend_on_their_neighbours(size: int) -> None:
    """In float64, before anything is rounded for the tables."""
    values = entries(np.random.default_rng(0), (40, size), (-2, 2))
    for name in ("mean", "mean_square", "variance"):
        together: Float64 = getattr(Sample(values), name)
        for replicas in ([0], [39], [17, 2, 30], [*range(15, 40)], [*range(40)][::-1]):
            found: Float64 = getattr(Sample(values[replicas]), name)
            assert found.tobytes() == together[replicas].tobytes(), (name, len(replicas))


def test_only_what_is_asked_for_is_computed() -> None:
    nothing: Any = None
    record = replace(make_record(), weight=nothing)
    assert list(measure(record, ["gradient_mean"])) == ["gradient_mean"]
