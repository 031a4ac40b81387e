"""At which steps of a training a monitor looks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradprop.errors import GradpropError, show

PER_DECADE = 10


class ScheduleError(GradpropError):
    """A schedule that cannot be followed."""


@dataclass(frozen=True)
class Moment:
    """The training step that comes next.

    Attributes
    ----------
    step
        How many steps were made before it.
    opens_epoch
        Whether it is the first of an epoch.
    is_last
        Whether it is the last one of the training, as far as that is known beforehand.
    """

    step: int
    opens_epoch: bool = False
    is_last: bool = False


Schedule = Callable[[Moment], bool]


def log_spaced(moment: Moment) -> bool:
    """Tell whether a step is 0, the last one, or a multiple of a tenth of a decade.

    From step 1 on these are the integers that are nearest to 10^(k / 10), each once: 1, 2, 3, 4, 5,
    6, 8, 10, 13, 16, 20, 25, ... As their number grows with the logarithm of the number of
    steps alone, it need not be known when the training ends.
    """
    if moment.step == 0 or moment.is_last:
        return True
    k = round(PER_DECADE * math.log10(moment.step))
    return any(round(10 ** (j / PER_DECADE)) == moment.step for j in (k - 1, k, k + 1))


def parse(schedule: object) -> Schedule:
    """Return the schedule that a user means.

    Parameters
    ----------
    schedule
        ``"log"``, ``"epochs"`` (the first step of each), a number n (every n-th step, step 0
        included), or a function from the number of steps made before to whether to look.

    Raises
    ------
    ScheduleError
        If it is none of them.
    """
    if schedule == "log":
        return log_spaced
    if schedule == "epochs":
        return lambda moment: moment.opens_epoch
    if type(schedule) is int and schedule > 0:
        return lambda moment: moment.step % schedule == 0
    if callable(schedule):
        return lambda moment: bool(schedule(moment.step))
    raise ScheduleError(
        f"schedule: {show(schedule)} is not allowed; allowed: 'log', 'epochs', a positive number "
        "of steps, or a function of the step"
    )
