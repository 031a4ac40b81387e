"""Activation functions with exact first and second derivatives.

The functions are those of ``keras.activations.get(name)`` in Keras 3, with default arguments where
a study gives no others, re-written in NumPy so that theory and statistics need no TensorFlow.
Derivatives are closed forms that keep their *relative* accuracy in the tails: this project is about
numbers such as ``tanh'(30) = 3.5e-26``, for which ``1 - tanh(z)**2`` would return exactly 0.

All callables take anything array-like of finite numbers and return a float64 array of the same
shape. They do not overflow: the exponential ends at the largest number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from gradprop import errors
from gradprop.components.integrals import ExponentialIntegrals, GaussianIntegrals, SineIntegrals
from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.spec import Component

__all__ = [
    "ACTIVATIONS",
    "ELU_ALPHA",
    "LEAKY_RELU_SLOPE",
    "SATURATION_LEVEL",
    "SELU_ALPHA",
    "SELU_SCALE",
    "Activation",
    "ActivationLike",
    "get",
]

FloatArray = npt.NDArray[np.float64]
Elementwise = Callable[[npt.ArrayLike], FloatArray]

#: A unit is saturated where ``|phi'(z)|`` is at most this fraction of ``max |phi'|``.
SATURATION_LEVEL: Final = 0.01

#: How far from 0 `find_saturation` looks.
SEARCHED: Final = 50.0

#: Slope of ``keras.activations.leaky_relu`` for negative arguments.
LEAKY_RELU_SLOPE: Final = 0.2

#: Slope that PReLU begins with (He et al. 2015, section 2.1; PyTorch's default, too).
PRELU_SLOPE: Final = 0.25

#: Beyond, ``exp`` leaves the range of float64.
LARGEST_EXPONENT: Final = 709.78

#: ``alpha`` of ``keras.activations.elu``.
ELU_ALPHA: Final = 1.0

#: ``alpha`` and ``lambda`` of SELU, for which (mean, variance) = (0, 1) is a fixed point.
SELU_ALPHA: Final = 1.6732632423543772
SELU_SCALE: Final = 1.0507009873554805

# Left of these points |phi'| stays at or below SATURATION_LEVEL * max|phi'|. They solve
# phi'(z) = -0.01 max(phi'), which has no closed form; the tests recompute them.
_GELU_SATURATION: Final = -3.0216626340984045
_SWISH_SATURATION: Final = -6.1429157001956165
_MISH_SATURATION: Final = -6.15874130963221


@dataclass(frozen=True, kw_only=True)
class Activation(Entry):
    """An activation function ``phi`` and what theory and statistics need to know about it.

    Attributes
    ----------
    name : str
        The name under which ``keras.activations.get`` finds the same function; with parameters
        that are not its defaults, its label: ``leaky_relu(slope=0.01)``.
    function, derivative, second_derivative : callable
        ``phi``, ``phi'`` and ``phi''``; array-like of finite numbers to float64 array of the same
        shape. At a kink ``derivative`` is what TensorFlow's back-propagation uses, and
        ``second_derivative`` is the ordinary (not the distributional) one, see `kinks`.
    tails : tuple of float, optional
        What `saturation` returns; it is searched for where it is not stated.
    homogeneous : bool
        Whether ``phi(a z) = a phi(z)`` for every ``a > 0``.
    kinks : tuple of float
        Points at which ``phi``, ``phi'`` or ``phi''`` jumps. Quadrature has to split there. Where
        ``phi'`` jumps, the distributional second derivative has a point mass that
        ``second_derivative`` leaves out. A function without kinks is taken to be analytic at
        least in the strip ``|Im z| < pi / 2``, as tanh is.
    tensors : callable, optional
        ``phi`` of TensorFlow tensors, element by element; left out: Keras's function of that name.
    make : callable, optional
        From all parameters to the function with these; left out where there are none.
    integrals : GaussianIntegrals, optional
        Its Gaussian integrals in closed form, for functions that oscillate or grow exponentially;
        all others are integrated numerically.
    with_slopes : callable, optional
        From slopes for negative arguments, one per unit, to the function of a layer that has
        learned these; given where the slopes are trained. They begin as the parameter ``slope``.
    """

    name: str
    function: Elementwise
    derivative: Elementwise
    second_derivative: Elementwise
    tails: tuple[float, float] | None = None
    homogeneous: bool
    kinks: tuple[float, ...] = ()
    tensors: Callable[[Any], Any] | None = None
    make: Callable[..., Activation] | None = None
    integrals: GaussianIntegrals | None = None
    with_slopes: Callable[[FloatArray], Activation] | None = None

    @functools.cached_property
    def saturation(self) -> tuple[float, float]:
        """``(low, high)``: ``z <= low`` and ``z >= high`` count as saturated.

        That is ``|phi'(z)| <= SATURATION_LEVEL * max |phi'|`` everywhere outside the open
        interval; infinite where the function does not saturate on that side. The slope of the
        exponential has no maximum: that at 0 is taken.
        """
        return self.tails or find_saturation(self.derivative)

    @functools.cached_property
    def linear_between_kinks(self) -> bool:
        """Whether ``phi''`` is 0 but at the kinks; it is looked at where a saturation is."""
        z = np.linspace(-SEARCHED, SEARCHED, round(200 * SEARCHED) + 1)
        return not np.any(self.second_derivative(z))


def find_saturation(derivative: Elementwise) -> tuple[float, float]:
    """Search for the `Activation.saturation` of a function whose derivative is given.

    The search is over a grid of width 0.01 in ``|z| <= SEARCHED``, and as exact; a slope that is
    above the level at the edge is taken to stay there.
    """
    z = np.linspace(-SEARCHED, SEARCHED, round(200 * SEARCHED) + 1)
    slopes = np.abs(derivative(z))
    steep = np.flatnonzero(slopes > SATURATION_LEVEL * slopes.max())
    if not steep.size:
        return -math.inf, math.inf
    first, last = steep[0], steep[-1]
    low = -math.inf if first == 0 else float(z[first - 1])
    high = math.inf if last == z.size - 1 else float(z[last + 1])
    return low, high


def _elementwise(formula: Callable[[FloatArray], npt.ArrayLike]) -> Elementwise:
    """Let a float64 formula accept anything array-like and always return a float64 array."""

    @functools.wraps(formula)
    def wrapper(z: npt.ArrayLike) -> FloatArray:
        return np.asarray(formula(np.asarray(z, dtype=np.float64)), dtype=np.float64)

    return wrapper


@_elementwise
def _linear(z: FloatArray) -> npt.ArrayLike:
    """``z``; a copy, so that no caller can change its own input through the result."""
    return z.copy()


@_elementwise
def _ones(z: FloatArray) -> npt.ArrayLike:
    """Return 1 everywhere."""
    return np.ones_like(z)


@_elementwise
def _zeros(z: FloatArray) -> npt.ArrayLike:
    """Return 0 everywhere."""
    return np.zeros_like(z)


@_elementwise
def _tanh(z: FloatArray) -> npt.ArrayLike:
    """``tanh z``."""
    return np.tanh(z)


def _sech2(z: FloatArray) -> FloatArray:
    """``1 / cosh(z)**2`` without overflow and without cancellation."""
    decay = np.exp(-2.0 * np.abs(z))
    return np.asarray(4.0 * decay / (1.0 + decay) ** 2, dtype=np.float64)


@_elementwise
def _tanh_1(z: FloatArray) -> npt.ArrayLike:
    """``tanh' = sech**2``."""
    return _sech2(z)


