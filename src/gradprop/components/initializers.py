"""Registry of weight initializers: a name becomes one freshly seeded Keras initializer per layer.

Every kernel is drawn in two dimensions, (fan_in, fan_out), by an initializer of its own: one
Keras instance used for several layers would give them identical kernels, and a stacked kernel
would be misread by the fan computation.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn requires it

from gradprop.components import activations, architecture, gains
from gradprop.components.activations import ActivationLike
from gradprop.components.registry import LARGEST_COUNT, Entry, Parameter, Registry
from gradprop.spec import Cell, Component, LayerInitializer, Scalar


class Layer(NamedTuple):
    """What an initializer may know of the layer whose kernel it draws."""

    fan_in: int
    fan_out: int
    activation: ActivationLike  # of the hidden layers
    places: int = 1  # of a convolution's kernel in space: each has fan_in / places of the rows


@dataclass(frozen=True, kw_only=True)
class Initializer(Entry):
    """How the kernels of a network are drawn; n is the fan-in of a kernel, m its fan-out.

    Attributes
    ----------
    build
        From layer, seed and parameters to a Keras initializer, or another function of shape and
        dtype.
    variance
        From layer and parameters to the variance of an entry of a kernel, which theory needs. None
        if there is none.
    mean
        From layer and parameters to the mean of an entry of a kernel. Without it, 0.
    unpredicted
        Why there is no variance, for the caption of a figure that misses it.
    random
        Whether kernels depend on the seed.
    unit_variance
        Whether the kernels are then scaled, layer by layer, to pre-activations of variance 1 on
        a batch of training examples (`_scale_to_unit_variance`).
    activations
        Activation functions that it is defined for; empty: all.
    traceable
        Whether `build` takes a seed that is a tensor, so that TensorFlow can draw many at once.
    """

    build: Callable[..., Any]
    variance: Callable[..., float] | None = None
    mean: Callable[..., float] | None = None
    unpredicted: str = ""
    random: bool = True
    unit_variance: bool = False
    activations: tuple[str, ...] = ()
    traceable: bool = True


@dataclass(frozen=True, kw_only=True)
class BiasInitializer(Entry):
    """How the biases of a layer begin; n is the layer's fan-in.

    Attributes
    ----------
    build
        From a random generator, the number of biases, n, `Cell.bias_std` and the parameters to the
        biases, float32.
    moments
        From n, `Cell.bias_std` and the parameters to mean and variance of a bias.
    """

    build: Callable[..., NDArray[np.float32]]
    moments: Callable[..., tuple[float, float]]


def _keras(name: str) -> Callable[..., Any]:
    """Return a builder for Keras's own initializer class `name`."""

    def build(layer: Layer, seed: int, **parameters: Scalar) -> Any:
        import keras

        return getattr(keras.initializers, name)(seed=seed, **parameters)

    return build


def _constant(layer: Layer, seed: int, value: float) -> Any:
    import keras

    return keras.initializers.Constant(value)


def _identity(layer: Layer, seed: int, gain: float) -> Any:
    import keras

    return keras.initializers.Identity(gain=gain)


def _normal(layer: Layer, seed: int, stddev: float, mean: float = 0.0) -> Any:
    import keras

    return keras.initializers.RandomNormal(mean=mean, stddev=stddev, seed=seed)


def _uniform(layer: Layer, seed: int, limit: float, mean: float = 0.0) -> Any:
    import keras

    return keras.initializers.RandomUniform(minval=mean - limit, maxval=mean + limit, seed=seed)


def _fan_in_uniform(layer: Layer, seed: int) -> Any:
    return _uniform(layer, seed, limit=1 / math.sqrt(layer.fan_in))


def _random_walk(layer: Layer, seed: int, gain: Callable[[Layer], float]) -> Any:
    return _normal(layer, seed, stddev=gain(layer) / math.sqrt(layer.fan_in))


def _sussillo_abbott(layer: Layer) -> float:
    return gains.sussillo_abbott_gain(layer.fan_in, layer.activation)


def _lyapunov(layer: Layer) -> float:
    return gains.unbiased_gain(layer.fan_out, layer.activation)


def _orthogonal(layer: Layer, seed: int, examples: int) -> Any:
    import keras

    return keras.initializers.Orthogonal(seed=seed)


