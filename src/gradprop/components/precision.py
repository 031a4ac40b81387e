"""Number formats that networks compute in, and the matrix product that all of them share.

A network of a 16-bit format is in the format throughout; there is no master copy of its weights:

* Rounded to the format, to nearest even, is the result of every operation: inputs, kernels, biases
  and what else is trained, sums W h, biases added, activations, the signals dC/dz and dC/dh, the
  gradients by kernels, biases and the rest, what the optimizer keeps and every operation of its
  update, the step size and other constants included.
* In float32, and rounded once, are: the sum of a matrix product (the minibatch sums of gradients
  are such products); an activation function, and the product of its slope with the signal; the
  loss of an example with the derivative by its outputs.
* A 16-bit operation on two numbers is done in float32 and rounded. The two roundings are one:
  float32 has more than twice the digits and two more (Figueroa 1995, "When is double rounding
  innocuous?").

float64 is done in float64 throughout, from the same kernels, which are drawn in float32. TensorFlow
takes subnormal numbers of float32, bfloat16 and float64 for 0, in what it reads and in what it
returns; those of float16 it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradprop.components.registry import Entry, Registry

Tensor = Any


@dataclass(frozen=True, kw_only=True)
class Format(Entry):
    """A binary floating-point format.

    Attributes
    ----------
    digits
        Bits of the significand, the leading one included.
    largest_exponent
        The largest power of two that it holds.
    has_subnormals
        Whether TensorFlow keeps its subnormal numbers.
    """

    digits: int
    largest_exponent: int
    has_subnormals: bool

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.digits)) * 2.0**self.largest_exponent

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number that has all digits."""
        return 2.0 ** (1 - self.largest_exponent)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number that the format can express."""
        return self.smallest_normal * 2.0 ** (1 - self.digits)

    @property
    def smallest(self) -> float:
        """The smallest positive number that computations keep."""
        return self.smallest_subnormal if self.has_subnormals else self.smallest_normal

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next larger number."""
        return 2.0 ** (1 - self.digits)


_IEEE = "IEEE 754-2019, table 3.5"

FORMATS = Registry(
    {
        "float64": Format(
            definition="53 bits of significand, from 2^-1022 to 1.8 * 10^308",
            source=_IEEE,
            digits=53,
            largest_exponent=1023,
            has_subnormals=False,
        ),
        "float32": Format(
            definition="24 bits of significand, from 2^-126 to 3.4 * 10^38",
            source=_IEEE,
            digits=24,
            largest_exponent=127,
            has_subnormals=False,
        ),
        "bfloat16": Format(
            definition="8 bits of significand, from 2^-126 to 3.4 * 10^38",
            source="Kalamkar et al. 2019, arXiv:1905.12322",
            digits=8,
            largest_exponent=127,
            has_subnormals=False,
        ),
        "float16": Format(
            definition="11 bits of significand, from 2^-24 (2^-14 with all bits) to 65,504",
            source=_IEEE,
            digits=11,
            largest_exponent=15,
            has_subnormals=True,
        ),
    }
)


def accumulator(dtype: Any) -> Any:
    """Return the TensorFlow type that sums, activation functions and losses are computed in."""
    import tensorflow as tf

    return tf.float64 if dtype == tf.float64 else tf.float32


def matmul(a: Tensor, b: Tensor, **transpositions: bool) -> Tensor:
    """Multiply stacked matrices of one format, accumulate as `accumulator` says, round once."""
    import tensorflow as tf

    wide = accumulator(a.dtype)
    product = tf.matmul(tf.cast(a, wide), tf.cast(b, wide), **transpositions)
    return tf.cast(product, a.dtype)