@_elementwise
def _tanh_2(z: FloatArray) -> npt.ArrayLike:
    """``tanh'' = -2 tanh sech**2``."""
    return -2.0 * np.tanh(z) * _sech2(z)


@_elementwise
def _sigmoid(z: FloatArray) -> npt.ArrayLike:
    """``1 / (1 + exp(-z))``."""
    return scipy.special.expit(z)


@_elementwise
def _sigmoid_1(z: FloatArray) -> npt.ArrayLike:
    """``s' = s(z) s(-z)``, which is ``s (1 - s)`` without cancellation."""
    return scipy.special.expit(z) * scipy.special.expit(-z)


@_elementwise
def _sigmoid_2(z: FloatArray) -> npt.ArrayLike:
    """``s'' = s' (1 - 2 s) = -s' tanh(z / 2)``."""
    return -scipy.special.expit(z) * scipy.special.expit(-z) * np.tanh(0.5 * z)


@_elementwise
def _softsign(z: FloatArray) -> npt.ArrayLike:
    """``z / (1 + |z|)``."""
    return z / (1.0 + np.abs(z))


@_elementwise
def _softsign_1(z: FloatArray) -> npt.ArrayLike:
    """``1 / (1 + |z|)**2``."""
    return (1.0 + np.abs(z)) ** -2


