"""Every optimizer of the package against the one of its name in Keras, replica by replica."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradprop.components.optimizers import OPTIMIZERS, create_update
from gradprop.spec import Scalar
from tests import keras_reference
from tests.reference import ROUNDING, make_cell

RATES = (0.01, 0.1, 0.3)
STEPS = 20


def other(default: Scalar) -> float:
    """Return another share or a small positive number."""
    return float(default) / 2 or 0.9


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("changed", [False, True], ids=["defaults", "other parameters"])
def test_steps_are_those_of_keras(name: str, changed: bool) -> None:
    import tensorflow as tf

    parameters = {key: other(value) for key, value in OPTIMIZERS[name].defaults.items()}
    component: Any = {"name": name, **(parameters if changed else {})}
    draws = np.random.default_rng(0).standard_normal((1 + STEPS, len(RATES), 4, 5))
    start, *gradients = draws.astype(np.float32)
    variable = tf.Variable(start)
    update = create_update(
        OPTIMIZERS.create(component), [variable], np.array(RATES, np.float32)[:, None, None]
    )
    plain = [tf.Variable(values) for values in start]
    theirs = [
        keras_reference.build_optimizer(make_cell(optimizer=component, learning_rate=rate))
        for rate in RATES
    ]
    for gradient in gradients:
        before = variable.numpy()
        (change,) = update([tf.constant(gradient)])
        np.testing.assert_array_equal(variable.numpy(), before - change.numpy())
        for values, optimizer, one in zip(plain, theirs, gradient, strict=True):
            optimizer.apply([tf.constant(one)], [values])
        largest = np.abs(variable).max()
        np.testing.assert_allclose(variable, plain, rtol=0, atol=STEPS * ROUNDING * largest)
