"""Data sets: scikit-learn's digits and a registry of synthetic generators, as float32 arrays.

Inputs are centred per feature with the mean of the training set and divided by its one overall
standard deviation (some pixels of the digits are constant, so that a division per feature would
divide by zero); the mean square of an input's entries is then 1 on average, the q^0 of
mean-field theory. Data sets whose geometry is their point, such as inputs of one exact length, are
left as their generator makes them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradprop import files
from gradprop.errors import GradpropError
from gradprop.spec import NUMERICS, Component, Scalar

Arrays = tuple[NDArray[Any], NDArray[Any]]


class ChangedDataError(GradpropError):
    """A generator gives other arrays than those that results were computed from."""


@dataclass(frozen=True)
class Generator:
    """How a data set is made.

    Attributes
    ----------
    task
        ``classification`` (integer labels) or ``regression`` (float32 targets).
    description
        One line for the manual.
    source
        Where it comes from.
    make
        From parameters to inputs (examples, features) and targets (examples, ...).
    parameters
        The parameters and their defaults.
    exact
        Whether the inputs keep the scale that `make` gives them, and its first examples are
        the training set.
    misfit
        From parameters to why their geometry can't be, None if it can.
    fixed
        Of `examples`, `dimension`, `classes` and `outputs` those that are no parameters.
    """

    task: str
    description: str
    source: str
    make: Callable[..., Arrays]
    parameters: Mapping[str, Scalar]
    exact: bool = False
    misfit: Callable[..., str | None] = lambda **_: None
    fixed: Mapping[str, int] = field(default_factory=dict)


class Sizes(NamedTuple):
    """What is known of a data set before it is made."""

    training: int  # examples
    test: int  # examples
    features: int
    classes: int  # 0 for regression


@dataclass(frozen=True)
class Dataset:
    """Training and test arrays.

    Attributes
    ----------
    task
        ``classification`` or ``regression``.
    x_train, x_test
        Inputs, shape (examples, features), float32.
    y_train, y_test
        Labels, shape (examples,), int32; or targets, shape (examples, outputs), float32.
    outputs
        Number of classes or of target dimensions.
    checksum
        SHA-256 over the arrays.
    """

    task: str
    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    outputs: int
    checksum: str


def _digits(test_fraction: float, seed: int) -> Arrays:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _gaussian_mixture(
    examples: int,
    classes: int,
    dimension: int,
    separation: float,
    noise: float,
    seed: int,
    **_: Any,
) -> Arrays:
    """Draw class centres N(0, separation^2 I), add N(0, noise^2 I) to them."""
    rng = np.random.default_rng(seed)
    centres = separation * rng.standard_normal((classes, dimension))
    labels = np.arange(examples) % classes
    return centres[labels] + noise * rng.standard_normal((examples, dimension)), labels


def _circles(examples: int, factor: float, noise: float, seed: int, **_: Any) -> Arrays:
    from sklearn.datasets import make_circles

    return make_circles(n_samples=examples, factor=factor, noise=noise, random_state=seed)


def _spirals(
    examples: int, classes: int, turns: float, noise: float, seed: int, **_: Any
) -> Arrays:
    """Draw one arm a class: radius t, angle 2 pi (turns t + class / classes), t in (0, 1)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    radius = np.sqrt(rng.uniform(0.01, 1, examples))
    angle = 2 * np.pi * (turns * radius + labels / classes)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + noise * rng.standard_normal((examples, 2)), labels


def _linear_teacher(
    examples: int, dimension: int, outputs: int, noise: float, seed: int, **_: Any
) -> Arrays:
    """Draw x ~ N(0, I), y = A x + N(0, noise^2 I) with A_ij ~ N(0, 1/dimension)."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((dimension, outputs)) / np.sqrt(dimension)
    x = rng.standard_normal((examples, dimension))
    return x, x @ teacher + noise * rng.standard_normal((examples, outputs))


def _directions(count: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw orthonormal vectors, uniform over rotations, (count, dimension)."""
    q, r = np.linalg.qr(rng.standard_normal((dimension, count)))
    return np.asarray((q * np.sign(np.diagonal(r))).T)


def _sphere(examples: int, dimension: int, q: float, seed: int, **_: Any) -> Arrays:
    """Draw directions uniformly; norm^2 = dimension q; the targets are the inputs."""
    x = np.random.default_rng(seed).standard_normal((examples, dimension))
    x *= np.sqrt(dimension * q) / np.linalg.norm(x, axis=1, keepdims=True)
    return x, x


