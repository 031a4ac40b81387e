"""Own components: what a study's ``components.py`` or an installed package adds to the registries.

A decorator enters a top-level function under its own name. The digest of its code
(`gradprop.components.source`) becomes part of the ids of the cells that name the component, and of
no others. Whatever goes wrong in such a file is one line that names file and line.
"""

from __future__ import annotations

import functools
import inspect
import keyword
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradprop import errors
from gradprop.components import datasets
from gradprop.components.activations import ACTIVATIONS, Activation, Elementwise
from gradprop.components.datasets import AS_SEED, DATASETS, IN_ORDER, SPLIT, Arrays, Generator
from gradprop.components.initializers import INITIALIZERS, Initializer, Layer
from gradprop.components.optimizers import OPTIMIZERS, Optimizer, Tensor, Weights, following
from gradprop.components.registry import INSTALLED, Entry, Parameter, Registry
from gradprop.components.source import Source
from gradprop.errors import ConfigError, GradpropError
from gradprop.spec import Scalar, digest

GROUP = "gradprop.components"  # of entry points of installed packages
# Arguments of the decorators whose code decides numbers. Others do by their values, or not at all:
# prose, and what only theory reads.
CODE = ("derivative", "second_derivative")
_NO_TRUTH = (
    "a tensor has a truth value for every entry, and Python's if, and, or, min and max need a "
    "single one; use tf.where"
)

_UNREPEATABLE = (
    "gives another kernel when called again with an equal generator (state, or random numbers that "
    "are not those of rng)"
)

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Entry)
Parameters = Mapping[str, Parameter]

# Of every file that was run, its text.
_texts: dict[Path, str] = {}


class Own(NamedTuple):
    """One own component."""

    kind: str  # one of `REGISTRIES`
    name: str
    code: str


# By the name of the decorator; `gradprop.probes.own` adds that of statistics.
REGISTRIES: dict[str, Registry[Any]] = {
    "initializer": INITIALIZERS,
    "activation": ACTIVATIONS,
    "dataset": DATASETS,
    "optimizer": OPTIMIZERS,
}


# ----------------------------------------------------------------------------- decorators


def with_parentheses(decorator: Callable[P, R]) -> Callable[P, R]:
    """Return a decorator that says so where it is written without its parentheses."""

    @functools.wraps(decorator)
    def checked(*functions: P.args, **settings: P.kwargs) -> R:
        for function in functions:
            place = Place.of(function, decorator.__name__)  # type: ignore[arg-type]
            raise place.error(f"write @{place.kind}()")
        return decorator(*functions, **settings)

    return checked


@with_parentheses
def initializer(
    *,
    parameters: Parameters | None = None,
    variance: Callable[..., float] | None = None,
    random: bool = True,
    activations: tuple[str, ...] = (),
    definition: str = "",
    source: str = "",
) -> Callable[[F], F]:
    """Enter a function that draws the kernel of a layer.

    It gets a `Layer` (fan_in, fan_out, and the activation of hidden layers), a NumPy random
    generator seeded by cell and layer, and the parameters by name. It returns the kernel: finite,
    of shape (fan_in, fan_out), and the same one whenever it gets an equal generator.

    Parameters
    ----------
    parameters
        The parameters by name.
    variance
        From the layer and the parameters by name to the variance of an entry of a kernel with
        independent entries of mean 0. Without it, theory has no prediction.
    random
        Whether kernels depend on the seed.
    activations
        Activation functions that it is defined for; empty: all.
    definition, source
        What it is and where it comes from, for the reader.
    """

    def enter(draw: F) -> F:
        place = Place.of(draw, "initializer")
        known = place.parameters(parameters)
        place.check_signature(draw, ("layer", "rng"), known)
        if variance:
            place.check_signature(variance, ("layer",), known, "variance ")
        call = place.guarded(draw)
        repeated: set[Any] = set()  # what was drawn twice: a layer with the parameters

        def build(layer: Layer, seed: int, /, **given: Any) -> Callable[..., NDArray[np.float32]]:
            def drawn(shape: tuple[int, int]) -> NDArray[np.float32]:
                return place.kernel(call(layer, np.random.default_rng(seed), **given), shape)

            def kernel(shape: tuple[int, int], dtype: str = "float32") -> NDArray[np.float32]:
                made, key = drawn(shape), (layer, *sorted(given.items()))
                if key not in repeated and made.tobytes() != drawn(shape).tobytes():
                    raise place.error(_UNREPEATABLE)
                repeated.add(key)
                return made

            return kernel

        entry = Initializer(
            definition=definition or first_line(draw),
            source=source or str(place.file),
            parameters=known,
            code=place.code([_defaults(known), random]),
            place=place.text,
            build=build,
            variance=place.guarded(variance) if variance else None,
            unpredicted="" if variance else "it states no variance",
            random=random,
            activations=activations,
            traceable=False,
        )
        place.enter(INITIALIZERS, entry)
        return draw

    return enter


