"""Own networks: what a study's ``network.py`` builds in the place of a multilayer perceptron.

The file has a function ``build(cell, ...)`` that returns a Keras model. Its arguments behind `cell`
are axes of the study's grid, beside those that every cell has. The file is read without being run
wherever only its axes and its digest are needed; it is run where networks are built.

The digest of `build` and of all that it uses in its file (`gradprop.components.source`) is part of
the ids of the study's cells, and of no others. Whatever goes wrong in the file is one line that
names file and line.
"""

from __future__ import annotations

import ast
import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop import errors
from gradprop.components import activations, initializers
from gradprop.components.initializers import INITIALIZERS, Layer
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.registry import Parameter
from gradprop.components.source import Source
from gradprop.errors import ConfigError, GradpropError
from gradprop.spec import KEYS, OF_STEP, OUTCOMES, SIZES, Cell, Component, Scalar, digest

FILE, BUILD = "network.py", "build"
# What `Cell.network` is called where a study has one.
NAME = "network"
_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
# Parameters of a cell that training knows what to do with, whatever the network.
TRAINED_WITH = (
    *("dataset", "learning_rate", "batch_size", "epochs", "seed", "optimizer", "loss"),
    *("target_loss", "probes", "statistics", "measurements", "clipping", "schedule", "code"),
    *("network", "depth"),
)
# Those that have to be as they are by default: the model decides in which format it computes, and a
# loss scaling belongs to that.
_FIXED = ("precision", "loss_scale")
# What an argument would hide, by its name.
_TAKEN = {
    **dict.fromkeys(KEYS, "every table has a column of this name"),
    **dict.fromkeys(OUTCOMES, "the table cells has a column of this name"),
    **dict.fromkeys(OF_STEP, "the table steps has a column of this name"),
    **dict.fromkeys(SIZES, "the table layers has a column of this name"),
    **dict.fromkeys(("features", "outputs"), "cell has an attribute of this name"),
    **dict.fromkeys(("seeds", "training"), "a study has a key of this name"),
    **{f.name: "every cell has a parameter of this name" for f in fields(Cell)},
}
# Functions that may read any argument.
_READERS = ("locals", "vars", "eval", "exec", "dir")