def _scaled_variance(layer: Layer, scale: float, mode: str, distribution: str = "") -> float:
    """Return scale / fan, with the fan that `mode` names."""
    fan_avg = (layer.fan_in + layer.fan_out) / 2
    return scale / {"fan_in": layer.fan_in, "fan_out": layer.fan_out, "fan_avg": fan_avg}[mode]


def _scaled(scale: float, mode: str) -> Callable[[Layer], float]:
    return lambda layer: _scaled_variance(layer, scale, mode)


_CONSTANT = "the kernels are constant and have no distribution to average over"
_MEAN = "Mean of a weight: a kernel has this times the matrix of ones as a part of rank one."

INITIALIZERS = Registry(
    {
        "zeros": Initializer(
            definition="W = 0",
            source="the initialization that never breaks symmetry (Goodfellow et al. 2016, "
            "sec. 8.4)",
            build=lambda layer, seed: _constant(layer, seed, 0.0),
            unpredicted=_CONSTANT,
            random=False,
        ),
        "ones": Initializer(
            definition="W = 1",
            source="a constant initialization; symmetric like zeros",
            build=lambda layer, seed: _constant(layer, seed, 1.0),
            unpredicted=_CONSTANT,
            random=False,
        ),
        "constant": Initializer(
            definition="W = value",
            source="a constant initialization; symmetric like zeros",
            build=_constant,
            parameters={"value": Parameter(0.1, "The weight.")},
            unpredicted=_CONSTANT,
            random=False,
        ),
        "identity": Initializer(
            definition="W = gain * I (rectangular: ones on the main diagonal)",
            source="the deep linear example of vanishing and exploding gradients (Ng, Deep "
            "Learning Specialization, course 2, week 1)",
            build=_identity,
            parameters={"gain": Parameter(1.0, "Factor of the identity matrix.")},
            unpredicted=_CONSTANT,
            random=False,
        ),
        "normal": Initializer(
            definition="N(mean, stddev^2)",
            source="a fixed scale, whatever the width (Krizhevsky et al. 2012 use stddev 0.01)",
            build=_normal,
            parameters={
                "stddev": Parameter(0.01, "Standard deviation of a weight.", above=0),
                "mean": Parameter(0.0, _MEAN),
            },
            variance=lambda layer, stddev, mean: stddev**2,
            mean=lambda layer, stddev, mean: mean,
        ),
        "uniform": Initializer(
            definition="U(mean - limit, mean + limit), variance limit^2 / 3; U(low, high) has the "
            "mean (low + high) / 2 and the limit (high - low) / 2",
            source="a fixed scale, whatever the width",
            build=_uniform,
            parameters={
                "limit": Parameter(0.05, "Largest distance of a weight from the mean.", above=0),
                "mean": Parameter(0.0, _MEAN),
            },
            variance=lambda layer, limit, mean: limit**2 / 3,
            mean=lambda layer, limit, mean: mean,
        ),
        "standard_heuristic": Initializer(
            definition="U(-1/sqrt(n), 1/sqrt(n)), variance 1 / (3 n)",
            source="Glorot and Bengio 2010, eq. 1 ('commonly used heuristic')",
            build=_fan_in_uniform,
            variance=_scaled(1 / 3, "fan_in"),
        ),
        "lecun_normal": Initializer(
            definition="truncated N(0, 1/n), rescaled to that variance",
            source="LeCun et al. 1998, 'Efficient BackProp'; Klambauer et al. 2017",
            build=_keras("LecunNormal"),
            variance=_scaled(1.0, "fan_in"),
        ),
        "lecun_uniform": Initializer(
            definition="U(-a, a), a = sqrt(3/n), variance 1/n",
            source="LeCun et al. 1998, 'Efficient BackProp'",
            build=_keras("LecunUniform"),
            variance=_scaled(1.0, "fan_in"),
        ),
        "glorot_normal": Initializer(
            definition="truncated N(0, 2/(n+m)), rescaled to that variance",
            source="Glorot and Bengio 2010",
            build=_keras("GlorotNormal"),
            variance=_scaled(1.0, "fan_avg"),
        ),
        "glorot_uniform": Initializer(
            definition="U(-a, a), a = sqrt(6/(n+m)), variance 2/(n+m)",
            source="Glorot and Bengio 2010, eq. 16; the default of keras.layers.Dense",
            build=_keras("GlorotUniform"),
            variance=_scaled(1.0, "fan_avg"),
        ),
        "he_normal": Initializer(
            definition="truncated N(0, 2/n), rescaled to that variance",
            source="He et al. 2015",
            build=_keras("HeNormal"),
            variance=_scaled(2.0, "fan_in"),
        ),
        "he_uniform": Initializer(
            definition="U(-a, a), a = sqrt(6/n), variance 2/n",
            source="He et al. 2015",
            build=_keras("HeUniform"),
            variance=_scaled(2.0, "fan_in"),
        ),
        "orthogonal": Initializer(
            definition="gain * Q, Q Haar-distributed with orthonormal rows or columns",
            source="Saxe et al. 2014",
            build=_keras("Orthogonal"),
            parameters={"gain": Parameter(1.0, "Factor of the orthogonal matrix.")},
            # orthonormal rows or columns, whichever are fewer
            variance=lambda layer, gain: gain**2 / max(layer.fan_in, layer.fan_out),
        ),
        "pytorch_default": Initializer(
            definition="U(-1/sqrt(n), 1/sqrt(n)): kaiming_uniform with a = sqrt(5), "
            "gain^2 = 2/(1+a^2) = 1/3",
            source="torch.nn.Linear.reset_parameters: the standard heuristic by another name",
            build=_fan_in_uniform,
            variance=_scaled(1 / 3, "fan_in"),
        ),
        "variance_scaling": Initializer(
            definition="variance scale/n, scale/m or 2 scale/(n+m) (mode fan_in, fan_out, "
            "fan_avg); distribution truncated_normal (rescaled), untruncated_normal or uniform",
            source="keras.initializers.VarianceScaling",
            build=_keras("VarianceScaling"),
            parameters={
                "scale": Parameter(
                    1.0, "Variance of a weight times the fan that `mode` names.", above=0
                ),
                "mode": Parameter(
                    "fan_in",
                    "Inputs of the layer, its outputs, or the average of both.",
                    choices=("fan_in", "fan_out", "fan_avg"),
                ),
                "distribution": Parameter(
                    "untruncated_normal",
                    "Shape of the distribution; the truncated normal is rescaled to the variance.",
                    choices=("truncated_normal", "untruncated_normal", "uniform"),
                ),
            },
            variance=_scaled_variance,
        ),
        "sussillo_abbott": Initializer(
            definition="N(0, g^2/n), linear: g = exp(1 / (2 n)); ReLU: g = sqrt(2) exp(1.2 / "
            "(max(n, 6) - 2.4)); no other activation",
            source="random walk initialization (Sussillo and Abbott 2014)",
            build=lambda layer, seed: _random_walk(layer, seed, _sussillo_abbott),
            variance=lambda layer: _sussillo_abbott(layer) ** 2 / layer.fan_in,
            activations=("linear", "relu"),
        ),
        "lyapunov": Initializer(
            definition="N(0, g^2/n), g such that E ln(mean phi(z)^2) of m units is what goes in: "
            "the exact gain without drift; linear, ReLU and leaky ReLU only",
            source="Lyapunov initialization (Kogler et al. 2026)",
            build=lambda layer, seed: _random_walk(layer, seed, _lyapunov),
            variance=lambda layer: _lyapunov(layer) ** 2 / layer.fan_in,
            activations=("linear", "relu", "leaky_relu"),
        ),
        "lsuv": Initializer(
            definition="s_l Q, Q as for orthogonal; s_l such that Var(W h) = 1 over units and "
            "`examples` random training examples, layer by layer",
            source="layer-sequential unit variance (Mishkin and Matas 2016)",
            build=_orthogonal,
            parameters={
                "examples": Parameter(
                    256,
                    "Training examples that the variance is taken over, or all if fewer.",
                    minimum=2,
                    maximum=LARGEST_COUNT,
                )
            },
            unpredicted="the kernels are scaled to data",
            unit_variance=True,
        ),
    }
)