def _great_circle(
    examples: int, dimension: int, q: float, test_fraction: float, seed: int
) -> Arrays:
    """Return sqrt(dimension q) (u_0 cos t + u_1 sin t), targets (cos t, sin t).

    Training and test set each have their angles t evenly spaced, the test set half a step off 0.
    """
    directions = _directions(2, dimension, np.random.default_rng(seed))
    test = _test_examples(examples, test_fraction)
    angles = (
        2
        * np.pi
        * np.concatenate(
            [np.arange(examples - test) / (examples - test), (np.arange(test) + 0.5) / test]
        )
    )
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.sqrt(dimension * q) * y @ directions, y


def _equicorrelated(
    examples: int, dimension: int, q: float, correlation: float, seed: int, **_: Any
) -> Arrays:
    """Return x_i = sqrt(dimension q) (sqrt(c) u_0 + sqrt(1 - c) u_i), the targets too."""
    directions = _directions(examples + 1, dimension, np.random.default_rng(seed))
    x = np.sqrt(correlation) * directions[:1] + np.sqrt(1 - correlation) * directions[1:]
    return np.sqrt(dimension * q) * x, np.sqrt(dimension * q) * x


def _whitened_teacher(
    examples: int,
    dimension: int,
    outputs: int,
    strengths: str,
    symmetric: bool,
    test_fraction: float,
    seed: int,
) -> Arrays:
    """Return training inputs with mean 0 and X^T X = examples I, and targets X U diag(s) V^T."""
    rng = np.random.default_rng(seed)
    s = np.array([float(number) for number in strengths.split()])
    inputs, targets = _directions(len(s), dimension, rng), _directions(len(s), outputs, rng)
    teacher = inputs.T * s @ (inputs if symmetric else targets)
    test = _test_examples(examples, test_fraction)
    draws = rng.standard_normal((examples, dimension))
    count = examples - test
    x_train = draws[:count] - draws[:count].mean(axis=0)
    x_train = np.linalg.qr(x_train)[0] * np.sqrt(count)
    x = np.concatenate([x_train, draws[count:]])
    return x, x @ teacher


def _crowded(count: int, dimension: int) -> str | None:
    if count <= dimension:
        return None
    return (
        f"{count} orthogonal directions do not fit into {dimension} dimensions: raise `dimension`"
    )


def _whitened_misfit(
    examples: int,
    dimension: int,
    outputs: int,
    strengths: str,
    symmetric: bool,
    test_fraction: float,
    **_: Any,
) -> str | None:
    if symmetric and outputs != dimension:
        return "a symmetric teacher has as many outputs as dimensions"
    crowded = _crowded(len(strengths.split()), min(dimension, outputs))
    training = examples - _test_examples(examples, test_fraction)
    if crowded or training > dimension:
        return crowded
    return (
        f"{training} training examples cannot be whitened in {dimension} dimensions: raise "
        "`examples`"
    )


def _test_examples(examples: int, test_fraction: float) -> int:
    """Return the size of the test set, rounded up as scikit-learn does."""
    return math.ceil(examples * test_fraction)


_SPLIT = {"test_fraction": 0.2, "seed": 0}

