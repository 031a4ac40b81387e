"""What a loss is for a network that knows nothing of its inputs.

Two numbers tell how a loss compares: that of guessing before any example was seen, and that of the
best constant output, which knows how frequent the classes of a minibatch are. The first loss of a
network is near the one, and a network that has learned is below the other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CROSS_ENTROPIES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
)
#: Losses in the units of the targets, or of their squares.
ERRORS = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh")


class Guesses(NamedTuple):
    """Losses of networks that know nothing; NaN where they are unknown, or 0 for equal targets.

    Attributes
    ----------
    guessing
        ln K of K classes, ln 2 of a binary cross-entropy; of errors that of the best constant.
    constant
        That of the best constant output on the minibatch.
    """

    guessing: float
    constant: float


def loss_of(model: Any) -> str:
    """Return Keras's name of the one loss of a model that is a mean of examples; else other."""
    loss = _only_loss(model)
    # Whatever it is called by, Keras's losses wrap the function of their definition.
    name = getattr(getattr(loss, "fn", None), "__name__", "")
    return name if name in (*CROSS_ENTROPIES, *ERRORS) else "other"


def _only_loss(model: Any) -> Any:
    compiled = getattr(model, "_compile_loss", None)
    parts = getattr(compiled, "_flat_losses", None) or []
    is_single = len(parts) == 1 and not getattr(compiled, "_user_loss_weights", None)
    return parts[0].loss if is_single else None


def guesses(
    model: Any, labels: NDArray[Any] | None, weights: NDArray[Any] | None, classes: int
) -> Guesses:
    """Return what a minibatch's loss is without any knowledge of the inputs.

    Parameters
    ----------
    model
        A compiled model.
    labels, weights
        Targets and sample weights of the minibatch, as the loss gets them, if they are known.
        Class weights are sample weights there.
    classes
        How many outputs it has.
    """
    kind = loss_of(model)
    constant = math.nan
    if labels is not None and labels.size and np.isfinite(labels).all():
        constant = _of_constant(model, kind, labels.astype(np.float64), weights, classes)
    guess = constant
    if kind == "binary_crossentropy":
        guess = math.log(2)
    elif kind in CROSS_ENTROPIES:
        guess = math.log(classes) if classes > 1 else math.nan
    factor = _factor(_only_loss(model), kind, labels, weights)
    return Guesses(*(factor * loss if loss > 0 else math.nan for loss in (guess, constant)))


def _of_constant(
    model: Any, kind: str, labels: Array, weights: NDArray[Any] | None, classes: int
) -> float:
    """Return the loss of the best constant output, of examples that weigh 1 on average.

    Of squared errors it is the variance of a column of the targets, averaged over columns; of other
    errors the loss at their medians, which is the least of absolute errors and close to that of the
    others. Of cross-entropies it is the entropy of the classes (`entropy`).
    """
    if kind == "mean_squared_error":
        return float(labels.var(axis=0).mean())
    if kind in ERRORS:
        medians = np.broadcast_to(np.median(labels, axis=0), labels.shape)
        return float(_only_loss(model)(labels, medians))
    if kind not in CROSS_ENTROPIES:
        return math.nan
    is_sparse = kind == "sparse_categorical_crossentropy"
    if labels.min() < 0 or labels.max() > (classes - 1 if is_sparse else 1):
        return math.nan
    columns = 1 if is_sparse or labels.ndim < 2 else labels.shape[-1]
    rows = labels.reshape(-1, columns)
    weigh = np.ones(len(rows)) if weights is None else _along(weights, len(rows))
    if not weigh.sum() > 0:
        return math.nan
    if is_sparse:
        counts = np.bincount(rows[:, 0].astype(np.int64), weigh, minlength=classes)
        shares = counts / weigh.sum()
    else:
        shares = np.average(rows, axis=0, weights=weigh)
    return entropy(shares, len(rows), is_binary=kind == "binary_crossentropy")


def entropy(shares: Array, rows: int, *, is_binary: bool = False) -> float:
    r"""Return the entropy of classes by their shares in a minibatch, in nats.

    With the share :math:`p_k` of class k, :math:`H = -\sum_k p_k \ln p_k`, and of binary columns
    the mean over columns of :math:`-p \ln p - (1 - p) \ln (1 - p)`. Of n rows it is too low by
    :math:`(m - 1) / 2n` on average, m being the number of classes that were met, which is added
    (Miller 1955), as far as H does not pass the logarithm of the number of classes.

    Parameters
    ----------
    shares : array, shape (classes or columns,)
        Mean targets.
    rows
        How many targets they are the mean of.
    is_binary
        Whether columns are probabilities of their own.
    """
    table = np.stack([shares, 1 - shares], axis=1) if is_binary else shares[None, :]
    met = np.count_nonzero(table, axis=1)
    logs = np.log(table, out=np.zeros_like(table), where=table > 0)
    plain = -(table * logs).sum(axis=1)
    most = math.log(max(table.shape[1], 2))
    return float(np.minimum(plain + (met - 1) / (2 * rows), most).mean())


def _along(weights: NDArray[Any], rows: int) -> Array:
    """Return a weight for every row; examples of several rows have theirs for each."""
    flat = np.asarray(weights, np.float64).reshape(-1)
    return np.repeat(flat, rows // len(flat)) if rows % len(flat) == 0 else np.ones(rows)


def _factor(
    loss: Any, kind: str, labels: NDArray[Any] | None, weights: NDArray[Any] | None
) -> float:
    """Return what Keras's reduction multiplies the mean loss of an example with."""
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if reduction == "mean_with_sample_weight":
        return 1.0
    mean = 1.0 if weights is None or not weights.size else float(np.mean(weights))
    if reduction != "sum":
        return mean
    if labels is None:
        return math.nan
    is_sparse = kind == "sparse_categorical_crossentropy"
    return mean * (labels.size if is_sparse or labels.ndim < 2 else math.prod(labels.shape[:-1]))