def _normal_bias(
    rng: np.random.Generator, units: int, fan_in: int, stddev: float
) -> NDArray[np.float32]:
    return rng.standard_normal(units, dtype=np.float32) * np.float32(stddev)


def _uniform_bias(
    rng: np.random.Generator, units: int, fan_in: int, stddev: float
) -> NDArray[np.float32]:
    limit = np.float32(1 / math.sqrt(fan_in))
    return (2 * rng.random(units, dtype=np.float32) - 1) * limit


def _constant_bias(
    rng: np.random.Generator, units: int, fan_in: int, stddev: float, value: float
) -> NDArray[np.float32]:
    return np.full(units, value, dtype=np.float32)


BIAS_INITIALIZERS = Registry(
    {
        "normal": BiasInitializer(
            definition="b ~ N(0, bias_std^2), which is 0 without the key `bias_std`",
            source="mean-field theory: Poole et al. 2016; 0 is the default of keras.layers.Dense",
            build=_normal_bias,
            moments=lambda fan_in, stddev: (0.0, stddev**2),
        ),
        "fan_in_uniform": BiasInitializer(
            definition="b ~ U(-1/sqrt(n), 1/sqrt(n)), variance 1 / (3 n)",
            source="torch.nn.Linear.reset_parameters: with the kernels of `pytorch_default`, "
            "PyTorch's default as a whole",
            build=_uniform_bias,
            moments=lambda fan_in, stddev: (0.0, 1 / (3 * fan_in)),
        ),
        "constant": BiasInitializer(
            definition="b = value",
            source="keras.initializers.Constant; a positive one keeps ReLU units alive at first "
            "(Goodfellow et al. 2016, sec. 8.4)",
            build=_constant_bias,
            parameters={"value": Parameter(0.1, "The bias.")},
            moments=lambda fan_in, stddev, value: (value, 0.0),
        ),
    }
)

