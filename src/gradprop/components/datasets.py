"""Data sets: scikit-learn's own, synthetic generators and files of a study, as float32 arrays.

Inputs are centred per feature with the mean of the training set and divided by its one overall
standard deviation (some pixels of the digits are constant, so that a division per feature would
divide by zero); the mean square of an input's entries is then 1 on average, the q^0 of
mean-field theory. The features of tables have unlike scales: each is divided by its own standard
deviation, which makes that mean square 1, too. Data sets whose geometry is their point, such as
inputs of one exact length, are left as their generator makes them.
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
from gradprop.components import datafiles
from gradprop.components.registry import (
    LARGEST_COUNT,
    LARGEST_SEED,
    LARGEST_SIZE,
    Entry,
    Parameter,
    Registry,
)
from gradprop.errors import GradpropError, how_to_make
from gradprop.spec import NUMERICS, Component

AS_SEED = -1  # as `split_seed`: the split has the seed of the generator
Arrays = tuple[NDArray[Any], NDArray[Any]]


class ChangedDataError(GradpropError):
    """A generator gives other arrays than those that results were computed from."""


class Facts(NamedTuple):
    """What is known of a data set besides its parameters."""

    task: str
    fixed: Mapping[str, int]  # sizes that are no parameters
    code: str  # digest of what it is made from, if that is none of the package


@dataclass(frozen=True, kw_only=True)
class Generator(Entry):
    """How a data set is made.

    Attributes
    ----------
    task
        ``classification`` (integer labels) or ``regression`` (float32 targets).
    make
        From parameters to inputs (examples, features) and targets (examples, ...).
    exact
        Whether the inputs keep the scale that `make` gives them, and its first examples are
        the training set.
    tabular
        Whether the features have unlike scales. Standardized, each is divided by its own standard
        deviation instead of one for all, and so is each target of a regression.
    misfit
        From parameters to why their geometry can't be, None if it can.
    fixed
        Of `examples`, `dimension`, `classes` and `outputs` those that are no parameters.
    """

    task: str
    make: Callable[..., Arrays]
    exact: bool = False
    tabular: bool = False
    misfit: Callable[..., str | None] = lambda **_: None
    fixed: Mapping[str, int] = field(default_factory=dict)

    def facts(self, **parameters: Any) -> Facts:
        """Return what is known of the data set of these parameters."""
        return Facts(self.task, self.fixed, self.code)


@dataclass(frozen=True, kw_only=True)
class FromFile(Generator):
    """A data set that a study brings along as a file, which says the most about it."""

    def facts(self, **parameters: Any) -> Facts:
        """Return what the file says, its checksum as the code."""
        file, target, task = (parameters[name] for name in ("file", "target", "task"))
        table = datafiles.read(file, target, task)
        if not parameters["standardize"]:
            datafiles.check_unscaled(file, table)
        classes = table.task == "classification"
        sizes = {
            "examples": len(table.x),
            "dimension": table.x.shape[1],
            "classes" if classes else "outputs": table.outputs,
        }
        return Facts(table.task, sizes, datafiles.checksum(file))


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


def _digits(**_: Any) -> Arrays:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _breast_cancer(**_: Any) -> Arrays:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def _wine(**_: Any) -> Arrays:
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


def _iris(**_: Any) -> Arrays:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def _diabetes(**_: Any) -> Arrays:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)
    return x, y[:, None]


def _from_file(file: str, target: str, task: str, **_: Any) -> Arrays:
    table = datafiles.read(file, target, task)
    return table.x, table.y


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


def _examples(
    default: int,
    minimum: int = 10,
    description: str = "Number of examples, training and test together.",
) -> Parameter:
    return Parameter(default, description, minimum=minimum, maximum=LARGEST_COUNT)


def _size(default: int, description: str, minimum: int = 1) -> Parameter:
    return Parameter(default, description, minimum=minimum, maximum=LARGEST_SIZE)


def _classes(default: int, description: str = "Number of classes.") -> Parameter:
    return Parameter(default, description, minimum=2, maximum=10_000)


def _q() -> Parameter:
    return Parameter(1.0, "Mean square of the entries of an input.", above=0)


def _noise(default: float, of: str) -> Parameter:
    return Parameter(default, f"Standard deviation of the noise of {of}.", minimum=0)


_TEST_FRACTION = Parameter(
    0.2, "Share of the examples that is set aside for the test set.", above=0, below=1
)


def _split_seed(default: int, description: str) -> Parameter:
    return Parameter(default, description, minimum=min(default, 0), maximum=LARGEST_SEED)


# Of data sets whose first examples are the training set.
IN_ORDER = {
    "test_fraction": _TEST_FRACTION,
    "seed": Parameter(
        0,
        "Seed of the generator; independent of the seeds of training.",
        minimum=0,
        maximum=LARGEST_SEED,
    ),
}
# Of those that are generated and split at random.
SPLIT = {
    **IN_ORDER,
    "seed": Parameter(
        0,
        "Seed of the generator and, unless `split_seed` is given, of the split; independent of the "
        "seeds of training.",
        minimum=0,
        maximum=LARGEST_SEED,
    ),
    "split_seed": _split_seed(AS_SEED, "Seed of the split alone; -1: that of `seed`."),
}
# Of those in which nothing but the split is random.
SPLIT_ALONE = {
    "test_fraction": _TEST_FRACTION,
    "split_seed": _split_seed(
        0, "Seed of the split into training and test set; independent of the seeds of training."
    ),
}


def _standardize(what: str) -> Parameter:
    return Parameter(True, f"Whether {what}; false leaves them as they are.")


_TOGETHER = _standardize("inputs are centred and scaled to a mean square of 1")
_EACH = "centred and divided by its own standard deviation (a constant one is only centred)"
_OF_TABLE = {**SPLIT_ALONE, "standardize": _standardize(f"every feature is {_EACH}")}
_BOTH_COORDINATES = "both coordinates"

DATASETS = Registry(
    {
        "digits": Generator(
            task="classification",
            definition="1,797 handwritten digits of 8x8 pixels in 10 classes",
            source="scikit-learn's load_digits (UCI optical recognition of handwritten digits, "
            "test part)",
            make=_digits,
            parameters={
                "standardize": _TOGETHER,
                **SPLIT,
                "seed": Parameter(
                    0,
                    "Seed of the split unless `split_seed` is given: nothing else is random.",
                    minimum=0,
                    maximum=LARGEST_SEED,
                ),
            },
            fixed={"examples": 1797, "dimension": 64, "classes": 10},
        ),
        "breast_cancer": Generator(
            task="classification",
            definition="569 tumours, benign or malignant, by 30 measurements of cell nuclei, each "
            "standardized by itself",
            source="scikit-learn's load_breast_cancer (UCI breast cancer Wisconsin, diagnostic)",
            make=_breast_cancer,
            parameters=_OF_TABLE,
            tabular=True,
            fixed={"examples": 569, "dimension": 30, "classes": 2},
        ),
        "wine": Generator(
            task="classification",
            definition="178 wines of 3 cultivars by 13 chemical measurements, each standardized by "
            "itself",
            source="scikit-learn's load_wine (UCI wine)",
            make=_wine,
            parameters=_OF_TABLE,
            tabular=True,
            fixed={"examples": 178, "dimension": 13, "classes": 3},
        ),
        "iris": Generator(
            task="classification",
            definition="150 flowers of 3 species by 4 lengths, each standardized by itself",
            source="scikit-learn's load_iris (Fisher 1936)",
            make=_iris,
            parameters=_OF_TABLE,
            tabular=True,
            fixed={"examples": 150, "dimension": 4, "classes": 3},
        ),
        "diabetes": Generator(
            task="regression",
            definition="the progression of a disease in 442 patients by 10 measurements, each "
            "standardized by itself, as the target is",
            source="scikit-learn's load_diabetes, not scaled (Efron et al. 2004)",
            make=_diabetes,
            parameters={
                **SPLIT_ALONE,
                "standardize": _standardize(f"every feature and the target is {_EACH}"),
            },
            tabular=True,
            fixed={"examples": 442, "dimension": 10, "outputs": 1},
        ),
        "gaussian_mixture": Generator(
            task="classification",
            definition="one Gaussian cloud per class around a random centre",
            source="centres N(0, separation^2 I), points N(centre, noise^2 I)",
            make=_gaussian_mixture,
            parameters={
                "examples": _examples(1800),
                "classes": _classes(10),
                "dimension": _size(64, "Number of features."),
                "separation": Parameter(
                    0.5, "Standard deviation of the coordinates of the clouds' centres.", minimum=0
                ),
                "noise": Parameter(
                    1.0, "Standard deviation of the points around their centre.", above=0
                ),
                "standardize": _TOGETHER,
                **SPLIT,
            },
        ),
        "circles": Generator(
            task="classification",
            definition="two concentric circles in the plane",
            source="scikit-learn's make_circles",
            make=_circles,
            parameters={
                "examples": _examples(400),
                "factor": Parameter(
                    0.8,
                    "Radius of the inner circle; the outer one has radius 1.",
                    minimum=0,
                    below=1,
                ),
                "noise": _noise(0.05, _BOTH_COORDINATES),
                "standardize": _TOGETHER,
                **SPLIT,
            },
            fixed={"dimension": 2, "classes": 2},
        ),
        "spirals": Generator(
            task="classification",
            definition="interleaved spiral arms in the plane, one per class",
            source="radius sqrt(u), angle 2 pi (turns radius + class / classes)",
            make=_spirals,
            parameters={
                "examples": _examples(1000),
                "classes": _classes(2, "Number of classes; each is one arm."),
                "turns": Parameter(1.5, "Turns of an arm from the centre to radius 1.", minimum=0),
                "noise": _noise(0.02, _BOTH_COORDINATES),
                "standardize": _TOGETHER,
                **SPLIT,
            },
            fixed={"dimension": 2},
        ),
        "linear_teacher": Generator(
            task="regression",
            definition="a random linear map, for deep linear networks",
            source="y = A x + noise, A_ij ~ N(0, 1/dimension) (student and teacher of Saxe et al. "
            "2014)",
            make=_linear_teacher,
            parameters={
                "examples": _examples(1000),
                "dimension": _size(16, "Number of features."),
                "outputs": _size(16, "Number of targets."),
                "noise": _noise(0.0, "the targets"),
                "standardize": _standardize(
                    "inputs are centred and scaled to a mean square of 1, and targets centred"
                ),
                **SPLIT,
            },
        ),
        "whitened_teacher": Generator(
            task="regression",
            definition="a linear map of given singular values, training inputs with identity "
            "correlation",
            source="y = V diag(strengths) U^T x with random orthonormal U, V (V = U if symmetric); "
            "mean x = 0, mean x x^T = I on the training set, test inputs N(0, I) (Saxe et al. "
            "2014)",
            make=_whitened_teacher,
            parameters={
                "examples": _examples(100, minimum=4),
                "dimension": _size(16, "Number of features; fewer than training examples."),
                "outputs": _size(16, "Number of targets."),
                "strengths": Parameter(
                    "3 2 1.5 1 0.6",
                    'the singular values as text, "3 2 1.5 1 0.6": no more than features or '
                    "targets",
                    pattern="^[0-9]{1,9}([.][0-9]{1,9})?( [0-9]{1,9}([.][0-9]{1,9})?)*$",
                    longest=400,
                ),
                "symmetric": Parameter(
                    False, "Whether the map is symmetric, a matrix with these eigenvalues."
                ),
                **IN_ORDER,
            },
            exact=True,
            misfit=_whitened_misfit,
        ),
        "sphere": Generator(
            task="regression",
            definition="random directions of one exact length, for signal propagation; the targets "
            "are the inputs",
            source="x uniform on the sphere of norm^2 = dimension q",
            make=_sphere,
            parameters={
                "examples": _examples(100, minimum=4),
                "dimension": _size(64, "Number of features and of targets."),
                "q": _q(),
                **IN_ORDER,
            },
            exact=True,
        ),
        "great_circle": Generator(
            task="regression",
            definition="a circle in many dimensions at evenly spaced angles t, in order; targets "
            "(cos t, sin t)",
            source="x = sqrt(dimension q) (u_0 cos t + u_1 sin t), u_0, u_1 random orthonormal "
            "(Poole et al. 2016)",
            make=_great_circle,
            parameters={
                "examples": _examples(125, minimum=4),
                "dimension": _size(64, "Number of features.", minimum=2),
                "q": _q(),
                **IN_ORDER,
            },
            exact=True,
            misfit=lambda dimension, **_: _crowded(2, dimension),
            fixed={"outputs": 2},
        ),
        "equicorrelated": Generator(
            task="regression",
            definition="inputs of one exact length and one exact correlation of every pair; fewer "
            "than dimensions; the targets are the inputs",
            source="x_i = sqrt(dimension q) (sqrt(c) u_0 + sqrt(1 - c) u_i), u_0, u_1, ... random "
            "orthonormal: x_i . x_j = dimension q c",
            make=_equicorrelated,
            parameters={
                "examples": _examples(
                    40, 4, "Number of examples, training and test together; less than `dimension`."
                ),
                "dimension": _size(64, "Number of features and of targets.", minimum=5),
                "q": _q(),
                "correlation": Parameter(
                    0.5, "Correlation of every pair of inputs.", minimum=0, maximum=1
                ),
                **IN_ORDER,
            },
            exact=True,
            misfit=lambda examples, dimension, **_: _crowded(examples + 1, dimension),
        ),
        "file": FromFile(
            task="as the file has it",
            definition="a table in the study's folder: CSV, Parquet, or NPZ with arrays x and y; "
            "each feature is standardized by itself, and so is each target of a regression",
            source="the study",
            make=_from_file,
            parameters={
                "file": Parameter(
                    "",
                    "path in the study's folder: letters, digits, points, hyphens, underscores "
                    "and slashes; it ends in .csv, .parquet or .npz",
                    pattern=r"^([\w.\-/]*)$",
                    longest=100,
                ),
                "target": Parameter(
                    "",
                    "name of the column of the targets, or names with commas between them, without "
                    "the sign =; of an NPZ file nothing",
                    pattern=r"^([^=\x00-\x1f]*)$",
                    longest=100,
                ),
                "task": Parameter(
                    "auto",
                    "What is learned; auto: classification if the target is text, true or false, "
                    f"or whole numbers of at most {datafiles.MOST_CLASSES} different values.",
                    choices=("auto", "classification", "regression"),
                ),
                **SPLIT_ALONE,
                "standardize": _standardize(f"every feature and target is {_EACH}"),
            },
            tabular=True,
        ),
    },
    unnamed="file",
)


def facts(component: Component) -> Facts:
    """Return what is known of a data set besides its parameters."""
    return DATASETS[component.name].facts(**DATASETS.parameters_of(component))


def sizes(component: Component) -> Sizes:
    """Return the sizes of a data set without making it."""
    known, classification = _known(component), facts(component).task == "classification"
    test = _test_examples(known["examples"], known["test_fraction"])
    classes = known["classes"] if classification else 0
    return Sizes(known["examples"] - test, test, known["dimension"], classes)


def outputs(component: Component) -> int:
    """Return the number of classes or of target dimensions of a data set without making it."""
    known = _known(component)
    if facts(component).task == "classification":
        return int(known["classes"])
    return int(known.get("outputs", known["dimension"]))


def _known(component: Component) -> dict[str, Any]:
    return {**facts(component).fixed, **DATASETS.parameters_of(component)}


def enter(component: Component, folder: Path | None) -> None:
    """Let this process know the file that a data set is made from, if there is one.

    Parameters
    ----------
    component
        The data set.
    folder
        That of the study that names it.

    Raises
    ------
    gradprop.components.datafiles.DataFileError
        If there is no such file, or it cannot be learned from.
    """
    entry = DATASETS[component.name]
    if isinstance(entry, FromFile):
        datafiles.enter(DATASETS.parameters_of(component)["file"], folder)
        conflict.cache_clear()
        facts(component)


@lru_cache
def conflict(component: Component) -> str | None:
    """Return why a data set can't be made, None if it can."""
    entry = DATASETS[component.name]
    known = sizes(component)
    more = "raise `examples`" if "examples" in entry.parameters else "change `test_fraction`"
    if known.training < 1:
        return "no example is left for the training set: lower `test_fraction`"
    if known.training + known.test < 2 * known.classes:
        return f"{known.classes} classes need 2 examples each: {more}"
    if min(known.training, known.test) < known.classes:
        return (
            f"{known.training} training and {known.test} test examples are too few for "
            f"{known.classes} classes: {more}"
        )
    return entry.misfit(**DATASETS.parameters_of(component))