DATASETS: dict[str, Generator] = {
    "digits": Generator(
        "classification",
        "1,797 handwritten digits of 8x8 pixels in 10 classes",
        "scikit-learn's load_digits (UCI optical recognition of handwritten digits, test part)",
        _digits,
        _SPLIT,
        fixed={"examples": 1797, "dimension": 64, "classes": 10},
    ),
    "gaussian_mixture": Generator(
        "classification",
        "one Gaussian cloud a class around a random centre",
        "centres N(0, separation^2 I), points N(centre, noise^2 I)",
        _gaussian_mixture,
        {
            "examples": 1800,
            "classes": 10,
            "dimension": 64,
            "separation": 0.5,
            "noise": 1.0,
            **_SPLIT,
        },
    ),
    "circles": Generator(
        "classification",
        "two concentric circles in the plane",
        "scikit-learn's make_circles",
        _circles,
        {"examples": 400, "factor": 0.8, "noise": 0.05, "standardize": True, **_SPLIT},
        fixed={"dimension": 2, "classes": 2},
    ),
    "spirals": Generator(
        "classification",
        "interleaved spiral arms in the plane, one a class",
        "radius sqrt(u), angle 2 pi (turns radius + class / classes)",
        _spirals,
        {"examples": 1000, "classes": 2, "turns": 1.5, "noise": 0.02, **_SPLIT},
        fixed={"dimension": 2},
    ),
    "linear_teacher": Generator(
        "regression",
        "a random linear map, for deep linear networks",
        "y = A x + noise, A_ij ~ N(0, 1/dimension) (student and teacher of Saxe et al. 2014)",
        _linear_teacher,
        {"examples": 1000, "dimension": 16, "outputs": 16, "noise": 0.0, **_SPLIT},
    ),
    "whitened_teacher": Generator(
        "regression",
        "a linear map of given singular values, training inputs with identity correlation",
        "y = V diag(strengths) U^T x with random orthonormal U, V (V = U if symmetric); "
        "mean x = 0, mean x x^T = I on the training set, test inputs N(0, I) (Saxe et al. 2014)",
        _whitened_teacher,
        {
            "examples": 100,
            "dimension": 16,
            "outputs": 16,
            "strengths": "3 2 1.5 1 0.6",
            "symmetric": False,
            **_SPLIT,
        },
        exact=True,
        misfit=_whitened_misfit,
    ),
    "sphere": Generator(
        "regression",
        "random directions of one exact length, for signal propagation; the targets are the inputs",
        "x uniform on the sphere of norm^2 = dimension q",
        _sphere,
        {"examples": 100, "dimension": 64, "q": 1.0, **_SPLIT},
        exact=True,
    ),
    "great_circle": Generator(
        "regression",
        "a circle in many dimensions at evenly spaced angles t, in order; targets (cos t, sin t)",
        "x = sqrt(dimension q) (u_0 cos t + u_1 sin t), u_0, u_1 random orthonormal (Poole et al. "
        "2016)",
        _great_circle,
        {"examples": 125, "dimension": 64, "q": 1.0, **_SPLIT},
        exact=True,
        misfit=lambda dimension, **_: _crowded(2, dimension),
        fixed={"outputs": 2},
    ),
    "equicorrelated": Generator(
        "regression",
        "inputs of one exact length and one exact correlation of every pair; fewer than "
        "dimensions; the targets are the inputs",
        "x_i = sqrt(dimension q) (sqrt(c) u_0 + sqrt(1 - c) u_i), u_0, u_1, ... random "
        "orthonormal: x_i . x_j = dimension q c",
        _equicorrelated,
        {"examples": 40, "dimension": 64, "q": 1.0, "correlation": 0.5, **_SPLIT},
        exact=True,
        misfit=lambda examples, dimension, **_: _crowded(examples + 1, dimension),
    ),
}


def create(value: str | Mapping[str, Any]) -> Component:
    """Normalize a data set as it stands in a study's YAML."""
    return Component.create(value, {name: entry.parameters for name, entry in DATASETS.items()})


def sizes(component: Component) -> Sizes:
    """Return the sizes of a data set without making it."""
    entry = DATASETS[component.name]
    known = _known(component)
    test = _test_examples(known["examples"], known["test_fraction"])
    classes = known["classes"] if entry.task == "classification" else 0
    return Sizes(known["examples"] - test, test, known["dimension"], classes)


def outputs(component: Component) -> int:
    """Return the number of classes or of target dimensions of a data set without making it."""
    known = _known(component)
    if DATASETS[component.name].task == "classification":
        return int(known["classes"])
    return int(known.get("outputs", known["dimension"]))


def _known(component: Component) -> dict[str, Any]:
    entry = DATASETS[component.name]
    return {**entry.parameters, **entry.fixed, **dict(component.parameters)}


@lru_cache
def conflict(component: Component) -> str | None:
    """Return why a data set can't be made, None if it can."""
    entry = DATASETS[component.name]
    known = sizes(component)
    if known.training < 1:
        return "no example is left for the training set: lower `test_fraction`"
    if known.training + known.test < 2 * known.classes:
        return f"{known.classes} classes need 2 examples each: raise `examples`"
    if min(known.training, known.test) < known.classes:
        return (
            f"{known.training} training and {known.test} test examples are too few for "
            f"{known.classes} classes: raise `examples`"
        )
    return entry.misfit(**{**entry.parameters, **dict(component.parameters)})