@_elementwise
def _softsign_2(z: FloatArray) -> npt.ArrayLike:
    """``-2 sign(z) / (1 + |z|)**3``; jumps from 2 to -2 at 0, where it is set to the mean, 0."""
    return -2.0 * np.sign(z) * (1.0 + np.abs(z)) ** -3


@_elementwise
def _relu(z: FloatArray) -> npt.ArrayLike:
    """``max(z, 0)``."""
    return np.maximum(z, 0.0)


@_elementwise
def _relu_1(z: FloatArray) -> npt.ArrayLike:
    """1 for ``z > 0``, else 0; 0 at the kink."""
    return np.where(z > 0.0, 1.0, 0.0)


@_elementwise
def _selu(z: FloatArray) -> npt.ArrayLike:
    """``scale * z`` for ``z >= 0``, else ``scale * alpha * (exp(z) - 1)``."""
    return SELU_SCALE * np.where(z < 0.0, SELU_ALPHA * np.expm1(np.minimum(z, 0.0)), z)


@_elementwise
def _selu_1(z: FloatArray) -> npt.ArrayLike:
    """``scale`` for ``z >= 0``, else ``scale * alpha * exp(z)``; ``scale`` at the kink."""
    return SELU_SCALE * np.where(z < 0.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0)), 1.0)


@_elementwise
def _selu_2(z: FloatArray) -> npt.ArrayLike:
    """0 for ``z >= 0``, else ``scale * alpha * exp(z)``; the positive side's 0 at the kink."""
    return SELU_SCALE * np.where(z < 0.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0)), 0.0)


def _normal_density(z: FloatArray) -> FloatArray:
    """Return the standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi), dtype=np.float64)


@_elementwise
def _gelu(z: FloatArray) -> npt.ArrayLike:
    """``z Phi(z)`` with the exact normal distribution function, not the tanh approximation."""
    return z * scipy.special.ndtr(z)


@_elementwise
def _gelu_1(z: FloatArray) -> npt.ArrayLike:
    """``Phi(z) + z density(z)``."""
    return scipy.special.ndtr(z) + z * _normal_density(z)


@_elementwise
def _gelu_2(z: FloatArray) -> npt.ArrayLike:
    """``density(z) (2 - z**2)``."""
    return _normal_density(z) * (2.0 - z * z)


@_elementwise
def _swish(z: FloatArray) -> npt.ArrayLike:
    """``z s(z)`` with the logistic sigmoid ``s``."""
    return z * scipy.special.expit(z)


@_elementwise
def _swish_1(z: FloatArray) -> npt.ArrayLike:
    """``s(z) (1 + z s(-z))``."""
    return scipy.special.expit(z) * (1.0 + z * scipy.special.expit(-z))


@_elementwise
def _swish_2(z: FloatArray) -> npt.ArrayLike:
    """``s'(z) (2 - z tanh(z / 2))``."""
    return scipy.special.expit(z) * scipy.special.expit(-z) * (2.0 - z * np.tanh(0.5 * z))


@_elementwise
def _relu6(z: FloatArray) -> npt.ArrayLike:
    """``min(max(z, 0), 6)``."""
    return np.clip(z, 0.0, 6.0)


@_elementwise
def _relu6_1(z: FloatArray) -> npt.ArrayLike:
    """1 for ``0 < z < 6``, else 0; 0 at the kinks."""
    return np.where((z > 0.0) & (z < 6.0), 1.0, 0.0)


@_elementwise
def _softplus(z: FloatArray) -> npt.ArrayLike:
    """``log(1 + exp(z))``."""
    return np.logaddexp(0.0, z)


@_elementwise
def _mish(z: FloatArray) -> npt.ArrayLike:
    """``z tanh(softplus(z))``."""
    return z * np.tanh(np.logaddexp(0.0, z))


@_elementwise
def _mish_1(z: FloatArray) -> npt.ArrayLike:
    """``t + z t'`` with ``t = tanh(softplus(z))``, ``t' = sech(softplus(z))**2 s(z)``."""
    softplus = np.logaddexp(0.0, z)
    return np.tanh(softplus) + z * _sech2(softplus) * scipy.special.expit(z)


