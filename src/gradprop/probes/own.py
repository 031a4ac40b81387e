"""Own statistics: what a study's ``components.py`` adds to the statistics of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController  # scikit-learn requires it

from gradprop import errors
from gradprop.components.own import REGISTRIES, Place, first_line, with_parentheses
from gradprop.probes.statistics import (
    NEEDS,
    PRESETS,
    STATISTICS,
    Float64,
    LayerRecord,
    Sample,
    Statistic,
)
from gradprop.spec import KEYS

REGISTRIES["statistic"] = STATISTICS

F = TypeVar("F", bound=Callable[..., Any])


class NetworkLayer(NamedTuple):
    """What a probe sees of one layer of one network, in float64.

    Attributes
    ----------
    gradient
        dC/dW of the minibatch loss, (fan_in, fan_out).
    signal
        dC/dz of single examples (the loss of an example, not averaged over the minibatch),
        (batch, fan_out).
    preactivation, activation
        z and phi(z), (batch, fan_out).
    weight
        W before the update, (fan_in, fan_out).
    update
        Change of W by the optimizer in this step, (fan_in, fan_out).
    function
        Name of phi; ``linear`` for the output layer.
    start
        W at step 0, for a statistic that needs it.
    minibatches
        dC/dW at the same W of other minibatches, for a statistic that needs them.
    """

    gradient: Float64
    signal: Float64
    preactivation: Float64
    activation: Float64
    weight: Float64
    update: Float64
    function: str
    start: Float64 | None = None
    minibatches: tuple[Float64, ...] = ()

    @classmethod
    def each(cls, record: LayerRecord) -> Iterator[NetworkLayer]:
        """Yield the layer of every replica."""
        arrays = {name: _arrays(getattr(record, name), record.units) for name in _ARRAYS}
        others = [_arrays(sample, record.units) for sample in record.minibatches]
        starts = _arrays(record.start, record.units) if record.start else None
        for replica in range(len(arrays["weight"])):
            yield cls(
                **{name: array[replica] for name, array in arrays.items()},
                function=record.function,
                start=None if starts is None else starts[replica],
                minibatches=tuple(other[replica] for other in others),
            )

    @property
    def is_finite(self) -> bool:
        """Whether no entry of any array is NaN or infinite."""
        start = () if self.start is None else (self.start,)
        return all(np.isfinite(array).all() for array in chain(self[:6], start, self.minibatches))


_ARRAYS = NetworkLayer._fields[:6]


def _arrays(sample: Sample, units: int) -> Float64:
    """Return a quantity of all replicas, (replicas, rows, units)."""
    values = sample.values.reshape(len(sample.values), -1, units)
    return values.astype(np.float64) * sample.scale


@with_parentheses
def statistic(*, needs: str = "", definition: str = "", source: str = "") -> Callable[[F], F]:
    """Enter a statistic of a layer: a function from a `NetworkLayer` to a number.

    It is called for every layer of every network by itself, so that a network's numbers depend on
    no other. Where entries of the layer are NaN or infinite, as in a network that diverged, an
    exception of the function stands for NaN.

    Parameters
    ----------
    needs
        ``start`` or ``minibatches``, if it reads that.
    definition
        Its formula.
    source
        Where it comes from.
    """

    def enter(function: F) -> F:
        place = Place.of(function, "statistic")
        if place.name in (*PRESETS, *KEYS):
            what = "a preset" if place.name in PRESETS else "a column of the table layers"
            raise place.error(f"is the name of {what}")
        if needs not in ("", *NEEDS):
            raise place.error(f"needs: {errors.not_allowed(needs, NEEDS)}")
        place.check_signature(function, ("layer",))
        call = place.guarded(lambda layer: _unless_lost(function, layer))

        def compute(record: LayerRecord) -> Float64:
            # With one thread: how a BLAS divides a product among threads would show in the bits.
            with _libraries().limit(limits=1, user_api="blas"):
                return np.array([place.number(call(one)) for one in NetworkLayer.each(record)])

        entry = Statistic(
            definition=definition or first_line(function),
            source=source or str(place.file),
            code=place.code([needs]),
            place=place.text,
            compute=compute,
            needs=needs,
        )
        place.enter(STATISTICS, entry)
        return function

    return enter


@cache
def _libraries() -> ThreadpoolController:
    """Return what limits threads; to look for the libraries takes as long as a small statistic."""
    return ThreadpoolController()


def _unless_lost(function: Callable[[NetworkLayer], Any], layer: NetworkLayer) -> Any:
    """Call a statistic; NaN where it fails because the network diverged."""
    try:
        return function(layer)
    except (ArithmeticError, ValueError):
        if layer.is_finite:
            raise
        return np.nan
