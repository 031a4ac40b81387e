"""The schedules against those of Keras, and by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from gradprop.components.datasets import Dataset
from gradprop.components.schedules import SCHEDULES, rate_factor
from gradprop.spec import Stack
from gradprop.training import loop
from gradprop.training.stopwatch import Stopwatch
from tests.reference import make_cell

STEPS = 50


def factors(**given: Any) -> list[float]:
    schedule = SCHEDULES.create(given)
    return [rate_factor(schedule, step, STEPS) for step in range(STEPS + 1)]


def test_exponential_decay_is_that_of_keras() -> None:
    theirs = keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=7, decay_rate=0.3)
    ours = factors(name="exponential", decay_steps=7, decay_rate=0.3)
    assert ours == pytest.approx([float(theirs(step)) for step in range(STEPS + 1)], rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_cosine_decay_is_that_of_keras(alpha: float) -> None:
    theirs = keras.optimizers.schedules.CosineDecay(1.0, decay_steps=STEPS + 1, alpha=alpha)
    ours = factors(name="cosine", alpha=alpha)
    assert ours == pytest.approx([float(theirs(step)) for step in range(STEPS + 1)], abs=1e-6)
    assert min(ours) > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_rises_before_the_schedule_begins(name: str) -> None:
    later = [rate_factor(SCHEDULES.create(name), step, STEPS - 4) for step in range(STEPS - 3)]
    assert factors(name=name, warm_up=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, *later])


def test_networks_are_trained_by_it(blobs: Dataset) -> None:
    """With plain descent an update is the gradient times the rate of the step."""
    schedule = {"name": "exponential", "decay_rate": 0.1, "decay_steps": 2, "warm_up": 3}
    cells = [
        make_cell(schedule=schedule, learning_rate=rate, epochs=2, probes=6, statistics="full")
        for rate in (0.1, 0.3)
    ]
    result = loop.train_stack(
        Stack(tuple(cells)), blobs, Stopwatch(), loop.Progress("test", 2, 1.0)
    )
    rates = {cell.id: cell.learning_rate for cell in cells}
    total = loop.total_steps(cells[0], len(blobs.x_train))
    for cell, step, rate in result.steps[["cell", "step", "learning_rate"]].to_numpy():
        expected = rates[cell] * rate_factor(cells[0].schedule, step, total)
        assert rate == pytest.approx(expected, rel=1e-12)
    layers = result.layers.merge(result.steps[["cell", "step", "learning_rate"]])
    moved = layers["log10_update_ratio"] + layers["weight_log10_norm"]
    np.testing.assert_allclose(
        moved, layers["gradient_log10_norm"] + np.log10(layers["learning_rate"]), atol=1e-5
    )