@_elementwise
def _mish_2(z: FloatArray) -> npt.ArrayLike:
    """``t' (2 + z (s(-z) - 2 s(z) t))`` with ``t``, ``t'`` as above and the sigmoid ``s``."""
    softplus, s = np.logaddexp(0.0, z), scipy.special.expit(z)
    bend = scipy.special.expit(-z) - 2.0 * s * np.tanh(softplus)
    return _sech2(softplus) * s * (2.0 + z * bend)


def _leaky_relu(slope: float) -> Activation:
    """Return the rectifier with this slope for negative arguments, which is its slope at 0 too."""

    @_elementwise
    def function(z: FloatArray) -> npt.ArrayLike:
        return np.where(z > 0.0, z, slope * z)

    @_elementwise
    def derivative(z: FloatArray) -> npt.ArrayLike:
        return np.where(z > 0.0, 1.0, slope)

    def tensors(z: Any) -> Any:
        import keras

        return keras.activations.leaky_relu(z, negative_slope=slope)

    low = -math.inf if slope > 0.0 else 0.0  # however small a slope is, it does not fall off
    return Activation(
        name="leaky_relu",
        definition="`z` for `z > 0`, else `slope z`",
        function=function,
        derivative=derivative,
        second_derivative=_zeros,
        tails=(low, math.inf),
        homogeneous=True,
        source="Maas et al. 2013, ICML workshop; Keras's slope is 0.2, PyTorch's 0.01",
        kinks=(0.0,),
        tensors=tensors,
        make=_leaky_relu,
        parameters={"slope": Parameter(LEAKY_RELU_SLOPE, "Slope for z < 0.", minimum=0, maximum=1)},
    )


def _prelu(slope: float) -> Activation:
    """Return the rectifier that begins with this slope for negative arguments and trains it."""

    def tensors(z: Any) -> Any:
        import keras

        return keras.ops.relu(z) - slope * keras.ops.relu(-z)

    return replace(
        _with_trained_slopes(np.asarray(slope)),
        tensors=tensors,
        make=_prelu,
        with_slopes=_with_trained_slopes,
        parameters={
            "slope": Parameter(
                PRELU_SLOPE, "Slope for z < 0 at initialization.", minimum=0, maximum=1
            )
        },
    )


def _with_trained_slopes(slopes: FloatArray) -> Activation:
    """Return PReLU with these slopes, one or one per unit (the last axis); its slope at 0 is 0."""

    @_elementwise
    def function(z: FloatArray) -> npt.ArrayLike:
        return np.where(z > 0.0, z, slopes * z)

    @_elementwise
    def derivative(z: FloatArray) -> npt.ArrayLike:
        return np.where(z > 0.0, 1.0, np.where(z < 0.0, slopes, 0.0))

    return Activation(
        name="prelu",
        definition="`z` for `z > 0`, else `a z` with a trained `a` for every unit, which begins as "
        "`slope`",
        function=function,
        derivative=derivative,
        second_derivative=_zeros,
        tails=(-math.inf, math.inf),  # whatever the slope is, it is trained
        homogeneous=True,
        source="He et al. 2015, ICCV, arXiv:1502.01852; keras.layers.PReLU, which begins with 0",
        kinks=(0.0,),
    )


def _elu(alpha: float) -> Activation:
    """Return ``z`` for ``z >= 0``, else ``alpha (exp(z) - 1)``; the slope at 0 is alpha."""

    @_elementwise
    def function(z: FloatArray) -> npt.ArrayLike:
        return np.where(z < 0.0, alpha * np.expm1(np.minimum(z, 0.0)), z)

    @_elementwise
    def derivative(z: FloatArray) -> npt.ArrayLike:
        return np.where(z > 0.0, 1.0, alpha * np.exp(np.minimum(z, 0.0)))

    @_elementwise
    def second_derivative(z: FloatArray) -> npt.ArrayLike:
        return np.where(z < 0.0, alpha * np.exp(np.minimum(z, 0.0)), 0.0)

    def tensors(z: Any) -> Any:
        import keras

        return keras.activations.elu(z, alpha=alpha)

    steepest = max(alpha, 1.0)  # at 0, from the left or the right
    return Activation(
        name="elu",
        definition="`z` for `z >= 0`, else `alpha (exp(z) - 1)`",
        function=function,
        derivative=derivative,
        second_derivative=second_derivative,
        tails=(min(math.log(SATURATION_LEVEL * steepest / alpha), 0.0), math.inf),
        homogeneous=False,
        source="Clevert et al. 2016, ICLR, arXiv:1511.07289",
        kinks=(0.0,),
        tensors=tensors,
        make=_elu,
        parameters={"alpha": Parameter(ELU_ALPHA, "Minus the limit for z to -infinity.", above=0)},
    )