@dataclass(frozen=True)
class Argument:
    """An argument of `build`: an axis of the grid.

    Attributes
    ----------
    kind
        Type of its values.
    default
        Its value where the grid has none; None if the grid has to have one.
    """

    kind: type
    default: Scalar | None = None


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A study's ``network.py``, read and not run.

    Attributes
    ----------
    path
        The file, as messages call it.
    text
        Its content.
    arguments
        The arguments of `build` behind `cell`, by name.
    code
        Digest of `build` and of what it uses in the file.
    """

    path: Path
    text: str
    arguments: Mapping[str, Argument]
    code: str
    _modules: list[ModuleType] = field(default_factory=list, repr=False)

    def values(self, name: str, written: Sequence[Any]) -> list[Scalar]:
        """Return the values of an axis in their type, so that 1 and 1.0 have one id."""
        kind = self.arguments[name].kind
        return [kind(value) for value in written]

    def component(self, given: Mapping[str, Scalar]) -> Component:
        """Return `Cell.network` for values of arguments; the others have their defaults."""
        every = {name: given.get(name, one.default) for name, one in self.arguments.items()}
        return Component(NAME, tuple(sorted(every.items())))  # type: ignore[arg-type]

    def build(self, cell: NetworkCell) -> Any:
        """Return what the file's `build` makes of a cell: a Keras model, as it should be.

        Raises
        ------
        gradprop.errors.ConfigError
            If it fails.
        """
        function = getattr(self._module(), BUILD)
        given = dict(cell.of.network.parameters)
        return self.guarded(lambda: function(cell, **given))

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Return what an action returns; tell an error of it with file and line."""
        try:
            return action()
        except (GradpropError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise in_network(error, self.path) from error

    def error(self, problem: str) -> ConfigError:
        """Return the error for what is wrong with what `build` made."""
        return ConfigError(f"{self.path}: {BUILD}: {problem}")

    def _module(self) -> ModuleType:
        """Run the file, once in a process."""
        if not self._modules:
            module = ModuleType(f"gradprop_network_{digest(str(self.path.resolve()))}")
            module.__file__, module.__package__ = str(self.path), ""  # of no package
            sys.modules[module.__name__] = module  # where dataclasses and pickles look
            code = compile(self.text, str(self.path), "exec", dont_inherit=True)
            self.guarded(lambda: exec(code, module.__dict__))
            self._modules.append(module)
        return self._modules[0]


def in_network(error: BaseException, path: Path) -> ConfigError:
    """Return the error for one that arose in a ``network.py``, in one line."""
    place = errors.place_in_code(error, path)
    problem = errors.cut(errors.one_line(str(error)), 200)
    told = f"{place}: {type(error).__name__}: {problem}"
    relative = type(error) is ImportError and error.name is None
    if relative or isinstance(error, ModuleNotFoundError):
        told += f"; {path.name} imports from installed packages only"
    return ConfigError(told)


# By the digest of their code, so that a training job finds the file of a cell.
_files: dict[str, NetworkFile] = {}


def read(folder: Path | None) -> NetworkFile | None:
    """Read the ``network.py`` of a study's folder, without running it; None if there is none.

    Raises
    ------
    gradprop.errors.ConfigError
        If it cannot be read or has no fitting `build`.
    """
    path = folder and folder / FILE
    if not path or not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        found = _read(text, path)
    except (OSError, SyntaxError, ValueError) as error:
        raise errors.in_code(error, path) from error
    known = _files.get(found.code)
    if known is None or (known.text, known.path) != (text, path):
        _files[found.code] = found
    return _files[found.code]


def file_of(cell: Cell) -> NetworkFile:
    """Return the file that builds the network of a cell; its study was read before."""
    codes = dict(part.partition("=")[::2] for part in cell.code.split())
    return _files[codes[NAME]]


def _read(text: str, path: Path) -> NetworkFile:
    source = Source(text, str(path))
    function = source.last(BUILD)
    if function is None:
        raise ConfigError(
            f"{path}: defines no function {BUILD}; allowed: def {BUILD}(cell, ...), which returns "
            "a Keras model"
        )

    def error(problem: str) -> ConfigError:
        return ConfigError(f"{path}:{function.lineno}: {BUILD}: {problem}")

    given = function.args
    plain = [*given.posonlyargs, *given.args]
    if given.vararg or given.kwarg or given.posonlyargs or [a.arg for a in plain[:1]] != ["cell"]:
        raise error("allowed: arguments with names, the first one of which is cell")
    defaults = [None] * (len(plain) - len(given.defaults)) + [*given.defaults]
    pairs = [*zip(plain, defaults, strict=True)][1:]
    pairs += [*zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    arguments = {}
    for argument, default in pairs:
        name = argument.arg
        if name in _TAKEN:
            raise error(f"argument {name!r}: choose another name, because {_TAKEN[name]}")
        try:
            arguments[name] = _argument(argument.annotation, default)
        except ValueError as problem:
            raise error(f"argument {name!r}: {problem}") from None
    for name in _unread(function, arguments):
        raise error(
            f"argument {name!r}: the function never reads it, so that networks would differ in "
            "name only; allowed: arguments that it uses"
        )
    return NetworkFile(path, text, arguments, source.digest(function, (), None))


def _unread(function: ast.FunctionDef, names: Iterable[str]) -> list[str]:
    """Return the names that the body of a function does not read, nor what is defined in it."""
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    changed = (n.target for n in nodes if isinstance(n, ast.AugAssign))
    read |= {target.id for target in changed if isinstance(target, ast.Name)}
    return [] if read & set(_READERS) else [name for name in names if name not in read]


def _argument(annotation: ast.expr | None, default: ast.expr | None) -> Argument:
    """Return what the definition says of an argument."""
    named = getattr(annotation, "id", getattr(annotation, "value", "")) if annotation else ""
    value: Any = None
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except ValueError:
            raise ValueError("its default is no plain number, text, True or False") from None
        if type(value) not in _TYPES.values():
            raise ValueError("its default is no plain number, text, True or False")
    kind = _TYPES.get(str(named)) or (type(value) if value is not None else None)
    if kind is None or (annotation is not None and str(named) not in _TYPES):
        raise ValueError(f"it needs a default, or one of the annotations {', '.join(_TYPES)}")
    if value is None:
        return Argument(kind)
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise ValueError(f"its default {errors.show(value)} is no {kind.__name__}")
    usual: Scalar = kind(value)
    if problem := Parameter(usual, "").problem:
        raise ValueError(f"its default {problem}")
    return Argument(kind, usual)


def is_own(cell: Cell) -> bool:
    """Tell whether the cell's study builds its networks itself."""
    return cell.network.name != "none"


def conflict(cell: Cell) -> str | None:
    """Return what a cell asks for that networks of ``network.py`` have not, as ``key: reason``."""
    if not is_own(cell):
        return None
    for name in _FIXED:
        default = Cell.__dataclass_fields__[name].default
        if getattr(cell, name) != default:
            usual = default.label if isinstance(default, Component) else default
            return f"{name}: {FILE} decides in which format it computes; allowed: {usual}"
    if cell.measurements:
        return f"measurements: networks of {FILE} have none yet; allowed: []"
    if OPTIMIZERS[cell.optimizer.name].code:
        return f"optimizer: networks of {FILE} are trained by Keras; allowed: those of the package"
    if INITIALIZERS[cell.initializer.name].unit_variance:
        return (
            f"initializer: {cell.initializer.name} scales kernels layer by layer, which those of "
            f"{FILE} are not; allowed: others"
        )
    return None


class NetworkCell:
    """What `build` gets: the parameters of a cell, and what its layers are made with.

    Every parameter of the cell is an attribute (``cell.depth``, ``cell.width``, ``cell.seed``).

    Attributes
    ----------
    features
        Numbers in an example: the model's input is (features,).
    outputs
        Units of the model's output.
    of
        The cell itself.
    used
        Parameters that were asked for.
    """

    def __init__(self, cell: Cell, features: int, outputs: int) -> None:
        self.of, self.features, self.outputs = cell, features, outputs
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """Return a parameter of the cell, and note that it was used."""
        if name.startswith("_") or name not in Cell.__dataclass_fields__:
            raise AttributeError(f"a cell has no {name!r}")
        self.used.add(name)
        return getattr(self.of, name)

    @functools.cached_property
    def phi(self) -> Callable[[Any], Any]:
        """The cell's activation function: ``keras.layers.Dense(..., activation=cell.phi)``."""
        import keras

        function = activations.get(self.activation)
        if function.with_slopes is not None:
            raise ValueError(
                f"{self.activation.label} has slopes that are trained: use keras.layers"
            )
        made: Callable[[Any], Any] = function.tensors or keras.activations.get(function.name)
        return made

    def kernel(self, layer: int) -> Callable[..., NDArray[np.float32]]:
        """Return what draws the kernel of a layer as the cell's initializer says.

        A Keras initializer: of kernels (..., inputs, units), with whatever axes of space a
        convolution has before the last two. Its random numbers depend on seed, depth, width and
        `layer`, which counts from 1, and on nothing else.
        """
        cell = self.of
        self.used |= {"initializer", "layer_initializers"}

        def draw(shape: Sequence[int], dtype: Any = None) -> NDArray[np.float32]:
            *space, inputs, units = map(int, shape)
            places = math.prod(space)
            known = Layer(places * inputs, units, cell.activation, places)
            chosen = initializers.initializer_of(cell, layer)
            made = initializers.build(chosen, initializers.kernel_seed(cell, layer), known)
            # Keras's own initializers count what a convolution fans out to by themselves.
            own = bool(INITIALIZERS[chosen.name].code)
            size = (places * inputs, units) if own else tuple(shape)
            return np.asarray(made(size, dtype="float32"), dtype=np.float32).reshape(tuple(shape))

        return draw

    def bias(self, layer: int, fan_in: int = 1) -> Callable[..., NDArray[np.float32]]:
        """Return what draws the biases of a layer as the cell's `bias_initializer` says.

        `fan_in` counts for biases that are scaled by it.
        """
        cell = self.of
        self.used |= {"bias_initializer", "bias_std"}

        def draw(shape: Sequence[int], dtype: Any = None) -> NDArray[np.float32]:
            return initializers.draw_bias(cell, layer, (fan_in, int(shape[-1])))

        return draw

    def unused(self, varied: set[str]) -> list[str]:
        """Return parameters that the network ignores although they matter.

        Those are what differs between the cells beside it, and what has another value than by
        default.
        """
        found = []
        for name, f in Cell.__dataclass_fields__.items():
            differs = f.default is not MISSING and getattr(self.of, name) != f.default
            if name not in (*TRAINED_WITH, *self.used) and (name in varied or differs):
                found.append(name)
        return found
