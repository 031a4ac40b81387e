"""Schedules: what the learning rate of every network is multiplied with, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradprop.components.registry import LARGEST_COUNT, Entry, Parameter, Registry
from gradprop.spec import Component


@dataclass(frozen=True, kw_only=True)
class Schedule(Entry):
    """How the learning rate changes during training.

    Attributes
    ----------
    factor
        From the steps since the end of the warm-up, the steps from there to the end of training,
        and the parameters, to the factor.
    """

    factor: Callable[..., float]


def rate_factor(schedule: Component, step: int, steps: int) -> float:
    """Return what learning rates are multiplied with in a step.

    Parameters
    ----------
    schedule
        Entry of `SCHEDULES`.
    step
        Number of updates before this one: 0 for the first.
    steps
        Number of all updates.

    Returns
    -------
    float
        ``(step + 1) / warm_up`` during the warm-up; then what the schedule says.
    """
    given = SCHEDULES.parameters_of(schedule)
    warm_up = given.pop("warm_up")
    if step < warm_up:
        return float((step + 1) / warm_up)
    return SCHEDULES[schedule.name].factor(step - warm_up, steps - warm_up, **given)


def _exponential(step: int, steps: int, decay_rate: float, decay_steps: int) -> float:
    return float(decay_rate ** (step / decay_steps))


def _cosine(step: int, steps: int, alpha: float) -> float:
    return alpha + (1 - alpha) * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))


_WARM_UP = {
    "warm_up": Parameter(
        0,
        "Steps over which the rate rises on a straight line: in step t, from 1, t / warm_up of it.",
        minimum=0,
        maximum=LARGEST_COUNT,
    )
}

SCHEDULES = Registry(
    {
        "constant": Schedule(
            definition="rate, after the warm-up",
            source="warm-up: Goyal et al. 2017, arXiv:1706.02677",
            factor=lambda step, steps: 1.0,
            parameters=_WARM_UP,
        ),
        "exponential": Schedule(
            definition="rate decay_rate^(t / decay_steps), t the steps after the warm-up",
            source="keras.optimizers.schedules.ExponentialDecay",
            factor=_exponential,
            parameters={
                "decay_rate": Parameter(
                    0.5, "Factor of the rate in `decay_steps` steps.", above=0, maximum=1
                ),
                "decay_steps": Parameter(
                    100, "Steps for one such factor.", minimum=1, maximum=LARGEST_COUNT
                ),
                **_WARM_UP,
            },
        ),
        "cosine": Schedule(
            definition="rate (alpha + (1 - alpha)(1 + cos(pi t / (T + 1))) / 2), t the steps after "
            "the warm-up, T all of these: no step has a rate of 0",
            source="Loshchilov and Hutter 2017; keras.optimizers.schedules.CosineDecay with "
            "decay_steps = T + 1",
            factor=_cosine,
            parameters={
                "alpha": Parameter(
                    0.0, "Share of the rate that it tends to.", minimum=0, maximum=1
                ),
                **_WARM_UP,
            },
        ),
    }
)
