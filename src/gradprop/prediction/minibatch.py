"""What theory expects of a minibatch: how far the gradients of its examples agree, by layer.

The weight gradient of a minibatch is the mean over its B examples of ``delta_l h_(l-1)^T``. With
``D_l`` the mean square of the signal and ``M_(l-1)`` that of the activations that enter layer l,

    ``E[(dC/dW_l)^2] = D_l M_(l-1) A_l``,  ``A_l = (1/B^2) sum_ab r_ab k_ab``

in a wide network, over all pairs a, b of examples: ``k_ab`` is the correlation of what enters and
``r_ab`` that of the signals. The agreement ``A`` is 1 if all examples say the same, and 1/B if none
has to do with another. ``k`` goes forward by the correlation map; back,
``r_ab <- r_ab E[phi'(u_a) phi'(u_b)] / E[phi'(u)^2]``. (``B A_l`` sums a layer's part of the neural
tangent kernel over the minibatch.)

Two kinds of pairs are told apart, of the same class and of two classes, each with the mean
correlation of its inputs. Nothing measured enters but the data.

References
----------
Poole et al. 2016, arXiv:1606.05340 (forward); Schoenholz et al. 2017, arXiv:1611.01232, and Jacot
et al. 2018, arXiv:1806.07572 (back).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradprop import theory
from gradprop.components.datasets import Dataset

Float64 = NDArray[np.float64]

# Beyond, an activation is a power law to many digits, and correlations change no more with q.
SMALLEST, LARGEST = 1e-8, 1e8
# Of softmax outputs, from a fixed seed: 1 % of a moment.
DRAWS = 4000
# Significant digits of lengths and correlations, so that layers near a fixed point are one.
DIGITS = 6


@dataclass(frozen=True)
class Likeness:
    """How alike the examples of a classification task are.

    Attributes
    ----------
    same, other
        Mean cosine of the inputs of two training examples of the same class, and of two classes.
    classes
        Number of classes, taken as equally frequent.
    """

    same: float
    other: float
    classes: int


def likeness(dataset: Dataset) -> Likeness | None:
    """Measure how alike the training examples of a data set are; None for a regression."""
    if dataset.task != "classification":
        return None
    x = dataset.x_train.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = dataset.y_train
    # Sums of cosines are scalar products of sums; the pair of an example with itself has 1.
    sums = np.array([x[labels == label].sum(axis=0) for label in np.unique(labels)])
    counts = np.unique(labels, return_counts=True)[1]
    within, pairs = float(np.square(sums).sum()), float(np.square(counts).sum())
    total = float(np.square(sums.sum(axis=0)).sum())
    same = (within - len(x)) / max(pairs - len(x), 1.0)
    return Likeness(same, (total - within) / max(len(x) ** 2 - pairs, 1.0), len(counts))


def log_agreement(
    alike: Likeness, batch_size: int, activation: str, lengths: Float64, shares: Float64, loss: str
) -> Float64:
    """Return ``ln A_l`` of layers 1 … depth + 1.

    Parameters
    ----------
    alike
        Of the data set.
    batch_size
        B.
    activation
        Of the hidden layers.
    lengths
        Mean square q_l of the pre-activations, shape (depth + 1,).
    shares
        The part of q_l that is not the variance of the bias, shape (depth + 1,).
    loss
        ``output_sum``, of which all examples have the same signal, or else the cross-entropy of a
        softmax.
    """
    same = _pairs(alike, True, activation, lengths, shares, loss)
    other = _pairs(alike, False, activation, lengths, shares, loss)
    others = (same + (alike.classes - 1) * other) / alike.classes
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log((1 + (batch_size - 1) * others) / batch_size))


def _pairs(
    alike: Likeness, same: bool, activation: str, lengths: Float64, shares: Float64, loss: str
) -> Float64:
    """Return ``r_ab k_ab`` of one kind of pair, layers 1 … depth + 1."""
    entering = [alike.same if same else alike.other]
    slopes = []
    for q, share in zip(lengths[:-1], shares[:-1], strict=True):
        c = _with_bias(entering[-1], share)
        entering.append(_agreement(activation, "function", _rounded(q), _rounded(c)))
        slopes.append(_agreement(activation, "derivative", _rounded(q), _rounded(c)))
    signals = 1.0
    if loss != "output_sum":
        c = _with_bias(entering[-1], shares[-1])
        signals = _output_agreement(_rounded(lengths[-1]), _rounded(c), same, alike.classes)
    back = signals * np.append(np.cumprod(slopes[::-1])[::-1], 1.0)
    return back * np.array(entering)


def _with_bias(entering: float, share: float) -> float:
    """Return the correlation of pre-activations, of which biases are common to all examples."""
    return share * entering + 1 - share


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")


@lru_cache(maxsize=100_000)
def _agreement(activation: str, member: str, q: float, c: float) -> float:
    """Return ``E[f(u_a) f(u_b)] / E[f(u)^2]`` at correlation c, f a `member` of the activation."""
    q = min(max(q, SMALLEST), LARGEST)
    if member == "function":
        return theory.correlation_map(activation, c, q, 1.0)
    slope = theory.correlation_map_slope
    return slope(activation, c, q, 1.0) / slope(activation, 1.0, q, 1.0)


@lru_cache
def _output_agreement(q: float, c: float, same: bool, classes: int) -> float:
    """Return ``E[delta_a delta_b] / E[delta^2]`` at the outputs, ``delta = p - y``.

    y is 1 at the label and 0 elsewhere, p the softmax of normal outputs of variance q, which are
    independent of the labels: ``E[p_a p_b] - 2 / classes + (1 if the labels are the same)``, sums
    over the outputs.
    """
    common, own, others = np.random.default_rng(0).standard_normal((3, DRAWS, classes))
    parts = math.sqrt(q * max(c, 0.0)), math.sqrt(q * min(1 - c, 1.0))
    p_a, p_b = (_softmax(parts[0] * common + parts[1] * noise) for noise in (own, others))
    both = float((p_a * p_b).sum(axis=1).mean()) - 2 / classes + same
    alone = float(np.square(p_a).sum(axis=1).mean()) - 2 / classes + 1
    return both / alone


def _softmax(outputs: Float64) -> Float64:
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