def generate(component: Component) -> Dataset:
    """Make the arrays of a data set: generate, split (stratified for classes), standardize.

    Of exact data sets the first examples are the training set, and nothing is standardized.

    Raises
    ------
    GradpropError
        If there are too few examples to split, or too few dimensions for them.
    """
    entry = DATASETS[component.name]
    parameters = DATASETS.parameters_of(component)
    problem = conflict(component)
    if problem:
        raise GradpropError(f"data set {component.label!r} can't be made: {problem}")
    x, y = entry.make(**parameters)
    task = facts(component).task
    classification = task == "classification"
    y = np.asarray(y)
    if not entry.tabular:
        y = y.astype(np.int32 if classification else np.float32)
    outputs = int(y.max()) + 1 if classification else y.shape[1]
    if entry.exact:
        parts = _first_examples(x, y, **parameters)
    else:
        parts = _random_split(x, y, tabular=entry.tabular, **parameters)
    return Dataset(task, **parts, outputs=outputs, checksum=_checksum(parts))


def _first_examples(
    x: NDArray[Any], y: NDArray[Any], test_fraction: float, **_: Any
) -> dict[str, NDArray[Any]]:
    x, count = x.astype(np.float32), len(x) - _test_examples(len(x), test_fraction)
    return {"x_train": x[:count], "y_train": y[:count], "x_test": x[count:], "y_test": y[count:]}