_NEXT_LAYER = re.compile(r"; (?=(?:first|last|[1-9]\d*): )")  # a text may hold semicolons

# From how many kernels on one program is faster than separate calls of the initializer.
WORTH_TRACING = 50


def stream_seed(*parts: Scalar) -> int:
    """Return the 31-bit seed of the random stream named by `parts`.

    Streams are told apart by a SHA-256 hash, so that adding an axis value to a grid changes the
    stream of no other cell.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def layer_shapes(inputs: int, cell: Cell, outputs: int) -> list[tuple[int, int]]:
    """Return (fan_in, fan_out) of layers 1 … depth + 1."""
    units = architecture.output_units(cell, outputs)
    sizes = [inputs, *architecture.hidden_widths(cell), units]
    return list(itertools.pairwise(sizes))


def of_layers(given: Mapping[str, Any]) -> tuple[LayerInitializer, ...]:
    """Return initializers of single layers in the order of the layers.

    Parameters
    ----------
    given
        As it stands in a study's YAML: from ``first``, ``last`` or the number of a layer to an
        initializer.
    """
    keys = sorted(given, key=lambda key: (_number(key, LARGEST_COUNT), key))
    return tuple(LayerInitializer(key, INITIALIZERS.create(given[key])) for key in keys)


def parse_layers(text: str) -> tuple[LayerInitializer, ...]:
    """Return the initializers of single layers that stand in a text: ``first: zeros; 3: ones``.

    Raises
    ------
    ValueError, KeyError
        If the text is none of initializers by layer.
    """
    pairs = (part.split(": ", 1) for part in _NEXT_LAYER.split(text))
    return of_layers({key: Component.parse(label).document() for key, label in pairs})


def in_one_spelling(cell: Cell) -> Cell:
    """Return the cell as it would be if every network had one spelling, without code's digest.

    The same network may be written in several ways: layer 1 as ``first`` or ``1``, the last one as
    ``last`` or by its number, a layer's initializer though it is that of the cell, and biases of 0
    as a constant or as normal ones without a spread.
    """
    names = {1: "first", cell.depth + 1: "last"}
    given = {
        names.get(number, str(number)): one.initializer.document()
        for one in cell.layer_initializers
        if (number := _number(one.key, cell.depth)) and one.initializer != cell.initializer
    }
    biases = cell.bias_initializer
    if biases.name == "constant" and not BIAS_INITIALIZERS.parameters_of(biases)["value"]:
        biases = Component("normal")
    return replace(cell, layer_initializers=of_layers(given), bias_initializer=biases, code="")


def initializer_of(cell: Cell, layer: int) -> Component:
    """Return the initializer of the kernel of `layer` (1 … depth + 1)."""
    own = (one for one in cell.layer_initializers if _number(one.key, cell.depth) == layer)
    found = next(own, None)
    return found.initializer if found else cell.initializer


def hidden_initializer(cell: Cell) -> Component | None:
    """Return the initializer that hidden layers 2 … depth have in common; None without one."""
    if cell.depth < 2:
        return cell.initializer
    found = {initializer_of(cell, layer) for layer in range(2, cell.depth + 1)}
    return found.pop() if len(found) == 1 else None


def _number(key: str, depth: int) -> int:
    """Return the layer that a key of `layer_initializers` names."""
    return {"first": 1, "last": depth + 1}.get(key) or int(key)


def kernel_seed(cell: Cell, layer: int) -> int:
    """Return the seed of the kernel of `layer` (1 … depth + 1).

    It does not depend on the initializer, so that cells that differ only in their initializer's
    scale start from the same directions. The one kernel of tied layers is that of layer 2.
    """
    if cell.tied and 2 < layer <= cell.depth:
        layer = 2
    if not INITIALIZERS[initializer_of(cell, layer).name].random:
        return 0
    return stream_seed("kernel", cell.seed, cell.depth, cell.width, layer)


def build(initializer: Component, seed: Any, layer: Layer) -> Any:
    """Return a new Keras initializer for one kernel; `seed` is an integer or a SeedGenerator."""
    return INITIALIZERS[initializer.name].build(
        layer, seed, **INITIALIZERS.parameters_of(initializer)
    )


def draw_kernel(cell: Cell, layer: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw the kernel of `layer`, of `shape` (fan_in, fan_out), before any scaling to data."""
    known = Layer(*shape, cell.activation)
    initializer = build(initializer_of(cell, layer), kernel_seed(cell, layer), known)
    return np.asarray(initializer(shape, dtype="float32"), dtype=np.float32)