@_elementwise
def _exponential(z: FloatArray) -> npt.ArrayLike:
    """``exp(z)``, which is its own derivative."""
    return np.exp(np.minimum(z, LARGEST_EXPONENT))


def _sine(omega: float) -> Activation:
    """Return ``sin(omega z)``."""

    @_elementwise
    def function(z: FloatArray) -> npt.ArrayLike:
        return np.sin(omega * z)

    @_elementwise
    def derivative(z: FloatArray) -> npt.ArrayLike:
        return omega * np.cos(omega * z)

    @_elementwise
    def second_derivative(z: FloatArray) -> npt.ArrayLike:
        return -(omega**2) * np.sin(omega * z)

    def tensors(z: Any) -> Any:
        import keras

        return keras.ops.sin(omega * z)

    return Activation(
        name="sine",
        definition="`sin(omega z)`",
        function=function,
        derivative=derivative,
        second_derivative=second_derivative,
        tails=(-math.inf, math.inf),  # its slope is 0 at single points only
        homogeneous=False,
        source="Sitzmann et al. 2020, NeurIPS, arXiv:2006.09661, who take omega = 30",
        tensors=tensors,
        make=_sine,
        parameters={"omega": Parameter(1.0, "Angular frequency.", minimum=0.001, maximum=1000)},
        integrals=SineIntegrals(omega),
    )


# sech(z)**2 = 0.01 at z = arccosh(10); sigmoid'(z) = sech(z / 2)**2 / 4.
_TANH_SATURATION: Final = math.acosh(1.0 / math.sqrt(SATURATION_LEVEL))
_SOFTSIGN_SATURATION: Final = 1.0 / math.sqrt(SATURATION_LEVEL) - 1.0
# The largest slope of selu is scale * alpha (at 0-), so elu and selu share exp(z) = 0.01.
_EXPONENTIAL_SATURATION: Final = math.log(SATURATION_LEVEL)