@with_parentheses
def activation(
    *,
    derivative: Elementwise | None = None,
    second_derivative: Elementwise | None = None,
    saturation: tuple[float, float] | None = None,
    homogeneous: bool = False,
    kinks: tuple[float, ...] = (),
    definition: str = "",
    source: str = "",
) -> Callable[[F], F]:
    """Enter an activation function, written once with operations of TensorFlow or ``keras.ops``.

    It gets a tensor and returns one of the same shape and type, element by element. Constants in
    it are Python's numbers: training is in float32, theory calls the same function in float64.

    Parameters
    ----------
    derivative, second_derivative
        phi' and phi'' in NumPy, from float64 arrays to float64 arrays. One that is left out is
        TensorFlow's automatic derivative in float64: exact but for rounding, which is relative to
        the largest term of the formula. In a tail where the terms cancel, as those of
        1 - tanh(z)^2 beyond |z| = 11 (6 digits left), a closed form is needed.
    saturation
        ``(low, high)``: where the function is flat (`Activation.saturation`); searched for where
        it is left out.
    homogeneous
        Whether ``phi(a z) = a phi(z)`` for every ``a > 0``.
    kinks
        Points at which phi, phi' or phi'' jumps.
    definition, source
        What it is and where it comes from, for the reader.
    """

    def enter(tensors: F) -> F:
        place = Place.of(tensors, "activation")
        place.check_signature(tensors, ("z",))
        call = place.tensors(tensors)
        given = (derivative, second_derivative)
        automatic = (_automatic(call, order) for order in (1, 2))
        first, second = (
            place.array(own) if own else made for own, made in zip(given, automatic, strict=True)
        )
        entry = Activation(
            name=place.name,
            definition=definition or first_line(tensors),
            source=source or str(place.file),
            code=place.code([saturation, homogeneous, kinks]),
            place=place.text,
            function=_automatic(call, 0),
            derivative=first,
            second_derivative=second,
            tails=saturation,
            homogeneous=homogeneous,
            kinks=kinks,
            tensors=call,
        )
        place.enter(ACTIVATIONS, entry)
        return tensors

    return enter


@with_parentheses
def dataset(
    *,
    task: str,
    parameters: Parameters | None = None,
    fixed: Mapping[str, int] | None = None,
    exact: bool = False,
    definition: str = "",
    source: str = "",
) -> Callable[[F], F]:
    """Enter a function that makes a data set.

    It gets the parameters and `seed` by name and returns inputs, (examples, features), and targets:
    labels from 0, (examples,), or numbers, (examples, outputs). `test_fraction` and `seed` are
    parameters of every data set, and `split_seed` is one of those that are split at random.

    Parameters
    ----------
    task
        ``classification`` or ``regression``.
    parameters
        The parameters by name; among them, or in `fixed`, are `examples`, `dimension` (features)
        and `classes` or `outputs`.
    fixed
        Those of these sizes that are no parameters.
    exact
        Whether inputs keep their scale and the first examples are the training set; otherwise they
        are split at random and standardized.
    definition, source
        What it is and where it comes from, for the reader.
    """

    def enter(make: F) -> F:
        place = Place.of(make, "dataset")
        given = place.parameters(parameters, taken=SPLIT)
        known = {**given, **(IN_ORDER if exact else SPLIT)}
        sizes = {**{name: p.default for name, p in known.items()}, **(fixed or {})}
        needed = ("examples", "dimension", "classes" if task == "classification" else "outputs")
        missing = [name for name in needed if name not in sizes]
        if task not in ("classification", "regression"):
            raise place.error(errors.not_allowed(task, ["classification", "regression"]))
        if missing:
            raise place.error(f"neither a parameter nor fixed: {', '.join(missing)}")
        place.check_signature(make, (), [*given, "seed"])
        call = place.guarded(make)
        counted = _defaults({**given, **IN_ORDER})  # `split_seed` came later and moves no id

        def checked(test_fraction: float, split_seed: int = AS_SEED, **values: Any) -> Arrays:
            made = call(**values)
            return place.arrays(made, task, [{**sizes, **values}[name] for name in needed])

        entry = Generator(
            definition=definition or first_line(make),
            source=source or str(place.file),
            parameters=known,
            code=place.code([counted, task, sorted((fixed or {}).items()), exact]),
            place=place.text,
            task=task,
            make=checked,
            exact=exact,
            fixed=fixed or {},
        )
        place.enter(DATASETS, entry)
        return make

    return enter


