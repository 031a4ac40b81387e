"""Every public function of the theory refuses what its formula cannot take."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from gradprop import theory

FUNCTIONS = [name for name in theory.__all__ if inspect.isfunction(getattr(theory, name))]

# A valid value of every parameter; 1 of those that are not named.
VALID: dict[str, Any] = {
    "activation": "relu",
    "ensemble": "gaussian",
    "mode": "fan_in",
    "f": np.tanh,
    "g": np.tanh,
    "kinks": (),
    "widths": [8, 8],
    "sigma_b2": 0.0,
    "sigma_b2s": [0.0],
    "c": 0.3,
    "c_1": 0.3,
    "c_start": 0.5,
    "correlation": 0.3,
    "batch_size": 10,
    "layers": 4,
    "depth": 2,
    "s": 2.0,
    "u_0": 0.1,
    "rate": 0.5,
}
# Of functions that take numbers layer by layer, where others take one.
BY_LAYER: dict[str, dict[str, Any]] = {
    "shifted_profile": {
        **{"sigma_w2": [1.0], "weight_mean": [0.1], "sigma_b2": [0.1], "bias_mean": [0.1]},
        **{"input_mean": 0.1, "output_sum": 0.5},
    }
}
NO_NUMBERS = {"activation", "ensemble", "mode", "f", "g", "kinks", "linear"}
# Numbers that may have either sign: diagonals, means, slopes, correlations, and a place outside of
# the support of a density, where that is 0.
SIGNED = {
    *("c", "c_1", "c_start", "correlation", "mean", "omega", "slope", "squared"),
    *("weight_mean", "bias_mean", "input_mean"),
}


def parameters(name: str) -> dict[str, Any]:
    """Return valid arguments of a function."""
    valid = VALID | BY_LAYER.get(name, {})
    return {key: valid.get(key, 1) for key in inspect.signature(getattr(theory, name)).parameters}


def cases(bad: float, but: set[str]) -> list[Any]:
    """Return every function with every number of its own replaced by a bad one."""
    return [
        pytest.param(name, {**valid, key: [bad] * len(value) if isinstance(value, list) else bad})
        for name in FUNCTIONS
        for valid in [parameters(name)]
        for key, value in valid.items()
        if key not in NO_NUMBERS | but
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_valid_arguments_are_valid(name: str) -> None:
    getattr(theory, name)(**parameters(name))


@pytest.mark.parametrize(
    ("name", "arguments"), [*cases(math.nan, set()), *cases(-1.5, SIGNED)], ids=str
)
def test_nan_and_negative_numbers_raise(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|need|got|NaN"):
        getattr(theory, name)(**arguments)


@pytest.mark.parametrize("key", ["c", "c_1", "c_start", "correlation"])
def test_correlations_beyond_one_raise(key: str) -> None:
    names = [name for name in FUNCTIONS if key in parameters(name) and "scaled" not in name]
    assert names
    for name in names:
        for beyond in (-1.1, 1.1):
            with pytest.raises(ValueError, match="correlation"):
                getattr(theory, name)(**{**parameters(name), key: beyond})


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "activation" in parameters(n)])
def test_raises_for_curved_activations_alike(name: str, activation: str) -> None:
    valid = {**parameters(name), "activation": activation}
    for key in set(valid) - NO_NUMBERS:
        bad = [math.nan] * len(valid[key]) if isinstance(valid[key], list) else math.nan
        with pytest.raises(ValueError, match=r"must|need|got|not homogeneous|covers"):
            getattr(theory, name)(**{**valid, key: bad})