def draw_kernels(
    cells: Sequence[Cell], shapes: Sequence[tuple[int, int]], inputs: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Draw what `draw_kernel` draws, for all layers of cells of equal shapes; scale it to data.

    Parameters
    ----------
    cells
        Cells of a stack.
    shapes
        Of every layer, (fan_in, fan_out).
    inputs
        Those of the training set, (examples, features), for initializers that look at data.

    Returns
    -------
    list of ndarray
        One array per layer, (cells, fan_in, fan_out).
    """
    kernels = [np.empty((len(cells), *shape), dtype=np.float32) for shape in shapes]
    places: dict[tuple[Component, Layer], list[tuple[int, int]]] = {}
    for index, shape in enumerate(shapes):
        for replica, cell in enumerate(cells):
            known = Layer(*shape, cell.activation)
            initializer = initializer_of(cell, index + 1)
            places.setdefault((initializer, known), []).append((index, replica))
    for (initializer, known), wanted in places.items():
        seeds = [kernel_seed(cells[replica], index + 1) for index, replica in wanted]
        unique, order = np.unique(seeds, return_inverse=True)
        drawn = _draw_many(initializer, known, unique)
        for (index, replica), position in zip(wanted, order, strict=True):
            kernels[index][replica] = drawn[position]
    for replica, cell in enumerate(cells):
        if INITIALIZERS[cell.initializer.name].unit_variance:
            _scale_to_unit_variance(cell, [kernel[replica] for kernel in kernels], inputs)
    return kernels


def _scale_to_unit_variance(
    cell: Cell, kernels: Sequence[NDArray[np.float32]], inputs: NDArray[np.float32]
) -> None:
    """Scale the kernels of one cell in place, each after those before it.

    The variance of W h is taken over units and examples at once, in float64; h includes biases.
    One division makes it 1 up to the rounding of the kernel, where the original iterates to
    within 0.1. A layer whose variance is 0 stays as it was drawn.
    """
    phi = activations.get(cell.activation).function
    rng = np.random.default_rng(stream_seed("lsuv", cell.seed))
    count = min(INITIALIZERS.parameters_of(cell.initializer)["examples"], len(inputs))
    chosen = np.sort(rng.choice(len(inputs), count, replace=False))
    hidden = inputs[chosen].astype(np.float64)
    # With one thread: how a BLAS divides a product among threads would show in the bits.
    with threadpool_limits(1, user_api="blas"):
        for number, kernel in enumerate(kernels, start=1):
            deviation = (hidden @ kernel.astype(np.float64)).std()
            if deviation > 0:
                kernel /= deviation
            z = hidden @ kernel.astype(np.float64)
            if cell.use_bias:
                z += draw_bias(cell, number, (len(kernel), kernel.shape[1]))
            hidden = phi(z)


def _draw_many(
    initializer: Component, layer: Layer, seeds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Draw one kernel per seed, (seeds, fan_in, fan_out)."""
    import tensorflow as tf

    shape = (layer.fan_in, layer.fan_out)
    if len(seeds) < WORTH_TRACING or not INITIALIZERS[initializer.name].traceable:
        draws = (build(initializer, int(seed), layer) for seed in seeds)
        return np.stack([draw(shape, dtype="float32") for draw in draws])
    words = np.stack([seeds, np.zeros_like(seeds)], axis=1).astype(np.int32)
    return np.asarray(_traced_draw(initializer, layer)(tf.constant(words)))


@lru_cache
def _traced_draw(initializer: Component, layer: Layer) -> Callable[..., Any]:
    """Trace the Keras initializer into one program that loops over seeds.

    It has the same bits as calls of the initializer one by one, which cost ten times as much.
    """
    import keras
    import tensorflow as tf

    class GivenSeed(keras.random.SeedGenerator):
        """The seed that Keras derives of an integer, which is not known when tracing."""

        def __init__(self, words: Any) -> None:
            self.words = words

        def next(self, ordered: bool = True) -> Any:
            return self.words

    def draw(words: Any) -> Any:
        shape = (layer.fan_in, layer.fan_out)
        return build(initializer, GivenSeed(words), layer)(shape, dtype="float32")

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.int32)], autograph=False)
    def draw_all(words: Any) -> Any:
        return tf.map_fn(draw, words, fn_output_signature=tf.float32)

    return draw_all.get_concrete_function()  # its calls do not count as tracing once more


