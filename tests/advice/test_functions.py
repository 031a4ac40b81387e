"""Python functions as activation functions, against exact derivatives of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradprop import theory
from gradprop.advice.functions import from_function, slope_error
from gradprop.components.activations import ACTIVATIONS
from gradprop.errors import GradpropError

# A kink of the second derivative alone is not looked for; differences reach across it.
SMOOTHER = {"elu", "softsign"}


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "exponential"])
def test_a_function_given_by_values_is_the_exact_one(name: str) -> None:
    exact = ACTIVATIONS[name]
    found = from_function(exact.function, name)
    close = 1e-5 if name in SMOOTHER else 1e-7
    for q in (1e-6, 0.1, 1.0, 40.0):
        assert theory.chi_1(found, q, 1.0) == pytest.approx(theory.chi_1(exact, q, 1.0), rel=close)
        slope = theory.length_map_slope(exact, q, 1.0)
        assert theory.length_map_slope(found, q, 1.0) == pytest.approx(slope, rel=close, abs=close)
    assert found.homogeneous == exact.homogeneous
    assert found.saturation == pytest.approx(exact.saturation, abs=0.02)
    if name not in SMOOTHER:
        assert found.kinks == exact.kinks
    assert slope_error(exact) == 0.0
    error = abs(theory.chi_1(found, 1.0, 1.0) / theory.chi_1(exact, 1.0, 1.0) - 1)
    assert error <= slope_error(found)
    assert slope_error(found) < 1e-9


def test_a_function_that_grows_exponentially_is_refused() -> None:
    with pytest.raises(GradpropError, match="exponential grows faster than linearly"):
        from_function(ACTIVATIONS["exponential"].function, "exponential")


def test_a_kink_is_found_where_it_is() -> None:
    found = from_function(lambda z: np.where(z > 1.2345678, 2 * z - 1.2345678, z), "bent")
    assert found.kinks == pytest.approx((1.2345678,), abs=1e-8)
    # the slope is 2 beyond: E[phi'^2] = 1 + 3 P(z > 1.2345678)
    beyond = 0.10849570236
    assert theory.chi_1(found, 1.0, 1.0) == pytest.approx(1 + 3 * beyond, abs=1e-7)


def test_single_precision_is_told_by_a_larger_error() -> None:
    found = from_function(lambda z: np.tanh(z.astype(np.float32)), "single")
    exact = theory.chi_1("tanh", 1.0, 1.0)
    error = abs(theory.chi_1(found, 1.0, 1.0) / exact - 1)
    assert 1e-9 < error < 1e-4
    assert error <= slope_error(found)


def test_tensors_are_taken() -> None:
    import keras

    found = from_function(keras.activations.mish, "mish")
    assert theory.chi_1(found, 1.0, 1.0) == pytest.approx(theory.chi_1("mish", 1.0, 1.0), rel=1e-8)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: z * z, "grows faster than linearly"),
        (lambda z: 0 * z, "is constant"),
        (lambda z: max(z, 0), "fails on an array: ValueError"),
        (lambda z: z.sum(), "element-wise"),
        (lambda z: "text", "fails on an array"),
        (np.sqrt, "is nan at -300"),
    ],
)
def test_what_is_no_activation_function_is_told_in_one_line(
    function: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(GradpropError, match=words) as caught:
        from_function(function, "mine")
    assert str(caught.value).startswith("advise: activation: mine ")
    assert "\n" not in str(caught.value)