def _random_split(
    x: NDArray[Any],
    y: NDArray[Any],
    test_fraction: float,
    tabular: bool,
    split_seed: int,
    seed: int = 0,
    standardize: bool = True,
    **_: Any,
) -> dict[str, NDArray[Any]]:
    from sklearn.model_selection import train_test_split

    classification = y.ndim == 1
    x_train, x_test, y_train, y_test = train_test_split(
        x,
        y,
        test_size=test_fraction,
        random_state=seed if split_seed == AS_SEED else split_seed,
        stratify=y if classification else None,
    )
    if standardize:
        x_train, x_test = _standardized(x_train, x_test, tabular)
        if not classification and tabular:
            y_train, y_test = _standardized(y_train, y_test, tabular)
        elif not classification:  # an exactly linear teacher stays one without a bias
            y_train, y_test = y_train - y_train.mean(axis=0), y_test - y_train.mean(axis=0)
    kind = np.int32 if classification else np.float32
    return {
        "x_train": x_train.astype(np.float32),
        "y_train": y_train.astype(kind),
        "x_test": x_test.astype(np.float32),
        "y_test": y_test.astype(kind),
    }


def _standardized(
    train: NDArray[Any], test: NDArray[Any], tabular: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both centred and scaled by what the training set says; constant columns centred."""
    mean = train.mean(axis=0)
    if not tabular:
        scale = (train - mean).std()
        return (train - mean) / scale, (test - mean) / scale
    constant = np.ptp(train, axis=0) == 0
    mean = np.where(constant, train[0], mean)  # rounding would leave something of the constant
    scale = np.where(constant, 1.0, (train - mean).std(axis=0))
    return (train - mean) / scale, (test - mean) / scale


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
    header: dict[str, Any] = {"numerics": NUMERICS}
    if code := facts(component).code:  # of an own one, whose edits are meant
        header["code"] = code
    old = _load(path)
    same_code = old and all(old[0].get(key) == header.get(key) for key in ("numerics", "code"))
    header |= {"checksum": dataset.checksum, "task": dataset.task}
    if old and same_code and old[0]["checksum"] != dataset.checksum:
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
        raise ChangedDataError(f"{path}: damaged or edited; delete it, and {how_to_make()}")
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
