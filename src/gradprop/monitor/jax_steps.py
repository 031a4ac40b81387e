"""What a training step of Keras's JAX backend shows: the gradients that its optimizer gets.

A step is a pure function of the model's state. It is computed a second time, from the same state
and minibatch, with an optimizer and metrics that keep what they are given; signals and activations
live inside that function and are not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from gradprop.monitor import layers
from gradprop.monitor.instruments import Call, Trace, Values, extremes, hidden, moments

WHY = "Keras computes with 'jax', whose steps are looked at through the optimizer alone"
WHAT = "preactivation, activation, signal"


class JaxSteps:
    """The steps of one model, as its optimizer sees them.

    Attributes
    ----------
    trace
        The layers with weights, in the order of the model's tree, and what is not measured.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trace = Trace()
        for watched in layers.watched(model):
            if watched.weights:
                function = layers.function_of(watched.layer)
                call = Call(watched, 1, function=function, is_open=False)
                self.trace.calls.append(call)
                self.trace.lacks(call.name, WHAT, WHY)
        self._look: Callable[..., Any] | None = None

    def train_function(
        self, plain: Callable[..., Any], done: Callable[[Values], None]
    ) -> Callable[..., Any]:
        """Return a train function that looks at its step, and then makes it by the plain one."""
        if self._look is None:
            import jax

            self._look = jax.jit(self._looked)
        look = self._look

        def train(state: Any, iterator: Any) -> Any:
            batches = list(itertools.islice(iterator, 1))
            if not batches:
                raise StopIteration
            gradients, loss, targets, outputs = look(state, batches[0])
            before = [np.array(value) for value in state[0]]  # the step takes the state over
            result = plain(state, iter(batches))
            after = [np.array(value) for value in result[1][0]]
            made = [None if g is None else np.array(g) for g in gradients]
            done(self._values(made, before, after, (loss, targets, outputs), batches[0]))
            return result

        return train

    def _looked(self, state: Any, data: Any) -> Any:
        kept: dict[str, Any] = {}
        model, optimizer = self.model, self.model.optimizer
        apply, update = optimizer.stateless_apply, model._update_metrics_variables

        def stateless_apply(variables: Any, grads: Any, trainable: Any) -> Any:
            kept["gradients"] = list(grads)
            return apply(variables, grads, trainable)

        def update_metrics(metrics: Any, loss: Any, x: Any, y: Any, y_pred: Any, *rest: Any) -> Any:
            kept["loss"] = loss
            numbers = [v for v in (y, y_pred) if hasattr(v, "dtype")]
            if len(numbers) == 2:
                kept["targets"], kept["outputs"] = numbers
            return update(metrics, loss, x, y, y_pred, *rest)

        with (
            hidden(optimizer, "stateless_apply", stateless_apply),
            hidden(model, "_update_metrics_variables", update_metrics),
        ):
            model.train_step(state, data)
        missing = [None] * len(state[0])
        names = ("loss", "targets", "outputs")
        return kept.get("gradients", missing), *(kept.get(name) for name in names)

    def _values(
        self,
        gradients: list[NDArray[Any] | None],
        before: list[NDArray[Any]],
        after: list[NDArray[Any]],
        met: tuple[Any, Any, Any],
        batch: Any,
    ) -> Values:
        loss, targets, outputs = met
        keys = [id(variable) for variable in self.model.trainable_variables]
        pairs = zip(keys, gradients, strict=True)
        optimizer = self.model.optimizer
        scale = getattr(optimizer, "dynamic_scale", None)
        return Values(
            preactivations={},
            activations={},
            signals={},
            sequences={},
            times={},
            gradients={key: gradient for key, gradient in pairs if gradient is not None},
            before=dict(zip(keys, before, strict=True)),
            after=dict(zip(keys, after, strict=True)),
            loss=np.nan if loss is None else float(loss),
            has_loss=loss is not None,
            penalty=0.0 if loss is None else self._penalty(before),
            scale=float(optimizer.loss_scale_factor or 1.0) if scale is None else float(scale),
            examples=len(_leaves(batch)[0]),
            inputs=moments(None),
            targets=moments(_numbers(targets)),
            outputs=extremes(_numbers(outputs)),
            bad_inputs=_bad_share(batch[:1] if isinstance(batch, tuple | list) else batch),
            bad_targets=_bad_share(batch[1:2] if isinstance(batch, tuple | list) else ()),
            labels=None if targets is None else np.asarray(targets),
            weights=_weights(batch),
        )

    def _penalty(self, weights: list[NDArray[Any]]) -> float:
        """Return the sum of the weight penalties; what layers add themselves stays in the step."""
        pairs = zip(self.model.trainable_variables, weights, strict=True)
        return sum(float(v.regularizer(value)) for v, value in pairs if v.regularizer is not None)


def _leaves(data: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(data) if leaf is not None]


def _numbers(values: Any) -> NDArray[Any] | None:
    """Return an array of numbers that are not whole, or None."""
    found = None if values is None else np.asarray(values)
    return None if found is None or found.dtype.kind != "f" else found


def _weights(batch: Any) -> NDArray[Any] | None:
    """Return the sample weights of a minibatch, if it has any."""
    given = batch[2] if isinstance(batch, tuple | list) and len(batch) > 2 else None
    return None if given is None or not hasattr(given, "dtype") else np.asarray(given)


def _bad_share(data: Any) -> float:
    """Return which fraction of the numbers of a part of a minibatch is NaN or infinite."""
    numbers = [x for leaf in _leaves(data) if (x := _numbers(leaf)) is not None]
    size = sum(x.size for x in numbers)
    return float(sum(np.count_nonzero(~np.isfinite(x)) for x in numbers)) / size if size else 0.0