_ALL: Final = (
    Activation(
        name="linear",
        definition="`z`",
        function=_linear,
        derivative=_ones,
        second_derivative=_zeros,
        tails=(-math.inf, math.inf),
        homogeneous=True,
        source="identity",
    ),
    Activation(
        name="tanh",
        definition="`tanh z`",
        function=_tanh,
        derivative=_tanh_1,
        second_derivative=_tanh_2,
        tails=(-_TANH_SATURATION, _TANH_SATURATION),
        homogeneous=False,
        source="hyperbolic tangent",
    ),
    Activation(
        name="sigmoid",
        definition="`1 / (1 + exp(-z))`",
        function=_sigmoid,
        derivative=_sigmoid_1,
        second_derivative=_sigmoid_2,
        tails=(-2.0 * _TANH_SATURATION, 2.0 * _TANH_SATURATION),
        homogeneous=False,
        source="logistic function",
    ),
    Activation(
        name="softsign",
        definition="`z / (1 + |z|)`",
        function=_softsign,
        derivative=_softsign_1,
        second_derivative=_softsign_2,
        tails=(-_SOFTSIGN_SATURATION, _SOFTSIGN_SATURATION),
        homogeneous=False,
        source="Glorot & Bengio 2010, AISTATS",
        kinks=(0.0,),
    ),
    Activation(
        name="relu",
        definition="`max(z, 0)`",
        function=_relu,
        derivative=_relu_1,
        second_derivative=_zeros,
        tails=(0.0, math.inf),
        homogeneous=True,
        source="rectified linear unit; He et al. 2015, ICCV, arXiv:1502.01852",
        kinks=(0.0,),
    ),
    replace(_leaky_relu(LEAKY_RELU_SLOPE), tensors=None),
    Activation(
        name="relu6",
        definition="`min(max(z, 0), 6)`",
        function=_relu6,
        derivative=_relu6_1,
        second_derivative=_zeros,
        tails=(0.0, 6.0),
        homogeneous=False,
        source="Krizhevsky 2010, convolutional deep belief networks on CIFAR-10",
        kinks=(0.0, 6.0),
    ),
    replace(_elu(ELU_ALPHA), tensors=None),
    Activation(
        name="selu",
        definition="`scale * z` for `z >= 0`, else `scale * alpha * (exp(z) - 1)`",
        function=_selu,
        derivative=_selu_1,
        second_derivative=_selu_2,
        tails=(_EXPONENTIAL_SATURATION, math.inf),
        homogeneous=False,
        source="Klambauer et al. 2017, NeurIPS, arXiv:1706.02515",
        kinks=(0.0,),
    ),
    Activation(
        name="gelu",
        definition="`z Phi(z)` with the exact normal distribution function, not the tanh "
        "approximation",
        function=_gelu,
        derivative=_gelu_1,
        second_derivative=_gelu_2,
        tails=(_GELU_SATURATION, math.inf),
        homogeneous=False,
        source="Hendrycks & Gimpel 2016, arXiv:1606.08415 (exact form)",
    ),
    Activation(
        name="swish",
        definition="`z s(z)` with the logistic sigmoid `s`",
        function=_swish,
        derivative=_swish_1,
        second_derivative=_swish_2,
        tails=(_SWISH_SATURATION, math.inf),
        homogeneous=False,
        source="Ramachandran et al. 2017, arXiv:1710.05941",
    ),
    Activation(
        name="softplus",
        definition="`log(1 + exp(z))`",
        function=_softplus,
        derivative=_sigmoid,
        second_derivative=_sigmoid_1,
        tails=(-math.log(1.0 / SATURATION_LEVEL - 1.0), math.inf),
        homogeneous=False,
        source="Dugas et al. 2001, NeurIPS",
    ),
    Activation(
        name="mish",
        definition="`z tanh(log(1 + exp(z)))`",
        function=_mish,
        derivative=_mish_1,
        second_derivative=_mish_2,
        tails=(_MISH_SATURATION, math.inf),
        homogeneous=False,
        source="Misra 2020, BMVC, arXiv:1908.08681",
    ),
    Activation(
        name="exponential",
        definition="`exp(z)`",
        function=_exponential,
        derivative=_exponential,
        second_derivative=_exponential,
        tails=(_EXPONENTIAL_SATURATION, math.inf),
        homogeneous=False,
        source="Keras's `exponential`",
        integrals=ExponentialIntegrals(),
    ),
    _sine(1.0),
    _prelu(PRELU_SLOPE),
)

#: The activation functions of the project by name.
ACTIVATIONS: Final = Registry({activation.name: activation for activation in _ALL})


#: What `get` finds: a function itself, a component, or a label.
ActivationLike: TypeAlias = Activation | Component | str


def get(activation: ActivationLike) -> Activation:
    """Look an activation function up; an `Activation` is returned as it is.

    Parameters
    ----------
    activation : Activation, Component or str
        An activation function, a component of `ACTIVATIONS`, or the label of one: its name, with
        parameters in parentheses where they are not its defaults: ``leaky_relu(slope=0.01)``.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        If no activation function has that name, or it has no such parameter.
    TypeError
        If it is none of the three.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, Component | str):
        raise TypeError(
            f"activation {errors.show(activation)} is not allowed; allowed: the label of a "
            "function in the registry, its Component, or an Activation"
        )
    try:
        if isinstance(activation, str):
            return ACTIVATIONS.get(activation) or _labelled(activation)
        return _with_parameters(activation)
    except KeyError:
        shown = activation if isinstance(activation, str) else activation.label
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"unknown activation {shown!r}; known are {known}") from None


def _labelled(label: str) -> Activation:
    return _with_parameters(ACTIVATIONS.create(Component.parse(label).document()))


def _with_parameters(component: Component) -> Activation:
    if not component.parameters:
        return ACTIVATIONS[component.name]
    return _made(component)


@functools.cache
def _made(component: Component) -> Activation:
    make = ACTIVATIONS[component.name].make
    assert make is not None, component  # what has parameters is made of them
    return replace(make(**ACTIVATIONS.parameters_of(component)), name=component.label)