@with_parentheses
def optimizer(
    *,
    parameters: Parameters | None = None,
    state: Sequence[str] = (),
    definition: str = "",
    source: str = "",
) -> Callable[[F], F]:
    """Enter an update rule, written with operations of TensorFlow or ``keras.ops``.

    It gets a trained variable as a `Weights` (value, gradient, rate, step), and by name what is
    kept of it from step to step and the parameters. It returns what is subtracted from the
    variable; if something is kept, a tuple of that and the new state in the order of `state`.
    It is traced: `tf.where` takes the place of ``if``.

    The first axis of all these tensors is that of the networks trained together: norms and means
    are over the axes 1 and 2, with ``keepdims=True``.

    Parameters
    ----------
    parameters
        The parameters by name. The learning rate is none of them: every network has one.
    state
        Names of what is kept of every variable, in its shape and 0 before the first step.
    definition, source
        What it is and where it comes from, for the reader.
    """

    def enter(rule: F) -> F:
        place = Place.of(rule, "optimizer")
        if isinstance(state, str):
            raise place.error(f"state is {errors.show(state)}; allowed: a tuple of names")
        known = place.parameters(parameters)
        if twice := [name for name in state if name in known]:
            raise place.error(f"both a parameter and kept: {', '.join(twice)}")
        place.check_signature(rule, ("weights",), (*state, *known))
        entry = Optimizer(
            definition=definition or first_line(rule),
            source=source or str(place.file),
            parameters=known,
            code=place.code([_defaults(known), [*state]]),
            place=place.text,
            make=following(place.rule(rule, state), state),
            state=tuple(state),
        )
        place.enter(OPTIMIZERS, entry)
        return rule

    return enter


def _defaults(parameters: Parameters) -> list[tuple[str, Scalar]]:
    return sorted((name, parameter.default) for name, parameter in parameters.items())


