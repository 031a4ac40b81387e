"""What theory expects of a minibatch: how far the gradients of its examples agree, by layer.

The weight gradient of a minibatch is the mean over its B examples of ``delta_l h_(l-1)^T``. With
``D_l`` the mean square of the signal and ``M_(l-1)`` that of the activations that enter layer l,

    ``E[(dC/dW_l)^2] = D_l M_(l-1) A_l``,  ``A_l = (1/B^2) sum_ab r_ab k_ab``

in a wide network, over all pairs a, b of examples: ``k_ab`` is the correlation of what enters and
``r_ab`` that of the signals. The agreement ``A`` is 1 if all examples say the same, and 1/B if none
has to do with another. ``k`` goes forward by the correlation map; back,
``r_ab <- r_ab E[phi'(u_a) phi'(u_b)] / E[phi'(u)^2]``. (``B A_l`` sums a layer's part of the neural
tangent kernel over the minibatch.)

The mean square of the signals themselves, over the units of a layer and all B examples, scatters
less from network to network than that of one example, and its typical value is nearer to its
expectation: what one network does to two examples is alike only as far as they are. With ``V`` the
variance that the layers in between add to ``ln D`` of one example, and ``V_ab`` what two examples
have in common of it, the mean over a minibatch has the variance

    ``W = ln((1/B^2) sum_ab exp(V_ab))``

of a log-normal law with the right second moment, and lies ``(V - W) / 2`` above one example. A
layer of n units adds to ``V_ab``, by the fourth moments of the normal ``W^T delta_a`` and
``W^T delta_b``, which have the correlation ``r_ab``,

    ``((1 + 2 r_ab^2) E[phi'(u_a)^2 phi'(u_b)^2] / E[phi'(u)^2]^2 - 1) / n``

and to ``V`` what that is of an example with itself.

Two kinds of pairs are told apart, of the same class and of two classes, each with the mean
correlation of its inputs. Nothing measured enters but the data.

References
----------
Poole et al. 2016, arXiv:1606.05340 (forward); Schoenholz et al. 2017, arXiv:1611.01232, and Jacot
et al. 2018, arXiv:1806.07572 (back). The law of signals is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gradprop import theory
from gradprop.components import activations
from gradprop.components.activations import ActivationLike
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
    alike: Likeness,
    batch_size: int,
    activation: ActivationLike,
    lengths: Float64,
    shares: Float64,
    loss: str,
    dropout: float = 0.0,
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
        ``output_sum``, of which all examples have the same signal, ``binary_cross_entropy``, or
        else the cross-entropy of a softmax.
    dropout
        Probability of being dropped. Masks of two examples are independent: of the agreement of
        what enters, and of signals, each layer leaves the share that is kept.
    """
    kinds = [
        _pairs(alike, same, activation, lengths, shares, loss, dropout) for same in (True, False)
    ]
    same, other = (pairs.signals * pairs.entering for pairs in kinds)
    with np.errstate(invalid="ignore"):
        return np.log(_mean_of_pairs(alike, batch_size, np.ones(len(lengths)), same, other))


def log_signal_variance(
    alike: Likeness,
    batch_size: int,
    activation: ActivationLike,
    lengths: Float64,
    shares: Float64,
    loss: str,
    noises: Float64,
    kept: Float64,
    dropout: float = 0.0,
) -> Callable[[slice], tuple[float, float]]:
    """Return what tells ``V`` and ``W`` of the mean square of signals, see above.

    Parameters
    ----------
    alike, batch_size, activation, lengths, shares, loss
        As for `log_agreement`.
    noises
        The variance that each layer adds to ``ln D`` of one example, shape (depth,).
    kept
        The share of a signal's norm that the kernel after each layer keeps, 0 if it is random,
        shape (depth,): so much of ``2 r_ab^2`` is no chance.
    dropout
        As for `log_agreement`; the fourth moment of one example is divided by what is kept.

    Returns
    -------
    callable
        From a slice of the layers 1 … depth to ``V`` and ``W`` of what is between them.
    """
    parts = []
    for same in (True, False):
        pairs = _pairs(alike, same, activation, lengths, shares, loss, dropout)
        fourths = [
            _slope_fourth(activation, q, c) for q, c in zip(lengths[:-1], pairs.before, strict=True)
        ]
        parts.append(_noise(np.array(fourths), pairs.signals[1:], kept))
    ones = [_slope_fourth(activation, q, 1.0) / (1 - dropout) for q in lengths[:-1]]
    alone = _noise(np.array(ones), np.ones(len(kept)), kept)
    shared = noises * np.divide(parts, alone, where=alone > 0, out=np.ones((2, len(kept))))

    def variances(layers: slice) -> tuple[float, float]:
        of_one = float(noises[layers].sum())
        squares = [np.exp(total) for total in (of_one, *shared[:, layers].sum(axis=1))]
        return of_one, float(np.log(_mean_of_pairs(alike, batch_size, *squares)))

    return variances