def draw_bias(cell: Cell, layer: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw the biases of `layer`, whose kernel has `shape` (fan_in, fan_out): (fan_out,)."""
    fan_in, units = shape
    seed = stream_seed("bias", cell.seed, cell.depth, cell.width, layer)
    parameters = BIAS_INITIALIZERS.parameters_of(cell.bias_initializer)
    entry = BIAS_INITIALIZERS[cell.bias_initializer.name]
    return entry.build(np.random.default_rng(seed), units, fan_in, cell.bias_std, **parameters)


def bias_moments(cell: Cell, fan_in: int) -> tuple[float, float]:
    """Return mean and variance of the biases of a layer; 0 and 0 without biases."""
    if not cell.use_bias:
        return 0.0, 0.0
    entry = BIAS_INITIALIZERS[cell.bias_initializer.name]
    parameters = BIAS_INITIALIZERS.parameters_of(cell.bias_initializer)
    return entry.moments(fan_in, cell.bias_std, **parameters)


def conflict(cell: Cell) -> str | None:
    """Return what is wrong with the initializer of this cell, as ``key: reason``."""
    name = cell.initializer.name
    if INITIALIZERS[name].unit_variance and not architecture.is_plain(cell):
        return f"initializer: {name} is for networks without normalization and residual connections"
    if cell.bias_std and cell.bias_initializer.name != "normal":
        return (
            f"bias_std: biases of {cell.bias_initializer.label} are not normal; allowed: 0, or "
            "bias_initializer: normal"
        )
    if INITIALIZERS[name].unit_variance and cell.tied:
        return (
            f"initializer: {name} scales every kernel to its own layer, but tied layers share one"
        )
    problem = _without_gain("initializer", cell.initializer, cell.activation)
    return problem or (_conflict_of_layers(cell) if cell.layer_initializers else None)


def _without_gain(where: str, initializer: Component, activation: Component) -> str | None:
    """Say that an initializer has no gain for the activation function, if it hasn't."""
    known = INITIALIZERS[initializer.name].activations
    if not known or activation.name in known:
        return None
    return (
        f"{where}: {initializer.name} has no gain for the activation {activation.label!r}; it has "
        f"for {', '.join(known)}"
    )


def _conflict_of_layers(cell: Cell) -> str | None:
    """Return what is wrong with the initializers of single layers, as ``key: reason``."""
    where, last = "layer_initializers", cell.depth + 1
    keys: dict[int, str] = {}
    for one in cell.layer_initializers:
        key, number = one.key, _number(one.key, cell.depth)
        other = keys.setdefault(number, key)
        if number > last:
            return f"{where}.{key}: no layer {key} at depth {cell.depth}; allowed: 1 to {last}"
        if other != key:
            return f"{where}: {other} and {key} both name layer {number} at depth {cell.depth}"
        if cell.tied and 2 <= number <= cell.depth:
            return f"{where}.{key}: tied layers share one kernel; allowed: first, last"
        if problem := _without_gain(f"{where}.{key}", one.initializer, cell.activation):
            return problem
    for initializer in (cell.initializer, *(one.initializer for one in cell.layer_initializers)):
        if INITIALIZERS[initializer.name].unit_variance:
            return (
                f"{where}: {initializer.name} scales the kernels of all layers, one after the "
                "other, and can't be that of some"
            )
    return None