def first_line(function: Callable[..., Any]) -> str:
    """Return the first line of a docstring, without a full stop."""
    return (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")


# -------------------------------------------------------------- what stands in own files


class Place(NamedTuple):
    """Where an own component is defined; what looks at its results and tells its mistakes."""

    kind: str
    name: str
    file: Path  # as the user named it
    line: int

    @classmethod
    def of(cls, function: Callable[..., Any], kind: str) -> Place:
        """Return the place of a decorated function."""
        if not isinstance(function, FunctionType):
            raise TypeError(f"{kind} is the decorator of a function")
        code = function.__code__
        place = cls(kind, function.__name__, Path(code.co_filename), code.co_firstlineno)
        if not re.fullmatch("[a-z][a-z0-9_]*", place.name):
            raise place.error("allowed: lower-case letters, digits and underscores, a letter first")
        return place

    @property
    def text(self) -> str:
        """File and line, as messages show them."""
        return f"{self.file}:{self.line}"

    def error(self, problem: str) -> ConfigError:
        """Return the error for what is wrong with the component."""
        return ConfigError(f"{self.text}: {self.kind} {self.name!r}: {problem}")

    def parameters(
        self, given: Mapping[Any, Any] | None, taken: Collection[str] = ()
    ) -> Parameters:
        """Return the parameters of the component, after a look at their names and defaults."""
        for name, parameter in (given or {}).items():
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                problem = "the name is no name of an argument in Python"
            elif name == "name":
                problem = "choose another name; in YAML, `name` is that of the component"
            elif name in taken:
                problem = "choose another name; every component of this kind has this parameter"
            elif not isinstance(parameter, Parameter):
                problem = f"{errors.show(parameter)} is no Parameter"
            else:
                problem = parameter.problem and f"the default {parameter.problem}"
            if problem:
                raise self.error(f"parameter {errors.show(name)}: {problem}")
        return given or {}

    def check_signature(
        self,
        function: Callable[..., Any],
        first: tuple[str, ...],
        named: Iterable[str] = (),
        what: str = "",
    ) -> None:
        """Refuse a function that does not take the first arguments by place, others by name."""
        signature = inspect.signature(function)
        try:
            signature.bind(*first, **dict.fromkeys(named))
        except TypeError:
            plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
            found, wanted = errors.cut(str(inspect.Signature(plain))), ", ".join([*first, *named])
            raise self.error(f"{what}takes {found}; it must take ({wanted})") from None

    def code(self, settings: object) -> str:
        """Return the digest of the component's code and of the settings that decide numbers."""
        return digest([self.kind, self.name, repr(settings), self._digest(CODE)])

    def _digest(self, counted: tuple[str, ...] | None = None) -> str:
        source = _source(_text(self.file), str(self.file))
        node = source.function(self.name, self.line)
        if node is None:
            raise self.error("not a decorated function at the top level of its file")
        return source.digest(node, REGISTRIES, counted)

    def enter(self, registry: Registry[E], entry: E) -> None:
        """Enter the component, unless it is there already with the same code."""
        owner = self.file.resolve() if self.file.resolve() in _texts else INSTALLED
        whole = digest([entry.code, self._digest()])
        owners = registry.owners.get(self.name, {})
        if self.name in registry and not owners:
            module = sys.modules[type(entry).__module__].__file__
            raise self.error(f"the package has one of this name ({module})")
        others = [file for file, stated in owners.items() if stated != whole]
        if others:
            raise self.error(f"{others[0]} defines another one of this name")
        registry.owners.setdefault(self.name, {})[owner] = whole
        registry.setdefault(self.name, entry)
        datasets.conflict.cache_clear()

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that tells its errors with file and line."""

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            except (GradpropError, MemoryError):
                raise
            except (Exception, SystemExit) as error:
                raise _in_code(error, self.file) from error

        return call

    def kernel(self, made: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return a kernel that was drawn, after a look at it."""
        kernel = self._numbers(made, "the kernel")
        if kernel.shape != shape:
            wanted = f"(fan_in, fan_out) = {shape}"
            raise self.error(f"the kernel has the shape {kernel.shape}, not {wanted}")
        return kernel.astype(np.float32)

    def array(self, function: Callable[..., Any]) -> Elementwise:
        """Return a function of float64 arrays whose results have the shape of its argument."""
        call = self.guarded(function)

        def checked(z: Any) -> NDArray[np.float64]:
            x = np.asarray(z, dtype=np.float64)
            y = np.asarray(call(x), dtype=np.float64)
            if y.shape != x.shape:
                raise self.error(f"a derivative made {y.shape} of {x.shape}")
            return y

        return checked

    def tensors(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of tensors whose results have the shape and type of its argument."""
        call = self.guarded(function)
        return lambda z: self._like(call(z), "the result", z, "z")

    def rule(
        self, function: Callable[..., Any], state: Sequence[str]
    ) -> Callable[..., tuple[Tensor, ...]]:
        """Return an update rule whose change and state have the shape and type of the gradient."""
        call = self.guarded(function)
        names = ("the change", *state)

        def checked(weights: Weights, /, **named: Any) -> tuple[Tensor, ...]:
            made = call(weights, **named)
            parts = made if isinstance(made, tuple) else (made,)
            if made is None or len(parts) != len(names):
                found = "None" if made is None else f"{len(parts)} instead of {len(names)} tensors"
                raise self.error(f"returned {found}; needed are: {', '.join(names)}")
            pairs = zip(parts, names, strict=True)
            return tuple(self._like(p, n, weights.gradient, "the variable") for p, n in pairs)

        return checked

    def _like(self, made: Any, what: str, model: Any, whose: str) -> Any:
        """Return a tensor, after a look at whether its shape and type are those of another."""
        if not hasattr(made, "shape") or not hasattr(made, "dtype"):
            raise self.error(f"{what} is {errors.show(made)}, not a tensor")
        if model.shape != made.shape:
            raise self.error(
                f"{what} has the shape {made.shape}, not that of {whose}, {model.shape}"
            )
        if model.dtype != made.dtype:
            raise self.error(f"{what} has the type {made.dtype.name}, not {model.dtype.name}")
        return made

    def arrays(self, made: Any, task: str, sizes: list[int]) -> Arrays:
        """Return the arrays of a data set, after a look at them."""
        examples, dimension, outputs = sizes
        if not isinstance(made, tuple) or len(made) != 2:
            raise self.error("returned something else than inputs and targets")
        x, y = (self._numbers(part, what) for part, what in zip(made, ("x", "y"), strict=True))
        shape = (examples,) if task == "classification" else (examples, outputs)
        for what, array, wanted in (("x", x, (examples, dimension)), ("y", y, shape)):
            if array.shape != wanted:
                raise self.error(f"{what} has the shape {array.shape}, not {wanted}")
        if task == "classification" and not np.isin(y, np.arange(outputs)).all():
            raise self.error(f"y has other labels than 0 to {outputs - 1}")
        if task == "classification" and (np.bincount(y.astype(int), minlength=outputs) < 2).any():
            raise self.error("y has a class of fewer than 2 examples, which cannot be split")
        return x, y

    def number(self, made: Any) -> float:
        """Return a statistic's number."""
        try:
            if not np.shape(made):
                return float(made)
            problem = f"an array of shape {np.shape(made)}"
        except (TypeError, ValueError):
            problem = errors.show(made)
        raise self.error(f"returned {problem}, not a number")

    def _numbers(self, made: Any, what: str) -> NDArray[np.float64]:
        if made is None:
            raise self.error(f"{what} is None: the function returns nothing")
        try:
            numbers = np.asarray(made, dtype=np.float64)
        except (TypeError, ValueError):
            raise self.error(f"{what} is not an array of numbers") from None
        if not np.isfinite(numbers).all():
            raise self.error(f"{what} has NaN or infinite entries")
        return numbers


def _automatic(tensors: Callable[[Any], Any], order: int) -> Elementwise:
    """Return a derivative (order 0: the function itself) by TensorFlow in float64."""

    def value(x: Any, order: int) -> Any:
        import tensorflow as tf

        if order == 0:
            return tensors(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = value(x, order - 1)
        return tape.gradient(y, x, unconnected_gradients="zero")

    def function(z: Any) -> NDArray[np.float64]:
        import tensorflow as tf

        return np.asarray(value(tf.constant(np.asarray(z, dtype=np.float64)), order))

    return function


# -------------------------------------------------------------------------------- loading


def load_file(path: Path) -> None:
    """Run a file, so that its decorators enter what it defines; do nothing if that was done.

    A file that was changed since is run anew, and what it defined before is forgotten.

    Raises
    ------
    gradprop.errors.ConfigError
        If anything in it is wrong; nothing of it is entered then.
    """
    key = path.resolve()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.in_code(error, path) from error
    if _texts.get(key) == text:
        return
    forget(path)
    _texts[key] = text
    module = ModuleType(f"gradprop_own_{digest(str(key))}")
    module.__file__, module.__package__ = str(path), ""  # of no package
    sys.modules[module.__name__] = module  # where dataclasses and pickles look
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except GradpropError:
        forget(path)
        raise
    except (Exception, SystemExit) as error:
        forget(path)
        raise _in_code(error, path) from error


def _in_code(error: BaseException, file: Path) -> ConfigError:
    """Return `errors.in_code`, with a hint at what an own component does otherwise."""
    if any(frame.name == "__bool__" for frame in traceback.extract_tb(error.__traceback__)):
        # What TensorFlow and NumPy say of a tensor depends on whether it is traced.
        return ConfigError(f"{errors.place_in_code(error, file)}: {_NO_TRUTH}")
    told = errors.in_code(error, file)
    relative = type(error) is ImportError and error.name is None
    if relative or isinstance(error, ModuleNotFoundError):
        return ConfigError(f"{told}; {file.name} imports from installed packages only")
    return told


def loaded() -> set[Path]:
    """Return the files that were run."""
    return set(_texts)


def forget(path: Path) -> None:
    """Take back what a file entered, but for what another file defines too."""
    key = path.resolve()
    _texts.pop(key, None)
    for registry in REGISTRIES.values():
        for name, owners in list(registry.owners.items()):
            if owners.pop(key, None) and not owners:
                del registry.owners[name], registry[name]
    datasets.conflict.cache_clear()


def registered(path: Path) -> list[Own]:
    """Return the own components that a file entered."""
    key = path.resolve()
    return [
        Own(kind, name, registry[name].code)
        for kind, registry in REGISTRIES.items()
        for name, owners in registry.owners.items()
        if key in owners
    ]


@functools.cache
def load_installed() -> None:
    """Import the modules that installed packages name in the entry point group `GROUP`.

    Raises
    ------
    gradprop.errors.ConfigError
        If one cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except GradpropError:
            raise
        except (Exception, SystemExit) as error:
            problem = f"{type(error).__name__}: {errors.cut(str(error), 200)}"
            raise ConfigError(f"entry point {point.name} = {point.value}: {problem}") from error


def _text(file: Path) -> str:
    return _texts.get(file.resolve()) or file.read_text(encoding="utf-8")


@functools.lru_cache
def _source(text: str, file: str) -> Source:
    return Source(text, file)
