"""Loss scaling: a factor that keeps gradients of short formats from becoming 0.

The loss is multiplied with the factor S before back-propagation, the gradients are divided by it
after. Signals and gradients are S times as large in between, so that fewer are below the smallest
number of the format and more are above the largest. The pass forward does not change.

The division is in float32, rounded to the format of the variables, as Keras does: with weights in
the format a gradient can be lost there that S has saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components.optimizers import Tensor, Update
from gradprop.components.precision import accumulator
from gradprop.components.registry import LARGEST_COUNT, Entry, Parameter, Registry
from gradprop.spec import Component


class LossScaling:
    """No loss scaling: what the others share."""

    def scale(self, losses: Tensor) -> Tensor:
        """Return the losses (replicas, batch) that back-propagation begins with."""
        return losses

    def factors(self, replicas: int) -> NDArray[np.float64]:
        """Return the factor of every replica."""
        return np.ones(replicas)

    def unscale(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return derivatives (replicas, rows, columns) of the loss itself, in float32 or more."""
        return [_cast(t, accumulator(t.dtype)) for t in tensors]

    def update(self, update: Update, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Apply the gradients of the scaled loss; return what was subtracted."""
        return update(gradients)


class FixedLossScaling(LossScaling):
    """One factor for the whole training."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor  # a number, or a variable (replicas, 1, 1)

    def scale(self, losses: Tensor) -> Tensor:
        """Return the losses (replicas, batch) times the factor."""
        return losses * _cast(self.factor, losses.dtype)

    def factors(self, replicas: int) -> NDArray[np.float64]:
        """Return the factor of every replica."""
        return np.broadcast_to(np.asarray(self.factor, np.float64).ravel(), replicas)

    def unscale(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the derivatives divided by the factor."""
        return [t / _cast(self.factor, t.dtype) for t in super().unscale(tensors)]

    def update(self, update: Update, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Apply the gradients, unscaled and rounded to their format."""
        pairs = zip(self.unscale(gradients), gradients, strict=True)
        return update([_cast(unscaled, g.dtype) for unscaled, g in pairs])


class DynamicLossScaling(FixedLossScaling):
    """A factor for every replica: halved, and the step skipped, where a gradient is not finite.

    After `growth_steps` steps in a row with finite gradients the factor is doubled (Micikevicius
    et al. 2018, section 3.2; keras.optimizers.LossScaleOptimizer).

    Parameters
    ----------
    replicas
        Number of networks.
    kept
        All variables that a skipped step leaves alone, each (replicas, ...): trained ones and
        the optimizer's.
    initial_scale, growth_steps
        The parameters of the entry in `LOSS_SCALES`.
    """

    def __init__(
        self, replicas: int, kept: Sequence[Tensor], initial_scale: float, growth_steps: int
    ) -> None:
        import tensorflow as tf

        super().__init__(tf.Variable(tf.fill((replicas, 1, 1), initial_scale)))
        self.kept, self.growth_steps = kept, growth_steps
        self.good_steps = tf.Variable(tf.zeros((replicas, 1, 1), tf.int32))

    def scale(self, losses: Tensor) -> Tensor:
        """Return the losses (replicas, batch) times the factor of every replica."""
        return losses * _cast(self.factor[:, :, 0], losses.dtype)

    def update(self, update: Update, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Apply the gradients of those replicas where all are finite; adapt the factors."""
        import tensorflow as tf

        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(g), axis=(1, 2), keepdims=True) for g in gradients],
            axis=0,
        )
        before = [variable.read_value() for variable in self.kept]
        updates = super().update(update, gradients)
        for variable, old in zip(self.kept, before, strict=True):
            variable.assign(tf.where(finite, variable.read_value(), old))
        good = tf.where(finite, self.good_steps + 1, 0)
        grows = good >= self.growth_steps
        self.factor.assign(self.factor * tf.where(grows, 2.0, tf.where(finite, 1.0, 0.5)))
        self.good_steps.assign(tf.where(grows, 0, good))
        return [tf.where(finite, change, tf.zeros_like(change)) for change in updates]


def _cast(tensor: Tensor, dtype: Any) -> Tensor:
    """Return a number or tensor in another format, rounded to nearest even."""
    import tensorflow as tf

    return tf.cast(tensor, dtype)


@dataclass(frozen=True, kw_only=True)
class LossScale(Entry):
    """How the loss is scaled.

    Attributes
    ----------
    make
        From the number of replicas, what a skipped step must keep and the parameters to the
        scaling.
    """

    make: Callable[..., LossScaling]


def create_loss_scaling(component: Component, replicas: int, kept: Sequence[Tensor]) -> LossScaling:
    """Return the scaling of a stack; arguments as of `DynamicLossScaling`."""
    make = LOSS_SCALES[component.name].make
    return make(replicas, kept, **LOSS_SCALES.parameters_of(component))


LOSS_SCALES = Registry(
    {
        "none": LossScale(
            definition="C",
            source="plain back-propagation",
            make=lambda replicas, kept: LossScaling(),
        ),
        "fixed": LossScale(
            definition="back-propagation of S C, gradients divided by S = factor",
            source="Micikevicius et al. 2018, section 3.2",
            make=lambda replicas, kept, factor: FixedLossScaling(factor),
            parameters={"factor": Parameter(1024.0, "What the loss is multiplied with.", above=0)},
        ),
        "dynamic": LossScale(
            definition="the same with S = initial_scale at first: where a gradient is not finite, "
            "S is halved and the step skipped; after `growth_steps` other steps in a row S is "
            "doubled",
            source="Micikevicius et al. 2018, section 3.2; keras.optimizers.LossScaleOptimizer",
            make=DynamicLossScaling,
            parameters={
                "initial_scale": Parameter(32768.0, "S in the first step.", above=0),
                "growth_steps": Parameter(
                    2000,
                    "Steps in a row with finite gradients after which S is doubled.",
                    minimum=1,
                    maximum=LARGEST_COUNT,
                ),
            },
        ),
    }
)