def generate(component: Component) -> Dataset:
    """Make the arrays of a data set: generate, split (stratified for classes), standardize.

    Of exact data sets the first examples are the training set, and nothing is standardized.

    Raises
    ------
    GradpropError
        If there are too few examples to split, or too few dimensions for them.
    """
    entry = DATASETS[component.name]
    parameters: dict[str, Any] = {**entry.parameters, **dict(component.parameters)}
    problem = conflict(component)
    if problem:
        raise GradpropError(f"data set {component.label!r} can't be made: {problem}")
    x, y = entry.make(**parameters)
    classification = entry.task == "classification"
    y = np.asarray(y, dtype=np.int32 if classification else np.float32)
    outputs = int(y.max()) + 1 if classification else y.shape[1]
    parts = (
        _first_examples(x, y, **parameters) if entry.exact else _random_split(x, y, **parameters)
    )
    return Dataset(entry.task, **parts, outputs=outputs, checksum=_checksum(parts))


def _first_examples(
    x: NDArray[Any], y: NDArray[Any], test_fraction: float, **_: Any
) -> dict[str, NDArray[Any]]:
    x, count = x.astype(np.float32), len(x) - _test_examples(len(x), test_fraction)
    return {"x_train": x[:count], "y_train": y[:count], "x_test": x[count:], "y_test": y[count:]}


def _random_split(
    x: NDArray[Any],
    y: NDArray[Any],
    test_fraction: float,
    seed: int,
    standardize: bool = True,
    **_: Any,
) -> dict[str, NDArray[Any]]:
    from sklearn.model_selection import train_test_split

    classification = y.ndim == 1
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=test_fraction, random_state=seed, stratify=y if classification else None
    )
    if not classification:  # an exactly linear teacher stays one without a bias
        y_train, y_test = y_train - y_train.mean(axis=0), y_test - y_train.mean(axis=0)
    if standardize:
        mean, scale = x_train.mean(axis=0), (x_train - x_train.mean(axis=0)).std()
        x_train, x_test = (x_train - mean) / scale, (x_test - mean) / scale
    return {
        "x_train": x_train.astype(np.float32),
        "y_train": y_train,
        "x_test": x_test.astype(np.float32),
        "y_test": y_test,
    }


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write(component: Component, path: Path) -> Dataset:
    """Generate a data set and write it to `path` (.npz), atomically.

    Raises
    ------
    ChangedDataError
        If the file is there with other arrays: results that exist would no longer belong to
        the data.
    """
    dataset = generate(component)
    header = {"checksum": dataset.checksum, "numerics": NUMERICS, "task": dataset.task}
    old = _load(path)
    if old and old[0]["numerics"] == NUMERICS and old[0]["checksum"] != dataset.checksum:
        raise ChangedDataError(
            f"{path}: the generator of {component.label!r} makes other arrays than before "
            f"(sha256 {old[0]['checksum'][:12]} then, {dataset.checksum[:12]} now), so results "
            "that exist belong to other data. If the change is meant, raise NUMERICS in "
            "src/gradprop/spec.py; if not, undo it."
        )
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            header=np.array(json.dumps(header)),
            x_train=dataset.x_train,
            y_train=dataset.y_train,
            x_test=dataset.x_test,
            y_test=dataset.y_test,
            outputs=np.array(dataset.outputs),
        )
    return dataset


def read(path: Path) -> Dataset:
    """Read a data set that `write` wrote.

    Raises
    ------
    ChangedDataError
        If the file holds something else, or arrays that do not match the checksum that was stored
        with them.
    """
    path.stat()  # says that there is no such file
    loaded = _load(path)
    if loaded is None:
        raise ChangedDataError(
            f"{path}: damaged or edited; delete it, and it is made again: snakemake --cores 4"
        )
    return loaded[1]


def _load(path: Path) -> tuple[dict[str, Any], Dataset] | None:
    """Return what `write` noted in a file, and the data set; None if it is not whole."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            header: dict[str, Any] = json.loads(str(stored["header"]))
            arrays = {name: stored[name] for name in ("x_train", "y_train", "x_test", "y_test")}
            outputs = int(stored["outputs"])
        dataset = Dataset(header["task"], **arrays, outputs=outputs, checksum=header["checksum"])
        return (header, dataset) if _checksum(arrays) == header["checksum"] else None
    except Exception:  # NumPy and zipfile raise almost anything for damaged files
        return None