def _noise(fourths: Float64, signals: Float64, kept: Float64) -> Float64:
    """Return n times what layers add to ``V_ab``, see above."""
    return (1 + 2 * signals**2) * fourths - 1 - 2 * kept * signals**2


def _mean_of_pairs(
    alike: Likeness, batch_size: int, own: Float64, same: Float64, other: Float64
) -> Float64:
    """Return the mean over all pairs of a minibatch; `own` is that of an example with itself."""
    others = (same + (alike.classes - 1) * other) / alike.classes
    return (own + (batch_size - 1) * others) / batch_size


class _Pairs(NamedTuple):
    """Correlations of one kind of pair of examples, by layer."""

    entering: Float64  # of what enters layers 1 … depth + 1
    before: list[float]  # of the pre-activations of layers 1 … depth
    signals: Float64  # of dC/dz in layers 1 … depth + 1


def _pairs(
    alike: Likeness,
    same: bool,
    activation: ActivationLike,
    lengths: Float64,
    shares: Float64,
    loss: str,
    dropout: float,
) -> _Pairs:
    """Carry correlations of one kind of pair forward and back."""
    entering, before = [alike.same if same else alike.other], []
    slopes, kept = [], 1 - dropout
    for q, share in zip(lengths[:-1], shares[:-1], strict=True):
        c = _with_bias(entering[-1], share)
        before.append(c)
        entering.append(kept * _agreement(activation, "function", _rounded(q), _rounded(c)))
        slopes.append(kept * _agreement(activation, "derivative", _rounded(q), _rounded(c)))
    signals = 1.0
    if loss != "output_sum":
        c = _with_bias(entering[-1], shares[-1])
        q = _rounded(lengths[-1])
        signals = _output_agreement(q, _rounded(c), same, alike.classes, loss)
    back = signals * np.append(np.cumprod(slopes[::-1])[::-1], 1.0)
    return _Pairs(np.array(entering), before, back)


def _with_bias(entering: float, share: float) -> float:
    """Return the correlation of pre-activations, of which biases are common to all examples."""
    return share * entering + 1 - share


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")


@lru_cache(maxsize=100_000)
def _agreement(activation: ActivationLike, member: str, q: float, c: float) -> float:
    """Return ``E[f(u_a) f(u_b)] / E[f(u)^2]`` at correlation c, f a `member` of the activation."""
    q = min(max(q, SMALLEST), LARGEST)
    if member == "function":
        return theory.correlation_map(activation, c, q, 1.0)
    slope = theory.correlation_map_slope
    return slope(activation, c, q, 1.0) / slope(activation, 1.0, q, 1.0)


def _slope_fourth(activation: ActivationLike, q: float, c: float) -> float:
    """Return ``E[phi'(u_a)^2 phi'(u_b)^2] / E[phi'(u)^2]^2`` at correlation c."""
    length = 1.0 if activations.get(activation).homogeneous else min(max(q, SMALLEST), LARGEST)
    return _rounded_slope_fourth(activation, _rounded(length), _rounded(c))


@lru_cache(maxsize=100_000)
def _rounded_slope_fourth(activation: ActivationLike, q: float, c: float) -> float:
    phi = activations.get(activation)
    if phi.integrals:
        return phi.integrals.slope_square_agreement(q, c)

    def square(u: Float64) -> Float64:
        return phi.derivative(u) ** 2

    both = theory.pair_expectation(square, square, q, q, c, phi.kinks)
    return both / theory.expectation(square, q, phi.kinks) ** 2


@lru_cache
def _output_agreement(q: float, c: float, same: bool, classes: int, loss: str = "auto") -> float:
    """Return ``E[delta_a . delta_b] / E[delta^2]`` of the outputs' signals, ``delta = p - y``.

    Outputs z are normal of variance q and independent of the labels; y is 1 at the label and 0
    elsewhere. Of a softmax p it is ``E[p_a . p_b] - 2 / classes + (1 if the labels are the same)``,
    sums over the outputs; of the binary cross-entropy p is the sigmoid of the one output, and y
    the label.
    """
    if loss == "binary_cross_entropy":
        q = min(max(q, SMALLEST), LARGEST)
        together, alone = (
            theory.pair_expectation(special.expit, special.expit, q, q, r) for r in (c, 1.0)
        )
        return (together - (0.0 if same else 0.5)) / alone
    common, own, others = np.random.default_rng(0).standard_normal((3, DRAWS, classes))
    parts = math.sqrt(q * max(c, 0.0)), math.sqrt(q * min(1 - c, 1.0))
    p_a, p_b = (_softmax(parts[0] * common + parts[1] * noise) for noise in (own, others))
    both = float((p_a * p_b).sum(axis=1).mean()) - 2 / classes + same
    alone = float(np.square(p_a).sum(axis=1).mean()) - 2 / classes + 1
    return both / alone


def _softmax(outputs: Float64) -> Float64:
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
